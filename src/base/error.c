#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

_Bool error_set(struct error *error, int code, const char *fmt, ...) {
	/* By way of a second buffer: an argument may be error->text itself, to put something before it. */
	char text[sizeof error->text];
	va_list args;

	if (!error)
		return 0;
	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	error->code = code;
	memcpy(error->text, text, strlen(text) + 1);
	return 0;
}
