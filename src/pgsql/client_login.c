/*
 * From a connection's first byte to its start-up message: TLS, protocol version, parameters, cancel requests
 * (sections "Start-up", "SSL Session Encryption", "Canceling Requests in Progress"). Everything here comes from
 * somebody unknown: lengths are bounded, and nothing is believed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "base/reader.h"
#include "base/secret.h"
#include "net/worker.h"
#include "pgsql/login.h"
#include "session/deadline.h"

enum { TLS_HANDSHAKE_BYTE = 0x16 /* the type of a TLS record that carries a ClientHello */ };

static const char *user_of(const struct pg_client *client) {
	return client->login ? client->login->user : "";
}

static bool is_unix(const struct pg_client *client) {
	return client->base.peer.family == AF_UNIX;
}

/* A line in the log about a login that failed. The same of one user is counted, not repeated: so the message has no
 * address. */
static void log_failure(struct pg_client *client, const char *reason) {
	log_info("client_login_failed",
		 LOG_FIELDS(LOG_TEXT("client", STREAM_PEER_SAY(&client->base.peer)), LOG_TEXT("user", user_of(client)),
			    LOG_TEXT("database", client->login ? client->login->database : ""),
			    LOG_TEXT("reason", reason)),
		 "login of user \"%s\" failed: %s", user_of(client), reason);
}

void pg_login_reject(struct pg_client *client, const char *sqlstate, const char *message, const char *hint,
		     const char *reason) {
	log_failure(client, reason ? reason : message);
	client->login->state = PG_LOGIN_OVER;
	pg_send_error(&client->base, "FATAL", sqlstate, message, hint);
	client_close(&client->base, "login failed");
}

/* For what is no PostgreSQL client: no answer that it could read. */
static void hang_up(struct pg_client *client, const char *reason) {
	log_failure(client, reason);
	client->login->state = PG_LOGIN_OVER;
	client_close(&client->base, reason);
}

bool pg_login_send(struct pg_client *client, struct pg_builder *b) {
	bool ok = b->ok && client_write(&client->base, buf_bytes(&b->buf), buf_len(&b->buf));

	pg_builder_release(b);
	if (!ok)
		pg_login_reject(client, "53200", "out of memory", NULL, NULL);
	return ok;
}

/* ---- the first byte, and TLS ---- */

static void begin_tls(struct pg_client *client) {
	client->login->state = PG_LOGIN_TLS_HANDSHAKE;
	if (!stream_tls_accept(&client->base.stream, client->base.listener->tls))
		hang_up(client, stream_error(&client->base.stream));
}

/*
 * Where TLS is offered, takes the place of the session's on_ready until the first byte is there: one that begins TLS
 * without SSLRequest must stay in the socket, where TLS reads it.
 */
static void on_first_byte(struct stream *stream, int events) {
	struct pg_client *client = pg_client(container_of(stream, struct client, stream));
	struct pg_login *login = client->login;
	uint8_t byte = 0;

	if (login && !client->base.closing && (events & STREAM_READABLE) && !(events & STREAM_FAILED)) {
		ssize_t n = stream_peek(stream, &byte, 1);
		if (n == STREAM_AGAIN)
			return;
		stream->on_ready = login->on_ready;
		login->state = PG_LOGIN_STARTUP;
		if (n == 1 && byte == TLS_HANDSHAKE_BYTE) {
			login->direct_tls = true;
			begin_tls(client);
			return;
		}
	} else if (login) {
		stream->on_ready = login->on_ready;
		login->state = PG_LOGIN_STARTUP;
	}
	stream->on_ready(stream, events);
}

void pg_logins_init(struct slab *logins) {
	slab_init(logins, sizeof(struct pg_login));
}

bool pg_login_begin(struct pg_client *client) {
	struct pg_login *login = slab_take(&pg_worker(client->base.sw)->logins);

	if (!login) {
		client_close(&client->base, "out of memory");
		return false;
	}
	client->login = login;
	login->startup = settings_empty();
	if (!client->base.listener->tls || is_unix(client)) {
		login->state = PG_LOGIN_STARTUP;
		return true;
	}
	login->on_ready = client->base.stream.on_ready;
	client->base.stream.on_ready = on_first_byte;
	return true;
}

