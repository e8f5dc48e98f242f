/*
 * wait_notice_after: a client that waits for a connection is told so, and its place, when it has waited that long, and
 * again after intervals that double (5 s, then 10 s, 20 s ...).
 *
 * Its place counts all that wait for the pool, on all workers: so the workers are asked in turn, by one inquiry at a
 * time for each pool and worker, which serves all whose notice has come due meanwhile. With several users it is about
 * right only: they are served in turn. Owner worker only.
 */
#ifndef SESSION_WAIT_NOTICE_H
#define SESSION_WAIT_NOTICE_H

#include <stdint.h>

struct client;

/* When the client, which is CLIENT_WAITING, is to be told next (session/watch.h); TIME_NEVER. */
uint64_t wait_notice_next(const struct client *client);
void wait_notice_due(struct client *client);

#endif
