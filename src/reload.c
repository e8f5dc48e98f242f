/* The configuration of the process that runs: read, reloaded whole or not at all, and what is SET on the console. */
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/console.h"
#include "admin/http.h"
#include "base/log.h"
#include "control/control.h"
#include "run.h"
#include "session/database.h"
#include "session/generation.h"
#include "session/session.h"

static void log_remark(void *context, const char *file, int line, const char *text) {
	(void)context;
	log_warning("config_remark", LOG_FIELDS(LOG_TEXT("file", file), LOG_NUMBER("line", line)), "%s:%d: %s", file, line, text);
}

struct config *run_load(const struct run *run, struct config_errors *errors) {
	struct config *config = config_load_with(run->file, run->overrides, run->override_count, errors);

	for (size_t i = 0; i < errors->count; i++) {
		const struct config_error *e = &errors->at[i];
		const struct log_field *fields = LOG_FIELDS(LOG_TEXT("file", e->file), LOG_NUMBER("line", e->line));
		if (e->line)
			log_error("config_error", fields, "%s:%d: %s", e->file, e->line, e->text);
		else
			log_error("config_error", fields, "%s: %s", e->file, e->text);
	}
	if (config)
		config_each_remark(config, log_remark, NULL);
	return config;
}

/* Beside the clients' and the pools': listening sockets, loops, probes, helpers. */
enum { DESCRIPTORS_BESIDE = 64 };

bool run_take_descriptors(const struct config *config, struct error *error) {
	uint64_t pools = 0, automatic = 0;

	for (size_t i = 0; i < config->pool_count; i++) {
		pools += config->pools[i].max_size;
		if (strcmp(config->pools[i].name, "*") == 0)
			automatic += (uint64_t)(config->max_auto_pools - 1) * config->pools[i].max_size;
	}
	uint64_t beside = DESCRIPTORS_BESIDE + (config->metrics_listen_count ? HTTP_DESCRIPTORS : 0);
	uint64_t needed = (uint64_t)config->max_clients + pools + beside, limit = process_raise_limit();
	if (limit < needed)
		return error_set(error, 0,
				 "the process may open %llu descriptors, but max_clients = %u and %llu connections of the "
				 "pools (the sum of max_size) need %llu: raise the limit (ulimit -Hn, LimitNOFILE= in the "
				 "unit) or lower them",
				 (unsigned long long)limit, config->max_clients, (unsigned long long)pools,
				 (unsigned long long)needed);
	if (limit < needed + automatic)
		log_warning("descriptor_limit",
			    LOG_FIELDS(LOG_NUMBER("limit", limit), LOG_NUMBER("needed", needed + automatic)),
			    "the process may open %llu descriptors, and as many pools as max_auto_pools = %u allows would "
			    "need %llu: raise the limit (ulimit -Hn, LimitNOFILE= in the unit) or lower it",
			    (unsigned long long)limit, config->max_auto_pools, (unsigned long long)(needed + automatic));
	return true;
}

static void log_change(void *context, const char *section, const char *key, const char *before, const char *after,
		       bool needs_restart) {
	size_t *changes = context;
	const struct log_field *fields =
		LOG_FIELDS(LOG_TEXT("section", section), LOG_TEXT("key", key), LOG_TEXT("before", before),
			   LOG_TEXT("after", after));

	++*changes;
	if (needs_restart)
		log_warning("config_needs_restart", fields,
			    "[%s] %s is \"%s\" in the file now; \"%s\" stays in force until a restart", section, key,
			    after ? after : "", before ? before : "");
	else
		log_info("config_changed", fields, "[%s] %s: \"%s\" is now \"%s\"", section, key, before ? before : "",
			 after ? after : "");
}

/* Certificates are read anew whether or not their paths have changed. */
static void log_certificates(const struct generation *before, const struct generation *after, size_t *changes) {
	for (size_t i = 0; i < after->config->listener_count; i++) {
		const struct listener_runtime *l = &after->listeners[i];
		for (size_t k = 0; k < before->config->listener_count; k++) {
			const struct listener_runtime *old = &before->listeners[k];
			if (!l->tls || !old->tls || strcmp(l->config->name, old->config->name) != 0 ||
			    tls_context_same_certificate(l->tls, old->tls))
				continue;
			++*changes;
			log_info("certificate_changed",
				 LOG_FIELDS(LOG_TEXT("listener", l->config->name), LOG_TEXT("file", l->config->tls.cert_file)),
				 "[listener:%s] has another certificate now, read from %s", l->config->name,
				 l->config->tls.cert_file);
		}
	}
}

void run_set_log(const struct config *config) {
	log_configure(config->log_level, config->log_format);
	log_direct(config->log_destination, config->log_socket, config->log_ident ? config->log_ident : "forebay",
		   config->log_facility);
}

