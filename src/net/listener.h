/* Listening sockets: the main thread accepts in batches and hands each descriptor on. */
#ifndef NET_LISTENER_H
#define NET_LISTENER_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct listener {
	ev_io io;
	ev_timer pause; /* out of descriptors: stop accepting for 100 ms instead of spinning */
	struct ev_loop *loop;
	int fd;
	char address[128];      /* as configured, for logs */
	bool is_unix;
	char unix_path[108];
	uint64_t unix_device, unix_inode; /* the socket file that is ours to unlink */
	void *context;
	/* Main thread; owns fd: non-blocking, close-on-exec, TCP_NODELAY, keepalive. */
	void (*accepted)(struct listener *listener, int fd);
};

/*
 * Listens. The caller has set `context` and `accepted`. A name listens on its first IPv4 address that can be bound,
 * else its first IPv6 one; "*" on all addresses of both families. False: `error` names the address; nothing is open.
 *
 * `address`: "127.0.0.1:6432", "[::1]:6432", "*:6432", "localhost:6432", "/run/forebay/.s.PGSQL.6432".
 * A stale Unix socket (nobody listens) is replaced; a live one is an error. Mode 0777 as PostgreSQL's.
 */
bool listener_open(struct listener *listener, struct ev_loop *loop, const char *address, int backlog,
		   struct error *error);
/* Unlinks its Unix socket. May be called twice, and after listener_open() failed. */
void listener_close(struct listener *listener);

#endif
