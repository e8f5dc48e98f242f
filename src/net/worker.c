#include "net/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#endif

#include "base/clock.h"
#include "base/log.h"
#include "net/send_ring.h"
#include "net/stream.h"

static _Thread_local struct worker *current;

struct worker *worker_current(void) {
	return current;
}

/* Runs what was deferred, and what that defers in turn. */
static bool run_deferred(struct worker *worker) {
	bool any = false;

	for (struct list *node; (node = list_pop_front(&worker->deferred)); any = true) {
		struct deferred *deferred = list_entry(node, struct deferred, node);
		deferred->run(deferred);
	}
	return any;
}

/*
 * All that one wake-up has produced leaves at its end: the peer is woken once for a batch, and finds it whole. With a send
 * at the end of each callback it would wake for the first, and run beside us for the others. Of some dozens at a time, though
 * (WORKER_GATHER): what a hundred connections take has left the caches by the time that it is sent.
 */
static void send_gathered(struct worker *worker) {
	worker->gathered = 0;
	if (stream_flush_all(&worker->dirty, worker->ring))
		return;
	log_warning("io_uring_failed", LOG_FIELDS(LOG_NUMBER("worker", worker->id)),
		    "io_uring has failed in worker %d: %s; each send is a system call of its own from now on", worker->id,
		    strerror(send_ring_error(worker->ring)));
	send_ring_free(worker->ring);
	worker->ring = NULL;
}

static const char *why_no_ring(int error) {
	switch (error) {
	case EPERM:
		return "a seccomp profile or the kernel's setting io_uring_disabled forbids it";
	case ENOSYS:
		return "it wants Linux 6.1 or later, a build with liburing, and a seccomp profile that allows it";
	default:
		return strerror(error);
	}
}

/* It belongs to the thread that makes it. */
static void make_ring(struct worker *worker) {
	int e = 0;

	if (!worker->io_uring)
		return;
	worker->ring = send_ring_new(&e);
	/* what is forbidden or not there is so for all workers */
	if (!worker->ring && (worker->id == 0 || (e != EPERM && e != ENOSYS)))
		log_info("io_uring_unavailable", LOG_FIELDS(LOG_TEXT("reason", strerror(e))),
			 "io_uring is not to be had (%s): each send is a system call of its own, which works as well and costs "
			 "a little more CPU",
			 why_no_ring(e));
}

/*
 * The timer is moved only when something is due before it. Most deadlines are cleared long before they come, so
 * that a timer which fires early, finds nothing and is armed anew costs less than one that always is exact.
 */
static void arm_timer(struct worker *worker) {
	uint64_t next_ns = timeouts_next(&worker->timeouts);

	if (next_ns >= worker->timer_due_ns)
		return;
	uint64_t now_ns = clock_monotonic_ns();
	double after_s = next_ns > now_ns ? (double)(next_ns - now_ns) / (double)NS_PER_S : 0.;
	/* libev counts from the time it read at its last wake-up */
	ev_now_update(worker->loop);
	ev_timer_stop(worker->loop, &worker->timer);
	ev_timer_set(&worker->timer, after_s, 0.);
	ev_timer_start(worker->loop, &worker->timer);
	worker->timer_due_ns = next_ns;
}

static void on_after_wait(struct ev_loop *loop, ev_check *check, int revents) {
	struct worker *worker = container_of(check, struct worker, after_wait);

	(void)loop, (void)revents;
	worker->now_ns = clock_monotonic_ns();
}

static void on_before_wait(struct ev_loop *loop, ev_prepare *prepare, int revents) {
	struct worker *worker = container_of(prepare, struct worker, before_wait);

	(void)loop, (void)revents;
	run_deferred(worker);
	send_gathered(worker);
	arm_timer(worker);
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int revents) {
	struct worker *worker = container_of(timer, struct worker, timer);

	(void)loop, (void)revents;
	worker->timer_due_ns = TIME_NEVER;
	worker->now_ns = clock_monotonic_ns();
	timeouts_run(&worker->timeouts, worker->now_ns);
}

#ifdef __linux__

static void on_probe(struct ev_loop *loop, ev_io *io, int revents) {
	(void)loop, (void)io, (void)revents;
}

/*
 * libev does not tell which descriptor its epoll set has. So a descriptor of ours goes into the set by way of the
 * loop, and the set that it can be taken out of is the one.
 */
static int find_epoll(struct ev_loop *loop) {
	enum { TRY_MAX = 65536 };
	int probe = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int found = -1;
	ev_io io;

	if (probe < 0 || ev_backend(loop) != EVBACKEND_EPOLL) {
		if (probe >= 0)
			close(probe);
		return -1;
	}
	ev_io_init(&io, on_probe, probe, EV_READ);
	ev_io_start(loop, &io);
	ev_run(loop, EVRUN_NOWAIT);
	for (int fd = 0; fd < TRY_MAX && found < 0; fd++)
		if (epoll_ctl(fd, EPOLL_CTL_DEL, probe, NULL) == 0)
			found = fd;
	ev_io_stop(loop, &io);
	close(probe);
	return found;
}

