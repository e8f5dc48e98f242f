/*
 * A server between its clients: given the next client's session, reset of what the last one has left, recovered after a
 * client that vanished.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "mysql/backend.h"
#include "mysql/state.h"
#include "session/deadline.h"
#include "session/keepalive.h"

/* What a client that vanished in the midst of a request leaves running may end by itself before it is cancelled. */
#define NUDGE_NS (50 * NS_PER_MS)

static const struct pool_config *config_of(const struct my_server *ms) {
	return database_view(ms->base.database, ms->base.sw->worker->id)->config;
}

static bool usable(const struct my_server *ms) {
	return ms->base.state != SERVER_CLOSED && !ms->base.close_wanted;
}

/* ---- login's end ---- */

static void hold_over(struct timeout *timeout, uint64_t now_ns);
static void nudged(struct timeout *timeout, uint64_t now_ns);

bool my_server_relay_begin(struct my_server *ms) {
	struct my_server_relay *s = &ms->relay;
	my_prepareds_init(&s->prepareds);
	s->hold.expired = hold_over;
	s->nudge.expired = nudged;
	s->has = settings_empty();
	s->fresh = settings_empty();
	return true;
}

static void set_up(struct my_server *ms) {
	struct my_server_relay *s = &ms->relay;
	settings_unref(s->fresh);
	s->fresh = settings_ref(s->has);
	s->setting_up = s->init_under_way = false;
	s->touched = s->unknown = s->warnings = false;
	s->insert_id = 0;
	s->insert_id_known = true;
	server_ready(&ms->base);
}

void my_server_logged_in(struct my_server *ms) {
	struct server *server = &ms->base;
	struct my_server_relay *s = &ms->relay;
	account_set_error(account_of(server->conn.user), "", "");
	server->admitted = true;
	/* the schema that it has logged in with */
	if (!(ms->facts.capabilities & MY_CLIENT_DEPRECATE_EOF)) {
		server_failed(server, SERVER_REFUSED,
			      "the backend is too old: it has no CLIENT_DEPRECATE_EOF, which came with MySQL 5.7 and MariaDB 10.2");
		return;
	}
	struct settings *start = my_settings_start(ms->collation, config_of(ms)->database);
	if (!start) {
		server_failed(server, SERVER_UNREACHABLE, "out of memory");
		return;
	}
	settings_unref(s->has);
	s->has = start;
	s->status = ms->facts.status;
	s->multi = ms->facts.capabilities & MY_CLIENT_MULTI_STATEMENTS;
	s->no_trackers = !(ms->facts.capabilities & MY_CLIENT_SESSION_TRACK);
	s->setting_up = true;
	server->state = SERVER_SETUP;
	/* where there are none, the answer is an error, and sessions are pooled whole */
	if (my_ask_sql(ms, MY_TASK_IDENTITY, my_identity_sql))
		my_ask_sql(ms, MY_TASK_TRACKERS, my_trackers_sql);
}

static void setup_step(struct my_server *ms) {
	struct my_server_relay *s = &ms->relay;
	const char *init_sql = config_of(ms)->init_sql;
	char text[400];
	if (!s->init_under_way) {
		if (s->task_failed)
			s->no_trackers = true;
		if (s->no_trackers)
			log_warning("no_session_trackers",
				    LOG_FIELDS(LOG_TEXT("pool", ms->base.database->name),
					       LOG_TEXT("server", ms->base.host_text)),
				    "the backend does not tell of its session's changes (session_track_...): each client keeps "
				    "its connection until it leaves, as with pool_mode = session");
		s->init_under_way = true;
		if (init_sql && !ms->base.dedicated) {
			my_ask_sql(ms, MY_TASK_INIT, init_sql);
			return;
		}
	}
	if (init_sql && s->task_failed && !ms->base.dedicated) {
		snprintf(text, sizeof text, "init_sql failed: %s", s->task_error);
		account_set_error(account_of(ms->base.conn.user), s->task_sqlstate, text);
		server_failed(&ms->base, SERVER_UNREACHABLE, text);
		return;
	}
	if (s->learn_charsets) { /* init_sql has changed them */
		my_learn(ms);
		return;
	}
	set_up(ms);
}

