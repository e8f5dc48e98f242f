/* Binary prepared statements in transaction pooling: a client's statements follow it to whatever server it has. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mariadb.h"

static struct forebay *start(int workers, const char *pool) {
	struct forebay_setup setup = {.workers = workers, .pool = pool};
	return maria_forebay(&setup);
}

static MYSQL_STMT *prepare(MYSQL *my, const char *sql) {
	MYSQL_STMT *stmt = mysql_stmt_init(my);
	ck_assert_ptr_nonnull(stmt);
	ck_assert_msg(mysql_stmt_prepare(stmt, sql, strlen(sql)) == 0, "%s: %s", sql, mysql_stmt_error(stmt));
	return stmt;
}

/* Executes with what is bound; the first column of the first row as a number, -1: no row. */
static long value(MYSQL_STMT *stmt) {
	long long number = 0;
	MYSQL_BIND out = {.buffer_type = MYSQL_TYPE_LONGLONG, .buffer = &number};
	ck_assert_msg(mysql_stmt_execute(stmt) == 0, "%u %s", mysql_stmt_errno(stmt), mysql_stmt_error(stmt));
	if (mysql_stmt_field_count(stmt) == 0)
		return -1;
	ck_assert_int_eq(mysql_stmt_bind_result(stmt, &out), 0);
	int fetched = mysql_stmt_fetch(stmt);
	ck_assert_msg(fetched == 0 || fetched == MYSQL_NO_DATA, "%s", mysql_stmt_error(stmt));
	mysql_stmt_free_result(stmt);
	return fetched == 0 ? (long)number : -1;
}

static void bind_long(MYSQL_STMT *stmt, long long *number) {
	MYSQL_BIND in = {.buffer_type = MYSQL_TYPE_LONGLONG, .buffer = number};
	ck_assert_int_eq(mysql_stmt_bind_param(stmt, &in), 0);
}

/* The backend's number of the connection that answers. */
static long server_of(MYSQL *my) {
	return maria_long(my, "SELECT CONNECTION_ID()");
}

START_TEST(one_server_serves_the_statements_of_all) {
	struct forebay *forebay = start(WORKERS(_i), "max_size = 1\nacquire_timeout = 5s\n");
	MYSQL *root = maria_control(), *my[4];
	MYSQL_STMT *stmt[4];
	long long number = 0;
	for (int i = 0; i < 4; i++) {
		my[i] = maria_connect(forebay, NULL);
		stmt[i] = prepare(my[i], "SELECT ? + 1");
		bind_long(stmt[i], &number);
	}
	for (int round = 0; round < 5; round++)
		for (int i = 0; i < 4; i++) {
			number = 100 * round + i;
			ck_assert_int_eq(value(stmt[i]), number + 1);
		}
	ck_assert_int_eq(maria_long(root, "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = "
					  "'Prepared_stmt_count'"),
			 1);
	for (int i = 0; i < 4; i++) {
		mysql_stmt_close(stmt[i]);
		mysql_close(my[i]);
	}
	mysql_close(root);
	forebay_stop(forebay);
}
END_TEST

START_TEST(a_server_keeps_no_more_than_max_prepared_statements) {
	struct forebay *forebay = start(1, "max_size = 1\nmax_prepared_statements = 2\n");
	MYSQL *root = maria_control(), *my = maria_connect(forebay, NULL);
	MYSQL_STMT *stmt[6];
	char sql[40];
	for (int i = 0; i < 6; i++) {
		snprintf(sql, sizeof sql, "SELECT %d", i);
		stmt[i] = prepare(my, sql);
	}
	for (int round = 0; round < 3; round++)
		for (int i = 0; i < 6; i++)
			ck_assert_int_eq(value(stmt[i]), i);
	ck_assert_int_eq(maria_long(root, "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = "
					  "'Prepared_stmt_count'"),
			 2);
	for (int i = 0; i < 6; i++)
		mysql_stmt_close(stmt[i]);
	mysql_close(my);
	mysql_close(root);
	forebay_stop(forebay);
}
END_TEST

