/* A pgbouncer.ini: how it is read, what becomes of each setting, and that --convert means the same. */
#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "config/config.h"
#include "config/pgbouncer_file.h"
#include "config/pgbouncer_table.h"

#define MAIN "[pgbouncer]\nlisten_addr = 127.0.0.1\nauth_file = userlist.txt\n"
#define SHOP "[databases]\nshop = host=10.0.0.5\n"

/* ---- a folder to work in ---- */

static char all_folders[] = "/tmp/forebay-pgbouncer-XXXXXX", folder[64], home[4096];

static void write_file(const char *name, const char *text) {
	char path[200];

	snprintf(path, sizeof path, "%s/%s", folder, name);
	FILE *f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	ck_assert_int_eq(fclose(f), 0);
}

/* PgBouncer's relative paths start from the working directory. */
static void make_folder(void) {
	ck_assert_ptr_nonnull(getcwd(home, sizeof home));
	snprintf(folder, sizeof folder, "%s/XXXXXX", all_folders);
	ck_assert_ptr_nonnull(mkdtemp(folder));
	ck_assert_int_eq(chdir(folder), 0);
	write_file("userlist.txt", "\"app\" \"secret\"\n\"ops\" \"other\"\n");
}

static void remove_folder(void) {
	char command[128];

	ck_assert_int_eq(chdir(home), 0);
	snprintf(command, sizeof command, "rm -rf '%s'", folder);
	ck_assert_int_eq(system(command), 0);
}

/* ---- loading ---- */

static void print_errors(const struct config_errors *errors) {
	for (size_t i = 0; i < errors->count; i++)
		fprintf(stderr, "%s:%d: %s\n", errors->at[i].file, errors->at[i].line, errors->at[i].text);
}

static struct config *must_parse(const char *text) {
	struct config_errors errors;
	struct config *config = config_parse(text, "p.ini", &errors);

	if (!config)
		print_errors(&errors);
	ck_assert_ptr_nonnull(config);
	ck_assert(config_is_pgbouncers(config));
	config_errors_free(&errors);
	return config;
}

static void refuse(const char *text, int line, const char *part) {
	struct config_errors errors;
	struct config *config = config_parse(text, "p.ini", &errors);
	bool found = false;

	for (size_t i = 0; i < errors.count; i++)
		found |= errors.at[i].line == line && strstr(errors.at[i].text, part);
	if (!found) {
		fprintf(stderr, "wanted line %d: %s\n", line, part);
		print_errors(&errors);
	}
	ck_assert_ptr_null(config);
	ck_assert(found);
	config_errors_free(&errors);
}

struct wanted {
	const char *section, *key;
	char value[600];
	bool found;
};

static void look(void *context, const char *section, const char *key, const char *value, const char *default_value,
		 bool reloadable) {
	struct wanted *wanted = context;

	(void)default_value, (void)reloadable;
	if (strcmp(section, wanted->section) != 0 || strcmp(key, wanted->key) != 0)
		return;
	wanted->found = true;
	snprintf(wanted->value, sizeof wanted->value, "%s", value);
}

static void shows(const struct config *config, const char *section, const char *key, const char *value) {
	struct wanted wanted = {.section = section, .key = key};

	config_each(config, look, &wanted);
	ck_assert_msg(wanted.found, "there is no [%s] %s", section, key);
	ck_assert_msg(strcmp(wanted.value, value) == 0, "[%s] %s is \"%s\", wanted \"%s\"", section, key, wanted.value, value);
}

static void find_remark(void *context, const char *file, int line, const char *text) {
	struct wanted *wanted = context;

	(void)file, (void)line;
	if (strstr(text, wanted->key))
		wanted->found = true;
}

static bool remarks(const struct config *config, const char *part) {
	struct wanted wanted = {.key = part};

	config_each_remark(config, find_remark, &wanted);
	return wanted.found;
}

/* A file with this line in [pgbouncer] shows this. */
static void main_line(const char *line, const char *section, const char *key, const char *value) {
	char text[2000];

	snprintf(text, sizeof text, SHOP MAIN "%s\n", line);
	struct config *config = must_parse(text);
	shows(config, section, key, value);
	config_unref(config);
}

/* A database with these words shows this. */
static void database(const char *words, const char *key, const char *value) {
	char text[2000];

	snprintf(text, sizeof text, "[databases]\nshop = %s\n" MAIN, words);
	struct config *config = must_parse(text);
	shows(config, "pool:shop", key, value);
	config_unref(config);
}

static void main_remark(const char *line, const char *part) {
	char text[2000];

	snprintf(text, sizeof text, SHOP MAIN "%s\n", line);
	struct config *config = must_parse(text);
	ck_assert_msg(remarks(config, part), "%s: nothing is said of \"%s\"", line, part);
	config_unref(config);
}

/* ---- the table ---- */

