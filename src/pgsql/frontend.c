/*
 * From a client to its server: walks message headers in place, bodies only where the design needs them.
 * Sections "Message Flow" and "Message Formats".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/reader.h"
#include "pgsql/pgsql.h"
#include "pgsql/proven.h"
#include "session/deadline.h"

enum { MESSAGE_MAX = 0x3fffffff + 5, SMALL_MESSAGE_MAX = 16 * 1024, NAMEDATALEN_MAX = 64 };

/* One message of the client's, as much of it as has come. */
struct message {
	char type;
	const uint8_t *data; /* from the type byte */
	size_t have;         /* bytes at `data` that belong to it */
	uint64_t total;      /* its length with the header */
	size_t blank;        /* of a Query: so much of its SQL has been dealt with and goes as blanks */
};

/* What became of a message: how many bytes were taken. 0: it is incomplete, or the client is on hold. */
typedef size_t taken;

static bool is_whole(const struct message *m) {
	return m->have == m->total;
}

/* Small messages leave whole, so that a client that vanishes leaves no half message behind; large ones stream. */
static bool may_leave(const struct message *m) {
	return is_whole(m) || m->total > MESSAGE_HOLD_MAX;
}

static struct reader body_of(const struct message *m) {
	return reader_over(m->data + PG_HEADER, m->have - PG_HEADER);
}

static taken protocol_error(struct pg_client *pc, const char *text) {
	struct client *client = &pc->base;
	log_info("client_protocol_error",
		 LOG_FIELDS(LOG_TEXT("client", client->peer->text), LOG_NUMBER("id", client->id)), "%s", text);
	if (!pc->told_fatal)
		pg_send_error(client, "FATAL", "08P01", text, NULL);
	pc->told_fatal = true;
	client_close(client, text);
	return 0;
}

static taken out_of_memory(struct pg_client *pc) {
	client_end(&pc->base, REFUSAL_INTERNAL, "out of memory");
	return 0;
}

static taken discard(struct pg_client *pc, const struct message *m) {
	pc->discard = m->total - m->have;
	return m->have;
}

static struct pg_server *server_of(struct pg_client *pc) {
	return pc->base.server ? pg_server(pc->base.server) : NULL;
}

/* Waits for an answer that is under way. Within a batch the server is asked for it, or it would keep it to itself until
 * the Sync that the client cannot send. */
static taken hold(struct pg_client *pc) {
	static const uint8_t flush[] = {'H', 0, 0, 0, 4};
	struct pg_server *ps = server_of(pc);
	if (ps && ps->open_batch && ps->half_sent == 0)
		server_write(&ps->base, flush, sizeof flush);
	pc->base.hold = HOLD_OUTCOME;
	return 0;
}

/* Sends a message on as it is. */
static taken forward(struct pg_client *pc, const struct message *m) {
	struct pg_server *ps = server_of(pc);
	if (!server_write(&ps->base, m->data, m->have))
		return out_of_memory(pc);
	ps->half_sent = m->total - m->have;
	return m->have;
}

/* Sends the message with its first `cut` body bytes replaced. */
static taken forward_replaced(struct pg_client *pc, const struct message *m, size_t cut, const void *head, size_t head_len) {
	struct pg_server *ps = server_of(pc);
	uint32_t len = (uint32_t)(m->total - 1 - cut + head_len);
	uint8_t header[PG_HEADER] = {(uint8_t)m->type, (uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8),
				     (uint8_t)len};
	if (!server_write(&ps->base, header, sizeof header) || !server_write(&ps->base, head, head_len) ||
	    !server_write(&ps->base, m->data + PG_HEADER + cut, m->have - PG_HEADER - cut))
		return out_of_memory(pc);
	ps->half_sent = m->total - m->have;
	return m->have;
}

/* Blanks, not nothing: the positions in the server's errors stay the client's. */
static taken forward_blanked(struct pg_client *pc, const struct message *m) {
	char *blanks = malloc(m->blank);
	if (!blanks)
		return out_of_memory(pc);
	size_t n = 0;
	for (size_t i = 0; i < m->blank; i++) /* one for each character of UTF-8 */
		if ((m->data[PG_HEADER + i] & 0xc0) != 0x80)
			blanks[n++] = ' ';
	taken took = forward_replaced(pc, m, m->blank, blanks, n);
	free(blanks);
	return took;
}

/* ---- what is outstanding ---- */

