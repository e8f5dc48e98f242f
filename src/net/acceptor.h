/*
 * Accepting. One worker at a time watches the listening sockets: it *has the turn*. What it accepts it keeps, so that a
 * connection never goes from thread to thread. When another worker has markedly fewer clients, the turn goes there, by
 * mail.
 *
 * Why not all at once: each connection would wake every idle worker, for epoll's EPOLLEXCLUSIVE does not reach through a
 * nested epoll, and libev has no way to ask for it. Why not a socket for each worker (SO_REUSEPORT): the kernel spreads
 * by a hash, connections in the queue of a socket that is closed are lost, and a socket that was handed over is but one.
 */
#ifndef NET_ACCEPTOR_H
#define NET_ACCEPTOR_H

#include <stdbool.h>
#include <sys/socket.h>

#include "net/listener.h"

struct worker;
struct acceptor;
struct acceptor_socket;

/*
 * The bound: by accepting, no worker comes to have more clients than the one with the fewest, plus an eighth of those,
 * plus this many. (Clients that leave may make a greater difference: nobody is moved.) Kept small where there are few,
 * for a worker each is what clients that stay connected want; wider where there are many, so that the turn seldom moves.
 */
enum { ACCEPTOR_AHEAD = 2 };
static inline int acceptor_most(int fewest) {
	return fewest + fewest / 8 + ACCEPTOR_AHEAD;
}

/* On the worker that is to keep the client. Owns fd: non-blocking, close-on-exec. `worker->clients` counts it already.
 * `listener` may be looked at within the call only. */
typedef void acceptor_accepted(struct worker *worker, const struct listener *listener, int fd, const struct sockaddr *peer,
			       socklen_t peer_len);

/* Main thread, all of them; once worker_init() has been called for each worker. NULL: out of memory. */
struct acceptor *acceptor_new(struct worker *workers, int count, acceptor_accepted *accepted);
/* Once all sockets were closed and the workers have ended. NULL is fine. */
void acceptor_free(struct acceptor *acceptor);
/* Begins to accept; the workers run. The listener is taken over, and not to be closed by the caller. NULL: out of memory;
 * it is still the caller's. */
struct acceptor_socket *acceptor_add(struct acceptor *acceptor, const struct listener *listener);
struct listener *acceptor_listener(struct acceptor_socket *socket);
/*
 * Its socket file is gone at once; as soon as each worker has heard of it nobody can connect any more, and when all who had
 * connected are accepted it is closed: none of them is reset. Where packets take time, or its queue is full, it stays open a
 * little for those who are on the way. Who is accepted so is given to `accepted` as ever: the caller waits for the end
 * (acceptor_wait_closed()) before it takes away what that needs.
 */
void acceptor_remove(struct acceptor_socket *socket);
/* The same of a socket that another process accepts from by now: who waits in its queue is left to that, and so is its
 * file. */
void acceptor_hand_over(struct acceptor_socket *socket);
/* What was removed is closed without waiting for those who are on the way, from now on. */
void acceptor_hurry(struct acceptor *acceptor);
/* Waits until all that were removed are closed, so that their addresses are free: a turn of each worker's loop, as a
 * rule; 1.3 s where a queue was full. False: they are not within two seconds. */
bool acceptor_wait_closed(struct acceptor *acceptor);

#endif
