#include "control/monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/health.h"
#include "control/libpq.h"
#include "control/monitor_mysql.h"
#include "control/probe.h"
#include "net/resolver.h"
#include "session/backend.h"
#include "session/generation.h"

#define PROBE_TIMEOUT_NS (5 * NS_PER_S) /* where a pool has no validation_timeout */
#define LOOK_UP_LIMIT_NS (5 * NS_PER_S)
#define ANSWER_AGE_NS (1 * NS_PER_S)    /* a name is looked up no more often for a probe's connection */

/* How a host is to be watched: from the pools that have it. */
struct plan {
	struct generation *generation; /* referenced; holds `pool` */
	const struct pool_config *pool;
	const struct config_address *address;
	struct pq_target target;    /* one of these two, by the pool's protocol */
	struct mq_target mysql_target;
	enum probe_login login;
	uint64_t interval_ns;    /* 0: it is not probed */
	uint64_t timeout_ns;     /* of one probe */
	uint64_t dns_refresh_ns; /* 0: its name is not looked up */
};

/* Something to do for a host, again and again. */
struct job {
	uint64_t due_ns;
	bool taken; /* a thread is at it */
};

/* A host that is or was watched; kept until monitor_stop(). */
struct watched {
	struct watched *next;
	struct backend *backend;

	/* under the mutex */
	struct plan plan;
	unsigned epoch;     /* counts plans */
	bool wanted;        /* some pool has it */
	struct job probe, look_up;
	struct health health;
	uint64_t began_ns;  /* the last probe */
	bool reconnect;     /* the address of our connection has left the name's answer */
	enum { NOT_SUSPECTED, SUSPECTED, UNREACHED } suspected; /* while a probe was under way */

	/* of the thread that has the probe */
	PGconn *conn; /* one of these two */
	MYSQL *mysql;
	unsigned conn_epoch;
	struct backend_facts facts;
	enum pool_role last_role; /* the last that was known, also from before it was down */
	bool told_trouble;        /* that it lets us not in was logged */
	uint64_t lost_ns;         /* when it was last found not to be up any more */

	/* of the thread that has the look-up */
	bool told_dns;
};

static struct {
	pthread_t threads[MONITOR_THREADS_MAX];
	int wake[2]; /* a pipe: its reading end becomes readable when the threads must stop */
	pthread_cond_t changed; /* of the monotonic clock */
	struct { /* under the mutex */
		pthread_mutex_t mutex;
		bool running;
		int threads;
		struct watched *first;
	} shared;
} monitor = {.wake = {-1, -1}, .shared.mutex = PTHREAD_MUTEX_INITIALIZER};

#define WATCHED_FIELDS(w) LOG_FIELDS(LOG_TEXT("server", backend_text((w)->backend)))

/* ---- probing ---- */

static void connection_close(struct watched *w) {
	if (w->conn)
		PQfinish(w->conn);
	w->conn = NULL;
	monitor_mysql_close(&w->mysql);
}

static enum health_answer judge(const struct pq_finding *finding) {
	switch (finding->outcome) {
	case PQ_CONNECTED:
		return HEALTH_WELL;
	case PQ_STOPPED:
	case PQ_SILENT:
		return HEALTH_SILENT;
	case PQ_UNTRIED:
		return HEALTH_UNTRIED;
	case PQ_UNREACHED:
		return HEALTH_REFUSED;
	case PQ_REJECTED: /* admin_shutdown, crash_shutdown, cannot_connect_now */
		return strncmp(finding->sqlstate, "57P0", 4) == 0 ? HEALTH_NOT_READY : HEALTH_REACHED;
	case PQ_UNWILLING:
		break;
	}
	return HEALTH_REACHED;
}

static bool address_text(const struct sockaddr_storage *address, socklen_t len, char *out, size_t room) {
	return address->ss_family != AF_UNIX && getnameinfo((const struct sockaddr *)address, len, out, (socklen_t)room, NULL,
							    0, NI_NUMERICHOST) == 0;
}

