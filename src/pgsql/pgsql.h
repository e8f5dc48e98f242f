/* PostgreSQL's halves of a client and a server, private to this folder. */
#ifndef PGSQL_PGSQL_H
#define PGSQL_PGSQL_H

#include "pgsql/aborted.h"
#include "pgsql/begin.h"
#include "pgsql/greeting.h"
#include "pgsql/normalize.h"
#include "pgsql/prepared.h"
#include "pgsql/queue.h"
#include "session/settings.h"
#include "pgsql/wire.h"
#include "session/account.h"
#include "session/cancel.h"
#include "session/client.h"
#include "session/database.h"
#include "session/server.h"
#include "session/session.h"

struct pg_login;        /* client_login.c: while a client is not logged in */
struct pg_server_login; /* server_login.c: while a server is not */
struct pg_console;      /* console.c: of an operator's client */

enum pg_replication { PG_REPLICATION_NONE, PG_REPLICATION_PHYSICAL, PG_REPLICATION_LOGICAL };

/* What the request under way has put back to what the session started with. */
enum pg_reset { PG_RESET_NOTHING, PG_RESET_NAMED /* what reset_name says */, PG_RESET_ALL };

struct pg_client {
	struct client base;

	/* read or written in each transaction */
	struct pg_login *login;     /* NULL: it is logged in */
	struct pg_console *console; /* NULL: it is no operator */
	struct pg_aborted *aborted; /* aborted.c: a time limit has rolled its transaction back; NULL: none */
	bool skip_to_sync : 1;      /* an error was reported: its messages are skipped up to Sync, as PostgreSQL does */
	bool refused : 1;           /* its next request was answered with an error: skip that one */
	bool told_fatal : 1;        /* has been sent a FATAL error: nothing may follow it */
	bool welcome_pending : 1;   /* logged in, but what its server reports is not known yet */
	bool unnamed_passed : 1;    /* its unnamed statement is on this server, too long to be remembered */
	bool mid_message : 1;       /* has been sent a part of a message: nothing of ours may follow it */
	bool restored : 1;          /* start-up parameters were put back in `settings`, not yet on the server it keeps */
	enum pg_reset reset : 2;    /* RESET or DISCARD ALL has run: its start-up parameters are to be put back */
	enum pg_replication replication : 2;
	uint8_t minor;              /* of the protocol: 0 or 2 */
	uint32_t batch;             /* counts its Syncs and Queries: which batch a change belongs to; from 1 */
	uint32_t discard;           /* bytes still to come of a message that goes to nobody */
	uint32_t portal_batch;      /* in which `portal` was bound */
	struct settings *settings;  /* what it wants on its server: what servers report, and its start-up parameters */
	struct pg_text *portal;     /* of the unnamed portal, where its kind matters; referenced */
	char *reset_name;           /* what the RESET under way names, owned; NULL: it is not known */
	struct settings *before;    /* `settings` when its last request ended */
	struct settings *begun;     /* ... when its transaction began */
	struct pg_names names;      /* its prepared statements by name */
	struct settings *startup;   /* its start-up parameters: what RESET goes back to */
};
_Static_assert(sizeof(void *) != 8 || sizeof(struct pg_client) <= 480, "an idle client is kept small: doc/architecture.md");

enum { PG_SETTINGS_MAX = 150 }; /* that a client may ask for when it starts */

/* What we ask of a server on our own account; at most one at a time. */
enum pg_task {
	PG_TASK_NONE,
	PG_TASK_INIT,     /* init_sql */
	PG_TASK_UNTOUCH,  /* undo what another client has left, before a new one is linked */
	PG_TASK_SETTINGS, /* give it the client's settings */
	PG_TASK_SYNC,     /* recovery: end an open batch */
	PG_TASK_ROLLBACK, /* recovery: end the transaction */
	PG_TASK_RESET,    /* reset_sql */
	PG_TASK_ABORT,    /* make the client's transaction fail */
	PG_TASK_FENCE,    /* an empty query, to learn that no other answer is under way */
	PG_TASK_BEGIN,    /* the client's BEGIN, which it believes done */
	PG_TASK_VALIDATE  /* a Sync or validation_query, to learn that it is alive */
};

enum pg_touched { PG_TOUCHED_SETTINGS = 1, PG_TOUCHED_PREPARED = 2, PG_TOUCHED_LISTEN = 4, PG_TOUCHED_CURSORS = 8 };

struct pg_server {
	struct server base;

