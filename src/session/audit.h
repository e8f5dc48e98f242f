/*
 * The session audits itself: every AUDIT_INTERVAL_NS each worker checks that what it keeps in several places agrees:
 *
 *   - each server of the worker is as its state says: a linked one and its client know each other, one that is being
 *     opened, recovered, fenced or tried is watched by a timeout, an idle one is on the pool's idle list;
 *   - so no connection is held that no client holds and no list contains: the number of servers is the number of
 *     connections that the pool counts in the worker's shard;
 *   - each client in CLIENT_WAITING waits for something, and each waiter's client is in CLIENT_WAITING;
 *   - the pool's own counts and lists agree (pool_shard_audit()).
 *
 * What does not agree is logged (event invariant_violation), counted, and the connection at fault is closed. Servers
 * are looked at in one go, pools a few at a time: a slice ends after AUDIT_SLICE_NS. Owner worker only.
 */
#ifndef SESSION_AUDIT_H
#define SESSION_AUDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/timeouts.h"

struct client;
struct database;
struct server;
struct session_worker;

#define AUDIT_INTERVAL_NS (10 * NS_PER_S)
#define AUDIT_SLICE_NS (200 * NS_PER_US)
#define AUDIT_PAUSE_NS (5 * NS_PER_MS)

/* Part of struct session_worker. */
struct audit {
	struct timeout timeout;
	bool started, under_way, again; /* again: another round was asked for */
	struct database *done;          /* the last database that this round has looked at; NULL: none yet */
	uint64_t began_ns;
	/* for the console */
	uint64_t rounds, ended_ns, longest_slice_ns;
	uint32_t pools, servers, waiters;           /* of the last round */
	uint32_t pools_now, servers_now, waiters_now; /* of the one under way */
	uint64_t violations;                        /* found by audits; sw->violations counts all */
	char last_violation[160];
};

/* The first round is a second away. Harmless when it was started before. */
void audit_start(struct session_worker *sw);
/* Main thread, when the worker's thread has ended. */
void audit_stop(struct session_worker *sw);
/* A round begins now, or when the one under way has ended. */
void audit_soon(struct session_worker *sw);

/* What is wrong with a server on the worker's list, or with a client on one of its lists; NULL: nothing. */
const char *audit_server(const struct session_worker *sw, const struct server *server);
const char *audit_client(const struct session_worker *sw, const struct client *client);

#endif
