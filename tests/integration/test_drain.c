/* SIGTERM: nobody who was let in is cut, and everybody is told. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "traffic.h"
#include "wire.h"

static struct forebay *start(int workers, const char *process, const char *pool) {
	return forebay_start(&(struct forebay_setup){.workers = workers, .process = process, .pool = pool,
						     .listener = "auth = trust", .more = NULL});
}

/* What has come unasked, by connection: it may come along with the last answer. */
enum { HEARD_MAX = 16 };
static struct {
	const PGconn *conn;
	char text[300];
} heard[HEARD_MAX];

static void take_farewell(void *context, const PGresult *res) {
	const char *sqlstate = PQresultErrorField(res, PG_DIAG_SQLSTATE);

	snprintf(context, sizeof(heard[0].text), "%s %.250s", sqlstate ? sqlstate : "", PQresultErrorMessage(res));
}

static PGconn *enter(const struct forebay *forebay, const char *more) {
	PGconn *conn = connect_with(forebay, "%s", more);
	int i = 0;

	while (i < HEARD_MAX - 1 && heard[i].conn)
		i++;
	heard[i].conn = conn;
	heard[i].text[0] = 0;
	PQsetNoticeReceiver(conn, take_farewell, heard[i].text);
	return conn;
}

/* It is told, unasked, and the connection closed. Closes it on this side. */
static void expect_told(PGconn *conn) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	int i = 0;

	while (i < HEARD_MAX - 1 && heard[i].conn != conn)
		i++;
	ck_assert_ptr_eq(heard[i].conn, conn);
	const char *farewell = heard[i].text;
	ck_assert_ptr_null(PQgetResult(conn)); /* nothing is owed to it */
	while (PQconsumeInput(conn) == 1) {
		PQisBusy(conn); /* which reads what has come */
		ck_assert_msg(harness_now_ms() < deadline, "it is not told to go");
		harness_pause_ms(2);
	}
	PQisBusy(conn);
	PQclear(PQexec(conn, "select 1")); /* which does so where that has not */
	ck_assert_msg(strstr(farewell, "57P01") && strstr(farewell, "the pooler is shutting down"), "it was told \"%s\"",
		      farewell);
	ck_assert_int_eq(PQstatus(conn), CONNECTION_BAD);
	heard[i].conn = NULL;
	PQfinish(conn);
}

static void term(struct forebay *forebay) {
	ck_assert_int_eq(kill(forebay->pid, SIGTERM), 0);
	forebay_await_log(forebay, " stopping ");
}

/* One client for each way of being in the midst of something; then the signal; then each goes on. */
START_TEST(what_is_open_is_finished_and_then_told) {
	struct forebay *forebay;
	PGconn *control = connect_control(), *idle, *simple, *cursor, *pipeline, *copying, *deferred, *running, *waiting;

	SKIP_WHEN_DIRECT();
	execute(control, "drop table if exists noted");
	execute(control, "create table noted (id bigint primary key)");
	execute(control, "alter table noted owner to app");
	forebay = start(WORKERS(_i), NULL, "max_size = 5");
	idle = enter(forebay, "");
	simple = enter(forebay, "");
	cursor = enter(forebay, "");
	pipeline = enter(forebay, "");
	copying = enter(forebay, "");
	deferred = enter(forebay, "");
	running = enter(forebay, "");
	waiting = enter(forebay, "");
	expect_value(idle, "select 1", "1");
	execute(deferred, "begin");
	begin_holding(simple);
	execute(cursor, "begin");
	execute(cursor, "declare c cursor for select generate_series(1, 4)");
	expect_value(cursor, "fetch 1 from c", "1");
	ck_assert_int_eq(PQenterPipelineMode(pipeline), 1);
	ck_assert_int_eq(PQsendQueryParams(pipeline, "begin", 0, NULL, NULL, NULL, NULL, 0), 1);
	ck_assert_int_eq(PQsendQueryParams(pipeline, "insert into noted values (1)", 0, NULL, NULL, NULL, NULL, 0), 1);
	ck_assert_int_eq(PQsendFlushRequest(pipeline), 1);
	ck_assert_int_ge(PQflush(pipeline), 0);
	expect_result(next_result(pipeline), PGRES_COMMAND_OK);
	expect_result(PQexec(copying, "copy noted from stdin"), PGRES_COPY_IN);
	send_query(running, "select pg_sleep(0.7), 'ran'");
	await_running(control, "pg_sleep(0.7)");
	send_query(waiting, "select 'waited'"); /* all five are taken */
	term(forebay);
	expect_told(idle);

	execute(simple, "insert into noted values (2)");
	execute(simple, "commit");
	expect_told(simple);
	expect_text(next_result(waiting), "waited");
	expect_told(waiting);
	/* the put-off BEGIN is a transaction to its client */
	execute(deferred, "insert into noted values (3)");
	execute(deferred, "commit");
	expect_told(deferred);
	expect_value(cursor, "fetch 1 from c", "2");
	execute(cursor, "insert into noted values (4)");
	execute(cursor, "commit");
	expect_told(cursor);
	ck_assert_int_eq(PQputCopyData(copying, "5\n", 2), 1);
	ck_assert_int_eq(PQputCopyEnd(copying, NULL), 1);
	expect_result(next_result(copying), PGRES_COMMAND_OK);
	while (PQgetResult(copying))
		;
	expect_told(copying);
	ck_assert_int_eq(PQsendQueryParams(pipeline, "commit", 0, NULL, NULL, NULL, NULL, 0), 1);
	ck_assert_int_eq(PQpipelineSync(pipeline), 1);
	for (bool synced = false; !synced;) {
		PGresult *res = PQgetResult(pipeline);
		synced = res && PQresultStatus(res) == PGRES_PIPELINE_SYNC;
		ck_assert_msg(PQstatus(pipeline) == CONNECTION_OK, "%s", PQerrorMessage(pipeline));
		PQclear(res);
	}
	PQfinish(pipeline);
	PQclear(next_result(running));
	expect_told(running);
	forebay_await_exit(forebay);
	expect_value(control, "select string_agg(id::text, ',' order by id) from noted", "1,2,3,4,5");
	PQfinish(control);
}
END_TEST

