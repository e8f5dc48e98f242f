/*
 * The process that runs: its start, its main loop, signals, its end (run.c), and its configuration while it runs (reload.c).
 * Main thread.
 */
#ifndef RUN_H
#define RUN_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "config/config.h"
#include "listening.h"
#include "net/mailbox.h"
#include "process.h"
#include "takeover.h"

struct console_result;
struct generation;
struct http;
struct worker;

enum { EXIT_STOPPED = 0, EXIT_CANNOT_START = 1, EXIT_BAD_USAGE = 2 };

enum { OVERRIDES_MOST = 100 };

struct run {
	const char *file;
	struct ev_loop *loop;
	struct mailbox mailbox;
	struct generation *generation; /* the newest */
	struct worker *workers;
	struct http *http; /* NULL: metrics_listen is empty */
	int workers_made, workers_running;
	bool mailbox_made, session_made, control_made, admin_made, offload_made, resolver_made, signals_made;
	struct listenings listenings;
	struct pid_file pid_file;
	struct takeover takeover;
	pid_t started; /* by SIGUSR2; 0: none */
	ev_child on_started;
	ev_signal on_term, on_int, on_hup, on_usr2;
	ev_timer housekeeping, log_again, drain_delay, shutdown_timeout;
	unsigned seconds;
	bool take_over; /* --takeover */
	bool stopping, draining, drained, taken_over, stop_said;
	/* SET on the console, until the next reload: owned */
	struct config_override overrides[OVERRIDES_MOST];
	size_t override_count;
};

/* Runs with this configuration until it is told to stop; `take_over`: in the place of the process that runs now. Once in a
 * process. Returns the exit code. */
int run(const char *file, bool take_over);

/* ---- reload.c ---- */

/* Reads the file, with what was SET; what is wrong with it, or remarkable, goes to the log. NULL: it cannot be used, and
 * `errors` says why. */
struct config *run_load(const struct run *run, struct config_errors *errors);
/* The first of them in one line. */
void run_explain(const struct config_errors *errors, char *out, size_t room);
/* Raises the limit of descriptors. False: max_clients and the pools cannot fit in it. */
bool run_take_descriptors(const struct config *config, struct error *error);
/* False: the configuration lacks the auth_file that the one before has. A start goes on without it, as PgBouncer's does; a
 * reload without it, while somebody replaces it, would refuse all who are in it. */
bool run_keeps_users(const struct config *before, const struct config *config, struct error *error);
/* Logs as it says from now on. */
void run_set_log(const struct config *config);
/* Reads the file anew, whole or not at all; what was SET goes. `result` NULL: by a signal. */
void run_reload(struct run *run, struct console_result *result);
/* A setting, by its name in the file, until the next reload. */
void run_set(struct run *run, struct console_result *result, const char *key, const char *value);
/* The first so many overrides; the end of the process forgets all. */
void run_forget_overrides(struct run *run, size_t count);

#endif
