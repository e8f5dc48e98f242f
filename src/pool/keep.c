/*
 * What is kept and for how long: idle_timeout, max_lifetime, min_idle, and what follows from new limits.
 *
 * min_idle counts over all shards. Who trims below or fills up to it holds pool->keep_mutex while it counts
 * and acts, so that two shards do not both act on the same number; it is only tried, and tried again a moment
 * later.
 */
#include "pool/internal.h"

#define TRY_AGAIN_NS NS_PER_MS

static uint64_t idle_due(const struct pool_conn *conn, uint64_t idle_timeout) {
	return idle_timeout ? conn->idle_since_ns + idle_timeout : TIME_NEVER;
}

void keep_watch(struct pool_shard *shard, const struct pool_conn *conn) {
	uint64_t due = idle_due(conn, atomic_load_explicit(&shard->pool->idle_timeout, memory_order_relaxed));
	if (conn->expires_ns < due)
		due = conn->expires_ns;
	shard_wake(shard, &shard->idle_at, due);
}

void keep_fill_soon(struct pool_shard *shard, uint64_t now, uint64_t after) {
	if (atomic_load_explicit(&shard->pool->min_idle, memory_order_relaxed) && !shard->shut)
		shard_wake(shard, &shard->fill_at, now + after);
}

struct census {
	uint32_t idle, opening, waiting, want;
	struct pool_shard *least; /* the shard with the fewest connections; `own` among equals */
};

static struct census take_census(struct pool_shard *own) {
	struct pool *pool = own->pool;
	struct census c = {.least = own};
	uint32_t fewest = UINT32_MAX;
	for (int i = 0; i < pool->workers; i++) {
		struct pool_shard *shard = &pool->shards[(own->index + i) % pool->workers];
		uint32_t idle = atomic_load_explicit(&shard->stats.idle, memory_order_relaxed);
		uint32_t opening = atomic_load_explicit(&shard->stats.opening, memory_order_relaxed);
		uint32_t busy = atomic_load_explicit(&shard->stats.busy, memory_order_relaxed);
		c.idle += idle;
		c.opening += opening;
		c.waiting += atomic_load_explicit(&shard->stats.waiting, memory_order_relaxed);
		c.want += shard_wants(shard);
		if (idle + opening + busy < fewest && !atomic_load(&shard->closed)) {
			fewest = idle + opening + busy;
			c.least = shard;
		}
	}
	return c;
}

/* --- closing what is due --- */

/* So much later the next may follow: a full pool takes an eighth of max_lifetime, however close all of it expires. */
static uint64_t expiry_spacing(const struct pool *pool) {
	uint32_t size = atomic_load(&pool->max_size);
	return atomic_load(&pool->max_lifetime) / 8 / (size ? size : 1);
}

static uint32_t user_idle(const struct pool_user *user) {
	uint32_t idle = 0;
	for (int i = 0; i < user->pool->workers; i++)
		idle += atomic_load(&user->slots[i].lendable);
	return idle;
}

static uint64_t user_active_ns(const struct pool_user *user) {
	uint64_t active = 0;
	for (int i = 0; i < user->pool->workers; i++) {
		uint64_t at = atomic_load_explicit(&user->slots[i].active_ns, memory_order_relaxed);
		active = at > active ? at : active;
	}
	return active;
}

static bool user_is_active(const struct pool_user *user, uint64_t now) {
	uint64_t active = user_active_ns(user), idle_timeout = atomic_load(&user->pool->idle_timeout);
	return active && (!idle_timeout || now < active + idle_timeout);
}

/* Whether an open of this user has failed since then: by its own fault or a host's. */
static bool has_failed_since(const struct pool_user *user, uint64_t since) {
	bool failed = atomic_load(&user->backoff.failed_at_ns) >= since;
	for (int i = 0; i < atomic_load(&user->pool->places); i++)
		failed |= atomic_load(&user->pool->hosts[i].backoff.failed_at_ns) >= since;
	return failed;
}

/*
 * Whether an expired connection is kept for now. While nothing new can be had, what works is not given up. And where it
 * would be the last idle one of a user who will want one again, and there is room for another beside it, that other is
 * opened first.
 */
