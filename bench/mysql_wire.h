/* MySQL's packets, as far as the load generator and the stub need them: numbers have their low byte first. */
#ifndef BENCH_MYSQL_WIRE_H
#define BENCH_MYSQL_WIRE_H

#include "wire.h"

enum {
	MYSQL_HEADER = 4,

	MYSQL_QUIT = 0x01,
	MYSQL_INIT_DB = 0x02,
	MYSQL_QUERY = 0x03,
	MYSQL_STATISTICS = 0x09,
	MYSQL_PING = 0x0e,
	MYSQL_CHANGE_USER = 0x11,
	MYSQL_STMT_PREPARE = 0x16,
	MYSQL_STMT_EXECUTE = 0x17,
	MYSQL_STMT_SEND_LONG_DATA = 0x18,
	MYSQL_STMT_CLOSE = 0x19,
	MYSQL_STMT_RESET = 0x1a,
	MYSQL_SET_OPTION = 0x1b,
	MYSQL_RESET_CONNECTION = 0x1f,

	MYSQL_OK = 0x00,
	MYSQL_END = 0xfe, /* EOF, or an OK in its place; at login: another method is wanted */
	MYSQL_ERR = 0xff,

	MYSQL_LONG_PASSWORD = 1 << 0,
	MYSQL_LONG_FLAG = 1 << 2,
	MYSQL_CONNECT_WITH_DB = 1 << 3,
	MYSQL_LOCAL_FILES = 1 << 7,
	MYSQL_PROTOCOL_41 = 1 << 9,
	MYSQL_TRANSACTIONS = 1 << 13,
	MYSQL_SECURE_CONNECTION = 1 << 15,
	MYSQL_MULTI_STATEMENTS = 1 << 16,
	MYSQL_MULTI_RESULTS = 1 << 17,
	MYSQL_PS_MULTI_RESULTS = 1 << 18,
	MYSQL_PLUGIN_AUTH = 1 << 19,
	MYSQL_CONNECT_ATTRS = 1 << 20,
	MYSQL_PLUGIN_AUTH_LENENC = 1 << 21,
	MYSQL_SESSION_TRACK = 1 << 23,
	MYSQL_DEPRECATE_EOF = 1 << 24,

	MYSQL_IN_TRANSACTION = 0x0001,
	MYSQL_AUTOCOMMIT = 0x0002,
	MYSQL_STATE_CHANGED = 0x4000,

	MYSQL_TYPE_LONG = 3,
	MYSQL_TYPE_STRING = 254
};

static inline uint32_t get_low(const void *at, int n)
{
	const unsigned char *p = at;
	uint32_t v = 0;

	while (n-- > 0)
		v = v << 8 | p[n];
	return v;
}

static inline void put_low(void *at, uint32_t v, int n)
{
	unsigned char *p = at;

	for (int i = 0; i < n; i++, v >>= 8)
		p[i] = (unsigned char)v;
}

static inline void bytes_low(struct bytes *b, uint32_t v, int n)
{
	char raw[4];

	put_low(raw, v, n);
	bytes_add(b, raw, (size_t)n);
}

/* A string with its length before it. */
static inline void bytes_lenenc(struct bytes *b, const char *text, size_t len)
{
	if (len > 250)
		bytes_add(b, "\xfc", 1);
	bytes_low(b, (uint32_t)len, len > 250 ? 2 : 1);
	bytes_add(b, text, len);
}

/* Returns what packet_end() needs to set its length. */
static inline size_t packet_begin(struct bytes *b, unsigned char sequence)
{
	size_t at = b->len;

	bytes_low(b, 0, 3);
	bytes_add(b, &sequence, 1);
	return at;
}

static inline void packet_end(struct bytes *b, size_t at)
{
	put_low(b->data + at, (uint32_t)(b->len - at - MYSQL_HEADER), 3);
}

#endif
