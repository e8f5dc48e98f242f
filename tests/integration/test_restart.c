/* A new process takes over from the one that runs: nobody is refused, nothing is cut, the bound holds over both. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "http.h"
#include "takeover_wire.h"
#include "traffic.h"
#include "wire.h"

static struct forebay *start_with(int workers, const char *process, const char *pool, const char *more) {
	char text[600];

	snprintf(text, sizeof(text), "takeover_socket = %s\nlog_connections = off\n%s", harness_path("take"),
		 process ? process : "");
	return forebay_start(&(struct forebay_setup){
		.workers = workers, .process = text, .pool = pool, .listener = "auth = trust", .more = more});
}

static void await_gone(const char *path) {
	for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS; access(path, F_OK) == 0; harness_pause_ms(5))
		ck_assert_msg(harness_now_ms() < deadline, "%s is still there", path);
}

/* ---- the bound ---- */

struct watch {
	pthread_t thread;
	PGconn *control;
	_Atomic bool stop;
	long most;
};

/* Connections of applications to PostgreSQL, over and over: the most there ever were at a time. */
static void *watch_connections(void *context) {
	struct watch *watch = context;

	while (!atomic_load(&watch->stop)) {
		PGresult *res = PQexec(watch->control, "select count(*) from pg_stat_activity where usename = 'app'");
		long n = PQntuples(res) == 1 ? atol(PQgetvalue(res, 0, 0)) : 0;
		watch->most = n > watch->most ? n : watch->most;
		PQclear(res);
		harness_pause_ms(2);
	}
	PQfinish(watch->control);
	return NULL;
}

static void watch_begin(struct watch *watch) {
	*watch = (struct watch){.control = connect_control()};
	ck_assert_int_eq(pthread_create(&watch->thread, NULL, watch_connections, watch), 0);
}

static long watch_end(struct watch *watch) {
	atomic_store(&watch->stop, true);
	pthread_join(watch->thread, NULL);
	return watch->most;
}

/* ---- the tests ---- */

START_TEST(restarts_refuse_nobody_and_cut_nothing) {
	char more[400];
	struct forebay *forebay, *next;
	struct watch watch;

	SKIP_WHEN_DIRECT();
	snprintf(more, sizeof(more),
		 "[pool:sess]\nprotocol = postgresql\nhosts = 127.0.0.1:%d\ndatabase = app\npool_mode = session\nmax_size = 4\n"
		 "monitor_interval = 0\n",
		 harness_postgres_port());
	forebay = start_with(WORKERS(_i), "drain_pace = 20", "max_size = 4", more);
	watch_begin(&watch);
	struct traffic *traffic = traffic_start(
		&(struct traffic_setup){.forebay = forebay, .comers = 4, .stayers_of_each = 2, .tls = true, .sessions = true});
	for (int i = 0; i < 3; i++) {
		next = forebay_take_over(forebay);
		forebay_await_exit(forebay);
		forebay_await_log(next, "predecessor_gone");
		forebay = next;
		traffic_await_more(traffic);
		/* and a reload in between */
		kill(forebay->pid, SIGHUP);
		forebay_await_log(forebay, " reloaded ");
	}
	struct traffic_counts counts = traffic_end(traffic);
	long most = watch_end(&watch);
	ck_assert_int_ge((int)counts.told, 3 * 14); /* each stayer by each process that went */
	ck_assert_msg(most <= 8, "%ld connections at a time, and the two pools may have 8", most);
	forebay_stop(forebay);
	ck_assert_int_ne(access(harness_path("take"), F_OK), 0);
}
END_TEST

