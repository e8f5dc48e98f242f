/*
 * The files of people who have PgBouncer (tests/pgbouncer): Forebay runs with them as they are, and with what --convert
 * makes of them, and does what they say.
 */
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/config.h"
#include "query.h"

/* ---- a sample, with its marks replaced ---- */

static const char *value_of(const struct forebay *forebay, const char *mark, size_t len) {
	static char number[2][16];

	snprintf(number[0], sizeof number[0], "%d", forebay->port);
	snprintf(number[1], sizeof number[1], "%d", harness_postgres_port());
	const struct {
		const char *mark, *value;
	} marks[] = {{"@PORT@", number[0]},	       {"@PGPORT@", number[1]}, {"@DIR@", forebay->socket_dir},
		     {"@SOCKETS@", harness_path("pg")}, {"@CERTS@", harness_dir()}, {"@USER@", getpwuid(geteuid())->pw_name},
		     {"@ALL@", "127.0.0.1"}};
	for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
		if (strlen(marks[i].mark) == len && strncmp(marks[i].mark, mark, len) == 0)
			return marks[i].value;
	return NULL;
}

static void copy(const struct forebay *forebay, const char *name, const char *to) {
	char path[4300];

	snprintf(path, sizeof path, "%s/tests/pgbouncer/%s", getenv("top_srcdir") ? getenv("top_srcdir") : ".", name);
	char *text = harness_read(path);
	FILE *out = fopen(to, "we");
	ck_assert_msg(out != NULL, "cannot write %s", to);
	for (const char *at = text; *at;) {
		const char *end = *at == '@' ? strchr(at + 1, '@') : NULL;
		const char *value = end ? value_of(forebay, at, (size_t)(end + 1 - at)) : NULL;
		if (value)
			fputs(value, out);
		else
			fputc(*at, out);
		at = value ? end + 1 : at + 1;
	}
	ck_assert_int_eq(fclose(out), 0);
	free(text);
}

enum { AS_IT_IS, CONVERTED };

static struct forebay *start_with(const char *name, int how, bool sockets_only) {
	static const char *const BESIDE[] = {"userlist.txt", "authuser.txt", "hba.conf", "ident.conf", "06-included.ini"};
	struct forebay *forebay = forebay_prepare();
	char path[400];

	for (size_t i = 0; i < sizeof BESIDE / sizeof BESIDE[0]; i++) {
		snprintf(path, sizeof path, "%s/%s", forebay->socket_dir, BESIDE[i]);
		copy(forebay, BESIDE[i], path);
	}
	if (how == AS_IT_IS) {
		copy(forebay, name, forebay->ini);
	} else {
		struct config_errors errors;
		snprintf(path, sizeof path, "%s/%s", forebay->socket_dir, name);
		copy(forebay, name, path);
		FILE *out = fopen(forebay->ini, "we");
		ck_assert(config_convert(path, out, &errors));
		ck_assert_int_eq(fclose(out), 0);
	}
	forebay->sockets_only = sockets_only;
	if (sockets_only) /* PostgreSQL's own folder, where its socket is as well */
		snprintf(forebay->socket_dir, sizeof forebay->socket_dir, "%s", harness_path("pg"));
	forebay_launch(forebay);
	return forebay;
}

static struct forebay *start(const char *name, int how) {
	return start_with(name, how, false);
}

/* ---- what is asked of them ---- */

static void works(const struct forebay *forebay, const char *words, const char *user, const char *database) {
	char expected[200];
	PGconn *conn = connect_with(forebay, "%s", words);

	snprintf(expected, sizeof expected, "%s@%s", user, database);
	expect_value(conn, "select current_user || '@' || current_database()", expected);
	PQfinish(conn);
}

static void is_refused(const struct forebay *forebay, const char *words, const char *why) {
	expect_refused(try_connect(forebay, "%s", words), why);
}

