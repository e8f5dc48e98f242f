#include "session/backend.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "session/database.h"
#include "session/server.h"
#include "session/session.h"

/* For how long an address that has failed is passed over where there is another. */
#define ADDRESS_SHUNNED_NS (30 * NS_PER_S)

struct failed_address {
	struct sockaddr_storage address;
	uint64_t failed_ns; /* 0: a free place */
};

/* An address has left when the last three answers do not have it: some name servers give a part of them in turn. */
enum { ANSWERS_KEPT = 3, SEEN_MAX = ANSWERS_KEPT * RESOLVER_MAX_ADDRESSES };

struct seen_address {
	struct sockaddr_storage address;
	uint32_t round; /* of the last answer that had it; 0: none */
};

struct backend {
	/* immutable */
	struct backend *next;
	enum protocol_id protocol;
	char name[BACKEND_NAME_MAX];

	/* atomic */
	_Atomic bool configured;
	_Atomic int failed; /* how many places of `shared.failed` are taken */

	/* the monitor's: one thread at a time */
	uint32_t round; /* answers of the name's look-up so far */
	struct seen_address seen[SEEN_MAX];

	struct { /* under the mutex */
		pthread_mutex_t mutex;
		struct backend_facts facts;
		struct failed_address failed[RESOLVER_MAX_ADDRESSES];
	} shared;
};

static struct {
	pthread_mutex_t mutex;
	struct backend *first;
	void (*_Atomic suspect)(struct backend *backend, bool reached);
} registry = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* ---- the registry ---- */

void backend_name(const struct config_address *host, char *out, size_t room) {
	snprintf(out, room, "%s:%d", host->host, host->port);
}

static struct backend *find_locked(enum protocol_id protocol, const char *name) {
	for (struct backend *b = registry.first; b; b = b->next)
		if (b->protocol == protocol && strcmp(b->name, name) == 0)
			return b;
	return NULL;
}

static struct backend *get_locked(enum protocol_id protocol, const struct config_address *host) {
	char name[BACKEND_NAME_MAX];
	backend_name(host, name, sizeof name);
	struct backend *b = find_locked(protocol, name);
	if (b)
		return b;
	b = calloc(1, sizeof *b);
	if (!b)
		return NULL;
	b->protocol = protocol;
	memcpy(b->name, name, sizeof name);
	pthread_mutex_init(&b->shared.mutex, NULL);
	b->shared.facts.lag_s = -1;
	b->shared.facts.max_connections = b->shared.facts.in_use = -1;
	struct backend **at = &registry.first;
	while (*at)
		at = &(*at)->next;
	*at = b;
	return b;
}

struct backend *backend_get(enum protocol_id protocol, const struct config_address *host) {
	pthread_mutex_lock(&registry.mutex);
	struct backend *b = get_locked(protocol, host);
	pthread_mutex_unlock(&registry.mutex);
	return b;
}

void backends_apply(const struct config *config) {
	pthread_mutex_lock(&registry.mutex);
	for (size_t i = 0; i < config->pool_count; i++)
		for (size_t h = 0; h < config->pools[i].host_count; h++)
			get_locked(config->pools[i].protocol, &config->pools[i].hosts[h]);
	for (struct backend *b = registry.first; b; b = b->next) {
		bool configured = false;
		for (size_t i = 0; !configured && i < config->pool_count; i++)
			for (size_t h = 0; !configured && h < config->pools[i].host_count; h++)
				configured = backend_is(b, config->pools[i].protocol, &config->pools[i].hosts[h]);
		atomic_store(&b->configured, configured);
	}
	pthread_mutex_unlock(&registry.mutex);
}

void backends_each(void (*each)(struct backend *backend, void *context), void *context) {
	pthread_mutex_lock(&registry.mutex);
	for (struct backend *b = registry.first; b; b = b->next)
		each(b, context);
	pthread_mutex_unlock(&registry.mutex);
}

void backends_free(void) {
	for (struct backend *b = registry.first, *next; b; b = next) {
		next = b->next;
		pthread_mutex_destroy(&b->shared.mutex);
		free(b);
	}
	registry.first = NULL;
}

/* ---- what is known ---- */

const char *backend_text(const struct backend *backend) {
	return backend->name;
}

enum protocol_id backend_protocol(const struct backend *backend) {
	return backend->protocol;
}

bool backend_configured(const struct backend *backend) {
	return atomic_load(&backend->configured);
}

