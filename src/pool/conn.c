/* A connection's states, and where one goes that nobody uses. */
#include "pool/internal.h"

static void count(_Atomic uint32_t *gauge, int by) {
	uint32_t n = atomic_load_explicit(gauge, memory_order_relaxed);
	atomic_store_explicit(gauge, n + (uint32_t)by, memory_order_relaxed);
}

/* Publishes what is idle here. More of it is the last word of "publish": after it, one looks. */
static void publish_idle(struct slot *slot) {
	struct pool_shard *shard = slot->shard;
	uint64_t since = TIME_NEVER;
	list_for_each(node, &shard->idle_lru) {
		const struct pool_conn *conn = list_entry(node, struct pool_conn, idle_lru);
		if (!conn->held) {
			since = conn->idle_since_ns;
			break;
		}
	}
	atomic_store_explicit(&shard->lru_since_ns, since, memory_order_release);
	uint32_t before = atomic_load_explicit(&slot->lendable, memory_order_relaxed);
	uint32_t now = slot->idle_n - slot->held_n;
	if (now == before)
		return;
	atomic_store_explicit(&slot->lendable, now, memory_order_release);
	uint32_t all = atomic_load_explicit(&shard->lendable, memory_order_relaxed) + now - before;
	if (now > before)
		atomic_store(&shard->lendable, all);
	else
		atomic_store_explicit(&shard->lendable, all, memory_order_release);
}

/* Both idle lists are in order of idle_since_ns; what was taken out to be checked goes back to its place. */
static void insert_idle(struct slot *slot, struct pool_conn *conn) {
	uint64_t since = conn->idle_since_ns;
	struct list *after = slot->shard->idle_lru.prev;
	while (after != &slot->shard->idle_lru &&
	       list_entry(after, struct pool_conn, idle_lru)->idle_since_ns > since)
		after = after->prev;
	list_push_front(after, &conn->idle_lru);
	struct list *before = slot->idle.next;
	while (before != &slot->idle && list_entry(before, struct pool_conn, node)->idle_since_ns > since)
		before = before->next;
	list_push_back(before, &conn->node);
}

static void leave_state(struct slot *slot, struct pool_conn *conn, uint64_t now) {
	struct pool_shard *shard = slot->shard;
	list_remove(&conn->node);
	switch (conn->state) {
	case POOL_CONN_OPENING:
		slot->opening_n--;
		count(&shard->stats.opening, -1);
		atomic_fetch_sub(&slot->user->opening, 1);
		host_end(shard->pool, conn->host);
		break;
	case POOL_CONN_IDLE:
		list_remove(&conn->idle_lru);
		slot->idle_n--;
		if (conn->held)
			slot->held_n--;
		count(&shard->stats.idle, -1);
		publish_idle(slot);
		break;
	case POOL_CONN_BUSY:
		slot->busy_n--;
		meter_busy_ends(shard, conn, now);
		count(&shard->host_busy[conn->host], -1);
		break;
	case POOL_CONN_CLOSING:
		if (conn->doomed)
			shard->doomed_n--;
		else
			shard->closing_n--;
		conn->doomed = false;
		break;
	case POOL_CONN_MOVING:
	case POOL_CONN_CLOSED:
		break;
	}
}

static void enter_state(struct slot *slot, struct pool_conn *conn, uint64_t now) {
	struct pool_shard *shard = slot->shard;
	switch (conn->state) {
	case POOL_CONN_OPENING:
		list_push_back(&slot->opening, &conn->node);
		slot->opening_n++;
		count(&shard->stats.opening, 1);
		break;
	case POOL_CONN_IDLE:
		if (!conn->taken)
			conn->idle_since_ns = now;
		conn->taken = false;
		insert_idle(slot, conn);
		slot->idle_n++;
		if (conn->held)
			slot->held_n++;
		count(&shard->stats.idle, 1);
		publish_idle(slot);
		break;
	case POOL_CONN_BUSY:
		list_push_back(&slot->busy, &conn->node);
		slot->busy_n++;
		conn->busy_since_ns = now;
		conn->lent = false;
		meter_busy_begins(shard, conn);
		count(&shard->host_busy[conn->host], 1);
		break;
	case POOL_CONN_CLOSING:
		list_push_back(conn->doomed ? &shard->doomed : &shard->closing, &conn->node);
		if (conn->doomed)
			shard->doomed_n++;
		else
			shard->closing_n++;
		break;
	case POOL_CONN_MOVING:
	case POOL_CONN_CLOSED:
		break;
	}
}

