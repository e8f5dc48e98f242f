#include "session/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cache.h"
#include "base/clock.h"
#include "base/log.h"
#include "session/backend.h"
#include "session/cancel.h"
#include "session/claim.h"
#include "session/client.h"
#include "session/database.h"
#include "session/keepalive.h"
#include "session/leak.h"
#include "session/session.h"

/* How long a backend may take to hang up on a connection that we have closed, and what it may send meanwhile. */
#define LINGER_NS (5 * NS_PER_S)
#define LINGER_BYTES_MAX (1024 * 1024)

/* One that breaks unused within this time has hardly been open. */
#define SHORT_LIFE_NS NS_PER_S

static void server_gone(struct server *server);

static struct server *server_of(struct stream *stream) {
	return container_of(stream, struct server, stream);
}

static struct database_view *view_of(struct server *server) {
	return database_view(server->database, server->sw->worker->id);
}

const char *server_state_name(enum server_state state) {
	static const char *const names[] = {"resolving", "connecting", "login",	 "setup", "idle",
					    "active",	 "recovering", "fenced", "validating", "closed"};
	return names[state];
}

#define SERVER_FIELDS(s)                                                                                               \
	LOG_FIELDS(LOG_TEXT("pool", (s)->database->name), LOG_TEXT("user", pool_user_name((s)->conn.user)),            \
		   LOG_TEXT("server", (s)->host_text), LOG_NUMBER("id", (s)->id))

/* ---- reading ---- */

void server_gate(struct server *server) {
	if (server->state == SERVER_CLOSED)
		return;
	if (server->client && stream_pending(&server->client->stream) > OUTPUT_HIGH_WATER)
		stream_pause(&server->stream);
	else
		stream_resume(&server->stream);
}

static void server_close_now(struct server *server, const char *reason);

/* Whatever the protocol did to its connections meanwhile takes effect when its input is off the stack. */
static bool server_input_over(struct server *server) {
	server->in_input = false;
	if (server->close_wanted)
		server_close_now(server, server->close_reason);
	return server->state != SERVER_CLOSED;
}

/* An answer may be its client's last before it is given back: what that touches comes into the cache while the kernel copies it. */
static void fetch_ahead(const struct server *server) {
	const struct client *client = server->client;

	pool_fetch(server->conn.shard, server->conn.user);
	/* ... and of the protocols' halves behind them the beginnings */
	cache_fetch(&client->stream, sizeof(*client) - offsetof(struct client, stream) + CACHE_LINE);
	cache_fetch(server + 1, 2 * CACHE_LINE);
}

static void server_receive(struct server *server) {
	struct worker *worker = server->sw->worker;
	uint8_t *into = worker->scratch;
	/* what the client does not take is kept for it: one that is slow is not fed in large steps */
	bool slow = server->client && stream_pending(&server->client->stream) > 0;
	size_t room = slow ? WORKER_READ_SIZE : stream_room(&server->stream);
	bool kept = buf_len(&server->in) > 0;
	if (kept) {
		if (!buf_reserve(worker->buffers, &server->in, 8 * 1024)) {
			server_close(server, "out of memory");
			return;
		}
		into = server->in.data + server->in.end;
		room = server->in.cap - server->in.end;
	}
	if (server->client)
		fetch_ahead(server);
	ssize_t n = stream_recv(&server->stream, into, room);
	if (n == STREAM_AGAIN) {
		server_maybe_release(server);
		return;
	}
	if (n <= 0) {
		server->broke = true;
		const char *reason = n == STREAM_EOF ? "the backend closed the connection" : stream_error(&server->stream);
		if (server->state < SERVER_SETUP)
			server_failed(server, SERVER_UNREACHABLE, reason);
		else
			server_close(server, reason);
		return;
	}
	stat_add(&pool_shard_stats_mut(server->conn.shard)->server_bytes, (uint64_t)n);
	if (server->client && server->protocol->server_busy(server))
		server->used_ns = worker->now_ns;
	server->in_input = true;
	if (kept) {
		server->in.end += (uint32_t)n;
		size_t used = server->protocol->server_input(server, buf_bytes(&server->in), buf_len(&server->in));
		if (!server_input_over(server))
			return;
		buf_consume(worker->buffers, &server->in, used);
	} else {
		size_t used = server->protocol->server_input(server, into, (size_t)n);
		if (!server_input_over(server))
			return;
		if (used < (size_t)n && !buf_append(worker->buffers, &server->in, into + used, (size_t)n - used)) {
			server_close(server, "out of memory");
			return;
		}
	}
	server_gate(server);
	/* Either may hand it to another worker: nothing may touch it afterwards. */
	if (server->ready_wanted)
		server_ready(server);
	else
		server_maybe_release(server);
}

