/*
 * Who a client is: trust, password, md5, SCRAM, certificate, peer, as the listener or its HBA file says.
 *
 * An attacker must not learn which users exist. So an unknown user, one without a secret, and one whose secret does
 * not fit the method go through the same exchange as a known one, with salts that look the same at each attempt; and
 * every failed login costs one derivation of keys, done on a helper thread before the answer is sent, whether the
 * login needed one or not.
 */
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/reader.h"
#include "base/secret.h"
#include "net/offload.h"
#include "net/worker.h"
#include "pgsql/credential.h"
#include "pgsql/login.h"
#include "pgsql/verifier.h"

/* AuthenticationRequest codes (section "Message Formats"). */
enum {
	AUTH_CLEARTEXT = 3,
	AUTH_MD5_PASSWORD = 5,
	AUTH_SASL_BEGIN = 10,
	AUTH_SASL_CONTINUE = 11,
	AUTH_SASL_FINAL = 12
};

enum auth_job_type {
	JOB_KEYS,  /* the keys of a plaintext secret, to verify a proof */
	JOB_CHECK, /* the keys of a password that the client showed, to compare with a SCRAM secret */
	JOB_FAIL,  /* for the time that it takes */
	JOB_PEER   /* the name of a Unix socket's peer */
};

/* Work on a helper thread. It outlives the login when that ends meanwhile. */
struct auth_job {
	struct offload_job job;
	struct pg_client *owner; /* NULL: gone */
	enum auth_job_type type;
	char *password;
	struct scram_salt salt;
	struct scram_keys keys;
	int uid;
	char name[256];
	bool ok;
};

static void succeed(struct pg_client *client);
static void admit(struct pg_client *client);
static void verify_proof(struct pg_client *client);

/* ---- the end of a failed login ---- */

static void reject_login(struct pg_client *client) {
	struct pg_login *login = client->login;
	char text[160];

	snprintf(text, sizeof text, "%s authentication failed for user \"%s\"",
		 login->method == HBA_CERT   ? "certificate"
		 : login->method == HBA_PEER ? "peer"
		 : login->method == HBA_TRUST ? "trust"
					     : "password",
		 login->user);
	char reason[sizeof login->doomed];
	snprintf(reason, sizeof reason, "%s", login->doomed);
	bool by_password = login->method != HBA_CERT && login->method != HBA_PEER && login->method != HBA_TRUST;
	pg_login_reject(client, by_password ? "28P01" : "28000", text, NULL, reason[0] ? reason : "wrong password");
}

static void reject_malformed(struct pg_client *client, enum scram_result result, const char *detail) {
	char text[400];

	switch (result) {
	case SCRAM_BINDING:
		snprintf(text, sizeof text, "SCRAM channel binding check failed: %s", detail);
		pg_login_reject(client, "28000", text, NULL, NULL);
		return;
	case SCRAM_UNSUPPORTED:
		snprintf(text, sizeof text, "SCRAM: %s", detail);
		pg_login_reject(client, "0A000", text, NULL, NULL);
		return;
	case SCRAM_NO_MEMORY:
		pg_login_reject(client, "53200", "out of memory", NULL, NULL);
		return;
	default:
		snprintf(text, sizeof text, "malformed SCRAM message: %s", detail);
		pg_login_reject(client, "08P01", text, NULL, NULL);
		return;
	}
}

/* ---- work on other threads ---- */

static void job_work(struct offload_job *base) {
	struct auth_job *job = container_of(base, struct auth_job, job);

	if (job->type != JOB_PEER) {
		job->ok = scram_derive(job->password, &job->salt, &job->keys);
		return;
	}
	char room[4096];
	struct passwd entry, *found = NULL;
	if (getpwuid_r((uid_t)job->uid, &entry, room, sizeof room, &found) == 0 && found &&
	    strlen(found->pw_name) < sizeof job->name) {
		snprintf(job->name, sizeof job->name, "%s", found->pw_name);
		job->ok = true;
	}
}

static void job_free(struct auth_job *job) {
	secret_free(job->password);
	secret_wipe(job, sizeof *job);
	free(job);
}

/* Input may be handled again, unless what was just done holds it for something else. */
static void go_on(struct pg_client *client) {
	if (client->base.state != CLIENT_CLOSED && !client->base.closing && client->base.hold == HOLD_NONE)
		client_resume(&client->base);
}

