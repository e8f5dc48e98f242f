/* From files to a snapshot: sections and settings as the reader finds them, by the schema. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/auth_file.h"
#include "config/config.h"
#include "config/nearest.h"
#include "config/pgbouncer.h"
#include "config/private.h"
#include "config/reader.h"
#include "config/text.h"
#include "config/value.h"

enum { NAME_LONGEST = 127 };

struct loader {
	struct config *config;
	struct config_private *private;
	struct error_sink errors;
	struct name_index auth_file_names; /* to tell a name that is there twice */
	const char *auth_file;
	bool incomplete; /* a section or a file was left out because of an error */
};

static void out_of_memory(struct loader *loader) {
	error_sink_add(&loader->errors, loader->config->file ? loader->config->file : "", 0, "out of memory");
}

/* `text` must live as long as the arena. */
static void add_remark(struct loader *loader, const char *file, int line, const char *text) {
	struct remark *remark = arena_alloc(&loader->private->arena, sizeof(*remark));

	if (!remark || !text) {
		out_of_memory(loader);
		return;
	}
	*remark = (struct remark){.file = file, .line = line, .text = text};
	*loader->private->remarks_end = remark;
	loader->private->remarks_end = &remark->next;
}

/* ---- sections ---- */

static void link_section(struct loader *loader, struct section *section) {
	struct config_private *p = loader->private;

	*p->sections_end = section;
	p->sections_end = &section->next;
	if (!name_index_add(&p->by_label, &p->arena, section->label, section))
		out_of_memory(loader);
}

static void set_name(struct section *section) {
	if (section->kind == SECTION_LISTENER)
		((struct listener_config *)section->target)->name = section->name;
	else if (section->kind == SECTION_POOL)
		((struct pool_config *)section->target)->name = section->name;
	else if (section->kind == SECTION_USER)
		((struct user_config *)section->target)->name = section->name;
}

/* A section with every key at its default; it is on no list. NULL: out of memory. */
static struct section *section_new(struct loader *loader, enum section_kind kind, const char *name,
				   const char *label) {
	struct arena *arena = &loader->private->arena;
	struct section *section = arena_alloc(arena, sizeof(*section));
	char problem[200];
	size_t count;
	const struct config_key *keys = schema_keys(kind, &count);

	if (!section)
		return NULL;
	section->kind = kind;
	section->name = arena_strdup(arena, name);
	section->label = arena_strdup(arena, label);
	section->settings = arena_alloc(arena, count * sizeof(*section->settings));
	section->target =
		kind == SECTION_FOREBAY ? loader->config : arena_alloc(arena, schema_section(kind)->size);
	if (!section->name || !section->label || !section->settings || !section->target)
		return NULL;
	set_name(section);
	for (size_t i = 0; i < count; i++) {
		struct setting *setting = &section->settings[i];
		if (!value_set(&keys[i], keys[i].default_text, "", arena, section->target, &setting->shown,
			       problem, sizeof(problem)))
			return NULL;
		setting->shown_default = setting->shown;
	}
	return section;
}

/* Which kind a section is and where its name begins. NULL: `problem` says what was expected. */
static const struct section_schema *parse_label(const char *text, enum section_kind *kind, const char **name,
						char *problem, size_t room) {
	size_t len = strcspn(text, ":");
	char word[32] = "";
	struct nearest search = {.wanted = word};

	snprintf(word, sizeof(word), "%.*s", len < sizeof(word) ? (int)len : 0, text);
	for (int i = 0; i < SECTION_KINDS; i++) {
		const struct section_schema *schema = schema_section((enum section_kind)i);
		nearest_offer(&search, schema->name);
		if (strcmp(word, schema->name) != 0)
			continue;
		*kind = (enum section_kind)i;
		*name = text[len] ? text + len + 1 : "";
		if (!schema->example && text[len])
			snprintf(problem, room, "this section has no name; expected [%s]", word);
		else if (schema->example && !**name)
			snprintf(problem, room, "it needs a name; expected [%s:NAME]", word);
		else
			return schema;
		return NULL;
	}
	snprintf(problem, room,
		 "there is no such section; expected [forebay], [listener:NAME], [pool:NAME] or "
		 "[user:NAME]%s%s%s",
		 search.best ? "; did you mean " : "", search.best ? search.best : "",
		 search.best ? "?" : "");
	return NULL;
}

