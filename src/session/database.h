/* A database that clients ask for: the session's side of a pool. */
#ifndef SESSION_DATABASE_H
#define SESSION_DATABASE_H

#include <stdbool.h>

#include "net/worker.h"
#include "base/stat.h"
#include "pool/pool.h"
#include "session/account.h"
#include "session/generation.h"
#include "session/pin.h"

struct session_worker;

/* What one worker knows of a database; owner worker only. Replaced when a new generation comes. */
struct database_view {
	const struct pool_config *config; /* of `generation` */
	struct pool_shard *shard;
	struct tls_context *tls;          /* NULL: disabled */
	void *setup;                      /* of the protocol's pool_setup */
	struct generation *generation;
	struct timeout tick; /* pool_shard_tick() */
	bool inquiring;       /* a wait notice is being made (session/wait_notice.c) */
	uint32_t audit_seen;  /* of the audit under way: servers of this worker ... */
	uint64_t audit_round; /* ... in that round */
	struct timeout keepalive; /* session/keepalive.h */
	uint32_t trials;          /* of idle servers, under way on account of keepalive_interval */
	stat_counter pins[PIN_REASONS]; /* how often a client was pinned, by reason; read relaxed by anybody */
};

struct database {
	/* immutable */
	const struct protocol *protocol;
	char *name;
	struct pool *pool;
	int workers;

	struct database_view views[POOL_MAX_WORKERS]; /* each its worker's only */

	/* atomic */
	_Atomic bool removed, paused, disabled;
	_Atomic bool automatic; /* of [pool:*], not of a section of its own */
	_Atomic uint32_t clients, cancels;

	/* main thread, or under the table's mutex */
	struct pool_limits limits; /* as configured; max_size less `elsewhere` is in force */
	uint32_t elsewhere;        /* connections of its max_size that another process may have (session/share.h) */
	uint32_t clients_at_first; /* when it began to be shared */
	struct pool_user *fixed; /* of a pool with a user of its own; main thread only */
};

/* The table of all databases; a mutex inside, taken at login, by the console and at reload. */
/* The database of that name; for [pool:*] made now. NULL: `error` says why (none, too many; disabled: its code is EAGAIN).
 * Worker thread. */
struct database *database_find(struct session_worker *sw, enum protocol_id protocol, const char *name,
			       struct error *error);
/* For operators: the database of that name, of any protocol and disabled or not. `make`: one that so far only [pool:*]
 * serves is made, so that what is said of it holds for clients to come; then `error` has a remark on that. NULL: `error`
 * says why, and names the nearest. Worker thread. */
struct database *database_lookup(struct session_worker *sw, const char *name, bool make, struct error *error);
/* PAUSE and RESUME, of one (NULL: of all there are, and of those to come). False: it was so already. Any thread; then tick
 * each shard. */
bool database_set_paused(struct database *database, bool paused);
/* False: a pool would speak another protocol than the one of that name that there is. Main thread. */
bool databases_fit(const struct config *before, const struct config *after, struct error *error);
/* Makes the databases that the generation configures and are not there yet, marks those that have gone. Main thread. */
bool databases_apply(struct generation *generation, int workers, struct error *error);
/* A worker takes over the generation: views of all databases. The worker's thread. */
void databases_adopt(struct session_worker *sw, struct generation *generation);
/* Makes this worker's view of a database that another worker has made. False: its section has gone. */
bool database_adopt(struct session_worker *sw, struct database *database);
/* The next in the order in which they were made; NULL for `after`: the first. NULL: that was the last. None ever goes
 * while workers run. */
struct database *database_next(struct database *after);
void databases_each(void (*each)(struct database *database, void *context), void *context);
void databases_free(void);
/* So many connections of the database of this name, which need not be there yet, another process may have: so many fewer
 * this one. False: out of memory. Then tick each shard. Main thread, as the next. */
bool database_set_elsewhere(const char *name, uint32_t connections);
/* Of those of which nothing was said, `rest` holds. */
void databases_rest_elsewhere(uint32_t rest);
/* Forgets what was said of each; of all, and of those to come, `rest` holds. */
void databases_reset_elsewhere(uint32_t rest);
static inline struct database_view *database_view(struct database *database, int worker) {
	return &database->views[worker];
}
/* The address of a pool's host, by its place (pool_conn.host). NULL: it is not configured any more. */
const struct config_address *database_host(const struct database_view *view, int place);
/* What a host has said of itself. Any thread; all workers act on it. */
void database_host_role(struct database *database, int place, enum pool_role role);
struct database *database_of_shard(const struct pool_shard *shard);
/* The account of a user in this database; made when new. References the pool_user. */
struct pool_user *database_user(struct database *database, const char *name);

#endif
