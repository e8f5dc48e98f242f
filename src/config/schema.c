#include "config/schema.h"

#include <string.h>

#include "base/clock.h"
#include "config/config.h"

#define MS NS_PER_MS
#define SECOND NS_PER_S
#define YEAR (365ull * 86400 * NS_PER_S)

/* As many as pool/pool.h has shards for. */
enum { MAX_WORKERS = 64 };

const char CONFIG_AUTH_QUERY[] = "SELECT usename, CASE WHEN valuntil < pg_catalog.now() THEN NULL ELSE "
				 "passwd END FROM pg_catalog.pg_shadow WHERE usename=$1";

static const struct config_choice PROTOCOLS[] = {
	{"postgresql", PROTOCOL_POSTGRESQL},
	{"mysql", PROTOCOL_MYSQL},
	{NULL, 0},
};
static const struct config_choice LOG_LEVELS[] = {
	{"error", LOG_LEVEL_ERROR},
	{"warning", LOG_LEVEL_WARNING},
	{"info", LOG_LEVEL_INFO},
	{"debug", LOG_LEVEL_DEBUG},
	{NULL, 0},
};
static const struct config_choice LOG_FORMATS[] = {
	{"text", LOG_FORMAT_TEXT},
	{"json", LOG_FORMAT_JSON},
	{NULL, 0},
};
static const struct config_choice LOG_DESTINATIONS[] = {
	{"stderr", LOG_TO_STDERR},
	{"syslog", LOG_TO_SYSLOG},
	{"journald", LOG_TO_JOURNALD},
	{NULL, 0},
};
/* syslog's numbers, of RFC 5424, table 1 */
static const struct config_choice FACILITIES[] = {
	{"user", 1},
	{"daemon", 3},
	{"auth", 4},
	{"authpriv", 10},
	{"local0", 16},
	{"local1", 17},
	{"local2", 18},
	{"local3", 19},
	{"local4", 20},
	{"local5", 21},
	{"local6", 22},
	{"local7", 23},
	{NULL, 0},
};
static const struct config_choice AUTH_METHODS[] = {
	{"trust", AUTH_TRUST},
	{"password", AUTH_PASSWORD},
	{"md5", AUTH_MD5},
	{"scram-sha-256", AUTH_SCRAM_SHA_256},
	{"cert", AUTH_CERT},
	{"hba", AUTH_HBA},
	{"mysql_native_password", AUTH_MYSQL_NATIVE_PASSWORD},
	{"caching_sha2_password", AUTH_CACHING_SHA2_PASSWORD},
	{"mysql_clear_password", AUTH_MYSQL_CLEAR_PASSWORD},
	{NULL, 0},
};
/* The numbers of their default collations. */
static const struct config_choice CHARSETS[] = {
	{"backend", 0},
	{"utf8mb4", 45},
	{"utf8mb3", 33},
	{"latin1", 8},
	{"ascii", 11},
	{"binary", 63},
	{NULL, 0},
};
static const struct config_choice TLS_MODES[] = {
	{"disable", CONFIG_TLS_DISABLE},
	{"allow", CONFIG_TLS_ALLOW},
	{"prefer", CONFIG_TLS_PREFER},
	{"require", CONFIG_TLS_REQUIRE},
	{"verify-ca", CONFIG_TLS_VERIFY_CA},
	{"verify-full", CONFIG_TLS_VERIFY_FULL},
	{NULL, 0},
};
static const struct config_choice TLS_VERSIONS[] = {{"1.2", 0}, {"1.3", 0}, {NULL, 0}};
static const struct config_choice POOL_MODES[] = {
	{"transaction", POOL_MODE_TRANSACTION},
	{"session", POOL_MODE_SESSION},
	{"statement", POOL_MODE_STATEMENT},
	{NULL, 0},
};
static const struct config_choice UNAVAILABLE[] = {
	{"wait", UNAVAILABLE_WAIT},
	{"fail", UNAVAILABLE_FAIL},
	{NULL, 0},
};
static const struct config_choice HOST_ORDERS[] = {
	{"failover", HOST_ORDER_FAILOVER},
	{"round-robin", HOST_ORDER_ROUND_ROBIN},
	{"least-busy", HOST_ORDER_LEAST_BUSY},
	{NULL, 0},
};
static const struct config_choice HOST_TARGETS[] = {
	{"any", HOST_TARGET_ANY},
	{"primary", HOST_TARGET_PRIMARY},
	{"standby", HOST_TARGET_STANDBY},
	{"prefer-standby", HOST_TARGET_PREFER_STANDBY},
	{NULL, 0},
};
static const struct config_choice STATEMENT_TEXTS[] = {
	{"normalized", STATEMENT_NORMALIZED},
	{"full", STATEMENT_FULL},
	{"none", STATEMENT_NONE},
	{NULL, 0},
};
static const struct config_choice LEAK_ACTIONS[] = {
	{"log", LEAK_ACTION_LOG},
	{"close", LEAK_ACTION_CLOSE},
	{NULL, 0},
};

