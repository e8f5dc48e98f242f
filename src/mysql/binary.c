/* The commands of binary prepared statements ("Prepared Statements"): a client's numbers, whatever server it has. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mysql/frontend.h"

enum { EXECUTE_HEAD = 10 /* command, number, flags, iterations */ };

/* ---- numbers ---- */

static taken unknown_statement(struct my_client *mc, const struct command *c, uint32_t number, const char *where) {
	char text[120];
	snprintf(text, sizeof text, "Unknown prepared statement handler (%u) given to %s", number, where);
	return mf_error(mc, c, MY_ER_UNKNOWN_STMT_HANDLER, text);
}

/* The number at the beginning of the command's body, and what it stands for. */
static struct my_statement *statement_of(struct my_client *mc, const struct command *c, uint32_t *number) {
	struct reader r = reader_over(mf_body(c), mf_body_len(c));
	*number = my_u32(&r);
	if (r.ok && *number == UINT32_MAX) /* MariaDB's word for the last one */
		*number = mc->relay.statements.last_number;
	return r.ok ? my_statement_find(&mc->relay.statements, *number) : NULL;
}

static void put_u32(uint8_t *p, uint32_t v) {
	p[0] = (uint8_t)v, p[1] = (uint8_t)(v >> 8), p[2] = (uint8_t)(v >> 16), p[3] = (uint8_t)(v >> 24);
}

static void close_on_server(struct my_server *ms, struct my_prepared *p) {
	uint8_t packet[MY_HEADER + 5];
	my_write_header(packet, 5, 0);
	uint8_t *body = packet + MY_HEADER;
	*body = MY_COM_STMT_CLOSE;
	put_u32(body + 1, p->number);
	if (!server_write(&ms->base, packet, sizeof packet))
		server_close(&ms->base, "out of memory");
}

static void close_and_forget(struct my_server *ms, struct my_prepared *p) {
	close_on_server(ms, p);
	my_prepared_drop(&ms->relay.prepareds, p);
}

/* ---- pins ---- */

static void let_go(struct my_client *mc, struct my_statement *st) {
	struct my_statements *all = &mc->relay.statements;
	struct my_server *ms = st->cursor || st->long_data ? mf_server_of(mc) : NULL;
	struct my_prepared *p = ms ? my_prepared_find(&ms->relay.prepareds, st->text->id) : NULL;
	if (p && p->holder == st->name)
		p->holder = 0;
	all->cursors -= st->cursor;
	all->long_data -= st->long_data;
	st->cursor = st->long_data = false;
}

static void settle_pins(struct my_client *mc) {
	const struct my_statements *all = &mc->relay.statements;
	uint32_t gone = (all->cursors ? 0 : 1u << PIN_CURSOR) | (all->long_data ? 0 : 1u << PIN_LONG_DATA);
	if (mc->relay.pins & gone)
		mc->relay.pins = pin_drop(&mc->base, mc->relay.pins, gone);
}

void my_note_cursor(struct my_client *mc, const struct my_request *r, uint16_t status) {
	struct my_statement *st = r->statement;
	if (!mc || !st)
		return;
	bool open = r->command == MY_COM_STMT_FETCH ? !(status & MY_STATUS_LAST_ROW_SENT) : status & MY_STATUS_CURSOR_EXISTS;
	if (open == st->cursor)
		return;
	if (open) {
		st->cursor = true;
		if (r->prepared)
			r->prepared->holder = st->name;
		mc->relay.statements.cursors++;
		mc->relay.pins = pin_add(&mc->base, mc->relay.pins, PIN_CURSOR);
	} else {
		st->cursor = false;
		if (r->prepared && !st->long_data)
			r->prepared->holder = 0;
		mc->relay.statements.cursors--;
		settle_pins(mc);
	}
}

void my_note_failed(struct my_client *mc, const struct my_request *r) {
	if (r->command != MY_COM_STMT_FETCH || !r->statement)
		return;
	let_go(mc, r->statement);
	settle_pins(mc);
}

/* ---- preparing ---- */

/* Makes room, one of `max_prepared_statements`. */
static void make_room(struct my_server *ms) {
	uint32_t max = database_view(ms->base.database, ms->base.sw->worker->id)->config->max_prepared_statements;
	while (ms->relay.prepareds.count >= (max ? max : 1)) {
		struct my_prepared *oldest = my_prepared_oldest(&ms->relay.prepareds);
		if (!oldest)
			return;
		close_and_forget(ms, oldest);
	}
}

