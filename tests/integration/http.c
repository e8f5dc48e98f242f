#include "http.h"

#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int http_connect(int port) {
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	int fd;

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	/* a Forebay that starts listens for clients a moment before it does here */
	for (;;) {
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		ck_assert_int_ge(fd, 0);
		if (connect(fd, (struct sockaddr *)&sin, sizeof sin) == 0)
			return fd;
		close(fd);
		ck_assert_msg(harness_now_ms() < deadline, "cannot connect to port %d", port);
		harness_pause_ms(5);
	}
}

static void parse(struct http_answer *answer, struct bytes *in) {
	bytes_add(in, "", 1);
	char *text = (char *)in->at, *end = strstr(text, "\r\n\r\n");

	if (end && sscanf(text, "HTTP/1.%*d %d", &answer->status) == 1) {
		answer->head = strndup(text, (size_t)(end - text));
		answer->len = in->len - 1 - (size_t)(end + 4 - text);
		answer->body = malloc(answer->len + 1);
		memcpy(answer->body, end + 4, answer->len + 1);
	}
	bytes_free(in);
}

/* Until the peer closes, or as many bytes as the head says have come. */
static bool is_whole(const struct bytes *in) {
	const char *end = in->len ? memmem(in->at, in->len, "\r\n\r\n", 4) : NULL;
	const char *length = end ? memmem(in->at, in->len, "\r\nContent-Length: ", 18) : NULL;
	return length && length < end && in->len >= (size_t)(end + 4 - (const char *)in->at) + (size_t)atol(length + 18);
}

static struct http_answer exchange(struct raw *raw, const void *request, size_t len) {
	struct http_answer answer = {0};
	struct bytes in = {0};
	char room[16384];
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	raw_send(raw, request, len);
	while (!is_whole(&in)) {
		struct pollfd p = {raw->fd, POLLIN, 0};
		int left = (int)(deadline - harness_now_ms());
		bool pending = raw->ssl && SSL_pending(raw->ssl) > 0;
		ck_assert_msg(left > 0 && (pending || poll(&p, 1, left) > 0), "no whole answer came by HTTP");
		ssize_t n = raw->ssl ? SSL_read(raw->ssl, room, sizeof room) : recv(raw->fd, room, sizeof room, 0);
		if (n <= 0)
			break;
		bytes_add(&in, room, (size_t)n);
	}
	parse(&answer, &in);
	return answer;
}

static struct http_answer get(int port, bool tls, const char *path, const char *headers) {
	char request[4096];
	struct raw raw = {.fd = http_connect(port)};
	int len = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\n%sConnection: close\r\n\r\n", path,
			   headers ? headers : "");

	if (tls)
		ck_assert_msg(raw_tls(&raw, NULL), "no TLS with the HTTP listener");
	struct http_answer answer = exchange(&raw, request, (size_t)len);
	raw_close(&raw);
	ck_assert_msg(answer.status != 0, "no answer came for %s", path);
	return answer;
}

struct http_answer http_get(int port, const char *path, const char *headers) {
	return get(port, false, path, headers);
}

struct http_answer http_get_tls(int port, const char *path, const char *headers) {
	return get(port, true, path, headers);
}

struct http_answer http_send(int port, const void *request, size_t len) {
	struct raw raw = {.fd = http_connect(port)};
	struct http_answer answer = exchange(&raw, request, len);

	raw_close(&raw);
	return answer;
}

void http_free(struct http_answer *answer) {
	free(answer->head);
	free(answer->body);
	*answer = (struct http_answer){0};
}

char *http_body(int port, const char *path) {
	struct http_answer answer = http_get(port, path, NULL);

	ck_assert_msg(answer.status == 200, "%s: %d %s", path, answer.status, answer.body);
	free(answer.head);
	return answer.body;
}

/* ---- metrics ---- */

double metric(const char *text, const char *name) {
	size_t len = strlen(name);

	for (const char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL)
		if (strncmp(line, name, len) == 0 && line[len] == ' ')
			return atof(line + len);
	return -1;
}

double metric_sum(const char *text, const char *name, const char *labels_with) {
	size_t len = strlen(name);
	double sum = 0;

	for (const char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL) {
		const char *end = strchrnul(line, '\n');
		if (strncmp(line, name, len) != 0 || line[len] != '{' ||
		    !memmem(line, (size_t)(end - line), labels_with, strlen(labels_with)))
			continue;
		const char *value = memmem(line, (size_t)(end - line), "} ", 2);
		ck_assert_ptr_nonnull(value);
		sum += atof(value + 2);
	}
	return sum;
}

double metric_now(int port, const char *name) {
	char *text = http_body(port, "/metrics");
	double value = metric(text, name);

	free(text);
	return value;
}

static void await_between(int port, const char *name, double least, double most) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	double value;

	while ((value = metric_now(port, name)) < least || value > most) {
		ck_assert_msg(harness_now_ms() < deadline, "%s is %g, not %g", name, value, least);
		harness_pause_ms(20);
	}
}

void await_metric(int port, const char *name, double value) {
	await_between(port, name, value, value);
}

void await_metric_at_least(int port, const char *name, double value) {
	await_between(port, name, value, 1e300);
}
