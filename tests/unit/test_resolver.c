/* Names to addresses. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "net/resolver.h"
#include "net_harness.h"

static struct worker worker;

static void set_up(void) {
	worker_begin(&worker, 0);
	ck_assert(resolver_start());
}

static void tear_down(void) {
	resolver_stop();
	worker_end(&worker);
}

/* A label longer than 63 bytes is no name (RFC 1035 section 2.3.4): it fails without a question to any server. */
#define NO_NAME "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

struct question {
	struct resolver_query query;
	const char *host, *format;
	int port;
	bool at_once; /* answered from within the call */
	int answers;
	bool was_null;
	struct resolved answer;
	struct gate answered;
};

static void take_answer(struct resolver_query *query, const struct resolved *answer) {
	struct question *question = query->context;

	must(worker_current() == &worker);
	question->answers++;
	question->was_null = answer == NULL;
	if (answer)
		question->answer = *answer;
	gate_add(&question->answered);
}

static void ask(struct worker *w, void *arg) {
	struct question *question = arg;

	question->query = (struct resolver_query){.context = question, .done = take_answer};
	resolver_ask(&question->query, w, question->host, question->port, question->format);
	question->at_once = question->answers > 0;
}

static void ask_and_cancel(struct worker *w, void *arg) {
	struct question *question = arg;

	ask(w, arg);
	question->query.cancelled = true;
}

static struct question answer_to(const char *host, int port, const char *format) {
	struct question question = {.host = host, .port = port, .format = format, .answered = GATE_INIT};

	on_worker(&worker, ask, &question);
	gate_wait(&question.answered, 1);
	return question;
}

static const char *text_of(const struct question *question, int i) {
	static char text[256];
	char host[INET6_ADDRSTRLEN];
	const void *address = &question->answer.at[i].address;

	switch (question->answer.at[i].address.ss_family) {
	case AF_INET: {
		const struct sockaddr_in *in = address;
		snprintf(text, sizeof text, "%s:%d", inet_ntop(AF_INET, &in->sin_addr, host, sizeof host), ntohs(in->sin_port));
		break;
	}
	case AF_INET6: {
		const struct sockaddr_in6 *in6 = address;
		snprintf(text, sizeof text, "[%s]:%d", inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host),
			 ntohs(in6->sin6_port));
		break;
	}
	case AF_UNIX:
		snprintf(text, sizeof text, "%s", ((const struct sockaddr_un *)address)->sun_path);
		break;
	default:
		snprintf(text, sizeof text, "?");
	}
	return text;
}

