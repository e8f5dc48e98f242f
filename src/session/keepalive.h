/*
 * Trials of servers. An idle one is taken out of the pool now and then and must answer (keepalive_interval); and one
 * that has been idle for a while must answer validation_query, where the pool has one, before a client gets it. The
 * rest is the protocol's (server_validate). Owner worker only.
 *
 * While it is tried a server is SERVER_VALIDATING and busy to the pool; `client_for_trial` may wait for it.
 */
#ifndef SESSION_KEEPALIVE_H
#define SESSION_KEEPALIVE_H

#include <stdbool.h>
#include <stdint.h>

struct client;
struct server;
struct database_view;
struct session_worker;

/* Of one pool that a worker tries at the same time on account of keepalive_interval. */
enum { KEEPALIVE_AT_ONCE = 4 };

/* The view has taken over a configuration: sets its timer. */
void keepalive_arm(struct session_worker *sw, struct database_view *view);

/* The pool has given this server to the client. Whether it may be linked now; else it is closed already, or is tried
 * first, and the client goes on when it has proved alive, or gets another one. `*gone`: it is closed, ask again. */
bool keepalive_admit(struct server *server, struct client *client, bool *gone);
/* The protocol: the trial is over. `error` NULL: it has answered and is clean; else why it is closed. */
void keepalive_answered(struct server *server, const char *error);
/* server.c: the answer is there and its input is over; goes on when nothing is left unsent or unread. */
void keepalive_settle(struct server *server);
/* server.c: its timeout has fired. */
void keepalive_timed_out(struct server *server);
/* server.c: it is closed while it was tried. Returns the client that waited for it: it must get another one. */
struct client *keepalive_closed(struct server *server);
/* client.c: the client waits no more. */
void keepalive_forget(struct client *client);

#endif
