/*
 * Logging in to a backend: TLS as the pool asks for it, the start-up message, authentication, and what the server
 * says of itself up to its first ReadyForQuery (sections "Start-up" and "SASL Authentication"). The backend is
 * trusted as little as a client: every length is bounded, and a SCRAM server must prove that it knows the secret.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "base/reader.h"
#include "base/secret.h"
#include "net/offload.h"
#include "net/worker.h"
#include "pgsql/credential.h"
#include "pgsql/pgsql.h"
#include "pgsql/scram.h"
#include "pgsql/server_tls.h"

/* AuthenticationRequest codes (section "Message Formats"). */
enum {
	AUTH_OK = 0,
	AUTH_KERBEROS_V5 = 2,
	AUTH_CLEARTEXT = 3,
	AUTH_MD5_PASSWORD = 5,
	AUTH_GSS = 7,
	AUTH_SSPI = 9,
	AUTH_SASL = 10,
	AUTH_SASL_CONTINUE = 11,
	AUTH_SASL_FINAL = 12
};

enum login_state {
	LOGIN_TLS_ANSWER,    /* SSLRequest is sent */
	LOGIN_TLS_HANDSHAKE,
	LOGIN_AUTH,          /* an authentication request or an error is due */
	LOGIN_ANSWERED,      /* a password is sent; AuthenticationOk is due */
	LOGIN_SASL_CHALLENGE,
	LOGIN_DERIVING,      /* the keys are being computed on a helper thread */
	LOGIN_SASL_FINAL,
	LOGIN_SASL_DONE,     /* AuthenticationOk is due */
	LOGIN_PARAMETERS     /* authenticated; ReadyForQuery is due */
};

struct pg_server_login {
	enum login_state state;
	bool tls_turned; /* tried the other way round: see pg_credential_tls_turned() */
	struct pg_credential *credential; /* NULL: none */
	struct scram_client *scram;
	struct derivation *derivation; /* LOGIN_DERIVING */
};

/* Keys being derived. It outlives the login when that ends meanwhile. */
struct derivation {
	struct offload_job job;
	struct pg_server *owner; /* NULL: gone */
	struct pg_credential *credential;
	struct scram_salt salt;
	struct scram_keys keys;
	bool ok;
};

static const struct pool_config *config_of(const struct pg_server *server) {
	return database_view(server->base.database, server->base.sw->worker->id)->config;
}

static const char *user_of(const struct pg_server *server) {
	const struct pool_config *config = config_of(server);
	return config->user ? config->user : pool_user_name(server->base.conn.user);
}

/* Ends the login. The server, and `server->login` with it, may be gone afterwards. */
__attribute__((format(printf, 3, 4))) static void fail(struct pg_server *server, bool permanent, const char *fmt, ...) {
	char text[256];
	va_list args;

	va_start(args, fmt);
	int len = snprintf(text, sizeof text, "%s: ", server->base.host_text);
	vsnprintf(text + len, sizeof text - (size_t)len, fmt, args);
	va_end(args);
	if (permanent)
		account_set_error(account_of(server->base.conn.user), "28000", text);
	server_failed(&server->base, permanent ? SERVER_REFUSED : SERVER_UNREACHABLE, text);
}

static void fail_memory(struct pg_server *server) {
	fail(server, false, "out of memory while logging in");
}

/* Takes over the builder: sends what it holds, wiped behind it. False: the server has failed. */
static bool send_built(struct pg_server *server, struct pg_builder *b) {
	stream_secret(&server->base.stream);
	bool ok = b->ok && server_write(&server->base, buf_bytes(&b->buf), buf_len(&b->buf));

	buf_release_wiped(b->cache, &b->buf);
	if (!ok)
		fail_memory(server);
	return ok;
}

static void put_parameter(struct pg_builder *b, const char *name, const char *value) {
	pg_cstr(b, name);
	pg_cstr(b, value);
}

/* What a server reports but nobody can ask of it, and what the start-up message says by itself. */
static bool is_settable(const char *name) {
	static const char *const not_settable[] = {
		"user", "database", "options", "replication", "server_version", "server_encoding",
		"is_superuser", "session_authorization", "integer_datetimes", "in_hot_standby",
	};

	for (size_t i = 0; i < sizeof not_settable / sizeof not_settable[0]; i++)
		if (strcasecmp(name, not_settable[i]) == 0)
			return false;
	return true;
}

