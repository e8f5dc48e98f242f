/*
 * Reads a file in the form of pgbouncer.ini. It knows no setting; what a value means is pgbouncer_table's.
 *
 * The form is not that of forebay.ini:
 *   [section], and behind the bracket the line goes on as if it were a new one.
 *   key = value, the value being the rest of the line without blanks at its ends: nothing in it begins a comment, and
 *   no line goes on.
 *   A key has letters, digits and _ . - * in it; any other character needs single quotes around the whole, or double
 *   quotes (within which two stand for one).
 *   A line whose first character is ; or # is a comment.
 *   %include path: that file's lines here, in the section that holds here; from the working directory.
 */
#ifndef CONFIG_PGBOUNCER_FILE_H
#define CONFIG_PGBOUNCER_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "config/arena.h"
#include "config/errors.h"

struct pgb_line {
	const char *file; /* lives as long as the arena */
	int line;
};

struct pgb_handler {
	void (*section)(void *context, const char *name, const struct pgb_line *at);
	/* `key` and `value` are the arena's. */
	void (*setting)(void *context, const char *key, const char *value, const struct pgb_line *at);
	void *context;
};

/* Whether a file's first section or directive is one of PgBouncer's. */
bool pgb_file_is(const char *text, size_t len);

/* Reports what it finds wrong to `errors`, and goes on behind it. It reads the disk for %include. */
void pgb_file_read(const char *text, size_t len, const char *name, const struct pgb_handler *handler,
		   struct arena *arena, struct error_sink *errors);

/*
 * One step through a connection string or the settings of a user: "key=value key='it''s'". `*at` moves on. 1: there is
 * a pair, in the arena; 0: that was the end; -1: `problem` says what was expected.
 */
int pgb_pair(const char **at, struct arena *arena, const char **key, const char **value, const char **problem);

#endif
