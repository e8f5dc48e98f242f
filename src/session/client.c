#include "session/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cache.h"
#include "base/clock.h"
#include "base/log.h"
#include "session/admission.h"
#include "session/cancel.h"
#include "session/claim.h"
#include "session/database.h"
#include "session/deadline.h"
#include "session/explain.h"
#include "session/keepalive.h"
#include "session/leak.h"
#include "session/server.h"
#include "session/session.h"
#include "session/watch.h"

/* How long a client that has been told why it is closed may take to read it and hang up. */
#define LINGER_NS (2 * NS_PER_S)

static void client_input(struct client *client);

static struct client *client_of(struct stream *stream) {
	return container_of(stream, struct client, stream);
}

/* Where clients of this state are counted; NULL: nowhere. */
static _Atomic uint32_t *gauge_of(const struct client *client, enum client_state state) {
	static const enum pool_client in_pool[] = {[CLIENT_IDLE] = POOL_CLIENT_IDLE,
						   [CLIENT_WAITING] = POOL_CLIENT_WAITING,
						   [CLIENT_ACTIVE] = POOL_CLIENT_ACTIVE};
	struct session_worker *sw = client->sw;
	if (state == CLIENT_LOGIN || state == CLIENT_CONSOLE)
		return &sw->outside_clients[state == CLIENT_CONSOLE];
	if (state == CLIENT_CLOSED || !client->shard)
		return NULL;
	return &pool_shard_stats_mut(client->shard)->clients[in_pool[state]];
}

static void count_client(const struct client *client, enum client_state state, uint32_t by) {
	_Atomic uint32_t *gauge = gauge_of(client, state);
	if (gauge)
		atomic_store_explicit(gauge, atomic_load_explicit(gauge, memory_order_relaxed) + by,
				      memory_order_relaxed);
}

void client_set_state(struct client *client, enum client_state state) {
	if (list_linked(&client->node))
		count_client(client, client->state, (uint32_t)-1);
	count_client(client, state, 1);
	list_remove(&client->node);
	if (client->has_login_place && state != CLIENT_LOGIN) {
		place_return(&session_totals()->login_clients);
		client->has_login_place = false;
	}
	client->state = state;
	if (state == CLIENT_CLOSED)
		return;
	list_push_back(&client->sw->clients[state], &client->node);
	if (state == CLIENT_IDLE)
		client->answered_ns = client->sw->worker->now_ns;
	if (state == CLIENT_IDLE && client->claim && !client->claim->retrying)
		claim_return(client);
	client_watch(client);
}

/* ---- reading, and the gates against a slow other side ---- */

void client_gate(struct client *client) {
	if (client->state == CLIENT_CLOSED)
		return;
	bool stop = stream_pending(&client->stream) > OUTPUT_HIGH_WATER;
	if (client->server && stream_pending(&client->server->stream) > OUTPUT_HIGH_WATER)
		stop = true;
	if (client->hold != HOLD_NONE && buf_len(&client->in) >= CLIENT_INPUT_MAX)
		stop = true;
	if (client->closing)
		stop = false;
	if (stop)
		stream_pause(&client->stream);
	else
		stream_resume(&client->stream);
}

/* The input may have ended what held the server (the rest of a message that nobody wanted any more). */
static void client_input_over(struct client *client) {
	client_gate(client);
	if (client->state == CLIENT_IDLE && client->hold == HOLD_NONE && buf_len(&client->in) == 0)
		client_maybe_goodbye(client); /* it has lost its server, or got none, since it was to be told */
	if (client->server && client->hold == HOLD_NONE && !client->closing)
		server_maybe_release(client->server);
}

/* Hands what is kept to the protocol until it takes no more. */
static void client_input(struct client *client) {
	if (client->in_input) {
		client->resume_wanted = true;
		return;
	}
	struct buf_cache *cache = client->sw->worker->buffers;
	client->in_input = true;
	do {
		client->resume_wanted = false;
		while (client->state != CLIENT_CLOSED && !client->closing && client->hold == HOLD_NONE &&
		       buf_len(&client->in) > 0) {
			size_t used = client->protocol->client_input(client, buf_bytes(&client->in), buf_len(&client->in));
			if (client->state == CLIENT_CLOSED)
				break;
			if (used == 0)
				break;
			buf_consume(cache, &client->in, used);
		}
	} while (client->resume_wanted && client->state != CLIENT_CLOSED && !client->closing);
	client->in_input = false;
	if (client->state != CLIENT_CLOSED)
		client_input_over(client);
}

