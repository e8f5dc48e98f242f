/*
 * What a client may not do for ever. Each client has one timeout, armed lazily: it is set for the earliest time at
 * which anything could be due, and when it fires all is worked out anew from the client's state. So a transaction costs
 * no change to the worker's timeouts as long as one that is early enough is pending.
 *
 * Each kind of limit is a pair of functions: one tells when it would be due as things stand, the other acts. Owner
 * worker only.
 */
#ifndef SESSION_WATCH_H
#define SESSION_WATCH_H

struct client;
struct timeout;

/* Something has begun (waiting, a transaction, a query, idleness) that may be due earlier than what is armed. */
void client_watch(struct client *client);
/* The client's timeout has fired, and it is neither in login nor closing. Acts on what is due, arms anew. May close the
 * client. */
void client_watch_expired(struct client *client);

#endif
