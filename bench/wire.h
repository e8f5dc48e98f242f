/* What the load generator and the stub backend have in common: numbers in network order, and bytes put together. */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PG_VERSION_3 = 196608, PG_CANCEL_REQUEST = 80877102, PG_SSL_REQUEST = 80877103, PG_GSS_REQUEST = 80877104 };

struct bytes {
	char *data;
	size_t len, size;
};

static inline uint32_t get32(const void *at)
{
	const unsigned char *p = at;

	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void put32(void *at, uint32_t v)
{
	unsigned char *p = at;

	p[0] = (unsigned char)(v >> 24);
	p[1] = (unsigned char)(v >> 16);
	p[2] = (unsigned char)(v >> 8);
	p[3] = (unsigned char)v;
}

static inline void bytes_add(struct bytes *b, const void *data, size_t len)
{
	if (b->size - b->len < len) {
		size_t size = (b->size + len) * 2;
		char *grown = realloc(b->data, size);

		if (!grown) {
			fputs("out of memory\n", stderr);
			exit(1);
		}
		b->data = grown;
		b->size = size;
	}
	if (len)
		memcpy(b->data + b->len, data, len);
	b->len += len;
}

static inline void bytes_str(struct bytes *b, const char *text) { bytes_add(b, text, strlen(text) + 1); }

static inline void bytes_32(struct bytes *b, uint32_t v)
{
	char raw[4];

	put32(raw, v);
	bytes_add(b, raw, 4);
}

static inline void bytes_16(struct bytes *b, unsigned v)
{
	char raw[2] = { (char)(v >> 8), (char)v };

	bytes_add(b, raw, 2);
}

/* Begins a message; type 0 is one without a type byte. Returns what bytes_end() needs to set its length. */
static inline size_t bytes_begin(struct bytes *b, char type)
{
	if (type)
		bytes_add(b, &type, 1);
	size_t at = b->len;

	bytes_32(b, 0);
	return at;
}

static inline void bytes_end(struct bytes *b, size_t at) { put32(b->data + at, (uint32_t)(b->len - at)); }

static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

#endif