/* It is about to ask for a server: what that touches comes into the cache while the kernel copies the request. */
static void fetch_ahead(const struct client *client) {
	cache_fetch(database_view(client->database, client->sw->worker->id), CACHE_LINE);
	pool_fetch(client->shard, client->user);
}

/* Reads once: into the worker's scratch buffer when nothing is kept, so that what moves on at once is never copied. */
static void client_receive(struct client *client) {
	struct worker *worker = client->sw->worker;
	uint8_t *into = worker->scratch;
	/* in large steps only what can move on at once */
	bool slow = !client->server || stream_pending(&client->server->stream) > 0;
	size_t room = slow ? WORKER_READ_SIZE : stream_room(&client->stream);
	bool kept = buf_len(&client->in) > 0 || client->hold != HOLD_NONE || client->in_input;
	if (client->closing) {
		kept = false;
	} else if (kept) {
		room = 8 * 1024;
		if (!buf_reserve(worker->buffers, &client->in, room)) {
			client_destroy(client, "out of memory");
			return;
		}
		into = client->in.data + client->in.end;
		room = client->in.cap - client->in.end;
	}
	if (client->shard && !client->server)
		fetch_ahead(client);
	ssize_t n = stream_recv(&client->stream, into, room);
	if (n == STREAM_AGAIN)
		return;
	if (n <= 0) {
		client_destroy(client, n == STREAM_EOF ? "the application closed the connection"
						       : stream_error(&client->stream));
		return;
	}
	stat_add(&client->sw->bytes_from_clients, (uint64_t)n);
	if (client->server)
		leak_used(client);
	if (client->shard)
		stat_add(&pool_shard_stats_mut(client->shard)->client_bytes, (uint64_t)n);
	if (client->closing)
		return;
	if (kept) {
		client->in.end += (uint32_t)n;
		client_input(client);
		return;
	}
	client->in_input = true;
	size_t used = 0;
	while (used < (size_t)n && client->state != CLIENT_CLOSED && !client->closing && client->hold == HOLD_NONE) {
		client->resume_wanted = false;
		size_t took = client->protocol->client_input(client, into + used, (size_t)n - used);
		used += took;
		if (took == 0 && !client->resume_wanted)
			break;
	}
	client->in_input = false;
	if (client->state == CLIENT_CLOSED || client->closing)
		return;
	if (used < (size_t)n && !buf_append(worker->buffers, &client->in, into + used, (size_t)n - used)) {
		client_destroy(client, "out of memory");
		return;
	}
	client_input_over(client);
}

static void client_on_ready(struct stream *stream, int events) {
	struct client *client = client_of(stream);
	if (client->state == CLIENT_CLOSED)
		return;
	if (events & STREAM_FAILED) {
		client_destroy(client, stream_error(stream));
		return;
	}
	if (events & STREAM_CONNECTED)
		client->protocol->client_secured(client);
	if ((events & STREAM_DRAINED) && client->closing)
		shutdown(client->stream.fd, SHUT_WR);
	if ((events & STREAM_DRAINED) && client->state != CLIENT_CLOSED) {
		if (client->server)
			server_gate(client->server);
		client_gate(client);
	}
	if ((events & STREAM_READABLE) && client->state != CLIENT_CLOSED)
		client_receive(client);
}

void client_resume(struct client *client) {
	if (client->state == CLIENT_CLOSED || client->closing)
		return;
	client->hold = HOLD_NONE;
	client_input(client);
}

/* ---- life ---- */

static void client_go_on(struct client *client) {
	if (client->closing)
		return;
	if (claim_waits(client->claim)) /* it has moved on since, and waits again */
		return;
	if (client->hold == HOLD_SERVER || client->hold == HOLD_NONE)
		client_resume(client);
	/* it may not have wanted the server for a request, but to learn what it is */
	if (client->state == CLIENT_ACTIVE && client->server)
		server_maybe_release(client->server);
	if (client->state == CLIENT_IDLE && !list_linked(&client->later.node)) /* it wants no other server after all */
		claim_return(client);
}

static void client_later(struct deferred *deferred) {
	struct client *client = container_of(deferred, struct client, later);
	if (client->state == CLIENT_CLOSED)
		slab_give(&client->sw->client_memory[client->protocol->id], client);
	else
		client_go_on(client);
}

