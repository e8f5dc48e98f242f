#include "net/stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "net/send_ring.h"
#include "net/stream_tls.h"
#include "net/worker.h"

enum { PHASE_CLOSED, PHASE_CONNECTING, PHASE_HANDSHAKING, PHASE_OPEN }; /* a zeroed stream is closed */

enum {
	LARGE_WRITE = 8 * 1024,       /* sent at once rather than copied */
	QUEUE_ENOUGH = 32 * 1024,     /* so much queued output is sent without waiting for the end of the callback */
	SEAL_ENOUGH = 4 * TLS_RECORD, /* made into records in one step, before they are sent */
	TLS_TOGETHER = 16             /* streams whose records leave together, before those of others are made */
};

/* Why stream_tls_accept() or stream_tls_connect() could not even begin. */
static _Thread_local struct {
	const struct stream *stream;
	struct error error;
} refused;

static void on_io(struct ev_loop *loop, ev_io *io, int revents);

/* The watcher */

static int events_wanted(const struct stream *s) {
	if (s->error)
		return 0;
	switch (s->phase) {
	case PHASE_CONNECTING:
		return EV_WRITE;
	case PHASE_HANDSHAKING:
		return EV_READ | (s->held_up ? EV_WRITE : 0);
	case PHASE_OPEN:
		return (s->gated && !s->seal_waits ? 0 : EV_READ) | (s->held_up && buf_len(&s->out) > 0 ? EV_WRITE : 0);
	default:
		return 0;
	}
}

/* Brings the watcher in line with the stream's state. Events that wait for their callback are kept. */
static void watch(struct stream *s) {
	int want = events_wanted(s);
	int have = ev_is_active(&s->io) ? s->io.events & (EV_READ | EV_WRITE) : 0;

	if (want == have)
		return;
	int pending = ev_clear_pending(s->worker->loop, &s->io);
	ev_io_stop(s->worker->loop, &s->io);
	if (want) {
		ev_io_set(&s->io, s->fd, want);
		ev_io_start(s->worker->loop, &s->io);
	}
	if (pending)
		ev_feed_event(s->worker->loop, &s->io, pending);
}

static void feed(struct stream *s, int revents) {
	ev_feed_event(s->worker->loop, &s->io, revents);
}

/* What callers have written and the stream has not passed on yet: to the socket, or with TLS into records, which are in `out`. */
static struct buf *written(struct stream *s) {
	return s->ssl ? tls_session_unsealed(s->ssl) : &s->out;
}

static void release_written(struct stream *s, struct buf *buf, struct buf_cache *buffers) {
	if (s->secret)
		buf_release_wiped(buffers, buf);
	else
		buf_release(buffers, buf);
	s->secret = false;
}

static void consume_written(struct stream *s, struct buf *buf, size_t n) {
	if (s->secret && n >= buf_len(buf))
		release_written(s, buf, s->worker->buffers);
	else
		buf_consume(s->worker->buffers, buf, n);
}

static void release_out(struct stream *s, struct buf_cache *buffers) {
	release_written(s, written(s), buffers);
	buf_release(buffers, &s->out);
}

static void consume_out(struct stream *s, size_t n) {
	if (s->ssl)
		buf_consume(s->worker->buffers, &s->out, n);
	else
		consume_written(s, &s->out, n);
}

/* Marks it broken. Nothing is sent any more. */
static void set_broken(struct stream *s, int error) {
	if (s->error)
		return;
	s->error = (uint16_t)(error ? error : EIO);
	s->held_up = false;
	list_remove(&s->dirty);
	release_out(s, s->worker->buffers);
	ev_io_stop(s->worker->loop, &s->io);
}

/* As set_broken(); the owner will be told by an event. */
static void fail(struct stream *s, int error) {
	set_broken(s, error);
	if (!s->failure_told)
		feed(s, EV_CUSTOM);
}

static void hold_up(struct stream *s) {
	s->held_up = true;
	watch(s);
}

