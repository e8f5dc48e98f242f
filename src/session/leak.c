#include "session/leak.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "config/text_units.h"
#include "session/claim.h"
#include "session/client.h"
#include "session/console.h"
#include "session/database.h"
#include "session/server.h"
#include "session/session.h"
#include "session/watch.h"

static uint64_t now_of(const struct client *client) {
	return client->sw->worker->now_ns;
}

static struct database_view *view_of(const struct client *client) {
	return database_view(client->database, client->sw->worker->id);
}

static struct pool_shard_stats *stats_of(const struct client *client) {
	return pool_shard_stats_mut(client->shard);
}

const char *leak_cause(const struct leak *leak) {
	static const char *const causes[] = {
		[SERVER_IN_USE] = "in use",
		[SERVER_HELD_SESSION] = "idle session while others wait",
		[SERVER_HELD_TRANSACTION] = "idle in transaction",
		[SERVER_HELD_FAILED] = "idle in a failed transaction",
		[SERVER_HELD_BATCH] = "idle in an unfinished batch",
		[SERVER_HELD_COPY] = "idle in a copy",
		[SERVER_HELD_MESSAGE] = "idle in the midst of a message",
	};
	return causes[leak->use];
}

const char *leak_state(const struct leak *leak) {
	static const char *const states[] = {
		[LEAK_CURRENT] = "leaking",          [LEAK_RETURNED] = "returned",
		[LEAK_FINISHED] = "finished",        [LEAK_USED_AGAIN] = "used again",
		[LEAK_UNWANTED] = "nobody waits",    [LEAK_CLIENT_LEFT] = "client left",
		[LEAK_CLOSED] = "client was closed", [LEAK_LOST] = "connection lost",
	};
	return states[leak->end];
}

uint64_t leak_unused_ns(const struct leak *leak) {
	const struct client *client = leak->client;
	if (!client || !client->server)
		return leak->unused_ns;
	uint64_t now_ns = now_of(client), used_ns = client->server->used_ns;
	uint64_t unused_ns = now_ns > used_ns ? now_ns - used_ns : 0;
	return unused_ns > leak->unused_ns ? unused_ns : leak->unused_ns;
}

void leaks_init(struct leaks *leaks) {
	list_init(&leaks->current);
	list_init(&leaks->ended);
	leaks->ended_count = 0;
}

static void free_all(struct list *list) {
	for (struct list *node; (node = list_pop_front(list));)
		free(list_entry(node, struct leak, node));
}

void leaks_free(struct leaks *leaks) {
	free_all(&leaks->current);
	free_all(&leaks->ended);
	leaks->ended_count = 0;
}

/* ---- when ---- */

static bool others_wait(const struct client *client) {
	const struct database *database = client->database;
	uint64_t now_ns = now_of(client);
	for (int i = 0; i < database->workers; i++) {
		const struct pool_shard_stats *stats = pool_shard_stats(pool_shard(database->pool, i));
		uint64_t since_ns = atomic_load_explicit(&stats->oldest_wait_ns, memory_order_relaxed);
		if (since_ns < now_ns && now_ns - since_ns >= LEAK_WAIT_NS)
			return true;
	}
	return false;
}

uint64_t leak_next(const struct client *client) {
	const struct server *server = client->server;
	if (!server || client->dedicated)
		return TIME_NEVER;
	uint64_t now_ns = now_of(client);
	const struct leak *leak = client->claim->leak;
	if (leak && leak->use == SERVER_HELD_SESSION) /* that nobody waits any more is not told */
		return others_wait(client) ? now_ns + LEAK_LOOK_NS : now_ns;
	if (leak)
		return TIME_NEVER;
	uint64_t threshold = view_of(client)->config->leak_detection_threshold;
	if (threshold == 0)
		return TIME_NEVER;
	uint64_t due_ns = server->used_ns + threshold;
	if (due_ns > now_ns)
		return due_ns; /* whatever becomes of what is under way, not before */
	switch (client->hold == HOLD_PREPARE ? SERVER_IN_USE : server->protocol->server_use(server)) {
	case SERVER_IN_USE:
		return now_ns + threshold;
	case SERVER_HELD_SESSION:
		if (!client->keeps_server)
			return now_ns + threshold; /* on its way back */
		return others_wait(client) ? due_ns : now_ns + LEAK_LOOK_NS;
	default:
		return due_ns;
	}
}

/* ---- the report ---- */

static struct leak *leak_new(struct client *client, enum server_use use) {
	struct server *server = client->server;
	struct leak *leak = calloc(1, sizeof *leak);
	if (!leak)
		return NULL;
	struct console_details of_client = {0}, of_server = {0};
	if (client->protocol->client_describe)
		client->protocol->client_describe(client, &of_client);
	if (server->protocol->server_describe)
		server->protocol->server_describe(server, &of_server);
	leak->client = client;
	leak->use = use;
	leak->pool = client->database->name;
	snprintf(leak->user, sizeof leak->user, "%s", pool_user_name(client->user));
	stream_peer_text(&client->peer, leak->address);
	snprintf(leak->application_name, sizeof leak->application_name, "%s", of_client.application_name);
	snprintf(leak->host, sizeof leak->host, "%s", server->host_text);
	leak->client_id = client->id;
	leak->backend_pid = of_server.backend_pid;
	leak->transactions = client->transactions;
	server->protocol->server_statements(server, client->sw->generation->config->statement_text, &leak->statements);
	/* what holds a session's connection is its transaction, unless it has none */
	bool of_transaction = client->keeps_server && use != SERVER_HELD_SESSION && leak->statements.since_ns;
	leak->held_since_ns = of_transaction ? leak->statements.since_ns : client->claim->linked_ns;
	leak->reported_ns = now_of(client);
	return leak;
}

