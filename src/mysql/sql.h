/*
 * What can be told from the text of a statement: the only place that looks at SQL.
 *
 * The server's own session trackers tell most of what a statement has changed. What they do not tell is found here,
 * by words: not a parser, and it decides nothing. A hint says that a statement *may* do what the hint names. Hints err
 * towards too many: whatever the server would execute is seen, and some of what it would not is seen as well (both
 * readings of executable comments, every use of a name). Words inside strings and comments are not seen, but for the few
 * texts where nobody can tell where a string ends (see SQL_BLIND).
 *
 * What no look at a text can see: what happens inside stored routines, triggers and events, and what EXECUTE runs.
 *
 * No allocation, one pass over the text, any thread. Any bytes are survived.
 */
#ifndef MYSQL_SQL_H
#define MYSQL_SQL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How the session that the text is meant for reads it. */
enum sql_reading {
	SQL_NO_BACKSLASH_ESCAPES = 1 << 0, /* sql_mode; status flag 0x200 */
	SQL_ANSI_QUOTES = 1 << 1,          /* sql_mode; MariaDB's status flag 0x8000 */
	SQL_MODE_UNKNOWN = 1 << 2,         /* either may be on or off */
	SQL_MULTI_STATEMENTS = 1 << 3,     /* CLIENT_MULTI_STATEMENTS, or COM_SET_OPTION */
};

/* character_set_client where its characters may hold bytes below 0x80 after the first. */
enum sql_charset {
	SQL_CHARSET_PLAIN, /* all others: UTF-8, latin1, ujis, euckr, ... */
	SQL_CHARSET_BIG5,
	SQL_CHARSET_GBK,
	SQL_CHARSET_GB18030,
	SQL_CHARSET_SJIS, /* and cp932 */
	SQL_CHARSET_UNKNOWN,
};

/* Hints. */
/* Verbs: a statement begins so. */
#define SQL_SET                 (1ULL << 0)         /* SET, of any kind */
#define SQL_SET_STATEMENT       (1ULL << 1)         /* SET STATEMENT ... FOR: what it reports is not what stays */
#define SQL_SET_TRANSACTION     (1ULL << 2)         /* for the next transaction only: SET TRANSACTION, SET tx_isolation = without SESSION */
#define SQL_SET_NAMES           (1ULL << 3)         /* SET NAMES, SET CHARACTER SET, SET CHARSET */
#define SQL_SET_PASSWORD        (1ULL << 4)         /* SET PASSWORD */
#define SQL_SET_ROLE            (1ULL << 5)         /* SET ROLE, SET DEFAULT ROLE */
#define SQL_USE                 (1ULL << 6)
#define SQL_BEGIN               (1ULL << 7)         /* BEGIN, START TRANSACTION */
#define SQL_COMMIT              (1ULL << 8)
#define SQL_ROLLBACK            (1ULL << 9)         /* also ROLLBACK TO SAVEPOINT */
#define SQL_SAVEPOINT           (1ULL << 10)        /* SAVEPOINT, RELEASE SAVEPOINT */
#define SQL_XA                  (1ULL << 11)
#define SQL_CALL                (1ULL << 12)
#define SQL_COMPOUND            (1ULL << 13)        /* BEGIN NOT ATOMIC, IF, CASE, LOOP, a label, ...: a routine's body run at once */
#define SQL_KILL                (1ULL << 14)        /* struct sql_text.kill tells which form */
#define SQL_KILL_INSIDE         (1ULL << 15)        /* KILL within a compound statement, or where a text cannot be read for sure */
#define SQL_LOCK_TABLES         (1ULL << 16)        /* LOCK TABLES, LOCK INSTANCE, BACKUP STAGE, BACKUP LOCK */
#define SQL_UNLOCK_TABLES       (1ULL << 17)        /* UNLOCK TABLES, UNLOCK INSTANCE, BACKUP UNLOCK, BACKUP STAGE END */
#define SQL_FLUSH_LOCK          (1ULL << 18)        /* FLUSH ... WITH READ LOCK, FLUSH ... FOR EXPORT */
#define SQL_HANDLER             (1ULL << 19)        /* HANDLER, of any kind */
#define SQL_PREPARE             (1ULL << 20)        /* PREPARE as text */
#define SQL_EXECUTE             (1ULL << 21)        /* EXECUTE as text: what runs is not seen */
#define SQL_EXECUTE_IMMEDIATE   (1ULL << 22)        /* beside SQL_EXECUTE: leaves no prepared statement */
#define SQL_DEALLOCATE          (1ULL << 23)        /* DEALLOCATE PREPARE, DROP PREPARE */
#define SQL_CREATE_TEMPORARY    (1ULL << 24)        /* CREATE [OR REPLACE] TEMPORARY ... */
#define SQL_DROP_TEMPORARY      (1ULL << 25)        /* any DROP that may drop a temporary table */
#define SQL_LOAD_LOCAL          (1ULL << 26)        /* LOAD DATA or LOAD XML ... LOCAL */
#define SQL_BINLOG              (1ULL << 27)        /* BINLOG '...': the session keeps a format description event */
#define SQL_SHOW_VARIABLES      (1ULL << 28)        /* SHOW VARIABLES, SESSION_VARIABLES: shows last_insert_id and the like, too */
#define SQL_SHOW_PROFILE        (1ULL << 29)        /* SHOW PROFILE, SHOW PROFILES */
#define SQL_HANDLER_OPEN        (1ULL << 30)        /* HANDLER ... OPEN */
#define SQL_HANDLER_CLOSE       (1ULL << 31)        /* HANDLER ... CLOSE */

