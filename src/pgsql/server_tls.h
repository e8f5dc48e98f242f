/*
 * How a connection to a backend gets TLS: SSLRequest and its one-byte answer (section "SSL Session Encryption").
 * Shared by logins and cancel requests.
 */
#ifndef PGSQL_SERVER_TLS_H
#define PGSQL_SERVER_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/stream.h"

/* Sends SSLRequest. */
bool server_tls_ask(struct stream *stream);

enum server_tls_answer {
	SERVER_TLS_STARTED, /* 'S': the handshake is under way, server_secured() follows */
	SERVER_TLS_REFUSED, /* 'N': the server has none */
	SERVER_TLS_FAILED   /* `why` says what */
};
/*
 * Takes the answer, at least one byte. `host_text`: "name:port" as configured; the name is what TLS verifies. Bytes
 * behind an 'S' were sent before TLS by who knows whom (CVE-2021-23222): refused.
 */
enum server_tls_answer server_tls_answer(struct stream *stream, struct tls_context *tls, const char *host_text,
					 const uint8_t *data, size_t len, char *why, size_t room);

#endif
