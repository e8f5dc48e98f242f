/*
 * Parse, Bind, Describe, Execute and Close: a client's prepared statements, over whichever server it has.
 * Sections "Extended Query" and "Message Formats".
 */
#include "pgsql/frontend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgsql/proven.h"

enum { RESET_NAME_MAX = 63 /* PostgreSQL cuts longer ones */ };

/* A Close in an earlier batch may or may not have dropped this statement: nobody knows yet whether it is there. */
static bool close_outstanding(const struct pg_client *pc, const struct pg_server *ps, const uint8_t *id) {
	for (uint32_t i = 0; i < ps->queue.count; i++) {
		const struct pg_request *r = pg_queue_at(&ps->queue, i);
		if (r->batch == pc->batch)
			return false;
		if (r->statement_change == PG_STATEMENT_TAKEN && memcmp(r->statement->id, id, PG_STATEMENT_ID) == 0)
			return true;
	}
	return false;
}

static bool close_statement(struct pg_client *pc, struct pg_server *ps, struct pg_statement *victim) {
	char name[1 + PG_STATEMENT_NAME] = {'S'};
	struct pg_request *r = fe_push(pc, ps, PG_REQ_CLOSE);
	if (!r)
		return false;
	pg_statement_name(victim->id, name + 1);
	r->hidden = true;
	r->statement = victim;
	r->statement_change = PG_STATEMENT_TAKEN;
	pg_statement_take(&ps->statements, victim);
	return fe_put_message(ps, 'C', name, sizeof name, NULL, 0);
}

static bool make_room(struct pg_client *pc, struct pg_server *ps) {
	const struct pool_config *config = database_view(pc->base.database, pc->base.sw->worker->id)->config;
	uint32_t max = config->max_prepared_statements ? config->max_prepared_statements : 1;
	while (ps->statements.count >= max) {
		struct pg_statement *victim = pg_statement_oldest(&ps->statements);
		if (!victim)
			return true; /* all are of this batch */
		if (!close_statement(pc, ps, victim))
			return false;
	}
	return true;
}

static struct pg_request *push_parse(struct pg_client *pc, struct pg_server *ps, const uint8_t *id) {
	struct pg_statement *statement = NULL;
	if (id && !(statement = pg_statement_add(&ps->statements, id)))
		return NULL;
	struct pg_request *r = fe_push(pc, ps, PG_REQ_PARSE);
	if (!r) {
		if (statement) {
			pg_statement_take(&ps->statements, statement);
			free(statement);
		}
		return NULL;
	}
	if (statement) {
		statement->pending_batch = pc->batch;
		r->statement = statement;
		r->statement_change = PG_STATEMENT_ADDED;
	}
	return r;
}

enum pg_prepare pg_ensure_prepared(struct pg_client *pc, struct pg_server *ps, struct pg_text *text) {
	const uint8_t *id = pg_text_id(text, pc->settings);
	if (!id)
		return PG_PREPARE_FAILED;
	struct pg_statement *statement = pg_statement_find(&ps->statements, id);
	if (statement ? statement->pending_batch != 0 && statement->pending_batch != pc->batch
		      : close_outstanding(pc, ps, id))
		return PG_PREPARE_HOLD;
	if (statement && statement->epoch != text->epoch && statement->pending_batch == 0) {
		/* its result has changed since it was prepared here: prepare it anew */
		if (!close_statement(pc, ps, statement))
			return PG_PREPARE_FAILED;
		statement = NULL;
	}
	if (statement)
		return PG_PREPARED;
	if (!make_room(pc, ps))
		return PG_PREPARE_FAILED;
	struct pg_request *r = push_parse(pc, ps, id);
	if (!r)
		return PG_PREPARE_FAILED;
	r->hidden = true;
	r->text = pg_text_ref(text);
	r->statement->epoch = text->epoch;
	return fe_put_message(ps, 'P', text->on_server, sizeof text->on_server, text->body, text->len) ? PG_PREPARED : PG_PREPARE_FAILED;
}

/*
 * An error of ours in the middle of a batch: the server must fail there, too, for it ends the transaction. It is asked
 * for a statement that it cannot have, and its error is told in our words.
 */
