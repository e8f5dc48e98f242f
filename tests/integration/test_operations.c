/* What operators do to pools and clients: PAUSE to KILL_CLIENT; and who is let in where places are counted. */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "query.h"

static struct forebay *start(int i, const char *pool) {
	return forebay_start(&(struct forebay_setup){.workers = WORKERS(i), .pool = pool, .listener = "auth = trust"});
}

static void expect_cell(PGconn *conn, const char *sql, const char *key, const char *column, const char *expected) {
	char *value = table_cell(conn, sql, "name", key, column);

	ck_assert_msg(strcmp(value, expected) == 0, "%s: %s of %s is \"%s\", not \"%s\"", sql, column, key, value, expected);
	free(value);
}

static void await_waiting(PGconn *ops, const char *database, const char *expected) {
	await_table_cell(ops, "SHOW POOLS", "database", database, "cl_waiting", expected);
}

static void check_failure(PGresult *res, const char *sql, const char *sqlstate, const char *words) {
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);

	ck_assert_msg(state && strcmp(state, sqlstate) == 0 && strstr(PQresultErrorMessage(res), words),
		      "%s: expected %s with \"%s\", got %s: %s", sql, sqlstate, words, state ? state : "no error",
		      PQresultErrorMessage(res));
	PQclear(res);
}

static void expect_fails(PGconn *conn, const char *sql, const char *sqlstate, const char *words) {
	check_failure(PQexec(conn, sql), sql, sqlstate, words);
	ck_assert_int_eq(PQstatus(conn), CONNECTION_OK);
}

/* It has been ended: FATAL 57P01 is there to be read. */
static void expect_terminated(PGconn *conn) {
	send_query(conn, "select 1");
	check_failure(next_result(conn), "after its end", "57P01", "administrator command");
	PQfinish(conn);
}

static void keep_notice(void *kept, const char *message) {
	snprintf(kept, 256, "%s", message);
}

static void expect_end(PGconn *conn) {
	ck_assert_ptr_null(next_result(conn));
}

static void expect_busy(PGconn *conn, const char *what) {
	ck_assert(PQconsumeInput(conn));
	ck_assert_msg(PQisBusy(conn), "%s was answered too early", what);
}

/* Connections of the pools' users to PostgreSQL. */
#define CONNECTIONS "select count(*) from pg_stat_activity where usename = 'app'"

/* ---- clients that ask on and on, on threads of their own ---- */

struct load {
	pthread_t thread[8];
	PGconn *conn[8];
	int count;
	_Atomic bool stop;
	_Atomic int errors, answers;
	char error[256];
};

struct loader {
	struct load *load;
	PGconn *conn;
};

static void *ask_on(void *context) {
	struct loader loader = *(struct loader *)context;
	struct load *load = loader.load;

	free(context);
	while (!atomic_load(&load->stop)) {
		PGresult *res = PQexec(loader.conn, "select pg_backend_pid()");

		if (PQresultStatus(res) == PGRES_TUPLES_OK)
			atomic_fetch_add(&load->answers, 1);
		else if (atomic_fetch_add(&load->errors, 1) == 0)
			snprintf(load->error, sizeof(load->error), "%s", PQerrorMessage(loader.conn));
		PQclear(res);
		if (PQstatus(loader.conn) != CONNECTION_OK)
			break;
		harness_pause_ms(1);
	}
	return NULL;
}

static void load_begin(struct load *load, const struct forebay *forebay, int count) {
	memset(load, 0, sizeof(*load));
	load->count = count;
	for (int i = 0; i < count; i++) {
		struct loader *loader = malloc(sizeof(*loader));

		load->conn[i] = connect_app(forebay);
		*loader = (struct loader){.load = load, .conn = load->conn[i]};
		ck_assert_int_eq(pthread_create(&load->thread[i], NULL, ask_on, loader), 0);
	}
}

/* Until so many more answers have come. */
static void load_await(struct load *load, int more) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	int until = atomic_load(&load->answers) + more;

	while (atomic_load(&load->answers) < until && atomic_load(&load->errors) == 0) {
		ck_assert_msg(harness_now_ms() < deadline, "the clients get no answers any more");
		harness_pause_ms(5);
	}
}

static void load_end(struct load *load) {
	atomic_store(&load->stop, true);
	for (int i = 0; i < load->count; i++) {
		pthread_join(load->thread[i], NULL);
		PQfinish(load->conn[i]);
	}
	ck_assert_msg(atomic_load(&load->errors) == 0, "%d errors, the first: %s", atomic_load(&load->errors), load->error);
}

/* ---- who may say it, of what ---- */

