#include "pgsql/credential.h"

#include <openssl/sha.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"

struct pg_credential {
	/* immutable */
	enum pg_secret_type type;
	char *user;
	char *secret;                          /* plaintext, or the md5 form */
	struct scram_secret scram;             /* PG_SECRET_SCRAM */
	struct scram_keys scram_keys;          /* the same as keys, if has_client_key */
	bool has_client_key;
	bool is_stored;                        /* `secret` is what it comes from */
	uint8_t origin[SHA256_DIGEST_LENGTH];  /* of the stored secret that it comes from */

	/* atomic */
	_Atomic int references;
	_Atomic bool tls_turned;

	/* under the mutex: the keys of a plaintext password for the salt that servers asked for last */
	pthread_mutex_t mutex;
	bool cached;
	struct scram_salt cached_salt;
	struct scram_keys cached_keys;
};

static struct pg_credential *credential_new(const char *user, const char *secret, const char *origin) {
	struct pg_credential *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	atomic_init(&c->references, 1);
	pthread_mutex_init(&c->mutex, NULL);
	c->type = pg_secret_type_of(secret);
	c->user = strdup(user);
	c->secret = secret_strdup(secret);
	if (!c->user || (secret && !c->secret)) {
		pg_credential_unref(c);
		return NULL;
	}
	if (c->type == PG_SECRET_SCRAM && !scram_secret_parse(secret, &c->scram))
		c->type = PG_SECRET_PLAIN; /* as PostgreSQL: what only looks like one is a password */
	if (origin)
		SHA256((const uint8_t *)origin, strlen(origin), c->origin);
	return c;
}

struct pg_credential *pg_credential_new(const char *user, const char *secret) {
	struct pg_credential *c = credential_new(user, secret, secret);

	if (c)
		c->is_stored = true;
	return c;
}

struct pg_credential *pg_credential_recovered(const char *user, const char *stored, const char *password,
					      const uint8_t *client_key) {
	struct pg_credential *c = credential_new(user, password ? password : stored, stored);

	if (c)
		c->is_stored = !password;
	if (c && password)
		c->type = PG_SECRET_PLAIN; /* whatever it looks like */
	if (c && client_key && c->type == PG_SECRET_SCRAM) {
		memcpy(c->scram_keys.client, client_key, SCRAM_KEY);
		memcpy(c->scram_keys.stored, c->scram.stored, SCRAM_KEY);
		memcpy(c->scram_keys.server, c->scram.server, SCRAM_KEY);
		c->has_client_key = true;
	}
	return c;
}

struct pg_credential *pg_credential_ref(struct pg_credential *c) {
	atomic_fetch_add_explicit(&c->references, 1, memory_order_relaxed);
	return c;
}

void pg_credential_unref(struct pg_credential *c) {
	if (!c || atomic_fetch_sub_explicit(&c->references, 1, memory_order_acq_rel) != 1)
		return;
	pthread_mutex_destroy(&c->mutex);
	free(c->user);
	secret_free(c->secret);
	secret_wipe(c, sizeof *c);
	free(c);
}

/* How many ways of logging in it has. */
static int rank(const struct pg_credential *c) {
	switch (c->type) {
	case PG_SECRET_NONE:
		return 0;
	case PG_SECRET_SCRAM:
		return c->has_client_key ? 2 : 1;
	case PG_SECRET_MD5:
		return 2;
	case PG_SECRET_PLAIN:
		return 3;
	}
	return 0;
}

bool pg_credential_better(const struct pg_credential *old, const struct pg_credential *fresh) {
	if (!old)
		return true;
	if (memcmp(old->origin, fresh->origin, sizeof old->origin) == 0)
		return rank(fresh) > rank(old);
	/* The secret has changed: the old one is out of date, whatever it could do. */
	return rank(fresh) > 0;
}

bool pg_credential_covers(const struct pg_credential *c, const char *stored, bool has_key) {
	if (!c)
		return false;
	if (!stored) /* a login without a secret has nothing to add */
		return true;
	return c->is_stored && c->secret && secret_equal(c->secret, strlen(c->secret), stored, strlen(stored)) &&
	       (!has_key || c->has_client_key || c->type != PG_SECRET_SCRAM);
}

enum pg_secret_type pg_credential_type(const struct pg_credential *c) {
	return c ? c->type : PG_SECRET_NONE;
}

const char *pg_credential_plaintext(const struct pg_credential *c) {
	return c && c->type == PG_SECRET_PLAIN ? c->secret : NULL;
}

bool pg_credential_md5_answer(const struct pg_credential *c, const char *user, const uint8_t salt[4],
			      char out[MD5_SECRET_SIZE]) {
	char stored[MD5_SECRET_SIZE];

	if (!c)
		return false;
	if (c->type == PG_SECRET_MD5)
		memcpy(stored, c->secret, sizeof stored);
	else if (c->type != PG_SECRET_PLAIN || !md5_secret(c->secret, strlen(c->secret), user, strlen(user), stored))
		return false;
	bool ok = md5_secret(stored + 3, sizeof stored - 4, salt, 4, out);
	secret_wipe(stored, sizeof stored);
	return ok;
}

enum pg_keys pg_credential_keys(struct pg_credential *c, const struct scram_salt *salt, struct scram_keys *keys) {
	enum pg_keys result = PG_KEYS_DERIVE;

	if (c && c->type == PG_SECRET_SCRAM && c->has_client_key) {
		if (!scram_salt_equal(salt, &c->scram.salt))
			return PG_KEYS_OTHER_SALT;
		*keys = c->scram_keys;
		return PG_KEYS_READY;
	}
	if (!c || c->type != PG_SECRET_PLAIN)
		return PG_KEYS_NONE;
	pthread_mutex_lock(&c->mutex);
	if (c->cached && scram_salt_equal(salt, &c->cached_salt)) {
		*keys = c->cached_keys;
		result = PG_KEYS_READY;
	}
	pthread_mutex_unlock(&c->mutex);
	return result;
}

bool pg_credential_derive(struct pg_credential *c, const struct scram_salt *salt, struct scram_keys *keys) {
	const char *password = pg_credential_plaintext(c);

	if (!password || !scram_derive(password, salt, keys))
		return false;
	pthread_mutex_lock(&c->mutex);
	c->cached = true;
	c->cached_salt = *salt;
	c->cached_keys = *keys;
	pthread_mutex_unlock(&c->mutex);
	return true;
}

bool pg_credential_tls_turned(const struct pg_credential *c) {
	return c && atomic_load_explicit(&c->tls_turned, memory_order_relaxed);
}

void pg_credential_turn_tls(struct pg_credential *c, bool turned) {
	atomic_store_explicit(&c->tls_turned, turned, memory_order_relaxed);
}
