/*
 * What becomes of clients when something happens to their database: a hundred of them on a pool of ten, one drill after
 * another, each with a server of its own. All the while a second pool on another server has clients too, who must notice
 * nothing. In each drill errors say what was the case, nobody hangs, and all is well again without a hand.
 *
 * Where the test may have a network of its own (as root), attempts to connect are counted and packets lost; else it says
 * what it left out. Times are strict in a plain build.
 *
 * FOREBAY_DRILLS=full runs each with 1 worker as well as with 4.
 */
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "detour.h"
#include "load.h"
#include "query.h"
#include "wire.h"

enum { CLIENTS = 100, SERVERS = 10, BYSTANDERS = 5 };

/* How long things are broken: on sanitizers not as long, for there is more to do then. */
enum { OUTAGE_MS = SLOWNESS > 1 ? 2000 : 5000, STANDSTILL_MS = SLOWNESS > 1 ? 3000 : 8000 };

/* How long what others do in between may last at most before the pool must be whole again. */
enum { RECOVERY_MS = 10000 };

struct drill {
	const char *name;
	int workers;
	bool private;
	struct node *node;
	struct forebay *forebay;
	struct load *load, *bystanders;
	PGconn *control; /* of the node; not there while it is down */
	long long began, struck, over;
	struct node_visits visits;
	long failed_connects;
	char blame[1000]; /* what was not as it should be, so far: a drill is seen through to its end */
};

struct drill_setup {
	const char *name, *pool, *process, *more, *hosts, *sql;
	int workers, size, clients; /* size 0: SERVERS; clients 0: CLIENTS, -1: none */
	bool parked, impatient;
	struct network *network;
	struct node *node;    /* NULL: a new one */
};

/* Errors of those whose connection to the database was lost under their query. */
static const char *const LOST[] = {"57P01", "57P02", "connection to the backend was lost", NULL};

static bool skip(void) {
	return harness_direct();
}

__attribute__((format(printf, 2, 3))) static void blame(struct drill *drill, const char *fmt, ...) {
	size_t len = strlen(drill->blame);
	va_list ap;

	va_start(ap, fmt);
	if (len + 3 < sizeof(drill->blame)) {
		len += (size_t)snprintf(drill->blame + len, sizeof(drill->blame) - len, "%s", len ? "; " : "");
		vsnprintf(drill->blame + len, sizeof(drill->blame) - len, fmt, ap);
	}
	va_end(ap);
}

static int count_connections(PGconn *control) {
	return (int)query_long(control, "select count(*) from pg_stat_activity where backend_type = 'client backend' and "
					"usename not in ('postgres', '" PROBER "') and application_name <> 'forebay monitor'");
}

static void await_connections(struct drill *drill, int n, int timeout_ms) {
	long long deadline = harness_now_ms() + (long long)timeout_ms * SLOWNESS;

	while (count_connections(drill->control) != n) {
		ck_assert_msg(harness_now_ms() < deadline, "%s: the pool has %d connections, not %d (before: %s)", drill->name,
			      count_connections(drill->control), n, drill->blame[0] ? drill->blame : "all well");
		harness_pause_ms(5);
	}
}

static void strike(struct drill *drill) {
	drill->visits = node_visits(drill->node);
	drill->failed_connects = network_failed_connects();
	drill->struck = cluster_now_us();
	drill->over = 0;
}

static int attempts(const struct drill *drill) {
	return node_visits(drill->node).attempts - drill->visits.attempts;
}

static int denied(const struct drill *drill) {
	return node_visits(drill->node).denied - drill->visits.denied;
}

/* Connects that were refused or led nowhere; -1: not known. */
static long refused(const struct drill *drill) {
	return drill->private ? network_failed_connects() - drill->failed_connects : -1;
}

static struct load *bystanders_start(const struct forebay *forebay) {
	return load_start(&(struct load_setup){.port = forebay->port, .database = "bystander", .clients = BYSTANDERS,
					       .sql = "select 1", .pause_ms = 10});
}

static struct drill drill_begin(const struct drill_setup *setup) {
	struct drill drill = {.name = setup->name, .workers = setup->workers ? setup->workers : 1};
	char pool[1500], more[1500], hosts[100];

