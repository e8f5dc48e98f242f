/*
 * From a server to its client: every packet is matched with the head of the queue of requests, and goes to the client only
 * if that request was the client's. To clients with DEPRECATE_EOF packets go on as they are, but for what is said of the
 * session's state; to others with their own numbering, and EOF packets where they expect them.
 */
#include "mysql/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "mysql/sql.h"
#include "mysql/state.h"
#include "session/cancel.h"
#include "session/deadline.h"
#include "session/meter.h"

struct walk {
	struct my_server *ms;
	struct my_client *mc; /* that the head's answer goes to; NULL: to nobody */
	const uint8_t *run;   /* bytes in a row that go to the client as they are */
	size_t run_len;
};

struct packet {
	const uint8_t *data; /* from the header */
	size_t have;         /* bytes at `data` that belong to it */
	uint32_t length;     /* of the body */
	uint8_t sequence;
	enum my_role role;
};

enum verdict { TAKEN, INCOMPLETE, STOP };

static void flush_run(struct walk *w) {
	struct client *client = w->ms->base.client;
	size_t len = w->run_len;
	w->run_len = 0;
	if (len > 0 && client && !client_write(client, w->run, len)) /* what follows would be taken for what is missing */
		client_end(client, REFUSAL_INTERNAL, "out of memory");
}

static void to_client(struct walk *w, const uint8_t *data, size_t len) {
	if (w->run_len > 0 && w->run + w->run_len == data) {
		w->run_len += len;
		return;
	}
	flush_run(w);
	w->run = data;
	w->run_len = len;
}

static enum verdict violation(struct walk *w, const struct packet *p, const char *what) {
	char text[200];
	const struct my_request *head = my_head(w->ms);
	snprintf(text, sizeof text, "%s (%u bytes that begin with 0x%02x, number %u, %u requests outstanding, the first of type %d)",
		 what, p->length, p->have > MY_HEADER ? *(p->data + MY_HEADER) : 0, p->sequence, w->ms->relay.count,
		 head ? head->command : -1);
	flush_run(w);
	server_violation(&w->ms->base, "answer_ownership", text);
	return STOP;
}

static bool is_old(const struct my_client *mc) {
	return !(mc->start.capabilities & MY_CLIENT_DEPRECATE_EOF);
}

static const uint8_t *body_of(const struct packet *p) {
	return p->data + MY_HEADER;
}

/* ---- to the client ---- */

static void send_built(struct walk *w, struct my_builder *b) {
	flush_run(w);
	struct client *client = w->ms->base.client;
	if (client && !(b->ok && client_write(client, buf_bytes(&b->buf), buf_len(&b->buf))))
		client_end(client, REFUSAL_INTERNAL, "out of memory");
	my_builder_release(b);
}

static struct my_builder builder_of(struct walk *w) {
	return my_builder(w->ms->base.sw->worker->buffers);
}

static void send_eof(struct walk *w, uint16_t warnings, uint16_t status) {
	struct my_builder b = builder_of(w);
	my_put_eof(&b, w->mc->sequence++, w->mc->start.capabilities, warnings, status);
	send_built(w, &b);
}

static void pay_eof(struct walk *w) {
	if (!w->mc || !w->mc->relay.eof_owed)
		return;
	w->mc->relay.eof_owed = false;
	send_eof(w, 0, w->ms->relay.status);
}

/* As it is, as much as has come; the rest in passing. */
static void pass(struct walk *w, const struct packet *p) {
	struct my_server_relay *s = &w->ms->relay;
	s->passing = p->length - (uint32_t)(p->have - MY_HEADER);
	s->passing_to_client = w->mc != NULL;
	if (!w->mc)
		return;
	if (is_old(w->mc)) { /* packets of ours have gone between: its numbers are its own */
		uint8_t header[MY_HEADER];
		pay_eof(w);
		flush_run(w);
		my_write_header(header, p->length, w->mc->sequence);
		if (!client_write(&w->mc->base, header, sizeof header))
			client_end(&w->mc->base, REFUSAL_INTERNAL, "out of memory");
		to_client(w, body_of(p), p->have - MY_HEADER);
	} else {
		w->mc->sequence = p->sequence;
		to_client(w, p->data, p->have);
	}
	w->mc->sequence++;
}