/* The old one is full to the last connection; the new one gets what becomes free, and no more. */
START_TEST(both_together_keep_to_max_size) {
	enum { HOLDERS = 3 };
	struct forebay *old, *forebay;
	struct watch watch;
	PGconn *holders[HOLDERS], *control = connect_control();

	SKIP_WHEN_DIRECT();
	old = start_with(WORKERS(_i), NULL, "max_size = 3\nmin_idle = 3\nuser = app\npassword = app-secret", NULL);
	for (int i = 0; i < HOLDERS; i++) {
		holders[i] = connect_app(old);
		begin_holding(holders[i]);
	}
	watch_begin(&watch);
	forebay = forebay_take_over(old);
	/* a login that needs a connection, to learn what to tell the client */
	struct raw waits = raw_connect(forebay);
	struct bytes b = {0};
	struct message m;
	put_startup(&b, 0x30000, "user", "app", "database", "app", (char *)NULL);
	put_query(&b, "select 'had its turn'");
	raw_send_bytes(&waits, &b);
	forebay_await_log(old, "taken_over");
	raw_until(&waits, 'R'); /* it is trusted; and waits */
	ck_assert_int_eq((int)raw_read_within(&waits, &m, 300), RAW_TIMEOUT);
	ck_assert_int_eq((int)server_connections(control), HOLDERS);
	for (int i = 0; i < 2; i++)
		execute(holders[i], "commit");
	raw_until(&waits, 'Z');
	raw_answers(&waits, "T D C Z:I");
	/* the last of the old one's goes, and the new one has all three */
	execute(holders[2], "commit");
	forebay_await_exit(old);
	PGconn *others[HOLDERS];
	for (int i = 0; i < HOLDERS; i++) {
		others[i] = connect_app(forebay);
		begin_holding(others[i]);
	}
	long most = watch_end(&watch);
	ck_assert_msg(most <= 3, "%ld connections at a time, and max_size is 3", most);
	for (int i = 0; i < HOLDERS; i++) {
		PQfinish(others[i]);
		PQfinish(holders[i]);
	}
	raw_close(&waits);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

static void cancel(PGconn *conn) {
	char error[256];
	PGcancel *request = PQgetCancel(conn);

	ck_assert_ptr_nonnull(request);
	ck_assert_msg(PQcancel(request, error, sizeof(error)) == 1, "%s", error);
	PQfreeCancel(request);
}

START_TEST(a_cancel_reaches_the_session_of_the_old_process) {
	struct forebay *old, *forebay;
	PGconn *control = connect_control();

	SKIP_WHEN_DIRECT();
	old = start_with(WORKERS(_i), NULL, "max_size = 4", NULL);
	PGconn *a = connect_app(old), *b = connect_app(old);
	execute(a, "begin");
	send_query(a, "select 'query of a', pg_sleep(60)");
	execute(b, "begin");
	send_query(b, "select 'query of b', pg_sleep(1.5)");
	await_running(control, "query of a");
	await_running(control, "query of b");
	forebay = forebay_take_over(old);
	/* such requests come to the new one; it knows its own as well */
	PGconn *c = connect_app(forebay);
	cancel(a);
	expect_failure(next_result(a), "57014");
	ck_assert_ptr_null(PQgetResult(a));
	send_query(c, "select 'query of c', pg_sleep(60)");
	await_running(control, "query of c");
	cancel(c);
	expect_failure(next_result(c), "57014");
	ck_assert_ptr_null(PQgetResult(c));
	/* nobody's key: it is closed without a word, and hits nobody */
	struct raw raw = raw_connect(forebay);
	ck_assert(raw_put(&raw, 0, "iii", 80877102, 4711, 4712));
	raw_expect_closed(&raw);
	raw_close(&raw);
	expect_text(next_result(b), "query of b");
	ck_assert_ptr_null(PQgetResult(b));
	execute(a, "rollback");
	execute(b, "commit");
	forebay_await_exit(old);
	/* with nobody before it, a stranger's key is unknown at once */
	raw = raw_connect(forebay);
	ck_assert(raw_put(&raw, 0, "iii", 80877102, 4711, 4712));
	raw_expect_closed(&raw);
	raw_close(&raw);
	PQfinish(a);
	PQfinish(b);
	PQfinish(c);
	PQfinish(control);
	forebay_stop(forebay);
}
END_TEST

START_TEST(one_that_cannot_start_changes_nothing) {
	struct forebay *forebay, *next;
	char broken[300];

	SKIP_WHEN_DIRECT();
	forebay = start_with(WORKERS(_i), NULL, NULL, NULL);
	PGconn *ops = connect_with(forebay, "dbname=forebay user=ops password=ops-secret"), *app = connect_app(forebay);
	struct traffic *traffic =
		traffic_start(&(struct traffic_setup){.forebay = forebay, .comers = 2, .stayers_of_each = 1});
	/* it takes the sockets and then cannot have one more */
	snprintf(broken, sizeof(broken), "%s.broken", forebay->ini);
	char *text = harness_read(forebay->ini), *bad = NULL;
	ck_assert_int_gt(asprintf(&bad, "%s[listener:taken]\nprotocol = postgresql\nauth = trust\nlisten = 127.0.0.1:%d\n", text,
				  harness_postgres_port()),
			 0);
	harness_write(broken, bad);
	ck_assert_int_eq(forebay_takeover_exit_code(broken), 1);
	forebay_await_log(forebay, "takeover_failed");
	/* nor may one start beside it */
	ck_assert_int_eq(forebay_exit_code(forebay->ini), 1);
	ck_assert(harness_count_in(harness_path("commands.log"), "a Forebay runs already") > 0);
	execute(ops, "RELOAD");
	expect_value(app, "select 1", "1");
	traffic_await_more(traffic);
	struct traffic_counts counts = traffic_now(traffic);
	ck_assert_int_eq((int)counts.told, 0);
	/* the next one can; while the one before it drains, a third has to wait */
	PGconn *holder = connect_app(forebay);
	begin_holding(holder);
	next = forebay_take_over(forebay);
	ck_assert_int_eq(forebay_takeover_exit_code(forebay->ini), 1);
	ck_assert(harness_count_in(harness_path("commands.log"), "still drains") > 0);
	execute(holder, "commit");
	forebay_await_exit(forebay);
	traffic_end(traffic);
	PQfinish(ops);
	PQfinish(app);
	PQfinish(holder);
	free(text);
	free(bad);
	forebay_stop(next);
}
END_TEST

/* ---- a successor that is played: it stays between taking the sockets and being ready for as long as is wanted ---- */

struct successor {
	int socket, count, sockets[8];
};

static void successor_says(struct successor *s, enum takeover_type type, uint32_t number, const char *text) {
	struct takeover_message message = {.type = type, .number = number};

	snprintf(message.text, sizeof(message.text), "%s", text);
	ck_assert_int_eq((int)send(s->socket, &message, sizeof(message), MSG_NOSIGNAL), (int)sizeof(message));
}

/* What the old process says next; with a socket or without. */
static struct takeover_message successor_hears(struct successor *s) {
	struct takeover_message message = {0};
	struct iovec part = {&message, sizeof(message)};
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr header = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control.room)};

	ck_assert_int_eq((int)recvmsg(s->socket, &header, MSG_CMSG_CLOEXEC), (int)sizeof(message));
	struct cmsghdr *c = CMSG_FIRSTHDR(&header);
	if (c) {
		ck_assert_int_lt(s->count, 8);
		memcpy(&s->sockets[s->count++], CMSG_DATA(c), sizeof(int));
	}
	return message;
}

