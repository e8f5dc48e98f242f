/*
 * Sends on many sockets in one system call, by io_uring (Linux 6.1 and later, where nobody forbids it). Each send is tried at once
 * and waits for nothing (MSG_DONTWAIT), so that all of them are over when send_ring_run() returns: the kernel holds on to no
 * buffer and no descriptor behind the caller's back. Errors are those of send(2), and ENOMEM where the kernel has no room to note
 * the send.
 *
 * Why: what TCP does for a send it does anyway, but the way into the kernel and out again is gone once for many.
 *
 * All functions: the thread that made the ring.
 */
#ifndef NET_SEND_RING_H
#define NET_SEND_RING_H

#include <stdbool.h>
#include <stddef.h>

enum {
	SEND_RING_SIZE = 128,         /* sends in one call at most */
	/* results, beside those of send(2) */
	SEND_RING_UNTRIED = -0x10000, /* the kernel has not taken this one; nothing of it was sent */
	SEND_RING_UNKNOWN = -0x10001  /* it has, and does not say what became of it: against its promise, but a kernel may be wrong */
};

struct send_ring;

/* NULL: there is none, and `error` (an errno) says why: ENOSYS when the kernel or this build knows no io_uring, EPERM when it is
 * forbidden (seccomp, kernel.io_uring_disabled). Free it by send_ring_free(), which takes NULL too. */
struct send_ring *send_ring_new(int *error);
void send_ring_free(struct send_ring *ring);
/* Adds one, at most SEND_RING_SIZE for each run. `fd` and `data` must live until the run is over. */
void send_ring_add(struct send_ring *ring, int fd, const void *data, size_t len);
/* Sends, in the order of adding. results[i] is what became of the i-th: the bytes that its socket took, a negative errno, or one
 * of the above. False: the ring has failed and is good for nothing but to be asked why and freed; the results hold all the same. */
bool send_ring_run(struct send_ring *ring, int results[SEND_RING_SIZE]);
/* The errno with which it has failed. */
int send_ring_error(const struct send_ring *ring);

#endif