static void keys_are_there(struct pg_client *client, struct auth_job *job) {
	struct pg_login *login = client->login;

	if (job->type == JOB_KEYS) {
		verifier_keep(login->user, job->password, &job->keys);
		memcpy(login->scram_secret.stored, job->keys.stored, SCRAM_KEY);
		memcpy(login->scram_secret.server, job->keys.server, SCRAM_KEY);
		login->keys_ready = true;
		verify_proof(client);
		return;
	}
	bool equal = secret_equal(job->keys.stored, SCRAM_KEY, login->scram_secret.stored, SCRAM_KEY) &
		     secret_equal(job->keys.server, SCRAM_KEY, login->scram_secret.server, SCRAM_KEY);
	if (equal && !login->doomed[0]) {
		login->password = job->password;
		job->password = NULL;
		succeed(client);
	} else {
		reject_login(client);
	}
}

static void peer_is_known(struct pg_client *client, const struct auth_job *job) {
	struct pg_login *login = client->login;
	const struct pg_listener *setup = client->base.listener->setup;

	if (job->ok && ident_allows(setup->ident, login->map, job->name, login->user)) {
		admit(client);
		return;
	}
	snprintf(login->doomed, sizeof login->doomed, "the peer is operating system user \"%.60s\" (%d)",
		 job->ok ? job->name : "?", job->uid);
	reject_login(client);
}

static void job_done(struct offload_job *base) {
	struct auth_job *job = container_of(base, struct auth_job, job);
	struct pg_client *client = job->owner;

	if (client)
		client->login->job = NULL;
	if (client && !client->base.closing) { /* it may have been ended meanwhile */
		client->login->derived |= job->type != JOB_PEER;
		client->base.hold = HOLD_NONE;
		if (job->type == JOB_PEER)
			peer_is_known(client, job);
		else if (job->type == JOB_FAIL)
			reject_login(client);
		else if (!job->ok)
			pg_login_reject(client, "53200", "out of memory", NULL, NULL);
		else
			keys_are_there(client, job);
		go_on(client);
	}
	job_free(job);
}

/* Hands work to a helper thread; the client is not read meanwhile. The password is copied. */
static void start_job(struct pg_client *client, enum auth_job_type type, const char *password,
		      const struct scram_salt *salt) {
	struct auth_job *job = calloc(1, sizeof *job);

	if (!job || (password && !(job->password = secret_strdup(password)))) {
		free(job);
		pg_login_reject(client, "53200", "out of memory", NULL, NULL);
		return;
	}
	job->owner = client;
	job->type = type;
	job->uid = client->base.peer.family == AF_UNIX ? client->base.peer.process.uid : -1;
	if (salt)
		job->salt = *salt;
	job->job.work = job_work;
	job->job.done = job_done;
	client->login->job = job;
	client->login->state = PG_LOGIN_BUSY;
	client->base.hold = HOLD_LOGIN;
	offload_submit(&job->job, client->base.sw->worker);
}

void pg_auth_detach(struct pg_login *login) {
	if (login->job)
		login->job->owner = NULL;
	if (login->lookup)
		login->lookup->context = NULL;
	login->job = NULL;
	login->lookup = NULL;
}

/* The login has failed; says so once it has cost what every failure costs. */
static void fail(struct pg_client *client) {
	struct scram_salt salt;

	if (client->login->derived || !verifier_salt(client->login->user, &salt))
		reject_login(client);
	else
		start_job(client, JOB_FAIL, "no password", &salt);
}

static void fail_because(struct pg_client *client, const char *reason) {
	struct pg_login *login = client->login;

	if (!login->doomed[0])
		snprintf(login->doomed, sizeof login->doomed, "%s", reason);
	fail(client);
}

/* ---- exchanges: what we ask ---- */

static struct pg_builder request(struct pg_client *client, uint32_t code) {
	struct pg_builder b = pg_builder(client->base.sw->worker->buffers);

	pg_open(&b, 'R');
	pg_u32(&b, code);
	return b;
}

/* Sends the request; an answer of this sort is due. */
static void ask(struct pg_client *client, struct pg_builder *b, enum pg_exchange exchange) {
	pg_close(b);
	client->login->exchange = exchange;
	client->login->state = PG_LOGIN_ANSWER;
	pg_login_send(client, b);
}

static void begin_md5(struct pg_client *client) {
	struct pg_login *login = client->login;
	struct pg_builder b = request(client, AUTH_MD5_PASSWORD);

	if (!secret_random(login->md5_salt, sizeof login->md5_salt))
		b.ok = false;
	pg_raw(&b, login->md5_salt, sizeof login->md5_salt);
	ask(client, &b, PG_EXCHANGE_MD5);
}

