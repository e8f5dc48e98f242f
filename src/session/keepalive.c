#include "session/keepalive.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "session/claim.h"
#include "session/explain.h"
#include "session/client.h"
#include "session/database.h"
#include "session/server.h"
#include "session/session.h"

/* When too many are tried at once, how long until it is looked again. */
#define AGAIN_NS (20 * NS_PER_MS)

static struct database_view *view_of(struct server *server) {
	return database_view(server->database, server->sw->worker->id);
}

/* ---- a trial ---- */

static void begin(struct server *server, const char *sql, uint64_t limit_ns) {
	server->state = SERVER_VALIDATING;
	server->recovery_done = false;
	worker_timeout(server->sw->worker, &server->timeout, limit_ns ? limit_ns : 1);
	server->protocol->server_validate(server, sql);
}

/* Neither is what it was: on account of keepalive_interval, or for a client. */
static void ended(struct server *server) {
	struct database_view *view = view_of(server);
	if (server->keepalive && view->trials > 0)
		view->trials--;
	server->keepalive = false;
}

void keepalive_settle(struct server *server) {
	if (server->state != SERVER_VALIDATING || !server->recovery_done || server->in_input || server->close_wanted)
		return;
	if (buf_len(&server->in) > 0) {
		server_close(server, "it has sent bytes that nobody has asked for");
		return;
	}
	struct client *client = server->client_for_trial;
	worker_timeout_clear(server->sw->worker, &server->timeout);
	server->checked_ns = server->sw->worker->now_ns;
	server->state = SERVER_IDLE;
	ended(server);
	if (!client) {
		pool_release(&server->conn); /* after which it may be another worker's */
		return;
	}
	server->client_for_trial = NULL;
	client->claim->waiting_trial = NULL;
	client_link(client, server);
	client_wake(client);
}

void keepalive_answered(struct server *server, const char *error) {
	if (server->state != SERVER_VALIDATING)
		return;
	if (error) {
		server_close(server, error);
		return;
	}
	server->recovery_done = true;
	keepalive_settle(server);
}

struct client *keepalive_closed(struct server *server) {
	struct client *client = server->client_for_trial;
	ended(server);
	server->client_for_trial = NULL;
	if (client)
		client->claim->waiting_trial = NULL;
	return client;
}

/* The client's time may be over before that of the trial. */
static bool is_client_late(struct server *server, uint64_t now_ns) {
	return server->client_for_trial && server->client_for_trial->claim->deadline_ns <= now_ns;
}

void keepalive_timed_out(struct server *server) {
	struct worker *worker = server->sw->worker;
	uint64_t now_ns = worker->now_ns;
	if (now_ns < server->trial_ends_ns) { /* it was armed for its client, whose time is over or which has left */
		struct client *client = is_client_late(server, now_ns) ? server->client_for_trial : NULL;
		char text[EXPLANATION_ROOM];
		worker_timeout(worker, &server->timeout, server->trial_ends_ns - now_ns);
		if (!client)
			return;
		keepalive_forget(client);
		enum refusal refusal = explain_failure(&client->claim->waiter, POOL_FAIL_TIMEOUT, text, sizeof text);
		client_not_served(client, refusal, text);
		return;
	}
	log_info("validation_timeout",
		 LOG_FIELDS(LOG_TEXT("pool", server->database->name), LOG_TEXT("server", server->host_text),
			    LOG_NUMBER("id", server->id)),
		 "a connection that was idle does not answer within validation_timeout: it is closed");
	server->broke = true; /* nor will it hang up */
	server_close(server, server->keepalive ? "keepalive: it did not answer within validation_timeout"
					       : "it did not answer validation_query within validation_timeout");
}

void keepalive_forget(struct client *client) {
	struct server *server = client->claim ? client->claim->waiting_trial : NULL;
	if (!server)
		return;
	client->claim->waiting_trial = NULL;
	server->client_for_trial = NULL; /* when it has answered, it goes to whoever is next */
}

/* ---- before a client gets it ---- */

