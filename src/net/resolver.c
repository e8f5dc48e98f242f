#include "net/resolver.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <time.h>

#include "base/clock.h"
#include "base/list.h"
#include "net/mailbox.h"
#include "net/worker.h"

enum {
	THREADS = 4,
	NAMES_MAX = 256,
	NAME_BYTES_MAX = 256, /* RFC 1035 section 3.1: a name is shorter */
	STALE_S = 60          /* an answer as old as this is not given out before a refresh was tried */
};

static const uint64_t ttl_ns = RESOLVER_TTL_S * NS_PER_S;
static const uint64_t negative_ttl_ns = 1 * NS_PER_S;

/* One who waits for a look-up, and its answer on the way back. */
struct ask {
	struct mail mail;
	struct ask *next;
	struct resolver_query *query;
	struct worker *worker;
	int port;
	struct resolved answer;
};

/* A name. Who is in a look-up stays in the cache. */
struct name {
	struct list lru;       /* on cache.lru, most recently used first */
	struct list job;       /* on cache.jobs until a thread takes it */
	bool looking;          /* queued, or a thread is at it */
	bool failing;          /* the last look-up failed */
	bool has_answer;       /* the last one that succeeded is in `answer` */
	uint64_t looked_up_ns; /* when the last look-up ended, whatever its end; 0: none did */
	uint64_t answered_ns;  /* when the last one that succeeded ended */
	struct ask *waiting, **waiting_tail;
	struct resolved answer; /* ports zero */
	struct error error;     /* of the last failure */
	char text[NAME_BYTES_MAX];
};

static struct {
	pthread_mutex_t mutex; /* of all that follows */
	pthread_cond_t work, ended;
	pthread_cond_t answered; /* some look-up has ended, or all have: for resolver_look_up() */
	struct list lru;  /* all names: few enough to walk */
	struct list jobs; /* names to look up */
	int names;
	int threads; /* running */
	bool running;
} cache = {
	.mutex = PTHREAD_MUTEX_INITIALIZER,
	.work = PTHREAD_COND_INITIALIZER,
	.ended = PTHREAD_COND_INITIALIZER,
	.answered = PTHREAD_COND_INITIALIZER,
	.lru = {&cache.lru, &cache.lru},
	.jobs = {&cache.jobs, &cache.jobs},
};

/* Answers */

static void set_port(struct resolved *answer, int port) {
	for (int i = 0; i < answer->count; i++) {
		struct sockaddr_storage *address = &answer->at[i].address;
		if (address->ss_family == AF_INET)
			((struct sockaddr_in *)address)->sin_port = htons((uint16_t)port);
		else if (address->ss_family == AF_INET6)
			((struct sockaddr_in6 *)address)->sin6_port = htons((uint16_t)port);
	}
}

static void add_address(struct resolved *answer, const void *address, socklen_t len) {
	if (answer->count == RESOLVER_MAX_ADDRESSES || len > sizeof answer->at[0].address)
		return;
	memcpy(&answer->at[answer->count].address, address, len);
	answer->at[answer->count++].len = len;
}

/* A directory and the format of the socket's name in it, or the socket itself. */
static void answer_unix(struct resolved *answer, const char *path, int port, const char *format) {
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	const char *number = format ? strstr(format, "%d") : NULL;
	int len;

	if (number)
		len = snprintf(un.sun_path, sizeof un.sun_path, "%s/%.*s%d%s", path, (int)(number - format), format,
			       port, number + 2);
	else if (format && *format)
		len = snprintf(un.sun_path, sizeof un.sun_path, "%s/%s", path, format);
	else
		len = snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
	if (len < 0 || (size_t)len >= sizeof un.sun_path)
		error_set(&answer->error, ENAMETOOLONG, "the socket path in %s is longer than %zu bytes", path,
			  sizeof un.sun_path - 1);
	else
		add_address(answer, &un, sizeof un);
}

