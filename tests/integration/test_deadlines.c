/*
 * Time limits: of queries, transactions, idleness and logins. What is cut gets a true error, nothing of it stays, and
 * the client goes on with the same connection.
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "query.h"
#include "wire.h"

static struct forebay *start_with(int i, const char *pool, const char *more, bool no_default_users) {
	PGconn *control = connect_control();

	execute(control, "drop table if exists noted; create table noted(v text); alter table noted owner to app");
	PQfinish(control);
	return forebay_start(&(struct forebay_setup){.workers = WORKERS(i),
						     .pool = pool,
						     .listener = "auth = trust",
						     .more = more,
						     .no_default_users = no_default_users});
}

static struct forebay *start(int i, const char *pool) {
	return start_with(i, pool, NULL, false);
}

/* It fails with this SQLSTATE, and the message has these words. */
static void expect_cut(PGconn *conn, const char *sql, const char *sqlstate, const char *words) {
	PGresult *res = PQexec(conn, sql);
	const char *message = PQresultErrorMessage(res);

	ck_assert_msg(strstr(message, words) != NULL, "%s: expected \"%s\", got \"%s\"", sql, words, message);
	expect_failure(res, sqlstate);
}

static PGTransactionStatusType status(PGconn *conn) {
	return PQtransactionStatus(conn);
}

/* Until the notice of a transaction rolled back has come. */
static void await_notice(void *arg, const PGresult *res) {
	if (strstr(PQresultErrorMessage(res), "rolled back"))
		++*(int *)arg;
}

static void await_rollback(PGconn *conn) {
	int notices = 0;
	PQnoticeReceiver before = PQsetNoticeReceiver(conn, await_notice, &notices);
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	while (notices == 0) {
		struct pollfd p = {.fd = PQsocket(conn), .events = POLLIN};

		ck_assert_msg(harness_now_ms() < deadline, "no notice of a rollback");
		poll(&p, 1, 100);
		ck_assert_msg(PQconsumeInput(conn), "%s", PQerrorMessage(conn));
		PQisBusy(conn);
	}
	PQsetNoticeReceiver(conn, before, NULL);
}

static void raw_await_rollback(struct raw *raw) {
	struct message m = raw_until(raw, 'N');

	ck_assert_msg(strstr(error_field(&m, 'M'), "rolled back") != NULL, "%s", error_field(&m, 'M'));
}

