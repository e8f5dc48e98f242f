#include "mysql/sql.h"

#include <string.h>

#include "mysql/sql_rules.h"

enum state {
	IN_CODE,
	IN_STRING,   /* a backslash may escape */
	IN_NAME,     /* quoted: a backslash is one */
	IN_WORD,     /* the rest of one that is too long to mean anything */
	IN_VARIABLE, /* the rest of @name */
	IN_BLOCK,    /* a comment */
	IN_LINE,     /* a comment to the end of the line */
	IN_THE_DARK, /* strings and comments cannot be told apart from here on */
};

enum class { OTHER, SPACE, WORD, DIGIT, HIGH, QUOTE };

static const uint8_t classes[256] = {
	[0] = SPACE,	       ['\t'] = SPACE,	      ['\n'] = SPACE, ['\v'] = SPACE,	   ['\f'] = SPACE,
	['\r'] = SPACE,	       [' '] = SPACE,	      ['_'] = WORD,   ['$'] = WORD,	   ['a' ... 'z'] = WORD,
	['A' ... 'Z'] = WORD,  ['0' ... '9'] = DIGIT, ['\''] = QUOTE, ['"'] = QUOTE,	   ['`'] = QUOTE,
	[0x80 ... 0xff] = HIGH,
};

/* The byte at `n` from here, or -1 behind the end of what there is. */
static int peek(const uint8_t *at, const uint8_t *end, size_t n) {
	return (size_t)(end - at) > n ? at[n] : -1;
}

static const uint8_t *skip(const uint8_t *at, const uint8_t *end, size_t n) {
	return (size_t)(end - at) < n ? end : at + n;
}

static bool between(int c, int low, int high) {
	return c >= low && c <= high;
}

/* How many bytes the character is that begins with a byte of 0x80 or more, as the server's charset sees it. */
static size_t character(const struct sql_lexer *x, const uint8_t *at, const uint8_t *end) {
	int first = at[0], second = peek(at, end, 1);
	switch ((enum sql_charset)x->charset) {
	case SQL_CHARSET_BIG5:
		return between(first, 0xa1, 0xf9) && (between(second, 0x40, 0x7e) || between(second, 0xa1, 0xfe)) ? 2 : 1;
	case SQL_CHARSET_GBK:
		return between(first, 0x81, 0xfe) && (between(second, 0x40, 0x7e) || between(second, 0x80, 0xfe)) ? 2 : 1;
	case SQL_CHARSET_GB18030:
		if (between(first, 0x81, 0xfe) && (between(second, 0x40, 0x7e) || between(second, 0x80, 0xfe)))
			return 2;
		return between(first, 0x81, 0xfe) && between(second, '0', '9') && between(peek(at, end, 2), 0x81, 0xfe) &&
				       between(peek(at, end, 3), '0', '9')
			       ? 4
			       : 1;
	case SQL_CHARSET_SJIS:
		return (between(first, 0x81, 0x9f) || between(first, 0xe0, 0xfc)) &&
				       (between(second, 0x40, 0x7e) || between(second, 0x80, 0xfc))
			       ? 2
			       : 1;
	default:
		return 1;
	}
}

static void go_dark(struct sql_lexer *x) {
	x->blind = true;
	x->state = IN_THE_DARK;
	x->text.hints |= SQL_BLIND;
}

static bool is_word(uint8_t c) {
	return classes[c] == WORD || classes[c] == DIGIT;
}

/* ---- what is not words ---- */

/* At a quote. `names`: what is in it may be the name of a function or a variable. */
static const uint8_t *open_quote(struct sql_lexer *x, const uint8_t *at, const uint8_t *end, bool names) {
	uint8_t quote = *at++;
	bool unknown = x->unsure || x->reading & SQL_MODE_UNKNOWN;
	bool is_name = quote == '`' || (quote == '"' && !unknown && x->reading & SQL_ANSI_QUOTES);
	bool may_be_name = is_name || (quote == '"' && unknown);
	x->quote = quote;
	x->state = is_name ? IN_NAME : IN_STRING;
	if (names && may_be_name) {
		size_t room = (size_t)(end - at) < SQL_LOOKAHEAD ? (size_t)(end - at) : SQL_LOOKAHEAD;
		const uint8_t *closing = memchr(at, quote, room);
		if (closing)
			sql_quoted_name(x, at, (size_t)(closing - at));
		else
			sql_long_name(x);
	}
	return at;
}

/* @name, @'name', @`name`. What follows is its name, whatever it is. */
static const uint8_t *variable(struct sql_lexer *x, const uint8_t *at, const uint8_t *end) {
	sql_variable(x);
	at++;
	int next = peek(at, end, 0);
	if (next >= 0 && classes[next] == QUOTE)
		return open_quote(x, at, end, false);
	x->state = IN_VARIABLE;
	return at;
}

