/*
 * A datagram socket that takes the log: syslog's or journald's. Nothing here waits: what the socket does not take at once is
 * kept, up to a bound, and sent first the next time. The caller's lock covers it.
 */
#ifndef BASE_LOG_SOCKET_H
#define BASE_LOG_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LOG_BACKLOG_MAX = 128 * 1024 };

struct log_socket {
	char path[108]; /* "@name": of the abstract namespace */
	int fd;         /* -1: there is none */
	bool connected;
	size_t backlog_len;
	char backlog[LOG_BACKLOG_MAX]; /* datagrams, each behind its length (two bytes) */
};

enum log_sent {
	LOG_SENT, /* or kept */
	LOG_FULL, /* neither the socket nor the backlog takes it: lost */
	LOG_GONE  /* nobody listens; errno says why */
};

/* Forgets what it had kept. `path` NULL: none. Connects when it is first needed. */
void log_socket_open(struct log_socket *s, const char *path);
enum log_sent log_socket_send(struct log_socket *s, const char *text, size_t len);
/* Sends what was kept as far as the socket takes it, waiting for that no longer than `wait_ms`. */
void log_socket_flush(struct log_socket *s, int wait_ms);
/* Sends a few of what was kept. True: some are left, and somebody listens. */
bool log_socket_go_on(struct log_socket *s);
/* How many datagrams are kept. */
uint64_t log_socket_kept(const struct log_socket *s);

#endif
