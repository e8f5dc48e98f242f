/*
 * The dashboard and the rules with what they are for: a Prometheus scrapes a Forebay under load, and every expression of the
 * dashboard, and every recording rule, has something to show.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http.h"
#include "load.h"
#include "query.h"

static const char *top(void) {
	const char *dir = getenv("top_srcdir");
	return dir ? dir : ".";
}

/* ---- Prometheus ---- */

static int start_prometheus(int forebay_port) {
	char config[2000], listen[60], config_arg[400], data_arg[400];
	char config_path[300];
	int port = harness_free_port();

	snprintf(config, sizeof config,
		 "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files: ['%s/conf/prometheus/forebay.rules.yml']\n"
		 "scrape_configs:\n  - job_name: forebay\n    static_configs: [{targets: ['127.0.0.1:%d']}]\n",
		 top(), forebay_port);
	snprintf(config_path, sizeof config_path, "%s", harness_path("prometheus.yml"));
	harness_write(config_path, config);
	snprintf(listen, sizeof listen, "--web.listen-address=127.0.0.1:%d", port);
	snprintf(config_arg, sizeof config_arg, "--config.file=%s", config_path);
	snprintf(data_arg, sizeof data_arg, "--storage.tsdb.path=%s", harness_path("prometheus"));
	harness_spawn((const char *const[]){"prometheus", listen, config_arg, data_arg, "--log.level=warn", NULL},
		      harness_path("prometheus.log"));
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	while (!harness_port_accepts(port)) {
		ck_assert_msg(harness_now_ms() < deadline, "Prometheus does not listen");
		harness_pause_ms(50);
	}
	return port;
}

/* The answer of an instant query, malloc'd. */
static char *ask(int port, const char *expression) {
	char path[3500];
	int len = snprintf(path, sizeof path, "/api/v1/query?query=");

	for (const char *p = expression; *p; p++)
		len += snprintf(path + len, sizeof path - (size_t)len, isalnum((unsigned char)*p) ? "%c" : "%%%02X",
				(unsigned char)*p);
	struct http_answer a = http_get(port, path, NULL);
	ck_assert_msg(a.status == 200 || a.status == 503, "%s: %d %s", expression, a.status, a.body);
	free(a.head);
	return a.body;
}

/* At least one value that is a number. */
static bool has_data(const char *answer) {
	for (const char *p = answer; (p = strstr(p, "\"value\":[")); p++) {
		const char *value = strchr(p, ',');
		if (value && strncmp(value, ",\"NaN\"", 6) != 0)
			return true;
	}
	return false;
}

static void await_data(int port, const char *expression) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	for (;;) {
		char *answer = ask(port, expression);
		bool there = has_data(answer);
		ck_assert_msg(there || harness_now_ms() < deadline, "no data for %s: %s", expression, answer);
		free(answer);
		if (there)
			return;
		harness_pause_ms(200);
	}
}

/* ---- expressions ---- */

/* Replaces each `from` in place, in a room of `size`. */
static void replace(char *text, size_t size, const char *from, const char *to) {
	char *at = text;

	while ((at = strstr(at, from))) {
		size_t rest = strlen(at + strlen(from)) + 1;
		ck_assert_uint_lt((size_t)(at - text) + strlen(to) + rest, size);
		memmove(at + strlen(to), at + strlen(from), rest);
		memcpy(at, to, strlen(to));
		at += strlen(to);
	}
}

/* The JSON string that begins at `at` (behind its quote), as what it means. */
static void take_string(const char *at, char *out, size_t room) {
	size_t len = 0;

	for (; *at && *at != '"' && len + 1 < room; at++) {
		if (*at == '\\')
			at++;
		out[len++] = *at;
	}
	ck_assert_msg(*at == '"', "an expression is too long, or does not end");
	out[len] = 0;
}

START_TEST(every_expression_has_something_to_show) {
	char process[100], more[500], path[400], expression[1500];
	int port = harness_free_port();

	snprintf(process, sizeof process, "metrics_listen = 127.0.0.1:%d", port);
	snprintf(more, sizeof more,
		 "[pool:dead]\nhosts = 127.0.0.1:%d\nmin_idle = 0\nacquire_timeout = 1s\ntls_mode = disable\n"
		 "[pool:held]\nhosts = 127.0.0.1:%d\ndatabase = app\nmin_idle = 0\ntls_mode = disable\n"
		 "leak_detection_threshold = 100ms\n",
		 harness_free_port(), harness_postgres_port());
	struct forebay *forebay = forebay_start(
		&(struct forebay_setup){.workers = 2, .process = process, .pool = "max_size = 2", .more = more});
	int prometheus = start_prometheus(port);
	PGconn *leak = connect_with(forebay, "dbname=held");
	begin_holding(leak);
	struct load *load = load_start(&(struct load_setup){
		.port = forebay->port, .clients = 8, .sql = "SELECT pg_sleep(0.002)", .pause_ms = 5});
	struct load *failing = load_start(&(struct load_setup){
		.port = forebay->port, .clients = 1, .sql = "SELECT 1/0", .impatient = true, .error_pause_ms = 50});
	struct load *refused = load_start(&(struct load_setup){
		.port = forebay->port, .database = "dead", .clients = 1, .sql = "SELECT 1", .impatient = true});
	PGconn *ops = connect_with(forebay, "user=ops password=ops-secret dbname=forebay");

	snprintf(path, sizeof path, "%s/conf/grafana/forebay.json", top());
	char *dashboard = harness_read(path);
	int count = 0;
	for (const char *at = dashboard; (at = strstr(at, "\"expr\": \"")); count++) {
		at += strlen("\"expr\": \"");
		take_string(at, expression, sizeof expression);
		replace(expression, sizeof expression, "$__rate_interval", "30s");
		replace(expression, sizeof expression, "$pool", ".*");
		replace(expression, sizeof expression, "$instance", ".*");
		ck_assert_msg(!strchr(expression, '$'), "a variable that this test does not know: %s", expression);
		PQclear(PQexec(ops, "RECONNECT")); /* so that connections are opened and closed all the time */
		await_data(prometheus, expression);
	}
	ck_assert_int_ge(count, 30);
	PQfinish(ops);
	free(dashboard);
	/* the rules as well */
	snprintf(path, sizeof path, "%s/conf/prometheus/forebay.rules.yml", top());
	char *rules = harness_read(path);
	int recorded = 0;
	for (const char *at = rules; (at = strstr(at, "- record: ")); recorded++) {
		at += strlen("- record: ");
		snprintf(expression, sizeof expression, "%.*s", (int)strcspn(at, "\n"), at);
		await_data(prometheus, expression);
	}
	ck_assert_int_ge(recorded, 5);
	free(rules);
	load_stop(load);
	load_stop(failing);
	load_stop(refused);
	ck_assert_int_gt(load_errors_with(failing, "22012"), 0);
	load_free(load);
	load_free(failing);
	load_free(refused);
	PQfinish(leak);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("grafana");
	TCase *tcase = tcase_create("dashboard");

	harness_begin(NULL);
	if (harness_direct())
		return harness_end(EXIT_SUCCESS);
	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, every_expression_has_something_to_show);
	suite_add_tcase(suite, tcase);
	return harness_run(suite);
}
