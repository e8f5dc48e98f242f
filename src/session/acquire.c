#include "session/acquire.h"

#include "base/cache.h"
#include "base/clock.h"
#include "base/log.h"
#include "session/cancel.h"
#include "session/claim.h"
#include "session/client.h"
#include "session/database.h"
#include "session/explain.h"
#include "session/keepalive.h"
#include "session/server.h"
#include "session/session.h"

static struct session_worker *worker_of(struct pool_shard *shard) {
	return session_worker(pool_shard_index(shard));
}

static struct client *client_of(struct pool_waiter *waiter) {
	return claim_of(waiter)->client;
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

/* Those behind have waited long enough to have left the cache: they come back while others are served. */
static void fetch_next(struct pool_shard *shard, struct pool_user *user) {
	struct pool_waiter *next = pool_first_waiter(shard, user);
	struct pool_waiter *behind = next ? pool_waiter_behind(next) : NULL;
	if (behind) /* the client is found by it next time */
		cache_fetch(claim_of(behind), sizeof(struct claim));
	if (next)
		cache_fetch(client_of(next), sizeof(struct client) + CACHE_LINE);
}

static void op_serve(struct pool_waiter *waiter, struct pool_conn *conn) {
	struct client *client = client_of(waiter);
	fetch_next(waiter->shard, waiter->user);
	client->wait_ns_total += op_now(waiter->shard) - waiter->since_ns;
	bool gone = false;
	if (keepalive_admit(server_of(conn), client, &gone)) {
		client_link(client, server_of(conn));
		client_wake(client);
	} else if (gone) {
		client_try_another(client);
	}
}

static void op_fail(struct pool_waiter *waiter, enum pool_fail why) {
	struct client *client = client_of(waiter);
	if (why == POOL_FAIL_TIMEOUT && explain_timeout(client))
		return;
	char text[EXPLANATION_ROOM];
	enum refusal refusal = explain_failure(waiter, why, text, sizeof text);
	client_not_served(client, refusal, text);
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
