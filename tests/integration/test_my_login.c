/* How MySQL clients get in and how they do not: TLS, every authentication method, which pool; all by the client's side. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "mariadb.h"
#include "my_wire.h"
#include "mysql/plugin.h"

enum { SSL_UNAVAILABLE = 2026 /* CR_SSL_CONNECTION_ERROR */ };

/* Sections of users of whom only a stored secret is known, and of those who can never log in. */
static char STORED[1000];

static void store_secrets(void) {
	char hash[MY_SHA2_HASH + 1];
	uint8_t key[MY_SHA1], twice[MY_SHA1];
	size_t len;

	my_native_key("hashed-secret", key);
	my_sha1(key, sizeof(key), twice);
	len = (size_t)snprintf(STORED, sizeof(STORED), "[user:hashed]\npassword = *");
	for (size_t i = 0; i < sizeof(twice); i++)
		len += (size_t)snprintf(STORED + len, sizeof(STORED) - len, "%02X", twice[i]);
	if (!my_sha2_hash("sha2-secret", 11, (const uint8_t *)"0123456789abcdefghij", 5000, hash))
		abort();
	snprintf(STORED + len, sizeof(STORED) - len,
		 "\n[user:sha2]\npassword = $A$005$0123456789abcdefghij%s\n"
		 "[user:foreign]\npassword = md53175bce1d3201d16594cebf9d7eb3f9d\n[user:empty]\n",
		 hash);
}

static struct forebay *start(int workers, const char *listener, const char *more) {
	char sections[2000];

	snprintf(sections, sizeof(sections), "%s%s", STORED, more ? more : "");
	return maria_forebay(&(struct forebay_setup){.workers = workers, .listener = listener, .more = sections});
}

/* ---- every method, every way, every user ---- */

struct way {
	const char *name;
	bool tls, unix_socket;
};
static const struct way WAYS[] = {{"plain", false, false}, {"tls", true, false}, {"unix", false, true}};

static void try_user(const struct forebay *forebay, const struct way *way, const char *user, const char *password,
		     const char *plugin, bool let_in, const char *auth) {
	struct maria_login login = {
		.user = user, .password = password, .plugin = plugin, .tls = way->tls, .unix_socket = way->unix_socket};
	MYSQL *my = maria_try(forebay, &login);

	ck_assert_msg((mysql_errno(my) == 0) == let_in, "%s by %s (client: %s), %s, password %s: %u %s", user, auth,
		      plugin ? plugin : "default", way->name, password ? password : "right", mysql_errno(my), mysql_error(my));
	if (!let_in)
		ck_assert_msg(mysql_errno(my) == 1045 || (strcmp(plugin ? plugin : "", MY_CLEAR_NAME) == 0 && mysql_errno(my) != 0),
			      "%s by %s, %s: %u %s", user, auth, way->name, mysql_errno(my), mysql_error(my));
	mysql_close(my);
}

static void try_all(const struct forebay *forebay, const char *auth, bool native, bool sha2) {
	static const char *const plugins[] = {NULL, MY_NATIVE_NAME, MY_SHA2_NAME};

	for (size_t w = 0; w < sizeof(WAYS) / sizeof(WAYS[0]); w++) {
		for (size_t i = 0; i < sizeof(plugins) / sizeof(plugins[0]); i++) {
			const struct way *way = &WAYS[w];
			const char *plugin = plugins[i];

			try_user(forebay, way, "app", NULL, plugin, true, auth);
			try_user(forebay, way, "app", "wrong", plugin, false, auth);
			try_user(forebay, way, "app", "", plugin, false, auth);
			try_user(forebay, way, "nobody", NULL, plugin, false, auth);
			try_user(forebay, way, "nobody", "", plugin, false, auth);
			try_user(forebay, way, "hashed", NULL, plugin, native, auth);
			try_user(forebay, way, "hashed", "wrong", plugin, false, auth);
			/* the second time by the fast path */
			try_user(forebay, way, "sha2", NULL, plugin, sha2, auth);
			try_user(forebay, way, "sha2", NULL, plugin, sha2, auth);
			try_user(forebay, way, "sha2", "wrong", plugin, false, auth);
			try_user(forebay, way, "sha2", "", plugin, false, auth);
			try_user(forebay, way, "empty", "", plugin, false, auth);
			/* what is stored is no password */
			try_user(forebay, way, "foreign", "md53175bce1d3201d16594cebf9d7eb3f9d", plugin, false, auth);
		}
	}
}