void pg_login_secured(struct pg_client *client) {
	struct pg_login *login = client->login;

	if (!login || login->state != PG_LOGIN_TLS_HANDSHAKE)
		return;
	/* As PostgreSQL: without ALPN, something else may have been made to speak to us (the ALPACA attack). */
	if (login->direct_tls && !tls_alpn_is(client->base.stream.ssl, "postgresql")) {
		hang_up(client, "it began TLS without SSLRequest and without ALPN \"postgresql\"");
		return;
	}
	login->state = PG_LOGIN_STARTUP;
}

void pg_login_free(struct pg_client *client) {
	struct pg_login *login = client->login;

	if (!login)
		return;
	client->login = NULL;
	if (login->state == PG_LOGIN_FIRST_BYTE && login->on_ready)
		client->base.stream.on_ready = login->on_ready;
	pg_auth_detach(login);
	settings_unref(login->startup);
	scram_server_free(login->scram);
	secret_free(login->secret);
	secret_free(login->password);
	secret_wipe(login, sizeof *login);
	slab_give(&pg_worker(client->base.sw)->logins, login);
}

/* ---- the start-up message ---- */

static void take_tls_request(struct pg_client *client, bool bytes_follow) {
	struct pg_login *login = client->login;
	bool offered = client->base.listener->tls && !is_unix(client);

	login->tls_asked = true;
	if (!offered) {
		client_write(&client->base, "N", 1);
		return;
	}
	/* Such bytes were not encrypted, and would count as if they had been (CVE-2021-3935). */
	if (bytes_follow) {
		hang_up(client, "unencrypted bytes came behind its SSLRequest; this may be an attack");
		return;
	}
	client_write(&client->base, "S", 1);
	begin_tls(client);
}

/* NegotiateProtocolVersion: the newest minor version that both speak, and the options that we do not know. */
static bool negotiate(struct pg_client *client, uint32_t version, struct reader options, uint32_t unknown) {
	struct pg_builder b = pg_builder(client->base.sw->worker->buffers);

	pg_open(&b, 'v');
	pg_u32(&b, version < PG_PROTOCOL_3_2 ? version : PG_PROTOCOL_3_2);
	pg_u32(&b, unknown);
	for (;;) {
		size_t len = 0;
		const char *name = reader_cstr(&options, &len);
		if (!name || len == 0)
			break;
		reader_cstr(&options, NULL);
		if (strncmp(name, "_pq_.", 5) == 0)
			pg_cstr(&b, name);
	}
	pg_close(&b);
	return pg_login_send(client, &b);
}

/* The value of `replication`. False: it is none. */
static bool take_replication(struct pg_client *client, const char *value) {
	static const char *const on[] = {"true", "on", "yes", "1", "t", "y", "tr", "tru", "ye"};
	static const char *const off[] = {"false", "off", "no", "0", "f", "n", "fa", "fal", "fals", "of"};
	enum pg_replication means = PG_REPLICATION_NONE;
	bool known = false;

	if (strcmp(value, "database") == 0)
		means = PG_REPLICATION_LOGICAL;
	for (size_t i = 0; i < sizeof on / sizeof on[0] && !means; i++)
		if (strcasecmp(value, on[i]) == 0)
			means = PG_REPLICATION_PHYSICAL;
	for (size_t i = 0; i < sizeof off / sizeof off[0] && !means; i++)
		known |= strcasecmp(value, off[i]) == 0;
	if (!means && !known)
		return false;
	client->replication = means;
	client->login->physical = means == PG_REPLICATION_PHYSICAL;
	return true;
}

/* ignore_startup_parameters; names of settings are compared without regard to case. */
static bool is_ignored(const struct pg_client *client, const char *name) {
	for (const char **ignored = client->base.listener->config->ignore_startup_parameters; *ignored; ignored++)
		if (strcasecmp(*ignored, name) == 0)
			return true;
	return false;
}

static bool add_setting(struct pg_login *login, const char *name, const char *value) {
	struct settings *with = settings_with(login->startup, name, value, false);

	if (!with)
		return false;
	settings_unref(login->startup);
	login->startup = with;
	return true;
}

static bool add_options(struct pg_client *client, const char *options) {
	struct pg_login *login = client->login;
	char ignored[128];

	if (is_ignored(client, "options"))
		return true;
	if (!settings_add_options(&login->startup, options, ignored, sizeof ignored))
		return false;
	for (const char **name = client->base.listener->config->ignore_startup_parameters; *name; name++) {
		if (settings_find(login->startup, *name) && !add_setting(login, *name, NULL))
			return false;
	}
	if (ignored[0])
		log_debug("client_options_ignored",
			  LOG_FIELDS(LOG_TEXT("client", STREAM_PEER_SAY(&client->base.peer)), LOG_TEXT("options", ignored)),
			  "some of the start-up parameter \"options\" means nothing to a pool");
	return true;
}

