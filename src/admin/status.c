#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/ready.h"
#include "admin/show.h"
#include "admin/status_parts.h"
#include "session/database.h"

/* A wait that is worth a word. */
#define LONG_WAIT_NS NS_PER_S
/* Of so many points of the last half minute, more than half had clients that waited: then it is no chance. */
enum { RECENT_POINTS = 15 };

void status_duration(uint64_t ns, char out[24]) {
	double s = (double)ns / 1e9;

	if (ns < NS_PER_MS)
		snprintf(out, 24, "%.0f us", s * 1e6);
	else if (ns < NS_PER_S)
		snprintf(out, 24, ns < 10 * NS_PER_MS ? "%.1f ms" : "%.0f ms", s * 1e3);
	else if (ns < 120 * NS_PER_S)
		snprintf(out, 24, ns < 10 * NS_PER_S ? "%.1f s" : "%.0f s", s);
	else if (ns < 7200 * NS_PER_S)
		snprintf(out, 24, "%.0f min", s / 60);
	else
		snprintf(out, 24, "%.0f h", s / 3600);
}

static void add_problem(struct status *status, enum severity severity, const char *kind, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
static void add_problem(struct status *status, enum severity severity, const char *kind, const char *fmt, ...) {
	va_list args;

	if (status->problem_total++ >= STATUS_PROBLEMS)
		return;
	struct problem *problem = &status->problems[status->problem_count++];
	problem->severity = severity;
	problem->kind = kind;
	va_start(args, fmt);
	vsnprintf(problem->text, sizeof problem->text, fmt, args);
	va_end(args);
}

/* ---- pools ---- */

static bool is_full(const struct pool_snapshot *pool, const struct history_copy *history) {
	int waited = 0, first = history->count > RECENT_POINTS ? history->count - RECENT_POINTS : 0;

	if (pool->waiting > 0 && pool->active >= pool->max_size)
		return true;
	for (int i = first; i < history->count; i++)
		waited += history->waiting[i] > 0 && history->active[i] >= pool->max_size;
	return waited > RECENT_POINTS / 2;
}

static const char *mode_of(const struct config *config, const struct pool_snapshot *pool) {
	const struct pool_config *c = config_pool(config, pool->name);

	if (!c || pool->automatic)
		c = config_wildcard_pool(config, pool->database->protocol->id);
	return c ? show_pool_mode(c) : "";
}

/* The worse, the less. */
static int rank(const struct pool_snapshot *pool) {
	if (!pool->ready && !pool->automatic)
		return 0;
	if (pool->waiting > 0)
		return 1;
	return pool->leaked ? 2 : pool->active ? 3 : 4;
}

static int by_trouble(const void *a, const void *b) {
	const struct pool_snapshot *p = a, *q = b;

	if (rank(p) != rank(q))
		return rank(p) - rank(q);
	if (p->waiting != q->waiting)
		return p->waiting > q->waiting ? -1 : 1;
	return strcmp(p->name, q->name);
}

static void look_at_pool(struct status *status, const struct pool_status *pool) {
	const struct pool_snapshot *now = &pool->now;
	char wait[24], p99[24];

	status_duration(now->oldest_wait_ns, wait);
	status_duration(histogram_quantile(&pool->history.acquire, 0.99), p99);
	if (pool->trouble[0] && !now->automatic)
		add_problem(status, SEVERITY_BAD, "pool_not_ready", "Pool %s cannot serve: %s.", now->name, pool->trouble);
	if (pool->full && now->waiting == 0)
		add_problem(status, SEVERITY_BAD, "pool_full",
			    "Pool %s is full: %llu of %llu connections are in use; clients have to wait (p99 of the last minute: %s).",
			    now->name, (unsigned long long)now->active, (unsigned long long)now->max_size, p99);
	else if (pool->full)
		add_problem(status, SEVERITY_BAD, "pool_full",
			    "Pool %s is full: %llu of %llu connections are in use, %llu %s, the first of them for %s "
			    "(p99 of the last minute: %s).",
			    now->name, (unsigned long long)now->active, (unsigned long long)now->max_size,
			    (unsigned long long)now->waiting, now->waiting == 1 ? "client waits" : "clients wait", wait, p99);
	else if (now->waiting > 0 && now->oldest_wait_ns > LONG_WAIT_NS)
		add_problem(status, SEVERITY_WARNING, "pool_waiting", "%llu clients of pool %s wait, the first of them for %s.",
			    (unsigned long long)now->waiting, now->name, wait);
	if (pool->history.unserved)
		add_problem(status, SEVERITY_BAD, "pool_unserved",
			    "%llu clients of pool %s got an error instead of a connection in the last minute.",
			    (unsigned long long)pool->history.unserved, now->name);
}

static void take_pools(struct status *status, struct history *history, const struct config *config) {
	struct snapshot *s = status->snapshot;

	qsort(s->pools, s->pool_count, sizeof s->pools[0], by_trouble);
	status->pool_count = s->pool_count < STATUS_POOLS ? s->pool_count : STATUS_POOLS;
	for (size_t i = 0; i < status->pool_count; i++) {
		struct pool_status *pool = &status->pools[i];
		pool->now = s->pools[i];
		history_get(history, &pool->now, s->now_ns, &pool->history);
		pool->mode = mode_of(config, &pool->now);
		ready_reason(&pool->now, pool->trouble, sizeof pool->trouble);
		pool->full = is_full(&pool->now, &pool->history);
	}
	for (size_t i = 0; i < s->pool_count; i++)
		for (int c = 0; c < POOL_CLIENTS; c++)
			status->clients += s->pools[i].clients[c];
	status->clients += s->login_clients + s->console_clients;
	for (size_t i = 0; i < status->pool_count; i++)
		look_at_pool(status, &status->pools[i]);
}

/* ---- leaks and hosts ---- */

static void take_leaks(struct status *status) {
	status->leaks_known = snapshot_leaks(status->leaks, STATUS_LEAKS, &status->leak_count, &status->leak_total);
	if (!status->leaks_known)
		add_problem(status, SEVERITY_BAD, "worker_silent",
			    "A worker did not answer in time: it is overloaded, or stuck. Leaks cannot be shown.");
	for (size_t i = 0; i < status->leak_count && i < 5; i++) {
		const struct leak *leak = &status->leaks[i];
		char held[24];
		status_duration(status->snapshot->now_ns - leak->held_since_ns, held);
		add_problem(status, SEVERITY_BAD, "leak", "Leak in pool %s: %s%s (user %s, %s) has held a connection for %s: %s.",
			    leak->pool, leak->application_name[0] ? "app=" : "a client",
			    leak->application_name, leak->user, leak->address, held, leak_cause(leak));
	}
	if (status->leak_total > 5)
		add_problem(status, SEVERITY_BAD, "leak", "%llu more connections leak.",
			    (unsigned long long)(status->leak_total - 5));
}

static int by_state(const void *a, const void *b) {
	const struct backend_snapshot *p = a, *q = b;

	if (p->facts.state != q->facts.state)
		return (int)q->facts.state - (int)p->facts.state;
	return strcmp(p->host, q->host);
}

/* What a client library says last is why; the table of hosts has all of it. */
static const char *last_words(const char *error) {
	const char *last = error;

	for (const char *at = error; (at = strstr(at, ": ")); at += 2)
		if (at[2])
			last = at + 2;
	return last + strspn(last, " ");
}

static void take_backends(struct status *status) {
	struct snapshot *s = status->snapshot;

	qsort(s->backends, s->backend_count, sizeof s->backends[0], by_state);
	for (size_t i = 0; i < s->backend_count; i++) {
		const struct backend_facts *facts = &s->backends[i].facts;
		if (facts->state == BACKEND_DOWN)
			add_problem(status, SEVERITY_BAD, "backend_down", "Database host %s is down: %s", s->backends[i].host,
				    last_words(facts->error));
		else if (facts->state == BACKEND_NOT_READY)
			add_problem(status, SEVERITY_WARNING, "backend_not_ready", "Database host %s is not ready: %s",
				    s->backends[i].host, last_words(facts->error));
		else if (facts->max_connections > 0 && facts->in_use >= 0 &&
			 facts->in_use * 10 >= facts->max_connections * 9)
			add_problem(status, SEVERITY_WARNING, "backend_full",
				    "Database host %s has %lld of its %lld connections in use.", s->backends[i].host,
				    (long long)facts->in_use, (long long)facts->max_connections);
	}
}


/* In the order in which they were found, the bad ones first. */
static void sort_problems(struct status *status) {
	struct problem sorted[STATUS_PROBLEMS];
	size_t count = 0;

	for (int severity = SEVERITY_BAD; severity <= SEVERITY_WARNING; severity++)
		for (size_t i = 0; i < status->problem_count; i++)
			if ((int)status->problems[i].severity == severity)
				sorted[count++] = status->problems[i];
	memcpy(status->problems, sorted, count * sizeof sorted[0]);
}

struct status *status_take(struct history *history, const struct config *config, bool draining) {
	struct status *status = calloc(1, sizeof *status);
	uint64_t violations = 0;

	if (!status)
		return NULL;
	status->snapshot = snapshot_take();
	if (!status->snapshot) {
		free(status);
		return NULL;
	}
	status->draining = draining;
	status->max_clients = config->max_clients;
	if (draining)
		add_problem(status, SEVERITY_WARNING, "stopping",
			    "The process stops: it finishes open transactions and takes no more clients.");
	take_backends(status);
	take_pools(status, history, config);
	take_leaks(status);
	for (int i = 0; i < INVARIANTS; i++)
		violations += status->snapshot->violations[i];
	if (violations)
		add_problem(status, SEVERITY_BAD, "invariant_violation",
			    "%llu times something was not as it must always be; the log has the details.",
			    (unsigned long long)violations);
	sort_problems(status);
	return status;
}

void status_free(struct status *status) {
	if (!status)
		return;
	snapshot_free(status->snapshot);
	free(status);
}