/* OK, or the end of rows. What it tells of the session's state is passed on as the client wants it. */
static void pass_ok(struct walk *w, const struct packet *p, const struct my_request *head, struct my_ok *ok) {
	struct my_client *mc = w->mc;
	if (!mc)
		return;
	bool old = is_old(mc), end = p->role == MY_ROLE_END || *body_of(p) == MY_PACKET_EOF;
	if (old && end) {
		if (head->command == MY_COM_STMT_EXECUTE && (ok->status & MY_STATUS_CURSOR_EXISTS) && mc->relay.eof_owed)
			mc->relay.eof_owed = false; /* a cursor's columns have one EOF behind them */
		pay_eof(w);
		send_eof(w, ok->warnings, ok->status & (uint16_t)~MY_STATUS_SESSION_STATE_CHANGED);
		return;
	}
	bool raw = mc->relay.pins & 1u << PIN_TRACKERS; /* it has said itself what it wants to be told */
	bool tracks = mc->start.capabilities & MY_CLIENT_SESSION_TRACK;
	if (!(ok->status & MY_STATUS_SESSION_STATE_CHANGED) || (tracks && raw)) {
		pass(w, p);
		return;
	}
	struct my_builder state = builder_of(w), b = builder_of(w);
	bool sound = !tracks || my_filter_state(&state, ok->state, ok->state_len);
	ok->state = sound && tracks && buf_len(&state.buf) > 0 ? buf_bytes(&state.buf) : NULL;
	ok->state_len = ok->state ? buf_len(&state.buf) : 0;
	uint8_t sequence = old ? mc->sequence : p->sequence;
	mc->sequence = (uint8_t)(sequence + 1);
	my_put_ok(&b, sequence, *body_of(p), mc->start.capabilities, ok);
	send_built(w, &b);
	my_builder_release(&state);
}

/* ---- what is told ---- */

static void begin_answer(struct walk *w) {
	struct my_server_relay *s = &w->ms->relay;
	struct my_request *head = my_head(w->ms);
	my_answer_begin(&s->answer, (enum my_asked)head->asked, (uint8_t)(head->sequence + 1));
	s->answering = true;
}

static void count_query(struct my_client *mc, struct my_server *ms) {
	uint64_t now_ns = mc->base.sw->worker->now_ns;
	meter_query(&ms->base, now_ns - mc->base.request_ns);
	bool over = !(ms->relay.status & MY_STATUS_IN_TRANS);
	if (over) {
		mc->base.transactions++;
		ms->base.transactions++;
		meter_transaction(&ms->base, now_ns - ms->relay.transaction_since_ns);
		ms->relay.transaction_since_ns = now_ns;
		ms->relay.said_count = 0;
	}
	mc->base.request_ns = now_ns;
	deadline_answered(&ms->base, over);
}

static void settle(struct walk *w, bool failed, bool rows, uint16_t warnings) {
	struct my_server *ms = w->ms;
	struct my_server_relay *s = &ms->relay;
	struct my_request request = *my_head(ms);
	flush_run(w);
	if (request.prepared)
		request.prepared->in_flight = false;
	my_text_unref(request.text);
	request.text = NULL;
	s->head = (uint8_t)((s->head + 1) % MY_QUEUE);
	s->count--;
	s->answering = false;
	s->file = false;
	my_cancels_go_on(ms);
	if (request.task != MY_TASK_CLIENT) {
		my_task_over(ms, &request, failed);
		return;
	}
	struct my_client *mc = w->mc;
	if (mc) {
		mc->relay.eof_owed = false;
		mc->mid_message = false;
		mc->sequence = 1; /* what ends an idle client answers its next command */
		my_note_end(mc, ms, &request, failed, rows, warnings);
	} else {
		s->touched = true; /* nobody was there to note what it has left */
	}
	if (mc && failed) /* it was answered; whether its transaction has ended is asked now */
		meter_query(&ms->base, mc->base.sw->worker->now_ns - mc->base.request_ns);
	/* an error does not tell whether a transaction is open */
	if (failed && !ms->base.close_wanted && !my_ask(ms, MY_TASK_PING, MY_ASKED_SIMPLE, MY_COM_PING, "", 0))
		return;
	if (mc && !failed)
		count_query(mc, ms);
	my_recover_goes_on(ms);
}

/* The answer is complete: the request leaves the queue. */
static void settle_head(struct walk *w, bool failed, bool rows, uint16_t warnings) {
	bool target = my_cancel_is_for(my_head(w->ms));
	settle(w, failed, rows, warnings);
	if (target) /* a KILL that has not left yet was for this one */
		cancel_withdraw(&w->ms->base);
}

/* ---- the kinds of packets ---- */

