/* Several hosts in a pool, what is reported of them, and PAUSE. With 1, 2 and 8 workers. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/internal.h"
#include "pool_sim.h"

static const int worker_counts[] = {1, 2, 8};
static struct sim *sim;
static int workers, last;
static struct pool_user *alice;
static const char *const names[] = {"a:1", "b:1", "c:1"};

static void tick_all(void) {
	for (int i = 0; i < workers; i++)
		pool_shard_tick(pool_shard(sim->pool, i));
	sim_deliver_all(sim);
}

static void hosts(size_t count, enum pool_host_order order, enum pool_target target) {
	ck_assert(pool_set_hosts(sim->pool, names, count, order, target));
	tick_all();
}

static void report(const char *name, bool up, enum pool_role role) {
	pool_host_report(sim->pool, pool_host_find(sim->pool, name), up, role);
	tick_all();
}

static void begin(int round, struct pool_limits limits, size_t count, enum pool_host_order order,
		  enum pool_target target) {
	workers = worker_counts[round];
	last = workers - 1;
	sim = sim_new(workers, &limits);
	sim->login_ns = NS_PER_MS;
	alice = sim_user(sim, "alice");
	hosts(count, order, target);
}

static void end(void) {
	sim_deliver_all(sim);
	const char *wrong = sim_check(sim);
	ck_assert_msg(!wrong, "%s", wrong);
	pool_user_unref(alice);
	ck_assert_msg(sim_free(sim), "something was left over");
}

/* Open connections at a host, in whatever state. */
static unsigned at(const char *name) {
	unsigned n = 0;
	int host = pool_host_find(sim->pool, name);
	list_for_each(node, &sim->conns) {
		const struct sim_conn *conn = list_entry(node, struct sim_conn, all);
		n += conn->conn.host == host && !conn->closing;
	}
	return n;
}

static struct sim_client *client[32];

/* `n` clients hold a connection. */
static void hold(int n) {
	for (int i = 0; i < n; i++)
		client[i] = sim_acquire(sim, i % workers, alice, 0);
	sim_pass(sim, 50 * NS_PER_MS);
	for (int i = 0; i < n; i++)
		ck_assert_int_eq(client[i]->outcome, SIM_SERVED);
}

static void let_go(int n) {
	for (int i = 0; i < n; i++)
		sim_release(client[i]);
	sim_deliver_all(sim);
}

START_TEST(failover_opens_at_the_first_host_that_works) {
	begin(_i, (struct pool_limits){.max_size = 10}, 3, POOL_FAILOVER, POOL_ANY);
	hold(4);
	ck_assert_uint_eq(at("a:1"), 4);
	let_go(4);
	report("a:1", false, POOL_ROLE_UNKNOWN);
	ck_assert_uint_eq(at("a:1"), 0);
	ck_assert_str_eq(sim->last_reason, "host_down");
	hold(4);
	ck_assert_uint_eq(at("b:1"), 4);
	end();
}
END_TEST

START_TEST(busy_connections_of_a_host_that_is_down_end_when_they_are_released) {
	begin(_i, (struct pool_limits){.max_size = 10}, 2, POOL_FAILOVER, POOL_ANY);
	hold(4);
	report("a:1", false, POOL_ROLE_UNKNOWN);
	ck_assert_uint_eq(at("a:1"), 4);
	let_go(3);
	ck_assert_uint_eq(at("a:1"), 1);
	report("a:1", true, POOL_ROLE_UNKNOWN); /* back before the last has ended: that one lives on */
	sim_release(client[3]);
	ck_assert_uint_eq(at("a:1"), 1);
	end();
}
END_TEST

START_TEST(failed_opens_turn_to_the_next_host) {
	begin(_i, (struct pool_limits){.max_size = 4}, 2, POOL_FAILOVER, POOL_ANY);
	sim->login_ns = 0;
	struct sim_client *waiting = sim_acquire(sim, last, alice, 0);
	ck_assert_uint_eq(at("a:1"), 1);
	sim_login(sim_opening(sim), false);
	sim_deliver_all(sim);
	ck_assert_uint_eq(at("b:1"), 1);
	sim_login(sim_opening(sim), true);
	ck_assert_int_eq(waiting->outcome, SIM_SERVED);
	end();
}
END_TEST

