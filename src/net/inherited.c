#include "net/inherited.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

enum { INHERITED_MAX = 256 };

static struct {
	struct {
		int fd;
		bool managed;
	} at[INHERITED_MAX];
	int count;
} inherited;

static bool listens(int fd) {
	int on = 0, type = 0;
	socklen_t len = sizeof on, type_len = sizeof type;

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) == 0 && on &&
	       getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len) == 0 && type == SOCK_STREAM;
}

bool inherited_add(int fd, bool managed) {
	int flags = fcntl(fd, F_GETFL);

	if (inherited.count == INHERITED_MAX || flags < 0 || !listens(fd) || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
		close(fd);
		return false;
	}
	inherited.at[inherited.count].fd = fd;
	inherited.at[inherited.count].managed = managed;
	inherited.count++;
	return true;
}

/* Of two sockets' addresses; of IPv6 ones the scope too. */
static bool same(const struct sockaddr *a, const struct sockaddr *b) {
	if (a->sa_family != b->sa_family)
		return false;
	switch (a->sa_family) {
	case AF_INET: {
		const struct sockaddr_in *x = (const struct sockaddr_in *)a, *y = (const struct sockaddr_in *)b;
		return x->sin_port == y->sin_port && x->sin_addr.s_addr == y->sin_addr.s_addr;
	}
	case AF_INET6: {
		const struct sockaddr_in6 *x = (const struct sockaddr_in6 *)a, *y = (const struct sockaddr_in6 *)b;
		return x->sin6_port == y->sin6_port && x->sin6_scope_id == y->sin6_scope_id &&
		       memcmp(&x->sin6_addr, &y->sin6_addr, sizeof x->sin6_addr) == 0;
	}
	case AF_UNIX:
		return strncmp(((const struct sockaddr_un *)a)->sun_path, ((const struct sockaddr_un *)b)->sun_path,
			       sizeof ((const struct sockaddr_un *)a)->sun_path) == 0;
	default:
		return false;
	}
}

int inherited_take(const struct sockaddr *address, socklen_t len, bool *managed) {
	(void)len;
	for (int i = 0; i < inherited.count; i++) {
		struct sockaddr_storage own = {0};
		socklen_t own_len = sizeof own;
		if (getsockname(inherited.at[i].fd, (struct sockaddr *)&own, &own_len) != 0 ||
		    !same((struct sockaddr *)&own, address))
			continue;
		int fd = inherited.at[i].fd;
		*managed = inherited.at[i].managed;
		inherited.at[i] = inherited.at[--inherited.count];
		return fd;
	}
	return -1;
}

void inherited_name(int fd, char *out, size_t room) {
	struct sockaddr_storage own = {0};
	socklen_t len = sizeof own;
	char host[INET6_ADDRSTRLEN] = "?";

	snprintf(out, room, "an unknown address");
	if (getsockname(fd, (struct sockaddr *)&own, &len) != 0)
		return;
	if (own.ss_family == AF_UNIX) {
		snprintf(out, room, "%.107s", ((struct sockaddr_un *)&own)->sun_path);
	} else if (own.ss_family == AF_INET) {
		const struct sockaddr_in *in = (struct sockaddr_in *)&own;
		inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
		snprintf(out, room, "%s:%d", host, ntohs(in->sin_port));
	} else if (own.ss_family == AF_INET6) {
		const struct sockaddr_in6 *in = (struct sockaddr_in6 *)&own;
		inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof host);
		snprintf(out, room, "[%s]:%d", host, ntohs(in->sin6_port));
	}
}

void inherited_close_rest(void (*each)(const char *address, bool managed)) {
	while (inherited.count > 0) {
		char address[160];
		inherited.count--;
		inherited_name(inherited.at[inherited.count].fd, address, sizeof address);
		each(address, inherited.at[inherited.count].managed);
		close(inherited.at[inherited.count].fd);
	}
}
