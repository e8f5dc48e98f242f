/* SHOW LEAKS: who holds connections without using them, and who did. SHOW AUDIT, AUDIT: how the process checks itself. */
#include <stdio.h>
#include <string.h>

#include "admin/show.h"
#include "base/clock.h"
#include "session/client.h"
#include "session/leak.h"

/* ---- LEAKS ---- */

enum {
	COL_DATABASE,
	COL_USER,
	COL_CLIENT,
	COL_ADDR,
	COL_APPLICATION_NAME,
	COL_STATE,
	COL_CAUSE,
	COL_HELD_SINCE,
	COL_HELD_MS,
	COL_UNUSED_MS,
	COL_REPORTED_AT,
	COL_ENDED_AT,
	COL_FIRST_STATEMENT,
	COL_LAST_STATEMENT,
	COL_TRANSACTIONS,
	COL_BACKEND_PID,
	COL_HOST,
	COL_WORKER
};

static const struct column leak_columns[] = {
	[COL_DATABASE] = {"database", CONSOLE_TEXT},
	[COL_USER] = {"user", CONSOLE_TEXT},
	[COL_CLIENT] = {"client", CONSOLE_INT4},
	[COL_ADDR] = {"addr", CONSOLE_TEXT},
	[COL_APPLICATION_NAME] = {"application_name", CONSOLE_TEXT},
	[COL_STATE] = {"state", CONSOLE_TEXT},
	[COL_CAUSE] = {"cause", CONSOLE_TEXT},
	[COL_HELD_SINCE] = {"held_since", CONSOLE_TEXT},
	[COL_HELD_MS] = {"held_ms", CONSOLE_INT8},
	[COL_UNUSED_MS] = {"unused_ms", CONSOLE_INT8},
	[COL_REPORTED_AT] = {"reported_at", CONSOLE_TEXT},
	[COL_ENDED_AT] = {"ended_at", CONSOLE_TEXT},
	[COL_FIRST_STATEMENT] = {"first_statement", CONSOLE_TEXT},
	[COL_LAST_STATEMENT] = {"last_statement", CONSOLE_TEXT},
	[COL_TRANSACTIONS] = {"transactions", CONSOLE_INT8},
	[COL_BACKEND_PID] = {"backend_pid", CONSOLE_INT4},
	[COL_HOST] = {"host", CONSOLE_TEXT},
	[COL_WORKER] = {"worker", CONSOLE_INT4},
};

static void leak_row(struct console_result *r, const struct leak *leak, const struct worker *worker) {
	uint64_t until_ns = leak->ended_ns ? leak->ended_ns : worker->now_ns;

	if (!console_row(r))
		return;
	console_set_text(r, COL_DATABASE, leak->pool);
	console_set_text(r, COL_USER, leak->user);
	console_set_number(r, COL_CLIENT, leak->client_id);
	console_set_text(r, COL_ADDR, leak->address);
	console_set_text(r, COL_APPLICATION_NAME, leak->application_name);
	console_set_text(r, COL_STATE, leak_state(leak));
	console_set_text(r, COL_CAUSE, leak_cause(leak));
	show_time(r, COL_HELD_SINCE, leak->held_since_ns);
	console_set_number(r, COL_HELD_MS, (int64_t)((until_ns - leak->held_since_ns) / NS_PER_MS));
	console_set_number(r, COL_UNUSED_MS, (int64_t)(leak_unused_ns(leak) / NS_PER_MS));
	show_time(r, COL_REPORTED_AT, leak->reported_ns);
	show_time(r, COL_ENDED_AT, leak->ended_ns);
	console_set_text(r, COL_FIRST_STATEMENT, leak->statements.first);
	console_set_text(r, COL_LAST_STATEMENT, leak->statements.last);
	console_set_number(r, COL_TRANSACTIONS, (int64_t)leak->transactions);
	console_set_number(r, COL_BACKEND_PID, leak->backend_pid);
	console_set_text(r, COL_HOST, leak->host);
	console_set_number(r, COL_WORKER, worker->id);
}

static void leaks_of_worker(struct session_worker *sw, struct gathering *gathering) {
	const struct list *lists[] = {&sw->leaks.current, &sw->leaks.ended};

	for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
		list_for_each(node, lists[i])
			leak_row(&gathering->request->result, list_entry(node, struct leak, node), sw->worker);
}

SHOW_COMMAND(leaks) {
	(void)arguments;
	if (SHOW_COLUMNS(&request->result, leak_columns))
		gather(request, leaks_of_worker, NULL, NULL);
	else
		admin_answer(request);
}

/* ---- AUDIT ---- */

static const struct column audit_columns[] = {
	{"worker", CONSOLE_INT4},  {"audits", CONSOLE_INT8},     {"last_audit", CONSOLE_TEXT},
	{"pools", CONSOLE_INT4},   {"servers", CONSOLE_INT4},    {"waiters", CONSOLE_INT4},
	{"found", CONSOLE_INT8},   {"last_found", CONSOLE_TEXT}, {"violations", CONSOLE_INT8},
	{"longest_slice_us", CONSOLE_INT8},
};

static void audit_of_worker(struct session_worker *sw, struct gathering *gathering) {
	struct console_result *r = &gathering->request->result;
	const struct audit *audit = &sw->audit;

	if (!console_row(r))
		return;
	console_set_number(r, 0, sw->worker->id);
	console_set_number(r, 1, (int64_t)audit->rounds);
	show_time(r, 2, audit->ended_ns);
	console_set_number(r, 3, audit->pools);
	console_set_number(r, 4, audit->servers);
	console_set_number(r, 5, audit->waiters);
	console_set_number(r, 6, (int64_t)audit->violations);
	if (audit->last_violation[0])
		console_set_text(r, 7, audit->last_violation);
	console_set_number(r, 8, (int64_t)session_violations(sw));
	console_set_number(r, 9, (int64_t)(audit->longest_slice_ns / NS_PER_US));
}

SHOW_COMMAND(audit) {
	(void)arguments;
	if (SHOW_COLUMNS(&request->result, audit_columns))
		gather(request, audit_of_worker, NULL, NULL);
	else
		admin_answer(request);
}

static void begin_audit(struct session_worker *sw, struct gathering *gathering) {
	(void)gathering;
	audit_soon(sw);
}

void run_audit(struct console_request *request, const struct words *arguments) {
	(void)arguments;
	gather(request, begin_audit, NULL, NULL);
}
