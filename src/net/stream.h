/*
 * A byte stream over TCP or a Unix socket, with or without TLS; callers never ask which. It stays registered
 * with its worker's loop for reading; reading is stopped only against a slow peer on the other side.
 *
 * All functions: the owning worker's thread. An I/O error while sending is remembered and reported to the
 * owner through `on_ready` with STREAM_FAILED, once, never from within stream_write(), so that no caller is
 * re-entered.
 *
 * A stream may be closed, detached or handed on from within `on_ready`. The memory it is in may be freed there
 * too, once it is closed, as far as net/ is concerned; where callers further up still look at it, free it by
 * worker_defer(). A zeroed struct stream is a closed one.
 *
 * What leaves does so with MSG_NOSIGNAL.
 */
#ifndef NET_STREAM_H
#define NET_STREAM_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/list.h"
#include "net/tls.h"

struct send_ring;
struct worker;
struct stream;

enum stream_event {
	STREAM_READABLE = 1, /* bytes, or the end, or an error: call stream_recv() */
	STREAM_DRAINED = 2,  /* all queued output is sent after it had been held up */
	STREAM_FAILED = 4,   /* broken; stream_error() says how */
	STREAM_CONNECTED = 8 /* after stream_connect(), or when a TLS handshake is done */
};

enum { STREAM_EOF = 0, STREAM_AGAIN = -1, STREAM_BROKEN = -2 };

struct stream {
	ev_io io;
	struct worker *worker;
	void (*on_ready)(struct stream *stream, int events); /* a set of enum stream_event */
	struct ssl_st *ssl;                                   /* NULL: plain */
	struct buf out;    /* what the socket has not taken yet; with TLS, records */
	struct list dirty; /* on worker->dirty while output of this wake-up is not sent */
	int fd;            /* -1: closed */
	uint16_t error;    /* errno of what broke it; 0: whole */
	uint8_t phase : 2; /* private: connecting, handshaking, open */
	bool reading : 1, held_up : 1, tls_server : 1;
	bool input_ready : 1; /* private: TLS or a paused reader holds bytes that no event will announce */
	bool gated : 1;       /* private: bytes came while paused, so that the watcher for reading is stopped */
	bool failure_told : 1; /* private */
	bool seal_waits : 1;  /* private: held up until TLS has received more */
	bool filled : 1;      /* private: the last receive got WORKER_READ_SIZE at least */
	bool input_over : 1;  /* private: the peer's end has come, or stream_input_over() */
	bool secret : 1;      /* private: what is queued is wiped when it has gone */
	bool local : 1;       /* private: it was connected to a Unix socket */
};

/* Takes over a connected, non-blocking descriptor and starts reading. */
void stream_open(struct stream *stream, struct worker *worker, int fd, void (*on_ready)(struct stream *, int));
/* Begins to connect; STREAM_CONNECTED or STREAM_FAILED follows (never from within the call). False: failed at
 * once; `stream->error` is set and nothing is open. */
bool stream_connect(struct stream *stream, struct worker *worker, const struct sockaddr *address, socklen_t len,
		    void (*on_ready)(struct stream *, int));
/* Begins TLS as server or client on an open stream. The caller has made sure that no byte was received and not
 * consumed (CVE-2021-3935). STREAM_CONNECTED or STREAM_FAILED follows, never from within the call. False: not
 * begun (out of memory, a host that cannot be verified, output held up); stream_error() says why. */
bool stream_tls_accept(struct stream *stream, struct tls_context *tls);
/* `host` is the name to verify (and to send as SNI unless it is an address); may be NULL. `alpn`: e.g. "postgresql" or NULL. */
bool stream_tls_connect(struct stream *stream, struct tls_context *tls, const char *host, const char *alpn);
/* Why the last TLS step failed, or strerror(error); never NULL. Valid until the next call on this thread. */
const char *stream_error(const struct stream *stream);

/* Receives up to `len` bytes: > 0, STREAM_EOF, STREAM_AGAIN, STREAM_BROKEN. One system call at most in plain
 * mode. When TLS holds more, STREAM_READABLE follows by itself. After a failure to send it still yields what a
 * plain peer had sent before (its last words), then STREAM_BROKEN. */
ssize_t stream_recv(struct stream *stream, void *buf, size_t len);
/* How much of the worker's scratch buffer to receive into: WORKER_READ_SIZE, or all of it where the last receive got as much: fewer
 * and larger steps cost a long result up to a third less. From a Unix socket never all of it: its writer waits for the room that
 * the reader makes, and goes on beside it only where that comes early. */
size_t stream_room(const struct stream *stream);
/* Peeks without consuming, plain streams only (to tell direct TLS from a start-up message). As stream_recv(). */
ssize_t stream_peek(struct stream *stream, void *buf, size_t len);
/* Queues bytes for the peer: small ones are copied and leave in one send when all callbacks of this wake-up are done, or dozens
 * of streams have some; large ones (8 KiB and more) are sent at once (behind what is queued) and only what the socket does not
 * take is copied. On a stream that is broken or closed the bytes are dropped. False: out of memory; the stream is broken then. */
bool stream_write(struct stream *stream, const void *data, size_t len);
/* What is written from now on is a secret, until all of it has gone: its copy is wiped then. */
void stream_secret(struct stream *stream);
/* Bytes that the socket has not taken yet. */
static inline size_t stream_pending(const struct stream *stream) {
	return buf_len(&stream->out) + (stream->ssl ? buf_len(tls_session_unsealed(stream->ssl)) : 0);
}
/* Sends what is queued. True: all of it went, or the rest waits for the socket. False: broken. */
bool stream_flush(struct stream *stream);
/* The same for all streams of a list (by their `dirty`), which is empty afterwards: where there is a ring, in one system call for
 * SEND_RING_SIZE of them. A failure is told to the owner of its stream. False: the ring has failed, and the
 * rest was sent without it. For net/worker. */
bool stream_flush_all(struct list *dirty, struct send_ring *ring);
/* Moves those that have an event to be told of to `later`: a send that fails must not take from them what their peer has said
 * before. For net/worker. */
void stream_keep_back(struct list *dirty, struct list *later);
/* Stops and goes on reading (user-space gate first: the watcher is stopped only when bytes do come in). */
void stream_pause(struct stream *stream);
void stream_resume(struct stream *stream);
/* Takes it off its loop, to live on with another worker; out must be flushed. Then the other: attach. */
void stream_detach(struct stream *stream);
void stream_attach(struct stream *stream, struct worker *worker);
/* True when nothing is readable now: no byte, no end (an idle server that speaks is not clean). One recv with MSG_PEEK. */
bool stream_quiet(struct stream *stream);
/* The peer has said that it sends no more: stream_close() need not look for input that nobody has read, which would make
 * the kernel answer it with a reset and drop what was sent last. */
void stream_input_over(struct stream *stream);
/* Closes; may be called twice. Output that is queued is tried once. No callback follows. */
void stream_close(struct stream *stream);

#endif
