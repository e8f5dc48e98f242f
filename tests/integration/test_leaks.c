/* Clients that hold a connection and leave it unused, clients that wait and are told so, and the audit of it all. */
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "query.h"
#include "wire.h"

static struct forebay *start(int i, const char *pool) {
	return forebay_start(
		&(struct forebay_setup){.workers = WORKERS(i), .pool = pool, .listener = "auth = trust"});
}

/* ---- SHOW LEAKS ---- */

static const char *field(const PGresult *res, int row, const char *column) {
	int n = PQfnumber(res, column);
	ck_assert_msg(n >= 0, "there is no column %s", column);
	return PQgetvalue(res, row, n);
}

/* The rows of an application in this state (NULL: any); *row is the first of them, or -1. */
static PGresult *leaks_of(PGconn *ops, const char *application, const char *state, int *count, int *row) {
	PGresult *res = PQexec(ops, "SHOW LEAKS");
	ck_assert_msg(PQresultStatus(res) == PGRES_TUPLES_OK, "%s", PQresultErrorMessage(res));
	*count = 0;
	*row = -1;
	for (int i = 0; i < PQntuples(res); i++) {
		if (strcmp(field(res, i, "application_name"), application) != 0 ||
		    (state && strcmp(field(res, i, "state"), state) != 0))
			continue;
		if ((*count)++ == 0)
			*row = i;
	}
	return res;
}

static int count_leaks(PGconn *ops, const char *application, const char *state) {
	int count, row;
	PQclear(leaks_of(ops, application, state, &count, &row));
	return count;
}

/* Waits until the application has such a row; to be cleared. */
static PGresult *await_leak(PGconn *ops, const char *application, const char *state, int *row) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	for (;;) {
		int count;
		PGresult *res = leaks_of(ops, application, state, &count, row);
		if (count > 0)
			return res;
		PQclear(res);
		ck_assert_msg(harness_now_ms() < deadline, "no leak of %s that is %s", application, state);
		harness_pause_ms(5);
	}
}

static void await_leak_as(PGconn *ops, const char *application, const char *state, const char *column,
			  const char *expected) {
	int row;
	PGresult *res = await_leak(ops, application, state, &row);
	ck_assert_str_eq(field(res, row, column), expected);
	PQclear(res);
}

/* A number of SHOW LISTS, or of another command whose first column says what it is. */
static long listed(PGconn *ops, const char *list) {
	PGresult *res = PQexec(ops, "SHOW LISTS");
	long value = -1;
	for (int i = 0; i < PQntuples(res); i++)
		if (strcmp(PQgetvalue(res, i, 0), list) == 0)
			value = atol(PQgetvalue(res, i, 1));
	PQclear(res);
	ck_assert_msg(value >= 0, "SHOW LISTS has no %s", list);
	return value;
}

static void await_listed(PGconn *ops, const char *list, long expected) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	for (long n; (n = listed(ops, list)) != expected; harness_pause_ms(5))
		ck_assert_msg(harness_now_ms() < deadline, "%s is still %ld, not %ld", list, n, expected);
}

static void local_address(PGconn *conn, char *out, size_t room) {
	struct sockaddr_in in;
	socklen_t len = sizeof in;
	char text[64];
	ck_assert_int_eq(getsockname(PQsocket(conn), (struct sockaddr *)&in, &len), 0);
	inet_ntop(AF_INET, &in.sin_addr, text, sizeof text);
	snprintf(out, room, "%s:%d", text, ntohs(in.sin_port));
}

/* ---- leaks ---- */

