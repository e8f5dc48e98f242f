/* Clients of MySQL meet reloads, a drain and a process that takes over: nobody is refused, nothing is cut. */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "traffic_my.h"

#include "mariadb.h"

#if defined(__SANITIZE_THREAD__)
enum { RELOADS = 50 };
#elif defined(__SANITIZE_ADDRESS__)
enum { RELOADS = 100 };
#else
enum { RELOADS = 250 };
#endif

/* A pool of sessions; with a port, a listener and a pool beside it. malloc'd. */
static char *further(int port) {
	char *text = NULL, *beside = NULL;

	ck_assert_int_gt(asprintf(&beside, "[listener:second]\nprotocol = mysql\nlisten = 127.0.0.1:%d\n"
					   "[pool:extra]\nprotocol = mysql\nhosts = 127.0.0.1:5\nmin_idle = 1\nuser = app\n"
					   "[user:passing]\npassword = passing-secret\n",
				  port),
			 0);
	ck_assert_int_gt(asprintf(&text, "[pool:sess]\nprotocol = mysql\nhosts = 127.0.0.1:%d\ndatabase = app\n"
					 "pool_mode = session\nmax_size = 4\nmonitor_interval = 0\ntls_mode = disable\n%s",
				  maria_port(), port ? beside : ""),
			 0);
	free(beside);
	return text;
}

START_TEST(restarts_refuse_nobody_and_cut_nothing) {
	char *more = further(0), process[400];
	struct forebay *forebay, *next;

	SKIP_WHEN_DIRECT();
	snprintf(process, sizeof(process), "takeover_socket = %s\nlog_connections = off\ndrain_pace = 20", harness_path("take"));
	forebay = maria_forebay(&(struct forebay_setup){.workers = WORKERS(_i), .process = process, .more = more});
	struct traffic *traffic = traffic_start(&(struct traffic_setup){.forebay = forebay, .mysql = &traffic_of_mysql, .comers = 4,
									.stayers_of_each = 2, .tls = true, .sessions = true});
	for (int i = 0; i < 2; i++) {
		next = forebay_take_over(forebay);
		forebay_await_exit(forebay);
		forebay_await_log(next, "predecessor_gone");
		forebay = next;
		traffic_await_more(traffic);
		kill(forebay->pid, SIGHUP);
		forebay_await_log(forebay, " reloaded ");
	}
	struct traffic_counts counts = traffic_end(traffic);
	ck_assert_int_ge((int)counts.told, 2 * 16); /* each stayer by each process that went */
	forebay_stop(forebay);
	free(more);
}
END_TEST

/* How often something was told, or counted with others that were like it. `event`: with a blank before and behind it. */
static int times_told(const char *log, const char *event) {
	char *text = harness_read(log);
	int times = 0, more;

	for (const char *p = text; (p = strstr(p, event));) {
		p += strlen(event);
		times += sscanf(p, "repeats=%d", &more) == 1 ? more : 1;
	}
	free(text);
	return times;
}

START_TEST(fifty_reloads_a_second_break_nothing) {
	char *plain = further(0), *more = further(harness_free_port());
	struct forebay_setup setup =
		maria_setup(&(struct forebay_setup){.workers = WORKERS(_i), .process = "log_connections = off", .more = plain});
	struct forebay *forebay;

	SKIP_WHEN_DIRECT();
	forebay = forebay_start(&setup);
	struct traffic *traffic = traffic_start(&(struct traffic_setup){.forebay = forebay, .mysql = &traffic_of_mysql, .comers = 2,
									.stayers_of_each = 1, .tls = true, .sessions = true});
	long long began = harness_now_ms();
	/* Signals that come together are one, so a slow machine needs more of them for as many reloads. */
	int reloads = 0;
	for (int i = 0; i < RELOADS || (reloads = times_told(forebay->log, " reloaded ")) <= RELOADS / 10; i++) {
		ck_assert_msg(harness_now_ms() < began + 2 * HARNESS_DEADLINE_MS, "%d reloads", reloads);
		setup.more = i % 2 ? plain : more;
		setup.pool = i % 3 ? "max_size = 5\nquery_timeout = 20s" : "max_size = 3\nmin_idle = 1\nmax_prepared_statements = 1";
		forebay_rewrite_ini(forebay, &setup);
		ck_assert_int_eq(kill(forebay->pid, SIGHUP), 0);
		while (harness_now_ms() < began + 20 * (i + 1))
			harness_pause_ms(1);
	}
	traffic_await_more(traffic);
	struct traffic_counts counts = traffic_end(traffic);
	ck_assert_int_eq((int)counts.told, 0);
	ck_assert_msg(reloads > RELOADS / 10, "%d reloads", reloads);
	forebay_stop(forebay);
	free(plain);
	free(more);
}
END_TEST

/* ---- a drain, and clients in the midst of everything ---- */

/* It is told unasked, which is the answer to whatever it says next, and let go. */
static void expect_told(MYSQL *my) {
	struct pollfd told = {.fd = (int)mysql_get_socket(my), .events = POLLIN};

	ck_assert_msg(poll(&told, 1, HARNESS_DEADLINE_MS) == 1, "it is not told to go");
	ck_assert_int_ne(mysql_query(my, "select 1"), 0);
	maria_expect_refused(my, 1053, "the pooler is shutting down");
}

/* A LOAD DATA LOCAL whose file has an end only when the test says so. */
struct file {
	MYSQL *my;
	pthread_t thread;
	_Atomic bool asked, finish;
	bool sent, ok;
};

static int file_open(void **handle, const char *name, void *file) {
	(void)name;
	*handle = file;
	return 0;
}