void client_wake(struct client *client) {
	cache_fetch(buf_bytes(&client->in), CACHE_LINE); /* read when its turn comes */
	worker_defer(client->sw->worker, &client->later);
}

static void client_timed_out(struct timeout *timeout, uint64_t now_ns) {
	(void)now_ns;
	struct client *client = container_of(timeout, struct client, timeout);
	if (client->closing)
		client_destroy(client, "it did not hang up");
	else if (client->state == CLIENT_LOGIN)
		deadline_login_due(client);
	else
		client_watch_expired(client);
}

void client_accept(struct session_worker *sw, struct listener_runtime *listener, int fd, const struct sockaddr *peer,
		   socklen_t peer_len) {
	const struct protocol *protocol = listener->protocol;
	struct session_totals *totals = session_totals();
	const struct config *config = sw->generation->config;
	struct client *client = slab_take(&sw->client_memory[protocol->id]);
	if (!client) {
		close(fd);
		atomic_fetch_sub(&sw->worker->clients, 1);
		return;
	}
	client->protocol = protocol;
	client->sw = sw;
	client->listener = listener;
	generation_ref(listener->generation);
	client->timeout.expired = client_timed_out;
	client->later.run = client_later;
	client->connected_ns = client->request_ns = sw->worker->now_ns;
	list_init(&client->later.node);
	list_init(&client->node);
	stream_peer_from(fd, peer, peer_len, &client->peer);
	client->has_place = place_take(&totals->clients, config->max_clients);
	client->has_login_place = client->has_place && place_take(&totals->login_clients, config->max_login_clients);
	client->state = CLIENT_LOGIN;
	client_set_state(client, CLIENT_LOGIN);
	stream_open(&client->stream, sw->worker, fd, client_on_ready);
	worker_timeout(sw->worker, &client->timeout, config->client_login_timeout);
	protocol->client_begin(client);
	char text[160];
	if (!client->has_place) {
		snprintf(text, sizeof text,
			 "too many clients: %u are connected, which is max_clients; close some, or raise it in [forebay]",
			 config->max_clients);
		client_end(client, REFUSAL_TOO_MANY, text);
	} else if (!client->has_login_place) {
		snprintf(text, sizeof text,
			 "too many clients are logging in: %u, which is max_login_clients; try again, or raise it in "
			 "[forebay]",
			 config->max_login_clients);
		client_end(client, REFUSAL_TOO_MANY, text);
	}
}

static void client_leave_login(struct client *client) {
	worker_timeout_clear(client->sw->worker, &client->timeout);
	if (client->listener) {
		struct generation *generation = client->listener->generation;
		client->listener = NULL;
		generation_unref(generation);
	}
}

/* A place in its pool. False: it was told why there is none. */
static bool take_pool_place(struct client *client, struct database *database) {
	const struct pool_config *pool = database_view(database, client->sw->worker->id)->config;
	char text[400];
	if (place_take(&database->clients, pool->max_connections))
		return true;
	snprintf(text, sizeof text,
		 "pool \"%.63s\": too many clients: %u are connected, which is its max_connections; close some, or "
		 "raise it in [pool:%.63s]",
		 database->name, pool->max_connections, pool->name);
	client_end(client, REFUSAL_TOO_MANY, text);
	return false;
}

/* One of its user's places. NULL: it was told why there is none. */
static struct user_places *take_user_place(struct client *client, const char *name) {
	const struct config *config = client->sw->generation->config;
	const struct user_config *user = config_user(config, name);
	bool own = user && user->max_connections;
	uint32_t limit = own ? user->max_connections : config->max_connections_per_user;
	bool no_memory;
	char text[400];
	struct user_places *places = user_place_take(name, limit, &no_memory);
	if (places)
		return places;
	if (no_memory) {
		client_end(client, REFUSAL_INTERNAL, "out of memory");
		return NULL;
	}
	snprintf(text, sizeof text,
		 "user \"%.63s\": too many clients: %u are connected, which is %s; close some, or raise it in [user:%.63s]",
		 name, limit, own ? "its max_connections" : "max_connections_per_user", name);
	client_end(client, REFUSAL_TOO_MANY, text);
	return NULL;
}

