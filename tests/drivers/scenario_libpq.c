/* The shared scenario in libpq. */
#include <libpq-fe.h>
#include <libpq/libpq-fs.h>

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CLIENTS = 6, MAX_CONNECTIONS = 8 };

/* One thread's run of a step: where a failed check leads to, why, and what is to be closed then. */
struct run {
	jmp_buf failed;
	char why[512];
	PGconn *conns[MAX_CONNECTIONS];
	int number;
};

static _Thread_local struct run *run;
static bool direct;

__attribute__((noreturn, format(printf, 2, 3))) static void fail(int line, const char *fmt, ...) {
	int n = snprintf(run->why, sizeof(run->why), "line %d: ", line);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(run->why + n, sizeof(run->why) - (size_t)n, fmt, ap);
	va_end(ap);
	longjmp(run->failed, 1);
}

#define CHECK(condition, ...)                      \
	do {                                       \
		if (!(condition))                  \
			fail(__LINE__, __VA_ARGS__); \
	} while (0)

static PGconn *try_connect(const char *more) {
	char conninfo[1024];

	snprintf(conninfo, sizeof(conninfo),
		 "host=localhost port=%s user=app password=app-secret dbname=app sslmode=verify-full sslrootcert=%s "
		 "connect_timeout=20 %s",
		 getenv("TEST_PORT"), getenv("TEST_CA"), more);
	return PQconnectdb(conninfo);
}

static void ignore_notice(void *arg, const PGresult *res) {
	(void)arg;
	(void)res;
}

/* Closed at the step's end. */
static PGconn *connected(const char *more) {
	PGconn *conn = try_connect(more);

	PQsetNoticeReceiver(conn, ignore_notice, NULL);
	for (int i = 0; i < MAX_CONNECTIONS; i++) {
		if (!run->conns[i]) {
			run->conns[i] = conn;
			CHECK(PQstatus(conn) == CONNECTION_OK, "%s", PQerrorMessage(conn));
			return conn;
		}
	}
	PQfinish(conn);
	fail(__LINE__, "too many connections");
}

static bool run_guarded(void (*step)(void), struct run *mine) {
	bool ok = false;

	run = mine;
	if (setjmp(mine->failed) == 0) {
		step();
		ok = true;
	}
	for (int i = 0; i < MAX_CONNECTIONS; i++) {
		PQfinish(mine->conns[i]);
		mine->conns[i] = NULL;
	}
	return ok;
}

struct thread {
	pthread_t thread;
	struct run run;
	void (*work)(void);
	bool ok;
};

static void *run_thread(void *arg) {
	struct thread *thread = arg;

	thread->ok = run_guarded(thread->work, &thread->run);
	return NULL;
}

/* Runs `works` side by side, each with its number in run->number; fails as the first that failed. */
static void side_by_side(void (*const works[])(void), int count) {
	struct thread *threads = calloc((size_t)count, sizeof(*threads));
	char why[512] = "";
	struct run *mine = run;

	for (int i = 0; i < count; i++) {
		threads[i].work = works[i];
		threads[i].run.number = i;
		pthread_create(&threads[i].thread, NULL, run_thread, &threads[i]);
	}
	for (int i = 0; i < count; i++) {
		pthread_join(threads[i].thread, NULL);
		if (!threads[i].ok && !why[0])
			snprintf(why, sizeof(why), "client %d: %.480s", i, threads[i].run.why);
	}
	free(threads);
	run = mine;
	CHECK(!why[0], "%s", why);
}

static void many(void (*work)(void), int count) {
	void (*works[CLIENTS])(void);

	for (int i = 0; i < count; i++)
		works[i] = work;
	side_by_side(works, count);
}

/* Checks a result and frees it. The value of the first row's column stays in a buffer of this thread. */
static const char *take(int line, PGconn *conn, PGresult *res, int column) {
	static _Thread_local char value[256];
	ExecStatusType status = PQresultStatus(res);

	value[0] = '\0';
	if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK && status != PGRES_EMPTY_QUERY) {
		PQclear(res);
		fail(line, "%s: %s", PQresStatus(status), PQerrorMessage(conn));
	}
	if (status == PGRES_TUPLES_OK && PQntuples(res) > 0 && PQnfields(res) > column)
		snprintf(value, sizeof(value), "%s", PQgetvalue(res, 0, column));
	PQclear(res);
	return value;
}