	/* read or written in each transaction */
	struct pg_server_login *login;   /* NULL: it is logged in */
	struct settings *settings;       /* in force on it */
	struct pg_queue queue;           /* outstanding requests */
	uint64_t passing;                /* bytes still to come of a server's message in passing */
	uint64_t half_sent;              /* bytes still to come of a client's message that has begun to leave */
	uint64_t transaction_since_ns;
	enum pg_ended { PG_ENDED_NOT, PG_ENDED_ROLLBACK, PG_ENDED_COMMIT } ended; /* within the Query under way */
	uint32_t swallowed_syncs;        /* sent while it was copying in, which ignores them */
	uint32_t uncertain;              /* of those, how many may be answered after all, for the copy failed */
	uint32_t touched;                /* enum pg_touched: what transactions have left in the session */
	bool passing_to_client;          /* whether they go to the client or to nobody */
	bool open_batch;                 /* extended messages were sent since the last Sync or Query */
	bool batch_failed;               /* ... and the server skips what comes up to a Sync */
	bool copy_input_done;            /* in copy: its CopyDone or CopyFail has been sent */
	bool fence_seen;                 /* the empty query was answered: its ReadyForQuery is next */
	bool recovering, task_failed;
	bool replayable, replayed;       /* the batch under way may be sent again; has been */
	bool let_finish;                 /* its client said goodbye: what it asked for last is not cancelled */
	bool reset_done;                 /* recovery: reset_sql was run */
	bool init_done;                  /* recovery: init_sql was run again */
	char copy;                       /* 0, or G, H, W: the copy under way */
	char status;                     /* of the last ReadyForQuery: I, T, E; 0: none yet */
	uint8_t said_count;              /* of `said`, what is there: 0, 1 (it was the last, too), 2 */
	struct pg_statements statements; /* prepared on it by us */
	struct buf replay;               /* the batch under way, as sent, if it may have to be sent again */
	struct pg_said said[2];          /* of its client: by what its transaction began, and the last statement */

	/* now and then */
	struct settings *defaults;       /* what its session started with */
	struct timeout nudge;            /* recovery: cancel if it has not ended by then */
	char task_sqlstate[6];
	char task_error[256];
	uint32_t backend_pid;
	uint16_t cancel_key_len;
	uint8_t cancel_key[PG_CANCEL_KEY_MAX];
};

/* A connection that carries a cancel request: pg_cancel.c. */
struct pg_cancel {
	struct cancel base;
	bool tls_asked; /* SSLRequest is sent, its answer awaited */
};

static inline struct pg_client *pg_client(struct client *c) {
	return (struct pg_client *)c;
}
static inline struct pg_server *pg_server(struct server *s) {
	return (struct pg_server *)s;
}
/* Whom it serves; NULL: nobody. */
static inline struct pg_client *pg_client_of(const struct pg_server *ps) {
	return ps->base.client ? pg_client(ps->base.client) : NULL;
}

/* client_login.c. Consumes as protocol.client_input. Ends by pg_client_authenticated(), or closes the client. */
void pg_logins_init(struct slab *logins);
bool pg_login_begin(struct pg_client *client);
size_t pg_login_input(struct pg_client *client, const uint8_t *data, size_t len);
void pg_login_secured(struct pg_client *client);
/* The names in its start-up message; NULL: it has not come. */
void pg_login_names(const struct pg_client *client, const char **database, const char **user);
void pg_login_free(struct pg_client *client); /* frees client->login, wiped, and detaches look-ups under way */

/* welcome.c. Login is done, as `name`: `startup` settings are a reference taken over; `user` too. Sends
 * AuthenticationOk to ReadyForQuery, now or when a first server has told what it is. */
void pg_client_authenticated(struct pg_client *client, const char *name, struct database *database, struct pool_user *user,
			     struct settings *startup);
/* The same for an operator on the console. */
void pg_console_authenticated(struct pg_client *client, const char *user, bool is_admin);

/* server_login.c. Ends by pg_server_logged_in() or server_failed(). */
bool pg_server_login_begin(struct pg_server *server);
size_t pg_server_login_input(struct pg_server *server, const uint8_t *data, size_t len);
void pg_server_login_secured(struct pg_server *server);
void pg_server_login_free(struct pg_server *server);

/* pg_cancel.c */
void pg_cancel_begin(struct cancel *cancel);
size_t pg_cancel_input(struct cancel *cancel, const uint8_t *data, size_t len);
void pg_cancel_secured(struct cancel *cancel);

/* client_rules.c: protocol.listener_setup and listener_free: reads HBA and user maps. */
void *pg_listener_setup(const struct listener_config *listener, struct error *error);
void pg_listener_free(void *setup);

