/*
 * A worker: one thread with one libev loop. What a worker owns is touched by its thread alone; other
 * threads reach it by mail (net/mailbox.h). The main thread has a loop of its own and is no worker.
 */
#ifndef NET_WORKER_H
#define NET_WORKER_H

#include <ev.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/list.h"
#include "base/timeouts.h"
#include "net/mailbox.h"

enum {
	WORKER_SCRATCH_SIZE = 256 * 1024,
	WORKER_READ_SIZE = 64 * 1024, /* what is received at once, until a stream is seen to fill it (stream_room()) */
	WORKER_GATHER = 32            /* streams with output that wait for the end of a wake-up, no more */
};

struct send_ring;

struct worker {
	/* immutable after worker_start() */
	int id;        /* from 0 */
	bool io_uring; /* may send by it; set before worker_start() */
	pthread_t thread;
	struct ev_loop *loop;
	int epoll_fd;  /* what `loop` waits with, for worker_forget_fd(); -1: unknown, or no epoll */
	void *context; /* what the floors above keep for each worker; set before worker_start() */

	/* owner only */
	struct buf_cache *buffers;
	struct timeouts timeouts;
	ev_timer timer;         /* armed for the earliest of `timeouts`, or earlier */
	uint64_t timer_due_ns;  /* what it is armed for; TIME_NEVER: not armed */
	ev_prepare before_wait; /* runs what was deferred, sends, arms `timer`; last of all callbacks */
	ev_check after_wait;    /* reads the clock; first of all callbacks */
	struct list deferred;   /* worker_defer(): run when no callback is on the stack */
	uint64_t now_ns;        /* monotonic; refreshed at each wake-up of the loop */
	uint8_t *scratch;       /* WORKER_SCRATCH_SIZE bytes to receive into, valid within one callback */
	struct list dirty;      /* streams with bytes gathered since they were last sent: worker_send_later() */
	unsigned gathered;      /* how many have come on `dirty`, at most; some may have left it */
	struct send_ring *ring; /* sends them in one system call; NULL: there is none, each is a call of its own */

	/* any thread */
	struct mailbox mailbox;
	_Atomic int clients; /* how many clients it has; accepting goes to the worker with the fewest (net/acceptor.h) */
	_Atomic bool stopping;
	struct mail stop_mail;
};

struct deferred {
	struct list node;
	void (*run)(struct deferred *deferred);
};

/* Makes the loop and what belongs to it; no thread yet. False: `error` says why. Any thread. */
bool worker_init(struct worker *worker, int id, struct error *error);
/* Starts the thread. All signals are blocked in it: the main thread takes them. */
bool worker_start(struct worker *worker, struct error *error);
/* Asks the loop to end; join with worker_join(). Any thread. Mail that is still under way is delivered first. */
void worker_stop(struct worker *worker);
void worker_join(struct worker *worker);
/* Frees what worker_init() made. The thread has ended. */
void worker_destroy(struct worker *worker);

/* The worker whose thread this is, or NULL on another thread. */
struct worker *worker_current(void);

/* Own thread only, from here on. */

/*
 * Runs `run` once this loop iteration's callbacks are done: the way to free an object that may be on the stack.
 * What `run` itself defers runs before the loop waits again. Also run when the loop ends. Deferring again what waits to
 * run changes nothing. The node must be zeroed or initialised at first.
 */
void worker_defer(struct worker *worker, struct deferred *deferred);
/* Sets or moves a timeout `after_ns` from now (worker->now_ns). 0 clears it. False: out of memory, it is not set. */
bool worker_timeout(struct worker *worker, struct timeout *timeout, uint64_t after_ns);
void worker_timeout_clear(struct worker *worker, struct timeout *timeout);
/* For net/stream: what is queued on the stream of this node (its `dirty`) is sent when all callbacks of this wake-up are done,
 * or when WORKER_GATHER have something to send, at the end of a callback, if no event of the stream is left to be told. */
void worker_send_later(struct worker *worker, struct list *dirty);
/* For net/stream: the loop's callback for a stream has come to its end, and nothing of it is on the stack any more. */
void worker_callback_over(struct worker *worker);
/*
 * Takes a descriptor that no watcher watches any more out of the loop's epoll set now. libev does so only when a
 * late event comes, and by then the descriptor may be another worker's, or closed, or a new one of that number.
 */
void worker_forget_fd(struct worker *worker, int fd);

#endif