START_TEST(every_setting_is_accepted_at_its_default_and_has_a_fate) {
	size_t count;
	const struct pgb_key *keys = pgb_keys(PGB_MAIN, &count);
	char text[16000];
	size_t len = (size_t)snprintf(text, sizeof text, SHOP "[pgbouncer]\n");

	ck_assert_uint_gt(count, 90);
	for (int scope = 0; scope < PGB_SCOPES; scope++) {
		const struct pgb_key *all = pgb_keys((enum pgb_scope)scope, &count);
		ck_assert_uint_gt(count, 2);
		ck_assert_uint_le(count, PGB_KEYS_MOST);
		for (size_t i = 0; i < count; i++) {
			ck_assert_int_eq(pgb_find((enum pgb_scope)scope, all[i].name), (int)i);
			ck_assert_msg(all[i].fate == PGB_TRANSLATED ? all[i].becomes != NULL : all[i].why != NULL, "%s",
				      all[i].name);
			ck_assert_msg(i == 0 || strcmp(all[i - 1].name, all[i].name) < 0, "%s is out of order", all[i].name);
		}
	}
	keys = pgb_keys(PGB_MAIN, &count);
	for (size_t i = 0; i < count; i++)
		if (keys[i].default_text)
			len += (size_t)snprintf(text + len, sizeof text - len, "%s = %s\n", keys[i].name, keys[i].default_text);
	struct config *config = must_parse(text);
	shows(config, "pool:shop", "pool_mode", "session");
	shows(config, "forebay", "max_clients", "100");
	config_unref(config);
}
END_TEST

/* doc/from-pgbouncer.md has a row for each, which says what the table says. */
START_TEST(the_page_for_people_names_every_setting) {
	static char page[200000];
	char path[4200], row[600];
	size_t count;

	snprintf(path, sizeof path, "%s/doc/from-pgbouncer.md", getenv("top_srcdir") ? getenv("top_srcdir") : home);
	FILE *f = fopen(path, "r");
	ck_assert_msg(f != NULL, "cannot read %s", path);
	page[fread(page, 1, sizeof page - 1, f)] = 0;
	fclose(f);
	for (int scope = 0; scope < PGB_PEER; scope++) {
		const struct pgb_key *keys = pgb_keys((enum pgb_scope)scope, &count);
		for (size_t i = 0; i < count; i++) {
			const char *becomes = keys[i].becomes, *why = keys[i].why;
			snprintf(row, sizeof row, "| `%s` | %s%s%s | %s%s |\n", keys[i].name, becomes ? "`" : "",
				 becomes ? becomes : "", becomes ? "`" : "",
				 keys[i].fate == PGB_IGNORED ? "ignored: " : why ? "" : "same", why ? why : "");
			ck_assert_msg(strstr(page, row) != NULL, "doc/from-pgbouncer.md has no row %s", row);
		}
	}
}
END_TEST

START_TEST(numbers_and_seconds_are_read_as_pgbouncer_reads_them) {
	uint64_t ns;
	int n;

	ck_assert(pgb_int("0777", &n) && n == 0777);
	ck_assert(pgb_int("0x10", &n) && n == 16);
	ck_assert(pgb_int("-1", &n) && n == -1);
	ck_assert(!pgb_int("10s", &n));
	ck_assert(!pgb_int("", &n));
	ck_assert(!pgb_int("99999999999", &n));
	ck_assert(pgb_time("1.5", &ns) && ns == 1500 * NS_PER_MS);
	ck_assert(pgb_time("0.000001", &ns) && ns == NS_PER_US);
	ck_assert(pgb_time("1e2", &ns) && ns == 100 * NS_PER_S);
	ck_assert(pgb_time("0", &ns) && ns == 0);
	ck_assert(pgb_time("1e300", &ns) && ns == 365 * 86400 * NS_PER_S);
	ck_assert(!pgb_time("5s", &ns));
	ck_assert(!pgb_time("-1", &ns));
	ck_assert(!pgb_time("nan", &ns));
	ck_assert(!pgb_time("", &ns));
	ck_assert_int_eq(pgb_loose("12x"), 12);
	ck_assert_int_eq(pgb_loose("x"), 0);
	ck_assert_int_eq(pgb_loose("99999999999999999999"), 2147483647);
}
END_TEST

/* ---- the form of the file ---- */

START_TEST(a_file_is_known_by_its_first_section) {
	static const struct {
		const char *text;
		bool is;
	} files[] = {
		{"[pgbouncer]\n", true},
		{"\xef\xbb\xbf; c\r\n\r\n  # d\n  [databases]", true},
		{"[users]", true},
		{"[peers]\n", true},
		{"%include x.ini", true},
		{"[forebay]\n[pgbouncer]\n", false},
		{"[pool:pgbouncer]\n", false},
		{"include = x\n[pgbouncer]\n", false},
		{"", false},
		{"; nothing", false},
		{"%included", false},
	};

	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
		ck_assert_msg(pgb_file_is(files[i].text, strlen(files[i].text)) == files[i].is, "%s", files[i].text);
}
END_TEST

START_TEST(lines_end_and_comments_begin_as_in_pgbouncer) {
	struct config *config = must_parse("\xef\xbb\xbf\r\n  ; c\r\n[databases]\r\n  shop=host=10.0.0.5  \r\n\t'od d' = dbname=x\r\n"
					   "\"quo\"\"ted\" = dbname=y\r\n[pgbouncer] auth_type = plain\r\n"
					   "listen_addr=127.0.0.1\r\nadmin_users = a ; b, # c\r\n#x\r\n");

	shows(config, "pool:shop", "hosts", "10.0.0.5:5432");
	shows(config, "pool:od d", "database", "x");
	shows(config, "pool:quo\"ted", "database", "y");
	shows(config, "listener:pgbouncer", "auth", "password");
	shows(config, "forebay", "admin_users", "a ; b, # c");
	config_unref(config);
}
END_TEST

