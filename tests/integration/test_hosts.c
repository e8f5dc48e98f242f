/*
 * What becomes of clients when the way to their database leads nowhere, or to another host: drills as in test_drills.c.
 * Packets are lost in a network of the test's own; where it may not have one (it runs as another user than root) it says
 * so and leaves that out.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "detour.h"
#include "drill.h"

/* --- a database that does not answer --- */

enum { MONITORS = 1 }; /* may be trying too, and cannot be told apart by its socket */

static int most_connecting(const struct node *node, int port, int for_ms) {
	long long until = harness_now_ms() + for_ms;
	int most = 0;

	do {
		int connecting = network_connecting_to(node->host, port);

		most = connecting > most ? connecting : most;
		harness_pause_ms(3);
	} while (harness_now_ms() < until);
	return most;
}

START_TEST(black_hole_is_named_and_gets_few_connects) {
	static const char *const words[] = {"timed out", "time out", "no answer", "did not answer", "connect_timeout", NULL};
	struct drill drill;
	struct black_hole hole;
	struct node *node;
	int most;

	if (drill_skip())
		return;
	network_private();
	node = node_new(NULL, NULL);
	node_stop(node, STOP_FAST);
	black_hole_dig(&hole, node->port);
	drill = drill_begin(&(struct drill_setup){.name = "black hole", .workers = WORKERS(_i), .node = node, .impatient = true,
						  .pool = "connect_timeout = 1s\nacquire_timeout = 3s"});
	most = most_connecting(node, node->port, 4500);
	expect_at_most(&drill, "connects at a time", most, SERVERS + MONITORS);
	load_print_errors(drill.load, drill.name);
	ck_assert_int_ge(load_errors(drill.load, drill.struck, LLONG_MAX), CLIENTS);
	ck_assert_msg(load_longest_wait_us(drill.load) < 4000000LL * SLOWNESS, "somebody has waited for %lld us",
		      load_longest_wait_us(drill.load));
	if (load_errors_without(drill.load, words) != 0) {
		load_print_errors(drill.load, drill.name);
		blame(&drill, "errors do not say what was the case");
	}
	/* That is for a pool that is full. */
	if (load_errors_with(drill.load, "raise max_size") != 0)
		blame(&drill, "%d errors say to raise max_size", load_errors_with(drill.load, "raise max_size"));
	black_hole_fill_in(&hole);
	node_start(node);
	/* Attempts under way end by connect_timeout, and then there is the longest pause between two. */
	expect_served_within(&drill, node->ready_us, 6500);
	drill_end(&drill);
}
END_TEST

START_TEST(other_host_takes_over_from_a_black_hole) {
	struct drill drill;
	struct black_hole hole;
	char hosts[100];
	int most;

	if (drill_skip())
		return;
	network_private();
	{
		struct node *node = node_new(NULL, NULL);

		black_hole_dig(&hole, harness_free_port());
		snprintf(hosts, sizeof(hosts), "127.0.0.1:%d, 127.0.0.1:%d", hole.port, node->port);
		drill = drill_begin(&(struct drill_setup){.name = "black hole and another host", .workers = WORKERS(_i), .node = node,
							  .hosts = hosts, .impatient = true, .pool = "connect_timeout = 1s"});
	}
	most = most_connecting(drill.node, hole.port, 2500);
	expect_at_most(&drill, "connects at a time", most, SERVERS + MONITORS);
	expect_served_within(&drill, drill.began, 2500);
	expect_errors(&drill, 0, NULL);
	await_connections(&drill, SERVERS, RECOVERY_MS);
	/* And it stays so, however often the hole is tried. */
	drill.struck = cluster_now_us();
	load_await(drill.load, 1000);
	expect_at_most(&drill, "ms without service", (long)(load_longest_gap(drill.load, drill.struck, cluster_now_us()) / 1000),
		       500 * SLOWNESS);
	black_hole_fill_in(&hole);
	drill_end(&drill);
}
END_TEST

