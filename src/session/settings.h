/*
 * Sets of run-time settings (name and value), immutable and shared with an atomic reference count. Most clients of a
 * pool want the same set, so sets are interned: two that hold the same are one pointer. Names are compared without
 * regard to case. Any thread.
 */
#ifndef SESSION_SETTINGS_H
#define SESSION_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct setting {
	const char *name, *value;
	bool reported; /* the server tells of its changes (ParameterStatus) */
};

enum { SETTINGS_MEANING = 16 };

struct settings {
	_Atomic int references;
	uint64_t hash; /* private */
	_Atomic bool has_meaning; /* private, as the next */
	uint8_t meaning[SETTINGS_MEANING]; /* written once, under the table's mutex */
	struct settings *next; /* private: a chain of the table of all sets, under its mutex */
	size_t count;
	struct setting at[]; /* sorted by name; strings behind the array */
};

struct settings *settings_empty(void); /* never fails */
struct settings *settings_ref(struct settings *settings);
void settings_unref(struct settings *settings); /* NULL is fine */
/* A new set with one setting added or replaced; value NULL: removed. NULL: out of memory. `settings` stays. */
struct settings *settings_with(const struct settings *settings, const char *name, const char *value, bool reported);
/* Stands for all that can change what a SQL text means (DateStyle, search_path, ...): SETTINGS_MEANING bytes, equal for
 * equal ones only. Worked out when it is first wanted. NULL: out of memory. */
const uint8_t *settings_meaning(struct settings *settings);
/* NULL: not in it. */
const struct setting *settings_find(const struct settings *settings, const char *name);
/* The same names with the same values, whether reported or not. */
bool settings_equal(const struct settings *a, const struct settings *b);
/* Splits the start-up parameter `options` ("-c name=value --name=value -cname=value", backslash escapes) into
 * settings added to *settings. Unknown flags are passed over; their text is left in `ignored` (may be cut). False: out
 * of memory. Section "Start-up" and postgres(1). */
bool settings_add_options(struct settings **settings, const char *options, char *ignored, size_t room);

#endif