static bool waits_for_successor(const struct pool_conn *conn, uint64_t now) {
	const struct pool_user *user = conn->user;
	struct pool *pool = user->pool;
	if (backoff_failing(&user->backoff) || hosts_failing(pool, now))
		return true;
	if (!permits_free(pool) || atomic_load(&pool->waiting))
		return false;
	if (user_idle(user) > (conn->state == POOL_CONN_IDLE ? 1 : 0))
		return false;
	if (conn->replaced_ns && !has_failed_since(user, conn->replaced_ns))
		return atomic_load(&user->opening) > 0;
	return atomic_load(&user->fixed) ? atomic_load(&pool->min_idle) != 0 : user_is_active(user, now);
}

bool keep_expires(const struct pool_conn *conn, uint64_t now) {
	struct pool *pool = conn->shard->pool;
	uint64_t next = atomic_load(&pool->expire_next_ns);
	if (now < next || waits_for_successor(conn, now))
		return false;
	return atomic_compare_exchange_strong(&pool->expire_next_ns, &next, now + expiry_spacing(pool));
}

uint64_t keep_expired(struct pool_conn *conn, uint64_t now) {
	struct pool *pool = conn->shard->pool;
	uint64_t next = atomic_load(&pool->expire_next_ns);
	if (!waits_for_successor(conn, now))
		return next > now ? next : now + TRY_AGAIN_NS;
	if (backoff_failing(&conn->user->backoff) || hosts_failing(pool, now))
		return now + NS_PER_S; /* nothing new can be had for now */
	bool begun = conn->replaced_ns && !has_failed_since(conn->user, conn->replaced_ns);
	if (!begun && atomic_load(&conn->user->opening) == 0) {
		if (slot_open(slot_of(conn->user, conn->shard)))
			conn->replaced_ns = now;
		else if (atomic_load(&pool->waiting))
			conn->shard->look_due = true; /* a permit was taken and given back */
	}
	return now + 2 * atomic_load(&pool->login_ns) + POOL_FILL_INTERVAL_NS;
}

void keep_idle(struct pool_shard *shard, uint64_t now) {
	struct pool *pool = shard->pool;
	uint64_t idle_timeout = atomic_load(&pool->idle_timeout), next = TIME_NEVER;
	uint32_t min_idle = atomic_load(&pool->min_idle), idle = 0;
	bool locked = false, busy = false;
	shard->idle_at = TIME_NEVER;
	list_for_each_safe(node, &shard->idle_lru) {
		struct pool_conn *conn = list_entry(node, struct pool_conn, idle_lru);
		uint64_t due = idle_due(conn, idle_timeout);
		if (due <= now && !locked && !busy) {
			busy = pthread_mutex_trylock(&pool->keep_mutex) != 0;
			locked = !busy;
			if (locked)
				idle = take_census(shard).idle;
		}
		uint64_t again = conn->expires_ns;
		if (conn->expires_ns <= now) {
			if (keep_expires(conn, now)) {
				conn_doom(conn, "max_lifetime", false);
				idle--;
				continue;
			}
			again = keep_expired(conn, now);
		}
		if (due <= now && locked && idle > min_idle) {
			conn_doom(conn, "idle_timeout", false);
			idle--;
			continue;
		}
		if (again < next)
			next = again;
		if (due > now && due < next)
			next = due;
	}
	if (locked)
		pthread_mutex_unlock(&pool->keep_mutex);
	if (busy && now + TRY_AGAIN_NS < next)
		next = now + TRY_AGAIN_NS;
	shard_wake(shard, &shard->idle_at, next);
}

/* --- min_idle --- */

/* The user to open for: the pool's own, or else the one active last, if of late. Referenced; NULL: nobody,
 * and `*retry_at` becomes earlier where only time is missing. */
static struct pool_user *user_to_fill(struct pool *pool, uint64_t now, uint64_t *retry_at) {
	uint64_t latest = 0;
	struct pool_user *found = NULL;
	pthread_mutex_lock(&pool->shared.mutex);
	for (struct pool_user *user = pool->shared.users; user; user = user->hh.next) {
		if (atomic_load(&user->fixed)) {
			found = user_room(user, now, retry_at) ? user : NULL;
			break;
		}
		uint64_t active = user_active_ns(user);
		if (active > latest && user_is_active(user, now) && user_room(user, now, retry_at)) {
			latest = active;
			found = user;
		}
	}
	if (found)
		pool_user_ref(found);
	pthread_mutex_unlock(&pool->shared.mutex);
	return found;
}

/* How long too few may be idle because the others are in use, before more are opened. */
static uint64_t burst_patience(const struct pool *pool) {
	uint64_t login = atomic_load(&pool->login_ns);
	return login > POOL_FILL_INTERVAL_NS ? login : POOL_FILL_INTERVAL_NS;
}

