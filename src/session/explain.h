/*
 * Why a client gets no connection, in words: which limit, its value, what to do. The causes are told apart: all are in
 * use, the queue is full, the database is down or refuses, no host has the role that is asked for, an operator has
 * paused the pool.
 */
#ifndef SESSION_EXPLAIN_H
#define SESSION_EXPLAIN_H

#include <stddef.h>
#include <stdint.h>

#include "pool/pool.h"
#include "session/protocol.h"

struct client;
struct database;
struct session_worker;

enum { EXPLANATION_ROOM = 640 };

/* Who holds a connection of a pool longest. */
struct holder {
	uint64_t for_ns; /* 0: nobody */
	char who[120];
};
/* Looks among the clients of this worker; leaves `holder` as it is where it holds longer. */
void explain_find_longest(struct session_worker *sw, const struct database *database, struct holder *holder);

/* In words, with what the waiter's own worker knows of holders; returns how the protocol is to say it. The waiter's shard
 * and user are set. Its worker's thread. */
enum refusal explain_failure(struct pool_waiter *waiter, enum pool_fail why, char *out, size_t room);
/* A client has timed out in the queue: asks all workers who holds the connections, then refuses it (client_not_served()).
 * the claim's `explaining` is set until then. False: out of memory, nothing was begun. */
bool explain_timeout(struct client *client);

#endif
