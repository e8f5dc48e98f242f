#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

enum {
	LINE_MAX_BYTES = 4096, /* PIPE_BUF: such a line goes into a pipe whole */
	TAIL_ROOM = 16,        /* kept for what closes a line after a cut: `…`, quotes, braces, the newline */
	FIELDS_MAX = 2816,     /* fields may use the line up to here, so that a message still has its place */
	MESSAGE_MAX = 2048,
	RUNS = 32, /* messages watched for repeats at the same time */
	RUN_KEY_MAX = 256
};

#define ELLIPSIS "\xe2\x80\xa6"

struct line {
	char text[LINE_MAX_BYTES];
	size_t len;
	size_t limit; /* what may be filled now */
	bool json;
};

/* A message seen within the last second, and how often it came again since it was printed. */
struct run {
	bool used;
	enum log_level level;
	uint64_t started_ns;
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
	uint64_t dropped; /* lines that stderr did not take */
	struct run runs[RUNS];
} shared = {.mutex = PTHREAD_MUTEX_INITIALIZER};

void log_configure(enum log_level level, enum log_format format) {
	atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
	atomic_store_explicit(&log_format, (int)format, memory_order_relaxed);
}

bool log_enabled(enum log_level level) {
	return (int)level <= atomic_load_explicit(&log_level, memory_order_relaxed);
}

void log_set_sink(void (*sink)(const char *line, size_t len)) {
	pthread_mutex_lock(&shared.mutex);
	shared.sink = sink;
	pthread_mutex_unlock(&shared.mutex);
}

static const char *level_name(enum log_level level) {
	switch (level) {
	case LOG_LEVEL_ERROR:
		return "error";
	case LOG_LEVEL_WARNING:
		return "warning";
	case LOG_LEVEL_INFO:
		return "info";
	case LOG_LEVEL_DEBUG:
		return "debug";
	}
	return "info";
}

/* A string that was cut ends a little behind the limit. */
static size_t line_room(const struct line *line) {
	return line->len < line->limit ? line->limit - line->len : 0;
}

/* Adds bytes that are known to be harmless. False, and nothing added, when they do not fit. */
static bool line_add(struct line *line, const char *s, size_t len) {
	if (len > line_room(line))
		return false;
	memcpy(line->text + line->len, s, len);
	line->len += len;
	return true;
}

static bool line_puts(struct line *line, const char *s) {
	return line_add(line, s, strlen(s));
}

/*
 * The length of the well-formed UTF-8 character at `s` (Unicode 15, table 3-7), 0 when it is none. A zero byte
 * ends the string, and it is never a continuation, so nothing behind it is read.
 */
static size_t utf8_length(const unsigned char *s) {
	unsigned char low = 0x80, high = 0xbf;
	size_t more;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		more = 1;
	else if (s[0] >= 0xe0 && s[0] <= 0xef)
		more = 2;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		more = 3;
	else
		return 0;
	if (s[0] == 0xe0)
		low = 0xa0;
	else if (s[0] == 0xed)
		high = 0x9f;
	else if (s[0] == 0xf0)
		low = 0x90;
	else if (s[0] == 0xf4)
		high = 0x8f;
	if (s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i <= more; i++)
		if (s[i] < 0x80 || s[i] > 0xbf)
			return 0;
	return more + 1;
}

/* Writes one character's form inside quotes to `out` (room for 8). Returns how many bytes of `s` it stands for. */
static size_t escape(const unsigned char *s, bool json, char out[8], size_t *out_len) {
	size_t n = utf8_length(s);
	int len;

	if (n == 0) {
		len = json ? snprintf(out, 8, "\\ufffd") : snprintf(out, 8, "\\x%02x", s[0]);
		n = 1;
	} else if (s[0] == '"' || s[0] == '\\') {
		len = snprintf(out, 8, "\\%c", s[0]);
	} else if (s[0] == '\n') {
		len = snprintf(out, 8, "\\n");
	} else if (s[0] == '\r') {
		len = snprintf(out, 8, "\\r");
	} else if (s[0] == '\t') {
		len = snprintf(out, 8, "\\t");
	} else if (s[0] < 0x20 || s[0] == 0x7f) {
		len = snprintf(out, 8, json ? "\\u%04x" : "\\x%02x", s[0]);
	} else if (s[0] == 0xc2 && s[1] < 0xa0) {
		/* C1 controls: terminals obey some of them */
		len = snprintf(out, 8, "\\u%04x", s[1]);
	} else {
		memcpy(out, s, n);
		len = (int)n;
	}
	*out_len = (size_t)len;
	return n;
}

/* A quoted string; what does not fit is cut with an ellipsis. The caller has left TAIL_ROOM behind the limit. */
static void line_quoted(struct line *line, const char *s) {
	const unsigned char *pos = (const unsigned char *)s;
	char piece[8];
	size_t piece_len;

	line->text[line->len++] = '"';
	while (*pos) {
		size_t n = escape(pos, line->json, piece, &piece_len);
		if (!line_add(line, piece, piece_len)) {
			memcpy(line->text + line->len, ELLIPSIS, 3);
			line->len += 3;
			break;
		}
		pos += n;
	}
	line->text[line->len++] = '"';
}

/* Whether a text value reads well without quotes. */
static bool is_bare(const char *s) {
	if (!*s || strlen(s) > 128)
		return false;
	for (; *s; s++)
		if ((unsigned char)*s <= ' ' || (unsigned char)*s >= 0x7f || *s == '"' || *s == '\\' || *s == '=')
			return false;
	return true;
}