/* Both. False: it was told why not. */
static bool take_places(struct client *client, const char *name, struct database *database) {
	if (!take_pool_place(client, database))
		return false;
	client->places = take_user_place(client, name);
	if (!client->places)
		place_return(&database->clients);
	return client->places != NULL;
}

/* It belongs to this pool and user from now on. */
static void join(struct client *client, struct database *database, struct pool_user *user) {
	client->database = database;
	client->user = user;
	atomic_fetch_add(&account_of(user)->clients, 1);
	const struct database_view *view = database_view(database, client->sw->worker->id);
	client->shard = view->shard;
	client->keeps_server = view->config->mode == POOL_MODE_SESSION;
	client_leave_login(client);
}

/* Ids are random, so one of them in so many tells by itself whether its client is in the sample, when it comes and when it goes. */
static bool is_logged(const struct client *client) {
	const struct config *config = client->sw->generation->config;

	return config->log_connections && client->id % config->log_connections_every == 0;
}

bool client_logged_in(struct client *client, const char *name, struct database *database, struct pool_user *user) {
	if (!take_places(client, name, database)) {
		pool_user_unref(user);
		return false;
	}
	join(client, database, user);
	client_set_state(client, CLIENT_IDLE);
	if (is_logged(client))
		log_each(LOG_LEVEL_INFO, "client_connected",
			 LOG_FIELDS(LOG_TEXT("client", STREAM_PEER_SAY(&client->peer)), LOG_TEXT("pool", database->name),
				    LOG_TEXT("user", pool_user_name(user)), LOG_NUMBER("id", client->id)),
			 "client logged in");
	return true;
}

bool client_changed_user(struct client *client, const char *name, struct database *database, struct pool_user *user) {
	bool same_pool = database == client->database, same_user = user_places_are(client->places, name);
	struct user_places *places = client->places;
	if ((!same_pool && !take_pool_place(client, database)) || (!same_user && !(places = take_user_place(client, name)))) {
		/* a place in the pool that was taken and is not used: nobody else is to wait for it */
		if (!same_pool && !same_user && !places)
			place_return(&database->clients);
		pool_user_unref(user);
		return false;
	}
	if (!same_pool)
		place_return(&client->database->clients);
	if (!same_user)
		user_place_return(client->places);
	client->places = places;
	atomic_fetch_sub(&account_of(client->user)->clients, 1);
	pool_user_unref(client->user);
	count_client(client, client->state, (uint32_t)-1);
	join(client, database, user);
	count_client(client, client->state, 1);
	client_watch(client);
	if (is_logged(client))
		log_each(LOG_LEVEL_INFO, "client_changed_user",
			 LOG_FIELDS(LOG_TEXT("client", STREAM_PEER_SAY(&client->peer)), LOG_TEXT("pool", database->name),
				    LOG_TEXT("user", pool_user_name(user)), LOG_NUMBER("id", client->id)),
			 "client has logged in anew");
	return true;
}

void client_is_console(struct client *client) {
	client_leave_login(client);
	client_set_state(client, CLIENT_CONSOLE);
}

void client_maybe_goodbye(struct client *client) {
	if (!client->goodbye_wanted || client->closing || client->state == CLIENT_CLOSED)
		return;
	if (client->in_input || client->begin_deferred || client->state == CLIENT_WAITING)
		return;
	bool boundary = client->state != CLIENT_ACTIVE ||
			(client->hold == HOLD_NONE && client->protocol->server_clean(client->server) &&
			 buf_len(&client->in) == 0);
	/* what it has sent already is answered first */
	if (boundary && (client->state == CLIENT_IDLE || client->state == CLIENT_ACTIVE))
		boundary = stream_quiet(&client->stream);
	if (boundary)
		client_end(client, REFUSAL_SHUTDOWN, "the pooler is shutting down; connect again");
}

/* Lets go of the server, whatever state it is in. */
static void client_abandon(struct client *client) {
	struct server *server = client->server;
	if (!server)
		return;
	client_unlink(client);
	server_abandon(server);
}

static void client_leave_queue(struct client *client) {
	if (client->claim && client->claim->waiter.waiting)
		pool_waiter_cancel(&client->claim->waiter);
}

/* A connection that is being opened for this client alone is of no use to anybody else. */
static void client_forget_dedicated(struct client *client) {
	struct server *server = client->claim ? client->claim->waiting_dedicated : NULL;
	keepalive_forget(client);
	if (!server)
		return;
	client->claim->waiting_dedicated = NULL;
	server->client_for_dedicated = NULL;
	server_close(server, "its client has gone");
}

