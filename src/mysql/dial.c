#include "mysql/dial.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"

/* ---- failures ---- */

enum server_failure my_failure_of(uint16_t code) {
	switch (code) {
	case MY_ER_CON_COUNT_ERROR:
	case MY_ER_TOO_MANY_USER_CONNECTIONS:
	case MY_ER_USER_LIMIT_REACHED:
		return SERVER_FULL;
	case MY_ER_DBACCESS_DENIED_ERROR:
	case MY_ER_ACCESS_DENIED_ERROR:
	case MY_ER_BAD_DB_ERROR:
	case MY_ER_HOST_NOT_PRIVILEGED:
	case MY_ER_NOT_SUPPORTED_AUTH_MODE:
	case MY_ER_PLUGIN_IS_NOT_LOADED:
	case MY_ER_ACCESS_DENIED_NO_PASSWORD_ERROR:
	case MY_ER_MUST_CHANGE_PASSWORD:
	case MY_ER_MUST_CHANGE_PASSWORD_LOGIN:
	case MY_ER_ACCOUNT_HAS_BEEN_LOCKED:
	case MY_ER_ACCOUNT_HAS_BEEN_LOCKED_MARIADB:
	case MY_ER_SECURE_TRANSPORT_REQUIRED:
		return SERVER_REFUSED;
	default:
		return SERVER_UNREACHABLE;
	}
}

__attribute__((format(printf, 3, 4))) static enum my_dial_step fail(struct my_dial *dial, enum server_failure class,
								     const char *fmt, ...) {
	va_list args;

	dial->state = MY_DIAL_OVER;
	dial->failure.class = class;
	if (!dial->failure.sqlstate[0])
		snprintf(dial->failure.sqlstate, sizeof dial->failure.sqlstate, "%s",
			 class == SERVER_REFUSED ? "28000" : "08S01");
	va_start(args, fmt);
	vsnprintf(dial->failure.text, sizeof dial->failure.text, fmt, args);
	va_end(args);
	return MY_DIAL_FAILED;
}

static enum my_dial_step fail_malformed(struct my_dial *dial, const char *what) {
	return fail(dial, SERVER_UNREACHABLE, "the server sent a malformed %s; is that MySQL or MariaDB?", what);
}

/* An ERR at any time of the login. */
static enum my_dial_step take_error(struct my_dial *dial, const uint8_t *body, size_t len) {
	struct my_err err;

	if (!my_read_err(body, len, &err))
		return fail_malformed(dial, "error");
	bool plain = !dial->secured && !dial->target.local && dial->facts.offered & MY_CLIENT_SSL;
	dial->failure.code = err.code;
	memcpy(dial->failure.sqlstate, err.sqlstate, sizeof dial->failure.sqlstate);
	/* MariaDB tells a user whom it wants encrypted no more than that access is denied. */
	dial->failure.turn_tls =
		plain && (err.code == MY_ER_SECURE_TRANSPORT_REQUIRED || err.code == MY_ER_ACCESS_DENIED_ERROR);
	return fail(dial, my_failure_of(err.code), "%.*s", (int)(err.message_len > 300 ? 300 : err.message_len),
		    (const char *)err.message);
}

/* ---- life ---- */

void my_dial_begin(struct my_dial *dial, const struct my_dial_target *target) {
	memset(dial, 0, sizeof *dial);
	dial->target = *target;
	if (target->credential)
		my_credential_ref(target->credential);
	my_rsa_ref(target->server_key);
	if (target->tls_context)
		tls_context_ref(target->tls_context);
	dial->state = MY_DIAL_GREETING;
}

void my_dial_end(struct my_dial *dial) {
	my_credential_unref(dial->target.credential);
	my_rsa_free(dial->target.server_key);
	tls_context_unref(dial->target.tls_context);
	secret_wipe(dial, sizeof *dial);
	dial->state = MY_DIAL_OVER;
}

/* Opens the packet that answers the last one, with room for all of it: what grows leaves secrets behind. */
static void open_answer(struct my_dial *dial, struct my_builder *out, size_t room) {
	if (!buf_reserve(out->cache, &out->buf, room + MY_HEADER))
		out->ok = false;
	my_open(out, dial->sequence++);
}

static enum my_dial_step sent(struct my_dial *dial, struct my_builder *out, enum my_dial_state next) {
	my_close(out);
	if (!out->ok)
		return fail(dial, SERVER_UNREACHABLE, "out of memory while logging in");
	dial->state = next;
	return MY_DIAL_MORE;
}

/* ---- answers to challenges ---- */

