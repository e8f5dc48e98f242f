/* What the pool keeps, opens and closes by itself: min_idle, lifetimes, backoff, limits, its end. 1, 2, 8 workers. */
#include <check.h>
#include <stdlib.h>

#include "pool_case.h"

static const int worker_counts[] = {1, 2, 8};

#define BEGIN(...) begin_with(worker_counts[_i], &(struct pool_limits){__VA_ARGS__})

/* `n` idle connections, spread over the workers. */
static void idle(unsigned n, struct pool_user *user) {
	struct sim_client *client[64];
	for (unsigned i = 0; i < n; i++)
		client[i] = served((int)i % workers, user);
	for (unsigned i = 0; i < n; i++)
		sim_release(client[i]);
	sim_deliver_all(sim);
}

static struct sim_conn *any_conn(enum pool_conn_state state) {
	list_for_each(node, &sim->conns) {
		struct sim_conn *conn = list_entry(node, struct sim_conn, all);
		if (conn->conn.state == state)
			return conn;
	}
	return NULL;
}

static uint64_t next_wake(void) {
	uint64_t next = TIME_NEVER;
	for (int i = 0; i < workers; i++)
		next = sim->wake_ns[i] < next ? sim->wake_ns[i] : next;
	return next;
}

/* --- min_idle --- */

START_TEST(min_idle_is_filled_from_the_start_for_a_fixed_user_and_spread_over_workers) {
	BEGIN(.max_size = 20, .min_idle = 8);
	sim->login_ns = 10 * NS_PER_MS;
	sim_pass(sim, NS_PER_S);
	ck_assert_uint_eq(sim->opens, 0); /* nobody to open for */
	pool_user_set_fixed(alice, true);
	for (int i = 0; i < workers; i++)
		pool_shard_tick(pool_shard(sim->pool, i));
	struct pool_limits limits = pool_limits(sim->pool);
	sim_set_limits(sim, &limits);
	sim_pass(sim, NS_PER_S);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_IDLE), 8);
	for (int i = 0; i < workers; i++)
		ck_assert_uint_eq(atomic_load(&pool_shard_stats(pool_shard(sim->pool, i))->idle), 8 / workers);
	end();
}
END_TEST

START_TEST(min_idle_is_filled_again_after_deaths) {
	BEGIN(.max_size = 20, .min_idle = 5);
	sim->login_ns = 10 * NS_PER_MS;
	pool_user_set_fixed(alice, true);
	struct pool_limits limits = pool_limits(sim->pool);
	sim_set_limits(sim, &limits);
	sim_pass(sim, NS_PER_S);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_IDLE), 5);
	for (int i = 0; i < 3; i++)
		sim_die(any_conn(POOL_CONN_IDLE));
	sim_pass(sim, NS_PER_S);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_IDLE), 5);
	ck_assert_uint_eq(sim->opens, 8);
	end();
}
END_TEST

START_TEST(burst_that_uses_what_is_kept_idle_opens_nothing_for_min_idle) {
	BEGIN(.max_size = 20, .min_idle = 5);
	sim->login_ns = 150 * NS_PER_MS;
	pool_user_set_fixed(alice, true);
	struct pool_limits limits = pool_limits(sim->pool);
	sim_set_limits(sim, &limits);
	sim_pass(sim, NS_PER_S);
	ck_assert_uint_eq(sim->opens, 5);
	struct sim_client *client[5];
	for (int i = 0; i < 5; i++)
		client[i] = sim_acquire(sim, i % workers, alice, 0);
	sim_pass(sim, 140 * NS_PER_MS);
	ck_assert_uint_eq(sim->opens, 5);
	sim_pass(sim, NS_PER_S); /* they stay in use: five more are kept idle */
	ck_assert_uint_eq(sim->opens, 10);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_IDLE), 5);
	for (int i = 0; i < 5; i++)
		sim_release(client[i]);
	end();
}
END_TEST

