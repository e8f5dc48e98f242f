/* MySQL's halves of a client and a server, private to this folder. */
#ifndef MYSQL_INTERNAL_H
#define MYSQL_INTERNAL_H

#include "mysql/facts.h"
#include "mysql/packet.h"
#include "mysql/relay.h"
#include "mysql/wire.h"
#include "session/account.h"
#include "session/cancel.h"
#include "session/client.h"
#include "session/database.h"
#include "session/server.h"
#include "session/session.h"

/* The variants of an account (behind ACCOUNT_VARIANT, each or both): whose servers log in with MY_CLIENT_FOUND_ROWS, which changes
 * their answers; whose servers have no current schema, for one that has cannot be made to have none again. */
#define MY_FOUND_ROWS_ACCOUNT "found_rows"
#define MY_NO_SCHEMA_ACCOUNT "no_schema"

struct my_login;        /* client_login.c: while a client is not logged in */
struct my_server_login; /* server_login.c: while a server is not */

/* What a client has asked for at its login. */
struct my_client_start {
	uint32_t capabilities; /* agreed on: what it asked for and we have offered; 0: nothing yet (see my_put_err()) */
	uint16_t collation;    /* that it named; its character set is that of client, results and connection */
	char *schema;          /* current at its start; owned; NULL: none */
	char *program;         /* connect attribute program_name; owned; NULL: none */
};

struct my_client {
	struct client base;

	struct my_login *login; /* NULL: it is logged in */
	struct my_client_start start;
	uint32_t listener;      /* by generation_name_hash(), for COM_CHANGE_USER */
	uint8_t scramble[MY_SCRAMBLE]; /* the last challenge that it was sent */
	uint8_t sequence;       /* of the next packet to it */
	bool told_fatal : 1;    /* has been sent an error that ends its connection: nothing may follow it */
	bool mid_message : 1;   /* has been sent a part of a packet, or of an answer: no error of ours may follow it */

	struct my_client_relay relay; /* relay.h: all that follows login */
};

struct my_server {
	struct server base;

	struct my_server_login *login; /* NULL: it is logged in */
	struct my_server_facts facts;
	uint16_t collation;            /* that we named at its login: what a reset goes back to */

	struct my_server_relay relay;  /* relay.h: all that follows login */
};

static inline struct my_client *my_client(struct client *c) {
	return (struct my_client *)c;
}
static inline struct my_server *my_server(struct server *s) {
	return (struct my_server *)s;
}

/* What is kept for each worker. */
struct my_worker {
	struct slab logins; /* struct my_login */
	struct my_worker_relay relay;
};
static inline struct my_worker *my_worker(struct session_worker *sw) {
	return sw->protocol_state[PROTOCOL_MYSQL];
}

/* listener.c: protocol.listener_setup and listener_free. */
void *my_listener_setup(const struct listener_config *listener, struct error *error);
void my_listener_free(void *setup);
/* protocol.pool_setup and pool_free: the backend's public RSA key. */
void *my_pool_setup(const struct pool_config *pool, struct error *error);
void my_pool_free(void *key);

/* client_login.c. Consumes as protocol.client_input. Ends by my_client_logged_in(), or closes the client. */
void my_logins_init(struct slab *logins);
bool my_login_begin(struct my_client *client);
size_t my_login_input(struct my_client *client, const uint8_t *data, size_t len);
void my_login_secured(struct my_client *client);
/* The sequence of an error that nobody has asked for. */
uint8_t my_login_unasked(struct my_client *client);
/* The names in its handshake response; NULL: it has not come. */
void my_login_names(const struct my_client *client, const char **database, const char **user);
void my_login_free(struct my_client *client); /* frees client->login, wiped, and detaches look-ups under way */

/* change_user.c: COM_CHANGE_USER, the body behind the command's byte; of a client with nothing outstanding. Its server is
 * taken from it; from here on its input goes to its login again, which ends by my_client_changed_user(), or closes it. What
 * is secret in the body is wiped. */
void my_change_user(struct my_client *client, const uint8_t *body, size_t len);

/* server_login.c. Ends by my_server_logged_in() or server_failed(). */
bool my_server_login_begin(struct my_server *server);
struct my_credential;
struct my_dial_target;
/* How this server logs in, for others that do as it does: on the same address, to the same user. `user` is room for the
 * name. The texts live as long as the server's configuration: no longer than the callback that asks. */
void my_server_target(const struct my_server *server, struct my_credential *credential, char user[MY_USER_MAX + 1],
		      struct my_dial_target *target);
size_t my_server_login_input(struct my_server *server, const uint8_t *data, size_t len);
void my_server_login_secured(struct my_server *server);
void my_server_login_free(struct my_server *server);

/* errors.c. */
/* Sends an ERR with client->sequence, which it counts up. Does not close. False: out of memory. */
bool my_send_error(struct my_client *client, uint16_t code, const char *sqlstate, const char *message);
/* Sends an OK of our own. */
bool my_send_ok(struct my_client *client, const struct my_ok *ok);
/* The sqlstate that servers send with an error of ours. */
const char *my_sqlstate(uint16_t code);
/* protocol.client_refuse. Where it is not fatal, my_refused() follows. */
void my_client_refuse(struct client *client, enum refusal why, const char *text, bool fatal);

extern const struct protocol mysql_protocol;

#endif
