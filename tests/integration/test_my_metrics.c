/* What /metrics says of MySQL's pools adds up as it does for PostgreSQL's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http.h"
#include "mariadb.h"

#define POOL "{pool=\"app\",protocol=\"mysql\""

START_TEST(numbers_add_up_for_mysql) {
	enum { QUERIES = 50 };
	char process[100];
	int port = harness_free_port();

	snprintf(process, sizeof process, "metrics_listen = 127.0.0.1:%d", port);
	struct forebay *forebay =
		maria_forebay(&(struct forebay_setup){.workers = WORKERS(_i), .process = process, .pool = "max_size = 2"});
	MYSQL *my = maria_connect(forebay, NULL), *other = maria_connect(forebay, NULL);
	maria_expect(my, "SELECT 1", "1");
	char *text = http_body(port, "/metrics");
	double queries = metric(text, "forebay_queries_total" POOL "}");
	double errors = metric_sum(text, "forebay_errors_total", POOL ",sqlstate_class=\"42\"");
	ck_assert_double_ge(queries, 1);
	free(text);
	for (int i = 0; i < QUERIES; i++)
		maria_expect(i % 2 ? my : other, "SELECT 2", "2");
	maria_expect_error(my, "SELECT * FROM there_is_none", 1146); /* 42S02 */
	maria_execute(my, "CREATE TEMPORARY TABLE t1 (a INT)");
	await_metric_at_least(port, "forebay_session_pins_total" POOL ",reason=\"temporary_table\"}", 1);
	await_metric(port, "forebay_client_connections" POOL ",state=\"active\"}", 1);
	mysql_close(my);
	mysql_close(other);
	await_metric(port, "forebay_pool_connections" POOL ",state=\"active\"}", 0);
	await_metric(port, "forebay_client_connections" POOL ",state=\"idle\"}", 0);
	text = http_body(port, "/metrics");
	ck_assert_double_eq(metric(text, "forebay_queries_total" POOL "}") - queries, QUERIES + 2);
	ck_assert_double_eq(metric(text, "forebay_query_seconds_count" POOL "}"), metric(text, "forebay_queries_total" POOL "}"));
	ck_assert_double_eq(metric(text, "forebay_transaction_seconds_count" POOL "}"),
			    metric(text, "forebay_transactions_total" POOL "}"));
	ck_assert_double_eq(metric_sum(text, "forebay_errors_total", POOL ",sqlstate_class=\"42\"") - errors, 1);
	ck_assert_double_eq(metric(text, "forebay_pool_connections_opened_total" POOL "}") -
				    metric_sum(text, "forebay_pool_connections_closed_total", POOL),
			    metric_sum(text, "forebay_pool_connections", POOL));
	ck_assert_double_eq(metric(text, "forebay_pool_acquire_seconds_count" POOL "}"),
			    metric(text, "forebay_pool_hold_seconds_count" POOL "}"));
	free(text);
	/* who may not log in is told so, and counted where it belongs to no pool */
	maria_expect_refused(maria_try(forebay, &(struct maria_login){.password = "wrong"}), 1045, "");
	text = http_body(port, "/metrics");
	ck_assert_double_ge(metric_sum(text, "forebay_login_errors_total", "sqlstate_class=\"28\""), 1);
	free(text);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	maria_begin(NULL);
	Suite *suite = suite_create("mysql metrics");
	TCase *tcase = tcase_create("numbers");
	LOOP(tcase, numbers_add_up_for_mysql);
	suite_add_tcase(suite, tcase);
	return harness_run(suite);
}
