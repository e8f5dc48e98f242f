/* The command line, the start, signals, reload, and the end. */
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif

#include <ev.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/console.h"
#include "base/log.h"
#include "config/config.h"
#include "config/text_units.h"
#include "control/check.h"
#include "control/control.h"
#include "mysql/internal.h"
#include "net/acceptor.h"
#include "net/offload.h"
#include "net/resolver.h"
#include "net/worker.h"
#include "pgsql/pgsql.h"
#include "process.h"
#include "session/database.h"
#include "session/generation.h"
#include "session/session.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0"
#endif
#ifndef SYSCONFDIR
#define SYSCONFDIR "/etc"
#endif

#define DEFAULT_FILE SYSCONFDIR "/forebay/forebay.ini"

enum { EXIT_STOPPED = 0, EXIT_CANNOT_START = 1, EXIT_BAD_USAGE = 2 };

/* A listening socket. */
struct listening {
	struct list node;
	struct listener listener;         /* until the workers accept from it */
	struct acceptor_socket *accepted; /* from then on */
	bool wanted;                      /* while a configuration is compared with what is open */
};

/* The main thread's; hooks and signals have no other way to it. */
static struct {
	const char *file;
	struct ev_loop *loop;
	struct mailbox mailbox;
	struct generation *generation; /* the newest */
	struct worker *workers;
	struct acceptor *acceptor;
	int workers_made, workers_running;
	bool mailbox_made, session_made, control_made, admin_made, offload_made, resolver_made, signals_made;
	struct list listenings;
	struct pid_file pid_file;
	ev_signal on_term, on_int, on_hup;
	ev_timer housekeeping, shutdown_timeout;
	bool stopping;
} forebay = {.pid_file.fd = -1};

/* ---- listeners ---- */

static struct listener *listener_of(struct listening *l) {
	return l->accepted ? acceptor_listener(l->accepted) : &l->listener;
}

static void listening_close(struct listening *l) {
	list_remove(&l->node);
	if (l->accepted)
		acceptor_remove(l->accepted);
	else
		listener_close(&l->listener);
	free(l);
}

static struct listening *listening_find(const char *address) {
	list_for_each(node, &forebay.listenings) {
		struct listening *l = list_entry(node, struct listening, node);
		if (strcmp(listener_of(l)->address, address) == 0)
			return l;
	}
	return NULL;
}

static struct listening *listening_open(const char *address, int backlog, const struct tcp_silence *silence,
					struct error *error) {
	struct listening *l = calloc(1, sizeof *l);

	if (!l) {
		error_set(error, 0, "out of memory");
		return NULL;
	}
	/* of the reload before this one, it may be the same address, or one that excludes it */
	if (forebay.acceptor)
		acceptor_wait_closed(forebay.acceptor);
	if (!listener_open(&l->listener, address, backlog, silence, error)) {
		free(l);
		return NULL;
	}
	list_push_back(&forebay.listenings, &l->node);
	return l;
}

/* Opens what the configuration names and is not open yet, all or nothing; what it does not name is not wanted after
 * this. */
static bool listeners_open(const struct generation *generation, struct error *error) {
	const struct config *config = generation->config;
	struct tcp_silence silence = generation_silence(generation);
	bool ok = true;

	list_for_each(node, &forebay.listenings)
		list_entry(node, struct listening, node)->wanted = false;
	const struct list *last_before = list_last(&forebay.listenings);
	for (size_t i = 0; ok && i < config->listener_count; i++) {
		const struct listener_config *c = &config->listeners[i];
		for (size_t a = 0; ok && a < c->listen_count; a++) {
			struct listening *l = listening_find(c->listen[a]);
			if (!l)
				l = listening_open(c->listen[a], c->backlog, &silence, error);
			ok = l != NULL;
			if (l)
				l->wanted = true;
		}
	}
	while (!ok && list_last(&forebay.listenings) != last_before)
		listening_close(list_entry(list_last(&forebay.listenings), struct listening, node));
	return ok;
}

/* Closes what is not wanted any more; what is new is accepted from. The workers know the configuration, or have its letter
 * before them. */
