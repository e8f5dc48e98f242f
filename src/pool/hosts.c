/*
 * The hosts of a pool: what is known of each, and which gets the next connection.
 *
 * What is known comes from three sides. The configuration: a host's rank, or that it is not wanted any more. A monitor:
 * whether it is up, and its role. The pool's own opens: those that fail shut the host's gate for a while (its backoff),
 * then let one through at a time until one succeeds; after that, for POOL_RAMP_NS, no more are opened at a time than
 * there are, so that a host that has just come back is not run down.
 *
 * A host is *unfit* where it is not configured or its role is not the target's: its connections are closed and none are
 * opened. One that is reported *down* loses its connections too, but where no other is fit and up it is still tried, at
 * the pace of its backoff: a monitor may err. A login that succeeds there proves it.
 *
 * Among those that are fit, a host's *preference* comes first (the role that the target asks for before one that is not
 * known before the other), then the order: by rank, in turn, or by connections in use.
 */
#include <stdlib.h>
#include <string.h>

#include "pool/internal.h"

/* Places from there on have never been taken. */
static int places_of(const struct pool *pool) {
	return atomic_load_explicit(&pool->places, memory_order_relaxed);
}

/* --- configuration and reports --- */

static int find_locked(const struct pool *pool, const char *name) {
	for (int i = 0; i < POOL_MAX_HOSTS; i++)
		if (pool->hosts[i].name && strcmp(pool->hosts[i].name, name) == 0)
			return i;
	return -1;
}

static void forget_locked(struct host *host) {
	atomic_store(&host->report, 0);
	atomic_store(&host->ramp_until_ns, 0);
	atomic_store(&host->backoff.failures, 0);
}

/* A place that nothing refers to. */
static int take_place_locked(struct pool *pool, const char *name) {
	for (int i = 0; i < POOL_MAX_HOSTS; i++) {
		struct host *host = &pool->hosts[i];
		bool used = host->name && atomic_load(&host->rank) != HOST_UNWANTED;
		if (used || atomic_load(&host->conns) || atomic_load(&host->opening))
			continue;
		char *copy = strdup(name);
		if (!copy)
			return -1;
		free(host->name);
		host->name = copy;
		forget_locked(host);
		if (i >= places_of(pool))
			atomic_store(&pool->places, i + 1);
		return i;
	}
	return -1;
}

bool pool_set_hosts(struct pool *pool, const char *const *names, size_t count, enum pool_host_order order,
		    enum pool_target target) {
	int places[POOL_MAX_HOSTS];
	bool ok = count <= POOL_MAX_HOSTS;
	if (!ok)
		count = POOL_MAX_HOSTS;
	pthread_mutex_lock(&pool->shared.mutex);
	for (size_t i = 0; i < count; i++) {
		places[i] = find_locked(pool, names[i]);
		if (places[i] >= 0 && atomic_load(&pool->hosts[places[i]].rank) == HOST_UNWANTED)
			forget_locked(&pool->hosts[places[i]]); /* it was away, and nobody has watched it */
	}
	for (int i = 0; i < POOL_MAX_HOSTS; i++) {
		bool wanted = false;
		for (size_t k = 0; k < count; k++)
			wanted |= places[k] == i;
		if (!wanted)
			atomic_store(&pool->hosts[i].rank, HOST_UNWANTED);
	}
	for (size_t i = 0; i < count; i++) {
		if (places[i] < 0)
			places[i] = take_place_locked(pool, names[i]);
		if (places[i] < 0)
			ok = false;
		else
			atomic_store(&pool->hosts[places[i]].rank, (uint32_t)i);
	}
	atomic_store(&pool->host_order, order);
	atomic_store(&pool->target, target);
	atomic_store(&pool->host_count, (uint32_t)count);
	pthread_mutex_unlock(&pool->shared.mutex);
	atomic_fetch_add(&pool->limits_version, 1);
	return ok;
}

int pool_host_find(struct pool *pool, const char *name) {
	pthread_mutex_lock(&pool->shared.mutex);
	int host = find_locked(pool, name);
	if (host >= 0 && atomic_load(&pool->hosts[host].rank) == HOST_UNWANTED)
		host = -1;
	pthread_mutex_unlock(&pool->shared.mutex);
	return host;
}

