#include "session/generation.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool listener_prepare(struct listener_runtime *l, const struct listener_config *config, struct error *error) {
	l->config = config;
	l->protocol = protocol_by_id(config->protocol);
	if (!l->protocol)
		return error_set(error, 0, "[listener:%s] this build does not speak its protocol yet; remove the section",
				 config->name);
	bool wanted = config->tls.mode != CONFIG_TLS_DISABLE && config->tls.cert_file && config->tls.key_file;
	if (wanted) {
		struct tls_settings settings = {
			.cert_file = config->tls.cert_file,
			.key_file = config->tls.key_file,
			.ca_file = config->tls.ca_file,
			.crl_file = config->tls.crl_file,
			.min_version = config->tls.min_version,
			.ciphers = config->tls.ciphers,
			.verify_peer = config->tls.mode >= CONFIG_TLS_VERIFY_CA,
			.request_peer = config->tls.ca_file != NULL,
			.alpn = config->protocol == PROTOCOL_POSTGRESQL ? "postgresql" : NULL,
		};
		l->tls = tls_context_server(&settings, error);
		if (!l->tls)
			return false;
	}
	error->text[0] = 0;
	l->setup = l->protocol->listener_setup(config, error);
	return l->setup || !error->text[0];
}

static struct tls_context *pool_tls(const struct pool_config *config, struct error *error) {
	struct tls_settings settings = {
		.cert_file = config->tls.cert_file,
		.key_file = config->tls.key_file,
		.ca_file = config->tls.ca_file,
		.crl_file = config->tls.crl_file,
		.min_version = config->tls.min_version,
		.ciphers = config->tls.ciphers,
		.verify_peer = config_tls_verifies(&config->tls),
		.verify_host = config->tls.mode >= CONFIG_TLS_VERIFY_FULL,
	};
	return tls_context_client(&settings, error);
}

static bool pool_prepare(struct pool_runtime *pool, const struct pool_config *config, struct error *error) {
	const struct protocol *protocol = protocol_by_id(config->protocol);
	if (!protocol)
		return error_set(error, 0, "[pool:%s] this build does not speak its protocol yet; remove the section", config->name);
	if (config->tls.mode != CONFIG_TLS_DISABLE && !(pool->tls = pool_tls(config, error)))
		return false;
	error->text[0] = 0;
	if (protocol->pool_setup)
		pool->setup = protocol->pool_setup(config, error);
	return pool->setup || !error->text[0];
}

static void generation_free(struct generation *g) {
	for (size_t i = 0; g->listeners && i < g->config->listener_count; i++) {
		struct listener_runtime *l = &g->listeners[i];
		tls_context_unref(l->tls);
		if (l->setup)
			l->protocol->listener_free(l->setup);
	}
	for (size_t i = 0; g->pools && i < g->config->pool_count; i++) {
		tls_context_unref(g->pools[i].tls);
		if (g->pools[i].setup)
			protocol_by_id(g->config->pools[i].protocol)->pool_free(g->pools[i].setup);
	}
	free(g->listeners);
	free(g->pools);
	config_unref(g->config);
	free(g);
}

struct generation *generation_new(struct config *config, struct error *error) {
	struct generation *g = calloc(1, sizeof *g);
	if (!g) {
		config_unref(config);
		error_set(error, 0, "out of memory");
		return NULL;
	}
	g->config = config;
	atomic_init(&g->references, 1);
	g->listeners = calloc(config->listener_count + 1, sizeof *g->listeners);
	g->pools = calloc(config->pool_count + 1, sizeof *g->pools);
	if (!g->listeners || !g->pools) {
		error_set(error, 0, "out of memory");
		goto fail;
	}
	for (size_t i = 0; i < config->listener_count; i++) {
		g->listeners[i].generation = g;
		if (!listener_prepare(&g->listeners[i], &config->listeners[i], error))
			goto fail;
	}
	for (size_t i = 0; i < config->pool_count; i++)
		if (!pool_prepare(&g->pools[i], &config->pools[i], error))
			goto fail;
	return g;
fail:
	generation_free(g);
	return NULL;
}

struct generation *generation_ref(struct generation *g) {
	atomic_fetch_add(&g->references, 1);
	return g;
}

void generation_unref(struct generation *g) {
	if (g && atomic_fetch_sub(&g->references, 1) == 1)
		generation_free(g);
}

struct listener_runtime *generation_listener_at(struct generation *g, const char *address) {
	for (size_t i = 0; i < g->config->listener_count; i++) {
		const struct listener_config *c = g->listeners[i].config;
		for (size_t a = 0; a < c->listen_count; a++)
			if (strcmp(c->listen[a], address) == 0)
				return &g->listeners[i];
	}
	return NULL;
}

uint32_t generation_name_hash(const char *name) {
	uint32_t hash = 2166136261u; /* FNV-1a */
	for (; *name; name++)
		hash = (hash ^ (uint8_t)*name) * 16777619u;
	return hash;
}

struct listener_runtime *generation_listener_of(struct generation *g, uint32_t name_hash) {
	for (size_t i = 0; i < g->config->listener_count; i++)
		if (generation_name_hash(g->listeners[i].config->name) == name_hash)
			return &g->listeners[i];
	return NULL;
}

struct tcp_silence generation_silence(const struct generation *g) {
	return (struct tcp_silence){.keepalive_idle_ns = g->config->tcp_keepalive_idle,
				    .user_timeout_ns = g->config->tcp_user_timeout};
}