START_TEST(min_idle_is_filled_when_logins_that_were_refused_work_again) {
	BEGIN(.max_size = 20, .min_idle = 3);
	pool_user_set_fixed(alice, true);
	struct pool_limits limits = pool_limits(sim->pool);
	sim_set_limits(sim, &limits);
	sim_deliver_all(sim);
	struct sim_conn *conn;
	while ((conn = sim_opening(sim)))
		sim_hopeless(conn);
	sim->login_ns = NS_PER_MS;
	sim_pass(sim, 10 * NS_PER_S);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_IDLE), 3);
	end();
}
END_TEST

START_TEST(pool_that_was_shut_serves_again_when_it_is_reopened) {
	BEGIN(.max_size = 3);
	sim->login_ns = NS_PER_MS;
	for (int i = 0; i < workers; i++)
		pool_shard_shut(pool_shard(sim->pool, i));
	ck_assert_int_eq(sim_acquire(sim, last, alice, 0)->outcome, SIM_FAILED);
	for (int i = 0; i < workers; i++) {
		pool_shard_reopen(pool_shard(sim->pool, i));
		pool_shard_tick(pool_shard(sim->pool, i));
	}
	struct sim_client *client = sim_acquire(sim, last, alice, 0);
	sim_pass(sim, NS_PER_S);
	ck_assert_int_eq(client->outcome, SIM_SERVED);
	end();
}
END_TEST

START_TEST(min_idle_follows_users_only_while_they_are_active) {
	BEGIN(.max_size = 20, .min_idle = 3, .idle_timeout = 10 * NS_PER_S);
	sim->login_ns = 10 * NS_PER_MS;
	struct sim_client *client = sim_acquire(sim, 0, bob, 0);
	sim_pass(sim, NS_PER_S);
	sim_release(client);
	sim_pass(sim, NS_PER_S);
	ck_assert_uint_ge(sim_count(sim, POOL_CONN_IDLE), 3);
	ck_assert_uint_eq(pool_user_size(alice), 0);
	sim_die(any_conn(POOL_CONN_IDLE));
	sim_pass(sim, NS_PER_S);
	ck_assert_uint_ge(sim_count(sim, POOL_CONN_IDLE), 3);
	sim_pass(sim, 20 * NS_PER_S);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_IDLE), 3);
	/* long gone: what is there stays, nothing new is opened */
	uint64_t opens = sim->opens;
	sim_die(any_conn(POOL_CONN_IDLE));
	sim_pass(sim, 20 * NS_PER_S);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_IDLE), 2);
	ck_assert_uint_eq(sim->opens, opens);
	end();
}
END_TEST

START_TEST(waiters_come_before_min_idle) {
	BEGIN(.max_size = 2, .min_idle = 2);
	pool_user_set_fixed(alice, true);
	struct sim_client *a = sim_acquire(sim, 0, bob, 0), *b = sim_acquire(sim, last, bob, 0);
	struct pool_limits limits = pool_limits(sim->pool);
	sim_set_limits(sim, &limits);
	sim_deliver_all(sim);
	ck_assert_uint_eq(pool_user_size(bob), 2);
	sim_login_all(sim);
	sim_deliver_all(sim);
	ck_assert_int_eq(a->outcome, SIM_SERVED);
	ck_assert_int_eq(b->outcome, SIM_SERVED);
	sim_pass(sim, NS_PER_S);
	ck_assert_uint_eq(pool_size(sim->pool), 2);
	end();
}
END_TEST

START_TEST(waiter_asks_for_an_idle_connection_though_one_is_opening_for_min_idle) {
	BEGIN(.max_size = 20, .min_idle = 1);
	struct sim_client *a = served(0, alice);
	pool_user_set_fixed(alice, true);
	struct pool_limits limits = pool_limits(sim->pool);
	limits.min_idle = 4;
	sim_set_limits(sim, &limits);
	sim_deliver_all(sim);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_OPENING), 3); /* one is there, and in use */
	sim_release(a);
	struct sim_client *b = sim_acquire(sim, last, alice, 0);
	sim_deliver_all(sim);
	ck_assert_int_eq(b->outcome, SIM_SERVED);
	sim_login_all(sim);
	end();
}
END_TEST

