#include "mariadb.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
	char daemon[512], installer[512];
	const char *options[40];
	size_t option_count;
	int port;
	pid_t pid;
} maria;

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *fmt, ...) {
	va_list ap;

	va_start(ap, fmt);
	fputs("mariadb: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	exit(harness_end(1));
}

int maria_port(void) {
	return maria.port;
}

const char *maria_socket(void) {
	return harness_path("maria/s");
}

const char *maria_log(void) {
	return harness_path("mariadb.log");
}

/* ---- the server ---- */

static void find_program(const char *name, char *out, size_t room) {
	static const char *const folders[] = {"/usr/sbin", "/usr/bin", "/usr/libexec", "/usr/local/bin"};
	const char *env = getenv("MYSQL_BIN");

	if (env) {
		snprintf(out, room, "%s/%s", env, name);
		return;
	}
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
		snprintf(out, room, "%s/%s", folders[i], name);
		if (access(out, X_OK) == 0)
			return;
	}
	die("%s is not installed (Debian: mariadb-server-core, mariadb-client-core); say where by MYSQL_BIN", name);
}

static void add_option(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void add_option(const char *fmt, ...) {
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0 || maria.option_count + 1 >= sizeof(maria.options) / sizeof(maria.options[0]))
		die("too many options");
	va_end(ap);
	maria.options[maria.option_count++] = text;
}

static void copy_key(const char *name) {
	char *text = harness_read(harness_path("%s", name));

	harness_write_as_postgres(harness_path("maria/%s", name), text);
	free(text);
}

/* Small and quick: nothing in it outlives the test. */
static void choose_options(const char *const *further) {
	add_option("%s", maria.daemon);
	add_option("--no-defaults");
	add_option("--datadir=%s", harness_path("maria/data"));
	add_option("--socket=%s", maria_socket());
	add_option("--tmpdir=%s", harness_path("maria/tmp"));
	add_option("--pid-file=%s", harness_path("maria/pid"));
	add_option("--port=%d", maria.port);
	add_option("--bind-address=127.0.0.1");
	add_option("--skip-name-resolve");
	add_option("--performance-schema=OFF");
	add_option("--max-connections=150");
	add_option("--innodb-buffer-pool-size=8M");
	add_option("--innodb-log-file-size=4M");
	add_option("--innodb-data-file-path=ibdata1:5M:autoextend");
	add_option("--innodb-flush-log-at-trx-commit=0");
	add_option("--innodb-flush-method=nosync");
	add_option("--innodb-fast-shutdown=2");
	add_option("--key-buffer-size=1M");
	add_option("--aria-pagecache-buffer-size=1M");
	add_option("--ssl-cert=%s", harness_path("maria/server.crt"));
	add_option("--ssl-key=%s", harness_path("maria/server.key"));
	add_option("--ssl-ca=%s", harness_path("maria/ca.crt"));
	for (size_t i = 0; further && further[i]; i++)
		add_option("%s", further[i]);
	maria.options[maria.option_count] = NULL;
}

static MYSQL *try_root(void) {
	MYSQL *my = mysql_init(NULL);

	if (!my)
		return NULL;
	if (mysql_real_connect(my, NULL, "root", "", NULL, 0, maria_socket(), 0))
		return my;
	mysql_close(my);
	return NULL;
}

void maria_start(void) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	MYSQL *my;
	int status;

	maria.pid = harness_spawn_as_postgres(maria.options, maria_log());
	while (!(my = try_root())) {
		if (waitpid(maria.pid, &status, WNOHANG) > 0 || harness_now_ms() > deadline) {
			char *log = harness_read(maria_log());
			ck_abort_msg("MariaDB does not start:\n%s", log);
		}
		harness_pause_ms(10);
	}
	mysql_close(my);
}

/* Also of one that is not this process's child, or not any more. */
static bool has_ended(pid_t pid) {
	char link[64], exe[16];

	waitpid(pid, NULL, WNOHANG);
	snprintf(link, sizeof(link), "/proc/%d/exe", (int)pid);
	return readlink(link, exe, sizeof(exe)) < 0;
}

