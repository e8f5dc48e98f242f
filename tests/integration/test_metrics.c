/* The HTTP listener: metrics that add up, health, readiness, and clients that mean no good. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http.h"
#include "load.h"
#include "query.h"

/* A Forebay with metrics on a port of its own; `process` and `more` as in forebay_setup. */
struct seen {
	struct forebay *forebay;
	int port;
};

static struct seen start(int i, const char *process, const char *pool, const char *more) {
	static char lines[800];
	struct seen seen = {.port = harness_free_port()};

	snprintf(lines, sizeof lines, "metrics_listen = 127.0.0.1:%d\n%s", seen.port, process ? process : "");
	seen.forebay = forebay_start(
		&(struct forebay_setup){.workers = WORKERS(i), .process = lines, .pool = pool, .more = more});
	return seen;
}

#define POOL "{pool=\"app\",protocol=\"postgresql\""

/* A name with the labels of pool app, and perhaps one more. One of 4 in turn. */
static const char *of_app(const char *name, const char *label) {
	static char rooms[4][200];
	static unsigned turn;
	char *room = rooms[turn++ % 4];

	snprintf(room, sizeof rooms[0], "%s" POOL "%s%s}", name, label ? "," : "", label ? label : "");
	return room;
}

static double app(const char *text, const char *name) {
	return metric(text, of_app(name, NULL));
}

static void check_by_promtool(const char *text) {
	const char *path = harness_path("scrape.txt");
	char command[400];

	harness_write(path, text);
	snprintf(command, sizeof command, "promtool check metrics < '%s'", path);
	ck_assert_msg(harness_command((const char *const[]){"sh", "-c", command, NULL}), "promtool objects to %s", path);
}

/* ---- numbers ---- */

START_TEST(numbers_add_up_under_load) {
	struct seen seen = start(_i, NULL, NULL, NULL);
	struct load *load =
		load_start(&(struct load_setup){.port = seen.forebay->port, .clients = 20, .sql = "SELECT 1"});
	double busy_before = 0;

	for (int round = 0; round < 5; round++) {
		load_await(load, 200);
		char *text = http_body(seen.port, "/metrics");
		check_by_promtool(text);
		double present = metric_sum(text, "forebay_pool_connections", "pool=\"app\"");
		ck_assert_double_le(present, app(text, "forebay_pool_max_size"));
		double busy = app(text, "forebay_pool_busy_seconds_total");
		ck_assert_msg(busy > busy_before, "busy seconds went from %g to %g", busy_before, busy);
		busy_before = busy;
		ck_assert_double_eq(metric_sum(text, "forebay_client_connections", "pool=\"app\""), 20);
		free(text);
	}
	load_halt(load);
	load_stop(load);
	double done = (double)load_done(load, 0, INT64_MAX);
	await_metric(seen.port, of_app("forebay_pool_connections", "state=\"active\""), 0);
	await_metric(seen.port, of_app("forebay_client_connections", "state=\"idle\""), 0);
	char *text = http_body(seen.port, "/metrics");
	/* opened less closed is present */
	ck_assert_double_eq(app(text, "forebay_pool_connections_opened_total") -
				    metric_sum(text, "forebay_pool_connections_closed_total", "pool=\"app\""),
			    metric_sum(text, "forebay_pool_connections", "pool=\"app\""));
	/* requests in are answers out */
	ck_assert_double_eq(app(text, "forebay_queries_total"), done);
	ck_assert_double_eq(app(text, "forebay_transactions_total"), done);
	ck_assert_double_eq(app(text, "forebay_query_seconds_count"), done);
	ck_assert_double_eq(app(text, "forebay_transaction_seconds_count"), done);
	/* who asked has waited, and held what it got */
	ck_assert_double_ge(app(text, "forebay_pool_acquire_seconds_count"), done);
	ck_assert_double_eq(app(text, "forebay_pool_acquire_seconds_count"), app(text, "forebay_pool_hold_seconds_count"));
	ck_assert_double_eq(metric(text, of_app("forebay_pool_acquire_seconds_bucket", "le=\"+Inf\"")),
			    app(text, "forebay_pool_acquire_seconds_count"));
	ck_assert_double_gt(metric_sum(text, "forebay_pool_wait_reason_total", "pool=\"app\""), 0);
	ck_assert_double_ge(app(text, "forebay_pool_connect_seconds_count"), 1);
	ck_assert_double_eq(app(text, "forebay_pool_connect_seconds_count"),
			    app(text, "forebay_pool_connections_opened_total"));
	ck_assert_double_gt(app(text, "forebay_received_bytes_total"), done);
	ck_assert_double_gt(app(text, "forebay_sent_bytes_total"), done);
	/* a query has its place in a transaction, which has its in a hold */
	ck_assert_double_le(app(text, "forebay_query_seconds_sum"), app(text, "forebay_transaction_seconds_sum") + 0.001);
	ck_assert_double_eq(metric_sum(text, "forebay_invariant_violations_total", "invariant"), 0);
	free(text);
	load_free(load);
	forebay_stop(seen.forebay);
}
END_TEST

