/*
 * A backend: one host of a database, as "host:port" names it in any number of pools. One for each in the process, made
 * when a pool first names it, and kept until the process ends. What is known of it a monitor (which stands higher)
 * finds out and writes here; any thread may read.
 */
#ifndef SESSION_BACKEND_H
#define SESSION_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"
#include "net/resolver.h"
#include "pool/pool.h"

struct backend;
struct session_worker;

enum { BACKEND_NAME_MAX = 280 };

enum backend_state {
	BACKEND_UNKNOWN,   /* nobody has asked yet */
	BACKEND_UP,
	BACKEND_NOT_READY, /* it is there, and takes no new connections: starting, stopping, recovering */
	BACKEND_DOWN
};

/* What a monitor knows. All is of the last probe that could tell it. */
struct backend_facts {
	enum backend_state state;
	bool known, up;           /* what the pools were told: nothing yet, or this */
	enum pool_role role;
	char version[48];         /* "": unknown */
	double lag_s;             /* of a standby; < 0: unknown */
	int64_t max_connections;  /* of all users, those kept for superusers left out; < 0: unknown */
	int64_t in_use;           /* client connections, whoever's; < 0: unknown */
	uint64_t probed_ns;       /* monotonic: when the last probe ended; 0: none has */
	uint64_t took_ns;         /* that probe */
	char error[256];          /* of the last probe that failed; kept after it */
};

/* The one way to write a host's name: in logs, on the console, for the pool. */
void backend_name(const struct config_address *host, char *out, size_t room);

/* The registry. Any thread; a mutex inside. */
/* The backend of this host, made when new. NULL: out of memory. */
struct backend *backend_get(enum protocol_id protocol, const struct config_address *host);
/* Those that a pool of this configuration names are configured from now on, the others are not. */
void backends_apply(const struct config *config);
/* `each` may not call backend_get() or backends_each(). */
void backends_each(void (*each)(struct backend *backend, void *context), void *context);
/* When all threads have ended. */
void backends_free(void);

const char *backend_text(const struct backend *backend); /* "host:port" */
enum protocol_id backend_protocol(const struct backend *backend);
bool backend_configured(const struct backend *backend);
bool backend_is(const struct backend *backend, enum protocol_id protocol, const struct config_address *host);
void backend_facts(struct backend *backend, struct backend_facts *out);
/* The monitor's; one thread at a time for each backend. */
void backend_set_facts(struct backend *backend, const struct backend_facts *facts);
const char *backend_state_name(enum backend_state state);
const char *backend_role_name(enum pool_role role); /* "primary", "standby"; NULL: unknown */

/*
 * Tells every pool that has this host, then wakes its shards by mail. `retry`: it has just come back, so what backs off
 * is tried at once. The facts must have been set before. Any thread but a worker's, with the session started.
 */
void backend_report(struct backend *backend, bool up, enum pool_role role, bool retry);
/* The same where nobody watches it any more. */
void backend_forget(struct backend *backend);
/* Gives a pool its hosts as configured, and tells it what is known of them. Under the lock of the table of databases. */
void backend_set_hosts(struct pool *pool, const struct pool_config *config);

/* A pool could not open a connection there (`reached`: it answered, and refused), or has lost one. Any thread. */
void backend_suspect(struct backend *backend, bool reached);
/* Who is told so; before the workers start. Must be quick: it is a worker's thread. NULL: nobody. */
void backend_suspect_install(void (*hook)(struct backend *backend, bool reached));

/*
 * Its name has these addresses now (with the port): connections to addresses that none of the last three answers had are
 * retired, by a mail to each worker. An answer without addresses, or one that was cut, retires nothing. The monitor's: one
 * thread at a time for each backend, not a worker's, with the session started.
 */
void backend_addresses(struct backend *backend, const struct resolved *answer);

/*
 * Which of several addresses to connect to: each in turn, by a number that counts on; but one that has failed of late
 * only where all have, and then the one whose failure is longest ago. Any thread.
 */
int backend_pick_address(struct backend *backend, const struct resolved *answer, uint32_t turn, uint64_t now_ns);
/* How a connection to this address went. */
void backend_address_failed(struct backend *backend, const struct sockaddr_storage *address, uint64_t now_ns);
void backend_address_works(struct backend *backend, const struct sockaddr_storage *address);

#endif
