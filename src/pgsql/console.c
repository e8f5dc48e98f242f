/*
 * An operator's connection: commands in simple or extended queries, results as rows of text. The commands themselves
 * are admin/'s.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/list.h"
#include "base/reader.h"
#include "pgsql/pgsql.h"
#include "session/console.h"

enum { COMMAND_MAX = 64 * 1024, STATEMENTS_MOST = 100 };

/* What Parse has prepared. */
struct statement {
	struct list node;
	char *text;
	char name[];
};

/* What a command is run for. */
enum purpose {
	PURPOSE_QUERY,              /* a simple query: all of the answer */
	PURPOSE_EXECUTE,            /* an Execute: rows and the tag */
	PURPOSE_DESCRIBE_STATEMENT, /* a Describe: what columns there would be */
	PURPOSE_DESCRIBE_PORTAL
};

struct pg_console {
	char *user;
	bool is_admin, failed;
	enum purpose purpose;
	struct list statements;
	int statement_count;
	char *bound;                  /* text of the last Bind's statement; NULL: there is none */
	struct console_request *busy; /* under way */
	/* What a Describe has run the command for, until its Execute; of use only while the text is the bound one */
	struct console_result described;
	bool is_described;
};

static struct client *client_of(struct pg_client *pc) {
	return &pc->base;
}

static void ready(struct pg_client *pc) {
	static const uint8_t message[] = {'Z', 0, 0, 0, 5, 'I'};
	client_write(client_of(pc), message, sizeof message);
}

static void empty_message(struct pg_client *pc, char type) {
	const uint8_t message[] = {(uint8_t)type, 0, 0, 0, 4};
	client_write(client_of(pc), message, sizeof message);
}

static uint32_t type_oid(enum console_type type, int16_t *size) {
	switch (type) {
	case CONSOLE_INT4:
		*size = 4;
		return 23;
	case CONSOLE_INT8:
		*size = 8;
		return 20;
	case CONSOLE_BOOL:
		*size = 1;
		return 16;
	case CONSOLE_FLOAT8:
		*size = 8;
		return 701;
	case CONSOLE_NUMERIC:
		*size = -1;
		return 1700;
	case CONSOLE_TEXT:
		break;
	}
	*size = -1;
	return 25;
}

static void put_description(struct pg_builder *b, const struct console_result *result) {
	pg_open(b, 'T');
	pg_u16(b, (uint16_t)result->columns);
	for (size_t i = 0; i < result->columns; i++) {
		int16_t size;
		uint32_t oid = type_oid(result->types[i], &size);
		pg_cstr(b, result->names[i]);
		pg_u32(b, 0);
		pg_u16(b, 0);
		pg_u32(b, oid);
		pg_u16(b, (uint16_t)size);
		pg_u32(b, UINT32_MAX);
		pg_u16(b, 0);
	}
	pg_close(b);
}

static void put_rows(struct pg_builder *b, const struct console_result *result) {
	for (size_t row = 0; row < result->rows; row++) {
		pg_open(b, 'D');
		pg_u16(b, (uint16_t)result->columns);
		for (size_t i = 0; i < result->columns; i++) {
			const char *cell = result->cells[row * result->columns + i];
			pg_u32(b, cell ? (uint32_t)strlen(cell) : UINT32_MAX);
			if (cell)
				pg_raw(b, cell, strlen(cell));
		}
		pg_close(b);
	}
}

static void put_answer(struct pg_builder *b, const struct console_result *result, enum purpose purpose) {
	bool describes = purpose == PURPOSE_DESCRIBE_STATEMENT || purpose == PURPOSE_DESCRIBE_PORTAL;

	if (purpose == PURPOSE_DESCRIBE_STATEMENT) { /* it has no parameters */
		pg_open(b, 't');
		pg_u16(b, 0);
		pg_close(b);
	}
	if (result->columns > 0 && purpose != PURPOSE_EXECUTE) {
		put_description(b, result);
	} else if (describes) {
		pg_open(b, 'n');
		pg_close(b);
	}
	if (describes)
		return;
	put_rows(b, result);
	pg_open(b, 'C');
	pg_cstr(b, result->tag);
	pg_close(b);
}