/* A connection for one client alone gets all that this client asked for. */
static bool put_client_settings(struct pg_server *server, struct pg_builder *b) {
	struct pg_client *client = pg_client(server->base.client_for_dedicated);
	bool has_application_name = false;

	if (client->replication != PG_REPLICATION_NONE)
		put_parameter(b, "replication", client->replication == PG_REPLICATION_LOGICAL ? "database" : "true");
	for (size_t i = 0; client->settings && i < client->settings->count; i++) {
		const struct setting *s = &client->settings->at[i];
		if (!is_settable(s->name))
			continue;
		put_parameter(b, s->name, s->value);
		has_application_name |= strcasecmp(s->name, "application_name") == 0;
		struct settings *with = settings_with(server->settings, s->name, s->value, s->reported);
		if (!with)
			b->ok = false;
		else {
			settings_unref(server->settings);
			server->settings = with;
		}
	}
	return has_application_name;
}

/* Section "StartupMessage". Version 3.0: all servers speak it, and 3.2 would give us nothing but a longer key. */
static bool send_startup(struct pg_server *server) {
	const struct pool_config *config = config_of(server);
	struct pg_builder b = pg_builder(server->base.sw->worker->buffers);
	bool has_application_name = false;

	settings_unref(server->settings);
	server->settings = settings_empty();
	pg_open(&b, 0);
	pg_u32(&b, PG_PROTOCOL_3_0);
	put_parameter(&b, "user", user_of(server));
	put_parameter(&b, "database", config->database ? config->database : server->base.database->name);
	if (server->base.dedicated && server->base.client_for_dedicated)
		has_application_name = put_client_settings(server, &b);
	if (config->application_name && !has_application_name)
		put_parameter(&b, "application_name", config->application_name);
	pg_u8(&b, 0);
	pg_close(&b);
	server->login->state = LOGIN_AUTH;
	return send_built(server, &b);
}

static void *ref_credential(void *credential) {
	return pg_credential_ref(credential);
}

/* Whether this connection begins with SSLRequest. */
static bool wants_tls(const struct pg_server *server) {
	const struct database_view *view = database_view(server->base.database, server->base.sw->worker->id);
	bool turned = server->login->tls_turned;

	if (server->base.address.ss_family == AF_UNIX || !view->tls)
		return false;
	switch (view->config->tls.mode) {
	case CONFIG_TLS_DISABLE:
		return false;
	case CONFIG_TLS_ALLOW:
		return turned;
	case CONFIG_TLS_PREFER:
		return !turned;
	default:
		return true;
	}
}

bool pg_server_login_begin(struct pg_server *server) {
	struct pg_server_login *login = calloc(1, sizeof *login);

	if (!login) {
		fail_memory(server);
		return false;
	}
	pg_server_login_free(server);
	server->login = login;
	server->status = 0;
	server->backend_pid = 0;
	server->cancel_key_len = 0;
	login->credential = account_credential(account_of(server->base.conn.user), ref_credential);
	login->tls_turned = pg_credential_tls_turned(login->credential);
	if (!wants_tls(server))
		return send_startup(server);
	login->state = LOGIN_TLS_ANSWER;
	if (!server_tls_ask(&server->base.stream)) {
		fail_memory(server);
		return false;
	}
	return true;
}

void pg_server_login_free(struct pg_server *server) {
	struct pg_server_login *login = server->login;

	if (!login)
		return;
	server->login = NULL;
	if (login->derivation)
		login->derivation->owner = NULL;
	scram_client_free(login->scram);
	pg_credential_unref(login->credential);
	secret_wipe(login, sizeof *login);
	free(login);
}

void pg_server_login_secured(struct pg_server *server) {
	if (server->login && server->login->state == LOGIN_TLS_HANDSHAKE)
		send_startup(server);
}

