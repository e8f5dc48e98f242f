/* What holds for both protocols, over MySQL: a KILL's own connection and TLS, leaks, keepalive, PAUSE and RESUME; and clients
 * that read the binary log. */
#include <libpq-fe.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "my_raw.h"

/* ---- the console, which is PostgreSQL's ---- */

static struct forebay *start(int workers, const char *pool, int *console) {
	char more[200];

	*console = harness_free_port();
	snprintf(more, sizeof more, "[listener:console]\nlisten = 127.0.0.1:%d\n", *console);
	return maria_forebay(&(struct forebay_setup){.workers = workers, .pool = pool, .more = more});
}

static PGconn *operator_of(int console) {
	char conninfo[200];

	snprintf(conninfo, sizeof conninfo, "host=127.0.0.1 port=%d user=ops password=ops-secret dbname=forebay sslmode=disable",
		 console);
	PGconn *conn = PQconnectdb(conninfo);
	ck_assert_msg(PQstatus(conn) == CONNECTION_OK, "%s", PQerrorMessage(conn));
	return conn;
}

static void says(PGconn *ops, const char *command) {
	PGresult *res = PQexec(ops, command);
	ck_assert_msg(PQresultStatus(res) == PGRES_COMMAND_OK, "%s: %s", command, PQerrorMessage(ops));
	PQclear(res);
}

/* How many rows of it have this value in that column. */
static int shown(PGconn *ops, const char *command, const char *column, const char *value) {
	PGresult *res = PQexec(ops, command);
	ck_assert_msg(PQresultStatus(res) == PGRES_TUPLES_OK, "%s: %s", command, PQerrorMessage(ops));
	int at = PQfnumber(res, column), n = 0;
	ck_assert_msg(at >= 0, "%s has no column %s", command, column);
	for (int i = 0; i < PQntuples(res); i++)
		n += strcmp(PQgetvalue(res, i, at), value) == 0;
	PQclear(res);
	return n;
}

static void await_shown(PGconn *ops, const char *command, const char *column, const char *value, int expected) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	while (shown(ops, command, column, value) != expected) {
		ck_assert_msg(harness_now_ms() < deadline, "%s: never %d times %s = %s", command, expected, column, value);
		harness_pause_ms(5);
	}
}

/* A query that waits for its answer on a thread of its own. */
struct waiting {
	MYSQL *my;
	const char *sql;
	pthread_t thread;
	unsigned error;
	char text[300];
};

static void *wait_for_it(void *argument) {
	struct waiting *w = argument;
	mysql_thread_init();
	if (mysql_query(w->my, w->sql) == 0) {
		MYSQL_RES *rows = mysql_store_result(w->my);
		MYSQL_ROW row = rows ? mysql_fetch_row(rows) : NULL;
		snprintf(w->text, sizeof w->text, "%s", row && row[0] ? row[0] : "");
		mysql_free_result(rows);
	}
	w->error = mysql_errno(w->my);
	if (w->error)
		snprintf(w->text, sizeof w->text, "%s", mysql_error(w->my));
	mysql_thread_end();
	return NULL;
}

static void ask(struct waiting *w, MYSQL *my, const char *sql) {
	*w = (struct waiting){.my = my, .sql = sql};
	ck_assert_int_eq(pthread_create(&w->thread, NULL, wait_for_it, w), 0);
}

static void expect_answer(struct waiting *w, unsigned error, const char *text) {
	pthread_join(w->thread, NULL);
	ck_assert_msg(w->error == error && strstr(w->text, text), "%s: %u %s", w->sql, w->error, w->text);
}

/* ---- KILL ---- */

