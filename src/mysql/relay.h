/*
 * What follows login: the halves of a client, a server and a worker that the relay keeps, embedded in those of
 * internal.h, and the functions by which login and protocol.c hand over to it. Private to this folder.
 */
#ifndef MYSQL_RELAY_H
#define MYSQL_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "session/cancel.h"
#include "session/console.h"
#include "session/protocol.h"

struct my_client;
struct my_server;

struct my_client_relay {
	uint8_t unused;
};

struct my_server_relay {
	uint8_t unused;
};

struct my_worker_relay {
	uint8_t unused;
};

/* A connection that carries a KILL QUERY: session/cancel.h. */
struct my_cancel {
	struct cancel base;
};

/* Each worker's. */
bool my_relay_worker_init(struct my_worker_relay *worker);
void my_relay_worker_free(struct my_worker_relay *worker);

/* Login is done (client_logged_in() has been called, client->start is filled in): sets up the session's state. The OK
 * follows this. False: out of memory. */
bool my_client_logged_in(struct my_client *client);
/* From the first command on; as protocol.client_input. */
size_t my_frontend_input(struct my_client *client, const uint8_t *data, size_t len);
/* Its request was answered with an error of ours: skip it. The client stays usable. */
void my_refused(struct my_client *client, const char *text);
bool my_client_linked(struct client *client, struct server *server);
void my_client_activity(const struct client *client, struct activity *activity);
void my_client_cut(struct client *client);
bool my_client_roll_back(struct client *client, enum deadline why, const char *text);
void my_client_relay_describe(const struct my_client *client, struct console_details *details);
/* Also of a client that never logged in. */
void my_client_relay_free(struct my_client *client);

/* Connected; login comes first. False: out of memory. */
bool my_server_relay_begin(struct my_server *server);
/* Login is done (server->facts are filled in): turns the trackers on, runs init_sql, and ends in server_ready() or
 * server_failed(). */
void my_server_logged_in(struct my_server *server);
size_t my_backend_input(struct my_server *server, const uint8_t *data, size_t len);
bool my_server_clean(const struct server *server);
bool my_server_busy(const struct server *server);
enum server_use my_server_use(const struct server *server);
void my_server_statements(const struct server *server, enum statement_text as, struct server_statements *out);
void my_server_recover(struct server *server);
void my_server_reset(struct server *server);
void my_server_uncancelled(struct server *server);
void my_server_validate(struct server *server, const char *sql);
/* COM_QUIT, where it can be sent. Only of a server that is logged in. */
void my_server_goodbye(struct server *server);
void my_server_moving(struct server *server);
void my_server_relay_describe(const struct my_server *server, struct console_details *details);
/* Also of a server that never logged in. */
void my_server_relay_free(struct my_server *server);

void my_cancel_begin(struct cancel *cancel);
size_t my_cancel_input(struct cancel *cancel, const uint8_t *data, size_t len);
void my_cancel_secured(struct cancel *cancel);

#endif
