/* Clients that ask for a connection, and those that wait for one. */
#include "pool/internal.h"

static void publish_heads(struct slot *slot) {
	int i = 0;
	list_for_each(node, &slot->waiters) {
		if (i == HEADS)
			break;
		const struct pool_waiter *waiter = list_entry(node, struct pool_waiter, node);
		atomic_store_explicit(&slot->heads[i++], waiter->since_ns, memory_order_release);
	}
	while (i < HEADS)
		atomic_store_explicit(&slot->heads[i++], TIME_NEVER, memory_order_release);
	atomic_store_explicit(&slot->waiting, slot->waiting_n, memory_order_release);
}

static void publish_oldest(struct pool_shard *shard) {
	struct list *first = list_first(&shard->waiters);
	uint64_t since = first ? list_entry(first, struct pool_waiter, shard_node)->since_ns : TIME_NEVER;
	atomic_store_explicit(&shard->stats.oldest_wait_ns, since, memory_order_relaxed);
}

static void count_waiting(struct pool_shard *shard, int by) {
	uint32_t n = atomic_load_explicit(&shard->stats.waiting, memory_order_relaxed);
	atomic_store_explicit(&shard->stats.waiting, n + (uint32_t)by, memory_order_relaxed);
}

/* The last word of "publish": after it, one looks. Exact: of two for the last place, one gets it. */
static bool count_in(struct pool *pool) {
	uint32_t max = atomic_load(&pool->max_waiting), n = atomic_load(&pool->waiting);
	do {
		if (max && n >= max)
			return false;
	} while (!atomic_compare_exchange_weak(&pool->waiting, &n, n + 1));
	return true;
}

static void unlink_waiter(struct pool_waiter *waiter, uint64_t now) {
	struct slot *slot = slot_of(waiter->user, waiter->shard);
	list_remove(&waiter->node);
	list_remove(&waiter->shard_node);
	waiter->waiting = false;
	slot->waiting_n--;
	publish_heads(slot);
	publish_oldest(waiter->shard);
	count_waiting(waiter->shard, -1);
	if (!slot->waiting_n) {
		atomic_store_explicit(&slot->queued_ns, now, memory_order_relaxed);
		atomic_fetch_and(&slot->user->waiting_at, ~((uint64_t)1 << waiter->shard->index));
	}
	timeouts_clear(&waiter->shard->deadlines, &waiter->timeout);
	slot_unlink_later(slot);
}

static void waiter_expired(struct timeout *timeout, uint64_t now_ns) {
	(void)now_ns;
	struct pool_waiter *waiter = container_of(timeout, struct pool_waiter, timeout);
	stat_add(&waiter->shard->stats.timeouts, 1);
	waiter_fail(waiter, POOL_FAIL_TIMEOUT);
}

/* Queues it and publishes. False: no place. */
static bool enqueue(struct pool_waiter *waiter, uint64_t now, uint64_t deadline_ns) {
	struct pool_shard *shard = waiter->shard;
	struct slot *slot = slot_of(waiter->user, shard);
	waiter->since_ns = now;
	waiter->deadline_ns = deadline_ns;
	waiter->waiting = true;
	waiter->timeout = (struct timeout){.expired = waiter_expired};
	if (deadline_ns != TIME_NEVER && !timeouts_set(&shard->deadlines, &waiter->timeout, deadline_ns)) {
		waiter->waiting = false;
		return false; /* out of memory: no place either */
	}
	slot_link(slot);
	if (!slot->waiting_n) {
		slot->failed_seen = atomic_load(&slot->user->failed_count);
		slot->queue_since_ns = now;
		slot->queue_served = 0;
	}
	list_push_back(&slot->waiters, &waiter->node);
	list_push_back(&shard->waiters, &waiter->shard_node);
	slot->waiting_n++;
	if (slot->waiting_n <= HEADS)
		atomic_store_explicit(&slot->heads[slot->waiting_n - 1], now, memory_order_release);
	atomic_store_explicit(&slot->waiting, slot->waiting_n, memory_order_release);
	slot_weigh(slot, now);
	publish_oldest(shard);
	count_waiting(shard, 1);
	POOL_TEST_POINT();
	if (slot->waiting_n == 1)
		atomic_fetch_or(&slot->user->waiting_at, (uint64_t)1 << shard->index);
	POOL_TEST_POINT();
	if (!count_in(shard->pool)) {
		unlink_waiter(waiter, now);
		slot_weigh(slot, now);
		return false;
	}
	stat_add(&shard->stats.waits, 1);
	stat_add(&shard->stats.wait_reasons[meter_wait_reason(slot, now)], 1);
	shard_wake(shard, NULL, deadline_ns);
	POOL_TEST_POINT();
	return true;
}

void waiter_remove(struct pool_waiter *waiter) {
	struct pool_shard *shard = waiter->shard;
	struct slot *slot = slot_of(waiter->user, shard);
	uint64_t now = shard_now(shard);
	unlink_waiter(waiter, now);
	POOL_TEST_POINT();
	atomic_fetch_sub(&shard->pool->waiting, 1);
	uint64_t waited_ns = now > waiter->since_ns ? now - waiter->since_ns : 0;
	stat_add(&shard->stats.wait_ns, waited_ns);
	histogram_add(&shard->stats.acquire_time, waited_ns);
	uint32_t want = slot->want;
	slot_refresh_want(slot);
	/* those behind it may have lost their patience, or a permit be free for which they wait */
	if (slot->want > want)
		shard->look_due = true;
}

struct pool_waiter *pool_first_waiter(const struct pool_shard *shard, struct pool_user *user) {
	return slot_first_waiter(slot_of(user, shard));
}

