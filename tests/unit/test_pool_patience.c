/*
 * Waiters whom a connection of their own worker will serve soon do not have one sent from another; all others do, and
 * soon. With 2 and 8 workers.
 */
#include <check.h>
#include <stdlib.h>

#include "pool/internal.h"
#include "pool_case.h"

static const int worker_counts[] = {2, 8};

#define SHORT_NS (100 * NS_PER_US) /* a hold: two and a half of them are within POOL_PATIENCE_NS */

/* What each client of the worker will be taken to hold a connection for. */
static void learn(int worker, uint64_t hold_ns) {
	for (int i = 0; i < 8; i++) {
		struct sim_client *client = served(worker, alice);
		sim->now_ns += hold_ns;
		sim_release(client);
	}
}

/* A connection that is busy at worker 0, whose clients hold them for so long, and one that is idle at the last. */
static struct sim_client *begin(int round, uint32_t max_size, uint64_t hold_ns) {
	begin_with(worker_counts[round], &(struct pool_limits){.max_size = max_size});
	learn(0, hold_ns);
	struct sim_client *holder = served(0, alice);
	sim_release(served(last, alice));
	atomic_store(&alice->slots[last].queued_ns, 0); /* for its login only */
	ck_assert_uint_eq(sim->opens, 2);
	ck_assert_uint_eq(moved(), 0);
	return holder;
}

static struct sim_client *waiter(void) {
	struct sim_client *client = sim_acquire(sim, 0, alice, 0);
	sound();
	return client;
}

START_TEST(waiter_whom_own_connections_will_serve_soon_is_left_to_them) {
	struct sim_client *holder = begin(_i, 2, SHORT_NS);
	struct sim_client *a = waiter(), *b = waiter();
	sim_pass(sim, SHORT_NS);
	sim_release(holder);
	sound();
	ck_assert_int_eq(a->outcome, SIM_SERVED);
	sim_pass(sim, SHORT_NS);
	sim_release(a);
	sound();
	ck_assert_int_eq(b->outcome, SIM_SERVED);
	ck_assert_uint_eq(moved(), 0);
	end();
}
END_TEST

START_TEST(connection_is_lent_when_patience_has_ended) {
	begin(_i, 2, SHORT_NS);
	struct sim_client *a = waiter();
	sim_pass(sim, POOL_PATIENCE_MAX_NS - 1);
	sound();
	ck_assert_int_eq(a->outcome, SIM_WAITING);
	ck_assert_uint_eq(moved(), 0);
	sim_pass(sim, 1);
	ck_assert_int_eq(a->outcome, SIM_SERVED);
	ck_assert_uint_eq(moved(), 1);
	end();
}
END_TEST

START_TEST(each_waiter_has_patience_of_its_own) {
	begin(_i, 3, SHORT_NS);
	struct sim_client *a = served(last, alice), *b = served(last, alice); /* two are there */
	sim_release(a);
	sim_release(b);
	a = waiter();
	sim_pass(sim, NS_PER_MS);
	b = waiter();
	sim_pass(sim, POOL_PATIENCE_MAX_NS - NS_PER_MS);
	ck_assert_int_eq(a->outcome, SIM_SERVED);
	ck_assert_int_eq(b->outcome, SIM_WAITING);
	sim_pass(sim, NS_PER_MS);
	ck_assert_int_eq(b->outcome, SIM_SERVED);
	ck_assert_uint_eq(moved(), 2);
	end();
}
END_TEST

START_TEST(waiters_beyond_those_are_lent_one_at_once) {
	begin(_i, 2, SHORT_NS);
	struct sim_client *a = waiter(), *b = waiter();
	ck_assert_uint_eq(moved(), 0);
	struct sim_client *c = waiter();
	ck_assert_int_eq(a->outcome, SIM_SERVED); /* in their order */
	ck_assert_int_eq(b->outcome, SIM_WAITING);
	ck_assert_int_eq(c->outcome, SIM_WAITING);
	ck_assert_uint_eq(moved(), 1);
	end();
}
END_TEST

START_TEST(where_somebody_had_to_wait_of_late_idle_connections_are_not_asked_for) {
	begin(_i, 2, SHORT_NS);
	struct sim_client *x = served(last, alice), *y = sim_acquire(sim, last, alice, 0);
	sim_release(x);
	ck_assert_int_eq(y->outcome, SIM_SERVED);
	sim_release(y);
	for (int i = 0; i < 3; i++)
		waiter();
	ck_assert_uint_eq(moved(), 0);
	sim_pass(sim, POOL_REST_NS - 1);
	waiter();
	ck_assert_uint_eq(moved(), 0);
	sim_pass(sim, 1);
	waiter();
	ck_assert_uint_eq(moved(), 1);
	end();
}
END_TEST

