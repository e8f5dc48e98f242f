#include "session/explain.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "config/text_units.h"
#include "session/account.h"
#include "session/cancel.h"
#include "session/claim.h"
#include "session/client.h"
#include "session/console.h"
#include "session/database.h"
#include "session/server.h"
#include "session/session.h"

void explain_find_longest(struct session_worker *sw, const struct database *database, struct holder *holder) {
	const struct client *longest = NULL;
	list_for_each (node, &sw->servers) {
		const struct server *server = container_of(node, struct server, all);
		if (server->database == database && server->client &&
		    (!longest || server->client->claim->linked_ns < longest->claim->linked_ns))
			longest = server->client;
	}
	if (!longest || sw->worker->now_ns - longest->claim->linked_ns <= holder->for_ns)
		return;
	struct console_details details = {0};
	if (longest->protocol->client_describe)
		longest->protocol->client_describe(longest, &details);
	holder->for_ns = sw->worker->now_ns - longest->claim->linked_ns;
	snprintf(holder->who, sizeof holder->who, "%s%s", details.application_name[0] ? "app=" : "client ",
		 details.application_name[0] ? details.application_name : STREAM_PEER_SAY(&longest->peer));
}

/* ---- the words ---- */

/* What there is to say, whatever the cause. */
struct situation {
	struct database *database;
	struct pool *pool;
	struct pool_limits limits;
	uint32_t busy, waiting;
	char limit[32]; /* acquire_timeout */
	char last[256]; /* why logins of this user failed last; "" */
	char holder[192];
};

static struct situation look_at(const struct pool_waiter *waiter, const struct holder *holder) {
	struct situation s = {.database = database_of_shard(waiter->shard), .pool = pool_of(waiter->shard)};
	s.limits = pool_limits(s.pool);
	for (int i = 0; i < s.database->workers; i++) {
		const struct pool_shard_stats *stats = pool_shard_stats(pool_shard(s.pool, i));
		s.busy += atomic_load_explicit(&stats->busy, memory_order_relaxed);
		s.waiting += atomic_load_explicit(&stats->waiting, memory_order_relaxed);
	}
	char sqlstate[6], age[32];
	account_get_error(account_of(waiter->user), sqlstate, s.last, sizeof s.last);
	duration_format(s.limits.acquire_timeout, s.limit, sizeof s.limit);
	uint64_t held = holder->for_ns;
	duration_format(held > NS_PER_S ? held - held % NS_PER_S : held - held % NS_PER_MS, age, sizeof age);
	if (held > 0)
		snprintf(s.holder, sizeof s.holder, ", longest held by %s for %s", holder->who, age);
	return s;
}

static const char *target_name(const struct client *client) {
	static const char *const names[] = {"any", "primary", "standby", "prefer-standby"};
	return names[database_view(client->database, client->sw->worker->id)->config->target];
}

static enum refusal say_timeout(const struct situation *s, const struct client *client, char *out, size_t room) {
	const char *name = pool_name(s->pool);
	const char *last = s->last[0] ? s->last : "the log says why";
	switch (pool_trouble(s->pool, client->sw->worker->now_ns)) {
	case POOL_PAUSED:
		snprintf(out, room,
			 "pool \"%s\" is paused (by PAUSE or KILL on the console), and this lasted longer than acquire_timeout "
			 "(%s); an operator ends it by RESUME",
			 name, s->limit);
		return REFUSAL_TIMEOUT;
	case POOL_NO_HOST:
		snprintf(out, room,
			 "pool \"%s\": none of its hosts has the role that target = %s asks for, and this lasted longer than "
			 "acquire_timeout (%s); SHOW HOSTS on the console tells their roles",
			 name, target_name(client), s->limit);
		return REFUSAL_UNAVAILABLE;
	case POOL_HOSTS_DOWN:
		if (s->busy > 0) /* some work, and are in use */
			break;
		snprintf(out, room, "pool \"%s\": no host could be connected to within acquire_timeout (%s): %s", name,
			 s->limit, last);
		return REFUSAL_UNAVAILABLE;
	case POOL_WELL:
		break;
	}
	if (pool_size(s->pool) == 0 && s->last[0]) {
		snprintf(out, room, "pool \"%s\": no connection could be opened in %s: %s", name, s->limit, s->last);
		return REFUSAL_UNAVAILABLE;
	}
	snprintf(out, room,
		 "pool \"%s\": no connection became free in %s (%u of %u busy, %u waiting%s); raise max_size or shorten "
		 "transactions%s%s",
		 name, s->limit, s->busy, s->limits.max_size, s->waiting, s->holder,
		 s->last[0] ? "; no more could be opened: " : "", s->last);
	return REFUSAL_TIMEOUT;
}

