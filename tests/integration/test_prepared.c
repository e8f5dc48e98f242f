/* Prepared statements in transaction mode: as on a connection of one's own, whatever server the client gets. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "query.h"
#include "wire.h"

static struct forebay *start(int i, const char *pool) {
	return forebay_start(
		&(struct forebay_setup){.workers = WORKERS(i), .pool = pool, .listener = "auth = trust"});
}

/* By hand, on PostgreSQL itself too (where the listener's trust is the user's). */
static struct raw login(const struct forebay *forebay) {
	struct raw raw = raw_connect(forebay);
	struct bytes b = {0};

	put_startup(&b, 3 << 16, "user", forebay->direct ? "trusted" : "app", "database", "app", NULL);
	raw_send_bytes(&raw, &b);
	raw_until(&raw, 'Z');
	return raw;
}

/* One batch: sends what is in `b`, with a Sync behind, and compares. */
static void batch(struct raw *raw, struct bytes *b, const char *expected) {
	put_sync(b);
	ck_assert(raw_send_bytes(raw, b));
	raw_answers(raw, expected);
}

static void simple(struct raw *raw, const char *sql, const char *expected) {
	raw_put(raw, 'Q', "s", sql);
	raw_answers(raw, expected);
}

static void run_prepared(PGconn *conn, const char *name, const char *value, const char *expected) {
	expect_text(PQexecPrepared(conn, name, 1, &value, NULL, NULL, 0), expected);
}

START_TEST(named_statements_follow_their_client_to_any_server) {
	enum { CLIENTS = 6 };
	struct forebay *forebay = start(_i, "max_size = 2");
	PGconn *conn[CLIENTS], *holder = connect_app(forebay);

	for (int i = 0; i < CLIENTS; i++) {
		char sql[64];

		conn[i] = connect_app(forebay);
		snprintf(sql, sizeof(sql), "select 'client %d: ' || $1", i);
		expect_result(PQprepare(conn[i], "same_name", sql, 0, NULL), PGRES_COMMAND_OK);
		expect_result(PQprepare(conn[i], "common", "select 'common: ' || $1", 0, NULL), PGRES_COMMAND_OK);
	}
	for (int round = 0; round < 12; round++) {
		/* One server is taken, now this, now that: the others use what is left. */
		if (round % 2 == 0)
			begin_holding(holder);
		for (int i = 0; i < CLIENTS; i++) {
			char expected[64], value[32];

			snprintf(value, sizeof(value), "round %d", round);
			snprintf(expected, sizeof(expected), "client %d: round %d", i, round);
			run_prepared(conn[i], "same_name", value, expected);
			snprintf(expected, sizeof(expected), "common: round %d", round);
			run_prepared(conn[i], "common", value, expected);
		}
		if (round % 2 == 1)
			execute(holder, "commit");
	}
	for (int i = 0; i < CLIENTS; i++)
		PQfinish(conn[i]);
	PQfinish(holder);
	forebay_stop(forebay);
}
END_TEST

