/* What neither an answer nor a text tells whole: clients that vanish, statements that share their text, commands without an
 * answer. Nobody else sees it, and nobody's answers come out of step. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "my_raw.h"

static struct forebay *start(const char *pool) {
	struct forebay_setup setup = {.workers = 1, .pool = pool};
	return maria_forebay(&setup);
}

static MYSQL_STMT *prepare(MYSQL *my, const char *sql) {
	MYSQL_STMT *stmt = mysql_stmt_init(my);
	ck_assert_ptr_nonnull(stmt);
	ck_assert_msg(mysql_stmt_prepare(stmt, sql, strlen(sql)) == 0, "%s: %s", sql, mysql_stmt_error(stmt));
	return stmt;
}

/* The first column of the next row as a number; -1: there is none. */
static long next_row(MYSQL_STMT *stmt) {
	long long number = 0;
	MYSQL_BIND out = {.buffer_type = MYSQL_TYPE_LONGLONG, .buffer = &number};
	ck_assert_int_eq(mysql_stmt_bind_result(stmt, &out), 0);
	int fetched = mysql_stmt_fetch(stmt);
	ck_assert_msg(fetched == 0 || fetched == MYSQL_NO_DATA, "%u %s", mysql_stmt_errno(stmt), mysql_stmt_error(stmt));
	return fetched == 0 ? (long)number : -1;
}

static long value(MYSQL_STMT *stmt) {
	ck_assert_msg(mysql_stmt_execute(stmt) == 0, "%u %s", mysql_stmt_errno(stmt), mysql_stmt_error(stmt));
	long number = next_row(stmt);
	mysql_stmt_free_result(stmt);
	return number;
}

static void vanish(MYSQL *my) {
	shutdown(mysql_get_socket(my), SHUT_RDWR);
	mysql_close(my);
}

