/* What a process and the one that replaces it say to each other: whole messages on a Unix socket (SOCK_SEQPACKET). */
#ifndef TAKEOVER_WIRE_H
#define TAKEOVER_WIRE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/* Of the messages' form: both must speak the same. */
enum { TAKEOVER_VERSION = 1, TAKEOVER_TEXT_MAX = 256 };

enum takeover_type {
	TAKEOVER_HELLO = 1,   /* new: `number` is the version of these messages */
	TAKEOVER_REFUSED,     /* old: `text` says why */
	TAKEOVER_SOCKET,      /* old: a listening socket comes along; `text` is its address, `number` 1: a manager's */
	TAKEOVER_SOCKETS_END, /* old: those were `number` */
	TAKEOVER_READY,       /* new: it accepts */
	TAKEOVER_RELEASED,    /* old: it accepts no more; the pid file is free */
	TAKEOVER_HELD,        /* old: it may have `number` connections of database `text` */
	TAKEOVER_ROUND,       /* old: those were all (`number` 1), or all but those that are to come */
	TAKEOVER_CANCEL,      /* either: request `number`, to cancel what client `id` does, with `len` bytes of secret */
	TAKEOVER_CANCELLED,   /* either: request `number` is over */
	TAKEOVER_UNUSED       /* new: it has let go of the socket named `text` (inherited_name()) */
};

struct takeover_message {
	uint32_t type, number, id, len;
	char text[TAKEOVER_TEXT_MAX];
};

/* Listens at this path for those who would replace this process; who did so before finds itself replaced there. -1: `error`
 * says why. */
int takeover_wire_listen(const char *path, struct error *error);
/* -1: nobody is there (`*nobody`), or `error` says why. Blocking, with timeouts, until takeover_wire_unblock(). `*pid` is the
 * process there. */
int takeover_wire_connect(const char *path, bool *nobody, pid_t *pid, struct error *error);
void takeover_wire_unblock(int socket);
/* -1: nobody stands there, or it is none of ours: `error` says so, where there is something to say. Messages to and from it
 * do not block, but for those that are sent with `wait`. */
int takeover_wire_accept(int listener, pid_t *pid, struct error *error);
/* `fd` -1: none comes along. `wait`: for up to a second, where the peer does not read. False: it could not be sent. */
bool takeover_wire_send(int socket, const struct takeover_message *message, int fd, bool wait);
/* 1: there is one, and `*fd` what came along, or -1; 0: none yet (or the timeout); -1: the peer has gone, or talks
 * nonsense. */
int takeover_wire_receive(int socket, struct takeover_message *message, int *fd);

#endif