START_TEST(taken_and_unknown_names_are_errors_not_disconnects) {
	struct forebay *forebay = start(_i, "max_size = 1");
	struct raw raw = login(forebay), other = login(forebay);
	struct bytes b = {0};

	put_parse(&b, "one", "select 'one' || $1");
	batch(&raw, &b, "1 Z:I");
	for (int i = 0; i < 3; i++) {
		put_parse(&b, "one", "select 'another'");
		put_parse(&b, "two", "select 'skipped'");
		batch(&raw, &b, "E:42P05 Z:I");
		put_bind(&b, "two", "x");
		put_execute(&b);
		batch(&raw, &b, "E:26000 Z:I");
		put_bind(&b, "nowhere", "x");
		put_execute(&b);
		put_bind(&b, "one", "x");
		put_execute(&b);
		batch(&raw, &b, "E:26000 Z:I");
		put_message(&b, 'D', "cs", 'S', "nowhere");
		batch(&raw, &b, "E:26000 Z:I");
		put_bind(&b, "one", "ness");
		put_execute(&b);
		batch(&raw, &b, "2 T D:oneness C Z:I");
		/* Another client's names are not mine. */
		put_bind(&b, "one", "x");
		put_execute(&b);
		batch(&other, &b, "E:26000 Z:I");
	}
	/* In a transaction, such an error aborts it. */
	simple(&raw, "begin", "C:BEGIN Z:T");
	put_bind(&b, "nowhere", "x");
	batch(&raw, &b, "E:26000 Z:E");
	simple(&raw, "select 1", "E:25P02 Z:E");
	simple(&raw, "rollback", "C:ROLLBACK Z:I");
	simple(&raw, "begin", "C:BEGIN Z:T");
	put_parse(&b, "one", "select 'another'");
	batch(&raw, &b, "E:42P05 Z:E");
	simple(&raw, "rollback", "C:ROLLBACK Z:I");
	/* Answers before the error stand, and so do the statements they are about. */
	put_parse(&b, "before", "select 'before' || $1");
	put_bind(&b, "one", "ness");
	put_execute(&b);
	put_bind(&b, "nowhere", "x");
	put_execute(&b);
	put_parse(&b, "after", "select 'after'");
	batch(&raw, &b, "1 2 T D:oneness C E:26000 Z:I");
	put_bind(&b, "before", "hand");
	put_execute(&b);
	batch(&raw, &b, "2 T D:beforehand C Z:I");
	put_bind(&b, "after", NULL);
	batch(&raw, &b, "E:26000 Z:I");
	raw_close(&raw);
	raw_close(&other);
	forebay_stop(forebay);
}
END_TEST

START_TEST(parse_that_fails_or_is_skipped_leaves_the_name_free) {
	struct forebay *forebay = start(_i, "max_size = 1");
	struct raw raw = login(forebay);
	struct bytes b = {0};

	for (int i = 0; i < 3; i++) {
		put_parse(&b, "s", "select from where");
		batch(&raw, &b, "E:42601 Z:I");
		put_bind(&b, "s", "x");
		batch(&raw, &b, "E:26000 Z:I");
		put_parse(&b, "s", "select * from no_such_table");
		put_bind(&b, "s", NULL);
		batch(&raw, &b, "E:42P01 Z:I");
		/* Skipped after an error that the server reports. */
		put_parse(&b, "", "select 1/0");
		put_bind(&b, "", NULL);
		put_execute(&b);
		put_parse(&b, "s", "select 'skipped'");
		batch(&raw, &b, "1 E:22012 Z:I");
		put_parse(&b, "s", "select 'good' || $1");
		put_bind(&b, "s", " at last");
		put_execute(&b);
		batch(&raw, &b, "1 2 T D C Z:I");
		put_message(&b, 'C', "cs", 'S', "s");
		batch(&raw, &b, "3 Z:I");
	}
	/* Three groups in one go; the middle one fails. */
	put_parse(&b, "a", "select 'a' || $1");
	put_bind(&b, "a", "1");
	put_execute(&b);
	put_sync(&b);
	put_parse(&b, "b", "select 1/0 + $1::int");
	put_bind(&b, "b", "1");
	put_execute(&b);
	put_parse(&b, "c", "select 'c' || $1");
	put_sync(&b);
	put_parse(&b, "c", "select 'C' || $1");
	put_bind(&b, "c", "3");
	put_execute(&b);
	put_bind(&b, "a", "4");
	put_execute(&b);
	batch(&raw, &b, "1 2 T D:a1 C Z:I 1 E:22012 Z:I 1 2 T D:C3 C 2 T D:a4 C Z:I");
	/* In a transaction that has failed, Parse fails. */
	simple(&raw, "begin; select 1/0", "C:BEGIN E:22012 Z:E");
	put_parse(&b, "t", "select 't' || $1");
	batch(&raw, &b, "E:25P02 Z:E");
	simple(&raw, "rollback", "C Z:I");
	put_parse(&b, "t", "select 't' || $1");
	put_bind(&b, "t", "!");
	put_execute(&b);
	batch(&raw, &b, "1 2 T D:t! C Z:I");
	raw_close(&raw);
	forebay_stop(forebay);
}
END_TEST