START_TEST(buckets_grow_and_hold_what_took_longer) {
	struct seen seen = start(0, NULL, NULL, NULL);
	PGconn *conn = connect_app(seen.forebay);

	PQclear(PQexec(conn, "SELECT pg_sleep(0.3)"));
	PQclear(PQexec(conn, "SELECT 1"));
	char *text = http_body(seen.port, "/metrics");
	double before = 0;
	int buckets = 0;
	for (const char *line = strstr(text, "\nforebay_query_seconds_bucket{pool=\"app\""); line;
	     line = strstr(line + 1, "\nforebay_query_seconds_bucket{pool=\"app\"")) {
		double value = atof(strstr(line, "} ") + 2);
		ck_assert_double_ge(value, before);
		before = value;
		buckets++;
	}
	ck_assert_int_eq(buckets, 20);
	ck_assert_double_eq(before, 2);
	ck_assert_double_le(metric(text, of_app("forebay_query_seconds_bucket", "le=\"0.25\"")), 1);
	ck_assert_double_ge(app(text, "forebay_query_seconds_sum"), 0.3);
	free(text);
	PQfinish(conn);
	forebay_stop(seen.forebay);
}
END_TEST

START_TEST(busy_seconds_count_what_is_still_held) {
	struct seen seen = start(_i, NULL, NULL, NULL);
	PGconn *conn = connect_app(seen.forebay);

	begin_holding(conn);
	await_metric_at_least(seen.port, of_app("forebay_pool_busy_seconds_total", NULL), 0.2);
	char *text = http_body(seen.port, "/metrics");
	ck_assert_double_eq(app(text, "forebay_pool_utilization_ratio"), 0.2);
	ck_assert_double_eq(app(text, "forebay_pool_hold_seconds_count"), metric_sum(text, "forebay_pool_acquire_seconds_count", POOL) - 1);
	ck_assert_double_eq(metric(text, of_app("forebay_client_connections", "state=\"active\"")), 1);
	free(text);
	PQfinish(conn);
	forebay_stop(seen.forebay);
}
END_TEST