/* So many clients hold a server each; the next one, whose turn would be later than query_wait_timeout, does not get one. */
static void pool_holds(const struct forebay *forebay, const char *words, int size) {
	PGconn *held[8], *late = connect_with(forebay, "%s", words), *control = connect_control();

	ck_assert_int_lt(size, 8);
	for (int i = 0; i < size; i++) {
		held[i] = connect_with(forebay, "%s", words);
		begin_holding(held[i]);
	}
	ck_assert_int_eq(server_connections(control), size);
	send_query(late, "select 1");
	PGresult *res = next_result(late);
	ck_assert_int_eq(PQresultStatus(res), PGRES_FATAL_ERROR);
	ck_assert_msg(strstr(PQresultErrorMessage(res), "no connection became free"), "%s", PQresultErrorMessage(res));
	PQclear(res);
	ck_assert_int_eq(server_connections(control), size);
	for (int i = 0; i < size; i++)
		PQfinish(held[i]);
	PQfinish(late);
	PQfinish(control);
}

/* ---- each sample ---- */

START_TEST(a_minimal_file_serves_every_kind_of_secret_and_the_console) {
	struct forebay *forebay = start("01-minimal.ini", _i);
	char words[400];

	works(forebay, "", "app", "app");
	works(forebay, "user=md5user password=md5user-secret", "md5user", "app");
	works(forebay, "user=plainuser password=plainuser-secret", "plainuser", "app");
	is_refused(forebay, "password=wrong", "password authentication failed");
	is_refused(forebay, "user=nobody", "password authentication failed");
	is_refused(forebay, "dbname=other", "no pool for database \"other\"");
	snprintf(words, sizeof words, "host=%s", forebay->socket_dir);
	works(forebay, words, "app", "app");

	PGconn *ops = connect_with(forebay, "user=ops password=ops-secret dbname=pgbouncer");
	PGresult *config = PQexec(ops, "show config");
	ck_assert_int_eq(PQresultStatus(config), PGRES_TUPLES_OK);
	ck_assert_str_eq(PQgetvalue(config, 0, 0), _i == AS_IT_IS ? "admin_users" : "workers");
	ck_assert_str_eq(PQgetvalue(config, 0, 1), _i == AS_IT_IS ? "ops" : "auto");
	PQclear(config);
	execute(ops, "reload");
	PQfinish(ops);
	is_refused(forebay, "dbname=pgbouncer", "may not enter the console");

	/* the same system user, by the socket, as PgBouncer has it; not by TCP */
	ops = connect_with(forebay, "host=%s user=pgbouncer password='' dbname=pgbouncer", forebay->socket_dir);
	execute(ops, "pause app");
	execute(ops, "resume app");
	PQfinish(ops);
	is_refused(forebay, "user=pgbouncer dbname=pgbouncer", "password authentication failed");
	snprintf(words, sizeof words, "host=%s user=pgbouncer dbname=app", forebay->socket_dir);
	is_refused(forebay, words, "password authentication failed");
	forebay_stop(forebay);
}
END_TEST

START_TEST(the_file_of_a_distribution_serves_any_database) {
	struct forebay *forebay = start("02-distribution.ini", _i);

	works(forebay, "", "app", "app");
	works(forebay, "dbname=other", "app", "other");
	PGconn *watcher = connect_with(forebay, "user=watcher password=watcher-secret dbname=pgbouncer");
	expect_value(watcher, "show version", "forebay " PACKAGE_VERSION);
	PGresult *res = PQexec(watcher, "pause");
	ck_assert_int_eq(PQresultStatus(res), PGRES_FATAL_ERROR);
	PQclear(res);
	PQfinish(watcher);
	forebay_stop(forebay);
}
END_TEST

