/* Who gets a connection, and when: bound, waiting, moving, turns between users. With 1, 2 and 8 workers. */
#include <check.h>
#include <stdlib.h>

#include "pool_case.h"

static const int worker_counts[] = {1, 2, 8};

#define BEGIN(...) begin_with(worker_counts[_i], &(struct pool_limits){__VA_ARGS__})

static const struct pool_shard_stats *stats(int worker) {
	return pool_shard_stats(pool_shard(sim->pool, worker));
}

/* --- acquire and release --- */

START_TEST(idle_connection_is_handed_out_at_once) {
	BEGIN(.max_size = 4);
	struct sim_client *a = served(0, alice);
	struct sim_conn *conn = a->conn;
	sim_release(a);
	struct sim_client *b = sim_acquire(sim, 0, alice, 0);
	ck_assert_ptr_eq(b->conn, conn);
	ck_assert_uint_eq(sim->opens, 1);
	ck_assert_uint_eq(stat_read(&stats(0)->acquires), 2);
	ck_assert_uint_eq(stat_read(&stats(0)->waits), 1);
	end();
}
END_TEST

START_TEST(most_recently_used_connection_is_taken_first) {
	BEGIN(.max_size = 4);
	struct sim_client *a = served(0, alice), *b = served(0, alice);
	struct sim_conn *warm = a->conn;
	sim_release(b);
	sim->now_ns += NS_PER_MS;
	sim_release(a);
	ck_assert_ptr_eq(sim_acquire(sim, 0, alice, 0)->conn, warm);
	end();
}
END_TEST

START_TEST(connections_open_side_by_side_but_no_more_than_wait) {
	BEGIN(.max_size = 10);
	for (int i = 0; i < 6; i++)
		sim_acquire(sim, i % workers, alice, 0);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_OPENING), 6);
	sim_login_all(sim);
	end();
}
END_TEST

START_TEST(bound_holds_over_all_workers_and_users) {
	BEGIN(.max_size = 5);
	for (int i = 0; i < 40; i++)
		sim_acquire(sim, i % workers, i % 3 ? alice : bob, 0);
	sim_deliver_all(sim);
	ck_assert_uint_eq(pool_size(sim->pool), 5);
	sim_login_all(sim);
	ck_assert_uint_eq(pool_size(sim->pool), 5);
	ck_assert_uint_eq(sim->opens, 5);
	ck_assert_uint_eq(sim_waiting(sim), 35);
	end();
}
END_TEST

START_TEST(waiter_takes_the_first_that_becomes_free_not_the_one_opened_for_it) {
	BEGIN(.max_size = 2);
	struct sim_client *a = served(0, alice);
	struct sim_client *b = sim_acquire(sim, 0, alice, 0);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_OPENING), 1);
	sim_release(a);
	ck_assert_int_eq(b->outcome, SIM_SERVED);
	sim_login_all(sim);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_IDLE), 1);
	end();
}
END_TEST

START_TEST(waiters_of_a_user_are_served_in_order) {
	BEGIN(.max_size = 1);
	struct sim_client *holder = served(0, alice), *waiter[20];
	for (int i = 0; i < 20; i++) {
		sim->now_ns += 2 * POOL_UNFAIRNESS_NS;
		waiter[i] = sim_acquire(sim, (i * 5) % workers, alice, 0);
	}
	sim_deliver_all(sim);
	for (int i = 0; i < 20; i++) {
		sim_release(holder);
		sim_deliver_all(sim);
		ck_assert_int_eq(waiter[i]->outcome, SIM_SERVED);
		ck_assert_uint_eq(waiter[i]->order, i + 2);
		holder = waiter[i];
	}
	ck_assert_uint_eq(sim->unfairness_ns, 0);
	end();
}
END_TEST

START_TEST(own_waiter_goes_first_within_the_stated_balance) {
	if (worker_counts[_i] == 1)
		return;
	for (int over = 0; over < 2; over++) {
		BEGIN(.max_size = 1);
		struct sim_client *holder = served(0, alice);
		struct sim_client *there = sim_acquire(sim, last, alice, 0);
		sim->now_ns += POOL_BALANCE_NS + (uint64_t)over;
		struct sim_client *here = sim_acquire(sim, 0, alice, 0);
		sim_release(holder);
		sim_deliver_all(sim);
		ck_assert_int_eq(here->outcome, over ? SIM_WAITING : SIM_SERVED);
		ck_assert_int_eq(there->outcome, over ? SIM_SERVED : SIM_WAITING);
		end();
	}
}
END_TEST

