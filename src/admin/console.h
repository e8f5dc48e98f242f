/*
 * The console: what an operator may say, and who may say it. One table holds each command with the role it needs, its
 * help and the function that runs it. Commands run on the worker of the client that asks; what needs the main thread
 * (RELOAD, SHUTDOWN) goes there by mail and comes back.
 */
#ifndef ADMIN_CONSOLE_H
#define ADMIN_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>

#include "net/mailbox.h"
#include "session/console.h"

enum console_role { ROLE_NOBODY, ROLE_STATS, ROLE_ADMIN };
enum shutdown_mode {
	SHUTDOWN_DRAIN, /* finish open transactions, as SIGTERM */
	SHUTDOWN_NOW
};

enum { WORDS_MAX = 16 };

/* A command taken apart. */
struct words {
	size_t count;
	char *at[WORDS_MAX];
	char *text; /* what they point into */
};

struct command {
	const char *words;    /* "SHOW POOLS": compared word by word without regard to case; the longest match runs */
	const char *argument; /* what may follow, for the help; NULL: nothing may */
	enum console_role role;
	const char *help; /* NULL: not listed */
	/* Answers by admin_answer(), from within or later. `arguments` live until it returns. */
	void (*run)(struct console_request *request, const struct words *arguments);
};

/* What main() does for the console; both on the main thread. */
struct admin_hooks {
	struct mailbox *mailbox; /* of the main loop */
	/* Reloads the configuration; marks the result failed when it was refused. */
	void (*reload)(struct console_result *result);
	/* Puts a setting in force until the next reload: of a forebay.ini "max_clients" or "pool:shop.max_size", of a pgbouncer.ini
	 * one by PgBouncer's name; likewise. */
	void (*set)(struct console_result *result, const char *key, const char *value);
	void (*shutdown)(enum shutdown_mode mode);
};

/* Main thread, before the workers start. The hooks must stay. */
bool admin_start(const struct admin_hooks *hooks);
/* Main thread, about once a second: takes the samples that SHOW STATS averages over. */
void admin_tick(void);
/* Main thread, after the workers have ended. */
void admin_stop(void);

/* Runs a command; ends in request->done(). What console_execute() calls. */
void admin_execute(struct console_request *request);
/* Gives the request back. On its worker's thread. */
void admin_answer(struct console_request *request);

const struct command *admin_commands(size_t *count);
bool command_allowed(const struct command *command, enum console_role role);
/* The command that the words begin with; `*used` of them are its own. NULL: there is none. */
const struct command *command_find(const struct words *words, size_t *used);
/* Takes a command apart: words, "identifiers", 'texts' and single marks; comments and closing semicolons are dropped.
 * False: `error` says what is wrong with it. Free with words_free() in any case. */
bool words_split(struct words *words, const char *text, struct error *error);
void words_free(struct words *words);

#endif
