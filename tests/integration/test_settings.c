/* A client's settings are its own, whatever server it gets: those that PostgreSQL reports, and those of its start-up. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "query.h"
#include "wire.h"

static const char *const reported[] = {
	"server_version", "server_encoding",       "client_encoding",   "application_name",
	"is_superuser",   "session_authorization", "DateStyle",         "IntervalStyle",
	"TimeZone",       "integer_datetimes",     "standard_conforming_strings",
	"in_hot_standby", "default_transaction_read_only",
};

static struct forebay *one_server(int workers) {
	return forebay_start(&(struct forebay_setup){.workers = workers, .pool = "max_size = 1"});
}

START_TEST(welcome_tells_what_the_server_tells) {
	struct forebay *forebay = forebay_start(&(struct forebay_setup){.workers = WORKERS(_i)});
	struct forebay direct = {.port = harness_postgres_port()};

	/* Twice: the first client comes before any server is there. */
	for (int round = 0; round < 2; round++) {
		PGconn *conn = connect_with(forebay, "application_name=hello");
		PGconn *server = connect_with(&direct, "application_name=hello");

		for (size_t i = 0; i < sizeof(reported) / sizeof(reported[0]); i++) {
			const char *ours = PQparameterStatus(conn, reported[i]);
			const char *theirs = PQparameterStatus(server, reported[i]);

			ck_assert_msg(ours && theirs && strcmp(ours, theirs) == 0, "%s is %s, not %s", reported[i],
				      ours ? ours : "missing", theirs);
		}
		PQfinish(conn);
		PQfinish(server);
	}
	forebay_stop(forebay);
}
END_TEST

static void check_settings(PGconn *conn, const char *const (*settings)[2], size_t n) {
	for (size_t i = 0; i < n; i++) {
		char sql[128];
		const char *status = PQparameterStatus(conn, settings[i][0]);

		snprintf(sql, sizeof(sql), "select current_setting('%s')", settings[i][0]);
		expect_value(conn, sql, settings[i][1]);
		ck_assert_msg(!status || strcmp(status, settings[i][1]) == 0, "the client was told that %s is %s, not %s",
			      settings[i][0], status ? status : "", settings[i][1]);
	}
}

START_TEST(reported_settings_stay_with_their_client) {
	static const char *const of_a[][2] = {
		{"application_name", "a's \"app\" \\ one"}, {"DateStyle", "German, DMY"},
		{"TimeZone", "Asia/Kolkata"},              {"IntervalStyle", "iso_8601"},
		{"client_encoding", "LATIN1"},             {"standard_conforming_strings", "off"},
		{"default_transaction_read_only", "on"},
	};
	static const char *const of_b[][2] = {
		{"application_name", "b; drop table x; --'"}, {"DateStyle", "SQL, MDY"},
		{"TimeZone", "<+0130>-01:30"},               {"IntervalStyle", "postgres"},
		{"client_encoding", "UTF8"},                 {"standard_conforming_strings", "on"},
		{"default_transaction_read_only", "off"},
	};
	struct forebay *forebay = one_server(WORKERS(_i));
	PGconn *a = connect_app(forebay), *b = connect_app(forebay);

	for (size_t i = 0; i < sizeof(of_a) / sizeof(of_a[0]); i++) {
		char *quoted = PQescapeLiteral(a, of_a[i][1], strlen(of_a[i][1]));

		execute(a, "set %s = %s", of_a[i][0], strcmp(of_a[i][0], "DateStyle") == 0 ? "German, DMY" : quoted);
		PQfreemem(quoted);
		quoted = PQescapeLiteral(b, of_b[i][1], strlen(of_b[i][1]));
		execute(b, "set %s = %s", of_b[i][0], strcmp(of_b[i][0], "DateStyle") == 0 ? "SQL, MDY" : quoted);
		PQfreemem(quoted);
	}
	for (int round = 0; round < 4; round++) {
		check_settings(a, of_a, sizeof(of_a) / sizeof(of_a[0]));
		check_settings(b, of_b, sizeof(of_b) / sizeof(of_b[0]));
	}
	/* A third, which has set nothing, finds the defaults. */
	PQfinish(b);
	b = connect_app(forebay);
	for (int round = 0; round < 2; round++) {
		expect_value(b, "show client_encoding", "UTF8");
		expect_value(b, "show application_name", "");
		expect_value(b, "show standard_conforming_strings", "on");
		expect_value(b, "show DateStyle", "ISO, MDY");
		expect_value(a, "show IntervalStyle", "iso_8601");
	}
	PQfinish(a);
	PQfinish(b);
	forebay_stop(forebay);
}
END_TEST

