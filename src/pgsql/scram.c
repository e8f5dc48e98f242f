#include "pgsql/scram.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/reader.h"
#include "base/secret.h"
#include "pgsql/password.h"

enum {
	NONCE_RAW = 18, /* 24 characters in base 64 */
	NONCE_OWN = 24,
	GS2_MAX = 32,
	BINDING_TEXT_MAX = 160 /* base 64 of the longest GS2 header and 64 bytes */
};
#define GS2_PLUS "p=tls-server-end-point,,"

struct scram_server {
	struct scram_binding binding;
	bool plus;
	char expected_binding[BINDING_TEXT_MAX]; /* the value of c= */
	char nonce[SCRAM_NONCE_MAX + 1];         /* the client's and ours */
	char *first_bare, *first, *final_bare;
	uint8_t proof[SCRAM_KEY];
	char out[2 + 45];
};

struct scram_client {
	char gs2[GS2_MAX];
	char binding_text[BINDING_TEXT_MAX];
	char nonce[NONCE_OWN + 1];
	char first[GS2_MAX + 8 + NONCE_OWN];
	char *server_first, *server_nonce, *final;
	uint8_t server_signature[SCRAM_KEY];
};

static bool hmac(const uint8_t key[SCRAM_KEY], const void *data, size_t len, uint8_t out[SCRAM_KEY]) {
	unsigned out_len = SCRAM_KEY;
	return HMAC(EVP_sha256(), key, SCRAM_KEY, data, len, out, &out_len) != NULL;
}

bool scram_salt_equal(const struct scram_salt *a, const struct scram_salt *b) {
	return a->iterations == b->iterations && a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

bool scram_derive(const char *password, const struct scram_salt *salt, struct scram_keys *keys) {
	uint8_t salted[SCRAM_KEY];
	char *prepared = password_prepare(password);

	if (!prepared)
		return false;
	bool ok = PKCS5_PBKDF2_HMAC(prepared, (int)strlen(prepared), salt->bytes, (int)salt->len, (int)salt->iterations,
				    EVP_sha256(), SCRAM_KEY, salted) &&
		  hmac(salted, "Client Key", 10, keys->client) && hmac(salted, "Server Key", 10, keys->server) &&
		  SHA256(keys->client, SCRAM_KEY, keys->stored);
	secret_free(prepared);
	secret_wipe(salted, sizeof salted);
	return ok;
}

static bool decode_exactly(const char *text, size_t text_len, uint8_t *out, size_t len) {
	size_t done;
	return base64_decode(text, text_len, out, len, &done) && done == len;
}

/* A decimal number without sign, at least 1. */
static bool parse_iterations(const char *text, size_t len, uint32_t *out) {
	uint64_t n = 0;

	if (len == 0 || len > 9)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		n = n * 10 + (uint64_t)(text[i] - '0');
	}
	*out = (uint32_t)n;
	return n >= 1;
}

bool scram_secret_parse(const char *text, struct scram_secret *secret) {
	static const char prefix[] = "SCRAM-SHA-256$";
	size_t size;

	memset(secret, 0, sizeof *secret);
	if (strncmp(text, prefix, sizeof prefix - 1) != 0)
		return false;
	text += sizeof prefix - 1;
	size = strcspn(text, ":");
	if (text[size] != ':' || !parse_iterations(text, size, &secret->salt.iterations) ||
	    secret->salt.iterations > SCRAM_ITERATIONS_MAX)
		return false;
	text += size + 1;
	size = strcspn(text, "$");
	if (text[size] != '$' ||
	    !base64_decode(text, size, secret->salt.bytes, sizeof secret->salt.bytes, &secret->salt.len) ||
	    secret->salt.len == 0)
		return false;
	text += size + 1;
	size = strcspn(text, ":");
	if (text[size] != ':' || !decode_exactly(text, size, secret->stored, SCRAM_KEY))
		return false;
	text += size + 1;
	return decode_exactly(text, strlen(text), secret->server, SCRAM_KEY);
}

