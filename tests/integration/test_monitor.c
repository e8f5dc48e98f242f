/* What is known of the database hosts, and how connections that have died are found before a client gets them. */
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

#include "query.h"

/* ---- SHOW HOSTS, SHOW SERVERS ---- */

static PGconn *connect_ops(const struct forebay *forebay) {
	return connect_with(forebay, "user=ops dbname=forebay");
}

/* A column of the host on this port; malloc'd, "" where it is null or there is no such host. */
static char *host_value(PGconn *ops, int port, const char *column) {
	PGresult *res = PQexec(ops, "SHOW HOSTS");
	char suffix[16], *found = NULL;

	ck_assert_msg(PQresultStatus(res) == PGRES_TUPLES_OK, "SHOW HOSTS: %s", PQresultErrorMessage(res));
	ck_assert_msg(PQfnumber(res, column) >= 0, "no column %s", column);
	snprintf(suffix, sizeof suffix, ":%d", port);
	for (int row = 0; row < PQntuples(res); row++) {
		const char *host = PQgetvalue(res, row, PQfnumber(res, "host"));
		size_t len = strlen(host), tail = strlen(suffix);
		if (len > tail && strcmp(host + len - tail, suffix) == 0)
			found = strdup(PQgetvalue(res, row, PQfnumber(res, column)));
	}
	PQclear(res);
	return found ? found : strdup("");
}

static void await_host(PGconn *ops, int port, const char *column, const char *expected) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	for (;;) {
		char *value = host_value(ops, port, column);
		bool there = strcmp(value, expected) == 0;
		ck_assert_msg(there || harness_now_ms() < deadline, "%s is \"%s\", not \"%s\"", column, value, expected);
		free(value);
		if (there)
			return;
		harness_pause_ms(5);
	}
}

static double host_number(PGconn *ops, int port, const char *column) {
	char *value = host_value(ops, port, column);
	double number = *value ? atof(value) : -1;

	free(value);
	return number;
}

/* Until that many more probes have ended. */
static void await_probes(PGconn *ops, int port, int count) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	double before = 1e9;

	while (count > 0) {
		double ago = host_number(ops, port, "probed_seconds_ago");
		if (ago >= 0 && ago < before)
			count--;
		before = ago >= 0 ? ago : before;
		ck_assert_msg(harness_now_ms() < deadline, "%d probes are missing", count);
		harness_pause_ms(5);
	}
}

static int servers_shown(PGconn *ops) {
	PGresult *res = PQexec(ops, "SHOW SERVERS");
	int rows = PQntuples(res);

	ck_assert_int_eq(PQresultStatus(res), PGRES_TUPLES_OK);
	PQclear(res);
	return rows;
}

static void await_servers(PGconn *ops, int count) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	while (servers_shown(ops) != count) {
		ck_assert_msg(harness_now_ms() < deadline, "%d servers, not %d", servers_shown(ops), count);
		harness_pause_ms(5);
	}
}

static int backend_pid(PGconn *conn) {
	return (int)query_long(conn, "select pg_backend_pid()");
}

static struct forebay *start(int i, const char *pool) {
	return forebay_start(&(struct forebay_setup){.workers = WORKERS(i), .pool = pool, .listener = "auth = trust"});
}

static void await_signalled(pid_t pid, char state) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	char path[64], line[512] = "";

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	for (;;) {
		FILE *in = fopen(path, "re");
		if (in && fgets(line, sizeof line, in) && strrchr(line, ')') && strrchr(line, ')')[2] == state) {
			fclose(in);
			return;
		}
		if (in)
			fclose(in);
		ck_assert_msg(harness_now_ms() < deadline, "process %d does not stop", (int)pid);
		harness_pause_ms(2);
	}
}

static void freeze(pid_t pid) {
	harness_freeze(pid);
	await_signalled(pid, 'T');
}

/* ---- the host ---- */

