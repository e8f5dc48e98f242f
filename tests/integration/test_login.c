/* How clients get in and how they do not: protocol versions, TLS, every authentication method, both sides. */
#include <arpa/inet.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "query.h"
#include "wire.h"

enum { SSL_REQUEST = 80877103, GSSENC_REQUEST = 80877104 };

static struct forebay *start(int i, const char *listener, const char *pool, const char *more) {
	return forebay_start(&(struct forebay_setup){
		.workers = WORKERS(i), .listener = listener, .pool = pool, .more = more});
}

static void expect_works(const struct forebay *forebay, const char *words) {
	PGconn *conn = connect_with(forebay, "%s", words);

	expect_value(conn, "select 'in'", "in");
	PQfinish(conn);
}

/* Logs in by hand, announcing this version and one option, and counts NegotiateProtocolVersion. */
static int negotiate(const struct forebay *forebay, int version, const char *option, struct message *v, size_t *key_len) {
	static char copy[1000];
	struct raw raw = raw_connect(forebay);
	struct bytes b = {0};
	struct message m;
	int count = 0;

	put_startup(&b, version, "user", "app", "database", "app", option, option ? "1" : NULL, NULL);
	raw_send_bytes(&raw, &b);
	for (;;) {
		ck_assert_int_eq(raw_read(&raw, &m), RAW_MESSAGE);
		ck_assert_msg(m.type != 'E', "%s", error_field(&m, 'M'));
		if (m.type == 'v') {
			ck_assert_uint_lt(m.len, sizeof(copy));
			memcpy(copy, m.body, m.len);
			*v = (struct message){.type = 'v', .len = m.len, .body = (const uint8_t *)copy};
			count++;
		}
		if (m.type == 'K')
			*key_len = m.len - 4;
		if (m.type == 'Z')
			break;
	}
	raw_put(&raw, 'Q', "s", "select 1");
	raw_expect(&raw, 'T');
	raw_expect(&raw, 'D');
	raw_close(&raw);
	return count;
}

static uint32_t u32_at(const struct message *m, size_t offset) {
	uint32_t v;

	memcpy(&v, m->body + offset, 4);
	return ntohl(v);
}

START_TEST(protocol_version_is_negotiated_exactly_once) {
	struct forebay *forebay = start(_i, "auth = trust", NULL, NULL);
	struct message v;
	size_t key = 0;

	if (harness_direct())
		return;
	ck_assert_int_eq(negotiate(forebay, 3 << 16, NULL, &v, &key), 0);
	ck_assert_uint_eq(key, 4);
	ck_assert_int_eq(negotiate(forebay, 3 << 16 | 2, NULL, &v, &key), 0);
	ck_assert_uint_gt(key, 4);
	ck_assert_uint_le(key, 256);

	ck_assert_int_eq(negotiate(forebay, 3 << 16 | 9999, "_pq_.test_protocol_negotiation", &v, &key), 1);
	ck_assert_uint_eq(u32_at(&v, 0), 3 << 16 | 2);
	ck_assert_uint_eq(u32_at(&v, 4), 1);
	ck_assert_str_eq((const char *)v.body + 8, "_pq_.test_protocol_negotiation");
	ck_assert_uint_gt(key, 4);

	ck_assert_int_eq(negotiate(forebay, 3 << 16, "_pq_.unheard_of", &v, &key), 1);
	ck_assert_uint_eq(u32_at(&v, 4), 1);
	ck_assert_str_eq((const char *)v.body + 8, "_pq_.unheard_of");
	ck_assert_uint_eq(key, 4);

	ck_assert_int_eq(negotiate(forebay, 3 << 16 | 3, NULL, &v, &key), 1);
	ck_assert_uint_eq(u32_at(&v, 0), 3 << 16 | 2);
	ck_assert_uint_eq(u32_at(&v, 4), 0);
	forebay_stop(forebay);
}
END_TEST

START_TEST(other_major_versions_are_refused) {
	static const int versions[] = {2 << 16, 4 << 16, 0, 1 << 16, 0x7fff << 16};
	struct forebay *forebay = start(_i, "auth = trust", NULL, NULL);

	for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
		struct raw raw = raw_connect(forebay);
		struct bytes b = {0};

		put_startup(&b, versions[i], "user", "app", NULL);
		raw_send_bytes(&raw, &b);
		raw_expect_closed(&raw);
		raw_close(&raw);
	}
	forebay_stop(forebay);
}
END_TEST

