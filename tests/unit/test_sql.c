/* What the lexer finds in statements of MySQL and MariaDB, however they are written and wherever they are cut. */
#include <check.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mysql/sql.h"

#define ALL_READINGS 16

static char names_of[1024];

/* The names of hints, in the order of their bits. */
static const char *hints_of(uint64_t hints) {
	names_of[0] = 0;
	for (int i = 0; i < 64; i++) {
		if (!(hints >> i & 1))
			continue;
		const char *name = sql_hint_name(1ULL << i);
		ck_assert_ptr_nonnull(name);
		strcat(names_of, names_of[0] ? " " : "");
		strcat(names_of, name);
	}
	return names_of;
}

static uint64_t look(const char *sql, unsigned reading) {
	return sql_look(sql, strlen(sql), reading, SQL_CHARSET_PLAIN).hints;
}

#define EXPECT_READ(sql, reading, expected)                                                                            \
	ck_assert_msg(!strcmp(hints_of(look(sql, reading)), expected), "%s: is \"%s\", expected \"%s\"", sql,           \
		      hints_of(look(sql, reading)), expected)
#define EXPECT(sql, expected) EXPECT_READ(sql, SQL_MULTI_STATEMENTS, expected)

struct example {
	const char *sql, *hints;
};

/* One statement each, with all it hints at. */
static const struct example statements[] = {
	{"SELECT c FROM sbtest1 WHERE id=12345", ""},
	{"INSERT INTO t (a, b) VALUES (1, 'x'), (2, \"y\") ON DUPLICATE KEY UPDATE a = VALUES(a)", ""},
	{"UPDATE t SET a = a + 1 WHERE id = 5", ""},
	{"DELETE FROM t WHERE b IN (SELECT id FROM u)", ""},
	{"(SELECT 1) UNION (SELECT 2)", ""},
	{"WITH a AS (SELECT 1) SELECT * FROM a", ""},
	{"SELECT IF(a, b, c), CASE a WHEN 1 THEN 2 ELSE 3 END, REPEAT('x', 3) FROM t FOR UPDATE", ""},
	{"CREATE TABLE t (id INT PRIMARY KEY, begin INT, end INT)", ""},
	{"SHOW TABLES", ""},
	{"EXPLAIN SELECT 1", ""},
	{"", ""},
	{" ; ;", ""},
	{"-- nothing\n", ""},

	{"SELECT GET_LOCK('a', 1)", "get_lock"},
	{"DO get_lock('a', 1)", "get_lock"},
	{"SELECT RELEASE_LOCK('a')", "release_lock"},
	{"SELECT RELEASE_ALL_LOCKS()", "release_lock release_all_locks"},
	{"SELECT IS_USED_LOCK('a'), IS_FREE_LOCK('b')", "is_used_lock"},
	{"SELECT service_get_write_locks('n', 'a', 1)", "get_lock"},
	{"SELECT service_release_locks('n')", "release_lock"},
	{"LOCK TABLES t WRITE", "lock_tables"},
	{"LOCK TABLE t READ", "lock_tables"},
	{"LOCK INSTANCE FOR BACKUP", "lock_tables"},
	{"BACKUP STAGE START", "lock_tables"},
	{"BACKUP STAGE END", "lock_tables unlock_tables"},
	{"BACKUP UNLOCK", "lock_tables unlock_tables"},
	{"UNLOCK TABLES", "unlock_tables"},
	{"FLUSH TABLES WITH READ LOCK", "flush_lock"},
	{"FLUSH TABLES a, b FOR EXPORT", "flush_lock"},
	{"FLUSH TABLES", ""},
	{"FLUSH LOCAL HOSTS", ""},
	{"HANDLER t OPEN AS h", "handler handler_open"},
	{"HANDLER t READ FIRST", "handler"},
	{"HANDLER t CLOSE", "handler handler_close"},
	{"SELECT handler, kill_count FROM t", ""},

	{"SELECT SQL_CALC_FOUND_ROWS * FROM t LIMIT 1", "calc_found_rows"},
	{"SELECT FOUND_ROWS()", "found_rows"},
	{"SELECT ROW_COUNT()", "row_count"},
	{"SELECT LAST_INSERT_ID()", "last_insert_id"},
	{"SELECT LAST_INSERT_ID ( )", "last_insert_id"},
	{"SELECT @@last_insert_id, @@identity", "last_insert_id"},
	{"UPDATE s SET n = LAST_INSERT_ID(n + 1)", "last_insert_id set_last_insert_id"},
	{"SET last_insert_id = 5", "set last_insert_id set_last_insert_id"},
	{"SET @@session.insert_id := 5", "set last_insert_id set_last_insert_id set_scoped"},
	{"SET @a = LAST_INSERT_ID()", "set last_insert_id read_user_variable user_variable set_calls"},
	{"INSERT INTO t VALUES (1) RETURNING id", "returning"},

	{"SELECT @a", "read_user_variable"},
	{"SELECT @a := 1", "read_user_variable user_variable"},
	{"SELECT @`a b`:=1", "read_user_variable user_variable"},
	{"SELECT 1 INTO @a", "read_user_variable user_variable"},
	{"SELECT 1INTO@a", "read_user_variable user_variable"},
	{"SELECT 1.5INTO@a", "read_user_variable user_variable"},
	{"SELECT 1e1INTO@a", "read_user_variable user_variable"},
	{"SELECT 1e+1INTO@a", "read_user_variable user_variable"},
	{"SELECT 'x'INTO@'a'", "read_user_variable user_variable"},
	{"INSERT INTO t VALUES (@a)", "read_user_variable"},
	{"SET @a = 1", "set read_user_variable user_variable"},
	{"SET sort_buffer_size = 1, @a = 1", "set read_user_variable user_variable"},
	{"SET sort_buffer_size = @a", "set read_user_variable"},
	{"CALL p(@out)", "call read_user_variable user_variable"},
	{"LOAD DATA INFILE 'x' INTO TABLE t (a, @b)", "read_user_variable user_variable load"},
	{"GET DIAGNOSTICS @n = NUMBER", "read_user_variable user_variable diagnostics"},
	{"CREATE USER 'a'@'%' IDENTIFIED BY 'x'", "read_user_variable"},
	{"SELECT @get_lock, @'get_lock(', @`found_rows`, @a.kill", "read_user_variable"},

	{"SELECT NEXTVAL(s)", "sequence"},
	{"SELECT NEXT VALUE FOR s", "sequence"},
	{"SELECT SETVAL(s, 5)", "sequence"},
	{"SELECT s.nextval", "sequence"},
	{"SELECT LASTVAL(s)", "sequence_last"},
	{"SELECT PREVIOUS VALUE FOR s", "sequence_last"},
	{"SELECT next, value, previous FROM t", ""},

	{"PREPARE s FROM 'SELECT 1'", "prepare"},
	{"EXECUTE s USING @a", "execute read_user_variable"},
	{"EXECUTE IMMEDIATE 'SET @a = 1'", "execute execute_immediate"},
	{"DEALLOCATE PREPARE s", "deallocate"},
	{"DROP PREPARE s", "deallocate"},
	{"CREATE TEMPORARY TABLE t (a INT)", "temporary_table"},
	{"CREATE OR REPLACE TEMPORARY TABLE t (a INT)", "temporary_table"},
	{"DROP TEMPORARY TABLE t", "drop_table"},
	{"DROP TABLE IF EXISTS t", "drop_table"},
	{"DROP INDEX i ON t", ""},
	{"BINLOG 'abc'", "binlog"},

	{"SET SESSION session_track_schema = OFF", "set session_track set_scoped"},
	{"SELECT @@session_track_system_variables", "session_track"},
	{"SHOW WARNINGS", "diagnostics"},
	{"SHOW COUNT(*) ERRORS", "diagnostics"},
	{"SELECT @@warning_count, @@error_count", "diagnostics"},
	{"SHOW SESSION VARIABLES LIKE 'a'", "show_variables"},
	{"SELECT * FROM information_schema.session_variables", "show_variables"},
	{"SHOW PROFILE FOR QUERY 1", "show_profile"},
	{"SELECT warnings, errors, variables FROM t", ""},
	{"SELECT CONNECTION_ID(), @@pseudo_thread_id", "connection_id"},

	{"SET autocommit = 0", "set"},
	{"SET NAMES utf8mb4", "set set_names"},
	{"SET CHARACTER SET latin1", "set set_names"},
	{"SET CHARSET latin1", "set set_names"},
	{"SET PASSWORD = 'x'", "set set_password"},
	{"SET ROLE r", "set set_role"},
	{"SET STATEMENT max_statement_time = 1 FOR SELECT 1", "set set_statement"},
	{"SET STATEMENT max_statement_time = 1 FOR CALL p()", "set set_statement call set_calls"},
	{"SET TRANSACTION READ ONLY", "set set_transaction"},
	{"SET SESSION TRANSACTION READ ONLY", "set set_scoped"},
	{"SET LOCAL TRANSACTION READ ONLY", "set set_scoped"},
	{"SET tx_isolation = 'SERIALIZABLE'", "set set_transaction"},
	{"SET @@transaction_isolation = 'SERIALIZABLE'", "set set_transaction"},
	{"SET @@session.transaction_isolation = 'SERIALIZABLE'", "set set_scoped"},
	{"SET SESSION tx_read_only = 1", "set set_scoped"},

	{"USE shop", "use"},
	{"BEGIN", "begin"},
	{"BEGIN WORK", "begin"},
	{"START TRANSACTION WITH CONSISTENT SNAPSHOT", "begin"},
	{"START SLAVE", ""},
	{"COMMIT AND CHAIN", "commit"},
	{"ROLLBACK TO SAVEPOINT s", "rollback"},
	{"SAVEPOINT s", "savepoint"},
	{"RELEASE SAVEPOINT s", "savepoint"},
	{"XA START 'x'", "xa"},
	{"CALL p()", "call"},
	{"LOAD DATA LOCAL INFILE 'x' INTO TABLE t", "load_local load"},
	{"LOAD DATA CONCURRENT LOCAL INFILE 'x' INTO TABLE t", "load_local load"},
	{"LOAD XML LOCAL INFILE 'x' INTO TABLE t", "load_local load"},
	{"LOAD DATA INFILE 'local' INTO TABLE t", "load"},

	/* Words of key words' letters that are none, in names, strings and comments. */
	{"SELECT 'GET_LOCK(', \"kill 5; set @a:=1\", 'it''s kill', 'a\\'kill 5; get_lock(1)'", ""},
	{"SELECT my_get_lock(1), get_lock2(1), xget_lock, get_lock$ FROM t", ""},
	{"SELECT 1 /* GET_LOCK( @a := 1 */ -- kill 5\n # set @a\n", ""},
	{"SELECT `kill`, `returning`, `set`, t.kill FROM `lock` WHERE `temporary` = 1", ""},
	{"SELECT killed, killer FROM kills", ""},
};