START_TEST(round_robin_spreads_opens) {
	begin(_i, (struct pool_limits){.max_size = 12}, 3, POOL_ROUND_ROBIN, POOL_ANY);
	hold(12);
	for (int i = 0; i < 3; i++)
		ck_assert_uint_eq(at(names[i]), 4);
	end();
}
END_TEST

START_TEST(least_busy_opens_where_the_fewest_are_in_use) {
	begin(_i, (struct pool_limits){.max_size = 12}, 2, POOL_LEAST_BUSY, POOL_ANY);
	hold(8);
	ck_assert_uint_eq(at("a:1"), 4);
	ck_assert_uint_eq(at("b:1"), 4);
	for (int i = 0; i < 8; i++)
		if (client[i]->conn->conn.host == pool_host_find(sim->pool, "b:1"))
			sim_die(client[i]->conn);
	struct sim_client *more[4];
	for (int i = 0; i < 4; i++)
		more[i] = sim_acquire(sim, i % workers, alice, 0);
	sim_pass(sim, 50 * NS_PER_MS);
	ck_assert_uint_eq(at("b:1"), 4);
	(void)more;
	end();
}
END_TEST

START_TEST(target_primary_follows_the_role) {
	begin(_i, (struct pool_limits){.max_size = 6}, 2, POOL_FAILOVER, POOL_PRIMARY);
	report("a:1", true, POOL_ROLE_STANDBY);
	report("b:1", true, POOL_ROLE_PRIMARY);
	hold(4);
	ck_assert_uint_eq(at("b:1"), 4);
	let_go(3);
	/* they change places: idle ones end at once, the busy one at its release */
	report("b:1", true, POOL_ROLE_STANDBY);
	ck_assert_uint_eq(at("b:1"), 1);
	report("a:1", true, POOL_ROLE_PRIMARY);
	sim_release(client[3]);
	ck_assert_uint_eq(at("b:1"), 0);
	ck_assert_str_eq(sim->last_reason, "host_role");
	hold(2);
	ck_assert_uint_eq(at("a:1"), 2);
	end();
}
END_TEST

START_TEST(without_a_fit_host_waiters_wait_and_are_served_when_there_is_one) {
	begin(_i, (struct pool_limits){.max_size = 6}, 2, POOL_FAILOVER, POOL_PRIMARY);
	report("a:1", true, POOL_ROLE_STANDBY);
	report("b:1", true, POOL_ROLE_STANDBY);
	struct sim_client *waiting = sim_acquire(sim, last, alice, 0);
	sim_pass(sim, 10 * NS_PER_S);
	ck_assert_int_eq(waiting->outcome, SIM_WAITING);
	ck_assert_uint_eq(sim->opens, 0);
	ck_assert_int_eq(pool_trouble(sim->pool, sim->now_ns), POOL_NO_HOST);
	report("b:1", true, POOL_ROLE_PRIMARY);
	sim_pass(sim, 2 * NS_PER_MS);
	ck_assert_int_eq(waiting->outcome, SIM_SERVED);
	ck_assert_int_eq(pool_trouble(sim->pool, sim->now_ns), POOL_WELL);
	end();
}
END_TEST

START_TEST(prefer_standby_falls_back_to_the_primary_and_returns) {
	begin(_i, (struct pool_limits){.max_size = 6}, 2, POOL_FAILOVER, POOL_PREFER_STANDBY);
	report("a:1", true, POOL_ROLE_PRIMARY);
	report("b:1", true, POOL_ROLE_STANDBY);
	hold(3);
	ck_assert_uint_eq(at("b:1"), 3);
	let_go(3);
	report("b:1", false, POOL_ROLE_STANDBY);
	hold(3);
	ck_assert_uint_eq(at("a:1"), 3);
	let_go(3);
	report("b:1", true, POOL_ROLE_STANDBY);
	ck_assert_uint_eq(at("a:1"), 2); /* one at a time */
	sim_pass(sim, POOL_MOVE_INTERVAL_NS / 2);
	ck_assert_uint_eq(at("a:1"), 2);
	sim_pass(sim, 4 * POOL_MOVE_INTERVAL_NS);
	ck_assert_uint_eq(at("a:1"), 0);
	hold(3);
	ck_assert_uint_eq(at("b:1"), 3);
	end();
}
END_TEST

