/* The pool as its clients and PostgreSQL see it: the bound, the queue, lifetimes, modes, and clients that vanish. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "query.h"
#include "wire.h"

/* None of these can be tried on PostgreSQL itself. */
#define SKIP_WHEN_DIRECT()                                                                                             \
	do {                                                                                                           \
		if (harness_direct())                                                                                  \
			return;                                                                                        \
	} while (0)

static struct forebay *start(int i, const char *pool) {
	return forebay_start(
		&(struct forebay_setup){.workers = WORKERS(i), .pool = pool, .listener = "auth = trust"});
}

static int logins(void) {
	return harness_count_in(harness_postgres_log(), "connection authorized: user=app");
}

START_TEST(bound_is_never_exceeded) {
	enum { CLIENTS = 40 };
	struct forebay *forebay;
	PGconn *conn[CLIENTS], *control = connect_control();
	long most = 0;

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "max_size = 4");
	for (int i = 0; i < CLIENTS; i++)
		conn[i] = connect_app(forebay);
	for (int round = 0; round < 8; round++) {
		for (int i = 0; i < CLIENTS; i++)
			send_query(conn[i], "select pg_sleep(0.005)");
		for (int i = 0; i < CLIENTS; i++) {
			long n = server_connections(control);

			most = n > most ? n : most;
			expect_result(next_result(conn[i]), PGRES_TUPLES_OK);
			ck_assert_ptr_null(next_result(conn[i]));
		}
	}
	ck_assert_int_le(most, 4);
	/* And all of it was used. */
	ck_assert_int_eq(most, 4);
	for (int i = 0; i < CLIENTS; i++)
		PQfinish(conn[i]);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(clients_are_served_in_the_order_they_came) {
	enum { CLIENTS = 12 };
	struct forebay *forebay;
	PGconn *holder, *conn[CLIENTS], *control = connect_control();
	PGconn *ops;

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "max_size = 1");
	execute(control, "drop table if exists arrivals; create table arrivals(n serial, client int); grant all on arrivals to "
			 "app; grant all on sequence arrivals_n_seq to app");
	holder = connect_app(forebay);
	ops = connect_with(forebay, "user=ops dbname=forebay");
	begin_holding(holder);
	for (int i = 0; i < CLIENTS; i++) {
		char sql[100];
		long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

		conn[i] = connect_app(forebay);
		snprintf(sql, sizeof(sql), "insert into arrivals(client) values (%d)", i);
		send_query(conn[i], sql);
		/* In the queue before the next one comes. */
		for (;;) {
			PGresult *res = PQexec(ops, "SHOW POOLS");
			int column = PQfnumber(res, "cl_waiting"), waiting = 0;

			ck_assert_msg(column >= 0, "SHOW POOLS: %s", PQresultErrorMessage(res));
			for (int row = 0; row < PQntuples(res); row++)
				waiting += strcmp(PQgetvalue(res, row, 0), "app") == 0 ? atoi(PQgetvalue(res, row, column)) : 0;
			PQclear(res);
			if (waiting == i + 1)
				break;
			ck_assert_msg(harness_now_ms() < deadline, "%d wait, not %d", waiting, i + 1);
			harness_pause_ms(2);
		}
		/* Over several workers, the order is exact but for 5 ms. */
		harness_pause_ms(10);
	}
	execute(holder, "commit");
	for (int i = 0; i < CLIENTS; i++) {
		expect_result(next_result(conn[i]), PGRES_COMMAND_OK);
		PQfinish(conn[i]);
	}
	expect_value(control, "select string_agg(client::text, ',' order by n) from arrivals", "0,1,2,3,4,5,6,7,8,9,10,11");
	PQfinish(holder);
	PQfinish(ops);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(who_waits_too_long_is_told_why) {
	struct forebay *forebay;
	PGconn *holder, *waiter;
	PGresult *res;
	long long began;

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "max_size = 1\nacquire_timeout = 300ms");
	holder = connect_with(forebay, "application_name=checkout");
	waiter = connect_app(forebay);
	begin_holding(holder);
	for (int i = 0; i < 3; i++) {
		began = harness_now_ms();
		if (i == 0) {
			res = PQexec(waiter, "select 1");
		} else if (i == 1) {
			res = PQexecParams(waiter, "select 1", 0, NULL, NULL, NULL, NULL, 0);
		} else {
			res = PQprepare(waiter, "s", "select 1", 0, NULL);
		}
		ck_assert_int_ge(harness_now_ms() - began, 290);
		ck_assert_int_eq(PQresultStatus(res), PGRES_FATAL_ERROR);
		ck_assert_str_eq(PQresultErrorField(res, PG_DIAG_SQLSTATE), "53300");
		ck_assert_msg(strstr(PQresultErrorMessage(res), "pool \"app\"") != NULL &&
				      strstr(PQresultErrorMessage(res), "300ms") != NULL &&
				      strstr(PQresultErrorMessage(res), "1 of 1") != NULL &&
				      strstr(PQresultErrorMessage(res), "checkout") != NULL,
			      "%s", PQresultErrorMessage(res));
		PQclear(res);
		if (PQstatus(waiter) == CONNECTION_BAD) {
			PQfinish(waiter);
			waiter = connect_app(forebay);
		}
	}
	execute(holder, "commit");
	expect_value(waiter, "select 'now'", "now");
	PQfinish(holder);
	PQfinish(waiter);
	forebay_stop(forebay);
}
END_TEST

