/* Sets of settings: what they hold, that equal ones are shared, and the start-up parameter `options`. */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgsql/greeting.h"
#include "session/settings.h"

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

static void expect_meaning(struct settings *a, struct settings *b, bool same) {
	ck_assert_int_eq(memcmp(settings_meaning(a), settings_meaning(b), SETTINGS_MEANING) == 0, same);
}

START_TEST(sets_mean_the_same_whatever_names_the_client) {
	struct settings *none = settings_empty(), *named = settings_empty(), *dated = settings_empty(),
			*other = settings_empty(), *both;
	put(&named, "application_name", "x");
	put(&dated, "DateStyle", "ISO");
	put(&other, "datestyle", "German");
	both = settings_ref(dated);
	put(&both, "application_name", "y");
	expect_meaning(none, named, true);
	expect_meaning(none, dated, false);
	expect_meaning(dated, other, false);
	expect_meaning(dated, both, true);
	ck_assert_ptr_eq(settings_meaning(both), settings_meaning(both));
	settings_unref(none);
	settings_unref(named);
	settings_unref(dated);
	settings_unref(other);
	settings_unref(both);
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
		if (strcmp(value_of(one, "a"), value) != 0 || !settings_meaning(one))
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

/* The value of this parameter in the messages, or "". */
static const char *told(const struct pg_greeting *greeting, const char *name) {
	const uint8_t *at = buf_bytes(&greeting->messages), *end = at + buf_len(&greeting->messages);
	while (at < end) {
		size_t len = (size_t)at[1] << 24 | (size_t)at[2] << 16 | (size_t)at[3] << 8 | at[4];
		ck_assert_int_eq(at[0], 'S');
		if (strcmp((const char *)at + 5, name) == 0)
			return (const char *)at + 5 + strlen(name) + 1;
		at += 1 + len;
	}
	return "";
}

/* More than are kept, again and again: whatever is kept, each client is told its own. */
START_TEST(greeting_is_of_the_client_and_its_server) {
	static struct pg_greetings greetings;
	char version[16], name[16];
	for (int i = 0; i < 3000; i++) {
		struct settings *reported = settings_empty(), *wanted = settings_empty(), *with;
		snprintf(version, sizeof version, "%d", i * i % 293);
		snprintf(name, sizeof name, "%d", i * i % 31);
		with = settings_with(reported, "server_version", version, true);
		settings_unref(reported);
		reported = settings_with(with, "application_name", "", true);
		settings_unref(with);
		put(&wanted, "application_name", name);
		put(&wanted, "search_path", "not_reported");
		const struct pg_greeting *greeting = pg_greeting(&greetings, reported, wanted);
		ck_assert_str_eq(told(greeting, "application_name"), name);
		ck_assert_str_eq(told(greeting, "server_version"), version);
		ck_assert_str_eq(told(greeting, "search_path"), "");
		ck_assert_str_eq(value_of(greeting->settings, "application_name"), name);
		ck_assert_str_eq(value_of(greeting->settings, "search_path"), "not_reported");
		ck_assert_ptr_eq(pg_greeting(&greetings, reported, wanted), greeting);
		settings_unref(reported);
		settings_unref(wanted);
	}
	struct settings *nothing = settings_empty();
	ck_assert_uint_eq(buf_len(&pg_greeting(&greetings, nothing, nothing)->messages), 0);
	settings_unref(nothing);
	pg_greetings_clear(&greetings);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("settings");
	TCase *tc = tcase_create("settings");
	tcase_add_test(tc, set_is_sorted_and_found_without_regard_to_case);
	tcase_add_test(tc, setting_is_replaced_and_removed_in_a_new_set);
	tcase_add_test(tc, sets_that_hold_the_same_are_one);
	tcase_add_test(tc, sets_mean_the_same_whatever_names_the_client);
	tcase_add_test(tc, long_values_are_kept_whole);
	tcase_add_test(tc, greeting_is_of_the_client_and_its_server);
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
