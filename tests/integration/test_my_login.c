/* How MySQL clients get in and how they do not: TLS, every authentication method, both sides. */
#include <stdlib.h>

#include "mariadb.h"

START_TEST(mariadb_itself_lets_us_in) {
	struct maria_login login = {.port = maria_port(), .tls = true};
	MYSQL *my = maria_connect(NULL, &login);

	maria_expect(my, "select current_user()", "app@%");
	mysql_close(my);
	maria_stop(true);
	maria_start();
	my = maria_connect(NULL, &login);
	mysql_close(my);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("logging in to MySQL");
	TCase *tc = tcase_create("login");

	maria_begin(NULL);
	tcase_add_test(tc, mariadb_itself_lets_us_in);
	suite_add_tcase(suite, tc);
	return harness_run(suite);
}