static void take_tls_answer(struct pg_server *server, const uint8_t *data, size_t len) {
	struct database_view *view = database_view(server->base.database, server->base.sw->worker->id);
	char why[200];

	/* Before the handshake begins: it may be over before the call returns. */
	server->login->state = LOGIN_TLS_HANDSHAKE;
	switch (server_tls_answer(&server->base.stream, view->tls, server->base.host_text, data, len, why,
				  sizeof why)) {
	case SERVER_TLS_STARTED:
		return;
	case SERVER_TLS_REFUSED:
		if (view->config->tls.mode == CONFIG_TLS_PREFER) {
			send_startup(server);
			return;
		}
		if (view->config->tls.mode == CONFIG_TLS_ALLOW && server->login->credential)
			pg_credential_turn_tls(server->login->credential, false);
		fail(server, true, "the server does not offer TLS, which %s",
		     view->config->tls.mode == CONFIG_TLS_ALLOW ? "its pg_hba.conf asks for"
								: "the pool's tls_mode requires");
		return;
	case SERVER_TLS_FAILED:
		fail(server, false, "%s", why);
		return;
	}
}

/* ---- errors ---- */

/* Whether trying again cannot help until somebody changes something. */
static bool is_permanent(const char *sqlstate) {
	return strncmp(sqlstate, "28", 2) == 0 ||  /* authorization */
	       strcmp(sqlstate, "3D000") == 0 ||   /* no such database */
	       strcmp(sqlstate, "42501") == 0 ||   /* no CONNECT privilege */
	       strcmp(sqlstate, "0A000") == 0 ||   /* protocol not supported */
	       strcmp(sqlstate, "08P01") == 0 || strcmp(sqlstate, "22023") == 0 || strcmp(sqlstate, "42704") == 0;
}

static enum server_failure failure_of(const char *sqlstate) {
	if (is_permanent(sqlstate))
		return SERVER_REFUSED;
	if (strcmp(sqlstate, "57P03") == 0) /* starting up or recovering: it will not be long */
		return SERVER_NOT_READY;
	return strcmp(sqlstate, "53300") == 0 ? SERVER_FULL : SERVER_UNREACHABLE;
}

/* With allow and prefer, a refusal by pg_hba.conf means: try the other way. True: the next login will. */
static bool turn_tls(struct pg_server *server, const char *sqlstate) {
	struct pg_server_login *login = server->login;
	enum config_tls_mode mode = config_of(server)->tls.mode;

	if (!login->credential || server->base.address.ss_family == AF_UNIX || login->state > LOGIN_AUTH ||
	    strcmp(sqlstate, "28000") != 0 || (mode != CONFIG_TLS_ALLOW && mode != CONFIG_TLS_PREFER))
		return false;
	/* Where the other way was the one that failed, the first has its turn again, at the next attempt. */
	pg_credential_turn_tls(login->credential, !login->tls_turned);
	return !login->tls_turned;
}

static void take_error(struct pg_server *server, const uint8_t *body, size_t len) {
	struct pg_error_view view = pg_error_view(body, len);
	const char *sqlstate = view.sqlstate && strlen(view.sqlstate) == 5 ? view.sqlstate : "08006";
	const char *message = view.message ? view.message : "it gave no reason";
	char text[256];

	if (turn_tls(server, sqlstate)) {
		fail(server, false, "%s; the next attempt is made %s TLS", message,
		     server->base.stream.ssl ? "without" : "with");
		return;
	}
	snprintf(text, sizeof text, "%s: %s", server->base.host_text, message);
	account_set_error(account_of(server->base.conn.user), sqlstate, text);
	server_failed(&server->base, failure_of(sqlstate), text);
}

/* ---- authentication ---- */

static bool send_password(struct pg_server *server, const char *password) {
	struct pg_builder b = pg_builder(server->base.sw->worker->buffers);

	/* Room for all of it first: what grows leaves its bytes behind. */
	b.ok = buf_reserve(b.cache, &b.buf, strlen(password) + 16);
	pg_open(&b, 'p');
	pg_cstr(&b, password);
	pg_close(&b);
	server->login->state = LOGIN_ANSWERED;
	return send_built(server, &b);
}

