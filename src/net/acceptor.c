#include "net/acceptor.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "net/worker.h"

enum {
	BATCH_MAX = 16,    /* accepted at a wake-up, then other watchers of the loop have their turn */
	REST_BATCH = 64,   /* accepted at once of a socket that is closed */
	CLOSE_WAIT_S = 2   /* acceptor_wait_closed() */
};
#define REST_NS (250 * NS_PER_MS) /* and so long, where newcomers cannot be kept off: they do not keep it open */
static const double PAUSE_S = 0.1; /* out of descriptors: this long nothing is accepted, instead of spinning */
static const double REST_LOOK_S = 0.01; /* how often a closing socket is looked at for those who are on the way */

/* A worker's seat at the acceptor. Owner only. */
struct seat {
	struct acceptor *acceptor;
	struct worker *worker;
	struct list watches;
	bool has_turn;
};

/* One socket with one worker. The worker's own from `begin` to `end`. */
struct watch {
	struct acceptor_socket *socket;
	struct list node; /* seat->watches */
	ev_io io;
	ev_timer pause;
	unsigned iteration; /* of the loop, at the last wake-up */
	int batch;          /* how many are accepted at a wake-up */
	bool was_full;      /* at the last one as many came */
	struct mail begin, end;
};

struct acceptor_socket {
	struct acceptor *acceptor;
	struct listener listener;
	_Atomic bool removed, handed;
	_Atomic int watches_left; /* the last one closes and frees */
	/* the last one's: */
	bool shut, endless;       /* nobody can connect any more; but here they can */
	uint64_t rest_until_ns;   /* somebody may still be on the way until then, or, if endless, no more are taken then */
	struct watch watches[];   /* by worker */
};

struct acceptor {
	/* immutable */
	acceptor_accepted *accepted;
	int count;

	struct mail turn; /* its who has it */
	_Atomic bool hurry;
	struct {
		pthread_mutex_t mutex;
		pthread_cond_t closed;
		int closing; /* sockets that were removed and are not closed */
	} shared;
	struct seat seats[];
};

/* ---- the turn ---- */

static void watch_start(struct seat *seat, struct watch *watch) {
	/* set anew: the loop must not believe that its epoll set has it still */
	ev_io_set(&watch->io, watch->socket->listener.fd, EV_READ);
	ev_io_start(seat->worker->loop, &watch->io);
}

static void watch_stop(struct seat *seat, struct watch *watch) {
	ev_timer_stop(seat->worker->loop, &watch->pause);
	ev_io_stop(seat->worker->loop, &watch->io);
	worker_forget_fd(seat->worker, watch->socket->listener.fd);
}

static void deliver_turn(struct mail *mail, void *receiver) {
	struct acceptor *acceptor = container_of(mail, struct acceptor, turn);
	struct seat *seat = &acceptor->seats[((struct worker *)receiver)->id];

	seat->has_turn = true;
	list_for_each(node, &seat->watches)
		watch_start(seat, list_entry(node, struct watch, node));
}

static int clients_of(const struct seat *seat) {
	return atomic_load_explicit(&seat->worker->clients, memory_order_relaxed);
}

/* Gives the turn to the worker with the fewest clients, if this one has as many as it may beside it. True: so it is. */
static bool pass_turn(struct seat *seat) {
	struct acceptor *acceptor = seat->acceptor;
	struct seat *next = NULL;

	for (int i = 0; i < acceptor->count; i++) {
		struct seat *other = &acceptor->seats[i];
		if (other != seat && (!next || clients_of(other) < clients_of(next)))
			next = other;
	}
	if (!next || clients_of(seat) < acceptor_most(clients_of(next)))
		return false;
	seat->has_turn = false;
	list_for_each(node, &seat->watches)
		watch_stop(seat, list_entry(node, struct watch, node));
	mailbox_post(&next->worker->mailbox, &acceptor->turn);
	return true;
}

/* ---- accepting ---- */

static void on_pause_over(struct ev_loop *loop, ev_timer *pause, int revents) {
	struct watch *watch = container_of(pause, struct watch, pause);

	(void)loop, (void)revents;
	watch_start(&watch->socket->acceptor->seats[worker_current()->id], watch);
}

static void pause_accepting(struct seat *seat, struct watch *watch, int error) {
	const char *address = watch->socket->listener.address;

	log_warning("accept_paused", LOG_FIELDS(LOG_TEXT("address", address)),
		    "cannot accept on %s: %s; new connections wait", address, strerror(error));
	ev_io_stop(seat->worker->loop, &watch->io);
	ev_timer_set(&watch->pause, PAUSE_S, 0.);
	ev_timer_start(seat->worker->loop, &watch->pause);
}

/*
 * How many to accept now. The loop comes back at once where more are waiting, so one more call that only finds none is
 * what must be worth it: it is where the last wake-up has left some behind.
 */
