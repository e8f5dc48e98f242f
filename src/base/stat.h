/* Counters with one writer, read relaxed by anybody (console, metrics). */
#ifndef BASE_STAT_H
#define BASE_STAT_H

#include <stdatomic.h>
#include <stdint.h>

typedef _Atomic uint64_t stat_counter;

static inline void stat_add(stat_counter *c, uint64_t n) {
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}

static inline uint64_t stat_read(const stat_counter *c) {
	return atomic_load_explicit((stat_counter *)c, memory_order_relaxed);
}

#endif
