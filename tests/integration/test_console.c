/* The console: any PostgreSQL client on database forebay (or pgbouncer), what it shows and what it does. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "query.h"

static PGconn *operator_of(const struct forebay *forebay) {
	return connect_with(forebay, "user=ops password=ops-secret dbname=forebay");
}

/* The value of a column in the row whose first column is `key`; "" where there is none. */
static char *cell(PGconn *conn, const char *sql, const char *key, const char *column) {
	PGresult *res = PQexec(conn, sql);
	int n = PQfnumber(res, column);
	char *value = NULL;

	ck_assert_msg(PQresultStatus(res) == PGRES_TUPLES_OK, "%s: %s", sql, PQresultErrorMessage(res));
	ck_assert_msg(n >= 0, "%s has no column %s", sql, column);
	for (int row = 0; row < PQntuples(res) && !value; row++) {
		if (!key || strcmp(PQgetvalue(res, row, 0), key) == 0)
			value = strdup(PQgetvalue(res, row, n));
	}
	PQclear(res);
	return value ? value : strdup("");
}

static void await_cell(PGconn *conn, const char *sql, const char *key, const char *column, const char *expected) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	for (;;) {
		char *value = cell(conn, sql, key, column);
		bool same = strcmp(value, expected) == 0;

		if (!same && harness_now_ms() > deadline)
			ck_abort_msg("%s: %s of %s is still \"%s\", not \"%s\"", sql, column, key ? key : "the first row",
				     value, expected);
		free(value);
		if (same)
			return;
		harness_pause_ms(10);
	}
}

START_TEST(every_show_answers) {
	static const char *const shows[] = {"POOLS", "CLIENTS", "SERVERS", "CONFIG", "VERSION"};
	static const char *const names[] = {"forebay", "pgbouncer"};
	struct forebay *forebay;
	PGconn *ops, *app;

	if (harness_direct())
		return;
	forebay = forebay_start(&(struct forebay_setup){.workers = WORKERS(_i)});
	app = connect_with(forebay, "application_name=shown");
	execute(app, "begin");
	for (size_t i = 0; i < 2; i++) {
		ops = connect_with(forebay, "user=ops password=ops-secret dbname=%s", names[i]);
		for (size_t j = 0; j < sizeof(shows) / sizeof(shows[0]); j++) {
			char sql[64];
			PGresult *res;

			snprintf(sql, sizeof(sql), i ? "show %s;" : "SHOW %s", shows[j]);
			res = PQexec(ops, sql);
			ck_assert_msg(PQresultStatus(res) == PGRES_TUPLES_OK, "%s: %s", sql, PQresultErrorMessage(res));
			ck_assert_int_ge(PQntuples(res), 1);
			ck_assert_str_eq(PQcmdStatus(res), "SHOW");
			PQclear(res);
			/* By the extended protocol too, as some tools do. */
			res = PQexecParams(ops, sql, 0, NULL, NULL, NULL, NULL, 0);
			ck_assert_msg(PQresultStatus(res) == PGRES_TUPLES_OK, "%s, extended: %s", sql,
				      PQresultErrorMessage(res));
			PQclear(res);
		}
		expect_error(ops, "SHOW NONSENSE", "42601");
		expect_error(ops, "insert into pools values (1)", "42601");
		expect_value(ops, "", "");
		PQfinish(ops);
	}
	execute(app, "rollback");
	PQfinish(app);
	forebay_stop(forebay);
}
END_TEST

