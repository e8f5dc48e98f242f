#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log_line.h"
#include "base/log_socket.h"

enum {
	RUNS = 32, /* messages watched for repeats at the same time */
	RUN_KEY_MAX = 256,
	LAST_WAIT_MS = 500 /* for a full socket, when the process ends */
};

#define RUN_MOST_NS (60 * NS_PER_S)
#define ELLIPSIS "\xe2\x80\xa6"

/*
 * A message that was printed, and how often it came again since. It is watched for a second; if it came again, that is told,
 * and it is watched for twice as long, up to a minute: what goes on for hours takes a line a minute.
 */
struct run {
	bool used;
	enum log_level level;
	uint64_t started_ns, window_ns;
	uint64_t repeats;
	uint64_t hash;
	char event[64];
	char message[RUN_KEY_MAX]; /* may be cut: the hash is over the whole */
};

static _Atomic int log_level = LOG_LEVEL_INFO;
static _Atomic int log_format = LOG_FORMAT_TEXT;

static struct {
	pthread_mutex_t mutex;
	void (*sink)(const char *line, size_t len);
	enum log_destination destination;
	struct log_origin origin;
	struct log_socket socket; /* of any other destination than stderr */
	bool gone;                /* nobody listens there: lines go to stderr meanwhile */
	uint64_t diverted;        /* lines that did */
	uint64_t dropped;         /* lines that the destination did not take, not told of yet */
	struct run runs[RUNS];
} shared = {.mutex = PTHREAD_MUTEX_INITIALIZER, .socket.fd = -1, .origin = {.ident = "forebay", .facility = 3}};

static _Atomic uint64_t dropped_total;

void log_configure(enum log_level level, enum log_format format) {
	atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
	atomic_store_explicit(&log_format, (int)format, memory_order_relaxed);
}

static void count_dropped_locked(uint64_t lines) {
	shared.dropped += lines;
	atomic_fetch_add_explicit(&dropped_total, lines, memory_order_relaxed);
}

void log_direct(enum log_destination destination, const char *path, const char *ident, int facility) {
	static const char *const places[] = {
		[LOG_TO_STDERR] = NULL, [LOG_TO_SYSLOG] = "/dev/log", [LOG_TO_JOURNALD] = "/run/systemd/journal/socket"};
	const char *wanted = destination == LOG_TO_STDERR ? "" : path && *path ? path : places[destination];
	struct log_origin origin = {.facility = facility, .pid = (int)getpid()};

	tzset(); /* localtime_r() need not */
	for (size_t i = 0; ident[i] && i < sizeof origin.ident - 1; i++)
		origin.ident[i] = ident[i] > ' ' && ident[i] < 0x7f && !strchr("[]:=", ident[i]) ? ident[i] : '_';
	pthread_mutex_lock(&shared.mutex);
	if (shared.destination != destination || strcmp(shared.socket.path, wanted) != 0) {
		/* others wait for the lock: what is not taken now is lost */
		log_socket_flush(&shared.socket, 0);
		count_dropped_locked(log_socket_kept(&shared.socket));
		log_socket_open(&shared.socket, wanted);
		shared.destination = destination;
		shared.gone = false;
		shared.diverted = 0;
	}
	shared.origin = origin;
	pthread_mutex_unlock(&shared.mutex);
}

bool log_enabled(enum log_level level) {
	return (int)level <= atomic_load_explicit(&log_level, memory_order_relaxed);
}

void log_set_sink(void (*sink)(const char *line, size_t len)) {
	pthread_mutex_lock(&shared.mutex);
	shared.sink = sink;
	pthread_mutex_unlock(&shared.mutex);
}

/*
 * Hands a line to stderr if it takes it at once. A pipe that polls writable takes PIPE_BUF bytes without waiting,
 * and the lock sees to it that only one thread uses that room.
 */
static bool try_write_locked(const char *text, size_t len) {
	struct pollfd poll_stderr = {.fd = STDERR_FILENO, .events = POLLOUT};
	ssize_t n;

	if (shared.sink) {
		shared.sink(text, len);
		return true;
	}
	if (poll(&poll_stderr, 1, 0) != 1 || !(poll_stderr.revents & POLLOUT))
		return false;
	do
		n = write(STDERR_FILENO, text, len);
	while (n < 0 && errno == EINTR);
	return n >= 0;
}

static const char *destination_name(enum log_destination destination) {
	static const char *const names[] = {[LOG_TO_STDERR] = "stderr", [LOG_TO_SYSLOG] = "syslog", [LOG_TO_JOURNALD] = "journald"};

	return names[destination];
}

