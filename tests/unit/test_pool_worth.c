/* Whether a connection is worth opening for those who wait. With 1, 2 and 8 workers. */
#include <check.h>
#include <stdlib.h>

#include "pool/internal.h"
#include "pool_sim.h"

static const int worker_counts[] = {1, 2, 8};
static struct sim *sim;
static int workers;
static struct pool_user *alice;

enum { CLIENTS = 64 };
static struct sim_client *clients[CLIENTS];

static void begin(int round, struct pool_limits limits) {
	workers = worker_counts[round];
	sim = sim_new(workers, &limits);
	alice = sim_user(sim, "alice");
}

static void end(void) {
	sim_deliver_all(sim);
	const char *wrong = sim_check(sim);
	ck_assert_msg(!wrong, "%s", wrong);
	pool_user_unref(alice);
	ck_assert_msg(sim_free(sim), "something was left over");
}

#define BEGIN(...) begin(_i, (struct pool_limits){__VA_ARGS__})

/* `n` idle connections whose logins took as long as sim->login_ns says. */
static void idle(int n) {
	for (int i = 0; i < n; i++)
		clients[i] = sim_acquire(sim, i % workers, alice, 0);
	sim_pass(sim, sim->login_ns + NS_PER_MS);
	for (int i = 0; i < n; i++) {
		ck_assert_int_eq(clients[i]->outcome, SIM_SERVED);
		sim_release(clients[i]);
	}
	sim_deliver_all(sim);
	for (int i = 0; i < workers; i++) { /* these holds say nothing */
		atomic_store(&alice->slots[i].hold_ns, 0);
		alice->slots[i].hold_mean_ns = alice->slots[i].holds = 0;
	}
}

/* Clients ask at once, each holds its connection for so long and goes. Returns when the last was served. */
static uint64_t burst(int n, uint64_t hold_ns, uint64_t limit_ns) {
	uint64_t started = sim->now_ns, step = hold_ns / 8 ? hold_ns / 8 : 1, last = 0;
	int left = n;
	for (int i = 0; i < n; i++)
		clients[i] = sim_acquire(sim, i % workers, alice, 0);
	while (left && sim->now_ns < started + limit_ns) {
		sim_pass(sim, step);
		for (int i = 0; i < n; i++) {
			struct sim_client *client = clients[i];
			if (!client || client->outcome != SIM_SERVED || sim->now_ns < client->served_ns + hold_ns)
				continue;
			last = client->served_ns;
			clients[i] = NULL;
			left--;
			sim_release(client);
		}
	}
	ck_assert_int_eq(left, 0);
	return last - started;
}

START_TEST(burst_that_is_over_before_a_login_opens_nothing) {
	BEGIN(.max_size = 50);
	sim->login_ns = 150 * NS_PER_MS;
	idle(5);
	uint64_t took = burst(50, 2 * NS_PER_MS, 10 * NS_PER_S);
	ck_assert_uint_le(sim->opens, 5 + 2);
	ck_assert_uint_le(took, 100 * NS_PER_MS);
	end();
}
END_TEST

START_TEST(nothing_there_and_long_queries_opens_one_for_each) {
	BEGIN(.max_size = 20);
	sim->login_ns = 150 * NS_PER_MS;
	idle(1);
	list_for_each_safe(node, &sim->conns) /* so the login's time is known, and nothing is there */
		sim_die(list_entry(node, struct sim_conn, all));
	for (int i = 0; i < 20; i++)
		clients[i] = sim_acquire(sim, i % workers, alice, 0);
	sim_deliver_all(sim);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_OPENING), 20);
	sim_pass(sim, 151 * NS_PER_MS);
	ck_assert_uint_eq(sim_waiting(sim), 0);
	end();
}
END_TEST

START_TEST(long_holds_that_are_known_open_at_once_for_what_would_be_left) {
	BEGIN(.max_size = 20);
	sim->login_ns = 10 * NS_PER_MS;
	idle(2);
	for (int i = 0; i < 8; i++)
		burst(workers, NS_PER_S, 30 * NS_PER_S); /* now it is known that they take a second */
	uint64_t opens = sim->opens;
	unsigned idle_before = sim_count(sim, POOL_CONN_IDLE);
	for (int i = 0; i < 10; i++)
		clients[i] = sim_acquire(sim, 0, alice, 0);
	sim_deliver_all(sim);
	ck_assert_uint_eq(sim->opens - opens, 10 - idle_before);
	sim_pass(sim, 20 * NS_PER_MS);
	ck_assert_uint_eq(sim_waiting(sim), 0);
	end();
}
END_TEST

