/*
 * Watches all the while how many connections a pool has: a thread that asks pg_stat_activity through a connection of its
 * own, as fast as answers come, and looks at the sockets of this machine in between.
 *
 * What it counts are connections of other users than superuser postgres and PROBER, and not those that call themselves
 * "forebay monitor".
 */
#ifndef TESTS_SAMPLER_H
#define TESTS_SAMPLER_H

#include "cluster.h"

struct sampler;

/* `bound` is the number of connections that there may be at most, from now on. */
struct sampler *sampler_start(const struct node *node, int bound);
/*
 * PostgreSQL does not read its list of backends at one instant either: one that has ended while it was read may be counted
 * together with one that has begun. So a sample over the bound is taken once more at once, and what is held against the
 * pool are backends that both have seen, which were all there between the two.
 */
/* Another bound. A sample that is under way at this moment is held against the larger of the two. */
void sampler_bound(struct sampler *sampler, int bound);
void sampler_stop(struct sampler *sampler);
void sampler_free(struct sampler *sampler);

struct samples {
	long taken;
	int most, last;        /* by pg_stat_activity */
	int sockets_most;      /* by established TCP connections of this side */
	long at_first_sight;   /* samples above the bound */
	long over;             /* of them: those that the next one confirmed, as above */
	long sockets_over;     /* looks at the sockets that saw more than the bound */
	char first_over[600];  /* what the first that counts above the bound saw; empty: none */
};
struct samples sampler_get(struct sampler *sampler);

#endif
