#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void bytes_add(struct bytes *b, const void *data, size_t len) {
	if (b->len + len > b->cap) {
		size_t cap = (b->len + len) * 2 + 64;
		uint8_t *at = realloc(b->at, cap);

		if (!at)
			abort();
		b->at = at;
		b->cap = cap;
	}
	if (len > 0)
		memcpy(b->at + b->len, data, len);
	b->len += len;
}

void bytes_free(struct bytes *b) {
	free(b->at);
	*b = (struct bytes){0};
}

static void add_u32(struct bytes *b, uint32_t v) {
	v = htonl(v);
	bytes_add(b, &v, 4);
}

void put_message_v(struct bytes *b, char type, const char *format, va_list ap) {
	size_t mark;
	uint32_t len;

	if (type)
		bytes_add(b, &type, 1);
	mark = b->len;
	add_u32(b, 0);
	for (const char *f = format; f && *f; f++) {
		const char *s;
		size_t n;
		uint16_t h;
		char c;

		switch (*f) {
		case 's':
			s = va_arg(ap, const char *);
			bytes_add(b, s, strlen(s) + 1);
			break;
		case 'h':
			h = htons((uint16_t)va_arg(ap, int));
			bytes_add(b, &h, 2);
			break;
		case 'i':
			add_u32(b, (uint32_t)va_arg(ap, int));
			break;
		case 'c':
			c = (char)va_arg(ap, int);
			bytes_add(b, &c, 1);
			break;
		case 'b':
			n = va_arg(ap, size_t);
			bytes_add(b, va_arg(ap, const void *), n);
			break;
		case 'v':
			s = va_arg(ap, const char *);
			add_u32(b, s ? (uint32_t)strlen(s) : UINT32_MAX);
			if (s)
				bytes_add(b, s, strlen(s));
			break;
		default:
			abort();
		}
	}
	len = htonl((uint32_t)(b->len - mark));
	memcpy(b->at + mark, &len, 4);
}

void put_message(struct bytes *b, char type, const char *format, ...) {
	va_list ap;

	va_start(ap, format);
	put_message_v(b, type, format, ap);
	va_end(ap);
}

void put_startup(struct bytes *b, int version, ...) {
	struct bytes body = {0};
	const char *s;
	va_list ap;

	va_start(ap, version);
	while ((s = va_arg(ap, const char *)))
		bytes_add(&body, s, strlen(s) + 1);
	va_end(ap);
	bytes_add(&body, "", 1);
	put_message(b, 0, "ib", version, body.len, body.at);
	bytes_free(&body);
}

void put_parse(struct bytes *b, const char *statement, const char *sql) {
	put_message(b, 'P', "ssh", statement, sql, 0);
}

void put_bind(struct bytes *b, const char *statement, const char *value) {
	if (value)
		put_message(b, 'B', "sshhvh", "", statement, 0, 1, value, 0);
	else
		put_message(b, 'B', "sshhh", "", statement, 0, 0, 0);
}

void put_execute(struct bytes *b) {
	put_message(b, 'D', "cs", 'P', "");
	put_message(b, 'E', "si", "", 0);
}

void put_sync(struct bytes *b) {
	put_message(b, 'S', "");
}

void put_query(struct bytes *b, const char *sql) {
	put_message(b, 'Q', "s", sql);
}

/* The raw client */

