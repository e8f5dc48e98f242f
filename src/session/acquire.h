/* How the pool reaches sockets, clocks and other workers: the session's side of struct pool_ops. */
#ifndef SESSION_ACQUIRE_H
#define SESSION_ACQUIRE_H

#include "base/timeouts.h"
#include "pool/pool.h"

struct client;

extern const struct pool_ops session_pool_ops;
/* The shard's tick: the timeout of a database_view has expired. */
void session_pool_tick(struct timeout *timeout, uint64_t now_ns);
/* What a client is told when it gets nothing: which limit, its value, what to do. */
void acquire_explain(struct pool_waiter *waiter, enum pool_fail why, char *out, size_t room);
/* wait_notice_after: when a client that waits is to be told its place (session/watch.h); TIME_NEVER. */
uint64_t wait_notice_next(const struct client *client);
void wait_notice_due(struct client *client);

#endif
