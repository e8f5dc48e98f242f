/* One client of the load generator: it connects, logs in, sends requests and walks the answers. */
#include "load.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>

static _Atomic int first_error;

/* ---- connections ---- */

void client_close(struct client *c)
{
	if (c->state == CLIENT_NONE)
		return;
	close(c->fd);
	SSL_free(c->ssl);
	free(c->login_in.data);
	free(c->login_out.data);
	free(c->own[0].data);
	free(c->own[1].data);
	*c = (struct client){ .index = c->index, .is_slow = c->is_slow, .begun_ns = c->begun_ns };
}

/* The connection is lost. It is made again, as long as there are not too many errors. */
void client_lost(struct thread *t, struct client *c, const char *why)
{
	int none = 0;

	if (atomic_compare_exchange_strong(&first_error, &none, 1))
		fprintf(stderr, "load: the first error: %s\n", why);
	t->errors++;
	if (c->state >= CLIENT_TLS_ASKED && c->state <= CLIENT_PREPARING)
		t->logins--;
	else if (c->state >= CLIENT_READY)
		t->ready--;
	if (c->state == CLIENT_BUSY || (conf.mode == CONNECT && c->state != CLIENT_NONE))
		t->busy--;
	client_close(c);
	if (t->errors > conf.errors_max) {
		fprintf(stderr, "load: more than %llu errors, the last: %s\n", (unsigned long long)conf.errors_max, why);
		exit(1);
	}
	if (phase != PHASE_CLOSE && (!end_ns || t->now_ns < end_ns))
		client_connect(t, c);
}

static ssize_t client_write(struct client *c, const void *data, size_t len)
{
	if (!c->ssl) {
		ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL);

		return n < 0 && (errno == EAGAIN || errno == ENOTCONN) ? 0 : n;
	}
	int n = SSL_write(c->ssl, data, (int)len);

	if (n > 0)
		return n;
	n = SSL_get_error(c->ssl, n);
	ERR_clear_error();
	return n == SSL_ERROR_WANT_READ || n == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static void watch_out(struct thread *t, struct client *c, bool out)
{
	struct epoll_event event = { .events = EPOLLIN | (out ? EPOLLOUT : 0U), .data.ptr = c };

	if (c->waits_out == out)
		return;
	c->waits_out = out;
	epoll_ctl(t->epoll, EPOLL_CTL_MOD, c->fd, &event);
}

/* Sends what is left to send. False on failure. */
static bool client_flush(struct thread *t, struct client *c)
{
	while (c->out_left) {
		ssize_t n = client_write(c, c->out, c->out_left);

		if (n < 0)
			return false;
		if (!n) {
			watch_out(t, c, true);
			return true;
		}
		c->out += n;
		c->out_left -= (size_t)n;
	}
	watch_out(t, c, false);
	return true;
}

bool client_send(struct thread *t, struct client *c, const struct bytes *request)
{
	c->out = request->data;
	c->out_left = request->len;
	if (!t->ring || c->ssl || c->is_slow || c->state != CLIENT_BUSY || conf.mode == CONNECT)
		return client_flush(t, c);
	if (t->gathered_count == SEND_RING_SIZE)
		send_gathered(t);
	c->gathered = true;
	t->gathered[t->gathered_count++] = c;
	return true;
}

static void sent_by_ring(struct thread *t, struct client *c, int result)
{
	if (result < 0 && result != -EAGAIN) {
		client_lost(t, c, result > SEND_RING_UNTRIED ? strerror(-result) : "io_uring has failed");
		return;
	}
	if (result > 0) {
		c->out += result;
		c->out_left -= (size_t)result;
	}
	watch_out(t, c, c->out_left > 0);
}

/* What the answers of one wake-up have made the clients ask for next leaves in one system call. */
void send_gathered(struct thread *t)
{
	struct client *sent[SEND_RING_SIZE];
	int results[SEND_RING_SIZE], count = 0;

	for (int i = 0; i < t->gathered_count; i++) {
		struct client *c = t->gathered[i];

		if (!c->gathered) /* lost meanwhile */
			continue;
		c->gathered = false;
		send_ring_add(t->ring, c->fd, c->out, c->out_left);
		sent[count++] = c;
	}
	t->gathered_count = 0;
	if (!count)
		return;
	send_ring_run(t->ring, results);
	for (int i = 0; i < count; i++)
		sent_by_ring(t, sent[i], results[i]);
}