START_TEST(encryption_requests_are_answered) {
	struct forebay *forebay = start(_i, "auth = trust", NULL, NULL);
	struct raw raw;

	if (harness_direct())
		return;
	/* GSSENCRequest: no, and the connection goes on. */
	raw = raw_connect(forebay);
	raw_put(&raw, 0, "i", GSSENC_REQUEST);
	ck_assert_int_eq(raw_byte(&raw), 'N');
	raw_put(&raw, 0, "i", SSL_REQUEST);
	ck_assert_int_eq(raw_byte(&raw), 'S');
	ck_assert(raw_tls(&raw, NULL));
	raw_login(&raw);
	raw_close(&raw);

	/* Direct TLS needs ALPN, as in PostgreSQL 17. */
	raw = raw_connect(forebay);
	ck_assert(raw_tls(&raw, "postgresql"));
	raw_login(&raw);
	raw_close(&raw);
	raw = raw_connect(forebay);
	if (raw_tls(&raw, NULL))
		raw_expect_closed(&raw);
	raw_close(&raw);
	raw = raw_connect(forebay);
	if (raw_tls(&raw, "http/1.1"))
		raw_expect_closed(&raw);
	raw_close(&raw);

	/* Plaintext that was sent along with the request must not be taken for what comes under TLS. */
	raw = raw_connect(forebay);
	{
		struct bytes b = {0};

		put_message(&b, 0, "i", SSL_REQUEST);
		put_startup(&b, 3 << 16, "user", "app", "database", "app", NULL);
		raw_send_bytes(&raw, &b);
		raw_expect_closed(&raw);
	}
	raw_close(&raw);
	forebay_stop(forebay);
}
END_TEST

START_TEST(listener_without_tls_says_no) {
	struct forebay *forebay = start(_i, "auth = trust\ntls_mode = disable", NULL, NULL);
	struct raw raw;

	if (harness_direct())
		return;
	raw = raw_connect(forebay);
	raw_put(&raw, 0, "i", SSL_REQUEST);
	ck_assert_int_eq(raw_byte(&raw), 'N');
	raw_login(&raw);
	raw_close(&raw);
	expect_refused(try_connect(forebay, "sslmode=require"), "SSL");
	expect_works(forebay, "sslmode=prefer");
	forebay_stop(forebay);
}
END_TEST

