#include "net/send_ring.h"

#include <errno.h>

#ifdef HAVE_LIBURING

#include <assert.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/socket.h>

struct send_ring {
	struct io_uring uring;
	unsigned added;
	int error;
};

struct send_ring *send_ring_new(int *error) {
	/* One thread submits and reaps, and wants nothing done for it meanwhile; a send that fails does not keep those behind it.
	 * Kernels before 6.1 refuse these flags; what they have instead is not worth a second way. */
	struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
						  IORING_SETUP_SUBMIT_ALL};
	struct send_ring *ring = calloc(1, sizeof(*ring));

	if (!ring) {
		*error = ENOMEM;
		return NULL;
	}
	int rc = io_uring_queue_init_params(SEND_RING_SIZE, &ring->uring, &params);
	if (rc < 0) {
		*error = rc == -EINVAL ? ENOSYS : -rc;
		free(ring);
		return NULL;
	}
	/* Saves the look-up of the ring's descriptor in each call; it works without, too. */
	io_uring_register_ring_fd(&ring->uring);
	return ring;
}

void send_ring_free(struct send_ring *ring) {
	if (!ring)
		return;
	io_uring_queue_exit(&ring->uring);
	free(ring);
}

void send_ring_add(struct send_ring *ring, int fd, const void *data, size_t len) {
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

	assert(sqe);
	io_uring_prep_send(sqe, fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	sqe->user_data = ring->added++;
}

/* How many results have come by now. */
static unsigned reap(struct send_ring *ring, unsigned added, int *results) {
	struct io_uring_cqe *cqe;
	unsigned head, came = 0;

	io_uring_for_each_cqe(&ring->uring, head, cqe) {
		assert(cqe->user_data < added);
		results[cqe->user_data] = cqe->res;
		came++;
	}
	io_uring_cq_advance(&ring->uring, came);
	return came;
}

bool send_ring_run(struct send_ring *ring, int results[SEND_RING_SIZE]) {
	unsigned added = ring->added;

	ring->added = 0;
	for (unsigned i = 0; i < added; i++)
		results[i] = SEND_RING_UNTRIED;
	int rc = io_uring_submit_and_wait(&ring->uring, added);
	unsigned came = reap(ring, added, results);
	if (came == added)
		return true;
	/* The kernel takes entries in their order: those from `taken` on it never saw. */
	unsigned taken = added - io_uring_sq_ready(&ring->uring);
	for (unsigned i = 0; i < taken; i++)
		if (results[i] == SEND_RING_UNTRIED)
			results[i] = SEND_RING_UNKNOWN;
	ring->error = rc < 0 ? -rc : EIO;
	return false;
}

int send_ring_error(const struct send_ring *ring) {
	return ring->error;
}

#else

struct send_ring *send_ring_new(int *error) {
	*error = ENOSYS;
	return NULL;
}

void send_ring_free(struct send_ring *ring) {
	(void)ring;
}

void send_ring_add(struct send_ring *ring, int fd, const void *data, size_t len) {
	(void)ring, (void)fd, (void)data, (void)len;
}

bool send_ring_run(struct send_ring *ring, int results[SEND_RING_SIZE]) {
	(void)ring, (void)results;
	return false;
}

int send_ring_error(const struct send_ring *ring) {
	(void)ring;
	return ENOSYS;
}

#endif
