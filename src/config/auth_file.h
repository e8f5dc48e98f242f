/* The file of users in the form of PgBouncer's userlist.txt: a line `"name" "secret"` for each, a quote
 * within either written twice, comments behind a semicolon. */
#ifndef CONFIG_AUTH_FILE_H
#define CONFIG_AUTH_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "config/errors.h"

/* Calls `each` for every good line; `secret` is empty where there is none, both end with the call. What is
 * wrong in the file goes to `errors`. False: it could not be read, and `why` says so. Reads the disk. */
bool auth_file_read(const char *path,
		    void (*each)(void *context, const char *name, const char *secret, int line),
		    void *context, struct error_sink *errors, char *why, size_t why_room);

#endif