static void answer_from(struct resolved *answer, const struct addrinfo *found) {
	for (; found; found = found->ai_next)
		if (found->ai_family == AF_INET || found->ai_family == AF_INET6)
			add_address(answer, found->ai_addr, found->ai_addrlen);
}

/* Whether the host is an address or a path, which need no look-up: then the answer is filled. */
static bool answer_literal(struct resolved *answer, const char *host, int port, const char *unix_name_format) {
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};

	if (host[0] == '/') {
		answer_unix(answer, host, port, unix_name_format);
		return true;
	}
	if (inet_pton(AF_INET, host, &in.sin_addr) == 1) {
		add_address(answer, &in, sizeof in);
	} else if (inet_pton(AF_INET6, host, &in6.sin6_addr) == 1) {
		add_address(answer, &in6, sizeof in6);
	} else if (strchr(host, '%')) {
		/* an address with a zone, fe80::1%eth0: no host name has this sign */
		struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
		struct addrinfo *found = NULL;
		int e = getaddrinfo(host, NULL, &hints, &found);
		if (e)
			error_set(&answer->error, 0, "cannot resolve \"%s\": %s", host, gai_strerror(e));
		else
			answer_from(answer, found);
		if (found)
			freeaddrinfo(found);
	} else {
		return false;
	}
	set_port(answer, port);
	return true;
}

/* May take long. */
static void look_up(struct resolved *answer, const char *host) {
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	struct addrinfo *found = NULL;
	int e = getaddrinfo(host, NULL, &hints, &found);
	int code = e == EAI_SYSTEM ? errno : 0;

	if (e == 0)
		answer_from(answer, found);
	if (found)
		freeaddrinfo(found);
	if (e)
		error_set(&answer->error, code, "cannot resolve \"%s\": %s", host,
			  code ? strerror(code) : gai_strerror(e));
	else if (answer->count == 0)
		error_set(&answer->error, 0, "cannot resolve \"%s\": it has no IPv4 or IPv6 address", host);
}

/* The way back to who waits */

static void deliver_answer(struct mail *mail, void *receiver) {
	struct ask *ask = container_of(mail, struct ask, mail);

	(void)receiver;
	ask->query->done(ask->query, ask->query->cancelled ? NULL : &ask->answer);
	free(ask);
}

static void answer_waiting(struct ask *waiting, const struct resolved *answer) {
	while (waiting) {
		struct ask *next = waiting->next;
		waiting->answer = *answer;
		set_port(&waiting->answer, waiting->port);
		waiting->mail.deliver = deliver_answer;
		mailbox_post(&waiting->worker->mailbox, &waiting->mail);
		waiting = next;
	}
}

static struct ask *take_waiting_locked(struct name *name) {
	struct ask *waiting = name->waiting;

	name->waiting = NULL;
	name->waiting_tail = &name->waiting;
	return waiting;
}

/* The cache */

/* What is given out for a name: the last good answer if there is one, else the failure. */
static void current_answer_locked(const struct name *name, struct resolved *answer) {
	if (name->has_answer) {
		*answer = name->answer;
	} else {
		answer->count = 0;
		answer->error = name->error;
	}
}

static void drop_locked(struct name *name) {
	list_remove(&name->lru);
	cache.names--;
	free(name);
}

/* Makes room for one more. False: look-ups are under way for all. */
static bool evict_locked(void) {
	for (struct list *node = cache.lru.prev; node != &cache.lru; node = node->prev) {
		struct name *name = list_entry(node, struct name, lru);
		if (!name->looking) {
			drop_locked(name);
			return true;
		}
	}
	return false;
}

static struct name *find_locked(const char *host) {
	list_for_each(node, &cache.lru) {
		struct name *name = list_entry(node, struct name, lru);
		if (strcmp(name->text, host) == 0)
			return name;
	}
	return NULL;
}

/* Finds a name or adds it. NULL: `error` says why. */
static struct name *get_locked(const char *host, struct error *error) {
	struct name *name = find_locked(host);