void maria_stop(bool crash) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	char *text;
	pid_t pid;

	text = harness_read(harness_path("maria/pid"));
	pid = (pid_t)atoi(text);
	free(text);
	ck_assert_int_gt(pid, 1);
	kill(pid, crash ? SIGKILL : SIGTERM);
	while (!has_ended(pid)) {
		ck_assert_msg(harness_now_ms() < deadline, "MariaDB does not stop");
		harness_pause_ms(5);
	}
}

static void create_users(void) {
	static const char *const statements[] = {
		"create database app",
		"create database other",
		"create user app identified by 'app-secret'",
		"create user second identified by 'second-secret'",
		"create user trusted",
		"create user tlsuser identified by 'tlsuser-secret' require ssl",
		"create user monitor identified by 'monitor-secret'",
		"create user authuser identified by 'authuser-secret'",
		"grant select on mysql.* to authuser",
		"create user limited identified by 'limited-secret' with max_user_connections 2",
		"grant all on app.* to app, second, trusted, tlsuser, limited",
		"grant all on other.* to app, second, trusted, tlsuser, limited",
		"grant replication client, replica monitor, slave monitor on *.* to monitor",
	};
	MYSQL *my = try_root();

	for (size_t i = 0; i < sizeof(statements) / sizeof(statements[0]); i++)
		if (!my || mysql_query(my, statements[i]) != 0)
			die("%s: %s", statements[i], my ? mysql_error(my) : "no connection");
	mysql_close(my);
}

void maria_begin(const char *const *options) {
	char datadir[300], tmpdir[300];

	if (!*harness_dir())
		harness_begin_bare();
	find_program("mariadbd", maria.daemon, sizeof(maria.daemon));
	find_program("mariadb-install-db", maria.installer, sizeof(maria.installer));
	harness_mkdir_as_postgres(harness_path("maria"));
	copy_key("server.crt");
	copy_key("server.key");
	copy_key("ca.crt");
	harness_mkdir_as_postgres(harness_path("maria/tmp"));
	snprintf(datadir, sizeof(datadir), "--datadir=%s", harness_path("maria/data"));
	snprintf(tmpdir, sizeof(tmpdir), "--tmpdir=%s", harness_path("maria/tmp"));
	if (!harness_command_as_postgres((const char *const[]){
		    maria.installer, "--no-defaults", datadir, tmpdir, "--skip-test-db", "--auth-root-authentication-method=normal",
		    "--innodb-buffer-pool-size=8M", "--innodb-log-file-size=4M", "--innodb-flush-log-at-trx-commit=0",
		    "--innodb-data-file-path=ibdata1:5M:autoextend", "--innodb-flush-method=nosync", NULL}))
		die("mariadb-install-db failed:\n%s", harness_read(harness_path("commands.log")));
	maria.port = harness_free_port();
	choose_options(options);
	maria_start();
	create_users();
}

/* ---- Forebay ---- */

struct forebay_setup maria_setup(const struct forebay_setup *setup) {
	struct forebay_setup with = setup ? *setup : (struct forebay_setup){0};

	with.mysql_port = maria.port;
	return with;
}

struct forebay *maria_forebay(const struct forebay_setup *setup) {
	struct forebay_setup with = maria_setup(setup);

	return forebay_start(&with);
}

/* ---- its client library ---- */

MYSQL *maria_try(const struct forebay *forebay, const struct maria_login *login) {
	static const struct maria_login plain;
	const struct maria_login *l = login ? login : &plain;
	const char *user = l->user ? l->user : "app";
	char password[100], path[300];
	unsigned timeout = HARNESS_DEADLINE_MS / 1000;
	my_bool yes = 1;
	MYSQL *my = mysql_init(NULL);

	ck_assert_ptr_nonnull(my);
	snprintf(password, sizeof(password), "%s-secret", user);
	snprintf(path, sizeof(path), "%s/.s.PGSQL.%d", forebay ? forebay->socket_dir : "", forebay ? forebay->port : 0);
	mysql_options(my, MYSQL_OPT_CONNECT_TIMEOUT, &timeout);
	mysql_options(my, MYSQL_OPT_READ_TIMEOUT, &timeout);
	if (l->plugin)
		mysql_options(my, MYSQL_DEFAULT_AUTH, l->plugin);
	if (l->program)
		mysql_options4(my, MYSQL_OPT_CONNECT_ATTR_ADD, "program_name", l->program);
	if (l->tls) {
		mysql_options(my, MYSQL_OPT_SSL_ENFORCE, &yes);
		mysql_options(my, MYSQL_OPT_SSL_CA, harness_path("ca.crt"));
		mysql_options(my, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &yes);
	}
	mysql_real_connect(my, l->unix_socket ? NULL : "127.0.0.1", user, l->password ? l->password : password,
			   !l->database ? "app" : *l->database ? l->database : NULL,
			   (unsigned)(l->port ? l->port : forebay->port), l->unix_socket ? path : NULL, l->flags);
	return my;
}

