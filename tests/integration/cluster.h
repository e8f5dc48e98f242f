/*
 * Any number of PostgreSQLs beside the harness's own, each a copy of it as it was when cluster_begin() was called: with
 * its users and databases. A node belongs to the test that makes it; it is stopped when that test's process ends.
 *
 * And networks of the tests' own, where the machine lets us have them: in a network namespace of its own a test can count
 * connection attempts and lose packets without touching anybody else's.
 *
 * All functions fail the test when they cannot do what they are for. Call them from the test's main thread.
 */
#ifndef TESTS_CLUSTER_H
#define TESTS_CLUSTER_H

#include <stdint.h>

#include "harness.h"

long long cluster_now_us(void); /* the monotonic clock */

/* Takes the template. Call in main(), after harness_begin(). */
void cluster_begin(void);

struct network;

struct node {
	int port;
	char host[32];  /* for Forebay's `hosts` */
	char dir[200];  /* the data directory; a superuser's Unix socket is in it */
	char log[256];
	pid_t pid;      /* of the postmaster; 0: it does not run */
	bool frozen;
	long long ready_us; /* when it was last seen to be ready after a start */
	struct network *network;
};

enum node_stop { STOP_FAST, STOP_IMMEDIATE, STOP_KILLED };

/* A copy of the template with further lines of configuration (NULL: none), started. `network` may be NULL. */
struct node *node_new(const char *conf, struct network *network);
/* A streaming standby of this one, by pg_basebackup -R, started. */
struct node *node_standby(struct node *primary);
/* Returns when it is ready (a standby: for queries). */
void node_start(struct node *node);
/* The same in two parts. */
void node_launch(struct node *node);
void node_await_ready(struct node *node);
void node_stop(struct node *node, enum node_stop how);
/* SIGSTOP and SIGCONT, to the postmaster and all of its children. */
void node_freeze(struct node *node);
void node_thaw(struct node *node);
/* The standby becomes a primary; returns when it takes writes. */
void node_promote(struct node *node);
/* While it is stopped: it will start as a standby that follows nobody. */
void node_demote(struct node *node);
/* Further lines of configuration, which win; they count from the next start (or reload) on. */
void node_configure(struct node *node, const char *conf);
/* Stops it and removes its directory. NULL is allowed. */
void node_free(struct node *node);

/* A superuser's connection through the Unix socket, to database app, called "control". */
PGconn *node_control(const struct node *node);
/* The conninfo of it. */
void node_conninfo(const struct node *node, const char *name, char *out, size_t room);

/* Those who probe log in as this user where a test wants to tell them apart. */
#define PROBER "plainuser"

/* Whoever came by TCP, by PostgreSQL's log: logins and cancel requests alike, let in or not; probers aside. */
struct node_visits {
	int attempts;   /* connections made */
	int authorized; /* of them: let in */
	int denied;     /* of them: got a FATAL before being let in */
	int probes;     /* of PROBER's; not counted above */
};
struct node_visits node_visits(const struct node *node);
int node_count(const struct node *node, const char *needle); /* in its log */

/*
 * Puts the calling process into a network namespace of its own: with a loopback and nothing else. False, and a line that
 * says why, where that is not allowed: the test goes on in the machine's network. Call before any thread is started.
 */
bool network_private(void);
/* TCP connections that this network's processes have tried to make and that were refused or timed out, so far; -1 where
 * the network is not private, so that the number would tell nothing. */
long network_failed_connects(void);
/* Sockets of this network by what they are connected to, looked at now. */
struct network_sockets {
	int established, connecting;
};
struct network_sockets network_sockets_to(const char *address, int port);
/* How many were established at one instant, at least: the list is not read in one, so only those count that two readings
 * have seen, which were all there between the two. */
int network_established_to(const char *address, int port);
/* The same of those that are being opened. */
int network_connecting_to(const char *address, int port);

/* A second network, joined to the private one by a cable. NULL, and a line that says why: not possible here. */
struct network *network_new(void);
/* Every packet is lost, in both directions, without a word; or none. */
void network_silence(struct network *network, bool silent);
const char *network_address(const struct network *network); /* its far end */
void network_free(struct network *network);

/* A port of the loopback where every connection attempt goes unanswered: a listener whose backlog is full. */
struct black_hole {
	int port, listener, filler[8];
};
void black_hole_dig(struct black_hole *hole, int port);
void black_hole_fill_in(struct black_hole *hole);

#endif
