#include "pgsql/aborted.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/reader.h"
#include "pgsql/pgsql.h"
#include "session/deadline.h"

enum { NAME_MAX_LEN = 64, SMALL_MAX = 16 * 1024 };

struct pg_aborted {
	bool owed;      /* the error is still to be told */
	bool block;     /* a transaction block: until it is ended; else only up to the next Sync */
	bool on_server; /* the server itself is in this state, and answers */
	enum pg_exit portal_kind; /* of the one portal it may have */
	char portal[NAME_MAX_LEN]; /* its name */
	char sqlstate[6];
	char text[256];
};

const uint8_t pg_failing_bind[25] = {'B', 0, 0, 0, 24, 0, 'f', 'o', 'r', 'e', 'b', 'a', 'y', '_',
				     'n', 'o', 'n', 'e', 0, 0, 0, 0, 0, 0, 0};

static const char hint[] = "Say ROLLBACK, then repeat the transaction.";

/* ---- answers ---- */

void pg_aborted_free(struct pg_client *pc) {
	free(pc->aborted);
	pc->aborted = NULL;
}

static void send_empty(struct pg_client *pc, char type) {
	const uint8_t message[] = {(uint8_t)type, 0, 0, 0, 4};
	client_write(&pc->base, message, sizeof message);
}

static void send_rollback(struct pg_client *pc) {
	static const uint8_t complete[] = {'C', 0, 0, 0, 13, 'R', 'O', 'L', 'L', 'B', 'A', 'C', 'K', 0};
	client_write(&pc->base, complete, sizeof complete);
}

/* The error that any statement gets. */
static void fail(struct pg_client *pc) {
	struct pg_aborted *a = pc->aborted;
	if (a->owed)
		pg_send_error(&pc->base, "ERROR", a->sqlstate, a->text, hint);
	else
		pg_send_error(&pc->base, "ERROR", "25P02",
			      "current transaction is aborted, commands ignored until end of transaction block", NULL);
	a->owed = false;
	if (a->on_server)
		pg_aborted_free(pc); /* told: the rest the server says */
}

static void fail_as(struct pg_client *pc, const char *sqlstate, const char *text) {
	if (pc->aborted->owed)
		fail(pc);
	else
		pg_send_error(&pc->base, "ERROR", sqlstate, text, NULL);
}

static void fail_exit(struct pg_client *pc, enum pg_exit kind) {
	char text[400];
	if (kind == PG_EXIT_CHAIN) {
		snprintf(text, sizeof text, "AND CHAIN has no transaction to go on from: %.255s; say ROLLBACK and BEGIN",
			 pc->aborted->text);
		fail_as(pc, "0A000", text);
	} else if (kind == PG_EXIT_SAVEPOINT) {
		snprintf(text, sizeof text, "the savepoint does not exist any more: %.255s", pc->aborted->text);
		fail_as(pc, "3B001", text);
	} else {
		fail(pc);
	}
}

/* Whether this statement ends the state here and now. A COMMIT whose client has not heard yet must fail. */
static bool ends(const struct pg_aborted *a, enum pg_exit kind) {
	return kind == PG_EXIT_ROLLBACK || (kind == PG_EXIT_COMMIT && !a->owed);
}

static enum pg_exit text_exit(const struct pg_text *text, size_t *rest) {
	return pg_sql_exit((const char *)text->body, strnlen((const char *)text->body, text->len), rest);
}

/* ---- messages ---- */

struct incoming {
	const uint8_t *data;
	size_t have;
	uint64_t total;
	struct reader body;
};

static bool is_whole(const struct incoming *m) {
	return m->have == m->total;
}

static void forget_unnamed(struct pg_client *pc) {
	struct pg_name *name = pc->names.unnamed;
	if (name && name->pending == 0)
		pg_name_set(&pc->names, name, NULL);
	pc->unnamed_passed = false;
}

