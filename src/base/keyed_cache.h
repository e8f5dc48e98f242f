/*
 * A bounded table of what was derived from secrets at a price, for the whole process: found by a hash of the secret under a
 * random key, so that it holds no secret to be found, and nobody outside can aim at a place in it. A newer entry takes the
 * place of an older one. Any thread. Defined statically by KEYED_CACHE.
 */
#ifndef BASE_KEYED_CACHE_H
#define BASE_KEYED_CACHE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KEYED_CACHE_ID = 32, KEYED_CACHE_VALUE_MAX = 64, KEYED_CACHE_SLOTS = 4096 };

struct keyed_cache_slot;

struct keyed_cache {
	size_t value_size; /* immutable; at most KEYED_CACHE_VALUE_MAX */
	/* under the mutex */
	pthread_mutex_t mutex;
	bool keyed;
	uint8_t key[32];                /* stays once `keyed` */
	struct keyed_cache_slot *slots; /* NULL: none yet */
};
#define KEYED_CACHE(size) {.value_size = (size), .mutex = PTHREAD_MUTEX_INITIALIZER}

/* A hash of two strings, for a purpose of its own, that stays the same as long as the process and is random to outsiders.
 * False: no randomness, or out of memory. */
bool keyed_cache_hash(struct keyed_cache *cache, char purpose, const char *a, const char *b, uint8_t out[KEYED_CACHE_ID]);
/* What was kept of this user and secret; false: nothing. */
bool keyed_cache_find(struct keyed_cache *cache, const char *user, const char *secret, void *value);
void keyed_cache_keep(struct keyed_cache *cache, const char *user, const char *secret, const void *value);

#endif