static taken refuse_statement(struct pg_client *pc, const struct message *m, enum pg_refused why) {
	static const uint8_t bind[] = "\0forebay_none\0\0\0\0\0\0";
	if (!fe_want_server(pc))
		return 0;
	struct pg_server *ps = fe_server_of(pc);
	struct pg_request *r = fe_push(pc, ps, PG_REQ_BIND);
	if (!r || !fe_put_message(ps, 'B', bind, sizeof bind, NULL, 0))
		return fe_out_of_memory(pc);
	r->refused = (uint8_t)why;
	ps->replayable = false;
	return fe_discard(pc, m);
}

static taken parse_unnamed(struct pg_client *pc, const struct message *m) {
	if (!fe_want_server(pc))
		return 0;
	struct pg_server *ps = fe_server_of(pc);
	struct pg_name *name = pg_name_make(&pc->names, "");
	struct pg_text *text = NULL;
	if (!name)
		return fe_out_of_memory(pc);
	if (fe_is_whole(m) && !(text = pg_text_get(pg_texts(pc->base.sw), m->data + PG_HEADER + 1, m->have - PG_HEADER - 1)))
		return fe_out_of_memory(pc);
	struct pg_request *r = push_parse(pc, ps, NULL);
	if (!r) {
		pg_text_unref(text);
		return fe_out_of_memory(pc);
	}
	r->sets_unnamed = true;
	fe_note_said(ps, m->data + PG_HEADER + 1, m->have - PG_HEADER - 1, !fe_is_whole(m));
	pc->unnamed_passed = text == NULL;
	if (text)
		pg_statements_set_unnamed(&ps->statements, text);
	else
		pg_statements_lose_unnamed(&ps->statements);
	fe_change_name(pc, r, name, text);
	return fe_forward(pc, m);
}

/* The name is taken: the server is made to say so, at the right place in its transaction; the words are ours. */
static taken parse_duplicate(struct pg_client *pc, const struct message *m, struct pg_name *name, size_t cut) {
	if (!fe_want_server(pc))
		return 0;
	struct pg_server *ps = fe_server_of(pc);
	switch (pg_ensure_prepared(pc, ps, name->text)) {
	case PG_PREPARE_HOLD:
		return fe_hold(pc);
	case PG_PREPARE_FAILED:
		return fe_out_of_memory(pc);
	case PG_PREPARED:
		break;
	}
	struct pg_request *r = fe_push(pc, ps, PG_REQ_PARSE);
	if (!r)
		return fe_out_of_memory(pc);
	r->duplicate = true;
	r->name = name;
	r->before = name->text ? pg_text_ref(name->text) : NULL;
	name->pending++;
	name->pending_batch = pc->batch;
	return fe_forward_replaced(pc, m, cut, name->text->on_server, PG_STATEMENT_NAME);
}

/*
 * Outside of any transaction a text that a server of this pool has parsed for this user before needs no server to be
 * parsed again: an application that prepares its statements one after the other does not queue for each of them.
 */
static bool parse_proven(struct pg_client *pc, const struct message *m, const char *wanted, size_t cut) {
	static const uint8_t parse_complete[] = {'1', 0, 0, 0, 4};
	size_t len = m->have - PG_HEADER - cut;
	if (pc->names.bytes + len > PG_CLIENT_TEXTS_MAX)
		return false;
	struct pg_text *text = pg_text_get(pg_texts(pc->base.sw), m->data + PG_HEADER + cut, len);
	const uint8_t *id = text ? pg_text_id(text, pc->settings) : NULL;
	struct pg_name *name = NULL;
	if (id && pg_proven_has(account_of(pc->base.user)->serial, id))
		name = pg_name_make(&pc->names, wanted);
	if (!name) {
		pg_text_unref(text);
		return false;
	}
	pg_name_set(&pc->names, name, text);
	client_write(&pc->base, parse_complete, sizeof parse_complete);
	return true;
}