START_TEST(own_waiter_goes_first_where_it_has_waited_nearly_as_long) {
	if (worker_counts[_i] == 1)
		return;
	for (int over = 0; over < 2; over++) {
		BEGIN(.max_size = 1);
		struct sim_client *holder = served(0, alice);
		struct sim_client *there = sim_acquire(sim, last, alice, 0);
		sim->now_ns += POOL_BALANCE_NS + NS_PER_MS + (uint64_t)over;
		struct sim_client *here = sim_acquire(sim, 0, alice, 0);
		sim->now_ns += 2 * NS_PER_MS;
		sim_release(holder);
		sim_deliver_all(sim);
		ck_assert_int_eq(here->outcome, over ? SIM_WAITING : SIM_SERVED);
		ck_assert_int_eq(there->outcome, over ? SIM_SERVED : SIM_WAITING);
		end();
	}
}
END_TEST

START_TEST(just_after_a_move_own_waiter_goes_first_within_the_stated_unfairness) {
	if (worker_counts[_i] == 1)
		return;
	for (int over = 0; over < 2; over++) {
		BEGIN(.max_size = 2);
		struct sim_client *holders[2], *there[2], *here;
		for (int i = 0; i < 2; i++)
			holders[i] = served(0, alice);
		for (int i = 0; i < 2; i++)
			there[i] = sim_acquire(sim, last, alice, 0);
		sim->now_ns += POOL_UNFAIRNESS_NS + (uint64_t)over;
		here = sim_acquire(sim, 0, alice, 0);
		sim_release(holders[0]);
		sim_deliver_all(sim);
		ck_assert_int_eq(there[0]->outcome, SIM_SERVED);
		sim_release(holders[1]);
		sim_deliver_all(sim);
		ck_assert_int_eq(here->outcome, over ? SIM_WAITING : SIM_SERVED);
		ck_assert_int_eq(there[1]->outcome, over ? SIM_SERVED : SIM_WAITING);
		ck_assert_uint_le(sim->unfairness_ns, POOL_UNFAIRNESS_NS);
		end();
	}
}
END_TEST

START_TEST(newcomer_overtakes_a_waiter_elsewhere_by_no_more_than_the_balance) {
	if (worker_counts[_i] == 1)
		return;
	for (int over = 0; over < 2; over++) {
		BEGIN(.max_size = 1);
		sim_release(served(0, alice));
		struct sim_client *there = sim_acquire(sim, last, alice, 0); /* its question is in the mail */
		sim->now_ns += POOL_BALANCE_NS + (uint64_t)over;
		struct sim_client *here = sim_acquire(sim, 0, alice, 0);
		sim_deliver_all(sim);
		ck_assert_int_eq(here->outcome, over ? SIM_WAITING : SIM_SERVED);
		ck_assert_int_eq(there->outcome, over ? SIM_SERVED : SIM_WAITING);
		end();
	}
}
END_TEST

START_TEST(waiter_for_whom_one_is_on_its_way_does_not_count_again) {
	if (worker_counts[_i] == 1)
		return;
	BEGIN(.max_size = 2);
	struct sim_client *a = served(0, alice), *b = served(0, alice);
	struct sim_client *oldest = sim_acquire(sim, last, alice, 0);
	sim->now_ns += 2 * POOL_UNFAIRNESS_NS;
	struct sim_client *own = sim_acquire(sim, 0, alice, 0);
	sim->now_ns += 2 * POOL_UNFAIRNESS_NS;
	struct sim_client *youngest = sim_acquire(sim, last, alice, 0);
	sim_release(a);
	sim_release(b);
	ck_assert_int_eq(own->outcome, SIM_SERVED);
	sim_deliver_all(sim);
	ck_assert_int_eq(oldest->outcome, SIM_SERVED);
	ck_assert_int_eq(youngest->outcome, SIM_WAITING);
	ck_assert_uint_eq(moved(), 1);
	end();
}
END_TEST