static void server_on_ready(struct stream *stream, int events) {
	struct server *server = server_of(stream);
	if (server->state == SERVER_CLOSED)
		return;
	if (events & STREAM_FAILED) {
		server->broke = true;
		if (server->state < SERVER_SETUP)
			server_failed(server, SERVER_UNREACHABLE, stream_error(stream));
		else
			server_close(server, stream_error(stream));
		return;
	}
	if (events & STREAM_CONNECTED) {
		if (server->state == SERVER_CONNECTING) {
			server->state = SERVER_LOGIN;
			server->protocol->server_begin(server);
		} else {
			server->protocol->server_secured(server);
		}
	}
	if ((events & STREAM_DRAINED) && server->state != SERVER_CLOSED) {
		if (server->client)
			client_gate(server->client);
		if (!(events & STREAM_READABLE)) {
			server_maybe_release(server); /* after which it may be another worker's */
			return;
		}
	}
	if ((events & STREAM_READABLE) && server->state != SERVER_CLOSED)
		server_receive(server);
}

/* ---- opening ---- */

static void server_free_deferred(struct deferred *deferred) {
	struct server *server = container_of(deferred, struct server, deferred);
	free(server);
}

static void server_resolved(struct resolver_query *query, const struct resolved *answer) {
	struct server *server = query->context;
	bool cancelled = query->cancelled;
	free(query);
	if (cancelled)
		return;
	server->resolving = NULL;
	char text[600];
	if (!answer || answer->count == 0) {
		snprintf(text, sizeof text, "cannot resolve %s: %.400s", server->host_text,
			 answer ? answer->error.text : "no answer");
		server_failed(server, SERVER_UNREACHABLE, text);
		return;
	}
	int at = server->backend ? backend_pick_address(server->backend, answer, server->id, server->sw->worker->now_ns)
				 : (int)(server->id % (uint32_t)answer->count);
	server->address = answer->at[at].address;
	server->address_len = answer->at[at].len;
	server->state = SERVER_CONNECTING;
	bool tcp = server->address.ss_family != AF_UNIX;
	if (!stream_connect(&server->stream, server->sw->worker, (struct sockaddr *)&server->address,
			    server->address_len, server_on_ready)) {
		snprintf(text, sizeof text, "cannot connect to %s: %s", server->host_text,
			 stream_error(&server->stream));
		server_failed(server, SERVER_UNREACHABLE, text);
	} else if (tcp) {
		struct tcp_silence silence = generation_silence(view_of(server)->generation);
		tcp_set_silence(server->stream.fd, &silence);
	}
}

static void server_start(struct deferred *deferred) {
	struct server *server = container_of(deferred, struct server, later);
	struct database_view *view = view_of(server);
	const struct pool_config *config = view->config;
	const struct config_address *host = database_host(view, server->conn.host);
	if (!host) {
		server_failed(server, SERVER_GIVEN_UP, "its host is not configured any more");
		return;
	}
	backend_name(host, server->host_text, sizeof server->host_text);
	server->backend = backend_get(server->protocol->id, host);
	server->address_len = 0;
	worker_timeout(server->sw->worker, &server->timeout, config->connect_timeout);
	struct resolver_query *query = calloc(1, sizeof *query);
	if (!query) {
		server_failed(server, SERVER_UNREACHABLE, "out of memory");
		return;
	}
	query->context = server;
	query->done = server_resolved;
	server->resolving = query;
	resolver_ask(query, server->sw->worker, host->host, host->port, server->protocol->unix_name_format);
}

static void server_timed_out(struct timeout *timeout, uint64_t now_ns) {
	(void)now_ns;
	struct server *server = container_of(timeout, struct server, timeout);
	char text[256];
	if (server->lingers) {
		server_gone(server);
	} else if (server->state < SERVER_IDLE) {
		snprintf(text, sizeof text, "%s did not let us in within connect_timeout (it was %s)", server->host_text,
			 server_state_name(server->state));
		server->overdue = true;
		server_failed(server, SERVER_UNREACHABLE, text);
	} else if (server->state == SERVER_VALIDATING) {
		keepalive_timed_out(server);
	} else if (server->state == SERVER_ACTIVE) {
		if (!server->client || server->client->hold != HOLD_PREPARE)
			return; /* it was made ready in time */
		server->broke = true;
		server_close(server, "it did not answer when it was made ready for a client");
	} else {
		server_close(server, server->state == SERVER_FENCED ? "a cancel request took longer than recovery_timeout"
								    : "it was not clean within recovery_timeout");
	}
}

