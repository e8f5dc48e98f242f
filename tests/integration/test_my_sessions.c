/*
 * Two clients share server connections turn by turn, and see what they would see on private ones: each script is run
 * through Forebay and on MariaDB itself, and what comes back is compared word by word.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mariadb.h"

enum { CLIENTS = 3, TRANSCRIPT_MAX = 64 * 1024 };

/* `who`: 'A' to 'C'; its SQL, or one of the marks below. */
struct step {
	char who;
	const char *sql;
};

#define RESET_CONNECTION "\001"
#define CHANGE_SCHEMA "\002" /* COM_INIT_DB; the schema follows */
#define PING "\003"

struct script {
	const char *name;
	struct step steps[40];
};

/* ---- what comes back ---- */

static void add(char *out, const char *text) {
	size_t used = strlen(out);
	ck_assert_uint_lt(used + strlen(text) + 2, TRANSCRIPT_MAX);
	strcpy(out + used, text);
}

static void add_rows(char *out, MYSQL_RES *rows) {
	MYSQL_ROW row;
	unsigned fields = mysql_num_fields(rows);
	while ((row = mysql_fetch_row(rows))) {
		for (unsigned i = 0; i < fields; i++) {
			add(out, i ? "|" : "  ");
			add(out, row[i] ? row[i] : "NULL");
		}
		add(out, "\n");
	}
}

static void add_result(char *out, MYSQL *my) {
	char line[200];
	MYSQL_RES *rows = mysql_store_result(my);
	if (mysql_errno(my)) {
		snprintf(line, sizeof line, "  error %u %s %.100s\n", mysql_errno(my), mysql_sqlstate(my), mysql_error(my));
		add(out, line);
		return;
	}
	if (rows)
		add_rows(out, rows);
	snprintf(line, sizeof line, "  %lld rows, id %llu, %u warnings, %s\n", (long long)mysql_affected_rows(my),
		 (unsigned long long)mysql_insert_id(my), mysql_warning_count(my), mysql_info(my) ? mysql_info(my) : "-");
	add(out, line);
	mysql_free_result(rows);
}

static void run_step(char *out, MYSQL *my, const struct step *step) {
	char head[400];
	const char *sql = step->sql;
	snprintf(head, sizeof head, "%c: %.300s\n", step->who, *sql < ' ' ? "(command)" : sql);
	add(out, head);
	int failed;
	if (*sql == *RESET_CONNECTION)
		failed = mysql_reset_connection(my);
	else if (*sql == *CHANGE_SCHEMA)
		failed = mysql_select_db(my, sql + 1);
	else if (*sql == *PING)
		failed = mysql_ping(my);
	else
		failed = mysql_query(my, sql);
	if (failed || *sql < ' ') {
		snprintf(head, sizeof head, "  %u %.300s\n", mysql_errno(my), mysql_error(my));
		add(out, head);
		return;
	}
	do
		add_result(out, my);
	while (mysql_next_result(my) == 0);
	if (mysql_errno(my)) {
		snprintf(head, sizeof head, "  then %u %.300s\n", mysql_errno(my), mysql_error(my));
		add(out, head);
	}
}

/* As all scripts find it. */
static void clean_slate(MYSQL *root) {
	maria_execute(root, "CREATE DATABASE IF NOT EXISTS other; CREATE TABLE IF NOT EXISTS other.o (x INT) ENGINE = MEMORY; "
			    "DELETE FROM other.o; DELETE FROM app.t; ALTER TABLE app.t AUTO_INCREMENT = 1; DELETE FROM app.small; "
			    "DELETE FROM app.u; ALTER TABLE app.u AUTO_INCREMENT = 1; "
			    "ALTER SEQUENCE app.q RESTART");
}

static void make_routines(MYSQL *root) {
	mysql_set_server_option(root, MYSQL_OPTION_MULTI_STATEMENTS_ON);
	maria_execute(root, "USE app; CREATE OR REPLACE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v INT); "
			    "CREATE OR REPLACE TABLE small (v TINYINT) ENGINE = MEMORY; CREATE OR REPLACE SEQUENCE q ENGINE = MyISAM; "
			    "CREATE OR REPLACE TABLE u (id INT AUTO_INCREMENT PRIMARY KEY, b CHAR(9) UNIQUE); "
			    "CREATE OR REPLACE TABLE tq (a INT DEFAULT NEXTVAL(q), b INT); "
			    "CREATE OR REPLACE FUNCTION fv() RETURNS TEXT BEGIN SET @leak = 'A'; RETURN 'ANSI_QUOTES'; END; "
			    "CREATE OR REPLACE FUNCTION fw() RETURNS TEXT BEGIN DECLARE m TEXT; GET DIAGNOSTICS CONDITION 1 m = "
			    "MESSAGE_TEXT; RETURN m; END; CREATE OR REPLACE PROCEDURE shows() SHOW WARNINGS; "
			    "CREATE OR REPLACE PROCEDURE sets_variable() SET @p = 7; "
			    "CREATE OR REPLACE PROCEDURE makes_table() CREATE TEMPORARY TABLE made (a INT); "
			    "CREATE OR REPLACE PROCEDURE two() BEGIN SELECT 1; SELECT 2; END; "
			    "CREATE OR REPLACE PROCEDURE sets_mode() SET sql_mode = 'ANSI'; "
			    "CREATE OR REPLACE FUNCTION f() RETURNS INT BEGIN SET @f = 5; RETURN 1; END");
}

