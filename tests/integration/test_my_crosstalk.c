/*
 * Many clients of a small pool, each with tokens that are in all it asks and in all it must get: none may ever see another's,
 * none may be left without an answer. Text and binary protocol, several results, long rows, errors, session state, kills of
 * queries by clients and of connections by the database's operator, sudden disconnects.
 *
 * Environment: FOREBAY_MY_CROSSTALK_SECONDS (of each run), FOREBAY_MY_CROSSTALK_SEED.
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "mariadb.h"

enum { CLIENTS = 110, SERVERS = 5, KILLABLE = 12, TOKEN = 40, LONG_ROW = 300000, CURSOR_ROWS = 30, KILL_CONNECTION_MS = 100 };
#ifdef __SANITIZE_THREAD__
enum { SECONDS = 15 };
#else
enum { SECONDS = 10 };
#endif

/* What has hit a client's unit of work, of what may. */
enum hurt { UNHURT, KILLED /* its statement, by another client */, LOST /* its server, by the operator */ };

struct client {
	int number;
	struct forebay *forebay;
	MYSQL *my;
	MYSQL_STMT *echo;
	uint64_t random;
	unsigned op, answers, kills, losses, disconnects;
	enum hurt hurt;
	long long end;
	char token[TOKEN], wrong[500];
	long last_id;
	int zone; /* hours of its time zone; 0: as by default */
	bool other; /* its schema is that, not app */
};

static _Atomic unsigned long killable[KILLABLE]; /* their ids; 0: none now */

static unsigned below(struct client *c, unsigned n) {
	c->random ^= c->random << 13, c->random ^= c->random >> 7, c->random ^= c->random << 17;
	return (unsigned)(c->random >> 20) % n;
}

static void next_token(struct client *c) {
	snprintf(c->token, sizeof c->token, "tok-%d-%u-%08x", c->number, ++c->op, below(c, 1u << 30));
}

__attribute__((format(printf, 2, 3))) static bool amiss(struct client *c, const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	if (!c->wrong[0])
		vsnprintf(c->wrong, sizeof c->wrong, fmt, ap);
	va_end(ap);
	return false;
}

/* A KILL that was meant for it may come at any time, and its server be taken away. All else is amiss. */
static bool trouble(struct client *c, const char *what, unsigned code, const char *text) {
	static const unsigned losses[] = {1158, 1927, 2006, 2013};
	/* 1105: it has hit what was to take long data */
	if (c->number < KILLABLE && (code == 1317 || (code == 1105 && strstr(text, "long data")))) {
		c->hurt = KILLED;
		c->kills++;
		return false;
	}
	for (size_t i = 0; i < sizeof losses / sizeof losses[0]; i++)
		if (losses[i] == code) {
			c->losses += c->hurt != LOST;
			c->hurt = LOST;
			return false;
		}
	return amiss(c, "%.100s: %u %s", what, code, text);
}

static bool failed(struct client *c, const char *what) {
	return trouble(c, what, mysql_errno(c->my), mysql_error(c->my));
}

static bool statement_failed(struct client *c, const char *what, MYSQL_STMT *stmt) {
	return trouble(c, what, mysql_stmt_errno(stmt), mysql_stmt_error(stmt));
}

/* The next result: one row that is `expected`. */
static bool expect_row(struct client *c, const char *expected) {
	MYSQL_RES *rows = mysql_store_result(c->my);
	if (!rows)
		return failed(c, expected);
	MYSQL_ROW row = mysql_fetch_row(rows);
	bool same = row && row[0] && !strcmp(row[0], expected) && mysql_num_rows(rows) == 1;
	if (!same)
		amiss(c, "%s expected, got %.100s", expected, row ? row[0] ? row[0] : "NULL" : "nothing");
	c->answers += same;
	mysql_free_result(rows);
	return same;
}

static bool ask(struct client *c, const char *sql) {
	return mysql_query(c->my, sql) == 0 ? true : failed(c, sql);
}

__attribute__((format(printf, 3, 4))) static bool expect(struct client *c, const char *expected, const char *fmt, ...) {
	char sql[400];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(sql, sizeof sql, fmt, ap);
	va_end(ap);
	return ask(c, sql) && expect_row(c, expected);
}

__attribute__((format(printf, 2, 3))) static bool run(struct client *c, const char *fmt, ...) {
	char sql[400];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(sql, sizeof sql, fmt, ap);
	va_end(ap);
	if (!ask(c, sql))
		return false;
	c->answers++;
	return true;
}

