/*
 * Names to addresses without blocking a loop. Literal addresses and Unix sockets are answered at once; names by
 * getaddrinfo() on a helper thread, kept for `RESOLVER_TTL_S` seconds and refreshed behind the scenes; while a
 * refresh fails the old answer stays in use.
 */
#ifndef NET_RESOLVER_H
#define NET_RESOLVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/error.h"

struct worker;

enum { RESOLVER_TTL_S = 15, RESOLVER_MAX_ADDRESSES = 16 };

struct resolved {
	int count; /* 0: failed, `error` says why */
	struct {
		struct sockaddr_storage address;
		socklen_t len;
	} at[RESOLVER_MAX_ADDRESSES];
	struct error error;
};

struct resolver_query {
	void *context;                                                         /* the asker's */
	void (*done)(struct resolver_query *query, const struct resolved *answer); /* the asker's thread */
	bool cancelled; /* set by the asker on its own thread: `done` will be called with NULL, only to free the query */
};

/* Starts the helper threads. Main thread, before the workers. False: none could be started. */
bool resolver_start(void);
/*
 * Main thread, before worker_stop(): who still waits is told so by mail, with a failure. Waits for look-ups under
 * way, but no longer than two seconds.
 */
void resolver_stop(void);
/* `host`: a name, an IPv4 or IPv6 address, or an absolute path (a directory: `path/.s.PGSQL.<port>` when
 * `unix_name_format` is ".s.PGSQL.%d"; else the path itself). Answers from within the call when it is known; the
 * query must not be touched by the caller afterwards, then. Worker's thread. */
void resolver_ask(struct resolver_query *query, struct worker *worker, const char *host, int port,
		  const char *unix_name_format);

/*
 * For threads that may wait (no worker's): the answer of a look-up that ended at `since_ns` or later; where none has, one
 * is begun, and waited for until the deadline. Workers get the new answer from then on. False: the deadline has come.
 * `answer` has no addresses where the name was never found; a refresh that failed gives the old ones and `*failed`.
 */
bool resolver_look_up(const char *host, int port, const char *unix_name_format, uint64_t since_ns, uint64_t deadline_ns,
		      struct resolved *answer, bool *failed);
/* Whether the host is a name that has to be looked up, no address and no path. Any thread. */
bool resolver_is_name(const char *host);

#endif
