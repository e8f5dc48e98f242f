#include "run.h"

#ifdef HAVE_CONFIG_H
#include <config.h>
#endif

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "admin/console.h"
#include "admin/http.h"
#include "base/log.h"
#include "config/text_units.h"
#include "control/control.h"
#include "net/acceptor.h"
#include "net/inherited.h"
#include "net/offload.h"
#include "net/resolver.h"
#include "net/worker.h"
#include "session/drain.h"
#include "session/generation.h"
#include "session/session.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0"
#endif

/* How often the service manager is told how it goes. */
enum { STATUS_S = 5 };
/* How soon a log socket that was full is tried again. */
#define LOG_AGAIN_S .01

/* The main thread's; hooks and signals have no other way to it. */
static struct run forebay = {.pid_file.fd = -1};

/* ---- stopping ---- */

static void drained(void *context) {
	(void)context;
	log_info("drained", NULL, "all clients have finished");
	forebay.drained = true;
	/* who has taken over counts on it that the connections have gone before it has them all */
	if (forebay.takeover.role != PEER_SUCCESSOR)
		ev_break(forebay.loop, EVBREAK_ALL);
}

/* Nobody is let in any more, and clients are told to go. */
static void drain(void) {
	uint64_t timeout_ns = forebay.generation->config->shutdown_timeout;

	forebay.draining = true;
	if (forebay.takeover.role == PEER_STARTING) /* it has the sockets too, and their files are its own from now on */
		listenings_hand_over(&forebay.listenings);
	else
		listenings_close(&forebay.listenings);
	if (timeout_ns) {
		ev_now_update(forebay.loop);
		ev_timer_set(&forebay.shutdown_timeout, (double)timeout_ns / 1e9, 0.);
		ev_timer_start(forebay.loop, &forebay.shutdown_timeout);
	}
	drain_start(&forebay.mailbox, forebay.generation->config->drain_pace, drained, NULL);
}

static void drain_later(uint64_t delay_ns) {
	ev_now_update(forebay.loop);
	ev_timer_set(&forebay.drain_delay, (double)delay_ns / 1e9, 0.);
	ev_timer_start(forebay.loop, &forebay.drain_delay);
}

static void on_drain_delay(struct ev_loop *loop, ev_timer *timer, int revents) {
	(void)loop, (void)timer, (void)revents;
	log_info("draining", NULL, "drain_delay is over: nobody is let in any more, and clients are told to go");
	drain();
}

static void stop(enum shutdown_mode mode, const char *why) {
	const struct config *config = forebay.generation->config;
	char limit[32], delay[32];

	if (mode == SHUTDOWN_DRAIN && forebay.taken_over && !forebay.stop_said) {
		forebay.stop_said = true;
		log_info("stopping", NULL, "%s: clients are being told to go already; another one ends it at once", why);
		if (!forebay.draining)
			drain();
		return;
	}
	if (mode == SHUTDOWN_NOW || forebay.stopping) {
		log_info("stopping_now", NULL, "stopping at once: %s", why);
		ev_break(forebay.loop, EVBREAK_ALL);
		return;
	}
	forebay.stopping = true;
	atomic_store(&session_totals()->leaving, true);
	process_notify("STOPPING=1\nSTATUS=draining");
	http_drain(forebay.http);
	duration_format(config->shutdown_timeout, limit, sizeof limit);
	if (!config->drain_delay) {
		log_info("stopping", NULL, "stopping: %s; open transactions may finish within %s (shutdown_timeout)", why, limit);
		drain();
		return;
	}
	duration_format(config->drain_delay, delay, sizeof delay);
	log_info("stopping", NULL,
		 "stopping: %s; clients are still let in for %s (drain_delay), then open transactions may finish within %s "
		 "(shutdown_timeout)",
		 why, delay, limit);
	drain_later(config->drain_delay);
}

/* ---- being replaced ---- */

static void each_socket(void (*each)(void *context, const char *address, int fd, bool managed), void *context) {
	listenings_each(&forebay.listenings, each, context);
	http_each(forebay.http, each, context);
}

