/* The status page: as HTML without its script, as JSON, and as a browser shows it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "http.h"
#include "query.h"

/* One pool with a client that leaks, one that is full and waited for, one whose host is down. */
struct trouble {
	struct forebay *forebay;
	int port;
	PGconn *leaks, *holds, *waits;
};

static void await_in(int port, const char *path, const char *words) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	for (;;) {
		char *body = http_body(port, path);
		bool there = strstr(body, words) != NULL;
		free(body);
		if (there)
			return;
		ck_assert_msg(harness_now_ms() < deadline, "%s never says: %s", path, words);
		harness_pause_ms(50);
	}
}

/* Until a sample of a pool's history has been taken since its client is at work: those before may be older. */
static void await_sample(int port) {
	static const char words[] = "\"history\":{\"step\":2,\"active\":[";
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	for (bool there = false; !there; harness_pause_ms(50)) {
		char *body = http_body(port, "/status.json"), *at = body;

		while (!there && (at = strstr(at, words))) {
			at += sizeof words - 1;
			there = memchr(at, '1', strcspn(at, "]")) != NULL;
		}
		free(body);
		ck_assert_msg(there || harness_now_ms() < deadline, "no sample shows the client");
	}
}

static struct trouble start(void) {
	char process[100], more[600];
	struct trouble t = {.port = harness_free_port()};

	snprintf(process, sizeof process, "metrics_listen = 127.0.0.1:%d", t.port);
	snprintf(more, sizeof more,
		 "[pool:full]\nhosts = 127.0.0.1:%d\ndatabase = app\nmax_size = 1\nmin_idle = 0\ntls_mode = disable\n"
		 "[pool:dead]\nhosts = 127.0.0.1:%d\nmin_idle = 0\ntls_mode = disable\n",
		 harness_postgres_port(), harness_free_port());
	t.forebay = forebay_start(&(struct forebay_setup){
		.process = process, .pool = "leak_detection_threshold = 200ms", .more = more});
	t.leaks = connect_with(t.forebay, "application_name='<b>checkout</b> \"&'");
	execute(t.leaks, "BEGIN");
	execute(t.leaks, "SELECT 1 /* <i> */ WHERE 1 < 2");
	t.holds = connect_with(t.forebay, "dbname=full");
	t.waits = connect_with(t.forebay, "dbname=full");
	begin_holding(t.holds);
	send_query(t.waits, "SELECT 1");
	await_in(t.port, "/status.json", "\"kind\":\"leak\"");
	await_in(t.port, "/status.json", "\"kind\":\"pool_full\"");
	await_in(t.port, "/status.json", "\"kind\":\"backend_down\"");
	await_sample(t.port);
	return t;
}

static void stop(struct trouble *t) {
	PQfinish(t->leaks);
	PQfinish(t->holds);
	PQfinish(t->waits);
	forebay_stop(t->forebay);
}

static void must_have(const char *text, const char *words) {
	ck_assert_msg(strstr(text, words) != NULL, "this is not in it: %s\n%s", words, text);
}

START_TEST(without_its_script_the_page_is_tables) {
	struct trouble t = start();
	struct http_answer a = http_get(t.port, "/", NULL);
	char nonce[33] = "", *script;
	const char *at = strstr(a.head, "script-src 'nonce-");

	ck_assert_int_eq(a.status, 200);
	must_have(a.head, "Content-Type: text/html; charset=utf-8");
	must_have(a.head, "default-src 'none';");
	ck_assert_ptr_nonnull(at);
	ck_assert_int_eq(sscanf(at, "script-src 'nonce-%32[0-9a-f]'", nonce), 1);
	ck_assert_uint_eq(strlen(nonce), 32);
	/* what nobody needs the script for */
	script = strstr(a.body, "<script");
	ck_assert_ptr_nonnull(script);
	ck_assert_int_eq(strncmp(strstr(script, "nonce="), "nonce=\"", 7), 0);
	ck_assert_int_eq(strncmp(strstr(script, "nonce=") + 7, nonce, 32), 0);
	*script = 0;
	must_have(a.body, "data-kind=\"leak\">Leak in pool app: app=&lt;b&gt;checkout&lt;/b&gt; &quot;&amp; (user app, ");
	must_have(a.body, "data-kind=\"pool_full\">Pool full is full: 1 of 1 connections are in use, 1 client waits");
	must_have(a.body, "data-kind=\"backend_down\">Database host ");
	must_have(a.body, "data-kind=\"pool_not_ready\">Pool dead cannot serve");
	must_have(a.body, "<table id=\"pool-table\">");
	must_have(a.body, "<table id=\"leak-table\">");
	must_have(a.body, "<table id=\"backend-table\">");
	must_have(a.body, "<tr class=\"bad\"><th>full");
	ck_assert_ptr_null(strstr(a.body, "<b>checkout"));
	ck_assert_ptr_null(strstr(a.body, "@CONTENT@"));
	/* it loads nothing from anywhere */
	ck_assert_ptr_null(strstr(a.body, "src="));
	ck_assert_ptr_null(strstr(a.body, "://"));
	http_free(&a);
	/* a nonce is used once */
	a = http_get(t.port, "/", NULL);
	ck_assert_ptr_null(strstr(a.head, nonce));
	http_free(&a);
	stop(&t);
}
END_TEST

