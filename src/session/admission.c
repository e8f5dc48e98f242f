#include "session/admission.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

bool place_take(_Atomic uint32_t *taken, uint32_t limit) {
	uint32_t n = atomic_load(taken);
	do {
		if (limit && n >= limit)
			return false;
	} while (!atomic_compare_exchange_weak(taken, &n, n + 1));
	return true;
}

void place_return(_Atomic uint32_t *taken) {
	atomic_fetch_sub(taken, 1);
}

/* Users with a client that is in; all under the mutex. Those without a limit are counted too: a reload may set one. */
struct user_places {
	UT_hash_handle hh;
	uint32_t taken;
	char name[];
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct user_places *by_name;

static struct user_places *add_locked(const char *name) {
	size_t len = strlen(name);
	struct user_places *places = calloc(1, sizeof *places + len + 1);
	if (!places)
		return NULL;
	memcpy(places->name, name, len + 1);
	unsigned before = HASH_COUNT(by_name);
	HASH_ADD_KEYPTR(hh, by_name, places->name, len, places);
	if (HASH_COUNT(by_name) == before + 1)
		return places;
	free(places);
	return NULL;
}

struct user_places *user_place_take(const char *name, uint32_t limit, bool *no_memory) {
	struct user_places *places = NULL;
	*no_memory = false;
	pthread_mutex_lock(&mutex);
	HASH_FIND_STR(by_name, name, places);
	if (!places) {
		places = add_locked(name);
		*no_memory = !places;
	} else if (limit && places->taken >= limit) {
		places = NULL;
	}
	if (places)
		places->taken++;
	pthread_mutex_unlock(&mutex);
	return places;
}

void user_place_return(struct user_places *places) {
	if (!places)
		return;
	pthread_mutex_lock(&mutex);
	if (--places->taken == 0) {
		HASH_DEL(by_name, places);
		free(places);
	}
	pthread_mutex_unlock(&mutex);
}

bool user_places_are(const struct user_places *places, const char *name) {
	return places && strcmp(places->name, name) == 0;
}

const char *user_places_name(const struct user_places *places) {
	return places->name;
}
