/* A growing text that may hold a secret: overwritten when it moves and when it is freed. And whole files. */
#ifndef CONFIG_TEXT_H
#define CONFIG_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

struct text {
	char *data; /* with a zero behind it; NULL while empty: use text_string() */
	size_t len, cap;
	bool failed; /* out of memory once: what it holds is not whole */
};

/* False, now and ever after: out of memory. */
bool text_append(struct text *text, const char *bytes, size_t len);
/* Never NULL. */
const char *text_string(const struct text *text);
/* Empties it, the bytes overwritten; the memory stays for the next use. */
void text_clear(struct text *text);
void text_free(struct text *text);

/* Which file was read, so that a file that includes itself can be told. */
struct file_id {
	dev_t dev;
	ino_t ino;
};

/* Appends a whole file. False: `why` says what the system (or the limit) says; nothing else is in it. `id`
 * may be NULL. Reads the disk. */
bool text_read_file(struct text *text, const char *path, size_t limit, struct file_id *id, char *why,
		    size_t why_room);

/* `in` cut to the room and with anything that is not printable as '?', for messages. Returns `out`. */
const char *text_printable(const char *in, char *out, size_t room);

/* One comment of a configuration file, its words wrapped. */
void text_comment(FILE *out, const char *text);

#endif
