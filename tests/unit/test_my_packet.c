/* MySQL's packets: integers and strings at their edges, OK and ERR in every form, and all of it cut everywhere. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "mysql/packet.h"

START_TEST(length_encoded_integers_read_back_at_every_edge_and_need_every_byte) {
	static const uint64_t edges[] = {0,	   1,	       250,	   251,		  252,		       0xffff,
					 0x10000, 0xffffff, 0x1000000, 0xffffffffull, 0xffffffffffffffffull};
	for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++) {
		struct my_builder b = my_builder(NULL);
		my_put_lenenc(&b, edges[i]);
		ck_assert(b.ok);
		size_t len = buf_len(&b.buf);
		size_t expected = edges[i] < 251 ? 1 : edges[i] <= 0xffff ? 3 : edges[i] <= 0xffffff ? 4 : 9;
		ck_assert_uint_eq(len, expected);
		struct reader r = reader_over(buf_bytes(&b.buf), len);
		ck_assert_uint_eq(my_lenenc(&r), edges[i]);
		ck_assert(r.ok && reader_left(&r) == 0);
		for (size_t cut = 0; cut < len; cut++) {
			r = reader_over(buf_bytes(&b.buf), cut);
			my_lenenc(&r);
			ck_assert_msg(!r.ok, "%zu of %zu bytes do for %llu", cut, len, (unsigned long long)edges[i]);
		}
		my_builder_release(&b);
	}
}
END_TEST

START_TEST(null_and_0xff_are_no_integers) {
	struct reader r = reader_over("\xfb", 1);
	bool is_null = false;
	size_t len = 1;

	my_lenenc(&r);
	ck_assert(!r.ok);
	r = reader_over("\xff\1\1\1\1\1\1\1\1", 9);
	my_lenenc(&r);
	ck_assert(!r.ok);
	r = reader_over("\xfb", 1);
	ck_assert_ptr_null(my_lenenc_or_null(&r, &len, &is_null));
	ck_assert(r.ok && is_null && len == 0);
}
END_TEST

START_TEST(a_string_longer_than_the_packet_is_refused_whatever_it_claims) {
	static const struct {
		const char *bytes;
		size_t len;
	} bad[] = {
		{"\x05" "abcd", 5},
		{"\xfc\xff\xff" "a", 4},
		{"\xfd\xff\xff\xff" "a", 5},
		{"\xfe\xff\xff\xff\xff\xff\xff\xff\xff" "a", 10},
		{"\xfe\0\0\0\0\1\0\0\0" "a", 10},
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct reader r = reader_over(bad[i].bytes, bad[i].len);
		size_t len = 7;
		ck_assert_ptr_null(my_lenenc_bytes(&r, &len));
		ck_assert(!r.ok);
		ck_assert_uint_eq(len, 0);
	}
	struct reader r = reader_over("\0", 1);
	size_t len = 7;
	ck_assert_ptr_nonnull(my_lenenc_bytes(&r, &len));
	ck_assert(r.ok && len == 0);
}
END_TEST

START_TEST(a_packet_carries_its_length_and_sequence) {
	struct my_builder b = my_builder(NULL);
	static uint8_t big[70000];
	struct my_header header;

	my_open(&b, 3);
	my_put(&b, big, sizeof big);
	my_close(&b);
	my_open(&b, 255);
	my_put_u8(&b, 9);
	my_close(&b);
	ck_assert(b.ok);
	const uint8_t *at = buf_bytes(&b.buf);
	for (size_t len = 0; len < MY_HEADER; len++)
		ck_assert(!my_read_header(at, len, &header));
	ck_assert(my_read_header(at, buf_len(&b.buf), &header));
	ck_assert_uint_eq(header.length, sizeof big);
	ck_assert_uint_eq(header.sequence, 3);
	ck_assert(my_read_header(at + MY_HEADER + sizeof big, 5, &header));
	ck_assert_uint_eq(header.length, 1);
	ck_assert_uint_eq(header.sequence, 255);
	my_builder_release(&b);
}
END_TEST

START_TEST(a_builder_refuses_what_one_packet_cannot_hold) {
	struct my_builder b = my_builder(NULL);
	uint8_t *big = calloc(1, MY_PACKET_FULL);

	ck_assert_ptr_nonnull(big);
	my_open(&b, 0);
	my_put(&b, big, MY_PACKET_FULL - 1);
	my_close(&b);
	ck_assert(b.ok);
	my_builder_release(&b);
	b = my_builder(NULL);
	my_open(&b, 0);
	my_put(&b, big, MY_PACKET_FULL);
	my_close(&b);
	ck_assert(!b.ok);
	my_builder_release(&b);
	free(big);
}
END_TEST

/* Reads what was built, and each part of it that is cut off at its end. */
static void check_ok(const struct my_ok *ok, uint32_t capabilities) {
	struct my_builder b = my_builder(NULL);
	struct my_ok got;
	bool tracks = capabilities & MY_CLIENT_SESSION_TRACK;

	my_put_ok(&b, 1, MY_PACKET_OK, capabilities, ok);
	ck_assert(b.ok);
	const uint8_t *body = buf_bytes(&b.buf) + MY_HEADER;
	size_t len = buf_len(&b.buf) - MY_HEADER;
	ck_assert(my_read_ok(body, len, capabilities, &got));
	ck_assert_uint_eq(got.affected_rows, ok->affected_rows);
	ck_assert_uint_eq(got.last_insert_id, ok->last_insert_id);
	ck_assert_uint_eq(got.warnings, ok->warnings);
	ck_assert_uint_eq(got.info_len, ok->info_len);
	if (ok->info_len)
		ck_assert_mem_eq(got.info, ok->info, ok->info_len);
	ck_assert_uint_eq(got.state_len, tracks ? ok->state_len : 0);
	ck_assert_int_eq(!!(got.status & MY_STATUS_SESSION_STATE_CHANGED), tracks && ok->state_len > 0);
	for (size_t cut = 0; cut < len; cut++) {
		uint8_t *copy = malloc(cut + 1); /* so that a sanitizer sees a read behind it */
		ck_assert_ptr_nonnull(copy);
		memcpy(copy, body, cut);
		my_read_ok(copy, cut, capabilities, &got);
		free(copy);
	}
	my_builder_release(&b);
}