bool server_open(struct pool_shard *shard, struct pool_user *user, int host) {
	struct database *database = database_of_shard(shard);
	struct session_worker *sw = session_worker(pool_shard_index(shard));
	struct server *server = database_adopt(sw, database) ? calloc(1, database->protocol->server_size) : NULL;
	if (!server)
		return false;
	server->protocol = database->protocol;
	server->sw = sw;
	server->database = database;
	server->stream.fd = -1;
	server->id = atomic_fetch_add(&session_totals()->next_id, 1) + 1;
	server->timeout.expired = server_timed_out;
	server->deferred.run = server_free_deferred;
	server->later.run = server_start;
	list_init(&server->deferred.node);
	list_init(&server->later.node);
	list_init(&server->cancels);
	list_init(&server->all);
	list_push_back(&sw->servers, &server->all);
	server->connected_ns = server->request_ns = sw->worker->now_ns;
	server->not_opened = POOL_CONNECT_GIVEN_UP;
	pool_conn_init(&server->conn, shard, user, host);
	worker_defer(sw->worker, &server->later);
	return true;
}

void server_ready(struct server *server) {
	server->ready_wanted = server->in_input; /* what it sends behind its login must be sound, too */
	if (server->in_input)
		return;
	worker_timeout_clear(server->sw->worker, &server->timeout);
	server->login_ok = server->admitted = true;
	server->connected_ns = server->checked_ns = server->sw->worker->now_ns;
	if (server->backend)
		backend_address_works(server->backend, &server->address);
	log_debug("server_opened", SERVER_FIELDS(server), "logged in to the backend");
	if (server->client_for_dedicated) {
		struct client *client = server->client_for_dedicated;
		server->client_for_dedicated = NULL;
		client->claim->waiting_dedicated = NULL;
		client_link(client, server);
		client_wake(client);
		return;
	}
	server->state = SERVER_IDLE;
	pool_conn_opened(&server->conn);
}

static enum pool_connect_failure connect_failure_of(const struct server *server, enum server_failure why) {
	switch (why) {
	case SERVER_NOT_READY:
		return POOL_CONNECT_NOT_READY;
	case SERVER_FULL:
		return POOL_CONNECT_FULL;
	case SERVER_GIVEN_UP:
		return POOL_CONNECT_GIVEN_UP;
	case SERVER_REFUSED:
		return POOL_CONNECT_LOGIN;
	case SERVER_UNREACHABLE:
		break;
	}
	if (server->overdue)
		return POOL_CONNECT_TIMEOUT;
	if (server->state == SERVER_RESOLVING)
		return POOL_CONNECT_RESOLVE;
	if (server->state == SERVER_CONNECTING)
		return POOL_CONNECT_REFUSED;
	return server->broke ? POOL_CONNECT_LOST : POOL_CONNECT_LOGIN;
}

void server_failed(struct server *server, enum server_failure why_failed, const char *text) {
	static const enum pool_open_failure failures[] = {[SERVER_UNREACHABLE] = POOL_OPEN_FAILED,
							  [SERVER_NOT_READY] = POOL_OPEN_NOT_READY,
							  [SERVER_FULL] = POOL_OPEN_FULL,
							  [SERVER_GIVEN_UP] = POOL_OPEN_NO_FAULT,
							  [SERVER_REFUSED] = POOL_OPEN_NO_FAULT};
	if (server->state == SERVER_CLOSED || server->close_wanted)
		return;
	struct pool_shard *shard = server->conn.shard;
	struct pool_user *user = pool_user_ref(server->conn.user);
	char why[400];
	snprintf(why, sizeof why, "%s", text);
	log_warning("server_connect_failed", SERVER_FIELDS(server), "cannot open a connection to the backend: %s", why);
	char sqlstate[6], before[8];
	account_get_error(account_of(user), sqlstate, before, sizeof before);
	account_set_error(account_of(user), why_failed == SERVER_REFUSED ? sqlstate : "", why);
	/* one that is full answers, and more questions would not make it emptier */
	if (server->backend && why_failed != SERVER_REFUSED && why_failed != SERVER_FULL &&
	    why_failed != SERVER_GIVEN_UP) {
		if (server->address_len)
			backend_address_failed(server->backend, &server->address, server->sw->worker->now_ns);
		backend_suspect(server->backend, server->state > SERVER_CONNECTING);
	}
	struct client *client = server->client_for_dedicated;
	server->client_for_dedicated = NULL;
	if (client)
		client->claim->waiting_dedicated = NULL;
	server->failure = failures[why_failed];
	server->not_opened = connect_failure_of(server, why_failed);
	if (why_failed == SERVER_REFUSED) { /* this user's misfortune alone: the host need not be left in peace */
		pool_user_failed(shard, user);
	}
	server_close(server, why);
	if (client)
		client_not_served(client, REFUSAL_UNAVAILABLE, why);
	pool_user_unref(user);
}