START_TEST(a_web_application_has_its_sizes_times_and_connect_query) {
	struct forebay *forebay = start("03-web-transaction.ini", _i);

	pool_holds(forebay, "", 4);
	PGconn *conn = connect_with(forebay, "options='-c statement_timeout=77s -c work_mem=3MB -c extra_float_digits=2'");
	expect_value(conn, "show lock_timeout", "7s");
	expect_value(conn, "show statement_timeout", "0");
	expect_value(conn, "show work_mem", "3MB");
	PQfinish(conn);

	/* a session keeps its server */
	PGconn *jobs = connect_with(forebay, "dbname=app_jobs");
	execute(jobs, "create temp table mine (x int)");
	expect_value(jobs, "select count(*) from mine", "0");
	PQfinish(jobs);
	if (_i == AS_IT_IS)
		ck_assert_int_eq(harness_count_in(forebay->log, "client_connected"), 0);
	forebay_stop(forebay);
}
END_TEST

START_TEST(secrets_come_by_auth_query_and_users_have_bounds) {
	struct forebay *forebay = start("04-auth-query.ini", _i);
	PGconn *held[6], *control = connect_control();

	works(forebay, "", "app", "app");
	works(forebay, "dbname=other", "app", "other");
	works(forebay, "user=authuser password=authuser-secret dbname=other", "authuser", "other");
	/* with a file of md5 secrets PgBouncer could not either */
	is_refused(forebay, "user=md5user password=md5user-secret dbname=other", "password authentication failed");
	works(forebay, "dbname=postgres", "app", "postgres");
	is_refused(forebay, "password=wrong", "password authentication failed");
	is_refused(forebay, "user=nobody password=x", "password authentication failed");
	execute(control, "select pg_terminate_backend(pid) from pg_stat_activity where usename <> 'postgres' and backend_type = "
			 "'client backend'");
	await_value(control, "select count(*) from pg_stat_activity where usename = 'app'", "0");
	for (int i = 0; i < 6; i++)
		held[i] = connect_app(forebay);
	is_refused(forebay, "", "too many clients");
	for (int i = 0; i < 4; i++)
		begin_holding(held[i]);
	send_query(held[4], "select 'waited'");
	/* all that it may have are in use: the next is served by one of them */
	ck_assert_int_eq(query_long(control, "select count(*) from pg_stat_activity where usename = 'app'"), 4);
	execute(held[0], "commit");
	PGresult *res = next_result(held[4]);
	expect_text(res, "waited");
	ck_assert_ptr_null(next_result(held[4]));
	ck_assert_int_eq(query_long(control, "select count(*) from pg_stat_activity where usename = 'app'"), 4);
	for (int i = 0; i < 6; i++)
		PQfinish(held[i]);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(the_file_of_a_container_runs) {
	struct forebay *forebay = start("05-container.ini", _i);

	works(forebay, "", "app", "app");
	works(forebay, "dbname=other user=plainuser password=plainuser-secret", "plainuser", "other");
	forebay_stop(forebay);
}
END_TEST

START_TEST(the_file_of_an_operator_has_tls_on_both_sides) {
	struct forebay *forebay = start("06-operator.ini", _i);
	char words[400];

	PGconn *conn = connect_with(forebay, "sslmode=require");
	ck_assert(PQsslInUse(conn));
	expect_value(conn, "select ssl::text from pg_stat_ssl where pid = pg_backend_pid()", "true");
	PQfinish(conn);
	is_refused(forebay, "sslmode=disable", "encrypted connections only");
	is_refused(forebay, "sslmode=require user=ops", "pg_hba.conf");
	snprintf(words, sizeof words, "host=%s", forebay->socket_dir);
	works(forebay, words, "app", "app");
	forebay_stop(forebay);
}
END_TEST

START_TEST(everybody_is_one_user) {
	struct forebay *forebay = start("07-one-user.ini", _i);
	PGconn *held[2], *control = connect_control();
	struct stat st;
	char path[400];

	works(forebay, "user=whoever password=none", "app", "app");
	works(forebay, "user=whoever password=none dbname=sales-2024", "md5user", "other");
	PGconn *conn = connect_with(forebay, "user=somebody");
	expect_value(conn, "show timezone", "UTC");
	PQfinish(conn);
	for (int i = 0; i < 2; i++) {
		held[i] = connect_with(forebay, "user=user%d", i);
		begin_holding(held[i]);
	}
	/* and the one of the other database */
	ck_assert_int_eq(server_connections(control), 3);
	for (int i = 0; i < 2; i++)
		PQfinish(held[i]);
	PQfinish(control);
	snprintf(path, sizeof path, "%s/.s.PGSQL.%d", forebay->socket_dir, forebay->port);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_mode & 0777, 0700);
	forebay_stop(forebay);
}
END_TEST

