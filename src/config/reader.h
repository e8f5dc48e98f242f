/*
 * Reads a configuration file into sections and settings: comments, quotes, lines that go on, ${NAME},
 * include. It knows no key; what a value means is the schema's.
 *
 * The form of the file is inih's. inih as distributions build it splits lines at 200 bytes, cuts the names of
 * sections and keys at 50, hands a line that goes on over as the same key again and cuts a value at " ;";
 * which of this holds differs from one to the next. So it gets its lines from here, each as a whole setting
 * with a short stand-in for what it would hurt (see carry_line() in reader.c), and the text itself goes past
 * it untouched.
 *
 * How a file is written:
 *   [kind] or [kind:name]; a name with "]" in it in double quotes
 *   key = value
 *   A line whose first character is ; or # is a comment. Behind a value a blank and ; begin one.
 *   A value in double quotes holds anything; two quotes stand for one.
 *   A line indented deeper than its key's goes on with the value (a line feed between the two).
 *   ${NAME} is an environment variable, $${ is ${ itself. A dollar is nothing special otherwise.
 *   include = path: that file's lines here; from the folder of the file that says so.
 */
#ifndef CONFIG_READER_H
#define CONFIG_READER_H

#include <stdbool.h>
#include <stddef.h>

#include "config/arena.h"
#include "config/errors.h"

/* What ended a value that was not in quotes. */
enum comment_form {
	COMMENT_NONE,
	COMMENT_APART, /* " ; ", or a line of its own in the middle of the value: most likely meant as one */
	COMMENT_TIGHT  /* " ;x": might be part of the value */
};

struct setting_text {
	const char *file; /* lives as long as the arena */
	int line;         /* where the key stands */
	const char *dir;  /* of the file, with a slash at its end, or "" */
	const char *text; /* ends with the call */
	enum comment_form comment;
	bool has_variable; /* there was a ${NAME} in it: best not to show it */
	bool is_variable;  /* the value is one ${NAME} and nothing else */
	bool bad;          /* an error was reported for it already; `text` is of no use */
};

struct settings_handler {
	/* A section begins, its name as written between the brackets. What it returns comes back with each of
	 * the section's settings; NULL: they are of no interest. */
	void *(*section)(void *context, const struct setting_text *name);
	void (*setting)(void *context, void *section, const char *key, const struct setting_text *value);
	void *context;
};

/* Both report what they find wrong to `errors` and go on. False: because of that a section or a file was left
 * out. File names are put into `arena`. They read the disk. */
bool settings_read_file(const char *path, const struct settings_handler *handler, struct arena *arena,
			struct error_sink *errors);
/* `name` stands for the file in messages, and `include` starts from its folder. */
bool settings_read_text(const char *text, const char *name, const struct settings_handler *handler,
			struct arena *arena, struct error_sink *errors);

/* The folder of a file, with its slash; "": the process's. NULL: out of memory. */
const char *folder_of(struct arena *arena, const char *file);
/* `path`, or where it is relative the place it has from `dir`. NULL: out of memory. */
char *path_from(struct arena *arena, const char *dir, const char *path);

#endif
