#ifdef HAVE_CONFIG_H
#include <config.h>
#endif

#include "admin/metrics.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "session/deadline.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0"
#endif

enum metric_type { COUNTER, GAUGE, HISTOGRAM, INFO };

/* What is written, and where its values come from. */
struct metric {
	const char *name; /* without "_total" and "_info" */
	enum metric_type type;
	const char *unit;   /* the name ends in it; NULL: it counts things */
	const char *labels; /* for the documentation */
	const char *help;
	/* of each pool: one of these */
	enum { NOT_OF_A_POOL, POOL_NUMBER, POOL_SECONDS, POOL_HISTOGRAM, POOL_NUMBERS } of_pool;
	size_t offset; /* in struct pool_snapshot */
	/* POOL_NUMBERS: a label tells them apart */
	const char *label;
	const char *(*label_value)(int place);
	int count;
	bool only_nonzero; /* there are many, and most never happen */
	/* all else */
	struct {
		void (*write)(struct page *out, const struct metric *metric, const struct snapshot *snapshot);
	} other;
};

/* ---- lines ---- */

static void put_name(struct page *out, const struct metric *metric) {
	page_put(out, metric->name);
	if (metric->type == COUNTER)
		page_put(out, "_total");
	else if (metric->type == INFO)
		page_put(out, "_info");
}

static void put_pool_labels(struct page *out, const struct pool_snapshot *pool) {
	page_put(out, "{pool=\"");
	page_label(out, pool->name);
	page_put(out, "\",protocol=\"");
	page_put(out, pool->protocol);
	page_put(out, "\"");
}

static void write_numbers(struct page *out, const struct metric *metric, const struct pool_snapshot *pool) {
	const uint64_t *numbers = (const uint64_t *)((const char *)pool + metric->offset);

	for (int i = 0; i < metric->count; i++) {
		if (metric->only_nonzero && !numbers[i])
			continue;
		put_name(out, metric);
		put_pool_labels(out, pool);
		page_printf(out, ",%s=\"%s\"} ", metric->label, metric->label_value(i));
		page_number(out, numbers[i]);
		page_put(out, "\n");
	}
}

static void write_histogram(struct page *out, const struct metric *metric, const struct pool_snapshot *pool,
			    enum metrics_format format) {
	static const uint64_t bounds[HISTOGRAM_BOUNDS] = HISTOGRAM_BOUND_LIST;
	const struct histogram_sum *h = (const struct histogram_sum *)((const char *)pool + metric->offset);
	struct page labels = {0};
	uint64_t sum = 0;

	put_pool_labels(&labels, pool);
	for (int i = 0; i < HISTOGRAM_BUCKETS; i++) {
		sum += h->buckets[i];
		page_put(out, metric->name);
		page_put(out, "_bucket");
		page_add(out, labels.at, labels.len);
		page_put(out, ",le=\"");
		if (i < HISTOGRAM_BOUNDS)
			page_seconds(out, bounds[i], format == METRICS_OPENMETRICS);
		else
			page_put(out, "+Inf");
		page_put(out, "\"} ");
		page_number(out, sum);
		page_put(out, "\n");
	}
	page_printf(out, "%s_sum", metric->name);
	page_add(out, labels.at, labels.len);
	page_put(out, "} ");
	page_seconds(out, h->sum_ns, false);
	page_printf(out, "\n%s_count", metric->name);
	page_add(out, labels.at, labels.len);
	page_put(out, "} ");
	page_number(out, sum);
	page_put(out, "\n");
	out->failed |= labels.failed;
	page_free(&labels);
}

static void write_pool(struct page *out, const struct metric *metric, const struct pool_snapshot *pool,
		       enum metrics_format format) {
	uint64_t number = *(const uint64_t *)((const char *)pool + metric->offset);

	if (metric->of_pool == POOL_NUMBERS) {
		write_numbers(out, metric, pool);
	} else if (metric->of_pool == POOL_HISTOGRAM) {
		write_histogram(out, metric, pool, format);
	} else {
		put_name(out, metric);
		put_pool_labels(out, pool);
		page_put(out, "} ");
		if (metric->of_pool == POOL_SECONDS)
			page_seconds(out, number, false);
		else
			page_number(out, number);
		page_put(out, "\n");
	}
}

