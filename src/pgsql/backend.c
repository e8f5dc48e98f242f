/*
 * From a server to its client: every message is matched with the head of the queue of outstanding requests, and goes
 * to the client only if that request was the client's. Sections "Message Flow" and "Message Formats".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "base/reader.h"
#include "pgsql/pgsql.h"
#include "pgsql/proven.h"
#include "session/deadline.h"
#include "session/meter.h"

enum { TAG_MAX = 128, ERROR_VIEW = 1024 };

static struct pg_client *client_of(struct pg_server *ps) {
	return ps->base.client ? pg_client(ps->base.client) : NULL;
}

/* ---- settling requests ---- */

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
	settle_name(client_of(ps), r);
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

static void undo(struct pg_server *ps, uint32_t i, bool failed) {
	struct pg_client *pc = client_of(ps);
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
		undo(ps, end, end == 0);
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

/* ---- the walk ---- */

struct walk {
	struct pg_server *ps;
	const uint8_t *run; /* bytes in a row that go to the client as they are */
	size_t run_len;
};

static void flush_run(struct walk *w) {
	struct client *client = w->ps->base.client;
	if (w->run_len > 0 && client)
		client_write(client, w->run, w->run_len);
	w->run_len = 0;
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

struct answer {
	char type;
	const uint8_t *data;
	size_t have;
	uint64_t total;
	bool visible; /* the client's */
};

enum verdict { TAKEN, INCOMPLETE, STOP };

/* Lets the message pass, as much of it as has come, the rest in passing. */
static enum verdict pass(struct walk *w, const struct answer *a) {
	if (a->visible)
		to_client(w, a->data, a->have);
	w->ps->passing = a->total - a->have;
	w->ps->passing_to_client = a->visible;
	return TAKEN;
}

static enum verdict violation(struct walk *w, const struct answer *a, const char *what) {
	char text[160];
	const struct pg_request *head = pg_queue_head(&w->ps->queue);
	snprintf(text, sizeof text, "%s (message '%c', %u requests outstanding, the first of type %d)", what,
		 a->type >= ' ' && a->type < 127 ? a->type : '?', w->ps->queue.count, head ? head->type : -1);
	flush_run(w);
	server_violation(&w->ps->base, "answer_ownership", text);
	return STOP;
}

static bool head_is(const struct pg_request *head, enum pg_request_type type) {
	return head && head->type == (uint8_t)type;
}

/* The answer that ends an extended request. */
static enum verdict completes(struct walk *w, const struct answer *a, enum pg_request_type type) {
	struct pg_server *ps = w->ps;
	if (!head_is(pg_queue_head(&ps->queue), type))
		return violation(w, a, "an answer that nobody has asked for");
	if (a->total != PG_HEADER)
		return violation(w, a, "an answer of the wrong length");
	pass(w, a);
	flush_run(w);
	pg_settle_head(ps);
	pg_emit_virtual(ps);
	return TAKEN;
}

static void forget_all(struct pg_server *ps, struct pg_client *pc) {
	pg_forget_statements(ps);
	if (pc)
		pg_names_clear(&pc->names);
}

/* Whether the server is back at its own defaults in all that this client had asked for at its start. */
static bool all_at_defaults(const struct pg_client *pc, const struct pg_server *ps) {
	for (size_t i = 0; i < pc->startup->count; i++) {
		const char *name = pc->startup->at[i].name;
		const struct setting *now = settings_find(ps->settings, name), *first = settings_find(ps->defaults, name);
		if (now && first && strcmp(now->value, first->value) != 0)
			return false;
	}
	return true;
}

/*
 * RESET and DISCARD ALL go back to what the session started with. The server's session did not start with this client's
 * start-up parameters: they are put back in what the client wants. Where the statement does not say which (it was one of
 * several), all at their defaults means all.
 */
static void restore_startup(struct pg_client *pc, struct pg_server *ps) {
	const char *wanted = pc->reset == PG_RESET_ALL ? "all" : pc->reset_name;
	bool all = wanted ? strcmp(wanted, "all") == 0 : all_at_defaults(pc, ps);
	pc->reset = PG_RESET_NOTHING;
	for (size_t i = 0; i < pc->startup->count; i++) {
		const struct setting *s = &pc->startup->at[i];
		const struct setting *now = settings_find(pc->settings, s->name), *then = settings_find(pc->before, s->name);
		bool named = all || (wanted && strcasecmp(wanted, s->name) == 0);
		bool changed = now && then && strcmp(now->value, then->value) != 0;
		if (!now || (!named && !changed) || strcmp(now->value, s->value) == 0)
			continue;
		struct settings *restored = settings_with(pc->settings, now->name, s->value, now->reported);
		if (!restored)
			return;
		settings_unref(pc->settings);
		pc->settings = restored;
		pc->restored = true;
		pg_send_parameter(&pc->base, s->name, s->value);
	}
}

/* One transaction has followed another within a request. */
static void another_begins(struct pg_client *pc, struct pg_server *ps) {
	ps->ended = PG_ENDED_NOT;
	pg_transaction_begins(pc, ps);
	if (ps->base.cut.why == DEADLINE_TRANSACTION && !ps->base.cut.late)
		deadline_over(&ps->base);
}

/* The tags of most statements tell of nothing; SET and START begin as SELECT does. */
static bool tells_of_state(const char *tag) {
	switch (tag[0]) {
	case 'I': /* INSERT */
	case 'U': /* UPDATE */
	case 'F': /* FETCH */
		return false;
	case 'S':
		return strncmp(tag, "SEL", 3) != 0;
	default:
		return true;
	}
}

/* What a command's tag tells of the session state it leaves behind. */
static void note_tag(struct pg_server *ps, const struct pg_request *head, const char *tag) {
	struct pg_client *pc = client_of(ps);
	if (!tells_of_state(tag))
		return;
	if (pc && (strcmp(tag, "COMMIT") == 0 || strcmp(tag, "ROLLBACK") == 0)) {
		ps->ended = tag[0] == 'C' ? PG_ENDED_COMMIT : PG_ENDED_ROLLBACK;
	} else if (pc && ps->ended && (strcmp(tag, "BEGIN") == 0 || strcmp(tag, "START TRANSACTION") == 0)) {
		another_begins(pc, ps);
	}
	if (strcmp(tag, "SET") == 0) {
		if (head->kind != PG_TEXT_SET_LOCAL)
			ps->touched |= PG_TOUCHED_SETTINGS;
	} else if (strcmp(tag, "RESET") == 0) {
		ps->touched |= PG_TOUCHED_SETTINGS;
		if (!pg_forget_unreported(ps))
			pool_conn_retire(&ps->base.conn, "out of memory");
		if (pc && pc->reset == PG_RESET_NOTHING)
			pc->reset = PG_RESET_NAMED;
	} else if (strcmp(tag, "PREPARE") == 0) {
		ps->touched |= PG_TOUCHED_PREPARED;
	} else if (strcmp(tag, "LISTEN") == 0) {
		ps->touched |= PG_TOUCHED_LISTEN;
	} else if (strcmp(tag, "DECLARE CURSOR") == 0) {
		ps->touched |= PG_TOUCHED_CURSORS;
	} else if (strcmp(tag, "DEALLOCATE ALL") == 0) {
		forget_all(ps, pc);
	} else if (strcmp(tag, "DISCARD ALL") == 0) {
		forget_all(ps, pc);
		if (!pg_forget_unreported(ps))
			pool_conn_retire(&ps->base.conn, "out of memory");
		ps->touched = 0;
		if (pc)
			pc->reset = PG_RESET_ALL;
	}
}

static enum verdict on_command_complete(struct walk *w, struct answer *a) {
	struct pg_server *ps = w->ps;
	if (a->total > PG_HEADER + TAG_MAX)
		return violation(w, a, "a command tag that is too long");
	if (a->have < a->total)
		return INCOMPLETE;
	struct pg_request *head = pg_queue_head(&ps->queue);
	if (!head_is(head, PG_REQ_QUERY) && !head_is(head, PG_REQ_EXECUTE))
		return violation(w, a, "an answer that nobody has asked for");
	struct reader r = reader_over(a->data + PG_HEADER, a->have - PG_HEADER);
	const char *tag = reader_cstr(&r, NULL);
	if (!tag)
		return violation(w, a, "a command tag that does not end");
	if (head->task == PG_TASK_BEGIN) {
		if (strcmp(tag, "BEGIN") != 0)
			return violation(w, a, "a BEGIN that was answered otherwise");
		ps->status = 'T'; /* its ReadyForQuery would say so */
	}
	/* whether or not the client is still there to see it; of ours only what a file says can be anything */
	if (head->task == PG_TASK_NONE || head->task == PG_TASK_RESET || head->task == PG_TASK_INIT ||
	    head->task == PG_TASK_VALIDATE)
		note_tag(ps, head, tag);
	for (uint32_t i = 1; ps->copy == 'G' && i < ps->queue.count; i++) {
		if (pg_queue_at(&ps->queue, i)->type != PG_REQ_COPY_END)
			continue;
		pg_queue_remove(&ps->queue, i); /* the end of this copy; another may follow in the same Query */
		break;
	}
	ps->copy = 0;
	ps->swallowed_syncs = 0;
	pass(w, a);
	if (head->type == PG_REQ_EXECUTE) {
		flush_run(w);
		pg_settle_head(ps);
	}
	flush_run(w);
	pg_emit_virtual(ps);
	return TAKEN;
}

/* EmptyQueryResponse, PortalSuspended. */
static enum verdict on_execute_end(struct walk *w, struct answer *a) {
	struct pg_server *ps = w->ps;
	struct pg_request *head = pg_queue_head(&ps->queue);
	if (head && head->task == PG_TASK_BEGIN)
		return violation(w, a, "a BEGIN that was answered otherwise");
	if (head_is(head, PG_REQ_EXECUTE))
		return completes(w, a, PG_REQ_EXECUTE);
	if (a->type != 'I' || !head_is(head, PG_REQ_QUERY))
		return violation(w, a, "an answer that nobody has asked for");
	if (head->task == PG_TASK_FENCE)
		ps->fence_seen = true;
	return pass(w, a);
}

/* RowDescription, NoData. */
static enum verdict on_description(struct walk *w, struct answer *a) {
	struct pg_server *ps = w->ps;
	struct pg_request *head = pg_queue_head(&ps->queue);
	if (head_is(head, PG_REQ_QUERY) && a->type == 'T')
		return pass(w, a);
	if (!head_is(head, PG_REQ_DESCRIBE))
		return violation(w, a, "an answer that nobody has asked for");
	pass(w, a);
	/* The rest of it, if any, passes before the next message is looked at. */
	flush_run(w);
	pg_settle_head(ps);
	if (ps->passing == 0)
		pg_emit_virtual(ps);
	return TAKEN;
}

static enum verdict on_parameter_status(struct walk *w, struct answer *a) {
	struct pg_server *ps = w->ps;
	if (a->total > PG_SERVER_MESSAGE_MAX)
		return violation(w, a, "a ParameterStatus of over 1 MiB");
	if (a->have < a->total)
		return INCOMPLETE;
	struct reader r = reader_over(a->data + PG_HEADER, a->have - PG_HEADER);
	const char *name = reader_cstr(&r, NULL), *value = reader_cstr(&r, NULL);
	if (!value)
		return violation(w, a, "an invalid ParameterStatus");
	struct pg_client *pc = client_of(ps);
	bool shared = pc && pc->settings == ps->settings;
	struct settings *now = settings_with(ps->settings, name, value, true);
	if (!now) {
		server_close(&ps->base, "out of memory");
		return STOP;
	}
	settings_unref(ps->settings);
	ps->settings = now;
	if (!pc || !a->visible)
		return TAKEN;
	struct settings *his = shared ? settings_ref(now) : settings_with(pc->settings, name, value, true);
	if (his) {
		settings_unref(pc->settings);
		pc->settings = his;
	}
	return pass(w, a);
}

static enum verdict on_copy_response(struct walk *w, struct answer *a) {
	struct pg_server *ps = w->ps;
	struct pg_request *head = pg_queue_head(&ps->queue);
	if (!head_is(head, PG_REQ_QUERY) && !head_is(head, PG_REQ_EXECUTE))
		return violation(w, a, "an answer that nobody has asked for");
	if (a->type != 'G') {
		if (a->type == 'W')
			ps->copy = 'W';
		return pass(w, a);
	}
	ps->copy = 'G';
	ps->copy_input_done = false;
	/* What was sent behind it is copy data to the server now: Syncs are ignored; anything else fails the copy. */
	for (uint32_t i = 1; i < ps->queue.count;) {
		struct pg_request *r = pg_queue_at(&ps->queue, i);
		if (r->type == PG_REQ_COPY_END) {
			ps->copy_input_done = true;
			break;
		}
		if (r->type == PG_REQ_VIRTUAL) {
			i++;
			continue;
		}
		bool sync = r->type == PG_REQ_SYNC;
		ps->swallowed_syncs += sync;
		undo(ps, i, false);
		if (!sync) {
			ps->copy_input_done = true;
			break;
		}
	}
	pass(w, a);
	if (ps->recovering) {
		flush_run(w);
		pg_recover_step(ps);
	}
	return TAKEN;
}

/* ---- errors ---- */

static bool is_complete_answer(const struct answer *a) {
	return a->have == a->total;
}

static bool has_routine(const uint8_t *body, size_t len, const char *routine) {
	struct reader r = reader_over(body, len);
	for (;;) {
		uint8_t field = reader_u8(&r);
		const char *value = field ? reader_cstr(&r, NULL) : NULL;
		if (!value)
			return false;
		if (field == 'R')
			return strcmp(value, routine) == 0;
	}
}

/* The name was taken: say so in the client's terms, for the server knows the statement by ours. */
static void send_duplicate(struct walk *w, const struct pg_request *head) {
	struct client *client = w->ps->base.client;
	char text[160];
	snprintf(text, sizeof text, "prepared statement \"%.64s\" already exists", head->name->name);
	pg_send_error(client, "ERROR", "42P05", text, NULL);
}

/*
 * "cached plan must not change result type": the statement's result has changed since it was prepared. Outside a
 * transaction, and when the batch tells the client of the new result (Describe), nothing has happened yet and nothing
 * can be misread: it is prepared anew and the batch is sent again.
 */
static bool replay(struct walk *w, const struct pg_request *head) {
	struct pg_server *ps = w->ps;
	struct pg_client *pc = client_of(ps);
	if (!pc || !ps->replayable || ps->replayed || ps->half_sent > 0 || buf_len(&ps->replay) == 0)
		return false;
	struct pg_request again[8];
	uint32_t n = ps->queue.count;
	bool described = false;
	if (n < 2 || n > sizeof again / sizeof again[0] || pg_queue_at(&ps->queue, n - 1)->type != PG_REQ_SYNC)
		return false;
	for (uint32_t i = 0; i < n; i++) {
		again[i] = *pg_queue_at(&ps->queue, i);
		if (again[i].hidden || again[i].type == PG_REQ_VIRTUAL || again[i].name ||
		    (again[i].type == PG_REQ_SYNC && i != n - 1))
			return false;
		described |= again[i].type == PG_REQ_DESCRIBE;
	}
	if (!described)
		return false;
	struct pg_text *text = pg_text_ref(head->text);
	ps->replayed = true;
	/* What was sent is skipped by the server up to its Sync, whose answer goes to nobody. */
	for (uint32_t i = 0; i + 1 < n; i++) {
		ps->queue.head = (ps->queue.head + 1) & (ps->queue.cap - 1);
		ps->queue.count--;
	}
	ps->queue.resets = 0;
	pg_queue_head(&ps->queue)->hidden = true;
	/* The batch's Bind goes again, behind a fresh Parse; its references move to the new entries. */
	bool ok = pg_ensure_prepared(pc, ps, text) == PG_PREPARED;
	pg_text_unref(text);
	for (uint32_t i = 0; i < n; i++) {
		struct pg_request *r = ok ? pg_queue_push(&ps->queue, again[i].type) : NULL;
		ok = r != NULL;
		if (ok)
			*r = again[i];
		else
			pg_text_unref(again[i].text);
		if (ok)
			pg_queue_count(&ps->queue, r);
	}
	ok = ok && server_write(&ps->base, buf_bytes(&ps->replay), buf_len(&ps->replay));
	if (!ok)
		server_close(&ps->base, "out of memory");
	ps->open_batch = false;
	log_debug("statement_prepared_again", LOG_FIELDS(LOG_TEXT("pool", ps->base.database->name)),
		  "the result of a prepared statement has changed: it was prepared again");
	return true;
}

/* The backend ends the connection. It concerns the client only if something of the client's was on it. */
static enum verdict on_fatal(struct walk *w, struct answer *a, const struct pg_error_view *view) {
	struct pg_server *ps = w->ps;
	struct client *client = ps->base.client;
	if (!is_complete_answer(a) && a->total <= PG_LOGIN_MESSAGE_MAX)
		return INCOMPLETE;
	log_info("server_fatal",
		 LOG_FIELDS(LOG_TEXT("pool", ps->base.database->name), LOG_TEXT("server", ps->base.host_text),
			    LOG_TEXT("sqlstate", view->sqlstate ? view->sqlstate : "")),
		 "the backend ended the connection: %s", view->message ? view->message : "(no message)");
	ps->base.dismissed = true;
	a->visible = client && !server_untouched(&ps->base) && !pg_client(client)->told_fatal;
	if (a->visible) {
		pg_client(client)->told_fatal = true;
		meter_error(client, view->sqlstate ? view->sqlstate : "XX");
	}
	pass(w, a);
	flush_run(w);
	if (ps->passing > 0)
		return TAKEN; /* a very long one: its end is the connection's */
	server_close(&ps->base, "the backend ended it");
	return STOP;
}

/* The BEGIN that was sent ahead of the client's statement has failed: that is the statement's error, for the server passes
 * over it. */
static enum verdict on_begin_failed(struct walk *w, struct answer *a, const struct pg_error_view *view,
				    const char *sqlstate) {
	struct pg_server *ps = w->ps;
	if (!is_complete_answer(a) && a->total <= PG_LOGIN_MESSAGE_MAX)
		return INCOMPLETE;
	char text[256];
	snprintf(text, sizeof text, "BEGIN has failed: %s", view->message ? view->message : sqlstate);
	if (!is_complete_answer(a)) {
		server_close(&ps->base, text);
		return STOP;
	}
	if (pg_is_cut(ps, sqlstate)) {
		flush_run(w);
		pg_tell_cut(ps);
	} else {
		a->visible = true;
		meter_error(ps->base.client, sqlstate);
		pass(w, a);
		flush_run(w);
	}
	pg_begin_failed(client_of(ps), ps, text);
	return TAKEN;
}

static enum verdict on_error(struct walk *w, struct answer *a) {
	struct pg_server *ps = w->ps;
	struct pg_client *pc = client_of(ps);
	if (a->have < a->total && a->have < ERROR_VIEW)
		return INCOMPLETE;
	size_t seen = a->have - PG_HEADER;
	struct pg_error_view view = pg_error_view(a->data + PG_HEADER, seen);
	const char *sqlstate = view.sqlstate ? view.sqlstate : "XX000";
	bool fatal = view.severity && (strcmp(view.severity, "FATAL") == 0 || strcmp(view.severity, "PANIC") == 0);
	struct pg_request *head = pg_queue_head(&ps->queue);
	if (fatal)
		return on_fatal(w, a, &view);
	if (head && head->task == PG_TASK_BEGIN && pc && !ps->recovering)
		return on_begin_failed(w, a, &view, sqlstate);
	if (pg_is_cut(ps, sqlstate) && !is_complete_answer(a) && a->total <= PG_LOGIN_MESSAGE_MAX)
		return INCOMPLETE;
	if (!head) {
		flush_run(w);
		return violation(w, a, "an error that no request has caused");
	}
	if (ps->copy == 'G') {
		ps->uncertain += ps->swallowed_syncs;
		ps->swallowed_syncs = 0;
	}
	ps->copy = 0;
	if (head->task != PG_TASK_NONE || (head->hidden && !a->visible && ps->recovering)) {
		ps->task_failed = true;
		snprintf(ps->task_sqlstate, sizeof ps->task_sqlstate, "%.5s", sqlstate);
		snprintf(ps->task_error, sizeof ps->task_error, "%s", view.message ? view.message : "");
	}
	bool extended = head->type >= PG_REQ_PARSE && head->type <= PG_REQ_CLOSE;
	bool cut = pg_is_cut(ps, sqlstate) && head->task == PG_TASK_NONE && (extended || !head->hidden);
	if (!extended) {
		if (cut) {
			flush_run(w);
			pg_tell_cut(ps);
			a->visible = false;
		}
		if (a->visible)
			meter_error(ps->base.client, sqlstate);
		return pass(w, a); /* its ReadyForQuery ends it */
	}
	bool stale = head->type == PG_REQ_BIND && head->text && strcmp(sqlstate, "0A000") == 0 &&
		     has_routine(a->data + PG_HEADER, seen, "RevalidateCachedQuery");
	if (stale)
		head->text->epoch++;
	if (stale && is_complete_answer(a) && (flush_run(w), replay(w, head)))
		return TAKEN;
	if (head->renamed && strcmp(sqlstate, "26000") == 0)
		pool_conn_retire(&ps->base.conn, "statements_lost"); /* dropped behind our back */
	/* A re-Parse of ours that fails is the client's failure: it is told in place of its Bind. */
	a->visible = pc != NULL && head->task == PG_TASK_NONE && !ps->recovering;
	if (a->visible && head->refused && strcmp(sqlstate, "26000") == 0) {
		flush_run(w);
		pg_send_error(&pc->base, "ERROR", head->refused == PG_REFUSED_TOO_LONG ? "54000" : "53400",
			      head->refused == PG_REFUSED_TOO_LONG
				      ? "a named prepared statement may have 1 MiB of SQL in transaction pooling"
				      : "too many prepared statements: a client may have 20000, with 64 MiB of SQL",
			      head->refused == PG_REFUSED_TOO_LONG ? "Use the unnamed statement, or pool_mode = session."
								   : "Close those that are no longer used.");
		a->visible = false;
	}
	if (a->visible && cut) {
		flush_run(w);
		pg_tell_cut(ps);
		a->visible = false;
	}
	if (a->visible && head->duplicate && strcmp(sqlstate, "42P05") == 0) {
		flush_run(w);
		send_duplicate(w, head);
		a->visible = false;
	}
	if (a->visible)
		meter_error(&pc->base, sqlstate);
	pass(w, a);
	flush_run(w);
	bool found = pg_drop_to_sync(ps);
	for (uint32_t i = 0; ps->uncertain > 0 && i < ps->queue.count; i++)
		if (pg_queue_at(&ps->queue, i)->type <= PG_REQ_FUNCTION)
			return violation(w, a, "queries were sent behind a copy that failed: their answers cannot be told apart");
	if (found)
		return TAKEN;
	/* The server passes over everything up to a Sync that is still to come: not clean until then. */
	ps->open_batch = ps->batch_failed = true;
	if (ps->recovering)
		pg_recover_step(ps);
	else if (pc)
		pc->skip_to_sync = true;
	return TAKEN;
}

/* ---- ReadyForQuery ---- */

static enum verdict on_ready(struct walk *w, struct answer *a) {
	struct pg_server *ps = w->ps;
	struct client *client = ps->base.client;
	if (a->have < a->total)
		return a->total == PG_HEADER + 1 ? INCOMPLETE : violation(w, a, "an invalid ReadyForQuery");
	char status = (char)a->data[PG_HEADER];
	if (a->total != PG_HEADER + 1 || (status != 'I' && status != 'T' && status != 'E'))
		return violation(w, a, "an invalid ReadyForQuery");
	struct pg_request *head = pg_queue_head(&ps->queue);
	bool ends = head && head->type <= PG_REQ_SYNC;
	bool stray = !ends || (head->task == PG_TASK_FENCE && !ps->fence_seen);
	if (stray && ps->uncertain > 0) { /* of a Sync that a failed copy has not swallowed after all */
		ps->uncertain--;
		ps->status = status;
		ps->open_batch = ps->batch_failed = false;
		if (client)
			pg_client(client)->skip_to_sync = false;
		a->visible = client != NULL;
		return pass(w, a);
	}
	if (!ends)
		return violation(w, a, "a ReadyForQuery that nobody has asked for");
	enum pg_task task = (enum pg_task)head->task;
	bool visible = a->visible;
	uint32_t batch = head->batch;
	ps->status = status;
	ps->copy = 0;
	ps->batch_failed = false;
	/* with one statement for each server no transaction may stay open: told in place of being ready */
	bool too_much = visible && status != 'I' && ps->queue.count == 1 &&
			database_view(client->database, client->sw->worker->id)->config->mode == POOL_MODE_STATEMENT;
	a->visible = visible && !too_much;
	if (visible && pg_client(client)->reset) { /* what has changed was told just before this */
		flush_run(w);
		restore_startup(pg_client(client), ps);
	}
	pass(w, a);
	flush_run(w);
	pg_settle_head(ps);
	pg_emit_virtual(ps);
	if (status == 'I' && client && visible) {
		struct pg_client *pc = pg_client(client);
		client->transactions++;
		ps->base.transactions++;
		meter_transaction(&ps->base, client->sw->worker->now_ns - ps->transaction_since_ns);
		if (pc->portal && batch >= pc->portal_batch) { /* portals end with their transaction */
			pg_text_unref(pc->portal);
			pc->portal = NULL;
		}
	}
	if (visible && client) {
		struct pg_client *pc = pg_client(client);
		if (pc->before != pc->settings) {
			settings_unref(pc->before);
			pc->before = settings_ref(pc->settings);
		}
		meter_query(&ps->base, client->sw->worker->now_ns - client->request_ns);
		client->request_ns = client->sw->worker->now_ns; /* of what comes behind it */
		bool another = status != 'I' && ps->ended == PG_ENDED_COMMIT; /* AND CHAIN */
		if (status == 'I' || another)
			pg_transaction_begins(pc, ps);
		deadline_answered(&ps->base, status == 'I' || another);
		ps->ended = PG_ENDED_NOT;
	}
	if (task == PG_TASK_FENCE)
		ps->uncertain = 0;
	if (task != PG_TASK_NONE)
		pg_task_done(ps, task);
	else if (ps->recovering)
		pg_recover_step(ps);
	if (ps->base.close_wanted || !ps->base.client)
		return TAKEN;
	client = ps->base.client;
	if (ps->uncertain > 0 && ps->queue.count == 0 && !pg_run(ps, PG_TASK_FENCE, ""))
		return STOP;
	if (too_much)
		client_end(client, REFUSAL_MODE,
			   "transactions of several statements are not allowed with pool_mode = statement; use "
			   "pool_mode = transaction");
	return TAKEN;
}

/* What its answer brings besides concerns nobody but us. */
static bool is_ours(const struct pg_request *head) {
	return head && head->hidden && head->task != PG_TASK_BEGIN;
}

static enum verdict on_answer(struct walk *w, struct answer *a) {
	struct pg_server *ps = w->ps;
	struct pg_request *head = pg_queue_head(&ps->queue);
	bool linked = ps->base.client != NULL && ps->base.state == SERVER_ACTIVE;
	a->visible = linked && head && !head->hidden;
	switch (a->type) {
	case 'D':
		if (!head_is(head, PG_REQ_QUERY) && !head_is(head, PG_REQ_EXECUTE))
			return violation(w, a, "a row that nobody has asked for");
		return pass(w, a);
	case 'd':
	case 'c':
		if (!head_is(head, PG_REQ_QUERY) && !head_is(head, PG_REQ_EXECUTE))
			return violation(w, a, "copy data that nobody has asked for");
		return pass(w, a);
	case 'Z':
		return on_ready(w, a);
	case 'C':
		return on_command_complete(w, a);
	case 'T':
	case 'n':
		return on_description(w, a);
	case 't':
		if (!head_is(head, PG_REQ_DESCRIBE))
			return violation(w, a, "an answer that nobody has asked for");
		return pass(w, a);
	case '1':
		return completes(w, a, PG_REQ_PARSE);
	case '2':
		return completes(w, a, PG_REQ_BIND);
	case '3':
		return completes(w, a, PG_REQ_CLOSE);
	case 'I':
	case 's':
		return on_execute_end(w, a);
	case 'E':
		return on_error(w, a);
	case 'V':
		if (!head_is(head, PG_REQ_FUNCTION))
			return violation(w, a, "an answer that nobody has asked for");
		return pass(w, a);
	case 'G':
	case 'H':
	case 'W':
		return on_copy_response(w, a);
	case 'S':
		a->visible = linked && !(is_ours(head) && head->task != PG_TASK_ABORT);
		return on_parameter_status(w, a);
	case 'N':
	case 'A': /* may come at any time; what another client has asked for is not this one's */
		a->visible = linked && !is_ours(head) && ps->base.client->hold != HOLD_PREPARE;
		return pass(w, a);
	default:
		return violation(w, a, "an unknown message");
	}
}

size_t pg_backend_input(struct pg_server *ps, const uint8_t *data, size_t len) {
	struct walk w = {.ps = ps};
	size_t used = 0;
	while (used < len && !ps->base.close_wanted) {
		size_t left = len - used;
		if (ps->passing > 0) {
			size_t n = ps->passing < left ? (size_t)ps->passing : left;
			if (ps->passing_to_client)
				to_client(&w, data + used, n);
			ps->passing -= n;
			used += n;
			if (ps->passing == 0) {
				flush_run(&w);
				pg_emit_virtual(ps);
			}
			continue;
		}
		if (left < PG_HEADER)
			break;
		struct answer a = {.type = (char)data[used], .data = data + used};
		a.total = 1 + (uint64_t)pg_get_u32(a.data + 1);
		if (a.total < PG_HEADER || a.total > 0x7fffffff) {
			violation(&w, &a, "an invalid message length");
			break;
		}
		a.have = a.total < left ? (size_t)a.total : left;
		enum verdict verdict = on_answer(&w, &a);
		if (verdict != TAKEN)
			break;
		used += a.have;
	}
	flush_run(&w);
	struct client *client = ps->base.client;
	if (client)
		pg_client(client)->mid_message = ps->passing > 0 && ps->passing_to_client;
	if (client && !ps->base.close_wanted && ps->queue.count == 0 && ps->passing == 0) {
		client->answered_ns = client->sw->worker->now_ns;
		pg_settle_cut(ps);
		client = ps->base.client;
		if (client && !client->closing && (client->keeps_server || !pg_server_clean(&ps->base)))
			deadline_begun(client); /* idle from now on, in a transaction */
	}
	if (client && !ps->base.close_wanted)
		pg_settle_restored(pg_client(client), ps);
	if (client && !ps->base.close_wanted && client->hold == HOLD_OUTCOME)
		client_resume(client);
	return used;
}
