#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"

/* Blocks that lie in the cache are poisoned in sanitizer builds, so that a use after release is seen. */
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define BLOCK_POISON(p, n) ASAN_POISON_MEMORY_REGION(p, n)
#define BLOCK_UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#else
#define BLOCK_POISON(p, n) ((void)(p), (void)(n))
#define BLOCK_UNPOISON(p, n) ((void)(p), (void)(n))
#endif

enum {
	CLASSES = 4,
	BUF_MAX = 1 << 30,
	MOVE_FREELY = 8 * 1024 /* so few bytes may always be moved to the front of their block */
};

static const uint32_t class_size[CLASSES] = {2 * 1024, 8 * 1024, 32 * 1024, 128 * 1024};
/* How many free blocks of a class a cache keeps: about 4 MiB in all. */
static const uint32_t class_keep[CLASSES] = {256, 64, 32, 16};

struct block {
	struct block *next;
};

struct buf_cache {
	struct block *free[CLASSES];
	uint32_t count[CLASSES];
};

struct buf_cache *buf_cache_new(void) {
	return calloc(1, sizeof(struct buf_cache));
}

void buf_cache_free(struct buf_cache *cache) {
	if (!cache)
		return;
	for (int c = 0; c < CLASSES; c++) {
		while (cache->free[c]) {
			struct block *block = cache->free[c];
			BLOCK_UNPOISON(block, class_size[c]);
			cache->free[c] = block->next;
			free(block);
		}
	}
	free(cache);
}

/* The class whose blocks have exactly this size, or -1. */
static int class_of(uint32_t size) {
	for (int c = 0; c < CLASSES; c++)
		if (class_size[c] == size)
			return c;
	return -1;
}

/* The size of the block to hold `need` bytes: a class's, or above those a power of two. */
static uint32_t block_size(size_t need) {
	uint32_t size;

	for (int c = 0; c < CLASSES; c++)
		if (need <= class_size[c])
			return class_size[c];
	for (size = 2 * class_size[CLASSES - 1]; size < need; size *= 2)
		;
	return size;
}

static uint8_t *cached_take(struct buf_cache *cache, int c) {
	struct block *block = cache->free[c];

	BLOCK_UNPOISON(block, class_size[c]);
	cache->free[c] = block->next;
	cache->count[c]--;
	return (uint8_t *)block;
}

static uint8_t *block_take(struct buf_cache *cache, uint32_t size) {
	int c = cache ? class_of(size) : -1;

	return c < 0 || !cache->free[c] ? malloc(size) : cached_take(cache, c);
}

static void block_give(struct buf_cache *cache, void *data, uint32_t size) {
	int c = cache ? class_of(size) : -1;

	if (c < 0 || cache->count[c] >= class_keep[c]) {
		free(data);
		return;
	}
	struct block *block = data;
	block->next = cache->free[c];
	cache->free[c] = block;
	cache->count[c]++;
	BLOCK_POISON(block, size);
}

static void move_to_front(struct buf *b) {
	uint32_t len = b->end - b->start;

	memmove(b->data, b->data + b->start, len);
	b->start = 0;
	b->end = len;
}

bool buf_reserve(struct buf_cache *cache, struct buf *b, size_t need) {
	uint32_t len = b->end - b->start;

	/* as a rule: a request or an answer, into an empty buffer */
	if (!b->data && need <= class_size[0] && cache && cache->free[0]) {
		*b = (struct buf){.data = cached_take(cache, 0), .cap = class_size[0]};
		return true;
	}
	if (need <= b->cap - b->end)
		return b->data || need == 0;
	if (need > BUF_MAX || len + need > BUF_MAX)
		return false;
	/*
	 * A move is worth its cost when it frees at least as much as it moves; else a buffer that stays nearly full
	 * would be moved again for each few bytes.
	 */
	if (len + need <= b->cap && (len <= b->start || len <= MOVE_FREELY)) {
		move_to_front(b);
		return true;
	}
	/* Growth at least doubles, so that appending n bytes costs O(n) whatever the steps. */
	size_t want = len + need;
	if (b->cap && want < 2 * (size_t)b->cap)
		want = 2 * (size_t)b->cap < BUF_MAX ? 2 * (size_t)b->cap : BUF_MAX;
	uint32_t size = block_size(want);
	uint8_t *data = block_take(cache, size);
	if (!data) {
		if (len + need > b->cap)
			return false;
		move_to_front(b);
		return true;
	}
	if (b->data) {
		memcpy(data, b->data + b->start, len);
		block_give(cache, b->data, b->cap);
	}
	*b = (struct buf){.data = data, .start = 0, .end = len, .cap = size};
	return true;
}

void buf_consume(struct buf_cache *cache, struct buf *b, size_t n) {
	if (n >= buf_len(b))
		buf_release(cache, b);
	else
		b->start += (uint32_t)n;
}

void buf_release(struct buf_cache *cache, struct buf *b) {
	if (b->data)
		block_give(cache, b->data, b->cap);
	*b = (struct buf){0};
}

void buf_release_wiped(struct buf_cache *cache, struct buf *b) {
	/* The whole block: bytes that were consumed are still in it. */
	if (b->data)
		secret_wipe(b->data, b->cap);
	buf_release(cache, b);
}

bool buf_printf(struct buf_cache *cache, struct buf *b, const char *fmt, ...) {
	va_list args;

	va_start(args, fmt);
	int len = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	if (len < 0 || !buf_reserve(cache, b, (size_t)len + 1))
		return false;
	va_start(args, fmt);
	vsnprintf((char *)b->data + b->end, (size_t)len + 1, fmt, args);
	va_end(args);
	b->end += (uint32_t)len;
	return true;
}