START_TEST(errors_waits_and_failures_have_their_reasons) {
	char more[400];
	int nobody = harness_free_port();

	snprintf(more, sizeof more, "[pool:dead]\nhosts = 127.0.0.1:%d\ntls_mode = disable\nmin_idle = 0\n"
				    "acquire_timeout = 300ms\nmonitor_interval = 0\n", nobody);
	struct seen seen = start(_i, NULL, "max_size = 1\nacquire_timeout = 2s\nleak_detection_threshold = 100ms", more);
	PGconn *conn = connect_app(seen.forebay), *other = connect_app(seen.forebay);
	PGresult *res;

	expect_error(conn, "SELECT 1/0", "22012");
	PQclear(PQexec(conn, "BEGIN"));
	PQclear(PQexec(conn, "SELECT 1"));
	res = PQexec(other, "SELECT 1");
	ck_assert_str_eq(PQresultErrorField(res, PG_DIAG_SQLSTATE), "53300");
	PQclear(res);
	await_metric(seen.port, of_app("forebay_pool_leaked_connections", NULL), 1);
	expect_refused(try_connect(seen.forebay, "password=wrong"), "password");
	expect_refused(try_connect(seen.forebay, "dbname=dead"), "");
	char *text = http_body(seen.port, "/metrics");
	ck_assert_double_eq(metric(text, of_app("forebay_errors_total", "sqlstate_class=\"22\"")), 1);
	ck_assert_double_eq(metric(text, of_app("forebay_errors_total", "sqlstate_class=\"53\"")), 1);
	ck_assert_double_eq(metric(text, of_app("forebay_pool_acquire_timeouts_total", NULL)), 1);
	ck_assert_double_eq(metric(text, of_app("forebay_pool_leaks_total", NULL)), 1);
	ck_assert_double_ge(metric(text, of_app("forebay_pool_wait_reason_total", "reason=\"pool_full\"")), 1);
	ck_assert_double_ge(metric_sum(text, "forebay_login_errors_total", "sqlstate_class=\"28\""), 1);
	ck_assert_double_ge(metric_sum(text, "forebay_pool_connect_failures_total", "pool=\"dead\",protocol=\"postgresql\",reason=\"refused\""), 1);
	ck_assert_double_eq(metric_sum(text, "forebay_pool_connect_failures_total", POOL), 0);
	free(text);
	PQclear(PQexec(conn, "ROLLBACK"));
	await_metric(seen.port, of_app("forebay_pool_leaked_connections", NULL), 0);
	PQfinish(conn);
	PQfinish(other);
	/* a connection that the backend ends is lost, and that is why it is closed */
	PGconn *control = connect_control();
	PQclear(PQexec(control, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'"));
	await_metric_at_least(seen.port, of_app("forebay_pool_connections_closed_total", "reason=\"lost\""), 1);
	PQfinish(control);
	forebay_stop(seen.forebay);
}
END_TEST

START_TEST(a_backend_that_goes_down_is_seen_to_be_down) {
	char more[400], name[200];
	int nobody = harness_free_port();

	snprintf(more, sizeof more, "[pool:dead]\nhosts = 127.0.0.1:%d\ntls_mode = disable\nmin_idle = 0\n", nobody);
	struct seen seen = start(0, NULL, NULL, more);
	snprintf(name, sizeof name, "forebay_backend_up{host=\"127.0.0.1:%d\",protocol=\"postgresql\"}", nobody);
	await_metric(seen.port, name, 0);
	snprintf(name, sizeof name, "forebay_backend_up{host=\"127.0.0.1:%d\",protocol=\"postgresql\"}",
		 harness_postgres_port());
	await_metric(seen.port, name, 1);
	forebay_stop(seen.forebay);
}
END_TEST

/* ---- forms ---- */

START_TEST(openmetrics_for_those_who_prefer_it) {
	struct seen seen = start(0, NULL, NULL, NULL);
	struct http_answer a = http_get(seen.port, "/metrics", "Accept: application/openmetrics-text;version=1.0.0,"
							       "text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n");

	ck_assert_ptr_nonnull(strstr(a.head, "application/openmetrics-text; version=1.0.0"));
	ck_assert_str_eq(a.body + a.len - 6, "# EOF\n");
	ck_assert_ptr_nonnull(strstr(a.body, "# TYPE forebay_queries counter\n"));
	ck_assert_ptr_nonnull(strstr(a.body, "# UNIT forebay_query_seconds seconds\n"));
	ck_assert_ptr_nonnull(strstr(a.body, "le=\"1.0\"} "));
	http_free(&a);
	static const char *const others[] = {NULL, "Accept: */*\r\n", "Accept: text/plain\r\n",
					     "Accept: application/openmetrics-text;q=0,text/plain\r\n"};
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
		a = http_get(seen.port, "/metrics", others[i]);
		ck_assert_ptr_nonnull(strstr(a.head, "text/plain; version=0.0.4"));
		ck_assert_ptr_nonnull(strstr(a.body, "# TYPE forebay_queries_total counter\n"));
		ck_assert_ptr_null(strstr(a.body, "# EOF"));
		http_free(&a);
	}
	forebay_stop(seen.forebay);
}
END_TEST

START_TEST(names_of_pools_are_escaped) {
	struct seen seen = start(0, NULL, NULL, "[pool:*]\nhosts = 127.0.0.1:1\nmin_idle = 0\nacquire_timeout = 50ms\n"
						"monitor_interval = 0\n");

	expect_refused(try_connect(seen.forebay, "dbname='a\"b\\\\c'"), "");
	char *text = http_body(seen.port, "/metrics");
	check_by_promtool(text);
	ck_assert_ptr_nonnull(strstr(text, "forebay_pool_max_size{pool=\"a\\\"b\\\\c\",protocol=\"postgresql\"} 20\n"));
	free(text);
	/* one that clients have invented does not make the process unready */
	struct http_answer a = http_get(seen.port, "/readyz", NULL);
	ck_assert_msg(a.status == 200, "%s", a.body);
	http_free(&a);
	forebay_stop(seen.forebay);
}
END_TEST

START_TEST(the_documentation_has_every_metric) {
	char command[600];
	const char *binary = getenv("FOREBAY"), *top = getenv("top_srcdir");

	snprintf(command, sizeof command, "'%s' --print-metrics | cmp - '%s/doc/metrics.md'",
		 binary ? binary : "./forebay", top ? top : ".");
	ck_assert_msg(harness_command((const char *const[]){"sh", "-c", command, NULL}),
		      "doc/metrics.md is not what forebay --print-metrics prints");
}
END_TEST

/* ---- who may ask ---- */

START_TEST(a_password_is_asked_for) {
	struct seen seen = start(0, "metrics_user = grafana\nmetrics_password = s3cret", NULL, NULL);
	/* grafana:s3cret, grafana:wrong, grafana:s3cre, other:s3cret */
	static const char *const wrong[] = {NULL, "Authorization: Basic Z3JhZmFuYTp3cm9uZw==\r\n",
					    "Authorization: Basic Z3JhZmFuYTpzM2NyZQ==\r\n",
					    "Authorization: Basic b3RoZXI6czNjcmV0\r\n", "Authorization: Basic !!\r\n",
					    "Authorization: Bearer x\r\n"};
	static const char *const paths[] = {"/metrics", "/nothing", "/", "/status.json"};

	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		for (size_t p = 0; p < sizeof paths / sizeof paths[0]; p++) {
			struct http_answer a = http_get(seen.port, paths[p], wrong[i]);
			ck_assert_int_eq(a.status, 401);
			ck_assert_ptr_nonnull(strstr(a.head, "WWW-Authenticate: Basic realm=\"forebay\""));
			ck_assert_ptr_null(strstr(a.body, "forebay_"));
			http_free(&a);
		}
		struct http_answer a = http_get(seen.port, "/readyz", wrong[i]);
		ck_assert_int_eq(a.status, 200);
		ck_assert_str_eq(a.body, "ready\n"); /* and no more */
		http_free(&a);
	}
	struct http_answer a = http_get(seen.port, "/metrics", "Authorization: Basic Z3JhZmFuYTpzM2NyZXQ=\r\n");
	ck_assert_int_eq(a.status, 200);
	http_free(&a);
	a = http_get(seen.port, "/healthz", NULL);
	ck_assert_str_eq(a.body, "ok\n");
	http_free(&a);
	ck_assert_int_eq(harness_count_in(seen.forebay->log, "s3cret"), 0);
	forebay_stop(seen.forebay);
}
END_TEST