START_TEST(forgotten_transaction_is_named_within_a_second_of_the_threshold) {
	struct forebay *forebay;
	PGconn *ops, *leaker;
	PGresult *res;
	char *pid, address[80], host[80];
	int row;

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "leak_detection_threshold = 300ms");
	ops = connect_operator(forebay);
	leaker = connect_with(forebay, "application_name=checkout");
	execute(leaker, "select 'before'");
	execute(leaker, "begin");
	pid = query(leaker, "select pg_backend_pid() as p, 'Zsecret', 42");
	long long idle_since = harness_now_ms();
	res = await_leak(ops, "checkout", "leaking", &row);
	ck_assert_int_ge(harness_now_ms() - idle_since, 290);
	ck_assert_int_le(harness_now_ms() - idle_since, 1300);
	local_address(leaker, address, sizeof address);
	snprintf(host, sizeof host, "127.0.0.1:%d", harness_postgres_port());
	ck_assert_str_eq(field(res, row, "database"), "app");
	ck_assert_str_eq(field(res, row, "user"), "app");
	ck_assert_str_eq(field(res, row, "addr"), address);
	ck_assert_str_eq(field(res, row, "cause"), "idle in transaction");
	ck_assert_str_eq(field(res, row, "first_statement"), "BEGIN");
	ck_assert_str_eq(field(res, row, "last_statement"), "select pg_backend_pid() as p, ?, ?");
	ck_assert_str_eq(field(res, row, "transactions"), "1");
	ck_assert_str_eq(field(res, row, "backend_pid"), pid);
	ck_assert_str_eq(field(res, row, "host"), host);
	ck_assert_int_eq(atoi(field(res, row, "client")), PQbackendPID(leaker));
	ck_assert_int_ge(atoi(field(res, row, "held_ms")), 300);
	ck_assert_int_ge(atoi(field(res, row, "unused_ms")), 300);
	ck_assert_int_gt((int)strlen(field(res, row, "held_since")), 10);
	ck_assert_str_eq(field(res, row, "ended_at"), "");
	PQclear(res);
	ck_assert_int_eq(listed(ops, "leaked_connections"), 1);
	forebay_await_log(forebay, "leak_detected");
	execute(leaker, "commit");
	await_listed(ops, "leaked_connections", 0);
	res = await_leak(ops, "checkout", "returned", &row);
	ck_assert_int_gt((int)strlen(field(res, row, "ended_at")), 10);
	PQclear(res);
	forebay_await_log(forebay, "leak_ended");
	ck_assert_int_eq(harness_count_in(forebay->log, "Zsecret"), 0);
	ck_assert_int_eq(harness_count_in(forebay->log, "returned after "), 1);
	ck_assert_int_eq(listed(ops, "leaks"), 1);
	free(pid);
	PQfinish(leaker);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

START_TEST(one_hold_is_reported_once_however_often_it_is_left_idle) {
	struct forebay *forebay;
	PGconn *ops, *first, *second;
	int row;

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "leak_detection_threshold = 200ms");
	ops = connect_operator(forebay);
	first = connect_with(forebay, "application_name=first");
	second = connect_with(forebay, "application_name=second");
	begin_holding(first);
	PQclear(await_leak(ops, "first", "leaking", &row));
	for (int i = 0; i < 2; i++) {
		execute(first, "select 1");
		/* when the second, which was idle later, is reported, the first would have been */
		begin_holding(second);
		PQclear(await_leak(ops, "second", "leaking", &row));
		ck_assert_int_eq(count_leaks(ops, "first", NULL), 1);
		execute(second, "commit");
		await_listed(ops, "leaked_connections", 1);
	}
	/* the next hold is a new one */
	execute(first, "commit");
	begin_holding(first);
	PQclear(await_leak(ops, "first", "leaking", &row));
	ck_assert_int_eq(count_leaks(ops, "first", NULL), 2);
	ck_assert_int_eq(count_leaks(ops, "first", "returned"), 1);
	PQfinish(first);
	PQclear(await_leak(ops, "first", "client left", &row));
	ck_assert_int_eq(listed(ops, "leaks"), 4);
	PQfinish(second);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