/* RFC 5802's printable: all visible ASCII but the comma. */
static bool is_printable(const char *s, size_t len) {
	for (size_t i = 0; i < len; i++)
		if (s[i] < 0x21 || s[i] > 0x7e || s[i] == ',')
			return false;
	return len > 0;
}

static bool make_nonce(char out[NONCE_OWN + 1]) {
	uint8_t raw[NONCE_RAW];

	if (!secret_random(raw, sizeof raw))
		return false;
	base64_encode(raw, sizeof raw, out);
	return true;
}

/*
 * The next attribute, "x=value", up to a comma or the end; the comma is taken too. `*last`: none follows it.
 * False: there is none, or it is no attribute.
 */
static bool next_attribute(struct reader *r, char *name, const char **value, size_t *len, bool *last) {
	size_t left = reader_left(r);
	const uint8_t *comma = left ? memchr(r->pos, ',', left) : NULL;
	size_t size = comma ? (size_t)(comma - r->pos) : left;
	const uint8_t *bytes = reader_bytes(r, size);

	if (!bytes || size < 2 || bytes[1] != '=' ||
	    !((bytes[0] >= 'a' && bytes[0] <= 'z') || (bytes[0] >= 'A' && bytes[0] <= 'Z')))
		return false;
	*name = (char)bytes[0];
	*value = (const char *)bytes + 2;
	*len = size - 2;
	*last = !comma;
	if (comma)
		reader_u8(r);
	return true;
}

static bool attribute(struct reader *r, char name, const char **value, size_t *len, bool *last) {
	char found;
	return next_attribute(r, &found, value, len, last) && found == name;
}

static enum scram_result malformed(struct error *error, const char *what) {
	error_set(error, 0, "%s", what);
	return SCRAM_MALFORMED;
}

/* base64(GS2 header, then the end point where it is bound). */
static void encode_binding(const char *gs2, const struct scram_binding *binding, char out[BINDING_TEXT_MAX]) {
	uint8_t raw[GS2_MAX + sizeof binding->bytes];
	size_t len = strlen(gs2);

	memcpy(raw, gs2, len);
	if (gs2[0] == 'p') {
		memcpy(raw + len, binding->bytes, binding->len);
		len += binding->len;
	}
	base64_encode(raw, len, out);
}

struct scram_server *scram_server_new(const struct scram_binding *binding, bool plus) {
	struct scram_server *server = calloc(1, sizeof *server);

	if (!server)
		return NULL;
	server->binding = *binding;
	server->plus = plus;
	return server;
}

void scram_server_free(struct scram_server *server) {
	if (!server)
		return;
	secret_free(server->first_bare);
	secret_free(server->first);
	secret_free(server->final_bare);
	secret_wipe(server, sizeof *server);
	free(server);
}

/* The GS2 header (RFC 5802, section 7): whether and what the client binds to. */
static enum scram_result take_gs2(struct scram_server *server, struct reader *r, struct error *error) {
	const char *gs2;

	switch (reader_u8(r)) {
	case 'n':
		if (server->plus)
			return malformed(error, "the client chose " SCRAM_PLUS_NAME " but sent no channel binding");
		gs2 = "n,,";
		break;
	case 'y':
		if (server->plus)
			return malformed(error, "the client chose " SCRAM_PLUS_NAME " but sent no channel binding");
		if (server->binding.len > 0) {
			error_set(error, 0,
				  "the client supports channel binding and believes that it was not offered: "
				  "something between has changed the list of mechanisms");
			return SCRAM_BINDING;
		}
		gs2 = "y,,";
		break;
	case 'p': {
		static const char rest[] = "=tls-server-end-point";
		const uint8_t *bytes = reader_bytes(r, sizeof rest - 1);
		if (!server->plus)
			return malformed(error, "the client chose " SCRAM_PLAIN_NAME " but sent channel binding");
		if (!bytes || memcmp(bytes, rest, sizeof rest - 1) != 0) {
			error_set(error, 0, "the client's type of channel binding is not tls-server-end-point");
			return SCRAM_UNSUPPORTED;
		}
		gs2 = GS2_PLUS;
		break;
	}
	default:
		return malformed(error, "unknown channel binding flag");
	}
	if (reader_u8(r) != ',')
		return malformed(error, "no comma behind the channel binding flag");
	uint8_t next = reader_u8(r);
	if (next == 'a') {
		error_set(error, 0, "the client sent an authorization identity, which is not supported");
		return SCRAM_UNSUPPORTED;
	}
	if (!r->ok || next != ',')
		return malformed(error, "the GS2 header does not end in a comma");
	encode_binding(gs2, &server->binding, server->expected_binding);
	return SCRAM_OK;
}