/* Every enum lands in its field as an int. */
_Static_assert(sizeof(enum protocol_id) == sizeof(int), "enums are as large as int");
_Static_assert(sizeof(enum log_level) == sizeof(int), "enums are as large as int");

static const struct section_schema SECTIONS[SECTION_KINDS] = {
	[SECTION_FOREBAY] = {"forebay", NULL, "The process.", sizeof(struct config)},
	[SECTION_LISTENER] = {"listener", "pg",
			      "Where clients connect, and how they prove who they are. One section for each, "
			      "under any name.",
			      sizeof(struct listener_config)},
	[SECTION_POOL] = {"pool", "shop",
			  "A pool of connections to one database. Its name is the database that clients ask "
			  "for; [pool:*] serves every name that has no section of its own.",
			  sizeof(struct pool_config)},
	[SECTION_USER] = {"user", "app",
			  "Who may log in. One section for each user; auth_file holds many in short, and "
			  "what is said here wins over it.",
			  sizeof(struct user_config)},
};

#define IN_FOREBAY(key, field) \
	.section = SECTION_FOREBAY, .name = key, .offset = offsetof(struct config, field)
#define IN_LISTENER(key, field) \
	.section = SECTION_LISTENER, .name = key, .offset = offsetof(struct listener_config, field)
#define IN_POOL(key, field) \
	.section = SECTION_POOL, .name = key, .offset = offsetof(struct pool_config, field)
#define IN_USER(key, field) \
	.section = SECTION_USER, .name = key, .offset = offsetof(struct user_config, field)

#define TEXT(kind) .type = kind, .default_text = ""
#define BOOL(text) .type = KEY_BOOL, .default_text = text
#define INTEGER(text, low, high, what) \
	.type = KEY_INTEGER, .default_text = text, .min = low, .max = high, .unit = what
#define DURATION(text, low) .type = KEY_DURATION, .default_text = text, .min = low, .max = YEAR
#define OVERRIDE DURATION("", 10 * MS), .flags = KEY_ZERO | KEY_INHERIT
#define CHOICE(kind, text, names) .type = kind, .default_text = text, .choices = names
#define COUNT(type, field) .count_offset = offsetof(struct type, field)