/* server.c. The first ReadyForQuery has come; settings, pid and cancel key are set. */
void pg_server_logged_in(struct pg_server *server);
/* Sends a query of our own; its answers go to nobody; pg_task_done() follows its ReadyForQuery. False: out of memory,
 * the server is closed. */
bool pg_run(struct pg_server *server, enum pg_task task, const char *sql);
void pg_task_done(struct pg_server *server, enum pg_task task);
bool pg_server_clean(const struct server *server);
void pg_recover_step(struct pg_server *server);
/* All our statements were dropped, but those whose Parse is under way. */
void pg_forget_statements(struct pg_server *server);
/* Settings that no ParameterStatus tells of are back at their defaults. False: out of memory. */
bool pg_forget_unreported(struct pg_server *server);
bool pg_client_linked(struct client *client, struct server *server);
/* Gives a session that keeps its server the start-up parameters that a RESET has gone back to. */
void pg_settle_restored(struct pg_client *client, struct pg_server *server);
void pg_server_recover(struct server *server);
void pg_server_uncancelled(struct server *server);
void pg_server_reset(struct server *server);
void pg_server_validate(struct server *server, const char *sql);

/* frontend.c and backend.c: the two directions once both are logged in. */
size_t pg_frontend_input(struct pg_client *client, const uint8_t *data, size_t len);
size_t pg_backend_input(struct pg_server *server, const uint8_t *data, size_t len);
/* settle.c: how requests leave the queue of a server. */
/* Sends what is virtual at the head of the queue to the client, drops marks. */
void pg_emit_virtual(struct pg_server *server);
/* Undoes and drops what is outstanding, from the head up to the first Sync; false: there is none. */
bool pg_drop_to_sync(struct pg_server *server);
/* Undoes and drops the i-th: it has failed, or will not be run. */
void pg_undo(struct pg_server *server, uint32_t i, bool failed);
/* Settles the head: it has succeeded. */
void pg_settle_head(struct pg_server *server);
/* tags.c: what answers tell of the session. */
/* A command's tag, that of the request `head`. */
void pg_note_tag(struct pg_server *server, const struct pg_request *head, const char *tag);
/* After a RESET or DISCARD: puts the client's start-up parameters back in what it wants. */
void pg_restore_startup(struct pg_client *client, struct pg_server *server);
/* extended.c */
/* Puts a Parse of this text before the client's message; makes room on the server first. */
enum pg_prepare { PG_PREPARED, PG_PREPARE_HOLD, PG_PREPARE_FAILED };
enum pg_prepare pg_ensure_prepared(struct pg_client *client, struct pg_server *server, struct pg_text *text);

/* welcome.c. AuthenticationOk, and the login's memory goes; then what the server is and ReadyForQuery. */
void pg_begin_welcome(struct pg_client *client);
void pg_send_welcome(struct pg_client *client, struct settings *reported);

/* console.c */
size_t pg_console_input(struct pg_client *client, const uint8_t *data, size_t len);
void pg_console_free(struct pg_client *client);
void pg_console_cancel(struct pg_client *client); /* of a command that waits */

/* What is kept for each worker. */
struct pg_worker {
	struct pg_texts texts;
	struct pg_greetings greetings;
	struct slab logins; /* struct pg_login: many may come at once, and none of their memory is to stay */
};
static inline struct pg_worker *pg_worker(struct session_worker *sw) {
	return sw->protocol_state[PROTOCOL_POSTGRESQL];
}
static inline struct pg_texts *pg_texts(struct session_worker *sw) {
	return &pg_worker(sw)->texts;
}
static inline struct pg_greetings *pg_greetings(struct session_worker *sw) {
	return &pg_worker(sw)->greetings;
}
static inline void pg_put_u32(uint8_t *p, uint32_t n) {
	p[0] = (uint8_t)(n >> 24), p[1] = (uint8_t)(n >> 16), p[2] = (uint8_t)(n >> 8), p[3] = (uint8_t)n;
}
static inline uint32_t pg_get_u32(const uint8_t *p) {
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* ReadyForQuery, of our own. */
void pg_send_ready(struct pg_client *client, char status);
/* Its request was answered with an error before it got to a server: the request is skipped. A transaction that was to
 * begin with it has failed. */
void pg_refuse(struct pg_client *client, const char *text);

/* Errors to a client, in its form; does not close. */
bool pg_send_error(struct client *client, const char *severity, const char *sqlstate, const char *message,
		   const char *hint);

/* ParameterStatus. */
void pg_send_parameter(struct client *client, const char *name, const char *value);

extern const struct protocol pgsql_protocol;

#endif