/* ---- a connection of one client's own ---- */

void server_dedicate(struct server *server, struct client *client) {
	struct worker *worker = server->sw->worker;
	server->protocol->server_goodbye(server);
	stream_close(&server->stream);
	server->protocol->server_free(server);
	buf_release(worker->buffers, &server->in);
	server->dedicated = true;
	server->login_ok = server->admitted = false;
	server->state = SERVER_RESOLVING;
	server->client_for_dedicated = client;
	server->client = NULL;
	client->server = NULL;
	client->claim->waiting_dedicated = server;
	worker_defer(worker, &server->later);
}

/* ---- closing ---- */

void server_close(struct server *server, const char *reason) {
	if (server->state == SERVER_CLOSED || server->close_wanted)
		return;
	if (server->in_input) { /* the protocol is walking its bytes: when it is done */
		server->close_wanted = true;
		snprintf(server->close_text, sizeof server->close_text, "%.255s", reason);
		server->close_reason = server->close_text;
		return;
	}
	server_close_now(server, reason);
}

bool server_untouched(const struct server *server) {
	const struct client *client = server->client;
	if (!client || client->closing || server->dedicated)
		return false;
	/* one that has been at work on it has left its state or its transaction there, also while it is made ready anew */
	bool fresh = client->answered_ns == client->claim->linked_ns;
	return client->hold == HOLD_PREPARE ? fresh
					    : !client->keeps_server && server->protocol->server_clean(server);
}

/* For the statistics: why one that was open has been closed. */
static enum pool_end end_of(const struct server *server) {
	if (server->violated)
		return POOL_END_VIOLATION;
	if (server->sw->stopping)
		return POOL_END_REMOVED;
	if (server->broke || server->dismissed)
		return POOL_END_LOST;
	if (server->conn.reason && pool_end_of(server->conn.reason) != POOL_END_OTHER)
		return pool_end_of(server->conn.reason);
	if (server->dedicated)
		return POOL_END_DEDICATED;
	switch (server->closed_in) {
	case SERVER_RECOVERING:
	case SERVER_FENCED:
		return POOL_END_RECOVERY;
	case SERVER_VALIDATING:
		return POOL_END_VALIDATION;
	case SERVER_IDLE: /* it has spoken, and nobody had asked */
		return POOL_END_LOST;
	default:
		return POOL_END_OTHER;
	}
}

/* Its memory goes, and its permit is given back. */
static void server_gone(struct server *server) {
	struct worker *worker = server->sw->worker;
	enum pool_open_failure failure = server->failure;
	/* one that breaks before it was of any use is as good as one that could not be opened */
	uint64_t lived_ns = worker->now_ns - server->connected_ns;
	if (server->login_ok && server->broke && server->transactions == 0 && lived_ns < SHORT_LIFE_NS)
		failure = POOL_OPEN_FAILED;
	struct pool_shard_stats *stats = pool_shard_stats_mut(server->conn.shard);
	if (server->conn.opened)
		stat_add(&stats->ends[end_of(server)], 1);
	else
		stat_add(&stats->connect_failures[server->not_opened], 1);
	server->lingers = false;
	list_remove(&server->all);
	worker_timeout_clear(worker, &server->timeout);
	stream_close(&server->stream);
	pool_conn_closed(&server->conn, failure);
	worker_defer(worker, &server->deferred);
}

static void server_on_linger(struct stream *stream, int events) {
	struct server *server = server_of(stream);
	struct worker *worker = server->sw->worker;
	if (!server->lingers)
		return;
	if (events & STREAM_FAILED) {
		server_gone(server);
	} else if (events & STREAM_READABLE) {
		ssize_t n = stream_recv(stream, worker->scratch, WORKER_SCRATCH_SIZE);
		if (n == STREAM_AGAIN)
			return;
		server->linger_bytes += n > 0 ? (uint64_t)n : 0;
		if (n <= 0 || server->linger_bytes > LINGER_BYTES_MAX)
			server_gone(server);
	}
}

