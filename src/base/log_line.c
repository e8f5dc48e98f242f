#include "base/log_line.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

enum {
	TAIL_ROOM = 16,   /* kept for what closes a line after a cut: `…`, quotes, braces, the newline */
	FIELDS_MAX = 2816 /* fields may use the line up to here, so that a message still has its place */
};

#define ELLIPSIS "\xe2\x80\xa6"

static const char *level_name(enum log_level level) {
	switch (level) {
	case LOG_LEVEL_ERROR:
		return "error";
	case LOG_LEVEL_WARNING:
		return "warning";
	case LOG_LEVEL_INFO:
		return "info";
	case LOG_LEVEL_DEBUG:
		return "debug";
	}
	return "info";
}

/* A string that was cut ends a little behind the limit. */
static size_t line_room(const struct log_line *line) {
	return line->len < line->limit ? line->limit - line->len : 0;
}

/* Adds bytes that are known to be harmless. False, and nothing added, when they do not fit. */
static bool line_add(struct log_line *line, const char *s, size_t len) {
	if (len > line_room(line))
		return false;
	memcpy(line->text + line->len, s, len);
	line->len += len;
	return true;
}

static bool line_puts(struct log_line *line, const char *s) {
	return line_add(line, s, strlen(s));
}

/*
 * The length of the well-formed UTF-8 character at `s` (Unicode 15, table 3-7), 0 when it is none. A zero byte
 * ends the string, and it is never a continuation, so nothing behind it is read.
 */
static size_t utf8_length(const unsigned char *s) {
	unsigned char low = 0x80, high = 0xbf;
	size_t more;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		more = 1;
	else if (s[0] >= 0xe0 && s[0] <= 0xef)
		more = 2;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		more = 3;
	else
		return 0;
	if (s[0] == 0xe0)
		low = 0xa0;
	else if (s[0] == 0xed)
		high = 0x9f;
	else if (s[0] == 0xf0)
		low = 0x90;
	else if (s[0] == 0xf4)
		high = 0x8f;
	if (s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i <= more; i++)
		if (s[i] < 0x80 || s[i] > 0xbf)
			return 0;
	return more + 1;
}

/* How a string is escaped: its quotes too, and in which way what is no character. */
enum escapes { ESCAPE_TEXT, ESCAPE_JSON, ESCAPE_JOURNAL };

static enum escapes escapes_of(enum log_form form) {
	if (form == LOG_FORM_JOURNAL)
		return ESCAPE_JOURNAL;
	return form == LOG_FORM_JSON || form == LOG_FORM_SYSLOG_JSON ? ESCAPE_JSON : ESCAPE_TEXT;
}

/* Writes one character's form inside quotes to `out` (room for 8). Returns how many bytes of `s` it stands for. */
static size_t escape(const unsigned char *s, enum escapes how, char out[8], size_t *out_len) {
	size_t n = utf8_length(s);
	int len;

	if (n == 0) {
		len = how == ESCAPE_JSON ? snprintf(out, 8, "\\ufffd") : snprintf(out, 8, "\\x%02x", s[0]);
		n = 1;
	} else if ((s[0] == '"' && how != ESCAPE_JOURNAL) || s[0] == '\\') {
		len = snprintf(out, 8, "\\%c", s[0]);
	} else if (s[0] == '\n') {
		len = snprintf(out, 8, "\\n");
	} else if (s[0] == '\r') {
		len = snprintf(out, 8, "\\r");
	} else if (s[0] == '\t') {
		len = snprintf(out, 8, "\\t");
	} else if (s[0] < 0x20 || s[0] == 0x7f) {
		len = snprintf(out, 8, how == ESCAPE_JSON ? "\\u%04x" : "\\x%02x", s[0]);
	} else if (s[0] == 0xc2 && s[1] < 0xa0) {
		/* C1 controls: terminals obey some of them */
		len = snprintf(out, 8, "\\u%04x", s[1]);
	} else {
		memcpy(out, s, n);
		len = (int)n;
	}
	*out_len = (size_t)len;
	return n;
}

/* An escaped string; what does not fit is cut with an ellipsis. The caller has left TAIL_ROOM behind the limit. */
static void line_escaped(struct log_line *line, const char *s) {
	const unsigned char *pos = (const unsigned char *)s;
	enum escapes how = escapes_of(line->form);
	char piece[8];
	size_t piece_len;

	while (*pos) {
		size_t n = escape(pos, how, piece, &piece_len);
		if (!line_add(line, piece, piece_len)) {
			memcpy(line->text + line->len, ELLIPSIS, 3);
			line->len += 3;
			break;
		}
		pos += n;
	}
}

/* The same in quotes. */
static void line_quoted(struct log_line *line, const char *s) {
	line->text[line->len++] = '"';
	line_escaped(line, s);
	line->text[line->len++] = '"';
}

/* Whether a text value reads well without quotes. */
static bool is_bare(const char *s) {
	if (!*s || strlen(s) > 128)
		return false;
	for (; *s; s++)
		if ((unsigned char)*s <= ' ' || (unsigned char)*s >= 0x7f || *s == '"' || *s == '\\' || *s == '=')
			return false;
	return true;
}

