/*
 * [databases] and [users] of a pgbouncer.ini as [pool:...] and [user:...].
 *
 * Sizes. PgBouncer has a pool for each pair of user and database, and bounds each by itself. Ours is one for the database,
 * and max_size bounds it over all users. So:
 * - With user= there is one pair: max_size is its size.
 * - Without, the size becomes max_size_per_user (and max_size of a [user:...] that has one of its own), and max_size what
 *   all users together can come to: max_db_connections where it is set; else the sizes of all users of auth_file and
 *   [users]; else, where auth_query or auth_type lets in others, as many as there may be clients.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "config/pgbouncer_private.h"
#include "config/text_units.h"

enum { SIZE_MOST = 100000, CLIENTS_MOST = 10000000, STATEMENTS_MOST = 1000000, HOSTS_MOST = 16 };

/* A database on its way. */
struct making {
	struct pgb *p;
	const struct pgb_entry *db;
	const char *label;
	bool forced; /* it has a user of its own */
};

/* ---- values ---- */

static const struct pgb_given *param(const struct making *m, const char *name) {
	return pgb_param(m->db, PGB_DATABASE, name);
}

/* Where a value comes from that may be the database's own or of [pgbouncer]. */
static const struct pgb_line *origin(const struct making *m, const struct pgb_given *own, const struct pgb_given *wide) {
	return own && own->given ? &own->at : wide && wide->given ? &wide->at : &m->db->at;
}

/* A number of the database, or that of [pgbouncer]; negative is not given. */
static int number(const struct making *m, const char *name, const char *wide_name, const struct pgb_line **at) {
	const struct pgb_given *own = param(m, name), *wide = pgb_value(m->p, wide_name);

	*at = origin(m, own, wide);
	if (own->given && pgb_loose(own->text) >= 0)
		return pgb_loose(own->text);
	return pgb_number(m->p, wide_name);
}

static uint32_t clamped(struct pgb *p, const char *section, const struct pgb_line *at, const char *what, int64_t n,
			uint32_t low, uint32_t high) {
	uint32_t taken = n < low ? low : n > high ? high : (uint32_t)n;

	if (taken != n)
		pgb_remark(p, section, at, "%s: %lld is taken as %u", what, (long long)n, taken);
	return taken;
}

/* ---- hosts ---- */

/* Where a database without a host is: PostgreSQL's Unix socket. */
static const char *socket_dir(struct making *m) {
	const struct pgb_given *dir = pgb_value(m->p, "unix_socket_dir");

	if (dir->text[0] && dir->text[0] != '@')
		return pgb_path(m->p, dir->text);
	pgb_remark(m->p, m->label, &m->db->at,
		   "it has no host, and unix_socket_dir names no folder either: PostgreSQL's socket is looked for in /tmp");
	return "/tmp";
}

static const char *host_address(struct making *m, const char *host, int port) {
	const char *form = host[0] == '/' && port == 5432 ? "%s" : strchr(host, ':') && host[0] != '/' ? "[%s]:%d" : "%s:%d";
	char address[400];

	if (strcmp(form, "%s") == 0)
		snprintf(address, sizeof address, "%s", host);
	else if (form[0] == '[')
		snprintf(address, sizeof address, "[%s]:%d", host, port);
	else
		snprintf(address, sizeof address, "%s:%d", host, port);
	return arena_strdup(m->p->arena, address);
}

static size_t count_elements(const char *list) {
	size_t n = *list != 0;

	for (; *list; list++)
		n += *list == ',';
	return n;
}

