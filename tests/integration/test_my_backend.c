/* How Forebay logs in to MySQL servers: by every secret, TLS mode and way, to MariaDB, to another Forebay, to liars. */
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mariadb.h"
#include "my_wire.h"
#include "mysql/plugin.h"

/* A stored secret of this password, as MariaDB (*HEX) or MySQL ($A$) keeps it. Static; one of 4 in turn. */
static const char *hashed(const char *password) {
	static char texts[4][64];
	static unsigned next;
	char *text = texts[next++ % 4];
	uint8_t key[MY_SHA1], twice[MY_SHA1];

	my_native_key(password, key);
	my_sha1(key, sizeof(key), twice);
	text[0] = '*';
	for (size_t i = 0; i < sizeof(twice); i++)
		snprintf(text + 1 + 2 * i, 3, "%02X", twice[i]);
	return text;
}

static const char *sha2(const char *password) {
	static char text[100];
	char hash[MY_SHA2_HASH + 1];

	ck_assert(my_sha2_hash(password, strlen(password), (const uint8_t *)"0123456789abcdefghij", 5000, hash));
	snprintf(text, sizeof(text), "$A$005$0123456789abcdefghij%s", hash);
	return text;
}

static struct forebay *start(int workers, const char *listener, const char *pool, const char *more, bool bare) {
	return maria_forebay(&(struct forebay_setup){
		.workers = workers, .listener = listener, .pool = pool, .more = more, .no_default_users = bare});
}

static void expect_works(const struct forebay *forebay, const struct maria_login *login, const char *user) {
	MYSQL *my = maria_connect(forebay, login);

	maria_expect(my, "select current_user()", user);
	mysql_close(my);
}

/* Let in, but no server is: the first statement says why. */
static void expect_unavailable(const struct forebay *forebay, const struct maria_login *login, unsigned code,
			       const char *words) {
	MYSQL *my = maria_connect(forebay, login);

	maria_expect_error(my, "select 1", code);
	ck_assert_msg(strstr(mysql_error(my), words), "no \"%s\" in \"%s\"", words, mysql_error(my));
	mysql_close(my);
}

/* ---- secrets ---- */

START_TEST(stored_hash_is_enough_once_a_client_has_proved_itself) {
	char more[200];

	snprintf(more, sizeof(more), "[user:app]\npassword = %s\n[user:second]\npassword = second-secret\n", hashed("app-secret"));
	struct forebay *forebay = start(WORKERS(_i), NULL, NULL, more, true);
	expect_works(forebay, NULL, "app@%");
	expect_works(forebay, &(struct maria_login){.user = "second"}, "second@%");
	expect_works(forebay, &(struct maria_login){.user = "second", .plugin = MY_SHA2_NAME}, "second@%");
	ck_assert_int_eq(harness_count_in(forebay->log, "app-secret"), 0);
	forebay_stop(forebay);
}
END_TEST

START_TEST(sha2_secret_gives_the_password_when_it_is_shown_and_native_works_behind) {
	char more[200];

	/* the backend wants mysql_native_password: the full exchange has shown what it needs */
	char listener[300];
	snprintf(listener, sizeof(listener), "rsa_key_file = %s", harness_path("rsa.pem"));
	snprintf(more, sizeof(more), "[user:app]\npassword = %s\n", sha2("app-secret"));
	struct forebay *forebay = start(WORKERS(_i), listener, NULL, more, true);
	expect_works(forebay, &(struct maria_login){.plugin = MY_SHA2_NAME}, "app@%");
	expect_works(forebay, &(struct maria_login){.plugin = MY_SHA2_NAME}, "app@%");
	forebay_stop(forebay);
}
END_TEST

START_TEST(who_is_let_in_by_trust_gets_a_server_by_what_is_configured_or_without_a_password) {
	struct forebay *forebay = start(WORKERS(_i), "auth = trust", NULL, "[user:app]\npassword = app-secret\n", true);

	expect_works(forebay, &(struct maria_login){.password = ""}, "app@%");
	expect_works(forebay, &(struct maria_login){.user = "trusted", .password = ""}, "trusted@%");
	forebay_stop(forebay);

	/* where nobody has proved the stored secret yet, the error says what is missing */
	char more[100];
	snprintf(more, sizeof(more), "[user:app]\npassword = %s\n", hashed("app-secret"));
	forebay = start(WORKERS(_i), "auth = trust", "when_unavailable = fail", more, true);
	expect_unavailable(forebay, &(struct maria_login){.password = ""}, 1045, "no client has logged in with yet");
	forebay_stop(forebay);
}
END_TEST