START_TEST(tls_modes_mean_what_they_mean_in_libpq) {
	struct forebay *forebay = start(_i, "tls_mode = require", NULL, NULL);
	const char *ca = harness_path("ca.crt"), *other = harness_path("other-ca.crt");
	PGconn *conn;
	char words[1400];

	if (harness_direct())
		return;
	expect_refused(try_connect(forebay, "sslmode=disable"), "encrypted");
	expect_works(forebay, "sslmode=prefer");
	expect_works(forebay, "sslmode=require");
	snprintf(words, sizeof(words), "sslmode=verify-ca sslrootcert=%s", ca);
	expect_works(forebay, words);
	snprintf(words, sizeof(words), "sslmode=verify-full sslrootcert=%s", ca);
	expect_works(forebay, words);
	snprintf(words, sizeof(words), "sslmode=verify-full host=localhost sslrootcert=%s", ca);
	expect_works(forebay, words);
	expect_refused(try_connect(forebay, "sslmode=verify-full sslrootcert=%s", other), "certificate verify failed");
	conn = connect_with(forebay, "sslmode=require channel_binding=require");
	ck_assert_int_eq(PQsslInUse(conn), 1);
	ck_assert_str_ge(PQsslAttribute(conn, "protocol"), "TLSv1.2");
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

START_TEST(wrong_secrets_users_and_databases_are_refused) {
	static const char *const methods[] = {"scram-sha-256", "md5", "password"};
	struct forebay *forebay;
	PGconn *conn;

	for (size_t i = 0; i < 3; i++) {
		char listener[64];

		snprintf(listener, sizeof(listener), "auth = %s", methods[i]);
		forebay = start(_i, listener, NULL, NULL);
		conn = connect_app(forebay);
		expect_value(conn, "select 1", "1");
		expect_refused(try_connect(forebay, "password=wrong"), "password authentication failed for user \"app\"");
		expect_refused(try_connect(forebay, "password=''"), "");
		expect_refused(try_connect(forebay, "user=nobody"),
			       "password authentication failed for user \"nobody\"");
		if (!harness_direct()) {
			/* TLS apart, the same. */
			expect_refused(try_connect(forebay, "sslmode=require password=wrong"),
				       "password authentication failed for user \"app\"");
			expect_refused(try_connect(forebay, "dbname=nothing"), "nothing");
		}
		expect_value(conn, "select 2", "2");
		PQfinish(conn);
		forebay_stop(forebay);
		if (harness_direct())
			return;
	}
}
END_TEST

/* Starts SCRAM as this user; copies the server's first message. */
static void scram_first(const struct forebay *forebay, const char *user, char *first, size_t size) {
	static const char client_first[] = "n,,n=,r=abcdefghijklmnopqrstuvwx";
	struct raw raw = raw_connect(forebay);
	struct bytes b = {0};
	struct message m;

	put_startup(&b, 3 << 16, "user", user, "database", "app", NULL);
	raw_send_bytes(&raw, &b);
	m = raw_expect(&raw, 'R');
	ck_assert_uint_eq(u32_at(&m, 0), 10);
	ck_assert_str_eq((const char *)m.body + 4, "SCRAM-SHA-256");
	raw_put(&raw, 'p', "sib", "SCRAM-SHA-256", (int)strlen(client_first), strlen(client_first), client_first);
	m = raw_expect(&raw, 'R');
	ck_assert_uint_eq(u32_at(&m, 0), 11);
	snprintf(first, size, "%.*s", (int)m.len - 4, (const char *)m.body + 4);
	raw_close(&raw);
}

START_TEST(unknown_user_gets_the_same_exchange_as_a_known_one) {
	struct forebay *forebay = start(_i, NULL, NULL, NULL);
	char app[400], one[400], again[400], two[400];

	if (harness_direct())
		return;
	scram_first(forebay, "app", app, sizeof(app));
	scram_first(forebay, "nobody", one, sizeof(one));
	scram_first(forebay, "nobody", again, sizeof(again));
	scram_first(forebay, "somebody", two, sizeof(two));
	ck_assert_ptr_nonnull(strstr(one, ",s="));
	ck_assert_ptr_nonnull(strstr(two, ",s="));
	/* The salt of a name never changes, or it would betray that there is no such user. */
	ck_assert_str_eq(strstr(one, ",s="), strstr(again, ",s="));
	ck_assert_str_ne(strstr(one, ",s="), strstr(two, ",s="));
	ck_assert_str_eq(strstr(one, ",i="), strstr(app, ",i="));
	ck_assert_uint_eq(strlen(strstr(one, ",s=")), strlen(strstr(app, ",s=")));
	forebay_stop(forebay);
}
END_TEST

START_TEST(refusals_carry_their_sqlstate) {
	struct forebay *forebay = start(_i, "auth = password", NULL, NULL);
	static const struct {
		const char *user, *database, *password, *sqlstate;
	} cases[] = {
		{"app", "app", "wrong", "28P01"},
		{"nobody", "app", "app-secret", "28P01"},
		{"app", "nothing", "app-secret", "3D000"},
	};

	if (harness_direct())
		return;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct raw raw = raw_connect(forebay);
		struct bytes b = {0};
		struct message m;

		put_startup(&b, 3 << 16, "user", cases[i].user, "database", cases[i].database, NULL);
		raw_send_bytes(&raw, &b);
		m = raw_until(&raw, 'R');
		ck_assert_uint_eq(u32_at(&m, 0), 3);
		raw_put(&raw, 'p', "s", cases[i].password);
		m = raw_until(&raw, 'E');
		ck_assert_str_eq(error_field(&m, 'S'), "FATAL");
		ck_assert_str_eq(error_field(&m, 'V'), "FATAL");
		ck_assert_str_eq(error_field(&m, 'C'), cases[i].sqlstate);
		raw_expect_closed(&raw);
		raw_close(&raw);
	}
	forebay_stop(forebay);
}
END_TEST