/* Requests that are under way when the signal comes are answered, however many wait in the socket. */
START_TEST(what_was_sent_before_the_signal_is_answered) {
	enum { CLIENTS = 20, QUERIES = 20 };
	struct forebay *forebay;
	struct raw raws[CLIENTS];

	SKIP_WHEN_DIRECT();
	forebay = start(WORKERS(_i), NULL, "max_size = 3");
	for (int i = 0; i < CLIENTS; i++) {
		raws[i] = raw_connect(forebay);
		raw_login(&raws[i]);
	}
	for (int i = 0; i < CLIENTS; i++) {
		struct bytes b = {0};
		for (int k = 0; k < QUERIES; k++)
			put_query(&b, "select pg_sleep(0.005)");
		raw_send_bytes(&raws[i], &b);
	}
	term(forebay);
	for (int i = 0; i < CLIENTS; i++) {
		for (int k = 0; k < QUERIES; k++)
			raw_answers(&raws[i], "T D C Z:I");
		raw_expect_error(&raws[i], "57P01");
		raw_expect_closed(&raws[i]);
		raw_close(&raws[i]);
	}
	forebay_await_exit(forebay);
}
END_TEST

/* Whoever has connected is let in and served once, though it has not said a word by then. */
START_TEST(who_has_connected_is_served) {
	enum { CLIENTS = 300 };
	struct forebay *forebay;
	static struct raw raws[CLIENTS];

	SKIP_WHEN_DIRECT();
	forebay = start(WORKERS(_i), NULL, NULL);
	harness_freeze(forebay->pid); /* they stand in the socket's queue */
	for (int i = 0; i < CLIENTS; i++) {
		struct bytes b = {0};
		raws[i] = raw_connect(forebay);
		put_startup(&b, 0x30000, "user", "app", "database", "app", (char *)NULL);
		raw_send_bytes(&raws[i], &b);
	}
	ck_assert_int_eq(kill(forebay->pid, SIGTERM), 0);
	ck_assert_int_eq(kill(forebay->pid, SIGCONT), 0);
	for (int i = 0; i < CLIENTS; i++)
		ck_assert(raw_put(&raws[i], 'Q', "s", "select 1"));
	for (int i = 0; i < CLIENTS; i++) {
		struct message m = raw_until(&raws[i], 'D');
		ck_assert_int_eq(m.len, 7);
		raw_answers(&raws[i], "C Z:I");
		raw_expect_error(&raws[i], "57P01");
		raw_close(&raws[i]);
	}
	forebay_await_exit(forebay);
}
END_TEST

