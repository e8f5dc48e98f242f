/*
 * Who a client is: trust, mysql_native_password, caching_sha2_password, mysql_clear_password ("Authentication Methods").
 *
 * An attacker must not learn which users exist. So an unknown user, one without a secret, and one whose secret does not
 * fit the method go through the same exchange as a known one; and where a password itself is checked, that costs one
 * hash on a helper thread, whoever it is.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/secret.h"
#include "mysql/credential.h"
#include "mysql/login.h"
#include "mysql/verifier.h"
#include "net/offload.h"
#include "net/worker.h"

enum my_auth_work {
	WORK_CHECK,   /* a password, against a stored secret */
	WORK_DECRYPT, /* the same, of a password under our RSA key */
	WORK_KEY      /* our RSA key, which may have to be made */
};

/* Work on a helper thread. It outlives the login when that ends meanwhile. */
struct my_auth_job {
	struct offload_job job;
	struct my_client *owner;       /* NULL: gone */
	struct generation *generation; /* referenced; holds `setup` */
	struct my_listener *setup;
	enum my_auth_work work;

	uint8_t scramble[MY_SCRAMBLE];
	uint8_t cipher[MY_RSA_CIPHER_MAX];
	size_t cipher_len;
	char password[MY_RSA_CIPHER_MAX]; /* given, or found */
	char *secret;                     /* stored; NULL: nothing fits */
	enum my_secret_type secret_type;

	bool ok;
	char pem[MY_RSA_PEM_MAX];
	size_t pem_len;
};

static void succeed(struct my_client *client);

/* ---- the end of a failed login ---- */

static void reject_login(struct my_client *client) {
	struct my_login *login = client->login;
	bool has_password = login->answer_len > 0 || login->state != MY_LOGIN_RESPONSE;
	char text[MY_USER_MAX + 160], peer[STREAM_PEER_TEXT], reason[sizeof login->doomed];

	stream_peer_text(&client->base.peer, peer);
	char *port = client->base.peer.family == AF_UNIX ? NULL : strrchr(peer, ':');
	if (port)
		*port = '\0';
	snprintf(text, sizeof text, "Access denied for user '%s'@'%s' (using password: %s)", login->user,
		 client->base.peer.family == AF_UNIX ? "localhost" : peer, has_password ? "YES" : "NO");
	snprintf(reason, sizeof reason, "%s", login->doomed[0] ? login->doomed : "wrong password");
	my_login_reject(client, MY_ER_ACCESS_DENIED_ERROR, text, reason);
}

static void doom(struct my_login *login, const char *why) {
	if (!login->doomed[0])
		snprintf(login->doomed, sizeof login->doomed, "%s", why);
}

/* ---- work on other threads ---- */

/* The hash is computed whether it is needed or not: see the top. */
static bool password_is_right(const struct my_auth_job *job) {
	struct my_sha2_stored stored = {.rounds = 5000};
	char hash[MY_SHA2_HASH + 1];
	uint8_t key[MY_SHA1], twice[MY_SHA1], native[MY_SHA1];

	if (job->secret_type == MY_SECRET_SHA2 && !my_sha2_parse(job->secret, &stored))
		return false;
	if (!my_sha2_hash(job->password, strlen(job->password), stored.salt, stored.rounds, hash))
		return false;
	switch (job->secret ? job->secret_type : MY_SECRET_NONE) {
	case MY_SECRET_SHA2:
		return secret_equal(hash, MY_SHA2_HASH, stored.hash, MY_SHA2_HASH);
	case MY_SECRET_PLAIN:
		return secret_equal_text(job->password, job->secret);
	case MY_SECRET_NATIVE:
		my_native_key(job->password, key);
		my_sha1(key, sizeof key, twice);
		secret_wipe(key, sizeof key);
		return my_native_parse(job->secret, native) && secret_equal(twice, MY_SHA1, native, MY_SHA1);
	default:
		return false;
	}
}