static enum refusal say_unavailable(const struct situation *s, const struct client *client, char *out, size_t room) {
	const char *name = pool_name(s->pool), *last = s->last[0] ? s->last : "the log says why";
	enum pool_trouble trouble = pool_trouble(s->pool, client->sw->worker->now_ns);
	if (trouble == POOL_NO_HOST)
		snprintf(out, room, "pool \"%s\": none of its hosts has the role that target = %s asks for", name,
			 target_name(client));
	else if (trouble == POOL_HOSTS_DOWN)
		snprintf(out, room,
			 "pool \"%s\": no host can be connected to: %s; clients are told at once, as when_unavailable = fail "
			 "says",
			 name, last);
	else
		snprintf(out, room, "pool \"%s\": cannot log in to the backend: %s", name, last);
	return REFUSAL_UNAVAILABLE;
}

static enum refusal explain(struct client *client, enum pool_fail why, const struct holder *holder, char *out,
			    size_t room) {
	struct situation s = look_at(&client->claim->waiter, holder);
	switch (why) {
	case POOL_FAIL_TIMEOUT:
		return say_timeout(&s, client, out, room);
	case POOL_FAIL_UNAVAILABLE:
		return say_unavailable(&s, client, out, room);
	case POOL_FAIL_QUEUE_FULL:
		snprintf(out, room,
			 "pool \"%s\": %u clients wait for a connection already, which is max_waiting (%u of %u busy%s); try "
			 "again later",
			 pool_name(s.pool), s.limits.max_waiting, s.busy, s.limits.max_size,
			 atomic_load(&s.database->paused) ? "; it is paused" : "");
		return REFUSAL_QUEUE_FULL;
	case POOL_FAIL_CLOSED:
		break;
	}
	snprintf(out, room, "pool \"%s\" is closed", pool_name(s.pool));
	return REFUSAL_SHUTDOWN;
}

enum refusal explain_failure(struct pool_waiter *waiter, enum pool_fail why, char *out, size_t room) {
	struct client *client = claim_of(waiter)->client;
	struct holder holder = {0};
	explain_find_longest(client->sw, client->database, &holder);
	return explain(client, why, &holder, out, room);
}

/* ---- asking all workers ---- */

struct inquiry {
	struct session_visit visit;
	struct database *database;
	struct holder holder;
	uint32_t client; /* its id: it may have gone when the answer comes */
	int worker;
};

static void inquire(struct session_worker *sw, struct session_visit *visit) {
	struct inquiry *inquiry = container_of(visit, struct inquiry, visit);
	explain_find_longest(sw, inquiry->database, &inquiry->holder);
}

static void inquired(struct session_visit *visit) {
	struct inquiry *inquiry = container_of(visit, struct inquiry, visit);
	struct client *client = registry_client(inquiry->client, inquiry->worker);
	if (client && client->claim && client->claim->explaining) {
		char text[EXPLANATION_ROOM];
		client->claim->explaining = false;
		enum refusal why = explain(client, POOL_FAIL_TIMEOUT, &inquiry->holder, text, sizeof text);
		client_not_served(client, why, text);
	}
	free(inquiry);
}

bool explain_timeout(struct client *client) {
	struct inquiry *inquiry = client->id ? calloc(1, sizeof *inquiry) : NULL;
	if (!inquiry)
		return false;
	inquiry->database = client->database;
	inquiry->client = client->id;
	inquiry->worker = client->sw->worker->id;
	inquiry->visit.visit = inquire;
	inquiry->visit.done = inquired;
	client->claim->explaining = true;
	session_visit_all(&inquiry->visit, client->sw->worker);
	return true;
}