START_TEST(pipeline_that_waits_too_long_gets_one_answer_for_each_sync) {
	struct forebay *forebay;
	PGconn *holder;
	struct raw raw;
	struct bytes b = {0};
	struct message m;

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "max_size = 1\nacquire_timeout = 400ms");
	holder = connect_app(forebay);
	raw = raw_connect(forebay);
	raw_login(&raw);
	begin_holding(holder);
	put_parse(&b, "", "select 1");
	put_bind(&b, "", NULL);
	put_execute(&b);
	put_sync(&b);
	raw_send_bytes(&raw, &b);
	m = raw_until(&raw, 'E');
	ck_assert_str_eq(error_field(&m, 'C'), "53300");
	if (strcmp(error_field(&m, 'V'), "FATAL") == 0) {
		raw_expect_closed(&raw);
	} else {
		raw_answers(&raw, "Z:I");
		execute(holder, "commit");
		put_query(&b, "select 2");
		raw_send_bytes(&raw, &b);
		raw_answers(&raw, "T D:2 C Z:I");
	}
	raw_close(&raw);
	PQfinish(holder);
	forebay_stop(forebay);
}
END_TEST

START_TEST(queue_has_an_end_when_it_is_told_so) {
	struct forebay *forebay;
	PGconn *holder, *first, *second;

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "max_size = 1\nmax_waiting = 1\nacquire_timeout = 60s");
	holder = connect_app(forebay);
	begin_holding(holder);
	first = connect_app(forebay);
	second = connect_app(forebay);
	send_query(first, "select 'first'");
	/* The first may not be in the queue yet: try until one of the two is refused, which must be at once. */
	send_query(second, "select 'second'");
	{
		PGconn *refused = NULL, *served = NULL;
		long long deadline = harness_now_ms() + 20000;

		while (!refused) {
			PQconsumeInput(first);
			PQconsumeInput(second);
			refused = !PQisBusy(first) ? first : !PQisBusy(second) ? second : NULL;
			ck_assert_msg(harness_now_ms() < deadline, "nobody was refused");
			harness_pause_ms(2);
		}
		served = refused == first ? second : first;
		expect_failure(PQgetResult(refused), "53300");
		execute(holder, "commit");
		expect_result(next_result(served), PGRES_TUPLES_OK);
	}
	PQfinish(first);
	PQfinish(second);
	PQfinish(holder);
	forebay_stop(forebay);
}
END_TEST

START_TEST(idle_connections_are_kept_ready_and_let_go) {
	struct forebay *forebay;
	PGconn *control = connect_control(), *conn[5];

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "user = app\npassword = app-secret\nmax_size = 5\nmin_idle = 2\nidle_timeout = 1s");
	await_value(control, "select count(*) from pg_stat_activity where usename = 'app'", "2");
	for (int i = 0; i < 5; i++) {
		conn[i] = connect_app(forebay);
		begin_holding(conn[i]);
	}
	ck_assert_int_eq(server_connections(control), 5);
	for (int i = 0; i < 5; i++)
		PQfinish(conn[i]);
	await_value(control, "select count(*) from pg_stat_activity where usename = 'app'", "2");
	/* Killed ones are replaced. */
	execute(control, "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'");
	await_value(control, "select count(*) from pg_stat_activity where usename = 'app' and backend_start > now() - "
			     "interval '60s' and state = 'idle'",
		    "2");
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(connections_are_retired_when_they_are_old) {
	struct forebay *forebay;
	PGconn *conn;
	long first;
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "max_size = 1\nmax_lifetime = 2s");
	conn = connect_app(forebay);
	execute(conn, "begin");
	first = query_long(conn, "select pg_backend_pid()");
	/* Never in the midst of a transaction. */
	for (int i = 0; i < 25; i++) {
		ck_assert_int_eq(query_long(conn, "select pg_backend_pid() from pg_sleep(0.1)"), first);
	}
	execute(conn, "commit");
	while (query_long(conn, "select pg_backend_pid()") == first) {
		ck_assert_msg(harness_now_ms() < deadline, "the connection lives on and on");
		harness_pause_ms(20);
	}
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

