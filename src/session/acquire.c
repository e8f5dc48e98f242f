#include "session/acquire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "config/text_units.h"
#include "session/cancel.h"
#include "session/client.h"
#include "session/console.h"
#include "session/database.h"
#include "session/keepalive.h"
#include "session/server.h"
#include "session/session.h"

static struct session_worker *worker_of(struct pool_shard *shard) {
	return session_worker(pool_shard_index(shard));
}

static struct client *client_of(struct pool_waiter *waiter) {
	return container_of(waiter, struct client, waiter);
}

static struct server *server_of(struct pool_conn *conn) {
	return container_of(conn, struct server, conn);
}

static uint64_t op_now(struct pool_shard *shard) {
	return worker_of(shard)->worker->now_ns;
}

static bool op_open(struct pool_shard *shard, struct pool_user *user, int host) {
	return server_open(shard, user, host);
}

static void op_close(struct pool_conn *conn, const char *reason) {
	server_close(server_of(conn), reason);
}

static void op_serve(struct pool_waiter *waiter, struct pool_conn *conn) {
	struct client *client = client_of(waiter);
	client->wait_ns_total += op_now(waiter->shard) - waiter->since_ns;
	bool gone = false;
	if (keepalive_admit(server_of(conn), client, &gone)) {
		client_link(client, server_of(conn));
		worker_defer(client->sw->worker, &client->wakeup);
	} else if (gone) {
		client_try_another(client);
	}
}

void acquire_find_longest(struct session_worker *sw, const struct database *database, struct holder *holder) {
	const struct client *longest = NULL;
	list_for_each (node, &sw->servers) {
		const struct server *server = container_of(node, struct server, all);
		if (server->database == database && server->client &&
		    (!longest || server->client->linked_ns < longest->linked_ns))
			longest = server->client;
	}
	if (!longest || sw->worker->now_ns - longest->linked_ns <= holder->for_ns)
		return;
	struct console_details details = {0};
	if (longest->protocol->client_describe)
		longest->protocol->client_describe(longest, &details);
	holder->for_ns = sw->worker->now_ns - longest->linked_ns;
	snprintf(holder->who, sizeof holder->who, "%s%s", details.application_name[0] ? "app=" : "client ",
		 details.application_name[0] ? details.application_name : longest->peer->text);
}

static void explain(struct pool_waiter *waiter, enum pool_fail why, const struct holder *holder, char *out, size_t room) {
	struct pool_shard *shard = waiter->shard;
	struct pool *pool = pool_of(shard);
	struct pool_limits limits = pool_limits(pool);
	struct database *database = database_of_shard(shard);
	uint32_t busy = 0, waiting = 0;
	for (int i = 0; i < database->workers; i++) {
		const struct pool_shard_stats *stats = pool_shard_stats(pool_shard(pool, i));
		busy += atomic_load_explicit(&stats->busy, memory_order_relaxed);
		waiting += atomic_load_explicit(&stats->waiting, memory_order_relaxed);
	}
	char sqlstate[6], last[256], limit[32];
	account_get_error(account_of(waiter->user), sqlstate, last, sizeof last);
	duration_format(limits.acquire_timeout, limit, sizeof limit);
	char longest[192] = "", age[32];
	uint64_t held = holder->for_ns;
	duration_format(held > NS_PER_S ? held - held % NS_PER_S : held - held % NS_PER_MS, age, sizeof age);
	if (held > 0)
		snprintf(longest, sizeof longest, ", longest held by %s for %s", holder->who, age);
	bool paused = atomic_load(&database->paused);
	switch (why) {
	case POOL_FAIL_TIMEOUT:
		if (paused)
			snprintf(out, room,
				 "pool \"%s\" is paused (by PAUSE or KILL on the console), and this lasted longer than "
				 "acquire_timeout (%s); an operator ends it by RESUME",
				 pool_name(pool), limit);
		else if (pool_size(pool) == 0 && last[0])
			snprintf(out, room, "pool \"%s\": no connection could be opened in %s: %s", pool_name(pool), limit,
				 last);
		else
			snprintf(out, room,
				 "pool \"%s\": no connection became free in %s (%u of %u busy, %u waiting%s); raise "
				 "max_size or shorten transactions%s%s",
				 pool_name(pool), limit, busy, limits.max_size, waiting, longest, last[0] ? "; last failure: " : "",
				 last);
		break;
	case POOL_FAIL_QUEUE_FULL:
		snprintf(out, room,
			 "pool \"%s\": %u clients wait for a connection already, which is max_waiting (%u of %u busy%s); try "
			 "again later",
			 pool_name(pool), limits.max_waiting, busy, limits.max_size, paused ? "; it is paused" : "");
		break;
	case POOL_FAIL_UNAVAILABLE:
		snprintf(out, room, "pool \"%s\": cannot log in to the backend: %s", pool_name(pool),
			 last[0] ? last : "see the log");
		break;
	case POOL_FAIL_CLOSED:
		snprintf(out, room, "pool \"%s\" is closed", pool_name(pool));
		break;
	}
}