static struct successor successor_begin(void) {
	struct successor s = {.socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	const struct timeval wait = {.tv_sec = HARNESS_DEADLINE_MS / 1000};
	struct takeover_message m;

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", harness_path("take"));
	setsockopt(s.socket, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	ck_assert_int_eq(connect(s.socket, (struct sockaddr *)&un, sizeof(un)), 0);
	successor_says(&s, TAKEOVER_HELLO, TAKEOVER_VERSION, "");
	while ((m = successor_hears(&s)).type == TAKEOVER_SOCKET)
		;
	ck_assert_int_eq((int)m.type, TAKEOVER_SOCKETS_END);
	ck_assert_int_eq((int)m.number, s.count);
	return s;
}

static void successor_end(struct successor *s) {
	close(s->socket);
	for (int i = 0; i < s->count; i++)
		close(s->sockets[i]);
}

/* Whoever connects gets into the queue of this very socket. */
static void expect_listening(int listening) {
	struct sockaddr_storage own = {0};
	socklen_t len = sizeof(own);

	ck_assert_int_eq(getsockname(listening, (struct sockaddr *)&own, &len), 0);
	int client = socket(own.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_msg(connect(client, (struct sockaddr *)&own, len) == 0, "connect: %s", strerror(errno));
	int served = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	ck_assert_msg(served >= 0, "accept: %s", strerror(errno));
	close(served);
	close(client);
}

/* The old one is told to end at once, by the console or by a second signal, while one is starting that has its sockets. */
START_TEST(who_is_starting_keeps_the_sockets_of_one_that_ends_at_once) {
	char process[100];

	SKIP_WHEN_DIRECT();
	snprintf(process, sizeof(process), "drain_delay = 1h\nmetrics_listen = 127.0.0.1:%d", harness_free_port());
	struct forebay *old = start_with(2, process, NULL, NULL);
	PGconn *ops = connect_operator(old);
	struct successor s = successor_begin();
	ck_assert_int_eq(s.count, 3); /* 127.0.0.1, a Unix socket, HTTP's */
	if (_i == 0) {
		PQclear(PQexec(ops, "SHUTDOWN NOW"));
	} else {
		ck_assert_int_eq(kill(old->pid, SIGTERM), 0);
		forebay_await_log(old, " stopping ");
		ck_assert_int_eq(kill(old->pid, SIGTERM), 0);
	}
	forebay_await_exit(old);
	for (int i = 0; i < s.count; i++)
		expect_listening(s.sockets[i]);
	PQfinish(ops);
	successor_end(&s);
}
END_TEST

/* An address that the new one's file does not name any more is closed by the old one, as by a reload. */
START_TEST(an_address_that_the_new_one_does_not_have_goes) {
	char process[700], more[400], path[300], http[300];

	SKIP_WHEN_DIRECT();
	int port = harness_free_port();
	snprintf(path, sizeof(path), "%s", harness_path("goes"));
	snprintf(http, sizeof(http), "%s", harness_path("http-goes"));
	snprintf(process, sizeof(process), "takeover_socket = %s\nmetrics_listen = %s", harness_path("take"), http);
	snprintf(more, sizeof(more), "[listener:goes]\nprotocol = postgresql\nauth = trust\nlisten = %s, 127.0.0.1:%d\n", path,
		 port);
	struct forebay_setup setup = {.workers = WORKERS(_i), .process = process, .listener = "auth = trust", .more = more};
	struct forebay *old = forebay_start(&setup);
	forebay_await_log(old, " ready "); /* its first address is there before the others */
	ck_assert(harness_port_accepts(port));
	PGconn *holder = connect_app(old);
	begin_holding(holder); /* so that the old one does not close all by ending */
	setup.more = NULL;
	snprintf(process, sizeof(process), "takeover_socket = %s", harness_path("take"));
	forebay_rewrite_ini(old, &setup);
	struct forebay *forebay = forebay_take_over(old);
	ck_assert_int_eq(harness_count_in(forebay->log, "socket_unused"), 3);
	await_gone(path);
	await_gone(http);
	for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS; harness_port_accepts(port); harness_pause_ms(5))
		ck_assert_msg(harness_now_ms() < deadline, "port %d is listened on still", port);
	expect_value(holder, "select 'goes on'", "goes on");
	execute(holder, "commit");
	PQfinish(holder);
	forebay_await_exit(old);
	PGconn *conn = connect_app(forebay);
	expect_value(conn, "select 1", "1");
	PQfinish(conn);
	forebay_stop(forebay);
}
END_TEST

static void expect_pid(const char *path, pid_t pid) {
	char *text = harness_read(path);

	ck_assert_int_eq(atoi(text), (int)pid);
	free(text);
}

START_TEST(pid_file_and_socket_files_are_the_new_one_s) {
	char process[300], host[300];
	struct forebay *old, *forebay;

	SKIP_WHEN_DIRECT();
	snprintf(process, sizeof(process), "pid_file = %s", harness_path("pid"));
	/* with nobody there it starts as usual */
	old = start_with(WORKERS(_i), process, NULL, NULL);
	forebay_await_log(old, " ready ");
	expect_pid(harness_path("pid"), old->pid);
	forebay = forebay_take_over(old);
	expect_pid(harness_path("pid"), forebay->pid);
	forebay_await_exit(old);
	expect_pid(harness_path("pid"), forebay->pid);
	snprintf(host, sizeof(host), "host=%s", forebay->socket_dir);
	PGconn *conn = connect_with(forebay, "%s", host);
	expect_value(conn, "select 1", "1");
	PQfinish(conn);
	ck_assert_int_eq(access(harness_path("take"), F_OK), 0);
	forebay_stop(forebay);
	await_gone(harness_path("take"));
	await_gone(harness_path("pid"));
}
END_TEST

/* What the old one has started is not this process's child: should this one end before it is done, it is ended by one that
 * waits for just that. Writes go to the guard: a pid, then 0 when it has gone. */
static int guard_begin(void) {
	int ends[2];

	ck_assert_int_eq(pipe(ends), 0);
	pid_t pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		pid_t guarded = 0, next;
		setsid(); /* out of the group that is killed when a test takes too long */
		close(ends[1]);
		while (read(ends[0], &next, sizeof(next)) == (ssize_t)sizeof(next))
			guarded = next;
		if (guarded > 0)
			kill(guarded, SIGKILL);
		_exit(0);
	}
	close(ends[0]);
	fcntl(ends[1], F_SETFD, FD_CLOEXEC);
	return ends[1];
}

static void guard_say(int guard, pid_t pid) {
	ck_assert_int_eq((int)write(guard, &pid, sizeof(pid)), (int)sizeof(pid));
}

START_TEST(a_signal_starts_the_new_one) {
	struct forebay *old;
	char *text, *at;
	pid_t successor;

	SKIP_WHEN_DIRECT();
	int guard = guard_begin();
	old = start_with(WORKERS(_i), NULL, NULL, NULL);
	ck_assert_int_eq(kill(old->pid, SIGUSR2), 0);
	forebay_await_log(old, "successor_started process=");
	text = harness_read(old->log);
	at = strstr(text, "successor_started process=");
	successor = atoi(at + strlen("successor_started process="));
	free(text);
	guard_say(guard, successor);
	forebay_await_log(old, "taken_over process=");
	struct forebay next = *old;
	next.pid = successor;
	PGconn *conn = connect_app(&next);
	expect_value(conn, "select 1", "1");
	/* it is the old one's child, and logs where that does; the old one's end is in the log before its own */
	forebay_await_log(old, "predecessor_gone");
	ck_assert_int_eq(kill(successor, SIGTERM), 0);
	PQfinish(conn);
	for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS; harness_count_in(old->log, " stopped ") < 2;
	     harness_pause_ms(5))
		ck_assert_msg(harness_now_ms() < deadline, "the new one does not end");
	guard_say(guard, 0);
	close(guard);
	forebay_await_exit(old);
}
END_TEST

