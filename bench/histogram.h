/*
 * A histogram of times in nanoseconds, up to 4 hours: 64 steps in each power of two, so a value is known to 1.6 %.
 * Recording is two shifts and an increment.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_STEPS = 64, HISTOGRAM_POWERS = 40, HISTOGRAM_SLOTS = HISTOGRAM_STEPS * HISTOGRAM_POWERS };

struct histogram {
	uint64_t count;
	uint64_t max_ns, sum_ns;
	uint64_t slots[HISTOGRAM_SLOTS];
};

static inline unsigned histogram_slot(uint64_t ns)
{
	if (ns < HISTOGRAM_STEPS)
		return (unsigned)ns;
	unsigned power = 63U - (unsigned)__builtin_clzll(ns); /* at least 6 */
	unsigned slot = (power - 5) * HISTOGRAM_STEPS + (unsigned)((ns >> (power - 6)) & (HISTOGRAM_STEPS - 1));

	return slot < HISTOGRAM_SLOTS ? slot : HISTOGRAM_SLOTS - 1;
}

static inline void histogram_add(struct histogram *h, uint64_t ns)
{
	h->count++;
	h->sum_ns += ns;
	h->slots[histogram_slot(ns)]++;
	if (ns > h->max_ns)
		h->max_ns = ns;
}

static inline void histogram_merge(struct histogram *into, const struct histogram *from)
{
	into->count += from->count;
	into->sum_ns += from->sum_ns;
	if (from->max_ns > into->max_ns)
		into->max_ns = from->max_ns;
	for (int i = 0; i < HISTOGRAM_SLOTS; i++)
		into->slots[i] += from->slots[i];
}

/* The time that the given part (0.99 ...) of the values do not exceed: the upper end of its step. 0 of nothing. */
static inline uint64_t histogram_at(const struct histogram *h, double part)
{
	uint64_t wanted = (uint64_t)(part * (double)h->count + 0.999999);
	uint64_t seen = 0;

	for (unsigned i = 0; i < HISTOGRAM_SLOTS; i++) {
		seen += h->slots[i];
		if (seen == 0 || seen < wanted)
			continue;
		if (i < HISTOGRAM_STEPS)
			return i;
		unsigned shift = i / HISTOGRAM_STEPS - 1;
		uint64_t top = ((uint64_t)(HISTOGRAM_STEPS + i % HISTOGRAM_STEPS) + 1) << shift;

		return top < h->max_ns ? top : h->max_ns;
	}
	return h->max_ns;
}

#endif