static taken parse_named(struct pg_client *pc, const struct message *m, const char *wanted, size_t cut) {
	struct pg_name *name = pg_name_find(&pc->names, wanted);
	struct pg_server *ps = fe_server_of(pc);
	if (fe_depends_on_earlier_batch(pc, name) || fe_statements_uncertain(ps))
		return fe_hold(pc);
	if (name && name->text)
		return parse_duplicate(pc, m, name, cut);
	if (!ps && parse_proven(pc, m, wanted, cut))
		return m->have;
	if (!fe_want_server(pc))
		return 0;
	ps = fe_server_of(pc);
	size_t body = m->have - PG_HEADER - cut;
	const uint8_t *sql = m->data + PG_HEADER + cut;
	if (pc->names.bytes + body > PG_CLIENT_TEXTS_MAX || !(name = pg_name_make(&pc->names, wanted)))
		return refuse_statement(pc, m, PG_REFUSED_TOO_MANY);
	struct pg_text *text = pg_text_get(pg_texts(pc->base.sw), m->data + PG_HEADER + cut, body);
	const uint8_t *id = text ? pg_text_id(text, pc->settings) : NULL;
	if (!id) {
		pg_text_unref(text);
		pg_name_tidy(&pc->names, name);
		return fe_out_of_memory(pc);
	}
	struct pg_statement *statement = pg_statement_find(&ps->statements, id);
	if (statement ? statement->pending_batch != 0 && statement->pending_batch != pc->batch
		      : close_outstanding(pc, ps, id)) {
		pg_text_unref(text);
		pg_name_tidy(&pc->names, name);
		return fe_hold(pc);
	}
	/*
	 * In a failed transaction a Parse fails, so where one may have failed the server must be asked: the statement is
	 * closed, which always works, and parsed again, which works or fails as it should.
	 */
	bool same_batch = statement && statement->pending_batch != 0;
	bool known_state = ps->status != 'E' && !fe_earlier_batch_outstanding(pc, ps);
	if (statement && statement->epoch == text->epoch && (same_batch || known_state)) {
		struct pg_request *r = fe_push(pc, ps, PG_REQ_VIRTUAL);
		if (!r)
			return fe_out_of_memory(pc);
		r->virtual_answer = PG_VIRTUAL_PARSE_COMPLETE;
		fe_note_said(ps, sql, body, false);
		fe_change_name(pc, r, name, text);
		pg_emit_virtual(ps);
		return m->have;
	}
	if (statement && !close_statement(pc, ps, statement))
		return fe_out_of_memory(pc);
	struct pg_request *r = NULL;
	if (make_room(pc, ps))
		r = push_parse(pc, ps, id);
	if (!r) {
		pg_text_unref(text);
		return fe_out_of_memory(pc);
	}
	r->statement->epoch = text->epoch;
	r->text = pg_text_ref(text);
	fe_note_said(ps, sql, body, false);
	fe_change_name(pc, r, name, text);
	return fe_forward_replaced(pc, m, cut, text->on_server, sizeof text->on_server);
}

/* A batch that starts outside a transaction with a Bind can be sent again if its plan has become stale. */
static void begin_replay(struct pg_server *ps) {
	ps->replayable = ps->status == 'I' && ps->queue.count == 0 && !ps->open_batch;
	ps->replayed = false;
	ps->replay.end = ps->replay.start = 0;
}

void fe_record(struct pg_client *pc, struct pg_server *ps, const void *data, size_t len) {
	if (!ps->replayable)
		return;
	if (buf_len(&ps->replay) + len > MESSAGE_HOLD_MAX ||
	    !buf_append(pc->base.sw->worker->buffers, &ps->replay, data, len))
		ps->replayable = false;
}

taken fe_forward_counted(struct pg_client *pc, const struct message *m, enum pg_request_type type) {
	if (!fe_want_server(pc))
		return 0;
	struct pg_server *ps = fe_server_of(pc);
	struct pg_request *r = fe_push(pc, ps, type);
	if (!r)
		return fe_out_of_memory(pc);
	if (type == PG_REQ_EXECUTE && pc->portal) {
		struct reader body = fe_body_of(m);
		const char *portal = reader_cstr(&body, NULL);
		if (portal && !portal[0])
			r->kind = (uint8_t)pc->portal->kind;
	}
	pg_queue_count(&ps->queue, r);
	fe_record(pc, ps, m->data, m->have);
	return fe_forward(pc, m);
}

