#include "pgsql/verifier.h"

#include <stdatomic.h>
#include <string.h>

#include "base/keyed_cache.h"
#include "base/secret.h"

enum { SALT_LEN = 16 /* as PostgreSQL's */ };

struct kept {
	uint8_t stored[SCRAM_KEY], server[SCRAM_KEY];
};
_Static_assert(sizeof(struct kept) <= KEYED_CACHE_VALUE_MAX && (int)SALT_LEN <= (int)KEYED_CACHE_ID, "no room");

static struct {
	struct keyed_cache cache;
	_Atomic bool scram_is_usual;
} process = {.cache = KEYED_CACHE(sizeof(struct kept))};

bool verifier_salt(const char *user, struct scram_salt *salt) {
	uint8_t hash[KEYED_CACHE_ID];

	if (!keyed_cache_hash(&process.cache, 's', user, "", hash))
		return false;
	memset(salt, 0, sizeof *salt);
	salt->iterations = SCRAM_ITERATIONS;
	salt->len = SALT_LEN;
	memcpy(salt->bytes, hash, SALT_LEN);
	return true;
}

bool verifier_find(const char *user, const char *password, struct scram_secret *secret) {
	struct kept kept;

	if (!keyed_cache_find(&process.cache, user, password, &kept))
		return false;
	memcpy(secret->stored, kept.stored, SCRAM_KEY);
	memcpy(secret->server, kept.server, SCRAM_KEY);
	secret_wipe(&kept, sizeof kept);
	return true;
}

void verifier_keep(const char *user, const char *password, const struct scram_keys *keys) {
	struct kept kept;

	memcpy(kept.stored, keys->stored, SCRAM_KEY);
	memcpy(kept.server, keys->server, SCRAM_KEY);
	keyed_cache_keep(&process.cache, user, password, &kept);
	secret_wipe(&kept, sizeof kept);
}

void verifier_saw_scram(bool scram) {
	atomic_store_explicit(&process.scram_is_usual, scram, memory_order_relaxed);
}

bool verifier_scram_is_usual(void) {
	return atomic_load_explicit(&process.scram_is_usual, memory_order_relaxed);
}