static void listeners_settle(const struct generation *generation) {
	struct tcp_silence silence = generation_silence(generation);

	list_for_each_safe(node, &forebay.listenings) {
		struct listening *l = list_entry(node, struct listening, node);
		const char *address = listener_of(l)->address;
		if (!l->wanted) {
			log_info("listener_closed", LOG_FIELDS(LOG_TEXT("address", address)), "no longer listening on %s",
				 address);
			listening_close(l);
			continue;
		}
		if (l->accepted)
			listener_set_silence(acceptor_listener(l->accepted), &silence);
		else
			l->accepted = acceptor_add(forebay.acceptor, &l->listener);
		if (!l->accepted) {
			log_error("listener_failed", LOG_FIELDS(LOG_TEXT("address", address)),
				  "out of memory: nothing is accepted on %s; reload again", address);
			listening_close(l);
		}
	}
}

static void listeners_close(void) {
	list_for_each_safe(node, &forebay.listenings)
		listening_close(list_entry(node, struct listening, node));
}

/* ---- the configuration ---- */

static struct config *load(const char *event, struct config_errors *errors) {
	struct config *config = config_load(forebay.file, errors);

	for (size_t i = 0; i < errors->count; i++) {
		const struct config_error *e = &errors->at[i];
		const struct log_field *fields = LOG_FIELDS(LOG_TEXT("file", e->file), LOG_NUMBER("line", e->line));
		if (e->line)
			log_error(event, fields, "%s:%d: %s", e->file, e->line, e->text);
		else
			log_error(event, fields, "%s: %s", e->file, e->text);
	}
	return config;
}

static uint64_t descriptors_needed(const struct config *config) {
	uint64_t needed = (uint64_t)config->max_clients + 64;

	for (size_t i = 0; i < config->pool_count; i++)
		needed += config->pools[i].max_size;
	return needed;
}

static void log_change(void *context, const char *section, const char *key, const char *before, const char *after,
		       bool needs_restart) {
	size_t *changes = context;
	const struct log_field *fields =
		LOG_FIELDS(LOG_TEXT("section", section), LOG_TEXT("key", key), LOG_TEXT("before", before),
			   LOG_TEXT("after", after));

	++*changes;
	/* sockets are opened and closed by their addresses, without a restart */
	if (needs_restart && strcmp(key, "listen") != 0)
		log_warning("config_needs_restart", fields,
			    "[%s] %s is \"%s\" in the file now; \"%s\" stays in force until a restart", section, key,
			    after ? after : "", before ? before : "");
	else
		log_info("config_changed", fields, "[%s] %s: \"%s\" is now \"%s\"", section, key, before ? before : "",
			 after ? after : "");
}

static void reload_refused(struct console_result *result, const char *why) {
	log_error("reload_refused", NULL, "the configuration was not reloaded, the old one stays in force: %s", why);
	if (result)
		console_error(result, "F0000", "the configuration was not reloaded, the old one stays in force: %s", why);
}

static void explain_errors(const struct config_errors *errors, char *out, size_t room) {
	size_t len = 0;

	for (size_t i = 0; i < errors->count && i < 3 && len < room; i++) {
		const struct config_error *e = &errors->at[i];
		len += (size_t)snprintf(out + len, room - len, "%s%s:%d: %s", i ? "; " : "", e->file, e->line, e->text);
	}
	if (errors->count > 3 && len < room)
		snprintf(out + len, room - len, "; and %zu more in the log", errors->count - 3);
}

/* Whole or not at all. */
static void reload(struct console_result *result) {
	struct config_errors errors = {0};
	struct error error = {0};
	char why[400] = "";

	if (forebay.stopping) {
		reload_refused(result, "the process stops");
		return;
	}
	struct config *config = load("config_error", &errors);
	explain_errors(&errors, why, sizeof why);
	config_errors_free(&errors);
	if (!config) {
		reload_refused(result, *why ? why : "out of memory");
		return;
	}
	struct generation *generation = generation_new(config_ref(config), &error);
	if (!generation || !listeners_open(generation, &error)) {
		reload_refused(result, error.text);
		generation_unref(generation);
		config_unref(config);
		return;
	}
	size_t changes = 0;
	config_diff(forebay.generation->config, config, log_change, &changes);
	log_configure(config->log_level, config->log_format);
	process_raise_limit(descriptors_needed(config));
	if (!databases_apply(generation, forebay.workers_made, &error))
		log_error("reload_incomplete", NULL, "%s", error.text);
	control_reload();
	session_reload(generation);
	control_watch(generation);
	listeners_settle(generation);
	generation_unref(forebay.generation);
	forebay.generation = generation;
	config_unref(config);
	log_info("reloaded", LOG_FIELDS(LOG_TEXT("file", forebay.file), LOG_NUMBER("changes", changes)),
		 "the configuration was read anew: %zu settings changed", changes);
}

