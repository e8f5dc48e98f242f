/* Reading a pgbouncer.ini, and the translation of [pgbouncer]; that of databases and users is in pgbouncer_pools.c. */
#include "config/pgbouncer.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/secret.h"
#include "config/auth_file.h"
#include "config/nearest.h"
#include "config/pgbouncer_private.h"
#include "config/schema.h"
#include "config/text.h"
#include "config/text_units.h"

enum { FILE_LARGEST = 64 << 20, CLIENTS_MOST = 10000000, AUTO_POOLS = 1000 };

#define SHORTEST (10 * NS_PER_MS)

static const char *const SCOPE_NAMES[] = {"pgbouncer", "databases", "users", "peers"};

static void no_memory(struct pgb *p) {
	error_sink_add(p->errors, p->main_at.file ? p->main_at.file : "", 0, "out of memory");
}

/* ---- reading ---- */

static void set_defaults(struct pgb *p) {
	size_t count;
	const struct pgb_key *keys = pgb_keys(PGB_MAIN, &count);

	for (size_t i = 0; i < count; i++)
		p->settings[i] = (struct pgb_given){.text = keys[i].default_text, .at = p->main_at};
}

static void begin_section(void *context, const char *name, const struct pgb_line *at) {
	struct pgb *p = context;
	char shown[60];

	p->in_section = false;
	for (int scope = 0; scope < PGB_SCOPES; scope++) {
		if (strcmp(name, SCOPE_NAMES[scope]) == 0) {
			p->scope = (enum pgb_scope)scope;
			p->in_section = true;
		}
	}
	if (!p->in_section) {
		error_sink_add(p->errors, at->file, at->line,
			       "[%s]: there is no such section; expected [pgbouncer], [databases], [users] or [peers]",
			       text_printable(name, shown, sizeof shown));
	} else if (p->scope == PGB_MAIN) {
		if (p->has_main)
			pgb_remark(p, "forebay", at,
				   "[pgbouncer] begins again here: as PgBouncer does, all of its settings from before are forgotten");
		p->has_main = true;
		p->main_at = *at;
		set_defaults(p);
	}
}

static void unknown(struct pgb *p, enum pgb_scope scope, const char *key, const char *owner, const struct pgb_line *at) {
	struct nearest search = {.wanted = key};
	size_t count;
	const struct pgb_key *keys = pgb_keys(scope, &count);
	char shown[60], shown_owner[60];

	for (size_t i = 0; i < count; i++)
		nearest_offer(&search, keys[i].name);
	error_sink_add(p->errors, at->file, at->line, "[%s] %s%s%s: PgBouncer has no such setting here%s%s%s",
		       SCOPE_NAMES[scope], owner ? text_printable(owner, shown_owner, sizeof shown_owner) : "",
		       owner ? ": " : "", text_printable(key, shown, sizeof shown), search.best ? "; did you mean " : "",
		       search.best ? search.best : "", search.best ? "?" : "");
}

/* A value into its place, if it is one. */
static void take_value(struct pgb *p, enum pgb_scope scope, struct pgb_given *values, const char *key, const char *value,
		       const char *owner, const struct pgb_line *at) {
	char problem[200], shown[60], shown_owner[60];
	size_t count;
	int i = pgb_find(scope, key);

	if (!value) {
		no_memory(p);
	} else if (i < 0) {
		unknown(p, scope, key, owner, at);
	} else if (!pgb_valid(&pgb_keys(scope, &count)[i], value, problem, sizeof problem)) {
		error_sink_add(p->errors, at->file, at->line, "[%s] %s%s%s = %s: %s", SCOPE_NAMES[scope],
			       owner ? text_printable(owner, shown_owner, sizeof shown_owner) : "", owner ? ": " : "", key,
			       text_printable(value, shown, sizeof shown), problem);
	} else {
		values[i] = (struct pgb_given){.text = value, .at = *at, .given = true};
	}
}

/* False: an error was reported. */
static bool check_entry(struct pgb *p, const char *name, const struct pgb_line *at) {
	int number;

	if (p->scope == PGB_DATABASE && strcmp(name, "pgbouncer") == 0) {
		error_sink_add(p->errors, at->file, at->line, "[databases] pgbouncer: this name is the console's");
		return false;
	}
	if (p->scope == PGB_PEER && (!pgb_int(name, &number) || number < 1 || number > 65535)) {
		error_sink_add(p->errors, at->file, at->line, "[peers]: expected a number from 1 to 65535 as the peer's id");
		return false;
	}
	return true;
}