void pool_host_name(struct pool *pool, int host, char *out, size_t room) {
	pthread_mutex_lock(&pool->shared.mutex);
	const char *name = host >= 0 && host < POOL_MAX_HOSTS ? pool->hosts[host].name : NULL;
	size_t len = name ? strlen(name) : 0;
	if (len >= room)
		len = room - 1;
	if (len)
		memcpy(out, name, len);
	out[len] = 0;
	pthread_mutex_unlock(&pool->shared.mutex);
}

static bool set_report(struct pool *pool, struct host *host, uint32_t set, uint32_t clear) {
	uint32_t before = atomic_load(&host->report);
	while (!atomic_compare_exchange_weak(&host->report, &before, (before & ~clear) | set))
		;
	if (((before & ~clear) | set) == before)
		return false;
	if (before & clear & HOST_IS_DOWN) /* it is back: one is tried at once */
		atomic_store(&host->backoff.retry_at_ns, 0);
	atomic_fetch_add(&pool->limits_version, 1);
	return true;
}

/* What was known of its role holds until it is known better. */
static bool learn(struct pool *pool, int place, uint32_t set, uint32_t clear, enum pool_role role) {
	if (place < 0 || place >= POOL_MAX_HOSTS)
		return false;
	if (role != POOL_ROLE_UNKNOWN) {
		set |= role == POOL_ROLE_PRIMARY ? HOST_IS_PRIMARY : HOST_IS_STANDBY;
		clear |= role == POOL_ROLE_PRIMARY ? HOST_IS_STANDBY : HOST_IS_PRIMARY;
	}
	return set_report(pool, &pool->hosts[place], set, clear);
}

bool pool_host_role(struct pool *pool, int place, enum pool_role role) {
	if (place < 0 || place >= POOL_MAX_HOSTS || role == POOL_ROLE_UNKNOWN)
		return false;
	uint32_t known = atomic_load(&pool->hosts[place].report);
	/* a monitor knows better: one name may have addresses of several roles */
	if ((known & (HOST_IS_PRIMARY | HOST_IS_STANDBY)) && !(known & HOST_SAID_SO))
		return false;
	return learn(pool, place, HOST_SAID_SO, 0, role);
}

bool pool_host_report(struct pool *pool, int place, bool up, enum pool_role role) {
	uint32_t clear = role == POOL_ROLE_UNKNOWN ? 0 : HOST_SAID_SO;
	return learn(pool, place, up ? 0 : HOST_IS_DOWN, (up ? HOST_IS_DOWN : 0) | clear, role);
}

bool pool_host_forget(struct pool *pool, int place) {
	return learn(pool, place, 0, HOST_IS_DOWN | HOST_IS_PRIMARY | HOST_IS_STANDBY | HOST_SAID_SO, POOL_ROLE_UNKNOWN);
}

void pool_host_retry(struct pool *pool, int host) {
	atomic_store(&pool->hosts[host].backoff.retry_at_ns, 0);
	atomic_fetch_add(&pool->limits_version, 1);
}

uint32_t pool_host_open(const struct pool *pool, int host) {
	return atomic_load(&pool->hosts[host].open);
}

uint32_t pool_host_opening(const struct pool *pool, int host) {
	return atomic_load(&pool->hosts[host].opening);
}

bool pool_host_is_down(const struct pool *pool, int host) {
	return atomic_load(&pool->hosts[host].report) & HOST_IS_DOWN;
}

void hosts_free(struct pool *pool) {
	for (int i = 0; i < POOL_MAX_HOSTS; i++)
		free(pool->hosts[i].name);
}

/* --- which are fit --- */

