/* The session's audit of single servers and clients: each way in which they can disagree is found. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "session/audit.h"
#include "session/claim.h"
#include "session/client.h"
#include "session/database.h"
#include "session/server.h"
#include "session/session.h"

/* A worker with one pool, one server and one client, as the audit sees them; nothing of it runs. */
static struct {
	struct worker worker;
	struct session_worker sw;
	struct database database;
	struct server server;
	struct client client;
	struct claim claim; /* the client's, where it is to have one */
	int shard;
} s;

static void set_up(void) {
	memset(&s, 0, sizeof s);
	s.worker.now_ns = 1000 * NS_PER_S;
	s.sw.worker = &s.worker;
	s.database.views[0].shard = (struct pool_shard *)&s.shard; /* compared, never followed */
	s.server.sw = s.client.sw = &s.sw;
	s.server.database = s.client.database = &s.database;
	s.server.conn.shard = s.database.views[0].shard;
	list_init(&s.server.later.node);
	s.server.state = SERVER_IDLE;
	s.server.conn.state = POOL_CONN_IDLE;
	s.client.state = CLIENT_IDLE;
	s.claim.client = &s.client;
}

static void link_both(void) {
	s.server.state = SERVER_ACTIVE;
	s.server.conn.state = POOL_CONN_BUSY;
	s.server.client = &s.client;
	s.client.server = &s.server;
	s.client.state = CLIENT_ACTIVE;
	s.client.claim = &s.claim;
}

static void watch(uint64_t deadline_ns) {
	s.server.timeout.slot = 1;
	s.server.timeout.deadline_ns = deadline_ns;
}

#define SOUND() (audit_server(&s.sw, &s.server) == NULL && audit_client(&s.sw, &s.client) == NULL)
#define SERVER_AT_FAULT() ck_assert_ptr_nonnull(audit_server(&s.sw, &s.server))
#define CLIENT_AT_FAULT() ck_assert_ptr_nonnull(audit_client(&s.sw, &s.client))

START_TEST(what_agrees_is_sound) {
	ck_assert(SOUND());
	link_both();
	ck_assert(SOUND());
	set_up();
	s.server.state = SERVER_LOGIN;
	s.server.conn.state = POOL_CONN_OPENING;
	watch(s.worker.now_ns + NS_PER_S);
	ck_assert(SOUND());
	s.server.state = SERVER_RECOVERING;
	s.server.conn.state = POOL_CONN_BUSY;
	ck_assert(SOUND());
	s.server.state = SERVER_FENCED;
	ck_assert(SOUND());
	s.client.state = CLIENT_WAITING;
	s.claim.waiter.waiting = true;
	s.client.claim = &s.claim;
	ck_assert(SOUND());
}
END_TEST

START_TEST(server_that_nobody_holds_is_found) {
	s.server.conn.state = POOL_CONN_BUSY; /* idle, and on no idle list */
	SERVER_AT_FAULT();
	s.server.state = SERVER_RECOVERING; /* with nothing to end it */
	SERVER_AT_FAULT();
	s.server.state = SERVER_ACTIVE;
	SERVER_AT_FAULT();
	s.server.state = SERVER_LOGIN;
	s.server.conn.state = POOL_CONN_OPENING;
	SERVER_AT_FAULT();
	s.server.state = SERVER_RECOVERING;
	s.server.conn.state = POOL_CONN_BUSY;
	watch(s.worker.now_ns - 61 * NS_PER_S); /* or with what should long have ended it */
	SERVER_AT_FAULT();
}
END_TEST

START_TEST(server_and_client_that_disagree_are_found) {
	struct server other = {0};
	link_both();
	s.client.server = &other;
	SERVER_AT_FAULT();
	CLIENT_AT_FAULT();
	link_both();
	s.client.state = CLIENT_IDLE;
	SERVER_AT_FAULT();
	CLIENT_AT_FAULT();
	link_both();
	s.client.sw = NULL;
	SERVER_AT_FAULT();
	CLIENT_AT_FAULT();
	set_up();
	link_both();
	s.client.database = NULL;
	SERVER_AT_FAULT();
	set_up();
	link_both();
	s.server.state = SERVER_RECOVERING;
	SERVER_AT_FAULT();
	link_both();
	s.server.conn.state = POOL_CONN_IDLE; /* it would be given to somebody else */
	SERVER_AT_FAULT();
}
END_TEST

START_TEST(server_in_the_wrong_place_is_found) {
	s.server.conn.shard = NULL;
	SERVER_AT_FAULT();
	set_up();
	s.server.sw = NULL;
	SERVER_AT_FAULT();
	set_up();
	s.server.state = SERVER_CLOSED;
	SERVER_AT_FAULT();
	set_up();
	s.server.state = SERVER_LOGIN;
	SERVER_AT_FAULT();
	set_up();
	s.server.conn.state = POOL_CONN_CLOSED;
	SERVER_AT_FAULT();
}
END_TEST

START_TEST(client_that_waits_for_nothing_is_found) {
	s.client.state = CLIENT_WAITING;
	s.client.claim = &s.claim;
	CLIENT_AT_FAULT();
	s.claim.explaining = true;
	ck_assert(SOUND());
}
END_TEST

START_TEST(claim_that_is_missing_or_not_given_back_is_found) {
	link_both();
	s.client.claim = NULL;
	CLIENT_AT_FAULT();
	set_up();
	link_both();
	s.claim.client = NULL;
	CLIENT_AT_FAULT();
	set_up();
	s.client.claim = &s.claim;
	CLIENT_AT_FAULT();
	s.claim.retrying = true; /* it is about to ask again */
	ck_assert(SOUND());
}
END_TEST

int main(void) {
	Suite *suite = suite_create("audit");
	TCase *tcase = tcase_create("audit");
	tcase_add_checked_fixture(tcase, set_up, NULL);
	tcase_add_test(tcase, what_agrees_is_sound);
	tcase_add_test(tcase, server_that_nobody_holds_is_found);
	tcase_add_test(tcase, server_and_client_that_disagree_are_found);
	tcase_add_test(tcase, server_in_the_wrong_place_is_found);
	tcase_add_test(tcase, client_that_waits_for_nothing_is_found);
	tcase_add_test(tcase, claim_that_is_missing_or_not_given_back_is_found);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