static void unused(const char *name) {
	listenings_unused(&forebay.listenings, name);
	http_unused(forebay.http, name);
}

static const char *objection(void) {
	return forebay.stopping ? "it stops" : NULL;
}

static void release(pid_t successor) {
	forebay.stopping = forebay.taken_over = true;
	atomic_store(&session_totals()->leaving, true);
	listenings_hand_over(&forebay.listenings);
	http_hand_over(forebay.http);
	forebay.http = NULL;
	pid_file_release(&forebay.pid_file);
	process_notify("MAINPID=%ld", (long)successor);
}

static void drain_for_successor(void) {
	uint64_t delay = forebay.generation->config->drain_delay;

	if (forebay.draining || ev_is_active(&forebay.drain_delay))
		return;
	if (delay)
		drain_later(delay);
	else
		drain();
}

static void nothing_held(void) {
	if (forebay.drained)
		ev_break(forebay.loop, EVBREAK_ALL);
}

static const struct takeover_hooks takeover_hooks = {
	.each_socket = each_socket, .unused = unused, .objection = objection, .release = release, .drain = drain_for_successor,
	.nothing_held = nothing_held};

static void on_started_ended(struct ev_loop *loop, ev_child *child, int revents) {
	(void)revents;
	ev_child_stop(loop, child);
	log_warning("successor_ended", LOG_FIELDS(LOG_NUMBER("process", child->rpid), LOG_NUMBER("status", child->rstatus)),
		    "process %d, which was to take over, has ended; its own words stand above", child->rpid);
	forebay.started = 0;
}

/* SIGUSR2: the program as it is on disk now takes over. */
static void start_successor(void) {
	const char *const arguments[] = {"forebay", "-c", forebay.file, "--takeover", NULL};
	struct error error = {0};

	if (!forebay.generation->config->takeover_socket) {
		log_error("no_takeover", NULL, "SIGUSR2: no other process can take over without takeover_socket in [forebay]");
		return;
	}
	if (forebay.stopping || forebay.started) {
		log_error("no_takeover", NULL, "SIGUSR2: %s",
			  forebay.stopping ? "this process stops already" : "one that takes over is being started already");
		return;
	}
	forebay.started = process_spawn(arguments, &error);
	if (!forebay.started) {
		log_error("no_takeover", NULL, "SIGUSR2: %s", error.text);
		return;
	}
	log_info("successor_started", LOG_FIELDS(LOG_NUMBER("process", forebay.started)),
		 "SIGUSR2: process %ld was started to take over", (long)forebay.started);
	ev_child_set(&forebay.on_started, forebay.started, 0);
	ev_child_start(forebay.loop, &forebay.on_started);
}

static void on_shutdown_timeout(struct ev_loop *loop, ev_timer *timer, int revents) {
	(void)timer, (void)revents;
	log_warning("shutdown_timeout", LOG_FIELDS(LOG_NUMBER("clients", atomic_load(&session_totals()->clients))),
		    "shutdown_timeout is over: the clients that are left are cut off");
	ev_break(loop, EVBREAK_ALL);
}

static void reload_hook(struct console_result *result) {
	run_reload(&forebay, result);
}

static void set_hook(struct console_result *result, const char *key, const char *value) {
	run_set(&forebay, result, key, value);
}

static void shutdown_hook(enum shutdown_mode mode) {
	stop(mode, "SHUTDOWN on the console");
}

static const struct admin_hooks hooks = {
	.mailbox = &forebay.mailbox,
	.reload = reload_hook,
	.set = set_hook,
	.shutdown = shutdown_hook,
};

/* ---- the main loop ---- */

static void on_signal(struct ev_loop *loop, ev_signal *watcher, int revents) {
	(void)loop, (void)revents;
	if (watcher->signum == SIGHUP) {
		log_info("sighup", NULL, "SIGHUP: reading the configuration anew");
		process_notify_reloading();
		run_reload(&forebay, NULL);
		process_notify("READY=1");
	} else if (watcher->signum == SIGUSR2) {
		start_successor();
	} else {
		stop(SHUTDOWN_DRAIN, watcher->signum == SIGTERM ? "SIGTERM" : "SIGINT");
	}
}

