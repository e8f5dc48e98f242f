/*
 * Applications that come and stay while Forebay reloads, drains or is replaced, and what became of them, counted.
 *
 * Comers connect, ask for one thing and leave, again and again. Stayers keep their connection and run transactions of one
 * kind each; one that is told to go (57P01, 1053) between two transactions connects anew. Each transaction leaves a row in the table
 * `noted`, so that what was answered can be compared with what was done.
 */
#ifndef TESTS_TRAFFIC_H
#define TESTS_TRAFFIC_H

#include "query.h"

struct traffic_kinds;

struct traffic_setup {
	const struct forebay *forebay;
	const struct traffic_kinds *mysql; /* &traffic_of_mysql (traffic_my.h), or NULL: PostgreSQL's */
	int comers;          /* threads; every other one by the Unix socket */
	int stayers_of_each; /* threads for each kind of transaction */
	bool tls;            /* every fourth comes by TLS */
	bool sessions;       /* the pool "sess" is there, in session mode: it has stayers too */
};

struct traffic_counts {
	long came;      /* comers that were served */
	long refused;   /* comers and stayers that were not let in or not served */
	long committed; /* transactions of stayers whose COMMIT was answered */
	long told;      /* stayers that were told to go between two transactions */
	long cut;       /* transactions that ended otherwise than by their own COMMIT */
};

struct traffic;

/* Makes the table, starts the threads, returns when each has been served once. Listener: auth = trust. */
struct traffic *traffic_start(const struct traffic_setup *setup);
struct traffic_counts traffic_now(struct traffic *traffic);
/* Waits until each has been served once more at least; fails the test when not. */
void traffic_await_more(struct traffic *traffic);
/* Ends the threads and frees it. Fails the test if anybody was refused or cut, or if the rows are not just those whose
 * COMMIT was answered. */
struct traffic_counts traffic_end(struct traffic *traffic);

#endif
