/* What the session keeps for each user of a pool (the context of a pool_user). Any thread; a mutex of its own. */
#ifndef SESSION_ACCOUNT_H
#define SESSION_ACCOUNT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "session/protocol.h"

/* An account is named as its user, or so and with what its connections have that those of the plain account have not
 * (something that is asked for at login, and cannot be changed later), behind this. */
#define ACCOUNT_VARIANT '\t'

struct account {
	const struct protocol *protocol;
	uint64_t serial;          /* unique in the process */
	_Atomic uint32_t clients; /* logged in */
	/* Time limits of its clients (deadline_resolve()), in ns, 0: none; by enum deadline. Read relaxed. */
	_Atomic uint64_t deadlines[DEADLINE_KINDS];
	_Atomic uint32_t deadlines_own; /* bits: which of them are the user's own, not the pool's */
	_Atomic bool has_deadlines;
	struct { /* under the mutex */
		pthread_mutex_t mutex;
		void *credential;     /* how servers log in for this user; NULL: not known yet */
		void *welcome;        /* what a server says of itself at login; NULL: none has logged in yet */
		char last_error[256]; /* of the last failed login */
		char last_sqlstate[6];
	} shared;
};

struct account *account_new(const struct protocol *protocol);
void account_free(struct account *account);
struct account *account_of(struct pool_user *user);
/* Takes over the reference to the credential; the old one is let go. */
void account_set_credential(struct account *account, void *credential);
/* Runs `use` under the mutex, so that it can take a reference. */
void *account_credential(struct account *account, void *(*ref)(void *));
void account_set_welcome(struct account *account, void *welcome);
void *account_welcome(struct account *account, void *(*ref)(void *));
void account_set_error(struct account *account, const char *sqlstate, const char *text);
void account_get_error(struct account *account, char sqlstate[6], char *text, size_t room);

#endif
