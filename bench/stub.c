/*
 * A backend that answers at once, so that the proxy in front of it is what is measured.
 *
 * It plays a PostgreSQL 15 that lets everybody in: every query has one row of one column, BEGIN and COMMIT change the
 * status byte, SET, RESET and DISCARD succeed, and a query that begins with "SELECT (slash)* large N" gets N MiB of rows.
 * The answers to all that one receive brings leave in one send.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "wire.h"

enum {
	EVENTS = 512,
	INPUT_SIZE = 256 * 1024,
	LARGE_ROW = 1000, /* bytes of the value in one row of a large result */
	LARGE_BLOCK_ROWS = 256,
	MESSAGE_MAX = 1024 * 1024
};

enum stub_state { STUB_STARTUP, STUB_TLS, STUB_READY };

struct conn {
	int fd;
	enum stub_state state;
	bool in_transaction;
	bool begins; /* the statement that was parsed last is BEGIN */
	bool wants_out;      /* registered for EPOLLOUT: its input waits */
	SSL *ssl;
	struct bytes in;     /* a message that has come in part */
	struct bytes out;    /* not sent yet */
	size_t out_at;
	uint64_t large_rows; /* still to be sent, behind out */
};

struct loop {
	int epoll, listener;
	char *input;
	struct bytes answer;
};

static SSL_CTX *tls;
static struct bytes login, row, described, large_block;
static size_t large_row_len;

static _Noreturn void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void add_parameter(struct bytes *b, const char *name, const char *value)
{
	size_t at = bytes_begin(b, 'S');

	bytes_str(b, name);
	bytes_str(b, value);
	bytes_end(b, at);
}

static void add_ready(struct bytes *b, bool in_transaction)
{
	size_t at = bytes_begin(b, 'Z');

	bytes_add(b, in_transaction ? "T" : "I", 1);
	bytes_end(b, at);
}

static void add_tag(struct bytes *b, const char *tag)
{
	size_t at = bytes_begin(b, 'C');

	bytes_str(b, tag);
	bytes_end(b, at);
}

static void add_row(struct bytes *b, const char *value, size_t len)
{
	size_t at = bytes_begin(b, 'D');

	bytes_16(b, 1);
	bytes_32(b, (uint32_t)len);
	bytes_add(b, value, len);
	bytes_end(b, at);
}

static void add_empty(struct bytes *b, char type)
{
	size_t at = bytes_begin(b, type);

	bytes_end(b, at);
}

static void prepare_answers(void)
{
	static const char *const parameters[][2] = {
		{ "in_hot_standby", "off" },
		{ "integer_datetimes", "on" },
		{ "TimeZone", "Etc/UTC" },
		{ "IntervalStyle", "postgres" },
		{ "is_superuser", "off" },
		{ "application_name", "" },
		{ "default_transaction_read_only", "off" },
		{ "DateStyle", "ISO, MDY" },
		{ "standard_conforming_strings", "on" },
		{ "session_authorization", "bench" },
		{ "client_encoding", "UTF8" },
		{ "server_version", "15.14 (stub)" },
		{ "server_encoding", "UTF8" },
	};
	char value[LARGE_ROW];
	size_t at = bytes_begin(&login, 'R');

	bytes_32(&login, 0);
	bytes_end(&login, at);
	for (size_t i = 0; i < sizeof parameters / sizeof *parameters; i++)
		add_parameter(&login, parameters[i][0], parameters[i][1]);
	at = bytes_begin(&login, 'K');
	bytes_32(&login, (uint32_t)getpid());
	bytes_32(&login, 4711);
	bytes_end(&login, at);
	add_ready(&login, false);

	at = bytes_begin(&described, 'T');
	bytes_16(&described, 1);
	bytes_str(&described, "abalance");
	bytes_32(&described, 0);
	bytes_16(&described, 0);
	bytes_32(&described, 23); /* int4 */
	bytes_16(&described, 4);
	bytes_32(&described, UINT32_MAX);
	bytes_16(&described, 0);
	bytes_end(&described, at);

	add_row(&row, "-4711", 5);

	memset(value, 'x', sizeof value);
	for (int i = 0; i < LARGE_BLOCK_ROWS; i++) {
		add_row(&large_block, value, sizeof value);
		if (i == 0)
			large_row_len = large_block.len;
	}
}