static const char *credential_is(const struct pg_server *server) {
	switch (pg_credential_type(server->login->credential)) {
	case PG_SECRET_PLAIN:
		return "a password";
	case PG_SECRET_MD5:
		return "an md5 hash";
	case PG_SECRET_SCRAM:
		return "a SCRAM secret";
	case PG_SECRET_NONE:
		break;
	}
	return "no secret at all";
}

static void take_cleartext(struct pg_server *server) {
	const char *password = pg_credential_plaintext(server->login->credential);

	if (!password) {
		fail(server, true,
		     "the server asks for a plaintext password of user \"%s\" but there is only %s; "
		     "store the password in [user:%s], or set the pool's user and password",
		     user_of(server), credential_is(server), user_of(server));
		return;
	}
	send_password(server, password);
}

static void take_md5(struct pg_server *server, struct reader *r) {
	const uint8_t *salt = reader_bytes(r, 4);
	char answer[MD5_SECRET_SIZE];

	if (!salt) {
		fail(server, true, "the server sent a malformed md5 challenge");
		return;
	}
	if (!pg_credential_md5_answer(server->login->credential, user_of(server), salt, answer)) {
		fail(server, true,
		     "the server asks for an md5 password of user \"%s\" but there is only %s; store the password "
		     "or its md5 hash in [user:%s], or set the pool's user and password",
		     user_of(server), credential_is(server), user_of(server));
		return;
	}
	send_password(server, answer);
	secret_wipe(answer, sizeof answer);
}

/* SASLInitialResponse (section "SCRAM-SHA-256 Authentication"). */
static void take_sasl(struct pg_server *server, struct reader *r) {
	struct pg_server_login *login = server->login;
	struct scram_binding binding = {0};
	bool offers_scram = false, offers_plus = false;

	if (login->scram) {
		fail(server, true, "the server began SASL authentication twice");
		return;
	}
	for (;;) {
		size_t len = 0;
		const char *name = reader_cstr(r, &len);
		if (!name || len == 0)
			break;
		offers_scram |= strcmp(name, SCRAM_PLAIN_NAME) == 0;
		offers_plus |= strcmp(name, SCRAM_PLUS_NAME) == 0;
	}
	if (server->base.stream.ssl)
		binding.len = tls_server_end_point(server->base.stream.ssl, false, binding.bytes);
	bool plus = offers_plus && binding.len > 0;
	if (!r->ok || (!offers_scram && !plus)) {
		fail(server, true, "the server offers no SASL mechanism that is supported; SCRAM-SHA-256 is");
		return;
	}
	login->scram = scram_client_new(&binding, plus);
	if (!login->scram) {
		fail_memory(server);
		return;
	}
	const char *first = scram_client_first(login->scram);
	struct pg_builder b = pg_builder(server->base.sw->worker->buffers);
	pg_open(&b, 'p');
	pg_cstr(&b, plus ? SCRAM_PLUS_NAME : SCRAM_PLAIN_NAME);
	pg_u32(&b, (uint32_t)strlen(first));
	pg_raw(&b, first, strlen(first));
	pg_close(&b);
	login->state = LOGIN_SASL_CHALLENGE;
	send_built(server, &b);
}

static void send_proof(struct pg_server *server, struct scram_keys *keys) {
	const char *final = scram_client_final(server->login->scram, keys);

	secret_wipe(keys, sizeof *keys);
	if (!final) {
		fail_memory(server);
		return;
	}
	struct pg_builder b = pg_builder(server->base.sw->worker->buffers);
	b.ok = buf_reserve(b.cache, &b.buf, strlen(final) + 16);
	pg_open(&b, 'p');
	pg_raw(&b, final, strlen(final));
	pg_close(&b);
	server->login->state = LOGIN_SASL_FINAL;
	send_built(server, &b);
}

static void derive_work(struct offload_job *job) {
	struct derivation *d = container_of(job, struct derivation, job);
	d->ok = pg_credential_derive(d->credential, &d->salt, &d->keys);
}

static void derive_done(struct offload_job *job) {
	struct derivation *d = container_of(job, struct derivation, job);
	struct pg_server *server = d->owner;

	if (server) {
		server->login->derivation = NULL;
		if (d->ok)
			send_proof(server, &d->keys);
		else
			fail_memory(server);
	}
	pg_credential_unref(d->credential);
	secret_wipe(d, sizeof *d);
	free(d);
}