static enum pg_aborted_verdict on_query(struct pg_client *pc, const struct incoming *m, size_t *cut) {
	struct pg_aborted *a = pc->aborted;
	if (!is_whole(m) && (m->total <= MESSAGE_HOLD_MAX || m->have < 4096))
		return PG_ABORTED_WAIT;
	const char *sql = (const char *)m->data + PG_HEADER;
	size_t len = strnlen(sql, m->have - PG_HEADER), rest = 0;
	enum pg_exit kind = pg_sql_exit(sql, len, &rest);
	if (!is_whole(m) && rest == 0)
		kind = PG_EXIT_NONE; /* its end is not in sight */
	if (a->on_server && (kind == PG_EXIT_ROLLBACK || kind == PG_EXIT_EMPTY)) {
		if (kind == PG_EXIT_ROLLBACK)
			pg_aborted_free(pc);
		return PG_ABORTED_PASS;
	}
	if (!a->on_server && ends(a, kind) && rest > 0) {
		*cut = rest;
		return PG_ABORTED_REST;
	}
	char status = a->on_server ? pg_server(pc->base.server)->status : a->block ? 'E' : 'I';
	bool over = ends(a, kind) || !a->block;
	forget_unnamed(pc);
	if (kind == PG_EXIT_EMPTY)
		send_empty(pc, 'I');
	else if (ends(a, kind))
		send_rollback(pc);
	else
		fail_exit(pc, kind);
	if (over && pc->aborted) {
		pg_aborted_free(pc);
		status = 'I';
	}
	pc->batch++;
	pg_send_ready(pc, status);
	return PG_ABORTED_DONE;
}

/* An error within a batch: what follows is passed over up to Sync. */
static enum pg_aborted_verdict failed(struct pg_client *pc) {
	pc->skip_to_sync = true;
	return PG_ABORTED_DONE;
}

static enum pg_aborted_verdict on_parse(struct pg_client *pc, struct incoming *m) {
	if (!is_whole(m) && m->total <= MESSAGE_HOLD_MAX)
		return PG_ABORTED_WAIT;
	struct pg_aborted *a = pc->aborted;
	size_t name_len = 0, sql_len = 0, rest = 0;
	const char *wanted = reader_cstr(&m->body, &name_len);
	const char *sql = wanted ? reader_cstr(&m->body, &sql_len) : NULL;
	enum pg_exit kind = sql ? pg_sql_exit(sql, sql_len, &rest) : PG_EXIT_NONE;
	if (is_whole(m) && !sql)
		return PG_ABORTED_INVALID;
	if (a->on_server && (kind == PG_EXIT_ROLLBACK || kind == PG_EXIT_EMPTY)) {
		if (kind == PG_EXIT_ROLLBACK)
			pg_aborted_free(pc);
		return PG_ABORTED_PASS;
	}
	if (wanted && !name_len)
		forget_unnamed(pc);
	if (kind == PG_EXIT_NONE || !is_whole(m) || a->on_server) {
		fail(pc);
		return failed(pc);
	}
	if (rest > 0) {
		fail_as(pc, "42601", "cannot insert multiple commands into a prepared statement");
		return failed(pc);
	}
	struct pg_name *name = pc->names.bytes + sql_len > PG_CLIENT_TEXTS_MAX ? NULL : pg_name_make(&pc->names, wanted);
	if (name && name->text && name_len) {
		char text[160];
		snprintf(text, sizeof text, "prepared statement \"%.64s\" already exists", wanted);
		fail_as(pc, "42P05", text);
		return failed(pc);
	}
	struct pg_text *text = NULL;
	if (name)
		text = pg_text_get(pg_texts(pc->base.sw), (const uint8_t *)sql, m->have - (size_t)((const uint8_t *)sql - m->data));
	if (!text) {
		if (name)
			pg_name_tidy(&pc->names, name);
		fail_as(pc, "53400", "too many prepared statements: a client may have 20000, with 64 MiB of SQL");
		return failed(pc);
	}
	pg_name_set(&pc->names, name, text);
	send_empty(pc, '1');
	return PG_ABORTED_DONE;
}

