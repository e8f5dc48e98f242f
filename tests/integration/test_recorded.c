/* A recorded session: byte for byte the answers that PostgreSQL itself gives, however its messages are glued together. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "query.h"
#include "wire.h"

/* What is recorded: each step's bytes, and how many ReadyForQuery or CopyInResponse answer them. */
enum { MAX_STEPS = 64 };

struct recording {
	struct bytes step[MAX_STEPS];
	int answers[MAX_STEPS];
	int steps;
};

static struct bytes *step(struct recording *r, int answers) {
	ck_assert_int_lt(r->steps, MAX_STEPS);
	r->answers[r->steps] = answers;
	return &r->step[r->steps++];
}

static void record_query(struct recording *r, const char *sql) {
	put_query(step(r, 1), sql);
}

static void record(struct recording *r) {
	struct bytes *b;

	memset(r, 0, sizeof(*r));
	record_query(r, "select 1, 'one'");
	record_query(r, "");
	record_query(r, "select 1; select 2/0; select 3");
	record_query(r, "selec nonsense");
	record_query(r, "do $$ begin raise notice 'note'; end $$");
	record_query(r, "set application_name = 'split'");
	record_query(r, "select repeat('long ', 3000)");
	b = step(r, 1); /* unnamed */
	put_parse(b, "", "select $1::text || '!'");
	put_bind(b, "", "bound");
	put_execute(b);
	put_sync(b);
	b = step(r, 1); /* named, with Describe and Close */
	put_parse(b, "named", "select upper($1)");
	put_message(b, 'D', "cs", 'S', "named");
	put_bind(b, "named", "abc");
	put_execute(b);
	put_bind(b, "named", "def");
	put_execute(b);
	put_sync(b);
	b = step(r, 3); /* a pipeline of three groups, the middle one failing */
	put_bind(b, "named", "g");
	put_execute(b);
	put_sync(b);
	put_parse(b, "failing", "select 1/$1::int");
	put_bind(b, "failing", "0");
	put_execute(b);
	put_parse(b, "skipped", "select 2");
	put_sync(b);
	put_bind(b, "named", "h");
	put_execute(b);
	put_message(b, 'C', "cs", 'S', "named");
	put_sync(b);
	b = step(r, 1);
	put_bind(b, "skipped", NULL);
	put_execute(b);
	put_sync(b);
	b = step(r, 1);
	put_message(b, 'C', "cs", 'S', "failing");
	put_sync(b);
	record_query(r, "begin");
	b = step(r, 1); /* a portal in pieces */
	put_parse(b, "", "select i from generate_series(1, 7) i");
	put_message(b, 'B', "sshhh", "portal", "", 0, 0, 0);
	put_message(b, 'E', "si", "portal", 3);
	put_message(b, 'E', "si", "portal", 0);
	put_message(b, 'C', "cs", 'P', "portal");
	put_sync(b);
	record_query(r, "create temp table split_t(a int, b text)");
	record_query(r, "copy split_t from stdin");
	b = step(r, 1);
	put_message(b, 'd', "b", (size_t)8, "1\tabc\n2\t");
	put_message(b, 'd', "b", (size_t)4, "def\n");
	put_message(b, 'd', "b", (size_t)0, "");
	put_message(b, 'c', "");
	record_query(r, "copy split_t to stdout");
	record_query(r, "copy split_t from stdin");
	b = step(r, 1);
	put_message(b, 'd', "b", (size_t)7, "x\tbad\n1");
	put_message(b, 'd', "b", (size_t)4, "\ty\n\n");
	put_message(b, 'c', "");
	record_query(r, "rollback");
	record_query(r, "begin; create temp table split_t(a int, b text)");
	record_query(r, "copy split_t from stdin");
	b = step(r, 1);
	put_message(b, 'd', "b", (size_t)4, "1\ta\n");
	put_message(b, 'f', "s", "given up");
	record_query(r, "rollback");
	b = step(r, 1); /* COPY OUT by the extended protocol */
	put_parse(b, "", "copy (select 'copied' from generate_series(1, 3)) to stdout");
	put_bind(b, "", NULL);
	put_message(b, 'E', "si", "", 0);
	put_sync(b);
	b = step(r, 1); /* a function call: pg_catalog.int4pl */
	put_message(b, 'F', "ihhhvvh", 177, 1, 0, 2, "40", "2", 0);
	record_query(r, "show application_name");
}

static void recording_free(struct recording *r) {
	for (int i = 0; i < r->steps; i++)
		bytes_free(&r->step[i]);
}

