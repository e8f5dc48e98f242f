#include "config/value.h"

#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config/address.h"
#include "config/config.h"
#include "config/nearest.h"
#include "config/reader.h"
#include "config/text.h"
#include "config/text_units.h"

enum { SECRET_FILE_LARGEST = 64 << 10 };

/* One value on its way. */
struct setter {
	const struct config_key *key;
	const char *text, *dir;
	struct arena *arena;
	char *field, *count_field;
	const char **shown;
	char *problem;
	size_t room;
};

static bool expected(struct setter *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static bool expected(struct setter *s, const char *fmt, ...) {
	va_list args;

	va_start(args, fmt);
	vsnprintf(s->problem, s->room, fmt, args);
	va_end(args);
	return false;
}

/* The last step of each type: the field and what is shown for it. False: no memory for the latter. */
static bool land(struct setter *s, const void *value, size_t size, const char *shown) {
	if (!shown)
		return expected(s, "out of memory");
	memcpy(s->field, value, size);
	*s->shown = shown;
	return true;
}

static bool set_bool(struct setter *s) {
	static const struct config_choice WORDS[] = {
		{"true", 1}, {"yes", 1}, {"on", 1}, {"1", 1}, {"false", 0}, {"no", 0}, {"off", 0}, {"0", 0},
	};

	for (size_t i = 0; i < sizeof(WORDS) / sizeof(WORDS[0]); i++) {
		if (strcmp(s->text, WORDS[i].name) != 0)
			continue;
		bool value = WORDS[i].value;
		return land(s, &value, sizeof(value), value ? "true" : "false");
	}
	return expected(s, "expected true or false");
}

/* Digits and nothing else. */
static bool parse_number(const char *text, uint64_t *out) {
	uint64_t number = 0;

	if (!text[0] || text[strspn(text, "0123456789")] || strlen(text) > 18)
		return false;
	for (; *text; text++)
		number = number * 10 + (uint64_t)(*text - '0');
	*out = number;
	return true;
}

static bool in_bounds(const struct config_key *key, uint64_t value) {
	return (value == 0 && key->flags & KEY_ZERO) || (value >= key->min && value <= key->max);
}

static bool set_integer(struct setter *s) {
	const struct config_key *key = s->key;
	uint64_t number;

	if (!parse_number(s->text, &number) || !in_bounds(key, number))
		return expected(s, "expected a number of %s from %" PRIu64 " to %" PRIu64 "%s", key->unit,
				key->min, key->max, key->flags & KEY_ZERO ? ", or 0" : "");
	uint32_t value = (uint32_t)number;
	return land(s, &value, sizeof(value), arena_printf(s->arena, "%" PRIu32, value));
}

static int count_cpus(void) {
	long online = sysconf(_SC_NPROCESSORS_ONLN);
#ifdef CPU_COUNT
	cpu_set_t set;
	if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0)
		online = CPU_COUNT(&set);
#endif
	return online < 1 ? 1 : (int)online;
}

static bool set_threads(struct setter *s) {
	uint64_t number;
	int value;

	if (strcmp(s->text, "auto") == 0) {
		value = count_cpus();
		if (value > (int)s->key->max)
			value = (int)s->key->max;
		return land(s, &value, sizeof(value), "auto");
	}
	if (!parse_number(s->text, &number) || !in_bounds(s->key, number))
		return expected(s, "expected auto or a number of %s from %" PRIu64 " to %" PRIu64,
				s->key->unit, s->key->min, s->key->max);
	value = (int)number;
	return land(s, &value, sizeof(value), arena_printf(s->arena, "%d", value));
}

/* Durations and sizes. */
static bool set_with_unit(struct setter *s, bool (*parse)(const char *, uint64_t *),
			  void (*format)(uint64_t, char *, size_t), const char *what) {
	char low[32], high[32], shown[32];
	uint64_t value = CONFIG_INHERIT;

	if (s->key->flags & KEY_INHERIT && !s->text[0])
		return land(s, &value, sizeof(value), "");
	if (!parse(s->text, &value) || !in_bounds(s->key, value)) {
		bool bare =
			s->text[0] && !s->text[strspn(s->text, "0123456789")] && strcmp(s->text, "0") != 0;
		format(s->key->min, low, sizeof(low));
		format(s->key->max, high, sizeof(high));
		return expected(s, "expected %s, from %s to %s%s%s", what, low, high,
				s->key->flags & KEY_ZERO ? ", or 0" : "",
				bare ? "; the number has no unit" : "");
	}
	format(value, shown, sizeof(shown));
	return land(s, &value, sizeof(value), arena_strdup(s->arena, shown));
}