START_TEST(trust_takes_nothing_from_what_a_proof_has_shown) {
	char more[400], trust[200];
	int port = harness_free_port();

	snprintf(trust, sizeof(trust), "[listener:trust]\nprotocol = mysql\nlisten = 127.0.0.1:%d\nauth = trust\ndefault_pool = app\n",
		 port);
	snprintf(more, sizeof(more), "[user:app]\npassword = %s\n%s", hashed("app-secret"), trust);
	struct forebay *forebay = start(WORKERS(_i), NULL, "max_size = 1", more, true);
	expect_works(forebay, NULL, "app@%");
	expect_works(forebay, &(struct maria_login){.password = "", .port = port}, "app@%");
	/* the pool's one connection ends: a new login is needed */
	MYSQL *control = maria_control(), *my = maria_connect(forebay, &(struct maria_login){.password = "", .port = port});
	long id = maria_long(control, "select id from information_schema.processlist where user = 'app'");
	maria_execute(control, "kill %ld", id);
	maria_await(control, "select count(*) from information_schema.processlist where user = 'app'", "0");
	maria_expect(my, "select current_user()", "app@%");
	mysql_close(my);
	mysql_close(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(pools_own_user_serves_all) {
	struct forebay *forebay = start(WORKERS(_i), NULL, "user = second\npassword = second-secret", NULL, false);

	expect_works(forebay, NULL, "second@%");
	expect_works(forebay, &(struct maria_login){.flags = CLIENT_FOUND_ROWS}, "second@%");
	forebay_stop(forebay);
}
END_TEST

START_TEST(another_password_of_the_pools_own_user_is_that_of_all_its_connections) {
	struct forebay_setup setup = maria_setup(&(struct forebay_setup){
		.workers = WORKERS(_i), .pool = "user = rotated\npassword = one\nmonitor_interval = 0\nwhen_unavailable = fail"});
	MYSQL *control = maria_control();
	maria_execute(control, "CREATE OR REPLACE USER rotated IDENTIFIED BY 'one'");
	maria_execute(control, "GRANT ALL ON app.* TO rotated");
	struct forebay *forebay = start(WORKERS(_i), NULL, setup.pool, NULL, false);
	MYSQL *clients[] = {maria_connect(forebay, NULL), maria_connect(forebay, &(struct maria_login){.flags = CLIENT_FOUND_ROWS}),
			    maria_connect(forebay, &(struct maria_login){.database = ""})};
	for (int i = 0; i < 3; i++)
		maria_expect(clients[i], "select current_user()", "rotated@%");
	maria_execute(control, "ALTER USER rotated IDENTIFIED BY 'two'");
	setup = maria_setup(&(struct forebay_setup){
		.workers = WORKERS(_i), .pool = "user = rotated\npassword = two\nmonitor_interval = 0\nwhen_unavailable = fail"});
	forebay_rewrite_ini(forebay, &setup);
	kill(forebay->pid, SIGHUP);
	forebay_await_log(forebay, " reloaded ");
	maria_execute(control, "KILL USER rotated");
	maria_await(control, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'rotated'", "0");
	for (int i = 0; i < 3; i++) {
		maria_expect(clients[i], "select current_user()", "rotated@%");
		mysql_close(clients[i]);
	}
	forebay_stop(forebay);
	maria_execute(control, "DROP USER rotated");
	mysql_close(control);
}
END_TEST

START_TEST(backends_refusal_is_told_with_its_code_and_place) {
	struct forebay *forebay = start(WORKERS(_i), NULL, "when_unavailable = fail", "[user:app]\npassword = other\n", true);
	char where[64];

	snprintf(where, sizeof(where), "127.0.0.1:%d", maria_port());
	expect_unavailable(forebay, &(struct maria_login){.password = "other"}, 1045, "Access denied");
	expect_unavailable(forebay, &(struct maria_login){.password = "other"}, 1045, where);
	forebay_stop(forebay);
	forebay = start(WORKERS(_i), NULL, "when_unavailable = fail\ndatabase = missing", NULL, false);
	expect_unavailable(forebay, NULL, 1044, "missing");
	forebay_stop(forebay);
}
END_TEST

START_TEST(found_rows_is_what_each_client_asked_for) {
	struct forebay *forebay = start(WORKERS(_i), NULL, "max_size = 4", NULL, false);
	MYSQL *plain = maria_connect(forebay, NULL), *found = maria_connect(forebay, &(struct maria_login){.flags = CLIENT_FOUND_ROWS});

	maria_execute(plain, "create or replace table fr (a int)");
	maria_execute(plain, "insert into fr values (1), (1)");
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(mysql_query(plain, "update fr set a = 1"), 0);
		ck_assert_uint_eq(mysql_affected_rows(plain), 0);
		ck_assert_int_eq(mysql_query(found, "update fr set a = 1"), 0);
		ck_assert_uint_eq(mysql_affected_rows(found), 2);
	}
	maria_execute(plain, "drop table fr");
	mysql_close(plain);
	mysql_close(found);
	forebay_stop(forebay);
}
END_TEST

/* ---- TLS ---- */

static void expect_encrypted(const struct forebay *forebay, const char *user, bool encrypted) {
	MYSQL *my = maria_connect(forebay, &(struct maria_login){.user = user});
	char *cipher = maria_value(my, "select variable_value from information_schema.session_status "
				       "where variable_name = 'ssl_cipher'");

	ck_assert_msg(!!*cipher == encrypted, "cipher \"%s\"", cipher);
	free(cipher);
	mysql_close(my);
}

START_TEST(tls_is_as_the_pool_says) {
	static const struct {
		const char *mode, *ca;
		bool works, encrypted;
		const char *words;
	} modes[] = {
		{"disable", NULL, true, false, NULL},
		{"allow", NULL, true, false, NULL},
		{"prefer", NULL, true, true, NULL},
		{"require", NULL, true, true, NULL},
		{"verify-ca", "ca.crt", true, true, NULL},
		{"verify-full", "ca.crt", true, true, NULL},
		{"verify-ca", "other-ca.crt", false, false, "certificate"},
	};
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		char pool[400];
		snprintf(pool, sizeof(pool), "when_unavailable = fail\ntls_mode = %s\n%s%s", modes[i].mode,
			 modes[i].ca ? "tls_ca_file = " : "", modes[i].ca ? harness_path("%s", modes[i].ca) : "");
		struct forebay *forebay = start(WORKERS(_i), NULL, pool, NULL, false);
		if (modes[i].works)
			expect_encrypted(forebay, "app", modes[i].encrypted);
		else
			expect_unavailable(forebay, NULL, 1158, modes[i].words);
		forebay_stop(forebay);
	}
}
END_TEST

START_TEST(a_user_who_must_be_encrypted_is_so_with_allow) {
	struct forebay *forebay = start(WORKERS(_i), NULL, "tls_mode = allow", NULL, false);

	expect_encrypted(forebay, "tlsuser", true);
	expect_encrypted(forebay, "app", false);
	forebay_stop(forebay);
	forebay = start(WORKERS(_i), NULL, "tls_mode = disable\nwhen_unavailable = fail", NULL, false);
	expect_unavailable(forebay, &(struct maria_login){.user = "tlsuser"}, 1045, "Access denied");
	forebay_stop(forebay);
}
END_TEST

START_TEST(a_unix_socket_leads_there_too) {
	char pool[300];

	snprintf(pool, sizeof(pool), "hosts = %s", maria_socket());
	struct forebay *forebay = start(WORKERS(_i), NULL, pool, NULL, false);
	MYSQL *my = maria_connect(forebay, NULL);
	maria_expect(my, "select substring_index(user(), '@', -1)", "localhost");
	mysql_close(my);
	forebay_stop(forebay);
}
END_TEST

/* ---- a full server ---- */

START_TEST(a_server_that_is_full_is_waited_for) {
	struct forebay *forebay = start(WORKERS(_i), NULL, NULL, "[user:limited]\npassword = limited-secret\n", false);
	struct maria_login limited = {.user = "limited"};
	MYSQL *a = maria_connect(forebay, &limited), *b = maria_connect(forebay, &limited), *c = maria_connect(forebay, &limited);

	/* user limited may have two connections at MariaDB, the pool five */
	maria_execute(a, "begin");
	maria_execute(a, "select 1");
	maria_execute(b, "begin");
	maria_execute(b, "select 1");
	ck_assert_int_eq(mysql_send_query(c, "select 'served'", 15), 0);
	forebay_await_log(forebay, "max_user_connections");
	maria_execute(a, "commit");
	ck_assert_msg(mysql_read_query_result(c) == 0, "%s", mysql_error(c));
	mysql_free_result(mysql_store_result(c));
	mysql_close(a);
	mysql_close(b);
	mysql_close(c);
	forebay_stop(forebay);
}
END_TEST

/* ---- another Forebay, which knows caching_sha2_password ---- */

struct chain {
	const char *name, *pool; /* of the outer one */
	bool unix_socket, knows_key;
};

static void run_chain(int workers, const struct chain *chain, const char *inner_secret, const char *outer_secret) {
	char inner_users[300], outer_users[300], pool[600];

	char listener[300];

	snprintf(listener, sizeof(listener), "auth = caching_sha2_password\nrsa_key_file = %s", harness_path("rsa.pem"));
	snprintf(inner_users, sizeof(inner_users), "[user:app]\npassword = %s\n", inner_secret);
	snprintf(outer_users, sizeof(outer_users), "[user:app]\npassword = %s\n", outer_secret);
	/* behind the inner one everybody is app, with a password of its own */
	struct forebay *inner = start(workers, listener, "user = app\npassword = app-secret", inner_users, true);
	size_t len = (size_t)snprintf(pool, sizeof(pool), "monitor_interval = 0\n%s\n", chain->pool);
	if (chain->knows_key)
		len += (size_t)snprintf(pool + len, sizeof(pool) - len, "server_public_key_file = %s\n", harness_path("rsa.pub"));
	if (strstr(chain->pool, "verify"))
		len += (size_t)snprintf(pool + len, sizeof(pool) - len, "tls_ca_file = %s\n", harness_path("ca.crt"));
	if (chain->unix_socket)
		snprintf(pool + len, sizeof(pool) - len, "hosts = %s/.s.PGSQL.%d\n", inner->socket_dir, inner->port);
	else
		snprintf(pool + len, sizeof(pool) - len, "hosts = 127.0.0.1:%d\n", inner->port);
	struct forebay *outer = start(workers, listener, pool, outer_users, true);

	/* the first by the full exchange, the next by the fast one; on either side */
	for (int i = 0; i < 3; i++)
		expect_works(outer, &(struct maria_login){.plugin = MY_SHA2_NAME}, "app@%");
	maria_expect_refused(maria_try(outer, &(struct maria_login){.plugin = MY_SHA2_NAME, .password = "wrong"}), 1045,
			     "Access denied");
	forebay_stop(outer);
	forebay_stop(inner);
}

START_TEST(caching_sha2_password_works_from_end_to_end) {
	static const struct chain chains[] = {
		{"in the open, by RSA", "tls_mode = disable\nget_server_public_key = true", false, false},
		{"in the open, by a key at hand", "tls_mode = disable", false, true},
		{"unverified TLS, by RSA", "tls_mode = prefer\nget_server_public_key = true", false, false},
		{"verified TLS", "tls_mode = verify-full", false, false},
		{"Unix socket", "tls_mode = disable", true, false},
	};
	const char *secret = _i ? sha2("app-secret") : "app-secret";

	for (size_t i = 0; i < sizeof(chains) / sizeof(chains[0]); i++)
		run_chain(WORKERS(_i), &chains[i], secret, secret);
}
END_TEST

START_TEST(full_exchange_is_refused_where_nothing_proves_who_asks_for_it) {
	char listener[300], pool[300], users[300];

	snprintf(listener, sizeof(listener), "auth = caching_sha2_password\nrsa_key_file = %s", harness_path("rsa.pem"));
	/* what makes the inner one ask for it: nobody has shown the password of this stored secret yet */
	snprintf(users, sizeof(users), "[user:app]\npassword = %s\n", sha2("app-secret"));
	struct forebay *inner = start(1, listener, "user = app\npassword = app-secret", users, true);
	for (int i = 0; i < 2; i++) {
		snprintf(pool, sizeof(pool), "hosts = 127.0.0.1:%d\ntls_mode = %s\nwhen_unavailable = fail\nmonitor_interval = 0", inner->port,
			 i ? "prefer" : "disable");
		struct forebay *outer = start(1, NULL, pool, NULL, false);
		expect_unavailable(outer, NULL, 1045, "get_server_public_key = true");
		forebay_stop(outer);
	}
	forebay_stop(inner);
}
END_TEST

/* ---- a man in the middle ---- */

struct thief {
	struct evp_pkey_st *key;
	char pem[MY_RSA_PEM_MAX];
	size_t pem_len;
	bool clear;          /* he asks for it by mysql_clear_password */
	_Atomic int asked;   /* connections on which he has asked for the password */
	_Atomic bool has_it;
};

/* He asks for the password itself and sends a key of his own. */
static void steal(struct raw *raw, void *context) {
	static const uint8_t scramble[] = MY_BACKEND_SCRAMBLE;
	struct thief *thief = context;
	struct my_packet *p = malloc(sizeof(*p));
	struct bytes b = {0};
	char out[MY_RSA_CIPHER_MAX], key[MY_RSA_PEM_MAX + 1] = "\1";

	memcpy(key + 1, thief->pem, thief->pem_len);
	my_put_greeting(&b, "8.0.36", 0, thief->clear ? MY_NATIVE_NAME : MY_SHA2_NAME);
	my_send(raw, 0, b.at, b.len);
	if (p && my_read_within(raw, p, HARNESS_DEADLINE_MS) == RAW_MESSAGE)
		my_send(raw, (uint8_t)(p->sequence + 1), thief->clear ? "\xfemysql_clear_password" : "\1\4", thief->clear ? 22 : 2);
	atomic_fetch_add(&thief->asked, 1);
	while (p && my_read_within(raw, p, HARNESS_DEADLINE_MS) == RAW_MESSAGE) {
		if (p->len == 1 && p->body[0] == MY_SHA2_REQUEST_KEY)
			my_send(raw, (uint8_t)(p->sequence + 1), key, thief->pem_len + 1);
		else if (memmem(p->body, p->len, "app-secret", 10) ||
			 (my_rsa_decrypt(thief->key, scramble, p->body, p->len, out, sizeof(out)) && strcmp(out, "app-secret") == 0))
			atomic_store(&thief->has_it, true);
		if (p->len > 1)
			break; /* he has what he can get */
	}
	bytes_free(&b);
	free(p);
}

/* Only who is told to believe him shows him the password. */
START_TEST(a_man_in_the_middle_with_a_key_of_his_own_gets_nothing) {
	char by_key[300], by_lost_key[300], copy[700];
	snprintf(by_key, sizeof(by_key), "server_public_key_file = %s\n", harness_path("rsa.pub"));
	snprintf(by_lost_key, sizeof(by_lost_key), "tls_mode = disable\nserver_public_key_file = %s\n", harness_path("lost.pub"));
	snprintf(copy, sizeof(copy), "cp %s %s", harness_path("rsa.pub"), harness_path("lost.pub"));
	ck_assert_int_eq(system(copy), 0);
	const char *const monitor = "monitor_user = app\nmonitor_password = app-secret\nmonitor_interval = 100ms\n";
	const struct {
		const char *key;   /* what the pool says */
		bool monitors;     /* it is the monitor that he meets, not a client's server connection */
		bool clear, gets_it;
	} cases[] = {
		{"", false, false, false}, {by_key, false, false, false}, {"get_server_public_key = true\n", false, false, true},
		{"", false, true, false},  {"", true, false, false},      {by_key, true, false, false},
		{"get_server_public_key = true\n", true, false, true},    {"", true, true, false},
		{by_lost_key, true, false, false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		static struct thief thief;
		char pool[900];

		thief = (struct thief){.key = my_rsa_generate(), .clear = cases[i].clear};
		thief.pem_len = my_rsa_public(thief.key, thief.pem);
		ck_assert_uint_gt(thief.pem_len, 0);
		struct backend *backend = backend_start(steal, &thief);
		snprintf(pool, sizeof(pool), "hosts = 127.0.0.1:%d\nmin_idle = 0\nwhen_unavailable = fail\nacquire_timeout = 1s\n%s%s",
			 backend->port, cases[i].monitors ? monitor : "monitor_interval = 0\n", cases[i].key);
		struct forebay *forebay = start(1, NULL, pool, NULL, false);
		if (!cases[i].monitors) {
			MYSQL *my = maria_connect(forebay, NULL);
			ck_assert(mysql_query(my, "select 1") != 0);
			mysql_close(my);
		}
		int meetings = 1;
		if (cases[i].key == by_lost_key) { /* it is read at the start, and cannot be read any more */
			ck_assert_int_eq(unlink(harness_path("lost.pub")), 0);
			meetings = atomic_load(&thief.asked) + 2;
		}
		for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS; atomic_load(&thief.asked) < meetings;) {
			ck_assert_msg(harness_now_ms() < deadline, "case %zu: nobody came", i);
			harness_pause_ms(1);
		}
		forebay_stop(forebay);
		backend_stop(backend);
		ck_assert_int_gt(atomic_load(&thief.asked), 0);
		ck_assert_msg(atomic_load(&thief.has_it) == cases[i].gets_it, "case %zu", i);
		my_rsa_free(thief.key);
	}
}
END_TEST

START_TEST(clear_password_goes_to_a_backend_only_where_nobody_is_in_between) {
	char pool[300];
	struct forebay *inner = start(1, "auth = mysql_clear_password\ntls_mode = require", NULL, NULL, false);

	snprintf(pool, sizeof(pool), "hosts = 127.0.0.1:%d\ntls_mode = require\nwhen_unavailable = fail\nmonitor_interval = 0", inner->port);
	struct forebay *outer = start(1, NULL, pool, NULL, false);
	expect_unavailable(outer, NULL, 1045, "verify-ca or verify-full");
	forebay_stop(outer);
	snprintf(pool, sizeof(pool), "hosts = 127.0.0.1:%d\ntls_mode = verify-full\ntls_ca_file = %s\nmonitor_interval = 0", inner->port,
		 harness_path("ca.crt"));
	outer = start(1, NULL, pool, NULL, false);
	expect_works(outer, NULL, "app@%");
	forebay_stop(outer);
	snprintf(pool, sizeof(pool), "hosts = %s/.s.PGSQL.%d\nmonitor_interval = 0", inner->socket_dir, inner->port);
	outer = start(1, NULL, pool, NULL, false);
	expect_works(outer, NULL, "app@%");
	forebay_stop(outer);
	forebay_stop(inner);
}
END_TEST

struct hold {
	int port; /* of whom it passes on to */
	_Atomic int met;
	_Atomic bool go_on;
};

static bool pass_on(int from, int to) {
	char bytes[4096];
	ssize_t n = read(from, bytes, sizeof(bytes));
	return n > 0 && write(to, bytes, (size_t)n) == n;
}

/* Holds a connection's greeting back. */
static void hold_greeting(struct raw *raw, void *context) {
	struct hold *hold = context;
	atomic_fetch_add(&hold->met, 1);
	for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	     !atomic_load(&hold->go_on) && harness_now_ms() < deadline;)
		harness_pause_ms(1);
	struct raw there = raw_connect_port(hold->port);
	struct pollfd fds[] = {{.fd = raw->fd, .events = POLLIN}, {.fd = there.fd, .events = POLLIN}};
	while (poll(fds, 2, HARNESS_DEADLINE_MS) > 0 && (!fds[0].revents || pass_on(raw->fd, there.fd)) &&
	       (!fds[1].revents || pass_on(there.fd, raw->fd)))
		;
	raw_close(&there);
}

