/*
 * A backend that answers at once, so that the proxy in front of it is what is measured.
 *
 * It plays a PostgreSQL 15, or with --mysql a MariaDB, that lets everybody in: every query has one row of one column, BEGIN
 * and COMMIT change the status, SET and the like succeed, and a query that begins with "SELECT (slash)* large N" gets N MiB
 * of rows. The answers to all that one receive brings leave in one send, and the sends of a wake-up in one call where there is
 * io_uring.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "net/send_ring.h"
#include "stub.h"

enum {
	EVENTS = 512,
	INPUT_SIZE = 256 * 1024
};

struct loop {
	int epoll, listeners[2]; /* by TCP, and by a Unix socket or -1 */
	char *input;
	struct bytes answer;
	struct send_ring *ring; /* NULL: each answer is sent by itself */
	struct conn *gathered[SEND_RING_SIZE];
	int gathered_count;
};

static SSL_CTX *tls;
static const struct stub_protocol *protocol = &stub_postgresql;

bool stub_has_tls(void) { return tls; }

static _Noreturn void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void conn_close(struct loop *l, struct conn *c)
{
	for (int i = 0; c->gathered && i < l->gathered_count; i++)
		if (l->gathered[i] == c)
			l->gathered[i--] = l->gathered[--l->gathered_count];
	close(c->fd);
	SSL_free(c->ssl);
	free(c->in.data);
	free(c->out.data);
	free(c->kinds);
	free(c);
}

bool stub_is_word(const char *sql, const char *word)
{
	size_t len = strlen(word);

	return !strncasecmp(sql, word, len) && (!sql[len] || strchr(" ;\t\n", sql[len]));
}

static ssize_t conn_send(struct conn *c, const void *data, size_t len)
{
	ssize_t n;

	if (!c->ssl) {
		n = send(c->fd, data, len, MSG_NOSIGNAL);
		return n < 0 && errno == EAGAIN ? 0 : n;
	}
	n = SSL_write(c->ssl, data, (int)(len < 1 << 20 ? len : 1 << 20));
	if (n > 0)
		return n;
	int why = SSL_get_error(c->ssl, (int)n);

	ERR_clear_error();
	return why == SSL_ERROR_WANT_WRITE || why == SSL_ERROR_WANT_READ ? 0 : -1;
}

static void watch(struct loop *l, struct conn *c, bool out)
{
	struct epoll_event event = { .events = out ? EPOLLOUT : EPOLLIN, .data.ptr = c };

	if (c->wants_out == out)
		return;
	c->wants_out = out;
	epoll_ctl(l->epoll, EPOLL_CTL_MOD, c->fd, &event);
}

/* Sends what is kept and the rows of a large result, as far as the socket takes them. False on failure. */
static bool flush(struct loop *l, struct conn *c)
{
	for (;;) {
		while (c->out_at < c->out.len) {
			ssize_t n = conn_send(c, c->out.data + c->out_at, c->out.len - c->out_at);

			if (n < 0)
				return false;
			if (!n) {
				watch(l, c, true);
				return true;
			}
			c->out_at += (size_t)n;
		}
		c->out.len = c->out_at = 0;
		if (!c->large_rows)
			break;
		uint64_t rows = c->large_rows < LARGE_BLOCK_ROWS ? c->large_rows : LARGE_BLOCK_ROWS;
		size_t len = c->large->len / LARGE_BLOCK_ROWS * (size_t)rows;
		ssize_t n = conn_send(c, c->large->data, len);

		if (n < 0)
			return false;
		bytes_add(&c->out, c->large->data + n, len - (size_t)n);
		c->large_rows -= rows;
		if (!c->large_rows)
			protocol->end_large(c, &c->out);
	}
	watch(l, c, false);
	return true;
}

