/*
 * Random steps against the simulated house, with every rule checked after each. FOREBAY_TEST_STEPS sets how many
 * (for each number of workers), FOREBAY_TEST_SEED which.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool_sim.h"

enum { USERS = 4, MAX_SKEW_NS = 300000 };

static const int worker_counts[] = {1, 2, 8};

/* test_pool_interleaved.c: how often, of the points where another worker may come in between, one does. */
#ifndef BETWEEN_ONE_IN
#define BETWEEN_ONE_IN 0
#endif

struct walk {
	struct sim *sim;
	struct pool_user *users[USERS];
	struct sim_conn *taken[4]; /* under validation */
	unsigned clients, max_clients;
	uint32_t size_before, max_size;
	bool fair; /* no refusals: the order of service must hold */
	bool paused;
};

static uint64_t number_of(const char *name, uint64_t otherwise) {
	const char *text = getenv(name);
	return text ? strtoull(text, NULL, 0) : otherwise;
}

static uint64_t below(struct walk *walk, uint64_t n) {
	return sim_random(walk->sim) % n;
}

static struct sim_client *pick_client(struct walk *walk, enum sim_outcome outcome) {
	struct sim_client *found = NULL;
	uint64_t n = 0;
	list_for_each(node, &walk->sim->clients) {
		struct sim_client *client = list_entry(node, struct sim_client, all);
		if (client->outcome == outcome && !sim_at_work(walk->sim, client->worker) && below(walk, ++n) == 0)
			found = client;
	}
	return found;
}

static bool is_taken(const struct walk *walk, const struct sim_conn *conn) {
	for (int i = 0; i < 4; i++)
		if (walk->taken[i] == conn)
			return true;
	return false;
}

static struct sim_conn *pick_conn(struct walk *walk, enum pool_conn_state state) {
	struct sim_conn *found = NULL;
	uint64_t n = 0;
	list_for_each(node, &walk->sim->conns) {
		struct sim_conn *conn = list_entry(node, struct sim_conn, all);
		if (conn->conn.state != state || !conn->conn.shard || is_taken(walk, conn))
			continue;
		if (!sim_at_work(walk->sim, pool_shard_index(conn->conn.shard)) && below(walk, ++n) == 0)
			found = conn;
	}
	return found;
}

static void step_acquire(struct walk *walk) {
	struct sim *sim = walk->sim;
	int worker = (int)below(walk, (uint64_t)sim->workers);
	if (walk->clients >= walk->max_clients || sim_at_work(sim, worker))
		return;
	walk->clients++;
	/* users of unequal weight */
	uint64_t user = below(walk, 8);
	uint64_t deadline = below(walk, 4) ? 0 : NS_PER_MS + below(walk, 200 * NS_PER_MS);
	sim_acquire(sim, worker, walk->users[user < USERS ? user : 0], deadline);
}

static void step_release(struct walk *walk) {
	struct sim_client *client = pick_client(walk, SIM_SERVED);
	if (!client)
		return;
	walk->clients--;
	if (client->conn)
		sim_release(client);
	else
		sim_forget(client);
}

static void step_leave(struct walk *walk, enum sim_outcome outcome) {
	struct sim_client *client = pick_client(walk, outcome);
	if (!client)
		return;
	walk->clients--;
	sim_forget(client);
}

static void step_login(struct walk *walk) {
	struct sim_conn *conn = pick_conn(walk, POOL_CONN_OPENING);
	if (conn)
		sim_login(conn, !walk->sim->logins_fail || below(walk, 8) == 0);
}

static void step_die(struct walk *walk) {
	static const enum pool_conn_state states[] = {POOL_CONN_IDLE, POOL_CONN_BUSY, POOL_CONN_OPENING,
						      POOL_CONN_CLOSING};
	struct sim_conn *conn = pick_conn(walk, states[below(walk, 4)]);
	if (conn)
		sim_die(conn);
}

static void step_validate(struct walk *walk) {
	struct sim_conn **place = &walk->taken[below(walk, 4)];
	struct sim_conn *conn = *place;
	if (conn) {
		if (sim_at_work(walk->sim, pool_shard_index(conn->conn.shard)))
			return;
		*place = NULL;
		if (below(walk, 5))
			sim_give_back(conn);
		else
			sim_die(conn);
		return;
	}
	conn = pick_conn(walk, POOL_CONN_IDLE);
	if (!conn)
		return;
	*place = conn;
	sim_take(conn);
}

static void step_hopeless(struct walk *walk) {
	struct sim_conn *conn = pick_conn(walk, POOL_CONN_OPENING);
	if (conn)
		sim_hopeless(conn);
}