START_TEST(waiter_left_to_one_that_is_then_refused_gets_the_other) {
	if (worker_counts[_i] < 3)
		return;
	BEGIN(.max_size = 3); /* the third is opening for the waiter, and takes its time */
	struct sim_client *a = served(0, alice), *b = served(1, alice);
	struct sim_client *waiter = sim_acquire(sim, last, alice, 0);
	sim->refuse_detach = true;
	sim->release_in_detach = b; /* finds the waiter provided for, and becomes idle */
	sim_release(a);
	sim->refuse_detach = false;
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_IDLE), 2);
	sim_deliver_all(sim);
	ck_assert_int_eq(waiter->outcome, SIM_SERVED);
	sim_login_all(sim);
	end();
}
END_TEST

START_TEST(released_connection_reaches_the_waiter_of_another_worker) {
	BEGIN(.max_size = 1);
	struct sim_client *holder = served(0, alice);
	struct sim_client *waiter = sim_acquire(sim, last, alice, 0);
	sim_deliver_all(sim);
	struct sim_conn *conn = holder->conn;
	sim_release(holder);
	sim_deliver_all(sim);
	ck_assert_int_eq(waiter->outcome, SIM_SERVED);
	ck_assert_ptr_eq(waiter->conn, conn);
	ck_assert_uint_eq(moved(), workers > 1);
	end();
}
END_TEST

START_TEST(idle_connection_elsewhere_is_lent_rather_than_another_opened) {
	BEGIN(.max_size = 8);
	struct sim_client *a = served(0, alice);
	sim_release(a);
	struct sim_client *b = sim_acquire(sim, last, alice, 0);
	sim_deliver_all(sim);
	ck_assert_int_eq(b->outcome, SIM_SERVED);
	ck_assert_uint_eq(sim->opens, 1);
	end();
}
END_TEST

START_TEST(idle_connection_taken_before_the_question_arrives_makes_another_open) {
	if (worker_counts[_i] == 1)
		return;
	BEGIN(.max_size = 8);
	sim_release(served(0, alice));
	struct sim_client *asker = sim_acquire(sim, last, alice, 0);
	struct sim_client *quick = sim_acquire(sim, 0, alice, 0);
	ck_assert_int_eq(quick->outcome, SIM_SERVED);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_OPENING), 0);
	sim_deliver_all(sim);
	ck_assert_int_eq(asker->outcome, SIM_WAITING);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_OPENING), 1);
	sim_login_all(sim);
	ck_assert_int_eq(asker->outcome, SIM_SERVED);
	end();
}
END_TEST

START_TEST(one_waiter_gets_one_connection_though_several_become_free) {
	BEGIN(.max_size = 8);
	struct sim_client *holder[8];
	for (int i = 0; i < 8; i++)
		holder[i] = served(i % workers, alice);
	struct sim_client *waiter = sim_acquire(sim, last, alice, 0);
	for (int i = 0; i < 8; i++)
		sim_release(holder[i]);
	sim_deliver_all(sim);
	ck_assert_int_eq(waiter->outcome, SIM_SERVED);
	ck_assert_uint_le(moved(), 1);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_IDLE), 7);
	end();
}
END_TEST

START_TEST(connection_mailed_to_a_waiter_who_left_goes_to_the_next) {
	BEGIN(.max_size = 1);
	struct sim_client *holder = served(0, alice);
	struct sim_client *leaver = sim_acquire(sim, last, alice, 0);
	sim->now_ns += 2 * POOL_UNFAIRNESS_NS;
	struct sim_client *next = sim_acquire(sim, workers > 2 ? 1 : 0, alice, 0);
	if (workers == 1) {
		sim_forget(leaver);
		sim_release(holder);
	} else {
		sim_release(holder);
		ck_assert_uint_eq(sim_count(sim, POOL_CONN_MOVING), 1);
		sim_forget(leaver);
	}
	sim_deliver_all(sim);
	ck_assert_int_eq(next->outcome, SIM_SERVED);
	end();
}
END_TEST

START_TEST(connection_mailed_to_a_waiter_who_left_is_idle_where_it_arrives) {
	if (worker_counts[_i] == 1)
		return;
	BEGIN(.max_size = 1);
	struct sim_client *holder = served(0, alice);
	struct sim_client *leaver = sim_acquire(sim, last, alice, 0);
	sim_release(holder);
	sim_forget(leaver);
	sim_deliver_all(sim);
	ck_assert_uint_eq(atomic_load(&stats(last)->idle), 1);
	end();
}
END_TEST