	drill.private = network_private();
	drill.node = setup->node ? setup->node : node_new(NULL, setup->network);
	if (drill.node->pid) {
		drill.control = node_control(drill.node);
		execute(drill.control, "create sequence asked; grant usage on sequence asked to app");
	}
	snprintf(hosts, sizeof(hosts), "%s:%d", drill.node->host, drill.node->port);
	snprintf(pool, sizeof(pool),
		 "hosts = %s\ndatabase = app\nmax_size = %d\nmin_idle = 5\nmonitor_user = " PROBER
		 "\nmonitor_password = " PROBER "-secret\n%s",
		 setup->hosts ? setup->hosts : hosts, setup->size ? setup->size : SERVERS, setup->pool ? setup->pool : "");
	/* By its Unix socket: it is there whatever network the test is in. */
	snprintf(more, sizeof(more),
		 "[pool:bystander]\nprotocol = postgresql\nhosts = %s:%d\ndatabase = app\nmax_size = %d\nmin_idle = 5\n"
		 "tls_mode = disable\n%s",
		 harness_path("pg"), harness_postgres_port(), SERVERS, setup->more ? setup->more : "");
	drill.forebay = forebay_start(&(struct forebay_setup){.workers = drill.workers, .pool = pool, .more = more,
							      .process = setup->process, .listener = "auth = trust"});
	drill.bystanders = bystanders_start(drill.forebay);
	drill.began = cluster_now_us();
	if (setup->clients >= 0)
		drill.load = load_start(&(struct load_setup){.port = drill.forebay->port,
							     .clients = setup->clients ? setup->clients : CLIENTS,
							     .sql = setup->sql ? setup->sql : "select pg_sleep(0.02)",
							     .parked = setup->parked, .impatient = setup->impatient});
	load_await(drill.bystanders, 300);
	strike(&drill);
	return drill;
}

/* All connections are at work. */
static struct drill drill_begin_at_full_speed(const struct drill_setup *setup) {
	struct drill drill = drill_begin(setup);

	await_connections(&drill, SERVERS, RECOVERY_MS);
	load_await(drill.load, 200);
	ck_assert_int_eq(load_errors(drill.load, 0, LLONG_MAX), 0);
	strike(&drill);
	return drill;
}

/* How many ms after `from` somebody was served. */
static long long served_after_ms(struct drill *drill, long long from) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS, first;

	while ((first = load_first_done(drill->load, from)) < 0) {
		if (harness_now_ms() > deadline) {
			load_print_errors(drill->load, drill->name);
			ck_abort_msg("%s: nobody is served any more (before: %s)", drill->name, drill->blame);
		}
		harness_pause_ms(1);
	}
	return (first - from + 999) / 1000;
}

static void expect_served_within(struct drill *drill, long long from, int limit_ms) {
	long long took = served_after_ms(drill, from);

	printf("drill, %s, %d workers: first success after %lld ms\n", drill->name, drill->workers, took);
	if (took > (long long)limit_ms * SLOWNESS)
		blame(drill, "first success after %lld ms, not within %d", took, limit_ms);
}

static void expect_errors(struct drill *drill, int most, const char *const *words) {
	int errors = load_errors(drill->load, drill->struck, LLONG_MAX);

	printf("drill, %s, %d workers: %d errors\n", drill->name, drill->workers, errors);
	load_print_errors(drill->load, drill->name);
	if (errors > most)
		blame(drill, "%d errors, not at most %d", errors, most);
	if (words && load_errors_without(drill->load, words) != 0)
		blame(drill, "errors do not say what was the case");
}

static void expect_at_most(struct drill *drill, const char *what, long n, long most) {
	printf("drill, %s, %d workers: %ld %s\n", drill->name, drill->workers, n, what);
	if (n > most)
		blame(drill, "%ld %s, not at most %ld", n, what, most);
}