static void run_script(char *out, const struct script *script, MYSQL *clients[CLIENTS]) {
	for (const struct step *step = script->steps; step->sql; step++)
		run_step(out, clients[step->who - 'A'], step);
}

static char *transcript(const struct script *script, const struct forebay *forebay, MYSQL *root) {
	char *out = calloc(1, TRANSCRIPT_MAX);
	MYSQL *clients[CLIENTS];
	struct maria_login login = {.flags = CLIENT_MULTI_STATEMENTS, .port = forebay ? 0 : maria_port()};
	ck_assert_ptr_nonnull(out);
	clean_slate(root);
	for (int i = 0; i < CLIENTS; i++)
		clients[i] = maria_connect(forebay, &login);
	run_script(out, script, clients);
	for (int i = 0; i < CLIENTS; i++)
		mysql_close(clients[i]);
	return out;
}

/* The first step whose outcome differs. */
static void expect_same(const char *name, const char *direct, const char *pooled) {
	size_t i = 0, line = 0;
	for (; direct[i] && direct[i] == pooled[i]; i++)
		if (direct[i] == '\n' && direct[i + 1] != ' ')
			line = i + 1;
	ck_assert_msg(direct[i] == pooled[i], "%s: directly\n%.300s\nthrough the pool\n%.300s", name, direct + line, pooled + line);
}

/* One Forebay for all of them: what a script leaves must not reach the next one either. */
static void compare(const struct script *scripts, size_t count, int connections, int workers) {
	char pool[200];
	MYSQL *root = maria_control();
	/* one worker's clients share its connections; with more, those are lent */
	snprintf(pool, sizeof pool, "max_size = %d\nacquire_timeout = 4s\n", connections);
	struct forebay_setup setup = {.workers = workers, .pool = pool};
	struct forebay *forebay = maria_forebay(&setup);
	make_routines(root);
	for (size_t i = 0; i < count; i++) {
		char *direct = transcript(&scripts[i], NULL, root), *pooled = transcript(&scripts[i], forebay, root);
		expect_same(scripts[i].name, direct, pooled);
		free(direct);
		free(pooled);
	}
	mysql_close(root);
	forebay_stop(forebay);
}

