#include "scripted.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static uint32_t u32_at(const uint8_t *p) {
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The client */

static struct probe probe_over(int fd, bool connected, bool is_unix) {
	if (!connected) {
		close(fd);
		fd = -1;
	}
	return (struct probe){.fd = fd, .is_unix = is_unix, .closed = !connected};
}

static struct sockaddr_un unix_address(const char *dir, int port) {
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int n = snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/.s.PGSQL.%d", dir, port);

	ck_assert_msg(n > 0 && (size_t)n < sizeof(sun.sun_path), "the socket's path is too long: %s", dir);
	return sun;
}

struct probe probe_unix(const char *socket_dir, int port) {
	struct sockaddr_un sun = unix_address(socket_dir, port);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return probe_over(fd, connect(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0, true);
}

struct probe probe_tcp(int port) {
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return probe_over(fd, connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0, false);
}

void probe_close(struct probe *probe) {
	if (probe->fd >= 0)
		close(probe->fd);
	bytes_free(&probe->in);
	bytes_free(&probe->got);
	probe->fd = -1;
}

/* Moves whole messages from `in` to `got`, up to an authentication request: the login finds it in last place. False:
 * there was none. */
static bool walk(struct probe *probe) {
	size_t at = 0;

	while (!probe->broken && probe->in.len - at >= 5) {
		const uint8_t *m = probe->in.at + at;
		uint32_t len = u32_at(m + 1);

		if (len < 4 || len > 1u << 30) {
			probe->broken = true;
			break;
		}
		if (probe->in.len - at < (size_t)len + 1)
			break;
		probe->last = probe->got.len;
		bytes_add(&probe->got, m, (size_t)len + 1);
		/* Process numbers and cancel keys. */
		if (m[0] == 'K')
			memset(probe->got.at + probe->last + 5, 0, len - 4);
		probe->seen[m[0]]++;
		at += (size_t)len + 1;
		if (m[0] == 'R')
			break;
	}
	if (at > 0) {
		memmove(probe->in.at, probe->in.at + at, probe->in.len - at);
		probe->in.len -= at;
	}
	return at > 0;
}

bool probe_take(struct probe *probe, int timeout_ms) {
	static __thread uint8_t buffer[65536];
	struct pollfd p = {.fd = probe->fd, .events = POLLIN};
	ssize_t n;

	if (probe->closed || poll(&p, 1, timeout_ms) <= 0)
		return false;
	n = recv(probe->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		probe->closed = true;
		return false;
	}
	bytes_add(&probe->in, buffer, (size_t)n);
	return true;
}

bool probe_send(struct probe *probe, const void *data, size_t len) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	const uint8_t *p = data;

	while (len > 0 && !probe->closed && harness_now_ms() < deadline) {
		ssize_t n = send(probe->fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return false;
		if (n < 0) {
			struct pollfd wait = {.fd = probe->fd, .events = POLLIN | POLLOUT};

			poll(&wait, 1, 100);
			probe_take(probe, 0);
			continue;
		}
		p += n;
		len -= (size_t)n;
	}
	return len == 0;
}

bool probe_send_bytes(struct probe *probe, struct bytes *b) {
	bool ok = probe_send(probe, b->at, b->len);

	bytes_free(b);
	return ok;
}

int unread_by_peer(int fd) {
	struct pollfd p = {.fd = fd, .events = 0};
	int waiting = 0;

	if (ioctl(fd, SIOCOUTQ, &waiting) != 0 || waiting == 0)
		return 0;
	return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR)) ? 0 : waiting;
}

void probe_await_read(struct probe *probe) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	while (!probe->closed && unread_by_peer(probe->fd) > 0) {
		ck_assert_msg(harness_now_ms() < deadline, "nobody reads what was sent");
		if (!probe_take(probe, 0))
			sched_yield();
	}
}

bool probe_send_cut(struct probe *probe, const void *data, size_t len, size_t cut) {
	if (cut == 0 || len < 2)
		return probe_send(probe, data, len);
	cut = 1 + (cut - 1) % (len - 1);
	if (!probe_send(probe, data, cut))
		return false;
	if (probe->is_unix)
		probe_await_read(probe);
	return probe_send(probe, (const uint8_t *)data + cut, len - cut);
}

