/*
 * Many clients on one thread of the test's process, each doing one small transaction after another, and what became of
 * them. What a client does is timed on its own: from sending until the whole answer is there.
 *
 * Times are microseconds of cluster_now_us(). All functions but load_start() and load_stop() may be called at any time
 * between these, and after load_stop() until load_free().
 */
#ifndef TESTS_LOAD_H
#define TESTS_LOAD_H

#include "cluster.h"

/* What a time in a test is multiplied with: sanitized programs are slow, plain ones are taken at their word. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SLOWNESS = 6 };
#else
enum { SLOWNESS = 1 };
#endif

struct load_setup {
	int port;
	const char *host;         /* NULL: 127.0.0.1; a folder: the Unix socket in it */
	const char *const *users; /* each in turn, with passwords "<name>-secret"; ends in NULL. NULL: app alone */
	const char *database;     /* NULL: app */
	int clients;
	const char *sql;          /* one transaction, in one simple query */
	int hold_ms;              /* the transaction is begun by `sql`, and committed this long after */
	int pause_ms;             /* between two transactions of a client */
	int error_pause_ms;       /* after an error; 0: 50 ms */
	bool parked;              /* clients connect, and do nothing until load_go() */
	bool impatient;           /* load_start() does not wait until they are connected; errors are no failure of it */
	int drain_ms;             /* at the end a client that is still without an answer after this has hung; 0: 45 s */
};

struct load;

/* Starts the thread. Returns when every client is connected; fails the test when they do not. */
struct load *load_start(const struct load_setup *setup);
void load_go(struct load *load);
/* No client begins a transaction after this. */
void load_halt(struct load *load);
/* load_halt(), waits for what is under way, closes all and ends the thread. */
void load_stop(struct load *load);
void load_free(struct load *load);

/* Waits until this many transactions more are done, or fails the test. */
void load_await(struct load *load, long more);

/* How many clients had no answer at load_stop(). */
int load_hung(struct load *load);
/* How long the longest wait for an answer that is under way has lasted so far. */
long long load_longest_wait_us(struct load *load);

/* Of transactions that ended between two moments (0 and LLONG_MAX: at any time): */
long load_done(struct load *load, long long from, long long until);
/* When the first one ended; -1: none. */
long long load_first_done(struct load *load, long long from);
/* The longest time without one that ended. */
long long load_longest_gap(struct load *load, long long from, long long until);
/* Of those that both began and ended in between: the time that this share of them took at most (0.5: the median). -1:
 * there were none. */
long long load_percentile(struct load *load, long long from, long long until, double share);

/* Errors, refused connections among them. */
int load_errors(struct load *load, long long from, long long until);
/* Those whose SQLSTATE or text has this in it. */
int load_errors_with(struct load *load, const char *words);
/* Those that have none of these in them (a list that ends in NULL); prints the first few of them. */
int load_errors_without(struct load *load, const char *const *words);
/* The different ones, with how often each came. */
void load_print_errors(struct load *load, const char *title);

#endif
