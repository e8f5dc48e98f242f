/* The console: taking commands apart, who may say what, results, and the way to the main thread and back. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/console.h"
#include "net/worker.h"

/* ---- a console with a main thread that we play ---- */

static struct {
	struct ev_loop *main_loop;
	struct mailbox main_mailbox;
	struct worker worker;
	int reloads, shutdowns;
	bool refuse_reload;
	enum shutdown_mode mode;
	char set[100];
} world;

static void fake_reload(struct console_result *result) {
	world.reloads++;
	if (world.refuse_reload)
		console_error(result, "F0000", "line 3 is wrong");
}

static void fake_set(struct console_result *result, const char *key, const char *value) {
	snprintf(world.set, sizeof world.set, "%s=%s", key, value);
	if (world.refuse_reload)
		console_error(result, "42704", "no such setting");
}

static void fake_shutdown(enum shutdown_mode mode) {
	world.shutdowns++;
	world.mode = mode;
}

static const struct admin_hooks hooks = {
	.mailbox = &world.main_mailbox,
	.reload = fake_reload,
	.set = fake_set,
	.shutdown = fake_shutdown,
};

static void set_up(void) {
	struct error error = {0};

	memset(&world, 0, sizeof world);
	world.main_loop = ev_loop_new(0);
	ck_assert_ptr_nonnull(world.main_loop);
	mailbox_init(&world.main_mailbox, world.main_loop, NULL);
	ck_assert_msg(worker_init(&world.worker, 0, &error), "%s", error.text);
	ck_assert(admin_start(&hooks));
}

static void tear_down(void) {
	admin_stop();
	worker_destroy(&world.worker);
	mailbox_destroy(&world.main_mailbox);
	ev_loop_destroy(world.main_loop);
}

struct saying {
	struct console_request request;
	int done;
};

static void on_done(struct console_request *request) {
	((struct saying *)request)->done++;
}

static void say(struct saying *saying, bool is_admin, const char *text) {
	*saying = (struct saying){.request = {
					  .worker = &world.worker,
					  .is_admin = is_admin,
					  .user = is_admin ? "ops" : "watcher",
					  .text = strdup(text), /* exactly its size: a sanitizer sees a read behind it */
					  .done = on_done,
				  }};
	ck_assert(console_execute(&saying->request));
}

static void forget(struct saying *saying) {
	console_result_free(&saying->request.result);
	free(saying->request.text);
}

static void expect_error(bool is_admin, const char *text, const char *sqlstate, const char *part) {
	struct saying s;

	say(&s, is_admin, text);
	ck_assert_int_eq(s.done, 1);
	ck_assert_msg(s.request.result.failed, "\"%s\" was accepted", text);
	ck_assert_msg(strcmp(s.request.result.sqlstate, sqlstate) == 0, "\"%s\": %s %s", text,
		      s.request.result.sqlstate, s.request.result.error);
	ck_assert_msg(strstr(s.request.result.error, part) != NULL, "\"%s\": %s", text, s.request.result.error);
	forget(&s);
}

static void expect_value(const char *text, const char *column, const char *value) {
	struct saying s;

	say(&s, false, text);
	ck_assert_int_eq(s.done, 1);
	ck_assert_msg(!s.request.result.failed, "\"%s\": %s", text, s.request.result.error);
	ck_assert_uint_eq(s.request.result.rows, 1);
	ck_assert_uint_eq(s.request.result.columns, 1);
	ck_assert_str_eq(s.request.result.names[0], column);
	ck_assert_str_eq(s.request.result.cells[0], value);
	forget(&s);
}

static void expect_tag(const char *text, const char *tag) {
	struct saying s;

	say(&s, false, text);
	ck_assert_int_eq(s.done, 1);
	ck_assert_msg(!s.request.result.failed, "\"%s\": %s", text, s.request.result.error);
	ck_assert_str_eq(s.request.result.tag, tag);
	forget(&s);
}

/* ---- taking apart ---- */