START_TEST(only_admins_may_and_only_of_what_there_is) {
	static const char *const commands[] = {"PAUSE",	    "RESUME",	  "DISABLE",    "ENABLE",
					       "RECONNECT", "WAIT_CLOSE", "KILL",	"KILL_CLIENT"};
	struct forebay *forebay;
	PGconn *ops, *watcher, *app;
	char sql[100];

	SKIP_WHEN_DIRECT();
	forebay = start(_i, NULL);
	ops = connect_operator(forebay);
	watcher = connect_with(forebay, "user=watcher dbname=forebay");
	app = connect_app(forebay);
	execute(app, "select 1");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		snprintf(sql, sizeof(sql), "%s app", commands[i]);
		expect_fails(watcher, sql, "42501", "admin_users");
		if (i == 7)
			continue;
		snprintf(sql, sizeof(sql), "%s ap", commands[i]);
		expect_fails(ops, sql, "3D000", "there is no database \"ap\"; did you mean \"app\"?");
		snprintf(sql, sizeof(sql), "%s \"quite another\"", commands[i]);
		expect_fails(ops, sql, "3D000", "there is no database \"quite another\"; SHOW DATABASES");
		snprintf(sql, sizeof(sql), "%s app app", commands[i]);
		expect_fails(ops, sql, "42601", "takes one name");
		snprintf(sql, sizeof(sql), "%s pgbouncer", commands[i]);
		expect_fails(ops, sql, "0A000", "this console");
	}
	expect_fails(ops, "DISABLE", "42601", "DISABLE needs the name of a database");
	expect_fails(ops, "ENABLE;", "42601", "ENABLE needs the name of a database");
	expect_fails(ops, "RESUME", "55000", "nothing is paused");
	expect_fails(ops, "RESUME app", "55000", "database \"app\" is not paused");
	expect_fails(ops, "KILL_CLIENT", "42601", "needs the id");
	expect_fails(ops, "KILL_CLIENT app", "22P02", "SHOW CLIENTS");
	expect_fails(ops, "KILL_CLIENT -1", "22P02", "SHOW CLIENTS");
	expect_fails(ops, "KILL_CLIENT c", "22P02", "SHOW CLIENTS");
	expect_fails(ops, "KILL_CLIENT 99999999999", "22P02", "SHOW CLIENTS");
	/* Nothing of it had any effect. */
	expect_value(app, "select 'as before'", "as before");
	expect_cell(ops, "SHOW DATABASES", "app", "paused", "0");
	expect_cell(ops, "SHOW DATABASES", "app", "disabled", "0");
	/* And what does has its tag, by both protocols. */
	expect_tag(ops, "pause \"app\";", "PAUSE");
	expect_fails(ops, "PAUSE app", "55000", "database \"app\" is paused already");
	expect_tag(ops, "RESUME app", "RESUME");
	expect_tag(ops, "Reconnect app", "RECONNECT");
	expect_tag(ops, "WAIT_CLOSE", "WAIT_CLOSE");
	expect_tag(ops, "RECONNECT", "RECONNECT");
	expect_tag(ops, "WAIT_CLOSE app", "WAIT_CLOSE");
	expect_tag(ops, "DISABLE app", "DISABLE");
	expect_tag(ops, "ENABLE app", "ENABLE");
	expect_result(PQexecParams(ops, "PAUSE", 0, NULL, NULL, NULL, NULL, 0), PGRES_COMMAND_OK);
	expect_fails(ops, "PAUSE", "55000", "everything is paused already");
	expect_result(PQexecParams(ops, "RESUME", 0, NULL, NULL, NULL, NULL, 0), PGRES_COMMAND_OK);
	expect_value(app, "select 'goes on'", "goes on");
	forebay_await_log(forebay, "console_pause");
	PQfinish(ops);
	PQfinish(watcher);
	PQfinish(app);
	forebay_stop(forebay);
}
END_TEST

/* ---- PAUSE and RESUME ---- */