/* All hosts, once each. */
static const char *addresses(struct making *m, size_t *count) {
	const struct pgb_given *host = param(m, "host"), *port = param(m, "port");
	const char *hosts = pgb_list(m->p, host->given ? host->text : socket_dir(m)), *list = "";
	char one[300];

	*count = 0;
	if (host->given && count_elements(host->text) != count_elements(hosts))
		pgb_remark(m->p, m->label, &host->at, "a host that is listed twice counts once");
	for (const char *at = hosts; *at; at += strspn(at, ", ")) {
		size_t len = strcspn(at, ",");
		snprintf(one, sizeof one, "%.*s", (int)len, at);
		at += len;
		if (one[0] == '@')
			pgb_remark(m->p, m->label, &host->at, "host = %s: sockets in the abstract namespace are not supported", one);
		if (*count == HOSTS_MOST)
			pgb_remark(m->p, m->label, &host->at, "hosts beyond the first %d are ignored", HOSTS_MOST);
		if (++*count > HOSTS_MOST)
			continue;
		const char *address = host_address(m, one, port->given ? pgb_loose(port->text) : 5432);
		const char *longer = address ? arena_printf(m->p->arena, "%s%s%s", list, *list ? ", " : "", address) : NULL;
		if (longer)
			list = longer;
	}
	return list;
}

static void emit_hosts(struct making *m) {
	const struct pgb_given *host = param(m, "host"), *target = param(m, "target_session_attrs");
	size_t count;
	const char *list = addresses(m, &count);
	const struct pgb_given *balance = param(m, "load_balance_hosts");
	bool first = balance->given && strcasecmp(balance->text, "disable") == 0;

	pgb_emit(m->p, m->label, "hosts", origin(m, host, NULL), "%s", list);
	if (count > 1 && !first)
		pgb_emit(m->p, m->label, "host_order", origin(m, balance, host), "round-robin");
	if (!target->given)
		return;
	bool primary = strcasecmp(target->text, "primary") == 0 || strcasecmp(target->text, "read-write") == 0;
	bool standby = strcasecmp(target->text, "standby") == 0 || strcasecmp(target->text, "read-only") == 0;
	if (strncasecmp(target->text, "read", 4) == 0)
		pgb_remark(m->p, m->label, &target->at,
			   "target_session_attrs = %s is taken as %s: default_transaction_read_only is not looked at", target->text,
			   primary ? "primary" : "standby");
	pgb_emit(m->p, m->label, "target", &target->at, "%s", primary ? "primary" : standby ? "standby" : "any");
}

/* ---- sizes ---- */

/* Connections of one user; the reserve included. */
static uint32_t size_per_user(struct making *m, const struct pgb_line **at) {
	const struct pgb_line *reserve_at, *most_at = &pgb_value(m->p, "max_user_connections")->at;
	int size = number(m, "pool_size", "default_pool_size", at);
	const struct pgb_given *older = param(m, "reserve_pool");
	int reserve = number(m, "reserve_pool_size", "reserve_pool_size", &reserve_at);
	int most = pgb_number(m->p, "max_user_connections");

	if (older->given && !param(m, "reserve_pool_size")->given) {
		reserve = pgb_loose(older->text);
		reserve_at = &older->at;
	}
	if (reserve > 0 && pgb_duration(m->p, "reserve_pool_timeout") > 0)
		pgb_remark(m->p, m->label, reserve_at,
			   "the %d connections of reserve_pool_size are part of the pool from the start, not after "
			   "reserve_pool_timeout",
			   reserve);
	else
		reserve = 0;
	uint32_t taken = clamped(m->p, m->label, *at, "pool_size", (int64_t)size + reserve, 1, SIZE_MOST);
	if (most > 0 && (uint32_t)most < taken) {
		pgb_remark(m->p, m->label, most_at,
			   "max_user_connections = %d bounds each user in each pool by itself, not over all pools", most);
		*at = most_at;
		taken = (uint32_t)most;
	}
	return taken;
}

