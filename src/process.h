/* What the process is to the system: its limits, its user, its pid file, its service manager. Main thread. */
#ifndef PROCESS_H
#define PROCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* No core dump: secrets are in memory. No SIGPIPE: a peer that has gone is an ordinary error. */
void process_harden(void);
/* Raises the limit of open descriptors as far as it may, and returns it; UINT64_MAX: there is none. */
uint64_t process_raise_limit(void);
/* "user" or "user:group". Before any thread starts. False: `error` says why, and nothing may go on. */
bool process_become(const char *run_as, struct error *error);

struct pid_file {
	char path[4096];
	int fd; /* locked while we run; -1: none */
};
/* A file that a process left behind is replaced; one whose process still runs is an error. */
bool pid_file_create(struct pid_file *file, const char *path, struct error *error);
/* Removes it. Harmless when there is none. */
void pid_file_remove(struct pid_file *file);

/* To systemd, where it started us. */
void process_notify_ready(const char *status);
void process_notify_reloading(void);
void process_notify_stopping(void);

#endif