START_TEST(what_pgbouncer_refuses_is_refused_with_its_line) {
	refuse(MAIN "nonsense\n", 4, "expected [section]");
	refuse(MAIN "poolmode = session\n", 4, "did you mean pool_mode?");
	refuse(MAIN "[other]\nx = 1\n", 4, "no such section");
	refuse(MAIN "[oops\n", 4, "bracket");
	refuse(MAIN "max_client_conn = many\n", 4, "whole number");
	refuse(MAIN "server_lifetime = 1h\n", 4, "seconds");
	refuse(MAIN "pool_mode = txn\n", 4, "session, transaction, statement");
	refuse(MAIN "auth_type = kerberos\n", 4, "expected one of");
	refuse(MAIN "listen_port = 0\n", 4, "1 to 65535");
	refuse(MAIN "we ird = 1\n", 4, "expected [section]");
	refuse(MAIN "auth_type = hba\n", 4, "hba_file");
	refuse("%include nowhere.ini\n[pgbouncer]\n", 1, "cannot read nowhere.ini");
	refuse("[databases]\nshop = host=x\n", 0, "[pgbouncer]");
	refuse(MAIN "[databases]\npgbouncer = host=x\n", 5, "console");
	refuse(MAIN "[databases]\nshop = host\n", 5, "key=value");
	refuse(MAIN "[databases]\nshop = host=\n", 5, "empty");
	refuse(MAIN "[databases]\nshop = host=''\n", 5, "empty");
	refuse(MAIN "[databases]\nshop = connect_query='select 1\n", 5, "closing single quote");
	refuse(MAIN "[databases]\nshop = hots=x\n", 5, "did you mean host?");
	refuse(MAIN "[databases]\nshop = port=none\n", 5, "1 to 65535");
	refuse(MAIN "[databases]\nshop = pool_mode=none\n", 5, "expected one of");
	refuse(MAIN "[databases]\nshop = target_session_attrs=prefer-standby\n", 5, "expected one of");
	refuse(MAIN "[users]\napp = pool=1\n", 5, "no such setting");
	refuse(MAIN "[peers]\nx = host=y\n", 5, "number from 1");
	refuse(MAIN "[peers]\n1 = port=5\n", 5, "host is missing");
	refuse("[pgbouncer]\nunix_socket_dir =\n", 1, "nowhere to listen");
	refuse(MAIN "client_tls_sslmode = verify-full\nclient_tls_cert_file = /c\nclient_tls_key_file = /k\n", 4,
	       "needs client_tls_ca_file");
	/* what may be the end of a password is not told */
	refuse("[databases]\nshop = password=my secret=1\n" MAIN, 2, "behind password");
	struct config_errors errors;
	ck_assert_ptr_null(config_parse("[databases]\nshop = password=my secret=1\n" MAIN, "p.ini", &errors));
	for (size_t i = 0; i < errors.count; i++)
		ck_assert_ptr_null(strstr(errors.at[i].text, "secret"));
	config_errors_free(&errors);
}
END_TEST

START_TEST(included_files_are_read_in_place_in_the_section_that_holds) {
	write_file("more.ini", "b = host=h2\n[pgbouncer]\nauth_type = trust\n");
	write_file("self.ini", "%include self.ini\n");
	struct config *config = must_parse("[databases]\na = host=h1\n%include   more.ini  \nlisten_addr = 127.0.0.1\n");
	shows(config, "pool:a", "hosts", "h1:5432");
	shows(config, "pool:b", "hosts", "h2:5432");
	shows(config, "listener:pgbouncer", "auth", "trust");
	shows(config, "listener:pgbouncer", "listen", "127.0.0.1:6432, /tmp/.s.PGSQL.6432");
	config_unref(config);
	/* and is not read ever so often by the power of ten */
	refuse("%include self.ini\n", 1, "self.ini includes itself");
	write_file("bad.ini", "; one\npool_mode = x\n");
	struct config_errors errors;
	ck_assert_ptr_null(config_parse("[pgbouncer]\n%include bad.ini\n", "p.ini", &errors));
	ck_assert_uint_eq(errors.count, 1);
	ck_assert_str_eq(errors.at[0].file, "bad.ini");
	ck_assert_int_eq(errors.at[0].line, 2);
	config_errors_free(&errors);
}
END_TEST

