/* PostgreSQL's clients of traffic.h, by libpq. */
#include <stdio.h>
#include <string.h>

#include "traffic_kinds.h"

/* What comes unasked is a notice to libpq. */
static void take_notice(void *context, const PGresult *res) {
	struct goer *goer = context;
	const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *sqlstate = PQresultErrorField(res, PG_DIAG_SQLSTATE);

	if (severity && strcmp(severity, "FATAL") == 0)
		snprintf(goer->farewell, sizeof(goer->farewell), "%s %.150s", sqlstate ? sqlstate : "", PQresultErrorMessage(res));
}

static bool enter(struct attempt *attempt) {
	struct goer *goer = attempt->goer;
	char info[512];

	snprintf(info, sizeof(info), "host=%s port=%d user=app dbname=%s sslmode=%s gssencmode=disable connect_timeout=30",
		 goer->local ? goer->address.socket_dir : "127.0.0.1", goer->address.port, goer->session ? "sess" : "app",
		 goer->tls ? "require" : "disable");
	goer->farewell[0] = 0;
	PGconn *conn = PQconnectdb(info);
	PQsetNoticeReceiver(conn, take_notice, goer);
	if (PQstatus(conn) == CONNECTION_OK) {
		goer->conn = conn;
		return true;
	}
	attempt_failed(attempt, "%.250s", PQerrorMessage(conn));
	PQfinish(conn);
	return false;
}

static void leave(struct goer *goer) {
	PQfinish(goer->conn);
	goer->conn = NULL;
}

static bool failed(struct attempt *attempt, const char *sqlstate) {
	return attempt_failed(attempt, "%s %.200s %.80s", sqlstate ? sqlstate : "", PQerrorMessage(attempt->goer->conn),
			      attempt->goer->farewell);
}

static bool take(struct attempt *attempt, PGresult *res) {
	ExecStatusType status = PQresultStatus(res);
	bool ok = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_COPY_IN ||
		  status == PGRES_PIPELINE_SYNC;

	if (ok)
		attempt->begun = true;
	else
		failed(attempt, PQresultErrorField(res, PG_DIAG_SQLSTATE));
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
		return failed(attempt, NULL);
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
		return failed(attempt, NULL);
	for (int answers = 0; answers < 4;) {
		PGresult *res = PQgetResult(conn);
		if (!res) {
			if (PQstatus(conn) == CONNECTION_BAD)
				return failed(attempt, NULL);
			continue;
		}
		if (!take(attempt, res))
			return false;
		answers++;
	}
	return PQexitPipelineMode(conn) == 1 || failed(attempt, NULL);
}

static bool by_cursor(struct attempt *attempt) {
	return say(attempt, "begin") && say(attempt, "declare c cursor for select generate_series(1, 10)") &&
	       say(attempt, "fetch 5 from c") && say_insert(attempt) && say(attempt, "fetch 5 from c") && say(attempt, "commit");
}

static bool by_session(struct attempt *attempt) {
	return say(attempt, "begin") && say(attempt, "create temp table t (v int) on commit drop") && say_insert(attempt) &&
	       say(attempt, "insert into t values (1)") && say(attempt, "commit");
}

static bool ask(struct attempt *attempt) {
	return say(attempt, "select 1");
}

static void make_table(void) {
	PGconn *control = connect_control();

	execute(control, "drop table if exists noted");
	execute(control, "create table noted (id bigint primary key)");
	execute(control, "alter table noted owner to app");
	PQfinish(control);
}

static long count_rows(void) {
	PGconn *control = connect_control();
	long rows = query_long(control, "select count(*) from noted");

	PQfinish(control);
	return rows;
}

const struct traffic_kinds traffic_of_postgres = {
	.name = "PostgreSQL",
	.told = "57P01",
	.make_table = make_table,
	.count_rows = count_rows,
	.enter = enter,
	.leave = leave,
	.ask = ask,
	.count = 7,
	.by_kind = {by_simple_queries, by_one_statement, by_prepared_statement, by_copy, by_pipeline, by_cursor, by_session},
};
