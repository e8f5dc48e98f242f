/*
 * A simulated pool with two users, as the tests of one program begin and end with it; the state is that program's. The
 * pool's own check in pool_sim.c and audit.c goes with each.
 */
#ifndef TESTS_POOL_CASE_H
#define TESTS_POOL_CASE_H

#include <check.h>

#include "pool_sim.h"

static struct sim *sim;
static int workers, last; /* the last worker: another one than 0, where there are others */
static struct pool_user *alice, *bob;

static inline void begin_with(int worker_count, const struct pool_limits *limits) {
	workers = worker_count;
	last = workers - 1;
	sim = sim_new(workers, limits);
	alice = sim_user(sim, "alice");
	bob = sim_user(sim, "bob");
}

static inline void sound(void) {
	sim_deliver_all(sim);
	const char *wrong = sim_check(sim);
	if (!wrong)
		wrong = sim_check_quiet(sim);
	ck_assert_msg(!wrong, "%s", wrong);
}

static inline void end(void) {
	sound();
	pool_user_unref(alice);
	pool_user_unref(bob);
	ck_assert_msg(sim_free(sim), "something was left over");
}

/* A client with a connection, which is opened for it where there is none. */
static inline struct sim_client *served(int worker, struct pool_user *user) {
	struct sim_client *client = sim_acquire(sim, worker, user, 0);
	if (client->outcome == SIM_WAITING)
		sim_login(sim_opening(sim), true);
	sim_deliver_all(sim);
	ck_assert_int_eq(client->outcome, SIM_SERVED);
	return client;
}

/* How many connections have gone from one worker to another. */
static inline uint64_t moved(void) {
	uint64_t n = 0;
	for (int i = 0; i < workers; i++)
		n += stat_read(&pool_shard_stats(pool_shard(sim->pool, i))->moved);
	return n;
}

#endif
