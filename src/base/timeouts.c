#include "base/timeouts.h"

#include <stdlib.h>

#include "base/clock.h"

/* A binary heap; heap[slot - 1] is the node of that slot. Its children are in slots 2n and 2n + 1. */

static void place(struct timeouts *set, struct timeout *timeout, uint32_t slot) {
	set->heap[slot - 1] = timeout;
	timeout->slot = slot;
}

static void sift_up(struct timeouts *set, struct timeout *timeout, uint32_t slot) {
	while (slot > 1) {
		struct timeout *parent = set->heap[slot / 2 - 1];
		if (parent->deadline_ns <= timeout->deadline_ns)
			break;
		place(set, parent, slot);
		slot /= 2;
	}
	place(set, timeout, slot);
}

static void sift_down(struct timeouts *set, struct timeout *timeout, uint32_t slot) {
	while (slot <= set->count / 2) {
		uint32_t child = 2 * slot;
		if (child < set->count && set->heap[child]->deadline_ns < set->heap[child - 1]->deadline_ns)
			child++;
		if (timeout->deadline_ns <= set->heap[child - 1]->deadline_ns)
			break;
		place(set, set->heap[child - 1], slot);
		slot = child;
	}
	place(set, timeout, slot);
}

/* Puts a node whose deadline may be anything where it belongs, beginning at a slot that is free. */
static void settle(struct timeouts *set, struct timeout *timeout, uint32_t slot) {
	if (slot > 1 && set->heap[slot / 2 - 1]->deadline_ns > timeout->deadline_ns)
		sift_up(set, timeout, slot);
	else
		sift_down(set, timeout, slot);
}

void timeouts_init(struct timeouts *set) {
	*set = (struct timeouts){0};
}

void timeouts_free(struct timeouts *set) {
	for (uint32_t i = 0; i < set->count; i++)
		set->heap[i]->slot = 0;
	free(set->heap);
	timeouts_init(set);
}

bool timeouts_set(struct timeouts *set, struct timeout *timeout, uint64_t deadline_ns) {
	if (timeout->slot) {
		if (timeout->deadline_ns != deadline_ns) {
			timeout->deadline_ns = deadline_ns;
			settle(set, timeout, timeout->slot);
		}
		return true;
	}
	if (set->count == set->cap) {
		uint32_t cap = set->cap ? set->cap * 2 : 64;
		struct timeout **heap = realloc(set->heap, cap * sizeof *heap);
		if (!heap)
			return false;
		set->heap = heap;
		set->cap = cap;
	}
	timeout->deadline_ns = deadline_ns;
	sift_up(set, timeout, ++set->count);
	return true;
}

void timeouts_clear(struct timeouts *set, struct timeout *timeout) {
	uint32_t slot = timeout->slot;

	if (!slot)
		return;
	timeout->slot = 0;
	struct timeout *last = set->heap[--set->count];
	if (last != timeout)
		settle(set, last, slot);
}

uint64_t timeouts_next(const struct timeouts *set) {
	return set->count ? set->heap[0]->deadline_ns : TIME_NEVER;
}

void timeouts_run(struct timeouts *set, uint64_t now_ns) {
	/*
	 * At most as many calls as there are nodes now: one that sets itself again to a time already past waits for
	 * the next run, so that it cannot keep the loop from its sockets.
	 */
	for (uint32_t calls = set->count; calls > 0 && timeouts_next(set) <= now_ns && set->count > 0; calls--) {
		struct timeout *timeout = set->heap[0];
		timeouts_clear(set, timeout);
		timeout->expired(timeout, now_ns);
	}
}
