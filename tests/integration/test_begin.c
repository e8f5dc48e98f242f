/*
 * A BEGIN that is answered by Forebay and sent with the first statement (defer_begin): for the application nothing differs
 * from PostgreSQL itself, and nothing ever runs outside the transaction that it believes in.
 */
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "played.h"
#include "query.h"

static struct forebay *start(int i, const char *pool) {
	PGconn *control = connect_control();

	execute(control, "drop table if exists begun; create table begun(i int); grant all on begun to public");
	PQfinish(control);
	return forebay_start(&(struct forebay_setup){.workers = WORKERS(i), .listener = "auth = trust", .pool = pool});
}

static PGconn *operator_of(const struct forebay *forebay) {
	return connect_with(forebay, "user=ops password=ops-secret dbname=forebay");
}

/* A cell of SHOW CLIENTS, of the client with this application_name; malloc'd. */
static char *client_cell(PGconn *ops, const char *application, const char *column) {
	PGresult *res = PQexec(ops, "show clients");
	int at = PQfnumber(res, column), name = PQfnumber(res, "application_name");
	char *value = NULL;

	ck_assert_msg(PQresultStatus(res) == PGRES_TUPLES_OK && at >= 0, "%s: %s", column, PQresultErrorMessage(res));
	for (int row = 0; !value && row < PQntuples(res); row++)
		if (strcmp(PQgetvalue(res, row, name), application) == 0)
			value = strdup(PQgetvalue(res, row, at));
	PQclear(res);
	ck_assert_msg(value != NULL, "no client %s", application);
	return value;
}

static void expect_cell(PGconn *ops, const char *application, const char *column, const char *expected) {
	char *value = client_cell(ops, application, column);

	ck_assert_msg(strcmp(value, expected) == 0, "%s of %s is %s, not %s", column, application, value, expected);
	free(value);
}

static void await_cell(PGconn *ops, const char *application, const char *column, const char *expected) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	char *value;

	while (strcmp(value = client_cell(ops, application, column), expected) != 0) {
		ck_assert_msg(harness_now_ms() < deadline, "%s of %s stays %s", column, application, value);
		free(value);
		harness_pause_ms(5);
	}
	free(value);
}

static PGTransactionStatusType status(PGconn *conn) {
	return PQtransactionStatus(conn);
}

/* ---- beside PostgreSQL itself ---- */

/* A session that leaves nothing behind, for it is played many times over. */
static void add_cleaning(struct session *s) {
	query_and_wait(s, "rollback");
	query_and_wait(s, "delete from begun");
}

static void extended_and_wait(struct session *s, const char *sql) {
	put_batch(s, sql, NULL);
	sync_and_wait(s);
}

static void named_and_wait(struct session *s, const char *name, const char *value) {
	put_bind(&s->out, name, value);
	put_execute(&s->out);
	sync_and_wait(s);
}

static void call_and_wait(struct session *s, int a, int b) {
	put_message(&s->out, 'F', "ihhhiiiih", 177, 1, 1, 2, 4, a, 4, b, 1); /* int4pl */
	await_answer(s, 'Z', 1);
}

/* Of int4div: division by zero. */
static void failing_call_and_wait(struct session *s) {
	put_message(&s->out, 'F', "ihhhiiiih", 154, 1, 1, 2, 4, 1, 4, 0, 1);
	await_answer(s, 'Z', 1);
}

/* All of it sent without a wait for CopyInResponse, which need not come. */
static void copy_and_wait(struct session *s, const char *line) {
	put_query(&s->out, "copy begun from stdin");
	copy_data(s, line);
	put_message(&s->out, 'c', "");
	await_answer(s, 'Z', 1);
}

/* The ways to say it that are answered by Forebay. */
static const char *const begins[] = {
	"begin", "BEGIN;", "Begin Work", "begin transaction;", "start transaction", "/* a /* b */ */ START -- c\n TRANSACTION ;\t",
};
enum { BEGINS = sizeof begins / sizeof begins[0] };

/* Those that are not, each for a reason of its own. */
static const char *const others[] = {
	"begin isolation level serializable", "start transaction read only", "begin; select 1", "begin; begin", ";begin",
	"begin;;", "begin /* no end", "begin nonsense", "begin -- \xc3\xa4", "start", "begin work transaction",
};
enum { OTHERS = sizeof others / sizeof others[0] };