static void add_bytes(struct bytes *b, const struct bytes *from) { bytes_add(b, from->data, from->len); }

static void conn_close(struct conn *c)
{
	close(c->fd);
	SSL_free(c->ssl);
	free(c->in.data);
	free(c->out.data);
	free(c);
}

static bool is_word(const char *sql, const char *word)
{
	size_t len = strlen(word);

	return !strncasecmp(sql, word, len) && (!sql[len] || strchr(" ;\t\n", sql[len]));
}

static void answer_query(struct conn *c, struct bytes *b, const char *sql)
{
	while (*sql == ' ' || *sql == '\n' || *sql == '\t' || *sql == ';')
		sql++;
	if (!*sql) {
		add_empty(b, 'I');
	} else if (is_word(sql, "BEGIN") || is_word(sql, "START")) {
		c->in_transaction = true;
		add_tag(b, "BEGIN");
	} else if (is_word(sql, "COMMIT") || is_word(sql, "END")) {
		c->in_transaction = false;
		add_tag(b, "COMMIT");
	} else if (is_word(sql, "ROLLBACK")) {
		c->in_transaction = false;
		add_tag(b, "ROLLBACK");
	} else if (is_word(sql, "SET")) {
		add_tag(b, "SET");
	} else if (is_word(sql, "RESET")) {
		add_tag(b, "RESET");
	} else if (is_word(sql, "DISCARD")) {
		add_tag(b, "DISCARD ALL");
	} else if (is_word(sql, "DEALLOCATE")) {
		add_tag(b, "DEALLOCATE");
	} else if (!strncmp(sql, "SELECT /* large ", 16)) {
		add_bytes(b, &described);
		c->large_rows = strtoull(sql + 16, NULL, 10) * 1024 * 1024 / LARGE_ROW;
		return; /* tag and ReadyForQuery come behind the rows */
	} else {
		add_bytes(b, &described);
		add_bytes(b, &row);
		add_tag(b, "SELECT 1");
	}
	add_ready(b, c->in_transaction);
}

static void answer_describe(struct bytes *b, const char *body)
{
	if (*body == 'S') {
		size_t at = bytes_begin(b, 't');

		bytes_16(b, 0);
		bytes_end(b, at);
	}
	add_bytes(b, &described);
}

/* One whole message; body ends in a zero byte of ours. False when the connection is over. */
static bool answer(struct conn *c, struct bytes *b, char type, const char *body)
{
	switch (type) {
	case 'Q':
		answer_query(c, b, body);
		return true;
	case 'P':
		c->begins = is_word(body + strlen(body) + 1, "BEGIN");
		add_empty(b, '1');
		return true;
	case 'B':
		add_empty(b, '2');
		return true;
	case 'D':
		answer_describe(b, body);
		return true;
	case 'E':
		if (c->begins) {
			c->begins = false;
			c->in_transaction = true;
			add_tag(b, "BEGIN");
			return true;
		}
		add_bytes(b, &row);
		add_tag(b, "SELECT 1");
		return true;
	case 'C':
		add_empty(b, '3');
		return true;
	case 'S':
		add_ready(b, c->in_transaction);
		return true;
	case 'H':
		return true;
	default: /* Terminate, or what this stub does not speak */
		return false;
	}
}

static bool startup(struct conn *c, struct bytes *b, const char *packet)
{
	switch (get32(packet + 4)) {
	case PG_SSL_REQUEST:
		bytes_add(b, tls ? "S" : "N", 1);
		if (tls)
			c->state = STUB_TLS;
		return true;
	case PG_GSS_REQUEST:
		bytes_add(b, "N", 1);
		return true;
	case PG_VERSION_3:
		add_bytes(b, &login);
		c->state = STUB_READY;
		return true;
	default: /* a cancel request: there is never anything to cancel */
		return false;
	}
}

