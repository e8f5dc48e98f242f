/*
 * auth_query: asks a database for users' secrets. A few threads of their own, each with its own connections, kept open
 * and used again; look-ups of the same user at the same time are one query; answers are kept for auth_cache_ttl (a
 * shorter time where there is no such user or no password).
 */
#ifndef CONTROL_AUTH_QUERY_H
#define CONTROL_AUTH_QUERY_H

#include <stdbool.h>

#include "base/error.h"
#include "session/lookup.h"

enum {
	AUTH_QUERY_THREADS = 2,
	AUTH_QUERY_QUEUE_MAX = 1024,   /* different users asked for at a time */
	AUTH_QUERY_CACHE_MAX = 10000,  /* answers kept */
	AUTH_QUERY_CONNECTIONS_MAX = 8 /* of each thread, one for each pool and database */
};

/* Main thread. */
bool auth_query_start(struct error *error);
/* A new configuration: forgets answers and connections. Main thread, before the workers hear of it. */
void auth_query_flush(void);
/* Answers what is pending with LOOKUP_FAILED and ends the threads. Main thread, with the workers still running; what
 * is submitted later fails at once. */
void auth_query_stop(void);
/* The worker's thread; never calls done() from within. */
void auth_query_submit(struct lookup *lookup);

#endif