static void step_limits(struct walk *walk) {
	struct pool_limits limits = {.max_size = 1 + (uint32_t)below(walk, 12),
				     .min_idle = (uint32_t)below(walk, 4),
				     .max_waiting = below(walk, 3) ? 0 : (uint32_t)below(walk, 60),
				     .max_size_per_user = below(walk, 3) ? 0 : 1 + (uint32_t)below(walk, 5),
				     .fail_unavailable = below(walk, 4) == 0,
				     .idle_timeout = below(walk, 2) ? 0 : NS_PER_S + below(walk, 10 * NS_PER_S),
				     .max_lifetime = below(walk, 2) ? 0 : NS_PER_S + below(walk, 60 * NS_PER_S)};
	sim_set_limits(walk->sim, &limits);
	walk->max_size = limits.max_size;
}

static void tick_idle_workers(struct walk *walk) {
	for (int i = 0; i < walk->sim->workers; i++)
		if (!sim_at_work(walk->sim, i))
			sim_tick(walk->sim, i);
}

static void step_hosts(struct walk *walk) {
	static const char *const names[] = {"a:1", "b:1", "c:1", "d:1"};
	struct sim *sim = walk->sim;
	uint64_t kind = below(walk, 6);
	if (kind == 0) {
		size_t first = below(walk, 3), count = 1 + below(walk, 4 - first);
		pool_set_hosts(sim->pool, names + first, count, (enum pool_host_order)below(walk, 3),
			       (enum pool_target)below(walk, 4));
	} else if (kind == 1) {
		walk->paused = !walk->paused;
		pool_set_paused(sim->pool, walk->paused);
	} else {
		pool_host_report(sim->pool, pool_host_find(sim->pool, names[below(walk, 4)]), below(walk, 4) != 0,
				 (enum pool_role)below(walk, 3));
	}
	tick_idle_workers(walk);
}

static void step_retire(struct walk *walk) {
	static const enum pool_conn_state states[] = {POOL_CONN_IDLE, POOL_CONN_BUSY, POOL_CONN_OPENING};
	struct sim_conn *conn = pick_conn(walk, states[below(walk, 3)]);
	if (conn && below(walk, 2))
		sim_retire(conn);
	else if (conn)
		sim_linger(conn);
}

static void step_knobs(struct walk *walk) {
	struct sim *sim = walk->sim;
	sim->close_later = below(walk, 2);
	sim->logins_fail = below(walk, 4) == 0;
	sim->cannot_begin = below(walk, 8) == 0;
	if (!walk->fair)
		sim->refuse_one_in = (unsigned)below(walk, 5);
}

static void step_time(struct walk *walk) {
	struct sim *sim = walk->sim;
	uint64_t kind = below(walk, 100);
	sim->now_ns += below(walk, kind ? 2 * NS_PER_MS : 5 * NS_PER_S);
	sim_tick_due(sim);
}

/* All mail delivered and all ticks done that are due. */
static void settle(struct sim *sim) {
	do {
		sim_deliver_all(sim);
		sim_tick_due(sim);
	} while (sim->letters && !sim->wrong);
}

/* What concerns one worker, and may happen while another is in the midst of something. */
static bool small_step(struct walk *walk, uint64_t kind) {
	struct sim *sim = walk->sim;
	if (kind < 230)
		step_acquire(walk);
	else if (kind < 440)
		step_release(walk);
	else if (kind < 470)
		step_leave(walk, SIM_WAITING);
	else if (kind < 520)
		step_leave(walk, SIM_FAILED);
	else if (kind < 620)
		step_login(walk);
	else if (kind < 635)
		step_die(walk);
	else if (kind < 660)
		step_validate(walk);
	else if (kind < 665)
		step_hopeless(walk);
	else if (kind < 690) {
		struct sim_conn *conn = pick_conn(walk, POOL_CONN_CLOSING);
		if (conn && conn->closing)
			sim_close_done(conn);
	} else if (kind < 700)
		step_retire(walk);
	else if (kind < 850)
		sim_deliver(sim, (int)below(walk, (uint64_t)sim->workers), (int)below(walk, (uint64_t)sim->workers));
	else
		return false;
	return true;
}

static void step(struct walk *walk) {
	uint64_t kind = below(walk, 1000);
	if (small_step(walk, kind))
		return;
	if (kind < 855)
		step_limits(walk);
	else if (kind < 860)
		step_knobs(walk);
	else if (kind < 862)
		sim_retire_all(walk->sim);
	else if (kind < 868)
		step_hosts(walk);
	else if (kind < 960)
		step_time(walk);
	else
		settle(walk->sim);
}

static void step_between(void *context) {
	struct walk *walk = context;
	if (below(walk, BETWEEN_ONE_IN + 1) == 0)
		small_step(walk, below(walk, 850));
}

