#include "admin/history.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "session/database.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

/* Seven marks ten seconds apart: the oldest is a minute old when the newest is made. */
enum { MARKS = 7, POINTS_A_MARK = 5 };

struct mark {
	uint64_t at_ns;
	struct histogram_sum acquire, query;
	uint64_t transactions, unserved;
};

struct trace {
	UT_hash_handle hh;
	const struct database *database; /* lives until the process ends */
	unsigned points, marks;          /* that were ever made; in rings */
	uint16_t active[HISTORY_POINTS], idle[HISTORY_POINTS], waiting[HISTORY_POINTS];
	struct mark mark[MARKS];
};

struct history {
	/* main thread only */
	uint64_t next_ns;
	unsigned ticks;
	struct { /* under the mutex */
		pthread_mutex_t mutex;
		struct trace *traces;
	} shared;
};

struct history *history_new(void) {
	struct history *history = calloc(1, sizeof *history);

	if (history)
		pthread_mutex_init(&history->shared.mutex, NULL);
	return history;
}

void history_free(struct history *history) {
	struct trace *trace, *next;

	if (!history)
		return;
	HASH_ITER(hh, history->shared.traces, trace, next) {
		HASH_DEL(history->shared.traces, trace);
		free(trace);
	}
	pthread_mutex_destroy(&history->shared.mutex);
	free(history);
}

static struct trace *find_locked(struct history *history, const struct database *database) {
	struct trace *trace = NULL;

	HASH_FIND_PTR(history->shared.traces, &database, trace);
	return trace;
}

static struct trace *make_locked(struct history *history, const struct database *database) {
	struct trace *trace = NULL;
	unsigned before = HASH_COUNT(history->shared.traces);

	if (before < HISTORY_POOLS_MAX)
		trace = calloc(1, sizeof *trace);
	if (!trace)
		return NULL;
	trace->database = database;
	HASH_ADD_PTR(history->shared.traces, database, trace);
	if (HASH_COUNT(history->shared.traces) == before) {
		free(trace);
		return NULL;
	}
	return trace;
}

static uint16_t small(uint64_t n) {
	return n > UINT16_MAX ? UINT16_MAX : (uint16_t)n;
}

static struct mark mark_of(const struct pool_snapshot *pool, uint64_t now_ns) {
	return (struct mark){now_ns, pool->acquire, pool->query, pool->transactions, pool->timeouts + pool->rejected};
}

static void sample(struct history *history, struct database *database, bool with_mark, uint64_t now_ns) {
	struct pool_moment moment;
	struct pool_snapshot pool;

	if (with_mark) {
		snapshot_pool(&pool, database, now_ns);
		/* once it was read, so that whatever is later than the mark has counted no less */
		now_ns = clock_monotonic_ns();
	}
	snapshot_moment(&moment, database);
	pthread_mutex_lock(&history->shared.mutex);
	struct trace *trace = find_locked(history, database);
	if (!trace)
		trace = make_locked(history, database);
	if (trace) {
		unsigned at = trace->points++ % HISTORY_POINTS;
		trace->active[at] = small(moment.active);
		trace->idle[at] = small(moment.idle);
		trace->waiting[at] = small(moment.waiting);
	}
	if (trace && with_mark)
		trace->mark[trace->marks++ % MARKS] = mark_of(&pool, now_ns);
	pthread_mutex_unlock(&history->shared.mutex);
}

/* Leaves its place to others. */
static void forget(struct history *history, const struct database *database) {
	pthread_mutex_lock(&history->shared.mutex);
	struct trace *trace = find_locked(history, database);
	if (trace)
		HASH_DEL(history->shared.traces, trace);
	pthread_mutex_unlock(&history->shared.mutex);
	free(trace);
}

void history_tick(struct history *history) {
	uint64_t now_ns = clock_monotonic_ns();

	if (now_ns < history->next_ns)
		return;
	history->next_ns = now_ns + HISTORY_STEP_S * NS_PER_S - NS_PER_S / 4; /* ticks are not quite a second apart */
	bool with_marks = history->ticks++ % POINTS_A_MARK == 0;
	for (struct database *d = database_next(NULL); d; d = database_next(d)) {
		if (atomic_load(&d->removed))
			forget(history, d);
		else
			sample(history, d, with_marks, now_ns);
	}
}

void history_get(struct history *history, const struct pool_snapshot *now, uint64_t now_ns, struct history_copy *out) {
	struct mark oldest = {0}, newest = mark_of(now, now_ns);

	*out = (struct history_copy){0};
	pthread_mutex_lock(&history->shared.mutex);
	const struct trace *trace = find_locked(history, now->database);
	if (trace) {
		unsigned first = trace->points > HISTORY_POINTS ? trace->points - HISTORY_POINTS : 0;
		for (unsigned i = first; i < trace->points; i++, out->count++) {
			out->active[out->count] = trace->active[i % HISTORY_POINTS];
			out->idle[out->count] = trace->idle[i % HISTORY_POINTS];
			out->waiting[out->count] = trace->waiting[i % HISTORY_POINTS];
		}
		if (trace->marks)
			oldest = trace->mark[trace->marks > MARKS ? trace->marks % MARKS : 0];
	}
	pthread_mutex_unlock(&history->shared.mutex);
	if (!oldest.at_ns || oldest.at_ns >= now_ns)
		return;
	out->span_ns = now_ns - oldest.at_ns;
	out->acquire = histogram_between(&oldest.acquire, &newest.acquire);
	out->query = histogram_between(&oldest.query, &newest.query);
	out->transactions = newest.transactions - oldest.transactions;
	out->unserved = newest.unserved - oldest.unserved;
}
