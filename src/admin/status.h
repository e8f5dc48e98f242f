/* The status page: what is wrong first, then each pool, who leaks, and the hosts; as HTML and as JSON. */
#ifndef ADMIN_STATUS_H
#define ADMIN_STATUS_H

#include <stdbool.h>

#include "admin/history.h"
#include "admin/page.h"
#include "admin/snapshot.h"
#include "config/config.h"

struct status;

/* Looks at everything. The configuration is only read now. Any thread but a worker's. NULL: out of memory. */
struct status *status_take(struct history *history, const struct config *config, bool draining);
void status_free(struct status *status);
void status_write_json(struct page *out, const struct status *status);
/* `nonce`: without it, no script and no style on the page has effect. */
void status_write_html(struct page *out, const struct status *status, const char *nonce);

#endif