START_TEST(query_that_runs_too_long_is_cancelled_and_the_limit_is_named) {
	struct forebay *forebay = start(_i, "query_timeout = 200ms\nmax_size = 1");
	PGconn *conn = connect_app(forebay);
	char *pid = query(conn, "select pg_backend_pid()");

	expect_cut(conn, "select pg_sleep(60)", "57014",
		   "canceling statement: it ran longer than query_timeout of pool \"app\" (200ms)");
	expect_value(conn, "select 1", "1");
	expect_failure(PQexecParams(conn, "select pg_sleep(60)", 0, NULL, NULL, NULL, NULL, 0), "57014");
	expect_value(conn, "select pg_backend_pid()", pid);
	execute(conn, "begin");
	for (int i = 0; i < 4; i++) /* the limit is of each, not of all */
		execute(conn, "select pg_sleep(0.08)");
	execute(conn, "savepoint s");
	expect_cut(conn, "select pg_sleep(60)", "57014", "query_timeout");
	ck_assert_int_eq(status(conn), PQTRANS_INERROR);
	expect_error(conn, "select 1", "25P02");
	execute(conn, "rollback to s"); /* the transaction is the server's still */
	execute(conn, "insert into noted values ('kept')");
	execute(conn, "commit");
	expect_value(conn, "select v from noted", "kept");
	expect_value(conn, "select pg_backend_pid()", pid);
	ck_assert_int_ge(harness_count_in(forebay->log, "info  query_timeout"), 1);
	free(pid);
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

START_TEST(user_overrides_the_pool_and_reload_changes_both) {
	static const char *const user = "[user:app]\npassword = app-secret\nquery_timeout = 150ms\n";
	struct forebay *forebay = start_with(_i, "query_timeout = 20s\nmax_size = 3", user, true);
	PGconn *conn = connect_app(forebay);

	expect_cut(conn, "select pg_sleep(60)", "57014", "query_timeout of user \"app\" (150ms)");
	forebay_rewrite_ini(forebay, &(struct forebay_setup){.workers = WORKERS(_i),
							     .pool = "query_timeout = 250ms\nmax_size = 3",
							     .listener = "auth = trust"});
	kill(forebay->pid, SIGHUP);
	for (;;) {
		PGresult *res = PQexec(conn, "select pg_sleep(60)");
		bool changed = strstr(PQresultErrorMessage(res), "query_timeout of pool \"app\" (250ms)") != NULL;

		expect_failure(res, "57014");
		if (changed)
			break;
	}
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

START_TEST(transaction_that_lasts_too_long_fails_and_its_server_serves_others) {
	struct forebay *forebay = start(_i, "transaction_timeout = 300ms\nmax_size = 1");
	PGconn *conn = connect_app(forebay), *other = connect_app(forebay);
	char *pid = query(conn, "select pg_backend_pid()");

	execute(conn, "begin");
	execute(conn, "insert into noted values ('lost')");
	expect_cut(conn, "select pg_sleep(60)", "25P04",
		   "canceling statement: its transaction lasted longer than transaction_timeout of pool \"app\" (300ms)");
	ck_assert_int_eq(status(conn), PQTRANS_INERROR);
	expect_value(other, "select pg_backend_pid()", pid); /* the only one */
	expect_error(conn, "select 1", "25P02");
	expect_value(other, "select count(*) from noted", "0");
	expect_tag(conn, "commit", "ROLLBACK");
	ck_assert_int_eq(status(conn), PQTRANS_IDLE);
	expect_value(conn, "select pg_backend_pid()", pid);
	/* outside a transaction block the statement is all there is to it */
	expect_cut(conn, "select pg_sleep(60)", "25P04", "transaction_timeout");
	ck_assert_int_eq(status(conn), PQTRANS_IDLE);
	/* many short statements, and one transaction after the other in one string */
	for (int i = 0; i < 6; i++)
		execute(conn, "select pg_sleep(0.1)");
	execute(conn, "begin; select pg_sleep(0.2)");
	execute(conn, "commit; begin; select pg_sleep(0.2)");
	execute(conn, "commit and chain");
	execute(conn, "select pg_sleep(0.2)");
	execute(conn, "rollback");
	/* idle when its time is over */
	execute(conn, "begin");
	await_rollback(conn);
	expect_cut(conn, "select 1", "25P04", "the transaction was rolled back: it lasted longer than transaction_timeout");
	execute(conn, "rollback");
	expect_value(conn, "select pg_backend_pid()", pid);
	free(pid);
	PQfinish(conn);
	PQfinish(other);
	forebay_stop(forebay);
}
END_TEST

START_TEST(idle_transaction_is_rolled_back_and_its_client_goes_on) {
	struct forebay *forebay = start(_i, "idle_transaction_timeout = 150ms\nmax_size = 1");
	PGconn *conn = connect_app(forebay), *other = connect_app(forebay);
	char *pid = query(conn, "select pg_backend_pid()");

	for (int extended = 0; extended < 2; extended++) {
		execute(conn, "begin");
		execute(conn, "insert into noted values ('lost')");
		execute(conn, "select pg_sleep(0.4)"); /* that is not idle */
		expect_value(other, "select pg_backend_pid()", pid); /* waits until it is taken away */
		expect_value(other, "select count(*) from noted", "0");
		if (extended)
			expect_failure(PQexecParams(conn, "insert into noted values ('out')", 0, NULL, NULL, NULL, NULL, 0),
				       "25P03");
		else
			expect_cut(conn, "insert into noted values ('out')", "25P03",
				   "idle for longer than idle_transaction_timeout of pool \"app\" (150ms)");
		ck_assert_int_eq(status(conn), PQTRANS_INERROR);
		expect_error(conn, "insert into noted values ('out')", "25P02");
		expect_failure(PQexecParams(conn, "select 1", 0, NULL, NULL, NULL, NULL, 0), "25P02");
		if (extended)
			expect_result(PQexecParams(conn, "ROLLBACK", 0, NULL, NULL, NULL, NULL, 0), PGRES_COMMAND_OK);
		else
			expect_tag(conn, "rollback", "ROLLBACK");
		ck_assert_int_eq(status(conn), PQTRANS_IDLE);
		expect_value(conn, "select count(*) from noted", "0");
	}
	/* one that commits and has not heard yet must not think that it has */
	execute(conn, "begin");
	execute(conn, "insert into noted values ('lost')");
	await_rollback(conn);
	expect_cut(conn, "commit", "25P03", "idle_transaction_timeout");
	ck_assert_int_eq(status(conn), PQTRANS_INERROR);
	expect_tag(conn, "commit", "ROLLBACK");
	/* one that rolls back has nothing to hear */
	execute(conn, "begin");
	await_rollback(conn);
	expect_tag(conn, "abort work", "ROLLBACK");
	expect_value(conn, "select pg_backend_pid()", pid);
	ck_assert_int_ge(harness_count_in(forebay->log, "info  idle_transaction_timeout"), 1);
	free(pid);
	PQfinish(conn);
	PQfinish(other);
	forebay_stop(forebay);
}
END_TEST

START_TEST(string_that_begins_with_rollback_goes_on_in_a_new_transaction) {
	struct forebay *forebay = start(_i, "idle_transaction_timeout = 100ms\nmax_size = 1");
	PGconn *conn = connect_app(forebay), *other = connect_app(forebay);
	PGresult *res;

	for (int i = 0; i < 2; i++) {
		execute(conn, "begin");
		await_rollback(conn);
		expect_error(conn, "select 1; rollback", "25P03");
		send_query(conn, i ? "/* a; /* b */ */ ;commit -- c;\n ; insert into noted values ('new')"
				   : "rollback; begin; insert into noted values ('new'); commit");
		res = next_result(conn);
		ck_assert_str_eq(PQcmdStatus(res), "ROLLBACK");
		expect_result(res, PGRES_COMMAND_OK);
		for (int n = i ? 1 : 3; n > 0; n--)
			expect_result(next_result(conn), PGRES_COMMAND_OK);
		ck_assert_ptr_null(next_result(conn));
		ck_assert_int_eq(status(conn), PQTRANS_IDLE);
	}
	expect_value(conn, "select count(*) from noted", "2");
	/* the server's errors point at the client's own text */
	execute(conn, "begin");
	await_rollback(conn);
	send_query(conn, "rollback /* \xc3\xa4 */; select nothing_there");
	expect_result(next_result(conn), PGRES_COMMAND_OK);
	res = next_result(conn);
	ck_assert_str_eq(PQresultErrorField(res, PG_DIAG_STATEMENT_POSITION), "26");
	expect_failure(res, "42703");
	ck_assert_ptr_null(next_result(conn));
	/* with nothing free it waits for a server, and is still in the failed transaction */
	execute(conn, "begin");
	await_rollback(conn);
	send_query(other, "select pg_sleep(0.5)");
	expect_tag(conn, "rollback; select 1; begin", "BEGIN");
	ck_assert_int_eq(status(conn), PQTRANS_INTRANS);
	execute(conn, "commit");
	PQfinish(conn);
	PQfinish(other);
	forebay_stop(forebay);
}
END_TEST

START_TEST(what_cannot_be_answered_truly_is_refused_and_the_transaction_stays_failed) {
	struct forebay *forebay = start(_i, "idle_transaction_timeout = 100ms\nmax_size = 1");
	PGconn *conn = connect_app(forebay);
	int value, len;

	execute(conn, "begin");
	execute(conn, "savepoint s");
	await_rollback(conn);
	expect_error(conn, "rollback to s", "25P03");
	expect_error(conn, "rollback to savepoint s", "3B001");
	expect_error(conn, "rollback and chain", "0A000");
	expect_error(conn, "commit and chain", "0A000");
	expect_error(conn, "rollback prepared 'x'", "25P02");
	expect_error(conn, "rollbacks", "25P02");
	expect_error(conn, "rollback work nonsense", "25P02");
	expect_error(conn, "begin", "25P02");
	expect_result(PQexec(conn, " ; "), PGRES_EMPTY_QUERY);
	ck_assert_int_eq(status(conn), PQTRANS_INERROR);
	expect_failure(PQfn(conn, 1, &value, &len, 1, NULL, 0), "25P02");
	expect_error(conn, "copy noted from stdin", "25P02");
	ck_assert_int_eq(status(conn), PQTRANS_INERROR);
	expect_tag(conn, "prepare transaction 'it''s'", "ROLLBACK");
	ck_assert_int_eq(status(conn), PQTRANS_IDLE);
	execute(conn, "begin");
	await_rollback(conn);
	expect_tag(conn, "rollback transaction and no chain;;", "ROLLBACK");
	expect_value(conn, "select 1", "1");
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

START_TEST(extended_messages_are_answered_as_in_a_failed_transaction) {
	struct forebay *forebay = start(_i, "idle_transaction_timeout = 100ms\nmax_size = 1");
	struct raw raw = raw_connect(forebay);
	struct bytes b = {0};

	raw_login(&raw);
	put_parse(&b, "q", "select 42");
	put_parse(&b, "r", "rollback");
	put_parse(&b, "c", "commit");
	put_sync(&b);
	put_query(&b, "begin");
	raw_send_bytes(&raw, &b);
	raw_answers(&raw, "1 1 1 Z:I C:BEGIN Z:T");
	raw_await_rollback(&raw);

	put_bind(&b, "q", NULL); /* the limit first; what follows is passed over */
	put_execute(&b);
	put_sync(&b);
	put_bind(&b, "q", NULL);
	put_execute(&b);
	put_sync(&b);
	put_message(&b, 'D', "cs", 'S', "q");
	put_sync(&b);
	put_parse(&b, "new", "select 1");
	put_sync(&b);
	put_bind(&b, "new", NULL);
	put_sync(&b);
	put_message(&b, 'E', "si", "nowhere", 0);
	put_sync(&b);
	raw_send_bytes(&raw, &b);
	raw_answers(&raw, "E:25P03 Z:E E:25P02 Z:E E:25P02 Z:E E:25P02 Z:E E:26000 Z:E E:34000 Z:E");

	put_parse(&b, "r2", "rollback work"); /* what ends a transaction can be prepared in it */
	put_message(&b, 'D', "cs", 'S', "r2");
	put_message(&b, 'H', "");
	raw_send_bytes(&raw, &b);
	raw_answers(&raw, "1 t n");
	put_message(&b, 'C', "cs", 'S', "r2");
	put_message(&b, 'C', "cs", 'S', "never");
	put_sync(&b);
	put_bind(&b, "r2", NULL);
	put_sync(&b);
	put_message(&b, 'd', "b", (size_t)3, "abc");
	put_message(&b, 'c', "");
	put_message(&b, 'F', "ihhh", 1, 0, 0, 0);
	raw_send_bytes(&raw, &b);
	raw_answers(&raw, "3 3 Z:E E:26000 Z:E E:25P02 Z:E");

	put_bind(&b, "r", NULL); /* and then it is over, within the same batch */
	put_execute(&b);
	put_bind(&b, "q", NULL);
	put_execute(&b);
	put_sync(&b);
	raw_send_bytes(&raw, &b);
	raw_answers(&raw, "2 n C:ROLLBACK 2 T D:42 C Z:I");

	put_query(&b, "begin");
	raw_send_bytes(&raw, &b);
	raw_answers(&raw, "C:BEGIN Z:T");
	raw_await_rollback(&raw);
	put_bind(&b, "c", NULL); /* has not heard of it */
	put_execute(&b);
	put_sync(&b);
	put_bind(&b, "c", NULL);
	put_execute(&b);
	put_sync(&b);
	put_bind(&b, "q", NULL);
	put_execute(&b);
	put_sync(&b);
	raw_send_bytes(&raw, &b);
	raw_answers(&raw, "2 n E:25P03 Z:E 2 n C:ROLLBACK Z:I 2 T D:42 C Z:I");

	put_parse(&b, "", "insert into noted values ('batch')"); /* a batch left open, without a transaction block */
	put_bind(&b, "", NULL);
	put_execute(&b);
	put_message(&b, 'H', "");
	raw_send_bytes(&raw, &b);
	raw_answers(&raw, "1 2 n C");
	raw_await_rollback(&raw);
	put_sync(&b); /* must not look like success */
	put_query(&b, "select count(*) from noted");
	raw_send_bytes(&raw, &b);
	raw_answers(&raw, "E:25P03 Z:I T D:0 C Z:I");

	put_parse(&b, "", "select $1");
	put_bind(&b, "", "1");
	put_message(&b, 'H', "");
	raw_send_bytes(&raw, &b);
	raw_answers(&raw, "1 2");
	raw_await_rollback(&raw);
	put_execute(&b);
	put_parse(&b, "never", "select 1");
	put_sync(&b);
	put_bind(&b, "r", NULL);
	put_sync(&b);
	put_query(&b, "select 1");
	raw_send_bytes(&raw, &b);
	raw_answers(&raw, "E:25P03 Z:I 2 Z:I T D:1 C Z:I");
	raw_close(&raw);
	forebay_stop(forebay);
}
END_TEST

START_TEST(statements_sent_behind_a_timed_out_one_do_not_run_outside_the_transaction) {
	struct forebay *forebay = start(_i, "transaction_timeout = 300ms\nmax_size = 2");
	struct raw raw = raw_connect(forebay);
	PGconn *other = connect_app(forebay);
	struct bytes b = {0};

	raw_login(&raw);
	put_query(&b, "begin");
	put_query(&b, "insert into noted values ('one')");
	put_query(&b, "select pg_sleep(60)");
	put_query(&b, "insert into noted values ('two')");
	put_query(&b, "insert into noted values ('three')");
	raw_send_bytes(&raw, &b);
	raw_answers(&raw, "C:BEGIN Z:T C Z:T T E:25P04 Z:E E:25P02 Z:E E:25P02 Z:E");
	put_query(&b, "insert into noted values ('four')");
	put_query(&b, "commit");
	put_query(&b, "insert into noted values ('kept')");
	raw_send_bytes(&raw, &b);
	raw_answers(&raw, "E:25P02 Z:E C:ROLLBACK Z:I C Z:I");
	expect_value(other, "select string_agg(v, ',') from noted", "kept");

	/* in extended batches, up to the end of the transaction and beyond, all at once */
	static const char *const batches[] = {"begin", "insert into noted values ('five')", "select pg_sleep(60)",
					      "insert into noted values ('six')", "commit",
					      "insert into noted values ('kept, too')"};
	for (size_t i = 0; i < sizeof(batches) / sizeof(batches[0]); i++) {
		put_parse(&b, "", batches[i]);
		put_bind(&b, "", NULL);
		put_message(&b, 'E', "si", "", 0);
		put_sync(&b);
	}
	raw_send_bytes(&raw, &b);
	raw_answers(&raw, "1 2 C:BEGIN Z:T 1 2 C Z:T 1 2 E:25P04 Z:E E:25P02 Z:E 1 2 C:ROLLBACK Z:I 1 2 C Z:I");
	expect_value(other, "select string_agg(v, ';') from noted", "kept;kept, too");

	/* behind one that is found to be over while it is idle */
	put_query(&b, "begin");
	raw_send_bytes(&raw, &b);
	raw_answers(&raw, "C:BEGIN Z:T");
	raw_await_rollback(&raw);
	put_query(&b, "insert into noted values ('seven')");
	put_query(&b, "insert into noted values ('eight')");
	put_query(&b, "commit");
	put_query(&b, "select 1");
	raw_send_bytes(&raw, &b);
	raw_answers(&raw, "E:25P04 Z:E E:25P02 Z:E C:ROLLBACK Z:I T D:1 C Z:I");
	expect_value(other, "select count(*) from noted", "2");
	raw_close(&raw);
	PQfinish(other);
	forebay_stop(forebay);
}
END_TEST

START_TEST(each_query_of_a_pipeline_has_its_own_time) {
	struct forebay *forebay = start(_i, "query_timeout = 600ms\nmax_size = 1");
	struct raw raw = raw_connect(forebay);
	struct bytes b = {0};

	raw_login(&raw);
	for (int i = 0; i < 8; i++)
		put_query(&b, "select 7 from pg_sleep(0.15)");
	raw_send_bytes(&raw, &b);
	for (int i = 0; i < 8; i++)
		raw_answers(&raw, "T D:7 C Z:I");
	put_query(&b, "insert into noted values ('before')");
	put_query(&b, "select pg_sleep(60)");
	put_query(&b, "insert into noted values ('behind')");
	raw_send_bytes(&raw, &b);
	raw_answers(&raw, "C Z:I T E:57014 Z:I");
	/* PostgreSQL signals twice for a cancel; on a busy machine the second may come late enough to hit what is behind */
	struct message m;
	ck_assert_int_eq(raw_read(&raw, &m), RAW_MESSAGE);
	bool hit = m.type == 'E';
	if (hit)
		ck_assert_msg(strstr(error_field(&m, 'M'), "which came late"), "%s", error_field(&m, 'M'));
	else
		ck_assert_int_eq(m.type, 'C');
	raw_answers(&raw, "Z:I");
	put_query(&b, "select count(*) from noted");
	raw_send_bytes(&raw, &b);
	raw_answers(&raw, hit ? "T D:1 C Z:I" : "T D:2 C Z:I");
	raw_close(&raw);
	forebay_stop(forebay);
}
END_TEST

START_TEST(prepared_statements_and_settings_are_true_after_it) {
	struct forebay *forebay = start(_i, "idle_transaction_timeout = 150ms\nmax_size = 1");
	PGconn *conn = connect_with(forebay, "application_name=mine"), *other = connect_app(forebay);

	expect_result(PQprepare(conn, "before", "select 'before'", 0, NULL), PGRES_COMMAND_OK);
	execute(conn, "begin");
	execute(conn, "set application_name = 'changed'");
	ck_assert_str_eq(PQparameterStatus(conn, "application_name"), "changed");
	expect_result(PQprepare(conn, "within", "select 'within'", 0, NULL), PGRES_COMMAND_OK);
	expect_text(PQexecPrepared(conn, "within", 0, NULL, NULL, NULL, 0), "within");
	expect_value(other, "select 1", "1");
	expect_failure(PQexecPrepared(conn, "before", 0, NULL, NULL, NULL, 0), "25P03");
	expect_failure(PQexecPrepared(conn, "within", 0, NULL, NULL, NULL, 0), "25P02");
	expect_failure(PQprepare(conn, "not", "select 1", 0, NULL), "25P02");
	expect_result(PQprepare(conn, "end", "rollback", 0, NULL), PGRES_COMMAND_OK);
	expect_failure(PQprepare(conn, "end", "rollback", 0, NULL), "42P05");
	expect_result(PQexecPrepared(conn, "end", 0, NULL, NULL, NULL, 0), PGRES_COMMAND_OK);
	ck_assert_int_eq(status(conn), PQTRANS_IDLE);
	ck_assert_str_eq(PQparameterStatus(conn, "application_name"), "mine");
	expect_value(conn, "show application_name", "mine");
	/* as on PostgreSQL: statements outlive the transaction that prepared them */
	expect_text(PQexecPrepared(conn, "before", 0, NULL, NULL, NULL, 0), "before");
	expect_text(PQexecPrepared(conn, "within", 0, NULL, NULL, NULL, 0), "within");
	expect_failure(PQexecPrepared(conn, "not", 0, NULL, NULL, NULL, 0), "26000");
	expect_result(PQexecPrepared(conn, "end", 0, NULL, NULL, NULL, 0), PGRES_COMMAND_OK);
	expect_value(other, "show application_name", PQparameterStatus(other, "application_name"));
	PQfinish(conn);
	PQfinish(other);
	forebay_stop(forebay);
}
END_TEST

START_TEST(copy_in_that_stalls_is_ended) {
	struct forebay *forebay = start(_i, "query_timeout = 200ms\nmax_size = 1");
	PGconn *conn = connect_app(forebay);
	char *pid = query(conn, "select pg_backend_pid()");

	for (int i = 0; i < 4; i++) {
		if (i >= 2)
			execute(conn, "begin");
		if (i % 2)
			expect_result(PQexecParams(conn, "copy noted from stdin", 0, NULL, NULL, NULL, NULL, 0), PGRES_COPY_IN);
		else
			expect_result(PQexec(conn, "copy noted from stdin"), PGRES_COPY_IN);
		ck_assert_int_eq(PQputCopyData(conn, "row\n", 4), 1);
		PQflush(conn);
		struct pollfd p = {.fd = PQsocket(conn), .events = POLLIN};
		ck_assert_int_eq(poll(&p, 1, HARNESS_DEADLINE_MS), 1); /* told while it sleeps */
		ck_assert_int_eq(PQputCopyData(conn, "row\n", 4), 1);
		ck_assert_int_eq(PQputCopyEnd(conn, NULL), 1);
		PGresult *res = next_result(conn);
		ck_assert_msg(strstr(PQresultErrorMessage(res), "query_timeout of pool") != NULL, "%s", PQresultErrorMessage(res));
		expect_failure(res, "57014");
		ck_assert_ptr_null(next_result(conn));
		ck_assert_int_eq(status(conn), i >= 2 ? PQTRANS_INERROR : PQTRANS_IDLE);
		if (i >= 2)
			execute(conn, "rollback");
		expect_value(conn, "select count(*) from noted", "0");
	}
	expect_value(conn, "select pg_backend_pid()", pid);
	free(pid);
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

START_TEST(client_that_does_not_read_its_copy_does_not_keep_the_server) {
	struct forebay *forebay = start(_i, "query_timeout = 200ms\nrecovery_timeout = 1500ms\nmax_size = 1");
	struct raw raw = raw_connect(forebay);
	PGconn *other = connect_app(forebay);

	raw_login(&raw);
	raw_put(&raw, 'Q', "s", "copy (select repeat('x', 10000) from generate_series(1, 100000)) to stdout");
	raw_expect(&raw, 'H');
	expect_value(other, "select 1", "1");
	/* closed, or, where the cancel has caught the backend before it was stuck, told */
	struct message m;
	enum raw_status got;
	do
		got = raw_read(&raw, &m);
	while (got == RAW_MESSAGE && m.type != 'E');
	ck_assert_int_ne(got, RAW_TIMEOUT);
	if (got == RAW_MESSAGE)
		ck_assert_str_eq(error_field(&m, 'C'), "57014");
	raw_close(&raw);
	/* one that reads is told in its place */
	send_query(other, "copy (select 1 from generate_series(1, 3) s, pg_sleep(60)) to stdout");
	expect_result(next_result(other), PGRES_COPY_OUT);
	char *line;
	ck_assert_int_lt(PQgetCopyData(other, &line, 0), 0);
	expect_failure(next_result(other), "57014");
	ck_assert_ptr_null(next_result(other));
	expect_value(other, "select 1", "1");
	PQfinish(other);
	forebay_stop(forebay);
}
END_TEST

START_TEST(statement_that_cannot_be_cancelled_costs_its_connection) {
	struct forebay *forebay = start(_i, "query_timeout = 100ms\nrecovery_timeout = 600ms\nmax_size = 1");
	PGconn *conn = connect_app(forebay), *other = connect_app(forebay);

	send_query(conn, "do $$ begin for i in 1..200 loop begin perform pg_sleep(10); "
				     "exception when query_canceled then null; end; end loop; end $$");
	PGresult *res = next_result(conn);
	/* a cancel that comes between two of its blocks does end it: then once more */
	for (int tries = 0; tries < 5 && PQstatus(conn) == CONNECTION_OK && !strstr(PQresultErrorMessage(res), "recovery_timeout"); tries++) {
		PQclear(res);
		PQclear(next_result(conn));
		send_query(conn, "do $$ begin for i in 1..200 loop begin perform pg_sleep(10); "
				 "exception when query_canceled then null; end; end loop; end $$");
		res = next_result(conn);
	}
	ck_assert_msg(strstr(PQresultErrorMessage(res), "recovery_timeout (600ms)") != NULL, "%s", PQresultErrorMessage(res));
	expect_failure(res, "57014");
	PQclear(next_result(conn));
	ck_assert_int_eq(PQstatus(conn), CONNECTION_BAD);
	expect_value(other, "select 1", "1");
	PGconn *control = connect_control(); /* it would run on */
	execute(control, "select pg_terminate_backend(pid) from pg_stat_activity where query like 'do $$%%'");
	PQfinish(control);
	PQfinish(conn);
	PQfinish(other);
	forebay_stop(forebay);
}
END_TEST

START_TEST(session_keeps_its_server_and_its_state) {
	struct forebay *forebay = start(_i, "pool_mode = session\nidle_transaction_timeout = 150ms\n"
					    "transaction_timeout = 2s\nquery_timeout = 1500ms\nmax_size = 2");
	PGconn *conn = connect_app(forebay), *other = connect_app(forebay);
	char *pid = query(conn, "select pg_backend_pid()");

	execute(conn, "insert into noted values ('row')");
	execute(conn, "create temporary table mine(v int)");
	execute(conn, "set work_mem = '5MB'");
	expect_result(PQprepare(conn, "r", "rollback", 0, NULL), PGRES_COMMAND_OK);
	for (int i = 0; i < 4; i++) {
		execute(conn, "begin");
		execute(conn, "set application_name = 'changed'");
		execute(conn, "update noted set v = 'lost'");
		execute(other, "update noted set v = 'other'"); /* waits for the lock */
		if (i == 0)
			await_rollback(conn);
		if (i == 1) {
			expect_tag(conn, "rollback", "ROLLBACK"); /* nothing to hear */
		} else if (i == 2) {
			expect_failure(PQexecParams(conn, "select 1", 0, NULL, NULL, NULL, NULL, 0), "25P03");
			expect_result(PQexecPrepared(conn, "r", 0, NULL, NULL, NULL, 0), PGRES_COMMAND_OK);
		} else {
			expect_cut(conn, "commit", "25P03", "idle_transaction_timeout of pool");
			ck_assert_int_eq(status(conn), PQTRANS_INERROR);
			expect_error(conn, "select 1", "25P02");
			expect_tag(conn, "commit", "ROLLBACK");
		}
		ck_assert_int_eq(status(conn), PQTRANS_IDLE);
		ck_assert_str_ne(PQparameterStatus(conn, "application_name"), "changed");
		expect_value(conn, "select v from noted", "other");
		expect_value(conn, "select count(*) from mine", "0");
		expect_value(conn, "show work_mem", "5MB");
	}
	execute(conn, "begin");
	expect_cut(conn, "select pg_sleep(60)", "57014", "query_timeout");
	execute(conn, "rollback");
	execute(conn, "begin; select pg_sleep(1.2)");
	expect_cut(conn, "select pg_sleep(60)", "25P04", "transaction_timeout");
	expect_error(conn, "select 1", "25P02");
	execute(conn, "rollback");
	expect_value(conn, "select pg_backend_pid()", pid);
	expect_value(conn, "select count(*) from mine", "0");
	free(pid);
	PQfinish(conn);
	PQfinish(other);
	forebay_stop(forebay);
}
END_TEST

START_TEST(open_batch_of_a_session_is_made_to_fail) {
	struct forebay *forebay = start(_i, "pool_mode = session\nidle_transaction_timeout = 150ms\nmax_size = 2");
	struct raw raw = raw_connect(forebay);
	struct bytes b = {0};

	raw_login(&raw);
	for (int i = 0; i < 2; i++) {
		put_parse(&b, "", "insert into noted values ('batch')");
		put_bind(&b, "", NULL);
		put_execute(&b);
		put_message(&b, 'H', "");
		raw_send_bytes(&raw, &b);
		raw_answers(&raw, "1 2 n C");
		raw_await_rollback(&raw);
		if (i) {
			put_bind(&b, "", NULL);
			put_execute(&b);
		}
		put_sync(&b);
		put_query(&b, "select count(*) from noted");
		raw_send_bytes(&raw, &b);
		raw_answers(&raw, "E:25P03 Z:I T D:0 C Z:I");
	}
	raw_close(&raw);
	forebay_stop(forebay);
}
END_TEST

START_TEST(idle_client_is_let_go) {
	struct forebay *forebay = start(_i, _i % 2 ? "client_idle_timeout = 400ms\npool_mode = session"
						   : "client_idle_timeout = 400ms");
	struct raw raw = raw_connect(forebay);
	PGconn *console = connect_with(forebay, "dbname=forebay user=ops password=ops-secret");
	struct message m;

	raw_login(&raw);
	raw_put(&raw, 'Q', "s", "begin");
	raw_answers(&raw, "C:BEGIN Z:T");
	raw_put(&raw, 'Q', "s", "select pg_sleep(0.6)"); /* busy, and in a transaction: that is not idle */
	raw_answers(&raw, "T D C Z:T");
	ck_assert_int_eq(raw_read_within(&raw, &m, 600), RAW_TIMEOUT);
	raw_put(&raw, 'Q', "s", "commit");
	raw_answers(&raw, "C:COMMIT Z:I");
	long long began = harness_now_ms();
	m = raw_expect(&raw, 'E');
	ck_assert_int_ge(harness_now_ms() - began, 300);
	ck_assert_str_eq(error_field(&m, 'S'), "FATAL");
	ck_assert_str_eq(error_field(&m, 'C'), "57P05");
	ck_assert_msg(strstr(error_field(&m, 'M'), "client_idle_timeout of pool \"app\" (400ms)") != NULL, "%s",
		      error_field(&m, 'M'));
	raw_expect_closed(&raw);
	raw_close(&raw);
	expect_result(PQexec(console, "show version"), PGRES_TUPLES_OK);
	PQfinish(console);
	forebay_stop(forebay);
}
END_TEST

START_TEST(login_has_the_time_that_its_pool_or_user_gives) {
	PGconn *control = connect_control();
	struct forebay *forebay = forebay_start(&(struct forebay_setup){
		.workers = WORKERS(_i),
		.process = "client_login_timeout = 20s",
		.pool = "client_login_timeout = 300ms",
		.listener = "auth = password",
		.no_default_users = true,
		.more = "[user:app]\npassword = app-secret\n[user:slow]\npassword = x\nclient_login_timeout = 700ms\n"});
	static const char *const users[] = {"app", "slow"}, *const words[] = {"client_login_timeout of pool \"app\" (300ms)",
									      "client_login_timeout of user \"slow\" (700ms)"};

	for (int i = 0; i < 2; i++) {
		struct raw raw = raw_connect(forebay);
		struct bytes b = {0};
		struct message m;
		long long began = harness_now_ms();

		put_startup(&b, 3 << 16, "user", users[i], "database", "app", NULL);
		raw_send_bytes(&raw, &b);
		raw_expect(&raw, 'R');
		m = raw_expect(&raw, 'E');
		ck_assert_int_ge(harness_now_ms() - began, i ? 600 : 200);
		ck_assert_str_eq(error_field(&m, 'C'), "08006");
		ck_assert_msg(strstr(error_field(&m, 'M'), words[i]) != NULL, "%s", error_field(&m, 'M'));
		raw_expect_closed(&raw);
		raw_close(&raw);
	}
	PGconn *conn = connect_app(forebay);
	expect_value(conn, "select 1", "1");
	PQfinish(conn);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(batch_of_a_client_that_vanished_is_not_committed) {
	struct forebay *forebay = start(_i, "max_size = 1");
	PGconn *other = connect_app(forebay);

	for (int i = 0; i < 4; i++) { /* with a batch that failed, then with one that did not, on the same server */
		struct raw raw = raw_connect(forebay);
		struct bytes b = {0};

		raw_login(&raw);
		put_parse(&b, "", i % 2 ? "insert into noted values ('batch')" : "select 1 / 0");
		put_bind(&b, "", NULL);
		put_message(&b, 'E', "si", "", 0);
		put_message(&b, 'H', "");
		raw_send_bytes(&raw, &b);
		raw_answers(&raw, i % 2 ? "1 2 C" : "1 E:22012");
		raw_close(&raw);
		expect_value(other, "select count(*) from noted", "0");
	}
	expect_value(other, "select 1", "1");
	PQfinish(other);
	forebay_stop(forebay);
}
END_TEST

/* ---- many clients, random statements, very short limits ---- */

enum { ATTACKERS = 12, ATTACK_MS = 3000 };

struct attacker {
	pthread_t thread;
	const struct forebay *forebay;
	int id;
	unsigned seed;
	long answers, cut, sent;
	char failure[1200];
};

static _Atomic long committed;

static bool is_one_of(const char *sqlstate, const char *list) {
	return sqlstate && strlen(sqlstate) == 5 && strstr(list, sqlstate) != NULL;
}

/* One statement whose answer is its token; false: something was wrong. */
static bool ask(struct attacker *a, PGconn *conn, double sleep, bool extended) {
	char sql[200], token[64];

	snprintf(token, sizeof(token), "%d-%ld", a->id, a->sent++);
	snprintf(sql, sizeof(sql), "select '%s' from pg_sleep(%f)", token, sleep);
	PGresult *res = extended ? PQexecParams(conn, sql, 0, NULL, NULL, NULL, NULL, 0) : PQexec(conn, sql);
	if (PQresultStatus(res) == PGRES_TUPLES_OK) {
		if (strcmp(PQgetvalue(res, 0, 0), token) != 0)
			snprintf(a->failure, sizeof(a->failure), "expected %s, got %s", token, PQgetvalue(res, 0, 0));
		a->answers++;
	} else if (is_one_of(PQresultErrorField(res, PG_DIAG_SQLSTATE), "57014 25P02 25P03 25P04")) {
		a->cut++;
		if (strstr(PQresultErrorMessage(res), "user request"))
			snprintf(a->failure, sizeof(a->failure), "a bare cancel: %s", PQresultErrorMessage(res));
	} else {
		snprintf(a->failure, sizeof(a->failure), "%s: %s", sql, PQresultErrorMessage(res));
	}
	PQclear(res);
	return !a->failure[0];
}

static bool run(struct attacker *a, PGconn *conn, const char *sql, const char *tag) {
	PGresult *res = PQexec(conn, sql);
	bool ok = PQresultStatus(res) == PGRES_COMMAND_OK && strncmp(PQcmdStatus(res), tag, strlen(tag)) == 0;

	if (!ok && !is_one_of(PQresultErrorField(res, PG_DIAG_SQLSTATE), "57014 25P02 25P03 25P04") &&
	    PQresultStatus(res) != PGRES_COMMAND_OK)
		snprintf(a->failure, sizeof(a->failure), "%s: %s %s", sql, PQcmdStatus(res), PQresultErrorMessage(res));
	PQclear(res);
	return ok;
}

/* Some at once, each a batch of its own, within a transaction or not. */
static void ask_in_a_row(struct attacker *a, PGconn *conn) {
	char sql[200], tokens[6][64];
	int n = 1 + rand_r(&a->seed) % 6;

	PQenterPipelineMode(conn);
	for (int i = 0; i < n; i++) {
		snprintf(tokens[i], sizeof(tokens[i]), "%d-%ld", a->id, a->sent++);
		snprintf(sql, sizeof(sql), "select '%.60s' from pg_sleep(%f)", tokens[i], (rand_r(&a->seed) % 50) / 1000.0);
		PQsendQueryParams(conn, sql, 0, NULL, NULL, NULL, NULL, 0);
		PQpipelineSync(conn);
	}
	for (int i = 0; i < n && !a->failure[0]; i++) {
		PGresult *res = PQgetResult(conn), *end = PQgetResult(conn), *sync = PQgetResult(conn);

		if (PQresultStatus(res) == PGRES_TUPLES_OK) {
			if (strcmp(PQgetvalue(res, 0, 0), tokens[i]) != 0)
				snprintf(a->failure, sizeof(a->failure), "in a row: expected %s, got %s", tokens[i],
					 PQgetvalue(res, 0, 0));
			a->answers++;
		} else if (is_one_of(PQresultErrorField(res, PG_DIAG_SQLSTATE), "57014 25P02 25P03 25P04")) {
			a->cut++;
			if (strstr(PQresultErrorMessage(res), "user request"))
				snprintf(a->failure, sizeof(a->failure), "in a row, a bare cancel: %s", PQresultErrorMessage(res));
		} else {
			snprintf(a->failure, sizeof(a->failure), "in a row: %s: %s", PQresStatus(PQresultStatus(res)),
				 PQresultErrorMessage(res));
		}
		if (!a->failure[0] && (end || PQresultStatus(sync) != PGRES_PIPELINE_SYNC))
			snprintf(a->failure, sizeof(a->failure), "in a row: no end of the batch");
		PQclear(res);
		PQclear(end);
		PQclear(sync);
	}
	PQexitPipelineMode(conn);
}

/* COPY IN with pauses: all of it or nothing. */
static void copy_in(struct attacker *a, PGconn *conn) {
	PGresult *res = PQexec(conn, "copy noted from stdin");

	if (PQresultStatus(res) == PGRES_COPY_IN) {
		char row[32];
		int len = snprintf(row, sizeof(row), "%d\n", a->id);

		harness_pause_ms(rand_r(&a->seed) % 60);
		PQputCopyData(conn, row, len);
		if (rand_r(&a->seed) % 2)
			PQflush(conn);
		harness_pause_ms(rand_r(&a->seed) % 30);
		PQputCopyEnd(conn, NULL);
		PQclear(res);
		res = PQgetResult(conn);
		if (PQresultStatus(res) == PGRES_COMMAND_OK)
			committed++;
	}
	if (PQresultStatus(res) != PGRES_COMMAND_OK &&
	    !is_one_of(PQresultErrorField(res, PG_DIAG_SQLSTATE), "57014 25P02 25P03 25P04"))
		snprintf(a->failure, sizeof(a->failure), "copy: %s: %s", PQresStatus(PQresultStatus(res)), PQresultErrorMessage(res));
	PQclear(res);
	while ((res = PQgetResult(conn)))
		PQclear(res);
}

static void ignore_notice(void *arg, const PGresult *res) {
	(void)arg;
	(void)res;
}

static void *attack(void *arg) {
	struct attacker *a = arg;
	PGconn *conn = try_connect(a->forebay, "sslmode=disable");
	PQsetNoticeReceiver(conn, ignore_notice, NULL);
	long long end = harness_now_ms() + ATTACK_MS;

	while (harness_now_ms() < end && !a->failure[0]) {
		double sleep = (rand_r(&a->seed) % 60) / 1000.0;

		if (PQstatus(conn) != CONNECTION_OK) {
			snprintf(a->failure, sizeof(a->failure), "the connection is lost: %s", PQerrorMessage(conn));
			break;
		}
		if (rand_r(&a->seed) % 3 == 0) {
			if (rand_r(&a->seed) % 3 == 0)
				copy_in(a, conn);
			else if (rand_r(&a->seed) % 2)
				ask_in_a_row(a, conn);
			else
				ask(a, conn, sleep, rand_r(&a->seed) % 2);
			continue;
		}
		bool whole = run(a, conn, "begin", "BEGIN");
		if (whole) {
			char sql[100];

			snprintf(sql, sizeof(sql), "insert into noted values ('%d')", a->id);
			whole = run(a, conn, sql, "INSERT");
			for (int n = rand_r(&a->seed) % 3; n > 0 && !a->failure[0]; n--) {
				long cut = a->cut;

				if (rand_r(&a->seed) % 2)
					harness_pause_ms(rand_r(&a->seed) % 50);
				if (rand_r(&a->seed) % 4 == 0)
					ask_in_a_row(a, conn);
				else
					ask(a, conn, (rand_r(&a->seed) % 40) / 1000.0, rand_r(&a->seed) % 2);
				whole = whole && a->cut == cut;
			}
			PGresult *res = PQexec(conn, rand_r(&a->seed) % 4 ? "commit" : "rollback");
			if (PQresultStatus(res) == PGRES_COMMAND_OK && strcmp(PQcmdStatus(res), "COMMIT") == 0) {
				committed++;
				if (!whole)
					snprintf(a->failure, sizeof(a->failure), "committed what had failed");
			}
			PQclear(res);
		}
		if (PQtransactionStatus(conn) != PQTRANS_IDLE && !a->failure[0] && !run(a, conn, "rollback", "ROLLBACK"))
			snprintf(a->failure, sizeof(a->failure), "rollback fails: %s", PQerrorMessage(conn));
	}
	PQfinish(conn);
	return NULL;
}

START_TEST(random_statements_under_very_short_limits) {
	struct forebay *forebay = start(_i, "query_timeout = 40ms\ntransaction_timeout = 80ms\n"
					    "idle_transaction_timeout = 30ms\nrecovery_timeout = 20s\nmax_size = 4");
	struct attacker at[ATTACKERS] = {0};
	PGconn *control = connect_control();
	long answers = 0, cut = 0;

	committed = 0;
	for (int i = 0; i < ATTACKERS; i++) {
		at[i] = (struct attacker){.forebay = forebay, .id = i, .seed = (unsigned)(i * 7919 + _i)};
		ck_assert_int_eq(pthread_create(&at[i].thread, NULL, attack, &at[i]), 0);
	}
	for (int i = 0; i < ATTACKERS; i++)
		pthread_join(at[i].thread, NULL);
	for (int i = 0; i < ATTACKERS; i++) {
		ck_assert_msg(!at[i].failure[0], "client %d: %s", i, at[i].failure);
		answers += at[i].answers;
		cut += at[i].cut;
	}
	ck_assert_int_gt(answers, 0);
	ck_assert_int_gt(cut, 0);
	ck_assert_int_eq(query_long(control, "select count(*) from noted"), committed);
	await_value(control, "select count(*) from pg_stat_activity where datname = 'app' and usename = 'app' and state <> 'idle'",
		    "0");
	/* servers are used again: hardly any was lost */
	ck_assert_int_le(harness_count_in(forebay->log, "server_closed"), 4);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("deadlines");
	TCase *tcase = tcase_create("deadlines");

	harness_begin(NULL);
	tcase_set_timeout(tcase, 120);
	suite_add_tcase(suite, tcase);
	LOOP(tcase, query_that_runs_too_long_is_cancelled_and_the_limit_is_named);
	LOOP(tcase, user_overrides_the_pool_and_reload_changes_both);
	LOOP(tcase, transaction_that_lasts_too_long_fails_and_its_server_serves_others);
	LOOP(tcase, idle_transaction_is_rolled_back_and_its_client_goes_on);
	LOOP(tcase, string_that_begins_with_rollback_goes_on_in_a_new_transaction);
	LOOP(tcase, what_cannot_be_answered_truly_is_refused_and_the_transaction_stays_failed);
	LOOP(tcase, extended_messages_are_answered_as_in_a_failed_transaction);
	LOOP(tcase, statements_sent_behind_a_timed_out_one_do_not_run_outside_the_transaction);
	LOOP(tcase, each_query_of_a_pipeline_has_its_own_time);
	LOOP(tcase, prepared_statements_and_settings_are_true_after_it);
	LOOP(tcase, copy_in_that_stalls_is_ended);
	LOOP(tcase, client_that_does_not_read_its_copy_does_not_keep_the_server);
	LOOP(tcase, statement_that_cannot_be_cancelled_costs_its_connection);
	LOOP(tcase, session_keeps_its_server_and_its_state);
	LOOP(tcase, open_batch_of_a_session_is_made_to_fail);
	LOOP(tcase, idle_client_is_let_go);
	LOOP(tcase, login_has_the_time_that_its_pool_or_user_gives);
	LOOP(tcase, batch_of_a_client_that_vanished_is_not_committed);
	LOOP(tcase, random_statements_under_very_short_limits);
	return harness_run(suite);
}
