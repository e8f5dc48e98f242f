/*
 * Binary prepared statements in transaction pooling: a client's numbers on one side, what a server has on the other.
 *
 *   client's number --> statement --> text (shared by the worker's clients) --> id --> server's number
 *
 * A cursor and long data belong to the server's statement: while one has either, another of the client's with the same text is
 * prepared on its own (my_text_own()).
 *
 * The id is a hash of the text and of the session's settings when it was prepared, for these decide what a text means. A
 * server has one statement for each id, whoever has prepared it; a client that executes one is given it on whatever server
 * it has: it is prepared there first if it is missing. COM_STMT_CLOSE ends the client's number alone. The server's are
 * closed when there are more than max_prepared_statements, the one used longest ago first.
 *
 * Owner worker only.
 */
#ifndef MYSQL_STATEMENT_H
#define MYSQL_STATEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

#include "base/list.h"
#include "session/settings.h"

enum {
	MY_STATEMENT_ID = 16,
	MY_STATEMENT_TEXT_MAX = 1 << 20,         /* of one that is remembered */
	MY_CLIENT_STATEMENTS_MAX = 16382,        /* as MySQL's max_prepared_stmt_count */
	MY_CLIENT_STATEMENT_BYTES_MAX = 64 << 20
};

/* What COM_STMT_PREPARE was given. */
struct my_text {
	uint32_t references;
	uint64_t hints;             /* sql.h */
	struct settings *settings;  /* in force when it was prepared; referenced */
	uint8_t id[MY_STATEMENT_ID];
	size_t len;
	char sql[];
};

/* A client's. */
struct my_statement {
	UT_hash_handle hh;
	uint32_t number; /* the client's */
	uint64_t name;   /* of it in the worker: the client's id and this */
	struct my_text *text; /* referenced */
	uint16_t parameters, columns;
	uint8_t *types;  /* two bytes for each parameter, as bound last; NULL: never */
	uint64_t binding; /* names these types; unique in the worker; 0: none */
	bool cursor;     /* one is open on its server */
	bool long_data;  /* its server holds parts of parameters */
	bool data_lost;  /* ... or should, and could not be given them */
};

struct my_statements {
	struct my_statement *by_number;
	uint32_t last_number; /* that was given out */
	uint32_t cursors, long_data; /* how many have one */
	size_t bytes;
};

/* A server's. */
struct my_prepared {
	UT_hash_handle hh;
	struct list used; /* the one used last comes last */
	uint8_t id[MY_STATEMENT_ID];
	uint32_t number;  /* the server's */
	uint64_t holder;  /* whose cursor is open there, or whose long data it has: my_statement.name; 0: nobody's */
	uint64_t binding; /* whose types it holds */
	bool in_flight;   /* a request in the queue is about it */
};

struct my_prepareds {
	struct my_prepared *by_id;
	struct list used;
	uint32_t count;
};

/* A reference to a fresh text; `settings` is referenced. NULL: out of memory. */
struct my_text *my_text_new(const void *sql, size_t len, uint64_t hints, struct settings *settings);
void my_text_unref(struct my_text *text); /* NULL is fine */
/* The same text with an id that no other has: that of this name. NULL: out of memory. */
struct my_text *my_text_own(const struct my_text *text, uint64_t name);

/* Takes over the reference to the text. NULL: out of memory (the reference is let go). */
struct my_statement *my_statement_add(struct my_statements *statements, struct my_text *text, uint16_t parameters,
				      uint16_t columns);
struct my_statement *my_statement_find(struct my_statements *statements, uint32_t number);
void my_statement_drop(struct my_statements *statements, struct my_statement *statement);
void my_statements_clear(struct my_statements *statements);
/* Remembers what its parameters were bound as. False: out of memory. */
bool my_statement_bind(struct my_statement *statement, const uint8_t *types, uint64_t binding);

void my_prepareds_init(struct my_prepareds *prepareds);
struct my_prepared *my_prepared_find(struct my_prepareds *prepareds, const uint8_t id[MY_STATEMENT_ID]);
struct my_prepared *my_prepared_add(struct my_prepareds *prepareds, const uint8_t id[MY_STATEMENT_ID], uint32_t number);
void my_prepared_touch(struct my_prepareds *prepareds, struct my_prepared *prepared);
/* The one used longest ago that nothing is under way for and nobody holds; NULL: none. */
struct my_prepared *my_prepared_oldest(struct my_prepareds *prepareds);
/* Whether a cursor or long data is left on any of them. */
bool my_prepareds_held(const struct my_prepareds *prepareds);
void my_prepared_drop(struct my_prepareds *prepareds, struct my_prepared *prepared);
void my_prepareds_clear(struct my_prepareds *prepareds);

#endif