static void begin_scram(struct pg_client *client) {
	struct pg_login *login = client->login;
	bool ok = true;

	if (login->secret_type == PG_SECRET_MD5 && !login->doomed[0])
		snprintf(login->doomed, sizeof login->doomed,
			 "its stored secret is an md5 hash; scram-sha-256 needs a SCRAM secret or the password");
	if (login->secret_type != PG_SECRET_SCRAM || login->doomed[0]) {
		ok = verifier_salt(login->user, &login->scram_secret.salt);
		if (login->secret_type == PG_SECRET_PLAIN && !login->doomed[0]) {
			login->keys_ready = verifier_find(login->user, login->secret, &login->scram_secret);
		} else {
			ok = ok && secret_random(login->scram_secret.stored, SCRAM_KEY) &&
			     secret_random(login->scram_secret.server, SCRAM_KEY);
			login->keys_ready = true;
		}
	} else {
		login->keys_ready = true;
	}
	if (client->base.stream.ssl)
		login->binding.len = tls_server_end_point(client->base.stream.ssl, true, login->binding.bytes);
	struct pg_builder b = request(client, AUTH_SASL_BEGIN);
	if (!ok)
		b.ok = false;
	if (login->binding.len > 0)
		pg_cstr(&b, SCRAM_PLUS_NAME);
	pg_cstr(&b, SCRAM_PLAIN_NAME);
	pg_u8(&b, 0);
	ask(client, &b, PG_EXCHANGE_SASL_FIRST);
}

/* Those of which no password is asked. */
static bool is_without_secret(enum hba_method method) {
	return method == HBA_TRUST || method == HBA_CERT || method == HBA_PEER;
}

/* known_users_only: auth_query has been asked for a user that the configuration does not know, if there is one. */
static void enter_if_known(struct pg_client *client) {
	struct pg_login *login = client->login;

	if (!login->doomed[0])
		succeed(client);
	else
		reject_login(client);
}

/* The secret is known, or known not to exist. */
static void begin_exchange(struct pg_client *client) {
	struct pg_login *login = client->login;

	if (is_without_secret(login->method)) {
		enter_if_known(client);
		return;
	}

	if (login->secret && pg_secret_is_mysqls(login->secret)) {
		secret_free(login->secret);
		login->secret = NULL;
		snprintf(login->doomed, sizeof login->doomed,
			 "its stored secret is MySQL's; expected a password, md5... or SCRAM-SHA-256$...");
	}
	/* from wherever it comes: everybody can answer for an empty one */
	if (login->secret && !login->secret[0]) {
		secret_free(login->secret);
		login->secret = NULL;
	}
	login->secret_type = pg_secret_type_of(login->secret);
	/* What only looks like a SCRAM secret is a password, as for PostgreSQL. */
	if (login->secret_type == PG_SECRET_SCRAM && !scram_secret_parse(login->secret, &login->scram_secret))
		login->secret_type = PG_SECRET_PLAIN;
	if (!login->secret && !login->doomed[0])
		snprintf(login->doomed, sizeof login->doomed, "the user has no password");
	/* For md5, too, when the stored secret is of SCRAM, as PostgreSQL does. */
	bool scram = login->secret ? login->secret_type == PG_SECRET_SCRAM : verifier_scram_is_usual();
	if (login->method == HBA_MD5 && login->secret)
		verifier_saw_scram(scram);
	if (login->method == HBA_PASSWORD) {
		struct pg_builder b = request(client, AUTH_CLEARTEXT);
		ask(client, &b, PG_EXCHANGE_PASSWORD);
	} else if (login->method == HBA_MD5 && !scram) {
		begin_md5(client);
	} else {
		begin_scram(client);
	}
}

/* ---- where secrets come from ---- */

static void lookup_done(struct lookup *lookup) {
	struct pg_client *client = lookup->context;

	if (client)
		client->login->lookup = NULL;
	if (client && !client->base.closing) { /* it may have been ended meanwhile */
		struct pg_login *login = client->login;
		client->base.hold = HOLD_NONE;
		if (lookup->result == LOOKUP_FAILED) {
			char reason[320];
			snprintf(reason, sizeof reason, "auth_query failed: %s", lookup->error);
			pg_login_reject(client, "08006", "the password cannot be looked up at the moment",
					"Try again later; the log of the pooler says what is wrong.", reason);
		} else {
			if (lookup->result == LOOKUP_FOUND) {
				login->secret = lookup->secret;
				lookup->secret = NULL;
			} else {
				snprintf(login->doomed, sizeof login->doomed, "auth_query knows no such user");
			}
			begin_exchange(client);
		}
		go_on(client);
	}
	lookup_free(lookup);
}