static void job_work(struct offload_job *base) {
	struct my_auth_job *job = container_of(base, struct my_auth_job, job);
	struct evp_pkey_st *key = job->work == WORK_CHECK ? NULL : my_listener_key(job->setup);

	switch (job->work) {
	case WORK_KEY:
		job->pem_len = key ? my_rsa_public(key, job->pem) : 0;
		return;
	case WORK_DECRYPT:
		if (!key || !my_rsa_decrypt(key, job->scramble, job->cipher, job->cipher_len, job->password,
					    sizeof job->password) ||
		    strlen(job->password) > MY_PASSWORD_MAX) {
			job->secret_type = MY_SECRET_NONE;
			job->password[0] = '\0';
		}
		break;
	case WORK_CHECK:
		break;
	}
	job->ok = password_is_right(job) && job->password[0];
}

static void job_free(struct my_auth_job *job) {
	generation_unref(job->generation);
	secret_free(job->secret);
	secret_wipe(job, sizeof *job);
	free(job);
}

/* Input may be handled again, unless what was just done holds it for something else. */
static void go_on(struct my_client *client) {
	if (client->base.state != CLIENT_CLOSED && !client->base.closing && client->base.hold == HOLD_NONE)
		client_resume(&client->base);
}

static void send_key(struct my_client *client, const struct my_auth_job *job) {
	struct my_builder b = my_builder(client->base.sw->worker->buffers);

	if (job->pem_len == 0) {
		my_login_reject(client, MY_ER_OUT_OF_RESOURCES, "no RSA key could be made; connect with TLS", NULL);
		return;
	}
	my_open(&b, client->sequence++);
	my_put_u8(&b, MY_PACKET_MORE_DATA);
	my_put(&b, job->pem, job->pem_len);
	my_close(&b);
	client->login->state = MY_LOGIN_SHA2_CIPHER;
	my_login_send(client, &b);
}

static void checked(struct my_client *client, const struct my_auth_job *job) {
	struct my_login *login = client->login;
	uint8_t known[MY_SHA256];

	if (!job->ok || login->doomed[0]) {
		reject_login(client);
		return;
	}
	login->password = secret_strdup(job->password);
	if (login->secret_type == MY_SECRET_SHA2) {
		my_sha2_key(job->password, login->sha256);
		my_sha256(login->sha256, sizeof login->sha256, known);
		my_verifier_keep(login->user, login->secret, known);
	}
	succeed(client);
}

static void job_done(struct offload_job *base) {
	struct my_auth_job *job = container_of(base, struct my_auth_job, job);
	struct my_client *client = job->owner;

	if (client)
		client->login->job = NULL;
	if (client && !client->base.closing) { /* it may have been ended meanwhile */
		client->base.hold = HOLD_NONE;
		if (job->work == WORK_KEY)
			send_key(client, job);
		else
			checked(client, job);
		go_on(client);
	}
	job_free(job);
}

/* Hands work to a helper thread; the client is not read meanwhile. `bytes`: the password, or what is to become it. */
static void start_job(struct my_client *client, enum my_auth_work work, const uint8_t *bytes, size_t len) {
	struct my_login *login = client->login;
	struct my_auth_job *job = calloc(1, sizeof *job);

	if (!job || (login->secret && !(job->secret = secret_strdup(login->secret)))) {
		free(job);
		my_login_reject(client, MY_ER_OUT_OF_RESOURCES, "out of memory", NULL);
		return;
	}
	job->owner = client;
	job->work = work;
	job->generation = generation_ref(client->base.listener->generation);
	job->setup = client->base.listener->setup;
	job->secret_type = login->secret_type;
	memcpy(job->scramble, client->scramble, sizeof job->scramble);
	if (work == WORK_DECRYPT) {
		memcpy(job->cipher, bytes, len);
		job->cipher_len = len;
	} else if (len > 0) {
		memcpy(job->password, bytes, len);
	}
	job->job.work = job_work;
	job->job.done = job_done;
	login->job = job;
	login->state = MY_LOGIN_BUSY;
	client->base.hold = HOLD_LOGIN;
	offload_submit(&job->job, client->base.sw->worker);
}