/* The entry of that name, emptied: the last line of a name is the one that counts. NULL: out of memory. */
static struct pgb_entry *entry_of(struct pgb *p, const char *name, const struct pgb_line *at) {
	struct pgb_entry *entry = name_index_find(&p->by_name[p->scope], name);

	if (entry) {
		pgb_remark(p, "forebay", at, "[%s] %s is there twice (first in line %d): as with PgBouncer, this line counts",
			   SCOPE_NAMES[p->scope], name, entry->at.line);
		memset(entry->params, 0, sizeof entry->params);
		entry->at = *at;
		return entry;
	}
	entry = arena_alloc(p->arena, sizeof *entry);
	if (!entry || !name_index_add(&p->by_name[p->scope], p->arena, name, entry))
		return NULL;
	entry->name = name;
	entry->at = *at;
	*p->ends[p->scope] = entry;
	p->ends[p->scope] = &entry->next;
	return entry;
}

static void take_entry(struct pgb *p, const char *name, const char *text, const struct pgb_line *at) {
	const char *key, *value, *problem = NULL;
	char shown[60];
	int found;

	if (!check_entry(p, name, at))
		return;
	struct pgb_entry *entry = entry_of(p, name, at);
	if (!entry) {
		no_memory(p);
		return;
	}
	while ((found = pgb_pair(&text, p->arena, &key, &value, &problem)) > 0) {
		/* not a word of it: it may be a piece of the password */
		if (pgb_find(p->scope, key) < 0 && p->scope == PGB_DATABASE &&
		    pgb_param(entry, PGB_DATABASE, "password")->given)
			error_sink_add(p->errors, at->file, at->line,
				       "[databases] %s: PgBouncer has no such setting as one of those behind password; a password "
				       "with a blank in it needs single quotes",
				       text_printable(name, shown, sizeof shown));
		else
			take_value(p, p->scope, entry->params, key, value, name, at);
	}
	if (found < 0)
		error_sink_add(p->errors, at->file, at->line, "[%s] %s: %s", SCOPE_NAMES[p->scope],
			       text_printable(name, shown, sizeof shown), problem);
	if (p->scope == PGB_PEER && found == 0 && !pgb_param(entry, PGB_PEER, "host")->given)
		error_sink_add(p->errors, at->file, at->line, "[peers] %s: host is missing",
			       text_printable(name, shown, sizeof shown));
	const struct pgb_given *port =
		p->scope == PGB_DATABASE || p->scope == PGB_PEER ? pgb_param(entry, p->scope, "port") : NULL;
	if (port && port->given && (pgb_loose(port->text) < 1 || pgb_loose(port->text) > 65535))
		error_sink_add(p->errors, at->file, at->line, "[%s] %s: port: expected a number from 1 to 65535",
			       SCOPE_NAMES[p->scope], text_printable(name, shown, sizeof shown));
}

static void take_setting(void *context, const char *key, const char *value, const struct pgb_line *at) {
	struct pgb *p = context;
	char shown[60];

	if (!p->in_section && !p->has_main && !p->entries[PGB_DATABASE])
		error_sink_add(p->errors, at->file, at->line,
			       "%s: it stands before the first section; expected [pgbouncer] or [databases] above it",
			       text_printable(key, shown, sizeof shown));
	else if (p->in_section && p->scope == PGB_MAIN)
		take_value(p, PGB_MAIN, p->settings, key, value, NULL, at);
	else if (p->in_section)
		take_entry(p, key, value, at);
}

/* ---- what the translation is made with ---- */

const struct pgb_given *pgb_value(const struct pgb *p, const char *name) {
	return &p->settings[pgb_find(PGB_MAIN, name)];
}

int pgb_number(const struct pgb *p, const char *name) {
	const struct pgb_given *value = pgb_value(p, name);
	int number = 0;

	if (value->text)
		pgb_int(value->text, &number);
	return number;
}