/* --- how long --- */

START_TEST(idle_timeout_trims_to_exactly_min_idle) {
	BEGIN(.max_size = 20, .min_idle = 3, .idle_timeout = 10 * NS_PER_S);
	sim->login_ns = NS_PER_MS;
	struct sim_client *client[12];
	for (int i = 0; i < 12; i++)
		client[i] = sim_acquire(sim, i % workers, i % 2 ? alice : bob, 0);
	sim_pass(sim, NS_PER_S);
	uint64_t released = 0;
	for (int i = 0; i < 12; i++) {
		sim_release(client[i]);
		sim_pass(sim, 100 * NS_PER_MS);
		released = released ? released : sim->now_ns;
	}
	unsigned all = pool_size(sim->pool);
	sim_pass(sim, released + 7 * NS_PER_S - sim->now_ns);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_IDLE), all);
	sim_pass(sim, 20 * NS_PER_S);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_IDLE), 3);
	ck_assert_str_eq(sim->last_reason, "idle_timeout");
	end();
}
END_TEST

START_TEST(idle_pool_asks_for_no_wake_up) {
	BEGIN(.max_size = 20, .min_idle = 3, .idle_timeout = 10 * NS_PER_S);
	ck_assert_uint_eq(next_wake(), TIME_NEVER);
	sim->login_ns = NS_PER_MS;
	struct sim_client *client = sim_acquire(sim, last, alice, 0);
	sim_pass(sim, NS_PER_S);
	sim_release(client);
	sim_pass(sim, 60 * NS_PER_S);
	ck_assert_uint_eq(next_wake(), TIME_NEVER);
	ck_assert_uint_lt(sim->ticks, 60);
	end();
}
END_TEST

START_TEST(validation_does_not_count_as_use) {
	BEGIN(.max_size = 4, .idle_timeout = 10 * NS_PER_S);
	struct sim_client *a = served(0, alice), *b = served(0, alice);
	struct sim_conn *old = a->conn, *young = b->conn;
	sim_release(a);
	sim->now_ns += NS_PER_S;
	sim_release(b);
	sim_pass(sim, 5 * NS_PER_S);
	pool_conn_take(&old->conn);
	ck_assert_int_eq(old->conn.state, POOL_CONN_BUSY);
	pool_release(&old->conn);
	sound();
	struct sim_client *c = sim_acquire(sim, 0, alice, 0);
	ck_assert_ptr_eq(c->conn, young);
	sim_pass(sim, 4 * NS_PER_S + 1);
	ck_assert_uint_eq(sim->closes, 1); /* the old one, 10 s after its last use */
	end();
}
END_TEST

START_TEST(max_lifetime_closes_idle_and_busy_ones_never_half_of_them_at_once) {
	BEGIN(.max_size = 40, .max_lifetime = 1000 * NS_PER_S);
	idle(40, alice);
	sim->login_ns = NS_PER_MS;
	struct sim_client *busy = sim_acquire(sim, 0, alice, 0);
	sim_pass(sim, 749 * NS_PER_S);
	ck_assert_uint_eq(pool_size(sim->pool), 40);
	unsigned before = 40;
	for (int s = 0; s < 252; s++) {
		sim_pass(sim, NS_PER_S);
		unsigned now = pool_size(sim->pool);
		ck_assert_uint_le(before, now + 5);
		before = now;
	}
	ck_assert_uint_le(sim->closes, 39);
	sim_pass(sim, 60 * NS_PER_S); /* those whose turn was late */
	ck_assert_uint_eq(sim->closes, 39);
	ck_assert_uint_eq(sim->opens, 41); /* the last idle one has a successor */
	sim_release(busy);
	ck_assert_uint_eq(sim->closes, 40);
	ck_assert_str_eq(sim->last_reason, "max_lifetime");
	end();
}
END_TEST

