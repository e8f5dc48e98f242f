#include "base/keyed_cache.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"

struct keyed_cache_slot {
	bool used;
	uint8_t id[KEYED_CACHE_ID];
	uint8_t value[KEYED_CACHE_VALUE_MAX];
};

static bool key_of(struct keyed_cache *cache, uint8_t key[32]) {
	pthread_mutex_lock(&cache->mutex);
	if (!cache->keyed)
		cache->keyed = secret_random(cache->key, sizeof cache->key);
	bool ok = cache->keyed;
	memcpy(key, cache->key, sizeof cache->key);
	pthread_mutex_unlock(&cache->mutex);
	return ok;
}

/* HMAC of the purpose and both strings, each with its zero. */
bool keyed_cache_hash(struct keyed_cache *cache, char purpose, const char *a, const char *b, uint8_t out[KEYED_CACHE_ID]) {
	unsigned out_len = KEYED_CACHE_ID;
	size_t a_size = strlen(a) + 1, b_size = strlen(b) + 1;
	uint8_t key[sizeof cache->key], *text = malloc(1 + a_size + b_size);

	if (!text || !key_of(cache, key)) {
		free(text);
		return false;
	}
	text[0] = (uint8_t)purpose;
	memcpy(text + 1, a, a_size);
	memcpy(text + 1 + a_size, b, b_size);
	bool ok = HMAC(EVP_sha256(), key, sizeof key, text, 1 + a_size + b_size, out, &out_len) != NULL;
	secret_wipe(key, sizeof key);
	secret_wipe(text, 1 + a_size + b_size);
	free(text);
	return ok;
}

static struct keyed_cache_slot *slot_locked(struct keyed_cache *cache, const uint8_t id[KEYED_CACHE_ID]) {
	if (!cache->slots)
		cache->slots = calloc(KEYED_CACHE_SLOTS, sizeof *cache->slots);
	return cache->slots ? &cache->slots[((size_t)id[0] << 8 | id[1]) % KEYED_CACHE_SLOTS] : NULL;
}

bool keyed_cache_find(struct keyed_cache *cache, const char *user, const char *secret, void *value) {
	uint8_t id[KEYED_CACHE_ID];

	if (!keyed_cache_hash(cache, 'v', user, secret, id))
		return false;
	pthread_mutex_lock(&cache->mutex);
	const struct keyed_cache_slot *slot = slot_locked(cache, id);
	bool found = slot && slot->used && secret_equal(slot->id, sizeof id, id, sizeof id);
	if (found)
		memcpy(value, slot->value, cache->value_size);
	pthread_mutex_unlock(&cache->mutex);
	return found;
}

void keyed_cache_keep(struct keyed_cache *cache, const char *user, const char *secret, const void *value) {
	uint8_t id[KEYED_CACHE_ID];

	if (!keyed_cache_hash(cache, 'v', user, secret, id))
		return;
	pthread_mutex_lock(&cache->mutex);
	struct keyed_cache_slot *slot = slot_locked(cache, id);
	if (slot) {
		slot->used = true;
		memcpy(slot->id, id, sizeof id);
		memcpy(slot->value, value, cache->value_size);
	}
	pthread_mutex_unlock(&cache->mutex);
}