static int batch_now(struct seat *seat, struct watch *watch) {
	unsigned iteration = ev_iteration(seat->worker->loop);

	if (watch->was_full && iteration == watch->iteration + 1 && watch->batch < BATCH_MAX)
		watch->batch *= 2;
	watch->iteration = iteration;
	watch->was_full = false;
	return watch->batch;
}

static void take(struct seat *seat, struct watch *watch) {
	struct acceptor_socket *socket = watch->socket;
	int batch = batch_now(seat, watch), accepted = 0;

	if (pass_turn(seat)) /* clients of another one have left since */
		return;
	for (int i = 0; i < batch && !atomic_load_explicit(&socket->removed, memory_order_relaxed); i++) {
		struct sockaddr_storage peer;
		socklen_t len = sizeof peer;
		int fd = accept4(socket->listener.fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			accepted++;
			atomic_fetch_add(&seat->worker->clients, 1);
			seat->acceptor->accepted(seat->worker, &socket->listener, fd, (struct sockaddr *)&peer, len);
			if (pass_turn(seat)) /* before the next comes, so that it need not be sent on its way */
				return;
			continue;
		}
		switch (errno) {
		case EMFILE:
		case ENFILE:
		case ENOBUFS:
		case ENOMEM:
			pause_accepting(seat, watch, errno);
			return;
		case EAGAIN:
			watch->batch = accepted > 0 ? accepted : 1;
			return;
		default:
			/* This one connection failed before it was accepted (accept(2), "Error handling"). */
			continue;
		}
	}
	watch->was_full = true;
}

static void on_connections(struct ev_loop *loop, ev_io *io, int revents) {
	struct watch *watch = container_of(io, struct watch, io);
	struct seat *seat = &watch->socket->acceptor->seats[worker_current()->id];

	(void)loop, (void)revents;
	take(seat, watch);
}

/* ---- sockets come and go ---- */

static void deliver_begin(struct mail *mail, void *receiver) {
	struct watch *watch = container_of(mail, struct watch, begin);
	struct seat *seat = &watch->socket->acceptor->seats[((struct worker *)receiver)->id];

	list_push_back(&seat->watches, &watch->node);
	if (seat->has_turn)
		watch_start(seat, watch);
}

static void rest_shut(struct acceptor_socket *socket) {
	uint64_t ns = listener_shut(&socket->listener);

	socket->shut = true;
	socket->endless = ns == UINT64_MAX;
	socket->rest_until_ns = clock_monotonic_ns() + (socket->endless ? REST_NS : ns);
}

enum rest { REST_MORE, REST_LATER, REST_OVER };

/* Who has connected by now is let in: to close the socket would reset them. Nobody else accepts from it any more. */
static enum rest take_rest(struct seat *seat, struct acceptor_socket *socket) {
	bool hurry = atomic_load_explicit(&seat->acceptor->hurry, memory_order_relaxed);

	if (!socket->shut)
		rest_shut(socket);
	bool in_time = clock_monotonic_ns() < socket->rest_until_ns;
	for (int i = 0; i < REST_BATCH; i++) {
		struct sockaddr_storage peer;
		socklen_t len = sizeof peer;
		int fd = accept4(socket->listener.fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			atomic_fetch_add(&seat->worker->clients, 1);
			seat->acceptor->accepted(seat->worker, &socket->listener, fd, (struct sockaddr *)&peer, len);
			continue;
		}
		switch (errno) {
		case EAGAIN:
		case EINVAL: /* that of a Unix socket which was shut */
			return in_time && !hurry && !socket->endless ? REST_LATER : REST_OVER;
		case EMFILE:
		case ENFILE:
		case ENOBUFS:
		case ENOMEM:
			return in_time && !hurry ? REST_LATER : REST_OVER;
		default: /* this one connection failed before it was accepted */
			break;
		}
	}
	return socket->endless && !in_time ? REST_OVER : REST_MORE;
}

static void socket_free(struct acceptor_socket *socket) {
	struct acceptor *acceptor = socket->acceptor;

	listener_close(&socket->listener);
	free(socket);
	pthread_mutex_lock(&acceptor->shared.mutex);
	acceptor->shared.closing--;
	pthread_cond_signal(&acceptor->shared.closed);
	pthread_mutex_unlock(&acceptor->shared.mutex);
}

static void deliver_rest(struct mail *mail, void *receiver);

/* A few at a time, so that those who leave again are noticed in between. */
static void rest(struct worker *worker, struct watch *watch) {
	struct acceptor_socket *socket = watch->socket;
	bool handed = atomic_load_explicit(&socket->handed, memory_order_relaxed); /* another process takes them */
	enum rest rest = handed || atomic_load(&worker->stopping) ? REST_OVER
								  : take_rest(&socket->acceptor->seats[worker->id], socket);

	if (rest == REST_LATER) {
		ev_timer_set(&watch->pause, REST_LOOK_S, 0.);
		ev_timer_start(worker->loop, &watch->pause);
	} else if (rest == REST_MORE) {
		watch->end.deliver = deliver_rest;
		mailbox_post(&worker->mailbox, &watch->end);
	} else {
		socket_free(socket);
	}
}

