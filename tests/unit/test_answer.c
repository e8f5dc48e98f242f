/* Where answers of MySQL's end: each packet shown by its header and first byte, and whole where that is wanted. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "mysql/answer.h"
#include "mysql/packet.h"

#define OK "\0\0\0\2\0\0\0"
#define OK_MORE "\0\0\0\x0a\0\0\0"
#define END "\xfe\0\0\2\0\0\0"
#define END_MORE "\xfe\0\0\x0a\0\0\0"
#define ERR "\xff\x1e\4#42S22no"
#define COLUMN "\3def\0\0\0\1x\0\x0c\x3f\0\1\0\0\0\3\x81\0\0\0\0"

struct packet {
	const char *body;
	size_t len;
	enum my_role role;
};

#define P(body, role) {body, sizeof(body) - 1, role}

struct example {
	const char *name;
	enum my_asked asked;
	struct packet packets[12]; /* the last of which ends the answer */
};

static const struct example examples[] = {
	{"OK", MY_ASKED_SIMPLE, {P(OK, MY_ROLE_OK)}},
	{"error", MY_ASKED_SIMPLE, {P(ERR, MY_ROLE_ERR)}},
	{"the old way to say OK", MY_ASKED_SIMPLE, {P(END, MY_ROLE_OK)}},
	{"a statement without rows", MY_ASKED_QUERY, {P(OK, MY_ROLE_OK)}},
	{"an error", MY_ASKED_QUERY, {P(ERR, MY_ROLE_ERR)}},
	{"rows",
	 MY_ASKED_QUERY,
	 {P("\2", MY_ROLE_COUNT), P(COLUMN, MY_ROLE_COLUMN), P(COLUMN, MY_ROLE_COLUMN), P("\1a\xfb", MY_ROLE_ROW),
	  P("\xfb\0", MY_ROLE_ROW), P(END, MY_ROLE_END)}},
	{"no rows", MY_ASKED_QUERY, {P("\1", MY_ROLE_COUNT), P(COLUMN, MY_ROLE_COLUMN), P(END, MY_ROLE_END)}},
	{"rows that end in an error",
	 MY_ASKED_QUERY,
	 {P("\1", MY_ROLE_COUNT), P(COLUMN, MY_ROLE_COLUMN), P("\1a", MY_ROLE_ROW), P(ERR, MY_ROLE_ERR)}},
	{"several results",
	 MY_ASKED_QUERY,
	 {P(OK_MORE, MY_ROLE_OK), P("\1", MY_ROLE_COUNT), P(COLUMN, MY_ROLE_COLUMN), P(END_MORE, MY_ROLE_END),
	  P("\1", MY_ROLE_COUNT), P(COLUMN, MY_ROLE_COLUMN), P("\1b", MY_ROLE_ROW), P(END_MORE, MY_ROLE_END), P(ERR, MY_ROLE_ERR)}},
	{"binary rows",
	 MY_ASKED_EXECUTE,
	 {P("\1", MY_ROLE_COUNT), P(COLUMN, MY_ROLE_COLUMN), P("\0\0\5\0\0\0", MY_ROLE_ROW), P(END, MY_ROLE_END)}},
	{"a file", MY_ASKED_QUERY, {P("\xfb/etc/x", MY_ROLE_INFILE), P(OK, MY_ROLE_OK)}},
	{"a file, and more",
	 MY_ASKED_QUERY,
	 {P("\xfb/etc/x", MY_ROLE_INFILE), P(OK_MORE, MY_ROLE_OK), P("\xfb/etc/y", MY_ROLE_INFILE), P(ERR, MY_ROLE_ERR)}},
	{"a statement prepared", MY_ASKED_PREPARE, {P("\0\1\0\0\0\0\0\0\0\0\0\0", MY_ROLE_PREPARED)}},
	{"a statement with parameters", MY_ASKED_PREPARE,
	 {P("\0\1\0\0\0\0\0\2\0\0\0\0", MY_ROLE_PREPARED), P(COLUMN, MY_ROLE_PARAMETER), P(COLUMN, MY_ROLE_PARAMETER)}},
	{"a statement with columns", MY_ASKED_PREPARE,
	 {P("\0\1\0\0\0\1\0\0\0\0\0\0", MY_ROLE_PREPARED), P(COLUMN, MY_ROLE_COLUMN)}},
	{"a statement with both", MY_ASKED_PREPARE,
	 {P("\0\1\0\0\0\1\0\1\0\0\0\0", MY_ROLE_PREPARED), P(COLUMN, MY_ROLE_PARAMETER), P(COLUMN, MY_ROLE_COLUMN)}},
	{"a statement refused", MY_ASKED_PREPARE, {P(ERR, MY_ROLE_ERR)}},
	{"rows of a cursor", MY_ASKED_FETCH, {P("\0\0\5\0\0\0", MY_ROLE_ROW), P("\0\0\6\0\0\0", MY_ROLE_ROW), P(END, MY_ROLE_END)}},
	{"no cursor", MY_ASKED_FETCH, {P(ERR, MY_ROLE_ERR)}},
	{"fields", MY_ASKED_FIELDS, {P(COLUMN, MY_ROLE_COLUMN), P(COLUMN, MY_ROLE_COLUMN), P(END, MY_ROLE_END)}},
	{"no fields", MY_ASKED_FIELDS, {P(ERR, MY_ROLE_ERR)}},
	{"statistics", MY_ASKED_STATISTICS, {P("Uptime: 2", MY_ROLE_TEXT)}},
};

