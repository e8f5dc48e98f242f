/*
 * The snapshot: one validated configuration, immutable, with an atomic reference count. Each key is declared
 * once, in config/schema.c; this header holds what the keys become.
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"

enum protocol_id { PROTOCOL_POSTGRESQL, PROTOCOL_MYSQL };
enum pool_mode { POOL_MODE_TRANSACTION, POOL_MODE_SESSION, POOL_MODE_STATEMENT };
enum auth_method {
	AUTH_TRUST,
	AUTH_PASSWORD, /* mysql: by whichever plugin the user's stored secret is for */
	AUTH_MD5,
	AUTH_SCRAM_SHA_256,
	AUTH_CERT,
	AUTH_HBA,
	AUTH_MYSQL_NATIVE_PASSWORD, /* from here on: mysql only */
	AUTH_CACHING_SHA2_PASSWORD,
	AUTH_MYSQL_CLEAR_PASSWORD
};
/* In the order and with the meaning of libpq's sslmode; the same numbers as net/tls.h's enum tls_mode. */
enum config_tls_mode {
	CONFIG_TLS_DISABLE,
	CONFIG_TLS_ALLOW,
	CONFIG_TLS_PREFER,
	CONFIG_TLS_REQUIRE,
	CONFIG_TLS_VERIFY_CA,
	CONFIG_TLS_VERIFY_FULL
};
enum leak_action { LEAK_ACTION_LOG, LEAK_ACTION_CLOSE };

struct config_tls {
	enum config_tls_mode mode;
	const char *cert_file, *key_file, *ca_file, *crl_file; /* NULL: not set */
	const char *min_version, *ciphers;
};

/* As a client: whether it proves that the peer is the right one. As in libpq, require checks who signed where it knows who
 * may. */
static inline bool config_tls_verifies(const struct config_tls *tls) {
	return tls->mode >= CONFIG_TLS_VERIFY_CA || (tls->mode == CONFIG_TLS_REQUIRE && tls->ca_file);
}

/* Durations are nanoseconds, sizes bytes; 0: off or unlimited. Strings are never NULL unless it says so. */

struct config_address {
	const char *text; /* as written */
	const char *host; /* a name, an address, or an absolute directory (Unix socket) */
	int port;
};

struct listener_config {
	const char *name; /* of [listener:name] */
	enum protocol_id protocol;
	const char **listen; /* listen_count of them */
	size_t listen_count;
	enum auth_method auth;
	const char *hba_file;  /* NULL: none; needed when auth = hba */
	const char *ident_file; /* user maps, pg_ident.conf's format; NULL: none */
	bool known_users_only; /* for trust, cert and peer too: whom the configuration, or auth_query, knows */
	const char *user_map;   /* the map that auth = cert uses; NULL: common name must be the user name */
	struct config_tls tls;
	const char **ignore_startup_parameters; /* NULL-terminated */
	const char *default_pool; /* NULL: none */
	const char *server_version; /* mysql: told to clients; NULL: the backend's */
	int default_collation;      /* mysql: the same; 0: the backend's */
	const char *rsa_key_file;   /* mysql: NULL: a key is made when it is first needed */
	int backlog;
	const char *unix_socket_mode;  /* octal digits */
	const char *unix_socket_group; /* NULL: as it is */
};

/* A duration that is not given: what a wider section says holds. */
#define CONFIG_INHERIT UINT64_MAX

enum unavailable { UNAVAILABLE_WAIT, UNAVAILABLE_FAIL };
enum host_order { HOST_ORDER_FAILOVER, HOST_ORDER_ROUND_ROBIN, HOST_ORDER_LEAST_BUSY };
enum host_target { HOST_TARGET_ANY, HOST_TARGET_PRIMARY, HOST_TARGET_STANDBY, HOST_TARGET_PREFER_STANDBY };
enum statement_text { STATEMENT_NORMALIZED, STATEMENT_FULL, STATEMENT_NONE };

struct pool_config {
	/* read in each transaction: side by side */
	uint64_t acquire_timeout, alive_bypass_window, wait_notice_after, leak_detection_threshold;
	enum pool_mode mode;
	bool defer_begin;

