/*
 * What follows login: the halves of a client, a server and a worker that the relay keeps, embedded in those of
 * internal.h, and the functions by which login and protocol.c hand over to it. Private to this folder.
 *
 *   frontend.c   from a client: one command at a time
 *   statement.c  binary prepared statements over servers: what is known of them; binary.c: their commands
 *   backend.c    from a server: every packet is matched with the head of its queue of requests
 *   state.c      the session's state: what answers tell of it, and how it is given to another server
 *   server.c     a server between its clients: made ready, reset, recovered
 *   relay.c      what is left: deadlines, console
 *   cancel.c     KILL QUERY on a connection of its own
 *
 * How each kind of session state is treated: doc/mysql-sessions.md.
 */
#ifndef MYSQL_RELAY_H
#define MYSQL_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/timeouts.h"
#include "mysql/answer.h"
#include "mysql/dial.h"
#include "mysql/said.h"
#include "mysql/statement.h"
#include "session/cancel.h"
#include "session/console.h"
#include "session/pin.h"
#include "session/protocol.h"
#include "session/settings.h"

struct my_client;
struct my_server;
struct sql_lexer;

enum {
	MY_QUEUE = 16,                 /* requests outstanding on a server: one of the client's, and ours around it */
	MY_TEXT_HOLD_MAX = 64 * 1024,  /* a longer statement is sent on while it is looked at */
};

/* Part of a set of settings beside the variables: the current schema. No variable has such a name. */
#define MY_SCHEMA_SETTING " schema"

/* What a request on a server is for. All but the first are ours: their answers go to nobody. */
enum my_task {
	MY_TASK_CLIENT,
	MY_TASK_RESET,     /* COM_RESET_CONNECTION */
	MY_TASK_IDENTITY,  /* which server it is */
	MY_TASK_TRACKERS,  /* turns on what tells us of the session's changes */
	MY_TASK_INIT,      /* init_sql */
	MY_TASK_SETTINGS,  /* gives it the client's variables ... */
	MY_TASK_SCHEMA,    /* ... schema ... */
	MY_TASK_OPTION,    /* ... and COM_SET_OPTION */
	MY_TASK_INSERT_ID, /* SET last_insert_id */
	MY_TASK_CLEAR,     /* empties the list of warnings */
	MY_TASK_PREPARE,   /* a statement that this server does not know yet */
	MY_TASK_PING,      /* after an error: its OK tells whether a transaction is open */
	MY_TASK_LEARN,     /* asks for what no tracker tells */
	MY_TASK_ROLLBACK,
	MY_TASK_VALIDATE
};

struct my_request {
	uint8_t task, asked, command;
	uint8_t sequence; /* of the last packet of the command */
	bool ran;         /* the state that it leaves is noted: hints have been acted on */
	bool cursor;      /* EXECUTE that asks for one */
	uint64_t hints;   /* sql.h: of the text that runs */
	struct my_statement *statement; /* the client's; NULL: none, or it has gone */
	struct my_prepared *prepared;   /* the server's */
	struct my_text *text;           /* that is being prepared; referenced */
};

struct my_client_relay {
	struct settings *wants;   /* variables and schema of its session; equal to its server's while it has one */
	struct settings *initial; /* ... when it began */
	struct my_statements statements;
	uint64_t insert_id;       /* what LAST_INSERT_ID() is for it */
	uint32_t temporary_tables; /* at most so many are on its server ... */
	uint32_t sql_prepared;    /* ... and statements prepared as text, ... */
	uint32_t handlers;        /* ... and open HANDLERs */
	uint32_t pins;            /* 1 << enum pin_reason: why it keeps its server */
	uint16_t status;          /* of the last answer */
	bool multi;               /* CLIENT_MULTI_STATEMENTS, or COM_SET_OPTION */
	bool begun;               /* a server has held its session, schema and all */
	bool refused;             /* its command was answered with an error: skip it */
	bool killed;              /* its command, which waits for a server to be made ready, is to get an error */
	bool discard_more;        /* another packet of what is skipped follows */
	bool silent;              /* its command has no answer, not even an error */
	bool reset_done;          /* COM_RESET_CONNECTION: its server has been reset */
	bool eof_owed;            /* it has no DEPRECATE_EOF: the one behind the columns, unless a cursor makes it the last */
	bool asks_warnings;       /* has looked at warnings before */
	bool insert_id_unknown;   /* only its server knows it */
	uint32_t discard;         /* bytes of a packet still to be skipped */
	uint64_t bindings;        /* counts what its statements' parameters were bound as */
	struct sql_lexer *lexer;  /* looks at a statement that is being sent on; owned */
	char *owed;               /* an error that its next command gets: its transaction was rolled back */
};