START_TEST(a_file_of_rules_decides_by_address) {
	struct forebay *forebay = start("08-hba.ini", _i);
	char words[400];

	works(forebay, "", "app", "app");
	is_refused(forebay, "user=ops password=ops-secret", "pg_hba.conf");
	snprintf(words, sizeof words, "host=%s user=md5user password=md5user-secret", forebay->socket_dir);
	works(forebay, words, "md5user", "app");
	forebay_stop(forebay);
}
END_TEST

START_TEST(tenants_and_users_have_bounds_of_their_own) {
	struct forebay *forebay = start("09-tenants.ini", _i);
	PGconn *conns[5];

	pool_holds(forebay, "dbname=tenant_a", 2);
	for (int i = 0; i < 5; i++)
		conns[i] = connect_with(forebay, "dbname=tenant_a user=%s password=%s-secret", i % 2 ? "app" : "plainuser",
					i % 2 ? "app" : "plainuser");
	is_refused(forebay, "dbname=tenant_a", "too many clients");
	for (int i = 0; i < 5; i++)
		PQfinish(conns[i]);
	PGconn *conn = connect_with(forebay, "dbname=tenant_c");
	PGresult *res = PQexec(conn, "begin");
	ck_assert_int_eq(PQresultStatus(res), PGRES_FATAL_ERROR);
	PQclear(res);
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

START_TEST(one_of_many_processes_serves_alone) {
	struct forebay *forebay = start("10-many-processes.ini", _i);

	works(forebay, "", "app", "app");
	if (_i == AS_IT_IS) {
		forebay_await_log(forebay, "so_reuseport = 1 is ignored");
		forebay_await_log(forebay, "[peers] is ignored");
	}
	forebay_stop(forebay);
}
END_TEST

START_TEST(lists_of_hosts_are_followed) {
	struct forebay *forebay = start("11-replicas.ini", _i);

	works(forebay, "", "app", "app");
	works(forebay, "dbname=reports user=watcher", "app", "app");
	/* trust asks for no password, but not everybody is known */
	is_refused(forebay, "dbname=reports user=whoever", "trust authentication failed for user \"whoever\"");
	is_refused(forebay, "dbname=pgbouncer user=whoever", "trust authentication failed for user \"whoever\"");
	forebay_stop(forebay);
}
END_TEST

START_TEST(sockets_alone_are_enough) {
	struct forebay *forebay = start_with("12-socket-only.ini", _i, true);
	char words[400];

	snprintf(words, sizeof words, "host=%s", forebay->socket_dir);
	works(forebay, words, "app", "app");
	snprintf(words, sizeof words, "host=%s dbname=postgres_app", forebay->socket_dir);
	works(forebay, words, "trusted", "app");
	PGconn *conn = connect_with(forebay, "host=%s", forebay->socket_dir);
	expect_error(conn, "select pg_sleep(20)", "57014");
	expect_value(conn, "select 1", "1");
	PQfinish(conn);
	ck_assert(!harness_port_accepts(forebay->port));
	forebay_stop(forebay);
}
END_TEST

/* ---- running with it ---- */

static void append(const struct forebay *forebay, const char *line) {
	FILE *out = fopen(forebay->ini, "ae");

	ck_assert_ptr_nonnull(out);
	fprintf(out, "%s\n", line);
	ck_assert_int_eq(fclose(out), 0);
}

START_TEST(a_reload_takes_the_file_anew_or_leaves_all_as_it_is) {
	struct forebay *forebay = start("01-minimal.ini", AS_IT_IS);
	PGconn *ops = connect_with(forebay, "user=ops password=ops-secret dbname=pgbouncer");

	works(forebay, "", "app", "app");
	append(forebay, "pool_mode = transaction\nmax_client_conn = 33");
	kill(forebay->pid, SIGHUP);
	forebay_await_log(forebay, "key=pool_mode before=session after=transaction");
	forebay_await_log(forebay, "key=max_clients before=100 after=33");
	append(forebay, "pool_mode = nonsense");
	PGresult *res = PQexec(ops, "reload");
	ck_assert_int_eq(PQresultStatus(res), PGRES_FATAL_ERROR);
	ck_assert_msg(strstr(PQresultErrorMessage(res), "expected one of: session"), "%s", PQresultErrorMessage(res));
	PQclear(res);
	works(forebay, "", "app", "app");
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

START_TEST(set_holds_until_the_next_reload) {
	struct forebay *forebay = start("09-tenants.ini", AS_IT_IS);
	char words[400];

	snprintf(words, sizeof words, "host=%s user=pgbouncer dbname=pgbouncer", forebay->socket_dir);
	PGconn *ops = connect_with(forebay, "%s", words);
	pool_holds(forebay, "dbname=tenant_a user=authuser password=authuser-secret", 3);
	execute(ops, "set default_pool_size = 2");
	forebay_await_log(forebay, "key=max_size_per_user before=3 after=2");
	pool_holds(forebay, "dbname=tenant_a user=authuser password=authuser-secret", 2);
	execute(ops, "set server_reset_query = 'select 1; discard all'");
	forebay_await_log(forebay, "after=\"select 1; discard all\"");
	expect_error(ops, "set pool_mode = nonsense", "F0000");
	expect_error(ops, "set no_such_thing = 1", "F0000");
	expect_error(ops, "set pool_mode = a b", "42601");
	/* one that is refused forgets nothing: it stays in force */
	char away[420], file[400];
	snprintf(file, sizeof file, "%s/userlist.txt", forebay->socket_dir);
	snprintf(away, sizeof away, "%s.away", file);
	ck_assert_int_eq(rename(file, away), 0);
	expect_error(ops, "reload", "F0000");
	ck_assert_int_eq(rename(away, file), 0);
	execute(ops, "set verbose = 1");
	forebay_await_log(forebay, "key=log_level");
	ck_assert_int_eq(harness_count_in(forebay->log, "key=max_size_per_user before=2 after=3"), 0);
	pool_holds(forebay, "dbname=tenant_a user=authuser password=authuser-secret", 2);
	/* by one name more often than there are places for names */
	for (int i = 0; i < 101; i++)
		execute(ops, i % 2 ? "set verbose = 0" : "set verbose = 1");
	execute(ops, "reload");
	forebay_await_log(forebay, "key=max_size_per_user before=2 after=3");
	pool_holds(forebay, "dbname=tenant_a user=authuser password=authuser-secret", 3);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

START_TEST(a_bound_of_a_user_follows_a_reload) {
	struct forebay *forebay = start("09-tenants.ini", CONVERTED);
	PGconn *ops = connect_with(forebay, "host=%s user=pgbouncer dbname=pgbouncer", forebay->socket_dir);

	PGconn *control = connect_control();
	/* PgBouncer's names are those of a pgbouncer.ini */
	expect_error(ops, "set default_pool_size = 3", "F0000");
	pool_holds(forebay, "dbname=tenant_a", 2);
	execute(ops, "reconnect");
	await_value(control, "select count(*) from pg_stat_activity where usename = 'app'", "0");
	append(forebay, "[user:ops]\nmax_size = 1\n[user:authuser]\nmax_size = 1");
	pool_holds(forebay, "dbname=tenant_a user=authuser password=authuser-secret", 3);
	execute(ops, "reload");
	await_value(control, "select count(*) from pg_stat_activity where usename = 'authuser' and application_name <> "
			     "'forebay monitor'",
		    "1");
	pool_holds(forebay, "dbname=tenant_a user=authuser password=authuser-secret", 1);
	PQfinish(ops);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(an_address_that_is_not_here_is_passed_over) {
	struct forebay *forebay = forebay_prepare();
	char text[1000];

	snprintf(text, sizeof text,
		 "[databases]\napp = host=127.0.0.1 port=%d user=app password=app-secret\n[pgbouncer]\nunix_socket_dir =\n"
		 "auth_type = any\nlisten_port = %d\nlisten_addr = 192.0.2.77, 127.0.0.1\n",
		 harness_postgres_port(), forebay->port);
	harness_write(forebay->ini, text);
	forebay_launch(forebay);
	works(forebay, "", "app", "app");
	forebay_await_log(forebay, "cannot listen on 192.0.2.77");
	append(forebay, "listen_addr = 192.0.2.77");
	kill(forebay->pid, SIGHUP);
	forebay_await_log(forebay, "reload_refused");
	works(forebay, "", "app", "app");
	ck_assert_int_eq(forebay_exit_code(forebay->ini), 1);
	forebay_stop(forebay);
}
END_TEST

START_TEST(the_command_line_converts_and_refuses) {
	const char *binary = getenv("FOREBAY") ? getenv("FOREBAY") : "./forebay";
	char command[9000], text[4000];

	harness_write(harness_path("good.ini"), "[pgbouncer]\nlisten_addr = 127.0.0.1\n[databases]\nx = host=y\n");
	snprintf(command, sizeof command, "%s --convert %s", binary, harness_path("good.ini"));
	FILE *out = popen(command, "r");
	text[fread(text, 1, sizeof text - 1, out)] = 0;
	ck_assert_int_eq(pclose(out), 0);
	ck_assert_msg(strstr(text, "[pool:x]\nhosts = y:5432\n"), "%s", text);
	harness_write(harness_path("bad.ini"), "[pgbouncer]\nlisten_addr = 127.0.0.1\npool_mode = y\n");
	snprintf(command, sizeof command, "%s --convert %s 2>&1", binary, harness_path("bad.ini"));
	out = popen(command, "r");
	text[fread(text, 1, sizeof text - 1, out)] = 0;
	ck_assert_int_ne(pclose(out), 0);
	ck_assert_msg(strstr(text, "bad.ini:3: [pgbouncer] pool_mode = y"), "%s", text);
	ck_assert_int_eq(forebay_exit_code(harness_path("bad.ini")), 2);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("from_pgbouncer");
	TCase *samples = tcase_create("samples"), *running = tcase_create("running");

	harness_begin(NULL);
	if (harness_direct())
		return harness_end(0);
	tcase_set_timeout(samples, 120);
	tcase_set_timeout(running, 120);
	suite_add_tcase(suite, samples);
	suite_add_tcase(suite, running);
	LOOP(samples, a_minimal_file_serves_every_kind_of_secret_and_the_console);
	LOOP(samples, the_file_of_a_distribution_serves_any_database);
	LOOP(samples, a_web_application_has_its_sizes_times_and_connect_query);
	LOOP(samples, secrets_come_by_auth_query_and_users_have_bounds);
	LOOP(samples, the_file_of_a_container_runs);
	LOOP(samples, the_file_of_an_operator_has_tls_on_both_sides);
	LOOP(samples, everybody_is_one_user);
	LOOP(samples, a_file_of_rules_decides_by_address);
	LOOP(samples, tenants_and_users_have_bounds_of_their_own);
	LOOP(samples, one_of_many_processes_serves_alone);
	LOOP(samples, lists_of_hosts_are_followed);
	LOOP(samples, sockets_alone_are_enough);
	tcase_add_test(running, a_reload_takes_the_file_anew_or_leaves_all_as_it_is);
	tcase_add_test(running, set_holds_until_the_next_reload);
	tcase_add_test(running, a_bound_of_a_user_follows_a_reload);
	tcase_add_test(running, an_address_that_is_not_here_is_passed_over);
	tcase_add_test(running, the_command_line_converts_and_refuses);
	return harness_run(suite);
}
