#include "control/libpq.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "config/config.h"

enum { PARAMETERS_MAX = 24 };

struct parameters {
	const char *keys[PARAMETERS_MAX + 1], *values[PARAMETERS_MAX + 1];
	int count;
	char port[12], min_version[16], options[96], timeout[12];
};

static void add(struct parameters *p, const char *key, const char *value) {
	if (!value || p->count == PARAMETERS_MAX)
		return;
	p->keys[p->count] = key;
	p->values[p->count++] = value;
}

static const char *ssl_mode(enum config_tls_mode mode) {
	static const char *const names[] = {
		[CONFIG_TLS_DISABLE] = "disable",     [CONFIG_TLS_ALLOW] = "allow",
		[CONFIG_TLS_PREFER] = "prefer",       [CONFIG_TLS_REQUIRE] = "require",
		[CONFIG_TLS_VERIFY_CA] = "verify-ca", [CONFIG_TLS_VERIFY_FULL] = "verify-full",
	};
	return names[mode];
}

/* libpq knows "system" from version 16 on; before, the file where systems keep their authorities. */
static const char *root_certificates(const char *ca_file) {
	static const char *const files[] = {
		"/etc/ssl/certs/ca-certificates.crt",
		"/etc/pki/tls/certs/ca-bundle.crt",
		"/etc/ssl/ca-bundle.pem",
		"/etc/ssl/cert.pem",
	};

	if (!ca_file || strcmp(ca_file, "system") != 0 || PQlibVersion() >= 160000)
		return ca_file;
	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
		if (access(files[i], R_OK) == 0)
			return files[i];
	return ca_file;
}

/* What the environment (PGOPTIONS, PGSSLMODE, ...) must not decide is all given here. */
static void fill(struct parameters *p, const struct pq_target *target) {
	const struct config_address *host = &target->pool->hosts[target->host];
	const struct config_tls *tls = &target->pool->tls;

	*p = (struct parameters){0};
	snprintf(p->port, sizeof p->port, "%d", host->port);
	add(p, "host", host->host);
	add(p, "hostaddr", target->hostaddr);
	add(p, "port", p->port);
	add(p, "user", target->user);
	add(p, "password", target->password);
	add(p, "dbname", target->database);
	add(p, "application_name", target->application_name ? target->application_name : "forebay");
	add(p, "client_encoding", "UTF8");
	add(p, "sslmode", ssl_mode(tls->mode));
	add(p, "sslrootcert", root_certificates(tls->ca_file));
	add(p, "sslcert", tls->cert_file);
	add(p, "sslkey", tls->key_file);
	add(p, "sslcrl", tls->crl_file);
	if (tls->min_version) {
		snprintf(p->min_version, sizeof p->min_version, "TLSv%.8s", tls->min_version);
		add(p, "ssl_min_protocol_version", p->min_version);
	}
	add(p, "gssencmode", "disable");
	add(p, "target_session_attrs", "any");
	/* names without a schema must not be found anywhere but in pg_catalog */
	int len = snprintf(p->options, sizeof p->options, "-csearch_path=pg_catalog");
	if (target->statement_timeout_ns)
		snprintf(p->options + len, sizeof p->options - (size_t)len, " -cstatement_timeout=%llums",
			 (unsigned long long)(target->statement_timeout_ns / NS_PER_MS));
	add(p, "options", p->options);
}

static void swallow_notice(void *context, const PGresult *result) {
	(void)context, (void)result;
}

/* libpq's messages have several lines, each ended by a newline. Those that begin with a tab ask whether the server runs. */
static bool pq_error(struct error *error, const char *what, const char *text) {
	char line[400];
	size_t len = 0;

	for (; *text && len < sizeof line - 1; text++) {
		if (text[0] == '\n' && text[1] == '\t') {
			text += strcspn(text + 1, "\n");
			continue;
		}
		char c = *text == '\n' || *text == '\t' || *text == '\r' ? ' ' : *text;
		if (c != ' ' || (len && line[len - 1] != ' '))
			line[len++] = c;
	}
	while (len && line[len - 1] == ' ')
		len--;
	line[len] = 0;
	return error_set(error, 0, "%s: %s", what, *line ? line : "the connection was lost");
}