static void expect_bystanders_unmoved(struct drill *drill) {
	long long until = cluster_now_us(), before, meanwhile;

	load_stop(drill->bystanders);
	before = load_percentile(drill->bystanders, drill->began, drill->struck, 0.99);
	meanwhile = load_percentile(drill->bystanders, drill->struck, until, 0.99);
	load_print_errors(drill->bystanders, "bystanders");
	printf("drill, %s, %d workers: bystanders' p99 %lld us before, %lld us since\n", drill->name, drill->workers, before,
	       meanwhile);
	ck_assert_int_eq(load_errors(drill->bystanders, 0, LLONG_MAX), 0);
	ck_assert_int_eq(load_hung(drill->bystanders), 0);
	ck_assert_int_ge(meanwhile, 0);
	if (meanwhile > 5 * before + 50000LL * SLOWNESS)
		blame(drill, "bystanders' p99 was %lld us, and %lld us since", before, meanwhile);
}

static void drill_free(struct drill *drill) {
	if (drill->load)
		load_free(drill->load);
	load_free(drill->bystanders);
	PQfinish(drill->control);
	forebay_stop(drill->forebay);
	node_free(drill->node);
	ck_assert_msg(drill->blame[0] == '\0', "%s: %s", drill->name, drill->blame);
}

/* The pool is whole again by itself, and nobody hangs. */
static void drill_end(struct drill *drill) {
	if (!drill->control)
		drill->control = node_control(drill->node);
	if (drill->load) {
		await_connections(drill, SERVERS, RECOVERY_MS);
		load_await(drill->load, CLIENTS);
		load_stop(drill->load);
		ck_assert_msg(load_hung(drill->load) == 0, "%s: %d clients hang", drill->name, load_hung(drill->load));
	}
	expect_bystanders_unmoved(drill);
	drill_free(drill);
}

/* --- that the tests' own instruments do what they should --- */

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

/* --- a database that goes and comes back --- */

static void go_for_five_seconds(const char *name, int workers, enum node_stop how) {
	struct drill drill = drill_begin_at_full_speed(&(struct drill_setup){.name = name, .workers = workers});
	long connects;

	PQfinish(drill.control);
	drill.control = NULL;
	node_stop(drill.node, how);
	harness_pause_ms(OUTAGE_MS);
	connects = refused(&drill);
	node_start(drill.node);
	expect_served_within(&drill, drill.node->ready_us, 500);
	/* Those that were let in to be told that it is starting up count too. */
	expect_at_most(&drill, "connects meanwhile", (connects < 0 ? 0 : connects) + denied(&drill), 30);
	expect_errors(&drill, SERVERS, LOST);
	drill_end(&drill);
}

START_TEST(only_queries_under_way_fail_when_the_database_is_gone_for_five_seconds) {
	if (!skip())
		go_for_five_seconds("backend gone for 5 s", WORKERS(_i), STOP_IMMEDIATE);
}
END_TEST

START_TEST(only_queries_under_way_fail_when_the_database_is_killed_for_five_seconds) {
	if (!skip())
		go_for_five_seconds("backend killed for 5 s", WORKERS(_i), STOP_KILLED);
}
END_TEST

START_TEST(fast_restart_costs_the_queries_under_way_and_no_time) {
	struct drill drill;

	if (skip())
		return;
	drill = drill_begin_at_full_speed(&(struct drill_setup){.name = "fast restart", .workers = WORKERS(_i)});
	PQfinish(drill.control);
	drill.control = NULL;
	node_stop(drill.node, STOP_FAST);
	node_start(drill.node);
	expect_served_within(&drill, drill.node->ready_us, 300);
	expect_errors(&drill, SERVERS, LOST);
	drill_end(&drill);
}
END_TEST

START_TEST(crash_of_one_backend_process_costs_no_storm_of_logins) {
	static const char ready[] = "database system is ready to accept connections";
	struct drill drill;
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	int before;

	if (skip())
		return;
	drill = drill_begin_at_full_speed(&(struct drill_setup){.name = "crash recovery", .workers = WORKERS(_i)});
	before = node_count(drill.node, ready);
	kill((pid_t)query_long(drill.control, "select pid from pg_stat_activity where usename = 'app' limit 1"), SIGKILL);
	PQfinish(drill.control);
	drill.control = NULL;
	while (node_count(drill.node, ready) == before) {
		ck_assert_msg(harness_now_ms() < deadline, "no crash recovery");
		harness_pause_ms(1);
	}
	expect_served_within(&drill, cluster_now_us(), 500);
	drill.control = node_control(drill.node);
	await_connections(&drill, SERVERS, RECOVERY_MS);
	expect_at_most(&drill, "logins tried", attempts(&drill), 20);
	expect_errors(&drill, SERVERS, LOST);
	drill_end(&drill);
}
END_TEST