/* Without probes of the host, which would find it out too. */
static const char SILENCE_PROCESS[] = "tcp_keepalive_idle = 1s\ntcp_user_timeout = 2s";
static const char SILENCE_POOL[] = "connect_timeout = 1s\nkeepalive_interval = 1s\nvalidation_timeout = 1s\nidle_timeout = 0\n"
				   "monitor_interval = 0";

static void await_no_sockets(struct drill *drill, const char *host, int port, int limit_ms) {
	long long began = harness_now_ms();
	int left;

	while ((left = network_sockets_to(host, port).established) > 0) {
		if (harness_now_ms() - began > (long long)limit_ms * SLOWNESS) {
			blame(drill, "%d silent connections are still kept after %d ms", left, limit_ms);
			return;
		}
		harness_pause_ms(5);
	}
	printf("drill, %s, %d workers: the last silent connection was closed after %lld ms\n", drill->name, drill->workers,
	       harness_now_ms() - began);
}

START_TEST(idle_connections_that_answer_no_more_are_found_by_keepalive) {
	struct drill drill;
	struct detour *detour;
	struct node *node;
	char hosts[64];

	if (drill_skip())
		return;
	network_private();
	node = node_new(NULL, NULL);
	detour = detour_start(node, 0);
	snprintf(hosts, sizeof(hosts), "127.0.0.1:%d", detour_port(detour));
	drill = drill_begin_at_full_speed(&(struct drill_setup){.name = "idle and deaf", .workers = WORKERS(_i), .node = node,
								.hosts = hosts, .pool = SILENCE_POOL});
	load_stop(drill.load);
	ck_assert_int_eq(load_hung(drill.load), 0);
	ck_assert_int_eq(load_errors(drill.load, 0, LLONG_MAX), 0);
	load_free(drill.load);
	drill.load = NULL;
	/* All their answers get lost; TCP itself is well. New connections are no better, and end by connect_timeout. */
	detour_silence(detour, true);
	{
		int accepted = detour_accepted(detour);
		long long began = harness_now_ms();

		/* Each is closed at the next proof: keepalive_interval, a tenth of it for chance, and validation_timeout. */
		while (detour_accepted(detour) - accepted < 1) {
			if (harness_now_ms() - began > 3000LL * SLOWNESS) {
				blame(&drill, "no deaf connection was replaced in 3 s");
				break;
			}
			harness_pause_ms(5);
		}
		printf("drill, %s, %d workers: found after %lld ms\n", drill.name, drill.workers, harness_now_ms() - began);
	}
	harness_pause_ms(2000);
	detour_silence(detour, false);
	/* Back without a hand: a newcomer is served, and quickly. */
	{
		PGconn *conn = connect_app(drill.forebay);
		long long began = harness_now_ms();

		expect_value(conn, "select 'well'", "well");
		ck_assert_int_le(harness_now_ms() - began, 6500LL * SLOWNESS);
		PQfinish(conn);
	}
	expect_bystanders_unmoved(&drill);
	drill_free(&drill);
	detour_stop(detour);
}
END_TEST

START_TEST(idle_connections_whose_packets_are_lost_are_found_in_the_stated_time) {
	struct network *network;
	struct drill drill;
	int most;

	if (drill_skip() || !(network = network_new()))
		return;
	drill = drill_begin_at_full_speed(&(struct drill_setup){.name = "idle and silent", .workers = WORKERS(_i), .network = network,
								.process = SILENCE_PROCESS, .pool = SILENCE_POOL});
	load_stop(drill.load);
	ck_assert_int_eq(load_hung(drill.load), 0);
	load_free(drill.load);
	drill.load = NULL;
	ck_assert_int_eq(network_sockets_to(drill.node->host, drill.node->port).established, SERVERS);
	network_silence(network, true);
	drill_strike(&drill);
	/* keepalive_interval + validation_timeout, or TCP's own tcp_keepalive_idle + tcp_user_timeout, and a second. */
	await_no_sockets(&drill, drill.node->host, drill.node->port, 4000);
	most = most_connecting(drill.node, drill.node->port, 1500);
	expect_at_most(&drill, "connects at a time", most, SERVERS);
	network_silence(network, false);
	{
		PGconn *conn = connect_app(drill.forebay);

		expect_value(conn, "select 'well'", "well");
		PQfinish(conn);
	}
	expect_bystanders_unmoved(&drill);
	drill_free(&drill);
	network_free(network);
}
END_TEST

