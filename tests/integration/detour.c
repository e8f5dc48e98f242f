#include "detour.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { PAIRS = 256, CHUNK = 16384 };

/* One direction's bytes that are on their way. */
struct pipe {
	char bytes[CHUNK];
	size_t from, to;
	bool ended; /* the source has closed */
};

struct pair {
	int near, far; /* -1: free */
	long long open_at; /* when bytes begin to pass */
	struct pipe out, back;
};

struct detour {
	/* immutable */
	int port, listener, delay_ms;
	char target[200];
	pthread_t thread;

	/* its thread only */
	struct pair pairs[PAIRS];

	/* atomic */
	_Atomic bool stop, silent;
	_Atomic int accepted, open;
	_Atomic unsigned rounds; /* of its loop, begun */
};

static int reach(const char *path) {
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%.107s", path);
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) != 0) {
		close(fd);
		return -1;
	}
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static void take_one(struct detour *detour) {
	int on = 1, fd = accept4(detour->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	atomic_fetch_add(&detour->accepted, 1);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	for (int i = 0; i < PAIRS; i++) {
		struct pair *pair = &detour->pairs[i];

		if (pair->near >= 0)
			continue;
		memset(pair, 0, sizeof(*pair));
		pair->near = fd;
		pair->far = reach(detour->target);
		if (pair->far < 0)
			break;
		pair->open_at = cluster_now_us() + 1000LL * detour->delay_ms;
		atomic_fetch_add(&detour->open, 1);
		return;
	}
	/* None is free, or PostgreSQL is not there. */
	for (int i = 0; i < PAIRS; i++) {
		if (detour->pairs[i].near == fd)
			detour->pairs[i].near = -1;
	}
	close(fd);
}

static void part(struct detour *detour, struct pair *pair) {
	close(pair->near);
	close(pair->far);
	pair->near = pair->far = -1;
	atomic_fetch_sub(&detour->open, 1);
}

/* False: this way is broken. */
static bool pass(struct pipe *pipe, int from, int to) {
	ssize_t n;

	if (!pipe->ended && pipe->to < CHUNK) {
		n = recv(from, pipe->bytes + pipe->to, CHUNK - pipe->to, 0);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			pipe->ended = true;
		else if (n > 0)
			pipe->to += (size_t)n;
	}
	if (pipe->to > pipe->from) {
		n = send(to, pipe->bytes + pipe->from, pipe->to - pipe->from, MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return false;
		pipe->from += n > 0 ? (size_t)n : 0;
	}
	if (pipe->from == pipe->to) {
		pipe->from = pipe->to = 0;
		return !pipe->ended;
	}
	return true;
}

static short interest(const struct pipe *in, const struct pipe *out) {
	return (short)((!in->ended && in->to < CHUNK ? POLLIN : 0) | (out->to > out->from ? POLLOUT : 0));
}

static void *run(void *context) {
	struct detour *detour = context;
	static _Thread_local struct pollfd polled[2 * PAIRS + 1];

	while (!atomic_load(&detour->stop)) {
		bool silent;
		long long now = cluster_now_us();
		int timeout_ms = 20;

		atomic_fetch_add(&detour->rounds, 1);
		silent = atomic_load(&detour->silent);

		polled[2 * PAIRS] = (struct pollfd){.fd = detour->listener, .events = POLLIN};
		for (int i = 0; i < PAIRS; i++) {
			struct pair *pair = &detour->pairs[i];
			bool shut = pair->near < 0 || silent || pair->open_at > now;

			if (pair->near >= 0 && pair->open_at > now && (pair->open_at - now) / 1000 < timeout_ms)
				timeout_ms = (int)((pair->open_at - now) / 1000);
			polled[2 * i] = (struct pollfd){.fd = shut ? -1 : pair->near, .events = interest(&pair->out, &pair->back)};
			polled[2 * i + 1] = (struct pollfd){.fd = shut ? -1 : pair->far, .events = interest(&pair->back, &pair->out)};
		}
		if (poll(polled, 2 * PAIRS + 1, timeout_ms) <= 0)
			continue;
		for (int i = 0; i < PAIRS; i++) {
			struct pair *pair = &detour->pairs[i];

			if (polled[2 * i].fd < 0 || (!polled[2 * i].revents && !polled[2 * i + 1].revents))
				continue;
			if (!pass(&pair->out, pair->near, pair->far) || !pass(&pair->back, pair->far, pair->near))
				part(detour, pair);
		}
		if (polled[2 * PAIRS].revents)
			take_one(detour);
	}
	return NULL;
}

struct detour *detour_start(const struct node *node, int login_delay_ms) {
	struct sockaddr_in sin = {.sin_family = AF_INET};
	struct detour *detour = calloc(1, sizeof(*detour));
	int on = 1;

	ck_assert(detour != NULL);
	for (int i = 0; i < PAIRS; i++)
		detour->pairs[i].near = detour->pairs[i].far = -1;
	detour->delay_ms = login_delay_ms;
	detour->port = harness_free_port();
	snprintf(detour->target, sizeof(detour->target), "%.180s/.s.PGSQL.%d", node->dir, node->port);
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	sin.sin_port = htons((uint16_t)detour->port);
	detour->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	setsockopt(detour->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	ck_assert_msg(bind(detour->listener, (struct sockaddr *)&sin, sizeof(sin)) == 0 && listen(detour->listener, 511) == 0,
		      "listen: %s", strerror(errno));
	ck_assert_int_eq(pthread_create(&detour->thread, NULL, run, detour), 0);
	return detour;
}

int detour_port(const struct detour *detour) {
	return detour->port;
}

int detour_accepted(const struct detour *detour) {
	return atomic_load(&detour->accepted);
}

int detour_open(const struct detour *detour) {
	return atomic_load(&detour->open);
}

void detour_silence(struct detour *detour, bool silent) {
	unsigned from;

	atomic_store(&detour->silent, silent);
	/* The round that is under way may not know. */
	from = atomic_load(&detour->rounds);
	while (atomic_load(&detour->rounds) == from)
		harness_pause_ms(1);
}

void detour_stop(struct detour *detour) {
	atomic_store(&detour->stop, true);
	pthread_join(detour->thread, NULL);
	for (int i = 0; i < PAIRS; i++) {
		if (detour->pairs[i].near >= 0)
			part(detour, &detour->pairs[i]);
	}
	close(detour->listener);
	free(detour);
}