START_TEST(text_comes_in_the_encoding_of_each_client) {
	struct forebay *forebay = one_server(WORKERS(_i));
	PGconn *latin = connect_with(forebay, "client_encoding=LATIN1");
	PGconn *utf8 = connect_with(forebay, "client_encoding=UTF8");

	for (int i = 0; i < 4; i++) {
		expect_value(latin, "select chr(233)", "\xe9");
		expect_value(utf8, "select chr(233)", "\xc3\xa9");
		expect_value(latin, "select ascii('\xe9')", "233");
		expect_value(utf8, "select ascii('\xc3\xa9')", "233");
	}
	PQfinish(latin);
	PQfinish(utf8);
	forebay_stop(forebay);
}
END_TEST

START_TEST(settings_follow_a_rollback_and_a_reset) {
	struct forebay *forebay = one_server(WORKERS(_i));
	PGconn *a = connect_app(forebay), *b = connect_with(forebay, "application_name=bee");

	execute(a, "set TimeZone = 'Europe/Paris'");
	execute(a, "begin");
	execute(a, "set TimeZone = 'Asia/Tokyo'");
	expect_value(a, "show TimeZone", "Asia/Tokyo");
	execute(a, "rollback");
	expect_value(b, "show application_name", "bee");
	expect_value(a, "show TimeZone", "Europe/Paris");
	execute(a, "begin; set local TimeZone = 'Asia/Tokyo'");
	expect_value(a, "show TimeZone", "Asia/Tokyo");
	execute(a, "commit");
	expect_value(b, "select 1", "1");
	expect_value(a, "show TimeZone", "Europe/Paris");
	execute(a, "reset TimeZone");
	expect_value(b, "select 1", "1");
	expect_value(a, "select current_setting('TimeZone') = boot_val or current_setting('TimeZone') = reset_val "
			"from pg_settings where name = 'TimeZone'",
		     "t");
	PQfinish(a);
	PQfinish(b);
	forebay_stop(forebay);
}
END_TEST

