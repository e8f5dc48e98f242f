#include "scram.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

static void hmac(const unsigned char key[32], const char *text, size_t len, unsigned char out[32])
{
	unsigned out_len = 32;

	HMAC(EVP_sha256(), key, 32, (const unsigned char *)text, len, out, &out_len);
}

void scram_first(struct scram *s, struct bytes *out)
{
	unsigned char raw[16];

	RAND_bytes(raw, sizeof raw);
	for (size_t i = 0; i < sizeof raw; i++)
		snprintf(s->nonce + 2 * i, 3, "%02x", raw[i]);
	bytes_add(out, "n,,n=,r=", 8);
	bytes_add(out, s->nonce, strlen(s->nonce));
}

static bool salted_password(struct scram_cache *cache, const char *password, const char *salt64, int rounds)
{
	unsigned char salt[256];
	size_t len64 = strlen(salt64);

	if (len64 > 160 || len64 % 4 || rounds < 1)
		return false;
	int len = EVP_DecodeBlock(salt, (const unsigned char *)salt64, (int)len64);

	for (size_t i = len64; i > 0 && salt64[i - 1] == '='; i--)
		len--;
	if (len < 1 || len > (int)sizeof cache->salt)
		return false;
	if (cache->rounds == rounds && cache->salt_len == len && !memcmp(cache->salt, salt, (size_t)len))
		return true;
	memcpy(cache->salt, salt, (size_t)len);
	cache->salt_len = len;
	cache->rounds = rounds;
	return PKCS5_PBKDF2_HMAC(password, (int)strlen(password), salt, len, rounds, EVP_sha256(), 32, cache->salted) == 1;
}

bool scram_final(struct scram *s, struct scram_cache *cache, const char *password, const char *message, size_t len,
		 struct bytes *out)
{
	char first[512], nonce[256], salt[256], text[1024], proof64[64];
	unsigned char client_key[32], stored_key[32], server_key[32], signature[32];
	int rounds;

	if (len >= sizeof first)
		return false;
	memcpy(first, message, len);
	first[len] = 0;
	if (sscanf(first, "r=%255[^,],s=%255[^,],i=%d", nonce, salt, &rounds) != 3 ||
	    strncmp(nonce, s->nonce, strlen(s->nonce)) != 0 || !salted_password(cache, password, salt, rounds))
		return false;
	int text_len = snprintf(text, sizeof text, "n=,r=%s,%s,c=biws,r=%s", s->nonce, first, nonce);

	if (text_len < 0 || text_len >= (int)sizeof text)
		return false;
	hmac(cache->salted, "Client Key", 10, client_key);
	SHA256(client_key, 32, stored_key);
	hmac(stored_key, text, (size_t)text_len, signature);
	for (int i = 0; i < 32; i++)
		client_key[i] ^= signature[i];
	EVP_EncodeBlock((unsigned char *)proof64, client_key, 32);
	hmac(cache->salted, "Server Key", 10, server_key);
	hmac(server_key, text, (size_t)text_len, s->server_signature);

	bytes_add(out, "c=biws,r=", 9);
	bytes_add(out, nonce, strlen(nonce));
	bytes_add(out, ",p=", 3);
	bytes_add(out, proof64, strlen(proof64));
	return true;
}

bool scram_verify(const struct scram *s, const char *message, size_t len)
{
	char wanted[64] = "v=";

	EVP_EncodeBlock((unsigned char *)wanted + 2, s->server_signature, 32);
	return len == strlen(wanted) && !CRYPTO_memcmp(message, wanted, len);
}