/* Whether what is sent now reaches nobody but the server that we mean. */
static bool is_private(const struct my_dial *dial) {
	return dial->target.local || (dial->secured && dial->target.tls_verifies);
}

static enum my_dial_step fail_lacking(struct my_dial *dial, const char *needs) {
	return fail(dial, SERVER_REFUSED,
		    "the server asks for %s of user \"%.64s\", which needs %s, but there is only %s; store the password in "
		    "[user:%.64s], or set the pool's user and password",
		    my_plugin_name(dial->plugin), dial->target.user, needs, my_credential_is(dial->target.credential),
		    dial->target.user);
}

/* The proof for the plugin that is spoken, `len` bytes. False: it cannot be made, and the dial has failed. */
static bool make_proof(struct my_dial *dial, uint8_t proof[MY_SHA256], size_t *len) {
	const struct my_credential *c = dial->target.credential;
	const uint8_t *key;

	*len = 0;
	if (my_credential_is_empty(c))
		return true;
	if (dial->plugin == MY_PLUGIN_NATIVE && (key = my_credential_sha1(c))) {
		my_native_answer(key, dial->scramble, proof);
		*len = MY_SHA1;
		return true;
	}
	if (dial->plugin == MY_PLUGIN_SHA2 && (key = my_credential_sha256(c))) {
		my_sha2_answer(key, dial->scramble, proof);
		*len = MY_SHA256;
		return true;
	}
	fail_lacking(dial, dial->plugin == MY_PLUGIN_NATIVE
				   ? "the password, or that a client has logged in by mysql_native_password"
				   : "the password, or that a client has logged in by caching_sha2_password");
	return false;
}

/* The password itself, with its zero. */
static enum my_dial_step send_password(struct my_dial *dial, struct my_builder *out, const char *password) {
	open_answer(dial, out, strlen(password) + 1);
	my_put_cstr(out, password);
	return sent(dial, out, MY_DIAL_VERDICT);
}

/* The server asks for a proof by this plugin: AuthSwitchRequest. */
static enum my_dial_step answer_challenge(struct my_dial *dial, struct my_builder *out) {
	const char *password = my_credential_password(dial->target.credential);
	uint8_t proof[MY_SHA256];
	size_t len;

	if (dial->plugin == MY_PLUGIN_CLEAR) {
		if (!is_private(dial))
			return fail(dial, SERVER_REFUSED,
				    "the server asks for the password of user \"%.64s\" in the clear (mysql_clear_password); it "
				    "is sent only over a Unix socket or with tls_mode = verify-ca or verify-full",
				    dial->target.user);
		if (!password && !my_credential_is_empty(dial->target.credential))
			return fail_lacking(dial, "the password");
		return send_password(dial, out, password ? password : "");
	}
	if (!make_proof(dial, proof, &len))
		return MY_DIAL_FAILED;
	open_answer(dial, out, sizeof proof);
	my_put(out, proof, len);
	secret_wipe(proof, sizeof proof);
	return sent(dial, out, dial->plugin == MY_PLUGIN_SHA2 && len ? MY_DIAL_SHA2_RESULT : MY_DIAL_VERDICT);
}

static enum my_dial_step fail_plugin(struct my_dial *dial, const char *name, size_t len) {
	return fail(dial, SERVER_REFUSED,
		    "the server asks user \"%.64s\" to log in by the plugin \"%.*s\", which is not supported; "
		    "mysql_native_password, caching_sha2_password and mysql_clear_password are",
		    dial->target.user, (int)(len > 64 ? 64 : len), name);
}

/* "Protocol::AuthSwitchRequest" */
static enum my_dial_step take_switch(struct my_dial *dial, const uint8_t *body, size_t len, struct my_builder *out) {
	struct reader r = reader_over(body, len);
	size_t name_len = 0;

	reader_u8(&r);
	if (reader_left(&r) == 0)
		return fail_plugin(dial, "mysql_old_password", strlen("mysql_old_password"));
	const char *name = reader_cstr(&r, &name_len);
	if (!name)
		return fail_malformed(dial, "request to switch the authentication");
	dial->plugin = my_plugin_of(name, name_len);
	if (dial->plugin == MY_PLUGIN_OTHER)
		return fail_plugin(dial, name, name_len);
	if (dial->plugin != MY_PLUGIN_CLEAR) {
		const uint8_t *scramble = reader_bytes(&r, MY_SCRAMBLE);
		if (!scramble)
			return fail_malformed(dial, "challenge");
		memcpy(dial->scramble, scramble, MY_SCRAMBLE);
	}
	return answer_challenge(dial, out);
}