START_TEST(too_old_a_connection_is_not_handed_out_where_another_is_idle) {
	BEGIN(.max_size = 4, .max_lifetime = 1000 * NS_PER_S);
	struct sim_client *old = served(0, alice);
	sim->now_ns += 500 * NS_PER_S;
	struct sim_client *young = served(0, alice);
	struct sim_conn *good = young->conn;
	sim_release(young);
	sim->now_ns += NS_PER_MS;
	sim_release(old); /* the most recently used */
	sim->now_ns += 500 * NS_PER_S; /* no tick yet */
	struct sim_client *client = sim_acquire(sim, 0, alice, 0);
	ck_assert_ptr_eq(client->conn, good);
	ck_assert_uint_eq(sim->closes, 1);
	ck_assert_str_eq(sim->last_reason, "max_lifetime");
	end();
}
END_TEST

START_TEST(last_idle_one_is_closed_when_its_successor_is_there) {
	BEGIN(.max_size = 4, .max_lifetime = 1000 * NS_PER_S);
	idle(1, alice);
	sim->login_ns = 50 * NS_PER_MS;
	sim_pass(sim, 750 * NS_PER_S);
	ck_assert_uint_eq(sim->opens, 1);
	while (sim->opens == 1 && sim->now_ns < 2001 * NS_PER_S)
		sim_pass(sim, NS_PER_MS);
	ck_assert_uint_eq(sim->opens, 2);
	ck_assert_uint_eq(sim->closes, 0); /* both are there for a moment */
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_IDLE), 1);
	sim_pass(sim, 49 * NS_PER_MS);
	ck_assert_uint_eq(sim->closes, 0);
	sim_pass(sim, NS_PER_S);
	ck_assert_uint_eq(sim->closes, 1);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_IDLE), 1);
	end();
}
END_TEST

START_TEST(busy_one_that_has_expired_is_replaced_though_it_is_never_idle_for_long) {
	BEGIN(.max_size = 4, .max_lifetime = 1000 * NS_PER_S);
	struct sim_client *client = served(0, alice);
	sim->login_ns = 50 * NS_PER_MS;
	for (int i = 0; i < 1100 && sim->closes == 0; i++) {
		sim_pass(sim, NS_PER_S);
		sim_release(client);
		client = sim_acquire(sim, 0, alice, 0);
		ck_assert_int_eq(client->outcome, SIM_SERVED);
	}
	ck_assert_uint_eq(sim->closes, 1);
	ck_assert_str_eq(sim->last_reason, "max_lifetime");
	end();
}
END_TEST

START_TEST(what_works_is_not_retired_while_nothing_new_can_be_had) {
	BEGIN(.max_size = 4, .max_lifetime = 100 * NS_PER_S);
	idle(3, alice);
	sim->login_ns = NS_PER_MS;
	sim->logins_fail = true;
	sim_acquire(sim, 0, bob, 300 * NS_PER_S); /* its login fails, again and again */
	sim_pass(sim, 200 * NS_PER_S);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_IDLE), 3);
	sim->logins_fail = false;
	sim_pass(sim, 200 * NS_PER_S);
	ck_assert_uint_ge(sim->closes, 3);
	end();
}
END_TEST

START_TEST(retired_ones_close_idle_now_busy_at_release_opening_when_open) {
	BEGIN(.max_size = 10);
	idle(4, alice);
	struct sim_client *busy = sim_acquire(sim, 0, alice, 0);
	struct sim_client *waiting = sim_acquire(sim, last, bob, 0);
	for (int i = 0; i < workers; i++)
		pool_shard_retire(pool_shard(sim->pool, i));
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_IDLE), 0);
	ck_assert_uint_eq(sim->closes, 3);
	ck_assert_int_eq(busy->conn->conn.state, POOL_CONN_BUSY);
	sim_release(busy);
	ck_assert_uint_eq(sim->closes, 4);
	ck_assert_str_eq(sim->last_reason, "retired");
	sim_login(sim_opening(sim), true); /* begun before */
	ck_assert_uint_eq(sim->closes, 5);
	ck_assert_int_eq(waiting->outcome, SIM_WAITING);
	sim_login(sim_opening(sim), true);
	ck_assert_int_eq(waiting->outcome, SIM_SERVED);
	end();
}
END_TEST