START_TEST(session_mode_gives_a_server_of_one_s_own) {
	struct forebay *forebay;
	PGconn *control = connect_control(), *a, *b;
	char *pid;
	PGnotify *notify = NULL;

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "max_size = 2\npool_mode = session");
	a = connect_app(forebay);
	pid = query(a, "select pg_backend_pid()");
	execute(a, "create temp table mine(v int); insert into mine values (1)");
	execute(a, "set work_mem = '1234kB'");
	execute(a, "prepare p as select 'sql-level'");
	execute(a, "listen news");
	b = connect_app(forebay);
	for (int i = 0; i < 5; i++) {
		expect_value(a, "select pg_backend_pid()", pid);
		expect_value(a, "select v from mine", "1");
		expect_value(a, "show work_mem", "1234kB");
		expect_value(a, "execute p", "sql-level");
		expect_value(b, "show work_mem", "4MB");
		expect_error(b, "select v from mine", "42P01");
	}
	/* A notification comes to a client that does nothing. */
	execute(b, "notify news, 'hello'");
	for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS; !notify;) {
		ck_assert_msg(harness_now_ms() < deadline, "no notification");
		PQconsumeInput(a);
		notify = PQnotifies(a);
		harness_pause_ms(2);
	}
	ck_assert_str_eq(notify->relname, "news");
	ck_assert_str_eq(notify->extra, "hello");
	PQfreemem(notify);
	PQfinish(a);
	/* The next session on that server finds nothing of the last one. */
	PQfinish(b);
	for (int i = 0; i < 2; i++) {
		a = connect_app(forebay);
		b = connect_app(forebay);
		for (int j = 0; j < 2; j++) {
			PGconn *conn = j ? a : b;

			expect_value(conn, "show work_mem", "4MB");
			expect_error(conn, "select v from mine", "42P01");
			expect_value(conn, "select count(*) from pg_prepared_statements", "0");
			expect_value(conn, "select count(*) from pg_listening_channels()", "0");
		}
		PQfinish(a);
		PQfinish(b);
	}
	ck_assert_int_le(server_connections(control), 2);
	free(pid);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(session_mode_prepared_statements_pass_untouched) {
	struct forebay *forebay;
	PGconn *conn;
	const char *value = "x";

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "max_size = 1\npool_mode = session");
	for (int i = 0; i < 3; i++) {
		conn = connect_app(forebay);
		expect_result(PQprepare(conn, "s", "select 'prepared ' || $1", 0, NULL), PGRES_COMMAND_OK);
		expect_text(PQexecPrepared(conn, "s", 1, &value, NULL, NULL, 0), "prepared x");
		/* By its own name, so that SQL can use it. */
		expect_value(conn, "execute s('y')", "prepared y");
		expect_failure(PQprepare(conn, "s", "select 1", 0, NULL), "42P05");
		execute(conn, "deallocate s");
		expect_failure(PQexecPrepared(conn, "s", 1, &value, NULL, NULL, 0), "26000");
		expect_result(PQprepare(conn, "s", "select 'again ' || $1", 0, NULL), PGRES_COMMAND_OK);
		PQfinish(conn);
	}
	forebay_stop(forebay);
}
END_TEST

