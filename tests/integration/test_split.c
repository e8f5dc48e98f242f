/*
 * TCP knows no messages: however the bytes of a session are cut into sends, or put together, the same answers come
 * back. From the client's side with PostgreSQL behind, and from the backend's side with a scripted one.
 */
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/socket.h>

#include "played.h"
#include "query.h"

static void add_simple_queries(struct session *s) {
	query_and_wait(s, "select 1");
	query_and_wait(s, "select 1; select 'two' as b; select 3 where false");
	query_and_wait(s, "");
	query_and_wait(s, "select nothing");
	query_and_wait(s, "select 1; select 1/0; select 2");
	query_and_wait(s, "do $$begin raise notice 'hear'; end$$");
	query_and_wait(s, "set application_name = 'split'");
	query_and_wait(s, "show application_name");
	query_and_wait(s, "reset application_name");
	query_and_wait(s, "begin");
	query_and_wait(s, "insert into split values (7)");
	query_and_wait(s, "select 1/0");
	query_and_wait(s, "select 1");
	query_and_wait(s, "rollback");
	query_and_wait(s, "select repeat('x', 200000)");
	/* int4pl(40, 2) */
	put_message(&s->out, 'F', "ihhhiiiih", 177, 1, 1, 2, 4, 40, 4, 2, 1);
	await_answer(s, 'Z', 1);
}

static void add_extended_queries(struct session *s) {
	put_batch(s, "select $1::int + 1", "41");
	sync_and_wait(s);
	put_parse(&s->out, "s1", "select $1::text || 'x'");
	put_message(&s->out, 'D', "cs", 'S', "s1");
	sync_and_wait(s);
	put_bind(&s->out, "s1", "one");
	put_execute(&s->out);
	put_bind(&s->out, "s1", "two");
	put_execute(&s->out);
	sync_and_wait(s);
	put_message(&s->out, 'C', "cs", 'S', "s1");
	sync_and_wait(s);
	put_bind(&s->out, "s1", "gone");
	put_execute(&s->out);
	sync_and_wait(s);
	put_batch(s, "select 'flushed'", NULL);
	put_message(&s->out, 'H', "");
	await_answer(s, 'C', 1);
	sync_and_wait(s);
	/* A pipeline of three, the second of which fails in its midst. */
	put_parse(&s->out, "s2", "select 10 / $1::int");
	put_bind(&s->out, "s2", "5");
	put_execute(&s->out);
	put_sync(&s->out);
	put_bind(&s->out, "s2", "2");
	put_execute(&s->out);
	put_bind(&s->out, "s2", "no number");
	put_execute(&s->out);
	put_batch(s, "select 'skipped'", NULL);
	put_sync(&s->out);
	put_bind(&s->out, "s2", "1");
	put_execute(&s->out);
	put_sync(&s->out);
	await_answer(s, 'Z', 3);
	/* A portal that is read in parts. */
	query_and_wait(s, "begin");
	put_parse(&s->out, "", "select generate_series(1, 3)");
	put_message(&s->out, 'B', "sshhh", "p1", "", 0, 0, 0);
	put_message(&s->out, 'E', "si", "p1", 2);
	put_message(&s->out, 'E', "si", "p1", 2);
	put_message(&s->out, 'C', "cs", 'P', "p1");
	sync_and_wait(s);
	query_and_wait(s, "commit");
	put_batch(s, "select repeat('y', 200000)", NULL);
	sync_and_wait(s);
	put_batch(s, "", NULL);
	sync_and_wait(s);
	put_message(&s->out, 'H', "");
	sync_and_wait(s);
}

static void add_copies(struct session *s) {
	query_and_wait(s, "copy (select generate_series(1, 3)) to stdout");
	put_batch(s, "copy (select 4) to stdout", NULL);
	sync_and_wait(s);
	put_query(&s->out, "copy split from stdin");
	await_answer(s, 'G', 1);
	copy_data(s, "1\n2\n");
	copy_data(s, "3\n");
	put_message(&s->out, 'c', "");
	await_answer(s, 'Z', 1);
	/* As libpq: the Sync behind Execute is ignored, the one behind CopyDone counts. */
	put_batch(s, "copy split from stdin", NULL);
	put_sync(&s->out);
	await_answer(s, 'G', 1);
	copy_data(s, "4\n");
	put_message(&s->out, 'c', "");
	sync_and_wait(s);
	query_and_wait(s, "select count(*), max(i) from split");
	query_and_wait(s, "delete from split");
	/* Copies that fail: by the client's will, by what they say, and the same in the extended query. */
	put_query(&s->out, "copy split from stdin");
	await_answer(s, 'G', 1);
	copy_data(s, "5\n");
	put_message(&s->out, 'f', "s", "no more");
	await_answer(s, 'Z', 1);
	put_query(&s->out, "copy split from stdin");
	await_answer(s, 'G', 1);
	copy_data(s, "nonsense\n");
	copy_data(s, "6\n");
	put_message(&s->out, 'c', "");
	await_answer(s, 'Z', 1);
	put_batch(s, "copy split from stdin", NULL);
	put_sync(&s->out);
	await_answer(s, 'G', 1);
	copy_data(s, "nonsense\n");
	put_message(&s->out, 'c', "");
	sync_and_wait(s);
	query_and_wait(s, "select count(*) from split");
}

