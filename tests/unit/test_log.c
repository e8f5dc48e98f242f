/* The log's lines, read through its sink, and its patience with a stderr that nobody reads. */
#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

static char lines[512 * 1024];
static size_t lines_len;
static int line_count;
static size_t longest;

static void sink(const char *line, size_t len) {
	ck_assert_int_eq(line[len - 1], '\n');
	ck_assert_ptr_null(memchr(line, '\n', len - 1));
	ck_assert_uint_lt(lines_len + len, sizeof lines);
	memcpy(lines + lines_len, line, len);
	lines_len += len;
	lines[lines_len] = '\0';
	line_count++;
	if (len > longest)
		longest = len;
}

static void set_up(void) {
	log_flush(true);
	log_set_sink(sink);
	log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
	lines_len = longest = 0;
	lines[0] = '\0';
	line_count = 0;
}

static void tear_down(void) {
	log_flush(true);
	log_set_sink(NULL);
}

/* What stands behind the time stamp of the only line. */
static const char *only_line(void) {
	ck_assert_int_eq(line_count, 1);
	ck_assert_uint_gt(lines_len, 25);
	lines[lines_len - 1] = '\0';
	return lines + 25;
}

START_TEST(text_line_has_time_level_event_fields_and_message) {
	log_info("client_connected", LOG_FIELDS(LOG_TEXT("client", "10.0.0.1:5123"), LOG_NUMBER("worker", 3)),
		 "client %s is here", "app");
	ck_assert_str_eq(only_line(), "info  client_connected client=10.0.0.1:5123 worker=3 \"client app is here\"");
	ck_assert_int_eq(lines[4], '-');
	ck_assert_int_eq(lines[10], 'T');
	ck_assert_int_eq(lines[19], '.');
	ck_assert_int_eq(lines[23], 'Z');
}
END_TEST

