/*
 * The log: one event a line, with a stable event name and fields, as text or JSON, to stderr, syslog or journald.
 * doc/log.md lists the events. Any thread may call. Values are escaped, so that nothing from a socket can forge a line.
 * Secrets never go in. A message that repeats (same event and text) within a second is counted, not repeated without end.
 *
 * Logging never waits. Where stderr is a pipe that nobody empties, lines are dropped and counted; where syslog or journald does
 * not keep up, LOG_BACKLOG_MAX bytes are kept for it and more is dropped; where nobody listens, lines go to stderr.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };
enum log_destination { LOG_TO_STDERR, LOG_TO_SYSLOG, LOG_TO_JOURNALD };

struct log_field {
	const char *key;   /* NULL ends an array of fields */
	const char *text;  /* a string; NULL: `number` counts */
	long long number;
};

static inline const char *log_text_or_empty_(const char *s) {
	return s ? s : "";
}

#define LOG_TEXT(k, v) {.key = (k), .text = log_text_or_empty_(v)}
#define LOG_NUMBER(k, v) {.key = (k), .number = (long long)(v)}
#define LOG_FIELDS(...) ((const struct log_field[]){__VA_ARGS__, {.key = NULL}})

void log_configure(enum log_level level, enum log_format format);
/*
 * Where lines go. `path` is the datagram socket of syslog or journald, NULL or empty the usual one ("@name" is in the abstract
 * namespace); `ident` and `facility` (syslog's number, such as 3 for daemon) go with each line there. At a change, what a
 * full socket has not taken yet is lost, and counted. The main thread's.
 */
void log_direct(enum log_destination destination, const char *path, const char *ident, int facility);
/* Lines that were dropped since the process began. */
uint64_t log_dropped(void);
bool log_enabled(enum log_level level);
/*
 * Prints the counts of repeats whose time is over (`all`: of every run), and sends a few of those that a full socket did not
 * take. Any thread; the main thread calls it about once a second, and with `all`, when it sends them all and waits up to half a
 * second for that, before the process ends. Other events do the same on their way. True: some are left, and somebody listens:
 * try again soon.
 */
bool log_flush(bool all);
/* Where lines go instead (tests), in stderr's form; NULL: as before. A line ends in a newline. Called under the log's lock. */
void log_set_sink(void (*sink)(const char *line, size_t len));
/* `fields` may be NULL. The message is a full sentence that says what happened and what to do. */
void log_event(enum log_level level, const char *event, const struct log_field *fields, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* The same for what is told each time, with a text that is always the same: clients that come and go. */
void log_each(enum log_level level, const char *event, const struct log_field *fields, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/*
 * log_error("listen_failed", LOG_FIELDS(LOG_TEXT("address", a)), "cannot listen on %s: %s", a, strerror(e));
 */
#define log_error(event, fields, ...) log_event(LOG_LEVEL_ERROR, event, fields, __VA_ARGS__)
#define log_warning(event, fields, ...) log_event(LOG_LEVEL_WARNING, event, fields, __VA_ARGS__)
#define log_info(event, fields, ...) log_event(LOG_LEVEL_INFO, event, fields, __VA_ARGS__)
#define log_debug(event, fields, ...)                                                                                  \
	do {                                                                                                           \
		if (log_enabled(LOG_LEVEL_DEBUG))                                                                      \
			log_event(LOG_LEVEL_DEBUG, event, fields, __VA_ARGS__);                                        \
	} while (0)

#endif
