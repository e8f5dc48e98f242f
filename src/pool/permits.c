/*
 * Permits and the gate. A permit word holds two numbers that change together: permits taken (low half), and
 * how many of those belong to connections that are being closed (high half).
 */
#include "pool/internal.h"

#define CLOSING_ONE ((uint64_t)1 << 32)

static uint32_t taken_of(uint64_t word) {
	return (uint32_t)word;
}

static uint32_t closing_of(uint64_t word) {
	return (uint32_t)(word >> 32);
}

static bool take_below(_Atomic uint64_t *permits, uint32_t limit) {
	uint64_t word = atomic_load(permits);
	do {
		if (taken_of(word) >= limit)
			return false;
	} while (!atomic_compare_exchange_weak(permits, &word, word + 1));
	return true;
}

static bool claim_above(_Atomic uint64_t *permits, uint32_t keep) {
	uint64_t word = atomic_load(permits);
	do {
		if (taken_of(word) - closing_of(word) <= keep)
			return false;
	} while (!atomic_compare_exchange_weak(permits, &word, word + CLOSING_ONE));
	return true;
}

uint32_t user_limit(const struct pool_user *user) {
	uint32_t own = atomic_load(&user->max_size);
	uint32_t limit = own ? own : atomic_load(&user->pool->max_size_per_user);
	return limit ? limit : UINT32_MAX;
}

uint32_t permits_free(const struct pool *pool) {
	uint32_t taken = permits_taken(&pool->permits), max = atomic_load(&pool->max_size);
	return taken < max ? max - taken : 0;
}

bool permit_take(struct pool_user *user) {
	struct pool *pool = user->pool;
	if (!take_below(&pool->permits, atomic_load(&pool->max_size)))
		return false;
	POOL_TEST_POINT();
	if (take_below(&user->permits, user_limit(user)))
		return true;
	atomic_fetch_sub(&pool->permits, 1);
	return false;
}

void permit_return(struct pool_user *user, bool closing) {
	uint64_t back = 1 + (closing ? CLOSING_ONE : 0);
	/* the pool's last: who sees that permit sees the user's room too */
	atomic_fetch_sub(&user->permits, back);
	POOL_TEST_POINT();
	atomic_fetch_sub(&user->pool->permits, back);
}

void permit_mark_closing(struct pool_user *user) {
	atomic_fetch_add(&user->permits, CLOSING_ONE);
	atomic_fetch_add(&user->pool->permits, CLOSING_ONE);
}

bool permit_claim_excess(struct pool_user *user, uint32_t keep) {
	if (!claim_above(&user->pool->permits, keep))
		return false;
	atomic_fetch_add(&user->permits, CLOSING_ONE);
	return true;
}

bool permit_claim_user_excess(struct pool_user *user) {
	if (!claim_above(&user->permits, user_limit(user)))
		return false;
	atomic_fetch_add(&user->pool->permits, CLOSING_ONE);
	return true;
}

uint32_t user_room(struct pool_user *user, uint64_t now, uint64_t *retry_at) {
	uint32_t limit = user_limit(user), taken = permits_taken(&user->permits);
	if (taken >= limit)
		return 0;
	switch (backoff_gate(&user->backoff, &user->opening, now, retry_at)) {
	case GATE_OPEN:
		return limit - taken;
	case GATE_PROBE:
		return 1;
	case GATE_BUSY:
	case GATE_WAIT:
		break;
	}
	return 0;
}

enum gate backoff_gate(const struct backoff *backoff, const _Atomic uint32_t *opening, uint64_t now,
		       uint64_t *retry_at) {
	if (!backoff_failing(backoff))
		return GATE_OPEN;
	uint64_t retry = atomic_load(&backoff->retry_at_ns);
	if (now < retry) {
		if (retry < *retry_at)
			*retry_at = retry;
		return GATE_WAIT;
	}
	return atomic_load(opening) ? GATE_BUSY : GATE_PROBE;
}

bool count_below(_Atomic uint32_t *count, uint32_t limit) {
	uint32_t n = atomic_load(count);
	do {
		if (n >= limit)
			return false;
	} while (!atomic_compare_exchange_weak(count, &n, n + 1));
	return true;
}

void backoff_failed(struct backoff *backoff, uint64_t began, uint64_t now, uint64_t random, uint64_t min_ns,
		    uint64_t max_ns) {
	uint32_t failures = atomic_load(&backoff->failures);
	/* one of several that were under way together: they count as one, unless the gate was opened since */
	if (failures && began <= atomic_load(&backoff->failed_at_ns) && now < atomic_load(&backoff->retry_at_ns))
		return;
	uint64_t delay = min_ns;
	for (uint32_t i = 0; i < failures && delay < max_ns; i++)
		delay *= 2;
	if (delay > max_ns)
		delay = max_ns;
	delay -= random % (delay / 4 + 1);
	atomic_store(&backoff->failed_at_ns, now);
	atomic_store(&backoff->retry_at_ns, now + delay);
	/* when another shard counted one at the same time, or a login succeeded, that is as good */
	atomic_compare_exchange_strong(&backoff->failures, &failures, failures + 1);
}