START_TEST(https_where_there_is_a_certificate) {
	char process[600];

	snprintf(process, sizeof process, "metrics_tls_cert_file = %s\nmetrics_tls_key_file = %s", harness_path("server.crt"),
		 harness_path("server.key"));
	struct seen seen = start(0, process, NULL, NULL);
	struct http_answer a = http_get_tls(seen.port, "/metrics", NULL);
	ck_assert_int_eq(a.status, 200);
	ck_assert_double_eq(metric(a.body, "forebay_workers"), 1);
	http_free(&a);
	/* and never without */
	static const char plain[] = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
	a = http_send(seen.port, plain, strlen(plain));
	ck_assert_int_eq(a.status, 0);
	http_free(&a);
	forebay_stop(seen.forebay);
}
END_TEST

static void refused_with(const char *process, const char *words) {
	char text[1200];
	const char *ini = harness_path("refused.ini");
	const char *log = harness_path("commands.log");

	snprintf(text, sizeof text, "[forebay]\n%s\n[listener:pg]\nlisten = 127.0.0.1:%d\n[pool:app]\nhosts = 127.0.0.1:1\n",
		 process, harness_free_port());
	harness_write(ini, text);
	int before = harness_count_in(log, words);
	ck_assert_int_eq(forebay_exit_code(ini), 1);
	ck_assert_msg(harness_count_in(log, words) > before, "it did not say: %s", words);
}

