/*
 * A load generator for PostgreSQL's protocol: n clients in a closed loop, each sending its next transaction as soon as it
 * has the answer to the last. See README.md for the modes.
 *
 * It must be cheaper than what it measures: one send and one receive for each round trip, requests put together once,
 * headers parsed and bodies skipped. A round trip ends with its ReadyForQuery.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "histogram.h"
#include "scram.h"
#include "wire.h"

enum {
	EVENTS = 512,
	INPUT_SIZE = 256 * 1024,
	LOGINS_AT_A_TIME = 128,
	THREADS_MAX = 64,
	CLIENTS_MAX = 1000000,
	SECONDS_MAX = 3600,
	ROUND_TRIPS_MAX = 3,
	SLOW_TICK_MS = 10,
	SLOW_RECEIVE_BUFFER = 64 * 1024,
	DRAIN_MS = 10000
};

enum mode { SIMPLE, EXTENDED, PREPARED, PIPELINED, TRANSACTION, CONNECT, IDLE, LARGE, SLOW, MODES };
static const char *const mode_names[MODES] = { "simple",  "extended", "prepared", "pipelined", "transaction",
					       "connect", "idle",     "large",    "slow" };

enum phase { PHASE_LOGIN, PHASE_RUN, PHASE_CLOSE };

enum client_state {
	CLIENT_NONE,      /* has no connection */
	CLIENT_TLS_ASKED, /* SSLRequest is sent */
	CLIENT_TLS,       /* in the handshake */
	CLIENT_LOGIN,     /* the startup packet is sent */
	CLIENT_PREPARING, /* its statement is being prepared */
	CLIENT_READY,     /* nothing is under way */
	CLIENT_BUSY       /* a transaction is under way */
};

struct client {
	int fd;
	enum client_state state;
	bool is_slow;
	bool waits_out; /* registered for EPOLLOUT, as the socket did not take all of the request */
	unsigned char head[5];
	unsigned char head_len;
	unsigned char round_trip; /* of the transaction under way */
	uint32_t body_left;
	uint64_t begun_ns;
	const char *out; /* of a request, or of login_out */
	size_t out_left;
	SSL *ssl;
	struct bytes login_in, login_out; /* while it logs in */
	struct scram scram;
};

struct thread {
	int epoll;
	int clients_count;
	struct client *clients;
	char *input;
	uint64_t now_ns;
	int logins;   /* under way */
	int begun;    /* clients that have begun to log in */
	int ready;    /* clients that are logged in */
	int busy;
	int slow_count;
	uint64_t begun_transactions;
	uint64_t total; /* transactions, of any time */
	uint64_t counted, in_window, bytes, slow_bytes, rows, errors;
	struct histogram latency;
	struct scram_cache scram;
	_Atomic int ready_seen;
	_Atomic bool drained;
	pthread_t id;
};

/* Set up before the threads start. */
static struct {
	enum mode mode;
	struct sockaddr_in address;
	const char *user, *database, *password, *sql, *parameter, *statement;
	int clients, threads, pipeline, mib, slow, slow_rate;
	double seconds, warm_up;
	uint64_t transactions_max, errors_max; /* for each thread */
	bool sync;
	SSL_CTX *tls;
	struct bytes startup, prepare;
	struct bytes requests[ROUND_TRIPS_MAX];
	struct bytes slow_request;
	int round_trips;
} conf;

static _Atomic int phase;
static _Atomic uint64_t start_ns, end_ns;
static _Atomic int first_error;

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- requests ---- */

static void add_query(struct bytes *b, const char *sql)
{
	size_t at = bytes_begin(b, 'Q');

	bytes_str(b, sql);
	bytes_end(b, at);
}

static void add_parse(struct bytes *b, const char *name)
{
	size_t at = bytes_begin(b, 'P');

	bytes_str(b, name);
	bytes_str(b, conf.sql);
	bytes_16(b, 0);
	bytes_end(b, at);
}