START_TEST(permit_given_back_reaches_the_oldest_waiter_of_another_worker) {
	BEGIN(.max_size = 1);
	struct sim_client *holder = served(0, alice);
	sim->now_ns += NS_PER_MS;
	struct sim_client *oldest = sim_acquire(sim, last, bob, 0);
	sim->now_ns += NS_PER_MS;
	struct sim_client *other = sim_acquire(sim, 0, alice, 0);
	sim_deliver_all(sim);
	sim_die(holder->conn);
	sim_deliver_all(sim);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_OPENING), 1);
	sim_login_all(sim);
	sim_deliver_all(sim);
	ck_assert_int_eq(oldest->outcome, SIM_SERVED);
	ck_assert_int_eq(other->outcome, SIM_WAITING);
	end();
}
END_TEST

START_TEST(opened_connection_goes_to_the_longest_waiter_wherever_it_is) {
	BEGIN(.max_size = 2);
	struct sim_client *holder = served(last, alice);
	struct sim_client *first = sim_acquire(sim, last, alice, 0);
	sim->now_ns += 2 * POOL_UNFAIRNESS_NS;
	struct sim_client *second = sim_acquire(sim, 0, alice, 0);
	ck_assert_int_eq(first->outcome, SIM_WAITING);
	sim_release(holder);
	sim_deliver_all(sim);
	ck_assert_int_eq(first->outcome, SIM_SERVED);
	ck_assert_int_eq(second->outcome, SIM_WAITING);
	sim_login_all(sim);
	sim_deliver_all(sim);
	ck_assert_int_eq(second->outcome, SIM_SERVED);
	end();
}
END_TEST

START_TEST(refused_detach_loses_nothing) {
	BEGIN(.max_size = 1);
	struct sim_client *holder = served(0, alice);
	struct sim_client *there = sim_acquire(sim, last, alice, 0);
	sim->now_ns += 2 * POOL_UNFAIRNESS_NS;
	struct sim_client *here = sim_acquire(sim, 0, alice, 0);
	sim->refuse_detach = true;
	sim_release(holder);
	sim_deliver_all(sim);
	if (workers == 1) {
		ck_assert_int_eq(there->outcome, SIM_SERVED);
		sim_release(there);
		ck_assert_int_eq(here->outcome, SIM_SERVED);
		end();
		return;
	}
	/* the own waiter may have it */
	ck_assert_int_eq(here->outcome, SIM_SERVED);
	sim_release(here);
	sim_deliver_all(sim);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_IDLE), 1);
	ck_assert_int_eq(there->outcome, SIM_WAITING);
	/* and what is refused is offered again */
	sim->refuse_detach = false;
	sim_pass(sim, POOL_DETACH_RETRY_NS);
	ck_assert_int_eq(there->outcome, SIM_SERVED);
	end();
}
END_TEST

START_TEST(while_detach_is_refused_the_waiter_opens_one) {
	if (worker_counts[_i] == 1)
		return;
	BEGIN(.max_size = 2);
	sim_release(served(0, alice));
	sim->refuse_detach = true;
	struct sim_client *waiter = sim_acquire(sim, last, alice, 0);
	sim_deliver_all(sim);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_OPENING), 1);
	sim_login_all(sim);
	ck_assert_int_eq(waiter->outcome, SIM_SERVED);
	end();
}
END_TEST

START_TEST(waiting_ends_at_the_deadline_and_not_before) {
	BEGIN(.max_size = 1);
	served(0, alice);
	struct sim_client *a = sim_acquire(sim, last, alice, 300 * NS_PER_MS);
	struct sim_client *b = sim_acquire(sim, last, alice, 100 * NS_PER_MS);
	struct sim_client *c = sim_acquire(sim, last, alice, 0);
	sim_pass(sim, 100 * NS_PER_MS - 1);
	ck_assert_int_eq(b->outcome, SIM_WAITING);
	sim_pass(sim, 1);
	ck_assert_int_eq(b->outcome, SIM_FAILED);
	ck_assert_int_eq(b->why, POOL_FAIL_TIMEOUT);
	ck_assert_int_eq(a->outcome, SIM_WAITING);
	sim_pass(sim, 200 * NS_PER_MS);
	ck_assert_int_eq(a->outcome, SIM_FAILED);
	ck_assert_int_eq(c->outcome, SIM_WAITING);
	ck_assert_uint_eq(stat_read(&stats(last)->timeouts), 2);
	ck_assert_uint_eq(stat_read(&stats(last)->wait_ns) >= 400 * NS_PER_MS, 1);
	end();
}
END_TEST

