/* Which statements end a failed transaction. */
#include <check.h>
#include <string.h>

#include "pgsql/aborted.h"

static const struct {
	const char *sql;
	enum pg_exit kind;
	const char *rest; /* NULL: none */
} cases[] = {
	{"rollback", PG_EXIT_ROLLBACK, NULL},
	{"  ROLLBACK ; ; ", PG_EXIT_ROLLBACK, NULL},
	{"Abort Work", PG_EXIT_ROLLBACK, NULL},
	{"rollback transaction and no chain", PG_EXIT_ROLLBACK, NULL},
	{"-- a comment\nrollback -- another", PG_EXIT_ROLLBACK, NULL},
	{"/* a /* nested */ one */rollback/**/work", PG_EXIT_ROLLBACK, NULL},
	{";;rollback;begin", PG_EXIT_ROLLBACK, "begin"},
	{"rollback; /* x */ select ';'", PG_EXIT_ROLLBACK, "select ';'"},
	{"commit", PG_EXIT_COMMIT, NULL},
	{"end transaction;select 1", PG_EXIT_COMMIT, "select 1"},
	{"prepare transaction 'it''s'", PG_EXIT_COMMIT, NULL},
	{"rollback and chain", PG_EXIT_CHAIN, NULL},
	{"commit work and chain; select 1", PG_EXIT_CHAIN, "select 1"},
	{"rollback to s", PG_EXIT_SAVEPOINT, NULL},
	{"rollback work to savepoint s", PG_EXIT_SAVEPOINT, NULL},
	{"", PG_EXIT_EMPTY, NULL},
	{" ; -- nothing", PG_EXIT_EMPTY, NULL},
	{"select 1; rollback", PG_EXIT_NONE, NULL},
	{"rollbacks", PG_EXIT_NONE, NULL},
	{"rollback_", PG_EXIT_NONE, NULL},
	{"rollback\xc3\xa4", PG_EXIT_NONE, NULL},
	{"rollback prepared 'x'", PG_EXIT_NONE, NULL},
	{"commit prepared 'x'", PG_EXIT_NONE, NULL},
	{"rollback and", PG_EXIT_NONE, NULL},
	{"rollback nonsense", PG_EXIT_NONE, NULL},
	{"prepare transaction", PG_EXIT_NONE, NULL},
	{"prepare transaction 'x", PG_EXIT_NONE, NULL},
	{"prepare s as select 1", PG_EXIT_NONE, NULL},
	{"/* rollback", PG_EXIT_NONE, NULL},
	{"/*/ rollback", PG_EXIT_NONE, NULL},
	{"abort to s", PG_EXIT_NONE, NULL},
};

START_TEST(statement_is_known_by_its_words) {
	size_t rest;
	const char *sql = cases[_i].sql;

	ck_assert_msg(pg_sql_exit(sql, strlen(sql), &rest) == cases[_i].kind, "%s", sql);
	if (cases[_i].rest)
		ck_assert_str_eq(sql + rest, cases[_i].rest);
	else
		ck_assert_uint_eq(rest, 0);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("aborted");
	TCase *tcase = tcase_create("aborted");

	suite_add_tcase(suite, tcase);
	tcase_add_loop_test(tcase, statement_is_known_by_its_words, 0, sizeof(cases) / sizeof(cases[0]));
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
