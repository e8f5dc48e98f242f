#include "control/probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"

bool probe_is_stored_secret(const char *password) {
	return password && ((strncmp(password, "md5", 3) == 0 && strlen(password) == 35) ||
			    strncmp(password, "SCRAM-SHA-256$", 14) == 0);
}

static bool is_libpqs(const char *password) {
	return !probe_is_stored_secret(password);
}

enum probe_login probe_choose(const struct pool_config *pool, probe_plaintext *is_plaintext, bool monitor, const char **user,
			      const char **password) {
	if (monitor && pool->monitor_user && (!pool->monitor_password || is_plaintext(pool->monitor_password))) {
		*user = pool->monitor_user;
		*password = pool->monitor_password;
		return PROBE_MONITOR_USER;
	}
	*user = pool->user;
	*password = pool->password;
	if (pool->user && pool->password && is_plaintext(pool->password))
		return PROBE_POOL_USER;
	if (pool->auth_user && pool->auth_password && is_plaintext(pool->auth_password)) {
		*user = pool->auth_user;
		*password = pool->auth_password;
		return PROBE_AUTH_USER;
	}
	if (pool->user && !pool->password)
		return PROBE_NO_PASSWORD;
	*user = "forebay";
	*password = NULL;
	return PROBE_NOBODY;
}

static enum probe_login choose(const struct pool_config *pool, bool monitor, struct pq_target *target) {
	enum probe_login login = probe_choose(pool, is_libpqs, monitor, &target->user, &target->password);

	target->database = pool->database ? pool->database : strcmp(pool->name, "*") == 0 ? "postgres" : pool->name;
	if (login == PROBE_AUTH_USER && pool->auth_database)
		target->database = pool->auth_database;
	return login;
}

enum probe_login probe_as_application(const struct pool_config *pool, struct pq_target *target) {
	return choose(pool, false, target);
}

enum probe_login probe_as_monitor(const struct pool_config *pool, struct pq_target *target) {
	enum probe_login login = choose(pool, true, target);

	if (pool->monitor_database)
		target->database = pool->monitor_database;
	return login;
}

/*
 * The rows of other users hide backend_type from who may not see them; what has both a user and a database is a
 * client's then. Replay has caught up where it has replayed all that was received: the last transaction may be old.
 */
static const char sql[] =
	"SELECT pg_catalog.current_setting('server_version'), pg_catalog.pg_is_in_recovery(), "
	"CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN NULL "
	"WHEN pg_catalog.pg_last_wal_receive_lsn() OPERATOR(pg_catalog.=) pg_catalog.pg_last_wal_replay_lsn() THEN 0 "
	"ELSE pg_catalog.date_part('epoch', pg_catalog.now() OPERATOR(pg_catalog.-) "
	"pg_catalog.pg_last_xact_replay_timestamp()) END, "
	"pg_catalog.current_setting('max_connections')::pg_catalog.int4 OPERATOR(pg_catalog.-) "
	"pg_catalog.current_setting('superuser_reserved_connections')::pg_catalog.int4, "
	"CASE WHEN $1::pg_catalog.bool THEN (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity a "
	"WHERE a.datid IS NOT NULL AND a.usesysid IS NOT NULL AND "
	"COALESCE(a.backend_type, 'client backend') OPERATOR(pg_catalog.=) 'client backend') END";

bool probe_ask(PGconn *conn, bool count, const struct pq_limit *limit, struct backend_facts *facts,
	       struct error *error) {
	const char *const values[] = {count ? "t" : "f"};
	struct pq_answer answer;

	if (!pq_query(conn, sql, 1, values, limit, &answer, error))
		return false;
	bool ok = answer.rows == 1 && PQnfields(answer.first) == 5;
	if (ok) {
		const char *version = PQgetvalue(answer.first, 0, 0);
		snprintf(facts->version, sizeof facts->version, "%.*s", (int)strcspn(version, " "), version);
		facts->role = *PQgetvalue(answer.first, 0, 1) == 't' ? POOL_ROLE_STANDBY : POOL_ROLE_PRIMARY;
		facts->lag_s = PQgetisnull(answer.first, 0, 2) ? -1 : strtod(PQgetvalue(answer.first, 0, 2), NULL);
		if (!PQgetisnull(answer.first, 0, 2) && facts->lag_s < 0)
			facts->lag_s = 0;
		facts->max_connections = strtoll(PQgetvalue(answer.first, 0, 3), NULL, 10);
		if (!PQgetisnull(answer.first, 0, 4))
			facts->in_use = strtoll(PQgetvalue(answer.first, 0, 4), NULL, 10);
	}
	PQclear(answer.first);
	return ok || error_set(error, 0, "the server's answer to a probe is not one row of five columns");
}
