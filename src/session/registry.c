/*
 * The registry of public client ids: a hash table split into parts, each under its own mutex. An entry is as small as can
 * be, for every client has one: its id and its worker are the client's own, which leaves the registry before it is freed.
 */
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "session/cancel.h"
#include "session/client.h"
#include "session/session.h"

enum { PARTS = 16, BUCKETS_FIRST = 16 };

struct entry {
	struct entry *next; /* in its bucket */
	struct client *client;
	uint8_t secret_len;
	uint8_t secret[];
};

/* The secret takes the place of what would be padding. */
static size_t size_of_entry(size_t secret_len) {
	return offsetof(struct entry, secret) + secret_len;
}

static struct part {
	pthread_mutex_t mutex;
	struct entry **buckets;
	uint32_t bucket_count; /* a power of two; 0: none yet */
	uint32_t count;
} parts[PARTS] = {[0 ... PARTS - 1] = {.mutex = PTHREAD_MUTEX_INITIALIZER}};

static struct part *part_lock(uint32_t id) {
	struct part *part = &parts[id % PARTS];
	pthread_mutex_lock(&part->mutex);
	return part;
}

/* Ids are random, and so spread by themselves. */
static struct entry **bucket_of(struct entry **buckets, uint32_t bucket_count, uint32_t id) {
	return &buckets[id / PARTS & (bucket_count - 1)];
}

/* The link that leads to the entry of this id; NULL: there is none. */
static struct entry **find_locked(struct part *part, uint32_t id) {
	if (part->bucket_count == 0)
		return NULL;
	struct entry **link = bucket_of(part->buckets, part->bucket_count, id);
	while (*link && (*link)->client->id != id)
		link = &(*link)->next;
	return *link ? link : NULL;
}

/* Makes room for one more. False: there is no bucket at all; a table that cannot grow gets longer chains. */
static bool reserve_locked(struct part *part) {
	if (part->count < part->bucket_count)
		return true;
	uint32_t count = part->bucket_count ? 2 * part->bucket_count : BUCKETS_FIRST;
	struct entry **buckets = calloc(count, sizeof *buckets);
	if (!buckets)
		return part->bucket_count > 0;
	for (uint32_t i = 0; i < part->bucket_count; i++)
		for (struct entry *e = part->buckets[i], *next; e; e = next) {
			struct entry **bucket = bucket_of(buckets, count, e->client->id);
			next = e->next;
			e->next = *bucket;
			*bucket = e;
		}
	free(part->buckets);
	part->buckets = buckets;
	part->bucket_count = count;
	return true;
}

/* False: out of memory, or the id is taken, which *taken tells. */
static bool insert(struct entry *e, uint32_t id, bool *taken) {
	struct part *part = part_lock(id);
	*taken = find_locked(part, id) != NULL;
	bool ok = !*taken && reserve_locked(part);
	if (ok) {
		struct entry **bucket = bucket_of(part->buckets, part->bucket_count, id);
		e->client->id = id;
		e->next = *bucket;
		*bucket = e;
		part->count++;
	}
	pthread_mutex_unlock(&part->mutex);
	return ok;
}

bool registry_add(struct client *client, const uint8_t *secret, size_t secret_len) {
	struct entry *e = secret_len <= CANCEL_SECRET_MAX ? malloc(size_of_entry(secret_len)) : NULL;
	bool taken = true;
	uint32_t id;
	if (!e)
		return false;
	e->client = client;
	e->secret_len = (uint8_t)secret_len;
	memcpy(e->secret, secret, secret_len);
	while (taken && secret_random(&id, sizeof id)) {
		id &= 0x7fffffff; /* some applications print it as a signed number */
		if (id != 0 && insert(e, id, &taken))
			return true;
	}
	secret_wipe(e, size_of_entry(secret_len));
	free(e);
	return false;
}

void registry_remove(struct client *client) {
	if (client->id == 0)
		return;
	struct part *part = part_lock(client->id);
	struct entry **link = find_locked(part, client->id);
	struct entry *e = link ? *link : NULL;
	if (e) {
		*link = e->next;
		part->count--;
	}
	pthread_mutex_unlock(&part->mutex);
	if (e) {
		secret_wipe(e, size_of_entry(e->secret_len));
		free(e);
	}
}

size_t registry_secret(const struct client *client, uint8_t secret[CANCEL_SECRET_MAX]) {
	struct part *part = part_lock(client->id);
	struct entry **link = find_locked(part, client->id);
	size_t len = link ? (*link)->secret_len : 0;
	if (link)
		memcpy(secret, (*link)->secret, len);
	pthread_mutex_unlock(&part->mutex);
	return len;
}

int registry_find(uint32_t id, const uint8_t *secret, size_t secret_len) {
	struct part *part = part_lock(id);
	struct entry **link = find_locked(part, id);
	int worker = -1;
	if (link && secret_equal((*link)->secret, (*link)->secret_len, secret, secret_len))
		worker = (*link)->client->sw->worker->id;
	pthread_mutex_unlock(&part->mutex);
	return worker;
}

int registry_worker(uint32_t id) {
	struct part *part = part_lock(id);
	struct entry **link = find_locked(part, id);
	int worker = link ? (*link)->client->sw->worker->id : -1;
	pthread_mutex_unlock(&part->mutex);
	return worker;
}

struct client *registry_client(uint32_t id, int worker) {
	struct part *part = part_lock(id);
	struct entry **link = find_locked(part, id);
	struct client *client = link && (*link)->client->sw->worker->id == worker ? (*link)->client : NULL;
	pthread_mutex_unlock(&part->mutex);
	return client;
}