static struct pg_request *push(struct pg_client *pc, struct pg_server *ps, enum pg_request_type type) {
	struct pg_request *r = pg_queue_push(&ps->queue, type);
	if (!r)
		return NULL;
	r->batch = pc->batch;
	if (ps->queue.count == 1) {
		pc->base.request_ns = pc->base.sw->worker->now_ns;
		if (ps->status == 'I' && !ps->open_batch) {
			pg_transaction_begins(pc, ps);
			ps->said_count = 0;
		}
	}
	if (type != PG_REQ_QUERY && type != PG_REQ_FUNCTION && type != PG_REQ_SYNC && type != PG_REQ_VIRTUAL)
		ps->open_batch = true;
	if (type == PG_REQ_SYNC && ps->batch_failed) {
		ps->batch_failed = false;
		if (pc->base.keeps_server) /* what had begun is over already */
			ps->transaction_since_ns = pc->base.sw->worker->now_ns;
	}
	if (ps->queue.count == 1)
		deadline_begun(&pc->base);
	return r;
}

/* What the client has just sent on, for reports of what holds a server. `more`: it does not end with these bytes. */
static void note_said(struct pg_server *ps, const void *sql, size_t len, bool more) {
	pg_said_keep(&ps->said[ps->said_count > 0], sql, len, more);
	ps->said_count = ps->said_count ? 2 : 1;
}

/* A statement of which only the name is known. */
static void note_named(struct pg_server *ps, const char *name) {
	char text[2 * NAMEDATALEN_MAX];
	int len = snprintf(text, sizeof text, "EXECUTE \"%.*s\"", NAMEDATALEN_MAX, name);
	note_said(ps, text, (size_t)len, false);
}

/* Changes what a name stands for, to be undone if the message fails. Takes the reference to `text` over. */
static void change_name(struct pg_client *pc, struct pg_request *r, struct pg_name *name, struct pg_text *text) {
	r->name = name;
	r->before = name->text;
	name->text = text;
	pc->names.bytes += text ? text->len : 0;
	pc->names.bytes -= r->before ? r->before->len : 0;
	name->pending++;
	name->pending_batch = r->batch;
}

static bool depends_on_earlier_batch(const struct pg_client *pc, const struct pg_name *name) {
	return name && name->pending > 0 && name->pending_batch != pc->batch;
}

/* What an earlier batch does to the transaction is not known yet. (If an earlier message of the same batch fails, this
 * one is skipped.) */
static bool earlier_batch_outstanding(const struct pg_client *pc, const struct pg_server *ps) {
	const struct pg_request *head = pg_queue_head(&ps->queue);
	return head && head->batch != pc->batch;
}

/* Whether an answer under way may drop all prepared statements (a Query can hold a DEALLOCATE ALL anywhere). */
static bool statements_uncertain(const struct pg_server *ps) {
	return ps && (ps->queue.simple > 0 || ps->queue.resets > 0);
}

/* A server for this message. False: on hold, or the client is closed. */
static bool want_server(struct pg_client *pc) {
	struct pg_server *ps = server_of(pc);
	if (!ps) {
		if (!client_want_server(&pc->base) || pc->base.hold != HOLD_NONE)
			return false;
		ps = server_of(pc);
	}
	if (ps && pg_queue_full(&ps->queue)) {
		hold(pc); /* a long pipeline */
		return false;
	}
	return ps != NULL;
}

/* An answer of our own, in its turn. */
static bool answer(struct pg_client *pc, struct pg_server *ps, enum pg_virtual what, struct pg_name *name) {
	struct pg_request *r = push(pc, ps, PG_REQ_VIRTUAL);
	if (!r)
		return false;
	r->virtual_answer = (uint8_t)what;
	if (name)
		change_name(pc, r, name, NULL);
	return true;
}

static bool put_message(struct pg_server *ps, char type, const void *a, size_t a_len, const void *b, size_t b_len) {
	uint32_t len = (uint32_t)(4 + a_len + b_len);
	uint8_t header[PG_HEADER] = {(uint8_t)type, (uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8),
				     (uint8_t)len};
	return server_write(&ps->base, header, sizeof header) && server_write(&ps->base, a, a_len) &&
	       server_write(&ps->base, b, b_len);
}

/* ---- prepared statements ---- */

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
	struct pg_request *r = push(pc, ps, PG_REQ_CLOSE);
	if (!r)
		return false;
	pg_statement_name(victim->id, name + 1);
	r->hidden = true;
	r->statement = victim;
	r->statement_change = PG_STATEMENT_TAKEN;
	pg_statement_take(&ps->statements, victim);
	return put_message(ps, 'C', name, sizeof name, NULL, 0);
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
	struct pg_request *r = push(pc, ps, PG_REQ_PARSE);
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
	char name[PG_STATEMENT_NAME];
	pg_statement_name(id, name);
	if (!make_room(pc, ps))
		return PG_PREPARE_FAILED;
	struct pg_request *r = push_parse(pc, ps, id);
	if (!r)
		return PG_PREPARE_FAILED;
	r->hidden = true;
	r->text = pg_text_ref(text);
	r->statement->epoch = text->epoch;
	return put_message(ps, 'P', name, sizeof name, text->body, text->len) ? PG_PREPARED : PG_PREPARE_FAILED;
}