static enum pg_aborted_verdict on_bind(struct pg_client *pc, struct incoming *m) {
	struct pg_aborted *a = pc->aborted;
	if (!is_whole(m) && m->total <= MESSAGE_HOLD_MAX)
		return PG_ABORTED_WAIT;
	const char *portal = reader_cstr(&m->body, NULL);
	const char *wanted = portal ? reader_cstr(&m->body, NULL) : NULL;
	if (is_whole(m) && !wanted)
		return PG_ABORTED_INVALID;
	struct pg_name *name = wanted && !a->on_server ? pg_name_find(&pc->names, wanted) : NULL;
	size_t rest = 0;
	if (!a->on_server && wanted && !(name && name->text)) {
		char text[160];
		snprintf(text, sizeof text, "prepared statement \"%.64s\" does not exist", wanted);
		fail_as(pc, "26000", text);
		return failed(pc);
	}
	enum pg_exit kind = name && name->text ? text_exit(name->text, &rest) : PG_EXIT_NONE;
	if (kind == PG_EXIT_NONE || kind == PG_EXIT_EMPTY || rest > 0 || strlen(portal) >= sizeof a->portal) {
		fail(pc);
		return failed(pc);
	}
	strcpy(a->portal, portal);
	a->portal_kind = kind;
	send_empty(pc, '2');
	return PG_ABORTED_DONE;
}

/* Whether a portal of this name is there; else its error is told. */
static bool has_portal(struct pg_client *pc, const char *portal) {
	struct pg_aborted *a = pc->aborted;
	if (a->portal_kind != PG_EXIT_NONE && strcmp(a->portal, portal) == 0)
		return true;
	char text[160];
	snprintf(text, sizeof text, "portal \"%.64s\" does not exist", portal);
	fail_as(pc, "34000", text);
	return false;
}

static enum pg_aborted_verdict on_describe(struct pg_client *pc, struct incoming *m) {
	static const uint8_t no_parameters[] = {'t', 0, 0, 0, 6, 0, 0};
	struct pg_aborted *a = pc->aborted;
	uint8_t what = reader_u8(&m->body);
	const char *wanted = reader_cstr(&m->body, NULL);
	if (!wanted || reader_left(&m->body) > 0)
		return PG_ABORTED_INVALID;
	if (a->on_server) {
		fail(pc);
		return failed(pc);
	}
	if (what != 'S') {
		if (!has_portal(pc, wanted))
			return failed(pc);
		send_empty(pc, 'n');
		return PG_ABORTED_DONE;
	}
	struct pg_name *name = pg_name_find(&pc->names, wanted);
	size_t rest;
	if (!name || !name->text) {
		char text[160];
		snprintf(text, sizeof text, "prepared statement \"%.64s\" does not exist", wanted);
		fail_as(pc, "26000", text);
		return failed(pc);
	}
	if (text_exit(name->text, &rest) == PG_EXIT_NONE) { /* nobody here knows what it returns */
		fail(pc);
		return failed(pc);
	}
	client_write(&pc->base, no_parameters, sizeof no_parameters);
	send_empty(pc, 'n');
	return PG_ABORTED_DONE;
}

static enum pg_aborted_verdict on_execute(struct pg_client *pc, struct incoming *m) {
	struct pg_aborted *a = pc->aborted;
	const char *portal = reader_cstr(&m->body, NULL);
	if (!portal)
		return PG_ABORTED_INVALID;
	if (a->on_server) {
		fail(pc);
		return failed(pc);
	}
	if (!has_portal(pc, portal))
		return failed(pc);
	if (!ends(a, a->portal_kind)) {
		fail_exit(pc, a->portal_kind);
		return failed(pc);
	}
	send_rollback(pc);
	pg_aborted_free(pc); /* what follows in this batch finds no transaction */
	return PG_ABORTED_DONE;
}