START_TEST(pause_waits_for_transactions_and_closes_every_connection) {
	struct forebay *forebay;
	PGconn *ops, *pauser, *a, *b, *c, *later, *control = connect_control();

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "max_size = 3\nmin_idle = 2");
	ops = connect_operator(forebay);
	pauser = connect_operator(forebay);
	a = connect_app(forebay);
	b = connect_app(forebay);
	c = connect_app(forebay);
	expect_value(b, "select 1", "1");
	begin_holding(a);
	send_query(pauser, "PAUSE app");
	await_table_cell(ops, "SHOW DATABASES", "name", "app", "paused", "1");
	send_query(b, "select 'b was served'");
	await_waiting(ops, "app", "1");
	/* Only the one in use is left. */
	await_value(control, CONNECTIONS, "1");
	expect_value(a, "select 'goes on'", "goes on");
	expect_busy(pauser, "PAUSE");
	execute(a, "commit");
	expect_result(next_result(pauser), PGRES_COMMAND_OK);
	expect_end(pauser);
	await_value(control, CONNECTIONS, "0");
	/* Who comes now is let in, and waits. */
	later = connect_app(forebay);
	send_query(later, "select 'the later one too'");
	send_query(c, "select 'c was served'");
	await_waiting(ops, "app", "3");
	expect_value(control, CONNECTIONS, "0");
	{
		char *state = table_cell(ops, "SHOW STATE", "key", "paused", "value");

		ck_assert_str_eq(state, "yes");
		free(state);
	}
	expect_tag(ops, "RESUME app", "RESUME");
	expect_text(next_result(b), "b was served");
	expect_text(next_result(c), "c was served");
	expect_text(next_result(later), "the later one too");
	expect_cell(ops, "SHOW DATABASES", "app", "paused", "0");
	PQfinish(a);
	PQfinish(b);
	PQfinish(c);
	PQfinish(later);
	PQfinish(ops);
	PQfinish(pauser);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(pause_waits_for_sessions_to_end) {
	struct forebay *forebay;
	PGconn *ops, *pauser, *a, *control = connect_control();

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "pool_mode = session");
	ops = connect_operator(forebay);
	pauser = connect_operator(forebay);
	a = connect_app(forebay);
	expect_value(a, "select 1", "1");
	send_query(pauser, "PAUSE app");
	await_table_cell(ops, "SHOW DATABASES", "name", "app", "paused", "1");
	for (int i = 0; i < 5; i++)
		expect_value(a, "select 'still in'", "still in");
	expect_busy(pauser, "PAUSE");
	PQfinish(a);
	expect_result(next_result(pauser), PGRES_COMMAND_OK);
	expect_end(pauser);
	await_value(control, CONNECTIONS, "0");
	expect_tag(ops, "RESUME", "RESUME");
	a = connect_app(forebay);
	expect_value(a, "select 1", "1");
	PQfinish(a);
	PQfinish(ops);
	PQfinish(pauser);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(who_waits_too_long_is_told_of_the_pause) {
	struct forebay *forebay;
	PGconn *ops, *a;

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "acquire_timeout = 600ms");
	ops = connect_operator(forebay);
	a = connect_app(forebay);
	expect_value(a, "select 1", "1");
	expect_tag(ops, "PAUSE", "PAUSE");
	expect_fails(a, "select 1", "53300", "pool \"app\" is paused");
	expect_fails(a, "select 1", "53300", "RESUME");
	expect_tag(ops, "RESUME", "RESUME");
	/* A busy machine may need longer than that for a login. */
	for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;;) {
		PGresult *res = PQexec(a, "select 1");
		bool served = PQresultStatus(res) == PGRES_TUPLES_OK;

		ck_assert_msg(!strstr(PQresultErrorMessage(res), "paused"), "%s", PQresultErrorMessage(res));
		ck_assert_msg(served || harness_now_ms() < deadline, "%s", PQresultErrorMessage(res));
		PQclear(res);
		if (served)
			break;
	}
	PQfinish(a);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

START_TEST(postgresql_restarts_unseen_by_clients_within_a_pause) {
	struct forebay *forebay;
	struct load load;
	PGconn *ops;

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "max_size = 4\nmin_idle = 2");
	ops = connect_operator(forebay);
	load_begin(&load, forebay, 8);
	for (int round = 0; round < 2; round++) {
		load_await(&load, 50);
		expect_tag(ops, round ? "PAUSE" : "PAUSE app", "PAUSE");
		harness_postgres_stop(false);
		harness_postgres_start();
		expect_tag(ops, round ? "RESUME" : "RESUME app", "RESUME");
		load_await(&load, 50);
	}
	load_end(&load);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

