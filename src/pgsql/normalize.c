#include "pgsql/normalize.h"

#include <stdio.h>
#include <strings.h>

struct lexer {
	const uint8_t *at, *end;
	char *out;
	size_t n, room;
	bool space;          /* white space or a comment was passed over */
	bool after_password; /* the word before was PASSWORD */
};

static bool is_space(uint8_t c) {
	return c <= ' ' || c == 0x7f;
}

static bool is_digit(uint8_t c) {
	return c >= '0' && c <= '9';
}

static bool begins_word(uint8_t c) {
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80;
}

static void put(struct lexer *x, uint8_t c) {
	if (x->space && x->n > 0 && x->n + 1 < x->room)
		x->out[x->n++] = ' ';
	x->space = false;
	if (x->n + 1 < x->room)
		x->out[x->n++] = c ? (char)c : ' ';
}

static void put_all(struct lexer *x, const uint8_t *from, const uint8_t *to) {
	while (from < to)
		put(x, *from++);
}

/* Nothing of what is left is shown. */
static void leave_out_the_rest(struct lexer *x) {
	x->at = x->end;
}

static uint8_t peek(const struct lexer *x, size_t ahead) {
	return (size_t)(x->end - x->at) > ahead ? x->at[ahead] : 0;
}

/* ---- what is passed over ---- */

static void line_comment(struct lexer *x) {
	while (x->at < x->end && *x->at != '\n' && *x->at != '\r')
		x->at++;
	x->space = true;
}

static void block_comment(struct lexer *x) {
	size_t depth = 0;
	do {
		bool opens = peek(x, 0) == '/' && peek(x, 1) == '*', closes = peek(x, 0) == '*' && peek(x, 1) == '/';
		depth += opens ? 1 : 0;
		depth -= closes ? 1 : 0;
		x->at += opens || closes ? 2 : 1;
	} while (depth > 0 && x->at < x->end);
	x->space = true;
}

/* ---- constants: `at` is at the opening quote ---- */

/*
 * A string in which a backslash means nothing, or with standard_conforming_strings = off escapes what follows. Which of
 * the two matters where an odd number of them stand before a quote.
 */
static void plain_string(struct lexer *x) {
	size_t backslashes = 0;
	put(x, '?');
	for (x->at++; x->at < x->end; x->at++) {
		if (*x->at == '\'') {
			if (backslashes % 2)
				break;
			if (peek(x, 1) != '\'') {
				x->at++;
				return;
			}
			x->at++;
		}
		backslashes = *x->at == '\\' ? backslashes + 1 : 0;
	}
	leave_out_the_rest(x);
}

/* E'...'. A backslash behind a byte of a multi-byte character may be a part of it, in some encodings. */
static void escape_string(struct lexer *x) {
	put(x, '?');
	for (x->at++; x->at < x->end; x->at++) {
		if (*x->at == '\\') {
			if (x->at[-1] >= 0x80)
				break;
			if (x->end - x->at < 2)
				break;
			x->at++;
		} else if (*x->at == '\'') {
			if (peek(x, 1) != '\'') {
				x->at++;
				return;
			}
			x->at++;
		}
	}
	leave_out_the_rest(x);
}

/* $1, $tag$...$tag$, or a lone mark. */
static void dollar(struct lexer *x) {
	if (is_digit(peek(x, 1))) {
		put(x, *x->at++);
		while (is_digit(peek(x, 0)))
			put(x, *x->at++);
		return;
	}
	const uint8_t *tag_end = x->at + 1;
	if (tag_end < x->end && begins_word(*tag_end))
		while (tag_end < x->end && (begins_word(*tag_end) || is_digit(*tag_end)))
			tag_end++;
	if (tag_end == x->end) { /* perhaps the beginning of a tag that was cut */
		leave_out_the_rest(x);
		return;
	}
	if (*tag_end != '$') {
		put(x, *x->at++);
		return;
	}
	size_t len = (size_t)(tag_end + 1 - x->at);
	const uint8_t *body = tag_end + 1, *closing = memmem(body, (size_t)(x->end - body), x->at, len);
	put(x, '?');
	x->at = closing ? closing + len : x->end;
}

/* 1, 1.5e-10, 0x1f, 1_000, .5, and whatever hangs on. */
static void number(struct lexer *x) {
	put(x, '?');
	for (; x->at < x->end; x->at++) {
		uint8_t c = *x->at, next = peek(x, 1);
		if (!is_digit(c) && !begins_word(c) && c != '.')
			return;
		if ((c == 'e' || c == 'E') && (next == '+' || next == '-') && is_digit(peek(x, 2)))
			x->at++;
	}
}

