#include "net/listener.h"

#include <errno.h>
#include <grp.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#ifdef __linux__
#include <limits.h>
#include <netinet/tcp.h>
#endif

#include "base/clock.h"
#include "net/inherited.h"

/* Before anybody can connect. Who may log in is decided by authentication, as for PostgreSQL's own sockets. */
static bool set_access(const char *path, const struct listener_access *access, struct error *error) {
	unsigned mode = access ? access->mode : 0777;

	if (access && access->group) {
		errno = 0;
		const struct group *group = getgrnam(access->group);
		if (!group)
			return error_set(error, errno, "cannot listen on %s: unix_socket_group = %s: there is no such group", path,
					 access->group);
		if (chown(path, (uid_t)-1, group->gr_gid) != 0)
			return error_set(error, errno, "cannot listen on %s: unix_socket_group = %s: %s", path, access->group,
					 strerror(errno));
	}
	if (chmod(path, mode) != 0)
		return error_set(error, errno, "cannot listen on %s: unix_socket_mode = %04o: %s", path, mode, strerror(errno));
	return true;
}

/* The socket file is ours to remove, while it is this one. */
static void note_file(struct listener *listener, const char *path) {
	struct stat st;

	if (lstat(path, &st) != 0 || !S_ISSOCK(st.st_mode))
		return;
	listener->unix_device = st.st_dev;
	listener->unix_inode = st.st_ino;
	memcpy(listener->unix_path, path, strlen(path) + 1);
}

static bool open_unix(struct listener *listener, const char *path, const struct listener_access *access,
		      struct error *error) {
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct stat st;

	if (strlen(path) >= sizeof un.sun_path)
		return error_set(error, ENAMETOOLONG, "cannot listen on %s: the path is longer than %zu bytes",
				 path, sizeof un.sun_path - 1);
	memcpy(un.sun_path, path, strlen(path) + 1);
	listener->fd = inherited_take((struct sockaddr *)&un, sizeof un, &listener->managed);
	if (listener->fd >= 0) {
		listener->borrowed = !listener->managed;
		return true;
	}
	listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener->fd < 0)
		return error_set(error, errno, "cannot listen on %s: %s", path, strerror(errno));
	if (bind(listener->fd, (struct sockaddr *)&un, sizeof un) < 0) {
		if (errno != EADDRINUSE)
			return error_set(error, errno, "cannot listen on %s: %s", path, strerror(errno));
		/* Something is there: a socket that nobody listens on was left behind, all else is not ours. */
		if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
			return error_set(error, EEXIST, "cannot listen on %s: a file that is no socket is there",
					 path);
		int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		int e = probe < 0 || connect(probe, (struct sockaddr *)&un, sizeof un) == 0 ? EADDRINUSE : errno;
		if (probe >= 0)
			close(probe);
		if (e != ECONNREFUSED && e != ENOENT)
			return error_set(error, EADDRINUSE, "cannot listen on %s: another process does already",
					 path);
		unlink(path);
		if (bind(listener->fd, (struct sockaddr *)&un, sizeof un) < 0)
			return error_set(error, errno, "cannot listen on %s: %s", path, strerror(errno));
	}
	note_file(listener, path);
	return set_access(path, access, error);
}

/* Splits "host:port" or "[v6]:port". */
static bool split_address(const char *address, char host[256], char port[16], struct error *error) {
	const char *colon = strrchr(address, ':');
	const char *begin = address, *end = colon;

	if (colon && *begin == '[' && colon > begin && colon[-1] == ']') {
		begin++;
		end--;
	} else if (colon && memchr(begin, ':', (size_t)(colon - begin))) {
		return error_set(error, EINVAL,
				 "cannot listen on %s: an IPv6 address goes in brackets, [::1]:6432", address);
	}
	if (!colon || end == begin || !colon[1] || strlen(colon + 1) > 5 ||
	    strspn(colon + 1, "0123456789") != strlen(colon + 1))
		return error_set(error, EINVAL, "cannot listen on %s: expected host:port or an absolute path",
				 address);
	if ((size_t)(end - begin) >= 256)
		return error_set(error, EINVAL, "cannot listen on %s: the host is longer than 255 bytes", address);
	memcpy(host, begin, (size_t)(end - begin));
	host[end - begin] = '\0';
	memcpy(port, colon + 1, strlen(colon + 1) + 1);
	return true;
}

/* A bound socket, or -1 with errno. */
static int bind_to(const struct sockaddr *address, socklen_t len, bool both_families) {
	const int on = 1, v6_only = !both_families;
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (address->sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, sizeof v6_only);
	if (bind(fd, address, len) == 0)
		return fd;
	int e = errno;
	close(fd);
	errno = e;
	return -1;
}

