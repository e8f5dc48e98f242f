#include "takeover_wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { SEND_WAIT_MS = 1000, ANSWER_WAIT_S = 10, BACKLOG = 4 };

static bool address_of(const char *path, struct sockaddr_un *un, struct error *error) {
	*un = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof un->sun_path)
		return error_set(error, ENAMETOOLONG, "takeover_socket %s: the path is longer than %zu bytes", path,
				 sizeof un->sun_path - 1);
	memcpy(un->sun_path, path, strlen(path) + 1);
	return true;
}

/* Under a name of its own first: whoever looks finds one or the other, and never none. */
int takeover_wire_listen(const char *path, struct error *error) {
	char own[sizeof ((struct sockaddr_un *)0)->sun_path];
	struct sockaddr_un un;

	if ((size_t)snprintf(own, sizeof own, "%s.%ld", path, (long)getpid()) >= sizeof own) {
		error_set(error, ENAMETOOLONG, "takeover_socket %s: the path is longer than %zu bytes", path, sizeof own - 12);
		return -1;
	}
	if (!address_of(own, &un, error))
		return -1;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		error_set(error, errno, "takeover_socket %s: %s", path, strerror(errno));
		return -1;
	}
	unlink(own);
	mode_t mask = umask(0177);
	bool ok = bind(fd, (struct sockaddr *)&un, sizeof un) == 0;
	int e = errno;
	umask(mask);
	if (ok && (listen(fd, BACKLOG) != 0 || rename(own, path) != 0)) {
		e = errno;
		ok = false;
		unlink(own);
	}
	if (ok)
		return fd;
	close(fd);
	error_set(error, e, "takeover_socket %s: cannot listen there: %s", path, strerror(e));
	return -1;
}

static bool credentials_of(int fd, struct ucred *peer) {
	socklen_t len = sizeof *peer;

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &len) == 0;
}

void takeover_wire_unblock(int socket) {
	int flags = fcntl(socket, F_GETFL);

	if (flags >= 0)
		fcntl(socket, F_SETFL, flags | O_NONBLOCK);
}

int takeover_wire_connect(const char *path, bool *nobody, pid_t *pid, struct error *error) {
	const struct timeval wait = {.tv_sec = ANSWER_WAIT_S};
	struct sockaddr_un un;
	struct ucred peer;

	*nobody = false;
	if (!address_of(path, &un, error))
		return -1;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		error_set(error, errno, "takeover_socket %s: %s", path, strerror(errno));
		return -1;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
	if (connect(fd, (struct sockaddr *)&un, sizeof un) != 0) {
		*nobody = errno == ENOENT || errno == ECONNREFUSED;
		error_set(error, errno, "takeover_socket %s: cannot connect: %s", path, strerror(errno));
	} else if (!credentials_of(fd, &peer) || (peer.uid != 0 && peer.uid != geteuid() && geteuid() != 0)) {
		error_set(error, EPERM, "takeover_socket %s: the process there belongs to somebody else", path);
	} else {
		*pid = peer.pid;
		return fd;
	}
	close(fd);
	return -1;
}

int takeover_wire_accept(int listener, pid_t *pid, struct error *error) {
	struct ucred peer = {0};
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return -1;
	if (!credentials_of(fd, &peer) || (peer.uid != 0 && peer.uid != geteuid())) {
		error_set(error, EPERM, "process %ld of user %ld is neither root's nor this one's user's", (long)peer.pid,
			  (long)peer.uid);
		close(fd);
		return -1;
	}
	*pid = peer.pid;
	return fd;
}

bool takeover_wire_send(int socket, const struct takeover_message *message, int fd, bool wait) {
	struct iovec part = {.iov_base = (void *)(uintptr_t)message, .iov_len = sizeof *message};
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof fd)];
	} control = {0};
	struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};

	if (fd >= 0) {
		header.msg_control = control.room;
		header.msg_controllen = sizeof control.room;
		struct cmsghdr *c = CMSG_FIRSTHDR(&header);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(c), &fd, sizeof fd);
	}
	for (;;) {
		ssize_t n = sendmsg(socket, &header, MSG_NOSIGNAL);
		if (n == (ssize_t)sizeof *message)
			return true;
		if (n < 0 && errno == EINTR)
			continue;
		struct pollfd writable = {.fd = socket, .events = POLLOUT};
		if (n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK) || !wait || poll(&writable, 1, SEND_WAIT_MS) <= 0)
			return false;
	}
}

int takeover_wire_receive(int socket, struct takeover_message *message, int *fd) {
	struct iovec part = {.iov_base = message, .iov_len = sizeof *message};
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof *fd)];
	} control = {0};
	struct msghdr header = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
	int resets = 0;
	ssize_t n;

	*fd = -1;
	do { /* a peer that has closed without reading all is an error first; what it has said comes behind that */
		n = recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
	} while (n < 0 && (errno == EINTR || (errno == ECONNRESET && resets++ == 0)));
	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
	struct cmsghdr *c = CMSG_FIRSTHDR(&header);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof *fd))
		memcpy(fd, CMSG_DATA(c), sizeof *fd);
	bool whole = n == (ssize_t)sizeof *message && !(header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) &&
		     message->len <= TAKEOVER_TEXT_MAX && message->text[TAKEOVER_TEXT_MAX - 1] == 0;
	if (whole)
		return 1;
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	return -1;
}