static void on_log_again(struct ev_loop *loop, ev_timer *timer, int revents) {
	(void)revents;
	if (!log_flush(false))
		ev_timer_stop(loop, timer);
}

static void on_housekeeping(struct ev_loop *loop, ev_timer *timer, int revents) {
	(void)timer, (void)revents;
	if (log_flush(false))
		ev_timer_start(loop, &forebay.log_again);
	admin_tick();
	http_tick(forebay.http);
	if (process_is_watched() && ++forebay.seconds % STATUS_S == 0)
		process_notify("STATUS=%s, %u clients", forebay.stopping ? "draining" : "ready",
			       atomic_load(&session_totals()->clients));
}

static void watch(void) {
	ev_signal_init(&forebay.on_term, on_signal, SIGTERM);
	ev_signal_init(&forebay.on_int, on_signal, SIGINT);
	ev_signal_init(&forebay.on_hup, on_signal, SIGHUP);
	ev_signal_init(&forebay.on_usr2, on_signal, SIGUSR2);
	ev_child_init(&forebay.on_started, on_started_ended, 0, 0);
	ev_signal_start(forebay.loop, &forebay.on_term);
	ev_signal_start(forebay.loop, &forebay.on_int);
	ev_signal_start(forebay.loop, &forebay.on_hup);
	ev_signal_start(forebay.loop, &forebay.on_usr2);
	ev_timer_init(&forebay.housekeeping, on_housekeeping, 1., 1.);
	ev_timer_start(forebay.loop, &forebay.housekeeping);
	ev_timer_init(&forebay.log_again, on_log_again, LOG_AGAIN_S, LOG_AGAIN_S);
	ev_timer_init(&forebay.drain_delay, on_drain_delay, 0., 0.);
	ev_timer_init(&forebay.shutdown_timeout, on_shutdown_timeout, 0., 0.);
	forebay.signals_made = true;
}

/* ---- start and end ---- */

static bool start_workers(struct error *error) {
	int count = forebay.generation->config->workers;

	forebay.workers = calloc((size_t)count, sizeof *forebay.workers);
	if (!forebay.workers)
		return error_set(error, 0, "out of memory");
	for (; forebay.workers_made < count; forebay.workers_made++) {
		struct worker *worker = &forebay.workers[forebay.workers_made];
		if (!worker_init(worker, forebay.workers_made, error))
			return false;
		worker->io_uring = forebay.generation->config->io_uring;
	}
	forebay.offload_made = offload_start(count < 2 ? 2 : count > 4 ? 4 : count);
	forebay.resolver_made = resolver_start();
	if (!forebay.offload_made || !forebay.resolver_made)
		return error_set(error, 0, "cannot start helper threads; is the limit of processes (ulimit -u) reached?");
	forebay.admin_made = admin_start(&hooks);
	forebay.control_made = control_start(error);
	if (!forebay.control_made)
		return false;
	forebay.listenings.acceptor = acceptor_new(forebay.workers, count, session_accept);
	if (!forebay.listenings.acceptor)
		return error_set(error, 0, "out of memory");
	forebay.session_made = true;
	if (!session_start(forebay.workers, count, forebay.generation, error))
		return false;
	for (; forebay.workers_running < count; forebay.workers_running++)
		if (!worker_start(&forebay.workers[forebay.workers_running], error))
			return false;
	control_watch(forebay.generation);
	listenings_settle(&forebay.listenings, forebay.generation);
	return true;
}

static void say_unused(const char *address, bool managed) {
	log_warning("socket_unused", LOG_FIELDS(LOG_TEXT("address", address)),
		    "%s listens on %s, which neither [listener:...] nor metrics_listen names: nothing is accepted there",
		    managed ? "the service manager" : "the process before", address);
	takeover_unused(&forebay.takeover, address); /* who waits there is let in by that process, before it closes it */
}

