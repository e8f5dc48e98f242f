#include "session/protocol.h"

/* Filled by main() before any thread starts, read-only from then on. */
static const struct protocol *protocols[2];

void protocol_register(const struct protocol *protocol) {
	protocols[protocol->id] = protocol;
}

const struct protocol *protocol_by_id(enum protocol_id id) {
	return protocols[id];
}