START_TEST(each_statement_hints_at_what_it_does) {
	const struct example *e = &statements[_i];
	EXPECT(e->sql, e->hints);
}
END_TEST

static uint64_t look_at(const char *sql, size_t len) {
	return sql_look(sql, len, SQL_MULTI_STATEMENTS, SQL_CHARSET_PLAIN).hints;
}

/* Each kind of white space that may stand between two words or signs. */
START_TEST(spaces_comments_and_case_hide_nothing) {
	static const char *const spaces[] = {"\t",     "\r\n", " \f\v ", "/**/",	"/* ' \" ` */", "/* /* */", "-- ' \n",
					     "--\t\n", "#\"\n", "\n# `\r\n", "/*!99999 */", "/*!*/",	   "/*M! */",  "/*!50101*/"};
	const char *sql = statements[_i].sql;
	uint64_t hints = look_at(sql, strlen(sql));
	for (size_t s = 0; s < sizeof spaces / sizeof *spaces; s++) {
		char spaced[2048] = "";
		char quote = 0;
		size_t n = 0;
		for (const char *c = sql; *c; c++) {
			if (*c == '\\') {
				spaced[n++] = *c++;
				spaced[n++] = *c;
				continue;
			}
			if (!quote && strchr("'\"`", *c))
				quote = *c;
			else if (quote == *c)
				quote = 0;
			if (!quote && *c == ' ')
				n += (size_t)sprintf(spaced + n, "%s", spaces[s]);
			else
				spaced[n++] = quote ? *c : (char)(s % 2 ? tolower(*c) : toupper(*c));
		}
		/* A comment in the text makes others of these its own text. */
		if (strstr(sql, "/*") || strstr(sql, "--"))
			continue;
		ck_assert_msg((look_at(spaced, n) & hints) == hints, "%s: %s", spaced, hints_of(look_at(spaced, n)));
	}
}
END_TEST

