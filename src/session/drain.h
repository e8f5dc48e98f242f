/*
 * Draining: the process is to end, and each client is told to go at a transaction boundary. The main thread says when;
 * each worker tells its own clients, those first that have been idle longest, operators on the console last, and no more of
 * them a second than drain_pace allows. Not told yet is who is still logging in, and for a second who has only just come
 * in and asked for nothing yet: whoever was let in is served.
 */
#ifndef SESSION_DRAIN_H
#define SESSION_DRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/timeouts.h"

struct mailbox;
struct session_worker;

/* A worker's part of it. Owner only. */
struct drain {
	bool on;        /* clients are being told */
	bool said;      /* and none is left, which the main thread knows */
	struct timeout tick;
	uint64_t last_ns; /* of the last tick */
	uint64_t credit_ns;
};

/* Main thread, once: begins. `pace` is clients told a second, over all workers; 0: all at once. `drained` is called on the
 * main loop's thread, by mail, when no client is left. */
void drain_start(struct mailbox *main_mailbox, uint32_t pace, void (*drained)(void *context), void *context);
/* A client of this worker has gone. Its thread. */
void drain_client_gone(struct session_worker *sw);
/* The worker ends. */
void drain_stop(struct session_worker *sw);

#endif
