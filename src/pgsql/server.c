/*
 * A server between its clients: given the next client's settings, cleaned of the last one's, recovered after a client
 * that vanished.
 */
#include "pgsql/pgsql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/log.h"
#include "session/deadline.h"
#include "session/keepalive.h"

/* What a client that vanished in the midst of a request leaves running may end by itself before it is cancelled. */
#define NUDGE_NS (50 * NS_PER_MS)

/* ---- queries of our own ---- */

bool pg_run(struct pg_server *ps, enum pg_task task, const char *sql) {
	struct pg_request *r = pg_queue_push(&ps->queue, PG_REQ_QUERY);
	struct pg_builder b = pg_builder(ps->base.sw->worker->buffers);
	pg_open(&b, 'Q');
	pg_cstr(&b, sql);
	pg_close(&b);
	bool ok = r && b.ok && server_write(&ps->base, buf_bytes(&b.buf), buf_len(&b.buf));
	pg_builder_release(&b);
	if (!ok) {
		server_close(&ps->base, "out of memory");
		return false;
	}
	r->hidden = true;
	r->task = (uint8_t)task;
	ps->task_failed = false;
	ps->fence_seen = false;
	pg_statements_set_unnamed(&ps->statements, NULL);
	return true;
}

/* ---- settings ---- */

/* Reported, but not ours to set. */
static bool is_settable(const char *name) {
	static const char *const fixed[] = {"in_hot_standby",  "integer_datetimes", "is_superuser",
					    "server_encoding", "server_version"};
	for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++)
		if (strcasecmp(name, fixed[i]) == 0)
			return false;
	return true;
}

struct change {
	const char *name, *value; /* value NULL: back to the server's default */
};

enum { CHANGES_MAX = 2 * PG_SETTINGS_MAX + 64 };

/* What must be changed on the server for this client. */
static size_t diff(const struct settings *has, const struct settings *wants, struct change *out) {
	size_t n = 0;
	for (size_t i = 0; i < wants->count && n < CHANGES_MAX; i++) {
		const struct setting *w = &wants->at[i], *h = settings_find(has, w->name);
		if ((h && strcmp(h->value, w->value) == 0) || !is_settable(w->name))
			continue;
		out[n++] = (struct change){w->name, w->value};
	}
	for (size_t i = 0; i < has->count && n < CHANGES_MAX; i++) {
		const struct setting *h = &has->at[i];
		if (!h->reported && !settings_find(wants, h->name))
			out[n++] = (struct change){h->name, NULL};
	}
	return n;
}

/*
 * One statement that sets all: values travel as parameters, so that no quoting is needed whatever they hold, and
 * set_config() reads list-valued settings as SET's result would be shown. NULL sets back to the default.
 */
static void put_changes(struct pg_builder *b, const struct change *at, size_t n) {
	pg_open(b, 'P');
	pg_cstr(b, "");
	char item[96];
	pg_raw(b, "SELECT ", 7);
	for (size_t i = 0; i < n; i++) {
		int len = snprintf(item, sizeof item, "%spg_catalog.set_config($%zu, $%zu, false)", i ? ", " : "",
				   2 * i + 1, 2 * i + 2);
		pg_raw(b, item, (size_t)len);
	}
	pg_u8(b, 0);
	pg_u16(b, 0);
	pg_close(b);
	pg_open(b, 'B');
	pg_cstr(b, "");
	pg_cstr(b, "");
	pg_u16(b, 0);
	pg_u16(b, (uint16_t)(2 * n));
	for (size_t i = 0; i < n; i++) {
		pg_u32(b, (uint32_t)strlen(at[i].name));
		pg_raw(b, at[i].name, strlen(at[i].name));
		pg_u32(b, at[i].value ? (uint32_t)strlen(at[i].value) : UINT32_MAX);
		if (at[i].value)
			pg_raw(b, at[i].value, strlen(at[i].value));
	}
	pg_u16(b, 0);
	pg_close(b);
	pg_open(b, 'E');
	pg_cstr(b, "");
	pg_u32(b, 0);
	pg_close(b);
}