START_TEST(behind_other_statements_it_is_seen_as_well) {
	static const char *const before[] = {"SELECT 1;",	  "SELECT 'a''b';",	"/*!40101 SELECT 1 */;", "SET a = 1 ; ",
					     "SELECT \"a\\\"b\";", "SELECT 1 -- ;'\n;", ";;/* x */;",		 "CALL p();"};
	const char *sql = statements[_i].sql;
	uint64_t hints = look_at(sql, strlen(sql));
	for (size_t b = 0; b < sizeof before / sizeof *before; b++) {
		char text[2048];
		size_t n = (size_t)snprintf(text, sizeof text, "%s%s", before[b], sql);
		ck_assert_msg((look_at(text, n) & hints) == hints, "%s: %s", text, hints_of(look_at(text, n)));
		n = (size_t)snprintf(text, sizeof text, "%s\n;SELECT 1", sql);
		ck_assert_msg((look_at(text, n) & hints) == hints, "%s: %s", text, hints_of(look_at(text, n)));
	}
}
END_TEST

/* Executed or not, what is in an executable comment is seen, and so is what is around it. */
START_TEST(in_executable_comments_it_is_seen_as_well) {
	static const char *const forms[][2] = {
		{"/*!", "*/"},
		{"/*! ", " */"},
		{"/*!40101 ", " */"},
		{"/*!100100", "*/"},
		{"/*M!", "*/"},
		{"/*M!100201 ", " */;"},
		{"/*!99999 SELECT 1 */ ", ""},
		{"/*!99999 SELECT ' */ ", ""},
		{"/*! ; */ ", ""},
		{"/*!99999 # */ ", ""},
		{"/*!99999 /* */ */ ", ""},
	};
	const char *sql = statements[_i].sql;
	uint64_t hints = look_at(sql, strlen(sql));
	if (strstr(sql, "--") || strstr(sql, "/*"))
		return;
	for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
		char text[2048];
		size_t n = (size_t)snprintf(text, sizeof text, "%s%s%s", forms[f][0], sql, forms[f][1]);
		ck_assert_msg((look_at(text, n) & hints) == hints, "%s: without %s", text, hints_of(hints & ~look_at(text, n)));
	}
}
END_TEST

