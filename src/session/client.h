/* A client: one connection of an application. It lives with one worker for life. */
#ifndef SESSION_CLIENT_H
#define SESSION_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "net/stream.h"
#include "net/stream_peer.h"
#include "net/worker.h"
#include "pool/pool.h"
#include "session/protocol.h"

struct cancel_ticket;
struct claim;
struct database;
struct user_places;
struct session_worker;
struct listener_runtime;

enum client_state {
	CLIENT_LOGIN,   /* not logged in yet; counts against max_login_clients */
	CLIENT_IDLE,    /* logged in, no server, no request under way */
	CLIENT_WAITING, /* in the pool's queue */
	CLIENT_ACTIVE,  /* linked to a server */
	CLIENT_CONSOLE, /* an operator on the console; never has a server */
	CLIENT_CLOSED
};

/* Why input is not consumed at the moment. */
enum client_hold {
	HOLD_NONE,
	HOLD_SERVER,  /* waits for a server */
	HOLD_PREPARE, /* the server is being prepared for it */
	HOLD_OUTCOME, /* what comes next depends on an answer that is under way */
	HOLD_LOGIN    /* a look-up or a password hash is under way on another thread */
};

enum {
	CLIENT_INPUT_MAX = 64 * 1024,  /* bytes kept of a client that must wait; then it is not read */
	OUTPUT_HIGH_WATER = 64 * 1024, /* unsent bytes to one side at which the other is not read */
	MESSAGE_HOLD_MAX = 16 * 1024   /* a message up to this size is forwarded whole; larger ones stream */
};

/*
 * All that an idle client is, but for its protocol's half, its entry in the registry and what libev keeps for each
 * descriptor: it counts thousandfold. What it needs only while it has or wants a server is its claim's.
 */
struct client {
	/* now and then */
	struct deferred later; /* goes on with its input; once it is closed: frees it */
	struct listener_runtime *listener; /* referenced while in login */
	struct cancel_ticket *ticket;      /* of the cancel request that it brought; NULL: none */
	struct user_places *places;        /* it has one of its user's; NULL until login */
	struct stream_peer peer;
	uint32_t id; /* public: in logs, the console, cancel keys; unique in the process */
	uint64_t connected_ns, wait_ns_total;

	/* read or written in each transaction; the protocol's half goes on from here */
	struct stream stream;
	enum client_state state : 8;
	enum client_hold hold : 8;
	bool closing : 1;         /* has been told why; its side is read to the end, within bounds, so that it gets to see it */
	bool goodbye_wanted : 1;  /* to be told 57P01 at its next transaction boundary */
	bool has_place : 1;       /* counts against max_clients; else it is only told so */
	bool has_login_place : 1; /* counts against max_login_clients */
	bool in_input : 1;        /* client_input() is on the stack */
	bool resume_wanted : 1;   /* client_resume() was called meanwhile */
	bool keeps_server : 1;    /* session pooling, or one to one: not released at transaction ends */
	bool dedicated : 1;       /* wants a server connection that is its own (replication) */
	bool begin_deferred : 1;  /* in a transaction of which no server knows yet (only where a protocol does so) */
	const struct protocol *protocol;
	struct session_worker *sw;
	struct buf in;            /* received, not consumed */
	struct database *database; /* NULL until login */
	struct pool_shard *shard; /* its pool's on this worker; NULL until login */
	struct pool_user *user;   /* referenced; NULL until login */
	struct server *server;    /* linked; NULL: none */
	struct claim *claim;      /* while it waits for a server or has one; NULL: it is idle */
	struct list node;         /* the list of its state, in the session_worker */
	struct timeout timeout;
	uint64_t request_ns;
	uint64_t answered_ns;     /* when the last answer ended: idle since then, if nothing is under way */
	uint64_t transactions, queries;
};
_Static_assert(sizeof(void *) != 8 || sizeof(struct client) <= 368, "an idle client is kept small: doc/architecture.md");

/* Accepted from `peer`; takes over fd. The worker's count of clients has it already. */
void client_accept(struct session_worker *sw, struct listener_runtime *listener, int fd, const struct sockaddr *peer,
		   socklen_t peer_len);
/* Login done, as `name` (the pool may log in as another user). `user` reference is taken over. Leaves CLIENT_LOGIN. False:
 * max_connections of the pool or of the user is reached; the client was told so and is closing. */
bool client_logged_in(struct client *client, const char *name, struct database *database, struct pool_user *user);
/* The same once more: a client without a server has proved itself anew (MySQL's COM_CHANGE_USER), on the listener that is
 * set. It keeps its state, CLIENT_IDLE. */
bool client_changed_user(struct client *client, const char *name, struct database *database, struct pool_user *user);
/* Login done as an operator. */
void client_is_console(struct client *client);
/* Sends bytes to the application. */
static inline bool client_write(struct client *client, const void *data, size_t len) {
	return stream_write(&client->stream, data, len);
}
/* Asks the pool for a server. True: linked and ready now (or refused already: look at state). False: client->hold is
 * set; input goes on when the server is there. */
bool client_want_server(struct client *client);
/* What the pool gave it was dead: it asks for another, within the time it still has. */
void client_try_another(struct client *client);
/* Goes on with its input, unless it waits by then, when no callback is on the stack any more. */
void client_wake(struct client *client);
/* Input may go on (what it was held for is there). */
void client_resume(struct client *client);
/* Close after what is queued has been sent. The server, if any, is recovered or released. */
void client_close(struct client *client, const char *reason);
/* The same with an error to the application first. */
void client_end(struct client *client, enum refusal why, const char *text);
/* Closes at once, without a word. */
void client_destroy(struct client *client, const char *reason);
/* While draining: says goodbye if the client is to be told, is at a boundary now and has sent nothing that is not answered. */
void client_maybe_goodbye(struct client *client);
/* Links a server that the pool gave. */
void client_link(struct client *client, struct server *server);
/* The server left it (released or lost). */
void client_unlink(struct client *client);
/* Its server is taken from it and recovered; the client lives on without one. */
void client_lose_server(struct client *client);
/* Its server is lost, but nothing of its own was on it: it goes on with another. */
void client_lose_untouched(struct client *client);
/* The pool has nothing for it. */
void client_not_served(struct client *client, enum refusal why, const char *text);
/* Reading goes on or stops, by how much is kept and how much the other side has not taken yet. */
void client_gate(struct client *client);
/* Moves it to the list of its new state. */
void client_set_state(struct client *client, enum client_state state);
/* Cancel while it waits in the queue: leaves the queue; the protocol answers. False: it was not waiting. */
bool client_stop_waiting(struct client *client);

#endif