static void expect_words(const char *text, size_t count, const char *const *expected) {
	struct words words;
	struct error error = {0};
	char *copy = strdup(text);

	ck_assert_msg(words_split(&words, copy, &error), "\"%s\": %s", text, error.text);
	ck_assert_msg(words.count == count, "\"%s\" has %zu words", text, words.count);
	for (size_t i = 0; i < count; i++)
		ck_assert_str_eq(words.at[i], expected[i]);
	words_free(&words);
	free(copy);
}
#define EXPECT_WORDS(text, ...)                                                                                        \
	expect_words(text, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *), (const char *[]){__VA_ARGS__})

START_TEST(blanks_comments_and_closing_semicolons_do_not_count) {
	EXPECT_WORDS("SHOW POOLS", "SHOW", "POOLS");
	EXPECT_WORDS("  \t\r\n SHOW\n\n POOLS ;; ", "SHOW", "POOLS");
	EXPECT_WORDS("/* a /* nested */ one */ SHOW -- the rest\n POOLS;", "SHOW", "POOLS");
	EXPECT_WORDS("SHOW/**/POOLS", "SHOW", "POOLS");
	EXPECT_WORDS(";; SHOW POOLS", "SHOW", "POOLS");
	expect_words("", 0, NULL);
	expect_words(" ; -- nothing", 0, NULL);
}
END_TEST

START_TEST(quotes_and_marks_are_words_of_their_own) {
	EXPECT_WORDS("SET a='it''s'", "SET", "a", "=", "it's");
	EXPECT_WORDS("SHOW \"Po\"\"ols\"", "SHOW", "Po\"ols");
	EXPECT_WORDS("SET x TO ''", "SET", "x", "TO", "");
	EXPECT_WORDS("select version()", "select", "version", "(", ")");
	EXPECT_WORDS("''''''", "''");
	EXPECT_WORDS("a-b", "a-b");
}
END_TEST

START_TEST(what_does_not_end_is_refused) {
	static const char *const texts[] = {"SHOW 'x",    "SHOW \"x", "/* SHOW", "SHOW POOLS; SHOW POOLS",
					    "a b c d e f g h i j k l m n o p q", "/*/", "'''"};

	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		struct words words;
		struct error error = {0};
		char *copy = strdup(texts[i]);
		ck_assert_msg(!words_split(&words, copy, &error), "\"%s\" was accepted", texts[i]);
		ck_assert(error.text[0]);
		words_free(&words);
		free(copy);
	}
}
END_TEST

START_TEST(any_bytes_are_taken_apart_within_their_bounds) {
	unsigned seed = 7;

	for (int round = 0; round < 20000; round++) {
		static const char some[] = "aZ0 \t\n;'\"-/*=(,.\x80\xff\x01";
		char text[24];
		size_t len = (size_t)rand_r(&seed) % sizeof text;
		for (size_t i = 0; i < len; i++)
			text[i] = some[(size_t)rand_r(&seed) % (sizeof some - 1)];
		char *copy = malloc(len + 1);
		memcpy(copy, text, len);
		copy[len] = 0;
		struct words words;
		struct error error = {0};
		words_split(&words, copy, &error);
		ck_assert_uint_le(words.count, WORDS_MAX);
		words_free(&words);
		free(copy);
	}
}
END_TEST

/* ---- finding commands, and roles ---- */

static const char *found(const char *text, size_t *used) {
	struct words words;
	struct error error = {0};

	ck_assert(words_split(&words, text, &error));
	const struct command *command = command_find(&words, used);
	words_free(&words);
	return command ? command->words : "";
}

START_TEST(commands_are_found_in_any_case_and_the_longest_wins) {
	size_t used;

	ck_assert_str_eq(found("show POOLS", &used), "SHOW POOLS");
	ck_assert_uint_eq(used, 2);
	ck_assert_str_eq(found("Show Stats_Totals;", &used), "SHOW STATS_TOTALS");
	ck_assert_str_eq(found("SHOW client_encoding", &used), "SHOW");
	ck_assert_uint_eq(used, 1);
	ck_assert_str_eq(found("SHOWPOOLS", &used), "");
	ck_assert_str_eq(found("SHOW POOLSX", &used), "SHOW");
	ck_assert_str_eq(found("shutdown now", &used), "SHUTDOWN");
	ck_assert_str_eq(found("drop table x", &used), "");
}
END_TEST

