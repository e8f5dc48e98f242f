#include "session/console.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Set once before the workers start, read-only from then on. */
static void (*installed)(struct console_request *request);

void console_install(void (*execute)(struct console_request *request)) {
	installed = execute;
}

bool console_execute(struct console_request *request) {
	if (!installed)
		return false;
	installed(request);
	return true;
}

const char *console_skip_blanks(const char *p) {
	for (;;) {
		if (isspace((unsigned char)*p)) {
			p++;
		} else if (p[0] == '-' && p[1] == '-') {
			p += strcspn(p, "\r\n");
		} else if (p[0] == '/' && p[1] == '*') {
			int depth = 1;
			for (p += 2; depth; p++) {
				if (!*p)
					return NULL;
				if (p[0] == '/' && p[1] == '*')
					depth++, p++;
				else if (p[0] == '*' && p[1] == '/')
					depth--, p++;
			}
		} else {
			return p;
		}
	}
}

/*
 * Texts of cells, one behind the other: SHOW CLIENTS of ten thousand clients is a quarter of a million cells, and a
 * malloc() for each would hold up the worker.
 */
enum { CHUNK_SIZE = 32 * 1024 };
struct console_chunk {
	struct console_chunk *next;
	size_t used, cap;
	char data[];
};

static void out_of_memory(struct console_result *result) {
	console_error(result, "53200", "out of memory while building the answer");
}

/* Room for `len` bytes and a zero. NULL: out of memory. */
static char *text_room(struct console_result *result, size_t len) {
	struct console_chunk *chunk = result->chunks;

	if (!chunk || chunk->cap - chunk->used <= len) {
		size_t cap = len >= CHUNK_SIZE ? len + 1 : CHUNK_SIZE;
		chunk = malloc(sizeof *chunk + cap);
		if (!chunk) {
			out_of_memory(result);
			return NULL;
		}
		chunk->next = result->chunks;
		chunk->used = 0;
		chunk->cap = cap;
		result->chunks = chunk;
	}
	char *text = chunk->data + chunk->used;
	chunk->used += len + 1;
	return text;
}

bool console_columns(struct console_result *result, size_t count, const char *const *names,
		     const enum console_type *types) {
	result->names = calloc(count, sizeof *result->names);
	result->types = calloc(count, sizeof *result->types);
	if (!result->names || !result->types) {
		out_of_memory(result);
		return false;
	}
	memcpy(result->names, names, count * sizeof *names);
	memcpy(result->types, types, count * sizeof *types);
	result->columns = count;
	return true;
}

bool console_row(struct console_result *result) {
	size_t need = (result->rows + 1) * result->columns;

	if (result->failed)
		return false;
	if (need > result->cells_cap) {
		size_t cap = result->cells_cap ? result->cells_cap * 2 : 256;
		while (cap < need)
			cap *= 2;
		char **cells = realloc(result->cells, cap * sizeof *cells);
		if (!cells) {
			out_of_memory(result);
			return false;
		}
		result->cells = cells;
		result->cells_cap = cap;
	}
	memset(result->cells + result->rows * result->columns, 0, result->columns * sizeof *result->cells);
	result->rows++;
	return true;
}

static void set_cell(struct console_result *result, size_t column, char *text) {
	if (result->rows && column < result->columns)
		result->cells[(result->rows - 1) * result->columns + column] = text;
}

void console_set_text(struct console_result *result, size_t column, const char *text) {
	if (result->failed)
		return;
	char *copy = NULL;
	if (text) {
		size_t len = strlen(text);
		copy = text_room(result, len);
		if (copy)
			memcpy(copy, text, len + 1);
	}
	set_cell(result, column, copy);
}

void console_set(struct console_result *result, size_t column, const char *fmt, ...) {
	char small[256];
	va_list args;

	if (result->failed)
		return;
	va_start(args, fmt);
	int len = vsnprintf(small, sizeof small, fmt, args);
	va_end(args);
	if (len < 0)
		return;
	char *text = text_room(result, (size_t)len);
	if (!text)
		return;
	if ((size_t)len < sizeof small) {
		memcpy(text, small, (size_t)len + 1);
	} else {
		va_start(args, fmt);
		vsnprintf(text, (size_t)len + 1, fmt, args);
		va_end(args);
	}
	set_cell(result, column, text);
}

void console_set_number(struct console_result *result, size_t column, int64_t number) {
	char digits[24], *at = digits + sizeof digits - 1;
	uint64_t left = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;

	*at = 0;
	do {
		*--at = (char)('0' + left % 10);
		left /= 10;
	} while (left);
	if (number < 0)
		*--at = '-';
	console_set_text(result, column, at);
}

void console_set_bool(struct console_result *result, size_t column, bool value) {
	console_set_text(result, column, value ? "t" : "f");
}

void console_error(struct console_result *result, const char *sqlstate, const char *fmt, ...) {
	va_list args;

	if (result->failed)
		return;
	result->failed = true;
	snprintf(result->sqlstate, sizeof result->sqlstate, "%s", sqlstate);
	va_start(args, fmt);
	vsnprintf(result->error, sizeof result->error, fmt, args);
	va_end(args);
}

void console_hint(struct console_result *result, const char *fmt, ...) {
	va_list args;

	va_start(args, fmt);
	vsnprintf(result->hint, sizeof result->hint, fmt, args);
	va_end(args);
}

void console_result_free(struct console_result *result) {
	for (struct console_chunk *chunk = result->chunks, *next; chunk; chunk = next) {
		next = chunk->next;
		free(chunk);
	}
	free(result->names);
	free(result->types);
	free(result->cells);
	*result = (struct console_result){0};
}