START_TEST(connection_in_the_mail_is_retired_when_it_arrives) {
	if (worker_counts[_i] == 1)
		return;
	BEGIN(.max_size = 1);
	struct sim_client *holder = served(0, alice);
	struct sim_client *waiter = sim_acquire(sim, last, alice, 0);
	sim->now_ns += NS_PER_MS;
	sim_release(holder);
	for (int i = 0; i < workers; i++)
		pool_shard_retire(pool_shard(sim->pool, i));
	ck_assert_uint_eq(sim->closes, 0);
	sim_deliver_all(sim);
	ck_assert_uint_eq(sim->closes, 1);
	ck_assert_int_eq(waiter->outcome, SIM_WAITING);
	sim_login_all(sim);
	ck_assert_int_eq(waiter->outcome, SIM_SERVED);
	end();
}
END_TEST

/* --- new limits --- */

START_TEST(smaller_bound_closes_idle_ones_at_once_busy_ones_at_release_and_no_more) {
	BEGIN(.max_size = 12);
	idle(12, alice);
	struct sim_client *busy[6];
	for (int i = 0; i < 6; i++)
		busy[i] = sim_acquire(sim, i % workers, alice, 0);
	sim_deliver_all(sim);
	sim_set_limits(sim, &(struct pool_limits){.max_size = 4});
	sim_deliver_all(sim);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_IDLE), 0);
	ck_assert_uint_eq(pool_size(sim->pool), 6);
	for (int i = 0; i < 6; i++)
		sim_release(busy[i]);
	sim_deliver_all(sim);
	ck_assert_uint_eq(pool_size(sim->pool), 4);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_IDLE), 4);
	ck_assert_uint_eq(sim->closes, 8);
	end();
}
END_TEST

START_TEST(smaller_bound_with_slow_closing_closes_no_more_than_needed) {
	BEGIN(.max_size = 12);
	idle(12, alice);
	sim->close_later = true;
	sim_set_limits(sim, &(struct pool_limits){.max_size = 10});
	sim_deliver_all(sim);
	struct sim_client *client = sim_acquire(sim, last, alice, 0);
	sim_deliver_all(sim);
	sim_release(client);
	sim_deliver_all(sim);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_CLOSING), 2);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_IDLE), 10);
	end();
}
END_TEST

START_TEST(larger_bound_serves_waiters_at_once) {
	BEGIN(.max_size = 1);
	served(0, alice);
	struct sim_client *waiter[4];
	for (int i = 0; i < 4; i++)
		waiter[i] = sim_acquire(sim, (last + i) % workers, alice, 0);
	sim_set_limits(sim, &(struct pool_limits){.max_size = 4});
	sim_deliver_all(sim);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_OPENING), 3);
	sim_login_all(sim);
	sim_deliver_all(sim);
	ck_assert_uint_eq(sim_waiting(sim), 1);
	(void)waiter;
	end();
}
END_TEST

START_TEST(new_lifetime_applies_to_connections_that_are_there) {
	BEGIN(.max_size = 4);
	idle(2, alice);
	sim->login_ns = NS_PER_MS;
	sim_pass(sim, 100 * NS_PER_S);
	ck_assert_uint_eq(pool_size(sim->pool), 2);
	sim_set_limits(sim, &(struct pool_limits){.max_size = 4, .max_lifetime = 50 * NS_PER_S});
	sim_pass(sim, 1);
	ck_assert_uint_eq(sim->closes, 1); /* one after the other */
	sim_pass(sim, 10 * NS_PER_S);
	ck_assert_uint_eq(sim->closes, 2);
	end();
}
END_TEST

/* --- failures --- */