static bool push_hidden(struct pg_server *ps, enum pg_request_type type, enum pg_task task) {
	struct pg_request *r = pg_queue_push(&ps->queue, type);
	if (!r)
		return false;
	r->hidden = true;
	r->task = (uint8_t)task;
	return true;
}

static bool push_statement(struct pg_server *ps) {
	return push_hidden(ps, PG_REQ_PARSE, PG_TASK_SETTINGS) && push_hidden(ps, PG_REQ_BIND, PG_TASK_SETTINGS) &&
	       push_hidden(ps, PG_REQ_EXECUTE, PG_TASK_SETTINGS);
}

static bool send_changes(struct pg_server *ps, struct change *changes, size_t n) {
	struct pg_builder b = pg_builder(ps->base.sw->worker->buffers);
	bool ok = true;
	/* The encoding first and by itself: the server reads the other values in it. */
	for (size_t i = 0; i < n; i++) {
		if (strcasecmp(changes[i].name, "client_encoding") != 0)
			continue;
		struct change encoding = changes[i];
		changes[i] = changes[0];
		changes[0] = encoding;
		put_changes(&b, changes, 1);
		ok = push_statement(ps);
		changes++;
		n--;
		break;
	}
	if (n > 0) {
		put_changes(&b, changes, n);
		ok = ok && push_statement(ps);
	}
	pg_open(&b, 'S');
	pg_close(&b);
	ok = ok && push_hidden(ps, PG_REQ_SYNC, PG_TASK_SETTINGS) && b.ok &&
	     server_write(&ps->base, buf_bytes(&b.buf), buf_len(&b.buf));
	pg_builder_release(&b);
	pg_statements_lose_unnamed(&ps->statements);
	ps->task_failed = false;
	if (!ok)
		server_close(&ps->base, "out of memory");
	return ok;
}

/* Makes both sides hold one set; tells the client where the server's words for a value are other than its own. */
static bool agree(struct pg_client *pc, struct pg_server *ps) {
	struct settings *wants = pc->settings;
	for (size_t i = 0; i < wants->count; i++) {
		const struct setting *w = &wants->at[i], *h = settings_find(ps->settings, w->name);
		if (h && h->reported && strcmp(h->value, w->value) != 0)
			pg_send_parameter(&pc->base, h->name, h->value);
		if (h || !is_settable(w->name))
			continue;
		/* applied just now, and not reported by this server */
		struct settings *more = settings_with(ps->settings, w->name, w->value, false);
		if (!more)
			return false;
		settings_unref(ps->settings);
		ps->settings = more;
	}
	for (size_t i = 0; i < ps->settings->count;) {
		const struct setting *h = &ps->settings->at[i], *w = settings_find(wants, h->name);
		struct settings *now = NULL;
		if (h->reported || (w && strcmp(w->value, h->value) == 0)) {
			i++;
			continue;
		}
		now = settings_with(ps->settings, h->name, w ? w->value : NULL, false);
		if (!now)
			return false;
		settings_unref(ps->settings);
		ps->settings = now;
	}
	settings_unref(pc->settings);
	pc->settings = settings_ref(ps->settings);
	return true;
}

/* True: the server is as the client wants it. False: changes are under way. */
static bool give_settings(struct pg_client *pc, struct pg_server *ps) {
	if (pc->settings == ps->settings)
		return true;
	struct change changes[CHANGES_MAX];
	size_t n = diff(ps->settings, pc->settings, changes);
	if (n > 0) {
		send_changes(ps, changes, n);
		return false;
	}
	if (settings_equal(pc->settings, ps->settings)) {
		settings_unref(pc->settings);
		pc->settings = settings_ref(ps->settings);
	} else if (!agree(pc, ps)) { /* what cannot be set differs: another host, perhaps */
		server_close(&ps->base, "out of memory");
		return false;
	}
	return true;
}

