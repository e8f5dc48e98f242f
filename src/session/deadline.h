/*
 * query_timeout, transaction_timeout, idle_transaction_timeout, client_idle_timeout, client_login_timeout. See
 * session/watch.h for when they are looked at.
 *
 * What runs is cancelled, again and again until it ends, for at most recovery_timeout; then its server is closed and
 * the client told so. The protocol tells the client why (server->cut) in place of the backend's error, and rolls back
 * what is open and idle (protocol.client_roll_back).
 */
#ifndef SESSION_DEADLINE_H
#define SESSION_DEADLINE_H

#include <stddef.h>
#include <stdint.h>

#include "session/account.h"
#include "session/client.h"
#include "session/server.h"
#include "session/watch.h"

struct pool_config;
struct user_config;

/* When the first of them would be due as things stand; TIME_NEVER. */
uint64_t deadline_next(const struct client *client);
void deadline_due(struct client *client);

/* A request, a transaction or idleness within one begins: cheap where no limit is set, or none sooner than what is armed. */
static inline void deadline_begun(struct client *client) {
	if (client->user && atomic_load_explicit(&account_of(client->user)->has_deadlines, memory_order_relaxed))
		client_watch(client);
}

/* The limits of an account's clients, from its pool's and its user's section (NULL: none). Any thread. */
void deadline_resolve(struct account *account, const struct pool_config *pool, const struct user_config *user);
/* A request of the client's is answered to its end, and with it perhaps its transaction. */
void deadline_answered(struct server *server, bool transaction_over);
/* The request that was cut has ended; a cancel that is still on its way is withdrawn if it can be, else `late` is set. */
void deadline_over(struct server *server);
/* No cancel is on its way any more. */
void deadline_uncancelled(struct server *server);
/* The text of the error for what was cut while it ran, or for what a late cancel of it has hit; else of the rollback of
 * a transaction that ended what ran by itself. */
void deadline_text(const struct client *client, const struct server_cut *cut, bool running, char *out, size_t room);

/* The protocol knows from now on which pool and user the client that logs in has named: their limits are in force. */
void deadline_login(struct client *client);
void deadline_login_due(struct client *client);

#endif