static void deliver_rest(struct mail *mail, void *receiver) {
	rest(receiver, container_of(mail, struct watch, end));
}

static void on_rest_look(struct ev_loop *loop, ev_timer *pause, int revents) {
	(void)loop, (void)revents;
	rest(worker_current(), container_of(pause, struct watch, pause));
}

static void deliver_end(struct mail *mail, void *receiver) {
	struct watch *watch = container_of(mail, struct watch, end);
	struct acceptor_socket *socket = watch->socket;
	struct seat *seat = &socket->acceptor->seats[((struct worker *)receiver)->id];

	watch_stop(seat, watch);
	list_remove(&watch->node);
	if (atomic_fetch_sub(&socket->watches_left, 1) != 1)
		return;
	ev_set_cb(&watch->pause, on_rest_look);
	rest(receiver, watch);
}

struct acceptor_socket *acceptor_add(struct acceptor *acceptor, const struct listener *listener) {
	size_t count = (size_t)acceptor->count;
	struct acceptor_socket *socket = calloc(1, sizeof *socket + count * sizeof socket->watches[0]);

	if (!socket)
		return NULL;
	socket->acceptor = acceptor;
	socket->listener = *listener;
	atomic_init(&socket->watches_left, acceptor->count);
	for (size_t i = 0; i < count; i++) {
		struct watch *watch = &socket->watches[i];
		watch->socket = socket;
		watch->batch = 1;
		watch->begin.deliver = deliver_begin;
		watch->end.deliver = deliver_end;
		list_init(&watch->node);
		ev_io_init(&watch->io, on_connections, listener->fd, EV_READ);
		ev_timer_init(&watch->pause, on_pause_over, PAUSE_S, 0.);
	}
	for (size_t i = 0; i < count; i++)
		mailbox_post(&acceptor->seats[i].worker->mailbox, &socket->watches[i].begin);
	return socket;
}

struct listener *acceptor_listener(struct acceptor_socket *socket) {
	return &socket->listener;
}

static void remove_socket(struct acceptor_socket *socket) {
	struct acceptor *acceptor = socket->acceptor;

	atomic_store_explicit(&socket->removed, true, memory_order_relaxed);
	pthread_mutex_lock(&acceptor->shared.mutex);
	acceptor->shared.closing++;
	pthread_mutex_unlock(&acceptor->shared.mutex);
	/* With the last letter on its way the socket may be freed. */
	for (int i = 0; i < acceptor->count; i++)
		mailbox_post(&acceptor->seats[i].worker->mailbox, &socket->watches[i].end);
}

void acceptor_remove(struct acceptor_socket *socket) {
	listener_unlink(&socket->listener);
	remove_socket(socket);
}

void acceptor_hand_over(struct acceptor_socket *socket) {
	listener_keep_file(&socket->listener);
	atomic_store_explicit(&socket->handed, true, memory_order_relaxed);
	remove_socket(socket);
}

void acceptor_hurry(struct acceptor *acceptor) {
	atomic_store(&acceptor->hurry, true);
}

bool acceptor_wait_closed(struct acceptor *acceptor) {
	struct timespec until;
	int e = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += CLOSE_WAIT_S;
	pthread_mutex_lock(&acceptor->shared.mutex);
	while (acceptor->shared.closing > 0 && e == 0)
		e = pthread_cond_timedwait(&acceptor->shared.closed, &acceptor->shared.mutex, &until);
	bool closed = acceptor->shared.closing == 0;
	pthread_mutex_unlock(&acceptor->shared.mutex);
	return closed;
}

struct acceptor *acceptor_new(struct worker *workers, int count, acceptor_accepted *accepted) {
	struct acceptor *acceptor = calloc(1, sizeof *acceptor + (size_t)count * sizeof acceptor->seats[0]);

	if (!acceptor)
		return NULL;
	acceptor->accepted = accepted;
	acceptor->count = count;
	acceptor->turn.deliver = deliver_turn;
	pthread_mutex_init(&acceptor->shared.mutex, NULL);
	pthread_cond_init(&acceptor->shared.closed, NULL);
	for (int i = 0; i < count; i++) {
		acceptor->seats[i].acceptor = acceptor;
		acceptor->seats[i].worker = &workers[i];
		list_init(&acceptor->seats[i].watches);
	}
	acceptor->seats[0].has_turn = true;
	return acceptor;
}

void acceptor_free(struct acceptor *acceptor) {
	if (!acceptor)
		return;
	pthread_cond_destroy(&acceptor->shared.closed);
	pthread_mutex_destroy(&acceptor->shared.mutex);
	free(acceptor);
}
