/*
 * What the process counts, summed over the workers, as plain numbers. Taken from atomics: no worker is asked, and none
 * waits. Each number is right by itself; two that change together may be a moment apart.
 */
#ifndef ADMIN_SNAPSHOT_H
#define ADMIN_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/histogram.h"
#include "pool/pool.h"
#include "session/backend.h"
#include "session/leak.h"
#include "session/pin.h"
#include "session/session.h"

struct config;
struct database;

struct histogram_sum {
	uint64_t buckets[HISTOGRAM_BUCKETS], sum_ns;
};

struct pool_snapshot {
	struct database *database; /* lives until the process ends, as do the names */
	const char *name, *protocol;
	bool automatic; /* made from [pool:*] */
	bool paused, disabled, ready;
	enum pool_trouble trouble;
	/* gauges */
	uint64_t max_size, min_idle;
	uint64_t active, idle, opening, closing, waiting, leaked;
	uint64_t oldest_wait_ns; /* how long; 0: nobody waits */
	uint64_t clients[POOL_CLIENTS];
	/* counters */
	uint64_t opened, busy_ns, timeouts, rejected, moved, leaks;
	uint64_t queries, transactions, client_bytes, server_bytes;
	uint64_t limits[4]; /* enum deadline, from DEADLINE_QUERY */
	uint64_t wait_reasons[POOL_WAITS], connect_failures[POOL_CONNECT_FAILURES], ends[POOL_ENDS];
	uint64_t errors[POOL_SQLSTATE_CLASSES], pins[PIN_REASONS];
	struct histogram_sum acquire, hold, connect, query, transaction;
};

struct backend_snapshot {
	const char *host, *protocol; /* live until the process ends */
	struct backend_facts facts;
};

struct process_snapshot {
	double cpu_s, start_s; /* start: since the epoch; < 0: unknown */
	uint64_t resident_bytes, virtual_bytes, open_fds, max_fds, threads;
};

struct snapshot {
	uint64_t now_ns, wall_ns;
	struct pool_snapshot *pools; /* those that are configured, and those that still have connections or clients */
	size_t pool_count;
	struct backend_snapshot *backends; /* those that are configured */
	size_t backend_count;
	uint64_t workers, login_clients, console_clients;
	uint64_t violations[INVARIANTS], login_errors[POOL_SQLSTATE_CLASSES];
	struct process_snapshot process;
};

/* Any thread, with the session started. NULL: out of memory. */
struct snapshot *snapshot_take(void);
/* Of the pools alone, and the time: for who asks often. */
struct snapshot *snapshot_take_pools(void);
void snapshot_free(struct snapshot *snapshot);

/* One pool's, for samples; `database` as from databases_each(). */
void snapshot_pool(struct pool_snapshot *out, struct database *database, uint64_t now_ns);
/* Just what changes from moment to moment. */
struct pool_moment {
	uint64_t active, idle, waiting;
};
void snapshot_moment(struct pool_moment *out, struct database *database);

uint64_t histogram_count(const struct histogram_sum *h);
/* The duration that this share of all (0.99) did not exceed, between the bounds of its bucket in proportion; 0: there were
 * none. */
uint64_t histogram_quantile(const struct histogram_sum *h, double share);
/* What was added between two. */
struct histogram_sum histogram_between(const struct histogram_sum *before, const struct histogram_sum *now);

/* The leaks of the moment, copied on the workers' threads, the longest hold first, at most `room`. False: a worker did not
 * answer in time (now, or when it was asked before, and has not since), and `out` has none. Waits for less than half a
 * second. Any thread but a worker's. */
bool snapshot_leaks(struct leak *out, size_t room, size_t *count, uint64_t *total);

#endif