	const char *name; /* of [pool:name]; "*" serves every other name */
	enum protocol_id protocol;
	const struct config_address *hosts;
	size_t host_count;
	const char *database; /* NULL: the name that the client asked for */
	const char *user;     /* NULL: as the client */
	const char *password; /* plaintext or a stored secret; NULL: none. Never logged. */
	uint32_t max_size, min_idle;
	uint32_t max_size_per_user;   /* 0: none */
	uint32_t max_waiting;         /* 0: no limit */
	uint32_t max_connections;     /* clients of this pool; 0: no limit */
	uint32_t max_prepared_statements;
	uint64_t connect_timeout, idle_timeout, max_lifetime;
	uint64_t keepalive_interval, validation_timeout;
	enum leak_action leak_action;
	uint64_t query_timeout, transaction_timeout, idle_transaction_timeout, client_idle_timeout;
	uint64_t client_login_timeout; /* CONFIG_INHERIT: as [forebay] says */
	enum unavailable when_unavailable;
	enum host_order host_order;
	enum host_target target;
	uint64_t monitor_interval;
	const char *monitor_user, *monitor_password, *monitor_database; /* NULL: none */
	const char *validation_query; /* NULL: none is run at hand-over */
	uint64_t recovery_timeout; /* to cancel, drain and roll back after a client that vanished */
	const char *init_sql;      /* NULL: none */
	const char *reset_sql;     /* session mode: run when a session ends (DISCARD ALL) */
	const char *application_name; /* NULL; of server connections while no client's is known */
	const char *auth_query, *auth_user, *auth_password, *auth_database; /* NULL: none */
	uint64_t auth_cache_ttl;
	struct config_tls tls;
	const char *server_public_key_file; /* mysql: NULL: none */
	bool get_server_public_key;         /* mysql: the backend's own word for its key is taken */
};

struct user_config {
	const char *name;
	const char *password; /* plaintext or a stored secret; NULL: none */
	const char *pool;     /* mysql: NULL none */
	uint32_t max_connections;
	uint32_t max_size; /* 0: the pool's max_size_per_user */
	/* CONFIG_INHERIT: as the pool says */
	uint64_t query_timeout, transaction_timeout, idle_transaction_timeout, client_idle_timeout;
	uint64_t client_login_timeout;
	bool from_auth_file;
};

struct config {
	/* [forebay] */
	const char *file;
	int workers; /* as resolved: at least 1 */
	bool io_uring;
	uint32_t max_clients;
	uint32_t max_login_clients; /* clients that have not logged in yet, over all workers */
	uint32_t max_connections_per_user; /* 0: no limit */
	uint32_t max_auto_pools;    /* pools made on demand from [pool:*] */
	const char **admin_users, **stats_users; /* NULL-terminated */
	const char *admin_socket_user;           /* NULL: nobody */
	const char **metrics_listen;             /* metrics_listen_count of them; none: off */
	size_t metrics_listen_count;
	const char *metrics_user, *metrics_password;           /* NULL: nobody is asked; both or none */
	const char *metrics_tls_cert_file, *metrics_tls_key_file; /* NULL: plain HTTP; both or none */
	enum log_level log_level;
	enum log_format log_format;
	enum log_destination log_destination;
	const char *log_socket; /* NULL: the usual one */
	const char *log_ident;
	int log_facility; /* syslog's number */
	bool log_connections;
	uint32_t log_connections_every;
	const char *auth_file; /* NULL: none */
	const char *pid_file, *run_as, *takeover_socket; /* NULL: none */
	uint64_t client_login_timeout, shutdown_timeout, drain_delay;
	uint32_t drain_pace; /* clients told to go a second; 0: all at once */
	uint64_t tcp_keepalive_idle, tcp_user_timeout;
	uint64_t dns_refresh; /* 0: names are looked up at each connect only */
	enum statement_text statement_text;

	const struct listener_config *listeners;
	size_t listener_count;
	const struct pool_config *pools; /* "*" among them, if configured */
	size_t pool_count;
	/* private: values by schema entry for SHOW CONFIG, hash tables, arena, count of references */
	struct config_private *private_;
};

/* Also of a remark. */
struct config_error {
	const char *file; /* owned by the list */
	int line;         /* 0: the file as a whole */
	char text[480];   /* key, what was expected, the nearest known name */
};

