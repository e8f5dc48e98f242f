/* The snapshot after it was loaded: references, look-ups, what is shown of it. */
#include "config/config.h"

#include <stdlib.h>
#include <string.h>

#include "config/pgbouncer.h"
#include "config/pgbouncer_table.h"
#include "config/private.h"
#include "config/value.h"

struct config *config_ref(struct config *config) {
	atomic_fetch_add_explicit(&config->private_->references, 1, memory_order_relaxed);
	return config;
}

void config_unref(struct config *config) {
	if (!config)
		return;
	struct config_private *p = config->private_;
	if (atomic_fetch_sub_explicit(&p->references, 1, memory_order_acq_rel) != 1)
		return;
	name_index_free(&p->by_label);
	name_index_free(&p->listeners);
	name_index_free(&p->pools);
	name_index_free(&p->users);
	arena_free(&p->arena);
	free(p);
	free(config);
}

const struct pool_config *config_pool(const struct config *config, const char *name) {
	return name_index_find(&config->private_->pools, name);
}

const struct pool_config *config_wildcard_pool(const struct config *config, enum protocol_id protocol) {
	const struct pool_config *pool = config_pool(config, "*");

	return pool && pool->protocol == protocol ? pool : NULL;
}

const struct listener_config *config_listener(const struct config *config, const char *name) {
	return name_index_find(&config->private_->listeners, name);
}

const struct user_config *config_user(const struct config *config, const char *name) {
	return name_index_find(&config->private_->users, name);
}

static bool is_among(const char **names, const char *name) {
	for (; *names; names++)
		if (strcmp(*names, name) == 0)
			return true;
	return false;
}

bool config_is_admin(const struct config *config, const char *user) {
	return is_among(config->admin_users, user);
}

bool config_is_stats(const struct config *config, const char *user) {
	return config_is_admin(config, user) || is_among(config->stats_users, user);
}

struct setting *section_setting(const struct section *section, const char *key) {
	int i = schema_find(section->kind, key);

	return i < 0 ? NULL : &section->settings[i];
}

bool config_is_pgbouncers(const struct config *config) {
	return config->private_->is_pgbouncers;
}

const char *config_auth_file_missing(const struct config *config) {
	return config->private_->auth_file_missing;
}

void config_each_remark(const struct config *config,
			void (*each)(void *context, const char *file, int line, const char *text), void *context) {
	for (const struct remark *r = config->private_->remarks; r; r = r->next)
		each(context, r->file, r->line, r->text);
}

/* ---- what is shown ---- */

void config_each_without_effect(const struct config *config,
				void (*each)(void *context, const char *section, const char *key, const char *value),
				void *context) {
	size_t count;

	for (struct section *s = config_first_section(config); s; s = s->next) {
		const struct config_key *keys = schema_keys(s->kind, &count);
		for (size_t i = 0; i < count; i++)
			if (keys[i].flags & KEY_LATER && strcmp(s->settings[i].shown, s->settings[i].shown_default) != 0)
				each(context, s->label, keys[i].name, s->settings[i].shown);
	}
}

void config_each_of_pgbouncer(const struct config *config,
			      void (*each)(void *context, const char *key, const char *value, const char *default_value),
			      void *context) {
	size_t count;
	const struct pgb_key *keys = pgb_keys(PGB_MAIN, &count);
	const struct pgb_given *given = config->private_->theirs;

	for (size_t i = 0; given && i < count; i++) {
		bool secret = given[i].given && strcmp(keys[i].name, "auth_ldap_options") == 0;
		each(context, keys[i].name, secret ? "***" : given[i].text, keys[i].default_text);
	}
}

void config_each(const struct config *config,
		 void (*each)(void *context, const char *section, const char *key, const char *value,
			      const char *default_value, bool reloadable),
		 void *context) {
	size_t count;

	for (int kind = 0; kind < SECTION_KINDS; kind++) {
		const struct config_key *keys = schema_keys((enum section_kind)kind, &count);
		for (struct section *s = config_first_section(config); s; s = s->next) {
			if ((int)s->kind != kind)
				continue;
			for (size_t i = 0; i < count; i++)
				each(context, s->label, keys[i].name, s->settings[i].shown,
				     s->settings[i].shown_default, key_is_reloadable(&keys[i]));
		}
	}
}

/* ---- what differs ---- */

struct diff {
	void (*each)(void *context, const char *section, const char *key, const char *before_value,
		     const char *after_value, bool needs_restart);
	void *context;
};

static const char SECTION_KEY[] = "(section)", ABSENT[] = "absent", PRESENT[] = "present";

static bool same_text(const char *a, const char *b) {
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_setting(const struct config_key *key, size_t i, const struct section *a,
			 const struct section *b) {
	if (key_is_secret(key))
		return same_text(value_secret(key, a->target), value_secret(key, b->target));
	return strcmp(a->settings[i].shown, b->settings[i].shown) == 0;
}

static void diff_common(const struct diff *diff, const struct section *before, const struct section *after) {
	size_t count;
	const struct config_key *keys = schema_keys(before->kind, &count);

	for (size_t i = 0; i < count; i++)
		if (!same_setting(&keys[i], i, before, after))
			diff->each(diff->context, before->label, keys[i].name, before->settings[i].shown,
				   after->settings[i].shown, !key_is_reloadable(&keys[i]));
}

static void diff_added(const struct diff *diff, const struct section *section) {
	size_t count;
	const struct config_key *keys = schema_keys(section->kind, &count);

	diff->each(diff->context, section->label, SECTION_KEY, ABSENT, PRESENT, false);
	for (size_t i = 0; i < count; i++)
		if (section->settings[i].state == SETTING_GIVEN)
			diff->each(diff->context, section->label, keys[i].name, "",
				   section->settings[i].shown, false);
}

/* A user's secret in the auth_file, and only there. */
static const struct user_config *find_listed(const struct config *config, const char *name) {
	const struct user_config *user = config_user(config, name);

	return user && user->from_auth_file ? user : NULL;
}

static void diff_listed_users(const struct diff *diff, const struct config *before,
			      const struct config *after) {
	for (const struct auth_file_user *u = before->private_->auth_file_users; u; u = u->next) {
		const struct user_config *other = find_listed(after, u->user.name);
		if (!other)
			diff->each(diff->context, "auth_file", u->user.name, PRESENT, ABSENT, false);
		else if (!same_text(u->user.password, other->password))
			diff->each(diff->context, "auth_file", u->user.name, "***", "***", false);
	}
	for (const struct auth_file_user *u = after->private_->auth_file_users; u; u = u->next)
		if (!find_listed(before, u->user.name))
			diff->each(diff->context, "auth_file", u->user.name, ABSENT, PRESENT, false);
}

void config_diff(const struct config *before, const struct config *after,
		 void (*each)(void *context, const char *section, const char *key, const char *before_value,
			      const char *after_value, bool needs_restart),
		 void *context) {
	const struct diff diff = {each, context};

	for (int kind = 0; kind < SECTION_KINDS; kind++) {
		for (struct section *s = config_first_section(before); s; s = s->next) {
			if ((int)s->kind != kind)
				continue;
			const struct section *other = name_index_find(&after->private_->by_label, s->label);
			if (other)
				diff_common(&diff, s, other);
			else
				each(context, s->label, SECTION_KEY, PRESENT, ABSENT, false);
		}
		for (struct section *s = config_first_section(after); s; s = s->next)
			if ((int)s->kind == kind && !name_index_find(&before->private_->by_label, s->label))
				diff_added(&diff, s);
	}
	diff_listed_users(&diff, before, after);
}
