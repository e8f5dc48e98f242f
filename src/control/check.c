#include "control/check.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "config/config.h"
#include "control/libmysql.h"
#include "control/libpq.h"
#include "control/probe.h"

/* What was found at one host of one pool. */
struct finding {
	const struct pool_config *pool;
	const struct config_address *host;
	bool reachable, bad;
	char version[64], role[16];
	long max_connections; /* that are not kept for superusers; 0: unknown */
	unsigned long bounds; /* what all pools on this backend may open together */
	char remark[600];
};

static uint64_t timeout_of(const struct pool_config *pool) {
	return pool->connect_timeout ? pool->connect_timeout : 10 * NS_PER_S;
}

static void remark(struct finding *f, bool bad, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void remark(struct finding *f, bool bad, const char *fmt, ...) {
	size_t len = strlen(f->remark);
	va_list args;

	if (len)
		len += (size_t)snprintf(f->remark + len, sizeof f->remark - len, "; ");
	va_start(args, fmt);
	if (len < sizeof f->remark)
		vsnprintf(f->remark + len, sizeof f->remark - len, fmt, args);
	va_end(args);
	f->bad |= bad;
}

/* ---- PostgreSQL ---- */

static void ping_postgresql(struct finding *f, const struct pq_target *target) {
	switch (pq_ping(target, (int)(timeout_of(f->pool) / NS_PER_S))) {
	case PQPING_OK:
		f->reachable = true;
		return;
	case PQPING_REJECT:
		remark(f, true, "it answers, and takes no connections now (starting, stopping or full)");
		f->reachable = true;
		return;
	case PQPING_NO_RESPONSE:
		remark(f, true, "no answer");
		return;
	case PQPING_NO_ATTEMPT:
		break;
	}
	remark(f, true, "cannot be tried: the settings make no sense to libpq");
}

static void ask_postgresql(struct finding *f, PGconn *conn) {
	struct pq_limit limit = {clock_monotonic_ns() + timeout_of(f->pool), -1};
	struct backend_facts facts = {0};
	struct error error = {0};

	if (!probe_ask(conn, false, &limit, &facts, &error)) {
		remark(f, true, "%s", error.text);
		return;
	}
	snprintf(f->version, sizeof f->version, "%s", facts.version);
	snprintf(f->role, sizeof f->role, "%s", backend_role_name(facts.role));
	f->max_connections = (long)facts.max_connections;
}

static void check_postgresql(struct finding *f, size_t host) {
	const struct pool_config *pool = f->pool;
	struct pq_target target = {.pool = pool, .host = host};
	struct error error = {0};
	enum probe_login login = probe_as_application(pool, &target);

	if (login == PROBE_AUTH_USER)
		remark(f, false, "tried as auth_user");
	if (login == PROBE_NOBODY) {
		if (probe_is_stored_secret(pool->user ? pool->password : pool->auth_password))
			remark(f, false, "reached only: its password is a stored secret, which libpq cannot log in with");
		else
			remark(f, false, "reached only: it logs in as its clients do, and has no auth_user to try with");
		ping_postgresql(f, &target);
		return;
	}
	struct pq_limit limit = {clock_monotonic_ns() + timeout_of(pool), -1};
	PGconn *conn = pq_connect(&target, &limit, &error);
	if (!conn) {
		remark(f, true, "%s", error.text);
		f->reachable = pq_ping(&target, 2) == PQPING_OK;
		return;
	}
	f->reachable = true;
	ask_postgresql(f, conn);
	PQfinish(conn);
}

/* ---- MySQL and MariaDB ---- */

static void ask_mysql(struct finding *f, MYSQL *mysql) {
	struct backend_facts facts = {0};
	struct error error = {0};

	if (!mq_probe(mysql, &facts, &error)) {
		remark(f, true, "%s", error.text);
		return;
	}
	snprintf(f->version, sizeof f->version, "%s", facts.version);
	snprintf(f->role, sizeof f->role, "%s", backend_role_name(facts.role));
	f->max_connections = (long)facts.max_connections;
}

static void check_mysql(struct finding *f, size_t host) {
	struct mq_target target = {.pool = f->pool, .host = host, .timeout_ns = timeout_of(f->pool)};
	struct error error = {0};
	enum mq_outcome outcome;
	enum probe_login login = mq_as_application(f->pool, &target);

	if (login == PROBE_AUTH_USER)
		remark(f, false, "tried as auth_user");
	if (login == PROBE_NOBODY)
		remark(f, false, "reached only: it logs in as its clients do, or by a stored secret");
	MYSQL *mysql = mq_connect(&target, &outcome, &error);
	if (mysql) {
		f->reachable = true;
		if (login != PROBE_NOBODY)
			ask_mysql(f, mysql);
		mysql_close(mysql);
		return;
	}
	f->reachable = outcome >= MQ_NOT_READY;
	if (login != PROBE_NOBODY || !f->reachable)
		remark(f, true, "%s", error.text);
}

/* ---- all of them ---- */

static bool same_backend(const struct config_address *a, const struct config_address *b) {
	return strcmp(a->host, b->host) == 0 && a->port == b->port;
}

/* What the pools may open there together: a pool may have all of its connections at any of its hosts. */
static unsigned long bounds_of(const struct config *config, const struct config_address *host) {
	unsigned long sum = 0;

	for (size_t i = 0; i < config->pool_count; i++) {
		const struct pool_config *pool = &config->pools[i];
		for (size_t h = 0; h < pool->host_count; h++) {
			if (same_backend(&pool->hosts[h], host)) {
				sum += pool->max_size;
				break;
			}
		}
	}
	return sum;
}

static void check_bounds(struct finding *f, const struct config *config) {
	f->bounds = bounds_of(config, f->host);
	if (f->max_connections && f->bounds > (unsigned long)f->max_connections)
		remark(f, true,
		       "the pools may open %lu connections there, and it allows %ld: lower max_size or raise its "
		       "max_connections",
		       f->bounds, f->max_connections);
	if (strcmp(f->pool->name, "*") == 0)
		remark(f, false, "each further database adds up to %u connections", f->pool->max_size);
}

static void print_row(FILE *out, const char *const cells[7], const int widths[7]) {
	for (int i = 0; i < 6; i++)
		fprintf(out, "%-*s  ", widths[i], cells[i]);
	fprintf(out, "%s\n", cells[6]);
}

static void print_table(FILE *out, const struct finding *findings, size_t count) {
	static const char *const head[7] = {"pool", "host", "reachable", "version", "role", "connections", "remarks"};
	int widths[7] = {0};
	char numbers[64];

	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i <= count; i++) {
			const struct finding *f = i ? &findings[i - 1] : NULL;
			if (f && f->max_connections)
				snprintf(numbers, sizeof numbers, "%lu of %ld", f->bounds, f->max_connections);
			else if (f)
				snprintf(numbers, sizeof numbers, "%lu", f->bounds);
			const char *const cells[7] = {
				f ? f->pool->name : head[0],
				f ? f->host->text : head[1],
				f ? (f->reachable ? "yes" : "no") : head[2],
				f ? (*f->version ? f->version : "-") : head[3],
				f ? (*f->role ? f->role : "-") : head[4],
				f ? numbers : head[5],
				f ? (f->bad || *f->remark ? f->remark : "ok") : head[6],
			};
			for (int c = 0; pass == 0 && c < 7; c++)
				if ((int)strlen(cells[c]) > widths[c])
					widths[c] = (int)strlen(cells[c]);
			if (pass == 1)
				print_row(out, cells, widths);
		}
	}
}

bool check_backends(const struct config *config, FILE *out) {
	size_t count = 0, bad = 0, at = 0;

	for (size_t i = 0; i < config->pool_count; i++)
		count += config->pools[i].host_count;
	struct finding *findings = calloc(count + 1, sizeof *findings);
	if (!findings) {
		fprintf(out, "out of memory\n");
		return false;
	}
	for (size_t i = 0; i < config->pool_count; i++) {
		const struct pool_config *pool = &config->pools[i];
		for (size_t h = 0; h < pool->host_count; h++) {
			struct finding *f = &findings[at++];
			f->pool = pool;
			f->host = &pool->hosts[h];
			if (pool->protocol == PROTOCOL_POSTGRESQL)
				check_postgresql(f, h);
			else
				check_mysql(f, h);
			check_bounds(f, config);
			bad += f->bad;
		}
	}
	mysql_library_end();
	print_table(out, findings, count);
	if (bad)
		fprintf(out, "%zu of %zu backends are not as they should be.\n", bad, count);
	else
		fprintf(out, "All is well.\n");
	free(findings);
	return bad == 0;
}
