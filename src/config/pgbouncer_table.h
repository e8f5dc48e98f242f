/*
 * The one table of PgBouncer's settings, as of 1.25 and the few that came since: what a value looks like, what it is
 * where it is not given, and what becomes of it. Reading, --convert and the table in doc/from-pgbouncer.md go by it.
 */
#ifndef CONFIG_PGBOUNCER_TABLE_H
#define CONFIG_PGBOUNCER_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pgb_scope { PGB_MAIN, PGB_DATABASE, PGB_USER, PGB_PEER };
enum { PGB_SCOPES = PGB_PEER + 1, PGB_KEYS_MOST = 128 };

enum pgb_type {
	PGB_INT,    /* as strtol() with base 0 takes it, and nothing behind it */
	PGB_TIME,   /* seconds, with fractions */
	PGB_TEXT,
	PGB_CHOICE, /* one of `choices`, in whichever case */
	PGB_LOOSE   /* a number of a connection string: what is not one counts as 0 there */
};

enum pgb_fate {
	PGB_TRANSLATED, /* to `becomes` */
	PGB_IGNORED     /* `why` says why */
};

struct pgb_key {
	enum pgb_scope scope;
	const char *name;
	enum pgb_type type;
	const char *default_text; /* NULL: none, or what a wider section says */
	enum pgb_fate fate;
	const char *becomes; /* the keys of forebay.ini, for people */
	const char *why;     /* a clause behind "ignored: "; or, of a translated one, in what it differs; NULL: in nothing */
	const char *const *choices;
};

/* The keys of one scope. */
const struct pgb_key *pgb_keys(enum pgb_scope scope, size_t *count);
/* The place among them, or -1. */
int pgb_find(enum pgb_scope scope, const char *name);

/* False: it is none. */
bool pgb_int(const char *text, int *out);
/* Nanoseconds; what is longer than a year counts as a year. False: it is none. */
bool pgb_time(const char *text, uint64_t *ns);
/* As atoi(). */
int pgb_loose(const char *text);
/* The place among the choices, or -1. */
int pgb_choice(const char *const *choices, const char *text);
/* Whether the text is a value of the key. If not, `problem` says what was expected. */
bool pgb_valid(const struct pgb_key *key, const char *text, char *problem, size_t room);

#endif
