/* How MySQL clients get in and how they do not: TLS, every authentication method, both sides. */
#include <stdlib.h>

#include "mariadb.h"

START_TEST(mariadb_itself_lets_us_in) {
	struct maria_login login = {.port = maria_port(), .tls = true};
	MYSQL *my = maria_connect(NULL, &login);

	maria_expect(my, "select current_user()", "app@%");
	mysql_close(my);
}
END_TEST

START_TEST(first) {
	struct forebay *forebay = maria_forebay(&(struct forebay_setup){.pool = "user = app\npassword = app-secret\nmin_idle = 2"});
	MYSQL *control = maria_control();

	maria_await(control, "select count(*) from information_schema.processlist where user = 'app'", "2");
	mysql_close(control);
	MYSQL *my = maria_connect(forebay, NULL);
	mysql_close(my);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("logging in to MySQL");
	TCase *tc = tcase_create("login");

	maria_begin(NULL);
	tcase_add_test(tc, mariadb_itself_lets_us_in);
	tcase_add_test(tc, first);
	suite_add_tcase(suite, tc);
	return harness_run(suite);
}
