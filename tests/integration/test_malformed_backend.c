/*
 * Backends that break the protocol, or the connection, in each of its states: their client gets an error or is closed,
 * the log has a line, nobody else notices. Each case is a database of its own, served by one scripted backend.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "query.h"
#include "scripted.h"

enum { RSS_GROWTH_KIB = 64 * 1024 };

#define BYTES(s) s, sizeof(s) - 1
#define OK "R\0\0\0\x08\0\0\0\0"
#define READY "Z\0\0\0\5I"
#define KEY "K\0\0\0\x0c\0\0\0\1\0\0\0\2"
#define COLUMNS "T\0\0\0\x1a\0\1c\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0"
#define ROW "D\0\0\0\x0c\0\1\0\0\0\2mi"
#define COMPLETE "C\0\0\0\x0dSELECT 1\0"
#define ANSWER COLUMNS ROW COMPLETE READY
#define WELCOME OK "S\0\0\0\x19server_version\0" "15.0\0\0" KEY READY

enum outcome { FAILS, WORKS, EITHER };

struct backend_case {
	const char *name, *bytes;
	size_t len;
	enum outcome outcome;
};

/* Instead of what follows a start-up message. */
static const struct backend_case logins[] = {
	{"another protocol", BYTES("HTTP/1.1 400 Bad Request\r\n\r\n"), FAILS},
	{"zeros", BYTES("\0\0\0\0\0\0\0\0"), FAILS},
	{"nothing at all", BYTES(""), FAILS},
	{"half a header", BYTES("R\0\0"), FAILS},
	{"half a message", BYTES("R\0\0\0\x08\0\0"), FAILS},
	{"an authentication request without a code", BYTES("R\0\0\0\4"), FAILS},
	{"a length of 0", BYTES("R\0\0\0\0"), FAILS},
	{"a length of 3", BYTES("R\0\0\0\3"), FAILS},
	{"a huge length", BYTES("R\x7f\xff\xff\xff\0\0\0\0"), FAILS},
	{"a negative length", BYTES("E\xff\xff\xff\xff"), FAILS},
	{"Kerberos V4", BYTES("R\0\0\0\x08\0\0\0\1"), FAILS},
	{"Kerberos V5", BYTES("R\0\0\0\x08\0\0\0\2"), FAILS},
	{"crypt", BYTES("R\0\0\0\x0a\0\0\0\4ab"), FAILS},
	{"SCM", BYTES("R\0\0\0\x08\0\0\0\6"), FAILS},
	{"GSSAPI", BYTES("R\0\0\0\x08\0\0\0\7"), FAILS},
	{"GSSAPI goes on", BYTES("R\0\0\0\x08\0\0\0\x08"), FAILS},
	{"SSPI", BYTES("R\0\0\0\x08\0\0\0\x09"), FAILS},
	{"an unknown authentication", BYTES("R\0\0\0\x08\0\0\0\x63"), FAILS},
	{"a negative authentication", BYTES("R\0\0\0\x08\xff\xff\xff\xff"), FAILS},
	{"md5 with half a salt", BYTES("R\0\0\0\x0a\0\0\0\5ab"), FAILS},
	{"md5 twice", BYTES("R\0\0\0\x0c\0\0\0\5abcdR\0\0\0\x0c\0\0\0\5abcd"), FAILS},
	{"SASL without mechanisms", BYTES("R\0\0\0\x09\0\0\0\x0a\0"), FAILS},
	{"SASL with an unknown mechanism", BYTES("R\0\0\0\x0f\0\0\0\x0aOTHER\0\0"), FAILS},
	{"SASL mechanisms that do not end", BYTES("R\0\0\0\x0d\0\0\0\x0aSCRAM"), FAILS},
	{"SASL twice", BYTES("R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0"), FAILS},
	{"SASL, then OK at once", BYTES("R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0" WELCOME), FAILS},
	{"SASL goes on before it began", BYTES("R\0\0\0\x0b\0\0\0\x0br=x"), FAILS},
	{"SASL ends before it began", BYTES("R\0\0\0\x0b\0\0\0\x0cv=x"), FAILS},
	{"OK twice", BYTES(OK WELCOME), FAILS},
	{"parameters before OK", BYTES("S\0\0\0\x08" "a\0b\0" WELCOME), FAILS},
	{"a key before OK", BYTES(KEY WELCOME), FAILS},
	{"ready before OK", BYTES(READY), FAILS},
	{"a row", BYTES(OK ROW READY), FAILS},
	{"an answer", BYTES(ANSWER), FAILS},
	{"an unknown message", BYTES("x\0\0\0\4"), FAILS},
	{"a key that is too short", BYTES(OK "K\0\0\0\6\0\1" READY), FAILS},
	{"a parameter that does not end", BYTES(OK "S\0\0\0\x08" "a\0bc" READY), FAILS},
	{"a parameter without a value", BYTES(OK "S\0\0\0\6a\0" READY), FAILS},
	{"a parameter of 2 MiB", BYTES(OK "S\0\x20\0\0a\0"), FAILS},
	{"a transaction at once", BYTES(OK "Z\0\0\0\5T"), FAILS},
	{"ready, but in which way", BYTES(OK "Z\0\0\0\5?"), FAILS},
	{"ready without a state", BYTES(OK "Z\0\0\0\4"), FAILS},
	{"ready with more", BYTES(OK "Z\0\0\0\6II"), FAILS},
	{"an error without fields", BYTES("E\0\0\0\5\0"), FAILS},
	{"an error that does not end", BYTES("E\0\0\0\x0aSFATAL"), FAILS},
	{"an error without a code", BYTES("E\0\0\0\x12SFATAL\0Mno\0\0\0\0"), FAILS},
	{"an error with a code that is none", BYTES("E\0\0\0\x13SFATAL\0C2\0Mno\0\0"), FAILS},
	{"an error of 1 GB", BYTES("E\x3f\xff\xff\xffSFATAL\0"), FAILS},
	{"a refusal", BYTES("E\0\0\0\x17SFATAL\0C28P01\0Mno\0\0"), FAILS},
	{"a refusal for now", BYTES("E\0\0\0\x17SFATAL\0C53300\0Mno\0\0"), FAILS},
	{"a notice first", BYTES("N\0\0\0\x17SWARNI\0C01000\0Mno\0\0" WELCOME), WORKS},
	{"a protocol version first", BYTES("v\0\0\0\x0c\0\3\0\0\0\0\0\0" WELCOME), WORKS},
	{"half a protocol version first", BYTES("v\0\0\0\6\0\3" WELCOME), EITHER},
	{"a row behind the login", BYTES(WELCOME ROW), EITHER},
	{"ready twice", BYTES(WELCOME READY), EITHER},
	{"no parameters", BYTES(OK KEY READY), WORKS},
};

