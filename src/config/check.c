/* What no key can tell by itself: settings that need or contradict each other. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "config/address.h"
#include "config/nearest.h"
#include "config/private.h"
#include "config/text.h"

/* As many as pool/pool.h knows. */
enum { POOL_HOSTS_MAX = 16 };

struct check {
	const struct config *config;
	bool complete; /* nothing was left out of it because of an error */
	struct error_sink *errors;
	const struct section *section; /* the one that is looked at */
	struct arena scratch;
	struct name_index addresses; /* "host:port" and ":port" to the place that listens there */
};

static void fail(struct check *check, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* At the setting, or at its section where it is not given. */
static void fail(struct check *check, const char *key, const char *fmt, ...) {
	const struct section *section = check->section;
	const struct setting *setting = section_setting(section, key);
	char problem[400], label[80];
	va_list args;

	va_start(args, fmt);
	vsnprintf(problem, sizeof(problem), fmt, args);
	va_end(args);
	text_printable(section->label, label, sizeof(label));
	error_sink_add(check->errors, setting->file ? setting->file : section->file,
		       setting->file ? setting->line : section->line, "[%s] %s: %s", label, key, problem);
}

static bool is_bad(const struct check *check, const char *key) {
	return section_setting(check->section, key)->state == SETTING_BAD;
}

/* Has a value, or has one that was reported as wrong already. */
static bool is_set(const struct check *check, const char *key) {
	return is_bad(check, key) || section_setting(check->section, key)->shown[0];
}

static void need(struct check *check, const char *cause, const char *needed, const char *why) {
	if (!is_set(check, needed))
		fail(check, cause, "%s needs %s as well", why, needed);
}

static void check_required(struct check *check) {
	size_t count;
	const struct config_key *keys = schema_keys(check->section->kind, &count);

	for (size_t i = 0; i < count; i++)
		if (keys[i].flags & KEY_REQUIRED && !is_set(check, keys[i].name))
			fail(check, keys[i].name, "it must be set; expected for example %s = %s",
			     keys[i].name, keys[i].example);
}

/* A secret and the file to take it from are two ways to say one thing. */
static void check_one_secret(struct check *check, const char *secret, const char *file) {
	if (section_setting(check->section, secret)->filled && section_setting(check->section, file)->filled)
		fail(check, file, "%s is set too; expected one of the two", secret);
}

static void check_tls(struct check *check, const struct config_tls *tls, bool listens) {
	bool verifies = tls->mode >= CONFIG_TLS_VERIFY_CA && !is_bad(check, "tls_mode");
	const char *mode = section_setting(check->section, "tls_mode")->shown;
	char why[64];

	snprintf(why, sizeof(why), "tls_mode = %s", mode);
	if (listens && tls->mode >= CONFIG_TLS_REQUIRE && !is_bad(check, "tls_mode")) {
		need(check, "tls_mode", "tls_cert_file", why);
		need(check, "tls_mode", "tls_key_file", why);
	} else if (is_set(check, "tls_cert_file") || is_set(check, "tls_key_file")) {
		need(check, "tls_cert_file", "tls_key_file", "a certificate");
		need(check, "tls_key_file", "tls_cert_file", "a key");
	}
	if (verifies)
		need(check, "tls_mode", "tls_ca_file", why);
}

/* ---- listeners ---- */

/* Remembers one address. Reports where another listens on it. */
static void claim_address(struct check *check, const char *key, const char *text) {
	struct address address;
	char full[300], port[32], any[32], place[120];

	if (address_parse(text, ADDRESS_TO_LISTEN, &address))
		return;
	if (address.host[0] == '/') {
		snprintf(full, sizeof(full), "%s", address.host);
		snprintf(any, sizeof(any), "/");
	} else {
		for (char *p = address.host; *p; p++)
			*p = (char)(*p >= 'A' && *p <= 'Z' ? *p | 0x20 : *p);
		snprintf(full, sizeof(full), "%s:%d", address.host, address.port);
		snprintf(any, sizeof(any), "*:%d", address.port);
	}
	snprintf(port, sizeof(port), ":%d", address.port);

	const char *taken = name_index_find(&check->addresses, full);
	if (!taken)
		taken = name_index_find(&check->addresses, strcmp(full, any) == 0 ? port : any);
	if (taken) {
		fail(check, key, "%.120s is listened on by %s already", text, taken);
		return;
	}
	char label[80];
	text_printable(check->section->label, label, sizeof(label));
	snprintf(place, sizeof(place), "[%s] %s", label, key);
	char *full_copy = arena_strdup(&check->scratch, full),
	     *port_copy = arena_strdup(&check->scratch, port);
	char *place_copy = arena_strdup(&check->scratch, place);
	bool first_of_port = address.port && !name_index_find(&check->addresses, port);
	if (!full_copy || !port_copy || !place_copy ||
	    !name_index_add(&check->addresses, &check->scratch, full_copy, place_copy) ||
	    (first_of_port && !name_index_add(&check->addresses, &check->scratch, port_copy, place_copy)))
		fail(check, key, "out of memory");
}

/* The pool of that name, or one that [pool:*] makes. */
static void check_pool_name(struct check *check, const char *key, const char *name,
			    const enum protocol_id *protocol) {
	const struct pool_config *pool = config_pool(check->config, name);
	struct nearest search = {.wanted = name};
	char shown[80];

	if (!pool)
		pool = config_pool(check->config, "*");
	if (pool && protocol && pool->protocol != *protocol)
		fail(check, key, "the pool %s speaks another protocol than this listener",
		     text_printable(name, shown, sizeof(shown)));
	if (pool || !check->complete)
		return;
	for (size_t i = 0; i < check->config->pool_count; i++)
		nearest_offer(&search, check->config->pools[i].name);
	char best[80];
	fail(check, key, "there is no [pool:%s]%s%s%s", text_printable(name, shown, sizeof(shown)),
	     search.best ? "; did you mean " : "",
	     search.best ? text_printable(search.best, best, sizeof(best)) : "", search.best ? "?" : "");
}

/* What only listeners of one protocol know. */
static void check_auth_protocol(struct check *check, const struct listener_config *listener) {
	const char *shown = section_setting(check->section, "auth")->shown;
	bool mysql = listener->protocol == PROTOCOL_MYSQL;

	if (listener->auth == AUTH_TRUST || listener->auth == AUTH_PASSWORD)
		return;
	if (mysql && listener->auth < AUTH_MYSQL_NATIVE_PASSWORD)
		fail(check, "auth",
		     "auth = %s is PostgreSQL's; expected trust, password, mysql_native_password, caching_sha2_password or "
		     "mysql_clear_password",
		     shown);
	if (!mysql && listener->auth >= AUTH_MYSQL_NATIVE_PASSWORD)
		fail(check, "auth", "auth = %s is MySQL's; expected trust, password, md5, scram-sha-256, cert or hba", shown);
}

static void check_listener(struct check *check, const struct listener_config *listener) {
	bool auth_known = !is_bad(check, "auth");
	const char *mode = listener->unix_socket_mode;

	if (!is_bad(check, "unix_socket_mode") &&
	    (!mode || !*mode || strlen(mode) > 4 || mode[strspn(mode, "01234567")] || (strlen(mode) == 4 && *mode != '0')))
		fail(check, "unix_socket_mode", "expected octal digits such as 0770");

	check_tls(check, &listener->tls, true);
	if (auth_known && !is_bad(check, "protocol"))
		check_auth_protocol(check, listener);
	if (auth_known && listener->auth == AUTH_MYSQL_CLEAR_PASSWORD && listener->tls.mode < CONFIG_TLS_REQUIRE &&
	    !is_bad(check, "tls_mode"))
		fail(check, "auth", "auth = mysql_clear_password needs tls_mode = require or a stricter one: passwords go over "
				    "the wire as they are");
	if (auth_known && listener->auth == AUTH_HBA)
		need(check, "auth", "hba_file", "auth = hba");
	if (auth_known && listener->auth == AUTH_CERT && listener->tls.mode < CONFIG_TLS_VERIFY_CA &&
	    !is_bad(check, "tls_mode"))
		fail(check, "auth", "auth = cert needs tls_mode = verify-ca or verify-full");
	if (listener->user_map)
		need(check, "user_map", "ident_file", "a user map");
	if (listener->default_pool)
		check_pool_name(check, "default_pool", listener->default_pool,
				is_bad(check, "protocol") ? NULL : &listener->protocol);
	for (size_t i = 0; i < listener->listen_count; i++)
		claim_address(check, "listen", listener->listen[i]);
}

/* ---- pools and users ---- */

static void check_hosts(struct check *check, const struct pool_config *pool) {
	struct name_index seen = {0};
	struct arena arena = {0};

	for (size_t i = 0; i < pool->host_count; i++) {
		const struct config_address *host = &pool->hosts[i];
		char *name = arena_printf(&arena, "%s:%d", host->host, host->port);
		if (name && name_index_find(&seen, name))
			fail(check, "hosts", "%.120s is listed twice", host->text);
		else if (!name || !name_index_add(&seen, &arena, name, name))
			fail(check, "hosts", "out of memory");
	}
	name_index_free(&seen);
	arena_free(&arena);
}

static void check_pool(struct check *check, const struct pool_config *pool) {
	static const char *const OF_AUTH_USER[] = {"auth_query", "auth_password", "auth_password_file",
						   "auth_database"};
	static const char *const OF_MONITOR_USER[] = {"monitor_password", "monitor_password_file",
						      "monitor_database"};

	check_tls(check, &pool->tls, false);
	check_hosts(check, pool);
	if (pool->min_idle > pool->max_size && !is_bad(check, "min_idle") && !is_bad(check, "max_size"))
		fail(check, "min_idle", "%u is more than max_size, which is %u", pool->min_idle,
		     pool->max_size);
	check_one_secret(check, "password", "password_file");
	check_one_secret(check, "auth_password", "auth_password_file");
	check_one_secret(check, "monitor_password", "monitor_password_file");
	if (pool->server_public_key_file && pool->get_server_public_key)
		fail(check, "get_server_public_key", "server_public_key_file is set too; expected one of the two");
	for (size_t i = 0; i < sizeof(OF_AUTH_USER) / sizeof(OF_AUTH_USER[0]); i++)
		if (section_setting(check->section, OF_AUTH_USER[i])->state == SETTING_GIVEN &&
		    is_set(check, OF_AUTH_USER[i]))
			need(check, OF_AUTH_USER[i], "auth_user", OF_AUTH_USER[i]);
	for (size_t i = 0; i < sizeof(OF_MONITOR_USER) / sizeof(OF_MONITOR_USER[0]); i++)
		if (section_setting(check->section, OF_MONITOR_USER[i])->state == SETTING_GIVEN &&
		    is_set(check, OF_MONITOR_USER[i]))
			need(check, OF_MONITOR_USER[i], "monitor_user", OF_MONITOR_USER[i]);
	if (pool->host_count > POOL_HOSTS_MAX)
		fail(check, "hosts", "%zu hosts are listed; expected at most %d", pool->host_count, POOL_HOSTS_MAX);
	if (pool->protocol == PROTOCOL_POSTGRESQL &&
	    (strcmp(pool->name, "forebay") == 0 || strcmp(pool->name, "pgbouncer") == 0))
		error_sink_add(check->errors, check->section->file, check->section->line,
			       "[%s]: nobody could reach it: the database of this name is the console; "
			       "expected another name (and the name of the database as database = %s)",
			       check->section->label, pool->name);
}

/* A socket's path is short; "@name" is one of the abstract namespace. */
static void check_log_socket(struct check *check) {
	enum { PATH_LONGEST = 107 };
	const char *path = check->config->log_socket;

	if (!path || !*path)
		return;
	if (*path != '/' && *path != '@')
		fail(check, "log_socket", "expected an absolute path, or @name");
	else if (strlen(path) > PATH_LONGEST)
		fail(check, "log_socket", "it is %zu bytes long; expected at most %d, as many as a socket's path may have",
		     strlen(path), PATH_LONGEST);
}

/* The secret may have come from either key. */
static void check_metrics(struct check *check) {
	const struct config *config = check->config;

	check_one_secret(check, "metrics_password", "metrics_password_file");
	if (is_set(check, "metrics_user") && !is_set(check, "metrics_password") && !is_set(check, "metrics_password_file"))
		fail(check, "metrics_user", "a user needs metrics_password as well");
	if (!is_set(check, "metrics_user") && (is_set(check, "metrics_password") || is_set(check, "metrics_password_file")))
		fail(check, is_set(check, "metrics_password") ? "metrics_password" : "metrics_password_file",
		     "a password needs metrics_user as well");
	if (is_set(check, "metrics_tls_cert_file") || is_set(check, "metrics_tls_key_file")) {
		need(check, "metrics_tls_cert_file", "metrics_tls_key_file", "a certificate");
		need(check, "metrics_tls_key_file", "metrics_tls_cert_file", "a key");
	}
	for (size_t i = 0; i < config->metrics_listen_count; i++)
		claim_address(check, "metrics_listen", config->metrics_listen[i]);
}

static void check_user(struct check *check, const struct user_config *user) {
	check_one_secret(check, "password", "password_file");
	if (user->pool)
		check_pool_name(check, "pool", user->pool, NULL);
}

void config_check(const struct config *config, bool complete, struct error_sink *errors) {
	struct check check = {.config = config, .complete = complete, .errors = errors};

	for (struct section *s = config_first_section(config); s; s = s->next) {
		check.section = s;
		check_required(&check);
		switch (s->kind) {
		case SECTION_FOREBAY:
			check_metrics(&check);
			check_log_socket(&check);
			break;
		case SECTION_LISTENER:
			check_listener(&check, s->target);
			break;
		case SECTION_POOL:
			check_pool(&check, s->target);
			break;
		case SECTION_USER:
			check_user(&check, s->target);
			break;
		}
	}
	if (config->listener_count == 0 && complete)
		error_sink_add(errors, config->file, 0,
			       "there is no listener; expected a section [listener:NAME] with listen = "
			       "127.0.0.1:6432");
	name_index_free(&check.addresses);
	arena_free(&check.scratch);
}