/* It fails with this error, which quotes the token. */
__attribute__((format(printf, 3, 4))) static bool fails(struct client *c, unsigned code, const char *fmt, ...) {
	char sql[400];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(sql, sizeof sql, fmt, ap);
	va_end(ap);
	if (mysql_query(c->my, sql) == 0) {
		mysql_free_result(mysql_store_result(c->my));
		return amiss(c, "%s was no error", sql);
	}
	if (mysql_errno(c->my) != code)
		return failed(c, sql);
	if (!strstr(mysql_error(c->my), c->token))
		return amiss(c, "%s: %u %s", c->token, mysql_errno(c->my), mysql_error(c->my));
	c->answers++;
	return true;
}

static void drain(struct client *c) {
	while (mysql_more_results(c->my) && mysql_next_result(c->my) == 0)
		mysql_free_result(mysql_store_result(c->my));
}

static void plain(struct client *c) {
	char sql[200];
	snprintf(sql, sizeof sql, "SELECT '%s'", c->token);
	if (ask(c, sql))
		expect_row(c, c->token);
}

static void several(struct client *c) {
	char sql[400], expected[TOKEN + 20];
	snprintf(sql, sizeof sql, "SELECT '%s-0'; DO 0; SELECT '%s-2'; SELECT '%s-3'", c->token, c->token, c->token);
	if (!ask(c, sql))
		return;
	for (int i = 0; i < 4; i++) {
		snprintf(expected, sizeof expected, "%s-%d", c->token, i);
		if (i != 1 && !expect_row(c, expected))
			break;
		int more = i < 3 ? mysql_next_result(c->my) : -1;
		if (i < 3 && more < 0)
			amiss(c, "result %d of 4 is missing", i + 1);
		else if (i < 3 && more > 0)
			failed(c, "the next result");
		if (i < 3 && more != 0)
			break;
	}
	drain(c);
}

static void error(struct client *c) {
	fails(c, 1054, "SELECT `%s`", c->token);
}

static void long_row(struct client *c) {
	char sql[200];
	snprintf(sql, sizeof sql, "SELECT REPEAT('%s', %d)", c->token, LONG_ROW / TOKEN);
	if (!ask(c, sql))
		return;
	MYSQL_RES *rows = mysql_store_result(c->my);
	MYSQL_ROW row = rows ? mysql_fetch_row(rows) : NULL;
	size_t n = strlen(c->token);
	if (!row)
		failed(c, "a long row");
	for (int i = 0; row && i < LONG_ROW / TOKEN; i++)
		if (memcmp(row[0] + (size_t)i * n, c->token, n) != 0) {
			amiss(c, "%s expected in a long row, got %.40s", c->token, row[0] + (size_t)i * n);
			break;
		}
	c->answers += row != NULL;
	mysql_free_result(rows);
}

static bool run_echo(struct client *c, const char *value) {
	char got[TOKEN + 20] = "";
	unsigned long length = strlen(value), got_length = 0;
	char in_buffer[TOKEN + 20];
	snprintf(in_buffer, sizeof in_buffer, "%s", value);
	MYSQL_BIND in = {.buffer_type = MYSQL_TYPE_STRING, .buffer = in_buffer, .buffer_length = length, .length = &length};
	MYSQL_BIND out = {.buffer_type = MYSQL_TYPE_STRING, .buffer = got, .buffer_length = sizeof got - 1, .length = &got_length};
	if (mysql_stmt_bind_param(c->echo, &in) || mysql_stmt_execute(c->echo))
		return statement_failed(c, "execute", c->echo);
	mysql_stmt_bind_result(c->echo, &out);
	int fetched = mysql_stmt_fetch(c->echo);
	if (fetched != 0)
		return fetched == 1 ? statement_failed(c, "fetch", c->echo) : amiss(c, "fetch: %d", fetched);
	mysql_stmt_free_result(c->echo);
	if (strcmp(got, value) != 0)
		return amiss(c, "%s expected of a statement, got %s", value, got);
	c->answers++;
	return true;
}

static void binary(struct client *c) {
	run_echo(c, c->token);
}