/* Of a user of [users], in any pool; 0: it has none of its own. */
static uint32_t own_size(const struct pgb_entry *user, const struct pgb_line **at) {
	const struct pgb_given *size = pgb_param(user, PGB_USER, "pool_size");
	const struct pgb_given *reserve = pgb_param(user, PGB_USER, "reserve_pool_size");
	const struct pgb_given *most = pgb_param(user, PGB_USER, "max_user_connections");
	int64_t n = size->given && pgb_loose(size->text) >= 0 ? pgb_loose(size->text) : -1;

	*at = size->given ? &size->at : &most->at;
	if (n >= 0 && reserve->given && pgb_loose(reserve->text) > 0)
		n += pgb_loose(reserve->text);
	if (most->given && pgb_loose(most->text) > 0 && (n < 0 || pgb_loose(most->text) < n)) {
		n = pgb_loose(most->text);
		*at = &most->at;
	}
	return n < 0 ? 0 : n < 1 ? 1 : n > SIZE_MOST ? SIZE_MOST : (uint32_t)n;
}

/* Whether users may come that neither auth_file nor [users] names. */
static bool is_open(const struct making *m) {
	static const char *const TYPES[] = {"any", "pam", "ldap"};
	const struct pgb_given *own = param(m, "auth_user"), *wide = pgb_value(m->p, "auth_user");
	const char *type = pgb_value(m->p, "auth_type")->text;

	for (size_t i = 0; i < sizeof TYPES / sizeof TYPES[0]; i++)
		if (strcasecmp(type, TYPES[i]) == 0)
			return true;
	return own->given || (wide->text && wide->text[0]);
}

/* What all users together can come to. */
static uint32_t size_of_all(const struct making *m, uint32_t each) {
	int clients = pgb_number(m->p, "max_client_conn");
	uint64_t most = clients > (int)each ? (uint64_t)clients : each, all = 0;
	const struct pgb_line *at;
	uint32_t counted = 0;

	for (const struct pgb_entry *user = m->p->entries[PGB_USER]; user; user = user->next, counted++) {
		uint32_t own = own_size(user, &at);
		all += own ? own : each;
	}
	all += (uint64_t)(m->p->known_users - counted) * each;
	if (is_open(m) || all > most)
		all = most;
	if (all < each)
		all = each;
	return all > SIZE_MOST ? SIZE_MOST : (uint32_t)all;
}

/* The user's own, where the database has a user that is in [users]. */
static uint32_t size_of_forced(const struct making *m, uint32_t size, const struct pgb_line **at) {
	const struct pgb_entry *user = name_index_find(&m->p->by_name[PGB_USER], param(m, "user")->text);
	const struct pgb_line *own_at;
	uint32_t own = user ? own_size(user, &own_at) : 0;

	if (own)
		*at = own_at;
	return own ? own : size;
}

static void emit_min_idle(struct making *m, uint32_t max_size) {
	const struct pgb_line *at;
	int least = number(m, "min_pool_size", "min_pool_size", &at);

	if (least < 0)
		least = 0;
	if ((uint32_t)least > max_size)
		least = (int)max_size;
	if (least > 0 && !m->forced)
		pgb_remark(m->p, m->label, at,
			   "min_pool_size = %d: so many idle connections are kept ready for the users of the pool together, not "
			   "for each",
			   least);
	pgb_emit(m->p, m->label, "min_idle", at, "%d", least);
}

static void emit_sizes(struct making *m) {
	const struct pgb_line *at, *most_at, *clients_at;
	uint32_t each = size_per_user(m, &at), all;
	int most = number(m, "max_db_connections", "max_db_connections", &most_at);
	int clients = number(m, "max_db_client_connections", "max_db_client_connections", &clients_at);

	if (m->forced)
		all = each = size_of_forced(m, each, &at);
	else
		all = size_of_all(m, each);
	if (most > 0 && (m->forced ? (uint32_t)most < all : true)) {
		all = clamped(m->p, m->label, most_at, "max_db_connections", most, 1, SIZE_MOST);
	} else {
		most_at = at;
		if (!m->forced)
			pgb_remark(m->p, m->label, at,
				   "PgBouncer bounds each user's connections (here max_size_per_user), and not those of all users: "
				   "max_size = %u is %s; max_db_connections would set it",
				   all,
				   is_open(m) || all < each * (uint64_t)m->p->known_users ? "as many as there may be clients"
											  : "what the known users can come to");
	}
	pgb_emit(m->p, m->label, "max_size", most_at, "%u", all);
	if (!m->forced)
		pgb_emit(m->p, m->label, "max_size_per_user", at, "%u", each);
	emit_min_idle(m, all);
	if (clients > 0)
		pgb_emit(m->p, m->label, "max_connections", clients_at, "%u",
			 clamped(m->p, m->label, clients_at, "max_db_client_connections", clients, 1, CLIENTS_MOST));
}

