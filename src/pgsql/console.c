/*
 * An operator's connection: commands in simple or extended queries, results as rows of text. The commands themselves
 * are admin/'s.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/reader.h"
#include "pgsql/pgsql.h"
#include "session/console.h"

enum { COMMAND_MAX = 64 * 1024 };

struct pg_console {
	char *user;
	bool is_admin, extended, failed;
	char *statement;              /* text of the last Parse */
	struct console_request *busy; /* under way */
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
		if (result->columns > 0) {
			put_description(&b, result);
			put_rows(&b, result);
		}
		pg_open(&b, 'C');
		pg_cstr(&b, result->tag);
		pg_close(&b);
		if (b.ok)
			client_write(client, buf_bytes(&b.buf), buf_len(&b.buf));
		pg_builder_release(&b);
	}
	if (!console->extended) {
		console->failed = false;
		ready(pc);
	}
}

static void executed(struct console_request *request) {
	struct pg_client *pc = request->context;
	if (pc) {
		pc->console->busy = NULL;
		if (!client_of(pc)->closing)
			show(pc, &request->result);
	}
	console_result_free(&request->result);
	free(request->text);
	free((char *)request->user);
	free(request);
	if (pc)
		client_resume(client_of(pc));
}

static void execute(struct pg_client *pc, const char *text, bool extended) {
	struct pg_console *console = pc->console;
	console->extended = extended;
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

/*
 * Extended queries: one statement without parameters is all that drivers need here. The columns are known only when the
 * command has run: so the row description comes with Execute, right behind which every driver reads it, and Describe of
 * a portal is not answered by itself.
 */
static void on_message(struct pg_client *pc, char type, struct reader *r) {
	struct pg_console *console = pc->console;
	if (console->failed && type != 'S' && type != 'X')
		return;
	switch (type) {
	case 'Q': {
		const char *text = reader_cstr(r, NULL);
		if (!text) {
			fail(pc, "invalid Query message: its text does not end");
		} else if (is_blank(text)) {
			empty_message(pc, 'I');
			ready(pc);
		} else {
			execute(pc, text, false);
		}
		return;
	}
	case 'P': {
		reader_cstr(r, NULL);
		const char *text = reader_cstr(r, NULL);
		if (!text) {
			fail(pc, "invalid Parse message");
			return;
		}
		free(console->statement);
		console->statement = strdup(text);
		empty_message(pc, '1');
		return;
	}
	case 'B':
		empty_message(pc, '2');
		return;
	case 'D':
		if (r->pos < r->end && *r->pos == 'S') {
			static const uint8_t no_parameters[] = {'t', 0, 0, 0, 6, 0, 0, 'n', 0, 0, 0, 4};
			client_write(client_of(pc), no_parameters, sizeof no_parameters);
		}
		return;
	case 'E':
		if (!console->statement || is_blank(console->statement))
			empty_message(pc, 'I');
		else
			execute(pc, console->statement, true);
		return;
	case 'C':
		empty_message(pc, '3');
		return;
	case 'H':
		return;
	case 'S':
		console->failed = false;
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
	free(console->statement);
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
	if (pc->console)
		pc->console->user = strdup(user);
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