START_TEST(the_right_password_lets_in_by_every_method_and_no_other_does) {
	static const struct {
		const char *auth;
		bool native, sha2;
	} methods[] = {
		{"auth = password", true, true},
		{"auth = mysql_native_password", true, false},
		{"auth = caching_sha2_password", false, true},
	};
	struct forebay *forebay = start(0, methods[_i].auth, NULL);

	try_all(forebay, methods[_i].auth, methods[_i].native, methods[_i].sha2);
	forebay_stop(forebay);
}
END_TEST

START_TEST(clear_passwords_are_taken_where_nobody_can_listen) {
	struct forebay *forebay = start(_i, "auth = password", NULL);

	for (size_t w = 0; w < 3; w++) {
		/* in the open the client is asked by another plugin, and follows */
		try_user(forebay, &WAYS[w], "app", NULL, MY_CLEAR_NAME, true, "password");
		try_user(forebay, &WAYS[w], "hashed", NULL, MY_CLEAR_NAME, true, "password");
		try_user(forebay, &WAYS[w], "sha2", NULL, MY_CLEAR_NAME, true, "password");
		try_user(forebay, &WAYS[w], "sha2", "wrong", MY_CLEAR_NAME, false, "password");
		try_user(forebay, &WAYS[w], "nobody", NULL, MY_CLEAR_NAME, false, "password");
	}
	forebay_stop(forebay);
	forebay = start(_i, "auth = mysql_clear_password\ntls_mode = require", NULL);
	for (size_t w = 1; w < 3; w++) {
		try_user(forebay, &WAYS[w], "app", NULL, NULL, true, "clear");
		try_user(forebay, &WAYS[w], "hashed", NULL, NULL, true, "clear");
		try_user(forebay, &WAYS[w], "sha2", NULL, NULL, true, "clear");
		try_user(forebay, &WAYS[w], "app", "wrong", NULL, false, "clear");
		try_user(forebay, &WAYS[w], "nobody", "wrong", NULL, false, "clear");
	}
	maria_expect_refused(maria_try(forebay, NULL), 3159, "encrypted connections only");
	forebay_stop(forebay);
}
END_TEST

START_TEST(trust_lets_everybody_in) {
	struct forebay *forebay = start(_i, "auth = trust", NULL);

	try_user(forebay, &WAYS[0], "anybody", "", NULL, true, "trust");
	for (size_t w = 0; w < 3; w++)
		try_user(forebay, &WAYS[w], "app", "wrong", MY_SHA2_NAME, true, "trust");
	forebay_stop(forebay);
}
END_TEST

START_TEST(rsa_key_may_be_configured_and_is_checked) {
	char lines[400];
	const char *ini = harness_path("bad.ini");
	char text[1000];

	ck_assert(harness_command((const char *const[]){"openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt",
							 "rsa_keygen_bits:3072", "-out", harness_path("rsa.pem"), NULL}));
	snprintf(lines, sizeof(lines), "auth = caching_sha2_password\nrsa_key_file = %s", harness_path("rsa.pem"));
	struct forebay *forebay = start(1, lines, NULL);
	try_user(forebay, &WAYS[0], "sha2", NULL, MY_SHA2_NAME, true, "sha2");
	forebay_stop(forebay);
	/* a key of another kind */
	snprintf(text, sizeof(text),
		 "[listener:my]\nprotocol = mysql\nlisten = 127.0.0.1:%d\nrsa_key_file = %s\n[pool:app]\nprotocol = mysql\n"
		 "hosts = 127.0.0.1:1\n",
		 harness_free_port(), harness_path("server.key"));
	harness_write(ini, text);
	ck_assert_int_eq(forebay_exit_code(ini), 2);
}
END_TEST

