/* The control plane: what works off the data path, on threads of its own, through the vendors' client libraries. */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H

#include <stdbool.h>

#include "base/error.h"

/* Main thread, before the workers start: starts the threads and installs what the session asks of them. */
bool control_start(struct error *error);
/* Main thread, before the workers hear of a new configuration: forgets what was learnt under the old one. */
void control_reload(void);
/* Main thread, when the session has started, and again for each new configuration: watches its hosts. */
struct generation;
void control_watch(struct generation *generation);
/* Main thread, with the workers still running: answers what is pending and ends the threads. */
void control_stop(void);

#endif
