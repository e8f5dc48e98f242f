/*
 * KILL. The ids that clients know are ours, so it never goes to a server: what it names is one of our clients, and what runs
 * for that one is cancelled as by a time limit.
 */
#include <stdio.h>

#include "mysql/frontend.h"
#include "session/deadline.h"
#include "session/kill.h"

static void killed(struct client *asker, enum kill_result result, uint32_t id) {
	struct my_client *mc = my_client(asker);
	char text[120];
	const struct my_ok ok = {.status = mc->relay.status & (MY_STATUS_IN_TRANS | MY_STATUS_AUTOCOMMIT)};
	if (result == KILL_DONE) {
		my_send_ok(mc, &ok);
	} else if (result == KILL_LOST) {
		my_send_error(mc, MY_ER_UNKNOWN_ERROR, NULL,
			      "the KILL may not have reached the server, and what it was to end may go on: the log of the pool says why "
			      "(cancel_...); try again");
	} else {
		snprintf(text, sizeof text, result == KILL_UNKNOWN ? "Unknown thread id: %u" : "You are not owner of thread %u",
			 id);
		my_send_error(mc, result == KILL_UNKNOWN ? MY_ER_NO_SUCH_THREAD : MY_ER_KILL_DENIED_ERROR, NULL, text);
	}
	mc->sequence = 1;
	asker->answered_ns = asker->sw->worker->now_ns;
	deadline_begun(asker);
	client_resume(asker);
}

void my_client_killed(struct client *client) {
	my_client(client)->relay.killed = true;
}

taken mf_on_kill(struct my_client *mc, const struct command *c, const struct sql_text *text) {
	uint64_t id = text->kill_id;
	bool connection = text->kill == SQL_KILL_CONNECTION;
	switch (text->kill) {
	case SQL_KILL_CONNECTION:
	case SQL_KILL_QUERY:
		break;
	case SQL_KILL_SELF:
		my_send_error(mc, MY_ER_CONNECTION_KILLED_MARIADB, "70100", "Connection was killed");
		mc->told_fatal = true;
		client_close(&mc->base, "it has killed itself");
		return 0;
	case SQL_KILL_QUERY_SELF:
		return mf_error(mc, c, MY_ER_QUERY_INTERRUPTED, "Query execution was interrupted");
	default:
		return mf_error(mc, c, MY_ER_KILL_DENIED_ERROR,
				"of KILL only KILL [CONNECTION | QUERY] id, as a statement of its own, works through this pool");
	}
	if (id == 0 || id > UINT32_MAX) {
		char unknown[80];
		snprintf(unknown, sizeof unknown, "Unknown thread id: %llu", (unsigned long long)id);
		return mf_error(mc, c, MY_ER_NO_SUCH_THREAD, unknown);
	}
	if (!kill_request(&mc->base, (uint32_t)id, connection, killed))
		return mf_out_of_memory(mc);
	return mf_skip(mc, c);
}