START_TEST(stored_secrets_pass_through_to_the_server) {
	PGconn *control = connect_control();
	char *scram = query(control, "select rolpassword from pg_authid where rolname = 'app'");
	char *md5 = query(control, "select rolpassword from pg_authid where rolname = 'md5user'");
	char more[1000], list[1000];
	struct forebay *forebay;

	if (harness_direct())
		return;
	/* No plaintext anywhere: what the client proves is what Forebay logs in with. */
	snprintf(more, sizeof(more), "[user:app]\npassword = %s\n[user:md5user]\npassword = %s\n", scram, md5);
	forebay = forebay_start(&(struct forebay_setup){
		.workers = WORKERS(_i), .no_default_users = true, .more = more, .pool = "max_size = 2"});
	expect_works(forebay, "");
	expect_works(forebay, "sslmode=require channel_binding=require");
	expect_refused(try_connect(forebay, "password=wrong"), "password authentication failed");
	forebay_stop(forebay);
	forebay = forebay_start(&(struct forebay_setup){.workers = WORKERS(_i),
							.no_default_users = true,
							.more = more,
							.listener = "auth = md5",
							.pool = "max_size = 2"});
	expect_works(forebay, "user=md5user password=md5user-secret");
	expect_refused(try_connect(forebay, "user=md5user password=wrong"), "password authentication failed");
	/* As in PostgreSQL, a SCRAM secret makes md5 mean SCRAM. */
	expect_works(forebay, "");
	forebay_stop(forebay);

	/* The same from an auth_file. */
	snprintf(list, sizeof(list), "\"app\" \"%s\"\n\"md5user\" \"%s\"\n\"plainuser\" \"plainuser-secret\"\n", scram,
		 md5);
	harness_write(harness_path("users.txt"), list);
	snprintf(more, sizeof(more), "auth_file = %s", harness_path("users.txt"));
	forebay = forebay_start(&(struct forebay_setup){
		.workers = WORKERS(_i), .no_default_users = true, .process = more, .listener = "auth = md5"});
	expect_works(forebay, "");
	expect_works(forebay, "user=md5user password=md5user-secret");
	expect_works(forebay, "user=plainuser password=plainuser-secret");
	expect_refused(try_connect(forebay, "user=trusted password=x"), "password authentication failed");
	forebay_stop(forebay);
	free(scram);
	free(md5);
	PQfinish(control);
}
END_TEST

START_TEST(secrets_are_looked_up_on_the_server) {
	static const char pool[] =
		"auth_query = select rolname, rolpassword from pg_catalog.pg_authid where rolname = $1 and rolcanlogin "
		"and (rolvaliduntil is null or rolvaliduntil > pg_catalog.now())\n"
		"auth_user = authuser\nauth_password = authuser-secret\n";
	PGconn *control = connect_control();
	struct forebay *forebay;

	if (harness_direct())
		return;
	execute(control, "drop role if exists expired, fresh");
	execute(control, "create role expired login password 'expired-secret' valid until '2001-01-01'");
	execute(control, "create role fresh login password 'fresh-secret' valid until '2101-01-01'");
	forebay = forebay_start(
		&(struct forebay_setup){.workers = WORKERS(_i), .no_default_users = true, .pool = pool});
	expect_works(forebay, "");
	expect_works(forebay, "user=fresh password=fresh-secret");
	expect_works(forebay, "user=fresh password=fresh-secret sslmode=require channel_binding=require");
	expect_refused(try_connect(forebay, "user=fresh password=wrong"), "password authentication failed");
	expect_refused(try_connect(forebay, "user=expired password=expired-secret"), "password authentication failed");
	expect_refused(try_connect(forebay, "user=missing password=x"),
		       "password authentication failed for user \"missing\"");
	expect_refused(try_connect(forebay, "user='x\\' or true --' password=x"), "password authentication failed");
	/* Nothing that a client sends is applied to the connection that looks up. */
	execute(control, "drop schema if exists trap cascade; create schema trap; grant usage on schema trap to public; "
			 "create function trap.now() returns timestamptz language sql as $$select 'infinity'::timestamptz$$");
	expect_works(forebay, "user=fresh password=fresh-secret options='-c search_path=trap,pg_catalog'");
	execute(control, "drop schema trap cascade");
	forebay_stop(forebay);
	execute(control, "drop role expired, fresh");
	PQfinish(control);
}
END_TEST

