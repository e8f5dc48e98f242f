/*
 * The text format that pg_hba.conf and pg_ident.conf have in common (chapter "The pg_hba.conf File"): a rule on each
 * line, fields divided by blanks, a field perhaps a list divided by commas, "quotes" that take special meaning away,
 * # comments, a backslash at a line's end that goes on with the next one, @file for a list in a file of its own,
 * and include, include_if_exists, include_dir.
 */
#ifndef PGSQL_RULES_FILE_H
#define PGSQL_RULES_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct rules_token {
	char *text;
	bool quoted;
};

struct rules_field {
	struct rules_token *tokens; /* at least one */
	size_t count;
};

struct rules_line {
	const char *file; /* owned by the struct rules */
	int number;
	struct rules_field *fields; /* at least one */
	size_t count;
};

struct rules {
	struct rules_line *lines;
	size_t count;
	char **files;
	size_t file_count;
};

/* NULL: `error` says which file and line. Reads the disk. */
struct rules *rules_load(const char *path, struct error *error);
void rules_free(struct rules *rules); /* NULL is fine */
/* A token that means more than its letters: it has this text and is not quoted. */
bool rules_is_keyword(const struct rules_token *token, const char *keyword);

#endif
