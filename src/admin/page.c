#include "admin/page.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

void page_free(struct page *page) {
	free(page->at);
	*page = (struct page){0};
}

static bool reserve(struct page *page, size_t more) {
	if (page->failed)
		return false;
	if (more <= page->room - page->len)
		return true;
	size_t room = page->room ? page->room * 2 : 4096;
	while (room - page->len < more)
		room *= 2;
	char *at = realloc(page->at, room);
	if (!at) {
		page->failed = true;
		return false;
	}
	page->at = at;
	page->room = room;
	return true;
}

void page_trim(struct page *page) {
	char *at = page->len && page->len < page->room ? realloc(page->at, page->len) : NULL;

	if (at) {
		page->at = at;
		page->room = page->len;
	}
}

void page_add(struct page *page, const void *data, size_t len) {
	if (!len || !reserve(page, len))
		return;
	memcpy(page->at + page->len, data, len);
	page->len += len;
}

void page_put(struct page *page, const char *string) {
	page_add(page, string, strlen(string));
}

void page_printf(struct page *page, const char *fmt, ...) {
	va_list args;
	char small[256];

	va_start(args, fmt);
	int len = vsnprintf(small, sizeof small, fmt, args);
	va_end(args);
	if (len < 0) {
		page->failed = true;
	} else if ((size_t)len < sizeof small) {
		page_add(page, small, (size_t)len);
	} else if (reserve(page, (size_t)len + 1)) {
		va_start(args, fmt);
		vsnprintf(page->at + page->len, (size_t)len + 1, fmt, args);
		va_end(args);
		page->len += (size_t)len;
	}
}

void page_number(struct page *page, uint64_t number) {
	char digits[20];
	size_t at = sizeof digits;

	do
		digits[--at] = (char)('0' + number % 10);
	while (number /= 10);
	page_add(page, digits + at, sizeof digits - at);
}

void page_seconds(struct page *page, uint64_t ns, bool whole) {
	char digits[10];
	uint64_t fraction = ns % NS_PER_S;
	int len = 9;

	page_number(page, ns / NS_PER_S);
	if (!fraction) {
		if (whole)
			page_put(page, ".0");
		return;
	}
	snprintf(digits, sizeof digits, "%09llu", (unsigned long long)fraction);
	while (digits[len - 1] == '0')
		len--;
	page_put(page, ".");
	page_add(page, digits, (size_t)len);
}

/* The length of the UTF-8 sequence at `p` (a string), 0: it is none (RFC 3629, section 4). */
static int utf8_length(const unsigned char *p) {
	static const struct {
		unsigned char low, high, second_low, second_high;
		int length;
	} forms[] = {{0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
		     {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
		     {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4}};

	for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
		if (p[0] < forms[i].low || p[0] > forms[i].high)
			continue;
		if (forms[i].length > 1 && (p[1] < forms[i].second_low || p[1] > forms[i].second_high))
			return 0;
		for (int at = 2; at < forms[i].length; at++)
			if (p[at] < 0x80 || p[at] > 0xbf)
				return 0;
		return forms[i].length;
	}
	return 0;
}

/* Adds `value`, each character by itself or as `escaped` says (NULL: by itself). */
static void add_escaped(struct page *page, const char *value, const char *(*escaped)(unsigned char c, char room[8])) {
	const unsigned char *p = (const unsigned char *)value;
	char room[8];

	while (*p) {
		int length = utf8_length(p);
		const char *instead = length == 1 ? escaped(*p, room) : NULL;
		if (instead)
			page_put(page, instead);
		else if (length)
			page_add(page, p, (size_t)length);
		else
			page_put(page, "?");
		p += length ? length : 1;
	}
}

static const char *escaped_in_json(unsigned char c, char room[8]) {
	if (c == '"' || c == '\\')
		snprintf(room, 8, "\\%c", c);
	else if (c < 0x20 || c == '<' || c == '>' || c == '&' || c == 0x7f) /* also safe within a script element */
		snprintf(room, 8, "\\u%04x", c);
	else
		return NULL;
	return room;
}

static const char *escaped_in_html(unsigned char c, char room[8]) {
	(void)room;
	switch (c) {
	case '&':
		return "&amp;";
	case '<':
		return "&lt;";
	case '>':
		return "&gt;";
	case '"':
		return "&quot;";
	case '\'':
		return "&#39;";
	default:
		return c < 0x20 && c != '\n' && c != '\t' ? " " : NULL;
	}
}

void page_label(struct page *page, const char *value) {
	for (const unsigned char *p = (const unsigned char *)value; *p;) {
		int length = utf8_length(p);
		if (!length || *p == '\r' || (*p == '\\' && p[1] == 'x'))
			page_printf(page, "\\\\x%02x", *p);
		else if (*p == '\\' || *p == '"')
			page_printf(page, "\\%c", *p);
		else if (*p == '\n')
			page_put(page, "\\n");
		else
			page_add(page, p, (size_t)length);
		p += length ? length : 1;
	}
}

void page_json(struct page *page, const char *value) {
	if (!value) {
		page_put(page, "null");
		return;
	}
	page_put(page, "\"");
	add_escaped(page, value, escaped_in_json);
	page_put(page, "\"");
}

void page_html(struct page *page, const char *value) {
	add_escaped(page, value, escaped_in_html);
}
