/* The PostgreSQL side of session/protocol.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "pgsql/credential.h"
#include "pgsql/pgsql.h"
#include "session/console.h"
#include "session/meter.h"

/* ---- errors to clients ---- */

bool pg_send_error(struct client *client, const char *severity, const char *sqlstate, const char *message,
		   const char *hint) {
	meter_error(client, sqlstate);
	struct buf out = {0};
	struct buf_cache *cache = client->sw->worker->buffers;
	struct pg_error_fields fields = {
		.severity = severity, .sqlstate = sqlstate, .message = message, .hint = hint};
	bool ok = pg_put_error(cache, &out, 'E', &fields) && client_write(client, buf_bytes(&out), buf_len(&out));
	buf_release(cache, &out);
	return ok;
}

void pg_send_parameter(struct client *client, const char *name, const char *value) {
	struct pg_builder b = pg_builder(client->sw->worker->buffers);
	pg_open(&b, 'S');
	pg_cstr(&b, name);
	pg_cstr(&b, value);
	pg_close(&b);
	if (b.ok)
		client_write(client, buf_bytes(&b.buf), buf_len(&b.buf));
	pg_builder_release(&b);
}

static const char *sqlstate_of(struct client *client, enum refusal why, char room[6]) {
	switch (why) {
	case REFUSAL_TIMEOUT:
	case REFUSAL_QUEUE_FULL:
	case REFUSAL_TOO_MANY:
		return "53300"; /* too_many_connections */
	case REFUSAL_UNAVAILABLE: {
		char text[8];
		if (client->user) {
			account_get_error(account_of(client->user), room, text, sizeof text);
			if (room[0])
				return room;
		}
		return "08006"; /* connection_failure */
	}
	case REFUSAL_SHUTDOWN:
	case REFUSAL_KILLED:
		return "57P01"; /* admin_shutdown */
	case REFUSAL_LOGIN_TIMEOUT:
		return "08006";
	case REFUSAL_BACKEND_LOST:
		return "08006";
	case REFUSAL_CANCELLED:
		return "57014"; /* query_canceled */
	case REFUSAL_MODE:
		return "0A000"; /* feature_not_supported */
	case REFUSAL_IDLE_TIMEOUT:
		return "57P05"; /* idle_session_timeout */
	case REFUSAL_QUERY_TIMEOUT:
		return "57014"; /* query_canceled */
	case REFUSAL_TRANSACTION_TIMEOUT:
		return "25P04"; /* transaction_timeout */
	case REFUSAL_IDLE_TRANSACTION_TIMEOUT:
	case REFUSAL_LEAK:
		return "25P03"; /* idle_in_transaction_session_timeout */
	case REFUSAL_INTERNAL:
		break;
	}
	return "58000"; /* system_error */
}

void pg_refuse(struct pg_client *pc, const char *text) {
	pc->refused = true;
	if (pc->base.begin_deferred && !pg_aborted_begin(pc, "", text, true))
		client_end(&pc->base, REFUSAL_INTERNAL, "out of memory");
}

static void client_refuse(struct client *client, enum refusal why, const char *text, bool fatal) {
	struct pg_client *pc = pg_client(client);
	char room[6] = "";
	const char *sqlstate = sqlstate_of(client, why, room);
	/* Before the start-up message has come in the client could take it for an answer to SSLRequest: it may. */
	if (pc->welcome_pending)
		fatal = true;
	if (!pc->told_fatal && !pc->mid_message)
		pg_send_error(client, fatal ? "FATAL" : "ERROR", sqlstate, text, NULL);
	if (!fatal) {
		pg_refuse(pc, text);
		return;
	}
	pc->told_fatal = true;
	if (pc->welcome_pending) {
		pc->welcome_pending = false;
		client_close(client, text);
	}
}

static void client_notice(struct client *client, const char *text) {
	struct buf out = {0};
	struct buf_cache *cache = client->sw->worker->buffers;
	struct pg_error_fields fields = {.severity = "NOTICE", .sqlstate = "00000", .message = text};
	const struct pg_client *pc = pg_client(client);
	if (!pc->mid_message && !pc->told_fatal && pg_put_error(cache, &out, 'N', &fields))
		client_write(client, buf_bytes(&out), buf_len(&out));
	buf_release(cache, &out);
}

/* ---- clients ---- */