static enum health_answer connect_at(struct watched *w, const struct plan *plan, const char *hostaddr,
				     uint64_t deadline_ns, struct error *error) {
	struct pq_target target = plan->target;
	struct pq_limit limit = {deadline_ns, monitor.wake[0]};
	struct pq_finding finding;

	target.hostaddr = hostaddr;
	target.application_name = "forebay monitor";
	target.statement_timeout_ns = plan->timeout_ns;
	w->conn = pq_try(&target, &limit, &finding, error);
	return judge(&finding);
}

/* Of several addresses one that answers is enough; and one may be paused while another is gone. */
static enum health_answer better(enum health_answer a, enum health_answer b) {
	if (a <= HEALTH_UNTRIED || b <= HEALTH_UNTRIED)
		return a < b ? a : b;
	return a == HEALTH_SILENT || b == HEALTH_SILENT ? HEALTH_SILENT : HEALTH_REFUSED;
}

/* A name's addresses are tried one after the other, each with its share of the time, until one answers. */
static enum health_answer connect_any(struct watched *w, const struct plan *plan, uint64_t deadline_ns,
				      struct error *error) {
	const struct config_address *host = plan->address;
	struct resolved answer;
	bool failed;
	enum health_answer result = HEALTH_REFUSED;

	if (!resolver_is_name(host->host))
		return connect_at(w, plan, NULL, deadline_ns, error);
	uint64_t now_ns = clock_monotonic_ns();
	if (!resolver_look_up(host->host, host->port, NULL, now_ns > ANSWER_AGE_NS ? now_ns - ANSWER_AGE_NS : 0, deadline_ns,
			      &answer, &failed)) {
		/* that says nothing of the host: the workers may still know where it is */
		error_set(error, ETIMEDOUT, "looking up the name \"%.200s\" takes too long", host->host);
		return HEALTH_UNTRIED;
	}
	if (answer.count == 0) {
		*error = answer.error;
		if (failed)
			return HEALTH_UNTRIED;
	}
	for (int i = 0; i < answer.count && result != HEALTH_WELL && result != HEALTH_REACHED; i++) {
		char text[80];
		now_ns = clock_monotonic_ns();
		uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
		if (address_text(&answer.at[i].address, answer.at[i].len, text, sizeof text)) {
			uint64_t share_ns = left_ns / (uint64_t)(answer.count - i);
			result = better(result, connect_at(w, plan, text, now_ns + share_ns, error));
		}
	}
	return result;
}

static enum health_answer ask(struct watched *w, bool count, uint64_t deadline_ns, struct error *error) {
	struct pq_limit limit = {deadline_ns, monitor.wake[0]};

	if (probe_ask(w->conn, count, &limit, &w->facts, error))
		return HEALTH_WELL;
	if (PQstatus(w->conn) == CONNECTION_OK && PQtransactionStatus(w->conn) == PQTRANS_IDLE)
		return HEALTH_REACHED; /* it has answered, though it does not tell */
	bool silent = error->code == ETIMEDOUT || error->code == ECANCELED;
	connection_close(w);
	return silent ? HEALTH_SILENT : HEALTH_REFUSED;
}

static enum health_answer probe(struct watched *w, const struct plan *plan, bool fresh, bool count,
				struct error *error) {
	uint64_t deadline_ns = clock_monotonic_ns() + plan->timeout_ns;

	if (plan->pool->protocol == PROTOCOL_MYSQL)
		return monitor_mysql(&w->mysql, &plan->mysql_target, plan->login, fresh, &w->facts, error);
	if (fresh)
		connection_close(w);
	if (w->conn) {
		enum health_answer answer = ask(w, count, deadline_ns, error);
		if (answer != HEALTH_REFUSED)
			return answer;
		/* one that was kept may have been ended by anybody: a new one tells */
	}
	enum health_answer answer = connect_any(w, plan, deadline_ns, error);
	if (answer != HEALTH_WELL)
		return answer;
	if (plan->login == PROBE_NOBODY) { /* let in as whoever we said we are: there is nothing to ask in that name */
		connection_close(w);
		return HEALTH_REACHED;
	}
	return ask(w, count, deadline_ns, error);
}

/* ---- what follows from it ---- */