START_TEST(client_that_works_or_holds_nothing_does_not_leak) {
	struct forebay *forebay;
	PGconn *ops, *slow, *idle, *leaker;
	int row;

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "leak_detection_threshold = 150ms");
	ops = connect_operator(forebay);
	idle = connect_with(forebay, "application_name=idle");
	slow = connect_with(forebay, "application_name=slow");
	leaker = connect_with(forebay, "application_name=leaker");
	execute(idle, "select 1");
	execute(slow, "begin");
	send_query(slow, "select pg_sleep(1), 'slow'");
	begin_holding(leaker);
	PQclear(await_leak(ops, "leaker", "leaking", &row));
	/* a query that outlasts the threshold: the wait for its result is the client's use of the connection */
	expect_result(next_result(slow), PGRES_TUPLES_OK);
	ck_assert_ptr_null(next_result(slow));
	execute(slow, "commit");
	ck_assert_int_eq(count_leaks(ops, "slow", NULL), 0);
	ck_assert_int_eq(count_leaks(ops, "idle", NULL), 0);
	PQfinish(slow);
	PQfinish(idle);
	PQfinish(leaker);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

START_TEST(whatever_only_the_client_can_end_is_a_leak) {
	struct forebay *forebay;
	PGconn *ops, *conn, *control = connect_control();

	SKIP_WHEN_DIRECT();
	execute(control, "drop table if exists leaky; create table leaky(a int); grant all on leaky to app");
	forebay = start(_i, "leak_detection_threshold = 100ms");
	ops = connect_operator(forebay);

	conn = connect_with(forebay, "application_name=failed");
	execute(conn, "begin");
	expect_error(conn, "select 1/0", "22012");
	await_leak_as(ops, "failed", "leaking", "cause", "idle in a failed transaction");
	PQfinish(conn);

	conn = connect_with(forebay, "application_name=copy");
	expect_result(PQexec(conn, "copy leaky from stdin"), PGRES_COPY_IN);
	await_leak_as(ops, "copy", "leaking", "cause", "idle in a copy");
	PQfinish(conn);

	conn = connect_with(forebay, "application_name=batch");
	ck_assert_int_eq(PQenterPipelineMode(conn), 1);
	ck_assert_int_eq(PQsendQueryParams(conn, "insert into leaky values (7)", 0, NULL, NULL, NULL, NULL, 0), 1);
	ck_assert_int_eq(PQsendFlushRequest(conn), 1);
	expect_result(next_result(conn), PGRES_COMMAND_OK);
	await_leak_as(ops, "batch", "leaking", "cause", "idle in an unfinished batch");
	await_leak_as(ops, "batch", "leaking", "last_statement", "insert into leaky values (?)");
	PQfinish(conn);
	await_listed(ops, "leaked_connections", 0);
	PQfinish(ops);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(idle_session_leaks_only_while_others_wait) {
	struct forebay *forebay;
	PGconn *ops, *holder, *waiter;
	int row;

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "pool_mode = session\nmax_size = 1\nleak_detection_threshold = 200ms");
	ops = connect_operator(forebay);
	holder = connect_with(forebay, "application_name=holder");
	waiter = connect_with(forebay, "application_name=waiter");
	execute(holder, "select 'held'");
	/* a transaction does, as elsewhere */
	execute(holder, "begin");
	execute(holder, "select 1 as one");
	await_leak_as(ops, "holder", "leaking", "cause", "idle in transaction");
	await_leak_as(ops, "holder", "leaking", "first_statement", "begin");
	await_leak_as(ops, "holder", "leaking", "last_statement", "select ? as one");
	execute(holder, "commit");
	PQclear(await_leak(ops, "holder", "finished", &row));
	harness_pause_ms(600); /* nothing must happen, so that no condition tells when it has not */
	ck_assert_int_eq(count_leaks(ops, "holder", NULL), 1);

	send_query(waiter, "select 'waits'");
	await_leak_as(ops, "holder", "leaking", "cause", "idle session while others wait");
	ck_assert_int_eq(count_leaks(ops, "holder", NULL), 2);
	PQfinish(waiter);
	PQclear(await_leak(ops, "holder", "nobody waits", &row));

	waiter = connect_with(forebay, "application_name=waiter");
	send_query(waiter, "select 'waits'");
	PQclear(await_leak(ops, "holder", "leaking", &row));
	execute(holder, "select 'used'");
	PQclear(await_leak(ops, "holder", "used again", &row));
	/* left idle anew, with the other still waiting: a new one */
	PQclear(await_leak(ops, "holder", "leaking", &row));
	ck_assert_int_eq(count_leaks(ops, "holder", NULL), 4);
	PQfinish(holder);
	expect_text(next_result(waiter), "waits");
	await_listed(ops, "leaked_connections", 0);
	PQfinish(waiter);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

START_TEST(leak_action_close_gives_the_connection_back) {
	struct forebay *forebay;
	PGconn *ops, *next, *control = connect_control();
	struct raw raw;
	struct bytes b = {0};
	struct message m;
	char *pid;
	int row;

	SKIP_WHEN_DIRECT();
	execute(control, "drop table if exists kept; create table kept(a int); grant all on kept to app");
	forebay = start(_i, "max_size = 1\nleak_detection_threshold = 200ms\nleak_action = close");
	ops = connect_operator(forebay);
	next = connect_app(forebay);
	pid = query(next, "select pg_backend_pid()");
	raw = raw_connect(forebay);
	raw_login(&raw);
	put_query(&b, "begin");
	raw_send_bytes(&raw, &b);
	raw_answers(&raw, "C Z:T");
	put_query(&b, "insert into kept values (1)");
	raw_send_bytes(&raw, &b);
	raw_answers(&raw, "C Z:T");
	send_query(next, "select pg_backend_pid()");
	m = raw_until(&raw, 'E');
	ck_assert_str_eq(error_field(&m, 'V'), "FATAL");
	ck_assert_str_eq(error_field(&m, 'C'), "25P03");
	ck_assert_msg(strstr(error_field(&m, 'M'), "leak_detection_threshold (200ms)") != NULL &&
			      strstr(error_field(&m, 'M'), "pool \"app\"") != NULL,
		      "%s", error_field(&m, 'M'));
	raw_expect_closed(&raw);
	raw_close(&raw);
	expect_text(next_result(next), pid);
	ck_assert_ptr_null(next_result(next));
	expect_value(next, "select count(*) from kept", "0");
	PQclear(await_leak(ops, "", "client was closed", &row));
	await_listed(ops, "leaked_connections", 0);
	free(pid);
	PQfinish(next);
	PQfinish(ops);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

/* Not only transactions can be rolled back: what was begun is ended, and the connection serves on. */
START_TEST(whatever_was_left_open_is_taken_back) {
	struct forebay *forebay;
	PGconn *ops, *next, *control = connect_control();
	char *pid;

	SKIP_WHEN_DIRECT();
	execute(control, "drop table if exists opened; create table opened(a int); grant all on opened to app");
	forebay = start(_i, "max_size = 1\nleak_detection_threshold = 100ms\nleak_action = close");
	ops = connect_operator(forebay);
	next = connect_app(forebay);
	pid = query(next, "select pg_backend_pid()");
	for (int way = 0; way < 4; way++) {
		struct raw raw = raw_connect(forebay);
		struct bytes b = {0};
		struct message m;

		raw_login(&raw);
		if (way == 0) {
			put_query(&b, "copy opened from stdin");
		} else if (way == 1 || way == 2) {
			put_parse(&b, "", way == 1 ? "insert into opened values (1)" : "select 1/count(*) from opened");
			put_bind(&b, "", NULL);
			put_execute(&b);
			put_message(&b, 'H', "");
		} else {
			put_query(&b, "begin; select 1/0");
		}
		raw_send_bytes(&raw, &b);
		raw_until(&raw, "GCEZ"[way]);
		send_query(next, "select pg_backend_pid()");
		m = raw_until(&raw, 'E');
		ck_assert_str_eq(error_field(&m, 'C'), "25P03");
		raw_expect_closed(&raw);
		raw_close(&raw);
		expect_text(next_result(next), pid);
		ck_assert_ptr_null(next_result(next));
		expect_value(next, "select count(*) from opened", "0");
	}
	await_listed(ops, "leaked_connections", 0);
	ck_assert_int_eq(listed(ops, "leaks"), 4);
	free(pid);
	PQfinish(next);
	PQfinish(ops);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(idle_session_is_closed_for_those_who_wait) {
	struct forebay *forebay;
	PGconn *waiter;
	struct raw raw;
	struct bytes b = {0};
	struct message m;

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "pool_mode = session\nmax_size = 1\nleak_detection_threshold = 100ms\nleak_action = close");
	raw = raw_connect(forebay);
	raw_login(&raw);
	put_query(&b, "select 1");
	raw_send_bytes(&raw, &b);
	raw_answers(&raw, "T D:1 C Z:I");
	waiter = connect_app(forebay);
	expect_value(waiter, "select 'served'", "served");
	m = raw_until(&raw, 'E');
	ck_assert_str_eq(error_field(&m, 'C'), "57P05"); /* no transaction was open */
	raw_expect_closed(&raw);
	raw_close(&raw);
	PQfinish(waiter);
	forebay_stop(forebay);
}
END_TEST

/* ---- statements ---- */

START_TEST(statements_are_shown_as_configured) {
	static const struct {
		const char *process, *shown;
		int in_log;
	} ways[] = {
		{"statement_text = normalized", "select ? as secret", 0},
		{"statement_text = full", "select 'Zsecret' as secret", 1},
		{"statement_text = none", "", 0},
	};
	struct forebay *forebay;
	PGconn *ops, *leaker;

	SKIP_WHEN_DIRECT();
	for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
		forebay = forebay_start(&(struct forebay_setup){.workers = WORKERS(_i),
								.process = ways[i].process,
								.pool = "leak_detection_threshold = 100ms"});
		ops = connect_with(forebay, "user=ops password=ops-secret dbname=forebay");
		leaker = connect_with(forebay, "application_name=leaker");
		execute(leaker, "begin");
		execute(leaker, "select 'Zsecret' as secret");
		await_leak_as(ops, "leaker", "leaking", "last_statement", ways[i].shown);
		await_leak_as(ops, "leaker", "leaking", "first_statement", i == 2 ? "" : "BEGIN");
		forebay_await_log(forebay, "leak_detected");
		ck_assert_int_eq(harness_count_in(forebay->log, "Zsecret") > 0, ways[i].in_log);
		PQfinish(leaker);
		PQfinish(ops);
		forebay_stop(forebay);
	}
}
END_TEST

START_TEST(prepared_statements_are_told_by_their_text) {
	struct forebay *forebay;
	PGconn *ops, *leaker;
	char sql[600];

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "leak_detection_threshold = 100ms");
	ops = connect_operator(forebay);
	leaker = connect_with(forebay, "application_name=prepared");
	expect_result(PQprepare(leaker, "b", "begin", 0, NULL), PGRES_COMMAND_OK);
	expect_result(PQprepare(leaker, "s", "select 7 as seven", 0, NULL), PGRES_COMMAND_OK);
	execute(leaker, "select 'something else'");
	expect_result(PQexecPrepared(leaker, "b", 0, NULL, NULL, NULL, 0), PGRES_COMMAND_OK);
	expect_result(PQexecPrepared(leaker, "s", 0, NULL, NULL, NULL, 0), PGRES_TUPLES_OK);
	await_leak_as(ops, "prepared", "leaking", "first_statement", "begin");
	await_leak_as(ops, "prepared", "leaking", "last_statement", "select ? as seven");
	PQfinish(leaker);

	/* longer than what is kept: cut, and within a constant nothing of it is left */
	leaker = connect_with(forebay, "application_name=long");
	execute(leaker, "begin");
	snprintf(sql, sizeof sql, "select '%0400d'", 7);
	expect_result(PQexecParams(leaker, sql, 0, NULL, NULL, NULL, NULL, 0), PGRES_TUPLES_OK);
	await_leak_as(ops, "long", "leaking", "last_statement", "select ?...");
	PQfinish(leaker);
	PQfinish(ops);
	forebay_stop(forebay);

	/* a session that keeps its server keeps its statements there under names of its own */
	forebay = start(_i, "leak_detection_threshold = 100ms\npool_mode = session");
	ops = connect_operator(forebay);
	leaker = connect_with(forebay, "application_name=prepared");
	expect_result(PQprepare(leaker, "s", "select 7 as seven", 0, NULL), PGRES_COMMAND_OK);
	execute(leaker, "begin");
	expect_result(PQexecPrepared(leaker, "s", 0, NULL, NULL, NULL, 0), PGRES_TUPLES_OK);
	await_leak_as(ops, "prepared", "leaking", "last_statement", "EXECUTE \"s\"");
	PQfinish(leaker);
	leaker = connect_with(forebay, "application_name=unnamed");
	execute(leaker, "begin");
	expect_result(PQexecParams(leaker, "select 8", 0, NULL, NULL, NULL, NULL, 0), PGRES_TUPLES_OK);
	await_leak_as(ops, "unnamed", "leaking", "last_statement", "select ?");
	PQfinish(leaker);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

START_TEST(shorter_threshold_at_reload_finds_who_holds_already) {
	struct forebay *forebay;
	struct forebay_setup setup = {.workers = WORKERS(_i), .listener = "auth = trust",
				      .pool = "leak_detection_threshold = 0\nwait_notice_after = 0"};
	PGconn *ops, *leaker;
	int row;

	SKIP_WHEN_DIRECT();
	forebay = forebay_start(&setup);
	ops = connect_operator(forebay);
	leaker = connect_with(forebay, "application_name=leaker");
	begin_holding(leaker);
	setup.pool = "leak_detection_threshold = 100ms";
	forebay_rewrite_ini(forebay, &setup);
	execute(ops, "RELOAD");
	PQclear(await_leak(ops, "leaker", "leaking", &row));
	PQfinish(leaker);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

/* ---- the notice to those who wait ---- */

struct notices {
	int count;
	char last[512];
};

static void receive_notice(void *context, const PGresult *res) {
	struct notices *notices = context;
	notices->count++;
	snprintf(notices->last, sizeof notices->last, "%s", PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY));
}

static void await_notices(PGconn *conn, const struct notices *notices, int count) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	while (notices->count < count) {
		ck_assert_msg(harness_now_ms() < deadline, "%d notices, not %d", notices->count, count);
		ck_assert_int_eq(PQconsumeInput(conn), 1);
		ck_assert(PQisBusy(conn));
		harness_pause_ms(5);
	}
}