/* The password, for who has the private half of this key. */
static enum my_dial_step send_under(struct my_dial *dial, struct evp_pkey_st *key, struct my_builder *out) {
	uint8_t cipher[MY_RSA_CIPHER_MAX];
	size_t len = my_rsa_encrypt(key, dial->scramble, my_credential_password(dial->target.credential), cipher);

	if (len == 0)
		return fail(dial, SERVER_UNREACHABLE, "the server's public RSA key is too small for the password");
	open_answer(dial, out, len);
	my_put(out, cipher, len);
	return sent(dial, out, MY_DIAL_VERDICT);
}

/*
 * The fast path did not do: the server wants the password itself. Who answers at its address may be anybody; a key of his own
 * would open to him what it hides. So that one is taken only where the configuration says so.
 */
static enum my_dial_step begin_full(struct my_dial *dial, struct my_builder *out) {
	const char *password = my_credential_password(dial->target.credential);

	if (!password)
		return fail_lacking(dial, "the password itself, for the server does not know it in its cache at present,");
	if (is_private(dial))
		return send_password(dial, out, password);
	if (dial->target.server_key)
		return send_under(dial, dial->target.server_key, out);
	if (!dial->target.takes_key)
		return fail(dial, SERVER_REFUSED,
			    "the server asks for the password itself of user \"%.32s\", and nothing proves that it is the right one; "
			    "set tls_mode = verify-full, or server_public_key_file, or, where nobody can be in between, "
			    "get_server_public_key = true",
			    dial->target.user);
	open_answer(dial, out, 1);
	my_put_u8(out, MY_SHA2_REQUEST_KEY);
	return sent(dial, out, MY_DIAL_SHA2_KEY);
}

static enum my_dial_step take_key(struct my_dial *dial, struct reader *r, struct my_builder *out) {
	size_t pem_len = reader_left(r);
	struct evp_pkey_st *key = my_rsa_read_public(reader_bytes(r, pem_len), pem_len);

	if (!key)
		return fail(dial, SERVER_UNREACHABLE, "what the server sent is no public RSA key");
	enum my_dial_step step = send_under(dial, key, out);
	my_rsa_free(key);
	return step;
}

/* "Protocol::AuthMoreData" */
static enum my_dial_step take_more(struct my_dial *dial, const uint8_t *body, size_t len, struct my_builder *out) {
	struct reader r = reader_over(body, len);

	reader_u8(&r);
	if (dial->state == MY_DIAL_SHA2_KEY)
		return take_key(dial, &r, out);
	uint8_t what = reader_u8(&r);
	if (dial->state != MY_DIAL_SHA2_RESULT || !r.ok || reader_left(&r) > 0)
		return fail_malformed(dial, "message of the authentication");
	if (what == MY_SHA2_FAST_OK) {
		dial->state = MY_DIAL_VERDICT;
		return MY_DIAL_MORE;
	}
	return what == MY_SHA2_FULL ? begin_full(dial, out) : fail_malformed(dial, "message of the authentication");
}

/* ---- the greeting, and the response to it ---- */

static uint32_t version_number(const char *text) {
	unsigned major = 0, minor = 0, patch = 0;

	if (sscanf(text, "%3u.%3u.%3u", &major, &minor, &patch) < 2 || minor > 99 || patch > 99)
		return 0;
	return major * 10000 + minor * 100 + patch;
}

static void learn_version(struct my_server_facts *facts, const char *version) {
	const char *number = version;

	snprintf(facts->version, sizeof facts->version, "%s", version);
	facts->mariadb = strstr(version, "MariaDB") || !(facts->offered & MY_CLIENT_LONG_PASSWORD);
	/* what MariaDB puts before its own, for replicas of old */
	if (facts->mariadb && strncmp(version, "5.5.5-", 6) == 0)
		number += 6;
	facts->number = version_number(number);
}