static void line_fields(struct line *line, const struct log_field *fields) {
	bool first = true;

	line->limit = FIELDS_MAX;
	for (; fields && fields->key; fields++) {
		size_t before = line->len;
		char number[24];
		bool fits;

		if (line->json)
			fits = line_puts(line, first ? ",\"fields\":{\"" : ",\"") && line_puts(line, fields->key) &&
			       line_puts(line, "\":");
		else
			fits = line_puts(line, " ") && line_puts(line, fields->key) && line_puts(line, "=");
		if (!fits || line_room(line) < 32) {
			line->len = before;
			break;
		}
		first = false;
		if (!fields->text) {
			snprintf(number, sizeof number, "%lld", fields->number);
			line_puts(line, number);
		} else if (line->json || !is_bare(fields->text) || !line_puts(line, fields->text)) {
			line_quoted(line, fields->text);
		}
	}
	if (line->json && !first)
		line->text[line->len++] = '}';
}

static void line_compose(struct line *line, enum log_level level, const char *event, const struct log_field *fields,
			 const char *message) {
	uint64_t wall_ns = clock_wall_ns();
	time_t seconds = (time_t)(wall_ns / NS_PER_S);
	struct tm tm;
	char stamp[32], head[192];

	gmtime_r(&seconds, &tm);
	strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &tm);
	int ms = (int)(wall_ns % NS_PER_S / NS_PER_MS);

	line->len = 0;
	line->limit = sizeof line->text - TAIL_ROOM;
	line->json = atomic_load_explicit(&log_format, memory_order_relaxed) == LOG_FORMAT_JSON;
	if (line->json)
		snprintf(head, sizeof head, "{\"ts\":\"%s.%03dZ\",\"level\":\"%s\",\"event\":\"%.63s\"", stamp, ms,
			 level_name(level), event);
	else
		snprintf(head, sizeof head, "%s.%03dZ %-5s %.63s", stamp, ms, level_name(level), event);
	line_puts(line, head);
	line_fields(line, fields);
	line->limit = sizeof line->text - TAIL_ROOM;
	line_puts(line, line->json ? ",\"message\":" : " ");
	line_quoted(line, message);
	if (line->json)
		line->text[line->len++] = '}';
	line->text[line->len++] = '\n';
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

static void write_locked(const struct line *line) {
	if (shared.dropped > 0) {
		struct line lost;
		char message[128];
		snprintf(message, sizeof message, "stderr was full: %llu lines of the log were dropped",
			 (unsigned long long)shared.dropped);
		line_compose(&lost, LOG_LEVEL_WARNING, "log_lines_dropped",
			     LOG_FIELDS(LOG_NUMBER("lines", shared.dropped)), message);
		if (try_write_locked(lost.text, lost.len))
			shared.dropped = 0;
	}
	if (!try_write_locked(line->text, line->len))
		shared.dropped++;
}

/* Ends a run: says how often its message came again, if it did. */
static void run_end_locked(struct run *run) {
	if (run->repeats > 0) {
		struct line line;
		char message[RUN_KEY_MAX + 64];
		snprintf(message, sizeof message, "repeated %llu more times: %s", (unsigned long long)run->repeats,
			 run->message);
		line_compose(&line, run->level, run->event, LOG_FIELDS(LOG_NUMBER("repeats", run->repeats)), message);
		write_locked(&line);
	}
	run->used = false;
}

static void end_old_runs_locked(uint64_t now_ns, bool all) {
	for (int i = 0; i < RUNS; i++) {
		struct run *run = &shared.runs[i];
		if (run->used && (all || now_ns - run->started_ns >= NS_PER_S))
			run_end_locked(run);
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

/* True when the message came less than a second ago: it is counted. Otherwise it begins a run. */
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
		run_end_locked(oldest);
	*oldest = (struct run){.used = true, .level = level, .started_ns = now_ns, .hash = hash};
	copy_cut(oldest->event, sizeof oldest->event, event);
	copy_cut(oldest->message, sizeof oldest->message, message);
	return false;
}

void log_event(enum log_level level, const char *event, const struct log_field *fields, const char *fmt, ...) {
	char message[MESSAGE_MAX + 8];
	struct line line;
	va_list args;

	if (!log_enabled(level))
		return;
	va_start(args, fmt);
	int len = vsnprintf(message, MESSAGE_MAX, fmt, args);
	va_end(args);
	if (len < 0)
		return;
	if (len >= MESSAGE_MAX) {
		char whole[MESSAGE_MAX];
		memcpy(whole, message, sizeof whole);
		whole[sizeof whole - 1] = '\0';
		copy_cut(message, MESSAGE_MAX - 4, whole);
		memcpy(message + strlen(message), ELLIPSIS, sizeof ELLIPSIS);
	}
	pthread_mutex_lock(&shared.mutex);
	if (!is_repeat_locked(level, event, message, clock_monotonic_ns())) {
		line_compose(&line, level, event, fields, message);
		write_locked(&line);
	}
	pthread_mutex_unlock(&shared.mutex);
}

void log_flush(bool all) {
	pthread_mutex_lock(&shared.mutex);
	end_old_runs_locked(clock_monotonic_ns(), all);
	pthread_mutex_unlock(&shared.mutex);
}
