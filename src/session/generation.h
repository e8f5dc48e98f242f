/*
 * A generation: one configuration with what was made from it (TLS contexts, HBA rules). Made whole by the main or a
 * control thread, then immutable and referenced. Each worker holds a reference to the one it works by.
 */
#ifndef SESSION_GENERATION_H
#define SESSION_GENERATION_H

#include "config/config.h"
#include "net/tcp.h"
#include "net/tls.h"
#include "session/protocol.h"

struct listener_runtime {
	const struct listener_config *config;
	const struct protocol *protocol;
	struct tls_context *tls; /* NULL: TLS is not offered */
	void *setup;             /* the protocol's (HBA) */
	struct generation *generation;
};

struct pool_runtime {
	struct tls_context *tls; /* NULL: disabled */
	void *setup;             /* the protocol's */
};

struct generation {
	struct config *config;
	struct listener_runtime *listeners; /* config->listener_count */
	struct pool_runtime *pools;         /* config->pool_count */
	_Atomic int references;
};

/* Takes over a reference to the config. NULL: `error` says which file. Reads the disk. */
struct generation *generation_new(struct config *config, struct error *error);
struct generation *generation_ref(struct generation *generation);
void generation_unref(struct generation *generation);
/* The listener whose name has this hash (generation_name_hash()). NULL: there is none. */
struct listener_runtime *generation_listener_of(struct generation *generation, uint32_t name_hash);
/* For who cannot keep a listener, nor its name, until it is wanted again. */
uint32_t generation_name_hash(const char *name);
/* The listener with this address, as it is written in the configuration. NULL: there is none. */
struct listener_runtime *generation_listener_at(struct generation *generation, const char *address);
/* What TCP connections on both sides are tuned to. */
struct tcp_silence generation_silence(const struct generation *generation);

#endif