/* ---- names ---- */

static void quoted_name(struct lexer *x) {
	const uint8_t *from = x->at;
	bool whole = false;
	for (x->at++; x->at < x->end && !whole; x->at++) {
		if (*x->at != '"')
			continue;
		if (peek(x, 1) == '"')
			x->at++;
		else
			whole = true;
	}
	if (!whole || x->after_password) /* a secret in the wrong quotes is one all the same */
		put(x, '?');
	else
		put_all(x, from, x->at);
}

static void word(struct lexer *x) {
	const uint8_t *from = x->at;
	while (x->at < x->end && (begins_word(*x->at) || is_digit(*x->at) || *x->at == '$'))
		x->at++;
	size_t len = (size_t)(x->at - from);
	uint8_t first = *from | 0x20, next = peek(x, 0);
	if (len == 1 && next == '\'' && first == 'e') {
		escape_string(x);
	} else if (len == 1 && next == '\'' && (first == 'b' || first == 'x' || first == 'n')) {
		plain_string(x);
	} else if (len == 1 && first == 'u' && next == '&' && peek(x, 1) == '\'') {
		x->at++;
		plain_string(x);
	} else {
		put_all(x, from, x->at);
		x->after_password = len == 8 && strncasecmp((const char *)from, "password", 8) == 0;
		return;
	}
	x->after_password = false;
}

static void token(struct lexer *x) {
	uint8_t c = *x->at, next = peek(x, 1);
	if (is_space(c)) {
		x->space = true;
		x->at++;
		return;
	}
	if (c == '-' && next == '-') {
		line_comment(x);
		return;
	}
	if (c == '/' && next == '*') {
		block_comment(x);
		return;
	}
	if (begins_word(c)) {
		word(x);
		return;
	}
	if (c == '\'')
		plain_string(x);
	else if (c == '"')
		quoted_name(x);
	else if (c == '$')
		dollar(x);
	else if (is_digit(c) || (c == '.' && is_digit(next)))
		number(x);
	else
		put(x, *x->at++);
	x->after_password = false;
}

size_t pg_normalize(const char *sql, size_t len, char *out, size_t room) {
	struct lexer x = {.at = (const uint8_t *)sql, .end = (const uint8_t *)sql + len, .out = out, .room = room};
	if (room == 0)
		return 0;
	while (x.at < x.end)
		token(&x);
	out[x.n] = 0;
	return x.n;
}

/* ---- showing ---- */

/* How many bytes the character here has; 0: it is not UTF-8. */
static size_t character(const uint8_t *p, size_t left) {
	static const uint8_t masks[] = {0xe0, 0xf0, 0xf8}, leads[] = {0xc0, 0xe0, 0xf0};
	if (p[0] < 0x80)
		return 1;
	for (size_t k = 0; k < 3; k++) {
		size_t len = k + 2;
		if ((p[0] & masks[k]) != leads[k])
			continue;
		if (left < len)
			return 0;
		bool overlong = (p[0] & 0xfe) == 0xc0 || (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
		bool too_high = p[0] > 0xf4 || (p[0] == 0xf4 && p[1] > 0x8f) || (p[0] == 0xed && p[1] > 0x9f);
		if (overlong || too_high)
			return 0;
		for (size_t i = 1; i < len; i++)
			if ((p[i] & 0xc0) != 0x80)
				return 0;
		return len;
	}
	return 0;
}

/* In place: what is no UTF-8 becomes "?", control characters a space. */
static void clean(char *text, size_t len) {
	uint8_t *p = (uint8_t *)text;
	for (size_t i = 0; i < len;) {
		size_t n = character(p + i, len - i);
		if (n == 0)
			p[i] = '?';
		else if (n == 1 && is_space(p[i]))
			p[i] = ' ';
		i += n ? n : 1;
	}
}

void pg_said_show(const struct pg_said *said, enum statement_text as, char *out, size_t room) {
	size_t n = 0;
	if (room == 0)
		return;
	out[0] = 0;
	if (as == STATEMENT_NONE)
		return;
	if (as == STATEMENT_NORMALIZED) {
		n = pg_normalize(said->text, said->len, out, room);
	} else {
		n = said->len < room - 1 ? said->len : room - 1;
		memcpy(out, said->text, n);
		out[n] = 0;
	}
	clean(out, n);
	if (said->cut && n + 4 <= room)
		memcpy(out + n, "...", 4);
}