START_TEST(a_statement_follows_its_client_with_the_types_it_was_bound_to) {
	struct forebay *forebay = start(1, "max_size = 2\nacquire_timeout = 5s\n");
	MYSQL *a = maria_connect(forebay, NULL), *b = maria_connect(forebay, NULL);
	char text[20] = "abc";
	unsigned long length = 3;
	long long number = 5;
	MYSQL_BIND in[2] = {{.buffer_type = MYSQL_TYPE_LONGLONG, .buffer = &number},
			    {.buffer_type = MYSQL_TYPE_STRING, .buffer = text, .length = &length, .buffer_length = sizeof text}};
	MYSQL_STMT *stmt = prepare(a, "SELECT ? + LENGTH(?)");
	ck_assert_int_eq(mysql_stmt_bind_param(stmt, in), 0);
	ck_assert_int_eq(value(stmt), 8);
	long first = server_of(a);
	maria_execute(b, "BEGIN");
	long taken = server_of(b);
	ck_assert_int_eq(first, taken);
	number = 7; /* the library does not send the types again */
	ck_assert_int_eq(value(stmt), 10);
	ck_assert_int_ne(server_of(a), taken);
	maria_execute(b, "ROLLBACK");
	for (int i = 0; i < 5; i++) {
		number = i;
		ck_assert_int_eq(value(stmt), i + 3);
	}
	mysql_stmt_close(stmt);
	mysql_close(a);
	mysql_close(b);
	forebay_stop(forebay);
}
END_TEST

START_TEST(clients_with_other_types_share_a_statement) {
	struct forebay *forebay = start(1, "max_size = 1\nacquire_timeout = 5s\n");
	MYSQL *a = maria_connect(forebay, NULL), *b = maria_connect(forebay, NULL);
	long long number = 3;
	double real = 2.5;
	MYSQL_STMT *sa = prepare(a, "SELECT ? * 2"), *sb = prepare(b, "SELECT ? * 2");
	MYSQL_BIND in = {.buffer_type = MYSQL_TYPE_DOUBLE, .buffer = &real};
	bind_long(sa, &number);
	ck_assert_int_eq(mysql_stmt_bind_param(sb, &in), 0);
	for (int i = 0; i < 4; i++) {
		ck_assert_int_eq(value(sa), 6);
		ck_assert_int_eq(value(sb), 5);
	}
	mysql_stmt_close(sa);
	mysql_stmt_close(sb);
	mysql_close(a);
	mysql_close(b);
	forebay_stop(forebay);
}
END_TEST

START_TEST(a_cursor_keeps_its_server_until_its_rows_are_read) {
	struct forebay *forebay = start(WORKERS(_i), "max_size = 1\nacquire_timeout = 400ms\n");
	MYSQL *a = maria_connect(forebay, NULL), *b = maria_connect(forebay, NULL);
	MYSQL_STMT *stmt = prepare(a, "SELECT seq FROM seq_1_to_5");
	unsigned long type = CURSOR_TYPE_READ_ONLY, rows = 2;
	long long number = 0, expected = 1;
	MYSQL_BIND out = {.buffer_type = MYSQL_TYPE_LONGLONG, .buffer = &number};
	mysql_stmt_attr_set(stmt, STMT_ATTR_CURSOR_TYPE, &type);
	mysql_stmt_attr_set(stmt, STMT_ATTR_PREFETCH_ROWS, &rows);
	for (int round = 0; round < 2; round++) {
		ck_assert_msg(mysql_stmt_execute(stmt) == 0, "%s", mysql_stmt_error(stmt));
		ck_assert_int_eq(mysql_stmt_bind_result(stmt, &out), 0);
		for (expected = 1; mysql_stmt_fetch(stmt) == 0; expected++) {
			ck_assert_int_eq(number, expected);
			if (expected == 2)
				maria_expect_error(b, "SELECT 1", 1040);
		}
		ck_assert_int_eq(expected, 6);
		maria_expect(b, "SELECT 1", "1"); /* all has been read */
	}
	ck_assert_int_eq(mysql_stmt_execute(stmt), 0);
	maria_expect_error(b, "SELECT 1", 1040);
	mysql_stmt_close(stmt); /* not answered, and still lets go */
	maria_expect(b, "SELECT 1", "1");
	mysql_close(a);
	mysql_close(b);
	forebay_stop(forebay);
}
END_TEST

