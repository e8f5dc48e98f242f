#include "mysql/said.h"

#include <string.h>

void my_said_keep(struct my_said *said, const void *sql, size_t len, bool more) {
	said->len = (uint16_t)(len < MY_SAID_MAX ? len : MY_SAID_MAX);
	said->cut = more || len > MY_SAID_MAX;
	memcpy(said->text, sql, said->len);
}

static bool is_word(char c) {
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$' ||
	       (c & 0x80);
}

static bool is_digit(char c) {
	return c >= '0' && c <= '9';
}

/* Behind a quoted text that begins at `at`; `len`: its end is not known. */
static size_t quoted_end(const char *s, size_t len, size_t at) {
	char quote = s[at++];
	for (; at < len; at++) {
		if (s[at] == '\\' && quote != '`')
			return len;
		if (s[at] == quote && !(at + 1 < len && s[at + 1] == quote))
			return at + 1;
		if (s[at] == quote)
			at++;
	}
	return len;
}

/* Behind a comment that begins at `at`; `at`: none begins there. */
static size_t comment_end(const char *s, size_t len, size_t at) {
	bool line = s[at] == '#' || (s[at] == '-' && at + 2 < len && s[at + 1] == '-' && (uint8_t)s[at + 2] <= ' ');
	if (line) {
		const char *end = memchr(s + at, '\n', len - at);
		return end ? (size_t)(end - s) + 1 : len;
	}
	if (s[at] != '/' || at + 1 >= len || s[at + 1] != '*')
		return at;
	for (size_t i = at + 2; i + 1 < len; i++)
		if (s[i] == '*' && s[i + 1] == '/')
			return i + 2;
	return len;
}

struct sink {
	char *out;
	size_t n, room;
};

static void put(struct sink *sink, char c) {
	if ((uint8_t)c < ' ' || c == 0x7f)
		c = ' ';
	if (c == ' ' && sink->n > 0 && sink->out[sink->n - 1] == ' ')
		return;
	if (sink->n + 1 < sink->room)
		sink->out[sink->n++] = c;
}

static void normalize(const char *s, size_t len, struct sink *sink) {
	for (size_t i = 0; i < len;) {
		size_t behind = comment_end(s, len, i);
		if (behind > i) {
			put(sink, ' ');
			i = behind;
		} else if (s[i] == '\'' || s[i] == '"') {
			put(sink, '?');
			i = quoted_end(s, len, i);
		} else if (s[i] == '`') {
			for (behind = quoted_end(s, len, i); i < behind; i++)
				put(sink, s[i]);
		} else if (is_digit(s[i])) {
			put(sink, '?');
			while (i < len && (is_word(s[i]) || s[i] == '.'))
				i++;
		} else if (is_word(s[i])) {
			size_t start = i;
			while (i < len && is_word(s[i]))
				i++;
			bool prefix = i < len && s[i] == '\'' && i - start == 1 && strchr("xXbBnN", s[start]);
			for (size_t k = start; k < i && !prefix; k++)
				put(sink, s[k]);
		} else {
			put(sink, s[i++]);
		}
	}
}

/* No byte of a character that is not whole: what came was in any character set. */
static void clean(char *out, size_t n) {
	for (size_t i = 0; i < n;) {
		uint8_t c = (uint8_t)out[i];
		size_t more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : c >= 0xe0 && c < 0xf0 ? 2 : c >= 0xf0 && c < 0xf5 ? 3 : n;
		bool whole = more < n - i;
		for (size_t k = 1; whole && k <= more; k++)
			whole = ((uint8_t)out[i + k] & 0xc0) == 0x80;
		if (!whole)
			out[i++] = '?';
		else
			i += more + 1;
	}
}

void my_said_show(const struct my_said *said, enum statement_text as, char *out, size_t room) {
	struct sink sink = {.out = out, .room = room};
	if (room == 0)
		return;
	if (as == STATEMENT_NORMALIZED)
		normalize(said->text, said->len, &sink);
	for (size_t i = 0; as == STATEMENT_FULL && i < said->len; i++)
		put(&sink, said->text[i]);
	clean(out, sink.n);
	out[sink.n] = 0;
	if (said->cut && as != STATEMENT_NONE && sink.n + 4 <= room)
		memcpy(out + sink.n, "...", 4);
}