START_TEST(statement_mode_refuses_transactions) {
	struct forebay *forebay;
	PGconn *conn, *other;

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "max_size = 1\npool_mode = statement");
	conn = connect_app(forebay);
	other = connect_app(forebay);
	for (int i = 0; i < 3; i++) {
		PGresult *res;

		expect_value(conn, "select 1", "1");
		expect_value(conn, "select 1; select 2", "2");
		res = PQexec(conn, "begin");
		if (PQresultStatus(res) != PGRES_FATAL_ERROR) {
			PQclear(res);
			res = PQexec(conn, "select 1");
		}
		ck_assert_msg(PQresultStatus(res) == PGRES_FATAL_ERROR, "a transaction was begun in statement mode");
		PQclear(res);
		if (PQstatus(conn) == CONNECTION_BAD) {
			PQfinish(conn);
			conn = connect_app(forebay);
		}
		/* The server is not left in a transaction. */
		expect_value(other, "select 'free'", "free");
		expect_value(other, "select now() = statement_timestamp()", "t");
	}
	PQfinish(conn);
	PQfinish(other);
	forebay_stop(forebay);
}
END_TEST

enum vanish { IN_TRANSACTION, IN_FAILED_TRANSACTION, IN_QUERY, IN_RESULT, IN_PIPELINE, IN_COPY_IN, IN_HALF_A_MESSAGE, VANISHES };

static void vanish(const struct forebay *forebay, PGconn *control, enum vanish how, bool reset) {
	struct raw raw = raw_connect(forebay);
	struct bytes b = {0};

	raw_login(&raw);
	put_query(&b, "begin; insert into vanished values (1)");
	raw_send_bytes(&raw, &b);
	raw_until(&raw, 'Z');
	switch (how) {
	case IN_TRANSACTION:
	case VANISHES:
		break;
	case IN_FAILED_TRANSACTION:
		raw_put(&raw, 'Q', "s", "select 1/0");
		raw_until(&raw, 'Z');
		break;
	case IN_QUERY:
		raw_put(&raw, 'Q', "s", "select 'gone in query', pg_sleep(60)");
		await_running(control, "gone in query");
		break;
	case IN_RESULT:
		raw_put(&raw, 'Q', "s", "select repeat('x', 1000) from generate_series(1, 300000)");
		raw_until(&raw, 'D');
		break;
	case IN_PIPELINE:
		for (int i = 0; i < 20; i++) {
			put_parse(&b, "", i == 10 ? "select 'gone in pipeline', pg_sleep(60)" : "select 1");
			put_bind(&b, "", NULL);
			put_execute(&b);
			if (i % 3 == 0)
				put_sync(&b);
		}
		raw_send_bytes(&raw, &b);
		await_running(control, "gone in pipeline");
		break;
	case IN_COPY_IN:
		raw_put(&raw, 'Q', "s", "copy vanished from stdin");
		raw_until(&raw, 'G');
		raw_put(&raw, 'd', "b", (size_t)2, "7\n");
		break;
	case IN_HALF_A_MESSAGE:
		put_parse(&b, "half", "select 'half a message'");
		raw_send(&raw, b.at, b.len - 7);
		bytes_free(&b);
		break;
	}
	if (reset)
		raw_reset(&raw);
	else
		raw_close(&raw);
}

