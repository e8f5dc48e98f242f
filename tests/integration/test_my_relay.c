/* The relay where it is in for more than a query and its answer: large packets, files, kills, time limits, clients that vanish,
 * clients and backends that break the protocol. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "my_raw.h"

#define BYTES(s) s, sizeof(s) - 1

enum { MIB = 1024 * 1024, RSS_GROWTH_KIB = 24 * 1024 };

static struct forebay *start(int workers, const char *pool) {
	struct forebay_setup setup = {.workers = workers, .pool = pool};
	return maria_forebay(&setup);
}

static MYSQL *large_connect(struct forebay *forebay) {
	MYSQL *my = maria_connect(forebay, NULL);
	unsigned long most = 256UL * MIB;
	mysql_options(my, MYSQL_OPT_MAX_ALLOWED_PACKET, &most);
	return my;
}

/* ---- large packets ---- */

START_TEST(packets_of_any_size_pass_in_bounded_memory) {
	struct forebay *forebay = start(1, "max_size = 2\n");
	MYSQL *my = large_connect(forebay);
	/* a command, and a row, of just one packet of the greatest length (and an empty one behind it); several packets */
	static const size_t sizes[] = {0xffffff - 18, 0xffffff - 4, 34 * MIB};
	size_t before = forebay_rss_kib(forebay);
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		char *sql = malloc(sizes[i] + 40), *value;
		ck_assert_ptr_nonnull(sql);
		size_t head = (size_t)sprintf(sql, "SELECT LENGTH('");
		memset(sql + head, 'x', sizes[i]);
		size_t len = head + sizes[i] + (size_t)sprintf(sql + head + sizes[i], "')");
		ck_assert_msg(mysql_real_query(my, sql, len) == 0, "%zu: %s", sizes[i], mysql_error(my));
		MYSQL_RES *rows = mysql_store_result(my);
		ck_assert_int_eq(atol(mysql_fetch_row(rows)[0]), (long)sizes[i]);
		mysql_free_result(rows);
		free(sql);
		value = maria_value(my, "SELECT REPEAT('y', %zu)", sizes[i]);
		ck_assert_uint_eq(strlen(value), sizes[i]);
		ck_assert_uint_eq(strspn(value, "y"), sizes[i]);
		free(value);
		maria_expect(my, "SELECT 1", "1");
	}
	size_t after = forebay_rss_kib(forebay);
	ck_assert_msg(after < before + RSS_GROWTH_KIB, "%zu KiB, and %zu before", after, before);
	mysql_close(my);
	forebay_stop(forebay);
}
END_TEST

START_TEST(a_large_parameter_passes) {
	struct forebay *forebay = start(1, "max_size = 1\n");
	MYSQL *my = large_connect(forebay);
	MYSQL_STMT *stmt = mysql_stmt_init(my);
	unsigned long length = 20 * MIB;
	char *data = malloc(length);
	long long got = 0;
	memset(data, 'z', length);
	MYSQL_BIND in = {.buffer_type = MYSQL_TYPE_BLOB, .buffer = data, .buffer_length = length, .length = &length};
	MYSQL_BIND out = {.buffer_type = MYSQL_TYPE_LONGLONG, .buffer = &got};
	ck_assert_int_eq(mysql_stmt_prepare(stmt, "SELECT LENGTH(?)", 16), 0);
	for (int i = 0; i < 2; i++) { /* the second time without its type */
		ck_assert_int_eq(i == 0 ? mysql_stmt_bind_param(stmt, &in) : 0, 0);
		ck_assert_msg(mysql_stmt_execute(stmt) == 0, "%s", mysql_stmt_error(stmt));
		ck_assert_int_eq(mysql_stmt_bind_result(stmt, &out), 0);
		ck_assert_int_eq(mysql_stmt_fetch(stmt), 0);
		ck_assert_int_eq(got, (long long)length);
		mysql_stmt_free_result(stmt);
	}
	mysql_stmt_close(stmt);
	free(data);
	mysql_close(my);
	forebay_stop(forebay);
}
END_TEST

START_TEST(a_packet_that_the_server_refuses_ends_as_it_does_there) {
	struct forebay *forebay = start(1, "max_size = 1\n");
	MYSQL *my = large_connect(forebay), *other = maria_connect(forebay, NULL);
	size_t len = 80 * MIB;
	char *sql = malloc(len);
	memset(sql, ' ', len);
	memcpy(sql, "SELECT 1", 8);
	ck_assert_int_ne(mysql_real_query(my, sql, len), 0);
	free(sql);
	mysql_close(my);
	maria_expect(other, "SELECT 1", "1");
	mysql_close(other);
	forebay_stop(forebay);
}
END_TEST