/* The texts name the host: lines of the same text would be taken for repeats. */
static void log_event_of(struct watched *w, enum health_event event, const struct error *error) {
	const char *host = backend_text(w->backend);
	char after[64] = "";

	if (event == HEALTH_WENT_DOWN || event == HEALTH_WENT_UNREADY) {
		if (!w->lost_ns)
			w->lost_ns = w->facts.probed_ns;
	} else if (event == HEALTH_CAME_UP && w->lost_ns) {
		snprintf(after, sizeof after, " again, after %.3f s", (double)(w->facts.probed_ns - w->lost_ns) / 1e9);
		w->lost_ns = 0;
	}
	if (event == HEALTH_CAME_UP)
		log_info("backend_up",
			 LOG_FIELDS(LOG_TEXT("server", host), LOG_TEXT("version", w->facts.version),
				    LOG_TEXT("role", backend_role_name(w->facts.role))),
			 "%s takes connections%s", host, after);
	else if (event == HEALTH_WENT_DOWN)
		log_warning("backend_down", WATCHED_FIELDS(w), "%s is down: %s", host, error->text);
	else if (event == HEALTH_WENT_UNREADY)
		log_warning("backend_not_ready", WATCHED_FIELDS(w), "%s takes no new connections now: %s", host, error->text);
}

static void log_role(struct watched *w) {
	enum pool_role role = w->facts.role;
	if (role == POOL_ROLE_UNKNOWN)
		return;
	if (w->last_role != POOL_ROLE_UNKNOWN && role != w->last_role)
		log_info("backend_role",
			 LOG_FIELDS(LOG_TEXT("server", backend_text(w->backend)), LOG_TEXT("role", backend_role_name(role))),
			 "%s was a %s: it is a %s now", backend_text(w->backend), backend_role_name(w->last_role),
			 backend_role_name(role));
	w->last_role = role;
}

/* Once, until a probe succeeds again. */
static void log_trouble(struct watched *w, const struct plan *plan, enum health_answer answer,
			const struct error *error) {
	if (answer == HEALTH_WELL)
		w->told_trouble = false;
	if (answer != HEALTH_REACHED || w->told_trouble || plan->login == PROBE_NOBODY)
		return;
	w->told_trouble = true;
	log_warning("monitor_refused", WATCHED_FIELDS(w),
		    "%s is there, but its role and connections are unknown, for a probe failed: %s; see monitor_user of pool "
		    "\"%s\"",
		    backend_text(w->backend), error->text, plan->pool->name);
}

static void run_probe(struct watched *w, const struct plan *plan, unsigned epoch, bool fresh, bool count) {
	struct error error = {0};
	uint64_t began_ns = clock_monotonic_ns();
	enum health_answer answer = probe(w, plan, fresh || w->conn_epoch != epoch, count, &error);
	uint64_t ended_ns = clock_monotonic_ns();

	w->conn_epoch = epoch;
	pthread_mutex_lock(&monitor.shared.mutex);
	bool counts = monitor.shared.running && w->wanted && w->epoch == epoch;
	enum health_event event = counts ? health_note(&w->health, answer) : HEALTH_NOTHING;
	if (counts && w->suspected != NOT_SUSPECTED)
		health_suspect(&w->health, w->suspected == SUSPECTED);
	w->suspected = NOT_SUSPECTED;
	w->facts.state = w->health.state;
	w->facts.known = w->health.known;
	w->facts.up = w->health.up;
	pthread_mutex_unlock(&monitor.shared.mutex);
	if (!counts) /* asked under another configuration, or given up */
		return;
	if (w->facts.state == BACKEND_DOWN) {
		connection_close(w);
		w->facts.role = POOL_ROLE_UNKNOWN; /* it may come back as another */
		w->facts.in_use = -1;
		w->facts.lag_s = -1;
	}
	w->facts.probed_ns = ended_ns;
	w->facts.took_ns = ended_ns - began_ns;
	if (*error.text)
		snprintf(w->facts.error, sizeof w->facts.error, "%.255s", error.text);
	backend_set_facts(w->backend, &w->facts);
	log_event_of(w, event, &error);
	log_role(w);
	log_trouble(w, plan, answer, &error);
	if (w->facts.known) /* each time: a pool may have come to know otherwise since; nobody is woken unless it is news */
		backend_report(w->backend, w->facts.up, w->facts.role,
			       event == HEALTH_CAME_UP || event == HEALTH_STILL_UP);
}

