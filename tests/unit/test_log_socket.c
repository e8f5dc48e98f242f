/* The log on a datagram socket, as syslog and journald have one, with somebody there who reads, is slow, or is gone. */
#include <check.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/log_socket.h"

static char path[64];
static int listener;
static int saved_stderr;
static FILE *caught; /* what went to stderr */

static int listen_at(const char *name) {
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	ck_assert_int_ge(fd, 0);
	memcpy(un.sun_path + 1, name + 1, strlen(name) - 1); /* "@" is the zero of an abstract name */
	ck_assert_int_eq(
		bind(fd, (struct sockaddr *)&un, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))), 0);
	return fd;
}

static void set_up(void) {
	snprintf(path, sizeof path, "@forebay-test-log-%d", (int)getpid());
	listener = listen_at(path);
	caught = tmpfile();
	ck_assert_ptr_nonnull(caught);
	fflush(stderr);
	saved_stderr = dup(STDERR_FILENO);
	dup2(fileno(caught), STDERR_FILENO);
	log_flush(true);
	log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
}

static void tear_down(void) {
	log_direct(LOG_TO_STDERR, NULL, "forebay", 3);
	log_flush(true);
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	fclose(caught);
	if (listener >= 0)
		close(listener);
}

/* The next datagram, ended by a zero; "" where there is none. */
static const char *next_datagram(void) {
	static char text[8192];
	ssize_t n = recv(listener, text, sizeof text - 1, 0);

	text[n > 0 ? n : 0] = 0;
	return text;
}

static const char *on_stderr(void) {
	static char text[1 << 16];

	ssize_t n = pread(fileno(caught), text, sizeof text - 1, 0);
	text[n > 0 ? n : 0] = 0;
	return text;
}