/* ---- what is not a plain number of each pool ---- */

#define WRITER(name)                                                                                                   \
	static void name(struct page *out, const struct metric *metric, const struct snapshot *snapshot)

/* `labels`: "" or "{...}". */
static void put_line(struct page *out, const struct metric *metric, const char *labels, uint64_t number) {
	put_name(out, metric);
	page_put(out, labels);
	page_put(out, " ");
	page_number(out, number);
	page_put(out, "\n");
}

WRITER(write_build) {
	(void)snapshot;
	put_line(out, metric, "{version=\"" PACKAGE_VERSION "\"}", 1);
}

WRITER(write_workers) {
	put_line(out, metric, "", snapshot->workers);
}

WRITER(write_connections) {
	for (size_t i = 0; i < snapshot->pool_count; i++) {
		const struct pool_snapshot *pool = &snapshot->pools[i];
		const struct {
			const char *state;
			uint64_t number;
		} states[] = {{"active", pool->active}, {"idle", pool->idle}, {"opening", pool->opening},
			      {"closing", pool->closing}};
		for (size_t s = 0; s < sizeof states / sizeof states[0]; s++) {
			put_name(out, metric);
			put_pool_labels(out, pool);
			page_printf(out, ",state=\"%s\"} ", states[s].state);
			page_number(out, states[s].number);
			page_put(out, "\n");
		}
	}
}

WRITER(write_utilization) {
	for (size_t i = 0; i < snapshot->pool_count; i++) {
		const struct pool_snapshot *pool = &snapshot->pools[i];
		put_name(out, metric);
		put_pool_labels(out, pool);
		page_printf(out, "} %.6g\n", pool->max_size ? (double)pool->active / (double)pool->max_size : 0.);
	}
}

WRITER(write_ready) {
	for (size_t i = 0; i < snapshot->pool_count; i++) {
		put_name(out, metric);
		put_pool_labels(out, &snapshot->pools[i]);
		page_printf(out, "} %d\n", snapshot->pools[i].ready);
	}
}

WRITER(write_clients) {
	put_line(out, metric, "{state=\"login\"}", snapshot->login_clients);
	put_line(out, metric, "{state=\"console\"}", snapshot->console_clients);
	for (size_t i = 0; i < snapshot->pool_count; i++)
		write_numbers(out, metric, &snapshot->pools[i]);
}

WRITER(write_login_errors) {
	char labels[40];

	for (int i = 0; i < POOL_SQLSTATE_CLASSES; i++) {
		if (!snapshot->login_errors[i])
			continue;
		snprintf(labels, sizeof labels, "{sqlstate_class=\"%s\"}", pool_sqlstate_class_name(i));
		put_line(out, metric, labels, snapshot->login_errors[i]);
	}
}

WRITER(write_violations) {
	char labels[60];

	for (int i = 0; i < INVARIANTS; i++) {
		snprintf(labels, sizeof labels, "{invariant=\"%s\"}", session_invariant_name(i));
		put_line(out, metric, labels, snapshot->violations[i]);
	}
}

WRITER(write_log_dropped) {
	(void)snapshot;
	put_line(out, metric, "", log_dropped());
}

/* ---- of each host ---- */

static void put_host(struct page *out, const struct metric *metric, const struct backend_snapshot *backend) {
	put_name(out, metric);
	page_put(out, "{host=\"");
	page_label(out, backend->host);
	page_printf(out, "\",protocol=\"%s\"", backend->protocol);
}

/* Hosts that nobody has probed yet have no line: unknown is not down. */
#define EACH_BACKEND(backend, snapshot, condition)                                                                     \
	for (const struct backend_snapshot *backend = (snapshot)->backends;                                            \
	     backend < (snapshot)->backends + (snapshot)->backend_count; backend++)                                    \
		if (condition)

