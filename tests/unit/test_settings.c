/* Sets of settings: what they hold, that equal ones are shared, and the start-up parameter `options`. */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgsql/settings.h"

/* Replaces *set by itself with one setting more; lets the old one go. */
static void put(struct settings **set, const char *name, const char *value) {
	struct settings *with = settings_with(*set, name, value, false);
	ck_assert_ptr_nonnull(with);
	settings_unref(*set);
	*set = with;
}

static const char *value_of(const struct settings *set, const char *name) {
	const struct setting *s = settings_find(set, name);
	return s ? s->value : NULL;
}

START_TEST(set_is_sorted_and_found_without_regard_to_case) {
	struct settings *set = settings_empty();
	put(&set, "TimeZone", "UTC");
	put(&set, "application_name", "x");
	put(&set, "zero", "");
	put(&set, "DateStyle", "ISO");
	ck_assert_uint_eq(set->count, 4);
	ck_assert_str_eq(set->at[0].name, "application_name");
	ck_assert_str_eq(set->at[1].name, "DateStyle");
	ck_assert_str_eq(set->at[3].name, "zero");
	ck_assert_str_eq(value_of(set, "timezone"), "UTC");
	ck_assert_str_eq(value_of(set, "ZERO"), "");
	ck_assert_ptr_null(settings_find(set, "time"));
	settings_unref(set);
}
END_TEST

START_TEST(setting_is_replaced_and_removed_in_a_new_set) {
	struct settings *set = settings_empty();
	put(&set, "a", "1");
	put(&set, "b", "2");
	struct settings *before = settings_ref(set);
	put(&set, "A", "3");
	ck_assert_uint_eq(set->count, 2);
	ck_assert_str_eq(value_of(set, "a"), "3");
	ck_assert_str_eq(value_of(before, "a"), "1");
	put(&set, "a", NULL);
	put(&set, "not_there", NULL);
	ck_assert_uint_eq(set->count, 1);
	ck_assert_str_eq(set->at[0].name, "b");
	put(&set, "b", NULL);
	ck_assert_uint_eq(set->count, 0);
	settings_unref(before);
	settings_unref(set);
}
END_TEST

START_TEST(sets_that_hold_the_same_are_one) {
	struct settings *a = settings_empty(), *b = settings_empty();
	put(&a, "x", "1");
	put(&a, "y", "2");
	put(&b, "y", "2");
	ck_assert(!settings_equal(a, b));
	put(&b, "x", "1");
	ck_assert_ptr_eq(a, b);
	ck_assert(settings_equal(a, b));
	struct settings *reported = settings_with(b, "x", "1", true);
	ck_assert_ptr_ne(reported, b);
	ck_assert(settings_equal(reported, b));
	settings_unref(reported);
	settings_unref(a);
	settings_unref(b);
}
END_TEST

START_TEST(long_values_are_kept_whole) {
	struct settings *set = settings_empty();
	static char value[100001];
	memset(value, 'v', sizeof value - 1);
	put(&set, "search_path", value);
	put(&set, "a", "b");
	ck_assert_str_eq(value_of(set, "search_path"), value);
	settings_unref(set);
}
END_TEST

static void *churn(void *context) {
	struct settings **sets = context;
	char value[16];
	for (int i = 0; i < 20000; i++) {
		snprintf(value, sizeof value, "%d", i % 7);
		struct settings *one = settings_empty();
		put(&one, "a", value);
		put(&one, "b", "same");
		if (strcmp(value_of(one, "a"), value) != 0)
			*sets = NULL;
		settings_unref(one);
	}
	return NULL;
}

START_TEST(threads_may_make_and_drop_the_same_sets) {
	struct settings *anchor = settings_empty(), *ok = anchor;
	pthread_t threads[2];
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, churn, &ok), 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	ck_assert_ptr_nonnull(ok);
	settings_unref(anchor);
}
END_TEST

static const struct {
	const char *options, *expect, *ignored;
} option_cases[] = {
	{"-c a=1", "a=1;", ""},
	{"-ca=1 --b=2", "a=1;b=2;", ""},
	{"  -c   geqo=off\t--work-mem=4MB ", "geqo=off;work_mem=4MB;", ""},
	{"-c search_path=a\\ b,c", "search_path=a b,c;", ""},
	{"-c x=back\\\\slash", "x=back\\slash;", ""},
	{"-c a=1 -c A=2", "A=2;", ""},
	{"--a=x=y", "a=x=y;", ""},
	{"--a=", "a=;", ""},
	{"-c a", "", "-c a"},
	{"-c =1", "", "-c =1"},
	{"--nothing", "", "--nothing"},
	{"-e -d 3 -c a=1", "a=1;", "-e -d 3"},
	{"-ec a=1", "a=1;", "-e"},
	{"word -c a=1", "a=1;", "word"},
	{"-c", "", "-c"},
	{"-", "", "-"},
	{"--", "", "--"},
	{"\\", "", ""},
	{"", "", ""},
};

START_TEST(options_are_split_as_postgres_does) {
	struct settings *set = settings_empty();
	char ignored[64], got[128] = "";
	ck_assert(settings_add_options(&set, option_cases[_i].options, ignored, sizeof ignored));
	for (size_t i = 0; i < set->count; i++)
		snprintf(got + strlen(got), sizeof got - strlen(got), "%s=%s;", set->at[i].name, set->at[i].value);
	ck_assert_str_eq(got, option_cases[_i].expect);
	ck_assert_str_eq(ignored, option_cases[_i].ignored);
	settings_unref(set);
}
END_TEST

START_TEST(ignored_text_is_cut_at_its_room) {
	struct settings *set = settings_empty();
	char ignored[8];
	ck_assert(settings_add_options(&set, "aaaa bbbb cccc", ignored, sizeof ignored));
	ck_assert_str_eq(ignored, "aaaa bb");
	settings_unref(set);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("settings");
	TCase *tc = tcase_create("settings");
	tcase_add_test(tc, set_is_sorted_and_found_without_regard_to_case);
	tcase_add_test(tc, setting_is_replaced_and_removed_in_a_new_set);
	tcase_add_test(tc, sets_that_hold_the_same_are_one);
	tcase_add_test(tc, long_values_are_kept_whole);
	tcase_add_test(tc, threads_may_make_and_drop_the_same_sets);
	tcase_add_loop_test(tc, options_are_split_as_postgres_does, 0,
			    (int)(sizeof option_cases / sizeof option_cases[0]));
	tcase_add_test(tc, ignored_text_is_cut_at_its_room);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
