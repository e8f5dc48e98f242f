/*
 * The processor's cache. With many pools and clients in use, what a transaction touches of its own is not in there any more, and
 * each line takes as long to fetch as a hundred instructions. So it is kept side by side, and fetched beside a system call or what
 * else comes before.
 */
#ifndef BASE_CACHE_H
#define BASE_CACHE_H

#include <stddef.h>
#include <stdint.h>

enum { CACHE_LINE = 64 };

/* Begins to fetch `len` bytes that are about to be read and written, and does not wait for them. */
static inline void cache_fetch(const void *data, size_t len) {
	uintptr_t end = (uintptr_t)data + len;

	for (uintptr_t line = (uintptr_t)data / CACHE_LINE * CACHE_LINE; line < end; line += CACHE_LINE)
		__builtin_prefetch((const void *)line, 1);
}

#endif
