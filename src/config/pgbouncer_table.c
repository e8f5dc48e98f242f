#include "config/pgbouncer_table.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"

static const char *const POOL_MODES[] = {"session", "transaction", "statement", NULL};
static const char *const AUTH_TYPES[] = {"any",	 "trust", "plain", "md5", "cert",
					 "hba", "ldap",	 "pam",	  "scram-sha-256", NULL};
static const char *const SSLMODES[] = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full", NULL};
static const char *const BALANCES[] = {"disable", "round-robin", NULL};
static const char *const TARGETS[] = {"any", "read-write", "read-only", "primary", "standby", NULL};

#define MAIN(key, kind, text) .scope = PGB_MAIN, .name = key, .type = kind, .default_text = text
#define DATABASE(key, kind) .scope = PGB_DATABASE, .name = key, .type = kind
#define USER(key, kind) .scope = PGB_USER, .name = key, .type = kind
#define PEER(key, kind) \
	.scope = PGB_PEER, .name = key, .type = kind, .fate = PGB_IGNORED, .why = "see [peers]"
#define TO(ours) .fate = PGB_TRANSLATED, .becomes = ours
#define BUT(text) .why = text
#define IGNORED(text) .fate = PGB_IGNORED, .why = text
#define BUFFERS IGNORED("buffers are sized by what is under way, not by a setting")
#define NO_LIBRARY IGNORED("names are looked up by the system's own resolver, as everything else there does")
#define CIPHERS13 IGNORED("OpenSSL's own choice for TLS 1.3 holds")