/* Such a function gives a row whomever it is asked for: of NULLs where there is nobody. */
START_TEST(a_function_that_returns_a_record_looks_up_secrets) {
	static const char pool[] = "auth_query = select name, secret from public.look_up($1)\n"
				   "auth_user = authuser\nauth_password = authuser-secret\n";
	PGconn *control = connect_control();
	struct forebay *forebay;

	if (harness_direct())
		return;
	execute(control, "create or replace function public.look_up(asked text, out name text, out secret text) returns record "
			 "language sql security definer set search_path = pg_catalog as "
			 "$$select rolname::text, rolpassword from pg_authid where rolname = asked union all "
			 "select asked, '' where asked = 'hollow'$$");
	forebay = forebay_start(
		&(struct forebay_setup){.workers = WORKERS(_i), .no_default_users = true, .pool = pool});
	expect_works(forebay, "");
	expect_refused(try_connect(forebay, "user=missing password=x"),
		       "password authentication failed for user \"missing\"");
	/* an empty secret is none, not a password that everybody knows */
	expect_refused(try_connect(forebay, "user=hollow password=x"),
		       "password authentication failed for user \"hollow\"");
	forebay_await_log(forebay, "the user has no password");
	forebay_stop(forebay);
	execute(control, "drop function public.look_up");
	PQfinish(control);
}
END_TEST

START_TEST(client_certificates_name_their_user) {
	const char *client = harness_path("client"), *mapped = harness_path("mapped"), *ident = harness_path("ident.conf");
	static const char pool[] = "user = trusted";
	struct forebay *forebay;
	char listener[700];

	if (harness_direct())
		return;
	forebay = start(_i, "auth = cert\ntls_mode = verify-ca", pool, NULL);
	expect_refused(try_connect(forebay, "user=certuser sslmode=require sslcert=none sslkey=none"), "");
	{
		PGconn *conn = connect_with(forebay, "user=certuser sslmode=require sslcert=%s.crt sslkey=%s.key", client,
					    client);

		expect_value(conn, "select current_user", "trusted");
		PQfinish(conn);
	}
	expect_refused(try_connect(forebay, "user=app sslmode=require sslcert=%s.crt sslkey=%s.key", client, client),
		       "app");
	expect_refused(try_connect(forebay, "user=certuser sslmode=require sslcert=%s.crt sslkey=%s.key", mapped, mapped),
		       "certuser");
	forebay_stop(forebay);

	harness_write(ident, "# map, common name, user\npeople \"Some Body\" app\npeople /^cert(.*)$ \\1\n");
	snprintf(listener, sizeof(listener), "auth = cert\ntls_mode = verify-ca\nident_file = %s\nuser_map = people\n", ident);
	forebay = start(_i, listener, pool, NULL);
	{
		PGconn *conn = connect_with(forebay, "user=app sslmode=require sslcert=%s.crt sslkey=%s.key", mapped, mapped);

		expect_value(conn, "select 1", "1");
		PQfinish(conn);
	}
	expect_refused(try_connect(forebay, "user=plainuser sslmode=require sslcert=%s.crt sslkey=%s.key", mapped, mapped),
		       "plainuser");
	forebay_stop(forebay);
}
END_TEST