static void start(struct stream *s, struct worker *worker, int fd, int phase,
		  void (*on_ready)(struct stream *, int)) {
	*s = (struct stream){
		.worker = worker, .fd = fd, .on_ready = on_ready, .phase = (uint8_t)phase, .reading = true};
	list_init(&s->dirty);
	ev_init(&s->io, on_io);
	/* What a server has said, its farewell above all, is heard before any client's request of the same wake-up could
	 * be given to it. */
	ev_set_priority(&s->io, phase == PHASE_CONNECTING ? 1 : 0);
	watch(s);
}

void stream_open(struct stream *stream, struct worker *worker, int fd, void (*on_ready)(struct stream *, int)) {
	start(stream, worker, fd, PHASE_OPEN, on_ready);
}

bool stream_connect(struct stream *stream, struct worker *worker, const struct sockaddr *address, socklen_t len,
		    void (*on_ready)(struct stream *, int)) {
	const int on = 1;

	*stream = (struct stream){.worker = worker, .fd = -1, .on_ready = on_ready};
	list_init(&stream->dirty);
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		stream->error = (uint16_t)errno;
		return false;
	}
	if (address->sa_family != AF_UNIX) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
	}
	int e = connect(fd, address, len) == 0 ? 0 : errno;
	if (e && e != EINPROGRESS && e != EINTR) {
		close(fd);
		stream->error = (uint16_t)e;
		return false;
	}
	/* One that is connected already is writable: the event comes at once. */
	start(stream, worker, fd, PHASE_CONNECTING, on_ready);
	stream->local = address->sa_family == AF_UNIX;
	return true;
}

/* Sending */

/* Sends what is in `out` and, behind that, `data`, in one call: what went (may be less), STREAM_AGAIN, STREAM_BROKEN. */
static ssize_t send_out(struct stream *s, const void *data, size_t len) {
	size_t queued = buf_len(&s->out);
	ssize_t n;

	do {
		if (queued > 0 && len > 0) {
			struct iovec iov[2] = {{s->out.data + s->out.start, queued}, {(void *)data, len}};
			struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
			n = sendmsg(s->fd, &msg, MSG_NOSIGNAL);
		} else {
			n = send(s->fd, len > 0 ? data : buf_bytes(&s->out), len > 0 ? len : queued, MSG_NOSIGNAL);
		}
	} while (n < 0 && errno == EINTR);
	if (n >= 0)
		return n;
	return errno == EAGAIN || errno == EWOULDBLOCK ? STREAM_AGAIN : STREAM_BROKEN;
}

/* What became of a send of all of `out`: `n` as send_out() gives it. True: all of it went. */
static bool sent(struct stream *s, ssize_t n, int error) {
	size_t queued = buf_len(&s->out);

	if (n == STREAM_BROKEN) {
		fail(s, error);
		return false;
	}
	if (n > 0)
		consume_out(s, (size_t)n);
	if (n == STREAM_AGAIN || (size_t)n < queued) {
		hold_up(s);
		return false;
	}
	return true;
}

/* Makes records of these bytes. False: of none; it is held up until TLS has heard more, or broken. */
static bool seal(struct stream *s, const void *data, size_t len) {
	switch (stream_tls_seal(s, data, len)) {
	case STREAM_TLS_DONE:
		return true;
	case STREAM_TLS_WAITS:
		s->seal_waits = true;
		hold_up(s);
		return false;
	default:
		fail(s, errno);
		return false;
	}
}

/* The same of the first of what is written, SEAL_ENOUGH of it at most. */
static bool seal_written(struct stream *s) {
	struct buf *buf = written(s);

	if (!s->ssl || s->phase != PHASE_OPEN || buf_len(buf) == 0)
		return true;
	size_t len = buf_len(buf) < SEAL_ENOUGH ? buf_len(buf) : SEAL_ENOUGH;
	if (!seal(s, buf_bytes(buf), len))
		return false;
	consume_written(s, buf, len);
	return true;
}

/* Sends what is queued until all went or the socket is full. False: broken. */
static bool send_queued(struct stream *s) {
	bool was_held_up = s->held_up;

	s->held_up = s->seal_waits = false;
	/* what is in `out` already goes first, so that it does not grow without bounds */
	while ((buf_len(&s->out) > 0 || seal_written(s)) && buf_len(&s->out) > 0) {
		ssize_t n = send_out(s, NULL, 0);
		if (!sent(s, n, errno))
			break;
	}
	if (s->error)
		return false;
	if (was_held_up && !s->held_up)
		watch(s);
	return true;
}

