/* The clients of MySQL and MariaDB of traffic.h, by their client library. */
#include "traffic_my.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mariadb.h"

static bool failed(struct attempt *attempt) {
	MYSQL *my = attempt->goer->conn;
	MYSQL_STMT *stmt = attempt->goer->stmt;
	bool of_statement = mysql_errno(my) == 0 && stmt;

	return attempt_failed(attempt, "%u %.150s %.100s", of_statement ? mysql_stmt_errno(stmt) : mysql_errno(my),
			      of_statement ? mysql_stmt_error(stmt) : mysql_error(my), attempt->goer->farewell);
}

static void leave(struct goer *goer) {
	if (goer->stmt)
		mysql_stmt_close(goer->stmt);
	mysql_close(goer->conn);
	goer->stmt = goer->conn = NULL;
}

/* ---- the file that LOAD DATA LOCAL sends: a line with the id ---- */

struct line {
	char text[24];
	size_t len, at;
};

static int line_open(void **line, const char *name, void *goer) {
	struct line *l = calloc(1, sizeof(*l));

	if (!l)
		return 1;
	(void)goer;
	l->len = (size_t)snprintf(l->text, sizeof(l->text), "%.20s\n", name); /* the id is the name of the file */
	*line = l;
	return 0;
}

static int line_read(void *line, char *buf, unsigned room) {
	struct line *l = line;
	size_t n = l->len - l->at < room ? l->len - l->at : room;

	memcpy(buf, l->text + l->at, n);
	l->at += n;
	return (int)n;
}

static void line_close(void *line) {
	free(line);
}

static int line_error(void *line, char *buf, unsigned room) {
	(void)line;
	snprintf(buf, room, "the line cannot be read");
	return 1;
}

/* ---- transactions ---- */

static bool say(struct attempt *attempt, const char *sql) {
	MYSQL *my = attempt->goer->conn;
	int more = mysql_query(my, sql);

	while (more == 0) {
		mysql_free_result(mysql_store_result(my));
		if (mysql_errno(my) != 0)
			break;
		attempt->begun = true;
		more = mysql_next_result(my);
	}
	return mysql_errno(my) == 0 || failed(attempt);
}

static bool say_of(struct attempt *attempt, const char *before, const char *behind) {
	char sql[200];

	snprintf(sql, sizeof(sql), "%s%ld%s", before, attempt->id, behind);
	return say(attempt, sql);
}

static bool say_insert(struct attempt *attempt) {
	return say_of(attempt, "insert into noted values (", ")");
}

static bool by_simple_queries(struct attempt *attempt) {
	return say(attempt, "begin") && say_insert(attempt) && say(attempt, "do sleep(0.01)") && say(attempt, "commit");
}

static bool by_one_statement(struct attempt *attempt) {
	return say_insert(attempt);
}

static bool by_several_at_once(struct attempt *attempt) {
	return say_of(attempt, "begin; insert into noted values (", "); select 'done'; commit");
}

static bool by_load_data(struct attempt *attempt) {
	return say_of(attempt, "load data local infile '", "' into table noted");
}

static bool prepare(struct attempt *attempt, const char *sql) {
	attempt->goer->stmt = mysql_stmt_init(attempt->goer->conn);
	return (attempt->goer->stmt && mysql_stmt_prepare(attempt->goer->stmt, sql, strlen(sql)) == 0) || failed(attempt);
}

/* It is prepared once for each connection: the transactions between reloads and on other servers have it still. */
static bool by_prepared_statement(struct attempt *attempt) {
	long long id = attempt->id;
	MYSQL_BIND value = {.buffer_type = MYSQL_TYPE_LONGLONG, .buffer = &id};
	MYSQL_STMT *stmt = attempt->goer->stmt;

	if (!say(attempt, "begin"))
		return false;
	if (mysql_stmt_bind_param(stmt, &value) != 0 || mysql_stmt_execute(stmt) != 0)
		return failed(attempt);
	return say(attempt, "commit");
}

static bool fetch(struct attempt *attempt, int rows) {
	for (int i = 0; i < rows; i++)
		if (mysql_stmt_fetch(attempt->goer->stmt) != 0)
			return failed(attempt);
	return true;
}

