/*
 * SHOW STATS and its kin. The counters are atomic with one writer each, so no worker is asked. Averages are over the
 * time since the last sample but one, that is one to two minutes, as PgBouncer's are.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "admin/show.h"
#include "base/clock.h"
#include "session/database.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#define STATS_PERIOD_NS (60 * NS_PER_S)

/* In PgBouncer's order. */
enum figure {
	ASSIGNMENTS,
	XACTS,
	QUERIES,
	RECEIVED,
	SENT,
	XACT_TIME, /* times in microseconds */
	QUERY_TIME,
	WAIT_TIME,
	CLIENT_PARSES,
	SERVER_PARSES,
	BINDS,
	PGBOUNCER_FIGURES,
	/* our own */
	WAITS = PGBOUNCER_FIGURES,
	TIMEOUTS,
	REJECTED,
	OPENED,
	CLOSED,
	OPEN_FAILED,
	MOVED,
	BUSY_TIME,
	FIGURES
};

static const struct {
	const char *total, *average;                  /* of SHOW STATS; ours have no average */
	const char *plain, *plain_average;            /* of STATS_TOTALS and STATS_AVERAGES */
	const char *grand_total, *grand_average;      /* of TOTALS */
} labels[FIGURES] = {
	[ASSIGNMENTS] = {"total_server_assignment_count", "avg_server_assignment_count", "server_assignment_count",
			 "server_assignment_count", "total_server_assignment_count", "avg_server_assignment_count"},
	[XACTS] = {"total_xact_count", "avg_xact_count", "xact_count", "xact_count", "total_xact_count",
		   "avg_xact_count"},
	[QUERIES] = {"total_query_count", "avg_query_count", "query_count", "query_count", "total_query_count",
		     "avg_query_count"},
	[RECEIVED] = {"total_received", "avg_recv", "bytes_received", "bytes_received", "total_client_bytes",
		      "avg_client_bytes"},
	[SENT] = {"total_sent", "avg_sent", "bytes_sent", "bytes_sent", "total_server_bytes", "avg_server_bytes"},
	[XACT_TIME] = {"total_xact_time", "avg_xact_time", "xact_time", "xact_time", "total_xact_time",
		       "avg_xact_time"},
	[QUERY_TIME] = {"total_query_time", "avg_query_time", "query_time", "query_time", "total_query_time",
			"avg_query_time"},
	[WAIT_TIME] = {"total_wait_time", "avg_wait_time", "wait_time", "wait_time", "total_wait_time",
		       "avg_wait_time"},
	[CLIENT_PARSES] = {"total_client_parse_count", "avg_client_parse_count", "client_parse_count",
			   "avg_client_parse_count", "total_ps_client_parse_count", "avg_ps_client_parse_count"},
	[SERVER_PARSES] = {"total_server_parse_count", "avg_server_parse_count", "server_parse_count",
			   "avg_server_parse_count", "total_ps_server_parse_count", "avg_ps_server_parse_count"},
	[BINDS] = {"total_bind_count", "avg_bind_count", "bind_count", "avg_bind_count", "total_ps_bind_count",
		   "avg_ps_bind_count"},
	[WAITS] = {.total = "total_wait_count"},
	[TIMEOUTS] = {.total = "total_acquire_timeout_count"},
	[REJECTED] = {.total = "total_rejected_count"},
	[OPENED] = {.total = "total_opened_count"},
	[CLOSED] = {.total = "total_closed_count"},
	[OPEN_FAILED] = {.total = "total_open_failed_count"},
	[MOVED] = {.total = "total_moved_count"},
	[BUSY_TIME] = {.total = "total_busy_time"},
};

struct figures {
	uint64_t at[FIGURES];
};

/* What a database had done at the last two samples. */
struct sample {
	UT_hash_handle hh;
	const struct database *database; /* lives until the process ends */
	struct figures newer, older;
};