static void cut_name(char out[64], const char *name) {
	size_t len = strnlen(name, 63);

	memcpy(out, name, len);
	out[len] = '\0';
}

/* One parameter. False: the client was rejected. */
static bool take_parameter(struct pg_client *client, const char *name, const char *value) {
	struct pg_login *login = client->login;
	char text[160];

	if (strcmp(name, "user") == 0) {
		cut_name(login->user, value);
	} else if (strcmp(name, "database") == 0) {
		cut_name(login->database, value);
	} else if (strcmp(name, "replication") == 0) {
		if (!take_replication(client, value)) {
			snprintf(text, sizeof text, "invalid value for parameter \"replication\": \"%.64s\"", value);
			pg_login_reject(client, "22023", text,
					"Valid values are: \"false\", 0, \"true\", 1, \"database\".", NULL);
			return false;
		}
	} else if (strcmp(name, "options") != 0 && strncmp(name, "_pq_.", 5) != 0 && !is_ignored(client, name) &&
		   !add_setting(login, name, value)) {
		pg_login_reject(client, "53200", "out of memory", NULL, NULL);
		return false;
	}
	return true;
}

/* All parameters, each name with its value, up to an empty name that is the last byte. */
static bool take_parameters(struct pg_client *client, uint32_t version, struct reader r) {
	struct reader all = r, again = r;
	const char *options = NULL;
	uint32_t unknown = 0;
	size_t len = 0;

	for (;;) {
		const char *name = reader_cstr(&r, &len);
		if (!name || len == 0)
			break;
		const char *value = reader_cstr(&r, NULL);
		if (!value)
			break;
		if (strncmp(name, "_pq_.", 5) == 0)
			unknown++;
		else if (strcmp(name, "options") == 0)
			options = value;
	}
	if (!r.ok || reader_left(&r) > 0) {
		pg_login_reject(client, "08P01",
				"invalid startup packet layout: expected terminator as last byte", NULL, NULL);
		return false;
	}
	/* PostgreSQL lets parameters of their own win over `options`. */
	if (options && !add_options(client, options)) {
		pg_login_reject(client, "53200", "out of memory", NULL, NULL);
		return false;
	}
	for (;;) {
		const char *name = reader_cstr(&again, &len);
		if (!name || len == 0)
			break;
		if (!take_parameter(client, name, reader_cstr(&again, NULL)))
			return false;
	}
	if (version > PG_PROTOCOL_3_2 || unknown > 0)
		return negotiate(client, version, all, unknown);
	return true;
}

/* A database name that means the console, unless a pool bears it. */
static bool is_console(const struct pg_client *client) {
	const char *name = client->login->database;

	if (strcmp(name, "forebay") != 0 && strcmp(name, "pgbouncer") != 0)
		return false;
	const struct pool_config *pool = config_pool(client->base.listener->generation->config, name);
	return !pool || pool->protocol != PROTOCOL_POSTGRESQL;
}

static void take_startup(struct pg_client *client, uint32_t version, struct reader r) {
	struct pg_login *login = client->login;
	enum config_tls_mode mode = client->base.listener->config->tls.mode;
	char text[160];

	if (version >> 16 != 3) {
		snprintf(text, sizeof text, "unsupported frontend protocol %u.%u: server supports 3.0 to 3.2",
			 version >> 16, version & 0xffff);
		pg_login_reject(client, "0A000", text, NULL, NULL);
		return;
	}
	client->minor = (version & 0xffff) >= 2 ? 2 : 0;
	if (!take_parameters(client, version, r))
		return;
	if (!login->user[0]) {
		pg_login_reject(client, "28000", "no PostgreSQL user name specified in startup packet", NULL, NULL);
		return;
	}
	if (!login->database[0])
		cut_name(login->database, login->user);
	if (mode >= CONFIG_TLS_REQUIRE && !client->base.stream.ssl && !is_unix(client)) {
		pg_login_reject(client, "28000", "this listener takes encrypted connections only",
				"Connect with sslmode=require or a stricter one.", NULL);
		return;
	}
	login->console = is_console(client);
	if (!login->console)
		deadline_login(&client->base);
	pg_auth_begin(client);
}

