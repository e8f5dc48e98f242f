/* The texts that go out by HTTP: escaping, numbers, percentiles, and which format a scraper gets. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/metrics.h"
#include "admin/page.h"
#include "admin/snapshot.h"
#include "admin/status_parts.h"

static char room[1000];

/* What was written, as a string. */
static const char *said(struct page *page) {
	ck_assert(!page->failed);
	ck_assert_uint_lt(page->len, sizeof room);
	if (page->len)
		memcpy(room, page->at, page->len);
	room[page->len] = 0;
	page_free(page);
	return room;
}

static const char *by(void (*write)(struct page *, const char *), const char *value) {
	struct page page = {0};
	write(&page, value);
	return said(&page);
}

START_TEST(labels_json_and_html_are_escaped) {
	ck_assert_str_eq(by(page_label, "a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
	ck_assert_str_eq(by(page_json, "a\"b\\c\n<&>\x01"), "\"a\\\"b\\\\c\\u000a\\u003c\\u0026\\u003e\\u0001\"");
	ck_assert_str_eq(by(page_json, NULL), "null");
	ck_assert_str_eq(by(page_html, "<a href=\"x\">&'\x02"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39; ");
}
END_TEST

START_TEST(what_is_no_utf8_is_a_question_mark_or_a_number) {
	static const struct {
		const char *value, *html;
	} cases[] = {
		{"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},        /* two bytes */
		{"\xe2\x82\xac\xf0\x9f\x92\xa7", "\xe2\x82\xac\xf0\x9f\x92\xa7"},
		{"a\xff" "b", "a?b"},
		{"\xc3", "?"},                    /* cut off */
		{"\xe2\x82", "??"},
		{"\xc0\xaf", "??"},               /* longer than it need be */
		{"\xe0\x80\xaf", "???"},
		{"\xed\xa0\x80", "???"},          /* a surrogate */
		{"\xf4\x90\x80\x80", "????"},     /* beyond the last */
		{"\xf0\x9f\x92", "???"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char numbers[100] = "";
		for (const char *p = cases[i].html, *at = cases[i].value; *p; p++, at++)
			snprintf(numbers + strlen(numbers), sizeof numbers - strlen(numbers), *p == '?' ? "\\\\x%02x" : "%c",
				 (unsigned char)*at);
		ck_assert_str_eq(by(page_label, cases[i].value), numbers);
		ck_assert_str_eq(by(page_html, cases[i].value), cases[i].html);
	}
	/* names of two pools do not become one label's value */
	ck_assert_str_eq(by(page_label, "\\xff\r"), "\\\\x5cxff\\\\x0d");
}
END_TEST

static const char *seconds(uint64_t ns, bool whole) {
	struct page page = {0};
	page_seconds(&page, ns, whole);
	return said(&page);
}

START_TEST(nanoseconds_are_written_as_seconds_exactly) {
	ck_assert_str_eq(seconds(0, false), "0");
	ck_assert_str_eq(seconds(0, true), "0.0");
	ck_assert_str_eq(seconds(1, false), "0.000000001");
	ck_assert_str_eq(seconds(100000, true), "0.0001");
	ck_assert_str_eq(seconds(2500000000ull, false), "2.5");
	ck_assert_str_eq(seconds(100000000000ull, true), "100.0");
	ck_assert_str_eq(seconds(UINT64_MAX, false), "18446744073.709551615");
}
END_TEST

START_TEST(long_texts_grow) {
	struct page page = {0};
	char value[600];

	memset(value, 'x', sizeof value - 1);
	value[sizeof value - 1] = 0;
	for (int i = 0; i < 100; i++)
		page_printf(&page, "%s%d\n", value, i % 10);
	ck_assert(!page.failed);
	ck_assert_uint_eq(page.len, 100 * (sizeof value - 1 + 2));
	ck_assert_int_eq(page.at[page.len - 2], '9');
	page_free(&page);
}
END_TEST

START_TEST(the_format_is_what_the_scraper_prefers) {
	static const struct {
		const char *accept;
		enum metrics_format format;
	} cases[] = {
		{NULL, METRICS_PROMETHEUS},
		{"", METRICS_PROMETHEUS},
		{"*/*", METRICS_PROMETHEUS},
		{"t", METRICS_PROMETHEUS},
		{"application/openmetrics-text", METRICS_OPENMETRICS},
		{"Application/OpenMetrics-Text; version=1.0.0", METRICS_OPENMETRICS},
		{"application/openmetrics-text-not", METRICS_PROMETHEUS},
		{"application/openmetrics-text;q=0", METRICS_PROMETHEUS},
		{"text/plain;version=0.0.4;q=0.9, application/openmetrics-text;version=1.0.0;q=0.3", METRICS_PROMETHEUS},
		/* what Prometheus 2.42 sends */
		{"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
		 "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
		 METRICS_OPENMETRICS},
		{",,, ;q=,", METRICS_PROMETHEUS},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		ck_assert_msg(metrics_negotiate(cases[i].accept) == cases[i].format, "%s", cases[i].accept);
}
END_TEST

START_TEST(durations_fall_into_their_buckets) {
	static const uint64_t bounds[HISTOGRAM_BOUNDS] = HISTOGRAM_BOUND_LIST;
	struct histogram h = {0};

	for (int i = 0; i < HISTOGRAM_BOUNDS; i++) {
		histogram_add(&h, bounds[i]);     /* the bound belongs to its bucket */
		histogram_add(&h, bounds[i] + 1); /* and no more */
	}
	histogram_add(&h, 0);
	ck_assert_uint_eq(stat_read(&h.buckets[0]), 2);
	for (int i = 1; i < HISTOGRAM_BOUNDS; i++)
		ck_assert_uint_eq(stat_read(&h.buckets[i]), 2);
	ck_assert_uint_eq(stat_read(&h.buckets[HISTOGRAM_BOUNDS]), 1);
}
END_TEST

START_TEST(percentiles_lie_within_their_bucket) {
	struct histogram_sum h = {0}, later;

	ck_assert_uint_eq(histogram_quantile(&h, 0.99), 0);
	h.buckets[3] = 90; /* 500 us to 1 ms */
	h.buckets[12] = 10; /* 500 ms to 1 s */
	ck_assert_uint_eq(histogram_count(&h), 100);
	uint64_t half = histogram_quantile(&h, 0.5), most = histogram_quantile(&h, 0.99);
	ck_assert(half > 500 * NS_PER_US && half <= NS_PER_MS);
	ck_assert(most > 500 * NS_PER_MS && most <= NS_PER_S);
	later = h;
	later.buckets[3] += 5;
	later.sum_ns += 7;
	struct histogram_sum between = histogram_between(&h, &later);
	ck_assert_uint_eq(histogram_count(&between), 5);
	ck_assert_uint_eq(between.sum_ns, 7);
	h = (struct histogram_sum){0};
	h.buckets[HISTOGRAM_BOUNDS] = 1; /* longer than all: it cannot be told how long */
	ck_assert_uint_eq(histogram_quantile(&h, 0.5), 100 * NS_PER_S);
}
END_TEST

START_TEST(durations_are_readable) {
	static const struct {
		uint64_t ns;
		const char *text;
	} cases[] = {{0, "0 us"},          {350 * NS_PER_US, "350 us"}, {2500 * NS_PER_US, "2.5 ms"}, {75 * NS_PER_MS, "75 ms"},
		     {4200 * NS_PER_MS, "4.2 s"}, {41 * NS_PER_S, "41 s"},     {300 * NS_PER_S, "5 min"},     {10800 * NS_PER_S, "3 h"}};
	char out[24];
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		status_duration(cases[i].ns, out);
		ck_assert_str_eq(out, cases[i].text);
	}
}
END_TEST

START_TEST(classes_of_sqlstate_are_found_or_are_other) {
	ck_assert_str_eq(pool_sqlstate_class_name(pool_sqlstate_class("22012")), "22");
	ck_assert_str_eq(pool_sqlstate_class_name(pool_sqlstate_class("01000")), "01");
	ck_assert_str_eq(pool_sqlstate_class_name(pool_sqlstate_class("XX000")), "XX");
	ck_assert_str_eq(pool_sqlstate_class_name(pool_sqlstate_class("HY000")), "HY");
	ck_assert_str_eq(pool_sqlstate_class_name(pool_sqlstate_class("P0001")), "P0");
	static const char *const others[] = {"", "4", "ZZ999", "00000", "\xff\xff", "a"};
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
		ck_assert_str_eq(pool_sqlstate_class_name(pool_sqlstate_class(others[i])), "other");
	/* each has a name of its own, and is found by it */
	for (int i = 0; strcmp(pool_sqlstate_class_name(i), "other") != 0; i++)
		ck_assert_int_eq(pool_sqlstate_class(pool_sqlstate_class_name(i)), i);
}
END_TEST

START_TEST(every_reason_has_a_name) {
	for (int i = 0; i < POOL_ENDS; i++)
		ck_assert_ptr_nonnull(pool_end_name((enum pool_end)i));
	for (int i = 0; i < POOL_WAITS; i++)
		ck_assert_ptr_nonnull(pool_wait_name((enum pool_wait)i));
	for (int i = 0; i < POOL_CONNECT_FAILURES; i++)
		ck_assert_ptr_nonnull(pool_connect_failure_name((enum pool_connect_failure)i));
	ck_assert_int_eq(pool_end_of("idle_timeout"), POOL_END_IDLE_TIMEOUT);
	ck_assert_int_eq(pool_end_of("turn"), POOL_END_MAKE_ROOM);
	ck_assert_int_eq(pool_end_of("whatever"), POOL_END_OTHER);
	ck_assert_int_eq(pool_end_of(NULL), POOL_END_OTHER);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("page");
	TCase *tcase = tcase_create("texts");
	tcase_add_test(tcase, labels_json_and_html_are_escaped);
	tcase_add_test(tcase, what_is_no_utf8_is_a_question_mark_or_a_number);
	tcase_add_test(tcase, nanoseconds_are_written_as_seconds_exactly);
	tcase_add_test(tcase, long_texts_grow);
	tcase_add_test(tcase, the_format_is_what_the_scraper_prefers);
	tcase_add_test(tcase, durations_fall_into_their_buckets);
	tcase_add_test(tcase, percentiles_lie_within_their_bucket);
	tcase_add_test(tcase, durations_are_readable);
	tcase_add_test(tcase, classes_of_sqlstate_are_found_or_are_other);
	tcase_add_test(tcase, every_reason_has_a_name);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