START_TEST(long_data_stays_with_its_server) {
	struct forebay *forebay = start(WORKERS(_i), "max_size = 1\nacquire_timeout = 400ms\n");
	MYSQL *a = maria_connect(forebay, NULL), *b = maria_connect(forebay, NULL);
	MYSQL_STMT *stmt = prepare(a, "SELECT LENGTH(?)");
	MYSQL_BIND in = {.buffer_type = MYSQL_TYPE_LONG_BLOB};
	char piece[50000];
	memset(piece, 'x', sizeof piece);
	for (int round = 0; round < 3; round++) {
		ck_assert_int_eq(mysql_stmt_bind_param(stmt, &in), 0);
		for (int i = 0; i < 5; i++)
			ck_assert_int_eq(mysql_stmt_send_long_data(stmt, 0, piece, sizeof piece), 0);
		if (round == 1) { /* thinks better of it */
			ck_assert_int_eq(mysql_stmt_reset(stmt), 0);
			maria_expect(b, "SELECT 1", "1");
			continue;
		}
		ck_assert_int_eq(value(stmt), 5 * (long)sizeof piece);
		maria_expect(b, "SELECT 1", "1");
	}
	mysql_stmt_close(stmt);
	mysql_close(a);
	mysql_close(b);
	forebay_stop(forebay);
}
END_TEST

START_TEST(errors_are_those_of_a_private_connection) {
	struct forebay *forebay = start(1, "max_size = 1\nacquire_timeout = 5s\n");
	MYSQL *a = maria_connect(forebay, NULL), *b = maria_connect(forebay, NULL);
	MYSQL_STMT *bad = mysql_stmt_init(a);
	ck_assert_int_ne(mysql_stmt_prepare(bad, "SELECT FROM", 11), 0);
	ck_assert_uint_eq(mysql_stmt_errno(bad), 1064);
	mysql_stmt_close(bad);
	maria_execute(a, "CREATE OR REPLACE TABLE app.p (a INT)");
	maria_execute(a, "INSERT INTO app.p VALUES (1)");
	MYSQL_STMT *stmt = prepare(a, "SELECT a FROM app.p"), *other = prepare(b, "SELECT a FROM app.p");
	ck_assert_int_eq(value(stmt), 1);
	maria_execute(b, "ALTER TABLE app.p MODIFY a BIGINT, ADD COLUMN b INT");
	ck_assert_int_eq(value(stmt), 1);
	maria_execute(b, "DROP TABLE app.p");
	ck_assert_int_ne(mysql_stmt_execute(stmt), 0);
	ck_assert_uint_eq(mysql_stmt_errno(stmt), 1146);
	ck_assert_int_ne(mysql_stmt_execute(other), 0);
	ck_assert_uint_eq(mysql_stmt_errno(other), 1146);
	maria_expect(a, "SELECT 5", "5");
	/* prepared for it anew, where it cannot be */
	ck_assert_int_eq(mysql_reset_connection(b), 0);
	ck_assert_int_ne(mysql_stmt_execute(stmt), 0);
	ck_assert_uint_eq(mysql_stmt_errno(stmt), 1146);
	maria_execute(b, "CREATE TABLE app.p (a INT)");
	ck_assert_int_eq(value(stmt), -1);
	mysql_stmt_close(stmt);
	mysql_stmt_close(other);
	mysql_close(a);
	mysql_close(b);
	forebay_stop(forebay);
}
END_TEST

