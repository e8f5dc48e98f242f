/* Buffers and the cache of blocks behind them; secrets. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/secret.h"

static struct buf_cache *cache;

static void set_up(void) {
	cache = buf_cache_new();
	ck_assert_ptr_nonnull(cache);
}

static void tear_down(void) {
	buf_cache_free(cache);
}

START_TEST(appended_bytes_come_out_in_order) {
	struct buf b = {0};

	ck_assert(buf_append(cache, &b, "forebay", 7));
	ck_assert(buf_append(cache, &b, " pool", 5));
	ck_assert_uint_eq(buf_len(&b), 12);
	ck_assert_mem_eq(buf_bytes(&b), "forebay pool", 12);
	buf_consume(cache, &b, 8);
	ck_assert_mem_eq(buf_bytes(&b), "pool", 4);
	buf_release(cache, &b);
}
END_TEST

START_TEST(block_is_given_back_when_the_last_byte_is_consumed) {
	struct buf b = {0}, other = {0};

	ck_assert(buf_append(cache, &b, "x", 1));
	uint8_t *block = b.data;
	buf_consume(cache, &b, 1);
	ck_assert_ptr_null(b.data);
	ck_assert_uint_eq(b.cap, 0);
	ck_assert(buf_append(cache, &other, "y", 1));
	ck_assert_ptr_eq(other.data, block);
	buf_release(cache, &other);
}
END_TEST

START_TEST(smallest_block_that_holds_the_bytes_is_used) {
	static const struct {
		size_t need;
		uint32_t cap;
	} cases[] = {{1, 2048}, {2048, 2048}, {2049, 8192}, {8193, 32768}, {32769, 131072}, {131073, 262144}};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct buf b = {0};
		ck_assert(buf_reserve(cache, &b, cases[i].need));
		ck_assert_uint_eq(b.cap, cases[i].cap);
		buf_release(cache, &b);
	}
}
END_TEST

START_TEST(reserve_moves_to_the_front_rather_than_grow) {
	struct buf b = {0};
	char bytes[2048];

	memset(bytes, 'a', sizeof bytes);
	ck_assert(buf_append(cache, &b, bytes, sizeof bytes));
	buf_consume(cache, &b, 2000);
	ck_assert(buf_reserve(cache, &b, 1900));
	ck_assert_uint_eq(b.cap, 2048);
	ck_assert_uint_eq(b.start, 0);
	ck_assert_uint_eq(buf_len(&b), 48);
	buf_release(cache, &b);
}
END_TEST

START_TEST(over_one_gibibyte_is_refused_and_nothing_is_changed) {
	struct buf b = {0};

	ck_assert(buf_append(cache, &b, "kept", 4));
	ck_assert(!buf_reserve(cache, &b, (size_t)1 << 30));
	ck_assert(!buf_reserve(cache, &b, SIZE_MAX));
	ck_assert_uint_eq(buf_len(&b), 4);
	ck_assert_mem_eq(buf_bytes(&b), "kept", 4);
	buf_release(cache, &b);
}
END_TEST

START_TEST(buffer_without_a_cache_is_plain_memory) {
	struct buf b = {0};

	for (int i = 0; i < 100000; i++)
		ck_assert(buf_append(NULL, &b, &i, sizeof i));
	for (int i = 0; i < 100000; i++) {
		int got;
		memcpy(&got, buf_bytes(&b), sizeof got);
		ck_assert_int_eq(got, i);
		buf_consume(NULL, &b, sizeof got);
	}
	ck_assert_ptr_null(b.data);
}
END_TEST

START_TEST(printf_appends_without_its_zero) {
	struct buf b = {0};

	ck_assert(buf_append(cache, &b, "n=", 2));
	ck_assert(buf_printf(cache, &b, "%d %s", 42, "ok"));
	ck_assert_uint_eq(buf_len(&b), 7);
	ck_assert_mem_eq(buf_bytes(&b), "n=42 ok", 7);
	buf_release(cache, &b);
}
END_TEST

START_TEST(wiped_release_leaves_nothing_of_a_secret_in_the_block) {
	struct buf b = {0}, next = {0};

	ck_assert(buf_append(cache, &b, "0123456789hunter2", 17));
	buf_consume(cache, &b, 12);
	uint8_t *block = b.data;
	buf_release_wiped(cache, &b);
	ck_assert(buf_reserve(cache, &next, 1));
	ck_assert_ptr_eq(next.data, block);
	/* The first bytes of a free block are the cache's own. */
	for (int i = sizeof(void *); i < 17; i++)
		ck_assert_uint_eq(next.data[i], 0);
	buf_release(cache, &next);
}
END_TEST