/* The answers to all that one wake-up has brought leave in one system call. */
static void send_gathered(struct loop *l)
{
	int results[SEND_RING_SIZE];
	struct conn *c;

	if (!l->gathered_count)
		return;
	for (int i = 0; i < l->gathered_count; i++) {
		c = l->gathered[i];
		send_ring_add(l->ring, c->fd, c->out.data, c->out.len);
	}
	send_ring_run(l->ring, results);
	int count = l->gathered_count;

	l->gathered_count = 0;
	for (int i = 0; i < count; i++) {
		c = l->gathered[i];
		c->gathered = false;
		if (results[i] > 0)
			c->out_at = (size_t)results[i];
		if ((results[i] < 0 && results[i] != -EAGAIN) || !flush(l, c))
			conn_close(l, c);
	}
}

static bool gather(struct loop *l, struct conn *c)
{
	bytes_add(&c->out, l->answer.data, l->answer.len);
	if (c->gathered)
		return true;
	if (l->gathered_count == SEND_RING_SIZE)
		send_gathered(l);
	c->gathered = true;
	l->gathered[l->gathered_count++] = c;
	return true;
}

static bool take(struct loop *l, struct conn *c, char *data, size_t len)
{
	ssize_t used;

	l->answer.len = 0;
	if (c->in.len || c->large_rows) {
		bytes_add(&c->in, data, len);
		bytes_add(&c->in, "", 1);
		c->in.len--;
		used = protocol->consume(c, &l->answer, c->in.data, c->in.len);
		if (used < 0)
			return false;
		memmove(c->in.data, c->in.data + used, c->in.len - (size_t)used);
		c->in.len -= (size_t)used;
	} else {
		used = protocol->consume(c, &l->answer, data, len);
		if (used < 0)
			return false;
		bytes_add(&c->in, data + used, len - (size_t)used);
	}
	size_t at = 0;

	if (l->ring && l->answer.len && (!c->out.len || c->gathered) && !c->ssl && !c->large_rows)
		return gather(l, c);
	if (l->answer.len && !c->out.len) {
		ssize_t n = conn_send(c, l->answer.data, l->answer.len);

		if (n < 0)
			return false;
		at = (size_t)n;
	}
	if (at == l->answer.len && !c->large_rows)
		return true;
	bytes_add(&c->out, l->answer.data + at, l->answer.len - at);
	return flush(l, c);
}

static bool handshake(struct conn *c)
{
	if (!c->ssl) {
		c->ssl = SSL_new(tls);
		SSL_set_fd(c->ssl, c->fd);
		SSL_set_mode(c->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	}
	int r = SSL_accept(c->ssl);

	if (r == 1) {
		c->state = STUB_STARTUP;
		return true;
	}
	r = SSL_get_error(c->ssl, r);
	ERR_clear_error();
	return r == SSL_ERROR_WANT_READ || r == SSL_ERROR_WANT_WRITE;
}

static bool readable(struct loop *l, struct conn *c)
{
	if (c->state == STUB_TLS)
		return handshake(c);
	for (;;) {
		ssize_t n = c->ssl ? SSL_read(c->ssl, l->input, INPUT_SIZE - 1) : recv(c->fd, l->input, INPUT_SIZE - 1, 0);

		if (n <= 0 && c->ssl) {
			int why = SSL_get_error(c->ssl, (int)n);

			ERR_clear_error();
			return why == SSL_ERROR_WANT_READ;
		}
		if (n <= 0)
			return n < 0 && errno == EAGAIN;
		if (!take(l, c, l->input, (size_t)n))
			return false;
		if (!c->ssl || c->wants_out || !SSL_pending(c->ssl))
			return true;
	}
}

/* What came behind a query with a large result waits in c->in until that is out. */
static bool writable(struct loop *l, struct conn *c)
{
	return flush(l, c) && (c->wants_out || !c->in.len || take(l, c, NULL, 0));
}

static void accept_all(struct loop *l, int listener)
{
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct conn *c;

		if (fd < 0)
			return;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
		c = calloc(1, sizeof *c);
		if (!c)
			fail("stub");
		c->fd = fd;
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = c };

		if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &event))
			fail("epoll_ctl");
		if (protocol->greet) {
			protocol->greet(c, &c->out);
			if (!flush(l, c))
				conn_close(l, c);
		}
	}
}

static int listen_on(const char *host, int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0 || inet_pton(AF_INET, host, &address.sin_addr) != 1)
		fail(host);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &(int){ 1 }, sizeof(int));
	if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096))
		fail("listen");
	return fd;
}

