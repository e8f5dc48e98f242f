#include "pgsql/begin.h"

#include <string.h>

#include "pgsql/frontend.h"

enum { QUERY_MAX = 1024 }; /* a longer one is not looked at */

/* Parse, Bind and Execute, unnamed. */
static const uint8_t begin_batch[] = {
	'P', 0, 0, 0, 13, 0, 'B', 'E', 'G', 'I', 'N', 0, 0, 0, /* no parameter types */
	'B', 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0,              /* no formats, no values, no formats of results */
	'E', 0, 0, 0, 9, 0, 0, 0, 0, 0                         /* all rows */
};
static const enum pg_request_type begin_requests[] = {PG_REQ_PARSE, PG_REQ_BIND, PG_REQ_EXECUTE};

/* ---- answered here ---- */

/* CommandComplete and ReadyForQuery, and what a Query changes besides. */
static void complete(struct pg_client *pc, const char *tag, char status) {
	struct client *client = &pc->base;
	struct pg_name *unnamed = pc->names.unnamed;
	uint8_t message[PG_HEADER + 24] = {'C'};
	size_t len = strlen(tag) + 1;
	message[PG_HEADER - 1] = (uint8_t)(4 + len);
	memcpy(message + PG_HEADER, tag, len);
	client_write(client, message, PG_HEADER + len);
	if (unnamed && unnamed->text && unnamed->pending == 0)
		pg_name_set(&pc->names, unnamed, NULL);
	pc->unnamed_passed = false;
	pc->batch++;
	client->queries++;
	stat_add(&pool_shard_stats_mut(client->shard)->queries, 1);
	pg_send_ready(pc, status);
}

static void begin(struct pg_client *pc, const char *tag) {
	pc->base.begin_deferred = true;
	pc->base.request_ns = pc->base.sw->worker->now_ns;
	complete(pc, tag, 'T');
}

static void end(struct pg_client *pc, const char *tag) {
	struct client *client = &pc->base;
	client->begin_deferred = false;
	client->transactions++;
	stat_add(&pool_shard_stats_mut(client->shard)->transactions, 1);
	complete(pc, tag, 'I');
}

static bool may_defer(const struct pg_client *pc) {
	const struct client *client = &pc->base;
	const struct pool_config *config = database_view(client->database, client->sw->worker->id)->config;
	return config->defer_begin && config->mode == POOL_MODE_TRANSACTION && !client->keeps_server && !client->dedicated;
}

bool pg_begin_query(struct pg_client *pc, const uint8_t *sql, size_t len, bool alone) {
	bool deferred = pc->base.begin_deferred;
	if (len < 2 || len > QUERY_MAX || sql[len - 1] != 0)
		return false;
	if (!deferred && (!alone || !pg_sql_may_begin(sql) || !may_defer(pc)))
		return false;
	enum pg_bare kind = pg_sql_bare((const char *)sql, len - 1);
	if (!deferred && (kind == PG_BARE_BEGIN || kind == PG_BARE_START))
		begin(pc, kind == PG_BARE_BEGIN ? "BEGIN" : "START TRANSACTION");
	else if (deferred && (kind == PG_BARE_COMMIT || kind == PG_BARE_ROLLBACK))
		end(pc, kind == PG_BARE_COMMIT ? "COMMIT" : "ROLLBACK");
	else
		return false;
	return true;
}

/* ---- on the server ---- */

bool pg_begin_send(struct pg_client *pc, struct pg_server *ps) {
	for (size_t i = 0; i < sizeof begin_requests / sizeof begin_requests[0]; i++) {
		struct pg_request *r = fe_push(pc, ps, begin_requests[i]);
		if (!r)
			return false;
		r->hidden = true;
		r->task = PG_TASK_BEGIN;
	}
	fe_note_said(ps, "BEGIN", sizeof "BEGIN", false);
	pg_statements_lose_unnamed(&ps->statements);
	ps->replayable = false;
	pc->base.begin_deferred = false;
	return server_write(&ps->base, begin_batch, sizeof begin_batch);
}

bool pg_begin_outstanding(const struct pg_server *ps) {
	const struct pg_request *head = pg_queue_head(&ps->queue);
	return head && head->task == PG_TASK_BEGIN && pg_queue_at(&ps->queue, ps->queue.count - 1)->type <= PG_REQ_SYNC;
}

void pg_begin_failed(struct pg_client *pc, struct pg_server *ps, const char *text) {
	struct client *client = &pc->base;
	bool ready_due = pg_begin_outstanding(ps);
	if (!pg_drop_to_sync(ps))
		ps->open_batch = ps->batch_failed = true;
	pc->discard = ps->half_sent;
	pg_text_unref(pc->portal);
	pc->portal = NULL;
	pc->unnamed_passed = false;
	pc->mid_message = false; /* the error was whole, and all before it */
	if (!pg_aborted_begin(pc, "", text, true)) {
		client_end(client, REFUSAL_INTERNAL, "out of memory");
		return;
	}
	client_lose_server(client); /* clean again when it has seen a Sync */
	if (ready_due)
		pg_send_ready(pc, 'E');
	else
		pc->skip_to_sync = true;
}
