#include "net/stream_peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void unix_peer(int fd, struct stream_peer *peer) {
	peer->process.uid = -1;
#ifdef SO_PEERCRED
	struct ucred who;
	socklen_t len = sizeof who;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0) {
		peer->process.pid = (int)who.pid;
		peer->process.uid = (int)who.uid;
	}
#else
	uid_t uid;
	gid_t gid;
	if (getpeereid(fd, &uid, &gid) == 0)
		peer->process.uid = (int)uid;
#endif
}

/* An IPv4 peer on an IPv6 socket (::ffff:10.0.0.7) becomes what rules and people call it. */
static void inet6_peer(const struct sockaddr_in6 *in6, struct stream_peer *peer) {
	bool is_v4 = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);

	peer->family = is_v4 ? AF_INET : AF_INET6;
	peer->port = ntohs(in6->sin6_port);
	memcpy(peer->ip, in6->sin6_addr.s6_addr + (is_v4 ? 12 : 0), is_v4 ? 4 : 16);
}

void stream_peer_from(int fd, const struct sockaddr *address, socklen_t len, struct stream_peer *peer) {
	*peer = (struct stream_peer){.family = AF_UNSPEC};
	if (len < offsetof(struct sockaddr, sa_data))
		return;
	if (address->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
		const struct sockaddr_in *in = (const void *)address;
		peer->family = AF_INET;
		peer->port = ntohs(in->sin_port);
		memcpy(peer->ip, &in->sin_addr, sizeof in->sin_addr);
	} else if (address->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
		inet6_peer((const void *)address, peer);
	} else if (address->sa_family == AF_UNIX) {
		peer->family = AF_UNIX;
		unix_peer(fd, peer);
	}
}

const char *stream_peer_text(const struct stream_peer *peer, char out[STREAM_PEER_TEXT]) {
	char host[INET6_ADDRSTRLEN];

	if (peer->family == AF_INET || peer->family == AF_INET6) {
		inet_ntop(peer->family, peer->ip, host, sizeof host);
		snprintf(out, STREAM_PEER_TEXT, peer->family == AF_INET ? "%s:%d" : "[%s]:%d", host, peer->port);
	} else if (peer->family == AF_UNIX && peer->process.uid != -1) {
		snprintf(out, STREAM_PEER_TEXT, "unix:%d@%u", peer->process.pid, (unsigned)peer->process.uid);
	} else {
		snprintf(out, STREAM_PEER_TEXT, "%s", peer->family == AF_UNIX ? "unix" : "unknown");
	}
	return out;
}

struct sockaddr_storage stream_peer_address(const struct stream_peer *peer) {
	struct sockaddr_storage address = {.ss_family = peer->family};

	if (peer->family == AF_INET) {
		struct sockaddr_in *in = (void *)&address;
		in->sin_port = htons(peer->port);
		memcpy(&in->sin_addr, peer->ip, sizeof in->sin_addr);
	} else if (peer->family == AF_INET6) {
		struct sockaddr_in6 *in6 = (void *)&address;
		in6->sin6_port = htons(peer->port);
		memcpy(&in6->sin6_addr, peer->ip, sizeof in6->sin6_addr);
	}
	return address;
}