/* Sockets that are there already, of the service manager or of the process that this one replaces. */
static bool inherit(const struct config *config, struct error *error) {
	process_take_sockets();
	if (forebay.take_over && !config->takeover_socket)
		return error_set(error, 0, "--takeover needs to know from whom: set takeover_socket in [forebay]");
	if (forebay.take_over)
		return takeover_begin(&forebay.takeover, config->takeover_socket, error);
	if (config->takeover_socket && takeover_is_live(config->takeover_socket))
		return error_set(error, 0,
				 "a Forebay runs already, at takeover_socket %s: stop it, or start this one with --takeover to "
				 "replace it without refusing anybody",
				 config->takeover_socket);
	return true;
}

/* What the process before has let go of by now. It has all that it needs for its clients: what fails here ends nothing. */
static void settle_in(struct config *config) {
	struct error error = {0};

	takeover_finish(&forebay.takeover);
	listenings_own_files(&forebay.listenings);
	if (config->pid_file && !pid_file_create(&forebay.pid_file, config->pid_file, &error))
		log_error("pid_file", NULL, "%s", error.text);
	if (!takeover_listen(&forebay.takeover, config->takeover_socket, &error))
		log_error("takeover_socket", NULL, "no other process can take over from this one: %s", error.text);
	if (http_start(forebay.http, &error))
		return;
	log_error("http_failed", NULL, "%s", error.text);
	http_close(forebay.http);
	forebay.http = NULL;
}

/* What was read as root, a reload and a process that takes over read as that user. */
static bool become(const struct config *config, struct error *error) {
	struct config_errors errors = {0};
	struct error unread = {0};
	char why[400] = "";
	bool was_root = geteuid() == 0;

	if (!process_become(config->run_as, &forebay.pid_file, error))
		return false;
	if (!was_root || geteuid() == 0)
		return true;
	struct config *again = config_load_with(forebay.file, forebay.overrides, forebay.override_count, &errors);
	run_explain(&errors, why, sizeof why);
	config_errors_free(&errors);
	struct generation *generation = again ? generation_new(again, &unread) : NULL;
	if (!generation || !run_keeps_users(config, generation->config, &unread) || !http_try_tls(config, &unread))
		log_warning("run_as_cannot_read", LOG_FIELDS(LOG_TEXT("run_as", config->run_as)),
			    "reloads, and processes that take over, will be refused until run_as = %s may read all that the "
			    "configuration names: %s",
			    config->run_as, again ? unread.text : why);
	generation_unref(generation);
	return true;
}

/* In this order: what may fail for the operator's reasons comes first; threads start when the user is settled. */
static bool start(struct config *config, struct error *error) {
	struct error why = {0};

	forebay.generation = generation_new(config, error);
	if (!forebay.generation)
		return false;
	if (config->listener_count == 0)
		return error_set(error, 0, "nothing to listen on; add a section [listener:pg] with listen = 127.0.0.1:6432");
	mailbox_init(&forebay.mailbox, forebay.loop, NULL);
	forebay.mailbox_made = true;
	takeover_init(&forebay.takeover, forebay.loop, &forebay.mailbox, &takeover_hooks);
	watch(); /* before anybody can see that it is there: a signal that comes during the start is seen to after it */
	if (!run_take_descriptors(config, error) || !inherit(config, error) ||
	    !listenings_open(&forebay.listenings, forebay.generation, error))
		return false;
	bool replaces = forebay.takeover.role == PEER_PREDECESSOR;
	if (config->metrics_listen_count > 0 && !(forebay.http = http_open(config, replaces, error)))
		return false;
	inherited_close_rest(say_unused);
	if (config->pid_file && !replaces && !pid_file_create(&forebay.pid_file, config->pid_file, error))
		return false;
	if (config->run_as && !become(config, error))
		return false;
	if (config->takeover_socket && !replaces && !takeover_listen(&forebay.takeover, config->takeover_socket, &why))
		return error_set(error, why.code, config->run_as ? "%s; run_as = %s must be able to write to its folder" : "%s",
				 why.text, config->run_as);
	if (!start_workers(error) || (!replaces && !http_start(forebay.http, error)))
		return false;
	if (replaces)
		settle_in(config);
	return true;
}

