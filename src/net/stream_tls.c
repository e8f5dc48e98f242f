#include "net/stream_tls.h"

#include <errno.h>
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>

#include "net/worker.h"

enum {
	RECORD_MORE = 96,       /* bytes of a record beside its plaintext, at most (RFC 5246 section 6.2.3, RFC 8446 section 5.2) */
	OUT_ENOUGH = 256 * 1024 /* far more than is made into records before it is sent */
};

/* What TLS reads from and writes to */

static BIO_METHOD *wire; /* of all sessions; lives as long as the process */
static pthread_once_t wire_once = PTHREAD_ONCE_INIT;

static int wire_read(BIO *bio, char *data, int len) {
	struct stream *s = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	/* Somebody who makes TLS answer again and again (TLS 1.2: by asking for a handshake anew) and reads none of it fills no memory. */
	if (buf_len(&s->out) > OUT_ENOUGH) {
		errno = ENOBUFS;
		return -1;
	}
	ssize_t n = recv(s->fd, data, (size_t)len, 0);
	if (n == 0)
		BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		BIO_set_retry_read(bio);
	return (int)n;
}

static int wire_write(BIO *bio, const char *data, int len) {
	struct stream *s = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	if (buf_append(s->worker ? s->worker->buffers : NULL, &s->out, data, (size_t)len))
		return len;
	errno = ENOMEM;
	return -1;
}

static long wire_control(BIO *bio, int command, long number, void *pointer) {
	(void)number, (void)pointer;
	switch (command) {
	case BIO_CTRL_FLUSH:
		return 1;
	case BIO_CTRL_EOF:
		return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
	default:
		return 0;
	}
}

static int wire_create(BIO *bio) {
	BIO_set_init(bio, 1);
	return 1;
}

static void make_wire(void) {
	BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stream");

	if (method && BIO_meth_set_read(method, wire_read) && BIO_meth_set_write(method, wire_write) &&
	    BIO_meth_set_ctrl(method, wire_control) && BIO_meth_set_create(method, wire_create))
		wire = method;
	else
		BIO_meth_free(method);
}

/* The session */

bool stream_tls_start(struct stream *s, struct tls_context *tls, const char *host, const char *alpn, struct error *error) {
	pthread_once(&wire_once, make_wire);
	BIO *bio = wire ? BIO_new(wire) : NULL;

	if (!bio) {
		ERR_clear_error();
		return error_set(error, ENOMEM, "out of memory for TLS");
	}
	BIO_set_data(bio, s);
	s->ssl = tls_session_new(tls, bio, host, alpn, error);
	return s->ssl;
}

void stream_tls_free(struct stream *s) {
	SSL_free(s->ssl);
	ERR_clear_error();
	s->ssl = NULL;
}

/* SSL_get_error() looks at this thread's queue, where another use of OpenSSL may have left something. */
static void before_step(void) {
	if (ERR_peek_error())
		ERR_clear_error();
}

/* What became of a step that gave `n`, which is not a success. STREAM_TLS_DONE: the peer has said goodbye. */
static enum stream_tls_step step_result(struct stream *s, int n) {
	int e = errno;
	int result = SSL_get_error(s->ssl, n);

	if (result == SSL_ERROR_WANT_READ)
		return STREAM_TLS_WAITS;
	if (result == SSL_ERROR_ZERO_RETURN)
		return STREAM_TLS_DONE;
	if (result != SSL_ERROR_SYSCALL)
		e = EPROTO;
	tls_session_failed(s->ssl, result, e);
	errno = e ? e : ECONNRESET;
	return STREAM_TLS_FAILED;
}

enum stream_tls_step stream_tls_handshake(struct stream *s) {
	before_step();
	int n = SSL_do_handshake(s->ssl);
	if (n == 1)
		return STREAM_TLS_DONE;
	enum stream_tls_step step = step_result(s, n);
	if (step != STREAM_TLS_DONE)
		return step;
	tls_session_failed(s->ssl, SSL_ERROR_ZERO_RETURN, 0);
	errno = ECONNRESET;
	return STREAM_TLS_FAILED;
}

enum stream_tls_step stream_tls_seal(struct stream *s, const void *data, size_t len) {
	size_t done;

	if (!buf_reserve(s->worker->buffers, &s->out, len + (len / TLS_RECORD + 1) * RECORD_MORE)) {
		errno = ENOMEM;
		return STREAM_TLS_FAILED;
	}
	before_step();
	if (SSL_write_ex(s->ssl, data, len, &done) == 1)
		return STREAM_TLS_DONE;
	enum stream_tls_step step = step_result(s, 0);
	if (step != STREAM_TLS_DONE)
		return step;
	errno = EPIPE;
	return STREAM_TLS_FAILED;
}

bool stream_tls_can_seal(struct stream *s) {
	return !SSL_in_init(s->ssl);
}

ssize_t stream_tls_recv(struct stream *s, void *buf, size_t len, bool *more) {
	size_t got = 0;

	*more = false;
	while (got < len) {
		size_t room = len - got;
		before_step();
		int n = SSL_read(s->ssl, (uint8_t *)buf + got, room < INT_MAX ? (int)room : INT_MAX);
		if (n > 0) {
			got += (size_t)n;
			if (!SSL_has_pending(s->ssl))
				break;
			continue;
		}
		enum stream_tls_step step = step_result(s, n);
		if (step == STREAM_TLS_WAITS)
			return got > 0 ? (ssize_t)got : STREAM_AGAIN;
		if (got > 0) {
			/* What came before the end, or the error, goes first; that comes again by itself. */
			*more = true;
			return (ssize_t)got;
		}
		return step == STREAM_TLS_DONE ? STREAM_EOF : STREAM_BROKEN;
	}
	*more = got == len && SSL_has_pending(s->ssl);
	return (ssize_t)got;
}

bool stream_tls_holds(struct stream *s) {
	return SSL_has_pending(s->ssl);
}

bool stream_tls_take_in(struct stream *s) {
	uint8_t byte;

	before_step();
	int n = SSL_peek(s->ssl, &byte, 1);
	bool nothing = n <= 0 && SSL_get_error(s->ssl, n) == SSL_ERROR_WANT_READ;
	ERR_clear_error();
	return nothing;
}

void stream_tls_farewell(struct stream *s) {
	before_step();
	SSL_shutdown(s->ssl);
	ERR_clear_error();
}
