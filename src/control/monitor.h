/*
 * Watches the hosts of all pools: a few threads take what is due (a probe of a host, a look-up of its name) from one
 * queue. What is found goes to session/backend.h, and from there to the pools. At most one connection to each host.
 */
#ifndef CONTROL_MONITOR_H
#define CONTROL_MONITOR_H

#include <stdbool.h>

#include "base/error.h"

struct generation;

enum { MONITOR_THREADS_MAX = 8 };

/* Main thread, before the workers start. Starts no thread yet. */
bool monitor_start(struct error *error);
/* Main thread, when the session has started and again for each new configuration: watches its hosts from now on. */
void monitor_watch(struct generation *generation);
/* Main thread, with the workers still running. Waits for what is under way, which is told to give up. */
void monitor_stop(void);

#endif