/* With one statement for each server no transaction may stay open: told in place of the last OK. */
static bool is_too_much(const struct walk *w, const struct my_ok *ok) {
	if (!w->mc || !(ok->status & MY_STATUS_IN_TRANS) || (ok->status & MY_STATUS_MORE_RESULTS))
		return false;
	const struct client *client = &w->mc->base;
	return database_view(client->database, client->sw->worker->id)->config->mode == POOL_MODE_STATEMENT;
}

/* It would take the second result for the answer to its next command. */
static bool is_unexpected(const struct my_client *mc, const struct my_request *head, const struct my_ok *ok) {
	/* of prepared statements servers send them to who has said either: drivers rely on it */
	uint32_t needed = MY_CLIENT_MULTI_RESULTS | (head->command == MY_COM_STMT_EXECUTE ? MY_CLIENT_PS_MULTI_RESULTS : 0u);
	bool asked_for = mc->relay.multi && head->command == MY_COM_QUERY;
	return (ok->status & MY_STATUS_MORE_RESULTS) && !asked_for && !(mc->start.capabilities & needed);
}

/* The client gets this error in place of what has come, and is closed. */
static void end_with(struct walk *w, const struct packet *p, const char *text) {
	flush_run(w);
	pay_eof(w);
	w->mc->mid_message = false;
	if (!is_old(w->mc))
		w->mc->sequence = p->sequence;
	client_end(&w->mc->base, REFUSAL_MODE, text);
	w->mc = NULL;
}

static enum verdict on_ok(struct walk *w, const struct packet *p) {
	struct my_server *ms = w->ms;
	struct my_request *head = my_head(ms);
	struct my_ok ok;
	bool rows = p->role == MY_ROLE_END;
	if (!my_read_ok(body_of(p), p->length, MY_CLIENT_SESSION_TRACK, &ok))
		return violation(w, p, "a malformed OK");
	if (!my_note_ok(ms, head, &ok))
		return STOP;
	if (head->statement && rows)
		my_note_cursor(w->mc, head, ok.status);
	bool over = my_answer_is_over(&ms->relay.answer);
	if (over && w->mc && is_too_much(w, &ok)) {
		end_with(w, p,
			 "transactions of several statements are not allowed with pool_mode = statement; use pool_mode = "
			 "transaction");
	} else if (w->mc && is_unexpected(w->mc, head, &ok)) {
		end_with(w, p,
			 "the statement has several results, which the client has not said it can take "
			 "(CLIENT_MULTI_RESULTS, CLIENT_PS_MULTI_RESULTS)");
	} else {
		pass_ok(w, p, head, &ok);
	}
	if (over)
		settle_head(w, false, rows, ok.warnings);
	return TAKEN;
}

/* The backend ends the connection, or answers before it has read all: nothing can follow. */
static enum verdict on_last_words(struct walk *w, const struct packet *p, const struct my_err *err) {
	struct my_server *ms = w->ms;
	char text[256];
	snprintf(text, sizeof text, "%.*s", (int)(err->message_len < 200 ? err->message_len : 200), (const char *)err->message);
	log_info("server_fatal",
		 LOG_FIELDS(LOG_TEXT("pool", ms->base.database->name), LOG_TEXT("server", ms->base.host_text),
			    LOG_NUMBER("code", err->code)),
		 "the backend ended the connection: %s", text);
	ms->base.dismissed = true;
	if (w->mc && !w->mc->told_fatal) {
		meter_error(&w->mc->base, err->sqlstate);
		pass(w, p);
		flush_run(w);
		w->mc->told_fatal = true;
	}
	account_set_error(account_of(ms->base.conn.user), err->sqlstate, text);
	server_close(&ms->base, text);
	return STOP;
}

static void note_task_error(struct my_server *ms, const struct my_err *err) {
	struct my_server_relay *s = &ms->relay;
	if (s->task_failed)
		return;
	s->task_failed = true;
	s->failed_task = my_head(ms)->task;
	s->task_code = err->code;
	snprintf(s->task_sqlstate, sizeof s->task_sqlstate, "%s", err->sqlstate);
	snprintf(s->task_error, sizeof s->task_error, "%.*s",
		 (int)(err->message_len < sizeof s->task_error ? err->message_len : sizeof s->task_error - 1),
		 (const char *)err->message);
}