/* ---- what an attacker sees ---- */

/* Type and length of each packet of a login that fails, with an answer of the right length to whatever is asked. */
static void trace_login(const struct forebay *forebay, const char *user, const char *plugin, char *out, size_t room) {
	static struct my_packet p;
	struct raw raw = raw_connect(forebay);
	uint8_t proof[32];
	struct bytes b = {0};
	size_t at = 0;

	memset(proof, 7, sizeof(proof));
	my_expect(&raw, &p, 10);
	my_put_response(&b, &(struct my_response){.user = user,
						  .plugin = plugin,
						  .proof = proof,
						  .proof_len = strcmp(plugin, MY_SHA2_NAME) == 0 ? 32 : 20});
	my_send(&raw, 1, b.at, b.len);
	bytes_free(&b);
	*out = '\0';
	while (my_read(&raw, &p) == RAW_MESSAGE) {
		/* names differ in length, nothing else may */
		size_t len = p.body[0] == MY_PACKET_ERR ? p.len - strlen(user) : p.len;
		at += (size_t)snprintf(out + at, room - at, " %02x:%zu", p.body[0], len);
		if (p.body[0] == MY_PACKET_AUTH_SWITCH) {
			at += (size_t)snprintf(out + at, room - at, ":%s", (const char *)p.body + 1);
			bool sha2 = strcmp((const char *)p.body + 1, MY_SHA2_NAME) == 0;
			my_send(&raw, (uint8_t)(p.sequence + 1), proof, sha2 ? 32 : 20);
		} else if (p.body[0] == MY_PACKET_MORE_DATA && p.len == 2) {
			at += (size_t)snprintf(out + at, room - at, ":%u", p.body[1]);
			my_send(&raw, (uint8_t)(p.sequence + 1), "\2", 1);
		} else if (p.body[0] == MY_PACKET_MORE_DATA) {
			uint8_t cipher[256] = {1};
			my_send(&raw, (uint8_t)(p.sequence + 1), cipher, sizeof(cipher));
		}
	}
	raw_close(&raw);
}

START_TEST(an_unknown_user_is_asked_as_a_known_one) {
	static const char *const auths[] = {"auth = password", "auth = mysql_native_password", "auth = caching_sha2_password"};
	static const char *const plugins[] = {MY_NATIVE_NAME, MY_SHA2_NAME};
	struct forebay *forebay = start(0, auths[_i], NULL);

	for (size_t i = 0; i < 2; i++) {
		char known[400], empty[400], unknown[400];

		/* the first of them decides how those are asked who do not exist, while they are all alike */
		trace_login(forebay, "app", plugins[i], known, sizeof(known));
		trace_login(forebay, "nobody", plugins[i], unknown, sizeof(unknown));
		trace_login(forebay, "empty", plugins[i], empty, sizeof(empty));
		ck_assert_str_eq(known, unknown);
		ck_assert_str_eq(known, empty);
		ck_assert_msg(strstr(known, "ff:"), "%s", known);
		if (_i == 2) {
			char hashed[400];
			trace_login(forebay, "hashed", plugins[i], hashed, sizeof(hashed));
			ck_assert_str_eq(known, hashed);
		}
	}
	forebay_stop(forebay);
}
END_TEST

/* ---- the greeting, and TLS ---- */