static bool is_unfit(const struct pool *pool, const struct host *host) {
	if (atomic_load_explicit(&host->rank, memory_order_relaxed) == HOST_UNWANTED)
		return true;
	uint32_t report = atomic_load_explicit(&host->report, memory_order_relaxed);
	switch ((enum pool_target)atomic_load_explicit(&pool->target, memory_order_relaxed)) {
	case POOL_PRIMARY:
		return report & HOST_IS_STANDBY;
	case POOL_STANDBY:
		return report & HOST_IS_PRIMARY;
	case POOL_ANY:
	case POOL_PREFER_STANDBY:
		break;
	}
	return false;
}

const char *host_ends(const struct pool *pool, int place) {
	const struct host *host = &pool->hosts[place];
	if (is_unfit(pool, host))
		return atomic_load(&host->rank) == HOST_UNWANTED ? "host_removed" : "host_role";
	return atomic_load_explicit(&host->report, memory_order_relaxed) & HOST_IS_DOWN ? "host_down" : NULL;
}

/* The lower, the better. */
static int preference(const struct pool *pool, const struct host *host) {
	uint32_t report = atomic_load(&host->report);
	uint32_t best = 0, worst = 0;
	switch ((enum pool_target)atomic_load(&pool->target)) {
	case POOL_PRIMARY:
		best = HOST_IS_PRIMARY;
		break;
	case POOL_STANDBY:
		best = HOST_IS_STANDBY;
		break;
	case POOL_PREFER_STANDBY:
		best = HOST_IS_STANDBY;
		worst = HOST_IS_PRIMARY;
		break;
	case POOL_ANY:
		return 0;
	}
	return report & best ? 0 : report & worst ? 2 : 1;
}

static uint32_t host_conns(const struct pool *pool, int place) {
	return atomic_load(&pool->hosts[place].open) + atomic_load(&pool->hosts[place].opening);
}

static uint32_t busy_at(const struct pool *pool, int place) {
	uint32_t busy = 0;
	for (int i = 0; i < pool->workers; i++)
		busy += atomic_load_explicit(&pool->shards[i].host_busy[place], memory_order_relaxed);
	return busy + atomic_load(&pool->hosts[place].opening);
}

/* How far down the order a host is: of two with the same preference the lower is next. */
static uint64_t order_key(const struct pool *pool, int place) {
	uint32_t rank = atomic_load(&pool->hosts[place].rank), count = atomic_load(&pool->host_count);
	switch ((enum pool_host_order)atomic_load(&pool->host_order)) {
	case POOL_ROUND_ROBIN: /* in turn, where they have equally many */
		count = count ? count : 1;
		return (uint64_t)(host_conns(pool, place)) << 32 | (rank + count - atomic_load(&pool->rotor) % count) % count;
	case POOL_LEAST_BUSY: {
		uint64_t conns = atomic_load(&pool->hosts[place].open);
		return (uint64_t)busy_at(pool, place) << 40 | (conns & 0xffffff) << 8 | rank;
	}
	case POOL_FAILOVER:
		break;
	}
	return rank;
}

/* How many could be opened there now; `*retry_at` becomes earlier where only time is missing. */
static uint32_t host_room(const struct host *host, uint64_t now, uint64_t *retry_at) {
	switch (backoff_gate(&host->backoff, &host->opening, now, retry_at)) {
	case GATE_OPEN:
		break;
	case GATE_PROBE:
		return 1;
	case GATE_BUSY:
	case GATE_WAIT:
		return 0;
	}
	uint64_t ramp_until = atomic_load(&host->ramp_until_ns);
	if (now >= ramp_until)
		return UINT32_MAX;
	if (ramp_until < *retry_at)
		*retry_at = ramp_until;
	uint32_t open = atomic_load(&host->open), opening = atomic_load(&host->opening);
	uint32_t limit = open ? open : 1;
	return opening < limit ? limit - opening : 0;
}

/* A sum that stays at "any number". */
static uint32_t plus(uint32_t a, uint32_t b) {
	return a > UINT32_MAX - b ? UINT32_MAX : a + b;
}

enum candidates { HOSTS_UP, HOSTS_DOWN, HOSTS_THAT_SAID_SO };

