/*
 * Statements as reports show them: the beginning that was kept of a text, with or without its constants.
 *
 * Taking constants out is done by a small lexer that knows how PostgreSQL writes them, and nothing of SQL's grammar. It
 * never fails. Where a text is cut, or may be read in two ways (a backslash before a quote ends a string or does not,
 * by a setting and an encoding that are not known here), all that follows is left out: rather too little is shown than
 * the tail of a secret.
 */
#ifndef PGSQL_NORMALIZE_H
#define PGSQL_NORMALIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "config/config.h"

enum {
	PG_SAID_MAX = 256 /* bytes kept of a statement */
};

/* What is kept of a statement, on the data path: a copy of its beginning. */
struct pg_said {
	uint16_t len;
	bool cut;
	char text[PG_SAID_MAX];
};

/* Keeps a text of which `len` bytes are at hand; it ends there, or at a zero before. `more`: or it does not end yet. */
static inline void pg_said_keep(struct pg_said *said, const void *sql, size_t len, bool more) {
	size_t n = strnlen(sql, len < PG_SAID_MAX ? len : PG_SAID_MAX);
	bool ended = n < len && ((const char *)sql)[n] == 0;
	memcpy(said->text, sql, n);
	said->len = (uint16_t)n;
	said->cut = !ended && (more || n < len);
}

/* Writes it as statements are to be shown; "" for STATEMENT_NONE. What comes out is UTF-8 in one line, whatever went in. */
void pg_said_show(const struct pg_said *said, enum statement_text as, char *out, size_t room);
/* Copies a text without its constants and comments, white space made one space; each constant becomes a "?". Returns
 * the length; no more than `room` - 1 bytes, zero-terminated. */
size_t pg_normalize(const char *sql, size_t len, char *out, size_t room);

#endif