void my_auth_detach(struct my_login *login) {
	if (login->job)
		login->job->owner = NULL;
	if (login->lookup)
		login->lookup->context = NULL;
	login->job = NULL;
	login->lookup = NULL;
}

/* ---- passwords and proofs ---- */

/* A password with its zero, as mysql_clear_password and the full path of caching_sha2_password send it. */
static void take_password(struct my_client *client, const uint8_t *body, size_t len) {
	struct my_login *login = client->login;

	if (len > 0 && body[len - 1] == 0)
		len--;
	if (len > MY_PASSWORD_MAX || memchr(body, 0, len)) {
		doom(login, "it sent a password that is longer than 256 bytes, or has a zero in it");
		len = 0;
	}
	login->answer_len = len;
	start_job(client, WORK_CHECK, body, len);
}

static void take_native(struct my_client *client, const uint8_t *answer, size_t len) {
	struct my_login *login = client->login;
	uint8_t stored[MY_SHA1];
	bool ok = !login->doomed[0] && len == MY_SHA1;

	login->answer_len = len;
	if (ok && login->secret_type == MY_SECRET_PLAIN) {
		my_native_key(login->secret, stored);
		my_sha1(stored, sizeof stored, stored);
	} else if (ok) {
		ok = login->secret_type == MY_SECRET_NATIVE && my_native_parse(login->secret, stored);
	}
	ok = ok && my_native_check(answer, client->scramble, stored, login->sha1);
	secret_wipe(stored, sizeof stored);
	if (!ok) {
		reject_login(client);
		return;
	}
	login->has_sha1 = true;
	succeed(client);
}

static bool send_sha2(struct my_client *client, uint8_t what) {
	struct my_builder b = my_builder(client->base.sw->worker->buffers);

	my_open(&b, client->sequence++);
	my_put_u8(&b, MY_PACKET_MORE_DATA);
	my_put_u8(&b, what);
	my_close(&b);
	return my_login_send(client, &b);
}

/* The fast path, where the password is known or was shown before; else the full one. */
static void take_sha2(struct my_client *client, const uint8_t *answer, size_t len) {
	struct my_login *login = client->login;
	uint8_t known[MY_SHA256];
	bool ok = !login->doomed[0] && len == MY_SHA256;

	login->answer_len = len;
	if (len == 0) { /* no password, which nobody here has */
		reject_login(client);
		return;
	}
	if (ok && login->secret_type == MY_SECRET_PLAIN) {
		my_sha2_key(login->secret, known);
		my_sha256(known, sizeof known, known);
	} else if (ok) {
		ok = login->secret_type == MY_SECRET_SHA2 && my_verifier_find(login->user, login->secret, known);
	}
	ok = ok && my_sha2_check(answer, client->scramble, known, login->sha256);
	secret_wipe(known, sizeof known);
	login->has_sha256 = ok;
	login->state = MY_LOGIN_SHA2_PASSWORD;
	if (!send_sha2(client, ok ? MY_SHA2_FAST_OK : MY_SHA2_FULL))
		return;
	if (ok)
		succeed(client);
}

/* What comes after we have asked for the password itself. */
static void take_full(struct my_client *client, const uint8_t *body, size_t len) {
	struct my_login *login = client->login;

	if (login->state == MY_LOGIN_SHA2_CIPHER) {
		if (len > MY_RSA_CIPHER_MAX) {
			doom(login, "what it sent is not under our RSA key");
			len = 0;
		}
		start_job(client, WORK_DECRYPT, body, len);
	} else if (len == 1 && body[0] == MY_SHA2_REQUEST_KEY) {
		start_job(client, WORK_KEY, NULL, 0);
	} else if (!my_login_private(client)) {
		/* A client with our key at hand encrypts at once. */
		login->state = MY_LOGIN_SHA2_CIPHER;
		take_full(client, body, len);
	} else {
		take_password(client, body, len);
	}
}