static bool set_choice(struct setter *s) {
	char names[200] = "";
	size_t len = 0;
	struct nearest search = {.wanted = s->text};

	for (const struct config_choice *c = s->key->choices; c->name; c++) {
		if (strcmp(s->text, c->name) == 0)
			return s->key->type == KEY_ENUM ? land(s, &c->value, sizeof(c->value), c->name)
							: land(s, &c->name, sizeof(c->name), c->name);
		nearest_offer(&search, c->name);
		int n = snprintf(names + len, sizeof(names) - len, "%s%s", len ? ", " : "", c->name);
		len += n > 0 && (size_t)n < sizeof(names) - len ? (size_t)n : 0;
	}
	return expected(s, "expected one of %s%s%s%s", names, search.best ? "; did you mean " : "",
			search.best ? search.best : "", search.best ? "?" : "");
}

/* A text of any content; where it is empty, NULL unless the key says otherwise. */
static bool set_text(struct setter *s, const char *text) {
	const char *copy = NULL;

	if (text[0]) {
		copy = arena_strdup(s->arena, text);
		if (!copy)
			return expected(s, "out of memory");
	} else if (s->key->flags & KEY_KEEP_EMPTY) {
		copy = "";
	}
	return land(s, &copy, sizeof(copy), key_is_secret(s->key) ? copy ? "***" : "" : copy ? copy : "");
}

static bool set_path(struct setter *s) {
	if (!s->text[0] || (s->key->flags & KEY_SYSTEM && strcmp(s->text, "system") == 0))
		return set_text(s, s->text);
	const char *path = path_from(s->arena, s->dir, s->text);
	return land(s, &path, sizeof(path), path);
}

/* The first line of a file, without its end. */
static bool set_secret_from_file(struct setter *s) {
	struct text content = {0};
	char why[160], name[160];
	bool done = false;

	if (!s->text[0]) {
		*s->shown = "";
		return true;
	}
	const char *path = path_from(s->arena, s->dir, s->text);
	if (!path)
		return expected(s, "out of memory");
	text_printable(path, name, sizeof(name));
	if (!text_read_file(&content, path, SECRET_FILE_LARGEST, NULL, why, sizeof(why))) {
		expected(s, "cannot read %s: %s", name, why);
	} else {
		size_t len = content.len ? strcspn(content.data, "\r\n") : 0;
		const char *secret = arena_strndup(s->arena, text_string(&content), len);
		if (len == 0)
			expected(s, "the first line of %s is empty; expected the password", name);
		else if (!content.data[len] && len < content.len)
			expected(s, "%s holds a zero byte; expected a line of text", name);
		else
			done = land(s, &secret, sizeof(secret), secret ? path : NULL);
	}
	text_free(&content);
	return done;
}

/* ---- lists, with commas ---- */

