#include "pgsql/rules_file.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 10 };

/* A file being read. */
struct source {
	const char *file;
	FILE *in;
	int line; /* where the text at hand begins */
	int next; /* of the line to be read next */
	int depth;
};

static bool read_file(struct rules *rules, const char *path, int depth, bool may_miss, struct error *error);

static bool no_memory(struct error *error) {
	return error_set(error, ENOMEM, "out of memory while reading access rules");
}

/* Makes room for one more. False: out of memory. */
static bool grow(void *array, size_t count, size_t size) {
	void **place = array;

	if (count & (count - 1))
		return true;
	void *larger = realloc(*place, (count ? 2 * count : 1) * size);
	if (!larger)
		return false;
	*place = larger;
	return true;
}

bool rules_is_keyword(const struct rules_token *token, const char *keyword) {
	return !token->quoted && strcmp(token->text, keyword) == 0;
}

static void field_free(struct rules_field *field) {
	for (size_t i = 0; i < field->count; i++)
		free(field->tokens[i].text);
	free(field->tokens);
}

static void line_free(struct rules_line *line) {
	for (size_t i = 0; i < line->count; i++)
		field_free(&line->fields[i]);
	free(line->fields);
}

void rules_free(struct rules *rules) {
	if (!rules)
		return;
	for (size_t i = 0; i < rules->count; i++)
		line_free(&rules->lines[i]);
	for (size_t i = 0; i < rules->file_count; i++)
		free(rules->files[i]);
	free(rules->lines);
	free(rules->files);
	free(rules);
}

/* A path as named in a file: relative to the folder of that file. */
static char *path_beside(const char *file, const char *name) {
	const char *slash = strrchr(file, '/');
	char *path;

	if (name[0] == '/' || !slash)
		return strdup(name);
	return asprintf(&path, "%.*s/%s", (int)(slash - file), file, name) < 0 ? NULL : path;
}

