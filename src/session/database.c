#include "session/database.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "config/nearest.h"
#include "session/acquire.h"
#include "session/backend.h"
#include "session/deadline.h"
#include "session/keepalive.h"
#include "session/session.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

/* The table of databases: made and found under the mutex; a database itself lives until the process ends. */
struct slot {
	UT_hash_handle hh;
	struct database database;
};

/* Connections that another process may have of a database, which need not be there yet. */
struct elsewhere {
	UT_hash_handle hh;
	uint32_t connections;
	char name[];
};

static struct {
	pthread_mutex_t mutex;
	struct slot *by_name;
	struct elsewhere *elsewhere;
	uint32_t elsewhere_rest; /* of those that are not named there */
	uint32_t automatic;
	bool paused; /* so are those to come: PAUSE without a name */
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
		.fail_unavailable = c->when_unavailable == UNAVAILABLE_FAIL,
	};
}

const struct config_address *database_host(const struct database_view *view, int place) {
	char wanted[BACKEND_NAME_MAX], name[BACKEND_NAME_MAX];
	pool_host_name(pool_of(view->shard), place, wanted, sizeof wanted);
	for (size_t i = 0; i < view->config->host_count; i++) {
		backend_name(&view->config->hosts[i], name, sizeof name);
		if (strcmp(name, wanted) == 0)
			return &view->config->hosts[i];
	}
	return NULL;
}

