/*
 * The one table of all configuration keys. The parser, validation, SHOW CONFIG, the differences of a reload,
 * --print-defaults, conf/forebay.ini and the manual page are all made from it. To add a key: a field in
 * config.h, an entry here.
 */
#ifndef CONFIG_SCHEMA_H
#define CONFIG_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum section_kind { SECTION_FOREBAY, SECTION_LISTENER, SECTION_POOL, SECTION_USER };
enum { SECTION_KINDS = SECTION_USER + 1 };

struct section_schema {
	const char *name;    /* "pool" of [pool:NAME] */
	const char *example; /* the NAME that the sample shows; NULL: a section without a name, at most one */
	const char *description; /* for the sample and the manual */
	size_t size;             /* of the struct that `offset` of its keys counts in */
};

/* What a value is, and the field that it becomes. */
enum key_type {
	KEY_BOOL,        /* bool */
	KEY_INTEGER,     /* uint32_t, or an int whose `max` fits */
	KEY_THREADS,     /* int; "auto": one for each CPU */
	KEY_DURATION,    /* uint64_t nanoseconds */
	KEY_SIZE,        /* uint64_t bytes */
	KEY_ENUM,        /* an enum: one of `choices` */
	KEY_WORD,        /* const char *: one of `choices`, as text */
	KEY_STRING,      /* const char * */
	KEY_SQL,         /* const char * */
	KEY_SECRET,      /* const char *; shown to nobody */
	KEY_SECRET_FILE, /* const char *: the first line of the file it names lands in the field of a
			    KEY_SECRET */
	KEY_PATH,        /* const char *: from the folder of the file it is written in */
	KEY_NAMES,       /* const char **, ended by NULL */
	KEY_LISTEN,      /* const char ** and a size_t count: addresses to listen on */
	KEY_HOSTS        /* struct config_address * and a size_t count */
};

enum key_flag {
	KEY_RESTART = 1,    /* a reload does not apply it */
	KEY_ZERO = 2,       /* 0 is allowed below `min` as well: off, or no limit */
	KEY_REQUIRED = 4,   /* must be there and not empty */
	KEY_SYSTEM = 8,     /* KEY_PATH: the word "system" is no path */
	KEY_KEEP_EMPTY = 16, /* an empty text is "", not NULL */
	KEY_LATER = 32,      /* accepted, but without effect in this version */
	KEY_INHERIT = 64     /* KEY_DURATION: empty is CONFIG_INHERIT, as a wider section says */
};

struct config_choice {
	const char *name; /* NULL ends the choices */
	int value;
};

struct config_key {
	enum section_kind section;
	enum key_type type;
	const char *name;
	const char *default_text; /* as written in a file; "" : none */
	size_t offset, count_offset;
	uint64_t min, max; /* numbers, durations, sizes */
	const char *unit;  /* what a number counts: "connections" */
	const struct config_choice *choices;
	unsigned flags;
	const char *heading;     /* begins a group of keys in the sample; NULL: goes on with the last one */
	const char *example;     /* what the sample shows where there is no default; NULL: the default */
	const char *description; /* one sentence */
};

/* What auth_query is where auth_user is set and it is not. */
extern const char CONFIG_AUTH_QUERY[];

const struct section_schema *schema_section(enum section_kind kind);
/* The keys of one kind of section, in the order in which they are shown. */
const struct config_key *schema_keys(enum section_kind kind, size_t *count);
/* The place of a key among schema_keys() of its kind, or -1. */
int schema_find(enum section_kind kind, const char *name);

static inline bool key_is_secret(const struct config_key *key) {
	return key->type == KEY_SECRET;
}

static inline bool key_is_reloadable(const struct config_key *key) {
	return !(key->flags & KEY_RESTART);
}

#endif
