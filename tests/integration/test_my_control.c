/* The control plane over MySQL: auth_query, the monitor, --check. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mariadb.h"
#include "query.h"

static struct forebay *start(int workers, const char *pool, const char *more, bool bare) {
	return maria_forebay(&(struct forebay_setup){
		.workers = workers, .pool = pool, .more = more, .no_default_users = bare});
}

/* ---- auth_query ---- */

START_TEST(secrets_of_unlisted_users_are_looked_up) {
	struct forebay *forebay =
		start(WORKERS(_i), "auth_user = authuser\nauth_password = authuser-secret\nauth_cache_ttl = 0", NULL, true);
	MYSQL *my, *control = maria_control();

	for (int i = 0; i < 2; i++) {
		my = maria_connect(forebay, NULL);
		maria_expect(my, "select current_user()", "app@%");
		mysql_close(my);
		my = maria_connect(forebay, &(struct maria_login){.user = "second"});
		maria_expect(my, "select current_user()", "second@%");
		mysql_close(my);
	}
	maria_expect_refused(maria_try(forebay, &(struct maria_login){.password = "wrong"}), 1045, "Access denied");
	maria_expect_refused(maria_try(forebay, &(struct maria_login){.user = "nobody"}), 1045, "Access denied");
	/* who has no password there gets in nowhere */
	maria_expect_refused(maria_try(forebay, &(struct maria_login){.user = "trusted", .password = ""}), 1045, "Access denied");
	/* a new password counts at once where nothing is kept; an account that is locked does not */
	maria_execute(control, "set password for second = password('changed')");
	maria_expect_refused(maria_try(forebay, &(struct maria_login){.user = "second"}), 1045, "Access denied");
	my = maria_connect(forebay, &(struct maria_login){.user = "second", .password = "changed"});
	maria_expect(my, "select current_user()", "second@%");
	mysql_close(my);
	maria_execute(control, "alter user second account lock");
	maria_expect_refused(maria_try(forebay, &(struct maria_login){.user = "second", .password = "changed"}), 1045,
			     "Access denied");
	maria_execute(control, "alter user second account unlock");
	maria_execute(control, "set password for second = password('second-secret')");
	mysql_close(control);
	forebay_stop(forebay);
}
END_TEST

/* Such a section says how much a user may have, not who it is. */
START_TEST(a_section_without_a_password_leaves_the_secret_to_the_database) {
	struct forebay *forebay =
		start(WORKERS(_i), "auth_user = authuser\nauth_password = authuser-secret",
		      "[user:app]\nmax_connections = 5\n[user:second]\npassword = its-own\n", true);
	MYSQL *my = maria_connect(forebay, NULL);
	maria_expect(my, "select current_user()", "app@%");
	mysql_close(my);
	maria_expect_refused(maria_try(forebay, &(struct maria_login){.password = "wrong"}), 1045, "Access denied");
	/* a password that is there counts alone */
	maria_expect_refused(maria_try(forebay, &(struct maria_login){.user = "second"}), 1045, "Access denied");
	my = maria_connect(forebay, &(struct maria_login){.user = "second", .password = "its-own"});
	mysql_close(my);
	forebay_stop(forebay);
	/* without auth_query, nobody can be */
	forebay = start(1, NULL, "[user:app]\nmax_connections = 5\n", true);
	maria_expect_refused(maria_try(forebay, NULL), 1045, "Access denied");
	forebay_await_log(forebay, "the user has no password");
	forebay_stop(forebay);
}
END_TEST

START_TEST(own_query_is_asked_and_judged) {
	static const struct {
		const char *sql;
		unsigned code; /* 0: let in */
	} cases[] = {
		{"select user, 'app-secret' from mysql.user where user = ?", 0},
		{"select user, authentication_string from mysql.user where user = ?", 0},
		{"select 'another', 'app-secret' from mysql.user where user = ?", 1158},
		{"select user, 'app-secret', 1 from mysql.user where user = ?", 1158},
		{"select user, 'app-secret' from mysql.user where user in (?, 'root')", 1158},
		{"select user, repeat('x', 5000) from mysql.user where user = ?", 1158},
		{"select user, 'app-secret' from mysql.user", 1158},
		{"select user, null from mysql.user where user = ?", 1045},
		{"select user, 'x' from mysql.user where user = ? and false", 1045},
		{"select nonsense", 1158},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char pool[400];
		snprintf(pool, sizeof(pool), "auth_user = authuser\nauth_password = authuser-secret\nauth_query = %s", cases[i].sql);
		struct forebay *forebay = start(1, pool, NULL, true);
		MYSQL *my = maria_try(forebay, NULL);
		ck_assert_msg(mysql_errno(my) == cases[i].code, "%s: %u %s", cases[i].sql, mysql_errno(my), mysql_error(my));
		mysql_close(my);
		if (cases[i].code == 1158)
			forebay_await_log(forebay, "auth_query of pool");
		ck_assert_int_eq(harness_count_in(forebay->log, "app-secret"), 0);
		forebay_stop(forebay);
	}
}
END_TEST