MYSQL *maria_connect(const struct forebay *forebay, const struct maria_login *login) {
	MYSQL *my = maria_try(forebay, login);

	ck_assert_msg(mysql_errno(my) == 0, "%u %s", mysql_errno(my), mysql_error(my));
	return my;
}

MYSQL *maria_control(void) {
	MYSQL *my = try_root();

	ck_assert_msg(my, "MariaDB does not let us in");
	return my;
}

void maria_expect_refused(MYSQL *my, unsigned code, const char *words) {
	ck_assert_msg(mysql_errno(my) == code, "%u expected, but it is %u: %s", code, mysql_errno(my), mysql_error(my));
	ck_assert_msg(strstr(mysql_error(my), words), "no \"%s\" in \"%s\"", words, mysql_error(my));
	mysql_close(my);
}

/* All results of it. NULL: it failed. */
static char *run(MYSQL *my, const char *sql) {
	char *value = NULL;
	int more = mysql_query(my, sql);

	while (more == 0) {
		MYSQL_RES *rows = mysql_store_result(my);
		if (!rows && mysql_errno(my) != 0)
			break;
		MYSQL_ROW row = rows ? mysql_fetch_row(rows) : NULL;
		if (!value)
			value = strdup(row ? row[0] ? row[0] : "NULL" : "");
		mysql_free_result(rows);
		more = mysql_next_result(my);
	}
	if (more > 0 || mysql_errno(my) != 0) {
		free(value);
		return NULL;
	}
	return value;
}

static char *value_of(MYSQL *my, const char *fmt, va_list ap) {
	char *sql = NULL, *value;

	ck_assert_int_gt(vasprintf(&sql, fmt, ap), 0);
	value = run(my, sql);
	ck_assert_msg(value, "%.300s: %u %s", sql, mysql_errno(my), mysql_error(my));
	free(sql);
	return value;
}

char *maria_value(MYSQL *my, const char *fmt, ...) {
	va_list ap;
	char *value;

	va_start(ap, fmt);
	value = value_of(my, fmt, ap);
	va_end(ap);
	return value;
}

long maria_long(MYSQL *my, const char *fmt, ...) {
	va_list ap;
	char *value;
	long number;

	va_start(ap, fmt);
	value = value_of(my, fmt, ap);
	va_end(ap);
	number = atol(value);
	free(value);
	return number;
}

void maria_execute(MYSQL *my, const char *fmt, ...) {
	va_list ap;

	va_start(ap, fmt);
	free(value_of(my, fmt, ap));
	va_end(ap);
}

void maria_expect(MYSQL *my, const char *sql, const char *expected) {
	char *value = maria_value(my, "%s", sql);

	ck_assert_msg(strcmp(value, expected) == 0, "%s: \"%s\" instead of \"%s\"", sql, value, expected);
	free(value);
}

void maria_expect_error(MYSQL *my, const char *sql, unsigned code) {
	char *value = run(my, sql);

	ck_assert_msg(!value, "%s: no error, but \"%s\"", sql, value);
	ck_assert_msg(mysql_errno(my) == code, "%s: %u expected, but it is %u %s", sql, code, mysql_errno(my),
		      mysql_error(my));
}

void maria_await(MYSQL *my, const char *sql, const char *expected) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	for (;;) {
		char *value = maria_value(my, "%s", sql);
		bool same = strcmp(value, expected) == 0;
		ck_assert_msg(same || harness_now_ms() < deadline, "%s: \"%s\", never \"%s\"", sql, value, expected);
		free(value);
		if (same)
			return;
		harness_pause_ms(10);
	}
}

long maria_connections(MYSQL *control, const char *user) {
	return maria_long(control, "select count(*) from information_schema.processlist where user = '%s'",
			  user ? user : "app");
}