START_TEST(backoff_doubles_with_one_try_at_a_time_and_ends_with_a_success) {
	BEGIN(.max_size = 10);
	sim->login_ns = NS_PER_MS;
	sim->logins_fail = true;
	struct sim_client *client[20];
	for (int i = 0; i < 20; i++)
		client[i] = sim_acquire(sim, i % workers, i % 2 ? alice : bob, 0);
	ck_assert_uint_eq(sim->opens, 10);
	sim_pass(sim, NS_PER_MS);
	ck_assert_uint_eq(pool_size(sim->pool), 0); /* ten that fail together count as one failure */
	uint64_t last_opens = sim->opens, last_at = sim->now_ns, gap = 0;
	for (int ms = 0; ms < 30000; ms++) {
		sim_pass(sim, NS_PER_MS);
		ck_assert_uint_le(sim->opens - last_opens, 1);
		if (sim->opens != last_opens) {
			uint64_t now_gap = sim->now_ns - last_at;
			if (gap && now_gap < 3 * NS_PER_S)
				ck_assert(now_gap > gap);
			ck_assert(now_gap <= POOL_BACKOFF_MAX_NS + 3 * NS_PER_MS);
			gap = now_gap;
			last_at = sim->now_ns;
			last_opens = sim->opens;
		}
	}
	ck_assert(gap >= POOL_BACKOFF_MAX_NS * 3 / 4);
	ck_assert_uint_le(sim->opens, 10 + 9 + 7);
	ck_assert_uint_ge(sim->opens, 10 + 9 + 3);
	sim->logins_fail = false;
	sim_pass(sim, POOL_BACKOFF_MAX_NS + 10 * NS_PER_MS);
	ck_assert_uint_eq(pool_size(sim->pool), 10); /* after the first success all at once */
	ck_assert_uint_eq(sim_waiting(sim), 10);
	(void)client;
	end();
}
END_TEST

START_TEST(backend_known_to_be_back_ends_the_backoff) {
	BEGIN(.max_size = 10);
	sim->login_ns = NS_PER_MS;
	sim->logins_fail = true;
	sim_acquire(sim, last, alice, 0);
	sim_pass(sim, 10 * NS_PER_S);
	sim->logins_fail = false;
	pool_host_retry(sim->pool, 0);
	for (int i = 0; i < workers; i++)
		pool_shard_tick(pool_shard(sim->pool, i));
	sim_pass(sim, 2 * NS_PER_MS);
	ck_assert_uint_eq(sim_waiting(sim), 0);
	end();
}
END_TEST

START_TEST(open_that_cannot_begin_gives_its_permit_back_and_backs_off) {
	BEGIN(.max_size = 1);
	sim->cannot_begin = true;
	struct sim_client *client = sim_acquire(sim, last, alice, 0);
	ck_assert_uint_eq(pool_size(sim->pool), 0);
	ck_assert_uint_eq(sim->tries, 1);
	sim_pass(sim, NS_PER_S);
	ck_assert_uint_le(sim->tries, 8);
	sim->cannot_begin = false;
	sim->login_ns = NS_PER_MS;
	sim_pass(sim, 3 * NS_PER_S);
	ck_assert_int_eq(client->outcome, SIM_SERVED);
	end();
}
END_TEST

START_TEST(failing_logins_of_one_user_cost_others_at_most_one_working_connection) {
	BEGIN(.max_size = 6);
	idle(6, alice);
	sim->login_ns = NS_PER_MS;
	sim->logins_fail = true;
	for (int i = 0; i < 4; i++)
		sim_acquire(sim, i % workers, bob, 0);
	sim_pass(sim, 100 * NS_PER_MS);
	uint64_t closed_at_first = sim->closes;
	ck_assert_uint_le(closed_at_first, 4); /* before it was known */
	sim_pass(sim, 30 * NS_PER_S);
	ck_assert_uint_eq(sim->closes, closed_at_first);
	end();
}
END_TEST

