/*
 * Statements as reports of what holds a server show them: the beginning that was kept of a text, with or without its
 * constants. Where it is not sure where a constant ends (a backslash, which a setting makes mean something or not) all
 * that follows is left out: rather too little is shown than the tail of a secret.
 */
#ifndef MYSQL_SAID_H
#define MYSQL_SAID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"

enum { MY_SAID_MAX = 256 /* bytes kept of a statement */ };

struct my_said {
	uint16_t len;
	bool cut;
	char text[MY_SAID_MAX];
};

/* Keeps the beginning of a text; `more`: it goes on behind `len` bytes. */
void my_said_keep(struct my_said *said, const void *sql, size_t len, bool more);
/* One line of printable ASCII and UTF-8; "" for STATEMENT_NONE. */
void my_said_show(const struct my_said *said, enum statement_text as, char *out, size_t room);

#endif