uint64_t pgb_duration(const struct pgb *p, const char *name) {
	uint64_t ns = 0;

	pgb_time(pgb_value(p, name)->text, &ns);
	return ns;
}

const struct pgb_given *pgb_param(const struct pgb_entry *entry, enum pgb_scope scope, const char *name) {
	return &entry->params[pgb_find(scope, name)];
}

/* Whether the setting would be so without being said. */
static bool is_default(const char *section, const char *key, const char *text) {
	enum section_kind kind = strcmp(section, "forebay") == 0	    ? SECTION_FOREBAY
				 : strncmp(section, "listener:", 9) == 0 ? SECTION_LISTENER
				 : strncmp(section, "pool:", 5) == 0	    ? SECTION_POOL
									    : SECTION_USER;
	size_t count;
	const struct config_key *schema = &schema_keys(kind, &count)[schema_find(kind, key)];
	uint64_t ours, theirs;

	if (kind == SECTION_USER) /* a section that has no key is not seen */
		return false;
	if (schema->type == KEY_DURATION && duration_parse(schema->default_text, &ours) && duration_parse(text, &theirs))
		return ours == theirs;
	return strcmp(schema->default_text, text) == 0;
}

static void add_item(struct pgb *p, const char *section, const char *key, const struct pgb_line *at, const char *text) {
	struct pgb_item *item = arena_alloc(p->arena, sizeof *item);
	char *copy = arena_strdup(p->arena, text), *label = arena_strdup(p->arena, section);

	if (!item || !copy || !label) {
		no_memory(p);
		return;
	}
	*item = (struct pgb_item){.section = label, .key = key, .text = copy, .at = *at};
	*p->items->end = item;
	p->items->end = &item->next;
}

void pgb_emit(struct pgb *p, const char *section, const char *key, const struct pgb_line *at, const char *fmt, ...) {
	char text[16384];
	va_list args;

	va_start(args, fmt);
	int len = vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	if (len < 0 || (size_t)len >= sizeof text)
		error_sink_add(p->errors, at->file, at->line, "the value is longer than %zu bytes", sizeof text - 1);
	else if (!is_default(section, key, text))
		add_item(p, section, key, at, text);
	/* it may have been a password */
	secret_wipe(text, sizeof text);
}

/* What holds for every pool is said at the first. */
static bool was_said(const struct pgb *p, const struct pgb_line *at, const char *text) {
	for (const struct pgb_item *item = p->items->first; item; item = item->next)
		if (!item->key && item->at.line == at->line && strcmp(item->text, text) == 0 &&
		    strcmp(item->at.file, at->file) == 0)
			return true;
	return false;
}

void pgb_remark(struct pgb *p, const char *section, const struct pgb_line *at, const char *fmt, ...) {
	char text[1200];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	if (!was_said(p, at, text))
		add_item(p, section, NULL, at, text);
}

void pgb_emit_duration(struct pgb *p, const char *section, const char *key, const struct pgb_line *at, const char *what,
		       uint64_t ns) {
	char text[32];

	if (ns > 0 && ns < SHORTEST) {
		pgb_remark(p, section, at, "%s: less than 10ms is taken as 10ms", what);
		ns = SHORTEST;
	}
	duration_format(ns, text, sizeof text);
	pgb_emit(p, section, key, at, "%s", text);
}

static bool is_space(char c) {
	return c == ' ' || (c >= '\t' && c <= '\r');
}

const char *pgb_list(struct pgb *p, const char *text) {
	char *list = arena_alloc(p->arena, 2 * strlen(text) + 3);
	struct name_index seen = {0};
	size_t len = 0;

	for (const char *at = text; list && at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
		const char *start = at, *end = at + strcspn(at, ",");
		while (start < end && is_space(*start))
			start++;
		while (end > start && is_space(end[-1]))
			end--;
		char *element = arena_strndup(p->arena, start, (size_t)(end - start));
		if (!element || !element[0] || name_index_find(&seen, element) ||
		    !name_index_add(&seen, p->arena, element, element))
			continue;
		len += (size_t)sprintf(list + len, "%s%s", len ? ", " : "", element);
	}
	name_index_free(&seen);
	if (!list)
		no_memory(p);
	return list ? list : "";
}

