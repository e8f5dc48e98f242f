/*
 * Timeouts ordered by deadline (a heap): one set for each worker, one node inside whatever can
 * time out. Adding, moving and removing cost O(log n) and no system call. One thread.
 */
#ifndef BASE_TIMEOUTS_H
#define BASE_TIMEOUTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct timeout {
	uint64_t deadline_ns;
	uint32_t slot; /* place in the heap, from 1; 0: not in a set */
	void (*expired)(struct timeout *timeout, uint64_t now_ns);
};

struct timeouts_entry {
	uint64_t deadline_ns;
	struct timeout *timeout;
};

struct timeouts {
	struct timeouts_entry *heap;
	uint32_t count, cap;
};

void timeouts_init(struct timeouts *set);
void timeouts_free(struct timeouts *set);
static inline bool timeout_pending(const struct timeout *t) {
	return t->slot != 0;
}
/* Sets or moves the deadline. `timeout->expired` must be set. False only when out of memory. */
bool timeouts_set(struct timeouts *set, struct timeout *timeout, uint64_t deadline_ns);
/* Takes it out, if it is in. */
void timeouts_clear(struct timeouts *set, struct timeout *timeout);
/* The earliest deadline, or TIME_NEVER. */
uint64_t timeouts_next(const struct timeouts *set);
/*
 * Calls `expired` of each whose deadline has come, each taken out of the set before the call. The call may set,
 * clear and free any of them; one that is set again to a time already past may wait for the next run.
 */
void timeouts_run(struct timeouts *set, uint64_t now_ns);

#endif
