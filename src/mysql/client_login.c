/*
 * From a connection's first byte to its handshake response: the greeting, which waits for nobody, TLS, and what the client
 * says of itself ("Connection Phase"). Everything here comes from somebody unknown: lengths are bounded, and nothing is
 * believed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/secret.h"
#include "mysql/login.h"
#include "mysql/template.h"
#include "net/worker.h"
#include "session/deadline.h"

enum { REGISTRY_SECRET = 8 /* nobody is told it: KILL names a client by its id alone */ };

static bool is_unix(const struct my_client *client) {
	return client->base.peer.family == AF_UNIX;
}

static bool offers_tls(const struct my_client *client) {
	return client->base.listener->tls && !is_unix(client);
}

bool my_login_private(const struct my_client *client) {
	return client->base.stream.ssl || is_unix(client);
}

/* ---- ends ---- */

/* A line in the log about a login that failed. The same of one user is counted, not repeated: so the message has no
 * address. */
static void log_failure(struct my_client *client, const char *reason) {
	const struct my_login *login = client->login;

	log_info("client_login_failed",
		 LOG_FIELDS(LOG_TEXT("client", STREAM_PEER_SAY(&client->base.peer)), LOG_TEXT("user", login->user),
			    LOG_TEXT("database", login->schema), LOG_TEXT("reason", reason)),
		 "login of user \"%s\" failed: %s", login->user, reason);
}

void my_login_reject(struct my_client *client, uint16_t code, const char *message, const char *reason) {
	log_failure(client, reason ? reason : message);
	client->login->state = MY_LOGIN_OVER;
	client->told_fatal = true;
	my_send_error(client, code, NULL, message);
	client_close(&client->base, "login failed");
}

/* For what is no MySQL client: no answer that it could read. */
static void hang_up(struct my_client *client, const char *reason) {
	log_failure(client, reason);
	client->login->state = MY_LOGIN_OVER;
	client->told_fatal = true;
	client_close(&client->base, reason);
}

bool my_login_send(struct my_client *client, struct my_builder *b) {
	bool ok = b->ok && client_write(&client->base, buf_bytes(&b->buf), buf_len(&b->buf));

	my_builder_wipe(b);
	if (!ok)
		my_login_reject(client, MY_ER_OUT_OF_RESOURCES, "out of memory", NULL);
	return ok;
}

/* ---- the greeting ---- */

bool my_login_scramble(uint8_t out[MY_SCRAMBLE]) {
	if (!secret_random(out, MY_SCRAMBLE))
		return false;
	for (size_t i = 0; i < MY_SCRAMBLE; i++) {
		out[i] &= 0x7f;
		if (out[i] == 0 || out[i] == '$')
			out[i]++;
	}
	return true;
}

/* "Protocol::HandshakeV10" */
static bool send_greeting(struct my_client *client) {
	struct my_login *login = client->login;
	const struct listener_runtime *listener = client->base.listener;
	struct my_builder b = my_builder(client->base.sw->worker->buffers);
	struct my_greeting_words words;

	my_greeting_words(listener->generation->config, listener->config, &words);
	login->offered = words.capabilities | (offers_tls(client) ? MY_CLIENT_SSL : 0);
	login->greeted = listener->config->auth == AUTH_CACHING_SHA2_PASSWORD ? MY_PLUGIN_SHA2 : MY_PLUGIN_NATIVE;
	my_open(&b, client->sequence++);
	my_put_u8(&b, MY_GREETING_VERSION);
	my_put_cstr(&b, words.version);
	my_put_u32(&b, client->base.id);
	my_put(&b, client->scramble, 8);
	my_put_u8(&b, 0);
	my_put_u16(&b, (uint16_t)login->offered);
	my_put_u8(&b, words.collation);
	my_put_u16(&b, words.status);
	my_put_u16(&b, (uint16_t)(login->offered >> 16));
	my_put_u8(&b, MY_SCRAMBLE + 1);
	my_put_zeros(&b, 10);
	my_put(&b, client->scramble + 8, MY_SCRAMBLE - 8);
	my_put_u8(&b, 0);
	my_put_cstr(&b, my_plugin_name(login->greeted));
	my_close(&b);
	bool ok = b.ok && client_write(&client->base, buf_bytes(&b.buf), buf_len(&b.buf));
	my_builder_release(&b);
	return ok;
}

