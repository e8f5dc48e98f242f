/*
 * libpq with deadlines: connecting and asking without ever waiting longer than is said. For the control plane's own
 * threads; never on a worker's. Nothing of a client's (settings, options) goes into these connections.
 */
#ifndef CONTROL_LIBPQ_H
#define CONTROL_LIBPQ_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct pool_config;

struct pq_target {
	const struct pool_config *pool; /* its TLS settings count */
	size_t host;                    /* index into its hosts */
	const char *user, *password;    /* password NULL: none */
	const char *database;
	uint64_t statement_timeout_ns;  /* the server's own limit; 0: none */
	const char *hostaddr;           /* the host's address where it is known; NULL: libpq looks its name up, and waits */
	const char *application_name;   /* NULL: "forebay" */
};

/* How long to wait, and what ends the waiting before that. */
struct pq_limit {
	uint64_t deadline_ns; /* monotonic */
	int wake_fd;          /* readable: give up; -1: none */
};

/* NULL: `error` says which host and why. Free with PQfinish(). */
PGconn *pq_connect(const struct pq_target *target, const struct pq_limit *limit, struct error *error);

/* How an attempt to connect ended. */
enum pq_outcome {
	PQ_CONNECTED,
	PQ_STOPPED,   /* `wake_fd` */
	PQ_SILENT,    /* the deadline has come */
	PQ_UNTRIED,   /* this process or system has no descriptor, port or memory left */
	PQ_UNREACHED, /* nobody is there, or it hung up without a word */
	PQ_REJECTED,  /* the server said no, and this SQLSTATE */
	PQ_UNWILLING  /* it is there, but we do not go on: no password, no TLS, a certificate that we do not trust */
};
struct pq_finding {
	enum pq_outcome outcome;
	char sqlstate[6];
};
/* As pq_connect(), and tells how it went. */
PGconn *pq_try(const struct pq_target *target, const struct pq_limit *limit, struct pq_finding *finding,
	       struct error *error);
/* Whether a server answers there at all, without logging in. At most `timeout_s` seconds, at least 2. */
PGPing pq_ping(const struct pq_target *target, int timeout_s);

struct pq_answer {
	PGresult *first; /* the first row, or the description of none; free with PQclear() */
	int rows;        /* 0, 1, or 2: more than one, and the connection must be closed */
};
/* Runs one query with text parameters. No more than two rows are ever held. False: `error` says why; the connection is
 * broken or must be closed unless PQtransactionStatus() says PQTRANS_IDLE. */
bool pq_query(PGconn *conn, const char *sql, int count, const char *const *values, const struct pq_limit *limit,
	      struct pq_answer *answer, struct error *error);

#endif