/* Instead of the answer to a query. */
static const struct backend_case results[] = {
	{"a length of 3", BYTES("D\0\0\0\3"), FAILS},
	{"a length of 0", BYTES("T\0\0\0\0"), FAILS},
	{"a negative length", BYTES("D\xff\xff\xff\xff"), FAILS},
	{"the most negative length", BYTES("D\x80\0\0\0"), FAILS},
	{"an unknown message", BYTES("q\0\0\0\4"), FAILS},
	{"a message of type 0", BYTES("\0\0\0\0\4"), FAILS},
	{"a message of type 255", BYTES("\xff\0\0\0\4"), FAILS},
	{"ParseComplete", BYTES("1\0\0\0\4" ANSWER), FAILS},
	{"BindComplete", BYTES("2\0\0\0\4" ANSWER), FAILS},
	{"CloseComplete", BYTES("3\0\0\0\4" ANSWER), FAILS},
	{"ParameterDescription", BYTES("t\0\0\0\6\0\0" ANSWER), FAILS},
	{"NoData", BYTES("n\0\0\0\4" ANSWER), FAILS},
	{"FunctionCallResponse", BYTES("V\0\0\0\x08\xff\xff\xff\xff" ANSWER), FAILS},
	{"PortalSuspended", BYTES("s\0\0\0\4" ANSWER), FAILS},
	{"an authentication request", BYTES("R\0\0\0\x08\0\0\0\3"), FAILS},
	{"a key", BYTES(KEY ANSWER), FAILS},
	{"NegotiateProtocolVersion", BYTES("v\0\0\0\x0c\0\3\0\0\0\0\0\0" ANSWER), FAILS},
	{"a frontend's message", BYTES("Q\0\0\0\5\0"), FAILS},
	{"ready, but in which way", BYTES(COLUMNS COMPLETE "Z\0\0\0\5?"), FAILS},
	{"ready without a state", BYTES(COLUMNS COMPLETE "Z\0\0\0\4"), FAILS},
	{"ready with more", BYTES(COLUMNS COMPLETE "Z\0\0\0\6II"), FAILS},
	{"a tag that does not end", BYTES(COLUMNS "C\0\0\0\x0aSELECT" READY), FAILS},
	{"a tag of 1 MB", BYTES(COLUMNS "C\0\x10\0\0SELECT"), FAILS},
	{"a parameter that does not end", BYTES("S\0\0\0\x08" "a\0bc" ANSWER), FAILS},
	{"a parameter of 2 MiB", BYTES("S\0\x20\0\0a\0"), FAILS},
	{"a fatal error", BYTES("E\0\0\0\x17SFATAL\0C57P01\0Mno\0\0"), FAILS},
	{"a panic", BYTES(COLUMNS "E\0\0\0\x17SPANIC\0CXX000\0Mno\0\0"), FAILS},
	{"an error without a code", BYTES("E\0\0\0\x10SERROR\0Mno\0\0" READY), WORKS},
	{"an error without fields", BYTES("E\0\0\0\5\0" READY), WORKS},
	{"an error that does not end", BYTES("E\0\0\0\x0aSERROR" READY), WORKS},
	{"a good parameter", BYTES("S\0\0\0\x08" "a\0b\0" ANSWER), WORKS},
	{"a notification", BYTES("A\0\0\0\x0c\0\0\0\1c\0p\0" ANSWER), WORKS},
	{"a notice without fields", BYTES("N\0\0\0\5\0" ANSWER), WORKS},
	{"copy data without a copy", BYTES("d\0\0\0\5x" ANSWER), EITHER},
	{"a row without columns", BYTES(ROW COMPLETE READY), EITHER},
	{"nothing but ready", BYTES(READY), EITHER},
	/* The client's answer is whole; what is behind it is nobody's. */
	{"ready twice", BYTES(ANSWER READY), WORKS},
	{"a second answer", BYTES(ANSWER ANSWER), WORKS},
	{"a row behind it", BYTES(ANSWER ROW), WORKS},
	{"an error behind it", BYTES(ANSWER "E\0\0\0\x17SERROR\0C57014\0Mno\0\0"), WORKS},
	{"a fatal error behind it", BYTES(ANSWER "E\0\0\0\x17SFATAL\0C57P01\0Mno\0\0"), WORKS},
	{"garbage behind it", BYTES(ANSWER "\xff\xff\xff\xff\xff\xff\xff"), WORKS},
	{"half a header behind it", BYTES(ANSWER "D\0"), WORKS},
	{"a notice behind it", BYTES(ANSWER "N\0\0\0\5\0"), WORKS},
	{"a notification behind it", BYTES(ANSWER "A\0\0\0\x0c\0\0\0\1c\0p\0"), WORKS},
	{"a parameter behind it", BYTES(ANSWER "S\0\0\0\x08" "a\0c\0"), WORKS},
	{"a bad parameter behind it", BYTES(ANSWER "S\0\0\0\x08" "a\0bc"), WORKS},
};

