/* Who may open a connection, and who has to go to make room for it. */
#include "pool/internal.h"

static bool user_begin(struct pool_user *user, uint64_t now) {
	uint64_t retry = TIME_NEVER;
	switch (backoff_gate(&user->backoff, &user->opening, now, &retry)) {
	case GATE_OPEN:
		return count_below(&user->opening, UINT32_MAX);
	case GATE_PROBE:
		return count_below(&user->opening, 1);
	case GATE_BUSY:
	case GATE_WAIT:
		break;
	}
	return false;
}

/* Takes a permit and passes the gates of a host and the user, or nothing (-1). */
static int begin(struct pool_user *user, uint64_t now) {
	struct pool *pool = user->pool;
	if (atomic_load(&pool->paused) || !permit_take(user))
		return -1;
	POOL_TEST_POINT();
	int host = host_begin(pool, now);
	if (host >= 0) {
		POOL_TEST_POINT();
		if (user_begin(user, now))
			return host;
		host_end(pool, host);
	}
	permit_return(user, false);
	return -1;
}

bool slot_open(struct slot *slot) {
	struct pool_shard *shard = slot->shard;
	struct pool *pool = shard->pool;
	struct pool_user *user = slot->user;
	uint64_t now = shard_now(shard);
	int host = begin(user, now);
	if (host < 0)
		return false;
	uint32_t before = slot->opening_n;
	shard_enter(shard);
	bool ok = pool->ops.open(shard, user, host);
	shard_leave(shard);
	if (slot->opening_n > before)
		return true;
	if (ok)
		log_error("pool_open_forgot", LOG_FIELDS(LOG_TEXT("pool", pool->name)),
			  "a connection was begun but not entered into the pool");
	atomic_fetch_sub(&user->opening, 1);
	POOL_TEST_POINT();
	host_end(pool, host);
	permit_return(user, false);
	host_failed(shard, host, now, POOL_OPEN_FAILED);
	stat_add(&shard->stats.open_failed, 1);
	stat_add(&shard->stats.connect_failures[POOL_CONNECT_MEMORY], 1);
	return false;
}

/* --- whose turn it is --- */

/* Of two that want a permit: the user with fewer connections, then the longer wait, then the lower shard. */
struct turn {
	uint32_t size;
	uint64_t since_ns;
	int index;
};

static bool turn_before(const struct turn *a, const struct turn *b) {
	if (a->size != b->size)
		return a->size < b->size;
	if (a->since_ns != b->since_ns)
		return a->since_ns < b->since_ns;
	return a->index < b->index;
}

/* The slot of this shard whose turn it is; publishes that. NULL: nobody here wants one. */
static struct slot *best_slot(struct pool_shard *shard, struct turn *best) {
	struct slot *found = NULL;
	if (!shard->wanting_n)
		return NULL;
	list_for_each(node, &shard->slots) {
		struct slot *slot = list_entry(node, struct slot, node);
		if (!slot->want || !slot->waiting_n)
			continue;
		struct turn turn = {.size = permits_taken(&slot->user->permits),
				    .since_ns = slot_first_waiter(slot)->since_ns,
				    .index = shard->index};
		if (!found || turn_before(&turn, best)) {
			*best = turn;
			found = slot;
		}
	}
	if (found) {
		atomic_store(&shard->want_size, best->size);
		atomic_store(&shard->want_since_ns, best->since_ns);
	}
	return found;
}

/*
 * Permits wanted by other shards whose turn is before `own` (NULL: by any); `*first` is the one whose turn
 * comes first of all.
 */
static uint32_t wanted_elsewhere(struct pool_shard *shard, const struct turn *own, struct pool_shard **first) {
	struct pool *pool = shard->pool;
	struct turn best = {0};
	uint32_t wanted = 0;
	*first = NULL;
	for (int i = 0; i < pool->workers; i++) {
		struct pool_shard *other = &pool->shards[i];
		uint32_t want = other == shard ? 0 : shard_wants(other);
		if (!want)
			continue;
		struct turn turn = {.size = atomic_load(&other->want_size),
				    .since_ns = atomic_load(&other->want_since_ns),
				    .index = i};
		if (own && !turn_before(&turn, own))
			continue;
		wanted += want;
		if (!*first || turn_before(&turn, &best)) {
			best = turn;
			*first = other;
		}
	}
	return wanted;
}