START_TEST(executable_comments_in_the_middle) {
	EXPECT("SET /*!50000 @a = */ 1", "set read_user_variable user_variable");
	EXPECT("SET /*!99999 x */ TRANSACTION READ ONLY", "set set_transaction");
	EXPECT("CREATE /*!32302 TEMPORARY */ TABLE t (a INT)", "temporary_table");
	EXPECT("SELECT /*!50000 GET_LOCK('*/', 1) */", "get_lock blind");
	EXPECT("SELECT LAST_INSERT_ID /*!99999 ) */ (5)", "last_insert_id set_last_insert_id");
	EXPECT("/*!50003 CREATE*/ /*!50017 DEFINER=`a`@`b`*/ /*!50003 TRIGGER t BEFORE INSERT ON u FOR EACH ROW SET NEW.a = 1 */",
	       "read_user_variable");
	/* Not executed, it ends at the first mark; the string then is none. */
	EXPECT("SELECT 1 /*!99999 ' */, GET_LOCK('a', 1) /* ' */", "get_lock blind");
	EXPECT("SELECT 1 /*!99999 -- */, GET_LOCK('a', 1)", "get_lock blind");
	/* What is balanced needs no doubt. */
	EXPECT("/*!40103 SET TIME_ZONE='+00:00' */", "set");
	EXPECT("SELECT /*+ MAX_EXECUTION_TIME(1000) SET_VAR(sql_mode='') */ 1", "");
}
END_TEST

START_TEST(functions_may_be_quoted) {
	EXPECT("SELECT `get_lock`('a', 1), `LAST_INSERT_ID`(5), `FOUND_ROWS`()",
	       "get_lock found_rows last_insert_id set_last_insert_id");
	EXPECT("SET @@session.`session_track_schema` = 0, @@`tx_isolation` = ''",
	       "set set_transaction session_track set_untold set_scoped");
	EXPECT("SET @@sql_mode = '', time_zone = @@time_zone", "set set_untold");
	EXPECT("SET @old = @@sql_mode, sql_mode = CONCAT('a', @@sql_mode)", "set read_user_variable user_variable");
	/* what somebody may have stored can do anything; of the server's own some are known to do nothing */
	EXPECT("SET sql_mode = concat(@@sql_mode, UPPER('x'), (1))", "set");
	EXPECT("SET sql_mode = f()", "set set_calls");
	EXPECT("SET sql_mode = `concat`()", "set set_calls");
	EXPECT("SET sql_mode = app.concat('x')", "set set_calls");
	EXPECT("SET sql_mode = \xd1\x84\xd1\x83\xd0\xbd()", "set set_calls");
	EXPECT("SET sql_mode = IF\xc3\xa9()", "set set_calls");
	EXPECT("SET sql_mode = \xc3\xa9" "IF()", "set set_calls");
	EXPECT("SET sql_mode = '\xc3\xa9', time_zone = CONCAT('x', '')", "set");
	EXPECT("SET sql_mode = `a_name_of_sixty_four_letters_which_is_as_long_as_a_name_may_be_ab`()", "set set_calls");
	EXPECT("SET sql_mode = (SELECT a FROM v)", "set set_calls");
	EXPECT("SET sql_mode = CONCAT('x', f ('y'))", "set set_calls");
	EXPECT("SELECT \"get_lock\"", "");
	EXPECT_READ("SELECT \"get_lock\"('a', 1)", SQL_ANSI_QUOTES, "get_lock");
	EXPECT_READ("SELECT \"get_lock\"('a', 1)", SQL_MODE_UNKNOWN, "get_lock");
	/* A name is not a string of words. */
	EXPECT("SELECT ` get_lock`, `get_lock `, `a get_lock`", "");
}
END_TEST

START_TEST(quotes_are_read_as_the_session_does) {
	EXPECT("SELECT 'a\\', GET_LOCK(1, 2), '", "");
	EXPECT_READ("SELECT 'a\\', GET_LOCK(1, 2), '", SQL_NO_BACKSLASH_ESCAPES, "get_lock");
	EXPECT("SELECT 'a\\', GET_LOCK(1, 2), '\\'", "");
	EXPECT_READ("SELECT \"a\\\", GET_LOCK(1, 2), \"\"", SQL_ANSI_QUOTES, "get_lock");
	EXPECT("SELECT `a\\`, GET_LOCK(1, 2)", "get_lock");
	EXPECT_READ("SELECT 'a\\', GET_LOCK(1, 2), '", SQL_MODE_UNKNOWN, "get_lock blind");
	EXPECT_READ("SELECT 'get_lock', 'it is'", SQL_MODE_UNKNOWN, "");
	EXPECT("SELECT 'a''', 'GET_LOCK('", "");
	EXPECT("SELECT '''', GET_LOCK(1, 1)", "get_lock");
	EXPECT("SELECT '\\\\', GET_LOCK(1, 1)", "get_lock");
}
END_TEST

/* A statement may change how those behind it are read. */
START_TEST(what_an_earlier_statement_may_have_changed_is_not_trusted) {
	EXPECT("SET sql_mode = 'NO_BACKSLASH_ESCAPES'; SELECT 'a\\', GET_LOCK(1, 1)", "set get_lock several_statements blind");
	EXPECT("SET NAMES gbk; SELECT '\xbf\\', GET_LOCK(1, 1), '\\''", "set set_names get_lock several_statements blind");
	EXPECT("CALL p(); SELECT 'a\\', GET_LOCK(1, 1)", "call get_lock several_statements blind");
	EXPECT("SET autocommit = 1; SELECT 'a\\', GET_LOCK(1, 1)'", "set several_statements");
	EXPECT("SET NAMES utf8; SELECT 'it is'", "set set_names several_statements");
	EXPECT("SELECT 'a\\', GET_LOCK(1, 1)'; SET sql_mode = ''", "set several_statements");
}
END_TEST