WRITER(write_backend_up) {
	EACH_BACKEND(b, snapshot, b->facts.state != BACKEND_UNKNOWN) {
		put_host(out, metric, b);
		page_printf(out, "} %d\n", b->facts.state == BACKEND_UP);
	}
}

WRITER(write_backend_probe) {
	EACH_BACKEND(b, snapshot, b->facts.probed_ns) {
		put_host(out, metric, b);
		page_put(out, "} ");
		page_seconds(out, b->facts.took_ns, false);
		page_put(out, "\n");
	}
}

WRITER(write_backend_role) {
	EACH_BACKEND(b, snapshot, backend_role_name(b->facts.role)) {
		put_host(out, metric, b);
		page_printf(out, ",role=\"%s\"} 1\n", backend_role_name(b->facts.role));
	}
}

WRITER(write_backend_lag) {
	EACH_BACKEND(b, snapshot, b->facts.lag_s >= 0) {
		put_host(out, metric, b);
		page_printf(out, "} %.6g\n", b->facts.lag_s);
	}
}

WRITER(write_backend_limit) {
	EACH_BACKEND(b, snapshot, b->facts.max_connections >= 0) {
		put_host(out, metric, b);
		page_printf(out, "} %lld\n", (long long)b->facts.max_connections);
	}
}

WRITER(write_backend_in_use) {
	EACH_BACKEND(b, snapshot, b->facts.in_use >= 0) {
		put_host(out, metric, b);
		page_printf(out, "} %lld\n", (long long)b->facts.in_use);
	}
}

/* ---- the process ---- */

WRITER(write_cpu) {
	put_name(out, metric);
	page_printf(out, " %.6f\n", snapshot->process.cpu_s);
}

WRITER(write_start) {
	if (snapshot->process.start_s < 0)
		return;
	put_name(out, metric);
	page_printf(out, " %.2f\n", snapshot->process.start_s);
}

WRITER(write_resident) {
	put_line(out, metric, "", snapshot->process.resident_bytes);
}

WRITER(write_virtual) {
	put_line(out, metric, "", snapshot->process.virtual_bytes);
}

WRITER(write_open_fds) {
	put_line(out, metric, "", snapshot->process.open_fds);
}

WRITER(write_max_fds) {
	put_line(out, metric, "", snapshot->process.max_fds);
}

/* ---- the table ---- */

static const char *client_state(int place) {
	static const char *const names[POOL_CLIENTS] = {"idle", "waiting", "active"};
	return names[place];
}

static const char *limit_name(int place) {
	static const char *const names[] = {"query_timeout", "transaction_timeout", "idle_transaction_timeout",
					    "client_idle_timeout"};
	return names[place];
}

static const char *wait_name(int place) {
	return pool_wait_name((enum pool_wait)place);
}

static const char *failure_name(int place) {
	return pool_connect_failure_name((enum pool_connect_failure)place);
}

static const char *pin_name(int place) {
	return pin_reason_name((enum pin_reason)place);
}

static const char *end_name(int place) {
	return pool_end_name((enum pool_end)place);
}

#define FIELD(f) .offset = offsetof(struct pool_snapshot, f)
#define NUMBER(f) .of_pool = POOL_NUMBER, FIELD(f), .labels = "pool, protocol"
#define SECONDS(f) .of_pool = POOL_SECONDS, FIELD(f), .labels = "pool, protocol", .unit = "seconds"
#define DURATIONS(f) .type = HISTOGRAM, .of_pool = POOL_HISTOGRAM, FIELD(f), .labels = "pool, protocol", .unit = "seconds"
#define NUMBERS(f, name, value, n)                                                                                     \
	.of_pool = POOL_NUMBERS, FIELD(f), .labels = "pool, protocol, " name, .label = name, .label_value = value, .count = n
#define OTHER(w, names) .other.write = w, .labels = names