#define SQL(conn, sql) take(__LINE__, conn, PQexec(conn, sql), 0)
#define IS(conn, sql, expected) same(__LINE__, SQL(conn, sql), expected)

static void same(int line, const char *got, const char *expected) {
	if (strcmp(got, expected) != 0)
		fail(line, "the value is \"%.150s\", not \"%.150s\"", got, expected);
}

static void expect_state(int line, PGresult *res, const char *state) {
	const char *field = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	char got[16];

	snprintf(got, sizeof(got), "%s", field ? field : PQresStatus(PQresultStatus(res)));
	PQclear(res);
	if (strcmp(got, state) != 0)
		fail(line, "%s came, where %s was due", got, state);
}

#define EXPECT(conn, sql, state) expect_state(__LINE__, PQexec(conn, sql), state)

static PGresult *execute(PGconn *conn, const char *name, const char *argument) {
	return PQexecPrepared(conn, name, 1, &argument, NULL, NULL, 0);
}

static void prepare(int line, PGconn *conn, const char *name, const char *sql) {
	take(line, conn, PQprepare(conn, name, sql, 0, NULL), 0);
}

/* ---- steps ---- */

static void step_connect(void) {
	/* Channel binding makes it SCRAM-SHA-256-PLUS. */
	static const char *const bindings[] = {"channel_binding=disable", "channel_binding=require"};

	for (int i = 0; i < 2; i++) {
		PGconn *conn = connected(bindings[i]);

		CHECK(PQsslInUse(conn), "no TLS");
		IS(conn, "select 'hello ' || current_user", "hello app");
		CHECK(PQserverVersion(conn) >= 130000, "version %d", PQserverVersion(conn));
		same(__LINE__, PQparameterStatus(conn, "integer_datetimes"), "on");
	}
}

static void step_refusals(void) {
	char other_ca[512];
	const char *const more[] = {other_ca, "password=wrong", "user=nobody"};

	snprintf(other_ca, sizeof(other_ca), "sslrootcert=%s", getenv("TEST_OTHER_CA"));
	for (int i = 0; i < 3; i++) {
		PGconn *conn = try_connect(more[i]);
		char text[300];
		bool refused = PQstatus(conn) == CONNECTION_BAD;

		snprintf(text, sizeof(text), "%s", PQerrorMessage(conn));
		PQfinish(conn);
		CHECK(refused, "connected with %s", more[i]);
		CHECK(strstr(text, i == 0 ? "certificate verify failed" : "authentication failed"), "%s", text);
	}
}

/* Makes a client's statement run on each of the two servers, by holding the other one in a transaction. */
static void on_both_servers(PGconn *client) {
	PGconn *holders[2] = {connected(""), connected("")};
	char pids[2][32], seen[32] = "";

	for (int turn = 0; turn < 2; turn++) {
		int free_one = 0;

		for (int i = 0; i < 2; i++) {
			SQL(holders[i], "begin");
			snprintf(pids[i], sizeof(pids[i]), "%s", SQL(holders[i], "select pg_backend_pid()"));
		}
		CHECK(strcmp(pids[0], pids[1]) != 0, "two transactions on one server");
		if (!direct && strcmp(pids[0], seen) == 0)
			free_one = 1;
		snprintf(seen, sizeof(seen), "%s", pids[free_one]);
		SQL(holders[free_one], "commit");
		take(__LINE__, client, execute(client, "where", "1"), 0);
		if (!direct)
			same(__LINE__, take(__LINE__, client, execute(client, "where", "1"), 0), seen);
		SQL(holders[!free_one], "commit");
	}
}