START_TEST(pause_without_a_name_holds_for_all_and_those_to_come) {
	struct forebay *forebay;
	PGconn *ops, *a, *o;
	char more[256], notice[256] = "";

	SKIP_WHEN_DIRECT();
	snprintf(more, sizeof(more),
		 "[pool:other]\nhosts = 127.0.0.1:%d\n[pool:*]\nhosts = 127.0.0.1:%d\nacquire_timeout = 600ms\n",
		 harness_postgres_port(), harness_postgres_port());
	forebay = forebay_start(
		&(struct forebay_setup){.workers = WORKERS(_i), .listener = "auth = trust", .more = more});
	ops = connect_operator(forebay);
	a = connect_app(forebay);
	o = connect_with(forebay, "dbname=other");
	expect_value(a, "select 1", "1");
	expect_value(o, "select 1", "1");
	expect_tag(ops, "PAUSE", "PAUSE");
	send_query(a, "select 'a was served'");
	send_query(o, "select 'o was served'");
	await_waiting(ops, "app", "1");
	await_waiting(ops, "other", "1");
	expect_refused(try_connect(forebay, "dbname=postgres"), "pool \"postgres\" is paused");
	expect_fails(ops, "PAUSE template1", "55000", "paused already");
	expect_tag(ops, "RESUME app", "RESUME");
	expect_text(next_result(a), "a was served");
	expect_end(a);
	expect_busy(o, "a query to a paused pool");
	expect_cell(ops, "SHOW DATABASES", "other", "paused", "1");
	expect_tag(ops, "PAUSE", "PAUSE"); /* for one is not */
	expect_tag(ops, "RESUME", "RESUME");
	expect_text(next_result(o), "o was served");
	expect_end(o);
	expect_value(a, "select 1", "1");
	expect_cell(ops, "SHOW DATABASES", "postgres", "paused", "0");
	/* A database that nobody has asked for yet may be paused, too; but perhaps it was a slip. */
	PQsetNoticeProcessor(ops, keep_notice, notice);
	expect_tag(ops, "PAUSE othr", "PAUSE");
	ck_assert_msg(strstr(notice, "database \"othr\" was not in use until now; [pool:*] serves it; did you mean "
				     "\"other\"?") != NULL,
		      "%s", notice);
	expect_cell(ops, "SHOW DATABASES", "othr", "paused", "1");
	expect_tag(ops, "PAUSE template0", "PAUSE");
	expect_cell(ops, "SHOW DATABASES", "template0", "paused", "1");
	expect_refused(try_connect(forebay, "dbname=template0"), "pool \"template0\" is paused");
	PQfinish(a);
	PQfinish(o);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

START_TEST(a_paused_pool_stays_so_over_a_reload) {
	struct forebay_setup setup = {.workers = WORKERS(_i), .listener = "auth = trust", .pool = "max_size = 2"};
	struct forebay *forebay;
	PGconn *ops, *a, *control = connect_control();

	SKIP_WHEN_DIRECT();
	forebay = forebay_start(&setup);
	ops = connect_operator(forebay);
	a = connect_app(forebay);
	expect_value(a, "select 1", "1");
	expect_tag(ops, "PAUSE app", "PAUSE");
	expect_tag(ops, "DISABLE app", "DISABLE");
	send_query(a, "select 'a was served'");
	await_waiting(ops, "app", "1");
	setup.pool = "max_size = 3\nmin_idle = 1";
	forebay_rewrite_ini(forebay, &setup);
	expect_tag(ops, "RELOAD", "RELOAD");
	await_table_cell(ops, "SHOW DATABASES", "name", "app", "pool_size", "3");
	expect_cell(ops, "SHOW DATABASES", "app", "paused", "1");
	expect_cell(ops, "SHOW DATABASES", "app", "disabled", "1");
	for (int i = 0; i < 5; i++) {
		await_waiting(ops, "app", "1");
		await_value(control, CONNECTIONS, "0");
	}
	expect_busy(a, "a query to a paused pool");
	expect_tag(ops, "RESUME app", "RESUME");
	expect_text(next_result(a), "a was served");
	expect_end(a);
	PQfinish(a);
	PQfinish(ops);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(a_pause_outlives_whoever_waits_for_it) {
	struct forebay *forebay;
	PGconn *ops, *pauser, *a;
	PGcancel *cancel;
	char text[256];

	SKIP_WHEN_DIRECT();
	forebay = start(_i, NULL);
	ops = connect_operator(forebay);
	a = connect_app(forebay);
	begin_holding(a);
	/* It goes away. */
	pauser = connect_operator(forebay);
	send_query(pauser, "PAUSE app");
	await_table_cell(ops, "SHOW DATABASES", "name", "app", "paused", "1");
	PQfinish(pauser);
	await_table_cell(ops, "SHOW LISTS", "list", "console_clients", "items", "1");
	expect_cell(ops, "SHOW DATABASES", "app", "paused", "1");
	expect_tag(ops, "RESUME app", "RESUME");
	/* It cancels its command. */
	pauser = connect_operator(forebay);
	send_query(pauser, "PAUSE");
	await_table_cell(ops, "SHOW DATABASES", "name", "app", "paused", "1");
	cancel = PQgetCancel(pauser);
	expect_busy(pauser, "PAUSE");
	/* One that comes before it waits is without effect, as for any query. */
	for (int i = 0; i < 1000 && PQisBusy(pauser); i++) {
		ck_assert(PQcancel(cancel, text, sizeof(text)));
		harness_pause_ms(5);
		ck_assert(PQconsumeInput(pauser));
	}
	check_failure(next_result(pauser), "PAUSE", "57014", "stays so until RESUME");
	expect_end(pauser);
	PQfreeCancel(cancel);
	expect_cell(ops, "SHOW DATABASES", "app", "paused", "1");
	expect_tag(pauser, "RESUME", "RESUME");
	/* Somebody else ends it. */
	send_query(pauser, "PAUSE app");
	await_table_cell(ops, "SHOW DATABASES", "name", "app", "paused", "1");
	expect_tag(ops, "RESUME app", "RESUME");
	check_failure(next_result(pauser), "PAUSE", "55000", "\"app\" was resumed before");
	expect_end(pauser);
	/* The process ends under it, at once. */
	send_query(pauser, "PAUSE app");
	await_table_cell(ops, "SHOW DATABASES", "name", "app", "paused", "1");
	expect_busy(pauser, "PAUSE");
	expect_tag(ops, "SHUTDOWN NOW", "SHUTDOWN");
	forebay_await_exit(forebay);
	PQfinish(a);
	PQfinish(ops);
	PQfinish(pauser);
}
END_TEST

/* ---- DISABLE and ENABLE ---- */

START_TEST(a_disabled_database_lets_nobody_in_and_keeps_those_it_has) {
	struct forebay *forebay;
	PGconn *ops, *a, *b;

	SKIP_WHEN_DIRECT();
	forebay = start(_i, NULL);
	ops = connect_operator(forebay);
	a = connect_app(forebay);
	expect_tag(ops, "DISABLE app", "DISABLE");
	expect_refused(try_connect(forebay, " "), "database \"app\" is not currently accepting connections");
	expect_value(a, "select 'goes on'", "goes on");
	expect_tag(ops, "DISABLE app", "DISABLE");
	expect_tag(ops, "RELOAD", "RELOAD");
	expect_refused(try_connect(forebay, " "), "is disabled");
	expect_tag(ops, "ENABLE app", "ENABLE");
	b = connect_app(forebay);
	expect_value(b, "select 1", "1");
	PQfinish(a);
	PQfinish(b);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

/* ---- RECONNECT and WAIT_CLOSE ---- */

START_TEST(reconnect_changes_every_backend_under_load_without_an_error) {
	struct forebay *forebay;
	struct load load;
	PGconn *ops, *control = connect_control();

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "max_size = 5");
	ops = connect_operator(forebay);
	load_begin(&load, forebay, 8);
	for (int round = 0; round < 3; round++) {
		char *before, sql[512];

		load_await(&load, 40);
		before = query(control, "select coalesce(string_agg(pid::text, ','), '0') from pg_stat_activity where "
					"usename = 'app'");
		ck_assert_str_ne(before, "0");
		expect_tag(ops, round ? "RECONNECT app" : "RECONNECT", "RECONNECT");
		expect_tag(ops, round ? "WAIT_CLOSE app" : "WAIT_CLOSE", "WAIT_CLOSE");
		/* What Forebay has closed, PostgreSQL is about to end. */
		snprintf(sql, sizeof(sql), "select count(*) from pg_stat_activity where pid in (%s)", before);
		await_value(control, sql, "0");
		load_await(&load, 40);
		free(before);
	}
	load_end(&load);
	PQfinish(ops);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(wait_close_waits_for_the_transaction_on_the_old_connection) {
	struct forebay *forebay;
	PGconn *ops, *waiter, *a;
	char *before, *during, *after;

	SKIP_WHEN_DIRECT();
	forebay = start(_i, NULL);
	ops = connect_operator(forebay);
	waiter = connect_operator(forebay);
	a = connect_app(forebay);
	execute(a, "begin");
	before = query(a, "select pg_backend_pid()");
	expect_tag(ops, "RECONNECT app", "RECONNECT");
	send_query(waiter, "WAIT_CLOSE app");
	during = query(a, "select pg_backend_pid()");
	ck_assert_str_eq(before, during);
	forebay_await_log(forebay, "console_wait_close");
	expect_busy(waiter, "WAIT_CLOSE");
	execute(a, "commit");
	expect_result(next_result(waiter), PGRES_COMMAND_OK);
	expect_end(waiter);
	after = query(a, "select pg_backend_pid()");
	ck_assert_str_ne(before, after);
	free(before);
	free(during);
	free(after);
	PQfinish(a);
	PQfinish(ops);
	PQfinish(waiter);
	forebay_stop(forebay);
}
END_TEST

/* ---- KILL and KILL_CLIENT ---- */

static PGconn *begin_to_connect(const struct forebay *forebay, const char *database) {
	char info[256];

	snprintf(info, sizeof(info), "host=127.0.0.1 port=%d user=app dbname=%s sslmode=disable", forebay->port, database);
	return PQconnectStart(info);
}

/* Of a user whom no connection has told yet what the server says at login. */
static void await_waiting_in_login(PGconn *ops, PGconn *conn) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	for (;;) {
		char *waiting;
		bool waits;

		ck_assert_msg(PQconnectPoll(conn) != PGRES_POLLING_FAILED, "%s", PQerrorMessage(conn));
		waiting = table_cell(ops, "SHOW POOLS", "database", "app", "cl_waiting");
		waits = strcmp(waiting, "1") == 0;
		free(waiting);
		if (waits)
			return;
		ck_assert(harness_now_ms() < deadline);
		harness_pause_ms(5);
	}
}

START_TEST(kill_drops_all_of_one_database_and_pauses_it) {
	struct forebay *forebay;
	PGconn *ops, *holder, *idle, *waiter, *bystander, *later, *control = connect_control();
	char more[128];

	SKIP_WHEN_DIRECT();
	snprintf(more, sizeof(more), "[pool:other]\nhosts = 127.0.0.1:%d\n", harness_postgres_port());
	forebay = forebay_start(&(struct forebay_setup){
		.workers = WORKERS(_i), .listener = "auth = trust", .pool = "max_size = 1", .more = more});
	ops = connect_operator(forebay);
	for (int round = 0; round < 2; round++) {
		holder = connect_app(forebay);
		idle = connect_app(forebay);
		waiter = connect_app(forebay);
		bystander = connect_with(forebay, "dbname=other");
		begin_holding(bystander);
		begin_holding(holder);
		send_query(holder, "select pg_sleep(60)");
		await_running(control, "pg_sleep(60)");
		send_query(waiter, "select 'never'");
		await_waiting(ops, "app", "1");
		expect_tag(ops, round ? "KILL \"app\"" : "KILL app", "KILL");
		check_failure(next_result(holder), "killed", "57P01", "KILL of its database");
		check_failure(next_result(waiter), "killed", "57P01", "administrator command");
		PQfinish(holder);
		PQfinish(waiter);
		expect_terminated(idle);
		/* With nobody left of it. What runs on PostgreSQL notices when it next looks. */
		await_table_cell(ops, "SHOW DATABASES", "name", "app", "current_connections", "0");
		await_table_cell(ops, "SHOW DATABASES", "name", "app", "current_client_connections", "0");
		PQclear(PQexec(control, "select pg_terminate_backend(pid) from pg_stat_activity where query like "
					"'%pg_sleep(60)%' and usename = 'app'"));
		expect_value(bystander, "select 'untouched'", "untouched");
		execute(bystander, "commit");
		expect_cell(ops, "SHOW DATABASES", "app", "paused", "1");
		expect_cell(ops, "SHOW DATABASES", "other", "paused", "0");
		later = begin_to_connect(forebay, "app");
		await_waiting_in_login(ops, later);
		expect_tag(ops, "RESUME app", "RESUME");
		while (PQconnectPoll(later) != PGRES_POLLING_OK)
			ck_assert_msg(PQstatus(later) != CONNECTION_BAD, "%s", PQerrorMessage(later));
		expect_value(later, "select 'served'", "served");
		PQfinish(later);
		PQfinish(bystander);
	}
	/* A pool that PAUSE waits for in vain can be killed; without a name it is all of them. */
	holder = connect_app(forebay);
	bystander = connect_with(forebay, "dbname=other");
	begin_holding(holder);
	begin_holding(bystander);
	idle = connect_operator(forebay);
	send_query(idle, "PAUSE");
	await_table_cell(ops, "SHOW DATABASES", "name", "other", "paused", "1");
	expect_tag(ops, "KILL", "KILL");
	expect_result(next_result(idle), PGRES_COMMAND_OK);
	expect_terminated(holder);
	expect_terminated(bystander);
	expect_tag(ops, "RESUME", "RESUME");
	PQfinish(idle);
	PQfinish(ops);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(a_killed_client_is_rolled_back_and_its_server_is_used_again) {
	struct forebay *forebay;
	PGconn *ops, *a, *b, *control = connect_control();
	char *id, *pid, *again, sql[64];

	SKIP_WHEN_DIRECT();
	execute(control, "drop table if exists killed; create table killed(n int); grant all on killed to app");
	forebay = start(_i, "max_size = 1");
	ops = connect_operator(forebay);
	for (int round = 0; round < 3; round++) {
		a = connect_with(forebay, "application_name=victim");
		b = connect_app(forebay);
		execute(a, "begin");
		pid = query(a, "select pg_backend_pid()");
		execute(a, "insert into killed values (1)");
		if (round == 1) { /* in the midst of a statement */
			send_query(a, "select pg_sleep(60)");
			await_running(control, "pg_sleep(60)");
		}
		send_query(b, "select pg_backend_pid()");
		await_waiting(ops, "app", "1");
		id = table_cell(ops, "SHOW CLIENTS", "application_name", "victim", round ? "id" : "ptr");
		ck_assert_str_ne(id, "");
		snprintf(sql, sizeof(sql), "KILL_CLIENT %s", id);
		expect_tag(ops, sql, "KILL_CLIENT");
		if (round == 1) {
			check_failure(next_result(a), "killed", "57P01", "KILL_CLIENT");
			PQfinish(a);
		} else {
			expect_terminated(a);
		}
		{
			PGresult *res = next_result(b);

			ck_assert_msg(PQresultStatus(res) == PGRES_TUPLES_OK, "%s", PQresultErrorMessage(res));
			again = strdup(PQgetvalue(res, 0, 0));
			PQclear(res);
			expect_end(b);
		}
		ck_assert_str_eq(pid, again);
		expect_value(b, "select count(*) from killed", "0");
		await_table_cell(ops, "SHOW DATABASES", "name", "app", "current_client_connections", "1");
		expect_fails(ops, sql, "42704", "there is no client with the id");
		free(id);
		free(pid);
		free(again);
		PQfinish(b);
	}
	/* The operator's own. */
	id = table_cell(ops, "SHOW CLIENTS", "database", "forebay", "ptr");
	snprintf(sql, sizeof(sql), "KILL_CLIENT %s", id);
	send_query(ops, sql);
	check_failure(next_result(ops), sql, "57P01", "administrator command");
	free(id);
	PQfinish(ops);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

/* ---- places ---- */

enum { CROWD = 40 };

/* All of them connect at once. How many were let in; the others were told the words. */
static int crowd_in(const struct forebay *forebay, PGconn *conn[CROWD], const char *const databases[2], const char *words) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	PostgresPollingStatusType now[CROWD];
	int left = CROWD, in = 0;

	for (int i = 0; i < CROWD; i++) {
		char info[256];

		snprintf(info, sizeof(info), "host=127.0.0.1 port=%d user=app dbname=%s sslmode=disable", forebay->port,
			 databases[i % 2]);
		conn[i] = PQconnectStart(info);
		now[i] = PGRES_POLLING_WRITING;
	}
	while (left > 0) {
		struct pollfd p[CROWD];

		for (int i = 0; i < CROWD; i++)
			p[i] = (struct pollfd){.fd = PQsocket(conn[i]),
					       .events = now[i] == PGRES_POLLING_READING   ? POLLIN
							 : now[i] == PGRES_POLLING_WRITING ? POLLOUT
											   : 0};
		ck_assert_msg(harness_now_ms() < deadline, "%d clients have had no answer", left);
		for (int i = 0; i < CROWD; i++)
			if (p[i].events == 0)
				p[i].fd = -1;
		poll(p, CROWD, 100);
		for (int i = 0; i < CROWD; i++) {
			if (p[i].fd < 0 || !p[i].revents)
				continue;
			now[i] = PQconnectPoll(conn[i]);
			if (now[i] != PGRES_POLLING_OK && now[i] != PGRES_POLLING_FAILED)
				continue;
			left--;
			in += now[i] == PGRES_POLLING_OK;
			ck_assert_msg(now[i] == PGRES_POLLING_OK || strstr(PQerrorMessage(conn[i]), words) != NULL, "%s",
				      PQerrorMessage(conn[i]));
		}
	}
	return in;
}

static void crowd_out(PGconn *conn[CROWD]) {
	for (int i = 0; i < CROWD; i++)
		PQfinish(conn[i]);
}

static void places_are_exact(int i, const struct forebay_setup *setup, const char *const databases[2], const char *words,
			     int limit) {
	struct forebay_setup with = *setup;
	struct forebay *forebay;
	PGconn *conn[CROWD], *first[2], *ops;
	char more[512], used[16];

	snprintf(more, sizeof(more), "[pool:other]\nhosts = 127.0.0.1:%d\n%s", harness_postgres_port(),
		 setup->more ? setup->more : "");
	with.workers = WORKERS(i);
	with.listener = "auth = trust";
	with.more = more;
	forebay = forebay_start(&with);
	ops = connect_operator(forebay);
	/* What a server says of itself is known from now on, so that none of the crowd waits for one. */
	for (int d = 0; d < 2; d++) {
		first[d] = connect_with(forebay, "dbname=%s", databases[d]);
		PQfinish(first[d]);
	}
	for (int round = 0; round < 5; round++) {
		await_table_cell(ops, "SHOW LISTS", "list", "used_clients", "items", "1");
		ck_assert_int_eq(crowd_in(forebay, conn, databases, words), limit);
		/* Those who were refused hold no place: one that leaves makes room for one. */
		for (int left = 0, k = 0; k < CROWD && left < 2; k++) {
			if (PQstatus(conn[k]) != CONNECTION_OK)
				continue;
			left++;
			PQfinish(conn[k]);
			snprintf(used, sizeof(used), "%d", limit - 1);
			for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;;) {
				conn[k] = try_connect(forebay, "dbname=%s", databases[k % 2]);
				if (PQstatus(conn[k]) == CONNECTION_OK)
					break;
				ck_assert_msg(harness_now_ms() < deadline && strstr(PQerrorMessage(conn[k]), words), "%s",
					      PQerrorMessage(conn[k]));
				PQfinish(conn[k]);
				harness_pause_ms(5);
			}
			expect_refused(try_connect(forebay, "dbname=%s", databases[k % 2]), words);
		}
		crowd_out(conn);
	}
	PQfinish(ops);
	forebay_stop(forebay);
}

START_TEST(max_connections_of_a_pool_lets_in_so_many_and_no_more) {
	SKIP_WHEN_DIRECT();
	places_are_exact(_i, &(struct forebay_setup){.pool = "max_connections = 7"}, (const char *const[]){"app", "app"},
			 "pool \"app\": too many clients: 7 are connected, which is its max_connections", 7);
}
END_TEST

START_TEST(max_connections_of_a_user_counts_over_all_pools) {
	SKIP_WHEN_DIRECT();
	places_are_exact(_i,
			 &(struct forebay_setup){.no_default_users = true,
						 .process = "admin_users = ops",
						 .more = "[user:app]\npassword = app-secret\nmax_connections = 9\n"},
			 (const char *const[]){"app", "other"},
			 "user \"app\": too many clients: 9 are connected, which is its max_connections", 9);
}
END_TEST

START_TEST(max_clients_lets_in_so_many_and_no_more) {
	SKIP_WHEN_DIRECT();
	/* the operator is one */
	places_are_exact(_i, &(struct forebay_setup){.process = "max_clients = 12"}, (const char *const[]){"app", "other"},
			 "too many clients: 12 are connected, which is max_clients", 11);
}
END_TEST

START_TEST(a_limit_is_of_the_user_who_came_where_the_pool_logs_in_as_another) {
	struct forebay *forebay;
	PGconn *a, *b;

	SKIP_WHEN_DIRECT();
	forebay = forebay_start(&(struct forebay_setup){
		.workers = WORKERS(_i), .listener = "auth = trust", .no_default_users = true, .process = "admin_users = ops",
		.pool = "user = app\npassword = app-secret",
		.more = "[user:guest]\nmax_connections = 1\n[user:app]\nmax_connections = 1\n"});
	a = connect_with(forebay, "user=guest");
	b = connect_with(forebay, "user=app");
	expect_value(a, "select current_user", "app");
	expect_refused(try_connect(forebay, "user=guest"), "user \"guest\": too many clients: 1 are connected");
	expect_refused(try_connect(forebay, "user=app"), "user \"app\": too many clients: 1 are connected");
	PQfinish(a);
	PQfinish(b);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("operations");
	TCase *pause = tcase_create("pause"), *others = tcase_create("operations"), *places = tcase_create("places");
	TCase *all[] = {pause, others, places};

	harness_begin(NULL);
	for (int i = 0; i < 3; i++) {
		tcase_set_timeout(all[i], 120);
		suite_add_tcase(suite, all[i]);
	}
	LOOP(pause, pause_waits_for_transactions_and_closes_every_connection);
	LOOP(pause, pause_waits_for_sessions_to_end);
	LOOP(pause, who_waits_too_long_is_told_of_the_pause);
	LOOP(pause, postgresql_restarts_unseen_by_clients_within_a_pause);
	LOOP(pause, pause_without_a_name_holds_for_all_and_those_to_come);
	LOOP(pause, a_paused_pool_stays_so_over_a_reload);
	LOOP(pause, a_pause_outlives_whoever_waits_for_it);
	LOOP(others, only_admins_may_and_only_of_what_there_is);
	LOOP(others, a_disabled_database_lets_nobody_in_and_keeps_those_it_has);
	LOOP(others, reconnect_changes_every_backend_under_load_without_an_error);
	LOOP(others, wait_close_waits_for_the_transaction_on_the_old_connection);
	LOOP(others, kill_drops_all_of_one_database_and_pauses_it);
	LOOP(others, a_killed_client_is_rolled_back_and_its_server_is_used_again);
	LOOP(places, max_connections_of_a_pool_lets_in_so_many_and_no_more);
	LOOP(places, max_connections_of_a_user_counts_over_all_pools);
	LOOP(places, max_clients_lets_in_so_many_and_no_more);
	LOOP(places, a_limit_is_of_the_user_who_came_where_the_pool_logs_in_as_another);
	return harness_run(suite);
}