/* The server's first SCRAM message (%s: the client's nonce), or, behind "!", the last one. */
static const char *const scrams[] = {
	"",
	"garbage",
	"r=another,s=c2FsdA==,i=4096",
	"r=%s,s=c2FsdA==,i=4096",
	"r=%sX,s=!!!!,i=4096",
	"r=%sX,s=,i=4096",
	"r=%sX,s=c2FsdA==",
	"r=%sX,s=c2FsdA==,i=0",
	"r=%sX,s=c2FsdA==,i=-1",
	"r=%sX,s=c2FsdA==,i=2147483647",
	"r=%sX,s=c2FsdA==,i=99999999999999999999",
	"r=%sX,s=c2FsdA==,i=x",
	"m=extension,r=%sX,s=c2FsdA==,i=4096",
	"e=other-error",
	"!",
	"!v=",
	"!v=AAAA",
	"!v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
	"!v=***",
	"!e=invalid-proof",
	"!garbage",
};

enum { LOGIN_CASES = sizeof(logins) / sizeof(logins[0]), RESULT_CASES = sizeof(results) / sizeof(results[0]),
       SCRAM_CASES = sizeof(scrams) / sizeof(scrams[0]), WELCOME_LEN = sizeof(WELCOME) - 1, ANSWER_LEN = sizeof(ANSWER) - 1 };