/* What may come first in a transaction; each ends with a ReadyForQuery. */
static void add_first(struct session *s, int which) {
	switch (which) {
	case 0:
		query_and_wait(s, "select 1");
		break;
	case 1:
		query_and_wait(s, "select 1/0");
		break;
	case 2:
		query_and_wait(s, "selec");
		break;
	case 3:
		query_and_wait(s, "insert into begun values (1)");
		break;
	case 4:
		query_and_wait(s, "");
		break;
	case 5:
		query_and_wait(s, " ; ");
		break;
	case 6:
		sync_and_wait(s);
		break;
	case 7:
		put_message(&s->out, 'H', "");
		sync_and_wait(s);
		break;
	case 8:
		extended_and_wait(s, "insert into begun values (2)");
		break;
	case 9:
		extended_and_wait(s, "select 1/0");
		break;
	case 10:
		extended_and_wait(s, "selec");
		break;
	case 11: /* two batches at once */
		put_batch(s, "insert into begun values (3)", NULL);
		put_sync(&s->out);
		put_batch(s, "select count(*) from begun", NULL);
		put_sync(&s->out);
		await_answer(s, 'Z', 2);
		break;
	case 12: /* three, the second of which fails */
		put_batch(s, "insert into begun values (4)", NULL);
		put_sync(&s->out);
		put_batch(s, "select 1/0", NULL);
		put_batch(s, "select 'skipped'", NULL);
		put_sync(&s->out);
		put_batch(s, "select 'aborted'", NULL);
		put_sync(&s->out);
		await_answer(s, 'Z', 3);
		break;
	case 13:
		put_parse(&s->out, "own", "select $1::int + 1");
		put_message(&s->out, 'D', "cs", 'S', "own");
		sync_and_wait(s);
		named_and_wait(s, "own", "1");
		named_and_wait(s, "own", "no number");
		put_message(&s->out, 'C', "cs", 'S', "own");
		sync_and_wait(s);
		break;
	case 14: /* the one that the session has from outside the transaction */
		named_and_wait(s, "kept", "41");
		break;
	case 15:
		put_message(&s->out, 'C', "cs", 'S', "kept");
		put_parse(&s->out, "kept", "select $1::int * 3");
		sync_and_wait(s);
		break;
	case 16: /* the unnamed one is gone: a simple query was between */
		named_and_wait(s, "", NULL);
		break;
	case 17:
		named_and_wait(s, "nobody", NULL);
		break;
	case 18:
		query_and_wait(s, "deallocate kept");
		named_and_wait(s, "kept", "1");
		break;
	case 19:
		query_and_wait(s, "deallocate nobody");
		break;
	case 20:
		call_and_wait(s, 40, 2);
		break;
	case 21:
		failing_call_and_wait(s);
		break;
	case 22:
		copy_and_wait(s, "5\n6\n");
		break;
	case 23:
		copy_and_wait(s, "nonsense\n");
		break;
	case 24:
		query_and_wait(s, "copy (select 7) to stdout");
		break;
	case 25:
		query_and_wait(s, "do $$begin raise notice 'hear'; end$$");
		break;
	case 26:
		query_and_wait(s, "begin"); /* PostgreSQL warns */
		break;
	case 27:
		query_and_wait(s, "start transaction isolation level serializable");
		query_and_wait(s, "show transaction_isolation");
		break;
	case 28:
		query_and_wait(s, "savepoint s");
		query_and_wait(s, "select 1/0");
		query_and_wait(s, "rollback to s");
		query_and_wait(s, "release s");
		break;
	case 29:
		query_and_wait(s, "rollback to s");
		break;
	case 30:
		query_and_wait(s, "set transaction isolation level repeatable read");
		query_and_wait(s, "show transaction_isolation");
		break;
	case 31:
		query_and_wait(s, "set application_name = 'begun'");
		query_and_wait(s, "show application_name");
		break;
	case 32:
		query_and_wait(s, "set local application_name = 'begun here'");
		query_and_wait(s, "show application_name");
		break;
	case 33:
		query_and_wait(s, "commit and chain");
		query_and_wait(s, "select 1");
		break;
	case 34:
		query_and_wait(s, "rollback and chain");
		break;
	case 35:
		query_and_wait(s, "commit and no chain");
		break;
	case 36:
		query_and_wait(s, "commit; select 'outside'");
		break;
	case 37:
		query_and_wait(s, "insert into begun values (8); commit; insert into begun values (9)");
		break;
	case 38:
		query_and_wait(s, "cluster"); /* not within a transaction */
		break;
	case 39:
		query_and_wait(s, "declare c cursor for select generate_series(1, 3)");
		query_and_wait(s, "fetch 2 from c");
		break;
	case 40:
		extended_and_wait(s, "begin");
		break;
	case 41:
		extended_and_wait(s, "commit");
		break;
	case 42:
		extended_and_wait(s, "rollback");
		break;
	case 43:
		query_and_wait(s, "commit prepared 'nobody'");
		break;
	case 44:
		query_and_wait(s, "reset application_name");
		break;
	case 45:
		query_and_wait(s, "discard all"); /* not within a transaction */
		break;
	case 46:
		put_batch(s, "select 1/0", NULL);
		put_query(&s->out, "insert into begun values (11)"); /* passed over: there is no Sync */
		sync_and_wait(s);
		break;
	case 47:
		put_message(&s->out, 'C', "cs", 'P', "");
		put_message(&s->out, 'C', "cs", 'S', "kept");
		put_message(&s->out, 'C', "cs", 'S', "nobody");
		sync_and_wait(s);
		break;
	case 48:
		put_message(&s->out, 'D', "cs", 'S', "kept");
		put_message(&s->out, 'D', "cs", 'P', "nobody");
		sync_and_wait(s);
		break;
	case 49:
		query_and_wait(s, "commit"); /* nothing came first */
		break;
	case 50:
		query_and_wait(s, "/* changed my mind */ Abort Transaction ;");
		break;
	case 51:
		query_and_wait(s, "select repeat('x', 20000)");
		break;
	/* only where nothing has failed before: */
	case 52:
		put_batch(s, "select 'flushed'", NULL);
		put_message(&s->out, 'H', "");
		await_answer(s, 'C', 1);
		sync_and_wait(s);
		break;
	case 53: /* a portal that is read in parts */
		put_parse(&s->out, "", "select generate_series(1, 3)");
		put_message(&s->out, 'B', "sshhh", "p1", "", 0, 0, 0);
		put_message(&s->out, 'E', "si", "p1", 2);
		put_message(&s->out, 'H', "");
		await_answer(s, 's', 1);
		put_message(&s->out, 'E', "si", "p1", 2);
		sync_and_wait(s);
		break;
	case 54: /* a batch that a simple query ends */
		put_batch(s, "insert into begun values (10)", NULL);
		query_and_wait(s, "select count(*) from begun");
		break;
	}
}
enum { FIRSTS_ANYWHERE = 52, FIRSTS = 55 };

/* What the session has prepared before; a simple query drops the unnamed one. */
static void add_statements(struct session *s) {
	put_parse(&s->out, "kept", "select $1::int * 2");
	put_parse(&s->out, "", "select 'unnamed'");
	sync_and_wait(s);
}

#define UNIX probe_unix(forebay->socket_dir, forebay->port)

/* In every way that a session can come, at every cut. */
static void compare_all(const struct forebay *forebay, const struct session *s, const char *how) {
	struct bytes expected = play_on_postgres(s);

	play_and_compare(UNIX, s, ONE_BY_ONE, 0, &expected, how);
	play_and_compare(probe_tcp(forebay->port), s, ONE_BY_ONE, 0, &expected, how);
	play_and_compare(UNIX, s, TOGETHER, 0, &expected, how);
	play_and_compare(UNIX, s, GLUED, 0, &expected, how);
	play_and_compare(UNIX, s, EACH_BYTE, 0, &expected, how);
	bytes_free(&expected);
}

START_TEST(every_first_statement_is_answered_as_by_postgresql) {
	struct forebay *forebay = start(_i, "max_size = 2");

	if (harness_direct())
		return;
	for (int first = 0; first < FIRSTS; first++) {
		struct session s = {0};
		char how[40];

		snprintf(how, sizeof how, "first statement %d", first);
		add_statements(&s);
		query_and_wait(&s, begins[first % BEGINS]);
		add_first(&s, first);
		query_and_wait(&s, "select count(*) from begun");
		query_and_wait(&s, first % 2 ? "commit" : "end work");
		query_and_wait(&s, "select count(*) from begun");
		add_cleaning(&s);
		add_end(&s);
		compare_all(forebay, &s, how);
		session_free(&s);
	}
	forebay_stop(forebay);
}
END_TEST

START_TEST(every_way_to_begin_is_answered_as_by_postgresql) {
	struct forebay *forebay = start(_i, "max_size = 2");

	if (harness_direct())
		return;
	for (int way = 0; way < BEGINS + OTHERS; way++) {
		struct session s = {0};
		const char *begin = way < BEGINS ? begins[way] : others[way - BEGINS];

		for (int end = 0; end < 3; end++) {
			query_and_wait(&s, begin);
			if (end)
				query_and_wait(&s, "insert into begun values (1)");
			query_and_wait(&s, end == 2 ? "commit" : "rollback");
			query_and_wait(&s, "select count(*) from begun");
		}
		query_and_wait(&s, begin);
		query_and_wait(&s, begin);
		extended_and_wait(&s, begin);
		query_and_wait(&s, "commit");
		query_and_wait(&s, "commit"); /* PostgreSQL warns */
		add_cleaning(&s);
		add_end(&s);
		compare_all(forebay, &s, begin);
		session_free(&s);
	}
	forebay_stop(forebay);
}
END_TEST