static bool open_tcp(struct listener *listener, const char *address, struct error *error) {
	struct addrinfo hints = {
		.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
	struct addrinfo *found = NULL;
	char host[256], port[16];

	if (!split_address(address, host, port, error))
		return false;
	bool any = strcmp(host, "*") == 0;
	int e = getaddrinfo(any ? NULL : host, port, &hints, &found);
	if (e)
		return error_set(error, e == EAI_SYSTEM ? errno : 0, "cannot listen on %s: %s", address,
				 e == EAI_SYSTEM ? strerror(errno) : gai_strerror(e));
	/* For "*" one IPv6 socket serves both families; the system may have no IPv6. */
	const int order[2] = {any ? AF_INET6 : AF_INET, any ? AF_INET : AF_INET6};
	e = EADDRNOTAVAIL;
	for (int i = 0; i < 2 && listener->fd < 0; i++) {
		for (struct addrinfo *a = found; a && listener->fd < 0; a = a->ai_next) {
			if (a->ai_family != order[i])
				continue;
			listener->fd = inherited_take(a->ai_addr, a->ai_addrlen, &listener->managed);
			if (listener->fd < 0)
				listener->fd = bind_to(a->ai_addr, a->ai_addrlen, any);
			if (listener->fd < 0)
				e = errno;
		}
	}
	freeaddrinfo(found);
	if (listener->fd < 0)
		return error_set(error, e, "cannot listen on %s: %s", address, strerror(e));
	return true;
}

bool listener_open(struct listener *listener, const char *address, int backlog, const struct tcp_silence *silence,
		   const struct listener_access *access, struct error *error) {
	listener->fd = -1;
	listener->is_unix = address[0] == '/';
	listener->borrowed = listener->managed = false;
	listener->unix_path[0] = '\0';
	snprintf(listener->address, sizeof listener->address, "%s", address);
	bool ok = listener->is_unix ? open_unix(listener, address, access, error) : open_tcp(listener, address, error);
	if (ok && !listener->is_unix) {
		tcp_set_usual(listener->fd);
		tcp_set_silence(listener->fd, silence);
	}
	if (ok && listen(listener->fd, backlog) < 0)
		ok = error_set(error, errno, "cannot listen on %s: %s", address, strerror(errno));
	if (!ok)
		listener_close(listener);
	return ok;
}

void listener_set_silence(struct listener *listener, const struct tcp_silence *silence) {
	if (listener->is_unix)
		return;
	tcp_reset_silence(listener->fd);
	tcp_set_silence(listener->fd, silence);
}

void listener_set_backlog(struct listener *listener, int backlog) {
	listen(listener->fd, backlog);
}

#ifdef __linux__

/* Several round trips of a network: who has got an answer to its first packet has sent the next one by then. */
#define HANDSHAKE_NS (200 * NS_PER_MS)
/* Who found the queue full sends again, within a second at first. */
#define FULL_QUEUE_NS (1300 * NS_PER_MS)

/* On this machine packets take no time: who has an answer has been put into the queue. */
static bool is_of_loopback(int fd) {
	struct sockaddr_storage own = {0};
	socklen_t len = sizeof own;

	if (getsockname(fd, (struct sockaddr *)&own, &len) != 0)
		return false;
	if (own.ss_family == AF_INET)
		return ntohl(((struct sockaddr_in *)&own)->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	return own.ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((struct sockaddr_in6 *)&own)->sin6_addr);
}

static bool is_queue_full(int fd) {
	struct tcp_info info = {0};
	socklen_t len = sizeof info;

	/* of a listening socket: who waits in its queue, and its length */
	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_unacked >= info.tcpi_sacked;
}

/*
 * Of a network interface that there is not: so the system finds no listening socket for a first packet, and refuses the
 * connection. Those that have had an answer are known by themselves, and go into the queue as ever. (A filter of the socket's
 * would do as well, but newer systems give it to root alone.)
 */
static bool refuse_first_packets(int fd) {
#ifdef SO_BINDTOIFINDEX
	const int nowhere = INT_MAX;

	return setsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &nowhere, sizeof nowhere) == 0;
#else
	(void)fd;
	return false;
#endif
}

uint64_t listener_shut(struct listener *listener) {
	if (listener->managed)
		return UINT64_MAX;
	if (listener->is_unix)
		return shutdown(listener->fd, SHUT_RD) == 0 ? 0 : UINT64_MAX;
	bool full = is_queue_full(listener->fd);
	if (!refuse_first_packets(listener->fd))
		return UINT64_MAX;
	return full ? FULL_QUEUE_NS : is_of_loopback(listener->fd) ? 0 : HANDSHAKE_NS;
}

#else

uint64_t listener_shut(struct listener *listener) {
	(void)listener;
	return UINT64_MAX;
}

#endif

void listener_unlink(struct listener *listener) {
	struct stat st;

	/* Another process may have put its own there meanwhile. */
	if (listener->unix_path[0] && lstat(listener->unix_path, &st) == 0 && listener->unix_device == st.st_dev &&
	    listener->unix_inode == st.st_ino)
		unlink(listener->unix_path);
	listener->unix_path[0] = '\0';
}

void listener_own_file(struct listener *listener) {
	if (listener->borrowed)
		note_file(listener, listener->address);
	listener->borrowed = false;
}

void listener_keep_file(struct listener *listener) {
	listener->unix_path[0] = '\0';
}

void listener_close(struct listener *listener) {
	if (listener->fd < 0)
		return;
	listener_unlink(listener);
	close(listener->fd);
	listener->fd = -1;
}