/* A login is of one configuration: with the old one's word that TLS is verified, the new one's, which is not, shows nothing. */
START_TEST(a_reload_during_a_login_does_not_take_its_verification_away) {
	char verified[700], lenient[300];
	struct forebay *inner = start(1, "auth = mysql_clear_password\ntls_mode = require", NULL, NULL, false);
	struct hold hold = {.port = inner->port};
	struct backend *backend = backend_start(hold_greeting, &hold);
	int len = snprintf(lenient, sizeof(lenient),
			   "hosts = 127.0.0.1:%d\nwhen_unavailable = fail\nmin_idle = 0\nmonitor_interval = 0\ntls_mode = ", backend->port);
	snprintf(verified, sizeof(verified), "%sverify-full\ntls_ca_file = %s", lenient, harness_path("other-ca.crt"));
	snprintf(lenient + len, sizeof(lenient) - (size_t)len, "prefer");
	struct forebay *outer = start(1, NULL, verified, NULL, false);
	MYSQL *my = maria_connect(outer, NULL);
	ck_assert_int_eq(mysql_send_query(my, "select 1", 8), 0);
	for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS; atomic_load(&hold.met) == 0; harness_pause_ms(1))
		ck_assert(harness_now_ms() < deadline);
	struct forebay_setup setup = maria_setup(&(struct forebay_setup){.pool = lenient});
	forebay_rewrite_ini(outer, &setup);
	kill(outer->pid, SIGHUP);
	forebay_await_log(outer, " reloaded ");
	for (int i = 0; i < 2; i++) /* its worker has it by then */
		mysql_close(maria_connect(outer, NULL));
	atomic_store(&hold.go_on, true);
	ck_assert_msg(mysql_read_query_result(my) != 0, "the password went to who knows whom");
	ck_assert_int_eq(harness_count_in(inner->log, "client_connected"), 0);
	mysql_close(my);
	forebay_stop(outer);
	backend_stop(backend);
	forebay_stop(inner);
}
END_TEST

