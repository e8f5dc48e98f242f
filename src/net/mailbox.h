/*
 * Mail between threads: many senders, one receiver, delivered in order per sender on the receiver's loop.
 * The letter is part of the message's own struct; the receiver owns it from delivery on.
 */
#ifndef NET_MAILBOX_H
#define NET_MAILBOX_H

#include <ev.h>
#include <pthread.h>
#include <stdbool.h>

struct mail {
	struct mail *next;
	void (*deliver)(struct mail *mail, void *receiver); /* on the receiver's thread; may free the mail */
};

struct mailbox {
	struct ev_loop *loop;
	ev_async wake;
	void *receiver;
	struct { /* under the mutex */
		pthread_mutex_t mutex;
		struct mail *head, **tail;
	} shared;
};

/* Owner thread (or before its loop runs). */
void mailbox_init(struct mailbox *mailbox, struct ev_loop *loop, void *receiver);
/* Frees nothing that is still inside: deliver first. */
void mailbox_destroy(struct mailbox *mailbox);
/* Any thread. Wakes the receiver's loop when the box was empty. */
void mailbox_post(struct mailbox *mailbox, struct mail *mail);
/* Delivers all that is inside. Owner thread. Returns whether there was any. */
bool mailbox_deliver(struct mailbox *mailbox);

#endif