/* A session that keeps its server keeps its statements there, under the names it gave them. */
bool fe_keeps_statements(const struct pg_client *pc) {
	return pc->base.keeps_server || pc->base.dedicated;
}

/* The same for a Parse or Bind that went on under the client's own names, which we do not keep. */
static void note_kept(struct pg_client *pc, const struct message *m) {
	struct reader r = fe_body_of(m);
	const char *first = reader_cstr(&r, NULL);
	if (!first || !fe_server_of(pc))
		return;
	if (m->type == 'P') {
		fe_note_said(fe_server_of(pc), r.pos, reader_left(&r), !fe_is_whole(m));
		return;
	}
	const char *statement = reader_cstr(&r, NULL);
	if (statement && statement[0]) /* the unnamed one was told by its Parse */
		fe_note_named(fe_server_of(pc), statement);
}

static taken forward_kept(struct pg_client *pc, const struct message *m, enum pg_request_type type) {
	taken n = fe_may_leave(m) ? fe_forward_counted(pc, m, type) : 0;
	if (n > 0)
		note_kept(pc, m);
	return n;
}

taken fe_on_parse(struct pg_client *pc, const struct message *m) {
	if (fe_keeps_statements(pc))
		return forward_kept(pc, m, PG_REQ_PARSE);
	struct reader r = fe_body_of(m);
	size_t name_len = 0;
	const char *name = reader_cstr(&r, &name_len);
	if (!name && (fe_is_whole(m) || m->have > SMALL_MESSAGE_MAX))
		return fe_protocol_error(pc, "invalid Parse message: its statement name does not end");
	if (!name)
		return 0;
	if (!fe_is_whole(m) && m->total <= PG_TEXT_MAX)
		return 0;
	if (!name_len)
		return parse_unnamed(pc, m);
	if (!fe_is_whole(m))
		return refuse_statement(pc, m, PG_REFUSED_TOO_LONG);
	char *copy = strndup(name, name_len);
	if (!copy)
		return fe_out_of_memory(pc);
	taken n = parse_named(pc, m, copy, name_len + 1);
	free(copy);
	return n;
}

/* Makes the statement that a Bind or Describe names be on the server. `*on_server` NULL: goes on under the name it has. */
static enum pg_prepare find_statement(struct pg_client *pc, struct pg_server *ps, struct pg_name *name, bool unnamed,
				      const char **on_server) {
	*on_server = NULL;
	struct pg_text *text = name ? name->text : NULL;
	if (unnamed && pc->unnamed_passed)
		return PG_PREPARED;
	if (!text && unnamed && (ps->statements.unnamed || ps->statements.unnamed_unknown)) {
		/* What is there is another client's: this one has none, and is to hear so from the server. */
		struct pg_request *r = fe_push(pc, ps, PG_REQ_CLOSE);
		if (!r)
			return PG_PREPARE_FAILED;
		r->hidden = r->sets_unnamed = true;
		pg_statements_set_unnamed(&ps->statements, NULL);
		return fe_put_message(ps, 'C', "S", 2, NULL, 0) ? PG_PREPARED : PG_PREPARE_FAILED;
	}
	if (!text)
		return PG_PREPARED; /* the server knows no such name either, and says so */
	if (unnamed) {
		if (ps->statements.unnamed == text)
			return PG_PREPARED;
		struct pg_request *r = push_parse(pc, ps, NULL);
		if (!r)
			return PG_PREPARE_FAILED;
		r->hidden = r->sets_unnamed = true;
		pg_statements_set_unnamed(&ps->statements, text);
		return fe_put_message(ps, 'P', "", 1, text->body, text->len) ? PG_PREPARED : PG_PREPARE_FAILED;
	}
	enum pg_prepare done = pg_ensure_prepared(pc, ps, text);
	if (done == PG_PREPARED)
		*on_server = text->on_server;
	return done;
}

static void set_portal(struct pg_client *pc, struct pg_text *text) {
	pg_text_unref(pc->portal);
	pc->portal = text && text->kind != PG_TEXT_PLAIN ? pg_text_ref(text) : NULL;
	pc->portal_batch = pc->batch;
}