static const struct script shared[] = {
	{"sql_mode", {
		{'A', "SET sql_mode = ''"}, {'B', "SELECT @@sql_mode"}, {'A', "SELECT @@sql_mode"},
		{'B', "SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'"}, {'A', "SELECT \"x\", 'a\\'b'"},
		{'B', "SELECT 'a\\'"}, {'C', "SELECT @@sql_mode"}, {'B', "SELECT @@sql_mode"},
		{'B', "SET sql_mode = DEFAULT"}, {'A', "SELECT @@sql_mode"}, {'B', "SELECT @@sql_mode"}}},
	{"time_zone", {
		{'A', "SET time_zone = '+05:00'"}, {'B', "SELECT @@time_zone, FROM_UNIXTIME(0)"},
		{'A', "SELECT @@time_zone, FROM_UNIXTIME(0)"}, {'B', "SET time_zone = '-03:00'"},
		{'A', "SELECT FROM_UNIXTIME(0)"}, {'B', "SELECT FROM_UNIXTIME(0)"}, {'C', "SELECT FROM_UNIXTIME(0)"}}},
	{"charset", {
		{'A', "SET NAMES latin1 COLLATE latin1_bin"},
		{'B', "SELECT @@character_set_client, @@character_set_results, @@character_set_connection, @@collation_connection"},
		{'A', "SELECT @@character_set_client, @@character_set_results, @@character_set_connection, @@collation_connection"},
		{'A', "SELECT 'a' = 'A'"}, {'B', "SELECT 'a' = 'A'"}, {'B', "SET character_set_results = NULL"},
		{'A', "SELECT @@character_set_results"}, {'B', "SELECT @@character_set_results"},
		{'C', "SET collation_connection = 'utf8mb4_bin'"},
		{'A', "SELECT @@character_set_client, @@character_set_results, @@character_set_connection, @@collation_connection"},
		{'C', "SELECT @@character_set_client, @@character_set_results, @@character_set_connection, @@collation_connection"},
		{'B', "SELECT @@character_set_client, @@character_set_results, @@character_set_connection, @@collation_connection"},
		{'C', "SET CHARACTER SET latin1"},
		{'A', "SELECT @@character_set_client, @@character_set_results, @@character_set_connection, @@collation_connection"},
		{'C', "SELECT @@character_set_client, @@character_set_results, @@character_set_connection, @@collation_connection"}}},
	{"autocommit", {
		{'A', "SET autocommit = 0"}, {'B', "SELECT @@autocommit"}, {'A', "SELECT @@autocommit"},
		{'A', "INSERT INTO t (v) VALUES (1)"}, {'A', "ROLLBACK"}, {'B', "SELECT COUNT(*) FROM t"},
		{'A', "INSERT INTO t (v) VALUES (2)"}, {'A', "COMMIT"}, {'B', "INSERT INTO t (v) VALUES (3)"},
		{'A', "SELECT id, v FROM t"}, {'A', "COMMIT"}, {'B', "SELECT id, v FROM t"}}},
	{"isolation", {
		{'A', "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"}, {'B', "SELECT @@tx_isolation"},
		{'A', "SELECT @@tx_isolation"}, {'B', "SET SESSION tx_isolation = 'SERIALIZABLE'"},
		{'A', "SELECT @@tx_isolation"}, {'B', "SELECT @@tx_isolation"}, {'C', "SELECT @@tx_isolation"},
		{'A', "SET SESSION TRANSACTION READ ONLY"}, {'B', "INSERT INTO t (v) VALUES (1)"},
		{'A', "INSERT INTO t (v) VALUES (2)"}, {'A', "SET SESSION TRANSACTION READ WRITE"},
		{'A', "INSERT INTO t (v) VALUES (3)"}}},
	{"schema", {
		{'A', "USE other"}, {'B', "SELECT DATABASE()"}, {'A', "SELECT DATABASE()"}, {'A', "INSERT INTO o VALUES (1)"},
		{'B', "SELECT COUNT(*) FROM o"}, {'B', CHANGE_SCHEMA "other"}, {'A', CHANGE_SCHEMA "app"},
		{'B', "SELECT COUNT(*) FROM o"}, {'A', "SELECT COUNT(*) FROM t"}, {'A', CHANGE_SCHEMA "nowhere"},
		{'A', "SELECT DATABASE()"}, {'B', "SELECT DATABASE()"}}},
	{"variables", {
		{'A', "SET foreign_key_checks = 0, unique_checks = OFF, sort_buffer_size = 524288"},
		{'B', "SELECT @@foreign_key_checks, @@unique_checks, @@sort_buffer_size"},
		{'A', "SELECT @@foreign_key_checks, @@unique_checks, @@sort_buffer_size"},
		{'B', "SET long_query_time = 1.5, max_statement_time = 20, group_concat_max_len = 4"},
		{'A', "SELECT @@long_query_time, @@max_statement_time, @@group_concat_max_len"},
		{'B', "SELECT @@long_query_time, @@max_statement_time, @@group_concat_max_len"},
		{'C', "SELECT @@foreign_key_checks, @@long_query_time, @@group_concat_max_len"},
		{'A', "SET optimizer_switch = 'mrr=on'"}, {'B', "SELECT @@optimizer_switch LIKE '%mrr=on,%'"},
		{'A', "SELECT @@optimizer_switch LIKE '%mrr=on,%'"}, {'A', "SET lc_time_names = 'de_DE'"},
		{'B', "SELECT MONTHNAME('2026-05-01')"}, {'A', "SELECT MONTHNAME('2026-05-01')"}}},
	{"set_statement", {
		{'A', "SET STATEMENT max_statement_time = 5 FOR SELECT @@max_statement_time"}, {'B', "SELECT @@max_statement_time"},
		{'A', "SELECT @@max_statement_time"}, {'B', "SET max_statement_time = 7"}, {'A', "SELECT @@max_statement_time"},
		{'B', "SET STATEMENT max_statement_time = 9 FOR SELECT 1"}, {'B', "SELECT @@max_statement_time"},
		{'A', "SELECT @@max_statement_time"}, {'B', "SELECT @@max_statement_time"}}},
	{"insert_id", {
		{'A', "INSERT INTO t (v) VALUES (1), (2)"}, {'B', "SELECT LAST_INSERT_ID()"}, {'A', "SELECT LAST_INSERT_ID()"},
		{'B', "INSERT INTO t (v) VALUES (3)"}, {'A', "SELECT LAST_INSERT_ID()"}, {'B', "SELECT LAST_INSERT_ID()"},
		{'A', "INSERT INTO t (id, v) VALUES (500, 1)"}, {'B', "SELECT 1"}, {'A', "SELECT @@last_insert_id"},
		{'A', "INSERT INTO t (v) VALUES (9) RETURNING id"}, {'B', "SELECT LAST_INSERT_ID()"},
		{'A', "SELECT LAST_INSERT_ID()"}, {'B', "UPDATE t SET v = LAST_INSERT_ID(77) WHERE id = 1"},
		{'A', "SELECT LAST_INSERT_ID()"}, {'B', "SELECT LAST_INSERT_ID()"}, {'C', "SELECT LAST_INSERT_ID(), @@identity"},
		{'A', "SET last_insert_id = 12"}, {'B', "SELECT LAST_INSERT_ID()"}, {'A', "SELECT LAST_INSERT_ID()"},
		{'A', "BEGIN"}, {'A', "INSERT INTO t (v) VALUES (8)"}, {'A', "ROLLBACK"}, {'B', "SELECT 1"},
		{'A', "INSERT INTO t (v) VALUES (LAST_INSERT_ID())"}, {'A', "SELECT MAX(id), MAX(v) FROM t"},
		{'A', "SHOW SESSION VARIABLES LIKE 'last_insert_id'"}, {'B', "SHOW SESSION VARIABLES LIKE 'last_insert_id'"}}},
	{"transactions", {
		{'A', "BEGIN"}, {'A', "INSERT INTO t (v) VALUES (1)"}, {'A', "SELECT nope"}, {'A', "INSERT INTO t (v) VALUES (2)"},
		{'A', "SAVEPOINT s"}, {'A', "INSERT INTO t (v) VALUES (3)"}, {'A', "ROLLBACK TO s"}, {'A', PING}, {'A', "COMMIT"},
		{'B', "SELECT v FROM t"}, {'B', "START TRANSACTION READ ONLY"}, {'B', "INSERT INTO t (v) VALUES (5)"},
		{'B', "ROLLBACK"}, {'A', "BEGIN; INSERT INTO t (v) VALUES (6); SELECT nope; COMMIT"}, {'A', "SELECT COUNT(*) FROM t"},
		{'A', "ROLLBACK"}, {'B', "SELECT COUNT(*) FROM t"}, {'A', "XA START 'x'"}, {'A', "INSERT INTO t (v) VALUES (7)"},
		{'A', "XA END 'x'"}, {'A', "XA PREPARE 'x'"}, {'A', "XA COMMIT 'x'"}, {'B', "SELECT COUNT(*) FROM t"}}},
	{"several", {
		{'A', "SELECT 1; SELECT 2; SET time_zone = '+01:00'; SELECT 3"}, {'B', "CALL two()"},
		{'A', "SELECT @@time_zone; SELECT nope; SELECT 4"}, {'B', "SELECT 5; INSERT INTO t (v) VALUES (1)"},
		{'A', "DO 0"}, {'B', ""}, {'A', "SELECT @@time_zone"}}},
	{"reset", {
		{'A', "SET time_zone = '+01:00'"}, {'A', "USE other"}, {'A', "INSERT INTO app.t (v) VALUES (1)"},
		{'B', "SELECT 1"}, {'A', RESET_CONNECTION}, {'A', "SELECT @@time_zone, DATABASE(), LAST_INSERT_ID()"},
		{'B', "SELECT @@time_zone, DATABASE()"}, {'A', "SET @x = 5"}, {'A', RESET_CONNECTION}, {'B', "SELECT @x"},
		{'A', "SELECT @x"}, {'A', "BEGIN"}, {'A', "INSERT INTO app.t (v) VALUES (1)"}, {'A', RESET_CONNECTION},
		{'B', "SELECT COUNT(*) FROM t"}, {'A', "SELECT COUNT(*) FROM app.t"}}},
	{"insert_id_of_an_insert_that_failed", {
		{'A', "INSERT INTO u (b) VALUES ('q')"}, {'A', "INSERT INTO u (b) VALUES ('m1'), ('q')"},
		{'B', "SELECT LAST_INSERT_ID()"}, {'A', "SELECT LAST_INSERT_ID()"}, {'B', "SELECT LAST_INSERT_ID()"}}},
	{"insert_id_behind_an_error", {
		{'A', "INSERT INTO u (b) VALUES ('q')"}, {'B', "SELECT 1"}, {'A', "SELECT nope"}, {'A', "SELECT LAST_INSERT_ID()"},
		{'B', "SELECT LAST_INSERT_ID()"}, {'A', "BEGIN"}, {'A', "INSERT INTO u (id, b) VALUES (70, 'own')"},
		{'A', "SELECT LAST_INSERT_ID()"}, {'A', "COMMIT"}, {'B', "SELECT LAST_INSERT_ID()"},
		{'A', "SELECT LAST_INSERT_ID()"}}},
	{"warnings_seen_by_immediate", {
		{'A', "SELECT CAST('secret' AS INT)"}, {'B', "EXECUTE IMMEDIATE 'SHOW WARNINGS'"}}},
	{"warnings_seen_by_a_procedure", {{'A', "SELECT CAST('secret' AS INT)"}, {'B', "CALL shows()"}}},
	{"warnings_seen_by_a_function", {{'A', "SELECT CAST('secret' AS INT)"}, {'B', "SELECT fw()"}}},
	{"isolation_and_next", {
		{'A', "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY"},
		{'A', "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED"}, {'A', "BEGIN"}, {'A', "COMMIT"},
		{'B', "SELECT @@tx_isolation, @@tx_read_only"}, {'A', "SELECT @@tx_isolation, @@tx_read_only"}}},
	{"set_by_a_function", {
		{'A', "SET sql_mode = fv()"}, {'A', "SELECT @leak, @@sql_mode"}, {'A', RESET_CONNECTION}, {'B', "SELECT @leak, @@sql_mode"}}},
	{"set_by_a_function_of_the_servers", {
		{'A', "SET sql_mode = CONCAT(@@sql_mode, ',ANSI_QUOTES')"}, {'B', "SELECT @@sql_mode"}, {'A', "SELECT @@sql_mode"}}},
	{"lastval_of_a_default", {{'A', "INSERT INTO tq (b) VALUES (1)"}, {'B', "SELECT LASTVAL(q)"}, {'B', RESET_CONNECTION}}},
	{"found_rows_first", {
		{'A', "SELECT seq FROM seq_1_to_7"}, {'B', "SELECT FOUND_ROWS() = 7"}, {'B', RESET_CONNECTION}}},
	{"row_count_first", {
		{'A', "INSERT INTO t (v) VALUES (1), (2), (3)"}, {'B', "SELECT ROW_COUNT() = 3"}, {'B', RESET_CONNECTION}}},
	{"no_rows_wanted", {
		{'A', "SET sql_select_limit = 0"}, {'A', "INSERT INTO t (v) VALUES (1)"}, {'B', "SELECT 1"},
		{'A', "SET sql_select_limit = DEFAULT"}, {'A', "SELECT LAST_INSERT_ID()"}, {'B', "SELECT LAST_INSERT_ID()"}}},
	{"results_in_utf16", {
		{'A', "SET character_set_results = 'utf16'"}, {'A', "INSERT INTO t (v) VALUES (1)"}, {'B', "SELECT 1"},
		{'A', "SET character_set_results = 'utf8mb4'"}, {'A', "SELECT LAST_INSERT_ID()"}}},
	{"dropped_schema", {
		{'A', "USE other"}, {'A', "DROP DATABASE other"}, {'A', "SELECT DATABASE()"}, {'B', "CREATE DATABASE other"},
		{'A', "USE other"}, {'A', "SELECT DATABASE()"}, {'B', "SELECT DATABASE()"}}},
};