START_TEST(ok_reads_back_with_and_without_trackers_and_survives_every_cut) {
	static const char info[] = "Rows matched: 1", state[] = "\1\4\3abc\0\6\1a\3bcd";
	struct my_ok plain = {.affected_rows = 300, .last_insert_id = 0x123456789, .status = 2, .warnings = 7};
	struct my_ok full = {.affected_rows = 1,
			     .status = MY_STATUS_IN_TRANS,
			     .info = (const uint8_t *)info,
			     .info_len = sizeof info - 1,
			     .state = (const uint8_t *)state,
			     .state_len = sizeof state - 1};

	check_ok(&plain, MY_CLIENT_PROTOCOL_41);
	check_ok(&plain, MY_CLIENT_PROTOCOL_41 | MY_CLIENT_SESSION_TRACK);
	check_ok(&full, MY_CLIENT_PROTOCOL_41);
	check_ok(&full, MY_CLIENT_PROTOCOL_41 | MY_CLIENT_SESSION_TRACK);
}
END_TEST

START_TEST(an_ok_that_promises_trackers_and_has_none_is_malformed) {
	struct my_ok got;

	ck_assert(!my_read_ok((const uint8_t *)"\0\0\0\0\x40\0\0", 7, MY_CLIENT_SESSION_TRACK, &got));
	ck_assert(my_read_ok((const uint8_t *)"\0\0\0\0\x40\0\0", 7, 0, &got));
}
END_TEST

START_TEST(err_reads_with_and_without_sqlstate) {
	struct my_builder b = my_builder(NULL);
	struct my_err err;

	my_put_err(&b, 1, MY_CLIENT_PROTOCOL_41, 1045, "28000", "no");
	ck_assert(my_read_err(buf_bytes(&b.buf) + MY_HEADER, buf_len(&b.buf) - MY_HEADER, &err));
	ck_assert_uint_eq(err.code, 1045);
	ck_assert_str_eq(err.sqlstate, "28000");
	ck_assert_uint_eq(err.message_len, 2);
	my_builder_release(&b);
	b = my_builder(NULL);
	my_put_err(&b, 0, 0, 1040, "08004", "Too many connections");
	ck_assert(my_read_err(buf_bytes(&b.buf) + MY_HEADER, buf_len(&b.buf) - MY_HEADER, &err));
	ck_assert_str_eq(err.sqlstate, "HY000");
	ck_assert_uint_eq(err.message_len, strlen("Too many connections"));
	for (size_t cut = 0; cut < 3; cut++)
		ck_assert(!my_read_err(buf_bytes(&b.buf) + MY_HEADER, cut, &err));
	my_builder_release(&b);
}
END_TEST

START_TEST(a_long_message_is_cut_between_letters) {
	char text[600];
	struct my_builder b = my_builder(NULL);
	struct my_err err;

	/* the letter of two bytes lies across the limit */
	memset(text, 'a', sizeof text);
	memcpy(text + 511, "\xc3\xa4", 2);
	text[599] = '\0';
	my_put_err(&b, 1, MY_CLIENT_PROTOCOL_41, 1105, "HY000", text);
	ck_assert(my_read_err(buf_bytes(&b.buf) + MY_HEADER, buf_len(&b.buf) - MY_HEADER, &err));
	ck_assert_uint_eq(err.message_len, 511);
	my_builder_release(&b);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("MySQL packets");
	TCase *tc = tcase_create("packets");

	tcase_add_test(tc, length_encoded_integers_read_back_at_every_edge_and_need_every_byte);
	tcase_add_test(tc, null_and_0xff_are_no_integers);
	tcase_add_test(tc, a_string_longer_than_the_packet_is_refused_whatever_it_claims);
	tcase_add_test(tc, a_packet_carries_its_length_and_sequence);
	tcase_add_test(tc, a_builder_refuses_what_one_packet_cannot_hold);
	tcase_add_test(tc, ok_reads_back_with_and_without_trackers_and_survives_every_cut);
	tcase_add_test(tc, an_ok_that_promises_trackers_and_has_none_is_malformed);
	tcase_add_test(tc, err_reads_with_and_without_sqlstate);
	tcase_add_test(tc, a_long_message_is_cut_between_letters);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
