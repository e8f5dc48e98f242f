/*
 * Prepared statements in transaction pooling: a client's names on one side, what a server has on the other.
 *
 *   client name --> text (SQL and parameter types, shared by all clients of a worker) --> id --> server
 *
 * The id is a hash of the text and of the client's settings, for these decide what a text means ('01/02/03'::date).
 *
 * On a server a statement is called "forebay_<id>", so one statement serves every client with the same text
 * and settings. A client
 * that binds to a name is given the statement on whatever server it has: it is prepared there first if it is missing.
 *
 * Changes are made when a message is sent on, not when it is answered, and undone if the server fails or skips it.
 * Within one batch (up to Sync) that is exact, for if an earlier message fails all later ones are skipped. A message
 * that depends on a change of an earlier batch whose outcome is not known yet waits for it (HOLD_OUTCOME).
 */
#ifndef PGSQL_PREPARED_H
#define PGSQL_PREPARED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

#include "base/list.h"
#include "pgsql/sql.h"
#include "session/settings.h"

enum {
	PG_STATEMENT_ID = 16,
	PG_STATEMENT_NAME = 8 + 2 * PG_STATEMENT_ID + 1, /* "forebay_", hexadecimal, zero */
	PG_TEXT_MAX = 1 << 20,         /* SQL of a statement that is remembered */
	PG_CLIENT_NAMES_MAX = 20000,   /* statements of one client */
	PG_CLIENT_TEXTS_MAX = 64 << 20 /* bytes of their texts */
};

/* What follows the name in a Parse message: SQL, zero, count and types of parameters. Owner worker only. */
struct pg_text {
	UT_hash_handle hh;
	uint32_t references;
	uint32_t len;
	enum pg_text_kind kind;
	bool has_id, lost;
	uint8_t id[PG_STATEMENT_ID];
	char on_server[PG_STATEMENT_NAME]; /* what the id makes its name on servers */
	uint8_t meaning[16]; /* of the settings that `id` was made with */
	uint32_t epoch;    /* goes up when its result has changed: what servers have is stale then */
	char *argument; /* the name that DEALLOCATE or RESET bears */
	struct pg_texts *texts;
	uint8_t body[];
};

/* All texts of one worker. */
struct pg_texts {
	struct pg_text *by_body;
};

/* The text with this body, referenced; made when new. NULL: out of memory. */
struct pg_text *pg_text_get(struct pg_texts *texts, const uint8_t *body, size_t len);
struct pg_text *pg_text_ref(struct pg_text *text);
void pg_text_unref(struct pg_text *text); /* NULL is fine */
/* The statement's id: a hash of the text and of what the settings make it mean. NULL: out of memory. */
const uint8_t *pg_text_id(struct pg_text *text, struct settings *settings);
void pg_statement_name(const uint8_t id[PG_STATEMENT_ID], char out[PG_STATEMENT_NAME]);

/* One name of a client. `text` NULL: there is no such statement (a removal whose outcome is not known yet). */
struct pg_name {
	UT_hash_handle hh;
	struct pg_text *text;
	uint32_t pending;       /* changes whose outcome is not known */
	uint32_t pending_batch; /* of the latest */
	bool lost;
	char name[];
};

struct pg_names {
	struct pg_name *by_name; /* named ones */
	struct pg_name *unnamed; /* NULL until first used */
	size_t bytes;
};

/* NULL: no such statement, nor a change of it under way. */
struct pg_name *pg_name_find(struct pg_names *names, const char *name);
/* Finds or makes the entry (text NULL). NULL: out of memory, or too many. */
struct pg_name *pg_name_make(struct pg_names *names, const char *name);
/* Frees the entry when it stands for nothing. */
void pg_name_tidy(struct pg_names *names, struct pg_name *name);
void pg_name_set(struct pg_names *names, struct pg_name *name, struct pg_text *text); /* takes the reference over */
/* Forgets all that have no change under way (DEALLOCATE ALL). */
void pg_names_clear(struct pg_names *names);
void pg_names_free(struct pg_names *names);

/* One statement on a server. */
struct pg_statement {
	UT_hash_handle hh;
	uint8_t id[PG_STATEMENT_ID];
	struct list lru; /* least recently used first */
	uint32_t pending_batch; /* 0: known to be there */
	uint32_t epoch;         /* of its text, when it was prepared */
	bool lost;
};

struct pg_statements {
	struct pg_statement *by_id;
	struct list lru;
	uint32_t count;
	struct pg_text *unnamed; /* the text of the unnamed statement, referenced; NULL: none, or it is unknown */
	bool unnamed_unknown;    /* there may be one that is nobody's */
};

void pg_statements_init(struct pg_statements *statements);
/* NULL: not there. Marks it used. */
struct pg_statement *pg_statement_find(struct pg_statements *statements, const uint8_t id[PG_STATEMENT_ID]);
struct pg_statement *pg_statement_add(struct pg_statements *statements, const uint8_t id[PG_STATEMENT_ID]);
/* Takes it out without freeing it (its Close is under way), and puts it back. */
void pg_statement_take(struct pg_statements *statements, struct pg_statement *statement);
bool pg_statement_put_back(struct pg_statements *statements, struct pg_statement *statement);
/* The least recently used that is known to be there, or NULL. */
struct pg_statement *pg_statement_oldest(struct pg_statements *statements);
void pg_statements_set_unnamed(struct pg_statements *statements, struct pg_text *text); /* references it; NULL: none */
/* It is no longer known what the unnamed statement is. */
void pg_statements_lose_unnamed(struct pg_statements *statements);
void pg_statements_clear(struct pg_statements *statements);

#endif