START_TEST(addresses_and_paths_are_answered_within_the_call) {
	static const struct {
		const char *host;
		int port;
		const char *format, *expected;
	} cases[] = {
		{"127.0.0.1", 5432, NULL, "127.0.0.1:5432"},
		{"::1", 5433, ".s.PGSQL.%d", "[::1]:5433"},
		{"/run/postgresql", 5432, ".s.PGSQL.%d", "/run/postgresql/.s.PGSQL.5432"},
		{"/run/mysqld/mysqld.sock", 3306, NULL, "/run/mysqld/mysqld.sock"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct question question = answer_to(cases[i].host, cases[i].port, cases[i].format);
		ck_assert(question.at_once);
		ck_assert_int_eq(question.answer.count, 1);
		ck_assert_str_eq(text_of(&question, 0), cases[i].expected);
	}
}
END_TEST

START_TEST(socket_path_that_is_too_long_is_an_error) {
	char path[300];

	memset(path, 'p', sizeof path - 1);
	path[0] = '/';
	path[sizeof path - 1] = '\0';
	struct question question = answer_to(path, 5432, ".s.PGSQL.%d");
	ck_assert_int_eq(question.answer.count, 0);
	ck_assert_ptr_nonnull(strstr(question.answer.error.text, "longer than"));
}
END_TEST

START_TEST(name_is_looked_up_elsewhere_and_then_kept) {
	struct question first = answer_to("localhost", 5432, NULL);

	ck_assert(!first.at_once);
	ck_assert_int_ge(first.answer.count, 1);
	bool loopback = false;
	for (int i = 0; i < first.answer.count; i++)
		loopback |= !strcmp(text_of(&first, i), "127.0.0.1:5432") || !strcmp(text_of(&first, i), "[::1]:5432");
	ck_assert(loopback);
	struct question second = answer_to("localhost", 6000, NULL);
	ck_assert(second.at_once);
	ck_assert_int_eq(second.answer.count, first.answer.count);
	ck_assert_ptr_nonnull(strstr(text_of(&second, 0), ":6000"));
}
END_TEST

START_TEST(failure_names_the_host_and_is_kept_for_a_moment) {
	struct question first = answer_to(NO_NAME, 5432, NULL);

	ck_assert_int_eq(first.answer.count, 0);
	ck_assert_ptr_nonnull(strstr(first.answer.error.text, NO_NAME));
	struct question second = answer_to(NO_NAME, 5432, NULL);
	ck_assert(second.at_once);
	ck_assert_str_eq(second.answer.error.text, first.answer.error.text);
	/* ... and for no longer. */
	uint64_t begin = clock_monotonic_ns();
	do
		second = answer_to(NO_NAME, 5432, NULL);
	while (second.at_once);
	ck_assert_uint_lt(clock_monotonic_ns() - begin, 5 * NS_PER_S);
}
END_TEST

START_TEST(empty_and_endless_names_are_refused) {
	char endless[1000];

	memset(endless, 'b', sizeof endless - 1);
	endless[sizeof endless - 1] = '\0';
	ck_assert_int_eq(answer_to("", 1, NULL).answer.count, 0);
	ck_assert_int_eq(answer_to(endless, 1, NULL).answer.count, 0);
}
END_TEST

enum { ASKERS = 50 };

static void ask_all(struct worker *w, void *arg) {
	struct question *questions = arg;

	for (int i = 0; i < ASKERS; i++)
		ask(w, &questions[i]);
}

START_TEST(all_who_ask_for_one_name_are_answered_each_with_its_port) {
	static struct question questions[ASKERS];

	for (int i = 0; i < ASKERS; i++)
		questions[i] = (struct question){.host = "localhost", .port = 1000 + i, .answered = GATE_INIT};
	on_worker(&worker, ask_all, questions);
	for (int i = 0; i < ASKERS; i++) {
		char port[16];
		gate_wait(&questions[i].answered, 1);
		ck_assert_int_ge(questions[i].answer.count, 1);
		snprintf(port, sizeof port, ":%d", 1000 + i);
		ck_assert_ptr_nonnull(strstr(text_of(&questions[i], 0), port));
	}
}
END_TEST

START_TEST(cancelled_query_gets_nothing_but_its_end) {
	struct question question = {.host = "localhost", .port = 1, .answered = GATE_INIT};

	on_worker(&worker, ask_and_cancel, &question);
	gate_wait(&question.answered, 1);
	ck_assert(!question.at_once);
	ck_assert(question.was_null);
	ck_assert_int_eq(question.answers, 1);
}
END_TEST

START_TEST(more_names_than_are_kept_are_all_answered) {
	for (int i = 0; i < 400; i++) {
		char name[128];
		snprintf(name, sizeof name, "%s%d", NO_NAME, i);
		ck_assert_int_eq(answer_to(name, 1, NULL).answer.count, 0);
	}
}
END_TEST

START_TEST(who_waits_when_the_resolver_stops_is_told) {
	static struct question questions[ASKERS];

	for (int i = 0; i < ASKERS; i++)
		questions[i] = (struct question){.host = NO_NAME, .port = 1, .answered = GATE_INIT};
	on_worker(&worker, ask_all, questions);
	resolver_stop();
	for (int i = 0; i < ASKERS; i++)
		gate_wait(&questions[i].answered, 1);
	struct question after = answer_to("localhost", 1, NULL);
	ck_assert(after.at_once);
	ck_assert_int_eq(after.answer.count, 0);
}
END_TEST

static TCase *tests(Suite *suite, const char *name, void (*before)(void), void (*after)(void)) {
	TCase *tc = tcase_create(name);

	tcase_add_checked_fixture(tc, before, after);
	tcase_set_timeout(tc, 60);
	suite_add_tcase(suite, tc);
	return tc;
}

int main(void) {
	Suite *suite = suite_create("resolver");
	TCase *tc = tests(suite, "resolver", set_up, tear_down);

	tcase_add_test(tc, addresses_and_paths_are_answered_within_the_call);
	tcase_add_test(tc, socket_path_that_is_too_long_is_an_error);
	tcase_add_test(tc, name_is_looked_up_elsewhere_and_then_kept);
	tcase_add_test(tc, failure_names_the_host_and_is_kept_for_a_moment);
	tcase_add_test(tc, empty_and_endless_names_are_refused);
	tcase_add_test(tc, all_who_ask_for_one_name_are_answered_each_with_its_port);
	tcase_add_test(tc, cancelled_query_gets_nothing_but_its_end);
	tcase_add_test(tc, more_names_than_are_kept_are_all_answered);
	tcase_add_test(tc, who_waits_when_the_resolver_stops_is_told);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