/* Under short queries bytes are on their way that nobody acknowledges; under long ones none are. */
static void lose_packets_of_the_busy(const char *name, int workers, const char *sql) {
	struct network *network;
	struct drill drill;
	long long over;
	int most;

	if (drill_skip() || !(network = network_new()))
		return;
	drill = drill_begin(&(struct drill_setup){.name = name, .workers = workers, .network = network, .sql = sql,
						  .process = SILENCE_PROCESS, .pool = SILENCE_POOL});
	await_connections(&drill, SERVERS, RECOVERY_MS);
	await_value(drill.control, "select count(*) >= 5 from pg_stat_activity where usename = 'app' and state = 'active'", "t");
	/* The last bytes are acknowledged by now where nothing moves. */
	harness_pause_ms(300);
	network_silence(network, true);
	drill_strike(&drill);
	await_no_sockets(&drill, drill.node->host, drill.node->port, 4000);
	most = most_connecting(drill.node, drill.node->port, 1500);
	expect_at_most(&drill, "connects at a time", most, SERVERS);
	network_silence(network, false);
	over = cluster_now_us();
	/* An attempt under way, and the longest pause between two. */
	expect_served_within(&drill, over, 6500);
	expect_errors(&drill, SERVERS,
		      (const char *const[]){"connection to the backend was lost", "timed out", "time out", "08006", NULL});
	/* PostgreSQL goes on with what nobody waits for any more: its own keepalive would take hours. */
	execute(drill.control, "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app' and "
			       "state = 'active' and query_start < clock_timestamp() - interval '1 second'");
	drill_end(&drill);
	network_free(network);
}

START_TEST(busy_connections_whose_packets_are_lost_are_found_in_the_stated_time) {
	lose_packets_of_the_busy("busy and silent", WORKERS(_i), "select pg_sleep(0.02)");
}
END_TEST

START_TEST(long_queries_whose_packets_are_lost_are_found_in_the_stated_time) {
	/* Long for the first ones that are asked, so that the pool's recovery is seen soon. */
	lose_packets_of_the_busy("long and silent", WORKERS(_i),
				 "select pg_sleep(case when nextval('asked') <= 10 then 60 else 0.02 end)");
}
END_TEST

/* --- two hosts that change places --- */

static int connections_of(PGconn *control, const char *user) {
	return (int)query_long(control, "select count(*) from pg_stat_activity where usename = '%s'", user);
}

static void await_connections_of(PGconn *control, const char *user, int most, int limit_ms, const char *what) {
	long long began = harness_now_ms();
	int n;

	while ((n = connections_of(control, user)) > most) {
		ck_assert_msg(harness_now_ms() - began < (long long)limit_ms * SLOWNESS, "%s: still %d", what, n);
		harness_pause_ms(5);
	}
	printf("drill, failover: %s, after %lld ms\n", what, harness_now_ms() - began);
}