START_TEST(stopped_database_costs_no_error) {
	struct drill drill;
	long long over;

	if (skip())
		return;
	drill = drill_begin_at_full_speed(&(struct drill_setup){.name = "SIGSTOP for 8 s", .workers = WORKERS(_i)});
	node_freeze(drill.node);
	harness_pause_ms(STANDSTILL_MS);
	node_thaw(drill.node);
	over = cluster_now_us();
	expect_served_within(&drill, over, 100);
	expect_errors(&drill, 0, NULL);
	drill_end(&drill);
}
END_TEST

/* --- a database that lets nobody in --- */

START_TEST(pool_serves_with_what_it_has_when_others_use_up_max_connections) {
	enum { LEFT = 4, MOST_HOGS = 40 };
	struct drill drill;
	struct node *node;
	PGconn *hogs[MOST_HOGS];
	char info[400];
	int n = 0;

	if (skip())
		return;
	network_private();
	node = node_new("max_connections = 24\nsuperuser_reserved_connections = 3", NULL);
	drill = drill_begin(&(struct drill_setup){.name = "max_connections used up", .workers = WORKERS(_i), .node = node,
						  .clients = -1});
	snprintf(info, sizeof(info), "host=%s port=%d user=md5user password=md5user-secret dbname=app", node->host, node->port);
	for (; n < MOST_HOGS; n++) {
		hogs[n] = PQconnectdb(info);
		if (PQstatus(hogs[n]) != CONNECTION_OK)
			break;
	}
	ck_assert_msg(n < MOST_HOGS && strstr(PQerrorMessage(hogs[n]), "reserved") != NULL, "max_connections is not used up: %s",
		      n < MOST_HOGS ? PQerrorMessage(hogs[n]) : "");
	PQfinish(hogs[n]);
	for (int i = 0; i < LEFT; i++)
		PQfinish(hogs[--n]);
	await_connections(&drill, n, RECOVERY_MS);
	strike(&drill);
	drill.load = load_start(&(struct load_setup){.port = drill.forebay->port, .clients = CLIENTS,
						     .sql = "select pg_sleep(0.02)"});
	load_await(drill.load, 100);
	harness_pause_ms(OUTAGE_MS);
	expect_at_most(&drill, "logins refused in 5 s", denied(&drill), 15);
	expect_at_most(&drill, "ms without service", (long)(load_longest_gap(drill.load, drill.struck + 1000000, cluster_now_us()) / 1000),
		       500 * SLOWNESS);
	while (n > 0)
		PQfinish(hogs[--n]);
	await_connections(&drill, SERVERS, RECOVERY_MS);
	expect_errors(&drill, 0, NULL);
	drill_end(&drill);
}
END_TEST

static void change_password(struct drill *drill, const char *password) {
	execute(drill->control, "alter role app password '%s'", password);
}

static struct drill begin_with_fixed_user(const char *name, int workers, bool parked) {
	/* So that the pool has its idle connections before the first client. */
	return drill_begin(&(struct drill_setup){.name = name, .workers = workers, .parked = parked,
						 .pool = "user = app\npassword = app-secret"});
}

START_TEST(password_that_is_wrong_for_new_logins_is_unseen_while_connections_work) {
	struct drill drill;

	if (skip())
		return;
	drill = begin_with_fixed_user("wrong password", WORKERS(_i), true);
	await_connections(&drill, 5, RECOVERY_MS);
	change_password(&drill, "changed");
	strike(&drill);
	load_go(drill.load);
	load_await(drill.load, 100);
	while (cluster_now_us() - drill.struck < 1000LL * OUTAGE_MS)
		harness_pause_ms(10);
	expect_at_most(&drill, "logins tried in 5 s", attempts(&drill), 10);
	ck_assert_int_eq(count_connections(drill.control), 5);
	change_password(&drill, "app-secret");
	await_connections(&drill, SERVERS, RECOVERY_MS);
	expect_errors(&drill, 0, NULL);
	drill_end(&drill);
}
END_TEST