START_TEST(host_that_is_back_gets_its_share_gradually) {
	begin(_i, (struct pool_limits){.max_size = 8}, 2, POOL_ROUND_ROBIN, POOL_ANY);
	hold(8);
	let_go(8);
	report("a:1", false, POOL_ROLE_UNKNOWN);
	sim_pass(sim, NS_PER_MS);
	hold(8);
	ck_assert_uint_eq(at("b:1"), 8);
	let_go(8);
	uint64_t closes = sim->closes;
	report("a:1", true, POOL_ROLE_UNKNOWN);
	for (int s = 0; s < 12; s++) {
		sim_pass(sim, POOL_MOVE_INTERVAL_NS);
		hold(8);
		let_go(8);
	}
	ck_assert_uint_eq(at("a:1"), 4);
	ck_assert_uint_eq(at("b:1"), 4);
	ck_assert_uint_eq(sim->closes - closes, 4);
	end();
}
END_TEST

START_TEST(after_an_outage_opens_ramp_up) {
	begin(_i, (struct pool_limits){.max_size = 16}, 1, POOL_FAILOVER, POOL_ANY);
	sim->logins_fail = true;
	for (int i = 0; i < 16; i++)
		client[i] = sim_acquire(sim, i % workers, alice, 0);
	sim_pass(sim, NS_PER_S);
	sim->logins_fail = false;
	unsigned most = 0, before = 0;
	for (int ms = 0; ms < 3000 && sim_waiting(sim); ms++) {
		sim_pass(sim, NS_PER_MS);
		unsigned open = at("a:1") - sim_count(sim, POOL_CONN_OPENING);
		if (open > before && before)
			ck_assert_uint_le(open, 2 * before);
		before = open;
		most = open > most ? open : most;
	}
	ck_assert_uint_eq(most, 16);
	end();
}
END_TEST

START_TEST(host_that_a_monitor_takes_for_down_is_tried_where_there_is_no_other) {
	begin(_i, (struct pool_limits){.max_size = 4}, 2, POOL_FAILOVER, POOL_ANY);
	report("a:1", false, POOL_ROLE_UNKNOWN);
	report("b:1", false, POOL_ROLE_UNKNOWN);
	struct sim_client *waiting = sim_acquire(sim, last, alice, 0);
	sim_pass(sim, NS_PER_S);
	ck_assert_int_eq(waiting->outcome, SIM_SERVED); /* the monitor was wrong */
	sim_release(waiting);
	sim_pass(sim, NS_PER_S);
	ck_assert_uint_eq(sim->closes, 0);
	end();
}
END_TEST

START_TEST(host_that_said_it_is_no_primary_is_asked_again_when_there_is_no_other) {
	begin(_i, (struct pool_limits){.max_size = 4}, 2, POOL_FAILOVER, POOL_PRIMARY);
	sim->logins_fail = true;
	struct sim_client *waiting = sim_acquire(sim, last, alice, 0);
	sim_pass(sim, 100 * NS_PER_MS);
	pool_host_role(sim->pool, pool_host_find(sim->pool, "b:1"), POOL_ROLE_STANDBY);
	tick_all();
	sim_pass(sim, NS_PER_S);
	/* it is promoted, and nobody tells */
	uint64_t tries = sim->tries;
	sim->logins_fail = false;
	sim_pass(sim, 20 * NS_PER_S);
	ck_assert_uint_gt(sim->tries, tries);
	ck_assert_int_eq(waiting->outcome, SIM_SERVED);
	/* a monitor's word counts for more */
	report("b:1", true, POOL_ROLE_PRIMARY);
	ck_assert(!pool_host_role(sim->pool, pool_host_find(sim->pool, "b:1"), POOL_ROLE_STANDBY));
	end();
}
END_TEST

START_TEST(host_that_was_away_is_not_judged_by_what_was_known_before) {
	begin(_i, (struct pool_limits){.max_size = 4}, 2, POOL_FAILOVER, POOL_ANY);
	report("a:1", false, POOL_ROLE_STANDBY);
	static const char *const other[] = {"b:1"};
	ck_assert(pool_set_hosts(sim->pool, other, 1, POOL_FAILOVER, POOL_ANY));
	tick_all();
	hosts(2, POOL_FAILOVER, POOL_PRIMARY);
	hold(2);
	ck_assert_uint_eq(at("a:1"), 2);
	end();
}
END_TEST

