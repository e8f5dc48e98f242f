/*
 * Work that would block a loop (password hashing, name look-ups): run on a few helper threads, its end reported
 * on the worker that asked. The job belongs to the offload until `done` is called, then to the caller again.
 * A worker stops only when its jobs are done (offload_stop() first).
 */
#ifndef NET_OFFLOAD_H
#define NET_OFFLOAD_H

#include <stdbool.h>

#include "net/mailbox.h"

struct worker;

struct offload_job {
	struct mail mail; /* private */
	struct offload_job *next;
	struct worker *worker;
	void (*work)(struct offload_job *job); /* helper thread */
	void (*done)(struct offload_job *job); /* the worker's thread */
};

/* Main thread, once before the workers. False: no thread could be started. */
bool offload_start(int threads);
/*
 * Any worker's thread. Always accepted: callers bound their own number (one per client in login, one per opening
 * server). Where no helper runs, the work is done within the call.
 */
void offload_submit(struct offload_job *job, struct worker *worker);
/* Ends the threads after the jobs queued are done. Main thread. */
void offload_stop(void);

#endif