static const struct script pinned[] = {
	{"next_transaction", {
		{'A', "SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED"}, {'B', "SELECT @@tx_isolation"},
		{'A', "BEGIN"}, {'A', "SELECT COUNT(*) FROM t"}, {'A', "COMMIT"}, {'A', "SELECT @@tx_isolation"},
		{'B', "SELECT @@tx_isolation"}}},
	{"warnings", {
		{'A', "INSERT IGNORE INTO small VALUES (1000)"}, {'B', "SHOW WARNINGS"}, {'A', "SHOW WARNINGS"},
		{'A', "SELECT @@warning_count"}, {'B', "SELECT 1"}, {'A', "SELECT COUNT(*) FROM small"}, {'B', "SHOW WARNINGS"},
		{'A', "SHOW WARNINGS"}, {'A', "SELECT nope"}, {'B', "SHOW ERRORS"}, {'A', "SHOW ERRORS"},
		{'A', "SHOW COUNT(*) ERRORS"}, {'B', "SHOW WARNINGS"}, {'C', "SHOW WARNINGS"}}},
	{"user_variables", {
		{'A', "SET @x = 1"}, {'B', "SELECT @x"}, {'A', "SELECT @x"}, {'B', "SELECT @y := 5"}, {'A', "SELECT @y, @x"},
		{'B', "SELECT @y"}, {'C', "SELECT 7 INTO @z"}, {'A', "SELECT @z"}, {'C', "SELECT @z"},
		{'A', RESET_CONNECTION}, {'A', "SELECT @x"}, {'B', RESET_CONNECTION}, {'B', "CALL sets_variable()"}, {'A', "SELECT @p"},
		{'B', "SELECT @p"}, {'A', "SELECT f()"}, {'B', "SELECT @f"}, {'A', "SELECT @f"}}},
	{"temporary_tables", {
		{'A', "CREATE TEMPORARY TABLE tt (a INT)"}, {'B', "SELECT * FROM tt"}, {'A', "INSERT INTO tt VALUES (1)"},
		{'B', "CREATE TEMPORARY TABLE tt (b CHAR(3))"}, {'A', "SELECT * FROM tt"}, {'B', "INSERT INTO tt VALUES ('abc')"},
		{'B', "SELECT * FROM tt"}, {'A', "DROP TEMPORARY TABLE tt"}, {'A', "SELECT * FROM tt"}, {'C', "CALL makes_table()"},
		{'A', "SELECT * FROM made"}, {'C', "SELECT * FROM made"}}},
	{"named_locks", {
		{'A', "SELECT GET_LOCK('l', 0)"}, {'B', "SELECT GET_LOCK('l', 0)"}, {'A', "SELECT RELEASE_LOCK('l')"},
		{'B', "SELECT GET_LOCK('l', 0)"}, {'A', "SELECT GET_LOCK('l', 0)"}, {'B', RESET_CONNECTION},
		{'A', "SELECT GET_LOCK('l', 0)"}, {'C', "SELECT IS_FREE_LOCK('l')"}}},
	{"table_locks", {
		{'A', "LOCK TABLES t READ"}, {'B', "SELECT COUNT(*) FROM t"}, {'A', "SELECT COUNT(*) FROM small"},
		{'A', "UNLOCK TABLES"}, {'B', "INSERT INTO t (v) VALUES (1)"}, {'A', "SELECT COUNT(*) FROM small"}}},
	{"handlers", {
		{'B', "INSERT INTO t (v) VALUES (1), (2)"}, {'A', "HANDLER t OPEN"}, {'B', "HANDLER t READ FIRST"},
		{'A', "HANDLER t READ FIRST"}, {'B', "SELECT 1"}, {'A', "HANDLER t READ NEXT"}, {'A', "HANDLER t CLOSE"}}},
	{"sql_prepared", {
		{'A', "PREPARE p FROM 'SELECT 1'"}, {'B', "EXECUTE p"}, {'A', "EXECUTE p"}, {'B', "PREPARE p FROM 'SELECT 2'"},
		{'A', "EXECUTE p"}, {'B', "EXECUTE p"}, {'A', "DEALLOCATE PREPARE p"}, {'A', "EXECUTE p"},
		{'A', "EXECUTE IMMEDIATE 'SET @e = 3'"}, {'B', "SELECT @e"}, {'A', "SELECT @e"}}},
	{"found_rows", {
		{'B', "INSERT INTO t (v) VALUES (1), (2), (3)"}, {'A', "SELECT SQL_CALC_FOUND_ROWS id FROM t LIMIT 1"},
		{'B', "SELECT 1"}, {'A', "SELECT FOUND_ROWS()"}, {'A', "SELECT v FROM t"}, {'B', "SELECT 5"}}},
	{"sequences", {
		{'A', "SELECT NEXTVAL(q)"}, {'B', "SELECT LASTVAL(q)"}, {'A', "SELECT LASTVAL(q)"}, {'B', "SELECT NEXT VALUE FOR q"},
		{'A', "SELECT LASTVAL(q)"}, {'B', "SELECT LASTVAL(q)"}, {'C', "SELECT PREVIOUS VALUE FOR q"}}},
	{"trackers", {
		{'A', "SET session_track_system_variables = ''"}, {'A', "SET time_zone = '+02:00'"}, {'B', "SELECT @@time_zone"},
		{'A', "SELECT @@time_zone"}, {'A', RESET_CONNECTION}, {'A', "SELECT @@time_zone"}, {'A', "SET time_zone = '+03:00'"},
		{'B', "SELECT @@time_zone"}, {'A', "SELECT @@time_zone"}}},
	{"isolation_with_next", {
		{'A', "SET SESSION tx_isolation = 'READ-UNCOMMITTED', @@tx_read_only = 1"}, {'A', "BEGIN"}, {'A', "COMMIT"},
		{'B', "SELECT @@tx_isolation"}, {'A', "SELECT @@tx_isolation, @@tx_read_only"}}},
	{"untold", {
		{'A', "SET @@foreign_key_checks = 0"}, {'B', "SELECT @@foreign_key_checks"}, {'A', "SELECT @@foreign_key_checks"},
		{'B', "SET time_zone = '+04:00', @@`default_week_format` = 3"}, {'C', "SELECT @@time_zone, @@default_week_format"},
		{'B', "SELECT @@time_zone, @@default_week_format"}, {'A', RESET_CONNECTION}, {'B', RESET_CONNECTION},
		{'C', "SELECT @@foreign_key_checks"}, {'A', "SET @@autocommit := 0"}, {'B', "SELECT @@autocommit"},
		{'A', "INSERT INTO t (v) VALUES (1)"}, {'A', "COMMIT"}, {'B', "INSERT INTO t (v) VALUES (2)"},
		{'C', "SELECT v FROM t"}, {'A', "SELECT @@autocommit"}}},
	{"set_statement_and_set", {
		{'A', "SET STATEMENT max_statement_time = 9 FOR SELECT 1; SET time_zone = '+06:00'"}, {'B', "SELECT @@time_zone"},
		{'C', "SELECT @@time_zone"}, {'A', "SELECT @@time_zone"}}},
	{"procedures", {
		{'A', "CALL sets_mode()"}, {'B', "SELECT @@sql_mode"}, {'A', "SELECT @@sql_mode"}, {'A', "CALL two()"}}},
	{"timestamp", {
		{'A', "SET timestamp = 1000000000"}, {'B', "SELECT NOW() < '2020-01-01'"}, {'A', "SELECT NOW()"},
		{'C', "SET insert_id = 70"}, {'B', "INSERT INTO t (v) VALUES (1)"}, {'C', "INSERT INTO t (v) VALUES (2)"},
		{'C', "SELECT id, v FROM t"}}},
};