static const struct metric METRICS[] = {
	{"forebay_build", INFO, .help = "The version that runs.", OTHER(write_build, "version")},
	{"forebay_workers", GAUGE, .help = "Threads that carry the traffic.", OTHER(write_workers, "")},

	{"forebay_pool_max_size", GAUGE, .help = "The bound of the pool's connections (max_size).", NUMBER(max_size)},
	{"forebay_pool_min_idle", GAUGE, .help = "Idle connections that are kept ready (min_idle).", NUMBER(min_idle)},
	{"forebay_pool_connections", GAUGE,
	 .help = "Connections of the pool by state; all of them count in max_size.",
	 OTHER(write_connections, "pool, protocol, state")},
	{"forebay_pool_utilization_ratio", GAUGE, .unit = "ratio",
	 .help = "Connections in use, of max_size, at the moment of the scrape.", OTHER(write_utilization, "pool, protocol")},
	{"forebay_pool_busy_seconds", COUNTER,
	 .help = "For how long connections were in use, all told, those included that are: its rate over max_size is the "
		 "true utilisation.",
	 SECONDS(busy_ns)},
	{"forebay_pool_ready", GAUGE, .help = "1: the pool can serve; 0: /readyz says why not.",
	 OTHER(write_ready, "pool, protocol")},
	{"forebay_pool_waiting_clients", GAUGE, .help = "Clients that wait for a connection.", NUMBER(waiting)},
	{"forebay_pool_oldest_wait_seconds", GAUGE, .help = "How long the first of those has waited.",
	 SECONDS(oldest_wait_ns)},
	{"forebay_pool_acquire_seconds",
	 .help = "How long clients waited for a connection, whether they got one or not; 0 where one was free.",
	 DURATIONS(acquire)},
	{"forebay_pool_hold_seconds", .help = "How long clients kept a connection.", DURATIONS(hold)},
	{"forebay_pool_connect_seconds", .help = "How long opening a connection took, login included.", DURATIONS(connect)},
	{"forebay_pool_wait_reason", COUNTER, .help = "Clients that had to wait, by what for.",
	 NUMBERS(wait_reasons, "reason", wait_name, POOL_WAITS)},
	{"forebay_pool_acquire_timeouts", COUNTER, .help = "Clients that got no connection within acquire_timeout.",
	 NUMBER(timeouts)},
	{"forebay_pool_rejected_clients", COUNTER, .help = "Clients that might not even wait (max_waiting).",
	 NUMBER(rejected)},
	{"forebay_pool_connections_opened", COUNTER, .help = "Connections that were opened and logged in.", NUMBER(opened)},
	{"forebay_pool_connections_closed", COUNTER,
	 .help = "Of those, how many were closed, by why; only reasons that have happened.",
	 NUMBERS(ends, "reason", end_name, POOL_ENDS), .only_nonzero = true},
	{"forebay_pool_connect_failures", COUNTER, .help = "Connections that could not be opened, by why.",
	 NUMBERS(connect_failures, "reason", failure_name, POOL_CONNECT_FAILURES)},
	{"forebay_pool_connections_moved", COUNTER, .help = "Idle connections that went to another worker.", NUMBER(moved)},
	{"forebay_pool_leaks", COUNTER,
	 .help = "Times that a client held a connection and left it unused for longer than leak_detection_threshold.",
	 NUMBER(leaks)},
	{"forebay_pool_leaked_connections", GAUGE, .help = "Connections that are held so now.", NUMBER(leaked)},

	{"forebay_query_seconds", .help = "How long queries took, from their client's request to the end of the answer.",
	 DURATIONS(query)},
	{"forebay_transaction_seconds", .help = "How long transactions took.", DURATIONS(transaction)},
	{"forebay_queries", COUNTER, .help = "Queries (or pipelined batches) that were answered.", NUMBER(queries)},
	{"forebay_transactions", COUNTER, .help = "Transactions that have ended.", NUMBER(transactions)},
	{"forebay_received_bytes", COUNTER, .unit = "bytes", .help = "Received from clients.", NUMBER(client_bytes)},
	{"forebay_sent_bytes", COUNTER, .unit = "bytes",
	 .help = "Received from backends, which is what clients are sent.", NUMBER(server_bytes)},
	{"forebay_errors", COUNTER,
	 .help = "Errors that clients of the pool were sent, the backend's and our own, by the first two characters of the "
		 "SQLSTATE; only classes that have happened.",
	 NUMBERS(errors, "sqlstate_class", pool_sqlstate_class_name, POOL_SQLSTATE_CLASSES), .only_nonzero = true},
	{"forebay_session_pins", COUNTER,
	 .help = "Times that a client kept its connection beyond its transaction, by what in its session cannot be given to "
		 "another; only reasons that have happened.",
	 NUMBERS(pins, "reason", pin_name, PIN_REASONS), .only_nonzero = true},
	{"forebay_login_errors", COUNTER, .help = "Errors that clients were sent before they were logged in.",
	 OTHER(write_login_errors, "sqlstate_class")},
	{"forebay_time_limits", COUNTER, .help = "Times that a time limit of clients took effect, by which.",
	 NUMBERS(limits, "limit", limit_name, DEADLINE_KINDS - 1)},
	{"forebay_client_connections", GAUGE,
	 .help = "Clients by state; those that log in, and those on the console, belong to no pool.",
	 NUMBERS(clients, "state", client_state, POOL_CLIENTS), .other.write = write_clients},

	{"forebay_backend_up", GAUGE, .help = "1: the host takes connections, 0: it does not; by the last probes.",
	 OTHER(write_backend_up, "host, protocol")},
	{"forebay_backend_probe_seconds", GAUGE, .unit = "seconds", .help = "How long the last probe took.",
	 OTHER(write_backend_probe, "host, protocol")},
	{"forebay_backend_role", GAUGE, .help = "1, for the role that the host has.",
	 OTHER(write_backend_role, "host, protocol, role")},
	{"forebay_backend_lag_seconds", GAUGE, .unit = "seconds", .help = "How far a standby is behind.",
	 OTHER(write_backend_lag, "host, protocol")},
	{"forebay_backend_max_connections", GAUGE,
	 .help = "Connections that the host takes from ordinary users, whoever's.", OTHER(write_backend_limit, "host, protocol")},
	{"forebay_backend_connections", GAUGE, .help = "Connections that it has, whoever's.",
	 OTHER(write_backend_in_use, "host, protocol")},

	{"forebay_log_dropped_lines", COUNTER, .help = "Lines of the log that its destination did not take.",
	 OTHER(write_log_dropped, "")},
	{"forebay_invariant_violations", COUNTER,
	 .help = "Times that something was not as it must always be; any is a bug of Forebay's or of a backend's.",
	 OTHER(write_violations, "invariant")},
	{"process_cpu_seconds", COUNTER, .unit = "seconds", .help = "Total user and system CPU time spent in seconds.",
	 OTHER(write_cpu, "")},
	{"process_start_time_seconds", GAUGE, .unit = "seconds",
	 .help = "Start time of the process since unix epoch in seconds.", OTHER(write_start, "")},
	{"process_resident_memory_bytes", GAUGE, .unit = "bytes", .help = "Resident memory size in bytes.",
	 OTHER(write_resident, "")},
	{"process_virtual_memory_bytes", GAUGE, .unit = "bytes", .help = "Virtual memory size in bytes.",
	 OTHER(write_virtual, "")},
	{"process_open_fds", GAUGE, .help = "Number of open file descriptors.", OTHER(write_open_fds, "")},
	{"process_max_fds", GAUGE, .help = "Maximum number of open file descriptors.", OTHER(write_max_fds, "")},
};
enum { METRIC_COUNT = sizeof METRICS / sizeof METRICS[0] };

