/* How the pool reaches sockets, clocks and other workers: the session's side of struct pool_ops. */
#ifndef SESSION_ACQUIRE_H
#define SESSION_ACQUIRE_H

#include "base/timeouts.h"
#include "pool/pool.h"

struct client;
struct database;
struct session_worker;

extern const struct pool_ops session_pool_ops;
/* The shard's tick: the timeout of a database_view has expired. */
void session_pool_tick(struct timeout *timeout, uint64_t now_ns);
/* What a client is told when it gets nothing: which limit, its value, what to do. */
void acquire_explain(struct pool_waiter *waiter, enum pool_fail why, char *out, size_t room);
/* Who holds a connection of a pool longest. */
struct holder {
	uint64_t for_ns; /* 0: nobody */
	char who[120];
};
/* Looks among the clients of this worker; leaves `holder` as it is where it holds longer. */
void acquire_find_longest(struct session_worker *sw, const struct database *database, struct holder *holder);

#endif
