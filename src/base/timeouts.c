#include "base/timeouts.h"

#include <stdlib.h>

#include "base/clock.h"

/*
 * A heap; heap[slot - 1] is the entry of that slot. It keeps the deadlines itself and has four children to a node, so that the way
 * through it touches few nodes: with thousands in the set they are not in the processor's cache.
 */
enum { CHILDREN = 4 };

static uint32_t parent_of(uint32_t slot) {
	return (slot - 2) / CHILDREN + 1;
}

static uint32_t first_child_of(uint32_t slot) {
	return (slot - 1) * CHILDREN + 2;
}

static uint64_t deadline_at(const struct timeouts *set, uint32_t slot) {
	return set->heap[slot - 1].deadline_ns;
}

static void place(struct timeouts *set, struct timeouts_entry entry, uint32_t slot) {
	set->heap[slot - 1] = entry;
	entry.timeout->slot = slot;
}

static void sift_up(struct timeouts *set, struct timeouts_entry entry, uint32_t slot) {
	while (slot > 1 && deadline_at(set, parent_of(slot)) > entry.deadline_ns) {
		place(set, set->heap[parent_of(slot) - 1], slot);
		slot = parent_of(slot);
	}
	place(set, entry, slot);
}

static void sift_down(struct timeouts *set, struct timeouts_entry entry, uint32_t slot) {
	for (uint32_t child; (child = first_child_of(slot)) <= set->count; slot = child) {
		uint32_t end = set->count - child < CHILDREN ? set->count + 1 : child + CHILDREN;
		for (uint32_t other = child + 1; other < end; other++)
			if (deadline_at(set, other) < deadline_at(set, child))
				child = other;
		if (entry.deadline_ns <= deadline_at(set, child))
			break;
		place(set, set->heap[child - 1], slot);
	}
	place(set, entry, slot);
}

/* Puts an entry whose deadline may be anything where it belongs, beginning at a slot that is free. */
static void settle(struct timeouts *set, struct timeouts_entry entry, uint32_t slot) {
	if (slot > 1 && deadline_at(set, parent_of(slot)) > entry.deadline_ns)
		sift_up(set, entry, slot);
	else
		sift_down(set, entry, slot);
}

void timeouts_init(struct timeouts *set) {
	*set = (struct timeouts){0};
}

void timeouts_free(struct timeouts *set) {
	for (uint32_t i = 0; i < set->count; i++)
		set->heap[i].timeout->slot = 0;
	free(set->heap);
	timeouts_init(set);
}

bool timeouts_set(struct timeouts *set, struct timeout *timeout, uint64_t deadline_ns) {
	struct timeouts_entry entry = {deadline_ns, timeout};

	if (timeout->slot) {
		if (timeout->deadline_ns != deadline_ns)
			settle(set, entry, timeout->slot);
		timeout->deadline_ns = deadline_ns;
		return true;
	}
	if (set->count == set->cap) {
		uint32_t cap = set->cap ? set->cap * 2 : 64;
		struct timeouts_entry *heap = realloc(set->heap, cap * sizeof *heap);
		if (!heap)
			return false;
		set->heap = heap;
		set->cap = cap;
	}
	timeout->deadline_ns = deadline_ns;
	sift_up(set, entry, ++set->count);
	return true;
}

void timeouts_clear(struct timeouts *set, struct timeout *timeout) {
	uint32_t slot = timeout->slot;

	if (!slot)
		return;
	timeout->slot = 0;
	struct timeouts_entry last = set->heap[--set->count];
	if (last.timeout != timeout)
		settle(set, last, slot);
}

uint64_t timeouts_next(const struct timeouts *set) {
	return set->count ? set->heap[0].deadline_ns : TIME_NEVER;
}

void timeouts_run(struct timeouts *set, uint64_t now_ns) {
	/*
	 * At most as many calls as there are nodes now: one that sets itself again to a time already past waits for
	 * the next run, so that it cannot keep the loop from its sockets.
	 */
	for (uint32_t calls = set->count; calls > 0 && timeouts_next(set) <= now_ns && set->count > 0; calls--) {
		struct timeout *timeout = set->heap[0].timeout;
		timeouts_clear(set, timeout);
		timeout->expired(timeout, now_ns);
	}
}
