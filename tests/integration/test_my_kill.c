/* KILL and what it must not hit, and what a server keeps of a client that has left: with scripted backends that stop where a test
 * wants them to, or do not tell what changes in their sessions. */
#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "my_raw.h"

#define BYTES(s) s, sizeof(s) - 1

/* ---- kills and what goes ahead of what is killed ---- */

/* A backend that stops where a test wants it to, and counts what it is asked. */
struct stage {
	sem_t go_on, go_next; /* from where it has stopped */
	_Atomic bool stop_at_settings, stop_at_identity, stop_at_kill, stop_at_next, hang_up_at_kill, refuse;
	_Atomic int logins, identities, settings, kills, slow, next, options;
};

static bool comes_to(_Atomic int *count, int n, int within_ms) {
	for (long long until = harness_now_ms() + within_ms; atomic_load(count) < n; harness_pause_ms(1))
		if (harness_now_ms() > until)
			return false;
	return true;
}

static void stop(sem_t *go_on) {
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += HARNESS_DEADLINE_MS / 1000;
	while (sem_timedwait(go_on, &until) != 0 && errno == EINTR)
		;
}

/* The session's insert id and character sets, as Forebay asks for them. */
static bool tell_session(int fd) {
	static const char column[] = "\3def\0\0\0\1x\0\x0c\x21\0\xff\0\0\0\xfd\0\0\0\0\0";
	static const char row[] = "\1" "0" "\7utf8mb4" "\7utf8mb4" "\7utf8mb4" "\x12utf8mb4_general_ci" "\1" "0";
	char out[400] = "\1\0\0\1\6";
	size_t n = 5;
	for (char sequence = 2; sequence < 9; sequence++) {
		bool last = sequence == 8;
		size_t len = last ? sizeof row - 1 : sizeof column - 1;
		out[n] = (char)len, out[n + 1] = out[n + 2] = 0, out[n + 3] = sequence;
		memcpy(out + n + 4, last ? row : column, len);
		n += 4 + len;
	}
	memcpy(out + n, "\7\0\0\x09\xfe\0\0\2\0\0\0", 11);
	return serve_send(fd, out, n + 11);
}

static bool act(int fd, struct stage *stage, const char *sql) {
	static const char zone[] = "\x1c\0\0\1\0\0\0\2\x40\0\0\0\x13\0\x11\x09time_zone\x06+03:00";
	static const char open_ok[] = "\7\0\0\1\0\0\0\3\0\0\0", killed[] = "\x0f\0\0\1\xff\x25\5#70100killed";
	if (strstr(sql, "@@hostname")) {
		if (atomic_fetch_add(&stage->identities, 1) > 0 && atomic_load(&stage->stop_at_identity))
			stop(&stage->go_on);
		return serve_send(fd, my_serve_identity, sizeof my_serve_identity - 1);
	}
	if (strstr(sql, "LAST_INSERT_ID(0)"))
		return tell_session(fd);
	if (strstr(sql, "SET time_zone"))
		return serve_send(fd, zone, sizeof zone - 1);
	if (strstr(sql, "SET @@SESSION.time_zone")) {
		atomic_fetch_add(&stage->settings, 1);
		if (atomic_load(&stage->stop_at_settings))
			stop(&stage->go_on);
	} else if (strstr(sql, "KILL QUERY")) {
		atomic_fetch_add(&stage->kills, 1);
		if (atomic_load(&stage->stop_at_kill))
			stop(&stage->go_on);
		if (atomic_load(&stage->hang_up_at_kill))
			return false;
	} else if (strstr(sql, "brief")) {
		comes_to(&stage->identities, 2, HARNESS_DEADLINE_MS);
		return serve_send(fd, open_ok, sizeof open_ok - 1);
	} else if (strstr(sql, "farewell")) { /* and the beginning of what is never said */
		return serve_send(fd, BYTES("\7\0\0\1\0\0\0\2\0\0\0" "\1\0"));
	} else if (strstr(sql, "held")) {
		atomic_fetch_add(&stage->slow, 1);
		stop(&stage->go_on);
	} else if (strstr(sql, "victim")) {
		comes_to(&stage->kills, 1, HARNESS_DEADLINE_MS);
		return serve_send(fd, killed, sizeof killed - 1);
	} else if (strstr(sql, "slow")) {
		atomic_fetch_add(&stage->slow, 1);
		comes_to(&stage->kills, 1, HARNESS_DEADLINE_MS);
		return serve_send(fd, open_ok, sizeof open_ok - 1);
	} else if (strstr(sql, "next")) {
		atomic_fetch_add(&stage->next, 1);
		if (atomic_load(&stage->stop_at_next))
			stop(&stage->go_next);
		return serve_send(fd, open_ok, sizeof open_ok - 1);
	} else if (strstr(sql, "BEGIN")) {
		return serve_send(fd, open_ok, sizeof open_ok - 1);
	}
	return serve_send(fd, my_serve_ok, sizeof my_serve_ok - 1);
}

