#include "session/audit.h"

#include <stdio.h>

#include "base/log.h"
#include "session/claim.h"
#include "session/client.h"
#include "session/database.h"
#include "session/server.h"
#include "session/session.h"

#define REQUIRE(condition, what)                                                                                       \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			return what;                                                                                   \
	} while (0)

/* A timeout that should have fired this long ago never will. */
#define OVERDUE_NS (60 * NS_PER_S)

/* ---- one server, one client ---- */

static bool is_watched(const struct server *server) {
	return timeout_pending(&server->timeout) || list_linked(&server->later.node);
}

static const char *audit_linked(const struct session_worker *sw, const struct server *server) {
	const struct client *client = server->client;
	REQUIRE(server->state == SERVER_ACTIVE, "a server that is not active has a client");
	REQUIRE(client->server == server, "a server's client has another server");
	REQUIRE(client->sw == sw, "a server's client is another worker's");
	REQUIRE(client->state == CLIENT_ACTIVE, "a server's client is not active");
	REQUIRE(client->database == server->database, "a server's client is of another pool");
	REQUIRE(server->conn.state == POOL_CONN_BUSY, "a server with a client is not busy in the pool");
	return NULL;
}

/* Whether a client waits for this very server. */
static bool is_claimed(const struct client *client, const struct server *server) {
	const struct claim *claim = client->claim;
	return claim && (claim->waiting_dedicated == server || claim->waiting_trial == server);
}

const char *audit_server(const struct session_worker *sw, const struct server *server) {
	const struct pool_conn *conn = &server->conn;
	REQUIRE(server->sw == sw, "a server is on the list of another worker");
	REQUIRE(server->state != SERVER_CLOSED, "a closed server is on the worker's list");
	REQUIRE(conn->shard == server->database->views[sw->worker->id].shard, "a server is in another worker's shard");
	REQUIRE(!timeout_pending(&server->timeout) || sw->worker->now_ns < server->timeout.deadline_ns + OVERDUE_NS,
		"a server's timeout was missed");
	if (server->client)
		return audit_linked(sw, server);
	REQUIRE(server->state != SERVER_ACTIVE, "an active server has no client");
	switch (conn->state) {
	case POOL_CONN_OPENING:
		REQUIRE(server->state < SERVER_IDLE, "a server is open, and opening in the pool");
		REQUIRE(is_watched(server), "a server is being opened without end");
		return NULL;
	case POOL_CONN_IDLE:
		REQUIRE(server->state == SERVER_IDLE, "a server that is not idle is idle in the pool");
		return NULL;
	case POOL_CONN_BUSY:
		REQUIRE(is_watched(server), "a busy server is held by nobody");
		REQUIRE(!server->client_for_dedicated || is_claimed(server->client_for_dedicated, server),
			"a server is opened for a client that does not wait for it");
		REQUIRE(!server->client_for_trial || is_claimed(server->client_for_trial, server),
			"a server is tried for a client that does not wait for it");
		return NULL;
	case POOL_CONN_MOVING:
	case POOL_CONN_CLOSING:
	case POOL_CONN_CLOSED:
		break;
	}
	return "a server on the worker's list has left the pool";
}

const char *audit_client(const struct session_worker *sw, const struct client *client) {
	REQUIRE(client->sw == sw, "a client is on the list of another worker");
	bool wants = client->state == CLIENT_ACTIVE || client->state == CLIENT_WAITING;
	REQUIRE(!wants || (client->claim && client->claim->client == client), "a client has or wants a server, and no claim");
	REQUIRE(wants || !client->claim || client->claim->retrying, "a client that wants no server has a claim");
	if (client->state == CLIENT_ACTIVE) {
		REQUIRE(client->server && client->server->client == client, "an active client has no server of its own");
		REQUIRE(!client->begin_deferred || client->hold == HOLD_PREPARE ||
				client->protocol->server_clean(client->server),
			"a server is at work in a transaction that has not begun");
		return NULL;
	}
	REQUIRE(!client->begin_deferred || !client->keeps_server, "a session that keeps its server has put off its BEGIN");
	REQUIRE(!client->server, "a client that is not active has a server");
	REQUIRE(client->state != CLIENT_WAITING || claim_waits(client->claim), "a waiting client waits for nothing");
	return NULL;
}