START_TEST(where_somebody_had_to_wait_of_late_released_connections_stay_for_now) {
	for (int rest = 0; rest < 2; rest++) {
		begin(_i, 2, SHORT_NS);
		struct sim_client *x = served(last, alice), *y = sim_acquire(sim, last, alice, 0);
		sim_release(x);
		ck_assert_int_eq(y->outcome, SIM_SERVED);
		if (rest)
			sim_pass(sim, POOL_REST_NS);
		for (int i = 0; i < 3; i++)
			waiter();
		sim_release(y);
		sound();
		ck_assert_uint_eq(moved(), (uint64_t)rest);
		sim_pass(sim, POOL_PATIENCE_MAX_NS);
		ck_assert_uint_ge(moved(), 1);
		end();
	}
}
END_TEST

START_TEST(slot_with_nothing_at_work_is_lent_to_at_once) {
	sim_release(begin(_i, 2, SHORT_NS));
	struct sim_conn *own = NULL;
	list_for_each(node, &sim->conns) {
		struct sim_conn *conn = list_entry(node, struct sim_conn, all);
		own = pool_shard_index(conn->conn.shard) == 0 ? conn : own;
	}
	sim_die(own);
	struct sim_client *a = waiter();
	ck_assert_int_eq(a->outcome, SIM_SERVED);
	ck_assert_uint_eq(sim->opens, 2);
	ck_assert_uint_eq(moved(), 1);
	end();
}
END_TEST

START_TEST(where_holds_are_long_or_unknown_one_is_lent_at_once) {
	for (int unknown = 0; unknown < 2; unknown++) {
		begin(_i, 2, unknown ? SHORT_NS : 100 * NS_PER_MS);
		if (unknown)
			atomic_store(&alice->slots[0].hold_ns, 0);
		struct sim_client *a = waiter();
		ck_assert_int_eq(a->outcome, SIM_SERVED);
		ck_assert_uint_eq(moved(), 1);
		end();
	}
}
END_TEST

START_TEST(patience_ends_with_the_last_connection_at_work) {
	for (int how = 0; how < 3; how++) {
		struct sim_client *holder = begin(_i, 2, SHORT_NS);
		struct sim_conn *conn = holder->conn;
		struct sim_client *a = waiter();
		ck_assert_int_eq(a->outcome, SIM_WAITING);
		sim->close_later = how == 2;
		if (how == 0) { /* it breaks */
			sim_die(conn);
		} else if (how == 1) { /* it is closed by the session, which takes its time */
			sim_linger(conn);
		} else { /* it is closed when it is given back, which takes its time */
			sim_retire(conn);
			sim_release(holder);
		}
		sound();
		ck_assert_int_eq(a->outcome, SIM_SERVED);
		ck_assert_uint_eq(moved(), 1);
		ck_assert_uint_eq(sim->opens, 2);
		if (how)
			sim_close_done(conn);
		end();
	}
}
END_TEST

START_TEST(nothing_is_opened_for_the_patient_while_one_is_idle_elsewhere) {
	begin(_i, 8, SHORT_NS);
	struct sim_client *a = waiter();
	sim_pass(sim, POOL_PATIENCE_MAX_NS);
	ck_assert_int_eq(a->outcome, SIM_SERVED);
	ck_assert_uint_eq(sim->opens, 2);
	end();
}
END_TEST

START_TEST(connection_that_would_make_room_goes_to_a_patient_waiter_first) {
	begin(_i, 2, SHORT_NS);
	struct sim_client *a = waiter();
	struct sim_client *other = sim_acquire(sim, last, bob, 0);
	sim_deliver_all(sim);
	sim_tick_due(sim);
	ck_assert_int_eq(other->outcome, SIM_WAITING);
	ck_assert_int_eq(a->outcome, SIM_SERVED);
	ck_assert_uint_eq(sim->closes, 0);
	end();
}
END_TEST

START_TEST(waiter_elsewhere_is_not_given_a_released_connection_while_it_is_patient) {
	struct sim_client *holder = begin(_i, 2, SHORT_NS);
	struct sim_client *there = served(last, alice), *a = waiter();
	sim_release(there);
	sound();
	ck_assert_int_eq(a->outcome, SIM_WAITING);
	sim_release(holder);
	ck_assert_int_eq(a->outcome, SIM_SERVED);
	ck_assert_uint_eq(moved(), 0);
	end();
}
END_TEST

START_TEST(long_waiter_counts_though_its_worker_has_not_come_to_say_so) {
	begin(_i, 2, SHORT_NS);
	struct sim_client *there = served(last, alice), *a = waiter();
	sim->now_ns += POOL_PATIENCE_MAX_NS; /* no tick: the worker is at something else */
	sim_release(there);
	ck_assert_uint_eq(moved(), 1);
	sim_deliver_all(sim);
	ck_assert_int_eq(a->outcome, SIM_SERVED);
	end();
}
END_TEST