START_TEST(the_last_line_of_a_name_counts_and_a_second_section_forgets) {
	struct config *config = must_parse("[databases]\nshop = host=h1 pool_size=7\nshop = host=h2 user=app\n[pgbouncer]\npool_mode = "
					   "transaction\npool_mode = statement\nmax_client_conn=5\n[users]\n[pgbouncer]\nlisten_addr "
					   "= ::1, 127.0.0.1,,::1\n");

	shows(config, "pool:shop", "hosts", "h2:5432");
	shows(config, "pool:shop", "max_size", "20");
	shows(config, "pool:shop", "pool_mode", "session");
	shows(config, "forebay", "max_clients", "100");
	shows(config, "listener:pgbouncer", "listen", "[::1]:6432, 127.0.0.1:6432, /tmp/.s.PGSQL.6432");
	ck_assert(remarks(config, "begins again"));
	ck_assert(remarks(config, "there twice"));
	config_unref(config);
}
END_TEST

/* ---- what becomes of a setting ---- */

START_TEST(settings_of_the_process_are_translated) {
	main_line("max_client_conn = 0x100", "forebay", "max_clients", "256");
	main_line("max_client_conn = 0", "forebay", "max_clients", "1");
	main_line("max_user_client_connections = 9", "forebay", "max_connections_per_user", "9");
	main_line("admin_users = a,b , ,a", "forebay", "admin_users", "a, b");
	main_line("stats_users = x", "forebay", "stats_users", "x");
	main_line("", "forebay", "admin_socket_user", "pgbouncer");
	main_line("", "forebay", "metrics_listen", "");
	main_line("log_connections = 0", "forebay", "log_connections", "true");
	main_line("log_connections = 0\nlog_disconnections = 0", "forebay", "log_connections", "false");
	main_line("verbose = 1", "forebay", "log_level", "debug");
	main_line("client_login_timeout = 0.25", "forebay", "client_login_timeout", "250ms");
	main_line("client_login_timeout = 0.001", "forebay", "client_login_timeout", "10ms");
	main_line("user = nobody", "forebay", "run_as", "nobody");
	main_line("pidfile = /run/p.pid", "forebay", "pid_file", "/run/p.pid");
	main_line("tcp_keepalive = 0", "forebay", "tcp_keepalive_idle", "0");
	main_line("tcp_keepidle = 45", "forebay", "tcp_keepalive_idle", "45s");
	main_line("", "forebay", "tcp_keepalive_idle", "30s");
	main_line("tcp_user_timeout = 1500", "forebay", "tcp_user_timeout", "1500ms");
	main_line("dns_max_ttl = 60", "forebay", "dns_refresh", "1m");
	main_line("dns_max_ttl = 0", "forebay", "dns_refresh", "0");
	char path[200];
	snprintf(path, sizeof path, "%s/userlist.txt", folder);
	main_line("", "forebay", "auth_file", path);
}
END_TEST

START_TEST(settings_of_the_listener_are_translated) {
	const char *l = "listener:pgbouncer";

	main_line("listen_port = 7000", l, "listen", "127.0.0.1:7000, /tmp/.s.PGSQL.7000");
	main_line("listen_addr = 10.0.0.1, *", l, "listen", "*:6432, /tmp/.s.PGSQL.6432");
	main_line("listen_addr = localhost, 127.0.0.1", l, "listen", "127.0.0.1:6432, /tmp/.s.PGSQL.6432");
	main_line("unix_socket_dir =", l, "listen", "127.0.0.1:6432");
	main_line("unix_socket_dir = @hidden", l, "listen", "127.0.0.1:6432");
	main_line("unix_socket_mode = 0700", l, "unix_socket_mode", "0700");
	main_line("unix_socket_group = staff", l, "unix_socket_group", "staff");
	main_line("listen_backlog = 500", l, "backlog", "500");
	main_line("", l, "auth", "md5");
	main_line("auth_type = SCRAM-SHA-256", l, "auth", "scram-sha-256");
	main_line("auth_type = plain", l, "auth", "password");
	main_line("auth_type = any", l, "auth", "trust");
	main_line("auth_type = any", l, "known_users_only", "false");
	main_line("auth_type = trust", l, "known_users_only", "true");
	main_line("auth_type = pam", l, "auth", "password");
	main_line("auth_type = hba\nauth_hba_file = /h\nauth_ident_file = /i", l, "hba_file", "/h");
	main_line("auth_type = hba\nauth_hba_file = /h\nauth_ident_file = /i", l, "ident_file", "/i");
	main_line("ignore_startup_parameters = extra_float_digits,options", l, "ignore_startup_parameters",
		  "extra_float_digits, options");
	main_line("", l, "tls_mode", "disable");
	main_line("client_tls_sslmode = require\nclient_tls_cert_file = /c\nclient_tls_key_file = /k\nclient_tls_ciphers = "
		  "HIGH:!aNULL",
		  l, "tls_ciphers", "HIGH:!aNULL");
	main_line("client_tls_sslmode = verify-full\nclient_tls_cert_file = /c\nclient_tls_key_file = /k\nclient_tls_ca_file = "
		  "/ca\nclient_tls_protocols = tlsv1.3",
		  l, "tls_min_version", "1.3");
	main_line("client_tls_sslmode = allow\nclient_tls_cert_file = /c\nclient_tls_key_file = /k", l, "tls_key_file", "/k");
}
END_TEST

