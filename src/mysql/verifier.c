#include "mysql/verifier.h"

#include <stdatomic.h>

#include "base/keyed_cache.h"

_Static_assert((int)MY_SHA256 <= (int)KEYED_CACHE_VALUE_MAX, "no room");

static struct {
	struct keyed_cache cache;
	_Atomic unsigned seen; /* bits by enum my_secret_type */
} process = {.cache = KEYED_CACHE(MY_SHA256)};

bool my_verifier_find(const char *user, const char *stored, uint8_t known[MY_SHA256]) {
	return keyed_cache_find(&process.cache, user, stored, known);
}

void my_verifier_keep(const char *user, const char *stored, const uint8_t known[MY_SHA256]) {
	keyed_cache_keep(&process.cache, user, stored, known);
}

void my_verifier_saw(enum my_secret_type type) {
	atomic_fetch_or_explicit(&process.seen, 1u << type, memory_order_relaxed);
}

enum my_secret_type my_verifier_guise(const char *user) {
	unsigned seen = atomic_load_explicit(&process.seen, memory_order_relaxed);
	enum my_secret_type among[MY_SECRET_FOREIGN + 1];
	uint8_t hash[KEYED_CACHE_ID];
	size_t count = 0;

	for (unsigned type = MY_SECRET_PLAIN; type <= MY_SECRET_SHA2; type++)
		if (seen & 1u << type)
			among[count++] = type;
	if (count == 0 || !keyed_cache_hash(&process.cache, 'g', user, "", hash))
		return MY_SECRET_PLAIN;
	return among[hash[0] % count];
}
