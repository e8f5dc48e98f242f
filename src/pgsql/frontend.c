/*
 * From a client to its server: walks message headers in place, bodies only where the design needs them.
 * Sections "Message Flow" and "Message Formats".
 */
#include "pgsql/frontend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session/deadline.h"

/* ---- simple query, function call, sync ---- */

void pg_send_ready(struct pg_client *pc, char status) {
	const uint8_t ready[] = {'Z', 0, 0, 0, 5, (uint8_t)status};
	client_write(&pc->base, ready, sizeof ready);
	pc->base.answered_ns = pc->base.sw->worker->now_ns;
	deadline_begun(&pc->base);
}

/* The state of a client whose server, if it has one, has not been asked for anything. */
static char idle_status(const struct pg_client *pc) {
	return pc->aborted ? 'E' : pc->base.begin_deferred ? 'T' : 'I';
}

/* DEALLOCATE of a name that only we know. True: dealt with (or on hold, or closed; *n says). */
static bool query_deallocate(struct pg_client *pc, const struct message *m, const char *wanted, taken *n) {
	struct pg_server *ps = fe_server_of(pc);
	struct pg_name *name = pg_name_find(&pc->names, wanted);
	*n = 0;
	if (ps && (ps->queue.count > 0 || ps->passing > 0)) { /* its turn comes when all before it is answered */
		*n = fe_hold(pc);
		return true;
	}
	if (!name || !name->text || (ps && (ps->status == 'E' || ps->open_batch)))
		return false;
	static const uint8_t complete[] = {'C', 0, 0, 0, 15, 'D', 'E', 'A', 'L', 'L', 'O', 'C', 'A', 'T', 'E', 0};
	pg_name_set(&pc->names, name, NULL);
	pg_name_tidy(&pc->names, name);
	client_write(&pc->base, complete, sizeof complete);
	pg_send_ready(pc, ps && !pc->base.begin_deferred ? ps->status : idle_status(pc));
	*n = m->have;
	return true;
}

/* Whether the text ends the transaction and goes on in another. */
static bool begins_another(const struct message *m) {
	const char *sql = (const char *)m->data + PG_HEADER;
	size_t rest;
	enum pg_exit kind = pg_sql_exit(sql, strnlen(sql, m->have - PG_HEADER), &rest);
	return kind == PG_EXIT_CHAIN || ((kind == PG_EXIT_ROLLBACK || kind == PG_EXIT_COMMIT) && rest > 0);
}

static taken on_query(struct pg_client *pc, const struct message *m) {
	if (!fe_may_leave(m))
		return 0;
	if (!pc->base.server && m->blank == 0 && fe_is_whole(m) &&
	    pg_begin_query(pc, m->data + PG_HEADER, m->have - PG_HEADER, !m->more))
		return m->have;
	enum pg_text_kind kind = PG_TEXT_PLAIN;
	if (fe_is_whole(m) && m->have <= 1024 && m->have > PG_HEADER && m->blank == 0) {
		char *name = NULL;
		size_t len = strnlen((const char *)m->data + PG_HEADER, m->have - PG_HEADER);
		kind = pg_sql_kind((const char *)m->data + PG_HEADER, len, &name);
		taken n;
		bool done = kind == PG_TEXT_DEALLOCATE && !fe_keeps_statements(pc) && query_deallocate(pc, m, name, &n);
		fe_note_reset(pc, kind, name);
		free(name);
		if (done)
			return n;
	}
	if (!fe_want_server(pc))
		return 0;
	struct pg_server *ps = fe_server_of(pc);
	struct pg_request *r = fe_push(pc, ps, PG_REQ_QUERY);
	if (!r)
		return fe_out_of_memory(pc);
	if (ps->status != 'I' && ps->queue.count == 1 && begins_another(m)) /* the server would tell when all is done */
		pg_transaction_begins(pc, ps);
	r->kind = (uint8_t)kind;
	pg_queue_count(&ps->queue, r);
	fe_note_said(ps, m->data + PG_HEADER, m->have - PG_HEADER, !fe_is_whole(m));
	/* PostgreSQL drops the unnamed statement at each simple query */
	if (pc->names.unnamed && (pc->names.unnamed->text || pc->names.unnamed->pending > 0))
		fe_change_name(pc, r, pc->names.unnamed, NULL);
	pc->unnamed_passed = false;
	pg_statements_set_unnamed(&ps->statements, NULL);
	ps->open_batch = false;
	ps->replayable = false;
	pc->batch++;
	pc->base.queries++;
	return m->blank ? fe_forward_blanked(pc, m) : fe_forward(pc, m);
}