/* ---- liars ---- */

struct lie {
	const char *name;
	uint32_t capabilities;
	const char *version, *plugin;
	const void *greeting; /* in place of a proper one */
	size_t greeting_len;
	const void *answer;   /* to the response */
	size_t answer_len;
	uint8_t sequence;     /* added to the right one */
	bool silent;          /* then says nothing */
};

#define BYTES(text) text, sizeof(text) - 1
static const struct lie LIES[] = {
	{.name = "hangs up", .greeting = "", .greeting_len = 0},
	{.name = "speaks HTTP", .greeting = BYTES("HTTP/1.1 400 Bad Request\r\n\r\n")},
	{.name = "speaks PostgreSQL", .greeting = BYTES("E\0\0\0\x20SFATAL\0")},
	{.name = "version 9", .greeting = BYTES("\5\0\0\0\x09" "3.23")},
	{.name = "a greeting that ends early", .greeting = BYTES("\x10\0\0\0\x0a" "8.0.36\0\1\2\3\4abcd")},
	{.name = "a packet of 16 MiB", .greeting = BYTES("\xff\xff\xff\0")},
	{.name = "too many connections", .greeting = BYTES("\x17\0\0\0\xff\x10\x04Too many connections")},
	{.name = "no plugins", .capabilities = MY_CLIENT_PROTOCOL_41 | MY_CLIENT_SECURE_CONNECTION},
	{.name = "wrong sequence", .answer = BYTES("\0\0\0\2\0\0\0"), .sequence = 1},
	{.name = "an empty packet", .answer = BYTES("")},
	{.name = "a malformed OK", .answer = BYTES("\0\xfe")},
	{.name = "wants a file", .answer = BYTES("\xfb/etc/passwd")},
	{.name = "wants the password in the clear", .answer = BYTES("\xfemysql_clear_password\0")},
	{.name = "wants an unknown plugin", .answer = BYTES("\xfe" "authentication_windows_client\0abc")},
	{.name = "wants the old password", .answer = BYTES("\xfe")},
	{.name = "a short challenge", .answer = BYTES("\xfemysql_native_password\0abc")},
	{.name = "a name without an end", .answer = BYTES("\xfemysql_native_password")},
	{.name = "a key that nobody asked for", .answer = BYTES("\1-----BEGIN PUBLIC KEY-----\n")},
	{.name = "full exchange of the wrong plugin", .answer = BYTES("\1\4")},
	{.name = "a key that is none", .plugin = MY_SHA2_NAME, .answer = BYTES("\1\4")},
	{.name = "a result set", .answer = BYTES("\1")},
	{.name = "an ERR that ends early", .answer = BYTES("\xff\1")},
	{.name = "silence", .silent = true},
};