static enum log_form form_for(enum log_destination destination) {
	bool json = atomic_load_explicit(&log_format, memory_order_relaxed) == LOG_FORMAT_JSON;

	if (destination == LOG_TO_JOURNALD)
		return LOG_FORM_JOURNAL;
	if (destination == LOG_TO_SYSLOG)
		return json ? LOG_FORM_SYSLOG_JSON : LOG_FORM_SYSLOG_TEXT;
	return json ? LOG_FORM_JSON : LOG_FORM_TEXT;
}

struct event {
	enum log_level level;
	const char *name;
	const struct log_field *fields;
	const char *message;
};

static void compose_locked(struct log_line *line, enum log_destination destination, const struct event *event) {
	log_line_compose(line, form_for(destination), &shared.origin, event->level, event->name, event->fields, event->message);
}

static bool try_stderr_locked(const struct event *event) {
	struct log_line line;

	compose_locked(&line, LOG_TO_STDERR, event);
	return try_write_locked(line.text, line.len);
}

static void say_locked(enum log_destination destination, const struct event *event) {
	struct log_line line;

	if (destination == LOG_TO_STDERR) {
		try_stderr_locked(event);
		return;
	}
	compose_locked(&line, destination, event);
	log_socket_send(&shared.socket, line.text, line.len);
}

static void say_gone_locked(int why) {
	char message[400];

	snprintf(message, sizeof message,
		 "cannot log to %s at %s: %s; lines go to stderr until somebody listens there (log_destination, log_socket)",
		 destination_name(shared.destination), shared.socket.path, strerror(why));
	say_locked(LOG_TO_STDERR, &(struct event){LOG_LEVEL_WARNING, "log_destination_gone",
						  LOG_FIELDS(LOG_TEXT("socket", shared.socket.path)), message});
	shared.gone = true;
}

static void say_back_locked(void) {
	char message[128];

	snprintf(message, sizeof message, "%s takes lines again; %llu went to stderr meanwhile",
		 destination_name(shared.destination), (unsigned long long)shared.diverted);
	shared.gone = false;
	say_locked(shared.destination, &(struct event){LOG_LEVEL_INFO, "log_destination_back",
						       LOG_FIELDS(LOG_NUMBER("lines", shared.diverted)), message});
	shared.diverted = 0;
}

/* Where nobody listens at the destination, stderr gets the line. False: nobody has taken it. */
static bool try_event_locked(const struct event *event) {
	struct log_line line;

	if (shared.sink || shared.destination == LOG_TO_STDERR)
		return try_stderr_locked(event);
	compose_locked(&line, shared.destination, event);
	enum log_sent sent = log_socket_send(&shared.socket, line.text, line.len);
	if (sent == LOG_GONE) {
		if (!shared.gone)
			say_gone_locked(errno);
		shared.diverted++;
		return try_stderr_locked(event);
	}
	if (shared.gone)
		say_back_locked();
	return sent == LOG_SENT;
}

/* Tells of lines that were dropped, if there is room for that by now. */
static void tell_dropped_locked(void) {
	char message[128];

	if (shared.dropped == 0)
		return;
	snprintf(message, sizeof message, "%s was full: %llu lines of the log were dropped",
		 destination_name(shared.sink ? LOG_TO_STDERR : shared.destination), (unsigned long long)shared.dropped);
	if (try_event_locked(&(struct event){LOG_LEVEL_WARNING, "log_lines_dropped",
					     LOG_FIELDS(LOG_NUMBER("lines", shared.dropped)), message}))
		shared.dropped = 0;
}

static void write_locked(const struct event *event) {
	tell_dropped_locked();
	if (!try_event_locked(event))
		count_dropped_locked(1);
}

/* Says how often its message came again, if it did. */
static void run_tell_locked(struct run *run) {
	char message[RUN_KEY_MAX + 64];

	if (run->repeats == 0)
		return;
	snprintf(message, sizeof message, "repeated %llu more times: %s", (unsigned long long)run->repeats, run->message);
	write_locked(&(struct event){run->level, run->event, LOG_FIELDS(LOG_NUMBER("repeats", run->repeats)), message});
}

static void end_old_runs_locked(uint64_t now_ns, bool all) {
	for (int i = 0; i < RUNS; i++) {
		struct run *run = &shared.runs[i];
		if (!run->used || (!all && now_ns - run->started_ns < run->window_ns))
			continue;
		run_tell_locked(run);
		run->used = !all && run->repeats > 0;
		run->repeats = 0;
		run->started_ns = now_ns;
		run->window_ns = 2 * run->window_ns < RUN_MOST_NS ? 2 * run->window_ns : RUN_MOST_NS;
	}
}