/* Bind and Describe of a statement share this: `at` is where the statement's name begins in the body. */
static taken use_statement(struct pg_client *pc, const struct message *m, const char *wanted, size_t at,
			   enum pg_request_type type) {
	struct pg_name *name = pg_name_find(&pc->names, wanted);
	bool unnamed = !wanted[0];
	struct pg_server *ps = fe_server_of(pc);
	if (fe_depends_on_earlier_batch(pc, name) || (!unnamed && fe_statements_uncertain(ps)))
		return fe_hold(pc);
	if (!fe_want_server(pc))
		return 0;
	ps = fe_server_of(pc);
	if (type == PG_REQ_BIND)
		begin_replay(ps);
	const char *on_server;
	uint32_t queued = ps->queue.count;
	switch (find_statement(pc, ps, name, unnamed, &on_server)) {
	case PG_PREPARE_HOLD:
		return fe_hold(pc);
	case PG_PREPARE_FAILED:
		return fe_out_of_memory(pc);
	case PG_PREPARED:
		break;
	}
	struct pg_request *r = fe_push(pc, ps, type);
	if (!r)
		return fe_out_of_memory(pc);
	struct pg_text *text = name ? name->text : NULL;
	if (type == PG_REQ_BIND && text)
		fe_note_said(ps, text->body, text->len, false);
	else if (type == PG_REQ_BIND && !unnamed)
		fe_note_named(ps, wanted);
	if (type == PG_REQ_BIND && at == 1)
		set_portal(pc, text);
	if (!on_server) {
		ps->replayable = false;
		return fe_forward(pc, m);
	}
	r->renamed = true;
	r->text = pg_text_ref(text);
	uint8_t head[SMALL_MESSAGE_MAX];
	size_t head_len = at + PG_STATEMENT_NAME, cut = at + strlen(wanted) + 1;
	if (PG_HEADER + head_len > sizeof head)
		return fe_protocol_error(pc, "invalid message: a portal's name is too long");
	fe_replaced_header(m, cut, head_len, head);
	memcpy(head + PG_HEADER, m->data + PG_HEADER, at);
	memcpy(head + PG_HEADER + at, on_server, PG_STATEMENT_NAME);
	ps->replayable = ps->replayable && type == PG_REQ_BIND && fe_is_whole(m) && queued == ps->queue.count - 1;
	fe_record(pc, ps, head, PG_HEADER + head_len);
	fe_record(pc, ps, m->data + PG_HEADER + cut, m->have - PG_HEADER - cut);
	return fe_forward_behind(pc, m, head, PG_HEADER + head_len, cut);
}

taken fe_on_bind(struct pg_client *pc, const struct message *m) {
	if (fe_keeps_statements(pc))
		return forward_kept(pc, m, PG_REQ_BIND);
	struct reader r = fe_body_of(m);
	size_t portal_len = 0;
	const char *portal = reader_cstr(&r, &portal_len);
	const char *name = reader_cstr(&r, NULL);
	if (!name) {
		if (fe_is_whole(m) || m->have > SMALL_MESSAGE_MAX)
			return fe_protocol_error(pc, "invalid Bind message: its names do not end");
		return 0;
	}
	(void)portal;
	if (!fe_may_leave(m))
		return 0;
	return use_statement(pc, m, name, portal_len + 1, PG_REQ_BIND);
}

/* A message that is small by nature, or an error. */
bool fe_small_and_whole(struct pg_client *pc, const struct message *m, taken *n) {
	*n = 0;
	if (m->total > SMALL_MESSAGE_MAX) {
		*n = fe_protocol_error(pc, "invalid message: its length exceeds that of its kind");
		return false;
	}
	return fe_is_whole(m);
}

/* What a RESET that is about to be sent names; more than one under way: nobody knows. */
void fe_note_reset(struct pg_client *pc, enum pg_text_kind kind, const char *name) {
	struct pg_server *ps = fe_server_of(pc);
	free(pc->reset_name);
	pc->reset_name = NULL;
	if (kind == PG_TEXT_RESET && name && !(ps && ps->queue.simple + ps->queue.resets > 0))
		pc->reset_name = strndup(name, RESET_NAME_MAX);
}

