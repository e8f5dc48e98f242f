/*
 * The tests' own instruments, tried on PostgreSQL itself: that the load, the sampler, the nodes and their networks do and
 * see what the tests of the pool take for granted.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "detour.h"
#include "load.h"
#include "query.h"
#include "sampler.h"

START_TEST(instruments_see_every_connection_and_every_error) {
	struct node *node = node_new(NULL, NULL);
	struct sampler *sampler = sampler_start(node, 9);
	struct load *load = load_start(&(struct load_setup){.host = node->dir, .port = node->port, .clients = 10,
							     .sql = "select pg_sleep(0.002)", .pause_ms = 1});
	PGconn *control = node_control(node);
	struct samples samples;
	long long from = cluster_now_us(), until, deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	load_await(load, 500);
	until = cluster_now_us();
	do {
		ck_assert_msg(harness_now_ms() < deadline, "the sampler does not see what is there");
		harness_pause_ms(2);
		samples = sampler_get(sampler);
	} while (samples.over == 0);
	ck_assert_int_eq(samples.most, 10);
	ck_assert_int_eq(load_errors(load, 0, LLONG_MAX), 0);
	ck_assert_int_ge(load_percentile(load, from, until, 0.5), 2000);
	/* A stop of the server is seen as a gap, and told by nothing else. */
	from = cluster_now_us();
	node_freeze(node);
	harness_pause_ms(500);
	ck_assert_int_ge(load_longest_wait_us(load), 450000);
	node_thaw(node);
	load_await(load, 50);
	ck_assert_int_ge(load_longest_gap(load, from, cluster_now_us()), 450000);
	ck_assert_int_ge(load_first_done(load, from + 100000), from + 400000);
	ck_assert_int_eq(load_errors(load, 0, LLONG_MAX), 0);
	/* An end is an error for each, and each comes back. */
	execute(control, "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'");
	load_await(load, 100);
	ck_assert_int_ge(load_errors_with(load, "57P01"), 1);
	ck_assert_int_le(load_errors(load, 0, LLONG_MAX), 10);
	load_stop(load);
	sampler_stop(sampler);
	ck_assert_int_eq(load_hung(load), 0);
	load_free(load);
	sampler_free(sampler);
	PQfinish(control);
	node_free(node);
}
END_TEST

START_TEST(instruments_see_a_client_that_hangs) {
	struct node *node = node_new(NULL, NULL);
	struct load *load = load_start(&(struct load_setup){.host = node->dir, .port = node->port, .clients = 3,
							     .sql = "select pg_sleep(0.01)", .drain_ms = 300});

	load_await(load, 3);
	node_freeze(node);
	load_stop(load);
	ck_assert_int_eq(load_hung(load), 3);
	load_free(load);
	node_thaw(node);
	node_free(node);
}
END_TEST

START_TEST(instruments_make_a_pair_change_places) {
	struct node *first = node_new(NULL, NULL), *second = node_standby(first);
	PGconn *on_first = node_control(first), *on_second = node_control(second);

	execute(on_first, "create table t(v int); insert into t values (1)");
	await_value(on_second, "select count(*) from pg_class where relname = 't'", "1");
	expect_value(on_first, "select pg_is_in_recovery()", "f");
	expect_value(on_second, "select pg_is_in_recovery()", "t");
	PQfinish(on_first);
	node_stop(first, STOP_IMMEDIATE);
	node_promote(second);
	/* Connections live on through a promotion. */
	execute(on_second, "insert into t values (2)");
	node_demote(first);
	node_start(first);
	on_first = node_control(first);
	expect_value(on_first, "select pg_is_in_recovery()", "t");
	expect_error(on_first, "insert into t values (3)", "25006");
	PQfinish(on_first);
	PQfinish(on_second);
	node_free(first);
	node_free(second);
}
END_TEST

START_TEST(instruments_lose_packets_and_count_connects) {
	struct network *network = network_new();
	struct node *node;
	struct black_hole hole;
	struct forebay pretended = {0};
	PGconn *conn;
	long before;

	if (!network)
		return;
	node = node_new(NULL, network);
	pretended.port = node->port;
	conn = connect_with(&pretended, "host=%s", node->host);
	ck_assert_int_eq(network_sockets_to(node->host, node->port).established, 1);
	network_silence(network, true);
	send_query(conn, "select 1");
	harness_pause_ms(300);
	ck_assert(PQconsumeInput(conn) && PQisBusy(conn));
	network_silence(network, false);
	expect_result(next_result(conn), PGRES_TUPLES_OK);
	ck_assert_ptr_null(next_result(conn));
	/* One that is let in, and two that are not; the superuser's by the Unix socket do not count. */
	PQfinish(try_connect(&pretended, "host=%s password=wrong", node->host));
	PQfinish(try_connect(&pretended, "host=%s dbname=nowhere", node->host));
	ck_assert_int_eq(node_visits(node).attempts, 3);
	ck_assert_int_eq(node_visits(node).denied, 1);
	PQfinish(conn);
	before = network_failed_connects();
	pretended.port = harness_free_port();
	PQfinish(try_connect(&pretended, "host=127.0.0.1"));
	ck_assert_int_eq(network_failed_connects(), before + 1);
	black_hole_dig(&hole, pretended.port);
	ck_assert_int_eq(network_sockets_to("127.0.0.1", hole.port).connecting, 0);
	{
		char info[100];

		snprintf(info, sizeof(info), "host=127.0.0.1 port=%d user=app", hole.port);
		conn = PQconnectStart(info);
		harness_pause_ms(100);
		ck_assert_int_eq(PQconnectPoll(conn), PGRES_POLLING_WRITING);
		ck_assert_int_eq(network_sockets_to("127.0.0.1", hole.port).connecting, 1);
		PQfinish(conn);
	}
	black_hole_fill_in(&hole);
	node_free(node);
	network_free(network);
}
END_TEST

START_TEST(instruments_delay_logins_and_count_them) {
	struct node *node = node_new(NULL, NULL);
	struct detour *detour = detour_start(node, 150);
	struct forebay pretended = {.port = detour_port(detour)};
	long long began = harness_now_ms();
	PGconn *conn = connect_app(&pretended);

	ck_assert_int_ge(harness_now_ms() - began, 149);
	expect_value(conn, "select 1", "1");
	ck_assert_int_eq(detour_accepted(detour), 1);
	ck_assert_int_eq(detour_open(detour), 1);
	detour_silence(detour, true);
	send_query(conn, "select 2");
	harness_pause_ms(100);
	ck_assert(PQconsumeInput(conn) && PQisBusy(conn));
	detour_silence(detour, false);
	expect_text(next_result(conn), "2");
	PQfinish(conn);
	for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS; detour_open(detour) > 0; harness_pause_ms(2))
		ck_assert_msg(harness_now_ms() < deadline, "the connection is not closed");
	detour_stop(detour);
	node_free(node);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("instruments");
	TCase *tcase = tcase_create("instruments");

	harness_begin(NULL);
	cluster_begin();
	tcase_set_timeout(tcase, 60);
	suite_add_tcase(suite, tcase);
	tcase_add_test(tcase, instruments_see_every_connection_and_every_error);
	tcase_add_test(tcase, instruments_see_a_client_that_hangs);
	tcase_add_test(tcase, instruments_make_a_pair_change_places);
	tcase_add_test(tcase, instruments_lose_packets_and_count_connects);
	tcase_add_test(tcase, instruments_delay_logins_and_count_them);
	return harness_run(suite);
}