void conn_set_state(struct pool_conn *conn, enum pool_conn_state state, uint64_t now) {
	struct slot *slot = slot_of(conn->user, conn->shard);
	uint32_t busy = slot->busy_n;
	leave_state(slot, conn, now);
	conn->state = state;
	if (state != POOL_CONN_IDLE)
		conn->held = false;
	if (conn->retire && (state == POOL_CONN_CLOSING || state == POOL_CONN_CLOSED)) {
		conn->retire = false;
		atomic_fetch_sub(&slot->shard->pool->retiring, 1);
	}
	enter_state(slot, conn, now);
	/* those who were to be served by it, and waited patiently, may have to be served from elsewhere */
	if (slot->busy_n != busy && slot->waiting_n && slot_weigh(slot, now))
		slot->shard->look_due = true;
	if (state == POOL_CONN_MOVING || state == POOL_CONN_CLOSING || state == POOL_CONN_CLOSED)
		slot_unlink_later(slot);
	else
		slot_link(slot);
}

void conn_set_held(struct pool_conn *conn, bool held) {
	if (conn->held == held)
		return;
	conn->held = held;
	if (conn->state != POOL_CONN_IDLE)
		return;
	struct slot *slot = slot_of(conn->user, conn->shard);
	if (held)
		slot->held_n++;
	else
		slot->held_n--;
	publish_idle(slot);
}

struct pool_conn *slot_idle_conn(const struct slot *slot, bool lendable) {
	list_for_each(node, &slot->idle) {
		struct pool_conn *conn = list_entry(node, struct pool_conn, node);
		if (!lendable || !conn->held)
			return conn;
	}
	return NULL;
}

uint64_t conn_expiry(const struct pool_conn *conn, uint64_t max_lifetime) {
	if (!max_lifetime)
		return TIME_NEVER;
	return conn->opened_ns + max_lifetime - max_lifetime / 4 * conn->jitter / 65536;
}

void conn_doom(struct pool_conn *conn, const char *reason, bool claimed) {
	if (!claimed)
		permit_mark_closing(conn->user);
	conn->reason = reason;
	conn->doomed = true;
	conn_set_state(conn, POOL_CONN_CLOSING, shard_now(conn->shard));
}

/* --- where to, when nobody uses it --- */

/* Sends it to a waiter of another shard. False: it may not leave now. */
static bool move(struct pool_conn *conn, struct slot *to, uint64_t now) {
	struct pool_shard *shard = conn->shard;
	if (!shard->pool->ops.detach(conn)) {
		conn_set_held(conn, true);
		shard_wake(shard, &shard->held_at, now + POOL_DETACH_RETRY_NS);
		/* that shard, or another which left it to us, may have counted on it */
		atomic_fetch_sub(&to->inbound, 1);
		atomic_fetch_sub(&to->shard->inbound, 1);
		note_send(shard, to->shard, NOTE_LOOK);
		return false;
	}
	conn_set_state(conn, POOL_CONN_MOVING, now);
	stat_add(&shard->stats.moved, 1);
	slot_of(conn->user, shard)->moved_ns = now;
	shard->gave |= (uint64_t)1 << to->shard->index;
	atomic_fetch_add(&shard->pool->in_mail, 1);
	conn->message.from = shard;
	conn->message.to = to->shard;
	conn->message.moves_conn = true;
	shard->pool->ops.send(shard, to->shard, &conn->message);
	return true;
}

/* From now on that waiter counts as provided for, unless another worker was quicker. */
static bool reserve(const struct place *place) {
	uint32_t inbound = place->inbound;
	atomic_fetch_add(&place->slot->shard->inbound, 1);
	if (atomic_compare_exchange_strong(&place->slot->inbound, &inbound, inbound + 1))
		return true;
	atomic_fetch_sub(&place->slot->shard->inbound, 1);
	return false;
}