struct raw raw_connect_port(int port) {
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	struct raw raw = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
	int on = 1;

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ck_assert_msg(connect(raw.fd, (struct sockaddr *)&sin, sizeof(sin)) == 0, "connect: %s", strerror(errno));
	setsockopt(raw.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return raw;
}

struct raw raw_connect(const struct forebay *forebay) {
	return raw_connect_port(forebay->port);
}

void raw_close(struct raw *raw) {
	if (raw->ssl) {
		SSL_CTX *ctx = SSL_get_SSL_CTX(raw->ssl);

		SSL_free(raw->ssl);
		SSL_CTX_free(ctx);
	}
	if (raw->fd >= 0)
		close(raw->fd);
	free(raw->in);
	*raw = (struct raw){.fd = -1};
}

void raw_reset(struct raw *raw) {
	struct linger linger = {.l_onoff = 1, .l_linger = 0};

	setsockopt(raw->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	raw_close(raw);
}

bool raw_send(struct raw *raw, const void *data, size_t len) {
	const uint8_t *p = data;

	while (len > 0) {
		ssize_t n = raw->ssl ? SSL_write(raw->ssl, p, (int)len) : send(raw->fd, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR && !raw->ssl)
			continue;
		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

bool raw_send_bytes(struct raw *raw, struct bytes *b) {
	bool ok = raw_send(raw, b->at, b->len);

	bytes_free(b);
	return ok;
}

bool raw_put(struct raw *raw, char type, const char *format, ...) {
	struct bytes b = {0};
	va_list ap;

	va_start(ap, format);
	put_message_v(&b, type, format, ap);
	va_end(ap);
	return raw_send_bytes(raw, &b);
}

static ssize_t receive(struct raw *raw, void *data, size_t len, int timeout_ms) {
	struct pollfd p = {.fd = raw->fd, .events = POLLIN};

	if (raw->ssl && SSL_pending(raw->ssl) > 0)
		return SSL_read(raw->ssl, data, (int)len);
	if (poll(&p, 1, timeout_ms) == 0)
		return -2;
	if (raw->ssl)
		return SSL_read(raw->ssl, data, (int)len);
	return recv(raw->fd, data, len, 0);
}

/* At least `need` bytes in the buffer. */
static enum raw_status fill(struct raw *raw, size_t need, int timeout_ms) {
	long long deadline = harness_now_ms() + timeout_ms;

	if (raw->from > 0) {
		memmove(raw->in, raw->in + raw->from, raw->to - raw->from);
		raw->to -= raw->from;
		raw->from = 0;
	}
	if (need + 1 > raw->cap) {
		raw->cap = need * 2 + 16384;
		raw->in = realloc(raw->in, raw->cap);
		if (!raw->in)
			abort();
	}
	while (raw->to < need) {
		int left = timeout_ms < 0 ? -1 : (int)(deadline - harness_now_ms());
		ssize_t n = receive(raw, raw->in + raw->to, raw->cap - raw->to - 1, timeout_ms < 0 || left > 0 ? left : 0);

		if (n == -2)
			return RAW_TIMEOUT;
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return RAW_CLOSED;
		raw->to += (size_t)n;
	}
	return RAW_MESSAGE;
}

static uint32_t get_u32(const uint8_t *p) {
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

enum raw_status raw_read_within(struct raw *raw, struct message *m, int timeout_ms) {
	enum raw_status status;
	uint32_t len;

	if (raw->to - raw->from < 5) {
		status = fill(raw, 5, timeout_ms);
		if (status != RAW_MESSAGE)
			return status;
	}
	len = get_u32(raw->in + raw->from + 1);
	ck_assert_msg(len >= 4 && len < 1u << 30, "a message '%c' of length %u", raw->in[raw->from], len);
	if (raw->to - raw->from < len + 1) {
		status = fill(raw, len + 1, timeout_ms);
		if (status != RAW_MESSAGE)
			return status;
	}
	m->type = (char)raw->in[raw->from];
	m->len = len - 4;
	m->body = raw->in + raw->from + 5;
	raw->from += len + 1;
	return RAW_MESSAGE;
}

enum raw_status raw_read(struct raw *raw, struct message *m) {
	return raw_read_within(raw, m, HARNESS_DEADLINE_MS);
}

int raw_byte(struct raw *raw) {
	uint8_t c;
	ssize_t n = receive(raw, &c, 1, HARNESS_DEADLINE_MS);

	ck_assert_msg(n != -2, "no byte in time");
	return n == 1 ? c : -1;
}

const char *error_field(const struct message *m, char field) {
	const char *p = (const char *)m->body, *end = p + m->len;

	while (p < end && *p) {
		const char *zero = memchr(p + 1, 0, (size_t)(end - p - 1));

		if (*p == field)
			return p + 1;
		if (!zero)
			break;
		p = zero + 1;
	}
	return "";
}

struct message raw_until(struct raw *raw, char type) {
	struct message m;

	for (;;) {
		enum raw_status status = raw_read(raw, &m);

		ck_assert_msg(status != RAW_TIMEOUT, "no message '%c' in time", type);
		ck_assert_msg(status != RAW_CLOSED, "closed, where '%c' was due", type);
		if (m.type == type)
			return m;
	}
}

struct message raw_expect(struct raw *raw, char type) {
	struct message m;

	for (;;) {
		enum raw_status status = raw_read(raw, &m);

		ck_assert_msg(status != RAW_TIMEOUT, "no message '%c' in time", type);
		ck_assert_msg(status != RAW_CLOSED, "closed, where '%c' was due", type);
		if (m.type == type)
			return m;
		ck_assert_msg(m.type == 'S' || m.type == 'N', "expected '%c', got '%c' %s %s", type, m.type,
			      m.type == 'E' ? error_field(&m, 'C') : "", m.type == 'E' ? error_field(&m, 'M') : "");
	}
}

void raw_expect_error(struct raw *raw, const char *sqlstate) {
	struct message m = raw_expect(raw, 'E');

	ck_assert_msg(strcmp(error_field(&m, 'C'), sqlstate) == 0, "expected SQLSTATE %s, got %s: %s", sqlstate,
		      error_field(&m, 'C'), error_field(&m, 'M'));
}

/* What of a message raw_answers() compares. */
static void describe(const struct message *m, char *out, size_t size) {
	size_t len;

	*out = 0;
	switch (m->type) {
	case 'D':
		len = m->len >= 6 ? get_u32(m->body + 2) : 0;
		if (len <= m->len - 6 && m->len >= 6)
			snprintf(out, size, "%.*s", (int)len, (const char *)m->body + 6);
		break;
	case 'E':
		snprintf(out, size, "%s", error_field(m, 'C'));
		break;
	case 'Z':
		snprintf(out, size, "%c", m->body[0]);
		break;
	case 'C':
		snprintf(out, size, "%.*s", (int)m->len, (const char *)m->body);
		break;
	default:
		break;
	}
}

void raw_answers(struct raw *raw, const char *expected) {
	for (const char *p = expected; *p;) {
		size_t len = strcspn(p, " ");
		char got[400];
		struct message m;

		do {
			enum raw_status status = raw_read(raw, &m);

			ck_assert_msg(status == RAW_MESSAGE, "%s before \"%s\"",
				      status == RAW_CLOSED ? "closed" : "no answer in time", p);
		} while (m.type == 'S' || m.type == 'N');
		describe(&m, got, sizeof(got));
		ck_assert_msg(m.type == p[0], "expected \"%s\", got '%c' %s %s", p, m.type, got,
			      m.type == 'E' ? error_field(&m, 'M') : "");
		if (len > 2)
			ck_assert_msg(strlen(got) == len - 2 && strncmp(got, p + 2, len - 2) == 0,
				      "expected \"%s\", got '%c' with \"%s\" %s", p, m.type, got,
				      m.type == 'E' ? error_field(&m, 'M') : "");
		p += len;
		p += strspn(p, " ");
	}
}

void raw_expect_closed(struct raw *raw) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	char junk[4096];

	for (;;) {
		ssize_t n = receive(raw, junk, sizeof(junk), (int)(deadline - harness_now_ms()));

		ck_assert_msg(n != -2 && harness_now_ms() < deadline, "the connection stays open");
		if (n <= 0 && !(n < 0 && errno == EINTR))
			return;
	}
}

void raw_login(struct raw *raw) {
	struct bytes b = {0};
	struct message m;

	put_startup(&b, 3 << 16, "user", "app", "database", "app", NULL);
	ck_assert(raw_send_bytes(raw, &b));
	m = raw_expect(raw, 'R');
	ck_assert_msg(m.len == 4 && get_u32(m.body) == 0, "the listener asks for a password");
	raw_until(raw, 'Z');
}

bool raw_tls(struct raw *raw, const char *alpn) {
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl;
	unsigned char proto[64];

	ck_assert(ctx != NULL);
	ssl = SSL_new(ctx);
	ck_assert(ssl != NULL);
	if (alpn) {
		proto[0] = (unsigned char)strlen(alpn);
		memcpy(proto + 1, alpn, strlen(alpn));
		SSL_set_alpn_protos(ssl, proto, (unsigned)strlen(alpn) + 1);
	}
	SSL_set_fd(ssl, raw->fd);
	raw->ssl = ssl;
	return SSL_connect(ssl) == 1;
}

/* The scripted backend */

struct backend_connection {
	struct backend *backend;
	int fd;
};

static void *serve_connection(void *arg) {
	struct backend_connection *c = arg;
	struct raw raw = {.fd = c->fd};
	struct backend *backend = c->backend;

	free(c);
	backend->serve(&raw, backend->context);
	raw_close(&raw);
	atomic_fetch_sub(&backend->active, 1);
	return NULL;
}

static void *accept_loop(void *arg) {
	struct backend *backend = arg;

	while (!backend->stop) {
		struct pollfd p = {.fd = backend->listener, .events = POLLIN};
		struct backend_connection *c;
		pthread_attr_t attr;
		pthread_t thread;
		int fd;

		if (poll(&p, 1, 20) <= 0)
			continue;
		fd = accept4(backend->listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		c = malloc(sizeof(*c));
		if (!c)
			abort();
		*c = (struct backend_connection){.backend = backend, .fd = fd};
		atomic_fetch_add(&backend->connections, 1);
		atomic_fetch_add(&backend->active, 1);
		pthread_attr_init(&attr);
		pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
		if (pthread_create(&thread, &attr, serve_connection, c) != 0)
			abort();
		pthread_attr_destroy(&attr);
	}
	return NULL;
}

struct backend *backend_start(void (*serve)(struct raw *raw, void *context), void *context) {
	struct sockaddr_in sin = {.sin_family = AF_INET};
	struct backend *backend = calloc(1, sizeof(*backend));
	pthread_t thread;
	int on = 1;

	ck_assert(backend != NULL);
	backend->serve = serve;
	backend->context = context;
	backend->port = harness_free_port();
	backend->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(backend->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	sin.sin_port = htons((uint16_t)backend->port);
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ck_assert(bind(backend->listener, (struct sockaddr *)&sin, sizeof(sin)) == 0);
	ck_assert(listen(backend->listener, 64) == 0);
	ck_assert(pthread_create(&thread, NULL, accept_loop, backend) == 0);
	backend->thread = thread;
	return backend;
}

/* Call when the peers are gone (Forebay has stopped): each connection's thread then reads the end of its input. */
void backend_stop(struct backend *backend) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	backend->stop = true;
	pthread_join(backend->thread, NULL);
	while (backend->active > 0) {
		ck_assert_msg(harness_now_ms() < deadline, "a scripted backend still talks");
		harness_pause_ms(5);
	}
	close(backend->listener);
	free(backend);
}

bool backend_read_startup(struct raw *raw) {
	for (;;) {
		uint32_t len, code;

		if (raw->to - raw->from < 8 && fill(raw, 8, -1) != RAW_MESSAGE)
			return false;
		len = get_u32(raw->in + raw->from);
		if (raw->to - raw->from < len && fill(raw, len, -1) != RAW_MESSAGE)
			return false;
		code = get_u32(raw->in + raw->from + 4);
		raw->from += len;
		if (code != 80877103 && code != 80877104)
			return code >> 16 == 3; /* a cancel request is not served */
		if (!raw_send(raw, "N", 1))
			return false;
	}
}

void put_welcome(struct bytes *b) {
	static const char *const parameters[][2] = {
		{"server_version", "15.0"},       {"server_encoding", "UTF8"},
		{"client_encoding", "UTF8"},      {"application_name", ""},
		{"is_superuser", "off"},          {"session_authorization", "app"},
		{"DateStyle", "ISO, MDY"},        {"IntervalStyle", "postgres"},
		{"TimeZone", "Etc/UTC"},          {"integer_datetimes", "on"},
		{"standard_conforming_strings", "on"}, {"in_hot_standby", "off"},
		{"default_transaction_read_only", "off"},
	};

	put_message(b, 'R', "i", 0);
	for (size_t i = 0; i < sizeof(parameters) / sizeof(parameters[0]); i++)
		put_message(b, 'S', "ss", parameters[i][0], parameters[i][1]);
	put_message(b, 'K', "ii", 4711, 815);
	put_message(b, 'Z', "c", 'I');
}

bool backend_login(struct raw *raw) {
	struct bytes b = {0};

	if (!backend_read_startup(raw))
		return false;
	put_welcome(&b);
	return raw_send_bytes(raw, &b);
}

bool backend_read(struct raw *raw, struct message *m) {
	return raw_read_within(raw, m, -1) == RAW_MESSAGE;
}
