/* Random bytes: none is given out twice, to whichever thread, in whatever portions. */
#include <check.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"

enum { THREADS = 4, DRAWS = 5000, SIZE = 8 };

static uint8_t drawn[THREADS][DRAWS][SIZE];

static void *draw(void *context) {
	uint8_t(*mine)[SIZE] = context;
	uint8_t other[300];

	for (int i = 0; i < DRAWS; i++) {
		if (!secret_random(mine[i], SIZE) || !secret_random(other, (size_t)i % sizeof other))
			return mine;
	}
	return NULL;
}

static int compare(const void *a, const void *b) {
	return memcmp(a, b, SIZE);
}

START_TEST(no_two_draws_are_the_same) {
	pthread_t threads[THREADS];
	void *failed;

	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, draw, drawn[i]), 0);
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], &failed);
		ck_assert_ptr_null(failed);
	}
	uint8_t(*all)[SIZE] = drawn[0];
	qsort(all, THREADS * DRAWS, SIZE, compare);
	for (int i = 1; i < THREADS * DRAWS; i++)
		ck_assert_int_ne(memcmp(all[i - 1], all[i], SIZE), 0);
}
END_TEST

/* Each byte of the portion is written, and none beside it. */
START_TEST(portions_of_all_sizes_are_filled) {
	enum { MOST = 1200, ROUNDS = 8 };
	uint8_t seen[MOST], got[MOST + 2];

	for (size_t len = 0; len <= MOST; len += len < 140 ? 1 : 53) {
		memset(seen, 0, sizeof seen);
		for (int round = 0; round < ROUNDS; round++) {
			memset(got, 0, sizeof got);
			got[0] = got[len + 1] = 0x5a;
			ck_assert(secret_random(got + 1, len));
			ck_assert_int_eq(got[0], 0x5a);
			ck_assert_int_eq(got[len + 1], 0x5a);
			for (size_t i = 0; i < len; i++)
				seen[i] |= got[i + 1];
		}
		for (size_t i = 0; i < len; i++)
			ck_assert_msg(seen[i], "byte %zu of %zu was zero %d times", i, len, ROUNDS);
	}
}
END_TEST

int main(void) {
	Suite *suite = suite_create("secret");
	TCase *tc = tcase_create("random");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, no_two_draws_are_the_same);
	tcase_add_test(tc, portions_of_all_sizes_are_filled);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