const char *pgb_path(struct pgb *p, const char *text) {
	char folder[4096];

	if (!text[0] || text[0] == '/' || !getcwd(folder, sizeof folder))
		return text;
	const char *path = arena_printf(p->arena, "%s/%s", strcmp(folder, "/") == 0 ? "" : folder, text);
	return path ? path : text;
}

const char *pgb_sql_quoted(struct pgb *p, const char *text) {
	char *quoted = arena_alloc(p->arena, 2 * strlen(text) + 3), *at = quoted;

	if (!quoted)
		return "''";
	*at++ = '\'';
	for (; *text; text++) {
		if (*text == '\'')
			*at++ = '\'';
		*at++ = *text;
	}
	*at = '\'';
	return quoted;
}

void pgb_remark_ignored(struct pgb *p, const char *section, enum pgb_scope scope, const struct pgb_given *given,
			const char *owner) {
	size_t count;
	const struct pgb_key *keys = pgb_keys(scope, &count);

	for (size_t i = 0; i < count; i++) {
		bool matters = given[i].given && keys[i].fate == PGB_IGNORED &&
			       !(keys[i].default_text && strcmp(keys[i].default_text, given[i].text) == 0);
		/* texts are not shown: there may be a password in them (auth_ldap_options) */
		bool shown = matters && keys[i].type != PGB_TEXT;
		if (matters)
			pgb_remark(p, section, &given[i].at, "%s%s%s%s%s is ignored: %s", owner ? owner : "",
				   owner ? ": " : "", keys[i].name, shown ? " = " : "", shown ? given[i].text : "",
				   keys[i].why);
	}
}

static void emit_file(struct pgb *p, const char *section, const char *key, const char *name) {
	const struct pgb_given *file = pgb_value(p, name);

	if (file->text && file->text[0])
		pgb_emit(p, section, key, &file->at, "%s", pgb_path(p, file->text));
}

/* ---- TLS ---- */

static bool has_word(struct pgb *p, const char *list, const char *word) {
	const char *found = strstr(pgb_list(p, list), word);

	return found != NULL;
}

enum { TLS_OLDER = 1, TLS_1_2 = 2, TLS_1_3 = 4, TLS_ALL = 7 };

/* As libtls reads the list: words with , or : between them, "!" before one takes it away. */
static unsigned versions_of(const char *text) {
	static const struct {
		const char *word;
		unsigned versions;
	} words[] = {{"all", TLS_ALL},	     {"legacy", TLS_ALL},    {"secure", TLS_1_2 | TLS_1_3}, {"default", TLS_1_2 | TLS_1_3},
		     {"tlsv1", TLS_ALL},     {"tlsv1.0", TLS_OLDER}, {"tlsv1.1", TLS_OLDER},
		     {"tlsv1.2", TLS_1_2}, {"tlsv1.3", TLS_1_3}};
	unsigned versions = 0;

	for (const char *at = text; *at; at += *at != 0) {
		at += strspn(at, " \t");
		bool not = *at == '!';
		at += not;
		size_t len = strcspn(at, ",: \t");
		if (not && !versions)
			versions = TLS_ALL;
		for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
			if (strlen(words[i].word) == len && strncasecmp(words[i].word, at, len) == 0)
				versions = not ? versions & ~words[i].versions : versions | words[i].versions;
		at += len;
		at += strspn(at, " \t");
	}
	return versions;
}

static void emit_protocols(struct pgb *p, const char *section, const struct pgb_given *protocols, const char *name) {
	const char *text = protocols->text;
	unsigned versions = versions_of(text);
	bool older = versions & TLS_OLDER;
	/* who asks for what is older alone gets the oldest that there is */
	bool two = versions & TLS_1_2 || (older && !(versions & TLS_1_3));

	if (older)
		pgb_remark(p, section, &protocols->at, "%s = %s: nothing older than TLS 1.2 is spoken", name, text);
	else if (two && !(versions & TLS_1_3))
		pgb_remark(p, section, &protocols->at, "%s = %s: TLS 1.3 is spoken as well", name, text);
	if (!two)
		pgb_emit(p, section, "tls_min_version", &protocols->at, "1.3");
}