static const struct config_key KEYS[] = {
	/* ---- [forebay] ---- */
	{IN_FOREBAY("workers", workers), .type = KEY_THREADS, .default_text = "auto", .min = 1,
	 .max = MAX_WORKERS, .unit = "threads", .flags = KEY_RESTART, .heading = "Size",
	 .description = "Threads that carry the traffic; auto is one for each CPU."},
	{IN_FOREBAY("max_clients", max_clients), INTEGER("10000", 1, 10000000, "clients"),
	 .description = "Clients that may be connected at a time; further ones are told so and let go."},
	{IN_FOREBAY("max_login_clients", max_login_clients), INTEGER("1000", 1, 10000000, "clients"),
	 .description = "Clients that may be connected and not logged in yet, so that strangers cannot use "
			"up max_clients."},
	{IN_FOREBAY("max_connections_per_user", max_connections_per_user), INTEGER("0", 1, 10000000, "clients"),
	 .flags = KEY_ZERO,
	 .description = "Clients of one user that may be connected, unless [user:NAME] has a limit for it; 0 is no limit "
			"but max_clients."},
	{IN_FOREBAY("max_auto_pools", max_auto_pools), INTEGER("100", 1, 100000, "pools"),
	 .description = "Pools that may be made on demand from [pool:*]."},

	{IN_FOREBAY("admin_users", admin_users), TEXT(KEY_NAMES), .heading = "Watching and steering it",
	 .description = "Users who may change things on the console (the database \"forebay\"), such as: "
			"ops, alice."},
	{IN_FOREBAY("stats_users", stats_users), TEXT(KEY_NAMES),
	 .description = "Users who may look around on the console and change nothing, such as: grafana."},
	{IN_FOREBAY("admin_socket_user", admin_socket_user), TEXT(KEY_STRING),
	 .description = "Who comes to the console under this name by a Unix socket, from a process of the same system user "
			"as Forebay's, may change things there and needs no password; empty is nobody."},
	{IN_FOREBAY("metrics_listen", metrics_listen), COUNT(config, metrics_listen_count), .type = KEY_LISTEN,
	 .default_text = "127.0.0.1:9127", .flags = KEY_RESTART,
	 .description = "Where HTTP answers with /metrics, /healthz, /readyz and a status page: host:port or the path of "
			"a Unix socket, several with commas between them; empty is nowhere."},
	{IN_FOREBAY("metrics_user", metrics_user), TEXT(KEY_STRING), .flags = KEY_RESTART,
	 .description = "Who may ask for all of that but /healthz and /readyz, by HTTP's basic authentication; empty is "
			"anybody."},
	{IN_FOREBAY("metrics_password", metrics_password), TEXT(KEY_SECRET), .flags = KEY_RESTART,
	 .description = "The password of metrics_user, best as ${METRICS_PASSWORD}."},
	{IN_FOREBAY("metrics_password_file", metrics_password), TEXT(KEY_SECRET_FILE), .flags = KEY_RESTART,
	 .description = "A file whose first line is that password."},
	{IN_FOREBAY("metrics_tls_cert_file", metrics_tls_cert_file), TEXT(KEY_PATH), .flags = KEY_RESTART,
	 .description = "A certificate chain, PEM: with it metrics_listen speaks HTTPS, and HTTPS only."},
	{IN_FOREBAY("metrics_tls_key_file", metrics_tls_key_file), TEXT(KEY_PATH), .flags = KEY_RESTART,
	 .description = "Its private key, PEM."},
	{IN_FOREBAY("log_level", log_level), CHOICE(KEY_ENUM, "info", LOG_LEVELS),
	 .description = "What is logged: this and all that is graver."},
	{IN_FOREBAY("log_format", log_format), CHOICE(KEY_ENUM, "text", LOG_FORMATS),
	 .description = "How a line of the log looks: for people or for programs."},
	{IN_FOREBAY("log_destination", log_destination), CHOICE(KEY_ENUM, "stderr", LOG_DESTINATIONS),
	 .description = "Where the log goes; what syslog or journald cannot be told, for nobody listens there, goes to stderr."},
	{IN_FOREBAY("log_socket", log_socket), TEXT(KEY_STRING),
	 .description = "The Unix datagram socket of syslog or journald; empty is /dev/log, or "
			"/run/systemd/journal/socket."},
	{IN_FOREBAY("log_ident", log_ident), .type = KEY_STRING, .default_text = "forebay",
	 .description = "The program's name in syslog and journald."},
	{IN_FOREBAY("log_facility", log_facility), CHOICE(KEY_ENUM, "daemon", FACILITIES),
	 .description = "The facility in syslog and journald."},
	{IN_FOREBAY("log_connections", log_connections), BOOL("true"),
	 .description = "Logs each client that logs in and each that leaves."},
	{IN_FOREBAY("log_connections_every", log_connections_every), INTEGER("1", 1, 1000000, "clients"),
	 .description = "Of so many clients one, taken by chance, is logged by log_connections, its coming and its leaving; "
			"1 is each."},
	{IN_FOREBAY("statement_text", statement_text), CHOICE(KEY_ENUM, "normalized", STATEMENT_TEXTS),
	 .description = "How reports of leaks show a client's statements: without their constants, in full, or "
			"not at all."},

	{IN_FOREBAY("auth_file", auth_file), TEXT(KEY_PATH), .heading = "Logging in",
	 .description = "A file of users in the form of PgBouncer's userlist.txt: a line \"name\" \"secret\" "
			"for each."},
	{IN_FOREBAY("client_login_timeout", client_login_timeout), DURATION("60s", 10 * MS),
	 .flags = KEY_ZERO, .description = "A client must have logged in after this long; 0 is no limit."},

	{IN_FOREBAY("pid_file", pid_file), TEXT(KEY_PATH), .flags = KEY_RESTART,
	 .heading = "The process and the system",
	 .description = "Where the process number is written; empty is nowhere."},
	{IN_FOREBAY("run_as", run_as), TEXT(KEY_STRING), .flags = KEY_RESTART,
	 .description = "The system user to become after a start as root; empty is to stay who it is."},
	{IN_FOREBAY("takeover_socket", takeover_socket), TEXT(KEY_PATH), .flags = KEY_RESTART,
	 .description = "A Unix socket at which a process that is started with --takeover takes over from this one, which "
			"then drains: a restart that refuses nobody. Empty is nowhere."},
	{IN_FOREBAY("shutdown_timeout", shutdown_timeout), DURATION("30s", 10 * MS), .flags = KEY_ZERO,
	 .description = "Open transactions have this long to finish when the process is asked to stop; 0 "
			"waits for ever."},
	{IN_FOREBAY("drain_delay", drain_delay), DURATION("0", 10 * MS), .flags = KEY_ZERO,
	 .description = "When the process is asked to stop, /readyz fails at once, and for so long clients are let in "
			"and served as before, so that load balancers can look elsewhere first. After a takeover it is for so long that "
			"clients are left in peace before they are told to go."},
	{IN_FOREBAY("drain_pace", drain_pace), INTEGER("0", 1, 1000000, "clients a second"), .flags = KEY_ZERO,
	 .description = "When the process stops, no more than so many clients a second are told to go, so that they do "
			"not all come back at once; 0 is no limit. What shutdown_timeout finds is cut off."},
	{IN_FOREBAY("tcp_keepalive_idle", tcp_keepalive_idle), DURATION("30s", SECOND), .flags = KEY_ZERO,
	 .description = "A silent TCP connection, a client's or to a database, is probed after this long, in whole "
			"seconds, and given up when nothing has been heard for twice as long; 0 leaves it to the "
			"system."},
	{IN_FOREBAY("tcp_user_timeout", tcp_user_timeout), DURATION("0", MS), .flags = KEY_ZERO,
	 .description = "A TCP connection whose peer has acknowledged nothing for this long is given up; 0 "
			"leaves it to the system."},

	{IN_FOREBAY("io_uring", io_uring), BOOL("true"), .flags = KEY_RESTART,
	 .description = "What is due to many connections leaves in one system call, where Linux (6.1 and later) lets this process "
			"use io_uring; where it does not, each send is a call of its own."},

	{IN_FOREBAY("dns_refresh", dns_refresh), DURATION("15s", 100 * MS), .flags = KEY_ZERO,
	 .description = "Names of database hosts are looked up anew this often, and connections to addresses that "
			"they no longer have are retired; 0 looks up at each connect only."},

	/* ---- [listener:NAME] ---- */
	{IN_LISTENER("protocol", protocol), CHOICE(KEY_ENUM, "postgresql", PROTOCOLS),
	 .heading = "Address", .description = "What its clients speak."},
	{IN_LISTENER("listen", listen), COUNT(listener_config, listen_count), TEXT(KEY_LISTEN),
	 .flags = KEY_REQUIRED, .example = "127.0.0.1:6432",
	 .description = "Addresses to listen on: host:port, [IPv6]:port, *:port for all, or the path of a "
			"Unix socket such as /run/forebay/.s.PGSQL.6432."},
	{IN_LISTENER("backlog", backlog), INTEGER("4096", 1, 65535, "connections"),
	 .description = "Connections that may wait to be accepted; the system may allow fewer."},

	{IN_LISTENER("unix_socket_mode", unix_socket_mode), .type = KEY_STRING, .default_text = "0777",
	 .flags = KEY_RESTART,
	 .description = "The permissions of Unix sockets, in octal digits; who may log in is decided by auth."},
	{IN_LISTENER("unix_socket_group", unix_socket_group), TEXT(KEY_STRING), .flags = KEY_RESTART,
	 .description = "The group that Unix sockets belong to; empty is Forebay's own."},

	{IN_LISTENER("auth", auth), CHOICE(KEY_ENUM, "scram-sha-256", AUTH_METHODS), .heading = "Logging in",
	 .description = "How a client proves who it is; hba decides line by line of hba_file. mysql: trust, or "
			"password, which is the default there and lets the sort of a user's stored secret decide, or "
			"one of the plugins alone."},
	{IN_LISTENER("hba_file", hba_file), TEXT(KEY_PATH),
	 .description = "Rules in the form of PostgreSQL's pg_hba.conf, for auth = hba."},
	{IN_LISTENER("ident_file", ident_file), TEXT(KEY_PATH),
	 .description = "User maps in the form of PostgreSQL's pg_ident.conf."},
	{IN_LISTENER("known_users_only", known_users_only), BOOL("false"),
	 .description = "postgresql: whether trust, cert and peer, which need no password, let in only users that [user:...], "
			"auth_file or auth_query knows, as PgBouncer does; here and in hba_file."},
	{IN_LISTENER("user_map", user_map), TEXT(KEY_STRING),
	 .description = "The map of ident_file that auth = cert uses; empty is that the certificate's common "
			"name must be the user's."},
	{IN_LISTENER("ignore_startup_parameters", ignore_startup_parameters), TEXT(KEY_NAMES),
	 .description = "Settings that clients ask for when they connect and that are passed over, such as: "
			"extra_float_digits; options is all that is in that parameter."},
	{IN_LISTENER("default_pool", default_pool), TEXT(KEY_STRING),
	 .description = "mysql: the pool of a client that names no schema which a pool bears."},
	{IN_LISTENER("rsa_key_file", rsa_key_file), TEXT(KEY_PATH),
	 .description = "mysql: the RSA key by which caching_sha2_password hides a password where there is no TLS, "
			"PEM; empty makes one when it is first needed."},
	{IN_LISTENER("server_version", server_version), TEXT(KEY_STRING), .heading = "What clients are told",
	 .description = "mysql: the version of the server; empty is what the pool's backends say."},
	{IN_LISTENER("default_charset", default_collation), CHOICE(KEY_ENUM, "backend", CHARSETS),
	 .description = "mysql: the server's default character set."},

	{IN_LISTENER("tls_mode", tls.mode), CHOICE(KEY_ENUM, "prefer", TLS_MODES), .heading = "TLS",
	 .description = "prefer offers TLS when certificate and key are set, require refuses clients without "
			"it, verify-ca and verify-full refuse clients without a certificate that tls_ca_file "
			"vouches for."},
	{IN_LISTENER("tls_cert_file", tls.cert_file), TEXT(KEY_PATH),
	 .description = "The server's certificate chain, PEM."},
	{IN_LISTENER("tls_key_file", tls.key_file), TEXT(KEY_PATH), .description = "Its private key, PEM."},
	{IN_LISTENER("tls_ca_file", tls.ca_file), TEXT(KEY_PATH), .flags = KEY_SYSTEM,
	 .description =
		 "Authorities that vouch for clients' certificates, PEM; system is those of the system."},
	{IN_LISTENER("tls_crl_file", tls.crl_file), TEXT(KEY_PATH),
	 .description = "Revoked certificates, PEM."},
	{IN_LISTENER("tls_min_version", tls.min_version), CHOICE(KEY_WORD, "1.2", TLS_VERSIONS),
	 .description = "The oldest version of TLS that is spoken."},
	{IN_LISTENER("tls_ciphers", tls.ciphers), TEXT(KEY_STRING),
	 .description = "OpenSSL's list of ciphers for TLS 1.2; empty is OpenSSL's choice."},

	/* ---- [pool:NAME] ---- */
	{IN_POOL("protocol", protocol), CHOICE(KEY_ENUM, "postgresql", PROTOCOLS), .flags = KEY_RESTART,
	 .heading = "The database", .description = "What the database speaks."},
	{IN_POOL("hosts", hosts), COUNT(pool_config, host_count), TEXT(KEY_HOSTS), .flags = KEY_REQUIRED,
	 .example = "127.0.0.1:5432",
	 .description = "Where the database is: host:port, [IPv6]:port, or the folder of a Unix socket; "
			"several with commas between them."},
	{IN_POOL("host_order", host_order), CHOICE(KEY_ENUM, "failover", HOST_ORDERS),
	 .description = "Which of several healthy hosts gets the next connection: the first in the list, each in "
			"turn, or the one with the fewest connections in use."},
	{IN_POOL("target", target), CHOICE(KEY_ENUM, "any", HOST_TARGETS),
	 .description = "Which hosts are for this pool: any, the primary, standbys, or standbys as long as there "
			"is one."},
	{IN_POOL("database", database), TEXT(KEY_STRING),
	 .description = "The database's name there; empty is the name that the client asked for. mysql: the schema in "
			"which connections begin; empty is none but the client's."},
	{IN_POOL("user", user), TEXT(KEY_STRING),
	 .description = "Log in there as this user whoever the client is; empty is as the client."},
	{IN_POOL("password", password), TEXT(KEY_SECRET),
	 .description = "The password there, best as ${SHOP_PASSWORD}; or a stored secret (md5..., "
			"SCRAM-SHA-256$...); empty is, with postgresql, what [user:NAME] or auth_file says of that user."},
	{IN_POOL("password_file", password), TEXT(KEY_SECRET_FILE),
	 .description = "A file whose first line is the password."},
	{IN_POOL("application_name", application_name), TEXT(KEY_STRING),
	 .description = "What a connection calls itself while it serves no client that has a name."},

	{IN_POOL("pool_mode", mode), CHOICE(KEY_ENUM, "transaction", POOL_MODES), .heading = "Size",
	 .description =
		 "How long a client keeps its connection: for a transaction, a session or a statement."},
	{IN_POOL("defer_begin", defer_begin), BOOL("true"),
	 .description = "In transaction mode a bare BEGIN or START TRANSACTION is answered at once, and goes to the "
			"database together with the first statement."},
	{IN_POOL("max_size", max_size), INTEGER("20", 1, 100000, "connections"),
	 .description = "The bound: all connections of this pool, whoever the user and whichever the host."},
	{IN_POOL("min_idle", min_idle), INTEGER("5", 0, 100000, "connections"),
	 .description =
		 "Idle connections kept ready; where it is not set and max_size is smaller, max_size."},
	{IN_POOL("max_size_per_user", max_size_per_user), INTEGER("0", 1, 100000, "connections"),
	 .flags = KEY_ZERO, .description = "The bound of each user within max_size; 0 is none of its own."},
	{IN_POOL("max_connections", max_connections), INTEGER("0", 1, 10000000, "clients"), .flags = KEY_ZERO,
	 .description = "Clients of this pool that may be connected; 0 is no limit but max_clients."},
	{IN_POOL("max_waiting", max_waiting), INTEGER("0", 1, 10000000, "clients"), .flags = KEY_ZERO,
	 .description =
		 "Clients that may wait for a connection, further ones get an error at once; 0 is no limit."},
	{IN_POOL("max_prepared_statements", max_prepared_statements),
	 INTEGER("500", 1, 1000000, "statements"), .flags = KEY_ZERO,
	 .description =
		 "Prepared statements kept on one connection to the database; 0 is not to manage them."},

	{IN_POOL("acquire_timeout", acquire_timeout), DURATION("30s", 10 * MS), .flags = KEY_ZERO,
	 .heading = "Waiting for a connection",
	 .description =
		 "A client waits this long for a connection and then gets an error; 0 waits for ever."},
	{IN_POOL("wait_notice_after", wait_notice_after), DURATION("5s", 10 * MS), .flags = KEY_ZERO,
	 .description = "A client that has waited this long is told so by a notice, and again after twice, "
			"four times ... as long; 0 is never."},
	{IN_POOL("when_unavailable", when_unavailable), CHOICE(KEY_ENUM, "wait", UNAVAILABLE),
	 .description = "What a client gets while no host of the pool can be reached: it waits, within "
			"acquire_timeout, or an error at once."},
	{IN_POOL("connect_timeout", connect_timeout), DURATION("5s", 10 * MS),
	 .description = "Reaching the database and logging in there must be done in this time."},

	{IN_POOL("idle_timeout", idle_timeout), DURATION("10m", 10 * MS), .flags = KEY_ZERO,
	 .heading = "The life of a connection",
	 .description = "An idle connection above min_idle is closed after this long; 0 is never."},
	{IN_POOL("max_lifetime", max_lifetime), DURATION("30m", 10 * MS), .flags = KEY_ZERO,
	 .description = "A connection is retired at this age, less a random part of up to 25%; 0 is never."},
	{IN_POOL("keepalive_interval", keepalive_interval), DURATION("2m", 10 * MS), .flags = KEY_ZERO,
	 .description = "An idle connection is proved alive this often; 0 is never."},
	{IN_POOL("alive_bypass_window", alive_bypass_window), DURATION("500ms", MS), .flags = KEY_ZERO,
	 .description = "A connection used within this time is taken to be alive and is not tried before "
			"use; 0 tries each."},
	{IN_POOL("validation_timeout", validation_timeout), DURATION("5s", 10 * MS),
	 .description = "A connection that does not answer a trial in this time is dead."},
	{IN_POOL("validation_query", validation_query), TEXT(KEY_SQL),
	 .description = "SQL that a connection must answer before it is handed out after more than "
			"alive_bypass_window; empty looks at its socket only, which costs no round trip."},
	{IN_POOL("init_sql", init_sql), TEXT(KEY_SQL),
	 .description = "SQL that is run once on each new connection, before anybody gets it."},
	{IN_POOL("reset_sql", reset_sql), .type = KEY_SQL, .default_text = "DISCARD ALL",
	 .flags = KEY_KEEP_EMPTY,
	 .description = "SQL that is run when a session ends, in session mode; empty is none."},

	{IN_POOL("leak_detection_threshold", leak_detection_threshold), DURATION("60s", 10 * MS),
	 .flags = KEY_ZERO, .heading = "Clients that hold on to a connection",
	 .description =
		 "A client that holds a connection this long and leaves it unused is reported; 0 is never."},
	{IN_POOL("leak_action", leak_action), CHOICE(KEY_ENUM, "log", LEAK_ACTIONS),
	 .description = "What is done then: log it, or close: roll back, take it back and tell the client."},
	{IN_POOL("query_timeout", query_timeout), DURATION("0", 10 * MS), .flags = KEY_ZERO,
	 .description = "A query that runs longer is cancelled; 0 is no limit."},
	{IN_POOL("transaction_timeout", transaction_timeout), DURATION("0", 10 * MS), .flags = KEY_ZERO,
	 .description = "A transaction that takes longer is rolled back; 0 is no limit."},
	{IN_POOL("idle_transaction_timeout", idle_transaction_timeout), DURATION("0", 10 * MS), .flags = KEY_ZERO,
	 .description = "A transaction in which the client does nothing for this long is rolled back; 0 is no "
			"limit."},
	{IN_POOL("client_idle_timeout", client_idle_timeout), DURATION("0", 10 * MS), .flags = KEY_ZERO,
	 .description =
		 "A client outside a transaction that does nothing for this long is let go; 0 is no limit."},
	{IN_POOL("client_login_timeout", client_login_timeout), DURATION("", 10 * MS),
	 .flags = KEY_ZERO | KEY_INHERIT,
	 .description = "A client of this pool must have logged in after this long; empty is as [forebay] says."},
	{IN_POOL("recovery_timeout", recovery_timeout), DURATION("5s", 10 * MS),
	 .description = "A connection whose client vanished is cancelled, drained and rolled back within "
			"this time, or closed."},

	{IN_POOL("monitor_interval", monitor_interval), DURATION("5s", 100 * MS), .flags = KEY_ZERO,
	 .heading = "Watching the hosts",
	 .description = "Each host is probed this often, over one connection more: does it answer, is it primary or "
			"standby, how many connections has it left; 0 is never."},
	{IN_POOL("monitor_user", monitor_user), TEXT(KEY_STRING),
	 .description = "Who probes; empty is user, or else auth_user, and where none of them has a plaintext "
			"password a host is only asked whether it takes connections."},
	{IN_POOL("monitor_password", monitor_password), TEXT(KEY_SECRET), .description = "Its password."},
	{IN_POOL("monitor_password_file", monitor_password), TEXT(KEY_SECRET_FILE),
	 .description = "A file whose first line is its password."},
	{IN_POOL("monitor_database", monitor_database), TEXT(KEY_STRING),
	 .description = "The database to probe; empty is the pool's own."},

	{IN_POOL("auth_user", auth_user), TEXT(KEY_STRING),
	 .heading = "Asking the database for users' secrets",
	 .description = "The user who looks up the secrets of clients that are not listed here; empty is not "
			"to look up."},
	{IN_POOL("auth_password", auth_password), TEXT(KEY_SECRET),
	 .description = "Its password; empty is, with postgresql, what [user:NAME] or auth_file says of it."},
	{IN_POOL("auth_password_file", auth_password), TEXT(KEY_SECRET_FILE),
	 .description = "A file whose first line is its password."},
	{IN_POOL("auth_database", auth_database), TEXT(KEY_STRING),
	 .description = "The database to ask; empty is the pool's own."},
	{IN_POOL("auth_query", auth_query), TEXT(KEY_SQL),
	 .description = "Takes a user's name as $1 (mysql: as ?) and gives a row of name and secret; empty asks "
			"pg_catalog.pg_shadow and heeds VALID UNTIL, or mysql's table of accounts for one that is not "
			"locked."},
	{IN_POOL("auth_cache_ttl", auth_cache_ttl), DURATION("30s", 10 * MS), .flags = KEY_ZERO,
	 .description = "A secret that was looked up is trusted this long; 0 looks up at each login."},

	{IN_POOL("tls_mode", tls.mode), CHOICE(KEY_ENUM, "prefer", TLS_MODES),
	 .heading = "TLS to the database",
	 .description = "As libpq's sslmode: verify-ca checks who signed the database's certificate, "
			"verify-full also that it is for this host."},
	{IN_POOL("tls_ca_file", tls.ca_file), TEXT(KEY_PATH), .flags = KEY_SYSTEM,
	 .description = "Authorities that vouch for the database's certificate, PEM; system is those of the "
			"system."},
	{IN_POOL("tls_cert_file", tls.cert_file), TEXT(KEY_PATH),
	 .description = "A certificate to show there, PEM."},
	{IN_POOL("tls_key_file", tls.key_file), TEXT(KEY_PATH), .description = "Its private key, PEM."},
	{IN_POOL("tls_crl_file", tls.crl_file), TEXT(KEY_PATH), .description = "Revoked certificates, PEM."},
	{IN_POOL("tls_min_version", tls.min_version), CHOICE(KEY_WORD, "1.2", TLS_VERSIONS),
	 .description = "The oldest version of TLS that is spoken."},
	{IN_POOL("tls_ciphers", tls.ciphers), TEXT(KEY_STRING),
	 .description = "OpenSSL's list of ciphers for TLS 1.2; empty is OpenSSL's choice."},
	{IN_POOL("server_public_key_file", server_public_key_file), TEXT(KEY_PATH),
	 .description = "mysql: the database's public RSA key, PEM: caching_sha2_password hides the password under it "
			"where neither verify-ca, verify-full nor a Unix socket shows that it reaches the right one. Not used by "
			"the monitor and auth_query."},
	{IN_POOL("get_server_public_key", get_server_public_key), BOOL("false"),
	 .description = "mysql: true takes the key that the database sends, as clients' option of this name does: who "
			"sits in between can send one of his own and read the password."},

	/* ---- [user:NAME] ---- */
	{IN_USER("password", password), TEXT(KEY_SECRET), .heading = "",
	 .description = "What the user logs in with, best as ${APP_PASSWORD}; or a stored secret: md5..., "
			"SCRAM-SHA-256$..., *HEX, $A$..."},
	{IN_USER("password_file", password), TEXT(KEY_SECRET_FILE),
	 .description = "A file whose first line is the password or the stored secret."},
	{IN_USER("pool", pool), TEXT(KEY_STRING),
	 .description = "mysql: the pool of this user's clients when they name no schema that a pool bears."},
	{IN_USER("max_connections", max_connections), INTEGER("0", 1, 10000000, "clients"), .flags = KEY_ZERO,
	 .description = "Clients of this user that may be connected; 0 is max_connections_per_user."},
	{IN_USER("max_size", max_size), INTEGER("0", 1, 100000, "connections"), .flags = KEY_ZERO,
	 .description = "The bound of this user's connections in each pool, in place of the pool's max_size_per_user; 0 is "
			"as the pool says."},
	{IN_USER("query_timeout", query_timeout), OVERRIDE, .description = "For this user in place of the pool's."},
	{IN_USER("transaction_timeout", transaction_timeout), OVERRIDE,
	 .description = "For this user in place of the pool's."},
	{IN_USER("idle_transaction_timeout", idle_transaction_timeout), OVERRIDE,
	 .description = "For this user in place of the pool's."},
	{IN_USER("client_idle_timeout", client_idle_timeout), OVERRIDE,
	 .description = "For this user in place of the pool's."},
	{IN_USER("client_login_timeout", client_login_timeout), OVERRIDE,
	 .description = "For this user in place of the pool's."},
};

enum { KEY_COUNT = sizeof(KEYS) / sizeof(KEYS[0]) };

const struct section_schema *schema_section(enum section_kind kind) {
	return &SECTIONS[kind];
}

const struct config_key *schema_keys(enum section_kind kind, size_t *count) {
	size_t first = 0, end;

	while (first < KEY_COUNT && KEYS[first].section != kind)
		first++;
	for (end = first; end < KEY_COUNT && KEYS[end].section == kind;)
		end++;
	*count = end - first;
	return &KEYS[first];
}

int schema_find(enum section_kind kind, const char *name) {
	size_t count;
	const struct config_key *keys = schema_keys(kind, &count);

	for (size_t i = 0; i < count; i++)
		if (strcmp(keys[i].name, name) == 0)
			return (int)i;
	return -1;
}