START_TEST(question_is_answered_though_the_clocks_differ) {
	begin(_i, 2, SHORT_NS);
	struct sim_client *x = served(last, alice), *y = sim_acquire(sim, last, alice, 0);
	sim_release(x);
	ck_assert_int_eq(y->outcome, SIM_SERVED);
	sim_release(y);
	sim_pass(sim, POOL_REST_NS);
	sim->skew_ns[last] = 200 * NS_PER_US; /* it is not over yet there */
	for (int i = 0; i < 3; i++)
		waiter();
	ck_assert_uint_eq(moved(), 1);
	end();
}
END_TEST

/* --- under load --- */

enum { CLIENTS = 64, CONNS = 20 };
static struct sim_client *clients[CLIENTS];

/* Each client asks again as soon as it has been served for so long. Returns how many were served. */
static unsigned run(uint64_t for_ns, uint64_t hold_ns) {
	unsigned transactions = 0;
	for (uint64_t end_ns = sim->now_ns + for_ns; sim->now_ns < end_ns;) {
		sim_pass(sim, 20 * NS_PER_US);
		for (int i = 0; i < CLIENTS; i++) {
			struct sim_client *client = clients[i];
			if (client->outcome != SIM_SERVED || sim->now_ns < client->served_ns + hold_ns)
				continue;
			int worker = client->worker;
			sim_release(client);
			clients[i] = sim_acquire(sim, worker, alice, 0);
			transactions++;
		}
	}
	sound();
	return transactions;
}

static unsigned conns_at(int worker) {
	const struct pool_shard_stats *stats = pool_shard_stats(pool_shard(sim->pool, worker));
	return stats->idle + stats->busy;
}

START_TEST(connections_that_are_all_at_one_worker_spread_soon_and_then_stay) {
	workers = worker_counts[_i];
	sim = sim_new(workers, &(struct pool_limits){.max_size = CONNS});
	alice = sim_user(sim, "alice");
	bob = sim_user(sim, "bob");
	for (int i = 0; i < CONNS; i++)
		clients[i] = served(0, alice);
	for (int i = 0; i < CONNS; i++)
		sim_release(clients[i]);
	for (int i = 0; i < CLIENTS; i++)
		clients[i] = sim_acquire(sim, i % workers, alice, 0);
	run(10 * NS_PER_MS, 400 * NS_PER_US);
	for (int i = 0; i < workers; i++) {
		ck_assert_uint_ge(conns_at(i), (unsigned)(CONNS / workers / 2));
		ck_assert_uint_le(conns_at(i), (unsigned)((CONNS + workers - 1) / workers * 2));
	}
	uint64_t before = moved();
	unsigned transactions = run(100 * NS_PER_MS, 400 * NS_PER_US);
	ck_assert_uint_ge(transactions, 4000);
	ck_assert_uint_le((moved() - before) * 50, transactions);
	end();
}
END_TEST

int main(void) {
	Suite *suite = suite_create("pool_patience");
	TCase *tc = tcase_create("patience");
	suite_add_tcase(suite, tc);
	tcase_add_loop_test(tc, waiter_whom_own_connections_will_serve_soon_is_left_to_them, 0, 2);
	tcase_add_loop_test(tc, connection_is_lent_when_patience_has_ended, 0, 2);
	tcase_add_loop_test(tc, each_waiter_has_patience_of_its_own, 0, 2);
	tcase_add_loop_test(tc, waiters_beyond_those_are_lent_one_at_once, 0, 2);
	tcase_add_loop_test(tc, where_somebody_had_to_wait_of_late_idle_connections_are_not_asked_for, 0, 2);
	tcase_add_loop_test(tc, where_somebody_had_to_wait_of_late_released_connections_stay_for_now, 0, 2);
	tcase_add_loop_test(tc, slot_with_nothing_at_work_is_lent_to_at_once, 0, 2);
	tcase_add_loop_test(tc, where_holds_are_long_or_unknown_one_is_lent_at_once, 0, 2);
	tcase_add_loop_test(tc, patience_ends_with_the_last_connection_at_work, 0, 2);
	tcase_add_loop_test(tc, nothing_is_opened_for_the_patient_while_one_is_idle_elsewhere, 0, 2);
	tcase_add_loop_test(tc, connection_that_would_make_room_goes_to_a_patient_waiter_first, 0, 2);
	tcase_add_loop_test(tc, waiter_elsewhere_is_not_given_a_released_connection_while_it_is_patient, 0, 2);
	tcase_add_loop_test(tc, long_waiter_counts_though_its_worker_has_not_come_to_say_so, 0, 2);
	tcase_add_loop_test(tc, question_is_answered_though_the_clocks_differ, 0, 2);
	tcase_add_loop_test(tc, connections_that_are_all_at_one_worker_spread_soon_and_then_stay, 0, 2);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
