/*
 * SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677; channel binding tls-server-end-point of RFC 5929), both
 * sides, as pure steps from message to message: no socket, no clock. Any thread; one exchange is one thread's at a
 * time.
 *
 * The costly step (PBKDF2) stands alone in scram_derive(), to be run away from a loop. The server's side needs keys
 * only when the proof has come, so they may be derived in the midst of an exchange.
 */
#ifndef PGSQL_SCRAM_H
#define PGSQL_SCRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum {
	SCRAM_KEY = 32,
	SCRAM_SALT_MAX = 256,
	SCRAM_NONCE_MAX = 512,                  /* of ours and the peer's together */
	SCRAM_ITERATIONS = 4096,                /* of secrets that we make; PostgreSQL's default */
	SCRAM_ITERATIONS_MAX = 10 * 1000 * 1000 /* more is refused: it would keep a thread for seconds */
};
#define SCRAM_PLAIN_NAME "SCRAM-SHA-256"
#define SCRAM_PLUS_NAME "SCRAM-SHA-256-PLUS"

struct scram_salt {
	uint32_t iterations;
	size_t len;
	uint8_t bytes[SCRAM_SALT_MAX];
};

struct scram_keys {
	uint8_t client[SCRAM_KEY], stored[SCRAM_KEY], server[SCRAM_KEY];
};

/* What a server stores: all but the client's key. */
struct scram_secret {
	struct scram_salt salt;
	uint8_t stored[SCRAM_KEY], server[SCRAM_KEY];
};

bool scram_salt_equal(const struct scram_salt *a, const struct scram_salt *b);
/* All keys of a password (prepared by SASLprep within). Takes milliseconds. False: out of memory. */
bool scram_derive(const char *password, const struct scram_salt *salt, struct scram_keys *keys);
/* Parses "SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>". */
bool scram_secret_parse(const char *text, struct scram_secret *secret);

enum scram_result {
	SCRAM_OK,
	SCRAM_WRONG,       /* well-formed, but the proof or signature does not hold */
	SCRAM_BINDING,     /* channel binding: another certificate, or a downgrade */
	SCRAM_UNSUPPORTED, /* an extension that we must not ignore */
	SCRAM_MALFORMED,
	SCRAM_NO_MEMORY
};

/* The channel's end point; len 0: none (plain, or undefined for the certificate). */
struct scram_binding {
	size_t len;
	uint8_t bytes[64];
};

/* Server's side. The secret's keys must be set before scram_server_verify(), its salt before scram_server_first(). */
struct scram_server;

/* `binding`: what we can bind to (SCRAM-SHA-256-PLUS was offered when it is not empty); `plus`: the client chose it. */
struct scram_server *scram_server_new(const struct scram_binding *binding, bool plus);
void scram_server_free(struct scram_server *server); /* wiped; NULL is fine */
/* Takes client-first-message. SCRAM_OK: `*out` is server-first-message, valid while `server` is. */
enum scram_result scram_server_first(struct scram_server *server, const struct scram_salt *salt, const void *message,
				     size_t len, const char **out, struct error *error);
/* Takes client-final-message, all but the proof's truth. */
enum scram_result scram_server_final(struct scram_server *server, const void *message, size_t len,
				     struct error *error);
/* SCRAM_OK or SCRAM_WRONG, in the same time. `*out` is server-final-message; `client_key` what the proof reveals. */
enum scram_result scram_server_verify(struct scram_server *server, const struct scram_secret *secret,
				      uint8_t client_key[SCRAM_KEY], const char **out);

/* Client's side. */
struct scram_client;

/* `binding` empty: the channel has none. `plus`: the server offers SCRAM-SHA-256-PLUS, and it is what we choose. */
struct scram_client *scram_client_new(const struct scram_binding *binding, bool plus);
void scram_client_free(struct scram_client *client); /* wiped; NULL is fine */
const char *scram_client_first(const struct scram_client *client);
/* Takes server-first-message: what salt the keys must have. */
enum scram_result scram_client_challenge(struct scram_client *client, const void *message, size_t len,
					 struct scram_salt *salt, struct error *error);
/* Client-final-message, valid while `client` is. Uses keys->client, ->stored and ->server. NULL: out of memory. */
const char *scram_client_final(struct scram_client *client, const struct scram_keys *keys);
/* Takes server-final-message: whether the server knows the secret too. */
enum scram_result scram_client_verify(struct scram_client *client, const void *message, size_t len,
				      struct error *error);

#endif