	if (!name) {
		if (cache.names >= NAMES_MAX && !evict_locked()) {
			error_set(error, EAGAIN, "cannot resolve \"%s\": %d other names are being looked up", host,
				  NAMES_MAX);
			return NULL;
		}
		name = calloc(1, sizeof *name);
		if (!name) {
			error_set(error, ENOMEM, "cannot resolve \"%s\": out of memory", host);
			return NULL;
		}
		memcpy(name->text, host, strlen(host) + 1);
		name->waiting_tail = &name->waiting;
		list_init(&name->lru);
		list_init(&name->job);
		cache.names++;
	}
	list_remove(&name->lru);
	list_push_front(&cache.lru, &name->lru);
	return name;
}

static void begin_look_up_locked(struct name *name) {
	if (name->looking)
		return;
	name->looking = true;
	list_push_back(&cache.jobs, &name->job);
	pthread_cond_signal(&cache.work);
}

/*
 * Decides for one asker: true when `answer` holds what it gets now. Begins a look-up where one is due; an answer
 * of some age is given out meanwhile, a very old one only when refreshing it has just failed.
 */
static bool consult_locked(struct name *name, struct resolved *answer) {
	uint64_t now_ns = clock_monotonic_ns();
	uint64_t keep_ns = name->failing ? negative_ttl_ns : ttl_ns;
	bool fresh = name->looked_up_ns && now_ns - name->looked_up_ns < keep_ns;

	if (!fresh)
		begin_look_up_locked(name);
	if (!fresh && !name->has_answer)
		return false;
	if (!fresh && !name->failing && now_ns - name->answered_ns >= STALE_S * NS_PER_S)
		return false;
	current_answer_locked(name, answer);
	return true;
}

/* Does one look-up; the lock is free meanwhile. Then tells all who wait. */
static void work_locked(struct name *name) {
	struct resolved answer;

	answer.count = 0;
	answer.error = (struct error){0};
	pthread_mutex_unlock(&cache.mutex);
	look_up(&answer, name->text);
	pthread_mutex_lock(&cache.mutex);
	name->looking = false;
	name->looked_up_ns = clock_monotonic_ns();
	name->failing = answer.count == 0;
	if (name->failing) {
		name->error = answer.error;
		current_answer_locked(name, &answer);
	} else {
		name->answer = answer;
		name->has_answer = true;
		name->answered_ns = name->looked_up_ns;
	}
	/* Within the lock, so that resolver_stop() does not return before the letters are posted. */
	answer_waiting(take_waiting_locked(name), &answer);
	pthread_cond_broadcast(&cache.answered);
}

static void *helper(void *arg) {
	(void)arg;
	pthread_mutex_lock(&cache.mutex);
	while (cache.running) {
		struct list *job = list_pop_front(&cache.jobs);
		if (job)
			work_locked(list_entry(job, struct name, job));
		else
			pthread_cond_wait(&cache.work, &cache.mutex);
	}
	cache.threads--;
	pthread_cond_broadcast(&cache.ended);
	pthread_mutex_unlock(&cache.mutex);
	return NULL;
}

bool resolver_start(void) {
	sigset_t all, old;
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	/* Nobody joins them: a look-up cannot be called off, and the process does not wait for it to end. */
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_mutex_lock(&cache.mutex);
	cache.running = true;
	while (cache.threads < THREADS && pthread_create(&thread, &attr, helper, NULL) == 0)
		cache.threads++;
	bool any = cache.threads > 0;
	cache.running = any;
	pthread_mutex_unlock(&cache.mutex);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return any;
}

/* Fails all who wait, and drops every name no thread is at. */
static void empty_locked(void) {
	struct resolved stopped = {.count = 0};

	error_set(&stopped.error, ECANCELED, "the resolver has stopped");
	list_for_each_safe(node, &cache.lru) {
		struct name *name = list_entry(node, struct name, lru);
		answer_waiting(take_waiting_locked(name), &stopped);
		if (list_linked(&name->job)) {
			list_remove(&name->job);
			name->looking = false;
		}
		if (!name->looking)
			drop_locked(name);
	}
}