static void show(struct pg_client *pc, const struct console_result *result) {
	struct pg_console *console = pc->console;
	struct client *client = client_of(pc);
	if (result->failed) {
		pg_send_error(client, "ERROR", result->sqlstate[0] ? result->sqlstate : "XX000", result->error,
			      result->hint[0] ? result->hint : NULL);
		console->failed = true;
	} else {
		struct pg_builder b = pg_builder(client->sw->worker->buffers);
		if (result->hint[0])
			client->protocol->client_notice(client, result->hint);
		put_answer(&b, result, console->purpose);
		if (b.ok)
			client_write(client, buf_bytes(&b.buf), buf_len(&b.buf));
		pg_builder_release(&b);
	}
	if (console->purpose == PURPOSE_QUERY) {
		console->failed = false;
		ready(pc);
	}
}

static void forget_described(struct pg_console *console) {
	if (console->is_described)
		console_result_free(&console->described);
	console->is_described = false;
}

/* What a portal's Describe has found out is what its Execute shows. */
static void keep_described(struct pg_console *console, struct console_result *result) {
	forget_described(console);
	if (console->purpose != PURPOSE_DESCRIBE_PORTAL || result->failed)
		return;
	console->described = *result;
	console->is_described = true;
	*result = (struct console_result){0};
}

static void executed(struct console_request *request) {
	struct pg_client *pc = request->context;
	if (pc) {
		pc->console->busy = NULL;
		if (!client_of(pc)->closing)
			show(pc, &request->result);
		keep_described(pc->console, &request->result);
	}
	console_result_free(&request->result);
	free(request->text);
	free((char *)request->user);
	free(request);
	if (pc)
		client_resume(client_of(pc));
}

static void execute(struct pg_client *pc, const char *text, enum purpose purpose) {
	struct pg_console *console = pc->console;
	console->purpose = purpose;
	struct console_request *request = calloc(1, sizeof *request);
	if (request) {
		request->worker = pc->base.sw->worker;
		request->is_admin = console->is_admin;
		request->user = strdup(console->user);
		request->text = strdup(text);
		request->done = executed;
		request->context = pc;
	}
	if (!request || !request->user || !request->text) {
		client_end(client_of(pc), REFUSAL_INTERNAL, "out of memory");
		return;
	}
	console->busy = request;
	pc->base.hold = HOLD_OUTCOME;
	if (!console_execute(request)) {
		console->busy = NULL;
		pc->base.hold = HOLD_NONE;
		struct console_result result = {0};
		console_error(&result, "58000", "the console is not available in this process");
		show(pc, &result);
		console_result_free(&result);
		free(request->text);
		free((char *)request->user);
		free(request);
	}
}

static bool is_blank(const char *s) {
	return s[strspn(s, " \t\r\n;")] == 0;
}

static void fail(struct pg_client *pc, const char *text) {
	pg_send_error(client_of(pc), "FATAL", "08P01", text, NULL);
	pc->told_fatal = true;
	client_close(client_of(pc), text);
}

/* ---- extended queries: statements without parameters, and one portal, which is all that drivers need here ---- */

static void refuse(struct pg_client *pc, const char *sqlstate, const char *text) {
	pg_send_error(client_of(pc), "ERROR", sqlstate, text, NULL);
	pc->console->failed = true;
}

static struct statement *statement_find(struct pg_console *console, const char *name) {
	list_for_each(node, &console->statements) {
		struct statement *statement = list_entry(node, struct statement, node);
		if (strcmp(statement->name, name) == 0)
			return statement;
	}
	return NULL;
}

static void statement_free(struct pg_console *console, struct statement *statement) {
	list_remove(&statement->node);
	console->statement_count--;
	free(statement->text);
	free(statement);
}