static bool is_candidate(const struct pool *pool, const struct host *host, enum candidates which) {
	uint32_t report = atomic_load(&host->report);
	if (which == HOSTS_THAT_SAID_SO)
		return atomic_load(&host->rank) != HOST_UNWANTED && (report & HOST_SAID_SO);
	return !is_unfit(pool, host) && (which == HOSTS_DOWN) == ((report & HOST_IS_DOWN) != 0);
}

/* Room at these; `*best` is the one that is next. `*any`: there are such. */
static uint32_t room_among(struct pool *pool, enum candidates which, uint64_t now, uint64_t *retry_at, int *best,
			   bool *any) {
	uint32_t total = 0;
	int best_preference = 0;
	uint64_t best_key = 0;
	*any = false;
	for (int i = 0, n = places_of(pool); i < n; i++) {
		const struct host *h = &pool->hosts[i];
		if (!is_candidate(pool, h, which))
			continue;
		*any = true;
		uint32_t room = host_room(h, now, retry_at);
		if (!room)
			continue;
		int p = preference(pool, h);
		uint64_t key = order_key(pool, i);
		if (!total || p < best_preference || (p == best_preference && key < best_key)) {
			best_preference = p;
			best_key = key;
			*best = i;
		}
		total = plus(total, room);
	}
	return total;
}

uint32_t hosts_room(struct pool *pool, uint64_t now, uint64_t *retry_at, int *host) {
	int best = -1;
	bool any;
	uint32_t room = room_among(pool, HOSTS_UP, now, retry_at, &best, &any);
	if (!any)
		room = room_among(pool, HOSTS_DOWN, now, retry_at, &best, &any);
	/* one that has said it is no primary may be one by now, and nobody else would find out */
	if (!room && hosts_failing(pool, now))
		room = room_among(pool, HOSTS_THAT_SAID_SO, now, retry_at, &best, &any);
	if (host)
		*host = best;
	return room;
}

int host_begin(struct pool *pool, uint64_t now) {
	int place;
	uint64_t retry = TIME_NEVER;
	/* who loses it to another worker looks once more: at most all workers take one each */
	for (int tries = 0; tries <= pool->workers; tries++) {
		if (!hosts_room(pool, now, &retry, &place))
			return -1;
		struct host *host = &pool->hosts[place];
		uint32_t opening = atomic_load(&host->opening);
		POOL_TEST_POINT();
		uint32_t room = host_room(host, now, &retry);
		if (!room || !atomic_compare_exchange_strong(&host->opening, &opening, opening + 1))
			continue;
		if (atomic_load(&pool->host_order) == POOL_ROUND_ROBIN)
			atomic_store(&pool->rotor, atomic_load(&host->rank) + 1);
		return place;
	}
	return -1;
}

void host_failed(struct pool_shard *shard, int place, uint64_t began, enum pool_open_failure failure) {
	if (failure == POOL_OPEN_NO_FAULT)
		return;
	struct pool *pool = shard->pool;
	backoff_failed(&pool->hosts[place].backoff, began, shard_now(shard), pool->ops.random(shard),
		       failure == POOL_OPEN_FULL ? POOL_BACKOFF_FULL_NS : POOL_BACKOFF_MIN_NS,
		       failure == POOL_OPEN_NOT_READY ? POOL_BACKOFF_NOT_READY_NS : POOL_BACKOFF_MAX_NS);
}

void host_succeeded(struct pool *pool, int place, uint64_t now) {
	struct host *host = &pool->hosts[place];
	if (backoff_failing(&host->backoff)) {
		atomic_store(&host->ramp_until_ns, now + POOL_RAMP_NS);
		backoff_clear(&host->backoff);
	}
	atomic_fetch_and(&host->report, ~(uint32_t)HOST_IS_DOWN);
}

/* None is fit, or each that is fit has failed or is reported down. */
bool hosts_failing(const struct pool *pool, uint64_t now) {
	for (int i = 0, n = places_of(pool); i < n; i++) {
		const struct host *host = &pool->hosts[i];
		if (!host_ends(pool, i) && !backoff_failing_now(&host->backoff, now))
			return false;
	}
	return true;
}