START_TEST(an_address_that_is_taken_is_an_error_at_start) {
	struct seen seen = start(0, NULL, NULL, NULL);
	char process[600], words[100];

	snprintf(process, sizeof process, "metrics_listen = 127.0.0.1:%d", seen.port);
	snprintf(words, sizeof words, "metrics_listen: cannot listen on 127.0.0.1:%d", seen.port);
	refused_with(process, words);
	forebay_stop(seen.forebay);
	snprintf(process, sizeof process, "metrics_listen = 127.0.0.1:%d\nmetrics_tls_cert_file = %s\nmetrics_tls_key_file = %s",
		 harness_free_port(), harness_path("server.crt"), harness_path("client.key"));
	refused_with(process, "client.key");
}
END_TEST

/* ---- ready ---- */

START_TEST(readiness_names_the_pool_and_why) {
	char more[400];

	snprintf(more, sizeof more, "[pool:dead]\nhosts = 127.0.0.1:%d\ntls_mode = disable\nmin_idle = 0\n",
		 harness_free_port());
	struct seen seen = start(_i, NULL, NULL, more);
	struct http_answer a;
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	for (;;) {
		a = http_get(seen.port, "/readyz", NULL);
		if (strstr(a.body, "dead: NOT READY: no host can be connected to"))
			break;
		http_free(&a);
		ck_assert_msg(harness_now_ms() < deadline, "the dead pool is not seen to be dead");
		harness_pause_ms(20);
	}
	ck_assert_int_eq(a.status, 503);
	ck_assert_ptr_nonnull(strstr(a.body, "app: ready\n"));
	http_free(&a);
	a = http_get(seen.port, "/readyz?pool=app", NULL);
	ck_assert_int_eq(a.status, 200);
	http_free(&a);
	a = http_get(seen.port, "/readyz?pool=none", NULL);
	ck_assert_int_eq(a.status, 404);
	http_free(&a);
	PGconn *ops = connect_with(seen.forebay, "user=ops password=ops-secret dbname=forebay");
	PQclear(PQexec(ops, "PAUSE app"));
	a = http_get(seen.port, "/readyz?pool=app", "Accept: application/json\r\n");
	ck_assert_int_eq(a.status, 503);
	ck_assert_ptr_nonnull(strstr(a.body, "\"reason\":\"it is paused; RESUME on the console ends that\""));
	http_free(&a);
	PQclear(PQexec(ops, "RESUME app"));
	a = http_get(seen.port, "/readyz?pool=app", NULL);
	ck_assert_int_eq(a.status, 200);
	http_free(&a);
	PQfinish(ops);
	a = http_get(seen.port, "/healthz", NULL);
	ck_assert_int_eq(a.status, 200);
	http_free(&a);
	forebay_stop(seen.forebay);
}
END_TEST

START_TEST(while_it_drains_it_is_not_ready_and_still_answers) {
	struct seen seen = start(_i, NULL, NULL, NULL);
	PGconn *conn = connect_app(seen.forebay);

	begin_holding(conn);
	kill(seen.forebay->pid, SIGTERM);
	forebay_await_log(seen.forebay, "stopping");
	struct http_answer a = http_get(seen.port, "/readyz", NULL);
	ck_assert_int_eq(a.status, 503);
	ck_assert_ptr_nonnull(strstr(a.body, "the process stops"));
	http_free(&a);
	ck_assert_double_eq(metric_now(seen.port, of_app("forebay_client_connections", "state=\"active\"")), 1);
	PQclear(PQexec(conn, "COMMIT"));
	PQfinish(conn);
	forebay_await_exit(seen.forebay);
}
END_TEST

/* ---- no good ---- */

