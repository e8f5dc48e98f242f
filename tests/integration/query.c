#include "query.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static PGconn *open_connection(const struct forebay *forebay, const char *fmt, va_list ap) {
	char info[8192];
	int n = snprintf(info, sizeof(info),
			 "host=127.0.0.1 port=%d user=app password=app-secret dbname=app sslmode=disable "
			 "connect_timeout=30 ",
			 forebay->port);

	if (fmt)
		vsnprintf(info + n, sizeof(info) - (size_t)n, fmt, ap);
	return PQconnectdb(info);
}

PGconn *try_connect(const struct forebay *forebay, const char *fmt, ...) {
	va_list ap;
	PGconn *conn;

	va_start(ap, fmt);
	conn = open_connection(forebay, fmt, ap);
	va_end(ap);
	return conn;
}

PGconn *connect_with(const struct forebay *forebay, const char *fmt, ...) {
	va_list ap;
	PGconn *conn;

	va_start(ap, fmt);
	conn = open_connection(forebay, fmt, ap);
	va_end(ap);
	ck_assert_msg(PQstatus(conn) == CONNECTION_OK, "connection refused: %s", PQerrorMessage(conn));
	return conn;
}

PGconn *connect_app(const struct forebay *forebay) {
	return connect_with(forebay, " ");
}

PGconn *connect_operator(const struct forebay *forebay) {
	return connect_with(forebay, "user=ops password=ops-secret dbname=forebay");
}

PGconn *connect_control(void) {
	char info[1024];
	PGconn *conn;

	snprintf(info, sizeof(info), "host=%s port=%d user=postgres dbname=app application_name=control "
		 "options='-c client_min_messages=warning'",
		 harness_path("pg"), harness_postgres_port());
	conn = PQconnectdb(info);
	ck_assert_msg(PQstatus(conn) == CONNECTION_OK, "control connection: %s", PQerrorMessage(conn));
	return conn;
}

void expect_refused(PGconn *conn, const char *words) {
	ck_assert_msg(PQstatus(conn) == CONNECTION_BAD, "connected, where a refusal was due: %s", words);
	ck_assert_msg(strstr(PQerrorMessage(conn), words) != NULL, "expected \"%s\" in: %s", words,
		      PQerrorMessage(conn));
	PQfinish(conn);
}

PGresult *next_result(PGconn *conn) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	PQflush(conn);
	while (PQisBusy(conn)) {
		struct pollfd p = {.fd = PQsocket(conn), .events = POLLIN};
		int left = (int)(deadline - harness_now_ms());

		if (PQflush(conn) == 1)
			p.events |= POLLOUT;
		ck_assert_msg(left > 0 && p.fd >= 0, "no answer in time");
		poll(&p, 1, left);
		if (!PQconsumeInput(conn))
			break;
	}
	return PQgetResult(conn);
}

void send_query(PGconn *conn, const char *sql) {
	ck_assert_msg(PQsendQuery(conn, sql) == 1, "%s: %s", sql, PQerrorMessage(conn));
	PQflush(conn);
}

/* As PQexec(), but with the deadline; the last result. */
static PGresult *run(PGconn *conn, const char *sql) {
	PGresult *res, *last = NULL;

	send_query(conn, sql);
	while ((res = next_result(conn))) {
		if (last && PQresultStatus(last) == PGRES_FATAL_ERROR) {
			PQclear(res);
		} else {
			PQclear(last);
			last = res;
		}
		if (PQstatus(conn) == CONNECTION_BAD)
			break;
	}
	ck_assert_msg(last != NULL, "%s: no result", sql);
	return last;
}

static char *run_value(PGconn *conn, const char *fmt, va_list ap) {
	char *sql = NULL, *value;
	PGresult *res;

	ck_assert(vasprintf(&sql, fmt, ap) >= 0);
	res = run(conn, sql);
	ck_assert_msg(PQresultStatus(res) == PGRES_TUPLES_OK || PQresultStatus(res) == PGRES_COMMAND_OK ||
			      PQresultStatus(res) == PGRES_EMPTY_QUERY,
		      "%.200s: %s", sql, PQresultErrorMessage(res));
	value = strdup(PQntuples(res) > 0 ? PQgetvalue(res, 0, 0) : "");
	PQclear(res);
	free(sql);
	return value;
}

char *query(PGconn *conn, const char *fmt, ...) {
	va_list ap;
	char *value;

	va_start(ap, fmt);
	value = run_value(conn, fmt, ap);
	va_end(ap);
	return value;
}

char *table_cell(PGconn *conn, const char *sql, const char *by, const char *key, const char *column) {
	PGresult *res = PQexec(conn, sql);
	int n = PQfnumber(res, column), k = PQfnumber(res, by);
	char *value = NULL;

	ck_assert_msg(n >= 0 && k >= 0, "%s: %s", sql, PQresultErrorMessage(res));
	for (int row = 0; row < PQntuples(res) && !value; row++)
		if (strcmp(PQgetvalue(res, row, k), key) == 0)
			value = strdup(PQgetvalue(res, row, n));
	PQclear(res);
	return value ? value : strdup("");
}

