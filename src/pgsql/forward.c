/* What becomes of a client's message: sent on, held, noted as outstanding. */
#include "pgsql/frontend.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "session/deadline.h"

taken fe_protocol_error(struct pg_client *pc, const char *text) {
	struct client *client = &pc->base;
	log_info("client_protocol_error",
		 LOG_FIELDS(LOG_TEXT("client", STREAM_PEER_SAY(&client->peer)), LOG_NUMBER("id", client->id)), "%s", text);
	if (!pc->told_fatal)
		pg_send_error(client, "FATAL", "08P01", text, NULL);
	pc->told_fatal = true;
	client_close(client, text);
	return 0;
}

taken fe_out_of_memory(struct pg_client *pc) {
	client_end(&pc->base, REFUSAL_INTERNAL, "out of memory");
	return 0;
}

taken fe_discard(struct pg_client *pc, const struct message *m) {
	pc->discard = (uint32_t)(m->total - m->have);
	return m->have;
}

struct pg_server *fe_server_of(struct pg_client *pc) {
	return pc->base.server ? pg_server(pc->base.server) : NULL;
}

/* Waits for an answer that is under way. Within a batch the server is asked for it, or it would keep it to itself until
 * the Sync that the client cannot send. */
taken fe_hold(struct pg_client *pc) {
	static const uint8_t flush[] = {'H', 0, 0, 0, 4};
	struct pg_server *ps = fe_server_of(pc);
	if (ps && ps->open_batch && ps->half_sent == 0)
		server_write(&ps->base, flush, sizeof flush);
	pc->base.hold = HOLD_OUTCOME;
	return 0;
}

/* Sends a message on as it is. */
taken fe_forward(struct pg_client *pc, const struct message *m) {
	struct pg_server *ps = fe_server_of(pc);
	if (!server_write(&ps->base, m->data, m->have))
		return fe_out_of_memory(pc);
	ps->half_sent = m->total - m->have;
	return m->have;
}

void fe_replaced_header(const struct message *m, size_t cut, size_t head_len, uint8_t *out) {
	uint32_t len = (uint32_t)(m->total - 1 - cut + head_len);
	out[0] = (uint8_t)m->type;
	pg_put_u32(out + 1, len);
}

taken fe_forward_behind(struct pg_client *pc, const struct message *m, const void *start, size_t start_len, size_t cut) {
	struct pg_server *ps = fe_server_of(pc);
	if (!server_write(&ps->base, start, start_len) ||
	    !server_write(&ps->base, m->data + PG_HEADER + cut, m->have - PG_HEADER - cut))
		return fe_out_of_memory(pc);
	ps->half_sent = m->total - m->have;
	return m->have;
}

/* Sends the message with its first `cut` body bytes replaced. */
taken fe_forward_replaced(struct pg_client *pc, const struct message *m, size_t cut, const void *head, size_t head_len) {
	uint8_t header[PG_HEADER];
	fe_replaced_header(m, cut, head_len, header);
	if (!server_write(&fe_server_of(pc)->base, header, sizeof header))
		return fe_out_of_memory(pc);
	return fe_forward_behind(pc, m, head, head_len, cut);
}

/* Blanks, not nothing: the positions in the server's errors stay the client's. */
taken fe_forward_blanked(struct pg_client *pc, const struct message *m) {
	char *blanks = malloc(m->blank);
	if (!blanks)
		return fe_out_of_memory(pc);
	size_t n = 0;
	for (size_t i = 0; i < m->blank; i++) /* one for each character of UTF-8 */
		if ((m->data[PG_HEADER + i] & 0xc0) != 0x80)
			blanks[n++] = ' ';
	taken took = fe_forward_replaced(pc, m, m->blank, blanks, n);
	free(blanks);
	return took;
}

/* ---- what is outstanding ---- */

struct pg_request *fe_push(struct pg_client *pc, struct pg_server *ps, enum pg_request_type type) {
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
void fe_note_said(struct pg_server *ps, const void *sql, size_t len, bool more) {
	pg_said_keep(&ps->said[ps->said_count > 0], sql, len, more);
	ps->said_count = ps->said_count ? 2 : 1;
}

/* A statement of which only the name is known. */
void fe_note_named(struct pg_server *ps, const char *name) {
	char text[2 * NAMEDATALEN_MAX];
	int len = snprintf(text, sizeof text, "EXECUTE \"%.*s\"", NAMEDATALEN_MAX, name);
	fe_note_said(ps, text, (size_t)len, false);
}

/* Changes what a name stands for, to be undone if the message fails. Takes the reference to `text` over. */
void fe_change_name(struct pg_client *pc, struct pg_request *r, struct pg_name *name, struct pg_text *text) {
	r->name = name;
	r->before = name->text;
	name->text = text;
	pc->names.bytes += text ? text->len : 0;
	pc->names.bytes -= r->before ? r->before->len : 0;
	name->pending++;
	name->pending_batch = r->batch;
}

bool fe_depends_on_earlier_batch(const struct pg_client *pc, const struct pg_name *name) {
	return name && name->pending > 0 && name->pending_batch != pc->batch;
}

/* What an earlier batch does to the transaction is not known yet. (If an earlier message of the same batch fails, this
 * one is skipped.) */
bool fe_earlier_batch_outstanding(const struct pg_client *pc, const struct pg_server *ps) {
	const struct pg_request *head = pg_queue_head(&ps->queue);
	return head && head->batch != pc->batch;
}

/* Whether an answer under way may drop all prepared statements (a Query can hold a DEALLOCATE ALL anywhere). */
bool fe_statements_uncertain(const struct pg_server *ps) {
	return ps && (ps->queue.simple > 0 || ps->queue.resets > 0);
}

/* A server for this message. False: on hold, or the client is closed. */
bool fe_want_server(struct pg_client *pc) {
	struct pg_server *ps = fe_server_of(pc);
	if (!ps) {
		if (!client_want_server(&pc->base) || pc->base.hold != HOLD_NONE)
			return false;
		ps = fe_server_of(pc);
	}
	if (ps && pg_queue_full(&ps->queue)) {
		fe_hold(pc); /* a long pipeline */
		return false;
	}
	if (ps && pc->base.begin_deferred && !pg_begin_send(pc, ps)) {
		fe_out_of_memory(pc);
		return false;
	}
	return ps != NULL;
}

/* An answer of our own, in its turn. */
bool fe_answer(struct pg_client *pc, struct pg_server *ps, enum pg_virtual what, struct pg_name *name) {
	struct pg_request *r = fe_push(pc, ps, PG_REQ_VIRTUAL);
	if (!r)
		return false;
	r->virtual_answer = (uint8_t)what;
	if (name)
		fe_change_name(pc, r, name, NULL);
	return true;
}

bool fe_put_message(struct pg_server *ps, char type, const void *a, size_t a_len, const void *b, size_t b_len) {
	uint32_t len = (uint32_t)(4 + a_len + b_len);
	uint8_t header[PG_HEADER] = {(uint8_t)type};
	pg_put_u32(header + 1, len);
	return server_write(&ps->base, header, sizeof header) && server_write(&ps->base, a, a_len) &&
	       server_write(&ps->base, b, b_len);
}
