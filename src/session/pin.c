#include "session/pin.h"

#include "session/client.h"
#include "session/database.h"
#include "session/session.h"

const char *pin_reason_name(enum pin_reason reason) {
	static const char *const names[PIN_REASONS] = {
		[PIN_USER_VARIABLE] = "user_variable",
		[PIN_TEMPORARY_TABLE] = "temporary_table",
		[PIN_NAMED_LOCK] = "named_lock",
		[PIN_TABLE_LOCK] = "table_lock",
		[PIN_HANDLER] = "handler",
		[PIN_SQL_PREPARED] = "sql_prepared",
		[PIN_SEQUENCE] = "sequence",
		[PIN_FOUND_ROWS] = "found_rows",
		[PIN_ROW_COUNT] = "row_count",
		[PIN_CURSOR] = "cursor",
		[PIN_LONG_DATA] = "long_data",
		[PIN_WARNINGS] = "warnings",
		[PIN_VARIABLE] = "variable",
		[PIN_NEXT_TRANSACTION] = "next_transaction",
		[PIN_TRACKERS] = "trackers",
		[PIN_ROLE] = "role",
		[PIN_BINLOG] = "binlog",
		[PIN_SESSION_STATE] = "session_state",
		[PIN_LONG_TEXT] = "long_text",
		[PIN_NO_TRACKERS] = "no_trackers",
		[PIN_REPLICATION] = "replication",
	};
	return names[reason];
}

static struct database_view *view_of(struct client *client) {
	return database_view(client->database, client->sw->worker->id);
}

uint32_t pin_add(struct client *client, uint32_t pins, enum pin_reason reason) {
	uint32_t bit = 1u << reason;
	if (pins & bit)
		return pins;
	if (view_of(client)->config->mode != POOL_MODE_SESSION) /* there it keeps its server anyway */
		stat_add(&view_of(client)->pins[reason], 1);
	client->keeps_server = true;
	return pins | bit;
}

uint32_t pin_drop(struct client *client, uint32_t pins, uint32_t gone) {
	pins &= ~gone;
	if (!pins)
		client->keeps_server = view_of(client)->config->mode == POOL_MODE_SESSION;
	return pins;
}
