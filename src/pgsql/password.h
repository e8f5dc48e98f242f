/* Passwords as PostgreSQL stores, normalises and hashes them. Any thread. */
#ifndef PGSQL_PASSWORD_H
#define PGSQL_PASSWORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pg_secret_type { PG_SECRET_NONE, PG_SECRET_PLAIN, PG_SECRET_MD5, PG_SECRET_SCRAM };

enum { MD5_SECRET_SIZE = 36 }; /* "md5", 32 hex digits, zero */

/* What a stored secret is by its form: "md5" and 32 hex digits, "SCRAM-SHA-256$...", else plaintext. NULL: none. */
enum pg_secret_type pg_secret_type_of(const char *secret);

/* Whether it has the form of a secret that MySQL stores ("*" and 40 hex digits, "$A$005$..." or that in hex): users are
 * those of both protocols, and who has got hold of such a hash must not get in by it as if it were the password. */
bool pg_secret_is_mysqls(const char *secret);

/* "md5" and md5(text, salt) in hex: the stored form with the user's name as salt, the answer to a challenge with the
 * stored form's 32 digits as text. False: OpenSSL refuses MD5 (FIPS). */
bool md5_secret(const char *text, size_t text_len, const void *salt, size_t salt_len, char out[MD5_SECRET_SIZE]);

/*
 * The password as SCRAM hashes it: SASLprep (RFC 4013) where Forebay was built with libidn, else, and where a
 * password cannot be prepared (not UTF-8, prohibited characters), its bytes as they are, as PostgreSQL does. ASCII
 * is the same in both. Free with secret_free(). NULL: out of memory.
 */
char *password_prepare(const char *password);

/* Base 64 without line breaks, ended by a zero; `out` has room for base64_size(len). */
static inline size_t base64_size(size_t len) {
	return (len + 2) / 3 * 4 + 1;
}
void base64_encode(const void *data, size_t len, char *out);
/* Strict (RFC 4648, canonical padding). False: malformed, or longer than `room`. */
bool base64_decode(const char *text, size_t text_len, uint8_t *out, size_t room, size_t *out_len);

#endif