static const char *type_name(const struct metric *metric, enum metrics_format format) {
	switch (metric->type) {
	case COUNTER:
		return "counter";
	case HISTOGRAM:
		return "histogram";
	case INFO:
		return format == METRICS_OPENMETRICS ? "info" : "gauge";
	case GAUGE:
		break;
	}
	return "gauge";
}

/* OpenMetrics names the family, Prometheus' own format the samples. */
static void write_head(struct page *out, const struct metric *metric, enum metrics_format format) {
	static const char *const lines[] = {"# HELP ", "# TYPE "};

	for (int i = 0; i < 2; i++) {
		page_put(out, lines[i]);
		if (format == METRICS_OPENMETRICS)
			page_put(out, metric->name);
		else
			put_name(out, metric);
		page_printf(out, " %s\n", i == 0 ? metric->help : type_name(metric, format));
	}
	if (format == METRICS_OPENMETRICS && metric->unit)
		page_printf(out, "# UNIT %s %s\n", metric->name, metric->unit);
}

void metrics_write(struct page *out, const struct snapshot *snapshot, enum metrics_format format) {
	for (int m = 0; m < METRIC_COUNT; m++) {
		const struct metric *metric = &METRICS[m];
		write_head(out, metric, format);
		if (metric->other.write)
			metric->other.write(out, metric, snapshot);
		else
			for (size_t i = 0; i < snapshot->pool_count; i++)
				write_pool(out, metric, &snapshot->pools[i], format);
	}
	if (format == METRICS_OPENMETRICS)
		page_put(out, "# EOF\n");
}