START_TEST(host_that_failed_by_the_pool_s_own_opens_gets_its_connections_back) {
	begin(_i, (struct pool_limits){.max_size = 4}, 2, POOL_FAILOVER, POOL_ANY);
	sim->login_ns = 0;
	struct sim_client *first = sim_acquire(sim, 0, alice, 0);
	sim_login(sim_opening(sim), false); /* at a */
	sim_deliver_all(sim);
	sim_login(sim_opening(sim), true); /* at b */
	sim_deliver_all(sim);
	ck_assert_int_eq(first->outcome, SIM_SERVED);
	sim_release(first);
	sim->login_ns = NS_PER_MS;
	ck_assert_uint_eq(at("b:1"), 1);
	sim_pass(sim, 60 * NS_PER_S); /* the failure is no news any more */
	hold(1);
	ck_assert_uint_eq(at("a:1"), 1);
	ck_assert_int_eq(pool_trouble(sim->pool, sim->now_ns), POOL_WELL);
	end();
}
END_TEST

START_TEST(least_busy_moves_nothing_to_and_fro) {
	begin(_i, (struct pool_limits){.max_size = 12, .min_idle = 5}, 2, POOL_LEAST_BUSY, POOL_ANY);
	pool_user_set_fixed(alice, true);
	struct pool_limits limits = pool_limits(sim->pool);
	sim_set_limits(sim, &limits);
	sim_pass(sim, NS_PER_S);
	hold(2);
	sim_pass(sim, 2 * NS_PER_S);
	uint64_t opens = sim->opens;
	sim_pass(sim, 60 * NS_PER_S);
	ck_assert_uint_eq(sim->opens, opens);
	end();
}
END_TEST

START_TEST(removed_host_loses_its_connections_and_its_place) {
	begin(_i, (struct pool_limits){.max_size = 8}, 1, POOL_FAILOVER, POOL_ANY);
	hold(4);
	let_go(3);
	static const char *const other[] = {"z:9"};
	ck_assert(pool_set_hosts(sim->pool, other, 1, POOL_FAILOVER, POOL_ANY));
	tick_all();
	ck_assert_int_eq(pool_host_find(sim->pool, "a:1"), -1);
	ck_assert_uint_eq(pool_size(sim->pool), 1);
	sim_release(client[3]);
	ck_assert_uint_eq(pool_size(sim->pool), 0);
	ck_assert_str_eq(sim->last_reason, "host_removed");
	/* any number of hosts may come and go */
	for (int i = 0; i < 100; i++) {
		char name[16];
		snprintf(name, sizeof name, "h%d:1", i);
		const char *const one[] = {name};
		ck_assert(pool_set_hosts(sim->pool, one, 1, POOL_FAILOVER, POOL_ANY));
	}
	tick_all();
	hold(2);
	end();
}
END_TEST

START_TEST(hosts_that_still_have_connections_keep_their_places) {
	begin(_i, (struct pool_limits){.max_size = 30}, 1, POOL_FAILOVER, POOL_ANY);
	for (int i = 0; i < POOL_MAX_HOSTS; i++) {
		char name[16];
		snprintf(name, sizeof name, "h%d:1", i);
		const char *const one[] = {name};
		bool ok = pool_set_hosts(sim->pool, one, 1, POOL_FAILOVER, POOL_ANY);
		ck_assert(ok);
		tick_all();
		client[i] = sim_acquire(sim, 0, alice, 0);
		sim_pass(sim, 50 * NS_PER_MS);
		ck_assert_int_eq(client[i]->outcome, SIM_SERVED);
	}
	static const char *const more[] = {"more:1"};
	ck_assert(!pool_set_hosts(sim->pool, more, 1, POOL_FAILOVER, POOL_ANY));
	sim_release(client[3]);
	ck_assert(pool_set_hosts(sim->pool, more, 1, POOL_FAILOVER, POOL_ANY));
	tick_all();
	end();
}
END_TEST