/* Says this, which reads app.gate, and is gone before it is answered; then it ends by itself, before it would be cancelled. */
static void say_and_vanish(struct forebay *forebay, MYSQL *root, const char *sql) {
	MYSQL *my = maria_connect(forebay, NULL);
	maria_execute(root, "LOCK TABLES app.gate WRITE");
	ck_assert_int_eq(mysql_send_query(my, sql, strlen(sql)), 0);
	maria_await(root, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE LIKE 'Waiting for table%'", "1");
	vanish(my);
	maria_execute(root, "UNLOCK TABLES");
}

/* ---- clients that vanish ---- */

START_TEST(what_is_answered_to_nobody_is_seen_by_nobody) {
	struct forebay *forebay = start("max_size = 1\nacquire_timeout = 5s\n");
	MYSQL *root = maria_control(), *b = maria_connect(forebay, NULL);
	mysql_set_server_option(root, MYSQL_OPTION_MULTI_STATEMENTS_ON);
	maria_execute(root, "USE app; CREATE OR REPLACE TABLE h (id INT AUTO_INCREMENT PRIMARY KEY, v INT UNIQUE); "
			    "CREATE OR REPLACE TABLE gate (v INT); INSERT INTO gate VALUES (7); "
			    "CREATE OR REPLACE FUNCTION hf() RETURNS INT BEGIN SET @hf = 'A'; RETURN 1; END");
	say_and_vanish(forebay, root, "INSERT INTO h (v) SELECT v FROM gate");
	maria_expect(b, "SELECT LAST_INSERT_ID()", "0");
	say_and_vanish(forebay, root, "INSERT INTO h (v) SELECT v FROM gate"); /* fails */
	maria_expect(b, "SHOW ERRORS", "");
	say_and_vanish(forebay, root, "SELECT hf() FROM gate");
	maria_expect(b, "SELECT @hf", "NULL");
	mysql_close(b);
	mysql_close(root);
	forebay_stop(forebay);
}
END_TEST

START_TEST(a_collation_goes_with_its_client) {
	struct forebay *forebay = start("max_size = 1\nacquire_timeout = 5s\n");
	MYSQL *b = maria_connect(forebay, NULL), *a = maria_connect(forebay, NULL);
	maria_execute(b, "SET NAMES utf8mb4 COLLATE utf8mb4_bin");
	maria_execute(a, "SET NAMES utf8mb4 COLLATE utf8mb4_bin");
	maria_expect(b, "SELECT 'a' = 'A'", "0");
	maria_execute(a, "BEGIN");
	maria_execute(a, "SET NAMES utf8mb4"); /* the collation as well, which is not told */
	maria_expect(a, "SELECT 'a' = 'A'", "1");
	vanish(a);
	for (int i = 0; i < 3; i++)
		maria_expect(b, "SELECT 'a' = 'A'", "0");
	mysql_close(b);
	forebay_stop(forebay);
}
END_TEST

/* What SET names explains no more than that: a function in it may do more, and its client keeps that. */
START_TEST(what_a_function_in_a_set_does_stays_with_its_client) {
	struct forebay *forebay = start("max_size = 2\nacquire_timeout = 5s\n");
	MYSQL *root = maria_control(), *a = maria_connect(forebay, NULL), *b = maria_connect(forebay, NULL);
	mysql_set_server_option(root, MYSQL_OPTION_MULTI_STATEMENTS_ON);
	maria_execute(root, "USE app; CREATE OR REPLACE FUNCTION hs() RETURNS INT BEGIN SET @hs = 'A'; RETURN 5; END");
	maria_execute(a, "SET default_week_format = hs()");
	/* others are given all that is free in between */
	maria_expect(b, "SELECT @hs", "NULL");
	maria_execute(b, "BEGIN");
	maria_expect(b, "SELECT @hs", "NULL");
	maria_expect(a, "SELECT @hs", "A");
	maria_execute(b, "ROLLBACK");
	/* what is known to do nothing keeps nobody: there is but one server for both */
	mysql_close(a);
	mysql_close(b);
	forebay_stop(forebay);
	forebay = start("max_size = 1\nacquire_timeout = 5s\n");
	a = maria_connect(forebay, NULL), b = maria_connect(forebay, NULL);
	maria_execute(a, "SET SESSION sql_mode = CONCAT(@@sql_mode, ',PIPES_AS_CONCAT')");
	maria_expect(b, "SELECT @@sql_mode LIKE '%PIPES%'", "0");
	maria_expect(a, "SELECT @@sql_mode LIKE '%PIPES%'", "1");
	mysql_close(a);
	mysql_close(b);
	mysql_close(root);
	forebay_stop(forebay);
}
END_TEST

/* Its own limit is not that of what is asked for it. */
START_TEST(a_client_may_give_its_statements_next_to_no_time) {
	struct forebay *forebay = start("max_size = 1\nacquire_timeout = 5s\n");
	MYSQL *root = maria_control(), *a = maria_connect(forebay, NULL), *b = maria_connect(forebay, NULL);
	maria_execute(root, "CREATE OR REPLACE TABLE app.timed (id INT AUTO_INCREMENT PRIMARY KEY, v INT UNIQUE)");
	long before = maria_long(a, "SELECT CONNECTION_ID()");
	maria_execute(a, "SET SESSION max_statement_time = 0.000001");
	for (int i = 0; i < 20; i++) { /* whether they are in time, or not: something is to be learnt behind each */
		mysql_query(a, "INSERT INTO app.timed (v) SELECT seq FROM app.gate, mysql.help_topic, seq_1_to_100000");
		ck_assert_msg(mysql_errno(a) == 1969 || mysql_errno(a) < 2000, "%u %s", mysql_errno(a), mysql_error(a));
		maria_expect(b, "SELECT @@max_statement_time", "0.000000");
	}
	ck_assert_int_eq(maria_long(b, "SELECT CONNECTION_ID()"), before); /* the one server all the time */
	mysql_close(a);
	mysql_close(b);
	mysql_close(root);
	forebay_stop(forebay);
}
END_TEST

START_TEST(a_chained_transaction_is_rolled_back_for_good) {
	struct forebay *forebay = start("max_size = 1\nidle_transaction_timeout = 100ms\n");
	MYSQL *a = maria_connect(forebay, NULL);
	maria_execute(a, "SET completion_type = 'CHAIN'");
	maria_execute(a, "SET @pinned = 1");
	maria_execute(a, "BEGIN");
	maria_expect(a, "SELECT @@in_transaction", "1");
	while (mysql_query(a, "SELECT 1") == 0) { /* until it was idle for that long */
		mysql_free_result(mysql_store_result(a));
		usleep(200 * 1000);
	}
	ck_assert_uint_eq(mysql_errno(a), 1317);
	maria_expect(a, "SELECT @@in_transaction, @pinned", "0");
	mysql_close(a);
	forebay_stop(forebay);
}
END_TEST

/* ---- what an answer does not tell ---- */

START_TEST(load_data_leaves_its_insert_id_to_its_client) {
	struct forebay *forebay = start("max_size = 1\nacquire_timeout = 5s\n");
	struct maria_login login = {.flags = CLIENT_LOCAL_FILES};
	MYSQL *a = maria_connect(forebay, &login), *b = maria_connect(forebay, NULL);
	unsigned yes = 1;
	char path[300], sql[500];
	snprintf(path, sizeof path, "%s/ids.%d", harness_dir(), (int)getpid());
	FILE *file = fopen(path, "w");
	ck_assert_ptr_nonnull(file);
	fputs("5\n6\n7\n", file);
	fclose(file);
	mysql_options(a, MYSQL_OPT_LOCAL_INFILE, &yes);
	maria_execute(a, "CREATE OR REPLACE TABLE app.ids (id INT AUTO_INCREMENT PRIMARY KEY, v INT) AUTO_INCREMENT = 40");
	snprintf(sql, sizeof sql, "LOAD DATA LOCAL INFILE '%s' INTO TABLE app.ids (v)", path);
	maria_execute(a, "%s", sql);
	unlink(path);
	maria_expect(b, "SELECT LAST_INSERT_ID()", "0");
	maria_expect(a, "SELECT LAST_INSERT_ID()", "40");
	maria_expect(b, "SELECT LAST_INSERT_ID()", "0");
	mysql_close(a);
	mysql_close(b);
	forebay_stop(forebay);
}
END_TEST

START_TEST(a_first_statement_is_read_as_its_server_reads_it) {
	MYSQL *root = maria_control();
	maria_execute(root, "SET GLOBAL sql_mode = 'NO_BACKSLASH_ESCAPES'");
	struct forebay *forebay = start("max_size = 1\nacquire_timeout = 400ms\n");
	MYSQL *a = maria_connect(forebay, NULL), *b = maria_connect(forebay, NULL);
	maria_expect(b, "SELECT 1", "1"); /* so that the server is there before a text is looked at */
	int failed = mysql_query(a, "SELECT '\\', GET_LOCK('first', 0), '\\'");
	mysql_free_result(mysql_store_result(a));
	maria_execute(root, "SET GLOBAL sql_mode = DEFAULT");
	ck_assert_int_eq(failed, 0);
	maria_expect_error(b, "SELECT 1", 1040); /* for the first is pinned */
	maria_expect(a, "SELECT IS_USED_LOCK('first') = CONNECTION_ID()", "1");
	mysql_close(a);
	mysql_close(b);
	mysql_close(root);
	forebay_stop(forebay);
}
END_TEST

START_TEST(warnings_do_not_hold_a_server_for_ever) {
	struct forebay *forebay = start("max_size = 1\nacquire_timeout = 5s\n");
	MYSQL *a = maria_connect(forebay, NULL), *b = maria_connect(forebay, NULL);
	MYSQL_STMT *stmt = prepare(a, "SELECT CAST('1x' AS INT) + seq FROM seq_1_to_5");
	unsigned long type = CURSOR_TYPE_READ_ONLY, rows = 1;
	mysql_stmt_attr_set(stmt, STMT_ATTR_CURSOR_TYPE, &type);
	mysql_stmt_attr_set(stmt, STMT_ATTR_PREFETCH_ROWS, &rows);
	ck_assert_msg(mysql_stmt_execute(stmt) == 0, "%s", mysql_stmt_error(stmt));
	for (int i = 2; i <= 6; i++)
		ck_assert_int_eq(next_row(stmt), i);
	ck_assert_int_eq(next_row(stmt), -1);
	maria_expect(b, "SELECT 1", "1");
	mysql_stmt_close(stmt);
	mysql_close(a);
	mysql_close(b);
	forebay_stop(forebay);
}
END_TEST

/* ---- statements ---- */

START_TEST(cursors_of_one_text_are_apart) {
	struct forebay *forebay = start("max_size = 1\nacquire_timeout = 5s\n");
	MYSQL *a = maria_connect(forebay, NULL);
	unsigned long type = CURSOR_TYPE_READ_ONLY, rows = 2;
	long long from[2] = {0, 100};
	MYSQL_STMT *stmt[2];
	for (int i = 0; i < 2; i++) {
		MYSQL_BIND in = {.buffer_type = MYSQL_TYPE_LONGLONG, .buffer = &from[i]};
		stmt[i] = prepare(a, "SELECT seq + ? FROM seq_1_to_9");
		mysql_stmt_attr_set(stmt[i], STMT_ATTR_CURSOR_TYPE, &type);
		mysql_stmt_attr_set(stmt[i], STMT_ATTR_PREFETCH_ROWS, &rows);
		ck_assert_int_eq(mysql_stmt_bind_param(stmt[i], &in), 0);
	}
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 2; i++)
			ck_assert_msg(mysql_stmt_execute(stmt[i]) == 0, "%s", mysql_stmt_error(stmt[i]));
		for (int row = 1; row <= 9; row++)
			for (int i = 0; i < 2; i++)
				ck_assert_int_eq(next_row(stmt[i]), from[i] + row);
		for (int i = 0; i < 2; i++)
			ck_assert_int_eq(next_row(stmt[i]), -1);
	}
	for (int i = 0; i < 2; i++)
		mysql_stmt_close(stmt[i]);
	maria_expect(a, "SELECT 1", "1");
	mysql_close(a);
	forebay_stop(forebay);
}
END_TEST