/* ---- files ---- */

START_TEST(a_local_file_is_the_clients) {
	struct forebay *forebay = start(WORKERS(_i), "max_size = 1\n");
	struct maria_login login = {.flags = CLIENT_LOCAL_FILES};
	MYSQL *my = maria_try(forebay, NULL);
	unsigned yes = 1;
	char path[300], sql[500];
	mysql_close(my);
	snprintf(path, sizeof path, "%s/local.%d.%d", harness_dir(), (int)getpid(), _i);
	FILE *file = fopen(path, "w");
	for (int i = 0; i < 50000; i++)
		fprintf(file, "%d\n", i);
	fclose(file);
	my = maria_connect(forebay, &login);
	mysql_options(my, MYSQL_OPT_LOCAL_INFILE, &yes);
	maria_execute(my, "CREATE OR REPLACE TABLE app.f (a INT)");
	snprintf(sql, sizeof sql, "LOAD DATA LOCAL INFILE '%s' INTO TABLE app.f", path);
	for (int i = 1; i <= 2; i++) {
		ck_assert_msg(mysql_query(my, sql) == 0, "%s", mysql_error(my));
		ck_assert_int_eq(maria_long(my, "SELECT COUNT(*) FROM app.f"), 50000 * i);
	}
	unlink(path);
	ck_assert_int_ne(mysql_query(my, sql), 0); /* the library answers with nothing, and keeps its own error */
	maria_expect(my, "SELECT 1", "1");
	mysql_close(my);
	/* one that has not said it can send files is not asked for one */
	snprintf(path, sizeof path, "%s/.s.PGSQL.%d", forebay->socket_dir, forebay->port);
	struct my_raw raw = my_raw_connect(path, 0, RAW_DEPRECATE_EOF, "app");
	ck_assert_int_ge(raw.fd, 0);
	ck_assert(!my_raw_query(&raw, "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE app.f"));
	ck_assert(my_raw_query(&raw, "SELECT 1"));
	my_raw_close(&raw);
	forebay_stop(forebay);
}
END_TEST

/* As on a private connection: a file that breaks off leaves no row, however it breaks off. */
START_TEST(a_file_that_breaks_off_loads_nothing) {
	static const char rows[] = "1\n2\n3\n";
	struct forebay *forebay = start(WORKERS(_i), "max_size = 1\nquery_timeout = 300ms\n");
	MYSQL *my = maria_connect(forebay, NULL), *control = maria_control();
	char path[300];
	maria_execute(my, "CREATE OR REPLACE TABLE app.broken (a INT) ENGINE=InnoDB");
	snprintf(path, sizeof path, "%s/.s.PGSQL.%d", forebay->socket_dir, forebay->port);
	for (int by_client = 0; by_client < 2; by_client++) {
		struct my_raw raw = my_raw_connect(path, 0, RAW_DEPRECATE_EOF | RAW_LOCAL_FILES, "app");
		static const char load[] = "\3LOAD DATA LOCAL INFILE 'x' INTO TABLE app.broken";
		uint8_t sequence, *packet;
		size_t len;
		ck_assert_int_ge(raw.fd, 0);
		ck_assert(my_raw_send(&raw, 0, load, sizeof load - 1));
		packet = my_raw_packet(&raw, &len, &sequence);
		ck_assert(packet && len > 0 && *packet == 0xfb);
		free(packet);
		ck_assert(my_raw_send(&raw, 2, rows, sizeof rows - 1));
		if (!by_client) { /* the error comes in the midst of the file, and the end with it */
			packet = my_raw_packet(&raw, &len, &sequence);
			ck_assert(packet && len > 9 && *packet == 0xff);
			ck_assert_msg(memmem(packet, len, "query_timeout", 13), "%.*s", (int)len - 9, (char *)packet + 9);
			free(packet);
			ck_assert(my_raw_closed(&raw));
		}
		my_raw_close(&raw);
		/* another gets a server, on which all is well */
		maria_expect(my, "SELECT 1", "1");
		maria_await(control, "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'LOAD DATA%'", "0");
		maria_expect(my, "SELECT COUNT(*) FROM app.broken", "0");
	}
	mysql_close(my);
	mysql_close(control);
	forebay_stop(forebay);
}
END_TEST