START_TEST(a_statement_means_what_it_meant_when_it_was_prepared) {
	struct forebay *forebay = start(WORKERS(_i), "max_size = 2\nacquire_timeout = 5s\nmax_prepared_statements = 1\n");
	MYSQL *a = maria_connect(forebay, NULL), *b = maria_connect(forebay, NULL);
	maria_execute(a, "CREATE OR REPLACE TABLE app.m (a INT)");
	maria_execute(a, "CREATE OR REPLACE TABLE other.m (a INT)");
	maria_execute(a, "INSERT INTO app.m VALUES (1)");
	maria_execute(a, "INSERT INTO other.m VALUES (2)");
	MYSQL_STMT *here = prepare(a, "SELECT a FROM m");
	maria_execute(a, "USE other");
	MYSQL_STMT *there = prepare(a, "SELECT a FROM m");
	maria_execute(b, "SET sql_mode = 'PIPES_AS_CONCAT'");
	MYSQL_STMT *joined = prepare(b, "SELECT 1 || 2");
	MYSQL_STMT *either = prepare(a, "SELECT 1 || 2");
	maria_execute(b, "SET sql_mode = ''");
	for (int i = 0; i < 4; i++) {
		ck_assert_int_eq(value(here), 1);
		ck_assert_int_eq(value(there), 2);
		ck_assert_int_eq(value(joined), 12);
		ck_assert_int_eq(value(either), 1);
	}
	maria_expect(a, "SELECT DATABASE()", "other");
	maria_expect(b, "SELECT @@sql_mode", "");
	mysql_stmt_close(here);
	mysql_stmt_close(there);
	mysql_stmt_close(joined);
	mysql_stmt_close(either);
	mysql_close(a);
	mysql_close(b);
	forebay_stop(forebay);
}
END_TEST

START_TEST(what_a_statement_leaves_is_its_clients) {
	struct forebay *forebay = start(1, "max_size = 1\nacquire_timeout = 5s\n");
	MYSQL *a = maria_connect(forebay, NULL), *b = maria_connect(forebay, NULL);
	maria_execute(a, "CREATE OR REPLACE TABLE app.i (id INT AUTO_INCREMENT PRIMARY KEY, v INT)");
	long long number = 1;
	MYSQL_STMT *sa = prepare(a, "INSERT INTO app.i (v) VALUES (?)"), *sb = prepare(b, "INSERT INTO app.i (v) VALUES (?)");
	MYSQL_STMT *ia = prepare(a, "SELECT LAST_INSERT_ID()"), *ib = prepare(b, "SELECT LAST_INSERT_ID()");
	MYSQL_STMT *begin = prepare(a, "BEGIN"), *commit = prepare(a, "COMMIT");
	bind_long(sa, &number);
	bind_long(sb, &number);
	for (int i = 0; i < 3; i++) {
		value(sa);
		value(sb);
		ck_assert_int_eq(value(ia), 2 * i + 1);
		ck_assert_int_eq(value(ib), 2 * i + 2);
	}
	value(begin);
	value(sa);
	ck_assert_int_eq(value(ia), 7);
	value(commit);
	value(sb);
	ck_assert_int_eq(value(ia), 7);
	ck_assert_int_eq(value(ib), 8);
	MYSQL_STMT *all[] = {sa, sb, ia, ib, begin, commit};
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		mysql_stmt_close(all[i]);
	mysql_close(a);
	mysql_close(b);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	maria_begin(NULL);
	Suite *suite = suite_create("mysql prepared statements");
	TCase *tcase = tcase_create("prepared");
	LOOP(tcase, one_server_serves_the_statements_of_all);
	tcase_add_test(tcase, a_server_keeps_no_more_than_max_prepared_statements);
	tcase_add_test(tcase, a_statement_follows_its_client_with_the_types_it_was_bound_to);
	tcase_add_test(tcase, clients_with_other_types_share_a_statement);
	LOOP(tcase, a_cursor_keeps_its_server_until_its_rows_are_read);
	LOOP(tcase, long_data_stays_with_its_server);
	tcase_add_test(tcase, errors_are_those_of_a_private_connection);
	LOOP(tcase, a_statement_means_what_it_meant_when_it_was_prepared);
	tcase_add_test(tcase, what_a_statement_leaves_is_its_clients);
	suite_add_tcase(suite, tcase);
	return harness_run(suite);
}