static void find_secret(struct pg_client *client) {
	struct pg_login *login = client->login;
	const struct config *config = client->base.listener->generation->config;
	const struct user_config *user = config_user(config, login->user);
	const struct pool_config *pool =
		lookup_pool(config, PROTOCOL_POSTGRESQL, login->console ? NULL : login->database, user);

	if (pool && (login->lookup = lookup_begin(&client->base, pool, login->database, login->user, lookup_done))) {
		login->state = PG_LOGIN_BUSY;
		return;
	}
	if (user && !pool)
		login->secret = secret_strdup(user->password);
	else
		snprintf(login->doomed, sizeof login->doomed,
			 "unknown user: neither [user:...] nor auth_file%s knows it", pool ? " nor auth_query" : "");
	begin_exchange(client);
}

/* It has shown by other means than a secret who it is. */
static void admit(struct pg_client *client) {
	const struct listener_runtime *listener = client->base.listener;

	if (listener->config->known_users_only && !config_user(listener->generation->config, client->login->user))
		find_secret(client);
	else
		succeed(client);
}

/* ---- exchanges: what the client answers ---- */

/* PasswordMessage's one string. NULL: rejected. */
static const char *password_of(struct pg_client *client, const uint8_t *body, size_t len) {
	struct reader r = reader_over(body, len);
	const char *password = reader_cstr(&r, NULL);

	if (password && reader_left(&r) == 0)
		return password;
	pg_login_reject(client, "08P01", "invalid password packet size", NULL, NULL);
	return NULL;
}

static void take_password(struct pg_client *client, const char *password) {
	struct pg_login *login = client->login;
	char hashed[MD5_SECRET_SIZE];
	bool same = false;

	if (!password[0]) {
		fail_because(client, "empty password returned by client");
		return;
	}
	switch (login->doomed[0] ? PG_SECRET_NONE : login->secret_type) {
	case PG_SECRET_SCRAM:
		start_job(client, JOB_CHECK, password, &login->scram_secret.salt);
		return;
	case PG_SECRET_MD5:
		same = md5_secret(password, strlen(password), login->user, strlen(login->user), hashed) &&
		       secret_equal_text(hashed, login->secret);
		break;
	case PG_SECRET_PLAIN:
		same = secret_equal_text(password, login->secret);
		break;
	case PG_SECRET_NONE:
		break;
	}
	if (!same) {
		fail(client);
		return;
	}
	login->password = secret_strdup(password);
	succeed(client);
}

static void take_md5(struct pg_client *client, const char *answer) {
	struct pg_login *login = client->login;
	char stored[MD5_SECRET_SIZE] = "", expected[MD5_SECRET_SIZE] = "";
	bool ok = !login->doomed[0];

	if (ok && login->secret_type == PG_SECRET_MD5)
		memcpy(stored, login->secret, sizeof stored);
	else if (ok)
		ok = md5_secret(login->secret, strlen(login->secret), login->user, strlen(login->user), stored);
	ok = ok && md5_secret(stored + 3, sizeof stored - 4, login->md5_salt, sizeof login->md5_salt, expected);
	ok = ok && secret_equal_text(answer, expected);
	secret_wipe(stored, sizeof stored);
	secret_wipe(expected, sizeof expected);
	if (ok)
		succeed(client);
	else
		fail(client);
}

static void take_client_first(struct pg_client *client, const void *message, size_t len) {
	struct pg_login *login = client->login;
	struct error error;
	const char *out = NULL;
	enum scram_result result =
		scram_server_first(login->scram, &login->scram_secret.salt, message, len, &out, &error);

	if (result != SCRAM_OK) {
		reject_malformed(client, result, error.text);
		return;
	}
	struct pg_builder b = request(client, AUTH_SASL_CONTINUE);
	pg_raw(&b, out, strlen(out));
	ask(client, &b, PG_EXCHANGE_SASL_FINAL);
}