START_TEST(each_command_is_for_its_role_and_above) {
	size_t count, for_admins = 0;
	const struct command *commands = admin_commands(&count);

	for (size_t i = 0; i < count; i++) {
		const struct command *c = &commands[i];
		ck_assert_msg(!command_allowed(c, ROLE_NOBODY), "%s is for everybody", c->words);
		ck_assert_msg(command_allowed(c, ROLE_ADMIN), "%s is for nobody", c->words);
		ck_assert_int_eq(command_allowed(c, ROLE_STATS), c->role == ROLE_STATS);
		ck_assert_ptr_nonnull(c->run);
		for_admins += c->role == ROLE_ADMIN;
	}
	ck_assert_uint_ge(for_admins, 2);
}
END_TEST

START_TEST(what_changes_something_is_refused_to_stats_users) {
	size_t count;
	const struct command *commands = admin_commands(&count);

	for (size_t i = 0; i < count; i++)
		if (commands[i].role == ROLE_ADMIN)
			expect_error(false, commands[i].words, "42501", "admin_users");
	expect_error(false, "SHUTDOWN NOW", "42501", "watcher");
	ck_assert(!mailbox_deliver(&world.main_mailbox));
	ck_assert_int_eq(world.reloads + world.shutdowns, 0);
}
END_TEST

START_TEST(looking_needs_no_admin) {
	static const char *const looks[] = {"SHOW POOLS",  "SHOW CLIENTS",   "SHOW SERVERS", "SHOW DATABASES",
					    "SHOW USERS",  "SHOW STATS",     "SHOW TOTALS",  "SHOW LISTS",
					    "SHOW CONFIG", "SHOW MEM",       "SHOW VERSION", "SHOW HELP",
					    "SHOW WAITERS", "SHOW LEAKS",   "SHOW AUDIT"};
	size_t count;
	const struct command *commands = admin_commands(&count);

	for (size_t l = 0; l < sizeof looks / sizeof looks[0]; l++) {
		bool there = false;
		for (size_t i = 0; i < count; i++)
			there |= strcmp(commands[i].words, looks[l]) == 0 && command_allowed(&commands[i], ROLE_STATS);
		ck_assert_msg(there, "%s", looks[l]);
	}
}
END_TEST

/* ---- answers ---- */

START_TEST(unknown_commands_are_told_of_show_help) {
	expect_error(true, "SHOW FOO", "42601", "SHOW HELP");
	expect_error(true, "drop table clients", "42601", "SHOW HELP");
	expect_error(true, "SHOW", "42601", "SHOW HELP");
	expect_error(true, "SELECT * FROM clients", "42601", "SHOW HELP");
	expect_error(true, "SHUTDOWN soon", "42601", "SHOW HELP");
	expect_error(true, "RELOAD now", "42601", "nothing may follow");
	expect_error(true, "SHOW 'x", "42601", "does not end");
	expect_error(false, "SHOW VERSION; SHOW VERSION", "42601", "one command at a time");
}
END_TEST

