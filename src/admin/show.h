/* The SHOW commands, private to this folder. Each fills in request->result and answers, now or by mail. */
#ifndef ADMIN_SHOW_H
#define ADMIN_SHOW_H

#include <stdint.h>

#include "admin/console.h"
#include "session/session.h"

struct pool_config;

/*
 * A snapshot gathered from all workers without stopping them: `visit` runs on each worker's thread, one after the
 * other, and adds to the request's own memory; then `finish` runs on the thread of the worker that asked.
 */
struct gathering {
	struct session_visit visit;
	struct console_request *request;
	void (*on_worker)(struct session_worker *sw, struct gathering *gathering);
	void (*finish)(struct gathering *gathering); /* may be NULL; the answer is sent after it */
	void *memory;                                /* the command's; freed by `finish` */
};
void gather(struct console_request *request, void (*on_worker)(struct session_worker *, struct gathering *),
	    void (*finish)(struct gathering *), void *memory);

/* The names and types of a result, side by side. */
struct column {
	const char *name;
	enum console_type type;
};
bool show_columns(struct console_result *result, const struct column *columns, size_t count);
#define SHOW_COLUMNS(result, columns) show_columns(result, columns, sizeof(columns) / sizeof((columns)[0]))

/* "transaction", "session", "statement". */
const char *show_pool_mode(const struct pool_config *config);
/* What PgBouncer calls the choice among several hosts; NULL for one host. */
const char *show_balance(const struct pool_config *config);
/* Sets a cell to a moment of the monotonic clock as people write it; 0: null. */
void show_time(struct console_result *r, size_t column, uint64_t at_ns);
/* The configuration that the asking worker works by. */
const struct config *show_config_of(const struct console_request *request);

#define SHOW_COMMAND(name) void show_##name(struct console_request *request, const struct words *arguments)
SHOW_COMMAND(pools);
SHOW_COMMAND(users);
SHOW_COMMAND(clients);
SHOW_COMMAND(servers);
SHOW_COMMAND(waiters);
SHOW_COMMAND(leaks);
SHOW_COMMAND(audit);
SHOW_COMMAND(lists);
SHOW_COMMAND(mem);
SHOW_COMMAND(databases);
SHOW_COMMAND(hosts);
SHOW_COMMAND(config);
SHOW_COMMAND(state);
SHOW_COMMAND(version);
SHOW_COMMAND(stats);
SHOW_COMMAND(stats_totals);
SHOW_COMMAND(stats_averages);
SHOW_COMMAND(totals);

/* show_leaks.c: AUDIT; begins one on each worker. */
void run_audit(struct console_request *request, const struct words *arguments);

/* show_stats.c */
bool stats_start(void);
void stats_tick(void);
void stats_stop(void);

#endif