/* ---- reset ---- */

/* As after login, in one round trip. */
static void send_reset(struct my_server *ms) {
	const char *init_sql = config_of(ms)->init_sql;
	if (!my_ask(ms, MY_TASK_RESET, MY_ASKED_SIMPLE, MY_COM_RESET_CONNECTION, "", 0))
		return;
	if (!my_back_to_fresh(ms)) {
		server_close(&ms->base, "out of memory");
		return;
	}
	if (!ms->relay.no_trackers && !my_ask_sql(ms, MY_TASK_TRACKERS, my_trackers_sql))
		return;
	if (init_sql)
		my_ask_sql(ms, MY_TASK_INIT, init_sql);
}

/* ---- for a client ---- */

static void adopt(struct my_client *mc, struct my_server *ms) {
	settings_unref(mc->relay.wants);
	mc->relay.wants = settings_ref(ms->relay.has);
	mc->relay.status = ms->relay.status;
}

/* Where this set is, or would be, remembered as proven: there or in the place behind it. */
static size_t place_of(const struct my_server *ms) {
	uintptr_t set = (uintptr_t)ms->relay.has;
	return (size_t)((set >> 4 ^ account_of(ms->base.conn.user)->serial * 31) % (MY_PROVEN / 2)) * 2;
}

static bool is_proven(const struct my_server *ms) {
	const struct my_worker_relay *worker = &my_worker(ms->base.sw)->relay;
	size_t at = place_of(ms);
	for (size_t i = at; i < at + 2; i++)
		if (worker->proven[i].set == ms->relay.has &&
		    worker->proven[i].account == account_of(ms->base.conn.user)->serial)
			return true;
	return false;
}

/* Two sets may take turns, wherever chance has put them. */
static void prove(struct my_server *ms) {
	struct my_worker_relay *worker = &my_worker(ms->base.sw)->relay;
	size_t at = place_of(ms);
	if (is_proven(ms))
		return;
	settings_unref(worker->proven[at + 1].set);
	worker->proven[at + 1] = worker->proven[at];
	worker->proven[at].set = settings_ref(ms->relay.has);
	worker->proven[at].account = account_of(ms->base.conn.user)->serial;
}

static bool same_schema(const struct settings *a, const struct settings *b) {
	const char *x = my_settings_schema(a), *y = my_settings_schema(b);
	return x == y || (x && y && strcmp(x, y) == 0);
}

/*
 * The next step towards the client's session. True: the server holds it, or will before it comes to the client's command:
 * that is so for variables that it has taken before. A schema may have been dropped meanwhile, and then the command would
 * run in another one: that is waited for.
 */
static bool prepare(struct my_client *mc, struct my_server *ms) {
	struct my_server_relay *s = &ms->relay;
	bool schema_stays = same_schema(s->has, mc->relay.wants);
	enum my_given given = my_give(ms, mc->relay.wants);
	if (given == MY_CANNOT_GIVE) {
		server_close(&ms->base, "it has a current schema, and its next client has none");
		return false;
	}
	if (given == MY_GIVE_FAILED)
		return false;
	if (s->multi != mc->relay.multi) {
		const uint8_t option[] = {mc->relay.multi ? MY_OPTION_MULTI_STATEMENTS_ON : MY_OPTION_MULTI_STATEMENTS_OFF, 0};
		if (!my_ask(ms, MY_TASK_OPTION, MY_ASKED_SIMPLE, MY_COM_SET_OPTION, option, sizeof option))
			return false;
		s->multi = mc->relay.multi;
	}
	if (given == MY_GIVING && !(schema_stays && is_proven(ms)))
		return false;
	adopt(mc, ms);
	s->preparing = false;
	mc->relay.begun = true;
	return true;
}