START_TEST(statements_end_by_close_deallocate_and_discard) {
	struct forebay *forebay = start(_i, "max_size = 2");
	struct raw raw = login(forebay), other = login(forebay);
	struct bytes b = {0};

	put_parse(&b, "mine", "select 'other''s ' || $1");
	batch(&other, &b, "1 Z:I");
	for (int i = 0; i < 3; i++) {
		put_parse(&b, "mine", "select 'mine' || $1");
		put_parse(&b, "Two", "select 'two' || $1");
		put_parse(&b, "three", "select 'three' || $1");
		batch(&raw, &b, "1 1 1 Z:I");
		put_message(&b, 'C', "cs", 'S', "mine");
		put_message(&b, 'C', "cs", 'S', "never was");
		put_bind(&b, "mine", "x");
		put_execute(&b);
		batch(&raw, &b, "3 3 E:26000 Z:I");
		simple(&raw, "deallocate \"Two\"", "C:DEALLOCATE Z:I");
		put_bind(&b, "Two", "x");
		batch(&raw, &b, "E:26000 Z:I");
		simple(&raw, "deallocate nowhere", "E:26000 Z:I");
		put_bind(&b, "three", "x");
		put_execute(&b);
		batch(&raw, &b, "2 T D:threex C Z:I");
		/* By the extended protocol, as drivers do it. */
		put_parse(&b, "", "DEALLOCATE PREPARE three");
		put_bind(&b, "", NULL);
		put_execute(&b);
		batch(&raw, &b, "1 2 n C:DEALLOCATE Z:I");
		put_bind(&b, "three", "x");
		batch(&raw, &b, "E:26000 Z:I");
		put_parse(&b, "mine", "select 'new' || $1");
		put_parse(&b, "more", "select 'more' || $1");
		put_bind(&b, "mine", "er");
		put_execute(&b);
		batch(&raw, &b, "1 1 2 T D:newer C Z:I");
		simple(&raw, i % 2 ? "discard all" : "DEALLOCATE ALL", i % 2 ? "C Z:I" : "C Z:I");
		put_bind(&b, "mine", "x");
		batch(&raw, &b, "E:26000 Z:I");
		put_bind(&b, "more", "x");
		batch(&raw, &b, "E:26000 Z:I");
		/* Another client keeps its own. */
		put_bind(&b, "mine", "own");
		put_execute(&b);
		batch(&other, &b, "2 T D C Z:I");
	}
	raw_close(&raw);
	raw_close(&other);
	forebay_stop(forebay);
}
END_TEST

START_TEST(more_statements_than_a_server_may_hold) {
	struct forebay *forebay = start(_i, "max_size = 1\nmax_prepared_statements = 3");
	PGconn *conn = connect_app(forebay);

	for (int i = 0; i < 10; i++) {
		char name[16], sql[64];

		snprintf(name, sizeof(name), "s%d", i);
		snprintf(sql, sizeof(sql), "select 'statement %d ' || $1", i);
		expect_result(PQprepare(conn, name, sql, 0, NULL), PGRES_COMMAND_OK);
	}
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 10; i++) {
			char name[16], expected[64];

			snprintf(name, sizeof(name), "s%d", round == 1 ? 9 - i : i);
			snprintf(expected, sizeof(expected), "statement %d x", round == 1 ? 9 - i : i);
			run_prepared(conn, name, "x", expected);
			if (!forebay->direct)
				ck_assert_int_le(query_long(conn, "select count(*) from pg_prepared_statements"), 3);
		}
	}
	/* All of them in one batch. */
	ck_assert_int_eq(PQenterPipelineMode(conn), 1);
	for (int i = 0; i < 10; i++) {
		char name[16];
		const char *value = "y";

		snprintf(name, sizeof(name), "s%d", i);
		ck_assert_int_eq(PQsendQueryPrepared(conn, name, 1, &value, NULL, NULL, 0), 1);
	}
	PQpipelineSync(conn);
	for (int i = 0; i < 10; i++) {
		char expected[64];

		snprintf(expected, sizeof(expected), "statement %d y", i);
		expect_text(next_result(conn), expected);
		ck_assert_ptr_null(next_result(conn));
	}
	expect_result(next_result(conn), PGRES_PIPELINE_SYNC);
	PQexitPipelineMode(conn);
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