struct liar {
	const struct lie *lie;
	_Atomic int told;       /* connections that have seen the lie */
	_Atomic bool betrayed;  /* the password has come */
};

static void lie_to(struct raw *raw, void *context) {
	struct liar *liar = context;
	const struct lie *lie = liar->lie;
	struct my_packet *p = malloc(sizeof(*p));
	struct bytes b = {0};

	if (lie->greeting) {
		raw_send(raw, lie->greeting, lie->greeting_len);
	} else {
		my_put_greeting(&b, lie->version ? lie->version : "8.0.36", lie->capabilities, lie->plugin);
		my_send(raw, 0, b.at, b.len);
		if (my_read_within(raw, p, HARNESS_DEADLINE_MS) == RAW_MESSAGE && !lie->silent)
			my_send(raw, (uint8_t)(p->sequence + 1 + lie->sequence), lie->answer, lie->answer_len);
	}
	atomic_fetch_add(&liar->told, 1);
	/* whatever it answers: it must not be the password */
	while (p && (lie->greeting_len > 0 || !lie->greeting) && my_read_within(raw, p, HARNESS_DEADLINE_MS) == RAW_MESSAGE)
		if (memmem(p->body, p->len < sizeof(p->body) ? p->len : sizeof(p->body), "app-secret", 10))
			atomic_store(&liar->betrayed, true);
	bytes_free(&b);
	free(p);
}