#define LEAK_FIELDS(l, held)                                                                                           \
	LOG_FIELDS(LOG_TEXT("pool", (l)->pool), LOG_TEXT("user", (l)->user), LOG_TEXT("client", (l)->address),         \
		   LOG_NUMBER("id", (l)->client_id), LOG_TEXT("application_name", (l)->application_name),              \
		   LOG_NUMBER("held_ms", (held) / NS_PER_MS), LOG_TEXT("first_statement", (l)->statements.first),      \
		   LOG_TEXT("last_statement", (l)->statements.last), LOG_NUMBER("transactions", (l)->transactions),    \
		   LOG_NUMBER("backend_pid", (l)->backend_pid), LOG_TEXT("server", (l)->host))

static void tell_begin(const struct leak *leak, enum leak_action action) {
	char held[16], unused[16];
	uint64_t held_ns = leak->reported_ns - leak->held_since_ns;
	duration_say(held_ns, held, sizeof held);
	duration_say(leak_unused_ns(leak), unused, sizeof unused);
	log_warning("leak_detected", LEAK_FIELDS(leak, held_ns),
		    "client %s (id %u, app=%s) has held a connection of pool \"%s\" for %s and left it unused for %s: %s%s",
		    leak->address, leak->client_id, leak->application_name, leak->pool, held, unused, leak_cause(leak),
		    action == LEAK_ACTION_CLOSE ? "; it is taken back (leak_action = close)" : "");
}

static void tell_end(const struct leak *leak) {
	char held[16];
	uint64_t held_ns = leak->ended_ns - leak->held_since_ns;
	duration_say(held_ns, held, sizeof held);
	log_info("leak_ended", LEAK_FIELDS(leak, held_ns),
		 "the leaked connection of pool \"%s\" held by client %s (id %u, app=%s): %s after %s", leak->pool,
		 leak->address, leak->client_id, leak->application_name, leak_state(leak), held);
}

static void leak_over(struct client *client, enum leak_end end) {
	struct leaks *leaks = &client->sw->leaks;
	struct leak *leak = client->claim->leak;
	leak->unused_ns = leak_unused_ns(leak);
	leak->client = NULL;
	leak->end = end;
	leak->ended_ns = now_of(client);
	client->claim->leak = NULL;
	list_remove(&leak->node);
	list_push_front(&leaks->ended, &leak->node);
	if (++leaks->ended_count > LEAKS_KEPT) {
		struct leak *oldest = list_entry(list_last(&leaks->ended), struct leak, node);
		list_remove(&oldest->node);
		leaks->ended_count--;
		free(oldest);
	}
	atomic_fetch_sub_explicit(&stats_of(client)->leaked, 1, memory_order_relaxed);
	tell_end(leak);
}

static void take_back(struct client *client) {
	const struct pool_config *config = view_of(client)->config;
	const struct leak *leak = client->claim->leak;
	char unused[16], threshold[32], text[400];
	duration_say(leak_unused_ns(leak), unused, sizeof unused);
	duration_format(config->leak_detection_threshold, threshold, sizeof threshold);
	bool session = leak->use == SERVER_HELD_SESSION;
	snprintf(text, sizeof text,
		 "pool \"%s\": the connection was left unused for %s (%s), longer than leak_detection_threshold (%s), and is "
		 "taken back (leak_action = close); %s",
		 leak->pool, unused, leak_cause(leak), threshold,
		 session ? "disconnect when idle, use pool_mode = transaction or raise leak_detection_threshold"
			 : "commit or roll back in time, or raise leak_detection_threshold");
	client_end(client, session ? REFUSAL_IDLE_TIMEOUT : REFUSAL_LEAK, text);
}

void leak_due(struct client *client) {
	struct server *server = client->server;
	if (client->claim->leak) {
		if (!others_wait(client))
			leak_over(client, LEAK_UNWANTED);
		return;
	}
	enum server_use use = server->protocol->server_use(server);
	if (use == SERVER_IN_USE || (use == SERVER_HELD_SESSION && !others_wait(client)))
		return;
	enum leak_action action = view_of(client)->config->leak_action;
	client->claim->leak = leak_new(client, use);
	if (!client->claim->leak) { /* out of memory: when as much time has gone by again */
		server->used_ns = now_of(client);
		return;
	}
	list_push_front(&client->sw->leaks.current, &client->claim->leak->node);
	stat_add(&stats_of(client)->leaks, 1);
	atomic_fetch_add_explicit(&stats_of(client)->leaked, 1, memory_order_relaxed);
	tell_begin(client->claim->leak, action);
	if (action == LEAK_ACTION_CLOSE)
		take_back(client);
}

/* ---- its end ---- */

void leak_used(struct client *client) {
	struct leak *leak = client->claim->leak;
	if (leak) {
		leak->unused_ns = leak_unused_ns(leak);
		if (leak->use == SERVER_HELD_SESSION)
			leak_over(client, LEAK_USED_AGAIN);
	}
	client->server->used_ns = now_of(client);
	if (leak && !client->claim->leak)
		client_watch(client);
}

void leak_freed(struct client *client) {
	if (!client->claim->leak || client->claim->leak->use == SERVER_HELD_SESSION)
		return;
	leak_over(client, LEAK_FINISHED);
	client_watch(client);
}

void leak_unlinked(struct client *client) {
	if (!client->claim->leak)
		return;
	if (client->server->state == SERVER_CLOSED)
		leak_over(client, LEAK_LOST);
	else if (client->closing)
		leak_over(client, LEAK_CLOSED);
	else
		leak_over(client, client->state == CLIENT_CLOSED ? LEAK_CLIENT_LEFT : LEAK_RETURNED);
}
