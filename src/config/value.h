/* From the text of one value to the field that it becomes, by the key's type. */
#ifndef CONFIG_VALUE_H
#define CONFIG_VALUE_H

#include <stdbool.h>
#include <stddef.h>

#include "config/arena.h"
#include "config/schema.h"

/* Sets the field of `key` in `target`. `shown`: the value in its one canonical form, "***" for a secret.
 * `dir`: where relative paths start. All memory is the arena's. Reads the disk for KEY_SECRET_FILE. False:
 * `problem` says what was expected, and nothing of a secret; the field is as it was. */
bool value_set(const struct config_key *key, const char *text, const char *dir, struct arena *arena,
	       void *target, const char **shown, char *problem, size_t problem_room);

/* A KEY_SECRET's field: NULL where it has none. */
const char *value_secret(const struct config_key *key, const void *target);

#endif
