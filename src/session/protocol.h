/*
 * The one seam between the neutral core and a wire protocol. The core knows connections, ownership, pools, time
 * and back-pressure; a protocol knows messages. A protocol's client and server structs begin with struct client and
 * struct server, so that one allocation holds both halves.
 *
 * All functions run on the worker thread that owns the connection, except where it says so.
 *
 * Input: the core hands over all bytes it holds; the protocol consumes whole messages (or pieces of large ones) and
 * returns how many bytes it took. It stops early when a message is incomplete, or when the client must wait
 * (client->hold says for what); what is left is kept and handed over again with what comes next, or at
 * client_resume().
 */
#ifndef SESSION_PROTOCOL_H
#define SESSION_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "config/config.h"
#include "pool/pool.h"

struct client;
struct server;
struct cancel;
struct account;
struct generation;
struct console_details;
struct session_worker;

/* Why a client gets an error from us; each protocol maps it to its own code. */
enum refusal {
	REFUSAL_TIMEOUT,       /* no connection became free within acquire_timeout */
	REFUSAL_QUEUE_FULL,    /* max_waiting */
	REFUSAL_UNAVAILABLE,   /* the backend cannot be reached or refuses the login */
	REFUSAL_SHUTDOWN,      /* the process stops, or an operator ended this client */
	REFUSAL_TOO_MANY,      /* max_clients, max_connections */
	REFUSAL_LOGIN_TIMEOUT, /* client_login_timeout */
	REFUSAL_BACKEND_LOST,  /* its server connection broke while it held it */
	REFUSAL_CANCELLED,     /* the application cancelled it while it waited */
	REFUSAL_MODE,          /* not allowed in this pool mode */
	REFUSAL_KILLED,        /* another client of the same user has ended it (session/kill.h) */
	REFUSAL_IDLE_TIMEOUT,
	REFUSAL_LEAK,          /* leak_action = close: it held a connection and left it unused */
	REFUSAL_QUERY_TIMEOUT, /* the three below only where what runs could not be ended otherwise */
	REFUSAL_TRANSACTION_TIMEOUT,
	REFUSAL_IDLE_TRANSACTION_TIMEOUT,
	REFUSAL_INTERNAL       /* an invariant did not hold; logged */
};

/* The time limits of a client that is logged in: session/deadline.h. */
enum deadline {
	DEADLINE_NONE,
	DEADLINE_QUERY,
	DEADLINE_TRANSACTION,
	DEADLINE_IDLE_TRANSACTION,
	DEADLINE_IDLE,
	DEADLINE_KINDS
};

/* What a client that holds a server is in the midst of: since when; 0: it is not. */
struct activity {
	uint64_t request_ns;     /* a request of its own is under way on the server */
	uint64_t transaction_ns; /* a transaction is open there, or a batch that may be one */
	bool exempt;             /* what runs is meant to run for ever (replication) */
};

/* What a server is to the client that holds it: at work for it, or kept by it although only it can take the next step. */
enum server_use {
	SERVER_IN_USE,
	SERVER_HELD_SESSION,     /* clean: it is kept because the session keeps it */
	SERVER_HELD_TRANSACTION,
	SERVER_HELD_FAILED,      /* in a transaction that has failed */
	SERVER_HELD_BATCH,       /* all that was sent is answered, but the batch was not ended */
	SERVER_HELD_COPY,        /* waits for copy data */
	SERVER_HELD_MESSAGE      /* waits for the rest of a message */
};

enum { STATEMENT_SHOWN_MAX = 264 };
/* By what a client's transaction began, and its last statement; the caller has zeroed it. */
struct server_statements {
	uint64_t since_ns; /* when the transaction began; 0: unknown */
	char first[STATEMENT_SHOWN_MAX], last[STATEMENT_SHOWN_MAX];
};

struct protocol {
	const char *name;
	enum protocol_id id;
	size_t client_size, server_size, cancel_size;
	const char *unix_name_format; /* socket file in a directory, with %d for the port; NULL: the path itself */

	/* Per listener: what login needs from files (HBA). Control or main thread. NULL with `error` set: refused. */
	void *(*listener_setup)(const struct listener_config *listener, struct error *error);
	void (*listener_free)(void *setup);
	/* The same per pool: what servers' logins need from files. NULL without an error: nothing. May be NULL, both. */
	void *(*pool_setup)(const struct pool_config *pool, struct error *error);
	void (*pool_free)(void *setup);