bool backend_is(const struct backend *backend, enum protocol_id protocol, const struct config_address *host) {
	char name[BACKEND_NAME_MAX];
	backend_name(host, name, sizeof name);
	return backend->protocol == protocol && strcmp(backend->name, name) == 0;
}

void backend_facts(struct backend *backend, struct backend_facts *out) {
	pthread_mutex_lock(&backend->shared.mutex);
	*out = backend->shared.facts;
	pthread_mutex_unlock(&backend->shared.mutex);
}

void backend_set_facts(struct backend *backend, const struct backend_facts *facts) {
	pthread_mutex_lock(&backend->shared.mutex);
	backend->shared.facts = *facts;
	pthread_mutex_unlock(&backend->shared.mutex);
}

const char *backend_state_name(enum backend_state state) {
	static const char *const names[] = {"unknown", "up", "not ready", "down"};
	return names[state];
}

const char *backend_role_name(enum pool_role role) {
	return role == POOL_ROLE_PRIMARY ? "primary" : role == POOL_ROLE_STANDBY ? "standby" : NULL;
}

/* ---- telling the pools ---- */

struct finding {
	struct backend *backend;
	bool up, retry, forget;
	enum pool_role role;
	bool news; /* some pool did not know that */
};

static void report_to(struct database *database, void *context) {
	struct finding *finding = context;
	if (database->protocol->id != finding->backend->protocol)
		return;
	int host = pool_host_find(database->pool, finding->backend->name);
	if (host < 0)
		return;
	if (finding->forget)
		finding->news |= pool_host_forget(database->pool, host);
	else
		finding->news |= pool_host_report(database->pool, host, finding->up, finding->role);
	if (finding->retry)
		pool_host_retry(database->pool, host);
}

/* A letter to each worker about one backend. */
struct letter {
	struct mail mail;
	struct backend *backend;
	int address_count;
	struct sockaddr_storage addresses[]; /* of backend_addresses() */
};

static void post_each(const struct letter *model, void (*deliver)(struct mail *mail, void *receiver)) {
	size_t size = sizeof *model + (size_t)model->address_count * sizeof model->addresses[0];
	for (int i = 0; i < session_workers(); i++) {
		struct letter *letter = malloc(size);
		if (!letter) {
			log_error("out_of_memory", LOG_FIELDS(LOG_TEXT("server", model->backend->name)),
				  "out of memory while telling a worker about a host");
			return;
		}
		memcpy(letter, model, size);
		letter->mail.deliver = deliver;
		mailbox_post(&session_worker(i)->worker->mailbox, &letter->mail);
	}
}

struct wake {
	const struct letter *letter;
	int worker;
};

static void wake_shard(struct database *database, void *context) {
	const struct wake *wake = context;
	const struct pool_config *config = database_view(database, wake->worker)->config;
	struct pool_shard *shard = pool_shard(database->pool, wake->worker);
	if (!config || atomic_load(&database->removed))
		return;
	for (size_t h = 0; h < config->host_count; h++) {
		if (!backend_is(wake->letter->backend, config->protocol, &config->hosts[h]))
			continue;
		pool_shard_tick(shard);
		return;
	}
}

static void deliver_report(struct mail *mail, void *receiver) {
	(void)receiver;
	struct letter *letter = container_of(mail, struct letter, mail);
	struct wake wake = {.letter = letter, .worker = session_current()->worker->id};
	databases_each(wake_shard, &wake);
	free(letter);
}

static void tell_pools(struct finding *finding) {
	databases_each(report_to, finding);
	struct letter model = {.backend = finding->backend};
	if (finding->news || finding->retry)
		post_each(&model, deliver_report);
}

void backend_report(struct backend *backend, bool up, enum pool_role role, bool retry) {
	tell_pools(&(struct finding){.backend = backend, .up = up, .retry = retry, .role = role});
}

void backend_forget(struct backend *backend) {
	tell_pools(&(struct finding){.backend = backend, .forget = true, .retry = true});
}

_Static_assert((int)HOST_ORDER_FAILOVER == (int)POOL_FAILOVER && (int)HOST_ORDER_ROUND_ROBIN == (int)POOL_ROUND_ROBIN &&
		       (int)HOST_ORDER_LEAST_BUSY == (int)POOL_LEAST_BUSY,
	       "the configuration's orders are the pool's");