static enum pg_aborted_verdict on_close(struct pg_client *pc, struct incoming *m) {
	struct pg_aborted *a = pc->aborted;
	if (a->on_server)
		return PG_ABORTED_PASS;
	uint8_t what = reader_u8(&m->body);
	const char *wanted = reader_cstr(&m->body, NULL);
	if (!wanted || reader_left(&m->body) > 0)
		return PG_ABORTED_INVALID;
	struct pg_name *name = what == 'S' ? pg_name_find(&pc->names, wanted) : NULL;
	if (name) {
		pg_name_set(&pc->names, name, NULL);
		pg_name_tidy(&pc->names, name);
	}
	if (what == 'S' && !wanted[0])
		pc->unnamed_passed = false;
	if (what == 'P' && strcmp(a->portal, wanted) == 0)
		a->portal_kind = PG_EXIT_NONE;
	send_empty(pc, '3');
	return PG_ABORTED_DONE;
}

static enum pg_aborted_verdict on_sync(struct pg_client *pc) {
	struct pg_aborted *a = pc->aborted;
	/* a batch that was rolled back must not end as if all was well */
	bool told_here = a->owed && !a->block;
	if (told_here)
		fail(pc);
	if (!pc->aborted || a->on_server)
		return PG_ABORTED_PASS;
	bool block = a->block;
	if (!block)
		pg_aborted_free(pc);
	else
		a->portal_kind = pc->skip_to_sync ? PG_EXIT_NONE : a->portal_kind;
	pc->skip_to_sync = false;
	pc->batch++;
	pg_send_ready(pc, block ? 'E' : 'I');
	return PG_ABORTED_DONE;
}

static enum pg_aborted_verdict on_function(struct pg_client *pc) {
	struct pg_aborted *a = pc->aborted;
	char status = a->on_server ? pg_server(pc->base.server)->status : a->block ? 'E' : 'I';
	bool block = a->block;
	fail(pc);
	if (!block)
		pg_aborted_free(pc);
	pc->batch++;
	pg_send_ready(pc, status);
	return PG_ABORTED_DONE;
}

enum pg_aborted_verdict pg_aborted_message(struct pg_client *pc, const uint8_t *data, size_t have, uint64_t total,
					   size_t *cut) {
	struct pg_aborted *a = pc->aborted;
	struct incoming m = {data, have, total, reader_over(data + PG_HEADER, have - PG_HEADER)};
	char type = (char)data[0];
	if (!strchr("QPBDECFSHdcf", type))
		return PG_ABORTED_PASS; /* an error like any other */
	/* What is answered here comes behind all that the server still has to say. */
	const struct pg_server *ps = pc->base.server ? pg_server(pc->base.server) : NULL;
	if (ps && (ps->queue.count > 0 || ps->passing > 0))
		return PG_ABORTED_HOLD;
	if (ps && ps->half_sent > 0)
		return PG_ABORTED_PASS;
	if (pc->skip_to_sync && a->owed && strchr("QPBDECFS", type)) { /* its batch was made to fail: it must hear why */
		fail(pc);
		a = pc->aborted;
	}
	if (!a || (pc->skip_to_sync && type != 'S'))
		return PG_ABORTED_PASS; /* passed over */
	if (strchr("DECSH", type) && !is_whole(&m))
		return total > SMALL_MAX ? PG_ABORTED_INVALID : PG_ABORTED_WAIT;
	switch (type) {
	case 'Q':
		return on_query(pc, &m, cut);
	case 'P':
		return on_parse(pc, &m);
	case 'B':
		return on_bind(pc, &m);
	case 'D':
		return on_describe(pc, &m);
	case 'E':
		return on_execute(pc, &m);
	case 'C':
		return on_close(pc, &m);
	case 'S':
		return total == PG_HEADER ? on_sync(pc) : PG_ABORTED_INVALID;
	case 'F':
		return on_function(pc);
	case 'H':
		return PG_ABORTED_PASS;
	default: /* of a copy that has ended */
		return a->on_server ? PG_ABORTED_PASS : PG_ABORTED_DONE;
	}
}

void pg_aborted_rest(struct pg_client *pc) {
	send_rollback(pc);
	pg_aborted_free(pc);
}

/* ---- rolling back ---- */

