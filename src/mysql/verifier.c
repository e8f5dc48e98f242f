#include "mysql/verifier.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"

enum { SLOTS = 4096 };

/* Found by a keyed hash of user and stored secret; a newer one in the same slot takes its place. */
struct slot {
	bool used;
	uint8_t id[MY_SHA256];
	uint8_t known[MY_SHA256];
};

static struct {
	pthread_once_t once;
	bool ok;
	uint8_t key[32]; /* immutable after `once` */
	_Atomic unsigned seen; /* bits by enum my_secret_type */
	pthread_mutex_t mutex;
	struct slot *slots; /* under the mutex */
} process = {.once = PTHREAD_ONCE_INIT, .mutex = PTHREAD_MUTEX_INITIALIZER};

static void init(void) {
	process.ok = secret_random(process.key, sizeof process.key);
}

/* HMAC of a purpose and two strings, each with its zero. */
static bool keyed_hash(char purpose, const char *a, const char *b, uint8_t out[MY_SHA256]) {
	unsigned out_len = MY_SHA256;
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

static struct slot *slot_locked(const uint8_t id[MY_SHA256]) {
	if (!process.slots)
		process.slots = calloc(SLOTS, sizeof *process.slots);
	return process.slots ? &process.slots[((size_t)id[0] << 8 | id[1]) % SLOTS] : NULL;
}

bool my_verifier_find(const char *user, const char *stored, uint8_t known[MY_SHA256]) {
	uint8_t id[MY_SHA256];
	bool found = false;

	if (!keyed_hash('v', user, stored, id))
		return false;
	pthread_mutex_lock(&process.mutex);
	const struct slot *slot = slot_locked(id);
	if (slot && slot->used && secret_equal(slot->id, MY_SHA256, id, MY_SHA256)) {
		memcpy(known, slot->known, MY_SHA256);
		found = true;
	}
	pthread_mutex_unlock(&process.mutex);
	return found;
}

void my_verifier_keep(const char *user, const char *stored, const uint8_t known[MY_SHA256]) {
	uint8_t id[MY_SHA256];

	if (!keyed_hash('v', user, stored, id))
		return;
	pthread_mutex_lock(&process.mutex);
	struct slot *slot = slot_locked(id);
	if (slot) {
		slot->used = true;
		memcpy(slot->id, id, MY_SHA256);
		memcpy(slot->known, known, MY_SHA256);
	}
	pthread_mutex_unlock(&process.mutex);
}

void my_verifier_saw(enum my_secret_type type) {
	atomic_fetch_or_explicit(&process.seen, 1u << type, memory_order_relaxed);
}

enum my_secret_type my_verifier_guise(const char *user) {
	unsigned seen = atomic_load_explicit(&process.seen, memory_order_relaxed);
	enum my_secret_type among[MY_SECRET_FOREIGN + 1];
	uint8_t hash[MY_SHA256];
	size_t count = 0;

	for (unsigned type = MY_SECRET_PLAIN; type <= MY_SECRET_SHA2; type++)
		if (seen & 1u << type)
			among[count++] = type;
	if (count == 0 || !keyed_hash('g', user, "", hash))
		return MY_SECRET_PLAIN;
	return among[hash[0] % count];
}