static struct forebay *start(int i, const char *listener, const char *pool) {
	PGconn *control = connect_control();

	execute(control, "drop table if exists split; create unlogged table split(i int); grant all on split to public");
	PQfinish(control);
	return forebay_start(&(struct forebay_setup){
		.workers = WORKERS(i), .listener = listener, .pool = pool, .process = "log_connections = false"});
}

START_TEST(client_s_session_gets_the_same_answers_however_it_is_cut) {
	struct forebay *forebay = start(_i, "auth = md5", "max_size = 2");
	struct session s = {0};
	struct bytes expected;

	if (harness_direct())
		return;
	add_simple_queries(&s);
	add_extended_queries(&s);
	add_copies(&s);
	add_end(&s);
	expected = play_on_postgres(&s);
#define UNIX probe_unix(forebay->socket_dir, forebay->port)
	play_and_compare(UNIX, &s, ONE_BY_ONE, 0, &expected, "message by message");
	play_and_compare(probe_tcp(forebay->port), &s, ONE_BY_ONE, 0, &expected, "message by message, TCP");
	play_and_compare(UNIX, &s, TOGETHER, 0, &expected, "glued between waits");
	play_and_compare(UNIX, &s, GLUED, 0, &expected, "all glued");
	play_and_compare(probe_tcp(forebay->port), &s, GLUED, 0, &expected, "all glued, TCP");
	play_and_compare(UNIX, &s, EACH_BYTE, 0, &expected, "byte by byte");
	play_and_compare(probe_tcp(forebay->port), &s, EACH_BYTE, 0, &expected, "byte by byte, TCP");
	/* Run k cuts each message (each piece) at its byte k, the shorter ones round and round: all positions of all. */
	for (size_t cut = 1; cut < longest_piece(&s, false); cut++)
		play_and_compare(UNIX, &s, EACH_CUT, cut, &expected, "each message cut");
	for (size_t cut = 1; cut < longest_piece(&s, true); cut++)
		play_and_compare(UNIX, &s, TOGETHER_CUT, cut, &expected, "glued between waits and cut");
	for (size_t cut = 1 + (size_t)_i; cut < s.out.len; cut += 15)
		play_and_compare(UNIX, &s, GLUED_CUT, cut, &expected, "all glued and cut");
	bytes_free(&expected);
	session_free(&s);
	forebay_stop(forebay);
}
END_TEST

/* Terminate in one send with a query: the answer is still told in whole, to a slow reader, too. */
START_TEST(goodbye_that_comes_early_cuts_no_answer_short) {
	struct forebay *forebay = start(_i, "auth = trust", "max_size = 2");
	struct bytes b = {0};
	struct probe probe;
	char buffer[8192];
	size_t total = 0;
	ssize_t n;

	if (harness_direct())
		return;
	probe = probe_unix(forebay->socket_dir, forebay->port);
	ck_assert(probe_login(&probe, "app", 0));
	put_query(&b, "select repeat('x', 3000000)");
	put_message(&b, 'X', "");
	ck_assert(probe_send_bytes(&probe, &b));
	while ((n = recv(probe.fd, buffer, sizeof(buffer), 0)) > 0) {
		total += (size_t)n;
		harness_pause_ms(1); /* being slow is the point: what is on its way piles up in Forebay */
	}
	/* RowDescription, DataRow, CommandComplete, ReadyForQuery. */
	ck_assert_uint_eq(total, 32 + 5 + 6 + 3000000 + 14 + 6);
	probe_close(&probe);
	forebay_stop(forebay);
}
END_TEST