static void take_answer(struct my_client *client, const uint8_t *answer, size_t len) {
	switch (client->login->plugin) {
	case MY_PLUGIN_NATIVE:
		take_native(client, answer, len);
		return;
	case MY_PLUGIN_SHA2:
		take_sha2(client, answer, len);
		return;
	case MY_PLUGIN_CLEAR:
		take_password(client, answer, len);
		return;
	case MY_PLUGIN_OTHER:
		break;
	}
	reject_login(client);
}

void my_auth_message(struct my_client *client, const uint8_t *body, size_t len) {
	if (client->base.listener->config->auth == AUTH_TRUST)
		succeed(client);
	else if (client->login->state == MY_LOGIN_ANSWER)
		take_answer(client, body, len);
	else
		take_full(client, body, len);
}

/* ---- which plugin ---- */

/* By which plugin the client must prove who it is. */
static enum my_plugin wanted_plugin(const struct my_client *client) {
	const struct my_login *login = client->login;
	enum my_secret_type type = login->secret ? login->secret_type : my_verifier_guise(login->user);

	switch (client->base.listener->config->auth) {
	case AUTH_MYSQL_NATIVE_PASSWORD:
		return MY_PLUGIN_NATIVE;
	case AUTH_CACHING_SHA2_PASSWORD:
		return MY_PLUGIN_SHA2;
	case AUTH_MYSQL_CLEAR_PASSWORD:
		return MY_PLUGIN_CLEAR;
	default:
		break;
	}
	if (login->client_plugin == MY_PLUGIN_CLEAR && my_login_private(client))
		return MY_PLUGIN_CLEAR;
	if (type == MY_SECRET_NATIVE)
		return MY_PLUGIN_NATIVE;
	if (type == MY_SECRET_SHA2)
		return MY_PLUGIN_SHA2;
	return login->client_plugin == MY_PLUGIN_SHA2 ? MY_PLUGIN_SHA2 : MY_PLUGIN_NATIVE;
}

/* "Protocol::AuthSwitchRequest", with a challenge of its own; but with the last one after COM_CHANGE_USER: client libraries
 * answer that one whatever they are sent. */
static void switch_plugin(struct my_client *client) {
	struct my_login *login = client->login;
	struct my_builder b = my_builder(client->base.sw->worker->buffers);

	if (!login->has_plugins) {
		my_login_reject(client, MY_ER_NOT_SUPPORTED_AUTH_MODE,
				"Client does not support authentication protocol requested by server; consider upgrading the client",
				"it knows nothing but mysql_native_password");
		return;
	}
	b.ok = login->again || my_login_scramble(client->scramble);
	my_open(&b, client->sequence++);
	my_put_u8(&b, MY_PACKET_AUTH_SWITCH);
	my_put_cstr(&b, my_plugin_name(login->plugin));
	if (login->plugin != MY_PLUGIN_CLEAR) {
		my_put(&b, client->scramble, sizeof client->scramble);
		my_put_u8(&b, 0);
	}
	my_close(&b);
	login->state = MY_LOGIN_ANSWER;
	my_login_send(client, &b);
}

/* The secret is known, or known not to exist. */
static void begin_exchange(struct my_client *client) {
	struct my_login *login = client->login;

	login->secret_type = my_secret_type_of(login->secret);
	if (login->secret_type == MY_SECRET_NONE) {
		secret_free(login->secret);
		login->secret = NULL;
		doom(login, "the user has no password");
	} else if (login->secret_type == MY_SECRET_FOREIGN) {
		doom(login, "its stored secret is PostgreSQL's; expected a password, *HEX or $A$...");
	} else {
		my_verifier_saw(login->secret_type);
	}
	login->plugin = wanted_plugin(client);
	if (login->plugin == MY_PLUGIN_NATIVE && login->secret_type == MY_SECRET_SHA2)
		doom(login, "its stored secret is $A$...; mysql_native_password needs *HEX or the password");
	if (login->plugin == MY_PLUGIN_SHA2 && login->secret_type == MY_SECRET_NATIVE)
		doom(login, "its stored secret is *HEX; caching_sha2_password needs $A$... or the password");
	if (login->plugin == MY_PLUGIN_CLEAR && !my_login_private(client)) {
		my_login_reject(client, MY_ER_SECURE_TRANSPORT_REQUIRED,
				"this listener asks for the password in the clear, which needs TLS; connect with it", NULL);
		return;
	}
	/* What a client answers to the challenge of another plugin than its own is none. */
	if (login->plugin != login->client_plugin || login->plugin != login->greeted || login->answer_cut) {
		switch_plugin(client);
		return;
	}
	uint8_t answer[sizeof login->answer];
	memcpy(answer, login->answer, sizeof answer);
	secret_wipe(login->answer, sizeof login->answer);
	take_answer(client, answer, login->answer_len);
	secret_wipe(answer, sizeof answer);
}

