/* TLS settings, made once from files (never on a worker's thread: it reads the disk), then shared. */
#ifndef NET_TLS_H
#define NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct bio_st;
struct buf;
struct ssl_st;
struct tls_context; /* atomic reference count; immutable; any thread */

enum tls_mode { TLS_DISABLE, TLS_ALLOW, TLS_PREFER, TLS_REQUIRE, TLS_VERIFY_CA, TLS_VERIFY_FULL };

struct tls_settings {
	const char *cert_file, *key_file; /* PEM; NULL or "": none */
	const char *ca_file;              /* PEM; NULL or "": none; "system": the system's */
	const char *crl_file;
	const char *min_version;          /* "1.2" (default), "1.3" */
	const char *ciphers;              /* OpenSSL cipher list for TLS 1.2; NULL: the default */
	bool verify_peer;                 /* client: fail on an untrusted certificate; server: require a client's */
	bool request_peer;                /* server: ask for a client's certificate, accept none */
	bool verify_host;                 /* client: the name must match as well */
	const char *alpn;                 /* server: the one protocol that direct TLS must offer; NULL: any */
};

/* No code in this process is to ask for a passphrase on the terminal: the client libraries, too, read with OpenSSL what servers
 * send, which may be locked, and would wait for ever. Once, before any thread starts. */
void tls_never_ask(void);

/* NULL: `error` names the file and what is wrong with it. */
struct tls_context *tls_context_server(const struct tls_settings *settings, struct error *error);
struct tls_context *tls_context_client(const struct tls_settings *settings, struct error *error);
struct tls_context *tls_context_ref(struct tls_context *context);
void tls_context_unref(struct tls_context *context); /* NULL is fine */
/* Whether both show the same certificate of their own, or none. */
bool tls_context_same_certificate(const struct tls_context *a, const struct tls_context *b);

/* RFC 5929 tls-server-end-point: the hash of the server's certificate, own or peer's. Returns its length, 0 when
 * undefined for this certificate. `out` has room for 64 bytes. */
size_t tls_server_end_point(struct ssl_st *ssl, bool we_are_server, uint8_t out[64]);
/* The peer certificate's common name, or false: none, or it has an embedded zero. */
bool tls_peer_common_name(struct ssl_st *ssl, char *out, size_t room);
/* Whether the peer sent a certificate that was verified. */
bool tls_peer_verified(struct ssl_st *ssl);
/* The peer's subject in RFC 2253 form, for a user map. False: no certificate. */
bool tls_peer_subject(struct ssl_st *ssl, char *out, size_t room);
/* "TLSv1.3", "TLS_AES_256_GCM_SHA384" for logs and the console. */
const char *tls_version(struct ssl_st *ssl);
const char *tls_cipher(struct ssl_st *ssl);
/* Whether ALPN was negotiated on this connection and is `name`. */
bool tls_alpn_is(struct ssl_st *ssl, const char *name);

/* The name to verify, of a host as it is configured: "name:port", "[v6]:port". */
void tls_host_name(const char *host_text, char *out, size_t room);

/* For net/stream.c and net/stream_tls.c, from here on. */

/*
 * A TLS session that reads from and writes to `wire`, which is the session's from now on, also where this fails. Server or client
 * as the context is; `host` (to verify, and to send as SNI unless it is an address) and `alpn` are for clients and may be NULL.
 * SSL_free() ends it. NULL: `error` says why.
 */
struct ssl_st *tls_session_new(struct tls_context *context, struct bio_st *wire, const char *host, const char *alpn,
			       struct error *error);
/* Keeps why the last step failed, from OpenSSL's queue of this thread. `result`: SSL_get_error()'s; `e`: the errno. */
void tls_session_failed(struct ssl_st *ssl, int result, int e);
/* What tls_session_failed() kept; "" when nothing. Lives as long as the session. */
const char *tls_session_error(struct ssl_st *ssl);
/* Room for what is not made into records yet: the session keeps it, the stream fills and releases it. */
struct buf *tls_session_unsealed(struct ssl_st *ssl);

#endif
