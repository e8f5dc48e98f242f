/* What shards see of each other and tell each other; the look at everything. */
#include "pool/internal.h"

static void note_post(struct pool_shard *from, struct note *note, uint32_t bits) {
	/* still under way: its bits are cleared before the receiver looks, so that look sees what was
	 * published */
	if (atomic_fetch_or(&note->bits, bits))
		return;
	struct pool *pool = from->pool;
	POOL_TEST_POINT();
	atomic_fetch_add(&pool->in_mail, 1);
	pool->ops.send(from, note->message.to, &note->message);
}

void note_send(struct pool_shard *from, struct pool_shard *to, uint32_t bits) {
	if (from != to && !from->shut && !atomic_load(&to->closed))
		note_post(from, &from->notes[to->index], bits);
}

void user_tell(struct pool_user *user, struct pool_shard *from) {
	uint64_t mask = atomic_load(&user->waiting_at) & ~((uint64_t)1 << from->index);
	for (; mask; mask &= mask - 1)
		note_send(from, &user->pool->shards[__builtin_ctzll(mask)], NOTE_LOOK);
}

/* --- patience --- */

/* How many of its waiters a slot's own connections will have served within POOL_PATIENCE_NS. */
static uint32_t served_soon(const struct slot *slot) {
	uint64_t hold = atomic_load_explicit(&slot->hold_ns, memory_order_relaxed);
	uint64_t served = hold ? slot->busy_n * POOL_PATIENCE_NS / hold : 0;
	return served < slot->waiting_n ? (uint32_t)served : slot->waiting_n;
}

/* How many have waited for as long as one may be patient; where they are many, all are counted so. */
static uint32_t out_of_patience(const struct slot *slot, uint64_t now, uint64_t *next) {
	for (uint32_t i = 0; i < HEADS && i < slot->waiting_n; i++) {
		uint64_t ends = atomic_load_explicit(&slot->heads[i], memory_order_relaxed) + POOL_PATIENCE_MAX_NS;
		if (ends > now) {
			*next = ends;
			return i;
		}
	}
	return slot->waiting_n;
}

bool slot_weigh(struct slot *slot, uint64_t now) {
	uint32_t soon = served_soon(slot), needy = slot->waiting_n;
	uint64_t next = TIME_NEVER;
	if (soon)
		needy = out_of_patience(slot, now, &next);
	uint32_t eager = slot->waiting_n - soon > needy ? slot->waiting_n - soon : needy;
	uint32_t needy_before = atomic_load_explicit(&slot->needy, memory_order_relaxed);
	uint32_t eager_before = atomic_load_explicit(&slot->eager, memory_order_relaxed);
	atomic_store_explicit(&slot->eager, eager, memory_order_release);
	/* more of them is a word of "publish": after it, one looks */
	if (needy > needy_before)
		atomic_store(&slot->needy, needy);
	else if (needy < needy_before)
		atomic_store_explicit(&slot->needy, needy, memory_order_release);
	if (next != TIME_NEVER)
		shard_wake(slot->shard, &slot->shard->gate_at, next);
	return needy > needy_before || eager > eager_before;
}

/* Nobody has had to wait there of late: what is idle there is not missed. */
static bool slot_rests(const struct slot *slot, uint64_t now) {
	return atomic_load_explicit(&slot->queued_ns, memory_order_relaxed) + POOL_REST_NS <= now;
}

enum among slot_lends_to(const struct slot *slot, uint64_t now) {
	return slot->shard->lending || slot_rests(slot, now) ? AMONG_EAGER : AMONG_NEEDY;
}

static uint32_t count_among(const struct slot *slot, enum among among) {
	switch (among) {
	case AMONG_NEEDY:
		return atomic_load(&slot->needy);
	case AMONG_EAGER:
		return atomic_load(&slot->eager);
	case AMONG_ALL:
		break;
	}
	return UINT32_MAX;
}

bool user_oldest_elsewhere(const struct slot *slot, enum among among, uint64_t now, struct place *place) {
	struct pool_user *user = slot->user;
	uint64_t mask = atomic_load(&user->waiting_at) & ~((uint64_t)1 << slot->shard->index);
	place->since_ns = TIME_NEVER;
	for (; mask; mask &= mask - 1) {
		struct slot *other = &user->slots[__builtin_ctzll(mask)];
		uint32_t inbound = atomic_load(&other->inbound);
		if (inbound >= atomic_load(&other->waiting))
			continue;
		uint32_t counted = count_among(other, among);
		uint64_t since = atomic_load(&other->heads[inbound < HEADS ? inbound : HEADS - 1]);
		/* its own worker may not have come to say that it has waited long */
		if (inbound >= counted && (since == TIME_NEVER || since + POOL_PATIENCE_MAX_NS > now))
			continue;
		if (since < place->since_ns)
			*place = (struct place){.slot = other, .since_ns = since, .inbound = inbound};
	}
	return place->since_ns != TIME_NEVER;
}

