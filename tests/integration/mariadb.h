/*
 * One MariaDB for each test program that wants one, in the harness's scratch directory, and its client library in one line
 * each. It ends with the test program, whatever becomes of that.
 *
 * MYSQL_BIN is the folder of mariadbd (else it is looked for in PATH and /usr/sbin).
 */
#ifndef TESTS_MARIADB_H
#define TESTS_MARIADB_H

#include <mysql.h>

#include "harness.h"

/*
 * Users, with passwords "<name>-secret": app, second, tlsuser (REQUIRE SSL), monitor (may see replication), authuser (may
 * read accounts), limited (2 connections at a time). Without a password: trusted, root (all rights). Databases: app, other; the users may do all in
 * both of them.
 */

/* Instead of harness_begin(), or after it where a program wants both databases. `options`: NULL-terminated, further
 * options of mariadbd ("--wait-timeout=5"); NULL: none. Call first in main(); harness_run() ends it. */
void maria_begin(const char *const *options);
int maria_port(void);
const char *maria_socket(void); /* of MariaDB itself */
const char *maria_log(void);
/* As an operator would, or at once as in a crash. From any of the test's processes. */
void maria_stop(bool crash);
void maria_start(void);

/*
 * A Forebay in front of it. Like forebay_start(), but [listener:my] speaks MySQL, `default_pool` is app, and
 * [pool:app] leads to MariaDB; default users: app, second, trusted, tlsuser. Direct: MariaDB itself.
 */
struct forebay *maria_forebay(const struct forebay_setup *setup);
/* For forebay_rewrite_ini(): the same setup as maria_forebay() takes. */
struct forebay_setup maria_setup(const struct forebay_setup *setup);

struct maria_login {
	const char *user, *password; /* NULL: app, "<user>-secret"; "" is no password */
	const char *database;        /* NULL: app; "": none */
	unsigned long flags;         /* CLIENT_MULTI_STATEMENTS ... */
	const char *plugin;          /* the client's default authentication; NULL: the library's */
	bool tls;                    /* must be encrypted; the certificate is verified */
	int port;                    /* 0: Forebay's */
	bool unix_socket;            /* Forebay's */
	const char *program;         /* connect attribute program_name */
};
/* Never NULL; may have failed: mysql_errno() says so. mysql_close() it. `login` may be NULL. */
MYSQL *maria_try(const struct forebay *forebay, const struct maria_login *login);
/* The same; the test fails where the connection does. */
MYSQL *maria_connect(const struct forebay *forebay, const struct maria_login *login);
/* To MariaDB itself, as root. */
MYSQL *maria_control(void);
/* The connection failed with this error (mysql_errno()) and words in its text; closes it. */
void maria_expect_refused(MYSQL *my, unsigned code, const char *words);

/* Runs one or more statements; the first value of the first row of the first result, malloc'd ("" where there is none, "NULL"
 * for null). */
char *maria_value(MYSQL *my, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
long maria_long(MYSQL *my, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void maria_execute(MYSQL *my, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void maria_expect(MYSQL *my, const char *sql, const char *expected);
/* It fails with this error; the connection stays usable. */
void maria_expect_error(MYSQL *my, const char *sql, unsigned code);
/* Polls until the query's value is as expected. */
void maria_await(MYSQL *my, const char *sql, const char *expected);
/* Connections of this user at MariaDB (NULL: of app). */
long maria_connections(MYSQL *control, const char *user);

#endif