/* Where a client of PostgreSQL looks for the socket of a port. */
static int listen_in(const char *folder, int port)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int len = snprintf(address.sun_path, sizeof address.sun_path, "%s/.s.PGSQL.%d", folder, port);

	if (fd < 0 || len < 0 || (size_t)len >= sizeof address.sun_path)
		fail(folder);
	if (bind(fd, (struct sockaddr *)&address, sizeof address) || chmod(address.sun_path, 0777) || listen(fd, 4096))
		fail(address.sun_path);
	return fd;
}

static void watch_listener(struct loop *l, int listener)
{
	struct epoll_event event = { .events = EPOLLIN };

	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, listener, &event))
		fail("epoll_ctl");
}

static void *run(void *arg)
{
	struct loop *l = arg;
	struct epoll_event events[EVENTS];
	int why_no_ring;

	l->ring = send_ring_new(&why_no_ring); /* it works without, too */
	for (;;) {
		int n = epoll_wait(l->epoll, events, EVENTS, -1);

		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;

			if (!c) {
				accept_all(l, l->listeners[0]);
				if (l->listeners[1] >= 0)
					accept_all(l, l->listeners[1]);
			} else if (!(c->wants_out ? writable(l, c) : readable(l, c)))
				conn_close(l, c);
		}
		send_gathered(l);
	}
	return NULL;
}

static _Noreturn void usage(int status)
{
	fputs("usage: stub [--mysql] [-h ADDRESS] [-p PORT] [--socket FOLDER] [-j THREADS] [--cert FILE --key FILE]\n"
	      "MySQL has no TLS here.\n", status ? stderr : stdout);
	exit(status);
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "cert", required_argument, NULL, 'C' },
						 { "key", required_argument, NULL, 'K' },
						 { "mysql", no_argument, NULL, 'M' },
						 { "socket", required_argument, NULL, 'S' },
						 { "help", no_argument, NULL, 'H' },
						 { NULL, 0, NULL, 0 } };
	const char *host = "127.0.0.1", *cert = NULL, *key = NULL, *folder = NULL;
	int port = 15432, threads = 1, option;

	while ((option = getopt_long(argc, argv, "h:p:j:", options, NULL)) != -1) {
		switch (option) {
		case 'h':
			host = optarg;
			break;
		case 'p':
			port = atoi(optarg);
			break;
		case 'j':
			threads = atoi(optarg);
			break;
		case 'M':
			protocol = &stub_mysql;
			break;
		case 'C':
			cert = optarg;
			break;
		case 'S':
			folder = optarg;
			break;
		case 'K':
			key = optarg;
			break;
		default:
			usage(option == 'H' ? 0 : 2);
		}
	}
	if (optind != argc || threads < 1 || threads > 64 || !cert != !key || (cert && protocol == &stub_mysql))
		usage(2);
	signal(SIGPIPE, SIG_IGN);
	struct rlimit limit;

	if (!getrlimit(RLIMIT_NOFILE, &limit)) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	if (cert) {
		tls = SSL_CTX_new(TLS_server_method());
		if (!tls || SSL_CTX_use_certificate_chain_file(tls, cert) != 1 ||
		    SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1) {
			ERR_print_errors_fp(stderr);
			return 1;
		}
	}
	protocol->prepare_answers();
	for (int i = 0; i < threads; i++) {
		struct loop *l = calloc(1, sizeof *l);
		pthread_t thread;

		if (!l || !(l->input = malloc(INPUT_SIZE)))
			fail("stub");
		l->epoll = epoll_create1(EPOLL_CLOEXEC);
		if (l->epoll < 0)
			fail("epoll");
		l->listeners[0] = listen_on(host, port);
		l->listeners[1] = folder && i == 0 ? listen_in(folder, port) : -1;
		watch_listener(l, l->listeners[0]);
		if (l->listeners[1] >= 0)
			watch_listener(l, l->listeners[1]);
		if (i == threads - 1)
			run(l);
		if (pthread_create(&thread, NULL, run, l))
			fail("pthread_create");
	}
	return 0;
}