START_TEST(what_acts_on_pools_takes_one_name) {
	static const char *const commands[] = {"PAUSE",	    "RESUME",	  "DISABLE", "ENABLE",
					       "RECONNECT", "WAIT_CLOSE", "KILL"};
	size_t used;

	ck_assert_str_eq(found("kill_client c5", &used), "KILL_CLIENT");
	ck_assert_uint_eq(used, 1);
	ck_assert_str_eq(found("KILL client", &used), "KILL");
	for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
		char text[64], part[64];
		snprintf(text, sizeof text, "%s two \"names here\"", commands[i]);
		snprintf(part, sizeof part, "%s takes one name, but \"names here\" follows", commands[i]);
		expect_error(true, text, "42601", part);
		snprintf(text, sizeof text, "%s \"forebay\";", commands[i]);
		expect_error(true, text, "0A000", "this console");
		snprintf(text, sizeof text, "%s 'pgbouncer'", commands[i]);
		expect_error(true, text, "0A000", "this console");
	}
	expect_error(true, "DISABLE", "42601", "DISABLE needs the name of a database");
	expect_error(true, "ENABLE ;", "42601", "ENABLE needs the name of a database");
	expect_error(true, "ENABLE nobody", "3D000", "there is no database \"nobody\"");
	expect_error(true, "RESUME \"\"", "3D000", "there is no database \"\"");
	expect_error(true, "WAIT_CLOSE Nobody", "3D000", "\"Nobody\"");
}
END_TEST

START_TEST(clients_are_killed_by_id_or_ptr_only) {
	static const char *const none[] = {"KILL_CLIENT 0",	      "KILL_CLIENT c0",		"KILL_CLIENT c",
					   "KILL_CLIENT cc1",	      "KILL_CLIENT s1",		"KILL_CLIENT 1x",
					   "KILL_CLIENT +1",	      "KILL_CLIENT -1",		"KILL_CLIENT 4294967296",
					   "KILL_CLIENT 99999999999", "KILL_CLIENT \"\"",	"KILL_CLIENT 0x10",
					   "KILL_CLIENT ' 1'",	      "KILL_CLIENT c\xff"};

	for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
		expect_error(true, none[i], "22P02", "SHOW CLIENTS");
	expect_error(true, "KILL_CLIENT", "42601", "needs the id of one client");
	expect_error(true, "KILL_CLIENT 1 2", "42601", "needs the id of one client");
}
END_TEST

START_TEST(help_lists_each_command_once) {
	struct saying s;

	say(&s, false, " show\thelp ; ");
	ck_assert_int_eq(s.done, 1);
	ck_assert(!s.request.result.failed);
	ck_assert_str_eq(s.request.result.tag, "SHOW");
	ck_assert_uint_eq(s.request.result.columns, 3);
	ck_assert_uint_ge(s.request.result.rows, 14);
	int reload = 0;
	for (size_t row = 0; row < s.request.result.rows; row++)
		reload += strcmp(s.request.result.cells[row * 3], "RELOAD") == 0;
	ck_assert_int_eq(reload, 1);
	forget(&s);
}
END_TEST

START_TEST(an_empty_command_has_an_empty_answer) {
	expect_tag("", "");
	expect_tag(" ; ", "");
	expect_tag("-- ping", "");
}
END_TEST

START_TEST(what_drivers_say_on_connecting_is_taken) {
	expect_tag("SET application_name = 'psql'", "SET");
	expect_tag("set extra_float_digits to 3", "SET");
	expect_tag("SET SESSION client_encoding TO 'UTF8'", "SET");
	expect_tag("SET DateStyle = ISO, MDY", "SET");
	expect_tag("SET TIME ZONE 'UTC'", "SET");
	expect_tag("SET NAMES 'UTF8'", "SET");
	expect_tag("BEGIN", "BEGIN");
	expect_tag("start transaction isolation level serializable", "START TRANSACTION");
	expect_tag("COMMIT;", "COMMIT");
	expect_tag("ROLLBACK", "ROLLBACK");
	expect_tag("DISCARD ALL", "DISCARD ALL");
	expect_value("SELECT 1", "?column?", "1");
	expect_value("select current_database()", "current_database", "forebay");
	expect_value("SELECT CURRENT_USER", "current_user", "watcher");
	expect_value("SHOW client_encoding", "client_encoding", "UTF8");
	expect_value("SHOW TRANSACTION ISOLATION LEVEL", "transaction_isolation", "read committed");
	expect_value("show time zone", "timezone", "UTC");
	expect_error(false, "SET max_size = 3", "42501", "admin_users");
	expect_error(true, "SET max_size = 3 4", "42601", "one value");
	expect_error(true, "SET nonsense", "42601", "name = value");
}
END_TEST