/* Whether to open one here now for min_idle; else sees to it that somebody does when it is time. */
static bool fill_wanted(struct pool_shard *shard, uint64_t now) {
	struct pool *pool = shard->pool;
	uint32_t min_idle = atomic_load(&pool->min_idle), max_size = atomic_load(&pool->max_size);
	struct census c = take_census(shard);
	if (min_idle > max_size)
		min_idle = max_size;
	if (c.idle + c.opening >= min_idle) {
		atomic_store(&pool->short_since_ns, 0);
		return false;
	}
	uint64_t since = atomic_load(&pool->short_since_ns);
	if (!since) {
		since = now;
		atomic_store(&pool->short_since_ns, now);
	}
	/* there are enough, and they are in use: for a burst that is soon over nothing is opened */
	uint64_t patience = burst_patience(pool);
	if (permits_taken(&pool->permits) >= min_idle && now < since + patience) {
		shard_wake(shard, &shard->fill_at, since + patience);
		return false;
	}
	uint32_t free_n = permits_free(pool);
	if (!free_n)
		return false; /* whoever gives one back sees to it */
	if (free_n <= c.want) {
		shard_wake(shard, &shard->fill_at, now + POOL_FILL_INTERVAL_NS); /* waiters first */
		return false;
	}
	uint64_t retry = TIME_NEVER;
	if (!hosts_room(pool, now, &retry, NULL)) {
		shard_wake(shard, &shard->fill_at, retry); /* or whoever ends a try sees to it */
		return false;
	}
	if (c.least != shard) {
		note_send(shard, c.least, NOTE_FILL);
		return false;
	}
	return true;
}

void keep_fill(struct pool_shard *shard, uint64_t now) {
	struct pool *pool = shard->pool;
	if (atomic_load(&pool->min_idle) == 0 || shard->shut || atomic_load(&pool->paused))
		return;
	if (pthread_mutex_trylock(&pool->keep_mutex) != 0) {
		shard_wake(shard, &shard->fill_at, now + TRY_AGAIN_NS);
		return;
	}
	bool ok = true;
	while (ok && fill_wanted(shard, now)) {
		uint64_t retry = TIME_NEVER;
		struct pool_user *user = user_to_fill(pool, now, &retry);
		if (!user) {
			shard_wake(shard, &shard->fill_at, retry);
			break;
		}
		ok = slot_open(slot_of(user, shard));
		pool_user_unref(user);
	}
	pthread_mutex_unlock(&pool->keep_mutex);
	if (!ok) {
		shard_wake(shard, &shard->fill_at, now + POOL_FILL_INTERVAL_NS);
		shard->look_due = true; /* a permit was taken and given back */
	}
}

bool pool_is_ready(struct pool *pool, uint64_t now) {
	uint32_t max = atomic_load(&pool->max_size), wanted = atomic_load(&pool->min_idle), there = 0;
	bool fixed = false;
	if (pool_trouble(pool, now) != POOL_WELL)
		return false;
	pthread_mutex_lock(&pool->shared.mutex);
	for (struct pool_user *user = pool->shared.users; user; user = user->hh.next)
		fixed |= atomic_load(&user->fixed);
	pthread_mutex_unlock(&pool->shared.mutex);
	for (int i = 0; i < POOL_MAX_HOSTS; i++)
		there += atomic_load(&pool->hosts[i].open);
	return !fixed || there >= (wanted < max ? wanted : max);
}

/* --- new limits --- */

void keep_apply_limits(struct pool_shard *shard, uint64_t now) {
	struct pool *pool = shard->pool;
	uint64_t lifetime = atomic_load(&pool->max_lifetime);
	list_for_each(node, &shard->slots) {
		struct slot *slot = list_entry(node, struct slot, node);
		list_for_each_safe(n, &slot->idle) {
			struct pool_conn *conn = list_entry(n, struct pool_conn, node);
			conn->expires_ns = conn_expiry(conn, lifetime);
			const char *reason = conn_ends(conn, now);
			if (reason)
				conn_doom(conn, reason, false);
			else if (permit_claim_user_excess(slot->user))
				conn_doom(conn, "max_size_per_user", true);
		}
		list_for_each(n, &slot->busy) {
			struct pool_conn *conn = list_entry(n, struct pool_conn, node);
			conn->expires_ns = conn_expiry(conn, lifetime);
		}
	}
	shard_wake(shard, &shard->idle_at, now);
	keep_fill_soon(shard, now, 0);
	shard->look_due = true;
}
