/* COPY in both directions: plain, failing, large, abandoned; and what comes after it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "query.h"
#include "wire.h"

static struct forebay *start(int i, const char *pool) {
	PGconn *control = connect_control();

	execute(control, "drop table if exists copied; create table copied(id int primary key, v text check (v <> 'forbidden')); "
			 "alter table copied owner to app");
	PQfinish(control);
	return forebay_start(
		&(struct forebay_setup){.workers = WORKERS(i), .pool = pool, .listener = "auth = trust"});
}

static void put_rows(PGconn *conn, int from, int to) {
	char line[64];

	for (int i = from; i < to; i++) {
		int n = snprintf(line, sizeof(line), "%d\trow %d\n", i, i);

		ck_assert_int_eq(PQputCopyData(conn, line, n), 1);
	}
}

/* The results of a COPY's end. */
static void end_copy(PGconn *conn, const char *error, const char *sqlstate) {
	ck_assert_int_eq(PQputCopyEnd(conn, error), 1);
	if (sqlstate)
		expect_failure(next_result(conn), sqlstate);
	else
		expect_result(next_result(conn), PGRES_COMMAND_OK);
	ck_assert_ptr_null(next_result(conn));
}

static void begin_copy(PGconn *conn, bool extended) {
	static const char sql[] = "copy copied from stdin";

	expect_result(extended ? PQexecParams(conn, sql, 0, NULL, NULL, NULL, NULL, 0) : PQexec(conn, sql),
		      PGRES_COPY_IN);
}

static long read_copy(PGconn *conn, const char *sql, bool extended) {
	long rows = 0;
	char *line;
	int n;

	expect_result(extended ? PQexecParams(conn, sql, 0, NULL, NULL, NULL, NULL, 0) : PQexec(conn, sql),
		      PGRES_COPY_OUT);
	while ((n = PQgetCopyData(conn, &line, 0)) > 0) {
		rows++;
		PQfreemem(line);
	}
	ck_assert_int_eq(n, -1);
	expect_result(next_result(conn), PGRES_COMMAND_OK);
	ck_assert_ptr_null(next_result(conn));
	return rows;
}