static void prepared_work(void) {
	PGconn *conn = connected("");
	char name[32], sql[128], token[64], expected[96];

	snprintf(sql, sizeof(sql), "select $1::text || '!%d'", run->number);
	/* The same name means another text in each client. */
	prepare(__LINE__, conn, "mine", sql);
	for (int i = 0; i < 12; i++) {
		snprintf(name, sizeof(name), "plus %d", i);
		snprintf(sql, sizeof(sql), "select $1::int + %d", i);
		prepare(__LINE__, conn, name, sql);
	}
	for (int i = 0; i < 60; i++) {
		snprintf(token, sizeof(token), "client%d-%d", run->number, i);
		snprintf(expected, sizeof(expected), "%s!%d", token, run->number);
		SQL(conn, "begin");
		same(__LINE__, take(__LINE__, conn, execute(conn, "mine", token), 0), expected);
		CHECK(strcmp(SQL(conn, "select count(*) from pg_prepared_statements where not from_sql"), "0") != 0,
		      "nothing is prepared");
		SQL(conn, "commit");
		snprintf(name, sizeof(name), "plus %d", i % 12);
		snprintf(token, sizeof(token), "%d", i);
		snprintf(expected, sizeof(expected), "%d", i + i % 12);
		same(__LINE__, take(__LINE__, conn, execute(conn, name, token), 0), expected);
		if (!direct)
			IS(conn, "select count(*) <= 2 from pg_stat_activity where datname = 'app' and backend_type = "
				 "'client backend'", "t");
	}
}

static void step_prepared(void) {
	PGconn *conn = connected("");
	PGresult *res;

	prepare(__LINE__, conn, "where", "select pg_backend_pid(), $1::int");
	on_both_servers(conn);
	expect_state(__LINE__, PQprepare(conn, "where", "select 1", 0, NULL), "42P05");
	res = PQdescribePrepared(conn, "where");
	CHECK(PQnparams(res) == 1 && PQnfields(res) == 2 && PQparamtype(res, 0) == 23, "the description is wrong");
	PQclear(res);
	/* The empty name is no statement to keep: it is parsed anew. */
	prepare(__LINE__, conn, "", "select $1::int");
	same(__LINE__, take(__LINE__, conn, execute(conn, "", "4"), 0), "4");
	SQL(conn, "deallocate \"where\"");
	expect_state(__LINE__, execute(conn, "where", "1"), "26000");
	prepare(__LINE__, conn, "where", "select 'again', $1::int");
	same(__LINE__, take(__LINE__, conn, execute(conn, "where", "1"), 0), "again");
	SQL(conn, "deallocate all");
	expect_state(__LINE__, execute(conn, "where", "1"), "26000");
	many(prepared_work, CLIENTS);
}

static void step_transactions(void) {
	PGconn *conn = connected(""), *other = connected("");

	SQL(conn, "drop table if exists lp_account; create table lp_account (id int, amount int)");
	SQL(conn, "begin");
	CHECK(PQtransactionStatus(conn) == PQTRANS_INTRANS, "no transaction");
	SQL(conn, "insert into lp_account values (1, 100)");
	IS(other, "select count(*) from lp_account", "0");
	SQL(conn, "rollback");
	IS(conn, "select count(*) from lp_account", "0");
	SQL(conn, "begin; insert into lp_account values (1, 1); savepoint s");
	SQL(conn, "update lp_account set amount = 2");
	SQL(conn, "rollback to s");
	SQL(conn, "declare c cursor for select generate_series(1, 100)");
	IS(conn, "fetch 7 from c", "1");
	IS(conn, "fetch 1 from c", "8");
	SQL(conn, "commit");
	IS(other, "select amount from lp_account", "1");
	SQL(conn, "drop table lp_account");
}

static void count_notice(void *arg, const PGresult *res) {
	if (strcmp(PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY), "take note") == 0)
		++*(int *)arg;
}

