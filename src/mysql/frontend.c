/*
 * From a client to its server, one command at a time: the next one is looked at when the one before it has been answered, for
 * what it needs may depend on that answer. Commands go on as they are, or with a statement's number replaced; long ones while
 * they come.
 */
#include "mysql/frontend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "session/deadline.h"

enum { SMALL_COMMAND_MAX = 16 * 1024 };

struct my_server *mf_server_of(struct my_client *mc) {
	return mc->base.server ? my_server(mc->base.server) : NULL;
}

static bool usable(const struct my_server *ms) {
	return ms && ms->base.state != SERVER_CLOSED && !ms->base.close_wanted;
}

/* ---- answers of our own ---- */

taken mf_skip(struct my_client *mc, const struct command *c) {
	mc->relay.discard = c->length - (uint32_t)(c->have - MY_HEADER);
	mc->relay.discard_more = c->length == MY_PACKET_FULL;
	return c->have;
}

static void answered(struct my_client *mc) {
	mc->sequence = 1; /* what ends an idle client answers its next command */
	mc->base.answered_ns = mc->base.sw->worker->now_ns;
	deadline_begun(&mc->base);
}

taken mf_error(struct my_client *mc, const struct command *c, uint16_t code, const char *text) {
	if (!my_send_error(mc, code, NULL, text))
		return mf_out_of_memory(mc);
	answered(mc);
	return mf_skip(mc, c);
}

taken mf_out_of_memory(struct my_client *mc) {
	client_end(&mc->base, REFUSAL_INTERNAL, "out of memory");
	return 0;
}

static uint16_t plain_status(const struct my_client *mc) {
	uint16_t status = mc->relay.status ? mc->relay.status : MY_STATUS_AUTOCOMMIT;
	return status & (MY_STATUS_IN_TRANS | MY_STATUS_AUTOCOMMIT | MY_STATUS_NO_BACKSLASH_ESCAPES |
			 MY_STATUS_IN_TRANS_READONLY | MY_STATUS_ANSI_QUOTES);
}

taken mf_ok(struct my_client *mc, const struct command *c) {
	const struct my_ok ok = {.status = plain_status(mc)};
	if (!my_send_ok(mc, &ok))
		return mf_out_of_memory(mc);
	answered(mc);
	return mf_skip(mc, c);
}

static taken protocol_error(struct my_client *mc, uint16_t code, const char *text) {
	log_info("client_protocol_error",
		 LOG_FIELDS(LOG_TEXT("client", STREAM_PEER_SAY(&mc->base.peer)), LOG_NUMBER("id", mc->base.id)), "%s", text);
	if (!mc->told_fatal && !mc->mid_message)
		my_send_error(mc, code, NULL, text);
	mc->told_fatal = true;
	client_close(&mc->base, text);
	return 0;
}

void my_refused(struct my_client *mc, const char *text) {
	(void)text;
	mc->relay.refused = true;
}

bool mf_small_and_whole(struct my_client *mc, const struct command *c, taken *n) {
	*n = 0;
	if (mf_is_whole(c))
		return true;
	if (c->length > SMALL_COMMAND_MAX)
		*n = mf_error(mc, c, MY_ER_MALFORMED_PACKET, "malformed communication packet: the command is too long");
	return false;
}

/* ---- to the server ---- */

void my_note_said(struct my_server *ms, const void *sql, size_t len, bool more) {
	my_said_keep(&ms->relay.said[ms->relay.said_count > 0], sql, len, more);
	ms->relay.said_count = ms->relay.said_count ? 2 : 1;
}