START_TEST(statements_are_described) {
	struct forebay *forebay = start(_i, "max_size = 2");
	PGconn *a = connect_app(forebay), *b = connect_app(forebay);
	Oid types[2] = {23, 0};

	expect_result(PQprepare(a, "d", "select $1 + 1 as next, $2::text as word", 2, types), PGRES_COMMAND_OK);
	for (int i = 0; i < 4; i++) {
		PGresult *res;

		if (i % 2)
			begin_holding(b);
		else if (i)
			execute(b, "commit");
		res = PQdescribePrepared(a, "d");
		ck_assert_msg(PQresultStatus(res) == PGRES_COMMAND_OK, "%s", PQresultErrorMessage(res));
		ck_assert_int_eq(PQnparams(res), 2);
		ck_assert_uint_eq(PQparamtype(res, 0), 23);
		ck_assert_uint_eq(PQparamtype(res, 1), 25);
		ck_assert_str_eq(PQfname(res, 0), "next");
		ck_assert_str_eq(PQfname(res, 1), "word");
		PQclear(res);
	}
	PQfinish(a);
	PQfinish(b);
	forebay_stop(forebay);
}
END_TEST

START_TEST(unnamed_statement_is_bound_in_a_later_batch) {
	struct forebay *forebay = start(_i, "max_size = 1");
	struct raw a = login(forebay), c = login(forebay);
	struct bytes b = {0};

	for (int i = 0; i < 4; i++) {
		put_parse(&b, "", "select 'a''s ' || $1");
		batch(&a, &b, "1 Z:I");
		put_parse(&b, "", "select 'c''s ' || $1");
		batch(&c, &b, "1 Z:I");
		put_bind(&b, "", "x");
		put_execute(&b);
		raw_send(&a, b.at, b.len);
		b.len = 0;
		batch(&a, &b, "2 T D C Z:I");
		put_message(&b, 'D', "cs", 'S', "");
		batch(&c, &b, "t T Z:I");
		put_bind(&b, "", "y");
		put_execute(&b);
		batch(&c, &b, "2 T D C Z:I");
	}
	/* Whose is whose. */
	put_bind(&b, "", "z");
	put_message(&b, 'E', "si", "", 0);
	put_sync(&b);
	raw_send_bytes(&a, &b);
	raw_expect(&a, '2');
	ck_assert_str_eq("a's z", ({
				 struct message m = raw_expect(&a, 'D');
				 static char text[32];
				 snprintf(text, sizeof(text), "%.*s", (int)m.len - 6, (const char *)m.body + 6);
				 text;
			 }));
	raw_answers(&a, "C Z:I");
	/* A simple query ends it. */
	simple(&a, "select 1", "T D:1 C Z:I");
	put_bind(&b, "", "x");
	batch(&a, &b, "E:26000 Z:I");
	put_bind(&b, "", "still");
	put_execute(&b);
	batch(&c, &b, "2 T D C Z:I");
	raw_close(&a);
	raw_close(&c);
	forebay_stop(forebay);
}
END_TEST