/* Words, wherever in a statement. */
#define SQL_GET_LOCK            (1ULL << 32)        /* GET_LOCK, service_get_*_locks */
#define SQL_RELEASE_LOCK        (1ULL << 33)        /* RELEASE_LOCK, RELEASE_ALL_LOCKS, service_release_locks */
#define SQL_IS_USED_LOCK        (1ULL << 34)        /* IS_USED_LOCK, IS_FREE_LOCK: tells the server's id of a session */
#define SQL_CALC_FOUND_ROWS     (1ULL << 35)
#define SQL_FOUND_ROWS          (1ULL << 36)
#define SQL_ROW_COUNT           (1ULL << 37)
#define SQL_LAST_INSERT_ID      (1ULL << 38)        /* LAST_INSERT_ID, @@identity: read or set */
#define SQL_LAST_INSERT_ID_SET  (1ULL << 39)        /* LAST_INSERT_ID(expr), SET last_insert_id =, identity =, insert_id = */
#define SQL_USER_VARIABLE       (1ULL << 40)        /* @name, used in any way; also user@host */
#define SQL_USER_VARIABLE_SET   (1ULL << 41)        /* @name :=, SET @name, INTO @name, CALL p(@name), LOAD ... (@name), GET DIAGNOSTICS */
#define SQL_SEQUENCE_NEXT       (1ULL << 42)        /* NEXTVAL, NEXT VALUE FOR, SETVAL: the session remembers the value */
#define SQL_SEQUENCE_LAST       (1ULL << 43)        /* LASTVAL, PREVIOUS VALUE FOR, CURRVAL: reads what it remembers */
#define SQL_SESSION_TRACK       (1ULL << 44)        /* any name session_track_*: the trackers themselves may be turned off */
#define SQL_RETURNING           (1ULL << 45)        /* its OK does not tell the insert id */
#define SQL_DIAGNOSTICS         (1ULL << 46)        /* SHOW WARNINGS, SHOW ERRORS, @@warning_count, @@error_count, GET DIAGNOSTICS */
#define SQL_RELEASE_ALL_LOCKS   (1ULL << 48)        /* beside SQL_RELEASE_LOCK */
#define SQL_CONNECTION_ID       (1ULL << 47)        /* CONNECTION_ID(), @@pseudo_thread_id: the server's id, not the client's */
#define SQL_LOAD                (1ULL << 49)        /* a verb: LOAD DATA, LOAD XML: its OK does not tell the insert id */
#define SQL_SET_UNTOLD          (1ULL << 50)        /* SET @@variable = without a scope: MariaDB's trackers do not tell that */
#define SQL_SET_SCOPED          (1ULL << 51)        /* SET with SESSION or the like somewhere in it */
#define SQL_SET_CALLS           (1ULL << 52)        /* SET with a `(`: a function may do what it does not name */