/* Those whose Parse is not answered yet come after what dropped the others. */
void pg_forget_statements(struct pg_server *ps) {
	struct pg_statement *s, *next;
	HASH_ITER(hh, ps->statements.by_id, s, next) {
		if (s->pending_batch != 0)
			continue;
		pg_statement_take(&ps->statements, s);
		free(s);
	}
}

bool pg_forget_unreported(struct pg_server *ps) {
	for (size_t i = 0; i < ps->settings->count;) {
		if (ps->settings->at[i].reported) {
			i++;
			continue;
		}
		struct settings *less = settings_with(ps->settings, ps->settings->at[i].name, NULL, false);
		if (!less)
			return false;
		settings_unref(ps->settings);
		ps->settings = less;
	}
	return true;
}

/* What earlier clients' transactions have left in the session. */
static bool untouch(struct pg_server *ps) {
	const struct pool_config *config = database_view(ps->base.database, ps->base.sw->worker->id)->config;
	const char *init = (ps->touched & PG_TOUCHED_SETTINGS) && config->init_sql ? config->init_sql : "";
	size_t room = 256 + strlen(init);
	char *sql = calloc(1, room);
	size_t n = 0;
	if (!sql) {
		server_close(&ps->base, "out of memory");
		return false;
	}
	static const struct {
		uint32_t bit;
		const char *sql;
	} steps[] = {
		{PG_TOUCHED_CURSORS, "CLOSE ALL; "},
		{PG_TOUCHED_SETTINGS, "SET SESSION AUTHORIZATION DEFAULT; RESET ALL; "},
		{PG_TOUCHED_PREPARED, "DEALLOCATE ALL; "},
		{PG_TOUCHED_LISTEN, "UNLISTEN *; "},
	};
	for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
		if (ps->touched & steps[i].bit)
			n += (size_t)snprintf(sql + n, room - n, "%s", steps[i].sql);
	snprintf(sql + n, room - n, "%s", init); /* RESET ALL has undone it */
	bool ok = pg_run(ps, PG_TASK_UNTOUCH, sql);
	free(sql);
	return ok;
}

bool pg_client_linked(struct client *client, struct server *server) {
	struct pg_client *pc = pg_client(client);
	struct pg_server *ps = pg_server(server);
	pc->unnamed_passed = pc->restored = false;
	pc->mid_message = false;
	ps->let_finish = false;
	ps->said_count = 0;
	if (pc->welcome_pending) {
		/* not what this server's last client has made of its settings */
		struct settings *welcome = account_welcome(account_of(client->user), (void *(*)(void *))settings_ref);
		pg_send_welcome(pc, welcome ? welcome : ps->settings);
		settings_unref(welcome);
		return true;
	}
	bool another = server->last_client != 0 && server->last_client != client->id;
	server->last_client = client->id;
	if (another && ps->touched) {
		untouch(ps);
		return false;
	}
	return give_settings(pc, ps);
}

void pg_settle_restored(struct pg_client *pc, struct pg_server *ps) {
	struct client *client = &pc->base;
	if (!pc->restored || !client->keeps_server || ps->status != 'I' || ps->queue.count > 0 || ps->open_batch ||
	    ps->passing > 0 || ps->half_sent > 0 || client->closing)
		return;
	pc->restored = false;
	enum client_hold before = client->hold;
	client->hold = HOLD_PREPARE; /* until settings_given() */
	if (give_settings(pc, ps))
		client->hold = before;
}

/*
 * The request that the server was for gets this answer. What came behind it must not run there without the settings: the
 * server, which is none the worse for it, goes back, and the next request is for another, with the same answer.
 */