START_TEST(statement_is_prepared_anew_when_its_table_changes) {
	struct forebay *forebay = start(_i, "max_size = 2");
	PGconn *control = connect_control(), *a = connect_app(forebay), *b = connect_app(forebay);
	PGresult *res;

	execute(control, "drop table if exists changing; create table changing(a int); insert into changing values (1); "
			 "alter table changing owner to app");
	expect_result(PQprepare(a, "s", "select * from changing", 0, NULL), PGRES_COMMAND_OK);
	expect_result(PQprepare(b, "s", "select * from changing", 0, NULL), PGRES_COMMAND_OK);
	expect_text(PQexecPrepared(a, "s", 0, NULL, NULL, NULL, 0), "1");
	expect_text(PQexecPrepared(b, "s", 0, NULL, NULL, NULL, 0), "1");
	if (forebay->direct)
		return;
	for (int i = 0; i < 3; i++) {
		execute(control, "alter table changing add column b%d int default 7", i);
		for (int round = 0; round < 3; round++) {
			res = PQexecPrepared(round % 2 ? b : a, "s", 0, NULL, NULL, NULL, 0);
			ck_assert_msg(PQresultStatus(res) == PGRES_TUPLES_OK, "%s", PQresultErrorMessage(res));
			ck_assert_int_eq(PQnfields(res), i + 2);
			PQclear(res);
		}
	}
	/* Within a transaction it cannot be made good: the error is told, and later it works. */
	execute(a, "begin");
	expect_text(PQexecPrepared(a, "s", 0, NULL, NULL, NULL, 0), "1");
	execute(a, "alter table changing add column c int");
	expect_failure(PQexecPrepared(a, "s", 0, NULL, NULL, NULL, 0), "0A000");
	execute(a, "rollback");
	expect_text(PQexecPrepared(a, "s", 0, NULL, NULL, NULL, 0), "1");
	PQfinish(a);
	PQfinish(b);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

/* Sends `n` statements of which some fail, a Sync behind every third; checks all answers. */
static void run_pipeline(PGconn *conn, int n, int salt) {
	bool failed = false;
	PGresult *res;

	ck_assert_int_eq(PQenterPipelineMode(conn), 1);
	for (int i = 0; i < n; i++) {
		char text[32];
		const char *value = text;

		snprintf(text, sizeof(text), "%d", salt * 1000 + i);
		if (i % 7 == 5)
			ck_assert_int_eq(PQsendQueryParams(conn, "select 1/0", 0, NULL, NULL, NULL, NULL, 0), 1);
		else if (i % 2)
			ck_assert_int_eq(PQsendQueryPrepared(conn, "echo", 1, &value, NULL, NULL, 0), 1);
		else
			ck_assert_int_eq(PQsendQueryParams(conn, "select $1::text", 1, NULL, &value, NULL, NULL, 0), 1);
		if (i % 3 == 2)
			ck_assert_int_eq(PQpipelineSync(conn), 1);
	}
	ck_assert_int_eq(PQpipelineSync(conn), 1);
	for (int i = 0; i < n; i++) {
		char text[32];

		snprintf(text, sizeof(text), "%d", salt * 1000 + i);
		res = next_result(conn);
		if (failed) {
			expect_result(res, PGRES_PIPELINE_ABORTED);
		} else if (i % 7 == 5) {
			expect_failure(res, "22012");
			failed = true;
		} else {
			expect_text(res, text);
		}
		ck_assert_ptr_null(next_result(conn));
		if (i % 3 == 2) {
			expect_result(next_result(conn), PGRES_PIPELINE_SYNC);
			failed = false;
		}
	}
	expect_result(next_result(conn), PGRES_PIPELINE_SYNC);
	ck_assert_int_eq(PQexitPipelineMode(conn), 1);
}

START_TEST(pipelines_over_several_syncs_with_errors_within) {
	enum { CLIENTS = 4 };
	struct forebay *forebay = start(_i, "max_size = 2");
	PGconn *conn[CLIENTS];

	for (int i = 0; i < CLIENTS; i++) {
		conn[i] = connect_app(forebay);
		expect_result(PQprepare(conn[i], "echo", "select $1::text", 0, NULL), PGRES_COMMAND_OK);
	}
	for (int round = 0; round < 10; round++) {
		for (int i = 0; i < CLIENTS; i++)
			run_pipeline(conn[i], 5 + round * 3, i);
	}
	for (int i = 0; i < CLIENTS; i++)
		PQfinish(conn[i]);
	forebay_stop(forebay);
}
END_TEST

START_TEST(names_and_texts_of_any_length_work) {
	struct forebay *forebay = start(_i, "max_size = 2");
	PGconn *a = connect_app(forebay), *holder = connect_app(forebay);
	size_t len = 512u << 10;
	char *name = calloc(1, 20001), *sql = malloc(len + 64);

	ck_assert(name && sql);
	memset(name, 'n', 20000);
	memcpy(sql, "select $1::text || length('", 27);
	memset(sql + 27, 'z', len);
	strcpy(sql + 27 + len, "')");
	expect_result(PQprepare(a, name, "select 'long name ' || $1", 0, NULL), PGRES_COMMAND_OK);
	expect_result(PQprepare(a, "long text", sql, 0, NULL), PGRES_COMMAND_OK);
	expect_result(PQprepare(a, "empty", "", 0, NULL), PGRES_COMMAND_OK);
	for (int i = 0; i < 4; i++) {
		if (i % 2)
			execute(holder, "commit");
		else
			begin_holding(holder);
		run_prepared(a, name, "x", "long name x");
		run_prepared(a, "long text", "x", "x524288");
		expect_result(PQexecPrepared(a, "empty", 0, NULL, NULL, NULL, 0), PGRES_EMPTY_QUERY);
	}
	free(name);
	free(sql);
	PQfinish(a);
	PQfinish(holder);
	forebay_stop(forebay);
}
END_TEST

START_TEST(same_text_means_what_each_client_s_settings_say) {
	struct forebay *forebay = start(_i, "max_size = 1");
	PGconn *dmy = connect_with(forebay, "options='-c datestyle=iso,dmy'");
	PGconn *mdy = connect_with(forebay, "options='-c datestyle=iso,mdy'");
	PGconn *backslash = connect_with(forebay, "options='-c standard_conforming_strings=off -c escape_string_warning=off'");
	PGconn *latin = connect_with(forebay, "client_encoding=LATIN1");
	static const char date[] = "select to_char('01/02/2003'::date, 'YYYY-MM-DD') || $1";
	static const char slash[] = "select length('a\\\\b') || $1";
	static const char accent[] = "select length('\xc3\xa9') || $1";

	/* A text that PostgreSQL reads by the settings in force at Parse. */
	for (int i = 0; i < 2; i++) {
		PGconn *of[] = {dmy, mdy, backslash, latin};

		for (int j = 0; j < 4; j++) {
			char name[3][16];

			for (int k = 0; k < 3; k++)
				snprintf(name[k], sizeof(name[k]), "%c%d", "dsa"[k], i);
			expect_result(PQprepare(of[j], name[0], date, 0, NULL), PGRES_COMMAND_OK);
			expect_result(PQprepare(of[j], name[1], slash, 0, NULL), PGRES_COMMAND_OK);
			expect_result(PQprepare(of[j], name[2], accent, 0, NULL), PGRES_COMMAND_OK);
			run_prepared(of[j], name[0], "", of[j] == dmy ? "2003-02-01" : "2003-01-02");
			run_prepared(of[j], name[1], "", of[j] == backslash ? "3" : "4");
			run_prepared(of[j], name[2], "", of[j] == latin ? "2" : "1");
		}
	}
	PQfinish(dmy);
	PQfinish(mdy);
	PQfinish(backslash);
	PQfinish(latin);
	forebay_stop(forebay);
}
END_TEST

START_TEST(statements_of_gone_clients_do_not_pile_up) {
	struct forebay *forebay = start(_i, "max_size = 1\nmax_prepared_statements = 20");
	PGconn *last = connect_app(forebay);

	for (int i = 0; i < 60; i++) {
		PGconn *conn = connect_app(forebay);
		char sql[64], expected[32];

		snprintf(sql, sizeof(sql), "select 'gone %d' || $1", i);
		snprintf(expected, sizeof(expected), "gone %d", i);
		expect_result(PQprepare(conn, "s", sql, 0, NULL), PGRES_COMMAND_OK);
		run_prepared(conn, "s", "", expected);
		PQfinish(conn);
	}
	if (!forebay->direct)
		ck_assert_int_le(query_long(last, "select count(*) from pg_prepared_statements"), 20);
	PQfinish(last);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("prepared");
	TCase *tcase = tcase_create("prepared");

	harness_begin(NULL);
	tcase_set_timeout(tcase, 120);
	suite_add_tcase(suite, tcase);
	LOOP(tcase, named_statements_follow_their_client_to_any_server);
	LOOP(tcase, taken_and_unknown_names_are_errors_not_disconnects);
	LOOP(tcase, parse_that_fails_or_is_skipped_leaves_the_name_free);
	LOOP(tcase, statements_end_by_close_deallocate_and_discard);
	LOOP(tcase, more_statements_than_a_server_may_hold);
	LOOP(tcase, statements_are_described);
	LOOP(tcase, unnamed_statement_is_bound_in_a_later_batch);
	LOOP(tcase, statement_is_prepared_anew_when_its_table_changes);
	LOOP(tcase, pipelines_over_several_syncs_with_errors_within);
	LOOP(tcase, names_and_texts_of_any_length_work);
	LOOP(tcase, same_text_means_what_each_client_s_settings_say);
	LOOP(tcase, statements_of_gone_clients_do_not_pile_up);
	return harness_run(suite);
}
