/* An error as a value that travels up: a text that names the thing, a number where there is one. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

struct error {
	int code; /* an errno, or 0 */
	char text[512];
};

/* Sets the text, cut at the end of the room. Returns false, so that `return error_set(...)` reads well. */
_Bool error_set(struct error *error, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
