#include "session/database.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "session/acquire.h"
#include "session/backend.h"
#include "session/keepalive.h"
#include "session/session.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

/* The table of databases: made and found under the mutex; a database itself lives until the process ends. */
struct slot {
	UT_hash_handle hh;
	struct database database;
};

static struct {
	pthread_mutex_t mutex;
	struct slot *by_name;
	uint32_t automatic;
} table = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* So that nobody sees a user that has no account yet. */
static pthread_mutex_t accounts_mutex = PTHREAD_MUTEX_INITIALIZER;

struct database *database_of_shard(const struct pool_shard *shard) {
	return pool_context(pool_of(shard));
}

static struct pool_limits limits_of(const struct pool_config *c) {
	return (struct pool_limits){
		.max_size = c->max_size,
		.min_idle = c->min_idle,
		.max_waiting = c->max_waiting,
		.max_size_per_user = c->max_size_per_user,
		.acquire_timeout = c->acquire_timeout,
		.idle_timeout = c->idle_timeout,
		.max_lifetime = c->max_lifetime,
	};
}

/* The configuration of a database in a generation: its own section, or [pool:*]. */
static const struct pool_config *config_of(const struct generation *g, const struct database *d, size_t *index) {
	const struct pool_config *c = config_pool(g->config, d->name);
	if (!c || strcmp(c->name, "*") == 0 || c->protocol != d->protocol->id)
		c = config_wildcard_pool(g->config, d->protocol->id);
	if (c)
		*index = (size_t)(c - g->config->pools);
	return c;
}

static struct slot *find_locked(const char *name) {
	struct slot *slot = NULL;
	HASH_FIND_STR(table.by_name, name, slot);
	return slot;
}

static void slot_free(struct slot *slot) {
	struct database *d = &slot->database;
	if (d->fixed)
		pool_user_unref(d->fixed);
	if (d->pool)
		pool_free(d->pool);
	for (int i = 0; i < d->workers; i++)
		generation_unref(d->views[i].generation);
	free(d->name);
	free(slot);
}

static struct slot *slot_new(const struct protocol *protocol, const char *name, const struct pool_config *config,
			     int workers, bool automatic) {
	struct slot *slot = calloc(1, sizeof *slot);
	if (!slot)
		return NULL;
	struct database *d = &slot->database;
	d->protocol = protocol;
	d->workers = workers;
	d->automatic = automatic;
	d->name = strdup(name);
	struct pool_limits limits = limits_of(config);
	if (d->name)
		d->pool = pool_new(name, workers, &limits, &session_pool_ops, d);
	if (!d->pool) {
		slot_free(slot);
		return NULL;
	}
	for (int i = 0; i < workers; i++) {
		d->views[i].shard = pool_shard(d->pool, i);
		d->views[i].tick.expired = session_pool_tick;
	}
	backend_set_hosts(d->pool, config);
	return slot;
}

static bool add_locked(struct slot *slot) {
	unsigned before = HASH_COUNT(table.by_name);
	HASH_ADD_KEYPTR(hh, table.by_name, slot->database.name, strlen(slot->database.name), slot);
	return HASH_COUNT(table.by_name) == before + 1;
}

/* Takes over a generation in this worker's view, if it is not there yet. */
static void view_adopt(struct session_worker *sw, struct database *d, struct generation *g) {
	struct database_view *view = database_view(d, sw->worker->id);
	if (view->generation == g)
		return;
	size_t index = 0;
	const struct pool_config *c = config_of(g, d, &index);
	if (!c) /* its section has gone: the old settings serve until its last client leaves */
		return;
	generation_unref(view->generation);
	view->generation = generation_ref(g);
	view->config = c;
	view->tls = g->pool_tls[index];
	keepalive_arm(sw, view);
}

bool database_adopt(struct session_worker *sw, struct database *d) {
	if (!database_view(d, sw->worker->id)->config)
		view_adopt(sw, d, sw->generation);
	return database_view(d, sw->worker->id)->config != NULL;
}