static uint64_t look_charset(const char *sql, enum sql_charset charset) {
	return sql_look(sql, strlen(sql), SQL_MULTI_STATEMENTS, charset).hints;
}

START_TEST(characters_of_two_bytes_may_hold_a_backslash) {
	/* 0x95 0x5c is one character in Shift-JIS, 0xbf 0x5c in GBK, 0xa1 0x5c in Big5. */
	static const struct {
		const char *sql;
		enum sql_charset charset;
	} whole[] = {{"SELECT '\x95\\', GET_LOCK(1, 1), '", SQL_CHARSET_SJIS},
		     {"SELECT '\xbf\\', GET_LOCK(1, 1), '", SQL_CHARSET_GBK},
		     {"SELECT '\xbf\\', GET_LOCK(1, 1), '", SQL_CHARSET_GB18030},
		     {"SELECT '\xa1\\', GET_LOCK(1, 1), '", SQL_CHARSET_BIG5},
		     {"SELECT `\xa1``, GET_LOCK(1, 1)", SQL_CHARSET_BIG5}};
	for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
		ck_assert_uint_eq(look_charset(whole[i].sql, whole[i].charset), SQL_GET_LOCK);
		ck_assert_uint_eq(look_charset(whole[i].sql, SQL_CHARSET_PLAIN), 0);
		ck_assert(look_charset(whole[i].sql, SQL_CHARSET_UNKNOWN) & SQL_GET_LOCK);
	}
	/* A character of one byte and a backslash. */
	ck_assert_uint_eq(look_charset("SELECT '\xb1\\', GET_LOCK(1, 1), '", SQL_CHARSET_SJIS), 0);
	/* Four bytes of GB18030. */
	ck_assert_uint_eq(look_charset("SELECT '\x81\x30\x81\x30\\', GET_LOCK(1, 1), '", SQL_CHARSET_GB18030), 0);
	ck_assert_uint_eq(look_charset("SELECT '\xbf'", SQL_CHARSET_UNKNOWN), 0);
}
END_TEST

START_TEST(charsets_have_names) {
	ck_assert_int_eq(sql_charset_by_name("gbk", 3), SQL_CHARSET_GBK);
	ck_assert_int_eq(sql_charset_by_name("CP932", 5), SQL_CHARSET_SJIS);
	ck_assert_int_eq(sql_charset_by_name("sjis", 4), SQL_CHARSET_SJIS);
	ck_assert_int_eq(sql_charset_by_name("big5", 4), SQL_CHARSET_BIG5);
	ck_assert_int_eq(sql_charset_by_name("gb18030", 7), SQL_CHARSET_GB18030);
	ck_assert_int_eq(sql_charset_by_name("utf8mb4", 7), SQL_CHARSET_PLAIN);
	ck_assert_int_eq(sql_charset_by_name("gb", 2), SQL_CHARSET_PLAIN);
	ck_assert_int_eq(sql_charset_by_name("", 0), SQL_CHARSET_PLAIN);
}
END_TEST

START_TEST(other_alphabets_hide_no_word) {
	/* 0xa0 is white space in latin1. */
	EXPECT("SELECT\xa0GET_LOCK('a', 1)", "get_lock");
	EXPECT("\xa0KILL\xa0" "5", "kill");
	EXPECT("\xef\xbb\xbfSET @a = 1", "set read_user_variable user_variable");
	EXPECT("SELECT 1 --\xa0' \n, GET_LOCK('a', 1) -- '", "get_lock blind");
	EXPECT("SELECT größe, LAST_INSERT_ID(é) FROM maße", "last_insert_id set_last_insert_id");
}
END_TEST

static void expect_locks(const char *sql, unsigned reading, unsigned got, unsigned released) {
	struct sql_text text = sql_look(sql, strlen(sql), reading, SQL_CHARSET_PLAIN);
	ck_assert_msg(text.get_locks == got && text.release_locks == released, "%s: %u and %u", sql, text.get_locks,
		      text.release_locks);
}

START_TEST(locks_are_counted) {
	expect_locks("SELECT 1", 0, 0, 0);
	expect_locks("SELECT GET_LOCK('get_lock', 1), `get_lock`('b', 1), RELEASE_LOCK('a') /* RELEASE_LOCK */", 0, 2, 1);
	expect_locks("SELECT service_get_read_locks('n', 'a', 'b', 1)", 0, 255, 0);
	expect_locks("DO RELEASE_ALL_LOCKS()", 0, 0, 0);
	expect_locks("SELECT GET_LOCK('a\\', 1)", SQL_MODE_UNKNOWN, 255, 255);
	expect_locks("CREATE FUNCTION f() RETURNS INT RETURN GET_LOCK('a', 1)", 0, 0, 0);
	char many[300 * 12 + 1] = "";
	for (int i = 0; i < 300; i++)
		memcpy(many + i * 12, "GET_LOCK(1),", 13);
	expect_locks(many, 0, 255, 0);
}
END_TEST