static int file_read(void *handle, char *buf, unsigned room) {
	struct file *file = handle;

	atomic_store(&file->asked, true);
	while (!atomic_load(&file->finish))
		harness_pause_ms(2);
	if (file->sent || room < 3)
		return 0;
	file->sent = true;
	memcpy(buf, "6\n", 2);
	return 2;
}

static void file_close(void *handle) {
	(void)handle;
}

static int file_error(void *handle, char *buf, unsigned room) {
	(void)handle;
	snprintf(buf, room, "no");
	return 1;
}

static void *load_file(void *context) {
	struct file *file = context;

	file->ok = mysql_query(file->my, "load data local infile 'x' into table noted") == 0;
	mysql_thread_end();
	return NULL;
}

static void file_begin(struct file *file, struct forebay *forebay) {
	*file = (struct file){.my = maria_connect(forebay, &(struct maria_login){.flags = CLIENT_LOCAL_FILES})};
	mysql_set_local_infile_handler(file->my, file_open, file_read, file_close, file_error, file);
	ck_assert_int_eq(pthread_create(&file->thread, NULL, load_file, file), 0);
	for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS; !atomic_load(&file->asked); harness_pause_ms(2))
		ck_assert_msg(harness_now_ms() < deadline, "nobody asks for the file");
}

START_TEST(what_is_open_is_finished_and_then_told) {
	enum { SIZE = 6 };
	struct forebay *forebay;
	struct file file;
	long long id = 3;
	MYSQL_BIND value = {.buffer_type = MYSQL_TYPE_LONGLONG, .buffer = &id};

	SKIP_WHEN_DIRECT();
	MYSQL *control = maria_control();
	maria_execute(control, "drop table if exists app.noted");
	maria_execute(control, "create table app.noted (id bigint primary key) engine = innodb");
	forebay = maria_forebay(&(struct forebay_setup){.workers = WORKERS(_i), .pool = "max_size = 6"});
	MYSQL *idle = maria_connect(forebay, NULL), *simple = maria_connect(forebay, NULL);
	MYSQL *prepared = maria_connect(forebay, NULL), *temporary = maria_connect(forebay, NULL);
	MYSQL *pinned = maria_connect(forebay, &(struct maria_login){.tls = true}), *running = maria_connect(forebay, NULL);
	MYSQL *waiting = maria_connect(forebay, NULL);
	maria_expect(idle, "select 1", "1");
	maria_expect(waiting, "select 1", "1");
	maria_execute(simple, "begin");
	maria_execute(simple, "insert into noted values (1)");
	MYSQL_STMT *stmt = mysql_stmt_init(prepared);
	ck_assert_int_eq(mysql_stmt_prepare(stmt, "insert into noted values (?)", 28), 0);
	maria_execute(prepared, "begin");
	maria_execute(prepared, "insert into noted values (2)");
	maria_execute(temporary, "begin");
	maria_execute(temporary, "create temporary table t (v bigint)");
	maria_execute(temporary, "insert into t values (4)");
	maria_expect(pinned, "select get_lock('kept', 0)", "1"); /* no transaction; but the server is its own */
	file_begin(&file, forebay);
	ck_assert_int_eq(mysql_send_query(running, "select sleep(0.7), 'ran'", 24), 0);
	maria_await(control, "select count(*) from information_schema.processlist where info like '%%sleep(0.7)%%' and user = 'app'",
		    "1");
	ck_assert_int_eq(mysql_send_query(waiting, "select 'waited'", 15), 0); /* all six are taken */
	ck_assert_int_eq(kill(forebay->pid, SIGTERM), 0);
	forebay_await_log(forebay, " stopping ");
	expect_told(idle);
	expect_told(pinned);

	maria_execute(simple, "commit");
	expect_told(simple);
	ck_assert_int_eq(mysql_stmt_bind_param(stmt, &value), 0);
	ck_assert_msg(mysql_stmt_execute(stmt) == 0, "%s", mysql_stmt_error(stmt));
	maria_execute(prepared, "commit");
	mysql_stmt_close(stmt);
	expect_told(prepared);
	maria_execute(temporary, "insert into noted select v from t");
	maria_execute(temporary, "insert into noted values (5)");
	maria_execute(temporary, "commit");
	expect_told(temporary);
	ck_assert_int_eq(mysql_read_query_result(waiting), 0);
	MYSQL_RES *rows = mysql_store_result(waiting);
	ck_assert_str_eq(mysql_fetch_row(rows)[0], "waited");
	mysql_free_result(rows);
	expect_told(waiting);
	ck_assert_int_eq(mysql_read_query_result(running), 0);
	rows = mysql_store_result(running);
	ck_assert_str_eq(mysql_fetch_row(rows)[1], "ran");
	mysql_free_result(rows);
	expect_told(running);
	atomic_store(&file.finish, true);
	pthread_join(file.thread, NULL);
	ck_assert_msg(file.ok, "%s", mysql_error(file.my));
	expect_told(file.my);
	forebay_await_exit(forebay);
	maria_expect(control, "select group_concat(id order by id) from app.noted", "1,2,3,4,5,6");
	mysql_close(control);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("my_restart");
	TCase *tcase = tcase_create("my_restart");

	maria_begin(NULL);
	tcase_set_timeout(tcase, 120);
	suite_add_tcase(suite, tcase);
	LOOP(tcase, restarts_refuse_nobody_and_cut_nothing);
	LOOP(tcase, fifty_reloads_a_second_break_nothing);
	LOOP(tcase, what_is_open_is_finished_and_then_told);
	return harness_run(suite);
}