void pg_transaction_begins(struct pg_client *pc, struct pg_server *ps) {
	ps->transaction_since_ns = pc->base.sw->worker->now_ns;
	if (pc->begun == pc->settings)
		return;
	settings_unref(pc->begun);
	pc->begun = settings_ref(pc->settings);
}

/* What the transaction has set is undone. */
static void restore_settings(struct pg_client *pc) {
	if (!pc->begun || pc->begun == pc->settings)
		return;
	for (size_t i = 0; i < pc->begun->count; i++) {
		const struct setting *then = &pc->begun->at[i], *now = settings_find(pc->settings, then->name);
		if (then->reported && now && strcmp(now->value, then->value) != 0)
			pg_send_parameter(&pc->base, then->name, then->value);
	}
	settings_unref(pc->settings);
	pc->settings = settings_ref(pc->begun);
	settings_unref(pc->before);
	pc->before = settings_ref(pc->begun);
}

static struct pg_request *push_abort(struct pg_server *ps, enum pg_request_type type, uint32_t batch) {
	struct pg_request *r = pg_queue_push(&ps->queue, type);
	if (!r)
		return NULL;
	r->hidden = true;
	r->task = PG_TASK_ABORT;
	r->batch = batch;
	return r;
}

/* Makes the transaction fail on the server, which lets go of all it holds, but not of the session. A Bind disturbs no
 * statement. */
static bool fail_on_server(struct pg_client *pc, struct pg_server *ps) {
	static const uint8_t sync[] = {'S', 0, 0, 0, 4}, flush[] = {'H', 0, 0, 0, 4};
	bool batch = ps->open_batch; /* its Sync is the client's to send */
	ps->task_failed = false;
	/* what is under way from now on is ours: the limits that have fired are over */
	pc->base.request_ns = ps->transaction_since_ns = pc->base.sw->worker->now_ns;
	bool ok = push_abort(ps, PG_REQ_BIND, pc->batch) != NULL && server_write(&ps->base, pg_failing_bind, sizeof pg_failing_bind);
	if (batch)
		ok = ok && server_write(&ps->base, flush, sizeof flush);
	else
		ok = ok && push_abort(ps, PG_REQ_SYNC, pc->batch) && server_write(&ps->base, sync, sizeof sync);
	if (!ok)
		server_close(&ps->base, "out of memory");
	return ok;
}

static void set_error(struct pg_aborted *a, const char *sqlstate, const char *text, bool told) {
	a->owed = !told;
	snprintf(a->sqlstate, sizeof a->sqlstate, "%s", sqlstate);
	snprintf(a->text, sizeof a->text, "%s", text);
}

bool pg_aborted_begin(struct pg_client *pc, const char *sqlstate, const char *text, bool told) {
	struct pg_aborted *a = calloc(1, sizeof *a);
	if (!a)
		return false;
	a->block = true;
	set_error(a, sqlstate, text, told);
	pg_aborted_free(pc);
	pc->aborted = a;
	pc->base.begin_deferred = false;
	return true;
}

/* `told`: the client has got the error already. */
static bool roll_back(struct pg_client *pc, const char *sqlstate, const char *text, bool told) {
	struct client *client = &pc->base;
	struct pg_server *ps = pg_server(client->server);
	if (client->dedicated || ps->queue.count > 0 || ps->passing > 0 || ps->half_sent > 0 || ps->copy || ps->uncertain > 0)
		return false;
	told = told || pc->skip_to_sync;
	bool block = ps->status != 'I';
	struct pg_aborted *a = pc->aborted;
	if (!a && (!told || (block && !client->keeps_server)))
		a = calloc(1, sizeof *a);
	if (a) {
		set_error(a, sqlstate, text, told);
		a->block = block;
		a->on_server = client->keeps_server;
	} else if (!told || (block && !client->keeps_server)) {
		return false;
	}
	pc->aborted = a;
	if (told && client->keeps_server)
		pg_aborted_free(pc);
	if (client->keeps_server) {
		if (!fail_on_server(pc, ps))
			return true; /* closed, and the client with it */
	} else {
		pg_text_unref(pc->portal);
		pc->portal = NULL;
		pc->unnamed_passed = false;
		pc->reset = PG_RESET_NOTHING;
		restore_settings(pc);
		client_lose_server(client);
	}
	if (!told)
		client->protocol->client_notice(client, text);
	return true;
}

