#include "my_raw.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/sha.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- the client ---- */

static int connect_unix(const char *path) {
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static int connect_tcp(int port) {
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
		close(fd);
		return -1;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
	return fd;
}

static bool send_all(int fd, const uint8_t *data, size_t len) {
	while (len > 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		data += n;
		len -= (size_t)n;
	}
	return true;
}

/* Each piece is read before the next one is sent. */
static bool send_pieces(int fd, const uint8_t *data, size_t len, size_t piece) {
	while (len > 0) {
		size_t n = piece && piece < len ? piece : len;
		if (!send_all(fd, data, n))
			return false;
		data += n;
		len -= n;
		long long until = harness_now_ms() + HARNESS_DEADLINE_MS;
		while (piece && unread_by_peer(fd) > 0 && harness_now_ms() < until)
			sched_yield();
	}
	return true;
}

bool my_raw_send_bytes(struct my_raw *raw, const void *data, size_t len) {
	return send_pieces(raw->fd, data, len, raw->is_unix ? raw->piece : 0);
}

bool my_raw_send(struct my_raw *raw, uint8_t sequence, const void *body, size_t len) {
	uint8_t *packet = malloc(4 + len);
	ck_assert_ptr_nonnull(packet);
	packet[0] = (uint8_t)len, packet[1] = (uint8_t)(len >> 8), packet[2] = (uint8_t)(len >> 16), packet[3] = sequence;
	memcpy(packet + 4, body, len);
	bool ok = my_raw_send_bytes(raw, packet, 4 + len);
	free(packet);
	return ok;
}

/* -1: closed; 0: nothing in time. */
static int receive(int fd, uint8_t *out, size_t len) {
	while (len > 0) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (poll(&p, 1, HARNESS_DEADLINE_MS) <= 0)
			return 0;
		ssize_t n = recv(fd, out, len, 0);
		if (n <= 0)
			return -1;
		out += n;
		len -= (size_t)n;
	}
	return 1;
}