static void add_bind(struct bytes *b, const char *name)
{
	size_t at = bytes_begin(b, 'B');

	bytes_str(b, "");
	bytes_str(b, name);
	bytes_16(b, 0);
	bytes_16(b, conf.parameter ? 1 : 0);
	if (conf.parameter) {
		bytes_32(b, (uint32_t)strlen(conf.parameter));
		bytes_add(b, conf.parameter, strlen(conf.parameter));
	}
	bytes_16(b, 0);
	bytes_end(b, at);
}

static void add_describe(struct bytes *b)
{
	size_t at = bytes_begin(b, 'D');

	bytes_add(b, "P", 1);
	bytes_str(b, "");
	bytes_end(b, at);
}

static void add_execute(struct bytes *b)
{
	size_t at = bytes_begin(b, 'E');

	bytes_str(b, "");
	bytes_32(b, 0);
	bytes_end(b, at);
}

static void add_sync(struct bytes *b)
{
	size_t at = bytes_begin(b, 'S');

	bytes_end(b, at);
}

static char *large_sql(void)
{
	char *sql;

	if (asprintf(&sql, "SELECT /* large %d */ repeat('x', 1000) FROM generate_series(1, %d)", conf.mib,
		     (int)((int64_t)conf.mib * 1024 * 1024 / 1000)) < 0)
		fail("out of memory");
	return sql;
}

static void prepare_requests(void)
{
	struct bytes *first = &conf.requests[0];
	size_t at = bytes_begin(&conf.startup, 0);

	bytes_32(&conf.startup, PG_VERSION_3);
	bytes_str(&conf.startup, "user");
	bytes_str(&conf.startup, conf.user);
	bytes_str(&conf.startup, "database");
	bytes_str(&conf.startup, conf.database);
	bytes_str(&conf.startup, "client_encoding");
	bytes_str(&conf.startup, "UTF8");
	bytes_add(&conf.startup, "", 1);
	bytes_end(&conf.startup, at);

	conf.round_trips = 1;
	switch (conf.mode) {
	case EXTENDED:
		add_parse(first, "");
		add_bind(first, "");
		add_describe(first);
		add_execute(first);
		add_sync(first);
		break;
	case PREPARED:
	case PIPELINED:
		add_parse(&conf.prepare, conf.statement);
		add_sync(&conf.prepare);
		for (int i = 0; i < (conf.mode == PREPARED ? 1 : conf.pipeline); i++) {
			add_bind(first, conf.statement);
			add_execute(first);
		}
		add_sync(first);
		break;
	case TRANSACTION:
		add_query(first, "BEGIN");
		add_query(&conf.requests[1], conf.sql);
		add_query(&conf.requests[2], "COMMIT");
		conf.round_trips = 3;
		break;
	default:
		add_query(first, conf.sql);
	}
	if (conf.mode == SLOW)
		add_query(&conf.slow_request, large_sql());
}

/* ---- connections ---- */

static void client_connect(struct thread *t, struct client *c);

static void client_close(struct client *c)
{
	if (c->state == CLIENT_NONE)
		return;
	close(c->fd);
	SSL_free(c->ssl);
	free(c->login_in.data);
	free(c->login_out.data);
	bool is_slow = c->is_slow;
	uint64_t begun_ns = c->begun_ns;

	memset(c, 0, sizeof *c);
	c->is_slow = is_slow;
	c->begun_ns = begun_ns;
}

/* The connection is lost. It is made again, as long as there are not too many errors. */
static void client_lost(struct thread *t, struct client *c, const char *why)
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

static bool client_send(struct thread *t, struct client *c, const struct bytes *request)
{
	c->out = request->data;
	c->out_left = request->len;
	return client_flush(t, c);
}

static void client_connect(struct thread *t, struct client *c)
{
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		fail("socket");
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	if (c->is_slow)
		setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &(int){ SLOW_RECEIVE_BUFFER }, sizeof(int));
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
		c->out = conf.startup.data;
		c->out_left = conf.startup.len;
	}
	/* On loopback the connection is mostly there by now. */
	if (!client_flush(t, c))
		client_lost(t, c, strerror(errno));
}