START_TEST(unavailable_pool_fails_waiters_at_once_where_asked_to) {
	begin(_i, (struct pool_limits){.max_size = 4, .fail_unavailable = true}, 1, POOL_FAILOVER, POOL_ANY);
	sim->login_ns = 0;
	struct sim_client *first = sim_acquire(sim, last, alice, 0), *second = sim_acquire(sim, 0, alice, 0);
	sim_deliver_all(sim);
	struct sim_conn *conn;
	while ((conn = sim_opening(sim)))
		sim_login(conn, false);
	sim_deliver_all(sim);
	ck_assert_int_eq(first->outcome, SIM_FAILED);
	ck_assert_int_eq(first->why, POOL_FAIL_UNAVAILABLE);
	ck_assert_int_eq(second->outcome, SIM_FAILED);
	/* and those who come while it is left in peace */
	struct sim_client *third = sim_acquire(sim, last, alice, 0);
	ck_assert_int_eq(third->outcome, SIM_FAILED);
	ck_assert_int_eq(third->why, POOL_FAIL_UNAVAILABLE);
	/* when it may be tried again, somebody tries */
	sim_pass(sim, 20 * NS_PER_MS);
	struct sim_client *fourth = sim_acquire(sim, last, alice, 0);
	ck_assert_int_eq(fourth->outcome, SIM_WAITING);
	sim_deliver_all(sim);
	sim_login(sim_opening(sim), true);
	ck_assert_int_eq(fourth->outcome, SIM_SERVED);
	end();
}
END_TEST

START_TEST(unavailable_host_is_unseen_while_a_connection_works) {
	begin(_i, (struct pool_limits){.max_size = 4, .fail_unavailable = true}, 1, POOL_FAILOVER, POOL_ANY);
	hold(1);
	sim->logins_fail = true;
	struct sim_client *waiting = sim_acquire(sim, last, alice, 0);
	sim_pass(sim, NS_PER_S);
	ck_assert_int_eq(waiting->outcome, SIM_WAITING);
	let_go(1);
	ck_assert_int_eq(waiting->outcome, SIM_SERVED);
	end();
}
END_TEST

START_TEST(starting_host_is_asked_again_soon) {
	begin(_i, (struct pool_limits){.max_size = 4}, 1, POOL_FAILOVER, POOL_ANY);
	sim->login_ns = 0;
	struct sim_client *waiting = sim_acquire(sim, last, alice, 0);
	unsigned tries = 0;
	for (int ms = 0; ms < 3000; ms++) {
		struct sim_conn *conn = sim_opening(sim);
		if (conn) {
			tries++;
			sim_not_ready(conn);
		}
		sim_pass(sim, NS_PER_MS);
	}
	ck_assert_uint_ge(tries, 3000 / 260);
	ck_assert_uint_le(tries, 3000 / 180 + 5);
	ck_assert_int_eq(waiting->outcome, SIM_WAITING);
	end();
}
END_TEST

START_TEST(paused_pool_serves_nobody_closes_all_and_goes_on_when_resumed) {
	begin(_i, (struct pool_limits){.max_size = 4, .min_idle = 2}, 1, POOL_FAILOVER, POOL_ANY);
	pool_user_set_fixed(alice, true);
	tick_all();
	hold(3);
	sim_release(client[2]);
	pool_set_paused(sim->pool, true);
	tick_all();
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_IDLE), 0);
	struct sim_client *waiting = sim_acquire(sim, last, alice, 0);
	struct sim_client *short_one = sim_acquire(sim, 0, alice, NS_PER_S);
	ck_assert_int_eq(pool_trouble(sim->pool, sim->now_ns), POOL_PAUSED);
	let_go(2);
	sim_pass(sim, 2 * NS_PER_S);
	ck_assert_uint_eq(pool_size(sim->pool), 0);
	ck_assert_int_eq(waiting->outcome, SIM_WAITING);
	ck_assert_int_eq(short_one->why, POOL_FAIL_TIMEOUT);
	pool_set_paused(sim->pool, false);
	tick_all();
	sim_pass(sim, NS_PER_S);
	ck_assert_int_eq(waiting->outcome, SIM_SERVED);
	ck_assert_uint_ge(sim_count(sim, POOL_CONN_IDLE), 2);
	end();
}
END_TEST

START_TEST(connections_marked_to_be_closed_are_counted_until_they_are) {
	begin(_i, (struct pool_limits){.max_size = 6}, 1, POOL_FAILOVER, POOL_ANY);
	hold(4);
	let_go(1);
	for (int i = 0; i < workers; i++)
		pool_shard_retire(pool_shard(sim->pool, i));
	ck_assert_uint_eq(pool_retiring(sim->pool), 3);
	sim_release(client[1]);
	sim_die(client[2]->conn);
	ck_assert_uint_eq(pool_retiring(sim->pool), 1);
	pool_conn_retire(&client[3]->conn->conn, "again");
	ck_assert_uint_eq(pool_retiring(sim->pool), 1);
	sim_release(client[3]);
	ck_assert_uint_eq(pool_retiring(sim->pool), 0);
	end();
}
END_TEST

