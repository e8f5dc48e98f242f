/* Listening sockets. Who accepts from them is another matter: net/acceptor.h. Main thread, where nothing else is said. */
#ifndef NET_LISTENER_H
#define NET_LISTENER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "net/tcp.h"

/* Who may use the file of a Unix socket. */
struct listener_access {
	unsigned mode;     /* permissions */
	const char *group; /* NULL: as it is made */
};

struct listener {
	int fd;            /* -1: closed */
	char address[128]; /* as configured */
	bool is_unix;
	char unix_path[108];              /* of the socket file that is ours to unlink; empty: none */
	uint64_t unix_device, unix_inode; /* by which that file is known */
	bool managed;  /* inherited from a service manager, which keeps it and its file */
	bool borrowed; /* the socket was inherited, and the file is not ours (yet): listener_own_file() */
};

/*
 * Listens, non-blocking. A name listens on its first IPv4 address that can be bound, else its first IPv6 one; "*" on all
 * addresses of both families. What it accepts has TCP_NODELAY, keepalive and `silence` from the start, for sockets inherit
 * the options of the one that they came by. False: `error` names the address; nothing is open.
 *
 * `address`: "127.0.0.1:6432", "[::1]:6432", "*:6432", "localhost:6432", "/run/forebay/.s.PGSQL.6432".
 * A socket of that address that was inherited (net/inherited.h) is used instead of a new one.
 * A stale Unix socket (nobody listens) is replaced; a live one is an error. `access` NULL: mode 0777 as PostgreSQL's.
 */
bool listener_open(struct listener *listener, const char *address, int backlog, const struct tcp_silence *silence,
		   const struct listener_access *access, struct error *error);
/* For connections that come in from now on; what is off in `silence` is as the system has it. */
void listener_set_silence(struct listener *listener, const struct tcp_silence *silence);
/* The length of its queue of connections that nobody has accepted yet. */
void listener_set_backlog(struct listener *listener, int backlog);
/*
 * Nobody can connect any more: the system refuses them. Who has connected, and waits to be accepted, can still be. For a socket
 * that is going to be closed; any thread. Returns how long somebody may still be on the way who believes to have connected, in
 * ns; UINT64_MAX: newcomers cannot be kept off, or, of a socket that the service manager keeps, should not be.
 */
uint64_t listener_shut(struct listener *listener);
/* Takes away its socket file, if it has one: nobody finds it any more. May be called twice. */
void listener_unlink(struct listener *listener);
/* The process that opened the socket has gone, or will not care for its file any more: it is ours to remove. */
void listener_own_file(struct listener *listener);
/* Its socket file is another's from now on: it stays when this one is closed. */
void listener_keep_file(struct listener *listener);
/* Unlinks and closes. May be called twice, and after listener_open() failed. The thread that has the last use of it. */
void listener_close(struct listener *listener);

#endif