/* The first has its data sent in pieces; the second, which may have the same text, at once. */
static void send_and_execute(const char *pool, const char *first, const char *second) {
	struct forebay *forebay = start(pool);
	MYSQL *a = maria_connect(forebay, NULL);
	MYSQL_STMT *pieces = prepare(a, first), *whole = prepare(a, second);
	char piece[1000], text[] = "abc";
	unsigned long length = 3;
	memset(piece, 'x', sizeof piece);
	MYSQL_BIND in[2] = {{.buffer_type = MYSQL_TYPE_LONG_BLOB},
			    {.buffer_type = MYSQL_TYPE_STRING, .buffer = text, .buffer_length = length, .length = &length}};
	ck_assert_int_eq(mysql_stmt_bind_param(pieces, &in[0]), 0);
	ck_assert_int_eq(mysql_stmt_bind_param(whole, &in[1]), 0);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 3; i++)
			ck_assert_int_eq(mysql_stmt_send_long_data(pieces, 0, piece, sizeof piece), 0);
		ck_assert_int_eq(value(whole), 3);
		ck_assert_int_eq(value(pieces), 3 * (long)sizeof piece);
	}
	mysql_stmt_close(pieces);
	mysql_stmt_close(whole);
	mysql_close(a);
	forebay_stop(forebay);
}

