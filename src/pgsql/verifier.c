#include "pgsql/verifier.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"

enum { SLOTS = 4096, ID = 32, SALT_LEN = 16 /* as PostgreSQL's */ };

/* Found by a keyed hash of user and password; a newer one in the same slot takes its place. */
struct slot {
	bool used;
	uint8_t id[ID];
	uint8_t stored[SCRAM_KEY], server[SCRAM_KEY];
};

static struct {
	pthread_once_t once;
	bool ok;
	uint8_t key[32]; /* immutable after `once` */
	_Atomic bool scram_is_usual;
	pthread_mutex_t mutex;
	struct slot *slots; /* under the mutex */
} process = {.once = PTHREAD_ONCE_INIT, .mutex = PTHREAD_MUTEX_INITIALIZER};

static void init(void) {
	process.ok = secret_random(process.key, sizeof process.key);
}

/* HMAC of a purpose and two strings, each with its zero. */
static bool keyed_hash(char purpose, const char *a, const char *b, uint8_t out[ID]) {
	unsigned out_len = ID;
	size_t a_size = strlen(a) + 1, b_size = strlen(b) + 1;

	pthread_once(&process.once, init);
	uint8_t *text = malloc(1 + a_size + b_size);
	if (!text || !process.ok) {
		free(text);
		return false;
	}
	text[0] = (uint8_t)purpose;
	memcpy(text + 1, a, a_size);
	memcpy(text + 1 + a_size, b, b_size);
	bool ok = HMAC(EVP_sha256(), process.key, sizeof process.key, text, 1 + a_size + b_size, out, &out_len) != NULL;
	secret_wipe(text, 1 + a_size + b_size);
	free(text);
	return ok;
}

bool verifier_salt(const char *user, struct scram_salt *salt) {
	uint8_t hash[ID];

	if (!keyed_hash('s', user, "", hash))
		return false;
	memset(salt, 0, sizeof *salt);
	salt->iterations = SCRAM_ITERATIONS;
	salt->len = SALT_LEN;
	memcpy(salt->bytes, hash, SALT_LEN);
	return true;
}

static struct slot *slot_locked(const uint8_t id[ID]) {
	if (!process.slots)
		process.slots = calloc(SLOTS, sizeof *process.slots);
	return process.slots ? &process.slots[((size_t)id[0] << 8 | id[1]) % SLOTS] : NULL;
}

bool verifier_find(const char *user, const char *password, struct scram_secret *secret) {
	uint8_t id[ID];
	bool found = false;

	if (!keyed_hash('v', user, password, id))
		return false;
	pthread_mutex_lock(&process.mutex);
	const struct slot *slot = slot_locked(id);
	if (slot && slot->used && secret_equal(slot->id, ID, id, ID)) {
		memcpy(secret->stored, slot->stored, SCRAM_KEY);
		memcpy(secret->server, slot->server, SCRAM_KEY);
		found = true;
	}
	pthread_mutex_unlock(&process.mutex);
	return found;
}

void verifier_keep(const char *user, const char *password, const struct scram_keys *keys) {
	uint8_t id[ID];

	if (!keyed_hash('v', user, password, id))
		return;
	pthread_mutex_lock(&process.mutex);
	struct slot *slot = slot_locked(id);
	if (slot) {
		slot->used = true;
		memcpy(slot->id, id, ID);
		memcpy(slot->stored, keys->stored, SCRAM_KEY);
		memcpy(slot->server, keys->server, SCRAM_KEY);
	}
	pthread_mutex_unlock(&process.mutex);
}

void verifier_saw_scram(bool scram) {
	atomic_store_explicit(&process.scram_is_usual, scram, memory_order_relaxed);
}

bool verifier_scram_is_usual(void) {
	return atomic_load_explicit(&process.scram_is_usual, memory_order_relaxed);
}
