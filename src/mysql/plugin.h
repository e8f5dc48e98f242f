/*
 * The arithmetic of MySQL's authentication plugins, for both sides: mysql_native_password, caching_sha2_password, and
 * the RSA that hides a password where there is no TLS. No state, any thread; callers wipe what they get.
 */
#ifndef MYSQL_PLUGIN_H
#define MYSQL_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mysql/wire.h"

#define MY_NATIVE_NAME "mysql_native_password"
#define MY_SHA2_NAME "caching_sha2_password"
#define MY_CLEAR_NAME "mysql_clear_password"

enum my_plugin { MY_PLUGIN_NATIVE, MY_PLUGIN_SHA2, MY_PLUGIN_CLEAR, MY_PLUGIN_OTHER };

/* The plugin of that name (`len` bytes); "" and what we do not know: MY_PLUGIN_OTHER. */
enum my_plugin my_plugin_of(const char *name, size_t len);
const char *my_plugin_name(enum my_plugin plugin);

enum { MY_SHA1 = 20, MY_SHA256 = 32 };

void my_sha1(const void *data, size_t len, uint8_t out[MY_SHA1]);
void my_sha256(const void *data, size_t len, uint8_t out[MY_SHA256]);

/* ---- a stored secret ---- */

enum my_secret_type {
	MY_SECRET_NONE,
	MY_SECRET_PLAIN,  /* a password, whatever it looks like */
	MY_SECRET_NATIVE, /* "*" and 40 digits: SHA1(SHA1(password)) */
	MY_SECRET_SHA2,   /* "$A$", rounds, salt, hash: SHA-crypt with SHA-256 */
	MY_SECRET_FOREIGN /* PostgreSQL's: an md5 hash or a SCRAM secret; nobody can log in by it, least of all as a password */
};
/* NULL and "": MY_SECRET_NONE. */
enum my_secret_type my_secret_type_of(const char *secret);
/* The hash in a MY_SECRET_NATIVE. */
bool my_native_parse(const char *secret, uint8_t out[MY_SHA1]);

enum { MY_SHA2_SALT = 20, MY_SHA2_HASH = 43 };
struct my_sha2_stored {
	uint32_t rounds; /* of SHA-crypt: the thousands that are stored, times 1000 */
	uint8_t salt[MY_SHA2_SALT];
	char hash[MY_SHA2_HASH + 1];
};
/* Takes a MY_SECRET_SHA2 apart, also in the form of SHOW CREATE USER ... (0x24412430...), for the salt may hold any byte. */
bool my_sha2_parse(const char *secret, struct my_sha2_stored *out);
/* The hash of this password with that salt, as it is stored; takes milliseconds. False: out of memory. */
bool my_sha2_hash(const char *password, size_t len, const uint8_t salt[MY_SHA2_SALT], uint32_t rounds,
		  char out[MY_SHA2_HASH + 1]);

/* ---- mysql_native_password ---- */

/* SHA1(password): all that is needed to log in. */
void my_native_key(const char *password, uint8_t key[MY_SHA1]);
/* The answer of who knows the key to this challenge. */
void my_native_answer(const uint8_t key[MY_SHA1], const uint8_t scramble[MY_SCRAMBLE], uint8_t out[MY_SHA1]);
/* Whether an answer is by who knows the key whose SHA1 is `stored`; then `key` is that key. */
bool my_native_check(const uint8_t answer[MY_SHA1], const uint8_t scramble[MY_SCRAMBLE], const uint8_t stored[MY_SHA1],
		     uint8_t key[MY_SHA1]);

/* ---- caching_sha2_password, the fast path ---- */

/* SHA256(password): what the fast path needs. */
void my_sha2_key(const char *password, uint8_t key[MY_SHA256]);
void my_sha2_answer(const uint8_t key[MY_SHA256], const uint8_t scramble[MY_SCRAMBLE], uint8_t out[MY_SHA256]);
/* Whether an answer is by who knows the key whose SHA256 is `known`; then `key` is that key. */
bool my_sha2_check(const uint8_t answer[MY_SHA256], const uint8_t scramble[MY_SCRAMBLE], const uint8_t known[MY_SHA256],
		   uint8_t key[MY_SHA256]);

/* ---- RSA: the password with its zero, XORed with the scramble, by OAEP with SHA-1 ---- */

enum { MY_RSA_PEM_MAX = 4096, MY_RSA_CIPHER_MAX = 1024 };

struct evp_pkey_st;

/* A new key of 2048 bits; takes a tenth of a second. NULL: it could not be made. */
struct evp_pkey_st *my_rsa_generate(void);
void my_rsa_free(struct evp_pkey_st *key);
/* Its public half, PEM, with a zero. Returns the length; 0: failed. */
size_t my_rsa_public(struct evp_pkey_st *key, char out[MY_RSA_PEM_MAX]);
/* The password, `out` with room for as many bytes as the cipher has; takes a millisecond. False: it is none of ours. */
bool my_rsa_decrypt(struct evp_pkey_st *key, const uint8_t scramble[MY_SCRAMBLE], const uint8_t *cipher, size_t len,
		    char *out, size_t room);
/* A public key, PEM. NULL: it is none of RSA, or too large. */
struct evp_pkey_st *my_rsa_read_public(const void *pem, size_t len);
struct evp_pkey_st *my_rsa_ref(struct evp_pkey_st *key); /* my_rsa_free() lets go; NULL is fine */
/* The password for who has the key's private half. Returns the length; 0: the password is too long for it. */
size_t my_rsa_encrypt(struct evp_pkey_st *key, const uint8_t scramble[MY_SCRAMBLE], const char *password,
		      uint8_t out[MY_RSA_CIPHER_MAX]);

#endif