/*
 * An error of ours in the middle of a batch: the server must fail there, too, for it ends the transaction. It is asked
 * for a statement that it cannot have, and its error is told in our words.
 */
static taken refuse_statement(struct pg_client *pc, const struct message *m, enum pg_refused why) {
	static const uint8_t bind[] = "\0forebay_none\0\0\0\0\0\0";
	if (!want_server(pc))
		return 0;
	struct pg_server *ps = server_of(pc);
	struct pg_request *r = push(pc, ps, PG_REQ_BIND);
	if (!r || !put_message(ps, 'B', bind, sizeof bind, NULL, 0))
		return out_of_memory(pc);
	r->refused = (uint8_t)why;
	ps->replayable = false;
	return discard(pc, m);
}

static taken parse_unnamed(struct pg_client *pc, const struct message *m) {
	if (!want_server(pc))
		return 0;
	struct pg_server *ps = server_of(pc);
	struct pg_name *name = pg_name_make(&pc->names, "");
	struct pg_text *text = NULL;
	if (!name)
		return out_of_memory(pc);
	if (is_whole(m) && !(text = pg_text_get(pg_texts(pc->base.sw), m->data + PG_HEADER + 1, m->have - PG_HEADER - 1)))
		return out_of_memory(pc);
	struct pg_request *r = push_parse(pc, ps, NULL);
	if (!r) {
		pg_text_unref(text);
		return out_of_memory(pc);
	}
	r->sets_unnamed = true;
	note_said(ps, m->data + PG_HEADER + 1, m->have - PG_HEADER - 1, !is_whole(m));
	pc->unnamed_passed = text == NULL;
	if (text)
		pg_statements_set_unnamed(&ps->statements, text);
	else
		pg_statements_lose_unnamed(&ps->statements);
	change_name(pc, r, name, text);
	return forward(pc, m);
}

/* The name is taken: the server is made to say so, at the right place in its transaction; the words are ours. */
static taken parse_duplicate(struct pg_client *pc, const struct message *m, struct pg_name *name, size_t cut) {
	if (!want_server(pc))
		return 0;
	struct pg_server *ps = server_of(pc);
	char on_server[PG_STATEMENT_NAME];
	switch (pg_ensure_prepared(pc, ps, name->text)) {
	case PG_PREPARE_HOLD:
		return hold(pc);
	case PG_PREPARE_FAILED:
		return out_of_memory(pc);
	case PG_PREPARED:
		break;
	}
	struct pg_request *r = push(pc, ps, PG_REQ_PARSE);
	if (!r)
		return out_of_memory(pc);
	r->duplicate = true;
	r->name = name;
	r->before = name->text ? pg_text_ref(name->text) : NULL;
	name->pending++;
	name->pending_batch = pc->batch;
	pg_statement_name(pg_text_id(name->text, pc->settings), on_server);
	return forward_replaced(pc, m, cut, on_server, sizeof on_server);
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
	struct pg_server *ps = server_of(pc);
	if (depends_on_earlier_batch(pc, name) || statements_uncertain(ps))
		return hold(pc);
	if (name && name->text)
		return parse_duplicate(pc, m, name, cut);
	if (!ps && parse_proven(pc, m, wanted, cut))
		return m->have;
	if (!want_server(pc))
		return 0;
	ps = server_of(pc);
	size_t body = m->have - PG_HEADER - cut;
	const uint8_t *sql = m->data + PG_HEADER + cut;
	if (pc->names.bytes + body > PG_CLIENT_TEXTS_MAX || !(name = pg_name_make(&pc->names, wanted)))
		return refuse_statement(pc, m, PG_REFUSED_TOO_MANY);
	struct pg_text *text = pg_text_get(pg_texts(pc->base.sw), m->data + PG_HEADER + cut, body);
	const uint8_t *id = text ? pg_text_id(text, pc->settings) : NULL;
	if (!id) {
		pg_text_unref(text);
		pg_name_tidy(&pc->names, name);
		return out_of_memory(pc);
	}
	struct pg_statement *statement = pg_statement_find(&ps->statements, id);
	if (statement ? statement->pending_batch != 0 && statement->pending_batch != pc->batch
		      : close_outstanding(pc, ps, id)) {
		pg_text_unref(text);
		pg_name_tidy(&pc->names, name);
		return hold(pc);
	}
	/*
	 * In a failed transaction a Parse fails, so where one may have failed the server must be asked: the statement is
	 * closed, which always works, and parsed again, which works or fails as it should.
	 */
	bool same_batch = statement && statement->pending_batch != 0;
	bool known_state = ps->status != 'E' && !earlier_batch_outstanding(pc, ps);
	if (statement && statement->epoch == text->epoch && (same_batch || known_state)) {
		struct pg_request *r = push(pc, ps, PG_REQ_VIRTUAL);
		if (!r)
			return out_of_memory(pc);
		r->virtual_answer = PG_VIRTUAL_PARSE_COMPLETE;
		note_said(ps, sql, body, false);
		change_name(pc, r, name, text);
		pg_emit_virtual(ps);
		return m->have;
	}
	if (statement && !close_statement(pc, ps, statement))
		return out_of_memory(pc);
	struct pg_request *r = NULL;
	if (make_room(pc, ps))
		r = push_parse(pc, ps, id);
	if (!r) {
		pg_text_unref(text);
		return out_of_memory(pc);
	}
	r->statement->epoch = text->epoch;
	r->text = pg_text_ref(text);
	note_said(ps, sql, body, false);
	change_name(pc, r, name, text);
	char on_server[PG_STATEMENT_NAME];
	pg_statement_name(id, on_server);
	return forward_replaced(pc, m, cut, on_server, sizeof on_server);
}

