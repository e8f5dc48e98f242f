/*
 * A client's claim on a server: what is known of it from when it asks for one until it is idle again. An idle client has
 * none. Claims are recycled: each worker keeps as many as it has ever needed at once, so that a transaction allocates
 * nothing.
 *
 * All of it belongs to the client's worker.
 */
#ifndef SESSION_CLAIM_H
#define SESSION_CLAIM_H

#include <stdbool.h>
#include <stdint.h>

#include "pool/pool.h"

struct client;
struct leak;
struct server;

struct claim {
	struct client *client;
	uint64_t deadline_ns; /* of the request that waits or has just got a server; kept over attempts; TIME_NEVER: none */
	uint64_t linked_ns;   /* when it got its server */
	struct leak *leak;    /* reported, and not over; NULL: none */
	struct server *waiting_dedicated; /* being opened for it alone */
	struct server *waiting_trial;     /* the pool's choice for it, which must prove alive first */
	bool retrying;      /* its server was lost before anything was sent to it: the deadline stays */
	bool explaining;    /* timed out in the queue; who holds the servers is being asked */
	bool notice_wanted; /* is to be told its place in the queue (session/wait_notice.h) */
	uint8_t notices;    /* how often that has come due since it began to wait */
	struct pool_waiter waiter;
	struct claim *spare; /* the next that nobody has */
};

/* Part of struct session_worker: the claims that nobody has. */
struct claims {
	struct claim *spare;
};

/* The client's claim, a fresh one unless it has one. NULL: out of memory. */
struct claim *claim_take(struct client *client);
/* Gives it back, if it has one. It must not be in the queue, nor wait for a server, nor have one. */
void claim_return(struct client *client);
/* Whether its client waits for a server in some way. `claim` may be NULL. */
static inline bool claim_waits(const struct claim *claim) {
	return claim && (claim->waiter.waiting || claim->waiting_dedicated || claim->waiting_trial || claim->explaining);
}
/* The claim that waits there. */
static inline struct claim *claim_of(struct pool_waiter *waiter) {
	return container_of(waiter, struct claim, waiter);
}
void claims_free(struct claims *claims);

#endif