START_TEST(pools_clients_and_servers_are_counted) {
	struct forebay *forebay;
	PGconn *ops, *a, *b, *c;
	char *value;

	if (harness_direct())
		return;
	forebay = forebay_start(&(struct forebay_setup){.workers = WORKERS(_i), .pool = "max_size = 2"});
	ops = operator_of(forebay);
	a = connect_with(forebay, "application_name=one");
	b = connect_app(forebay);
	c = connect_app(forebay);
	begin_holding(a);
	begin_holding(b);
	/* As PgBouncer counts: with a server, or without a wish. */
	await_cell(ops, "SHOW POOLS", "app", "cl_active", "3");
	await_cell(ops, "SHOW POOLS", "app", "sv_active", "2");
	send_query(c, "select 'waits'");
	await_cell(ops, "SHOW POOLS", "app", "cl_waiting", "1");
	value = cell(ops, "SHOW POOLS", "app", "user");
	ck_assert_str_eq(value, "app");
	free(value);
	execute(a, "commit");
	expect_text(next_result(c), "waits");
	ck_assert_ptr_null(next_result(c));
	await_cell(ops, "SHOW POOLS", "app", "cl_waiting", "0");
	await_cell(ops, "SHOW POOLS", "app", "sv_idle", "1");
	value = cell(ops, "SHOW POOLS", "app", "pool_mode");
	ck_assert_str_eq(value, "transaction");
	free(value);
	{
		PGresult *res = PQexec(ops, "SHOW CLIENTS");
		int user = PQfnumber(res, "user"), n = 0;

		for (int i = 0; i < PQntuples(res); i++)
			n += strcmp(PQgetvalue(res, i, user), "app") == 0;
		ck_assert_int_eq(n, 3);
		PQclear(res);
		res = PQexec(ops, "SHOW SERVERS");
		ck_assert_int_eq(PQntuples(res), 2);
		ck_assert_int_ge(PQfnumber(res, "state"), 0);
		ck_assert_int_ge(PQfnumber(res, "remote_pid"), 0);
		PQclear(res);
	}
	PQfinish(a);
	PQfinish(b);
	PQfinish(c);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

START_TEST(roles_are_kept_apart) {
	struct forebay *forebay;
	PGconn *watcher, *ops;

	if (harness_direct())
		return;
	forebay = forebay_start(&(struct forebay_setup){.workers = WORKERS(_i)});
	expect_refused(try_connect(forebay, "dbname=forebay"), "");
	expect_refused(try_connect(forebay, "dbname=pgbouncer"), "");
	expect_refused(try_connect(forebay, "user=ops password=wrong dbname=forebay"), "password authentication failed");
	watcher = connect_with(forebay, "user=watcher password=watcher-secret dbname=forebay");
	ck_assert_int_ge((int)strlen(query(watcher, "SHOW VERSION")), 1);
	expect_error(watcher, "RELOAD", "42501");
	expect_error(watcher, "SHUTDOWN", "42501");
	execute(watcher, "SHOW POOLS");
	ck_assert(forebay_alive(forebay));
	ops = operator_of(forebay);
	execute(ops, "RELOAD");
	PQfinish(watcher);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

START_TEST(reload_changes_the_bound) {
	struct forebay_setup setup = {.workers = WORKERS(_i), .pool = "max_size = 1\nacquire_timeout = 2s"};
	struct forebay *forebay;
	PGconn *ops, *a, *b, *c, *control = connect_control();
	PGresult *res;

	if (harness_direct())
		return;
	forebay = forebay_start(&setup);
	ops = operator_of(forebay);
	a = connect_app(forebay);
	b = connect_app(forebay);
	begin_holding(a);
	expect_failure(PQexec(b, "select 1"), "53300");
	if (PQstatus(b) == CONNECTION_BAD) {
		PQfinish(b);
		b = connect_app(forebay);
	}
	setup.pool = "max_size = 3\nacquire_timeout = 20s";
	forebay_rewrite_ini(forebay, &setup);
	execute(ops, "RELOAD");
	expect_value(b, "select 'room now'", "room now");
	{
		char *value = cell(ops, "SHOW CONFIG", NULL, "value");

		free(value);
	}
	c = connect_app(forebay);
	begin_holding(b);
	begin_holding(c);
	ck_assert_int_eq(server_connections(control), 3);
	/* Smaller again, by SIGHUP; what is too much goes when it is free. */
	setup.pool = "max_size = 1\nacquire_timeout = 20s";
	forebay_rewrite_ini(forebay, &setup);
	kill(forebay->pid, SIGHUP);
	forebay_await_log(forebay, "max_size");
	expect_value(a, "select 'goes on'", "goes on");
	execute(a, "commit");
	execute(b, "commit");
	execute(c, "commit");
	await_value(control, "select count(*) from pg_stat_activity where usename = 'app'", "1");
	res = PQexec(a, "select 1");
	expect_result(res, PGRES_TUPLES_OK);
	PQfinish(a);
	PQfinish(b);
	PQfinish(c);
	PQfinish(ops);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(bad_file_is_refused_and_the_old_one_stays) {
	struct forebay_setup setup = {.workers = WORKERS(_i)}, bad = setup;
	static const char *const mistakes[] = {"max_sise = 3", "max_size = many", "acquire_timeout = 30", "pool_mode = quick"};
	struct forebay *forebay;
	PGconn *ops, *app;

	if (harness_direct())
		return;
	forebay = forebay_start(&setup);
	ops = operator_of(forebay);
	app = connect_app(forebay);
	for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
		PGresult *res;

		bad.pool = mistakes[i];
		forebay_rewrite_ini(forebay, &bad);
		res = PQexec(ops, "RELOAD");
		ck_assert_msg(PQresultStatus(res) == PGRES_FATAL_ERROR, "RELOAD took \"%s\"", mistakes[i]);
		ck_assert_int_eq(PQstatus(ops), CONNECTION_OK);
		PQclear(res);
		expect_value(app, "select 'as before'", "as before");
		await_cell(ops, "SHOW POOLS", "app", "pool_mode", "transaction");
	}
	kill(forebay->pid, SIGHUP);
	forebay_await_log(forebay, "pool_mode");
	expect_value(app, "select 'as before'", "as before");
	forebay_rewrite_ini(forebay, &setup);
	execute(ops, "RELOAD");
	PQfinish(ops);
	PQfinish(app);
	forebay_stop(forebay);
}
END_TEST

START_TEST(shutdown_ends_the_process) {
	struct forebay *forebay;
	PGconn *ops, *app;

	if (harness_direct())
		return;
	forebay = forebay_start(&(struct forebay_setup){.workers = WORKERS(_i)});
	ops = operator_of(forebay);
	app = connect_app(forebay);
	expect_value(app, "select 1", "1");
	PQclear(PQexec(ops, "SHUTDOWN"));
	forebay_await_exit(forebay);
	PQfinish(ops);
	PQfinish(app);
}
END_TEST

START_TEST(psql_s_own_habits_work) {
	struct forebay *forebay;
	char port[16];

	if (harness_direct())
		return;
	forebay = forebay_start(&(struct forebay_setup){.workers = WORKERS(_i)});
	snprintf(port, sizeof(port), "%d", forebay->port);
	setenv("PGPASSWORD", "ops-secret", 1);
	ck_assert(harness_command((const char *const[]){"psql", "-X", "-h", "127.0.0.1", "-p", port, "-U", "ops", "-d",
							"pgbouncer", "-v", "ON_ERROR_STOP=1", "-c", "SHOW POOLS;", "-c",
							"SHOW CLIENTS", NULL}));
	unsetenv("PGPASSWORD");
	forebay_stop(forebay);
}
END_TEST

/* ---- each command of the table, as everybody, by both protocols ---- */

struct said {
	bool ok;
	char sqlstate[6];
	int columns;
	unsigned types; /* their object ids, mixed */
};

static struct said outcome(PGresult *res, const char *text) {
	struct said said = {.columns = PQnfields(res)};
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);

	ck_assert_msg(res != NULL && PQresultStatus(res) != PGRES_BAD_RESPONSE, "%s: no answer", text);
	said.ok = PQresultStatus(res) == PGRES_TUPLES_OK || PQresultStatus(res) == PGRES_COMMAND_OK;
	snprintf(said.sqlstate, sizeof(said.sqlstate), "%s", state ? state : "");
	for (int i = 0; i < said.columns; i++)
		said.types = said.types * 31 + PQftype(res, i);
	PQclear(res);
	return said;
}

static struct said say(PGconn *conn, bool extended, const char *text) {
	struct said said;

	if (!extended)
		return outcome(PQexec(conn, text), text);
	said = outcome(PQexecParams(conn, text, 0, NULL, NULL, NULL, NULL, 0), text);
	/* drivers ask what a statement gives before they run it */
	if (said.ok && strncmp(text, "SHOW", 4) == 0) {
		struct said prepared = outcome(PQprepare(conn, "", text, 0, NULL), text), described;
		described = outcome(PQdescribePrepared(conn, ""), text);
		ck_assert_msg(prepared.ok && described.ok, "%s cannot be described", text);
		ck_assert_int_eq(described.columns, said.columns);
		ck_assert_uint_eq(described.types, said.types);
		described = outcome(PQexecPrepared(conn, "", 0, NULL, NULL, NULL, 0), text);
		ck_assert(described.ok);
	}
	return said;
}

/* A command as SHOW HELP tells it, with an argument that is there. */
static void fill_in(char *text, size_t room, const char *help, PGconn *app) {
	char words[64], id[20];
	size_t len = strcspn(help, "[");

	snprintf(words, sizeof(words), "%.*s", (int)len, help);
	snprintf(id, sizeof(id), "%d", PQbackendPID(app));
	if (strcmp(help, "KILL_CLIENT id") == 0)
		snprintf(text, room, "KILL_CLIENT %s", id);
	else if (strcmp(help, "SET key = value") == 0)
		snprintf(text, room, "SET log_level = info");
	else if (strncmp(help, "SHUTDOWN", 8) == 0)
		snprintf(text, room, "SHUTDOWN");
	else if (strstr(help, "[database]"))
		snprintf(text, room, "%sapp", words);
	else if (strstr(help, " database"))
		snprintf(text, room, "%.*s app", (int)(strstr(help, " database") - help), help);
	else
		snprintf(text, room, "%s", help);
}

/* 0: simple, 1: extended protocol. */
START_TEST(each_command_is_for_whom_the_table_says) {
	bool extended = _i == 1;
	int for_admins = 0, for_all = 0;

	if (harness_direct())
		return;
	struct forebay *forebay = forebay_start(&(struct forebay_setup){.workers = 2});
	PGconn *ops = operator_of(forebay);
	PGconn *watcher = connect_with(forebay, "user=watcher password=watcher-secret dbname=pgbouncer");
	PGconn *outsider = connect_app(forebay), *victim = connect_app(forebay);
	PGresult *help = PQexec(watcher, "SHOW HELP");
	ck_assert_int_ge(PQntuples(help), 30);
	for (int i = 0; i < PQntuples(help); i++) {
		bool is_for_admins = strcmp(PQgetvalue(help, i, 1), "admin") == 0;
		char text[100];

		fill_in(text, sizeof(text), PQgetvalue(help, i, 0), victim);
		/* an outsider has no console: this goes to the database, which knows none of it but its own SHOW */
		expect_refused(try_connect(forebay, "dbname=%s", i % 2 ? "forebay" : "pgbouncer"), "");
		struct said said = say(outsider, extended, text);
		ck_assert_msg(!said.ok, "the database answers %s", text);
		said = say(watcher, extended, text);
		if (is_for_admins || strncmp(text, "SET", 3) == 0) {
			ck_assert_msg(!said.ok && strcmp(said.sqlstate, "42501") == 0, "%s as a stats user: %s", text, said.sqlstate);
			for_admins++;
		} else {
			ck_assert_msg(said.ok, "%s as a stats user: %s", text, said.sqlstate);
			for_all++;
		}
		/* there must be something to resume */
		if (strncmp(text, "RESUME", 6) == 0)
			ck_assert(say(ops, extended, "PAUSE app").ok);
		said = say(ops, extended, text);
		ck_assert_msg(said.ok, "%s as an admin: %s", text, said.sqlstate);
		ck_assert_msg((strncmp(text, "SHOW", 4) == 0) == (said.columns > 0), "%s has %d columns", text, said.columns);
		if (strncmp(text, "PAUSE", 5) == 0 || strncmp(text, "KILL app", 8) == 0) {
			ck_assert(say(ops, extended, "RESUME app").ok);
			PQfinish(outsider);
			PQfinish(victim);
			outsider = connect_app(forebay);
			victim = connect_app(forebay);
		}
	}
	ck_assert_int_ge(for_admins, 11);
	ck_assert_int_ge(for_all, 19);
	/* the last of them was SHUTDOWN */
	forebay_await_exit(forebay);
	PQclear(help);
	PQfinish(ops);
	PQfinish(watcher);
	PQfinish(outsider);
	PQfinish(victim);
}
END_TEST

START_TEST(statements_have_names_and_results_are_text) {
	if (harness_direct())
		return;
	struct forebay *forebay = forebay_start(&(struct forebay_setup){.workers = WORKERS(_i)});
	PGconn *ops = operator_of(forebay);
	PQclear(PQprepare(ops, "pools", "SHOW POOLS", 0, NULL));
	PQclear(PQprepare(ops, "version", "SHOW VERSION", 0, NULL));
	PGresult *res = PQexecPrepared(ops, "version", 0, NULL, NULL, NULL, 0);
	ck_assert_int_eq(PQntuples(res), 1);
	ck_assert_int_eq(strncmp(PQgetvalue(res, 0, 0), "forebay ", 8), 0);
	PQclear(res);
	res = PQexecPrepared(ops, "pools", 0, NULL, NULL, NULL, 0);
	ck_assert_int_eq(PQfnumber(res, "database"), 0);
	PQclear(res);
	ck_assert_str_eq(say(ops, false, "SHOW VERSION").sqlstate, "");
	ck_assert_str_eq(outcome(PQprepare(ops, "pools", "SHOW LISTS", 0, NULL), "again").sqlstate, "42P05");
	ck_assert_str_eq(outcome(PQexecPrepared(ops, "none", 0, NULL, NULL, NULL, 0), "none").sqlstate, "26000");
	ck_assert_str_eq(outcome(PQdescribePrepared(ops, "none"), "none").sqlstate, "26000");
	ck_assert_str_eq(outcome(PQexecParams(ops, "SHOW LISTS", 0, NULL, NULL, NULL, NULL, 1), "binary").sqlstate, "0A000");
	ck_assert_str_eq(say(ops, true, "SHOW NOTHING").sqlstate, "42601");
	/* columns are told of a command that comes behind a comment, as tools put it there */
	static const char *const WAYS[] = {"/* a tool's */ SHOW LISTS", "-- a tool's\nSHOW LISTS", "/* of /* two */ */\n ; show lists;",
					   "\"SHOW\" lists"};
	int columns = say(ops, true, "SHOW LISTS").columns;
	for (size_t i = 0; i < sizeof(WAYS) / sizeof(WAYS[0]); i++) {
		struct said said = say(ops, true, WAYS[i]);
		ck_assert_msg(said.ok && said.columns == columns, "%s: %d columns %s", WAYS[i], said.columns, said.sqlstate);
	}
	ck_assert_str_eq(say(ops, true, "/* SHOW LISTS").sqlstate, "42601");
	/* a hundred names, not more, and each error leaves the connection at work */
	char name[20];
	for (int i = 0; i < 97; i++) {
		snprintf(name, sizeof(name), "s%d", i);
		ck_assert(outcome(PQprepare(ops, name, "SHOW LISTS", 0, NULL), name).ok);
	}
	ck_assert_str_eq(outcome(PQprepare(ops, "more", "SHOW LISTS", 0, NULL), "more").sqlstate, "53400");
	ck_assert(outcome(PQexecPrepared(ops, "s96", 0, NULL, NULL, NULL, 0), "s96").ok);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

static void expect_set(PGconn *conn, const char *text, const char *complaint) {
	PGresult *res = PQexec(conn, text);
	bool ok = PQresultStatus(res) == PGRES_COMMAND_OK;

	ck_assert_msg(ok == (complaint == NULL), "%s: %s", text, PQresultErrorMessage(res));
	ck_assert_msg(ok || strstr(PQresultErrorMessage(res), complaint), "%s: %s", text, PQresultErrorMessage(res));
	PQclear(res);
}

START_TEST(set_holds_until_the_next_reload) {
	if (harness_direct())
		return;
	struct forebay *forebay = forebay_start(&(struct forebay_setup){.workers = WORKERS(_i), .pool = "max_size = 4"});
	PGconn *ops = operator_of(forebay), *app = connect_app(forebay);
	execute(app, "select 1");
	expect_set(ops, "SET pool:app.max_size = 7", NULL);
	await_cell(ops, "SHOW DATABASES", "app", "pool_size", "7");
	expect_set(ops, "SET max_clients TO '77'", NULL);
	await_cell(ops, "SHOW CONFIG", "max_clients", "value", "77");
	await_cell(ops, "SHOW DATABASES", "app", "pool_size", "7");
	expect_set(ops, "SET workers = 3", "[forebay] workers: it takes a restart");
	expect_set(ops, "SET pool:app.password = 'x'", "a secret is not said on the console");
	expect_set(ops, "SET pool:app.max_size = many", "[pool:app] max_size = many: ");
	expect_set(ops, "SET pool:nobody.max_size = 3", "pool:nobody.max_size: there is no such section");
	expect_set(ops, "SET max_cleints = 3", "did you mean max_clients?");
	expect_set(ops, "SET max_size = 3", "expected it in [pool:NAME]");
	/* what was refused has left nothing behind */
	expect_set(ops, "SET pool:app.max_size = 8", NULL);
	await_cell(ops, "SHOW DATABASES", "app", "pool_size", "8");
	await_cell(ops, "SHOW CONFIG", "max_clients", "value", "77");
	execute(ops, "RELOAD");
	await_cell(ops, "SHOW DATABASES", "app", "pool_size", "4");
	await_cell(ops, "SHOW CONFIG", "max_clients", "value", "10000");
	expect_value(app, "select 'served'", "served");
	PQfinish(app);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("console");
	TCase *tcase = tcase_create("console");

	harness_begin(NULL);
	tcase_set_timeout(tcase, 120);
	suite_add_tcase(suite, tcase);
	LOOP(tcase, every_show_answers);
	LOOP(tcase, pools_clients_and_servers_are_counted);
	LOOP(tcase, roles_are_kept_apart);
	LOOP(tcase, reload_changes_the_bound);
	LOOP(tcase, bad_file_is_refused_and_the_old_one_stays);
	LOOP(tcase, shutdown_ends_the_process);
	LOOP(tcase, each_command_is_for_whom_the_table_says);
	LOOP(tcase, statements_have_names_and_results_are_text);
	LOOP(tcase, set_holds_until_the_next_reload);
	LOOP(tcase, psql_s_own_habits_work);
	return harness_run(suite);
}
