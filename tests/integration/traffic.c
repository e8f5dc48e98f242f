#include "traffic.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KINDS = 7, WORDS_KEPT = 8 };

struct goer {
	struct traffic *traffic;
	pthread_t thread;
	int number, kind; /* -1: a comer */
	PGconn *conn;
	char farewell[200];
	_Atomic long served;
};

struct traffic {
	struct traffic_setup setup;
	struct forebay address; /* its port and its sockets' folder: the process may be another by now */
	struct goer *goers;
	int count;
	_Atomic bool stop;
	_Atomic long came, refused, committed, told, cut, next_id;
	pthread_mutex_t mutex;
	int words;
	char said[WORDS_KEPT][400];
};

static void note(struct traffic *traffic, _Atomic long *count, const char *what, const char *text) {
	atomic_fetch_add(count, 1);
	pthread_mutex_lock(&traffic->mutex);
	if (traffic->words < WORDS_KEPT)
		snprintf(traffic->said[traffic->words++], sizeof(traffic->said[0]), "%s: %.300s", what, text);
	pthread_mutex_unlock(&traffic->mutex);
}

/* What comes unasked is a notice to libpq. */
static void take_notice(void *context, const PGresult *res) {
	struct goer *goer = context;
	const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *sqlstate = PQresultErrorField(res, PG_DIAG_SQLSTATE);

	if (severity && strcmp(severity, "FATAL") == 0)
		snprintf(goer->farewell, sizeof(goer->farewell), "%s %.150s", sqlstate ? sqlstate : "", PQresultErrorMessage(res));
}

static bool enter(struct goer *goer) {
	const struct traffic_setup *setup = &goer->traffic->setup;
	char info[512];

	snprintf(info, sizeof(info), "host=%s port=%d user=app dbname=%s sslmode=disable gssencmode=disable connect_timeout=30",
		 goer->number % 2 ? goer->traffic->address.socket_dir : "127.0.0.1", goer->traffic->address.port,
		 goer->kind == KINDS - 1 && setup->sessions ? "sess" : "app");
	goer->farewell[0] = 0;
	goer->conn = PQconnectdb(info);
	PQsetNoticeReceiver(goer->conn, take_notice, goer);
	if (PQstatus(goer->conn) == CONNECTION_OK)
		return true;
	note(goer->traffic, &goer->traffic->refused, "not let in", PQerrorMessage(goer->conn));
	PQfinish(goer->conn);
	goer->conn = NULL;
	return false;
}

static void leave(struct goer *goer) {
	PQfinish(goer->conn);
	goer->conn = NULL;
}

/* ---- transactions: each sends its id along and is told whether all answers were there ---- */

struct attempt {
	struct goer *goer;
	long id;
	bool begun; /* the first answer was there */
	char error[300];
};

static bool failed(struct attempt *attempt, const char *sqlstate, const char *text) {
	if (!attempt->error[0])
		snprintf(attempt->error, sizeof(attempt->error), "%s %.200s %.80s", sqlstate ? sqlstate : "", text,
			 attempt->goer->farewell);
	return false;
}

static bool take(struct attempt *attempt, PGresult *res) {
	ExecStatusType status = PQresultStatus(res);
	bool ok = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_COPY_IN ||
		  status == PGRES_PIPELINE_SYNC;

	if (ok)
		attempt->begun = true;
	else
		failed(attempt, PQresultErrorField(res, PG_DIAG_SQLSTATE), PQerrorMessage(attempt->goer->conn));
	PQclear(res);
	return ok;
}

static bool say(struct attempt *attempt, const char *sql) {
	return take(attempt, PQexec(attempt->goer->conn, sql));
}

static const char *id_text(const struct attempt *attempt, char out[24]) {
	snprintf(out, 24, "%ld", attempt->id);
	return out;
}

static bool say_insert(struct attempt *attempt) {
	char sql[80];

	snprintf(sql, sizeof(sql), "insert into noted values (%ld)", attempt->id);
	return say(attempt, sql);
}

static bool by_simple_queries(struct attempt *attempt) {
	return say(attempt, "begin") && say_insert(attempt) && say(attempt, "select pg_sleep(0.01)") && say(attempt, "commit");
}

static bool by_one_statement(struct attempt *attempt) {
	return say_insert(attempt);
}