static const uint8_t *block_begins(struct sql_lexer *x, const uint8_t *at, const uint8_t *end) {
	int first = peek(at, end, 2);
	size_t head = first == '!' || first == '+' ? 3 : first == 'M' && peek(at, end, 3) == '!' ? 4 : 0;
	if (x->aside) {
		/* Where it is not executed, the comments in it nest. */
		go_dark(x);
		return skip(at, end, 2);
	}
	if (!head) {
		x->state = IN_BLOCK;
		return skip(at, end, 2);
	}
	x->aside = true;
	x->before_aside = x->before;
	x->starting_aside = x->starting;
	at = skip(at, end, head);
	for (int digits = 0; first != '+' && digits < 6 && at < end && classes[*at] == DIGIT; digits++)
		at++;
	return at;
}

static void aside_ends(struct sql_lexer *x) {
	x->aside = false;
	x->before |= x->before_aside;
	x->starting |= x->starting_aside;
}

static const uint8_t *dash(struct sql_lexer *x, const uint8_t *at, const uint8_t *end) {
	int third = peek(at, end, 2);
	if (third >= 0x80) {
		/* A space in some charsets. */
		go_dark(x);
		return skip(at, end, 2);
	}
	if (third > ' ' && third != 0x7f)
		return NULL;
	x->state = IN_LINE;
	return skip(at, end, 2);
}

/* Comments, and `;`: what is no token. NULL where it is one. */
static const uint8_t *no_token(struct sql_lexer *x, const uint8_t *at, const uint8_t *end) {
	int next = peek(at, end, 1);
	switch (*at) {
	case ';':
		sql_semicolon(x);
		return at + 1;
	case '#':
		x->state = IN_LINE;
		return at + 1;
	case '-':
		return next == '-' ? dash(x, at, end) : NULL;
	case '/':
		return next == '*' ? block_begins(x, at, end) : NULL;
	case '*':
		if (!x->aside || next != '/')
			return NULL;
		aside_ends(x);
		return at + 2;
	default:
		return NULL;
	}
}

static const uint8_t *punctuation(struct sql_lexer *x, const uint8_t *at, const uint8_t *end) {
	const uint8_t *behind = no_token(x, at, end);
	int next = peek(at, end, 1);
	if (behind)
		return behind;
	if (*at == '@' && next != '@')
		return variable(x, at, end);
	bool assigns = *at == ':' && next == '=', label = (*at == ':' && !assigns) || (*at == '<' && next == '<');
	uint32_t before = x->before;
	if (label) {
		sql_label(x);
		return at + 1;
	}
	sql_token(x, *at == '('		      ? SQL_TOKEN_OPEN
		     : *at == ')'	      ? SQL_TOKEN_CLOSE
		     : *at == '=' || assigns ? SQL_TOKEN_EQUALS
					      : SQL_TOKEN_OTHER);
	x->assigns |= assigns;
	if (*at == '.')
		x->before = before | MARK_DOT;
	else if (*at == '@')
		x->before = before | MARK_AT;
	else if (*at == ',')
		x->before = MARK_COMMA;
	return at + (assigns || *at == '@' ? 2 : 1);
}

static const uint8_t *in_code(struct sql_lexer *x, const uint8_t *at, const uint8_t *end) {
	const uint8_t *begin = at;
	switch (classes[*at]) {
	case SPACE:
		return at + 1;
	case WORD:
	case DIGIT:
		while (at < end && is_word(*at))
			at++;
		sql_word(x, begin, (size_t)(at - begin));
		if (at == end)
			x->state = IN_WORD;
		return at;
	case HIGH:
		/* A part of a name, or white space in some charsets: a key word may stand right beside it. */
		sql_foreign(x);
		return skip(at, end, character(x, at, end));
	case QUOTE:
		sql_token(x, SQL_TOKEN_OTHER);
		return open_quote(x, at, end, true);
	default:
		return punctuation(x, at, end);
	}
}

/* ---- strings, comments, and the dark ---- */

/* `limit` is where to stop for now; up to `end` may be looked at. */
static const uint8_t *in_quotes(struct sql_lexer *x, const uint8_t *at, const uint8_t *limit, const uint8_t *end) {
	bool is_string = x->state == IN_STRING, unknown = x->unsure || x->reading & SQL_MODE_UNKNOWN;
	bool escapes = is_string && !(x->reading & SQL_NO_BACKSLASH_ESCAPES);
	bool unknown_charset = x->unsure || x->charset == SQL_CHARSET_UNKNOWN;
	while (at < limit) {
		uint8_t c = *at;
		if (classes[c] == WORD || classes[c] == DIGIT || c == ' ') {
			at++;
			continue;
		}
		if (c == x->quote) {
			/* A doubled quote is one string behind another here. */
			x->state = IN_CODE;
			return at + 1;
		}
		int next = peek(at, end, 1);
		if ((c == '\\' && is_string && unknown) ||
		    (c >= 0x80 && unknown_charset && (next == '`' || (next == '\\' && escapes))) ||
		    (x->aside && ((c == '*' && next == '/') || (c == '/' && next == '*')))) {
			go_dark(x);
			return at;
		}
		if (c == '\\' && escapes)
			at = skip(at, end, 2);
		else
			at = c < 0x80 ? at + 1 : skip(at, end, character(x, at, end));
	}
	return at;
}