START_TEST(full_queue_rejects_at_once_counting_all_workers) {
	BEGIN(.max_size = 1, .max_waiting = 3);
	served(0, alice);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(sim_acquire(sim, i % workers, i ? alice : bob, 0)->outcome, SIM_WAITING);
	struct sim_client *fourth = sim_acquire(sim, last, alice, 0);
	ck_assert_int_eq(fourth->outcome, SIM_FAILED);
	ck_assert_int_eq(fourth->why, POOL_FAIL_QUEUE_FULL);
	ck_assert_uint_eq(stat_read(&stats(last)->rejected), 1);
	end();
}
END_TEST

START_TEST(cancelled_waiter_leaves_the_queue_at_once) {
	BEGIN(.max_size = 1);
	struct sim_client *holder = served(0, alice);
	struct sim_client *a = sim_acquire(sim, 0, alice, NS_PER_S), *b = sim_acquire(sim, 0, alice, 0);
	ck_assert_uint_eq(pool_waiter_place(&b->waiter), 2);
	sim_forget(a);
	ck_assert_uint_eq(pool_waiter_place(&b->waiter), 1);
	pool_waiter_cancel(&holder->waiter); /* harmless */
	sim_release(holder);
	ck_assert_int_eq(b->outcome, SIM_SERVED);
	end();
}
END_TEST

START_TEST(release_from_within_serve_neither_recurs_nor_loses) {
	BEGIN(.max_size = 1);
	struct sim_client *holder = served(0, alice);
	for (int i = 0; i < 5000; i++)
		sim_acquire(sim, i % workers, alice, 0);
	sim_deliver_all(sim);
	sim->release_in_serve = true;
	sim_release(holder);
	sim_deliver_all(sim);
	ck_assert_uint_eq(sim_waiting(sim), 0);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_IDLE), 1);
	end();
}
END_TEST

/* --- users --- */

START_TEST(idle_connection_of_another_user_makes_room_least_recently_used_first) {
	BEGIN(.max_size = 3);
	struct sim_client *a = served(0, alice), *b = served(last, alice), *c = served(0, alice);
	int oldest = b->conn->number;
	sim_release(b);
	sim->now_ns += NS_PER_S;
	sim_release(a);
	sim->now_ns += NS_PER_S;
	sim_release(c);
	struct sim_client *d = sim_acquire(sim, 0, bob, 0);
	sim_deliver_all(sim);
	ck_assert_uint_eq(sim->closes, 1);
	ck_assert_str_eq(sim->last_reason, "make_room");
	list_for_each(node, &sim->conns)
		ck_assert_int_ne(list_entry(node, struct sim_conn, all)->number, oldest);
	sim_login_all(sim);
	sim_deliver_all(sim);
	ck_assert_int_eq(d->outcome, SIM_SERVED);
	end();
}
END_TEST

START_TEST(no_more_idle_connections_are_closed_than_waiters_want) {
	BEGIN(.max_size = 8);
	struct sim_client *holder[8];
	for (int i = 0; i < 8; i++)
		holder[i] = served(i % workers, alice);
	for (int i = 0; i < 8; i++)
		sim_release(holder[i]);
	sim->close_later = true;
	for (int i = 0; i < 3; i++)
		sim_acquire(sim, (last + i) % workers, bob, 0);
	sim_deliver_all(sim);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_CLOSING), 3);
	ck_assert_uint_eq(pool_size(sim->pool), 8);
	list_for_each_safe(node, &sim->conns) {
		struct sim_conn *conn = list_entry(node, struct sim_conn, all);
		if (conn->closing)
			sim_close_done(conn);
	}
	sim_deliver_all(sim);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_OPENING), 3);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_IDLE), 5);
	sim_login_all(sim);
	end();
}
END_TEST

