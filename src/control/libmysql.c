#include "control/libmysql.h"

#include <errmsg.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "config/config.h"
#include "session/backend.h"

/* Server's errors, of those that mean something here. */
enum { ER_SHUTDOWN = 1053, ER_SYNTAX = 1064, SERVER_ERRORS = 1000, LIBRARY_ERRORS = 2000, LIBRARY_ERRORS_END = 3000 };

static bool verifies(const struct config_tls *tls) {
	return tls->mode >= CONFIG_TLS_VERIFY_CA;
}

static void set_tls(MYSQL *mysql, const struct config_tls *tls) {
	bool system = tls->ca_file && strcmp(tls->ca_file, "system") == 0;

	if (tls->ca_file && !system)
		mysql_options(mysql, MYSQL_OPT_SSL_CA, tls->ca_file);
	if (tls->cert_file)
		mysql_options(mysql, MYSQL_OPT_SSL_CERT, tls->cert_file);
	if (tls->key_file)
		mysql_options(mysql, MYSQL_OPT_SSL_KEY, tls->key_file);
#ifdef MARIADB_PACKAGE_VERSION
	my_bool enforce = tls->mode >= CONFIG_TLS_REQUIRE, verify = verifies(tls);
	if (tls->mode != CONFIG_TLS_DISABLE)
		mysql_options(mysql, MYSQL_OPT_SSL_ENFORCE, &enforce);
	mysql_options(mysql, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &verify);
#else
	static const unsigned modes[] = {
		[CONFIG_TLS_DISABLE] = SSL_MODE_DISABLED,     [CONFIG_TLS_ALLOW] = SSL_MODE_PREFERRED,
		[CONFIG_TLS_PREFER] = SSL_MODE_PREFERRED,     [CONFIG_TLS_REQUIRE] = SSL_MODE_REQUIRED,
		[CONFIG_TLS_VERIFY_CA] = SSL_MODE_VERIFY_CA,  [CONFIG_TLS_VERIFY_FULL] = SSL_MODE_VERIFY_IDENTITY,
	};
	mysql_options(mysql, MYSQL_OPT_SSL_MODE, &modes[tls->mode]);
#endif
}

static unsigned seconds(uint64_t ns) {
	uint64_t s = (ns + NS_PER_S - 1) / NS_PER_S;

	return s > 3600 ? 3600 : s < 1 ? 1 : (unsigned)s;
}

/* Whether whoever answers may have the password: he is known, or the configuration answers for what is in between. */
static bool is_trusted(const struct pool_config *pool, bool local) {
	return local || verifies(&pool->tls) || pool->get_server_public_key;
}

/*
 * The ways to log in that show the password to nobody but the right one. The library sends it as it is under TLS that proves
 * nothing, and cannot be told to try the fast path of caching_sha2_password alone. Nor is it told of server_public_key_file: where
 * it cannot read that at the time, for whatever reason, it asks the server for a key and hides the password under that one.
 */
static void set_plugins(MYSQL *mysql, const struct mq_target *target, bool local) {
#if HAVE_DECL_MARIADB_OPT_RESTRICTED_AUTH
	if (!local && !verifies(&target->pool->tls) && target->password)
		mysql_options(mysql, MARIADB_OPT_RESTRICTED_AUTH,
			      target->pool->get_server_public_key ? "mysql_native_password,client_ed25519,caching_sha2_password"
								  : "mysql_native_password,client_ed25519");
#elif !defined MARIADB_PACKAGE_VERSION
	bool takes_key = target->pool->get_server_public_key;
	mysql_options(mysql, MYSQL_OPT_GET_SERVER_PUBLIC_KEY, &takes_key);
#endif
	(void)mysql, (void)target, (void)local;
}

/*
 * A library that cannot be told which ways to take goes the one that the server asks for: MySQL's own sends the password as it is
 * under TLS that proves nothing (caching_sha2_password, sha256_password), and without TLS under the key that it is sent
 * (sha256_password, whatever MYSQL_OPT_GET_SERVER_PUBLIC_KEY says). So it is not given the password.
 */