static bool queue(struct stream *s, const void *data, size_t len) {
	if (buf_append(s->worker->buffers, written(s), data, len))
		return true;
	fail(s, ENOMEM);
	return false;
}

static bool plain_write_now(struct stream *s, const uint8_t *data, size_t len) {
	size_t queued = buf_len(&s->out);
	ssize_t n = send_out(s, data, len);

	if (n == STREAM_BROKEN) {
		fail(s, errno);
		return true;
	}
	size_t sent = n > 0 ? (size_t)n : 0;
	size_t from_queue = sent < queued ? sent : queued;
	if (from_queue > 0)
		consume_out(s, from_queue);
	if (sent == queued + len)
		return true;
	if (!queue(s, data + (sent - from_queue), len - (sent - from_queue)))
		return false;
	hold_up(s);
	return true;
}

static bool tls_write_now(struct stream *s, const uint8_t *data, size_t len) {
	size_t queued = buf_len(written(s));

	if (queued > 0) {
		/* Fills the record that the queued bytes begin. */
		size_t room = TLS_RECORD - queued % TLS_RECORD;
		size_t first = len < room ? len : room;
		if (!queue(s, data, first))
			return false;
		data += first;
		len -= first;
		if (!send_queued(s))
			return true;
	}
	while (len > 0 && !s->held_up) {
		size_t some = len < SEAL_ENOUGH ? len : SEAL_ENOUGH;
		if (!seal(s, data, some))
			break;
		data += some;
		len -= some;
		if (!send_queued(s))
			return true;
	}
	return s->error || queue(s, data, len);
}

bool stream_write(struct stream *stream, const void *data, size_t len) {
	if (stream->phase == PHASE_CLOSED || stream->error || len == 0)
		return true;
	if (stream->phase != PHASE_OPEN || stream->held_up)
		return queue(stream, data, len);
	if (len >= LARGE_WRITE || stream_pending(stream) + len >= QUEUE_ENOUGH) {
		list_remove(&stream->dirty);
		return stream->ssl ? tls_write_now(stream, data, len) : plain_write_now(stream, data, len);
	}
	if (!queue(stream, data, len))
		return false;
	worker_send_later(stream->worker, &stream->dirty);
	return true;
}

void stream_secret(struct stream *stream) {
	stream->secret = true;
}

bool stream_flush(struct stream *stream) {
	if (stream->phase == PHASE_CLOSED)
		return false;
	list_remove(&stream->dirty);
	if (stream->error)
		return false;
	if (stream->phase != PHASE_OPEN || stream->held_up || stream_pending(stream) == 0)
		return true;
	return send_queued(stream);
}

/* What the ring says became of the send of all of `out`. */
static void sent_by_ring(struct stream *s, int result) {
	switch (result) {
	case SEND_RING_UNTRIED:
	case -EINTR:
	case -ENOMEM: /* may be the ring's own want; nothing has gone */
		send_queued(s);
		break;
	case SEND_RING_UNKNOWN:
		/* The kernel may still look at the bytes, whose memory is another's soon: it must not find a way to the peer. */
		shutdown(s->fd, SHUT_RDWR);
		sent(s, STREAM_BROKEN, EIO);
		break;
	case -EAGAIN:
		sent(s, STREAM_AGAIN, 0);
		break;
	default:
		sent(s, result >= 0 ? result : STREAM_BROKEN, -result);
	}
}

/* Streams whose output is about to leave in one system call. */
struct together {
	struct send_ring *ring; /* NULL: there is none, or it has failed */
	struct stream *streams[SEND_RING_SIZE];
	int count;
};

static void send_together(struct together *together) {
	int count = together->count;
	int results[SEND_RING_SIZE];

	together->count = 0;
	if (count == 1) /* nothing to be saved */
		send_queued(together->streams[0]);
	if (count <= 1)
		return;
	for (int i = 0; i < count; i++) {
		struct stream *s = together->streams[i];
		send_ring_add(together->ring, s->fd, buf_bytes(&s->out), buf_len(&s->out));
	}
	if (!send_ring_run(together->ring, results))
		together->ring = NULL;
	for (int i = 0; i < count; i++)
		sent_by_ring(together->streams[i], results[i]);
}

