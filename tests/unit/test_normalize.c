/* Statements without their constants: however they are written, and wherever they are cut. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "pgsql/normalize.h"

static char out[2048];

static const char *normal(const char *sql, size_t len) {
	size_t n = pg_normalize(sql, len, out, sizeof out);
	ck_assert_uint_eq(n, strlen(out));
	return out;
}

#define EXPECT(sql, expected) ck_assert_str_eq(normal(sql, strlen(sql)), expected)

START_TEST(constants_become_question_marks) {
	EXPECT("select 1", "select ?");
	EXPECT("select 'it''s', 1.5, .5, 1e-10, 0x1F, 1_000, -7", "select ?, ?, ?, ?, ?, ?, -?");
	EXPECT("select E'a\\'b\\\\', e'x', B'01', x'ff', N'n', U&'\\0041', u&'d!0061' uescape '!'",
	       "select ?, ?, ?, ?, ?, ?, ? uescape ?");
	EXPECT("select $$a 'b' c$$, $tag$ $$ $tag $tag$, $é1$x$é1$", "select ?, ?, ?");
	EXPECT("insert into t values (1,'a'),(2,'b')", "insert into t values (?,?),(?,?)");
	EXPECT("select date '2024-01-01', interval'1 day'", "select date ?, interval?");
	EXPECT("select 'a'\n  'b'", "select ? ?");
	EXPECT("", "");
}
END_TEST

START_TEST(names_parameters_and_operators_stay) {
	EXPECT("select a1, t2.b_3, \"Odd \"\"name\"\" 1\", x$1$y from s.t where a=$1 and b = $22",
	       "select a1, t2.b_3, \"Odd \"\"name\"\" 1\", x$1$y from s.t where a=$1 and b = $22");
	EXPECT("select U&\"d\\0061t\"", "select U&\"d\\0061t\"");
	EXPECT("select a[1:2], b->>'k', c::text, d || e, f @> g", "select a[?:?], b->>?, c::text, d || e, f @> g");
	EXPECT("select größe from maße", "select größe from maße");
	EXPECT("call be('x')", "call be(?)");
}
END_TEST

START_TEST(comments_and_white_space_are_one_space) {
	EXPECT("  select\t\n 1 -- 'secret'\n , 2 /* a /* nested 'b */ c */ , 3 ", "select ? , ? , ?");
	EXPECT("/* app='x' */select 1--end", "select ?");
	EXPECT("select 1 /* never ends 'a' ", "select ?");
	EXPECT("select a-b/c*d", "select a-b/c*d");
}
END_TEST

START_TEST(passwords_are_not_shown) {
	EXPECT("ALTER ROLE app PASSWORD 'ZZZ'", "ALTER ROLE app PASSWORD ?");
	EXPECT("alter user app with encrypted password \"ZZZ\" valid until 'infinity'",
	       "alter user app with encrypted password ? valid until ?");
	EXPECT("create role a password/**/\"ZZZ\"", "create role a password ?");
	EXPECT("select password, \"password\" from users where password = 'ZZZ'",
	       "select password, \"password\" from users where password = ?");
	EXPECT("select dblink_connect('host=x password=ZZZ')", "select dblink_connect(?)");
}
END_TEST

/* Where a text can be read in two ways, what follows is not shown. */
START_TEST(what_is_ambiguous_is_left_out) {
	/* standard_conforming_strings = off: the string goes on behind \' */
	EXPECT("select 'a\\' ZZZ', 'ZZZ'", "select ?");
	EXPECT("select 'a\\\\', b", "select ?, b");
	EXPECT("select 'a\\\\\\' ZZZ', 'ZZZ'", "select ?");
	/* in a Shift-JIS client's eyes the backslash is a part of the character */
	EXPECT("select E'\x83\\' , 'ZZZ'", "select ?");
	EXPECT("select 'never ends ZZZ", "select ?");
	EXPECT("select E'never ends ZZZ\\", "select ?");
	EXPECT("select $a$ZZZ $A$", "select ?");
	EXPECT("select \"never ends ZZZ", "select ?");
}
END_TEST

/* Constants here hold nothing but Z, and nothing else does: none may come through, wherever the text is cut. */
static const char *const secrets[] = {
	"select 'ZZZ', 'Z''Z' , E'Z\\'Z\\\\', E'Z''Z', B'ZZ', x'ZZ', N'ZZ', U&'\\ZZZZ', 1",
	"select $$ZZ$$, $t$ZZ$$ZZ$t ZZ$t$, $_1$ZZ$1$_1$, $t$ZZ$T$ZZ$t$",
	"alter role r password 'ZZZ'; alter role r password \"ZZ\"\"ZZ\"",
	"select 'Z' -- ZZZ 'ZZ' \n, 'Z' /* ZZ /* ZZ */ 'Z */ , 'Z' /* Z",
	"select 'Z\\'Z', 'Z', E'Z\\'', 'Z\\\\', 'Z'",
	"select 'Z'\n'Z', E'Z'\n'Z\\'Z', 'Z'",
	"select 'Z\\\\''Z', 'Z\\'''Z', \"a\"\"b\", 'Z'",
	"select 1ZZ, 0xZZ, 1.ZZ, .1ZZ, 1eZ, 1e+1Z, 12$$ZZ$$",
	"select 'Z\x83\\', E'\x83\\'Z', E'ZZ', 'Z'",
	"select $1, $1$$ZZ$$, a$b, a$$b$$c, $2$x$ZZ$x$",
	"copy t from stdin with (delimiter 'Z', null E'\\Z')",
	"do $body$ begin perform 'Z'; execute $q$ZZ$q$; end $body$ language plpgsql",
};
enum { SECRETS = sizeof secrets / sizeof secrets[0] };

