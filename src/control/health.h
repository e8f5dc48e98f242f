/* Up or down, as probes and pools tell it: rules without a clock or a socket. One thread at a time. */
#ifndef CONTROL_HEALTH_H
#define CONTROL_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#include "session/backend.h"

/* How a probe ended. */
enum health_answer {
	HEALTH_WELL,      /* it answered */
	HEALTH_REACHED,   /* it is there and takes connections, though not ours: a login refused, or it is full */
	HEALTH_NOT_READY, /* it is there and takes no connections: starting, stopping, recovering */
	HEALTH_UNTRIED,   /* we could not even try */
	HEALTH_REFUSED,   /* nothing is there: refused, unreachable, no such name, hung up */
	HEALTH_SILENT     /* no answer within validation_timeout: a paused server is not a dead one */
};

enum health_event {
	HEALTH_NOTHING,
	HEALTH_CAME_UP,         /* from unknown, down or not ready */
	HEALTH_WENT_DOWN,
	HEALTH_WENT_UNREADY,    /* pools are not told: what they have may go on */
	HEALTH_STILL_UP         /* a pool could not get through to it; now it could: those who back off may try */
};

/* So many probes in a row must find silence before it counts as down. */
enum { HEALTH_SILENCE_MAX = 2 };
/* How often a host is probed that is not up, or that a pool has had a bad time with. */
#define HEALTH_FAST_NS (300 * 1000000ull)

struct health {
	enum backend_state state;
	bool known, up;   /* what pools are told */
	unsigned silences; /* in a row */
	bool suspect;      /* a pool has failed there since the last probe that found it well ... */
	bool unreached;    /* ... to get through to it at all */
};

enum health_event health_note(struct health *health, enum health_answer answer);
/* A pool has failed there. */
void health_suspect(struct health *health, bool reached);
/* How long after the beginning of the last probe the next one is due; `interval_ns` is not 0. */
uint64_t health_interval(const struct health *health, uint64_t interval_ns);

#endif