static void on_parse(struct pg_client *pc, struct reader *r) {
	struct pg_console *console = pc->console;
	const char *name = reader_cstr(r, NULL), *text = name ? reader_cstr(r, NULL) : NULL;

	if (!text) {
		fail(pc, "invalid Parse message");
		return;
	}
	struct statement *old = statement_find(console, name);
	if (old && *name) {
		refuse(pc, "42P05", "the prepared statement exists already");
		return;
	}
	if (old)
		statement_free(console, old);
	if (console->statement_count == STATEMENTS_MOST) {
		refuse(pc, "53400", "the console keeps 100 prepared statements; close some");
		return;
	}
	struct statement *statement = calloc(1, sizeof *statement + strlen(name) + 1);
	if (statement)
		statement->text = strdup(text);
	if (!statement || !statement->text) {
		free(statement);
		client_end(client_of(pc), REFUSAL_INTERNAL, "out of memory");
		return;
	}
	memcpy(statement->name, name, strlen(name) + 1);
	list_push_back(&console->statements, &statement->node);
	console->statement_count++;
	empty_message(pc, '1');
}

/* Whether the result formats at the end of a Bind ask for text; its parameters are passed over. */
static bool wants_text(struct reader *r) {
	for (uint16_t n = reader_u16be(r); n > 0 && r->ok; n--)
		reader_u16be(r);
	for (uint16_t n = reader_u16be(r); n > 0 && r->ok; n--) {
		uint32_t len = reader_u32be(r);
		if (len != UINT32_MAX)
			reader_bytes(r, len);
	}
	bool text = true;
	for (uint16_t n = reader_u16be(r); n > 0 && r->ok; n--)
		text &= reader_u16be(r) == 0;
	return text;
}

static void on_bind(struct pg_client *pc, struct reader *r) {
	struct pg_console *console = pc->console;
	const char *portal = reader_cstr(r, NULL), *name = portal ? reader_cstr(r, NULL) : NULL;
	bool text = name && wants_text(r);

	if (!name || !r->ok) {
		fail(pc, "invalid Bind message");
		return;
	}
	struct statement *statement = statement_find(console, name);
	free(console->bound);
	console->bound = NULL;
	forget_described(console);
	if (!statement) {
		refuse(pc, "26000", "the prepared statement does not exist");
	} else if (!text) {
		refuse(pc, "0A000", "the console gives its results as text only, and the driver asks for binary ones");
	} else if (!(console->bound = strdup(statement->text))) {
		client_end(client_of(pc), REFUSAL_INTERNAL, "out of memory");
	} else {
		empty_message(pc, '2');
	}
}

/* Commands that have a result, and change nothing: to know its columns they are run. */
static bool has_columns(const char *text) {
	/* what the command's words may have before them: see words_split() of admin/ */
	while ((text = console_skip_blanks(text)) && *text == ';')
		text++;
	if (!text)
		return false;
	text += *text == '"' || *text == '\'';
	return strncasecmp(text, "SHOW", 4) == 0 || strncasecmp(text, "SELECT", 6) == 0;
}

static void describe_nothing(struct pg_client *pc, enum purpose purpose) {
	struct console_result nothing = {0};

	pc->console->purpose = purpose;
	show(pc, &nothing);
}

static void on_describe(struct pg_client *pc, struct reader *r) {
	struct pg_console *console = pc->console;
	bool of_statement = reader_u8(r) == 'S';
	const char *name = reader_cstr(r, NULL);

	if (!name) {
		fail(pc, "invalid Describe message");
		return;
	}
	struct statement *statement = of_statement ? statement_find(console, name) : NULL;
	const char *text = of_statement ? statement ? statement->text : NULL : console->bound;
	enum purpose purpose = of_statement ? PURPOSE_DESCRIBE_STATEMENT : PURPOSE_DESCRIBE_PORTAL;
	if (!text)
		refuse(pc, of_statement ? "26000" : "34000",
		       of_statement ? "the prepared statement does not exist" : "the portal does not exist");
	else if (has_columns(text))
		execute(pc, text, purpose);
	else
		describe_nothing(pc, purpose);
}

static void on_execute(struct pg_client *pc) {
	struct pg_console *console = pc->console;

	if (!console->bound) {
		refuse(pc, "34000", "the portal does not exist");
	} else if (is_blank(console->bound)) {
		empty_message(pc, 'I');
	} else if (console->is_described) {
		console->purpose = PURPOSE_EXECUTE;
		show(pc, &console->described);
		forget_described(console);
	} else {
		execute(pc, console->bound, PURPOSE_EXECUTE);
	}
}