/* ---- the first packet, and TLS ---- */

static void begin_tls(struct my_client *client) {
	client->login->state = MY_LOGIN_TLS_HANDSHAKE;
	client->login->tls_asked = true;
	if (!stream_tls_accept(&client->base.stream, client->base.listener->tls))
		hang_up(client, stream_error(&client->base.stream));
}

/* Gives the stream back to the session, with what was read of the first packet. */
static void hand_over(struct my_client *client, struct stream *stream, int events) {
	struct my_login *login = client->login;
	struct buf_cache *cache = client->base.sw->worker->buffers;

	stream->on_ready = login->on_ready;
	login->on_ready = NULL;
	if (login->head_len == 0) {
		stream->on_ready(stream, events);
	} else if (!buf_append(cache, &client->base.in, login->head, login->head_len)) {
		client_destroy(&client->base, "out of memory");
	} else {
		login->head_len = 0;
		client_resume(&client->base);
	}
}

/*
 * A client that wants TLS begins it right behind its SSLRequest: those bytes must stay in the socket, where TLS reads them.
 * So where TLS is offered, this takes the place of the session's on_ready until it is known what the first packet is.
 */
static void on_first_packet(struct stream *stream, int events) {
	struct my_client *client = my_client(container_of(stream, struct client, stream));
	struct my_login *login = client->login;

	if (client->base.closing || !(events & STREAM_READABLE) || (events & STREAM_FAILED)) {
		login->on_ready(stream, events);
		return;
	}
	ssize_t n = stream_recv(stream, login->head + login->head_len, sizeof login->head - login->head_len);
	if (n == STREAM_AGAIN)
		return;
	if (n <= 0) { /* the session is told the same */
		login->head_len = 0;
		hand_over(client, stream, events);
		return;
	}
	stat_add(&client->base.sw->bytes_from_clients, (uint64_t)n);
	login->head_len += (uint8_t)n;
	struct my_header header;
	if (!my_read_header(login->head, login->head_len, &header))
		return;
	if (header.length == MY_SSL_REQUEST && login->head_len < sizeof login->head)
		return;
	struct reader r = reader_over(login->head + MY_HEADER, login->head_len - MY_HEADER);
	if (header.length != MY_SSL_REQUEST || header.sequence != client->sequence || !(my_u32(&r) & MY_CLIENT_SSL)) {
		hand_over(client, stream, events);
		return;
	}
	stream->on_ready = login->on_ready;
	login->on_ready = NULL;
	login->head_len = 0;
	client->sequence++;
	begin_tls(client);
}

void my_logins_init(struct slab *logins) {
	slab_init(logins, sizeof(struct my_login));
}

bool my_login_begin(struct my_client *client) {
	struct my_login *login = slab_take(&my_worker(client->base.sw)->logins);
	uint8_t secret[REGISTRY_SECRET];

	if (!login)
		return false;
	client->login = login;
	client->listener = generation_name_hash(client->base.listener->config->name);
	login->state = MY_LOGIN_RESPONSE;
	/* One for whom there is no place gets an error in place of a greeting. */
	if (!client->base.has_place || !client->base.has_login_place)
		return true;
	bool ok = my_login_scramble(client->scramble) && secret_random(secret, sizeof secret) &&
		  registry_add(&client->base, secret, sizeof secret) && send_greeting(client);
	secret_wipe(secret, sizeof secret);
	if (ok && offers_tls(client)) {
		login->on_ready = client->base.stream.on_ready;
		client->base.stream.on_ready = on_first_packet;
	}
	return ok;
}

void my_login_secured(struct my_client *client) {
	if (client->login->state == MY_LOGIN_TLS_HANDSHAKE)
		client->login->state = MY_LOGIN_RESPONSE;
}

void my_login_free(struct my_client *client) {
	struct my_login *login = client->login;

	if (!login)
		return;
	client->login = NULL;
	if (login->on_ready)
		client->base.stream.on_ready = login->on_ready;
	my_auth_detach(login);
	secret_free(login->secret);
	secret_free(login->password);
	secret_wipe(login, sizeof *login);
	slab_give(&my_worker(client->base.sw)->logins, login);
}