static taken on_function_call(struct pg_client *pc, const struct message *m) {
	if (!fe_may_leave(m))
		return 0;
	taken n = fe_forward_counted(pc, m, PG_REQ_FUNCTION);
	if (n > 0) {
		static const char call[] = "(function call)";
		fe_note_said(fe_server_of(pc), call, sizeof call, false);
		fe_server_of(pc)->open_batch = false;
		fe_server_of(pc)->replayable = false;
		pc->batch++;
	}
	return n;
}

static taken on_sync(struct pg_client *pc, const struct message *m) {
	taken n;
	if (!fe_small_and_whole(pc, m, &n))
		return n;
	if (m->total != PG_HEADER)
		return fe_protocol_error(pc, "invalid Sync message");
	struct pg_server *ps = fe_server_of(pc);
	if (!ps || pc->base.begin_deferred) { /* nothing is under way anywhere */
		pc->skip_to_sync = false;
		pc->batch++;
		pg_send_ready(pc, idle_status(pc));
		return m->have;
	}
	if (ps->copy == 'G' && !ps->copy_input_done) { /* a server that copies in ignores it */
		ps->swallowed_syncs++;
		return fe_forward(pc, m);
	}
	if (!fe_want_server(pc))
		return 0;
	pc->skip_to_sync = false;
	if (!fe_push(pc, ps, PG_REQ_SYNC))
		return fe_out_of_memory(pc);
	fe_record(pc, ps, m->data, m->have);
	ps->open_batch = false;
	pc->batch++;
	pc->base.queries++;
	return fe_forward(pc, m);
}

/* ---- copy ---- */

static taken on_copy_data(struct pg_client *pc, const struct message *m) {
	struct pg_server *ps = fe_server_of(pc);
	if (!ps || (ps->copy == 0 && ps->queue.count == 0))
		return fe_discard(pc, m); /* of a copy that has failed: PostgreSQL passes over it, too */
	if (!fe_may_leave(m))
		return 0;
	return fe_forward(pc, m);
}

static taken on_copy_end(struct pg_client *pc, const struct message *m) {
	struct pg_server *ps = fe_server_of(pc);
	if (!ps || (ps->copy == 0 && ps->queue.count == 0))
		return fe_discard(pc, m);
	if (!fe_may_leave(m))
		return 0;
	if (ps->copy != 'W' && (pg_queue_full(&ps->queue) || (ps->copy == 'G' && ps->copy_input_done)))
		return fe_discard(pc, m); /* ends nothing any more */
	if (ps->copy != 'W') {
		bool open = ps->open_batch;
		if (!fe_push(pc, ps, PG_REQ_COPY_END))
			return fe_out_of_memory(pc);
		ps->open_batch = open;
		if (ps->copy == 'G')
			ps->copy_input_done = true;
	}
	return fe_forward(pc, m);
}

/* ---- the walk ---- */

/* Its request was answered with an error before it got a server. */
static taken skip_refused(struct pg_client *pc, const struct message *m) {
	pc->refused = false;
	if (m->type == 'Q' || m->type == 'F' || m->type == 'S') {
		pg_send_ready(pc, idle_status(pc));
		return fe_discard(pc, m);
	}
	pc->skip_to_sync = true;
	return fe_discard(pc, m);
}

/* A statement must not be hit by the cancel of the one before it. */
static bool cancel_outstanding(const struct pg_server *ps) {
	return ps && ps->base.cut.late && !list_empty(&ps->base.cancels);
}

/* Its transaction was rolled back by a time limit. False: the message goes its usual way. */
static bool is_aborted(struct pg_client *pc, struct message *m, taken *n) {
	size_t cut = 0;
	*n = 0;
	switch (pg_aborted_message(pc, m->data, m->have, m->total, &cut)) {
	case PG_ABORTED_PASS:
		return false;
	case PG_ABORTED_WAIT:
		return true;
	case PG_ABORTED_HOLD:
		*n = fe_hold(pc);
		return true;
	case PG_ABORTED_DONE:
		*n = fe_discard(pc, m);
		return true;
	case PG_ABORTED_INVALID:
		*n = fe_protocol_error(pc, "invalid message");
		return true;
	case PG_ABORTED_REST:
		if (!fe_want_server(pc))
			return true;
		pg_aborted_rest(pc);
		m->blank = cut;
		return false;
	}
	return false;
}