static const char *check(struct walk *walk) {
	struct sim *sim = walk->sim;
	uint32_t size = pool_size(sim->pool);
	if (size > walk->max_size && size > walk->size_before)
		return "the bound is broken";
	walk->size_before = size;
	const char *wrong = sim_check(sim);
	if (wrong)
		return wrong;
	/* in between, a connection may be on its way that is not in the mail yet */
	if (walk->fair && !BETWEEN_ONE_IN && sim->unfairness_ns > POOL_UNFAIRNESS_NS + MAX_SKEW_NS)
		return "the order of service is broken";
	bool due = false;
	for (int i = 0; i < sim->workers; i++)
		due |= sim->wake_ns[i] <= sim->now_ns;
	return sim->letters || due ? NULL : sim_check_quiet(sim);
}

static void walk_begin(struct walk *walk, int workers, uint64_t seed) {
	struct pool_limits limits = {.max_size = 6};
	struct sim *sim = walk->sim = sim_new(workers, &limits);
	walk->max_size = limits.max_size;
	/* a crowd, some, and so few that often nobody waits */
	walk->max_clients = seed % 4 == 0 ? 120 : seed % 4 == 1 ? 12 : seed % 4 == 2 ? 5 : 3;
	if (BETWEEN_ONE_IN) {
		sim->between = step_between;
		sim->between_context = walk;
	}
	sim->random_state ^= (seed + 1) * 0xd1342543de82ef95ull;
	for (int i = 0; i < workers; i++)
		sim->skew_ns[i] = sim_random(sim) % MAX_SKEW_NS;
	char name[] = "user0";
	for (int i = 0; i < USERS; i++, name[4]++)
		walk->users[i] = sim_user(sim, name);
	pool_user_set_fixed(walk->users[0], seed % 2);
}

static struct sim_conn *pick_closing(struct sim *sim) {
	list_for_each(node, &sim->conns) {
		struct sim_conn *conn = list_entry(node, struct sim_conn, all);
		if (conn->closing)
			return conn;
	}
	return NULL;
}

/* With nothing in the way any more everybody is served, or there is somebody nothing came for. */
static void walk_end(struct walk *walk) {
	struct sim *sim = walk->sim;
	sim->between = NULL;
	sim->close_later = sim->logins_fail = sim->cannot_begin = false;
	sim->refuse_one_in = 0;
	sim->login_ns = NS_PER_MS;
	pool_set_paused(sim->pool, false);
	static const char *const one[] = {"a:1"};
	pool_set_hosts(sim->pool, one, 1, POOL_FAILOVER, POOL_ANY);
	tick_idle_workers(walk);
	struct sim_conn *closing;
	while ((closing = pick_closing(sim))) /* in consequence, others may be closed and gone */
		sim_close_done(closing);
	for (int i = 0; i < 4; i++)
		if (walk->taken[i])
			sim_give_back(walk->taken[i]);
	memset(walk->taken, 0, sizeof walk->taken);
	list_for_each(node, &sim->conns)
		list_entry(node, struct sim_conn, all)->ready_ns = sim->now_ns;
	for (int rounds = 0; rounds < 2000 && sim_waiting(sim); rounds++) {
		struct sim_client *client = pick_client(walk, SIM_SERVED);
		if (client && client->conn)
			sim_release(client);
		else if (client)
			sim_forget(client);
		sim_pass(sim, 20 * NS_PER_MS);
	}
	ck_assert_uint_eq(sim_waiting(sim), 0);
	const char *wrong = sim_check(sim);
	ck_assert_msg(!wrong, "%s", wrong);
	for (int i = 0; i < USERS; i++)
		pool_user_unref(walk->users[i]);
	ck_assert_msg(sim_free(sim), "something was left over");
}

static void take_walk(int workers, bool fair) {
	uint64_t steps = number_of("FOREBAY_TEST_STEPS", 200000), first = number_of("FOREBAY_TEST_SEED", 1);
	const uint64_t steps_of_one = 5000;
	for (uint64_t seed = first, done = 0; done < steps; seed++, done += steps_of_one) {
		struct walk walk = {.fair = fair};
		walk_begin(&walk, workers, seed);
		for (uint64_t i = 0; i < steps_of_one && done + i < steps; i++) {
			step(&walk);
			/* where little happens, nothing else comes to the rescue of what was forgotten */
			if (walk.max_clients < 10 && below(&walk, 2))
				settle(walk.sim);
			const char *wrong = check(&walk);
			ck_assert_msg(!wrong, "%s (workers %d, seed %llu, step %llu)", wrong, workers,
				      (unsigned long long)seed, (unsigned long long)i);
		}
		walk_end(&walk);
	}
}

START_TEST(rules_hold_after_every_random_step) {
	take_walk(worker_counts[_i], true);
}
END_TEST

START_TEST(rules_hold_where_connections_refuse_to_move) {
	take_walk(worker_counts[_i], false);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("pool_random");
	TCase *tc = tcase_create("random");
	suite_add_tcase(suite, tc);
	tcase_set_timeout(tc, 0);
	tcase_add_loop_test(tc, rules_hold_after_every_random_step, 0, 3);
	tcase_add_loop_test(tc, rules_hold_where_connections_refuse_to_move, 0, 3);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
