/* COM_CHANGE_USER: a connection goes on as another user, and nothing of the session before is left. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mariadb.h"
#include "my_wire.h"
#include "mysql/plugin.h"

static struct forebay *start(int workers, const char *listener, const char *pool, const char *more) {
	return maria_forebay(
		&(struct forebay_setup){.workers = workers, .listener = listener, .pool = pool, .more = more});
}

static void change(MYSQL *my, const char *user, const char *database) {
	char password[100];

	snprintf(password, sizeof(password), "%s-secret", user);
	ck_assert_msg(mysql_change_user(my, user, password, database) == 0, "%u %s", mysql_errno(my), mysql_error(my));
}

START_TEST(nothing_of_the_session_before_is_left) {
	struct forebay *forebay = start(WORKERS(_i), NULL, "max_size = 1", NULL);
	MYSQL *my = maria_connect(forebay, NULL);
	MYSQL_STMT *stmt;

	maria_execute(my, "create or replace table changed (a int) engine = innodb");
	maria_execute(my, "set @x = 1, sql_mode = 'ansi'");
	maria_execute(my, "create temporary table gone (a int)");
	maria_execute(my, "begin");
	maria_execute(my, "insert into changed values (1)");
	change(my, "second", "other");
	maria_expect(my, "select current_user()", "second@%");
	maria_expect(my, "select database()", "other");
	maria_expect(my, "select @x is null", "1");
	maria_expect(my, "select @@sql_mode = @@global.sql_mode", "1");
	maria_expect(my, "select count(*) from app.changed", "0");
	maria_expect_error(my, "select * from app.gone", 1146);
	change(my, "app", "app");
	maria_expect(my, "select current_user()", "app@%");
	maria_expect_error(my, "select * from gone", 1146);

	/* prepared before: unknown after it, as on a connection of one's own */
	stmt = mysql_stmt_init(my);
	ck_assert_int_eq(mysql_stmt_prepare(stmt, "select 1", 8), 0);
	change(my, "app", "app");
	ck_assert_int_ne(mysql_stmt_execute(stmt), 0);
	mysql_stmt_close(stmt);
	maria_execute(my, "drop table changed");
	mysql_close(my);
	forebay_stop(forebay);
}
END_TEST

START_TEST(the_new_user_must_prove_itself) {
	static const struct {
		const char *user, *password;
	} wrong[] = {{"second", "wrong"}, {"second", ""}, {"nobody", "x"}};
	struct forebay *forebay = start(WORKERS(_i), NULL, NULL, NULL);

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		MYSQL *my = maria_connect(forebay, NULL);
		maria_expect(my, "select 1", "1");
		ck_assert_int_ne(mysql_change_user(my, wrong[i].user, wrong[i].password, NULL), 0);
		ck_assert_msg(mysql_errno(my) == 1045, "%u %s", mysql_errno(my), mysql_error(my));
		/* and is let go: it is not who it was any more */
		ck_assert_int_ne(mysql_query(my, "select 1"), 0);
		mysql_close(my);
	}
	forebay_stop(forebay);
}
END_TEST

START_TEST(every_method_is_asked_as_at_a_login) {
	static const char *const auths[] = {"auth = caching_sha2_password", "auth = mysql_native_password", "auth = trust"};
	char listener[400];

	snprintf(listener, sizeof(listener), "%s\nrsa_key_file = %s", auths[_i], harness_path("rsa.pem"));
	struct forebay *forebay = start(1, listener, NULL, NULL);
	for (int tls = 0; tls < 2; tls++) {
		MYSQL *my = maria_connect(forebay, &(struct maria_login){.tls = tls});
		change(my, "second", "app");
		maria_expect(my, "select current_user()", "second@%");
		change(my, "app", NULL);
		maria_expect(my, "select current_user()", "app@%");
		mysql_close(my);
	}
	forebay_stop(forebay);
}
END_TEST

