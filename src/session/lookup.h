/*
 * Credential look-ups that need a database (auth_query): run by the control plane, which stands higher; main()
 * installs it. The answer comes by mail to the worker that asked.
 */
#ifndef SESSION_LOOKUP_H
#define SESSION_LOOKUP_H

#include <stdbool.h>

#include "net/mailbox.h"
#include "net/worker.h"

struct database;
struct generation;
struct pool_config;

enum lookup_result { LOOKUP_FOUND, LOOKUP_NO_USER, LOOKUP_FAILED };

struct lookup {
	struct mail mail; /* the control plane's while under way */
	struct worker *worker;
	struct generation *generation;   /* referenced; holds `pool` */
	const struct pool_config *pool;  /* whose auth_query to run */
	char database[64];               /* where, when pool->auth_database is not set */
	char user[64];                   /* whose secret */
	enum lookup_result result;
	char *secret;    /* LOOKUP_FOUND: free with secret_free(); NULL: the user has no password or it has expired */
	char error[256]; /* LOOKUP_FAILED */
	void (*done)(struct lookup *lookup); /* worker's thread; owns the lookup again */
	void *context;                       /* the asker's; NULL once it has gone */
};

/* Before the workers start. */
void lookup_install(void (*submit)(struct lookup *lookup));
/* On lookup->worker's thread; done() comes by mail, never from within. False: no control plane is there (tests). */
bool lookup_submit(struct lookup *lookup);

#endif