static enum verdict on_error(struct walk *w, const struct packet *p) {
	struct my_server *ms = w->ms;
	struct my_request *head = my_head(ms);
	struct my_err err;
	if (!my_read_err(body_of(p), p->length, &err))
		return violation(w, p, "a malformed error");
	if (ms->relay.half_sent > 0 || ms->relay.half_more || head->asked == MY_ASKED_STREAM ||
	    err.code == MY_ER_SERVER_SHUTDOWN || err.code == MY_ER_CONNECTION_KILLED_MARIADB)
		return on_last_words(w, p, &err);
	if (head->task != MY_TASK_CLIENT && head->task != MY_TASK_PING)
		note_task_error(ms, &err);
	if (w->mc && my_is_cut(ms, err.code)) {
		flush_run(w);
		if (!is_old(w->mc))
			w->mc->sequence = p->sequence;
		pay_eof(w);
		my_tell_cut(w->mc, ms);
	} else {
		if (w->mc)
			meter_error(&w->mc->base, err.sqlstate);
		pass(w, p);
	}
	if (w->mc)
		my_note_failed(w->mc, head);
	settle_head(w, true, false, 0);
	return TAKEN;
}

static enum verdict on_infile(struct walk *w, const struct packet *p) {
	struct my_server *ms = w->ms;
	if (w->mc && !(w->mc->start.capabilities & MY_CLIENT_LOCAL_FILES)) /* its statement would have been refused */
		return violation(w, p, "a request for a file of a client that has not said it can send one");
	ms->relay.file = true;
	pass(w, p);
	if (w->mc && ms->relay.passing == 0)
		w->mc->mid_message = false; /* an error may come now, as it may of the server's */
	if (!w->mc) /* nobody is there to send it */
		my_end_file(ms);
	return TAKEN;
}

static enum verdict on_prepared(struct walk *w, const struct packet *p) {
	struct my_server *ms = w->ms;
	uint8_t body[64];
	if (p->length > sizeof body)
		return violation(w, p, "a malformed answer to COM_STMT_PREPARE");
	memcpy(body, body_of(p), p->length);
	uint32_t number = 0;
	if (!my_note_prepared(w->mc, ms, my_head(ms), &number))
		return STOP;
	if (w->mc) {
		struct my_builder b = builder_of(w);
		uint8_t sequence = is_old(w->mc) ? w->mc->sequence : p->sequence;
		w->mc->sequence = (uint8_t)(sequence + 1);
		my_open(&b, sequence);
		my_put_u8(&b, MY_PACKET_OK);
		my_put_u32(&b, number);
		my_put(&b, body + 5, p->length - 5);
		my_close(&b);
		send_built(w, &b);
	}
	return TAKEN;
}

/* Definitions and rows. Behind definitions an old client expects an EOF. */
static enum verdict on_data(struct walk *w, const struct packet *p, enum my_answer_stage before) {
	const struct my_answer *a = &w->ms->relay.answer;
	struct my_request *head = my_head(w->ms);
	if (p->role == MY_ROLE_ROW && p->have == MY_HEADER + p->length && head->task == MY_TASK_LEARN)
		my_learnt_row(w->ms, body_of(p), p->length);
	if (p->role == MY_ROLE_ROW && p->have == MY_HEADER + p->length && head->task == MY_TASK_IDENTITY)
		w->ms->relay.identity = my_identity(body_of(p), p->length);
	pass(w, p);
	if (!w->mc || !is_old(w->mc) || a->stage == before)
		return TAKEN;
	if (before == MY_STAGE_PARAMETERS || (before == MY_STAGE_COLUMNS && a->asked == MY_ASKED_PREPARE))
		w->mc->relay.eof_owed = true; /* paid when all of this packet has passed */
	else if (before == MY_STAGE_COLUMNS && a->stage == MY_STAGE_ROWS)
		w->mc->relay.eof_owed = true; /* paid when it is known that it is not the last */
	return TAKEN;
}

/* ---- the walk ---- */

/* A packet has passed as a whole. */
static void passed(struct walk *w) {
	struct my_server_relay *s = &w->ms->relay;
	if (s->passing > 0 || !s->answering || !s->count)
		return;
	if (s->answer.asked == MY_ASKED_PREPARE && w->mc && !s->answer.rest)
		pay_eof(w);
	if (my_answer_is_over(&s->answer))
		settle_head(w, false, false, 0);
}

