/* The registry of public client ids: a hash table split into parts, each under its own mutex. */
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "session/cancel.h"

#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(entry) ((entry)->lost = true)
#include <uthash.h>

enum { PARTS = 16 };

struct entry {
	UT_hash_handle hh;
	uint32_t id;
	int worker;
	struct client *client;
	uint8_t secret[CANCEL_SECRET_MAX];
	uint8_t secret_len;
	bool lost;
};

static struct part {
	pthread_mutex_t mutex;
	struct entry *by_id;
} parts[PARTS] = {[0 ... PARTS - 1] = {.mutex = PTHREAD_MUTEX_INITIALIZER}};

static struct part *part_lock(uint32_t id) {
	struct part *part = &parts[id % PARTS];
	pthread_mutex_lock(&part->mutex);
	return part;
}

static struct entry *find_locked(struct part *part, uint32_t id) {
	struct entry *e = NULL;
	HASH_FIND(hh, part->by_id, &id, sizeof id, e);
	return e;
}

uint32_t registry_add(struct client *client, int worker, const uint8_t *secret, size_t secret_len) {
	struct entry *e = calloc(1, sizeof *e);
	if (!e || secret_len > sizeof e->secret) {
		free(e);
		return 0;
	}
	e->client = client;
	e->worker = worker;
	e->secret_len = (uint8_t)secret_len;
	memcpy(e->secret, secret, secret_len);
	for (;;) {
		if (!secret_random(&e->id, sizeof e->id)) {
			free(e);
			return 0;
		}
		e->id &= 0x7fffffff; /* some applications print it as a signed number */
		if (e->id == 0)
			continue;
		struct part *part = part_lock(e->id);
		if (find_locked(part, e->id)) {
			pthread_mutex_unlock(&part->mutex);
			continue;
		}
		HASH_ADD(hh, part->by_id, id, sizeof e->id, e);
		bool lost = e->lost;
		pthread_mutex_unlock(&part->mutex);
		if (lost) {
			free(e);
			return 0;
		}
		return e->id;
	}
}

void registry_remove(uint32_t id) {
	if (id == 0)
		return;
	struct part *part = part_lock(id);
	struct entry *e = find_locked(part, id);
	if (e)
		HASH_DEL(part->by_id, e);
	pthread_mutex_unlock(&part->mutex);
	if (e) {
		secret_wipe(e, sizeof *e);
		free(e);
	}
}

int registry_find(uint32_t id, const uint8_t *secret, size_t secret_len) {
	struct part *part = part_lock(id);
	struct entry *e = find_locked(part, id);
	int worker = -1;
	if (e && secret_equal(e->secret, e->secret_len, secret, secret_len))
		worker = e->worker;
	pthread_mutex_unlock(&part->mutex);
	return worker;
}

struct client *registry_client(uint32_t id, int worker) {
	struct part *part = part_lock(id);
	struct entry *e = find_locked(part, id);
	struct client *client = e && e->worker == worker ? e->client : NULL;
	pthread_mutex_unlock(&part->mutex);
	return client;
}
