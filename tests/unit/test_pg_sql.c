/* What the first words of a SQL text say. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "pgsql/sql.h"

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
	{"rollback -- x\r; select 1", PG_EXIT_ROLLBACK, "select 1"},
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

static const struct {
	const char *sql;
	enum pg_bare kind;
} bare[] = {
	{"begin", PG_BARE_BEGIN},
	{"BEGIN;", PG_BARE_BEGIN},
	{" Begin\tWork\r\n;\f", PG_BARE_BEGIN},
	{"BEGIN TRANSACTION", PG_BARE_BEGIN},
	{"start transaction", PG_BARE_START},
	{"/* why */ START /* so */ TRANSACTION; -- yes", PG_BARE_START},
	{"-- first\rbegin", PG_BARE_BEGIN},
	{"begin/**/work", PG_BARE_BEGIN},
	{"begin--", PG_BARE_BEGIN},
	{"commit", PG_BARE_COMMIT},
	{"end work;", PG_BARE_COMMIT},
	{"ROLLBACK TRANSACTION", PG_BARE_ROLLBACK},
	{"abort", PG_BARE_ROLLBACK},
	{"", PG_BARE_NONE},
	{";", PG_BARE_NONE},
	{";begin", PG_BARE_NONE},
	{"begin;;", PG_BARE_NONE},
	{"begin; select 1", PG_BARE_NONE},
	{"begin select 1", PG_BARE_NONE},
	{"begin -- x\rselect 1", PG_BARE_NONE},
	{"begin isolation level serializable", PG_BARE_NONE},
	{"begin read only", PG_BARE_NONE},
	{"begin work transaction", PG_BARE_NONE},
	{"start work", PG_BARE_NONE},
	{"start", PG_BARE_NONE},
	{"start transaction work", PG_BARE_NONE},
	{"start transaction read only", PG_BARE_NONE},
	{"begins", PG_BARE_NONE},
	{"begin_work", PG_BARE_NONE},
	{"\"begin\"", PG_BARE_NONE},
	{"begin /* no end", PG_BARE_NONE},
	{"begin\v", PG_BARE_NONE},
	{"begin -- \xc3\xa4", PG_BARE_NONE},
	{"select 1", PG_BARE_NONE},
	{"commit and chain", PG_BARE_NONE},
	{"commit and no chain", PG_BARE_NONE},
	{"commit prepared 'x'", PG_BARE_NONE},
	{"rollback to s", PG_BARE_NONE},
	{"rollback; begin", PG_BARE_NONE},
	{"prepare transaction 'x'", PG_BARE_NONE},
	{"savepoint s", PG_BARE_NONE},
};

START_TEST(bare_statement_is_nothing_else) {
	const char *sql = bare[_i].sql;

	ck_assert_msg(pg_sql_bare(sql, strlen(sql)) == bare[_i].kind, "%s", sql);
	if (bare[_i].kind == PG_BARE_BEGIN || bare[_i].kind == PG_BARE_START)
		ck_assert(pg_sql_may_begin((const uint8_t *)sql));
}
END_TEST

static const struct {
	const char *sql;
	enum pg_text_kind kind;
	const char *name;
} kinds[] = {
	{"select 1", PG_TEXT_PLAIN, NULL},
	{"", PG_TEXT_PLAIN, NULL},
	{"deallocate a", PG_TEXT_DEALLOCATE, "a"},
	{"/**/ DEALLOCATE PREPARE \"a\"\"B\" ; ;", PG_TEXT_DEALLOCATE, "a\"B"},
	{"deallocate Prepare", PG_TEXT_DEALLOCATE, "prepare"},
	{"deallocate prepare;", PG_TEXT_DEALLOCATE, "prepare"},
	{"deallocate FOLDS", PG_TEXT_DEALLOCATE, "folds"},
	{"deallocate prepare; x", PG_TEXT_PLAIN, NULL},
	{"deallocate a; select 1", PG_TEXT_PLAIN, NULL},
	{"deallocate", PG_TEXT_PLAIN, NULL},
	{"deallocate \"a", PG_TEXT_PLAIN, NULL},
	{"deallocate$ a", PG_TEXT_PLAIN, NULL},
	{"deallocate a /* no end", PG_TEXT_PLAIN, NULL},
	{"deallocate all", PG_TEXT_DEALLOCATE_ALL, NULL},
	{"deallocate prepare all", PG_TEXT_DEALLOCATE_ALL, NULL},
	{"discard all", PG_TEXT_DEALLOCATE_ALL, NULL},
	{"discard plans", PG_TEXT_PLAIN, NULL},
	{"-- to a carriage return\rdiscard all", PG_TEXT_DEALLOCATE_ALL, NULL},
	{"-- to a new line\ndiscard all", PG_TEXT_DEALLOCATE_ALL, NULL},
	{"-- discard all", PG_TEXT_PLAIN, NULL},
	{"set local a = 1", PG_TEXT_SET_LOCAL, NULL},
	{"set local a = 1; set b = 2", PG_TEXT_PLAIN, NULL},
	{"set a = 1", PG_TEXT_PLAIN, NULL},
	{"reset DateStyle;", PG_TEXT_RESET, "datestyle"},
	{"reset time zone", PG_TEXT_RESET, "timezone"},
	{"reset all", PG_TEXT_RESET, "all"},
	{"reset a; select 1", PG_TEXT_PLAIN, NULL},
	{"reset", PG_TEXT_PLAIN, NULL},
};

START_TEST(what_is_done_to_statements_and_settings_is_known_by_its_words) {
	char *name;

	ck_assert_msg(pg_sql_kind(kinds[_i].sql, strlen(kinds[_i].sql), &name) == kinds[_i].kind, "%s", kinds[_i].sql);
	if (kinds[_i].name)
		ck_assert_str_eq(name, kinds[_i].name);
	else
		ck_assert_ptr_null(name);
	free(name);
}
END_TEST

/* However a text is cut short, nothing behind its end is looked at. */
START_TEST(cut_statement_is_read_to_its_end_only) {
	static const char *const texts[] = {"/* a */ begin work; -- end", "deallocate prepare \"a\"\"b\";;",
					    "reset time zone /* x */;"};

	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		for (size_t len = 0; len <= strlen(texts[i]); len++) {
			char *exact = malloc(len ? len : 1), *name;
			size_t rest;

			memcpy(exact, texts[i], len);
			pg_sql_bare(exact, len);
			pg_sql_exit(exact, len, &rest);
			pg_sql_kind(exact, len, &name);
			free(name);
			free(exact);
		}
	}
}
END_TEST

int main(void) {
	Suite *suite = suite_create("sql");
	TCase *tcase = tcase_create("sql");

	suite_add_tcase(suite, tcase);
	tcase_add_loop_test(tcase, statement_is_known_by_its_words, 0, sizeof(cases) / sizeof(cases[0]));
	tcase_add_loop_test(tcase, bare_statement_is_nothing_else, 0, sizeof(bare) / sizeof(bare[0]));
	tcase_add_loop_test(tcase, what_is_done_to_statements_and_settings_is_known_by_its_words, 0,
			    sizeof(kinds) / sizeof(kinds[0]));
	tcase_add_test(tcase, cut_statement_is_read_to_its_end_only);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
