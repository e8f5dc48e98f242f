/*
 * PostgreSQL's frontend/backend protocol, version 3: message types and building blocks.
 * Sections named in comments are those of the PostgreSQL manual's chapter "Frontend/Backend Protocol".
 */
#ifndef PGSQL_WIRE_H
#define PGSQL_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

enum {
	PG_PROTOCOL_3_0 = 3 << 16,
	PG_PROTOCOL_3_2 = 3 << 16 | 2,
	PG_CANCEL_REQUEST = 1234 << 16 | 5678,
	PG_SSL_REQUEST = 1234 << 16 | 5679,
	PG_GSSENC_REQUEST = 1234 << 16 | 5680,

	PG_HEADER = 5,                     /* type byte and length */
	PG_STARTUP_MAX = 10000,            /* as PostgreSQL's MAX_STARTUP_PACKET_LENGTH */
	PG_LOGIN_MESSAGE_MAX = 65536,      /* password, SASL: as PostgreSQL's PG_MAX_AUTH_TOKEN_LENGTH */
	PG_SERVER_MESSAGE_MAX = 1 << 20,   /* a backend's message that we must hold whole */
	PG_CANCEL_KEY_MAX = 256            /* 3.2 */
};

/* ErrorResponse or NoticeResponse, built whole into `out` (appended). Fields may be NULL, but severity, sqlstate
 * and message. Section "Error and Notice Message Fields". */
struct pg_error_fields {
	const char *severity, *sqlstate, *message, *detail, *hint;
};
bool pg_put_error(struct buf_cache *cache, struct buf *out, char type, const struct pg_error_fields *fields);

/* Building messages into a buf: pg_open() leaves room for the length, pg_close() fills it in. Any failure of memory
 * is remembered in `ok`. */
struct pg_builder {
	struct buf_cache *cache;
	struct buf buf;
	uint32_t mark;
	bool ok;
};
struct pg_builder pg_builder(struct buf_cache *cache);
void pg_open(struct pg_builder *b, char type); /* 0: a start-up message without a type byte */
void pg_close(struct pg_builder *b);
void pg_u8(struct pg_builder *b, uint8_t v);
void pg_u16(struct pg_builder *b, uint16_t v);
void pg_u32(struct pg_builder *b, uint32_t v);
void pg_cstr(struct pg_builder *b, const char *s); /* with its zero */
void pg_raw(struct pg_builder *b, const void *data, size_t len);
void pg_builder_release(struct pg_builder *b);

/* Fields of an ErrorResponse's body as far as they lie within `len`; pointers into it; NULL where missing or cut. */
struct pg_error_view {
	const char *severity, *sqlstate, *message;
};
struct pg_error_view pg_error_view(const uint8_t *body, size_t len);

#endif