void pgb_emit_tls(struct pgb *p, const char *section, const char *prefix) {
	static const char *const WORDS[] = {"default", "secure", "fast", "normal", "legacy"};
	bool client = strcmp(prefix, "client_tls_") == 0;
	const struct pgb_given *mode = pgb_value(p, client ? "client_tls_sslmode" : "server_tls_sslmode");
	const struct pgb_given *ca = pgb_value(p, client ? "client_tls_ca_file" : "server_tls_ca_file");
	const struct pgb_given *ciphers = pgb_value(p, client ? "client_tls_ciphers" : "server_tls_ciphers");
	const struct pgb_given *protocols = pgb_value(p, client ? "client_tls_protocols" : "server_tls_protocols");
	const char *const *modes = pgb_keys(PGB_MAIN, &(size_t){0})[pgb_find(PGB_MAIN, "server_tls_sslmode")].choices;
	const char *name = modes[pgb_choice(modes, mode->text)];

	pgb_emit(p, section, "tls_mode", &mode->at, "%s", name);
	if (strcmp(name, "disable") == 0)
		return;
	bool offers = strcmp(name, "allow") == 0 || strcmp(name, "prefer") == 0;
	if (client && offers && !pgb_value(p, "client_tls_cert_file")->text[0])
		pgb_remark(p, section, &mode->at, "client_tls_sslmode = %s: without client_tls_cert_file no TLS is offered", name);
	emit_file(p, section, "tls_cert_file", client ? "client_tls_cert_file" : "server_tls_cert_file");
	emit_file(p, section, "tls_key_file", client ? "client_tls_key_file" : "server_tls_key_file");
	if (ca->text[0])
		pgb_emit(p, section, "tls_ca_file", &ca->at, "%s", pgb_path(p, ca->text));
	else if (strncmp(name, "verify", 6) == 0 && client) /* anybody can have a certificate of a public authority */
		error_sink_add(p->errors, mode->at.file, mode->at.line,
			       "[pgbouncer] client_tls_sslmode = %s needs client_tls_ca_file: it says whose certificates clients may "
			       "show",
			       name);
	else if (strncmp(name, "verify", 6) == 0)
		pgb_emit(p, section, "tls_ca_file", &mode->at, "system");
	emit_protocols(p, section, protocols, client ? "client_tls_protocols" : "server_tls_protocols");
	for (size_t i = 0; i < sizeof WORDS / sizeof WORDS[0]; i++)
		if (strcmp(ciphers->text, WORDS[i]) == 0)
			return;
	if (ciphers->text[0])
		pgb_emit(p, section, "tls_ciphers", &ciphers->at, "%s", 
			 strcmp(ciphers->text, "all") == 0 ? "ALL:!aNULL:!eNULL" : ciphers->text);
}

/* ---- [forebay] ---- */

static void emit_tcp(struct pgb *p) {
	const struct pgb_given *on = pgb_value(p, "tcp_keepalive"), *idle = pgb_value(p, "tcp_keepidle");
	const struct pgb_given *user = pgb_value(p, "tcp_user_timeout");

	if (pgb_number(p, "tcp_keepalive") == 0)
		pgb_emit(p, "forebay", "tcp_keepalive_idle", &on->at, "0");
	else if (pgb_number(p, "tcp_keepidle") > 0)
		pgb_emit(p, "forebay", "tcp_keepalive_idle", &idle->at, "%ds", pgb_number(p, "tcp_keepidle"));
	if (pgb_number(p, "tcp_user_timeout") > 0)
		pgb_emit(p, "forebay", "tcp_user_timeout", &user->at, "%dms", pgb_number(p, "tcp_user_timeout"));
}

static void emit_clients(struct pgb *p) {
	const struct pgb_given *most = pgb_value(p, "max_client_conn");
	int number = pgb_number(p, "max_client_conn"), taken = number < 1 ? 1 : number > CLIENTS_MOST ? CLIENTS_MOST : number;

	if (taken != number)
		pgb_remark(p, "forebay", &most->at, "max_client_conn = %s is taken as %d", most->text, taken);
	pgb_emit(p, "forebay", "max_clients", &most->at, "%d", taken);
	most = pgb_value(p, "max_user_client_connections");
	number = pgb_number(p, "max_user_client_connections");
	if (number > 0)
		pgb_emit(p, "forebay", "max_connections_per_user", &most->at, "%d", number > CLIENTS_MOST ? CLIENTS_MOST : number);
	if (name_index_find(&p->by_name[PGB_DATABASE], "*"))
		pgb_emit(p, "forebay", "max_auto_pools", &p->main_at, "%d", AUTO_POOLS);
}