START_TEST(start_up_options_are_applied_to_whatever_server) {
	struct forebay *forebay = one_server(WORKERS(_i));
	PGconn *control = connect_control();
	PGconn *a, *b, *c;

	execute(control, "drop schema if exists odd cascade; drop schema if exists \"Odd, Schema\" cascade");
	execute(control, "create schema odd; create table odd.here(v int); create schema \"Odd, Schema\"; "
			 "create table \"Odd, Schema\".there(v int); grant all on schema odd, \"Odd, Schema\" to app; "
			 "grant all on odd.here, \"Odd, Schema\".there to app");
	a = connect_with(forebay, "options='-c search_path=odd,public -c extra_float_digits=0 --geqo=off'");
	b = connect_with(forebay, "options='-c search_path=\"Odd,\\\\ Schema\",\"$user\" "
				  "-cstatement_timeout=54321'");
	c = connect_app(forebay);
	for (int i = 0; i < 4; i++) {
		expect_value(a, "select count(*) from here", "0");
		expect_value(a, "select 0.1::float8 + 0.2::float8", "0.3");
		expect_value(a, "show geqo", "off");
		expect_error(b, "select count(*) from here", "42P01");
		expect_value(b, "select count(*) from there", "0");
		expect_value(b, "show statement_timeout", "54321ms");
		expect_value(c, "show statement_timeout", "0");
		expect_value(c, "show geqo", "on");
		expect_value(c, "select 0.1::float8 + 0.2::float8", "0.30000000000000004");
		expect_error(c, "select count(*) from here", "42P01");
	}
	PQfinish(a);
	PQfinish(b);
	PQfinish(c);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

/* Logs in by hand with one more start-up parameter. */
static struct raw login_with(const struct forebay *forebay, const char *name, const char *value) {
	struct raw raw = raw_connect(forebay);
	struct bytes b = {0};

	put_startup(&b, 3 << 16, "user", "app", "database", "app", name, value, NULL);
	raw_send_bytes(&raw, &b);
	raw_until(&raw, 'Z');
	return raw;
}

static void raw_expect_value(struct raw *raw, const char *sql, const char *expected) {
	struct message m;

	raw_put(raw, 'Q', "s", sql);
	raw_expect(raw, 'T');
	m = raw_expect(raw, 'D');
	ck_assert_msg(m.len - 6 == strlen(expected) && memcmp(m.body + 6, expected, m.len - 6) == 0,
		      "%s: expected %zu bytes \"%.80s\", got %u bytes \"%.*s\"", sql, strlen(expected), expected,
		      m.len - 6, m.len > 86 ? 80 : (int)m.len - 6, (const char *)m.body + 6);
	raw_until(raw, 'Z');
}

START_TEST(start_up_values_of_any_length_and_content_arrive) {
	static const size_t lengths[] = {1, 126, 127, 128, 300, 1000, 5000, 9000};
	struct forebay *forebay = forebay_start(&(struct forebay_setup){
		.workers = WORKERS(_i), .pool = "max_size = 1", .listener = "auth = trust"});
	struct raw plain;

	if (harness_direct())
		return;
	plain = raw_connect(forebay);
	raw_login(&plain);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		char value[9001];
		struct raw raw;

		for (size_t j = 0; j < lengths[i]; j++)
			value[j] = "ab'\"\\ ;$e--/*"[(i + j * 5) % 13];
		value[lengths[i]] = 0;
		raw = login_with(forebay, "forebay.tenant", value);
		for (int round = 0; round < 3; round++) {
			raw_expect_value(&raw, "select current_setting('forebay.tenant')", value);
			raw_expect_value(&plain, "select coalesce(current_setting('forebay.tenant', true), '')", "");
		}
		raw_close(&raw);
		raw_expect_value(&plain, "select coalesce(current_setting('forebay.tenant', true), '')", "");
	}
	raw_close(&plain);
	forebay_stop(forebay);
}
END_TEST

START_TEST(setting_unknown_to_postgresql_hurts_only_who_asked_for_it) {
	struct forebay *forebay = forebay_start(&(struct forebay_setup){
		.workers = WORKERS(_i), .pool = "max_size = 2", .listener = "auth = trust"});
	PGconn *good;

	if (harness_direct())
		return;
	good = connect_app(forebay);
	for (int i = 0; i < 3; i++) {
		struct raw bad = raw_connect(forebay);
		struct bytes b = {0};
		struct message m;

		/* Told at login or, once it has a server, at the first query. */
		put_startup(&b, 3 << 16, "user", "app", "database", "app", "no_such_setting", "1", NULL);
		put_query(&b, "select 1");
		raw_send_bytes(&bad, &b);
		m = raw_until(&bad, 'E');
		ck_assert_msg(strstr(error_field(&m, 'M'), "no_such_setting") != NULL, "%s", error_field(&m, 'M'));
		raw_close(&bad);
		expect_value(good, "select 'well'", "well");
	}
	PQfinish(good);
	forebay_stop(forebay);
}
END_TEST

/* Each request behind the refused one wants the settings as much as that did. */
START_TEST(nothing_behind_a_refused_setting_runs_without_it) {
	static const char *const modes[] = {"transaction", "session"};

	if (harness_direct())
		return;
	for (size_t mode = 0; mode < 2; mode++) {
		char pool[64];
		snprintf(pool, sizeof pool, "max_size = %zu\npool_mode = %s", mode + 1, modes[mode]);
		struct forebay *forebay = forebay_start(&(struct forebay_setup){
			.workers = WORKERS(_i), .pool = pool, .listener = "auth = trust"});
		PGconn *good = connect_app(forebay);
		struct raw bad = raw_connect(forebay);
		struct bytes b = {0};
		struct message m;
		int refused = 0;

		put_startup(&b, 3 << 16, "user", "app", "database", "app", "options", "-c work_mem=nonsense", NULL);
		raw_send_bytes(&bad, &b);
		do
			ck_assert_int_eq(raw_read(&bad, &m), RAW_MESSAGE);
		while (m.type != 'Z' && m.type != 'E');
		if (m.type == 'Z') {
			put_query(&b, "select 1");
			put_query(&b, "create table ran_without_its_setting ()");
			put_parse(&b, "", "select 2");
			put_bind(&b, "", NULL);
			put_execute(&b);
			put_sync(&b);
			put_query(&b, "select 3");
			raw_send_bytes(&bad, &b);
			for (int ready = 0; ready < 4;) {
				ck_assert_int_eq(raw_read(&bad, &m), RAW_MESSAGE);
				ck_assert_msg(m.type == 'E' || m.type == 'Z', "got a %c in mode %s: %s", m.type, modes[mode],
					      m.type == 'N' ? error_field(&m, 'M') : "");
				refused += m.type == 'E';
				ready += m.type == 'Z';
			}
			ck_assert_int_eq(refused, 4);
		}
		raw_close(&bad);
		expect_value(good, "select to_regclass('ran_without_its_setting') is null", "t");
		PQfinish(good);
		forebay_stop(forebay);
	}
}
END_TEST