enum scram_result scram_server_first(struct scram_server *server, const struct scram_salt *salt, const void *message,
				     size_t len, const char **out, struct error *error) {
	struct reader r = reader_over(message, len);
	char salt_text[(SCRAM_SALT_MAX + 2) / 3 * 4 + 1];
	char own[NONCE_OWN + 1];
	const char *value;
	size_t size;
	bool last;

	if (server->first)
		return malformed(error, "a second client-first-message");
	if (len > 0 && memchr(message, 0, len))
		return malformed(error, "a zero byte within the message");
	enum scram_result result = take_gs2(server, &r, error);
	if (result != SCRAM_OK)
		return result;
	const char *bare = (const char *)r.pos;
	size_t bare_len = reader_left(&r);
	if (bare_len > 0 && bare[0] == 'm') {
		error_set(error, 0, "the client requires an extension that is not supported");
		return SCRAM_UNSUPPORTED;
	}
	/* The name is not looked at: the start-up message has it. */
	if (!attribute(&r, 'n', &value, &size, &last) || last)
		return malformed(error, "attribute \"n\" expected in client-first-message");
	if (!attribute(&r, 'r', &value, &size, &last) || !is_printable(value, size))
		return malformed(error, "attribute \"r\", a nonce, expected in client-first-message");
	if (size > SCRAM_NONCE_MAX - NONCE_OWN)
		return malformed(error, "the client's nonce is too long");
	const char *nonce = value;
	size_t nonce_len = size;
	while (!last) {
		char name;
		if (!next_attribute(&r, &name, &value, &size, &last))
			return malformed(error, "malformed extension in client-first-message");
	}
	if (!make_nonce(own))
		return SCRAM_NO_MEMORY;
	memcpy(server->nonce, nonce, nonce_len);
	memcpy(server->nonce + nonce_len, own, sizeof own);
	base64_encode(salt->bytes, salt->len, salt_text);
	server->first_bare = strndup(bare, bare_len);
	if (!server->first_bare ||
	    asprintf(&server->first, "r=%s,s=%s,i=%u", server->nonce, salt_text, salt->iterations) < 0) {
		server->first = NULL;
		return SCRAM_NO_MEMORY;
	}
	*out = server->first;
	return SCRAM_OK;
}

enum scram_result scram_server_final(struct scram_server *server, const void *message, size_t len,
				     struct error *error) {
	struct reader r = reader_over(message, len);
	const char *value, *before;
	size_t size;
	bool last;
	char name;

	if (!server->first || server->final_bare)
		return malformed(error, "a client-final-message out of turn");
	if (len > 0 && memchr(message, 0, len))
		return malformed(error, "a zero byte within the message");
	if (!attribute(&r, 'c', &value, &size, &last) || last)
		return malformed(error, "attribute \"c\" expected in client-final-message");
	if (!secret_equal(value, size, server->expected_binding, strlen(server->expected_binding))) {
		error_set(error, 0, "the channel binding does not match: the client's TLS ends at another certificate");
		return server->plus ? SCRAM_BINDING
				    : malformed(error, "the channel binding does not match the GS2 header");
	}
	if (!attribute(&r, 'r', &value, &size, &last) || last ||
	    !secret_equal(value, size, server->nonce, strlen(server->nonce)))
		return malformed(error, "the nonce in client-final-message is not that of this exchange");
	do {
		before = (const char *)r.pos;
		if (!next_attribute(&r, &name, &value, &size, &last))
			return malformed(error, "malformed attribute in client-final-message");
		if (name == 'm') {
			error_set(error, 0, "the client requires an extension that is not supported");
			return SCRAM_UNSUPPORTED;
		}
	} while (name != 'p' && !last);
	if (name != 'p' || !last || !decode_exactly(value, size, server->proof, SCRAM_KEY))
		return malformed(error, "client-final-message does not end in a proof");
	server->final_bare = strndup(message, (size_t)(before - (const char *)message) - 1);
	return server->final_bare ? SCRAM_OK : SCRAM_NO_MEMORY;
}