/* It is not probed any more: what was known is worth nothing, and a pool must not avoid it for ever. */
static void forget(struct watched *w) {
	bool was_known = w->facts.known;

	connection_close(w);
	w->facts = (struct backend_facts){.lag_s = -1, .max_connections = -1, .in_use = -1};
	w->last_role = POOL_ROLE_UNKNOWN;
	backend_set_facts(w->backend, &w->facts);
	if (was_known)
		backend_forget(w->backend);
}

/* ---- names ---- */

static bool is_among(const char *text, const struct resolved *answer) {
	for (int i = 0; i < answer->count; i++) {
		char other[80];
		if (address_text(&answer->at[i].address, answer->at[i].len, other, sizeof other) && strcmp(text, other) == 0)
			return true;
	}
	return false;
}

static bool is_running(void) {
	pthread_mutex_lock(&monitor.shared.mutex);
	bool running = monitor.shared.running;
	pthread_mutex_unlock(&monitor.shared.mutex);
	return running;
}

static void run_look_up(struct watched *w, const struct plan *plan) {
	struct resolved answer;
	bool failed = false, ended = false;
	uint64_t now_ns = clock_monotonic_ns();

	/* in slices, so that stopping need not wait for a name server */
	for (uint64_t t = now_ns; !ended && t < now_ns + LOOK_UP_LIMIT_NS && is_running(); t = clock_monotonic_ns())
		ended = resolver_look_up(plan->address->host, plan->address->port, NULL, now_ns, t + 200 * NS_PER_MS, &answer,
					 &failed);
	if (!is_running())
		return;
	if (!ended || failed) {
		if (!w->told_dns)
			log_warning("dns_failed", WATCHED_FIELDS(w),
				    "the host's name cannot be looked up now, its last addresses stay in use: %s",
				    ended ? answer.error.text : "no answer in time");
		w->told_dns = true;
		return;
	}
	w->told_dns = false;
	pthread_mutex_lock(&monitor.shared.mutex);
	/* a connection that is in use by a probe is looked at the next time */
	const char *ours = w->probe.taken || !w->conn ? NULL : PQhostaddr(w->conn);
	if (ours && *ours && !is_among(ours, &answer))
		w->reconnect = true;
	pthread_mutex_unlock(&monitor.shared.mutex);
	backend_addresses(w->backend, &answer);
}

/* ---- the queue ---- */

/* The job that is due first, with its host. NULL: none is free. */
static struct watched *earliest_locked(struct job **job) {
	struct watched *best = NULL;

	for (struct watched *w = monitor.shared.first; w; w = w->next) {
		struct job *jobs[] = {&w->probe, &w->look_up};
		for (size_t i = 0; i < 2; i++) {
			if (jobs[i]->taken || jobs[i]->due_ns == TIME_NEVER || (best && jobs[i]->due_ns >= (*job)->due_ns))
				continue;
			best = w;
			*job = jobs[i];
		}
	}
	return best;
}

/* Waits until something is due. NULL: the process stops. */
static struct watched *take_locked(struct job **job) {
	while (monitor.shared.running) {
		struct watched *w = earliest_locked(job);
		if (w && (*job)->due_ns <= clock_monotonic_ns()) {
			(*job)->taken = true;
			return w;
		}
		if (w) {
			struct timespec until = {(time_t)((*job)->due_ns / NS_PER_S), (long)((*job)->due_ns % NS_PER_S)};
			pthread_cond_timedwait(&monitor.changed, &monitor.shared.mutex, &until);
		} else {
			pthread_cond_wait(&monitor.changed, &monitor.shared.mutex);
		}
	}
	return NULL;
}

/* `began_ns` 0: the configuration has changed meanwhile. */
static void schedule_locked(struct watched *w, struct job *job, uint64_t began_ns) {
	uint64_t now_ns = clock_monotonic_ns(), after_ns = w->plan.dns_refresh_ns;
	job->taken = false;
	if (job == &w->probe && w->plan.interval_ns)
		after_ns = health_interval(&w->health, w->plan.interval_ns);
	else if (job == &w->probe)
		after_ns = 0;
	if (!w->wanted || !after_ns)
		job->due_ns = TIME_NEVER;
	else
		job->due_ns = began_ns + after_ns > now_ns ? began_ns + after_ns : now_ns;
	if (job == &w->probe && began_ns == 0)
		job->due_ns = now_ns; /* to look at it with the new settings, or to forget it */
}