/* Answers all whole messages at data; returns how many bytes they were, or -1 when the connection is over. */
static ssize_t consume(struct conn *c, struct bytes *b, char *data, size_t len)
{
	size_t at = 0;

	while (!c->large_rows) {
		size_t head = c->state == STUB_STARTUP ? 0 : 1;

		if (c->state == STUB_TLS || len - at < head + 4)
			break;
		uint32_t body = get32(data + at + head);

		if (body < (head ? 4U : 8U) || body > MESSAGE_MAX)
			return -1;
		if (len - at < head + body)
			break;
		char *end = data + at + head + body, kept = *end;
		bool going;

		*end = 0; /* there is always one byte more in the buffer */
		going = head ? answer(c, b, data[at], data + at + 5) : startup(c, b, data + at);
		*end = kept;
		if (!going)
			return -1;
		at += head + body;
	}
	return (ssize_t)at;
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
		size_t len = (size_t)rows * large_row_len;
		ssize_t n = conn_send(c, large_block.data, len);

		if (n < 0)
			return false;
		bytes_add(&c->out, large_block.data + n, len - (size_t)n);
		c->large_rows -= rows;
		if (!c->large_rows) {
			add_tag(&c->out, "SELECT");
			add_ready(&c->out, c->in_transaction);
		}
	}
	watch(l, c, false);
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
		used = consume(c, &l->answer, c->in.data, c->in.len);
		if (used < 0)
			return false;
		memmove(c->in.data, c->in.data + used, c->in.len - (size_t)used);
		c->in.len -= (size_t)used;
	} else {
		used = consume(c, &l->answer, data, len);
		if (used < 0)
			return false;
		bytes_add(&c->in, data + used, len - (size_t)used);
	}
	size_t at = 0;

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

static void accept_all(struct loop *l)
{
	for (;;) {
		int fd = accept4(l->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
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

static void *run(void *arg)
{
	struct loop *l = arg;
	struct epoll_event events[EVENTS];

	for (;;) {
		int n = epoll_wait(l->epoll, events, EVENTS, -1);

		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;

			if (!c)
				accept_all(l);
			else if (!(c->wants_out ? writable(l, c) : readable(l, c)))
				conn_close(c);
		}
	}
	return NULL;
}

static _Noreturn void usage(int status)
{
	fputs("usage: stub [-h ADDRESS] [-p PORT] [-j THREADS] [--cert FILE --key FILE]\n", status ? stderr : stdout);
	exit(status);
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "cert", required_argument, NULL, 'C' },
						 { "key", required_argument, NULL, 'K' },
						 { "help", no_argument, NULL, 'H' },
						 { NULL, 0, NULL, 0 } };
	const char *host = "127.0.0.1", *cert = NULL, *key = NULL;
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
		case 'C':
			cert = optarg;
			break;
		case 'K':
			key = optarg;
			break;
		default:
			usage(option == 'H' ? 0 : 2);
		}
	}
	if (optind != argc || threads < 1 || threads > 64 || !cert != !key)
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
	prepare_answers();
	for (int i = 0; i < threads; i++) {
		struct loop *l = calloc(1, sizeof *l);
		pthread_t thread;

		if (!l || !(l->input = malloc(INPUT_SIZE)))
			fail("stub");
		l->listener = listen_on(host, port);
		l->epoll = epoll_create1(EPOLL_CLOEXEC);
		struct epoll_event event = { .events = EPOLLIN };

		if (l->epoll < 0 || epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->listener, &event))
			fail("epoll");
		if (i == threads - 1)
			run(l);
		if (pthread_create(&thread, NULL, run, l))
			fail("pthread_create");
	}
	return 0;
}