/* ---- which format ---- */

/* The weight (RFC 9110, section 12.4.2) that an element of an Accept header gives, 0 to 1. */
static double weight_of(const char *element, size_t len) {
	for (size_t i = 0; i + 2 < len; i++)
		if ((element[i] == ';' || element[i] == ' ') && element[i + 1] == 'q' && element[i + 2] == '=')
			return strtod(element + i + 3, NULL);
	return 1;
}

enum metrics_format metrics_negotiate(const char *accept) {
	double open = 0, plain = 0;

	while (accept && *accept) {
		accept += strspn(accept, " \t,");
		size_t len = strcspn(accept, ",");
		size_t type = strcspn(accept, ",; \t");
		struct {
			const char *name;
			double *weight;
		} types[] = {{"application/openmetrics-text", &open}, {"text/plain", &plain}, {"text/*", &plain}};
		double weight = weight_of(accept, len);
		for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
			if (type == strlen(types[i].name) && strncasecmp(accept, types[i].name, type) == 0 &&
			    weight > *types[i].weight)
				*types[i].weight = weight;
		accept += len;
	}
	return open > 0 && open >= plain ? METRICS_OPENMETRICS : METRICS_PROMETHEUS;
}

const char *metrics_content_type(enum metrics_format format) {
	return format == METRICS_OPENMETRICS ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
					     : "text/plain; version=0.0.4; charset=utf-8";
}

/* ---- the documentation ---- */

void metrics_print_doc(FILE *out) {
	fputs("# Metrics\n\n"
	      "Made by `forebay --print-metrics`. `GET /metrics` on `metrics_listen` answers in Prometheus' text format, or in\n"
	      "OpenMetrics where the Accept header prefers that.\n\n"
	      "Histograms have buckets from 100 us to 100 s: 1, 2.5 and 5 of each decade. `pool` is the name of a pool's section;\n"
	      "one that a client's database name made from `[pool:*]` has that name, so no client can invent more than\n"
	      "`max_auto_pools` of them. All other labels have fixed sets of values, or come from the configuration.\n\n"
	      "| metric | type | labels | what it is |\n|---|---|---|---|\n",
	      out);
	for (int m = 0; m < METRIC_COUNT; m++) {
		const struct metric *metric = &METRICS[m];
		struct page name = {0};
		put_name(&name, metric);
		fprintf(out, "| `%.*s` | %s | %s | ", (int)name.len, name.at ? name.at : "",
			type_name(metric, METRICS_PROMETHEUS), metric->labels);
		fprintf(out, "%s |\n", metric->help);
		page_free(&name);
	}
}