bool slot_owes(const struct slot *slot, const struct place *place, uint64_t own_since_ns, uint64_t now) {
	if (place->since_ns + POOL_UNFAIRNESS_NS < own_since_ns)
		return true;
	if (now < slot->moved_ns + POOL_BALANCE_INTERVAL_NS)
		return false;
	uint64_t own_wait = now > own_since_ns ? now - own_since_ns : 0;
	return place->since_ns + POOL_BALANCE_NS + own_wait / 2 < own_since_ns;
}

bool user_waits_elsewhere(const struct slot *slot, uint64_t now) {
	struct place place;
	return user_oldest_elsewhere(slot, AMONG_NEEDY, now, &place) && slot_owes(slot, &place, now, now);
}

/* --- what a slot wants --- */

uint32_t shard_wants(const struct pool_shard *shard) {
	uint32_t want = atomic_load(&shard->want), inbound = atomic_load(&shard->inbound);
	return want > inbound && !atomic_load(&shard->closed) ? want - inbound : 0;
}

static uint32_t beyond(uint32_t n, uint32_t inbound) {
	return n > inbound ? n - inbound : 0;
}

/* Asks other shards to lend what they have idle of this user for those who are not to wait for a connection of this one.
 * Returns what it counts on, up to `short_n`: what is idle elsewhere, asked for or not yet. */
static uint32_t ask_to_lend(struct slot *slot, uint32_t short_n, uint32_t inbound, uint64_t now) {
	struct pool_shard *shard = slot->shard;
	struct pool *pool = shard->pool;
	uint32_t needy = beyond(atomic_load_explicit(&slot->needy, memory_order_relaxed), inbound);
	uint32_t eager = beyond(atomic_load_explicit(&slot->eager, memory_order_relaxed), inbound);
	uint32_t lend = 0, asked = 0;
	for (int i = 1; i < pool->workers && lend < short_n; i++) {
		struct pool_shard *other = &pool->shards[(shard->index + i) % pool->workers];
		if (atomic_load(&other->lendable) == 0)
			continue;
		const struct slot *theirs = &slot->user->slots[other->index];
		uint32_t n = atomic_load(&theirs->lendable);
		if (!n || atomic_load(&other->closed))
			continue;
		lend += n;
		if (asked < needy || (asked < eager && slot_rests(theirs, now))) {
			note_send(shard, other, NOTE_ASK);
			asked += n;
		}
	}
	return lend < short_n ? lend : short_n;
}

/* Whose turn it is, as the others see this shard. */
static void publish_turn(struct slot *slot) {
	struct pool_shard *shard = slot->shard;
	uint32_t size = permits_taken(&slot->user->permits);
	uint64_t since = slot_first_waiter(slot)->since_ns;
	atomic_store(&shard->want_size, size);
	atomic_store(&shard->want_since_ns, since);
}

/* Alone, or better than the best so far; when others are better, shard_open() sets it right before it
 * decides. */
static bool turn_is_best(const struct slot *slot) {
	const struct pool_shard *shard = slot->shard;
	if (shard->wanting_n <= 1)
		return true;
	uint32_t best = atomic_load(&shard->want_size), size = permits_taken(&slot->user->permits);
	return size < best ||
	       (size == best && slot_first_waiter(slot)->since_ns < atomic_load(&shard->want_since_ns));
}

/* The slot has been weighed since its waiters or connections changed. */
static void refresh_weighed(struct slot *slot, uint64_t now) {
	struct pool_shard *shard = slot->shard;
	uint32_t inbound = atomic_load(&slot->inbound), want = 0;
	POOL_TEST_POINT();
	uint32_t short_n = beyond(slot->waiting_n, inbound);
	if (short_n && !shard->shut) {
		uint32_t lend = ask_to_lend(slot, short_n, inbound, now);
		/* one that is free would do; but room need not be made for who is patient */
		if (!permits_free(shard->pool))
			short_n = beyond(atomic_load_explicit(&slot->needy, memory_order_relaxed), inbound);
		want = beyond(short_n, lend + slot->opening_n);
	}
	POOL_TEST_POINT();
	if (want) {
		uint64_t again = TIME_NEVER;
		uint32_t room = user_room(slot->user, now, &again);
		want = worth_opening(slot, want < room ? want : room, now, &again);
		shard_wake(shard, &shard->gate_at, again);
	}
	uint32_t before = slot->want;
	if (before && !want)
		turn_forget(slot);
	slot->want = want;
	shard->wanting_n += (want != 0) - (before != 0);
	if (want && turn_is_best(slot))
		publish_turn(slot);
	uint32_t all = atomic_load_explicit(&shard->want, memory_order_relaxed);
	if (want != before)
		atomic_store(&shard->want, all + want - before);
	if (want)
		turn_watch(slot);
}

void slot_refresh_want(struct slot *slot) {
	uint64_t now = shard_now(slot->shard);
	slot_weigh(slot, now);
	refresh_weighed(slot, now);
}

void slot_seek(struct slot *slot, uint64_t now) {
	refresh_weighed(slot, now);
	POOL_TEST_POINT();
	if (!slot->want)
		return;
	shard_make_room(slot->shard);
	shard_open(slot->shard);
}