/* known_users_only: a certificate proves who a client is, and auth_query whether there is such a user. */
START_TEST(certificates_of_unknown_users_are_not_enough) {
	static const char *const queries[] = {
		"", "auth_query = select usename, passwd from pg_shadow where usename = $1\nauth_user = authuser\n"
		    "auth_password = authuser-secret\n"};
	char client[300], mapped[300], ident[300], listener[700], pool[400];

	if (harness_direct())
		return;
	snprintf(client, sizeof(client), "sslcert=%s.crt sslkey=%s.key", harness_path("client"), harness_path("client"));
	snprintf(mapped, sizeof(mapped), "sslcert=%s.crt sslkey=%s.key", harness_path("mapped"), harness_path("mapped"));
	snprintf(ident, sizeof(ident), "%s", harness_path("known.conf"));
	harness_write(ident, "people \"Some Body\" ghost\npeople \"Some Body\" app\npeople /^(.*)$ \\1\n");
	snprintf(listener, sizeof(listener),
		 "auth = cert\ntls_mode = verify-ca\nident_file = %s\nuser_map = people\nknown_users_only = true\n", ident);
	for (int asked = 0; asked < 2; asked++) {
		snprintf(pool, sizeof(pool), "user = app\npassword = app-secret\n%s", queries[asked]);
		struct forebay *forebay = start(1, listener, pool, NULL);
		/* of the configuration */
		PGconn *conn = connect_with(forebay, "user=app sslmode=require %s", mapped);
		expect_value(conn, "select 1", "1");
		PQfinish(conn);
		/* of the database */
		conn = try_connect(forebay, "user=certuser sslmode=require %s", client);
		if (asked) {
			expect_value(conn, "select current_user", "app");
			PQfinish(conn);
		} else {
			expect_refused(conn, "certificate authentication failed for user \"certuser\"");
		}
		/* of neither; and one that is known, with another's certificate */
		expect_refused(try_connect(forebay, "user=ghost sslmode=require %s", mapped),
			       "certificate authentication failed for user \"ghost\"");
		expect_refused(try_connect(forebay, "user=certuser sslmode=require %s", mapped),
			       "certificate authentication failed for user \"certuser\"");
		forebay_stop(forebay);
	}
}
END_TEST

START_TEST(hba_file_picks_the_method) {
	char *hba = strdup(harness_path("hba.conf")); /* its own is one of the last few */
	static const char *const broken[] = {
		"host all all 127.0.0.1/33 trust\n", "host all all 127.0.0.1/32 nonsense\n", "host all all\n",
		"hots all all 127.0.0.1/32 trust\n",
	};
	struct forebay *forebay;
	char listener[700];

	if (harness_direct())
		return;
	harness_write(hba, "# as PostgreSQL's\n"
			   "local   all        app                    trust\n"
			   "host    all        trusted  127.0.0.1/32  trust\n"
			   "hostssl all        plainuser 127.0.0.0 255.0.0.0 password\n"
			   "host    all        plainuser 0.0.0.0/0    reject\n"
			   "host    other,\"app\" md5user samehost     md5\n"
			   "host    all        app      10.0.0.0/8    trust\n"
			   "host    all        app      127.0.0.1/32  scram-sha-256\n");
	snprintf(listener, sizeof(listener), "auth = hba\nhba_file = %s\n", hba);
	forebay = start(_i, listener, NULL, NULL);
	expect_works(forebay, "user=trusted password=whatever");
	expect_works(forebay, "user=plainuser password=plainuser-secret sslmode=require");
	expect_refused(try_connect(forebay, "user=plainuser password=plainuser-secret sslmode=disable"), "plainuser");
	expect_works(forebay, "user=md5user password=md5user-secret");
	expect_works(forebay, "");
	expect_refused(try_connect(forebay, "password=wrong"), "password authentication failed");
	expect_refused(try_connect(forebay, "user=ops password=ops-secret dbname=app"), "ops");
	{
		PGconn *conn = connect_with(forebay, "host=%s password=not-needed", forebay->socket_dir);

		expect_value(conn, "select 1", "1");
		PQfinish(conn);
	}
	forebay_stop(forebay);
	/* of users that nobody knows, trust and peer let in none where it is said so */
	struct passwd *self = getpwuid(geteuid());
	char words[300];
	harness_write(hba, "local all all peer\nhost all all 127.0.0.1/32 trust\n");
	for (int known_only = 0; known_only < 2; known_only++) {
		snprintf(listener, sizeof(listener), "auth = hba\nhba_file = %s\nknown_users_only = %s\n", hba,
			 known_only ? "true" : "false");
		forebay = start(_i, listener, "user = app\npassword = app-secret\n", NULL);
		expect_works(forebay, "user=trusted");
		snprintf(words, sizeof(words), "host=%s user=%s", forebay->socket_dir, self->pw_name);
		for (int i = 0; i < 2; i++) {
			PGconn *conn = try_connect(forebay, "%s", i ? words : "user=stranger");
			if (known_only) {
				expect_refused(conn, i ? "peer authentication failed" : "trust authentication failed");
			} else {
				expect_value(conn, "select current_user", "app");
				PQfinish(conn);
			}
		}
		forebay_stop(forebay);
	}
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		char ini[1400], *path = strdup(harness_path("broken.ini"));

		harness_write(hba, broken[i]);
		snprintf(ini, sizeof(ini),
			 "[listener:pg]\nprotocol = postgresql\nlisten = 127.0.0.1:%d\nauth = hba\nhba_file = %s\n"
			 "[pool:app]\nprotocol = postgresql\nhosts = 127.0.0.1:1\n",
			 harness_free_port(), hba);
		harness_write(path, ini);
		ck_assert_msg(forebay_exit_code(path) > 0, "the HBA line was not refused: %s", broken[i]);
		free(path);
	}
	free(hba);
}
END_TEST

