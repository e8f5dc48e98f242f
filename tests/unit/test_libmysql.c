/*
 * The control plane's logins where the client library cannot be told which ways of logging in to take, as MySQL's own: it is
 * compiled here as for that one, and runs with the one at hand.
 */
#include <check.h>
#include <mysql.h>
#include <stdlib.h>
#include <string.h>

#undef HAVE_DECL_MARIADB_OPT_RESTRICTED_AUTH
#define HAVE_DECL_MARIADB_OPT_RESTRICTED_AUTH 0
#ifdef MARIADB_PACKAGE_VERSION /* which does not know these options, and says so */
#undef MARIADB_PACKAGE_VERSION
enum { SSL_MODE_DISABLED = 1, SSL_MODE_PREFERRED, SSL_MODE_REQUIRED, SSL_MODE_VERIFY_CA, SSL_MODE_VERIFY_IDENTITY };
#define MYSQL_OPT_SSL_MODE              ((enum mysql_option)9001)
#define MYSQL_OPT_GET_SERVER_PUBLIC_KEY ((enum mysql_option)9002)
#endif
#include "control/libmysql.c"

/* Whether it gives the library the password, for a host where nobody is. */
static bool tries(struct pool_config pool, const char *host, const char *password) {
	const struct config_address address = {.text = "the host", .host = host, .port = 1};
	struct error error = {0};
	enum mq_outcome outcome = MQ_WELL;

	pool.hosts = &address;
	pool.host_count = 1;
	MYSQL *mysql = mq_connect(
		&(struct mq_target){.pool = &pool, .user = "app", .password = password, .timeout_ns = NS_PER_S}, &outcome, &error);
	ck_assert_ptr_null(mysql);
	bool tried = !strstr(error.text, "is not sent");
	ck_assert_msg(tried || (outcome == MQ_UNWILLING && strstr(error.text, "get_server_public_key")), "%s", error.text);
	return tried;
}

START_TEST(password_is_for_servers_that_are_known_or_answered_for) {
	for (int mode = CONFIG_TLS_DISABLE; mode <= CONFIG_TLS_VERIFY_FULL; mode++) {
		struct pool_config pool = {.tls.mode = (enum config_tls_mode)mode, .tls.ca_file = NULL};
		bool verified = mode == CONFIG_TLS_VERIFY_CA || mode == CONFIG_TLS_VERIFY_FULL;
		ck_assert_msg(tries(pool, "127.0.0.1", "secret") == verified, "%d", mode);
		ck_assert(tries(pool, "127.0.0.1", NULL));
		ck_assert(tries(pool, "127.0.0.1", ""));
		ck_assert(tries(pool, "/nowhere/mysql.sock", "secret"));
		pool.get_server_public_key = true;
		ck_assert(tries(pool, "127.0.0.1", "secret"));
		pool.get_server_public_key = false;
		pool.server_public_key_file = "/nowhere/key.pem"; /* who can say that the library gets to read it */
		ck_assert_msg(tries(pool, "127.0.0.1", "secret") == verified, "%d", mode);
	}
}
END_TEST

int main(void) {
	Suite *suite = suite_create("libmysqlclient");
	TCase *tc = tcase_create("passwords");

	tcase_add_test(tc, password_is_for_servers_that_are_known_or_answered_for);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