START_TEST(wrong_forecast_is_noticed_after_one_login) {
	BEGIN(.max_size = 20);
	sim->login_ns = 50 * NS_PER_MS;
	idle(2);
	burst(8, NS_PER_MS, NS_PER_S); /* they took a millisecond so far */
	uint64_t opens = sim->opens;
	for (int i = 0; i < 10; i++)
		clients[i] = sim_acquire(sim, 0, alice, 0);
	sim_pass(sim, 40 * NS_PER_MS);
	ck_assert_uint_eq(sim->opens, opens);
	sim_pass(sim, 11 * NS_PER_MS); /* nobody has given one back */
	ck_assert_uint_ge(sim->opens - opens, 6); /* two were served, on other workers maybe from the queue */
	sim_pass(sim, 111 * NS_PER_MS);
	ck_assert_uint_eq(sim_waiting(sim), 0);
	ck_assert_uint_le(sim->opens - opens, 8);
	end();
}
END_TEST

START_TEST(lasting_load_grows_the_pool_step_by_step_to_its_bound) {
	BEGIN(.max_size = 16);
	sim->login_ns = 100 * NS_PER_MS;
	idle(1);
	uint64_t started = sim->now_ns, at_two = 0, at_all = 0;
	for (int i = 0; i < 40; i++)
		clients[i] = sim_acquire(sim, i % workers, alice, 0);
	while (sim->now_ns < started + 3 * NS_PER_S) {
		sim_pass(sim, NS_PER_MS);
		for (int i = 0; i < 40; i++) { /* each comes back at once */
			if (clients[i]->outcome != SIM_SERVED || clients[i]->served_ns == sim->now_ns)
				continue;
			int worker = clients[i]->worker;
			sim_release(clients[i]);
			clients[i] = sim_acquire(sim, worker, alice, 0);
		}
		at_two = !at_two && sim->opens >= 2 ? sim->now_ns : at_two;
		at_all = !at_all && sim->opens >= 16 ? sim->now_ns : at_all;
	}
	ck_assert_uint_ge(at_two - started, 99 * NS_PER_MS);
	ck_assert_uint_ne(at_all, 0);
	ck_assert_uint_ge(at_all - started, 200 * NS_PER_MS); /* not all at once */
	ck_assert_uint_le(at_all - started, 1500 * NS_PER_MS);
	ck_assert_uint_eq(sim->opens, 16);
	end();
}
END_TEST

START_TEST(last_connection_lost_opens_for_waiters_on_every_worker_at_once) {
	BEGIN(.max_size = 8);
	sim->login_ns = 100 * NS_PER_MS;
	idle(1);
	burst(8, NS_PER_MS, NS_PER_S);
	struct sim_client *holder = sim_acquire(sim, 0, alice, 0);
	sim_deliver_all(sim);
	for (int i = 0; i < 4; i++)
		sim_acquire(sim, (workers - 1 + i) % workers, alice, 0);
	sim_deliver_all(sim);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_OPENING), 0);
	sim_die(holder->conn);
	sim_deliver_all(sim);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_OPENING), 4);
	end();
}
END_TEST

int main(void) {
	Suite *suite = suite_create("pool_worth");
	TCase *tc = tcase_create("worth");
	suite_add_tcase(suite, tc);
	tcase_add_loop_test(tc, burst_that_is_over_before_a_login_opens_nothing, 0, 3);
	tcase_add_loop_test(tc, nothing_there_and_long_queries_opens_one_for_each, 0, 3);
	tcase_add_loop_test(tc, long_holds_that_are_known_open_at_once_for_what_would_be_left, 0, 3);
	tcase_add_loop_test(tc, wrong_forecast_is_noticed_after_one_login, 0, 3);
	tcase_add_loop_test(tc, lasting_load_grows_the_pool_step_by_step_to_its_bound, 0, 3);
	tcase_add_loop_test(tc, last_connection_lost_opens_for_waiters_on_every_worker_at_once, 0, 3);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