START_TEST(odd_requests_are_refused) {
	struct seen seen = start(0, NULL, NULL, NULL);
	static const struct {
		const char *request;
		int status;
	} odd[] = {
		{"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", 405},
		{"DELETE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405},
		{"GET /metrics/../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404},
		{"GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404},
		{"GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n", 400}, /* no Host */
		{"HEAD /metrics HTTP/1.0\r\n\r\n", 200},
		/* bodies, and what only says that it has one */
		{"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 413},
		{"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", 413},
		{"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999999\r\n\r\n", 413},
		{"GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 413},
		{"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400},
		{"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 200},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
		{"GET http://example.org/metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404},
		/* a web site whose name points here */
		{"GET /status.json HTTP/1.1\r\nHost: example.org:80\r\nConnection: close\r\n\r\n", 421},
		{"GET / HTTP/1.1\r\nHost: notlocalhost\r\nConnection: close\r\n\r\n", 421},
		{"GET / HTTP/1.1\r\nHost: LocalHost:9127\r\nConnection: close\r\n\r\n", 200},
		{"GET /status.json HTTP/1.1\r\nHost: 127.0.0.1:9127\r\nConnection: close\r\n\r\n", 200},
		{"GET /status.json HTTP/1.1\r\nHost: [::1]\r\nConnection: close\r\n\r\n", 200},
	};

	for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
		struct http_answer a = http_send(seen.port, odd[i].request, strlen(odd[i].request));
		ck_assert_msg(a.status == odd[i].status, "%s: %d, not %d", odd[i].request, a.status, odd[i].status);
		http_free(&a);
	}
	/* what is no HTTP gets an error or a closed connection, and soon */
	static const char *const rubbish[] = {"\r\n\r\n\r\n\r\n", "GET\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
					      "GET / HTTP/9.9\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\n: x\r\n\r\n"};
	for (size_t i = 0; i < sizeof rubbish / sizeof rubbish[0]; i++) {
		int fd = http_connect(seen.port);
		ck_assert_int_gt(send(fd, rubbish[i], strlen(rubbish[i]), MSG_NOSIGNAL), 0);
		close(fd);
	}
	ck_assert_double_eq(metric_now(seen.port, "forebay_workers"), 1);
	forebay_stop(seen.forebay);
}
END_TEST

/* One that sends and sends: it is refused at a bounded size. */
static void send_endlessly(int port, const char *begin) {
	int fd = http_connect(port);
	enum { ENDLESS = 64 * 1024 * 1024 };
	char block[4096];
	size_t sent = 0;

	memset(block, 'a', sizeof block);
	send(fd, begin, strlen(begin), MSG_NOSIGNAL);
	while (sent < ENDLESS) { /* the kernel's buffers take some MiB before anybody reads */
		ssize_t n = send(fd, block, sizeof block, MSG_NOSIGNAL);
		if (n <= 0)
			break;
		sent += (size_t)n;
		char answer[100];
		if (recv(fd, answer, sizeof answer, MSG_DONTWAIT) > 0) /* it has said no */
			break;
	}
	ck_assert_msg(sent < ENDLESS, "a request without an end was read on and on");
	close(fd);
}

START_TEST(slow_huge_and_many_clients_hurt_nothing) {
	struct seen seen = start(_i, NULL, NULL, NULL);
	struct load *load = load_start(&(struct load_setup){.port = seen.forebay->port, .clients = 5, .sql = "SELECT 1"});
	static const char half[] = "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ";
	static const char whole[] = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
	enum { MANY = 150 };
	int slow[MANY];

	send_endlessly(seen.port, "GET /");
	send_endlessly(seen.port, "GET / HTTP/1.1\r\nHost: x\r\nX-Long: ");
	send_endlessly(seen.port, "GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n");
	send_endlessly(seen.port, "GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n7fffffff\r\n");
	size_t rss = forebay_rss_kib(seen.forebay);
	for (int i = 0; i < MANY; i++) {
		slow[i] = http_connect(seen.port);
		send(slow[i], half, strlen(half), MSG_NOSIGNAL);
	}
	load_await(load, 500); /* the data path does not care */
	/* the slow ones are put out, and whoever means well is served */
	char *text = http_body(seen.port, "/metrics");
	/* states are read one by one: a client that goes from one to the other meanwhile may be in none of those seen */
	for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	     metric_sum(text, "forebay_client_connections", "pool=\"app\"") != 5 && harness_now_ms() < deadline;
	     text = http_body(seen.port, "/metrics"))
		free(text);
	ck_assert_double_eq(metric_sum(text, "forebay_client_connections", "pool=\"app\""), 5);
	ck_assert_msg(metric(text, "process_open_fds") < 160, "%g descriptors", metric(text, "process_open_fds"));
	free(text);
	for (int i = 0; i < MANY; i++)
		close(slow[i]);
	/* who asks and does not read */
	for (int i = 0; i < 40; i++) {
		slow[i] = http_connect(seen.port);
		for (int n = 0; n < 20; n++)
			send(slow[i], whole, strlen(whole), MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	load_await(load, 500);
	for (int i = 0; i < 40; i++)
		close(slow[i]);
	load_stop(load);
	ck_assert_int_eq(load_errors(load, 0, INT64_MAX), 0);
	load_free(load);
	ck_assert_msg(forebay_rss_kib(seen.forebay) < rss + 100 * 1024, "%zu KiB, %zu before",
		      forebay_rss_kib(seen.forebay), rss);
	free(http_body(seen.port, "/metrics"));
	forebay_stop(seen.forebay);
}
END_TEST

START_TEST(many_pools_are_scraped_whole_while_clients_work) {
	enum { POOLS = SLOWNESS > 1 ? 300 : 1000 }; /* all of them in the plain build */
	char *more = malloc(POOLS * 140 + 1), *at = more;

	for (int i = 0; i < POOLS; i++)
		at += sprintf(at, "[pool:p%d]\nhosts = 127.0.0.1:%d\nmax_size = 2\nmin_idle = 0\nmonitor_interval = 0\n", i,
			      harness_postgres_port());
	struct seen seen = start(1, "max_clients = 1000\n", NULL, more);
	struct load *load = load_start(&(struct load_setup){.port = seen.forebay->port, .clients = 10, .sql = "SELECT 1"});
	char *text = http_body(seen.port, "/metrics");
	int pools = 0;
	for (const char *p = text; (p = strstr(p, "\nforebay_pool_max_size{")); p++)
		pools++;
	ck_assert_int_eq(pools, POOLS + 1);
	ck_assert_double_eq(metric_sum(text, "forebay_client_connections", "pool=\"app\""), 10);
	free(text);
	load_await(load, 50);
	/* the page shows as many as somebody can look at */
	char *json = http_body(seen.port, "/status.json");
	char total[40];
	snprintf(total, sizeof total, "\"pools_total\":%d,", POOLS + 1);
	ck_assert_ptr_nonnull(strstr(json, total));
	ck_assert_uint_lt(strlen(json), 400 * 1024);
	free(json);
	load_stop(load);
	ck_assert_int_eq(load_errors(load, 0, INT64_MAX), 0);
	load_free(load);
	forebay_stop(seen.forebay);
	free(more);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("metrics");
	TCase *numbers = tcase_create("numbers"), *forms = tcase_create("forms"), *access = tcase_create("access"),
	      *ready = tcase_create("ready"), *foes = tcase_create("foes");

	harness_begin(NULL);
	LOOP(numbers, numbers_add_up_under_load);
	tcase_add_test(numbers, buckets_grow_and_hold_what_took_longer);
	LOOP(numbers, busy_seconds_count_what_is_still_held);
	LOOP(numbers, errors_waits_and_failures_have_their_reasons);
	tcase_add_test(numbers, a_backend_that_goes_down_is_seen_to_be_down);
	tcase_add_test(forms, openmetrics_for_those_who_prefer_it);
	tcase_add_test(forms, names_of_pools_are_escaped);
	tcase_add_test(forms, the_documentation_has_every_metric);
	tcase_add_test(access, a_password_is_asked_for);
	tcase_add_test(access, https_where_there_is_a_certificate);
	tcase_add_test(access, an_address_that_is_taken_is_an_error_at_start);
	LOOP(ready, readiness_names_the_pool_and_why);
	LOOP(ready, while_it_drains_it_is_not_ready_and_still_answers);
	tcase_add_test(foes, odd_requests_are_refused);
	tcase_add_loop_test(foes, slow_huge_and_many_clients_hurt_nothing, 1, 2);
	tcase_add_test(foes, many_pools_are_scraped_whole_while_clients_work);
	suite_add_tcase(suite, numbers);
	suite_add_tcase(suite, forms);
	suite_add_tcase(suite, access);
	suite_add_tcase(suite, ready);
	suite_add_tcase(suite, foes);
	return harness_run(suite);
}