static bool by_prepared_statement(struct attempt *attempt) {
	char id[24];
	const char *values[] = {id_text(attempt, id)};
	PGconn *conn = attempt->goer->conn;

	if (!take(attempt, PQprepare(conn, "put", "insert into noted values ($1)", 0, NULL)))
		return false;
	attempt->begun = false; /* it may be told between these two, and before the last one */
	if (!say(attempt, "begin") || !take(attempt, PQexecPrepared(conn, "put", 1, values, NULL, NULL, 0)) ||
	    !say(attempt, "commit"))
		return false;
	PGresult *res = PQexec(conn, "deallocate put");
	if (PQresultStatus(res) != PGRES_COMMAND_OK && !attempt->goer->farewell[0]) /* told instead: what it has heard is for the next attempt */
		snprintf(attempt->goer->farewell, sizeof(attempt->goer->farewell), "%.150s", PQerrorMessage(conn));
	PQclear(res);
	return true;
}

static bool by_copy(struct attempt *attempt) {
	char line[32];
	PGconn *conn = attempt->goer->conn;

	if (!say(attempt, "copy noted from stdin"))
		return false;
	snprintf(line, sizeof(line), "%ld\n", attempt->id);
	if (PQputCopyData(conn, line, (int)strlen(line)) != 1 || PQputCopyEnd(conn, NULL) != 1)
		return failed(attempt, NULL, PQerrorMessage(conn));
	bool ok = true;
	for (PGresult *res; (res = PQgetResult(conn));)
		ok = take(attempt, res) && ok;
	return ok;
}

static bool by_pipeline(struct attempt *attempt) {
	char id[24];
	const char *values[] = {id_text(attempt, id)};
	PGconn *conn = attempt->goer->conn;
	bool ok = PQenterPipelineMode(conn) == 1 && PQsendQueryParams(conn, "begin", 0, NULL, NULL, NULL, NULL, 0) == 1 &&
		  PQsendQueryParams(conn, "insert into noted values ($1)", 1, NULL, values, NULL, NULL, 0) == 1 &&
		  PQsendQueryParams(conn, "commit", 0, NULL, NULL, NULL, NULL, 0) == 1 && PQpipelineSync(conn) == 1;

	if (!ok)
		return failed(attempt, NULL, PQerrorMessage(conn));
	for (int answers = 0; answers < 4;) {
		PGresult *res = PQgetResult(conn);
		if (!res) {
			if (PQstatus(conn) == CONNECTION_BAD)
				return failed(attempt, NULL, PQerrorMessage(conn));
			continue;
		}
		if (!take(attempt, res))
			return false;
		answers++;
	}
	return PQexitPipelineMode(conn) == 1 || failed(attempt, NULL, PQerrorMessage(conn));
}

static bool by_cursor(struct attempt *attempt) {
	return say(attempt, "begin") && say(attempt, "declare c cursor for select generate_series(1, 10)") &&
	       say(attempt, "fetch 5 from c") && say_insert(attempt) && say(attempt, "fetch 5 from c") && say(attempt, "commit");
}

static bool by_session(struct attempt *attempt) {
	return say(attempt, "begin") && say(attempt, "create temp table t (v int) on commit drop") && say_insert(attempt) &&
	       say(attempt, "insert into t values (1)") && say(attempt, "commit");
}

static bool (*const by_kind[KINDS])(struct attempt *attempt) = {
	by_simple_queries, by_one_statement, by_prepared_statement, by_copy, by_pipeline, by_cursor, by_session,
};

/* ---- the threads ---- */

static void come(struct goer *goer) {
	struct traffic *traffic = goer->traffic;

	if (!enter(goer))
		return;
	PGresult *res = PQexec(goer->conn, "select 1");
	if (PQresultStatus(res) == PGRES_TUPLES_OK) {
		atomic_fetch_add(&traffic->came, 1);
		atomic_fetch_add(&goer->served, 1);
	} else {
		note(traffic, &traffic->refused, "let in and not served", PQerrorMessage(goer->conn));
	}
	PQclear(res);
	leave(goer);
}