/* ---- the main thread ---- */

START_TEST(reload_is_answered_when_it_is_done) {
	struct saying s;

	say(&s, true, "RELOAD");
	ck_assert_int_eq(s.done, 0);
	ck_assert_int_eq(world.reloads, 0);
	ck_assert(mailbox_deliver(&world.main_mailbox));
	ck_assert_int_eq(world.reloads, 1);
	ck_assert_int_eq(s.done, 0); /* on the worker, not here */
	ck_assert(mailbox_deliver(&world.worker.mailbox));
	ck_assert_int_eq(s.done, 1);
	ck_assert(!s.request.result.failed);
	ck_assert_str_eq(s.request.result.tag, "RELOAD");
	forget(&s);
}
END_TEST

START_TEST(a_refused_reload_is_an_error) {
	struct saying s;

	world.refuse_reload = true;
	say(&s, true, "reload;");
	mailbox_deliver(&world.main_mailbox);
	mailbox_deliver(&world.worker.mailbox);
	ck_assert_int_eq(s.done, 1);
	ck_assert(s.request.result.failed);
	ck_assert_str_eq(s.request.result.sqlstate, "F0000");
	ck_assert_str_eq(s.request.result.error, "line 3 is wrong");
	forget(&s);
}
END_TEST

START_TEST(a_setting_is_put_in_force_by_the_main_thread) {
	struct saying s;

	for (int refused = 0; refused < 2; refused++) {
		world.refuse_reload = refused;
		say(&s, true, "SET server_reset_query TO 'select ''1''; discard all'");
		ck_assert_int_eq(s.done, 0);
		ck_assert(mailbox_deliver(&world.main_mailbox));
		ck_assert_str_eq(world.set, "server_reset_query=select '1'; discard all");
		ck_assert_int_eq(s.done, 0);
		ck_assert(mailbox_deliver(&world.worker.mailbox));
		ck_assert_int_eq(s.done, 1);
		ck_assert_int_eq(s.request.result.failed, refused);
		forget(&s);
	}
}
END_TEST

START_TEST(shutdown_is_answered_first_and_then_done) {
	struct saying s;

	say(&s, true, "SHUTDOWN");
	ck_assert_int_eq(s.done, 1);
	ck_assert(!s.request.result.failed);
	ck_assert(mailbox_deliver(&world.main_mailbox));
	ck_assert_int_eq(world.shutdowns, 1);
	ck_assert_int_eq(world.mode, SHUTDOWN_DRAIN);
	forget(&s);

	say(&s, true, "shutdown now");
	ck_assert(mailbox_deliver(&world.main_mailbox));
	ck_assert_int_eq(world.shutdowns, 2);
	ck_assert_int_eq(world.mode, SHUTDOWN_NOW);
	forget(&s);

	expect_error(true, "SHUTDOWN WAIT_FOR_CLIENTS", "0A000", "not supported");
	ck_assert(!mailbox_deliver(&world.main_mailbox));
}
END_TEST

START_TEST(a_reload_that_the_end_overtakes_is_still_given_back) {
	struct saying s;

	say(&s, true, "RELOAD");
	admin_stop();
	ck_assert(mailbox_deliver(&world.main_mailbox));
	ck_assert_int_eq(s.done, 1);
	ck_assert_int_eq(world.reloads, 0);
	forget(&s);
	ck_assert(!console_execute(&s.request));
}
END_TEST

/* ---- results ---- */

START_TEST(a_result_keeps_every_cell) {
	static const char *const names[] = {"text", "number"};
	static const enum console_type types[] = {CONSOLE_TEXT, CONSOLE_INT8};
	struct console_result r = {0};
	enum { ROWS = 5000 };

	ck_assert(console_columns(&r, 2, names, types));
	for (int i = 0; i < ROWS; i++) {
		ck_assert(console_row(&r));
		if (i % 3)
			console_set(&r, 0, "row %d", i);
		console_set_number(&r, 1, i);
	}
	ck_assert_uint_eq(r.rows, ROWS);
	for (int i = 0; i < ROWS; i++) {
		char text[32];
		snprintf(text, sizeof text, "row %d", i);
		if (i % 3)
			ck_assert_str_eq(r.cells[2 * i], text);
		else
			ck_assert_ptr_null(r.cells[2 * i]);
		snprintf(text, sizeof text, "%d", i);
		ck_assert_str_eq(r.cells[2 * i + 1], text);
	}
	console_result_free(&r);
	ck_assert_uint_eq(r.rows, 0);
}
END_TEST