START_TEST(server_of_a_vanished_client_is_rolled_back_and_used_again) {
	struct forebay *forebay;
	PGconn *control = connect_control(), *conn;
	long pid;

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "max_size = 1");
	execute(control, "drop table if exists vanished; create table vanished(v int); alter table vanished owner to app");
	conn = connect_app(forebay);
	pid = query_long(conn, "select pg_backend_pid()");
	for (int round = 0; round < 2 * VANISHES; round++) {
		vanish(forebay, control, (enum vanish)(round % VANISHES), round >= VANISHES);
		expect_value(conn, "select count(*) from vanished", "0");
		ck_assert_msg(query_long(conn, "select pg_backend_pid()") == pid, "the server was thrown away in case %d",
			      round % VANISHES);
	}
	PQfinish(conn);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(two_hundred_clients_that_vanish_cost_no_logins) {
	enum { CLIENTS = 200, SERVERS = 4 };
	struct forebay *forebay;
	struct raw raw[CLIENTS];
	PGconn *conn, *control = connect_control();
	int before = logins();

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "max_size = 4");
	for (int i = 0; i < CLIENTS; i++) {
		struct bytes b = {0};

		raw[i] = raw_connect(forebay);
		raw_login(&raw[i]);
		put_query(&b, i % 2 ? "begin; select pg_sleep(60)" : "select pg_sleep(60)");
		raw_send_bytes(&raw[i], &b);
	}
	await_value(control, "select count(*) from pg_stat_activity where wait_event = 'PgSleep'", "4");
	for (int i = 0; i < CLIENTS; i++) {
		if (i % 2)
			raw_reset(&raw[i]);
		else
			raw_close(&raw[i]);
	}
	conn = connect_app(forebay);
	for (int i = 0; i < 20; i++)
		expect_value(conn, "select 'alive'", "alive");
	await_value(control, "select count(*) from pg_stat_activity where usename = 'app' and state <> 'idle'", "0");
	ck_assert_int_le(logins() - before, SERVERS);
	PQfinish(conn);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(killed_backend_is_an_error_for_its_client_alone) {
	struct forebay *forebay;
	PGconn *control = connect_control(), *victim, *other, *between;

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "max_size = 3");
	other = connect_app(forebay);
	between = connect_app(forebay);
	for (int i = 0; i < 4; i++) {
		PGresult *res;
		int pid;

		victim = connect_app(forebay);
		begin_holding(other);
		expect_value(between, "select 1", "1");
		send_query(victim, "select 'to be killed', pg_sleep(60)");
		pid = await_running(control, "to be killed");
		execute(control, "select pg_terminate_backend(%d)", pid);
		res = next_result(victim);
		ck_assert_int_eq(PQresultStatus(res), PGRES_FATAL_ERROR);
		ck_assert_msg(PQresultErrorField(res, PG_DIAG_SQLSTATE) != NULL, "%s", PQresultErrorMessage(res));
		PQclear(res);
		expect_value(other, "select 'untouched'", "untouched");
		execute(other, "commit");
		expect_value(between, "select 'untouched too'", "untouched too");
		PQfinish(victim);
		/* Idle ones that are killed are nobody's loss. */
		execute(control, "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'");
		await_value(control, "select count(*) from pg_stat_activity where usename = 'app'", "0");
		expect_value(other, "select 'again'", "again");
	}
	PQfinish(other);
	PQfinish(between);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(clients_outlive_a_restart_of_postgresql) {
	enum { CLIENTS = 10 };
	struct forebay *forebay;
	PGconn *conn[CLIENTS];

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "max_size = 3\nacquire_timeout = 30s");
	for (int i = 0; i < CLIENTS; i++) {
		conn[i] = connect_app(forebay);
		expect_value(conn[i], "select 1", "1");
	}
	for (int round = 0; round < 2; round++) {
		harness_postgres_stop(round == 0);
		/* This one waits until PostgreSQL is back, within its acquire_timeout. */
		send_query(conn[0], "select 'waited for it'");
		harness_postgres_start();
		{
			PGresult *res = next_result(conn[0]);

			if (PQresultStatus(res) == PGRES_TUPLES_OK) {
				expect_text(res, "waited for it");
				ck_assert_ptr_null(next_result(conn[0]));
			} else {
				/* A server may have been handed out before its end was seen. */
				PQclear(res);
				while ((res = next_result(conn[0])))
					PQclear(res);
				if (PQstatus(conn[0]) == CONNECTION_BAD) {
					PQfinish(conn[0]);
					conn[0] = connect_app(forebay);
				}
			}
		}
		for (int i = 0; i < CLIENTS; i++)
			expect_value(conn[i], "select 'back'", "back");
	}
	for (int i = 0; i < CLIENTS; i++)
		PQfinish(conn[i]);
	forebay_stop(forebay);
}
END_TEST