void worker_forget_fd(struct worker *worker, int fd) {
	/* It may not be in the set yet, or any more. */
	if (worker->epoll_fd >= 0)
		epoll_ctl(worker->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

#else

static int find_epoll(struct ev_loop *loop) {
	(void)loop;
	return -1;
}

void worker_forget_fd(struct worker *worker, int fd) {
	(void)worker, (void)fd;
}

#endif

bool worker_init(struct worker *worker, int id, struct error *error) {
	void *context = worker->context;

	*worker = (struct worker){.id = id, .context = context, .timer_due_ns = TIME_NEVER};
	worker->loop = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOENV | EVFLAG_NOSIGMASK);
	worker->buffers = buf_cache_new();
	worker->scratch = malloc(WORKER_SCRATCH_SIZE);
	if (!worker->loop || !worker->buffers || !worker->scratch) {
		if (worker->loop)
			ev_loop_destroy(worker->loop);
		buf_cache_free(worker->buffers);
		free(worker->scratch);
		worker->loop = NULL;
		return error_set(error, ENOMEM,
				 "cannot make the event loop of worker %d: out of memory or descriptors", id);
	}
	worker->epoll_fd = find_epoll(worker->loop);
	timeouts_init(&worker->timeouts);
	list_init(&worker->deferred);
	list_init(&worker->dirty);
	atomic_init(&worker->clients, 0);
	atomic_init(&worker->stopping, false);
	worker->now_ns = clock_monotonic_ns();
	mailbox_init(&worker->mailbox, worker->loop, worker);
	ev_init(&worker->timer, on_timer);
	ev_check_init(&worker->after_wait, on_after_wait);
	ev_set_priority(&worker->after_wait, EV_MAXPRI);
	ev_check_start(worker->loop, &worker->after_wait);
	ev_prepare_init(&worker->before_wait, on_before_wait);
	ev_set_priority(&worker->before_wait, EV_MINPRI);
	ev_prepare_start(worker->loop, &worker->before_wait);
	return true;
}

static void *run_worker(void *arg) {
	struct worker *worker = arg;

	current = worker;
	worker->now_ns = clock_monotonic_ns();
	ev_now_update(worker->loop);
	make_ring(worker);
	ev_run(worker->loop, 0);
	/* What is still under way: mail may defer, and what was deferred may post. */
	while (mailbox_deliver(&worker->mailbox) || run_deferred(worker))
		;
	send_gathered(worker);
	send_ring_free(worker->ring);
	worker->ring = NULL;
	current = NULL;
	return NULL;
}

bool worker_start(struct worker *worker, struct error *error) {
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int e = pthread_create(&worker->thread, NULL, run_worker, worker);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (e)
		return error_set(error, e, "cannot start the thread of worker %d: %s", worker->id, strerror(e));
#ifdef __linux__
	char name[16];
	snprintf(name, sizeof name, "worker-%d", worker->id);
	pthread_setname_np(worker->thread, name);
#endif
	return true;
}

static void deliver_stop(struct mail *mail, void *receiver) {
	struct worker *worker = receiver;

	(void)mail;
	ev_break(worker->loop, EVBREAK_ALL);
}

void worker_stop(struct worker *worker) {
	if (atomic_exchange(&worker->stopping, true))
		return;
	worker->stop_mail.deliver = deliver_stop;
	mailbox_post(&worker->mailbox, &worker->stop_mail);
}

void worker_join(struct worker *worker) {
	pthread_join(worker->thread, NULL);
}

void worker_destroy(struct worker *worker) {
	if (!worker->loop)
		return;
	mailbox_destroy(&worker->mailbox);
	timeouts_free(&worker->timeouts);
	ev_loop_destroy(worker->loop);
	worker->loop = NULL;
	buf_cache_free(worker->buffers);
	worker->buffers = NULL;
	free(worker->scratch);
	worker->scratch = NULL;
}

/*
 * Makes on_before_wait() run after the callbacks that are under way, even where it has run already in this
 * iteration: events that were fed run behind it, and the loop would wait without what they left.
 */
static void wait_later(struct worker *worker) {
	ev_feed_event(worker->loop, &worker->before_wait, EV_PREPARE);
}

void worker_defer(struct worker *worker, struct deferred *deferred) {
	if (deferred->node.next && list_linked(&deferred->node))
		return;
	if (list_empty(&worker->deferred))
		wait_later(worker);
	list_push_back(&worker->deferred, &deferred->node);
}

bool worker_timeout(struct worker *worker, struct timeout *timeout, uint64_t after_ns) {
	if (after_ns == 0) {
		timeouts_clear(&worker->timeouts, timeout);
		return true;
	}
	uint64_t deadline_ns = after_ns < TIME_NEVER - worker->now_ns ? worker->now_ns + after_ns : TIME_NEVER;
	if (!timeouts_set(&worker->timeouts, timeout, deadline_ns))
		return false;
	if (deadline_ns < worker->timer_due_ns)
		wait_later(worker);
	return true;
}

void worker_timeout_clear(struct worker *worker, struct timeout *timeout) {
	timeouts_clear(&worker->timeouts, timeout);
}

void worker_send_later(struct worker *worker, struct list *dirty) {
	if (list_linked(dirty))
		return;
	if (list_empty(&worker->dirty))
		wait_later(worker);
	list_push_back(&worker->dirty, dirty);
	worker->gathered++;
}

void worker_callback_over(struct worker *worker) {
	struct list later;

	if (worker->gathered < WORKER_GATHER)
		return;
	list_init(&later);
	stream_keep_back(&worker->dirty, &later);
	send_gathered(worker);
	/* on_before_wait() is still to come */
	for (struct list *node; (node = list_pop_front(&later));)
		list_push_back(&worker->dirty, node);
}