static const struct pgb_key KEYS[] = {
	{MAIN("admin_users", PGB_TEXT, ""), TO("[forebay] admin_users")},
	{MAIN("application_name_add_host", PGB_INT, "0"),
	 IGNORED("the name that the application gives itself is passed on as it is; SHOW CLIENTS has its address")},
	{MAIN("auth_dbname", PGB_TEXT, NULL), TO("[pool] auth_database"),
	 BUT("asked on the hosts of the pool itself")},
	{MAIN("auth_file", PGB_TEXT, NULL), TO("[forebay] auth_file")},
	{MAIN("auth_hba_file", PGB_TEXT, ""), TO("[listener] hba_file")},
	{MAIN("auth_ident_file", PGB_TEXT, NULL), TO("[listener] ident_file")},
	{MAIN("auth_ldap_options", PGB_TEXT, NULL), IGNORED("Forebay does not ask LDAP")},
	{MAIN("auth_query", PGB_TEXT,
	      "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END FROM pg_authid "
	      "WHERE rolname=$1 AND rolcanlogin"),
	 TO("[pool] auth_query"), BUT("answers are kept for auth_cache_ttl")},
	{MAIN("auth_type", PGB_CHOICE, "md5"), TO("[listener] auth"), .choices = AUTH_TYPES,
	 BUT("any is trust for everybody; pam and ldap are password, against auth_file and auth_query")},
	{MAIN("auth_user", PGB_TEXT, NULL), TO("[pool] auth_user")},
	{MAIN("autodb_idle_timeout", PGB_TIME, "3600"),
	 IGNORED("a pool made from \"*\" is kept; its connections go by server_idle_timeout")},
	{MAIN("cancel_wait_timeout", PGB_TIME, "10"), IGNORED("a cancel request waits for no place in a pool")},
	{MAIN("client_idle_timeout", PGB_TIME, "0"), TO("[pool] client_idle_timeout")},
	{MAIN("client_login_timeout", PGB_TIME, "60"), TO("[forebay] client_login_timeout")},
	{MAIN("client_tls13_ciphers", PGB_TEXT, NULL), CIPHERS13},
	{MAIN("client_tls_ca_file", PGB_TEXT, ""), TO("[listener] tls_ca_file")},
	{MAIN("client_tls_cert_file", PGB_TEXT, ""), TO("[listener] tls_cert_file")},
	{MAIN("client_tls_ciphers", PGB_TEXT, "default"), TO("[listener] tls_ciphers")},
	{MAIN("client_tls_dheparams", PGB_TEXT, "auto"), IGNORED("OpenSSL chooses the parameters, the 1024-bit ones never")},
	{MAIN("client_tls_ecdhcurve", PGB_TEXT, "auto"), IGNORED("OpenSSL chooses the curve")},
	{MAIN("client_tls_key_file", PGB_TEXT, ""), TO("[listener] tls_key_file")},
	{MAIN("client_tls_protocols", PGB_TEXT, "secure"), TO("[listener] tls_min_version"),
	 BUT("nothing older than TLS 1.2 is spoken")},
	{MAIN("client_tls_sslmode", PGB_CHOICE, "disable"), TO("[listener] tls_mode"), .choices = SSLMODES},
	{MAIN("conffile", PGB_TEXT, NULL), IGNORED("the file is the one that the command line names")},
	{MAIN("default_pool_size", PGB_INT, "20"), TO("[pool] max_size, max_size_per_user")},
	{MAIN("disable_pqexec", PGB_INT, "0"), IGNORED("simple queries cannot be forbidden")},
	{MAIN("dns_max_ttl", PGB_TIME, "15"), TO("[forebay] dns_refresh"),
	 BUT("names are looked up anew that often, not only when a connection is opened")},
	{MAIN("dns_nxdomain_ttl", PGB_TIME, "15"), NO_LIBRARY},
	{MAIN("dns_zone_check_period", PGB_TIME, "0"), NO_LIBRARY},
	{MAIN("idle_transaction_timeout", PGB_TIME, "0"), TO("[pool] idle_transaction_timeout"),
	 BUT("the transaction is rolled back and the client told so; it stays connected")},
	{MAIN("ignore_startup_parameters", PGB_TEXT, ""), TO("[listener] ignore_startup_parameters"),
	 BUT("parameters that are not named are not refused: they are settings of the client's")},
	{MAIN("job_name", PGB_TEXT, "pgbouncer"), IGNORED("it names a service of Windows")},
	{MAIN("listen_addr", PGB_TEXT, ""), TO("[listener] listen")},
	{MAIN("listen_backlog", PGB_INT, "128"), TO("[listener] backlog")},
	{MAIN("listen_port", PGB_INT, "6432"), TO("[listener] listen")},
	{MAIN("log_connections", PGB_INT, "1"), TO("[forebay] log_connections")},
	{MAIN("log_disconnections", PGB_INT, "1"), TO("[forebay] log_connections"),
	 BUT("one setting for both")},
	{MAIN("log_pooler_errors", PGB_INT, "1"), IGNORED("errors that clients are told are logged by log_level")},
	{MAIN("log_stats", PGB_INT, "1"), IGNORED("statistics are on the console and in /metrics, not in the log")},
	{MAIN("logfile", PGB_TEXT, ""), IGNORED("the log goes to stderr; the service manager or a redirection puts it into a file")},
	{MAIN("login_notify_message", PGB_TEXT, ""), IGNORED("nothing is said to a client at login")},
	{MAIN("max_client_conn", PGB_INT, "100"), TO("[forebay] max_clients")},
	{MAIN("max_db_client_connections", PGB_INT, "0"), TO("[pool] max_connections")},
	{MAIN("max_db_connections", PGB_INT, "0"), TO("[pool] max_size")},
	{MAIN("max_packet_size", PGB_INT, "2147483647"), IGNORED("a message is passed on as it comes, whatever its length")},
	{MAIN("max_prepared_statements", PGB_INT, "200"), TO("[pool] max_prepared_statements")},
	{MAIN("max_user_client_connections", PGB_INT, "0"), TO("[forebay] max_connections_per_user")},
	{MAIN("max_user_connections", PGB_INT, "0"), TO("[pool] max_size_per_user"),
	 BUT("in each pool by itself, not over all")},
	{MAIN("min_pool_size", PGB_INT, "0"), TO("[pool] min_idle"),
	 BUT("so many idle ones are kept ready, for all users of the pool together")},
	{MAIN("peer_id", PGB_INT, "0"), IGNORED("one Forebay uses all CPUs, so cancel requests come to where they belong")},
	{MAIN("pidfile", PGB_TEXT, ""), TO("[forebay] pid_file")},
	{MAIN("pkt_buf", PGB_INT, "4096"), BUFFERS},
	{MAIN("pool_idle_timeout", PGB_TIME, "0"), IGNORED("an empty pool costs next to nothing and keeps its statistics")},
	{MAIN("pool_mode", PGB_CHOICE, "session"), TO("[pool] pool_mode"), .choices = POOL_MODES},
	{MAIN("query_timeout", PGB_TIME, "0"), TO("[pool] query_timeout"),
	 BUT("the query is cancelled; the client gets its error and stays connected")},
	{MAIN("query_wait_notify", PGB_INT, "5"), TO("[pool] wait_notice_after")},
	{MAIN("query_wait_timeout", PGB_TIME, "120"), TO("[pool] acquire_timeout")},
	{MAIN("reserve_pool_size", PGB_INT, "0"), TO("[pool] max_size, max_size_per_user"),
	 BUT("added to the size from the start, not after reserve_pool_timeout")},
	{MAIN("reserve_pool_timeout", PGB_TIME, "5"),
	 IGNORED("the reserve is part of the pool from the start (0: it is none)")},
	{MAIN("resolv_conf", PGB_TEXT, ""), NO_LIBRARY},
	{MAIN("sbuf_loopcnt", PGB_INT, "5"), BUFFERS},
	{MAIN("scram_iterations", PGB_INT, "4096"), IGNORED("secrets made from plaintext passwords have 4096 iterations")},
	{MAIN("server_check_delay", PGB_TIME, "30"), TO("[pool] alive_bypass_window"),
	 BUT("with a server_check_query alone; the look at the socket is made after half a second")},
	{MAIN("server_check_query", PGB_TEXT, "<empty>"), TO("[pool] validation_query"),
	 BUT("<empty> is a look at the socket, which needs no round trip")},
	{MAIN("server_connect_timeout", PGB_TIME, "15"), TO("[pool] connect_timeout")},
	{MAIN("server_fast_close", PGB_INT, "0"), IGNORED("in session mode a server is replaced when its client has gone")},
	{MAIN("server_idle_timeout", PGB_TIME, "600"), TO("[pool] idle_timeout")},
	{MAIN("server_lifetime", PGB_TIME, "3600"), TO("[pool] max_lifetime"),
	 BUT("less a random part of up to 25%, so that they do not all go at once")},
	{MAIN("server_login_retry", PGB_TIME, "15"),
	 IGNORED("a host that fails is tried again after 10ms, doubling to 5s; meanwhile clients get an error at once where "
		 "no connection is left (when_unavailable = fail)")},
	{MAIN("server_reset_query", PGB_TEXT, "DISCARD ALL"), TO("[pool] reset_sql")},
	{MAIN("server_reset_query_always", PGB_INT, "0"),
	 IGNORED("in transaction mode a client's settings are put back, but temporary tables, session advisory locks and "
		 "currval() stay on the server for the next client; where that matters, use pool_mode = session, which runs "
		 "server_reset_query")},
	{MAIN("server_round_robin", PGB_INT, "0"), IGNORED("the connection used last is used next")},
	{MAIN("server_tls13_ciphers", PGB_TEXT, NULL), CIPHERS13},
	{MAIN("server_tls_ca_file", PGB_TEXT, ""), TO("[pool] tls_ca_file")},
	{MAIN("server_tls_cert_file", PGB_TEXT, ""), TO("[pool] tls_cert_file")},
	{MAIN("server_tls_ciphers", PGB_TEXT, "default"), TO("[pool] tls_ciphers")},
	{MAIN("server_tls_key_file", PGB_TEXT, ""), TO("[pool] tls_key_file")},
	{MAIN("server_tls_protocols", PGB_TEXT, "secure"), TO("[pool] tls_min_version"),
	 BUT("nothing older than TLS 1.2 is spoken")},
	{MAIN("server_tls_sslmode", PGB_CHOICE, "prefer"), TO("[pool] tls_mode"), .choices = SSLMODES},
	{MAIN("service_name", PGB_TEXT, NULL), IGNORED("it names a service of Windows")},
	{MAIN("so_reuseport", PGB_INT, "0"), IGNORED("one Forebay uses all CPUs ([forebay] workers); several on one port are not needed")},
	{MAIN("stats_period", PGB_INT, "60"), IGNORED("SHOW STATS averages over the last minute")},
	{MAIN("stats_users", PGB_TEXT, ""), TO("[forebay] stats_users")},
	{MAIN("suspend_timeout", PGB_TIME, "10"), IGNORED("there is no SUSPEND")},
	{MAIN("syslog", PGB_INT, "0"), TO("[forebay] log_destination"),
	 BUT("the log goes there instead of to stderr")},
	{MAIN("syslog_facility", PGB_TEXT, "daemon"), TO("[forebay] log_facility")},
	{MAIN("syslog_ident", PGB_TEXT, "pgbouncer"), TO("[forebay] log_ident")},
	{MAIN("tcp_defer_accept", PGB_INT, "1"), IGNORED("a client is accepted when it connects")},
	{MAIN("tcp_keepalive", PGB_INT, "1"), TO("[forebay] tcp_keepalive_idle")},
	{MAIN("tcp_keepcnt", PGB_INT, "0"), IGNORED("a peer is given up after twice tcp_keepalive_idle")},
	{MAIN("tcp_keepidle", PGB_INT, "0"), TO("[forebay] tcp_keepalive_idle"),
	 BUT("where it is not set, 30s, not the system's two hours")},
	{MAIN("tcp_keepintvl", PGB_INT, "0"), IGNORED("a peer is given up after twice tcp_keepalive_idle")},
	{MAIN("tcp_socket_buffer", PGB_INT, "0"), BUFFERS},
	{MAIN("tcp_user_timeout", PGB_INT, "0"), TO("[forebay] tcp_user_timeout")},
	{MAIN("track_extra_parameters", PGB_TEXT, "IntervalStyle"), IGNORED("every setting of a client is kept, whichever it is")},
	{MAIN("transaction_timeout", PGB_TIME, "0"), TO("[pool] transaction_timeout"),
	 BUT("the transaction is rolled back and the client told so; it stays connected")},
	{MAIN("unix_socket_dir", PGB_TEXT, "/tmp"), TO("[listener] listen, [pool] hosts"),
	 BUT("sockets in the abstract namespace (@) are not supported")},
	{MAIN("unix_socket_group", PGB_TEXT, ""), TO("[listener] unix_socket_group")},
	{MAIN("unix_socket_mode", PGB_INT, "0777"), TO("[listener] unix_socket_mode")},
	{MAIN("user", PGB_TEXT, NULL), TO("[forebay] run_as")},
	{MAIN("verbose", PGB_INT, NULL), TO("[forebay] log_level")},

	{DATABASE("application_name", PGB_TEXT), TO("[pool] application_name")},
	{DATABASE("auth_dbname", PGB_TEXT), TO("[pool] auth_database"), BUT("asked on the hosts of the pool itself")},
	{DATABASE("auth_query", PGB_TEXT), TO("[pool] auth_query")},
	{DATABASE("auth_user", PGB_TEXT), TO("[pool] auth_user")},
	{DATABASE("client_encoding", PGB_TEXT), TO("[pool] init_sql"), BUT("by a SET on each new connection")},
	{DATABASE("connect_query", PGB_TEXT), TO("[pool] init_sql"),
	 BUT("a connection on which it fails is closed, not used all the same")},
	{DATABASE("datestyle", PGB_TEXT), TO("[pool] init_sql"), BUT("by a SET on each new connection")},
	{DATABASE("dbname", PGB_TEXT), TO("[pool] database")},
	{DATABASE("host", PGB_TEXT), TO("[pool] hosts"), BUT("a host that does not answer is passed over")},
	{DATABASE("load_balance_hosts", PGB_CHOICE), TO("[pool] host_order"), .choices = BALANCES},
	{DATABASE("max_db_client_connections", PGB_LOOSE), TO("[pool] max_connections")},
	{DATABASE("max_db_connections", PGB_LOOSE), TO("[pool] max_size")},
	{DATABASE("min_pool_size", PGB_LOOSE), TO("[pool] min_idle"), BUT("for all users of the pool together")},
	{DATABASE("password", PGB_TEXT), TO("[pool] password")},
	{DATABASE("pool_mode", PGB_CHOICE), TO("[pool] pool_mode"), .choices = POOL_MODES},
	{DATABASE("pool_size", PGB_LOOSE), TO("[pool] max_size, max_size_per_user")},
	{DATABASE("port", PGB_LOOSE), TO("[pool] hosts")},
	{DATABASE("query_wait_timeout", PGB_LOOSE), TO("[pool] acquire_timeout")},
	{DATABASE("reserve_pool", PGB_LOOSE), TO("[pool] max_size, max_size_per_user"),
	 BUT("added to the size from the start")},
	{DATABASE("reserve_pool_size", PGB_LOOSE), TO("[pool] max_size, max_size_per_user"),
	 BUT("added to the size from the start")},
	{DATABASE("server_lifetime", PGB_LOOSE), TO("[pool] max_lifetime")},
	{DATABASE("target_session_attrs", PGB_CHOICE), TO("[pool] target"), .choices = TARGETS,
	 BUT("hosts are watched: a connection goes when its host's role changes")},
	{DATABASE("timezone", PGB_TEXT), TO("[pool] init_sql"), BUT("by a SET on each new connection")},
	{DATABASE("user", PGB_TEXT), TO("[pool] user")},

	{USER("client_idle_timeout", PGB_LOOSE), TO("[user] client_idle_timeout")},
	{USER("idle_transaction_timeout", PGB_LOOSE), TO("[user] idle_transaction_timeout")},
	{USER("max_user_client_connections", PGB_LOOSE), TO("[user] max_connections")},
	{USER("max_user_connections", PGB_LOOSE), TO("[user] max_size"), BUT("in each pool by itself, not over all")},
	{USER("pool_mode", PGB_CHOICE), .choices = POOL_MODES,
	 IGNORED("a pool has one mode for all its users; give the database a second name in [databases] with the other one")},
	{USER("pool_size", PGB_LOOSE), TO("[user] max_size")},
	{USER("query_timeout", PGB_LOOSE), TO("[user] query_timeout")},
	{USER("query_wait_timeout", PGB_LOOSE), IGNORED("all clients of a pool wait as long (query_wait_timeout of the database)")},
	{USER("reserve_pool_size", PGB_LOOSE), TO("[user] max_size"), BUT("added to the size from the start")},
	{USER("transaction_timeout", PGB_LOOSE), TO("[user] transaction_timeout")},

	{PEER("host", PGB_TEXT)},
	{PEER("pool_size", PGB_LOOSE)},
	{PEER("port", PGB_LOOSE)},
};