static void step_errors(void) {
	PGconn *conn = connected("");
	int notices = 0;

	EXPECT(conn, "selec 1", "42601");
	prepare(__LINE__, conn, "quotient", "select 6 / $1::int");
	for (int i = 0; i < 5; i++) {
		expect_state(__LINE__, execute(conn, "quotient", "0"), "22012");
		same(__LINE__, take(__LINE__, conn, execute(conn, "quotient", "3"), 0), "2");
	}
	expect_state(__LINE__, PQprepare(conn, "bad", "select * from no_such_table", 0, NULL), "42P01");
	expect_state(__LINE__, execute(conn, "bad", "1"), "26000");
	SQL(conn, "begin");
	EXPECT(conn, "select 1 / 0", "22012");
	CHECK(PQtransactionStatus(conn) == PQTRANS_INERROR, "no failed transaction");
	EXPECT(conn, "select 1", "25P02");
	SQL(conn, "rollback");
	PQsetNoticeReceiver(conn, count_notice, &notices);
	SQL(conn, "do $$ begin raise notice 'take note'; end $$");
	CHECK(notices == 1, "%d notices", notices);
	IS(conn, "", "");
	/* A table that changes under a prepared statement: out of a transaction it is prepared anew. */
	SQL(conn, "drop table if exists lp_changes; create table lp_changes as select 1 as a");
	prepare(__LINE__, conn, "changes", "select * from lp_changes where a = $1");
	same(__LINE__, take(__LINE__, conn, execute(conn, "changes", "1"), 0), "1");
	if (!direct) {
		SQL(conn, "alter table lp_changes add b int default 8");
		same(__LINE__, take(__LINE__, conn, execute(conn, "changes", "1"), 1), "8");
	}
	SQL(conn, "drop table lp_changes");
}

static void step_large_values(void) {
	enum { LENGTH = 3 << 20 };
	PGconn *conn = connected("");
	char *data = malloc(LENGTH + 1);
	long long sum = 0;
	PGresult *res;
	bool equal;

	for (int i = 0; i < LENGTH; i++)
		data[i] = (char)('a' + i % 23);
	data[LENGTH] = '\0';
	res = PQexecParams(conn, "select $1::text", 1, NULL, (const char *const[]){data}, NULL, NULL, 0);
	equal = PQntuples(res) == 1 && strcmp(PQgetvalue(res, 0, 0), data) == 0;
	PQclear(res);
	free(data);
	CHECK(equal, "3 MiB of text came back changed: %s", PQerrorMessage(conn));
	PQsendQuery(conn, "select i, repeat('y', 100) from generate_series(1, 30000) i");
	PQsetSingleRowMode(conn);
	while ((res = PQgetResult(conn))) {
		if (PQresultStatus(res) == PGRES_SINGLE_TUPLE)
			sum += atoi(PQgetvalue(res, 0, 0)) + PQgetlength(res, 0, 1);
		PQclear(res);
	}
	CHECK(sum == 30000LL * 30001 / 2 + 3000000, "the sum over single rows is %lld: %s", sum, PQerrorMessage(conn));
}

static void copy_in(PGconn *conn, int rows, const char *error) {
	char line[64];
	PGresult *res = PQexec(conn, "copy lp_copy from stdin");
	ExecStatusType status = PQresultStatus(res);

	PQclear(res);
	CHECK(status == PGRES_COPY_IN, "%s", PQerrorMessage(conn));
	for (int i = 0; i < rows; i++) {
		int n = snprintf(line, sizeof(line), "%d\trow %d\n", i, i);

		CHECK(PQputCopyData(conn, line, n) == 1, "%s", PQerrorMessage(conn));
	}
	CHECK(PQputCopyEnd(conn, error) == 1, "%s", PQerrorMessage(conn));
	res = PQgetResult(conn);
	if (error)
		expect_state(__LINE__, res, "57014");
	else
		take(__LINE__, conn, res, 0);
	CHECK(!PQgetResult(conn), "an answer too many");
}

