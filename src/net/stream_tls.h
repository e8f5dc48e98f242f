/*
 * TLS as a layer of net/stream.c, and private to it. What callers write waits in tls_session_unsealed() until it is made into
 * records; records, and whatever else TLS has to say, go into `stream->out`, which leaves as a plain stream's bytes do. What the
 * socket has is received by TLS itself.
 *
 * So no step waits for room to send in, and any may leave something in `out`: whoever calls one sends it. With more in `out` than
 * anybody honest can bring about, it receives no more, and is broken.
 *
 * All functions: the owning worker's thread, on a stream with TLS but for stream_tls_start().
 */
#ifndef NET_STREAM_TLS_H
#define NET_STREAM_TLS_H

#include "net/stream.h"

enum {
	TLS_RECORD = 16 * 1024 /* plaintext in one record at most (RFC 8446 section 5.1) */
};

enum stream_tls_step { STREAM_TLS_DONE, STREAM_TLS_WAITS, STREAM_TLS_FAILED };

/* Sets `stream->ssl`. False: `error` says why. */
bool stream_tls_start(struct stream *stream, struct tls_context *tls, const char *host, const char *alpn, struct error *error);
/* Ends the session without a word. What is unsealed must have been released. */
void stream_tls_free(struct stream *stream);
/* Goes on with the handshake. STREAM_TLS_WAITS: for the peer. STREAM_TLS_FAILED: errno, tls_session_error(); `out` may hold an alert
 * that tells the peer why. */
enum stream_tls_step stream_tls_handshake(struct stream *stream);
/* Makes records of all these bytes. STREAM_TLS_WAITS: of none of them, since a message of the peer's to TLS has come by half (a new
 * ticket, RFC 8446 section 4.6.1); again when there is something to receive. STREAM_TLS_FAILED: as above. */
enum stream_tls_step stream_tls_seal(struct stream *stream, const void *data, size_t len);
/* Whether what stream_tls_seal() waited for has come. */
bool stream_tls_can_seal(struct stream *stream);
/* As stream_recv() on a stream that is open; STREAM_BROKEN: as STREAM_TLS_FAILED. `more`: it is to be called again though the
 * socket may have nothing to announce. */
ssize_t stream_tls_recv(struct stream *stream, void *buf, size_t len, bool *more);
/* Whether it holds bytes that it has received and nobody has read. */
bool stream_tls_holds(struct stream *stream);
/* Takes in what the socket has. True: that was nothing for a reader, but, say, a session ticket (RFC 8446 section 4.6.1). */
bool stream_tls_take_in(struct stream *stream);
/* Says goodbye (close_notify, RFC 8446 section 6.1). */
void stream_tls_farewell(struct stream *stream);

#endif
