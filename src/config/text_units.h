/* Durations and sizes as people write them. */
#ifndef CONFIG_TEXT_UNITS_H
#define CONFIG_TEXT_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "250ms", "30s", "10m", "2h", "1d", "0". A bare number other than 0 is refused. */
bool duration_parse(const char *text, uint64_t *ns);
/* "64KiB", "1MiB", "512B", "0". */
bool size_parse(const char *text, uint64_t *bytes);
/* The shortest exact form: 30000000000 -> "30s". */
void duration_format(uint64_t ns, char *out, size_t room);
/* As people say it, to the second or finer, never longer than 16 bytes: "850ms", "12s", "4m12s", "3h7m", "2d3h". */
void duration_say(uint64_t ns, char *out, size_t room);
void size_format(uint64_t bytes, char *out, size_t room);

#endif
