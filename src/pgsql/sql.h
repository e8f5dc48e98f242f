/* All that is ever read of SQL text: which statements begin and end transaction blocks, drop prepared statements and change
 * settings, as far as their first words tell. Any thread. */
#ifndef PGSQL_SQL_H
#define PGSQL_SQL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How a statement ends a failed transaction. */
enum pg_exit {
	PG_EXIT_NONE,     /* it does not */
	PG_EXIT_EMPTY,    /* no statement at all */
	PG_EXIT_ROLLBACK, /* ROLLBACK, ABORT */
	PG_EXIT_COMMIT,   /* COMMIT, END, PREPARE TRANSACTION: the same, but its client believes otherwise */
	PG_EXIT_CHAIN,    /* ... AND CHAIN */
	PG_EXIT_SAVEPOINT /* ROLLBACK TO */
};

/* What the first statement of a SQL text is. `*rest`: where the next one begins; 0: there is none. */
enum pg_exit pg_sql_exit(const char *sql, size_t len, size_t *rest);

/* A text that is one such statement and nothing else: no options, no second statement; blanks, comments and a semicolon
 * at its end aside. Where it is not certain that every PostgreSQL reads it so: none. */
enum pg_bare {
	PG_BARE_NONE,
	PG_BARE_BEGIN,   /* BEGIN [WORK | TRANSACTION] */
	PG_BARE_START,   /* START TRANSACTION */
	PG_BARE_COMMIT,  /* COMMIT, END */
	PG_BARE_ROLLBACK /* ROLLBACK, ABORT */
};
enum pg_bare pg_sql_bare(const char *sql, size_t len);

/* Whether a text may be a bare BEGIN or START TRANSACTION by its first two bytes (a zero follows the text's end). */
static inline bool pg_sql_may_begin(const uint8_t *sql) {
	uint8_t first = sql[0] | 0x20;
	return first == 'b' || (first == 's' && (sql[1] | 0x20) == 't') || (sql[0] && sql[0] <= ' ') || sql[0] == '-' ||
	       sql[0] == '/';
}

enum pg_text_kind {
	PG_TEXT_PLAIN,
	PG_TEXT_DEALLOCATE,     /* DEALLOCATE [PREPARE] name */
	PG_TEXT_DEALLOCATE_ALL, /* DEALLOCATE ALL, DISCARD ALL */
	PG_TEXT_SET_LOCAL,      /* SET LOCAL: leaves nothing behind */
	PG_TEXT_RESET           /* RESET name, RESET ALL */
};

/* What the first words of a SQL text say; `*name` (to be freed; else NULL) is what DEALLOCATE or RESET names. */
enum pg_text_kind pg_sql_kind(const char *sql, size_t len, char **name);

#endif