START_TEST(a_cell_holds_texts_of_any_length_and_numbers_of_any_size) {
	static const char *const names[] = {"a", "b", "c", "d"};
	static const enum console_type types[] = {CONSOLE_TEXT, CONSOLE_INT8, CONSOLE_BOOL, CONSOLE_TEXT};
	struct console_result r = {0};
	char *large = malloc(100001);

	memset(large, 'x', 100000);
	large[100000] = 0;
	ck_assert(console_columns(&r, 4, names, types) && console_row(&r));
	console_set(&r, 0, "%s", large);
	console_set_number(&r, 1, INT64_MIN);
	console_set_bool(&r, 2, true);
	console_set_text(&r, 3, large);
	console_set_number(&r, 9, 1); /* no such column: nothing happens */
	ck_assert_uint_eq(strlen(r.cells[0]), 100000);
	ck_assert_str_eq(r.cells[1], "-9223372036854775808");
	ck_assert_str_eq(r.cells[2], "t");
	ck_assert_str_eq(r.cells[3], large);
	free(large);
	console_result_free(&r);
}
END_TEST

START_TEST(the_first_error_of_a_result_stays) {
	struct console_result r = {0};

	console_error(&r, "53200", "out of %s", "memory");
	console_error(&r, "42601", "something else");
	ck_assert(r.failed);
	ck_assert_str_eq(r.sqlstate, "53200");
	ck_assert_str_eq(r.error, "out of memory");
	ck_assert(!console_row(&r));
	console_result_free(&r);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("console");
	TCase *words = tcase_create("words");
	tcase_add_test(words, blanks_comments_and_closing_semicolons_do_not_count);
	tcase_add_test(words, quotes_and_marks_are_words_of_their_own);
	tcase_add_test(words, what_does_not_end_is_refused);
	tcase_add_test(words, any_bytes_are_taken_apart_within_their_bounds);
	tcase_add_test(words, commands_are_found_in_any_case_and_the_longest_wins);
	tcase_add_test(words, each_command_is_for_its_role_and_above);
	tcase_add_test(words, looking_needs_no_admin);
	suite_add_tcase(suite, words);
	TCase *commands = tcase_create("commands");
	tcase_add_checked_fixture(commands, set_up, tear_down);
	tcase_add_test(commands, what_changes_something_is_refused_to_stats_users);
	tcase_add_test(commands, unknown_commands_are_told_of_show_help);
	tcase_add_test(commands, what_acts_on_pools_takes_one_name);
	tcase_add_test(commands, clients_are_killed_by_id_or_ptr_only);
	tcase_add_test(commands, help_lists_each_command_once);
	tcase_add_test(commands, an_empty_command_has_an_empty_answer);
	tcase_add_test(commands, what_drivers_say_on_connecting_is_taken);
	tcase_add_test(commands, reload_is_answered_when_it_is_done);
	tcase_add_test(commands, a_refused_reload_is_an_error);
	tcase_add_test(commands, a_setting_is_put_in_force_by_the_main_thread);
	tcase_add_test(commands, shutdown_is_answered_first_and_then_done);
	tcase_add_test(commands, a_reload_that_the_end_overtakes_is_still_given_back);
	suite_add_tcase(suite, commands);
	TCase *results = tcase_create("results");
	tcase_add_test(results, a_result_keeps_every_cell);
	tcase_add_test(results, a_cell_holds_texts_of_any_length_and_numbers_of_any_size);
	tcase_add_test(results, the_first_error_of_a_result_stays);
	suite_add_tcase(suite, results);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