/* PgBouncer writes to its log file as well, which is stderr here; one destination is enough. */
static void emit_syslog(struct pgb *p) {
	static const struct {
		const char *theirs, *ours;
	} names[] = {{"syslog_ident", "log_ident"}, {"syslog_facility", "log_facility"}};

	if (pgb_number(p, "syslog") == 0)
		return;
	pgb_emit(p, "forebay", "log_destination", &pgb_value(p, "syslog")->at, "syslog");
	for (size_t i = 0; i < 2; i++) {
		const struct pgb_given *given = pgb_value(p, names[i].theirs);
		if (given->given)
			pgb_emit(p, "forebay", names[i].ours, &given->at, "%s", given->text);
	}
}

static void emit_logging(struct pgb *p) {
	const struct pgb_given *in = pgb_value(p, "log_connections"), *out = pgb_value(p, "log_disconnections");
	bool comes = pgb_number(p, "log_connections") != 0, goes = pgb_number(p, "log_disconnections") != 0;

	if (comes != goes)
		pgb_remark(p, "forebay", in->given ? &in->at : &out->at,
			   "log_connections and log_disconnections are one setting: both are logged");
	pgb_emit(p, "forebay", "log_connections", &in->at, "%s", comes || goes ? "true" : "false");
	emit_syslog(p);
	if (pgb_number(p, "verbose") > 0)
		pgb_emit(p, "forebay", "log_level", &pgb_value(p, "verbose")->at, "debug");
}

static void emit_names(struct pgb *p, const char *name) {
	const struct pgb_given *names = pgb_value(p, name);

	if (names->text[0])
		pgb_emit(p, "forebay", name, &names->at, "%s", pgb_list(p, names->text));
}

static void emit_forebay(struct pgb *p) {
	const struct pgb_given *ttl = pgb_value(p, "dns_max_ttl"), *login = pgb_value(p, "client_login_timeout");
	const struct pgb_given *user = pgb_value(p, "user");

	pgb_remark_ignored(p, "forebay", PGB_MAIN, p->settings, NULL);
	if (p->entries[PGB_PEER])
		pgb_remark(p, "forebay", &p->entries[PGB_PEER]->at,
			   "[peers] is ignored: one Forebay uses all CPUs, so cancel requests come to where they belong; several "
			   "behind one address do not pass them on to each other");
	emit_clients(p);
	emit_names(p, "admin_users");
	emit_names(p, "stats_users");
	/* as PgBouncer lets its own system user in */
	pgb_emit(p, "forebay", "admin_socket_user", &p->main_at, "pgbouncer");
	/* PgBouncer has nothing like it, and its exporter listens there by default */
	pgb_emit(p, "forebay", "metrics_listen", &p->main_at, "%s", "");
	emit_logging(p);
	emit_file(p, "forebay", "auth_file", "auth_file");
	pgb_emit_duration(p, "forebay", "client_login_timeout", &login->at, "client_login_timeout",
			  pgb_duration(p, "client_login_timeout"));
	emit_file(p, "forebay", "pid_file", "pidfile");
	if (user->text && user->text[0])
		pgb_emit(p, "forebay", "run_as", &user->at, "%s", user->text);
	emit_tcp(p);
	uint64_t ns = pgb_duration(p, "dns_max_ttl");
	if (ns > 0 && ns < 100 * NS_PER_MS)
		ns = 100 * NS_PER_MS;
	pgb_emit_duration(p, "forebay", "dns_refresh", &ttl->at, "dns_max_ttl", ns);
}

/* ---- [listener:pgbouncer] ---- */

static const char LISTENER[] = "listener:pgbouncer";

/* `before` and `behind` go around the host, which may be a folder. */
static void add_address(struct pgb *p, const char **list, const char *before, const char *host, const char *behind, int port) {
	const char *longer =
		arena_printf(p->arena, "%s%s%s%s%s%d", *list, **list ? ", " : "", before, host, behind, port);
	if (longer)
		*list = longer;
}

