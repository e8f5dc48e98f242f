/* How time limits, trials, the audit, recovery and reloads get on with each other: cases in which one met another. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "query.h"
#include "wire.h"

static struct forebay *start(int workers, const char *pool, const char *process) {
	PGconn *control = connect_control();

	execute(control, "drop table if exists noted; create table noted (v text primary key); alter table noted owner to app");
	PQfinish(control);
	return forebay_start(&(struct forebay_setup){.workers = workers, .pool = pool, .listener = "auth = trust",
						     .process = process});
}

START_TEST(audit_leaves_alone_who_waits_for_a_trial) {
	struct forebay *forebay = start(WORKERS(_i),
					"validation_query = select pg_sleep(1.2)\nalive_bypass_window = 10ms\n"
					"monitor_interval = 0\nmax_size = 1",
					NULL);
	PGconn *conn = connect_app(forebay), *control = connect_control();
	PGconn *ops = connect_with(forebay, "dbname=forebay user=ops password=ops-secret");

	execute(conn, "select 1");
	harness_pause_ms(1100); /* so long a connection counts as fresh */
	send_query(conn, "select 'after the trial'");
	await_running(control, "pg_sleep(1.2)");
	execute(ops, "AUDIT");
	expect_text(next_result(conn), "after the trial");
	ck_assert_int_eq(harness_count_in(forebay->log, "invariant_violation"), 0);
	PQfinish(conn);
	PQfinish(ops);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

/* A batch of a session is left without its Sync for longer than a limit; then the Sync comes. */
static void late_sync(int workers, const char *pool, bool failed, const char *sqlstate) {
	struct forebay *forebay = start(workers, pool, NULL);
	struct raw raw = raw_connect(forebay);
	struct bytes b = {0};
	struct message m;
	enum raw_status status;
	bool ready = false, told = false;

	raw_login(&raw);
	if (failed) {
		put_parse(&b, "", "selekt nonsense");
	} else {
		put_parse(&b, "", "insert into noted values ('batch')");
		put_bind(&b, "", NULL);
		put_execute(&b);
	}
	put_message(&b, 'H', "");
	raw_send_bytes(&raw, &b);
	/* the limit comes over and over */
	for (long long until = harness_now_ms() + 600; harness_now_ms() < until;)
		while (raw_read_within(&raw, &m, 50) == RAW_MESSAGE)
			told |= m.type == 'E' && strcmp(error_field(&m, 'C'), sqlstate) == 0;
	put_sync(&b);
	raw_send_bytes(&raw, &b);
	while (!ready && (status = raw_read_within(&raw, &m, HARNESS_DEADLINE_MS)) == RAW_MESSAGE) {
		told |= m.type == 'E' && strcmp(error_field(&m, 'C'), sqlstate) == 0;
		ready = m.type == 'Z';
	}
	ck_assert_msg(ready, "the session was closed");
	ck_assert_msg(told, "nobody was told %s", sqlstate);
	/* and the session goes on */
	raw_put(&raw, 'Q', "s", "rollback");
	raw_until(&raw, 'Z');
	raw_put(&raw, 'Q', "s", "select count(*) from noted");
	ck_assert_int_eq(raw_until(&raw, 'Z').body[0], 'I');
	raw_close(&raw);
	forebay_stop(forebay);
}

START_TEST(late_sync_of_a_session_after_idle_transaction_timeout) {
	late_sync(WORKERS(_i), "pool_mode = session\nidle_transaction_timeout = 150ms\nmax_size = 2", false, "25P03");
}
END_TEST

START_TEST(late_sync_of_a_session_after_transaction_timeout) {
	late_sync(WORKERS(_i), "pool_mode = session\ntransaction_timeout = 150ms\nmax_size = 2", false, "25P04");
}
END_TEST

START_TEST(late_sync_of_a_session_whose_batch_had_failed_by_itself) {
	late_sync(WORKERS(_i), "pool_mode = session\nidle_transaction_timeout = 150ms\nmax_size = 2", true, "42601");
}
END_TEST