START_TEST(free_permit_goes_to_the_user_with_the_fewest_connections) {
	BEGIN(.max_size = 3);
	struct sim_client *a = served(0, alice);
	served(0, alice);
	served(0, alice);
	sim_acquire(sim, 0, alice, 0);
	sim->now_ns += 10 * NS_PER_MS;
	struct sim_client *poor = sim_acquire(sim, last, bob, 0);
	sim_deliver_all(sim);
	sim_die(a->conn);
	sim_deliver_all(sim);
	sim_login_all(sim);
	sim_deliver_all(sim);
	ck_assert_int_eq(poor->outcome, SIM_SERVED);
	end();
}
END_TEST

static int waiting_of(struct pool_user *user, int worker) {
	int n = 0;
	list_for_each(node, &sim->clients) {
		const struct sim_client *client = list_entry(node, struct sim_client, all);
		n += client->user == user && client->worker == worker && client->outcome == SIM_WAITING;
	}
	return n;
}

/* Keeps `depth` clients of a user waiting on a worker, and all that hold a connection use it for 1 ms. */
static void keep_busy(struct pool_user *user, int worker, int depth) {
	list_for_each_safe(node, &sim->clients) {
		struct sim_client *client = list_entry(node, struct sim_client, all);
		if (client->user != user || client->outcome != SIM_SERVED || client->served_ns == sim->now_ns)
			continue;
		if (client->conn)
			sim_release(client);
		else
			sim_forget(client);
	}
	for (int waiting = waiting_of(user, worker); waiting < depth; waiting++)
		sim_acquire(sim, worker, user, 0);
}

static bool has_been_served(const struct pool_user *user) {
	list_for_each(node, &sim->clients) {
		const struct sim_client *client = list_entry(node, struct sim_client, all);
		if (client->user == user && client->outcome == SIM_SERVED)
			return true;
	}
	return false;
}

START_TEST(starved_users_get_turns_at_no_more_than_the_stated_rate) {
	BEGIN(.max_size = 6);
	struct pool_user *carol = sim_user(sim, "carol");
	sim->login_ns = 10 * NS_PER_MS;
	uint64_t closes = 0, closed_at = 0;
	for (int ms = 0; ms < 4000; ms++) {
		keep_busy(alice, workers / 2, 640);
		if (ms >= 500)
			keep_busy(bob, 0, 640);
		if (ms >= 530)
			keep_busy(carol, last, 640);
		sim_pass(sim, NS_PER_MS);
		if (sim->closes != closes) {
			ck_assert_uint_eq(sim->closes, closes + 1);
			ck_assert_str_eq(sim->last_reason, "turn");
			ck_assert(!closed_at || sim->now_ns - closed_at >= POOL_TURN_INTERVAL_NS);
			closed_at = sim->now_ns;
			closes = sim->closes;
		}
		if (ms == 615)
			ck_assert_msg(has_been_served(bob), "the first starved user waits too long");
		if (ms == 715)
			ck_assert_msg(has_been_served(carol), "the second starved user waits too long");
		ck_assert_msg(!sim_check(sim), "%s", sim_check(sim));
	}
	/* equal shares, reached without closing more than that took */
	ck_assert_uint_eq(pool_user_size(alice), 2);
	ck_assert_uint_eq(pool_user_size(bob), 2);
	ck_assert_uint_eq(pool_user_size(carol), 2);
	ck_assert_uint_eq(sim->closes, 4);
	pool_user_unref(carol);
	end();
}
END_TEST

START_TEST(limit_of_a_user_holds_and_its_waiters_go_on_when_there_is_room) {
	BEGIN(.max_size = 10, .max_size_per_user = 2);
	struct sim_client *a = served(0, alice);
	served(last, alice);
	struct sim_client *third = sim_acquire(sim, last, alice, 0);
	struct sim_client *other = sim_acquire(sim, 0, bob, 0);
	sim_deliver_all(sim);
	ck_assert_uint_eq(pool_user_size(alice), 2);
	sim_login_all(sim);
	ck_assert_int_eq(other->outcome, SIM_SERVED);
	sim_die(a->conn);
	sim_deliver_all(sim);
	sim_login_all(sim);
	sim_deliver_all(sim);
	ck_assert_int_eq(third->outcome, SIM_SERVED);
	ck_assert_uint_eq(pool_user_size(alice), 2);
	end();
}
END_TEST