/* tlsuser gets in nowhere without TLS: neither the connection that is meant nor the one that says KILL. */
START_TEST(a_kill_goes_as_encrypted_as_what_it_is_about) {
	char pool[300];
	int console;
	snprintf(pool, sizeof pool, "max_size = 2\ntls_mode = %s\ntls_ca_file = %s\n", _i % 2 ? "verify-full" : "verify-ca",
		 harness_path("ca.crt"));
	struct forebay *forebay = start(_i < 2 ? 1 : 4, pool, &console);
	struct maria_login login = {.user = "tlsuser"};
	MYSQL *my = maria_connect(forebay, &login), *killer = maria_connect(forebay, &login), *root = maria_control();
	struct waiting w;
	ask(&w, my, "SELECT SLEEP(50)");
	maria_await(root, "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%'", "1");
	maria_execute(killer, "KILL QUERY %lu", mysql_thread_id(my));
	pthread_join(w.thread, NULL); /* SLEEP() tells of its end by a 1, or by an error */
	ck_assert_msg(w.error == 1317 || strcmp(w.text, "1") == 0, "%u %s", w.error, w.text);
	maria_expect(my, "SELECT VARIABLE_VALUE <> '' FROM information_schema.session_status WHERE VARIABLE_NAME = 'ssl_cipher'", "1");
	mysql_close(my);
	mysql_close(killer);
	mysql_close(root);
	forebay_stop(forebay);
}
END_TEST

/* ---- leaks ---- */

