#include "config/pgbouncer_file.h"

#include <string.h>

#include "config/text.h"

enum { INCLUDE_DEEPEST = 10, INCLUDED_LARGEST = 64 << 20 };

struct source {
	const char *pos, *end;
	struct pgb_line at;
	int depth;
	struct file_id id; /* zero: it is not known */
	const struct source *parent;
	const struct pgb_handler *handler;
	struct arena *arena;
	struct error_sink *errors;
};

static bool is_blank(char c) {
	return c == ' ' || c == '\t';
}

static bool is_space(char c) {
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_key_char(char c) {
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
	       c == '-' || c == '*';
}

static size_t left(const struct source *source) {
	return (size_t)(source->end - source->pos);
}

static bool at_end(const struct source *source) {
	return source->pos == source->end;
}

static void skip_blanks(struct source *source) {
	while (!at_end(source) && is_blank(*source->pos))
		source->pos++;
}

/* Blanks and empty lines. */
static void skip_space(struct source *source) {
	for (; !at_end(source) && is_space(*source->pos); source->pos++)
		source->at.line += *source->pos == '\n';
}

/* Up to the line's end, without the blanks before it. NULL: out of memory, and reported. */
static char *take_rest(struct source *source) {
	const char *start = source->pos;
	const char *feed = memchr(start, '\n', left(source)), *end = feed ? feed : source->end;

	source->pos = end;
	while (end > start && is_space(end[-1]))
		end--;
	char *rest = arena_strndup(source->arena, start, (size_t)(end - start));
	if (!rest)
		error_sink_add(source->errors, source->at.file, source->at.line, "out of memory");
	return rest;
}

static void skip_line(struct source *source) {
	const char *feed = memchr(source->pos, '\n', left(source));

	source->pos = feed ? feed : source->end;
}

static bool starts_with(const struct source *source, const char *word) {
	return left(source) >= strlen(word) && memcmp(source->pos, word, strlen(word)) == 0;
}

static bool at_include(const struct source *source) {
	static const char WORD[] = "%include";

	return starts_with(source, WORD) && left(source) > sizeof WORD - 1 && is_blank(source->pos[sizeof WORD - 1]);
}

/* ---- sections and keys ---- */

static void take_section(struct source *source) {
	const char *start = ++source->pos;

	while (!at_end(source) && *source->pos != ']' && *source->pos != '\n')
		source->pos++;
	if (at_end(source) || *source->pos != ']') {
		error_sink_add(source->errors, source->at.file, source->at.line, "the section's closing bracket is missing");
		return;
	}
	char *name = arena_strndup(source->arena, start, (size_t)(source->pos - start));
	source->pos++;
	if (name)
		source->handler->section(source->handler->context, name, &source->at);
	else
		error_sink_add(source->errors, source->at.file, source->at.line, "out of memory");
}

/* In quotes of either kind; in double ones two stand for one. NULL: there is no closing quote. */
static char *take_quoted_key(struct source *source) {
	char quote = *source->pos++;
	char *key = arena_alloc(source->arena, left(source) + 1);
	size_t len = 0;

	for (; key && !at_end(source) && *source->pos != '\n'; source->pos++) {
		if (*source->pos == quote) {
			bool twice = quote == '"' && left(source) > 1 && source->pos[1] == quote;
			if (!twice) {
				source->pos++;
				return key;
			}
			source->pos++;
		}
		key[len++] = *source->pos;
	}
	return NULL;
}

static char *take_key(struct source *source) {
	const char *start = source->pos;

	if (!at_end(source) && (*start == '\'' || *start == '"'))
		return take_quoted_key(source);
	while (!at_end(source) && is_key_char(*source->pos))
		source->pos++;
	return arena_strndup(source->arena, start, (size_t)(source->pos - start));
}

static void take_setting(struct source *source) {
	char *key = take_key(source);

	skip_blanks(source);
	if (!key || !key[0] || at_end(source) || *source->pos != '=') {
		/* Not a word of it: it may be a piece of a password. */
		error_sink_add(source->errors, source->at.file, source->at.line,
			       "expected [section], key = value, or a comment that begins with ; (a key of other characters than "
			       "letters, digits, _ . - * stands in single quotes)");
		skip_line(source);
		return;
	}
	source->pos++;
	skip_blanks(source);
	char *value = take_rest(source);
	if (value)
		source->handler->setting(source->handler->context, key, value, &source->at);
}

/* ---- files ---- */

static void read_source(struct source *source);

static bool is_being_read(const struct source *source, const struct file_id *id) {
	for (; source; source = source->parent)
		if (source->id.dev == id->dev && source->id.ino == id->ino)
			return true;
	return false;
}

static void take_include(struct source *source) {
	struct text content = {0};
	struct file_id id = {0};
	char why[160], shown[160];

	source->pos += strlen("%include");
	skip_blanks(source);
	const char *path = take_rest(source);
	if (!path)
		return;
	text_printable(path, shown, sizeof shown);
	if (source->depth == INCLUDE_DEEPEST) {
		error_sink_add(source->errors, source->at.file, source->at.line,
			       "%%include: files include each other more than %d deep", INCLUDE_DEEPEST);
	} else if (!text_read_file(&content, path, INCLUDED_LARGEST, &id, why, sizeof why)) {
		error_sink_add(source->errors, source->at.file, source->at.line, "%%include: cannot read %s: %s", shown, why);
	} else if (is_being_read(source, &id)) {
		error_sink_add(source->errors, source->at.file, source->at.line, "%%include: %s includes itself", shown);
	} else {
		struct source inner = *source;
		inner.id = id;
		inner.parent = source;
		inner.pos = text_string(&content);
		inner.end = inner.pos + content.len;
		inner.at = (struct pgb_line){path, 1};
		inner.depth++;
		read_source(&inner);
	}
	text_free(&content);
}

static void read_source(struct source *source) {
	const char *zero = memchr(source->pos, 0, left(source));

	if (zero) {
		for (const char *p = source->pos; p < zero; p++)
			source->at.line += *p == '\n';
		error_sink_add(source->errors, source->at.file, source->at.line,
			       "there is a zero byte here: this is no text file");
		return;
	}
	if (starts_with(source, "\xef\xbb\xbf"))
		source->pos += 3;
	for (skip_space(source); !at_end(source); skip_space(source)) {
		if (at_include(source))
			take_include(source);
		else if (*source->pos == ';' || *source->pos == '#')
			skip_line(source);
		else if (*source->pos == '[')
			take_section(source);
		else
			take_setting(source);
	}
}

void pgb_file_read(const char *text, size_t len, const char *name, const struct pgb_handler *handler,
		   struct arena *arena, struct error_sink *errors) {
	struct source source = {
		.pos = text,
		.end = text + len,
		.handler = handler,
		.arena = arena,
		.errors = errors,
	};

	source.at = (struct pgb_line){arena_strdup(arena, name), 1};
	if (source.at.file)
		read_source(&source);
	else
		error_sink_add(errors, name, 0, "out of memory");
}

bool pgb_file_is(const char *text, size_t len) {
	static const char *const SECTIONS[] = {"[pgbouncer]", "[databases]", "[users]", "[peers]"};
	struct source source = {.pos = text, .end = text + len};

	if (starts_with(&source, "\xef\xbb\xbf"))
		source.pos += 3;
	for (skip_space(&source); !at_end(&source); skip_space(&source)) {
		if (*source.pos != ';' && *source.pos != '#')
			break;
		skip_line(&source);
	}
	for (size_t i = 0; i < sizeof SECTIONS / sizeof SECTIONS[0]; i++)
		if (starts_with(&source, SECTIONS[i]))
			return true;
	return at_include(&source);
}

/* ---- connection strings ---- */

/* `*at` is behind the opening quote. NULL: the closing one is missing. */
static char *unquote(const char **at, struct arena *arena) {
	char *value = arena_alloc(arena, strlen(*at) + 1);
	size_t len = 0;

	for (const char *p = *at; value && *p; p++) {
		if (*p == '\'' && *++p != '\'') {
			*at = p;
			return value;
		}
		value[len++] = *p;
	}
	return NULL;
}

static void skip_spaces(const char **at) {
	while (is_space(**at))
		++*at;
}

int pgb_pair(const char **at, struct arena *arena, const char **key, const char **value, const char **problem) {
	skip_spaces(at);
	if (!**at)
		return 0;
	size_t len = strcspn(*at, "= ");
	*key = arena_strndup(arena, *at, len);
	*at += len;
	skip_spaces(at);
	if (!*key || len == 0 || **at != '=') {
		*problem = *key ? "expected key=value pairs with blanks between them" : "out of memory";
		return -1;
	}
	++*at;
	skip_spaces(at);
	if (**at == '\'') {
		++*at;
		*value = unquote(at, arena);
		*problem = "the closing single quote is missing (within quotes, write '' for one quote)";
	} else {
		len = strcspn(*at, " ");
		*value = arena_strndup(arena, *at, len);
		*at += len;
		*problem = "out of memory";
	}
	if (!*value)
		return -1;
	if (!**value) {
		*problem = "a value is empty; expected key=value, or the key left out";
		return -1;
	}
	return 1;
}
