#include "admin/ready.h"

#include <stdio.h>
#include <string.h>

#include "session/account.h"
#include "session/database.h"

struct last_error {
	char text[256];
};

static void find_error(struct pool_user *user, void *context) {
	struct last_error *last = context;
	char sqlstate[6];

	if (!last->text[0] && account_of(user))
		account_get_error(account_of(user), sqlstate, last->text, sizeof last->text);
}

void ready_reason(const struct pool_snapshot *pool, char *out, size_t room) {
	struct last_error last = {""};

	*out = 0;
	if (pool->ready)
		return;
	if (pool->disabled) {
		snprintf(out, room, "it is disabled; ENABLE on the console ends that");
		return;
	}
	pool_each_user(pool->database->pool, find_error, &last);
	switch (pool->trouble) {
	case POOL_PAUSED:
		snprintf(out, room, "it is paused; RESUME on the console ends that");
		break;
	case POOL_NO_HOST:
		snprintf(out, room, "none of its hosts has the role that its target asks for; SHOW HOSTS tells their roles");
		break;
	case POOL_HOSTS_DOWN:
		snprintf(out, room, "no host can be connected to%s%s", last.text[0] ? ": " : "", last.text);
		break;
	case POOL_WELL:
		snprintf(out, room, "it has %llu of its min_idle = %llu connections%s%s",
			 (unsigned long long)(pool->active + pool->idle), (unsigned long long)pool->min_idle,
			 last.text[0] ? "; the last error: " : "", last.text);
		break;
	}
}

static void write_pool(struct page *out, const struct pool_snapshot *pool, bool json, bool first) {
	char why[400];

	ready_reason(pool, why, sizeof why);
	if (!json) {
		page_label(out, pool->name);
		page_put(out, pool->ready ? ": ready" : ": NOT READY: ");
		page_label(out, why);
		page_put(out, "\n");
		return;
	}
	page_put(out, first ? "" : ",");
	page_put(out, "{\"name\":");
	page_json(out, pool->name);
	page_printf(out, ",\"protocol\":\"%s\",\"ready\":%s,\"reason\":", pool->protocol, pool->ready ? "true" : "false");
	page_json(out, *why ? why : NULL);
	page_put(out, "}");
}

enum readiness ready_write(struct page *out, bool draining, const char *pool, bool json) {
	struct snapshot *snapshot = snapshot_take_pools();
	enum readiness is = draining ? NOT_READY : READY;
	bool found = false;

	if (!snapshot) {
		out->failed = true;
		return NOT_READY;
	}
	for (size_t i = 0; i < snapshot->pool_count; i++) {
		const struct pool_snapshot *p = &snapshot->pools[i];
		bool asked_for = pool && strcmp(p->name, pool) == 0;
		found |= asked_for;
		if (!p->ready && (asked_for || (!pool && !p->automatic)))
			is = NOT_READY;
	}
	if (pool && !found)
		is = NO_SUCH_POOL;
	if (json)
		page_printf(out, "{\"ready\":%s,\"stopping\":%s,\"pools\":[", is == READY ? "true" : "false",
			    draining ? "true" : "false");
	else
		page_put(out, is == READY ? "ready\n" : is == NOT_READY ? "not ready\n" : "there is no such pool\n");
	if (!json && draining)
		page_put(out, "the process stops: it finishes open transactions and takes no more clients\n");
	bool first = true;
	for (size_t i = 0; i < snapshot->pool_count; i++) {
		if (pool && strcmp(snapshot->pools[i].name, pool) != 0)
			continue;
		write_pool(out, &snapshot->pools[i], json, first);
		first = false;
	}
	if (json)
		page_put(out, "]}\n");
	snapshot_free(snapshot);
	return is;
}