void resolver_stop(void) {
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 2;
	pthread_mutex_lock(&cache.mutex);
	cache.running = false;
	pthread_cond_broadcast(&cache.work);
	pthread_cond_broadcast(&cache.answered);
	empty_locked();
	while (cache.threads > 0)
		if (pthread_cond_timedwait(&cache.ended, &cache.mutex, &until) == ETIMEDOUT)
			break;
	empty_locked();
	pthread_mutex_unlock(&cache.mutex);
}

void resolver_ask(struct resolver_query *query, struct worker *worker, const char *host, int port,
		  const char *unix_name_format) {
	struct resolved answer;

	answer.count = 0;
	answer.error = (struct error){0};
	if (answer_literal(&answer, host, port, unix_name_format)) {
		query->done(query, &answer);
		return;
	}
	if (!*host || strlen(host) >= NAME_BYTES_MAX) {
		error_set(&answer.error, EINVAL, "\"%.64s\" is no host name", host);
		query->done(query, &answer);
		return;
	}
	struct ask *ask = NULL;
	pthread_mutex_lock(&cache.mutex);
	struct name *name = cache.running ? get_locked(host, &answer.error) : NULL;
	if (!cache.running)
		error_set(&answer.error, ECANCELED, "the resolver has stopped");
	bool known = !name || consult_locked(name, &answer);
	if (!known && (ask = calloc(1, sizeof *ask))) {
		ask->query = query;
		ask->worker = worker;
		ask->port = port;
		*name->waiting_tail = ask;
		name->waiting_tail = &ask->next;
	}
	pthread_mutex_unlock(&cache.mutex);
	if (ask)
		return;
	if (!known)
		error_set(&answer.error, ENOMEM, "cannot resolve \"%s\": out of memory", host);
	set_port(&answer, port);
	query->done(query, &answer);
}

bool resolver_is_name(const char *host) {
	struct in6_addr address;

	return host[0] != '/' && !strchr(host, '%') && inet_pton(AF_INET, host, &address) != 1 &&
	       inet_pton(AF_INET6, host, &address) != 1;
}

/* Until some look-up has ended, but no longer than a while: who waits looks again. */
static void await_any_locked(void) {
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += 50 * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_cond_timedwait(&cache.answered, &cache.mutex, &until);
}

bool resolver_look_up(const char *host, int port, const char *unix_name_format, uint64_t since_ns, uint64_t deadline_ns,
		      struct resolved *answer, bool *failed) {
	bool ended = false;

	answer->count = 0;
	answer->error = (struct error){0};
	*failed = false;
	if (answer_literal(answer, host, port, unix_name_format)) {
		*failed = answer->count == 0;
		return true;
	}
	if (!*host || strlen(host) >= NAME_BYTES_MAX) {
		error_set(&answer->error, EINVAL, "\"%.64s\" is no host name", host);
		*failed = true;
		return true;
	}
	pthread_mutex_lock(&cache.mutex);
	for (;;) {
		/* anew each time: it may have been dropped meanwhile */
		struct name *name = cache.running ? get_locked(host, &answer->error) : NULL;
		if (!name) {
			if (!cache.running)
				error_set(&answer->error, ECANCELED, "the resolver has stopped");
			*failed = ended = true;
			break;
		}
		if (name->looked_up_ns && name->looked_up_ns >= since_ns) {
			current_answer_locked(name, answer);
			*failed = name->failing;
			if (name->failing)
				answer->error = name->error;
			ended = true;
			break;
		}
		if (clock_monotonic_ns() >= deadline_ns)
			break;
		begin_look_up_locked(name);
		await_any_locked();
	}
	pthread_mutex_unlock(&cache.mutex);
	set_port(answer, port);
	return ended;
}
