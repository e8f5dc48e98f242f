/* What --check and the monitor share: as whom to log in to a pool's host, and what to ask there. */
#ifndef CONTROL_PROBE_H
#define CONTROL_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "control/libpq.h"
#include "session/backend.h"

struct pool_config;

/* The better, the greater. */
enum probe_login {
	PROBE_NOBODY,      /* nobody that libpq could log in as: it can only be asked whether it is there */
	PROBE_NO_PASSWORD, /* the pool's user, who has none: the database may trust it */
	PROBE_AUTH_USER,
	PROBE_POOL_USER,
	PROBE_MONITOR_USER
};

/* A secret that libpq cannot log in with. */
bool probe_is_stored_secret(const char *password);
/* As whom, of whichever protocol: the application's way in, or with the monitor's own before all others. `is_plaintext`: whether
 * the protocol's library can log in with this (never asked of NULL). */
typedef bool probe_plaintext(const char *password);
enum probe_login probe_choose(const struct pool_config *pool, probe_plaintext *is_plaintext, bool monitor, const char **user,
			      const char **password);
/* Fills in user, password and database: of all but the monitor's own. */
enum probe_login probe_as_application(const struct pool_config *pool, struct pq_target *target);
/* The same with the monitor's own before all others. */
enum probe_login probe_as_monitor(const struct pool_config *pool, struct pq_target *target);

/* Asks for version, role, lag and connections (`in_use` only with `count`), and writes what it learns into the facts.
 * False: `error` says why. */
bool probe_ask(PGconn *conn, bool count, const struct pq_limit *limit, struct backend_facts *facts,
	       struct error *error);

#endif