/* A batch that starts outside a transaction with a Bind can be sent again if its plan has become stale. */
static void begin_replay(struct pg_server *ps) {
	ps->replayable = ps->status == 'I' && ps->queue.count == 0 && !ps->open_batch;
	ps->replayed = false;
	ps->replay.end = ps->replay.start = 0;
}

static void record(struct pg_client *pc, struct pg_server *ps, const void *data, size_t len) {
	if (!ps->replayable)
		return;
	if (buf_len(&ps->replay) + len > MESSAGE_HOLD_MAX ||
	    !buf_append(pc->base.sw->worker->buffers, &ps->replay, data, len))
		ps->replayable = false;
}

static taken forward_counted(struct pg_client *pc, const struct message *m, enum pg_request_type type) {
	if (!want_server(pc))
		return 0;
	struct pg_server *ps = server_of(pc);
	struct pg_request *r = push(pc, ps, type);
	if (!r)
		return out_of_memory(pc);
	if (type == PG_REQ_EXECUTE && pc->portal) {
		struct reader body = body_of(m);
		const char *portal = reader_cstr(&body, NULL);
		if (portal && !portal[0])
			r->kind = (uint8_t)pc->portal->kind;
	}
	pg_queue_count(&ps->queue, r);
	record(pc, ps, m->data, m->have);
	return forward(pc, m);
}

/* A session that keeps its server keeps its statements there, under the names it gave them. */
static bool keeps_statements(const struct pg_client *pc) {
	return pc->base.keeps_server || pc->base.dedicated;
}

/* The same for a Parse or Bind that went on under the client's own names, which we do not keep. */
static void note_kept(struct pg_client *pc, const struct message *m) {
	struct reader r = body_of(m);
	const char *first = reader_cstr(&r, NULL);
	if (!first || !server_of(pc))
		return;
	if (m->type == 'P') {
		note_said(server_of(pc), r.pos, reader_left(&r), !is_whole(m));
		return;
	}
	const char *statement = reader_cstr(&r, NULL);
	if (statement && statement[0]) /* the unnamed one was told by its Parse */
		note_named(server_of(pc), statement);
}

static taken forward_kept(struct pg_client *pc, const struct message *m, enum pg_request_type type) {
	taken n = may_leave(m) ? forward_counted(pc, m, type) : 0;
	if (n > 0)
		note_kept(pc, m);
	return n;
}

static taken on_parse(struct pg_client *pc, const struct message *m) {
	if (keeps_statements(pc))
		return forward_kept(pc, m, PG_REQ_PARSE);
	struct reader r = body_of(m);
	size_t name_len = 0;
	const char *name = reader_cstr(&r, &name_len);
	if (!name && (is_whole(m) || m->have > SMALL_MESSAGE_MAX))
		return protocol_error(pc, "invalid Parse message: its statement name does not end");
	if (!name)
		return 0;
	if (!is_whole(m) && m->total <= PG_TEXT_MAX)
		return 0;
	if (!name_len)
		return parse_unnamed(pc, m);
	if (!is_whole(m))
		return refuse_statement(pc, m, PG_REFUSED_TOO_LONG);
	char *copy = strndup(name, name_len);
	if (!copy)
		return out_of_memory(pc);
	taken n = parse_named(pc, m, copy, name_len + 1);
	free(copy);
	return n;
}