/* HMAC(key, AuthMessage), the three parts with commas between. */
static bool sign(const uint8_t key[SCRAM_KEY], const char *a, const char *b, const char *c, uint8_t out[SCRAM_KEY]) {
	char *text;
	int len = asprintf(&text, "%s,%s,%s", a, b, c);

	if (len < 0)
		return false;
	bool ok = hmac(key, text, (size_t)len, out);
	secret_free(text);
	return ok;
}

enum scram_result scram_server_verify(struct scram_server *server, const struct scram_secret *secret,
				      uint8_t client_key[SCRAM_KEY], const char **out) {
	uint8_t signature[SCRAM_KEY], hash[SCRAM_KEY];

	if (!server->final_bare)
		return SCRAM_MALFORMED;
	if (!sign(secret->stored, server->first_bare, server->first, server->final_bare, signature))
		return SCRAM_NO_MEMORY;
	for (size_t i = 0; i < SCRAM_KEY; i++)
		client_key[i] = server->proof[i] ^ signature[i];
	SHA256(client_key, SCRAM_KEY, hash);
	bool holds = secret_equal(hash, sizeof hash, secret->stored, SCRAM_KEY);
	if (!sign(secret->server, server->first_bare, server->first, server->final_bare, signature))
		return SCRAM_NO_MEMORY;
	memcpy(server->out, "v=", 2);
	base64_encode(signature, sizeof signature, server->out + 2);
	secret_wipe(signature, sizeof signature);
	secret_wipe(hash, sizeof hash);
	if (!holds) {
		secret_wipe(client_key, SCRAM_KEY);
		return SCRAM_WRONG;
	}
	*out = server->out;
	return SCRAM_OK;
}

struct scram_client *scram_client_new(const struct scram_binding *binding, bool plus) {
	struct scram_client *client = calloc(1, sizeof *client);

	if (!client || !make_nonce(client->nonce)) {
		free(client);
		return NULL;
	}
	/* "y": we could bind but the server does not offer it. One that did offer it will know of a downgrade. */
	snprintf(client->gs2, sizeof client->gs2, "%s", plus ? GS2_PLUS : binding->len > 0 ? "y,," : "n,,");
	encode_binding(client->gs2, binding, client->binding_text);
	snprintf(client->first, sizeof client->first, "%sn=,r=%s", client->gs2, client->nonce);
	return client;
}

void scram_client_free(struct scram_client *client) {
	if (!client)
		return;
	secret_free(client->server_first);
	secret_free(client->server_nonce);
	secret_free(client->final);
	secret_wipe(client, sizeof *client);
	free(client);
}

const char *scram_client_first(const struct scram_client *client) {
	return client->first;
}