void database_host_role(struct database *database, int place, enum pool_role role) {
	if (pool_host_role(database->pool, place, role))
		session_tick(database);
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

static uint32_t elsewhere_locked(const char *name) {
	struct elsewhere *e = NULL;
	HASH_FIND_STR(table.elsewhere, name, e);
	return e ? e->connections : table.elsewhere_rest;
}

static struct pool_limits limits_in_force(const struct database *d) {
	struct pool_limits limits = d->limits;
	limits.max_size = limits.max_size > d->elsewhere ? limits.max_size - d->elsewhere : 0;
	return limits;
}

static struct slot *slot_new(const struct protocol *protocol, const char *name, const struct pool_config *config,
			     int workers, bool automatic) {
	struct slot *slot = calloc(1, sizeof *slot);
	if (!slot)
		return NULL;
	struct database *d = &slot->database;
	d->protocol = protocol;
	d->workers = workers;
	atomic_store(&d->automatic, automatic);
	d->name = strdup(name);
	d->limits = limits_of(config);
	d->elsewhere = elsewhere_locked(name);
	struct pool_limits limits = limits_in_force(d);
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

static void set_paused_locked(struct database *d, bool paused) {
	atomic_store(&d->paused, paused);
	pool_set_paused(d->pool, paused);
}

static bool add_locked(struct slot *slot) {
	unsigned before = HASH_COUNT(table.by_name);
	if (table.paused)
		set_paused_locked(&slot->database, true);
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
	view->tls = g->pools[index].tls;
	view->setup = g->pools[index].setup;
	keepalive_arm(sw, view);
}

bool database_adopt(struct session_worker *sw, struct database *d) {
	if (!database_view(d, sw->worker->id)->config)
		view_adopt(sw, d, sw->generation);
	return database_view(d, sw->worker->id)->config != NULL;
}

/* From [pool:*]. NULL: `error` says why not. */
static struct slot *make_automatic_locked(const struct config *config, enum protocol_id protocol, const char *name,
					  struct error *error) {
	const struct pool_config *c = config_wildcard_pool(config, protocol);
	if (!c) {
		error_set(error, 0, "there is no pool for database \"%s\"; add a section [pool:%s] or [pool:*]", name, name);
		return NULL;
	}
	if (table.automatic >= config->max_auto_pools) {
		error_set(error, 0,
			  "too many databases: %u pools were made from [pool:*], which is max_auto_pools; raise it "
			  "or give the database a section of its own",
			  table.automatic);
		return NULL;
	}
	struct slot *slot = slot_new(protocol_by_id(protocol), name, c, session_workers(), true);
	if (slot && !add_locked(slot)) {
		slot_free(slot);
		slot = NULL;
	}
	if (slot)
		table.automatic++;
	else
		error_set(error, 0, "out of memory");
	return slot;
}

struct database *database_find(struct session_worker *sw, enum protocol_id protocol, const char *name,
			       struct error *error) {
	pthread_mutex_lock(&table.mutex);
	struct slot *slot = find_locked(name);
	if (!slot)
		slot = make_automatic_locked(sw->generation->config, protocol, name, error);
	pthread_mutex_unlock(&table.mutex);
	if (!slot)
		return NULL;
	struct database *d = &slot->database;
	if (d->protocol->id != protocol || atomic_load(&d->removed)) {
		error_set(error, 0, "there is no pool for database \"%s\"; add a section [pool:%s]", name, name);
		return NULL;
	}
	if (atomic_load(&d->disabled)) {
		error_set(error, EAGAIN,
			  "database \"%s\" is not currently accepting connections: it is disabled; an operator can ENABLE it "
			  "on the console",
			  name);
		return NULL;
	}
	view_adopt(sw, d, sw->generation);
	return database_view(d, sw->worker->id)->config ? d : NULL;
}

/* "; did you mean …?" */
static void suggest_locked(const char *name, char *out, size_t room) {
	struct nearest search = {.wanted = name};
	for (struct slot *slot = table.by_name; slot; slot = slot->hh.next)
		if (!atomic_load(&slot->database.removed))
			nearest_offer(&search, slot->database.name);
	*out = 0;
	if (search.best)
		snprintf(out, room, "; did you mean \"%.63s\"?", search.best);
}

/* From [pool:*] of this configuration (NULL: not at all), for an operator, who may have meant another. */
static struct slot *make_for_operator_locked(const struct config *config, const char *name, struct error *error) {
	static const enum protocol_id protocols[] = {PROTOCOL_POSTGRESQL, PROTOCOL_MYSQL};
	char suggestion[100];
	suggest_locked(name, suggestion, sizeof suggestion);
	for (size_t i = 0; config && i < sizeof protocols / sizeof protocols[0]; i++) {
		if (!config_wildcard_pool(config, protocols[i]))
			continue;
		struct slot *slot = make_automatic_locked(config, protocols[i], name, error);
		if (slot)
			error_set(error, 0, "database \"%.63s\" was not in use until now; [pool:*] serves it%s", name,
				  suggestion);
		return slot;
	}
	error_set(error, 0, "there is no database \"%.63s\"%s", name,
		  suggestion[0] ? suggestion : "; SHOW DATABASES lists them");
	return NULL;
}

struct database *database_lookup(struct session_worker *sw, const char *name, bool make, struct error *error) {
	pthread_mutex_lock(&table.mutex);
	struct slot *slot = find_locked(name);
	if (slot && atomic_load(&slot->database.removed)) {
		error_set(error, 0, "the pool of database \"%.63s\" was removed from the configuration", name);
		slot = NULL;
	} else if (!slot) {
		slot = make_for_operator_locked(make ? sw->generation->config : NULL, name, error);
	}
	pthread_mutex_unlock(&table.mutex);
	if (!slot)
		return NULL;
	view_adopt(sw, &slot->database, sw->generation);
	return &slot->database;
}

bool database_set_paused(struct database *database, bool paused) {
	bool changed = false;
	pthread_mutex_lock(&table.mutex);
	if (!database) {
		changed = table.paused != paused;
		table.paused = paused;
	}
	for (struct slot *slot = table.by_name; slot; slot = slot->hh.next) {
		struct database *d = &slot->database;
		if ((database && database != d) || atomic_load(&d->paused) == paused)
			continue;
		set_paused_locked(d, paused);
		changed = true;
	}
	pthread_mutex_unlock(&table.mutex);
	return changed;
}

struct fixed {
	const struct database *database;
	const struct pool_config *config;
};

static void teach(struct pool_user *user, const struct fixed *f) {
	void *credential = f->database->protocol->credential_fixed(f->config->user, f->config->password);
	if (credential)
		account_set_credential(account_of(user), credential);
}

static void teach_variant(struct pool_user *user, void *context) {
	const struct fixed *f = context;
	const char *name = pool_user_name(user);
	size_t len = strlen(f->config->user);

	if (account_of(user) && strncmp(name, f->config->user, len) == 0 && name[len] == ACCOUNT_VARIANT)
		teach(user, f);
}

/* A pool with a user of its own has an account from the start, so that min_idle needs no client, and
 * no client comes before its password. */
static void fixed_account(struct database *d, const struct pool_config *c) {
	if (!c->user)
		return;
	struct pool_user *user = database_user(d, c->user);
	if (!user)
		return;
	teach(user, &(struct fixed){d, c});
	/* variants that clients have asked for: their password may be another now */
	pool_each_user(d->pool, teach_variant, &(struct fixed){d, c});
	/* the reference is kept while the pool lives */
	if (d->fixed)
		pool_user_unref(d->fixed);
	d->fixed = user;
	pool_user_set_fixed(user, true);
}

/* The section of the user whose account it is. */
static const struct user_config *user_of_account(const struct config *config, const char *name) {
	const char *variant = strchr(name, ACCOUNT_VARIANT);
	char plain[256];

	if (!variant)
		return config_user(config, name);
	snprintf(plain, sizeof plain, "%.*s", (int)(variant - name), name);
	return config_user(config, plain);
}

static void set_user_size(struct pool_user *user, const struct config *config) {
	const struct user_config *own = user_of_account(config, pool_user_name(user));
	pool_user_set_max_size(user, own ? own->max_size : 0);
}

static void size_each(struct pool_user *user, void *context) {
	set_user_size(user, context);
}

bool databases_fit(const struct config *before, const struct config *after, struct error *error) {
	bool ok = true;

	pthread_mutex_lock(&table.mutex);
	for (size_t i = 0; ok && i < after->pool_count; i++) {
		const struct pool_config *c = &after->pools[i], *old = config_pool(before, c->name);
		const struct slot *slot = strcmp(c->name, "*") == 0 ? NULL : find_locked(c->name);
		const struct protocol *is = slot	 ? slot->database.protocol
					    : old && old->protocol != c->protocol ? protocol_by_id(old->protocol)
								      : NULL;
		if (is && is->id != c->protocol)
			ok = error_set(error, 0,
				       "[pool:%.63s] protocol = %s: the pool speaks %s while this process runs, and has clients and "
				       "connections of it; give the new one another name, or restart",
				       c->name, protocol_by_id(c->protocol)->name, is->name);
	}
	pthread_mutex_unlock(&table.mutex);
	return ok;
}

/* A section may come for a pool of [pool:*], or go. */
static void set_automatic_locked(struct database *d, bool automatic) {
	if (atomic_exchange(&d->automatic, automatic) == automatic)
		return;
	if (automatic)
		table.automatic++;
	else
		table.automatic--;
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
			set_automatic_locked(d, strcmp(c->name, "*") == 0);
			pool_each_user(d->pool, size_each, g->config); /* before the shards look at the limits */
			d->limits = limits_of(c);
			struct pool_limits limits = limits_in_force(d);
			pool_set_limits(d->pool, &limits);
			backend_set_hosts(d->pool, c);
			fixed_account(d, c);
		}
	}
	pthread_mutex_unlock(&table.mutex);
	return ok;
}

