/* The configuration: how files are read, what is refused and how it is said, what a snapshot shows. */
#include <check.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "config/config.h"
#include "config/nearest.h"
#include "config/schema.h"
#include "config/text_units.h"

#define LISTENER "[listener:pg]\nlisten = 127.0.0.1:6432\n"
#define TEN "0123456789"
#define POOL "[pool:shop]\nhosts = 10.0.0.5:5432\n"

/* ---- a folder for files, gone after each test ---- */

static char all_folders[] = "/tmp/forebay-config-XXXXXX", folder[64];

static void make_folder(void) {
	snprintf(folder, sizeof folder, "%s/XXXXXX", all_folders);
	ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void remove_folder(void) {
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	ck_assert_int_eq(system(command), 0);
}

static const char *in_folder(const char *name) {
	static char paths[64][256];
	static int next;
	char *path = paths[next++ % 64];

	snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
	return path;
}

static const char *write_file(const char *name, const char *text) {
	const char *path = in_folder(name);
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
	return path;
}

/* ---- parsing ---- */

static void print_errors(const struct config_errors *errors) {
	for (size_t i = 0; i < errors->count; i++)
		fprintf(stderr, "%s:%d: %s\n", errors->at[i].file, errors->at[i].line, errors->at[i].text);
}

static struct config *must_parse(const char *text) {
	struct config_errors errors;
	struct config *config = config_parse(text, "test.ini", &errors);

	if (!config)
		print_errors(&errors);
	ck_assert_ptr_nonnull(config);
	ck_assert_uint_eq(errors.count, 0);
	return config;
}

static struct config *must_load(const char *path) {
	struct config_errors errors;
	struct config *config = config_load(path, &errors);

	if (!config)
		print_errors(&errors);
	ck_assert_ptr_nonnull(config);
	return config;
}

static bool has_error(const struct config_errors *errors, const char *file, int line, const char *part) {
	for (size_t i = 0; i < errors->count; i++)
		if (strcmp(errors->at[i].file, file) == 0 && errors->at[i].line == line &&
		    strstr(errors->at[i].text, part))
			return true;
	return false;
}

static void check_only_error(struct config *config, struct config_errors *errors, const char *file, int line,
			     const char *part) {
	if (config || errors->count != 1 || !has_error(errors, file, line, part)) {
		fprintf(stderr, "wanted %s:%d: %s\n", file, line, part);
		print_errors(errors);
	}
	ck_assert_ptr_null(config);
	ck_assert_uint_eq(errors->count, 1);
	ck_assert(has_error(errors, file, line, part));
	config_errors_free(errors);
}

/* Refused for one reason, at this line. */
static void refuse(const char *text, int line, const char *part) {
	struct config_errors errors;
	struct config *config = config_parse(text, "test.ini", &errors);

	check_only_error(config, &errors, "test.ini", line, part);
}

/* The same, of one line in a pool that is sound otherwise; it is line 5. */
static void refuse_in_pool(const char *line, const char *part) {
	char text[2048];

	snprintf(text, sizeof(text), LISTENER POOL "%s\n", line);
	refuse(text, 5, part);
}

static struct config *with_pool_line(const char *line) {
	char text[2048];

	snprintf(text, sizeof(text), LISTENER POOL "%s\n", line);
	return must_parse(text);
}

/* ---- units ---- */

START_TEST(durations_need_a_unit_but_for_0) {
	uint64_t ns;

	ck_assert(duration_parse("250ms", &ns) && ns == 250 * NS_PER_MS);
	ck_assert(duration_parse("30s", &ns) && ns == 30 * NS_PER_S);
	ck_assert(duration_parse("10m", &ns) && ns == 600 * NS_PER_S);
	ck_assert(duration_parse("2h", &ns) && ns == 7200 * NS_PER_S);
	ck_assert(duration_parse("1d", &ns) && ns == 86400 * NS_PER_S);
	ck_assert(duration_parse("0", &ns) && ns == 0);
	ck_assert(duration_parse("0s", &ns) && ns == 0);
	static const char *const WRONG[] = {"",
					    "30",
					    "s",
					    "-1s",
					    "1.5s",
					    "30 s",
					    "30S",
					    "30min",
					    "1s ",
					    " 1s",
					    "+1s",
					    "99999999999999999999s",
					    "18446744073709551615d"};
	for (size_t i = 0; i < sizeof(WRONG) / sizeof(WRONG[0]); i++)
		ck_assert_msg(!duration_parse(WRONG[i], &ns), "%s", WRONG[i]);
}
END_TEST

START_TEST(sizes_need_a_unit_but_for_0) {
	uint64_t bytes;

	ck_assert(size_parse("64KiB", &bytes) && bytes == 65536);
	ck_assert(size_parse("1MiB", &bytes) && bytes == 1 << 20);
	ck_assert(size_parse("512B", &bytes) && bytes == 512);
	ck_assert(size_parse("2GiB", &bytes) && bytes == 2ull << 30);
	ck_assert(size_parse("0", &bytes) && bytes == 0);
	static const char *const WRONG[] = {"", "64", "64K", "64KB", "64kib", "KiB", "99999999TiB"};
	for (size_t i = 0; i < sizeof(WRONG) / sizeof(WRONG[0]); i++)
		ck_assert_msg(!size_parse(WRONG[i], &bytes), "%s", WRONG[i]);
}
END_TEST

START_TEST(durations_and_sizes_are_shown_in_the_largest_unit_that_is_exact) {
	char out[32];
	uint64_t back;
	static const struct {
		uint64_t ns;
		const char *text;
	} DURATIONS[] = {
		{0, "0"},
		{30 * NS_PER_S, "30s"},
		{60 * NS_PER_S, "1m"},
		{90 * NS_PER_S, "90s"},
		{86400 * NS_PER_S, "1d"},
		{1500 * NS_PER_MS, "1500ms"},
		{1500, "1500ns"},
		{UINT64_MAX, "18446744073709551615ns"},
	};

	for (size_t i = 0; i < sizeof(DURATIONS) / sizeof(DURATIONS[0]); i++) {
		duration_format(DURATIONS[i].ns, out, sizeof(out));
		ck_assert_str_eq(out, DURATIONS[i].text);
		ck_assert(duration_parse(out, &back) && back == DURATIONS[i].ns);
	}
	size_format(65536, out, sizeof(out));
	ck_assert_str_eq(out, "64KiB");
	size_format(65537, out, sizeof(out));
	ck_assert_str_eq(out, "65537B");
	size_format(0, out, sizeof(out));
	ck_assert_str_eq(out, "0");
}
END_TEST

START_TEST(durations_are_said_in_two_units_at_most) {
	static const struct {
		uint64_t ns;
		const char *text;
	} DURATIONS[] = {
		{0, "0ms"},
		{850 * NS_PER_MS + 999, "850ms"},
		{1999 * NS_PER_MS, "1s"},
		{252 * NS_PER_S, "4m12s"},
		{240 * NS_PER_S, "4m"},
		{3600 * NS_PER_S + 59 * NS_PER_S, "1h"},
		{3 * 3600 * NS_PER_S + 7 * 60 * NS_PER_S, "3h7m"},
		{2 * 86400 * NS_PER_S + 3 * 3600 * NS_PER_S, "2d3h"},
		{UINT64_MAX, "213503d23h"},
	};

	for (size_t i = 0; i < sizeof(DURATIONS) / sizeof(DURATIONS[0]); i++) {
		char out[16];

		duration_say(DURATIONS[i].ns, out, sizeof(out));
		ck_assert_str_eq(out, DURATIONS[i].text);
	}
}
END_TEST

/* ---- the nearest name ---- */

START_TEST(the_distance_of_names_counts_swapped_letters_once) {
	ck_assert_uint_eq(name_distance("max_size", "max_size"), 0);
	ck_assert_uint_eq(name_distance("max_sise", "max_size"), 1);
	ck_assert_uint_eq(name_distance("mxa_size", "max_size"), 1);
	ck_assert_uint_eq(name_distance("max_siz", "max_size"), 1);
	ck_assert_uint_eq(name_distance("max_sizes", "max_size"), 1);
	ck_assert_uint_eq(name_distance("", "abc"), 3);
	ck_assert_uint_eq(name_distance("kitten", "sitting"), 3);
	char longer[NEAREST_LONGEST + 2];
	memset(longer, 'a', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = 0;
	ck_assert_uint_eq(name_distance(longer, "a"), SIZE_MAX);
	ck_assert_uint_eq(name_distance(longer + 1, longer + 2), 1);
}
END_TEST

START_TEST(only_a_near_name_is_offered) {
	struct nearest search = {.wanted = "idle_timeuot"};

	nearest_offer(&search, "idle_transaction_timeout");
	ck_assert_ptr_null(search.best);
	nearest_offer(&search, "client_idle_timeout");
	nearest_offer(&search, "idle_timeout");
	nearest_offer(&search, "query_timeout");
	ck_assert_str_eq(search.best, "idle_timeout");
}
END_TEST

/* ---- defaults ---- */

START_TEST(a_file_of_three_lines_has_every_default) {
	struct config *c = must_parse(LISTENER POOL);

	ck_assert_str_eq(c->file, "test.ini");
	ck_assert_int_ge(c->workers, 1);
	ck_assert_uint_eq(c->max_clients, 10000);
	ck_assert_uint_eq(c->max_login_clients, 1000);
	ck_assert_uint_eq(c->max_auto_pools, 100);
	ck_assert_ptr_null(c->admin_users[0]);
	ck_assert_ptr_null(c->stats_users[0]);
	ck_assert_uint_eq(c->metrics_listen_count, 1);
	ck_assert_str_eq(c->metrics_listen[0], "127.0.0.1:9127");
	ck_assert_ptr_null(c->metrics_user);
	ck_assert_ptr_null(c->metrics_tls_cert_file);
	ck_assert_int_eq(c->log_level, LOG_LEVEL_INFO);
	ck_assert_int_eq(c->log_format, LOG_FORMAT_TEXT);
	ck_assert(c->log_connections);
	ck_assert_ptr_null(c->auth_file);
	ck_assert_ptr_null(c->pid_file);
	ck_assert_ptr_null(c->run_as);
	ck_assert_uint_eq(c->client_login_timeout, 60 * NS_PER_S);
	ck_assert_uint_eq(c->shutdown_timeout, 30 * NS_PER_S);
	ck_assert_uint_eq(c->tcp_keepalive_idle, 30 * NS_PER_S);
	ck_assert_uint_eq(c->tcp_user_timeout, 0);

	ck_assert_uint_eq(c->listener_count, 1);
	const struct listener_config *l = config_listener(c, "pg");
	ck_assert_ptr_eq(l, &c->listeners[0]);
	ck_assert_str_eq(l->name, "pg");
	ck_assert_int_eq(l->protocol, PROTOCOL_POSTGRESQL);
	ck_assert_uint_eq(l->listen_count, 1);
	ck_assert_str_eq(l->listen[0], "127.0.0.1:6432");
	ck_assert_int_eq(l->auth, AUTH_SCRAM_SHA_256);
	ck_assert_int_eq(l->tls.mode, CONFIG_TLS_PREFER);
	ck_assert_str_eq(l->tls.min_version, "1.2");
	ck_assert_ptr_null(l->tls.cert_file);
	ck_assert_ptr_null(l->tls.ciphers);
	ck_assert_ptr_null(l->hba_file);
	ck_assert_ptr_null(l->ident_file);
	ck_assert(!l->known_users_only);
	ck_assert_ptr_null(l->user_map);
	ck_assert_ptr_null(l->default_pool);
	ck_assert_int_eq(l->backlog, 4096);

	ck_assert_uint_eq(c->pool_count, 1);
	const struct pool_config *p = config_pool(c, "shop");
	ck_assert_ptr_eq(p, &c->pools[0]);
	ck_assert_str_eq(p->name, "shop");
	ck_assert_uint_eq(p->host_count, 1);
	ck_assert_str_eq(p->hosts[0].text, "10.0.0.5:5432");
	ck_assert_str_eq(p->hosts[0].host, "10.0.0.5");
	ck_assert_int_eq(p->hosts[0].port, 5432);
	ck_assert_ptr_null(p->database);
	ck_assert_ptr_null(p->user);
	ck_assert_ptr_null(p->password);
	ck_assert_int_eq(p->mode, POOL_MODE_TRANSACTION);
	ck_assert_uint_eq(p->max_size, 20);
	ck_assert_uint_eq(p->min_idle, 5);
	ck_assert_uint_eq(p->max_size_per_user, 0);
	ck_assert_uint_eq(p->max_waiting, 0);
	ck_assert_uint_eq(p->max_connections, 0);
	ck_assert_uint_eq(p->max_prepared_statements, 500);
	ck_assert_uint_eq(p->acquire_timeout, 30 * NS_PER_S);
	ck_assert_uint_eq(p->connect_timeout, 5 * NS_PER_S);
	ck_assert_uint_eq(p->idle_timeout, 600 * NS_PER_S);
	ck_assert_uint_eq(p->max_lifetime, 1800 * NS_PER_S);
	ck_assert_uint_eq(p->keepalive_interval, 120 * NS_PER_S);
	ck_assert_uint_eq(p->validation_timeout, 5 * NS_PER_S);
	ck_assert_uint_eq(p->alive_bypass_window, 500 * NS_PER_MS);
	ck_assert_uint_eq(p->leak_detection_threshold, 60 * NS_PER_S);
	ck_assert_int_eq(p->leak_action, LEAK_ACTION_LOG);
	ck_assert_uint_eq(p->query_timeout, 0);
	ck_assert_uint_eq(p->transaction_timeout, 0);
	ck_assert_uint_eq(p->idle_transaction_timeout, 0);
	ck_assert_uint_eq(p->client_idle_timeout, 0);
	ck_assert_uint_eq(p->wait_notice_after, 5 * NS_PER_S);
	ck_assert_uint_eq(p->recovery_timeout, 5 * NS_PER_S);
	ck_assert_ptr_null(p->init_sql);
	ck_assert_str_eq(p->reset_sql, "DISCARD ALL");
	ck_assert_ptr_null(p->application_name);
	ck_assert_ptr_null(p->auth_query);
	ck_assert_ptr_null(p->auth_user);
	ck_assert_uint_eq(p->auth_cache_ttl, 30 * NS_PER_S);
	ck_assert_int_eq(p->tls.mode, CONFIG_TLS_PREFER);
	ck_assert_ptr_null(config_wildcard_pool(c, PROTOCOL_POSTGRESQL));
	config_unref(c);
}
END_TEST

START_TEST(values_land_in_their_fields) {
	struct config *c = must_parse(
		"[forebay]\nworkers = 3\nadmin_users = ops, alice\nstats_users=grafana\nmetrics_listen =\n"
		"log_level = debug\nlog_format = json\nlog_connections = off\nrun_as = forebay\n"
		"[listener:my]\nprotocol = mysql\nlisten = *:3307, [::1]:3308 , /run/my.sock\nauth = trust\n"
		"default_pool = shop\nbacklog = 5\n"
		"[listener:pg]\nlisten = localhost:6432\ntls_mode = verify-full\ntls_cert_file = /c\n"
		"tls_key_file = /k\ntls_ca_file = system\ntls_min_version = 1.3\nauth = cert\n"
		"ident_file = /i\nuser_map = m\n"
		"[pool:shop]\nprotocol = mysql\nhosts = db.example, [2001:db8::1]:3310, /run/mysqld\n"
		"pool_mode = session\nmax_size = 7\nmin_idle = 0\nidle_timeout = 10ms\nreset_sql =\n"
		"leak_action = close\nkeepalive_interval = 0\n"
		"[pool:*]\nhosts = /var/run/postgresql:5433\nauth_user = asker\n"
		"[user:app]\nmax_connections = 12\npool = shop\n");

	ck_assert_int_eq(c->workers, 3);
	ck_assert_str_eq(c->admin_users[0], "ops");
	ck_assert_str_eq(c->admin_users[1], "alice");
	ck_assert_ptr_null(c->admin_users[2]);
	ck_assert(config_is_admin(c, "alice") && !config_is_admin(c, "grafana") &&
		  !config_is_admin(c, "bob"));
	ck_assert(config_is_stats(c, "alice") && config_is_stats(c, "grafana") && !config_is_stats(c, "bob"));
	ck_assert_uint_eq(c->metrics_listen_count, 0);
	ck_assert_int_eq(c->log_level, LOG_LEVEL_DEBUG);
	ck_assert_int_eq(c->log_format, LOG_FORMAT_JSON);
	ck_assert(!c->log_connections);
	ck_assert_str_eq(c->run_as, "forebay");

	const struct listener_config *my = config_listener(c, "my"), *pg = config_listener(c, "pg");
	ck_assert_int_eq(my->protocol, PROTOCOL_MYSQL);
	ck_assert_uint_eq(my->listen_count, 3);
	ck_assert_str_eq(my->listen[1], "[::1]:3308");
	ck_assert_str_eq(my->listen[2], "/run/my.sock");
	ck_assert_int_eq(my->backlog, 5);
	ck_assert_str_eq(my->default_pool, "shop");
	ck_assert_int_eq(pg->auth, AUTH_CERT);
	ck_assert_int_eq(pg->tls.mode, CONFIG_TLS_VERIFY_FULL);
	ck_assert_str_eq(pg->tls.ca_file, "system");
	ck_assert_str_eq(pg->tls.min_version, "1.3");
	ck_assert_str_eq(pg->user_map, "m");

	const struct pool_config *shop = config_pool(c, "shop");
	ck_assert_int_eq(shop->protocol, PROTOCOL_MYSQL);
	ck_assert_uint_eq(shop->host_count, 3);
	ck_assert_str_eq(shop->hosts[0].host, "db.example");
	ck_assert_int_eq(shop->hosts[0].port, 3306);
	ck_assert_str_eq(shop->hosts[1].host, "2001:db8::1");
	ck_assert_int_eq(shop->hosts[1].port, 3310);
	ck_assert_str_eq(shop->hosts[2].host, "/run/mysqld");
	ck_assert_int_eq(shop->mode, POOL_MODE_SESSION);
	ck_assert_uint_eq(shop->idle_timeout, 10 * NS_PER_MS);
	ck_assert_uint_eq(shop->keepalive_interval, 0);
	ck_assert_str_eq(shop->reset_sql, "");
	ck_assert_int_eq(shop->leak_action, LEAK_ACTION_CLOSE);

	const struct pool_config *any = config_wildcard_pool(c, PROTOCOL_POSTGRESQL);
	ck_assert_ptr_eq(any, config_pool(c, "*"));
	ck_assert_str_eq(any->hosts[0].host, "/var/run/postgresql");
	ck_assert_int_eq(any->hosts[0].port, 5433);
	ck_assert_str_eq(any->auth_user, "asker");
	ck_assert_ptr_nonnull(strstr(any->auth_query, "pg_catalog.pg_shadow WHERE usename=$1"));
	ck_assert_ptr_null(config_wildcard_pool(c, PROTOCOL_MYSQL));
	ck_assert_ptr_null(config_pool(c, "other"));

	ck_assert_uint_eq(config_user(c, "app")->max_connections, 12);
	ck_assert_str_eq(config_user(c, "app")->pool, "shop");
	ck_assert(!config_user(c, "app")->from_auth_file);
	ck_assert_ptr_null(config_user(c, "nobody"));
	config_unref(c);
}
END_TEST

START_TEST(the_default_of_min_idle_shrinks_with_max_size) {
	struct config *c = with_pool_line("max_size = 2");

	ck_assert_uint_eq(config_pool(c, "shop")->min_idle, 2);
	config_unref(c);
}
END_TEST

/* Every default is a value that its own key takes: all of them were set when this one was made. */
START_TEST(every_key_can_be_given_its_default) {
	for (int kind = 0; kind < SECTION_KINDS; kind++) {
		size_t count;
		const struct config_key *keys = schema_keys((enum section_kind)kind, &count);
		ck_assert_uint_gt(count, 0);
		for (size_t i = 0; i < count; i++) {
			size_t len = strlen(keys[i].description);
			ck_assert_msg(len > 0 && keys[i].description[len - 1] == '.', "%s", keys[i].name);
			ck_assert_int_eq(schema_find((enum section_kind)kind, keys[i].name), (int)i);
		}
	}
	ck_assert_int_eq(schema_find(SECTION_FOREBAY, "max_size"), -1);
}
END_TEST

/* ---- how a file is written ---- */

static void check_application_name(const char *line, const char *value) {
	struct config *c = with_pool_line(line);
	const char *name = config_pool(c, "shop")->application_name;

	ck_assert_str_eq(name ? name : "(none)", value);
	config_unref(c);
}

static void check_init_sql(const char *line, const char *value) {
	struct config *c = with_pool_line(line);

	ck_assert_str_eq(config_pool(c, "shop")->init_sql, value);
	config_unref(c);
}

static void check_password(const char *line, const char *value) {
	struct config *c = with_pool_line(line);
	const char *password = config_pool(c, "shop")->password;

	ck_assert_str_eq(password ? password : "(none)", value);
	config_unref(c);
}

START_TEST(blanks_and_comments_around_a_value_are_not_part_of_it) {
	check_application_name("application_name=web", "web");
	check_application_name("\n  application_name\t=\t web \t\r", "web");
	check_application_name("application_name = web ; the shop", "web");
	check_application_name("application_name = web\t; the shop", "web");
	check_application_name("application_name = web shop", "web shop");
	check_application_name("application_name = a;b#c", "a;b#c");
	check_application_name("application_name = a # b", "a # b");
	check_application_name("application_name = ; nothing", "(none)");
	check_application_name("application_name =", "(none)");
	check_application_name("application_name = a = b", "a = b");
	check_application_name("; application_name = a\n# application_name = b", "(none)");
	/* What cannot be text needs no care. */
	struct config *c = with_pool_line("max_size = 9 ;nine");
	ck_assert_uint_eq(config_pool(c, "shop")->max_size, 9);
	config_unref(c);
}
END_TEST

START_TEST(quotes_hold_anything) {
	check_application_name("application_name = \"a ; b\"", "a ; b");
	check_application_name("application_name = \"  a  \" ; and a comment", "  a  ");
	check_application_name("application_name = \"say \"\"hi\"\"\"", "say \"hi\"");
	check_application_name("application_name = \"\"", "(none)");
	check_application_name("application_name = \"\"\"\"", "\"");
	check_application_name("application_name = in \"the\" middle", "in \"the\" middle");
	check_password("password = \"a ;b ; c\"", "a ;b ; c");
	check_init_sql("init_sql = \"SET x = 'a'; SET y = ';' ; SELECT 1\"",
		       "SET x = 'a'; SET y = ';' ; SELECT 1");
	refuse_in_pool("application_name = \"a",
		       "application_name: the value's closing double quote is missing");
	refuse_in_pool("application_name = \"a\" b",
		       "application_name: there is text behind the closing double quote");
	refuse_in_pool("password = \"secret", "password: the value's closing double quote is missing");
}
END_TEST

START_TEST(nothing_that_could_be_meant_is_cut_as_a_comment) {
	refuse_in_pool("password = a ; b", "[pool:shop] password: a blank and ;");
	refuse_in_pool("password = a ;b", "[pool:shop] password: a blank and ;");
	refuse_in_pool("password = ;b", "[pool:shop] password: a blank and ;");
	refuse_in_pool("init_sql = SELECT 1 ; SELECT 2", "[pool:shop] init_sql: a blank and ;");
	refuse_in_pool("init_sql = SELECT 1\n  ; SELECT 2", "[pool:shop] init_sql: a blank and ;");
	refuse_in_pool("application_name = a ;b", "[pool:shop] application_name: a blank and ;");
	check_password("password =;b", ";b");
	check_password("password = a;b", "a;b");
	check_init_sql("init_sql = SELECT 1; SELECT 2", "SELECT 1; SELECT 2");
	setenv("FOREBAY_TEST_SECRET", "x ; y", 1);
	check_password("password = ${FOREBAY_TEST_SECRET} ; where it comes from", "x ; y");
}
END_TEST

START_TEST(a_deeper_line_goes_on_with_the_value) {
	struct config *c =
		with_pool_line("[pool:two]\nhosts = a:1,\n   ; the second one\n\tb:2 ; here\n   , [::1]:3\n"
			       "max_size = 3");
	const struct pool_config *two = config_pool(c, "two");

	ck_assert_uint_eq(two->host_count, 3);
	ck_assert_str_eq(two->hosts[1].host, "b");
	ck_assert_str_eq(two->hosts[2].host, "::1");
	ck_assert_uint_eq(two->max_size, 3);
	config_unref(c);

	check_init_sql("init_sql = SET a TO 1;\n  SET b TO 2", "SET a TO 1;\nSET b TO 2");
	check_init_sql("init_sql =\n  SET a TO 1", "SET a TO 1");
	check_init_sql("\n  init_sql =\n    SET a TO 1;\n\t SET b TO 2\n  max_size = 9",
		       "SET a TO 1;\nSET b TO 2");
	check_init_sql("init_sql = \"SET a = 1;\n  SET b = 2 ; -- x\n  ; SET c = ''\"",
		       "SET a = 1;\nSET b = 2 ; -- x\n; SET c = ''");
}
END_TEST

START_TEST(keys_may_be_indented_alike) {
	struct config *c = must_parse(LISTENER "[pool:shop]\n    hosts = a:1\n    max_size = 4\n\n      "
					       "min_idle = 1\n  pool_mode = session\n");

	ck_assert_uint_eq(config_pool(c, "shop")->max_size, 4);
	ck_assert_uint_eq(config_pool(c, "shop")->min_idle, 1);
	ck_assert_int_eq(config_pool(c, "shop")->mode, POOL_MODE_SESSION);
	config_unref(c);
}
END_TEST

START_TEST(a_deeper_line_that_looks_like_a_setting_is_refused) {
	refuse(LISTENER POOL "password = x\n  max_size = 5\n", 6, "password: this line is indented deeper");
	refuse(LISTENER POOL "password = x\n  [pool:y]\n", 6, "password: this line is indented deeper");
	refuse(LISTENER POOL "application_name = \"x\"\n  y\n", 6,
	       "application_name: this indented line goes on");
}
END_TEST

START_TEST(long_lines_work_up_to_a_limit_that_is_told) {
	static char value[70000], text[80000];

	memset(value, 'v', sizeof(value));
	for (size_t len = 150; len <= 65536; len = len * 3 / 2) {
		snprintf(text, sizeof(text), LISTENER POOL "init_sql = %.*s\nmax_size = 11\n", (int)len,
			 value);
		struct config *c = must_parse(text);
		ck_assert_uint_eq(strlen(config_pool(c, "shop")->init_sql), len);
		ck_assert_uint_eq(config_pool(c, "shop")->max_size, 11);
		config_unref(c);
	}
	snprintf(text, sizeof(text), LISTENER POOL "init_sql = %.*s\n", 65537, value);
	refuse(text, 5, "init_sql: the value is longer than 65536 bytes");

	/* Names that inih would cut. */
	snprintf(text, sizeof(text), LISTENER "[pool:%.*s]\nhosts = a:1\n[pool:%.*s]\nhosts = b:1\n", 100,
		 value, 101, value);
	struct config *c = must_parse(text);
	ck_assert_uint_eq(c->pool_count, 2);
	ck_assert_uint_eq(strlen(c->pools[1].name), 101);
	config_unref(c);
	snprintf(text, sizeof(text), LISTENER "[pool:%.*s]\nhosts = a:1\n", 128, value);
	refuse(text, 3, "the name is longer than 127 bytes");
	snprintf(text, sizeof(text), LISTENER POOL "%.*s = a:1\n", 50, value);
	refuse(text, 5, "expected [section], key = value");
	/* A long comment is no line of its own at its second half. */
	snprintf(text, sizeof(text), LISTENER POOL "; %.*s max_size = 3\nmax_size = 4 ; %.*s\n", 300, value,
		 300, value);
	c = must_parse(text);
	ck_assert_uint_eq(config_pool(c, "shop")->max_size, 4);
	config_unref(c);
}
END_TEST

START_TEST(a_byte_order_mark_and_carriage_returns_are_fine) {
	struct config *c =
		must_parse("\xef\xbb\xbf[listener:pg]\r\nlisten = 127.0.0.1:6432\r\n\r\n[pool:a]\r\nhosts = "
			   "b:1,\r\n  c:2\r\n[user:x]\r\npassword = \"p\"\r\n");

	ck_assert_uint_eq(config_pool(c, "a")->host_count, 2);
	ck_assert_str_eq(config_user(c, "x")->password, "p");
	config_unref(c);
}
END_TEST

START_TEST(section_names_may_hold_anything_in_quotes) {
	struct config *c =
		must_parse(LISTENER "[user:\"a]b ; c\"] ; comment\n[ user:d ]\n[user:\"e\"\"f\"]\n");

	ck_assert_ptr_nonnull(config_user(c, "a]b ; c"));
	ck_assert_ptr_nonnull(config_user(c, "d"));
	ck_assert_ptr_nonnull(config_user(c, "e\"f"));
	config_unref(c);
}
END_TEST

/* ---- the environment and other files ---- */

START_TEST(only_a_dollar_and_a_brace_take_the_environment) {
	setenv("FOREBAY_TEST_A", "one", 1);
	setenv("FOREBAY_TEST_B", "", 1);
	setenv("FOREBAY_TEST_C", "${FOREBAY_TEST_A}", 1);
	unsetenv("FOREBAY_TEST_NONE");
	check_password("password = ${FOREBAY_TEST_A}", "one");
	check_password("password = \"<${FOREBAY_TEST_A}>\"", "<one>");
	check_password("password = ${FOREBAY_TEST_A}${FOREBAY_TEST_A}", "oneone");
	check_password("password = ${FOREBAY_TEST_B}", "(none)");
	check_password("password = ${FOREBAY_TEST_C}", "${FOREBAY_TEST_A}");
	check_password("password = $${FOREBAY_TEST_A}", "${FOREBAY_TEST_A}");
	check_password("password = $FOREBAY_TEST_A$$", "$FOREBAY_TEST_A$$");
	check_password("password = SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy",
		       "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy");
	check_password("password = $A$005$abc", "$A$005$abc");
	refuse_in_pool("password = ${FOREBAY_TEST_NONE}",
		       "password: the environment variable FOREBAY_TEST_NONE is not set");
	refuse_in_pool("password = ${", "password: ${ needs the name");
	refuse_in_pool("password = ${FOREBAY_TEST_A", "password: ${ needs the name");
	refuse_in_pool("password = ${1A}", "password: ${ needs the name");
	/* A secret that was put in the wrong place is not told. */
	struct config_errors errors;
	ck_assert_ptr_null(config_parse(LISTENER POOL "max_size = ${FOREBAY_TEST_A}\n", "t", &errors));
	ck_assert_ptr_null(strstr(errors.at[0].text, "one"));
	config_errors_free(&errors);
}
END_TEST

START_TEST(a_password_file_gives_its_first_line) {
	struct config_errors errors;

	write_file("secret", "from the file ; all of it\r\nnot this\n");
	write_file("empty", "\nsecond\n");
	struct config *c =
		must_load(write_file("a.ini", LISTENER POOL
				     "password =\npassword_file = secret\n[user:u]\npassword_file = secret\n"
				     "password =\n"));
	ck_assert_str_eq(config_pool(c, "shop")->password, "from the file ; all of it");
	ck_assert_str_eq(config_user(c, "u")->password, "from the file ; all of it");
	config_unref(c);

	const char *path = write_file("b.ini", LISTENER POOL "password_file = none\n");
	c = config_load(path, &errors);
	check_only_error(c, &errors, path, 5, "/none: No such file or directory");
	path = write_file("c.ini", LISTENER POOL "password_file = empty\n");
	c = config_load(path, &errors);
	check_only_error(c, &errors, path, 5, "/empty is empty; expected the password");
	path = write_file("d.ini", LISTENER POOL "password = a\npassword_file = secret\n");
	c = config_load(path, &errors);
	check_only_error(c, &errors, path, 6, "[pool:shop] password_file: password is set too");
	path = write_file("e.ini", LISTENER POOL "password_file = .\n");
	c = config_load(path, &errors);
	check_only_error(c, &errors, path, 5, "Is a directory");
}
END_TEST

START_TEST(paths_start_from_the_folder_of_the_file_they_are_in) {
	ck_assert_int_eq(mkdir(in_folder("sub"), 0700), 0);
	write_file("sub/pools.ini",
		   POOL "tls_ca_file = ca.pem\ntls_key_file = /abs/key\ntls_cert_file = c\n"
			"[listener:two]\nlisten = *:1\nhba_file = hba\ntls_ca_file = system\n");
	struct config *c = must_load(
		write_file("main.ini", "include = sub/pools.ini\n[forebay]\npid_file = pid\n" LISTENER));

	ck_assert_str_eq(config_pool(c, "shop")->tls.ca_file, in_folder("sub/ca.pem"));
	ck_assert_str_eq(config_pool(c, "shop")->tls.key_file, "/abs/key");
	ck_assert_str_eq(config_listener(c, "two")->hba_file, in_folder("sub/hba"));
	ck_assert_str_eq(config_listener(c, "two")->tls.ca_file, "system");
	ck_assert_str_eq(c->pid_file, in_folder("pid"));
	config_unref(c);
}
END_TEST

START_TEST(an_include_reads_the_file_where_it_stands_and_comes_back) {
	write_file("more.ini", "[pool:b]\nhosts = b:1\n");
	write_file("most.ini", "[user:u]\n");
	struct config *c = must_load(write_file("main.ini", LISTENER
						"[pool:a]\ninclude = more.ini ; the others\nhosts = a:1\n"
						"include = \"most.ini\"\nmax_size = 3\n"));

	ck_assert_uint_eq(c->pool_count, 2);
	ck_assert_uint_eq(config_pool(c, "a")->max_size, 3);
	ck_assert_ptr_nonnull(config_user(c, "u"));
	config_unref(c);
}
END_TEST

START_TEST(errors_in_an_included_file_name_that_file) {
	struct config_errors errors;
	const char *inner = write_file("inner.ini", "; one\n[pool:b]\nhosts = b:1\nmax_sise = 3\n");
	const char *outer =
		write_file("outer.ini", "[pool:b]\nhosts = a:1\ninclude = inner.ini\n[pol:c]\n" LISTENER);

	ck_assert_ptr_null(config_load(outer, &errors));
	ck_assert_uint_eq(errors.count, 3);
	ck_assert(has_error(&errors, inner, 4,
			    "[pool:b] max_sise: there is no such key; did you mean max_size?"));
	ck_assert(has_error(&errors, inner, 2, "[pool:b]: this section is there twice, first in"));
	ck_assert(has_error(&errors, inner, 2, "outer.ini:1;"));
	ck_assert(has_error(&errors, outer, 4, "did you mean pool?"));
	config_errors_free(&errors);
}
END_TEST

START_TEST(includes_that_go_round_or_too_deep_are_refused) {
	struct config_errors errors;
	char name[32], text[64];

	const char *a = write_file("a.ini", LISTENER "include = b.ini\n");
	const char *b = write_file("b.ini", "include = ./a.ini\n");
	struct config *c = config_load(a, &errors);
	check_only_error(c, &errors, b, 1, "would include itself");
	for (int i = 0; i < 12; i++) {
		snprintf(name, sizeof(name), "%d.ini", i);
		snprintf(text, sizeof(text), i ? "include = %d.ini\n" : LISTENER "include = %d.ini\n", i + 1);
		write_file(name, text);
	}
	c = config_load(in_folder("0.ini"), &errors);
	check_only_error(c, &errors, in_folder("10.ini"), 1, "more than 10 deep");
	const char *none = write_file("none.ini", LISTENER "\ninclude = gone.ini\n");
	c = config_load(none, &errors);
	check_only_error(c, &errors, none, 4, "/gone.ini: No such file or directory");
	refuse(LISTENER "include =\n", 3, "include: expected a path");
	refuse(LISTENER "include = ${FOREBAY_TEST_NONE}\n", 3, "include: the environment variable");
}
END_TEST

START_TEST(a_file_that_cannot_be_read_is_one_error) {
	struct config_errors errors;

	struct config *c = config_load(in_folder("none.ini"), &errors);
	check_only_error(c, &errors, in_folder("none.ini"), 0, "cannot read it: No such file or directory");
	c = config_load(folder, &errors);
	check_only_error(c, &errors, folder, 0, "cannot read it: Is a directory");
	ck_assert_ptr_null(config_load(in_folder("none.ini"), NULL));

	FILE *f = fopen(in_folder("zero.ini"), "w");
	fwrite("[forebay]\nworkers = 1\0\n", 1, 23, f);
	fclose(f);
	c = config_load(in_folder("zero.ini"), &errors);
	check_only_error(c, &errors, in_folder("zero.ini"), 2, "zero byte");
}
END_TEST

/* ---- what is refused ---- */

START_TEST(sections_that_are_not_right_are_refused) {
	refuse(LISTENER "[pol:shop]\n", 3,
	       "[pol:shop]: there is no such section; expected [forebay], [listener:NAME]");
	refuse(LISTENER "[pol:shop]\n", 3, "did you mean pool?");
	refuse(LISTENER "[whatever]\nmax_size = 3\n", 3, "[whatever]: there is no such section");
	refuse(LISTENER "[pool]\n", 3, "[pool]: it needs a name; expected [pool:NAME]");
	refuse(LISTENER "[pool:]\n", 3, "it needs a name");
	refuse(LISTENER "[forebay:x]\n", 3, "this section has no name; expected [forebay]");
	refuse(LISTENER "[]\n", 3, "there is no such section");
	refuse(LISTENER "[pool:a\n", 3, "this section has no closing bracket");
	refuse(LISTENER "[user:\"a]\n", 3, "this section has no closing double quote");
	refuse(LISTENER "[user:a] b\n", 3, "text behind the closing bracket");
	refuse(LISTENER "[user: a]\n", 3, "the name begins or ends with a blank");
	refuse(LISTENER "[user:a\tb]\n", 3, "the name holds a character that cannot be printed");
	refuse(LISTENER "[user:*]\n", 3, "only a pool can be for every name");
	refuse(LISTENER "[forebay]\n[forebay]\n", 4,
	       "[forebay]: this section is there twice, first in test.ini:3");
	refuse(LISTENER "[user:a]\n[user:b]\n[user:a]\n", 5, "[user:a]: this section is there twice");
	refuse(LISTENER "[pool:forebay]\nhosts = a:1\n", 3, "is the console");
	refuse(LISTENER "[pool:pgbouncer]\nhosts = a:1\n", 3, "is the console");
}
END_TEST

START_TEST(keys_that_are_not_right_are_refused) {
	refuse_in_pool("max_sise = 3", "[pool:shop] max_sise: there is no such key; did you mean max_size?");
	refuse_in_pool("Max_Size = 3", "[pool:shop] Max_Size: there is no such key; did you mean max_size?");
	refuse_in_pool("nothing_like_it_at_all = 3",
		       "[pool:shop] nothing_like_it_at_all: there is no such key");
	refuse_in_pool("workers = 3",
		       "[pool:shop] workers: this key does not belong here; expected it in [forebay]");
	refuse(LISTENER "password = x\n", 3, "expected it in [pool:NAME] or [user:NAME]");
}
END_TEST

START_TEST(a_key_that_is_there_twice_is_refused) {
	refuse(LISTENER POOL "max_size = 3\n\nmax_size = 3\n", 7,
	       "[pool:shop] max_size: it is set twice in this section, first in test.ini:5");
	/* Also where the first one was wrong. */
	struct config_errors errors;
	ck_assert_ptr_null(config_parse(LISTENER POOL "max_size = x\nmax_size = 3\n", "t", &errors));
	ck_assert_uint_eq(errors.count, 2);
	ck_assert(has_error(&errors, "t", 6, "it is set twice"));
	config_errors_free(&errors);
}
END_TEST

START_TEST(lines_that_are_nothing_are_refused_without_a_word_of_them) {
	refuse_in_pool("hunter2", "expected [section], key = value, or a comment");
	refuse_in_pool("hunter2 xyz = 3", "expected [section], key = value, or a comment");
	refuse_in_pool("= 3", "expected [section], key = value, or a comment");
	refuse_in_pool("max_size : 3", "expected [section], key = value, or a comment");
	struct config_errors errors;
	ck_assert_ptr_null(config_parse(LISTENER POOL "hunter2\nhunter2 x = hunter2\npasword = hunter2\n"
						      "password = \"hunter2\nuser = hunter2 ;x\n",
					"t", &errors));
	ck_assert_uint_eq(errors.count, 5);
	for (size_t i = 0; i < errors.count; i++)
		ck_assert_ptr_null(strstr(errors.at[i].text, "hunter2"));
	config_errors_free(&errors);
	refuse("max_size = 3\n" LISTENER, 1, "max_size: it stands before the first section");
}
END_TEST

START_TEST(values_that_are_not_right_are_refused) {
	refuse_in_pool("max_size = abc",
		       "[pool:shop] max_size = abc: expected a number of connections from 1 to 100000");
	refuse_in_pool("max_size =", "max_size = : expected a number");
	refuse_in_pool("max_size = 0", "max_size = 0: expected a number");
	refuse_in_pool("max_size = 100001", "expected a number");
	refuse_in_pool("max_size = -1", "expected a number");
	refuse_in_pool("max_size = 99999999999999999999999", "expected a number");
	refuse_in_pool("max_waiting = x", "expected a number of clients from 1 to 10000000, or 0");
	refuse_in_pool("idle_timeout = 30", "idle_timeout = 30: expected a duration such as 250ms, 30s, 10m "
					    "or 2h, from 10ms to 365d, or 0; the number has no unit");
	refuse_in_pool("idle_timeout = 1ms", "expected a duration");
	refuse_in_pool("idle_timeout = 366d", "expected a duration");
	refuse_in_pool("connect_timeout = 0",
		       "expected a duration such as 250ms, 30s, 10m or 2h, from 10ms to 365d");
	refuse_in_pool("pool_mode = transactoin", "pool_mode = transactoin: expected one of transaction, "
						  "session, statement; did you mean transaction?");
	refuse_in_pool("protocol = oracle", "protocol = oracle: expected one of postgresql, mysql");
	refuse_in_pool("tls_min_version = 1.1", "expected one of 1.2, 1.3");
	refuse("[forebay]\nlog_connections = maybe\n" LISTENER, 2,
	       "[forebay] log_connections = maybe: expected true or false");
	refuse("[forebay]\nworkers = 65\n" LISTENER, 2, "expected auto or a number of threads from 1 to 64");
	refuse("[forebay]\nadmin_users = a,,b\n" LISTENER, 2, "expected a list with commas");
	refuse("[forebay]\nadmin_users = a, b, a\n" LISTENER, 2, "a is in the list twice");
	refuse("[forebay]\nmetrics_listen = 9127\n" LISTENER, 2,
	       "9127: the port is missing; expected host:port");
	refuse("[forebay]\nlog_socket = dev/log\n" LISTENER, 2, "[forebay] log_socket: expected an absolute path, or @name");
	refuse("[forebay]\nlog_socket = @" TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN "1234567\n" LISTENER, 2,
	       "[forebay] log_socket: it is 108 bytes long; expected at most 107, as many as a socket's path may have");
	refuse("[forebay]\nmetrics_user = grafana\n" LISTENER, 2,
	       "[forebay] metrics_user: a user needs metrics_password as well");
	refuse("[forebay]\nmetrics_password = x\n" LISTENER, 2,
	       "[forebay] metrics_password: a password needs metrics_user as well");
	refuse("[forebay]\nmetrics_tls_cert_file = /c\n" LISTENER, 2, "a certificate needs metrics_tls_key_file as well");
	refuse("[forebay]\nmetrics_tls_key_file = /k\n" LISTENER, 2, "a key needs metrics_tls_cert_file as well");
}
END_TEST

START_TEST(addresses_that_are_not_right_are_refused) {
	static const struct {
		const char *hosts, *why;
	} HOSTS[] = {
		{"a:0", "a:0: the port must be a number from 1 to 65535"},
		{"a:65536", "the port must be"},
		{"a:", "the port must be"},
		{"a:x", "the port must be"},
		{":5432", "the host is missing"},
		{"::1:5432", "an IPv6 address stands in brackets: [::1]:5432"},
		{"[::1", "the closing bracket is missing"},
		{"[::x]:1", "what is in the brackets is no IPv6 address"},
		{"[::1]5432", "only :port may follow the bracket"},
		{"10.0.0.256:1", "this is no IPv4 address"},
		{"*:5432", "* is no host"},
		{"a b:5432", "this is no name of a host"},
		{"a:1\n  b:2", "an IPv6 address stands"},
		{"a:1,", "expected a list with commas"},
	};
	char text[256];

	for (size_t i = 0; i < sizeof(HOSTS) / sizeof(HOSTS[0]); i++) {
		snprintf(text, sizeof(text), LISTENER "[pool:a]\nhosts = %s\n", HOSTS[i].hosts);
		refuse(text, 4, HOSTS[i].why);
	}
	refuse("[listener:a]\nlisten = a\n", 2,
	       "[listener:a] listen = a: a: the port is missing; expected host:port");
	snprintf(text, sizeof(text), "[listener:a]\nlisten = /%0120d\n", 0);
	refuse(text, 2, "the path is too long for a Unix socket");
	refuse(LISTENER "[pool:a]\nhosts = b:5432, b\n", 4, "[pool:a] hosts: b is listed twice");
}
END_TEST

START_TEST(settings_that_contradict_each_other_are_refused) {
	refuse("[forebay]\n", 0, "there is no listener");
	refuse("", 0, "there is no listener");
	refuse("[listener:pg]\n", 1, "[listener:pg] listen: it must be set");
	refuse("[listener:pg]\nlisten =\n", 2, "[listener:pg] listen: it must be set");
	refuse(LISTENER "[pool:a]\nmax_size = 3\n", 3, "[pool:a] hosts: it must be set");
	refuse(LISTENER "auth = hba\n", 3, "[listener:pg] auth: auth = hba needs hba_file as well");
	refuse(LISTENER "tls_mode = require\ntls_cert_file = c\n", 3,
	       "tls_mode = require needs tls_key_file as well");
	refuse(LISTENER "tls_mode = require\ntls_key_file = k\n", 3,
	       "tls_mode = require needs tls_cert_file as well");
	refuse(LISTENER "tls_key_file = k\n", 3, "tls_key_file: a key needs tls_cert_file as well");
	refuse(LISTENER "tls_cert_file = k\n", 3, "tls_cert_file: a certificate needs tls_key_file as well");
	refuse(LISTENER "tls_mode = verify-ca\ntls_cert_file = c\ntls_key_file = k\n", 3,
	       "needs tls_ca_file as well");
	refuse(LISTENER "auth = cert\n", 3, "auth = cert needs tls_mode = verify-ca or verify-full");
	refuse(LISTENER
	       "tls_cert_file = c\ntls_key_file = k\ntls_ca_file = a\ntls_mode = require\nauth = cert\n",
	       7, "auth = cert needs tls_mode");
	refuse(LISTENER "user_map = m\n", 3, "user_map: a user map needs ident_file as well");
	refuse(LISTENER POOL "tls_mode = verify-full\n", 5,
	       "tls_mode = verify-full needs tls_ca_file as well");
	refuse(LISTENER POOL "max_size = 3\nmin_idle = 4\n", 6,
	       "[pool:shop] min_idle: 4 is more than max_size, which is 3");
	refuse(LISTENER POOL "server_public_key_file = k.pem\nget_server_public_key = true\n", 6,
	       "[pool:shop] get_server_public_key: server_public_key_file is set too; expected one of the two");
	refuse(LISTENER POOL "auth_query = SELECT 1\n", 5, "auth_query: auth_query needs auth_user as well");
	refuse(LISTENER POOL "auth_password = x\n", 5,
	       "auth_password: auth_password needs auth_user as well");
	refuse(LISTENER "default_pool = shopp\n" POOL, 3, "there is no [pool:shopp]; did you mean shop?");
	refuse("[listener:my]\nprotocol = mysql\nlisten = *:1\ndefault_pool = shop\n" POOL, 4,
	       "speaks another protocol");
	refuse(LISTENER POOL "[user:a]\npool = shoop\n", 6,
	       "[user:a] pool: there is no [pool:shoop]; did you mean shop?");
}
END_TEST

#define MY_LISTENER "[listener:my]\nprotocol = mysql\nlisten = *:1\n"

START_TEST(each_protocol_has_its_own_ways_to_authenticate) {
	struct config *c = must_parse(MY_LISTENER "[listener:sha]\nprotocol = mysql\nlisten = *:2\nauth = caching_sha2_password\n"
						  "default_charset = latin1\nserver_version = 8.0.1\n");
	const struct listener_config *my = config_listener(c, "my"), *sha = config_listener(c, "sha");

	ck_assert_int_eq(my->auth, AUTH_PASSWORD); /* there is no SCRAM in MySQL */
	ck_assert_ptr_null(my->server_version);
	ck_assert_int_eq(my->default_collation, 0);
	ck_assert_int_eq(sha->auth, AUTH_CACHING_SHA2_PASSWORD);
	ck_assert_int_eq(sha->default_collation, 8);
	ck_assert_str_eq(sha->server_version, "8.0.1");
	config_unref(c);
	refuse(MY_LISTENER "auth = scram-sha-256\n", 4, "auth = scram-sha-256 is PostgreSQL's; expected trust, password,");
	refuse(MY_LISTENER "auth = hba\nhba_file = /h\n", 4, "auth = hba is PostgreSQL's");
	refuse(LISTENER "auth = mysql_native_password\n", 3, "auth = mysql_native_password is MySQL's");
	refuse(MY_LISTENER "auth = mysql_clear_password\n", 4, "auth = mysql_clear_password needs tls_mode = require");
	refuse(MY_LISTENER "default_charset = utf7\n", 4, "expected one of backend, utf8mb4");
}
END_TEST

START_TEST(two_listeners_on_one_address_are_refused) {
	refuse(LISTENER "[listener:b]\nlisten = 127.0.0.1:6432\n", 4,
	       "[listener:b] listen: 127.0.0.1:6432 is listened on by [listener:pg] listen already");
	refuse(LISTENER "[listener:b]\nlisten = *:6432\n", 4, "is listened on by");
	refuse("[listener:a]\nlisten = *:1\n[listener:b]\nlisten = /a/b, b:1\n", 4,
	       "is listened on by [listener:a]");
	refuse("[listener:a]\nlisten = /a/b, Host:1, host:1\n", 2, "host:1 is listened on by [listener:a]");
	refuse("[listener:a]\nlisten = /a/b\n[listener:b]\nlisten = /a/b\n", 4, "/a/b is listened on by");
	refuse("[listener:a]\nlisten = 127.0.0.1:9127\n", 2, "is listened on by [forebay] metrics_listen");
	refuse("[forebay]\nmetrics_listen = 127.0.0.1:1, *:1\n" LISTENER, 2, "*:1 is listened on by");
	config_unref(must_parse("[listener:a]\nlisten = a:1, b:1, [::1]:1\n[listener:b]\nlisten = a:2\n"));
}
END_TEST

START_TEST(all_errors_are_reported_at_once) {
	struct config_errors errors;

	ck_assert_ptr_null(config_parse(
		"[forebay]\nworkers = x\nbad line\n[listener:pg]\nauth = hba\nauht = x\n"
		"[pool:a]\nmax_size = 3\nmin_idle = 9\n[user:b]\npassword = ${FOREBAY_TEST_NONE}\n",
		"t", &errors));
	ck_assert(has_error(&errors, "t", 2, "[forebay] workers"));
	ck_assert(has_error(&errors, "t", 3, "expected"));
	ck_assert(has_error(&errors, "t", 6, "did you mean auth?"));
	ck_assert(has_error(&errors, "t", 11, "password: the environment variable"));
	ck_assert(has_error(&errors, "t", 4, "[listener:pg] listen: it must be set"));
	ck_assert(has_error(&errors, "t", 5, "needs hba_file"));
	ck_assert(has_error(&errors, "t", 7, "[pool:a] hosts: it must be set"));
	ck_assert(has_error(&errors, "t", 9, "min_idle: 9 is more"));
	ck_assert_uint_eq(errors.count, 8);
	config_errors_free(&errors);
}
END_TEST

START_TEST(errors_without_end_end_somewhere) {
	static char text[100000];
	struct config_errors errors;

	for (size_t i = 0; i + 2 < sizeof(text); i += 2)
		memcpy(text + i, "x\n", 2);
	ck_assert_ptr_null(config_parse(text, "t", &errors));
	ck_assert_uint_eq(errors.count, 201);
	ck_assert_ptr_nonnull(strstr(errors.at[200].text, "more errors"));
	config_errors_free(&errors);
}
END_TEST

/* ---- the auth_file ---- */

START_TEST(users_of_the_auth_file_are_found_and_sections_win) {
	write_file("users.txt", ";; users\n\"app\" \"from file\"\n\n  \"we\"\"ird\" \t\"pa\"\"ss;\" ; "
				"comment\r\n\"none\" \"\"\n"
				"\"md5\" \"md5aabbccddeeff00112233445566778899\"\n\"mine\" \"theirs\"");
	struct config *c = must_load(
		write_file("a.ini", "[forebay]\nauth_file = users.txt\n" LISTENER
				    "[user:mine]\npassword = ours\n[user:app]\nmax_connections = 3\n"));

	ck_assert_str_eq(config_user(c, "we\"ird")->password, "pa\"ss;");
	ck_assert(config_user(c, "we\"ird")->from_auth_file);
	ck_assert_ptr_null(config_user(c, "none")->password);
	ck_assert_str_eq(config_user(c, "md5")->password, "md5aabbccddeeff00112233445566778899");
	ck_assert_str_eq(config_user(c, "mine")->password, "ours");
	ck_assert(!config_user(c, "mine")->from_auth_file);
	/* What a section leaves open comes from the file. */
	ck_assert_str_eq(config_user(c, "app")->password, "from file");
	ck_assert_uint_eq(config_user(c, "app")->max_connections, 3);
	ck_assert_ptr_null(config_user(c, ";; users"));
	config_unref(c);
}
END_TEST

START_TEST(errors_in_the_auth_file_have_its_name_and_line) {
	struct config_errors errors;
	const char *ini = write_file("a.ini", "[forebay]\nauth_file = users.txt\n" LISTENER);
	const char *users = write_file(
		"users.txt", "\"a\" \"hunter2\"\nb \"hunter2\"\n\"c\"\n\"d\" \"hunter2\n\"\" \"hunter2\"\n"
			     "\"e\" \"hunter2\" x\n\"a\" \"hunter2\"\n\"f\" hunter2\n");

	ck_assert_ptr_null(config_load(ini, &errors));
	ck_assert(has_error(&errors, users, 2, "auth_file: expected \"name\" \"secret\""));
	ck_assert(has_error(&errors, users, 3, "expected \"name\" \"secret\""));
	ck_assert(has_error(&errors, users, 4, "closing double quote"));
	ck_assert(has_error(&errors, users, 5, "the name is empty"));
	ck_assert(has_error(&errors, users, 6, "text behind the secret"));
	ck_assert(has_error(&errors, users, 7, "the user a is there twice"));
	ck_assert(has_error(&errors, users, 8, "expected \"name\" \"secret\""));
	ck_assert_uint_eq(errors.count, 7);
	for (size_t i = 0; i < errors.count; i++)
		ck_assert_ptr_null(strstr(errors.at[i].text, "hunter2"));
	config_errors_free(&errors);

	ck_assert_int_eq(unlink(in_folder("users.txt")), 0);
	struct config *c = config_load(ini, &errors);
	check_only_error(c, &errors, ini, 2, "[forebay] auth_file: cannot read");
}
END_TEST

START_TEST(many_users_are_found_quickly) {
	enum { USERS = 20000 };
	FILE *f = fopen(in_folder("users.txt"), "w");
	char name[32];

	for (int i = 0; i < USERS; i++)
		fprintf(f, "\"user%d\" \"secret%d\"\n", i, i);
	fclose(f);
	struct config *c = must_load(write_file("a.ini", "[forebay]\nauth_file = users.txt\n" LISTENER));
	for (int i = 0; i < USERS; i++) {
		snprintf(name, sizeof(name), "user%d", i);
		ck_assert_ptr_nonnull(config_user(c, name));
	}
	config_unref(c);
}
END_TEST

/* ---- what is shown ---- */

struct shown {
	char text[65536];
	size_t count;
};

static void note_setting(void *context, const char *section, const char *key, const char *value,
			 const char *default_value, bool reloadable) {
	struct shown *shown = context;
	size_t len = strlen(shown->text);

	shown->count++;
	snprintf(shown->text + len, sizeof(shown->text) - len, "<%s %s=%s (%s)%s>", section, key, value,
		 default_value, reloadable ? "" : "!");
}

START_TEST(every_setting_is_shown_with_its_default_and_no_secret) {
	static struct shown shown;
	size_t expected = 0, count;

	struct config *c = must_parse(
		"[user:u]\npassword = hunter2\n" POOL
		"password = hunter2\nmax_lifetime = 3600s\nauth_user = x\nauth_password = hunter2\n" LISTENER
		"[user:v]\n[forebay]\nworkers = 2\nadmin_users = a,b\n");
	config_each(c, note_setting, &shown);
	for (int kind = 0; kind < SECTION_KINDS; kind++) {
		schema_keys((enum section_kind)kind, &count);
		expected += count * (kind == SECTION_USER ? 2 : 1);
	}
	ck_assert_uint_eq(shown.count, expected);
	ck_assert_ptr_eq(strstr(shown.text, "<forebay workers=2 (auto)!>"), shown.text);
	ck_assert_ptr_nonnull(strstr(shown.text, "<forebay admin_users=a, b ()>"));
	ck_assert_ptr_nonnull(strstr(shown.text, "<forebay client_login_timeout=1m (1m)>"));
	ck_assert_ptr_nonnull(strstr(shown.text, "<listener:pg listen=127.0.0.1:6432 ()>"));
	ck_assert_ptr_nonnull(strstr(shown.text, "<pool:shop hosts=10.0.0.5:5432 ()>"));
	ck_assert_ptr_nonnull(strstr(shown.text, "<pool:shop max_lifetime=1h (30m)>"));
	ck_assert_ptr_nonnull(strstr(shown.text, "<pool:shop password=*** ()>"));
	ck_assert_ptr_nonnull(strstr(shown.text, "<pool:shop auth_password=*** ()>"));
	ck_assert_ptr_nonnull(strstr(shown.text, "<pool:shop pool_mode=transaction (transaction)>"));
	ck_assert_ptr_nonnull(strstr(shown.text, "<pool:shop auth_query=SELECT usename, "));
	ck_assert_ptr_nonnull(strstr(shown.text, "<user:u password=*** ()>"));
	ck_assert_ptr_nonnull(strstr(shown.text, "<user:v password= ()>"));
	ck_assert_ptr_null(strstr(shown.text, "hunter2"));
	config_unref(c);
}
END_TEST

static void note_difference(void *context, const char *section, const char *key, const char *before,
			    const char *after, bool needs_restart) {
	struct shown *shown = context;
	size_t len = strlen(shown->text);

	shown->count++;
	snprintf(shown->text + len, sizeof(shown->text) - len, "<%s %s: %s -> %s%s>", section, key, before,
		 after, needs_restart ? "!" : "");
}

static void check_diff(struct config *before, struct config *after, const char *expected) {
	struct shown shown = {.count = 0};

	config_diff(before, after, note_difference, &shown);
	ck_assert_str_eq(shown.text, expected);
	config_unref(before);
	config_unref(after);
}

START_TEST(a_diff_names_what_changed_and_no_secret) {
	check_diff(must_parse(LISTENER POOL),
		   must_parse(POOL "max_size = 20\nidle_timeout = 600s\n" LISTENER), "");
	check_diff(must_parse(LISTENER POOL "max_size = 30\n"),
		   must_parse(LISTENER POOL "idle_timeout = 1h\n"),
		   "<pool:shop max_size: 30 -> 20><pool:shop idle_timeout: 10m -> 1h>");
	check_diff(must_parse("[forebay]\nworkers = 1\n" LISTENER),
		   must_parse("[forebay]\nworkers = 2\n" LISTENER), "<forebay workers: 1 -> 2!>");
	check_diff(must_parse(LISTENER POOL "password = a\n"), must_parse(LISTENER POOL "password = b\n"),
		   "<pool:shop password: *** -> ***>");
	check_diff(must_parse(LISTENER POOL), must_parse(LISTENER POOL "password = b\n"),
		   "<pool:shop password:  -> ***>");
	check_diff(must_parse(LISTENER POOL), must_parse(LISTENER "[user:u]\npassword = x\n[user:v]\n"),
		   "<pool:shop (section): present -> absent><user:u (section): absent -> present><user:u "
		   "password:  -> ***><user:v (section): absent -> present>");
	check_diff(must_parse(LISTENER), must_parse(LISTENER "[listener:b]\nlisten = *:1\n"),
		   "<listener:b (section): absent -> present><listener:b listen:  -> *:1>");
}
END_TEST

START_TEST(a_diff_sees_secrets_that_changed_in_their_files) {
	const char *ini = write_file("a.ini", "[forebay]\nauth_file = users\n" LISTENER POOL
					      "password_file = secret\n");
	write_file("secret", "one");
	write_file("users", "\"a\" \"1\"\n\"b\" \"1\"\n");
	struct config *before = must_load(ini);
	write_file("secret", "two");
	write_file("users", "\"c\" \"1\"\n\"b\" \"2\"\n");

	check_diff(before, must_load(ini),
		   "<pool:shop password: *** -> ***><auth_file b: *** -> ***><auth_file a: present -> "
		   "absent><auth_file c: absent -> present>");
}
END_TEST

/* ---- the sample ---- */

static char *print_defaults(void) {
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	config_print_defaults(out);
	fclose(out);
	return text;
}

START_TEST(the_sample_parses_and_holds_nothing_but_defaults) {
	static struct shown shown;
	char *sample = print_defaults();

	check_diff(must_parse("[listener:pg]\nlisten = 127.0.0.1:6432\n[pool:shop]\nhosts = "
			      "127.0.0.1:5432\n[user:app]\n"),
		   must_parse(sample), "");
	for (int kind = 0; kind < SECTION_KINDS; kind++) {
		size_t count;
		const struct config_key *keys = schema_keys((enum section_kind)kind, &count);
		for (size_t i = 0; i < count; i++) {
			snprintf(shown.text, sizeof(shown.text), "\n%s =", keys[i].name);
			ck_assert_msg(strstr(sample, shown.text) != NULL, "%s", keys[i].name);
		}
	}
	free(sample);
}
END_TEST

START_TEST(conf_forebay_ini_is_the_sample) {
	const char *top = getenv("top_srcdir");
	char path[1024];
	char *sample = print_defaults(), *file = calloc(1, 1 << 20);

	snprintf(path, sizeof(path), "%s/conf/forebay.ini", top ? top : ".");
	FILE *f = fopen(path, "r");
	ck_assert_msg(f != NULL, "cannot open %s", path);
	ck_assert_uint_gt(fread(file, 1, (1 << 20) - 1, f), 0);
	fclose(f);
	ck_assert_msg(strcmp(file, sample) == 0, "%s is not what forebay --print-defaults prints", path);
	free(file);
	free(sample);
}
END_TEST

START_TEST(a_pool_without_a_password_has_its_users) {
	write_file("users.txt", "\"app\" \"of the file\"\n");
	struct config *c = must_load(write_file("a.ini", "[forebay]\nauth_file = users.txt\n" LISTENER
							  "[pool:a]\nhosts = h\nuser = app\n"
							  "[pool:b]\nhosts = h\nuser = app\npassword = own\n"
							  "[pool:c]\nhosts = h\nauth_user = asker\n"
							  "[pool:d]\nhosts = h\nuser = nobody\n"
							  "[pool:e]\nprotocol = mysql\nhosts = h\nuser = app\n"
							  "[user:asker]\npassword = of the section\n"));

	ck_assert_str_eq(config_pool(c, "a")->password, "of the file");
	ck_assert_str_eq(config_pool(c, "b")->password, "own");
	ck_assert_str_eq(config_pool(c, "c")->auth_password, "of the section");
	ck_assert_ptr_null(config_pool(c, "d")->password);
	ck_assert_ptr_null(config_pool(c, "e")->password);
	config_unref(c);
}
END_TEST

START_TEST(doc_forebay_ini_5_is_the_manual) {
	const char *top = getenv("top_srcdir");
	char path[1024], *manual = NULL, *file = calloc(1, 1 << 20);
	size_t len = 0;
	FILE *out = open_memstream(&manual, &len);

	config_print_manual(out);
	fclose(out);
	snprintf(path, sizeof(path), "%s/doc/forebay.ini.5", top ? top : ".");
	FILE *f = fopen(path, "r");
	ck_assert_msg(f != NULL, "cannot open %s", path);
	ck_assert_uint_gt(fread(file, 1, (1 << 20) - 1, f), 0);
	fclose(f);
	ck_assert_msg(strcmp(file, manual) == 0, "%s is not what forebay --print-manual prints", path);
	for (int kind = 0; kind < SECTION_KINDS; kind++) {
		size_t count;
		const struct config_key *keys = schema_keys((enum section_kind)kind, &count);
		for (size_t i = 0; i < count; i++) {
			char item[100];
			snprintf(item, sizeof(item), "\n.It Ic %s No = ", keys[i].name);
			ck_assert_msg(strstr(manual, item) != NULL, "%s is missing", keys[i].name);
		}
	}
	free(file);
	free(manual);
}
END_TEST

START_TEST(a_file_as_the_documentation_shows_it_parses) {
	setenv("SHOP_PASSWORD", "s", 1);
	setenv("APP_PASSWORD", "a", 1);
	write_file("users.txt", "\"x\" \"y\"\n");
	struct config *c = must_load(write_file(
		"a.ini",
		"[forebay]                        ; the process\n"
		"workers = auto                   ; threads; auto: one a CPU\n"
		"admin_users = ops                ; may change things on the console\n"
		"metrics_listen = 127.0.0.1:9127  ; HTTP: /metrics /healthz /readyz /\n"
		"auth_file = users.txt            ; \"name\" \"secret\" lines, as PgBouncer's userlist.txt\n"
		"pid_file =\n"
		"[listener:pg]\n"
		"protocol = postgresql            ; postgresql mysql\n"
		"listen = 127.0.0.1:6432, /run/forebay/.s.PGSQL.6432\n"
		"default_pool =                   ; mysql: for a client that names no schema a pool bears\n"
		"[pool:shop]                      ; the database that clients ask for\n"
		"hosts = 10.0.0.5:5432            ; host:port, [v6]:port, /socket/dir\n"
		"database =                       ; on the backend; the client's name where empty\n"
		"password = ${SHOP_PASSWORD}\n"
		"leak_action = log                ; log, or close: roll back, take it back, tell the client\n"
		"init_sql =\n"
		"[user:app]\n"
		"password = ${APP_PASSWORD}       ; or a stored secret: md5..., SCRAM-SHA-256$...\n"
		"max_connections = 0              ; clients of this user\n"));

	ck_assert_str_eq(config_pool(c, "shop")->password, "s");
	ck_assert_str_eq(config_user(c, "app")->password, "a");
	ck_assert_ptr_null(config_pool(c, "shop")->database);
	config_unref(c);
}
END_TEST

/* ---- references ---- */

static void *take_and_drop(void *context) {
	struct config *config = context;

	for (int i = 0; i < 10000; i++) {
		struct config *mine = config_ref(config);
		ck_assert_ptr_nonnull(config_pool(mine, "shop"));
		config_unref(mine);
	}
	config_unref(config);
	return NULL;
}

START_TEST(the_last_reference_frees_whichever_thread_has_it) {
	struct config *c = must_parse(LISTENER POOL "password = hunter2\n");
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, take_and_drop, config_ref(c)), 0);
	config_unref(c);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	config_unref(NULL);
}
END_TEST

