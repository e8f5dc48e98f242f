#include "pgsql/ident.h"

#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgsql/rules_file.h"

struct ident_line {
	const char *map;
	const struct rules_token *system, *user;
	regex_t system_regex, user_regex; /* where the token begins with a slash */
	bool system_compiled, user_compiled;
};

struct ident {
	struct rules *rules;
	struct ident_line *lines;
	size_t count;
};

void ident_free(struct ident *ident) {
	if (!ident)
		return;
	for (size_t i = 0; i < ident->count; i++) {
		if (ident->lines[i].system_compiled)
			regfree(&ident->lines[i].system_regex);
		if (ident->lines[i].user_compiled)
			regfree(&ident->lines[i].user_regex);
	}
	free(ident->lines);
	rules_free(ident->rules);
	free(ident);
}

static bool compile(const struct rules_line *at, const struct rules_token *token, regex_t *regex, bool *compiled,
		    struct error *error) {
	char why[128];

	if (token->text[0] != '/')
		return true;
	int e = regcomp(regex, token->text + 1, REG_EXTENDED);
	if (e == 0) {
		*compiled = true;
		return true;
	}
	regerror(e, regex, why, sizeof why);
	return error_set(error, 0, "%s:%d: invalid regular expression \"%s\": %s", at->file, at->number,
			 token->text + 1, why);
}

static bool parse_line(const struct rules_line *at, struct ident_line *line, struct error *error) {
	if (at->count != 3 || at->fields[0].count != 1 || at->fields[1].count != 1 || at->fields[2].count != 1)
		return error_set(error, 0,
				 "%s:%d: a line of a user map has three fields: map, system user, database user", at->file,
				 at->number);
	line->map = at->fields[0].tokens[0].text;
	line->system = &at->fields[1].tokens[0];
	line->user = &at->fields[2].tokens[0];
	if (!line->user->quoted && line->user->text[0] == '+')
		return error_set(error, 0, "%s:%d: %s: membership in a role is not supported; name the users", at->file,
				 at->number, line->user->text);
	if (!compile(at, line->system, &line->system_regex, &line->system_compiled, error) ||
	    !compile(at, line->user, &line->user_regex, &line->user_compiled, error))
		return false;
	if (!line->user_compiled && strstr(line->user->text, "\\1") &&
	    !(line->system_compiled && line->system_regex.re_nsub > 0))
		return error_set(error, 0,
				 "%s:%d: \\1 stands for nothing: the system user is no regular expression with parentheses",
				 at->file, at->number);
	return true;
}

struct ident *ident_load(const char *path, struct error *error) {
	struct ident *ident = calloc(1, sizeof *ident);

	if (!ident) {
		error_set(error, 0, "out of memory");
		return NULL;
	}
	ident->rules = rules_load(path, error);
	if (!ident->rules)
		goto fail;
	ident->lines = calloc(ident->rules->count + 1, sizeof *ident->lines);
	if (!ident->lines) {
		error_set(error, 0, "out of memory");
		goto fail;
	}
	for (size_t i = 0; i < ident->rules->count; i++)
		if (!parse_line(&ident->rules->lines[i], &ident->lines[ident->count++], error))
			goto fail;
	return ident;
fail:
	ident_free(ident);
	return NULL;
}

/* `user` is `pattern` with its first \1 replaced by the parenthesis' text. */
static bool is_substituted(const char *pattern, const char *system_user, const regmatch_t *group, const char *user) {
	const char *place = strstr(pattern, "\\1");
	size_t before = (size_t)(place - pattern);
	size_t inside = group->rm_so < 0 ? 0 : (size_t)(group->rm_eo - group->rm_so);

	return strlen(user) == before + inside + strlen(place + 2) && memcmp(user, pattern, before) == 0 &&
	       (inside == 0 || memcmp(user + before, system_user + group->rm_so, inside) == 0) &&
	       strcmp(user + before + inside, place + 2) == 0;
}

static bool line_allows(const struct ident_line *line, const char *system_user, const char *user) {
	regmatch_t groups[2] = {{-1, -1}, {-1, -1}};

	if (line->system_compiled) {
		if (regexec(&line->system_regex, system_user, 2, groups, 0) != 0)
			return false;
	} else if (strcmp(line->system->text, system_user) != 0) {
		return false;
	}
	if (line->user_compiled)
		return regexec(&line->user_regex, user, 0, NULL, 0) == 0;
	if (strstr(line->user->text, "\\1"))
		return is_substituted(line->user->text, system_user, &groups[1], user);
	return rules_is_keyword(line->user, "all") || strcmp(line->user->text, user) == 0;
}

bool ident_allows(const struct ident *ident, const char *map, const char *system_user, const char *user) {
	if (!map || !map[0])
		return strcmp(system_user, user) == 0;
	for (size_t i = 0; ident && i < ident->count; i++)
		if (strcmp(ident->lines[i].map, map) == 0 && line_allows(&ident->lines[i], system_user, user))
			return true;
	return false;
}
