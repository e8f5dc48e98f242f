/* A reload is whole or not at all, in the midst of traffic, and says what it did. */
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "traffic.h"
#include "wire.h"

#if defined(__SANITIZE_THREAD__)
enum { RELOADS = 50 };
#elif defined(__SANITIZE_ADDRESS__)
enum { RELOADS = 100 };
#else
enum { RELOADS = 500 };
#endif

/* ---- fifty a second ---- */

/* Writes the configuration of this turn; whatever it writes, clients of app and sess are served. */
typedef void change(struct forebay *forebay, int turn, void *context);

/* Fifty a second for ten seconds; fewer under sanitizers. */
static void storm(struct forebay *forebay, PGconn *ops, change *rewrite, void *context) {
	struct traffic *traffic = traffic_start(&(struct traffic_setup){
		.forebay = forebay, .comers = 2, .stayers_of_each = 1, .tls = true, .sessions = true});
	int warm = RELOADS / 5, descriptors = 0;
	size_t rss = 0;
	long long began = harness_now_ms();

	for (int i = 0; i < RELOADS; i++) {
		rewrite(forebay, i, context);
		execute(ops, "RELOAD");
		if (i == warm)
			rss = forebay_rss_kib(forebay);
		while (harness_now_ms() < began + 20 * (i + 1))
			harness_pause_ms(1);
	}
	traffic_await_more(traffic);
	struct traffic_counts counts = traffic_end(traffic);
	ck_assert_int_eq((int)counts.told, 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	ck_assert_msg(forebay_rss_kib(forebay) < rss + 8 * 1024, "it has grown from %zu to %zu KiB", rss,
		      forebay_rss_kib(forebay));
#endif
	(void)rss;
	/* nor are descriptors lost: as many as after the first such pair of reloads */
	for (int i = 0; i < 10; i++) {
		rewrite(forebay, i, context);
		execute(ops, "RELOAD");
	}
	for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS; (descriptors = forebay_descriptors(forebay)) > 100;) {
		ck_assert_msg(harness_now_ms() < deadline, "%d descriptors are open", descriptors);
		harness_pause_ms(20);
	}
}

static void copy_file(const char *from, const char *to) {
	char *text = harness_read(from);

	harness_write(to, text);
	free(text);
}

/* Another certificate at the same path. */
static void show_certificate(const char *certificate, const char *key, bool other) {
	copy_file(harness_path(other ? "client.crt" : "server.crt"), certificate);
	copy_file(harness_path(other ? "client.key" : "server.key"), key);
}

struct own_way {
	int port; /* of the listener that comes and goes */
	char certificate[300], key[300];
};

/* What changes: bounds, limits, a listener, a pool, a user, a password, the certificate. */
static void change_ini(struct forebay *forebay, int turn, void *context) {
	struct own_way *way = context;
	char *more = NULL, *second = NULL, listener[700];
	bool with = turn % 2 == 0;

	show_certificate(way->certificate, way->key, turn % 5 == 0);
	snprintf(listener, sizeof(listener), "auth = trust\ntls_cert_file = %s\ntls_key_file = %s", way->certificate, way->key);
	ck_assert_int_gt(asprintf(&second,
				  "[listener:second]\nprotocol = postgresql\nauth = trust\nlisten = 127.0.0.1:%d\n"
				  "[pool:extra]\nprotocol = postgresql\nhosts = 127.0.0.1:5\nmin_idle = 1\nuser = app\n"
				  "[user:passing]\npassword = number-%d\nmax_connections = %d\n",
				  way->port, turn, turn % 7),
			 0);
	ck_assert_int_gt(asprintf(&more,
				  "[pool:sess]\nprotocol = postgresql\nhosts = 127.0.0.1:%d\ndatabase = app\npool_mode = session\n"
				  "max_size = %d\nmonitor_interval = %s\n%s",
				  harness_postgres_port(), 3 + turn % 3, turn % 4 ? "0" : "1s", with ? second : ""),
			 0);
	const struct forebay_setup setup = {.workers = 4,
					    .process = turn % 11 ? "log_connections = off" : "log_connections = off\ntcp_keepalive_idle = 7s",
					    .listener = listener,
					    .pool = turn % 3 ? "max_size = 5\nquery_timeout = 20s" : "max_size = 3\nmin_idle = 1",
					    .more = more};
	forebay_rewrite_ini(forebay, &setup);
	free(more);
	free(second);
}