START_TEST(servers_are_logged_in_by_every_method) {
	static const char *const users[] = {"app", "md5user", "plainuser", "trusted"};

	if (harness_direct())
		return;
	for (size_t i = 0; i < 4; i++) {
		char pool[200];
		struct forebay *forebay;
		PGconn *conn;

		snprintf(pool, sizeof(pool), "user = %s\npassword = %s-secret\n", users[i], users[i]);
		forebay = start(_i, "auth = trust", pool, NULL);
		conn = connect_app(forebay);
		expect_value(conn, "select current_user", users[i]);
		PQfinish(conn);
		forebay_stop(forebay);
	}
}
END_TEST

START_TEST(servers_are_reached_over_tls_as_asked) {
	const char *ca = strdup(harness_path("ca.crt")), *other = strdup(harness_path("other-ca.crt"));
	const struct {
		const char *mode, *ca, *expected;
	} cases[] = {
		{"disable", NULL, "f"},  {"allow", NULL, "f"},        {"prefer", NULL, "t"},
		{"require", NULL, "t"},  {"verify-ca", ca, "t"},      {"verify-full", ca, "t"},
		{"verify-ca", other, NULL}, {"verify-full", other, NULL},
	};
	char *client = strdup(harness_path("client"));
	char pool[1000];
	struct forebay *forebay;
	PGconn *conn;

	if (harness_direct())
		return;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(pool, sizeof(pool), "tls_mode = %s\nacquire_timeout = 3s\n%s%s\n", cases[i].mode,
			 cases[i].ca ? "tls_ca_file = " : "", cases[i].ca ? cases[i].ca : "");
		forebay = start(_i, NULL, pool, NULL);
		conn = try_connect(forebay, " ");
		if (cases[i].expected) {
			ck_assert_msg(PQstatus(conn) == CONNECTION_OK, "%s: %s", cases[i].mode, PQerrorMessage(conn));
			expect_value(conn, "select ssl from pg_stat_ssl where pid = pg_backend_pid()",
				     cases[i].expected);
		} else if (PQstatus(conn) == CONNECTION_OK) {
			PGresult *res = PQexec(conn, "select 1");

			ck_assert_int_eq(PQresultStatus(res), PGRES_FATAL_ERROR);
			PQclear(res);
		}
		PQfinish(conn);
		forebay_stop(forebay);
	}
	snprintf(pool, sizeof(pool),
		 "user = certuser\ntls_mode = verify-full\ntls_ca_file = %s\ntls_cert_file = %s.crt\ntls_key_file = "
		 "%s.key\n",
		 ca, client, client);
	forebay = start(_i, NULL, pool, NULL);
	conn = connect_app(forebay);
	expect_value(conn, "select current_user", "certuser");
	expect_value(conn, "select ssl from pg_stat_ssl where pid = pg_backend_pid()", "t");
	PQfinish(conn);
	forebay_stop(forebay);
	free((char *)ca);
	free((char *)other);
	free(client);
}
END_TEST

