/*
 * From a server to its client: every message is matched with the head of the queue of outstanding requests, and goes
 * to the client only if that request was the client's. Sections "Message Flow" and "Message Formats".
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/reader.h"
#include "pgsql/pgsql.h"
#include "session/deadline.h"
#include "session/meter.h"

enum { TAG_MAX = 128, ERROR_VIEW = 1024 };

/* ---- the walk ---- */

struct walk {
	struct pg_server *ps;
	const uint8_t *run; /* bytes in a row that go to the client as they are */
	size_t run_len;
	const struct client *run_client; /* whose they are */
};

/* To be called before anything else is said to the client, and before it may lose the server. */
static void flush_run(struct walk *w) {
	struct client *client = w->ps->base.client;
	if (w->run_len > 0 && client && client == w->run_client)
		client_write(client, w->run, w->run_len);
	w->run_len = 0;
}

static void to_client(struct walk *w, const uint8_t *data, size_t len) {
	if (w->run_len > 0 && w->run + w->run_len == data && w->run_client == w->ps->base.client) {
		w->run_len += len;
		return;
	}
	flush_run(w);
	w->run = data;
	w->run_len = len;
	w->run_client = w->ps->base.client;
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

/* An answer is over: those of our own whose turn it is now go behind it. */
static void give_ours(struct walk *w) {
	const struct pg_request *head = pg_queue_head(&w->ps->queue);
	if (!head || (head->type != PG_REQ_VIRTUAL && head->type != PG_REQ_COPY_END))
		return;
	flush_run(w);
	pg_emit_virtual(w->ps);
}

/* The answer that ends an extended request. */
static enum verdict completes(struct walk *w, const struct answer *a, enum pg_request_type type) {
	struct pg_server *ps = w->ps;
	if (!head_is(pg_queue_head(&ps->queue), type))
		return violation(w, a, "an answer that nobody has asked for");
	if (a->total != PG_HEADER)
		return violation(w, a, "an answer of the wrong length");
	pass(w, a);
	pg_settle_head(ps);
	give_ours(w);
	return TAKEN;
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
		pg_note_tag(ps, head, tag);
	for (uint32_t i = 1; ps->copy == 'G' && i < ps->queue.count; i++) {
		if (pg_queue_at(&ps->queue, i)->type != PG_REQ_COPY_END)
			continue;
		pg_queue_remove(&ps->queue, i); /* the end of this copy; another may follow in the same Query */
		break;
	}
	ps->copy = 0;
	ps->swallowed_syncs = 0;
	pass(w, a);
	if (head->type == PG_REQ_EXECUTE)
		pg_settle_head(ps);
	give_ours(w);
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
	pg_settle_head(ps);
	if (ps->passing == 0)
		give_ours(w);
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
	struct pg_client *pc = pg_client_of(ps);
	bool shared = pc && pc->settings == ps->settings;
	struct settings *now = settings_with(ps->settings, name, value, true);
	if (!now) {
		flush_run(w);
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
		pg_undo(ps, i, false);
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
	struct pg_client *pc = pg_client_of(ps);
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
		flush_run(w);
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
	pg_begin_failed(pg_client_of(ps), ps, text);
	return TAKEN;
}

static enum verdict on_error(struct walk *w, struct answer *a) {
	struct pg_server *ps = w->ps;
	struct pg_client *pc = pg_client_of(ps);
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
		pg_restore_startup(pg_client(client), ps);
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
			if (ps->passing == 0)
				give_ours(&w);
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
