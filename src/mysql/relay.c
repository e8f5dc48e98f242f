/* What is left of the relay: the lives of a client's half, time limits, what the console shows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mysql/backend.h"
#include "mysql/collation.h"
#include "mysql/state.h"
#include "mysql/template.h"
#include "session/database.h"
#include "session/deadline.h"

bool my_relay_worker_init(struct my_worker_relay *worker) {
	*worker = (struct my_worker_relay){0};
	return true;
}

void my_relay_worker_free(struct my_worker_relay *worker) {
	for (size_t i = 0; i < MY_PROVEN; i++)
		settings_unref(worker->proven[i].set);
}

/* ---- clients ---- */

/* Clients for MySQL 8 name collations that MariaDB has not: it takes its own default then. */
static uint16_t collation_of(const struct my_client *mc) {
	struct my_server_facts facts;
	uint16_t collation = mc->start.collation;
	if (!my_collation_is_mysqls(collation) || !my_template_find(mc->base.database->name, &facts) || !facts.mariadb)
		return collation;
	return facts.collation;
}

bool my_client_logged_in(struct my_client *mc) {
	struct my_client_relay *c = &mc->relay;
	c->wants = my_settings_start(collation_of(mc), mc->start.schema);
	if (!c->wants)
		return false;
	c->initial = settings_ref(c->wants);
	c->multi = mc->start.capabilities & MY_CLIENT_MULTI_STATEMENTS;
	c->status = 0; /* not known before a server has it */
	return true;
}

void my_client_relay_free(struct my_client *mc) {
	struct my_client_relay *c = &mc->relay;
	my_statements_clear(&c->statements);
	settings_unref(c->wants);
	settings_unref(c->initial);
	free(c->owed);
	free(c->lexer);
	c->lexer = NULL;
	c->wants = c->initial = NULL;
	c->owed = NULL;
}

bool my_client_changed_user(struct my_client *mc) {
	struct my_client_relay *c = &mc->relay;
	c->pins = pin_drop(&mc->base, c->pins, UINT32_MAX);
	my_client_relay_free(mc);
	c->insert_id = 0;
	c->temporary_tables = c->sql_prepared = c->handlers = 0;
	c->insert_id_unknown = c->reset_done = c->eof_owed = c->begun = false;
	return my_client_logged_in(mc);
}

/* ---- time limits ---- */

void my_client_activity(const struct client *client, struct activity *a) {
	const struct my_server_relay *s = &((const struct my_server *)client->server)->relay;
	bool busy = s->count > 0 || s->half_sent > 0 || s->half_more || s->file;
	bool open = busy || (s->status & MY_STATUS_IN_TRANS);
	a->request_ns = busy ? client->request_ns : 0;
	a->transaction_ns = open ? s->transaction_since_ns : 0;
	a->exempt = s->count > 0 && s->queue[s->head].asked == MY_ASKED_STREAM;
}

void my_client_cut(struct client *client) {
	struct my_server *ms = my_server(client->server);
	char limit[256], text[340];
	if (!ms->relay.file)
		return;
	/* A server that waits for a file hears no KILL, and would keep what has come of it if we ended the file: rows that the
	 * client believes refused, or all there. It takes none where the connection breaks, and so both do. */
	bool query = ms->base.cut.why == DEADLINE_QUERY;
	deadline_text(client, &ms->base.cut, true, limit, sizeof limit);
	snprintf(text, sizeof text, "closing the connection, for a file was still coming (LOAD DATA LOCAL): %s", limit);
	client_end(client, query ? REFUSAL_QUERY_TIMEOUT : REFUSAL_TRANSACTION_TIMEOUT, text);
}

bool my_is_cut(const struct my_server *ms, uint16_t code) {
	return ms->base.client && ms->base.cut.why != DEADLINE_NONE && code == MY_ER_QUERY_INTERRUPTED;
}

void my_tell_cut(struct my_client *mc, struct my_server *ms) {
	char text[320];
	deadline_text(&mc->base, &ms->base.cut, true, text, sizeof text);
	my_send_error(mc, MY_ER_QUERY_INTERRUPTED, NULL, text);
	ms->base.cut.told = true;
}

