#include "net/tcp.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

void tcp_set_usual(int fd) {
	const int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

void tcp_set_silence(int fd, const struct tcp_silence *silence) {
	int idle_s = (int)(silence->keepalive_idle_ns / NS_PER_S), user_ms = (int)(silence->user_timeout_ns / NS_PER_MS);
	/* given up after twice the time, also where the kernel's own intervals would be minutes */
	int probes = 3, interval_s = (idle_s + probes - 1) / probes;

	if (idle_s > 0) {
		setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
		setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
		setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
	}
#ifdef TCP_USER_TIMEOUT
	if (user_ms > 0)
		setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_ms, sizeof user_ms);
#endif
}

void tcp_reset_silence(int fd) {
	static const int options[] = {
		TCP_KEEPIDLE,
		TCP_KEEPINTVL,
		TCP_KEEPCNT,
#ifdef TCP_USER_TIMEOUT
		TCP_USER_TIMEOUT,
#endif
	};
	int domain = AF_INET;
#ifdef SO_DOMAIN
	socklen_t domain_len = sizeof domain;
	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_len);
#endif
	int fresh = socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fresh < 0)
		return;
	for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
		int value;
		socklen_t len = sizeof value;
		if (getsockopt(fresh, IPPROTO_TCP, options[i], &value, &len) == 0)
			setsockopt(fd, IPPROTO_TCP, options[i], &value, len);
	}
	close(fresh);
}