START_TEST(host_that_stops_and_starts_is_seen_and_told_once) {
	int port = harness_postgres_port();

	SKIP_WHEN_DIRECT();
	struct forebay *forebay = start(_i, "monitor_interval = 200ms\nmax_size = 2");
	PGconn *ops = connect_ops(forebay), *app = connect_app(forebay);
	await_host(ops, port, "state", "up");
	expect_value(app, "select 1", "1");
	await_host(ops, port, "role", "primary");
	await_host(ops, port, "pools", "app");
	await_host(ops, port, "max_connections", "117");
	await_host(ops, port, "connections_in_use", "2"); /* ours and the monitor's own */
	char *version = host_value(ops, port, "version"), *lag = host_value(ops, port, "lag_seconds");
	ck_assert_int_ge(atoi(version), 12);
	ck_assert_str_eq(lag, "");
	free(version);
	free(lag);

	long long began = harness_now_ms();
	harness_postgres_stop(true);
	await_host(ops, port, "state", "down");
	ck_assert_int_lt(harness_now_ms() - began, 5000);
	await_probes(ops, port, 3);
	ck_assert_int_eq(harness_count_in(forebay->log, " backend_down "), 1);
	char *error = host_value(ops, port, "last_error");
	ck_assert_msg(strstr(error, "refused") != NULL, "%s", error);
	free(error);

	harness_postgres_start();
	began = harness_now_ms();
	await_host(ops, port, "state", "up");
	ck_assert_int_lt(harness_now_ms() - began, 3000);
	await_probes(ops, port, 3);
	await_host(ops, port, "role", "primary");
	ck_assert_int_eq(harness_count_in(forebay->log, " backend_up "), 2);
	ck_assert_int_eq(harness_count_in(forebay->log, " backend_down "), 1);
	ck_assert_int_eq(harness_count_in(forebay->log, " backend_role "), 0);
	PQfinish(app);
	app = connect_app(forebay);
	expect_value(app, "select 2", "2");
	PQfinish(app);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

START_TEST(waiters_go_on_when_the_host_is_back) {
	SKIP_WHEN_DIRECT();
	/* the pool's own backoff would be long by then */
	struct forebay *forebay = start(_i, "monitor_interval = 10s\nmax_size = 2\nacquire_timeout = 60s");
	PGconn *ops = connect_ops(forebay), *app;

	await_host(ops, harness_postgres_port(), "state", "up");
	app = connect_app(forebay);
	harness_postgres_stop(true);
	await_servers(ops, 0);
	send_query(app, "select 'served'");
	await_host(ops, harness_postgres_port(), "state", "down");
	/* the pool has tried until 5.1 s at the latest, and would try again 3.8 s later at the earliest */
	long long until = harness_now_ms() + 5300;
	while (harness_now_ms() < until)
		harness_pause_ms(10);
	harness_postgres_start();
	long long began = harness_now_ms();
	expect_text(next_result(app), "served");
	ck_assert_msg(harness_now_ms() - began < 1500, "it took %lld ms", harness_now_ms() - began);
	PQfinish(app);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

START_TEST(refused_login_of_the_monitor_is_not_down) {
	int port = harness_postgres_port();

	SKIP_WHEN_DIRECT();
	struct forebay *forebay = start(_i, "monitor_interval = 100ms\nmonitor_user = app\nmonitor_password = wrong");
	PGconn *ops = connect_ops(forebay), *app = connect_app(forebay);
	await_host(ops, port, "state", "up");
	await_probes(ops, port, 4);
	await_host(ops, port, "state", "up");
	await_host(ops, port, "role", "");
	char *error = host_value(ops, port, "last_error");
	ck_assert_msg(strstr(error, "password authentication failed") != NULL, "%s", error);
	free(error);
	ck_assert_int_eq(harness_count_in(forebay->log, " monitor_refused "), 1);
	ck_assert_int_eq(harness_count_in(forebay->log, " backend_down "), 0);
	expect_value(app, "select 1", "1");
	PQfinish(app);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

START_TEST(host_that_cannot_be_logged_in_to_is_asked_whether_it_is_there) {
	int port = harness_postgres_port();

	SKIP_WHEN_DIRECT();
	struct forebay *forebay = start(_i, "monitor_interval = 100ms\nmonitor_user =");
	PGconn *ops = connect_ops(forebay);
	await_host(ops, port, "state", "up");
	await_probes(ops, port, 3);
	await_host(ops, port, "role", "");
	harness_postgres_stop(true);
	await_host(ops, port, "state", "down");
	harness_postgres_start();
	await_host(ops, port, "state", "up");
	ck_assert_int_eq(harness_count_in(forebay->log, " monitor_refused "), 0);
	ck_assert_int_eq(harness_count_in(forebay->log, " backend_down "), 1);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

static pid_t postmaster_pid(void) {
	char *text = harness_read(harness_path("pg/postmaster.pid"));
	pid_t pid = (pid_t)atol(text);

	free(text);
	return pid;
}

START_TEST(paused_host_is_down_only_when_it_is_silent_twice) {
	int port = harness_postgres_port();

	SKIP_WHEN_DIRECT();
	struct forebay *forebay = start(_i, "monitor_interval = 100ms\nvalidation_timeout = 500ms");
	PGconn *ops = connect_ops(forebay), *control = connect_control();
	pid_t postmaster = postmaster_pid();
	await_host(ops, port, "role", "primary");
	pid_t own = (pid_t)query_long(control, "select pid from pg_stat_activity where application_name = 'forebay monitor'");
	long long began = harness_now_ms();
	freeze(postmaster);
	freeze(own);
	await_host(ops, port, "state", "down");
	long long took = harness_now_ms() - began;
	kill(own, SIGCONT);
	kill(postmaster, SIGCONT);
	ck_assert_int_ge(took, 900);
	await_host(ops, port, "state", "up");
	ck_assert_int_eq(harness_count_in(forebay->log, " backend_down "), 1);
	ck_assert_int_eq(harness_count_in(forebay->log, " backend_up "), 2);
	PQfinish(control);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

START_TEST(monitor_has_one_connection_for_all_pools_of_a_host) {
	char more[400];
	int port = harness_postgres_port();

	SKIP_WHEN_DIRECT();
	snprintf(more, sizeof more,
		 "[pool:other]\nprotocol = postgresql\nhosts = 127.0.0.1:%d\ntls_mode = disable\nmonitor_interval = 100ms\n"
		 "user = app\npassword = app-secret\n",
		 port);
	struct forebay *forebay = forebay_start(&(struct forebay_setup){
		.workers = WORKERS(_i), .pool = "monitor_interval = 10s", .listener = "auth = trust", .more = more});
	PGconn *ops = connect_ops(forebay), *control = connect_control();
	await_host(ops, port, "pools", "app,other");
	await_probes(ops, port, 5); /* the shorter interval counts */
	await_value(control, "select string_agg(usename, ',') from pg_stat_activity where application_name = 'forebay monitor'",
		    "authuser");
	/* a connection that somebody ends says nothing about the host */
	execute(control, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'forebay monitor'");
	await_probes(ops, port, 3);
	ck_assert_int_eq(harness_count_in(forebay->log, " backend_down "), 0);
	/* off: it is forgotten, and its connection goes */
	snprintf(more, sizeof more,
		 "[pool:other]\nprotocol = postgresql\nhosts = 127.0.0.1:%d\ntls_mode = disable\nmonitor_interval = 0\n", port);
	forebay_rewrite_ini(forebay, &(struct forebay_setup){.workers = WORKERS(_i), .pool = "monitor_interval = 0",
							     .listener = "auth = trust", .more = more});
	execute(ops, "RELOAD");
	await_host(ops, port, "state", "unknown");
	await_value(control, "select count(*) from pg_stat_activity where application_name = 'forebay monitor'", "0");
	PQfinish(control);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

/* ---- a standby ---- */

struct standby {
	char dir[200];
	int port;
	pid_t pid;
};

/* With the user that PostgreSQL runs as, and ended with the test. */
static size_t as_postgres(const char *argv[32]) {
	static char uid[32], gid[32];
	const struct passwd *user = geteuid() == 0 ? getpwnam("postgres") : NULL;
	size_t n = 0;

	argv[n++] = "setpriv";
	if (user) {
		snprintf(uid, sizeof uid, "--reuid=%d", (int)user->pw_uid);
		snprintf(gid, sizeof gid, "--regid=%d", (int)user->pw_gid);
		argv[n++] = uid;
		argv[n++] = gid;
		argv[n++] = "--clear-groups";
	}
	argv[n++] = "--pdeathsig";
	argv[n++] = "INT";
	return n;
}

static void run_as_postgres(const char *const *more) {
	const char *argv[32];
	size_t n = as_postgres(argv);

	while (*more)
		argv[n++] = *more++;
	argv[n] = NULL;
	ck_assert_msg(harness_command(argv), "%s failed", argv[n - 1]);
}

static PGconn *connect_standby(const struct standby *standby) {
	char text[300];
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	snprintf(text, sizeof text, "host=%s port=%d user=postgres dbname=app", standby->dir, standby->port);
	for (;;) {
		PGconn *conn = PQconnectdb(text);
		if (PQstatus(conn) == CONNECTION_OK)
			return conn;
		ck_assert_msg(harness_now_ms() < deadline, "the standby: %s", PQerrorMessage(conn));
		PQfinish(conn);
		harness_pause_ms(20);
	}
}

static struct standby standby_start(int number) {
	struct standby standby = {.port = harness_free_port()};
	char conninfo[200], port[40], sockets[240], log[240];
	const struct passwd *user = geteuid() == 0 ? getpwnam("postgres") : NULL;

	snprintf(standby.dir, sizeof standby.dir, "%s/standby%d", harness_dir(), number);
	ck_assert_int_eq(mkdir(standby.dir, 0700), 0);
	if (user)
		ck_assert_int_eq(chown(standby.dir, user->pw_uid, user->pw_gid), 0);
	snprintf(conninfo, sizeof conninfo, "host=127.0.0.1 port=%d user=app password=app-secret sslmode=disable",
		 harness_postgres_port());
	run_as_postgres((const char *const[]){harness_pg_program("pg_basebackup"), "-d", conninfo, "-D", standby.dir, "-R",
					      "-c", "fast", "-X", "stream", "--no-sync", NULL});
	const char *argv[32];
	size_t n = as_postgres(argv);
	snprintf(port, sizeof port, "port=%d", standby.port);
	snprintf(sockets, sizeof sockets, "unix_socket_directories=%s", standby.dir);
	snprintf(log, sizeof log, "%s/standby%d.log", harness_dir(), number);
	argv[n++] = harness_pg_program("postgres");
	argv[n++] = "-D";
	argv[n++] = standby.dir;
	argv[n++] = "-c";
	argv[n++] = port;
	argv[n++] = "-c";
	argv[n++] = sockets;
	argv[n] = NULL;
	standby.pid = harness_spawn(argv, log);
	return standby;
}

static void standby_stop(struct standby *standby) {
	int status;

	kill(standby->pid, SIGINT);
	ck_assert_int_eq(waitpid(standby->pid, &status, 0), standby->pid);
}

START_TEST(standby_is_seen_with_its_lag_and_its_promotion) {
	char pool[300];

	SKIP_WHEN_DIRECT();
	struct standby standby = standby_start(_i);
	PGconn *there = connect_standby(&standby), *control = connect_control();
	snprintf(pool, sizeof pool, "monitor_interval = 100ms\nhosts = 127.0.0.1:%d, 127.0.0.1:%d", harness_postgres_port(),
		 standby.port);
	struct forebay *forebay = start(_i, pool);
	PGconn *ops = connect_ops(forebay);
	await_host(ops, harness_postgres_port(), "role", "primary");
	await_host(ops, standby.port, "role", "standby");
	execute(control, "drop table if exists lagging; create table lagging(n int)");
	await_value(there, "select pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() and "
			   "pg_last_xact_replay_timestamp() is not null and to_regclass('lagging') is not null", "t");
	await_host(ops, standby.port, "lag_seconds", "0.000"); /* however old the last transaction is */

	execute(there, "select pg_wal_replay_pause()");
	execute(control, "insert into lagging values (1)");
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	while (host_number(ops, standby.port, "lag_seconds") < 0.2) {
		ck_assert_msg(harness_now_ms() < deadline, "no lag is shown");
		harness_pause_ms(5);
	}
	execute(there, "select pg_wal_replay_resume()");
	await_host(ops, standby.port, "lag_seconds", "0.000");

	execute(there, "select pg_promote()");
	await_host(ops, standby.port, "role", "primary");
	await_host(ops, standby.port, "lag_seconds", "");
	await_probes(ops, standby.port, 3);
	ck_assert_int_eq(harness_count_in(forebay->log, " backend_role "), 1);
	ck_assert_int_eq(harness_count_in(forebay->log, " backend_down "), 0);
	PQfinish(there);
	PQfinish(control);
	PQfinish(ops);
	forebay_stop(forebay);
	standby_stop(&standby);
}
END_TEST

/* ---- idle connections ---- */

START_TEST(idle_connection_that_the_server_closes_is_noticed_at_once) {
	SKIP_WHEN_DIRECT();
	struct forebay *forebay = start(_i, "max_size = 3\nkeepalive_interval = 0\nmonitor_interval = 0");
	PGconn *ops = connect_ops(forebay), *control = connect_control(), *app = connect_app(forebay);
	int pid = backend_pid(app);
	await_servers(ops, 1);
	long long began = harness_now_ms();
	execute(control, "select pg_terminate_backend(%d, 5000)", pid);
	await_servers(ops, 0);
	ck_assert_int_lt(harness_now_ms() - began, 2000);
	PQfinish(app);
	PQfinish(control);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

START_TEST(keepalive_proves_idle_connections_and_keeps_them) {
	SKIP_WHEN_DIRECT();
	struct forebay *forebay = start(_i, "max_size = 3\nkeepalive_interval = 100ms\nmonitor_interval = 0");
	PGconn *ops = connect_ops(forebay), *control = connect_control(), *app = connect_app(forebay);
	char sql[200];
	int pid = backend_pid(app);
	for (int i = 0; i < 5; i++) {
		char *before = query(control, "select state_change from pg_stat_activity where pid = %d", pid);
		snprintf(sql, sizeof sql, "select state_change > '%s' from pg_stat_activity where pid = %d", before, pid);
		await_value(control, sql, "t"); /* it was asked something */
		free(before);
	}
	/* which is no statement */
	snprintf(sql, sizeof sql, "select query from pg_stat_activity where pid = %d", pid);
	expect_value(control, sql, "select pg_backend_pid()");
	ck_assert_int_eq(backend_pid(app), pid);
	PQfinish(app);
	PQfinish(control);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

START_TEST(keepalive_finds_a_connection_that_went_silent) {
	SKIP_WHEN_DIRECT();
	struct forebay *forebay = start(_i, "max_size = 1\nkeepalive_interval = 200ms\nvalidation_timeout = 200ms\n"
					    "monitor_interval = 0");
	PGconn *ops = connect_ops(forebay), *app = connect_app(forebay);
	int pid = backend_pid(app);
	freeze(pid);
	await_servers(ops, 0);
	kill(pid, SIGCONT);
	ck_assert_int_eq(harness_count_in(forebay->log, " validation_timeout "), 1);
	ck_assert_int_ne(backend_pid(app), pid);
	PQfinish(app);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

START_TEST(client_that_comes_while_a_connection_is_tried_gets_it) {
	SKIP_WHEN_DIRECT();
	struct forebay *forebay = start(_i, "max_size = 1\nkeepalive_interval = 100ms\nvalidation_timeout = 20s\n"
					    "monitor_interval = 0");
	PGconn *ops = connect_ops(forebay), *one = connect_app(forebay), *two = connect_app(forebay);
	int pid = backend_pid(one);
	freeze(pid);
	for (;;) { /* until it is on trial */
		PGresult *res = PQexec(ops, "SHOW SERVERS");
		ck_assert_int_eq(PQntuples(res), 1);
		bool tried = strcmp(PQgetvalue(res, 0, PQfnumber(res, "state")), "tested") == 0;
		PQclear(res);
		if (tried)
			break;
		harness_pause_ms(5);
	}
	send_query(one, "select pg_backend_pid()");
	send_query(two, "select pg_backend_pid()");
	harness_pause_ms(20);
	kill(pid, SIGCONT);
	for (int i = 0; i < 2; i++) {
		PGresult *res = next_result(i ? two : one);
		ck_assert_int_eq(PQresultStatus(res), PGRES_TUPLES_OK);
		ck_assert_int_eq(atoi(PQgetvalue(res, 0, 0)), pid);
		PQclear(res);
		ck_assert_ptr_null(next_result(i ? two : one));
	}
	PQfinish(one);
	PQfinish(two);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

/* ---- validation_query ---- */

static void make_sequence(PGconn *control) {
	execute(control, "drop sequence if exists trials, trials_away; create sequence trials; "
			 "grant all on sequence trials to app");
}

static long trials(PGconn *control) {
	return query_long(control, "select case when is_called then last_value else 0 end from trials");
}

#define TRIALS "validation_query = select nextval('trials')\nmonitor_interval = 0\nkeepalive_interval = 0\n"

START_TEST(validation_query_is_run_only_after_idleness) {
	enum { CLIENTS = 4 };
	PGconn *app[CLIENTS];

	SKIP_WHEN_DIRECT();
	PGconn *control = connect_control();
	make_sequence(control);
	struct forebay *forebay = start(_i, TRIALS "max_size = 1\nalive_bypass_window = 300ms");
	for (int i = 0; i < CLIENTS; i++)
		app[i] = connect_app(forebay);
	expect_value(app[0], "select 1", "1");
	ck_assert_int_eq(trials(control), 0); /* it has just been opened */
	/* in a row, in whatever worker: none */
	long long began = harness_now_ms();
	for (int i = 0; i < CLIENTS; i++)
		expect_value(app[i], "select 2", "2");
	if (harness_now_ms() - began < 250)
		ck_assert_int_eq(trials(control), 0);
	/* idle for longer, also where it comes from another worker: one each time */
	for (int i = 0; i < CLIENTS; i++) {
		long before = trials(control);
		harness_pause_ms(320);
		expect_value(app[i], "select 3", "3");
		ck_assert_int_eq(trials(control), before + 1);
	}
	for (int i = 0; i < CLIENTS; i++)
		PQfinish(app[i]);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(connection_whose_validation_query_fails_is_replaced_unseen) {
	SKIP_WHEN_DIRECT();
	PGconn *control = connect_control();
	make_sequence(control);
	struct forebay *forebay = start(_i, TRIALS "max_size = 1\nalive_bypass_window = 10ms");
	PGconn *app = connect_app(forebay);
	int pid = backend_pid(app);
	execute(control, "alter sequence trials rename to trials_away");
	harness_pause_ms(20);
	ck_assert_int_ne(backend_pid(app), pid);
	ck_assert_int_eq(harness_count_in(forebay->log, " validation_failed "), 1);
	execute(control, "alter sequence trials_away rename to trials");
	PQfinish(app);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(connection_that_does_not_answer_its_trial_is_replaced_in_time) {
	SKIP_WHEN_DIRECT();
	PGconn *control = connect_control();
	make_sequence(control);
	struct forebay *forebay =
		start(_i, TRIALS "max_size = 1\nalive_bypass_window = 10ms\nvalidation_timeout = 400ms");
	PGconn *app = connect_app(forebay);
	int pid = backend_pid(app);
	freeze(pid);
	harness_pause_ms(20);
	long long began = harness_now_ms();
	ck_assert_int_ne(backend_pid(app), pid);
	ck_assert_int_ge(harness_now_ms() - began, 390);
	kill(pid, SIGCONT);
	PQfinish(app);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(trial_does_not_make_a_client_wait_beyond_its_time) {
	SKIP_WHEN_DIRECT();
	PGconn *control = connect_control();
	make_sequence(control);
	struct forebay *forebay = start(_i, TRIALS "max_size = 1\nalive_bypass_window = 10ms\nvalidation_timeout = 20s\n"
						   "acquire_timeout = 300ms");
	PGconn *app = connect_app(forebay), *ops = connect_ops(forebay);
	int pid = backend_pid(app);
	freeze(pid);
	harness_pause_ms(20);
	long long began = harness_now_ms();
	expect_failure(PQexec(app, "select 1"), "53300");
	ck_assert_int_ge(harness_now_ms() - began, 290);
	ck_assert_int_lt(harness_now_ms() - began, 5000);
	/* one that goes meanwhile leaves nothing behind */
	PGconn *gone = connect_app(forebay);
	send_query(gone, "select 1");
	PQfinish(gone);
	kill(pid, SIGCONT);
	await_value(control, "select is_called from trials", "t");
	ck_assert_int_eq(backend_pid(app), pid);
	await_servers(ops, 1);
	PQfinish(app);
	PQfinish(ops);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(client_that_goes_during_the_trial_leaves_the_connection_to_others) {
	SKIP_WHEN_DIRECT();
	PGconn *control = connect_control();
	make_sequence(control);
	struct forebay *forebay =
		start(_i, TRIALS "max_size = 1\nalive_bypass_window = 10ms\nvalidation_timeout = 20s");
	PGconn *one = connect_app(forebay), *two = connect_app(forebay), *ops = connect_ops(forebay);
	int pid = backend_pid(one);
	freeze(pid);
	harness_pause_ms(20);
	send_query(one, "select 1");
	for (bool tried = false; !tried;) {
		PGresult *res = PQexec(ops, "SHOW SERVERS");
		ck_assert_int_eq(PQntuples(res), 1);
		tried = strcmp(PQgetvalue(res, 0, PQfnumber(res, "state")), "tested") == 0;
		PQclear(res);
		harness_pause_ms(2);
	}
	PQfinish(one);
	send_query(two, "select pg_backend_pid()");
	harness_pause_ms(20);
	kill(pid, SIGCONT);
	PGresult *res = next_result(two);
	ck_assert_int_eq(PQresultStatus(res), PGRES_TUPLES_OK);
	ck_assert_int_eq(atoi(PQgetvalue(res, 0, 0)), pid);
	PQclear(res);
	PQfinish(two);
	PQfinish(ops);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

/* ---- names ---- */

/* Names are taken from a file of ours where Debian's libnss-wrapper is installed; sanitizers want to be loaded first. */
static const char *nss_wrapper(void) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return NULL;
#else
	static const char *const paths[] = {"/usr/lib/x86_64-linux-gnu/libnss_wrapper.so",
					    "/usr/lib/aarch64-linux-gnu/libnss_wrapper.so", "/usr/lib64/libnss_wrapper.so",
					    "/usr/lib/libnss_wrapper.so"};
	for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
		if (access(paths[i], R_OK) == 0)
			return paths[i];
	return NULL;
#endif
}

/* It looks at the file's time, in seconds, whether it has changed. */
static void write_hosts(const char *path, const char *address, const char *name) {
	static int changes;
	char line[100];
	struct utimbuf times = {.actime = time(NULL) + 10 * ++changes, .modtime = time(NULL) + 10 * changes};

	snprintf(line, sizeof line, "%s %s\n", address, name);
	harness_write(path, line);
	ck_assert_int_eq(utime(path, &times), 0);
}

START_TEST(connections_to_an_address_that_has_left_its_name_are_retired) {
	char pool[200], hosts[300];

	SKIP_WHEN_DIRECT();
	if (!nss_wrapper())
		return;
	snprintf(hosts, sizeof hosts, "%s/hosts%d", harness_dir(), _i);
	write_hosts(hosts, "127.0.0.1", "db.test");
	setenv("NSS_WRAPPER_HOSTS", hosts, 1);
	setenv("LD_PRELOAD", nss_wrapper(), 1);
	snprintf(pool, sizeof pool, "hosts = db.test:%d\nmax_size = 2\nmonitor_interval = 100ms", harness_postgres_port());
	struct forebay *forebay = forebay_start(&(struct forebay_setup){
		.workers = WORKERS(_i), .pool = pool, .listener = "auth = trust", .process = "dns_refresh = 100ms"});
	unsetenv("LD_PRELOAD");
	unsetenv("NSS_WRAPPER_HOSTS");
	PGconn *ops = connect_ops(forebay), *app = connect_app(forebay), *busy = connect_app(forebay);
	expect_value(app, "select host(inet_server_addr())", "127.0.0.1");
	await_host(ops, harness_postgres_port(), "role", "primary");
	execute(busy, "begin");
	expect_value(busy, "select host(inet_server_addr())", "127.0.0.1");
	write_hosts(hosts, "127.0.0.2", "db.test");
	forebay_await_log(forebay, " address_left_dns ");
	/* in a transaction it may finish */
	expect_value(busy, "select host(inet_server_addr())", "127.0.0.1");
	execute(busy, "commit");
	for (int i = 0; i < 3; i++) /* at most two are left, each for one more transaction at most */
		free(query(app, "select 1"));
	expect_value(app, "select host(inet_server_addr())", "127.0.0.2");
	expect_value(busy, "select host(inet_server_addr())", "127.0.0.2");
	/* the monitor's own, too */
	PGconn *control = connect_control();
	await_host(ops, harness_postgres_port(), "state", "up");
	await_value(control, "select count(*) from pg_stat_activity where application_name = 'forebay monitor'", "1");
	/* a name that cannot be found any more retires nothing */
	int pid = backend_pid(app);
	write_hosts(hosts, "127.0.0.2", "another.test");
	forebay_await_log(forebay, " dns_failed ");
	await_probes(ops, harness_postgres_port(), 2);
	ck_assert_int_eq(backend_pid(app), pid);
	await_host(ops, harness_postgres_port(), "state", "up");
	PQfinish(control);
	PQfinish(app);
	PQfinish(busy);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("monitor");
	TCase *hosts = tcase_create("hosts"), *idle = tcase_create("idle"), *validation = tcase_create("validation");

	harness_begin("listen_addresses = '127.0.0.1,127.0.0.2'");
	tcase_set_timeout(hosts, 60);
	tcase_set_timeout(idle, 60);
	tcase_set_timeout(validation, 60);
	LOOP(hosts, host_that_stops_and_starts_is_seen_and_told_once);
	LOOP(hosts, waiters_go_on_when_the_host_is_back);
	LOOP(hosts, refused_login_of_the_monitor_is_not_down);
	LOOP(hosts, host_that_cannot_be_logged_in_to_is_asked_whether_it_is_there);
	LOOP(hosts, paused_host_is_down_only_when_it_is_silent_twice);
	LOOP(hosts, monitor_has_one_connection_for_all_pools_of_a_host);
	LOOP(hosts, standby_is_seen_with_its_lag_and_its_promotion);
	LOOP(hosts, connections_to_an_address_that_has_left_its_name_are_retired);
	suite_add_tcase(suite, hosts);
	LOOP(idle, idle_connection_that_the_server_closes_is_noticed_at_once);
	LOOP(idle, keepalive_proves_idle_connections_and_keeps_them);
	LOOP(idle, keepalive_finds_a_connection_that_went_silent);
	LOOP(idle, client_that_comes_while_a_connection_is_tried_gets_it);
	suite_add_tcase(suite, idle);
	LOOP(validation, validation_query_is_run_only_after_idleness);
	LOOP(validation, connection_whose_validation_query_fails_is_replaced_unseen);
	LOOP(validation, connection_that_does_not_answer_its_trial_is_replaced_in_time);
	LOOP(validation, trial_does_not_make_a_client_wait_beyond_its_time);
	LOOP(validation, client_that_goes_during_the_trial_leaves_the_connection_to_others);
	suite_add_tcase(suite, validation);
	return harness_run(suite);
}