enum pool_trouble pool_trouble(const struct pool *pool, uint64_t now) {
	bool fit = false;
	if (atomic_load(&pool->paused))
		return POOL_PAUSED;
	for (int i = 0, n = places_of(pool); i < n; i++)
		fit |= !is_unfit(pool, &pool->hosts[i]);
	if (!fit)
		return POOL_NO_HOST;
	return hosts_failing(pool, now) ? POOL_HOSTS_DOWN : POOL_WELL;
}

/* --- back to where they belong --- */

/*
 * The host that has a connection which would be opened elsewhere now; -1: all is as it should be. A host that has failed
 * of late, or is reported down, draws nothing to itself.
 */
static int misplaced_at(const struct pool *pool, uint64_t now) {
	int best = -1, worst = -1, best_preference = 0, worst_preference = 0;
	uint64_t best_key = 0, worst_key = 0;
	enum pool_host_order order = (enum pool_host_order)atomic_load(&pool->host_order);
	bool failover = order == POOL_FAILOVER;
	for (int i = 0, n = places_of(pool); i < n; i++) {
		const struct host *host = &pool->hosts[i];
		if (host_ends(pool, i))
			continue;
		int p = preference(pool, host);
		uint32_t open = atomic_load(&host->open), rank = atomic_load(&host->rank);
		uint64_t key = failover ? rank : open;
		if (!backoff_failing_now(&host->backoff, now) &&
		    (best < 0 || p < best_preference || (p == best_preference && key < best_key))) {
			best = i;
			best_preference = p;
			best_key = key;
		}
		if (open && (worst < 0 || p > worst_preference || (p == worst_preference && key > worst_key))) {
			worst = i;
			worst_preference = p;
			worst_key = key;
		}
	}
	if (best < 0 || worst < 0 || best == worst)
		return -1;
	if (worst_preference > best_preference)
		return worst;
	/* with least-busy, how many are open says nothing of where the next one would go */
	if (worst_preference < best_preference || order == POOL_LEAST_BUSY)
		return -1;
	return failover ? (worst_key > best_key ? worst : -1) : (worst_key >= best_key + 2 ? worst : -1);
}

/* One that can be spared: not of a user whose logins fail, for it could not be replaced. */
static bool may_move(const struct pool_conn *conn, int place) {
	return conn->host == place && !conn->retire && !backoff_failing(&conn->user->backoff);
}

static struct pool_conn *conn_at(struct pool_shard *shard, int place) {
	list_for_each(node, &shard->idle_lru) {
		struct pool_conn *conn = list_entry(node, struct pool_conn, idle_lru);
		if (may_move(conn, place))
			return conn;
	}
	list_for_each(node, &shard->slots) {
		struct slot *slot = list_entry(node, struct slot, node);
		list_for_each(n, &slot->busy) {
			struct pool_conn *conn = list_entry(n, struct pool_conn, node);
			if (may_move(conn, place))
				return conn;
		}
	}
	return NULL;
}

void hosts_move(struct pool_shard *shard, uint64_t now) {
	struct pool *pool = shard->pool;
	if (atomic_load(&pool->host_count) < 2 || shard->shut)
		return;
	int place = misplaced_at(pool, now);
	if (place < 0) { /* a host that has failed may draw again when that is no news any more */
		for (int i = 0, n = places_of(pool); i < n; i++)
			if (!host_ends(pool, i) && backoff_failing_now(&pool->hosts[i].backoff, now))
				shard_wake(shard, &shard->move_at,
					   atomic_load(&pool->hosts[i].backoff.failed_at_ns) + FAILURE_STALE_NS);
		return;
	}
	uint64_t next = atomic_load(&pool->move_next_ns);
	struct pool_conn *conn = conn_at(shard, place);
	if (conn && now >= next &&
	    atomic_compare_exchange_strong(&pool->move_next_ns, &next, now + POOL_MOVE_INTERVAL_NS)) {
		pool_conn_retire(conn, "moved_to_better_host");
		next = now + POOL_MOVE_INTERVAL_NS;
	}
	if (conn)
		shard_wake(shard, &shard->move_at, next > now ? next : now + POOL_MOVE_INTERVAL_NS);
}