/* Ports of one address are not enough for tens of thousands of connections. */
static void choose_address(const struct client *c)
{
	struct sockaddr_in from = { .sin_family = AF_INET };

	if (conf.addresses == 1)
		return;
	from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(c->index % conf.addresses));
	setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){ 1 }, sizeof(int));
	if (bind(c->fd, (struct sockaddr *)&from, sizeof from))
		fail("bind");
}

const struct bytes *client_startup(const struct client *c)
{
	return &conf.startups[conf.databases ? c->index % conf.databases : 0];
}

/* Its own, where it depends on what the server has said. */
static const struct bytes *request_of(struct client *c)
{
	const struct bytes *request = c->own[c->executed].len ? &c->own[c->executed] : &conf.requests[c->round_trip];

	c->executed = true;
	return request;
}

void client_connect(struct thread *t, struct client *c)
{
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		fail("socket");
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	if (c->is_slow)
		setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &(int){ SLOW_RECEIVE_BUFFER }, sizeof(int));
	choose_address(c);
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = c };

	if (connect(c->fd, (struct sockaddr *)&conf.address, sizeof conf.address) && errno != EINPROGRESS)
		fail("connect");
	if (epoll_ctl(t->epoll, EPOLL_CTL_ADD, c->fd, &event))
		fail("epoll_ctl");
	t->logins++;
	if (conf.mode == CONNECT)
		t->busy++;
	static const char ssl_request[8] = { 0, 0, 0, 8, 4, (char)0xd2, 0x16, 0x2f };

	if (conf.tls) {
		c->state = CLIENT_TLS_ASKED;
		c->out = ssl_request;
		c->out_left = sizeof ssl_request;
	} else {
		c->state = CLIENT_LOGIN;
		c->out = conf.protocol->server_speaks_first ? NULL : client_startup(c)->data;
		c->out_left = conf.protocol->server_speaks_first ? 0 : client_startup(c)->len;
	}
	/* On loopback the connection is mostly there by now. */
	if (!client_flush(t, c))
		client_lost(t, c, strerror(errno));
}

bool client_begin(struct thread *t, struct client *c)
{
	c->state = CLIENT_BUSY;
	t->busy++;
	t->begun_transactions++;
	c->begun_ns = t->now_ns;
	c->round_trip = 0;
	if (c->is_slow) /* read by the clock, not when there is something */
		epoll_ctl(t->epoll, EPOLL_CTL_DEL, c->fd, NULL);
	return client_send(t, c, c->is_slow ? &conf.slow_request : request_of(c));
}

bool may_begin(const struct thread *t)
{
	return phase == PHASE_RUN && t->now_ns < end_ns &&
	       (!conf.transactions_max || t->begun_transactions < conf.transactions_max);
}

static void transaction_done(struct thread *t, const struct client *c)
{
	if (c->is_slow)
		return;
	t->total++;
	if (t->now_ns < start_ns)
		return;
	t->counted++;
	if (t->now_ns < end_ns) {
		t->in_window++;
		histogram_add(&t->latency, t->now_ns - c->begun_ns);
	}
}

static bool connect_next(struct thread *t, struct client *c)
{
	transaction_done(t, c);
	client_send(t, c, conf.protocol->goodbye);
	t->busy--;
	t->ready--;
	client_close(c);
	if (may_begin(t)) {
		t->begun_transactions++;
		c->begun_ns = now_ns();
		client_connect(t, c);
	}
	return true;
}