bool keepalive_admit(struct server *server, struct client *client, bool *gone) {
	const struct pool_config *config = view_of(server)->config;
	uint64_t now_ns = server->sw->worker->now_ns;
	*gone = false;
	/* it may come from another worker, whose clock was read a moment later */
	if (now_ns < server->checked_ns + config->alive_bypass_window)
		return true;
	/* a readable socket means that it is dead, or that it holds bytes which are nobody's */
	if (!stream_quiet(&server->stream)) {
		server_close(server, "it was closed, or has spoken, while it was idle");
		*gone = true;
		return false;
	}
	/* one that has just logged in has proved it */
	bool fresh = server->transactions == 0 && now_ns < server->connected_ns + NS_PER_S;
	if (!config->validation_query || client->dedicated || fresh)
		return true;
	uint64_t limit_ns = config->validation_timeout, deadline_ns = client->claim->deadline_ns;
	server->trial_ends_ns = now_ns + limit_ns;
	if (deadline_ns != TIME_NEVER && deadline_ns < server->trial_ends_ns)
		limit_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 1;
	server->client_for_trial = client;
	client->claim->waiting_trial = server;
	client->claim->waiter.shard = server->conn.shard; /* explain_failure() asks them */
	client->claim->waiter.user = client->user;
	client->claim->waiter.since_ns = client->request_ns;
	client->hold = HOLD_SERVER;
	client_set_state(client, CLIENT_WAITING);
	begin(server, config->validation_query, limit_ns);
	return false;
}

/* ---- now and then ---- */

/* When an idle one is to be tried: a part of up to a tenth of the interval earlier, by its number, so that those opened
 * together are not tried together. */
static uint64_t due_at(const struct server *server, uint64_t interval_ns) {
	uint64_t part = (server->id * 2654435761u) % 1024;
	return server->checked_ns + interval_ns - interval_ns / 10 * part / 1024;
}

struct search {
	struct database_view *view;
	uint64_t now_ns, interval_ns, next_ns;
};

/* Within the walk: when it is over, an idle server may be on its way to another worker. */
static void look_at(struct pool_conn *conn, void *context) {
	struct search *search = context;
	struct server *server = container_of(conn, struct server, conn);
	if (conn->state != POOL_CONN_IDLE || server->state != SERVER_IDLE)
		return;
	struct database_view *view = search->view;
	uint64_t due_ns = due_at(server, search->interval_ns);
	if (due_ns > search->now_ns || view->trials >= KEEPALIVE_AT_ONCE) {
		due_ns = due_ns > search->now_ns ? due_ns : search->now_ns + AGAIN_NS;
		search->next_ns = due_ns < search->next_ns ? due_ns : search->next_ns;
		return;
	}
	pool_conn_take(conn);
	if (conn->state != POOL_CONN_BUSY)
		return;
	server->keepalive = true;
	view->trials++;
	server->trial_ends_ns = search->now_ns + view->config->validation_timeout;
	begin(server, NULL, view->config->validation_timeout);
}

static void timer_expired(struct timeout *timeout, uint64_t now_ns) {
	struct database_view *view = container_of(timeout, struct database_view, keepalive);
	struct session_worker *sw = session_worker(pool_shard_index(view->shard));
	uint64_t interval_ns = view->config ? view->config->keepalive_interval : 0;
	(void)now_ns;
	if (!interval_ns)
		return;
	/* what is idle later is not due before this */
	struct search search = {.view = view,
				.now_ns = sw->worker->now_ns,
				.interval_ns = interval_ns,
				.next_ns = sw->worker->now_ns + interval_ns - interval_ns / 10};
	pool_shard_each_conn(view->shard, look_at, &search);
	uint64_t after_ns = search.next_ns > search.now_ns ? search.next_ns - search.now_ns : AGAIN_NS;
	worker_timeout(sw->worker, timeout, after_ns);
}

void keepalive_arm(struct session_worker *sw, struct database_view *view) {
	uint64_t interval_ns = view->config->keepalive_interval;
	view->keepalive.expired = timer_expired;
	if (!interval_ns) {
		worker_timeout_clear(sw->worker, &view->keepalive);
		return;
	}
	/* a shorter interval than before may make some due at once */
	worker_timeout(sw->worker, &view->keepalive, interval_ns < NS_PER_S ? interval_ns : NS_PER_S);
}