static void derive(struct pg_server *server, const struct scram_salt *salt) {
	struct derivation *d = calloc(1, sizeof *d);

	if (!d) {
		fail_memory(server);
		return;
	}
	d->owner = server;
	d->credential = pg_credential_ref(server->login->credential);
	d->salt = *salt;
	d->job.work = derive_work;
	d->job.done = derive_done;
	server->login->derivation = d;
	server->login->state = LOGIN_DERIVING;
	offload_submit(&d->job, server->base.sw->worker);
}

static void take_challenge(struct pg_server *server, struct reader *r) {
	struct pg_server_login *login = server->login;
	struct scram_salt salt = {0};
	struct scram_keys keys;
	struct error error;
	size_t len = reader_left(r);

	switch (scram_client_challenge(login->scram, reader_bytes(r, len), len, &salt, &error)) {
	case SCRAM_OK:
		break;
	case SCRAM_NO_MEMORY:
		fail_memory(server);
		return;
	default:
		fail(server, true, "SCRAM: %s", error.text);
		return;
	}
	switch (pg_credential_keys(login->credential, &salt, &keys)) {
	case PG_KEYS_READY:
		send_proof(server, &keys);
		return;
	case PG_KEYS_DERIVE:
		derive(server, &salt);
		return;
	case PG_KEYS_OTHER_SALT:
		fail(server, true,
		     "the SCRAM secret of user \"%s\" here is not the server's (another salt): copy it from "
		     "pg_authid.rolpassword, or store the password",
		     user_of(server));
		return;
	case PG_KEYS_NONE:
		fail(server, true,
		     "the server asks for SCRAM of user \"%s\" but there is only %s; store the password, or let "
		     "clients log in by scram-sha-256 with the server's own secret",
		     user_of(server), credential_is(server));
		return;
	}
}

static void take_sasl_final(struct pg_server *server, struct reader *r) {
	struct error error;
	size_t len = reader_left(r);
	enum scram_result result = scram_client_verify(server->login->scram, reader_bytes(r, len), len, &error);

	if (result != SCRAM_OK)
		fail(server, true, "SCRAM: %s", error.text);
	else
		server->login->state = LOGIN_SASL_DONE;
}

/* One authentication request. */
static void take_authentication(struct pg_server *server, const uint8_t *body, size_t len) {
	struct pg_server_login *login = server->login;
	struct reader r = reader_over(body, len);
	uint32_t code = reader_u32be(&r);
	bool due;

	switch (code) {
	case AUTH_OK:
		due = login->state == LOGIN_AUTH || login->state == LOGIN_ANSWERED || login->state == LOGIN_SASL_DONE;
		break;
	case AUTH_SASL_CONTINUE:
		due = login->state == LOGIN_SASL_CHALLENGE;
		break;
	case AUTH_SASL_FINAL:
		due = login->state == LOGIN_SASL_FINAL;
		break;
	default:
		due = login->state == LOGIN_AUTH;
		break;
	}
	if (!r.ok || !due) {
		fail(server, true, "the server sent an authentication request (%u) out of turn", code);
		return;
	}
	switch (code) {
	case AUTH_OK:
		login->state = LOGIN_PARAMETERS;
		return;
	case AUTH_CLEARTEXT:
		take_cleartext(server);
		return;
	case AUTH_MD5_PASSWORD:
		take_md5(server, &r);
		return;
	case AUTH_SASL:
		take_sasl(server, &r);
		return;
	case AUTH_SASL_CONTINUE:
		take_challenge(server, &r);
		return;
	case AUTH_SASL_FINAL:
		take_sasl_final(server, &r);
		return;
	case AUTH_KERBEROS_V5:
	case AUTH_GSS:
	case AUTH_SSPI:
		fail(server, true,
		     "the server asks for GSSAPI, SSPI or Kerberos, which is not supported; let its pg_hba.conf ask "
		     "this host for scram-sha-256");
		return;
	default:
		fail(server, true, "the server asks for an authentication (%u) that is not supported", code);
		return;
	}
}

/* ---- what the server says of itself ---- */