static void settings_refused(struct pg_client *pc, struct pg_server *ps) {
	struct client *client = &pc->base;
	char text[400];

	snprintf(text, sizeof text, "the server refuses a setting that this client asks for: %s", ps->task_error);
	if (!server_untouched(&ps->base)) {
		/* a session that has been at work there, and has just reset its settings to those of its start-up */
		client_end(client, REFUSAL_BACKEND_LOST, text);
		return;
	}
	pg_send_error(client, "ERROR", ps->task_sqlstate, text, NULL);
	pg_refuse(pc, text);
	if (client->state == CLIENT_CLOSED || client->closing)
		return;
	client->hold = HOLD_NONE;
	client_lose_server(client);
}

static void settings_given(struct pg_server *ps) {
	struct client *client = ps->base.client;
	if (!client)
		return;
	if (ps->task_failed) {
		settings_refused(pg_client(client), ps);
	} else if (!agree(pg_client(client), ps)) {
		server_close(&ps->base, "out of memory");
	} else {
		client_resume(client);
	}
}

static void untouched(struct pg_server *ps) {
	if (ps->task_failed) {
		server_close(&ps->base, "the session could not be put back");
		return;
	}
	if (ps->touched & PG_TOUCHED_PREPARED)
		pg_forget_statements(ps);
	if ((ps->touched & PG_TOUCHED_SETTINGS) && !pg_forget_unreported(ps)) {
		server_close(&ps->base, "out of memory");
		return;
	}
	ps->touched = 0;
	struct client *client = ps->base.client;
	if (ps->recovering)
		pg_recover_step(ps); /* its client has gone meanwhile */
	else if (client && give_settings(pg_client(client), ps))
		client_resume(client);
}

/* ---- login's end ---- */

/* PostgreSQL 14 and later say of themselves whether they are a standby. */
static bool has_wanted_role(struct pg_server *ps) {
	const struct setting *standby = settings_find(ps->settings, "in_hot_standby");
	return !standby ||
	       server_learned_role(&ps->base, strcmp(standby->value, "on") == 0 ? POOL_ROLE_STANDBY : POOL_ROLE_PRIMARY);
}

/* What clients are told at their login: what holds once init_sql has run, so that it is not taken back for a client that has
 * asked for nothing else. */
static void remember_welcome(struct pg_server *ps) {
	struct account *account = account_of(ps->base.conn.user);
	/* Equal sets should be one pointer. */
	struct settings *welcome = account_welcome(account, (void *(*)(void *))settings_ref);
	if (welcome && settings_equal(welcome, ps->settings)) {
		settings_unref(ps->settings);
		ps->settings = welcome;
		return;
	}
	settings_unref(welcome);
	if (!ps->base.dedicated)
		account_set_welcome(account, settings_ref(ps->settings));
}

static void login_complete(struct pg_server *ps) {
	remember_welcome(ps);
	if (has_wanted_role(ps))
		server_ready(&ps->base);
}

void pg_server_logged_in(struct pg_server *ps) {
	struct server *server = &ps->base;
	account_set_error(account_of(server->conn.user), "", "");
	server->admitted = true;
	ps->defaults = settings_ref(ps->settings);
	ps->status = 'I';
	const struct pool_config *config = database_view(server->database, server->sw->worker->id)->config;
	if (config->init_sql && !server->dedicated) {
		server->state = SERVER_SETUP;
		pg_run(ps, PG_TASK_INIT, config->init_sql);
		return;
	}
	login_complete(ps);
}
/* ---- recovery ---- */

bool pg_server_clean(const struct server *server) {
	const struct pg_server *ps = (const struct pg_server *)server;
	return ps->queue.count == 0 && ps->status == 'I' && !ps->copy && ps->passing == 0 && ps->half_sent == 0 &&
	       !ps->open_batch && ps->uncertain == 0 && !ps->login;
}