static void client_begin(struct client *client) {
	struct pg_client *pc = pg_client(client);
	pc->settings = settings_empty();
	pc->startup = settings_empty();
	pc->before = settings_empty();
	if (!pc->settings || !pg_login_begin(pc))
		client_destroy(client, "out of memory");
}

static size_t client_input(struct client *client, const uint8_t *data, size_t len) {
	struct pg_client *pc = pg_client(client);
	if (pc->login)
		return pg_login_input(pc, data, len);
	if (pc->console)
		return pg_console_input(pc, data, len);
	if (pc->welcome_pending) /* nothing is asked before the welcome */
		return 0;
	return pg_frontend_input(pc, data, len);
}

static void client_secured(struct client *client) {
	struct pg_client *pc = pg_client(client);
	if (pc->login)
		pg_login_secured(pc);
}

static void client_cancel(struct client *client) {
	pg_console_cancel(pg_client(client));
}

static void client_names(const struct client *client, const char **database, const char **user) {
	pg_login_names((const struct pg_client *)client, database, user);
}

static void client_free(struct client *client) {
	struct pg_client *pc = pg_client(client);
	pg_login_free(pc);
	pg_console_free(pc);
	pg_names_free(&pc->names);
	pg_text_unref(pc->portal);
	pc->portal = NULL;
	settings_unref(pc->settings);
	settings_unref(pc->startup);
	settings_unref(pc->before);
	settings_unref(pc->begun);
	pc->settings = pc->startup = pc->before = pc->begun = NULL;
	pg_aborted_free(pc);
	free(pc->reset_name);
	pc->reset_name = NULL;
}

static void client_describe(const struct client *client, struct console_details *details) {
	const struct pg_client *pc = (const struct pg_client *)client;
	const struct setting *name = pc->settings ? settings_find(pc->settings, "application_name") : NULL;
	snprintf(details->application_name, sizeof details->application_name, "%s", name ? name->value : "");
	details->prepared_statements = HASH_COUNT(pc->names.by_name);
	if (pc->replication != PG_REPLICATION_NONE)
		details->replication = pc->replication == PG_REPLICATION_LOGICAL ? "logical" : "physical";
}

/* ---- servers ---- */

static void server_begin(struct server *server) {
	struct pg_server *ps = pg_server(server);
	pg_statements_init(&ps->statements);
	ps->settings = settings_empty();
	if (!ps->settings || !pg_server_login_begin(ps))
		server_failed(server, SERVER_UNREACHABLE, "out of memory");
}

static void server_secured(struct server *server) {
	struct pg_server *ps = pg_server(server);
	if (ps->login)
		pg_server_login_secured(ps);
}

static size_t server_input(struct server *server, const uint8_t *data, size_t len) {
	struct pg_server *ps = pg_server(server);
	size_t used = 0;
	if (ps->login) {
		used = pg_server_login_input(ps, data, len);
		if (ps->login || used == len || server->close_wanted)
			return used;
	}
	return used + pg_backend_input(ps, data + used, len - used);
}

static bool server_busy(const struct server *server) {
	return ((const struct pg_server *)server)->queue.count > 0;
}

/* Whether the next step is the client's alone. What waits in a batch for a Flush or Sync may be at work: in use. */
static enum server_use server_use(const struct server *server) {
	const struct pg_server *ps = (const struct pg_server *)server;
	/* what it has not taken yet is its own to read: its client may be held up by that */
	if (ps->login || ps->passing > 0 || ps->uncertain > 0 || stream_pending(&server->stream) > 0)
		return SERVER_IN_USE;
	if (ps->half_sent > 0)
		return SERVER_HELD_MESSAGE;
	if (ps->copy == 'G' && !ps->copy_input_done)
		return SERVER_HELD_COPY;
	if (ps->queue.count > 0 || ps->copy)
		return SERVER_IN_USE;
	if (ps->status == 'E')
		return SERVER_HELD_FAILED;
	if (ps->status == 'T')
		return SERVER_HELD_TRANSACTION;
	return ps->open_batch ? SERVER_HELD_BATCH : SERVER_HELD_SESSION;
}

_Static_assert(STATEMENT_SHOWN_MAX >= PG_SAID_MAX + 4, "no room for \"...\" and a zero");