static void emit_addresses(struct pgb *p) {
	const struct pgb_given *addresses = pgb_value(p, "listen_addr"), *dir = pgb_value(p, "unix_socket_dir");
	const struct pgb_given *port_given = pgb_value(p, "listen_port");
	const char *list = "", *hosts = pgb_list(p, addresses->text);
	int port = pgb_number(p, "listen_port");
	char host[300];

	if (port < 1 || port > 65535) {
		error_sink_add(p->errors, port_given->at.file, port_given->at.line,
			       "[pgbouncer] listen_port = %d: expected a number from 1 to 65535", port);
		return;
	}
	bool all = strcmp(hosts, "*") == 0 || strncmp(hosts, "*, ", 3) == 0 || strstr(hosts, ", *");
	for (const char *at = all ? "*" : hosts; *at; at += strspn(at, ", ")) {
		size_t len = strcspn(at, ",");
		snprintf(host, sizeof host, "%.*s", (int)len, at);
		at += len;
		if (strcmp(host, "localhost") == 0 && has_word(p, hosts, "127.0.0.1"))
			continue;
		bool v6 = strchr(host, ':') != NULL;
		add_address(p, &list, v6 ? "[" : "", host, v6 ? "]:" : ":", port);
	}
	if (dir->text[0] == '@')
		pgb_remark(p, LISTENER, &dir->at,
			   "unix_socket_dir = %s is ignored: sockets in the abstract namespace are not supported", dir->text);
	else if (dir->text[0])
		add_address(p, &list, "", pgb_path(p, dir->text), "/.s.PGSQL.", port);
	if (!*list)
		error_sink_add(p->errors, p->main_at.file, p->main_at.line,
			       "[pgbouncer] there is nowhere to listen: neither listen_addr nor a unix_socket_dir that can be used is "
			       "set");
	else
		pgb_emit(p, LISTENER, "listen", addresses->given ? &addresses->at : &dir->at, "%s", list);
}

static void emit_socket(struct pgb *p) {
	const struct pgb_given *mode = pgb_value(p, "unix_socket_mode"), *group = pgb_value(p, "unix_socket_group");
	const struct pgb_given *backlog = pgb_value(p, "listen_backlog");
	int number = pgb_number(p, "listen_backlog");

	pgb_emit(p, LISTENER, "backlog", &backlog->at, "%d", number < 1 ? 1 : number > 65535 ? 65535 : number);
	if (mode->given)
		pgb_emit(p, LISTENER, "unix_socket_mode", &mode->at, "%04o", (unsigned)pgb_number(p, "unix_socket_mode") & 0777);
	if (group->text[0])
		pgb_emit(p, LISTENER, "unix_socket_group", &group->at, "%s", group->text);
}

static void emit_auth(struct pgb *p) {
	const struct pgb_given *type = pgb_value(p, "auth_type");
	const char *auth = type->text, *becomes = auth;

	if (strcasecmp(auth, "plain") == 0)
		becomes = "password";
	else if (strcasecmp(auth, "any") == 0)
		becomes = "trust";
	else if (strcasecmp(auth, "pam") == 0 || strcasecmp(auth, "ldap") == 0)
		becomes = "password";
	if (strcasecmp(auth, "any") == 0)
		pgb_remark(p, LISTENER, &type->at,
			   "auth_type = any lets in whoever comes, as with PgBouncer; but the console is for admin_users alone, and a "
			   "database without user= is logged in to under the client's name");
	else if (strcmp(becomes, auth) != 0 && strcasecmp(auth, "plain") != 0)
		pgb_remark(p, LISTENER, &type->at,
			   "auth_type = %s: Forebay does not ask %s, so a client's password is compared with what auth_file or "
			   "auth_query says; who is in neither is refused",
			   auth, auth);
	const char *const *types = pgb_keys(PGB_MAIN, &(size_t){0})[pgb_find(PGB_MAIN, "auth_type")].choices;
	pgb_emit(p, LISTENER, "auth", &type->at, "%s", becomes == auth ? types[pgb_choice(types, auth)] : becomes);
	/* as PgBouncer: whoever is not in auth_file, nor found by auth_query, does not get in without a password either */
	if (strcasecmp(auth, "trust") == 0 || strcasecmp(auth, "cert") == 0 || strcasecmp(auth, "hba") == 0)
		pgb_emit(p, LISTENER, "known_users_only", &type->at, "true");
	if (strcasecmp(auth, "hba") == 0) {
		emit_file(p, LISTENER, "hba_file", "auth_hba_file");
		emit_file(p, LISTENER, "ident_file", "auth_ident_file");
	}
}