START_TEST(sizes_are_those_of_users_within_what_all_can_come_to) {
	/* two users are known, 20 connections each */
	main_line("", "pool:shop", "max_size", "40");
	main_line("", "pool:shop", "max_size_per_user", "20");
	main_line("default_pool_size = 7", "pool:shop", "max_size", "14");
	main_line("default_pool_size = 0", "pool:shop", "max_size_per_user", "1");
	main_line("reserve_pool_size = 5", "pool:shop", "max_size_per_user", "25");
	main_line("reserve_pool_size = 5\nreserve_pool_timeout = 0", "pool:shop", "max_size_per_user", "20");
	main_line("max_db_connections = 30", "pool:shop", "max_size", "30");
	main_line("max_user_connections = 6", "pool:shop", "max_size_per_user", "6");
	main_line("auth_user = asker\nmax_client_conn = 300", "pool:shop", "max_size", "300");
	main_line("auth_type = any", "pool:shop", "max_size", "100");
	main_line("auth_type = trust", "pool:shop", "max_size", "40");
	main_line("max_db_client_connections = 8", "pool:shop", "max_connections", "8");
	main_line("min_pool_size = 3", "pool:shop", "min_idle", "3");
	main_line("min_pool_size = 300", "pool:shop", "min_idle", "40");
	main_line("", "pool:shop", "min_idle", "0");
	database("user=app", "max_size", "20");
	database("user=app", "max_size_per_user", "0");
	database("user=app max_db_connections=3", "max_size", "3");
	database("user=app max_db_connections=300", "max_size", "20");
	database("pool_size=4 reserve_pool=1", "max_size_per_user", "5");
	database("pool_size=4 reserve_pool_size=2 reserve_pool=1", "max_size_per_user", "6");
	database("pool_size=4 max_db_connections=9 max_db_client_connections=11", "max_size", "9");
	database("max_db_client_connections=11", "max_connections", "11");
	database("pool_size=200000", "max_size_per_user", "100000");
	database("min_pool_size=2 user=app", "min_idle", "2");
}
END_TEST

START_TEST(databases_are_translated) {
	database("", "hosts", "/tmp");
	database("port=6000", "hosts", "/tmp:6000");
	database("host=/run/pg", "hosts", "/run/pg");
	database("host=::1 port=1", "hosts", "[::1]:1");
	database("host=a,b,a", "hosts", "a:5432, b:5432");
	database("host=a,b", "host_order", "round-robin");
	database("host=a,b load_balance_hosts=disable", "host_order", "failover");
	database("host=a target_session_attrs=read-write", "target", "primary");
	database("host=a target_session_attrs=standby", "target", "standby");
	database("dbname=other", "database", "other");
	database("host=a", "database", "");
	database("user = 'o''connor'", "user", "o'connor");
	database("user=u password='p w'", "password", "***");
	database("application_name=jobs", "application_name", "jobs");
	database("pool_mode=Statement", "pool_mode", "statement");
	database("connect_query='select '';''; select 2'", "init_sql", "select ';'; select 2");
	database("timezone=UTC datestyle='ISO, DMY' connect_query='select 1'", "init_sql",
		 "SET datestyle TO 'ISO, DMY'; SET timezone TO 'UTC'; select 1");
	database("server_lifetime=60", "max_lifetime", "1m");
	database("query_wait_timeout=3", "acquire_timeout", "3s");
	database("query_wait_timeout=-1", "acquire_timeout", "2m");
	database("auth_user=asker auth_query='select 1'", "auth_query", "select 1");
	database("auth_user=asker auth_dbname=admin", "auth_database", "admin");
	database("auth_query='select 1'", "auth_query", "");
	struct config *config = must_parse("[databases]\n* = host=h\nsys = dbname=postgres host=h\n" MAIN
					   "auth_user = asker\nauth_dbname = sys\n");
	shows(config, "pool:*", "auth_database", "postgres");
	shows(config, "pool:*", "database", "");
	shows(config, "forebay", "max_auto_pools", "1000");
	config_unref(config);
}
END_TEST

