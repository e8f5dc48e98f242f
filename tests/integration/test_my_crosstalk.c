/*
 * Many clients of a small pool, each with tokens that are in all it asks and in all it must get: none may ever see another's,
 * none may be left without an answer. Text and binary protocol, several results, long rows, errors, session state, kills,
 * sudden disconnects.
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "mariadb.h"

enum { CLIENTS = 14, KILLABLE = 4, ROUNDS = 120, TOKEN = 40, LONG_ROW = 300000 };

struct client {
	int number;
	struct forebay *forebay;
	MYSQL *my;
	MYSQL_STMT *echo;
	uint64_t random;
	unsigned op, answers, kills, disconnects;
	char token[TOKEN], wrong[500];
	long last_id;
	int zone; /* hours of its time zone; 0: as by default */
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

/* A KILL that was meant for it may come at any time. */
static bool was_killed(struct client *c, unsigned error) {
	if (c->number >= KILLABLE || error != 1317)
		return false;
	c->kills++;
	return true;
}

/* The next result: one row that is `expected`. False: wrong, or killed (then nothing is noted as wrong). */
static bool expect_row(struct client *c, const char *expected) {
	MYSQL_RES *rows = mysql_store_result(c->my);
	if (!rows)
		return was_killed(c, mysql_errno(c->my)) ? false
							  : amiss(c, "no rows: %u %s", mysql_errno(c->my), mysql_error(c->my));
	MYSQL_ROW row = mysql_fetch_row(rows);
	bool same = row && row[0] && !strcmp(row[0], expected) && mysql_num_rows(rows) == 1;
	if (!same)
		amiss(c, "%s expected, got %.100s", expected, row ? row[0] ? row[0] : "NULL" : "nothing");
	c->answers += same;
	mysql_free_result(rows);
	return same;
}

static bool ask(struct client *c, const char *sql) {
	if (mysql_query(c->my, sql) == 0)
		return true;
	return was_killed(c, mysql_errno(c->my)) ? false : amiss(c, "%.100s: %u %s", sql, mysql_errno(c->my), mysql_error(c->my));
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
		if (i < 3 && more != 0 && !was_killed(c, mysql_errno(c->my)))
			amiss(c, "result %d of 4 is missing: %u %s", i + 1, mysql_errno(c->my), mysql_error(c->my));
		if (i < 3 && more != 0)
			break;
	}
	drain(c);
}

static void error(struct client *c) {
	char sql[200];
	snprintf(sql, sizeof sql, "SELECT `%s`", c->token);
	if (mysql_query(c->my, sql) == 0) {
		mysql_free_result(mysql_store_result(c->my));
		amiss(c, "%s was no error", sql);
	} else if (!was_killed(c, mysql_errno(c->my)) && !strstr(mysql_error(c->my), c->token)) {
		amiss(c, "%s: %u %s", c->token, mysql_errno(c->my), mysql_error(c->my));
	} else {
		c->answers++;
	}
}

static void long_row(struct client *c) {
	char sql[200];
	snprintf(sql, sizeof sql, "SELECT REPEAT('%s', %d)", c->token, LONG_ROW / TOKEN);
	if (!ask(c, sql))
		return;
	MYSQL_RES *rows = mysql_store_result(c->my);
	MYSQL_ROW row = rows ? mysql_fetch_row(rows) : NULL;
	size_t n = strlen(c->token);
	if (!row && !was_killed(c, mysql_errno(c->my)))
		amiss(c, "no long row: %u %s", mysql_errno(c->my), mysql_error(c->my));
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
		return was_killed(c, mysql_stmt_errno(c->echo)) ? false : amiss(c, "execute: %s", mysql_stmt_error(c->echo));
	mysql_stmt_bind_result(c->echo, &out);
	int fetched = mysql_stmt_fetch(c->echo);
	if (fetched != 0)
		return was_killed(c, mysql_stmt_errno(c->echo)) ? false : amiss(c, "fetch: %d %s", fetched, mysql_stmt_error(c->echo));
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
	char sql[200], expected[30];
	if (!ask(c, "BEGIN"))
		return;
	snprintf(sql, sizeof sql, "INSERT INTO app.x (client, token) VALUES (%d, '%s')", c->number, c->token);
	bool ok = ask(c, sql);
	long id = ok ? (long)mysql_insert_id(c->my) : 0;
	snprintf(sql, sizeof sql, "SELECT token FROM app.x WHERE id = %ld", id);
	ok = ok && ask(c, sql) && expect_row(c, c->token) && run_echo(c, c->token);
	bool commit = below(c, 2);
	if (!ask(c, commit ? "COMMIT" : "ROLLBACK") || !ok) {
		c->last_id = 0; /* killed: not known */
		mysql_query(c->my, "ROLLBACK");
		return;
	}
	c->last_id = id;
	snprintf(sql, sizeof sql, "SELECT COUNT(*) FROM app.x WHERE token = '%s'", c->token);
	snprintf(expected, sizeof expected, "%d", commit);
	if (ask(c, sql))
		expect_row(c, expected);
}

static void insert_id(struct client *c) {
	char expected[30];
	if (!c->last_id || !ask(c, "SELECT LAST_INSERT_ID()"))
		return;
	snprintf(expected, sizeof expected, "%ld", c->last_id);
	expect_row(c, expected);
}

