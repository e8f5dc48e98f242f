/*
 * Memory that is freed all at once: what one configuration owns, secrets included. Everything in it is
 * overwritten when it is freed. One thread until it is complete, then read by any.
 */
#ifndef CONFIG_ARENA_H
#define CONFIG_ARENA_H

#include <stddef.h>

struct arena_chunk;

struct arena {
	struct arena_chunk *chunks; /* the newest first; NULL: nothing taken yet */
};

/* `size` bytes of zeroes, aligned for any type. NULL: out of memory. */
void *arena_alloc(struct arena *arena, size_t size);
/* A copy of `len` bytes with a zero behind them. NULL: out of memory. */
char *arena_strndup(struct arena *arena, const char *s, size_t len);
char *arena_strdup(struct arena *arena, const char *s);
/* printf into the arena. NULL: out of memory. */
char *arena_printf(struct arena *arena, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Overwrites and frees it all. */
void arena_free(struct arena *arena);

#endif
