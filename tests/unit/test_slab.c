/* Objects of one size: each has room of its own, and blocks go back when they are empty. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/slab.h"

enum { OBJECTS = 5000, SIZE = 488 };

static void *taken[OBJECTS];

static bool is_filled(const unsigned char *object, unsigned char with) {
	for (size_t i = 0; i < SIZE; i++)
		if (object[i] != with)
			return false;
	return true;
}

static void take(struct slab *slab, size_t i) {
	taken[i] = slab_take(slab);
	ck_assert_ptr_nonnull(taken[i]);
	ck_assert_uint_eq((uintptr_t)taken[i] % _Alignof(void *), 0);
	ck_assert(is_filled(taken[i], 0));
	memset(taken[i], (int)(i % 255 + 1), SIZE);
}

static void give(struct slab *slab, size_t i) {
	ck_assert(is_filled(taken[i], (unsigned char)(i % 255 + 1)));
	slab_give(slab, taken[i]);
	taken[i] = NULL;
}

START_TEST(objects_keep_what_is_theirs_whatever_the_order_they_come_and_go_in) {
	struct slab slab;

	slab_init(&slab, SIZE);
	for (size_t i = 0; i < OBJECTS; i++)
		take(&slab, i);
	srandom(1);
	for (int n = 0; n < 20 * OBJECTS; n++) {
		size_t i = (size_t)random() % OBJECTS;
		if (taken[i])
			give(&slab, i);
		else
			take(&slab, i);
	}
	for (size_t i = 0; i < OBJECTS; i++)
		if (taken[i])
			give(&slab, i);
	slab_free(&slab);
}
END_TEST

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

START_TEST(blocks_are_full_before_there_is_another_and_go_when_they_are_empty) {
	struct slab slab;

	slab_init(&slab, SIZE);
	for (size_t i = 0; i < OBJECTS; i++)
		take(&slab, i);
	uint32_t most = slab.blocks;
	ck_assert_uint_le(most * 64 * 1024, (OBJECTS + 200) * (SIZE + 16));
	/* what has been given back is taken before a new block is */
	for (size_t i = 0; i < OBJECTS; i += 2)
		give(&slab, i);
	for (size_t i = 0; i < OBJECTS; i += 2)
		take(&slab, i);
	ck_assert_uint_eq(slab.blocks, most);
	for (size_t i = 0; i < OBJECTS; i++)
		give(&slab, i);
	ck_assert_uint_eq(slab.blocks, 1);
	/* the last one stays, so that one client that comes and goes needs no block each time */
	take(&slab, 0);
	give(&slab, 0);
	ck_assert_uint_eq(slab.blocks, 1);
	slab_free(&slab);
}
END_TEST

#endif

int main(void) {
	Suite *suite = suite_create("slab");
	TCase *tc = tcase_create("slab");

	tcase_add_test(tc, objects_keep_what_is_theirs_whatever_the_order_they_come_and_go_in);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	tcase_add_test(tc, blocks_are_full_before_there_is_another_and_go_when_they_are_empty);
#endif
	tcase_set_timeout(tc, 60);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