/* Waits for the socket. False: the deadline has come, or we were told to stop. */
static bool wait_for(PGconn *conn, short events, const struct pq_limit *limit, const char *what,
		     struct error *error) {
	struct pollfd fds[2] = {{.fd = PQsocket(conn), .events = events}, {.fd = limit->wake_fd, .events = POLLIN}};

	if (fds[0].fd < 0)
		return pq_error(error, what, PQerrorMessage(conn));
	for (;;) {
		uint64_t now_ns = clock_monotonic_ns();
		if (now_ns >= limit->deadline_ns)
			return error_set(error, ETIMEDOUT, "%s: no answer in time", what);
		uint64_t left_ms = (limit->deadline_ns - now_ns) / NS_PER_MS + 1;
		int n = poll(fds, 2, left_ms < 60000 ? (int)left_ms : 60000);
		if (n < 0 && errno != EINTR)
			return error_set(error, errno, "%s: poll: %s", what, strerror(errno));
		if (n > 0 && fds[1].revents)
			return error_set(error, ECANCELED, "%s: the process stops", what);
		if (n > 0)
			return true;
	}
}

/* Of a message in the verbose form, "FATAL:  28P01: ..."; "" where the server has not said anything. */
static void find_sqlstate(const char *message, char out[6]) {
	*out = 0;
	for (const char *at = strstr(message, ":  "); at; at = strstr(at + 1, ":  ")) {
		const char *code = at + 3;
		size_t len = strspn(code, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ");
		if (len == 5 && code[5] == ':') {
			memcpy(out, code, 5);
			out[5] = 0;
			return;
		}
	}
}

static bool is_reached(PGconn *conn) {
	switch (PQstatus(conn)) {
	case CONNECTION_OK:
	case CONNECTION_BAD:
	case CONNECTION_STARTED:
	case CONNECTION_NEEDED:
		return false;
	default:
		return true;
	}
}

/* libpq tells what went wrong in words only. `reached`: it was connected to a socket, at least. */
static enum pq_outcome outcome_of(PGconn *conn, bool reached, struct pq_finding *finding) {
	static const char *const hung_up[] = {"server closed the connection unexpectedly", "could not receive data",
					      "could not send"};
	const char *message = PQerrorMessage(conn);

	if (!reached && (strstr(message, "could not create socket") || strstr(message, "out of memory") ||
			 strstr(message, strerror(EADDRNOTAVAIL))))
		return PQ_UNTRIED;
	find_sqlstate(message, finding->sqlstate);
	if (*finding->sqlstate)
		return PQ_REJECTED;
	if (!reached)
		return PQ_UNREACHED;
	for (size_t i = 0; i < sizeof hung_up / sizeof hung_up[0]; i++)
		if (strstr(message, hung_up[i]))
			return PQ_UNREACHED;
	return PQ_UNWILLING;
}

PGconn *pq_try(const struct pq_target *target, const struct pq_limit *limit, struct pq_finding *finding,
	       struct error *error) {
	struct parameters p;
	char what[320];
	bool reached = false;

	*finding = (struct pq_finding){.outcome = PQ_UNWILLING};
	snprintf(what, sizeof what, "cannot connect to %.120s as user \"%.64s\", database \"%.64s\"",
		 target->pool->hosts[target->host].text, target->user ? target->user : "",
		 target->database ? target->database : "");
	fill(&p, target);
	PGconn *conn = PQconnectStartParams(p.keys, p.values, 0);
	if (!conn) {
		error_set(error, ENOMEM, "%s: out of memory", what);
		return NULL;
	}
	PQsetNoticeReceiver(conn, swallow_notice, NULL);
	PQsetErrorVerbosity(conn, PQERRORS_VERBOSE);
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;
	if (PQstatus(conn) == CONNECTION_BAD)
		status = PGRES_POLLING_FAILED;
	while (status == PGRES_POLLING_WRITING || status == PGRES_POLLING_READING) {
		if (!wait_for(conn, status == PGRES_POLLING_READING ? POLLIN : POLLOUT, limit, what, error)) {
			finding->outcome = error->code == ECANCELED   ? PQ_STOPPED
					   : error->code == ETIMEDOUT ? PQ_SILENT
								      : PQ_UNWILLING;
			PQfinish(conn);
			return NULL;
		}
		status = PQconnectPoll(conn);
		reached |= is_reached(conn);
	}
	if (status != PGRES_POLLING_OK || PQsetnonblocking(conn, 1) != 0) {
		finding->outcome = outcome_of(conn, reached, finding);
		/* the lines behind the first tell where in the server's source it happened */
		char message[400];
		const char *said = PQerrorMessage(conn);
		snprintf(message, sizeof message, "%.*s", (int)(*finding->sqlstate ? strcspn(said, "\n") : strlen(said)), said);
		pq_error(error, what, message);
		PQfinish(conn);
		return NULL;
	}
	PQsetErrorVerbosity(conn, PQERRORS_DEFAULT);
	finding->outcome = PQ_CONNECTED;
	return conn;
}

PGconn *pq_connect(const struct pq_target *target, const struct pq_limit *limit, struct error *error) {
	struct pq_finding finding;

	return pq_try(target, limit, &finding, error);
}

PGPing pq_ping(const struct pq_target *target, int timeout_s) {
	struct parameters p;

	fill(&p, target);
	snprintf(p.timeout, sizeof p.timeout, "%d", timeout_s < 2 ? 2 : timeout_s);
	add(&p, "connect_timeout", p.timeout);
	return PQpingParams(p.keys, p.values, 0);
}

static bool send_all(PGconn *conn, const struct pq_limit *limit, struct error *error) {
	for (int left; (left = PQflush(conn)) != 0;) {
		if (left < 0)
			return pq_error(error, "cannot send the query", PQerrorMessage(conn));
		if (!wait_for(conn, POLLIN | POLLOUT, limit, "cannot send the query", error))
			return false;
		if (!PQconsumeInput(conn))
			return pq_error(error, "cannot send the query", PQerrorMessage(conn));
	}
	return true;
}

/* The next result; *result NULL: no more. */
static bool next_result(PGconn *conn, const struct pq_limit *limit, PGresult **result, struct error *error) {
	while (PQisBusy(conn)) {
		if (!wait_for(conn, POLLIN, limit, "the query has not ended", error))
			return false;
		if (!PQconsumeInput(conn))
			return pq_error(error, "the query failed", PQerrorMessage(conn));
	}
	*result = PQgetResult(conn);
	return true;
}

/* Row by row, so that a query that gives a million holds none of them. */
static bool read_rows(PGconn *conn, const struct pq_limit *limit, struct pq_answer *answer, struct error *error) {
	bool ok = true;

	for (PGresult *result = NULL; answer->rows < 2;) {
		if (!next_result(conn, limit, &result, error))
			return false;
		if (!result)
			return ok && (answer->first || error_set(error, 0, "the query gave no result"));
		ExecStatusType status = PQresultStatus(result);
		if (status == PGRES_SINGLE_TUPLE)
			answer->rows++;
		else if (status != PGRES_TUPLES_OK && ok)
			ok = pq_error(error, "the query failed",
				      status == PGRES_COMMAND_OK ? "it gives no rows" : PQresultErrorMessage(result));
		if (!answer->first && (status == PGRES_SINGLE_TUPLE || status == PGRES_TUPLES_OK))
			answer->first = result;
		else
			PQclear(result);
		if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH)
			return false;
	}
	return ok;
}

bool pq_query(PGconn *conn, const char *sql, int count, const char *const *values, const struct pq_limit *limit,
	      struct pq_answer *answer, struct error *error) {
	*answer = (struct pq_answer){0};
	if (!PQsendQueryParams(conn, sql, count, NULL, values, NULL, NULL, 0))
		return pq_error(error, "cannot send the query", PQerrorMessage(conn));
	PQsetSingleRowMode(conn);
	if (!send_all(conn, limit, error))
		return false;
	if (read_rows(conn, limit, answer, error))
		return true;
	PQclear(answer->first);
	answer->first = NULL;
	return false;
}
