#include "mysql/plugin.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"

enum my_plugin my_plugin_of(const char *name, size_t len) {
	static const enum my_plugin known[] = {MY_PLUGIN_NATIVE, MY_PLUGIN_SHA2, MY_PLUGIN_CLEAR};

	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
		const char *own = my_plugin_name(known[i]);
		if (strlen(own) == len && memcmp(own, name, len) == 0)
			return known[i];
	}
	return MY_PLUGIN_OTHER;
}

const char *my_plugin_name(enum my_plugin plugin) {
	switch (plugin) {
	case MY_PLUGIN_NATIVE:
		return MY_NATIVE_NAME;
	case MY_PLUGIN_SHA2:
		return MY_SHA2_NAME;
	case MY_PLUGIN_CLEAR:
		return MY_CLEAR_NAME;
	case MY_PLUGIN_OTHER:
		break;
	}
	return "";
}

void my_sha1(const void *data, size_t len, uint8_t out[MY_SHA1]) {
	SHA1(data, len, out);
}

void my_sha256(const void *data, size_t len, uint8_t out[MY_SHA256]) {
	SHA256(data, len, out);
}

/* ---- stored secrets ---- */

static int digit_of(char c) {
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* `len` bytes from twice as many digits. */
static bool from_hex(const char *text, uint8_t *out, size_t len) {
	for (size_t i = 0; i < len; i++) {
		int high = digit_of(text[2 * i]), low = high < 0 ? -1 : digit_of(text[2 * i + 1]);
		if (low < 0)
			return false;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

bool my_native_parse(const char *secret, uint8_t out[MY_SHA1]) {
	return secret && secret[0] == '*' && strlen(secret) == 1 + 2 * MY_SHA1 && from_hex(secret + 1, out, MY_SHA1);
}

enum { SHA2_STORED = 3 + 3 + 1 + MY_SHA2_SALT + MY_SHA2_HASH /* $A$005$salt hash */ };

static bool take_stored(const uint8_t *text, struct my_sha2_stored *out) {
	static const char letters[] = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	uint32_t thousands = 0;

	if (memcmp(text, "$A$", 3) != 0 || text[6] != '$')
		return false;
	for (size_t i = 3; i < 6; i++) {
		int digit = digit_of((char)text[i]);
		if (digit < 0)
			return false;
		thousands = thousands << 4 | (uint32_t)digit; /* MySQL writes it with %03X */
	}
	if (thousands == 0)
		return false;
	out->rounds = thousands * 1000;
	memcpy(out->salt, text + 7, MY_SHA2_SALT);
	memcpy(out->hash, text + 7 + MY_SHA2_SALT, MY_SHA2_HASH);
	out->hash[MY_SHA2_HASH] = '\0';
	return strlen(out->hash) == MY_SHA2_HASH && strspn(out->hash, letters) == MY_SHA2_HASH;
}

bool my_sha2_parse(const char *secret, struct my_sha2_stored *out) {
	uint8_t bytes[SHA2_STORED];
	size_t len = secret ? strlen(secret) : 0;

	if (len == SHA2_STORED)
		return take_stored((const uint8_t *)secret, out);
	if (len != 2 + 2 * (size_t)SHA2_STORED || strncmp(secret, "0x", 2) != 0 || !from_hex(secret + 2, bytes, sizeof bytes))
		return false;
	return take_stored(bytes, out);
}

static bool is_foreign(const char *secret) {
	static const char scram[] = "SCRAM-SHA-256$";

	if (strncmp(secret, scram, sizeof scram - 1) == 0)
		return true;
	return strlen(secret) == 3 + 32 && strncmp(secret, "md5", 3) == 0 && strspn(secret + 3, "0123456789abcdef") == 32;
}

enum my_secret_type my_secret_type_of(const char *secret) {
	struct my_sha2_stored stored;
	uint8_t hash[MY_SHA1];

	if (!secret || !*secret)
		return MY_SECRET_NONE;
	if (my_native_parse(secret, hash))
		return MY_SECRET_NATIVE;
	if (my_sha2_parse(secret, &stored))
		return MY_SECRET_SHA2;
	return is_foreign(secret) ? MY_SECRET_FOREIGN : MY_SECRET_PLAIN;
}

/* ---- SHA-crypt with SHA-256 (U. Drepper, "Unix crypt using SHA-256 and SHA-512"), with MySQL's longer salt ---- */

/* The bytes of a digest, repeated up to `len`. */
static bool add_repeated(EVP_MD_CTX *ctx, const uint8_t digest[MY_SHA256], size_t len) {
	bool ok = true;

	for (; len > MY_SHA256 && ok; len -= MY_SHA256)
		ok = EVP_DigestUpdate(ctx, digest, MY_SHA256) == 1;
	return ok && EVP_DigestUpdate(ctx, digest, len) == 1;
}

/* A digest of `times` copies of something, stretched to `len` bytes. */
static bool stretch(EVP_MD_CTX *ctx, const void *what, size_t what_len, size_t times, uint8_t *out, size_t len) {
	uint8_t digest[MY_SHA256];
	bool ok = EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1;

	for (size_t i = 0; i < times && ok; i++)
		ok = EVP_DigestUpdate(ctx, what, what_len) == 1;
	ok = ok && EVP_DigestFinal_ex(ctx, digest, NULL) == 1;
	for (size_t at = 0; at < len && ok; at += MY_SHA256)
		memcpy(out + at, digest, len - at < MY_SHA256 ? len - at : MY_SHA256);
	secret_wipe(digest, sizeof digest);
	return ok;
}

static bool first_digest(EVP_MD_CTX *ctx, const char *password, size_t len, const uint8_t *salt, uint8_t out[MY_SHA256]) {
	uint8_t other[MY_SHA256];
	bool ok = EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 && EVP_DigestUpdate(ctx, password, len) == 1 &&
		  EVP_DigestUpdate(ctx, salt, MY_SHA2_SALT) == 1 && EVP_DigestUpdate(ctx, password, len) == 1 &&
		  EVP_DigestFinal_ex(ctx, other, NULL) == 1;

	ok = ok && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 && EVP_DigestUpdate(ctx, password, len) == 1 &&
	     EVP_DigestUpdate(ctx, salt, MY_SHA2_SALT) == 1 && add_repeated(ctx, other, len);
	for (size_t bits = len; bits > 0 && ok; bits >>= 1)
		ok = EVP_DigestUpdate(ctx, bits & 1 ? (const void *)other : password, bits & 1 ? MY_SHA256 : len) == 1;
	ok = ok && EVP_DigestFinal_ex(ctx, out, NULL) == 1;
	secret_wipe(other, sizeof other);
	return ok;
}

static bool one_round(EVP_MD_CTX *ctx, uint32_t i, uint8_t digest[MY_SHA256], const uint8_t *p, size_t p_len,
		      const uint8_t s[MY_SHA2_SALT]) {
	bool ok = EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1;

	ok = ok && EVP_DigestUpdate(ctx, i & 1 ? p : digest, i & 1 ? p_len : MY_SHA256) == 1;
	if (i % 3 != 0)
		ok = ok && EVP_DigestUpdate(ctx, s, MY_SHA2_SALT) == 1;
	if (i % 7 != 0)
		ok = ok && EVP_DigestUpdate(ctx, p, p_len) == 1;
	ok = ok && EVP_DigestUpdate(ctx, i & 1 ? digest : p, i & 1 ? MY_SHA256 : p_len) == 1;
	return ok && EVP_DigestFinal_ex(ctx, digest, NULL) == 1;
}

/* Groups of three bytes in the order that SHA-crypt prescribes, each as four letters. */
static void encode(const uint8_t d[MY_SHA256], char out[MY_SHA2_HASH + 1]) {
	static const char letters[] = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	size_t a = 0, b = 10, c = 20, at = 0;

	for (int group = 0; group < 10; group++) {
		uint32_t v = (uint32_t)d[a] << 16 | (uint32_t)d[b] << 8 | d[c];
		for (int i = 0; i < 4; i++, v >>= 6)
			out[at++] = letters[v & 63];
		size_t next = a;
		a = c + 1, c = b + 1, b = next + 1;
	}
	uint32_t v = (uint32_t)d[31] << 8 | d[30];
	for (int i = 0; i < 3; i++, v >>= 6)
		out[at++] = letters[v & 63];
	out[at] = '\0';
}

bool my_sha2_hash(const char *password, size_t len, const uint8_t salt[MY_SHA2_SALT], uint32_t rounds,
		  char out[MY_SHA2_HASH + 1]) {
	uint8_t digest[MY_SHA256], s[MY_SHA2_SALT];
	uint8_t *p = malloc(len + 1);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = p && ctx && first_digest(ctx, password, len, salt, digest) && stretch(ctx, password, len, len, p, len) &&
		  stretch(ctx, salt, MY_SHA2_SALT, 16u + digest[0], s, MY_SHA2_SALT);

	for (uint32_t i = 0; i < rounds && ok; i++)
		ok = one_round(ctx, i, digest, p, len, s);
	if (ok)
		encode(digest, out);
	EVP_MD_CTX_free(ctx);
	secret_wipe(digest, sizeof digest);
	secret_wipe(s, sizeof s);
	if (p)
		secret_wipe(p, len);
	free(p);
	return ok;
}

/* ---- mysql_native_password ---- */

void my_native_key(const char *password, uint8_t key[MY_SHA1]) {
	my_sha1(password, strlen(password), key);
}

/* SHA1(scramble, SHA1(key)), over which the key is laid. */
static void native_mask(const uint8_t stored[MY_SHA1], const uint8_t scramble[MY_SCRAMBLE], uint8_t out[MY_SHA1]) {
	uint8_t both[MY_SCRAMBLE + MY_SHA1];

	memcpy(both, scramble, MY_SCRAMBLE);
	memcpy(both + MY_SCRAMBLE, stored, MY_SHA1);
	my_sha1(both, sizeof both, out);
	secret_wipe(both, sizeof both);
}

void my_native_answer(const uint8_t key[MY_SHA1], const uint8_t scramble[MY_SCRAMBLE], uint8_t out[MY_SHA1]) {
	uint8_t stored[MY_SHA1];

	my_sha1(key, MY_SHA1, stored);
	native_mask(stored, scramble, out);
	for (size_t i = 0; i < MY_SHA1; i++)
		out[i] ^= key[i];
	secret_wipe(stored, sizeof stored);
}

bool my_native_check(const uint8_t answer[MY_SHA1], const uint8_t scramble[MY_SCRAMBLE], const uint8_t stored[MY_SHA1],
		     uint8_t key[MY_SHA1]) {
	uint8_t mask[MY_SHA1], again[MY_SHA1];

	native_mask(stored, scramble, mask);
	for (size_t i = 0; i < MY_SHA1; i++)
		key[i] = answer[i] ^ mask[i];
	my_sha1(key, MY_SHA1, again);
	bool same = secret_equal(again, sizeof again, stored, MY_SHA1);
	secret_wipe(mask, sizeof mask);
	if (!same)
		secret_wipe(key, MY_SHA1);
	return same;
}

/* ---- caching_sha2_password ---- */

void my_sha2_key(const char *password, uint8_t key[MY_SHA256]) {
	my_sha256(password, strlen(password), key);
}

/* SHA256(SHA256(key), scramble), over which the key is laid. */
static void sha2_mask(const uint8_t known[MY_SHA256], const uint8_t scramble[MY_SCRAMBLE], uint8_t out[MY_SHA256]) {
	uint8_t both[MY_SHA256 + MY_SCRAMBLE];

	memcpy(both, known, MY_SHA256);
	memcpy(both + MY_SHA256, scramble, MY_SCRAMBLE);
	my_sha256(both, sizeof both, out);
	secret_wipe(both, sizeof both);
}

void my_sha2_answer(const uint8_t key[MY_SHA256], const uint8_t scramble[MY_SCRAMBLE], uint8_t out[MY_SHA256]) {
	uint8_t known[MY_SHA256];

	my_sha256(key, MY_SHA256, known);
	sha2_mask(known, scramble, out);
	for (size_t i = 0; i < MY_SHA256; i++)
		out[i] ^= key[i];
	secret_wipe(known, sizeof known);
}

bool my_sha2_check(const uint8_t answer[MY_SHA256], const uint8_t scramble[MY_SCRAMBLE], const uint8_t known[MY_SHA256],
		   uint8_t key[MY_SHA256]) {
	uint8_t mask[MY_SHA256], again[MY_SHA256];

	sha2_mask(known, scramble, mask);
	for (size_t i = 0; i < MY_SHA256; i++)
		key[i] = answer[i] ^ mask[i];
	my_sha256(key, MY_SHA256, again);
	bool same = secret_equal(again, sizeof again, known, MY_SHA256);
	secret_wipe(mask, sizeof mask);
	if (!same)
		secret_wipe(key, MY_SHA256);
	return same;
}

/* ---- RSA ---- */

struct evp_pkey_st *my_rsa_generate(void) {
	return EVP_RSA_gen(2048);
}

void my_rsa_free(struct evp_pkey_st *key) {
	EVP_PKEY_free(key);
}

size_t my_rsa_public(struct evp_pkey_st *key, char out[MY_RSA_PEM_MAX]) {
	BIO *bio = BIO_new(BIO_s_mem());
	size_t len = 0;

	if (bio && PEM_write_bio_PUBKEY(bio, key) == 1) {
		int n = BIO_read(bio, out, MY_RSA_PEM_MAX - 1);
		len = n > 0 && BIO_pending(bio) == 0 ? (size_t)n : 0;
	}
	out[len] = '\0';
	BIO_free(bio);
	return len;
}

static EVP_PKEY_CTX *oaep(struct evp_pkey_st *key, bool encrypts) {
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);

	if (ctx && (encrypts ? EVP_PKEY_encrypt_init(ctx) : EVP_PKEY_decrypt_init(ctx)) == 1 &&
	    EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) == 1)
		return ctx;
	EVP_PKEY_CTX_free(ctx);
	return NULL;
}

static void lay_over(uint8_t *text, size_t len, const uint8_t scramble[MY_SCRAMBLE]) {
	for (size_t i = 0; i < len; i++)
		text[i] ^= scramble[i % MY_SCRAMBLE];
}

bool my_rsa_decrypt(struct evp_pkey_st *key, const uint8_t scramble[MY_SCRAMBLE], const uint8_t *cipher, size_t len,
		    char *out, size_t room) {
	EVP_PKEY_CTX *ctx = oaep(key, false);
	size_t got = room;
	bool ok = ctx && (size_t)EVP_PKEY_get_size(key) <= room &&
		  EVP_PKEY_decrypt(ctx, (uint8_t *)out, &got, cipher, len) == 1;

	EVP_PKEY_CTX_free(ctx);
	if (!ok)
		return false;
	lay_over((uint8_t *)out, got, scramble);
	if (got > 0 && memchr(out, 0, got) == out + got - 1)
		return true;
	secret_wipe(out, got);
	return false;
}

/* A public key needs no passphrase: what asks for one is none. Without this OpenSSL would ask for it on the terminal. */
static int no_passphrase(char *buf, int size, int writing, void *context) {
	(void)buf, (void)size, (void)writing, (void)context;
	return -1;
}

struct evp_pkey_st *my_rsa_read_public(const void *pem, size_t len) {
	BIO *bio = len <= MY_RSA_PEM_MAX ? BIO_new_mem_buf(pem, (int)len) : NULL;
	EVP_PKEY *key = bio ? PEM_read_bio_PUBKEY(bio, NULL, no_passphrase, NULL) : NULL;

	BIO_free(bio);
	if (key && EVP_PKEY_is_a(key, "RSA") && EVP_PKEY_get_size(key) <= MY_RSA_CIPHER_MAX)
		return key;
	EVP_PKEY_free(key);
	return NULL;
}

struct evp_pkey_st *my_rsa_ref(struct evp_pkey_st *key) {
	if (key)
		EVP_PKEY_up_ref(key);
	return key;
}

size_t my_rsa_encrypt(struct evp_pkey_st *key, const uint8_t scramble[MY_SCRAMBLE], const char *password,
		      uint8_t out[MY_RSA_CIPHER_MAX]) {
	size_t len = strlen(password) + 1, got = MY_RSA_CIPHER_MAX;
	uint8_t *masked = malloc(len);

	if (!masked)
		return 0;
	EVP_PKEY_CTX *ctx = oaep(key, true);
	memcpy(masked, password, len);
	lay_over(masked, len, scramble);
	bool ok = ctx && EVP_PKEY_encrypt(ctx, out, &got, masked, len) == 1;
	EVP_PKEY_CTX_free(ctx);
	secret_wipe(masked, len);
	free(masked);
	return ok ? got : 0;
}