/* One session with much in it, cut at each of its bytes. */
START_TEST(transactions_may_be_cut_anywhere) {
	static const int firsts[] = {0, 3, 8, 12, 11, 14, 6, 21, 23, 27, 37, 49, 52};
	struct forebay *forebay = start(_i, "max_size = 2");
	struct session s = {0};
	struct bytes expected;

	if (harness_direct())
		return;
	add_statements(&s);
	for (size_t i = 0; i < sizeof firsts / sizeof firsts[0]; i++) {
		query_and_wait(&s, begins[i % BEGINS]);
		add_first(&s, firsts[i]);
		query_and_wait(&s, i % 2 ? "commit" : "rollback");
	}
	add_cleaning(&s);
	add_end(&s);
	expected = play_on_postgres(&s);
	for (size_t cut = 1; cut < longest_piece(&s, false); cut++)
		play_and_compare(UNIX, &s, EACH_CUT, cut, &expected, "each message cut");
	for (size_t cut = 1; cut < longest_piece(&s, true); cut++)
		play_and_compare(UNIX, &s, TOGETHER_CUT, cut, &expected, "glued between waits and cut");
	for (size_t cut = 1 + (size_t)_i; cut < s.out.len; cut += 2)
		play_and_compare(UNIX, &s, GLUED_CUT, cut, &expected, "all glued and cut");
	bytes_free(&expected);
	session_free(&s);
	forebay_stop(forebay);
}
END_TEST

/* Without the places in PostgreSQL's source in errors and notices: where Forebay has a statement parsed anew in a failed
 * transaction, it is Parse that fails in place of Bind. */
static struct bytes without_places(struct bytes b) {
	struct bytes out = {0};

	for (size_t at = 0; at + 5 <= b.len;) {
		const uint8_t *p = b.at + at;
		size_t len = 1 + ((size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4]);

		ck_assert(at + len <= b.len);
		if (p[0] == 'E' || p[0] == 'N') {
			struct message m = {.type = (char)p[0], .len = (uint32_t)len - 5, .body = p + 5};

			put_message(&out, m.type, "cscscscs", 'S', error_field(&m, 'S'), 'C', error_field(&m, 'C'), 'M',
				    error_field(&m, 'M'), 'P', error_field(&m, 'P'));
		} else {
			bytes_add(&out, p, len);
		}
		at += len;
	}
	bytes_free(&b);
	return out;
}

static void play_and_compare_words(struct probe probe, const struct session *s, enum manner manner, size_t cut,
				   const struct bytes *expected, const char *how) {
	struct bytes got = without_places(play(probe, "app", s, manner, cut, NULL));

	expect_same(&got, expected, how, cut);
	bytes_free(&got);
}

/* Anything in any order, but for what waits for an answer that does not come after an error. FOREBAY_SEED and FOREBAY_ROUNDS choose others, and more. */
START_TEST(random_transactions_are_answered_as_by_postgresql) {
	static const char *const ends[] = {"commit", "rollback", "END", "abort work"};
	const char *seed_text = getenv("FOREBAY_SEED"), *rounds_text = getenv("FOREBAY_ROUNDS");
	unsigned first_seed = seed_text ? (unsigned)atoi(seed_text) : 1000 + (unsigned)_i * 1000;
	int rounds = rounds_text ? atoi(rounds_text) : 60;
	struct forebay *forebay = start(_i, "max_size = 3");

	if (harness_direct())
		return;
	for (int round = 0; round < rounds; round++) {
		struct session s = {0};
		struct bytes expected;
		unsigned seed = first_seed + (unsigned)round;
		char how[40];

		snprintf(how, sizeof how, "seed %u", seed);
		add_statements(&s);
		for (int i = 0; i < 12; i++) {
			int what = rand_r(&seed) % 10;

			if (what < 4)
				query_and_wait(&s, begins[rand_r(&seed) % BEGINS]);
			else if (what == 4)
				query_and_wait(&s, others[rand_r(&seed) % OTHERS]);
			else if (what < 7)
				query_and_wait(&s, ends[rand_r(&seed) % 4]);
			else
				add_first(&s, rand_r(&seed) % FIRSTS_ANYWHERE);
		}
		add_cleaning(&s);
		add_end(&s);
		expected = without_places(play_on_postgres(&s));
		play_and_compare_words(UNIX, &s, ONE_BY_ONE, 0, &expected, how);
		play_and_compare_words(UNIX, &s, TOGETHER, 0, &expected, how);
		play_and_compare_words(UNIX, &s, GLUED, 0, &expected, how);
		for (int i = 0; i < 4; i++)
			play_and_compare_words(UNIX, &s, i % 2 ? GLUED_CUT : TOGETHER_CUT, 1 + (size_t)rand_r(&seed) % s.out.len,
					 &expected, how);
		bytes_free(&expected);
		session_free(&s);
	}
	forebay_stop(forebay);
}
END_TEST

/* ---- what is held, and what is told ---- */

START_TEST(transaction_that_does_nothing_holds_no_server) {
	struct forebay *forebay = start(_i, "max_size = 1\nacquire_timeout = 20s");
	PGconn *idle = connect_with(forebay, "application_name=idle"), *busy = connect_app(forebay);
	PGconn *ops = operator_of(forebay);

	execute(idle, "begin");
	ck_assert_int_eq(status(idle), PQTRANS_INTRANS);
	expect_cell(ops, "idle", "begin_deferred", "t");
	expect_cell(ops, "idle", "state", "idle");
	expect_cell(ops, "idle", "link", "");
	execute(busy, "begin");
	execute(busy, "insert into begun values (1)"); /* the one server is free for it */
	send_query(idle, "select count(*) from begun");
	await_cell(ops, "idle", "state", "waiting");
	expect_cell(ops, "idle", "begin_deferred", "t");
	execute(busy, "commit");
	expect_text(next_result(idle), "1");
	ck_assert(next_result(idle) == NULL);
	ck_assert_int_eq(status(idle), PQTRANS_INTRANS);
	expect_cell(ops, "idle", "begin_deferred", "f");
	expect_cell(ops, "idle", "state", "active");
	execute(idle, "commit");
	expect_cell(ops, "idle", "transactions", "1");
	expect_cell(ops, "idle", "queries", "3");
	execute(idle, "begin");
	execute(idle, "commit");
	execute(idle, "start transaction");
	execute(idle, "rollback");
	expect_cell(ops, "idle", "transactions", "3");
	expect_cell(ops, "idle", "queries", "7");
	PQfinish(ops);
	PQfinish(idle);
	PQfinish(busy);
	forebay_stop(forebay);
}
END_TEST