static void take_cancel(struct pg_client *client, struct reader r) {
	uint32_t id = reader_u32be(&r);
	size_t len = reader_left(&r);
	const uint8_t *secret = reader_bytes(&r, len);

	if (!secret || len < 4 || len > PG_CANCEL_KEY_MAX) {
		hang_up(client, "a malformed cancel request");
		return;
	}
	client->login->state = PG_LOGIN_OVER;
	cancel_request(&client->base, id, secret, len);
}

/* One packet without a type byte. Returns its length, 0: not all of it is there. The client may be gone after it. */
static size_t take_packet(struct pg_client *client, const uint8_t *data, size_t len) {
	struct pg_login *login = client->login;
	struct reader r = reader_over(data, len);
	uint32_t length = reader_u32be(&r);

	if (!r.ok)
		return 0;
	if (length < 8 || length - 4 > PG_STARTUP_MAX) {
		bool tls = data[0] == TLS_HANDSHAKE_BYTE && !client->base.stream.ssl;
		hang_up(client, tls ? "it began TLS, which this listener does not offer"
				    : "its first bytes are no start-up message of PostgreSQL's protocol");
		return len;
	}
	const uint8_t *body = reader_bytes(&r, length - 4);
	if (!body)
		return 0;
	bool bytes_follow = reader_left(&r) > 0;
	struct reader inside = reader_over(body, length - 4);
	uint32_t code = reader_u32be(&inside);
	if (code == PG_CANCEL_REQUEST) {
		take_cancel(client, inside);
	} else if (code == PG_SSL_REQUEST && !login->tls_asked && !client->base.stream.ssl) {
		take_tls_request(client, bytes_follow);
	} else if (code == PG_GSSENC_REQUEST && !login->gss_asked && !client->base.stream.ssl) {
		login->gss_asked = true;
		client_write(&client->base, "N", 1);
	} else {
		take_startup(client, code, inside);
	}
	return length;
}

/* ---- answers to authentication requests ---- */

static size_t take_answer(struct pg_client *client, const uint8_t *data, size_t len) {
	struct reader r = reader_over(data, len);
	char text[100];
	uint8_t type = reader_u8(&r);
	uint32_t length = reader_u32be(&r);

	if (!r.ok)
		return 0;
	if (type != 'p') {
		snprintf(text, sizeof text, "expected password response, got message type %u", type);
		pg_login_reject(client, "08P01", text, NULL, NULL);
		return len;
	}
	if (length < 4 || length >= PG_LOGIN_MESSAGE_MAX) {
		pg_login_reject(client, "08P01", "invalid length of password response", NULL, NULL);
		return len;
	}
	const uint8_t *body = reader_bytes(&r, length - 4);
	if (!body)
		return 0;
	/* The session's buffers live on, or may be gone when the client is rejected: the secret leaves them now. */
	uint8_t *copy = malloc(length);
	if (!copy) {
		pg_login_reject(client, "53200", "out of memory", NULL, NULL);
		return len;
	}
	memcpy(copy, body, length - 4);
	secret_wipe((uint8_t *)body, length - 4);
	pg_auth_message(client, copy, length - 4);
	secret_wipe(copy, length - 4);
	free(copy);
	return 1 + (size_t)length;
}

size_t pg_login_input(struct pg_client *client, const uint8_t *data, size_t len) {
	size_t used = 0;

	while (used < len && client->base.state != CLIENT_CLOSED && !client->base.closing && client->login) {
		size_t took = 0;
		switch (client->login->state) {
		case PG_LOGIN_FIRST_BYTE:
		case PG_LOGIN_STARTUP:
			took = take_packet(client, data + used, len - used);
			break;
		case PG_LOGIN_ANSWER:
			took = take_answer(client, data + used, len - used);
			break;
		case PG_LOGIN_TLS_HANDSHAKE:
		case PG_LOGIN_BUSY:
			return used;
		case PG_LOGIN_OVER:
			return len;
		}
		if (took == 0)
			return used;
		used += took;
	}
	return used;
}

void pg_login_names(const struct pg_client *client, const char **database, const char **user) {
	const struct pg_login *login = client->login;
	bool known = login && login->user[0] && login->database[0] && !login->console;

	*database = known ? login->database : NULL;
	*user = known ? login->user : NULL;
}