static taken on_message(struct pg_client *pc, struct message *m) {
	if (m->type == 'X') {
		struct pg_server *ps = fe_server_of(pc);
		if (ps)
			ps->let_finish = true;
		if (ps && ps->queue.count > 0 && !pc->skip_to_sync && !ps->open_batch)
			return fe_hold(pc); /* PostgreSQL does what it was asked before it reads this */
		stream_input_over(&pc->base.stream);
		if (stream_pending(&pc->base.stream) > 0 && (!stream_flush(&pc->base.stream) || stream_pending(&pc->base.stream) > 0))
			client_close(&pc->base, "the application said goodbye"); /* which waits for what it has not read */
		else
			client_destroy(&pc->base, "the application said goodbye");
		return 0;
	}
	if (pc->refused)
		return skip_refused(pc, m);
	taken answered;
	if (pc->aborted && is_aborted(pc, m, &answered))
		return answered;
	if (pc->skip_to_sync && m->type != 'S')
		return fe_discard(pc, m);
	/* Whether a copy has swallowed the Syncs that were sent with it is known when it has ended: nothing that is answered
	 * goes behind it before. */
	struct pg_server *server = fe_server_of(pc);
	if (server && (server->uncertain > 0 || server->queue.copy_ends > 0 || cancel_outstanding(server)) &&
	    strchr("QFPBDEC", m->type))
		return fe_hold(pc);
	if (server && pg_begin_outstanding(server) && strchr("QFPBDECSdcf", m->type))
		return fe_hold(pc);
	switch (m->type) {
	case 'Q':
		return on_query(pc, m);
	case 'P':
		return fe_on_parse(pc, m);
	case 'B':
		return fe_on_bind(pc, m);
	case 'D':
		return fe_on_describe(pc, m);
	case 'E':
		return fe_on_execute(pc, m);
	case 'C':
		return fe_on_close(pc, m);
	case 'S':
		return on_sync(pc, m);
	case 'H': {
		taken n;
		if (!fe_small_and_whole(pc, m, &n))
			return n;
		if (m->total != PG_HEADER) /* its error would be one that nobody waits for */
			return fe_protocol_error(pc, "invalid Flush message");
		return fe_server_of(pc) ? fe_forward(pc, m) : m->have;
	}
	case 'F':
		return on_function_call(pc, m);
	case 'd':
		return on_copy_data(pc, m);
	case 'c':
	case 'f':
		return on_copy_end(pc, m);
	default: {
		char text[64];
		snprintf(text, sizeof text, "invalid frontend message type %d", (unsigned char)m->type);
		return fe_protocol_error(pc, text);
	}
	}
}

size_t pg_frontend_input(struct pg_client *pc, const uint8_t *data, size_t len) {
	struct client *client = &pc->base;
	size_t used = 0;
	while (used < len && client->hold == HOLD_NONE && client->state != CLIENT_CLOSED && !client->closing) {
		size_t left = len - used;
		struct pg_server *ps = fe_server_of(pc);
		if (pc->discard > 0) {
			size_t n = pc->discard < left ? (size_t)pc->discard : left;
			pc->discard -= n;
			used += n;
			continue;
		}
		if (ps && ps->half_sent > 0) {
			size_t n = ps->half_sent < left ? (size_t)ps->half_sent : left;
			if (!server_write(&ps->base, data + used, n))
				return fe_out_of_memory(pc);
			ps->half_sent -= n;
			used += n;
			continue;
		}
		if (left < PG_HEADER)
			break;
		struct message m = {.type = (char)data[used], .data = data + used};
		m.total = 1 + (uint64_t)pg_get_u32(m.data + 1);
		if (m.total < PG_HEADER || m.total > MESSAGE_MAX) {
			fe_protocol_error(pc, "invalid message length");
			break;
		}
		m.have = m.total < left ? (size_t)m.total : left;
		m.more = m.total < left;
		size_t n = on_message(pc, &m);
		if (n == 0)
			break;
		used += n;
	}
	return used;
}