void await_table_cell(PGconn *conn, const char *sql, const char *by, const char *key, const char *column,
		      const char *expected) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	for (;;) {
		char *value = table_cell(conn, sql, by, key, column);
		bool same = strcmp(value, expected) == 0;

		ck_assert_msg(same || harness_now_ms() < deadline, "%s: %s of %s is still \"%s\", not \"%s\"", sql, column,
			      key, value, expected);
		free(value);
		if (same)
			return;
		harness_pause_ms(5);
	}
}

void expect_tag(PGconn *conn, const char *sql, const char *tag) {
	PGresult *res = PQexec(conn, sql);

	ck_assert_msg(PQresultStatus(res) == PGRES_COMMAND_OK, "%s: %s", sql, PQresultErrorMessage(res));
	ck_assert_str_eq(PQcmdStatus(res), tag);
	PQclear(res);
}

long query_long(PGconn *conn, const char *fmt, ...) {
	va_list ap;
	char *value;
	long n;

	va_start(ap, fmt);
	value = run_value(conn, fmt, ap);
	va_end(ap);
	n = strtol(value, NULL, 10);
	free(value);
	return n;
}

void execute(PGconn *conn, const char *fmt, ...) {
	va_list ap;

	va_start(ap, fmt);
	free(run_value(conn, fmt, ap));
	va_end(ap);
}

void begin_holding(PGconn *conn) {
	execute(conn, "begin");
	execute(conn, "select 1");
}

void expect_value(PGconn *conn, const char *sql, const char *expected) {
	char *value = query(conn, "%s", sql);

	ck_assert_msg(strcmp(value, expected) == 0, "%.200s: expected \"%.300s\", got \"%.300s\"", sql, expected,
		      value);
	free(value);
}

void expect_result(PGresult *res, ExecStatusType status) {
	ck_assert_msg(res != NULL, "no result, expected %s", PQresStatus(status));
	ck_assert_msg(PQresultStatus(res) == status, "expected %s, got %s: %s", PQresStatus(status),
		      PQresStatus(PQresultStatus(res)), PQresultErrorMessage(res));
	PQclear(res);
}

void expect_failure(PGresult *res, const char *sqlstate) {
	const char *got;

	ck_assert_msg(res != NULL, "no result, expected error %s", sqlstate);
	got = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	ck_assert_msg(PQresultStatus(res) == PGRES_FATAL_ERROR, "expected error %s, got %s", sqlstate,
		      PQresStatus(PQresultStatus(res)));
	ck_assert_msg(got && strcmp(got, sqlstate) == 0, "expected SQLSTATE %s, got %s: %s", sqlstate,
		      got ? got : "none", PQresultErrorMessage(res));
	PQclear(res);
}

void expect_text(PGresult *res, const char *expected) {
	ck_assert_msg(res != NULL, "no result, expected \"%s\"", expected);
	ck_assert_msg(PQresultStatus(res) == PGRES_TUPLES_OK, "expected \"%s\", got %s: %s", expected,
		      PQresStatus(PQresultStatus(res)), PQresultErrorMessage(res));
	ck_assert_int_ge(PQntuples(res), 1);
	ck_assert_str_eq(PQgetvalue(res, 0, 0), expected);
	PQclear(res);
}

void expect_error(PGconn *conn, const char *sql, const char *sqlstate) {
	expect_failure(run(conn, sql), sqlstate);
	ck_assert_msg(PQstatus(conn) == CONNECTION_OK, "the connection did not survive: %s", sql);
}

void await_value(PGconn *conn, const char *sql, const char *expected) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	for (;;) {
		char *value = query(conn, "%s", sql);
		bool same = strcmp(value, expected) == 0;

		if (!same && harness_now_ms() > deadline)
			ck_abort_msg("%s: still \"%s\", expected \"%s\"", sql, value, expected);
		free(value);
		if (same)
			return;
		harness_pause_ms(10);
	}
}

long server_connections(PGconn *control) {
	return query_long(control, "select count(*) from pg_stat_activity where backend_type = 'client backend' "
				   "and usename <> 'postgres' and application_name <> 'forebay monitor'");
}

int await_running(PGconn *control, const char *text) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	for (;;) {
		long pid = query_long(control,
				      "select pid from pg_stat_activity where state = 'active' and pid <> "
				      "pg_backend_pid() and position('%s' in query) > 0 limit 1",
				      text);

		if (pid != 0)
			return (int)pid;
		ck_assert_msg(harness_now_ms() < deadline, "no query with \"%s\" runs", text);
		harness_pause_ms(10);
	}
}

void await_not_running(PGconn *control, const char *text) {
	char sql[512];

	snprintf(sql, sizeof(sql),
		 "select count(*) from pg_stat_activity where state = 'active' and pid <> pg_backend_pid() "
		 "and position('%s' in query) > 0",
		 text);
	await_value(control, sql, "0");
}