static void warn_without_effect(void *context, const char *section, const char *key, const char *value) {
	(void)context;
	log_warning("config_without_effect",
		    LOG_FIELDS(LOG_TEXT("section", section), LOG_TEXT("key", key), LOG_TEXT("value", value)),
		    "[%s] %s is accepted, but this version does not act on it yet", section, key);
}

static void announce(const struct config *config) {
	char listens[512] = "", pools[512] = "";
	size_t len = 0;

	listenings_text(&forebay.listenings, listens, sizeof listens);
	for (size_t i = 0; i < config->pool_count && len < sizeof pools; i++)
		len += (size_t)snprintf(pools + len, sizeof pools - len, "%s%s", i ? ", " : "", config->pools[i].name);
	log_info("ready",
		 LOG_FIELDS(LOG_TEXT("version", PACKAGE_VERSION), LOG_TEXT("file", forebay.file),
			    LOG_NUMBER("workers", forebay.workers_made), LOG_TEXT("listen", listens),
			    LOG_TEXT("pools", pools)),
		 "forebay " PACKAGE_VERSION " is ready on %s", listens);
	config_each_without_effect(config, warn_without_effect, NULL);
	process_notify("READY=1\nMAINPID=%ld\nSTATUS=ready, %d workers", (long)getpid(), forebay.workers_made);
}

/* Takes apart what there is; also after a start that failed half-way. */
static void end(void) {
	forebay.stopping = true;
	if (forebay.signals_made) { /* from here on a signal ends the process in the system's way */
		ev_signal_stop(forebay.loop, &forebay.on_term);
		ev_signal_stop(forebay.loop, &forebay.on_int);
		ev_signal_stop(forebay.loop, &forebay.on_hup);
		ev_signal_stop(forebay.loop, &forebay.on_usr2);
		ev_child_stop(forebay.loop, &forebay.on_started);
		ev_timer_stop(forebay.loop, &forebay.housekeeping);
		ev_timer_stop(forebay.loop, &forebay.log_again);
		ev_timer_stop(forebay.loop, &forebay.drain_delay);
		ev_timer_stop(forebay.loop, &forebay.shutdown_timeout);
	}
	/* one that takes over has the sockets too: what is done to them here, and to their files, is done to it */
	bool is_shared = forebay.takeover.role == PEER_STARTING;
	if (is_shared)
		listenings_hand_over(&forebay.listenings);
	listenings_end(&forebay.listenings);
	if (is_shared)
		http_hand_over(forebay.http);
	else
		http_close(forebay.http); /* it asks the workers: they still run */
	takeover_close(&forebay.takeover);
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
	acceptor_free(forebay.listenings.acceptor);
	for (int i = 0; i < forebay.workers_made; i++)
		worker_destroy(&forebay.workers[i]);
	free(forebay.workers);
	generation_unref(forebay.generation);
	if (forebay.mailbox_made)
		mailbox_destroy(&forebay.mailbox);
	pid_file_remove(&forebay.pid_file);
	takeover_end(&forebay.takeover);
	ev_loop_destroy(forebay.loop);
	run_forget_overrides(&forebay, forebay.override_count);
}

int run(const char *file, bool take_over) {
	struct config_errors errors = {0};
	struct error error = {0};

	forebay.file = file;
	forebay.take_over = take_over;
	struct config *config = run_load(&forebay, &errors);

	if (!config) {
		log_error("bad_config", NULL, "%s cannot be used, see above; forebay --check -c %s tries it without starting",
			  forebay.file, forebay.file);
		config_errors_free(&errors);
		return EXIT_BAD_USAGE;
	}
	config_errors_free(&errors);
	run_set_log(config);
	list_init(&forebay.listenings.all);
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
