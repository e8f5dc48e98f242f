#include "config/text_units.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"

struct unit {
	const char *name;
	uint64_t factor;
};

/* The largest first: that is the order in which format() tries them. */
static const struct unit DURATION_UNITS[] = {
	{"d", 86400 * NS_PER_S},
	{"h", 3600 * NS_PER_S},
	{"m", 60 * NS_PER_S},
	{"s", NS_PER_S},
	{"ms", NS_PER_MS},
	{"us", NS_PER_US},
	{"ns", 1},
	{NULL, 0},
};
static const struct unit SIZE_UNITS[] = {
	{"TiB", 1ull << 40}, {"GiB", 1ull << 30}, {"MiB", 1ull << 20}, {"KiB", 1ull << 10}, {"B", 1},
	{NULL, 0},
};

static bool parse(const char *text, const struct unit *units, uint64_t *out) {
	uint64_t number = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9'; p++) {
		uint64_t digit = (uint64_t)(*p - '0');
		if (number > (UINT64_MAX - digit) / 10)
			return false;
		number = number * 10 + digit;
	}
	if (p == text)
		return false;
	if (!*p && number == 0) {
		*out = 0;
		return true;
	}
	for (const struct unit *unit = units; unit->name; unit++) {
		if (strcmp(p, unit->name) != 0)
			continue;
		if (number > UINT64_MAX / unit->factor)
			return false;
		*out = number * unit->factor;
		return true;
	}
	return false;
}

static void format(uint64_t value, const struct unit *units, char *out, size_t room) {
	if (value == 0) {
		snprintf(out, room, "0");
		return;
	}
	while (value % units->factor != 0)
		units++;
	snprintf(out, room, "%llu%s", (unsigned long long)(value / units->factor), units->name);
}

bool duration_parse(const char *text, uint64_t *ns) {
	return parse(text, DURATION_UNITS, ns);
}

bool size_parse(const char *text, uint64_t *bytes) {
	return parse(text, SIZE_UNITS, bytes);
}

void duration_format(uint64_t ns, char *out, size_t room) {
	format(ns, DURATION_UNITS, out, room);
}

void duration_say(uint64_t ns, char *out, size_t room) {
	static const struct {
		uint64_t seconds;
		char name;
	} units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
	uint64_t s = ns / NS_PER_S;
	size_t i = 0;

	if (s == 0) {
		snprintf(out, room, "%llums", (unsigned long long)(ns / NS_PER_MS));
		return;
	}
	while (s < units[i].seconds)
		i++;
	uint64_t rest = i < 3 ? s % units[i].seconds / units[i + 1].seconds : 0;
	int n = snprintf(out, room, "%llu%c", (unsigned long long)(s / units[i].seconds), units[i].name);
	if (rest > 0 && n > 0 && (size_t)n < room)
		snprintf(out + n, room - (size_t)n, "%llu%c", (unsigned long long)rest, units[i + 1].name);
}

void size_format(uint64_t bytes, char *out, size_t room) {
	format(bytes, SIZE_UNITS, out, room);
}
