/*
 * A client whose transaction was rolled back by a time limit, or could not begin (pgsql/begin.h). From its side it is in
 * a failed transaction, as after any error, until it says ROLLBACK; but in transaction pooling it has no server any more,
 * and what PostgreSQL would answer is answered here. Behaviour of PostgreSQL's postgres.c and xact.c; where that cannot be
 * told apart from here (which statement returns rows, savepoints, AND CHAIN) the answer is an error that says so, and the
 * state stays.
 *
 * A session that keeps its server has its transaction made to fail there, and PostgreSQL answers; only the error is owed.
 * Owner worker only.
 */
#ifndef PGSQL_ABORTED_H
#define PGSQL_ABORTED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "session/protocol.h"

struct pg_client;
struct pg_server;
struct pg_aborted;

/* A Bind to a statement that no server has: makes a transaction or a batch fail, and disturbs nothing else. */
extern const uint8_t pg_failing_bind[25];

/* What is to become of a message of such a client. */
enum pg_aborted_verdict {
	PG_ABORTED_PASS,    /* as any other message */
	PG_ABORTED_WAIT,    /* not all of it is there */
	PG_ABORTED_HOLD,    /* until what is under way is answered */
	PG_ABORTED_DONE,    /* answered, it goes nowhere */
	PG_ABORTED_INVALID, /* malformed: a protocol error */
	PG_ABORTED_REST     /* a Query that begins with ROLLBACK: what follows wants a server; pg_aborted_rest(), then it goes
	                     * there without its first `*cut` bytes of SQL */
};

/* `data`: the message from its type byte, `have` bytes of `total`. */
enum pg_aborted_verdict pg_aborted_message(struct pg_client *client, const uint8_t *data, size_t have, uint64_t total,
					   size_t *cut);
/* Answers the ROLLBACK; the client's state is as before its transaction. */
void pg_aborted_rest(struct pg_client *client);
void pg_aborted_free(struct pg_client *client);
/* A client without a server is in a failed transaction from now on. `told`: it has got the error; else that is owed. False:
 * out of memory, nothing has changed. */
bool pg_aborted_begin(struct pg_client *client, const char *sqlstate, const char *text, bool told);

/* protocol.client_roll_back, client_activity and client_cut. */
bool pg_client_roll_back(struct client *client, enum deadline why, const char *text);
void pg_client_activity(const struct client *client, struct activity *activity);
void pg_client_cut(struct client *client);
/* Of an error of the backend: whether it is that of a statement which was cut. */
bool pg_is_cut(const struct pg_server *server, const char *sqlstate);
/* Tells it in our words. */
void pg_tell_cut(struct pg_server *server);
/* The server's input has been dealt with: what was cut may have ended. */
void pg_settle_cut(struct pg_server *server);
/* A transaction begins: its client's settings will be these again if it is rolled back. */
void pg_transaction_begins(struct pg_client *client, struct pg_server *server);

#endif
