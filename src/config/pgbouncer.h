/*
 * From a pgbouncer.ini to the settings of a forebay.ini: what PgBouncer would make of the file, said in our keys. What
 * comes out goes through the same validation as a forebay.ini (config/load.c), or is printed as one (--convert).
 *
 * What PgBouncer accepts is never refused here: what cannot be met is met as nearly as can be, or ignored, with a remark
 * that says so. What PgBouncer refuses is an error with file and line.
 */
#ifndef CONFIG_PGBOUNCER_H
#define CONFIG_PGBOUNCER_H

#include <stdbool.h>
#include <stddef.h>

#include "config/arena.h"
#include "config/errors.h"
#include "config/pgbouncer_file.h"

/* One setting in our words, or a remark to the one that follows it. All of it is the arena's. */
struct pgb_item {
	struct pgb_item *next;
	const char *section; /* "pool:shop"; items of one section are together */
	const char *key;     /* NULL: a remark */
	const char *text;
	struct pgb_line at;  /* what it comes from; a default: its section */
};

/* A value of [pgbouncer]. */
struct pgb_given {
	const char *text; /* NULL: nothing was given and there is no default */
	struct pgb_line at;
	bool given;
};

struct pgb_items {
	struct pgb_item *first, **end;
	const struct pgb_given *settings; /* of [pgbouncer], by their places in its table; the arena's; NULL: out of memory */
};

/* Whether it is one for PgBouncer: see pgb_file_is(). False too when it cannot be read. Reads the disk. */
bool pgbouncer_is(const char *path);
/* Reads and translates a file; what it includes and its auth_file too. Reads the disk. */
void pgbouncer_translate_file(const char *path, const struct config_override *overrides, size_t count, struct arena *arena,
			      struct error_sink *errors, struct pgb_items *items);
/* The same from text. */
void pgbouncer_translate_text(const char *text, const char *name, struct arena *arena, struct error_sink *errors,
			      struct pgb_items *items);

#endif