START_TEST(a_database_that_cannot_be_asked_is_no_wrong_password) {
	char pool[200];

	snprintf(pool, sizeof(pool), "hosts = 127.0.0.1:%d\nauth_user = authuser\nauth_password = x\nmonitor_interval = 0",
		 harness_free_port());
	struct forebay *forebay = start(WORKERS(_i), pool, NULL, true);
	maria_expect_refused(maria_try(forebay, NULL), 1158, "cannot be looked up at the moment");
	forebay_stop(forebay);
}
END_TEST

/* ---- the monitor ---- */

/* A line of SHOW HOSTS on a console, which is PostgreSQL's; the columns with these names. */
static void await_host(int console, const char *column, const char *expected) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	char conninfo[200];

	snprintf(conninfo, sizeof(conninfo), "host=127.0.0.1 port=%d user=ops password=ops-secret dbname=forebay sslmode=disable",
		 console);
	for (;;) {
		PGconn *conn = PQconnectdb(conninfo);
		ck_assert_msg(PQstatus(conn) == CONNECTION_OK, "%s", PQerrorMessage(conn));
		PGresult *res = PQexec(conn, "SHOW HOSTS");
		ck_assert_msg(PQresultStatus(res) == PGRES_TUPLES_OK, "%s", PQerrorMessage(conn));
		int at = PQfnumber(res, column);
		ck_assert_msg(at >= 0, "SHOW HOSTS has no column \"%s\"", column);
		ck_assert_int_eq(PQntuples(res), 1);
		bool same = strncmp(PQgetvalue(res, 0, at), expected, strlen(expected)) == 0;
		ck_assert_msg(same || harness_now_ms() < deadline, "%s is \"%s\", never \"%s\"", column, PQgetvalue(res, 0, at),
			      expected);
		PQclear(res);
		PQfinish(conn);
		if (same)
			return;
		harness_pause_ms(20);
	}
}

static struct forebay *start_watched(int workers, int *console) {
	char more[200];

	*console = harness_free_port();
	snprintf(more, sizeof(more), "[listener:console]\nlisten = 127.0.0.1:%d\n", *console);
	return start(workers, "monitor_interval = 100ms\nvalidation_timeout = 5s\nmin_idle = 0", more, false);
}

START_TEST(monitor_tells_what_a_host_is_and_when_it_goes_and_comes) {
	int console;
	struct forebay *forebay = start_watched(WORKERS(_i), &console);
	MYSQL *control = maria_control();

	await_host(console, "state", "up");
	await_host(console, "version", "10.11");
	await_host(console, "role", "primary");
	await_host(console, "max_connections", "150");
	/* known before anybody has logged in for a client: so is the greeting */
	MYSQL *my = maria_connect(forebay, NULL);
	ck_assert_msg(strstr(mysql_get_server_info(my), "MariaDB"), "%s", mysql_get_server_info(my));
	mysql_close(my);
	maria_execute(control, "set global read_only = 1");
	await_host(console, "role", "standby");
	maria_execute(control, "set global read_only = 0");
	await_host(console, "role", "primary");
	mysql_close(control);
	maria_stop(true);
	await_host(console, "state", "down");
	maria_start();
	await_host(console, "state", "up");
	my = maria_connect(forebay, NULL);
	maria_expect(my, "select 1", "1");
	mysql_close(my);
	forebay_stop(forebay);
}
END_TEST