taken fe_on_describe(struct pg_client *pc, const struct message *m) {
	taken n;
	if (!fe_small_and_whole(pc, m, &n))
		return n;
	struct reader r = fe_body_of(m);
	uint8_t what = reader_u8(&r);
	const char *name = reader_cstr(&r, NULL);
	if (!name || reader_left(&r) != 0)
		return fe_protocol_error(pc, "invalid Describe message");
	return what == 'S' && !fe_keeps_statements(pc) ? use_statement(pc, m, name, 1, PG_REQ_DESCRIBE) : fe_forward_counted(pc, m, PG_REQ_DESCRIBE);
}

taken fe_on_execute(struct pg_client *pc, const struct message *m) {
	taken n;
	if (!fe_small_and_whole(pc, m, &n))
		return n;
	struct reader r = fe_body_of(m);
	const char *portal = reader_cstr(&r, NULL);
	reader_u32be(&r);
	if (!portal || !r.ok || reader_left(&r) != 0)
		return fe_protocol_error(pc, "invalid Execute message");
	if (!portal[0] && pc->portal && pc->portal->kind == PG_TEXT_DEALLOCATE) {
		/* The name is ours to forget; on the server it is called otherwise. */
		struct pg_name *name = pg_name_find(&pc->names, pc->portal->argument);
		if (fe_depends_on_earlier_batch(pc, name))
			return fe_hold(pc);
		if (name && name->text) {
			if (!fe_want_server(pc))
				return 0;
			struct pg_server *ps = fe_server_of(pc);
			if (fe_earlier_batch_outstanding(pc, ps))
				return fe_hold(pc);
			if (ps->status == 'E') /* fails, and must */
				return fe_forward_counted(pc, m, PG_REQ_EXECUTE);
			ps->replayable = false;
			if (!fe_answer(pc, ps, PG_VIRTUAL_DEALLOCATE, name))
				return fe_out_of_memory(pc);
			pg_emit_virtual(ps);
			return m->have;
		}
	}
	if (!portal[0])
		fe_note_reset(pc, pc->portal ? pc->portal->kind : PG_TEXT_PLAIN, pc->portal ? pc->portal->argument : NULL);
	return fe_forward_counted(pc, m, PG_REQ_EXECUTE);
}

taken fe_on_close(struct pg_client *pc, const struct message *m) {
	taken n;
	if (!fe_small_and_whole(pc, m, &n))
		return n;
	struct reader r = fe_body_of(m);
	uint8_t what = reader_u8(&r);
	const char *wanted = reader_cstr(&r, NULL);
	if (!wanted || reader_left(&r) != 0)
		return fe_protocol_error(pc, "invalid Close message");
	struct pg_server *ps = fe_server_of(pc);
	if (what != 'S' || fe_keeps_statements(pc)) {
		if (!wanted[0])
			set_portal(pc, NULL);
		if (ps)
			ps->replayable = false;
		return fe_forward_counted(pc, m, PG_REQ_CLOSE);
	}
	struct pg_name *name = pg_name_find(&pc->names, wanted);
	if (fe_depends_on_earlier_batch(pc, name) || fe_statements_uncertain(ps))
		return fe_hold(pc);
	if (!wanted[0])
		pc->unnamed_passed = false;
	if (!ps) {
		static const uint8_t close_complete[] = {'3', 0, 0, 0, 4};
		if (name) {
			pg_name_set(&pc->names, name, NULL);
			pg_name_tidy(&pc->names, name);
		}
		client_write(&pc->base, close_complete, sizeof close_complete);
		return m->have;
	}
	ps->replayable = false;
	if (!name || !name->text)
		return fe_forward_counted(pc, m, PG_REQ_CLOSE); /* perhaps a statement of SQL's PREPARE */
	if (!fe_want_server(pc))
		return 0;
	if (!fe_answer(pc, ps, PG_VIRTUAL_CLOSE_COMPLETE, name))
		return fe_out_of_memory(pc);
	pg_emit_virtual(ps);
	return m->have;
}
