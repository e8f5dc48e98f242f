/*
 * The lexer beside a real MariaDB: random texts full of quotes, backslashes, comments and bytes of other alphabets, in
 * several charsets and SQL modes. Whatever the server has executed of them, the lexer must have seen.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mariadb.h"
#include "mysql/sql.h"

enum { SKIPPED = 77 };
#ifdef __SANITIZE_THREAD__
enum { THREADS_WATCHED = true };
#else
enum { THREADS_WATCHED = false };
#endif

enum { ROUNDS = 600 /* of each charset and mode */, TEXT_MAX = 2000 };

struct text {
	char data[TEXT_MAX];
	size_t len;
};

static size_t pick(size_t n) {
	return (size_t)random() % n;
}

static void add(struct text *t, const char *part) {
	size_t n = strlen(part);
	ck_assert_uint_lt(t->len + n, sizeof t->data);
	memcpy(t->data + t->len, part, n);
	t->len += n;
}

/* What may stand in a string, a name or a comment, and mislead. */
static void add_stuff(struct text *t) {
	static const char *const stuff[] = {"a",  "\\",	  "\\\\", "'",	  "''",	  "\"",	  "`",	      "\\'",  "\\\"", "*/",	"/*",	 "-- ",	 "#",
					    "\n", ",@c:=1", "/*!",  "\x81", "\xbf", "\x95", "\x81\x5c", "\xa1\\", "\xe3\x83\xbd", "\xa0", "1",     "/*!99999 "};
	for (size_t n = pick(5); n > 0; n--)
		add(t, stuff[pick(sizeof stuff / sizeof *stuff)]);
}

static void add_item(struct text *t) {
	switch (pick(12)) {
	case 0:
	case 1:
		add(t, "'");
		add_stuff(t);
		add(t, "'");
		break;
	case 2:
	case 3:
		add(t, "\"");
		add_stuff(t);
		add(t, "\"");
		break;
	case 4:
		add(t, "1 AS `a");
		add_stuff(t);
		add(t, "`");
		break;
	case 5:
		add(t, "2 /* ");
		add_stuff(t);
		add(t, " */");
		break;
	case 6:
		add(t, "3 /*!50000 ");
		add_stuff(t);
		add(t, " */");
		break;
	case 7:
		add(t, "4 /*!99999 ");
		add_stuff(t);
		add(t, " */");
		break;
	case 8:
		add(t, "5 /*M! ");
		add_stuff(t);
		add(t, " */");
		break;
	case 9:
		add(t, pick(2) ? "6 --" : "6 -- ");
		add_stuff(t);
		add(t, "\n");
		break;
	case 10:
		add(t, "7 #");
		add_stuff(t);
		add(t, "\n");
		break;
	default:
		add(t, pick(2) ? "@c:=1" : "@`c` /* */ := 1");
	}
}

static void add_statement(struct text *t) {
	static const char *const shifts[] = {"SET sql_mode = 'NO_BACKSLASH_ESCAPES'", "SET sql_mode = 'ANSI_QUOTES'", "SET NAMES gbk",
					     "SET character_set_client = sjis", "EXECUTE IMMEDIATE 'SET NAMES big5'"};
	if (pick(12) == 0) {
		add(t, shifts[pick(sizeof shifts / sizeof *shifts)]);
		return;
	}
	add(t, "SELECT ");
	for (size_t n = 1 + pick(4); n > 0; n--) {
		add_item(t);
		add(t, n > 1 ? ", " : " ");
	}
	if (pick(6) == 0)
		add(t, pick(2) ? "LIMIT 1.5INTO@c" : "LIMIT 1 INTO @c");
}

/* Runs all statements of it, as far as they succeed. */
static bool run(MYSQL *my, const struct text *t) {
	int more = mysql_real_query(my, t->data, t->len);
	for (; more == 0; more = mysql_next_result(my)) {
		MYSQL_RES *rows = mysql_store_result(my);
		mysql_free_result(rows);
	}
	return more < 0;
}

static const struct {
	const char *name;
	enum sql_charset charset;
} charsets[] = {{"utf8mb4", SQL_CHARSET_PLAIN}, {"latin1", SQL_CHARSET_PLAIN}, {"gbk", SQL_CHARSET_GBK},
		{"big5", SQL_CHARSET_BIG5},	{"sjis", SQL_CHARSET_SJIS},    {"cp932", SQL_CHARSET_SJIS},
		{"euckr", SQL_CHARSET_PLAIN},	{"gb2312", SQL_CHARSET_PLAIN}};

static const struct {
	const char *name;
	unsigned reading;
} modes[] = {{"", 0},
	     {"ANSI_QUOTES", SQL_ANSI_QUOTES},
	     {"NO_BACKSLASH_ESCAPES", SQL_NO_BACKSLASH_ESCAPES},
	     {"ANSI_QUOTES,NO_BACKSLASH_ESCAPES", SQL_ANSI_QUOTES | SQL_NO_BACKSLASH_ESCAPES}};

static void show(const char *what, const struct text *t) {
	fprintf(stderr, "%s: \"", what);
	for (size_t i = 0; i < t->len; i++)
		fprintf(stderr, (unsigned char)t->data[i] < ' ' || (unsigned char)t->data[i] > 126 ? "\\x%02x" : "%c",
			(unsigned char)t->data[i]);
	fputs("\"\n", stderr);
}

START_TEST(what_the_server_executes_the_lexer_has_seen) {
	size_t charset = (size_t)_i % (sizeof charsets / sizeof *charsets), mode = (size_t)_i / (sizeof charsets / sizeof *charsets);
	MYSQL *my = maria_connect(NULL, &(struct maria_login){.port = maria_port(), .flags = CLIENT_MULTI_STATEMENTS});
	int set = 0, right = 0, overseen = 0, too_many = 0;

	srandom((unsigned)_i);
	for (int round = 0; round < ROUNDS; round++) {
		struct text t = {.len = 0};
		for (size_t n = 1 + pick(2); n > 0; n--) {
			add_statement(&t);
			add(&t, n > 1 ? ";" : "");
		}
		maria_execute(my, "SET NAMES %s; SET sql_mode = '%s'; SET @c = NULL", charsets[charset].name, modes[mode].name);
		bool all = run(my, &t);
		bool is_set = maria_long(my, "SELECT @c IS NOT NULL") == 1;
		uint64_t hints = sql_look(t.data, t.len, modes[mode].reading | SQL_MULTI_STATEMENTS, charsets[charset].charset).hints;
		bool seen = hints & SQL_USER_VARIABLE_SET;
		set += is_set;
		right += all;
		too_many += all && seen && !is_set;
		if (is_set && !seen) {
			show("overseen", &t);
			overseen++;
		}
	}
	mysql_close(my);
	ck_assert_int_eq(overseen, 0);
	/* That the texts have taken effect often enough to prove anything, and are not all taken for what they are not. */
	ck_assert_int_gt(set, ROUNDS / 30);
	ck_assert_int_lt(too_many, right / 2);
}
END_TEST

int main(void) {
	if (THREADS_WATCHED) {
		puts("skipped: one thread has nobody to race with");
		return SKIPPED;
	}
	Suite *s = suite_create("my_sql");
	TCase *t = tcase_create("my_sql");
	maria_begin(NULL);
	suite_add_tcase(s, t);
	tcase_add_loop_test(t, what_the_server_executes_the_lexer_has_seen, 0,
			    (int)(sizeof charsets / sizeof *charsets * (sizeof modes / sizeof *modes)));
	return harness_run(s);
}
