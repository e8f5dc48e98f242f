/* The process's listening sockets, as the configuration names them. Main thread. */
#ifndef LISTENING_H
#define LISTENING_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/list.h"

struct acceptor;
struct generation;

struct listenings {
	struct list all;
	struct acceptor *acceptor; /* NULL until the workers accept */
};

/* Opens what the configuration names and is not open yet, all or nothing; what it does not name is not wanted after
 * this. False: `error` says which one, and all is as it was. */
bool listenings_open(struct listenings *listenings, const struct generation *generation, struct error *error);
/* Closes what is not wanted any more. Before the workers hear of the configuration that does not name it: who has
 * connected by then is let in under the one that does, all of them when this returns. Waits for that, two seconds at most. */
void listenings_drop(struct listenings *listenings);
/* Accepts from what is new. The workers know the configuration, or have its letter before them. */
void listenings_settle(struct listenings *listenings, const struct generation *generation);
/* Each, for a process that takes over, which uses them all, as far as is known then. */
void listenings_each(struct listenings *listenings,
		     void (*each)(void *context, const char *address, int fd, bool managed), void *context);
/* It does not use the one that is named so (inherited_name()). */
void listenings_unused(struct listenings *listenings, const char *name);
/* Another process accepts from those now that it uses: nothing is accepted here once this returns. The others are closed, as
 * by listenings_close(). */
void listenings_hand_over(struct listenings *listenings);
/* The process before has gone: socket files of sockets that it handed over are ours. */
void listenings_own_files(struct listenings *listenings);
/* Who has connected is let in when this returns; it waits for that, two seconds at most. */
void listenings_close(struct listenings *listenings);
/* At once, also where nothing is accepted yet, or all are closed. */
void listenings_end(struct listenings *listenings);
/* "127.0.0.1:6432, [::1]:6432" */
void listenings_text(const struct listenings *listenings, char *out, size_t room);

#endif