static void take_parameter(struct pg_server *server, const uint8_t *body, size_t len) {
	struct reader r = reader_over(body, len);
	const char *name = reader_cstr(&r, NULL);
	const char *value = reader_cstr(&r, NULL);

	if (!name || !value) {
		fail(server, false, "the server sent a malformed ParameterStatus");
		return;
	}
	struct settings *with = settings_with(server->settings, name, value, true);
	if (!with) {
		fail_memory(server);
		return;
	}
	settings_unref(server->settings);
	server->settings = with;
}

static void take_key(struct pg_server *server, const uint8_t *body, size_t len) {
	struct reader r = reader_over(body, len);
	uint32_t pid = reader_u32be(&r);
	size_t key_len = reader_left(&r);
	const uint8_t *key = reader_bytes(&r, key_len);

	if (!key || key_len < 4 || key_len > PG_CANCEL_KEY_MAX) {
		fail(server, false, "the server sent a malformed BackendKeyData");
		return;
	}
	server->backend_pid = pid;
	memcpy(server->cancel_key, key, key_len);
	server->cancel_key_len = (uint16_t)key_len;
}

static void take_ready(struct pg_server *server, const uint8_t *body, size_t len) {
	struct reader r = reader_over(body, len);

	if (reader_u8(&r) != 'I' || reader_left(&r) > 0) {
		fail(server, false, "the server was not idle after the login");
		return;
	}
	/* It works this way: logins to come begin like this one. */
	server->status = 'I';
	pg_server_login_free(server);
	pg_server_logged_in(server);
}

static void take_message(struct pg_server *server, char type, const uint8_t *body, size_t len) {
	bool authenticated = server->login->state == LOGIN_PARAMETERS;

	switch (type) {
	case 'R':
		take_authentication(server, body, len);
		return;
	case 'E':
		take_error(server, body, len);
		return;
	case 'N': {
		struct pg_error_view view = pg_error_view(body, len);
		log_debug("server_notice", LOG_FIELDS(LOG_TEXT("server", server->base.host_text)), "%s",
			  view.message ? view.message : "");
		return;
	}
	case 'v': /* NegotiateProtocolVersion: we ask for nothing that could be refused */
		return;
	case 'S':
		if (authenticated) {
			take_parameter(server, body, len);
			return;
		}
		break;
	case 'K':
		if (authenticated) {
			take_key(server, body, len);
			return;
		}
		break;
	case 'Z':
		if (authenticated) {
			take_ready(server, body, len);
			return;
		}
		break;
	default:
		break;
	}
	fail(server, false, "the server sent a message of type %d during the login; is that a PostgreSQL server?",
	     (unsigned char)type);
}

static bool is_over(const struct pg_server *server) {
	return !server->login || server->base.state == SERVER_CLOSED || server->base.close_wanted;
}

size_t pg_server_login_input(struct pg_server *server, const uint8_t *data, size_t len) {
	size_t used = 0;

	while (used < len && !is_over(server)) {
		struct pg_server_login *login = server->login;
		if (login->state == LOGIN_TLS_ANSWER) {
			take_tls_answer(server, data + used, len - used);
			/* What came behind the answer was looked at, and refused. */
			return len;
		}
		struct reader r = reader_over(data + used, len - used);
		char type = (char)reader_u8(&r);
		uint32_t length = reader_u32be(&r);
		if (!r.ok)
			break;
		uint32_t most = login->state == LOGIN_PARAMETERS ? PG_SERVER_MESSAGE_MAX : PG_LOGIN_MESSAGE_MAX;
		if (length < 4 || length > most) {
			fail(server, false,
			     "the server sent a message of %u bytes during the login; is that a PostgreSQL server?",
			     length);
			return len;
		}
		const uint8_t *body = reader_bytes(&r, length - 4);
		if (!body)
			break;
		if (login->state == LOGIN_DERIVING && type != 'E' && type != 'N') {
			fail(server, false, "the server did not wait for the answer to its challenge");
			return len;
		}
		used += 1 + (size_t)length;
		take_message(server, type, body, length - 4);
	}
	return is_over(server) && server->base.state == SERVER_CLOSED ? len : used;
}