/* Sends what is queued, at once or with the others. */
static void send_with(struct together *together, struct stream *s) {
	if (!together->ring || s->phase != PHASE_OPEN || s->held_up) {
		stream_flush(s);
		return;
	}
	while (s->ssl && buf_len(written(s)) > 0)
		if (!seal_written(s))
			return;
	if (buf_len(&s->out) == 0)
		return;
	together->streams[together->count++] = s;
	if (together->count == (s->ssl ? TLS_TOGETHER : SEND_RING_SIZE))
		send_together(together);
}

void stream_keep_back(struct list *dirty, struct list *later) {
	for (struct list *node = dirty->next, *next; node != dirty; node = next) {
		next = node->next;
		if (!ev_is_pending(&list_entry(node, struct stream, dirty)->io))
			continue;
		list_remove(node);
		list_push_back(later, node);
	}
}

bool stream_flush_all(struct list *dirty, struct send_ring *ring) {
	struct together together = {.ring = ring};
	struct list encrypted;

	list_init(&encrypted);
	for (struct list *node; (node = list_pop_front(dirty));) {
		struct stream *s = list_entry(node, struct stream, dirty);
		if (s->ssl)
			list_push_back(&encrypted, node);
		else
			send_with(&together, s);
	}
	send_together(&together);
	/* while the others' peers are at work already */
	for (struct list *node; (node = list_pop_front(&encrypted));)
		send_with(&together, list_entry(node, struct stream, dirty));
	send_together(&together);
	return together.ring == ring;
}

/* Receiving */

/* The end that a failed step makes of the stream: the caller knows it from the result. */
static ssize_t broken_by_step(struct stream *s, int error) {
	s->failure_told = true;
	set_broken(s, error);
	return STREAM_BROKEN;
}

/* The same of a step of TLS. The alert that tells the peer why is tried once. */
static ssize_t broken_by_tls(struct stream *s, int error) {
	if (buf_len(&s->out) > 0)
		send_out(s, NULL, 0);
	return broken_by_step(s, error);
}

/* What TLS has received may have made it answer by itself (that it refuses a handshake anew, for instance), or make records again. */
static void after_tls_input(struct stream *s) {
	if (s->seal_waits && stream_tls_can_seal(s))
		feed(s, EV_WRITE);
	else if (s->held_up)
		watch(s);
	else if (buf_len(&s->out) > 0)
		worker_send_later(s->worker, &s->dirty);
}

static ssize_t tls_recv(struct stream *s, void *buf, size_t len) {
	bool more;
	ssize_t n = stream_tls_recv(s, buf, len, &more);

	if (n == STREAM_BROKEN)
		return broken_by_tls(s, errno);
	after_tls_input(s);
	if (more)
		feed(s, EV_READ);
	return n;
}

