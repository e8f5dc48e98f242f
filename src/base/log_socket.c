#include "base/log_socket.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"

#define LENGTH_BYTES sizeof(uint16_t)
/* How many of the kept ones go at once, where others wait for the lock. */
enum { FEW = 32 };

void log_socket_open(struct log_socket *s, const char *path) {
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	s->connected = false;
	s->backlog_len = 0;
	snprintf(s->path, sizeof s->path, "%s", path ? path : "");
}

static bool try_connect(struct log_socket *s) {
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	size_t len = strlen(s->path);

	if (s->connected)
		return true;
	if (len == 0 || len >= sizeof un.sun_path) {
		errno = ENAMETOOLONG;
		return false;
	}
	if (s->fd < 0)
		s->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd < 0)
		return false;
	memcpy(un.sun_path, s->path, len);
	if (s->path[0] == '@')
		un.sun_path[0] = 0;
	socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (s->path[0] != '@'));
	s->connected = connect(s->fd, (struct sockaddr *)&un, size) == 0;
	return s->connected;
}

/* LOG_FULL: not now. One that listened and was started anew is found again at once, by its path. */
static enum log_sent try_send(struct log_socket *s, const char *text, size_t len) {
	for (int attempt = 0; attempt < 2; attempt++) {
		if (!try_connect(s))
			return LOG_GONE;
		ssize_t n;
		do
			n = send(s->fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		while (n < 0 && errno == EINTR);
		if (n >= 0)
			return LOG_SENT;
		if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || errno == ENOMEM)
			return LOG_FULL;
		if (errno == EMSGSIZE) /* told before EAGAIN, so such a one is never kept */
			return LOG_GONE;
		s->connected = false;
	}
	return LOG_GONE;
}

static uint16_t length_at(const struct log_socket *s, size_t at) {
	uint16_t len;

	memcpy(&len, s->backlog + at, sizeof len);
	return len;
}

/* So many at most. LOG_SENT: nothing is kept any more; LOG_FULL: some are. */
static enum log_sent send_kept(struct log_socket *s, int most) {
	enum log_sent sent = LOG_SENT;
	size_t at = 0;

	for (int i = 0; at < s->backlog_len && sent == LOG_SENT; i++) {
		uint16_t len = length_at(s, at);
		sent = i == most ? LOG_FULL : try_send(s, s->backlog + at + LENGTH_BYTES, len);
		if (sent == LOG_SENT)
			at += LENGTH_BYTES + len;
	}
	s->backlog_len -= at;
	if (at > 0)
		memmove(s->backlog, s->backlog + at, s->backlog_len);
	return sent;
}

static enum log_sent keep(struct log_socket *s, const char *text, size_t len) {
	uint16_t length = (uint16_t)len;

	if (len > UINT16_MAX || LENGTH_BYTES + len > sizeof s->backlog - s->backlog_len)
		return LOG_FULL;
	memcpy(s->backlog + s->backlog_len, &length, sizeof length);
	memcpy(s->backlog + s->backlog_len + LENGTH_BYTES, text, len);
	s->backlog_len += LENGTH_BYTES + len;
	return LOG_SENT;
}

enum log_sent log_socket_send(struct log_socket *s, const char *text, size_t len) {
	enum log_sent sent = send_kept(s, FEW);

	if (sent == LOG_SENT)
		sent = try_send(s, text, len);
	return sent == LOG_FULL ? keep(s, text, len) : sent;
}

void log_socket_flush(struct log_socket *s, int wait_ms) {
	uint64_t deadline_ns = clock_monotonic_ns() + (uint64_t)wait_ms * NS_PER_MS;

	while (s->backlog_len > 0 && send_kept(s, INT_MAX) == LOG_FULL) {
		uint64_t now_ns = clock_monotonic_ns();
		struct pollfd room = {.fd = s->fd, .events = POLLOUT};
		if (now_ns >= deadline_ns || poll(&room, 1, (int)((deadline_ns - now_ns) / NS_PER_MS) + 1) < 0)
			break;
	}
}

bool log_socket_go_on(struct log_socket *s) {
	return send_kept(s, FEW) == LOG_FULL;
}

uint64_t log_socket_kept(const struct log_socket *s) {
	uint64_t count = 0;

	for (size_t at = 0; at < s->backlog_len; at += LENGTH_BYTES + length_at(s, at))
		count++;
	return count;
}