/* The client has gone: nothing in the queue is anybody's any more. */
static void disown(struct pg_server *ps) {
	for (uint32_t i = 0; i < ps->queue.count; i++) {
		struct pg_request *r = pg_queue_at(&ps->queue, i);
		r->hidden = true;
		r->name = NULL;
		pg_text_unref(r->before);
		r->before = NULL;
	}
	ps->queue.simple = 0;
}

static void nudged(struct timeout *timeout, uint64_t now_ns) {
	(void)now_ns;
	struct pg_server *ps = container_of(timeout, struct pg_server, nudge);
	if (ps->recovering && ps->queue.count > 0)
		cancel_server(&ps->base);
}

static bool send_small(struct pg_server *ps, const void *data, size_t len) {
	if (server_write(&ps->base, data, len))
		return true;
	server_close(&ps->base, "out of memory");
	return false;
}

/* Takes the next step towards clean, if one can be taken now. */
void pg_recover_step(struct pg_server *ps) {
	static const uint8_t copy_fail[] = {'f', 0, 0, 0, 27, 'T', 'h', 'e', ' ', 'c', 'l', 'i', 'e', 'n', 't',
					    ' ', 'h', 'a', 's', ' ', 'g', 'o', 'n', 'e', '.', ' ', ' ', 0};
	static const uint8_t sync[] = {'S', 0, 0, 0, 4};
	if (ps->base.close_wanted || ps->base.state == SERVER_CLOSED)
		return;
	if (ps->copy == 'W') {
		server_close(&ps->base, "its client has gone in the midst of replication");
		return;
	}
	if (ps->copy == 'G' && !ps->copy_input_done) {
		ps->copy_input_done = true;
		if (!send_small(ps, copy_fail, sizeof copy_fail) || !send_small(ps, sync, sizeof sync))
			return;
		if (!push_hidden(ps, PG_REQ_SYNC, PG_TASK_SYNC))
			server_close(&ps->base, "out of memory");
		return;
	}
	if (ps->open_batch) {
		/* A batch without its Sync would never be answered; with it, it would be committed, which its client has not
		 * asked for. So it is made to fail first, unless it has. */
		ps->open_batch = false;
		if (!ps->batch_failed && (!send_small(ps, pg_failing_bind, sizeof pg_failing_bind)))
			return;
		if (!ps->batch_failed && !push_hidden(ps, PG_REQ_BIND, PG_TASK_SYNC)) {
			server_close(&ps->base, "out of memory");
			return;
		}
		if (send_small(ps, sync, sizeof sync) && !push_hidden(ps, PG_REQ_SYNC, PG_TASK_SYNC))
			server_close(&ps->base, "out of memory");
		return;
	}
	if (ps->queue.count > 0 || ps->passing > 0)
		return;
	worker_timeout_clear(ps->base.sw->worker, &ps->nudge);
	if (!list_empty(&ps->base.cancels)) /* it could hit what we send */
		return;
	if (ps->uncertain > 0) {
		pg_run(ps, PG_TASK_FENCE, "");
		return;
	}
	if (ps->status != 'I') {
		pg_run(ps, PG_TASK_ROLLBACK, "ROLLBACK");
		return;
	}
	const struct pool_config *config = database_view(ps->base.database, ps->base.sw->worker->id)->config;
	if (config->mode == POOL_MODE_SESSION && config->reset_sql && !ps->reset_done) {
		ps->reset_done = true;
		pg_run(ps, PG_TASK_RESET, config->reset_sql);
		return;
	}
	if (ps->reset_done && config->init_sql && !ps->init_done) { /* the reset has undone it */
		ps->init_done = true;
		pg_run(ps, PG_TASK_RESET, config->init_sql);
		return;
	}
	ps->recovering = false;
	server_recovered(&ps->base);
}