/* Asks for an id or a list that is another client's on this server: it gets its own first. False: on hold, or closed. */
static bool give_hidden_state(struct my_client *mc, struct my_server *ms, uint64_t hints) {
	struct my_server_relay *s = &ms->relay;
	const uint64_t reads_id = SQL_LAST_INSERT_ID | SQL_SHOW_VARIABLES | SQL_LOAD | SQL_RETURNING | SQL_CALL | SQL_COMPOUND | SQL_EXECUTE |
				  SQL_EXECUTE_IMMEDIATE;
	/* what is asked here is told of the statement before, which must not be another client's */
	bool former = s->shared && !mc->base.keeps_server && !(s->status & MY_STATUS_IN_TRANS);
	if (former && (hints & SQL_FOUND_ROWS) && !my_clear_warnings(ms)) /* outlives a reset, but no query */
		return false;
	if (former && (hints & SQL_SEQUENCE_LAST || (hints & SQL_ROW_COUNT && s->count_foreign))) {
		my_prepare_again(mc, ms);
		return false;
	}
	if ((hints & SQL_DIAGNOSTICS) && s->warnings && s->warnings_foreign && !my_clear_warnings(ms))
		return false;
	if ((hints & reads_id) && !mc->relay.insert_id_unknown &&
	    !(s->insert_id_known && s->insert_id == mc->relay.insert_id)) {
		char sql[64];
		snprintf(sql, sizeof sql, "SET last_insert_id=%llu", (unsigned long long)mc->relay.insert_id);
		if (!my_ask_sql(ms, MY_TASK_INSERT_ID, sql))
			return false;
		s->insert_id = mc->relay.insert_id;
		s->insert_id_known = true;
	}
	/* a statement that has failed may have changed it, or not: then it is still what it was */
	if ((hints & reads_id) && mc->relay.insert_id_unknown && s->insert_id != mc->relay.insert_id) {
		char sql[128];
		snprintf(sql, sizeof sql, "SET last_insert_id=IF(LAST_INSERT_ID()=%llu,%llu,LAST_INSERT_ID())",
			 (unsigned long long)s->insert_id, (unsigned long long)mc->relay.insert_id);
		if (!my_ask_sql(ms, MY_TASK_INSERT_ID, sql))
			return false;
		s->insert_id = mc->relay.insert_id;
	}
	return true;
}

struct my_server *mf_want_server(struct my_client *mc, uint64_t hints) {
	struct my_server *ms = mf_server_of(mc);
	if (!ms) {
		if (!client_want_server(&mc->base) || mc->base.hold != HOLD_NONE)
			return NULL;
		ms = mf_server_of(mc);
	}
	if (!usable(ms))
		return NULL;
	if (ms->relay.unknown) {
		my_prepare_again(mc, ms);
		return NULL;
	}
	return give_hidden_state(mc, ms, hints) ? ms : NULL;
}

struct my_request *mf_push(struct my_client *mc, struct my_server *ms, const struct command *c, enum my_asked asked,
			   uint64_t hints) {
	struct my_request *r = my_push(ms, MY_TASK_CLIENT, asked, (enum my_command)c->type);
	if (!r)
		return NULL;
	uint64_t now_ns = mc->base.sw->worker->now_ns;
	r->sequence = c->sequence;
	r->hints = hints;
	mc->base.request_ns = now_ns;
	if (!(ms->relay.status & MY_STATUS_IN_TRANS)) {
		ms->relay.transaction_since_ns = now_ns;
		ms->relay.said_count = 0;
	}
	mc->base.queries++;
	ms->base.queries++;
	my_note_hints(mc, ms, hints);
	deadline_begun(&mc->base);
	return r;
}

static taken sent(struct my_server *ms, const struct command *c) {
	ms->relay.half_sent = c->length - (uint32_t)(c->have - MY_HEADER);
	ms->relay.half_more = c->length == MY_PACKET_FULL;
	return c->have;
}

taken mf_forward(struct my_client *mc, struct my_server *ms, const struct command *c) {
	if (!server_write(&ms->base, c->data, c->have))
		return mf_out_of_memory(mc);
	return sent(ms, c);
}

