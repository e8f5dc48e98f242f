/*
 * Whether a connection is worth opening.
 *
 * A login takes a while. Where the connections that are there will have served the queue before it is done, opening one
 * is of no use: it comes too late, and costs the backend a process. With B connections, clients that hold one for H on
 * average, and logins that take L, B * L / H waiters are served meanwhile: what is left of the queue is worth opening
 * for. Where there is no connection yet, or nothing is known of logins, all of it is.
 *
 * That is a forecast, and right for a burst. When somebody has waited without a break for as long as a login takes, the
 * forecast was wrong, or clients come back as fast as they are served: then what was served in that time counts instead,
 * and at least as many are opened as there are connections, so that a pool under load doubles with each login's time
 * until nobody waits or the bound is reached.
 */
#include "pool/internal.h"

/* The forecast errs on the side of waiting: a queue is not worth a login that would be gone at twice the speed, and after
 * the first few holds nothing is known yet. If that is wrong it is set right within the time of a login. */
enum { FORECAST_MARGIN = 2, HOLDS_TO_KNOW = 4 };

/*
 * A running mean that follows within some eight values. One that is far above the others counts as four times the mean:
 * a stall says little of what comes next, and a forecast that is too low is set right within the time of a login.
 */
static uint64_t mean(uint64_t before, uint64_t value) {
	if (before && value > 4 * before)
		value = 4 * before;
	return before ? before - before / 8 + value / 8 : value;
}

void worth_held(struct slot *slot, uint64_t held_ns) {
	if (slot->holds < HOLDS_TO_KNOW)
		slot->holds++;
	slot->hold_mean_ns = mean(slot->hold_mean_ns, held_ns ? held_ns : 1);
	if (slot->holds == HOLDS_TO_KNOW)
		atomic_store_explicit(&slot->hold_ns, slot->hold_mean_ns, memory_order_relaxed);
}

void worth_login(struct pool *pool, uint64_t took_ns) {
	/* two at once: either is as good */
	atomic_store(&pool->login_ns, mean(atomic_load(&pool->login_ns), took_ns));
}

/* How long its clients hold a connection, as the workers have seen it that have seen some. 0: none has. */
static uint64_t hold_of(const struct pool_user *user) {
	uint64_t sum = 0, n = 0;
	for (int i = 0; i < user->pool->workers; i++) {
		uint64_t hold = atomic_load_explicit(&user->slots[i].hold_ns, memory_order_relaxed);
		sum += hold;
		n += hold != 0;
	}
	return n ? sum / n : 0;
}

/* Waiters of the user on all workers, and on how many workers they are. */
static uint32_t waiters_of(const struct pool_user *user, uint32_t *workers) {
	uint32_t waiting = 0;
	*workers = 0;
	for (uint64_t mask = atomic_load(&user->waiting_at); mask; mask &= mask - 1) {
		waiting += atomic_load(&user->slots[__builtin_ctzll(mask)].waiting);
		++*workers;
	}
	return waiting;
}

static uint32_t least(uint64_t a, uint64_t b) {
	return (uint32_t)(a < b ? a : b);
}

static uint64_t less(uint64_t a, uint64_t b) {
	return a > b ? a - b : 0;
}

uint32_t worth_opening(const struct slot *slot, uint32_t short_n, uint64_t now, uint64_t *again_at) {
	const struct pool_user *user = slot->user;
	uint64_t login = atomic_load(&user->pool->login_ns), open = atomic_load(&user->open);
	/* each connection is opened for somebody: those that are on their way are counted in short_n already */
	if (!login || !open || !short_n)
		return short_n;
	uint64_t age = now - slot->queue_since_ns, worth;
	uint32_t workers, waiting = waiters_of(user, &workers);
	if (age < login) {
		uint64_t hold = hold_of(user), served = hold ? FORECAST_MARGIN * open * login / hold : waiting;
		worth = less(less(waiting, served), atomic_load(&user->opening));
		if (worth < short_n && slot->queue_since_ns + login < *again_at)
			*again_at = slot->queue_since_ns + login;
	} else {
		uint64_t served = (uint64_t)slot->queue_served * login / age;
		uint64_t share = workers > 1 ? open / workers : open;
		worth = less(slot->waiting_n, served);
		if (worth < share || !worth)
			worth = share ? share : 1;
		worth = less(worth, slot->opening_n);
		if (worth < short_n && now + login < *again_at)
			*again_at = now + login;
	}
	return least(worth, short_n);
}