enum { KEY_COUNT = sizeof KEYS / sizeof KEYS[0] };

const struct pgb_key *pgb_keys(enum pgb_scope scope, size_t *count) {
	size_t first = 0, end;

	while (first < KEY_COUNT && KEYS[first].scope != scope)
		first++;
	for (end = first; end < KEY_COUNT && KEYS[end].scope == scope;)
		end++;
	*count = end - first;
	return &KEYS[first];
}

int pgb_find(enum pgb_scope scope, const char *name) {
	size_t count;
	const struct pgb_key *keys = pgb_keys(scope, &count);

	for (size_t i = 0; i < count; i++)
		if (strcmp(keys[i].name, name) == 0)
			return (int)i;
	return -1;
}

bool pgb_int(const char *text, int *out) {
	char *end;

	errno = 0;
	long value = strtol(text, &end, 0);
	if (end == text || *end || errno || value < INT_MIN || value > INT_MAX)
		return false;
	*out = (int)value;
	return true;
}

bool pgb_time(const char *text, uint64_t *ns) {
	static const double YEAR = 365. * 86400.;
	char *end;

	errno = 0;
	double value = strtod(text, &end);
	if (end == text || *end || errno || !(value >= 0.))
		return false;
	/* PgBouncer counts in microseconds */
	*ns = (uint64_t)((value > YEAR ? YEAR : value) * 1e6) * NS_PER_US;
	return true;
}

int pgb_loose(const char *text) {
	long value = strtol(text, NULL, 10);

	return value > INT_MAX ? INT_MAX : value < INT_MIN ? INT_MIN : (int)value;
}

int pgb_choice(const char *const *choices, const char *text) {
	for (int i = 0; choices[i]; i++)
		if (strcasecmp(choices[i], text) == 0)
			return i;
	return -1;
}

bool pgb_valid(const struct pgb_key *key, const char *text, char *problem, size_t room) {
	uint64_t ns;
	int number;

	switch (key->type) {
	case PGB_INT:
		snprintf(problem, room, "expected a whole number");
		return pgb_int(text, &number);
	case PGB_TIME:
		snprintf(problem, room, "expected a number of seconds, such as 30 or 0.5");
		return pgb_time(text, &ns);
	case PGB_CHOICE:
		snprintf(problem, room, "expected one of:");
		for (const char *const *choice = key->choices; *choice; choice++)
			snprintf(problem + strlen(problem), room - strlen(problem), "%s %s", choice == key->choices ? "" : ",",
				 *choice);
		return pgb_choice(key->choices, text) >= 0;
	case PGB_TEXT:
	case PGB_LOOSE:
		break;
	}
	return true;
}