uint8_t *my_raw_packet(struct my_raw *raw, size_t *len, uint8_t *sequence) {
	uint8_t head[4];
	if (receive(raw->fd, head, 4) <= 0)
		return NULL;
	*len = (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16;
	if (sequence)
		*sequence = head[3];
	uint8_t *body = calloc(1, *len + 1);
	ck_assert_ptr_nonnull(body);
	if (receive(raw->fd, body, *len) > 0)
		return body;
	free(body);
	return NULL;
}

bool my_raw_closed(struct my_raw *raw) {
	uint8_t rest[4096];
	for (;;) {
		struct pollfd p = {.fd = raw->fd, .events = POLLIN};
		if (poll(&p, 1, HARNESS_DEADLINE_MS) <= 0)
			return false;
		if (recv(raw->fd, rest, sizeof rest, 0) <= 0)
			return true;
	}
}

/* mysql_native_password: SHA1(password) xor SHA1(scramble, SHA1(SHA1(password))) */
static void prove(const char *password, const uint8_t scramble[20], uint8_t out[20]) {
	uint8_t one[20], two[20], both[40];
	SHA1((const uint8_t *)password, strlen(password), one);
	SHA1(one, 20, two);
	memcpy(both, scramble, 20);
	memcpy(both + 20, two, 20);
	SHA1(both, 40, out);
	for (int i = 0; i < 20; i++)
		out[i] ^= one[i];
}

struct my_raw my_raw_connect(const char *socket_path, int port, uint32_t capabilities, const char *schema) {
	struct my_raw raw = {.is_unix = socket_path != NULL};
	uint8_t response[200] = {0};
	size_t len, at = 32;
	raw.fd = socket_path ? connect_unix(socket_path) : connect_tcp(port);
	uint8_t *greeting = raw.fd >= 0 ? my_raw_packet(&raw, &len, NULL) : NULL;
	if (!greeting)
		return raw;
	uint8_t scramble[20], proof[20];
	const uint8_t *id = greeting + 1 + strlen((char *)greeting + 1) + 1;
	raw.id = (uint32_t)id[0] | (uint32_t)id[1] << 8 | (uint32_t)id[2] << 16 | (uint32_t)id[3] << 24;
	memcpy(scramble, id + 4, 8);
	memcpy(scramble + 8, id + 31, 12);
	free(greeting);
	prove("app-secret", scramble, proof);
	capabilities |= RAW_COMMON | (schema ? RAW_WITH_DB : 0);
	if (capabilities & RAW_ONE_RESULT)
		capabilities &= ~(uint32_t)(RAW_ONE_RESULT | 1 << 17 | 1 << 18);
	for (int i = 0; i < 4; i++)
		response[i] = (uint8_t)(capabilities >> 8 * i);
	response[7] = 1; /* 16 MiB */
	response[8] = 45;
	at += (size_t)sprintf((char *)response + at, "app") + 1;
	response[at++] = 20;
	memcpy(response + at, proof, 20);
	at += 20;
	if (schema)
		at += (size_t)sprintf((char *)response + at, "%s", schema) + 1;
	at += (size_t)sprintf((char *)response + at, "mysql_native_password") + 1;
	uint8_t *answer = my_raw_send(&raw, 1, response, at) ? my_raw_packet(&raw, &len, NULL) : NULL;
	if (answer && *answer == 0xfe) { /* the same with another scramble */
		memcpy(scramble, answer + 1 + strlen((char *)answer + 1) + 1, 20);
		free(answer);
		prove("app-secret", scramble, proof);
		answer = my_raw_send(&raw, 3, proof, 20) ? my_raw_packet(&raw, &len, NULL) : NULL;
	}
	if (!answer || *answer != 0)
		my_raw_close(&raw);
	free(answer);
	return raw;
}

void my_raw_close(struct my_raw *raw) {
	if (raw->fd >= 0)
		close(raw->fd);
	raw->fd = -1;
}

bool my_raw_query(struct my_raw *raw, const char *sql) {
	size_t size = strlen(sql) + 1, len;
	char *body = malloc(size + 1);
	ck_assert_ptr_nonnull(body);
	body[0] = 3;
	memcpy(body + 1, sql, size);
	bool ok = my_raw_send(raw, 0, body, size);
	free(body);
	uint8_t *first = ok ? my_raw_packet(raw, &len, NULL) : NULL;
	ok = first && *first != 0xff;
	bool rows = ok && *first != 0;
	free(first);
	for (bool over = !rows; ok && !over;) { /* needs DEPRECATE_EOF */
		uint8_t *p = my_raw_packet(raw, &len, NULL);
		ok = p && *p != 0xff;
		over = ok && *p == 0xfe && len < 0xffffff;
		free(p);
	}
	return ok;
}

/* ---- the slicer ---- */

enum { PAIRS_MAX = 16 };

struct slicer {
	char path[100];
	int listener;
	size_t piece;
	pthread_t thread;
	_Atomic bool stop;
	int client[PAIRS_MAX], server[PAIRS_MAX], count;
};

static bool pump(int from, int to, size_t piece) {
	static _Thread_local uint8_t bytes[65536];
	ssize_t n = recv(from, bytes, sizeof bytes, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	return n > 0 && send_pieces(to, bytes, (size_t)n, piece);
}

static void drop_pair(struct slicer *s, int i) {
	close(s->client[i]);
	close(s->server[i]);
	s->count--;
	s->client[i] = s->client[s->count];
	s->server[i] = s->server[s->count];
}

static void *slice(void *argument) {
	struct slicer *s = argument;
	while (!atomic_load(&s->stop)) {
		struct pollfd p[1 + 2 * PAIRS_MAX] = {{.fd = s->listener, .events = POLLIN}};
		for (int i = 0; i < s->count; i++) {
			p[1 + 2 * i] = (struct pollfd){.fd = s->client[i], .events = POLLIN};
			p[2 + 2 * i] = (struct pollfd){.fd = s->server[i], .events = POLLIN};
		}
		int count = s->count;
		if (poll(p, (nfds_t)(1 + 2 * count), 50) <= 0)
			continue;
		for (int i = count - 1; i >= 0; i--)
			if ((p[1 + 2 * i].revents && !pump(s->client[i], s->server[i], 0)) ||
			    (p[2 + 2 * i].revents && !pump(s->server[i], s->client[i], s->piece)))
				drop_pair(s, i);
		if (p[0].revents && s->count < PAIRS_MAX) {
			s->client[s->count] = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
			s->server[s->count] = connect_tcp(maria_port());
			s->count++;
		}
	}
	while (s->count > 0)
		drop_pair(s, 0);
	return NULL;
}

struct slicer *slicer_start(size_t piece) {
	struct slicer *s = calloc(1, sizeof *s);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	static _Atomic int number;
	ck_assert_ptr_nonnull(s);
	snprintf(s->path, sizeof s->path, "%s/slicer.%d.%d", harness_dir(), (int)getpid(), atomic_fetch_add(&number, 1));
	snprintf(address.sun_path, sizeof address.sun_path, "%s", s->path);
	s->piece = piece;
	s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(s->listener, (struct sockaddr *)&address, sizeof address), 0);
	ck_assert_int_eq(listen(s->listener, 16), 0);
	ck_assert_int_eq(pthread_create(&s->thread, NULL, slice, s), 0);
	return s;
}

const char *slicer_path(const struct slicer *s) {
	return s->path;
}

void slicer_stop(struct slicer *s) {
	atomic_store(&s->stop, true);
	pthread_join(s->thread, NULL);
	close(s->listener);
	unlink(s->path);
	free(s);
}

/* ---- a backend ---- */

bool my_serve_read(int fd, uint8_t *body, size_t room, size_t *len) {
	uint8_t head[4];
	if (recv(fd, head, 4, MSG_WAITALL) != 4)
		return false;
	*len = (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16;
	return *len < room && recv(fd, body, *len, MSG_WAITALL) == (ssize_t)*len;
}

bool my_serve_login(int fd) {
	static const char greeting[] = "\x4a\0\0\0\x0a" "5.5.5-10.11.0-MariaDB\0" "\1\0\0\0" "abcdefgh\0" "\xfe\xf7\x2d\2\0\xff\x81\x15"
				       "\0\0\0\0\0\0\0\0\0\0" "abcdefghijkl\0" "mysql_native_password";
	uint8_t body[4096];
	char hello[sizeof greeting];
	size_t len;
	memcpy(hello, greeting, sizeof greeting);
	hello[0] = (char)(sizeof greeting - 4); /* the zero at its end included */
	return serve_send(fd, hello, sizeof greeting) && my_serve_read(fd, body, sizeof body, &len) &&
	       serve_send(fd, "\7\0\0\2\0\0\0\2\0\0\0", 11);
}

const char my_serve_ok[] = "\7\0\0\1\0\0\0\2\0\0\0";
const char my_serve_identity[] = "\1\0\0\1\1" "\x17\0\0\2\3def\0\0\0\1x\0\x0c\x21\0\xff\0\0\0\xfd\0\0\0\0\0" "\2\0\0\3\1x"
			       "\7\0\0\4\xfe\0\0\2\0\0\0";
