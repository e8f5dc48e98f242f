/* Who is at the other end of a stream: kept for each connection, told in logs, asked by rules. Any thread. */
#ifndef NET_STREAM_PEER_H
#define NET_STREAM_PEER_H

#include <stdint.h>
#include <sys/socket.h>

/* What a peer is, for logs and rules; small, for every connection keeps one. */
struct stream_peer {
	uint16_t family; /* AF_INET, AF_INET6, AF_UNIX; AF_UNSPEC: unknown */
	uint16_t port;   /* of AF_INET and AF_INET6 */
	union {
		uint8_t ip[16]; /* AF_INET (the first four bytes) and AF_INET6: in network order */
		struct {
			int pid; /* 0: the system does not tell */
			int uid; /* -1: unknown */
		} process;       /* AF_UNIX */
	};
};
_Static_assert(sizeof(struct stream_peer) == 20, "a peer is kept small");
enum { STREAM_PEER_TEXT = 64 };

/* Fills `peer` from its address, as accept4() tells it; asks a Unix socket for SO_PEERCRED. */
void stream_peer_from(int fd, const struct sockaddr *address, socklen_t len, struct stream_peer *peer);
/* "10.0.0.7:51234", "[::1]:51234", "unix:1234@501" (pid@uid), "unknown"; written to `out`, which is returned. */
const char *stream_peer_text(const struct stream_peer *peer, char out[STREAM_PEER_TEXT]);
/* The same with room of its own, which lasts until the end of the block. */
#define STREAM_PEER_SAY(peer) stream_peer_text(peer, (char[STREAM_PEER_TEXT]){0})
/* As a socket address, an unnamed one for AF_UNIX. */
struct sockaddr_storage stream_peer_address(const struct stream_peer *peer);

#endif
