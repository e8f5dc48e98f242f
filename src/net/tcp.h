/* Options of TCP sockets by which the kernel finds peers that went silent. Any thread. */
#ifndef NET_TCP_H
#define NET_TCP_H

#include <stdbool.h>
#include <stdint.h>

struct tcp_silence {
	uint64_t keepalive_idle_ns; /* probed after this long, in whole seconds, and given up after twice as long */
	uint64_t user_timeout_ns;   /* given up when the peer has acknowledged nothing for this long */
};

/* 0 of either leaves it as it is: on a fresh socket, to the system. */
void tcp_set_silence(int fd, const struct tcp_silence *silence);
/* As a fresh socket has them. */
void tcp_reset_silence(int fd);
/* No delay of small packets, and keepalive probes. */
void tcp_set_usual(int fd);

#endif