void client_destroy(struct client *client, const char *reason) {
	if (client->state == CLIENT_CLOSED)
		return;
	struct session_worker *sw = client->sw;
	bool was_in = client->database != NULL;
	if (was_in && is_logged(client))
		log_each(LOG_LEVEL_INFO, "client_disconnected",
			 LOG_FIELDS(LOG_TEXT("client", STREAM_PEER_SAY(&client->peer)), LOG_TEXT("pool", client->database->name),
				    LOG_TEXT("user", pool_user_name(client->user)), LOG_NUMBER("id", client->id),
				    LOG_NUMBER("transactions", client->transactions), LOG_TEXT("reason", reason)),
			 "client left");
	else if (!was_in && client->state == CLIENT_LOGIN)
		log_debug("client_login_ended",
			  LOG_FIELDS(LOG_TEXT("client", STREAM_PEER_SAY(&client->peer)), LOG_TEXT("reason", reason)),
			  "client left before it was logged in");
	client_leave_queue(client);
	client_forget_dedicated(client);
	client_leave_login(client);
	client_set_state(client, CLIENT_CLOSED);
	client_abandon(client);
	claim_return(client);
	cancel_forget(client);
	registry_remove(client);
	client->protocol->client_free(client);
	stream_close(&client->stream);
	buf_release_wiped(sw->worker->buffers, &client->in);
	if (client->database)
		place_return(&client->database->clients);
	user_place_return(client->places);
	client->places = NULL;
	if (client->user) {
		atomic_fetch_sub(&account_of(client->user)->clients, 1);
		pool_user_unref(client->user);
	}
	client->user = NULL;
	if (client->has_place)
		place_return(&session_totals()->clients);
	atomic_fetch_sub(&sw->worker->clients, 1);
	list_remove(&client->later.node); /* freed behind all that is deferred by now */
	worker_defer(sw->worker, &client->later);
	drain_client_gone(sw);
}

void client_close(struct client *client, const char *reason) {
	if (client->state == CLIENT_CLOSED || client->closing)
		return;
	/* Its server is free from now on; the application is given a moment to read what it was told. */
	client_leave_queue(client);
	client_forget_dedicated(client);
	client->closing = true;
	client_abandon(client);
	if (client->state == CLIENT_WAITING || client->state == CLIENT_ACTIVE)
		client_set_state(client, CLIENT_IDLE);
	claim_return(client);
	buf_release_wiped(client->sw->worker->buffers, &client->in);
	if (!stream_flush(&client->stream)) {
		client_destroy(client, reason);
		return;
	}
	if (stream_pending(&client->stream) == 0)
		shutdown(client->stream.fd, SHUT_WR);
	worker_timeout(client->sw->worker, &client->timeout, LINGER_NS);
	stream_resume(&client->stream);
	log_debug("client_closing", LOG_FIELDS(LOG_TEXT("client", STREAM_PEER_SAY(&client->peer)), LOG_TEXT("reason", reason)),
		  "client is told goodbye");
}

void client_end(struct client *client, enum refusal why, const char *text) {
	if (client->state == CLIENT_CLOSED || client->closing)
		return;
	client->protocol->client_refuse(client, why, text, true);
	log_info("client_refused", LOG_FIELDS(LOG_TEXT("client", STREAM_PEER_SAY(&client->peer)), LOG_NUMBER("id", client->id)),
		 "client was closed: %s", text);
	client_close(client, text);
}

/* ---- servers ---- */