static bool is_space(char c) {
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static size_t count_elements(const char *text) {
	size_t n = 1;

	for (; *text; text++)
		n += *text == ',';
	return n;
}

/* The next element, trimmed, as a copy. NULL: out of memory. An empty one is an empty text. */
static char *take_element(struct arena *arena, const char **at) {
	const char *start = *at, *end = start + strcspn(start, ",");

	*at = *end ? end + 1 : end;
	while (start < end && is_space(*start))
		start++;
	while (end > start && is_space(end[-1]))
		end--;
	return arena_strndup(arena, start, (size_t)(end - start));
}

/* The elements of the list, ended by NULL, and the whole as it is shown. False: `problem` is set. An empty
 * text has no elements. */
static bool split_list(struct setter *s, const char ***elements, size_t *count, const char **shown) {
	size_t n = s->text[strspn(s->text, " \t\r\n\v\f")] ? count_elements(s->text) : 0;
	const char *at = s->text;

	*elements = arena_alloc(s->arena, (n + 1) * sizeof(**elements));
	char *whole = arena_alloc(s->arena, strlen(s->text) + n + 1);
	if (!*elements || !whole)
		return expected(s, "out of memory");
	*shown = whole;
	*count = n;
	for (size_t i = 0; i < n; i++) {
		char *element = take_element(s->arena, &at);
		if (!element)
			return expected(s, "out of memory");
		if (!element[0])
			return expected(
				s,
				"expected a list with commas; there is nothing before or behind one of them");
		for (size_t j = 0; j < i; j++)
			if (strcmp((*elements)[j], element) == 0)
				return expected(s, "%.100s is in the list twice", element);
		(*elements)[i] = element;
		whole = stpcpy(stpcpy(whole, i ? ", " : ""), element);
	}
	return true;
}

static bool set_names(struct setter *s) {
	const char **elements, *shown;
	size_t count;

	return split_list(s, &elements, &count, &shown) && land(s, &elements, sizeof(elements), shown);
}

static bool bad_address(struct setter *s, const char *address, const char *why) {
	char shown[100];
	const char *forms = s->key->type == KEY_HOSTS ? "host:port, [IPv6]:port or /socket/folder"
						      : "host:port, [IPv6]:port, *:port or /path/of/socket";

	return expected(s, "%s: %s; expected %s", text_printable(address, shown, sizeof(shown)), why, forms);
}

static bool set_listen(struct setter *s) {
	struct address address;
	const char **elements, *shown, *why;
	size_t count;

	if (!split_list(s, &elements, &count, &shown))
		return false;
	for (size_t i = 0; i < count; i++)
		if ((why = address_parse(elements[i], ADDRESS_TO_LISTEN, &address)))
			return bad_address(s, elements[i], why);
	memcpy(s->count_field, &count, sizeof(count));
	return land(s, &elements, sizeof(elements), shown);
}

static bool set_hosts(struct setter *s) {
	struct address address;
	const char **elements, *shown, *why;
	size_t count;

	if (!split_list(s, &elements, &count, &shown))
		return false;
	struct config_address *hosts = arena_alloc(s->arena, count * sizeof(*hosts));
	for (size_t i = 0; hosts && i < count; i++) {
		if ((why = address_parse(elements[i], ADDRESS_TO_REACH, &address)))
			return bad_address(s, elements[i], why);
		const char *host = arena_strdup(s->arena, address.host);
		if (!host)
			return expected(s, "out of memory");
		hosts[i] = (struct config_address){elements[i], host, address.port};
	}
	if (!hosts)
		return expected(s, "out of memory");
	memcpy(s->count_field, &count, sizeof(count));
	return land(s, &hosts, sizeof(hosts), shown);
}

bool value_set(const struct config_key *key, const char *text, const char *dir, struct arena *arena,
	       void *target, const char **shown, char *problem, size_t problem_room) {
	struct setter s = {
		.key = key,
		.text = text,
		.dir = dir,
		.arena = arena,
		.field = (char *)target + key->offset,
		.count_field = (char *)target + key->count_offset,
		.shown = shown,
		.problem = problem,
		.room = problem_room,
	};

	switch (key->type) {
	case KEY_BOOL:
		return set_bool(&s);
	case KEY_INTEGER:
		return set_integer(&s);
	case KEY_THREADS:
		return set_threads(&s);
	case KEY_DURATION:
		return set_with_unit(&s, duration_parse, duration_format,
				     "a duration such as 250ms, 30s, 10m or 2h");
	case KEY_SIZE:
		return set_with_unit(&s, size_parse, size_format, "a size such as 64KiB or 1MiB");
	case KEY_ENUM:
	case KEY_WORD:
		return set_choice(&s);
	case KEY_STRING:
	case KEY_SQL:
	case KEY_SECRET:
		return set_text(&s, text);
	case KEY_SECRET_FILE:
		return set_secret_from_file(&s);
	case KEY_PATH:
		return set_path(&s);
	case KEY_NAMES:
		return set_names(&s);
	case KEY_LISTEN:
		return set_listen(&s);
	case KEY_HOSTS:
		return set_hosts(&s);
	}
	return false;
}

const char *value_secret(const struct config_key *key, const void *target) {
	const char *secret;

	memcpy(&secret, (const char *)target + key->offset, sizeof(secret));
	return secret;
}