static void server_statements(const struct server *server, enum statement_text as, struct server_statements *out) {
	const struct pg_server *ps = (const struct pg_server *)server;
	out->since_ns = ps->said_count ? ps->transaction_since_ns : 0;
	if (!ps->said_count)
		return;
	pg_said_show(&ps->said[0], as, out->first, sizeof out->first);
	pg_said_show(&ps->said[ps->said_count - 1], as, out->last, sizeof out->last);
}

static void server_moving(struct server *server) {
	struct pg_server *ps = pg_server(server);
	pg_statements_lose_unnamed(&ps->statements);
	buf_release(server->sw->worker->buffers, &ps->replay);
	worker_timeout_clear(server->sw->worker, &ps->nudge);
}

static void server_goodbye(struct server *server) {
	static const uint8_t terminate[] = {'X', 0, 0, 0, 4};
	const struct pg_server *ps = pg_server(server);
	if (ps->half_sent == 0 && !ps->login)
		server_write(server, terminate, sizeof terminate);
}

static void server_free(struct server *server) {
	struct pg_server *ps = pg_server(server);
	pg_server_login_free(ps);
	worker_timeout_clear(server->sw->worker, &ps->nudge);
	pg_queue_free(&ps->queue);
	if (ps->settings) /* server_begin() has been here */
		pg_statements_clear(&ps->statements);
	settings_unref(ps->settings);
	settings_unref(ps->defaults);
	buf_release(server->sw->worker->buffers, &ps->replay);
	/* a connection of one client's own is opened anew in the same struct */
	memset((uint8_t *)ps + sizeof ps->base, 0, sizeof *ps - sizeof ps->base);
}

static void server_describe(const struct server *server, struct console_details *details) {
	const struct pg_server *ps = (const struct pg_server *)server;
	const struct setting *name = ps->settings ? settings_find(ps->settings, "application_name") : NULL;
	snprintf(details->application_name, sizeof details->application_name, "%s", name ? name->value : "");
	details->prepared_statements = ps->statements.count;
	details->backend_pid = ps->backend_pid;
}

/* ---- each worker's ---- */

static void *worker_new(struct session_worker *sw) {
	(void)sw;
	struct pg_worker *worker = calloc(1, sizeof *worker);
	if (worker)
		pg_logins_init(&worker->logins);
	return worker;
}

static void worker_free(void *state) {
	struct pg_worker *worker = state;
	pg_greetings_clear(&worker->greetings);
	slab_free(&worker->logins);
	free(state);
}

static void credential_unref(void *credential) {
	pg_credential_unref(credential);
}

static void welcome_unref(void *welcome) {
	settings_unref(welcome);
}

static void *credential_fixed(const char *user, const char *password) {
	return pg_credential_new(user, password);
}

const struct protocol pgsql_protocol = {
	.name = "postgresql",
	.id = PROTOCOL_POSTGRESQL,
	.client_size = sizeof(struct pg_client),
	.server_size = sizeof(struct pg_server),
	.cancel_size = sizeof(struct pg_cancel),
	.unix_name_format = ".s.PGSQL.%d",
	.listener_setup = pg_listener_setup,
	.listener_free = pg_listener_free,
	.client_begin = client_begin,
	.client_input = client_input,
	.client_secured = client_secured,
	.client_linked = pg_client_linked,
	.client_refuse = client_refuse,
	.client_notice = client_notice,
	.client_cancel = client_cancel,
	.client_activity = pg_client_activity,
	.client_cut = pg_client_cut,
	.client_roll_back = pg_client_roll_back,
	.client_names = client_names,
	.client_free = client_free,
	.client_describe = client_describe,
	.server_begin = server_begin,
	.server_secured = server_secured,
	.server_input = server_input,
	.server_clean = pg_server_clean,
	.server_busy = server_busy,
	.cancel_ends_by_close = true,
	.server_use = server_use,
	.server_statements = server_statements,
	.server_recover = pg_server_recover,
	.server_reset = pg_server_reset,
	.server_validate = pg_server_validate,
	.server_uncancelled = pg_server_uncancelled,
	.server_goodbye = server_goodbye,
	.server_moving = server_moving,
	.server_free = server_free,
	.server_describe = server_describe,
	.cancel_begin = pg_cancel_begin,
	.cancel_input = pg_cancel_input,
	.cancel_secured = pg_cancel_secured,
	.credential_unref = credential_unref,
	.welcome_unref = welcome_unref,
	.credential_fixed = credential_fixed,
	.worker_new = worker_new,
	.worker_free = worker_free,
};