/* The backend. The database's name says what it does: a letter and a number. */

struct talk {
	int fd;
	struct bytes body;
	_Atomic int *blocked;
};

static void serve_to_the_end(struct talk *t) {
	char type;

	while (serve_read(t->fd, false, &type, &t->body))
		;
}

static bool serve_scram(struct talk *t, const char *what) {
	const char *nonce;
	char text[400], type;
	struct bytes b = {0};
	bool ok;

	put_message(&b, 'R', "isc", 10, "SCRAM-SHA-256", 0);
	ok = serve_send(t->fd, b.at, b.len) && serve_read(t->fd, false, &type, &t->body) && t->body.len > 20;
	nonce = ok ? strstr((const char *)t->body.at + 18, "r=") : NULL;
	b.len = 0;
	if (nonce) {
		const char *first = what[0] == '!' ? "r=%sX,s=c2FsdA==,i=4096" : what;
		const char *hole = strstr(first, "%s");

		snprintf(text, sizeof(text), "%.*s%s%s", (int)(hole ? hole - first : (long)strlen(first)), first,
			 hole ? nonce + 2 : "", hole ? hole + 2 : "");
		put_message(&b, 'R', "ib", 11, strlen(text), text);
		ok = serve_send(t->fd, b.at, b.len);
		b.len = 0;
		if (ok && what[0] == '!' && serve_read(t->fd, false, &type, &t->body)) {
			put_message(&b, 'R', "ib", 12, strlen(what + 1), what + 1);
			bytes_add(&b, WELCOME, WELCOME_LEN);
			serve_send(t->fd, b.at, b.len);
		}
	}
	bytes_free(&b);
	return false;
}

/* True: logged in. */
static bool serve_login(struct talk *t, char kind, size_t number) {
	switch (kind) {
	case 'l':
		if (logins[number].outcome == FAILS) {
			serve_send(t->fd, logins[number].bytes, logins[number].len);
			return false;
		}
		return serve_send(t->fd, logins[number].bytes, logins[number].len);
	case 's':
		return serve_scram(t, scrams[number]);
	case 'w': /* closes after so many bytes */
		serve_send(t->fd, WELCOME, number);
		shutdown(t->fd, SHUT_RDWR);
		return false;
	default:
		return serve_send(t->fd, WELCOME, WELCOME_LEN);
	}
}

/* A row of 1 GB, until nobody takes any more of it. */
static void serve_flood(struct talk *t) {
	static char block[65536];

	serve_send(t->fd, COLUMNS "D\x3f\xff\xff\xff\0\1\x3f\xff\xff\xf9", sizeof(COLUMNS) - 1 + 11);
	for (int quiet = 0; quiet < 40;) {
		ssize_t n = send(t->fd, block, sizeof(block), MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n > 0) {
			quiet = 0;
			continue;
		}
		quiet++;
		harness_pause_ms(10);
	}
	atomic_fetch_add(t->blocked, 1);
	serve_to_the_end(t);
}