#define EXPECT_WORDS(text, words) ck_assert_msg(strstr(text, words) != NULL, "no \"%s\" in: %s", words, text)

START_TEST(waiting_client_is_told_its_place) {
	struct forebay *forebay;
	PGconn *ops, *holder, *first, *second;
	struct notices of_first = {0}, of_second = {0};

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "max_size = 1\nwait_notice_after = 400ms\nacquire_timeout = 60s");
	ops = connect_operator(forebay);
	holder = connect_with(forebay, "application_name=checkout");
	first = connect_app(forebay);
	second = connect_app(forebay);
	PQsetNoticeReceiver(first, receive_notice, &of_first);
	PQsetNoticeReceiver(second, receive_notice, &of_second);
	begin_holding(holder);
	long long began = harness_now_ms();
	send_query(first, "select 'first'");
	await_listed(ops, "waiting_clients", 1);
	send_query(second, "select 'second'");
	await_listed(ops, "waiting_clients", 2);
	await_notices(first, &of_first, 1);
	ck_assert_int_ge(harness_now_ms() - began, 390);
	EXPECT_WORDS(of_first.last, "pool \"app\"");
	EXPECT_WORDS(of_first.last, "at place 1 of 2");
	EXPECT_WORDS(of_first.last, "1 of 1 connections busy");
	EXPECT_WORDS(of_first.last, "longest held by app=checkout");
	EXPECT_WORDS(of_first.last, "acquire_timeout (1m)");
	await_notices(second, &of_second, 1);
	EXPECT_WORDS(of_second.last, "at place 2 of 2");
	/* the next comes after twice the time: 400 ms and 800 ms */
	await_notices(first, &of_first, 2);
	ck_assert_int_ge(harness_now_ms() - began, 1190);
	await_notices(second, &of_second, 2);
	execute(holder, "commit");
	expect_text(next_result(first), "first");
	expect_text(next_result(second), "second");
	ck_assert_ptr_null(next_result(first));
	ck_assert_ptr_null(next_result(second));
	/* who waits no more hears no more */
	harness_pause_ms(600);
	expect_value(first, "select 'again'", "again");
	expect_value(second, "select 'again'", "again");
	ck_assert_int_eq(of_first.count, 2);
	ck_assert_int_eq(of_second.count, 2);
	PQfinish(first);
	PQfinish(second);
	PQfinish(holder);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

