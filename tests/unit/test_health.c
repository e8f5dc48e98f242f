/* Up or down by what probes and pools tell; and which of several addresses is tried first. */
#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "base/clock.h"
#include "control/health.h"
#include "session/backend.h"

#define INTERVAL (5 * NS_PER_S)

START_TEST(first_answer_brings_a_host_up) {
	struct health h = {0};

	ck_assert(!h.known);
	ck_assert_int_eq(health_note(&h, HEALTH_WELL), HEALTH_CAME_UP);
	ck_assert(h.known && h.up);
	ck_assert_int_eq(h.state, BACKEND_UP);
	ck_assert_int_eq(health_note(&h, HEALTH_WELL), HEALTH_NOTHING);
	ck_assert_uint_eq(health_interval(&h, INTERVAL), INTERVAL);
}
END_TEST

START_TEST(refusal_means_down_at_once_and_is_told_once) {
	struct health h = {0};

	health_note(&h, HEALTH_WELL);
	ck_assert_int_eq(health_note(&h, HEALTH_REFUSED), HEALTH_WENT_DOWN);
	ck_assert(h.known && !h.up);
	ck_assert_int_eq(health_note(&h, HEALTH_REFUSED), HEALTH_NOTHING);
	ck_assert_uint_eq(health_interval(&h, INTERVAL), HEALTH_FAST_NS);
	ck_assert_int_eq(health_note(&h, HEALTH_WELL), HEALTH_CAME_UP);
	ck_assert_uint_eq(health_interval(&h, INTERVAL), INTERVAL);
}
END_TEST

START_TEST(one_silence_is_not_down_two_in_a_row_are) {
	struct health h = {0};

	health_note(&h, HEALTH_WELL);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(health_note(&h, HEALTH_SILENT), HEALTH_NOTHING);
		ck_assert(h.up);
		/* and it is soon asked again */
		ck_assert_uint_eq(health_interval(&h, INTERVAL), HEALTH_FAST_NS);
		ck_assert_int_eq(health_note(&h, HEALTH_WELL), HEALTH_NOTHING);
	}
	health_note(&h, HEALTH_SILENT);
	ck_assert_int_eq(health_note(&h, HEALTH_SILENT), HEALTH_WENT_DOWN);
	ck_assert_int_eq(health_note(&h, HEALTH_SILENT), HEALTH_NOTHING);
	ck_assert_int_eq(health_note(&h, HEALTH_WELL), HEALTH_CAME_UP);
}
END_TEST

START_TEST(login_that_is_refused_is_not_down) {
	struct health h = {0};

	ck_assert_int_eq(health_note(&h, HEALTH_REACHED), HEALTH_CAME_UP);
	ck_assert(h.up);
	ck_assert_int_eq(health_note(&h, HEALTH_REACHED), HEALTH_NOTHING);
	ck_assert_uint_eq(health_interval(&h, INTERVAL), INTERVAL);
}
END_TEST

START_TEST(host_that_is_not_ready_is_asked_often_and_pools_keep_what_they_have) {
	struct health h = {0};

	health_note(&h, HEALTH_WELL);
	ck_assert_int_eq(health_note(&h, HEALTH_NOT_READY), HEALTH_WENT_UNREADY);
	ck_assert(h.known && h.up);
	ck_assert_int_eq(health_note(&h, HEALTH_NOT_READY), HEALTH_NOTHING);
	ck_assert_uint_eq(health_interval(&h, INTERVAL), HEALTH_FAST_NS);
	ck_assert_int_eq(health_note(&h, HEALTH_WELL), HEALTH_CAME_UP);
	/* from down it comes back this way, and is not up before it is ready */
	health_note(&h, HEALTH_REFUSED);
	health_note(&h, HEALTH_NOT_READY);
	ck_assert(h.known && !h.up);
	ck_assert_int_eq(health_note(&h, HEALTH_WELL), HEALTH_CAME_UP);
}
END_TEST

START_TEST(suspicion_is_cleared_by_a_good_probe) {
	struct health h = {0};

	health_note(&h, HEALTH_WELL);
	health_suspect(&h, true);
	ck_assert_uint_eq(health_interval(&h, INTERVAL), HEALTH_FAST_NS);
	/* who was refused, though it was reached, must not be sent back at once */
	ck_assert_int_eq(health_note(&h, HEALTH_WELL), HEALTH_NOTHING);
	ck_assert_uint_eq(health_interval(&h, INTERVAL), INTERVAL);
	health_suspect(&h, false);
	health_suspect(&h, true);
	ck_assert_int_eq(health_note(&h, HEALTH_WELL), HEALTH_STILL_UP);
	ck_assert_int_eq(health_note(&h, HEALTH_WELL), HEALTH_NOTHING);
}
END_TEST

START_TEST(probe_that_could_not_be_tried_tells_nothing) {
	struct health h = {0};

	ck_assert_int_eq(health_note(&h, HEALTH_UNTRIED), HEALTH_NOTHING);
	ck_assert(!h.known);
	health_note(&h, HEALTH_WELL);
	ck_assert_int_eq(health_note(&h, HEALTH_UNTRIED), HEALTH_NOTHING);
	ck_assert(h.up);
	health_note(&h, HEALTH_REFUSED);
	ck_assert_int_eq(health_note(&h, HEALTH_UNTRIED), HEALTH_NOTHING);
	ck_assert(!h.up);
}
END_TEST