START_TEST(compound_statements) {
	EXPECT("BEGIN NOT ATOMIC SELECT GET_LOCK('a', 1); END", "begin compound_statement get_lock several_statements");
	EXPECT("BEGIN NOT ATOMIC SET NAMES utf8; KILL 5; END",
	       "set set_names begin compound_statement kill several_statements");
	EXPECT("IF 1 THEN SET @a = 1; END IF", "set compound_statement read_user_variable user_variable several_statements");
	EXPECT("IF 1 THEN KILL 5; END IF", "compound_statement kill several_statements");
	EXPECT("l: LOOP CALL p(); END LOOP", "call compound_statement several_statements");
	EXPECT("l: BEGIN NOT ATOMIC LOCK TABLES t READ; END", "begin compound_statement lock_tables several_statements");
	/* sql_mode = ORACLE */
	EXPECT("BEGIN SET @a = 1; END", "set begin compound_statement read_user_variable user_variable several_statements");
	EXPECT("DECLARE a INT; BEGIN KILL 5; END", "begin compound_statement kill several_statements");
	EXPECT("<<l>> BEGIN SELECT 1; END", "compound_statement several_statements");
}
END_TEST

START_TEST(the_body_of_a_routine_is_not_run_when_it_is_made) {
	EXPECT("CREATE PROCEDURE p() BEGIN SET @a = 1; KILL 5; SELECT GET_LOCK('a', 1); END", "");
	EXPECT("CREATE OR REPLACE DEFINER = `a`@`b` FUNCTION f() RETURNS INT RETURN LAST_INSERT_ID()", "read_user_variable");
	EXPECT("CREATE DEFINER = CURRENT_USER TRIGGER t BEFORE INSERT ON u FOR EACH ROW SET @a = 1", "");
	EXPECT("CREATE EVENT e ON SCHEDULE EVERY 1 HOUR DO KILL 5", "");
	EXPECT_READ("CREATE PROCEDURE p() IF 1 THEN KILL 5; KILL 6; END IF", 0, "");
	/* Behind it another may come. */
	EXPECT("CREATE PROCEDURE p() SELECT 1; KILL 5", "kill several_statements");
	/* BEGIN as a name: the body's end is not found, so that what is behind it counts */
	EXPECT("CREATE PROCEDURE p() SELECT 1 AS begin; SELECT GET_LOCK('a', 1)", "get_lock several_statements");
	EXPECT("CREATE PROCEDURE p() SELECT 1 AS begin; KILL 5", "kill_inside several_statements");
	EXPECT("CREATE PROCEDURE p() SELECT 1 AS begin; SET @a = 1", "set read_user_variable user_variable set_scoped set_calls several_statements");
	EXPECT("CREATE PROCEDURE p() BEGIN CASE WHEN 1 THEN SELECT CASE 1 WHEN 1 THEN 2 END; END CASE; "
	       "IF 1 THEN SELECT 1; END IF; l: LOOP LEAVE l; END LOOP; END; SELECT GET_LOCK('a', 1)",
	       "get_lock several_statements");
	/* A name is not a routine. */
	EXPECT("CREATE TABLE event AS SELECT GET_LOCK('a', 1)", "get_lock");
	EXPECT("CREATE TABLE function (a INT) SELECT @a := 1", "read_user_variable user_variable");
	EXPECT("CREATE /*!99999 PROCEDURE p */ TABLE t SELECT GET_LOCK('a', 1)", "get_lock");
}
END_TEST

