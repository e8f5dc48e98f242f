/*
 * What the drills share: a hundred clients on a pool of ten, whose server is the drill's own, and a few clients of a second
 * pool on another server, who must notice nothing of what happens to the first.
 *
 * A drill is seen through to its end: what was not as it should be is gathered, printed as it comes, and fails the test in
 * drill_free().
 *
 * Where the test may have a network of its own (as root), attempts to connect are counted. Times are strict in a plain
 * build. FOREBAY_DRILLS=full runs each drill with 1 worker as well as with 4, for which there is not always the time.
 */
#ifndef TESTS_DRILL_H
#define TESTS_DRILL_H

#include <limits.h>

#include "cluster.h"
#include "load.h"
#include "query.h"

enum { CLIENTS = 100, SERVERS = 10, BYSTANDERS = 5 };

/* How long things are broken: on sanitizers not as long, for there is more to do then. */
enum { OUTAGE_MS = SLOWNESS > 1 ? 2000 : 5000, STANDSTILL_MS = SLOWNESS > 1 ? 3000 : 8000 };

/* How long it may take at most after a drill until the pool is whole again. */
enum { RECOVERY_MS = 10000 };

struct drill {
	const char *name;
	int workers;
	bool private;
	struct node *node;
	struct forebay *forebay;
	struct load *load, *bystanders;
	PGconn *control; /* of the node; not there while it is down */
	long long began, struck, over;
	struct node_visits visits;
	long failed_connects;
	char blame[1000]; /* what was not as it should be, so far: a drill is seen through to its end */
};

struct drill_setup {
	const char *name, *pool, *process, *more, *hosts, *sql;
	int workers, size, clients; /* size 0: SERVERS; clients 0: CLIENTS, -1: none */
	bool parked, impatient;
	struct network *network;
	struct node *node;    /* NULL: a new one */
};

/* Errors of those whose connection to the database was lost under their query. Ends in NULL. */
extern const char *const DRILL_LOST[];

struct drill drill_begin(const struct drill_setup *setup);
/* The same; returns when all connections of the pool are at work. */
struct drill drill_begin_at_full_speed(const struct drill_setup *setup);
/* From now on things are counted; drill_begin() has called it too. */
void drill_strike(struct drill *drill);
/* The pool is whole again by itself and nobody hangs; then drill_free(). */
void drill_end(struct drill *drill);
/* Ends all. Fails the test where there was something to blame. */
void drill_free(struct drill *drill);
/* True: not to be tried on PostgreSQL itself. */
bool drill_skip(void);

void blame(struct drill *drill, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Of clients, with the node; monitors' aside. */
int count_connections(PGconn *control);
void await_connections(struct drill *drill, int n, int timeout_ms);
/* Since the strike: connections made to the node, those of them that were not let in, and connects that were refused or led
 * nowhere (-1: not known). */
int drill_attempts(const struct drill *drill);
int drill_denied(const struct drill *drill);
long drill_refused(const struct drill *drill);

/* How many ms after `from` somebody was served; fails the test when nobody is. */
long long served_after_ms(struct drill *drill, long long from);
/* The limit is lengthened by the time that no bystander was served in between. */
void expect_served_within(struct drill *drill, long long from, int limit_ms);
/* Since the strike, and in the load's whole time all of them with one of these words (NULL: whatever). */
void expect_errors(struct drill *drill, int most, const char *const *words);
void expect_at_most(struct drill *drill, const char *what, long n, long most);
/* Ends the bystanders' load. drill_end() calls it. */
void expect_bystanders_unmoved(struct drill *drill);

int drill_full(void); /* FOREBAY_DRILLS=full */
#define DRILL(tcase, test) tcase_add_loop_test(tcase, test, drill_full() ? 0 : 1, 2)
/* One case for each row of drills, so that CK_RUN_CASE picks it. */
TCase *drill_case(Suite *suite, const char *name);

#endif
