/* query_timeout, transaction_timeout, idle_transaction_timeout, client_idle_timeout. See session/watch.h. */
#ifndef SESSION_DEADLINE_H
#define SESSION_DEADLINE_H

#include <stdint.h>

struct client;

/* When the first of them would be due as things stand; TIME_NEVER. */
uint64_t deadline_next(const struct client *client);
void deadline_due(struct client *client);

#endif
