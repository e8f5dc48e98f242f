#include "config/errors.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void error_sink_add(struct error_sink *sink, const char *file, int line, const char *fmt, ...) {
	struct config_errors *list = sink->list;

	sink->count++;
	if (!list || sink->count > CONFIG_ERRORS_SHOWN + 1)
		return;
	struct config_error *at = realloc(list->at, (list->count + 1) * sizeof(*at));
	if (!at)
		return;
	list->at = at;
	char *name = strdup(file);
	if (!name)
		return;

	struct config_error *error = &at[list->count++];
	*error = (struct config_error){.file = name, .line = line};
	if (sink->count > CONFIG_ERRORS_SHOWN) {
		snprintf(error->text, sizeof(error->text), "there are more errors, which are not listed");
		return;
	}
	va_list args;
	va_start(args, fmt);
	vsnprintf(error->text, sizeof(error->text), fmt, args);
	va_end(args);
}

void config_errors_free(struct config_errors *errors) {
	for (size_t i = 0; i < errors->count; i++)
		free((char *)errors->at[i].file);
	free(errors->at);
	*errors = (struct config_errors){0};
}