static void transaction(struct client *c) {
	if (!run(c, "BEGIN") || !run(c, "INSERT INTO app.x (client, token) VALUES (%d, '%s')", c->number, c->token))
		return;
	long id = (long)mysql_insert_id(c->my);
	if (!expect(c, c->token, "SELECT token FROM app.x WHERE id = %ld", id) || !run_echo(c, c->token))
		return;
	/* an error of its own leaves the transaction as it is */
	if (below(c, 3) == 0) {
		if (!fails(c, 1062, "INSERT INTO app.x (client, token) VALUES (%d, '%s')", c->number, c->token) ||
		    !expect(c, c->token, "SELECT token FROM app.x WHERE id = %ld", id))
			return;
	}
	bool commit = below(c, 2);
	if (!run(c, commit ? "COMMIT" : "ROLLBACK"))
		return;
	c->last_id = id;
	expect(c, commit ? "1" : "0", "SELECT COUNT(*) FROM app.x WHERE token = '%s'", c->token);
}

static void insert_id(struct client *c) {
	char expected[30];
	if (below(c, 3) == 0) {
		c->last_id = 1000000 + (long)below(c, 1u << 20);
		snprintf(expected, sizeof expected, "%ld", c->last_id);
		if (!expect(c, expected, "SELECT LAST_INSERT_ID(%s)", expected))
			return;
	} else if (below(c, 2)) {
		if (!run(c, "INSERT INTO app.x (client, token) VALUES (%d, '%s')", c->number, c->token))
			return;
		c->last_id = (long)mysql_insert_id(c->my);
	}
	snprintf(expected, sizeof expected, "%ld", c->last_id);
	if (c->last_id)
		expect(c, expected, "SELECT LAST_INSERT_ID()");
}

static void setting(struct client *c) {
	char expected[30];
	if (below(c, 3) == 0) {
		int zone = 1 + (int)below(c, 9);
		if (!run(c, "SET time_zone = '+0%d:00'", zone))
			return;
		c->zone = zone;
	}
	snprintf(expected, sizeof expected, c->zone ? "+0%d:00" : "SYSTEM", c->zone);
	expect(c, expected, "SELECT @@time_zone");
}

static void schema(struct client *c) {
	if (below(c, 2)) {
		bool other = below(c, 2);
		if (below(c, 2) ? mysql_select_db(c->my, other ? "other" : "app") != 0 : mysql_query(c->my, other ? "USE other" : "USE app") != 0) {
			failed(c, "USE");
			return;
		}
		c->other = other;
	}
	/* y is in both schemas, and says which */
	if (expect(c, c->other ? "other" : "app", "SELECT DATABASE()"))
		expect(c, c->other ? "other" : "app", "SELECT name FROM y");
}

static void warnings(struct client *c) {
	if (!expect(c, "0", "SELECT CAST('%s' AS INT)", c->token))
		return;
	if (mysql_warning_count(c->my) != 1) {
		amiss(c, "%u warnings", mysql_warning_count(c->my));
		return;
	}
	if (!ask(c, "SHOW WARNINGS"))
		return;
	MYSQL_RES *rows = mysql_store_result(c->my);
	MYSQL_ROW row = rows ? mysql_fetch_row(rows) : NULL;
	if (!rows)
		failed(c, "SHOW WARNINGS");
	else if (row && !strstr(row[2], c->token)) /* none at all: it was too late */
		amiss(c, "%s expected in a warning: %s", c->token, row[2]);
	else
		c->answers++;
	mysql_free_result(rows);
}

/* What its own session has not: whoever left it. */
static void nothing_foreign(struct client *c) {
	char own[20];
	snprintf(own, sizeof own, "tok-%d-", c->number);
	if (!ask(c, "SHOW WARNINGS"))
		return;
	MYSQL_RES *rows = mysql_store_result(c->my);
	MYSQL_ROW row = rows ? mysql_fetch_row(rows) : NULL;
	if (!rows) {
		failed(c, "SHOW WARNINGS");
		return;
	}
	if (row && strstr(row[2], "tok-") && !strstr(row[2], own))
		amiss(c, "a warning of another's: %s", row[2]);
	mysql_free_result(rows);
	/* each of its own that sets it is reset behind that */
	expect(c, "none", "SELECT IFNULL(@v, 'none')");
}

static void temporary_table(struct client *c) {
	if (run(c, "CREATE TEMPORARY TABLE app.tmp (token CHAR(60))") && run(c, "INSERT INTO app.tmp VALUES ('%s')", c->token) &&
	    run_echo(c, c->token) && expect(c, c->token, "SELECT token FROM app.tmp"))
		run(c, "DROP TEMPORARY TABLE app.tmp");
}