/* ---- another user ---- */

static long uid_of(pid_t pid) {
	char path[64], line[256];
	long uid = -1;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	FILE *file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "Uid: %ld", &uid) == 1)
			break;
	if (file)
		fclose(file);
	return uid;
}

static pid_t await_successor(const struct forebay *old, int how_many) {
	const char words[] = "successor_started process=";
	pid_t successor = 0;

	for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS; harness_count_in(old->log, words) < how_many;
	     harness_pause_ms(5))
		ck_assert_msg(harness_now_ms() < deadline, "nobody is started");
	char *text = harness_read(old->log);
	for (const char *at = text; (at = strstr(at, words)); at++)
		successor = atoi(at + strlen(words));
	free(text);
	return successor;
}

static void await_count(const char *path, const char *needle, int count) {
	for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS; harness_count_in(path, needle) < count; harness_pause_ms(5))
		ck_assert_msg(harness_now_ms() < deadline, "not %d times in the log: %s", count, needle);
}

static void expect_served(const struct forebay *forebay) {
	char local[300];

	snprintf(local, sizeof(local), "host=%s", forebay->socket_dir);
	const char *const ways[] = {"sslmode=disable", "sslmode=require", local};
	for (size_t i = 0; i < 3; i++) {
		PGconn *conn = connect_with(forebay, "%s", ways[i]);
		expect_value(conn, "select 1", "1");
		PQfinish(conn);
	}
}