/* About the text. */
#define SQL_SEVERAL             (1ULL << 61)        /* more than one statement */
#define SQL_BLIND               (1ULL << 62)        /* where strings and comments end is not sure: words in them were taken as well */

enum sql_kill_form {
	SQL_KILL_NONE,
	SQL_KILL_CONNECTION, /* KILL id, KILL CONNECTION id */
	SQL_KILL_QUERY,      /* KILL QUERY id */
	SQL_KILL_SELF,       /* KILL [CONNECTION] CONNECTION_ID() */
	SQL_KILL_QUERY_SELF, /* KILL QUERY CONNECTION_ID() */
	SQL_KILL_QUERY_ID,   /* MariaDB's KILL QUERY ID n: a query's number, not a connection's */
	SQL_KILL_USER,       /* MariaDB's KILL [CONNECTION | QUERY] USER name */
	SQL_KILL_OTHER,      /* anything else: an expression, several statements of which one is a KILL, a syntax error */
};

struct sql_text {
	uint64_t hints;          /* SQL_... */
	enum sql_kill_form kill; /* not SQL_KILL_OTHER only where KILL is the one statement of the text */
	bool kill_soft;          /* MariaDB's KILL SOFT */
	uint8_t get_locks;       /* how often GET_LOCK and RELEASE_LOCK stand in the text, which is not how often they run; 255: */
	uint8_t release_locks;   /* that many or more, or nobody can tell */
	uint64_t kill_id;        /* for SQL_KILL_CONNECTION, SQL_KILL_QUERY and SQL_KILL_QUERY_ID */
};

/*
 * Looks at the whole of a text, which may hold several statements. `reading` is a set of enum sql_reading. For a client
 * without CLIENT_MULTI_STATEMENTS a `;` ends nothing.
 */
struct sql_text sql_look(const void *text, size_t len, unsigned reading, enum sql_charset charset);

/*
 * The same for a text that comes in pieces, however it is cut. Holds nothing that needs freeing, and nothing of the text
 * but its last few bytes.
 */
enum { SQL_LOOKAHEAD = 64 };

struct sql_lexer {
	struct sql_text text;
	uint32_t verbs;        /* words by which the statement may have begun */
	uint32_t before;       /* what the last token may have been */
	uint32_t before_aside; /* what it was before an executable comment */
	int32_t depth;         /* BEGINs and CASEs in a routine's body */
	uint8_t reading, charset;
	uint8_t state, quote;
	uint8_t kill_state, id_state;
	uint8_t tokens; /* of this statement, outside executable comments; counts to 2 */
	uint8_t statements; /* counts to 2 */
	bool starting;  /* the statement's first word is still to come */
	bool aside;     /* in an executable comment */
	bool starting_aside;
	bool blind, unsure, shifts, any_token, names_routine, is_body, variable, assigns;
	bool untold;    /* the last token was @@name where SET assigns */
	bool callable;  /* ... may be the name of a function, behind SET, that does what SET does not name */
	bool foreign;   /* a byte of 0x80 or more stands beside, or not far before: it may be a part of the name */
	bool body_parts; /* a `;` was taken for one within a routine's body */
	bool body_starts; /* ... and was the last token */
	uint64_t body_hints; /* what is behind it */
	uint8_t carried;
	uint8_t carry[2 * SQL_LOOKAHEAD];
};

void sql_begin(struct sql_lexer *x, unsigned reading, enum sql_charset charset);
void sql_feed(struct sql_lexer *x, const void *data, size_t len);

/* After the last piece. What `x->text.hints` says before that is true, but not all. */
struct sql_text sql_end(struct sql_lexer *x);

/* The charset for a value of character_set_client as a tracker tells it. */
enum sql_charset sql_charset_by_name(const char *name, size_t len);

/* The word that names a hint (one bit) in logs and as the reason of a pin, such as "get_lock"; NULL for one without. */
const char *sql_hint_name(uint64_t hint);

#endif