/* ---- where secrets come from ---- */

static void lookup_done(struct lookup *lookup) {
	struct my_client *client = lookup->context;

	if (client)
		client->login->lookup = NULL;
	if (client && !client->base.closing) { /* it may have been ended meanwhile */
		struct my_login *login = client->login;
		login->state = MY_LOGIN_RESPONSE;
		client->base.hold = HOLD_NONE;
		if (lookup->result == LOOKUP_FAILED) {
			char reason[320];
			snprintf(reason, sizeof reason, "auth_query failed: %s", lookup->error);
			my_login_reject(client, MY_ER_NET_READ_ERROR,
					"the password cannot be looked up at the moment; try again later, the log of the pooler says "
					"what is wrong",
					reason);
		} else {
			if (lookup->result == LOOKUP_FOUND) {
				login->secret = lookup->secret;
				lookup->secret = NULL;
			} else {
				doom(login, "auth_query knows no such user");
			}
			begin_exchange(client);
		}
		go_on(client);
	}
	lookup_free(lookup);
}

static void find_secret(struct my_client *client) {
	struct my_login *login = client->login;
	const struct config *config = client->base.listener->generation->config;
	const struct user_config *user = config_user(config, login->user);
	/* names that are longer than a look-up takes have none */
	const char *where = strlen(login->user) < sizeof login->lookup->user ? login->pool : NULL;
	const struct pool_config *pool = lookup_pool(config, PROTOCOL_MYSQL, where, user);

	if (pool && (login->lookup = lookup_begin(&client->base, pool, login->pool, login->user, lookup_done))) {
		login->state = MY_LOGIN_BUSY;
		return;
	}
	if (user && !pool)
		login->secret = secret_strdup(user->password);
	else
		snprintf(login->doomed, sizeof login->doomed,
			 "unknown user: neither [user:...] nor auth_file%s knows it", pool ? " nor auth_query" : "");
	begin_exchange(client);
}

void my_auth_begin(struct my_client *client) {
	struct my_login *login = client->login;

	if (client->base.listener->config->auth != AUTH_TRUST) {
		find_secret(client);
	} else if (login->has_plugins && login->client_plugin != login->greeted) {
		/* A plugin that has a dialogue of its own does not take an OK for its end. */
		login->plugin = MY_PLUGIN_NATIVE;
		switch_plugin(client);
	} else {
		succeed(client);
	}
}

/* ---- success ---- */

static void *ref_credential(void *credential) {
	return my_credential_ref(credential);
}

/* Servers of the account log in with what is shown, unless they can do that already. */
static void teach(struct account *account, const struct my_shown *shown) {
	struct my_credential *old = account_credential(account, ref_credential);
	struct my_credential *merged = my_credential_merged(old, shown);

	if (merged)
		account_set_credential(account, merged);
	my_credential_unref(old);
}

static void keep_credential(struct my_client *client, struct pool_user *user) {
	struct my_login *login = client->login;
	const struct user_config *known = NULL;

	if (!login->secret) /* trust: the configuration may still know a secret */
		known = config_user(client->base.listener->generation->config, login->user);
	struct my_shown shown = {
		.stored = login->secret ? login->secret : known ? known->password : NULL,
		.password = login->password,
		.sha1 = login->has_sha1 ? login->sha1 : NULL,
		.sha256 = login->has_sha256 ? login->sha256 : NULL,
	};
	teach(account_of(user), &shown);
}