START_TEST(what_is_given_to_the_next_server) {
	compare(shared, sizeof shared / sizeof shared[0], 1, WORKERS(_i));
}
END_TEST

START_TEST(what_pins_a_client_to_its_server) {
	compare(pinned, sizeof pinned / sizeof pinned[0], 3, WORKERS(_i));
}
END_TEST

START_TEST(init_sql_holds_for_every_client) {
	struct forebay_setup setup = {.workers = WORKERS(_i),
				      .pool = "max_size = 1\nacquire_timeout = 4s\n"
					      "init_sql = SET time_zone = '+02:00', sql_mode = 'ANSI_QUOTES'\n"};
	struct forebay *forebay = maria_forebay(&setup);
	MYSQL *a = maria_connect(forebay, NULL), *b = maria_connect(forebay, NULL);
	maria_expect(a, "SELECT @@time_zone", "+02:00");
	maria_execute(a, "SET time_zone = '+05:00'");
	maria_expect(b, "SELECT @@time_zone", "+02:00");
	maria_expect(a, "SELECT @@time_zone", "+05:00");
	maria_expect(b, "SELECT @@sql_mode", "ANSI_QUOTES");
	maria_execute(a, "SET @x = 1"); /* so that the server is reset behind it */
	mysql_close(a);
	maria_expect(b, "SELECT @@time_zone", "+02:00");
	maria_expect(b, "SELECT @@sql_mode", "ANSI_QUOTES");
	ck_assert_int_eq(mysql_reset_connection(b), 0);
	maria_expect(b, "SELECT @@time_zone", "+02:00");
	mysql_close(b);
	forebay_stop(forebay);
}
END_TEST