static bool by_cursor(struct attempt *attempt) {
	unsigned long type = CURSOR_TYPE_READ_ONLY, ahead = 1;
	long long got;
	MYSQL_BIND value = {.buffer_type = MYSQL_TYPE_LONGLONG, .buffer = &got};
	MYSQL_STMT *stmt = attempt->goer->stmt;

	mysql_stmt_attr_set(stmt, STMT_ATTR_CURSOR_TYPE, &type);
	mysql_stmt_attr_set(stmt, STMT_ATTR_PREFETCH_ROWS, &ahead);
	if (!say(attempt, "begin"))
		return false;
	if (mysql_stmt_execute(stmt) != 0 || mysql_stmt_bind_result(stmt, &value) != 0)
		return failed(attempt);
	return fetch(attempt, 2) && say_insert(attempt) && fetch(attempt, 2) &&
	       (mysql_stmt_free_result(stmt) == 0 || failed(attempt)) && say(attempt, "commit");
}

/* It may be told between the two last ones. */
static bool by_temporary_table(struct attempt *attempt) {
	if (!say(attempt, "begin") || !say(attempt, "create temporary table t (v int)") || !say_insert(attempt) ||
	    !say(attempt, "insert into t values (1)") || !say(attempt, "commit"))
		return false;
	struct attempt after = {.goer = attempt->goer};
	if (!say(&after, "drop temporary table t"))
		snprintf(attempt->goer->farewell, sizeof(attempt->goer->farewell), "%.150s", after.error);
	return true;
}

/* A variable of the session, and the lock that only a session has. */
static bool by_session(struct attempt *attempt) {
	return say(attempt, "begin") && say(attempt, "set @kept = 1") && say(attempt, "do get_lock('of a session', 30)") &&
	       say_insert(attempt) && say(attempt, "do release_lock('of a session')") && say(attempt, "commit");
}

static bool enter(struct attempt *attempt) {
	struct goer *goer = attempt->goer;
	const struct maria_login login = {.user = "app",
					  .database = goer->session ? "sess" : "app",
					  .flags = CLIENT_MULTI_STATEMENTS | CLIENT_LOCAL_FILES,
					  .unix_socket = goer->local,
					  .tls = goer->tls};
	MYSQL *my = maria_try(&goer->address, &login);
	bool ok = mysql_errno(my) == 0;

	goer->conn = my;
	goer->farewell[0] = 0;
	if (!ok)
		failed(attempt);
	mysql_set_local_infile_handler(my, line_open, line_read, line_close, line_error, goer);
	bool prepares = goer->kind >= 0 && goer->kinds->by_kind[goer->kind] == by_prepared_statement;
	bool opens = goer->kind >= 0 && goer->kinds->by_kind[goer->kind] == by_cursor;
	ok = ok && (!prepares || prepare(attempt, "insert into noted values (?)")) &&
	     (!opens || prepare(attempt, "select 1 union all select 2 union all select 3 union all select 4 union all select 5"));
	if (!ok)
		leave(goer);
	return ok;
}

static bool ask(struct attempt *attempt) {
	return say(attempt, "select 1");
}

static void make_table(void) {
	MYSQL *control = maria_control();

	maria_execute(control, "drop table if exists app.noted");
	maria_execute(control, "create table app.noted (id bigint primary key) engine = innodb");
	mysql_close(control);
}

static long count_rows(void) {
	MYSQL *control = maria_control();
	long rows = maria_long(control, "select count(*) from app.noted");

	mysql_close(control);
	return rows;
}

const struct traffic_kinds traffic_of_mysql = {
	.name = "MySQL",
	.told = "1053 ",
	.make_table = make_table,
	.count_rows = count_rows,
	.thread_ends = mysql_thread_end,
	.enter = enter,
	.leave = leave,
	.ask = ask,
	.count = 8,
	.by_kind = {by_simple_queries, by_one_statement, by_several_at_once, by_load_data, by_prepared_statement, by_cursor,
		    by_temporary_table, by_session},
};