/* A session without a current schema cannot have the connection of one that has. */
START_TEST(clients_without_a_schema_do_not_wear_out_connections) {
	static const char made[] = "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'connections'";
	struct forebay *forebay = start(WORKERS(_i), "max_size = 4\nmonitor_interval = 0\n");
	MYSQL *control = maria_control();
	struct maria_login none = {.database = ""}, named = {.database = "app"};
	long before = 0;
	for (int i = 0; i < 20; i++) {
		MYSQL *a = maria_connect(forebay, &none), *b = maria_connect(forebay, &named);
		maria_expect(a, "SELECT DATABASE()", "NULL");
		maria_expect(b, "SELECT DATABASE()", "app");
		mysql_close(a);
		mysql_close(b);
		if (i == 0)
			before = maria_long(control, made);
	}
	/* one more for each worker and kind at most */
	ck_assert_int_le(maria_long(control, made) - before, 2 * (WORKERS(_i) - 1));
	mysql_close(control);
	forebay_stop(forebay);
}
END_TEST

/* ---- kills ---- */

struct running {
	MYSQL *my;
	const char *sql;
	pthread_t thread;
	unsigned error;
	char text[300];
};

static void *run_it(void *argument) {
	struct running *r = argument;
	mysql_query(r->my, r->sql);
	r->error = mysql_errno(r->my);
	snprintf(r->text, sizeof r->text, "%s", mysql_error(r->my));
	if (r->error == 0) {
		MYSQL_RES *rows = mysql_store_result(r->my);
		r->error = mysql_errno(r->my);
		snprintf(r->text, sizeof r->text, "%s", mysql_error(r->my));
		MYSQL_ROW row = rows ? mysql_fetch_row(rows) : NULL;
		if (row) /* SLEEP() tells in its value that it was killed */
			snprintf(r->text, sizeof r->text, "%s", row[0] ? row[0] : "NULL");
		mysql_free_result(rows);
	}
	return NULL;
}