static void play(int fd, void *context) {
	struct stage *stage = context;
	uint8_t body[4096];
	size_t len;
	if ((atomic_load(&stage->refuse) && atomic_load(&stage->logins) > 0) || !my_serve_login(fd))
		return;
	atomic_fetch_add(&stage->logins, 1);
	while (my_serve_read(fd, body, sizeof body - 1, &len) && *body != 1) {
		body[len] = 0;
		atomic_fetch_add(&stage->options, *body == 0x1b);
		if (!act(fd, stage, *body == 3 ? (char *)body + 1 : ""))
			return;
	}
}

static struct forebay *start_with(const struct unix_backend *backend, const char *more, char path[300]) {
	char pool[600];
	snprintf(pool, sizeof pool,
		 "[pool:staged]\nprotocol = mysql\nhosts = %s/.s.PGSQL.5432\nmax_size = 1\nmonitor_interval = 0\nmin_idle = 0\n%s",
		 backend->dir, more);
	struct forebay_setup setup = {.more = pool};
	struct forebay *forebay = maria_forebay(&setup);
	snprintf(path, 300, "%s/.s.PGSQL.%d", forebay->socket_dir, forebay->port);
	return forebay;
}

/* The next packet is OK (code 0), or this error. */
static void expect(struct my_raw *raw, int code) {
	size_t len;
	uint8_t *p = my_raw_packet(raw, &len, NULL);
	ck_assert_ptr_nonnull(p);
	int got = *p == 0xff && len > 2 ? p[1] | p[2] << 8 : *p;
	free(p);
	ck_assert_int_eq(got, code);
}

/* Its answer is still to come. */
static struct my_raw send_kill(const char *path, const struct my_raw *victim) {
	struct my_raw killer = my_raw_connect(path, 0, RAW_DEPRECATE_EOF, "staged");
	char command[60];
	int len = snprintf(command, sizeof command, "\3KILL QUERY %u", victim->id);
	ck_assert(my_raw_send(&killer, 0, command, (size_t)len));
	return killer;
}

static struct unix_backend *stage_begin(struct stage *stage) {
	sem_init(&stage->go_on, 0, 0);
	sem_init(&stage->go_next, 0, 0);
	return unix_backend_start(play, stage);
}

static void stage_end(struct stage *stage, struct forebay *forebay, struct unix_backend *backend) {
	forebay_stop(forebay);
	unix_backend_stop(backend);
	sem_destroy(&stage->go_on);
	sem_destroy(&stage->go_next);
}