static void step_copy(void) {
	PGconn *conn = connected("");
	char *line, expected[64];
	PGresult *res;
	int rows = 0, n;

	SQL(conn, "drop table if exists lp_copy; create table lp_copy (a int, b text)");
	copy_in(conn, 20000, NULL);
	copy_in(conn, 10, "thought better of it");
	IS(conn, "select count(*) from lp_copy", "20000");
	res = PQexec(conn, "copy (select * from lp_copy order by a) to stdout");
	PQclear(res);
	while ((n = PQgetCopyData(conn, &line, 0)) > 0) {
		bool equal;

		snprintf(expected, sizeof(expected), "%d\trow %d\n", rows, rows);
		equal = strcmp(line, expected) == 0;
		PQfreemem(line);
		CHECK(equal, "row %d is wrong", rows);
		rows++;
	}
	CHECK(n == -1 && rows == 20000, "%d rows came out: %s", rows, PQerrorMessage(conn));
	take(__LINE__, conn, PQgetResult(conn), 0);
	CHECK(!PQgetResult(conn), "an answer too many");
	SQL(conn, "drop table lp_copy");
}

static void step_large_object(void) {
	enum { LENGTH = 512 << 10 };
	PGconn *conn = connected("");
	char *data = malloc(2 * LENGTH), *got = data + LENGTH;
	int fd, written = 0, read = 0, n;
	bool equal;
	Oid oid;

	for (int i = 0; i < LENGTH; i++)
		data[i] = (char)(i * 7);
	/* libpq's lo_ functions are function calls of the protocol. */
	SQL(conn, "begin");
	oid = lo_creat(conn, INV_READ | INV_WRITE);
	fd = lo_open(conn, oid, INV_READ | INV_WRITE);
	while (fd >= 0 && written < LENGTH && (n = lo_write(conn, fd, data + written, 65536)) > 0)
		written += n;
	if (fd >= 0)
		lo_lseek(conn, fd, 0, SEEK_SET);
	while (fd >= 0 && read < LENGTH && (n = lo_read(conn, fd, got + read, 65536)) > 0)
		read += n;
	equal = written == LENGTH && read == LENGTH && memcmp(data, got, LENGTH) == 0;
	free(data);
	CHECK(equal, "%d bytes written, %d read: %s", written, read, PQerrorMessage(conn));
	CHECK(lo_close(conn, fd) == 0, "%s", PQerrorMessage(conn));
	SQL(conn, "commit");
	CHECK(lo_unlink(conn, oid) == 1, "%s", PQerrorMessage(conn));
}

static atomic_bool cancels_done;

static void bystander(void) {
	PGconn *conn = connected("");
	char token[32];

	prepare(__LINE__, conn, "stands by", "select $1::int, pg_sleep(0.01)");
	for (int i = 0; !atomic_load(&cancels_done); i++) {
		snprintf(token, sizeof(token), "%d", i);
		same(__LINE__, take(__LINE__, conn, execute(conn, "stands by", token), 0), token);
	}
}

static void cancels(void) {
	PGconn *conn = connected("");
	char error[256];

	for (int i = 0; i < 5; i++) {
		PGcancel *cancel = PQgetCancel(conn);
		time_t began = time(NULL);
		PGresult *res;
		int sent;

		PQsendQuery(conn, "select pg_sleep(20)");
		usleep(100000);
		sent = PQcancel(cancel, error, sizeof(error));
		PQfreeCancel(cancel);
		CHECK(sent, "%s", error);
		res = PQgetResult(conn);
		expect_state(__LINE__, res, "57014");
		CHECK(!PQgetResult(conn), "an answer too many");
		CHECK(time(NULL) - began < 10, "the cancel came late");
		IS(conn, "select 1", "1");
	}
}

static void cancels_to_the_end(void) {
	struct run inner = {.number = 0}, *mine = run;
	bool ok = run_guarded(cancels, &inner);

	atomic_store(&cancels_done, true);
	run = mine;
	CHECK(ok, "%s", inner.why);
}

static void step_cancel(void) {
	side_by_side((void (*const[])(void)){bystander, cancels_to_the_end}, 2);
}

