#ifdef HAVE_CONFIG_H
#include <config.h>
#endif

#include <stdio.h>
#include <string.h>

#include "admin/status_parts.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0"
#endif

/* The page without its content; see status.html. */
static const char TEMPLATE[] = {
#include "src/admin/status_html.inc"
	, 0};

/* ---- JSON ---- */

static void field(struct page *out, const char *name, const char *value) {
	page_printf(out, ",\"%s\":", name);
	page_json(out, value);
}

static void number(struct page *out, const char *name, uint64_t value) {
	page_printf(out, ",\"%s\":%llu", name, (unsigned long long)value);
}

static void seconds(struct page *out, const char *name, uint64_t ns) {
	page_printf(out, ",\"%s\":", name);
	page_seconds(out, ns, false);
}

static void series(struct page *out, const char *name, const uint16_t *values, int count) {
	page_printf(out, "%s\"%s\":[", strcmp(name, "active") == 0 ? "" : ",", name);
	for (int i = 0; i < count; i++) {
		if (i)
			page_put(out, ",");
		page_number(out, values[i]);
	}
	page_put(out, "]");
}

static void percentiles(struct page *out, const char *name, const struct histogram_sum *h) {
	page_printf(out, ",\"%s\":{\"count\":%llu", name, (unsigned long long)histogram_count(h));
	seconds(out, "p50", histogram_quantile(h, 0.5));
	seconds(out, "p99", histogram_quantile(h, 0.99));
	page_put(out, "}");
}

static double rate(uint64_t count, uint64_t span_ns) {
	return span_ns ? (double)count * 1e9 / (double)span_ns : 0;
}

static void json_pool(struct page *out, const struct pool_status *pool) {
	const struct pool_snapshot *now = &pool->now;

	page_put(out, "{\"name\":");
	page_json(out, now->name);
	field(out, "protocol", now->protocol);
	field(out, "mode", pool->mode);
	number(out, "max_size", now->max_size);
	number(out, "min_idle", now->min_idle);
	number(out, "active", now->active);
	number(out, "idle", now->idle);
	number(out, "opening", now->opening);
	number(out, "closing", now->closing);
	number(out, "waiting", now->waiting);
	seconds(out, "oldest_wait", now->oldest_wait_ns);
	number(out, "clients", now->clients[0] + now->clients[1] + now->clients[2]);
	number(out, "leaked", now->leaked);
	page_printf(out, ",\"full\":%s,\"ready\":%s", pool->full ? "true" : "false", now->ready ? "true" : "false");
	field(out, "trouble", pool->trouble[0] ? pool->trouble : NULL);
	page_printf(out, ",\"transactions_per_second\":%.1f", rate(pool->history.transactions, pool->history.span_ns));
	number(out, "unserved", pool->history.unserved);
	percentiles(out, "wait", &pool->history.acquire);
	percentiles(out, "query", &pool->history.query);
	page_printf(out, ",\"history\":{\"step\":%d,", HISTORY_STEP_S);
	series(out, "active", pool->history.active, pool->history.count);
	series(out, "idle", pool->history.idle, pool->history.count);
	series(out, "waiting", pool->history.waiting, pool->history.count);
	page_put(out, "}}");
}

static void json_leak(struct page *out, const struct leak *leak, uint64_t now_ns) {
	page_put(out, "{\"pool\":");
	page_json(out, leak->pool);
	field(out, "user", leak->user);
	field(out, "application", leak->application_name);
	field(out, "address", leak->address);
	number(out, "client", leak->client_id);
	seconds(out, "held", now_ns - leak->held_since_ns);
	seconds(out, "unused", leak->unused_ns);
	field(out, "cause", leak_cause(leak));
	field(out, "first", leak->statements.first);
	field(out, "last", leak->statements.last);
	field(out, "host", leak->host);
	number(out, "backend_pid", leak->backend_pid);
	page_put(out, "}");
}

static void json_backend(struct page *out, const struct backend_snapshot *backend) {
	const struct backend_facts *facts = &backend->facts;

	page_put(out, "{\"host\":");
	page_json(out, backend->host);
	field(out, "protocol", backend->protocol);
	field(out, "state", backend_state_name(facts->state));
	field(out, "role", backend_role_name(facts->role));
	field(out, "version", facts->version);
	seconds(out, "probe", facts->took_ns);
	page_printf(out, ",\"lag\":");
	if (facts->lag_s >= 0)
		page_printf(out, "%.3f", facts->lag_s);
	else
		page_put(out, "null");
	page_printf(out, ",\"connections\":%lld,\"max_connections\":%lld", (long long)facts->in_use,
		    (long long)facts->max_connections);
	field(out, "error", facts->state == BACKEND_UP || !facts->error[0] ? NULL : facts->error);
	page_put(out, "}");
}