taken mf_forward_replaced(struct my_client *mc, struct my_server *ms, const struct command *c, size_t cut, const void *head,
			  size_t head_len) {
	uint8_t header[MY_HEADER];
	my_write_header(header, (uint32_t)(c->length - cut + head_len), c->sequence);
	if (!server_write(&ms->base, header, sizeof header) || !server_write(&ms->base, head, head_len) ||
	    !server_write(&ms->base, c->data + MY_HEADER + cut, c->have - MY_HEADER - cut))
		return mf_out_of_memory(mc);
	return sent(ms, c);
}

/* ---- statements ---- */

static uint64_t hints_of_long(uint64_t so_far) {
	return so_far | SQL_LAST_INSERT_ID; /* a word that is still to come may read it */
}

/* It would be asked for a file that it has not said it can send. False: it is answered, *n says. */
static bool may_load(struct my_client *mc, const struct command *c, uint64_t hints, taken *n) {
	if (!(hints & SQL_LOAD_LOCAL) || (mc->start.capabilities & MY_CLIENT_LOCAL_FILES))
		return true;
	*n = mf_error(mc, c, MY_ER_NOT_ALLOWED_COMMAND,
		      "LOAD DATA LOCAL INFILE: the client did not say at its login that it can send files");
	return false;
}

static taken on_long_query(struct my_client *mc, const struct command *c) {
	struct my_client_relay *r = &mc->relay;
	if (!r->lexer) {
		r->lexer = calloc(1, sizeof *r->lexer);
		if (!r->lexer)
			return mf_out_of_memory(mc);
		sql_begin(r->lexer, my_reading(mc), my_reading_charset(mc));
		sql_feed(r->lexer, mf_body(c), mf_body_len(c));
	}
	if (r->lexer->text.hints & (SQL_KILL | SQL_KILL_INSIDE)) {
		free(r->lexer);
		r->lexer = NULL;
		return mf_error(mc, c, MY_ER_KILL_DENIED_ERROR, "KILL is not allowed in a statement as long as this");
	}
	taken n;
	if (!may_load(mc, c, r->lexer->text.hints, &n)) {
		free(r->lexer);
		r->lexer = NULL;
		return n;
	}
	uint64_t hints = hints_of_long(r->lexer->text.hints);
	/* and another that is still to come may ask what came of the statement before */
	struct my_server *ms = mf_want_server(mc, hints | SQL_DIAGNOSTICS | SQL_FOUND_ROWS);
	if (!ms || !mf_push(mc, ms, c, MY_ASKED_QUERY, hints)) {
		free(r->lexer); /* what has come by then may be more */
		r->lexer = NULL;
		return 0;
	}
	my_note_said(ms, mf_body(c), mf_body_len(c), true);
	return mf_forward(mc, ms, c);
}

static taken on_query(struct my_client *mc, const struct command *c) {
	if (!mf_is_whole(c))
		return c->have - MY_HEADER >= MY_TEXT_HOLD_MAX ? on_long_query(mc, c) : 0;
	struct sql_text text = sql_look(mf_body(c), mf_body_len(c), my_reading(mc), my_reading_charset(mc));
	if (text.hints & (SQL_KILL | SQL_KILL_INSIDE))
		return mf_on_kill(mc, c, &text);
	taken n;
	if (!may_load(mc, c, text.hints, &n))
		return n;
	struct my_server *ms = mf_want_server(mc, text.hints);
	if (!ms || !mf_push(mc, ms, c, MY_ASKED_QUERY, text.hints))
		return 0;
	my_note_said(ms, mf_body(c), mf_body_len(c), false);
	return mf_forward(mc, ms, c);
}

/* The last byte of a long statement has gone; its lexer has seen the end. */
static void command_sent(struct my_client *mc, struct my_server *ms) {
	struct my_client_relay *r = &mc->relay;
	if (!r->lexer)
		return;
	uint64_t hints = r->lexer->text.hints;
	struct my_request *tail = ms->relay.count ? &ms->relay.queue[(ms->relay.head + ms->relay.count - 1) % MY_QUEUE] : NULL;
	free(r->lexer);
	r->lexer = NULL;
	if (tail && tail->task == MY_TASK_CLIENT)
		tail->hints |= hints;
	my_note_hints(mc, ms, hints);
}