struct pool_waiter *pool_waiter_behind(const struct pool_waiter *waiter) {
	struct list *next = waiter->node.next;
	return next != &slot_of(waiter->user, waiter->shard)->waiters ? list_entry(next, struct pool_waiter, node) : NULL;
}

void waiter_serve(struct pool_waiter *waiter, struct pool_conn *conn) {
	struct pool_shard *shard = waiter->shard;
	struct slot *slot = slot_of(waiter->user, shard);
	uint64_t now = shard_now(shard);
	conn->taken = false;
	conn_set_state(conn, POOL_CONN_BUSY, now);
	conn->lent = true;
	slot->queue_served++;
	waiter_remove(waiter);
	stat_add(&shard->stats.acquires, 1);
	atomic_store_explicit(&slot->active_ns, now, memory_order_relaxed);
	shard_enter(shard);
	shard->pool->ops.serve(waiter, conn);
	shard_leave(shard);
}

void waiter_fail(struct pool_waiter *waiter, enum pool_fail why) {
	struct pool_shard *shard = waiter->shard;
	waiter_remove(waiter);
	shard_enter(shard);
	shard->pool->ops.fail(waiter, why);
	shard_leave(shard);
}

/* An idle connection of this slot that may be used, if any. Takes out of the way what has become too old. */
static struct pool_conn *usable_idle(struct slot *slot, uint64_t now) {
	struct pool_conn *conn;
	const char *reason = NULL;
	while ((conn = slot_idle_conn(slot, false)) && (reason = conn_ends(conn, now)))
		conn_doom(conn, reason, false);
	return conn;
}

/* An idle connection for a newcomer, unless waiters of other workers have waited so long that it is theirs.
 * */
static struct pool_conn *idle_for_newcomer(struct slot *slot, uint64_t now) {
	struct pool_conn *conn = usable_idle(slot, now);
	if (!conn || atomic_load_explicit(&slot->shard->pool->waiting, memory_order_relaxed) == 0)
		return conn;
	if (slot->waiting_n)
		return NULL; /* behind those; they are seen to before the outermost call returns */
	while (conn && !conn->held && user_waits_elsewhere(slot, now) && conn_give(conn, AMONG_NEEDY, now))
		conn = usable_idle(slot, now);
	return conn;
}

static struct pool_conn *acquire(struct slot *slot, struct pool_waiter *waiter, uint64_t deadline_ns,
				 int *why) {
	struct pool_shard *shard = slot->shard;
	uint64_t now = shard_now(shard);
	if (shard->shut) {
		*why = POOL_FAIL_CLOSED;
		return NULL;
	}
	keep_fill_soon(shard, now, POOL_FILL_INTERVAL_NS);
	struct pool_conn *conn = atomic_load_explicit(&shard->pool->paused, memory_order_relaxed)
					 ? NULL
					 : idle_for_newcomer(slot, now);
	if (conn) {
		conn->taken = false;
		conn_set_state(conn, POOL_CONN_BUSY, now);
		conn->lent = true;
		stat_add(&shard->stats.acquires, 1);
		histogram_add(&shard->stats.acquire_time, 0);
		atomic_store_explicit(&slot->active_ns, now, memory_order_relaxed);
		return conn;
	}
	if (slot_is_unavailable(slot, NULL)) {
		atomic_store_explicit(&slot->active_ns, now, memory_order_relaxed);
		*why = POOL_FAIL_UNAVAILABLE;
		return NULL;
	}
	waiter->shard = shard;
	waiter->user = slot->user;
	if (!enqueue(waiter, now, deadline_ns)) {
		stat_add(&shard->stats.rejected, 1);
		*why = POOL_FAIL_QUEUE_FULL;
		return NULL;
	}
	atomic_store_explicit(&slot->active_ns, now, memory_order_relaxed);
	slot_seek(slot, now);
	return NULL;
}

struct pool_conn *pool_acquire(struct pool_shard *shard, struct pool_user *user, struct pool_waiter *waiter,
			       uint64_t deadline_ns, int *why) {
	*why = -1;
	shard_enter(shard);
	shard->acquiring = shard->depth == 1;
	struct pool_conn *conn = acquire(slot_of(user, shard), waiter, deadline_ns, why);
	shard_leave(shard);
	shard->acquiring = false;
	return conn;
}

void pool_waiter_cancel(struct pool_waiter *waiter) {
	if (!waiter->waiting)
		return;
	struct pool_shard *shard = waiter->shard;
	shard_enter(shard);
	waiter_remove(waiter);
	shard_leave(shard);
}

uint32_t pool_waiter_place(const struct pool_waiter *waiter) {
	if (!waiter->waiting)
		return 0;
	uint32_t place = 1;
	const struct slot *slot = slot_of(waiter->user, waiter->shard);
	for (const struct list *node = waiter->node.prev; node != &slot->waiters; node = node->prev)
		place++;
	return place;
}

void pool_user_failed(struct pool_shard *shard, struct pool_user *user) {
	shard_enter(shard);
	uint64_t now = shard_now(shard);
	/* what fails while one waits anyway is one failure with that before */
	uint64_t retry = TIME_NEVER;
	bool same = backoff_gate(&user->backoff, &user->opening, now, &retry) == GATE_WAIT;
	backoff_failed(&user->backoff, same ? 0 : now, now, shard->pool->ops.random(shard), POOL_BACKOFF_HOPELESS_NS,
		       POOL_BACKOFF_MAX_NS);
	if (atomic_load(&user->open) == 0) {
		atomic_fetch_add(&user->failed_count, 1);
		user_tell(user, shard);
	}
	shard->look_due = true;
	shard_leave(shard);
}