/* SASLInitialResponse: the mechanism and, as a rule, client-first-message. */
static void take_sasl_initial(struct pg_client *client, const uint8_t *body, size_t len) {
	struct pg_login *login = client->login;
	struct reader r = reader_over(body, len);
	const char *mechanism = reader_cstr(&r, NULL);
	uint32_t size = reader_u32be(&r);
	bool empty = size == UINT32_MAX;
	const uint8_t *message = reader_bytes(&r, empty ? 0 : size);

	if (!mechanism || !r.ok || reader_left(&r) > 0) {
		pg_login_reject(client, "08P01", "invalid SASL authentication message", NULL, NULL);
		return;
	}
	bool plus = strcmp(mechanism, SCRAM_PLUS_NAME) == 0 && login->binding.len > 0;
	if (!plus && strcmp(mechanism, SCRAM_PLAIN_NAME) != 0) {
		pg_login_reject(client, "08P01", "client selected an invalid SASL authentication mechanism", NULL,
				NULL);
		return;
	}
	login->scram = scram_server_new(&login->binding, plus);
	if (!login->scram) {
		pg_login_reject(client, "53200", "out of memory", NULL, NULL);
	} else if (empty) {
		struct pg_builder b = request(client, AUTH_SASL_CONTINUE);
		ask(client, &b, PG_EXCHANGE_SASL_EMPTY);
	} else {
		take_client_first(client, message, size);
	}
}

static void take_client_final(struct pg_client *client, const void *message, size_t len) {
	struct pg_login *login = client->login;
	struct error error;
	enum scram_result result = scram_server_final(login->scram, message, len, &error);

	if (result != SCRAM_OK)
		reject_malformed(client, result, error.text);
	else if (login->keys_ready)
		verify_proof(client);
	else
		start_job(client, JOB_KEYS, login->secret, &login->scram_secret.salt);
}

static void verify_proof(struct pg_client *client) {
	struct pg_login *login = client->login;
	const char *out = NULL;
	enum scram_result result = scram_server_verify(login->scram, &login->scram_secret, login->client_key, &out);

	if (result == SCRAM_NO_MEMORY) {
		pg_login_reject(client, "53200", "out of memory", NULL, NULL);
		return;
	}
	if (result != SCRAM_OK || login->doomed[0]) {
		fail(client);
		return;
	}
	login->has_client_key = true;
	struct pg_builder b = request(client, AUTH_SASL_FINAL);
	pg_raw(&b, out, strlen(out));
	pg_close(&b);
	if (pg_login_send(client, &b))
		succeed(client);
}

void pg_auth_message(struct pg_client *client, const uint8_t *body, size_t len) {
	const char *text;

	switch (client->login->exchange) {
	case PG_EXCHANGE_PASSWORD:
		text = password_of(client, body, len);
		if (text)
			take_password(client, text);
		return;
	case PG_EXCHANGE_MD5:
		text = password_of(client, body, len);
		if (text)
			take_md5(client, text);
		return;
	case PG_EXCHANGE_SASL_FIRST:
		take_sasl_initial(client, body, len);
		return;
	case PG_EXCHANGE_SASL_EMPTY:
		take_client_first(client, body, len);
		return;
	case PG_EXCHANGE_SASL_FINAL:
		take_client_final(client, body, len);
		return;
	}
}

/* ---- the console ---- */

/* admin_socket_user: as PgBouncer lets its own system user in. */
static bool is_own_socket(const struct pg_client *client) {
	const char *name = client->base.listener->generation->config->admin_socket_user;

	return client->login->console && name && strcmp(client->login->user, name) == 0 &&
	       client->base.peer.family == AF_UNIX && client->base.peer.process.uid >= 0 &&
	       (uid_t)client->base.peer.process.uid == geteuid();
}

static void enter_console(struct pg_client *client) {
	const struct config *config = client->base.listener->generation->config;
	bool is_admin = config_is_admin(config, client->login->user) || is_own_socket(client);
	char user[sizeof client->login->user];
	char text[160];

	memcpy(user, client->login->user, sizeof user);
	if (!is_admin && !config_is_stats(config, user)) {
		snprintf(text, sizeof text, "user \"%s\" may not enter the console", user);
		pg_login_reject(client, "42501", text, "Name it in admin_users or stats_users of [forebay].", NULL);
		return;
	}
	pg_login_free(client);
	pg_console_authenticated(client, user, is_admin);
}

/* ---- which method ---- */