/* Makes the statement that a Bind or Describe names be on the server. `*on_server` "": goes on under the name it has. */
static enum pg_prepare find_statement(struct pg_client *pc, struct pg_server *ps, struct pg_name *name, bool unnamed,
				      char on_server[PG_STATEMENT_NAME]) {
	on_server[0] = 0;
	struct pg_text *text = name ? name->text : NULL;
	if (unnamed && pc->unnamed_passed)
		return PG_PREPARED;
	if (!text && unnamed && (ps->statements.unnamed || ps->statements.unnamed_unknown)) {
		/* What is there is another client's: this one has none, and is to hear so from the server. */
		struct pg_request *r = push(pc, ps, PG_REQ_CLOSE);
		if (!r)
			return PG_PREPARE_FAILED;
		r->hidden = true;
		pg_statements_set_unnamed(&ps->statements, NULL);
		return put_message(ps, 'C', "S", 2, NULL, 0) ? PG_PREPARED : PG_PREPARE_FAILED;
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
		return put_message(ps, 'P', "", 1, text->body, text->len) ? PG_PREPARED : PG_PREPARE_FAILED;
	}
	enum pg_prepare done = pg_ensure_prepared(pc, ps, text);
	if (done == PG_PREPARED)
		pg_statement_name(pg_text_id(text, pc->settings), on_server);
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
	struct pg_server *ps = server_of(pc);
	if (depends_on_earlier_batch(pc, name) || (!unnamed && statements_uncertain(ps)))
		return hold(pc);
	if (!want_server(pc))
		return 0;
	ps = server_of(pc);
	if (type == PG_REQ_BIND)
		begin_replay(ps);
	char on_server[PG_STATEMENT_NAME];
	uint32_t queued = ps->queue.count;
	switch (find_statement(pc, ps, name, unnamed, on_server)) {
	case PG_PREPARE_HOLD:
		return hold(pc);
	case PG_PREPARE_FAILED:
		return out_of_memory(pc);
	case PG_PREPARED:
		break;
	}
	struct pg_request *r = push(pc, ps, type);
	if (!r)
		return out_of_memory(pc);
	struct pg_text *text = name ? name->text : NULL;
	if (type == PG_REQ_BIND && text)
		note_said(ps, text->body, text->len, false);
	else if (type == PG_REQ_BIND && !unnamed)
		note_named(ps, wanted);
	if (type == PG_REQ_BIND && at == 1)
		set_portal(pc, text);
	if (!on_server[0]) {
		ps->replayable = false;
		return forward(pc, m);
	}
	r->renamed = true;
	r->text = pg_text_ref(text);
	uint8_t head[SMALL_MESSAGE_MAX];
	size_t cut = at + strlen(wanted) + 1;
	if (at + sizeof on_server > sizeof head)
		return protocol_error(pc, "invalid message: a portal's name is too long");
	memcpy(head, m->data + PG_HEADER, at);
	memcpy(head + at, on_server, sizeof on_server);
	if (!is_whole(m) || queued != ps->queue.count - 1)
		ps->replayable = false;
	if (ps->replayable && type == PG_REQ_BIND) {
		uint32_t len = (uint32_t)(m->total - 1 - cut + at + sizeof on_server);
		uint8_t header[PG_HEADER] = {(uint8_t)m->type, (uint8_t)(len >> 24), (uint8_t)(len >> 16),
					     (uint8_t)(len >> 8), (uint8_t)len};
		record(pc, ps, header, sizeof header);
		record(pc, ps, head, at + sizeof on_server);
		record(pc, ps, m->data + PG_HEADER + cut, m->have - PG_HEADER - cut);
	} else {
		ps->replayable = false;
	}
	return forward_replaced(pc, m, cut, head, at + sizeof on_server);
}

static taken on_bind(struct pg_client *pc, const struct message *m) {
	if (keeps_statements(pc))
		return forward_kept(pc, m, PG_REQ_BIND);
	struct reader r = body_of(m);
	size_t portal_len = 0;
	const char *portal = reader_cstr(&r, &portal_len);
	const char *name = reader_cstr(&r, NULL);
	if (!name) {
		if (is_whole(m) || m->have > SMALL_MESSAGE_MAX)
			return protocol_error(pc, "invalid Bind message: its names do not end");
		return 0;
	}
	(void)portal;
	if (!may_leave(m))
		return 0;
	return use_statement(pc, m, name, portal_len + 1, PG_REQ_BIND);
}

