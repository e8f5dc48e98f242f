/*
 * Malformed input from clients, before and after their login: a clear error or a closed connection, a line in the log,
 * memory that stays bounded, and a bystander who notices nothing. From backends: test_malformed_backend.c.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "query.h"
#include "scripted.h"

enum { RSS_GROWTH_KIB = 64 * 1024, LOGIN_MUTATIONS = 1500, SESSION_MUTATIONS = 300 };

/* A Forebay under attack, and who must not notice. */
struct scene {
	struct forebay *forebay;
	PGconn *bystander;
	size_t rss_kib;
};

static struct scene begin(int i, const char *process, const char *listener) {
	struct scene scene;
	PGconn *control = connect_control();
	char more[200];

	execute(control, "drop table if exists split; create unlogged table split(i int); grant all on split to public");
	PQfinish(control);
	snprintf(more, sizeof(more),
		 "[pool:other]\nprotocol = postgresql\nhosts = 127.0.0.1:%d\nmax_size = 2\nmin_idle = 0\ntls_mode = disable\n",
		 harness_postgres_port());
	scene.forebay = forebay_start(&(struct forebay_setup){.workers = WORKERS(i),
							      .process = process,
							      .listener = listener,
							      .pool = "max_size = 2\nrecovery_timeout = 2s\n",
							      .more = more});
	scene.bystander = connect_with(scene.forebay, "dbname=other");
	expect_value(scene.bystander, "select current_database()", "other");
	scene.rss_kib = forebay_rss_kib(scene.forebay);
	return scene;
}

/* Nobody else has noticed. */
static void expect_undisturbed(const struct scene *scene, const char *after) {
	size_t now;

	ck_assert_msg(forebay_alive(scene->forebay), "Forebay has ended after: %s", after);
	expect_value(scene->bystander, "select current_database()", "other");
	now = forebay_rss_kib(scene->forebay);
	ck_assert_msg(now < scene->rss_kib + RSS_GROWTH_KIB, "%zu KiB of memory instead of %zu after: %s", now,
		      scene->rss_kib, after);
}

/* And the pool that was attacked serves others. */
static void end(struct scene *scene) {
	PGconn *conn;

	expect_undisturbed(scene, "all of it");
	conn = connect_app(scene->forebay);
	expect_value(conn, "select current_database()", "app");
	PQfinish(conn);
	PQfinish(scene->bystander);
	forebay_stop(scene->forebay);
}

/* Sends this, then reads all up to the end; `then_end`: says that no more will come. False: it stays open. */
static bool converse(struct probe *probe, const void *data, size_t len, bool then_end) {
	ck_assert_msg(probe->fd >= 0, "refused");
	probe_send(probe, data, len);
	if (then_end)
		shutdown(probe->fd, SHUT_WR);
	return probe_await_closed(probe);
}

static struct probe connect_unix(const struct scene *scene) {
	return probe_unix(scene->forebay->socket_dir, scene->forebay->port);
}

/* Before the login */

/* What is to come of it: an SQLSTATE; "": closed; "any": an error, whichever; NULL: it waits for more. */
struct stranger {
	const char *name;
	const char *data;
	size_t len;
	const char *expected;
};

#define BYTES(s) s, sizeof(s) - 1
#define SSL_REQUEST "\0\0\0\x08\x04\xd2\x16\x2f"
#define GSS_REQUEST "\0\0\0\x08\x04\xd2\x16\x30"
#define STARTUP "\0\0\0\x1f\0\3\0\0user\0app\0database\0app\0\0"