START_TEST(fifty_reloads_a_second_under_load_break_nothing_and_leak_nothing) {
	struct own_way way = {.port = harness_free_port()};
	struct forebay *forebay;

	SKIP_WHEN_DIRECT();
	snprintf(way.certificate, sizeof(way.certificate), "%s", harness_path("changing.crt"));
	snprintf(way.key, sizeof(way.key), "%s", harness_path("changing.key"));
	forebay = forebay_prepare();
	change_ini(forebay, 1, &way);
	forebay_launch(forebay);
	PGconn *ops = connect_operator(forebay);
	storm(forebay, ops, change_ini, &way);
	ck_assert_int_gt(harness_count_in(forebay->log, "certificate_changed"), RELOADS / 5);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

/* The same of a pgbouncer.ini: sizes, timeouts, databases, its list of users, the certificate. */
static void change_pgbouncer_ini(struct forebay *forebay, int turn, void *context) {
	struct own_way *way = context;
	char *text = NULL, list[300];
	int port = harness_postgres_port();

	show_certificate(way->certificate, way->key, turn % 5 == 0);
	snprintf(list, sizeof(list), "%s", harness_path("changing.txt"));
	harness_write(list, turn % 3 ? "\"app\" \"app-secret\"\n\"ops\" \"ops-secret\"\n"
				     : "\"app\" \"app-secret\"\n\"ops\" \"ops-secret\"\n\"passing\" \"x\"\n");
	ck_assert_int_gt(asprintf(&text,
				  "[databases]\n"
				  "app = host=127.0.0.1 port=%d user=app password=app-secret pool_size=%d\n"
				  "sess = host=127.0.0.1 port=%d user=app password=app-secret dbname=app pool_mode=session\n%s"
				  "[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir = %s\n"
				  "auth_type = trust\nauth_file = %s\nadmin_users = ops\npool_mode = transaction\n"
				  "default_pool_size = %d\nmin_pool_size = %d\nquery_timeout = %d\nserver_lifetime = %d\n"
				  "client_tls_sslmode = allow\nclient_tls_cert_file = %s\nclient_tls_key_file = %s\nlog_connections = 0\n"
				  "log_disconnections = 0\n%s",
				  port, 3 + turn % 3, port, turn % 2 ? "" : "extra = host=127.0.0.1 port=5 user=app min_pool_size=1\n",
				  forebay->port, forebay->socket_dir, list, 3 + turn % 2, turn % 2, turn % 3 ? 20 : 0,
				  600 + turn % 9, way->certificate, way->key,
				  turn % 4 ? "" : "[users]\npassing = max_user_connections=3\n"),
			 0);
	harness_write(forebay->ini, text);
	free(text);
}

START_TEST(the_same_of_a_pgbouncer_ini) {
	struct own_way way = {0};
	struct forebay *forebay;

	SKIP_WHEN_DIRECT();
	snprintf(way.certificate, sizeof(way.certificate), "%s", harness_path("bouncing.crt"));
	snprintf(way.key, sizeof(way.key), "%s", harness_path("bouncing.key"));
	forebay = forebay_prepare();
	change_pgbouncer_ini(forebay, 1, &way);
	forebay_launch(forebay);
	PGconn *ops = connect_with(forebay, "dbname=pgbouncer user=ops");
	storm(forebay, ops, change_pgbouncer_ini, &way);
	ck_assert_int_gt(harness_count_in(forebay->log, "certificate_changed"), RELOADS / 5);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

/* ---- certificates ---- */

static void expect_subject(const struct forebay *forebay, const char *common_name) {
	struct raw raw = raw_connect(forebay);
	char name[256] = "";

	ck_assert(raw_put(&raw, 0, "i", 80877103));
	ck_assert_int_eq(raw_byte(&raw), 'S');
	ck_assert(raw_tls(&raw, NULL));
	X509 *certificate = SSL_get1_peer_certificate(raw.ssl);
	ck_assert_ptr_nonnull(certificate);
	X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name, sizeof(name));
	X509_free(certificate);
	ck_assert_str_eq(name, common_name);
	raw_close(&raw);
}

START_TEST(a_certificate_is_read_anew) {
	char listener[1200];
	char *certificate = strdup(harness_path("shown.crt")), *key = strdup(harness_path("shown.key"));
	struct forebay *forebay;

	SKIP_WHEN_DIRECT();
	snprintf(listener, sizeof(listener), "auth = trust\ntls_cert_file = %s\ntls_key_file = %s", certificate, key);
	copy_file(harness_path("client.crt"), certificate);
	copy_file(harness_path("client.key"), key);
	forebay = forebay_start(&(struct forebay_setup){.workers = WORKERS(_i), .listener = listener});
	PGconn *ops = connect_operator(forebay), *stays = connect_with(forebay, "sslmode=require");
	expect_subject(forebay, "certuser");
	copy_file(harness_path("mapped.crt"), certificate);
	/* the key is not its own: as if only one of the two had been written so far */
	expect_error(ops, "RELOAD", "F0000");
	expect_subject(forebay, "certuser");
	copy_file(harness_path("mapped.key"), key);
	execute(ops, "RELOAD");
	expect_subject(forebay, "Some Body");
	forebay_await_log(forebay, "has another certificate now");
	execute(ops, "RELOAD");
	ck_assert_int_eq(harness_count_in(forebay->log, "has another certificate now"), 1);
	expect_value(stays, "select 1", "1");
	PQfinish(stays);
	PQfinish(ops);
	free(certificate);
	free(key);
	forebay_stop(forebay);
}
END_TEST

/* ---- pools ---- */

START_TEST(pools_come_change_and_go_and_the_log_says_so_without_secrets) {
	char more[600];
	struct forebay_setup without = {.workers = WORKERS(_i), .listener = "auth = trust"}, with = without, changed = without;
	struct forebay *forebay;

	SKIP_WHEN_DIRECT();
	snprintf(more, sizeof(more),
		 "[pool:extra]\nprotocol = postgresql\nhosts = 127.0.0.1:%d\ndatabase = other\nuser = app\npassword = app-secret\n"
		 "max_size = 2\nmonitor_interval = 0\n",
		 harness_postgres_port());
	with.more = more;
	forebay = forebay_start(&without);
	PGconn *ops = connect_operator(forebay), *control = connect_control();
	expect_refused(try_connect(forebay, "dbname=extra"), "there is no pool for database");
	forebay_rewrite_ini(forebay, &with);
	execute(ops, "RELOAD");
	PGconn *holder = connect_with(forebay, "dbname=extra"), *idle = connect_with(forebay, "dbname=extra");
	begin_holding(holder);
	expect_value(idle, "select current_database()", "other");
	forebay_await_log(forebay, "[pool:extra] (section): \\\"absent\\\" is now \\\"present\\\"");
	/* smaller while one is held */
	strcat(more, "query_timeout = 7s\n");
	char *at = strstr(more, "max_size = 2");
	at[strlen("max_size = ")] = '1';
	forebay_rewrite_ini(forebay, &with);
	execute(ops, "RELOAD");
	forebay_await_log(forebay, "[pool:extra] max_size: \\\"2\\\" is now \\\"1\\\"");
	await_value(control, "select count(*) from pg_stat_activity where datname = 'other' and usename = 'app'", "1");
	/* gone: what is open is finished, more is not served */
	changed.process = "workers = 3";
	forebay_rewrite_ini(forebay, &changed);
	execute(ops, "RELOAD");
	forebay_await_log(forebay, "[pool:extra] (section): \\\"present\\\" is now \\\"absent\\\"");
	expect_value(holder, "select 'still here'", "still here");
	execute(holder, "commit");
	expect_refused(try_connect(forebay, "dbname=extra"), "there is no pool for database");
	await_value(control, "select count(*) from pg_stat_activity where datname = 'other' and usename = 'app'", "0");
	/* what needs a restart says so */
	forebay_await_log(forebay, "stays in force until a restart");
	forebay_await_log(forebay, "[pool:extra] password: \\\"\\\" is now \\\"***\\\"");
	ck_assert_int_eq(harness_count_in(forebay->log, "app-secret"), 0);
	PQfinish(holder);
	PQfinish(idle);
	PQfinish(control);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

static void expect_automatic(PGconn *ops, const char *database, const char *expected) {
	PGresult *res = PQexec(ops, "SHOW DATABASES");
	bool found = false;

	ck_assert_int_eq(PQresultStatus(res), PGRES_TUPLES_OK);
	for (int i = 0; i < PQntuples(res); i++) {
		if (strcmp(PQgetvalue(res, i, PQfnumber(res, "name")), database) != 0)
			continue;
		found = true;
		ck_assert_str_eq(PQgetvalue(res, i, PQfnumber(res, "automatic")), expected);
	}
	ck_assert_msg(found, "there is no pool %s", database);
	PQclear(res);
}

START_TEST(a_section_that_comes_makes_a_pool_a_configured_one) {
	char any[300], own[600];
	struct forebay_setup setup = {.workers = WORKERS(_i), .process = "max_auto_pools = 1", .listener = "auth = trust"};

	SKIP_WHEN_DIRECT();
	snprintf(any, sizeof(any), "[pool:*]\nprotocol = postgresql\nhosts = 127.0.0.1:%d\ndatabase = app\nmonitor_interval = 0\n",
		 harness_postgres_port());
	snprintf(own, sizeof(own), "%s[pool:grown]\nprotocol = postgresql\nhosts = 127.0.0.1:%d\ndatabase = other\n", any,
		 harness_postgres_port());
	setup.more = any;
	struct forebay *forebay = forebay_start(&setup);
	PGconn *ops = connect_operator(forebay), *conn = connect_with(forebay, "dbname=grown");
	expect_automatic(ops, "grown", "t");
	expect_refused(try_connect(forebay, "dbname=second"), "too many databases");
	setup.more = own;
	forebay_rewrite_ini(forebay, &setup);
	execute(ops, "RELOAD");
	expect_automatic(ops, "grown", "f");
	/* its place among the automatic ones is free */
	PGconn *second = connect_with(forebay, "dbname=second");
	setup.more = any;
	forebay_rewrite_ini(forebay, &setup);
	execute(ops, "RELOAD");
	expect_automatic(ops, "grown", "t");
	PQfinish(second);
	PQfinish(conn);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

/* ---- refused ---- */

START_TEST(what_cannot_be_had_whole_changes_nothing) {
	int port = harness_free_port(), taken = harness_postgres_port();
	char more[800];
	struct forebay_setup setup = {.workers = WORKERS(_i), .listener = "auth = trust", .process = "max_clients = 1000"};
	struct forebay_setup bad = setup;
	const struct rlimit descriptors = {4096, 4096};
	struct forebay *forebay;

	SKIP_WHEN_DIRECT();
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &descriptors), 0);
	forebay = forebay_start(&setup);
	PGconn *ops = connect_operator(forebay);
	/* a file with one mistake among good changes: it says where */
	snprintf(more, sizeof(more),
		 "[listener:new]\nprotocol = postgresql\nauth = trust\nlisten = 127.0.0.1:%d\n[pool:new]\nhosts = 127.0.0.1:5\n"
		 "max_sise = 1\n",
		 port);
	bad.more = more;
	forebay_rewrite_ini(forebay, &bad);
	kill(forebay->pid, SIGHUP);
	forebay_await_log(forebay, "reload_refused");
	ck_assert(harness_count_in(forebay->log, "max_sise") > 0);
	char *text = harness_read(forebay->ini), where[300];
	int line = 1;
	for (const char *p = text; p < strstr(text, "max_sise"); p++)
		line += *p == '\n';
	free(text);
	snprintf(where, sizeof(where), "%s:%d:", forebay->ini, line);
	ck_assert_msg(harness_count_in(forebay->log, where) > 0, "the log does not say %s", where);
	ck_assert(!harness_port_accepts(port));
	expect_refused(try_connect(forebay, "dbname=new"), "there is no pool for database");
	/* one of two addresses is taken: the other is not listened on either */
	snprintf(more, sizeof(more),
		 "[listener:new]\nprotocol = postgresql\nauth = trust\nlisten = 127.0.0.1:%d, 127.0.0.1:%d\n"
		 "[pool:new]\nprotocol = postgresql\nhosts = 127.0.0.1:5\n",
		 port, taken);
	forebay_rewrite_ini(forebay, &bad);
	expect_error(ops, "RELOAD", "F0000");
	ck_assert(!harness_port_accepts(port));
	expect_refused(try_connect(forebay, "dbname=new"), "there is no pool for database");
	/* or excluded by one that it has itself */
	char all[100];
	snprintf(all, sizeof(all), "auth = trust\nlisten = 0.0.0.0:%d", forebay->port);
	bad.more = NULL;
	bad.listener = all;
	forebay_rewrite_ini(forebay, &bad);
	expect_error(ops, "RELOAD", "F0000");
	ck_assert(harness_count_in(forebay->log, "this process listens on 127.0.0.1:") > 0);
	bad.listener = setup.listener;
	/* more than the process may open */
	bad.process = "max_clients = 5000";
	forebay_rewrite_ini(forebay, &bad);
	expect_error(ops, "RELOAD", "F0000");
	ck_assert(harness_count_in(forebay->log, "but max_clients = 5000") > 0);
	ck_assert_int_eq(forebay_exit_code(forebay->ini), 1);
	/* and the file as it was is fine */
	forebay_rewrite_ini(forebay, &setup);
	execute(ops, "RELOAD");
	/* a pool's protocol is what its clients and connections speak, while there is one and after */
	setup.more = "[pool:kept]\nprotocol = postgresql\nhosts = 127.0.0.1:5\n";
	bad = setup;
	bad.more = "[pool:kept]\nprotocol = mysql\nhosts = 127.0.0.1:5\n";
	for (int i = 0; i < 2; i++) {
		forebay_rewrite_ini(forebay, &setup);
		execute(ops, "RELOAD");
		forebay_rewrite_ini(forebay, &bad);
		expect_error(ops, "RELOAD", "F0000");
		setup.more = NULL;
	}
	forebay_await_log(forebay, "the pool speaks postgresql while this process runs");
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("reload");
	TCase *tcase = tcase_create("reload");

	harness_begin(NULL);
	tcase_set_timeout(tcase, 120);
	suite_add_tcase(suite, tcase);
	tcase_add_test(tcase, fifty_reloads_a_second_under_load_break_nothing_and_leak_nothing);
	tcase_add_test(tcase, the_same_of_a_pgbouncer_ini);
	LOOP(tcase, a_certificate_is_read_anew);
	LOOP(tcase, pools_come_change_and_go_and_the_log_says_so_without_secrets);
	LOOP(tcase, a_section_that_comes_makes_a_pool_a_configured_one);
	tcase_add_test(tcase, what_cannot_be_had_whole_changes_nothing);
	return harness_run(suite);
}