_Static_assert((int)HOST_TARGET_ANY == (int)POOL_ANY && (int)HOST_TARGET_PRIMARY == (int)POOL_PRIMARY &&
		       (int)HOST_TARGET_STANDBY == (int)POOL_STANDBY &&
		       (int)HOST_TARGET_PREFER_STANDBY == (int)POOL_PREFER_STANDBY,
	       "the configuration's targets are the pool's");

void backend_set_hosts(struct pool *pool, const struct pool_config *config) {
	char texts[POOL_MAX_HOSTS][BACKEND_NAME_MAX];
	const char *names[POOL_MAX_HOSTS] = {NULL};
	size_t count = config->host_count < POOL_MAX_HOSTS ? config->host_count : POOL_MAX_HOSTS;
	for (size_t h = 0; h < count; h++) {
		backend_name(&config->hosts[h], texts[h], sizeof texts[h]);
		names[h] = texts[h];
	}
	if (config->host_count > count)
		log_warning("too_many_hosts", LOG_FIELDS(LOG_TEXT("pool", pool_name(pool))),
			    "a pool may have %d hosts: only the first ones are used", POOL_MAX_HOSTS);
	if (!pool_set_hosts(pool, names, count, (enum pool_host_order)config->host_order,
			    (enum pool_target)config->target))
		log_warning("too_many_hosts", LOG_FIELDS(LOG_TEXT("pool", pool_name(pool))),
			    "hosts that were configured before still have connections, so that not all of the new ones have "
			    "a place yet: reload again when those connections are gone, or use RECONNECT");
	for (size_t h = 0; h < count; h++) {
		struct backend *backend = backend_get(config->protocol, &config->hosts[h]);
		struct backend_facts facts = {0};
		int host = pool_host_find(pool, names[h]);
		if (backend)
			backend_facts(backend, &facts);
		if (host >= 0 && facts.known)
			pool_host_report(pool, host, facts.up, facts.role);
	}
}

void backend_suspect_install(void (*hook)(struct backend *backend, bool reached)) {
	atomic_store(&registry.suspect, hook);
}

void backend_suspect(struct backend *backend, bool reached) {
	void (*hook)(struct backend *, bool) = atomic_load(&registry.suspect);
	if (hook && backend)
		hook(backend, reached);
}

/* ---- addresses ---- */

static bool same_address(const struct sockaddr_storage *a, const struct sockaddr_storage *b) {
	if (a->ss_family != b->ss_family)
		return false;
	if (a->ss_family == AF_INET) {
		const struct sockaddr_in *x = (const struct sockaddr_in *)a, *y = (const struct sockaddr_in *)b;
		return x->sin_addr.s_addr == y->sin_addr.s_addr && x->sin_port == y->sin_port;
	}
	if (a->ss_family == AF_INET6) {
		const struct sockaddr_in6 *x = (const struct sockaddr_in6 *)a, *y = (const struct sockaddr_in6 *)b;
		return memcmp(&x->sin6_addr, &y->sin6_addr, sizeof x->sin6_addr) == 0 && x->sin6_port == y->sin6_port &&
		       x->sin6_scope_id == y->sin6_scope_id;
	}
	return true; /* sockets of the file system have no other address */
}

static bool has_left(const struct letter *letter, const struct server *server) {
	if (server->backend != letter->backend || server->address_len == 0)
		return false;
	for (int i = 0; i < letter->address_count; i++)
		if (same_address(&letter->addresses[i], &server->address))
			return false;
	return true;
}

/* The next one to retire. Asked for anew each time: what follows from one may close or move others. */
static struct server *next_that_left(struct session_worker *sw, const struct letter *letter) {
	list_for_each (node, &sw->servers) {
		struct server *server = container_of(node, struct server, all);
		if (has_left(letter, server) && !server->conn.retire && !server->close_wanted &&
		    server->conn.state < POOL_CONN_MOVING)
			return server;
	}
	return NULL;
}

static void retire_those_that_left(struct session_worker *sw, const struct letter *letter) {
	struct server *server;
	size_t n = 0;
	for (; (server = next_that_left(sw, letter)); n++)
		pool_conn_retire(&server->conn, "address left DNS");
	if (n)
		log_info("address_left_dns",
			 LOG_FIELDS(LOG_TEXT("server", letter->backend->name), LOG_NUMBER("connections", n),
				    LOG_NUMBER("worker", sw->worker->id)),
			 "connections to addresses that the name no longer has are retired");
}