START_TEST(a_kill_waits_for_what_goes_ahead_of_its_victim) {
	struct stage stage = {0};
	char path[300];
	struct unix_backend *backend = stage_begin(&stage);
	struct forebay *forebay = start_with(backend, "", path);
	struct my_raw a = my_raw_connect(path, 0, RAW_DEPRECATE_EOF | RAW_TRACK, "staged");
	struct my_raw b = my_raw_connect(path, 0, RAW_DEPRECATE_EOF | RAW_TRACK, "staged");
	ck_assert(my_raw_query(&a, "SET time_zone = '+03:00'"));
	for (int i = 0; i < 2; i++) { /* from then on both sessions' variables go in one write with the command */
		ck_assert(my_raw_query(&b, "SELECT 1"));
		ck_assert(i == 1 || my_raw_query(&a, "SELECT 1"));
	}
	ck_assert_int_eq(atomic_load(&stage.settings), 3);
	atomic_store(&stage.stop_at_settings, true);
	ck_assert(my_raw_send(&a, 0, BYTES("\3SELECT 'victim'")));
	ck_assert(comes_to(&stage.settings, 4, HARNESS_DEADLINE_MS));
	struct my_raw killer = send_kill(path, &a);
	ck_assert(comes_to(&stage.identities, 2, HARNESS_DEADLINE_MS)); /* the KILL is next */
	ck_assert_msg(!comes_to(&stage.kills, 1, 300), "the KILL has hit what goes ahead");
	atomic_store(&stage.stop_at_settings, false);
	sem_post(&stage.go_on);
	expect(&a, 1317);
	expect(&killer, 0);
	my_raw_close(&killer);
	ck_assert_int_eq(atomic_load(&stage.kills), 1);
	ck_assert(my_raw_query(&a, "SELECT 1"));
	ck_assert(my_raw_query(&b, "SELECT 1"));
	ck_assert_int_eq(atomic_load(&stage.logins), 2); /* the server, which was kept, and the KILL */
	my_raw_close(&a);
	my_raw_close(&b);
	stage_end(&stage, forebay, backend);
}
END_TEST

START_TEST(a_kill_that_comes_late_does_not_hit_the_next_command) {
	struct stage stage = {.stop_at_kill = true};
	char path[300];
	struct unix_backend *backend = stage_begin(&stage);
	struct forebay *forebay = start_with(backend, "", path);
	struct my_raw a = my_raw_connect(path, 0, RAW_DEPRECATE_EOF | RAW_TRACK, "staged");
	ck_assert(my_raw_query(&a, "BEGIN"));
	ck_assert(my_raw_send(&a, 0, BYTES("\3SELECT 'slow'")));
	ck_assert(comes_to(&stage.slow, 1, HARNESS_DEADLINE_MS));
	struct my_raw killer = send_kill(path, &a);
	expect(&a, 0); /* it has ended by itself */
	_Atomic int *count = _i ? &stage.options : &stage.next;
	int before = atomic_load(count);
	ck_assert(_i ? my_raw_send(&a, 0, BYTES("\x1b\1\0")) : my_raw_send(&a, 0, BYTES("\3SELECT 'next'")));
	ck_assert_msg(!comes_to(count, before + 1, 200), "the KILL of what ran before could hit this");
	sem_post(&stage.go_on);
	expect(&a, 0);
	expect(&killer, 0);
	my_raw_close(&killer);
	ck_assert_int_eq(atomic_load(count), before + 1);
	my_raw_close(&a);
	stage_end(&stage, forebay, backend);
}
END_TEST

/* Its victim has ended by itself while the KILL was still logging in. */
START_TEST(a_kill_is_for_what_ran_when_it_was_said) {
	struct stage stage = {.stop_at_identity = true, .stop_at_next = true};
	char path[300];
	struct unix_backend *backend = stage_begin(&stage);
	struct forebay *forebay = start_with(backend, "", path);
	struct my_raw a = my_raw_connect(path, 0, RAW_DEPRECATE_EOF | RAW_TRACK, "staged");
	ck_assert(my_raw_query(&a, "BEGIN"));
	ck_assert(my_raw_send(&a, 0, BYTES("\3SELECT 'brief'")));
	struct my_raw killer = send_kill(path, &a);
	expect(&a, 0);
	expect(&killer, 0);
	ck_assert(my_raw_send(&a, 0, BYTES("\3SELECT 'next'")));
	ck_assert(comes_to(&stage.next, 1, HARNESS_DEADLINE_MS));
	sem_post(&stage.go_on);
	ck_assert_msg(!comes_to(&stage.kills, 1, 200), "the KILL has hit the next statement");
	sem_post(&stage.go_next);
	expect(&a, 0);
	my_raw_close(&killer);
	my_raw_close(&a);
	stage_end(&stage, forebay, backend);
}
END_TEST

