/*
 * The HTTP listener: /metrics, /healthz, /readyz and the status page. libmicrohttpd serves each address on a thread of
 * its own, beside the workers. What comes in is bounded: connections, their memory, the time that a request and its answer
 * may take, and how many large answers are kept for those that read slowly.
 *
 * Its settings hold until the process ends: a reload that changes them says that they need a restart. What is shown
 * follows a reload at once. Main thread, where nothing else is said.
 */
#ifndef ADMIN_HTTP_H
#define ADMIN_HTTP_H

#include <stdbool.h>

#include "base/error.h"
#include "config/config.h"

struct http;

/* Descriptors that it may need. */
enum { HTTP_CONNECTIONS_MAX = 64, HTTP_DESCRIPTORS = HTTP_CONNECTIONS_MAX + 16 };

/* Opens the sockets of metrics_listen, or takes inherited ones, and reads the TLS files, before the process becomes another
 * user; a reference to the configuration is taken. NULL: `error` says why; an address that is taken is such a reason, unless
 * the process before, whom this one `replaces`, may have it: then it is opened by http_start(). */
struct http *http_open(struct config *config, bool replaces, struct error *error);
/* Whether this process may read the TLS files. False: `error` says which one it may not, or what is wrong with it. */
bool http_try_tls(const struct config *config, struct error *error);
/* Answers from now on; the workers run, and the process before, if there was one, has let go of the sockets. False: `error`
 * says why. */
bool http_start(struct http *http, struct error *error);
/* Each listening socket, for a process that takes over. */
void http_each(const struct http *http, void (*each)(void *context, const char *address, int fd, bool managed), void *context);
/* The configuration that is in force from now on: what it says of pools. */
void http_reload(struct http *http, struct config *config);
/* About once a second: ends connections that take too long, and takes the samples that the status page shows. */
void http_tick(struct http *http);
/* The process finishes what is open and takes no more: /readyz says so. */
void http_drain(struct http *http);
/* Ends all connections and threads, while the workers still run; frees it. NULL is fine. */
void http_close(struct http *http);
/* The same, where another process has the sockets, which stay as they are, and their files. */
void http_hand_over(struct http *http);

#endif