START_TEST(long_data_of_one_text_is_apart) {
	send_and_execute("max_size = 1\n", "SELECT LENGTH(?)", "SELECT LENGTH(?)");
}
END_TEST

START_TEST(a_statement_with_long_data_is_not_closed_to_make_room) {
	send_and_execute("max_size = 1\nmax_prepared_statements = 1\n", "SELECT LENGTH(?)", "SELECT LENGTH(?) + 0");
}
END_TEST

START_TEST(long_data_that_no_server_could_be_given_is_told_by_execute) {
	struct forebay *forebay = start("max_size = 1\nacquire_timeout = 400ms\n");
	MYSQL *a = maria_connect(forebay, NULL), *b = maria_connect(forebay, NULL);
	MYSQL_STMT *stmt = prepare(a, "SELECT LENGTH(?)");
	MYSQL_BIND in = {.buffer_type = MYSQL_TYPE_LONG_BLOB};
	ck_assert_int_eq(mysql_stmt_bind_param(stmt, &in), 0);
	maria_execute(b, "BEGIN");
	ck_assert_int_eq(mysql_stmt_send_long_data(stmt, 0, "abc", 3), 0);
	ck_assert_int_ne(mysql_stmt_execute(stmt), 0);
	ck_assert_msg(strstr(mysql_stmt_error(stmt), "long data") != NULL, "%s", mysql_stmt_error(stmt));
	maria_execute(b, "ROLLBACK");
	maria_expect(a, "SELECT 5", "5"); /* and is the answer to this */
	maria_expect(a, "SELECT 6", "6");
	ck_assert_int_eq(mysql_stmt_send_long_data(stmt, 0, "abcd", 4), 0);
	ck_assert_int_eq(value(stmt), 4);
	mysql_stmt_close(stmt);
	mysql_close(a);
	mysql_close(b);
	forebay_stop(forebay);
}
END_TEST

