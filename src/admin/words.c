/* Takes a console command apart. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "admin/console.h"

static bool is_word(char c) {
	return isalnum((unsigned char)c) || (unsigned char)c >= 0x80 || (c && strchr("_.-+*/:@%?", c));
}

static bool add_word(struct words *words, char *at, struct error *error) {
	if (words->count == WORDS_MAX)
		return error_set(error, 0, "the command has more than %d words", WORDS_MAX);
	words->at[words->count++] = at;
	return true;
}

/* What stands between two quotes, a doubled one being itself. NULL: it does not end. */
static const char *unquote(const char *p, char **out) {
	char quote = *p++;

	for (;; p++) {
		if (!*p)
			return NULL;
		if (*p == quote && *++p != quote) {
			*(*out)++ = 0;
			return p;
		}
		*(*out)++ = *p;
	}
}

bool words_split(struct words *words, const char *text, struct error *error) {
	*words = (struct words){0};
	/* each word takes at most one byte more (its zero) than it has in the text */
	char *out = words->text = malloc(2 * strlen(text) + 1);
	if (!out)
		return error_set(error, 0, "out of memory");

	bool ended = false;
	for (const char *p = text;;) {
		p = console_skip_blanks(p);
		if (!p)
			return error_set(error, 0, "a comment does not end");
		if (!*p)
			return true;
		if (*p == ';') {
			ended = words->count > 0;
			p++;
			continue;
		}
		if (ended)
			return error_set(error, 0, "the console takes one command at a time");
		if (!add_word(words, out, error))
			return false;
		if (*p == '"' || *p == '\'') {
			p = unquote(p, &out);
			if (!p)
				return error_set(error, 0, "a quoted text does not end");
		} else if (is_word(*p)) {
			while (is_word(*p) && !(p[0] == '-' && p[1] == '-') && !(p[0] == '/' && p[1] == '*'))
				*out++ = *p++;
			*out++ = 0;
		} else {
			*out++ = *p++;
			*out++ = 0;
		}
	}
}

void words_free(struct words *words) {
	free(words->text);
	*words = (struct words){0};
}