START_TEST(greeting_comes_at_once_though_no_backend_is_there) {
	static struct my_packet p;
	char pool[100];

	snprintf(pool, sizeof(pool), "hosts = 127.0.0.1:%d", harness_free_port());
	struct forebay *forebay = maria_forebay(&(struct forebay_setup){
		.workers = WORKERS(_i), .pool = pool, .listener = "server_version = 8.0.99-mine\ndefault_charset = latin1"});
	struct raw raw = raw_connect(forebay), other = raw_connect(forebay);

	my_expect(&raw, &p, 10);
	ck_assert_uint_eq(p.sequence, 0);
	struct my_greeted g = my_read_greeting(&p);
	ck_assert_str_eq(g.version, "8.0.99-mine");
	ck_assert_uint_eq(g.collation, 8);
	ck_assert_str_eq(g.plugin, MY_NATIVE_NAME);
	ck_assert(g.capabilities & MY_CLIENT_SSL);
	ck_assert(!(g.capabilities & (MY_CLIENT_COMPRESS | MY_CLIENT_ZSTD_COMPRESSION | MY_CLIENT_OPTIONAL_RESULTSET_METADATA)));
	ck_assert_uint_gt(g.thread_id, 0);
	for (size_t i = 0; i < 20; i++)
		ck_assert(g.scramble[i] != 0 && g.scramble[i] < 128);
	my_expect(&other, &p, 10);
	struct my_greeted h = my_read_greeting(&p);
	ck_assert_uint_ne(g.thread_id, h.thread_id);
	ck_assert_mem_ne(g.scramble, h.scramble, 20);
	raw_close(&raw);
	raw_close(&other);
	forebay_stop(forebay);
}
END_TEST