START_TEST(a_kill_ends_what_waits_for_its_server_to_be_made_ready) {
	struct stage stage = {0};
	char path[300];
	struct unix_backend *backend = stage_begin(&stage);
	struct forebay *forebay = start_with(backend, "", path);
	struct my_raw a = my_raw_connect(path, 0, RAW_DEPRECATE_EOF | RAW_TRACK, "staged");
	struct my_raw b = my_raw_connect(path, 0, RAW_DEPRECATE_EOF | RAW_TRACK, "staged");
	ck_assert(my_raw_query(&a, "SET time_zone = '+03:00'"));
	ck_assert(my_raw_query(&b, "SELECT 1"));
	atomic_store(&stage.stop_at_settings, true);
	ck_assert(my_raw_send(&a, 0, BYTES("\3SELECT 'next'")));
	ck_assert(comes_to(&stage.settings, 2, HARNESS_DEADLINE_MS));
	struct my_raw killer = send_kill(path, &a);
	expect(&killer, 0);
	atomic_store(&stage.stop_at_settings, false);
	sem_post(&stage.go_on);
	expect(&a, 1317);
	ck_assert_int_eq(atomic_load(&stage.next), 0);
	ck_assert(my_raw_query(&a, "SELECT 'next'"));
	ck_assert_int_eq(atomic_load(&stage.kills), 0);
	my_raw_close(&killer);
	my_raw_close(&a);
	my_raw_close(&b);
	stage_end(&stage, forebay, backend);
}
END_TEST

/* Refused at the door, the KILL was not; lost on its way, it may hit whoever has the server: so nobody has. Both are told. */
START_TEST(a_kill_that_is_lost_is_told_and_hits_nobody_later) {
	struct stage stage = {.refuse = _i == 0, .hang_up_at_kill = _i == 1};
	char path[300];
	struct unix_backend *backend = stage_begin(&stage);
	struct forebay *forebay = start_with(backend, "", path);
	struct my_raw a = my_raw_connect(path, 0, RAW_DEPRECATE_EOF | RAW_TRACK, "staged");
	ck_assert(my_raw_query(&a, "BEGIN"));
	ck_assert(my_raw_send(&a, 0, BYTES("\3SELECT 'held'")));
	ck_assert(comes_to(&stage.slow, 1, HARNESS_DEADLINE_MS));
	struct my_raw killer = send_kill(path, &a);
	expect(&killer, 1105);
	forebay_await_log(forebay, "cancel_failed");
	if (_i == 1)
		ck_assert(my_raw_closed(&a));
	sem_post(&stage.go_on);
	if (_i == 0)
		expect(&a, 0);
	my_raw_close(&killer);
	my_raw_close(&a);
	stage_end(&stage, forebay, backend);
}
END_TEST

/* Its server goes while it waits for the answer. */
START_TEST(a_kill_is_answered_whatever_becomes_of_the_askers_server) {
	static const char both[] = "\x12\0\0\0\3SELECT 'farewell'" "\x16\0\0\0\3KILL QUERY 4000000000";
	struct stage stage = {0};
	char path[300];
	struct unix_backend *backend = stage_begin(&stage);
	struct forebay *forebay = start_with(backend, "", path);
	struct my_raw a = my_raw_connect(path, 0, RAW_DEPRECATE_EOF | RAW_TRACK, "staged");
	ck_assert(my_raw_send_bytes(&a, both, sizeof both - 1));
	expect(&a, 0);
	expect(&a, 1094);
	ck_assert(my_raw_query(&a, "SELECT 1"));
	my_raw_close(&a);
	stage_end(&stage, forebay, backend);
}
END_TEST