/* Started as root, it and all that come after it are that user's: also one that root starts, and one that the signal does. */
START_TEST(run_as_is_kept_through_takeovers) {
	char process[900], listener[600], dir[256], key[300], pid_file[300];
	struct stat st;
	struct forebay signalled;

	SKIP_WHEN_DIRECT();
	if (geteuid() != 0) /* nobody else can become another user */
		return;
	snprintf(dir, sizeof(dir), "%s", harness_path("run"));
	harness_mkdir_as_postgres(dir);
	ck_assert_int_eq(stat(dir, &st), 0);
	long uid = st.st_uid;
	const struct passwd *user = getpwuid(st.st_uid);
	ck_assert_ptr_nonnull(user);
	snprintf(pid_file, sizeof(pid_file), "%s", harness_path("only-root-s.pid"));
	snprintf(process, sizeof(process), "run_as = %s\ntakeover_socket = %s/take\npid_file = %s", user->pw_name, dir, pid_file);
	snprintf(key, sizeof(key), "%s/server.key", dir);
	char *text = harness_read(harness_path("server.key"));
	harness_write_as_postgres(key, text);
	snprintf(listener, sizeof(listener), "auth = trust\ntls_key_file = %s", key);
	int guard = guard_begin();
	struct forebay *old = forebay_start(
		&(struct forebay_setup){.workers = 2, .process = process, .listener = listener});
	guard_say(guard, old->pid); /* which does not end with its parent: the system forgets that where the user changes */
	forebay_await_log(old, " ready ");
	ck_assert_int_eq(uid_of(old->pid), uid);
	ck_assert_int_eq(harness_count_in(old->log, "run_as_cannot_read"), 0);
	ck_assert_int_eq(stat(harness_path("run/take"), &st), 0);
	ck_assert_int_eq((long)st.st_uid, uid);
	ck_assert_int_eq(st.st_mode & 0777, 0600);
	expect_served(old);

	/* by root: as an operator would who starts it by hand */
	struct forebay *next = forebay_take_over(old);
	guard_say(guard, next->pid);
	forebay_await_exit(old);
	ck_assert_int_eq(uid_of(next->pid), uid);
	expect_pid(pid_file, next->pid);
	expect_served(next);

	/* a key that only root can read: all goes on as it was */
	ck_assert_int_eq(chown(key, 0, 0), 0);
	ck_assert_int_eq(kill(next->pid, SIGHUP), 0);
	forebay_await_log(next, "reload_refused");
	ck_assert_int_eq(kill(next->pid, SIGUSR2), 0);
	await_successor(next, 1);
	forebay_await_log(next, "successor_ended");
	expect_served(next);
	ck_assert_int_eq(chown(key, (uid_t)uid, (gid_t)-1), 0);

	/* by the process itself, which is that user */
	ck_assert_int_eq(kill(next->pid, SIGUSR2), 0);
	signalled = *next;
	signalled.pid = await_successor(next, 2);
	guard_say(guard, signalled.pid);
	forebay_await_log(next, "taken_over process=");
	ck_assert_int_eq(uid_of(signalled.pid), uid);
	await_count(next->log, "predecessor_gone", 1); /* it logs where the one before does */
	expect_served(&signalled);
	expect_pid(pid_file, signalled.pid);
	ck_assert_int_eq(kill(signalled.pid, SIGTERM), 0);
	await_count(next->log, " stopped ", 2);
	guard_say(guard, 0);
	forebay_await_exit(next);
	ck_assert_int_ne(access(harness_path("run/take"), F_OK), 0);

	/* who starts so as root is told at once */
	ck_assert_int_eq(chown(key, 0, 0), 0);
	struct forebay *warned = forebay_start(&(struct forebay_setup){.process = process, .listener = listener});
	guard_say(guard, warned->pid);
	forebay_await_log(warned, "run_as_cannot_read");
	forebay_await_log(warned, "server.key");
	expect_served(warned);
	forebay_stop(warned);
	guard_say(guard, 0);
	close(guard);
	free(text);
}
END_TEST