START_TEST(greeting_says_what_the_backend_is_once_that_is_known) {
	struct forebay *forebay = maria_forebay(
		&(struct forebay_setup){.workers = WORKERS(_i), .pool = "user = app\npassword = app-secret\nmin_idle = 1"});
	MYSQL *control = maria_control();

	maria_await(control, "select count(*) > 0 from information_schema.processlist where user = 'app'", "1");
	for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;;) {
		MYSQL *my = maria_connect(forebay, NULL);
		bool same = strstr(mysql_get_server_info(my), "MariaDB");
		ck_assert_msg(same || harness_now_ms() < deadline, "%s", mysql_get_server_info(my));
		mysql_close(my);
		if (same)
			break;
		harness_pause_ms(5);
	}
	mysql_close(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(tls_is_as_the_listener_says) {
	struct maria_login tls = {.tls = true}, local = {.unix_socket = true};
	struct forebay *forebay = start(WORKERS(_i), "tls_mode = require", NULL);

	mysql_close(maria_connect(forebay, &tls));
	mysql_close(maria_connect(forebay, &local));
	maria_expect_refused(maria_try(forebay, NULL), 3159, "encrypted connections only");
	forebay_stop(forebay);
	forebay = start(WORKERS(_i), "tls_mode = disable", NULL);
	maria_expect_refused(maria_try(forebay, &tls), SSL_UNAVAILABLE, "SSL");
	mysql_close(maria_connect(forebay, NULL));
	/* one that begins TLS all the same is told why not */
	struct raw raw = raw_connect(forebay);
	static struct my_packet p;
	uint8_t request[MY_SSL_REQUEST] = {0, 0x0a, 0, 0};
	my_expect(&raw, &p, 10);
	ck_assert(!(my_read_greeting(&p).capabilities & MY_CLIENT_SSL));
	my_send(&raw, 1, request, sizeof(request));
	my_expect_err(&raw, 1043, "does not offer TLS");
	raw_close(&raw);
	forebay_stop(forebay);
}
END_TEST

/* In pieces of this size; TLS then begins in the same segment as the last of them, or not. */
START_TEST(tls_begins_right_behind_the_request_however_it_is_cut) {
	struct forebay *forebay = start(WORKERS(_i), NULL, NULL);

	for (size_t size = 1; size <= 36; size += size < 8 ? 1 : 7) {
		struct raw raw = raw_connect(forebay);
		static struct my_packet p;
		uint8_t packet[36] = {MY_SSL_REQUEST, 0, 0, 1};
		struct my_builder b = my_builder(NULL);
		struct bytes response = {0};

		my_put_u32(&b, MY_USUAL | MY_CLIENT_SSL);
		memcpy(packet + 4, buf_bytes(&b.buf), 4);
		my_builder_release(&b);
		my_expect(&raw, &p, 10);
		struct my_greeted g = my_read_greeting(&p);
		for (size_t at = 0; at < sizeof(packet); at += size)
			raw_send(&raw, packet + at, size < sizeof(packet) - at ? size : sizeof(packet) - at);
		ck_assert(raw_tls(&raw, NULL));
		uint8_t key[MY_SHA1], proof[MY_SHA1];
		my_native_key("app-secret", key);
		my_native_answer(key, g.scramble, proof);
		my_put_response(&response, &(struct my_response){.capabilities = MY_USUAL | MY_CLIENT_SSL,
								 .proof = proof,
								 .proof_len = sizeof(proof)});
		my_send(&raw, 2, response.at, response.len);
		bytes_free(&response);
		my_expect(&raw, &p, MY_PACKET_OK);
		ck_assert_uint_eq(p.sequence, 3);
		raw_close(&raw);
	}
	forebay_stop(forebay);
}
END_TEST

/* ---- clients of old ---- */

START_TEST(a_client_that_knows_no_plugins_gets_in_by_the_native_one_only) {
	struct forebay *forebay = start(WORKERS(_i), NULL, NULL);
	static const char *const users[] = {"app", "hashed", "sha2", "nobody"};

	for (size_t i = 0; i < 4; i++) {
		struct raw raw = raw_connect(forebay);
		static struct my_packet p;
		struct bytes b = {0};
		uint8_t key[MY_SHA1], proof[MY_SHA1];
		char password[40];

		my_expect(&raw, &p, 10);
		struct my_greeted g = my_read_greeting(&p);
		snprintf(password, sizeof(password), "%s-secret", users[i]);
		my_native_key(password, key);
		my_native_answer(key, g.scramble, proof);
		my_put_response(&b, &(struct my_response){.capabilities = MY_USUAL & ~(uint32_t)MY_CLIENT_PLUGIN_AUTH,
							  .user = users[i],
							  .proof = proof,
							  .proof_len = sizeof(proof)});
		my_send(&raw, 1, b.at, b.len);
		bytes_free(&b);
		if (i < 2) {
			my_expect(&raw, &p, MY_PACKET_OK);
		} else {
			/* who is to prove himself otherwise is told so; one who does not exist is told either */
			my_expect(&raw, &p, MY_PACKET_ERR);
			struct my_err err;
			ck_assert(my_read_err(p.body, p.len, &err));
			ck_assert_msg(err.code == 1251 || (i == 3 && err.code == 1045), "%u", err.code);
		}
		raw_close(&raw);
	}
	forebay_stop(forebay);
}
END_TEST

/* ---- which pool ---- */

START_TEST(pool_is_by_schema_then_user_then_listener) {
	static const char more[] = "[pool:other]\nprotocol = mysql\nhosts = 127.0.0.1:1\nmin_idle = 0\nmax_connections = 1\n"
				   "[pool:users]\nprotocol = mysql\nhosts = 127.0.0.1:1\nmin_idle = 0\nmax_connections = 1\n"
				   "[pool:pg]\nhosts = 127.0.0.1:1\nmin_idle = 0\n"
				   "[user:pooled]\npassword = pooled-secret\npool = users\n";
	struct forebay *forebay = start(WORKERS(_i), NULL, more);
	struct maria_login other = {.database = "other"}, pooled = {.user = "pooled", .database = ""},
			   pooled_other = {.user = "pooled", .database = "other"}, strange = {.database = "strange"},
			   pg = {.database = "pg"};

	/* each pool but the default one takes one client, and its error says which it is */
	MYSQL *in_other = maria_connect(forebay, &other), *in_users = maria_connect(forebay, &pooled);
	maria_expect_refused(maria_try(forebay, &pooled_other), 1040, "pool \"other\"");
	maria_expect_refused(maria_try(forebay, &pooled), 1040, "pool \"users\"");
	mysql_close(maria_connect(forebay, &strange)); /* to the listener's */
	mysql_close(maria_connect(forebay, &pg));      /* a pool of the other protocol bears no name here */
	mysql_close(in_other);
	mysql_close(in_users);
	forebay_stop(forebay);

	forebay = start(WORKERS(_i), "default_pool =", more);
	maria_expect_refused(maria_try(forebay, &strange), 1049, "no pool");
	maria_expect_refused(maria_try(forebay, &(struct maria_login){.database = ""}), 1046, "no pool");
	/* whoever has not proved who he is learns nothing of pools */
	maria_expect_refused(maria_try(forebay, &(struct maria_login){.database = "strange", .password = "wrong"}), 1045,
			     "Access denied for user 'app'@'127.0.0.1' (using password: YES)");
	forebay_stop(forebay);
}
END_TEST

START_TEST(wildcard_pool_bears_every_schema) {
	struct forebay *forebay = start(WORKERS(_i), "default_pool =",
					"[pool:*]\nprotocol = mysql\nhosts = 127.0.0.1:1\nmin_idle = 0\nmax_connections = 1\n");
	struct maria_login made = {.database = "made"};
	MYSQL *my = maria_connect(forebay, &made);

	maria_expect_refused(maria_try(forebay, &made), 1040, "pool \"made\"");
	mysql_close(my);
	forebay_stop(forebay);
}
END_TEST

/* ---- limits ---- */

START_TEST(beyond_max_clients_an_error_comes_in_place_of_the_greeting) {
	struct forebay *forebay = maria_forebay(&(struct forebay_setup){.workers = WORKERS(_i), .process = "max_clients = 1"});
	/* the harness has looked whether it listens: that client may not have gone yet */
	MYSQL *my = NULL;
	for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS; !my || mysql_errno(my) != 0;) {
		ck_assert(harness_now_ms() < deadline);
		if (my)
			mysql_close(my);
		my = maria_try(forebay, NULL);
	}
	struct raw raw = raw_connect(forebay);
	static struct my_packet p;

	my_expect(&raw, &p, MY_PACKET_ERR);
	ck_assert_uint_eq(p.sequence, 0);
	ck_assert_uint_ne(p.body[3], '#'); /* nothing is agreed on yet: no sqlstate */
	raw_close(&raw);
	maria_expect_refused(maria_try(forebay, NULL), 1040, "max_clients");
	mysql_close(my);
	forebay_stop(forebay);
}
END_TEST