bool client_want_server(struct client *client) {
	struct session_worker *sw = client->sw;
	struct database_view *view = database_view(client->database, sw->worker->id);
	uint64_t limit = view->config->acquire_timeout;
	uint64_t deadline = limit ? sw->worker->now_ns + limit : TIME_NEVER;
	int why = 0;
	struct claim *claim = claim_take(client);
	if (!claim) {
		client_end(client, REFUSAL_INTERNAL, "out of memory");
		return false;
	}
	if (claim->retrying)
		deadline = claim->deadline_ns;
	claim->retrying = false;
	claim->deadline_ns = deadline;
	if (atomic_load(&client->database->removed)) {
		client_end(client, REFUSAL_SHUTDOWN, "the pool was removed from the configuration");
		return false;
	}
	client->request_ns = sw->worker->now_ns;
	claim->waiter.since_ns = sw->worker->now_ns; /* one that is served at once may still wait, for its login */
	claim->notices = 0;
	claim->notice_wanted = false;
	client_set_state(client, CLIENT_WAITING);
	struct pool_conn *conn = pool_acquire(client->shard, client->user, &claim->waiter, deadline, &why);
	bool gone = false;
	while (conn && !keepalive_admit(container_of(conn, struct server, conn), client, &gone)) {
		if (!gone) /* it is tried, and the client waits for that */
			return false;
		conn = pool_acquire(client->shard, client->user, &claim->waiter, deadline, &why);
	}
	if (conn) {
		client_link(client, container_of(conn, struct server, conn));
		return client->state == CLIENT_ACTIVE && client->hold == HOLD_NONE;
	}
	client->hold = HOLD_SERVER;
	if (!claim->waiter.waiting) {
		/* Not even in the queue. The answer comes when this callback is done: its input is still on the stack. */
		char text[EXPLANATION_ROOM];
		claim->waiter.shard = client->shard;
		claim->waiter.user = client->user;
		enum refusal refusal = explain_failure(&claim->waiter, (enum pool_fail)why, text, sizeof text);
		client_not_served(client, refusal, text);
	}
	return false;
}

void client_try_another(struct client *client) {
	client->claim->retrying = true; /* its deadline stays */
	if (client_want_server(client) || client->state == CLIENT_ACTIVE)
		client_wake(client);
}

void client_link(struct client *client, struct server *server) {
	struct worker *worker = client->sw->worker;
	if (client->dedicated && !server->dedicated) {
		client->hold = HOLD_SERVER;
		server_dedicate(server, client);
		return;
	}
	client->server = server;
	server->client = client;
	server->state = SERVER_ACTIVE;
	server_gate(server);
	client->claim->linked_ns = client->answered_ns = server->request_ns = server->used_ns = worker->now_ns;
	client_set_state(client, CLIENT_ACTIVE);
	client->hold = HOLD_PREPARE;
	bool ready = client->protocol->client_linked(client, server);
	if (ready && client->hold == HOLD_PREPARE)
		client->hold = HOLD_NONE;
	else if (client->server == server && client->hold == HOLD_PREPARE)
		worker_timeout(worker, &server->timeout,
			       database_view(client->database, worker->id)->config->connect_timeout);
}

void client_unlink(struct client *client) {
	struct server *server = client->server;
	if (!server)
		return;
	leak_unlinked(client);
	server->client = NULL;
	server->cut = (struct server_cut){0};
	client->server = NULL;
	if (client->state == CLIENT_ACTIVE)
		client_set_state(client, CLIENT_IDLE);
}

void client_lose_server(struct client *client) {
	client_abandon(client);
	if (client->hold == HOLD_OUTCOME)
		client->hold = HOLD_NONE;
	if (client->hold == HOLD_NONE)
		client_wake(client);
	client_gate(client);
}

void client_lose_untouched(struct client *client) {
	bool answer_due = client->hold == HOLD_LOGIN; /* of another's making (KILL): what it has sent since waits for that */
	client->claim->retrying = client->hold == HOLD_PREPARE || (!answer_due && buf_len(&client->in) > 0);
	client_unlink(client);
	if (!answer_due)
		client->hold = HOLD_NONE;
	client_wake(client);
}

void client_not_served(struct client *client, enum refusal why, const char *text) {
	if (client->state == CLIENT_CLOSED || client->closing)
		return;
	log_info("client_not_served",
		 LOG_FIELDS(LOG_TEXT("client", STREAM_PEER_SAY(&client->peer)), LOG_TEXT("pool", client->database->name),
			    LOG_TEXT("user", pool_user_name(client->user)), LOG_NUMBER("id", client->id)),
		 "%s", text);
	client_set_state(client, CLIENT_IDLE);
	client->protocol->client_refuse(client, why, text, false);
	if (client->state != CLIENT_CLOSED && !client->closing)
		client_wake(client);
}

bool client_stop_waiting(struct client *client) {
	const struct claim *claim = client->claim;
	if (!claim || (!claim->waiter.waiting && !claim->waiting_trial))
		return false;
	keepalive_forget(client);
	client_leave_queue(client);
	client_not_served(client, REFUSAL_CANCELLED, "canceling statement due to user request");
	return true;
}