START_TEST(client_s_large_messages_may_be_cut_anywhere) {
	static const size_t sizes[] = {1000, 16 * 1024 - 20, 16 * 1024 + 20, 70000};
	struct forebay *forebay = start(_i, "auth = trust", "max_size = 2");
	char *text = malloc(80000), *sql = malloc(80100);
	unsigned seed = 4711 + (unsigned)_i;

	if (harness_direct())
		return;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct session s = {0};
		struct bytes expected;
		size_t cuts[80], n = 0;

		memset(text, '1', sizes[i]);
		text[sizes[i]] = 0;
		sprintf(sql, "select length('%s')", text);
		query_and_wait(&s, sql);
		put_batch(&s, sql, NULL);
		put_batch(&s, "select length($1::text)", text);
		put_parse(&s.out, "l", sql);
		put_bind(&s.out, "l", NULL);
		put_execute(&s.out);
		sync_and_wait(&s);
		put_query(&s.out, "copy split from stdin with (format csv)");
		await_answer(&s, 'G', 1);
		memset(text, '\n', sizes[i]);
		for (size_t at = 0; at + 2 < sizes[i]; at += 2)
			text[at] = '1';
		copy_data(&s, text);
		put_message(&s.out, 'c', "");
		await_answer(&s, 'Z', 1);
		query_and_wait(&s, "delete from split where i = 1");
		query_and_wait(&s, "truncate split");
		add_end(&s);
		expected = play_on_postgres(&s);
		for (size_t k = 1; k <= 8; k++) {
			cuts[n++] = k;
			cuts[n++] = sizes[i] + k;
		}
		for (size_t k = 0; k < 6; k++)
			cuts[n++] = 16 * 1024 - 3 + k;
		while (n < 30)
			cuts[n++] = 1 + (size_t)rand_r(&seed) % s.out.len;
		play_and_compare(UNIX, &s, ONE_BY_ONE, 0, &expected, "large messages");
		play_and_compare(UNIX, &s, GLUED, 0, &expected, "large messages, glued");
		for (size_t k = 0; k < n; k++) {
			play_and_compare(UNIX, &s, k % 3 ? EACH_CUT : GLUED_CUT, cuts[k], &expected,
					 k % 3 ? "large messages, each cut" : "large messages, glued and cut");
		}
		bytes_free(&expected);
		session_free(&s);
	}
	free(text);
	free(sql);
	forebay_stop(forebay);
}
END_TEST

/* The messages of each login are sent in two, cut at every byte; and byte by byte. */
static void log_in_cut(const struct forebay *forebay, size_t longest) {
	struct session s = {0};
	struct bytes expected, welcome = {0}, got, got_welcome = {0};

	query_and_wait(&s, "select 'in'");
	add_end(&s);
	expected = play(UNIX, "app", &s, ONE_BY_ONE, 0, &welcome);
	for (size_t cut = 1; cut < longest; cut++) {
		got = play(UNIX, "app", &s, EACH_CUT, cut, &got_welcome);
		expect_same(&got_welcome, &welcome, "login", cut);
		expect_same(&got, &expected, "first query", cut);
		bytes_free(&got);
	}
	bytes_free(&expected);
	bytes_free(&welcome);
	bytes_free(&got_welcome);
	session_free(&s);
}

START_TEST(login_may_be_cut_anywhere) {
	static const char *const methods[] = {"trust", "password", "md5", "scram-sha-256"};

	if (harness_direct())
		return;
	for (int i = 0; i < 4; i++) {
		char listener[40];
		struct forebay *forebay;

		snprintf(listener, sizeof(listener), "auth = %s", methods[i]);
		forebay = start(_i, listener, "max_size = 2");
		log_in_cut(forebay, i == 3 ? 135 : i == 2 ? 42 : 33);
		forebay_stop(forebay);
	}
}
END_TEST