/* ---- times ---- */

/* A setting of [pgbouncer] with the same meaning for every pool. */
static void emit_wide_duration(struct making *m, const char *key, const char *name) {
	const struct pgb_given *wide = pgb_value(m->p, name);

	pgb_emit_duration(m->p, m->label, key, origin(m, NULL, wide), name, pgb_duration(m->p, name));
}

static void emit_lifetime(struct making *m) {
	const struct pgb_given *own = param(m, "server_lifetime"), *wide = pgb_value(m->p, "server_lifetime");
	const struct pgb_line *at = origin(m, own, wide);
	int seconds = own->given ? pgb_loose(own->text) : 0;
	uint64_t ns = seconds > 0 ? (uint64_t)seconds * NS_PER_S : pgb_duration(m->p, "server_lifetime");

	if (ns > 365 * 86400 * NS_PER_S)
		ns = 365 * 86400 * NS_PER_S;
	if (ns == 0) {
		/* for PgBouncer: used once */
		pgb_remark(m->p, m->label, at,
			   "server_lifetime = 0 closes a connection after its first use; here one is retired after 10ms");
		ns = 10 * NS_PER_MS;
	}
	pgb_emit_duration(m->p, m->label, "max_lifetime", at, "server_lifetime", ns);
}

static void emit_acquire(struct making *m) {
	const struct pgb_given *own = param(m, "query_wait_timeout"), *wide = pgb_value(m->p, "query_wait_timeout");
	int seconds = own->given ? pgb_loose(own->text) : -1;
	uint64_t ns = seconds >= 0 ? (uint64_t)seconds * NS_PER_S : pgb_duration(m->p, "query_wait_timeout");
	int notify = pgb_number(m->p, "query_wait_notify");

	if (ns > 365 * 86400 * NS_PER_S)
		ns = 365 * 86400 * NS_PER_S;
	pgb_emit_duration(m->p, m->label, "acquire_timeout", origin(m, own, wide), "query_wait_timeout", ns);
	pgb_emit(m->p, m->label, "wait_notice_after", origin(m, NULL, pgb_value(m->p, "query_wait_notify")), "%ds",
		 notify < 0 ? 0 : notify > 31536000 ? 31536000 : notify);
	/* as PgBouncer, where the last login failed and no connection is left */
	pgb_emit(m->p, m->label, "when_unavailable", &m->db->at, "fail");
	const struct pgb_given *connect = pgb_value(m->p, "server_connect_timeout");
	ns = pgb_duration(m->p, "server_connect_timeout");
	pgb_emit_duration(m->p, m->label, "connect_timeout", origin(m, NULL, connect), "server_connect_timeout",
			  ns ? ns : 365 * 86400 * NS_PER_S);
}

static void emit_checks(struct making *m) {
	const struct pgb_given *query = pgb_value(m->p, "server_check_query"), *reset = pgb_value(m->p, "server_reset_query");

	if (query->text[0] && strcmp(query->text, "<empty>") != 0) {
		uint64_t ns = pgb_duration(m->p, "server_check_delay");
		pgb_emit_duration(m->p, m->label, "alive_bypass_window", origin(m, NULL, pgb_value(m->p, "server_check_delay")),
				  "server_check_delay", ns);
		pgb_emit(m->p, m->label, "validation_query", &query->at, "%s", query->text);
	}
	pgb_emit(m->p, m->label, "reset_sql", origin(m, NULL, reset), "%s", reset->text);
}