/* ---- other commands ---- */

static taken on_simple(struct my_client *mc, const struct command *c, enum my_asked asked) {
	taken n;
	if (!mf_small_and_whole(mc, c, &n))
		return n;
	struct my_server *ms = mf_want_server(mc, 0);
	if (!ms || !mf_push(mc, ms, c, asked, 0))
		return 0;
	static const char *const words[] = {[MY_COM_INIT_DB] = "(COM_INIT_DB)",
					    [MY_COM_FIELD_LIST] = "(COM_FIELD_LIST)",
					    [MY_COM_STATISTICS] = "(COM_STATISTICS)"};
	my_note_said(ms, words[c->type], strlen(words[c->type]), false);
	return mf_forward(mc, ms, c);
}

static taken on_set_option(struct my_client *mc, const struct command *c) {
	taken n;
	if (!mf_small_and_whole(mc, c, &n))
		return n;
	struct reader r = reader_over(mf_body(c), mf_body_len(c));
	uint16_t option = my_u16(&r);
	if (!r.ok || option > MY_OPTION_MULTI_STATEMENTS_OFF)
		return mf_error(mc, c, MY_ER_UNKNOWN_COM_ERROR, "Unknown command");
	mc->relay.multi = option == MY_OPTION_MULTI_STATEMENTS_ON;
	struct my_server *ms = mf_server_of(mc);
	if (ms) {
		if (!mf_push(mc, ms, c, MY_ASKED_SIMPLE, 0))
			return 0;
		ms->relay.multi = mc->relay.multi;
		return mf_forward(mc, ms, c);
	}
	struct my_builder b = my_builder(mc->base.sw->worker->buffers);
	struct my_ok ok = {.status = plain_status(mc)};
	if (mc->start.capabilities & MY_CLIENT_DEPRECATE_EOF)
		my_put_ok(&b, mc->sequence, MY_PACKET_EOF, mc->start.capabilities, &ok);
	else
		my_put_eof(&b, mc->sequence, mc->start.capabilities, 0, ok.status);
	bool ok_built = b.ok && client_write(&mc->base, buf_bytes(&b.buf), buf_len(&b.buf));
	my_builder_release(&b);
	answered(mc);
	return ok_built ? mf_skip(mc, c) : mf_out_of_memory(mc);
}

/* All that its session held is gone, but for the schema. False: out of memory. */
static bool forget_session(struct my_client *mc) {
	struct my_client_relay *r = &mc->relay;
	struct settings *wants = settings_with(r->initial, MY_SCHEMA_SETTING, my_settings_schema(r->wants), true);
	if (!wants)
		return false;
	settings_unref(r->wants);
	r->wants = wants;
	my_statements_clear(&r->statements);
	r->insert_id = 0;
	r->insert_id_unknown = false;
	r->temporary_tables = r->sql_prepared = r->handlers = 0;
	r->pins = pin_drop(&mc->base, r->pins, ~(1u << PIN_NO_TRACKERS));
	struct my_server *ms = mf_server_of(mc);
	if (ms && ms->base.one_client && !r->pins) /* a reset keeps the schema, which may be one that was never told */
		r->pins = pin_add(&mc->base, r->pins, PIN_SESSION_STATE);
	r->status = 0;
	return true;
}

static taken on_reset_connection(struct my_client *mc, const struct command *c) {
	taken n;
	if (!mf_small_and_whole(mc, c, &n))
		return n;
	struct my_server *ms = mf_server_of(mc);
	if (!mc->relay.reset_done && !forget_session(mc))
		return mf_out_of_memory(mc);
	if (ms && !mc->relay.reset_done) {
		mc->relay.reset_done = true;
		my_prepare_again(mc, ms);
		return 0;
	}
	mc->relay.reset_done = false;
	return mf_ok(mc, c);
}