enum scram_result scram_client_challenge(struct scram_client *client, const void *message, size_t len,
					 struct scram_salt *salt, struct error *error) {
	struct reader r = reader_over(message, len);
	const char *nonce, *value;
	size_t nonce_len, size;
	bool last;

	if (client->server_first)
		return malformed(error, "a second server-first-message");
	if (len > 0 && memchr(message, 0, len))
		return malformed(error, "a zero byte within the message");
	if (len > 0 && *(const char *)message == 'm') {
		error_set(error, 0, "the server requires an extension that is not supported");
		return SCRAM_UNSUPPORTED;
	}
	if (!attribute(&r, 'r', &nonce, &nonce_len, &last) || last || !is_printable(nonce, nonce_len))
		return malformed(error, "attribute \"r\", a nonce, expected in server-first-message");
	if (nonce_len > SCRAM_NONCE_MAX || nonce_len <= NONCE_OWN || memcmp(nonce, client->nonce, NONCE_OWN) != 0)
		return malformed(error, "the server's nonce does not extend ours");
	if (!attribute(&r, 's', &value, &size, &last) || last ||
	    !base64_decode(value, size, salt->bytes, sizeof salt->bytes, &salt->len) || salt->len == 0)
		return malformed(error, "attribute \"s\", a salt, expected in server-first-message");
	if (!attribute(&r, 'i', &value, &size, &last) || !parse_iterations(value, size, &salt->iterations))
		return malformed(error, "attribute \"i\", iterations, expected in server-first-message");
	if (salt->iterations > SCRAM_ITERATIONS_MAX) {
		error_set(error, 0, "the server asks for %u iterations; more than %d are refused", salt->iterations,
			  SCRAM_ITERATIONS_MAX);
		return SCRAM_UNSUPPORTED;
	}
	while (!last) {
		char name;
		if (!next_attribute(&r, &name, &value, &size, &last))
			return malformed(error, "malformed extension in server-first-message");
	}
	client->server_first = strndup(message, len);
	client->server_nonce = strndup(nonce, nonce_len);
	return client->server_first && client->server_nonce ? SCRAM_OK : SCRAM_NO_MEMORY;
}

const char *scram_client_final(struct scram_client *client, const struct scram_keys *keys) {
	const char *bare = client->first + strlen(client->gs2);
	uint8_t proof[SCRAM_KEY];
	char proof_text[45];
	char *without_proof;

	if (!client->server_first || client->final ||
	    asprintf(&without_proof, "c=%s,r=%s", client->binding_text, client->server_nonce) < 0)
		return NULL;
	bool ok = sign(keys->stored, bare, client->server_first, without_proof, proof) &&
		  sign(keys->server, bare, client->server_first, without_proof, client->server_signature);
	if (ok) {
		for (size_t i = 0; i < SCRAM_KEY; i++)
			proof[i] ^= keys->client[i];
		base64_encode(proof, sizeof proof, proof_text);
		ok = asprintf(&client->final, "%s,p=%s", without_proof, proof_text) >= 0;
		if (!ok)
			client->final = NULL;
		secret_wipe(proof_text, sizeof proof_text);
	}
	secret_wipe(proof, sizeof proof);
	free(without_proof);
	return ok ? client->final : NULL;
}

enum scram_result scram_client_verify(struct scram_client *client, const void *message, size_t len,
				      struct error *error) {
	struct reader r = reader_over(message, len);
	uint8_t signature[SCRAM_KEY];
	const char *value;
	size_t size;
	bool last;
	char name;

	if (!client->final)
		return malformed(error, "a server-final-message out of turn");
	if (!next_attribute(&r, &name, &value, &size, &last))
		return malformed(error, "malformed server-final-message");
	if (name == 'e') {
		error_set(error, 0, "the server ended the exchange: %.*s", (int)(size < 100 ? size : 100), value);
		return SCRAM_WRONG;
	}
	if (name != 'v' || !decode_exactly(value, size, signature, sizeof signature))
		return malformed(error, "attribute \"v\", a signature, expected in server-final-message");
	while (!last)
		if (!next_attribute(&r, &name, &value, &size, &last))
			return malformed(error, "malformed extension in server-final-message");
	if (!secret_equal(signature, sizeof signature, client->server_signature, SCRAM_KEY)) {
		error_set(error, 0, "the server's signature is wrong: it does not know the user's secret");
		return SCRAM_WRONG;
	}
	return SCRAM_OK;
}
