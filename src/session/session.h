/* What the session floor keeps for each worker, and how the main thread talks to it. */
#ifndef SESSION_SESSION_H
#define SESSION_SESSION_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/list.h"
#include "base/slab.h"
#include "base/stat.h"
#include "net/acceptor.h"
#include "net/worker.h"
#include "pool/pool.h"
#include "session/audit.h"
#include "session/claim.h"
#include "session/drain.h"
#include "session/generation.h"
#include "session/leak.h"

struct database;

enum { INVARIANTS = 6 };

struct session_worker {
	struct worker *worker;

	/* owner only */
	struct generation *generation;
	struct list clients[6]; /* by enum client_state */
	struct list servers;    /* all, by struct server.all ... */
	struct list lingering;  /* ... but those that are closed and wait for their backend to hang up */
	uint64_t random_state;
	struct drain drain;
	bool stopping; /* the process ends: nothing is waited for */
	void *protocol_state[2]; /* by enum protocol_id: what a protocol keeps for each worker (statement texts) */
	uint32_t cancels;
	struct list cancel_list; /* struct cancel.all */
	struct leaks leaks;
	struct claims claims;
	struct slab client_memory[2]; /* by enum protocol_id: the clients' structs */
	struct audit audit;

	/* atomic; one writer */
	stat_counter violations[INVARIANTS], bytes_from_clients, bytes_to_clients;
	stat_counter login_errors[POOL_SQLSTATE_CLASSES]; /* of clients that are not logged in */
	_Atomic uint32_t outside_clients[2];              /* not of a pool: in login; on the console */
};

/* The invariants whose violations are counted apart; "other" is last. */
const char *session_invariant_name(int place);
void session_count_violation(struct session_worker *sw, const char *invariant);
uint64_t session_violations(const struct session_worker *sw);

/* Process-wide counts, bounds on logins. */
struct session_totals {
	_Atomic uint32_t clients, login_clients, next_id;
	_Atomic bool leaving; /* the process is to end; it may still let clients in (drain_delay) */
};
struct session_totals *session_totals(void);
struct session_worker *session_current(void); /* of the calling worker thread */
struct session_worker *session_worker(int index);
int session_workers(void);

/* Main thread: before the workers start; after they have ended. */
bool session_start(struct worker *workers, int count, struct generation *generation, struct error *error);
void session_stop(void);
/* An acceptor_accepted() of net/acceptor.h. */
void session_accept(struct worker *worker, const struct listener *listener, int fd, const struct sockaddr *peer,
		    socklen_t peer_len);
/* Main thread, before session_stop() and with the workers running: cuts what clients are left, closes all servers. */
void session_close_all(void);
/* Main thread: a new generation to all workers (a reference is taken for each). */
void session_reload(struct generation *generation);
/* Any thread: something was changed in the pool of a database (its hosts, PAUSE) that each of its shards is to act on. */
void session_tick(struct database *database);
/* Runs `visit` on each worker's thread in turn or at once, then `done` on the caller's worker (console snapshots). */
struct session_visit {
	struct mail mail;
	void (*visit)(struct session_worker *sw, struct session_visit *visit);
	void (*done)(struct session_visit *visit);
	int next;   /* private */
	struct worker *origin;
};
void session_visit_all(struct session_visit *visit, struct worker *origin);

#endif
