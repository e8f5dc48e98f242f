/* Cancel requests reach the query they are meant for, and never another client's. */
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "query.h"
#include "wire.h"

enum { CANCEL_REQUEST = 80877102 };

static struct forebay *start(int i, const char *pool) {
	return forebay_start(
		&(struct forebay_setup){.workers = WORKERS(i), .pool = pool, .listener = "auth = trust"});
}

static void cancel(PGconn *conn) {
	char error[256];
	PGcancel *request = PQgetCancel(conn);

	ck_assert(request != NULL);
	ck_assert_msg(PQcancel(request, error, sizeof(error)) == 1, "%s", error);
	PQfreeCancel(request);
}

START_TEST(cancel_ends_the_right_query) {
	struct forebay *forebay = start(_i, "max_size = 4");
	PGconn *control = connect_control(), *a = connect_app(forebay), *b = connect_app(forebay), *idle = connect_app(forebay);

	for (int i = 0; i < 5; i++) {
		send_query(a, "select 'query of a', pg_sleep(60)");
		send_query(b, "select 'query of b', pg_sleep(0.3)");
		await_running(control, "query of a");
		/* Of one that does nothing: no effect. */
		cancel(idle);
		cancel(a);
		expect_failure(next_result(a), "57014");
		ck_assert_ptr_null(next_result(a));
		expect_text(next_result(b), "query of b");
		ck_assert_ptr_null(next_result(b));
		expect_value(a, "select 'goes on'", "goes on");
		expect_value(idle, "select 'never cancelled'", "never cancelled");
	}
	PQfinish(a);
	PQfinish(b);
	PQfinish(idle);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(cancel_within_a_transaction_aborts_it) {
	struct forebay *forebay = start(_i, "max_size = 2");
	PGconn *control = connect_control(), *conn = connect_app(forebay);

	execute(conn, "begin");
	send_query(conn, "select 'in transaction', pg_sleep(60)");
	await_running(control, "in transaction");
	cancel(conn);
	expect_failure(next_result(conn), "57014");
	ck_assert_ptr_null(next_result(conn));
	expect_error(conn, "select 1", "25P02");
	execute(conn, "rollback");
	expect_value(conn, "select 1", "1");
	PQfinish(conn);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(cancel_goes_to_a_server_behind_tls) {
	struct forebay *forebay = start(_i, "max_size = 2\ntls_mode = require");
	PGconn *control = connect_control(), *conn = connect_app(forebay);

	send_query(conn, "select 'behind tls', pg_sleep(60)");
	await_running(control, "behind tls");
	cancel(conn);
	expect_failure(next_result(conn), "57014");
	ck_assert_ptr_null(next_result(conn));
	PQfinish(conn);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

/* Logs in by hand and keeps the cancel key. */
static struct raw login_for_key(const struct forebay *forebay, int version, uint8_t *key, size_t *len) {
	struct raw raw = raw_connect(forebay);
	struct bytes b = {0};
	struct message m;

	put_startup(&b, version, "user", forebay->direct ? "trusted" : "app", "database", "app", NULL);
	raw_send_bytes(&raw, &b);
	m = raw_until(&raw, 'K');
	ck_assert_uint_le(m.len, 260);
	memcpy(key, m.body, m.len);
	*len = m.len;
	raw_until(&raw, 'Z');
	return raw;
}

static void send_cancel(const struct forebay *forebay, const uint8_t *key, size_t len) {
	struct raw raw = raw_connect(forebay);

	raw_put(&raw, 0, "ib", CANCEL_REQUEST, len, key);
	raw_expect_closed(&raw);
	raw_close(&raw);
}

START_TEST(wrong_keys_are_ignored_without_a_word) {
	struct forebay *forebay = start(_i, "max_size = 2");
	PGconn *control = connect_control(), *other = connect_app(forebay);
	uint8_t key[300], wrong[300];
	size_t len;
	struct raw raw = login_for_key(forebay, 3 << 16, key, &len);

	ck_assert_uint_eq(len, 8);
	ck_assert_msg((key[0] & 0x80) == 0, "a negative process id confuses some programs");
	raw_put(&raw, 'Q', "s", "select 'wrong key', pg_sleep(1)");
	await_running(control, "wrong key");
	for (int i = 0; i < 40; i++) {
		memcpy(wrong, key, sizeof(wrong));
		wrong[i % 8] ^= (uint8_t)(1 << i % 7);
		send_cancel(forebay, wrong, 8);
	}
	if (!forebay->direct) {
		send_cancel(forebay, key, 7);
		send_cancel(forebay, key, 4);
		send_cancel(forebay, key, 0);
		memset(wrong, 'x', sizeof(wrong));
		memcpy(wrong, key, 8);
		send_cancel(forebay, wrong, 9);
		send_cancel(forebay, wrong, 260);
	}
	raw_answers(&raw, "T D C Z:I");
	raw_close(&raw);
	expect_value(other, "select 'well'", "well");
	PQfinish(other);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(long_keys_of_protocol_3_2_work) {
	struct forebay *forebay = start(_i, "max_size = 2");
	PGconn *control = connect_control();
	uint8_t key[300];
	size_t len;
	struct raw raw;

	if (forebay->direct)
		return;
	raw = login_for_key(forebay, 3 << 16 | 2, key, &len);
	ck_assert_uint_gt(len, 8);
	/* DO has no rows to describe: the answer is the same however early the cancel comes. */
	raw_put(&raw, 'Q', "s", "do $$begin perform pg_sleep(60); end$$ /* long key */");
	await_running(control, "long key");
	key[len - 1] ^= 1;
	send_cancel(forebay, key, len);
	key[len - 1] ^= 1;
	ck_assert_int_gt(await_running(control, "long key"), 0);
	send_cancel(forebay, key, len);
	raw_answers(&raw, "E:57014 Z:I");
	raw_close(&raw);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(cancel_while_waiting_for_a_server) {
	struct forebay *forebay = start(_i, "max_size = 1");
	PGconn *control = connect_control(), *holder, *waiter;
	PGresult *res;

	if (forebay->direct)
		return;
	holder = connect_app(forebay);
	waiter = connect_app(forebay);
	begin_holding(holder);
	send_query(waiter, "select 'has waited'");
	cancel(waiter);
	expect_value(holder, "select 'not hit'", "not hit");
	execute(holder, "commit");
	/* Cancelled in the queue or, if the cancel came before the query, answered; but answered once. */
	res = next_result(waiter);
	if (PQresultStatus(res) == PGRES_TUPLES_OK)
		expect_text(res, "has waited");
	else
		expect_failure(res, "57014");
	ck_assert_ptr_null(next_result(waiter));
	expect_value(waiter, "select 'goes on'", "goes on");
	expect_value(holder, "select 'goes on too'", "goes on too");
	PQfinish(holder);
	PQfinish(waiter);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(late_cancel_never_hits_the_next_user_of_the_server) {
	struct forebay *forebay = start(_i, "max_size = 1");
	PGconn *canceller, *victim;

	if (forebay->direct)
		return;
	canceller = connect_app(forebay);
	victim = connect_app(forebay);
	for (int i = 0; i < 150; i++) {
		PGresult *res;

		/* The query is over about when the cancel gets there; the victim is next on the only server. */
		send_query(canceller, i % 3 ? "select 1" : "select pg_sleep(0.001)");
		send_query(victim, "select 'unharmed' from pg_sleep(0.003)");
		cancel(canceller);
		res = next_result(canceller);
		if (PQresultStatus(res) == PGRES_TUPLES_OK)
			PQclear(res);
		else
			expect_failure(res, "57014");
		ck_assert_ptr_null(next_result(canceller));
		expect_text(next_result(victim), "unharmed");
		ck_assert_ptr_null(next_result(victim));
	}
	PQfinish(canceller);
	PQfinish(victim);
	forebay_stop(forebay);
}
END_TEST

/* One client of the storm. */
struct stormer {
	PGconn *conn;
	bool cancels; /* and is therefore allowed to be cancelled */
	bool cancelled;
	int done;
};

static void storm_next(struct stormer *s, int i) {
	char sql[100];

	snprintf(sql, sizeof(sql), "select 'client %d, %d' from pg_sleep(0.00%d)", i, s->done, s->done % 5);
	send_query(s->conn, sql);
	s->cancelled = false;
}

static bool storm_take(struct stormer *s, int i) {
	PGresult *res;

	PQconsumeInput(s->conn);
	while (!PQisBusy(s->conn)) {
		res = PQgetResult(s->conn);
		if (!res)
			return true;
		if (PQresultStatus(res) == PGRES_TUPLES_OK) {
			char expected[64];

			snprintf(expected, sizeof(expected), "client %d, %d", i, s->done);
			expect_text(res, expected);
		} else {
			ck_assert_msg(s->cancels, "client %d, which never cancels, got: %s", i,
				      PQresultErrorMessage(res));
			expect_failure(res, "57014");
		}
		if (PQstatus(s->conn) == CONNECTION_BAD)
			ck_abort_msg("the connection broke: %s", PQerrorMessage(s->conn));
	}
	return false;
}

START_TEST(storm_of_cancels_hits_nobody_else) {
	enum { STORMERS = 24, QUERIES = 60 };
	struct forebay *forebay = start(_i, "max_size = 4");
	struct stormer s[STORMERS];
	struct pollfd polls[STORMERS];
	unsigned seed = 4711;
	int left = STORMERS;
	long long deadline = harness_now_ms() + 2 * HARNESS_DEADLINE_MS;

	for (int i = 0; i < STORMERS; i++) {
		s[i] = (struct stormer){.conn = connect_app(forebay), .cancels = i % 2};
		storm_next(&s[i], i);
	}
	while (left > 0) {
		ck_assert_msg(harness_now_ms() < deadline, "%d clients wait for answers", left);
		for (int i = 0; i < STORMERS; i++)
			polls[i] = (struct pollfd){.fd = s[i].done < QUERIES ? PQsocket(s[i].conn) : -1, .events = POLLIN};
		poll(polls, STORMERS, 2);
		for (int i = 0; i < STORMERS; i++) {
			if (s[i].done == QUERIES)
				continue;
			if (polls[i].revents && storm_take(&s[i], i)) {
				if (++s[i].done == QUERIES) {
					left--;
					continue;
				}
				storm_next(&s[i], i);
			}
			if (s[i].cancels && !s[i].cancelled && rand_r(&seed) % 4 == 0) {
				s[i].cancelled = true;
				cancel(s[i].conn);
			}
		}
	}
	for (int i = 0; i < STORMERS; i++)
		PQfinish(s[i].conn);
	forebay_stop(forebay);
}
END_TEST

START_TEST(cancel_of_a_copy_and_of_a_pipeline) {
	struct forebay *forebay = start(_i, "max_size = 2");
	PGconn *control = connect_control(), *conn = connect_app(forebay);

	send_query(conn, "copy (select 'copy out' from generate_series(1, 3), pg_sleep(60)) to stdout");
	await_running(control, "copy out");
	cancel(conn);
	expect_result(next_result(conn), PGRES_COPY_OUT);
	{
		char *line;

		ck_assert_int_eq(PQgetCopyData(conn, &line, 0), -1);
	}
	expect_failure(next_result(conn), "57014");
	ck_assert_ptr_null(next_result(conn));

	ck_assert_int_eq(PQenterPipelineMode(conn), 1);
	ck_assert_int_eq(PQsendQueryParams(conn, "select 'pipelined', pg_sleep(60)", 0, NULL, NULL, NULL, NULL, 0), 1);
	ck_assert_int_eq(PQsendQueryParams(conn, "select 'skipped'", 0, NULL, NULL, NULL, NULL, 0), 1);
	ck_assert_int_eq(PQpipelineSync(conn), 1);
	ck_assert_int_eq(PQsendQueryParams(conn, "select 'next group'", 0, NULL, NULL, NULL, NULL, 0), 1);
	ck_assert_int_eq(PQpipelineSync(conn), 1);
	await_running(control, "pipelined");
	cancel(conn);
	expect_failure(next_result(conn), "57014");
	ck_assert_ptr_null(next_result(conn));
	expect_result(next_result(conn), PGRES_PIPELINE_ABORTED);
	ck_assert_ptr_null(next_result(conn));
	expect_result(next_result(conn), PGRES_PIPELINE_SYNC);
	expect_text(next_result(conn), "next group");
	ck_assert_ptr_null(next_result(conn));
	expect_result(next_result(conn), PGRES_PIPELINE_SYNC);
	ck_assert_int_eq(PQexitPipelineMode(conn), 1);
	expect_value(conn, "select 1", "1");
	PQfinish(conn);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("cancel");
	TCase *tcase = tcase_create("cancel");

	harness_begin(NULL);
	tcase_set_timeout(tcase, 120);
	suite_add_tcase(suite, tcase);
	LOOP(tcase, cancel_ends_the_right_query);
	LOOP(tcase, cancel_within_a_transaction_aborts_it);
	LOOP(tcase, cancel_goes_to_a_server_behind_tls);
	LOOP(tcase, wrong_keys_are_ignored_without_a_word);
	LOOP(tcase, long_keys_of_protocol_3_2_work);
	LOOP(tcase, cancel_while_waiting_for_a_server);
	LOOP(tcase, late_cancel_never_hits_the_next_user_of_the_server);
	LOOP(tcase, storm_of_cancels_hits_nobody_else);
	LOOP(tcase, cancel_of_a_copy_and_of_a_pipeline);
	return harness_run(suite);
}
