#include "session/watch.h"

#include "base/clock.h"
#include "session/client.h"
#include "session/deadline.h"
#include "session/leak.h"
#include "session/session.h"
#include "session/wait_notice.h"

/* In which states it may be due at all; when it would be, TIME_NEVER: not as things stand; and what to do then. `due` may
 * close the client. */
static const struct limit {
	unsigned states;
	uint64_t (*next)(const struct client *client);
	void (*due)(struct client *client);
} limits[] = {
	{1u << CLIENT_WAITING, wait_notice_next, wait_notice_due},
	{1u << CLIENT_IDLE | 1u << CLIENT_ACTIVE, deadline_next, deadline_due},
	{1u << CLIENT_ACTIVE, leak_next, leak_due},
};
enum { LIMITS = sizeof limits / sizeof limits[0] };

static uint64_t next_of(const struct limit *limit, const struct client *client) {
	return limit->states & 1u << client->state ? limit->next(client) : TIME_NEVER;
}

static bool is_watched(const struct client *client) {
	return client->state != CLIENT_LOGIN && client->state != CLIENT_CLOSED && !client->closing;
}

void client_watch(struct client *client) {
	if (!is_watched(client))
		return;
	uint64_t next = TIME_NEVER;
	for (int i = 0; i < LIMITS; i++) {
		uint64_t at = next_of(&limits[i], client);
		next = at < next ? at : next;
	}
	if (next == TIME_NEVER || (timeout_pending(&client->timeout) && client->timeout.deadline_ns <= next))
		return;
	uint64_t now = client->sw->worker->now_ns;
	worker_timeout(client->sw->worker, &client->timeout, next > now ? next - now : 1);
}

void client_watch_expired(struct client *client) {
	uint64_t now = client->sw->worker->now_ns;
	for (int i = 0; i < LIMITS && is_watched(client); i++)
		if (next_of(&limits[i], client) <= now)
			limits[i].due(client);
	client_watch(client);
}