/* Keeps what comes back, up to `answers` ReadyForQuery or CopyInResponse. */
static void collect(struct raw *raw, int answers, struct bytes *out) {
	while (answers > 0) {
		struct message m;
		enum raw_status status = raw_read(raw, &m);

		ck_assert_msg(status == RAW_MESSAGE, "%s", status == RAW_CLOSED ? "closed" : "no answer in time");
		bytes_add(out, &m.type, 1);
		bytes_add(out, &m.len, 4);
		bytes_add(out, m.body, m.len);
		if (m.type == 'Z' || m.type == 'G')
			answers--;
	}
}

static struct raw login(const struct forebay *forebay) {
	struct raw raw = raw_connect(forebay);
	struct bytes b = {0};

	put_startup(&b, 3 << 16, "user", forebay->direct ? "trusted" : "app", "database", "app", NULL);
	raw_send_bytes(&raw, &b);
	raw_until(&raw, 'Z');
	return raw;
}

/* Plays the recording, waiting for the answers of each step before the next. */
static void play(const struct forebay *forebay, const struct recording *r, struct bytes *out) {
	struct raw raw = login(forebay);

	for (int i = 0; i < r->steps; i++) {
		ck_assert(raw_send(&raw, r->step[i].at, r->step[i].len));
		collect(&raw, r->answers[i], out);
	}
	raw_close(&raw);
}

static void compare(const struct bytes *expected, const struct bytes *got, const char *how, size_t size) {
	size_t same = 0, len = expected->len < got->len ? expected->len : got->len;

	while (same < len && expected->at[same] == got->at[same])
		same++;
	ck_assert_msg(same == len && expected->len == got->len, "%s %zu: the answers differ at byte %zu of %zu (got %zu)",
		      how, size, same, expected->len, got->len);
}

static struct forebay *start(int i) {
	return forebay_start(&(struct forebay_setup){
		.workers = WORKERS(i), .listener = "auth = trust", .pool = "max_size = 1"});
}

/* PostgreSQL's own answers, the measure of all. They hold no process ids and no times. */
static void play_on_postgres(const struct recording *r, struct bytes *out) {
	struct forebay direct = {.port = harness_postgres_port(), .direct = true};

	play(&direct, r, out);
}

START_TEST(answers_are_postgresql_s_own) {
	struct forebay *forebay = start(_i);
	struct recording r;
	struct bytes expected = {0}, got = {0};

	record(&r);
	play_on_postgres(&r, &expected);
	play(forebay, &r, &got);
	compare(&expected, &got, "step by step", 0);
	bytes_free(&expected);
	bytes_free(&got);
	recording_free(&r);
	forebay_stop(forebay);
}
END_TEST

/* Sends the start-up message, all steps and Terminate in pieces of `size` bytes without waiting for anything; returns
 * what comes back behind the welcome. */
static void play_glued(const struct forebay *forebay, const struct recording *r, size_t size, struct bytes *out) {
	struct raw raw = raw_connect(forebay);
	struct bytes all = {0};
	int answers = 0;

	put_startup(&all, 3 << 16, "user", forebay->direct ? "trusted" : "app", "database", "app", NULL);
	for (int i = 0; i < r->steps; i++) {
		bytes_add(&all, r->step[i].at, r->step[i].len);
		answers += r->answers[i];
	}
	for (size_t at = 0; at < all.len; at += size)
		ck_assert(raw_send(&raw, all.at + at, all.len - at < size ? all.len - at : size));
	raw_until(&raw, 'Z');
	collect(&raw, answers, out);
	bytes_free(&all);
	raw_close(&raw);
}

START_TEST(everything_glued_together) {
	static const size_t sizes[] = {SIZE_MAX / 2, 1, 2, 3, 5, 7, 64, 1000, 4096};
	struct forebay *forebay = start(_i);
	struct recording r;
	struct bytes expected = {0};

	record(&r);
	play_on_postgres(&r, &expected);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct bytes got = {0};

		play_glued(forebay, &r, sizes[i], &got);
		compare(&expected, &got, "glued, in pieces of", sizes[i]);
		bytes_free(&got);
	}
	bytes_free(&expected);
	recording_free(&r);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("recorded");
	TCase *tcase = tcase_create("recorded");

	harness_begin(NULL);
	tcase_set_timeout(tcase, 180);
	suite_add_tcase(suite, tcase);
	LOOP(tcase, answers_are_postgresql_s_own);
	LOOP(tcase, everything_glued_together);
	return harness_run(suite);
}
