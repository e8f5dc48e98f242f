/*
 * What a client is told of its session's parameters at login. That depends on what servers report and on what the client
 * asked for in its start-up message, which are the same for most: so a worker keeps the last ones. One worker's thread.
 */
#ifndef PGSQL_GREETING_H
#define PGSQL_GREETING_H

#include <stdint.h>

#include "base/buf.h"
#include "session/settings.h"

enum { PG_GREETINGS = 64 }; /* kept; each pair has one place */

struct pg_greeting {
	struct settings *reported, *wanted; /* what it was made of; referenced, so that no other set can be at their address */
	struct settings *settings;          /* `reported`, overlaid with `wanted` */
	struct buf messages;                /* a ParameterStatus for each that is reported */
};

struct pg_greetings {
	struct pg_greeting at[PG_GREETINGS];
};

/* Valid until the next call. NULL: out of memory. */
const struct pg_greeting *pg_greeting(struct pg_greetings *greetings, struct settings *reported, struct settings *wanted);
/* Any thread, once the worker's has ended. */
void pg_greetings_clear(struct pg_greetings *greetings);

#endif