/*
 * A backend takes a moment to end when its connection is closed, and counts as a connection until it has. So we close our
 * side for writing only and keep the permit until it has hung up, within bounds: then no database ever sees more
 * connections than max_size. One that is broken, or cannot be told, has nobody to wait for.
 */
static void server_linger(struct server *server) {
	struct stream *stream = &server->stream;
	bool can_wait = server->admitted && !server->broke && !server->sw->stopping &&
			!pool_host_is_down(server->database->pool, server->conn.host) && stream->fd >= 0 &&
			!stream->error && stream_flush(stream) && stream_pending(stream) == 0;
	if (!can_wait || shutdown(stream->fd, SHUT_WR) != 0) {
		server_gone(server);
		return;
	}
	server->lingers = true;
	stream->on_ready = server_on_linger;
	stream_resume(stream);
	worker_timeout(server->sw->worker, &server->timeout, LINGER_NS);
	list_remove(&server->all);
	list_push_back(&server->sw->lingering, &server->all);
	pool_conn_closing(&server->conn);
}

void server_stop(struct server *server) {
	server_close(server, "the process stops");
	if (server->lingers)
		server_gone(server);
}

static void server_close_now(struct server *server, const char *reason) {
	struct worker *worker = server->sw->worker;
	struct client *client = server->client;
	struct client *tried_for = server->state == SERVER_VALIDATING ? keepalive_closed(server) : NULL;
	bool untouched = server_untouched(server);
	if (server->login_ok && server->broke)
		backend_suspect(server->backend, true);
	if (server->login_ok)
		log_debug("server_closed", SERVER_FIELDS(server), "connection to the backend closed: %s", reason);
	if (server->admitted && !server->client)
		server->protocol->server_goodbye(server);
	server->closed_in = server->state;
	server->state = SERVER_CLOSED;
	list_remove(&server->later.node);
	worker_timeout_clear(worker, &server->timeout);
	cancel_fence(server);
	list_for_each_safe (node, &server->cancels) {
		struct cancel *cancel = container_of(node, struct cancel, node);
		list_remove(&cancel->node);
		cancel->server = NULL;
	}
	if (server->resolving) {
		server->resolving->cancelled = true;
		server->resolving = NULL;
	}
	struct client *promised = server->client_for_dedicated;
	server->client_for_dedicated = NULL;
	if (promised)
		promised->claim->waiting_dedicated = NULL;
	if (client && untouched) {
		client_lose_untouched(client);
	} else if (client) {
		client_unlink(client);
		char text[600];
		snprintf(text, sizeof text, "the connection to the backend was lost: %s", reason);
		if (!client->closing && client->state != CLIENT_CLOSED)
			client_end(client, REFUSAL_BACKEND_LOST, text);
	}
	server->protocol->server_free(server);
	buf_release(worker->buffers, &server->in);
	server_linger(server);
	if (tried_for)
		client_try_another(tried_for);
}

void server_violation(struct server *server, const char *invariant, const char *detail) {
	server->broke = server->violated = true;
	session_count_violation(server->sw, invariant);
	log_error("invariant_violation",
		  LOG_FIELDS(LOG_TEXT("invariant", invariant), LOG_TEXT("pool", server->database->name),
			     LOG_TEXT("server", server->host_text), LOG_NUMBER("id", server->id),
			     LOG_NUMBER("client", server->client ? server->client->id : 0)),
		  "closing the server connection and its client: %s", detail);
	server_close(server, detail);
}

bool server_learned_role(struct server *server, enum pool_role role) {
	const struct pool_config *config = view_of(server)->config;
	bool wanted = config->target == HOST_TARGET_ANY || config->target == HOST_TARGET_PREFER_STANDBY ||
		      (config->target == HOST_TARGET_PRIMARY) == (role == POOL_ROLE_PRIMARY);
	if (role != POOL_ROLE_UNKNOWN && config->target != HOST_TARGET_ANY)
		database_host_role(server->database, server->conn.host, role);
	if (wanted)
		return true;
	char text[256];
	snprintf(text, sizeof text, "%s is a %s, and pool \"%s\" has target = %s", server->host_text,
		 role == POOL_ROLE_PRIMARY ? "primary" : "standby", server->database->name,
		 config->target == HOST_TARGET_PRIMARY ? "primary" : "standby");
	server_failed(server, SERVER_UNREACHABLE, text);
	return false;
}