bool conn_give(struct pool_conn *conn, enum among among, uint64_t now) {
	struct slot *slot = slot_of(conn->user, conn->shard);
	struct pool_waiter *own = slot_first_waiter(slot);
	struct place other;
	while (!conn->held && user_oldest_elsewhere(slot, own ? AMONG_NEEDY : among, now, &other)) {
		if (own && !slot_owes(slot, &other, own->since_ns, now))
			break;
		POOL_TEST_POINT();
		if (reserve(&other) && move(conn, other.slot, now))
			return true;
	}
	if (!own)
		return false;
	waiter_serve(own, conn);
	return true;
}

void conn_set_retire(struct pool_conn *conn, const char *reason) {
	if (conn->retire)
		return;
	conn->retire = true;
	conn->reason = reason;
	atomic_fetch_add(&conn->shard->pool->retiring, 1);
}

void pool_conn_retire(struct pool_conn *conn, const char *reason) {
	struct pool_shard *shard = conn->shard;
	if (conn->state == POOL_CONN_CLOSING || conn->state == POOL_CONN_CLOSED)
		return;
	shard_enter(shard);
	if (conn->state == POOL_CONN_IDLE)
		conn_doom(conn, reason, false);
	else
		conn_set_retire(conn, reason);
	shard_leave(shard);
}

const char *conn_ends(const struct pool_conn *conn, uint64_t now) {
	if (conn->shard->shut)
		return "shut";
	if (conn->retire)
		return conn->reason;
	if (atomic_load_explicit(&conn->shard->pool->paused, memory_order_relaxed))
		return "paused";
	const char *reason = host_ends(conn->shard->pool, conn->host);
	if (reason)
		return reason;
	return conn->expires_ns <= now && keep_expires(conn, now) ? "max_lifetime" : NULL;
}

void conn_place(struct pool_conn *conn) {
	struct pool_shard *shard = conn->shard;
	struct pool *pool = shard->pool;
	uint64_t now = shard_now(shard);
	const char *reason = conn_ends(conn, now);
	if (reason) {
		conn_doom(conn, reason, false);
		return;
	}
	if (conn->expires_ns <= now)
		keep_expired(conn, now);
	if (permit_claim_excess(conn->user, atomic_load(&pool->max_size))) {
		conn_doom(conn, "max_size", true);
		return;
	}
	if (permit_claim_user_excess(conn->user)) {
		conn_doom(conn, "max_size_per_user", true);
		return;
	}
	/* within a callback of ours it is left to the look that follows it, lest serving recurs */
	if (shard->depth == 1 && atomic_load_explicit(&pool->waiting, memory_order_relaxed)) {
		if (turn_take(conn, now)) {
			conn_doom(conn, "turn", false);
			return;
		}
		if (conn_give(conn, slot_lends_to(slot_of(conn->user, shard), now), now))
			return;
	}
	POOL_TEST_POINT();
	conn_set_state(conn, POOL_CONN_IDLE, now);
	keep_watch(shard, conn);
	POOL_TEST_POINT();
	if (atomic_load(&pool->waiting))
		shard->look_due = true;
}

void pool_release(struct pool_conn *conn) {
	struct pool_shard *shard = conn->shard;
	if (conn->state != POOL_CONN_BUSY) {
		log_error("pool_release_of_free", LOG_FIELDS(LOG_TEXT("pool", shard->pool->name)),
			  "a connection in state %d was released", (int)conn->state);
		return;
	}
	shard_enter(shard);
	uint64_t now = shard_now(shard);
	if (conn->lent)
		worth_held(slot_of(conn->user, shard), now > conn->busy_since_ns ? now - conn->busy_since_ns : 0);
	conn_place(conn);
	shard_leave(shard);
}

void pool_conn_take(struct pool_conn *conn) {
	if (conn->state != POOL_CONN_IDLE)
		return;
	struct pool_shard *shard = conn->shard;
	shard_enter(shard);
	conn_set_state(conn, POOL_CONN_BUSY, shard_now(shard));
	conn->taken = true;
	shard_leave(shard);
}

void pool_conn_init(struct pool_conn *conn, struct pool_shard *shard, struct pool_user *user, int host) {
	uint64_t now = shard_now(shard);
	*conn = (struct pool_conn){.shard = shard,
				   .user = pool_user_ref(user),
				   .state = POOL_CONN_OPENING,
				   .host = host,
				   .began_ns = now,
				   .expires_ns = TIME_NEVER};
	list_init(&conn->node);
	list_init(&conn->idle_lru);
	atomic_fetch_add(&shard->pool->hosts[host].conns, 1);
	struct slot *slot = slot_of(user, shard);
	slot_link(slot);
	enter_state(slot, conn, now);
}