START_TEST(a_statement_that_cannot_be_prepared_is_no_answer_to_long_data) {
	struct forebay *forebay = start("max_size = 1\nmax_prepared_statements = 1\n");
	MYSQL *a = maria_connect(forebay, NULL);
	maria_execute(a, "CREATE OR REPLACE TABLE app.gone (a INT)");
	MYSQL_STMT *stmt = prepare(a, "SELECT LENGTH(?) FROM app.gone"), *other = prepare(a, "SELECT 1");
	MYSQL_BIND in = {.buffer_type = MYSQL_TYPE_LONG_BLOB};
	ck_assert_int_eq(mysql_stmt_bind_param(stmt, &in), 0);
	maria_execute(a, "DROP TABLE app.gone");
	ck_assert_int_eq(mysql_stmt_send_long_data(stmt, 0, "abc", 3), 0);
	maria_expect(a, "SELECT 5", "5");
	maria_expect(a, "SELECT 6", "6");
	ck_assert_int_ne(mysql_stmt_execute(stmt), 0);
	maria_expect(a, "SELECT 7", "7");
	mysql_stmt_close(stmt);
	mysql_stmt_close(other);
	mysql_close(a);
	forebay_stop(forebay);
}
END_TEST

START_TEST(a_transaction_is_not_lost_in_silence_while_a_statement_is_prepared) {
	struct forebay *forebay = start("max_size = 1\nmax_prepared_statements = 1\nacquire_timeout = 5s\n"
				       "connect_timeout = 300ms\n");
	MYSQL *root = maria_control(), *a = maria_connect(forebay, NULL);
	maria_execute(a, "CREATE OR REPLACE TABLE app.written (a INT)");
	MYSQL_STMT *stmt = prepare(a, "SELECT 2"), *other = prepare(a, "SELECT 1");
	char *pid_file = maria_value(root, "SELECT @@pid_file");
	FILE *file = fopen(pid_file, "r");
	int pid = 0;
	ck_assert_msg(file && fscanf(file, "%d", &pid) == 1 && pid > 1, "%s", pid_file);
	fclose(file);
	free(pid_file);
	maria_execute(a, "BEGIN");
	maria_execute(a, "INSERT INTO app.written VALUES (1)");
	harness_freeze(pid); /* the PREPARE that goes ahead is not answered in time */
	int failed = mysql_stmt_execute(stmt);
	kill(pid, SIGCONT);
	ck_assert_int_ne(failed, 0);
	ck_assert_msg(mysql_query(a, "COMMIT") != 0, "the transaction was lost, and its COMMIT is answered with OK");
	maria_expect(root, "SELECT COUNT(*) FROM app.written", "0");
	mysql_stmt_close(stmt);
	mysql_stmt_close(other);
	mysql_close(a);
	mysql_close(root);
	forebay_stop(forebay);
}
END_TEST