START_TEST(a_client_without_a_schema_sees_none) {
	struct forebay_setup setup = {.workers = WORKERS(_i), .pool = "max_size = 1\nacquire_timeout = 10s\n"};
	struct forebay *forebay = maria_forebay(&setup);
	struct maria_login none = {.database = ""};
	MYSQL *a = maria_connect(forebay, NULL), *b = maria_connect(forebay, &none);
	for (int i = 0; i < 3; i++) {
		maria_expect(a, "SELECT DATABASE()", "app");
		maria_expect(b, "SELECT DATABASE()", "NULL");
		maria_expect_error(b, "SELECT * FROM t", 1046);
	}
	maria_execute(b, "USE app");
	maria_expect(a, "SELECT DATABASE()", "app");
	maria_expect(b, "SELECT DATABASE()", "app");
	mysql_close(a);
	mysql_close(b);
	forebay_stop(forebay);
}
END_TEST

START_TEST(a_schema_that_is_not_there_is_no_session) {
	struct forebay_setup setup = {.pool = "max_size = 1\nacquire_timeout = 10s\n"};
	struct forebay *forebay = maria_forebay(&setup);
	struct maria_login nowhere = {.database = "nowhere"};
	MYSQL *a = maria_connect(forebay, NULL), *b = maria_try(forebay, &nowhere);
	if (mysql_errno(b) == 0) {
		ck_assert_int_ne(mysql_query(b, "SELECT 1"), 0);
		ck_assert_msg(mysql_errno(b) == 1049 || mysql_errno(b) == 1044, "%u %s", mysql_errno(b), mysql_error(b));
		ck_assert_int_ne(mysql_query(b, "SELECT 1"), 0);
	}
	maria_expect(a, "SELECT DATABASE()", "app");
	mysql_close(a);
	mysql_close(b);
	forebay_stop(forebay);
}
END_TEST

