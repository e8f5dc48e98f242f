/* The MySQL side of session/protocol.h: puts login and relay together. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mysql/credential.h"
#include "mysql/internal.h"
#include "session/console.h"

/* ---- clients ---- */

static void client_begin(struct client *client) {
	if (!my_login_begin(my_client(client)))
		client_destroy(client, "out of memory");
}

static size_t client_input(struct client *client, const uint8_t *data, size_t len) {
	struct my_client *mc = my_client(client);

	return mc->login ? my_login_input(mc, data, len) : my_frontend_input(mc, data, len);
}

static void client_secured(struct client *client) {
	struct my_client *mc = my_client(client);

	if (mc->login)
		my_login_secured(mc);
}

/* The protocol has no packet that a server may send unasked. */
static void client_notice(struct client *client, const char *text) {
	(void)client, (void)text;
}

static void client_names(const struct client *client, const char **database, const char **user) {
	my_login_names((const struct my_client *)client, database, user);
}

static void client_free(struct client *client) {
	struct my_client *mc = my_client(client);

	my_login_free(mc);
	my_client_relay_free(mc);
	free(mc->start.schema);
	free(mc->start.program);
	mc->start.schema = mc->start.program = NULL;
}

static void client_describe(const struct client *client, struct console_details *details) {
	const struct my_client *mc = (const struct my_client *)client;

	snprintf(details->application_name, sizeof details->application_name, "%s",
		 mc->start.program ? mc->start.program : "");
	my_client_relay_describe(mc, details);
}

/* ---- servers ---- */

static void server_begin(struct server *server) {
	struct my_server *ms = my_server(server);

	if (!my_server_relay_begin(ms) || !my_server_login_begin(ms))
		server_failed(server, SERVER_UNREACHABLE, "out of memory");
}

static void server_secured(struct server *server) {
	struct my_server *ms = my_server(server);

	if (ms->login)
		my_server_login_secured(ms);
}

static size_t server_input(struct server *server, const uint8_t *data, size_t len) {
	struct my_server *ms = my_server(server);
	size_t used = 0;

	if (ms->login) {
		used = my_server_login_input(ms, data, len);
		if (ms->login || used == len || server->close_wanted)
			return used;
	}
	return used + my_backend_input(ms, data + used, len - used);
}

static void server_goodbye(struct server *server) {
	if (!my_server(server)->login)
		my_server_goodbye(server);
}

static void server_free(struct server *server) {
	struct my_server *ms = my_server(server);

	my_server_login_free(ms);
	my_server_relay_free(ms);
	/* a connection of one client's own is opened anew in the same struct */
	memset((uint8_t *)ms + sizeof ms->base, 0, sizeof *ms - sizeof ms->base);
}

static void server_describe(const struct server *server, struct console_details *details) {
	const struct my_server *ms = (const struct my_server *)server;

	details->backend_pid = ms->facts.thread_id;
	my_server_relay_describe(ms, details);
}

/* ---- each worker's ---- */

static void *worker_new(struct session_worker *sw) {
	struct my_worker *worker = calloc(1, sizeof *worker);

	(void)sw;
	if (!worker)
		return NULL;
	my_logins_init(&worker->logins);
	if (my_relay_worker_init(&worker->relay))
		return worker;
	slab_free(&worker->logins);
	free(worker);
	return NULL;
}

static void worker_free(void *state) {
	struct my_worker *worker = state;

	my_relay_worker_free(&worker->relay);
	slab_free(&worker->logins);
	free(worker);
}

static void credential_unref(void *credential) {
	my_credential_unref(credential);
}

/* What a backend says of itself counts for its whole pool, not for one user: none is ever set. */
static void welcome_unref(void *welcome) {
	(void)welcome;
}

static void *credential_fixed(const char *user, const char *password) {
	(void)user;
	return my_credential_new(password);
}

const struct protocol mysql_protocol = {
	.name = "mysql",
	.id = PROTOCOL_MYSQL,
	.client_size = sizeof(struct my_client),
	.server_size = sizeof(struct my_server),
	.cancel_size = sizeof(struct my_cancel),
	.unix_name_format = NULL,
	.listener_setup = my_listener_setup,
	.listener_free = my_listener_free,
	.pool_setup = my_pool_setup,
	.pool_free = my_pool_free,
	.client_begin = client_begin,
	.client_input = client_input,
	.client_secured = client_secured,
	.client_linked = my_client_linked,
	.client_refuse = my_client_refuse,
	.client_notice = client_notice,
	.client_cancel = my_client_killed,
	.client_activity = my_client_activity,
	.client_cut = my_client_cut,
	.client_roll_back = my_client_roll_back,
	.client_names = client_names,
	.client_free = client_free,
	.client_describe = client_describe,
	.server_begin = server_begin,
	.server_secured = server_secured,
	.server_input = server_input,
	.server_clean = my_server_clean,
	.server_busy = my_server_busy,
	.server_at_work = my_server_at_work,
	.server_use = my_server_use,
	.server_statements = my_server_statements,
	.server_recover = my_server_recover,
	.server_reset = my_server_reset,
	.server_uncancelled = my_server_uncancelled,
	.server_validate = my_server_validate,
	.server_goodbye = server_goodbye,
	.server_moving = my_server_moving,
	.server_free = server_free,
	.server_describe = server_describe,
	.worker_new = worker_new,
	.worker_free = worker_free,
	.cancel_begin = my_cancel_begin,
	.cancel_input = my_cancel_input,
	.cancel_secured = my_cancel_secured,
	.cancel_free = my_cancel_free,
	.credential_unref = credential_unref,
	.welcome_unref = welcome_unref,
	.credential_fixed = credential_fixed,
};