static void step_listen(void) {
	PGconn *listener = connected("dbname=app_session"), *notifier = connected("dbname=app_session");
	char expected[8], sql[64];
	int heard = 0, pid = atoi(SQL(notifier, "select pg_backend_pid()"));

	SQL(listener, "listen lp_channel");
	for (int i = 0; i < 5; i++) {
		snprintf(sql, sizeof(sql), "notify lp_channel, '%d'", i);
		SQL(notifier, sql);
	}
	while (heard < 5) {
		struct pollfd poll_fd = {.fd = PQsocket(listener), .events = POLLIN};
		PGnotify *notify;

		CHECK(poll(&poll_fd, 1, 10000) == 1, "%d of 5 notifications came", heard);
		CHECK(PQconsumeInput(listener), "%s", PQerrorMessage(listener));
		while ((notify = PQnotifies(listener))) {
			bool right;

			snprintf(expected, sizeof(expected), "%d", heard++);
			right = strcmp(notify->extra, expected) == 0 && notify->be_pid == pid;
			PQfreemem(notify);
			CHECK(right, "notification %s is wrong", expected);
		}
	}
	SQL(listener, "create temp table kept as select 7 as a");
	IS(listener, "select a from kept", "7");
}

static void send_numbers(PGconn *conn, int from, int to) {
	char number[16];
	const char *argument = number;

	for (int i = from; i < to; i++) {
		snprintf(number, sizeof(number), "%d", i);
		CHECK(i % 3 ? PQsendQueryPrepared(conn, "number", 1, &argument, NULL, NULL, 0)
			    : PQsendQueryParams(conn, "select $1::int", 1, NULL, &argument, NULL, NULL, 0),
		      "%s", PQerrorMessage(conn));
	}
}

/* The next answer; the NULL that ends each command's results is taken with it. */
static PGresult *next_answer(PGconn *conn) {
	PGresult *res = PQgetResult(conn);

	if (PQresultStatus(res) != PGRES_PIPELINE_SYNC && PQgetResult(conn))
		fail(__LINE__, "an answer too many");
	return res;
}

static void expect_sync(int line, PGconn *conn) {
	PGresult *res = next_answer(conn);
	ExecStatusType status = PQresultStatus(res);

	PQclear(res);
	if (status != PGRES_PIPELINE_SYNC)
		fail(line, "%s, where the answer to Sync was due", PQresStatus(status));
}

static void expect_numbers(PGconn *conn, int from, int to) {
	char number[16];

	for (int i = from; i < to; i++) {
		snprintf(number, sizeof(number), "%d", i);
		same(__LINE__, take(__LINE__, conn, next_answer(conn), 0), number);
	}
}

static void pipeline_work(void) {
	PGconn *conn = connected("");
	PGresult *res;
	int base = run->number * 1000;
	ExecStatusType status;

	CHECK(PQenterPipelineMode(conn), "%s", PQerrorMessage(conn));
	CHECK(PQsendPrepare(conn, "number", "select $1::int", 0, NULL), "%s", PQerrorMessage(conn));
	send_numbers(conn, base, base + 50);
	PQpipelineSync(conn);
	send_numbers(conn, base + 50, base + 100);
	PQpipelineSync(conn);
	take(__LINE__, conn, next_answer(conn), 0);
	expect_numbers(conn, base, base + 50);
	expect_sync(__LINE__, conn);
	expect_numbers(conn, base + 50, base + 100);
	expect_sync(__LINE__, conn);
	/* An error ends what follows up to its Sync, and no more. */
	send_numbers(conn, base, base + 3);
	PQsendQueryParams(conn, "select 1 / 0", 0, NULL, NULL, NULL, NULL, 0);
	send_numbers(conn, base, base + 1);
	PQpipelineSync(conn);
	send_numbers(conn, base + 3, base + 6);
	PQpipelineSync(conn);
	expect_numbers(conn, base, base + 3);
	expect_state(__LINE__, next_answer(conn), "22012");
	res = next_answer(conn);
	status = PQresultStatus(res);
	PQclear(res);
	CHECK(status == PGRES_PIPELINE_ABORTED, "%s after the error", PQresStatus(status));
	expect_sync(__LINE__, conn);
	expect_numbers(conn, base + 3, base + 6);
	expect_sync(__LINE__, conn);
	/* Flush: the answer comes before the Sync is sent. */
	send_numbers(conn, base, base + 2);
	PQsendFlushRequest(conn);
	PQflush(conn);
	expect_numbers(conn, base, base + 2);
	send_numbers(conn, base + 2, base + 4);
	PQpipelineSync(conn);
	expect_numbers(conn, base + 2, base + 4);
	expect_sync(__LINE__, conn);
	CHECK(PQexitPipelineMode(conn), "%s", PQerrorMessage(conn));
	IS(conn, "select 'done'", "done");
}

