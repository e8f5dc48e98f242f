/*
 * What a protocol counts for each pool: call these where an answer has ended, and where a client gets an error. Own worker.
 * The times are the loop's (worker.now_ns), which is read once for each turn.
 */
#ifndef SESSION_METER_H
#define SESSION_METER_H

#include "pool/pool.h"
#include "session/client.h"
#include "session/database.h"
#include "session/server.h"
#include "session/session.h"

/* A query of a client was answered; it took so long from when the pool had it. */
static inline void meter_query(struct server *server, uint64_t ns) {
	struct pool_shard_stats *stats = pool_shard_stats_mut(server->conn.shard);
	stat_add(&stats->queries, 1);
	stat_add(&stats->query_ns, ns);
	histogram_add(&stats->query_time, ns);
}

/* A transaction of a client has ended. */
static inline void meter_transaction(struct server *server, uint64_t ns) {
	struct pool_shard_stats *stats = pool_shard_stats_mut(server->conn.shard);
	stat_add(&stats->transactions, 1);
	stat_add(&stats->transaction_ns, ns);
	histogram_add(&stats->transaction_time, ns);
}

/* A client gets an error with this SQLSTATE (at least its first two characters), the backend's or ours. */
static inline void meter_error(struct client *client, const char *sqlstate) {
	stat_counter *errors = client->sw->login_errors;
	if (client->shard)
		errors = pool_shard_stats_mut(client->shard)->errors;
	stat_add(&errors[pool_sqlstate_class(sqlstate)], 1);
}

#endif