static const uint8_t *in_comment(struct sql_lexer *x, const uint8_t *at, const uint8_t *limit, const uint8_t *end) {
	while (at < limit) {
		bool closes = *at == '*' && peek(at, end, 1) == '/';
		if (x->state == IN_LINE && x->aside && (closes || (*at == '/' && peek(at, end, 1) == '*'))) {
			go_dark(x);
			return at;
		}
		if (x->state == IN_LINE ? *at == '\n' : closes) {
			at += x->state == IN_LINE ? 1 : 2;
			x->state = IN_CODE;
			return at;
		}
		at++;
	}
	return at;
}

/* The rest of a word of any length, or of the name of a variable. */
static const uint8_t *in_rest(struct sql_lexer *x, const uint8_t *at, const uint8_t *limit, const uint8_t *end) {
	while (at < limit) {
		if (x->state == IN_VARIABLE && classes[*at] == HIGH)
			at = skip(at, end, character(x, at, end));
		else if (is_word(*at) || (x->state == IN_VARIABLE && *at == '.'))
			at++;
		else {
			x->state = IN_CODE;
			return at;
		}
	}
	return at;
}

static const uint8_t *in_the_dark(struct sql_lexer *x, const uint8_t *at, const uint8_t *limit, const uint8_t *end) {
	while (at < limit) {
		const uint8_t *begin = at;
		while (at < end && is_word(*at))
			at++;
		if (at > begin) {
			sql_dark_word(x, begin, (size_t)(at - begin));
			continue;
		}
		if (*at == ';') {
			x->text.hints |= SQL_SEVERAL;
			x->starting = true;
		} else if (*at == '@') {
			x->text.hints |= SQL_USER_VARIABLE;
			x->variable = true;
		} else if (*at == ':' && peek(at, end, 1) == '=') {
			x->assigns = true;
		}
		at++;
	}
	return at;
}

/* Returns how far it came: to the end if this is the last piece, else to where less than SQL_LOOKAHEAD bytes are left. */
static const uint8_t *run(struct sql_lexer *x, const uint8_t *at, const uint8_t *end, bool last) {
	const uint8_t *limit = last ? end : (size_t)(end - at) < SQL_LOOKAHEAD ? at : end - (SQL_LOOKAHEAD - 1);
	while (at < limit) {
		switch ((enum state)x->state) {
		case IN_CODE:
			at = in_code(x, at, end);
			break;
		case IN_STRING:
		case IN_NAME:
			at = in_quotes(x, at, limit, end);
			break;
		case IN_WORD:
		case IN_VARIABLE:
			at = in_rest(x, at, limit, end);
			break;
		case IN_BLOCK:
		case IN_LINE:
			at = in_comment(x, at, limit, end);
			break;
		case IN_THE_DARK:
			at = in_the_dark(x, at, limit, end);
			break;
		}
	}
	return at;
}

/* ---- from outside ---- */

void sql_begin(struct sql_lexer *x, unsigned reading, enum sql_charset charset) {
	memset(x, 0, offsetof(struct sql_lexer, carry));
	x->reading = (uint8_t)reading;
	x->charset = (uint8_t)charset;
	x->state = IN_CODE;
	x->starting = true;
}

static void carry(struct sql_lexer *x, const uint8_t *data, size_t len) {
	if (len)
		memmove(x->carry, data, len);
	x->carried = (uint8_t)len;
}

void sql_feed(struct sql_lexer *x, const void *data, size_t len) {
	const uint8_t *at = data, *end = at + len;
	while (x->carried && at < end) {
		/* What was left, and so much of the new as completes it. */
		size_t more = (size_t)(end - at) < SQL_LOOKAHEAD ? (size_t)(end - at) : SQL_LOOKAHEAD, left = x->carried;
		memcpy(x->carry + left, at, more);
		size_t used = (size_t)(run(x, x->carry, x->carry + left + more, false) - x->carry);
		if (used >= left) {
			at += used - left;
			x->carried = 0;
		} else {
			carry(x, x->carry + used, left + more - used);
			at += more;
		}
	}
	if (at < end) {
		const uint8_t *stop = run(x, at, end, false);
		carry(x, stop, (size_t)(end - stop));
	}
}

struct sql_text sql_end(struct sql_lexer *x) {
	if (x->carried)
		run(x, x->carry, x->carry + x->carried, true);
	x->carried = 0;
	sql_settle(x);
	return x->text;
}

struct sql_text sql_look(const void *text, size_t len, unsigned reading, enum sql_charset charset) {
	struct sql_lexer x;
	sql_begin(&x, reading, charset);
	if (len)
		run(&x, text, (const uint8_t *)text + len, true);
	sql_settle(&x);
	return x.text;
}