START_TEST(many_that_wait_are_told_places_that_differ) {
	enum { CLIENTS = 30 };
	struct forebay *forebay;
	PGconn *holder, *conn[CLIENTS];
	struct notices notices[CLIENTS];
	bool seen[CLIENTS + 1] = {false};

	SKIP_WHEN_DIRECT();
	memset(notices, 0, sizeof notices);
	forebay = start(_i, "max_size = 1\nwait_notice_after = 1s\nacquire_timeout = 60s");
	holder = connect_app(forebay);
	begin_holding(holder);
	for (int i = 0; i < CLIENTS; i++) {
		conn[i] = connect_app(forebay);
		PQsetNoticeReceiver(conn[i], receive_notice, &notices[i]);
		send_query(conn[i], "select 'served'");
	}
	for (int i = 0; i < CLIENTS; i++) {
		int place = 0, of = 0;

		await_notices(conn[i], &notices[i], 1);
		ck_assert_ptr_nonnull(strstr(notices[i].last, "at place "));
		ck_assert_int_eq(sscanf(strstr(notices[i].last, "at place "), "at place %d of %d", &place, &of), 2);
		ck_assert_int_ge(place, 1);
		ck_assert_int_le(place, CLIENTS);
		ck_assert_msg(!seen[place], "place %d was told twice", place);
		seen[place] = true;
	}
	execute(holder, "commit");
	for (int i = 0; i < CLIENTS; i++) {
		expect_text(next_result(conn[i]), "served");
		PQfinish(conn[i]);
	}
	PQfinish(holder);
	forebay_stop(forebay);
}
END_TEST