START_TEST(short_interval_is_not_made_longer) {
	struct health h = {0};

	health_note(&h, HEALTH_REFUSED);
	ck_assert_uint_eq(health_interval(&h, 100 * NS_PER_MS), 100 * NS_PER_MS);
}
END_TEST

/* ---- addresses ---- */

static void put_address(struct resolved *answer, const char *text) {
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(5432)};

	ck_assert_int_eq(inet_pton(AF_INET, text, &in.sin_addr), 1);
	*(struct sockaddr_in *)&answer->at[answer->count].address = in;
	answer->at[answer->count++].len = sizeof in;
}

static struct backend *some_backend(struct resolved *answer) {
	static const char *const texts[] = {"192.0.2.1", "192.0.2.2", "192.0.2.3"};

	*answer = (struct resolved){0};
	for (int i = 0; i < 3; i++)
		put_address(answer, texts[i]);
	return backend_get(PROTOCOL_POSTGRESQL, &(struct config_address){"db:5432", "db", 5432});
}

START_TEST(addresses_are_taken_in_turn) {
	struct resolved answer;
	struct backend *b = some_backend(&answer);

	for (uint32_t turn = 0; turn < 6; turn++)
		ck_assert_int_eq(backend_pick_address(b, &answer, turn, NS_PER_S), (int)(turn % 3));
	backends_free();
}
END_TEST

START_TEST(address_that_failed_is_passed_over_where_there_is_another) {
	struct resolved answer, one = {0};
	struct backend *b = some_backend(&answer);
	uint64_t now = 100 * NS_PER_S;

	backend_address_failed(b, &answer.at[1].address, now);
	for (uint32_t turn = 0; turn < 6; turn++)
		ck_assert_int_ne(backend_pick_address(b, &answer, turn, now + NS_PER_S), 1);
	/* another pick than the failed one's successor only: both that are left get their turn */
	ck_assert_int_eq(backend_pick_address(b, &answer, 0, now), 0);
	ck_assert_int_eq(backend_pick_address(b, &answer, 1, now), 2);
	put_address(&one, "192.0.2.2");
	ck_assert_int_eq(backend_pick_address(b, &one, 7, now), 0);
	backend_address_works(b, &answer.at[1].address);
	ck_assert_int_eq(backend_pick_address(b, &answer, 1, now), 1);
	/* and it is forgiven with time */
	backend_address_failed(b, &answer.at[1].address, now);
	ck_assert_int_eq(backend_pick_address(b, &answer, 1, now + 60 * NS_PER_S), 1);
	backends_free();
}
END_TEST

START_TEST(of_addresses_that_all_failed_the_one_that_did_so_first_is_tried) {
	struct resolved answer;
	struct backend *b = some_backend(&answer);
	uint64_t now = 100 * NS_PER_S;

	backend_address_failed(b, &answer.at[2].address, now);
	backend_address_failed(b, &answer.at[0].address, now + 1);
	backend_address_failed(b, &answer.at[1].address, now + 2);
	for (uint32_t turn = 0; turn < 3; turn++)
		ck_assert_int_eq(backend_pick_address(b, &answer, turn, now + 3), 2);
	backend_address_failed(b, &answer.at[2].address, now + 4);
	ck_assert_int_eq(backend_pick_address(b, &answer, 1, now + 5), 0);
	backends_free();
}
END_TEST

START_TEST(failures_of_many_addresses_are_bounded) {
	struct resolved answer;
	struct backend *b = some_backend(&answer);
	uint64_t now = 100 * NS_PER_S;

	for (int i = 0; i < 100; i++) {
		struct sockaddr_storage address = answer.at[0].address;
		((struct sockaddr_in *)&address)->sin_port = htons((uint16_t)(1000 + i));
		backend_address_failed(b, &address, now + (uint64_t)i);
	}
	backend_address_failed(b, &answer.at[0].address, now + 200);
	ck_assert_int_eq(backend_pick_address(b, &answer, 0, now + 300), 1);
	backends_free();
}
END_TEST

int main(void) {
	Suite *suite = suite_create("health");
	TCase *health = tcase_create("health"), *addresses = tcase_create("addresses");

	tcase_add_test(health, first_answer_brings_a_host_up);
	tcase_add_test(health, refusal_means_down_at_once_and_is_told_once);
	tcase_add_test(health, one_silence_is_not_down_two_in_a_row_are);
	tcase_add_test(health, login_that_is_refused_is_not_down);
	tcase_add_test(health, host_that_is_not_ready_is_asked_often_and_pools_keep_what_they_have);
	tcase_add_test(health, suspicion_is_cleared_by_a_good_probe);
	tcase_add_test(health, probe_that_could_not_be_tried_tells_nothing);
	tcase_add_test(health, short_interval_is_not_made_longer);
	suite_add_tcase(suite, health);
	tcase_add_test(addresses, addresses_are_taken_in_turn);
	tcase_add_test(addresses, address_that_failed_is_passed_over_where_there_is_another);
	tcase_add_test(addresses, of_addresses_that_all_failed_the_one_that_did_so_first_is_tried);
	tcase_add_test(addresses, failures_of_many_addresses_are_bounded);
	suite_add_tcase(suite, addresses);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