uint8_t my_login_unasked(struct my_client *client) {
	const struct my_login *login = client->login;
	const struct client *base = &client->base;

	/* It has been greeted, and will have sent one packet before it reads the next. */
	if (login && login->state == MY_LOGIN_RESPONSE && client->sequence > 0 && !login->again)
		return (uint8_t)(client->sequence + 1);
	/* What it reads next is the answer to its next command. */
	if (!login && base->state != CLIENT_WAITING && base->hold == HOLD_NONE && buf_len(&base->in) == 0 && !base->in_input &&
	    !(base->server && my_server_busy(base->server)))
		return 1;
	return client->sequence;
}

/* ---- the handshake response ---- */

/* What an attribute is called and says. */
static bool take_attribute(struct my_client *client, struct reader *r) {
	static const char program_name[] = "program_name";
	size_t name_len, len;
	const uint8_t *name = my_lenenc_bytes(r, &name_len);
	const uint8_t *value = my_lenenc_bytes(r, &len);

	if (!name || !value)
		return false;
	if (client->start.program || name_len != sizeof program_name - 1 || memcmp(name, program_name, name_len) != 0)
		return true;
	/* as far as the console shows it */
	client->start.program = strndup((const char *)value, len < 63 ? len : 63);
	return client->start.program != NULL;
}

bool my_login_take_attributes(struct my_client *client, struct reader *r) {
	size_t len;
	const uint8_t *all = my_lenenc_bytes(r, &len);
	struct reader inside = reader_over(all, len);

	if (!all)
		return false;
	while (reader_left(&inside) > 0)
		if (!take_attribute(client, &inside))
			return false;
	return true;
}

/* The answer to the challenge of our greeting, in one of three forms. */
static bool take_proof(struct my_login *login, struct reader *r, uint32_t capabilities) {
	const uint8_t *answer;
	size_t len = 0;

	if (capabilities & MY_CLIENT_PLUGIN_AUTH_LENENC) {
		answer = my_lenenc_bytes(r, &len);
	} else if (capabilities & MY_CLIENT_SECURE_CONNECTION) {
		len = reader_u8(r);
		answer = reader_bytes(r, len);
	} else {
		answer = (const uint8_t *)reader_cstr(r, &len);
	}
	if (!answer)
		return false;
	login->answer_cut = len > sizeof login->answer;
	login->answer_len = login->answer_cut ? 0 : len;
	if (!login->answer_cut)
		memcpy(login->answer, answer, len);
	secret_wipe((uint8_t *)answer, len);
	return true;
}

/* A string with its zero, as long as a name may be. Drivers leave out what would be empty at the end of the packet. */
bool my_login_take_name(struct reader *r, char *out, size_t room) {
	size_t len = 0;

	if (reader_left(r) == 0)
		return r->ok;
	const char *name = reader_cstr(r, &len);
	if (!name || len >= room)
		return false;
	memcpy(out, name, len + 1);
	return true;
}

/* "Protocol::HandshakeResponse41". False: malformed. */
static bool take_response(struct my_client *client, struct reader *r) {
	struct my_login *login = client->login;
	char plugin[65] = "";
	uint32_t capabilities = my_u32(r);

	my_u32(r); /* the longest packet that it takes: rows are as long as they are */
	client->start.collation = reader_u8(r);
	reader_bytes(r, 23);
	if (!r->ok || !(capabilities & MY_CLIENT_PROTOCOL_41) || !my_login_take_name(r, login->user, sizeof login->user))
		return false;
	if (!take_proof(login, r, capabilities))
		return false;
	if (capabilities & MY_CLIENT_CONNECT_WITH_DB && !my_login_take_name(r, login->schema, sizeof login->schema))
		return false;
	login->has_plugins = capabilities & MY_CLIENT_PLUGIN_AUTH;
	if (login->has_plugins && !my_login_take_name(r, plugin, sizeof plugin))
		return false;
	login->client_plugin = plugin[0]		   ? my_plugin_of(plugin, strlen(plugin))
			       : login->has_plugins ? login->greeted
							    : MY_PLUGIN_NATIVE;
	if (capabilities & MY_CLIENT_CONNECT_ATTRS && reader_left(r) > 0 && !my_login_take_attributes(client, r))
		return false;
	client->start.capabilities = capabilities & login->offered;
	return r->ok;
}