struct my_server_relay {
	/* read or written in each transaction */
	struct my_answer answer;      /* of the head of the queue */
	bool answering;               /* a packet of it has come */
	bool passing_to_client;
	uint32_t passing;             /* bytes still to come of a packet in passing */
	uint32_t half_sent;           /* bytes still to come of a client's packet that has begun to leave */
	bool half_more;               /* ... and another packet of the same command follows */
	bool file;                    /* the client is sending a file */
	uint8_t head, count;
	struct my_request queue[MY_QUEUE];
	struct settings *has;         /* variables and schema in force */
	struct settings *fresh;       /* ... after login or a reset */
	uint16_t status;
	bool transaction_state;       /* the tracker names a transaction, or locked tables */
	bool characteristics;         /* ... or what holds for the next transaction */
	bool touched;                 /* it holds what only its last client may see: to be reset before another has it */
	bool unknown;                 /* a part of its state is not known: to be reset before anybody has it */
	bool warnings;                /* its list may hold some ... */
	bool warnings_foreign;        /* ... of another client's statement */
	bool shared;                  /* more than one client has been on it since its session began */
	bool count_foreign;           /* ROW_COUNT() would tell of another client's statement */
	bool multi;
	bool learning;
	bool recovering;
	bool setting_up;              /* login is done, it is not ready yet */
	bool init_under_way;          /* trackers are on, init_sql runs */
	bool task_failed;             /* one of those asked together; the error is that of the first ... */
	uint8_t failed_task;          /* ... which was this */
	bool no_trackers;
	bool preparing;               /* is made ready for its client */
	bool refuse_schema;           /* ... and its schema is not there */
	bool insert_id_known;
	bool read_lock;               /* FLUSH TABLES WITH READ LOCK and the like, which no tracker tells */
	uint64_t insert_id;           /* what LAST_INSERT_ID() is there; or was, before it became unknown */
	uint64_t transaction_since_ns;
	struct my_prepareds prepareds;
	uint8_t said_count;
	struct my_said said[2];

	/* now and then */
	struct timeout nudge;         /* recovery: cancel if it has not ended by then */
	struct timeout hold;          /* ends PIN_WARNINGS */
	uint64_t identity;            /* names the server, whatever its address: 0: unknown */
	uint16_t task_code;
	char task_sqlstate[6];
	char task_error[256];
	bool learn_charsets;          /* what changed of them was not told whole */
};

/* Sets of variables that a server has taken: the same for the same account will not fail. */
enum { MY_PROVEN = 64 };
struct my_worker_relay {
	struct {
		uint64_t account;       /* its serial; 0: none */
		struct settings *set;   /* referenced */
	} proven[MY_PROVEN];
};

/* A connection that carries a KILL QUERY: session/cancel.h. */
struct my_cancel {
	struct cancel base;
	struct my_dial dial;
	struct my_answer answer;
	char user[MY_USER_MAX + 1];
	uint8_t step;
	bool waits; /* for the end of a request of ours that goes ahead of what it is to end */
	uint32_t thread_id;
	uint64_t identity, answered; /* of the server that is meant; of the one that is there */
};

/* Each worker's. */
bool my_relay_worker_init(struct my_worker_relay *worker);
void my_relay_worker_free(struct my_worker_relay *worker);

/* Login is done (client_logged_in() has been called, client->start is filled in): sets up the session's state. The OK
 * follows this. False: out of memory. */
bool my_client_logged_in(struct my_client *client);
/* The same after COM_CHANGE_USER: nothing is left of the session before. False: out of memory. */
bool my_client_changed_user(struct my_client *client);
/* From the first command on; as protocol.client_input. */
size_t my_frontend_input(struct my_client *client, const uint8_t *data, size_t len);
/* Its request was answered with an error of ours: skip it. The client stays usable. */
void my_refused(struct my_client *client, const char *text);
bool my_client_linked(struct client *client, struct server *server);
void my_client_activity(const struct client *client, struct activity *activity);
void my_client_cut(struct client *client);
/* KILL QUERY, while a server is made ready for its command. */
void my_client_killed(struct client *client);
bool my_client_roll_back(struct client *client, enum deadline why, const char *text);
void my_client_relay_describe(const struct my_client *client, struct console_details *details);
/* Also of a client that never logged in. */
void my_client_relay_free(struct my_client *client);

/* Connected; login comes first. False: out of memory. */
bool my_server_relay_begin(struct my_server *server);
/* Login is done (server->facts are filled in): turns the trackers on, runs init_sql, and ends in server_ready() or
 * server_failed(). */
void my_server_logged_in(struct my_server *server);
size_t my_backend_input(struct my_server *server, const uint8_t *data, size_t len);
bool my_server_clean(const struct server *server);
bool my_server_busy(const struct server *server);
bool my_server_at_work(const struct server *server);
enum server_use my_server_use(const struct server *server);
void my_server_statements(const struct server *server, enum statement_text as, struct server_statements *out);
void my_server_recover(struct server *server);
void my_server_reset(struct server *server);
void my_server_uncancelled(struct server *server);
void my_server_validate(struct server *server, const char *sql);
/* COM_QUIT, where it can be sent. Only of a server that is logged in. */
void my_server_goodbye(struct server *server);
void my_server_moving(struct server *server);
void my_server_relay_describe(const struct my_server *server, struct console_details *details);
/* Also of a server that never logged in. */
void my_server_relay_free(struct my_server *server);

void my_cancel_begin(struct cancel *cancel);
size_t my_cancel_input(struct cancel *cancel, const uint8_t *data, size_t len);
void my_cancel_secured(struct cancel *cancel);
void my_cancel_free(struct cancel *cancel);

#endif