/* What is asked stands further behind than what is read before the statement goes on. */
START_TEST(a_long_statement_is_not_told_of_anothers_rows) {
	struct forebay_setup setup = {.workers = WORKERS(_i), .pool = "max_size = 1\nacquire_timeout = 10s\n"};
	struct forebay *forebay = maria_forebay(&setup);
	MYSQL *a = maria_connect(forebay, NULL), *b = maria_connect(forebay, NULL);
	enum { LONG = 100000 };
	char *sql = malloc(LONG + 100);
	ck_assert_ptr_nonnull(sql);
	memset(sql, ' ', LONG);
	memcpy(sql, "SELECT", 6);
	strcpy(sql + LONG, "FOUND_ROWS() = 7 OR ROW_COUNT() = 3");
	maria_execute(a, "CREATE OR REPLACE TABLE app.three (a INT)");
	maria_expect(a, "SELECT COUNT(*) FROM (SELECT seq FROM seq_1_to_7) s", "7");
	for (int i = 0; i < 2; i++) {
		const char *before = i ? "SELECT seq FROM seq_1_to_7" : "INSERT INTO app.three VALUES (1), (2), (3)";
		ck_assert_msg(mysql_query(a, before) == 0, "%s: %u %s", before, mysql_errno(a), mysql_error(a));
		mysql_free_result(mysql_store_result(a));
		maria_expect(b, sql, "0");
		ck_assert_int_eq(mysql_reset_connection(b), 0); /* who asks for them keeps the server */
	}
	maria_execute(a, "DROP TABLE app.three");
	free(sql);
	mysql_close(a);
	mysql_close(b);
	forebay_stop(forebay);
}
END_TEST

