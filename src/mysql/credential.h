/*
 * How servers log in for a user: the password, or what a client's proof has shown of it: SHA1(password), which
 * mysql_native_password needs, or SHA256(password), which the fast path of caching_sha2_password needs. Immutable (but
 * for one atomic) and shared with an atomic reference count; wiped when freed. Any thread.
 */
#ifndef MYSQL_CREDENTIAL_H
#define MYSQL_CREDENTIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "mysql/plugin.h"

struct my_credential;

/* What is configured: a password, *HEX, or $A$...; NULL or "": none, which logs in without a password. NULL: out of
 * memory. */
struct my_credential *my_credential_new(const char *secret);
struct my_credential *my_credential_ref(struct my_credential *credential);
void my_credential_unref(struct my_credential *credential); /* NULL is fine */

/* What a login has shown; each NULL where it has not. `stored`: the secret that it was checked against; NULL: none. */
struct my_shown {
	const char *stored;
	const char *password;
	const uint8_t *sha1, *sha256;
};
/*
 * What is to take the place of `old` (NULL: none), which keeps its reference: all that both know, if they come of the
 * same stored secret; if not, the newer one, provided that it knows something. NULL: `old` stays (or out of memory:
 * then servers' logins will say what is missing).
 */
struct my_credential *my_credential_merged(const struct my_credential *old, const struct my_shown *shown);
/* What it knows; NULL: not that. Valid while referenced. `credential` NULL knows nothing. */
const char *my_credential_password(const struct my_credential *credential);
const uint8_t *my_credential_sha1(const struct my_credential *credential);
const uint8_t *my_credential_sha256(const struct my_credential *credential);
/* There is nothing at all: log in without a password. */
bool my_credential_is_empty(const struct my_credential *credential);
/* What there is, for an error: "a password", "a *HEX secret that no client has logged in with yet". */
const char *my_credential_is(const struct my_credential *credential);

/* tls_mode = allow: a server has refused us without TLS, and the next attempt is made with it (or the other way). */
bool my_credential_tls_turned(const struct my_credential *credential);
void my_credential_turn_tls(struct my_credential *credential, bool turned);

#endif