/* --- looking --- */

/* The logins of this user failed for good, and nothing of it works: its waiters need not wait. */
static void fail_hopeless(struct slot *slot) {
	uint32_t failed = atomic_load(&slot->user->failed_count);
	if (slot->failed_seen == failed)
		return;
	slot->failed_seen = failed;
	/* only those who wait now: from `fail` a client may well ask again */
	for (uint32_t n = slot->waiting_n; n > 0 && slot->waiting_n; n--) {
		if (atomic_load(&slot->user->open))
			break;
		waiter_fail(slot_first_waiter(slot), POOL_FAIL_UNAVAILABLE);
	}
}

static void fail_unavailable(struct slot *slot) {
	for (uint32_t n = slot->waiting_n; n > 0 && slot->waiting_n && slot_is_unavailable(slot, NULL); n--)
		waiter_fail(slot_first_waiter(slot), POOL_FAIL_UNAVAILABLE);
}

/* Gives what is idle to waiters of the same user, here or elsewhere. */
static void give_idle(struct slot *slot, uint64_t now) {
	struct pool_conn *conn;
	while ((conn = slot_idle_conn(slot, slot->waiting_n == 0)))
		if (!conn_give(conn, slot_lends_to(slot, now), now) && !conn->held)
			break;
}

static bool is_for_own_waiters(const struct slot *slot) {
	bool hopeless = slot->failed_seen != atomic_load(&slot->user->failed_count);
	return slot->waiting_n && (slot->idle_n || hopeless || slot_is_unavailable(slot, NULL));
}

bool slot_is_unavailable(const struct slot *slot, uint64_t *retry_at) {
	struct pool *pool = slot->shard->pool;
	uint64_t retry = TIME_NEVER;
	if (!atomic_load_explicit(&pool->fail_unavailable, memory_order_relaxed) || atomic_load(&slot->user->open) ||
	    slot->opening_n)
		return false;
	uint64_t now = shard_now(slot->shard);
	return hosts_failing(pool, now) && !hosts_room(pool, now, retry_at ? retry_at : &retry, NULL);
}

void shard_look(struct pool_shard *shard) {
	struct pool *pool = shard->pool;
	uint64_t now = shard_now(shard);
	if (atomic_load(&pool->waiting)) {
		list_for_each(node, &shard->slots) {
			struct slot *slot = list_entry(node, struct slot, node);
			if (shard->acquiring && is_for_own_waiters(slot)) {
				shard_wake(shard, &shard->gate_at, now); /* from the loop, then */
				continue;
			}
			if (slot->waiting_n)
				fail_hopeless(slot);
			if (slot->waiting_n)
				fail_unavailable(slot);
			if (slot->idle_n)
				give_idle(slot, now);
			if (slot->waiting_n || slot->want)
				slot_refresh_want(slot);
		}
	}
	POOL_TEST_POINT();
	shard_make_room(shard);
	if (atomic_load(&pool->waiting))
		shard_open(shard);
}

/* --- receiving --- */

static void arrive(struct pool_shard *shard, struct pool_conn *conn) {
	struct pool *pool = shard->pool;
	struct slot *slot = slot_of(conn->user, shard);
	uint64_t now = shard_now(shard);
	conn->shard = shard;
	slot->moved_ns = now;
	conn_set_state(conn, POOL_CONN_BUSY, now);
	pool->ops.attach(conn, shard);
	atomic_fetch_sub(&slot->inbound, 1);
	atomic_fetch_sub(&shard->inbound, 1);
	POOL_TEST_POINT();
	/* what changed while it was in the mail */
	if (conn->opened_ns <= shard->retired_ns)
		conn_set_retire(conn, "retired");
	conn->expires_ns = conn_expiry(conn, atomic_load(&pool->max_lifetime));
	conn_place(conn);
	/* it was counted on by a waiter here, whom it may not have reached */
	if (atomic_load(&pool->waiting))
		shard->look_due = true;
}

void pool_shard_receive(struct pool_shard *shard, struct pool_message *message) {
	struct pool *pool = shard->pool;
	shard_enter(shard);
	if (message->moves_conn) {
		arrive(shard, container_of(message, struct pool_conn, message));
	} else {
		struct note *note = container_of(message, struct note, message);
		struct pool_shard *from = message->from;
		POOL_TEST_POINT();
		uint32_t bits = atomic_exchange(&note->bits, 0);
		POOL_TEST_POINT();
		shard->gave = 0;
		shard->look_due = true;
		shard->lending = bits & NOTE_ASK;
		shard_settle(shard);
		shard->lending = false;
		POOL_TEST_POINT();
		bool lent = shard->gave & (uint64_t)1 << from->index;
		if (bits & NOTE_ASK && !lent && atomic_load(&from->stats.waiting))
			note_send(shard, from, NOTE_LOOK);
		if (bits & NOTE_FILL)
			keep_fill(shard, shard_now(shard));
	}
	shard_leave(shard);
	atomic_fetch_sub(&pool->in_mail, 1);
}
