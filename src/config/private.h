/* What the files of this folder know of a snapshot and nobody else does. */
#ifndef CONFIG_PRIVATE_H
#define CONFIG_PRIVATE_H

#include <stdatomic.h>

#include "config/arena.h"
#include "config/config.h"
#include "config/errors.h"
#include "config/index.h"
#include "config/schema.h"

enum setting_state { SETTING_DEFAULT, SETTING_GIVEN, SETTING_BAD };

struct setting {
	enum setting_state state;
	bool filled;       /* given, and not empty */
	const char *shown; /* what holds, in its canonical form; a secret as "***" */
	const char *shown_default;
	const char *file; /* where it was given; NULL: nowhere */
	int line;
};

/* One section of the file. */
struct section {
	struct section *next;
	enum section_kind kind;
	const char *name;  /* "shop"; "" for [forebay] */
	const char *label; /* "pool:shop" */
	const char *file;
	int line;                 /* 0: not in the file at all */
	void *target;             /* what the offsets of the schema count in */
	struct setting *settings; /* one for each of schema_keys() */
};

struct auth_file_user {
	struct auth_file_user *next;
	struct user_config user;
};

struct remark {
	struct remark *next;
	const char *file, *text;
	int line;
};

struct pgb_given;

struct config_private {
	atomic_uint references;
	struct arena arena;                       /* all else here lives in it */
	struct section *sections, **sections_end; /* in the file's order, [forebay] first */
	struct auth_file_user *auth_file_users;   /* those that have no section of their own */
	struct remark *remarks, **remarks_end;
	bool is_pgbouncers;
	const char *auth_file_missing; /* why none of its users are here, although one is named; NULL: they are */
	const struct pgb_given *theirs; /* what its [pgbouncer] said, for SHOW CONFIG; NULL: nothing */
	struct name_index by_label, listeners, pools, users;
};

static inline struct section *config_first_section(const struct config *config) {
	return config->private_->sections;
}

/* Everything that takes more than one key to see. Reports each problem where it stands. `complete`: no
 * section was left out because of another error, so what is not there is missing. */
void config_check(const struct config *config, bool complete, struct error_sink *errors);
/* The setting of that name in a section; the name must be in the schema. */
struct setting *section_setting(const struct section *section, const char *key);

#endif