/* One that only root can listen on. */
static int free_low_port(void) {
	for (int port = 1023; port > 600; port--) {
		struct sockaddr_in in = {
			.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		bool is_free = bind(fd, (struct sockaddr *)&in, sizeof(in)) == 0;
		close(fd);
		if (is_free)
			return port;
	}
	ck_abort_msg("no port below 1024 is free");
}

static void expect_healthy(int port) {
	struct http_answer answer = http_get_tls(port, "/healthz", NULL);

	ck_assert_int_eq(answer.status, 200);
	http_free(&answer);
}

/* HTTP is handed over as well: that user could not listen there; and a key that it cannot read ends the new one in time. */
START_TEST(http_outlives_takeovers_by_run_as) {
	char process[1200], listener[400], dir[256], key[300];
	struct stat st;

	SKIP_WHEN_DIRECT();
	if (geteuid() != 0)
		return;
	int port = free_low_port();
	snprintf(dir, sizeof(dir), "%s", harness_path("http"));
	snprintf(key, sizeof(key), "%s/metrics.key", dir);
	harness_mkdir_as_postgres(dir);
	ck_assert_int_eq(stat(dir, &st), 0);
	char *text = harness_read(harness_path("server.key"));
	harness_write_as_postgres(key, text);
	ck_assert_int_eq(chmod(key, 0600), 0);
	ck_assert_int_eq(chown(key, 0, 0), 0);
	snprintf(process, sizeof(process),
		 "run_as = %s\ntakeover_socket = %s/take\nmetrics_listen = 127.0.0.1:%d\nmetrics_tls_cert_file = %s\n"
		 "metrics_tls_key_file = %s",
		 getpwuid(st.st_uid)->pw_name, dir, port, harness_path("server.crt"), key);
	int guard = guard_begin();
	snprintf(listener, sizeof(listener), "auth = trust\ntls_key_file = %s/server.key", dir);
	harness_write_as_postgres(strstr(listener, "/"), text);
	struct forebay *old = forebay_start(&(struct forebay_setup){.process = process, .listener = listener});
	guard_say(guard, old->pid);
	forebay_await_log(old, "run_as_cannot_read");
	forebay_await_log(old, "metrics.key");
	ck_assert_int_eq(kill(old->pid, SIGUSR2), 0);
	await_successor(old, 1);
	forebay_await_log(old, "successor_ended");
	expect_healthy(port);
	ck_assert_int_eq(chown(key, st.st_uid, (gid_t)-1), 0);
	ck_assert_int_eq(kill(old->pid, SIGUSR2), 0);
	struct forebay next = *old;
	next.pid = await_successor(old, 2);
	guard_say(guard, next.pid);
	await_count(old->log, "predecessor_gone", 1);
	expect_healthy(port);
	ck_assert_int_eq(harness_count_in(old->log, "http_failed"), 0);
	ck_assert_int_eq(kill(next.pid, SIGTERM), 0);
	await_count(old->log, " stopped ", 2);
	guard_say(guard, 0);
	close(guard);
	free(text);
	forebay_await_exit(old);
}
END_TEST

/* A pgbouncer.ini's list of users is one thing that a start, and only that, goes on without. */
START_TEST(a_list_of_users_that_run_as_cannot_read_is_told) {
	char *text = NULL, list[300];
	struct stat st;

	SKIP_WHEN_DIRECT();
	if (geteuid() != 0)
		return;
	harness_mkdir_as_postgres(harness_path("of-postgres"));
	ck_assert_int_eq(stat(harness_path("of-postgres"), &st), 0);
	snprintf(list, sizeof(list), "%s", harness_path("only-root-s.txt"));
	int guard = guard_begin();
	struct forebay *forebay = forebay_prepare();
	ck_assert_int_gt(asprintf(&text,
				  "[databases]\napp = host=127.0.0.1 port=%d\n"
				  "[pgbouncer]\nuser = %s\nlisten_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir =\n"
				  "auth_type = plain\nauth_file = %s\n",
				  harness_postgres_port(), getpwuid(st.st_uid)->pw_name, forebay->port, list),
			 0);
	harness_write(forebay->ini, text);
	harness_write(list, "\"app\" \"app-secret\"\n");
	ck_assert_int_eq(chmod(forebay->ini, 0644), 0);
	ck_assert_int_eq(chmod(list, 0600), 0);
	forebay_launch(forebay);
	guard_say(guard, forebay->pid);
	forebay_await_log(forebay, " ready ");
	ck_assert_int_eq(harness_count_in(forebay->log, "run_as_cannot_read"), 1);
	PGconn *conn = connect_app(forebay); /* root has read it */
	ck_assert_int_eq(kill(forebay->pid, SIGHUP), 0);
	forebay_await_log(forebay, "reload_refused");
	expect_value(conn, "select 1", "1");
	PQfinish(conn);
	free(text);
	forebay_stop(forebay);
	guard_say(guard, 0);
	close(guard);
}
END_TEST

/* ---- the service manager ---- */

struct manager {
	int fd;
	char path[108];
};

static void manager_begin(struct manager *manager) {
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	snprintf(manager->path, sizeof(manager->path), "%s", harness_path("notify"));
	memcpy(un.sun_path, manager->path, sizeof(manager->path));
	manager->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(manager->fd, 0);
	unlink(manager->path);
	ck_assert_int_eq(bind(manager->fd, (struct sockaddr *)&un, sizeof(un)), 0);
	const struct timeval wait = {.tv_sec = HARNESS_DEADLINE_MS / 1000};
	setsockopt(manager->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	setenv("NOTIFY_SOCKET", manager->path, 1);
}

/* The next message that has this in it. */
static void manager_hears(struct manager *manager, const char *words) {
	char text[600];
	ssize_t n;

	do {
		n = recv(manager->fd, text, sizeof(text) - 1, 0);
		ck_assert_msg(n > 0, "nobody has said %s", words);
		text[n] = 0;
	} while (!strstr(text, words));
}

static void manager_end(struct manager *manager) {
	unsetenv("NOTIFY_SOCKET");
	unlink(manager->path);
	close(manager->fd);
}

START_TEST(the_service_manager_is_told) {
	struct manager manager;
	struct forebay *old, *forebay;
	char pid[40];

	SKIP_WHEN_DIRECT();
	manager_begin(&manager);
	old = start_with(WORKERS(_i), NULL, NULL, NULL);
	manager_hears(&manager, "READY=1");
	kill(old->pid, SIGHUP);
	manager_hears(&manager, "RELOADING=1\nMONOTONIC_USEC=");
	manager_hears(&manager, "READY=1");
	forebay = forebay_take_over(old);
	snprintf(pid, sizeof(pid), "MAINPID=%d", (int)forebay->pid);
	manager_hears(&manager, pid); /* by the old one, which is the one that may say so */
	manager_hears(&manager, "READY=1\nMAINPID=");
	forebay_await_exit(old);
	kill(forebay->pid, SIGTERM);
	manager_hears(&manager, "STOPPING=1");
	forebay_await_exit(forebay);
	manager_end(&manager);
}
END_TEST

/* A listening socket as the service manager opens it. */
static int activated(int port) {
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	const int on = 1;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	ck_assert_int_ge(fd, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	ck_assert_int_eq(listen(fd, 64), 0);
	return fd;
}

START_TEST(sockets_of_the_service_manager_outlive_restarts) {
	int port = harness_free_port(), unused = harness_free_port();
	struct forebay_setup setup = {.workers = WORKERS(_i),
				      .listener = "auth = trust",
				      .port = port,
				      .passed = 2,
				      .shell = "LISTEN_PID=$$ LISTEN_FDS=2 exec \"$@\""};
	int saved[2];

	SKIP_WHEN_DIRECT();
	int mine = activated(port), other = activated(unused);
	ck_assert_int_gt(mine, 4);
	/* to where such sockets begin; whatever the test has there comes back afterwards */
	for (int i = 0; i < 2; i++)
		saved[i] = dup(3 + i);
	for (int round = 0; round < 3; round++) {
		dup2(mine, 3);
		dup2(other, 4);
		struct forebay *forebay = forebay_start(&setup);
		for (int i = 0; i < 2; i++) {
			close(3 + i);
			if (saved[i] >= 0)
				dup2(saved[i], 3 + i);
		}
		forebay_await_log(forebay, "socket_unused");
		PGconn *conn = connect_app(forebay);
		expect_value(conn, "select 1", "1");
		PQfinish(conn);
		forebay_stop(forebay);
		/* who comes while none runs waits for the next */
		ck_assert(harness_port_accepts(port));
	}
	for (int i = 0; i < 2; i++)
		if (saved[i] >= 0)
			close(saved[i]);
	close(mine);
	close(other);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("restart");
	TCase *tcase = tcase_create("restart");

	harness_begin(NULL);
	tcase_set_timeout(tcase, 120);
	suite_add_tcase(suite, tcase);
	LOOP(tcase, restarts_refuse_nobody_and_cut_nothing);
	LOOP(tcase, both_together_keep_to_max_size);
	LOOP(tcase, a_cancel_reaches_the_session_of_the_old_process);
	LOOP(tcase, one_that_cannot_start_changes_nothing);
	LOOP(tcase, an_address_that_the_new_one_does_not_have_goes);
	LOOP(tcase, pid_file_and_socket_files_are_the_new_one_s);
	tcase_add_loop_test(tcase, who_is_starting_keeps_the_sockets_of_one_that_ends_at_once, 0, 2);
	tcase_add_test(tcase, a_signal_starts_the_new_one);
	tcase_add_test(tcase, run_as_is_kept_through_takeovers);
	tcase_add_test(tcase, http_outlives_takeovers_by_run_as);
	tcase_add_test(tcase, a_list_of_users_that_run_as_cannot_read_is_told);
	tcase_add_test(tcase, the_service_manager_is_told);
	tcase_add_test(tcase, sockets_of_the_service_manager_outlive_restarts);
	return harness_run(suite);
}