bool probe_await(struct probe *probe, char type, unsigned count) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	while (probe->seen[(uint8_t)type] < count && harness_now_ms() < deadline) {
		if (walk(probe))
			continue;
		if (probe->closed)
			return false;
		probe_take(probe, 1000);
	}
	return probe->seen[(uint8_t)type] >= count;
}

bool probe_await_closed_within(struct probe *probe, int timeout_ms) {
	long long deadline = harness_now_ms() + timeout_ms;

	while (!probe->closed && harness_now_ms() < deadline)
		probe_take(probe, (int)(deadline - harness_now_ms()));
	while (walk(probe))
		;
	return probe->closed;
}

bool probe_await_closed(struct probe *probe) {
	return probe_await_closed_within(probe, HARNESS_DEADLINE_MS);
}

void probe_forget(struct probe *probe) {
	probe->got.len = probe->last = 0;
	memset(probe->seen, 0, sizeof(probe->seen));
}

const char *probe_error(const struct probe *probe, char field) {
	const char *value = "";

	for (size_t at = 0; at < probe->got.len; at += 1 + u32_at(probe->got.at + at + 1)) {
		struct message m = {.type = (char)probe->got.at[at],
				    .len = u32_at(probe->got.at + at + 1) - 4,
				    .body = probe->got.at + at + 5};

		if (m.type == 'E')
			value = error_field(&m, field);
	}
	return value;
}

/* Login */

