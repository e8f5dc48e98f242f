#include "mysql/template.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "config/config.h"
#include "mysql/wire.h"
#include "session/backend.h"

struct template {
	UT_hash_handle hh;
	struct my_server_facts facts;
	char pool[];
};

static struct {
	pthread_mutex_t mutex;
	struct template *by_pool; /* under the mutex */
} process = {.mutex = PTHREAD_MUTEX_INITIALIZER};

void my_template_learn(const char *pool, const struct my_server_facts *facts) {
	struct template *t;

	pthread_mutex_lock(&process.mutex);
	HASH_FIND_STR(process.by_pool, pool, t);
	if (!t && (t = calloc(1, sizeof *t + strlen(pool) + 1))) {
		strcpy(t->pool, pool);
		unsigned before = HASH_COUNT(process.by_pool);
		HASH_ADD_STR(process.by_pool, pool, t);
		if (HASH_COUNT(process.by_pool) == before) {
			free(t);
			t = NULL;
		}
	}
	if (t) /* without memory for it the greeting stays general */
		t->facts = *facts;
	pthread_mutex_unlock(&process.mutex);
}

bool my_template_find(const char *pool, struct my_server_facts *out) {
	struct template *t;

	pthread_mutex_lock(&process.mutex);
	HASH_FIND_STR(process.by_pool, pool, t);
	if (t)
		*out = t->facts;
	pthread_mutex_unlock(&process.mutex);
	return t != NULL;
}

/* What we can relay, or do ourselves. */
enum {
	OFFERED = MY_CLIENT_LONG_PASSWORD | MY_CLIENT_FOUND_ROWS | MY_CLIENT_LONG_FLAG | MY_CLIENT_CONNECT_WITH_DB |
		  MY_CLIENT_NO_SCHEMA | MY_CLIENT_ODBC | MY_CLIENT_LOCAL_FILES | MY_CLIENT_IGNORE_SPACE |
		  MY_CLIENT_PROTOCOL_41 | MY_CLIENT_INTERACTIVE | MY_CLIENT_IGNORE_SIGPIPE | MY_CLIENT_TRANSACTIONS |
		  MY_CLIENT_RESERVED | MY_CLIENT_SECURE_CONNECTION | MY_CLIENT_MULTI_STATEMENTS |
		  MY_CLIENT_MULTI_RESULTS | MY_CLIENT_PS_MULTI_RESULTS | MY_CLIENT_PLUGIN_AUTH |
		  MY_CLIENT_CONNECT_ATTRS | MY_CLIENT_PLUGIN_AUTH_LENENC | MY_CLIENT_SESSION_TRACK |
		  MY_CLIENT_DEPRECATE_EOF
};

/* Until a backend is known: a version whose features both families have. */
static const char UNKNOWN_VERSION[] = "5.7.44-forebay";

static bool find_any(const struct config *config, const struct listener_config *listener, struct my_server_facts *facts) {
	if (listener->default_pool && my_template_find(listener->default_pool, facts))
		return true;
	for (size_t i = 0; i < config->pool_count; i++)
		if (config->pools[i].protocol == PROTOCOL_MYSQL && my_template_find(config->pools[i].name, facts))
			return true;
	return false;
}

/* What the monitor has found out, before anybody has logged in for a client. */
static bool find_probed(const struct pool_config *pool, char *version, size_t room) {
	for (size_t i = 0; i < pool->host_count; i++) {
		struct backend *backend = backend_get(PROTOCOL_MYSQL, &pool->hosts[i]);
		struct backend_facts facts = {0};
		if (backend)
			backend_facts(backend, &facts);
		if (facts.version[0]) {
			snprintf(version, room, "%s", facts.version);
			return true;
		}
	}
	return false;
}

static void find_version(const struct config *config, const struct listener_config *listener, char *version, size_t room) {
	const struct pool_config *pool = listener->default_pool ? config_pool(config, listener->default_pool) : NULL;

	if (pool && pool->protocol == PROTOCOL_MYSQL && find_probed(pool, version, room))
		return;
	for (size_t i = 0; i < config->pool_count; i++)
		if (config->pools[i].protocol == PROTOCOL_MYSQL && find_probed(&config->pools[i], version, room))
			return;
	snprintf(version, room, "%s", UNKNOWN_VERSION);
}

void my_greeting_words(const struct config *config, const struct listener_config *listener,
		       struct my_greeting_words *out) {
	struct my_server_facts facts = {.collation = MY_COLLATION_UTF8MB4_GENERAL_CI, .status = MY_STATUS_AUTOCOMMIT};

	bool known = find_any(config, listener, &facts);
	out->capabilities = OFFERED;
	out->collation = listener->default_collation ? (uint8_t)listener->default_collation : facts.collation;
	out->status = facts.status & (MY_STATUS_AUTOCOMMIT | MY_STATUS_NO_BACKSLASH_ESCAPES | MY_STATUS_ANSI_QUOTES);
	if (listener->server_version || known)
		snprintf(out->version, sizeof out->version, "%s",
			 listener->server_version ? listener->server_version : facts.version);
	else
		find_version(config, listener, out->version, sizeof out->version);
}
