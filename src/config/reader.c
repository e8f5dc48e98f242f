#include "config/reader.h"

#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/text.h"

enum {
	FILE_LARGEST = 16 << 20,
	VALUE_LONGEST = 64 << 10,
	KEY_LONGEST = 49, /* what inih can carry */
	INCLUDE_DEEPEST = 10
};

/* inih reports only settings; this one is made up for each section, so that empty ones are seen too. It is no
 * possible key. */
static const char SECTION_MARK[] = ".section";

struct line {
	const char *at;
	size_t len;
	int number;
};

enum carried { CARRY_NOTHING, CARRY_SECTION, CARRY_SETTING };

/* One file that is being read; includes make a chain. */
struct source {
	const struct source *parent;
	int depth;
	const char *file, *dir;
	bool has_id;
	struct file_id id;
	const struct settings_handler *handler;
	struct arena *arena;
	struct error_sink *errors;

	const char *pos, *end;
	int line; /* the number of the line before `pos` */

	/* What inih is about to hand back; `serial` stands in for it. */
	enum carried carried;
	unsigned serial;
	char key[KEY_LONGEST + 1];
	struct text raw, value;
	struct setting_text item;

	bool in_section;
	bool cut;        /* inih has no room for a line */
	bool incomplete; /* something was left out */
	void *section;
};

