/* A shard: entering and leaving, its clock, walks, retirement and its end. */
#include "pool/internal.h"

void shard_settle(struct pool_shard *shard) {
	while (shard->depth == 1 && (shard->look_due || !list_empty(&shard->doomed))) {
		struct list *node = list_pop_front(&shard->doomed);
		if (node) {
			struct pool_conn *conn = list_entry(node, struct pool_conn, node);
			conn->doomed = false;
			shard->doomed_n--;
			shard->closing_n++;
			list_push_back(&shard->closing, &conn->node);
			shard->pool->ops.close(conn, conn->reason);
			continue;
		}
		shard->look_due = false;
		shard_look(shard);
	}
	if (shard->depth == 1 && shard->sweep_due) {
		shard->sweep_due = false;
		shard_sweep(shard);
	}
}

void shard_wake(struct pool_shard *shard, uint64_t *at, uint64_t time) {
	if (at && time < *at)
		*at = time;
	if (shard->ticking || time >= shard->wish_ns)
		return;
	shard->wish_ns = time;
	shard->pool->ops.wake_at(shard, time);
}

static bool due(uint64_t *at, uint64_t now) {
	if (now < *at)
		return false;
	*at = TIME_NEVER;
	return true;
}

static void offer_held_again(struct pool_shard *shard) {
	list_for_each(node, &shard->idle_lru)
		conn_set_held(list_entry(node, struct pool_conn, idle_lru), false);
	shard->look_due = true;
}

static void run_due(struct pool_shard *shard, uint64_t now) {
	uint32_t version = atomic_load(&shard->pool->limits_version);
	if (version != shard->limits_seen) {
		shard->limits_seen = version;
		keep_apply_limits(shard, now);
		hosts_move(shard, now);
	}
	timeouts_run(&shard->deadlines, now);
	if (due(&shard->held_at, now))
		offer_held_again(shard);
	if (due(&shard->gate_at, now))
		shard->look_due = true;
	if (due(&shard->turn_at, now))
		turn_tick(shard, now);
	if (due(&shard->idle_at, now))
		keep_idle(shard, now);
	if (due(&shard->fill_at, now))
		keep_fill(shard, now);
	if (due(&shard->move_at, now))
		hosts_move(shard, now);
}

void pool_shard_tick(struct pool_shard *shard) {
	uint64_t now = shard_now(shard);
	shard_enter(shard);
	shard->ticking = true;
	run_due(shard, now);
	shard_settle(shard);
	shard->ticking = false;
	const uint64_t times[] = {timeouts_next(&shard->deadlines), shard->held_at, shard->gate_at,
				  shard->turn_at, shard->idle_at, shard->fill_at, shard->move_at};
	shard->wish_ns = TIME_NEVER;
	for (size_t i = 0; i < sizeof times / sizeof *times; i++)
		if (times[i] < shard->wish_ns)
			shard->wish_ns = times[i];
	shard->pool->ops.wake_at(shard, shard->wish_ns);
	shard_leave(shard);
}

/* Closes what is idle and marks the rest. */
static void retire_all(struct pool_shard *shard, const char *reason) {
	list_for_each(node, &shard->slots) {
		struct slot *slot = list_entry(node, struct slot, node);
		list_for_each_safe(n, &slot->idle)
			conn_doom(list_entry(n, struct pool_conn, node), reason, false);
		list_for_each(n, &slot->busy)
			conn_set_retire(list_entry(n, struct pool_conn, node), reason);
		list_for_each(n, &slot->opening)
			conn_set_retire(list_entry(n, struct pool_conn, node), reason);
	}
}

void pool_shard_retire(struct pool_shard *shard) {
	shard_enter(shard);
	shard->retired_ns = shard_now(shard);
	retire_all(shard, "retired");
	shard_leave(shard);
}

void pool_shard_shut(struct pool_shard *shard) {
	shard_enter(shard);
	shard->shut = true;
	atomic_store(&shard->closed, true);
	struct list *node;
	while ((node = list_first(&shard->waiters)))
		waiter_fail(list_entry(node, struct pool_waiter, shard_node), POOL_FAIL_CLOSED);
	retire_all(shard, "shut");
	shard->held_at = shard->gate_at = shard->turn_at = shard->idle_at = shard->fill_at = shard->move_at =
		TIME_NEVER;
	shard_leave(shard);
}

void pool_shard_reopen(struct pool_shard *shard) {
	if (!shard->shut)
		return;
	shard->shut = false;
	shard->limits_seen--; /* all is to be looked at anew */
	atomic_store(&shard->closed, false);
}

/* --- walks --- */

static void each_of(struct list *list, void (*each)(struct pool_conn *conn, void *context), void *context) {
	list_for_each_safe(node, list)
		each(list_entry(node, struct pool_conn, node), context);
}

void pool_shard_each_conn(struct pool_shard *shard, void (*each)(struct pool_conn *conn, void *context),
			  void *context) {
	shard_enter(shard);
	shard_enter(shard); /* one more, so that what is released within waits until the walk is over */
	list_for_each(node, &shard->slots) {
		struct slot *slot = list_entry(node, struct slot, node);
		/* idle first: a busy one that is released within becomes idle, and is not walked over twice
		 * */
		each_of(&slot->idle, each, context);
		each_of(&slot->opening, each, context);
		each_of(&slot->busy, each, context);
	}
	shard->depth--;
	shard_leave(shard);
}

void pool_shard_each_waiter(struct pool_shard *shard, void (*each)(struct pool_waiter *w, void *context),
			    void *context) {
	shard_enter(shard);
	list_for_each_safe(node, &shard->waiters)
		each(list_entry(node, struct pool_waiter, shard_node), context);
	shard_leave(shard);
}
