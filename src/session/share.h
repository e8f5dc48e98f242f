/*
 * Sharing the bound between a process that drains and the one that has replaced it, so that both together never have more
 * connections of a pool than max_size.
 *
 * The old one gives its part away as it drains. Its share of a pool is half of max_size at first, and falls with the
 * number of its clients; it never rises. In rounds it lowers its bound to the share, waits until each worker has acted under
 * the new bound (so that none opens a connection under the old one any more), and reports what it holds: its share, or its
 * connections where those are still more. The new one may have the rest. It begins with none, until the first report.
 */
#ifndef SESSION_SHARE_H
#define SESSION_SHARE_H

#include <stdbool.h>
#include <stdint.h>

struct mailbox;

/* The old process: one round, when that before is over. `report` is called on the main loop's thread for each database with
 * what is held of it; then, the round being over, with NULL and whether those were all there will be (1) or who is logging in
 * may add to them (0). Main thread, with the workers running. */
typedef void share_report(void *context, const char *database, uint32_t held);
void share_round(struct mailbox *main_mailbox, share_report *report, void *context);

enum share_end {
	SHARE_PARTIAL,  /* of databases that were not named nothing is known yet */
	SHARE_COMPLETE, /* the other has nothing of those */
	SHARE_GONE      /* it has nothing at all any more */
};
/* The new process, main thread: before the workers start, nothing is its own. */
void share_begin(void);
/* What the other one holds of a database; then, the round being over: */
void share_held(const char *database, uint32_t held);
void share_round_over(enum share_end end);

#endif
