/* Places of clients: exact, whoever else takes one at the same time. */
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "session/admission.h"

enum { THREADS = 4, LIMIT = 1, ROUNDS = 2000000, USER_ROUNDS = 200000 };

static struct {
	_Atomic uint32_t taken;                /* what place_take() counts */
	_Atomic uint32_t inside, most, refused; /* what really is */
	_Atomic bool broken;
	pthread_barrier_t start;
} world;

static void come_in(void) {
	uint32_t inside = atomic_fetch_add(&world.inside, 1) + 1, most = atomic_load(&world.most);

	while (inside > most && !atomic_compare_exchange_weak(&world.most, &most, inside))
		;
}

static void *take_places(void *unused) {
	(void)unused;
	pthread_barrier_wait(&world.start);
	for (int i = 0; i < ROUNDS; i++) {
		if (!place_take(&world.taken, LIMIT)) {
			atomic_fetch_add(&world.refused, 1);
			continue;
		}
		come_in();
		atomic_fetch_sub(&world.inside, 1);
		place_return(&world.taken);
	}
	return NULL;
}

static void *take_users_places(void *unused) {
	(void)unused;
	pthread_barrier_wait(&world.start);
	for (int i = 0; i < USER_ROUNDS; i++) {
		bool no_memory = true;
		struct user_places *places = user_place_take("app", LIMIT, &no_memory);
		if (no_memory)
			atomic_store(&world.broken, true);
		if (!places) {
			atomic_fetch_add(&world.refused, 1);
			continue;
		}
		come_in();
		atomic_fetch_sub(&world.inside, 1);
		user_place_return(places);
	}
	return NULL;
}

static void run(void *(*thread)(void *)) {
	pthread_t threads[THREADS];

	pthread_barrier_init(&world.start, NULL, THREADS);
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, thread, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&world.start);
	ck_assert(!atomic_load(&world.broken));
	ck_assert_uint_le(atomic_load(&world.most), LIMIT);
	ck_assert_uint_eq(atomic_load(&world.inside), 0);
}

START_TEST(of_threads_that_take_places_no_more_than_the_limit_have_one) {
	run(take_places);
	ck_assert_uint_eq(atomic_load(&world.taken), 0);
}
END_TEST

START_TEST(of_threads_that_take_a_user_s_places_no_more_than_the_limit_have_one) {
	run(take_users_places);
}
END_TEST

START_TEST(a_refusal_takes_no_place) {
	_Atomic uint32_t taken = 0;

	ck_assert(place_take(&taken, 2) && place_take(&taken, 2));
	for (int i = 0; i < 3; i++)
		ck_assert(!place_take(&taken, 2));
	ck_assert_uint_eq(atomic_load(&taken), 2);
	place_return(&taken);
	ck_assert(place_take(&taken, 2));
	ck_assert(!place_take(&taken, 1)); /* lowered by a reload: those who are in stay */
	ck_assert(place_take(&taken, 3));
	ck_assert(place_take(&taken, 0)); /* no limit */
	ck_assert_uint_eq(atomic_load(&taken), 4);
}
END_TEST

START_TEST(users_are_counted_each_by_itself_with_a_limit_or_without) {
	bool no_memory;
	struct user_places *a = user_place_take("a", 0, &no_memory), *again = user_place_take("a", 0, &no_memory);
	struct user_places *b = user_place_take("b", 1, &no_memory);

	ck_assert(a && again && b && !no_memory);
	ck_assert_ptr_null(user_place_take("a", 2, &no_memory)); /* a limit that came later */
	ck_assert_ptr_null(user_place_take("b", 1, &no_memory));
	ck_assert(!no_memory);
	user_place_return(a);
	a = user_place_take("a", 2, &no_memory);
	ck_assert_ptr_nonnull(a);
	user_place_return(a);
	user_place_return(again);
	user_place_return(b);
	b = user_place_take("b", 1, &no_memory);
	ck_assert_ptr_nonnull(b);
	user_place_return(b);
	user_place_return(NULL);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("admission");
	TCase *tcase = tcase_create("places");
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, of_threads_that_take_places_no_more_than_the_limit_have_one);
	tcase_add_test(tcase, of_threads_that_take_a_user_s_places_no_more_than_the_limit_have_one);
	tcase_add_test(tcase, a_refusal_takes_no_place);
	tcase_add_test(tcase, users_are_counted_each_by_itself_with_a_limit_or_without);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
