/*
 * The last minutes of each pool, for the status page: how many connections were in use, and how many clients waited, every
 * two seconds; what was counted, every ten. The main thread writes it, those that serve the page read it, under a mutex.
 */
#ifndef ADMIN_HISTORY_H
#define ADMIN_HISTORY_H

#include <stdint.h>

#include "admin/snapshot.h"

enum {
	HISTORY_POINTS = 150, /* five minutes */
	HISTORY_STEP_S = 2,
	HISTORY_POOLS_MAX = 2000 /* of further ones nothing is kept */
};

struct history;

/* Any thread. */
struct history_copy {
	int count; /* of points, the oldest first */
	uint16_t active[HISTORY_POINTS], idle[HISTORY_POINTS], waiting[HISTORY_POINTS];
	/* what was counted in about the last minute */
	uint64_t span_ns; /* 0: nothing is known yet */
	struct histogram_sum acquire, query;
	uint64_t transactions, unserved; /* unserved: timed out or rejected */
};

/* NULL: out of memory. */
struct history *history_new(void);
void history_free(struct history *history);
/* About once a second, on the main thread; looks at the pools when it is time to. */
void history_tick(struct history *history);
/* `now` is a snapshot of the pool just taken. */
void history_get(struct history *history, const struct pool_snapshot *now, uint64_t now_ns, struct history_copy *out);

#endif
