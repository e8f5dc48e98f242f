/* SHOW HOSTS: what is known of each database host, and which pools have it. */
#include <stdio.h>
#include <string.h>

#include "admin/show.h"
#include "base/clock.h"
#include "session/backend.h"

enum { COL_HOST, COL_POOLS, COL_STATE, COL_ROLE, COL_VERSION, COL_LAG, COL_MAX, COL_IN_USE, COL_PROBE_MS, COL_AGO, COL_ERROR };

static const struct column host_columns[] = {
	[COL_HOST] = {"host", CONSOLE_TEXT},
	[COL_POOLS] = {"pools", CONSOLE_TEXT},
	[COL_STATE] = {"state", CONSOLE_TEXT},
	[COL_ROLE] = {"role", CONSOLE_TEXT},
	[COL_VERSION] = {"version", CONSOLE_TEXT},
	[COL_LAG] = {"lag_seconds", CONSOLE_NUMERIC},
	[COL_MAX] = {"max_connections", CONSOLE_INT8},
	[COL_IN_USE] = {"connections_in_use", CONSOLE_INT8},
	[COL_PROBE_MS] = {"probe_ms", CONSOLE_NUMERIC},
	[COL_AGO] = {"probed_seconds_ago", CONSOLE_NUMERIC},
	[COL_ERROR] = {"last_error", CONSOLE_TEXT},
};

static bool has_host(const struct pool_config *pool, const struct backend *backend) {
	for (size_t h = 0; h < pool->host_count; h++)
		if (backend_is(backend, pool->protocol, &pool->hosts[h]))
			return true;
	return false;
}

static void set_pools(struct console_result *r, const struct config *config, const struct backend *backend) {
	char text[1024] = "";
	size_t len = 0;

	for (size_t i = 0; i < config->pool_count && len < sizeof text; i++)
		if (has_host(&config->pools[i], backend))
			len += (size_t)snprintf(text + len, sizeof text - len, "%s%s", len ? "," : "",
						config->pools[i].name);
	console_set_text(r, COL_POOLS, text);
}

static void host_row(struct backend *backend, void *context) {
	struct console_request *request = context;
	struct console_result *r = &request->result;
	struct backend_facts facts;

	if (!backend_configured(backend) || !console_row(r))
		return;
	backend_facts(backend, &facts);
	console_set_text(r, COL_HOST, backend_text(backend));
	set_pools(r, show_config_of(request), backend);
	console_set_text(r, COL_STATE, backend_state_name(facts.state));
	console_set_text(r, COL_ROLE, backend_role_name(facts.role));
	if (*facts.version)
		console_set_text(r, COL_VERSION, facts.version);
	if (facts.lag_s >= 0)
		console_set(r, COL_LAG, "%.3f", facts.lag_s);
	if (facts.max_connections >= 0)
		console_set_number(r, COL_MAX, facts.max_connections);
	if (facts.in_use >= 0)
		console_set_number(r, COL_IN_USE, facts.in_use);
	if (facts.probed_ns) {
		uint64_t now_ns = clock_monotonic_ns();
		console_set(r, COL_PROBE_MS, "%.3f", (double)facts.took_ns / 1e6);
		console_set(r, COL_AGO, "%.3f", now_ns > facts.probed_ns ? (double)(now_ns - facts.probed_ns) / 1e9 : 0.0);
	}
	if (*facts.error)
		console_set_text(r, COL_ERROR, facts.error);
}

void show_hosts(struct console_request *request, const struct words *arguments) {
	(void)arguments;
	if (SHOW_COLUMNS(&request->result, host_columns))
		backends_each(host_row, request);
	admin_answer(request);
}
