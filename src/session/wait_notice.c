#include "session/wait_notice.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "config/text_units.h"
#include "session/claim.h"
#include "session/client.h"
#include "session/database.h"
#include "session/explain.h"
#include "session/session.h"

enum {
	TOLD_AT_ONCE = 500, /* by one inquiry; the others by the next */
	LOOKED_AT = 20000   /* waiters of one worker whose times are taken down */
};

static struct database_view *view_of(const struct client *client) {
	return database_view(client->database, client->sw->worker->id);
}

uint64_t wait_notice_next(const struct client *client) {
	if (client->claim->explaining)
		return TIME_NEVER;
	uint64_t after_ns = view_of(client)->config->wait_notice_after;
	if (after_ns == 0 || client->claim->notices > 20)
		return TIME_NEVER;
	return client->request_ns + after_ns * ((2ull << client->claim->notices) - 1);
}

/* How many wait, and since when: the times of each worker lie together, the longest wait first. */
struct inquiry {
	struct session_visit visit;
	struct database *database;
	struct session_worker *origin;
	struct holder holder;
	uint32_t waiting; /* on other workers */
	uint64_t *since_ns;
	size_t count, cap;
	size_t begin[POOL_MAX_WORKERS + 1];
	/* while the waiters of `origin` are told */
	uint32_t place, told, here;
	bool more;
};

static void take_down(struct pool_waiter *waiter, void *context) {
	struct inquiry *q = context;
	q->waiting++;
	if (q->count - q->begin[pool_shard_index(waiter->shard)] >= LOOKED_AT)
		return;
	if (q->count == q->cap) {
		size_t cap = q->cap ? 2 * q->cap : 256;
		uint64_t *more = realloc(q->since_ns, cap * sizeof *more);
		if (!more)
			return; /* a place that is told too low is better than none */
		q->since_ns = more;
		q->cap = cap;
	}
	q->since_ns[q->count++] = waiter->since_ns;
}

static void inquire(struct session_worker *sw, struct session_visit *visit) {
	struct inquiry *q = container_of(visit, struct inquiry, visit);
	int i = sw->worker->id;
	q->begin[i] = q->count;
	if (sw != q->origin)
		pool_shard_each_waiter(pool_shard(q->database->pool, i), take_down, q);
	explain_find_longest(sw, q->database, &q->holder);
	q->begin[i + 1] = q->count;
}

/* How many on other workers have waited longer. */
static uint32_t ahead_elsewhere(const struct inquiry *q, uint64_t since_ns) {
	size_t ahead = 0;
	for (int i = 0; i < q->database->workers; i++) {
		size_t low = q->begin[i], high = q->begin[i + 1];
		while (low < high) {
			size_t middle = low + (high - low) / 2;
			if (q->since_ns[middle] < since_ns)
				low = middle + 1;
			else
				high = middle;
		}
		ahead += low - q->begin[i];
	}
	return (uint32_t)ahead;
}

static uint32_t busy_of(const struct database *database) {
	uint32_t busy = 0;
	for (int i = 0; i < database->workers; i++)
		busy += atomic_load_explicit(&pool_shard_stats(pool_shard(database->pool, i))->busy, memory_order_relaxed);
	return busy;
}

static void tell(const struct inquiry *q, struct client *client) {
	const struct pool_config *config = view_of(client)->config;
	struct pool_limits limits = pool_limits(q->database->pool);
	uint64_t since_ns = client->claim->waiter.since_ns, waited_ns = client->sw->worker->now_ns - since_ns;
	char waited[16], held[16], longest[160] = "", limit[32], until[80] = "", text[512];
	duration_say(waited_ns, waited, sizeof waited);
	duration_say(q->holder.for_ns, held, sizeof held);
	duration_format(config->acquire_timeout, limit, sizeof limit);
	if (q->holder.for_ns >= NS_PER_MS)
		snprintf(longest, sizeof longest, ", longest held by %s for %s", q->holder.who, held);
	if (config->acquire_timeout)
		snprintf(until, sizeof until, "; gives up after acquire_timeout (%s)", limit);
	snprintf(text, sizeof text,
		 "pool \"%s\": waiting for a connection for %s, at place %u of %u (%u of %u connections busy%s)%s",
		 q->database->name, waited, q->place + ahead_elsewhere(q, since_ns), q->here + q->waiting,
		 busy_of(q->database), limits.max_size, longest, until);
	client->protocol->client_notice(client, text);
}

static void tell_each(struct pool_waiter *waiter, void *context) {
	struct inquiry *q = context;
	struct client *client = claim_of(waiter)->client;
	q->place++;
	if (!client->claim->notice_wanted || client->closing || client->state != CLIENT_WAITING)
		return;
	if (q->told == TOLD_AT_ONCE) {
		q->more = true;
		return;
	}
	client->claim->notice_wanted = false;
	q->told++;
	tell(q, client);
}

static void begin_inquiry(struct session_worker *sw, struct database *database);

static void inquired(struct session_visit *visit) {
	struct inquiry *q = container_of(visit, struct inquiry, visit);
	struct database_view *view = database_view(q->database, q->origin->worker->id);
	q->here = atomic_load_explicit(&pool_shard_stats(view->shard)->waiting, memory_order_relaxed);
	pool_shard_each_waiter(view->shard, tell_each, q);
	view->inquiring = false;
	if (q->more)
		begin_inquiry(q->origin, q->database);
	free(q->since_ns);
	free(q);
}

static void begin_inquiry(struct session_worker *sw, struct database *database) {
	struct database_view *view = database_view(database, sw->worker->id);
	struct inquiry *q = view->inquiring ? NULL : calloc(1, sizeof *q);
	if (!q)
		return;
	q->database = database;
	q->origin = sw;
	q->visit.visit = inquire;
	q->visit.done = inquired;
	view->inquiring = true;
	session_visit_all(&q->visit, sw->worker);
}

void wait_notice_due(struct client *client) {
	client->claim->notices++;
	if (!client->claim->waiter.waiting) /* on its way to a connection of its own */
		return;
	client->claim->notice_wanted = true;
	begin_inquiry(client->sw, client->database);
}
