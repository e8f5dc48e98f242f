/*
 * Logging in to a backend: the machine of dial.h on a server's connection, with TLS as the pool asks for it. What the
 * server has said of itself is kept for the greeting of clients.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "mysql/dial.h"
#include "mysql/internal.h"
#include "mysql/template.h"
#include "net/worker.h"

struct my_server_login {
	struct my_dial dial;
	bool tls_turned; /* tls_mode = allow: with TLS this time */
	char user[MY_USER_MAX + 1];
	char *schema, *program; /* copies: the configuration may be replaced meanwhile */
};

static struct database_view *view_of(const struct my_server *server) {
	return database_view(server->base.database, server->base.sw->worker->id);
}

static void *ref_credential(void *credential) {
	return my_credential_ref(credential);
}

/* ---- ends ---- */

static void fail_memory(struct my_server *server) {
	server_failed(&server->base, SERVER_UNREACHABLE, "out of memory while logging in");
}

/* With `allow`, a refusal may mean that the server wants TLS of this user: the next attempt is made with it; and when that
 * one is refused as well, the one after it without. True: the next attempt differs. */
static bool turn_tls(struct my_server *server) {
	struct my_server_login *login = server->login;
	struct my_credential *credential = login->dial.target.credential;

	if (view_of(server)->config->tls.mode != CONFIG_TLS_ALLOW || !credential)
		return false;
	if (login->tls_turned) {
		my_credential_turn_tls(credential, false);
		return false;
	}
	if (!login->dial.failure.turn_tls)
		return false;
	my_credential_turn_tls(credential, true);
	return true;
}

static void failed(struct my_server *server) {
	const struct my_dial_failure *failure = &server->login->dial.failure;
	struct account *account = account_of(server->base.conn.user);
	char text[sizeof failure->text + 200];

	if (turn_tls(server)) {
		snprintf(text, sizeof text, "%s: %s; the next attempt is made with TLS", server->base.host_text, failure->text);
		server_failed(&server->base, SERVER_UNREACHABLE, text);
		return;
	}
	snprintf(text, sizeof text, "%s: %s", server->base.host_text, failure->text);
	if (failure->class == SERVER_REFUSED || failure->code)
		account_set_error(account, failure->sqlstate, text);
	server_failed(&server->base, failure->class, text);
}

static void succeeded(struct my_server *server) {
	struct my_dial *dial = &server->login->dial;

	server->facts = dial->facts;
	server->collation = dial->collation;
	my_template_learn(server->base.database->name, &dial->facts);
	my_server_login_free(server);
	my_server_logged_in(server);
}

/* ---- steps ---- */

/* Takes over the builder: what it holds is sent, and wiped here. False: the server has failed. */
static bool send_built(struct my_server *server, struct my_builder *out) {
	stream_secret(&server->base.stream);
	bool ok = out->ok && (buf_len(&out->buf) == 0 ||
			      server_write(&server->base, buf_bytes(&out->buf), buf_len(&out->buf)));

	my_builder_wipe(out);
	if (!ok)
		fail_memory(server);
	return ok;
}

static void begin_tls(struct my_server *server) {
	struct tls_context *tls = server->login->dial.target.tls_context;
	char host[256], text[400];

	tls_host_name(server->base.host_text, host, sizeof host);
	if (tls && stream_tls_connect(&server->base.stream, tls, host, NULL))
		return;
	snprintf(text, sizeof text, "%s: TLS could not begin: %s", server->base.host_text,
		 tls ? stream_error(&server->base.stream) : "it is disabled");
	server_failed(&server->base, SERVER_UNREACHABLE, text);
}

/* The server, and its login with it, may be gone afterwards. */
static void act(struct my_server *server, enum my_dial_step step, struct my_builder *out) {
	if (step == MY_DIAL_FAILED) {
		my_builder_wipe(out);
		failed(server);
		return;
	}
	if (!send_built(server, out))
		return;
	if (step == MY_DIAL_TLS)
		begin_tls(server);
	else if (step == MY_DIAL_DONE)
		succeeded(server);
}

static enum my_dial_tls tls_of(const struct my_server *server, bool turned) {
	const struct database_view *view = view_of(server);

	if (!view->tls)
		return MY_DIAL_TLS_NEVER;
	switch (view->config->tls.mode) {
	case CONFIG_TLS_DISABLE:
		return MY_DIAL_TLS_NEVER;
	case CONFIG_TLS_ALLOW:
		return turned ? MY_DIAL_TLS_IF_OFFERED : MY_DIAL_TLS_NEVER;
	case CONFIG_TLS_PREFER:
		return MY_DIAL_TLS_IF_OFFERED;
	default:
		return MY_DIAL_TLS_MUST;
	}
}

/* All of one configuration, which may be replaced before the login is over. */
void my_server_target(const struct my_server *server, struct my_credential *credential, char user[MY_USER_MAX + 1],
		      struct my_dial_target *target) {
	const struct pool_config *config = view_of(server)->config;
	const char *name = pool_user_name(server->base.conn.user);
	const char *variant = strchr(name, ACCOUNT_VARIANT);

	if (config->user)
		snprintf(user, MY_USER_MAX + 1, "%s", config->user);
	else
		snprintf(user, MY_USER_MAX + 1, "%.*s", (int)(variant ? variant - name : MY_USER_MAX), name);
	*target = (struct my_dial_target){
		.user = user,
		.schema = config->database,
		.credential = credential,
		.program = config->application_name,
		.capabilities = variant && strstr(variant, MY_FOUND_ROWS_ACCOUNT) ? MY_CLIENT_FOUND_ROWS : 0,
		.tls = tls_of(server, my_credential_tls_turned(credential)),
		.tls_context = view_of(server)->tls,
		.tls_verifies = config_tls_verifies(&config->tls),
		.local = server->base.address.ss_family == AF_UNIX,
		.server_key = view_of(server)->setup,
		.takes_key = config->get_server_public_key,
	};
}

bool my_server_login_begin(struct my_server *server) {
	struct my_server_login *login = calloc(1, sizeof *login);
	struct my_dial_target target;

	if (!login)
		return false;
	my_server_login_free(server);
	server->login = login;
	struct my_credential *credential = account_credential(account_of(server->base.conn.user), ref_credential);
	my_server_target(server, credential, login->user, &target);
	login->tls_turned = my_credential_tls_turned(credential);
	bool ok = (!target.schema || (login->schema = strdup(target.schema))) &&
		  (!target.program || (login->program = strdup(target.program)));
	target.schema = login->schema;
	target.program = login->program;
	my_dial_begin(&login->dial, &target);
	my_credential_unref(credential);
	return ok;
}

size_t my_server_login_input(struct my_server *server, const uint8_t *data, size_t len) {
	struct my_builder out = my_builder(server->base.sw->worker->buffers);
	size_t used = 0;
	enum my_dial_step step = my_dial_input(&server->login->dial, data, len, &used, &out);

	act(server, step, &out);
	return step == MY_DIAL_FAILED || server->base.state == SERVER_CLOSED ? len : used;
}

void my_server_login_secured(struct my_server *server) {
	struct my_builder out = my_builder(server->base.sw->worker->buffers);
	enum my_dial_step step = my_dial_secured(&server->login->dial, &out);

	act(server, step, &out);
}

void my_server_login_free(struct my_server *server) {
	struct my_server_login *login = server->login;

	if (!login)
		return;
	server->login = NULL;
	my_dial_end(&login->dial);
	free(login->schema);
	free(login->program);
	free(login);
}