static bool may_have_password(const struct mq_target *target, bool local, struct error *error) {
	if (HAVE_DECL_MARIADB_OPT_RESTRICTED_AUTH || !target->password || !*target->password || is_trusted(target->pool, local))
		return true;
	return error_set(error, CR_SSL_CONNECTION_ERROR,
			 "%s: the password of user \"%.64s\" is not sent: nothing proves that this is the right server, and the client "
			 "library of this build does not keep a password to itself there; set tls_mode = verify-full or, where nobody "
			 "can be in between, get_server_public_key = true",
			 target->pool->hosts[target->host].text, target->user ? target->user : "");
}

static void set_options(MYSQL *mysql, const struct mq_target *target, bool local) {
	unsigned timeout_s = seconds(target->timeout_ns), no = 0;

	mysql_options(mysql, MYSQL_OPT_CONNECT_TIMEOUT, &timeout_s);
	mysql_options(mysql, MYSQL_OPT_READ_TIMEOUT, &timeout_s);
	mysql_options(mysql, MYSQL_OPT_WRITE_TIMEOUT, &timeout_s);
	mysql_options(mysql, MYSQL_OPT_LOCAL_INFILE, &no); /* a server could ask for any file */
	mysql_options(mysql, MYSQL_SET_CHARSET_NAME, "utf8mb4");
	mysql_options4(mysql, MYSQL_OPT_CONNECT_ATTR_ADD, "program_name", target->program ? target->program : "forebay");
	set_plugins(mysql, target, local);
	set_tls(mysql, &target->pool->tls);
}

enum mq_outcome mq_outcome(MYSQL *mysql, uint64_t began_ns, uint64_t timeout_ns) {
	unsigned code = mysql_errno(mysql);
	bool late = clock_monotonic_ns() - began_ns >= (uint64_t)seconds(timeout_ns) * NS_PER_S * 9 / 10;

	if (code == 0)
		return MQ_WELL;
	if (code == ER_SHUTDOWN)
		return MQ_NOT_READY;
	if ((code >= SERVER_ERRORS && code < LIBRARY_ERRORS) || code >= LIBRARY_ERRORS_END)
		return MQ_REJECTED;
	switch (code) {
	case CR_CONNECTION_ERROR:
	case CR_CONN_HOST_ERROR:
	case CR_SERVER_LOST:
	case CR_SERVER_GONE_ERROR:
		return late ? MQ_SILENT : MQ_UNREACHED;
	case CR_UNKNOWN_HOST:
	case CR_SOCKET_CREATE_ERROR:
	case CR_OUT_OF_MEMORY:
		return MQ_UNTRIED;
	default:
		return MQ_UNWILLING;
	}
}

MYSQL *mq_connect(const struct mq_target *target, enum mq_outcome *outcome, struct error *error) {
	const struct config_address *host = &target->pool->hosts[target->host];
	bool local = host->host[0] == '/';
	uint64_t began_ns = clock_monotonic_ns();
	MYSQL *mysql = mysql_init(NULL);

	*outcome = MQ_UNTRIED;
	if (!mysql) {
		error_set(error, ENOMEM, "out of memory");
		return NULL;
	}
	if (!may_have_password(target, local, error)) {
		*outcome = MQ_UNWILLING;
		mysql_close(mysql);
		return NULL;
	}
	set_options(mysql, target, local);
	if (mysql_real_connect(mysql, local ? NULL : host->host, target->user, target->password, target->database,
			       (unsigned)host->port, local ? host->host : NULL, 0)) {
		*outcome = MQ_WELL;
		return mysql;
	}
	*outcome = mq_outcome(mysql, began_ns, target->timeout_ns);
	error_set(error, (int)mysql_errno(mysql), "%s: %s", host->text, mysql_error(mysql));
	mysql_close(mysql);
	return NULL;
}

/* ---- as whom ---- */

/* Not a stored secret, which the library cannot log in with. */
static bool is_plaintext(const char *password) {
	bool native = password[0] == '*' && strlen(password) == 41;

	return !native && strncmp(password, "$A$", 3) != 0 && strncmp(password, "0x244124", 8) != 0 &&
	       !probe_is_stored_secret(password);
}

static enum probe_login choose(const struct pool_config *pool, bool monitor, struct mq_target *target) {
	enum probe_login login = probe_choose(pool, is_plaintext, monitor, &target->user, &target->password);

