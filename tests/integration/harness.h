/*
 * What every integration test stands on: one PostgreSQL for each test program in a scratch directory of its own, any
 * number of Forebays in front of it, and their end, whatever becomes of the test.
 *
 * A "janitor", a small process in a session of its own, removes the scratch directory when the test program is gone,
 * however it went, and stops PostgreSQL before. Forebays are killed by the kernel when the process that started them dies.
 *
 * Environment: FOREBAY is the binary under test (./forebay otherwise). FOREBAY_DIRECT=1 lets the tests talk to
 * PostgreSQL itself, to see that the tests are sound. PGBIN is the folder of postgres and initdb, FOREBAY_TEST_KEEP=1
 * keeps the scratch directory.
 */
#ifndef TESTS_HARNESS_H
#define TESTS_HARNESS_H

#include <check.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* How long a test waits for something that must happen. Generous: sanitizers and busy machines are slow. */
enum { HARNESS_DEADLINE_MS = 30000 };

/*
 * Users on PostgreSQL, with passwords "<name>-secret": app (SCRAM), md5user (md5), plainuser (asked for in plaintext),
 * authuser (superuser). Without: trusted, certuser (client certificate), postgres (superuser, Unix socket only).
 * Databases: app, other; both belong to app.
 */

/* Starts everything that the program's tests share. `postgres_conf`: further lines of postgresql.conf, may be NULL.
 * Ends the program with a message when that fails. Call first in main(). */
void harness_begin(const char *postgres_conf);
/* The same without PostgreSQL: see mariadb.h. */
void harness_begin_bare(void);
/* Runs the suite, prints the logs of Forebays that their tests left behind, stops PostgreSQL and returns main()'s
 * value. */
int harness_run(Suite *suite);
/* The same without a suite: for programs that are no Check suite. */
int harness_end(int status);

bool harness_direct(void);
/* First in a test that PostgreSQL itself could not pass. */
#define SKIP_WHEN_DIRECT()                                                                                             \
	do {                                                                                                           \
		if (harness_direct())                                                                                  \
			return;                                                                                        \
	} while (0)