START_TEST(startup_bytes_may_come_one_by_one) {
	struct forebay *forebay = start(_i, "auth = trust", "max_size = 2");
	struct bytes b = {0};

	if (harness_direct())
		return;
	/* The encryption requests, and the start-up message right behind the one that is answered N. */
	for (int gss = 0; gss < 2; gss++) {
		struct probe probe = UNIX;
		char answer;

		put_message(&b, 0, "i", gss ? 80877104 : 80877103);
		for (size_t i = 0; i < b.len; i++) {
			ck_assert(probe_send(&probe, b.at + i, 1));
			if (i + 1 < b.len) /* the wait takes what comes: the answer is for recv() */
				probe_await_read(&probe);
		}
		ck_assert_int_eq(recv(probe.fd, &answer, 1, 0), 1);
		ck_assert_int_eq(answer, 'N'); /* no TLS on a Unix socket */
		b.len = 0;
		put_startup(&b, 3 << 16, "user", "app", "database", "app", NULL);
		for (size_t i = 0; i < b.len; i++) {
			ck_assert(probe_send(&probe, b.at + i, 1));
			probe_await_read(&probe);
		}
		ck_assert(probe_await(&probe, 'Z', 1));
		probe_close(&probe);
		b.len = 0;
	}
	bytes_free(&b);
	forebay_stop(forebay);
}
END_TEST

/* ---- the other direction ---- */

/* What the scripted backends' threads and the test share. */
struct script {
	_Atomic int manner;    /* GLUED, GLUED_CUT or EACH_BYTE */
	_Atomic size_t cut;
	_Atomic bool one_query; /* close when the first was answered */
	_Atomic bool scram;
	_Atomic int gone;      /* connections closed after their one query */
};

static bool send_and_await_read(int fd, const void *data, size_t len) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	if (!serve_send(fd, data, len))
		return false;
	while (unread_by_peer(fd) > 0 && harness_now_ms() < deadline)
		sched_yield();
	return true;
}

/* Sends and empties the bytes. */
static bool deliver_answer(int fd, struct script *script, struct bytes *b) {
	size_t cut = script->cut;
	bool ok = true;

	if (script->manner == EACH_BYTE && b->len < 5000) {
		for (size_t i = 0; ok && i < b->len; i++)
			ok = send_and_await_read(fd, b->at + i, 1);
	} else if (script->manner == GLUED_CUT && b->len > 1 && cut > 0) {
		cut = 1 + (cut - 1) % (b->len - 1);
		ok = send_and_await_read(fd, b->at, cut) && serve_send(fd, b->at + cut, b->len - cut);
	} else {
		ok = serve_send(fd, b->at, b->len);
	}
	b->len = 0;
	return ok;
}

static void put_rows(struct bytes *b) {
	put_message(b, 'D', "hv", 1, "first");
	put_message(b, 'D', "hv", 1, NULL);
	put_message(b, 'D', "hv", 1, "");
}

static void put_columns(struct bytes *b) {
	put_message(b, 'T', "hsihihih", 1, "column", 0, 0, 25, -1, -1, 0);
}

static void put_failure(struct bytes *b, const char *message) {
	put_message(b, 'E', "cscscscsc", 'S', "ERROR", 'V', "ERROR", 'C', "22012", 'M', message, 0);
}

static void put_large_row(struct bytes *b) {
	char *large = malloc(200001);

	memset(large, 'z', 200000);
	large[200000] = 0;
	put_message(b, 'D', "hv", 1, large);
	free(large);
}

/* The answer to a simple query, without ReadyForQuery. False: copy data is to come first. */
static bool put_query_answer(struct bytes *b, const char *sql) {
	if (strcmp(sql, "rows") == 0) {
		put_columns(b);
		put_rows(b);
		put_message(b, 'C', "s", "SELECT 3");
	} else if (strcmp(sql, "several") == 0) {
		put_message(b, 'N', "cscscscsc", 'S', "NOTICE", 'V', "NOTICE", 'C', "00000", 'M', "hear", 0);
		put_message(b, 'S', "ss", "TimeZone", "Etc/UTC");
		put_columns(b);
		put_message(b, 'C', "s", "SELECT 0");
		put_message(b, 'A', "iss", 4711, "channel", "payload");
		put_message(b, 'I', "");
		put_message(b, 'C', "s", "INSERT 0 1");
		put_failure(b, "the last of several");
	} else if (strcmp(sql, "large") == 0) {
		put_columns(b);
		put_large_row(b);
		put_message(b, 'C', "s", "SELECT 1");
	} else if (strcmp(sql, "out") == 0) {
		put_message(b, 'H', "chhh", 0, 2, 0, 0);
		put_message(b, 'd', "b", (size_t)4, "1\t2\n");
		put_message(b, 'd', "b", (size_t)0, "");
		put_message(b, 'c', "");
		put_message(b, 'C', "s", "COPY 1");
	} else if (strcmp(sql, "in") == 0) {
		put_message(b, 'G', "chh", 0, 1, 0);
		return false;
	} else {
		put_message(b, 'C', "s", "SET");
	}
	return true;
}