START_TEST(one_that_says_nothing_is_let_go) {
	struct forebay *forebay =
		maria_forebay(&(struct forebay_setup){.workers = WORKERS(_i), .process = "client_login_timeout = 200ms"});
	struct raw silent = raw_connect(forebay), slow = raw_connect(forebay);
	static struct my_packet p;
	struct bytes b = {0};

	my_expect(&silent, &p, 10);
	my_expect(&slow, &p, 10);
	my_put_response(&b, &(struct my_response){0});
	/* a half of its packet, then nothing */
	uint8_t head[MY_HEADER];
	my_write_header(head, (uint32_t)b.len, 1);
	raw_send(&slow, head, sizeof(head));
	raw_send(&slow, b.at, b.len / 2);
	bytes_free(&b);
	my_expect_err(&silent, 1043, "client_login_timeout");
	my_expect_err(&slow, 1043, "client_login_timeout");
	my_expect_closed(&silent);
	my_expect_closed(&slow);
	raw_close(&silent);
	raw_close(&slow);
	forebay_stop(forebay);
}
END_TEST

/* ---- what is malformed ---- */

static void send_and_expect_end(const struct forebay *forebay, const void *packets, size_t len) {
	struct raw raw = raw_connect(forebay);
	static struct my_packet p;

	my_expect(&raw, &p, 10);
	raw_send(&raw, packets, len);
	shutdown(raw.fd, SHUT_WR);
	my_expect_closed(&raw);
	raw_close(&raw);
}