/* "Protocol::HandshakeV10" */
static bool read_greeting(struct my_dial *dial, struct reader *r) {
	struct my_server_facts *facts = &dial->facts;
	size_t name_len = 0;
	const char *version = reader_cstr(r, NULL);

	facts->thread_id = my_u32(r);
	const uint8_t *first = reader_bytes(r, 8);
	reader_u8(r);
	facts->offered = my_u16(r);
	facts->collation = reader_u8(r);
	facts->status = my_u16(r);
	facts->offered |= (uint32_t)my_u16(r) << 16;
	uint8_t scramble_len = reader_u8(r);
	reader_bytes(r, 6);
	uint32_t extended = my_u32(r);
	if (!r->ok || !version)
		return false;
	memcpy(dial->scramble, first, 8);
	size_t rest = scramble_len > 8 + 13 ? scramble_len - 8u : 13;
	const uint8_t *second = reader_bytes(r, rest);
	const char *name = facts->offered & MY_CLIENT_PLUGIN_AUTH && second ? reader_cstr(r, &name_len) : NULL;
	/* Servers before 5.5.10 and 5.6.2 end the name of the plugin with the packet. */
	if (second && !name && facts->offered & MY_CLIENT_PLUGIN_AUTH)
		r->ok = false;
	if (!second)
		return false;
	memcpy(dial->scramble + 8, second, MY_SCRAMBLE - 8);
	dial->plugin = name ? my_plugin_of(name, name_len) : MY_PLUGIN_NATIVE;
	learn_version(facts, version);
	facts->mariadb_offered = facts->offered & MY_CLIENT_LONG_PASSWORD ? 0 : extended;
	return r->ok;
}

/* The first 32 bytes of a response, which alone are an SSLRequest. */
static void put_response_head(struct my_dial *dial, struct my_builder *out) {
	my_put_u32(out, dial->facts.capabilities);
	my_put_u32(out, 1u << 30); /* what it may send us; its own max_allowed_packet is what counts */
	my_put_u8(out, (uint8_t)dial->collation);
	my_put_zeros(out, 23); /* the last four: MariaDB's extended capabilities, of which we want none */
}

static void put_attributes(struct my_dial *dial, struct my_builder *out) {
	const char *program = dial->target.program;
	struct my_builder inside = my_builder(out->cache);

	my_put_lenenc_str(&inside, "_client_name");
	my_put_lenenc_str(&inside, "forebay");
	if (program && *program) {
		my_put_lenenc_str(&inside, "program_name");
		my_put_lenenc_str(&inside, program);
	}
	if (!inside.ok)
		out->ok = false;
	else
		my_put_lenenc_bytes(out, buf_bytes(&inside.buf), buf_len(&inside.buf));
	my_builder_release(&inside);
}

/* "Protocol::HandshakeResponse41" */
static enum my_dial_step send_response(struct my_dial *dial, struct my_builder *out) {
	const struct my_dial_target *target = &dial->target;
	uint32_t capabilities = dial->facts.capabilities;
	uint8_t proof[MY_SHA256];
	size_t len = 0;

	/* A plugin that we do not know may not be this user's: the server will say which is. The same where the password itself
	 * would have to be said. */
	if (dial->plugin == MY_PLUGIN_OTHER || dial->plugin == MY_PLUGIN_CLEAR)
		dial->plugin = MY_PLUGIN_NATIVE;
	/* Where what is known is for the other plugin, that one is offered: the server switches if it must. */
	if (dial->plugin == MY_PLUGIN_NATIVE && !my_credential_sha1(target->credential) &&
	    my_credential_sha256(target->credential))
		dial->plugin = MY_PLUGIN_SHA2;
	else if (dial->plugin == MY_PLUGIN_SHA2 && !my_credential_sha256(target->credential) &&
		 my_credential_sha1(target->credential))
		dial->plugin = MY_PLUGIN_NATIVE;
	if (!make_proof(dial, proof, &len))
		return MY_DIAL_FAILED;
	open_answer(dial, out, 512);
	put_response_head(dial, out);
	my_put_cstr(out, target->user);
	my_put_u8(out, (uint8_t)len); /* below 251: the same with and without PLUGIN_AUTH_LENENC */
	my_put(out, proof, len);
	secret_wipe(proof, sizeof proof);
	if (capabilities & MY_CLIENT_CONNECT_WITH_DB)
		my_put_cstr(out, target->schema);
	if (capabilities & MY_CLIENT_PLUGIN_AUTH)
		my_put_cstr(out, my_plugin_name(dial->plugin));
	if (capabilities & MY_CLIENT_CONNECT_ATTRS)
		put_attributes(dial, out);
	return sent(dial, out, MY_DIAL_ANSWER);
}

static enum my_dial_step take_greeting(struct my_dial *dial, const uint8_t *body, size_t len, struct my_builder *out) {
	const struct my_dial_target *target = &dial->target;
	struct my_server_facts *facts = &dial->facts;
	struct reader r = reader_over(body, len);
	uint8_t version = reader_u8(&r);

