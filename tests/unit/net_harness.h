/*
 * What the tests of net/ share: gates to wait at, calls into a worker's thread, and an end of a stream that sends
 * and checks a known pattern. Nothing here sleeps for luck; a wait that takes 20 s fails the test.
 */
#ifndef TESTS_NET_HARNESS_H
#define TESTS_NET_HARNESS_H

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/stream.h"
#include "net/worker.h"

/* As ck_assert(), but for any thread: Check's own may be used by the test's thread only. */
#define must(condition)                                                                                                \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                        \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

struct gate {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	int value;
};

#define GATE_INIT {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER}

static inline void gate_add(struct gate *gate) {
	pthread_mutex_lock(&gate->mutex);
	gate->value++;
	pthread_cond_broadcast(&gate->cond);
	pthread_mutex_unlock(&gate->mutex);
}

static inline int gate_value(struct gate *gate) {
	pthread_mutex_lock(&gate->mutex);
	int value = gate->value;
	pthread_mutex_unlock(&gate->mutex);
	return value;
}

static inline void gate_wait(struct gate *gate, int value) {
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 20;
	pthread_mutex_lock(&gate->mutex);
	while (gate->value < value)
		must(pthread_cond_timedwait(&gate->cond, &gate->mutex, &until) == 0);
	pthread_mutex_unlock(&gate->mutex);
}

struct call {
	struct mail mail;
	void (*fn)(struct worker *worker, void *arg);
	void *arg;
	struct gate gate;
};

static inline void call_deliver(struct mail *mail, void *receiver) {
	struct call *call = container_of(mail, struct call, mail);

	call->fn(receiver, call->arg);
	gate_add(&call->gate);
}

/* Runs `fn` on the worker's thread and waits for its end. */
static inline void on_worker(struct worker *worker, void (*fn)(struct worker *, void *), void *arg) {
	struct call call = {.mail.deliver = call_deliver, .fn = fn, .arg = arg, .gate = GATE_INIT};

	mailbox_post(&worker->mailbox, &call.mail);
	gate_wait(&call.gate, 1);
}

static inline void worker_begin_with(struct worker *worker, int id, bool io_uring) {
	struct error error = {0};

	memset(worker, 0, sizeof *worker);
	must(worker_init(worker, id, &error));
	worker->io_uring = io_uring;
	must(worker_start(worker, &error));
}

static inline void worker_begin(struct worker *worker, int id) {
	worker_begin_with(worker, id, true);
}

static inline void worker_end(struct worker *worker) {
	worker_stop(worker);
	worker_join(worker);
	worker_destroy(worker);
}

static inline uint8_t pattern_at(uint64_t i) {
	return (uint8_t)((i * 2654435761u) >> 13);
}

static inline void pattern_fill(uint8_t *out, uint64_t from, size_t len) {
	for (size_t i = 0; i < len; i++)
		out[i] = pattern_at(from + i);
}

/* One end of a stream. All but `changed` belongs to the worker's thread. */
struct end {
	struct stream stream;
	struct worker *worker;
	uint64_t to_send, sent; /* of the pattern */
	uint64_t got;           /* bytes received */
	bool bad;               /* the pattern was broken */
	bool any_bytes;         /* received bytes need not be the pattern */
	char text[256];         /* the first bytes received */
	char error[256];
	size_t recv_size; /* 0: the worker's scratch */
	uint64_t pause_at; /* pause when so much has been received; 0: never */
	int connected, drained, failed, eof, broken, readable, again;
	void (*on_event)(struct end *end, int events); /* after the default; may be NULL */
	struct gate changed;
};

/* Sends on, while little is queued. */
static inline void end_pump(struct end *end) {
	static _Thread_local uint8_t piece[20000];

	while (end->sent < end->to_send && stream_pending(&end->stream) < 100000) {
		size_t n = 1 + (size_t)(end->sent * 7919) % sizeof piece;
		if (n > end->to_send - end->sent)
			n = (size_t)(end->to_send - end->sent);
		pattern_fill(piece, end->sent, n);
		must(stream_write(&end->stream, piece, n));
		end->sent += n;
	}
}

static inline void end_take(struct end *end, const uint8_t *bytes, size_t n) {
	for (size_t i = 0; i < n; i++) {
		if (end->got + i < sizeof end->text - 1)
			end->text[end->got + i] = (char)bytes[i];
		if (!end->any_bytes && bytes[i] != pattern_at(end->got + i))
			end->bad = true;
	}
	end->got += n;
}

static inline void end_receive(struct end *end) {
	size_t size = end->recv_size ? end->recv_size : WORKER_SCRATCH_SIZE;
	ssize_t n = stream_recv(&end->stream, end->worker->scratch, size);

	if (n > 0)
		end_take(end, end->worker->scratch, (size_t)n);
	else if (n == STREAM_EOF && ++end->eof)
		stream_pause(&end->stream);
	else if (n == STREAM_AGAIN)
		end->again++;
	else if (n == STREAM_BROKEN)
		end->broken++;
	if (end->pause_at && end->got >= end->pause_at) {
		stream_pause(&end->stream);
		end->pause_at = 0;
	}
}

static inline void end_ready(struct stream *stream, int events) {
	struct end *end = container_of(stream, struct end, stream);

	must(worker_current() == end->worker);
	if (events & STREAM_CONNECTED)
		end->connected++;
	if (events & STREAM_DRAINED)
		end->drained++;
	if (events & STREAM_FAILED) {
		end->failed++;
		snprintf(end->error, sizeof end->error, "%s", stream_error(stream));
	}
	if (events & STREAM_READABLE) {
		end->readable++;
		end_receive(end);
	}
	if (events & (STREAM_CONNECTED | STREAM_DRAINED))
		end_pump(end);
	if (end->on_event)
		end->on_event(end, events);
	gate_add(&end->changed);
}

static inline void end_init(struct end *end, struct worker *worker) {
	*end = (struct end){.worker = worker, .changed = GATE_INIT, .stream.fd = -1};
}

struct end_query {
	struct end *end;
	bool (*is)(struct end *end);
	bool result;
};

static inline void end_query_run(struct worker *worker, void *arg) {
	struct end_query *query = arg;

	(void)worker;
	query->result = query->is(query->end);
}

/* Whether something is so now, seen from the worker's thread. */
static inline bool end_is(struct end *end, bool (*is)(struct end *)) {
	struct end_query query = {.end = end, .is = is};

	on_worker(end->worker, end_query_run, &query);
	return query.result;
}

/* Waits until it is; what changes it must be an event of this end. */
static inline void end_wait(struct end *end, bool (*is)(struct end *)) {
	for (;;) {
		int seen = gate_value(&end->changed);
		if (end_is(end, is))
			return;
		gate_wait(&end->changed, seen + 1);
	}
}

static inline void set_nonblocking(int fd) {
	must(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0);
}

#endif
