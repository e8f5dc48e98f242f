/*
 * COM_CHANGE_USER: a client proves itself anew on its connection, as the same user or another, and begins a new session.
 * The exchange is that of a login, save that it always begins with AuthSwitchRequest, as MariaDB does it: so the answer
 * in the command is never looked at.
 */
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "mysql/login.h"
#include "net/worker.h"

/* "COM_CHANGE_USER". False: malformed. */
static bool take_command(struct my_client *client, struct reader *r) {
	struct my_login *login = client->login;
	uint32_t capabilities = client->start.capabilities;
	char plugin[65] = "";

	if (reader_left(r) == 0 || !my_login_take_name(r, login->user, sizeof login->user))
		return false;
	size_t len = reader_u8(r);
	const uint8_t *answer = reader_bytes(r, len);
	if (!answer || !my_login_take_name(r, login->schema, sizeof login->schema))
		return false;
	secret_wipe((uint8_t *)(uintptr_t)answer, len);
	if (reader_left(r) > 0)
		client->start.collation = my_u16(r);
	login->has_plugins = capabilities & MY_CLIENT_PLUGIN_AUTH;
	if (login->has_plugins && !my_login_take_name(r, plugin, sizeof plugin))
		return false;
	login->client_plugin = plugin[0] ? my_plugin_of(plugin, strlen(plugin)) : MY_PLUGIN_NATIVE;
	login->greeted = MY_PLUGIN_OTHER; /* no challenge of ours is valid any more */
	if (capabilities & MY_CLIENT_CONNECT_ATTRS && reader_left(r) > 0) {
		free(client->start.program);
		client->start.program = NULL;
		if (!my_login_take_attributes(client, r))
			return false;
	}
	return r->ok;
}

void my_change_user(struct my_client *client, const uint8_t *body, size_t len) {
	struct session_worker *sw = client->base.sw;
	struct listener_runtime *listener = generation_listener_of(sw->generation, client->listener);
	struct my_login *login = slab_take(&my_worker(sw)->logins);
	struct reader r = reader_over(body, len);

	if (!login) {
		client_end(&client->base, REFUSAL_INTERNAL, "out of memory");
		return;
	}
	client->login = login;
	login->again = true;
	login->state = MY_LOGIN_RESPONSE;
	/* Whatever becomes of it, the session before is over. */
	client_lose_server(&client->base);
	if (!take_command(client, &r)) {
		my_login_reject(client, MY_ER_MALFORMED_PACKET, "malformed communication packet", "its COM_CHANGE_USER is malformed");
		return;
	}
	if (strchr(login->user, ACCOUNT_VARIANT)) {
		my_login_reject(client, MY_ER_ACCESS_DENIED_ERROR, "a user's name with a tab in it is not supported", NULL);
		return;
	}
	if (!listener) {
		my_login_reject(client, MY_ER_ACCESS_DENIED_ERROR,
				"the listener of this connection is not configured any more; connect again", NULL);
		return;
	}
	client->base.listener = listener;
	generation_ref(listener->generation);
	login->pool = my_login_choose_pool(client);
	my_auth_begin(client);
}