/* ---- giving it back ---- */

static void server_give_back(struct server *server) {
	if (server->one_client) {
		server_close(server, "its client has gone, and what that has left in its session cannot be told");
		return;
	}
	stream_resume(&server->stream); /* it may have been stopped for a client that read slowly */
	worker_timeout_clear(server->sw->worker, &server->timeout);
	if (cancel_fence(server)) {
		server->state = SERVER_FENCED;
		server->recovery_done = true;
		worker_timeout(server->sw->worker, &server->timeout, view_of(server)->config->recovery_timeout);
		return;
	}
	server->checked_ns = server->sw->worker->now_ns;
	server->state = SERVER_IDLE;
	pool_release(&server->conn);
}

void server_recovered(struct server *server) {
	if (server->state != SERVER_RECOVERING && server->state != SERVER_FENCED)
		return;
	server->recovery_done = true;
	if (server->in_input)
		return;
	if (buf_len(&server->in) > 0) {
		server_close(server, "it has sent bytes that nobody has asked for");
		return;
	}
	if (stream_pending(&server->stream) > 0 && (!stream_flush(&server->stream) || stream_pending(&server->stream) > 0))
		return; /* not quite: server_maybe_release() comes here again */
	server_give_back(server);
}

void server_maybe_release(struct server *server) {
	if (server->state == SERVER_CLOSED || server->in_input || server->close_wanted)
		return;
	struct client *client = server->client;
	bool active = server->state == SERVER_ACTIVE && client && client->hold != HOLD_PREPARE;
	bool recovered = (server->state == SERVER_RECOVERING || server->state == SERVER_FENCED) && server->recovery_done;
	if (active && !server->protocol->server_clean(server))
		return;
	/* What no answer will follow is sent at once, so that it can go; what the socket does not take ends with STREAM_DRAINED. */
	if (stream_pending(&server->stream) > 0 && (!stream_flush(&server->stream) || stream_pending(&server->stream) > 0))
		return;
	if (recovered) {
		server_recovered(server);
		return;
	}
	if (server->state == SERVER_VALIDATING) {
		keepalive_settle(server);
		return;
	}
	if (!active)
		return;
	if (buf_len(&server->in) > 0) {
		if (!client->keeps_server && !client->dedicated)
			server_close(server, "it has sent bytes that nobody has asked for");
		return;
	}
	if (client->goodbye_wanted && !client->begin_deferred) {
		client_maybe_goodbye(client);
		if (client->closing || client->state == CLIENT_CLOSED)
			return;
	}
	if (client->keeps_server || client->dedicated) {
		leak_freed(client);
		return;
	}
	client_unlink(client);
	server_give_back(server);
	if (client->hold == HOLD_OUTCOME || (client->hold == HOLD_NONE && buf_len(&client->in) > 0)) {
		client->hold = HOLD_NONE;
		client_wake(client);
	}
	client_gate(client);
}

void server_abandon(struct server *server) {
	struct database_view *view = view_of(server);
	if (server->state == SERVER_CLOSED || server->close_wanted)
		return;
	server->client = NULL;
	stream_resume(&server->stream);
	if (server->dedicated) {
		server_close(server, "its client has gone");
		return;
	}
	uint64_t limit = view->config->recovery_timeout;
	bool clean = server->protocol->server_clean(server) && buf_len(&server->in) == 0 && !server->in_input;
	server->state = SERVER_RECOVERING;
	server->recovery_done = false;
	worker_timeout(server->sw->worker, &server->timeout, limit ? limit : 1);
	if (clean && view->config->mode == POOL_MODE_SESSION && view->config->reset_sql)
		server->protocol->server_reset(server);
	else if (clean && stream_pending(&server->stream) == 0)
		server_give_back(server);
	else
		server->protocol->server_recover(server);
}

/* ---- moving to another worker ---- */

bool server_detach(struct server *server) {
	if (server->state != SERVER_IDLE || server->in_input || stream_pending(&server->stream) > 0 ||
	    buf_len(&server->in) > 0 || !list_empty(&server->cancels))
		return false;
	server->protocol->server_moving(server);
	worker_timeout_clear(server->sw->worker, &server->timeout);
	list_remove(&server->all);
	stream_detach(&server->stream);
	return true;
}

void server_attach(struct server *server, struct session_worker *sw) {
	server->sw = sw;
	list_push_back(&sw->servers, &server->all);
	stream_attach(&server->stream, sw->worker);
}
