/*
 * Growable byte buffers whose memory is lent by a cache of blocks. A connection owns a block only while
 * it holds bytes that cannot move on: buf_release() gives it back.
 *
 * A cache belongs to one worker and is used by its thread alone. A NULL cache means plain malloc().
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct buf_cache; /* free blocks of a few sizes (2, 8, 32, 128 KiB), bounded in number */

struct buf {
	uint8_t *data;
	uint32_t start, end; /* bytes held: [start, end) */
	uint32_t cap;
};

struct buf_cache *buf_cache_new(void);
void buf_cache_free(struct buf_cache *cache);

static inline size_t buf_len(const struct buf *b) {
	return b->end - b->start;
}

static inline const uint8_t *buf_bytes(const struct buf *b) {
	return b->data + b->start;
}

/*
 * Makes room for `need` more bytes behind `end`, moving or growing. False: out of memory or over 1 GiB. The old
 * block of one that grows is not wiped: a buffer for secrets reserves all it will need first.
 */
bool buf_reserve(struct buf_cache *cache, struct buf *b, size_t need);
/* Appends. False: out of memory; nothing was appended. */
static inline bool buf_append(struct buf_cache *cache, struct buf *b, const void *data, size_t len) {
	if (len == 0)
		return true;
	if (len > b->cap - b->end && !buf_reserve(cache, b, len))
		return false;
	memcpy(b->data + b->end, data, len);
	b->end += (uint32_t)len;
	return true;
}
/* Drops `n` bytes from the front; gives the block back when nothing is left. */
void buf_consume(struct buf_cache *cache, struct buf *b, size_t n);
/* Gives the block back whatever it holds. */
void buf_release(struct buf_cache *cache, struct buf *b);
/* As buf_release(), the bytes overwritten first (secrets). */
void buf_release_wiped(struct buf_cache *cache, struct buf *b);
/* printf into the buffer. */
bool buf_printf(struct buf_cache *cache, struct buf *b, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