/* Writes what stands between the elements of a list. */
#define JSON_LIST(out, name, count, write)                                                                             \
	do {                                                                                                           \
		page_printf(out, ",\"%s\":[", name);                                                                   \
		for (size_t i = 0; i < (count); i++) {                                                                 \
			if (i)                                                                                         \
				page_put(out, ",");                                                                    \
			write;                                                                                         \
		}                                                                                                      \
		page_put(out, "]");                                                                                    \
	} while (0)

static void json_problem(struct page *out, const struct problem *problem) {
	page_printf(out, "{\"severity\":\"%s\",\"kind\":\"%s\"", problem->severity == SEVERITY_BAD ? "bad" : "warning",
		    problem->kind);
	field(out, "text", problem->text);
	page_put(out, "}");
}

static size_t backends_shown(const struct status *status) {
	size_t count = status->snapshot->backend_count;
	return count < STATUS_BACKENDS ? count : STATUS_BACKENDS;
}

void status_write_json(struct page *out, const struct status *status) {
	const struct snapshot *s = status->snapshot;

	page_printf(out, "{\"version\":\"" PACKAGE_VERSION "\",\"now\":%llu.%03llu,\"start\":%.0f,\"stopping\":%s",
		    (unsigned long long)(s->wall_ns / NS_PER_S), (unsigned long long)(s->wall_ns / NS_PER_MS % 1000),
		    s->process.start_s, status->draining ? "true" : "false");
	number(out, "clients", status->clients);
	number(out, "max_clients", status->max_clients);
	number(out, "workers", s->workers);
	number(out, "memory", s->process.resident_bytes);
	number(out, "problems_total", status->problem_total);
	number(out, "pools_total", s->pool_count);
	number(out, "leaks_total", status->leak_total);
	number(out, "backends_total", s->backend_count);
	JSON_LIST(out, "problems", status->problem_count, json_problem(out, &status->problems[i]));
	JSON_LIST(out, "pools", status->pool_count, json_pool(out, &status->pools[i]));
	JSON_LIST(out, "leaks", status->leak_count, json_leak(out, &status->leaks[i], s->now_ns));
	JSON_LIST(out, "backends", backends_shown(status), json_backend(out, &s->backends[i]));
	page_put(out, "}\n");
}

/* ---- HTML: for those without the script, tables ---- */

/* The label is for narrow screens, where a row is a block. */
static void open_cell(struct page *out, const char *label, bool is_number) {
	page_printf(out, "<td%s data-label=\"%s\">", is_number ? " class=\"n\"" : "", label);
}

static void cell(struct page *out, const char *label, const char *text) {
	open_cell(out, label, false);
	page_html(out, text);
}

static void code_cell(struct page *out, const char *label, const char *text) {
	open_cell(out, label, false);
	page_put(out, "<code>");
	page_html(out, text);
	page_put(out, "</code>");
}

static void count_cell(struct page *out, const char *label, uint64_t n) {
	open_cell(out, label, true);
	page_number(out, n);
}

static void time_cell(struct page *out, const char *label, uint64_t ns, bool known) {
	char text[24] = "–";

	if (known)
		status_duration(ns, text);
	open_cell(out, label, true);
	page_put(out, text);
}

/* What is in the first bucket was shorter than any that is told apart. */
static void quantile_cell(struct page *out, const char *label, const struct histogram_sum *h, double share) {
	uint64_t ns = histogram_quantile(h, share);

	if (ns && ns <= 100 * NS_PER_US)
		cell(out, label, "≤ 100 us");
	else
		time_cell(out, label, ns, ns != 0);
}

static void html_pools(struct page *out, const struct status *status) {
	page_put(out, "<h2>Pools</h2><div class=\"wide\"><table id=\"pool-table\"><thead><tr><th>pool<th>bound<th>busy<th>idle"
		      "<th>waiting<th>first waits<th>wait p50<th>wait p99<th>query p50<th>query p99<th>leaks<th>"
		      "</thead><tbody>");
	for (size_t i = 0; i < status->pool_count; i++) {
		const struct pool_status *pool = &status->pools[i];
		const struct pool_snapshot *now = &pool->now;
		page_printf(out, "<tr%s><th>", pool->full || pool->trouble[0] ? " class=\"bad\"" : "");
		page_html(out, now->name);
		count_cell(out, "bound", now->max_size);
		count_cell(out, "busy", now->active);
		count_cell(out, "idle", now->idle);
		count_cell(out, "waiting", now->waiting);
		time_cell(out, "first waits", now->oldest_wait_ns, now->waiting > 0);
		quantile_cell(out, "wait p50", &pool->history.acquire, 0.5);
		quantile_cell(out, "wait p99", &pool->history.acquire, 0.99);
		quantile_cell(out, "query p50", &pool->history.query, 0.5);
		quantile_cell(out, "query p99", &pool->history.query, 0.99);
		count_cell(out, "leaks", now->leaked);
		cell(out, "trouble", pool->trouble[0] ? pool->trouble : pool->full ? "full" : "");
		page_put(out, "</tr>\n");
	}
	page_put(out, "</tbody></table></div>");
	if (status->snapshot->pool_count > status->pool_count)
		page_printf(out, "<p>and %zu more; those with trouble come first</p>",
			    status->snapshot->pool_count - status->pool_count);
}