/* The transaction is rolled back; unless it was told already, the client's next command gets the error. */
static bool roll_back(struct my_client *mc, const char *text, bool told) {
	struct my_server *ms = my_server(mc->base.server);
	char *owed = told ? NULL : strdup(text);
	if (!told && !owed)
		return false;
	free(mc->relay.owed);
	mc->relay.owed = owed;
	mc->relay.status &= (uint16_t)~MY_STATUS_IN_TRANS;
	if (mc->base.keeps_server) /* its session stays where it is */
		my_ask_sql(ms, MY_TASK_ROLLBACK, my_rollback_sql);
	else
		client_lose_server(&mc->base);
	return true;
}

bool my_client_roll_back(struct client *client, enum deadline why, const char *text) {
	(void)why;
	struct my_server *ms = my_server(client->server);
	if (ms->relay.count > 0 || ms->relay.half_sent > 0 || ms->relay.half_more || ms->relay.file)
		return false;
	return roll_back(my_client(client), text, false);
}

void my_settle_cut(struct my_server *ms) {
	struct client *client = ms->base.client;
	const struct server_cut cut = ms->base.cut;
	if (cut.expiring && ms->relay.count == 0)
		ms->base.cut = (struct server_cut){0};
	if (!client || client->closing || cut.why == DEADLINE_NONE || cut.late || ms->relay.count > 0 ||
	    ms->relay.passing > 0 || ms->relay.half_sent > 0 || ms->relay.half_more || ms->relay.file)
		return;
	char text[320];
	deadline_text(client, &cut, cut.told, text, sizeof text);
	deadline_over(&ms->base);
	if (cut.why == DEADLINE_QUERY || !(ms->relay.status & MY_STATUS_IN_TRANS))
		return;
	if (!roll_back(my_client(client), text, cut.told))
		client_end(client, REFUSAL_TRANSACTION_TIMEOUT, text);
}

/* ---- what a server is to its client ---- */

enum server_use my_server_use(const struct server *server) {
	const struct my_server *ms = (const struct my_server *)server;
	const struct my_server_relay *s = &ms->relay;
	/* what it has not taken yet is its own to read: its client may be held up by that */
	if (ms->login || s->passing > 0 || stream_pending(&server->stream) > 0)
		return SERVER_IN_USE;
	if (s->half_sent > 0 || s->half_more)
		return SERVER_HELD_MESSAGE;
	if (s->file)
		return SERVER_HELD_COPY;
	if (s->count > 0)
		return SERVER_IN_USE;
	return s->status & MY_STATUS_IN_TRANS ? SERVER_HELD_TRANSACTION : SERVER_HELD_SESSION;
}

_Static_assert(STATEMENT_SHOWN_MAX >= MY_SAID_MAX + 4, "no room for \"...\" and a zero");

void my_server_statements(const struct server *server, enum statement_text as, struct server_statements *out) {
	const struct my_server_relay *s = &((const struct my_server *)server)->relay;
	if (!s->said_count)
		return;
	out->since_ns = s->transaction_since_ns;
	my_said_show(&s->said[0], as, out->first, sizeof out->first);
	my_said_show(&s->said[s->said_count - 1], as, out->last, sizeof out->last);
}

/* ---- the console ---- */

static const char *first_pin(uint32_t pins) {
	for (int i = 0; i < PIN_REASONS; i++)
		if (pins & 1u << i)
			return pin_reason_name((enum pin_reason)i);
	return NULL;
}

void my_client_relay_describe(const struct my_client *mc, struct console_details *details) {
	details->prepared_statements = HASH_COUNT(mc->relay.statements.by_number);
	details->pinned = first_pin(mc->relay.pins);
	if (mc->relay.pins & 1u << PIN_REPLICATION)
		details->replication = "binlog";
}

void my_server_relay_describe(const struct my_server *ms, struct console_details *details) {
	details->prepared_statements = ms->relay.prepareds.count;
	if (ms->base.client)
		details->pinned = first_pin(my_client(ms->base.client)->relay.pins);
}