static bool is_blank(char c) {
	return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

static bool is_name_start(char c) {
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_name_char(char c) {
	return is_name_start(c) || (c >= '0' && c <= '9');
}

static size_t count_blanks(const char *at, size_t len) {
	size_t n = 0;

	while (n < len && is_blank(at[n]))
		n++;
	return n;
}

static size_t without_trailing_blanks(const char *at, size_t len) {
	while (len > 0 && is_blank(at[len - 1]))
		len--;
	return len;
}

/* ---- lines ---- */

static bool take_line(struct source *source, struct line *line) {
	if (source->pos == source->end)
		return false;
	const char *feed = memchr(source->pos, '\n', (size_t)(source->end - source->pos));
	const char *stop = feed ? feed : source->end;

	line->at = source->pos;
	line->len = without_trailing_blanks(line->at, (size_t)(stop - line->at));
	line->number = ++source->line;
	source->pos = feed ? feed + 1 : stop;
	return true;
}

static bool peek_line(struct source *source, struct line *line) {
	struct source ahead = *source;

	return take_line(&ahead, line);
}

/* The column in which a line begins. */
static size_t indent_of(const struct line *line) {
	size_t column = 0;

	for (size_t i = 0; i < line->len && is_blank(line->at[i]); i++)
		column = line->at[i] == '\t' ? (column / 8 + 1) * 8 : column + 1;
	return column;
}

/* Whether a line that goes on with a value looks as if it were meant to be something of its own: `key =`, or
 * a section. The word of a section has a letter that no IPv6 address has. */
static bool looks_independent(const char *at, size_t len) {
	size_t n = 0;

	if (len > 0 && at[0] == '[') {
		bool word = false;
		for (n = 1; n < len && ((at[n] | 0x20) >= 'a' && (at[n] | 0x20) <= 'z'); n++)
			word = word || (at[n] | 0x20) > 'f';
		return word && n < len && (at[n] == ':' || at[n] == ']');
	}
	if (len == 0 || !is_name_start(at[0]))
		return false;
	while (n < len && is_name_char(at[n]))
		n++;
	n += count_blanks(at + n, len - n);
	return n < len && at[n] == '=' && (n + 1 == len || at[n + 1] != '=');
}

/* ---- values ---- */

static void fail_item(struct source *source, int line, const char *problem) {
	if (!source->item.bad)
		error_sink_add(source->errors, source->file, line, "%s: %s", source->key, problem);
	source->item.bad = true;
}

static void add_raw(struct source *source, const char *at, size_t len) {
	if (source->item.bad)
		return;
	if (len > VALUE_LONGEST - source->raw.len)
		fail_item(source, source->item.line, "the value is longer than 65536 bytes");
	else if (!text_append(&source->raw, at, len))
		fail_item(source, source->item.line, "out of memory");
}

/* The next line, where it goes on with the value of a key in column `indent`. Takes it. */
static bool take_continuation(struct source *source, size_t indent, bool in_quotes, struct line *line) {
	while (peek_line(source, line)) {
		size_t blanks = count_blanks(line->at, line->len);
		if (blanks == line->len || indent_of(line) <= indent)
			return false;
		take_line(source, line);
		line->at += blanks;
		line->len -= blanks;
		if (in_quotes)
			return true;
		if (line->at[0] == ';' || line->at[0] == '#') {
			if (source->item.comment == COMMENT_NONE)
				source->item.comment = COMMENT_APART;
			continue;
		}
		if (!looks_independent(line->at, line->len))
			return true;
		fail_item(source, line->number,
			  "this line is indented deeper than the key above and would go on with its value, "
			  "but it looks like a setting or a section of its own: indent it less, or put the "
			  "value in double quotes");
	}
	return false;
}

/* Adds a piece of a line up to a comment; `at` has a blank before it. */
static void add_plain(struct source *source, const char *at, size_t len) {
	for (size_t i = 0; i < len; i++) {
		if (at[i] != ';' || (i > 0 && !is_blank(at[i - 1])))
			continue;
		bool tight = i + 1 < len && !is_blank(at[i + 1]);
		if (source->item.comment != COMMENT_TIGHT)
			source->item.comment = tight ? COMMENT_TIGHT : COMMENT_APART;
		len = i;
	}
	add_raw(source, at, without_trailing_blanks(at, len));
}

static void read_plain_value(struct source *source, struct line rest, size_t indent) {
	/* A ';' hard behind the '=' is no comment: there is no blank before it. */
	size_t blanks = count_blanks(rest.at, rest.len);
	size_t hard = blanks == 0 && rest.len > 0 && rest.at[0] == ';' ? 1 : 0;

	add_raw(source, rest.at, hard);
	add_plain(source, rest.at + blanks + hard, rest.len - blanks - hard);
	while (take_continuation(source, indent, false, &rest)) {
		if (source->raw.len > 0)
			add_raw(source, "\n", 1);
		add_plain(source, rest.at, rest.len);
	}
}

/* `line` begins behind the opening quote. */
static void read_quoted_value(struct source *source, struct line line, size_t indent) {
	size_t i = 0;

	for (;;) {
		const char *quote = memchr(line.at + i, '"', line.len - i);
		size_t stop = quote ? (size_t)(quote - line.at) : line.len;
		add_raw(source, line.at + i, stop - i);
		if (quote && stop + 1 < line.len && quote[1] == '"') {
			add_raw(source, "\"", 1);
			i = stop + 2;
		} else if (quote) {
			i = stop + 1;
			break;
		} else if (take_continuation(source, indent, true, &line)) {
			add_raw(source, "\n", 1);
			i = 0;
		} else {
			fail_item(source, source->item.line,
				  "the value's closing double quote is missing (a value in quotes goes on "
				  "over lines that are indented deeper than the key)");
			return;
		}
	}
	i += count_blanks(line.at + i, line.len - i);
	if (i < line.len && line.at[i] != ';')
		fail_item(source, line.number,
			  "there is text behind the closing double quote (within quotes, write \"\" for one "
			  "quote)");
	while (take_continuation(source, indent, false, &line))
		fail_item(source, line.number, "this indented line goes on behind the closing double quote");
	source->item.comment = COMMENT_NONE;
}

/* ---- ${NAME} ---- */

/* The length of "${NAME}" at the start of `at`, its NAME in `name`; 0: it is not well formed. */
static size_t variable_length(const char *at, char *name, size_t room) {
	size_t n = 0;

	for (const char *p = at + 2; is_name_char(*p) && n + 1 < room && (n > 0 || is_name_start(*p)); p++)
		name[n++] = *p;
	name[n] = 0;
	return n > 0 && at[2 + n] == '}' ? n + 3 : 0;
}

static void expand_variable(struct source *source, const char **at) {
	char name[128], problem[256];
	size_t len = variable_length(*at, name, sizeof(name));

	if (len == 0) {
		fail_item(source, source->item.line,
			  "${ needs the name of an environment variable and a }, as in ${NAME}; $${ stands "
			  "for ${ itself");
		*at += 2;
		return;
	}
	const char *value = getenv(name);
	if (!value) {
		snprintf(problem, sizeof(problem), "the environment variable %s is not set", name);
		fail_item(source, source->item.line, problem);
	} else if (!text_append(&source->value, value, strlen(value))) {
		fail_item(source, source->item.line, "out of memory");
	}
	source->item.has_variable = true;
	source->item.is_variable = *at == text_string(&source->raw) && !(*at)[len];
	*at += len;
}

static void expand_variables(struct source *source) {
	const char *at = text_string(&source->raw);

	while (*at && !source->item.bad) {
		size_t plain = strcspn(at, "$");
		bool ok = text_append(&source->value, at, plain);
		at += plain;
		if (strncmp(at, "$${", 3) == 0) {
			ok = ok && text_append(&source->value, "${", 2);
			at += 3;
		} else if (strncmp(at, "${", 2) == 0) {
			expand_variable(source, &at);
		} else if (*at) {
			ok = ok && text_append(&source->value, at++, 1);
		}
		if (!ok)
			fail_item(source, source->item.line, "out of memory");
	}
}

/* ---- sections and settings ---- */

static void begin_item(struct source *source, enum carried what, int line) {
	text_clear(&source->raw);
	text_clear(&source->value);
	source->carried = what;
	source->serial++;
	source->item = (struct setting_text){.file = source->file, .line = line, .dir = source->dir};
}

/* Copies the name up to the bracket that closes it. False: an error was reported. */
static bool read_section_name(struct source *source, const struct line *line, size_t i) {
	bool in_quotes = false;
	size_t keep = 0; /* what was in quotes is not trimmed */

	i += count_blanks(line->at + i, line->len - i);
	for (; i < line->len && (in_quotes || line->at[i] != ']'); i++) {
		if (line->at[i] != '"') {
			add_raw(source, &line->at[i], 1);
		} else if (in_quotes && i + 1 < line->len && line->at[i + 1] == '"') {
			add_raw(source, &line->at[i++], 1);
		} else {
			in_quotes = !in_quotes;
			keep = source->raw.len;
		}
	}
	if (i == line->len) {
		error_sink_add(source->errors, source->file, line->number,
			       "this section has no closing %s; expected [kind] or [kind:name]",
			       in_quotes ? "double quote" : "bracket");
		return false;
	}
	while (source->raw.len > keep && is_blank(source->raw.data[source->raw.len - 1]))
		source->raw.data[--source->raw.len] = 0;
	i++;
	i += count_blanks(line->at + i, line->len - i);
	if (i < line->len && line->at[i] != ';' && line->at[i] != '#') {
		error_sink_add(source->errors, source->file, line->number,
			       "there is text behind the closing bracket of the section");
		return false;
	}
	return true;
}

/* True: there is one to carry. */
static bool read_section(struct source *source, const struct line *line, size_t start) {
	begin_item(source, CARRY_SECTION, line->number);
	snprintf(source->key, sizeof(source->key), "section");
	source->in_section = true;
	source->section = NULL;
	if (!read_section_name(source, line, start + 1))
		source->item.bad = true;
	source->incomplete = source->incomplete || source->item.bad;
	source->item.text = text_string(&source->raw);
	return !source->item.bad;
}

static bool read_setting(struct source *source, const struct line *line, size_t start) {
	const char *equals = memchr(line->at, '=', line->len);
	size_t stop = equals ? (size_t)(equals - line->at) : line->len;
	size_t len = without_trailing_blanks(line->at + start, stop - start);
	bool valid = equals && len > 0 && len <= KEY_LONGEST && is_name_start(line->at[start]);

	for (size_t i = 0; i < len && valid; i++)
		valid = is_name_char(line->at[start + i]) || strchr("-.", line->at[start + i]);
	if (!valid) {
		/* Not a word of it: it may be a piece of a password. */
		error_sink_add(source->errors, source->file, line->number,
			       "expected [section], key = value, or a comment that begins with ;");
		if (!equals)
			return false;
	}
	begin_item(source, CARRY_SETTING, line->number);
	source->item.bad = !valid;
	snprintf(source->key, sizeof(source->key), "%.*s", valid ? (int)len : 0, line->at + start);

	struct line rest = {line->at + stop + 1, line->len - stop - 1, line->number};
	size_t blanks = count_blanks(rest.at, rest.len);
	if (blanks < rest.len && rest.at[blanks] == '"') {
		rest.at += blanks + 1;
		rest.len -= blanks + 1;
		read_quoted_value(source, rest, indent_of(line));
	} else {
		read_plain_value(source, rest, indent_of(line));
	}
	expand_variables(source);
	source->item.text = text_string(&source->value);
	return valid;
}

/* Goes on to the next section or setting; lines that are neither are reported. False: that was the last. */
static bool next_item(struct source *source) {
	struct line line;

	while (take_line(source, &line)) {
		size_t blanks = count_blanks(line.at, line.len);
		if (blanks == line.len || line.at[blanks] == ';' || line.at[blanks] == '#')
			continue;
		if (line.at[blanks] == '[' ? read_section(source, &line, blanks)
					   : read_setting(source, &line, blanks))
			return true;
	}
	return false;
}

/* ---- inih ---- */

static void read_source(struct source *source);
static void include_file(struct source *source);

/* inih asks for a line. It gets "[7]" and ".section = 7" for a section, "key = 8" for a setting: short, with
 * nothing in them that it would cut. */
static char *carry_line(char *out, int room, void *context) {
	struct source *source = context;
	int len;

	if (source->carried == CARRY_SECTION) {
		source->carried = CARRY_NOTHING;
		len = snprintf(out, (size_t)room, "%s = %u\n", SECTION_MARK, source->serial);
	} else if (!next_item(source)) {
		return NULL;
	} else if (source->carried == CARRY_SECTION) {
		len = snprintf(out, (size_t)room, "[%u]\n", source->serial);
	} else {
		len = snprintf(out, (size_t)room, "%s = %u\n", source->key, source->serial);
	}
	source->cut = source->cut || len >= room;
	return source->cut ? NULL : out;
}

#if INI_HANDLER_LINENO
static int take_back(void *context, const char *section, const char *name, const char *value, int line) {
	(void)line;
#else
static int take_back(void *context, const char *section, const char *name, const char *value) {
#endif
	struct source *source = context;
	const struct settings_handler *handler = source->handler;

	(void)section;
	if (!name || !value)
		return 1;
	if (strtoul(value, NULL, 10) != source->serial)
		return 0;
	if (strcmp(name, SECTION_MARK) == 0)
		source->section = handler->section(handler->context, &source->item);
	else if (strcmp(name, "include") == 0)
		include_file(source);
	else if (!source->in_section)
		error_sink_add(
			source->errors, source->file, source->item.line,
			"%s: it stands before the first section; expected [forebay] or another above it",
			name);
	else if (source->section)
		handler->setting(handler->context, source->section, name, &source->item);
	return 1;
}

/* Reads source->pos to source->end. */
static void read_source(struct source *source) {
	if (source->end - source->pos >= 3 && memcmp(source->pos, "\xef\xbb\xbf", 3) == 0)
		source->pos += 3;
	const char *zero = memchr(source->pos, 0, (size_t)(source->end - source->pos));
	if (zero) {
		int line = 1;
		for (const char *p = source->pos; p < zero; p++)
			line += *p == '\n';
		error_sink_add(source->errors, source->file, line,
			       "there is a zero byte here: this is no text file");
		source->incomplete = true;
		return;
	}
	/* Can only go wrong where inih finds no memory or was built with shorter lines than any known. */
	int failed = ini_parse_stream(carry_line, source, take_back, source);
	if (failed || source->cut || source->pos != source->end) {
		error_sink_add(source->errors, source->file, source->line,
			       "this file could not be read to its end");
		source->incomplete = true;
	}
	text_free(&source->raw);
	text_free(&source->value);
}

const char *folder_of(struct arena *arena, const char *file) {
	const char *slash = strrchr(file, '/');

	return arena_strndup(arena, file, slash ? (size_t)(slash + 1 - file) : 0);
}

char *path_from(struct arena *arena, const char *dir, const char *path) {
	return arena_printf(arena, "%s%s", path[0] == '/' ? "" : dir, path);
}

static bool name_source(struct source *source, const char *file) {
	source->file = arena_strdup(source->arena, file);
	source->dir = folder_of(source->arena, file);
	if (!source->file || !source->dir)
		error_sink_add(source->errors, file, 0, "out of memory");
	return source->file && source->dir;
}

/* `from`: the setting that includes the file, NULL for the first. */
static void read_file(struct source *source, const char *path, const struct source *from) {
	struct text content = {0};
	char why[256];

	source->incomplete = true;
	if (!name_source(source, path))
		return;
	source->has_id = text_read_file(&content, path, FILE_LARGEST, &source->id, why, sizeof(why));
	if (!source->has_id) {
		if (from)
			error_sink_add(source->errors, from->file, from->item.line,
				       "include: cannot read %s: %s", path, why);
		else
			error_sink_add(source->errors, path, 0, "cannot read it: %s", why);
		text_free(&content);
		return;
	}
	bool cycle = false;
	for (const struct source *outer = from; outer && !cycle; outer = outer->parent)
		cycle = outer->has_id && outer->id.dev == source->id.dev && outer->id.ino == source->id.ino;
	if (cycle) {
		error_sink_add(source->errors, from->file, from->item.line,
			       "include: %s would include itself", path);
	} else {
		source->pos = text_string(&content);
		source->end = source->pos + content.len;
		source->incomplete = false;
		read_source(source);
	}
	text_free(&content);
}

static void include_file(struct source *source) {
	const struct setting_text *item = &source->item;

	bool complete = !source->incomplete;
	source->incomplete = true;
	if (item->bad)
		return;
	if (!item->text[0] || item->comment == COMMENT_TIGHT) {
		error_sink_add(source->errors, source->file, item->line,
			       "include: expected a path, in double quotes if it holds a blank and a ;");
		return;
	}
	if (source->depth == INCLUDE_DEEPEST) {
		error_sink_add(source->errors, source->file, item->line,
			       "include: files include each other more than %d deep", INCLUDE_DEEPEST);
		return;
	}
	struct source inner = {
		.parent = source,
		.depth = source->depth + 1,
		.handler = source->handler,
		.arena = source->arena,
		.errors = source->errors,
	};
	char *path = path_from(source->arena, source->dir, item->text);
	if (!path) {
		error_sink_add(source->errors, source->file, item->line, "out of memory");
		return;
	}
	read_file(&inner, path, source);
	source->incomplete = !complete || inner.incomplete;
}

bool settings_read_file(const char *path, const struct settings_handler *handler, struct arena *arena,
			struct error_sink *errors) {
	struct source source = {.handler = handler, .arena = arena, .errors = errors};

	read_file(&source, path, NULL);
	return !source.incomplete;
}

bool settings_read_text(const char *text, const char *name, const struct settings_handler *handler,
			struct arena *arena, struct error_sink *errors) {
	struct source source = {.handler = handler, .arena = arena, .errors = errors};

	if (!name_source(&source, name))
		return false;
	source.pos = text;
	source.end = text + strlen(text);
	read_source(&source);
	return !source.incomplete;
}