static void begin_sleep(struct running *r, MYSQL *my, MYSQL *root) {
	*r = (struct running){.my = my, .sql = "SELECT SLEEP(60)"};
	pthread_create(&r->thread, NULL, run_it, r);
	maria_await(root, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO = 'SELECT SLEEP(60)'", "1");
}

START_TEST(a_user_kills_what_its_own_clients_do) {
	struct forebay *forebay = start(WORKERS(_i), "max_size = 2\nacquire_timeout = 10s\n");
	struct maria_login second = {.user = "second"};
	MYSQL *root = maria_control(), *victim = maria_connect(forebay, NULL), *killer = maria_connect(forebay, NULL);
	MYSQL *stranger = maria_connect(forebay, &second);
	struct running r;
	char sql[100];
	snprintf(sql, sizeof sql, "KILL QUERY %lu", mysql_thread_id(victim));
	for (int i = 0; i < 3; i++) {
		begin_sleep(&r, victim, root);
		maria_expect_error(stranger, sql, 1095);
		maria_execute(killer, "%s", sql);
		pthread_join(r.thread, NULL);
		ck_assert_msg(r.error == 1317 || !strcmp(r.text, "1"), "%u %s", r.error, r.text);
		maria_expect(victim, "SELECT 5", "5");
	}
	maria_execute(killer, "%s", sql); /* nothing runs: nothing happens */
	maria_expect(victim, "SELECT 5", "5");
	maria_expect_error(killer, "KILL QUERY 4000000000", 1094);
	maria_expect_error(killer, "KILL 0", 1094);
	maria_expect_error(killer, "KILL HARD USER app", 1095);
	maria_expect(killer, "SELECT 'kill 5'", "kill 5");
	begin_sleep(&r, victim, root);
	maria_execute(killer, "KILL %lu", mysql_thread_id(victim));
	pthread_join(r.thread, NULL);
	ck_assert_uint_ne(r.error, 0);
	maria_await(root, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO = 'SELECT SLEEP(60)'", "0");
	ck_assert_int_ne(mysql_query(victim, "SELECT 1"), 0);
	maria_expect(killer, "SELECT 6", "6");
	mysql_close(victim);
	mysql_close(killer);
	mysql_close(stranger);
	mysql_close(root);
	forebay_stop(forebay);
}
END_TEST

/* Whom auth_query knows is somebody in his own pool only; whom the configuration knows, in all. */
START_TEST(a_kill_reaches_no_namesake_in_another_pool) {
	char more[600];
	const char *const auth = "auth_user = authuser\nauth_password = authuser-secret\nmonitor_interval = 0\n";
	for (int known = 0; known < 2; known++) {
		snprintf(more, sizeof more, "[pool:other]\nprotocol = mysql\nhosts = 127.0.0.1:%d\n%s%s", maria_port(), auth,
			 known ? "[user:app]\npassword = app-secret\n" : "");
		struct forebay *forebay = maria_forebay(
			&(struct forebay_setup){.workers = WORKERS(_i), .pool = auth, .more = more, .no_default_users = true});
		MYSQL *mine = maria_connect(forebay, NULL), *same = maria_connect(forebay, NULL);
		MYSQL *namesake = maria_connect(forebay, &(struct maria_login){.database = "other"});
		char sql[100];
		snprintf(sql, sizeof sql, "KILL %lu", mysql_thread_id(namesake));
		if (known) {
			maria_execute(mine, "%s", sql);
		} else {
			maria_expect_error(mine, sql, 1094);
			maria_expect(namesake, "SELECT 1", "1");
		}
		maria_execute(mine, "KILL %lu", mysql_thread_id(same));
		ck_assert_int_ne(mysql_query(same, "SELECT 1"), 0);
		ck_assert_int_eq(mysql_query(namesake, "SELECT 1") != 0, known);
		mysql_close(mine);
		mysql_close(same);
		mysql_close(namesake);
		forebay_stop(forebay);
	}
}
END_TEST

/* Of a long statement the end is seen last: by then, nearly all of it is with the server. */
START_TEST(a_kill_at_the_end_of_a_long_statement_hits_nobody) {
	static const struct {
		size_t len; /* of the whole statement */
		const char *rest;
		int width; /* of the rest, with spaces */
	} cases[] = {
		{70000, "", 0}, /* what looks at the pieces keeps the last bytes of each for the next */
		{70000, "", 200},
		{70000, "; SELECT 1", 200},
		{0xfffffe, "", 0}, /* with its command's byte just one packet: an empty one ends it */
	};
	const struct maria_login several = {.flags = CLIENT_MULTI_STATEMENTS};
	struct forebay *forebay = start(1, "max_size = 3\nacquire_timeout = 10s\n");
	MYSQL *victim = maria_connect(forebay, NULL);
	char *sql = malloc(0xfffffe);
	maria_execute(victim, "BEGIN");
	long id = maria_long(victim, "SELECT CONNECTION_ID()");
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		MYSQL *killer = maria_connect(forebay, &several);
		unsigned long most = MIB * 32UL;
		mysql_options(killer, MYSQL_OPT_MAX_ALLOWED_PACKET, &most);
		char end[300];
		size_t n = (size_t)snprintf(end, sizeof end, "*/ KILL %ld%-*s", id, cases[i].width, cases[i].rest);
		memset(sql, 'x', cases[i].len);
		memcpy(sql, "/*", 2);
		memcpy(sql + cases[i].len - n, end, n);
		ck_assert_msg(mysql_real_query(killer, sql, cases[i].len) != 0, "case %zu", i);
		mysql_close(killer);
		ck_assert_int_eq(maria_long(victim, "SELECT CONNECTION_ID()"), id);
	}
	free(sql);
	mysql_close(victim);
	forebay_stop(forebay);
}
END_TEST

/* ---- time limits ---- */

START_TEST(what_runs_too_long_is_ended) {
	struct forebay *forebay = start(1, "max_size = 1\nquery_timeout = 300ms\n");
	MYSQL *my = maria_connect(forebay, NULL);
	MYSQL *root = maria_control();
	for (int i = 0; i < 2; i++) {
		struct running r = {.my = my, .sql = "SELECT COUNT(*) FROM seq_1_to_100000 a, seq_1_to_100000 b, seq_1_to_100000 c "
						    "WHERE a.seq + b.seq + c.seq < 0"};
		run_it(&r);
		ck_assert_msg(r.error == 1317 && strstr(r.text, "query_timeout"), "%u %s", r.error, r.text);
		maria_expect(my, "SELECT 1", "1");
	}
	mysql_close(my);
	mysql_close(root);
	forebay_stop(forebay);
}
END_TEST

START_TEST(a_transaction_left_idle_is_rolled_back_and_its_client_told) {
	struct forebay *forebay = start(WORKERS(_i), "max_size = 1\nidle_transaction_timeout = 200ms\nacquire_timeout = 10s\n");
	MYSQL *a = maria_connect(forebay, NULL), *b = maria_connect(forebay, NULL);
	maria_execute(a, "CREATE OR REPLACE TABLE app.idle (a INT)");
	maria_execute(a, "BEGIN");
	maria_execute(a, "INSERT INTO app.idle VALUES (1)");
	maria_expect(b, "SELECT COUNT(*) FROM app.idle", "0"); /* gets the server when that is over */
	maria_expect_error(a, "COMMIT", 1317);
	maria_expect(a, "SELECT COUNT(*) FROM app.idle", "0");
	/* one that keeps its server keeps its session, too */
	maria_execute(a, "SET @x = 5");
	maria_execute(a, "BEGIN");
	maria_execute(a, "INSERT INTO app.idle VALUES (2)");
	MYSQL *root = maria_control();
	maria_expect(root, "SELECT COUNT(*) FROM app.idle FOR UPDATE", "0"); /* waits for the other to let go */
	maria_expect_error(a, "INSERT INTO app.idle VALUES (3)", 1317);
	maria_expect(a, "SELECT @x", "5");
	maria_expect(a, "SELECT COUNT(*) FROM app.idle", "0");
	mysql_close(a);
	mysql_close(b);
	mysql_close(root);
	forebay_stop(forebay);
}
END_TEST

/* ---- modes ---- */

START_TEST(a_session_keeps_its_server_and_leaves_it_clean) {
	struct forebay *forebay = start(1, "max_size = 1\npool_mode = session\nacquire_timeout = 300ms\n");
	MYSQL *a = maria_connect(forebay, NULL), *b = maria_connect(forebay, NULL);
	maria_execute(a, "SET @x = 1");
	maria_execute(a, "CREATE TEMPORARY TABLE app.kept (a INT)");
	long id = maria_long(a, "SELECT CONNECTION_ID()");
	maria_expect_error(b, "SELECT 1", 1040);
	mysql_close(a);
	maria_expect(b, "SELECT @x", "NULL");
	ck_assert_int_eq(maria_long(b, "SELECT CONNECTION_ID()"), id);
	maria_expect_error(b, "SELECT * FROM app.kept", 1146);
	mysql_close(b);
	forebay_stop(forebay);
}
END_TEST

START_TEST(with_one_statement_for_each_server_no_transaction_stays_open) {
	struct forebay *forebay = start(1, "max_size = 1\npool_mode = statement\n");
	MYSQL *a = maria_connect(forebay, NULL), *b = maria_connect(forebay, NULL);
	maria_expect(a, "SELECT 1", "1");
	ck_assert_int_ne(mysql_query(a, "BEGIN"), 0);
	ck_assert_uint_eq(mysql_errno(a), 1235);
	ck_assert_int_ne(mysql_query(a, "SELECT 1"), 0);
	maria_expect(b, "SELECT 1", "1");
	mysql_close(a);
	mysql_close(b);
	forebay_stop(forebay);
}
END_TEST

/* ---- clients that vanish ---- */

/* What was left running has ended, and what was left open is rolled back. */
static void expect_nothing_left(struct forebay *forebay, MYSQL *root) {
	maria_expect(root, "SELECT COUNT(*) FROM app.v FOR UPDATE", "0"); /* waits for the other to let go */
	MYSQL *my = maria_connect(forebay, NULL);
	maria_expect(my, "SELECT COUNT(*) FROM app.v", "0");
	maria_expect(my, "SELECT @left", "NULL");
	maria_expect(my, "SELECT IS_FREE_LOCK('left')", "1");
	mysql_close(my);
}

START_TEST(a_client_may_vanish_at_any_byte) {
	char path[300], stream[400];
	static const char *const sql[] = {"BEGIN", "INSERT INTO app.v VALUES (1)", "SET @left = 1", "SELECT GET_LOCK('left', 0)",
					  "SELECT 1; SELECT 2"};
	size_t len = 0;
	for (size_t i = 0; i < sizeof sql / sizeof sql[0]; i++) {
		size_t n = strlen(sql[i]) + 1;
		stream[len] = (char)n, stream[len + 1] = stream[len + 2] = stream[len + 3] = 0, stream[len + 4] = 3;
		memcpy(stream + len + 5, sql[i], n - 1);
		len += 4 + n;
	}
	struct forebay *forebay = start(WORKERS(_i), "max_size = 2\nacquire_timeout = 10s\n");
	MYSQL *root = maria_control();
	maria_execute(root, "CREATE OR REPLACE TABLE app.v (a INT)");
	snprintf(path, sizeof path, "%s/.s.PGSQL.%d", forebay->socket_dir, forebay->port);
	for (size_t cut = 0; cut <= len; cut++) {
		struct my_raw raw = my_raw_connect(path, 0, RAW_DEPRECATE_EOF | RAW_MULTI_STATEMENTS, "app");
		ck_assert_int_ge(raw.fd, 0);
		raw.piece = cut % 3 ? 0 : cut + 1;
		ck_assert(my_raw_send_bytes(&raw, stream, cut));
		my_raw_close(&raw);
		if (cut % 10 == 0 || cut == len)
			expect_nothing_left(forebay, root);
	}
	ck_assert_int_le(maria_connections(root, NULL), 2);
	mysql_close(root);
	forebay_stop(forebay);
}
END_TEST

START_TEST(what_a_vanished_client_left_running_is_killed) {
	struct forebay *forebay = start(WORKERS(_i), "max_size = 1\nacquire_timeout = 10s\n");
	MYSQL *root = maria_control(), *other = maria_connect(forebay, NULL);
	char path[300];
	snprintf(path, sizeof path, "%s/.s.PGSQL.%d", forebay->socket_dir, forebay->port);
	for (int i = 0; i < 3; i++) {
		struct my_raw raw = my_raw_connect(path, 0, RAW_DEPRECATE_EOF, "app");
		ck_assert(my_raw_send(&raw, 0, BYTES("\x03" "SELECT SLEEP(60)")));
		maria_await(root, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO = 'SELECT SLEEP(60)'", "1");
		my_raw_close(&raw);
		maria_expect(other, "SELECT 1", "1");
		maria_expect(root, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO = 'SELECT SLEEP(60)'", "0");
	}
	mysql_close(other);
	mysql_close(root);
	forebay_stop(forebay);
}
END_TEST

/* ---- malformed ---- */

struct bad {
	const char *name, *bytes;
	size_t len;
	bool closes; /* else an error comes, and the client goes on */
};

static const struct bad bad_commands[] = {
	{"an empty packet", BYTES("\0\0\0\0"), false},
	{"an unknown command", BYTES("\1\0\0\0\x77"), false},
	{"packets out of order", BYTES("\1\0\0\5\x0e"), true},
	{"half an EXECUTE", BYTES("\3\0\0\0\x17\1\0"), false},
	{"an EXECUTE of nothing", BYTES("\x0a\0\0\0\x17\x99\0\0\0\0\1\0\0\0"), false},
	{"a FETCH without a number", BYTES("\1\0\0\0\x1c"), false},
	{"a statement's reset without a number", BYTES("\2\0\0\0\x1a\1"), false},
	{"half an option", BYTES("\2\0\0\0\x1b\0"), false},
	{"a kill of half a number", BYTES("\3\0\0\0\x0c\1\0"), false},
	{"a refresh", BYTES("\2\0\0\0\7\1"), false},
	{"a shutdown", BYTES("\2\0\0\0\x08\0"), false},
	{"sleep", BYTES("\1\0\0\0\0"), false},
	{"a text with a zero", BYTES("\x06\0\0\0\3DO \0000"), false},
};

START_TEST(malformed_commands_are_survived) {
	struct forebay *forebay = start(1, "max_size = 1\n");
	char path[300];
	snprintf(path, sizeof path, "%s/.s.PGSQL.%d", forebay->socket_dir, forebay->port);
	for (size_t i = 0; i < sizeof bad_commands / sizeof bad_commands[0]; i++) {
		const struct bad *bad = &bad_commands[i];
		size_t len;
		struct my_raw raw = my_raw_connect(path, 0, RAW_DEPRECATE_EOF, "app");
		ck_assert(my_raw_send_bytes(&raw, bad->bytes, bad->len));
		uint8_t *p = my_raw_packet(&raw, &len, NULL);
		ck_assert_msg(p && *p == 0xff, "%s: %s", bad->name, p ? "not an error" : "closed");
		free(p);
		if (bad->closes)
			ck_assert_msg(my_raw_closed(&raw), "%s: goes on", bad->name);
		else
			ck_assert_msg(my_raw_query(&raw, "SELECT 1"), "%s: does not go on", bad->name);
		my_raw_close(&raw);
	}
	forebay_stop(forebay);
}
END_TEST

/* A backend that lets everybody in, does what we ask of it at first, and answers the client's first command with this. */
struct liar {
	const char *bytes;
	size_t len;
	bool answered;    /* the client has got a whole answer: it need not know */
	bool no_trackers; /* it knows no variable session_track_... */
};

static void lie(int fd, void *context) {
	const struct liar *liar = context;
	uint8_t body[4096];
	size_t len;
	if (!my_serve_login(fd))
		return;
	while (my_serve_read(fd, body, sizeof body - 1, &len)) {
		body[len] = 0;
		const char *sql = (char *)body + 1;
		bool ours = *body == 0x1f || *body == 2 || *body == 0x1b || (*body == 3 && !strncmp(sql, "SET @@SESSION", 13));
		if (*body == 1)
			return;
		if (*body == 3 && strstr(sql, "@@hostname")) {
			if (!serve_send(fd, my_serve_identity, sizeof my_serve_identity - 1))
				return;
		} else if (liar->no_trackers && strstr(sql, "session_track")) {
			if (!serve_send(fd, BYTES("\x0c\0\0\1\xff\xa9\4#HY000un?")))
				return;
		} else if (ours) {
			if (!serve_send(fd, my_serve_ok, sizeof my_serve_ok - 1))
				return;
		} else {
			serve_send(fd, liar->bytes, liar->len);
			if (!liar->no_trackers && (liar->len == 0 || !my_serve_read(fd, body, sizeof body, &len)))
				return;
		}
	}
}

static const struct liar lies[] = {
	{BYTES(""), false, false},
	{BYTES("\0\0\0\1"), false, false},
	{BYTES("\1\0\0\0\0"), false, false},                              /* out of order */
	{BYTES("\1\0\0\1\0"), false, false},                              /* half an OK */
	{BYTES("\1\0\0\1\xff"), false, false},                            /* half an error */
	{BYTES("\1\0\0\1\xfe"), false, false},
	{BYTES("\7\0\0\1\0\0\0\2\0\0\0" "\7\0\0\2\0\0\0\2\0\0\0"), true, false}, /* two answers */
	{BYTES("\3\0\0\1\xfc\xff\xff"), false, false},                    /* 65535 columns */
	{BYTES("\1\0\0\1\xfd"), false, false},
	{BYTES("\2\0\0\1\1\1"), false, false},
	{BYTES("\xff\xff\xff\1\0\0\0\2\0\0\0"), false, false},            /* an OK of 16 MiB */
	{BYTES("\x09\0\0\1\0\0\0\2\x40\0\0\0\x20"), false, false},        /* a state that does not end */
	{BYTES("\x0d\0\0\1\0\0\0\2\x40\0\0\0\4\0\x20\1\1"), false, false},
	{BYTES("\x0b\0\0\1\0\0\0\2\x40\0\0\0\2\1\x7f"), false, false},
	{BYTES("\1\0\0\1\1" "\x17\0\0\2\3def\0\0\0\1x\0\x0c\x21\0\xff\0\0\0\xfd\0\0\0\0\0" "\0\0\0\3"), false, false}, /* an empty row */
	{BYTES("\1\0\0\1\1" "\x17\0\0\2\3def\0\0\0\1x\0\x0c\x21\0\xff\0\0\0\xfd\0\0\0\0\0" "\2\0\0\5\1x"), false, false}, /* a packet left out */
	{BYTES("\1\0\0\1\1" "\x17\0\0\2\3def\0\0\0\1x\0\x0c\x21\0\xff\0\0\0\xfd\0\0\0\0\0" "\1\0\0\3\xfe"), false, false}, /* half an end */
};

enum { LIES = sizeof lies / sizeof lies[0] };

START_TEST(backends_that_break_the_protocol_are_survived) {
	struct unix_backend *backends[LIES];
	char pools[LIES * 400] = "", path[300], schema[20];
	size_t len = 0;
	for (size_t i = 0; i < LIES; i++) {
		backends[i] = unix_backend_start(lie, (void *)(uintptr_t)&lies[i]);
		len += (size_t)snprintf(pools + len, sizeof pools - len,
					"[pool:lie%zu]\nprotocol = mysql\nhosts = %s/.s.PGSQL.5432\nmax_size = 2\n"
					"acquire_timeout = 5s\n",
					i, backends[i]->dir);
	}
	struct forebay_setup setup = {.more = pools};
	struct forebay *forebay = maria_forebay(&setup);
	forebay->violations_expected = true;
	snprintf(path, sizeof path, "%s/.s.PGSQL.%d", forebay->socket_dir, forebay->port);
	for (size_t i = 0; i < LIES; i++) {
		snprintf(schema, sizeof schema, "lie%zu", i);
		struct my_raw raw = my_raw_connect(path, 0, RAW_DEPRECATE_EOF | RAW_TRACK, schema);
		ck_assert_msg(raw.fd >= 0, "lie %zu: not let in", i);
		ck_assert(my_raw_send(&raw, 0, BYTES("\x03" "SELECT 1")));
		if (lies[i].answered)
			forebay_await_log(forebay, "invariant_violation");
		else
			ck_assert_msg(my_raw_closed(&raw), "lie %zu: goes on", i); /* whatever it was told first */
		my_raw_close(&raw);
	}
	struct my_raw raw = my_raw_connect(path, 0, RAW_DEPRECATE_EOF, "app");
	ck_assert(my_raw_query(&raw, "SELECT 1"));
	my_raw_close(&raw);
	forebay_stop(forebay);
	for (size_t i = 0; i < LIES; i++)
		unix_backend_stop(backends[i]);
}
END_TEST

/* What is not told is not guessed. */
START_TEST(a_backend_without_trackers_gets_session_pooling) {
	static const struct liar honest = {BYTES("\7\0\0\1\0\0\0\2\0\0\0"), false, true};
	struct unix_backend *backend = unix_backend_start(lie, (void *)(uintptr_t)&honest);
	char pool[400], path[300];
	size_t len;
	snprintf(pool, sizeof pool, "hosts = %s/.s.PGSQL.5432\nmax_size = 1\nacquire_timeout = 400ms\n", backend->dir);
	struct forebay *forebay = start(1, pool);
	snprintf(path, sizeof path, "%s/.s.PGSQL.%d", forebay->socket_dir, forebay->port);
	struct my_raw a = my_raw_connect(path, 0, RAW_DEPRECATE_EOF, "app"), b = my_raw_connect(path, 0, RAW_DEPRECATE_EOF, "app");
	for (int i = 0; i < 2; i++) {
		ck_assert(my_raw_query(&a, "SELECT 1"));
		ck_assert(my_raw_send(&b, 0, BYTES("\3SELECT 1")));
		uint8_t *p = my_raw_packet(&b, &len, NULL);
		ck_assert_msg(p && *p == 0xff, "b got a server");
		free(p);
	}
	ck_assert_int_ge(harness_count_in(forebay->log, "no_session_trackers"), 1);
	my_raw_close(&a);
	ck_assert(my_raw_query(&b, "SELECT 1"));
	my_raw_close(&b);
	forebay_stop(forebay);
	unix_backend_stop(backend);
}
END_TEST

int main(void) {
	static const char *const options[] = {"--max-allowed-packet=64M", "--local-infile=1", NULL};
	maria_begin(options);
	Suite *suite = suite_create("mysql relay");
	TCase *large = tcase_create("large"), *kills = tcase_create("kills"), *ends = tcase_create("ends");
	TCase *malformed = tcase_create("malformed");
	tcase_add_test(large, packets_of_any_size_pass_in_bounded_memory);
	tcase_add_test(large, a_large_parameter_passes);
	tcase_add_test(large, a_packet_that_the_server_refuses_ends_as_it_does_there);
	LOOP(large, a_local_file_is_the_clients);
	LOOP(large, a_file_that_breaks_off_loads_nothing);
	LOOP(large, clients_without_a_schema_do_not_wear_out_connections);
	LOOP(kills, a_user_kills_what_its_own_clients_do);
	LOOP(kills, a_kill_reaches_no_namesake_in_another_pool);
	tcase_add_test(kills, a_kill_at_the_end_of_a_long_statement_hits_nobody);
	tcase_add_test(kills, what_runs_too_long_is_ended);
	LOOP(kills, a_transaction_left_idle_is_rolled_back_and_its_client_told);
	tcase_add_test(ends, a_session_keeps_its_server_and_leaves_it_clean);
	tcase_add_test(ends, with_one_statement_for_each_server_no_transaction_stays_open);
	LOOP(ends, a_client_may_vanish_at_any_byte);
	LOOP(ends, what_a_vanished_client_left_running_is_killed);
	tcase_add_test(malformed, malformed_commands_are_survived);
	tcase_add_test(malformed, a_backend_without_trackers_gets_session_pooling);
	tcase_add_test(malformed, backends_that_break_the_protocol_are_survived);
	suite_add_tcase(suite, large);
	suite_add_tcase(suite, kills);
	suite_add_tcase(suite, ends);
	suite_add_tcase(suite, malformed);
	return harness_run(suite);
}
