/* PostgreSQL's messages: building them, and reading errors however they are cut. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "pgsql/wire.h"

START_TEST(message_carries_its_own_length_without_the_type_byte) {
	struct pg_builder b = pg_builder(NULL);
	pg_open(&b, 'S');
	pg_cstr(&b, "a");
	pg_u16(&b, 0x0102);
	pg_close(&b);
	ck_assert(b.ok);
	ck_assert_uint_eq(buf_len(&b.buf), 9);
	ck_assert_mem_eq(buf_bytes(&b.buf), "S\0\0\0\x08" "a\0\x01\x02", 9);
	pg_builder_release(&b);
}
END_TEST

START_TEST(startup_message_has_no_type_byte) {
	struct pg_builder b = pg_builder(NULL);
	pg_open(&b, 0);
	pg_u32(&b, PG_SSL_REQUEST);
	pg_close(&b);
	ck_assert_uint_eq(buf_len(&b.buf), 8);
	ck_assert_mem_eq(buf_bytes(&b.buf), "\0\0\0\x08\x04\xd2\x16\x2f", 8);
	pg_builder_release(&b);
}
END_TEST

START_TEST(several_messages_follow_each_other_whatever_their_size) {
	struct pg_builder b = pg_builder(NULL);
	static char big[100000];
	pg_open(&b, 'D');
	pg_raw(&b, big, sizeof big);
	pg_close(&b);
	pg_open(&b, 'Z');
	pg_u8(&b, 'I');
	pg_close(&b);
	ck_assert(b.ok);
	const uint8_t *second = buf_bytes(&b.buf) + 5 + sizeof big;
	ck_assert_mem_eq(buf_bytes(&b.buf), "D\0\x01\x86\xa4", 5);
	ck_assert_mem_eq(second, "Z\0\0\0\x05I", 6);
	pg_builder_release(&b);
}
END_TEST

START_TEST(error_is_appended_whole_and_reads_back) {
	struct buf out = {0};
	ck_assert(buf_append(NULL, &out, "xy", 2));
	const struct pg_error_fields fields = {
		.severity = "FATAL", .sqlstate = "28P01", .message = "no", .hint = "try again"};
	ck_assert(pg_put_error(NULL, &out, 'E', &fields));
	ck_assert_mem_eq(buf_bytes(&out), "xyE", 3);
	struct pg_error_view view = pg_error_view(buf_bytes(&out) + 7, buf_len(&out) - 7);
	ck_assert_str_eq(view.severity, "FATAL");
	ck_assert_str_eq(view.sqlstate, "28P01");
	ck_assert_str_eq(view.message, "no");
	buf_release(NULL, &out);
}
END_TEST

START_TEST(error_view_of_a_cut_body_stays_within_it) {
	static const uint8_t body[] = "SFATAL\0C57P01\0Mgoing down\0";
	for (size_t len = 0; len <= sizeof body; len++) {
		/* in memory of exactly this size, so that a sanitizer sees a read behind it */
		uint8_t *copy = malloc(len ? len : 1);
		memcpy(copy, body, len);
		struct pg_error_view view = pg_error_view(copy, len);
		if (view.severity)
			ck_assert_str_eq(view.severity, "FATAL");
		if (view.sqlstate)
			ck_assert_str_eq(view.sqlstate, "57P01");
		ck_assert(!view.message || len >= 26);
		free(copy);
	}
}
END_TEST

START_TEST(error_view_survives_missing_fields) {
	struct pg_error_view view = pg_error_view((const uint8_t *)"\0", 1);
	ck_assert_ptr_null(view.sqlstate);
	ck_assert_ptr_null(view.message);
	view = pg_error_view((const uint8_t *)"Mx\0\0", 4);
	ck_assert_str_eq(view.message, "x");
	ck_assert_ptr_null(view.sqlstate);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("wire");
	TCase *tc = tcase_create("wire");
	tcase_add_test(tc, message_carries_its_own_length_without_the_type_byte);
	tcase_add_test(tc, startup_message_has_no_type_byte);
	tcase_add_test(tc, several_messages_follow_each_other_whatever_their_size);
	tcase_add_test(tc, error_is_appended_whole_and_reads_back);
	tcase_add_test(tc, error_view_of_a_cut_body_stays_within_it);
	tcase_add_test(tc, error_view_survives_missing_fields);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