bool my_client_linked(struct client *client, struct server *server) {
	struct my_client *mc = my_client(client);
	struct my_server *ms = my_server(server);
	struct my_server_relay *s = &ms->relay;
	bool another = server->last_client != 0 && server->last_client != client->id;
	server->last_client = client->id;
	s->said_count = 0;
	s->preparing = true;
	s->warnings_foreign = s->warnings && (another || s->warnings_foreign);
	s->transaction_since_ns = client->sw->worker->now_ns;
	if (s->no_trackers) {
		mc->relay.pins = pin_add(client, mc->relay.pins, PIN_NO_TRACKERS);
		server->one_client = true; /* a reset would leave the schema that USE has chosen, and nobody knows which */
	}
	worker_timeout_clear(server->sw->worker, &s->hold); /* that of its client before */
	s->shared |= another;
	s->count_foreign |= another;
	if (s->unknown || s->learn_charsets || (another && s->touched)) {
		send_reset(ms);
		return false;
	}
	if (another && s->warnings && !my_clear_warnings(ms)) /* what asks for them may be a routine, which no text tells */
		return false;
	if (another && !s->insert_id_known) { /* its client left before that was learnt */
		if (!my_ask_sql(ms, MY_TASK_INSERT_ID, "SET last_insert_id=0"))
			return false;
		s->insert_id = 0;
		s->insert_id_known = true;
	}
	return prepare(mc, ms);
}

bool my_prepare_again(struct my_client *mc, struct my_server *ms) {
	ms->relay.preparing = true;
	mc->base.hold = HOLD_PREPARE;
	worker_timeout(ms->base.sw->worker, &ms->base.timeout, config_of(ms)->connect_timeout);
	send_reset(ms);
	return usable(ms);
}

/* Its request gets this error; one that has no answer gets none. */
static void refuse(struct my_client *mc, const struct my_server_relay *s, const char *text) {
	if (!mc->relay.silent)
		my_send_error(mc, s->task_code, s->task_sqlstate, text);
	my_refused(mc, text);
}

/* Its request gets the server's error, and so will the next unless it asks for something else. */
static void prepare_failed(struct my_client *mc, struct my_server *ms) {
	struct my_server_relay *s = &ms->relay;
	char text[400];
	snprintf(text, sizeof text, "this session's state cannot be restored on the server: %s", s->task_error);
	s->preparing = false;
	if (s->refuse_schema && !mc->relay.begun) { /* as a login that names it */
		my_send_error(mc, s->task_code, s->task_sqlstate, s->task_error);
		mc->told_fatal = true;
		s->refuse_schema = false;
		client_close(&mc->base, s->task_error);
		server_close(&ms->base, "its client's schema is not there");
		return;
	}
	if (!server_untouched(&ms->base) && (mc->base.keeps_server || s->status & MY_STATUS_IN_TRANS)) {
		/* a reset would take away what it holds there, and none would tell it */
		client_end(&mc->base, REFUSAL_BACKEND_LOST, text);
		return;
	}
	refuse(mc, s, text);
	if (s->refuse_schema) { /* gone meanwhile: it has none from now on, unless it was a statement's alone */
		struct settings *without = same_schema(s->has, mc->relay.wants)
						   ? settings_with(mc->relay.wants, MY_SCHEMA_SETTING, NULL, true)
						   : NULL;
		if (without) {
			settings_unref(mc->relay.wants);
			mc->relay.wants = without;
		}
		s->refuse_schema = false;
		server_close(&ms->base, "its client's schema is not there"); /* which one it has now is not known */
		return;
	}
	s->unknown = true;
	client_resume(&mc->base);
}

static void prepare_step(struct my_server *ms) {
	struct client *client = ms->base.client;
	if (!client)
		return;
	struct my_client *mc = my_client(client);
	if (ms->relay.task_failed) {
		prepare_failed(mc, ms);
		return;
	}
	prove(ms);
	if (prepare(mc, ms))
		client_resume(client);
}

/* ---- recovery ---- */

bool my_server_clean(const struct server *server) {
	const struct my_server *ms = (const struct my_server *)server;
	const struct my_server_relay *s = &ms->relay;
	return !ms->login && s->count == 0 && s->passing == 0 && s->half_sent == 0 && !s->half_more && !s->file &&
	       !(s->status & MY_STATUS_IN_TRANS) && !s->characteristics && !my_must_learn(ms) &&
	       (server->client || !(s->touched || s->unknown || s->learn_charsets));
}