START_TEST(a_monitor_that_is_not_let_in_says_so_once_and_takes_the_host_for_there) {
	char more[200];
	int console = harness_free_port();

	snprintf(more, sizeof(more), "[listener:console]\nlisten = 127.0.0.1:%d\n", console);
	struct forebay *forebay =
		start(WORKERS(_i), "monitor_interval = 100ms\nmonitor_user = monitor\nmonitor_password = wrong", more, false);
	await_host(console, "state", "up");
	forebay_await_log(forebay, "a probe failed");
	MYSQL *my = maria_connect(forebay, NULL);
	maria_expect(my, "select 1", "1");
	mysql_close(my);
	ck_assert_int_eq(harness_count_in(forebay->log, "monitor_refused"), 1);
	forebay_stop(forebay);
}
END_TEST

/* ---- users of both protocols ---- */

START_TEST(mysqls_hash_is_no_password_on_a_postgresql_listener) {
	static const char hash[] = "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19";
	static const char *const auths[] = {"scram-sha-256", "md5", "password"};
	char more[500], conninfo[300];

	for (size_t i = 0; i < 3; i++) {
		int port = harness_free_port();
		snprintf(more, sizeof(more),
			 "[listener:pg]\nlisten = 127.0.0.1:%d\nauth = %s\n[pool:pg]\nhosts = 127.0.0.1:1\nmin_idle = 0\n"
			 "[user:hashed]\npassword = %s\n",
			 port, auths[i], hash);
		struct forebay *forebay = start(1, NULL, more, true);
		snprintf(conninfo, sizeof(conninfo), "host=127.0.0.1 port=%d user=hashed dbname=pg password='%s' sslmode=disable", port,
			 hash);
		PGconn *conn = PQconnectdb(conninfo);
		ck_assert_int_ne(PQstatus(conn), CONNECTION_OK);
		ck_assert_msg(strstr(PQerrorMessage(conn), "password authentication failed"), "%s", PQerrorMessage(conn));
		PQfinish(conn);
		forebay_stop(forebay);
	}
}
END_TEST

/* ---- --check ---- */

START_TEST(check_says_what_it_finds_at_a_mysql_host) {
	const char *ini = harness_path("check.ini");
	char text[600], *said;
	static const struct {
		const char *pool;
		int code;
		const char *words;
	} cases[] = {
		{"user = app\npassword = app-secret\n", 0, "10.11"},
		{"user = app\npassword = wrong\n", 1, "Access denied"},
		{"", 0, "reached only"},
		{"auth_user = authuser\nauth_password = authuser-secret\n", 0, "tried as auth_user"},
		{"user = app\npassword = *2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19\n", 0, "reached only"},
	};
	for (size_t i = 0; i <= sizeof(cases) / sizeof(cases[0]); i++) {
		bool gone = i == sizeof(cases) / sizeof(cases[0]);
		snprintf(text, sizeof(text),
			 "[listener:my]\nprotocol = mysql\nlisten = 127.0.0.1:%d\n[pool:app]\nprotocol = mysql\nhosts = 127.0.0.1:%d\n%s",
			 harness_free_port(), gone ? harness_free_port() : maria_port(), gone ? "" : cases[i].pool);
		harness_write(ini, text);
		int code = forebay_check(ini, &said);
		ck_assert_msg(code == (gone ? 1 : cases[i].code), "exit code %d:\n%s", code, said);
		if (!gone)
			ck_assert_msg(strstr(said, cases[i].words), "no \"%s\" in:\n%s", cases[i].words, said);
		free(said);
	}
}
END_TEST

int main(void) {
	Suite *suite = suite_create("control plane over MySQL");
	TCase *tc = tcase_create("control");

	maria_begin(NULL);
	tcase_set_timeout(tc, 60);
	LOOP(tc, secrets_of_unlisted_users_are_looked_up);
	LOOP(tc, a_section_without_a_password_leaves_the_secret_to_the_database);
	tcase_add_test(tc, own_query_is_asked_and_judged);
	LOOP(tc, a_database_that_cannot_be_asked_is_no_wrong_password);
	tcase_add_test(tc, mysqls_hash_is_no_password_on_a_postgresql_listener);
	tcase_add_test(tc, check_says_what_it_finds_at_a_mysql_host);
	LOOP(tc, monitor_tells_what_a_host_is_and_when_it_goes_and_comes);
	LOOP(tc, a_monitor_that_is_not_let_in_says_so_once_and_takes_the_host_for_there);
	suite_add_tcase(suite, tc);
	return harness_run(suite);
}
