/*
 * The one bounded reader that every parser uses: reads never pass the end, and once a read has failed all
 * later ones fail, so a parser may read a whole message and look at `ok` once.
 */
#ifndef BASE_READER_H
#define BASE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct reader {
	const uint8_t *pos, *end;
	bool ok;
};

static inline struct reader reader_over(const void *data, size_t len) {
	return (struct reader){.pos = data, .end = (const uint8_t *)data + len, .ok = true};
}

static inline size_t reader_left(const struct reader *r) {
	return r->ok ? (size_t)(r->end - r->pos) : 0;
}

/* The next `n` bytes, or NULL. */
static inline const uint8_t *reader_bytes(struct reader *r, size_t n) {
	if (!r->ok || n > (size_t)(r->end - r->pos)) {
		r->ok = false;
		return NULL;
	}
	const uint8_t *p = r->pos;
	r->pos += n;
	return p;
}

static inline uint8_t reader_u8(struct reader *r) {
	const uint8_t *p = reader_bytes(r, 1);
	return p ? p[0] : 0;
}

static inline uint16_t reader_u16be(struct reader *r) {
	const uint8_t *p = reader_bytes(r, 2);
	return p ? (uint16_t)(p[0] << 8 | p[1]) : 0;
}

static inline uint32_t reader_u32be(struct reader *r) {
	const uint8_t *p = reader_bytes(r, 4);
	return p ? (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3] : 0;
}

/* A string ended by a zero byte, within the bounds; NULL where none ends there. `len` may be NULL. */
static inline const char *reader_cstr(struct reader *r, size_t *len) {
	if (!r->ok)
		return NULL;
	const uint8_t *zero = memchr(r->pos, 0, (size_t)(r->end - r->pos));
	if (!zero) {
		r->ok = false;
		return NULL;
	}
	const char *s = (const char *)r->pos;
	if (len)
		*len = (size_t)(zero - r->pos);
	r->pos = zero + 1;
	return s;
}

#endif