	if (version != MY_GREETING_VERSION)
		return fail(dial, SERVER_UNREACHABLE,
			    "the server speaks version %u of the protocol, or none; is that MySQL or MariaDB?", version);
	if (!read_greeting(dial, &r))
		return fail_malformed(dial, "greeting");
	uint32_t needed = MY_CLIENT_PROTOCOL_41 | MY_CLIENT_SECURE_CONNECTION | MY_CLIENT_PLUGIN_AUTH;
	if ((facts->offered & needed) != needed)
		return fail(dial, SERVER_REFUSED, "the server (%s) is too old: MySQL 5.7 or MariaDB 10.2 is needed",
			    facts->version);
	facts->capabilities = (MY_DIAL_ALWAYS | target->capabilities) & (facts->offered | MY_CLIENT_LONG_PASSWORD);
	if (target->schema)
		facts->capabilities |= MY_CLIENT_CONNECT_WITH_DB;
	dial->collation = target->collation ? target->collation : facts->collation;
	bool offered = facts->offered & MY_CLIENT_SSL;
	if (target->local || target->tls == MY_DIAL_TLS_NEVER || (!offered && target->tls == MY_DIAL_TLS_IF_OFFERED))
		return send_response(dial, out);
	if (!offered)
		return fail(dial, SERVER_REFUSED, "the server does not offer TLS, which the pool's tls_mode requires");
	facts->capabilities |= MY_CLIENT_SSL;
	open_answer(dial, out, MY_SSL_REQUEST);
	put_response_head(dial, out);
	if (sent(dial, out, MY_DIAL_HANDSHAKE) == MY_DIAL_FAILED)
		return MY_DIAL_FAILED;
	return MY_DIAL_TLS;
}

enum my_dial_step my_dial_secured(struct my_dial *dial, struct my_builder *out) {
	dial->secured = true;
	return send_response(dial, out);
}

/* ---- packets ---- */

static enum my_dial_step take_ok(struct my_dial *dial, const uint8_t *body, size_t len) {
	struct my_ok ok;

	if (!my_read_ok(body, len, dial->facts.capabilities, &ok))
		return fail_malformed(dial, "OK");
	/* A server that lets us in before it has checked the proof is as good as one that asks for none. */
	dial->facts.status = ok.status & (uint16_t)~MY_STATUS_SESSION_STATE_CHANGED;
	dial->state = MY_DIAL_OVER;
	return MY_DIAL_DONE;
}

static enum my_dial_step take_packet(struct my_dial *dial, const uint8_t *body, size_t len, struct my_builder *out) {
	struct reader r = reader_over(body, len);
	uint8_t first = reader_u8(&r);

	if (!r.ok)
		return fail_malformed(dial, "packet");
	if (first == MY_PACKET_ERR)
		return take_error(dial, body, len);
	if (dial->state == MY_DIAL_GREETING)
		return take_greeting(dial, body, len, out);
	if (first == MY_PACKET_OK && dial->state != MY_DIAL_SHA2_KEY)
		return take_ok(dial, body, len);
	if (first == MY_PACKET_AUTH_SWITCH && dial->state == MY_DIAL_ANSWER)
		return take_switch(dial, body, len, out);
	if (first == MY_PACKET_MORE_DATA) {
		/* the answer to what was sent along with the response */
		if (dial->state == MY_DIAL_ANSWER && dial->plugin == MY_PLUGIN_SHA2)
			dial->state = MY_DIAL_SHA2_RESULT;
		return take_more(dial, body, len, out);
	}
	return fail(dial, SERVER_UNREACHABLE, "the server sent a packet of type %u out of turn during the login", first);
}

enum my_dial_step my_dial_input(struct my_dial *dial, const uint8_t *data, size_t len, size_t *used,
				struct my_builder *out) {
	*used = 0;
	for (;;) {
		struct my_header header;
		if (!my_read_header(data + *used, len - *used, &header))
			return MY_DIAL_MORE;
		if (header.length > MY_LOGIN_MESSAGE_MAX || dial->state == MY_DIAL_HANDSHAKE ||
		    dial->state == MY_DIAL_OVER)
			return fail(dial, SERVER_UNREACHABLE,
				    "the server sent a packet of %u bytes out of turn during the login; is that MySQL or "
				    "MariaDB?",
				    header.length);
		if (header.length > len - *used - MY_HEADER)
			return MY_DIAL_MORE;
		if (header.sequence != dial->sequence)
			return fail(dial, SERVER_UNREACHABLE, "the server's packets are out of order");
		dial->sequence++;
		const uint8_t *body = data + *used + MY_HEADER;
		*used += MY_HEADER + header.length;
		enum my_dial_step step = take_packet(dial, body, header.length, out);
		if (step == MY_DIAL_TLS && *used < len)
			return fail(dial, SERVER_UNREACHABLE,
				    "unencrypted bytes came behind the server's greeting; this may be an attack");
		if (step != MY_DIAL_MORE)
			return step;
	}
}