/* One job of a host; the lock is free meanwhile. */
static void work_locked(struct watched *w, struct job *job) {
	struct plan plan = w->plan;
	uint64_t began_ns = clock_monotonic_ns();
	unsigned epoch = w->epoch;
	bool wanted = w->wanted, fresh = w->reconnect || (w->health.suspect && w->health.unreached);
	bool count = !w->health.suspect && w->health.silences == 0;

	if (plan.generation)
		generation_ref(plan.generation);
	if (job == &w->probe) {
		w->reconnect = false;
		w->began_ns = began_ns;
	}
	pthread_mutex_unlock(&monitor.shared.mutex);
	if (job == &w->look_up)
		run_look_up(w, &plan);
	else if (wanted && plan.interval_ns)
		run_probe(w, &plan, epoch, fresh, count);
	else
		forget(w);
	generation_unref(plan.generation);
	pthread_mutex_lock(&monitor.shared.mutex);
	schedule_locked(w, job, w->epoch == epoch ? began_ns : 0);
}

static void *run_thread(void *arg) {
	struct watched *w;
	struct job *job = NULL;

	(void)arg;
	pthread_mutex_lock(&monitor.shared.mutex);
	while ((w = take_locked(&job)))
		work_locked(w, job);
	pthread_mutex_unlock(&monitor.shared.mutex);
	mysql_thread_end();
	return NULL;
}

/* ---- what is watched ---- */

static struct watched *find_locked(const struct backend *backend) {
	struct watched *w = monitor.shared.first;
	while (w && w->backend != backend)
		w = w->next;
	return w;
}

/* A worker's thread: the lock is never held for long. */
static void suspect(struct backend *backend, bool reached) {
	pthread_mutex_lock(&monitor.shared.mutex);
	struct watched *w = find_locked(backend);
	if (w && w->wanted && w->plan.interval_ns) {
		if (!w->probe.taken)
			health_suspect(&w->health, reached);
		else if (w->suspected != UNREACHED)
			w->suspected = reached ? SUSPECTED : UNREACHED;
		uint64_t due_ns = w->began_ns + HEALTH_FAST_NS;
		if (!w->probe.taken && due_ns < w->probe.due_ns) {
			w->probe.due_ns = due_ns;
			pthread_cond_signal(&monitor.changed);
		}
	}
	pthread_mutex_unlock(&monitor.shared.mutex);
}

static struct watched *watch_locked(struct backend *backend) {
	struct watched *w = find_locked(backend);
	if (w)
		return w;
	w = calloc(1, sizeof *w);
	if (!w)
		return NULL;
	w->backend = backend;
	w->probe.due_ns = w->look_up.due_ns = TIME_NEVER;
	backend_facts(backend, &w->facts);
	struct watched **at = &monitor.shared.first;
	while (*at)
		at = &(*at)->next;
	*at = w;
	return w;
}

/* The first pool that has the best login decides; the shortest interval counts. */
static void plan_host_locked(struct generation *g, const struct pool_config *pool, size_t host) {
	struct backend *backend = backend_get(pool->protocol, &pool->hosts[host]);
	struct watched *w = backend ? watch_locked(backend) : NULL;
	struct pq_target target = {.pool = pool, .host = host};

	if (!w) {
		log_error("out_of_memory", NULL, "out of memory: %s is not watched", pool->hosts[host].text);
		return;
	}
	struct mq_target mysql_target = {.pool = pool, .host = host, .program = "forebay monitor"};
	bool mysql = pool->protocol == PROTOCOL_MYSQL;
	enum probe_login login = mysql ? mq_as_monitor(pool, &mysql_target) : probe_as_monitor(pool, &target);
	struct plan *plan = &w->plan;
	uint64_t interval_ns = pool->monitor_interval;
	if (w->wanted && plan->interval_ns && (!interval_ns || plan->interval_ns < interval_ns))
		interval_ns = plan->interval_ns;
	if (!w->wanted || login > plan->login) {
		plan->pool = pool;
		plan->address = &pool->hosts[host];
		plan->target = target;
		plan->mysql_target = mysql_target;
		plan->login = login;
		plan->timeout_ns = pool->validation_timeout ? pool->validation_timeout : PROBE_TIMEOUT_NS;
		plan->mysql_target.timeout_ns = plan->timeout_ns;
	}
	plan->interval_ns = interval_ns;
	plan->dns_refresh_ns = resolver_is_name(pool->hosts[host].host) ? g->config->dns_refresh : 0;
	w->wanted = true;
}

