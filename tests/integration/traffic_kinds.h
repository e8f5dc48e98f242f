/* What traffic.c is told of a protocol: how its clients come in, and the kinds of transactions that they run. */
#ifndef TESTS_TRAFFIC_KINDS_H
#define TESTS_TRAFFIC_KINDS_H

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>

#include "traffic.h"

struct goer {
	struct traffic *traffic;
	const struct traffic_kinds *kinds;
	struct forebay address; /* its port and its sockets' folder: the process may be another by now */
	pthread_t thread;
	int number, kind; /* -1: a comer */
	bool local;       /* by the Unix socket */
	bool tls;
	bool session; /* to the pool "sess" */
	bool in;
	void *conn, *stmt; /* the protocol's */
	char farewell[200];
	_Atomic long served;
};

/* One way in, or one transaction, which leaves the row `id`. */
struct attempt {
	struct goer *goer;
	long id;
	bool begun; /* the first answer was there */
	char error[300];
};

/* Keeps the first error of an attempt. Returns false. */
bool attempt_failed(struct attempt *attempt, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* All but make_table() and count_rows() run on threads that are not the test's: nothing of Check's in them. */
struct traffic_kinds {
	const char *name;
	const char *told; /* in the error of one that is told to go */
	void (*make_table)(void);
	long (*count_rows)(void);
	void (*thread_ends)(void); /* NULL: nothing to be done */
	bool (*enter)(struct attempt *attempt); /* false: nothing is left to leave */
	void (*leave)(struct goer *goer);
	bool (*ask)(struct attempt *attempt);
	int count; /* the last one wants a session */
	bool (*by_kind[10])(struct attempt *attempt); /* false: `error` says how far it has come */
};

extern const struct traffic_kinds traffic_of_postgres;

#endif