static void found_rows(struct client *c) {
	char expected[20];
	unsigned n = 2 + below(c, 90);
	snprintf(expected, sizeof expected, "%u", n);
	if (expect(c, c->token, "SELECT SQL_CALC_FOUND_ROWS '%s' FROM app.seq_1_to_%u LIMIT 1", c->token, n))
		expect(c, expected, "SELECT FOUND_ROWS()");
}

static void routine(struct client *c) {
	char again[TOKEN + 20];
	snprintf(again, sizeof again, "%s-again", c->token);
	if (!expect(c, c->token, "CALL app.twice('%s')", c->token))
		return;
	int more = mysql_next_result(c->my);
	if (more == 0)
		expect_row(c, again);
	else if (more < 0)
		amiss(c, "the second result of a CALL is missing");
	else
		failed(c, "the second result of a CALL");
	drain(c);
}

/* Rows by a cursor, some at a time; with several of its packets of long data before. */
static void cursor(struct client *c) {
	static const char sql[] = "SELECT CONCAT(?, '-', seq) FROM app.seq_1_to_30 ORDER BY seq";
	MYSQL_STMT *stmt = mysql_stmt_init(c->my);
	unsigned long type = CURSOR_TYPE_READ_ONLY, some = 1 + below(c, 40), length = strlen(c->token), got_length = 0;
	char got[TOKEN + 20], expected[TOKEN + 20];
	MYSQL_BIND in = {.buffer_type = MYSQL_TYPE_STRING, .buffer = c->token, .buffer_length = length, .length = &length};
	MYSQL_BIND out = {.buffer_type = MYSQL_TYPE_STRING, .buffer = got, .buffer_length = sizeof got - 1, .length = &got_length};
	int fetched = 0, i = 0;
	bool long_data = below(c, 2);
	mysql_stmt_attr_set(stmt, STMT_ATTR_CURSOR_TYPE, &type);
	mysql_stmt_attr_set(stmt, STMT_ATTR_PREFETCH_ROWS, &some);
	if (mysql_stmt_prepare(stmt, sql, sizeof sql - 1) || mysql_stmt_bind_param(stmt, &in) ||
	    (long_data && (mysql_stmt_send_long_data(stmt, 0, c->token, 5) ||
			   mysql_stmt_send_long_data(stmt, 0, c->token + 5, length - 5))) ||
	    mysql_stmt_execute(stmt) || mysql_stmt_bind_result(stmt, &out)) {
		statement_failed(c, "a cursor", stmt);
		mysql_stmt_close(stmt);
		return;
	}
	unsigned until = below(c, 4) ? CURSOR_ROWS : below(c, CURSOR_ROWS);
	while ((unsigned)i < until && (fetched = mysql_stmt_fetch(stmt)) == 0) {
		got[got_length < sizeof got ? got_length : sizeof got - 1] = 0;
		snprintf(expected, sizeof expected, "%s-%d", c->token, ++i);
		if (strcmp(got, expected) != 0) {
			amiss(c, "%s expected of a cursor, got %s", expected, got);
			break;
		}
		c->answers++;
	}
	if (fetched == 1)
		statement_failed(c, "a row of a cursor", stmt);
	else if (fetched != 0)
		amiss(c, "%d rows of a cursor that has %d", i, CURSOR_ROWS);
	mysql_stmt_close(stmt);
}

static void connect_anew(struct client *c);

/* What is left of a session behind COM_RESET_CONNECTION or COM_CHANGE_USER: nothing. */
static void begin_anew(struct client *c) {
	mysql_stmt_close(c->echo);
	c->echo = mysql_stmt_init(c->my);
	c->zone = 0;
	c->last_id = 0;
	if (mysql_stmt_prepare(c->echo, "SELECT ?", 8) != 0)
		statement_failed(c, "prepare", c->echo);
}

static void reset(struct client *c) {
	if (mysql_reset_connection(c->my) != 0)
		failed(c, "reset");
	else
		begin_anew(c);
}

static void pinned(struct client *c) {
	if (!run(c, "SET @v = '%s'", c->token) || !expect(c, c->token, "SELECT @v"))
		return;
	if (below(c, 2) && (!expect(c, "1", "SELECT GET_LOCK('%s', 1)", c->token) || !expect(c, "1", "SELECT RELEASE_LOCK('%s')", c->token)))
		return;
	reset(c);
	if (c->hurt == UNHURT)
		expect(c, "none", "SELECT IFNULL(@v, 'none')");
}