bool my_note_prepared(struct my_client *mc, struct my_server *ms, const struct my_request *r, uint32_t *number) {
	const struct my_answer *a = &ms->relay.answer;
	struct my_text *text = r->text;
	struct my_prepared *p = my_prepared_find(&ms->relay.prepareds, text->id);
	if (ms->relay.task_failed && r->task == MY_TASK_PREPARE) { /* what goes ahead of it: it is not what it should be */
		struct my_prepared other = {.number = a->statement};
		close_on_server(ms, &other);
		return true;
	}
	if (p) { /* one will do */
		struct my_prepared second = {.number = a->statement};
		close_on_server(ms, &second);
	} else {
		make_room(ms);
		p = my_prepared_add(&ms->relay.prepareds, text->id, a->statement);
	}
	if (!p) {
		server_close(&ms->base, "out of memory");
		return false;
	}
	if (!mc)
		return true;
	text->references++;
	struct my_statement *st =
		my_statement_add(&mc->relay.statements, text, a->statement_parameters, a->statement_columns);
	if (!st) {
		server_close(&ms->base, "out of memory");
		return false;
	}
	st->name = (uint64_t)mc->base.id << 32 | st->number;
	*number = st->number;
	return true;
}

taken mf_on_prepare(struct my_client *mc, const struct command *c) {
	const struct my_statements *all = &mc->relay.statements;
	if (c->length > MY_STATEMENT_TEXT_MAX)
		return mf_error(mc, c, MY_ER_NET_PACKET_TOO_LARGE,
				"a prepared statement may have 1 MiB of SQL; run it as a plain query");
	if (!mf_is_whole(c))
		return 0;
	if (HASH_COUNT(all->by_number) >= MY_CLIENT_STATEMENTS_MAX || all->bytes >= MY_CLIENT_STATEMENT_BYTES_MAX)
		return mf_error(mc, c, MY_ER_MAX_PREPARED_STMT_COUNT_REACHED,
				"too many prepared statements: a client may have 16382, with 64 MiB of SQL; close those that are "
				"no longer used");
	struct sql_text look = sql_look(mf_body(c), mf_body_len(c), my_reading(mc), my_reading_charset(mc));
	if (look.hints & (SQL_KILL | SQL_KILL_INSIDE))
		return mf_error(mc, c, MY_ER_UNSUPPORTED_PS,
				"This command is not supported in the prepared statement protocol yet");
	struct my_server *ms = mf_want_server(mc, 0);
	if (!ms)
		return 0;
	struct settings *reading = my_text_settings(mc->relay.wants);
	struct my_text *text = reading ? my_text_new(mf_body(c), mf_body_len(c), look.hints, reading) : NULL;
	settings_unref(reading);
	if (!text)
		return mf_out_of_memory(mc);
	struct my_request *r = mf_push(mc, ms, c, MY_ASKED_PREPARE, 0);
	if (!r) {
		my_text_unref(text);
		return 0;
	}
	r->text = text;
	my_note_said(ms, mf_body(c), mf_body_len(c), false);
	return mf_forward(mc, ms, c);
}

/* The statement on this server. NULL: it is being prepared there, and the client holds; or it is closed. */
static struct my_prepared *prepared_for(struct my_client *mc, struct my_server *ms, struct my_statement *st) {
	struct my_prepared *p = my_prepared_find(&ms->relay.prepareds, st->text->id);
	if (p && p->holder && p->holder != st->name) { /* another of the client's is at work with it */
		struct my_text *own = my_text_own(st->text, st->name);
		if (!own) {
			mf_out_of_memory(mc);
			return NULL;
		}
		my_text_unref(st->text);
		st->text = own;
		p = my_prepared_find(&ms->relay.prepareds, own->id);
	}
	if (p)
		return p;
	struct settings *as_then = my_with_text_settings(mc->relay.wants, st->text->settings);
	if (!as_then) {
		mf_out_of_memory(mc);
		return NULL;
	}
	enum my_given given = my_give(ms, as_then);
	settings_unref(as_then);
	if (given == MY_CANNOT_GIVE) { /* prepared without a schema, and this server has one */
		server_close(&ms->base, "a statement is to be prepared without a current schema");
		return NULL;
	}
	struct my_request *r = given == MY_GIVE_FAILED ? NULL
						       : my_ask(ms, MY_TASK_PREPARE, MY_ASKED_PREPARE, MY_COM_STMT_PREPARE,
								st->text->sql, st->text->len);
	if (!r)
		return NULL;
	r->text = st->text;
	r->text->references++;
	ms->relay.preparing = true;
	mc->base.hold = HOLD_PREPARE;
	worker_timeout(ms->base.sw->worker, &ms->base.timeout,
		       database_view(ms->base.database, ms->base.sw->worker->id)->config->connect_timeout);
	return NULL;
}

