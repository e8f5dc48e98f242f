#include "mysql/credential.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"

struct my_credential {
	/* immutable */
	enum my_secret_type type;  /* of what was configured */
	char *password;            /* NULL: not known */
	bool has_sha1, has_sha256;
	uint8_t sha1[MY_SHA1];
	uint8_t sha256[MY_SHA256];
	bool has_origin;
	uint8_t origin[MY_SHA256]; /* of the stored secret that it comes from */

	/* atomic */
	_Atomic int references;
	_Atomic bool tls_turned;
};

static struct my_credential *empty(const char *stored) {
	struct my_credential *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	atomic_init(&c->references, 1);
	c->type = my_secret_type_of(stored);
	if (c->type != MY_SECRET_NONE) {
		c->has_origin = true;
		my_sha256(stored, strlen(stored), c->origin);
	}
	return c;
}

static bool learn_password(struct my_credential *c, const char *password) {
	c->password = secret_strdup(password);
	if (!c->password)
		return false;
	my_native_key(password, c->sha1);
	my_sha2_key(password, c->sha256);
	c->has_sha1 = c->has_sha256 = true;
	return true;
}

struct my_credential *my_credential_new(const char *secret) {
	struct my_credential *c = empty(secret);

	if (c && c->type == MY_SECRET_PLAIN && !learn_password(c, secret)) {
		my_credential_unref(c);
		return NULL;
	}
	return c;
}

struct my_credential *my_credential_ref(struct my_credential *c) {
	atomic_fetch_add_explicit(&c->references, 1, memory_order_relaxed);
	return c;
}

void my_credential_unref(struct my_credential *c) {
	if (!c || atomic_fetch_sub_explicit(&c->references, 1, memory_order_acq_rel) != 1)
		return;
	secret_free(c->password);
	secret_wipe(c, sizeof *c);
	free(c);
}

static bool same_origin(const struct my_credential *a, const struct my_credential *b) {
	return a->has_origin && b->has_origin && secret_equal(a->origin, MY_SHA256, b->origin, MY_SHA256);
}

/* What of `from` is not known yet. */
static bool learn_from(struct my_credential *c, const struct my_credential *from) {
	if (from->password && !c->password && !learn_password(c, from->password))
		return false;
	if (from->has_sha1 && !c->has_sha1) {
		memcpy(c->sha1, from->sha1, MY_SHA1);
		c->has_sha1 = true;
	}
	if (from->has_sha256 && !c->has_sha256) {
		memcpy(c->sha256, from->sha256, MY_SHA256);
		c->has_sha256 = true;
	}
	return true;
}

static bool knows_more(const struct my_credential *c, const struct my_credential *than) {
	return (c->password && !than->password) || (c->has_sha1 && !than->has_sha1) || (c->has_sha256 && !than->has_sha256);
}

struct my_credential *my_credential_merged(const struct my_credential *old, const struct my_shown *shown) {
	struct my_credential *c = my_credential_new(shown->stored);
	bool ok = c != NULL;

	if (ok && shown->password && !c->password)
		ok = learn_password(c, shown->password);
	if (ok && shown->sha1 && !c->has_sha1) {
		memcpy(c->sha1, shown->sha1, MY_SHA1);
		c->has_sha1 = true;
	}
	if (ok && shown->sha256 && !c->has_sha256) {
		memcpy(c->sha256, shown->sha256, MY_SHA256);
		c->has_sha256 = true;
	}
	if (ok && old && same_origin(old, c))
		ok = knows_more(c, old) && learn_from(c, old);
	else if (ok && old) /* of another secret, which has changed since; but what knows nothing replaces nothing */
		ok = c->has_sha1 || c->has_sha256;
	if (ok && old)
		atomic_init(&c->tls_turned, my_credential_tls_turned(old));
	if (ok)
		return c;
	my_credential_unref(c);
	return NULL;
}

const char *my_credential_password(const struct my_credential *c) {
	return c ? c->password : NULL;
}

const uint8_t *my_credential_sha1(const struct my_credential *c) {
	return c && c->has_sha1 ? c->sha1 : NULL;
}

const uint8_t *my_credential_sha256(const struct my_credential *c) {
	return c && c->has_sha256 ? c->sha256 : NULL;
}

bool my_credential_is_empty(const struct my_credential *c) {
	return !c || (c->type == MY_SECRET_NONE && !c->has_sha1 && !c->has_sha256);
}

const char *my_credential_is(const struct my_credential *c) {
	if (my_credential_is_empty(c))
		return "no secret at all";
	if (c->password)
		return "a password";
	if (c->has_sha1)
		return "SHA1 of the password, as mysql_native_password shows it";
	if (c->has_sha256)
		return "SHA256 of the password, as the fast path of caching_sha2_password shows it";
	if (c->type == MY_SECRET_FOREIGN)
		return "a stored secret of PostgreSQL's";
	return c->type == MY_SECRET_NATIVE ? "a *HEX secret that no client has logged in with yet"
					   : "a $A$ secret that no client has logged in with yet";
}

bool my_credential_tls_turned(const struct my_credential *c) {
	return c && atomic_load_explicit(&c->tls_turned, memory_order_relaxed);
}

void my_credential_turn_tls(struct my_credential *c, bool turned) {
	atomic_store_explicit(&c->tls_turned, turned, memory_order_relaxed);
}