/* ---- stopping ---- */

static void drained(void *context) {
	(void)context;
	log_info("drained", NULL, "all clients have finished");
	ev_break(forebay.loop, EVBREAK_ALL);
}

static void stop(enum shutdown_mode mode, const char *why) {
	if (mode == SHUTDOWN_NOW || forebay.stopping) {
		log_info("stopping_now", NULL, "stopping at once: %s", why);
		ev_break(forebay.loop, EVBREAK_ALL);
		return;
	}
	char limit[32];
	uint64_t timeout_ns = forebay.generation->config->shutdown_timeout;
	duration_format(timeout_ns, limit, sizeof limit);
	log_info("stopping", NULL, "stopping: %s; open transactions may finish within %s (shutdown_timeout)", why, limit);
	forebay.stopping = true;
	process_notify_stopping();
	listeners_close();
	if (timeout_ns) {
		ev_now_update(forebay.loop);
		ev_timer_set(&forebay.shutdown_timeout, (double)timeout_ns / 1e9, 0.);
		ev_timer_start(forebay.loop, &forebay.shutdown_timeout);
	}
	session_drain(&forebay.mailbox, drained, NULL);
}

static void on_shutdown_timeout(struct ev_loop *loop, ev_timer *timer, int revents) {
	(void)timer, (void)revents;
	log_warning("shutdown_timeout", LOG_FIELDS(LOG_NUMBER("clients", atomic_load(&session_totals()->clients))),
		    "shutdown_timeout is over: the clients that are left are cut off");
	ev_break(loop, EVBREAK_ALL);
}

static void shutdown_hook(enum shutdown_mode mode) {
	stop(mode, "SHUTDOWN on the console");
}

static const struct admin_hooks hooks = {
	.mailbox = &forebay.mailbox,
	.reload = reload,
	.shutdown = shutdown_hook,
};

/* ---- the main loop ---- */

static void on_signal(struct ev_loop *loop, ev_signal *watcher, int revents) {
	(void)loop, (void)revents;
	if (watcher->signum == SIGHUP) {
		log_info("sighup", NULL, "SIGHUP: reading the configuration anew");
		process_notify_reloading();
		reload(NULL);
		process_notify_ready("ready");
	} else {
		stop(SHUTDOWN_DRAIN, watcher->signum == SIGTERM ? "SIGTERM" : "SIGINT");
	}
}

static void on_housekeeping(struct ev_loop *loop, ev_timer *timer, int revents) {
	(void)loop, (void)timer, (void)revents;
	log_flush(false);
	admin_tick();
}

static void watch(void) {
	ev_signal_init(&forebay.on_term, on_signal, SIGTERM);
	ev_signal_init(&forebay.on_int, on_signal, SIGINT);
	ev_signal_init(&forebay.on_hup, on_signal, SIGHUP);
	ev_signal_start(forebay.loop, &forebay.on_term);
	ev_signal_start(forebay.loop, &forebay.on_int);
	ev_signal_start(forebay.loop, &forebay.on_hup);
	ev_timer_init(&forebay.housekeeping, on_housekeeping, 1., 1.);
	ev_timer_start(forebay.loop, &forebay.housekeeping);
	ev_timer_init(&forebay.shutdown_timeout, on_shutdown_timeout, 0., 0.);
	forebay.signals_made = true;
}

/* ---- start and end ---- */

static bool start_workers(struct error *error) {
	int count = forebay.generation->config->workers;

	forebay.workers = calloc((size_t)count, sizeof *forebay.workers);
	if (!forebay.workers)
		return error_set(error, 0, "out of memory");
	for (; forebay.workers_made < count; forebay.workers_made++)
		if (!worker_init(&forebay.workers[forebay.workers_made], forebay.workers_made, error))
			return false;
	forebay.offload_made = offload_start(count < 2 ? 2 : count > 4 ? 4 : count);
	forebay.resolver_made = resolver_start();
	if (!forebay.offload_made || !forebay.resolver_made)
		return error_set(error, 0, "cannot start helper threads; is the limit of processes (ulimit -u) reached?");
	forebay.admin_made = admin_start(&hooks);
	forebay.control_made = control_start(error);
	if (!forebay.control_made)
		return false;
	forebay.acceptor = acceptor_new(forebay.workers, count, session_accept);
	if (!forebay.acceptor)
		return error_set(error, 0, "out of memory");
	forebay.session_made = true;
	if (!session_start(forebay.workers, count, forebay.generation, error))
		return false;
	for (; forebay.workers_running < count; forebay.workers_running++)
		if (!worker_start(&forebay.workers[forebay.workers_running], error))
			return false;
	control_watch(forebay.generation);
	listeners_settle(forebay.generation);
	return true;
}