/* ---- anything at all ---- */

static uint64_t random_state;

static uint64_t next_random(void) {
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* Whatever it is, it is taken whole or refused with reasons. */
static void parse_anything(const char *text) {
	struct config_errors errors;
	struct config *config = config_parse(text, "fuzz.ini", &errors);

	ck_assert((config != NULL) == (errors.count == 0));
	for (size_t i = 0; i < errors.count; i++)
		ck_assert_msg(errors.at[i].text[0] && errors.at[i].line >= 0, "an error says nothing");
	config_errors_free(&errors);
	config_unref(config);
}

START_TEST(random_bytes_are_survived) {
	static const char ALPHABET[] = "[]=;#\"\"$${} \t\n\n\n:,*abpool:forebay]0123.-_/\x80\xff\r\x01";
	char text[600];

	random_state = 0x9e3779b97f4a7c15u;
	for (int round = 0; round < 4000; round++) {
		size_t len = next_random() % (sizeof(text) - 1);
		for (size_t i = 0; i < len; i++)
			text[i] = round % 4 == 0 ? (char)(1 + next_random() % 255)
						 : ALPHABET[next_random() % (sizeof(ALPHABET) - 1)];
		text[len] = 0;
		parse_anything(text);
	}
}
END_TEST

START_TEST(random_changes_of_the_sample_are_survived) {
	static const char *const PIECES[] = {
		"\"",          "${",   "\n  ", " ;",           "\n[",        "]", "=",
		"99999999999", "\n\n", ",",    "\xef\xbb\xbf", "[pool:*]\n", "0", "include = .\n",
		"${HOME}"};
	char *sample = print_defaults(), *text = malloc(strlen(sample) + 1000);
	size_t len = strlen(sample);

	random_state = 0x2545f4914f6cdd1du;
	for (int round = 0; round < 1500; round++) {
		strcpy(text, sample);
		for (uint64_t changes = 1 + next_random() % 8; changes > 0; changes--) {
			size_t now = strlen(text), at = next_random() % now;
			const char *piece = PIECES[next_random() % (sizeof(PIECES) / sizeof(PIECES[0]))];
			size_t cut = next_random() % 40;
			switch (next_random() % 4) {
			case 0:
				text[at] = (char)(1 + next_random() % 255);
				break;
			case 1:
				if (now < len + 900) {
					memmove(text + at + strlen(piece), text + at, now - at + 1);
					memcpy(text + at, piece, strlen(piece));
				}
				break;
			case 2:
				if (at + cut < now)
					memmove(text + at, text + at + cut, now - at - cut + 1);
				break;
			default:
				if (next_random() % 8 == 0)
					text[at > 0 ? at : 1] = 0;
				break;
			}
		}
		parse_anything(text);
	}
	free(text);
	free(sample);
}
END_TEST

START_TEST(random_auth_files_are_survived) {
	static const char ALPHABET[] = "\"\"\"ab \t;\n\n\\\x80";
	char text[400];

	random_state = 0xda942042e4dd58b5u;
	const char *ini = write_file("a.ini", "[forebay]\nauth_file = users\n" LISTENER);
	for (int round = 0; round < 1000; round++) {
		struct config_errors errors;
		size_t len = next_random() % (sizeof(text) - 1);
		for (size_t i = 0; i < len; i++)
			text[i] = ALPHABET[next_random() % (sizeof(ALPHABET) - 1)];
		text[len] = 0;
		write_file("users", text);
		struct config *config = config_load(ini, &errors);
		ck_assert((config != NULL) == (errors.count == 0));
		config_errors_free(&errors);
		config_unref(config);
	}
}
END_TEST

static void add_case(Suite *suite, const char *name, const TTest *const *tests) {
	TCase *tcase = tcase_create(name);

	tcase_add_checked_fixture(tcase, make_folder, remove_folder);
	tcase_set_timeout(tcase, 120);
	for (; *tests; tests++)
		tcase_add_test(tcase, *tests);
	suite_add_tcase(suite, tcase);
}

#define TESTS(...) ((const TTest *const[]){__VA_ARGS__, NULL})

int main(void) {
	if (!mkdtemp(all_folders))
		return EXIT_FAILURE;
	Suite *suite = suite_create("config");

	add_case(suite, "units",
		 TESTS(durations_need_a_unit_but_for_0, sizes_need_a_unit_but_for_0,
		       durations_and_sizes_are_shown_in_the_largest_unit_that_is_exact,
		       durations_are_said_in_two_units_at_most));
	add_case(suite, "nearest",
		 TESTS(the_distance_of_names_counts_swapped_letters_once, only_a_near_name_is_offered));
	add_case(suite, "values",
		 TESTS(a_file_of_three_lines_has_every_default, values_land_in_their_fields,
		       the_default_of_min_idle_shrinks_with_max_size, every_key_can_be_given_its_default));
	add_case(suite, "form",
		 TESTS(blanks_and_comments_around_a_value_are_not_part_of_it, quotes_hold_anything,
		       nothing_that_could_be_meant_is_cut_as_a_comment, a_deeper_line_goes_on_with_the_value,
		       keys_may_be_indented_alike, a_deeper_line_that_looks_like_a_setting_is_refused,
		       long_lines_work_up_to_a_limit_that_is_told,
		       a_byte_order_mark_and_carriage_returns_are_fine,
		       section_names_may_hold_anything_in_quotes));
	add_case(suite, "surroundings",
		 TESTS(only_a_dollar_and_a_brace_take_the_environment, a_password_file_gives_its_first_line,
		       paths_start_from_the_folder_of_the_file_they_are_in,
		       an_include_reads_the_file_where_it_stands_and_comes_back,
		       errors_in_an_included_file_name_that_file,
		       includes_that_go_round_or_too_deep_are_refused,
		       a_file_that_cannot_be_read_is_one_error));
	add_case(suite, "refusals",
		 TESTS(sections_that_are_not_right_are_refused, keys_that_are_not_right_are_refused,
		       a_key_that_is_there_twice_is_refused,
		       lines_that_are_nothing_are_refused_without_a_word_of_them,
		       values_that_are_not_right_are_refused, addresses_that_are_not_right_are_refused,
		       settings_that_contradict_each_other_are_refused,
		       two_listeners_on_one_address_are_refused,
		       each_protocol_has_its_own_ways_to_authenticate, all_errors_are_reported_at_once,
		       errors_without_end_end_somewhere));
	add_case(suite, "auth_file",
		 TESTS(users_of_the_auth_file_are_found_and_sections_win,
		       errors_in_the_auth_file_have_its_name_and_line, many_users_are_found_quickly));
	add_case(suite, "shown",
		 TESTS(every_setting_is_shown_with_its_default_and_no_secret,
		       a_diff_names_what_changed_and_no_secret,
		       a_diff_sees_secrets_that_changed_in_their_files,
		       the_sample_parses_and_holds_nothing_but_defaults, a_pool_without_a_password_has_its_users, conf_forebay_ini_is_the_sample, doc_forebay_ini_5_is_the_manual,
		       a_file_as_the_documentation_shows_it_parses));
	add_case(suite, "references", TESTS(the_last_reference_frees_whichever_thread_has_it));
	add_case(suite, "anything",
		 TESTS(random_bytes_are_survived, random_changes_of_the_sample_are_survived,
		       random_auth_files_are_survived));

	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	/* what tests that failed have left in it, too */
	char command[64];
	snprintf(command, sizeof command, "rm -rf %s", all_folders);
	failed += system(command) != 0;
	return failed ? 1 : 0;
}