START_TEST(server_that_refuses_the_login_is_named_to_the_client) {
	struct forebay *forebay;
	PGconn *conn;
	long long began;

	if (harness_direct())
		return;
	forebay = start(_i, "auth = trust", "user = app\npassword = not-the-secret\nacquire_timeout = 20s", NULL);
	began = harness_now_ms();
	conn = try_connect(forebay, " ");
	if (PQstatus(conn) == CONNECTION_OK) {
		PGresult *res = PQexec(conn, "select 1");

		ck_assert_int_eq(PQresultStatus(res), PGRES_FATAL_ERROR);
		ck_assert_msg(strstr(PQresultErrorMessage(res), "password authentication failed") != NULL, "%s",
			      PQresultErrorMessage(res));
		PQclear(res);
	} else {
		ck_assert_msg(strstr(PQerrorMessage(conn), "password authentication failed") != NULL, "%s",
			      PQerrorMessage(conn));
	}
	/* What cannot heal is told at once, not after acquire_timeout. */
	ck_assert_int_lt(harness_now_ms() - began, 15000);
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

START_TEST(client_that_says_nothing_is_closed_in_time) {
	struct forebay *forebay = forebay_start(
		&(struct forebay_setup){.workers = WORKERS(_i), .process = "client_login_timeout = 500ms"});
	struct raw silent, half, greeted;
	struct bytes b = {0};

	if (harness_direct())
		return;
	silent = raw_connect(forebay);
	half = raw_connect(forebay);
	greeted = raw_connect(forebay);
	put_startup(&b, 3 << 16, "user", "app", "database", "app", NULL);
	raw_send(&half, b.at, b.len - 3);
	raw_send_bytes(&greeted, &b);
	raw_expect_closed(&silent);
	raw_expect_closed(&half);
	raw_expect_closed(&greeted);
	raw_close(&silent);
	raw_close(&half);
	raw_close(&greeted);
	expect_works(forebay, "");
	forebay_stop(forebay);
}
END_TEST

START_TEST(log_and_console_never_tell_a_secret) {
	struct forebay *forebay = forebay_start(
		&(struct forebay_setup){.workers = WORKERS(_i), .process = "log_level = debug", .pool = "user = app\npassword = app-secret"});
	PGconn *conn, *ops;
	PGresult *res;

	if (harness_direct())
		return;
	expect_works(forebay, "");
	expect_refused(try_connect(forebay, "password=mistyped-secret"), "password");
	ops = connect_with(forebay, "user=ops password=ops-secret dbname=forebay");
	res = PQexec(ops, "SHOW CONFIG");
	ck_assert_msg(PQresultStatus(res) == PGRES_TUPLES_OK, "%s", PQresultErrorMessage(res));
	for (int i = 0; i < PQntuples(res); i++) {
		for (int j = 0; j < PQnfields(res); j++)
			ck_assert_ptr_null(strstr(PQgetvalue(res, i, j), "-secret"));
	}
	PQclear(res);
	PQfinish(ops);
	conn = connect_app(forebay);
	PQfinish(conn);
	ck_assert_int_eq(harness_count_in(forebay->log, "-secret"), 0);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("login");
	TCase *tcase = tcase_create("login");

	harness_begin(NULL);
	tcase_set_timeout(tcase, 180);
	suite_add_tcase(suite, tcase);
	LOOP(tcase, protocol_version_is_negotiated_exactly_once);
	LOOP(tcase, other_major_versions_are_refused);
	LOOP(tcase, encryption_requests_are_answered);
	LOOP(tcase, listener_without_tls_says_no);
	LOOP(tcase, tls_modes_mean_what_they_mean_in_libpq);
	LOOP(tcase, wrong_secrets_users_and_databases_are_refused);
	LOOP(tcase, unknown_user_gets_the_same_exchange_as_a_known_one);
	LOOP(tcase, refusals_carry_their_sqlstate);
	LOOP(tcase, stored_secrets_pass_through_to_the_server);
	LOOP(tcase, secrets_are_looked_up_on_the_server);
	LOOP(tcase, a_function_that_returns_a_record_looks_up_secrets);
	LOOP(tcase, client_certificates_name_their_user);
	tcase_add_test(tcase, certificates_of_unknown_users_are_not_enough);
	LOOP(tcase, hba_file_picks_the_method);
	LOOP(tcase, servers_are_logged_in_by_every_method);
	LOOP(tcase, servers_are_reached_over_tls_as_asked);
	LOOP(tcase, server_that_refuses_the_login_is_named_to_the_client);
	LOOP(tcase, client_that_says_nothing_is_closed_in_time);
	LOOP(tcase, log_and_console_never_tell_a_secret);
	return harness_run(suite);
}