START_TEST(a_user_may_have_a_bound_of_its_own) {
	BEGIN(.max_size = 10, .max_size_per_user = 2);
	pool_user_set_max_size(alice, 3);
	pool_user_set_max_size(bob, 1);
	struct sim_client *a = served(0, alice), *b = served(last, alice);
	served(0, alice);
	struct sim_client *fourth = sim_acquire(sim, last, alice, 0);
	served(last, bob);
	struct sim_client *second = sim_acquire(sim, 0, bob, 0);
	sim_deliver_all(sim);
	sim_login_all(sim);
	ck_assert_uint_eq(pool_user_size(alice), 3);
	ck_assert_uint_eq(pool_user_size(bob), 1);
	ck_assert_int_eq(fourth->outcome, SIM_WAITING);
	ck_assert_int_eq(second->outcome, SIM_WAITING);
	/* smaller: what comes back is closed, whoever waits for it */
	pool_user_set_max_size(alice, 1);
	sim_release(a);
	sim_release(b);
	sim_deliver_all(sim);
	sim_login_all(sim);
	ck_assert_uint_eq(pool_user_size(alice), 1);
	ck_assert_int_eq(fourth->outcome, SIM_WAITING);
	/* none of its own: the pool's */
	pool_user_set_max_size(bob, 0);
	pool_set_limits(sim->pool, &(struct pool_limits){.max_size = 10, .max_size_per_user = 2});
	for (int i = 0; i <= last; i++)
		sim_tick(sim, i);
	sim_deliver_all(sim);
	sim_login_all(sim);
	ck_assert_int_eq(second->outcome, SIM_SERVED);
	ck_assert_uint_eq(pool_user_size(bob), 2);
	end();
}
END_TEST

START_TEST(hopeless_logins_fail_waiters_on_every_worker_at_once) {
	BEGIN(.max_size = 10);
	struct sim_client *a = sim_acquire(sim, 0, alice, 0), *b = sim_acquire(sim, last, alice, 0);
	struct sim_client *c = sim_acquire(sim, last, bob, 0);
	pool_user_failed(pool_shard(sim->pool, 0), alice);
	sim_deliver_all(sim);
	ck_assert_int_eq(a->outcome, SIM_FAILED);
	ck_assert_int_eq(b->outcome, SIM_FAILED);
	ck_assert_int_eq(b->why, POOL_FAIL_UNAVAILABLE);
	ck_assert_int_eq(c->outcome, SIM_WAITING);
	sim_login_all(sim);
	ck_assert_int_eq(c->outcome, SIM_SERVED);
	end();
}
END_TEST

START_TEST(hopeless_logins_are_unseen_while_a_connection_of_the_user_works) {
	BEGIN(.max_size = 10);
	struct sim_client *a = served(0, alice);
	struct sim_client *b = sim_acquire(sim, last, alice, 0);
	struct sim_conn *opening = sim_opening(sim);
	pool_user_failed(opening->conn.shard, alice);
	list_remove(&opening->all);
	pool_conn_closed(&opening->conn, POOL_OPEN_NO_FAULT);
	free(opening);
	sim_deliver_all(sim);
	ck_assert_int_eq(b->outcome, SIM_WAITING);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_OPENING), 0);
	/* bob's logins go on meanwhile */
	struct sim_client *c = sim_acquire(sim, 0, bob, 0);
	sim_login_all(sim);
	ck_assert_int_eq(c->outcome, SIM_SERVED);
	sim_release(a);
	sim_deliver_all(sim);
	ck_assert_int_eq(b->outcome, SIM_SERVED);
	end();
}
END_TEST

START_TEST(user_goes_with_its_last_connection_and_client) {
	BEGIN(.max_size = 2);
	struct pool_user *carol = sim_user(sim, "carol");
	struct sim_client *client = served(0, carol);
	pool_user_unref(carol);
	sim_release(client);
	ck_assert_uint_eq(sim->users_freed, 0);
	sim_die(list_entry(list_first(&sim->conns), struct sim_conn, all));
	ck_assert_uint_eq(sim->users_freed, 1);
	bool created = false;
	carol = pool_user_get(sim->pool, "carol", &created);
	ck_assert(created);
	pool_user_unref(carol);
	end();
}
END_TEST

START_TEST(pool_in_use_is_not_freed) {
	BEGIN(.max_size = 2);
	served(0, alice);
	ck_assert(!pool_is_empty(sim->pool));
	pool_free(sim->pool);
	ck_assert_str_eq(pool_name(sim->pool), "sim");
	end();
}
END_TEST