START_TEST(times_of_pools_are_translated) {
	static const struct {
		const char *line, *key, *value;
	} cases[] = {
		{"", "max_lifetime", "1h"},
		{"server_lifetime = 0", "max_lifetime", "10ms"},
		{"server_lifetime = 1.5", "max_lifetime", "1500ms"},
		{"", "idle_timeout", "10m"},
		{"server_idle_timeout = 0", "idle_timeout", "0"},
		{"", "connect_timeout", "15s"},
		{"server_connect_timeout = 0", "connect_timeout", "365d"},
		{"", "acquire_timeout", "2m"},
		{"query_wait_timeout = 0", "acquire_timeout", "0"},
		{"query_wait_timeout = 0.1", "acquire_timeout", "100ms"},
		{"", "wait_notice_after", "5s"},
		{"query_wait_notify = 0", "wait_notice_after", "0"},
		{"query_timeout = 1", "query_timeout", "1s"},
		{"transaction_timeout = 2", "transaction_timeout", "2s"},
		{"idle_transaction_timeout = 3", "idle_transaction_timeout", "3s"},
		{"client_idle_timeout = 4", "client_idle_timeout", "4s"},
		{"", "when_unavailable", "fail"},
		{"", "reset_sql", "DISCARD ALL"},
		{"server_reset_query =", "reset_sql", ""},
		{"", "validation_query", ""},
		{"", "alive_bypass_window", "500ms"},
		{"server_check_query = select 1", "validation_query", "select 1"},
		{"server_check_query = select 1", "alive_bypass_window", "30s"},
		{"server_check_query = select 1\nserver_check_delay = 0", "alive_bypass_window", "0"},
		{"", "max_prepared_statements", "200"},
		{"max_prepared_statements = 0", "max_prepared_statements", "0"},
		{"", "tls_mode", "prefer"},
		{"server_tls_sslmode = verify-full", "tls_ca_file", "system"},
		{"server_tls_sslmode = verify-ca\nserver_tls_ca_file = /ca", "tls_ca_file", "/ca"},
		{"server_tls_sslmode = disable\nserver_tls_ca_file = /ca", "tls_ca_file", ""},
		{"server_tls_ciphers = all", "tls_ciphers", "ALL:!aNULL:!eNULL"},
		{"server_tls_ciphers = secure", "tls_ciphers", ""},
		{"server_tls_protocols = all,!tlsv1.2", "tls_min_version", "1.3"},
		{"server_tls_protocols = TLSv1.2", "tls_min_version", "1.2"},
		{"server_tls_protocols = tlsv1.3 : !tlsv1.0", "tls_min_version", "1.3"},
		{"server_tls_protocols = tlsv1.0", "tls_min_version", "1.2"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		main_line(cases[i].line, "pool:shop", cases[i].key, cases[i].value);
}
END_TEST

START_TEST(users_are_translated) {
	struct config *config =
		must_parse("[users]\napp = pool_size=3 reserve_pool_size=1 query_timeout=5 max_user_client_connections=7\n"
			   "'a b' = max_user_connections=2 pool_size=9 client_idle_timeout=60\nnone =\n" SHOP
			   "mine = user=app\n" MAIN);

	shows(config, "user:app", "max_size", "4");
	shows(config, "user:app", "query_timeout", "5s");
	shows(config, "user:app", "transaction_timeout", "");
	shows(config, "user:app", "max_connections", "7");
	shows(config, "user:app", "password", "***");
	shows(config, "user:a b", "max_size", "2");
	shows(config, "user:a b", "client_idle_timeout", "1m");
	shows(config, "user:none", "max_connections", "0");
	/* app 4, a b 2, none 20, and ops of the auth_file 20 */
	shows(config, "pool:shop", "max_size", "46");
	/* the password is in auth_file */
	shows(config, "pool:mine", "password", "***");
	shows(config, "pool:mine", "max_size", "4");
	ck_assert_str_eq(config_pool(config, "mine")->password, "secret");
	ck_assert(remarks(config, "each pool by itself"));
	config_unref(config);
}
END_TEST

START_TEST(what_is_ignored_is_said_with_its_reason) {
	size_t count;
	const struct pgb_key *keys = pgb_keys(PGB_MAIN, &count);

	for (size_t i = 0; i < count; i++) {
		char line[200];
		const char *other = keys[i].type == PGB_TEXT ? "something" : "1234";
		if (keys[i].fate != PGB_IGNORED || strcmp(keys[i].name, "conffile") == 0)
			continue;
		snprintf(line, sizeof line, "%s = %s", keys[i].name, other);
		main_remark(line, keys[i].why);
		main_remark(line, keys[i].name);
	}
	struct config *config = must_parse(SHOP MAIN "auth_ldap_options = ldapbindpasswd=hunter2\n");
	ck_assert(remarks(config, "auth_ldap_options"));
	ck_assert(!remarks(config, "hunter2"));
	config_unref(config);
	config = must_parse(SHOP MAIN "tcp_defer_accept = 1\nserver_round_robin = 0\n");
	ck_assert(!remarks(config, "ignored"));
	config_unref(config);
	config = must_parse(SHOP "[users]\napp = pool_mode=session query_wait_timeout=4\n[peers]\n1 = host=x\n" MAIN);
	ck_assert(remarks(config, "one mode for all"));
	ck_assert(remarks(config, "[peers] is ignored"));
	config_unref(config);
	main_remark("auth_type = ldap", "does not ask ldap");
	main_remark("auth_type = any", "admin_users alone");
	main_remark("unix_socket_dir = @x", "abstract");
	main_remark("client_tls_sslmode = prefer\nclient_tls_protocols = all", "older than TLS 1.2");
	main_remark("client_tls_sslmode = prefer", "no TLS is offered");
	main_remark("server_lifetime = 0", "first use");
	main_remark("client_login_timeout = 0.001", "10ms");
	main_remark("auth_file = nowhere.txt", "cannot read");
}
END_TEST

static void find_theirs(void *context, const char *key, const char *value, const char *default_value) {
	struct wanted *wanted = context;

	if (strcmp(key, wanted->key) != 0)
		return;
	wanted->found = true;
	snprintf(wanted->value, sizeof wanted->value, "%s/%s", value ? value : "none", default_value ? default_value : "none");
}

START_TEST(its_settings_are_shown_by_their_names) {
	static const char *const cases[][2] = {{"max_client_conn", "0x80/100"},
					       {"max_user_connections", "0/0"},
					       {"auth_user", "none/none"},
					       {"auth_ldap_options", "***/none"}};
	struct config *config = must_parse(SHOP MAIN "max_client_conn = 0x80\nauth_ldap_options = ldapbindpasswd=hunter2\n");

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct wanted wanted = {.key = cases[i][0]};
		config_each_of_pgbouncer(config, find_theirs, &wanted);
		ck_assert_str_eq(wanted.value, cases[i][1]);
	}
	config_unref(config);
	struct wanted wanted = {.key = "max_client_conn"};
	config = config_parse("[listener:pg]\nlisten = 127.0.0.1:6432\n", "f.ini", NULL);
	config_each_of_pgbouncer(config, find_theirs, &wanted);
	ck_assert(!wanted.found);
	config_unref(config);
}
END_TEST

/* ---- auth_file ---- */

START_TEST(an_auth_file_is_taken_as_far_as_it_is_sound) {
	write_file("odd.txt", "; c\n\"a\" \"1\" \"more\"\nbroken\n\n  \"b\"\"x\"  \"2\"\n\"a\" \"3\"\n");
	struct config *config = must_parse(SHOP MAIN "auth_file = odd.txt\n");

	ck_assert_str_eq(config_user(config, "a")->password, "3");
	ck_assert_str_eq(config_user(config, "b\"x")->password, "2");
	ck_assert(remarks(config, "double quotes"));
	ck_assert(remarks(config, "there twice"));
	config_unref(config);
}
END_TEST

/* ---- the samples, and --convert ---- */

/* A copy of a sample with its marks replaced. */
static void copy_sample(const char *name) {
	static const struct {
		const char *mark, *value;
	} marks[] = {{"@PORT@", "6432"}, {"@PGPORT@", "5433"}, {"@DIR@", folder},
		     {"@SOCKETS@", folder}, {"@CERTS@", folder}, {"@USER@", "nobody"}, {"@ALL@", "*"}};
	char path[4300], line[1000];

	snprintf(path, sizeof path, "%s/tests/pgbouncer/%s", getenv("top_srcdir") ? getenv("top_srcdir") : home, name);
	FILE *in = fopen(path, "r"), *out = fopen(name, "w");
	ck_assert_msg(in && out, "cannot copy %s", path);
	while (fgets(line, sizeof line, in)) {
		const char *at = line;
		for (const char *mark; (mark = strchr(at, '@')); ) {
			size_t i = 0, n = sizeof marks / sizeof marks[0];
			while (i < n && strncmp(mark, marks[i].mark, strlen(marks[i].mark)) != 0)
				i++;
			fprintf(out, "%.*s%s", (int)(mark - at), at, i < n ? marks[i].value : "@");
			at = mark + (i < n ? strlen(marks[i].mark) : 1);
		}
		fputs(at, out);
	}
	fclose(in);
	ck_assert_int_eq(fclose(out), 0);
}

static void differs(void *context, const char *section, const char *key, const char *before, const char *after,
		    bool needs_restart) {
	(void)needs_restart;
	fprintf(stderr, "[%s] %s: \"%s\", converted \"%s\"\n", section, key, before, after);
	++*(int *)context;
}

static void collect(void *context, const char *section, const char *key, const char *value, const char *default_value,
		    bool reloadable) {
	(void)default_value, (void)reloadable;
	fprintf(context, "[%s] %s = %s\n", section, key, value);
}

static char *all_of(const struct config *config) {
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	config_each(config, collect, f);
	fclose(f);
	return text;
}

static struct config *must_load(const char *path) {
	struct config_errors errors;
	struct config *config = config_load(path, &errors);

	if (!config)
		print_errors(&errors);
	ck_assert_msg(config != NULL, "%s is refused", path);
	config_errors_free(&errors);
	return config;
}

static void converts_to_the_same(const char *name) {
	struct config_errors errors;
	FILE *out = fopen("converted.ini", "w");
	int differences = 0;

	ck_assert_msg(config_convert(name, out, &errors), "%s is not converted", name);
	ck_assert_int_eq(fclose(out), 0);
	struct config *direct = must_load(name), *converted = must_load("converted.ini");
	ck_assert(config_is_pgbouncers(direct));
	ck_assert(!config_is_pgbouncers(converted));
	config_diff(direct, converted, differs, &differences);
	ck_assert_msg(differences == 0, "%s: %d settings differ", name, differences);
	ck_assert_uint_eq(direct->pool_count, converted->pool_count);
	ck_assert_uint_eq(direct->listener_count, converted->listener_count);
	char *a = all_of(direct), *b = all_of(converted);
	ck_assert_str_eq(a, b);
	free(a);
	free(b);
	config_unref(direct);
	config_unref(converted);
}

static const char *const SAMPLES[] = {"01-minimal.ini",	    "02-distribution.ini", "03-web-transaction.ini",
				      "04-auth-query.ini",  "05-container.ini",	   "06-operator.ini",
				      "07-one-user.ini",    "08-hba.ini",	   "09-tenants.ini",
				      "10-many-processes.ini", "11-replicas.ini",   "12-socket-only.ini"};
enum { SAMPLE_COUNT = sizeof SAMPLES / sizeof SAMPLES[0] };

START_TEST(a_sample_loads_and_its_conversion_means_the_same) {
	copy_sample("userlist.txt");
	copy_sample("authuser.txt");
	copy_sample("06-included.ini");
	copy_sample(SAMPLES[_i]);
	converts_to_the_same(SAMPLES[_i]);
}
END_TEST

START_TEST(odd_values_survive_the_conversion) {
	write_file("odd.ini", "[databases]\n"
			      "plain = host=h user=u password=${HOME}\n"
			      "quotes = host=h user='o''c' password='a \"b\" ; c # d ''e'' $${X} ${Y}'\n"
			      "'br]ack\"et' = host=h dbname='x ; y'\n"
			      "\"tricky = ; name\" = host=h connect_query='select '' ;  '' as \"\"\"\"'\n"
			      "'#hash' = host=h connect_query='#1'\n"
			      "pad = host=h user=' lead' password='trail '\n"
			      "[users]\n'we ird' = pool_size=1\n'x]y' =\n"
			      "[pgbouncer]\nlisten_addr = 127.0.0.1\nadmin_users = a;b, \"c\"\nserver_check_query = select ';' \"x\"\n"
			      "server_reset_query = \nquery_timeout=0.0155\n");
	converts_to_the_same("odd.ini");
}
END_TEST

START_TEST(what_is_refused_is_not_converted) {
	struct config_errors errors;
	FILE *out = fopen("converted.ini", "w+");

	write_file("bad.ini", MAIN "pool_mode = x\n");
	ck_assert(!config_convert("bad.ini", out, &errors));
	ck_assert_uint_eq(errors.count, 1);
	config_errors_free(&errors);
	ck_assert(!config_convert("nowhere.ini", out, &errors));
	config_errors_free(&errors);
	write_file("ours.ini", "[forebay]\n");
	ck_assert(!config_convert("ours.ini", out, &errors));
	config_errors_free(&errors);
	ck_assert_int_eq(ftell(out), 0);
	fclose(out);
}
END_TEST

/* Whatever is in a file: it loads or it is refused with a reason. */
START_TEST(no_file_breaks_the_reader) {
	static const char PIECES[] = "[]='\" \n\r;#%$*,.:@/0-aAz\\\t";
	char text[4000];

	srand(7);
	for (int round = 0; round < 3000; round++) {
		size_t len = (size_t)snprintf(text, sizeof text, "%s[databases]\nshop = host=h user='x' pool_size=3\n[users]\nu = "
								  "pool_size=1\n[peers]\n1 = host=x\n",
					      MAIN);
		for (int i = 0; i < 1 + round % 8; i++)
			text[(size_t)rand() % len] = PIECES[(size_t)rand() % (sizeof PIECES - 1)];
		struct config_errors errors;
		struct config *config = config_parse(text, "fuzz.ini", &errors);
		ck_assert((config != NULL) == (errors.count == 0));
		config_unref(config);
		config_errors_free(&errors);
	}
}
END_TEST

static Suite *suite(void) {
	Suite *s = suite_create("pgbouncer");
	TCase *t = tcase_create("pgbouncer");

	tcase_add_checked_fixture(t, make_folder, remove_folder);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, every_setting_is_accepted_at_its_default_and_has_a_fate);
	tcase_add_test(t, the_page_for_people_names_every_setting);
	tcase_add_test(t, numbers_and_seconds_are_read_as_pgbouncer_reads_them);
	tcase_add_test(t, a_file_is_known_by_its_first_section);
	tcase_add_test(t, lines_end_and_comments_begin_as_in_pgbouncer);
	tcase_add_test(t, what_pgbouncer_refuses_is_refused_with_its_line);
	tcase_add_test(t, included_files_are_read_in_place_in_the_section_that_holds);
	tcase_add_test(t, the_last_line_of_a_name_counts_and_a_second_section_forgets);
	tcase_add_test(t, settings_of_the_process_are_translated);
	tcase_add_test(t, settings_of_the_listener_are_translated);
	tcase_add_test(t, sizes_are_those_of_users_within_what_all_can_come_to);
	tcase_add_test(t, databases_are_translated);
	tcase_add_test(t, times_of_pools_are_translated);
	tcase_add_test(t, users_are_translated);
	tcase_add_test(t, what_is_ignored_is_said_with_its_reason);
	tcase_add_test(t, its_settings_are_shown_by_their_names);
	tcase_add_test(t, an_auth_file_is_taken_as_far_as_it_is_sound);
	tcase_add_loop_test(t, a_sample_loads_and_its_conversion_means_the_same, 0, SAMPLE_COUNT);
	tcase_add_test(t, odd_values_survive_the_conversion);
	tcase_add_test(t, what_is_refused_is_not_converted);
	tcase_add_test(t, no_file_breaks_the_reader);
	suite_add_tcase(s, t);
	return s;
}

int main(void) {
	if (!mkdtemp(all_folders))
		return EXIT_FAILURE;
	SRunner *runner = srunner_create(suite());

	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	/* what tests that failed have left in it, too */
	char command[64];
	snprintf(command, sizeof command, "rm -rf %s", all_folders);
	failed += system(command) != 0;
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