/* Written once a minute by the main thread, read by SHOW. */
static struct {
	pthread_mutex_t mutex;
	struct sample *by_database;
	uint64_t newer_ns, older_ns;
} samples = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static struct figures figures_of(struct database *database) {
	struct figures f = {0};

	for (int worker = 0; worker < database->workers; worker++) {
		const struct pool_shard_stats *s = pool_shard_stats(pool_shard(database->pool, worker));
		f.at[ASSIGNMENTS] += stat_read(&s->acquires);
		f.at[XACTS] += stat_read(&s->transactions);
		f.at[QUERIES] += stat_read(&s->queries);
		f.at[RECEIVED] += stat_read(&s->client_bytes);
		f.at[SENT] += stat_read(&s->server_bytes);
		f.at[XACT_TIME] += stat_read(&s->transaction_ns) / NS_PER_US;
		f.at[QUERY_TIME] += stat_read(&s->query_ns) / NS_PER_US;
		f.at[WAIT_TIME] += stat_read(&s->wait_ns) / NS_PER_US;
		f.at[WAITS] += stat_read(&s->waits);
		f.at[TIMEOUTS] += stat_read(&s->timeouts);
		f.at[REJECTED] += stat_read(&s->rejected);
		f.at[OPENED] += stat_read(&s->opened);
		f.at[CLOSED] += stat_read(&s->closed);
		f.at[OPEN_FAILED] += stat_read(&s->open_failed);
		f.at[MOVED] += stat_read(&s->moved);
		f.at[BUSY_TIME] += stat_read(&s->busy_ns) / NS_PER_US;
	}
	return f;
}

/* ---- samples ---- */

static struct sample *sample_find_locked(const struct database *database) {
	struct sample *sample = NULL;

	HASH_FIND_PTR(samples.by_database, &database, sample);
	return sample;
}

static void sample_database(struct database *database, void *context) {
	struct sample *sample = sample_find_locked(database);

	(void)context;
	if (!sample) {
		sample = calloc(1, sizeof *sample);
		if (!sample)
			return;
		sample->database = database;
		unsigned before = HASH_COUNT(samples.by_database);
		HASH_ADD_PTR(samples.by_database, database, sample);
		if (HASH_COUNT(samples.by_database) == before) {
			free(sample);
			return;
		}
	}
	sample->older = sample->newer;
	sample->newer = figures_of(database);
}

bool stats_start(void) {
	samples.newer_ns = samples.older_ns = clock_monotonic_ns();
	return true;
}

void stats_tick(void) {
	uint64_t now_ns = clock_monotonic_ns();

	pthread_mutex_lock(&samples.mutex);
	if (now_ns - samples.newer_ns >= STATS_PERIOD_NS) {
		samples.older_ns = samples.newer_ns;
		samples.newer_ns = now_ns;
		databases_each(sample_database, NULL);
	}
	pthread_mutex_unlock(&samples.mutex);
}

void stats_stop(void) {
	struct sample *sample, *next;

	HASH_ITER(hh, samples.by_database, sample, next) {
		HASH_DEL(samples.by_database, sample);
		free(sample);
	}
}

/* ---- answers ---- */

struct stats_answer {
	struct console_result *result;
	bool totals, averages;
	struct figures total, older; /* of all databases */
};

/* Counts become rates a second; times become the mean of what they were spent on. */
static struct figures averages_of(const struct figures *now, const struct figures *older, uint64_t duration_us) {
	struct figures average = {0};
	uint64_t done[FIGURES];

	if (!duration_us)
		return average;
	for (int i = 0; i < PGBOUNCER_FIGURES; i++) {
		done[i] = now->at[i] - older->at[i];
		average.at[i] = (uint64_t)((double)done[i] * 1e6 / (double)duration_us);
	}
	average.at[XACT_TIME] = done[XACTS] ? done[XACT_TIME] / done[XACTS] : 0;
	average.at[QUERY_TIME] = done[QUERIES] ? done[QUERY_TIME] / done[QUERIES] : 0;
	average.at[WAIT_TIME] = done[ASSIGNMENTS] ? done[WAIT_TIME] / done[ASSIGNMENTS] : 0;
	return average;
}

static uint64_t since_older_us_locked(void) {
	return (clock_monotonic_ns() - samples.older_ns) / NS_PER_US;
}