static void set_elsewhere_locked(struct database *d, uint32_t connections) {
	if (d->elsewhere == connections)
		return;
	d->elsewhere = connections;
	struct pool_limits limits = limits_in_force(d);
	pool_set_limits(d->pool, &limits);
}

bool database_set_elsewhere(const char *name, uint32_t connections) {
	size_t len = strlen(name);
	pthread_mutex_lock(&table.mutex);
	struct elsewhere *e = NULL;
	HASH_FIND(hh, table.elsewhere, name, len, e);
	if (!e && (e = calloc(1, sizeof *e + len + 1))) {
		unsigned before = HASH_COUNT(table.elsewhere);
		memcpy(e->name, name, len);
		HASH_ADD_KEYPTR(hh, table.elsewhere, e->name, len, e);
		if (HASH_COUNT(table.elsewhere) == before) {
			free(e);
			e = NULL;
		}
	}
	if (e)
		e->connections = connections;
	struct slot *slot = find_locked(name);
	if (e && slot)
		set_elsewhere_locked(&slot->database, connections);
	pthread_mutex_unlock(&table.mutex);
	return e != NULL;
}

void databases_rest_elsewhere(uint32_t rest) {
	pthread_mutex_lock(&table.mutex);
	table.elsewhere_rest = rest;
	for (struct slot *slot = table.by_name; slot; slot = slot->hh.next)
		set_elsewhere_locked(&slot->database, elsewhere_locked(slot->database.name));
	pthread_mutex_unlock(&table.mutex);
}