static void emit_times(struct making *m) {
	emit_acquire(m);
	emit_wide_duration(m, "idle_timeout", "server_idle_timeout");
	emit_lifetime(m);
	emit_checks(m);
	emit_wide_duration(m, "query_timeout", "query_timeout");
	emit_wide_duration(m, "transaction_timeout", "transaction_timeout");
	emit_wide_duration(m, "idle_transaction_timeout", "idle_transaction_timeout");
	emit_wide_duration(m, "client_idle_timeout", "client_idle_timeout");
}

/* ---- what is said to the database ---- */

static void emit_init_sql(struct making *m) {
	static const char *const SETTINGS[] = {"client_encoding", "datestyle", "timezone"};
	const struct pgb_given *query = param(m, "connect_query");
	const struct pgb_line *at = &query->at;
	const char *sql = "";

	for (size_t i = 0; i < sizeof SETTINGS / sizeof SETTINGS[0]; i++) {
		const struct pgb_given *value = param(m, SETTINGS[i]);
		if (!value->given)
			continue;
		at = &value->at;
		const char *more = arena_printf(m->p->arena, "%sSET %s TO %s; ", sql, SETTINGS[i],
						pgb_sql_quoted(m->p, value->text));
		sql = more ? more : sql;
	}
	if (*sql)
		pgb_remark(m->p, m->label, at,
			   "client_encoding, datestyle and timezone are set on each new connection; what a client asks for at its "
			   "login goes before them, and a DISCARD ALL resets them");
	if (query->given)
		at = &query->at;
	const char *all = arena_printf(m->p->arena, "%s%s", sql, query->given ? query->text : "");
	if (all && *all)
		pgb_emit(m->p, m->label, "init_sql", at, "%s", all);
}

/* The database of auth_dbname as PostgreSQL knows it. */
static void emit_auth_database(struct making *m) {
	const struct pgb_given *own = param(m, "auth_dbname"), *wide = pgb_value(m->p, "auth_dbname");
	const struct pgb_given *name = own->given ? own : wide;

	if (!name->text || !name->text[0])
		return;
	const struct pgb_entry *other = name_index_find(&m->p->by_name[PGB_DATABASE], name->text);
	const struct pgb_given *dbname = other ? pgb_param(other, PGB_DATABASE, "dbname") : NULL;
	const struct pgb_given *host = other ? pgb_param(other, PGB_DATABASE, "host") : NULL;
	const char *here = param(m, "host")->given ? param(m, "host")->text : "";
	if (host && strcmp(host->given ? host->text : "", here) != 0)
		pgb_remark(m->p, m->label, &name->at, "auth_dbname = %s is asked for on this pool's own hosts", name->text);
	pgb_emit(m->p, m->label, "auth_database", &name->at, "%s", dbname && dbname->given ? dbname->text : name->text);
}

static void emit_auth(struct making *m) {
	const struct pgb_given *user = param(m, "auth_user"), *query = param(m, "auth_query");

	if (!user->given)
		user = pgb_value(m->p, "auth_user");
	if (!query->given)
		query = pgb_value(m->p, "auth_query");
	if (!user->text || !user->text[0])
		return;
	pgb_emit(m->p, m->label, "auth_user", &user->at, "%s", user->text);
	emit_auth_database(m);
	pgb_emit(m->p, m->label, "auth_query", &query->at, "%s", query->text);
}

/* ---- one database ---- */

static void emit_given(struct making *m, const char *key, const char *name) {
	const struct pgb_given *value = param(m, name);

	if (value->given)
		pgb_emit(m->p, m->label, key, &value->at, "%s", value->text);
}

