/* Queries of every sort through Forebay: the answers are PostgreSQL's own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "query.h"
#include "wire.h"

START_TEST(simple_queries_get_their_answers) {
	struct forebay *forebay = forebay_start(&(struct forebay_setup){.workers = WORKERS(_i)});
	PGconn *conn = connect_app(forebay);
	PGresult *res;

	expect_value(conn, "select 41 + 1", "42");
	expect_value(conn, "select current_user || '@' || current_database()", "app@app");
	expect_value(conn, "select 1; select 2; select 3", "3");
	expect_value(conn, "", "");
	expect_error(conn, "select 1/0", "22012");
	expect_error(conn, "selec", "42601");
	expect_error(conn, "select 1; select 1/0; select 3", "22012");
	expect_value(conn, "select 7", "7");
	res = PQexec(conn, "select i, repeat('x', i) from generate_series(1, 3000) i");
	ck_assert_int_eq(PQntuples(res), 3000);
	for (int i = 0; i < 3000; i++) {
		ck_assert_int_eq(atoi(PQgetvalue(res, i, 0)), i + 1);
		ck_assert_int_eq(PQgetlength(res, i, 1), i + 1);
	}
	PQclear(res);
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

START_TEST(extended_queries_get_their_answers) {
	struct forebay *forebay = forebay_start(&(struct forebay_setup){.workers = WORKERS(_i)});
	PGconn *conn = connect_app(forebay);
	const char *values[] = {"20", "22"}, *bad[] = {"x", "22"}, *null[] = {NULL, "1"};

	for (int i = 0; i < 20; i++) {
		PGresult *res;

		expect_text(PQexecParams(conn, "select $1::int + $2::int", 2, NULL, values, NULL, NULL, 0), "42");
		expect_failure(PQexecParams(conn, "select $1::int + $2::int", 2, NULL, bad, NULL, NULL, 0), "22P02");
		res = PQexecParams(conn, "select $1::int + $2::int", 2, NULL, null, NULL, NULL, 1);
		ck_assert_int_eq(PQgetisnull(res, 0, 0), 1);
		PQclear(res);
		expect_failure(PQexecParams(conn, "select * from no_such_table", 0, NULL, NULL, NULL, NULL, 0),
			       "42P01");
	}
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

START_TEST(values_of_eight_megabytes_pass_in_both_directions) {
	struct forebay *forebay = forebay_start(&(struct forebay_setup){.workers = WORKERS(_i)});
	PGconn *conn = connect_app(forebay);
	size_t len = 8u << 20;
	char *big = malloc(len + 1);
	const char *values[1] = {big};
	PGresult *res;

	ck_assert(big != NULL);
	for (size_t i = 0; i < len; i++)
		big[i] = (char)('a' + (i * 7 + i / 4096) % 26);
	big[len] = 0;
	res = PQexecParams(conn, "select $1::text", 1, NULL, values, NULL, NULL, 0);
	ck_assert_msg(PQresultStatus(res) == PGRES_TUPLES_OK, "%s", PQresultErrorMessage(res));
	ck_assert(strcmp(PQgetvalue(res, 0, 0), big) == 0);
	PQclear(res);
	/* An 8 MB query text, and an 8 MB error message. */
	memmove(big + 8, big, len - 16);
	memcpy(big, "select '", 8);
	memcpy(big + len - 8, "'::text ", 8);
	res = PQexec(conn, big);
	ck_assert_int_eq(PQgetlength(res, 0, 0), (int)len - 16);
	PQclear(res);
	memcpy(big + len - 8, "'::int  ", 8);
	expect_error(conn, big, "22P02");
	expect_value(conn, "select 1", "1");
	free(big);
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

START_TEST(transaction_stays_on_one_server_and_is_isolated) {
	struct forebay *forebay =
		forebay_start(&(struct forebay_setup){.workers = WORKERS(_i), .pool = "max_size = 3"});
	PGconn *a = connect_app(forebay), *b = connect_app(forebay), *control = connect_control();
	char *pid;

	execute(control, "drop table if exists basic_t; create table basic_t(v int); grant all on basic_t to app");
	execute(a, "begin");
	pid = query(a, "select pg_backend_pid()");
	execute(a, "insert into basic_t values (1)");
	for (int i = 0; i < 10; i++) {
		expect_value(b, "select count(*) from basic_t", "0");
		expect_value(a, "select pg_backend_pid()", pid);
	}
	expect_error(a, "select 1/0", "22012");
	expect_error(a, "select 1", "25P02");
	execute(a, "rollback");
	expect_value(a, "select count(*) from basic_t", "0");
	execute(a, "begin");
	execute(a, "insert into basic_t values (2)");
	execute(a, "commit");
	expect_value(b, "select sum(v) from basic_t", "2");
	ck_assert_int_eq(PQtransactionStatus(a), PQTRANS_IDLE);
	free(pid);
	PQfinish(a);
	PQfinish(b);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

static void count_notice(void *context, const PGresult *res) {
	int *n = context;

	if (strcmp(PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY), "hear, hear") == 0)
		(*n)++;
}