struct config_errors {
	struct config_error *at;
	size_t count;
};

/* Reads and validates a file, a forebay.ini or a pgbouncer.ini (one whose first section or directive is PgBouncer's),
 * whole or not at all: on any error NULL, and `errors` holds all of them. Reads the
 * disk: main or control thread. */
struct config *config_load(const char *path, struct config_errors *errors);
/* The same, as if these were in the file in the place of what it says. Of a pgbouncer.ini: by PgBouncer's names, in [pgbouncer].
 * Of a forebay.ini: keys of [forebay], or with their section, "pool:shop.max_size"; such as a reload applies, and no secrets. */
struct config_override {
	const char *key, *value;
};
struct config *config_load_with(const char *path, const struct config_override *overrides, size_t count,
				struct config_errors *errors);
/* The same from text, `name` in its messages (tests, defaults). */
struct config *config_parse(const char *text, const char *name, struct config_errors *errors);
void config_errors_free(struct config_errors *errors);
/* Whether it came from a pgbouncer.ini. */
bool config_is_pgbouncers(const struct config *config);
/* Why the users of the auth_file are not in it: that could not be read, which a pgbouncer.ini may say all the same. NULL:
 * they are, or none is named. Lives as long as the configuration. */
const char *config_auth_file_missing(const struct config *config);
/* What is to be said of a configuration that is in force all the same: settings of a pgbouncer.ini that are ignored or mean
 * something else here. */
void config_each_remark(const struct config *config,
			void (*each)(void *context, const char *file, int line, const char *text), void *context);
/* Writes the forebay.ini that means what a pgbouncer.ini does, with comments where it differs. False: `errors` says why
 * not, and nothing was written. Reads the disk. */
struct _IO_FILE;
bool config_convert(const char *path, struct _IO_FILE *out, struct config_errors *errors);

struct config *config_ref(struct config *config); /* any thread */
void config_unref(struct config *config);         /* wipes secrets with the last; NULL is fine */

/* NULL: there is none of that name ("*" is not substituted). */
const struct pool_config *config_pool(const struct config *config, const char *name);
const struct pool_config *config_wildcard_pool(const struct config *config, enum protocol_id protocol);
const struct listener_config *config_listener(const struct config *config, const char *name);
/* [user:name], else the line of the auth_file, else NULL. */
const struct user_config *config_user(const struct config *config, const char *name);
bool config_is_admin(const struct config *config, const char *user);
bool config_is_stats(const struct config *config, const char *user); /* admins too */

/* Each setting in force, for SHOW CONFIG and logs of reloads: section "pool:shop", key "max_size", value as
 * text (canonical: 60s is "1m"; secrets are "***"), its default, whether a reload applies it. Calls `each` in
 * the schema's order, sections of one kind in the file's. Users of the auth_file are not among them. */
void config_each(const struct config *config,
		 void (*each)(void *context, const char *section, const char *key, const char *value,
			      const char *default_value, bool reloadable),
		 void *context);
/* The settings of [pgbouncer] by PgBouncer's names, as they were written or by default, where the file is PgBouncer's; NULL
 * where there is no value. What may hold a password is "***". */
void config_each_of_pgbouncer(const struct config *config,
			      void (*each)(void *context, const char *key, const char *value, const char *default_value),
			      void *context);
/* Settings that the file gives a value of their own, but that this version does not act on yet. */
void config_each_without_effect(const struct config *config,
				void (*each)(void *context, const char *section, const char *key, const char *value),
				void *context);
/* What differs, key by key, secrets masked; `needs_restart` where a reload does not apply it. A section that
 * came or went has the key "(section)", "absent" or "present"; one that came, each key that it gives as well.
 * Users of the auth_file alone have the section "auth_file" and their name as the key. What the files behind
 * paths hold (certificates, hba_file) is not compared. */
void config_diff(const struct config *before, const struct config *after,
		 void (*each)(void *context, const char *section, const char *key, const char *before_value,
			      const char *after_value, bool needs_restart),
		 void *context);
/* The commented sample with every key at its default, to a FILE. */
void config_print_defaults(struct _IO_FILE *out);
/* forebay.ini(5), in mdoc. */
void config_print_manual(struct _IO_FILE *out);

#endif