void pool_conn_opened(struct pool_conn *conn) {
	struct pool_shard *shard = conn->shard;
	struct pool *pool = shard->pool;
	struct pool_user *user = conn->user;
	if (conn->state != POOL_CONN_OPENING) {
		log_error("pool_opened_twice", LOG_FIELDS(LOG_TEXT("pool", pool->name)),
			  "a connection in state %d was reported open", (int)conn->state);
		return;
	}
	shard_enter(shard);
	uint64_t now = shard_now(shard);
	conn_set_state(conn, POOL_CONN_BUSY, now);
	conn->opened = true;
	conn->opened_ns = now;
	conn->jitter = (uint16_t)(pool->ops.random(shard) >> 16);
	conn->expires_ns = conn_expiry(conn, atomic_load(&pool->max_lifetime));
	POOL_TEST_POINT();
	atomic_fetch_add(&user->open, 1);
	atomic_fetch_add(&pool->hosts[conn->host].open, 1);
	stat_add(&shard->stats.opened, 1);
	histogram_add(&shard->stats.connect_time, now - conn->began_ns);
	worth_login(pool, now - conn->began_ns);
	host_succeeded(pool, conn->host, now);
	hosts_move(shard, now);
	if (backoff_failing(&user->backoff)) {
		backoff_clear(&user->backoff);
		user_tell(user, shard);
	}
	conn_place(conn);
	/* the gate may be open now; and if it went elsewhere, whom it was opened for still waits */
	if (atomic_load(&pool->waiting))
		shard->look_due = true;
	keep_fill_soon(shard, now, 0);
	shard_leave(shard);
}

void pool_conn_closing(struct pool_conn *conn) {
	struct pool_shard *shard = conn->shard;
	if (conn->state == POOL_CONN_MOVING || conn->state == POOL_CONN_CLOSING || conn->state == POOL_CONN_CLOSED)
		return;
	shard_enter(shard);
	bool tried = conn->state == POOL_CONN_OPENING && backoff_failing(&conn->user->backoff);
	permit_mark_closing(conn->user);
	conn_set_state(conn, POOL_CONN_CLOSING, shard_now(shard));
	/* it was the one try that the others waited for; another may be made before it has ended */
	if (tried)
		user_tell(conn->user, shard);
	/* one that was opening was counted on */
	if (atomic_load(&shard->pool->waiting))
		shard->look_due = true;
	shard_leave(shard);
}

void pool_conn_closed(struct pool_conn *conn, enum pool_open_failure failure) {
	struct pool_shard *shard = conn->shard;
	struct pool *pool = shard->pool;
	struct pool_user *user = conn->user;
	if (conn->state == POOL_CONN_MOVING || conn->state == POOL_CONN_CLOSED) {
		log_error("pool_closed_wrongly", LOG_FIELDS(LOG_TEXT("pool", pool->name)),
			  "a connection in state %d was reported closed", (int)conn->state);
		return;
	}
	shard_enter(shard);
	uint64_t now = shard_now(shard);
	enum pool_conn_state was = conn->state;
	host_failed(shard, conn->host, conn->began_ns, failure);
	conn_set_state(conn, POOL_CONN_CLOSED, now);
	bool last = false;
	if (conn->opened) {
		last = atomic_fetch_sub(&user->open, 1) == 1;
		atomic_fetch_sub(&pool->hosts[conn->host].open, 1);
		stat_add(&shard->stats.closed, 1);
	} else {
		stat_add(&shard->stats.open_failed, 1);
	}
	atomic_fetch_sub(&pool->hosts[conn->host].conns, 1);
	bool had_room = user_limit(user) == UINT32_MAX && !backoff_failing(&user->backoff);
	POOL_TEST_POINT();
	permit_return(user, was == POOL_CONN_CLOSING);
	POOL_TEST_POINT();
	/* its waiters may not have been worth a connection as long as it had one */
	if (!had_room || last || failure != POOL_OPEN_NO_FAULT)
		user_tell(user, shard);
	if (atomic_load(&pool->waiting))
		shard->look_due = true;
	keep_fill_soon(shard, now, 0);
	shard_leave(shard);
	pool_user_unref(user);
}
