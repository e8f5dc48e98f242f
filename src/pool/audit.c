/* The pool checks itself: all counts against all lists, and what is published against what is so. */
#include "pool/internal.h"

#define REQUIRE(condition, what) \
	do { \
		if (!(condition)) \
			return what; \
	} while (0)

struct sums {
	uint32_t opening, busy, idle, held, waiting, want, wanting;
	uint32_t host_busy[POOL_MAX_HOSTS];
};

static const char *audit_list(const struct slot *slot, const struct list *list, enum pool_conn_state state,
			      uint32_t *length) {
	*length = 0;
	list_for_each(node, list) {
		const struct pool_conn *conn = list_entry(node, struct pool_conn, node);
		REQUIRE(node->next->prev == node && node->prev->next == node, "a broken list");
		REQUIRE(conn->state == state, "a connection is on a list that is not its state's");
		REQUIRE(conn->user == slot->user, "a connection is on a list of another user");
		REQUIRE(conn->shard == slot->shard, "a connection is on a list of another shard");
		REQUIRE(list_linked(&conn->idle_lru) == (state == POOL_CONN_IDLE), "idle_lru and state");
		++*length;
	}
	return NULL;
}

static const char *audit_idle(const struct slot *slot) {
	uint32_t held = 0;
	uint64_t since = TIME_NEVER;
	list_for_each(node, &slot->idle) {
		const struct pool_conn *conn = list_entry(node, struct pool_conn, node);
		held += conn->held;
		REQUIRE(conn->idle_since_ns <= since, "idle connections are out of order");
		since = conn->idle_since_ns;
	}
	REQUIRE(held == slot->held_n, "count of held connections");
	REQUIRE(atomic_load(&slot->lendable) == slot->idle_n - held, "published lendable of a slot");
	return NULL;
}

static const char *audit_waiters(const struct slot *slot) {
	uint32_t n = 0;
	uint64_t since = 0;
	list_for_each(node, &slot->waiters) {
		const struct pool_waiter *waiter = list_entry(node, struct pool_waiter, node);
		REQUIRE(waiter->waiting && waiter->user == slot->user && waiter->shard == slot->shard,
			"a waiter is in a queue that is not its own");
		REQUIRE(waiter->since_ns >= since, "waiters are out of order");
		REQUIRE(timeout_pending(&waiter->timeout) == (waiter->deadline_ns != TIME_NEVER),
			"a waiter's deadline is not watched");
		since = waiter->since_ns;
		if (n < HEADS)
			REQUIRE(atomic_load(&slot->heads[n]) == since, "published heads of a slot");
		n++;
	}
	for (uint32_t i = n; i < HEADS; i++)
		REQUIRE(atomic_load(&slot->heads[i]) == TIME_NEVER, "published heads beyond the last");
	REQUIRE(n == slot->waiting_n && n == atomic_load(&slot->waiting), "count of waiters of a slot");
	uint32_t needy = atomic_load(&slot->needy), eager = atomic_load(&slot->eager);
	REQUIRE(needy <= eager && eager <= n, "published needy and eager of a slot");
	REQUIRE(needy == n || slot->busy_n, "waiters are patient though no connection is at work for them");
	if (needy < n && needy < HEADS)
		REQUIRE(slot->shard->gate_at <= atomic_load(&slot->heads[needy]) + POOL_PATIENCE_MAX_NS,
			"nobody watches for the end of a waiter's patience");
	bool marked = atomic_load(&slot->user->waiting_at) & (uint64_t)1 << slot->shard->index;
	REQUIRE(marked == (n != 0), "waiting_at of a user");
	return NULL;
}

static const char *audit_slot(const struct slot *slot, struct sums *sums) {
	uint32_t opening, busy, idle;
	const char *wrong = audit_list(slot, &slot->opening, POOL_CONN_OPENING, &opening);
	if (!wrong)
		wrong = audit_list(slot, &slot->busy, POOL_CONN_BUSY, &busy);
	if (!wrong)
		wrong = audit_list(slot, &slot->idle, POOL_CONN_IDLE, &idle);
	if (!wrong)
		wrong = audit_idle(slot);
	if (!wrong)
		wrong = audit_waiters(slot);
	if (wrong)
		return wrong;
	REQUIRE(opening == slot->opening_n, "count of opening connections");
	REQUIRE(busy == slot->busy_n, "count of busy connections");
	REQUIRE(idle == slot->idle_n, "count of idle connections");
	REQUIRE(slot->shard->depth || opening + busy + idle + slot->waiting_n, "an empty slot is linked");
	list_for_each(node, &slot->busy)
		sums->host_busy[list_entry(node, struct pool_conn, node)->host]++;
	sums->opening += opening;
	sums->busy += busy;
	sums->idle += idle;
	sums->held += slot->held_n;
	sums->waiting += slot->waiting_n;
	sums->want += slot->want;
	sums->wanting += slot->want != 0;
	return NULL;
}

