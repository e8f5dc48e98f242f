/* How the pool reaches sockets, clocks and other workers: the session's side of struct pool_ops. */
#ifndef SESSION_ACQUIRE_H
#define SESSION_ACQUIRE_H

#include "base/timeouts.h"
#include "pool/pool.h"

extern const struct pool_ops session_pool_ops;
/* The shard's tick: the timeout of a database_view has expired. */
void session_pool_tick(struct timeout *timeout, uint64_t now_ns);

#endif