START_TEST(notices_reach_the_client_that_caused_them) {
	struct forebay *forebay =
		forebay_start(&(struct forebay_setup){.workers = WORKERS(_i), .pool = "max_size = 1"});
	PGconn *a = connect_app(forebay), *b = connect_app(forebay);
	int heard_a = 0, heard_b = 0;

	PQsetNoticeReceiver(a, count_notice, &heard_a);
	PQsetNoticeReceiver(b, count_notice, &heard_b);
	for (int i = 0; i < 5; i++) {
		execute(a, "do $$ begin raise notice 'hear, hear'; end $$");
		execute(b, "select 1");
	}
	ck_assert_int_eq(heard_a, 5);
	ck_assert_int_eq(heard_b, 0);
	PQfinish(a);
	PQfinish(b);
	forebay_stop(forebay);
}
END_TEST

START_TEST(function_calls_and_large_objects_work) {
	struct forebay *forebay = forebay_start(&(struct forebay_setup){.workers = WORKERS(_i)});
	PGconn *conn = connect_app(forebay);
	char in[5000], out[5000];
	Oid oid;
	int fd;

	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = (char)i;
	execute(conn, "begin");
	oid = lo_create(conn, 0);
	ck_assert(oid != 0);
	fd = lo_open(conn, oid, 0x20000 | 0x40000);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(lo_write(conn, fd, in, sizeof(in)), (int)sizeof(in));
	ck_assert_int_eq(lo_lseek(conn, fd, 0, SEEK_SET), 0);
	ck_assert_int_eq(lo_read(conn, fd, out, sizeof(out)), (int)sizeof(out));
	ck_assert(memcmp(in, out, sizeof(in)) == 0);
	ck_assert_int_eq(lo_close(conn, fd), 0);
	execute(conn, "commit");
	ck_assert_int_eq(lo_unlink(conn, oid), 1);
	expect_value(conn, "select 5", "5");
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

START_TEST(clients_come_over_unix_sockets_and_so_do_servers) {
	const char *dir = harness_path("link"), *name;
	char to[600], pool[700];
	struct forebay *forebay;
	PGconn *conn;

	/* hosts names a directory: the socket in it is that of port 5432. */
	execute((conn = connect_control()), "select 1");
	PQfinish(conn);
	harness_command((const char *const[]){"mkdir", "-p", dir, NULL});
	snprintf(to, sizeof(to), "%s/.s.PGSQL.%d", harness_path("pg"), harness_postgres_port());
	name = harness_path("link/.s.PGSQL.5432");
	unlink(name);
	ck_assert_int_eq(symlink(to, name), 0);
	snprintf(pool, sizeof(pool), "hosts = %s\n", dir);
	forebay = forebay_start(&(struct forebay_setup){.workers = WORKERS(_i), .pool = pool});
	conn = connect_with(forebay, "host=%s", forebay->socket_dir);
	if (!harness_direct())
		expect_value(conn, "select inet_client_addr() is null", "t");
	expect_value(conn, "select 1", "1");
	PQfinish(conn);
	conn = connect_app(forebay);
	expect_value(conn, "select 2", "2");
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

START_TEST(many_clients_one_after_the_other_share_few_servers) {
	struct forebay *forebay =
		forebay_start(&(struct forebay_setup){.workers = WORKERS(_i), .pool = "max_size = 2"});
	PGconn *control = connect_control();

	for (int i = 0; i < 60; i++) {
		PGconn *conn = connect_app(forebay);
		char expected[16], sql[32];

		snprintf(sql, sizeof(sql), "select %d", i);
		snprintf(expected, sizeof(expected), "%d", i);
		expect_value(conn, sql, expected);
		PQfinish(conn);
	}
	if (!harness_direct())
		ck_assert_int_le(server_connections(control), 2);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(flush_brings_answers_before_sync) {
	struct forebay *forebay = forebay_start(
		&(struct forebay_setup){.workers = WORKERS(_i), .listener = "auth = trust"});
	struct raw raw = raw_connect(forebay);
	struct bytes b = {0};

	if (harness_direct())
		return;
	raw_login(&raw);
	for (int i = 0; i < 3; i++) {
		put_message(&b, 'P', "ssh", "", "select $1::text", 0);
		put_message(&b, 'H', "");
		raw_send_bytes(&raw, &b);
		raw_expect(&raw, '1');
		put_message(&b, 'B', "sshhvh", "", "", 0, 1, "flushed", 0);
		put_message(&b, 'D', "cs", 'P', "");
		put_message(&b, 'H', "");
		raw_send_bytes(&raw, &b);
		raw_expect(&raw, '2');
		raw_expect(&raw, 'T');
		put_message(&b, 'E', "si", "", 0);
		put_message(&b, 'H', "");
		raw_send_bytes(&raw, &b);
		raw_expect(&raw, 'D');
		raw_expect(&raw, 'C');
		raw_put(&raw, 'S', "");
		raw_expect(&raw, 'Z');
	}
	raw_close(&raw);
	forebay_stop(forebay);
}
END_TEST

START_TEST(portal_is_fetched_in_pieces_within_a_transaction) {
	struct forebay *forebay = forebay_start(
		&(struct forebay_setup){.workers = WORKERS(_i), .listener = "auth = trust"});
	struct raw raw = raw_connect(forebay);
	struct bytes b = {0};

	if (harness_direct())
		return;
	raw_login(&raw);
	raw_put(&raw, 'Q', "s", "begin");
	raw_until(&raw, 'Z');
	put_message(&b, 'P', "ssh", "", "select * from generate_series(1, 5)", 0);
	put_message(&b, 'B', "sshhh", "cursor", "", 0, 0, 0);
	put_message(&b, 'E', "si", "cursor", 2);
	put_message(&b, 'S', "");
	raw_send_bytes(&raw, &b);
	raw_expect(&raw, '1');
	raw_expect(&raw, '2');
	raw_expect(&raw, 'D');
	raw_expect(&raw, 'D');
	raw_expect(&raw, 's');
	raw_expect(&raw, 'Z');
	put_message(&b, 'E', "si", "cursor", 0);
	put_message(&b, 'C', "cs", 'P', "cursor");
	put_message(&b, 'S', "");
	raw_send_bytes(&raw, &b);
	raw_expect(&raw, 'D');
	raw_expect(&raw, 'D');
	raw_expect(&raw, 'D');
	raw_expect(&raw, 'C');
	raw_expect(&raw, '3');
	raw_expect(&raw, 'Z');
	raw_put(&raw, 'Q', "s", "commit");
	raw_until(&raw, 'Z');
	raw_close(&raw);
	forebay_stop(forebay);
}
END_TEST

START_TEST(replication_connection_goes_one_to_one) {
	struct forebay *forebay =
		forebay_start(&(struct forebay_setup){.workers = WORKERS(_i), .pool = "max_size = 2"});
	PGconn *replica = connect_with(forebay, "replication=database"), *conn = connect_app(forebay);
	PGresult *res = PQexec(replica, "IDENTIFY_SYSTEM");

	ck_assert_msg(PQresultStatus(res) == PGRES_TUPLES_OK, "%s", PQresultErrorMessage(res));
	ck_assert_int_eq(PQnfields(res), 4);
	PQclear(res);
	expect_value(replica, "select 'sql too'", "sql too");
	expect_value(conn, "select 1", "1");
	expect_error(conn, "IDENTIFY_SYSTEM", "42601");
	PQfinish(replica);
	/* Its server is nobody else's. */
	for (int i = 0; i < 5; i++)
		expect_error(conn, "IDENTIFY_SYSTEM", "42601");
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

START_TEST(asked_for_ends_of_a_client_leave_the_others_alone) {
	struct forebay *forebay =
		forebay_start(&(struct forebay_setup){.workers = WORKERS(_i), .pool = "max_size = 1"});
	PGconn *a = connect_app(forebay);

	for (int i = 0; i < 10; i++) {
		PGconn *b = connect_app(forebay);

		send_query(b, "select pg_sleep(0.01)");
		PQfinish(b); /* Terminate right behind the query */
		expect_value(a, "select 'still here'", "still here");
	}
	PQfinish(a);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("basic");
	TCase *tcase = tcase_create("queries");

	harness_begin(NULL);
	tcase_set_timeout(tcase, 120);
	suite_add_tcase(suite, tcase);
	LOOP(tcase, simple_queries_get_their_answers);
	LOOP(tcase, extended_queries_get_their_answers);
	LOOP(tcase, values_of_eight_megabytes_pass_in_both_directions);
	LOOP(tcase, transaction_stays_on_one_server_and_is_isolated);
	LOOP(tcase, notices_reach_the_client_that_caused_them);
	LOOP(tcase, function_calls_and_large_objects_work);
	LOOP(tcase, clients_come_over_unix_sockets_and_so_do_servers);
	LOOP(tcase, many_clients_one_after_the_other_share_few_servers);
	LOOP(tcase, flush_brings_answers_before_sync);
	LOOP(tcase, portal_is_fetched_in_pieces_within_a_transaction);
	LOOP(tcase, replication_connection_goes_one_to_one);
	LOOP(tcase, asked_for_ends_of_a_client_leave_the_others_alone);
	return harness_run(suite);
}