START_TEST(connections_that_die_are_replaced_for_those_who_wait) {
	BEGIN(.max_size = 3);
	struct sim_client *holder[3];
	for (int i = 0; i < 3; i++)
		holder[i] = served(i % workers, alice);
	for (int i = 0; i < 3; i++)
		sim_acquire(sim, (last + i) % workers, alice, 0);
	sim_deliver_all(sim);
	for (int i = 0; i < 3; i++)
		sim_die(holder[i]->conn);
	sim_deliver_all(sim);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_OPENING), 3);
	sim_login_all(sim);
	sim_deliver_all(sim);
	ck_assert_uint_eq(sim_waiting(sim), 0);
	end();
}
END_TEST

/* --- the end --- */

START_TEST(shut_fails_waiters_closes_idle_ones_and_opens_no_more) {
	BEGIN(.max_size = 3, .min_idle = 2);
	struct sim_client *busy = served(0, alice);
	idle(1, bob);
	struct sim_client *opening = sim_acquire(sim, last, alice, 0);
	struct sim_client *waiting = sim_acquire(sim, 0, alice, 0);
	sim_deliver_all(sim);
	for (int i = 0; i < workers; i++)
		pool_shard_shut(pool_shard(sim->pool, i));
	sim_deliver_all(sim);
	ck_assert_int_eq(opening->why, POOL_FAIL_CLOSED);
	ck_assert_int_eq(waiting->why, POOL_FAIL_CLOSED);
	ck_assert_uint_eq(sim_count(sim, POOL_CONN_IDLE), 0);
	struct sim_client *late = sim_acquire(sim, last, alice, 0);
	ck_assert_int_eq(late->outcome, SIM_FAILED);
	ck_assert_int_eq(late->why, POOL_FAIL_CLOSED);
	sim_login_all(sim);
	sim_release(busy);
	sim_pass(sim, 10 * NS_PER_S);
	ck_assert_uint_eq(pool_size(sim->pool), 0);
	ck_assert_uint_eq(next_wake(), TIME_NEVER);
	end();
}
END_TEST

static void close_it(struct pool_conn *conn, void *context) {
	++*(unsigned *)context;
	sim_die(container_of(conn, struct sim_conn, conn));
}

static void cancel_it(struct pool_waiter *waiter, void *context) {
	++*(unsigned *)context;
	struct sim_client *client = container_of(waiter, struct sim_client, waiter);
	client->outcome = SIM_NONE;
	pool_waiter_cancel(waiter);
}

START_TEST(walk_over_connections_and_waiters_may_remove_them) {
	BEGIN(.max_size = 6);
	idle(4, alice);
	served(0, bob);
	served(0, bob);
	struct sim_client *w = sim_acquire(sim, 0, bob, 0);
	sim_acquire(sim, 0, bob, NS_PER_S);
	sim_deliver_all(sim);
	unsigned conns = 0, waiters = 0, before = 0;
	before = (unsigned)pool_size(sim->pool);
	pool_shard_each_waiter(pool_shard(sim->pool, 0), cancel_it, &waiters);
	ck_assert_uint_eq(waiters, 2);
	ck_assert(!w->waiter.waiting);
	for (int i = 0; i < workers; i++)
		pool_shard_each_conn(pool_shard(sim->pool, i), close_it, &conns);
	ck_assert_uint_eq(conns, before);
	ck_assert_uint_eq(pool_size(sim->pool), 0);
	end();
}
END_TEST

START_TEST(counters_tell_what_happened) {
	BEGIN(.max_size = 2);
	struct sim_client *a = served(0, alice);
	sim_pass(sim, 3 * NS_PER_S);
	sim_release(a);
	sim_acquire(sim, 0, alice, 0);
	sim_acquire(sim, 0, alice, 0);
	sim_login(sim_opening(sim), false);
	const struct pool_shard_stats *stats = pool_shard_stats(pool_shard(sim->pool, 0));
	ck_assert_uint_eq(stat_read(&stats->opened), 1);
	ck_assert_uint_eq(stat_read(&stats->open_failed), 1);
	ck_assert_uint_eq(stat_read(&stats->closed), 0);
	ck_assert_uint_eq(stat_read(&stats->acquires), 2);
	ck_assert_uint_eq(stat_read(&stats->waits), 2);
	ck_assert_uint_eq(stat_read(&stats->busy_ns), 3 * NS_PER_S);
	ck_assert_uint_eq(atomic_load(&stats->busy), 1);
	ck_assert_uint_eq(atomic_load(&stats->waiting), 1);
	ck_assert_uint_eq(atomic_load(&stats->oldest_wait_ns), sim->now_ns);
	end();
}
END_TEST