	switch (login) {
	case PROBE_POOL_USER:
	case PROBE_NO_PASSWORD:
		target->database = pool->database;
		break;
	case PROBE_AUTH_USER:
		target->database = pool->auth_database;
		break;
	case PROBE_MONITOR_USER: /* what is asked is of the whole server */
	case PROBE_NOBODY:
		target->database = NULL;
		break;
	}
	return login;
}

enum probe_login mq_as_application(const struct pool_config *pool, struct mq_target *target) {
	return choose(pool, false, target);
}

enum probe_login mq_as_monitor(const struct pool_config *pool, struct mq_target *target) {
	enum probe_login login = choose(pool, true, target);

	if (pool->monitor_database)
		target->database = pool->monitor_database;
	return login;
}

/* ---- what a server is ---- */

/* The rows of a query; NULL: it failed. */
static MYSQL_RES *ask(MYSQL *mysql, const char *sql) {
	return mysql_query(mysql, sql) == 0 ? mysql_store_result(mysql) : NULL;
}

static int64_t number_of(const char *text) {
	return text ? strtoll(text, NULL, 10) : -1;
}

/* How far a replica is behind; < 0: it is none, or does not tell us. False: the connection is of no use any more. */
static bool learn_lag(MYSQL *mysql, struct backend_facts *facts) {
	facts->lag_s = -1;
	MYSQL_RES *rows = ask(mysql, "SHOW REPLICA STATUS");
	if (!rows && mysql_errno(mysql) == ER_SYNTAX) /* MySQL before 8.0.22 */
		rows = ask(mysql, "SHOW SLAVE STATUS");
	unsigned code = mysql_errno(mysql);
	if (!rows) /* no right to ask is no failure */
		return code < LIBRARY_ERRORS || code >= LIBRARY_ERRORS_END;
	MYSQL_ROW row = mysql_fetch_row(rows);
	const MYSQL_FIELD *fields = mysql_fetch_fields(rows);
	for (unsigned i = 0; row && i < mysql_num_fields(rows); i++)
		if (row[i] && (strcasecmp(fields[i].name, "Seconds_Behind_Source") == 0 ||
			       strcasecmp(fields[i].name, "Seconds_Behind_Master") == 0))
			facts->lag_s = (double)number_of(row[i]);
	mysql_free_result(rows);
	return true;
}

static bool learn_connections(MYSQL *mysql, struct backend_facts *facts) {
	MYSQL_RES *rows = ask(mysql, "SHOW GLOBAL STATUS LIKE 'Threads_connected'");

	if (!rows)
		return false;
	MYSQL_ROW row = mysql_fetch_row(rows);
	if (row && mysql_num_fields(rows) == 2)
		facts->in_use = number_of(row[1]);
	mysql_free_result(rows);
	return true;
}

static bool learn_server(MYSQL *mysql, struct backend_facts *facts) {
	MYSQL_RES *rows = ask(mysql, "SELECT VERSION(), @@global.read_only, @@global.max_connections");

	if (!rows)
		return false;
	MYSQL_ROW row = mysql_fetch_row(rows);
	bool ok = row && mysql_num_fields(rows) == 3 && row[0] && row[1] && row[2];
	if (ok) {
		/* "10.11.19-MariaDB-0+deb12u1": without the package's own */
		const char *end = strstr(row[0], "-MariaDB");
		size_t len = end ? (size_t)(end - row[0]) + strlen("-MariaDB") : strlen(row[0]);
		snprintf(facts->version, sizeof facts->version, "%.*s", (int)(len < 47 ? len : 47), row[0]);
		facts->role = *row[1] == '0' || strcasecmp(row[1], "off") == 0 ? POOL_ROLE_PRIMARY : POOL_ROLE_STANDBY;
		facts->max_connections = number_of(row[2]);
	}
	mysql_free_result(rows);
	return ok;
}

bool mq_probe(MYSQL *mysql, struct backend_facts *facts, struct error *error) {
	if (learn_server(mysql, facts) && learn_connections(mysql, facts) && learn_lag(mysql, facts))
		return true;
	unsigned code = mysql_errno(mysql);
	return error_set(error, (int)code, "%s", code ? mysql_error(mysql) : "the server's answer to a probe makes no sense");
}