static void begin(struct my_answer *a, const struct example *e, uint8_t sequence) {
	my_answer_begin(a, e->asked, sequence);
	ck_assert(!my_answer_is_over(a));
}

static uint8_t first_of(const struct packet *p) {
	return p->len ? (uint8_t)p->body[0] : 0;
}

START_TEST(answers_end_where_they_end) {
	const struct example *e = &examples[_i];
	struct my_answer a;
	for (unsigned sequence = 1; sequence < 512; sequence += 255) {
		begin(&a, e, (uint8_t)sequence);
		uint8_t at = (uint8_t)sequence;
		for (const struct packet *p = e->packets; p->body; p++) {
			enum my_role role = my_answer_role(&a, (uint32_t)p->len, first_of(p));
			ck_assert_msg(role == p->role, "%s: packet %d is %d", e->name, (int)(p - e->packets), role);
			const void *body = my_answer_needs(role) ? p->body : NULL;
			ck_assert_msg(my_answer_take(&a, role, (uint32_t)p->len, at, body), "%s: %d", e->name, (int)(p - e->packets));
			if (role == MY_ROLE_INFILE) /* of two packets and an empty one */
				my_answer_file_sent(&a, at = (uint8_t)(at + 4));
			else
				at++;
			ck_assert_msg(my_answer_is_over(&a) == !p[1].body, "%s: over at %d", e->name, (int)(p - e->packets));
		}
		ck_assert_int_eq(my_answer_role(&a, 7, 0), MY_ROLE_WRONG);
	}
}
END_TEST

START_TEST(a_packet_left_out_or_doubled_is_seen) {
	const struct example *e = &examples[_i];
	for (int skip = -1; skip <= 1; skip += 2) {
		for (const struct packet *wrong = e->packets; wrong->body; wrong++) {
			struct my_answer a;
			begin(&a, e, 1);
			uint8_t at = 1;
			for (const struct packet *p = e->packets; p < wrong; p++) {
				enum my_role role = my_answer_role(&a, (uint32_t)p->len, first_of(p));
				ck_assert(my_answer_take(&a, role, (uint32_t)p->len, at++, (const uint8_t *)p->body));
			}
			ck_assert(!my_answer_take(&a, wrong->role, (uint32_t)wrong->len, (uint8_t)(at + skip), (const uint8_t *)wrong->body));
		}
	}
}
END_TEST

START_TEST(a_value_of_many_packets_is_one_row) {
	struct my_answer a;
	my_answer_begin(&a, MY_ASKED_QUERY, 1);
	ck_assert(my_answer_take(&a, my_answer_role(&a, 1, 1), 1, 1, (const uint8_t *)"\1"));
	ck_assert(my_answer_take(&a, my_answer_role(&a, 23, 3), 23, 2, NULL));
	uint8_t sequence = 3;
	for (int i = 0; i < 300; i++) {
		/* its first byte is that of a length of 16 MiB or more, as an end's is */
		enum my_role role = my_answer_role(&a, MY_PACKET_FULL, i ? 0xff : 0xfe);
		ck_assert_int_eq(role, i ? MY_ROLE_REST : MY_ROLE_ROW);
		ck_assert(my_answer_take(&a, role, MY_PACKET_FULL, sequence++, NULL));
		ck_assert(!my_answer_is_over(&a));
	}
	ck_assert_int_eq(my_answer_role(&a, 0, 0), MY_ROLE_REST); /* it is a multiple: an empty one ends it */
	ck_assert(my_answer_take(&a, MY_ROLE_REST, 0, sequence++, NULL));
	ck_assert_int_eq(my_answer_role(&a, 7, 0xfe), MY_ROLE_END);
	ck_assert(my_answer_take(&a, MY_ROLE_END, 7, sequence, (const uint8_t *)END));
	ck_assert(my_answer_is_over(&a));
}
END_TEST