START_TEST(json_line_has_the_same_parts) {
	log_configure(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
	log_error("listen_failed", LOG_FIELDS(LOG_TEXT("address", "*:1"), LOG_NUMBER("code", -7)), "no");
	ck_assert_str_eq(only_line() + 7,
			 ",\"level\":\"error\",\"event\":\"listen_failed\",\"fields\":{\"address\":\"*:1\",\"code\":-7},"
			 "\"message\":\"no\"}");
	ck_assert_int_eq(strncmp(lines, "{\"ts\":\"", 7), 0);
}
END_TEST

START_TEST(json_line_without_fields_has_no_empty_object) {
	log_configure(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
	log_info("ready", NULL, "ready");
	ck_assert_ptr_null(strstr(only_line(), "fields"));
}
END_TEST

START_TEST(levels_above_the_set_one_are_not_written) {
	log_configure(LOG_LEVEL_WARNING, LOG_FORMAT_TEXT);
	ck_assert(!log_enabled(LOG_LEVEL_INFO));
	log_info("a", NULL, "a");
	log_debug("b", NULL, "b");
	ck_assert_int_eq(line_count, 0);
	log_warning("c", NULL, "c");
	log_error("d", NULL, "d");
	ck_assert_int_eq(line_count, 2);
}
END_TEST

START_TEST(value_cannot_forge_a_line_or_a_field) {
	log_info("login", LOG_FIELDS(LOG_TEXT("user", "x\n2026 error forged"), LOG_TEXT("app", "a=b \"c\" \\ \x1b[2J\x7f")),
		 "user \"%s\"\r\n", "e\tvil");
	ck_assert_str_eq(only_line(), "info  login user=\"x\\n2026 error forged\" app=\"a=b \\\"c\\\" \\\\ \\x1b[2J\\x7f\" "
				      "\"user \\\"e\\tvil\\\"\\r\\n\"");
}
END_TEST

START_TEST(missing_and_empty_texts_are_quoted_emptiness) {
	const char *none = NULL;

	log_info("e", LOG_FIELDS(LOG_TEXT("a", none), LOG_TEXT("b", "")), "m");
	ck_assert_str_eq(only_line(), "info  e a=\"\" b=\"\" \"m\"");
}
END_TEST

START_TEST(invalid_utf8_is_made_safe) {
	/* a stray continuation, an overlong slash, a surrogate, a cut character, beyond Unicode; a good one; a C1 control */
	static const char bad[] = "\x80|\xc0\xaf|\xed\xa0\x80|\xe2\x82|\xf4\x90\x80\x80|\xe2\x82\xac|\xc2\x9b";

	log_info("t", LOG_FIELDS(LOG_TEXT("v", bad)), "m");
	ck_assert_str_eq(only_line(), "info  t v=\"\\x80|\\xc0\\xaf|\\xed\\xa0\\x80|\\xe2\\x82|\\xf4\\x90\\x80\\x80|\xe2\x82\xac|"
				      "\\u009b\" \"m\"");
	set_up();
	log_configure(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
	log_info("t", LOG_FIELDS(LOG_TEXT("v", bad)), "m2");
	ck_assert_ptr_nonnull(strstr(lines, "\"v\":\"\\ufffd|\\ufffd\\ufffd|\\ufffd\\ufffd\\ufffd|\\ufffd\\ufffd|"
					    "\\ufffd\\ufffd\\ufffd\\ufffd|\xe2\x82\xac|\\u009b\""));
}
END_TEST

START_TEST(long_line_is_cut_with_an_ellipsis_and_closed_well) {
	char *big = malloc(100001);

	memset(big, 'y', 100000);
	big[100000] = '\0';
	log_info("big", LOG_FIELDS(LOG_TEXT("value", big), LOG_TEXT("more", big)), "%s", big);
	ck_assert_uint_le(longest, 4096);
	ck_assert_ptr_nonnull(strstr(lines, "y\xe2\x80\xa6\" \"y"));
	const char *line = only_line();
	ck_assert_str_eq(line + strlen(line) - 5, "y\xe2\x80\xa6\"");
	set_up();
	log_configure(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
	memset(big, 1, 100000);
	log_info("big", LOG_FIELDS(LOG_TEXT("value", big), LOG_TEXT("more", big)), "m%s", big);
	ck_assert_uint_le(longest, 4096);
	ck_assert_uint_gt(longest, 3500);
	line = only_line();
	ck_assert_str_eq(line + strlen(line) - 5, "\xe2\x80\xa6\"}");
	ck_assert_ptr_nonnull(strstr(line, "\xe2\x80\xa6\"},\"message\":\"m\\u0001"));
	free(big);
}
END_TEST

START_TEST(repeats_within_a_second_are_counted_and_summed_up) {
	for (int i = 0; i < 1000; i++)
		log_warning("flood", LOG_FIELDS(LOG_NUMBER("n", i)), "the same again");
	log_warning("other", NULL, "the same again");
	ck_assert_int_eq(line_count, 2);
	log_flush(true);
	ck_assert_int_eq(line_count, 3);
	ck_assert_ptr_nonnull(strstr(lines, "flood repeats=999 \"repeated 999 more times: the same again\""));
	log_flush(true);
	ck_assert_int_eq(line_count, 3);
}
END_TEST

START_TEST(run_of_repeats_ends_after_a_second_by_itself) {
	uint64_t begin = clock_monotonic_ns();

	log_info("flood", NULL, "again");
	log_info("flood", NULL, "again");
	while (line_count == 1)
		log_flush(false);
	ck_assert_uint_ge(clock_monotonic_ns() - begin, NS_PER_S);
	ck_assert_ptr_nonnull(strstr(lines, "repeated 1 more times: again"));
	/* it goes on, so it is told less and less often */
	begin = clock_monotonic_ns();
	log_info("flood", NULL, "again");
	ck_assert_int_eq(line_count, 2);
	while (line_count == 2)
		log_flush(false);
	ck_assert_uint_ge(clock_monotonic_ns() - begin, 3 * NS_PER_S / 2);
	log_flush(true);
	log_info("flood", NULL, "again");
	ck_assert_int_eq(line_count, 4);
}
END_TEST

START_TEST(more_different_messages_than_are_watched_all_appear) {
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < 200; i++)
			log_info("many", NULL, "message %d", i);
	ck_assert_int_eq(line_count, 400);
}
END_TEST

static void *log_much(void *arg) {
	for (int i = 0; i < 500; i++)
		log_info("threads", LOG_FIELDS(LOG_NUMBER("i", i)), "thread %d message %d", *(int *)arg, i);
	return NULL;
}

START_TEST(lines_of_several_threads_stay_whole) {
	pthread_t threads[4];
	int ids[4] = {0, 1, 2, 3};

	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, log_much, &ids[i]);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	ck_assert_int_eq(line_count, 2000);
}
END_TEST

START_TEST(full_stderr_holds_nobody_up_and_the_loss_is_told) {
	int ends[2], saved = dup(STDERR_FILENO);
	static char got[1 << 17];
	char text[1500];

	ck_assert_int_eq(pipe(ends), 0);
	ck_assert_int_ge(dup2(ends[1], STDERR_FILENO), 0);
	log_set_sink(NULL);
	memset(text, 'z', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	for (int i = 0; i < 200; i++)
		log_info("full", NULL, "%d %s", i, text);
	ck_assert_int_eq(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
	while (read(ends[0], got, sizeof got) > 0)
		;
	log_info("after", NULL, "there is room again");
	ssize_t n = read(ends[0], got, sizeof got - 1);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(ends[0]);
	close(ends[1]);
	log_set_sink(sink);
	ck_assert_int_gt(n, 0);
	got[n] = '\0';
	ck_assert_ptr_nonnull(strstr(got, "log_lines_dropped lines="));
	ck_assert_ptr_nonnull(strstr(got, "there is room again"));
}
END_TEST

int main(void) {
	Suite *suite = suite_create("log");
	TCase *tc = tcase_create("log");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, text_line_has_time_level_event_fields_and_message);
	tcase_add_test(tc, json_line_has_the_same_parts);
	tcase_add_test(tc, json_line_without_fields_has_no_empty_object);
	tcase_add_test(tc, levels_above_the_set_one_are_not_written);
	tcase_add_test(tc, value_cannot_forge_a_line_or_a_field);
	tcase_add_test(tc, missing_and_empty_texts_are_quoted_emptiness);
	tcase_add_test(tc, invalid_utf8_is_made_safe);
	tcase_add_test(tc, long_line_is_cut_with_an_ellipsis_and_closed_well);
	tcase_add_test(tc, repeats_within_a_second_are_counted_and_summed_up);
	tcase_add_test(tc, run_of_repeats_ends_after_a_second_by_itself);
	tcase_add_test(tc, more_different_messages_than_are_watched_all_appear);
	tcase_add_test(tc, lines_of_several_threads_stay_whole);
	tcase_add_test(tc, full_stderr_holds_nobody_up_and_the_loss_is_told);
	tcase_set_timeout(tc, 30);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