bool my_server_busy(const struct server *server) {
	return ((const struct my_server *)server)->relay.count > 0;
}

static void nudged(struct timeout *timeout, uint64_t now_ns) {
	(void)now_ns;
	struct my_server *ms = container_of(timeout, struct my_server, relay.nudge);
	if (ms->relay.recovering && ms->relay.count > 0)
		cancel_server(&ms->base);
}

static void recover_step(struct my_server *ms) {
	struct my_server_relay *s = &ms->relay;
	if (!usable(ms) || s->count > 0 || s->passing > 0)
		return;
	worker_timeout_clear(ms->base.sw->worker, &s->nudge);
	if (!list_empty(&ms->base.cancels)) /* it could hit what we send */
		return;
	if (ms->base.one_client) { /* which closes it */
		s->recovering = false;
		server_recovered(&ms->base);
	} else if (s->touched || s->unknown || s->learn_charsets || s->characteristics) {
		send_reset(ms);
	} else if (s->status & MY_STATUS_IN_TRANS) {
		my_ask_sql(ms, MY_TASK_ROLLBACK, my_rollback_sql);
	} else {
		s->recovering = false;
		server_recovered(&ms->base);
	}
}

void my_server_recover(struct server *server) {
	struct my_server *ms = my_server(server);
	struct my_server_relay *s = &ms->relay;
	worker_timeout_clear(server->sw->worker, &s->hold);
	if (s->half_sent > 0 || s->half_more) {
		server_close(server, "its client has gone in the midst of a command");
		return;
	}
	if (s->file) { /* whatever ended it would have the server keep what has come */
		server_close(server, "its client has gone in the midst of a file (LOAD DATA LOCAL)");
		return;
	}
	s->recovering = true;
	s->preparing = s->learning = false;
	for (uint8_t i = 0; i < s->count; i++)
		s->queue[(s->head + i) % MY_QUEUE].statement = NULL;
	if (my_prepareds_held(&s->prepareds)) /* a cursor is still open */
		s->touched = true;
	if (s->count > 0)
		worker_timeout(server->sw->worker, &s->nudge, NUDGE_NS);
	recover_step(ms);
}

void my_server_reset(struct server *server) {
	struct my_server *ms = my_server(server);
	worker_timeout_clear(server->sw->worker, &ms->relay.hold);
	ms->relay.recovering = true;
	ms->relay.touched = true;
	recover_step(ms);
}

void my_server_uncancelled(struct server *server) {
	struct client *client = server->client;
	if (my_server(server)->relay.recovering) {
		recover_step(my_server(server));
	} else if (client) {
		deadline_uncancelled(server);
		if (!server->in_input && client->hold == HOLD_OUTCOME)
			client_resume(client);
	}
}

/* ---- trials ---- */

void my_server_validate(struct server *server, const char *sql) {
	struct my_server *ms = my_server(server);
	if (sql) {
		ms->relay.touched = true; /* it can be anything */
		my_ask_sql(ms, MY_TASK_VALIDATE, sql);
	} else {
		my_ask(ms, MY_TASK_VALIDATE, MY_ASKED_SIMPLE, MY_COM_PING, "", 0);
	}
}

static void validated(struct my_server *ms) {
	char text[400];
	bool open = ms->relay.status & MY_STATUS_IN_TRANS;
	if (ms->relay.task_failed)
		snprintf(text, sizeof text, "validation_query failed: %s", ms->relay.task_error);
	else
		snprintf(text, sizeof text, "validation_query leaves a transaction open");
	bool well = !ms->relay.task_failed && !open;
	if (!well) {
		account_set_error(account_of(ms->base.conn.user), "", text);
		log_warning("validation_failed", LOG_FIELDS(LOG_TEXT("pool", ms->base.database->name)), "%s", text);
	}
	keepalive_answered(&ms->base, well ? NULL : text);
}

/* ---- the end of what we asked ---- */