int main(void) {
	Suite *suite = suite_create("pool");
	TCase *serving = tcase_create("serving"), *users = tcase_create("users");
	suite_add_tcase(suite, serving);
	suite_add_tcase(suite, users);
	tcase_add_loop_test(serving, idle_connection_is_handed_out_at_once, 0, 3);
	tcase_add_loop_test(serving, most_recently_used_connection_is_taken_first, 0, 3);
	tcase_add_loop_test(serving, connections_open_side_by_side_but_no_more_than_wait, 0, 3);
	tcase_add_loop_test(serving, bound_holds_over_all_workers_and_users, 0, 3);
	tcase_add_loop_test(serving, waiter_takes_the_first_that_becomes_free_not_the_one_opened_for_it, 0, 3);
	tcase_add_loop_test(serving, waiters_of_a_user_are_served_in_order, 0, 3);
	tcase_add_loop_test(serving, own_waiter_goes_first_within_the_stated_balance, 0, 3);
	tcase_add_loop_test(serving, own_waiter_goes_first_where_it_has_waited_nearly_as_long, 0, 3);
	tcase_add_loop_test(serving, just_after_a_move_own_waiter_goes_first_within_the_stated_unfairness, 0, 3);
	tcase_add_loop_test(serving, newcomer_overtakes_a_waiter_elsewhere_by_no_more_than_the_balance, 0, 3);
	tcase_add_loop_test(serving, waiter_for_whom_one_is_on_its_way_does_not_count_again, 0, 3);
	tcase_add_loop_test(serving, waiter_left_to_one_that_is_then_refused_gets_the_other, 0, 3);
	tcase_add_loop_test(serving, released_connection_reaches_the_waiter_of_another_worker, 0, 3);
	tcase_add_loop_test(serving, idle_connection_elsewhere_is_lent_rather_than_another_opened, 0, 3);
	tcase_add_loop_test(serving, idle_connection_taken_before_the_question_arrives_makes_another_open, 0, 3);
	tcase_add_loop_test(serving, one_waiter_gets_one_connection_though_several_become_free, 0, 3);
	tcase_add_loop_test(serving, connection_mailed_to_a_waiter_who_left_goes_to_the_next, 0, 3);
	tcase_add_loop_test(serving, connection_mailed_to_a_waiter_who_left_is_idle_where_it_arrives, 0, 3);
	tcase_add_loop_test(serving, permit_given_back_reaches_the_oldest_waiter_of_another_worker, 0, 3);
	tcase_add_loop_test(serving, opened_connection_goes_to_the_longest_waiter_wherever_it_is, 0, 3);
	tcase_add_loop_test(serving, refused_detach_loses_nothing, 0, 3);
	tcase_add_loop_test(serving, while_detach_is_refused_the_waiter_opens_one, 0, 3);
	tcase_add_loop_test(serving, waiting_ends_at_the_deadline_and_not_before, 0, 3);
	tcase_add_loop_test(serving, full_queue_rejects_at_once_counting_all_workers, 0, 3);
	tcase_add_loop_test(serving, cancelled_waiter_leaves_the_queue_at_once, 0, 3);
	tcase_add_loop_test(serving, release_from_within_serve_neither_recurs_nor_loses, 0, 3);
	tcase_add_loop_test(users, idle_connection_of_another_user_makes_room_least_recently_used_first, 0, 3);
	tcase_add_loop_test(users, no_more_idle_connections_are_closed_than_waiters_want, 0, 3);
	tcase_add_loop_test(users, free_permit_goes_to_the_user_with_the_fewest_connections, 0, 3);
	tcase_add_loop_test(users, starved_users_get_turns_at_no_more_than_the_stated_rate, 0, 3);
	tcase_add_loop_test(users, limit_of_a_user_holds_and_its_waiters_go_on_when_there_is_room, 0, 3);
	tcase_add_loop_test(users, a_user_may_have_a_bound_of_its_own, 0, 3);
	tcase_add_loop_test(users, hopeless_logins_fail_waiters_on_every_worker_at_once, 0, 3);
	tcase_add_loop_test(users, hopeless_logins_are_unseen_while_a_connection_of_the_user_works, 0, 3);
	tcase_add_loop_test(users, user_goes_with_its_last_connection_and_client, 0, 3);
	tcase_add_loop_test(users, pool_in_use_is_not_freed, 0, 3);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