/* FNV-1a over event and message. */
static uint64_t hash_of(const char *event, const char *message) {
	uint64_t hash = 0xcbf29ce484222325ull;

	for (const char *s = event; *s; s++)
		hash = (hash ^ (unsigned char)*s) * 0x100000001b3ull;
	hash = (hash ^ 0xff) * 0x100000001b3ull;
	for (const char *s = message; *s; s++)
		hash = (hash ^ (unsigned char)*s) * 0x100000001b3ull;
	return hash;
}

/* Copies what fits and ends it, never within a UTF-8 character. */
static void copy_cut(char *out, size_t room, const char *s) {
	size_t len = strlen(s);

	if (len >= room) {
		len = room - 1;
		while (len > 0 && ((unsigned char)s[len] & 0xc0) == 0x80)
			len--;
	}
	memcpy(out, s, len);
	out[len] = '\0';
}

/* True when the message came a short while ago: it is counted. Otherwise it begins a run. */
static bool is_repeat_locked(enum log_level level, const char *event, const char *message, uint64_t now_ns) {
	uint64_t hash = hash_of(event, message);
	struct run *oldest = &shared.runs[0];

	end_old_runs_locked(now_ns, false);
	for (int i = 0; i < RUNS; i++) {
		struct run *run = &shared.runs[i];
		if (run->used && run->hash == hash && run->level == level && strncmp(run->event, event, 63) == 0 &&
		    strncmp(run->message, message, strlen(run->message)) == 0) {
			run->repeats++;
			return true;
		}
		if (oldest->used && (!run->used || run->started_ns < oldest->started_ns))
			oldest = run;
	}
	if (oldest->used)
		run_tell_locked(oldest);
	*oldest = (struct run){.used = true, .level = level, .started_ns = now_ns, .window_ns = NS_PER_S, .hash = hash};
	copy_cut(oldest->event, sizeof oldest->event, event);
	copy_cut(oldest->message, sizeof oldest->message, message);
	return false;
}

static void log_it(enum log_level level, bool each, const char *event, const struct log_field *fields, const char *fmt,
		   va_list args) {
	char message[LOG_MESSAGE_MAX + 8];

	int len = vsnprintf(message, LOG_MESSAGE_MAX, fmt, args);
	if (len < 0)
		return;
	if (len >= LOG_MESSAGE_MAX) {
		char whole[LOG_MESSAGE_MAX];
		memcpy(whole, message, sizeof whole);
		whole[sizeof whole - 1] = '\0';
		copy_cut(message, LOG_MESSAGE_MAX - 4, whole);
		memcpy(message + strlen(message), ELLIPSIS, sizeof ELLIPSIS);
	}
	pthread_mutex_lock(&shared.mutex);
	if (each || !is_repeat_locked(level, event, message, clock_monotonic_ns()))
		write_locked(&(struct event){level, event, fields, message});
	pthread_mutex_unlock(&shared.mutex);
}

void log_event(enum log_level level, const char *event, const struct log_field *fields, const char *fmt, ...) {
	va_list args;

	if (!log_enabled(level))
		return;
	va_start(args, fmt);
	log_it(level, false, event, fields, fmt, args);
	va_end(args);
}

void log_each(enum log_level level, const char *event, const struct log_field *fields, const char *fmt, ...) {
	va_list args;

	if (!log_enabled(level))
		return;
	va_start(args, fmt);
	log_it(level, true, event, fields, fmt, args);
	va_end(args);
}

bool log_flush(bool all) {
	bool more = false;

	pthread_mutex_lock(&shared.mutex);
	end_old_runs_locked(clock_monotonic_ns(), all);
	if (all)
		log_socket_flush(&shared.socket, LAST_WAIT_MS);
	else
		more = log_socket_go_on(&shared.socket);
	tell_dropped_locked();
	uint64_t kept = all ? log_socket_kept(&shared.socket) : 0;
	if (kept > 0) {
		char message[128];
		snprintf(message, sizeof message, "%s was full to the end: %llu lines of the log were dropped",
			 destination_name(shared.destination), (unsigned long long)kept);
		say_locked(LOG_TO_STDERR, &(struct event){LOG_LEVEL_WARNING, "log_lines_dropped",
							  LOG_FIELDS(LOG_NUMBER("lines", kept)), message});
	}
	pthread_mutex_unlock(&shared.mutex);
	return more;
}

uint64_t log_dropped(void) {
	return atomic_load_explicit(&dropped_total, memory_order_relaxed);
}
