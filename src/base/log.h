/*
 * The log: one event a line, with a stable event name and fields, as text or JSON, to stderr.
 * Any thread may call. Values are escaped, so that nothing from a socket can forge a line. Secrets never
 * go in. A message that repeats (same event and text) within a second is counted, not repeated without end.
 *
 * Logging never waits: where stderr is a pipe that nobody empties, lines are dropped and counted.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

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
bool log_enabled(enum log_level level);
/*
 * Prints the counts of repeats whose second is over (`all`: of every run). Any thread; the main thread calls it
 * about once a second, and with `all` before the process ends. Other events do the same on their way.
 */
void log_flush(bool all);
/* Where lines go instead of stderr (tests); NULL: stderr again. A line ends in a newline. Called under the log's lock. */
void log_set_sink(void (*sink)(const char *line, size_t len));
/* `fields` may be NULL. The message is a full sentence that says what happened and what to do. */
void log_event(enum log_level level, const char *event, const struct log_field *fields, const char *fmt, ...)
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