START_TEST(settings_of_many_clients_on_few_servers_never_mix) {
	enum { CLIENTS = 12 };
	struct forebay *forebay =
		forebay_start(&(struct forebay_setup){.workers = WORKERS(_i), .pool = "max_size = 3"});
	PGconn *conn[CLIENTS];

	for (int i = 0; i < CLIENTS; i++)
		conn[i] = connect_with(forebay, "application_name=client-%d options='-c forebay.n=%d'", i, i);
	for (int round = 0; round < 10; round++) {
		for (int i = 0; i < CLIENTS; i++)
			send_query(conn[i], "select current_setting('application_name') || ' ' || "
					    "current_setting('forebay.n')");
		for (int i = 0; i < CLIENTS; i++) {
			char expected[64];

			snprintf(expected, sizeof(expected), "client-%d %d", i, i);
			expect_text(next_result(conn[i]), expected);
			ck_assert_ptr_null(next_result(conn[i]));
		}
	}
	for (int i = 0; i < CLIENTS; i++)
		PQfinish(conn[i]);
	forebay_stop(forebay);
}
END_TEST

START_TEST(settings_apply_to_extended_queries_and_pipelines_too) {
	struct forebay *forebay = one_server(WORKERS(_i));
	PGconn *a = connect_with(forebay, "application_name=first"), *b = connect_with(forebay, "application_name=second");

	for (int i = 0; i < 5; i++) {
		expect_text(PQexecParams(a, "show application_name", 0, NULL, NULL, NULL, NULL, 0), "first");
		expect_text(PQexecParams(b, "show application_name", 0, NULL, NULL, NULL, NULL, 0), "second");
		ck_assert_int_eq(PQenterPipelineMode(b), 1);
		ck_assert_int_eq(PQsendQueryParams(b, "show application_name", 0, NULL, NULL, NULL, NULL, 0), 1);
		ck_assert_int_eq(PQpipelineSync(b), 1);
		expect_text(next_result(b), "second");
		ck_assert_ptr_null(next_result(b));
		expect_result(next_result(b), PGRES_PIPELINE_SYNC);
		ck_assert_int_eq(PQexitPipelineMode(b), 1);
	}
	PQfinish(a);
	PQfinish(b);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("settings");
	TCase *tcase = tcase_create("settings");

	harness_begin(NULL);
	tcase_set_timeout(tcase, 120);
	suite_add_tcase(suite, tcase);
	LOOP(tcase, welcome_tells_what_the_server_tells);
	LOOP(tcase, reported_settings_stay_with_their_client);
	LOOP(tcase, text_comes_in_the_encoding_of_each_client);
	LOOP(tcase, settings_follow_a_rollback_and_a_reset);
	LOOP(tcase, start_up_options_are_applied_to_whatever_server);
	LOOP(tcase, start_up_values_of_any_length_and_content_arrive);
	LOOP(tcase, setting_unknown_to_postgresql_hurts_only_who_asked_for_it);
	LOOP(tcase, nothing_behind_a_refused_setting_runs_without_it);
	LOOP(tcase, settings_of_many_clients_on_few_servers_never_mix);
	LOOP(tcase, settings_apply_to_extended_queries_and_pipelines_too);
	return harness_run(suite);
}