START_TEST(random_appends_and_consumes_match_a_plain_queue) {
	static uint8_t model[1 << 20];
	size_t model_start = 0, model_end = 0;
	struct buf b = {0};
	uint8_t piece[5000];

	srand(7);
	for (int step = 0; step < 5000; step++) {
		size_t n = (size_t)rand() % sizeof piece;
		if (rand() % 2 && model_end + n <= sizeof model) {
			for (size_t i = 0; i < n; i++)
				piece[i] = (uint8_t)rand();
			ck_assert(buf_append(cache, &b, piece, n));
			memcpy(model + model_end, piece, n);
			model_end += n;
		} else {
			n = n < model_end - model_start ? n : model_end - model_start;
			buf_consume(cache, &b, n);
			model_start += n;
		}
		ck_assert_uint_eq(buf_len(&b), model_end - model_start);
		if (buf_len(&b))
			ck_assert(memcmp(buf_bytes(&b), model + model_start, buf_len(&b)) == 0);
		if (model_start == model_end)
			model_start = model_end = 0;
	}
	buf_release(cache, &b);
}
END_TEST

START_TEST(error_text_is_cut_at_its_room_and_may_quote_itself) {
	struct error e = {0};
	char longer[2000];

	memset(longer, 'x', sizeof longer - 1);
	longer[sizeof longer - 1] = '\0';
	ck_assert(!error_set(&e, 5, "%s", longer));
	ck_assert_int_eq(e.code, 5);
	ck_assert_uint_eq(strlen(e.text), sizeof e.text - 1);
	error_set(&e, 2, "no such file");
	error_set(&e, e.code, "cannot open x: %s", e.text);
	ck_assert_str_eq(e.text, "cannot open x: no such file");
	ck_assert(!error_set(NULL, 1, "nobody looks"));
}
END_TEST

START_TEST(secrets_compare_by_content_and_length) {
	char *copy = secret_strdup("hunter2");

	ck_assert_str_eq(copy, "hunter2");
	ck_assert(secret_equal(copy, 7, "hunter2", 7));
	ck_assert(!secret_equal(copy, 7, "hunter3", 7));
	ck_assert(!secret_equal(copy, 7, "hunter", 6));
	ck_assert(secret_equal(copy, 0, "", 0));
	secret_free(copy);
	secret_free(NULL);
	ck_assert_ptr_null(secret_strdup(NULL));
}
END_TEST

START_TEST(random_bytes_fill_the_whole_room) {
	uint8_t a[600] = {0}, b[600] = {0};
	int zeros = 0;

	ck_assert(secret_random(a, sizeof a));
	ck_assert(secret_random(b, sizeof b));
	ck_assert(memcmp(a, b, sizeof a) != 0);
	for (size_t i = sizeof a - 64; i < sizeof a; i++)
		zeros += a[i] == 0;
	ck_assert_int_lt(zeros, 32);
	secret_wipe(a, sizeof a);
	for (size_t i = 0; i < sizeof a; i++)
		ck_assert_uint_eq(a[i], 0);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("buf");
	TCase *tc = tcase_create("buf");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, appended_bytes_come_out_in_order);
	tcase_add_test(tc, block_is_given_back_when_the_last_byte_is_consumed);
	tcase_add_test(tc, smallest_block_that_holds_the_bytes_is_used);
	tcase_add_test(tc, reserve_moves_to_the_front_rather_than_grow);
	tcase_add_test(tc, over_one_gibibyte_is_refused_and_nothing_is_changed);
	tcase_add_test(tc, buffer_without_a_cache_is_plain_memory);
	tcase_add_test(tc, printf_appends_without_its_zero);
	tcase_add_test(tc, wiped_release_leaves_nothing_of_a_secret_in_the_block);
	tcase_add_test(tc, random_appends_and_consumes_match_a_plain_queue);
	tcase_add_test(tc, error_text_is_cut_at_its_room_and_may_quote_itself);
	tcase_add_test(tc, secrets_compare_by_content_and_length);
	tcase_add_test(tc, random_bytes_fill_the_whole_room);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