int main(void) {
	Suite *suite = suite_create("pool_keep");
	TCase *tc = tcase_create("keep");
	suite_add_tcase(suite, tc);
	tcase_add_loop_test(tc, min_idle_is_filled_from_the_start_for_a_fixed_user_and_spread_over_workers, 0, 3);
	tcase_add_loop_test(tc, min_idle_is_filled_again_after_deaths, 0, 3);
	tcase_add_loop_test(tc, burst_that_uses_what_is_kept_idle_opens_nothing_for_min_idle, 0, 3);
	tcase_add_loop_test(tc, min_idle_is_filled_when_logins_that_were_refused_work_again, 0, 3);
	tcase_add_loop_test(tc, pool_that_was_shut_serves_again_when_it_is_reopened, 0, 3);
	tcase_add_loop_test(tc, min_idle_follows_users_only_while_they_are_active, 0, 3);
	tcase_add_loop_test(tc, waiters_come_before_min_idle, 0, 3);
	tcase_add_loop_test(tc, waiter_asks_for_an_idle_connection_though_one_is_opening_for_min_idle, 0, 3);
	tcase_add_loop_test(tc, idle_timeout_trims_to_exactly_min_idle, 0, 3);
	tcase_add_loop_test(tc, idle_pool_asks_for_no_wake_up, 0, 3);
	tcase_add_loop_test(tc, validation_does_not_count_as_use, 0, 3);
	tcase_add_loop_test(tc, max_lifetime_closes_idle_and_busy_ones_never_half_of_them_at_once, 0, 3);
	tcase_add_loop_test(tc, too_old_a_connection_is_not_handed_out_where_another_is_idle, 0, 3);
	tcase_add_loop_test(tc, last_idle_one_is_closed_when_its_successor_is_there, 0, 3);
	tcase_add_loop_test(tc, busy_one_that_has_expired_is_replaced_though_it_is_never_idle_for_long, 0, 3);
	tcase_add_loop_test(tc, what_works_is_not_retired_while_nothing_new_can_be_had, 0, 3);
	tcase_add_loop_test(tc, retired_ones_close_idle_now_busy_at_release_opening_when_open, 0, 3);
	tcase_add_loop_test(tc, connection_in_the_mail_is_retired_when_it_arrives, 0, 3);
	tcase_add_loop_test(tc, smaller_bound_closes_idle_ones_at_once_busy_ones_at_release_and_no_more, 0, 3);
	tcase_add_loop_test(tc, smaller_bound_with_slow_closing_closes_no_more_than_needed, 0, 3);
	tcase_add_loop_test(tc, larger_bound_serves_waiters_at_once, 0, 3);
	tcase_add_loop_test(tc, new_lifetime_applies_to_connections_that_are_there, 0, 3);
	tcase_add_loop_test(tc, backoff_doubles_with_one_try_at_a_time_and_ends_with_a_success, 0, 3);
	tcase_add_loop_test(tc, backend_known_to_be_back_ends_the_backoff, 0, 3);
	tcase_add_loop_test(tc, open_that_cannot_begin_gives_its_permit_back_and_backs_off, 0, 3);
	tcase_add_loop_test(tc, failing_logins_of_one_user_cost_others_at_most_one_working_connection, 0, 3);
	tcase_add_loop_test(tc, connections_that_die_are_replaced_for_those_who_wait, 0, 3);
	tcase_add_loop_test(tc, shut_fails_waiters_closes_idle_ones_and_opens_no_more, 0, 3);
	tcase_add_loop_test(tc, walk_over_connections_and_waiters_may_remove_them, 0, 3);
	tcase_add_loop_test(tc, counters_tell_what_happened, 0, 3);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