static void serve(int fd, void *context) {
	struct talk t = {.fd = fd, .blocked = context};
	size_t number;
	char type, kind;

	if (!serve_read(fd, true, &type, &t.body))
		goto out;
	kind = startup_value(&t.body, "database")[0];
	number = strtoul(startup_value(&t.body, "database") + (kind ? 1 : 0), NULL, 10);
	if (!serve_login(&t, kind, number))
		goto out;
	while (serve_read(fd, false, &type, &t.body)) {
		if (type != 'Q')
			continue;
		if (strcmp((const char *)t.body.at, "attack") != 0) {
			serve_send(fd, strcmp((const char *)t.body.at, "again") == 0 ? ANSWER : "C\0\0\0\x08SET\0" READY,
				   strcmp((const char *)t.body.at, "again") == 0 ? ANSWER_LEN : 9 + 6);
		} else if (kind == 'r') {
			serve_send(fd, results[number].bytes, results[number].len);
		} else if (kind == 'a') { /* closes after so many bytes */
			serve_send(fd, ANSWER, number);
			shutdown(fd, SHUT_WR);
		} else if (kind == 'f') {
			serve_flood(&t);
		} else if (kind == 'h') { /* says half of it, and no more */
			serve_send(fd, ANSWER, number);
		} else {
			serve_send(fd, ANSWER, ANSWER_LEN);
		}
	}
out:
	serve_to_the_end(&t);
	bytes_free(&t.body);
}

struct scene {
	struct forebay *forebay;
	struct unix_backend *backend;
	PGconn *bystander;
	size_t rss_kib;
	_Atomic int blocked;
};

static void begin(struct scene *scene, int i) {
	char more[800];

	scene->backend = unix_backend_start(serve, &scene->blocked);
	snprintf(more, sizeof(more),
		 "[pool:*]\nprotocol = postgresql\nhosts = %s\nmax_size = 1\nmin_idle = 0\nmonitor_interval = 0\nuser = app\n"
		 "password = app-secret\nacquire_timeout = 1s\nconnect_timeout = 500ms\nrecovery_timeout = 500ms\n",
		 scene->backend->dir);
	scene->forebay = forebay_start(&(struct forebay_setup){.workers = WORKERS(i),
							       .process = "max_auto_pools = 1000\nlog_connections = false",
							       .listener = "auth = trust",
							       .more = more});
	scene->bystander = connect_app(scene->forebay);
	expect_value(scene->bystander, "select current_database()", "app");
	scene->rss_kib = forebay_rss_kib(scene->forebay);
}

static void expect_undisturbed(const struct scene *scene, const char *after) {
	size_t now;

	ck_assert_msg(forebay_alive(scene->forebay), "Forebay has ended after: %s", after);
	expect_value(scene->bystander, "select current_database()", "app");
	now = forebay_rss_kib(scene->forebay);
	ck_assert_msg(now < scene->rss_kib + RSS_GROWTH_KIB, "%zu KiB of memory instead of %zu after: %s", now,
		      scene->rss_kib, after);
}

static void end(struct scene *scene, const char *logged) {
	expect_undisturbed(scene, "all of it");
	if (logged)
		forebay_await_log(scene->forebay, logged);
	PQfinish(scene->bystander);
	forebay_stop_violated(scene->forebay, "");
	unix_backend_stop(scene->backend);
}

static void start_login(struct scene *scene, struct probe *probe, char kind, size_t number) {
	struct bytes b = {0};
	char database[20];

	*probe = probe_unix(scene->forebay->socket_dir, scene->forebay->port);
	ck_assert_msg(probe->fd >= 0, "refused");
	snprintf(database, sizeof(database), "%c%zu", kind, number);
	put_startup(&b, 3 << 16, "user", "app", "database", database, NULL);
	ck_assert(probe_send_bytes(probe, &b));
}

static void ask(struct probe *probe, const char *sql) {
	struct bytes b = {0};

	put_query(&b, sql);
	probe_send_bytes(probe, &b);
}

/* The login's end, well or not, is there. True: let in. */
static bool await_login(struct probe *probe, const char *name) {
	bool in = probe_await(probe, 'Z', 1);

	ck_assert_msg(in || probe->closed, "neither let in nor closed in time: %s", name);
	ck_assert_msg(!probe->broken, "the answer is no sequence of messages: %s", name);
	if (!in)
		ck_assert_msg(probe->seen['E'] == 1 && strlen(probe_error(probe, 'C')) == 5 && *probe_error(probe, 'M'),
			      "closed without a clear error: %s", name);
	return in;
}

