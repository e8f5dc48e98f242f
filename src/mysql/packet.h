/*
 * Packets of the MySQL protocol: their framing, the integers and strings in them, and the few packets that both
 * directions know (OK, ERR, EOF). Reading goes through base/reader.h; pointers in what is read point into the packet.
 * Any thread; a builder belongs to the thread of its buffer cache.
 */
#ifndef MYSQL_PACKET_H
#define MYSQL_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/reader.h"
#include "mysql/wire.h"

/* ---- framing ("MySQL Packets") ---- */

struct my_header {
	uint32_t length; /* of the body: 0 to MY_PACKET_FULL */
	uint8_t sequence;
};

/* False: fewer than MY_HEADER bytes are there. */
static inline bool my_read_header(const uint8_t *data, size_t len, struct my_header *out) {
	if (len < MY_HEADER)
		return false;
	out->length = (uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16;
	out->sequence = data[3];
	return true;
}
/* Writes a header over the MY_HEADER bytes at `out`. */
static inline void my_write_header(uint8_t *out, uint32_t length, uint8_t sequence) {
	out[0] = (uint8_t)length, out[1] = (uint8_t)(length >> 8), out[2] = (uint8_t)(length >> 16), out[3] = sequence;
}

/* ---- reading ---- */

static inline uint16_t my_u16(struct reader *r) {
	const uint8_t *p = reader_bytes(r, 2);
	return p ? (uint16_t)(p[0] | p[1] << 8) : 0;
}
static inline uint32_t my_u24(struct reader *r) {
	const uint8_t *p = reader_bytes(r, 3);
	return p ? (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 : 0;
}
static inline uint32_t my_u32(struct reader *r) {
	const uint8_t *p = reader_bytes(r, 4);
	return p ? (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24 : 0;
}
static inline uint64_t my_u64(struct reader *r) {
	uint64_t low = my_u32(r);
	return low | (uint64_t)my_u32(r) << 32;
}
/* A length-encoded integer. 0xfb (NULL) and 0xff are none: the reader fails. */
uint64_t my_lenenc(struct reader *r);
/* A length-encoded string; NULL: it does not lie within the packet, and the reader has failed. */
const uint8_t *my_lenenc_bytes(struct reader *r, size_t *len);
/* As my_lenenc_bytes(), but 0xfb yields NULL with `*is_null` set and the reader whole (values of text rows). */
const uint8_t *my_lenenc_or_null(struct reader *r, size_t *len, bool *is_null);

/* "OK_Packet", first byte 0x00 or 0xfe; by the capabilities that were agreed on with whoever sent it. */
struct my_ok {
	uint64_t affected_rows, last_insert_id;
	uint16_t status, warnings;
	const uint8_t *info; /* not ended by a zero */
	size_t info_len;
	const uint8_t *state; /* "Session State Information": the entries; NULL: none */
	size_t state_len;
};
/* False: malformed. */
bool my_read_ok(const uint8_t *body, size_t len, uint32_t capabilities, struct my_ok *out);

/* "ERR_Packet". Takes an sqlstate where there is one, whatever was agreed on: the first packet of a server may have it
 * or not. */
struct my_err {
	uint16_t code;
	char sqlstate[6]; /* "HY000" where none was sent */
	const uint8_t *message; /* not ended by a zero */
	size_t message_len;
};
bool my_read_err(const uint8_t *body, size_t len, struct my_err *out);

/* ---- building ---- */

/* Any failure of memory, and a message too long for one packet, is remembered in `ok`. */
struct my_builder {
	struct buf_cache *cache;
	struct buf buf;
	uint32_t mark;
	bool ok;
};
static inline struct my_builder my_builder(struct buf_cache *cache) {
	return (struct my_builder){.cache = cache, .ok = true};
}
void my_open(struct my_builder *b, uint8_t sequence);
/* Fills in the length. Several packets may follow each other in one builder. */
void my_close(struct my_builder *b);
void my_put(struct my_builder *b, const void *data, size_t len);
void my_put_u8(struct my_builder *b, uint8_t v);
void my_put_u16(struct my_builder *b, uint16_t v);
void my_put_u24(struct my_builder *b, uint32_t v);
void my_put_u32(struct my_builder *b, uint32_t v);
void my_put_u64(struct my_builder *b, uint64_t v);
void my_put_zeros(struct my_builder *b, size_t count);
void my_put_cstr(struct my_builder *b, const char *s); /* with its zero */
void my_put_lenenc(struct my_builder *b, uint64_t v);
void my_put_lenenc_bytes(struct my_builder *b, const void *data, size_t len);
void my_put_lenenc_str(struct my_builder *b, const char *s);
void my_builder_release(struct my_builder *b);
/* As my_builder_release(), wiped. Such a builder reserves its room first (buf_reserve()). */
void my_builder_wipe(struct my_builder *b);

/* Whole packets. `capabilities` are those agreed on with the receiver. */
/* OK with first byte `first` (MY_PACKET_OK, or MY_PACKET_EOF at the end of rows). The state is passed on only where
 * the receiver has SESSION_TRACK; its status bit is set or cleared accordingly. */
void my_put_ok(struct my_builder *b, uint8_t sequence, uint8_t first, uint32_t capabilities, const struct my_ok *ok);
/* "EOF_Packet", for receivers without DEPRECATE_EOF. */
void my_put_eof(struct my_builder *b, uint8_t sequence, uint32_t capabilities, uint16_t warnings, uint16_t status);
/* The message is cut at 512 bytes, as servers do. `capabilities` 0 (nothing agreed on yet): without sqlstate. */
void my_put_err(struct my_builder *b, uint8_t sequence, uint32_t capabilities, uint16_t code, const char *sqlstate,
		const char *message);

#endif