static const char *check_name(const char *name, enum section_kind kind) {
	if (strlen(name) > NAME_LONGEST)
		return "the name is longer than 127 bytes";
	if (name[0] == ' ' || (name[0] && name[strlen(name) - 1] == ' '))
		return "the name begins or ends with a blank";
	for (const char *p = name; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return "the name holds a character that cannot be printed";
	if (kind != SECTION_POOL && strcmp(name, "*") == 0)
		return "only a pool can be for every name";
	return NULL;
}

static void *begin_section(void *context, const struct setting_text *text) {
	struct loader *loader = context;
	enum section_kind kind = SECTION_FOREBAY;
	const char *name = "", *wrong = NULL;
	char problem[256] = "", shown[80];

	text_printable(text->text, shown, sizeof(shown));
	if (parse_label(text->text, &kind, &name, problem, sizeof(problem)))
		wrong = check_name(name, kind);
	if (wrong || problem[0]) {
		error_sink_add(&loader->errors, text->file, text->line, "[%s]: %s", shown,
			       wrong ? wrong : problem);
		loader->incomplete = true;
		return NULL;
	}
	struct section *first = name_index_find(&loader->private->by_label, text->text);
	if (first && first->line == 0) {
		/* [forebay], which is there from the beginning. */
		first->file = text->file;
		first->line = text->line;
		return first;
	}
	struct section *section = section_new(loader, kind, name, text->text);
	if (!section) {
		out_of_memory(loader);
		return NULL;
	}
	section->file = text->file;
	section->line = text->line;
	if (first)
		error_sink_add(&loader->errors, text->file, text->line,
			       "[%s]: this section is there twice, first in %s:%d; expected one", shown,
			       first->file, first->line);
	else
		link_section(loader, section);
	return section;
}

/* ---- settings ---- */

static void unknown_key(struct loader *loader, const struct section *section, const char *label,
			const char *name, const struct setting_text *value) {
	struct nearest search = {.wanted = name};
	size_t count;
	const struct config_key *keys = schema_keys(section->kind, &count);
	char homes[80] = "";
	size_t len = 0;

	for (size_t i = 0; i < count; i++)
		nearest_offer(&search, keys[i].name);
	for (int kind = 0; kind < SECTION_KINDS; kind++) {
		const struct section_schema *home = schema_section((enum section_kind)kind);
		if (schema_find((enum section_kind)kind, name) >= 0)
			len += (size_t)snprintf(homes + len, sizeof(homes) - len, "%s[%s%s]",
						len ? " or " : "", home->name, home->example ? ":NAME" : "");
	}
	if (len)
		error_sink_add(&loader->errors, value->file, value->line,
			       "[%s] %s: this key does not belong here; expected it in %s", label, name,
			       homes);
	else
		error_sink_add(&loader->errors, value->file, value->line,
			       "[%s] %s: there is no such key%s%s%s", label, name,
			       search.best ? "; did you mean " : "", search.best ? search.best : "",
			       search.best ? "?" : "");
}

/* Where " ;" might be part of the value, nobody guesses. */
static const char *check_comment(const struct config_key *key, const struct setting_text *value) {
	bool ambiguous = false;

	switch (key->type) {
	case KEY_SQL:
	case KEY_SECRET:
		ambiguous = value->comment != COMMENT_NONE && value->text[0] && !value->is_variable;
		break;
	case KEY_STRING:
	case KEY_PATH:
	case KEY_SECRET_FILE:
	case KEY_NAMES:
		ambiguous = value->comment == COMMENT_TIGHT;
		break;
	default:
		break;
	}
	if (ambiguous ||
	    ((key->type == KEY_SECRET || key->type == KEY_SQL) && value->comment == COMMENT_TIGHT))
		return "a blank and ; could begin a comment or be part of the value; expected the value in "
		       "double quotes, or the comment on a line of its own above";
	return NULL;
}

static void add_setting(void *context, void *section_, const char *name, const struct setting_text *value) {
	struct loader *loader = context;
	struct section *section = section_;
	char label[80], problem[300], shown[60];
	int i = schema_find(section->kind, name);

	text_printable(section->label, label, sizeof(label));
	if (i < 0) {
		unknown_key(loader, section, label, name, value);
		return;
	}
	struct setting *setting = &section->settings[i];
	if (setting->file) {
		error_sink_add(&loader->errors, value->file, value->line,
			       "[%s] %s: it is set twice in this section, first in %s:%d; expected one",
			       label, name, setting->file, setting->line);
		return;
	}
	setting->state = SETTING_BAD;
	setting->file = value->file;
	setting->line = value->line;
	if (value->bad)
		return;
	setting->filled = value->text[0] != 0;

	size_t count;
	const struct config_key *key = &schema_keys(section->kind, &count)[i];
	const char *ambiguous = check_comment(key, value);
	if (!ambiguous && key_is_secret(key) && !setting->filled) {
		/* Its file may have been read already. */
		setting->state = SETTING_GIVEN;
	} else if (ambiguous) {
		error_sink_add(&loader->errors, value->file, value->line, "[%s] %s: %s", label, name,
			       ambiguous);
	} else if (value_set(key, value->text, value->dir, &loader->private->arena, section->target,
			     &setting->shown, problem, sizeof(problem))) {
		setting->state = SETTING_GIVEN;
	} else if (key_is_secret(key) || key->type == KEY_SECRET_FILE || value->has_variable) {
		error_sink_add(&loader->errors, value->file, value->line, "[%s] %s: %s", label, name,
			       problem);
	} else {
		error_sink_add(&loader->errors, value->file, value->line, "[%s] %s = %s: %s", label, name,
			       text_printable(value->text, shown, sizeof(shown)), problem);
	}
}

/* The section that an override's key names, and the key itself behind it: "max_clients", "pool:shop.max_size". */
static struct section *override_section(struct loader *loader, const char *whole, const char **key) {
	const char *dot = strrchr(whole, '.');
	char label[NAME_LONGEST + 20] = "forebay";

	*key = dot ? dot + 1 : whole;
	if (dot && (size_t)(dot - whole) < sizeof(label))
		snprintf(label, sizeof(label), "%.*s", (int)(dot - whole), whole);
	else if (dot)
		return NULL;
	return name_index_find(&loader->private->by_label, label);
}

/* What SET said on the console, as if it were what the file says; `dir` is that of the file. */
static void override(struct loader *loader, const struct config_override *said, const char *dir) {
	static const char FROM[] = "SET";
	const char *name, *why = NULL;
	char shown[120], label[80];
	struct section *section = override_section(loader, said->key, &name);
	struct setting_text text = {.file = FROM, .dir = dir, .text = said->value};
	size_t count;

	if (!section) {
		error_sink_add(&loader->errors, FROM, 0,
			       "%s: there is no such section in the file; expected SECTION.KEY, such as pool:shop.max_size, "
			       "or a key of [forebay]",
			       text_printable(said->key, shown, sizeof(shown)));
		return;
	}
	const struct config_key *keys = schema_keys(section->kind, &count);
	int i = schema_find(section->kind, name);
	if (i < 0) {
		unknown_key(loader, section, text_printable(section->label, label, sizeof(label)), name, &text);
		return;
	}
	if (!key_is_reloadable(&keys[i]))
		why = "it takes a restart to change it; change it in the file";
	else if (key_is_secret(&keys[i]) || keys[i].type == KEY_SECRET_FILE)
		why = "a secret is not said on the console; change it in the file, then RELOAD";
	if (why) {
		error_sink_add(&loader->errors, FROM, 0, "[%s] %s: %s", text_printable(section->label, label, sizeof(label)),
			       name, why);
		return;
	}
	section->settings[i].file = NULL; /* it is not there twice */
	add_setting(loader, section, name, &text);
}

/* ---- after the last line ---- */

static int default_port(enum protocol_id protocol) {
	return protocol == PROTOCOL_MYSQL ? 3306 : 5432;
}

/* Defaults that depend on other keys. */
static void complete_pool(struct section *section) {
	struct pool_config *pool = section->target;
	struct setting *min_idle = section_setting(section, "min_idle");
	struct setting *query = section_setting(section, "auth_query");

	for (size_t i = 0; i < pool->host_count; i++) {
		struct config_address *host = (struct config_address *)&pool->hosts[i];
		if (host->port == 0)
			host->port = default_port(pool->protocol);
	}
	if (min_idle->state == SETTING_DEFAULT && pool->min_idle > pool->max_size) {
		pool->min_idle = pool->max_size;
		min_idle->shown = section_setting(section, "max_size")->shown;
	}
	if (pool->auth_user && !pool->auth_query && query->state != SETTING_BAD &&
	    pool->protocol == PROTOCOL_POSTGRESQL) {
		pool->auth_query = CONFIG_AUTH_QUERY;
		query->shown = CONFIG_AUTH_QUERY;
	}
}

static void complete_listener(struct section *section) {
	struct listener_config *listener = section->target;
	struct setting *auth = section_setting(section, "auth");

	if (listener->protocol == PROTOCOL_MYSQL && auth->state == SETTING_DEFAULT) {
		listener->auth = AUTH_PASSWORD;
		auth->shown = "password";
	}
}

/* A secret that came from a file is shown with its key, too. */
static void show_secrets(struct section *section) {
	size_t count;
	const struct config_key *keys = schema_keys(section->kind, &count);

	for (size_t i = 0; i < count; i++)
		if (key_is_secret(&keys[i]))
			section->settings[i].shown = value_secret(&keys[i], section->target) ? "***" : "";
}

/* Lays the structs of one kind side by side; the sections point there from now on. NULL: out of memory, or
 * none. */
static void *gather(struct loader *loader, enum section_kind kind, struct name_index *index, size_t *count) {
	struct arena *arena = &loader->private->arena;
	size_t size = schema_section(kind)->size, n = 0;

	for (struct section *s = loader->private->sections; s; s = s->next)
		n += s->kind == kind;
	char *all = arena_alloc(arena, n * size);
	if (!all) {
		out_of_memory(loader);
		return NULL;
	}
	char *at = all;
	for (struct section *s = loader->private->sections; s; s = s->next) {
		if (s->kind != kind)
			continue;
		memcpy(at, s->target, size);
		s->target = at;
		at += size;
		if (!name_index_add(index, arena, s->name, s->target))
			out_of_memory(loader);
	}
	*count = n;
	return all;
}

static void complete(struct loader *loader) {
	struct config *config = loader->config;
	struct config_private *p = loader->private;
	size_t users;

	for (struct section *s = p->sections; s; s = s->next) {
		if (s->kind == SECTION_POOL)
			complete_pool(s);
		if (s->kind == SECTION_LISTENER)
			complete_listener(s);
		show_secrets(s);
	}
	config->listeners = gather(loader, SECTION_LISTENER, &p->listeners, &config->listener_count);
	config->pools = gather(loader, SECTION_POOL, &p->pools, &config->pool_count);
	gather(loader, SECTION_USER, &p->users, &users);
}

/* ---- the auth_file ---- */

/* PgBouncer takes the last line of a name. */
static void listed_again(struct loader *loader, const char *name, const char *secret, int line) {
	struct arena *arena = &loader->private->arena;
	struct user_config *user = name_index_find(&loader->private->users, name);
	char shown[80];

	user->password = secret[0] ? arena_strdup(arena, secret) : NULL;
	add_remark(loader, loader->auth_file, line,
		   arena_printf(arena, "auth_file: the user %s is there twice: as with PgBouncer, the last line counts",
				text_printable(name, shown, sizeof(shown))));
}

static void add_listed_user(void *context, const char *name, const char *secret, int line) {
	struct loader *loader = context;
	struct config_private *p = loader->private;
	char shown[80];

	if (name_index_find(&loader->auth_file_names, name) && p->is_pgbouncers) {
		listed_again(loader, name, secret, line);
		return;
	}
	if (name_index_find(&loader->auth_file_names, name)) {
		error_sink_add(&loader->errors, loader->auth_file, line,
			       "auth_file: the user %s is there twice",
			       text_printable(name, shown, sizeof(shown)));
		return;
	}
	struct auth_file_user *listed = arena_alloc(&p->arena, sizeof(*listed));
	char *name_copy = arena_strdup(&p->arena, name);
	char *secret_copy = secret[0] ? arena_strdup(&p->arena, secret) : NULL;
	if (!listed || !name_copy || (secret[0] && !secret_copy) ||
	    !name_index_add(&loader->auth_file_names, &p->arena, name_copy, name_copy)) {
		out_of_memory(loader);
		return;
	}
	struct user_config *user = name_index_find(&p->users, name);
	if (user) {
		/* What the section says holds; what it leaves open comes from here. */
		if (!user->password)
			user->password = secret_copy;
		return;
	}
	listed->user =
		(struct user_config){.name = name_copy,
				     .password = secret_copy,
				     .query_timeout = CONFIG_INHERIT,
				     .transaction_timeout = CONFIG_INHERIT,
				     .idle_transaction_timeout = CONFIG_INHERIT,
				     .client_idle_timeout = CONFIG_INHERIT,
				     .client_login_timeout = CONFIG_INHERIT,
				     .from_auth_file = true};
	listed->next = p->auth_file_users;
	p->auth_file_users = listed;
	if (!name_index_add(&p->users, &p->arena, name_copy, &listed->user))
		out_of_memory(loader);
}

static void load_auth_file(struct loader *loader) {
	const struct setting *setting = section_setting(loader->private->sections, "auth_file");
	char why[160], path[160];

	loader->auth_file = loader->config->auth_file;
	if (!loader->auth_file)
		return;
	struct config_errors problems = {0};
	struct error_sink into_remarks = {.list = &problems};
	bool lenient = loader->private->is_pgbouncers;
	text_printable(loader->auth_file, path, sizeof(path));
	if (!auth_file_read(loader->auth_file, add_listed_user, loader, lenient ? &into_remarks : &loader->errors, why,
			    sizeof(why))) {
		error_sink_add(lenient ? &into_remarks : &loader->errors, setting->file, setting->line,
			       "[forebay] auth_file: cannot read %s: %s", path, why);
		loader->private->auth_file_missing =
			arena_printf(&loader->private->arena, "auth_file: cannot read %s: %s", path, why);
		if (!loader->private->auth_file_missing)
			out_of_memory(loader);
	}
	for (size_t i = 0; i < problems.count; i++)
		add_remark(loader, arena_strdup(&loader->private->arena, problems.at[i].file), problems.at[i].line,
			   arena_printf(&loader->private->arena, "%s; as PgBouncer does, Forebay goes on without it",
					problems.at[i].text));
	config_errors_free(&problems);
	name_index_free(&loader->auth_file_names);
}

/* Who logs in to a PostgreSQL without a password of its own there has the one that clients of that name have; it is sent
 * only where it is asked for. Not for MySQL, where a password is sent unasked, and wrong where none is set. */
static void inherit_secrets(struct loader *loader) {
	for (struct section *s = loader->private->sections; s; s = s->next) {
		if (s->kind == SECTION_POOL) {
			struct pool_config *pool = s->target;
			bool asks = pool->protocol == PROTOCOL_POSTGRESQL;
			const struct user_config *user = asks && pool->user ? config_user(loader->config, pool->user) : NULL;
			const struct user_config *asker =
				asks && pool->auth_user ? config_user(loader->config, pool->auth_user) : NULL;
			if (user && !pool->password)
				pool->password = user->password;
			if (asker && !pool->auth_password)
				pool->auth_password = asker->password;
		}
		if (s->kind == SECTION_POOL || s->kind == SECTION_USER)
			show_secrets(s);
	}
}

/* ---- loading ---- */

static bool begin(struct loader *loader, const char *name, struct config_errors *errors) {
	if (errors)
		*errors = (struct config_errors){0};
	loader->errors.list = errors;
	struct config *config = loader->config = calloc(1, sizeof(*config));
	struct config_private *p = loader->private = calloc(1, sizeof(*p));
	if (!config || !p) {
		error_sink_add(&loader->errors, name, 0, "out of memory");
		free(config);
		free(p);
		return false;
	}
	config->private_ = p;
	atomic_init(&p->references, 1);
	p->sections_end = &p->sections;
	p->remarks_end = &p->remarks;
	config->file = arena_strdup(&p->arena, name);
	struct section *forebay = section_new(loader, SECTION_FOREBAY, "", "forebay");
	if (!config->file || !forebay) {
		out_of_memory(loader);
		config_unref(config);
		return false;
	}
	forebay->file = config->file;
	link_section(loader, forebay);
	return true;
}

static struct config *finish(struct loader *loader) {
	complete(loader);
	load_auth_file(loader);
	inherit_secrets(loader);
	config_check(loader->config, !loader->incomplete, &loader->errors);
	if (loader->errors.count == 0)
		return loader->config;
	config_unref(loader->config);
	return NULL;
}

/* A pgbouncer.ini, translated, as if its translation had been in the file. */
static void take_items(struct loader *loader, const struct pgb_items *items) {
	struct section *section = NULL;
	const char *label = "";

	loader->private->theirs = items->settings;
	for (const struct pgb_item *item = items->first; item; item = item->next) {
		struct setting_text text = {.file = item->at.file, .line = item->at.line, .dir = ""};
		if (strcmp(item->section, label) != 0) {
			label = text.text = item->section;
			section = begin_section(loader, &text);
		}
		text.text = item->text;
		if (!item->key)
			add_remark(loader, item->at.file, item->at.line, item->text);
		else if (section)
			add_setting(loader, section, item->key, &text);
	}
}

struct config *config_load(const char *path, struct config_errors *errors) {
	return config_load_with(path, NULL, 0, errors);
}

struct config *config_load_with(const char *path, const struct config_override *overrides, size_t count,
				struct config_errors *errors) {
	struct loader loader = {0};
	const struct settings_handler handler = {begin_section, add_setting, &loader};
	struct pgb_items items;

	if (!begin(&loader, path, errors))
		return NULL;
	if (pgbouncer_is(path)) {
		loader.private->is_pgbouncers = true;
		pgbouncer_translate_file(path, overrides, count, &loader.private->arena, &loader.errors, &items);
		loader.incomplete = loader.errors.count > 0;
		take_items(&loader, &items);
	} else if (!settings_read_file(path, &handler, &loader.private->arena, &loader.errors)) {
		loader.incomplete = true;
	}
	const char *dir = folder_of(&loader.private->arena, path);
	if (!dir)
		out_of_memory(&loader);
	for (size_t i = 0; dir && i < count && !loader.private->is_pgbouncers; i++)
		override(&loader, &overrides[i], dir);
	return finish(&loader);
}

struct config *config_parse(const char *text, const char *name, struct config_errors *errors) {
	struct loader loader = {0};
	const struct settings_handler handler = {begin_section, add_setting, &loader};
	struct pgb_items items;

	if (!begin(&loader, name, errors))
		return NULL;
	if (pgb_file_is(text, strlen(text))) {
		loader.private->is_pgbouncers = true;
		pgbouncer_translate_text(text, name, &loader.private->arena, &loader.errors, &items);
		loader.incomplete = loader.errors.count > 0;
		take_items(&loader, &items);
	} else if (!settings_read_text(text, name, &handler, &loader.private->arena, &loader.errors)) {
		loader.incomplete = true;
	}
	return finish(&loader);
}