void my_task_over(struct my_server *ms, const struct my_request *r, bool failed) {
	struct my_server_relay *s = &ms->relay;
	char text[400];
	if (!usable(ms))
		return;
	if (failed && !s->setting_up && (r->task == MY_TASK_RESET || r->task == MY_TASK_TRACKERS || r->task == MY_TASK_INIT ||
					 r->task == MY_TASK_ROLLBACK || r->task == MY_TASK_INSERT_ID || r->task == MY_TASK_CLEAR)) {
		snprintf(text, sizeof text, "its session could not be put back: %s", s->task_error);
		server_close(&ms->base, text);
		return;
	}
	if (r->task == MY_TASK_SCHEMA && failed && !s->preparing) { /* its client has gone: which schema it has is not known */
		server_close(&ms->base, "its schema could not be set");
		return;
	}
	if (r->task == MY_TASK_SCHEMA && failed)
		s->refuse_schema = true;
	if ((r->task == MY_TASK_SETTINGS || r->task == MY_TASK_OPTION) && failed) {
		s->unknown = true;
		if (!s->preparing && ms->base.client) { /* the client's command is on its way behind it */
			snprintf(text, sizeof text, "its client's session could not be restored: %s", s->task_error);
			server_close(&ms->base, text);
			return;
		}
	}
	if (r->task == MY_TASK_LEARN)
		my_learnt(ms);
	/* the client's misfortune: it is told as of its own. Not so where what went ahead of it has failed */
	if (r->task == MY_TASK_PREPARE && failed && s->failed_task == MY_TASK_PREPARE && ms->base.client) {
		s->task_failed = false;
		refuse(my_client(ms->base.client), s, s->task_error);
	}
	if (r->task == MY_TASK_INIT && !s->setting_up) /* as at the beginning, when that was learnt */
		s->learn_charsets = false;
	if (!usable(ms) || s->count > 0)
		return;
	if (r->task == MY_TASK_VALIDATE)
		validated(ms);
	else if (s->setting_up)
		setup_step(ms);
	else if (s->recovering)
		recover_step(ms);
	else if (s->preparing)
		prepare_step(ms);
}

void my_recover_goes_on(struct my_server *ms) {
	if (ms->relay.recovering)
		recover_step(ms);
}

/* ---- warnings ---- */

/* The client has not asked for its warnings: it had its time. */
static void hold_over(struct timeout *timeout, uint64_t now_ns) {
	(void)now_ns;
	struct my_server *ms = container_of(timeout, struct my_server, relay.hold);
	struct client *client = ms->base.client;
	if (!client || ms->relay.recovering)
		return;
	struct my_client *mc = my_client(client);
	mc->relay.pins = pin_drop(client, mc->relay.pins, 1u << PIN_WARNINGS);
	my_settle(mc, ms);
}

void my_settle(struct my_client *mc, struct my_server *ms) {
	if (!usable(ms) || ms->base.client != &mc->base || ms->relay.count > 0 || ms->relay.preparing)
		return;
	if (my_must_learn(ms) && !ms->relay.half_sent && !ms->relay.half_more)
		my_learn(ms);
	else
		server_maybe_release(&ms->base);
}

/* ---- the end ---- */

void my_server_goodbye(struct server *server) {
	static const uint8_t quit[] = {1, 0, 0, 0, MY_COM_QUIT};
	const struct my_server_relay *s = &my_server(server)->relay;
	if (s->half_sent == 0 && !s->half_more && !s->file)
		server_write(server, quit, sizeof quit);
}

void my_server_moving(struct server *server) {
	struct my_server_relay *s = &my_server(server)->relay;
	worker_timeout_clear(server->sw->worker, &s->nudge);
	worker_timeout_clear(server->sw->worker, &s->hold);
}

void my_server_relay_free(struct my_server *ms) {
	struct my_server_relay *s = &ms->relay;
	worker_timeout_clear(ms->base.sw->worker, &s->nudge);
	worker_timeout_clear(ms->base.sw->worker, &s->hold);
	if (!s->has)
		return;
	for (uint8_t i = 0; i < s->count; i++)
		my_text_unref(s->queue[(s->head + i) % MY_QUEUE].text);
	my_prepareds_clear(&s->prepareds);
	settings_unref(s->has);
	settings_unref(s->fresh);
	s->has = s->fresh = NULL;
}