START_TEST(malformed_logins_are_survived) {
	struct forebay *forebay = start(WORKERS(_i), _i ? NULL : "tls_mode = disable", NULL);
	struct bytes body = {0}, packet = {0};
	uint32_t capabilities = MY_USUAL | MY_CLIENT_PLUGIN_AUTH_LENENC | MY_CLIENT_CONNECT_ATTRS;

	my_put_response(&body, &(struct my_response){.capabilities = capabilities, .proof = "12345678901234567890", .proof_len = 20,
						     .schema = "app"});
	bytes_add(&body, "\x12\x0cprogram_name\4test", 19);
	/* its packet ends too early, and says so */
	for (size_t len = 0; len < body.len; len++) {
		packet.len = 0;
		my_put_packet(&packet, 1, body.at, len);
		send_and_expect_end(forebay, packet.at, packet.len);
	}
	/* lengths that lie */
	for (size_t at = 0; at < body.len; at++) {
		static const uint8_t values[] = {0, 0xfb, 0xfc, 0xfe, 0xff};
		for (size_t v = 0; v < sizeof(values); v += _i ? 2 : 1) {
			packet.len = 0;
			my_put_packet(&packet, 1, body.at, body.len);
			packet.at[MY_HEADER + at] = values[v];
			send_and_expect_end(forebay, packet.at, packet.len);
		}
	}
	/* other protocols, long packets, wrong sequences */
	static const char *const others[] = {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
					     "\xff\xff\xff\x01zzzz", "\x01", "\x20\x00\x00\x00zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"};
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		send_and_expect_end(forebay, others[i], i == 1 ? 11 : i == 2 ? 8 : i == 4 ? 36 : strlen(others[i]));
	bytes_free(&body);
	bytes_free(&packet);
	mysql_close(maria_connect(forebay, NULL));
	forebay_stop(forebay);
}
END_TEST

START_TEST(login_cut_at_every_byte_goes_the_same_way) {
	struct forebay *forebay = start(WORKERS(_i), NULL, NULL);
	static struct my_packet p;
	size_t len = 2;

	for (size_t cut = 1; cut < len; cut++) {
		struct raw raw = raw_connect(forebay);
		struct bytes body = {0}, packet = {0};
		uint8_t key[MY_SHA1], proof[MY_SHA1];

		my_expect(&raw, &p, 10);
		struct my_greeted g = my_read_greeting(&p);
		my_native_key("app-secret", key);
		my_native_answer(key, g.scramble, proof);
		my_put_response(&body, &(struct my_response){.proof = proof, .proof_len = sizeof(proof), .schema = "app"});
		my_put_packet(&packet, 1, body.at, body.len);
		len = packet.len;
		raw_send(&raw, packet.at, cut);
		raw_send(&raw, packet.at + cut, packet.len - cut);
		my_expect(&raw, &p, MY_PACKET_OK);
		bytes_free(&body);
		bytes_free(&packet);
		raw_close(&raw);
	}
	ck_assert_uint_gt(len, 60);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("logging in to MySQL");
	TCase *tc = tcase_create("login");

	maria_begin(NULL);
	store_secrets();
	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, the_right_password_lets_in_by_every_method_and_no_other_does, 0, 3);
	LOOP(tc, clear_passwords_are_taken_where_nobody_can_listen);
	LOOP(tc, trust_lets_everybody_in);
	tcase_add_test(tc, rsa_key_may_be_configured_and_is_checked);
	tcase_add_loop_test(tc, an_unknown_user_is_asked_as_a_known_one, 0, 3);
	LOOP(tc, greeting_comes_at_once_though_no_backend_is_there);
	LOOP(tc, greeting_says_what_the_backend_is_once_that_is_known);
	LOOP(tc, tls_is_as_the_listener_says);
	LOOP(tc, tls_begins_right_behind_the_request_however_it_is_cut);
	LOOP(tc, a_client_that_knows_no_plugins_gets_in_by_the_native_one_only);
	LOOP(tc, pool_is_by_schema_then_user_then_listener);
	LOOP(tc, wildcard_pool_bears_every_schema);
	LOOP(tc, beyond_max_clients_an_error_comes_in_place_of_the_greeting);
	LOOP(tc, one_that_says_nothing_is_let_go);
	LOOP(tc, malformed_logins_are_survived);
	LOOP(tc, login_cut_at_every_byte_goes_the_same_way);
	suite_add_tcase(suite, tc);
	return harness_run(suite);
}