START_TEST(for_drain_delay_clients_are_let_in_as_before) {
	struct forebay *forebay;
	int port;

	SKIP_WHEN_DIRECT();
	forebay = start(WORKERS(_i), "drain_delay = 700ms", NULL);
	port = forebay->port;
	PGconn *before = enter(forebay, "");
	struct traffic *traffic =
		traffic_start(&(struct traffic_setup){.forebay = forebay, .comers = 2, .stayers_of_each = 1});
	term(forebay);
	PGconn *during = enter(forebay, "");
	expect_value(during, "select 1", "1");
	expect_value(before, "select 1", "1");
	traffic_await_more(traffic);
	ck_assert_int_eq(harness_count_in(forebay->log, " draining "), 0);
	traffic_end(traffic);
	forebay_await_log(forebay, " draining ");
	expect_told(before);
	expect_told(during);
	forebay_await_exit(forebay);
	ck_assert(!harness_port_accepts(port));
}
END_TEST

START_TEST(a_second_signal_ends_it_at_once) {
	static const char *const ways[] = {"drain_delay = 10m", "drain_delay = 0"};

	SKIP_WHEN_DIRECT();
	for (int i = 0; i < 2; i++) {
		struct forebay *forebay = start(WORKERS(_i), ways[i], NULL);
		PGconn *holder = connect_app(forebay);
		begin_holding(holder);
		term(forebay);
		execute(holder, "select 1");
		ck_assert_int_eq(kill(forebay->pid, i ? SIGINT : SIGTERM), 0);
		forebay_await_exit(forebay); /* with 0 */
		PQfinish(holder);
	}
}
END_TEST

START_TEST(shutdown_timeout_bounds_it) {
	struct forebay *forebay;

	SKIP_WHEN_DIRECT();
	forebay = start(WORKERS(_i), "shutdown_timeout = 300ms", NULL);
	PGconn *holder = connect_app(forebay);
	begin_holding(holder);
	term(forebay);
	forebay_await_log(forebay, "shutdown_timeout is over");
	forebay_await_exit(forebay);
	PQfinish(holder);
}
END_TEST

/* No more than the pace allows, those first that have been idle longest, and the operator last. */
START_TEST(clients_are_told_at_drain_pace) {
	enum { CLIENTS = 8, PACE = 10 };
	struct forebay *forebay;
	struct raw raws[CLIENTS];
	struct message m;

	SKIP_WHEN_DIRECT();
	forebay = start(1, "drain_pace = 10", NULL);
	PGconn *ops = connect_with(forebay, "dbname=forebay user=ops password=ops-secret");
	for (int i = 0; i < CLIENTS; i++) {
		raws[i] = raw_connect(forebay);
		raw_login(&raws[i]);
		ck_assert(raw_put(&raws[i], 'Q', "s", "select 1"));
		raw_answers(&raws[i], "T D:1 C Z:I");
	}
	long long began = harness_now_ms();
	ck_assert_int_eq(kill(forebay->pid, SIGTERM), 0);
	for (int i = 0; i < CLIENTS; i++) {
		for (int k = i + 1; i > 0 && k < CLIENTS && k <= i + 2; k++) /* who is not due yet works on */
			if (harness_now_ms() - began < 1000 * (k - 1) / PACE - 50)
				ck_assert_int_eq((int)raw_read_within(&raws[k], &m, 0), RAW_TIMEOUT);
		raw_expect_error(&raws[i], "57P01");
		/* a bound from below only: it was not told before its time */
		ck_assert_int_ge((int)(harness_now_ms() - began), 1000 * (i - 1) / PACE);
		if (i < CLIENTS - 1)
			expect_value(ops, "SHOW VERSION", "forebay 0.1.0");
		raw_close(&raws[i]);
	}
	PQfinish(ops);
	forebay_await_exit(forebay);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("drain");
	TCase *tcase = tcase_create("drain");

	harness_begin(NULL);
	tcase_set_timeout(tcase, 120);
	suite_add_tcase(suite, tcase);
	LOOP(tcase, what_is_open_is_finished_and_then_told);
	LOOP(tcase, what_was_sent_before_the_signal_is_answered);
	LOOP(tcase, who_has_connected_is_served);
	LOOP(tcase, for_drain_delay_clients_are_let_in_as_before);
	LOOP(tcase, a_second_signal_ends_it_at_once);
	LOOP(tcase, shutdown_timeout_bounds_it);
	tcase_add_test(tcase, clients_are_told_at_drain_pace);
	return harness_run(suite);
}