START_TEST(a_client_that_forgets_its_transaction_is_named_and_loses_it) {
	int console;
	struct forebay *forebay =
		start(WORKERS(_i), "max_size = 1\nleak_detection_threshold = 300ms\nleak_action = close\n", &console);
	PGconn *ops = operator_of(console);
	MYSQL *a = maria_connect(forebay, &(struct maria_login){.program = "forgetful"}), *b = maria_connect(forebay, NULL);
	maria_execute(a, "CREATE OR REPLACE TABLE app.leak (v INT)");
	maria_execute(a, "BEGIN");
	maria_execute(a, "INSERT INTO app.leak VALUES (1)");
	/* another gets the one server, rolled back */
	maria_expect(b, "SELECT COUNT(*) FROM app.leak", "0");
	forebay_await_log(forebay, "leak_detected");
	ck_assert_int_eq(harness_count_in(forebay->log, "leak_detected"), 1);
	ck_assert_int_ge(shown(ops, "SHOW LEAKS", "last_statement", "INSERT INTO app.leak VALUES (?)") +
				 shown(ops, "SHOW LEAKS", "last_statement", "INSERT INTO app.leak VALUES (1)"), 1);
	ck_assert_int_ne(mysql_query(a, "COMMIT"), 0);
	ck_assert_msg(strstr(mysql_error(a), "leak_detection_threshold"), "%u %s", mysql_errno(a), mysql_error(a));
	mysql_close(a);
	mysql_close(b);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

/* A pinned session is one that keeps its server, and leaks only while others wait. */
START_TEST(a_pinned_session_left_idle_leaks_while_others_wait) {
	int console;
	struct forebay *forebay = start(WORKERS(_i), "max_size = 1\nleak_detection_threshold = 300ms\n", &console);
	PGconn *ops = operator_of(console);
	MYSQL *a = maria_connect(forebay, NULL), *b = maria_connect(forebay, NULL);
	struct waiting w;
	maria_execute(a, "SET @mine = 1");
	ask(&w, b, "SELECT 'b'");
	await_shown(ops, "SHOW LEAKS", "state", "leaking", 1);
	maria_expect(a, "SELECT @mine", "1"); /* it is but named */
	ck_assert_int_eq(mysql_reset_connection(a), 0);
	expect_answer(&w, 0, "b");
	await_shown(ops, "SHOW LEAKS", "state", "leaking", 0);
	mysql_close(a);
	mysql_close(b);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

/* ---- keepalive ---- */

START_TEST(idle_connections_are_proved_alive) {
	static const char pings[] =
		"SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'com_admin_commands'";
	int console;
	struct forebay *forebay = start(WORKERS(_i), "max_size = 1\nkeepalive_interval = 50ms\nmonitor_interval = 0\n", &console);
	MYSQL *my = maria_connect(forebay, NULL), *root = maria_control();
	long id = maria_long(my, "SELECT CONNECTION_ID()"), before = maria_long(root, pings);
	for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS; maria_long(root, pings) < before + 3;) {
		ck_assert_msg(harness_now_ms() < deadline, "nobody pings");
		harness_pause_ms(5);
	}
	/* and it is the same still */
	ck_assert_int_eq(maria_long(my, "SELECT CONNECTION_ID()"), id);
	mysql_close(my);
	mysql_close(root);
	forebay_stop(forebay);
}
END_TEST

START_TEST(a_connection_that_fails_its_trial_is_replaced) {
	int console;
	MYSQL *root = maria_control();
	maria_execute(root, "CREATE OR REPLACE TABLE app.trial (v INT)");
	struct forebay *forebay = start(WORKERS(_i), "max_size = 1\nalive_bypass_window = 0\nmonitor_interval = 0\n"
						     "validation_query = SELECT v FROM app.trial\n", &console);
	MYSQL *my = maria_connect(forebay, NULL);
	long id = maria_long(my, "SELECT CONNECTION_ID()");
	ck_assert_int_eq(harness_count_in(forebay->log, "validation_failed"), 0);
	ck_assert_int_eq(maria_long(my, "SELECT CONNECTION_ID()"), id);
	maria_execute(root, "DROP TABLE app.trial");
	/* what was on trial has gone, another takes its place */
	ck_assert_int_ne(maria_long(my, "SELECT CONNECTION_ID()"), id);
	forebay_await_log(forebay, "validation_failed");
	mysql_close(my);
	mysql_close(root);
	forebay_stop(forebay);
}
END_TEST

/* ---- PAUSE and RESUME ---- */

START_TEST(pause_waits_for_transactions_and_resume_lets_go_on) {
	int console;
	struct forebay *forebay = start(WORKERS(_i), "max_size = 3\nmonitor_interval = 0\n", &console);
	PGconn *ops = operator_of(console), *watch = operator_of(console);
	MYSQL *a = maria_connect(forebay, NULL), *b = maria_connect(forebay, NULL), *root = maria_control();
	struct waiting w;
	maria_execute(a, "CREATE OR REPLACE TABLE app.paused (v INT)");
	maria_execute(b, "SET time_zone = '+03:00'");
	maria_execute(a, "BEGIN");
	maria_execute(a, "INSERT INTO app.paused VALUES (1)");
	ck_assert(PQsendQuery(ops, "PAUSE app"));
	await_shown(watch, "SHOW DATABASES", "paused", "1", 1);
	/* who is in a transaction goes on; who is not waits */
	ask(&w, b, "SELECT CONCAT(@@time_zone, ' ', COUNT(*)) FROM app.paused");
	await_shown(watch, "SHOW POOLS", "cl_waiting", "1", 1);
	maria_execute(a, "INSERT INTO app.paused VALUES (2)");
	ck_assert(PQconsumeInput(ops) && PQisBusy(ops));
	maria_execute(a, "COMMIT");
	PGresult *res = PQgetResult(ops);
	ck_assert_msg(PQresultStatus(res) == PGRES_COMMAND_OK, "%s", PQerrorMessage(ops));
	PQclear(res);
	while ((res = PQgetResult(ops)))
		PQclear(res);
	maria_await(root, "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'app'", "0");
	/* nothing is opened meanwhile; PING needs no server */
	ck_assert_int_eq(mysql_ping(a), 0);
	ck_assert_int_eq(maria_connections(root, NULL), 0);
	says(ops, "RESUME app");
	expect_answer(&w, 0, "+03:00 2");
	maria_expect(a, "SELECT COUNT(*) FROM app.paused", "2");
	mysql_close(a);
	mysql_close(b);
	mysql_close(root);
	PQfinish(ops);
	PQfinish(watch);
	forebay_stop(forebay);
}
END_TEST

/* ---- the binary log ---- */

/* The next packets until one holds these words. */
static void await_event(struct my_raw *raw, const char *words) {
	for (;;) {
		size_t len;
		uint8_t sequence, *packet = my_raw_packet(raw, &len, &sequence);
		ck_assert_msg(packet, "no event holds \"%s\"", words);
		ck_assert_msg(*packet == 0, "the stream ended: %.*s", (int)len, (char *)packet + 1);
		bool found = memmem(packet, len, words, strlen(words));
		free(packet);
		if (found)
			return;
	}
}

START_TEST(who_reads_the_binary_log_has_a_server_of_its_own) {
	static const uint8_t enlist[] = "\x15\7\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";           /* COM_REGISTER_SLAVE, server 7 */
	static const uint8_t dump[] = "\x12\4\0\0\0\0\0\7\0\0\0" "binlog.000001";            /* from position 4 on */
	char path[300];
	int console;
	uint8_t sequence, *packet;
	size_t len;
	struct forebay *forebay = start(WORKERS(_i), "max_size = 2\nquery_timeout = 300ms\n", &console);
	PGconn *ops = operator_of(console);
	MYSQL *root = maria_control(), *my = maria_connect(forebay, NULL);
	maria_execute(root, "GRANT REPLICATION SLAVE, REPLICATION SLAVE ADMIN ON *.* TO app");
	maria_execute(root, "CREATE OR REPLACE TABLE app.logged (v CHAR(40))");
	snprintf(path, sizeof path, "%s/.s.PGSQL.%d", forebay->socket_dir, forebay->port);
	struct my_raw raw = my_raw_connect(path, 0, RAW_DEPRECATE_EOF, "app");
	ck_assert_int_ge(raw.fd, 0);
	ck_assert(my_raw_send(&raw, 0, enlist, sizeof enlist));
	packet = my_raw_packet(&raw, &len, &sequence);
	ck_assert_msg(packet && *packet == 0, "%.*s", packet ? (int)len : 0, (char *)packet);
	free(packet);
	ck_assert(my_raw_send(&raw, 0, dump, sizeof dump - 1));
	for (int i = 0; i < 3; i++) { /* for longer than query_timeout: it is no query */
		char words[40];
		snprintf(words, sizeof words, "event-%d-of-%d", i, _i);
		maria_execute(my, "INSERT INTO app.logged VALUES ('%s')", words);
		await_event(&raw, words);
		harness_pause_ms(150);
	}
	await_shown(ops, "SHOW CLIENTS", "replication", "binlog", 1);
	/* the other server is everybody's still, and this one comes back to nobody */
	maria_await(root, "SELECT COUNT(*) FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'", "1");
	my_raw_close(&raw);
	maria_await(root, "SELECT COUNT(*) FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'", "0");
	MYSQL *more[2] = {maria_connect(forebay, NULL), maria_connect(forebay, NULL)};
	for (int i = 0; i < 2; i++)
		maria_execute(more[i], "BEGIN");
	for (int i = 0; i < 2; i++) {
		maria_expect(more[i], "SELECT COUNT(*) > 0 FROM app.logged", "1");
		mysql_close(more[i]);
	}
	mysql_close(my);
	mysql_close(root);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	static const char *const options[] = {"--log-bin=binlog", "--server-id=1", "--binlog-format=STATEMENT",
					      "--binlog-checksum=NONE", NULL};
	maria_begin(options);
	Suite *suite = suite_create("what holds for both protocols, over MySQL");
	TCase *tc = tcase_create("work");
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, a_kill_goes_as_encrypted_as_what_it_is_about, 0, 4);
	LOOP(tc, a_client_that_forgets_its_transaction_is_named_and_loses_it);
	LOOP(tc, a_pinned_session_left_idle_leaks_while_others_wait);
	LOOP(tc, idle_connections_are_proved_alive);
	LOOP(tc, a_connection_that_fails_its_trial_is_replaced);
	LOOP(tc, pause_waits_for_transactions_and_resume_lets_go_on);
	LOOP(tc, who_reads_the_binary_log_has_a_server_of_its_own);
	suite_add_tcase(suite, tc);
	return harness_run(suite);
}