enum { LIE_COUNT = sizeof(LIES) / sizeof(LIES[0]) };

/* Each lie has a pool of its own. */
START_TEST(a_backend_that_lies_at_the_login_harms_nobody) {
	static struct liar liars[LIE_COUNT];
	struct backend *backends[LIE_COUNT];
	char more[LIE_COUNT * 250];
	size_t len = 0;

	for (size_t i = 0; i < LIE_COUNT; i++) {
		liars[i].lie = &LIES[i];
		backends[i] = backend_start(lie_to, &liars[i]);
		len += (size_t)snprintf(more + len, sizeof(more) - len,
					"[pool:lie%zu]\nprotocol = mysql\nhosts = 127.0.0.1:%d\nmonitor_interval = 0\nmin_idle = 0\n"
					"acquire_timeout = 1s\nconnect_timeout = 500ms\nwhen_unavailable = fail\n",
					i, backends[i]->port);
	}
	struct forebay *forebay = start(WORKERS(_i), NULL, NULL, more, false);
	for (size_t i = 0; i < LIE_COUNT; i++) {
		const char *name = LIES[i].name;
		char pool[20];

		snprintf(pool, sizeof(pool), "lie%zu", i);
		MYSQL *my = maria_connect(forebay, &(struct maria_login){.database = pool});
		ck_assert_msg(mysql_query(my, "select 1") != 0, "%s: it is believed", name);
		ck_assert_msg(mysql_errno(my) < 2000 || mysql_errno(my) > 2999, "%s: %u %s", name, mysql_errno(my), mysql_error(my));
		ck_assert_msg(mysql_ping(my) == 0, "%s: %s", name, mysql_error(my));
		mysql_close(my);
		for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS; atomic_load(&liars[i].told) == 0;) {
			ck_assert_msg(harness_now_ms() < deadline, "%s: nobody came", name);
			harness_pause_ms(1);
		}
	}
	ck_assert(forebay_alive(forebay));
	forebay_stop(forebay);
	for (size_t i = 0; i < LIE_COUNT; i++) {
		backend_stop(backends[i]);
		ck_assert_msg(!atomic_load(&liars[i].betrayed), "%s: the password was sent", LIES[i].name);
	}
}
END_TEST

