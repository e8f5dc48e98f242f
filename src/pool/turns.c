/*
 * Turns between users when every connection is in use: a user whose waiter has waited POOL_STARVED_NS and
 * cannot have a permit puts up a claim; the next connection released by a user who has at least two more (or
 * any, where the claimant has none) is closed for it, at most one in POOL_TURN_INTERVAL_NS. The permit then
 * goes by the ordinary rule, fewest connections first. So shares become equal while all are busy, nobody
 * starves, and how often logins are spent on that is bounded. There is one claim in the pool; that of the
 * user with fewer connections replaces another's. Who lost its claim puts it up again at its next tick while
 * it is starved.
 */
#include "pool/internal.h"

void turn_watch(struct slot *slot) {
	struct pool_shard *shard = slot->shard;
	struct pool *pool = shard->pool;
	if (permits_taken(&slot->user->permits) >= permits_taken(&pool->permits))
		return; /* all are its own */
	uint64_t starved = slot_first_waiter(slot)->since_ns + POOL_STARVED_NS;
	shard_wake(shard, &shard->turn_at, starved > shard->turn_next_ns ? starved : shard->turn_next_ns);
}

static void put_up(struct pool *pool, struct pool_user *user, uint32_t size) {
	uint32_t min_size = size ? size + 2 : 1;
	struct pool_user *holder = atomic_load(&pool->claim.user);
	if (holder && holder != user && min_size >= atomic_load(&pool->claim.min_size))
		return;
	/* two at once may mix: at worst one connection is closed for the one by the other's measure */
	atomic_store(&pool->claim.min_size, min_size);
	atomic_store(&pool->claim.user, user);
}

void turn_tick(struct pool_shard *shard, uint64_t now) {
	struct pool *pool = shard->pool;
	struct slot *found = NULL;
	uint32_t best = 0;
	shard->turn_at = TIME_NEVER;
	shard->turn_next_ns = now + POOL_TURN_INTERVAL_NS;
	list_for_each(node, &shard->slots) {
		struct slot *slot = list_entry(node, struct slot, node);
		if (!slot->want || !slot->waiting_n)
			continue;
		turn_watch(slot);
		uint32_t size = permits_taken(&slot->user->permits);
		if (slot_first_waiter(slot)->since_ns + POOL_STARVED_NS > now || (found && size >= best))
			continue;
		found = slot;
		best = size;
	}
	if (found && !hosts_failing(pool, now))
		put_up(pool, found->user, best);
}

void turn_forget(struct slot *slot) {
	struct pool *pool = slot->shard->pool;
	struct pool_user *user = slot->user;
	if (atomic_load_explicit(&pool->claim.user, memory_order_relaxed) == user)
		atomic_compare_exchange_strong(&pool->claim.user, &user, NULL);
}

bool turn_take(struct pool_conn *conn, uint64_t now) {
	struct pool *pool = conn->shard->pool;
	struct pool_user *claimant = atomic_load_explicit(&pool->claim.user, memory_order_relaxed);
	if (!claimant || claimant == conn->user)
		return false;
	if (permits_taken(&conn->user->permits) < atomic_load(&pool->claim.min_size))
		return false;
	if (permits_free(pool) || hosts_failing(pool, now))
		return false;
	uint64_t next = atomic_load(&pool->claim.next_ns), then = now + POOL_TURN_INTERVAL_NS;
	if (now < next || !atomic_compare_exchange_strong(&pool->claim.next_ns, &next, then))
		return false;
	return atomic_compare_exchange_strong(&pool->claim.user, &claimant, NULL);
}
