#include "control/health.h"

static enum health_event is_up(struct health *h) {
	enum health_event event = HEALTH_NOTHING;
	if (h->state != BACKEND_UP)
		event = HEALTH_CAME_UP;
	else if (h->suspect && h->unreached)
		event = HEALTH_STILL_UP;
	h->state = BACKEND_UP;
	h->known = h->up = true;
	h->silences = 0;
	h->suspect = h->unreached = false;
	return event;
}

static enum health_event is_down(struct health *h) {
	bool was = h->state == BACKEND_DOWN;
	h->state = BACKEND_DOWN;
	h->known = true;
	h->up = false;
	return was ? HEALTH_NOTHING : HEALTH_WENT_DOWN;
}

enum health_event health_note(struct health *h, enum health_answer answer) {
	switch (answer) {
	case HEALTH_WELL:
	case HEALTH_REACHED:
		return is_up(h);
	case HEALTH_NOT_READY: {
		bool was = h->state == BACKEND_NOT_READY;
		h->silences = 0;
		h->state = BACKEND_NOT_READY;
		return was ? HEALTH_NOTHING : HEALTH_WENT_UNREADY;
	}
	case HEALTH_UNTRIED:
		return HEALTH_NOTHING;
	case HEALTH_REFUSED:
		h->silences = 0;
		return is_down(h);
	case HEALTH_SILENT:
		h->silences++;
		return h->silences >= HEALTH_SILENCE_MAX ? is_down(h) : HEALTH_NOTHING;
	}
	return HEALTH_NOTHING;
}

void health_suspect(struct health *h, bool reached) {
	h->suspect = true;
	h->unreached |= !reached;
}

uint64_t health_interval(const struct health *h, uint64_t interval_ns) {
	bool fast = h->state == BACKEND_DOWN || h->state == BACKEND_NOT_READY || h->suspect || h->silences > 0;
	return fast && interval_ns > HEALTH_FAST_NS ? HEALTH_FAST_NS : interval_ns;
}