/* By the schema that it names, else by its user, else the listener's. */
const char *my_login_choose_pool(const struct my_client *client) {
	const struct my_login *login = client->login;
	const struct config *config = client->base.listener->generation->config;
	const struct user_config *user = config_user(config, login->user);

	if (login->schema[0]) {
		const struct pool_config *pool = config_pool(config, login->schema);
		bool bears = pool && strcmp(pool->name, "*") != 0 && pool->protocol == PROTOCOL_MYSQL;
		if (bears || (!pool && config_wildcard_pool(config, PROTOCOL_MYSQL)))
			return login->schema;
	}
	return user && user->pool ? user->pool : client->base.listener->config->default_pool;
}

static void take_first(struct my_client *client, const uint8_t *body, size_t len) {
	struct my_login *login = client->login;
	struct reader r = reader_over(body, len);

	if (len == MY_SSL_REQUEST && !login->tls_asked) {
		client->start.capabilities = MY_CLIENT_PROTOCOL_41;
		my_login_reject(client, MY_ER_HANDSHAKE_ERROR,
				"this listener does not offer TLS, or not to this address; connect without it", NULL);
		return;
	}
	if (!take_response(client, &r)) {
		client->start.capabilities = MY_CLIENT_PROTOCOL_41;
		my_login_reject(client, MY_ER_HANDSHAKE_ERROR, "Bad handshake", "its handshake response is malformed");
		return;
	}
	if (strchr(login->user, ACCOUNT_VARIANT)) {
		my_login_reject(client, MY_ER_ACCESS_DENIED_ERROR, "a user's name with a tab in it is not supported", NULL);
		return;
	}
	login->pool = my_login_choose_pool(client);
	if (client->base.listener->config->tls.mode >= CONFIG_TLS_REQUIRE && !my_login_private(client)) {
		my_login_reject(client, MY_ER_SECURE_TRANSPORT_REQUIRED,
				"this listener takes encrypted connections only; connect with --ssl-mode=REQUIRED (MySQL) or --ssl "
				"(MariaDB)",
				NULL);
		return;
	}
	if (login->pool)
		deadline_login(&client->base);
	if (client->base.state == CLIENT_LOGIN && !client->base.closing)
		my_auth_begin(client);
}

/* ---- packets ---- */

static void take_packet(struct my_client *client, const uint8_t *body, size_t len) {
	if (client->login->state == MY_LOGIN_RESPONSE) {
		take_first(client, body, len);
		return;
	}
	/* The session's buffers live on, or may be gone when the client is rejected: the secret leaves them now. */
	uint8_t *copy = malloc(len + 1);
	if (!copy) {
		my_login_reject(client, MY_ER_OUT_OF_RESOURCES, "out of memory", NULL);
		return;
	}
	memcpy(copy, body, len);
	secret_wipe((uint8_t *)body, len);
	my_auth_message(client, copy, len);
	secret_wipe(copy, len);
	free(copy);
}

/* One packet. Returns its length, 0: not all of it is there. The client may be gone after it. */
static size_t take(struct my_client *client, const uint8_t *data, size_t len) {
	struct my_header header;

	if (!my_read_header(data, len, &header))
		return 0;
	if (header.length > MY_LOGIN_MESSAGE_MAX) {
		hang_up(client, "its first bytes are no packet of MySQL's protocol, or one of more than 64 KiB");
		return len;
	}
	if (header.sequence != client->sequence) {
		client->start.capabilities = MY_CLIENT_PROTOCOL_41;
		my_login_reject(client, MY_ER_NET_PACKETS_OUT_OF_ORDER, "Got packets out of order", NULL);
		return len;
	}
	if (header.length > len - MY_HEADER)
		return 0;
	client->sequence++;
	take_packet(client, data + MY_HEADER, header.length);
	return MY_HEADER + header.length;
}

size_t my_login_input(struct my_client *client, const uint8_t *data, size_t len) {
	size_t used = 0;

	while (used < len && client->base.state != CLIENT_CLOSED && !client->base.closing && client->login) {
		switch (client->login->state) {
		case MY_LOGIN_TLS_HANDSHAKE:
		case MY_LOGIN_BUSY:
			return used;
		case MY_LOGIN_OVER:
			return len;
		default:
			break;
		}
		size_t took = take(client, data + used, len - used);
		if (took == 0)
			return used;
		used += took;
	}
	return used;
}

void my_login_names(const struct my_client *client, const char **database, const char **user) {
	const struct my_login *login = client->login;
	bool known = login && login->user[0] && login->pool;

	*database = known ? login->pool : NULL;
	*user = known ? login->user : NULL;
}
