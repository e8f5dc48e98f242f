#include "session/lookup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "session/client.h"
#include "session/generation.h"
#include "session/session.h"

/* Set once before the workers start, read-only from then on. */
static void (*installed)(struct lookup *lookup);

void lookup_install(void (*submit)(struct lookup *lookup)) {
	installed = submit;
}

const struct pool_config *lookup_pool(const struct config *config, enum protocol_id protocol, const char *database,
				      const struct user_config *user) {
	if (!database || (user && (user->password || user->from_auth_file)))
		return NULL;
	const struct pool_config *pool = config_pool(config, database);
	if (!pool || strcmp(pool->name, "*") == 0 || pool->protocol != protocol)
		pool = config_wildcard_pool(config, protocol);
	return pool && pool->auth_user ? pool : NULL;
}

struct lookup *lookup_begin(struct client *client, const struct pool_config *pool, const char *database, const char *user,
			    void (*done)(struct lookup *lookup)) {
	struct lookup *lookup = installed ? calloc(1, sizeof *lookup) : NULL;
	if (!lookup)
		return NULL;
	lookup->worker = client->sw->worker;
	lookup->generation = generation_ref(client->listener->generation);
	lookup->pool = pool;
	snprintf(lookup->database, sizeof lookup->database, "%s", pool->database ? pool->database : database);
	snprintf(lookup->user, sizeof lookup->user, "%s", user);
	lookup->done = done;
	lookup->context = client;
	client->hold = HOLD_LOGIN;
	installed(lookup);
	return lookup;
}

void lookup_free(struct lookup *lookup) {
	secret_free(lookup->secret);
	generation_unref(lookup->generation);
	free(lookup);
}
