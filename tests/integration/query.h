/* libpq in one line each: connections to a Forebay, queries with their expected answers, waits on conditions. */
#ifndef TESTS_QUERY_H
#define TESTS_QUERY_H

#include "harness.h"

/* Connects as app to database app by SCRAM, with further conninfo words (they win). Never NULL; may have failed. */
PGconn *try_connect(const struct forebay *forebay, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same; the test fails where the connection does. */
PGconn *connect_with(const struct forebay *forebay, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
PGconn *connect_app(const struct forebay *forebay);
/* To the console, as who may change things there. */
PGconn *connect_operator(const struct forebay *forebay);
/* Connects to PostgreSQL itself as superuser; to database app. */
PGconn *connect_control(void);

/* Fails the test unless the connection failed with this SQLSTATE (as text in libpq's verbose message) or words. */
void expect_refused(PGconn *conn, const char *words);

/* Runs it; the first value of the first row, malloc'd ("" where it yields none). */
char *query(PGconn *conn, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void execute(PGconn *conn, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A transaction that holds a server: its first statement has been said. */
void begin_holding(PGconn *conn);
void expect_value(PGconn *conn, const char *sql, const char *expected);
/* It fails with this SQLSTATE; the connection stays usable. */
void expect_error(PGconn *conn, const char *sql, const char *sqlstate);
/* A result just got: its status, SQLSTATE or first value are as expected. Clears it. */
void expect_result(PGresult *res, ExecStatusType status);
void expect_failure(PGresult *res, const char *sqlstate);
void expect_text(PGresult *res, const char *expected);
/* Polls until the query's value is as expected. */
void await_value(PGconn *conn, const char *sql, const char *expected);
/* Of a table as the console shows it: the value of a column in the first row whose column `by` is `key`, malloc'd; "" where
 * there is none. */
char *table_cell(PGconn *conn, const char *sql, const char *by, const char *key, const char *column);
void await_table_cell(PGconn *conn, const char *sql, const char *by, const char *key, const char *column,
		      const char *expected);
/* It succeeds, without rows, with this tag. */
void expect_tag(PGconn *conn, const char *sql, const char *tag);
long query_long(PGconn *conn, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* PQgetResult() with the deadline. */
PGresult *next_result(PGconn *conn);
/* Sends a query without waiting for its answer. */
void send_query(PGconn *conn, const char *sql);

/* Connections to PostgreSQL that are not control's, nor the monitor's. */
long server_connections(PGconn *control);
/* Waits until a query with this text in it runs (or none does). Its backend's pid, or 0. */
int await_running(PGconn *control, const char *text);
void await_not_running(PGconn *control, const char *text);

#endif