static void stats_row(struct database *database, void *context) {
	struct stats_answer *answer = context;
	struct console_result *r = answer->result;
	struct sample *sample = sample_find_locked(database);
	struct figures now = figures_of(database), older = {0};
	size_t column = 1;

	if (sample)
		older = sample->older;
	if (!console_row(r))
		return;
	console_set_text(r, 0, database->name);
	for (int i = 0; answer->totals && i < PGBOUNCER_FIGURES; i++)
		console_set_number(r, column++, (int64_t)now.at[i]);
	struct figures average = averages_of(&now, &older, since_older_us_locked());
	for (int i = 0; answer->averages && i < PGBOUNCER_FIGURES; i++)
		console_set_number(r, column++, (int64_t)average.at[i]);
	for (int i = PGBOUNCER_FIGURES; answer->totals && i < FIGURES; i++)
		console_set_number(r, column++, (int64_t)now.at[i]);
	if (answer->totals && answer->averages)
		console_set_number(r, column, (int64_t)now.at[QUERIES]);
}

static void answer_stats(struct console_request *request, bool totals, bool averages) {
	struct stats_answer answer = {.result = &request->result, .totals = totals, .averages = averages};
	struct column columns[2 + 2 * FIGURES] = {{"database", CONSOLE_TEXT}};
	size_t count = 1;

	for (int i = 0; totals && i < PGBOUNCER_FIGURES; i++)
		columns[count++] = (struct column){averages ? labels[i].total : labels[i].plain, CONSOLE_NUMERIC};
	for (int i = 0; averages && i < PGBOUNCER_FIGURES; i++)
		columns[count++] =
			(struct column){totals ? labels[i].average : labels[i].plain_average, CONSOLE_NUMERIC};
	for (int i = PGBOUNCER_FIGURES; totals && i < FIGURES; i++)
		columns[count++] = (struct column){labels[i].total, CONSOLE_NUMERIC};
	/* PgBouncer's name of total_query_count until 1.7: Debian's exporter asks for it still */
	if (totals && averages)
		columns[count++] = (struct column){"total_requests", CONSOLE_NUMERIC};
	if (show_columns(&request->result, columns, count)) {
		pthread_mutex_lock(&samples.mutex);
		databases_each(stats_row, &answer);
		pthread_mutex_unlock(&samples.mutex);
	}
	admin_answer(request);
}

SHOW_COMMAND(stats) {
	(void)arguments;
	answer_stats(request, true, true);
}

SHOW_COMMAND(stats_totals) {
	(void)arguments;
	answer_stats(request, true, false);
}

SHOW_COMMAND(stats_averages) {
	(void)arguments;
	answer_stats(request, false, true);
}

static void sum_database(struct database *database, void *context) {
	struct stats_answer *answer = context;
	struct sample *sample = sample_find_locked(database);
	struct figures now = figures_of(database);

	for (int i = 0; i < FIGURES; i++) {
		answer->total.at[i] += now.at[i];
		answer->older.at[i] += sample ? sample->older.at[i] : 0;
	}
}

static void total_row(struct console_result *r, const char *name, uint64_t value) {
	if (console_row(r)) {
		console_set_text(r, 0, name);
		console_set_number(r, 1, (int64_t)value);
	}
}

SHOW_COMMAND(totals) {
	static const struct column columns[] = {{"name", CONSOLE_TEXT}, {"value", CONSOLE_NUMERIC}};
	struct console_result *r = &request->result;
	struct stats_answer sum = {.result = r};

	(void)arguments;
	pthread_mutex_lock(&samples.mutex);
	databases_each(sum_database, &sum);
	uint64_t duration_us = since_older_us_locked();
	pthread_mutex_unlock(&samples.mutex);
	struct figures average = averages_of(&sum.total, &sum.older, duration_us);
	if (SHOW_COLUMNS(r, columns)) {
		for (int i = 0; i < PGBOUNCER_FIGURES; i++)
			total_row(r, labels[i].grand_total, sum.total.at[i]);
		for (int i = 0; i < PGBOUNCER_FIGURES; i++)
			total_row(r, labels[i].grand_average, average.at[i]);
		for (int i = PGBOUNCER_FIGURES; i < FIGURES; i++)
			total_row(r, labels[i].total, sum.total.at[i]);
	}
	admin_answer(request);
}