	/* Clients. */
	void (*client_begin)(struct client *client); /* accepted; nothing read yet */
	size_t (*client_input)(struct client *client, const uint8_t *data, size_t len);
	void (*client_secured)(struct client *client); /* the TLS handshake that it asked for is done */
	/* A server was linked. True: ready. False: it is being prepared for this client (settings); the protocol calls
	 * client_resume() when done. */
	bool (*client_linked)(struct client *client, struct server *server);
	/* Say it in the protocol's form. `fatal`: the client is closed after it; else it must stay usable: the request
	 * that asked for the server is answered with this error and skipped. */
	void (*client_refuse)(struct client *client, enum refusal why, const char *text, bool fatal);
	void (*client_notice)(struct client *client, const char *text);
	/* A cancel request came for one that neither waits for a server nor has one, or (KILL) for which one is being prepared.
	 * May be NULL. */
	void (*client_cancel)(struct client *client);
	/* For deadlines; only of a client that is linked. */
	void (*client_activity)(const struct client *client, struct activity *activity);
	/* A cancel is on its way to what runs for it (server->cut says why): does what else may end it. */
	void (*client_cut)(struct client *client);
	/* Nothing runs, but a transaction is open: rolls it back and sees to it that the client is told `text` and takes
	 * its transaction for a failed one. The server is taken from it unless it keeps it. False: this cannot be done;
	 * nothing has been. */
	bool (*client_roll_back)(struct client *client, enum deadline why, const char *text);
	/* What a client that is logging in has named so far; NULL: nothing yet. Valid until it is logged in. */
	void (*client_names)(const struct client *client, const char **database, const char **user);
	void (*client_free)(struct client *client); /* frees what the protocol hung on it */
	/* What only the protocol knows of it, for the console (session/console.h). May be NULL. */
	void (*client_describe)(const struct client *client, struct console_details *details);

	/* Servers. */
	void (*server_begin)(struct server *server); /* connected (plain): log in; server_ready() or server_failed() ends it */
	void (*server_secured)(struct server *server);
	size_t (*server_input)(struct server *server, const uint8_t *data, size_t len);
	/* Clean for another client: last ready message idle, nothing outstanding, no copy, no half-sent message. */
	bool (*server_clean)(const struct server *server);
	/* A request is under way whose end a cancel could hasten. */
	bool (*server_busy)(const struct server *server);
	/* What its client has asked for is under way there: what KILL is for. NULL where there is none. */
	bool (*server_at_work)(const struct server *server);
	enum server_use (*server_use)(const struct server *server);
	/* What its client has said, as far as statement_text lets it be shown. */
	void (*server_statements)(const struct server *server, enum statement_text as, struct server_statements *out);
	/* No client any more: bring it to a clean state (drain, roll back, reset); server_recovered() or server_close(). */
	void (*server_recover)(struct server *server);
	/* A session ended cleanly (session mode): run the reset; server_recovered() or server_close(). */
	void (*server_reset)(struct server *server);
	/* While it is recovered or has a client: no cancel request is under way for it any more. */
	void (*server_uncancelled)(struct server *server);
	/* It was idle: must it answer? Sends a cheap trial (`sql` NULL) or this query; keepalive_answered() ends it. */
	void (*server_validate)(struct server *server, const char *sql);
	void (*server_goodbye)(struct server *server); /* write the protocol's farewell, before a close */
	/* It leaves for another worker: let go of what belongs to this one. */
	void (*server_moving)(struct server *server);
	void (*server_free)(struct server *server);
	void (*server_describe)(const struct server *server, struct console_details *details); /* as client_describe() */

	/* What the protocol keeps for each worker; worker_free when the worker has ended. */
	void *(*worker_new)(struct session_worker *sw);
	void (*worker_free)(void *state);

	/* A connection that only carries a cancel of `server`'s request: cancel_finished() ends it. */
	void (*cancel_begin)(struct cancel *cancel);
	bool cancel_ends_by_close; /* the backend closes that connection when the cancel has taken effect */
	size_t (*cancel_input)(struct cancel *cancel, const uint8_t *data, size_t len);
	void (*cancel_secured)(struct cancel *cancel);
	void (*cancel_free)(struct cancel *cancel); /* frees what the protocol hung on it; may be NULL */

	/* Opaque parts of an account. Any thread. */
	void (*credential_unref)(void *credential);
	void (*welcome_unref)(void *welcome);
	/* The credential of a pool's fixed user, from configuration. NULL: out of memory. Main or control thread. */
	void *(*credential_fixed)(const char *user, const char *password);
};

const struct protocol *protocol_by_id(enum protocol_id id);
/* main() registers each; before any thread starts. */
void protocol_register(const struct protocol *protocol);

#endif