static enum verdict on_packet(struct walk *w, struct packet *p) {
	struct my_server *ms = w->ms;
	struct my_server_relay *s = &ms->relay;
	struct my_request *head = my_head(ms);
	uint8_t first = p->have > MY_HEADER ? *body_of(p) : 0;
	struct my_err err;
	if (!head) { /* it may say why it ends the connection */
		bool whole = p->have == MY_HEADER + p->length;
		if (first != MY_PACKET_ERR || p->length > 1024)
			return violation(w, p, "a packet that nobody has asked for");
		if (!whole)
			return INCOMPLETE;
		w->mc = NULL;
		return my_read_err(body_of(p), p->length, &err) ? on_last_words(w, p, &err)
								: violation(w, p, "a malformed error");
	}
	bool linked = ms->base.client && ms->base.state == SERVER_ACTIVE && !s->recovering;
	w->mc = linked && head->task == MY_TASK_CLIENT ? my_client(ms->base.client) : NULL;
	if (!s->answering)
		begin_answer(w);
	p->role = my_answer_role(&s->answer, p->length, first);
	if (p->role == MY_ROLE_ERR && (s->half_sent > 0 || s->half_more)) /* it has not read all */
		s->answer.sequence = p->sequence;
	bool row_of_ours = p->role == MY_ROLE_ROW && (head->task == MY_TASK_LEARN || head->task == MY_TASK_IDENTITY);
	if ((my_answer_needs(p->role) || row_of_ours) && p->have < MY_HEADER + p->length) {
		if (p->length > MY_ANSWER_WHOLE_MAX)
			return violation(w, p, "a packet that is too long");
		return INCOMPLETE;
	}
	enum my_answer_stage before = (enum my_answer_stage)s->answer.stage;
	if (!my_answer_take(&s->answer, p->role, p->length, p->sequence, body_of(p)))
		return violation(w, p, "an answer that is out of order or malformed");
	if (w->mc)
		w->mc->mid_message = true;
	switch (p->role) {
	case MY_ROLE_OK:
	case MY_ROLE_END:
		return on_ok(w, p);
	case MY_ROLE_ERR:
		return on_error(w, p);
	case MY_ROLE_INFILE:
		return on_infile(w, p);
	case MY_ROLE_PREPARED: {
		enum verdict verdict = on_prepared(w, p);
		if (verdict == TAKEN)
			passed(w);
		return verdict;
	}
	case MY_ROLE_COUNT:
	case MY_ROLE_COLUMN:
	case MY_ROLE_ROW:
	case MY_ROLE_PARAMETER:
	case MY_ROLE_TEXT:
	case MY_ROLE_REST:
	case MY_ROLE_STREAM: {
		enum verdict verdict = on_data(w, p, before);
		passed(w);
		return verdict;
	}
	case MY_ROLE_WRONG:
		break;
	}
	return violation(w, p, "an answer that is out of order or malformed");
}

static size_t pass_on(struct walk *w, const uint8_t *data, size_t len) {
	struct my_server_relay *s = &w->ms->relay;
	size_t n = s->passing < len ? s->passing : len;
	struct client *client = w->ms->base.client;
	if (s->passing_to_client && client)
		to_client(w, data, n);
	s->passing -= (uint32_t)n;
	w->mc = s->passing_to_client && client ? my_client(client) : NULL;
	passed(w);
	return n;
}

/* What follows when all that has come is dealt with. */
static void input_over(struct my_server *ms) {
	struct client *client = ms->base.client;
	if (!client || ms->base.close_wanted || ms->relay.count > 0 || ms->relay.passing > 0)
		return;
	client->answered_ns = client->sw->worker->now_ns;
	my_settle_cut(ms);
	client = ms->base.client;
	if (!client || client->closing || ms->base.close_wanted || ms->relay.preparing)
		return;
	if (my_must_learn(ms) && !ms->relay.half_sent && !ms->relay.half_more) {
		my_learn(ms);
		return;
	}
	if (client->keeps_server || !my_server_clean(&ms->base))
		deadline_begun(client); /* idle from now on, in a transaction */
	if (client->hold == HOLD_OUTCOME)
		client_resume(client);
}

size_t my_backend_input(struct my_server *ms, const uint8_t *data, size_t len) {
	struct walk w = {.ms = ms};
	size_t used = 0;
	while (used < len && !ms->base.close_wanted) {
		size_t left = len - used;
		if (ms->relay.passing > 0) {
			used += pass_on(&w, data + used, left);
			continue;
		}
		struct my_header header;
		if (!my_read_header(data + used, left, &header) || (header.length > 0 && left == MY_HEADER))
			break;
		struct packet p = {.data = data + used, .length = header.length, .sequence = header.sequence};
		p.have = MY_HEADER + (size_t)header.length < left ? MY_HEADER + (size_t)header.length : left;
		enum verdict verdict = on_packet(&w, &p);
		if (verdict != TAKEN)
			break;
		used += p.have;
	}
	flush_run(&w);
	input_over(ms);
	return used;
}