START_TEST(no_prefix_shows_a_constant) {
	const char *sql = secrets[_i];
	for (size_t len = 0; len <= strlen(sql); len++) {
		char *exact = malloc(len ? len : 1); /* so that reading beyond it is seen */
		memcpy(exact, sql, len);
		const char *shown = normal(exact, len);
		ck_assert_msg(!strchr(shown, 'Z'), "%.*s\n shows %s", (int)len, sql, shown);
		ck_assert_uint_le(strlen(shown), len);
		free(exact);
	}
}
END_TEST

START_TEST(no_room_is_exceeded) {
	for (int i = 0; i < SECRETS; i++) {
		for (size_t room = 0; room < 40; room++) {
			char *small = malloc(room + 1);
			small[room] = 'x';
			size_t n = pg_normalize(secrets[i], strlen(secrets[i]), small, room);
			ck_assert(room == 0 || n < room);
			ck_assert_int_eq(small[room], 'x');
			free(small);
		}
	}
}
END_TEST

/* Any bytes at all: it ends, stays within bounds, and what is between quotes that nothing disturbs stays hidden. */
START_TEST(any_bytes_are_taken) {
	static const char alphabet[] = "'\"$\\-/*eEuU&bxN a1._\n\x83\xc3;(";
	unsigned state = 12345;
	for (int round = 0; round < 200000; round++) {
		char text[40];
		size_t len = round % sizeof text;
		for (size_t i = 0; i < len; i++) {
			state = state * 1103515245u + 12345u;
			text[i] = round % 7 ? alphabet[(state >> 16) % (sizeof alphabet - 1)] : (char)(state >> 16);
		}
		ck_assert_uint_le(strlen(normal(text, len)), len);
	}
}
END_TEST

static const char *shown(const char *sql, size_t len, bool more, enum statement_text as) {
	struct pg_said said;
	static char text[PG_SAID_MAX + 8];
	pg_said_keep(&said, sql, len, more);
	memset(text, 'x', sizeof text);
	pg_said_show(&said, as, text, sizeof text);
	return text;
}

START_TEST(what_is_cut_says_so) {
	char sql[400];
	memset(sql, 'a', sizeof sql);
	ck_assert_str_eq(shown("select 1", 9, false, STATEMENT_FULL), "select 1");
	ck_assert_str_eq(shown("select 1", 8, false, STATEMENT_FULL), "select 1");
	ck_assert_str_eq(shown("select 1", 8, true, STATEMENT_FULL), "select 1...");
	ck_assert_str_eq(shown("select 1\0\0\7", 11, true, STATEMENT_FULL), "select 1");
	ck_assert_uint_eq(strlen(shown(sql, sizeof sql, false, STATEMENT_FULL)), PG_SAID_MAX + 3);
	ck_assert_uint_eq(strlen(shown(sql, PG_SAID_MAX, false, STATEMENT_NORMALIZED)), PG_SAID_MAX);
	sql[PG_SAID_MAX] = 0; /* just fits */
	ck_assert_uint_eq(strlen(shown(sql, sizeof sql, false, STATEMENT_NORMALIZED)), PG_SAID_MAX);
	memcpy(sql, "alter role a password '", 23);
	ck_assert_str_eq(shown(sql, sizeof sql, false, STATEMENT_NORMALIZED), "alter role a password ?");
	sql[PG_SAID_MAX] = 'a';
	ck_assert_str_eq(shown(sql, sizeof sql, false, STATEMENT_NORMALIZED), "alter role a password ?...");
	ck_assert_str_eq(shown(sql, sizeof sql, false, STATEMENT_NONE), "");
}
END_TEST

START_TEST(what_is_shown_is_utf8_in_one_line) {
	ck_assert_str_eq(shown("select\n\t'a'", 11, false, STATEMENT_FULL), "select  'a'");
	ck_assert_str_eq(shown("gr\xf6\xdf" "e \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", 17, false, STATEMENT_FULL),
			 "gr??e \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
	/* overlong, a surrogate, beyond Unicode, cut */
	ck_assert_str_eq(shown("\xc0\x80 \xed\xa0\x80 \xf5\x80\x80\x80 \xe2\x82", 14, false, STATEMENT_FULL),
			 "?? ??? ???? ??");
}
END_TEST

int main(void) {
	Suite *suite = suite_create("normalize");
	TCase *tcase = tcase_create("normalize");
	tcase_add_test(tcase, constants_become_question_marks);
	tcase_add_test(tcase, names_parameters_and_operators_stay);
	tcase_add_test(tcase, comments_and_white_space_are_one_space);
	tcase_add_test(tcase, passwords_are_not_shown);
	tcase_add_test(tcase, what_is_ambiguous_is_left_out);
	tcase_add_loop_test(tcase, no_prefix_shows_a_constant, 0, SECRETS);
	tcase_add_test(tcase, no_room_is_exceeded);
	tcase_add_test(tcase, any_bytes_are_taken);
	tcase_add_test(tcase, what_is_cut_says_so);
	tcase_add_test(tcase, what_is_shown_is_utf8_in_one_line);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