void shard_open(struct pool_shard *shard) {
	struct pool *pool = shard->pool;
	int failed = 0;
	while (!atomic_load(&pool->paused)) {
		uint32_t free_n = permits_free(pool);
		if (!free_n)
			return;
		struct turn own;
		struct pool_shard *first;
		struct slot *slot = best_slot(shard, &own);
		uint32_t ahead = wanted_elsewhere(shard, slot ? &own : NULL, &first);
		if (!slot && !ahead)
			return;
		uint64_t retry = TIME_NEVER;
		uint32_t room = hosts_room(pool, shard_now(shard), &retry, NULL);
		if (room < free_n) { /* where one is under way, whoever ends it looks again */
			shard_wake(shard, &shard->gate_at, retry);
			free_n = room;
		}
		if (!room)
			return;
		if (!slot || free_n <= ahead) {
			/* one after the other: it comes to this same place and tells the next */
			note_send(shard, first, NOTE_LOOK);
			return;
		}
		POOL_TEST_POINT();
		/* lost to other workers, or it could not begin: not over and over within one look */
		if (!slot_open(slot) && failed++ > pool->workers + POOL_MAX_HOSTS) {
			shard_wake(shard, &shard->gate_at, shard_now(shard) + NS_PER_MS);
			return;
		}
		slot_refresh_want(slot);
		/* another host may have room now, for which room is to be made */
		if (room != UINT32_MAX && shard->wanting_n)
			shard->look_due = true;
	}
}

/* --- making room --- */

static uint32_t wanted_in_all(struct pool *pool) {
	uint32_t wanted = 0;
	for (int i = 0; i < pool->workers; i++)
		wanted += shard_wants(&pool->shards[i]);
	return wanted;
}

/* How many connections there may be besides those that are being closed. */
static uint32_t connections_to_keep(struct pool_shard *shard) {
	struct pool *pool = shard->pool;
	uint32_t max = atomic_load(&pool->max_size);
	if (atomic_load(&pool->waiting) == 0 || atomic_load(&pool->paused))
		return max;
	uint32_t wanted = wanted_in_all(pool);
	if (!wanted)
		return max;
	uint64_t retry = TIME_NEVER;
	uint32_t room = hosts_room(pool, shard_now(shard), &retry, NULL);
	if (room < wanted) { /* what works is not given up while nothing new can be had */
		shard_wake(shard, &shard->gate_at, retry);
		wanted = room;
	}
	return wanted < max ? max - wanted : 0;
}

/* The shard with the least recently used idle connection that may be closed. */
static struct pool_shard *longest_idle(struct pool *pool) {
	struct pool_shard *found = NULL;
	uint64_t best = TIME_NEVER;
	for (int i = 0; i < pool->workers; i++) {
		struct pool_shard *shard = &pool->shards[i];
		if (atomic_load(&shard->lendable) == 0 || atomic_load(&shard->closed))
			continue;
		uint64_t since = atomic_load(&shard->lru_since_ns);
		if (since < best) {
			best = since;
			found = shard;
		}
	}
	return found;
}

static struct pool_conn *lru_conn(const struct pool_shard *shard) {
	list_for_each(node, &shard->idle_lru) {
		struct pool_conn *conn = list_entry(node, struct pool_conn, idle_lru);
		if (!conn->held)
			return conn;
	}
	return NULL;
}

void shard_make_room(struct pool_shard *shard) {
	struct pool *pool = shard->pool;
	for (;;) {
		uint32_t keep = connections_to_keep(shard);
		uint64_t word = atomic_load(&pool->permits);
		if ((uint32_t)word - (uint32_t)(word >> 32) <= keep)
			return;
		struct pool_shard *victim = longest_idle(pool);
		if (!victim)
			return;
		if (victim != shard) {
			POOL_TEST_POINT();
			note_send(shard, victim, NOTE_LOOK);
			return;
		}
		struct pool_conn *conn = lru_conn(shard);
		POOL_TEST_POINT();
		if (conn && shard->acquiring && slot_of(conn->user, shard)->waiting_n) {
			shard_wake(shard, &shard->gate_at, shard_now(shard)); /* to be served, from the loop */
			return;
		}
		/* its own user may want it after all */
		if (!conn || conn_give(conn, AMONG_ALL, shard_now(shard)) || conn->held)
			continue;
		bool over = keep == atomic_load(&pool->max_size);
		if (permit_claim_excess(conn->user, keep))
			conn_doom(conn, over ? "max_size" : "make_room", true);
	}
}