static const struct stranger strangers[] = {
	{"another protocol", BYTES("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), ""},
	{"all ones", BYTES("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), ""},
	{"all zeros", BYTES("\0\0\0\0\0\0\0\0\0\0"), ""},
	{"a length below 4", BYTES("\0\0\0\3\0\3\0\0"), ""},
	{"a length without a version", BYTES("\0\0\0\4\0\3\0\0"), ""},
	{"a length with half a version", BYTES("\0\0\0\7\0\3\0"), ""},
	{"a negative length", BYTES("\x80\0\0\x20\0\3\0\0user\0app\0\0"), ""},
	{"a huge length", BYTES("\x7f\xff\xff\xff\0\3\0\0user\0app\0\0"), ""},
	{"a length a little too large", BYTES("\0\0\x27\x15\0\3\0\0user\0app\0\0"), ""},
	{"half a length", BYTES("\0\0"), NULL},
	{"half a start-up", BYTES("\0\0\0\x20\0\3\0\0user\0app"), NULL},
	{"version 2.0", BYTES("\0\0\0\x11\0\2\0\0user\0app\0"), "0A000"},
	{"version 4.0", BYTES("\0\0\0\x12\0\4\0\0user\0app\0\0"), "0A000"},
	{"version 0", BYTES("\0\0\0\x08\0\0\0\0"), "0A000"},
	{"the largest version", BYTES("\0\0\0\x08\xff\xff\xff\xff"), "0A000"},
	{"an unknown request", BYTES("\0\0\0\x08\x04\xd2\x27\x0f"), "0A000"},
	{"SSLRequest and bytes behind it", BYTES(SSL_REQUEST STARTUP), ""},
	{"SSLRequest twice", BYTES(SSL_REQUEST SSL_REQUEST), ""},
	{"GSSENCRequest twice", BYTES(GSS_REQUEST GSS_REQUEST), "0A000"},
	{"SSLRequest that is longer", BYTES("\0\0\0\x0c\x04\xd2\x16\x2fmore"), NULL},
	{"no parameter", BYTES("\0\0\0\x09\0\3\0\0\0"), "28000"},
	{"nothing, not even the last zero", BYTES("\0\0\0\x08\0\3\0\0"), "08P01"},
	{"no user", BYTES("\0\0\0\x16\0\3\0\0database\0app\0\0"), "28000"},
	{"an empty user", BYTES("\0\0\0\x0f\0\3\0\0user\0\0\0"), "28000"},
	{"a name without a value", BYTES("\0\0\0\x0e\0\3\0\0user\0\0"), "any"},
	{"a value that does not end", BYTES("\0\0\0\x10\0\3\0\0user\0app"), "08P01"},
	{"a name that does not end", BYTES("\0\0\0\x0c\0\3\0\0user"), "08P01"},
	{"no last zero", BYTES("\0\0\0\x11\0\3\0\0user\0app\0"), "08P01"},
	{"bytes behind the last zero", BYTES("\0\0\0\x16\0\3\0\0user\0app\0\0more"), "08P01"},
	{"a bad replication", BYTES("\0\0\0\x23\0\3\0\0user\0app\0replication\0what\0\0"), "22023"},
	{"another message than a password", BYTES(STARTUP "Q\0\0\0\x0dselect 1\0"), "08P01"},
	{"a password message without a length", BYTES(STARTUP "p\0\0"), NULL},
	{"a password message of no length", BYTES(STARTUP "p\0\0\0\0"), "08P01"},
	{"a password message that is too large", BYTES(STARTUP "p\0\1\0\5"), "08P01"},
	{"a password message of negative length", BYTES(STARTUP "p\xff\xff\xff\xff"), "08P01"},
	{"an empty password message", BYTES(STARTUP "p\0\0\0\4"), "any"},
	{"a plain password where SCRAM is due", BYTES(STARTUP "p\0\0\0\x0f" "app-secret\0"), "any"},
	{"a mechanism that does not end", BYTES(STARTUP "p\0\0\0\x09SCRAM"), "any"},
	{"an unknown mechanism", BYTES(STARTUP "p\0\0\0\x10UNKNOWN\0\0\0\0\0"), "any"},
	{"no length in it", BYTES(STARTUP "p\0\0\0\x12SCRAM-SHA-256\0"), "any"},
	{"a length in it that is too large", BYTES(STARTUP "p\0\0\0\x1aSCRAM-SHA-256\0\0\0\xff\xffn,,n"), "any"},
	{"a negative length in it", BYTES(STARTUP "p\0\0\0\x1aSCRAM-SHA-256\0\xff\xff\xff\xf0n,,n"), "any"},
	{"no nonce", BYTES(STARTUP "p\0\0\0\x1dSCRAM-SHA-256\0\0\0\0\7n,,n=,r"), "any"},
	{"an extension that must be known", BYTES(STARTUP "p\0\0\0\x23SCRAM-SHA-256\0\0\0\0\x0dn,,m=1,n=,r=x"), "any"},
	{"channel binding without TLS", BYTES(STARTUP "p\0\0\0\x29SCRAM-SHA-256\0\0\0\0\x13p=tls-unique,,n=,r="), "any"},
	{"the last message at once",
	 BYTES(STARTUP "p\0\0\0\x24SCRAM-SHA-256\0\0\0\0\x0en,,n=,r=abcdefp\0\0\0\x08nope"), "any"},
};

/* The answer may begin with the byte that answers an encryption request: this finds an error's code behind it. */
static bool got_error(const struct probe *probe, const char *sqlstate) {
	char needle[8];
	int n = snprintf(needle, sizeof(needle), "C%s", strcmp(sqlstate, "any") == 0 ? "" : sqlstate);

	for (int i = 0; i < 2; i++) {
		const struct bytes *b = i ? &probe->in : &probe->got;

		if (b->len > 0 && memmem(b->at, b->len, "SFATAL", 6) && memmem(b->at, b->len, needle, (size_t)n))
			return true;
	}
	return false;
}

static void try_stranger(struct scene *scene, const struct stranger *s, struct probe probe) {
	bool ended = converse(&probe, s->data, s->len, s->expected == NULL);

	ck_assert_msg(ended, "the connection stays open after: %s", s->name);
	if (s->expected && s->expected[0])
		ck_assert_msg(got_error(&probe, s->expected), "no error %s after: %s", s->expected, s->name);
	ck_assert_msg(!probe.seen['Z'], "let in after: %s", s->name);
	probe_close(&probe);
	ck_assert_msg(forebay_alive(scene->forebay), "Forebay has ended after: %s", s->name);
}

START_TEST(strangers_are_refused) {
	struct scene scene;
	size_t count = sizeof(strangers) / sizeof(strangers[0]);

	if (harness_direct())
		return;
	scene = begin(_i, NULL, NULL);
	for (size_t i = 0; i < count; i++) {
		try_stranger(&scene, &strangers[i], probe_tcp(scene.forebay->port));
		/* On a Unix socket an encryption request is answered N, and what follows counts. */
		if (memmem(strangers[i].data, strangers[i].len, SSL_REQUEST, 8) == NULL)
			try_stranger(&scene, &strangers[i], connect_unix(&scene));
		expect_undisturbed(&scene, strangers[i].name);
	}
	forebay_await_log(scene.forebay, "client_login_failed");
	forebay_await_log(scene.forebay, "no PostgreSQL user name specified");
	forebay_await_log(scene.forebay, "unsupported frontend protocol");
	forebay_await_log(scene.forebay, "unencrypted bytes came behind its SSLRequest");
	end(&scene);
}
END_TEST

START_TEST(cancel_requests_of_any_length_harm_nobody) {
	struct scene scene;

	if (harness_direct())
		return;
	scene = begin(_i, NULL, NULL);
	for (size_t len = 0; len < 300; len++) {
		struct probe probe = probe_tcp(scene.forebay->port);
		struct bytes b = {0};
		char junk[300];

		memset(junk, (int)len, sizeof(junk));
		put_message(&b, 0, "ib", 80877102, len, junk);
		ck_assert_msg(converse(&probe, b.at, b.len, false), "a cancel request of %zu bytes is not closed", len);
		ck_assert_uint_eq(probe.got.len + probe.in.len, 0);
		bytes_free(&b);
		probe_close(&probe);
	}
	end(&scene);
}
END_TEST

START_TEST(large_startups_are_taken_up_to_the_limit) {
	struct scene scene;
	static char value[10100];

	if (harness_direct())
		return;
	scene = begin(_i, NULL, NULL);
	for (size_t over = 0; over < 8; over++) {
		/* Behind the length: version, "user" and its value, the other name, zeros; 10000 bytes may be. */
		struct probe probe = connect_unix(&scene);
		struct bytes b = {0};

		memset(value, '\\', sizeof(value));
		value[10000 - 4 - 9 - 9 - 1 - 4 + over] = 0;
		put_startup(&b, 3 << 16, "user", "app", over % 2 ? "options" : "settled", value, NULL);
		ck_assert(probe_send_bytes(&probe, &b));
		ck_assert_msg(probe_await(&probe, 'R', 1) == (over <= 4), "%d bytes more than allowed", (int)over - 4);
		probe_close(&probe);
	}
	for (int names = 0; names < 3; names++) {
		struct probe probe = connect_unix(&scene);
		struct bytes b = {0}, body = {0};

		memset(value, 'n', sizeof(value));
		value[4000] = 0;
		if (names == 0) { /* very long names */
			put_startup(&b, 3 << 16, "user", value, "database", value, NULL);
		} else { /* very many parameters, or all of them protocol options */
			bytes_add(&body, "user\0app", 9);
			for (int i = 0; i < 800; i++) {
				char text[40];
				int n = snprintf(text, sizeof(text), "%sp%d%cx", names == 2 ? "_pq_." : "", i, 0);

				bytes_add(&body, text, (size_t)n + 1);
			}
			bytes_add(&body, "", 1);
			put_message(&b, 0, "ib", 3 << 16, body.len, body.at);
			bytes_free(&body);
		}
		ck_assert(probe_send_bytes(&probe, &b));
		ck_assert_msg(probe_await(&probe, 'R', 1) || got_error(&probe, "any"), "no answer to many parameters");
		probe_close(&probe);
	}
	end(&scene);
}
END_TEST

/* Mutations: a few bytes changed, dropped, doubled, or cut off. */
static void mutate(struct bytes *out, const struct bytes *from, unsigned *seed) {
	static const uint8_t nasty[] = {0, 1, 4, 5, 0x7f, 0x80, 0xff, 'Q', 'S', 'X', 'P'};
	int edits = 1 + rand_r(seed) % 4;

	out->len = 0;
	bytes_add(out, from->at, from->len);
	while (edits-- > 0 && out->len > 2) {
		size_t at = (size_t)rand_r(seed) % out->len;
		size_t len = 1 + (size_t)rand_r(seed) % 8;

		len = len < out->len - at ? len : out->len - at;
		switch (rand_r(seed) % 5) {
		case 0:
			out->at[at] = (uint8_t)rand_r(seed);
			break;
		case 1:
			out->at[at] = nasty[(size_t)rand_r(seed) % sizeof(nasty)];
			break;
		case 2:
			memmove(out->at + at, out->at + at + len, out->len - at - len);
			out->len -= len;
			break;
		case 3:
			bytes_add(out, "12345678", len);
			memmove(out->at + at + len, out->at + at, out->len - len - at);
			break;
		default:
			if (rand_r(seed) % 8 == 0)
				out->len = at;
			else
				out->at[at] ^= (uint8_t)(1 << rand_r(seed) % 8);
		}
	}
}

static unsigned first_seed(int i) {
	const char *given = getenv("FOREBAY_TEST_SEED");
	unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)harness_now_ms() * 2654435761u;

	printf("seed %u (repeat with FOREBAY_TEST_SEED)\n", seed);
	return seed + (unsigned)i;
}

START_TEST(mutated_logins_end) {
	struct scene scene;
	struct bytes login = {0}, mutant = {0};
	unsigned seed = first_seed(_i);

	if (harness_direct())
		return;
	scene = begin(_i, NULL, NULL);
	put_startup(&login, 3 << 16 | 2, "user", "app", "database", "app", "options", "-c geqo=off", "_pq_.x", "1", NULL);
	put_message(&login, 'p', "sv", "SCRAM-SHA-256", "n,,n=,r=abcdefghijkl");
	for (int i = 0; i < LOGIN_MUTATIONS; i++) {
		struct probe probe = i % 2 ? connect_unix(&scene) : probe_tcp(scene.forebay->port);

		mutate(&mutant, &login, &seed);
		ck_assert_msg(converse(&probe, mutant.at, mutant.len, true), "mutant %d stays connected", i);
		ck_assert_msg(!probe.seen['Z'], "mutant %d was let in", i);
		probe_close(&probe);
		if (i % 100 == 0)
			expect_undisturbed(&scene, "a mutated login");
	}
	bytes_free(&login);
	bytes_free(&mutant);
	end(&scene);
}
END_TEST

START_TEST(slow_logins_are_closed_in_time) {
	struct scene scene;
	struct probe slow[8];
	bool all = false;
	long long began;

	if (harness_direct())
		return;
	scene = begin(_i, "client_login_timeout = 700ms", NULL);
	began = harness_now_ms();
	for (int i = 0; i < 8; i++)
		slow[i] = probe_tcp(scene.forebay->port);
	/* A byte now and then does not buy time. */
	for (int round = 0; !all; round++) {
		all = true;
		for (int i = 0; i < 8; i++) {
			if (round < (int)sizeof(STARTUP) - 2)
				send(slow[i].fd, STARTUP + round, 1, MSG_NOSIGNAL);
			probe_take(&slow[i], 0);
			all = all && slow[i].closed;
		}
		ck_assert_msg(harness_now_ms() < began + HARNESS_DEADLINE_MS, "slow logins stay connected");
		harness_pause_ms(50);
	}
	ck_assert_int_ge(harness_now_ms() - began, 600);
	for (int i = 0; i < 8; i++)
		probe_close(&slow[i]);
	end(&scene);
}
END_TEST

START_TEST(crowd_in_login_leaves_those_who_are_in_alone) {
	struct scene scene;
	struct probe crowd[60];
	int refused = 0;
	PGconn *conn;

	if (harness_direct())
		return;
	scene = begin(_i, "max_login_clients = 10", NULL);
	for (int i = 0; i < 60; i++)
		crowd[i] = probe_tcp(scene.forebay->port);
	/* Which of them are let in is not said: several workers take them. */
	for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS; refused < 50 && harness_now_ms() < deadline;) {
		refused = 0;
		for (int i = 0; i < 60; i++)
			refused += probe_await_closed_within(&crowd[i], 5);
	}
	ck_assert_msg(refused >= 50, "%d of 50 clients too many were refused", refused);
	expect_undisturbed(&scene, "a crowd in login");
	for (int i = 0; i < 60; i++)
		probe_close(&crowd[i]);
	for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;; harness_pause_ms(20)) {
		conn = try_connect(scene.forebay, " ");
		if (PQstatus(conn) == CONNECTION_OK || harness_now_ms() > deadline)
			break;
		PQfinish(conn);
	}
	ck_assert_msg(PQstatus(conn) == CONNECTION_OK, "%s", PQerrorMessage(conn));
	PQfinish(conn);
	end(&scene);
}
END_TEST

/* After the login */

/* One of each, in few bytes. */
static void put_session(struct bytes *b) {
	put_query(b, "select 1");
	put_parse(b, "s", "select $1::int");
	put_bind(b, "s", "1");
	put_execute(b);
	put_sync(b);
	put_message(b, 'H', "");
	put_message(b, 'C', "cs", 'S', "s");
	put_sync(b);
	put_query(b, "copy split from stdin");
	put_message(b, 'd', "b", (size_t)2, "1\n");
	put_message(b, 'c', "");
	put_query(b, "copy split from stdin");
	put_message(b, 'f', "s", "no");
	put_query(b, "begin");
	put_message(b, 'F', "ihhhiiiih", 177, 1, 1, 2, 4, 40, 4, 2, 1);
	put_query(b, "rollback");
	put_message(b, 'X', "");
}

static struct probe log_in(const struct scene *scene) {
	struct probe probe = connect_unix(scene);

	ck_assert_msg(probe.fd >= 0 && probe_login(&probe, "app", 0), "a client is not let in: %s",
		      probe_error(&probe, 'M'));
	probe_forget(&probe);
	return probe;
}

static void try_session(struct scene *scene, const struct bytes *b, bool then_end, const char *what, int number) {
	struct probe probe = log_in(scene);

	ck_assert_msg(converse(&probe, b->at, b->len, then_end), "%s %d: the connection stays open", what, number);
	ck_assert_msg(!probe.broken, "%s %d: the answer is no sequence of messages", what, number);
	probe_close(&probe);
}

START_TEST(messages_of_impossible_length_end_the_connection) {
	static const uint32_t lengths[] = {0, 1, 3, 0x7fffffff, 0x80000000, 0xffffffff};
	struct scene scene;

	if (harness_direct())
		return;
	scene = begin(_i, "log_connections = false", "auth = trust");
	for (int type = 0; type < 256; type += strchr("PQSCDEFHXdcfpB", type) || type > 128 ? 1 : 7) {
		for (size_t i = 0; i < 6; i += type > 128 ? 5 : 1) {
			struct probe probe = log_in(&scene);
			uint8_t m[5] = {(uint8_t)type, (uint8_t)(lengths[i] >> 24), (uint8_t)(lengths[i] >> 16),
					(uint8_t)(lengths[i] >> 8), (uint8_t)lengths[i]};

			ck_assert_msg(converse(&probe, m, 5, false), "type %d, length %u: stays open", type, lengths[i]);
			ck_assert_msg(strcmp(probe_error(&probe, 'C'), "08P01") == 0,
				      "type %d, length %u: expected 08P01, got \"%s\"", type, lengths[i],
				      probe_error(&probe, 'C'));
			probe_close(&probe);
		}
		expect_undisturbed(&scene, "a message of impossible length");
	}
	forebay_await_log(scene.forebay, "client_protocol_error");
	end(&scene);
}
END_TEST

START_TEST(unknown_and_empty_messages_are_answered) {
	struct scene scene;
	struct bytes b = {0};

	if (harness_direct())
		return;
	scene = begin(_i, "log_connections = false", "auth = trust");
	for (int type = 0; type < 256; type++) {
		struct probe probe = log_in(&scene);

		b.len = 0;
		put_message(&b, (char)(type ? type : 1), "");
		if (type == 0)
			b.at[0] = 0;
		put_sync(&b);
		put_message(&b, 'X', "");
		ck_assert_msg(converse(&probe, b.at, b.len, false), "type %d: the connection stays open", type);
		if (type && strchr("QPBDECF", type))
			ck_assert_msg(strcmp(probe_error(&probe, 'C'), "08P01") == 0,
				      "an empty %c: expected 08P01, got \"%s\"", type, probe_error(&probe, 'C'));
		else if (type == 0 || !strchr("SHXdcf", type))
			ck_assert_msg(probe.seen['E'] == 1, "type %d: no error", type);
		probe_close(&probe);
	}
	bytes_free(&b);
	expect_undisturbed(&scene, "unknown messages");
	end(&scene);
}
END_TEST

/* Each message of the session, its body cut at every length, or without its last zero; the session goes on behind it. */
START_TEST(truncated_bodies_are_answered) {
	struct scene scene;
	struct bytes session = {0}, b = {0};
	int number = 0;

	if (harness_direct())
		return;
	scene = begin(_i, "log_connections = false", "auth = trust");
	put_session(&session);
	for (size_t at = 0; at < session.len;) {
		const uint8_t *p = session.at + at;
		size_t len = 1 + ((size_t)p[3] << 8 | p[4]);

		for (size_t keep = 5; keep <= len; keep++) {
			b.len = 0;
			bytes_add(&b, session.at, at + keep);
			b.at[at + 4] = (uint8_t)(keep - 1);
			if (keep == len && b.at[b.len - 1] == 0)
				b.at[b.len - 1] = 'x';
			put_sync(&b);
			bytes_add(&b, session.at + at + len, session.len - at - len);
			try_session(&scene, &b, true, "truncated body", number++);
		}
		at += len;
		expect_undisturbed(&scene, "a truncated message");
	}
	bytes_free(&b);
	bytes_free(&session);
	end(&scene);
}
END_TEST

START_TEST(mutated_sessions_end) {
	struct scene scene;
	struct bytes session = {0}, mutant = {0};
	unsigned seed = first_seed(_i);

	if (harness_direct())
		return;
	scene = begin(_i, "log_connections = false", "auth = trust");
	put_session(&session);
	for (int i = 0; i < SESSION_MUTATIONS; i++) {
		mutate(&mutant, &session, &seed);
		try_session(&scene, &mutant, true, "mutant", i);
		if (i % 50 == 0)
			expect_undisturbed(&scene, "a mutated session");
	}
	bytes_free(&mutant);
	bytes_free(&session);
	end(&scene);
}
END_TEST

START_TEST(client_may_vanish_after_any_byte) {
	struct scene scene;
	struct bytes session = {0};

	if (harness_direct())
		return;
	scene = begin(_i, "log_connections = false", "auth = trust");
	put_session(&session);
	for (size_t len = 0; len <= session.len; len++) {
		struct probe probe = log_in(&scene);

		probe_send(&probe, session.at, len);
		if (len % 3 == 0)
			probe_await_read(&probe);
		probe_close(&probe);
		if (len % 50 == 0)
			expect_undisturbed(&scene, "a client that vanished");
	}
	bytes_free(&session);
	end(&scene);
}
END_TEST

/* Large messages that do not keep what their length promises, and ones that nobody reads the answers to. */
START_TEST(unfinished_large_messages_take_little_memory) {
	static uint8_t block[256 * 1024];
	static const char types[] = "QPBdFD";
	struct scene scene;

	if (harness_direct())
		return;
	scene = begin(_i, "log_connections = false", "auth = trust");
	for (size_t t = 0; t < sizeof(types) - 1; t++) {
		struct probe probe = log_in(&scene);
		uint8_t header[5] = {(uint8_t)types[t], 0x3f, 0xff, 0xff, 0xff};

		if (types[t] == 'd') {
			struct bytes b = {0};

			put_query(&b, "copy split from stdin");
			ck_assert(probe_send_bytes(&probe, &b) && probe_await(&probe, 'G', 1));
		}
		memset(block, 'x', sizeof(block));
		probe_send(&probe, header, 5);
		if (types[t] == 'P' || types[t] == 'B')
			probe_send(&probe, "\0\0", 2);
		for (int i = 0; i < 64 && probe_send(&probe, block, sizeof(block)); i++)
			probe_take(&probe, 0);
		expect_undisturbed(&scene, "a message of 1 GB");
		probe_close(&probe);
	}
	end(&scene);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("malformed");
	TCase *tcase = tcase_create("malformed");

	harness_begin(NULL);
	tcase_set_timeout(tcase, 180);
	suite_add_tcase(suite, tcase);
	LOOP(tcase, strangers_are_refused);
	LOOP(tcase, cancel_requests_of_any_length_harm_nobody);
	LOOP(tcase, large_startups_are_taken_up_to_the_limit);
	LOOP(tcase, mutated_logins_end);
	LOOP(tcase, slow_logins_are_closed_in_time);
	LOOP(tcase, crowd_in_login_leaves_those_who_are_in_alone);
	LOOP(tcase, messages_of_impossible_length_end_the_connection);
	LOOP(tcase, unknown_and_empty_messages_are_answered);
	LOOP(tcase, truncated_bodies_are_answered);
	LOOP(tcase, mutated_sessions_end);
	LOOP(tcase, client_may_vanish_after_any_byte);
	LOOP(tcase, unfinished_large_messages_take_little_memory);
	return harness_run(suite);
}
