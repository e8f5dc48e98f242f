/*
 * A new process takes the listening sockets over from the one that runs, which then drains: no connection is refused, for
 * somebody accepts at any time. How it goes is told in doc/architecture.md. Main thread.
 */
#ifndef TAKEOVER_H
#define TAKEOVER_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/list.h"

struct mailbox;

/* What takeover asks of the process. */
struct takeover_hooks {
	/* Each listening socket that is to be handed over. */
	void (*each_socket)(void (*each)(void *context, const char *address, int fd, bool managed), void *context);
	/* Why nobody may take over now; NULL: one may. */
	const char *(*objection)(void);
	/* The other does not use this one of them (inherited_name()). */
	void (*unused)(const char *name);
	/* The other accepts: accept no more, free the pid file, tell the service manager. It may have been told to stop
	 * before. */
	void (*release)(pid_t successor);
	/* All of that was said; now drain, unless that is under way. */
	void (*drain)(void);
	/* This process has no connection of any pool, or nobody is there any more who would have to wait for that. */
	void (*nothing_held)(void);
};

enum takeover_peer {
	PEER_NONE,
	PEER_STARTING,  /* it has the sockets and is not ready yet: it may still fail */
	PEER_SUCCESSOR, /* it accepts; this process drains */
	PEER_PREDECESSOR
};

struct takeover {
	const struct takeover_hooks *hooks;
	struct ev_loop *loop;
	struct mailbox *mailbox;
	enum takeover_peer role;
	int listener, socket; /* -1: none */
	pid_t pid;            /* the peer's */
	ev_io on_knock, on_message;
	ev_timer next_round;
	uint32_t held; /* connections, in the round under way */
	bool unsaid;   /* the name of a database is too long to be said */
	int last;      /* a duplicate of `socket`, which takeover_end() closes; -1: none */
	struct list tickets; /* cancel requests that the peer has: struct cancel_ticket.waiter */
	uint32_t last_number;
	char path[108];
	uint64_t device, inode; /* of the file of our listener */
};

void takeover_init(struct takeover *takeover, struct ev_loop *loop, struct mailbox *mailbox,
		   const struct takeover_hooks *hooks);
/* Lets others take over at this path. */
bool takeover_listen(struct takeover *takeover, const char *path, struct error *error);
/* Whether somebody listens there already: this process should not start beside it. */
bool takeover_is_live(const char *path);
/* Before listeners are opened: takes the sockets of the process that listens at `path`, where there is one; to
 * net/inherited.h. False: there is one, and it refuses, or talks nonsense. */
bool takeover_begin(struct takeover *takeover, const char *path, struct error *error);
/* This process does not use the socket that is named so, of those that it has taken. */
void takeover_unused(struct takeover *takeover, const char *name);
/* The workers accept: the other may go. Returns when it has let go of what is needed here. */
void takeover_finish(struct takeover *takeover);
/* The end, with the workers running. May be called twice, and on a zeroed struct that was not initialised. */
void takeover_close(struct takeover *takeover);
/* When no connection is left: the other one learns of it. */
void takeover_end(struct takeover *takeover);

#endif
