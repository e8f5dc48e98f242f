/*
 * A BEGIN that is put off until there is something to do in the transaction (defer_begin).
 *
 * In transaction pooling a bare BEGIN from a client that has no server is answered here, and `begin_deferred` set: the client
 * is in a transaction of which no server knows. Its next statement takes a server, and the BEGIN goes there in the same
 * write, ahead of it. That saves a round trip, and an application that has begun and does nothing yet holds nothing.
 *
 * What the flag means. It is set only while the client's server, if it has one at all, has not been sent a byte for it
 * since it was linked: fe_want_server() is the one way to a server, and sends the BEGIN last thing. So a server that is
 * lost before is replaced as any other that was not touched, and the flag stays. From the write on all is as if the
 * client's own BEGIN had been passed on.
 *
 *   no transaction --BEGIN--> deferred --COMMIT, ROLLBACK--> no transaction    (answered here)
 *                             deferred --what needs a server--> on the server  (BEGIN, then the statement)
 *                             deferred --no server to be had, cancelled, idle too long--> failed (pgsql/aborted.h)
 *   on the server, BEGIN not answered yet --error--> failed
 *
 * Only what is certain is answered here: statements with options, a second BEGIN, an empty query, a COMMIT among other
 * statements bring the server in, and its answer, warning or error is PostgreSQL's own. What needs no server outside a
 * transaction (Sync, Parse of a text that is known, Close, DEALLOCATE) needs none here either; ReadyForQuery says T.
 *
 * How it goes to the server. As Parse, Bind, Execute without a Sync, not as a Query. A server that has failed in the midst
 * of a batch passes over everything up to the next Sync, Queries included. So if BEGIN fails (a cancel may hit it), what
 * was sent behind it in the same write is not carried out, least of all outside a transaction; the client gets the error
 * for its statement and is in a failed transaction, as after any other error. To keep this so, nothing goes to the server
 * behind the first Query, Function call or Sync before BEGIN is answered (pg_begin_outstanding()). It also saves a
 * ReadyForQuery, which the server would send in a packet of its own. The batch is the client's: its Sync or Query ends it.
 *
 * What comes glued to its BEGIN in one segment goes there with it as it always has: there is no round trip to save.
 *
 * Time. The transaction that the server sees begins with the first statement: so do now(), transaction times in the
 * statistics, transaction_timeout. A transaction that does not get that far is idle, and ends by idle_transaction_timeout
 * or transaction_timeout as it would on a server: not that it holds anything, but an application that relies on it sees
 * what it always has. It is no leak, for no connection is held, and client_idle_timeout does not apply.
 *
 * Owner worker only.
 */
#ifndef PGSQL_BEGIN_H
#define PGSQL_BEGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pg_client;
struct pg_server;

/* A whole Query whose body is `sql` (with its terminating zero, `len` bytes in all). `alone`: nothing that was received
 * follows it. True: answered here. */
bool pg_begin_query(struct pg_client *client, const uint8_t *sql, size_t len, bool alone);
/* Sends the BEGIN to the client's server, which has got nothing from it so far. False: out of memory. */
bool pg_begin_send(struct pg_client *client, struct pg_server *server);
/* A BEGIN of ours is not answered yet, and a request behind it is complete: no further one may go there. */
bool pg_begin_outstanding(const struct pg_server *server);
/* It has failed on the client's server, and the client was told the error (`text`: for what comes later). */
void pg_begin_failed(struct pg_client *client, struct pg_server *server, const char *text);

#endif
