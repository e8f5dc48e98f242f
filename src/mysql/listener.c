/* What logins on a listener, and at a pool's backends, need beyond the configuration: RSA keys. */
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mysql/login.h"

static struct evp_pkey_st *read_key(const struct listener_config *listener, struct error *error) {
	FILE *in = fopen(listener->rsa_key_file, "re");
	EVP_PKEY *key = in ? PEM_read_PrivateKey(in, NULL, NULL, (void *)"") : NULL;
	bool fits = key && EVP_PKEY_is_a(key, "RSA") && EVP_PKEY_get_bits(key) >= 2048 &&
		    EVP_PKEY_get_size(key) <= MY_RSA_CIPHER_MAX;

	if (in)
		fclose(in);
	if (fits)
		return key;
	error_set(error, 0,
		  "[listener:%s] rsa_key_file: %s %s; expected a private RSA key of 2048 to 8192 bits, PEM, without a passphrase",
		  listener->name, in ? "there is no such key in" : "cannot read", listener->rsa_key_file);
	EVP_PKEY_free(key);
	return NULL;
}

void *my_listener_setup(const struct listener_config *listener, struct error *error) {
	struct my_listener *setup = calloc(1, sizeof *setup);

	if (!setup) {
		error_set(error, 0, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&setup->mutex, NULL);
	if (listener->rsa_key_file && !(setup->key = read_key(listener, error))) {
		my_listener_free(setup);
		return NULL;
	}
	return setup;
}

void my_listener_free(void *base) {
	struct my_listener *setup = base;

	my_rsa_free(setup->key);
	pthread_mutex_destroy(&setup->mutex);
	free(setup);
}

struct evp_pkey_st *my_listener_key(struct my_listener *setup) {
	pthread_mutex_lock(&setup->mutex);
	if (!setup->key)
		setup->key = my_rsa_generate();
	struct evp_pkey_st *key = setup->key;
	pthread_mutex_unlock(&setup->mutex);
	return key;
}

/* ---- the backend's ---- */

void *my_pool_setup(const struct pool_config *pool, struct error *error) {
	char pem[MY_RSA_PEM_MAX];
	const char *path = pool->server_public_key_file;

	if (!path)
		return NULL;
	FILE *in = fopen(path, "re");
	size_t len = in ? fread(pem, 1, sizeof pem, in) : 0;
	if (in)
		fclose(in);
	struct evp_pkey_st *key = my_rsa_read_public(pem, len);
	if (!key)
		error_set(error, 0,
			  "[pool:%s] server_public_key_file: %s %s; expected a public RSA key of at most 8192 bits, PEM, as the "
			  "server's status variable Caching_sha2_password_rsa_public_key shows it",
			  pool->name, in ? "there is no such key in" : "cannot read", path);
	return key;
}

void my_pool_free(void *key) {
	my_rsa_free(key);
}