int main(void) {
	Suite *suite = suite_create("logging in to MySQL backends");
	TCase *tc = tcase_create("backend");

	maria_begin(NULL);
	/* making one takes long */
	if (!harness_command((const char *const[]){"openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048",
						    "-out", harness_path("rsa.pem"), NULL}))
		return harness_end(EXIT_FAILURE);
	if (!harness_command((const char *const[]){"openssl", "rsa", "-in", harness_path("rsa.pem"), "-pubout", "-out",
						    harness_path("rsa.pub"), NULL}))
		return harness_end(EXIT_FAILURE);
	tcase_set_timeout(tc, 120);
	LOOP(tc, stored_hash_is_enough_once_a_client_has_proved_itself);
	LOOP(tc, sha2_secret_gives_the_password_when_it_is_shown_and_native_works_behind);
	LOOP(tc, who_is_let_in_by_trust_gets_a_server_by_what_is_configured_or_without_a_password);
	LOOP(tc, trust_takes_nothing_from_what_a_proof_has_shown);
	LOOP(tc, pools_own_user_serves_all);
	LOOP(tc, backends_refusal_is_told_with_its_code_and_place);
	LOOP(tc, another_password_of_the_pools_own_user_is_that_of_all_its_connections);
	LOOP(tc, found_rows_is_what_each_client_asked_for);
	LOOP(tc, tls_is_as_the_pool_says);
	LOOP(tc, a_user_who_must_be_encrypted_is_so_with_allow);
	LOOP(tc, a_unix_socket_leads_there_too);
	LOOP(tc, a_server_that_is_full_is_waited_for);
	LOOP(tc, caching_sha2_password_works_from_end_to_end);
	tcase_add_test(tc, full_exchange_is_refused_where_nothing_proves_who_asks_for_it);
	tcase_add_test(tc, a_man_in_the_middle_with_a_key_of_his_own_gets_nothing);
	tcase_add_test(tc, clear_password_goes_to_a_backend_only_where_nobody_is_in_between);
	tcase_add_test(tc, a_reload_during_a_login_does_not_take_its_verification_away);
	LOOP(tc, a_backend_that_lies_at_the_login_harms_nobody);
	suite_add_tcase(suite, tc);
	return harness_run(suite);
}