static void on_close(struct pg_client *pc, struct reader *r) {
	bool of_statement = reader_u8(r) == 'S';
	const char *name = reader_cstr(r, NULL);
	struct statement *statement = of_statement && name ? statement_find(pc->console, name) : NULL;

	if (!name) {
		fail(pc, "invalid Close message");
		return;
	}
	if (statement)
		statement_free(pc->console, statement);
	empty_message(pc, '3');
}

static void on_query(struct pg_client *pc, struct reader *r) {
	const char *text = reader_cstr(r, NULL);

	if (!text) {
		fail(pc, "invalid Query message: its text does not end");
	} else if (is_blank(text)) {
		empty_message(pc, 'I');
		ready(pc);
	} else {
		execute(pc, text, PURPOSE_QUERY);
	}
}

static void on_message(struct pg_client *pc, char type, struct reader *r) {
	struct pg_console *console = pc->console;
	if (console->failed && type != 'S' && type != 'X')
		return;
	switch (type) {
	case 'Q':
		on_query(pc, r);
		return;
	case 'P':
		on_parse(pc, r);
		return;
	case 'B':
		on_bind(pc, r);
		return;
	case 'D':
		on_describe(pc, r);
		return;
	case 'E':
		on_execute(pc);
		return;
	case 'C':
		on_close(pc, r);
		return;
	case 'H':
		return;
	case 'S':
		console->failed = false;
		forget_described(console);
		ready(pc);
		return;
	case 'X':
		client_destroy(client_of(pc), "the operator said goodbye");
		return;
	default:
		fail(pc, "the console takes queries only");
	}
}

size_t pg_console_input(struct pg_client *pc, const uint8_t *data, size_t len) {
	if (len < PG_HEADER)
		return 0;
	uint64_t total = 1 + (uint64_t)pg_get_u32(data + 1);
	if (total < PG_HEADER || total > COMMAND_MAX) {
		fail(pc, "invalid message length: a console command may have 64 KiB");
		return 0;
	}
	if (len < total)
		return 0;
	struct reader r = reader_over(data + PG_HEADER, (size_t)total - PG_HEADER);
	on_message(pc, (char)data[0], &r);
	return (size_t)total;
}

void pg_console_cancel(struct pg_client *pc) {
	struct console_request *busy = pc->console ? pc->console->busy : NULL;
	if (busy && busy->stop)
		busy->stop(busy);
}

void pg_console_free(struct pg_client *pc) {
	struct pg_console *console = pc->console;
	if (!console)
		return;
	struct console_request *busy = console->busy;
	if (busy) {
		busy->context = NULL;
		if (busy->stop)
			busy->stop(busy);
	}
	while (!list_empty(&console->statements))
		statement_free(console, list_entry(list_first(&console->statements), struct statement, node));
	forget_described(console);
	free(console->bound);
	free(console->user);
	free(console);
	pc->console = NULL;
}

void pg_console_authenticated(struct pg_client *pc, const char *user, bool is_admin) {
	const char *const parameters[][2] = {
		{"server_version", "16.0/forebay"}, {"client_encoding", "UTF8"},  {"server_encoding", "UTF8"},
		{"DateStyle", "ISO"},		   {"TimeZone", "GMT"},		  {"standard_conforming_strings", "on"},
		{"is_superuser", is_admin ? "on" : "off"}, {"integer_datetimes", "on"},
	};
	struct client *client = client_of(pc);
	pc->console = calloc(1, sizeof *pc->console);
	if (pc->console) {
		list_init(&pc->console->statements);
		pc->console->user = strdup(user);
	}
	if (!pc->console || !pc->console->user) {
		client_end(client, REFUSAL_INTERNAL, "out of memory");
		return;
	}
	pc->console->is_admin = is_admin;
	struct settings *settings = settings_empty();
	for (size_t i = 0; settings && i < sizeof parameters / sizeof parameters[0]; i++) {
		struct settings *more = settings_with(settings, parameters[i][0], parameters[i][1], true);
		settings_unref(settings);
		settings = more;
	}
	if (!settings) {
		client_end(client, REFUSAL_INTERNAL, "out of memory");
		return;
	}
	pg_begin_welcome(pc);
	client_is_console(client);
	pg_send_welcome(pc, settings);
	settings_unref(settings);
}