static bool client_begin(struct thread *t, struct client *c)
{
	c->state = CLIENT_BUSY;
	t->busy++;
	t->begun_transactions++;
	c->begun_ns = t->now_ns;
	c->round_trip = 0;
	if (c->is_slow) /* read by the clock, not when there is something */
		epoll_ctl(t->epoll, EPOLL_CTL_DEL, c->fd, NULL);
	return client_send(t, c, c->is_slow ? &conf.slow_request : &conf.requests[0]);
}

static bool may_begin(const struct thread *t)
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
	static char goodbye[] = { 'X', 0, 0, 0, 4 };
	static const struct bytes terminate = { .data = goodbye, .len = sizeof goodbye };

	transaction_done(t, c);
	client_send(t, c, &terminate);
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

/* A ReadyForQuery has come. */
static bool client_is_ready(struct thread *t, struct client *c)
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
			return client_send(t, c, &conf.requests[0]);
		}
		return !may_begin(t) || conf.mode == IDLE || client_begin(t, c);
	case CLIENT_BUSY:
		if (!c->is_slow && ++c->round_trip < conf.round_trips)
			return client_send(t, c, &conf.requests[c->round_trip]);
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

/* ---- logging in ---- */

/* Takes an authentication request; NULL, or what is wrong. */
static const char *authenticate(struct thread *t, struct client *c, const char *body, size_t len)
{
	uint32_t kind = len >= 4 ? get32(body) : UINT32_MAX;
	size_t at, sized;

	if (kind == 0)
		return NULL;
	if (!conf.password)
		return "the server wants a password: say --password";
	c->login_out.len = 0;
	at = bytes_begin(&c->login_out, 'p');
	switch (kind) {
	case 3:
		bytes_str(&c->login_out, conf.password);
		break;
	case 10:
		if (!memmem(body + 4, len - 4, "SCRAM-SHA-256", 14))
			return "the server offers no SCRAM-SHA-256";
		bytes_str(&c->login_out, "SCRAM-SHA-256");
		sized = c->login_out.len;
		bytes_32(&c->login_out, 0);
		scram_first(&c->scram, &c->login_out);
		put32(c->login_out.data + sized, (uint32_t)(c->login_out.len - sized - 4));
		break;
	case 11:
		if (!scram_final(&c->scram, &t->scram, conf.password, body + 4, len - 4, &c->login_out))
			return "the server's SCRAM message makes no sense";
		break;
	case 12:
		c->login_out.len = 0;
		return scram_verify(&c->scram, body + 4, len - 4) ? NULL : "the server does not know the password";
	default:
		return "the server wants a login other than trust, password and scram-sha-256";
	}
	bytes_end(&c->login_out, at);
	return client_send(t, c, &c->login_out) ? NULL : "the connection was closed during login";
}

/* The text of an ErrorResponse. */
static const char *error_text(const char *body, size_t len, char *text, size_t size)
{
	for (size_t at = 0; at < len && body[at];) {
		size_t field = strnlen(body + at + 1, len - at - 1);

		if (body[at] == 'M') {
			snprintf(text, size, "%.*s", (int)field, body + at + 1);
			return text;
		}
		at += field + 2;
	}
	return "an error without a text";
}

/* Messages of a login are put together whole. NULL, or what is wrong. */
static const char *login_input(struct thread *t, struct client *c, const char *data, size_t len)
{
	static _Thread_local char text[256];
	size_t at = 0;

	bytes_add(&c->login_in, data, len);
	while (c->login_in.len - at >= 5) {
		const char *message = c->login_in.data + at;
		size_t size = get32(message + 1);
		const char *wrong = NULL;

		if (size < 4 || size > 1024 * 1024)
			return "a message of a login has no sensible length";
		if (c->login_in.len - at < size + 1)
			break;
		at += size + 1;
		if (message[0] == 'R')
			wrong = authenticate(t, c, message + 5, size - 4);
		else if (message[0] == 'E')
			wrong = error_text(message + 5, size - 4, text, sizeof text);
		if (wrong)
			return wrong;
		if (message[0] != 'Z')
			continue;
		/* Nothing can be behind it, as nothing was asked yet. */
		free(c->login_in.data);
		free(c->login_out.data);
		c->login_in = c->login_out = (struct bytes){ 0 };
		return client_is_ready(t, c) ? NULL : "the connection was closed after login";
	}
	memmove(c->login_in.data, c->login_in.data + at, c->login_in.len - at);
	c->login_in.len -= at;
	return NULL;
}

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
		return client_send(t, c, &conf.startup) ? NULL : "the connection was closed after the TLS handshake";
	}
	r = SSL_get_error(c->ssl, r);
	ERR_clear_error();
	return r == SSL_ERROR_WANT_READ || r == SSL_ERROR_WANT_WRITE ? NULL : "the TLS handshake failed";
}