bool client_ready(struct thread *t, struct client *c)
{
	switch (c->state) {
	case CLIENT_LOGIN:
		if (conf.prepare.len) {
			c->state = CLIENT_PREPARING;
			return client_send(t, c, &conf.prepare);
		}
		/* fall through */
	case CLIENT_PREPARING:
		t->logins--;
		t->ready++;
		c->state = CLIENT_READY;
		if (conf.mode == CONNECT) {
			c->state = CLIENT_BUSY; /* and counted so since it connected */
			return client_send(t, c, request_of(c));
		}
		return !may_begin(t) || conf.mode == IDLE || client_begin(t, c);
	case CLIENT_BUSY:
		if (!c->is_slow && ++c->round_trip < conf.round_trips)
			return client_send(t, c, request_of(c));
		if (conf.mode == CONNECT)
			return connect_next(t, c);
		transaction_done(t, c);
		t->busy--;
		c->state = CLIENT_READY;
		return !may_begin(t) || client_begin(t, c);
	default:
		return false;
	}
}

/* ---- what comes ---- */

static const char *tls_input(struct thread *t, struct client *c)
{
	if (c->state == CLIENT_TLS_ASKED) {
		char answer;
		ssize_t n = recv(c->fd, &answer, 1, 0);

		if (n < 0 && errno == EAGAIN)
			return NULL;
		if (n != 1 || answer != 'S')
			return "the server speaks no TLS";
		c->ssl = SSL_new(conf.tls);
		SSL_set_fd(c->ssl, c->fd);
		SSL_set_mode(c->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
		c->state = CLIENT_TLS;
	}
	int r = SSL_connect(c->ssl);

	if (r == 1) {
		c->state = CLIENT_LOGIN;
		return client_send(t, c, client_startup(c)) ? NULL : "the connection was closed after the TLS handshake";
	}
	r = SSL_get_error(c->ssl, r);
	ERR_clear_error();
	return r == SSL_ERROR_WANT_READ || r == SSL_ERROR_WANT_WRITE ? NULL : "the TLS handshake failed";
}

/* An answer is an error: `text` says so. */
void client_error(struct thread *t, const char *text)
{
	int none = 0;

	t->errors++;
	if (atomic_compare_exchange_strong(&first_error, &none, 1))
		fprintf(stderr, "load: the first error: %s\n", text);
	if (t->errors > conf.errors_max) {
		fprintf(stderr, "load: more than %llu errors\n", (unsigned long long)conf.errors_max);
		exit(1);
	}
}

void client_input(struct thread *t, struct client *c, size_t at_most)
{
	for (;;) {
		ssize_t n = c->ssl && c->state >= CLIENT_LOGIN ? SSL_read(c->ssl, t->input, (int)at_most)
							       : recv(c->fd, t->input, at_most, 0);

		if (n <= 0) {
			bool later = n < 0 && errno == EAGAIN;

			if (c->ssl) {
				later = SSL_get_error(c->ssl, (int)n) == SSL_ERROR_WANT_READ;
				ERR_clear_error();
			}
			if (!later)
				client_lost(t, c, n ? strerror(errno) : "the server closed the connection");
			return;
		}
		t->now_ns = now_ns();
		if (c->is_slow)
			t->slow_bytes += (size_t)n;
		else if (t->now_ns >= start_ns && t->now_ns < end_ns)
			t->bytes += (size_t)n;
		if (c->state == CLIENT_LOGIN) {
			const char *wrong = conf.protocol->login_input(t, c, t->input, (size_t)n);

			if (wrong) {
				client_lost(t, c, wrong);
				return;
			}
		} else if (!conf.protocol->answer_input(t, c, t->input, (size_t)n)) {
			client_lost(t, c, "an answer that makes no sense, or the connection was closed");
			return;
		}
		if (!c->ssl || c->is_slow || !SSL_pending(c->ssl))
			return;
	}
}

void client_event(struct thread *t, struct client *c, uint32_t events)
{
	if (events & EPOLLOUT && !client_flush(t, c)) {
		client_lost(t, c, strerror(errno));
		return;
	}
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	if (c->state == CLIENT_TLS_ASKED || c->state == CLIENT_TLS) {
		const char *wrong = tls_input(t, c);

		if (wrong)
			client_lost(t, c, wrong);
		return;
	}
	client_input(t, c, INPUT_SIZE);
}