START_TEST(password_that_is_wrong_for_all_is_told_at_once_in_the_backends_words) {
	static const char *const words[] = {"password authentication failed", "57P01", "connection to the backend was lost", NULL};
	struct drill drill;
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	if (skip())
		return;
	drill = begin_with_fixed_user("wrong password for all", WORKERS(_i), false);
	await_connections(&drill, SERVERS, RECOVERY_MS);
	load_await(drill.load, 100);
	change_password(&drill, "changed");
	strike(&drill);
	execute(drill.control, "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'");
	while (load_errors_with(drill.load, "password authentication failed") < CLIENTS - SERVERS) {
		if (harness_now_ms() > deadline) {
			load_print_errors(drill.load, drill.name);
			ck_abort_msg("those who wait are not told");
		}
		harness_pause_ms(2);
	}
	expect_at_most(&drill, "ms until all were told", (long)((cluster_now_us() - drill.struck) / 1000), 1000 * SLOWNESS);
	harness_pause_ms(3000);
	/* One each for those that were killed, and no more than in the other case. */
	expect_at_most(&drill, "logins tried", attempts(&drill), 2 * SERVERS);
	ck_assert_msg(load_longest_wait_us(drill.load) < 2000000LL * SLOWNESS, "somebody has waited for %lld us",
		      load_longest_wait_us(drill.load));
	ck_assert_int_eq(load_errors_without(drill.load, words), 0);
	change_password(&drill, "app-secret");
	served_after_ms(&drill, cluster_now_us());
	drill_end(&drill);
}
END_TEST

/* --- a database that does not answer --- */