/* ---- what is never told ---- */

/* A backend that does not know session trackers, and resets all of a session but its schema, as backends do. */
static void say_nothing(int fd, void *context) {
	static const char unknown[] = "\x0c\0\0\1\xff\xa9\4#HY000un?", open_ok[] = "\7\0\0\1\0\0\0\3\0\0\0";
	_Atomic int *logins = context;
	uint8_t body[4096];
	size_t len;
	bool changed = false, sound = my_serve_login(fd);
	if (sound)
		atomic_fetch_add(logins, 1);
	while (sound && my_serve_read(fd, body, sizeof body - 1, &len) && *body != 1) {
		body[len] = 0;
		const char *sql = *body == 3 ? (char *)body + 1 : "";
		changed = *body == 2 ? false : changed || strstr(sql, "USE other");
		if (strstr(sql, "@@hostname"))
			sound = serve_send(fd, my_serve_identity, sizeof my_serve_identity - 1);
		else if (strstr(sql, "session_track") || (changed && strstr(sql, "clean?")))
			sound = serve_send(fd, unknown, sizeof unknown - 1);
		else if (strstr(sql, "BEGIN"))
			sound = serve_send(fd, open_ok, sizeof open_ok - 1);
		else
			sound = serve_send(fd, my_serve_ok, sizeof my_serve_ok - 1);
	}
}

/* Its session is nobody's but its first client's, however that leaves. */
START_TEST(a_session_that_nobody_tells_of_ends_with_its_client) {
	_Atomic int logins = 0;
	char path[300], pool[100];
	struct unix_backend *backend = unix_backend_start(say_nothing, &logins);
	snprintf(pool, sizeof pool, "pool_mode = %s\n", _i ? "session" : "transaction");
	struct forebay *forebay = start_with(backend, pool, path);
	for (int how = 0; how < 3; how++) {
		struct my_raw a = my_raw_connect(path, 0, RAW_DEPRECATE_EOF, "staged");
		struct my_raw b = my_raw_connect(path, 0, RAW_DEPRECATE_EOF, "staged");
		ck_assert_msg(my_raw_query(&a, "SELECT 'clean?'"), "way %d: another's session", how);
		ck_assert(my_raw_query(&a, "USE other"));
		ck_assert(my_raw_query(&a, how == 2 ? "BEGIN" : "SET sql_mode = ''"));
		if (how == 1)
			ck_assert(my_raw_send(&a, 0, "\1", 1));
		my_raw_close(&a);
		ck_assert_msg(my_raw_query(&b, "SELECT 'clean?'"), "way %d: the session of who has left", how);
		ck_assert(my_raw_query(&b, "SELECT 1"));
		my_raw_close(&b);
	}
	ck_assert_int_eq(atomic_load(&logins), 6);
	forebay_stop(forebay);
	unix_backend_stop(backend);
}
END_TEST

int main(void) {
	maria_begin(NULL);
	Suite *suite = suite_create("mysql kill");
	TCase *kills = tcase_create("kills");
	tcase_add_test(kills, a_kill_waits_for_what_goes_ahead_of_its_victim);
	tcase_add_loop_test(kills, a_kill_that_comes_late_does_not_hit_the_next_command, 0, 2);
	tcase_add_test(kills, a_kill_is_for_what_ran_when_it_was_said);
	tcase_add_test(kills, a_kill_ends_what_waits_for_its_server_to_be_made_ready);
	tcase_add_test(kills, a_kill_is_answered_whatever_becomes_of_the_askers_server);
	tcase_add_loop_test(kills, a_kill_that_is_lost_is_told_and_hits_nobody_later, 0, 2);
	suite_add_tcase(suite, kills);
	TCase *untold = tcase_create("untold");
	tcase_add_loop_test(untold, a_session_that_nobody_tells_of_ends_with_its_client, 0, 2);
	suite_add_tcase(suite, untold);
	return harness_run(suite);
}