void acquire_explain(struct pool_waiter *waiter, enum pool_fail why, char *out, size_t room) {
	struct holder holder = {0};
	acquire_find_longest(worker_of(waiter->shard), database_of_shard(waiter->shard), &holder);
	explain(waiter, why, &holder, out, room);
}

/* A client that timed out is told who holds the servers: all workers are asked. */
struct inquiry {
	struct session_visit visit;
	struct database *database;
	struct holder holder;
	uint32_t client; /* its id: it may have gone when the answer comes */
	int worker;
};

static void inquire(struct session_worker *sw, struct session_visit *visit) {
	struct inquiry *inquiry = container_of(visit, struct inquiry, visit);
	acquire_find_longest(sw, inquiry->database, &inquiry->holder);
}

static void inquired(struct session_visit *visit) {
	struct inquiry *inquiry = container_of(visit, struct inquiry, visit);
	struct client *client = registry_client(inquiry->client, inquiry->worker);
	if (client && client->explaining) {
		char text[512];
		client->explaining = false;
		explain(&client->waiter, POOL_FAIL_TIMEOUT, &inquiry->holder, text, sizeof text);
		client_not_served(client, REFUSAL_TIMEOUT, text);
	}
	free(inquiry);
}

static bool explain_later(struct client *client) {
	struct inquiry *inquiry = client->id ? calloc(1, sizeof *inquiry) : NULL;
	if (!inquiry)
		return false;
	inquiry->database = client->database;
	inquiry->client = client->id;
	inquiry->worker = client->sw->worker->id;
	inquiry->visit.visit = inquire;
	inquiry->visit.done = inquired;
	client->explaining = true;
	session_visit_all(&inquiry->visit, client->sw->worker);
	return true;
}

static void op_fail(struct pool_waiter *waiter, enum pool_fail why) {
	static const enum refusal refusals[] = {
		[POOL_FAIL_TIMEOUT] = REFUSAL_TIMEOUT,
		[POOL_FAIL_QUEUE_FULL] = REFUSAL_QUEUE_FULL,
		[POOL_FAIL_UNAVAILABLE] = REFUSAL_UNAVAILABLE,
		[POOL_FAIL_CLOSED] = REFUSAL_SHUTDOWN,
	};
	if (why == POOL_FAIL_TIMEOUT && explain_later(client_of(waiter)))
		return;
	char text[512];
	acquire_explain(waiter, why, text, sizeof text);
	client_not_served(client_of(waiter), refusals[why], text);
}

/* A pool's message travels in its own room: no allocation on the way. */
struct pool_letter {
	struct mail mail;
	struct pool_shard *to;
};
_Static_assert(sizeof(struct pool_letter) <= sizeof(((struct pool_message *)0)->carrier), "the carrier is too small");

static void letter_deliver(struct mail *mail, void *receiver) {
	(void)receiver;
	struct pool_letter *letter = (struct pool_letter *)mail;
	pool_shard_receive(letter->to, container_of((void *)letter, struct pool_message, carrier));
}

static void op_send(struct pool_shard *from, struct pool_shard *to, struct pool_message *message) {
	(void)from;
	struct pool_letter *letter = (struct pool_letter *)message->carrier;
	letter->mail.deliver = letter_deliver;
	letter->to = to;
	mailbox_post(&worker_of(to)->worker->mailbox, &letter->mail);
}

static bool op_detach(struct pool_conn *conn) {
	return server_detach(server_of(conn));
}

static void op_attach(struct pool_conn *conn, struct pool_shard *to) {
	server_attach(server_of(conn), worker_of(to));
}

static void op_wake_at(struct pool_shard *shard, uint64_t deadline_ns) {
	struct session_worker *sw = worker_of(shard);
	struct database_view *view = database_view(database_of_shard(shard), sw->worker->id);
	uint64_t now_ns = sw->worker->now_ns;
	if (deadline_ns == TIME_NEVER)
		worker_timeout_clear(sw->worker, &view->tick);
	else
		worker_timeout(sw->worker, &view->tick, deadline_ns > now_ns ? deadline_ns - now_ns : 1);
}

void session_pool_tick(struct timeout *timeout, uint64_t now_ns) {
	(void)now_ns;
	pool_shard_tick(container_of(timeout, struct database_view, tick)->shard);
}

static uint64_t op_random(struct pool_shard *shard) {
	/* xorshift64*: jitter needs no more */
	struct session_worker *sw = worker_of(shard);
	sw->random_state ^= sw->random_state >> 12;
	sw->random_state ^= sw->random_state << 25;
	sw->random_state ^= sw->random_state >> 27;
	return sw->random_state * 0x2545f4914f6cdd1dull;
}

static void op_user_freed(struct pool_user *user, void *context) {
	(void)user;
	account_free(context);
}

const struct pool_ops session_pool_ops = {
	.now = op_now,
	.open = op_open,
	.close = op_close,
	.serve = op_serve,
	.fail = op_fail,
	.send = op_send,
	.detach = op_detach,
	.attach = op_attach,
	.wake_at = op_wake_at,
	.random = op_random,
	.user_freed = op_user_freed,
};