START_TEST(writes_follow_the_primary_and_connections_to_the_demoted_go) {
	static const char *const users[] = {"md5user", NULL};
	struct drill drill;
	struct node *first, *second;
	struct load *readers;
	PGconn *on_first, *on_second;
	char hosts[100], more[800];
	long long settled;

	if (drill_skip())
		return;
	network_private();
	first = node_new(NULL, NULL);
	second = node_standby(first);
	on_first = node_control(first);
	on_second = node_control(second);
	execute(on_first, "create table writes(v int); alter table writes owner to app");
	await_value(on_second, "select count(*) from pg_class where relname = 'writes'", "1");
	snprintf(hosts, sizeof(hosts), "127.0.0.1:%d, 127.0.0.1:%d", first->port, second->port);
	/* Readers want a standby and nothing else: their query fails elsewhere. */
	snprintf(more, sizeof(more),
		 "[pool:reader]\nprotocol = postgresql\nhosts = %s\ntarget = standby\ndatabase = app\nmax_size = 5\nmin_idle = 2\n"
		 "tls_mode = disable\nmonitor_interval = 500ms\nconnect_timeout = 1s\nmonitor_user = " PROBER
		 "\nmonitor_password = " PROBER "-secret\n",
		 hosts);
	drill = drill_begin(&(struct drill_setup){.name = "failover", .workers = WORKERS(_i), .node = first, .hosts = hosts,
						  .more = more, .sql = "insert into writes values (1)",
						  .pool = "target = primary\nmonitor_interval = 500ms\nconnect_timeout = 1s"});
	readers = load_start(&(struct load_setup){.port = drill.forebay->port, .database = "reader", .users = users, .clients = 20,
						  .sql = "select 1/(pg_is_in_recovery()::int), pg_sleep(0.02)"});
	load_await(drill.load, 300);
	load_await(readers, 100);
	load_print_errors(drill.load, "writers, before");
	load_print_errors(readers, "readers, before");
	ck_assert_int_eq(load_errors(drill.load, 0, LLONG_MAX), 0);
	ck_assert_int_eq(load_errors(readers, 0, LLONG_MAX), 0);
	ck_assert_int_eq(connections_of(on_second, "app"), 0);
	ck_assert_int_eq(connections_of(on_first, "md5user"), 0);

	drill_strike(&drill);
	PQfinish(on_first);
	PQfinish(drill.control);
	drill.control = NULL;
	node_stop(first, STOP_IMMEDIATE);
	node_promote(second);
	settled = second->ready_us;
	/* Noticed by the next probe, and then a login. */
	expect_served_within(&drill, settled, 1500);
	expect_errors(&drill, SERVERS, (const char *const[]){"57P01", "57P02", "connection to the backend was lost", NULL});
	/* Nobody reads from what is no standby any more, idle or busy. */
	await_connections_of(on_second, "md5user", 0, 2000, "readers' connections to the promoted host have gone");
	settled = cluster_now_us();

	node_demote(first);
	node_start(first);
	on_first = node_control(first);
	drill.control = node_control(second);
	expect_value(on_first, "select pg_is_in_recovery()", "t");
	/* Readers come back to it, writers do not. */
	load_await(readers, 100);
	load_await(drill.load, 500);
	ck_assert_int_eq(connections_of(on_first, "app"), 0);
	ck_assert_int_eq(connections_of(on_second, "md5user"), 0);
	ck_assert_int_gt(connections_of(on_first, "md5user"), 0);
	load_stop(readers);
	load_print_errors(readers, "readers");
	ck_assert_int_eq(load_hung(readers), 0);
	ck_assert_int_eq(load_errors(readers, settled, LLONG_MAX), 0);
	load_free(readers);
	expect_errors(&drill, SERVERS, DRILL_LOST);
	await_connections(&drill, SERVERS, RECOVERY_MS);
	PQfinish(on_first);
	PQfinish(on_second);
	drill_end(&drill);
	node_free(second);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("hosts");
	TCase *tcase;

	harness_begin(NULL);
	cluster_begin();
	tcase = drill_case(suite, "blackhole");
	DRILL(tcase, black_hole_is_named_and_gets_few_connects);
	DRILL(tcase, other_host_takes_over_from_a_black_hole);
	tcase = drill_case(suite, "silence");
	DRILL(tcase, idle_connections_that_answer_no_more_are_found_by_keepalive);
	DRILL(tcase, idle_connections_whose_packets_are_lost_are_found_in_the_stated_time);
	DRILL(tcase, busy_connections_whose_packets_are_lost_are_found_in_the_stated_time);
	DRILL(tcase, long_queries_whose_packets_are_lost_are_found_in_the_stated_time);
	tcase = drill_case(suite, "failover");
	DRILL(tcase, writes_follow_the_primary_and_connections_to_the_demoted_go);
	return harness_run(suite);
}