static const char *audit_lru(const struct pool_shard *shard, const struct sums *sums) {
	uint32_t idle = 0;
	uint64_t since = 0, published = TIME_NEVER;
	list_for_each(node, &shard->idle_lru) {
		const struct pool_conn *conn = list_entry(node, struct pool_conn, idle_lru);
		REQUIRE(conn->state == POOL_CONN_IDLE && conn->shard == shard, "idle_lru is wrong");
		REQUIRE(conn->idle_since_ns >= since, "idle_lru is out of order");
		since = conn->idle_since_ns;
		if (!conn->held && published == TIME_NEVER)
			published = since;
		idle++;
	}
	REQUIRE(idle == sums->idle, "idle_lru and the users' idle lists differ");
	REQUIRE(published == atomic_load(&shard->lru_since_ns), "published lru_since");
	REQUIRE(atomic_load(&shard->lendable) == sums->idle - sums->held, "published lendable of the shard");
	return NULL;
}

static const char *audit_shard(const struct pool_shard *shard, const struct sums *sums) {
	const struct pool_shard_stats *stats = &shard->stats;
	REQUIRE(atomic_load(&stats->opening) == sums->opening, "gauge of opening connections");
	REQUIRE(atomic_load(&stats->busy) == sums->busy, "gauge of busy connections");
	REQUIRE(atomic_load(&stats->idle) == sums->idle, "gauge of idle connections");
	REQUIRE(atomic_load(&stats->waiting) == sums->waiting, "gauge of waiters");
	REQUIRE(atomic_load(&shard->want) == sums->want, "published want");
	REQUIRE(shard->wanting_n == sums->wanting, "count of slots that want");
	uint32_t waiting = 0, timed = 0;
	uint64_t oldest = TIME_NEVER;
	list_for_each(node, &shard->waiters) {
		const struct pool_waiter *waiter = list_entry(node, struct pool_waiter, shard_node);
		if (!waiting++)
			oldest = waiter->since_ns;
		timed += waiter->deadline_ns != TIME_NEVER;
	}
	REQUIRE(waiting == sums->waiting, "the shard's waiters and the users' queues differ");
	REQUIRE(timed == shard->deadlines.count, "deadlines and waiters differ");
	REQUIRE(oldest == atomic_load(&stats->oldest_wait_ns), "gauge of the oldest wait");
	REQUIRE(shard->depth || list_empty(&shard->doomed), "connections are still to be closed");
	uint32_t closing = 0, doomed = 0;
	list_for_each(node, &shard->closing) {
		const struct pool_conn *conn = list_entry(node, struct pool_conn, node);
		REQUIRE(conn->state == POOL_CONN_CLOSING && conn->shard == shard && !conn->doomed,
			"a connection that is not being closed is on that list");
		closing++;
	}
	list_for_each(node, &shard->doomed) {
		const struct pool_conn *conn = list_entry(node, struct pool_conn, node);
		REQUIRE(conn->state == POOL_CONN_CLOSING && conn->shard == shard && conn->doomed,
			"a connection that is not to be closed is on that list");
		doomed++;
	}
	REQUIRE(closing == shard->closing_n && doomed == shard->doomed_n, "count of closing connections");
	for (int i = 0; i < POOL_MAX_HOSTS; i++)
		REQUIRE(atomic_load(&shard->host_busy[i]) == sums->host_busy[i], "count of busy connections of a host");
	return NULL;
}

const char *pool_shard_audit(struct pool_shard *shard) {
	struct sums sums = {0};
	list_for_each(node, &shard->slots) {
		const char *wrong = audit_slot(list_entry(node, struct slot, node), &sums);
		if (wrong)
			return wrong;
	}
	const char *wrong = audit_lru(shard, &sums);
	return wrong ? wrong : audit_shard(shard, &sums);
}
