/* Whether each pool can serve: /readyz. */
#ifndef ADMIN_READY_H
#define ADMIN_READY_H

#include <stdbool.h>

#include "admin/snapshot.h"
#include "admin/page.h"

enum readiness { READY, NOT_READY, NO_SUCH_POOL };

/* All configured pools, or only `pool` (not NULL). Pools made from [pool:*] are named, but do not count unless they are
 * asked for: or a client that asks for a database that is not there could take the process out of service. Any thread. */
enum readiness ready_write(struct page *out, bool draining, const char *pool, bool json);
/* Why it cannot serve, as a sentence; "" where it can. `error` is the backend's last one of it, "" if there is none. */
void ready_reason(const struct pool_snapshot *pool, char *out, size_t room);

#endif