/* USE is not told where the client has said so, and a reset leaves the schema as it is. */
START_TEST(a_schema_that_was_not_told_stays_with_its_client) {
	struct forebay_setup setup = {.workers = WORKERS(_i), .pool = "max_size = 1\nacquire_timeout = 10s\n"};
	struct forebay *forebay = maria_forebay(&setup);
	for (int reset = 0; reset < 2; reset++) {
		MYSQL *a = maria_connect(forebay, NULL), *b = maria_connect(forebay, NULL);
		maria_execute(a, "SET session_track_schema = OFF");
		maria_execute(a, "USE other");
		if (reset)
			ck_assert_int_eq(mysql_reset_connection(a), 0);
		maria_expect(a, "SELECT DATABASE()", "other");
		mysql_close(a);
		maria_expect(b, "SELECT DATABASE()", "app");
		mysql_close(b);
	}
	forebay_stop(forebay);
}
END_TEST

/* With one server, the other client gets it only when the pin has ended. */
START_TEST(a_pin_ends_with_its_cause) {
	static const char *const causes[][2] = {
		{"LOCK TABLES app.t READ", "UNLOCK TABLES"},
		{"FLUSH TABLES WITH READ LOCK", "UNLOCK TABLES"},
		{"CREATE TEMPORARY TABLE app.z (a INT)", "DROP TEMPORARY TABLE app.z"},
		{"PREPARE p FROM 'SELECT 1'", "DEALLOCATE PREPARE p"},
		{"HANDLER app.t OPEN", "HANDLER t CLOSE"},
		{"SELECT SQL_CALC_FOUND_ROWS 1", "SELECT 2"},
		{"SET TRANSACTION READ ONLY", "BEGIN; COMMIT"},
		{"SELECT GET_LOCK('pin', 0)", RESET_CONNECTION},
		{"SET @pin = 1", RESET_CONNECTION},
	};
	struct forebay_setup setup = {.workers = WORKERS(_i), .pool = "max_size = 1\nacquire_timeout = 400ms\n"};
	struct forebay *forebay = maria_forebay(&setup);
	MYSQL *root = maria_control();
	struct maria_login login = {.flags = CLIENT_MULTI_STATEMENTS};
	maria_execute(root, "GRANT RELOAD ON *.* TO app@'%%'");
	make_routines(root);
	MYSQL *a = maria_connect(forebay, &login), *b = maria_connect(forebay, NULL);
	for (size_t i = 0; i < sizeof causes / sizeof causes[0]; i++) {
		maria_execute(a, "%s", causes[i][0]);
		ck_assert_msg(mysql_query(b, "SELECT 1") != 0 && mysql_errno(b) == 1040, "%s does not pin", causes[i][0]);
		if (*causes[i][1] == *RESET_CONNECTION)
			ck_assert_int_eq(mysql_reset_connection(a), 0);
		else
			maria_execute(a, "%s", causes[i][1]);
		ck_assert_msg(mysql_query(b, "SELECT 1") == 0, "%s: still pinned: %s", causes[i][0], mysql_error(b));
		mysql_free_result(mysql_store_result(b));
	}
	mysql_close(a);
	mysql_close(b);
	mysql_close(root);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	maria_begin(NULL);
	Suite *suite = suite_create("mysql sessions");
	TCase *given = tcase_create("given"), *pins = tcase_create("pinned");
	LOOP(given, what_is_given_to_the_next_server);
	LOOP(pins, what_pins_a_client_to_its_server);
	LOOP(given, init_sql_holds_for_every_client);
	LOOP(given, a_client_without_a_schema_sees_none);
	tcase_add_test(given, a_schema_that_is_not_there_is_no_session);
	LOOP(pins, a_pin_ends_with_its_cause);
	LOOP(pins, a_schema_that_was_not_told_stays_with_its_client);
	LOOP(pins, a_long_statement_is_not_told_of_anothers_rows);
	suite_add_tcase(suite, given);
	suite_add_tcase(suite, pins);
	return harness_run(suite);
}