static ssize_t plain_recv(struct stream *s, void *buf, size_t len, int flags) {
	ssize_t n = recv(s->fd, buf, len, flags);

	s->input_over = n == 0;
	if (n > 0 || (n == 0 && !s->error))
		return n;
	if (n < 0 && !s->error && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return STREAM_AGAIN;
	return broken_by_step(s, errno);
}

ssize_t stream_recv(struct stream *stream, void *buf, size_t len) {
	if (stream->phase == PHASE_CLOSED || (stream->error && (stream->ssl || stream->phase != PHASE_OPEN)))
		return STREAM_BROKEN;
	if (stream->phase != PHASE_OPEN || len == 0)
		return STREAM_AGAIN;
	ssize_t n = stream->ssl ? tls_recv(stream, buf, len) : plain_recv(stream, buf, len, 0);
	stream->filled = n >= WORKER_READ_SIZE;
	return n;
}

size_t stream_room(const struct stream *stream) {
	return stream->filled && !stream->local ? WORKER_SCRATCH_SIZE : WORKER_READ_SIZE;
}

ssize_t stream_peek(struct stream *stream, void *buf, size_t len) {
	if (stream->phase == PHASE_CLOSED || stream->error || stream->ssl)
		return STREAM_BROKEN;
	return stream->phase == PHASE_OPEN ? plain_recv(stream, buf, len, MSG_PEEK) : STREAM_AGAIN;
}

void stream_pause(struct stream *stream) {
	stream->reading = false;
}

void stream_resume(struct stream *stream) {
	if (stream->reading || stream->phase == PHASE_CLOSED)
		return;
	stream->reading = true;
	if (stream->gated) {
		stream->gated = false;
		if (stream->worker)
			watch(stream);
	}
	if (stream->input_ready && stream->worker && !stream->error) {
		stream->input_ready = false;
		feed(stream, EV_READ);
	}
}

bool stream_quiet(struct stream *stream) {
	uint8_t byte;

	if (stream->phase != PHASE_OPEN || stream->error)
		return false;
	ssize_t n = recv(stream->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	bool nothing = n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
	if (!stream->ssl)
		return nothing;
	if (!nothing && n <= 0)
		return false;
	if (!nothing)
		nothing = stream_tls_take_in(stream);
	after_tls_input(stream);
	bool quiet = nothing && !stream_tls_holds(stream);
	if (!quiet) /* what TLS holds now, the socket will not announce */
		feed(stream, EV_READ);
	return quiet;
}

/* TLS */

static bool refuse_tls(struct stream *s, int code, const char *why) {
	error_set(&refused.error, code, "%s", why);
	refused.stream = s;
	return false;
}

static bool tls_begin(struct stream *s, struct tls_context *tls, const char *host, const char *alpn) {
	if (s->phase != PHASE_OPEN || s->ssl || s->error)
		return refuse_tls(s, EINVAL, "the connection is not open, or has TLS already");
	/* The answer that announces TLS is still queued, as a rule. */
	if (!stream_flush(s))
		return false;
	if (buf_len(&s->out) > 0)
		return refuse_tls(s, EAGAIN, "the peer does not read what was sent before TLS");
	if (!stream_tls_start(s, tls, host, alpn, &refused.error)) {
		refused.stream = s;
		return false;
	}
	s->phase = PHASE_HANDSHAKING;
	s->gated = s->input_ready = false;
	watch(s);
	/* A client has to speak first; a server's bytes may have come before the watcher saw them as wanted. */
	feed(s, EV_READ);
	return true;
}

bool stream_tls_accept(struct stream *stream, struct tls_context *tls) {
	stream->tls_server = true;
	return tls_begin(stream, tls, NULL, NULL);
}

bool stream_tls_connect(struct stream *stream, struct tls_context *tls, const char *host, const char *alpn) {
	stream->tls_server = false;
	return tls_begin(stream, tls, host, alpn);
}

static int tls_handshake(struct stream *s, int revents) {
	if (s->held_up && (revents & EV_WRITE) && !send_queued(s))
		return 0;
	if (!(revents & EV_READ))
		return 0;
	enum stream_tls_step step = stream_tls_handshake(s);
	if (step == STREAM_TLS_FAILED) {
		broken_by_tls(s, errno);
		return STREAM_FAILED;
	}
	if (step == STREAM_TLS_WAITS) {
		if (!s->held_up)
			send_queued(s);
		return 0;
	}
	s->phase = PHASE_OPEN;
	watch(s);
	if (stream_tls_holds(s))
		feed(s, EV_READ);
	/* the last of the handshake leaves together with what the owner is about to write */
	if (stream_pending(s) > 0 && !s->held_up)
		worker_send_later(s->worker, &s->dirty);
	return STREAM_CONNECTED;
}

const char *stream_error(const struct stream *stream) {
	if (stream->ssl && *tls_session_error(stream->ssl))
		return tls_session_error(stream->ssl);
	if (!stream->error && refused.stream == stream)
		return refused.error.text;
	return stream->error ? strerror(stream->error) : "no error";
}

/* Events */

static int connected(struct stream *s) {
	int e = 0;
	socklen_t len = sizeof e;

	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &e, &len) < 0)
		e = errno;
	if (e) {
		set_broken(s, e);
		s->failure_told = true;
		return STREAM_FAILED;
	}
	s->phase = PHASE_OPEN;
	watch(s);
	stream_flush(s);
	return STREAM_CONNECTED;
}

