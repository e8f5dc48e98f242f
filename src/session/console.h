/*
 * The console's seam: a protocol brings a command and shows a result; admin/ (which stands higher, and is installed by
 * main()) executes it. Answers may come later, by mail, on the same worker.
 */
#ifndef SESSION_CONSOLE_H
#define SESSION_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/worker.h"

enum console_type { CONSOLE_TEXT, CONSOLE_INT4, CONSOLE_INT8, CONSOLE_BOOL, CONSOLE_FLOAT8, CONSOLE_NUMERIC };

struct console_chunk;

struct console_result {
	size_t columns, rows, cells_cap;
	const char **names;       /* static strings */
	enum console_type *types;
	char **cells;             /* rows * columns; NULL: null. Owned; the texts lie in `chunks`. Booleans are "t", "f". */
	char tag[64];             /* "SHOW", "RELOAD"; "": the command was empty */
	bool failed;
	char sqlstate[6];
	char error[512];
	char hint[256];           /* of the error; without one, a notice beside the answer */
	struct console_chunk *chunks; /* private */
};

struct console_request {
	struct worker *worker;  /* of the client that asks */
	bool is_admin;          /* else a stats user */
	const char *user;       /* who asks; valid until done */
	char *text;             /* the command; owned */
	struct console_result result;
	void (*done)(struct console_request *request); /* on `worker`; owns the request again */
	void *context;          /* the asker's; NULL once it has gone */
	/* Set while the answer waits for something that may take long: ends the waiting, the asker having gone or cancelled
	 * its command; calls done() from within. On `worker`. */
	void (*stop)(struct console_request *request);
	void *stop_context;
};

/* What only a protocol knows of a client or a server (protocol.client_describe, server_describe). The asker has
 * zeroed it. */
struct console_details {
	char application_name[64];
	uint32_t backend_pid; /* a server's process; 0: unknown */
	uint32_t prepared_statements;
	const char *pinned;      /* why a client keeps its server (session/pin.h); a static string; NULL: it is not pinned */
	const char *replication; /* a static string: "none", "physical", "logical"; NULL: none */
};

/* Before the workers start. */
void console_install(void (*execute)(struct console_request *request));
/* On request->worker's thread. done() may be called from within. False: no console is there; done() is not called. */
bool console_execute(struct console_request *request);

/* Where a command goes on, past blanks and comments (nested ones too, as in SQL). NULL: a comment that does not end. */
const char *console_skip_blanks(const char *text);

/* Building a result: one thread at a time. False: out of memory (the result is marked failed). */
bool console_columns(struct console_result *result, size_t count, const char *const *names,
		     const enum console_type *types);
/* Starts a row of nulls; cells are then set by index. */
bool console_row(struct console_result *result);
/* Sets a cell of the last row. */
void console_set(struct console_result *result, size_t column, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The same without a format; NULL: null. */
void console_set_text(struct console_result *result, size_t column, const char *text);
void console_set_number(struct console_result *result, size_t column, int64_t number);
void console_set_bool(struct console_result *result, size_t column, bool value);
/* Marks it failed; what rows it has are not to be shown. The first error stays. */
void console_error(struct console_result *result, const char *sqlstate, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void console_hint(struct console_result *result, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Frees what it holds, not the struct; it is empty then. */
void console_result_free(struct console_result *result);

#endif