static void reject_pool(struct my_client *client) {
	const struct my_login *login = client->login;
	char text[MY_SCHEMA_MAX + 300];

	if (login->schema[0])
		snprintf(text, sizeof text,
			 "no pool: there is no [pool:%.100s] of protocol mysql, and neither pool = of [user:%.100s] nor "
			 "default_pool of the listener names one",
			 login->schema, login->user);
	else
		snprintf(text, sizeof text,
			 "no pool: name the schema of one when connecting, or set pool = in [user:%.100s] or default_pool of the "
			 "listener",
			 login->user);
	my_login_reject(client, login->schema[0] ? MY_ER_BAD_DB_ERROR : MY_ER_NO_DB_ERROR, text, NULL);
}

/* Where the session is at its start: the schema that the client has named, unless that is but the pool's name. */
static bool set_schema(struct my_client *client, const struct pool_config *pool, const char *pool_name) {
	const struct my_login *login = client->login;
	bool is_pool = !login->schema[0] || strcmp(login->schema, pool_name) == 0;
	const char *schema = is_pool && pool->database ? pool->database : login->schema;

	free(client->start.schema);
	client->start.schema = NULL;
	/* Servers that log in with a schema cannot be made to have none again. */
	if (!schema[0])
		return true;
	client->start.schema = strdup(schema);
	return client->start.schema != NULL;
}

/* Whose connections the client uses. */
static struct pool_user *find_account(struct my_client *client, struct database *database, const struct pool_config *pool) {
	const char *user = pool->user ? pool->user : client->login->user;
	bool found_rows = client->start.capabilities & MY_CLIENT_FOUND_ROWS, no_schema = !client->start.schema;
	char variant[MY_USER_MAX + 1 + sizeof MY_FOUND_ROWS_ACCOUNT + sizeof MY_NO_SCHEMA_ACCOUNT];

	if (!found_rows && !no_schema)
		return database_user(database, user);
	snprintf(variant, sizeof variant, "%.*s%c%s%s%s", MY_USER_MAX, user, ACCOUNT_VARIANT,
		 found_rows ? MY_FOUND_ROWS_ACCOUNT : "", found_rows && no_schema ? " " : "",
		 no_schema ? MY_NO_SCHEMA_ACCOUNT : "");
	struct pool_user *account = database_user(database, variant);
	if (account && pool->user) /* the plain account of a pool's own user has its credential from the configuration */
		teach(account_of(account), &(struct my_shown){.stored = pool->password});
	return account;
}

/* The client is who it says. */
static void succeed(struct my_client *client) {
	struct my_login *login = client->login;
	struct session_worker *sw = client->base.sw;
	struct error error = {0};

	if (!login->pool) {
		reject_pool(client);
		return;
	}
	struct database *database = database_find(sw, PROTOCOL_MYSQL, login->pool, &error);
	if (!database) {
		my_login_reject(client, error.code == EAGAIN ? MY_ER_OPTION_PREVENTS_STATEMENT : MY_ER_BAD_DB_ERROR, error.text,
				NULL);
		return;
	}
	const struct pool_config *pool = database_view(database, sw->worker->id)->config;
	struct pool_user *user = set_schema(client, pool, database->name) ? find_account(client, database, pool) : NULL;
	if (!user) {
		my_login_reject(client, MY_ER_OUT_OF_RESOURCES, "out of memory", NULL);
		return;
	}
	if (!pool->user)
		keep_credential(client, user);
	char name[sizeof login->user];
	memcpy(name, login->user, sizeof name);
	bool again = login->again;
	my_login_free(client);
	if (again ? !client_changed_user(&client->base, name, database, user)
		  : !client_logged_in(&client->base, name, database, user))
		return;
	struct my_ok ok = {.status = MY_STATUS_AUTOCOMMIT};
	if (!(again ? my_client_changed_user(client) : my_client_logged_in(client)) || !my_send_ok(client, &ok))
		client_end(&client->base, REFUSAL_INTERNAL, "out of memory");
}