static int most_connecting(const struct node *node, int port, int for_ms) {
	long long until = harness_now_ms() + for_ms;
	int most = 0;

	do {
		int connecting = network_sockets_to(node->host, port).connecting;

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

	if (skip())
		return;
	network_private();
	node = node_new(NULL, NULL);
	node_stop(node, STOP_FAST);
	black_hole_dig(&hole, node->port);
	drill = drill_begin(&(struct drill_setup){.name = "black hole", .workers = WORKERS(_i), .node = node, .impatient = true,
						  .pool = "connect_timeout = 1s\nacquire_timeout = 3s"});
	most = most_connecting(node, node->port, 4500);
	expect_at_most(&drill, "connects at a time", most, SERVERS);
	load_print_errors(drill.load, drill.name);
	ck_assert_int_ge(load_errors(drill.load, drill.struck, LLONG_MAX), CLIENTS);
	ck_assert_msg(load_longest_wait_us(drill.load) < 4000000LL * SLOWNESS, "somebody has waited for %lld us",
		      load_longest_wait_us(drill.load));
	if (load_errors_without(drill.load, words) != 0)
		blame(&drill, "errors do not say what was the case");
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

	if (skip())
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
	expect_at_most(&drill, "connects at a time", most, SERVERS);
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

static const char SILENCE_PROCESS[] = "tcp_keepalive_idle = 1s\ntcp_user_timeout = 2s";
static const char SILENCE_POOL[] = "connect_timeout = 1s\nkeepalive_interval = 1s\nvalidation_timeout = 1s\nidle_timeout = 0";

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

	if (skip())
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

	if (skip() || !(network = network_new()))
		return;
	drill = drill_begin_at_full_speed(&(struct drill_setup){.name = "idle and silent", .workers = WORKERS(_i), .network = network,
								.process = SILENCE_PROCESS, .pool = SILENCE_POOL});
	load_stop(drill.load);
	ck_assert_int_eq(load_hung(drill.load), 0);
	load_free(drill.load);
	drill.load = NULL;
	ck_assert_int_eq(network_sockets_to(drill.node->host, drill.node->port).established, SERVERS);
	network_silence(network, true);
	strike(&drill);
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

	if (skip() || !(network = network_new()))
		return;
	drill = drill_begin(&(struct drill_setup){.name = name, .workers = workers, .network = network, .sql = sql,
						  .process = SILENCE_PROCESS, .pool = SILENCE_POOL});
	await_connections(&drill, SERVERS, RECOVERY_MS);
	await_value(drill.control, "select count(*) >= 5 from pg_stat_activity where usename = 'app' and state = 'active'", "t");
	/* The last bytes are acknowledged by now where nothing moves. */
	harness_pause_ms(300);
	network_silence(network, true);
	strike(&drill);
	await_no_sockets(&drill, drill.node->host, drill.node->port, 4000);
	most = most_connecting(drill.node, drill.node->port, 1500);
	expect_at_most(&drill, "connects at a time", most, SERVERS);
	network_silence(network, false);
	over = cluster_now_us();
	/* An attempt under way, and the longest pause between two. */
	expect_served_within(&drill, over, 6500);
	expect_errors(&drill, SERVERS,
		      (const char *const[]){"connection to the backend was lost", "timed out", "time out", "08006", NULL});
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

/* --- clients that go, and many --- */

static int clients_waiting(PGconn *ops) {
	PGresult *res = PQexec(ops, "SHOW POOLS");
	int column = PQfnumber(res, "cl_waiting"), waiting = 0;

	ck_assert_msg(column >= 0, "SHOW POOLS: %s", PQresultErrorMessage(res));
	for (int row = 0; row < PQntuples(res); row++)
		waiting += strcmp(PQgetvalue(res, row, 0), "app") == 0 ? atoi(PQgetvalue(res, row, column)) : 0;
	PQclear(res);
	return waiting;
}

/* How long the pool took to serve again, in us. */
static long long five_hundred_vanish(struct drill *drill, PGconn *witness, PGconn *ops, bool reset) {
	enum { CROWD = 500 };
	static struct raw raw[CROWD];
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS, began, took;
	struct bytes b = {0};

	for (int i = 0; i < CROWD; i++) {
		raw[i] = raw_connect(drill->forebay);
		raw_login(&raw[i]);
	}
	for (int i = 0; i < CROWD; i++) {
		put_query(&b, "begin; select 1");
		raw_send_bytes(&raw[i], &b);
	}
	await_value(drill->control, "select count(*) from pg_stat_activity where usename = 'app' and state = 'idle in transaction'",
		    "10");
	while (clients_waiting(ops) != CROWD - SERVERS) {
		ck_assert_msg(harness_now_ms() < deadline, "%d wait", clients_waiting(ops));
		harness_pause_ms(5);
	}
	strike(drill);
	for (int i = 0; i < CROWD; i++) {
		if (reset)
			raw_reset(&raw[i]);
		else
			raw_close(&raw[i]);
	}
	began = cluster_now_us();
	expect_value(witness, "select 'served'", "served");
	took = cluster_now_us() - began;
	await_value(drill->control, "select count(*) from pg_stat_activity where usename = 'app' and state <> 'idle'", "0");
	/* What would be cancelled or opened for them would be by now. */
	harness_pause_ms(500);
	expect_at_most(drill, "logins and cancels", attempts(drill), SERVERS);
	return took;
}

START_TEST(clients_that_vanish_in_open_transactions_cost_next_to_nothing) {
	enum { ROUNDS = 4 };
	struct drill drill;
	PGconn *witness, *ops;
	long long best = -1;

	if (skip())
		return;
	drill = drill_begin(&(struct drill_setup){.name = "500 vanish", .workers = WORKERS(_i), .clients = -1});
	witness = connect_app(drill.forebay);
	ops = connect_with(drill.forebay, "user=ops dbname=forebay");
	for (int round = 0; round < ROUNDS; round++) {
		long long took = five_hundred_vanish(&drill, witness, ops, round % 2);

		best = best < 0 || took < best ? took : best;
		printf("drill, %s, %d workers: served again after %lld us\n", drill.name, drill.workers, took);
	}
	/* The machine may be busy in one round, not in all. */
	ck_assert_msg(best <= 50000LL * SLOWNESS, "the pool served again after %lld us at best", best);
	PQfinish(witness);
	PQfinish(ops);
	drill_end(&drill);
}
END_TEST

START_TEST(wait_of_many_on_few_is_the_same_for_all) {
	enum { CROWD = 300 };
	const int seconds = SLOWNESS > 1 ? 6 : 10;
	struct drill drill;
	long long from, until, median, p99;

	if (skip())
		return;
	drill = drill_begin(&(struct drill_setup){.name = "300 on 5", .workers = WORKERS(_i), .clients = CROWD,
						  .sql = "select pg_sleep(0.01)", .size = 5});
	/* Until those who came all at once have each been served. */
	load_await(drill.load, 2 * CROWD);
	from = cluster_now_us();
	harness_pause_ms(1000 * seconds);
	until = cluster_now_us();
	median = load_percentile(drill.load, from, until, 0.5);
	p99 = load_percentile(drill.load, from, until, 0.99);
	printf("drill, %s, %d workers: %ld served, median %lld us, p99 %lld us: %.3f\n", drill.name, drill.workers,
	       load_done(drill.load, from, until), median, p99, (double)p99 / (double)median);
	ck_assert_int_eq(count_connections(drill.control), 5);
	ck_assert_int_eq(load_errors(drill.load, 0, LLONG_MAX), 0);
	load_stop(drill.load);
	ck_assert_int_eq(load_hung(drill.load), 0);
	ck_assert_int_gt(median, 0);
	ck_assert_msg((double)p99 <= (SLOWNESS > 1 ? 1.5 : 1.2) * (double)median, "median %lld us, p99 %lld us", median, p99);
	expect_bystanders_unmoved(&drill);
	drill_free(&drill);
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

	if (skip())
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

	strike(&drill);
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
	expect_errors(&drill, SERVERS, LOST);
	await_connections(&drill, SERVERS, RECOVERY_MS);
	PQfinish(on_first);
	PQfinish(on_second);
	drill_end(&drill);
	node_free(second);
}
END_TEST

/* With 4 workers; with 1 as well where FOREBAY_DRILLS=full, for which there is not always the time. */
#define DRILL(tcase, test) tcase_add_loop_test(tcase, test, full() ? 0 : 1, 2)

static int full(void) {
	const char *given = getenv("FOREBAY_DRILLS");

	return given && strcmp(given, "full") == 0;
}

int main(void) {
	Suite *suite = suite_create("drills");
	TCase *tcase = tcase_create("drills");

	harness_begin(NULL);
	cluster_begin();
	tcase_set_timeout(tcase, 60);
	suite_add_tcase(suite, tcase);
	tcase_add_test(tcase, instruments_make_a_pair_change_places);
	tcase_add_test(tcase, instruments_lose_packets_and_count_connects);
	DRILL(tcase, only_queries_under_way_fail_when_the_database_is_gone_for_five_seconds);
	DRILL(tcase, only_queries_under_way_fail_when_the_database_is_killed_for_five_seconds);
	DRILL(tcase, fast_restart_costs_the_queries_under_way_and_no_time);
	DRILL(tcase, crash_of_one_backend_process_costs_no_storm_of_logins);
	DRILL(tcase, stopped_database_costs_no_error);
	DRILL(tcase, pool_serves_with_what_it_has_when_others_use_up_max_connections);
	DRILL(tcase, password_that_is_wrong_for_new_logins_is_unseen_while_connections_work);
	DRILL(tcase, password_that_is_wrong_for_all_is_told_at_once_in_the_backends_words);
	DRILL(tcase, black_hole_is_named_and_gets_few_connects);
	DRILL(tcase, other_host_takes_over_from_a_black_hole);
	DRILL(tcase, idle_connections_that_answer_no_more_are_found_by_keepalive);
	DRILL(tcase, idle_connections_whose_packets_are_lost_are_found_in_the_stated_time);
	DRILL(tcase, busy_connections_whose_packets_are_lost_are_found_in_the_stated_time);
	DRILL(tcase, long_queries_whose_packets_are_lost_are_found_in_the_stated_time);
	LOOP(tcase, clients_that_vanish_in_open_transactions_cost_next_to_nothing);
	LOOP(tcase, wait_of_many_on_few_is_the_same_for_all);
	DRILL(tcase, writes_follow_the_primary_and_connections_to_the_demoted_go);
	return harness_run(suite);
}