START_TEST(places_move_with_the_user) {
	struct forebay *forebay = maria_forebay(&(struct forebay_setup){
		.workers = WORKERS(_i),
		.no_default_users = true,
		.more = "[user:app]\npassword = app-secret\nmax_connections = 1\n[user:second]\npassword = second-secret\n"
			"max_connections = 1\n[pool:other]\nprotocol = mysql\nhosts = 127.0.0.1:1\nmin_idle = 0\nmax_connections = 1\n"});
	MYSQL *a = maria_connect(forebay, NULL);

	maria_expect_refused(maria_try(forebay, NULL), 1040, "max_connections");
	change(a, "app", "app"); /* its own place is no obstacle */
	change(a, "second", "app");
	MYSQL *b = maria_connect(forebay, NULL);
	maria_expect(b, "select current_user()", "app@%");
	ck_assert_int_ne(mysql_change_user(a, "app", "app-secret", "app"), 0);
	ck_assert_msg(mysql_errno(a) == 1040, "%u %s", mysql_errno(a), mysql_error(a));
	mysql_close(a);
	/* its places are free again */
	for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;;) {
		a = maria_try(forebay, &(struct maria_login){.user = "second", .database = "other"});
		if (mysql_errno(a) == 0)
			break;
		ck_assert(harness_now_ms() < deadline);
		mysql_close(a);
	}
	ck_assert_int_ne(mysql_change_user(b, "app", "app-secret", "other"), 0);
	ck_assert_msg(mysql_errno(b) == 1040 && strstr(mysql_error(b), "pool \"other\""), "%u %s", mysql_errno(b), mysql_error(b));
	mysql_close(b);
	change(a, "second", "app");
	maria_expect(a, "select current_user()", "second@%");
	b = maria_connect(forebay, &(struct maria_login){.database = "other"});
	mysql_close(b);
	mysql_close(a);
	forebay_stop(forebay);
}
END_TEST

START_TEST(malformed_commands_are_survived) {
	struct forebay *forebay = start(WORKERS(_i), NULL, NULL, NULL);
	static const char body[] = "\x11" "second\0" "\x14" "12345678901234567890" "other\0" "\x2d\0" "mysql_native_password";

	for (size_t len = 1; len <= sizeof(body); len++) {
		struct raw raw = raw_connect(forebay);
		static struct my_packet p;

		my_raw_login(&raw, "app");
		my_send(&raw, 0, body, len);
		ck_assert_int_eq(my_read(&raw, &p), RAW_MESSAGE);
		ck_assert_msg(p.body[0] == MY_PACKET_ERR || p.body[0] == MY_PACKET_AUTH_SWITCH, "%zu bytes: 0x%02x", len, p.body[0]);
		ck_assert_uint_eq(p.sequence, 1);
		if (p.body[0] == MY_PACKET_AUTH_SWITCH) {
			my_send(&raw, 2, "12345678901234567890", 20);
			my_expect_err(&raw, 1045, "Access denied");
		}
		my_expect_closed(&raw);
		raw_close(&raw);
	}
	MYSQL *my = maria_connect(forebay, NULL);
	maria_expect(my, "select 1", "1");
	mysql_close(my);
	forebay_stop(forebay);
}
END_TEST

/* Behind a tab stands which of a user's accounts is meant, for ourselves alone. */
START_TEST(a_tab_in_a_name_is_refused) {
	struct forebay *forebay = start(1, NULL, NULL, NULL);
	static const char body[] = "\x11" "app\tfound_rows\0" "\0" "app\0" "\x2d\0" "mysql_native_password";
	struct raw raw = raw_connect(forebay);
	my_raw_login(&raw, "app");
	my_send(&raw, 0, body, sizeof body);
	my_expect_err(&raw, 1045, "tab");
	my_expect_closed(&raw);
	raw_close(&raw);
	forebay_stop(forebay);
}
END_TEST

START_TEST(a_killed_idle_client_reads_why_at_its_next_command) {
	struct forebay *forebay = maria_forebay(
		&(struct forebay_setup){.workers = WORKERS(_i), .pool = "client_idle_timeout = 200ms"});
	struct raw raw = raw_connect(forebay);
	static struct my_packet p;

	my_raw_login(&raw, "app");
	my_send(&raw, 0, "\x03select 1", 9);
	do
		ck_assert_int_eq(my_read(&raw, &p), RAW_MESSAGE);
	while (p.body[0] != MY_PACKET_EOF);
	my_expect(&raw, &p, MY_PACKET_ERR);
	ck_assert_uint_eq(p.sequence, 1);
	my_expect_closed(&raw);
	raw_close(&raw);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("changing the user");
	TCase *tc = tcase_create("change");

	maria_begin(NULL);
	if (!harness_command((const char *const[]){"openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048",
						    "-out", harness_path("rsa.pem"), NULL}))
		return harness_end(EXIT_FAILURE);
	tcase_set_timeout(tc, 60);
	LOOP(tc, nothing_of_the_session_before_is_left);
	LOOP(tc, the_new_user_must_prove_itself);
	tcase_add_loop_test(tc, every_method_is_asked_as_at_a_login, 0, 3);
	LOOP(tc, places_move_with_the_user);
	LOOP(tc, malformed_commands_are_survived);
	tcase_add_test(tc, a_tab_in_a_name_is_refused);
	LOOP(tc, a_killed_idle_client_reads_why_at_its_next_command);
	suite_add_tcase(suite, tc);
	return harness_run(suite);
}