START_TEST(backend_that_breaks_the_login_is_given_up) {
	static struct probe probes[LOGIN_CASES];
	struct scene scene = {0};

	if (harness_direct())
		return;
	begin(&scene, _i);
	for (size_t i = 0; i < LOGIN_CASES; i++)
		start_login(&scene, &probes[i], 'l', i);
	expect_undisturbed(&scene, "bad logins under way");
	for (size_t i = 0; i < LOGIN_CASES; i++) {
		bool in = await_login(&probes[i], logins[i].name);

		if (in) {
			ask(&probes[i], "again");
			in = probe_await(&probes[i], 'Z', 2);
			ck_assert_msg(in || probes[i].closed, "no answer in time: %s", logins[i].name);
		}
		ck_assert_msg(logins[i].outcome == EITHER || in == (logins[i].outcome == WORKS), "%s: %s: %s",
			      logins[i].name, in ? "works" : "fails", probe_error(&probes[i], 'M'));
		probe_close(&probes[i]);
	}
	end(&scene, "server_connect_failed");
}
END_TEST

START_TEST(backend_that_breaks_scram_is_given_up) {
	static struct probe probes[SCRAM_CASES];
	struct scene scene = {0};

	if (harness_direct())
		return;
	begin(&scene, _i);
	for (size_t i = 0; i < SCRAM_CASES; i++)
		start_login(&scene, &probes[i], 's', i);
	for (size_t i = 0; i < SCRAM_CASES; i++) {
		ck_assert_msg(!await_login(&probes[i], scrams[i]), "let in with the SCRAM message: %s", scrams[i]);
		probe_close(&probes[i]);
	}
	end(&scene, "SCRAM");
}
END_TEST

START_TEST(backend_may_close_after_any_byte_of_its_login) {
	static struct probe probes[WELCOME_LEN];
	struct scene scene = {0};

	if (harness_direct())
		return;
	begin(&scene, _i);
	for (size_t i = 0; i < WELCOME_LEN; i++)
		start_login(&scene, &probes[i], 'w', i);
	for (size_t i = 0; i < WELCOME_LEN; i++) {
		char name[40];

		snprintf(name, sizeof(name), "close after %zu bytes", i);
		ck_assert_msg(!await_login(&probes[i], name), "let in: %s", name);
		probe_close(&probes[i]);
	}
	end(&scene, "server_connect_failed");
}
END_TEST

/* Logs in, and asks for what the backend answers badly. */
static void attack(struct scene *scene, struct probe *probe, char kind, size_t number, const char *name) {
	start_login(scene, probe, kind, number);
	ck_assert_msg(await_login(probe, name), "not let in: %s: %s", name, probe_error(probe, 'M'));
	probe_forget(probe);
	ask(probe, "attack");
}

START_TEST(backend_that_breaks_an_answer_is_given_up) {
	struct scene scene = {0};

	if (harness_direct())
		return;
	begin(&scene, _i);
	for (size_t i = 0; i < RESULT_CASES; i++) {
		const struct backend_case *c = &results[i];
		struct probe probe;
		bool works;

		attack(&scene, &probe, 'r', i, c->name);
		works = probe_await(&probe, 'Z', 1);
		ck_assert_msg(works || probe.closed, "neither an answer nor closed in time: %s", c->name);
		ck_assert_msg(!probe.broken, "the answer is no sequence of messages: %s", c->name);
		ck_assert_msg(c->outcome == EITHER || works == (c->outcome == WORKS), "%s: %s: %s", c->name,
			      works ? "works" : "fails", probe_error(&probe, 'M'));
		/* One answer, and nothing of what came behind it; the connection goes on. */
		if (works && c->outcome == WORKS) {
			ck_assert_msg(probe.seen['D'] <= 1, "%u rows: %s", probe.seen['D'], c->name);
			ask(&probe, "again");
			ck_assert_msg(probe_await(&probe, 'Z', 2), "no second answer: %s: %s", c->name,
				      probe_error(&probe, 'M'));
			ck_assert_msg(probe.seen['D'] <= 2 && probe.seen['T'] <= 2, "too much of an answer: %s", c->name);
		}
		probe_close(&probe);
		/* The pool goes on. */
		start_login(&scene, &probe, 'r', i);
		ck_assert_msg(await_login(&probe, c->name), "the next client is not let in: %s", c->name);
		ask(&probe, "again");
		ck_assert_msg(probe_await(&probe, 'Z', 2), "the next client gets no answer: %s: %s", c->name,
			      probe_error(&probe, 'M'));
		probe_close(&probe);
		expect_undisturbed(&scene, c->name);
	}
	end(&scene, "invariant_violation");
}
END_TEST