void pg_server_recover(struct server *server) {
	struct pg_server *ps = pg_server(server);
	if (ps->half_sent > 0) {
		server_close(server, "its client has gone in the midst of a message");
		return;
	}
	ps->recovering = true;
	ps->reset_done = ps->init_done = false;
	ps->replayable = false;
	disown(ps);
	pg_emit_virtual(ps);
	if (ps->queue.count > 0 && !ps->let_finish) {
		ps->nudge.expired = nudged;
		worker_timeout(server->sw->worker, &ps->nudge, NUDGE_NS);
	}
	pg_recover_step(ps);
}

void pg_server_uncancelled(struct server *server) {
	struct client *client = server->client;
	if (pg_server(server)->recovering) {
		pg_recover_step(pg_server(server));
	} else if (client) {
		deadline_uncancelled(server);
		if (!server->in_input && client->hold == HOLD_OUTCOME)
			client_resume(client);
	}
}

void pg_server_reset(struct server *server) {
	struct pg_server *ps = pg_server(server);
	ps->recovering = true;
	ps->reset_done = ps->init_done = false;
	pg_recover_step(ps);
}

void pg_server_validate(struct server *server, const char *sql) {
	static const uint8_t sync[] = {'S', 0, 0, 0, 4};
	struct pg_server *ps = pg_server(server);
	if (sql) {
		pg_run(ps, PG_TASK_VALIDATE, sql);
		return;
	}
	ps->task_failed = false; /* a Sync leaves no trace in the server's views and logs */
	if (send_small(ps, sync, sizeof sync) && !push_hidden(ps, PG_REQ_SYNC, PG_TASK_VALIDATE))
		server_close(server, "out of memory");
}

static void validated(struct pg_server *ps) {
	char text[400];
	if (ps->task_failed)
		snprintf(text, sizeof text, "validation_query failed: %s", ps->task_error);
	else
		snprintf(text, sizeof text, "validation_query leaves a transaction open");
	bool well = !ps->task_failed && ps->status == 'I';
	if (!well) {
		account_set_error(account_of(ps->base.conn.user), "", text);
		log_warning("validation_failed", LOG_FIELDS(LOG_TEXT("pool", ps->base.database->name)), "%s", text);
	}
	keepalive_answered(&ps->base, well ? NULL : text);
}

void pg_task_done(struct pg_server *ps, enum pg_task task) {
	struct server *server = &ps->base;
	char text[400];
	switch (task) {
	case PG_TASK_INIT:
		if (ps->task_failed) {
			snprintf(text, sizeof text, "init_sql failed: %s", ps->task_error);
			account_set_error(account_of(server->conn.user), ps->task_sqlstate, text);
			server_failed(server, SERVER_UNREACHABLE, text);
		} else {
			login_complete(ps);
		}
		return;
	case PG_TASK_UNTOUCH:
		untouched(ps);
		return;
	case PG_TASK_VALIDATE:
		validated(ps);
		return;
	case PG_TASK_SETTINGS:
		if (ps->recovering)
			pg_recover_step(ps);
		else
			settings_given(ps);
		return;
	case PG_TASK_ROLLBACK:
		if (ps->task_failed || ps->status != 'I') {
			snprintf(text, sizeof text, "its transaction could not be rolled back: %s", ps->task_error);
			server_close(server, text);
			return;
		}
		break;
	case PG_TASK_RESET:
		if (ps->task_failed) {
			snprintf(text, sizeof text, "reset_sql failed: %s", ps->task_error);
			log_warning("reset_failed", LOG_FIELDS(LOG_TEXT("pool", server->database->name)), "%s", text);
			server_close(server, text);
			return;
		}
		/* what it has put back its command tags have told */
		break;
	case PG_TASK_FENCE:
		ps->uncertain = 0;
		break;
	case PG_TASK_SYNC:
	case PG_TASK_ABORT:
	case PG_TASK_BEGIN: /* it has no ReadyForQuery of its own */
	case PG_TASK_NONE:
		break;
	}
	if (ps->recovering)
		pg_recover_step(ps);
}