static const struct {
	enum my_asked asked;
	const char *body;
	size_t len;
} wrong[] = {
	{MY_ASKED_SIMPLE, "", 0},           {MY_ASKED_SIMPLE, "\1", 1},         {MY_ASKED_SIMPLE, "\xfb", 1},
	{MY_ASKED_QUERY, "", 0},            {MY_ASKED_QUERY, "\xfe\0\0\2\0\0\0", 7}, {MY_ASKED_QUERY, "\xfc\xff\xff", 3},
	{MY_ASKED_QUERY, "\1\1", 2},        {MY_ASKED_QUERY, "\0", 1},          {MY_ASKED_QUERY, "\0\0\0\2\0", 5},
	{MY_ASKED_QUERY, "\xff", 1},        {MY_ASKED_QUERY, "\xfc\1", 2},      {MY_ASKED_EXECUTE, "\xfb/x", 3},
	{MY_ASKED_PREPARE, "\0\1\0\0\0\0", 6}, {MY_ASKED_PREPARE, "\1", 1},     {MY_ASKED_FETCH, "", 0},
	{MY_ASKED_FETCH, "\xfe", 1},        {MY_ASKED_QUERY, "\0\0\0\2\x40\0\0\0\x20", 9},
	{MY_ASKED_QUERY, "\0\xfb\0\2\0\0\0", 7},
};

START_TEST(what_makes_no_sense_is_refused) {
	struct my_answer a;
	my_answer_begin(&a, wrong[_i].asked, 1);
	enum my_role role = my_answer_role(&a, (uint32_t)wrong[_i].len, wrong[_i].len ? (uint8_t)wrong[_i].body[0] : 0);
	/* a copy of just that size: what is read behind it a sanitizer sees */
	uint8_t *body = malloc(wrong[_i].len ? wrong[_i].len : 1);
	memcpy(body, wrong[_i].body, wrong[_i].len);
	ck_assert(role == MY_ROLE_WRONG || !my_answer_take(&a, role, (uint32_t)wrong[_i].len, 1, body));
	free(body);
}
END_TEST

START_TEST(any_bytes_are_survived) {
	uint64_t random = 88172645463325252ull + (uint64_t)_i;
	for (int round = 0; round < 20000; round++) {
		struct my_answer a;
		my_answer_begin(&a, (enum my_asked)(round % 8), 1);
		for (uint8_t sequence = 1; sequence < 20 && !my_answer_is_over(&a); sequence++) {
			uint8_t body[24];
			for (size_t i = 0; i < sizeof body; i++) {
				random ^= random << 13, random ^= random >> 7, random ^= random << 17;
				body[i] = random & 1 ? (uint8_t)(random >> 8) : (uint8_t)(random >> 8 & 3);
			}
			uint32_t len = (uint32_t)(random >> 40) % sizeof body;
			enum my_role role = my_answer_role(&a, len, len ? body[0] : 0);
			if (!my_answer_take(&a, role, len, sequence, body))
				break;
			ck_assert_int_ne(role, MY_ROLE_WRONG);
		}
	}
}
END_TEST

int main(void) {
	Suite *suite = suite_create("mysql answers");
	TCase *tcase = tcase_create("answers");
	int count = sizeof examples / sizeof examples[0];
	tcase_add_loop_test(tcase, answers_end_where_they_end, 0, count);
	tcase_add_loop_test(tcase, a_packet_left_out_or_doubled_is_seen, 0, count);
	tcase_add_test(tcase, a_value_of_many_packets_is_one_row);
	tcase_add_loop_test(tcase, what_makes_no_sense_is_refused, 0, sizeof wrong / sizeof wrong[0]);
	tcase_add_loop_test(tcase, any_bytes_are_survived, 0, 4);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