/* In this order: what may fail for the operator's reasons comes first; threads start when the user is settled. */
static bool start(struct config *config, struct error *error) {
	forebay.generation = generation_new(config, error);
	if (!forebay.generation)
		return false;
	if (config->listener_count == 0)
		return error_set(error, 0, "nothing to listen on; add a section [listener:pg] with listen = 127.0.0.1:6432");
	mailbox_init(&forebay.mailbox, forebay.loop, NULL, NULL);
	forebay.mailbox_made = true;
	process_raise_limit(descriptors_needed(config));
	if (!listeners_open(forebay.generation, error))
		return false;
	if (config->pid_file && !pid_file_create(&forebay.pid_file, config->pid_file, error))
		return false;
	if (config->run_as && !process_become(config->run_as, error))
		return false;
	watch();
	return start_workers(error);
}

static void warn_without_effect(void *context, const char *section, const char *key, const char *value) {
	(void)context;
	log_warning("config_without_effect",
		    LOG_FIELDS(LOG_TEXT("section", section), LOG_TEXT("key", key), LOG_TEXT("value", value)),
		    "[%s] %s is accepted, but this version does not act on it yet", section, key);
}

static void announce(const struct config *config) {
	char listens[512] = "", pools[512] = "", status[128];
	size_t len = 0;

	list_for_each(node, &forebay.listenings) {
		struct listening *l = list_entry(node, struct listening, node);
		if (len < sizeof listens)
			len += (size_t)snprintf(listens + len, sizeof listens - len, "%s%s", len ? ", " : "",
						listener_of(l)->address);
	}
	len = 0;
	for (size_t i = 0; i < config->pool_count && len < sizeof pools; i++)
		len += (size_t)snprintf(pools + len, sizeof pools - len, "%s%s", i ? ", " : "", config->pools[i].name);
	log_info("ready",
		 LOG_FIELDS(LOG_TEXT("version", PACKAGE_VERSION), LOG_TEXT("file", forebay.file),
			    LOG_NUMBER("workers", forebay.workers_made), LOG_TEXT("listen", listens),
			    LOG_TEXT("pools", pools)),
		 "forebay " PACKAGE_VERSION " is ready on %s", listens);
	config_each_without_effect(config, warn_without_effect, NULL);
	snprintf(status, sizeof status, "ready, %d workers", forebay.workers_made);
	process_notify_ready(status);
}

/* Takes apart what there is; also after a start that failed half-way. */
static void end(void) {
	forebay.stopping = true;
	if (forebay.signals_made) { /* from here on a signal ends the process in the system's way */
		ev_signal_stop(forebay.loop, &forebay.on_term);
		ev_signal_stop(forebay.loop, &forebay.on_int);
		ev_signal_stop(forebay.loop, &forebay.on_hup);
		ev_timer_stop(forebay.loop, &forebay.housekeeping);
		ev_timer_stop(forebay.loop, &forebay.shutdown_timeout);
	}
	listeners_close();
	if (forebay.workers_running)
		session_close_all();
	/* while the workers run: what is pending is answered to them by mail */
	if (forebay.control_made)
		control_stop();
	if (forebay.offload_made)
		offload_stop();
	if (forebay.resolver_made)
		resolver_stop();
	for (int i = 0; i < forebay.workers_running; i++)
		worker_stop(&forebay.workers[i]);
	for (int i = 0; i < forebay.workers_running; i++)
		worker_join(&forebay.workers[i]);
	if (forebay.session_made)
		session_stop();
	if (forebay.admin_made)
		admin_stop();
	/* orders of consoles that have gone */
	while (forebay.mailbox_made && mailbox_deliver(&forebay.mailbox))
		;
	acceptor_free(forebay.acceptor);
	for (int i = 0; i < forebay.workers_made; i++)
		worker_destroy(&forebay.workers[i]);
	free(forebay.workers);
	generation_unref(forebay.generation);
	if (forebay.mailbox_made)
		mailbox_destroy(&forebay.mailbox);
	pid_file_remove(&forebay.pid_file);
	ev_loop_destroy(forebay.loop);
}