START_TEST(only_transaction_pooling_defers_and_only_where_it_may) {
	static const struct {
		const char *pool, *deferred;
	} pools[] = {{"max_size = 1", "t"}, {"defer_begin = off", "f"}, {"pool_mode = session", "f"}};
	for (size_t i = 0; i < 3; i++) {
		struct forebay *forebay = start(_i, pools[i].pool);
		PGconn *conn = connect_with(forebay, "application_name=me"), *ops = operator_of(forebay);

		execute(conn, "begin");
		expect_cell(ops, "me", "begin_deferred", pools[i].deferred);
		expect_cell(ops, "me", "state", i == 0 ? "idle" : "active");
		execute(conn, "rollback");
		PQfinish(conn);
		PQfinish(ops);
		forebay_stop(forebay);
	}
	struct forebay *forebay = start(_i, "pool_mode = statement");
	PGconn *conn = connect_app(forebay);

	PQclear(PQexec(conn, "begin"));
	ck_assert_int_eq(PQstatus(conn), CONNECTION_BAD);
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

START_TEST(reload_changes_what_comes_next) {
	struct forebay *forebay = start(_i, "max_size = 1");
	PGconn *conn = connect_with(forebay, "application_name=me"), *ops = operator_of(forebay);

	execute(conn, "begin");
	forebay_rewrite_ini(forebay, &(struct forebay_setup){
					     .workers = WORKERS(_i), .listener = "auth = trust", .pool = "max_size = 1\ndefer_begin = off"});
	execute(ops, "reload");
	expect_cell(ops, "me", "begin_deferred", "t");
	execute(conn, "insert into begun values (1)");
	ck_assert_int_eq(status(conn), PQTRANS_INTRANS);
	execute(conn, "rollback");
	expect_value(conn, "select count(*) from begun", "0");
	for (char *state = NULL; !state || strcmp(state, "active") != 0; execute(conn, "rollback")) {
		free(state);
		execute(conn, "begin");
		state = client_cell(ops, "me", "state");
		if (strcmp(state, "active") == 0) {
			free(state);
			break;
		}
	}
	PQfinish(conn);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

/* Settings go to the server before the transaction begins, and what it changes is undone with it. */
START_TEST(settings_are_the_client_s_own_on_whichever_server) {
	struct forebay *forebay = start(_i, "max_size = 1");
	PGconn *a = connect_with(forebay, "application_name=a options='-c timezone=Asia/Tokyo'");
	PGconn *b = connect_with(forebay, "application_name=b options='-c timezone=Africa/Cairo'");

	for (int i = 0; i < 3; i++) {
		execute(a, "begin");
		expect_value(b, "show timezone", "Africa/Cairo");
		expect_value(a, "show timezone", "Asia/Tokyo");
		execute(a, "set timezone = 'UTC'");
		execute(a, i == 2 ? "commit" : "rollback");
		ck_assert_str_eq(PQparameterStatus(a, "TimeZone"), i == 2 ? "UTC" : "Asia/Tokyo");
		execute(b, "begin");
		expect_value(a, "show timezone", i == 2 ? "UTC" : "Asia/Tokyo");
		expect_value(b, "show timezone", "Africa/Cairo");
		execute(b, "rollback");
	}
	PQfinish(a);
	PQfinish(b);
	forebay_stop(forebay);
}
END_TEST

/* The server refuses a setting: the statement that it was for has failed, and so its transaction. */
START_TEST(refused_setting_fails_the_transaction) {
	struct forebay *forebay = start(_i, "max_size = 1");
	PGconn *conn = connect_app(forebay), *bad = connect_with(forebay, "options='-c work_mem=nonsense'");

	if (PQstatus(bad) == CONNECTION_OK) {
		execute(bad, "begin");
		expect_error(bad, "insert into begun values (1)", "22023");
		ck_assert_int_eq(status(bad), PQTRANS_INERROR);
		expect_error(bad, "insert into begun values (2)", "25P02");
		execute(bad, "rollback");
		ck_assert_int_eq(status(bad), PQTRANS_IDLE);
	}
	expect_value(conn, "select count(*) from begun", "0");
	PQfinish(bad);
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

/* ---- no server to be had ---- */

/* It is in a failed transaction, until it says so, and then all is well. */
static void expect_failed_until_rollback(PGconn *conn) {
	ck_assert_int_eq(status(conn), PQTRANS_INERROR);
	expect_error(conn, "select 1", "25P02");
	expect_error(conn, "begin", "25P02");
	expect_failure(PQexecParams(conn, "select 1", 0, NULL, NULL, NULL, NULL, 0), "25P02");
	execute(conn, "rollback");
	ck_assert_int_eq(status(conn), PQTRANS_IDLE);
}

START_TEST(statement_that_gets_no_server_fails_its_transaction) {
	struct forebay *forebay = start(_i, "max_size = 1\nacquire_timeout = 400ms");
	PGconn *holder = connect_app(forebay), *conn = connect_app(forebay);

	execute(holder, "begin");
	execute(holder, "select 1");
	for (int i = 0; i < 3; i++) {
		execute(conn, "begin");
		if (i == 0)
			expect_error(conn, "insert into begun values (1)", "53300");
		else if (i == 1)
			expect_failure(PQexecParams(conn, "insert into begun values (1)", 0, NULL, NULL, NULL, NULL, 0), "53300");
		else
			expect_failure(PQprepare(conn, "never", "insert into begun values (1)", 0, NULL), "53300");
		expect_failed_until_rollback(conn);
	}
	execute(conn, "begin");
	expect_error(conn, "select 1", "53300");
	PGresult *res = PQexec(conn, "commit"); /* as PostgreSQL: it says ROLLBACK */
	ck_assert_str_eq(PQcmdStatus(res), "ROLLBACK");
	PQclear(res);
	ck_assert_int_eq(status(conn), PQTRANS_IDLE);
	execute(holder, "commit");
	execute(conn, "begin");
	execute(conn, "insert into begun values (2)");
	execute(conn, "commit");
	expect_value(conn, "select string_agg(i::text, ',') from begun", "2");
	PQfinish(holder);
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

START_TEST(full_queue_fails_the_transaction) {
	struct forebay *forebay = start(_i, "max_size = 1\nmax_waiting = 1");
	PGconn *holder = connect_app(forebay), *waiter = connect_with(forebay, "application_name=waiter");
	PGconn *conn = connect_app(forebay), *ops = operator_of(forebay);

	execute(holder, "begin");
	execute(holder, "select 1");
	send_query(waiter, "select 1");
	await_cell(ops, "waiter", "state", "waiting");
	execute(conn, "begin");
	expect_error(conn, "select 1", "53300");
	expect_failed_until_rollback(conn);
	PQfinish(holder);
	expect_text(next_result(waiter), "1");
	PQfinish(waiter);
	PQfinish(conn);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

START_TEST(cancel_while_it_waits_fails_the_transaction) {
	struct forebay *forebay = start(_i, "max_size = 1");
	PGconn *holder = connect_app(forebay), *conn = connect_with(forebay, "application_name=waiter");
	PGconn *ops = operator_of(forebay);
	PGcancel *cancel = PQgetCancel(conn);
	char error[256];

	execute(holder, "begin");
	execute(holder, "select 1");
	execute(conn, "begin");
	ck_assert(PQcancel(cancel, error, sizeof error)); /* nothing runs: nothing comes of it */
	ck_assert_int_eq(status(conn), PQTRANS_INTRANS);
	send_query(conn, "select 1");
	await_cell(ops, "waiter", "state", "waiting");
	ck_assert(PQcancel(cancel, error, sizeof error));
	expect_failure(next_result(conn), "57014");
	ck_assert(next_result(conn) == NULL);
	expect_failed_until_rollback(conn);
	PQfreeCancel(cancel);
	PQfinish(holder);
	PQfinish(conn);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

START_TEST(database_that_is_away_fails_the_transaction_or_is_waited_for) {
	struct forebay *forebay = start(_i, "max_size = 2\nwhen_unavailable = fail\nmonitor_interval = 0\nmin_idle = 0");
	PGconn *conn = connect_app(forebay);

	expect_value(conn, "select 1", "1");
	execute(conn, "begin");
	harness_postgres_stop(false);
	PGresult *res = PQexec(conn, "select 1");
	ck_assert_int_eq(PQresultStatus(res), PGRES_FATAL_ERROR);
	PQclear(res);
	ck_assert_int_eq(PQstatus(conn), CONNECTION_OK);
	expect_failed_until_rollback(conn);
	execute(conn, "begin"); /* that it can */
	harness_postgres_start();
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	for (;;) { /* the backoff is over some time */
		res = PQexec(conn, "select 1");
		bool ok = PQresultStatus(res) == PGRES_TUPLES_OK;
		PQclear(res);
		if (ok)
			break;
		ck_assert(harness_now_ms() < deadline);
		execute(conn, "rollback");
		execute(conn, "begin");
		harness_pause_ms(20);
	}
	ck_assert_int_eq(status(conn), PQTRANS_INTRANS);
	execute(conn, "commit");
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

/* Whatever becomes of the servers meanwhile is nothing to a transaction that none has heard of. */
START_TEST(servers_may_go_before_the_first_statement) {
	struct forebay *forebay = start(_i, "max_size = 2\nalive_bypass_window = 0");
	PGconn *conn = connect_app(forebay), *control = connect_control(), *ops = operator_of(forebay);

	for (int i = 0; i < 5; i++) {
		execute(conn, "begin");
		if (i % 2) {
			char *pids = query(control, "select coalesce(string_agg(pid::text, ','), '0') from pg_stat_activity "
						    "where usename = 'app'");
			char gone[300];

			execute(control, "select pg_terminate_backend(pid) from pg_stat_activity where pid in (%s)", pids);
			snprintf(gone, sizeof gone, "select count(*) from pg_stat_activity where pid in (%s)", pids);
			await_value(control, gone, "0");
			free(pids);
		} else {
			execute(ops, "reconnect");
		}
		execute(conn, "insert into begun values (1)");
		ck_assert_int_eq(status(conn), PQTRANS_INTRANS);
		execute(conn, "commit");
	}
	expect_value(conn, "select count(*) from begun", "5");
	PQfinish(conn);
	PQfinish(control);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

START_TEST(client_may_go_before_the_first_statement) {
	struct forebay *forebay = start(_i, "max_size = 1");
	PGconn *other = connect_app(forebay);

	for (int i = 0; i < 30; i++) {
		struct raw raw = raw_connect(forebay);

		raw_login(&raw);
		raw_put(&raw, 'Q', "s", "begin");
		raw_answers(&raw, "C:BEGIN Z:T");
		if (i % 3 == 0) {
			raw_put(&raw, 'X', "");
			raw_expect_closed(&raw);
		} else if (i % 3 == 1) {
			raw_send(&raw, "Q\0\0", 3);
		}
		if (i % 2)
			raw_reset(&raw);
		else
			raw_close(&raw);
		expect_value(other, "select 1", "1");
	}
	PQfinish(other);
	forebay_stop(forebay);
}
END_TEST

/* ---- an operator's doings ---- */

START_TEST(pause_lets_it_begin_and_holds_its_first_statement) {
	struct forebay *forebay = start(_i, "max_size = 1");
	PGconn *conn = connect_with(forebay, "application_name=me"), *ops = operator_of(forebay);

	expect_value(conn, "select 1", "1");
	execute(conn, "begin");
	execute(ops, "pause app"); /* does not wait for it */
	execute(conn, "rollback");
	execute(conn, "begin");
	send_query(conn, "insert into begun values (1)");
	await_cell(ops, "me", "state", "waiting");
	execute(ops, "resume app");
	expect_result(next_result(conn), PGRES_COMMAND_OK);
	ck_assert(next_result(conn) == NULL);
	ck_assert_int_eq(status(conn), PQTRANS_INTRANS);
	execute(conn, "commit");
	expect_value(conn, "select count(*) from begun", "1");
	char *id = client_cell(ops, "me", "id");
	execute(conn, "begin");
	execute(ops, "kill_client %s", id);
	PGresult *res = PQexec(conn, "select 1");
	ck_assert_int_eq(PQstatus(conn), CONNECTION_BAD);
	PQclear(res);
	free(id);
	PQfinish(conn);
	PQfinish(ops);
	forebay_stop(forebay);
}
END_TEST

START_TEST(shutdown_lets_transactions_that_have_begun_finish) {
	struct forebay *forebay = start(_i, "max_size = 1");
	PGconn *works = connect_app(forebay), *gives_up = connect_app(forebay), *idle = connect_app(forebay);
	PGconn *control = connect_control();

	execute(works, "begin");
	execute(gives_up, "begin");
	kill(forebay->pid, SIGTERM);
	PGresult *res;
	while (PQstatus(idle) == CONNECTION_OK) /* until it has been told */
		PQclear(PQexec(idle, "select 1"));
	ck_assert_int_eq(PQstatus(works), CONNECTION_OK);
	execute(works, "insert into begun values (1)");
	ck_assert_int_eq(status(works), PQTRANS_INTRANS);
	execute(works, "insert into begun values (2)");
	execute(works, "commit");
	execute(gives_up, "rollback");
	res = PQexec(works, "select 1");
	ck_assert_int_eq(PQstatus(works), CONNECTION_BAD);
	PQclear(res);
	res = PQexec(gives_up, "select 1");
	ck_assert_int_eq(PQstatus(gives_up), CONNECTION_BAD);
	PQclear(res);
	forebay_await_exit(forebay);
	expect_value(control, "select count(*) from begun", "2");
	PQfinish(works);
	PQfinish(gives_up);
	PQfinish(idle);
	PQfinish(control);
}
END_TEST

START_TEST(shutdown_waits_for_it_no_longer_than_for_others) {
	PGconn *control = connect_control();
	struct forebay *forebay = forebay_start(&(struct forebay_setup){
		.workers = WORKERS(_i), .listener = "auth = trust", .process = "shutdown_timeout = 300ms"});
	PGconn *conn = connect_app(forebay);

	execute(conn, "begin");
	kill(forebay->pid, SIGTERM);
	forebay_await_exit(forebay);
	PQfinish(conn);
	PQfinish(control);
}
END_TEST

/* ---- limits of time ---- */

static void count_rollbacks(void *arg, const PGresult *res) {
	*(int *)arg += strstr(PQresultErrorMessage(res), "rolled back") != NULL;
}

static void await_rollback(PGconn *conn) {
	int notices = 0;
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	PQsetNoticeReceiver(conn, count_rollbacks, &notices);
	while (notices == 0) {
		struct pollfd p = {.fd = PQsocket(conn), .events = POLLIN};

		ck_assert_msg(harness_now_ms() < deadline, "no notice of a rollback");
		poll(&p, 1, 100);
		ck_assert_msg(PQconsumeInput(conn), "%s", PQerrorMessage(conn));
		PQisBusy(conn);
	}
}

START_TEST(transaction_without_a_statement_is_idle_all_the_same) {
	static const struct {
		const char *pool, *sqlstate;
	} limits[] = {
		{"idle_transaction_timeout = 150ms\nclient_idle_timeout = 60s", "25P03"},
		{"transaction_timeout = 150ms", "25P04"},
	};
	for (int i = 0; i < 2; i++) {
		struct forebay *forebay = start(_i, limits[i].pool);
		PGconn *conn = connect_app(forebay);

		execute(conn, "begin");
		await_rollback(conn);
		expect_error(conn, "insert into begun values (1)", limits[i].sqlstate);
		expect_failed_until_rollback(conn);
		execute(conn, "begin");
		await_rollback(conn);
		expect_error(conn, "commit", limits[i].sqlstate);
		execute(conn, "rollback");
		execute(conn, "begin");
		await_rollback(conn);
		execute(conn, "rollback");
		expect_value(conn, "select count(*) from begun", "0");
		PQfinish(conn);
		forebay_stop(forebay);
	}
}
END_TEST

START_TEST(transaction_without_a_statement_is_no_idle_client_and_no_leak) {
	struct forebay *forebay = start(_i, "client_idle_timeout = 200ms\nleak_detection_threshold = 100ms");
	PGconn *conn = connect_app(forebay), *idle = connect_app(forebay);
	struct pollfd p = {.fd = PQsocket(idle), .events = POLLIN};

	execute(conn, "begin");
	ck_assert_int_eq(poll(&p, 1, HARNESS_DEADLINE_MS), 1); /* the other one is let go */
	PGconn *later = connect_app(forebay);
	p.fd = PQsocket(later);
	ck_assert_int_eq(poll(&p, 1, HARNESS_DEADLINE_MS), 1); /* and one that came after it */
	expect_value(conn, "select 1", "1");
	ck_assert_int_eq(status(conn), PQTRANS_INTRANS);
	execute(conn, "commit");
	ck_assert_int_eq(harness_count_in(forebay->log, "leak_detected"), 0);
	p.fd = PQsocket(conn);
	ck_assert_int_eq(poll(&p, 1, HARNESS_DEADLINE_MS), 1); /* outside it, it is let go as well */
	PQfinish(conn);
	PQfinish(idle);
	PQfinish(later);
	forebay_stop(forebay);
}
END_TEST

/* ---- a BEGIN that fails on the server ---- */

enum fault {
	NO_FAULT,
	FAIL_PARSE,    /* an error in place of an answer ... */
	FAIL_BIND,
	FAIL_EXECUTE,  /* as a cancel that comes early does it */
	FAIL_LONG,     /* with a text of 100 kB */
	FATAL_EXECUTE,
	WRONG_TAG,
	EMPTY,
	SUSPENDED,
	NOTICED,       /* it works, with a warning */
	CLOSES         /* after so many bytes of its answer */
};

struct script {
	_Atomic int fault;       /* of the next BEGIN */
	_Atomic size_t close_at; /* CLOSES */
	_Atomic int outside;     /* statements that ran outside a transaction, and must not */
	_Atomic int inside;      /* ... in one */
	_Atomic int begun;       /* BEGINs in all */
	_Atomic int glued;       /* of them: all of the statement came with it, in one read */
};

static void put_error(struct bytes *b, const char *severity, const char *sqlstate, const char *message) {
	put_message(b, 'E', "cscscscsc", 'S', severity, 'V', severity, 'C', sqlstate, 'M', message, 0);
}

static bool is_counted(const char *sql) {
	return strncmp(sql, "insert", 6) == 0;
}

/* As PostgreSQL: answers collect until there is a Sync, Query or Flush; after an error all is passed over up to a Sync. */
static void serve(struct raw *raw, void *context) {
	struct script *script = context;
	struct bytes out = {0};
	struct message m;
	char state = 'I', sql[200] = "";
	bool skip = false, begin = false;

	if (!backend_login(raw))
		return;
	while (backend_read(raw, &m)) {
		const char *body = (const char *)m.body;
		int fault = begin ? script->fault : NO_FAULT;
		bool flush = m.type == 'S' || m.type == 'H';

		if (m.type == 'X')
			break;
		if (skip && m.type != 'S')
			continue;
		switch (m.type) {
		case 'P':
			snprintf(sql, sizeof sql, "%s", body + strlen(body) + 1);
			begin = strcmp(sql, "BEGIN") == 0;
			if (begin) {
				script->begun++;
				fault = script->fault;
			}
			if (fault == FAIL_PARSE) {
				put_error(&out, "ERROR", "57014", "canceled here");
				skip = flush = true;
			} else {
				put_message(&out, '1', "");
			}
			break;
		case 'B':
			if (fault == FAIL_BIND) {
				put_error(&out, "ERROR", "57014", "canceled here");
				skip = flush = true;
			} else if (m.len > 13 && strcmp(body + 1, "forebay_none") == 0) {
				put_error(&out, "ERROR", "26000", "no such statement");
				skip = flush = true;
			} else {
				put_message(&out, '2', "");
			}
			break;
		case 'D':
			put_message(&out, 'n', "");
			break;
		case 'E':
			if (!begin) {
				if (is_counted(sql))
					atomic_fetch_add(state == 'T' ? &script->inside : &script->outside, 1);
				put_message(&out, 'C', "s", "INSERT 0 1");
				break;
			}
			begin = false;
			switch (fault) {
			case FAIL_LONG: {
				char *text = calloc(1, 100001);

				memset(text, 'x', 100000);
				put_error(&out, "ERROR", "57014", text);
				free(text);
				skip = flush = true;
				break;
			}
			case FAIL_EXECUTE:
				put_error(&out, "ERROR", "57014", "canceled here");
				skip = flush = true;
				break;
			case FATAL_EXECUTE:
				put_error(&out, "FATAL", "57P01", "terminating");
				raw_send_bytes(raw, &out);
				return;
			case WRONG_TAG:
				put_message(&out, 'C', "s", "SELECT 1");
				break;
			case EMPTY:
				put_message(&out, 'I', "");
				break;
			case SUSPENDED:
				put_message(&out, 's', "");
				break;
			case NOTICED:
				put_message(&out, 'N', "cscscscsc", 'S', "WARNING", 'V', "WARNING", 'C', "01000", 'M', "odd", 0);
				/* fall through */
			default:
				put_message(&out, 'C', "s", "BEGIN");
				state = 'T';
				break;
			}
			if (fault == CLOSES && script->close_at < out.len) {
				raw_send(raw, out.at, script->close_at);
				bytes_free(&out);
				return;
			}
			break;
		case 'C':
			put_message(&out, '3', "");
			break;
		case 'S':
			skip = false;
			put_message(&out, 'Z', "c", state);
			break;
		case 'F':
			atomic_fetch_add(state == 'T' ? &script->inside : &script->outside, 1);
			put_message(&out, 'V', "i", -1);
			put_message(&out, 'Z', "c", state);
			flush = true;
			break;
		case 'Q':
			if (is_counted(body))
				atomic_fetch_add(state == 'T' ? &script->inside : &script->outside, 1);
			if (strcasecmp(body, "rollback") == 0 || strcasecmp(body, "commit") == 0)
				state = 'I';
			put_message(&out, 'C', "s", strcasecmp(body, "rollback") == 0 ? "ROLLBACK" : "INSERT 0 1");
			put_message(&out, 'Z', "c", state);
			flush = true;
			break;
		default:
			break;
		}
		if (flush && out.len > 0 && !raw_send_bytes(raw, &out))
			break;
		if (flush)
			out = (struct bytes){0};
	}
	bytes_free(&out);
}

static struct forebay *start_scripted(int i, const struct backend *backend) {
	char pool[200];

	snprintf(pool, sizeof pool, "hosts = 127.0.0.1:%d\nmax_size = 2\nmin_idle = 0\nmonitor_interval = 0\nuser = app\n",
		 backend->port);
	return forebay_start(&(struct forebay_setup){.workers = WORKERS(i), .listener = "auth = trust", .pool = pool});
}

static void ask(struct raw *raw, const char *sql, const char *answers) {
	raw_put(raw, 'Q', "s", sql);
	raw_answers(raw, answers);
}

static void begin(struct raw *raw) {
	ask(raw, "begin", "C:BEGIN Z:T");
}

/* In a failed transaction; then the next one goes well. */
static void expect_recovered(struct raw *raw, struct script *script) {
	ask(raw, "insert 2", "E:25P02 Z:E");
	script->fault = NO_FAULT;
	ask(raw, "rollback", "C:ROLLBACK Z:I");
	int inside = script->inside;
	begin(raw);
	ask(raw, "insert 3", "C Z:T");
	ask(raw, "rollback", "C:ROLLBACK Z:I");
	ck_assert_int_eq(script->inside, inside + 1);
	ck_assert_int_eq(script->outside, 0);
}

START_TEST(begin_that_fails_on_the_server_fails_the_statement) {
	static const int faults[] = {FAIL_PARSE, FAIL_BIND, FAIL_EXECUTE};
	struct script script = {0};
	struct backend *backend = backend_start(serve, &script);
	struct forebay *forebay = start_scripted(_i, backend);
	char *large = calloc(1, 60001);

	memset(large, ' ', 60000);
	memcpy(large, "insert", 6);
	for (size_t i = 0; i < 3; i++) {
		struct raw raw = raw_connect(forebay);
		struct bytes b = {0};

		raw_login(&raw);
		begin(&raw);
		script.fault = faults[i];
		ask(&raw, "insert 1", "E:57014 Z:E");
		expect_recovered(&raw, &script);
		begin(&raw); /* a batch */
		script.fault = faults[i];
		put_parse(&b, "", "insert 1");
		put_bind(&b, "", NULL);
		put_execute(&b);
		put_sync(&b);
		raw_send_bytes(&raw, &b);
		raw_answers(&raw, "E:57014 Z:E");
		expect_recovered(&raw, &script);
		begin(&raw); /* a batch that is not over yet */
		script.fault = faults[i];
		put_parse(&b, "", "insert 1");
		put_bind(&b, "", NULL);
		put_message(&b, 'H', "");
		raw_send_bytes(&raw, &b);
		raw_answers(&raw, "E:57014");
		put_execute(&b);
		put_query(&b, "insert 1");
		put_sync(&b);
		raw_send_bytes(&raw, &b);
		raw_answers(&raw, "Z:E");
		expect_recovered(&raw, &script);
		begin(&raw); /* several batches and queries at once */
		script.fault = faults[i];
		for (int k = 0; k < 3; k++) {
			put_parse(&b, "", "insert 1");
			put_bind(&b, "", NULL);
			put_execute(&b);
			put_sync(&b);
			put_query(&b, "insert 1");
		}
		raw_send_bytes(&raw, &b);
		raw_answers(&raw, "E:57014 Z:E E:25P02 Z:E E:25P02 Z:E E:25P02 Z:E E:25P02 Z:E E:25P02 Z:E");
		expect_recovered(&raw, &script);
		begin(&raw);
		script.fault = faults[i];
		for (int k = 0; k < 3; k++)
			put_query(&b, "insert 1");
		put_query(&b, "rollback");
		raw_send_bytes(&raw, &b);
		raw_answers(&raw, "E:57014 Z:E E:25P02 Z:E E:25P02 Z:E C:ROLLBACK Z:I");
		begin(&raw);
		script.fault = faults[i];
		raw_put(&raw, 'F', "ihhh", 177, 0, 0, 0);
		raw_answers(&raw, "E:57014 Z:E");
		expect_recovered(&raw, &script);
		begin(&raw); /* a large one, in whole and in two parts */
		script.fault = faults[i];
		ask(&raw, large, "E:57014 Z:E");
		expect_recovered(&raw, &script);
		begin(&raw);
		script.fault = faults[i];
		put_query(&b, large);
		raw_send(&raw, b.at, 40000);
		raw_answers(&raw, "E:57014 Z:E");
		raw_send(&raw, b.at + 40000, b.len - 40000);
		b.len = 0;
		expect_recovered(&raw, &script);
		begin(&raw); /* a copy */
		script.fault = faults[i];
		put_query(&b, "copy t from stdin");
		put_message(&b, 'd', "b", (size_t)2, "1\n");
		put_message(&b, 'c', "");
		raw_send_bytes(&raw, &b);
		raw_answers(&raw, "E:57014 Z:E");
		expect_recovered(&raw, &script);
		raw_close(&raw);
	}
	free(large);
	ck_assert_int_gt(script.inside, 20);
	ck_assert_int_eq(script.outside, 0);
	forebay_stop(forebay);
	backend_stop(backend);
}
END_TEST

START_TEST(notice_of_the_begin_is_told) {
	struct script script = {.fault = NOTICED};
	struct backend *backend = backend_start(serve, &script);
	struct forebay *forebay = start_scripted(_i, backend);
	struct raw raw = raw_connect(forebay);

	raw_login(&raw);
	begin(&raw);
	raw_put(&raw, 'Q', "s", "insert 1");
	struct message m = raw_until(&raw, 'N');
	ck_assert_str_eq(error_field(&m, 'M'), "odd");
	raw_answers(&raw, "C Z:T");
	ask(&raw, "rollback", "C:ROLLBACK Z:I");
	raw_close(&raw);
	forebay_stop(forebay);
	backend_stop(backend);
}
END_TEST

/* What cannot be made good is told, and the connection closed: never as if all was well. */
START_TEST(begin_that_is_lost_ends_the_connection) {
	static const int faults[] = {FAIL_LONG, FATAL_EXECUTE, WRONG_TAG, EMPTY, SUSPENDED};
	struct script script = {0};
	struct backend *backend = backend_start(serve, &script);
	struct forebay *forebay = start_scripted(_i, backend);
	struct raw raw;

	forebay->violations_expected = true;
	for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
		raw = raw_connect(forebay);
		raw_login(&raw);
		begin(&raw);
		script.fault = faults[i];
		raw_put(&raw, 'Q', "s", "insert 1");
		raw_expect_error(&raw, faults[i] == FATAL_EXECUTE ? "57P01" : "08006");
		raw_expect_closed(&raw);
		raw_close(&raw);
		script.outside = 0; /* a backend that lies may do anything */
	}
	for (size_t at = 0; at < 21; at++) {
		raw = raw_connect(forebay);
		raw_login(&raw);
		begin(&raw);
		script.close_at = at;
		script.fault = CLOSES;
		raw_put(&raw, 'Q', "s", "insert 1");
		raw_expect_error(&raw, "08006");
		raw_expect_closed(&raw);
		raw_close(&raw);
	}
	script.fault = NO_FAULT;
	raw = raw_connect(forebay);
	raw_login(&raw);
	begin(&raw);
	ask(&raw, "insert 1", "C Z:T");
	ask(&raw, "rollback", "C:ROLLBACK Z:I");
	raw_close(&raw);
	ck_assert_int_eq(script.outside, 0);
	forebay_stop(forebay);
	backend_stop(backend);
}
END_TEST

/* The client goes while the BEGIN is on its way, or has failed. */
START_TEST(client_may_go_while_its_begin_is_on_its_way) {
	struct script script = {0};
	struct backend *backend = backend_start(serve, &script);
	struct forebay *forebay = start_scripted(_i, backend);
	struct raw raw;

	for (int i = 0; i < 20; i++) {
		raw = raw_connect(forebay);
		raw_login(&raw);
		begin(&raw);
		script.fault = i % 2 ? FAIL_EXECUTE : NO_FAULT;
		raw_put(&raw, 'Q', "s", "insert 1");
		if (i % 4 < 2)
			raw_reset(&raw);
		else
			raw_close(&raw);
		raw = raw_connect(forebay);
		raw_login(&raw);
		ask(&raw, "select", "C Z:I"); /* not in the other one's transaction */
		raw_close(&raw);
	}
	ck_assert_int_eq(script.outside, 0);
	forebay_stop(forebay);
	backend_stop(backend);
}
END_TEST

/* ---- attacks ---- */

/* Each transaction is rolled back, so a row that stays was written outside of it. */
START_TEST(cancels_at_any_moment_let_nothing_run_outside_the_transaction) {
	struct forebay *forebay = start(_i, "max_size = 2");
	PGconn *conn = connect_app(forebay), *timed = connect_with(forebay, "options='-c statement_timeout=1'");
	PGconn *control = connect_control();
	PGcancel *cancel = PQgetCancel(conn);
	int cancelled = 0, failed = 0;

	for (int i = 0; i < 400 || (cancelled + failed == 0 && i < 8000); i++) {
		char error[256];
		PGresult *res;

		execute(conn, "begin");
		send_query(conn, i % 2 ? "insert into begun values (1)" : "insert into begun select 2 from generate_series(1, 3000)");
		for (volatile int spin = 0; spin < (i % 20) * 5000; spin++)
			;
		if (i % 4)
			PQcancel(cancel, error, sizeof error);
		res = next_result(conn);
		if (PQresultStatus(res) != PGRES_COMMAND_OK) {
			cancelled++;
			ck_assert_str_eq(PQresultErrorField(res, PG_DIAG_SQLSTATE), "57014");
		}
		ck_assert_int_eq(status(conn) == PQTRANS_ACTIVE ? (PQclear(next_result(conn)), status(conn)) : status(conn),
				 PQresultStatus(res) == PGRES_COMMAND_OK ? PQTRANS_INTRANS : PQTRANS_INERROR);
		PQclear(res);
		execute(conn, "rollback");
		execute(timed, "begin");
		res = PQexec(timed, "insert into begun select 3 from generate_series(1, 800)");
		failed += PQresultStatus(res) != PGRES_COMMAND_OK;
		PQclear(res);
		while (status(timed) != PQTRANS_IDLE)
			PQclear(PQexec(timed, "rollback")); /* which may be cut short as well */
	}
	expect_value(control, "select count(*) from begun", "0");
	ck_assert_int_gt(cancelled + failed, 0);
	PQfreeCancel(cancel);
	PQfinish(conn);
	PQfinish(timed);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

/* Who has begun and who has not share two servers; a row tells whose transaction it was written in. */
START_TEST(many_clients_share_few_servers) {
	enum { CLIENTS = 24, ROUNDS = 25 };
	struct forebay *forebay = start(_i, "max_size = 2\nacquire_timeout = 30s");
	PGconn *conns[CLIENTS], *control = connect_control();
	unsigned seed = 4711;
	long expected = 0;

	for (int i = 0; i < CLIENTS; i++)
		conns[i] = connect_app(forebay);
	for (int round = 0; round < ROUNDS; round++) {
		int first = rand_r(&seed) % CLIENTS;

		for (int i = 0; i < CLIENTS; i++)
			execute(conns[i], i % 3 ? "begin" : "start transaction"); /* all at once, with two servers */
		for (int k = 0; k < CLIENTS; k++) {
			PGconn *conn = conns[(first + k) % CLIENTS];
			bool keep = rand_r(&seed) % 2;

			if (rand_r(&seed) % 4)
				execute(conn, "insert into begun values (%d)", keep);
			else
				keep = false;
			ck_assert_int_eq(status(conn), PQTRANS_INTRANS);
			execute(conn, keep ? "commit" : "rollback");
			expected += keep;
		}
	}
	ck_assert_int_eq(query_long(control, "select count(*) from begun where i = 1"), expected);
	ck_assert_int_eq(query_long(control, "select count(*) from begun where i <> 1"), 0);
	for (int i = 0; i < CLIENTS; i++)
		PQfinish(conns[i]);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

static TCase *add_case(Suite *suite, const char *name) {
	TCase *tcase = tcase_create(name);

	tcase_set_timeout(tcase, 300);
	suite_add_tcase(suite, tcase);
	return tcase;
}

int main(void) {
	Suite *suite = suite_create("begin");
	TCase *tcase;

	harness_begin(NULL);
	tcase = add_case(suite, "answers");
	LOOP(tcase, every_first_statement_is_answered_as_by_postgresql);
	LOOP(tcase, every_way_to_begin_is_answered_as_by_postgresql);
	LOOP(tcase, transactions_may_be_cut_anywhere);
	tcase = add_case(suite, "random");
	LOOP(tcase, random_transactions_are_answered_as_by_postgresql);
	tcase = add_case(suite, "held");
	LOOP(tcase, transaction_that_does_nothing_holds_no_server);
	LOOP(tcase, only_transaction_pooling_defers_and_only_where_it_may);
	LOOP(tcase, reload_changes_what_comes_next);
	LOOP(tcase, settings_are_the_client_s_own_on_whichever_server);
	LOOP(tcase, pause_lets_it_begin_and_holds_its_first_statement);
	LOOP(tcase, shutdown_lets_transactions_that_have_begun_finish);
	LOOP(tcase, shutdown_waits_for_it_no_longer_than_for_others);
	LOOP(tcase, transaction_without_a_statement_is_idle_all_the_same);
	LOOP(tcase, transaction_without_a_statement_is_no_idle_client_and_no_leak);
	tcase = add_case(suite, "no server");
	LOOP(tcase, refused_setting_fails_the_transaction);
	LOOP(tcase, statement_that_gets_no_server_fails_its_transaction);
	LOOP(tcase, full_queue_fails_the_transaction);
	LOOP(tcase, cancel_while_it_waits_fails_the_transaction);
	LOOP(tcase, database_that_is_away_fails_the_transaction_or_is_waited_for);
	LOOP(tcase, servers_may_go_before_the_first_statement);
	LOOP(tcase, client_may_go_before_the_first_statement);
	tcase = add_case(suite, "fails");
	LOOP(tcase, begin_that_fails_on_the_server_fails_the_statement);
	LOOP(tcase, notice_of_the_begin_is_told);
	LOOP(tcase, begin_that_is_lost_ends_the_connection);
	LOOP(tcase, client_may_go_while_its_begin_is_on_its_way);
	tcase = add_case(suite, "attacks");
	LOOP(tcase, cancels_at_any_moment_let_nothing_run_outside_the_transaction);
	LOOP(tcase, many_clients_share_few_servers);
	return harness_run(suite);
}
