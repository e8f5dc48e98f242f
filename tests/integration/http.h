/* A client of the HTTP listener, and what its metrics say. */
#ifndef TESTS_HTTP_H
#define TESTS_HTTP_H

#include "wire.h"

struct http_answer {
	int status;  /* 0: there was none */
	char *head;  /* status line and headers, lower-cased names as they came */
	char *body;  /* ends in a zero that does not count */
	size_t len;
};

/* One request on a connection of its own, read to its end. `headers`: whole lines with CRLF, may be NULL. Fails the test
 * where nobody answers in time. */
struct http_answer http_get(int port, const char *path, const char *headers);
struct http_answer http_get_tls(int port, const char *path, const char *headers);
/* Any bytes; what comes until the peer closes. `status` 0 where it just closes. */
struct http_answer http_send(int port, const void *request, size_t len);
void http_free(struct http_answer *answer);
/* The same as http_get(), of which only the body is wanted and which must succeed. malloc'd. */
char *http_body(int port, const char *path);
/* A connection for any use; the caller's to close. */
int http_connect(int port);

/* The value of a sample by its whole name and labels ("forebay_workers", "x{pool=\"app\"}"), the sum of those whose name
 * and labels begin so where `sum` says. -1: there is none. */
double metric(const char *text, const char *name);
double metric_sum(const char *text, const char *name, const char *labels_with);
/* Of a fresh scrape. */
double metric_now(int port, const char *name);
/* Waits until it is this. */
void await_metric(int port, const char *name, double value);
void await_metric_at_least(int port, const char *name, double value);

#endif
