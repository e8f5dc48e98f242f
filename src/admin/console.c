#ifdef HAVE_CONFIG_H
#include <config.h>
#endif

#include "admin/console.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "admin/operate.h"
#include "admin/show.h"
#include "base/log.h"
#include "session/session.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0"
#endif

static const struct admin_hooks *hooks;

void admin_answer(struct console_request *request) {
	request->done(request);
}

static void unknown_command(struct console_request *request) {
	console_error(&request->result, "42601", "unknown command \"%.100s\"; SHOW HELP lists what the console knows",
		      request->text);
	admin_answer(request);
}

/* ---- what drivers say of themselves when they connect: taken, with no effect ---- */

static const struct {
	const char *name, *value;
} settings[] = {
	{"application_name", ""},
	{"client_encoding", "UTF8"},
	{"server_encoding", "UTF8"},
	{"server_version", PACKAGE_VERSION "/forebay"},
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_read_only", "off"},
	{"transaction_isolation", "read committed"},
	{"transaction_read_only", "off"},
	{"standard_conforming_strings", "on"},
	{"datestyle", "ISO, MDY"},
	{"intervalstyle", "postgres"},
	{"timezone", "UTC"},
	{"extra_float_digits", "1"},
	{"bytea_output", "hex"},
	{"client_min_messages", "notice"},
	{"search_path", ""},
	{"statement_timeout", "0"},
	{"lock_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
};
enum { SETTINGS = sizeof settings / sizeof settings[0] };

static int find_setting(const char *name) {
	for (int i = 0; i < SETTINGS; i++)
		if (strcasecmp(settings[i].name, name) == 0)
			return i;
	return -1;
}

static bool is_mark(const struct words *words, size_t i, const char *mark) {
	return i < words->count && strcasecmp(words->at[i], mark) == 0;
}

static void one_value(struct console_request *request, const char *name, enum console_type type, const char *value) {
	if (console_columns(&request->result, 1, &name, &type) && console_row(&request->result))
		console_set_text(&request->result, 0, value);
	admin_answer(request);
}

static void run_show_setting(struct console_request *request, const struct words *arguments) {
	int i = -1;

	snprintf(request->result.tag, sizeof request->result.tag, "SHOW");
	if (arguments->count == 1)
		i = find_setting(arguments->at[0]);
	else if (arguments->count == 2 && is_mark(arguments, 0, "TIME") && is_mark(arguments, 1, "ZONE"))
		i = find_setting("timezone");
	else if (arguments->count == 3 && is_mark(arguments, 0, "TRANSACTION"))
		i = find_setting("transaction_isolation");
	if (i < 0)
		unknown_command(request);
	else
		one_value(request, settings[i].name, CONSOLE_TEXT, settings[i].value);
}

/* What tools ask to see whether the line is alive, and with whom they talk. */
static void run_select(struct console_request *request, const struct words *arguments) {
	const char *what = arguments->count ? arguments->at[0] : "";
	bool call = arguments->count == 3 && is_mark(arguments, 1, "(") && is_mark(arguments, 2, ")");

	snprintf(request->result.tag, sizeof request->result.tag, "SELECT 1");
	if (arguments->count == 1 && *what && strspn(what, "0123456789") == strlen(what) && strlen(what) < 10)
		one_value(request, "?column?", CONSOLE_INT4, what);
	else if (call && (strcasecmp(what, "version") == 0 || strcasecmp(what, "pg_catalog.version") == 0))
		one_value(request, "version", CONSOLE_TEXT, "forebay " PACKAGE_VERSION);
	else if (call && strcasecmp(what, "current_database") == 0)
		one_value(request, "current_database", CONSOLE_TEXT, "forebay");
	else if (arguments->count == 1 && (strcasecmp(what, "current_user") == 0 || strcasecmp(what, "user") == 0))
		one_value(request, "current_user", CONSOLE_TEXT, request->user);
	else
		unknown_command(request);
}

/* BEGIN and its like: drivers frame every command with them. */
static void run_nothing(struct console_request *request, const struct words *arguments) {
	(void)arguments;
	admin_answer(request);
}

/* ---- what the main thread does ---- */

struct order {
	struct mail mail;
	struct console_request *request;
	char *key, *value; /* SET; NULL: RELOAD */
};

static void order_free(struct order *order) {
	if (!order)
		return;
	free(order->key);
	free(order->value);
	free(order);
}

static void deliver_answer(struct mail *mail, void *receiver) {
	struct order *order = (struct order *)mail;
	struct console_request *request = order->request;

	(void)receiver;
	order_free(order);
	admin_answer(request);
}

static void deliver_order(struct mail *mail, void *receiver) {
	struct order *order = (struct order *)mail;

	if (!hooks) { /* the workers have ended, and whoever asked with them */
		deliver_answer(mail, receiver);
		return;
	}
	if (order->key)
		hooks->set(&order->request->result, order->key, order->value);
	else
		hooks->reload(&order->request->result);
	order->mail.deliver = deliver_answer;
	mailbox_post(&order->request->worker->mailbox, &order->mail);
}

/* `key` NULL: RELOAD. */
static void give_order(struct console_request *request, const char *key, const char *value) {
	struct order *order = calloc(1, sizeof *order);

	if (order && key) {
		order->key = strdup(key);
		order->value = strdup(value);
	}
	if (!order || (key && (!order->key || !order->value))) {
		order_free(order);
		console_error(&request->result, "53200", "out of memory");
		admin_answer(request);
		return;
	}
	order->request = request;
	order->mail.deliver = deliver_order;
	mailbox_post(hooks->mailbox, &order->mail);
}

static void run_reload(struct console_request *request, const struct words *arguments) {
	(void)arguments;
	log_info("console_reload", LOG_FIELDS(LOG_TEXT("user", request->user)), "RELOAD was asked for on the console");
	give_order(request, NULL, NULL);
}

/* A setting of the file's. `value` NULL: there was more than one word. */
static void set_in_force(struct console_request *request, const char *key, const char *value) {
	if (!request->is_admin) {
		console_error(&request->result, "42501", "only admin_users may change settings");
		admin_answer(request);
	} else if (!value) {
		console_error(&request->result, "42601", "SET takes one value; put it in single quotes");
		admin_answer(request);
	} else {
		log_info("console_set", LOG_FIELDS(LOG_TEXT("user", request->user), LOG_TEXT("key", key)),
			 "SET %.64s was said on the console by \"%s\"", key, request->user);
		give_order(request, key, value);
	}
}

/* SET [SESSION | LOCAL] name { = | TO } value; SET TIME ZONE value; SET NAMES value. */
static void run_set(struct console_request *request, const struct words *arguments) {
	size_t at = is_mark(arguments, 0, "SESSION") || is_mark(arguments, 0, "LOCAL") ? 1 : 0;

	snprintf(request->result.tag, sizeof request->result.tag, "SET");
	if ((is_mark(arguments, at, "TIME") && is_mark(arguments, at + 1, "ZONE") && arguments->count > at + 2) ||
	    (is_mark(arguments, at, "NAMES") && arguments->count == at + 2)) {
		admin_answer(request);
		return;
	}
	if (arguments->count < at + 3 || !(is_mark(arguments, at + 1, "=") || is_mark(arguments, at + 1, "TO"))) {
		console_error(&request->result, "42601", "SET on the console has the form SET name = value");
	} else if (find_setting(arguments->at[at]) < 0) {
		set_in_force(request, arguments->at[at], arguments->count == at + 3 ? arguments->at[at + 2] : NULL);
		return;
	}
	admin_answer(request);
}

struct shutdown_order {
	struct mail mail;
	enum shutdown_mode mode;
};

static void deliver_shutdown(struct mail *mail, void *receiver) {
	enum shutdown_mode mode = ((struct shutdown_order *)mail)->mode;

	(void)receiver;
	free(mail);
	if (hooks)
		hooks->shutdown(mode);
}

static void run_shutdown(struct console_request *request, const struct words *arguments) {
	const char *how = arguments->count ? arguments->at[0] : "";
	enum shutdown_mode mode = SHUTDOWN_DRAIN;
	struct shutdown_order *order = NULL;

	if (strcasecmp(how, "WAIT_FOR_CLIENTS") == 0) {
		console_error(&request->result, "0A000",
			      "SHUTDOWN WAIT_FOR_CLIENTS is not supported; SHUTDOWN lets each client finish its open "
			      "transaction, within shutdown_timeout");
	} else if (strcasecmp(how, "NOW") == 0 || strcasecmp(how, "IMMEDIATE") == 0) {
		mode = SHUTDOWN_NOW;
	} else if (*how && strcasecmp(how, "WAIT_FOR_SERVERS") != 0) {
		unknown_command(request);
		return;
	}
	if (!request->result.failed) {
		order = calloc(1, sizeof *order);
		if (!order)
			console_error(&request->result, "53200", "out of memory");
	}
	if (order) {
		log_info("console_shutdown", LOG_FIELDS(LOG_TEXT("user", request->user)),
			 "SHUTDOWN was asked for on the console");
		order->mode = mode;
		order->mail.deliver = deliver_shutdown;
	}
	/* answered first: the client may be gone as soon as main() knows */
	admin_answer(request);
	if (order)
		mailbox_post(hooks->mailbox, &order->mail);
}

/* ---- the table ---- */

static void run_help(struct console_request *request, const struct words *arguments);

static const struct command commands[] = {
	{"SHOW POOLS", NULL, ROLE_STATS, "Clients and connections of each pool, for each of its users.", show_pools},
	{"SHOW CLIENTS", NULL, ROLE_STATS, "Each client: who, from where, what it does.", show_clients},
	{"SHOW SERVERS", NULL, ROLE_STATS, "Each connection to a database, and whom it serves.", show_servers},
	{"SHOW WAITERS", NULL, ROLE_STATS, "Clients that wait for a connection.", show_waiters},
	{"SHOW LEAKS", NULL, ROLE_STATS, "Clients that hold a connection and leave it unused, and those that did.",
	 show_leaks},
	{"SHOW DATABASES", NULL, ROLE_STATS, "Each pool: where it leads, its bounds, how much of them is in use.",
	 show_databases},
	{"SHOW HOSTS", NULL, ROLE_STATS, "Each database host: does it answer, is it primary or standby, how full is it.",
	 show_hosts},
	{"SHOW USERS", NULL, ROLE_STATS, "Users, with their limits and connections.", show_users},
	{"SHOW STATS", NULL, ROLE_STATS, "Work done for each database: totals, and averages of the last minute or two.",
	 show_stats},
	{"SHOW STATS_TOTALS", NULL, ROLE_STATS, "The totals of SHOW STATS.", show_stats_totals},
	{"SHOW STATS_AVERAGES", NULL, ROLE_STATS, "The averages of SHOW STATS.", show_stats_averages},
	{"SHOW TOTALS", NULL, ROLE_STATS, "SHOW STATS summed up over all databases.", show_totals},
	{"SHOW LISTS", NULL, ROLE_STATS, "How many there are of what.", show_lists},
	{"SHOW AUDIT", NULL, ROLE_STATS, "How often the process has checked its own lists and counts, and what it found.",
	 show_audit},
	{"SHOW CONFIG", NULL, ROLE_STATS, "Every setting in force; secrets as ***.", show_config},
	{"SHOW MEM", NULL, ROLE_STATS, "What memory is used for.", show_mem},
	{"SHOW STATE", NULL, ROLE_STATS, "Whether anything is paused.", show_state},
	{"SHOW VERSION", NULL, ROLE_STATS, "The version of this program.", show_version},
	{"SHOW HELP", NULL, ROLE_STATS, "This list.", run_help},
	{"AUDIT", NULL, ROLE_ADMIN, "Checks all lists and counts now; SHOW AUDIT tells the outcome.", run_audit},
	{"RELOAD", NULL, ROLE_ADMIN, "Reads the configuration file anew; refused as a whole if anything is wrong in it.",
	 run_reload},
	{"PAUSE", "[database]", ROLE_ADMIN,
	 "Lets clients wait, closes connections as they become free, and answers when all are closed. RESUME ends it.",
	 operate_pause},
	{"RESUME", "[database]", ROLE_ADMIN, "Ends PAUSE or KILL: clients get connections again.", operate_resume},
	{"DISABLE", "database", ROLE_ADMIN, "Lets no further client in; those who are in go on.", operate_disable},
	{"ENABLE", "database", ROLE_ADMIN, "Ends DISABLE.", operate_enable},
	{"RECONNECT", "[database]", ROLE_ADMIN,
	 "Closes each connection as soon as it is free; new ones take their place. WAIT_CLOSE waits for that.",
	 operate_reconnect},
	{"WAIT_CLOSE", "[database]", ROLE_ADMIN, "Answers when the connections that RECONNECT or RELOAD gave up are closed.",
	 operate_wait_close},
	{"KILL", "[database]", ROLE_ADMIN,
	 "Drops all clients and connections at once, whatever they do, and lets new clients wait until RESUME.",
	 operate_kill},
	{"KILL_CLIENT", "id", ROLE_ADMIN, "Drops one client, by its id or ptr in SHOW CLIENTS; its connection is kept.",
	 operate_kill_client},
	{"SET", "key = value", ROLE_STATS,
	 "Puts a setting in force until RELOAD, for admins: of [forebay] by its key, others as SET pool:shop.max_size = 30; with a "
	 "pgbouncer.ini by PgBouncer's name. What drivers set of themselves is taken without effect.",
	 run_set},
	{"SHUTDOWN", "[NOW]", ROLE_ADMIN, "Stops the process once open transactions have finished, or at once.",
	 run_shutdown},
	/* not listed: what drivers send of their own accord */
	{"SHOW", "setting", ROLE_STATS, NULL, run_show_setting},
	{"SELECT", "1", ROLE_STATS, NULL, run_select},
	{"BEGIN", "...", ROLE_STATS, NULL, run_nothing},
	{"START TRANSACTION", "...", ROLE_STATS, NULL, run_nothing},
	{"COMMIT", "...", ROLE_STATS, NULL, run_nothing},
	{"END", NULL, ROLE_STATS, NULL, run_nothing},
	{"ROLLBACK", "...", ROLE_STATS, NULL, run_nothing},
	{"RESET ALL", NULL, ROLE_STATS, NULL, run_nothing},
	{"DISCARD ALL", NULL, ROLE_STATS, NULL, run_nothing},
	{"DEALLOCATE ALL", NULL, ROLE_STATS, NULL, run_nothing},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

const struct command *admin_commands(size_t *count) {
	*count = COMMANDS;
	return commands;
}

bool command_allowed(const struct command *command, enum console_role role) {
	return role != ROLE_NOBODY && role >= command->role;
}

static void run_help(struct console_request *request, const struct words *arguments) {
	static const struct column columns[] = {
		{"command", CONSOLE_TEXT}, {"role", CONSOLE_TEXT}, {"description", CONSOLE_TEXT}};

	(void)arguments;
	if (SHOW_COLUMNS(&request->result, columns)) {
		for (int i = 0; i < COMMANDS; i++) {
			const struct command *c = &commands[i];
			if (!c->help || !console_row(&request->result))
				continue;
			console_set(&request->result, 0, "%s%s%s", c->words, c->argument ? " " : "",
				    c->argument ? c->argument : "");
			console_set_text(&request->result, 1, c->role == ROLE_ADMIN ? "admin" : "stats");
			console_set_text(&request->result, 2, c->help);
		}
	}
	admin_answer(request);
}

/* How many words of a command's name the words begin with; 0 unless all of them are there. */
static size_t match(const char *name, const struct words *words) {
	size_t used = 0;

	while (*name) {
		size_t len = strcspn(name, " ");
		if (used == words->count || strlen(words->at[used]) != len ||
		    strncasecmp(words->at[used], name, len) != 0)
			return 0;
		used++;
		name += len;
		name += *name == ' ';
	}
	return used;
}

const struct command *command_find(const struct words *words, size_t *used) {
	const struct command *best = NULL;

	*used = 0;
	for (int i = 0; i < COMMANDS; i++) {
		size_t n = match(commands[i].words, words);
		if (n > *used) {
			*used = n;
			best = &commands[i];
		}
	}
	return best;
}

void admin_execute(struct console_request *request) {
	struct words words;
	struct error error = {0};
	size_t used;

	if (!words_split(&words, request->text, &error)) {
		console_error(&request->result, "42601", "syntax error: %s", error.text);
		console_hint(&request->result, "Use SHOW HELP.");
		admin_answer(request);
		words_free(&words);
		return;
	}
	if (words.count == 0) { /* an empty command: an empty answer */
		admin_answer(request);
		words_free(&words);
		return;
	}
	const struct command *command = command_find(&words, &used);
	if (!command) {
		unknown_command(request);
	} else if (!command_allowed(command, request->is_admin ? ROLE_ADMIN : ROLE_STATS)) {
		console_error(&request->result, "42501",
			      "%s may be said by admin_users only, and \"%s\" is one of stats_users", command->words,
			      request->user);
		admin_answer(request);
	} else if (used < words.count && !command->argument) {
		console_error(&request->result, "42601", "syntax error: nothing may follow %s, but \"%.64s\" does",
			      command->words, words.at[used]);
		admin_answer(request);
	} else {
		struct words arguments = {.count = words.count - used};
		memcpy(arguments.at, words.at + used, arguments.count * sizeof words.at[0]);
		/* SHOW for its whole family; the command's own words otherwise */
		snprintf(request->result.tag, sizeof request->result.tag, "%.*s",
			 strncmp(command->words, "SHOW", 4) == 0 ? 4 : (int)sizeof request->result.tag, command->words);
		command->run(request, &arguments);
	}
	words_free(&words);
}

bool admin_start(const struct admin_hooks *given) {
	hooks = given;
	if (!stats_start())
		return false;
	console_install(admin_execute);
	return true;
}

void admin_tick(void) {
	stats_tick();
}

void admin_stop(void) {
	console_install(NULL);
	hooks = NULL;
	stats_stop();
}
