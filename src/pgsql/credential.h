/*
 * How servers log in for a user: a password, an md5 hash, or SCRAM keys recovered from a client's proof. Immutable
 * (but for a cache under a mutex) and shared with an atomic reference count; wiped when freed. Any thread.
 */
#ifndef PGSQL_CREDENTIAL_H
#define PGSQL_CREDENTIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "pgsql/password.h"
#include "pgsql/scram.h"

struct pg_credential;

struct pg_credential *pg_credential_new(const char *user, const char *secret); /* secret NULL: none */
struct pg_credential *pg_credential_ref(struct pg_credential *credential);
void pg_credential_unref(struct pg_credential *credential); /* NULL is fine */

/* What a client's login has shown: `password` in plaintext, or `client_key` to the stored SCRAM secret (the other is
 * NULL; both NULL: only the stored secret itself). `stored`: the secret that it was checked against. NULL: out of
 * memory. */
struct pg_credential *pg_credential_recovered(const char *user, const char *stored, const char *password,
					      const uint8_t *client_key);
/* Whether `fresh` should take the place of `old` (NULL: none): it can log in where the old one cannot, or the secret
 * that users log in with has changed since. */
bool pg_credential_better(const struct pg_credential *old, const struct pg_credential *fresh);

/* Whether a login that was checked against `stored` (NULL: none), and has shown no more than keys to it if `has_key`, has
 * nothing that this one (NULL: none) does not have: pg_credential_better() would say no. It says so only where that can be
 * seen at once. */
bool pg_credential_covers(const struct pg_credential *credential, const char *stored, bool has_key);

enum pg_secret_type pg_credential_type(const struct pg_credential *credential); /* NULL: PG_SECRET_NONE */
/* NULL: it has no plaintext. Valid while the reference is held. */
const char *pg_credential_plaintext(const struct pg_credential *credential);
/* The answer to AuthenticationMD5Password. False: it knows neither the password nor its md5 form. */
bool pg_credential_md5_answer(const struct pg_credential *credential, const char *user, const uint8_t salt[4],
			      char out[MD5_SECRET_SIZE]);

enum pg_keys {
	PG_KEYS_READY,      /* `keys` is set */
	PG_KEYS_DERIVE,     /* pg_credential_derive() must be run first, on a helper thread */
	PG_KEYS_OTHER_SALT, /* recovered keys, but this server's secret has another salt or iterations */
	PG_KEYS_NONE        /* nothing to make them of */
};
enum pg_keys pg_credential_keys(struct pg_credential *credential, const struct scram_salt *salt,
				struct scram_keys *keys);
/* Derives the keys from the password and keeps them. Takes milliseconds. */
bool pg_credential_derive(struct pg_credential *credential, const struct scram_salt *salt, struct scram_keys *keys);

/*
 * Where the pool's TLS mode is allow or prefer, libpq tries the other way when the server's pg_hba.conf refuses the
 * first. This is what logins of a user have learnt about that; atomic.
 */
bool pg_credential_tls_turned(const struct pg_credential *credential);
void pg_credential_turn_tls(struct pg_credential *credential, bool turned);

#endif
