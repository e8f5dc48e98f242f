/* How requests leave the queue of a server: settled, undone, or answered by us. */
#include <stdlib.h>

#include "pgsql/pgsql.h"
#include "pgsql/proven.h"

static void settle_name(struct pg_client *pc, struct pg_request *r) {
	struct pg_name *name = r->name;
	r->name = NULL;
	if (!name || !pc)
		return;
	name->pending--;
	pg_name_tidy(&pc->names, name);
}

static void drop_texts(struct pg_request *r) {
	pg_text_unref(r->before);
	pg_text_unref(r->text);
	r->before = r->text = NULL;
}

void pg_settle_head(struct pg_server *ps) {
	struct pg_request *r = pg_queue_head(&ps->queue);
	if (r->statement_change == PG_STATEMENT_ADDED && r->statement->pending_batch == r->batch)
		r->statement->pending_batch = 0;
	if (r->statement_change == PG_STATEMENT_TAKEN)
		free(r->statement);
	if (r->type == PG_REQ_PARSE && r->text && r->statement_change == PG_STATEMENT_ADDED)
		pg_proven_note(account_of(ps->base.conn.user)->serial, r->statement->id);
	drop_texts(r);
	settle_name(pg_client_of(ps), r);
	pg_queue_pop(&ps->queue);
}

/* The name stands again for what it stood for, or, where a later message has changed it again, that one will fall
 * back to it. */
static void undo_name(struct pg_server *ps, struct pg_client *pc, uint32_t i, bool failed) {
	struct pg_request *r = pg_queue_at(&ps->queue, i);
	struct pg_name *name = r->name;
	if (!name || !pc)
		return;
	struct pg_text *before = r->before;
	r->before = NULL;
	if (failed && r->sets_unnamed) { /* PostgreSQL drops the old one before it parses the new */
		pg_text_unref(before);
		before = NULL;
	}
	for (uint32_t j = i + 1; j < ps->queue.count; j++) {
		struct pg_request *later = pg_queue_at(&ps->queue, j);
		if (later->name != name)
			continue;
		pg_text_unref(later->before);
		later->before = before;
		settle_name(pc, r);
		return;
	}
	pc->names.bytes -= name->text ? name->text->len : 0;
	pc->names.bytes += before ? before->len : 0;
	pg_text_unref(name->text);
	name->text = before;
	settle_name(pc, r);
}

void pg_undo(struct pg_server *ps, uint32_t i, bool failed) {
	struct pg_client *pc = pg_client_of(ps);
	undo_name(ps, pc, i, failed);
	struct pg_request *r = pg_queue_at(&ps->queue, i);
	if (r->sets_unnamed || r->type == PG_REQ_QUERY) /* a Query that is passed over drops nothing */
		pg_statements_lose_unnamed(&ps->statements);
	if (r->statement_change == PG_STATEMENT_ADDED) {
		pg_statement_take(&ps->statements, r->statement);
		free(r->statement);
	} else if (r->statement_change == PG_STATEMENT_TAKEN && !pg_statement_put_back(&ps->statements, r->statement)) {
		free(r->statement);
		pool_conn_retire(&ps->base.conn, "out of memory"); /* we no longer know what it has */
	}
	drop_texts(r);
	if (r->name && !pc)
		r->name = NULL;
	pg_queue_remove(&ps->queue, i);
}

bool pg_drop_to_sync(struct pg_server *ps) {
	uint32_t end = 0;
	while (end < ps->queue.count && pg_queue_at(&ps->queue, end)->type != PG_REQ_SYNC)
		end++;
	bool found = end < ps->queue.count;
	while (end-- > 0)
		pg_undo(ps, end, end == 0);
	return found;
}

void pg_emit_virtual(struct pg_server *ps) {
	static const uint8_t parse_complete[] = {'1', 0, 0, 0, 4}, close_complete[] = {'3', 0, 0, 0, 4},
			     deallocate[] = {'C', 0, 0, 0, 15, 'D', 'E', 'A', 'L', 'L', 'O', 'C', 'A', 'T', 'E', 0};
	struct pg_request *r;
	if (ps->passing > 0) /* not into the middle of a message */
		return;
	while ((r = pg_queue_head(&ps->queue))) {
		if (r->type == PG_REQ_COPY_END && ps->copy != 'G') {
			pg_queue_pop(&ps->queue);
			continue;
		}
		if (r->type != PG_REQ_VIRTUAL)
			return;
		struct client *client = ps->base.client;
		if (client && r->virtual_answer == PG_VIRTUAL_PARSE_COMPLETE)
			client_write(client, parse_complete, sizeof parse_complete);
		else if (client && r->virtual_answer == PG_VIRTUAL_CLOSE_COMPLETE)
			client_write(client, close_complete, sizeof close_complete);
		else if (client)
			client_write(client, deallocate, sizeof deallocate);
		pg_settle_head(ps);
	}
}