static void another_user(struct client *c) {
	if (!run(c, "SET @v = '%s'", c->token))
		return;
	for (int back = 0; back < 2 && c->hurt == UNHURT; back++) {
		if (mysql_change_user(c->my, back ? "app" : "second", back ? "app-secret" : "second-secret", "app") != 0) {
			failed(c, "change user");
			return;
		}
		c->other = false;
		begin_anew(c);
		if (c->hurt != UNHURT || !expect(c, back ? "app@%" : "second@%", "SELECT CURRENT_USER()") ||
		    !expect(c, "none", "SELECT IFNULL(@v, 'none')"))
			return;
	}
}

static void disconnect(struct client *c) {
	char sql[300];
	/* it leaves what it can */
	if (below(c, 2) && run(c, "SET @v = '%s'", c->token) && run(c, "SET time_zone = '+11:00'") && below(c, 2))
		run(c, "CREATE TEMPORARY TABLE app.tmp SELECT GET_LOCK('%s', 0)", c->token);
	if (below(c, 2))
		run(c, "BEGIN");
	snprintf(sql, sizeof sql, "SELECT SLEEP(0.05), CAST('%s' AS INT); SELECT '%s'", c->token, c->token);
	mysql_send_query(c->my, sql, strlen(sql));
	if (below(c, 2))
		shutdown(mysql_get_socket(c->my), SHUT_RDWR);
	mysql_stmt_close(c->echo);
	mysql_close(c->my);
	c->disconnects++;
	connect_anew(c);
}

static void kill_somebody(struct client *c) {
	char sql[100];
	unsigned long id = atomic_load(&killable[below(c, KILLABLE)]);
	if (c->number < KILLABLE || id == 0) {
		plain(c);
		return;
	}
	snprintf(sql, sizeof sql, "KILL QUERY %lu", id);
	if (mysql_query(c->my, sql) != 0 && mysql_errno(c->my) != 1094 && mysql_errno(c->my) != 1095) { /* gone, or another user for a while */
		failed(c, sql);
		return;
	}
	c->answers++;
}

static void connect_anew(struct client *c) {
	struct maria_login login = {.flags = CLIENT_MULTI_STATEMENTS};
	if (c->number < KILLABLE)
		atomic_store(&killable[c->number], 0);
	c->my = maria_try(c->forebay, &login);
	c->zone = 0;
	c->last_id = 0;
	c->other = false;
	c->hurt = UNHURT;
	if (mysql_errno(c->my)) {
		amiss(c, "not let in: %u %s", mysql_errno(c->my), mysql_error(c->my));
		return;
	}
	c->echo = mysql_stmt_init(c->my);
	if (mysql_stmt_prepare(c->echo, "SELECT ?", 8))
		statement_failed(c, "prepare", c->echo);
	if (c->number < KILLABLE)
		atomic_store(&killable[c->number], mysql_thread_id(c->my));
}

/* Its statement was killed, whichever it was: as what follows one that was meant for another one may be. */
static void recover(struct client *c) {
	for (int i = 0; i < 50 && c->hurt == KILLED; i++) {
		c->hurt = UNHURT;
		drain(c);
		if (run(c, "ROLLBACK"))
			reset(c);
	}
	if (c->hurt == KILLED)
		amiss(c, "killed without end");
}

static void *live(void *argument) {
	static void (*const units[])(struct client *) = {
		plain,	 plain,	  several,  error,  long_row,	     binary,	 binary,  transaction, transaction, insert_id,
		setting, schema,  warnings, nothing_foreign, cursor, temporary_table, found_rows, routine, pinned,      another_user, disconnect,
		kill_somebody};
	struct client *c = argument;
	mysql_thread_init();
	connect_anew(c);
	while (harness_now_ms() < c->end && !c->wrong[0]) {
		next_token(c);
		if (c->hurt == UNHURT)
			units[below(c, sizeof units / sizeof units[0])](c);
		if (c->hurt == KILLED)
			recover(c);
		if (c->hurt == LOST && !c->wrong[0]) {
			mysql_stmt_close(c->echo);
			mysql_close(c->my);
			connect_anew(c);
		}
	}
	if (c->number < KILLABLE)
		atomic_store(&killable[c->number], 0);
	mysql_stmt_close(c->echo);
	mysql_close(c->my);
	mysql_thread_end();
	return NULL;
}