START_TEST(kill_has_forms) {
	static const struct {
		const char *sql;
		enum sql_kill_form form;
		uint64_t id;
		bool soft;
	} kills[] = {
		{"KILL 5", SQL_KILL_CONNECTION, 5, false},
		{" kill /* x */ 5 ; -- done", SQL_KILL_CONNECTION, 5, false},
		{"KILL CONNECTION 5", SQL_KILL_CONNECTION, 5, false},
		{"KILL HARD CONNECTION 5", SQL_KILL_CONNECTION, 5, false},
		{"KILL SOFT 5", SQL_KILL_CONNECTION, 5, true},
		{"KILL QUERY 18446744073709551615", SQL_KILL_QUERY, UINT64_MAX, false},
		{"KILL SOFT QUERY 5", SQL_KILL_QUERY, 5, true},
		{"KILL QUERY ID 5", SQL_KILL_QUERY_ID, 5, false},
		{"KILL HARD QUERY ID 5", SQL_KILL_QUERY_ID, 5, false},
		{"KILL CONNECTION_ID()", SQL_KILL_SELF, 0, false},
		{"KILL CONNECTION CONNECTION_ID ( )", SQL_KILL_SELF, 0, false},
		{"KILL QUERY CONNECTION_ID()", SQL_KILL_QUERY_SELF, 0, false},
		{"KILL USER bob", SQL_KILL_USER, 0, false},
		{"KILL QUERY USER 'bob'@'%'", SQL_KILL_USER, 0, false},
		{"KILL SOFT CONNECTION USER CURRENT_USER()", SQL_KILL_USER, 0, true},
		{"KILL QUERY 18446744073709551616", SQL_KILL_OTHER, 0, false},
		{"KILL", SQL_KILL_OTHER, 0, false},
		{"KILL QUERY", SQL_KILL_OTHER, 0, false},
		{"KILL 5 6", SQL_KILL_OTHER, 0, false},
		{"KILL 5 + 1", SQL_KILL_OTHER, 0, false},
		{"KILL -5", SQL_KILL_OTHER, 0, false},
		{"KILL '5'", SQL_KILL_OTHER, 0, false},
		{"KILL 0x5", SQL_KILL_OTHER, 0, false},
		{"KILL (5)", SQL_KILL_OTHER, 0, false},
		{"KILL @a", SQL_KILL_OTHER, 0, false},
		{"KILL HARD SOFT 5", SQL_KILL_OTHER, 0, false},
		{"KILL CONNECTION QUERY 5", SQL_KILL_OTHER, 0, false},
		{"KILL CONNECTION ID 5", SQL_KILL_OTHER, 0, false},
		{"KILL QUERY ID CONNECTION_ID()", SQL_KILL_OTHER, 0, false},
		{"KILL CONNECTION_ID", SQL_KILL_OTHER, 0, false},
		{"KILL CONNECTION_ID(1)", SQL_KILL_OTHER, 0, false},
		{"KILL 5; SELECT 1", SQL_KILL_OTHER, 0, false},
		{"SELECT 1; KILL 5", SQL_KILL_OTHER, 0, false},
		{"KILL 5; KILL 6", SQL_KILL_OTHER, 0, false},
		{"KILL 5 /*!99999 6 */", SQL_KILL_OTHER, 0, false},
		{"/*!50000 KILL 5 */", SQL_KILL_OTHER, 0, false},
		{"/*!99999 SELECT 1 */ KILL 5", SQL_KILL_CONNECTION, 5, false},
		{"BEGIN NOT ATOMIC KILL 5; END", SQL_KILL_OTHER, 0, false},
		{"KILL \xb2", SQL_KILL_OTHER, 0, false},
		{"SELECT 1", SQL_KILL_NONE, 0, false},
		{"SELECT t.kill, @kill, @@kill, `kill`, 'kill 5', \"kill 5\" FROM t", SQL_KILL_NONE, 0, false},
		{"", SQL_KILL_NONE, 0, false},
	};
	for (size_t i = 0; i < sizeof kills / sizeof *kills; i++) {
		const char *sql = kills[i].sql;
		struct sql_text text = sql_look(sql, strlen(sql), SQL_MULTI_STATEMENTS, SQL_CHARSET_PLAIN);
		ck_assert_msg(text.kill == kills[i].form, "%s: form %d", sql, text.kill);
		ck_assert_msg(!!(text.hints & (SQL_KILL | SQL_KILL_INSIDE)) == (text.kill != SQL_KILL_NONE), "%s", sql);
		if (text.kill == SQL_KILL_OTHER || text.kill == SQL_KILL_NONE)
			continue;
		ck_assert_msg(text.kill_id == kills[i].id && text.kill_soft == kills[i].soft, "%s", sql);
	}
	ck_assert_uint_eq(look("DECLARE CONTINUE HANDLER FOR SQLEXCEPTION KILL 5", 0), SQL_COMPOUND | SQL_KILL_INSIDE);
}
END_TEST

/* ---- whatever the bytes are, and however they are cut ---- */

static const char *const long_texts[] = {
	"SELECT 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\\'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb''cc', "
	"GET_LOCK('a', 1) /* kill 5 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ** / */ INTO @v",
	"SELECT averyveryveryveryveryveryveryveryveryveryveryveryveryveryveryveryveryveryverylongname_get_lock, "
	"`averyveryveryveryveryveryveryveryveryveryveryveryveryveryveryveryveryveryveryvery`, @averyveryveryveryveryveryveryveryvery."
	"veryveryveryveryveryveryveryverylong_name:=1; KILL 12345678901234567890123456789012345678901234567890123456789012345678901234567890",
	"/*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */;\n/*!40101 SET NAMES utf8mb4 */;\n"
	"INSERT INTO t VALUES (1,'it\\'s',_binary '\xff\\0\\'',NULL),(2,\"x\",'',-1.5e10);\n/*!40000 ALTER TABLE `t` ENABLE KEYS */;",
	"SELECT 1 -- aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa '\n, FOUND_ROWS()"
	" # bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb \"\n, @@warning_count",
	"SELECT /*!99999 ' */ 1 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb ; KILL 5 , @a, "
	"'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb SET session_track_schema = 0 bbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
};
enum { LONG_TEXTS = sizeof long_texts / sizeof *long_texts };

static void assert_same(struct sql_text a, struct sql_text b, const char *what, size_t at) {
	ck_assert_msg(a.hints == b.hints && a.get_locks == b.get_locks && a.release_locks == b.release_locks && a.kill == b.kill && a.kill_id == b.kill_id && a.kill_soft == b.kill_soft,
		      "%s, cut at %zu: %llx and %llx, kill %d and %d", what, at, (unsigned long long)a.hints,
		      (unsigned long long)b.hints, a.kill, b.kill);
}

/* From a block of just its size, so that a read behind the end is seen by the sanitizer. */
static struct sql_text look_alone(const void *sql, size_t len, unsigned reading, enum sql_charset charset) {
	void *copy = malloc(len ? len : 1);
	memcpy(copy, sql, len);
	struct sql_text text = sql_look(copy, len, reading, charset);
	free(copy);
	return text;
}