static bool is_json(enum log_form form) {
	return form == LOG_FORM_JSON || form == LOG_FORM_SYSLOG_JSON;
}

/* What stands before a field's value. */
static bool line_key(struct log_line *line, const char *key, bool first) {
	if (is_json(line->form))
		return line_puts(line, first ? ",\"fields\":{\"" : ",\"") && line_puts(line, key) && line_puts(line, "\":");
	if (line->form == LOG_FORM_TEXT || line->form == LOG_FORM_SYSLOG_TEXT)
		return line_puts(line, " ") && line_puts(line, key) && line_puts(line, "=");
	if (!line_puts(line, "FOREBAY_"))
		return false;
	for (const char *s = key; *s; s++) {
		char c = *s >= 'a' && *s <= 'z' ? (char)(*s - 'a' + 'A') : *s;
		if (!line_add(line, &c, 1))
			return false;
	}
	return line_puts(line, "=");
}

static void line_value(struct log_line *line, const char *text) {
	if (line->form == LOG_FORM_JOURNAL)
		line_escaped(line, text);
	else if (is_json(line->form) || !is_bare(text) || !line_puts(line, text))
		line_quoted(line, text);
}

static void line_fields(struct log_line *line, const struct log_field *fields) {
	bool first = true;

	line->limit = FIELDS_MAX;
	for (; fields && fields->key; fields++) {
		size_t before = line->len;
		char number[24];

		if (!line_key(line, fields->key, first) || line_room(line) < 32) {
			line->len = before;
			break;
		}
		first = false;
		if (fields->text) {
			line_value(line, fields->text);
		} else {
			snprintf(number, sizeof number, "%lld", fields->number);
			line_puts(line, number);
		}
		if (line->form == LOG_FORM_JOURNAL)
			line->text[line->len++] = '\n';
	}
	if (is_json(line->form) && !first)
		line->text[line->len++] = '}';
}

static int severity(enum log_level level) {
	static const int severities[] = {[LOG_LEVEL_ERROR] = 3, [LOG_LEVEL_WARNING] = 4, [LOG_LEVEL_INFO] = 6, [LOG_LEVEL_DEBUG] = 7};

	return severities[level];
}

/* What stands before the fields. */
static void line_head(struct log_line *line, const struct log_origin *origin, enum log_level level, const char *event) {
	uint64_t wall_ns = clock_wall_ns();
	time_t seconds = (time_t)(wall_ns / NS_PER_S);
	int ms = (int)(wall_ns % NS_PER_S / NS_PER_MS);
	char stamp[32], head[320];
	struct tm tm;

	if (line->form == LOG_FORM_JOURNAL) {
		snprintf(head, sizeof head,
			 "PRIORITY=%d\nSYSLOG_FACILITY=%d\nSYSLOG_IDENTIFIER=%s\nSYSLOG_PID=%d\nFOREBAY_EVENT=%.63s\n",
			 severity(level), origin->facility, origin->ident, origin->pid, event);
		line_puts(line, head);
		return;
	}
	if (line->form == LOG_FORM_SYSLOG_TEXT || line->form == LOG_FORM_SYSLOG_JSON) {
		localtime_r(&seconds, &tm); /* the form has no time zone, so local it is */
		strftime(stamp, sizeof stamp, "%b %e %H:%M:%S", &tm);
		snprintf(head, sizeof head, "<%d>%s %s[%d]: %.63s", origin->facility * 8 + severity(level), stamp, origin->ident,
			 origin->pid, line->form == LOG_FORM_SYSLOG_TEXT ? event : "");
		line_puts(line, head);
	}
	gmtime_r(&seconds, &tm);
	strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &tm);
	if (is_json(line->form))
		snprintf(head, sizeof head, "{\"ts\":\"%s.%03dZ\",\"level\":\"%s\",\"event\":\"%.63s\"", stamp, ms,
			 level_name(level), event);
	else
		snprintf(head, sizeof head, "%s.%03dZ %-5s %.63s", stamp, ms, level_name(level), event);
	if (line->form != LOG_FORM_SYSLOG_TEXT)
		line_puts(line, head);
}

void log_line_compose(struct log_line *line, enum log_form form, const struct log_origin *origin, enum log_level level,
		      const char *event, const struct log_field *fields, const char *message) {
	line->len = 0;
	line->limit = sizeof line->text - TAIL_ROOM;
	line->form = form;
	line_head(line, origin, level, event);
	line_fields(line, fields);
	line->limit = sizeof line->text - TAIL_ROOM;
	if (form == LOG_FORM_JOURNAL) {
		line_puts(line, "MESSAGE=");
		line_escaped(line, message);
	} else {
		line_puts(line, is_json(form) ? ",\"message\":" : " ");
		line_quoted(line, message);
	}
	if (is_json(form))
		line->text[line->len++] = '}';
	if (form == LOG_FORM_TEXT || form == LOG_FORM_JSON || form == LOG_FORM_JOURNAL)
		line->text[line->len++] = '\n';
}
