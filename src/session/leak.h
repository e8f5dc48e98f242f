/*
 * Leaks: clients that hold a connection and leave it unused for longer than leak_detection_threshold (session/watch.h
 * tells when). Unused means that only the client can take the next step: it is idle in a transaction, or has begun a
 * batch, a copy or a message and does not go on. In session mode an idle session is normal: it counts only while somebody
 * has waited for a connection of the pool for LEAK_WAIT_NS. Connections of one client's own (replication) never count.
 *
 * What is one leak. It lasts from its report until the connection is free: given back, or in session mode until the
 * transaction ends; or its client or the connection goes. Using the connection in between neither ends it nor begins
 * another: it is the same hold by the same client, and a second report would tell nothing new. An idle session's leak
 * ends when the session is used again, or nobody waits any more; when it is left idle anew, that is a new one.
 *
 * All of it belongs to the client's worker.
 */
#ifndef SESSION_LEAK_H
#define SESSION_LEAK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/list.h"
#include "net/stream_peer.h"
#include "session/protocol.h"

struct client;

enum { LEAKS_KEPT = 100 }; /* ended ones, for each worker */

/* In session mode: how long somebody must have waited, and how often that is looked at. */
#define LEAK_WAIT_NS (250 * NS_PER_MS)
#define LEAK_LOOK_NS (250 * NS_PER_MS)

enum leak_end {
	LEAK_CURRENT,
	LEAK_RETURNED,    /* the client gave the connection back */
	LEAK_FINISHED,    /* session mode: its transaction ended */
	LEAK_USED_AGAIN,  /* session mode: the idle session goes on */
	LEAK_UNWANTED,    /* session mode: nobody waits any more */
	LEAK_CLIENT_LEFT,
	LEAK_CLOSED,      /* the client was closed, by leak_action or otherwise */
	LEAK_LOST         /* the connection broke */
};

/* All that is known of one; what is said of the client is as of the report. */
struct leak {
	struct list node;      /* current or ended of its worker */
	struct client *client; /* NULL: it is over */
	enum server_use use;
	enum leak_end end;
	const char *pool;      /* lives as long as the process */
	char user[64], address[STREAM_PEER_TEXT], application_name[64], host[128];
	uint32_t client_id, backend_pid;
	uint64_t transactions;
	uint64_t held_since_ns, reported_ns, ended_ns;
	uint64_t unused_ns;    /* the longest time that it was left unused, as far as that is over */
	struct server_statements statements;
};

/* Part of struct session_worker. */
struct leaks {
	struct list current, ended; /* struct leak; the latest first */
	uint32_t ended_count;
};

void leaks_init(struct leaks *leaks);
void leaks_free(struct leaks *leaks);
/* How long the connection was or is left unused. */
uint64_t leak_unused_ns(const struct leak *leak);
/* "idle in transaction" ...; static. */
const char *leak_cause(const struct leak *leak);
/* "leaking", "returned" ...; static. */
const char *leak_state(const struct leak *leak);

/* When the hold of the client, which is CLIENT_ACTIVE, would become a leak as things stand; TIME_NEVER. */
uint64_t leak_next(const struct client *client);
/* Reports it, and closes the client where leak_action says so. */
void leak_due(struct client *client);

/* What the client's leak, if it has one, ends by. It has a server, and has sent something: */
void leak_used(struct client *client);
/* It keeps its server, which is clean: */
void leak_freed(struct client *client);
/* Its server is about to be taken from it (client->server is still set): */
void leak_unlinked(struct client *client);

#endif