/* A message that is small by nature, or an error. */
static bool small_and_whole(struct pg_client *pc, const struct message *m, taken *n) {
	*n = 0;
	if (m->total > SMALL_MESSAGE_MAX) {
		*n = protocol_error(pc, "invalid message: its length exceeds that of its kind");
		return false;
	}
	return is_whole(m);
}

/* What a RESET that is about to be sent names; more than one under way: nobody knows. */
static void note_reset(struct pg_client *pc, enum pg_text_kind kind, const char *name) {
	struct pg_server *ps = server_of(pc);
	pc->reset_name[0] = 0;
	if (kind == PG_TEXT_RESET && !(ps && ps->queue.simple + ps->queue.resets > 0))
		snprintf(pc->reset_name, sizeof pc->reset_name, "%s", name);
}

static taken on_describe(struct pg_client *pc, const struct message *m) {
	taken n;
	if (!small_and_whole(pc, m, &n))
		return n;
	struct reader r = body_of(m);
	uint8_t what = reader_u8(&r);
	const char *name = reader_cstr(&r, NULL);
	if (!name || reader_left(&r) != 0)
		return protocol_error(pc, "invalid Describe message");
	return what == 'S' && !keeps_statements(pc) ? use_statement(pc, m, name, 1, PG_REQ_DESCRIBE) : forward_counted(pc, m, PG_REQ_DESCRIBE);
}

static taken on_execute(struct pg_client *pc, const struct message *m) {
	taken n;
	if (!small_and_whole(pc, m, &n))
		return n;
	struct reader r = body_of(m);
	const char *portal = reader_cstr(&r, NULL);
	reader_u32be(&r);
	if (!portal || !r.ok || reader_left(&r) != 0)
		return protocol_error(pc, "invalid Execute message");
	if (!portal[0] && pc->portal && pc->portal->kind == PG_TEXT_DEALLOCATE) {
		/* The name is ours to forget; on the server it is called otherwise. */
		struct pg_name *name = pg_name_find(&pc->names, pc->portal->argument);
		if (depends_on_earlier_batch(pc, name))
			return hold(pc);
		if (name && name->text) {
			if (!want_server(pc))
				return 0;
			struct pg_server *ps = server_of(pc);
			if (earlier_batch_outstanding(pc, ps))
				return hold(pc);
			if (ps->status == 'E') /* fails, and must */
				return forward_counted(pc, m, PG_REQ_EXECUTE);
			ps->replayable = false;
			if (!answer(pc, ps, PG_VIRTUAL_DEALLOCATE, name))
				return out_of_memory(pc);
			pg_emit_virtual(ps);
			return m->have;
		}
	}
	if (!portal[0])
		note_reset(pc, pc->portal ? pc->portal->kind : PG_TEXT_PLAIN, pc->portal ? pc->portal->argument : NULL);
	return forward_counted(pc, m, PG_REQ_EXECUTE);
}

static taken on_close(struct pg_client *pc, const struct message *m) {
	taken n;
	if (!small_and_whole(pc, m, &n))
		return n;
	struct reader r = body_of(m);
	uint8_t what = reader_u8(&r);
	const char *wanted = reader_cstr(&r, NULL);
	if (!wanted || reader_left(&r) != 0)
		return protocol_error(pc, "invalid Close message");
	struct pg_server *ps = server_of(pc);
	if (what != 'S' || keeps_statements(pc)) {
		if (!wanted[0])
			set_portal(pc, NULL);
		if (ps)
			ps->replayable = false;
		return forward_counted(pc, m, PG_REQ_CLOSE);
	}
	struct pg_name *name = pg_name_find(&pc->names, wanted);
	if (depends_on_earlier_batch(pc, name) || statements_uncertain(ps))
		return hold(pc);
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
		return forward_counted(pc, m, PG_REQ_CLOSE); /* perhaps a statement of SQL's PREPARE */
	if (!want_server(pc))
		return 0;
	if (!answer(pc, ps, PG_VIRTUAL_CLOSE_COMPLETE, name))
		return out_of_memory(pc);
	pg_emit_virtual(ps);
	return m->have;
}

/* ---- simple query, function call, sync ---- */

static void send_ready(struct pg_client *pc, char status) {
	const uint8_t ready[] = {'Z', 0, 0, 0, 5, (uint8_t)status};
	client_write(&pc->base, ready, sizeof ready);
	pc->base.answered_ns = pc->base.sw->worker->now_ns;
	deadline_begun(&pc->base);
}