START_TEST(connection_that_lingers_keeps_its_permit) {
	begin(_i, (struct pool_limits){.max_size = 1}, 1, POOL_FAILOVER, POOL_ANY);
	hold(1);
	struct sim_client *waiting = sim_acquire(sim, last, alice, 0);
	struct sim_conn *conn = client[0]->conn;
	sim_linger(conn);
	sim_pass(sim, NS_PER_S);
	ck_assert_uint_eq(pool_size(sim->pool), 1);
	ck_assert_int_eq(waiting->outcome, SIM_WAITING);
	sim_close_done(conn);
	sim_pass(sim, 50 * NS_PER_MS);
	ck_assert_int_eq(waiting->outcome, SIM_SERVED);
	end();
}
END_TEST

START_TEST(pool_is_ready_when_min_idle_is_there) {
	begin(_i, (struct pool_limits){.max_size = 6, .min_idle = 3}, 1, POOL_FAILOVER, POOL_ANY);
	ck_assert(pool_is_ready(sim->pool, sim->now_ns)); /* nobody to open for */
	pool_user_set_fixed(alice, true);
	ck_assert(!pool_is_ready(sim->pool, sim->now_ns));
	struct pool_limits limits = pool_limits(sim->pool);
	sim_set_limits(sim, &limits);
	sim_pass(sim, NS_PER_S);
	ck_assert(pool_is_ready(sim->pool, sim->now_ns));
	report("a:1", false, POOL_ROLE_UNKNOWN);
	ck_assert(!pool_is_ready(sim->pool, sim->now_ns));
	end();
}
END_TEST

int main(void) {
	Suite *suite = suite_create("pool_hosts");
	TCase *tc = tcase_create("hosts");
	suite_add_tcase(suite, tc);
	tcase_add_loop_test(tc, failover_opens_at_the_first_host_that_works, 0, 3);
	tcase_add_loop_test(tc, busy_connections_of_a_host_that_is_down_end_when_they_are_released, 0, 3);
	tcase_add_loop_test(tc, failed_opens_turn_to_the_next_host, 0, 3);
	tcase_add_loop_test(tc, round_robin_spreads_opens, 0, 3);
	tcase_add_loop_test(tc, least_busy_opens_where_the_fewest_are_in_use, 0, 3);
	tcase_add_loop_test(tc, target_primary_follows_the_role, 0, 3);
	tcase_add_loop_test(tc, without_a_fit_host_waiters_wait_and_are_served_when_there_is_one, 0, 3);
	tcase_add_loop_test(tc, prefer_standby_falls_back_to_the_primary_and_returns, 0, 3);
	tcase_add_loop_test(tc, host_that_is_back_gets_its_share_gradually, 0, 3);
	tcase_add_loop_test(tc, after_an_outage_opens_ramp_up, 0, 3);
	tcase_add_loop_test(tc, host_that_a_monitor_takes_for_down_is_tried_where_there_is_no_other, 0, 3);
	tcase_add_loop_test(tc, host_that_said_it_is_no_primary_is_asked_again_when_there_is_no_other, 0, 3);
	tcase_add_loop_test(tc, host_that_was_away_is_not_judged_by_what_was_known_before, 0, 3);
	tcase_add_loop_test(tc, host_that_failed_by_the_pool_s_own_opens_gets_its_connections_back, 0, 3);
	tcase_add_loop_test(tc, least_busy_moves_nothing_to_and_fro, 0, 3);
	tcase_add_loop_test(tc, removed_host_loses_its_connections_and_its_place, 0, 3);
	tcase_add_loop_test(tc, hosts_that_still_have_connections_keep_their_places, 0, 3);
	tcase_add_loop_test(tc, unavailable_pool_fails_waiters_at_once_where_asked_to, 0, 3);
	tcase_add_loop_test(tc, unavailable_host_is_unseen_while_a_connection_works, 0, 3);
	tcase_add_loop_test(tc, starting_host_is_asked_again_soon, 0, 3);
	tcase_add_loop_test(tc, paused_pool_serves_nobody_closes_all_and_goes_on_when_resumed, 0, 3);
	tcase_add_loop_test(tc, connections_marked_to_be_closed_are_counted_until_they_are, 0, 3);
	tcase_add_loop_test(tc, connection_that_lingers_keeps_its_permit, 0, 3);
	tcase_add_loop_test(tc, pool_is_ready_when_min_idle_is_there, 0, 3);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
