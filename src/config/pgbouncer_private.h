/* What the files that translate a pgbouncer.ini share. */
#ifndef CONFIG_PGBOUNCER_PRIVATE_H
#define CONFIG_PGBOUNCER_PRIVATE_H

#include <stdint.h>

#include "config/index.h"
#include "config/pgbouncer.h"
#include "config/pgbouncer_table.h"

/* A line of [databases], [users] or [peers]. */
struct pgb_entry {
	struct pgb_entry *next;
	const char *name;
	struct pgb_line at;
	struct pgb_given params[PGB_KEYS_MOST]; /* by their places in the table */
};

struct pgb {
	struct arena *arena;
	struct error_sink *errors;
	struct pgb_items *items;
	enum pgb_scope scope; /* the section that holds while it is read */
	bool in_section;
	bool has_main;
	struct pgb_line main_at; /* [pgbouncer] */
	struct pgb_given settings[PGB_KEYS_MOST];
	struct pgb_entry *entries[PGB_SCOPES], **ends[PGB_SCOPES];
	struct name_index by_name[PGB_SCOPES];
	uint32_t known_users; /* of auth_file and [users] */
};

/* Of [pgbouncer]; the names must be in the table. */
const struct pgb_given *pgb_value(const struct pgb *p, const char *name);
int pgb_number(const struct pgb *p, const char *name);
uint64_t pgb_duration(const struct pgb *p, const char *name);
/* Of an entry. */
const struct pgb_given *pgb_param(const struct pgb_entry *entry, enum pgb_scope scope, const char *name);
/* A setting of a section; the text is printf's. */
void pgb_emit(struct pgb *p, const char *section, const char *key, const struct pgb_line *at, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
/* A remark on the setting that comes next. */
void pgb_remark(struct pgb *p, const char *section, const struct pgb_line *at, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* A duration, within what our key takes; 0 is 0. `what` names it in a remark where it must be changed. */
void pgb_emit_duration(struct pgb *p, const char *section, const char *key, const struct pgb_line *at, const char *what,
		       uint64_t ns);
/* Elements of a list with commas, trimmed, none empty and none twice, each with "%s, " between them. */
const char *pgb_list(struct pgb *p, const char *text);
/* A path as PgBouncer understands it: from the working directory. */
const char *pgb_path(struct pgb *p, const char *text);
/* Text in single quotes for SQL. */
const char *pgb_sql_quoted(struct pgb *p, const char *text);
/* TLS keys that are the same for listeners and pools; `prefix`: "client_tls_" or "server_tls_". */
void pgb_emit_tls(struct pgb *p, const char *section, const char *prefix);
/* Remarks on what is ignored of one scope. */
void pgb_remark_ignored(struct pgb *p, const char *section, enum pgb_scope scope, const struct pgb_given *given,
			const char *owner);

/* pgbouncer_pools.c: [pool:...] of each database, [user:...] of each user. */
void pgb_translate_pools(struct pgb *p);
void pgb_translate_users(struct pgb *p);

#endif