START_TEST(a_statement_is_not_prepared_in_another_schema) {
	struct forebay *forebay = start("max_size = 1\nmax_prepared_statements = 1\nacquire_timeout = 5s\n");
	MYSQL *root = maria_control(), *a = maria_connect(forebay, NULL);
	mysql_set_server_option(root, MYSQL_OPTION_MULTI_STATEMENTS_ON);
	maria_execute(root, "CREATE OR REPLACE DATABASE passing; GRANT ALL ON passing.* TO app@'%%'; "
			    "CREATE OR REPLACE TABLE passing.s (a INT); CREATE OR REPLACE TABLE app.s (a INT); "
			    "INSERT INTO passing.s VALUES (2); INSERT INTO app.s VALUES (1)");
	maria_execute(a, "USE passing");
	MYSQL_STMT *stmt = prepare(a, "SELECT a FROM s");
	ck_assert_int_eq(value(stmt), 2);
	maria_execute(a, "USE app");
	MYSQL_STMT *other = prepare(a, "SELECT 1");
	maria_execute(root, "DROP DATABASE passing");
	for (int i = 0; i < 3; i++) {
		ck_assert_msg(mysql_stmt_execute(stmt) != 0, "it runs in another schema");
		ck_assert_uint_eq(mysql_stmt_errno(stmt), 1049);
	}
	maria_expect(a, "SELECT DATABASE()", "app"); /* which was not the session's misfortune */
	mysql_stmt_close(stmt);
	mysql_stmt_close(other);
	mysql_close(a);
	mysql_close(root);
	forebay_stop(forebay);
}
END_TEST

/* ---- several results ---- */

START_TEST(a_client_that_takes_one_result_does_not_get_two) {
	struct forebay *forebay = start("max_size = 1\n");
	MYSQL *root = maria_control();
	char path[300];
	maria_execute(root, "CREATE OR REPLACE PROCEDURE app.one_and_end() SELECT 1");
	snprintf(path, sizeof path, "%s/.s.PGSQL.%d", forebay->socket_dir, forebay->port);
	struct my_raw raw = my_raw_connect(path, 0, RAW_ONE_RESULT | RAW_DEPRECATE_EOF, "app");
	ck_assert_int_ge(raw.fd, 0);
	ck_assert(my_raw_query(&raw, "SELECT 1"));
	ck_assert(!my_raw_query(&raw, "CALL app.one_and_end()"));
	ck_assert(my_raw_closed(&raw));
	my_raw_close(&raw);
	mysql_close(root);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	maria_begin(NULL);
	Suite *suite = suite_create("mysql, what is hidden");
	TCase *vanished = tcase_create("vanished"), *untold = tcase_create("untold"), *statements = tcase_create("statements");
	tcase_add_test(vanished, what_is_answered_to_nobody_is_seen_by_nobody);
	tcase_add_test(vanished, a_collation_goes_with_its_client);
	tcase_add_test(vanished, what_a_function_in_a_set_does_stays_with_its_client);
	tcase_add_test(vanished, a_client_may_give_its_statements_next_to_no_time);
	tcase_add_test(vanished, a_chained_transaction_is_rolled_back_for_good);
	tcase_add_test(untold, load_data_leaves_its_insert_id_to_its_client);
	tcase_add_test(untold, a_first_statement_is_read_as_its_server_reads_it);
	tcase_add_test(untold, warnings_do_not_hold_a_server_for_ever);
	tcase_add_test(untold, a_client_that_takes_one_result_does_not_get_two);
	tcase_add_test(statements, cursors_of_one_text_are_apart);
	tcase_add_test(statements, long_data_of_one_text_is_apart);
	tcase_add_test(statements, a_statement_with_long_data_is_not_closed_to_make_room);
	tcase_add_test(statements, long_data_that_no_server_could_be_given_is_told_by_execute);
	tcase_add_test(statements, a_statement_that_cannot_be_prepared_is_no_answer_to_long_data);
	tcase_add_test(statements, a_transaction_is_not_lost_in_silence_while_a_statement_is_prepared);
	tcase_add_test(statements, a_statement_is_not_prepared_in_another_schema);
	suite_add_tcase(suite, vanished);
	suite_add_tcase(suite, untold);
	suite_add_tcase(suite, statements);
	return harness_run(suite);
}