static const char *sqlstate_of(enum deadline why) {
	return why == DEADLINE_TRANSACTION ? "25P04" : why == DEADLINE_IDLE_TRANSACTION ? "25P03" : "57014";
}

bool pg_client_roll_back(struct client *client, enum deadline why, const char *text) {
	if (client->begin_deferred) {
		if (!pg_aborted_begin(pg_client(client), sqlstate_of(why), text, false))
			return false;
		client->protocol->client_notice(client, text);
		client_wake(client); /* to be told goodbye, perhaps */
		return true;
	}
	return roll_back(pg_client(client), sqlstate_of(why), text, false);
}

/* ---- what runs ---- */

void pg_client_activity(const struct client *client, struct activity *a) {
	const struct pg_server *ps = (const struct pg_server *)client->server;
	bool busy = ps->queue.count > 0 || ps->half_sent > 0;
	bool open = ps->status != 'I' || ps->open_batch || busy;
	if (client->keeps_server && (ps->status == 'E' || ps->batch_failed))
		open = false; /* it holds nothing but its session */
	a->request_ns = busy ? client->request_ns : 0;
	a->transaction_ns = open ? ps->transaction_since_ns : 0;
	a->exempt = ps->copy == 'W';
}

void pg_client_cut(struct client *client) {
	static const uint8_t copy_fail[] = {'f', 0, 0, 0, 14, 't', 'i', 'm', 'e', 'd', ' ', 'o', 'u', 't', 0};
	struct pg_server *ps = pg_server(client->server);
	/* A server that waits for copy data hears no cancel. */
	if (ps->copy != 'G' || ps->copy_input_done || ps->half_sent > 0 || pg_queue_full(&ps->queue))
		return;
	struct pg_request *end = pg_queue_push(&ps->queue, PG_REQ_COPY_END);
	if (!end || !server_write(&ps->base, copy_fail, sizeof copy_fail)) {
		server_close(&ps->base, "out of memory");
		return;
	}
	end->batch = pg_client(client)->batch;
	ps->copy_input_done = true;
}

bool pg_is_cut(const struct pg_server *ps, const char *sqlstate) {
	return ps->base.client && ps->base.cut.why != DEADLINE_NONE && strcmp(sqlstate, "57014") == 0;
}

void pg_tell_cut(struct pg_server *ps) {
	struct server_cut *cut = &ps->base.cut;
	char text[320];
	deadline_text(ps->base.client, cut, true, text, sizeof text);
	bool whole = cut->why == DEADLINE_TRANSACTION && !cut->late;
	pg_send_error(ps->base.client, "ERROR", cut->late ? "57014" : sqlstate_of(cut->why), text,
		      whole && ps->status != 'I' ? hint : NULL);
	cut->told = true;
}

void pg_settle_cut(struct pg_server *ps) {
	struct client *client = ps->base.client;
	const struct server_cut cut = ps->base.cut;
	if (cut.expiring && ps->queue.count == 0)
		ps->base.cut = (struct server_cut){0};
	if (!client || client->closing || cut.why == DEADLINE_NONE || cut.late || ps->queue.count > 0 || ps->passing > 0 ||
	    ps->half_sent > 0 || ps->copy || ps->uncertain > 0)
		return;
	char text[320];
	deadline_text(client, &cut, cut.told, text, sizeof text);
	deadline_over(&ps->base);
	if (cut.why == DEADLINE_QUERY || (ps->status == 'I' && !ps->open_batch))
		return;
	if (client->keeps_server && (ps->status == 'E' || pg_client(client)->skip_to_sync))
		return; /* the server is where it must be */
	if (!roll_back(pg_client(client), sqlstate_of(cut.why), text, cut.told))
		client_end(client, REFUSAL_TRANSACTION_TIMEOUT, text);
}