static void emit_listener(struct pgb *p) {
	const struct pgb_given *ignore = pgb_value(p, "ignore_startup_parameters");

	emit_addresses(p);
	emit_socket(p);
	emit_auth(p);
	if (ignore->text[0])
		pgb_emit(p, LISTENER, "ignore_startup_parameters", &ignore->at, "%s", pgb_list(p, ignore->text));
	pgb_emit_tls(p, LISTENER, "client_tls_");
}

/* ---- all of it ---- */

static void count_user(void *context, const char *name, const char *secret, int line) {
	struct pgb *p = context;

	(void)secret, (void)line;
	p->known_users += !name_index_find(&p->by_name[PGB_USER], name);
}

/* How many users could come at most, if auth_file is all there is. What is wrong with that file is said later. */
static void count_users(struct pgb *p) {
	const struct pgb_given *file = pgb_value(p, "auth_file");
	struct error_sink nobody = {0};
	char why[160];

	for (const struct pgb_entry *user = p->entries[PGB_USER]; user; user = user->next)
		p->known_users++;
	if (file->text && file->text[0])
		auth_file_read(pgb_path(p, file->text), count_user, p, &nobody, why, sizeof why);
}

static void translate(const char *text, const char *name, const struct config_override *overrides, size_t count,
		      struct arena *arena, struct error_sink *errors, struct pgb_items *items) {
	struct pgb *p = arena_alloc(arena, sizeof *p);

	*items = (struct pgb_items){.end = &items->first};
	if (!p) {
		error_sink_add(errors, name, 0, "out of memory");
		return;
	}
	p->arena = arena;
	p->errors = errors;
	p->items = items;
	items->settings = p->settings;
	p->main_at = (struct pgb_line){arena_strdup(arena, name), 0};
	for (int scope = 0; scope < PGB_SCOPES; scope++)
		p->ends[scope] = &p->entries[scope];
	set_defaults(p);
	const struct pgb_handler handler = {begin_section, take_setting, p};
	size_t before = errors->count;
	pgb_file_read(text, strlen(text), name, &handler, arena, errors);
	if (!p->has_main)
		error_sink_add(errors, name, 0, "there is no section [pgbouncer]; expected one, if an empty one");
	const struct pgb_line console = {"SET", 0};
	for (size_t i = 0; i < count; i++)
		take_value(p, PGB_MAIN, p->settings, overrides[i].key, arena_strdup(arena, overrides[i].value), NULL, &console);
	if (errors->count == before) {
		count_users(p);
		emit_forebay(p);
		emit_listener(p);
		pgb_translate_pools(p);
		pgb_translate_users(p);
	}
	for (int scope = 0; scope < PGB_SCOPES; scope++)
		name_index_free(&p->by_name[scope]);
}

void pgbouncer_translate_text(const char *text, const char *name, struct arena *arena, struct error_sink *errors,
			      struct pgb_items *items) {
	translate(text, name, NULL, 0, arena, errors, items);
}

void pgbouncer_translate_file(const char *path, const struct config_override *overrides, size_t count, struct arena *arena,
			      struct error_sink *errors, struct pgb_items *items) {
	struct text content = {0};
	char why[256];

	*items = (struct pgb_items){.end = &items->first};
	if (!text_read_file(&content, path, FILE_LARGEST, NULL, why, sizeof why))
		error_sink_add(errors, path, 0, "cannot read it: %s", why);
	else if (memchr(text_string(&content), 0, content.len))
		error_sink_add(errors, path, 0, "there is a zero byte in it: this is no text file");
	else
		translate(text_string(&content), path, overrides, count, arena, errors, items);
	text_free(&content);
}

bool pgbouncer_is(const char *path) {
	struct text content = {0};
	char why[256];
	bool is = text_read_file(&content, path, FILE_LARGEST, NULL, why, sizeof why) &&
		  pgb_file_is(text_string(&content), content.len);

	text_free(&content);
	return is;
}