static taken on_change_user(struct my_client *mc, const struct command *c) {
	taken n;
	if (!mf_small_and_whole(mc, c, &n))
		return n;
	my_change_user(mc, mf_body(c), mf_body_len(c));
	return c->have;
}

static taken on_replication(struct my_client *mc, const struct command *c, enum my_asked asked) {
	taken n;
	if (!mf_small_and_whole(mc, c, &n))
		return n;
	struct my_server *ms = mf_want_server(mc, 0);
	if (!ms || !mf_push(mc, ms, c, asked, 0))
		return 0;
	ms->relay.touched = true;
	mc->relay.pins = pin_add(&mc->base, mc->relay.pins, PIN_REPLICATION);
	static const char said[] = "(replication)";
	my_note_said(ms, said, sizeof said - 1, false);
	return mf_forward(mc, ms, c);
}

static taken on_process_kill(struct my_client *mc, const struct command *c) {
	taken n;
	if (!mf_small_and_whole(mc, c, &n))
		return n;
	struct reader r = reader_over(mf_body(c), mf_body_len(c));
	const struct sql_text text = {.kill = SQL_KILL_CONNECTION, .kill_id = my_u32(&r)};
	return r.ok ? mf_on_kill(mc, c, &text) : mf_error(mc, c, MY_ER_MALFORMED_PACKET, "malformed communication packet");
}

static taken on_quit(struct my_client *mc) {
	struct client *client = &mc->base;
	stream_input_over(&client->stream);
	if (stream_pending(&client->stream) > 0 && (!stream_flush(&client->stream) || stream_pending(&client->stream) > 0))
		client_close(client, "the application said goodbye"); /* which waits for what it has not read */
	else
		client_destroy(client, "the application said goodbye");
	return 0;
}

/* ---- the walk ---- */

static taken on_command(struct my_client *mc, const struct command *c) {
	struct my_client_relay *r = &mc->relay;
	if (r->refused) {
		r->refused = r->killed = false;
		r->reset_done = false; /* if that it was, it has not come to pass */
		if (c->type == MY_COM_STMT_SEND_LONG_DATA)
			mf_long_data_lost(mc, c);
		answered(mc);
		return mf_skip(mc, c);
	}
	/* a reset, once begun, is not interrupted, nor is what has no answer */
	bool killed = r->killed && !r->reset_done && !r->silent && c->type != MY_COM_QUIT;
	r->killed = false;
	if (killed)
		return mf_error(mc, c, MY_ER_QUERY_INTERRUPTED, "Query execution was interrupted");
	if (r->owed && c->type != MY_COM_QUIT && c->type != MY_COM_PING && c->type != MY_COM_STMT_CLOSE &&
	    c->type != MY_COM_STMT_SEND_LONG_DATA) {
		char *text = r->owed;
		r->owed = NULL;
		taken n = mf_error(mc, c, MY_ER_QUERY_INTERRUPTED, text);
		free(text);
		return n;
	}
	switch ((enum my_command)c->type) {
	case MY_COM_QUIT:
		return on_quit(mc);
	case MY_COM_PING:
		return mf_ok(mc, c);
	case MY_COM_QUERY:
		return on_query(mc, c);
	case MY_COM_INIT_DB:
		return on_simple(mc, c, MY_ASKED_SIMPLE);
	case MY_COM_FIELD_LIST:
		return on_simple(mc, c, MY_ASKED_FIELDS);
	case MY_COM_STATISTICS:
		return on_simple(mc, c, MY_ASKED_STATISTICS);
	case MY_COM_SET_OPTION:
		return on_set_option(mc, c);
	case MY_COM_RESET_CONNECTION:
		return on_reset_connection(mc, c);
	case MY_COM_CHANGE_USER:
		return on_change_user(mc, c);
	case MY_COM_STMT_PREPARE:
		return mf_on_prepare(mc, c);
	case MY_COM_STMT_EXECUTE:
		return mf_on_execute(mc, c);
	case MY_COM_STMT_FETCH:
		return mf_on_fetch(mc, c);
	case MY_COM_STMT_SEND_LONG_DATA:
		return mf_on_long_data(mc, c);
	case MY_COM_STMT_RESET:
		return mf_on_statement_reset(mc, c);
	case MY_COM_STMT_CLOSE:
		return mf_on_statement_close(mc, c);
	case MY_COM_PROCESS_KILL:
		return on_process_kill(mc, c);
	case MY_COM_BINLOG_DUMP:
	case MY_COM_BINLOG_DUMP_GTID:
		return on_replication(mc, c, MY_ASKED_STREAM);
	case MY_COM_REGISTER_SLAVE:
		return on_replication(mc, c, MY_ASKED_SIMPLE);
	default:
		return mf_error(mc, c, MY_ER_UNKNOWN_COM_ERROR, "Unknown command");
	}
}

