/* A server: one connection to a backend. Part of a pool; lives with one worker, may move when idle. */
#ifndef SESSION_SERVER_H
#define SESSION_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "net/resolver.h"
#include "net/stream.h"
#include "net/worker.h"
#include "pool/pool.h"
#include "session/protocol.h"

struct backend;
struct database;
struct session_worker;

enum server_state {
	SERVER_RESOLVING,
	SERVER_CONNECTING,
	SERVER_LOGIN,
	SERVER_SETUP,      /* init_sql */
	SERVER_IDLE,
	SERVER_ACTIVE,     /* linked to a client */
	SERVER_RECOVERING, /* its client has gone; draining, rolling back, or being reset */
	SERVER_FENCED,     /* clean, but a cancel request for it is under way: nobody may have it */
	SERVER_VALIDATING, /* it was idle, and must answer a trial (session/keepalive.h) */
	SERVER_CLOSED      /* of no use any more; it may wait for the backend to hang up (`lingers`) */
};

/* What runs for the client is being cancelled, for a time limit is over: session/deadline.h. */
struct server_cut {
	enum deadline why; /* DEADLINE_NONE: nothing is */
	bool late;         /* that request has ended, but a cancel is still on its way and may hit what comes next */
	bool expiring;     /* ... or has arrived, and may have hit what runs now: until all is answered */
	bool told;         /* the client has got its error */
	uint64_t limit_ns; /* as it was then */
	uint64_t again_ns, until_ns; /* cancelled again; given up */
};

struct server {
	struct pool_conn conn;

	/* read or written in each transaction */
	struct stream stream;
	const struct protocol *protocol;
	struct session_worker *sw;
	struct database *database;
	struct client *client;  /* linked; NULL: none */
	enum server_state state;
	bool dedicated;         /* opened for one client (replication): closed with it */
	bool in_input;          /* server_input() is on the stack */
	bool ready_wanted;      /* server_ready() was called meanwhile */
	bool close_wanted;      /* server_close() was called meanwhile */
	bool recovery_done;     /* the protocol says it is clean; bytes may still be on their way */
	bool one_client;        /* its client may have left in its session what nobody can tell: it is closed, not given back */
	struct buf in;
	uint64_t request_ns;
	uint64_t used_ns;       /* when its client last sent something, or got the last bytes of an answer */
	uint64_t checked_ns;    /* when it was last known to be alive: it answered */
	uint64_t transactions, queries;
	struct list cancels;    /* struct cancel under way for it */
	uint32_t cancels_sent;  /* of those, how many may have reached the backend */
	uint32_t last_client;   /* id of the client that had it last; 0: none */
	struct timeout timeout; /* connect_timeout, recovery_timeout */
	struct server_cut cut;

	/* now and then */
	struct list all;        /* the worker's list of servers */
	uint32_t id;
	bool login_ok;
	bool admitted;          /* the backend has let it in, and counts it, whatever follows */
	bool broke;             /* it was lost, not closed by us */
	bool dismissed;         /* the backend has said that it ends the connection */
	bool violated;          /* it broke an invariant */
	bool overdue;           /* it did not let us in within connect_timeout */
	bool lingers;           /* closed, and its permit is kept until the backend has hung up */
	bool keepalive;         /* validating on account of keepalive_interval */
	enum pool_open_failure failure; /* how it was lost, where that is its host's fault */
	enum pool_connect_failure not_opened; /* why, for the statistics */
	enum server_state closed_in; /* the state in which it was closed */
	uint64_t linger_bytes;  /* received while it lingers, for nobody */
	uint64_t connected_ns;
	uint64_t trial_ends_ns; /* validating: then it counts as dead */
	struct client *client_for_dedicated; /* the client it is opened for; NULL otherwise */
	struct client *client_for_trial; /* validating: the client that gets it then; NULL: none */
	struct backend *backend; /* its host; NULL: not known yet */
	struct resolver_query *resolving;
	struct deferred deferred; /* frees it */
	struct deferred later;  /* begins to connect */
	const char *close_reason;
	struct sockaddr_storage address; /* where it is connected: a cancel goes there too */
	socklen_t address_len;
	char host_text[128];    /* "10.0.0.5:5432" for logs, TLS and the console */
	char close_text[256];
};

/* pool_ops.open: begins to connect. */
bool server_open(struct pool_shard *shard, struct pool_user *user, int host);
/* The protocol's login is done and the connection is clean. */
void server_ready(struct server *server);
enum server_failure {
	SERVER_UNREACHABLE, /* the host does not answer */
	SERVER_NOT_READY,   /* it answers, and asks to come again soon (starting up) */
	SERVER_FULL,        /* it answers, and takes no more connections */
	SERVER_GIVEN_UP,    /* nobody's fault: what it was opened for has changed meanwhile */
	SERVER_REFUSED      /* trying again cannot help: bad password, no such database */
};
/* Could not connect or log in. The text is what clients are told; the server is closed. */
void server_failed(struct server *server, enum server_failure why, const char *text);
/* A server has said at its login what it is. False: that is not what the pool's target asks for; it has failed. */
bool server_learned_role(struct server *server, enum pool_role role);
static inline bool server_write(struct server *server, const void *data, size_t len) {
	return stream_write(&server->stream, data, len);
}
/* Gives up its client: clean, it goes back to the pool (or is reset first); else it is recovered. Own worker. */
void server_abandon(struct server *server);
/* Connects anew, for one client alone, in place of a pooled connection whose permit it keeps. */
void server_dedicate(struct server *server, struct client *client);
/* pool_ops.detach and attach. */
bool server_detach(struct server *server);
void server_attach(struct server *server, struct session_worker *sw);
/* Reading goes on or stops, by how much the client has not taken yet. */
void server_gate(struct server *server);
/* Its client is at a boundary: releases it when the protocol says it is clean and the mode allows. */
void server_maybe_release(struct server *server);
const char *server_state_name(enum server_state state);
/* After recovery or reset: clean again; goes back to the pool (behind its fence). */
void server_recovered(struct server *server);
/* Closes it; its client, if any, is told (REFUSAL_BACKEND_LOST) unless `client_told`. */
void server_close(struct server *server, const char *reason);
/* The process stops: closes it and waits for nobody. */
void server_stop(struct server *server);
/* Whether nothing of its client's is on it: not a byte sent, or all answered and no transaction open. Such a client
 * need not know when the server is lost. */
bool server_untouched(const struct server *server);
/* A broken invariant: logs, counts, closes both connections involved. Never ends the process. */
void server_violation(struct server *server, const char *invariant, const char *detail);

#endif