static void emit_mode(struct making *m) {
	const struct pgb_given *mode = param(m, "pool_mode"), *wide = pgb_value(m->p, "pool_mode");
	const char *const *modes = pgb_keys(PGB_DATABASE, &(size_t){0})[pgb_find(PGB_DATABASE, "pool_mode")].choices;
	const char *text = mode->given ? mode->text : wide->text;

	pgb_emit(m->p, m->label, "pool_mode", origin(m, mode, wide), "%s", modes[pgb_choice(modes, text)]);
}

static void emit_pool(struct pgb *p, const struct pgb_entry *db) {
	struct making m = {.p = p, .db = db, .label = arena_printf(p->arena, "pool:%s", db->name)};
	const struct pgb_given *statements = pgb_value(p, "max_prepared_statements");

	if (!m.label) {
		error_sink_add(p->errors, db->at.file, db->at.line, "out of memory");
		return;
	}
	m.forced = param(&m, "user")->given;
	emit_hosts(&m);
	emit_given(&m, "database", "dbname");
	emit_given(&m, "user", "user");
	emit_given(&m, "password", "password");
	emit_given(&m, "application_name", "application_name");
	emit_mode(&m);
	emit_sizes(&m);
	pgb_emit(p, m.label, "max_prepared_statements", origin(&m, NULL, statements), "%u",
		 clamped(p, m.label, &statements->at, "max_prepared_statements", pgb_number(p, "max_prepared_statements"), 0,
			 STATEMENTS_MOST));
	emit_times(&m);
	emit_init_sql(&m);
	emit_auth(&m);
	pgb_emit_tls(p, m.label, "server_tls_");
}

void pgb_translate_pools(struct pgb *p) {
	for (const struct pgb_entry *db = p->entries[PGB_DATABASE]; db; db = db->next)
		emit_pool(p, db);
	if (!p->entries[PGB_DATABASE])
		pgb_remark(p, "listener:pgbouncer", &p->main_at, "[databases] is empty: nobody can connect to anything but the console");
}

/* ---- users ---- */

static void emit_user_duration(struct pgb *p, const char *label, const struct pgb_entry *user, const char *name) {
	const struct pgb_given *value = pgb_param(user, PGB_USER, name);
	int seconds = value->given ? pgb_loose(value->text) : 0;

	/* 0 is as the pool says, as with PgBouncer */
	if (seconds > 0)
		pgb_emit(p, label, name, &value->at, "%ds", seconds > 31536000 ? 31536000 : seconds);
}

static void emit_user(struct pgb *p, const struct pgb_entry *user) {
	const char *label = arena_printf(p->arena, "user:%s", user->name);
	const struct pgb_given *clients = pgb_param(user, PGB_USER, "max_user_client_connections");
	const struct pgb_line *size_at;

	if (!label) {
		error_sink_add(p->errors, user->at.file, user->at.line, "out of memory");
		return;
	}
	pgb_remark_ignored(p, label, PGB_USER, user->params, NULL);
	int most = clients->given ? pgb_loose(clients->text) : -1;
	/* always there, for a section needs a key to be seen */
	pgb_emit(p, label, "max_connections", clients->given ? &clients->at : &user->at, "%u",
		 most < 0 ? 0 : clamped(p, label, &clients->at, "max_user_client_connections", most, 0, CLIENTS_MOST));
	uint32_t size = own_size(user, &size_at);
	if (size && pgb_param(user, PGB_USER, "max_user_connections")->given)
		pgb_remark(p, label, size_at, "max_user_connections bounds this user in each pool by itself, not over all pools");
	if (size)
		pgb_emit(p, label, "max_size", size_at, "%u", size);
	emit_user_duration(p, label, user, "query_timeout");
	emit_user_duration(p, label, user, "transaction_timeout");
	emit_user_duration(p, label, user, "idle_transaction_timeout");
	emit_user_duration(p, label, user, "client_idle_timeout");
}

void pgb_translate_users(struct pgb *p) {
	for (const struct pgb_entry *user = p->entries[PGB_USER]; user; user = user->next)
		emit_user(p, user);
}