/* As an operator who takes connections away. Returns how many. */
static unsigned kill_connections(MYSQL *root, uint64_t random, long long end) {
	unsigned killed = 0;
	for (unsigned i = 0; harness_now_ms() < end; i++) {
		long id = maria_long(root, "SELECT IFNULL((SELECT id FROM information_schema.processlist WHERE user IN ('app', 'second') "
					   "ORDER BY id * %u %% 101 LIMIT 1), 0)", (unsigned)(random >> 8) % 1000 + i);
		char sql[60];
		snprintf(sql, sizeof sql, "KILL CONNECTION %ld", id);
		killed += id != 0 && mysql_query(root, sql) == 0;
		harness_pause_ms(KILL_CONNECTION_MS);
	}
	return killed;
}

static void prepare_tables(MYSQL *root) {
	mysql_set_server_option(root, MYSQL_OPTION_MULTI_STATEMENTS_ON);
	maria_execute(root, "CREATE OR REPLACE TABLE app.x (id INT AUTO_INCREMENT PRIMARY KEY, client INT, token CHAR(60), UNIQUE (token)); "
			    "CREATE OR REPLACE TABLE app.y (name CHAR(9)); INSERT INTO app.y VALUES ('app'); "
			    "CREATE OR REPLACE TABLE other.y (name CHAR(9)); INSERT INTO other.y VALUES ('other'); "
			    "CREATE OR REPLACE PROCEDURE app.twice(t CHAR(60)) BEGIN SELECT t; SELECT CONCAT(t, '-again'); END");
}

START_TEST(nobody_gets_what_is_anothers) {
	char pool[160];
	const char *text = getenv("FOREBAY_MY_CROSSTALK_SECONDS"), *seed_text = getenv("FOREBAY_MY_CROSSTALK_SEED");
	uint64_t seed = seed_text ? strtoull(seed_text, NULL, 10) : (uint64_t)harness_now_ms();
	snprintf(pool, sizeof pool, "max_size = %d\nacquire_timeout = 60s\n", SERVERS);
	struct forebay_setup setup = {.workers = WORKERS(_i), .pool = pool};
	struct forebay *forebay = maria_forebay(&setup);
	MYSQL *root = maria_control();
	prepare_tables(root);
	static struct client clients[CLIENTS];
	pthread_t threads[CLIENTS];
	long long end = harness_now_ms() + 1000LL * (text && *text ? atoi(text) : SECONDS);
	memset(clients, 0, sizeof clients);
	for (int i = 0; i < CLIENTS; i++) {
		clients[i] = (struct client){.number = i, .forebay = forebay, .end = end,
					     .random = 0x9e3779b97f4a7c15ull * (seed * 1000 + (unsigned)i + 1)};
		ck_assert_int_eq(pthread_create(&threads[i], NULL, live, &clients[i]), 0);
	}
	unsigned killed = kill_connections(root, seed, end);
	unsigned answers = 0, kills = 0, losses = 0, disconnects = 0;
	for (int i = 0; i < CLIENTS; i++) {
		pthread_join(threads[i], NULL);
		answers += clients[i].answers, kills += clients[i].kills, disconnects += clients[i].disconnects;
		losses += clients[i].losses;
	}
	for (int i = 0; i < CLIENTS; i++)
		ck_assert_msg(!clients[i].wrong[0], "seed %llu, client %d: %s", (unsigned long long)seed, i, clients[i].wrong);
	printf("crosstalk, MySQL, %d workers: %u answers, %u kills that hit, %u of %u lost connections noticed, %u disconnects: none wrong, "
	       "none missing\n", WORKERS(_i), answers, kills, losses, killed, disconnects);
	ck_assert_uint_gt(answers, CLIENTS * 10);
	ck_assert_uint_gt(disconnects, 0);
	ck_assert_uint_le(losses, killed); /* each has one client at most */
	ck_assert_int_eq(harness_count_in(forebay->log, "invariant"), 0);
	/* and perhaps, for a moment, those that carry a KILL: as the user whom that is about */
	snprintf(pool, sizeof pool, "SELECT COUNT(*) <= %d FROM information_schema.PROCESSLIST WHERE USER IN ('app', 'second')", SERVERS);
	maria_await(root, pool, "1");
	mysql_close(root);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	maria_begin(NULL);
	Suite *suite = suite_create("mysql cross-talk");
	TCase *tcase = tcase_create("crosstalk");
	const char *text = getenv("FOREBAY_MY_CROSSTALK_SECONDS");
	tcase_set_timeout(tcase, (text && *text ? atoi(text) : SECONDS) + 120.0);
	LOOP(tcase, nobody_gets_what_is_anothers);
	suite_add_tcase(suite, tcase);
	return harness_run(suite);
}