/* DEALLOCATE of a name that only we know. True: dealt with (or on hold, or closed; *n says). */
static bool query_deallocate(struct pg_client *pc, const struct message *m, const char *wanted, taken *n) {
	struct pg_server *ps = server_of(pc);
	struct pg_name *name = pg_name_find(&pc->names, wanted);
	*n = 0;
	if (ps && (ps->queue.count > 0 || ps->passing > 0)) { /* its turn comes when all before it is answered */
		*n = hold(pc);
		return true;
	}
	if (!name || !name->text || (ps && (ps->status == 'E' || ps->open_batch)))
		return false;
	static const uint8_t complete[] = {'C', 0, 0, 0, 15, 'D', 'E', 'A', 'L', 'L', 'O', 'C', 'A', 'T', 'E', 0};
	pg_name_set(&pc->names, name, NULL);
	pg_name_tidy(&pc->names, name);
	client_write(&pc->base, complete, sizeof complete);
	send_ready(pc, ps ? ps->status : 'I');
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
	if (!may_leave(m))
		return 0;
	enum pg_text_kind kind = PG_TEXT_PLAIN;
	if (is_whole(m) && m->have <= 1024 && m->have > PG_HEADER && m->blank == 0) {
		char *name = NULL;
		size_t len = strnlen((const char *)m->data + PG_HEADER, m->have - PG_HEADER);
		kind = pg_sql_kind((const char *)m->data + PG_HEADER, len, &name);
		taken n;
		bool done = kind == PG_TEXT_DEALLOCATE && !keeps_statements(pc) && query_deallocate(pc, m, name, &n);
		note_reset(pc, kind, name);
		free(name);
		if (done)
			return n;
	}
	if (!want_server(pc))
		return 0;
	struct pg_server *ps = server_of(pc);
	struct pg_request *r = push(pc, ps, PG_REQ_QUERY);
	if (!r)
		return out_of_memory(pc);
	if (ps->status != 'I' && ps->queue.count == 1 && begins_another(m)) /* the server would tell when all is done */
		pg_transaction_begins(pc, ps);
	r->kind = (uint8_t)kind;
	pg_queue_count(&ps->queue, r);
	note_said(ps, m->data + PG_HEADER, m->have - PG_HEADER, !is_whole(m));
	/* PostgreSQL drops the unnamed statement at each simple query */
	if (pc->names.unnamed && (pc->names.unnamed->text || pc->names.unnamed->pending > 0))
		change_name(pc, r, pc->names.unnamed, NULL);
	pc->unnamed_passed = false;
	pg_statements_set_unnamed(&ps->statements, NULL);
	ps->open_batch = false;
	ps->replayable = false;
	pc->batch++;
	pc->base.queries++;
	return m->blank ? forward_blanked(pc, m) : forward(pc, m);
}

static taken on_function_call(struct pg_client *pc, const struct message *m) {
	if (!may_leave(m))
		return 0;
	taken n = forward_counted(pc, m, PG_REQ_FUNCTION);
	if (n > 0) {
		static const char call[] = "(function call)";
		note_said(server_of(pc), call, sizeof call, false);
		server_of(pc)->open_batch = false;
		server_of(pc)->replayable = false;
		pc->batch++;
	}
	return n;
}

static taken on_sync(struct pg_client *pc, const struct message *m) {
	taken n;
	if (!small_and_whole(pc, m, &n))
		return n;
	if (m->total != PG_HEADER)
		return protocol_error(pc, "invalid Sync message");
	struct pg_server *ps = server_of(pc);
	if (!ps) { /* nothing is under way anywhere */
		pc->skip_to_sync = false;
		pc->batch++;
		send_ready(pc, 'I');
		return m->have;
	}
	if (ps->copy == 'G' && !ps->copy_input_done) { /* a server that copies in ignores it */
		ps->swallowed_syncs++;
		return forward(pc, m);
	}
	if (!want_server(pc))
		return 0;
	pc->skip_to_sync = false;
	if (!push(pc, ps, PG_REQ_SYNC))
		return out_of_memory(pc);
	record(pc, ps, m->data, m->have);
	ps->open_batch = false;
	pc->batch++;
	pc->base.queries++;
	return forward(pc, m);
}

/* ---- copy ---- */

static taken on_copy_data(struct pg_client *pc, const struct message *m) {
	struct pg_server *ps = server_of(pc);
	if (!ps || (ps->copy == 0 && ps->queue.count == 0))
		return discard(pc, m); /* of a copy that has failed: PostgreSQL passes over it, too */
	if (!may_leave(m))
		return 0;
	return forward(pc, m);
}