static taken skip(struct my_client *mc, const uint8_t *data, size_t len) {
	struct my_client_relay *r = &mc->relay;
	struct my_header header;
	if (r->discard > 0) {
		size_t n = r->discard < len ? r->discard : len;
		r->discard -= (uint32_t)n;
		return n;
	}
	if (!my_read_header(data, len, &header))
		return 0;
	r->discard = header.length;
	r->discard_more = header.length == MY_PACKET_FULL;
	return MY_HEADER;
}

/* More of a command that has begun to leave. What completes it must not leave before all has been looked at. */
static taken go_on(struct my_client *mc, struct my_server *ms, const uint8_t *data, size_t len) {
	struct my_server_relay *s = &ms->relay;
	struct sql_lexer *lexer = s->file ? NULL : mc->relay.lexer;
	struct my_header header;
	uint32_t due;
	bool more = s->half_more;
	size_t n;
	if (s->half_sent > 0) {
		n = s->half_sent < len ? s->half_sent : len;
		due = s->half_sent - (uint32_t)n;
		if (lexer)
			sql_feed(lexer, data, n);
	} else {
		if (!my_read_header(data, len, &header))
			return 0;
		n = MY_HEADER;
		due = header.length;
		more = header.length == MY_PACKET_FULL;
		mc->sequence = (uint8_t)(header.sequence + 1);
		if (s->count > 0)
			s->queue[(s->head + s->count - 1) % MY_QUEUE].sequence = header.sequence;
	}
	if (lexer && due == 0 && !more)
		sql_end(lexer);
	if (lexer && (lexer->text.hints & (SQL_KILL | SQL_KILL_INSIDE))) { /* its server, which has a part of it, is closed */
		client_end(&mc->base, REFUSAL_MODE, "KILL is not allowed in a statement as long as this");
		return 0;
	}
	if (!server_write(&ms->base, data, n))
		return mf_out_of_memory(mc);
	s->half_sent = due;
	s->half_more = more;
	if (due == 0 && !more)
		command_sent(mc, ms);
	return n;
}

/* Packets of a file that the server has asked for; an empty one ends it. */
static taken file_packet(struct my_client *mc, struct my_server *ms, const uint8_t *data, size_t len) {
	struct my_server_relay *s = &ms->relay;
	struct my_header header;
	uint8_t out[MY_HEADER];
	if (!my_read_header(data, len, &header))
		return 0;
	my_write_header(out, header.length, s->answer.sequence);
	if (!server_write(&ms->base, out, sizeof out))
		return mf_out_of_memory(mc);
	my_answer_file_sent(&s->answer, (uint8_t)(s->answer.sequence + 1));
	mc->sequence = (uint8_t)(header.sequence + 1);
	s->half_sent = header.length;
	if (header.length == 0)
		s->file = false;
	return MY_HEADER;
}