void databases_reset_elsewhere(uint32_t rest) {
	pthread_mutex_lock(&table.mutex);
	for (struct elsewhere *e = table.elsewhere, *next; e; e = next) {
		next = e->hh.next;
		HASH_DEL(table.elsewhere, e);
		free(e);
	}
	table.elsewhere_rest = rest;
	for (struct slot *slot = table.by_name; slot; slot = slot->hh.next)
		set_elsewhere_locked(&slot->database, rest);
	pthread_mutex_unlock(&table.mutex);
}

struct resolving {
	const struct config *config;
	const struct pool_config *pool;
};

static void resolve_each(struct pool_user *user, void *context) {
	const struct resolving *r = context;
	set_user_size(user, r->config);
	if (account_of(user))
		deadline_resolve(account_of(user), r->pool, user_of_account(r->config, pool_user_name(user)));
}

void databases_adopt(struct session_worker *sw, struct generation *g) {
	pthread_mutex_lock(&table.mutex);
	for (struct slot *slot = table.by_name; slot; slot = slot->hh.next) {
		struct database *d = &slot->database;
		view_adopt(sw, d, g);
		struct database_view *view = database_view(d, sw->worker->id);
		if (!view->config)
			continue;
		/* by each worker: one that has not heard of the generation yet may make accounts meanwhile */
		struct resolving resolving = {view->generation->config, view->config};
		pool_each_user(d->pool, resolve_each, &resolving);
	}
	pthread_mutex_unlock(&table.mutex);
}

struct database *database_next(struct database *after) {
	pthread_mutex_lock(&table.mutex);
	struct slot *slot = after ? container_of(after, struct slot, database)->hh.next : table.by_name;
	pthread_mutex_unlock(&table.mutex);
	return slot ? &slot->database : NULL;
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
	databases_reset_elsewhere(0);
	table.automatic = 0;
	table.paused = false;
}

struct pool_user *database_user(struct database *database, const char *name) {
	pthread_mutex_lock(&accounts_mutex);
	struct pool_user *user = pool_user_get(database->pool, name, NULL);
	if (user && !account_of(user)) {
		struct account *account = account_new(database->protocol);
		if (account) {
			/* what the main thread makes is resolved when the workers adopt the configuration */
			const struct session_worker *sw = session_current();
			const struct database_view *view = sw ? database_view(database, sw->worker->id) : NULL;
			if (view && view->config) {
				deadline_resolve(account, view->config, user_of_account(view->generation->config, name));
				set_user_size(user, view->generation->config);
			}
			pool_user_set_context(user, account);
		} else {
			pool_user_unref(user);
			user = NULL;
		}
	}
	pthread_mutex_unlock(&accounts_mutex);
	return user;
}
