/* What a client is told once it has proved who it is. Section "Start-up". */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/secret.h"
#include "pgsql/pgsql.h"

enum { SECRET_3_0 = 4, SECRET_3_2 = 32 };

/* BackendKeyData, with an id and a secret of our own, and ReadyForQuery. False: out of memory. */
static bool finish(struct pg_client *pc, struct pg_builder *b) {
	struct client *client = &pc->base;
	uint8_t secret[CANCEL_SECRET_MAX];
	pg_open(b, 'K');
	pg_u32(b, client->id);
	pg_raw(b, secret, registry_secret(client, secret));
	pg_close(b);
	secret_wipe(secret, sizeof secret);
	pg_open(b, 'Z');
	pg_u8(b, 'I');
	pg_close(b);
	return client->id != 0 && b->ok && client_write(client, buf_bytes(&b->buf), buf_len(&b->buf));
}

void pg_send_welcome(struct pg_client *pc, struct settings *reported) {
	struct client *client = &pc->base;
	pc->welcome_pending = false;
	const struct pg_greeting *greeting = pg_greeting(pg_greetings(client->sw), reported, pc->settings);
	struct pg_builder b = pg_builder(client->sw->worker->buffers);
	if (greeting) {
		settings_unref(pc->startup);
		pc->startup = pc->settings;
		pc->settings = settings_ref(greeting->settings);
		settings_unref(pc->before);
		pc->before = settings_ref(greeting->settings);
		pg_raw(&b, buf_bytes(&greeting->messages), buf_len(&greeting->messages));
	}
	bool ok = greeting && finish(pc, &b);
	pg_builder_release(&b);
	if (!ok)
		client_end(client, REFUSAL_INTERNAL, "out of memory");
}

void pg_begin_welcome(struct pg_client *pc) {
	static const uint8_t authentication_ok[] = {'R', 0, 0, 0, 8, 0, 0, 0, 0};
	pg_login_free(pc);
	pc->batch = 1;
	uint8_t secret[SECRET_3_2];
	size_t secret_len = pc->minor >= 2 ? SECRET_3_2 : SECRET_3_0;
	if (secret_random(secret, secret_len))
		registry_add(&pc->base, secret, secret_len); /* else it has no id, of which its welcome will tell */
	secret_wipe(secret, sizeof secret);
	client_write(&pc->base, authentication_ok, sizeof authentication_ok);
}

void pg_client_authenticated(struct pg_client *pc, const char *name, struct database *database, struct pool_user *user,
			     struct settings *startup) {
	struct client *client = &pc->base;
	pg_begin_welcome(pc);
	settings_unref(pc->settings);
	pc->settings = startup;
	if (!client_logged_in(client, name, database, user))
		return;
	client->dedicated = pc->replication != PG_REPLICATION_NONE;
	if (startup->count > PG_SETTINGS_MAX) {
		client_end(client, REFUSAL_INTERNAL, "too many settings in the start-up message: 150 are supported");
		return;
	}
	struct settings *welcome = account_welcome(account_of(user), (void *(*)(void *))settings_ref);
	if (welcome) {
		pg_send_welcome(pc, welcome);
		settings_unref(welcome);
		return;
	}
	/* Nobody knows yet what a server of this pool reports: wait for the first one. */
	pc->welcome_pending = true;
	bool dedicated = client->dedicated;
	client->dedicated = false;
	if (client_want_server(client) && client->server)
		client_wake(client);
	client->dedicated = dedicated;
}
