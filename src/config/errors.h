/* Collects what is wrong with a configuration: all of it, within reason. */
#ifndef CONFIG_ERRORS_H
#define CONFIG_ERRORS_H

#include "config/config.h"

enum { CONFIG_ERRORS_SHOWN = 200 };

struct error_sink {
	struct config_errors *list; /* NULL: nobody wants to read them */
	size_t count;               /* of those met, listed or not */
};

/* `line` 0: the file as a whole. Never fails: with no memory left the error is counted all the same. */
void error_sink_add(struct error_sink *sink, const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#endif