/* ---- what is found ---- */

static void count_violation(struct session_worker *sw, const char *what) {
	sw->audit.violations++;
	snprintf(sw->audit.last_violation, sizeof sw->audit.last_violation, "%s", what);
}

static void pool_violation(struct session_worker *sw, const struct database *database, const char *invariant,
			   const char *what) {
	count_violation(sw, what);
	session_count_violation(sw, invariant);
	log_error("invariant_violation",
		  LOG_FIELDS(LOG_TEXT("invariant", invariant), LOG_TEXT("pool", database->name),
			     LOG_NUMBER("worker", sw->worker->id)),
		  "the audit of pool \"%s\" has found: %s", database->name, what);
}

/* What is at fault is closed once the walk that has found it is over: closing changes lists. */
enum { FOUND_MAX = 16 };
struct found {
	struct session_worker *sw;
	struct database *database;
	int servers_n, clients_n;
	struct server *servers[FOUND_MAX];
	struct client *clients[FOUND_MAX];
	const char *server_faults[FOUND_MAX], *client_faults[FOUND_MAX];
	uint32_t count;
};

static void look_at_server(struct found *found, struct server *server) {
	const char *what = audit_server(found->sw, server);
	if (!what || found->servers_n == FOUND_MAX)
		return;
	found->servers[found->servers_n] = server;
	found->server_faults[found->servers_n++] = what;
}

static void look_at_client(struct found *found, struct client *client, const char *what) {
	if (!what)
		what = audit_client(found->sw, client);
	if (!what || found->clients_n == FOUND_MAX)
		return;
	found->clients[found->clients_n] = client;
	found->client_faults[found->clients_n++] = what;
}

/* None of them is freed before this callback is over, whatever the closing of others does. */
static void close_found(struct found *found) {
	for (int i = 0; i < found->servers_n; i++) {
		if (found->servers[i]->state == SERVER_CLOSED)
			continue;
		count_violation(found->sw, found->server_faults[i]);
		server_violation(found->servers[i], "server_state", found->server_faults[i]);
	}
	for (int i = 0; i < found->clients_n; i++) {
		struct client *client = found->clients[i];
		if (client->state == CLIENT_CLOSED || client->closing)
			continue;
		count_violation(found->sw, found->client_faults[i]);
		session_count_violation(found->sw, "client_state");
		log_error("invariant_violation",
			  LOG_FIELDS(LOG_TEXT("invariant", "client_state"),
				     LOG_TEXT("pool", client->database ? client->database->name : ""),
				     LOG_NUMBER("client", client->id)),
			  "closing the client: %s", found->client_faults[i]);
		client_end(client, REFUSAL_INTERNAL, "an internal error was found and logged; connect again");
	}
}

/* ---- a round: first the worker's servers and the clients that want or have one, then its pools ---- */

static uint32_t counted_in_pool(const struct pool_shard *shard) {
	const struct pool_shard_stats *stats = pool_shard_stats(shard);
	return atomic_load_explicit(&stats->opening, memory_order_relaxed) +
	       atomic_load_explicit(&stats->busy, memory_order_relaxed) +
	       atomic_load_explicit(&stats->idle, memory_order_relaxed);
}

static void audit_counts(struct session_worker *sw) {
	uint64_t round = sw->audit.rounds + 1;
	list_for_each(node, &sw->servers) {
		struct database_view *view =
			database_view(list_entry(node, struct server, all)->database, sw->worker->id);
		if (view->audit_round != round)
			view->audit_seen = 0;
		view->audit_round = round;
		view->audit_seen++;
	}
	list_for_each(node, &sw->servers) {
		struct database *database = list_entry(node, struct server, all)->database;
		struct database_view *view = database_view(database, sw->worker->id);
		if (view->audit_seen == counted_in_pool(view->shard))
			continue;
		pool_violation(sw, database, "server_count", "there are not as many servers as the pool counts");
		view->audit_seen = counted_in_pool(view->shard); /* said once */
	}
}