struct database *database_find(struct session_worker *sw, enum protocol_id protocol, const char *name,
			       struct error *error) {
	const struct config *config = sw->generation->config;
	pthread_mutex_lock(&table.mutex);
	struct slot *slot = find_locked(name);
	if (!slot) {
		const struct pool_config *c = config_wildcard_pool(config, protocol);
		if (!c) {
			error_set(error, 0, "there is no pool for database \"%s\"; add a section [pool:%s] or [pool:*]",
				  name, name);
		} else if (table.automatic >= config->max_auto_pools) {
			error_set(error, 0,
				  "too many databases: %u pools were made from [pool:*], which is max_auto_pools; raise it "
				  "or give the database a section of its own",
				  table.automatic);
		} else {
			slot = slot_new(protocol_by_id(protocol), name, c, session_workers(), true);
			if (slot && !add_locked(slot)) {
				slot_free(slot);
				slot = NULL;
			}
			if (slot)
				table.automatic++;
			else
				error_set(error, 0, "out of memory");
		}
	}
	pthread_mutex_unlock(&table.mutex);
	if (!slot)
		return NULL;
	struct database *d = &slot->database;
	if (d->protocol->id != protocol || atomic_load(&d->removed)) {
		error_set(error, 0, "there is no pool for database \"%s\"; add a section [pool:%s]", name, name);
		return NULL;
	}
	if (atomic_load(&d->disabled)) {
		error_set(error, 0, "database \"%s\" is disabled; an operator can ENABLE it on the console", name);
		return NULL;
	}
	view_adopt(sw, d, sw->generation);
	return database_view(d, sw->worker->id)->config ? d : NULL;
}

bool databases_apply(struct generation *g, int workers, struct error *error) {
	bool ok = true;
	backends_apply(g->config);
	pthread_mutex_lock(&table.mutex);
	for (size_t i = 0; ok && i < g->config->pool_count; i++) {
		const struct pool_config *c = &g->config->pools[i];
		if (strcmp(c->name, "*") == 0 || find_locked(c->name))
			continue;
		struct slot *slot = slot_new(protocol_by_id(c->protocol), c->name, c, workers, false);
		if (!slot || !add_locked(slot)) {
			ok = error_set(error, 0, "out of memory while making pool \"%s\"", c->name);
			if (slot)
				slot_free(slot);
		}
	}
	for (struct slot *slot = table.by_name, *next; slot; slot = next) {
		next = slot->hh.next;
		struct database *d = &slot->database;
		size_t index = 0;
		const struct pool_config *c = config_of(g, d, &index);
		atomic_store(&d->removed, c == NULL);
		if (c) {
			struct pool_limits limits = limits_of(c);
			pool_set_limits(d->pool, &limits);
			backend_set_hosts(d->pool, c);
		}
	}
	pthread_mutex_unlock(&table.mutex);
	return ok;
}

/* A pool with a user of its own has an account from the start, so that min_idle needs no client. */
static void fixed_account(struct database *d, const struct pool_config *c) {
	if (!c->user)
		return;
	struct pool_user *user = database_user(d, c->user);
	if (!user)
		return;
	void *credential = d->protocol->credential_fixed(c->user, c->password);
	if (credential)
		account_set_credential(account_of(user), credential);
	/* the reference is kept while the pool lives */
	if (d->fixed)
		pool_user_unref(d->fixed);
	d->fixed = user;
	pool_user_set_fixed(user, true);
}

void databases_adopt(struct session_worker *sw, struct generation *g) {
	pthread_mutex_lock(&table.mutex);
	for (struct slot *slot = table.by_name; slot; slot = slot->hh.next) {
		struct database *d = &slot->database;
		view_adopt(sw, d, g);
		struct database_view *view = database_view(d, sw->worker->id);
		if (view->config && sw->worker->id == 0)
			fixed_account(d, view->config);
	}
	pthread_mutex_unlock(&table.mutex);
}

void databases_each(void (*each)(struct database *database, void *context), void *context) {
	pthread_mutex_lock(&table.mutex);
	for (struct slot *slot = table.by_name; slot; slot = slot->hh.next)
		each(&slot->database, context);
	pthread_mutex_unlock(&table.mutex);
}

void databases_free(void) {
	for (struct slot *slot = table.by_name, *next; slot; slot = next) {
		next = slot->hh.next;
		HASH_DEL(table.by_name, slot);
		for (int i = 0; i < slot->database.workers; i++) {
			timeouts_clear(&session_worker(i)->worker->timeouts, &slot->database.views[i].tick);
			timeouts_clear(&session_worker(i)->worker->timeouts, &slot->database.views[i].keepalive);
		}
		slot_free(slot);
	}
	table.automatic = 0;
}

struct pool_user *database_user(struct database *database, const char *name) {
	pthread_mutex_lock(&accounts_mutex);
	struct pool_user *user = pool_user_get(database->pool, name, NULL);
	if (user && !account_of(user)) {
		struct account *account = account_new(database->protocol);
		if (account) {
			pool_user_set_context(user, account);
		} else {
			pool_user_unref(user);
			user = NULL;
		}
	}
	pthread_mutex_unlock(&accounts_mutex);
	return user;
}