static void reload_refused(struct console_result *result, const char *why) {
	log_error("reload_refused", NULL, "the configuration was not reloaded, the old one stays in force: %s", why);
	if (result)
		console_error(result, "F0000", "the configuration was not reloaded, the old one stays in force: %s", why);
}

void run_explain(const struct config_errors *errors, char *out, size_t room) {
	size_t len = 0;

	for (size_t i = 0; i < errors->count && i < 3 && len < room; i++) {
		const struct config_error *e = &errors->at[i];
		if (e->line)
			len += (size_t)snprintf(out + len, room - len, "%s%s:%d: %s", i ? "; " : "", e->file, e->line, e->text);
		else
			len += (size_t)snprintf(out + len, room - len, "%s%s: %s", i ? "; " : "", e->file, e->text);
	}
	if (errors->count > 3 && len < room)
		snprintf(out + len, room - len, "; and %zu more in the log", errors->count - 3);
}

bool run_keeps_users(const struct config *before, const struct config *config, struct error *error) {
	const char *missing = config_auth_file_missing(config);

	if (missing && before->auth_file && !config_auth_file_missing(before))
		return error_set(error, 0, "%s; the users that it named would not get in any more", missing);
	return true;
}

/* Whole or not at all. True: it was done. */
static bool apply_file(struct run *run, struct console_result *result) {
	const struct config *before = run->generation->config;
	struct config_errors errors = {0};
	struct error error = {0};
	char why[400] = "";

	if (run->stopping) {
		reload_refused(result, run->taken_over ? "another process has taken over" : "the process stops");
		return false;
	}
	if (run->takeover.role == PEER_STARTING) {
		reload_refused(result, "another process is taking over");
		return false;
	}
	struct config *config = run_load(run, &errors);
	run_explain(&errors, why, sizeof why);
	config_errors_free(&errors);
	if (!config) {
		reload_refused(result, *why ? why : "out of memory");
		return false;
	}
	bool fits = run_keeps_users(before, config, &error) && databases_fit(before, config, &error);
	struct generation *generation = fits ? generation_new(config_ref(config), &error) : NULL;
	if (!generation || !run_take_descriptors(config, &error) ||
	    !listenings_open(&run->listenings, generation, &error)) {
		reload_refused(result, error.text);
		generation_unref(generation);
		config_unref(config);
		return false;
	}
	size_t changes = 0;
	config_diff(run->generation->config, config, log_change, &changes);
	log_certificates(run->generation, generation, &changes);
	run_set_log(config);
	if (!databases_apply(generation, run->workers_made, &error))
		log_error("reload_incomplete", NULL, "%s", error.text);
	control_reload();
	listenings_drop(&run->listenings);
	session_reload(generation);
	control_watch(generation);
	http_reload(run->http, config);
	listenings_settle(&run->listenings, generation);
	generation_unref(run->generation);
	run->generation = generation;
	config_unref(config);
	log_info("reloaded", LOG_FIELDS(LOG_TEXT("file", run->file), LOG_NUMBER("changes", changes)),
		 "the configuration was read anew: %zu settings changed", changes);
	return true;
}

static void override_free(struct config_override override) {
	free((char *)override.key);
	free((char *)override.value);
}

void run_forget_overrides(struct run *run, size_t count) {
	for (size_t i = 0; i < count; i++)
		override_free(run->overrides[i]);
}

/* What was SET goes with a reload, as with PgBouncer; with one that is refused it stays, for it stays in force. */
void run_reload(struct run *run, struct console_result *result) {
	size_t count = run->override_count;

	run->override_count = 0;
	if (apply_file(run, result))
		run_forget_overrides(run, count);
	else
		run->override_count = count;
}

/* Owns both from now on. What was SET by that name before is replaced, and comes back if this is refused. */
static void set_override(struct run *run, struct console_result *result, char *key, char *value) {
	struct config_override before = {0};
	size_t at = 0;

	while (at < run->override_count && strcmp(run->overrides[at].key, key) != 0)
		at++;
	bool again = at < run->override_count;
	if (!again && at == OVERRIDES_MOST) {
		console_error(result, "53200", "too many settings were set on the console; RELOAD forgets them");
		override_free((struct config_override){key, value});
		return;
	}
	if (again)
		before = run->overrides[at];
	else
		run->override_count++;
	run->overrides[at] = (struct config_override){key, value};
	if (apply_file(run, result)) {
		override_free(before);
		return;
	}
	override_free(run->overrides[at]);
	if (again)
		run->overrides[at] = before;
	else
		run->override_count--;
}

void run_set(struct run *run, struct console_result *result, const char *key, const char *value) {
	char *key_copy = strdup(key), *value_copy = strdup(value);

	if (key_copy && value_copy) {
		set_override(run, result, key_copy, value_copy);
		return;
	}
	console_error(result, "53200", "out of memory");
	free(key_copy);
	free(value_copy);
}
