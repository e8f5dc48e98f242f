/*
 * How long things took, counted by duration: one writer, read relaxed by anybody. The bounds are those of Prometheus'
 * histograms, 1-2.5-5 from 100 us to 100 s, so that what is counted here is shown as it is.
 */
#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

#include "base/cache.h"
#include "base/clock.h"
#include "base/stat.h"

enum { HISTOGRAM_BOUNDS = 19, HISTOGRAM_BUCKETS = HISTOGRAM_BOUNDS + 1 };

/* Upper bounds in ns, each inclusive; what is above the last is in a bucket of its own. */
#define HISTOGRAM_BOUND_LIST                                                                                           \
	{100 * NS_PER_US, 250 * NS_PER_US, 500 * NS_PER_US, 1 * NS_PER_MS,  2500 * NS_PER_US, 5 * NS_PER_MS,           \
	 10 * NS_PER_MS,  25 * NS_PER_MS,  50 * NS_PER_MS,  100 * NS_PER_MS, 250 * NS_PER_MS,  500 * NS_PER_MS,        \
	 1 * NS_PER_S,    2500 * NS_PER_MS, 5 * NS_PER_S,   10 * NS_PER_S,   25 * NS_PER_S,    50 * NS_PER_S,          \
	 100 * NS_PER_S}

struct histogram {
	_Alignas(CACHE_LINE) stat_counter sum_ns; /* shares its line with what is counted most: up to 10 ms */
	stat_counter buckets[HISTOGRAM_BUCKETS];  /* each of what was above the bound before and not above its own */
};

static inline void histogram_add(struct histogram *h, uint64_t ns) {
	static const uint64_t bounds[HISTOGRAM_BOUNDS] = HISTOGRAM_BOUND_LIST;
	int i = 0;
	while (i < HISTOGRAM_BOUNDS && ns > bounds[i]) /* most are short */
		i++;
	stat_add(&h->buckets[i], 1);
	stat_add(&h->sum_ns, ns);
}

#endif
