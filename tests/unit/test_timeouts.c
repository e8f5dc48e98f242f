/* Timeouts under a clock that the test moves. */
#include <check.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/timeouts.h"

static struct timeouts set;

struct item {
	struct timeout timeout;
	int fired;
	uint64_t fired_at;
	struct item *also_clear;
	uint64_t again_at;
};

static uint64_t last_deadline;

static void on_expired(struct timeout *timeout, uint64_t now_ns) {
	struct item *item = container_of(timeout, struct item, timeout);

	ck_assert(!timeout_pending(timeout));
	ck_assert_uint_le(last_deadline, timeout->deadline_ns);
	last_deadline = timeout->deadline_ns;
	item->fired++;
	item->fired_at = now_ns;
	if (item->also_clear)
		timeouts_clear(&set, &item->also_clear->timeout);
	if (item->again_at) {
		last_deadline = 0;
		timeouts_set(&set, timeout, item->again_at);
	}
}

static void set_up(void) {
	timeouts_init(&set);
	last_deadline = 0;
}

static void tear_down(void) {
	timeouts_free(&set);
}

START_TEST(empty_set_has_no_next_deadline) {
	ck_assert_uint_eq(timeouts_next(&set), TIME_NEVER);
	timeouts_run(&set, TIME_NEVER);
}
END_TEST

START_TEST(timeout_runs_at_its_deadline_and_not_before) {
	struct item item = {.timeout.expired = on_expired};

	ck_assert(timeouts_set(&set, &item.timeout, 100));
	ck_assert(timeout_pending(&item.timeout));
	timeouts_run(&set, 99);
	ck_assert_int_eq(item.fired, 0);
	timeouts_run(&set, 100);
	ck_assert_int_eq(item.fired, 1);
	ck_assert_uint_eq(item.fired_at, 100);
	ck_assert(!timeout_pending(&item.timeout));
	timeouts_run(&set, 1000);
	ck_assert_int_eq(item.fired, 1);
}
END_TEST

START_TEST(moved_timeout_runs_at_its_new_deadline_only) {
	struct item a = {.timeout.expired = on_expired}, b = a;

	timeouts_set(&set, &a.timeout, 100);
	timeouts_set(&set, &b.timeout, 200);
	timeouts_set(&set, &a.timeout, 300);
	ck_assert_uint_eq(timeouts_next(&set), 200);
	timeouts_run(&set, 250);
	ck_assert_int_eq(a.fired, 0);
	ck_assert_int_eq(b.fired, 1);
	timeouts_set(&set, &a.timeout, 260);
	timeouts_run(&set, 260);
	ck_assert_int_eq(a.fired, 1);
}
END_TEST

START_TEST(cleared_timeout_never_runs) {
	struct item a = {.timeout.expired = on_expired};

	timeouts_clear(&set, &a.timeout);
	timeouts_set(&set, &a.timeout, 100);
	timeouts_clear(&set, &a.timeout);
	timeouts_clear(&set, &a.timeout);
	ck_assert_uint_eq(timeouts_next(&set), TIME_NEVER);
	timeouts_run(&set, 1000);
	ck_assert_int_eq(a.fired, 0);
}
END_TEST

START_TEST(one_that_expires_may_clear_another_that_is_due) {
	struct item a = {.timeout.expired = on_expired}, b = {.timeout.expired = on_expired};

	a.also_clear = &b;
	timeouts_set(&set, &a.timeout, 100);
	timeouts_set(&set, &b.timeout, 101);
	timeouts_run(&set, 200);
	ck_assert_int_eq(a.fired, 1);
	ck_assert_int_eq(b.fired, 0);
}
END_TEST

START_TEST(one_that_is_set_again_to_the_past_does_not_hold_up_the_loop) {
	struct item a = {.timeout.expired = on_expired, .again_at = 50};

	timeouts_set(&set, &a.timeout, 100);
	timeouts_run(&set, 200);
	ck_assert_int_eq(a.fired, 1);
	ck_assert_uint_eq(timeouts_next(&set), 50);
	timeouts_run(&set, 200);
	ck_assert_int_eq(a.fired, 2);
	timeouts_clear(&set, &a.timeout); /* the set outlives it */
}
END_TEST

START_TEST(random_operations_match_a_plain_table) {
	enum { N = 400 };
	static struct item items[N];
	static uint64_t due[N]; /* 0: not set */
	uint64_t now = 1;

	srand(11);
	for (int i = 0; i < N; i++)
		items[i] = (struct item){.timeout.expired = on_expired};
	for (int step = 0; step < 20000; step++) {
		int i = rand() % N;
		switch (rand() % 4) {
		case 0:
		case 1:
			due[i] = now + 1 + (uint64_t)rand() % 1000;
			ck_assert(timeouts_set(&set, &items[i].timeout, due[i]));
			break;
		case 2:
			due[i] = 0;
			timeouts_clear(&set, &items[i].timeout);
			break;
		case 3:
			now += (uint64_t)rand() % 20;
			last_deadline = 0;
			timeouts_run(&set, now);
			for (int k = 0; k < N; k++) {
				ck_assert_int_eq(items[k].fired, due[k] && due[k] <= now);
				if (items[k].fired)
					due[k] = 0;
				items[k].fired = 0;
			}
		}
		uint64_t next = TIME_NEVER;
		for (int k = 0; k < N; k++)
			if (due[k] && due[k] < next)
				next = due[k];
		ck_assert_uint_eq(timeouts_next(&set), next);
	}
}
END_TEST

int main(void) {
	Suite *suite = suite_create("timeouts");
	TCase *tc = tcase_create("timeouts");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, empty_set_has_no_next_deadline);
	tcase_add_test(tc, timeout_runs_at_its_deadline_and_not_before);
	tcase_add_test(tc, moved_timeout_runs_at_its_new_deadline_only);
	tcase_add_test(tc, cleared_timeout_never_runs);
	tcase_add_test(tc, one_that_expires_may_clear_another_that_is_due);
	tcase_add_test(tc, one_that_is_set_again_to_the_past_does_not_hold_up_the_loop);
	tcase_add_test(tc, random_operations_match_a_plain_table);
	tcase_set_timeout(tc, 30);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