static struct my_prepared *want_prepared(struct my_client *mc, struct my_statement *st, uint64_t hints,
					 struct my_server **server) {
	*server = mf_want_server(mc, hints);
	struct my_prepared *p = *server ? prepared_for(mc, *server, st) : NULL;
	if (p)
		my_prepared_touch(&(*server)->relay.prepareds, p);
	return p;
}

/* ---- executing ---- */

/* What an EXECUTE says of its parameters. */
struct binding {
	size_t bitmap_end; /* of the command's bytes: where the flag is */
	bool bound;        /* types are there */
	const uint8_t *types;
};

/* False: not all of it has come, or (`*sound`) it is malformed. */
static bool read_binding(const struct my_statement *st, const struct command *c, struct binding *b, bool *sound) {
	struct reader r = reader_over(c->data + MY_HEADER, c->have - MY_HEADER);
	*sound = true;
	*b = (struct binding){0};
	reader_bytes(&r, EXECUTE_HEAD);
	if (st->parameters > 0) {
		b->bitmap_end = EXECUTE_HEAD + ((size_t)st->parameters + 7) / 8;
		reader_bytes(&r, b->bitmap_end - EXECUTE_HEAD);
		b->bound = reader_u8(&r) == 1;
		if (r.ok && b->bound)
			b->types = reader_bytes(&r, 2 * (size_t)st->parameters);
	}
	*sound = r.ok || !mf_is_whole(c);
	return r.ok;
}

/* The client relies on types that it has bound on another server: they are put in. */
static taken forward_with_types(struct my_client *mc, struct my_server *ms, const struct command *c,
				const struct my_statement *st, const struct my_prepared *p, const struct binding *b) {
	size_t types = 2 * (size_t)st->parameters, head_len = b->bitmap_end + 1 + types;
	uint8_t *head = malloc(head_len);
	if (!head)
		return mf_out_of_memory(mc);
	memcpy(head, c->data + MY_HEADER, b->bitmap_end);
	put_u32(head + 1, p->number);
	*(head + b->bitmap_end) = 1;
	memcpy(head + b->bitmap_end + 1, st->types, types);
	taken n = mf_forward_replaced(mc, ms, c, b->bitmap_end + 1, head, head_len);
	free(head);
	return n;
}

static taken forward_numbered(struct my_client *mc, struct my_server *ms, const struct command *c,
			      const struct my_prepared *p) {
	uint8_t head[5] = {c->type};
	put_u32(head + 1, p->number);
	return mf_forward_replaced(mc, ms, c, sizeof head, head, sizeof head);
}

taken mf_on_execute(struct my_client *mc, const struct command *c) {
	uint32_t number;
	struct binding b;
	bool sound;
	if (!mf_is_whole(c) && c->length <= MESSAGE_HOLD_MAX)
		return 0;
	struct my_statement *st = statement_of(mc, c, &number);
	if (!st)
		return unknown_statement(mc, c, number, "mysqld_stmt_execute");
	if (!read_binding(st, c, &b, &sound))
		return sound ? 0 : mf_error(mc, c, MY_ER_MALFORMED_PACKET, "Malformed communication packet");
	if (b.bound && !my_statement_bind(st, b.types, (uint64_t)mc->base.id << 32 | ++mc->relay.bindings))
		return mf_out_of_memory(mc);
	if (st->data_lost) {
		st->data_lost = false;
		return mf_error(mc, c, MY_ER_UNKNOWN_ERROR,
				"a part of the statement's long data (COM_STMT_SEND_LONG_DATA) was lost, for no server could be given "
				"it in time, or none could prepare the statement: send it again");
	}
	struct my_server *ms;
	struct my_prepared *p = want_prepared(mc, st, st->text->hints, &ms);
	if (!p)
		return 0;
	bool put_types = st->parameters > 0 && !b.bound && st->types && p->binding != st->binding;
	if (put_types && c->length + 2 * (size_t)st->parameters >= MY_PACKET_FULL)
		return mf_error(mc, c, MY_ER_NEED_REPREPARE,
				"the parameters of a packet as long as this must be bound anew (new-params-bound flag)");
	struct my_request *r = mf_push(mc, ms, c, MY_ASKED_EXECUTE, st->text->hints);
	if (!r)
		return 0;
	r->statement = st;
	r->prepared = p;
	p->in_flight = true;
	if (st->parameters > 0)
		p->binding = st->types ? st->binding : 0;
	let_go(mc, st); /* a cursor of it is closed, its long data used */
	settle_pins(mc);
	my_note_said(ms, st->text->sql, st->text->len, false);
	return put_types ? forward_with_types(mc, ms, c, st, p, &b) : forward_numbered(mc, ms, c, p);
}

