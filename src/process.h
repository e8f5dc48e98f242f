/* What the process is to the system: its limits, its user, its pid file, its service manager. Main thread. */
#ifndef PROCESS_H
#define PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/* No core dump: secrets are in memory. No SIGPIPE: a peer that has gone is an ordinary error. */
void process_harden(void);
/* Raises the limit of open descriptors as far as it may, and returns it; UINT64_MAX: there is none. */
uint64_t process_raise_limit(void);
struct pid_file {
	char path[4096];
	int fd; /* locked while we run; -1: none */
};
/* A file that a process left behind is replaced; one whose process still runs is an error. */
bool pid_file_create(struct pid_file *file, const char *path, struct error *error);
/* Another process is to have it: it is unlocked and stays. */
void pid_file_release(struct pid_file *file);
/* Removes it. Harmless when there is none. */
void pid_file_remove(struct pid_file *file);

/* "user" or "user:group"; the pid file is given to that user, for one that takes over from this process starts as that
 * user, and writes it. Before any thread starts. False: `error` says why, and nothing may go on. */
bool process_become(const char *run_as, const struct pid_file *pid_file, struct error *error);

/* To the service manager, where one started us: lines of "NAME=value" (sd_notify(3)). */
void process_notify(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool process_is_watched(void); /* by one that wants to be told */
void process_notify_reloading(void);
/* The listening sockets that it has opened for us (sd_listen_fds(3)), once: to net/inherited.h. Returns how many. */
int process_take_sockets(void);

/* This program as it is on disk now, with these arguments. 0: `error` says why not. */
pid_t process_spawn(const char *const *arguments, struct error *error);

#endif
