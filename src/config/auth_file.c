#include "config/auth_file.h"

#include <string.h>

#include "config/text.h"

enum { AUTH_FILE_LARGEST = 256 << 20 };

/* A line on its way. */
struct cursor {
	const char *at, *end;
};

static void skip_blanks(struct cursor *c) {
	while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\r'))
		c->at++;
}

/* One text in quotes into `out`. NULL: done; else what was expected. */
static const char *take_quoted(struct cursor *c, struct text *out) {
	text_clear(out);
	skip_blanks(c);
	if (c->at == c->end || *c->at != '"')
		return "expected \"name\" \"secret\", each in double quotes";
	c->at++;
	for (;;) {
		const char *quote = memchr(c->at, '"', (size_t)(c->end - c->at));
		if (!quote)
			return "a closing double quote is missing (within quotes, write \"\" for one quote)";
		bool twice = quote + 1 < c->end && quote[1] == '"';
		if (!text_append(out, c->at, (size_t)(quote - c->at) + twice))
			return "out of memory";
		c->at = quote + 1 + twice;
		if (!twice)
			return NULL;
	}
}

static const char *read_line(struct cursor line, struct text *name, struct text *secret, bool *usable) {
	struct text more = {0};
	const char *problem;

	*usable = false;
	if ((problem = take_quoted(&line, name)) || (problem = take_quoted(&line, secret)))
		return problem;
	if (!name->len)
		return "the name is empty";
	*usable = true;
	/* further fields in quotes mean nothing: PgBouncer's own script writes when the password ends */
	for (skip_blanks(&line); !problem && line.at < line.end && *line.at == '"'; skip_blanks(&line))
		problem = take_quoted(&line, &more);
	text_free(&more);
	if (problem || (line.at < line.end && *line.at != ';'))
		return "there is text behind the secret; expected \"name\" \"secret\", and fields in quotes at most behind it "
		       "(within quotes, write \"\" for one quote)";
	return NULL;
}

bool auth_file_read(const char *path,
		    void (*each)(void *context, const char *name, const char *secret, int line),
		    void *context, struct error_sink *errors, char *why, size_t why_room) {
	struct text content = {0}, name = {0}, secret = {0};
	int number = 0;

	if (!text_read_file(&content, path, AUTH_FILE_LARGEST, NULL, why, why_room)) {
		text_free(&content);
		return false;
	}
	const char *at = text_string(&content), *end = at + content.len;
	for (const char *next; at < end; at = next) {
		const char *feed = memchr(at, '\n', (size_t)(end - at));
		struct cursor line = {at, feed ? feed : end};
		next = feed ? feed + 1 : end;
		number++;

		skip_blanks(&line);
		if (line.at == line.end || *line.at == ';')
			continue;
		bool usable = false;
		const char *problem = memchr(line.at, 0, (size_t)(line.end - line.at))
					      ? "there is a zero byte here"
					      : read_line(line, &name, &secret, &usable);
		if (problem)
			error_sink_add(errors, path, number, "auth_file: %s", problem);
		if (usable)
			each(context, text_string(&name), text_string(&secret), number);
	}
	text_free(&content);
	text_free(&name);
	text_free(&secret);
	return true;
}