static void audit_servers(struct session_worker *sw) {
	static const enum client_state states[] = {CLIENT_WAITING, CLIENT_ACTIVE};
	struct found found = {.sw = sw};
	audit_counts(sw);
	list_for_each(node, &sw->servers) {
		look_at_server(&found, list_entry(node, struct server, all));
		sw->audit.servers_now++;
	}
	for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
		list_for_each(node, &sw->clients[states[i]]) {
			struct client *client = list_entry(node, struct client, node);
			look_at_client(&found, client,
				       client->state != states[i] ? "a client is on the list of another state" : NULL);
		}
	}
	close_found(&found);
}

static void audit_conn(struct pool_conn *conn, void *context) {
	struct found *found = context;
	struct server *server = container_of(conn, struct server, conn);
	found->count++;
	if (list_linked(&server->all) && server->database == found->database) {
		look_at_server(found, server);
	} else if (found->servers_n < FOUND_MAX) {
		found->servers[found->servers_n] = server;
		found->server_faults[found->servers_n++] = "a connection of the pool is on no worker's list";
	}
}

static void audit_waiter(struct pool_waiter *waiter, void *context) {
	struct found *found = context;
	struct client *client = claim_of(waiter)->client;
	const char *what = NULL;
	if (client->state != CLIENT_WAITING)
		what = "a client that does not wait is in the queue";
	else if (client->database != found->database)
		what = "a client waits in the queue of another pool";
	look_at_client(found, client, what);
	found->sw->audit.waiters_now++;
}

static void audit_pool(struct session_worker *sw, struct database *database) {
	struct pool_shard *shard = database_view(database, sw->worker->id)->shard;
	struct found found = {.sw = sw, .database = database};
	const char *what = pool_shard_audit(shard);
	sw->audit.pools_now++;
	if (what) { /* its lists may be broken: they are not walked */
		pool_violation(sw, database, "pool_counts", what);
		return;
	}
	pool_shard_each_conn(shard, audit_conn, &found);
	pool_shard_each_waiter(shard, audit_waiter, &found);
	close_found(&found);
}

static void round_begins(struct session_worker *sw) {
	struct audit *audit = &sw->audit;
	audit->under_way = true;
	audit->again = false;
	audit->done = NULL;
	audit->began_ns = sw->worker->now_ns;
	audit->pools_now = audit->servers_now = audit->waiters_now = 0;
	audit_servers(sw);
}

static void round_ends(struct session_worker *sw) {
	struct audit *audit = &sw->audit;
	audit->under_way = false;
	audit->rounds++;
	audit->ended_ns = sw->worker->now_ns;
	audit->pools = audit->pools_now;
	audit->servers = audit->servers_now;
	audit->waiters = audit->waiters_now;
}

static void audit_slice(struct timeout *timeout, uint64_t now_ns) {
	struct session_worker *sw = container_of(timeout, struct session_worker, audit.timeout);
	struct audit *audit = &sw->audit;
	uint64_t began_ns = clock_monotonic_ns(), took_ns = 0;
	if (!audit->under_way)
		round_begins(sw);
	while (audit->under_way && took_ns < AUDIT_SLICE_NS) {
		struct database *database = database_next(audit->done);
		if (database)
			audit_pool(sw, database);
		else
			round_ends(sw);
		audit->done = database;
		took_ns = clock_monotonic_ns() - began_ns;
	}
	if (took_ns > audit->longest_slice_ns)
		audit->longest_slice_ns = took_ns;
	uint64_t next_ns = audit->began_ns + AUDIT_INTERVAL_NS;
	if (audit->under_way || audit->again || next_ns <= now_ns)
		worker_timeout(sw->worker, &audit->timeout, AUDIT_PAUSE_NS);
	else
		worker_timeout(sw->worker, &audit->timeout, next_ns - now_ns);
}

void audit_start(struct session_worker *sw) {
	if (sw->audit.started)
		return;
	sw->audit.started = true;
	sw->audit.timeout.expired = audit_slice;
	worker_timeout(sw->worker, &sw->audit.timeout, NS_PER_S);
}

void audit_stop(struct session_worker *sw) {
	if (sw->audit.started)
		worker_timeout_clear(sw->worker, &sw->audit.timeout);
}

void audit_soon(struct session_worker *sw) {
	sw->audit.again = true;
	if (sw->audit.started && !sw->audit.under_way)
		worker_timeout(sw->worker, &sw->audit.timeout, 1);
}