void my_end_file(struct my_server *ms) {
	struct my_server_relay *s = &ms->relay;
	uint8_t out[MY_HEADER];
	my_write_header(out, 0, s->answer.sequence);
	my_answer_file_sent(&s->answer, (uint8_t)(s->answer.sequence + 1));
	s->file = false;
	if (!server_write(&ms->base, out, sizeof out))
		server_close(&ms->base, "out of memory");
}

/* Whether an answer is under way that must be known first. What only goes ahead of the next command need not be. */
static bool is_answer_due(const struct my_server *ms) {
	const struct my_server_relay *s = &ms->relay;
	if (s->passing > 0)
		return true;
	for (uint8_t i = 0; i < s->count; i++) {
		enum my_task task = (enum my_task)s->queue[(s->head + i) % MY_QUEUE].task;
		if (task != MY_TASK_SETTINGS && task != MY_TASK_OPTION && task != MY_TASK_INSERT_ID && task != MY_TASK_CLEAR)
			return true;
	}
	return false;
}

/* A KILL that is on its way was meant for what ran before: what is sent now, ours or the client's, it must not hit. */
static bool await_kills(struct my_client *mc, const struct my_server *ms) {
	if (!ms->base.cancels_sent && !(ms->base.cut.late && !list_empty(&ms->base.cancels)))
		return false;
	mc->base.hold = HOLD_OUTCOME;
	return true;
}

static taken next_command(struct my_client *mc, const uint8_t *data, size_t len) {
	struct my_server *ms = mf_server_of(mc);
	struct my_header header;
	if (ms && is_answer_due(ms)) {
		mc->base.hold = HOLD_OUTCOME;
		return 0;
	}
	if (!my_read_header(data, len, &header) || (header.length > 0 && len == MY_HEADER))
		return 0;
	if (header.sequence != 0) {
		mc->sequence = (uint8_t)(header.sequence + 1);
		return protocol_error(mc, MY_ER_NET_PACKETS_OUT_OF_ORDER, "Got packets out of order");
	}
	struct command c = {.data = data, .length = header.length, .sequence = header.sequence};
	c.have = MY_HEADER + (size_t)header.length < len ? MY_HEADER + (size_t)header.length : len;
	mc->sequence = 1;
	if (header.length == 0)
		return mf_error(mc, &c, MY_ER_UNKNOWN_COM_ERROR, "Unknown command");
	c.type = *(data + MY_HEADER);
	if (ms && c.type != MY_COM_QUIT && c.type != MY_COM_PING && await_kills(mc, ms))
		return 0;
	mc->relay.silent = c.type == MY_COM_STMT_SEND_LONG_DATA || c.type == MY_COM_STMT_CLOSE;
	return on_command(mc, &c);
}

size_t my_frontend_input(struct my_client *mc, const uint8_t *data, size_t len) {
	struct client *client = &mc->base;
	size_t used = 0;
	while (used < len && client->hold == HOLD_NONE && client->state != CLIENT_CLOSED && !client->closing && !mc->login) {
		struct my_server *ms = mf_server_of(mc);
		const uint8_t *at = data + used;
		size_t left = len - used, n;
		if (ms && !usable(ms))
			break;
		if (mc->relay.discard > 0 || mc->relay.discard_more)
			n = skip(mc, at, left);
		else if (ms && (ms->relay.half_sent > 0 || ms->relay.half_more))
			n = go_on(mc, ms, at, left);
		else if (ms && ms->relay.file)
			n = file_packet(mc, ms, at, left);
		else
			n = next_command(mc, at, left);
		if (n == 0)
			break;
		used += n;
	}
	struct my_server *ms = client->state == CLIENT_ACTIVE && client->hold == HOLD_NONE && !client->closing
				       ? mf_server_of(mc)
				       : NULL;
	/* what pinned it may have gone without an answer */
	if (usable(ms) && ms->relay.count == 0 && !ms->relay.half_sent && !ms->relay.half_more && my_must_learn(ms))
		my_learn(ms);
	return used;
}
