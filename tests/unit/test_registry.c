/* The registry of client ids: who is found by what, while others come and go on other threads. */
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "session/cancel.h"
#include "session/client.h"
#include "session/session.h"

enum { CLIENTS = 5000, ROUNDS = 20 };

static struct worker workers[2] = {{.id = 0}, {.id = 1}};
static struct session_worker sws[2] = {{.worker = &workers[0]}, {.worker = &workers[1]}};

/* Secrets of both lengths that there are; no two are the same. */
static size_t secret_of(size_t i, uint8_t secret[CANCEL_SECRET_MAX]) {
	size_t len = i % 3 ? 4 : CANCEL_SECRET_MAX;

	memset(secret, 0x55, CANCEL_SECRET_MAX);
	for (size_t b = 0; b < 4; b++)
		secret[b] = (uint8_t)(i >> 8 * b);
	return len;
}

static struct client *make_clients(struct session_worker *sw) {
	struct client *clients = calloc(CLIENTS, sizeof *clients);

	for (size_t i = 0; i < CLIENTS; i++)
		clients[i].sw = sw;
	return clients;
}

static bool add(struct client *clients, size_t i) {
	uint8_t secret[CANCEL_SECRET_MAX];

	return registry_add(&clients[i], secret, secret_of(i, secret));
}

START_TEST(clients_are_found_by_id_and_secret_until_they_are_removed) {
	struct client *clients = make_clients(&sws[1]);
	uint8_t secret[CANCEL_SECRET_MAX], told[CANCEL_SECRET_MAX];

	for (size_t i = 0; i < CLIENTS; i++) {
		ck_assert(add(clients, i));
		ck_assert_uint_ne(clients[i].id, 0);
		ck_assert_uint_le(clients[i].id, INT32_MAX);
	}
	for (size_t i = 0; i < CLIENTS; i += 2)
		registry_remove(&clients[i]);
	for (size_t i = 0; i < CLIENTS; i++) {
		size_t len = secret_of(i, secret);
		bool here = i % 2;
		ck_assert_int_eq(registry_find(clients[i].id, secret, len), here ? 1 : -1);
		ck_assert_ptr_eq(registry_client(clients[i].id, 1), here ? &clients[i] : NULL);
		ck_assert_ptr_null(registry_client(clients[i].id, 0));
		ck_assert_uint_eq(registry_secret(&clients[i], told), here ? len : 0);
		ck_assert(!here || memcmp(told, secret, len) == 0);
		/* neither another secret nor one that is cut or too long will do */
		ck_assert_int_eq(registry_find(clients[i].id, secret, len - 1), -1);
		secret[3] ^= 1;
		ck_assert_int_eq(registry_find(clients[i].id, secret, len), -1);
	}
	for (size_t i = 1; i < CLIENTS; i += 2)
		registry_remove(&clients[i]);
	free(clients);
}
END_TEST

static _Atomic uint32_t seen_id; /* of one that lives, or has just gone */
static _Atomic bool over;

static void *come_and_go(void *arg) {
	for (int round = 0; round < ROUNDS; round++) {
		struct client *clients = make_clients(arg);
		for (size_t i = 0; i < CLIENTS; i++) {
			add(clients, i);
			atomic_store(&seen_id, clients[i].id);
		}
		for (size_t i = 0; i < CLIENTS; i++)
			registry_remove(&clients[i]);
		free(clients);
	}
	return NULL;
}

static void *look_up(void *unused) {
	uint8_t secret[CANCEL_SECRET_MAX];
	size_t i = 0;

	(void)unused;
	while (!atomic_load(&over)) {
		size_t len = secret_of(i++ % CLIENTS, secret);
		int worker = registry_find(atomic_load(&seen_id), secret, len);
		if (worker < -1 || worker > 1)
			abort();
	}
	return NULL;
}

START_TEST(looking_up_is_safe_while_clients_of_other_threads_come_and_go) {
	pthread_t coming[2], looking;

	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&coming[i], NULL, come_and_go, &sws[i]), 0);
	ck_assert_int_eq(pthread_create(&looking, NULL, look_up, NULL), 0);
	for (int i = 0; i < 2; i++)
		pthread_join(coming[i], NULL);
	atomic_store(&over, true);
	pthread_join(looking, NULL);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("registry");
	TCase *tc = tcase_create("registry");

	tcase_add_test(tc, clients_are_found_by_id_and_secret_until_they_are_removed);
	tcase_add_test(tc, looking_up_is_safe_while_clients_of_other_threads_come_and_go);
	tcase_set_timeout(tc, 60);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