static void setting(struct client *c) {
	char sql[100], expected[30];
	if (below(c, 3) == 0) {
		int zone = 1 + (int)below(c, 9);
		snprintf(sql, sizeof sql, "SET time_zone = '+0%d:00'", zone);
		if (!ask(c, sql))
			return;
		c->zone = zone;
	}
	if (!ask(c, "SELECT @@time_zone"))
		return;
	snprintf(expected, sizeof expected, c->zone ? "+0%d:00" : "SYSTEM", c->zone);
	expect_row(c, expected);
}

static void connect_anew(struct client *c);

static void pinned(struct client *c) {
	char sql[100];
	snprintf(sql, sizeof sql, "SET @v = '%s'", c->token);
	if (ask(c, sql) && ask(c, "SELECT @v"))
		expect_row(c, c->token);
	if (mysql_reset_connection(c->my) != 0 && !was_killed(c, mysql_errno(c->my)))
		amiss(c, "reset: %s", mysql_error(c->my));
	mysql_stmt_close(c->echo);
	c->echo = mysql_stmt_init(c->my);
	c->zone = 0;
	c->last_id = 0;
	for (int i = 0; mysql_stmt_prepare(c->echo, "SELECT ?", 8) != 0; i++)
		if (!was_killed(c, mysql_stmt_errno(c->echo)) || i == 20) {
			amiss(c, "prepare: %s", mysql_stmt_error(c->echo));
			return;
		}
	if (ask(c, "SELECT IFNULL(@v, 'none')"))
		expect_row(c, "none");
}

static void disconnect(struct client *c) {
	char sql[200];
	snprintf(sql, sizeof sql, "SELECT SLEEP(0.05), '%s'; SELECT '%s'", c->token, c->token);
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
	if (mysql_query(c->my, sql) != 0 && mysql_errno(c->my) != 1094) /* it may have gone */
		amiss(c, "%s: %s", sql, mysql_error(c->my));
	c->answers++;
}

static void connect_anew(struct client *c) {
	struct maria_login login = {.flags = CLIENT_MULTI_STATEMENTS};
	if (c->number < KILLABLE)
		atomic_store(&killable[c->number], 0);
	c->my = maria_try(c->forebay, &login);
	c->zone = 0;
	c->last_id = 0;
	if (mysql_errno(c->my)) {
		amiss(c, "not let in: %u %s", mysql_errno(c->my), mysql_error(c->my));
		return;
	}
	c->echo = mysql_stmt_init(c->my);
	if (mysql_stmt_prepare(c->echo, "SELECT ?", 8))
		amiss(c, "prepare: %s", mysql_stmt_error(c->echo));
	if (c->number < KILLABLE)
		atomic_store(&killable[c->number], mysql_thread_id(c->my));
}

static void *live(void *argument) {
	static void (*const units[])(struct client *) = {plain,   several,	 error,	  long_row, binary,	   binary,
							 transaction, insert_id, setting, pinned,   disconnect, kill_somebody};
	struct client *c = argument;
	mysql_thread_init();
	connect_anew(c);
	for (int i = 0; i < ROUNDS && !c->wrong[0]; i++) {
		next_token(c);
		units[below(c, sizeof units / sizeof units[0])](c);
	}
	if (c->number < KILLABLE)
		atomic_store(&killable[c->number], 0);
	mysql_stmt_close(c->echo);
	mysql_close(c->my);
	mysql_thread_end();
	return NULL;
}

START_TEST(nobody_gets_what_is_anothers) {
	struct forebay_setup setup = {.workers = WORKERS(_i), .pool = "max_size = 4\nacquire_timeout = 30s\n"};
	struct forebay *forebay = maria_forebay(&setup);
	MYSQL *root = maria_control();
	maria_execute(root, "CREATE OR REPLACE TABLE app.x (id INT AUTO_INCREMENT PRIMARY KEY, client INT, token CHAR(60), KEY (token))");
	struct client clients[CLIENTS];
	pthread_t threads[CLIENTS];
	memset(clients, 0, sizeof clients);
	for (int i = 0; i < CLIENTS; i++) {
		clients[i] = (struct client){.number = i, .forebay = forebay, .random = 0x9e3779b97f4a7c15ull * (unsigned)(i + 1 + 100 * _i)};
		ck_assert_int_eq(pthread_create(&threads[i], NULL, live, &clients[i]), 0);
	}
	unsigned answers = 0, kills = 0, disconnects = 0;
	for (int i = 0; i < CLIENTS; i++) {
		pthread_join(threads[i], NULL);
		answers += clients[i].answers, kills += clients[i].kills, disconnects += clients[i].disconnects;
	}
	for (int i = 0; i < CLIENTS; i++)
		ck_assert_msg(!clients[i].wrong[0], "client %d: %s", i, clients[i].wrong);
	printf("crosstalk, MySQL, %d workers: %u answers, %u kills that hit, %u disconnects: none wrong, none missing\n", WORKERS(_i), answers, kills,
	       disconnects);
	ck_assert_uint_gt(answers, CLIENTS * ROUNDS / 2);
	ck_assert_uint_gt(disconnects, 0);
	/* and perhaps, for a moment, those that carry a KILL: as the user whom that is about */
	maria_await(root, "SELECT COUNT(*) <= 4 FROM information_schema.PROCESSLIST WHERE USER = 'app'", "1");
	mysql_close(root);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	maria_begin(NULL);
	Suite *suite = suite_create("mysql cross-talk");
	TCase *tcase = tcase_create("crosstalk");
	LOOP(tcase, nobody_gets_what_is_anothers);
	suite_add_tcase(suite, tcase);
	return harness_run(suite);
}