static int run(void) {
	struct config_errors errors = {0};
	struct error error = {0};
	struct config *config = load("config_error", &errors);

	if (!config) {
		log_error("bad_config", NULL, "%s cannot be used, see above; forebay --check -c %s tries it without starting",
			  forebay.file, forebay.file);
		config_errors_free(&errors);
		return EXIT_BAD_USAGE;
	}
	config_errors_free(&errors);
	log_configure(config->log_level, config->log_format);
	list_init(&forebay.listenings);
	forebay.loop = ev_default_loop(EVFLAG_AUTO | EVFLAG_NOENV);
	if (!forebay.loop) {
		log_error("cannot_start", NULL, "cannot make an event loop");
		config_unref(config);
		return EXIT_CANNOT_START;
	}
	bool ok = start(config, &error);
	if (ok) {
		announce(config);
		ev_run(forebay.loop, 0);
	} else {
		log_error("cannot_start", NULL, "cannot start: %s", error.text);
	}
	end();
	if (ok)
		log_info("stopped", NULL, "stopped");
	log_flush(true);
	/* what the files say that the configuration names is part of it */
	return ok ? EXIT_STOPPED : forebay.generation ? EXIT_CANNOT_START : EXIT_BAD_USAGE;
}

/* ---- the command line ---- */

/* `--check`: the file, then the files that it names, then the backends. */
static int check(void) {
	struct config_errors errors = {0};
	struct error error = {0};
	struct config *config = config_load(forebay.file, &errors);

	for (size_t i = 0; i < errors.count; i++)
		fprintf(stderr, "%s:%d: %s\n", errors.at[i].file, errors.at[i].line, errors.at[i].text);
	if (!config)
		fprintf(stderr, "%s cannot be used.\n", forebay.file);
	config_errors_free(&errors);
	if (!config)
		return 1;
	struct generation *generation = generation_new(config_ref(config), &error);
	if (!generation)
		fprintf(stderr, "%s: %s\n", forebay.file, error.text);
	bool ok = generation != NULL;
	generation_unref(generation);
	ok = check_backends(config, stdout) && ok;
	config_unref(config);
	return ok ? 0 : 1;
}

static void usage(FILE *out) {
	fprintf(out, "forebay " PACKAGE_VERSION ": a connection pool and proxy for PostgreSQL, MySQL and MariaDB\n"
		     "\n"
		     "usage: forebay [-c FILE]                   run, in the foreground; logs go to stderr\n"
		     "       forebay [-c FILE] --check           try the configuration and every backend\n"
		     "       forebay --print-defaults            a commented configuration with every key\n"
		     "       forebay --version | --help\n"
		     "\n"
		     "  -c, --config FILE   the configuration; otherwise ./forebay.ini where that exists,\n"
		     "                      else " DEFAULT_FILE "\n"
		     "\n"
		     "SIGTERM, SIGINT: stop when open transactions have finished; again: at once.\n"
		     "SIGHUP: read the configuration anew.\n"
		     "Exit codes: 0 stopped as asked, 1 cannot start, 2 bad command line or configuration;\n"
		     "of --check: 0 all is well, 1 something is not.\n");
}

int main(int argc, char **argv) {
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"check", no_argument, NULL, 'C'},
		{"print-defaults", no_argument, NULL, 'p'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	bool checking = false;

	for (int option; (option = getopt_long(argc, argv, "c:Vh", options, NULL)) != -1;) {
		switch (option) {
		case 'c':
			forebay.file = optarg;
			break;
		case 'C':
			checking = true;
			break;
		case 'p':
			config_print_defaults(stdout);
			return 0;
		case 'V':
			printf("forebay " PACKAGE_VERSION "\n");
			return 0;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return EXIT_BAD_USAGE;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "forebay: unexpected argument \"%s\"; the configuration is given with -c\n\n", argv[optind]);
		usage(stderr);
		return EXIT_BAD_USAGE;
	}
	if (!forebay.file)
		forebay.file = access("forebay.ini", F_OK) == 0 ? "forebay.ini" : DEFAULT_FILE;
	process_harden();
	protocol_register(&mysql_protocol);
	protocol_register(&pgsql_protocol);
	return checking ? check() : run();
}