void md5_answer(const char *user, const char *password, const uint8_t salt[4], char out[36]) {
	unsigned char digest[EVP_MAX_MD_SIZE];
	char hex[33], text[512];
	size_t len;
	int n = snprintf(text, sizeof(text), "%s%s", password, user);

	EVP_Q_digest(NULL, "MD5", NULL, text, (size_t)n, digest, &len);
	for (int i = 0; i < 16; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	memcpy(text, hex, 32);
	memcpy(text + 32, salt, 4);
	EVP_Q_digest(NULL, "MD5", NULL, text, 36, digest, &len);
	memcpy(out, "md5", 4);
	for (int i = 0; i < 16; i++)
		snprintf(out + 3 + 2 * i, 3, "%02x", digest[i]);
}

/* The secret that both sides derive; the same salt and password come again and again. */
static void salted_password(const char *password, const char *salt, int iterations, uint8_t out[32]) {
	static __thread char known[300];
	static __thread uint8_t key[32];
	unsigned char raw[200];
	char wanted[300];
	int n = EVP_DecodeBlock(raw, (const unsigned char *)salt, (int)strlen(salt));

	for (size_t len = strlen(salt); n > 0 && len > 0 && salt[len - 1] == '='; len--)
		n--;
	snprintf(wanted, sizeof(wanted), "%s %d %s", salt, iterations, password);
	if (strcmp(known, wanted) != 0) {
		PKCS5_PBKDF2_HMAC(password, (int)strlen(password), raw, n > 0 ? n : 0, iterations, EVP_sha256(), 32, key);
		memcpy(known, wanted, sizeof(known));
	}
	memcpy(out, key, 32);
}

static void hmac(const uint8_t key[32], const char *text, uint8_t out[32]) {
	unsigned len = 32;

	HMAC(EVP_sha256(), key, 32, (const unsigned char *)text, strlen(text), out, &len);
}

/* Of this exchange: "Client Key" or "Server Key", and the signature with it (the client's by the key's hash). */
static bool sign(const struct scram_talk *talk, const char *password, const char *label, uint8_t key[32],
		 uint8_t signature[32]) {
	char nonce[200], salt[100], message[900];
	uint8_t salted[32], stored[32];
	size_t len;
	int iterations;

	if (sscanf(talk->server_first, "r=%199[^,],s=%99[^,],i=%d", nonce, salt, &iterations) != 3)
		return false;
	salted_password(password, salt, iterations, salted);
	hmac(salted, label, key);
	memcpy(stored, key, 32);
	if (label[0] == 'C')
		EVP_Q_digest(NULL, "SHA256", NULL, key, 32, stored, &len);
	snprintf(message, sizeof(message), "%s,%s,%s", talk->client_bare, talk->server_first, talk->without_proof);
	hmac(stored, message, signature);
	return true;
}

bool scripted_scram_reply(struct scram_talk *talk, const char *server_first, const char *password, char out[500]) {
	uint8_t key[32], signature[32];
	char proof[60], nonce[200];

	snprintf(talk->server_first, sizeof(talk->server_first), "%s", server_first);
	if (sscanf(server_first, "r=%199[^,]", nonce) != 1)
		return false;
	snprintf(talk->without_proof, sizeof(talk->without_proof), "c=biws,r=%s", nonce);
	if (!sign(talk, password, "Client Key", key, signature))
		return false;
	for (int i = 0; i < 32; i++)
		key[i] ^= signature[i];
	EVP_EncodeBlock((unsigned char *)proof, key, 32);
	snprintf(out, 500, "%s,p=%s", talk->without_proof, proof);
	return true;
}

bool scripted_scram_first(struct scram_talk *talk, const char *client_first, char out[300]) {
	const char *bare = strstr(client_first, ",,");
	char nonce[150];

	if (!bare)
		return false;
	snprintf(talk->client_bare, sizeof(talk->client_bare), "%s", bare + 2);
	bare = strstr(talk->client_bare, "r=");
	if (!bare || sscanf(bare, "r=%149[^,]", nonce) != 1)
		return false;
	snprintf(talk->server_first, sizeof(talk->server_first), "r=%sSERVER,s=c2FsdHNhbHRzYWx0c2FsdA==,i=4096", nonce);
	snprintf(out, 300, "%s", talk->server_first);
	return true;
}

bool scripted_scram_final(struct scram_talk *talk, const char *client_final, const char *password, char out[100]) {
	const char *proof = strstr(client_final, ",p=");
	uint8_t key[32], signature[32];
	char text[60];

	if (!proof)
		return false;
	snprintf(talk->without_proof, sizeof(talk->without_proof), "%.*s", (int)(proof - client_final), client_final);
	if (!sign(talk, password, "Server Key", key, signature))
		return false;
	EVP_EncodeBlock((unsigned char *)text, signature, 32);
	snprintf(out, 100, "v=%s", text);
	return true;
}

static bool send_cut_and_free(struct probe *probe, struct bytes *b, size_t cut) {
	bool ok = probe_send_cut(probe, b->at, b->len, cut);

	bytes_free(b);
	return ok;
}

/* The answer to the authentication request that came last. */
static bool answer_request(struct probe *probe, struct scram_talk *talk, size_t cut) {
	const uint8_t *m = probe->got.at + probe->last;
	uint32_t len = u32_at(m + 1), code = u32_at(m + 5);
	char text[600], answer[500];
	struct bytes b = {0};

	switch (code) {
	case 3:
		put_message(&b, 'p', "s", "app-secret");
		break;
	case 5:
		md5_answer("app", "app-secret", m + 9, answer);
		put_message(&b, 'p', "s", answer);
		break;
	case 10:
		snprintf(talk->client_bare, sizeof(talk->client_bare), "n=,r=YWxsIHRoZSBzYW1l");
		snprintf(text, sizeof(text), "n,,%s", talk->client_bare);
		put_message(&b, 'p', "sv", "SCRAM-SHA-256", text);
		break;
	case 11:
		snprintf(text, sizeof(text), "%.*s", (int)(len - 8), (const char *)m + 9);
		if (!scripted_scram_reply(talk, text, "app-secret", answer))
			return false;
		put_message(&b, 'p', "b", strlen(answer), answer);
		break;
	case 12:
		return true;
	default:
		return false;
	}
	return send_cut_and_free(probe, &b, cut);
}

bool probe_login(struct probe *probe, const char *database, size_t cut) {
	struct scram_talk talk = {0};
	struct bytes b = {0};

	put_startup(&b, 3 << 16, "user", "app", "database", database, NULL);
	if (!send_cut_and_free(probe, &b, cut))
		return false;
	for (unsigned requests = 1; probe_await(probe, 'R', requests); requests++) {
		if (u32_at(probe->got.at + probe->last + 1) == 8 && u32_at(probe->got.at + probe->last + 5) == 0)
			break;
		if (!answer_request(probe, &talk, cut))
			return false;
		/* Salts, nonces and signatures differ. */
		memset(probe->got.at + probe->last + 9, 0, u32_at(probe->got.at + probe->last + 1) - 8);
	}
	return probe_await(probe, 'Z', 1);
}

/* The backend */

struct served {
	struct unix_backend *backend;
	int fd;
};

static void *serve_one(void *arg) {
	struct served *served = arg;
	struct unix_backend *backend = served->backend;
	int fd = served->fd;

	free(served);
	backend->serve(fd, backend->context);
	close(fd);
	atomic_fetch_sub(&backend->active, 1);
	return NULL;
}

static void *accept_loop(void *arg) {
	struct unix_backend *backend = arg;

	while (!backend->stop) {
		struct pollfd p = {.fd = backend->listener, .events = POLLIN};
		struct served *served;
		pthread_attr_t attr;
		pthread_t thread;
		int fd;

		if (poll(&p, 1, 20) <= 0)
			continue;
		fd = accept4(backend->listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		served = malloc(sizeof(*served));
		if (!served)
			abort();
		*served = (struct served){.backend = backend, .fd = fd};
		atomic_fetch_add(&backend->active, 1);
		pthread_attr_init(&attr);
		pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
		pthread_attr_setstacksize(&attr, 512 * 1024);
		if (pthread_create(&thread, &attr, serve_one, served) != 0)
			abort();
		pthread_attr_destroy(&attr);
	}
	return NULL;
}

struct unix_backend *unix_backend_start(void (*serve)(int fd, void *context), void *context) {
	static int number;
	struct unix_backend *backend = calloc(1, sizeof(*backend));
	struct sockaddr_un sun;
	pthread_t thread;

	ck_assert(backend != NULL);
	backend->serve = serve;
	backend->context = context;
	snprintf(backend->dir, sizeof(backend->dir), "%s", harness_path("b%d-%d", (int)getpid(), number++));
	ck_assert_msg(mkdir(backend->dir, 0755) == 0, "%s: %s", backend->dir, strerror(errno));
	sun = unix_address(backend->dir, 5432);
	backend->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert(bind(backend->listener, (struct sockaddr *)&sun, sizeof(sun)) == 0);
	ck_assert(listen(backend->listener, 1000) == 0);
	ck_assert(pthread_create(&thread, NULL, accept_loop, backend) == 0);
	backend->thread = thread;
	return backend;
}

void unix_backend_stop(struct unix_backend *backend) {
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

static bool read_exactly(int fd, void *out, size_t len) {
	uint8_t *p = out;

	while (len > 0) {
		ssize_t n = recv(fd, p, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

bool serve_read(int fd, bool startup, char *type, struct bytes *body) {
	uint8_t length[4];
	uint32_t len;

	*type = 0;
	if ((!startup && !read_exactly(fd, type, 1)) || !read_exactly(fd, length, 4))
		return false;
	len = u32_at(length);
	if (len < 4 || len > 1u << 26)
		return false;
	len -= 4;
	if (body->cap < len + 1) {
		body->at = realloc(body->at, len + 1);
		if (!body->at)
			abort();
		body->cap = len + 1;
	}
	body->len = len;
	body->at[len] = 0;
	return read_exactly(fd, body->at, len);
}

bool serve_send(int fd, const void *data, size_t len) {
	const uint8_t *p = data;

	while (len > 0) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

const char *startup_value(const struct bytes *body, const char *name) {
	const char *p = (const char *)body->at + 4, *end = (const char *)body->at + body->len;

	while (p < end && *p) {
		const char *value = p + strlen(p) + 1;

		if (value >= end)
			break;
		if (strcmp(p, name) == 0)
			return value;
		p = value + strlen(value) + 1;
	}
	return "";
}

/* Forebay's end */

void forebay_stop_violated(struct forebay *forebay, const char *pool_prefix) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	char wanted[100], *text, *out, *line, *rest;

	kill(forebay->pid, SIGTERM);
	while (forebay_alive(forebay)) {
		ck_assert_msg(harness_now_ms() < deadline, "Forebay does not end after SIGTERM");
		harness_pause_ms(5);
	}
	/* The lines about what the backends did go; a violation of any other pool stays, and fails the test. */
	snprintf(wanted, sizeof(wanted), "pool=%s", pool_prefix);
	text = harness_read(forebay->log);
	out = calloc(1, strlen(text) + 2);
	ck_assert(out != NULL);
	rest = out;
	for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		/* a line that only counts repeats names no pool: what it repeats stands before it */
		if (strstr(line, "invariant_violation") && (strstr(line, wanted) || strstr(line, " repeats=")))
			continue;
		rest += sprintf(rest, "%s\n", line);
	}
	harness_write(forebay->log, out);
	free(out);
	free(text);
	forebay_await_exit(forebay);
}
