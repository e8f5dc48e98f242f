#include "config/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"

enum { CHUNK_SIZE = 8192 };

struct arena_chunk {
	struct arena_chunk *next;
	size_t used, size;
	max_align_t data[];
};

static struct arena_chunk *chunk_new(size_t size) {
	if (size > SIZE_MAX - sizeof(struct arena_chunk))
		return NULL;
	struct arena_chunk *chunk = calloc(1, sizeof(*chunk) + size);
	if (chunk)
		chunk->size = size;
	return chunk;
}

void *arena_alloc(struct arena *arena, size_t size) {
	const size_t align = _Alignof(max_align_t);

	if (size > SIZE_MAX - align)
		return NULL;
	size = (size + align - 1) / align * align;

	struct arena_chunk *chunk = arena->chunks;
	if (!chunk || size > chunk->size - chunk->used) {
		chunk = chunk_new(size > CHUNK_SIZE ? size : CHUNK_SIZE);
		if (!chunk)
			return NULL;
		chunk->next = arena->chunks;
		arena->chunks = chunk;
	}
	void *p = (char *)chunk->data + chunk->used;
	chunk->used += size;
	return p;
}

char *arena_strndup(struct arena *arena, const char *s, size_t len) {
	char *copy = len < SIZE_MAX ? arena_alloc(arena, len + 1) : NULL;
	if (copy && len)
		memcpy(copy, s, len);
	return copy;
}

char *arena_strdup(struct arena *arena, const char *s) {
	return arena_strndup(arena, s, strlen(s));
}

char *arena_printf(struct arena *arena, const char *fmt, ...) {
	va_list args;

	va_start(args, fmt);
	int len = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	char *out = len >= 0 ? arena_alloc(arena, (size_t)len + 1) : NULL;
	if (!out)
		return NULL;
	va_start(args, fmt);
	vsnprintf(out, (size_t)len + 1, fmt, args);
	va_end(args);
	return out;
}

void arena_free(struct arena *arena) {
	while (arena->chunks) {
		struct arena_chunk *chunk = arena->chunks;
		arena->chunks = chunk->next;
		secret_wipe(chunk->data, chunk->used);
		free(chunk);
	}
}