/* ---- answers ---- */

static void note_error(struct thread *t, const char *body, size_t len)
{
	char text[256];
	int none = 0;

	t->errors++;
	if (atomic_compare_exchange_strong(&first_error, &none, 1))
		fprintf(stderr, "load: the first error: %s\n", error_text(body, len, text, sizeof text));
	if (t->errors > conf.errors_max) {
		fprintf(stderr, "load: more than %llu errors\n", (unsigned long long)conf.errors_max);
		exit(1);
	}
}

/* Walks headers; true until the connection must go. Bodies are skipped, as far as they are here. */
static bool answer_input(struct thread *t, struct client *c, const char *data, size_t len)
{
	while (len) {
		if (c->body_left) {
			size_t n = c->body_left < len ? c->body_left : len;

			c->body_left -= (uint32_t)n;
			data += n;
			len -= n;
			continue;
		}
		const unsigned char *head = (const unsigned char *)data;

		if (!c->head_len && len >= 5) {
			data += 5;
			len -= 5;
		} else {
			c->head[c->head_len++] = (unsigned char)*data++;
			len--;
			if (c->head_len < 5)
				continue;
			c->head_len = 0;
			head = c->head;
		}
		uint32_t size = get32(head + 1);

		if (size < 4)
			return false;
		c->body_left = size - 4;
		if (head[0] == 'D') {
			t->rows++;
		} else if (head[0] == 'E') {
			note_error(t, data, len < c->body_left ? len : c->body_left);
		} else if (head[0] == 'Z') {
			/* Its one byte: skipped now if it is here, as the client may be another's after this. */
			if (len) {
				c->body_left = 0;
				data++;
				len--;
			}
			if (!client_is_ready(t, c))
				return false;
			if (conf.mode == CONNECT)
				return true;
		}
	}
	return true;
}

static void client_input(struct thread *t, struct client *c, size_t at_most)
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
			const char *wrong = login_input(t, c, t->input, (size_t)n);

			if (wrong) {
				client_lost(t, c, wrong);
				return;
			}
		} else if (!answer_input(t, c, t->input, (size_t)n)) {
			client_lost(t, c, "an answer that makes no sense, or the connection was closed");
			return;
		}
		if (!c->ssl || c->is_slow || !SSL_pending(c->ssl))
			return;
	}
}

static void client_event(struct thread *t, struct client *c, uint32_t events)
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

/* ---- the threads ---- */

static void begin_logins(struct thread *t)
{
	while (t->begun < t->clients_count && t->logins < LOGINS_AT_A_TIME)
		client_connect(t, &t->clients[t->begun++]);
}

static void begin_run(struct thread *t)
{
	t->now_ns = now_ns();
	for (int i = 0; i < t->clients_count; i++) {
		struct client *c = &t->clients[i];

		if (!may_begin(t))
			return;
		if (conf.mode == CONNECT) {
			t->begun_transactions++;
			c->begun_ns = now_ns();
			client_connect(t, c);
		} else if (c->state == CLIENT_READY && !client_begin(t, c)) {
			client_lost(t, c, strerror(errno));
		}
	}
}

static void read_slowly(struct thread *t, uint64_t *last_ns)
{
	if (now_ns() - *last_ns < SLOW_TICK_MS * 1000000U)
		return;
	*last_ns = now_ns();
	for (int i = 0; i < t->clients_count; i++)
		if (t->clients[i].is_slow && t->clients[i].state == CLIENT_BUSY)
			client_input(t, &t->clients[i], (size_t)conf.slow_rate * SLOW_TICK_MS);
}

static bool run_is_over(const struct thread *t)
{
	return t->busy <= t->slow_count || now_ns() > end_ns + DRAIN_MS * 1000000ULL;
}