static void html_leaks(struct page *out, const struct status *status) {
	char held[24];

	if (!status->leak_count)
		return;
	page_put(out, "<h2>Leaks</h2><div class=\"wide\"><table id=\"leak-table\"><thead><tr><th>pool<th>application<th>user"
		      "<th>address<th>held for<th>how<th>began with<th>last statement</thead><tbody>");
	for (size_t i = 0; i < status->leak_count; i++) {
		const struct leak *leak = &status->leaks[i];
		status_duration(status->snapshot->now_ns - leak->held_since_ns, held);
		page_put(out, "<tr class=\"bad\"><th>");
		page_html(out, leak->pool);
		cell(out, "application", leak->application_name);
		cell(out, "user", leak->user);
		cell(out, "address", leak->address);
		cell(out, "held for", held);
		cell(out, "how", leak_cause(leak));
		code_cell(out, "began with", leak->statements.first);
		code_cell(out, "last statement", leak->statements.last);
		page_put(out, "</tr>\n");
	}
	page_put(out, "</tbody></table></div>");
}

static void html_backends(struct page *out, const struct status *status) {
	page_put(out, "<h2>Database hosts</h2><div class=\"wide\"><table id=\"backend-table\"><thead><tr><th>host<th>state"
		      "<th>role<th>version<th>probe<th>connections<th>error</thead><tbody>");
	for (size_t i = 0; i < backends_shown(status); i++) {
		const struct backend_snapshot *backend = &status->snapshot->backends[i];
		const struct backend_facts *facts = &backend->facts;
		bool bad = facts->state == BACKEND_DOWN || facts->state == BACKEND_NOT_READY;
		page_printf(out, "<tr%s><th>", bad ? " class=\"bad\"" : "");
		page_html(out, backend->host);
		cell(out, "state", backend_state_name(facts->state));
		cell(out, "role", backend_role_name(facts->role) ? backend_role_name(facts->role) : "–");
		cell(out, "version", facts->version);
		time_cell(out, "probe", facts->took_ns, facts->probed_ns != 0);
		open_cell(out, "connections", true);
		if (facts->in_use >= 0 && facts->max_connections >= 0)
			page_printf(out, "%lld of %lld", (long long)facts->in_use, (long long)facts->max_connections);
		else
			page_put(out, "–");
		cell(out, "error", bad ? facts->error : "");
		page_put(out, "</tr>\n");
	}
	page_put(out, "</tbody></table></div>");
}

static void html_problems(struct page *out, const struct status *status) {
	page_put(out, "<section id=\"problems\">");
	if (!status->problem_count)
		page_put(out, "<p class=\"good\">All is well: every pool can serve, and no client holds a connection unused.</p>");
	for (size_t i = 0; i < status->problem_count; i++) {
		page_printf(out, "<p class=\"%s\" data-kind=\"%s\">",
			    status->problems[i].severity == SEVERITY_BAD ? "bad" : "warning", status->problems[i].kind);
		page_html(out, status->problems[i].text);
		page_put(out, "</p>\n");
	}
	if (status->problem_total > status->problem_count)
		page_printf(out, "<p class=\"bad\">and %zu more</p>", status->problem_total - status->problem_count);
	page_put(out, "</section>");
}

static void html_content(struct page *out, const struct status *status) {
	html_problems(out, status);
	html_leaks(out, status);
	html_pools(out, status);
	html_backends(out, status);
}

/* Each @NAME@ of the template becomes what it stands for. */
void status_write_html(struct page *out, const struct status *status, const char *nonce) {
	const char *at = TEMPLATE, *mark;

	while ((mark = strchr(at, '@'))) {
		page_add(out, at, (size_t)(mark - at));
		at = mark;
		if (strncmp(at, "@NONCE@", 7) == 0) {
			page_put(out, nonce);
			at += 7;
		} else if (strncmp(at, "@CONTENT@", 9) == 0) {
			html_content(out, status);
			at += 9;
		} else if (strncmp(at, "@DATA@", 6) == 0) {
			status_write_json(out, status); /* its < and & are escaped */
			at += 6;
		} else {
			page_put(out, "@");
			at++;
		}
	}
	page_put(out, at);
}