/* ---- the audit ---- */

/* The least that any worker has in this column, or the sum over them. */
static long audited(PGconn *ops, const char *column, bool sum) {
	PGresult *res = PQexec(ops, "SHOW AUDIT");
	long value = sum ? 0 : -1;
	ck_assert_msg(PQresultStatus(res) == PGRES_TUPLES_OK, "%s", PQresultErrorMessage(res));
	for (int i = 0; i < PQntuples(res); i++) {
		long n = atol(field(res, i, column));
		value = sum ? value + n : value < 0 || n < value ? n : value;
	}
	PQclear(res);
	return value;
}

static struct notices unheard;

static PGconn *connect_quietly(const struct forebay *forebay) {
	PGconn *conn = connect_app(forebay);
	PQsetNoticeReceiver(conn, receive_notice, &unheard);
	return conn;
}

START_TEST(audit_finds_nothing_under_load) {
	enum { CLIENTS = 16, ROUNDS = 40 };
	struct forebay *forebay;
	PGconn *ops, *conn[CLIENTS], *control = connect_control();
	long servers = 0, waiters = 0, audits;

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "max_size = 3\nleak_detection_threshold = 20ms\nwait_notice_after = 20ms");
	ops = connect_operator(forebay);
	for (int i = 0; i < CLIENTS; i++)
		conn[i] = connect_quietly(forebay);
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < CLIENTS; i++) {
			if (round % 8 == 7 && i % 4 == 1) { /* leaves in a transaction, or in the midst of a query */
				if (round % 16 == 7)
					execute(conn[i], "begin; select 1");
				else
					send_query(conn[i], "select pg_sleep(0.1)");
				PQfinish(conn[i]);
				conn[i] = connect_quietly(forebay);
			}
			send_query(conn[i], i % 2 ? "select pg_sleep(0.005)" : "begin; select 1; commit");
		}
		execute(ops, "AUDIT");
		if (round % 10 == 9)
			execute(control, "select count(pg_terminate_backend(pid)) from (select pid from pg_stat_activity "
					 "where usename = 'app' limit 1) as t");
		for (int i = 0; i < CLIENTS; i++) {
			for (PGresult *res; (res = next_result(conn[i]));)
				PQclear(res);
			if (PQstatus(conn[i]) == CONNECTION_BAD) {
				PQfinish(conn[i]);
				conn[i] = connect_quietly(forebay);
			}
		}
		servers += audited(ops, "servers", true);
		waiters += audited(ops, "waiters", true);
	}
	audits = audited(ops, "audits", false);
	ck_assert_int_ge(audits, 10);
	ck_assert_int_gt(servers, 0);
	ck_assert_int_gt(waiters, 0);
	ck_assert_int_ge(audited(ops, "pools", false), 1);
	ck_assert_int_eq(audited(ops, "found", true), 0);
	ck_assert_int_eq(audited(ops, "violations", true), 0);
	for (int i = 0; i < CLIENTS; i++)
		PQfinish(conn[i]);
	PQfinish(ops);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(audits_begin_by_themselves) {
	struct forebay *forebay;
	PGconn *ops;
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	SKIP_WHEN_DIRECT();
	forebay = start(_i, NULL);
	ops = connect_operator(forebay);
	while (audited(ops, "audits", false) < 1) {
		ck_assert_msg(harness_now_ms() < deadline, "no audit");
		harness_pause_ms(20);
	}
	expect_error(ops, "AUDIT nonsense", "42601");
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("leaks");
	TCase *tcase = tcase_create("leaks");

	harness_begin(NULL);
	tcase_set_timeout(tcase, 120);
	LOOP(tcase, forgotten_transaction_is_named_within_a_second_of_the_threshold);
	LOOP(tcase, one_hold_is_reported_once_however_often_it_is_left_idle);
	LOOP(tcase, client_that_works_or_holds_nothing_does_not_leak);
	LOOP(tcase, whatever_only_the_client_can_end_is_a_leak);
	LOOP(tcase, idle_session_leaks_only_while_others_wait);
	LOOP(tcase, leak_action_close_gives_the_connection_back);
	LOOP(tcase, whatever_was_left_open_is_taken_back);
	LOOP(tcase, idle_session_is_closed_for_those_who_wait);
	LOOP(tcase, statements_are_shown_as_configured);
	LOOP(tcase, prepared_statements_are_told_by_their_text);
	LOOP(tcase, shorter_threshold_at_reload_finds_who_holds_already);
	LOOP(tcase, waiting_client_is_told_its_place);
	LOOP(tcase, many_that_wait_are_told_places_that_differ);
	LOOP(tcase, audit_finds_nothing_under_load);
	LOOP(tcase, audits_begin_by_themselves);
	suite_add_tcase(suite, tcase);
	return harness_run(suite);
}
