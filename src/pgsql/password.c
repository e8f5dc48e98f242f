#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "pgsql/password.h"

#include <openssl/evp.h>
#ifdef HAVE_LIBIDN
#include <stringprep.h>
#endif
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"

enum pg_secret_type pg_secret_type_of(const char *secret) {
	if (!secret)
		return PG_SECRET_NONE;
	if (strlen(secret) == MD5_SECRET_SIZE - 1 && strncmp(secret, "md5", 3) == 0 &&
	    strspn(secret + 3, "0123456789abcdef") == MD5_SECRET_SIZE - 4)
		return PG_SECRET_MD5;
	if (strncmp(secret, "SCRAM-SHA-256$", 14) == 0)
		return PG_SECRET_SCRAM;
	return PG_SECRET_PLAIN;
}

bool pg_secret_is_mysqls(const char *secret) {
	static const char digits[] = "0123456789ABCDEFabcdef";
	enum { NATIVE = 1 + 40, SHA2 = 70 };
	size_t len = strlen(secret);

	if (len == NATIVE && secret[0] == '*')
		return strspn(secret + 1, digits) == len - 1;
	if (len == SHA2)
		return strncmp(secret, "$A$", 3) == 0 && secret[6] == '$';
	return len == 2 + 2 * SHA2 && strncmp(secret, "0x244124", 8) == 0 && strspn(secret + 2, digits) == len - 2;
}

bool md5_secret(const char *text, size_t text_len, const void *salt, size_t salt_len, char out[MD5_SECRET_SIZE]) {
	static const char digits[] = "0123456789abcdef";
	uint8_t hash[16];
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	bool ok = md && EVP_DigestInit_ex(md, EVP_md5(), NULL) && EVP_DigestUpdate(md, text, text_len) &&
		  EVP_DigestUpdate(md, salt, salt_len) && EVP_DigestFinal_ex(md, hash, NULL);

	EVP_MD_CTX_free(md);
	if (!ok)
		return false;
	memcpy(out, "md5", 3);
	for (size_t i = 0; i < sizeof hash; i++) {
		out[3 + 2 * i] = digits[hash[i] >> 4];
		out[4 + 2 * i] = digits[hash[i] & 15];
	}
	out[MD5_SECRET_SIZE - 1] = '\0';
	secret_wipe(hash, sizeof hash);
	return true;
}

static bool is_ascii(const char *s) {
	for (; *s; s++)
		if ((unsigned char)*s >= 0x80)
			return false;
	return true;
}

char *password_prepare(const char *password) {
#ifdef HAVE_LIBIDN
	char *prepared = NULL;
	if (!is_ascii(password) &&
	    stringprep_profile(password, &prepared, "SASLprep", STRINGPREP_NO_UNASSIGNED) == STRINGPREP_OK) {
		if (prepared[0])
			return prepared;
		free(prepared);
	}
#else
	(void)is_ascii;
#endif
	return secret_strdup(password);
}

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(const void *data, size_t len, char *out) {
	const uint8_t *in = data;

	for (; len >= 3; len -= 3, in += 3) {
		uint32_t v = (uint32_t)in[0] << 16 | (uint32_t)in[1] << 8 | in[2];
		*out++ = alphabet[v >> 18];
		*out++ = alphabet[v >> 12 & 63];
		*out++ = alphabet[v >> 6 & 63];
		*out++ = alphabet[v & 63];
	}
	if (len > 0) {
		uint32_t v = (uint32_t)in[0] << 16 | (len == 2 ? (uint32_t)in[1] << 8 : 0);
		*out++ = alphabet[v >> 18];
		*out++ = alphabet[v >> 12 & 63];
		*out++ = len == 2 ? alphabet[v >> 6 & 63] : '=';
		*out++ = '=';
	}
	*out = '\0';
}

static int digit_value(char c) {
	const char *place = c ? strchr(alphabet, c) : NULL;
	return place ? (int)(place - alphabet) : -1;
}

bool base64_decode(const char *text, size_t text_len, uint8_t *out, size_t room, size_t *out_len) {
	size_t done = 0;

	if (text_len % 4 != 0)
		return false;
	for (size_t i = 0; i < text_len; i += 4) {
		uint32_t v = 0;
		size_t bytes = 3;
		if (i + 4 == text_len && text[i + 3] == '=')
			bytes = text[i + 2] == '=' ? 1 : 2;
		for (size_t j = 0; j < 4; j++) {
			int digit = j <= bytes ? digit_value(text[i + j]) : 0;
			if (digit < 0)
				return false;
			v = v << 6 | (uint32_t)digit;
		}
		/* Bits behind the last byte must be zero, else two texts would stand for the same bytes. */
		if ((bytes == 1 && (v & 0xffff)) || (bytes == 2 && (v & 0xff)) || bytes > room - done)
			return false;
		for (size_t j = 0; j < bytes; j++)
			out[done++] = (uint8_t)(v >> (16 - 8 * j));
	}
	*out_len = done;
	return true;
}
