/*
 * Cancel requests, fenced. A request that reached us is looked up in the registry in O(1), mailed to the worker of the
 * client it names, and there bound to the server that this client holds now:
 *   waiting  not sent yet: if the server is released meanwhile, the request is dropped (fence A);
 *   sent     the backend may have it: the server goes to nobody until the backend has closed the cancel connection
 *            (fence B), for only then has the signal been raised.
 * The application's own cancel connection is closed when this is over, as PostgreSQL does it.
 */
#ifndef SESSION_CANCEL_H
#define SESSION_CANCEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "net/stream.h"
#include "net/worker.h"
#include "session/protocol.h"

struct client;
struct server;
struct session_worker;
struct database;

struct cancel {
	const struct protocol *protocol;
	struct session_worker *sw;
	struct stream stream;
	struct buf in;
	struct list all;       /* the worker's list */
	struct list node;      /* server->cancels */
	struct list waiters;   /* answers owed to cancel connections: struct cancel_ticket */
	struct list askers;    /* struct cancel_asker */
	struct server *server; /* NULL: let go (fence A) */
	struct database *database;
	char host_text[128];   /* TLS verifies its name */
	bool connected, sent;
	bool failed;           /* it has not reached the backend, or may not have */
	struct timeout timeout;
	struct deferred deferred;
	bool finished;
};

/* Who is told when a cancel is over, whatever became of it. */
struct cancel_asker {
	struct list node;
	void (*over)(struct cancel_asker *asker, bool failed); /* once; it owns itself from then on. Must not touch the server */
};

enum { CANCEL_SECRET_MAX = 32 };

/* What is owed to an application's cancel connection; travels from its worker to the client's and back, or to another
 * process by way of the main thread. */
struct cancel_ticket {
	struct mail mail;
	struct client *canceller; /* touched by its own worker only; NULL: it has gone */
	struct list waiter;       /* cancel->waiters; touched by the other worker only */
	struct mailbox *origin;   /* where the answer goes, as a letter to `answered` */
	void (*answered)(struct mail *mail, void *receiver);
	uint32_t number;          /* between processes */
	uint32_t id;
	uint8_t secret_len;
	uint8_t secret[CANCEL_SECRET_MAX];
};

/* The process-wide registry of public client ids and their secrets. Any thread; O(1). */
/* Sets client->id, a random one (31 bits, not 0) that is free, and registers it with this secret. False: out of memory. Of
 * the client other threads read its id and its worker from then on. Its own worker, as are the next two. */
bool registry_add(struct client *client, const uint8_t *secret, size_t secret_len);
/* Before its memory goes. */
void registry_remove(struct client *client);
/* Its secret, to be told and wiped; returns the length, 0: it is not registered. */
size_t registry_secret(const struct client *client, uint8_t secret[CANCEL_SECRET_MAX]);
/* The worker of the client with this id and secret (compared in constant time), or -1. */
int registry_find(uint32_t id, const uint8_t *secret, size_t secret_len);
/* The worker of the client with this id, whatever its secret, or -1. */
int registry_worker(uint32_t id);
/* The client with this id if it lives with `worker`; only that worker's thread. NULL: gone. */
struct client *registry_client(uint32_t id, int worker);

/* An application's cancel request: `canceller` (the connection that brought it) is closed when it is done. */
void cancel_request(struct client *canceller, uint32_t id, const uint8_t *secret, size_t secret_len);
/*
 * Between a process and the one that replaces it. While `mailbox` is not NULL, requests that name no client of ours go
 * there as tickets; `deliver`, which is the same each time, owns them. The main thread says so.
 */
void cancel_send_abroad(struct mailbox *mailbox, void (*deliver)(struct mail *mail, void *receiver));
/* One that came from there: when it is over, its ticket comes to `origin`, by `answered`, which owns it. False: it names no
 * client of ours, or there is no memory. Any thread. */
bool cancel_from_abroad(uint32_t number, uint32_t id, const uint8_t *secret, size_t secret_len, struct mailbox *origin,
			void (*answered)(struct mail *mail, void *receiver));
/* It is over: back to where it came from. Any thread that owns the ticket. */
void cancel_ticket_answer(struct cancel_ticket *ticket);
void cancel_ticket_free(struct cancel_ticket *ticket);
/* The canceller goes: its request goes on, and nobody is answered. */
void cancel_forget(struct client *canceller);
/* Cancels what `server` does (recovery, timeouts). Harmless when one is under way. False: bound reached. */
bool cancel_server(struct server *server);
/* The same for who waits for its end. False: bound reached, and `over` is not called. */
bool cancel_server_for(struct server *server, struct cancel_asker *asker);
/* It has time anew (connect_timeout), for its next step does not depend on how long the last one took. */
void cancel_patience(struct cancel *cancel);
/* The protocol is about to send the request's bytes: they cannot be called back. False: it must not, the server has
 * been given to somebody else meanwhile; the cancel is finished. */
bool cancel_sent(struct cancel *cancel);
/* It is lost, and this was logged. Where it has been sent it may take effect at any time: its server is closed. */
void cancel_lost(struct cancel *cancel);
/* The backend has closed the cancel connection, or it failed. */
void cancel_finished(struct cancel *cancel);
/* The server is released or closed: requests not sent yet let it go. Returns whether some have been sent. */
bool cancel_fence(struct server *server);
/* What was to be cancelled has ended: drops the requests not sent yet, but for those that an application's cancel connection has
 * brought, which are for whatever runs. */
void cancel_withdraw(struct server *server);
/* The process stops: ends all that are under way. */
void cancel_stop(struct session_worker *sw);

#endif