START_TEST(the_json_is_sound_and_says_the_same) {
	struct trouble t = start();
	char *json = http_body(t.port, "/status.json"), command[600];

	harness_write(harness_path("status.json"), json);
	snprintf(command, sizeof command,
		 "python3 -c 'import json,sys; d = json.load(open(sys.argv[1])); p = {x[\"name\"]: x for x in d[\"pools\"]};"
		 "l = d[\"leaks\"][0]; assert l[\"application\"] == sys.argv[2], l; assert l[\"user\"] == \"app\";"
		 "assert p[\"full\"][\"full\"] and p[\"full\"][\"waiting\"] == 1 and p[\"app\"][\"leaked\"] == 1;"
		 "assert not p[\"dead\"][\"ready\"] and p[\"dead\"][\"trouble\"]; assert d[\"pools_total\"] == 3;"
		 "assert [b[\"state\"] for b in d[\"backends\"]] == [\"down\", \"up\"]' '%s' '<b>checkout</b> \"&'",
		 harness_path("status.json"));
	ck_assert_msg(harness_command((const char *const[]){"sh", "-c", command, NULL}), "%s", json);
	ck_assert_ptr_null(strchr(json, '<')); /* it is put into the page as it is */
	free(json);
	stop(&t);
}
END_TEST

START_TEST(when_all_is_well_it_says_so) {
	char process[100];
	int port = harness_free_port();

	snprintf(process, sizeof process, "metrics_listen = 127.0.0.1:%d", port);
	struct forebay *forebay = forebay_start(&(struct forebay_setup){.process = process});
	await_in(port, "/", "All is well");
	await_in(port, "/status.json", "\"problems\":[]");
	forebay_stop(forebay);
}
END_TEST

/* ---- in a browser ---- */

static const char *browser(void) {
	static const char *const names[] = {"/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (access(names[i], X_OK) == 0)
			return names[i];
	return NULL;
}

static void browse(const char *what, const char *size, int port, const char *out) {
	char command[1000];

	snprintf(command, sizeof command,
		 "timeout -k 5 60 '%s' --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run "
		 "--hide-scrollbars --user-data-dir='%s' --window-size=%s %s http://127.0.0.1:%d/ > '%s' 2> /dev/null",
		 browser(), harness_path("browser"), size, what, port, out);
	ck_assert_msg(harness_command((const char *const[]){"sh", "-c", command, NULL}), "the browser failed: %s", command);
}

/* A PNG of this size, on which there is more than paper. */
static void check_screenshot(int port, const char *size, unsigned width, unsigned height) {
	char what[400], path[300];
	unsigned char head[24] = {0};
	struct stat st;

	snprintf(path, sizeof path, "%s", harness_path("page-%u.png", width));
	snprintf(what, sizeof what, "--screenshot='%s'", path);
	browse(what, size, port, "/dev/null");
	FILE *file = fopen(path, "re");
	ck_assert_msg(file && fread(head, 1, sizeof head, file) == sizeof head && fstat(fileno(file), &st) == 0,
		      "there is no screenshot");
	fclose(file);
	ck_assert_int_eq(memcmp(head, "\x89PNG\r\n\x1a\n", 8), 0);
	ck_assert_uint_eq((unsigned)(head[18] << 8 | head[19]), width);
	ck_assert_uint_eq((unsigned)(head[22] << 8 | head[23]), height);
	ck_assert_int_gt(st.st_size, 20000);
}

START_TEST(a_browser_shows_leak_full_pool_and_dead_host_at_first_sight) {
	if (!browser()) {
		printf("skipped: there is no chromium\n");
		return;
	}
	struct trouble t = start();
	char dom_path[300];

	snprintf(dom_path, sizeof dom_path, "%s", harness_path("page.html"));
	browse("--dump-dom", "1400,1000", t.port, dom_path);
	char *dom = harness_read(dom_path);
	/* the script has run: the cards are its work */
	must_have(dom, "id=\"cards\"");
	must_have(dom, "class=\"card bad\" data-pool=\"full\"");
	must_have(dom, "<span class=\"badge\">FULL</span>");
	must_have(dom, "<span class=\"badge\">1 LEAK</span>");
	must_have(dom, "<span class=\"badge\">NOT READY</span>");
	must_have(dom, "class=\"busy\"></path>"); /* a picture */
	must_have(dom, "&lt;b&gt;checkout&lt;/b&gt;"); /* the culprit, as text */
	ck_assert_ptr_null(strstr(dom, "<b>checkout"));
	/* in the first place, before all else */
	char *main_at = strstr(dom, "<main id=\"content\"><section id=\"problems\">");
	ck_assert_msg(main_at != NULL, "the problems do not come first");
	char *end = strstr(main_at, "</section>");
	ck_assert_ptr_nonnull(end);
	*end = 0;
	must_have(main_at, "Leak in pool app");
	must_have(main_at, "Pool full is full: 1 of 1");
	must_have(main_at, "Database host 127.0.0.1:");
	free(dom);
	check_screenshot(t.port, "1400,1000", 1400, 1000);
	check_screenshot(t.port, "390,844", 390, 844);
	stop(&t);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("status");
	TCase *page = tcase_create("page"), *seen = tcase_create("browser");

	harness_begin(NULL);
	if (harness_direct())
		return harness_end(EXIT_SUCCESS);
	tcase_add_test(page, without_its_script_the_page_is_tables);
	tcase_add_test(page, the_json_is_sound_and_says_the_same);
	tcase_add_test(page, when_all_is_well_it_says_so);
	tcase_set_timeout(seen, 180);
	tcase_add_test(seen, a_browser_shows_leak_full_pool_and_dead_host_at_first_sight);
	suite_add_tcase(suite, page);
	suite_add_tcase(suite, seen);
	return harness_run(suite);
}
