/*
 * libmysqlclient (MySQL's or MariaDB's) with bounds: connecting and asking take no longer than is said, in whole seconds,
 * for the library counts no finer. For the control plane's own threads; never on a worker's. A thread that has used it
 * calls mysql_thread_end() at its end.
 */
#ifndef CONTROL_LIBMYSQL_H
#define CONTROL_LIBMYSQL_H

#include <mysql.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "control/probe.h"

struct pool_config;

struct mq_target {
	const struct pool_config *pool; /* its TLS settings count */
	size_t host;                    /* index into its hosts */
	const char *user, *password;    /* NULL: none */
	const char *database;           /* NULL: none */
	const char *program;            /* connect attribute program_name */
	uint64_t timeout_ns;            /* of each step: to connect, to answer a query */
};

/* How an attempt to connect or to ask ended. */
enum mq_outcome {
	MQ_WELL,
	MQ_SILENT,    /* no answer in time */
	MQ_UNTRIED,   /* this process or system could not even try, or the name cannot be looked up */
	MQ_UNREACHED, /* nobody is there, or it hung up without a word */
	MQ_NOT_READY, /* it is shutting down */
	MQ_REJECTED,  /* it has answered with an error */
	MQ_UNWILLING  /* it is there, but we do not go on: no TLS, a certificate that we do not trust, a way of logging in that is
		       * not known */
};

/* NULL: `error` says which host and why (its code is the server's or the library's number), `outcome` how. Free with
 * mysql_close(). */
MYSQL *mq_connect(const struct mq_target *target, enum mq_outcome *outcome, struct error *error);
/* What the last failure of a call on this connection was; `began_ns`: when that call began. */
enum mq_outcome mq_outcome(MYSQL *mysql, uint64_t began_ns, uint64_t timeout_ns);

/* As whom to log in to a pool's host: the pool's user, or auth_user; the other: monitor_user before these. Fills in user,
 * password and database. */
enum probe_login mq_as_application(const struct pool_config *pool, struct mq_target *target);
enum probe_login mq_as_monitor(const struct pool_config *pool, struct mq_target *target);

struct backend_facts;
/* Asks for version, role, lag, max_connections and connections, and writes what it learns into the facts. False: `error`
 * says why. */
bool mq_probe(MYSQL *mysql, struct backend_facts *facts, struct error *error);

#endif
