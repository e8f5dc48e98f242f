/* The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), of its own, so that the benchmark shares no code with what it measures. */
#ifndef BENCH_SCRAM_H
#define BENCH_SCRAM_H

#include <stdbool.h>
#include <stddef.h>

#include "wire.h"

struct scram {
	char nonce[33];
	unsigned char server_signature[32];
};

/* The last salt that a thread has met: the costly PBKDF2 is done once for all its clients. */
struct scram_cache {
	unsigned char salt[128], salted[32];
	int salt_len, rounds;
};

/* Adds client-first-message to out. */
void scram_first(struct scram *s, struct bytes *out);
/* Takes server-first-message and adds client-final-message to out. False if the message makes no sense. */
bool scram_final(struct scram *s, struct scram_cache *cache, const char *password, const char *message, size_t len,
		 struct bytes *out);
/* Does server-final-message prove that the server knows the password too? */
bool scram_verify(const struct scram *s, const char *message, size_t len);

#endif