static void put_ready(struct bytes *b) {
	put_message(b, 'Z', "c", 'I');
}

static bool serve_login(int fd, struct script *script, struct bytes *body, struct bytes *b) {
	struct scram_talk talk = {0};
	char type, text[300];

	if (!serve_read(fd, true, &type, body))
		return false;
	if (script->scram) {
		put_message(b, 'R', "isc", 10, "SCRAM-SHA-256", 0);
		if (!deliver_answer(fd, script, b) || !serve_read(fd, false, &type, body) || body->len < 20 ||
		    !scripted_scram_first(&talk, (const char *)body->at + 18, text))
			return false;
		put_message(b, 'R', "ib", 11, strlen(text), text);
		if (!deliver_answer(fd, script, b) || !serve_read(fd, false, &type, body) ||
		    !scripted_scram_final(&talk, (const char *)body->at, "app-secret", text))
			return false;
		put_message(b, 'R', "ib", 12, strlen(text), text);
	}
	put_welcome(b);
	return deliver_answer(fd, script, b);
}

struct extended {
	bool failed, fails, unnamed_fails;
};

/* An extended message's answer. True: it is time to deliver. */
static bool put_extended_answer(struct bytes *b, char type, const struct bytes *body, struct extended *state) {
	const char *name = (const char *)body->at;

	if (type == 'S') {
		state->failed = false;
		put_ready(b);
		return true;
	}
	if (state->failed)
		return false;
	switch (type) {
	case 'P':
		if (!name[0])
			state->unnamed_fails = strcmp(name + 1, "fail") == 0;
		put_message(b, '1', "");
		return false;
	case 'B':
		name += strlen(name) + 1;
		state->fails = !name[0] && state->unnamed_fails;
		put_message(b, '2', "");
		return false;
	case 'C':
		put_message(b, '3', "");
		return false;
	case 'D':
		if (body->at[0] == 'S')
			put_message(b, 't', "hi", 1, 25);
		if (body->at[0] == 'P' && state->fails)
			put_message(b, 'n', "");
		else
			put_columns(b);
		return false;
	case 'E':
		put_rows(b);
		if (state->fails) {
			state->failed = true;
			put_failure(b, "it had to fail");
		} else if (body->at[body->len - 1] != 0) { /* a limit */
			put_message(b, 's', "");
		} else {
			put_message(b, 'C', "s", "SELECT 3");
		}
		return false;
	default:
		return type == 'H';
	}
}

static void serve(int fd, void *context) {
	struct script *script = context;
	struct bytes body = {0}, b = {0};
	struct extended state = {0};
	bool copying = false, done = false;
	char type;

	if (!serve_login(fd, script, &body, &b))
		goto out;
	while (!done && serve_read(fd, false, &type, &body) && type != 'X') {
		bool hidden = type == 'Q' && strncmp((const char *)body.at, "SET", 3) == 0;

		if (type == 'Q' || type == 'F') {
			copying = type == 'Q' && !put_query_answer(&b, (const char *)body.at);
			if (type == 'F')
				put_message(&b, 'V', "v", "called");
			if (!copying)
				put_ready(&b);
		} else if (copying && type == 'd') {
			continue;
		} else if (copying && (type == 'c' || type == 'f')) {
			copying = false;
			put_message(&b, 'C', "s", "COPY 1");
			put_ready(&b);
		} else if (!put_extended_answer(&b, type, &body, &state)) {
			continue;
		}
		if (!deliver_answer(fd, script, &b))
			break;
		done = script->one_query && !hidden;
	}
	if (done) {
		shutdown(fd, SHUT_WR);
		while (serve_read(fd, false, &type, &body))
			;
		atomic_fetch_add(&script->gone, 1);
	}
out:
	bytes_free(&body);
	bytes_free(&b);
}

static void put_backend_session(struct session *s, bool large) {
	query_and_wait(s, "rows");
	query_and_wait(s, "several");
	query_and_wait(s, "out");
	put_query(&s->out, "in");
	await_answer(s, 'G', 1);
	copy_data(s, "line\n");
	put_message(&s->out, 'c', "");
	await_answer(s, 'Z', 1);
	if (large)
		query_and_wait(s, "large");
	put_batch(s, "one", NULL);
	put_message(&s->out, 'E', "si", "", 7);
	put_message(&s->out, 'H', "");
	put_batch(s, "fail", NULL);
	sync_and_wait(s);
	put_parse(&s->out, "named", "two");
	put_message(&s->out, 'D', "cs", 'S', "named");
	put_bind(&s->out, "named", "x");
	put_execute(&s->out);
	put_message(&s->out, 'C', "cs", 'P', "");
	sync_and_wait(s);
	put_message(&s->out, 'C', "cs", 'S', "named");
	sync_and_wait(s);
	put_message(&s->out, 'F', "ihhh", 1, 0, 0, 0);
	await_answer(s, 'Z', 1);
	add_end(s);
}