static bool is_blank(char c) {
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* One line, with those that it is continued on; NULL at the end (or when out of memory: `*ok`). Free it. */
static char *read_line(struct source *source, bool *ok) {
	char *text = NULL, *piece = NULL;
	size_t len = 0, room = 0;
	ssize_t n;

	source->line = source->next;
	while ((n = getline(&piece, &room, source->in)) >= 0) {
		source->next++;
		while (n > 0 && (piece[n - 1] == '\n' || piece[n - 1] == '\r'))
			n--;
		/* A zero byte ends the text for all that reads it: nothing behind it is taken for a rule. */
		bool goes_on = n > 0 && piece[n - 1] == '\\';
		size_t take = (size_t)n - goes_on;
		char *larger = realloc(text, len + take + 1);
		if (!larger) {
			*ok = false;
			break;
		}
		text = larger;
		memcpy(text + len, piece, take);
		len += take;
		text[len] = '\0';
		if (!goes_on)
			break;
	}
	free(piece);
	return text;
}

/*
 * The next token of the line into `token` (its text is to be freed); `*more`: a comma followed, the list goes on.
 * False: the line is at its end, or out of memory (`*ok`).
 */
static bool next_token(const char **pos, struct rules_token *token, bool *more, bool *ok) {
	const char *s = *pos;
	bool in_quotes = false, first = true;
	size_t len = 0;

	*more = false;
	while (is_blank(*s) || *s == ',')
		s++;
	if (!*s || *s == '#') {
		*pos = s + strlen(s);
		return false;
	}
	token->text = malloc(strlen(s) + 1);
	token->quoted = false;
	if (!token->text) {
		*ok = false;
		return false;
	}
	for (; *s && (in_quotes || (!is_blank(*s) && *s != '#')); s++) {
		if (*s == '"') {
			if (in_quotes && s[1] == '"') {
				token->text[len++] = *++s;
				continue;
			}
			in_quotes = !in_quotes;
			token->quoted |= first;
			first = false;
			continue;
		}
		if (*s == ',' && !in_quotes) {
			*more = true;
			s++;
			break;
		}
		token->text[len++] = *s;
		first = false;
	}
	token->text[len] = '\0';
	*pos = s;
	return true;
}

static bool add_token(struct rules_field *field, struct rules_token token, struct error *error) {
	if (!grow(&field->tokens, field->count, sizeof token)) {
		free(token.text);
		return no_memory(error);
	}
	field->tokens[field->count++] = token;
	return true;
}

/* Adds all tokens of a file, whatever its lines. */
static bool add_list_file(struct rules_field *field, const char *path, int depth, struct error *error);

static bool add_token_or_list(struct rules_field *field, struct rules_token token, const struct source *source,
			      struct error *error) {
	if (token.quoted || token.text[0] != '@' || !token.text[1])
		return add_token(field, token, error);
	char *path = path_beside(source->file, token.text + 1);
	bool ok = path ? add_list_file(field, path, source->depth + 1, error) : no_memory(error);
	free(path);
	free(token.text);
	return ok;
}

static bool add_list_file(struct rules_field *field, const char *path, int depth, struct error *error) {
	struct source source = {.file = path, .next = 1, .depth = depth};
	bool ok = true;
	char *text;

	if (depth > DEPTH_MAX)
		return error_set(error, 0, "%s: files name each other too deeply", path);
	source.in = fopen(path, "re");
	if (!source.in)
		return error_set(error, errno, "cannot read %s: %s", path, strerror(errno));
	while (ok && (text = read_line(&source, &ok))) {
		const char *pos = text;
		struct rules_token token;
		bool more;
		while (ok && next_token(&pos, &token, &more, &ok))
			if (!add_token_or_list(field, token, &source, error)) {
				free(text);
				fclose(source.in);
				return false;
			}
		free(text);
	}
	bool broken = ferror(source.in);
	fclose(source.in);
	if (broken)
		return error_set(error, EIO, "cannot read %s", path);
	return ok || no_memory(error);
}

static bool parse_line(struct rules_line *line, const char *text, const struct source *source, struct error *error) {
	const char *pos = text;
	struct rules_token token;
	bool more, ok = true;

	while (next_token(&pos, &token, &more, &ok)) {
		if (!grow(&line->fields, line->count, sizeof *line->fields)) {
			free(token.text);
			return no_memory(error);
		}
		struct rules_field *field = &line->fields[line->count++];
		*field = (struct rules_field){0};
		if (!add_token_or_list(field, token, source, error))
			return false;
		while (more && next_token(&pos, &token, &more, &ok))
			if (!add_token_or_list(field, token, source, error))
				return false;
		if (field->count == 0)
			return error_set(error, 0, "%s:%d: an empty list", source->file, source->line);
	}
	return ok || no_memory(error);
}

static int by_name(const struct dirent **a, const struct dirent **b) {
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_conf(const struct dirent *entry) {
	size_t len = strlen(entry->d_name);
	return entry->d_name[0] != '.' && len > 5 && strcmp(entry->d_name + len - 5, ".conf") == 0;
}

static bool read_folder(struct rules *rules, const char *path, int depth, struct error *error) {
	struct dirent **names = NULL;
	int count = scandir(path, &names, is_conf, by_name);
	bool ok = true;

	if (count < 0)
		return error_set(error, errno, "cannot read folder %s: %s", path, strerror(errno));
	for (int i = 0; i < count; i++) {
		char *file = NULL;
		if (ok && asprintf(&file, "%s/%s", path, names[i]->d_name) < 0) {
			file = NULL;
			ok = no_memory(error);
		} else if (ok) {
			ok = read_file(rules, file, depth, false, error);
		}
		free(file);
		free(names[i]);
	}
	free(names);
	return ok;
}

/* Whether the line is an include directive: then it is carried out. `*ok`: without an error. */
static bool include(struct rules *rules, const struct rules_line *line, int depth, bool *ok, struct error *error) {
	const struct rules_token *first = &line->fields[0].tokens[0];
	bool file = rules_is_keyword(first, "include"), if_exists = rules_is_keyword(first, "include_if_exists");

	if (!file && !if_exists && !rules_is_keyword(first, "include_dir"))
		return false;
	if (line->count != 2 || line->fields[0].count != 1 || line->fields[1].count != 1) {
		*ok = error_set(error, 0, "%s:%d: %s takes one file name", line->file, line->number, first->text);
		return true;
	}
	char *path = path_beside(line->file, line->fields[1].tokens[0].text);
	if (!path)
		*ok = no_memory(error);
	else if (file || if_exists)
		*ok = read_file(rules, path, depth + 1, if_exists, error);
	else
		*ok = read_folder(rules, path, depth + 1, error);
	free(path);
	return true;
}

/* Takes over the line. */
static bool add_line(struct rules *rules, struct rules_line *line, int depth, struct error *error) {
	bool ok = true;

	if (line->count == 0 || include(rules, line, depth, &ok, error)) {
		line_free(line);
		return ok;
	}
	if (!grow(&rules->lines, rules->count, sizeof *line)) {
		line_free(line);
		return no_memory(error);
	}
	rules->lines[rules->count++] = *line;
	return true;
}

static const char *keep_name(struct rules *rules, const char *path) {
	char *copy = strdup(path);

	if (!copy || !grow(&rules->files, rules->file_count, sizeof copy)) {
		free(copy);
		return NULL;
	}
	rules->files[rules->file_count++] = copy;
	return copy;
}

static bool read_file(struct rules *rules, const char *path, int depth, bool may_miss, struct error *error) {
	struct source source = {.file = keep_name(rules, path), .next = 1, .depth = depth};
	bool ok = true;
	char *text;

	if (!source.file)
		return no_memory(error);
	if (depth > DEPTH_MAX)
		return error_set(error, 0, "%s: files include each other too deeply", path);
	source.in = fopen(path, "re");
	if (!source.in && may_miss && errno == ENOENT)
		return true;
	if (!source.in)
		return error_set(error, errno, "cannot read %s: %s", path, strerror(errno));
	while ((text = read_line(&source, &ok)) && ok) {
		struct rules_line line = {.file = source.file, .number = source.line};
		ok = parse_line(&line, text, &source, error);
		free(text);
		if (!ok) {
			line_free(&line);
			fclose(source.in);
			return false;
		}
		if (!add_line(rules, &line, depth, error)) {
			fclose(source.in);
			return false;
		}
	}
	if (!ok)
		free(text);
	bool broken = ferror(source.in);
	fclose(source.in);
	if (broken)
		return error_set(error, EIO, "cannot read %s", path);
	return ok || no_memory(error);
}

struct rules *rules_load(const char *path, struct error *error) {
	struct rules *rules = calloc(1, sizeof *rules);

	if (!rules) {
		no_memory(error);
		return NULL;
	}
	if (!read_file(rules, path, 0, false, error)) {
		rules_free(rules);
		return NULL;
	}
	return rules;
}