static struct sql_text feed_in_steps(const char *sql, size_t len, size_t step, unsigned reading, enum sql_charset charset) {
	struct sql_lexer x;
	sql_begin(&x, reading, charset);
	for (size_t at = 0; at < len; at += step) {
		size_t n = len - at < step ? len - at : step;
		char *piece = malloc(n);
		memcpy(piece, sql + at, n);
		sql_feed(&x, piece, n);
		free(piece);
	}
	return sql_end(&x);
}

START_TEST(a_text_in_pieces_is_the_same_text) {
	const char *sql = long_texts[_i];
	size_t len = strlen(sql);
	for (unsigned reading = 0; reading < ALL_READINGS; reading++) {
		struct sql_text whole = sql_look(sql, len, reading, SQL_CHARSET_PLAIN);
		for (size_t step = 1; step <= len; step++)
			assert_same(whole, feed_in_steps(sql, len, step, reading, SQL_CHARSET_PLAIN), sql, step);
		for (size_t cut = 0; cut <= len; cut++) {
			struct sql_lexer x;
			sql_begin(&x, reading, SQL_CHARSET_PLAIN);
			sql_feed(&x, sql, cut);
			sql_feed(&x, sql + cut, len - cut);
			assert_same(whole, sql_end(&x), sql, cut);
		}
	}
}
END_TEST

START_TEST(every_beginning_of_a_text_is_survived) {
	for (unsigned reading = 0; reading < ALL_READINGS; reading++)
		for (size_t len = 0; len <= strlen(long_texts[_i]); len++)
			look_alone(long_texts[_i], len, reading, SQL_CHARSET_GBK);
	for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
		for (size_t len = 0; len <= strlen(statements[i].sql); len++)
			look_alone(statements[i].sql, len, SQL_MULTI_STATEMENTS, SQL_CHARSET_SJIS);
}
END_TEST

/* Bytes that matter to a lexer, more often than others. */
START_TEST(random_texts_are_survived_and_the_same_in_pieces) {
	static const char *const parts[] = {"'", "\"", "`", "\\", "/*", "*/", "/*!", "/*!50000", "/*M!", "--", "-- ", "#", "\n", ";", "@", "@@",
					    ":=", "(", ")", "KILL", " ", "5", "SET", "SELECT", "GET_LOCK", "INTO", "\xbf", "\x81\x30", "BEGIN",
					    "END", "CREATE", "FUNCTION", "LAST_INSERT_ID", "=", ",", ".", "1e5", "BEGIN NOT ATOMIC", "_"};
	srandom(4711);
	for (int round = 0; round < 4000; round++) {
		char sql[1024];
		size_t len = 0;
		int count = (int)(random() % 60);
		for (int i = 0; i < count; i++) {
			if (random() % 8 == 0) {
				sql[len++] = (char)random();
				continue;
			}
			const char *part = parts[(size_t)random() % (sizeof parts / sizeof *parts)];
			memcpy(sql + len, part, strlen(part));
			len += strlen(part);
		}
		unsigned reading = (unsigned)random() % ALL_READINGS;
		enum sql_charset charset = (enum sql_charset)((unsigned)random() % (SQL_CHARSET_UNKNOWN + 1));
		struct sql_text whole = look_alone(sql, len, reading, charset);
		assert_same(whole, feed_in_steps(sql, len, 1 + (size_t)random() % 90, reading, charset), "random", (size_t)round);
		ck_assert(!whole.kill == !(whole.hints & (SQL_KILL | SQL_KILL_INSIDE)));
	}
}
END_TEST

int main(void) {
	Suite *s = suite_create("sql");
	TCase *t = tcase_create("sql");
	int count = (int)(sizeof statements / sizeof *statements);
	suite_add_tcase(s, t);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, each_statement_hints_at_what_it_does, 0, count);
	tcase_add_loop_test(t, spaces_comments_and_case_hide_nothing, 0, count);
	tcase_add_loop_test(t, behind_other_statements_it_is_seen_as_well, 0, count);
	tcase_add_loop_test(t, in_executable_comments_it_is_seen_as_well, 0, count);
	tcase_add_test(t, executable_comments_in_the_middle);
	tcase_add_test(t, functions_may_be_quoted);
	tcase_add_test(t, quotes_are_read_as_the_session_does);
	tcase_add_test(t, what_an_earlier_statement_may_have_changed_is_not_trusted);
	tcase_add_test(t, characters_of_two_bytes_may_hold_a_backslash);
	tcase_add_test(t, charsets_have_names);
	tcase_add_test(t, other_alphabets_hide_no_word);
	tcase_add_test(t, locks_are_counted);
	tcase_add_test(t, compound_statements);
	tcase_add_test(t, the_body_of_a_routine_is_not_run_when_it_is_made);
	tcase_add_test(t, kill_has_forms);
	tcase_add_loop_test(t, a_text_in_pieces_is_the_same_text, 0, LONG_TEXTS);
	tcase_add_loop_test(t, every_beginning_of_a_text_is_survived, 0, LONG_TEXTS);
	tcase_add_test(t, random_texts_are_survived_and_the_same_in_pieces);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