static void stay(struct goer *goer) {
	struct traffic *traffic = goer->traffic;
	struct attempt attempt = {.goer = goer, .id = atomic_fetch_add(&traffic->next_id, 1)};

	if (!goer->conn && !enter(goer))
		return;
	if (by_kind[goer->kind](&attempt)) {
		atomic_fetch_add(&traffic->committed, 1);
		atomic_fetch_add(&goer->served, 1);
		return;
	}
	bool was_told = strstr(attempt.error, "57P01") || strstr(attempt.error, "the pooler is shutting down");
	if (attempt.begun || !was_told) {
		char what[64];
		snprintf(what, sizeof(what), "a transaction of kind %d was cut%s", goer->kind, attempt.begun ? "" : " at its start");
		note(traffic, &traffic->cut, what, attempt.error);
	} else {
		atomic_fetch_add(&traffic->told, 1);
	}
	leave(goer);
}

static void *go(void *context) {
	struct goer *goer = context;

	while (!atomic_load(&goer->traffic->stop)) {
		if (goer->kind < 0)
			come(goer);
		else
			stay(goer);
		if (!goer->conn)
			harness_pause_ms(1); /* where it is refused: not in a spin */
	}
	if (goer->conn)
		leave(goer);
	return NULL;
}

struct traffic *traffic_start(const struct traffic_setup *setup) {
	struct traffic *traffic = calloc(1, sizeof(*traffic));
	PGconn *control = connect_control();

	ck_assert_ptr_nonnull(traffic);
	execute(control, "drop table if exists noted");
	execute(control, "create table noted (id bigint primary key)");
	execute(control, "alter table noted owner to app");
	PQfinish(control);
	traffic->setup = *setup;
	traffic->address = *setup->forebay;
	traffic->count = setup->comers + setup->stayers_of_each * (setup->sessions ? KINDS : KINDS - 1);
	traffic->goers = calloc((size_t)traffic->count, sizeof(traffic->goers[0]));
	ck_assert_ptr_nonnull(traffic->goers);
	pthread_mutex_init(&traffic->mutex, NULL);
	for (int i = 0; i < traffic->count; i++) {
		struct goer *goer = &traffic->goers[i];
		goer->traffic = traffic;
		goer->number = i;
		goer->kind = i < setup->comers ? -1 : (i - setup->comers) / setup->stayers_of_each;
		ck_assert_int_eq(pthread_create(&goer->thread, NULL, go, goer), 0);
	}
	traffic_await_more(traffic);
	return traffic;
}

struct traffic_counts traffic_now(struct traffic *traffic) {
	return (struct traffic_counts){
		.came = atomic_load(&traffic->came),
		.refused = atomic_load(&traffic->refused),
		.committed = atomic_load(&traffic->committed),
		.told = atomic_load(&traffic->told),
		.cut = atomic_load(&traffic->cut),
	};
}

void traffic_await_more(struct traffic *traffic) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	long before[256];

	ck_assert_int_le(traffic->count, 256);
	for (int i = 0; i < traffic->count; i++)
		before[i] = atomic_load(&traffic->goers[i].served);
	for (int i = 0; i < traffic->count; i++)
		while (atomic_load(&traffic->goers[i].served) <= before[i]) {
			ck_assert_msg(harness_now_ms() < deadline, "a client of kind %d is served no more: %s", traffic->goers[i].kind,
				      traffic->words ? traffic->said[traffic->words - 1] : "without a word");
			harness_pause_ms(5);
		}
}

struct traffic_counts traffic_end(struct traffic *traffic) {
	PGconn *control = connect_control();

	atomic_store(&traffic->stop, true);
	for (int i = 0; i < traffic->count; i++)
		pthread_join(traffic->goers[i].thread, NULL);
	struct traffic_counts counts = traffic_now(traffic);
	printf("traffic: %ld came, %ld refused, %ld committed, %ld told, %ld cut\n", counts.came, counts.refused,
	       counts.committed, counts.told, counts.cut);
	for (int i = 0; i < traffic->words; i++)
		printf("  %s\n", traffic->said[i]);
	fflush(stdout);
	ck_assert_int_eq((int)counts.refused, 0);
	ck_assert_int_eq((int)counts.cut, 0);
	ck_assert_int_eq((int)query_long(control, "select count(*) from noted"), (int)counts.committed);
	PQfinish(control);
	pthread_mutex_destroy(&traffic->mutex);
	free(traffic->goers);
	free(traffic);
	return counts;
}