const char *harness_dir(void);      /* the scratch directory */
const char *harness_path(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* in it; one of 8 in turn, of each thread */
int harness_postgres_port(void);
int harness_free_port(void);        /* of 127.0.0.1; below the range that outgoing connections use */
bool harness_port_accepts(int port); /* somebody listens on 127.0.0.1 */
void harness_write(const char *path, const char *text);
/* The whole of a file, malloc'd; fails the test when it cannot be read. */
char *harness_read(const char *path);
/* How often `needle` occurs in a file. */
int harness_count_in(const char *path, const char *needle);
/* Stops a process, and returns when each of its threads stands still: SIGSTOP alone may come later than what is sent next. */
void harness_freeze(pid_t pid);
const char *harness_postgres_log(void);
/* As an operator would (fast), or at once as in a crash. */
void harness_postgres_stop(bool crash);
void harness_postgres_start(void);

/* Certificates in the scratch directory, made by openssl: ca.crt, server.crt/.key (127.0.0.1, localhost), client.crt
 * (CN=certuser), mapped.crt (CN=Some Body), other-ca.crt. */

struct forebay_setup {
	int workers;          /* 0: 1 */
	/* Lines of the ini file; each replaces the harness's default for the same key. NULL: none. */
	const char *process;  /* in [forebay] */
	const char *listener; /* in [listener:pg] */
	const char *pool;     /* in [pool:app] */
	const char *more;     /* further sections, whole */
	bool no_default_users;
	int mysql_port;       /* not 0: it speaks MySQL, and this is its backend: see mariadb.h */
	int port;             /* 0: a free one */
	/* A command of sh that starts it: "$@" is the program with its arguments. NULL: it is started as it is. */
	const char *shell;
	int passed; /* so many of the test's descriptors from 3 on are passed to it */
};

struct forebay {
	pid_t pid;
	int port;             /* of its listener; PostgreSQL's own when direct */
	bool direct;
	bool sockets_only;        /* it does not listen on its port */
	bool violations_expected; /* a backend lies: violated invariants in the log are no failure */
	char ini[256], log[256], socket_dir[256];
};

/* Starts one and waits until it accepts. Fails the test when it does not. Defaults: max_size 5, workers 1, users app,
 * md5user, plainuser, trusted, ops (admin) and watcher (stats), all with passwords "<name>-secret". */
struct forebay *forebay_start(const struct forebay_setup *setup);
/* The same in two parts: with a port and a socket_dir of its own, `ini` being a path where nothing is yet; and the start,
 * once the test has written that file. Not for FOREBAY_DIRECT. */
struct forebay *forebay_prepare(void);
void forebay_launch(struct forebay *forebay);
/* One that takes over from this one (`forebay --takeover` with the same file). Returns when it is ready. Both are to be
 * stopped; of the old one only forebay_await_exit(). */
struct forebay *forebay_take_over(const struct forebay *old);
/* Runs it with --takeover and this file: its exit code, or -1 where it went on running; its log is commands.log. */
int forebay_takeover_exit_code(const char *ini);
/* SIGTERM; fails the test unless it exits with 0 in time and its log is free of sanitizer reports and violated
 * invariants. Frees it. */
void forebay_stop(struct forebay *forebay);
/* As forebay_stop(), but the process has been told to end already. */
void forebay_await_exit(struct forebay *forebay);
/* Runs it with this file as configuration, which it is to refuse: its exit code, or -1 where it went on running. */
int forebay_exit_code(const char *ini);
/* `forebay --check` of this file: its exit code, and what it says, malloc'd. */
int forebay_check(const char *ini, char **output);
void forebay_rewrite_ini(struct forebay *forebay, const struct forebay_setup *setup);
void forebay_await_log(struct forebay *forebay, const char *needle);
size_t forebay_rss_kib(const struct forebay *forebay);
int forebay_descriptors(const struct forebay *forebay); /* how many it has open */
bool forebay_alive(const struct forebay *forebay);

/* Runs a command, its output to the scratch directory's commands.log; false unless it exits with 0. */
bool harness_command(const char *const *argv);
/* Starts one in the background, its output to a file. It is killed when the test's process ends. */
pid_t harness_spawn(const char *const *argv, const char *log);
/* The same as the user that PostgreSQL runs as. */
bool harness_command_as_postgres(const char *const *argv);
/* As harness_spawn(), as that user, but it lives on when the calling process ends. It is to work in the scratch directory,
 * so that it ends with the test program. */
pid_t harness_spawn_as_postgres(const char *const *argv, const char *log);
/* A file or a folder that belongs to that user. */
void harness_write_as_postgres(const char *path, const char *text);
void harness_mkdir_as_postgres(const char *path);
/* Starts a PostgreSQL on this data directory, whose postmaster is a child of the calling process; it shuts down at once
 * when that ends. Whatever works in the scratch directory is ended with the test program. */
pid_t harness_spawn_postgres(const char *data, const char *log);
/* The path of one of PostgreSQL's programs; of one at a time. */
const char *harness_pg_program(const char *name);

long long harness_now_ms(void);
void harness_pause_ms(int ms); /* between two looks at a condition; never instead of one */

/* The number of workers of a loop test: 1, then 4. Add such tests by LOOP(tcase, test). With ThreadSanitizer 4 alone: a single
 * worker has hardly anybody to race with, and that sanitizer's time is better spent where it has something to find. */
#define WORKERS(i) ((i) == 0 ? 1 : 4)
#ifdef __SANITIZE_THREAD__
#define LOOP(tcase, test) tcase_add_loop_test(tcase, test, 1, 2)
#else
#define LOOP(tcase, test) tcase_add_loop_test(tcase, test, 0, 2)
#endif

#endif