static void *run(void *arg)
{
	struct thread *t = arg;
	struct epoll_event events[EVENTS];
	bool running = false;
	uint64_t slow_ns = 0;

	while (phase != PHASE_CLOSE) {
		if (phase == PHASE_LOGIN && conf.mode != CONNECT)
			begin_logins(t);
		if (phase == PHASE_RUN && !running) {
			running = true;
			begin_run(t);
		}
		int n = epoll_wait(t->epoll, events, EVENTS, 10);

		t->now_ns = now_ns();
		for (int i = 0; i < n; i++)
			client_event(t, events[i].data.ptr, events[i].events);
		if (t->slow_count && running)
			read_slowly(t, &slow_ns);
		t->ready_seen = t->ready;
		if (running && !may_begin(t) && run_is_over(t))
			t->drained = true;
	}
	for (int i = 0; i < t->clients_count; i++)
		client_close(&t->clients[i]);
	return NULL;
}

static void thread_init(struct thread *t, int index)
{
	t->clients_count = conf.clients / conf.threads + (index < conf.clients % conf.threads);
	t->clients = calloc((size_t)t->clients_count, sizeof *t->clients);
	t->input = malloc(INPUT_SIZE);
	t->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!t->clients || !t->input || t->epoll < 0)
		fail("a thread");
	if (conf.mode == SLOW)
		t->slow_count = conf.slow / conf.threads + (index < conf.slow % conf.threads);
	for (int i = 0; i < t->slow_count; i++)
		t->clients[i].is_slow = true;
}

