#include "session/acquire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "config/text_units.h"
#include "session/client.h"
#include "session/console.h"
#include "session/database.h"
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

static bool op_open(struct pool_shard *shard, struct pool_user *user) {
	return server_open(shard, user);
}

static void op_close(struct pool_conn *conn, const char *reason) {
	server_close(server_of(conn), reason);
}

static void op_serve(struct pool_waiter *waiter, struct pool_conn *conn) {
	struct client *client = client_of(waiter);
	client->wait_ns_total += op_now(waiter->shard) - waiter->since_ns;
	client_link(client, server_of(conn));
	worker_defer(client->sw->worker, &client->wakeup);
}

/* Who holds a connection of this pool longest, among this worker's clients. Empty: nobody here. */
static void longest_held(struct pool_shard *shard, char *out, size_t room) {
	struct session_worker *sw = worker_of(shard);
	const struct client *longest = NULL;
	out[0] = 0;
	list_for_each (node, &sw->servers) {
		const struct server *server = container_of(node, struct server, all);
		if (server->conn.shard == shard && server->client &&
		    (!longest || server->client->linked_ns < longest->linked_ns))
			longest = server->client;
	}
	if (!longest)
		return;
	struct console_details details = {0};
	if (longest->protocol->client_describe)
		longest->protocol->client_describe(longest, &details);
	uint64_t held = op_now(shard) - longest->linked_ns;
	char age[32];
	duration_format(held > NS_PER_S ? held - held % NS_PER_S : held - held % NS_PER_MS, age, sizeof age);
	snprintf(out, room, ", longest held by %s%s for %s", details.application_name[0] ? "app=" : "client ",
		 details.application_name[0] ? details.application_name : longest->peer->text, age);
}

void acquire_explain(struct pool_waiter *waiter, enum pool_fail why, char *out, size_t room) {
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
	char longest[160];
	longest_held(shard, longest, sizeof longest);
	switch (why) {
	case POOL_FAIL_TIMEOUT:
		if (pool_size(pool) == 0 && last[0])
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
			 "pool \"%s\": %u clients wait for a connection already, which is max_waiting (%u of %u busy); try "
			 "again later",
			 pool_name(pool), limits.max_waiting, busy, limits.max_size);
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

static void op_fail(struct pool_waiter *waiter, enum pool_fail why) {
	char text[512];
	acquire_explain(waiter, why, text, sizeof text);
	static const enum refusal refusals[] = {
		[POOL_FAIL_TIMEOUT] = REFUSAL_TIMEOUT,
		[POOL_FAIL_QUEUE_FULL] = REFUSAL_QUEUE_FULL,
		[POOL_FAIL_UNAVAILABLE] = REFUSAL_UNAVAILABLE,
		[POOL_FAIL_CLOSED] = REFUSAL_SHUTDOWN,
	};
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