taken mf_on_fetch(struct my_client *mc, const struct command *c) {
	uint32_t number;
	taken n;
	if (!mf_small_and_whole(mc, c, &n))
		return n;
	struct my_statement *st = statement_of(mc, c, &number);
	if (!st)
		return unknown_statement(mc, c, number, "mysqld_stmt_fetch");
	struct my_server *ms = mf_server_of(mc);
	struct my_prepared *p = ms && st->cursor ? my_prepared_find(&ms->relay.prepareds, st->text->id) : NULL;
	if (!p) {
		char text[120];
		snprintf(text, sizeof text, "The statement (%u) has no open cursor", number);
		return mf_error(mc, c, MY_ER_STMT_HAS_NO_OPEN_CURSOR, text);
	}
	struct my_request *r = mf_push(mc, ms, c, MY_ASKED_FETCH, 0);
	if (!r)
		return 0;
	r->statement = st;
	r->prepared = p;
	p->in_flight = true;
	return forward_numbered(mc, ms, c, p);
}

/* ---- without an answer ---- */

taken mf_on_long_data(struct my_client *mc, const struct command *c) {
	uint32_t number;
	if (!mf_is_whole(c) && c->length <= MESSAGE_HOLD_MAX)
		return 0;
	struct my_statement *st = statement_of(mc, c, &number);
	if (!st) /* as the server: EXECUTE will say so */
		return mf_skip(mc, c);
	struct my_server *ms;
	struct my_prepared *p = want_prepared(mc, st, 0, &ms);
	if (!p)
		return 0;
	p->holder = st->name;
	mc->relay.statements.long_data += !st->long_data;
	st->long_data = true;
	ms->relay.touched = true;
	mc->relay.pins = pin_add(&mc->base, mc->relay.pins, PIN_LONG_DATA);
	return forward_numbered(mc, ms, c, p);
}

void mf_long_data_lost(struct my_client *mc, const struct command *c) {
	uint32_t number;
	struct my_statement *st = statement_of(mc, c, &number);
	if (st)
		st->data_lost = true;
}

taken mf_on_statement_reset(struct my_client *mc, const struct command *c) {
	uint32_t number;
	taken n;
	if (!mf_small_and_whole(mc, c, &n))
		return n;
	struct my_statement *st = statement_of(mc, c, &number);
	if (!st)
		return unknown_statement(mc, c, number, "mysqld_stmt_reset");
	struct my_server *ms = mf_server_of(mc);
	struct my_prepared *p = ms && (st->cursor || st->long_data) ? my_prepared_find(&ms->relay.prepareds, st->text->id) : NULL;
	let_go(mc, st);
	st->data_lost = false;
	settle_pins(mc);
	if (!p) /* nothing of it is anywhere */
		return mf_ok(mc, c);
	struct my_request *r = mf_push(mc, ms, c, MY_ASKED_SIMPLE, 0);
	if (!r)
		return 0;
	r->prepared = p;
	p->in_flight = true;
	return forward_numbered(mc, ms, c, p);
}

taken mf_on_statement_close(struct my_client *mc, const struct command *c) {
	uint32_t number;
	taken n;
	if (!mf_small_and_whole(mc, c, &n))
		return n;
	struct my_statement *st = statement_of(mc, c, &number);
	if (!st)
		return mf_skip(mc, c);
	struct my_server *ms = mf_server_of(mc);
	struct my_prepared *p = ms && (st->cursor || st->long_data) ? my_prepared_find(&ms->relay.prepareds, st->text->id) : NULL;
	if (p) /* its data goes with it */
		close_and_forget(ms, p);
	my_statement_drop(&mc->relay.statements, st);
	settle_pins(mc);
	return mf_skip(mc, c);
}