/* One for each host, and where there are names one more: looking them up may take long. */
static int threads_wanted_locked(void) {
	int hosts = 0, names = 0;
	for (struct watched *w = monitor.shared.first; w; w = w->next) {
		hosts += w->wanted && w->plan.interval_ns;
		names += w->wanted && w->plan.dns_refresh_ns;
	}
	return hosts + (names > 0);
}

/* They stay until the end. */
static void threads_locked(int wanted) {
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* they are the main thread's */
	while (monitor.shared.threads < wanted && monitor.shared.threads < MONITOR_THREADS_MAX &&
	       pthread_create(&monitor.threads[monitor.shared.threads], NULL, run_thread, NULL) == 0)
		monitor.shared.threads++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (wanted && !monitor.shared.threads)
		log_error("monitor_failed", NULL, "cannot start a thread to watch the database hosts with: they are not "
						  "watched; is the limit of processes (ulimit -u) reached?");
}

void monitor_watch(struct generation *generation) {
	const struct config *config = generation->config;
	uint64_t now_ns = clock_monotonic_ns();

	pthread_mutex_lock(&monitor.shared.mutex);
	for (struct watched *w = monitor.shared.first; w; w = w->next)
		w->wanted = false;
	for (size_t i = 0; i < config->pool_count; i++)
		for (size_t h = 0; h < config->pools[i].host_count; h++)
			plan_host_locked(generation, &config->pools[i], h);
	for (struct watched *w = monitor.shared.first; w; w = w->next) {
		generation_unref(w->plan.generation);
		w->plan.generation = w->wanted ? generation_ref(generation) : NULL;
		w->epoch++;
		if (!w->wanted || !w->plan.interval_ns) /* what was known grows old */
			w->health = (struct health){0};
		w->probe.due_ns = now_ns;
		w->look_up.due_ns = w->wanted && w->plan.dns_refresh_ns ? now_ns + w->plan.dns_refresh_ns : TIME_NEVER;
	}
	threads_locked(threads_wanted_locked());
	pthread_cond_broadcast(&monitor.changed);
	pthread_mutex_unlock(&monitor.shared.mutex);
}

bool monitor_start(struct error *error) {
	pthread_condattr_t attr;

	if (pipe2(monitor.wake, O_CLOEXEC | O_NONBLOCK) != 0)
		return error_set(error, errno, "cannot start the monitor: pipe: %s", strerror(errno));
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&monitor.changed, &attr);
	pthread_condattr_destroy(&attr);
	monitor.shared.running = true;
	backend_suspect_install(suspect);
	return true;
}

void monitor_stop(void) {
	if (monitor.wake[0] < 0)
		return;
	backend_suspect_install(NULL);
	pthread_mutex_lock(&monitor.shared.mutex);
	monitor.shared.running = false;
	pthread_cond_broadcast(&monitor.changed);
	pthread_mutex_unlock(&monitor.shared.mutex);
	if (write(monitor.wake[1], "", 1) < 0)
		log_debug("monitor", NULL, "cannot wake the monitor's threads");
	for (int i = 0; i < monitor.shared.threads; i++)
		pthread_join(monitor.threads[i], NULL);
	monitor.shared.threads = 0;
	pthread_mutex_lock(&monitor.shared.mutex);
	struct watched *all = monitor.shared.first;
	monitor.shared.first = NULL;
	pthread_mutex_unlock(&monitor.shared.mutex);
	for (struct watched *w = all, *next; w; w = next) {
		next = w->next;
		connection_close(w);
		generation_unref(w->plan.generation);
		free(w);
	}
	pthread_cond_destroy(&monitor.changed);
	close(monitor.wake[0]);
	close(monitor.wake[1]);
	monitor.wake[0] = monitor.wake[1] = -1;
}