START_TEST(unreachable_backend_is_told_apart) {
	struct forebay *forebay;
	char pool[200];
	PGconn *conn;
	const char *text;

	SKIP_WHEN_DIRECT();
	snprintf(pool, sizeof(pool), "hosts = 127.0.0.1:%d\nacquire_timeout = 1s\nconnect_timeout = 500ms", harness_free_port());
	forebay = start(_i, pool);
	conn = try_connect(forebay, " ");
	if (PQstatus(conn) == CONNECTION_OK) {
		PGresult *res = PQexec(conn, "select 1");

		ck_assert_int_eq(PQresultStatus(res), PGRES_FATAL_ERROR);
		PQclear(res);
	}
	text = PQerrorMessage(conn);
	ck_assert_msg(strstr(text, "refused") != NULL, "%s", text);
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

START_TEST(wildcard_pool_serves_every_database) {
	struct forebay *forebay;
	char more[300];
	PGconn *a, *b, *control = connect_control();

	SKIP_WHEN_DIRECT();
	snprintf(more, sizeof(more), "[pool:*]\nprotocol = postgresql\nhosts = 127.0.0.1:%d\nmax_size = 2\ntls_mode = disable\n",
		 harness_postgres_port());
	forebay = forebay_start(&(struct forebay_setup){.workers = WORKERS(_i), .more = more});
	a = connect_app(forebay);
	b = connect_with(forebay, "dbname=other");
	for (int i = 0; i < 3; i++) {
		expect_value(a, "select current_database()", "app");
		expect_value(b, "select current_database()", "other");
	}
	PQfinish(a);
	PQfinish(b);
	/* A database that is not there is an error of that client, named. */
	a = try_connect(forebay, "dbname=nowhere");
	if (PQstatus(a) == CONNECTION_OK)
		PQclear(PQexec(a, "select 1"));
	ck_assert_msg(strstr(PQerrorMessage(a), "nowhere") != NULL, "%s", PQerrorMessage(a));
	PQfinish(a);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(users_of_one_pool_share_its_bound) {
	enum { USERS = 3 };
	static const char *const users[USERS] = {"app", "md5user", "plainuser"};
	struct forebay *forebay;
	PGconn *conn[USERS], *control = connect_control();

	SKIP_WHEN_DIRECT();
	forebay = start(_i, "max_size = 2");
	for (int i = 0; i < USERS; i++)
		conn[i] = connect_with(forebay, "user=%s", users[i]);
	for (int round = 0; round < 6; round++) {
		for (int i = 0; i < USERS; i++) {
			expect_value(conn[i], "select current_user", users[i]);
			ck_assert_int_le(server_connections(control), 3); /* one may be on its way out */
		}
	}
	await_value(control, "select count(*) <= 2 from pg_stat_activity where usename = any('{app,md5user,plainuser}')", "t");
	for (int i = 0; i < USERS; i++)
		PQfinish(conn[i]);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(shutdown_lets_a_transaction_finish) {
	struct forebay *forebay;
	PGconn *busy, *idle, *control = connect_control();

	SKIP_WHEN_DIRECT();
	execute(control, "drop table if exists finished; create table finished(v int); alter table finished owner to app");
	forebay = start(_i, "max_size = 2");
	busy = connect_app(forebay);
	idle = connect_app(forebay);
	execute(busy, "begin; insert into finished values (1)");
	kill(forebay->pid, SIGTERM);
	/* The idle client is told goodbye; the busy one goes on to its end. */
	{
		PGresult *res;
		long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

		do {
			ck_assert_msg(harness_now_ms() < deadline, "the idle client is kept");
			harness_pause_ms(5);
			res = PQexec(idle, "");
			ck_assert(res != NULL);
			PQclear(res);
		} while (PQstatus(idle) == CONNECTION_OK);
	}
	expect_value(busy, "select count(*) from finished", "1");
	ck_assert(forebay_alive(forebay));
	execute(busy, "commit");
	forebay_await_exit(forebay);
	expect_value(control, "select count(*) from finished", "1");
	PQfinish(busy);
	PQfinish(idle);
	PQfinish(control);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("pool");
	TCase *tcase = tcase_create("pool");

	harness_begin(NULL);
	tcase_set_timeout(tcase, 120);
	suite_add_tcase(suite, tcase);
	LOOP(tcase, bound_is_never_exceeded);
	LOOP(tcase, clients_are_served_in_the_order_they_came);
	LOOP(tcase, who_waits_too_long_is_told_why);
	LOOP(tcase, pipeline_that_waits_too_long_gets_one_answer_for_each_sync);
	LOOP(tcase, queue_has_an_end_when_it_is_told_so);
	LOOP(tcase, idle_connections_are_kept_ready_and_let_go);
	LOOP(tcase, connections_are_retired_when_they_are_old);
	LOOP(tcase, session_mode_gives_a_server_of_one_s_own);
	LOOP(tcase, session_mode_prepared_statements_pass_untouched);
	LOOP(tcase, statement_mode_refuses_transactions);
	LOOP(tcase, server_of_a_vanished_client_is_rolled_back_and_used_again);
	LOOP(tcase, two_hundred_clients_that_vanish_cost_no_logins);
	LOOP(tcase, killed_backend_is_an_error_for_its_client_alone);
	LOOP(tcase, clients_outlive_a_restart_of_postgresql);
	LOOP(tcase, unreachable_backend_is_told_apart);
	LOOP(tcase, wildcard_pool_serves_every_database);
	LOOP(tcase, users_of_one_pool_share_its_bound);
	LOOP(tcase, shutdown_lets_a_transaction_finish);
	return harness_run(suite);
}