static int ready(struct stream *s, int revents) {
	int events = 0;

	if (s->held_up && (revents & (s->seal_waits ? EV_READ | EV_WRITE : EV_WRITE))) {
		if (!send_queued(s))
			return 0;
		if (!s->held_up)
			events |= STREAM_DRAINED;
	}
	if (!(revents & EV_READ))
		return events;
	if (s->reading)
		return events | STREAM_READABLE;
	/* Paused: the watcher would fire for these bytes again and again. What TLS holds, no event will announce. */
	s->gated = true;
	s->input_ready = s->ssl != NULL;
	watch(s);
	return events;
}

static void on_io(struct ev_loop *loop, ev_io *io, int revents) {
	struct stream *s = container_of(io, struct stream, io);
	int events = 0;

	(void)loop;
	if (s->error) {
		if (!s->failure_told)
			events = STREAM_FAILED;
		s->failure_told = true;
	} else if (s->phase == PHASE_CONNECTING) {
		events = connected(s);
	} else if (s->phase == PHASE_HANDSHAKING) {
		events = tls_handshake(s, revents);
	} else if (s->phase == PHASE_OPEN) {
		events = ready(s, revents);
	}
	if (!events)
		return;
	struct worker *worker = s->worker;
	s->on_ready(s, events);
	/* The stream may be closed, freed or another worker's by now. */
	worker_callback_over(worker);
}

/* From worker to worker, and the end */

void stream_detach(struct stream *stream) {
	if (stream->phase == PHASE_CLOSED || !stream->worker)
		return;
	stream_flush(stream);
	list_remove(&stream->dirty);
	if (ev_clear_pending(stream->worker->loop, &stream->io) & EV_READ)
		stream->input_ready = true;
	ev_io_stop(stream->worker->loop, &stream->io);
	worker_forget_fd(stream->worker, stream->fd);
	stream->worker = NULL;
}

void stream_attach(struct stream *stream, struct worker *worker) {
	if (stream->phase == PHASE_CLOSED)
		return;
	stream->worker = worker;
	watch(stream);
	if (stream->error && !stream->failure_told)
		feed(stream, EV_CUSTOM);
	else if (stream->input_ready && stream->ssl && stream->reading && !stream->error)
		feed(stream, EV_READ);
	if (stream->reading)
		stream->input_ready = false;
}

/*
 * A close with bytes unread makes the kernel send a reset, and that can take from the peer the last thing it was
 * sent, as a rule the error that says why. Bounded: a peer that sends on and on gets its reset.
 */
static void discard_input(int fd) {
	char trash[4096];

	for (int i = 0; i < 16; i++)
		if (recv(fd, trash, sizeof trash, MSG_DONTWAIT) < (ssize_t)sizeof trash)
			break;
}

void stream_input_over(struct stream *stream) {
	stream->input_over = true;
}

void stream_close(struct stream *stream) {
	if (stream->phase == PHASE_CLOSED)
		return;
	struct buf_cache *buffers = stream->worker ? stream->worker->buffers : NULL;
	/* with TLS, a close_notify may come behind what was said */
	bool read_to_end = stream->input_over && !stream->ssl;
	list_remove(&stream->dirty);
	if (stream->worker && stream->phase == PHASE_OPEN && !stream->error && stream_pending(stream) > 0)
		send_queued(stream);
	if (stream->worker)
		ev_io_stop(stream->worker->loop, &stream->io);
	if (stream->ssl && stream->phase == PHASE_OPEN && !stream->error && !stream->held_up) {
		stream_tls_farewell(stream);
		send_out(stream, NULL, 0);
	}
	if (!stream->error && !read_to_end && stream->phase != PHASE_CONNECTING)
		discard_input(stream->fd);
	close(stream->fd);
	release_out(stream, buffers);
	if (stream->ssl)
		stream_tls_free(stream);
	stream->fd = -1;
	stream->phase = PHASE_CLOSED;
}