START_TEST(rows_go_in_and_come_out) {
	struct forebay *forebay = start(_i, "max_size = 2");
	PGconn *conn = connect_app(forebay);

	for (int round = 0; round < 4; round++) {
		bool extended = round % 2;

		begin_copy(conn, extended);
		put_rows(conn, 0, 1000);
		end_copy(conn, NULL, NULL);
		expect_value(conn, "select count(*) || ' ' || max(v) from copied", "1000 row 999");
		ck_assert_int_eq(read_copy(conn, "copy copied to stdout", extended), 1000);
		ck_assert_int_eq(read_copy(conn, "copy (select 1 where false) to stdout", extended), 0);
		execute(conn, "delete from copied");
	}
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

START_TEST(failing_copies_leave_the_connection_usable) {
	struct forebay *forebay = start(_i, "max_size = 1");
	PGconn *conn = connect_app(forebay), *other = connect_app(forebay);

	for (int round = 0; round < 8; round++) {
		bool extended = round % 2, within = round / 2 % 2;

		if (within)
			execute(conn, "begin");
		begin_copy(conn, extended); /* a bad row, with more behind it */
		put_rows(conn, 0, 10);
		ck_assert_int_eq(PQputCopyData(conn, "not a number\tx\n", 15), 1);
		put_rows(conn, 10, 5000);
		end_copy(conn, NULL, "22P02");
		if (within) {
			expect_error(conn, "select 1", "25P02");
			execute(conn, "rollback");
		}
		expect_value(conn, "select 'after bad row'", "after bad row");
		expect_value(other, "select 'other'", "other");

		begin_copy(conn, extended); /* a constraint */
		put_rows(conn, 0, 10);
		ck_assert_int_eq(PQputCopyData(conn, "10\tforbidden\n", 13), 1);
		put_rows(conn, 11, 100);
		end_copy(conn, NULL, "23514");
		begin_copy(conn, extended); /* found at the end only */
		put_rows(conn, 0, 10);
		put_rows(conn, 9, 10);
		end_copy(conn, NULL, "23505");
		begin_copy(conn, extended); /* the client gives up */
		put_rows(conn, 0, 10);
		end_copy(conn, "I changed my mind", "57014");
		expect_failure(PQexec(conn, "copy no_such_table from stdin"), "42P01");
		expect_failure(PQexec(conn, "copy copied to '/no/such/file'"), "42501");
		expect_value(conn, "select count(*) from copied", "0");
		expect_value(other, "select 'other'", "other");
	}
	PQfinish(conn);
	PQfinish(other);
	forebay_stop(forebay);
}
END_TEST

START_TEST(statement_that_runs_within_a_string_of_queries) {
	struct forebay *forebay = start(_i, "max_size = 1");
	PGconn *conn = connect_app(forebay);

	/* COPY between other statements of one simple query. */
	send_query(conn, "select 'before'; copy copied from stdin; select 'after'");
	expect_text(next_result(conn), "before");
	expect_result(next_result(conn), PGRES_COPY_IN);
	put_rows(conn, 0, 5);
	ck_assert_int_eq(PQputCopyEnd(conn, NULL), 1);
	expect_result(next_result(conn), PGRES_COMMAND_OK);
	expect_text(next_result(conn), "after");
	ck_assert_ptr_null(next_result(conn));
	/* Two COPYs in one. */
	send_query(conn, "copy copied to stdout; copy copied from stdin");
	expect_result(next_result(conn), PGRES_COPY_OUT);
	{
		char *line;
		int n = 0;

		while (PQgetCopyData(conn, &line, 0) > 0) {
			n++;
			PQfreemem(line);
		}
		ck_assert_int_eq(n, 5);
	}
	expect_result(next_result(conn), PGRES_COMMAND_OK);
	expect_result(next_result(conn), PGRES_COPY_IN);
	put_rows(conn, 5, 10);
	end_copy(conn, NULL, NULL);
	expect_value(conn, "select count(*) from copied", "10");
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

START_TEST(rows_of_eight_megabytes) {
	struct forebay *forebay = start(_i, "max_size = 2");
	PGconn *conn = connect_app(forebay);
	size_t len = 8u << 20;
	char *row = malloc(len + 16), *line;
	int n;

	ck_assert(row != NULL);
	memcpy(row, "1\t", 2);
	memset(row + 2, 'r', len);
	row[len + 2] = '\n';
	for (int i = 0; i < 2; i++) {
		begin_copy(conn, i);
		ck_assert_int_eq(PQputCopyData(conn, row, (int)len + 3), 1);
		end_copy(conn, NULL, NULL);
		expect_value(conn, "select length(v) from copied", "8388608");
		expect_result(PQexec(conn, "copy copied to stdout"), PGRES_COPY_OUT);
		n = PQgetCopyData(conn, &line, 0);
		ck_assert_int_eq(n, (int)len + 3);
		ck_assert(memcmp(line, row, len + 3) == 0);
		PQfreemem(line);
		ck_assert_int_eq(PQgetCopyData(conn, &line, 0), -1);
		expect_result(next_result(conn), PGRES_COMMAND_OK);
		ck_assert_ptr_null(next_result(conn));
		execute(conn, "truncate copied");
	}
	free(row);
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

START_TEST(a_million_small_rows) {
	struct forebay *forebay = start(_i, "max_size = 2");
	PGconn *conn = connect_app(forebay);

	execute(conn, "alter table copied drop constraint copied_pkey");
	begin_copy(conn, false);
	put_rows(conn, 0, 1000000);
	end_copy(conn, NULL, NULL);
	expect_value(conn, "select count(*) || ' ' || sum(id) from copied", "1000000 499999500000");
	ck_assert_int_eq(read_copy(conn, "copy copied to stdout", true), 1000000);
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

START_TEST(slow_reader_of_a_large_copy_costs_no_memory) {
	struct forebay *forebay = start(_i, "max_size = 2");
	PGconn *control = connect_control(), *other = connect_app(forebay);
	struct raw raw;
	struct bytes b = {0};
	size_t before;

	if (forebay->direct)
		return;
	raw = raw_connect(forebay);
	raw_login(&raw);
	before = forebay_rss_kib(forebay);
	put_query(&b, "copy (select repeat('x', 1000) from generate_series(1, 200000)) to stdout");
	raw_send_bytes(&raw, &b);
	raw_expect(&raw, 'H');
	/* Nothing more is read: the server comes to a halt, waiting to write. */
	await_value(control, "select count(*) from pg_stat_activity where wait_event = 'ClientWrite'", "1");
	ck_assert_uint_lt(forebay_rss_kib(forebay), before + 32 * 1024);
	expect_value(other, "select 'not held up'", "not held up");
	for (int rows = 0; rows < 200000; rows++)
		raw_expect(&raw, 'd');
	raw_answers(&raw, "c C Z:I");
	raw_close(&raw);
	PQfinish(other);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(client_gone_in_the_midst_of_a_copy) {
	struct forebay *forebay = start(_i, "max_size = 1");
	PGconn *control = connect_control(), *other;
	long pid;

	if (forebay->direct)
		return;
	other = connect_app(forebay);
	pid = query_long(other, "select pg_backend_pid()");
	for (int round = 0; round < 8; round++) {
		struct raw raw = raw_connect(forebay);
		struct bytes b = {0};

		raw_login(&raw);
		if (round % 2) {
			put_query(&b, "copy copied from stdin");
			raw_send_bytes(&raw, &b);
			raw_expect(&raw, 'G');
			put_message(&b, 'd', "b", (size_t)4, "1\tx\n");
			/* Half a message is on its way. */
			if (round % 4 == 1)
				bytes_add(&b, "d\0\0\1\0abc", 8);
			raw_send_bytes(&raw, &b);
		} else {
			put_query(&b, "copy (select repeat('x', 1000) from generate_series(1, 100000)) to stdout");
			raw_send_bytes(&raw, &b);
			raw_until(&raw, 'd');
		}
		if (round % 3)
			raw_close(&raw);
		else
			raw_reset(&raw);
		expect_value(other, "select count(*) from copied", "0");
	}
	/* The server was cleaned up and used again, not thrown away. */
	ck_assert_int_eq(query_long(other, "select pg_backend_pid()"), pid);
	PQfinish(other);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(copy_data_out_of_place_is_ignored) {
	struct forebay *forebay = start(_i, "max_size = 1");
	struct raw raw;
	struct bytes b = {0};

	if (forebay->direct)
		return;
	raw = raw_connect(forebay);
	raw_login(&raw);
	/* As PostgreSQL: what is left of a COPY that has failed may still come. */
	for (int i = 0; i < 3; i++) {
		put_message(&b, 'd', "b", (size_t)3, "abc");
		put_message(&b, 'c', "");
		put_message(&b, 'f', "s", "no");
		put_query(&b, "select 1");
		raw_send_bytes(&raw, &b);
		raw_answers(&raw, "T D:1 C Z:I");
		put_query(&b, "copy no_such_table from stdin");
		put_message(&b, 'd', "b", (size_t)3, "abc");
		put_message(&b, 'c', "");
		put_query(&b, "select 2");
		raw_send_bytes(&raw, &b);
		raw_answers(&raw, "E:42P01 Z:I T D:2 C Z:I");
		/* The Sync that comes with Execute is swallowed by the COPY; the one after it is answered. */
		put_parse(&b, "", "copy copied from stdin");
		put_bind(&b, "", NULL);
		put_message(&b, 'E', "si", "", 0);
		put_sync(&b);
		put_message(&b, 'd', "b", (size_t)4, "1\tx\n");
		put_message(&b, 'H', "");
		put_message(&b, 'c', "");
		put_sync(&b);
		put_query(&b, "delete from copied");
		raw_send_bytes(&raw, &b);
		raw_answers(&raw, "1 2 G C Z:I C Z:I");
	}
	raw_close(&raw);
	forebay_stop(forebay);
}
END_TEST

START_TEST(copy_both_of_replication_streams) {
	struct forebay *forebay = start(_i, "max_size = 2");
	PGconn *replica = connect_with(forebay, "replication=database"), *other = connect_app(forebay);
	char *line, *slot;
	int n;

	execute(replica, "CREATE_REPLICATION_SLOT spill TEMPORARY LOGICAL test_decoding");
	slot = query(replica, "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'spill'");
	send_query(replica, "START_REPLICATION SLOT spill LOGICAL 0/0");
	expect_result(next_result(replica), PGRES_COPY_BOTH);
	execute(other, "insert into copied values (1, 'seen by the replica')");
	for (bool seen = false; !seen;) {
		n = PQgetCopyData(replica, &line, 0);
		ck_assert_int_gt(n, 0);
		seen = memmem(line, (size_t)n, "seen by the replica", 19) != NULL;
		PQfreemem(line);
	}
	ck_assert_int_eq(PQputCopyEnd(replica, NULL), 1);
	PQflush(replica);
	while ((n = PQgetCopyData(replica, &line, 0)) > 0)
		PQfreemem(line);
	ck_assert_int_eq(n, -1);
	free(slot);
	PQfinish(replica);
	expect_value(other, "select count(*) from copied", "1");
	PQfinish(other);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("copy");
	TCase *tcase = tcase_create("copy");

	harness_begin(NULL);
	tcase_set_timeout(tcase, 120);
	suite_add_tcase(suite, tcase);
	LOOP(tcase, rows_go_in_and_come_out);
	LOOP(tcase, failing_copies_leave_the_connection_usable);
	LOOP(tcase, statement_that_runs_within_a_string_of_queries);
	LOOP(tcase, rows_of_eight_megabytes);
	LOOP(tcase, a_million_small_rows);
	LOOP(tcase, slow_reader_of_a_large_copy_costs_no_memory);
	LOOP(tcase, client_gone_in_the_midst_of_a_copy);
	LOOP(tcase, copy_data_out_of_place_is_ignored);
	LOOP(tcase, copy_both_of_replication_streams);
	return harness_run(suite);
}