START_TEST(syslog_gets_priority_time_name_and_the_line) {
	char expected[200];

	log_direct(LOG_TO_SYSLOG, path, "pool 1", 16);
	log_warning("backend_down", LOG_FIELDS(LOG_TEXT("server", "db1:5432"), LOG_NUMBER("n", 3)), "it is \"down\"\n");
	const char *got = next_datagram();
	/* local0, warning */
	ck_assert_msg(strncmp(got, "<132>", 5) == 0, "%s", got);
	ck_assert_int_eq(got[8], ' ');
	ck_assert_int_eq(got[14], ':');
	snprintf(expected, sizeof expected, " pool_1[%d]: backend_down server=db1:5432 n=3 \"it is \\\"down\\\"\\n\"", (int)getpid());
	ck_assert_str_eq(got + 20, expected);
	log_configure(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
	log_info("ready", NULL, "ready");
	got = next_datagram();
	ck_assert_int_eq(strncmp(got, "<134>", 5), 0);
	ck_assert_ptr_nonnull(strstr(got, "]: {\"ts\":\""));
	ck_assert_ptr_nonnull(strstr(got, "\"event\":\"ready\",\"message\":\"ready\"}"));
	ck_assert_str_eq(on_stderr(), "");
}
END_TEST

START_TEST(journald_gets_each_field_as_a_field) {
	char expected[400];

	log_direct(LOG_TO_JOURNALD, path, "forebay", 3);
	log_error("client_refused", LOG_FIELDS(LOG_TEXT("user", "a\nPRIORITY=0"), LOG_NUMBER("id", 7)), "no \"room\" \\ \xff");
	snprintf(expected, sizeof expected,
		 "PRIORITY=3\nSYSLOG_FACILITY=3\nSYSLOG_IDENTIFIER=forebay\nSYSLOG_PID=%d\nFOREBAY_EVENT=client_refused\n"
		 "FOREBAY_USER=a\\nPRIORITY=0\nFOREBAY_ID=7\nMESSAGE=no \"room\" \\\\ \\xff\n",
		 (int)getpid());
	ck_assert_str_eq(next_datagram(), expected);
}
END_TEST

START_TEST(long_datagram_is_cut_and_its_message_still_there) {
	static char big[20001];

	memset(big, 'y', sizeof big - 1);
	log_direct(LOG_TO_JOURNALD, path, "forebay", 3);
	log_info("big", LOG_FIELDS(LOG_TEXT("value", big), LOG_TEXT("more", big)), "%s", big);
	const char *got = next_datagram(), *message = strstr(got, "\nMESSAGE=yyy");
	ck_assert_ptr_nonnull(message);
	ck_assert_uint_le(strlen(got), 4096);
	ck_assert_ptr_nonnull(strstr(got, "y\xe2\x80\xa6\nMESSAGE="));
	ck_assert_str_eq(got + strlen(got) - 4, "\xe2\x80\xa6\n");
}
END_TEST

/* Fills the socket and the backlog: how many lines that took before one was dropped. */
static int fill(void) {
	uint64_t before = log_dropped();
	int n = 0;

	while (log_dropped() == before) {
		log_info("flood", NULL, "%d", n);
		ck_assert_int_lt(++n, 1000000);
	}
	return n - 1;
}

START_TEST(full_socket_holds_nobody_up_keeps_the_order_and_the_loss_is_told) {
	char expected[64];

	log_direct(LOG_TO_JOURNALD, path, "forebay", 3);
	int taken = fill();
	ck_assert_int_gt(taken, LOG_BACKLOG_MAX / 512);
	/* one more is lost; then there is room */
	log_info("flood", NULL, "lost");
	for (int i = 0; i < taken; i++) {
		const char *got = next_datagram();
		if (!*got) {
			log_flush(false);
			got = next_datagram();
		}
		snprintf(expected, sizeof expected, "\nMESSAGE=%d\n", i);
		ck_assert_msg(strstr(got, expected) != NULL, "not %d: %s", i, got);
	}
	const char *told = next_datagram();
	if (!*told) {
		log_flush(false);
		told = next_datagram();
	}
	ck_assert_msg(strstr(told, "FOREBAY_EVENT=log_lines_dropped\nFOREBAY_LINES=2\n") != NULL, "%s", told);
	ck_assert_str_eq(next_datagram(), "");
	log_info("after", NULL, "there is room again");
	ck_assert_ptr_nonnull(strstr(next_datagram(), "there is room again"));
	ck_assert_str_eq(on_stderr(), "");
}
END_TEST

START_TEST(what_is_lost_at_the_end_is_told_on_stderr) {
	log_direct(LOG_TO_SYSLOG, path, "forebay", 3);
	fill();
	log_flush(true);
	ck_assert_ptr_nonnull(strstr(on_stderr(), "log_lines_dropped lines="));
	ck_assert_ptr_nonnull(strstr(on_stderr(), "syslog was full to the end"));
}
END_TEST

/* There is nothing to try again soon where nobody listens. */
START_TEST(what_is_kept_is_sent_soon_only_where_somebody_listens) {
	log_direct(LOG_TO_JOURNALD, path, "forebay", 3);
	int taken = fill();
	ck_assert(log_flush(false));
	close(listener);
	listener = -1;
	ck_assert(!log_flush(false));
	listener = listen_at(path);
	ck_assert(log_flush(false));
	int got = 0;
	for (const char *line = next_datagram(); *line; line = next_datagram()) {
		got += strstr(line, "FOREBAY_EVENT=flood") != NULL;
		log_flush(false);
	}
	ck_assert_int_lt(got, taken); /* those went that the one who left had not read */
	ck_assert_int_gt(got, LOG_BACKLOG_MAX / 512);
	ck_assert(!log_flush(false));
}
END_TEST

START_TEST(absent_socket_sends_lines_to_stderr_until_it_is_back) {
	close(listener);
	listener = -1;
	log_direct(LOG_TO_JOURNALD, path, "forebay", 3);
	log_info("one", LOG_FIELDS(LOG_NUMBER("n", 1)), "first");
	log_info("two", NULL, "second");
	const char *got = on_stderr();
	ck_assert_msg(strstr(got, "warning log_destination_gone socket=@forebay-test-log-") != NULL, "%s", got);
	ck_assert_ptr_nonnull(strstr(got, " info  one n=1 \"first\"\n"));
	ck_assert_ptr_nonnull(strstr(got, " info  two \"second\"\n"));
	ck_assert_ptr_null(strstr(strstr(got, "_gone") + 1, "_gone"));
	listener = listen_at(path);
	log_info("three", NULL, "third");
	ck_assert_ptr_nonnull(strstr(next_datagram(), "MESSAGE=third\n"));
	ck_assert_ptr_nonnull(strstr(next_datagram(), "FOREBAY_EVENT=log_destination_back\nFOREBAY_LINES=2\n"));
	ck_assert_ptr_null(strstr(on_stderr(), "third"));
}
END_TEST

START_TEST(one_that_is_started_anew_misses_nothing) {
	log_direct(LOG_TO_JOURNALD, path, "forebay", 3);
	log_info("one", NULL, "before");
	ck_assert_ptr_nonnull(strstr(next_datagram(), "MESSAGE=before\n"));
	close(listener);
	listener = listen_at(path);
	log_info("two", NULL, "after");
	ck_assert_ptr_nonnull(strstr(next_datagram(), "MESSAGE=after\n"));
	ck_assert_str_eq(on_stderr(), "");
}
END_TEST

START_TEST(what_is_told_each_time_is_never_counted_together) {
	log_direct(LOG_TO_JOURNALD, path, "forebay", 3);
	for (int i = 0; i < 3; i++)
		log_each(LOG_LEVEL_INFO, "client_connected", LOG_FIELDS(LOG_NUMBER("id", i)), "client logged in");
	ck_assert_ptr_nonnull(strstr(next_datagram(), "FOREBAY_ID=0\n"));
	ck_assert_ptr_nonnull(strstr(next_datagram(), "FOREBAY_ID=1\n"));
	ck_assert_ptr_nonnull(strstr(next_datagram(), "FOREBAY_ID=2\n"));
}
END_TEST

int main(void) {
	Suite *suite = suite_create("log_socket");
	TCase *tc = tcase_create("log_socket");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, syslog_gets_priority_time_name_and_the_line);
	tcase_add_test(tc, journald_gets_each_field_as_a_field);
	tcase_add_test(tc, long_datagram_is_cut_and_its_message_still_there);
	tcase_add_test(tc, full_socket_holds_nobody_up_keeps_the_order_and_the_loss_is_told);
	tcase_add_test(tc, what_is_lost_at_the_end_is_told_on_stderr);
	tcase_add_test(tc, what_is_kept_is_sent_soon_only_where_somebody_listens);
	tcase_add_test(tc, absent_socket_sends_lines_to_stderr_until_it_is_back);
	tcase_add_test(tc, one_that_is_started_anew_misses_nothing);
	tcase_add_test(tc, what_is_told_each_time_is_never_counted_together);
	tcase_set_timeout(tc, 30);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
