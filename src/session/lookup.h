/*
 * Credential look-ups that need a database (auth_query): run by the control plane, which stands higher; main()
 * installs it. The answer comes by mail to the worker that asked.
 */
#ifndef SESSION_LOOKUP_H
#define SESSION_LOOKUP_H

#include <stdbool.h>

#include "config/config.h"
#include "net/mailbox.h"
#include "net/worker.h"

struct client;
struct generation;

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
/* The pool whose auth_query answers for a user who wants this database: one that the configuration does not know
 * (`user` NULL), or of which it has no password: a section without one says how much a user may have, not who it is. NULL:
 * none does, or the database is NULL. */
const struct pool_config *lookup_pool(const struct config *config, enum protocol_id protocol, const char *database,
				      const struct user_config *user);
/*
 * Asks for the secret of a client at its login, which is held meanwhile (HOLD_LOGIN). done() comes by mail, never from within,
 * with the client as the context, unless that was set to NULL; and calls lookup_free(). NULL: out of memory, or no control
 * plane is there (tests).
 */
struct lookup *lookup_begin(struct client *client, const struct pool_config *pool, const char *database, const char *user,
			    void (*done)(struct lookup *lookup));
void lookup_free(struct lookup *lookup);

#endif