static enum hba_method method_of(enum auth_method auth) {
	switch (auth) {
	case AUTH_TRUST:
		return HBA_TRUST;
	case AUTH_PASSWORD:
		return HBA_PASSWORD;
	case AUTH_MD5:
		return HBA_MD5;
	case AUTH_SCRAM_SHA_256:
		return HBA_SCRAM;
	case AUTH_CERT:
		return HBA_CERT;
	case AUTH_HBA:
	case AUTH_MYSQL_NATIVE_PASSWORD:
	case AUTH_CACHING_SHA2_PASSWORD:
	case AUTH_MYSQL_CLEAR_PASSWORD:
		break;
	}
	return HBA_REJECT;
}

void pg_auth_begin(struct pg_client *client) {
	struct pg_login *login = client->login;
	const struct listener_config *listener = client->base.listener->config;

	if (is_own_socket(client)) {
		enter_console(client);
		return;
	}
	login->method = method_of(listener->auth);
	login->map = listener->user_map;
	if (listener->auth == AUTH_HBA && !pg_rules_apply(client))
		return;
	if (login->client_cert != HBA_CERT_ANY &&
	    (!client->base.stream.ssl || !tls_peer_verified(client->base.stream.ssl))) {
		pg_login_reject(client, "28000", "connection requires a valid client certificate", NULL, NULL);
		return;
	}
	switch (login->method) {
	case HBA_TRUST:
		admit(client);
		return;
	case HBA_CERT:
		if (pg_rules_certificate(client))
			admit(client);
		else
			reject_login(client);
		return;
	case HBA_PEER:
		start_job(client, JOB_PEER, NULL, NULL);
		return;
	case HBA_PASSWORD:
	case HBA_MD5:
	case HBA_SCRAM:
		find_secret(client);
		return;
	case HBA_REJECT:
		pg_login_reject(client, "28000", "this listener lets nobody in", NULL, "its auth is not known");
		return;
	}
}

/* ---- success ---- */

static void *ref_credential(void *credential) {
	return pg_credential_ref(credential);
}

/* What the login has shown becomes what servers of this user log in with, unless they can do better already. */
static void keep_credential(struct pg_client *client, struct pool_user *user) {
	struct pg_login *login = client->login;
	struct account *account = account_of(user);
	const char *stored = login->secret;

	if (!stored && !login->password) {
		/* trust, cert, peer: the configuration may still know a secret */
		const struct user_config *known =
			config_user(client->base.listener->generation->config, login->user);
		stored = known ? known->password : NULL;
	}
	bool has_keys = login->has_client_key && login->secret_type == PG_SECRET_SCRAM;
	struct pg_credential *old = account_credential(account, ref_credential);
	if (!login->password && pg_credential_covers(old, stored, has_keys)) {
		pg_credential_unref(old);
		return;
	}
	struct pg_credential *fresh = pg_credential_recovered(login->user, stored, login->password,
							      has_keys ? login->client_key : NULL);
	/* without memory for one, the server's login will say what is missing */
	if (fresh && pg_credential_better(old, fresh))
		account_set_credential(account, fresh);
	else
		pg_credential_unref(fresh);
	pg_credential_unref(old);
}

/* The client is who it says. */
static void succeed(struct pg_client *client) {
	struct pg_login *login = client->login;
	struct session_worker *sw = client->base.sw;
	struct error error = {0};

	if (login->client_cert == HBA_CERT_USER && login->method != HBA_CERT && !pg_rules_certificate(client)) {
		char text[160];
		snprintf(text, sizeof text, "certificate authentication failed for user \"%s\"", login->user);
		char reason[sizeof login->doomed];
		memcpy(reason, login->doomed, sizeof reason);
		pg_login_reject(client, "28000", text, NULL, reason);
		return;
	}
	if (login->console) {
		enter_console(client);
		return;
	}
	struct database *database = database_find(sw, PROTOCOL_POSTGRESQL, login->database, &error);
	if (!database) {
		/* of one that does not take clients now, PostgreSQL says object_not_in_prerequisite_state */
		pg_login_reject(client, error.code == EAGAIN ? "55000" : "3D000", error.text, NULL, NULL);
		return;
	}
	const struct pool_config *pool = database_view(database, sw->worker->id)->config;
	struct pool_user *user = database_user(database, pool->user ? pool->user : login->user);
	if (!user) {
		pg_login_reject(client, "53200", "out of memory", NULL, NULL);
		return;
	}
	if (!pool->user)
		keep_credential(client, user);
	client->base.dedicated = client->replication != PG_REPLICATION_NONE;
	struct settings *startup = login->startup;
	login->startup = NULL;
	char name[sizeof login->user];
	memcpy(name, login->user, sizeof name);
	pg_login_free(client);
	pg_client_authenticated(client, name, database, user, startup);
}