static void sleep_until(uint64_t until_ns)
{
	struct timespec ts = { .tv_sec = (time_t)(until_ns / 1000000000U), .tv_nsec = (long)(until_ns % 1000000000U) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

/* Tells who drives this that a point is reached, and with `wait` goes on at its next line. */
static void tell(const char *word, bool wait)
{
	char line[64];

	if (!conf.sync)
		return;
	puts(word);
	fflush(stdout);
	if (wait && !fgets(line, sizeof line, stdin))
		exit(1);
}

static void wait_for_logins(struct thread *threads)
{
	uint64_t give_up_ns = now_ns() + 120000000000ULL;

	for (;;) {
		int ready = 0;

		for (int i = 0; i < conf.threads; i++)
			ready += threads[i].ready_seen;
		if (ready == conf.clients)
			return;
		if (now_ns() > give_up_ns) {
			fprintf(stderr, "load: only %d of %d clients have logged in after 2 minutes\n", ready, conf.clients);
			exit(1);
		}
		usleep(2000);
	}
}

static void wait_for_end(struct thread *threads)
{
	for (int i = 0; i < conf.threads; i++)
		while (!threads[i].drained)
			usleep(1000);
}

static void print_result(struct thread *threads, double seconds)
{
	struct thread sum = { 0 };

	for (int i = 0; i < conf.threads; i++) {
		const struct thread *t = &threads[i];

		sum.total += t->total;
		sum.counted += t->counted;
		sum.in_window += t->in_window;
		sum.bytes += t->bytes;
		sum.slow_bytes += t->slow_bytes;
		sum.rows += t->rows;
		sum.errors += t->errors;
		histogram_merge(&sum.latency, &t->latency);
	}
	const struct histogram *h = &sum.latency;

	printf("{\"mode\":\"%s\",\"clients\":%d,\"seconds\":%.3f,\"transactions\":%llu,\"transactions_total\":%llu,"
	       "\"tps\":%.1f,\"mean_us\":%.1f,\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f,"
	       "\"rows\":%llu,\"mb_per_s\":%.1f,\"slow_mb\":%.1f,\"errors\":%llu}\n",
	       mode_names[conf.mode], conf.clients, seconds, (unsigned long long)sum.counted,
	       (unsigned long long)sum.total, (double)sum.in_window / seconds,
	       h->count ? (double)h->sum_ns / (double)h->count / 1e3 : 0.0, (double)histogram_at(h, 0.5) / 1e3,
	       (double)histogram_at(h, 0.9) / 1e3, (double)histogram_at(h, 0.99) / 1e3,
	       (double)histogram_at(h, 0.999) / 1e3, (double)h->max_ns / 1e3, (unsigned long long)sum.rows,
	       (double)sum.bytes / seconds / 1e6, (double)sum.slow_bytes / 1e6, (unsigned long long)sum.errors);
}

/* ---- the command line ---- */

static _Noreturn void usage(int status)
{
	fputs("usage: load -M MODE [OPTION...]\n"
	      "  -M MODE       simple extended prepared pipelined transaction connect idle large slow\n"
	      "  -h ADDRESS    127.0.0.1        -p PORT   6432\n"
	      "  -U USER       bench            -d NAME   bench\n"
	      "  -c CLIENTS    64               -j THREADS  1\n"
	      "  -T SECONDS    5                -W SECONDS of warm-up  1\n"
	      "  -n COUNT      stop after so many transactions\n"
	      "  --password PASSWORD            for cleartext and SCRAM-SHA-256\n"
	      "  --tls                          the certificate is not verified\n"
	      "  --sql SQL     SELECT 1         --parameter VALUE  of its $1 (not in simple queries)\n"
	      "  --statement NAME               of the prepared statement\n"
	      "  --pipeline N  10               statements in a pipeline\n"
	      "  --mib N       16               size of a large result\n"
	      "  --slow N      8                slow readers among the clients\n"
	      "  --slow-rate N 1000             KB/s that each of them reads\n"
	      "  --max-errors N  100            give up then\n"
	      "  --sync        for bench/run: say ready, start and stop, and wait for a line after ready and stop\n",
	      status ? stderr : stdout);
	exit(status);
}

static int number(const char *text, int least, int most)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (end == text || *end || n < least || n > most) {
		fprintf(stderr, "load: %s is not a number from %d to %d\n", text, least, most);
		exit(2);
	}
	return (int)n;
}

static double seconds_of(const char *text)
{
	char *end;
	double n = strtod(text, &end);

	if (end == text || *end || !(n >= 0 && n <= SECONDS_MAX)) {
		fprintf(stderr, "load: %s is not a number of seconds up to %d\n", text, SECONDS_MAX);
		exit(2);
	}
	return n;
}

static void parse_options(int argc, char **argv)
{
	enum { TLS = 256, SYNC, PASSWORD, SQL, PARAMETER, STATEMENT, PIPELINE, MIB, SLOW_COUNT, SLOW_RATE, ERRORS, HELP };
	static const struct option options[] = { { "tls", no_argument, NULL, TLS },
						 { "sync", no_argument, NULL, SYNC },
						 { "password", required_argument, NULL, PASSWORD },
						 { "sql", required_argument, NULL, SQL },
						 { "parameter", required_argument, NULL, PARAMETER },
						 { "statement", required_argument, NULL, STATEMENT },
						 { "pipeline", required_argument, NULL, PIPELINE },
						 { "mib", required_argument, NULL, MIB },
						 { "slow", required_argument, NULL, SLOW_COUNT },
						 { "slow-rate", required_argument, NULL, SLOW_RATE },
						 { "max-errors", required_argument, NULL, ERRORS },
						 { "help", no_argument, NULL, HELP },
						 { NULL, 0, NULL, 0 } };
	const char *host = "127.0.0.1";
	int port = 6432, option;

	conf.mode = MODES;
	conf.user = conf.database = "bench";
	conf.statement = "S_1";
	conf.clients = 64;
	conf.threads = 1;
	conf.seconds = 5;
	conf.warm_up = 1;
	conf.pipeline = 10;
	conf.mib = 16;
	conf.slow = 8;
	conf.slow_rate = 1000;
	conf.errors_max = 100;
	while ((option = getopt_long(argc, argv, "M:h:p:U:d:c:j:T:W:n:", options, NULL)) != -1) {
		switch (option) {
		case 'M':
			for (int i = 0; i < MODES; i++)
				if (!strcmp(optarg, mode_names[i]))
					conf.mode = i;
			if (conf.mode == MODES)
				usage(2);
			break;
		case 'h':
			host = optarg;
			break;
		case 'p':
			port = number(optarg, 1, 65535);
			break;
		case 'U':
			conf.user = optarg;
			break;
		case 'd':
			conf.database = optarg;
			break;
		case 'c':
			conf.clients = number(optarg, 1, CLIENTS_MAX);
			break;
		case 'j':
			conf.threads = number(optarg, 1, THREADS_MAX);
			break;
		case 'T':
			conf.seconds = seconds_of(optarg);
			break;
		case 'W':
			conf.warm_up = seconds_of(optarg);
			break;
		case 'n':
			conf.transactions_max = (uint64_t)number(optarg, 1, INT32_MAX);
			break;
		case TLS:
			conf.tls = SSL_CTX_new(TLS_client_method());
			if (!conf.tls)
				fail("TLS");
			break;
		case SYNC:
			conf.sync = true;
			break;
		case PASSWORD:
			conf.password = optarg;
			break;
		case SQL:
			conf.sql = optarg;
			break;
		case PARAMETER:
			conf.parameter = optarg;
			break;
		case STATEMENT:
			conf.statement = optarg;
			break;
		case PIPELINE:
			conf.pipeline = number(optarg, 1, 10000);
			break;
		case MIB:
			conf.mib = number(optarg, 1, 2000);
			break;
		case SLOW_COUNT:
			conf.slow = number(optarg, 1, CLIENTS_MAX);
			break;
		case SLOW_RATE:
			conf.slow_rate = number(optarg, 1, INPUT_SIZE / SLOW_TICK_MS);
			break;
		case ERRORS:
			conf.errors_max = (uint64_t)number(optarg, 0, INT32_MAX);
			break;
		default:
			usage(option == HELP ? 0 : 2);
		}
	}
	if (conf.mode == MODES || optind != argc || conf.threads > conf.clients)
		usage(2);
	if (conf.mode == SLOW && conf.slow >= conf.clients) {
		fputs("load: --slow must leave some clients that are not slow\n", stderr);
		exit(2);
	}
	if (conf.transactions_max) /* a share of it for each thread */
		conf.transactions_max = (conf.transactions_max + (uint64_t)conf.threads - 1) / (uint64_t)conf.threads;
	conf.address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	if (inet_pton(AF_INET, host, &conf.address.sin_addr) != 1) {
		fprintf(stderr, "load: %s is not an IPv4 address\n", host);
		exit(2);
	}
	if (!conf.sql)
		conf.sql = conf.mode == LARGE ? large_sql() : "SELECT 1";
}

int main(int argc, char **argv)
{
	struct rlimit limit;
	struct thread *threads;

	parse_options(argc, argv);
	prepare_requests();
	signal(SIGPIPE, SIG_IGN);
	if (!getrlimit(RLIMIT_NOFILE, &limit)) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	threads = calloc((size_t)conf.threads, sizeof *threads);
	if (!threads)
		fail("threads");
	for (int i = 0; i < conf.threads; i++) {
		thread_init(&threads[i], i);
		if (pthread_create(&threads[i].id, NULL, run, &threads[i]))
			fail("pthread_create");
	}
	if (conf.mode != CONNECT)
		wait_for_logins(threads);
	tell("ready", true);

	uint64_t begin_ns = now_ns() + (uint64_t)(conf.warm_up * 1e9);

	start_ns = begin_ns;
	end_ns = begin_ns + (uint64_t)(conf.seconds * 1e9);
	if (conf.mode != IDLE)
		phase = PHASE_RUN;
	sleep_until(begin_ns);
	tell("start", false);
	if (conf.mode == IDLE)
		sleep_until(end_ns);
	else
		wait_for_end(threads);
	/* With -n it may be over sooner than it was to be. */
	uint64_t over_ns = now_ns();
	double seconds = over_ns < end_ns ? (double)(over_ns - begin_ns) / 1e9 : conf.seconds;

	tell("stop", true);
	phase = PHASE_CLOSE;
	for (int i = 0; i < conf.threads; i++)
		pthread_join(threads[i].id, NULL);
	print_result(threads, seconds);
	for (int i = 0; i < conf.threads; i++) {
		close(threads[i].epoll);
		free(threads[i].clients);
		free(threads[i].input);
	}
	free(threads);
	return 0;
}