static void step_pipeline(void) {
	many(pipeline_work, 4);
}

static void settings_work(void) {
	static const char *const zones[] = {"Asia/Tokyo", "Europe/Paris", "America/Lima", "Africa/Cairo"};
	const char *zone = zones[run->number];
	char more[256], name[64], sql[128];
	PGconn *conn;

	snprintf(name, sizeof(name), "lp %s", zone);
	snprintf(more, sizeof(more), "application_name='%s' options='-c TimeZone=%s -c statement_timeout=54321'", name,
		 zone);
	conn = connected(more);
	for (int i = 0; i < 15; i++) {
		IS(conn, "show time zone", zone);
		IS(conn, "show application_name", name);
		IS(conn, "show statement_timeout", "54321ms");
	}
	SQL(conn, "set time zone 'Pacific/Auckland'");
	snprintf(sql, sizeof(sql), "set application_name = '%s ''later'''", name);
	SQL(conn, sql);
	snprintf(name, sizeof(name), "lp %s 'later'", zone);
	for (int i = 0; i < 15; i++) {
		IS(conn, "show time zone", "Pacific/Auckland");
		IS(conn, "show application_name", name);
	}
	same(__LINE__, PQparameterStatus(conn, "TimeZone"), "Pacific/Auckland");
	same(__LINE__, PQparameterStatus(conn, "application_name"), name);
	SQL(conn, "begin");
	SQL(conn, "set time zone 'Etc/UTC'");
	SQL(conn, "rollback");
	IS(conn, "show time zone", "Pacific/Auckland");
}

static void step_settings(void) {
	many(settings_work, 4);
}

static void reset_work(void) {
	static const char *const zones[] = {"Asia/Tokyo", "Europe/Paris", "America/Lima", "Africa/Cairo"};
	static const char *const ways[] = {"reset all", "discard all", "reset time zone; reset application_name"};
	const char *zone = zones[run->number];
	char more[256];
	PGconn *conn;

	snprintf(more, sizeof(more), "application_name='lp %s' options='-c TimeZone=%s' dbname=%s", zone, zone,
		 run->number % 2 ? "app_session" : "app");
	conn = connected(more);
	for (int i = 0; i < 3; i++) {
		SQL(conn, "set time zone 'Pacific/Auckland'");
		SQL(conn, "set application_name = 'another'");
		SQL(conn, ways[i]);
		for (int k = 0; k < 5; k++) {
			IS(conn, "show time zone", zone);
			same(__LINE__, SQL(conn, "show application_name") + strlen("lp "), zone);
		}
	}
}

static void step_reset(void) {
	many(reset_work, 4);
}

int main(void) {
	static const struct {
		const char *name;
		void (*run)(void);
	} steps[] = {
		{"connect", step_connect},	       {"refusals", step_refusals},
		{"prepared", step_prepared},	       {"transactions", step_transactions},
		{"errors", step_errors},	       {"large_values", step_large_values},
		{"copy", step_copy},		       {"large_object", step_large_object},
		{"cancel", step_cancel},	       {"listen", step_listen},
		{"pipeline", step_pipeline},	       {"settings", step_settings},
		{"reset", step_reset},
	};
	int failed = 0;

	direct = getenv("TEST_DIRECT") && *getenv("TEST_DIRECT");
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		struct run mine = {.number = 0};

		if (run_guarded(steps[i].run, &mine)) {
			printf("ok - %s\n", steps[i].name);
		} else {
			for (char *p = mine.why; *p; p++)
				*p = *p == '\n' ? ' ' : *p;
			printf("not ok - %s: %s\n", steps[i].name, mine.why);
			failed++;
		}
		fflush(stdout);
	}
	return failed ? 1 : 0;
}