static void deliver_addresses(struct mail *mail, void *receiver) {
	(void)receiver;
	struct letter *letter = container_of(mail, struct letter, mail);
	retire_those_that_left(session_current(), letter);
	free(letter);
}

/* Enters an answer; false: there are more addresses than can be kept, so nobody can tell which have left. */
static bool note_answer(struct backend *backend, const struct resolved *answer) {
	uint32_t round = ++backend->round;
	for (int i = 0; i < answer->count; i++) {
		struct seen_address *place = NULL;
		for (int k = 0; k < SEEN_MAX; k++) {
			struct seen_address *seen = &backend->seen[k];
			bool same = seen->round && same_address(&seen->address, &answer->at[i].address);
			if (same || (!place && (!seen->round || seen->round + ANSWERS_KEPT <= round)))
				place = seen;
			if (same)
				break;
		}
		if (!place)
			return false;
		*place = (struct seen_address){.address = answer->at[i].address, .round = round};
	}
	return answer->count < RESOLVER_MAX_ADDRESSES;
}

void backend_addresses(struct backend *backend, const struct resolved *answer) {
	if (answer->count == 0 || !note_answer(backend, answer))
		return;
	struct letter *model = calloc(1, sizeof *model + SEEN_MAX * sizeof model->addresses[0]);
	if (!model)
		return;
	model->backend = backend;
	for (int k = 0; k < SEEN_MAX; k++)
		if (backend->seen[k].round && backend->seen[k].round + ANSWERS_KEPT > backend->round)
			model->addresses[model->address_count++] = backend->seen[k].address;
	post_each(model, deliver_addresses);
	free(model);
}

/* When it failed; 0: not of late. */
static uint64_t failed_locked(const struct backend *backend, const struct sockaddr_storage *address, uint64_t now_ns) {
	for (int i = 0; i < RESOLVER_MAX_ADDRESSES; i++) {
		const struct failed_address *f = &backend->shared.failed[i];
		if (f->failed_ns && same_address(&f->address, address))
			return now_ns < f->failed_ns + ADDRESS_SHUNNED_NS ? f->failed_ns : 0;
	}
	return 0;
}

int backend_pick_address(struct backend *backend, const struct resolved *answer, uint32_t turn, uint64_t now_ns) {
	int first = (int)(turn % (uint32_t)answer->count), best = first;
	if (answer->count == 1 || atomic_load(&backend->failed) == 0)
		return first;
	uint64_t best_failed_ns = TIME_NEVER;
	pthread_mutex_lock(&backend->shared.mutex);
	for (int i = 0; i < answer->count && best_failed_ns != 0; i++) {
		int at = (first + i) % answer->count;
		uint64_t failed_ns = failed_locked(backend, &answer->at[at].address, now_ns);
		if (failed_ns < best_failed_ns) {
			best_failed_ns = failed_ns;
			best = at;
		}
	}
	pthread_mutex_unlock(&backend->shared.mutex);
	return best;
}

void backend_address_failed(struct backend *backend, const struct sockaddr_storage *address, uint64_t now_ns) {
	pthread_mutex_lock(&backend->shared.mutex);
	struct failed_address *place = &backend->shared.failed[0];
	for (int i = 0; i < RESOLVER_MAX_ADDRESSES; i++) {
		struct failed_address *f = &backend->shared.failed[i];
		if (f->failed_ns && same_address(&f->address, address)) {
			place = f;
			break;
		}
		if (f->failed_ns < place->failed_ns)
			place = f;
	}
	if (!place->failed_ns)
		atomic_fetch_add(&backend->failed, 1);
	place->address = *address;
	place->failed_ns = now_ns ? now_ns : 1;
	pthread_mutex_unlock(&backend->shared.mutex);
}

void backend_address_works(struct backend *backend, const struct sockaddr_storage *address) {
	if (atomic_load(&backend->failed) == 0)
		return;
	pthread_mutex_lock(&backend->shared.mutex);
	for (int i = 0; i < RESOLVER_MAX_ADDRESSES; i++) {
		struct failed_address *f = &backend->shared.failed[i];
		if (!f->failed_ns || !same_address(&f->address, address))
			continue;
		f->failed_ns = 0;
		atomic_fetch_sub(&backend->failed, 1);
	}
	pthread_mutex_unlock(&backend->shared.mutex);
}