START_TEST(backend_may_close_after_any_byte_of_an_answer) {
	struct scene scene = {0};

	if (harness_direct())
		return;
	begin(&scene, _i);
	for (size_t i = 0; i <= ANSWER_LEN; i++) {
		struct probe probe;
		char name[40];
		bool works;

		snprintf(name, sizeof(name), "close after %zu bytes", i);
		attack(&scene, &probe, 'a', i, name);
		works = probe_await(&probe, 'Z', 1);
		ck_assert_msg(works || probe.closed, "neither an answer nor closed in time: %s", name);
		ck_assert_msg(works == (i == ANSWER_LEN), "%s: %s", name, works ? "works" : probe_error(&probe, 'M'));
		ck_assert_msg(probe.seen['E'] <= 1, "%u errors: %s", probe.seen['E'], name);
		probe_close(&probe);
	}
	end(&scene, NULL);
}
END_TEST

START_TEST(stalled_answer_is_left_in_time_when_its_client_goes) {
	struct scene scene = {0};
	struct probe probe;

	if (harness_direct())
		return;
	begin(&scene, _i);
	for (size_t i = 1; i < ANSWER_LEN; i += 7) {
		attack(&scene, &probe, 'h', i, "half an answer");
		probe_await_read(&probe);
		probe_close(&probe);
		/* max_size is 1: who comes next is served when the stalled server is given up. */
		start_login(&scene, &probe, 'h', i);
		ck_assert(await_login(&probe, "behind a stalled answer"));
		ask(&probe, "again");
		ck_assert_msg(probe_await(&probe, 'Z', 2) || probe.seen['E'], "a stalled server is kept");
		probe_close(&probe);
		expect_undisturbed(&scene, "a stalled answer");
	}
	end(&scene, NULL);
}
END_TEST

START_TEST(flood_waits_until_its_client_reads) {
	struct scene scene = {0};
	struct probe probes[4];
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	if (harness_direct())
		return;
	begin(&scene, _i);
	for (size_t i = 0; i < 4; i++)
		attack(&scene, &probes[i], 'f', i, "a flood");
	while (scene.blocked < 4) {
		ck_assert_msg(harness_now_ms() < deadline, "a row of 1 GB that nobody reads is taken in whole");
		expect_undisturbed(&scene, "a flood");
		harness_pause_ms(10);
	}
	for (size_t i = 0; i < 4; i++)
		probe_close(&probes[i]);
	end(&scene, NULL);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("malformed backend");
	TCase *tcase = tcase_create("malformed backend");

	harness_begin(NULL);
	tcase_set_timeout(tcase, 180);
	suite_add_tcase(suite, tcase);
	LOOP(tcase, backend_that_breaks_the_login_is_given_up);
	LOOP(tcase, backend_that_breaks_scram_is_given_up);
	LOOP(tcase, backend_may_close_after_any_byte_of_its_login);
	LOOP(tcase, backend_that_breaks_an_answer_is_given_up);
	LOOP(tcase, backend_may_close_after_any_byte_of_an_answer);
	LOOP(tcase, stalled_answer_is_left_in_time_when_its_client_goes);
	LOOP(tcase, flood_waits_until_its_client_reads);
	return harness_run(suite);
}