static struct forebay *start_before(int i, const struct unix_backend *backend) {
	char pool[400];

	snprintf(pool, sizeof(pool), "hosts = %s\nmax_size = 1\nmonitor_interval = 0\nuser = app\npassword = app-secret\n", backend->dir);
	return start(i, "auth = trust", pool);
}

START_TEST(backend_s_answers_arrive_the_same_however_they_are_cut) {
	static struct script script;
	struct unix_backend *backend;
	struct forebay *forebay;
	struct bytes expected;
	unsigned seed = 815 + (unsigned)_i;

	if (harness_direct())
		return;
	script.manner = GLUED;
	backend = unix_backend_start(serve, &script);
	forebay = start_before(_i, backend);
	for (int large = 0; large < 2; large++) {
		struct session s = {0};

		put_backend_session(&s, large);
		script.manner = GLUED;
		/* From the backend itself, without Forebay. */
		expected = play(probe_unix(backend->dir, 5432), "app", &s, ONE_BY_ONE, 0, NULL);
		play_and_compare(UNIX, &s, ONE_BY_ONE, 0, &expected, "answers in one piece");
		play_and_compare(UNIX, &s, GLUED, 0, &expected, "answers to a glued session");
		script.manner = EACH_BYTE;
		play_and_compare(UNIX, &s, ONE_BY_ONE, 0, &expected, "answers byte by byte");
		script.manner = GLUED_CUT;
		for (size_t cut = 1; cut < 320; cut++) {
			script.cut = large ? 1 + (size_t)rand_r(&seed) % 200000 : cut;
			play_and_compare(UNIX, &s, ONE_BY_ONE, 0, &expected, "answers cut");
			cut += large ? 3 : 0;
		}
		bytes_free(&expected);
		session_free(&s);
	}
	forebay_stop(forebay);
	unix_backend_stop(backend);
}
END_TEST

START_TEST(backend_s_login_may_be_cut_anywhere) {
	static struct script script;
	struct unix_backend *backend;
	struct bytes expected = {0};
	int logins = 0;

	if (harness_direct())
		return;
	script.one_query = true;
	backend = unix_backend_start(serve, &script);
	for (int scram = 0; scram < 2; scram++) {
		struct session s = {0};
		struct forebay *forebay;

		script.scram = scram;
		query_and_wait(&s, "rows");
		add_end(&s);
		forebay = start_before(_i, backend);
		for (size_t cut = 0; cut < (scram ? 120 : 470); cut++) {
			struct bytes got;
			long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

			script.cut = cut;
			script.manner = cut == 0 ? GLUED : cut == 1 ? EACH_BYTE : GLUED_CUT;
			got = play(UNIX, "app", &s, ONE_BY_ONE, 0, NULL);
			if (!expected.at)
				expected = got;
			else
				expect_same(&got, &expected, "login at the backend", cut);
			if (got.at != expected.at)
				bytes_free(&got);
			/* So that the next one needs a new login. */
			logins++;
			while (script.gone < logins) {
				ck_assert_msg(harness_now_ms() < deadline, "a server that has ended is not closed");
				harness_pause_ms(1);
			}
		}
		forebay_stop(forebay);
		session_free(&s);
	}
	bytes_free(&expected);
	unix_backend_stop(backend);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("split");
	TCase *tcase = tcase_create("split");

	harness_begin(NULL);
	tcase_set_timeout(tcase, 180);
	suite_add_tcase(suite, tcase);
	LOOP(tcase, client_s_session_gets_the_same_answers_however_it_is_cut);
	LOOP(tcase, goodbye_that_comes_early_cuts_no_answer_short);
	LOOP(tcase, client_s_large_messages_may_be_cut_anywhere);
	LOOP(tcase, login_may_be_cut_anywhere);
	LOOP(tcase, startup_bytes_may_come_one_by_one);
	LOOP(tcase, backend_s_answers_arrive_the_same_however_they_are_cut);
	LOOP(tcase, backend_s_login_may_be_cut_anywhere);
	return harness_run(suite);
}