START_TEST(client_that_leaves_while_its_server_is_cleaned_costs_no_server) {
	struct forebay *forebay = start(1, "recovery_timeout = 20s\nmax_size = 1", NULL);
	PGconn *conn = connect_app(forebay);
	struct raw raw = raw_connect(forebay);
	char expected[16];
	int pid;

	execute(conn, "begin; set work_mem = '7MB'; commit");
	pid = (int)query_long(conn, "select pg_backend_pid()");
	raw_login(&raw);
	harness_freeze(pid);
	raw_put(&raw, 'Q', "s", "select 1");
	harness_pause_ms(100); /* it is linked, and cleaned */
	raw_close(&raw);
	harness_pause_ms(50);
	kill(pid, SIGCONT);
	snprintf(expected, sizeof(expected), "%d", pid);
	expect_value(conn, "select pg_backend_pid()", expected);
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

START_TEST(trial_whose_client_left_goes_on_to_its_end) {
	struct forebay *forebay = start(WORKERS(_i),
					"validation_query = select pg_sleep(1.5)\nvalidation_timeout = 20s\n"
					"acquire_timeout = 600ms\nalive_bypass_window = 10ms\nmonitor_interval = 0\nmax_size = 1",
					NULL);
	PGconn *gone = connect_app(forebay), *control = connect_control();
	char *pid = query(gone, "select pg_backend_pid()"), sql[120];

	harness_pause_ms(1100);
	send_query(gone, "select 2");
	await_running(control, "pg_sleep(1.5)");
	PQfinish(gone);
	await_not_running(control, "pg_sleep(1.5)");
	ck_assert_int_eq(harness_count_in(forebay->log, "validation_timeout "), 0);
	snprintf(sql, sizeof(sql), "select count(*) from pg_stat_activity where pid = %s", pid);
	expect_value(control, sql, "1");
	free(pid);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(shutdown_ends_for_a_client_whose_transaction_was_rolled_back) {
	struct forebay *forebay = start(WORKERS(_i), "idle_transaction_timeout = 300ms\nmax_size = 2", "shutdown_timeout = 25s");
	PGconn *conn = connect_app(forebay);
	long long began = harness_now_ms();

	execute(conn, "begin");
	kill(forebay->pid, SIGTERM);
	forebay_await_exit(forebay);
	ck_assert_int_lt((int)(harness_now_ms() - began), 20000);
	PQfinish(conn);
}
END_TEST

static void reload(struct forebay *forebay, int times) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	kill(forebay->pid, SIGHUP);
	while (harness_count_in(forebay->log, " reloaded ") < times) {
		ck_assert(harness_now_ms() < deadline);
		harness_pause_ms(5);
	}
}

START_TEST(pool_that_a_reload_takes_away_and_another_brings_back_serves_again) {
	struct forebay *forebay = start(WORKERS(_i), "max_size = 2", NULL);
	PGconn *conn = connect_app(forebay);
	char *ini = harness_read(forebay->ini), *at = strstr(ini, "[pool:app]");

	execute(conn, "select 1");
	PQfinish(conn);
	memcpy(at, "[pool:zzz]", 10);
	harness_write(forebay->ini, ini);
	reload(forebay, 1);
	memcpy(at, "[pool:app]", 10);
	harness_write(forebay->ini, ini);
	reload(forebay, 2);
	conn = connect_app(forebay);
	expect_value(conn, "select 1", "1");
	PQfinish(conn);
	free(ini);
	forebay_stop(forebay);
}
END_TEST

START_TEST(shorter_client_idle_timeout_reaches_who_is_idle_already) {
	struct forebay *forebay = start(WORKERS(_i), "max_size = 2", NULL);
	PGconn *conn = connect_app(forebay);

	execute(conn, "select 1");
	forebay_rewrite_ini(forebay, &(struct forebay_setup){.workers = WORKERS(_i), .listener = "auth = trust",
							     .pool = "max_size = 2\nclient_idle_timeout = 200ms"});
	kill(forebay->pid, SIGHUP);
	forebay_await_log(forebay, " client_idle_timeout ");
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

START_TEST(server_that_falls_silent_while_it_is_made_ready_is_given_up) {
	struct forebay *forebay = start(1,
					"acquire_timeout = 3s\nmax_size = 1\nmonitor_interval = 0\nconnect_timeout = 700ms\n"
					"alive_bypass_window = 20s",
					NULL);
	PGconn *conn = connect_app(forebay), *other = connect_with(forebay, "application_name=other");
	int pid = (int)query_long(conn, "select pg_backend_pid()");

	execute(other, "select 1");
	execute(conn, "select 1");
	harness_freeze(pid);
	send_query(other, "select 'served by another'");
	/* within acquire_timeout, though nothing but the other client's settings had been sent */
	expect_text(next_result(other), "served by another");
	kill(pid, SIGCONT);
	PQfinish(conn);
	PQfinish(other);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("together");
	TCase *tcase = tcase_create("together");

	harness_begin(NULL);
	tcase_set_timeout(tcase, 60);
	suite_add_tcase(suite, tcase);
	LOOP(tcase, audit_leaves_alone_who_waits_for_a_trial);
	LOOP(tcase, late_sync_of_a_session_after_idle_transaction_timeout);
	LOOP(tcase, late_sync_of_a_session_after_transaction_timeout);
	LOOP(tcase, late_sync_of_a_session_whose_batch_had_failed_by_itself);
	tcase_add_test(tcase, client_that_leaves_while_its_server_is_cleaned_costs_no_server);
	LOOP(tcase, trial_whose_client_left_goes_on_to_its_end);
	LOOP(tcase, shutdown_ends_for_a_client_whose_transaction_was_rolled_back);
	LOOP(tcase, pool_that_a_reload_takes_away_and_another_brings_back_serves_again);
	LOOP(tcase, shorter_client_idle_timeout_reaches_who_is_idle_already);
	tcase_add_test(tcase, server_that_falls_silent_while_it_is_made_ready_is_given_up);
	return harness_run(suite);
}