static taken on_copy_end(struct pg_client *pc, const struct message *m) {
	struct pg_server *ps = server_of(pc);
	if (!ps || (ps->copy == 0 && ps->queue.count == 0))
		return discard(pc, m);
	if (!may_leave(m))
		return 0;
	if (ps->copy != 'W' && (pg_queue_full(&ps->queue) || (ps->copy == 'G' && ps->copy_input_done)))
		return discard(pc, m); /* ends nothing any more */
	if (ps->copy != 'W') {
		bool open = ps->open_batch;
		if (!push(pc, ps, PG_REQ_COPY_END))
			return out_of_memory(pc);
		ps->open_batch = open;
		if (ps->copy == 'G')
			ps->copy_input_done = true;
	}
	return forward(pc, m);
}

/* ---- the walk ---- */

/* Its request was answered with an error before it got a server. */
static taken skip_refused(struct pg_client *pc, const struct message *m) {
	pc->refused = false;
	if (m->type == 'Q' || m->type == 'F' || m->type == 'S') {
		send_ready(pc, pc->aborted ? 'E' : 'I');
		return discard(pc, m);
	}
	pc->skip_to_sync = true;
	return discard(pc, m);
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
		*n = hold(pc);
		return true;
	case PG_ABORTED_DONE:
		*n = discard(pc, m);
		return true;
	case PG_ABORTED_INVALID:
		*n = protocol_error(pc, "invalid message");
		return true;
	case PG_ABORTED_REST:
		if (!want_server(pc))
			return true;
		pg_aborted_rest(pc);
		m->blank = cut;
		return false;
	}
	return false;
}

static taken on_message(struct pg_client *pc, struct message *m) {
	if (m->type == 'X') {
		struct pg_server *ps = server_of(pc);
		if (ps)
			ps->let_finish = true;
		if (ps && ps->queue.count > 0 && !pc->skip_to_sync && !ps->open_batch)
			return hold(pc); /* PostgreSQL does what it was asked before it reads this */
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
		return discard(pc, m);
	/* Whether a copy has swallowed the Syncs that were sent with it is known when it has ended: nothing that is answered
	 * goes behind it before. */
	struct pg_server *copying = server_of(pc);
	if (copying && (copying->uncertain > 0 || copying->queue.copy_ends > 0 || cancel_outstanding(copying)) &&
	    strchr("QFPBDEC", m->type))
		return hold(pc);
	switch (m->type) {
	case 'Q':
		return on_query(pc, m);
	case 'P':
		return on_parse(pc, m);
	case 'B':
		return on_bind(pc, m);
	case 'D':
		return on_describe(pc, m);
	case 'E':
		return on_execute(pc, m);
	case 'C':
		return on_close(pc, m);
	case 'S':
		return on_sync(pc, m);
	case 'H': {
		taken n;
		if (!small_and_whole(pc, m, &n))
			return n;
		if (m->total != PG_HEADER) /* its error would be one that nobody waits for */
			return protocol_error(pc, "invalid Flush message");
		return server_of(pc) ? forward(pc, m) : m->have;
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
		return protocol_error(pc, text);
	}
	}
}

size_t pg_frontend_input(struct pg_client *pc, const uint8_t *data, size_t len) {
	struct client *client = &pc->base;
	size_t used = 0;
	while (used < len && client->hold == HOLD_NONE && client->state != CLIENT_CLOSED && !client->closing) {
		size_t left = len - used;
		struct pg_server *ps = server_of(pc);
		if (pc->discard > 0) {
			size_t n = pc->discard < left ? (size_t)pc->discard : left;
			pc->discard -= n;
			used += n;
			continue;
		}
		if (ps && ps->half_sent > 0) {
			size_t n = ps->half_sent < left ? (size_t)ps->half_sent : left;
			if (!server_write(&ps->base, data + used, n))
				return out_of_memory(pc);
			ps->half_sent -= n;
			used += n;
			continue;
		}
		if (left < PG_HEADER)
			break;
		struct message m = {.type = (char)data[used], .data = data + used};
		m.total = 1 + (uint64_t)pg_get_u32(m.data + 1);
		if (m.total < PG_HEADER || m.total > MESSAGE_MAX) {
			protocol_error(pc, "invalid message length");
			break;
		}
		m.have = m.total < left ? (size_t)m.total : left;
		size_t n = on_message(pc, &m);
		if (n == 0)
			break;
		used += n;
	}
	return used;
}
