/*
 * User maps: which database users a name from outside (a certificate's, the operating system's) may be. The format
 * of PostgreSQL's pg_ident.conf (chapter "User Name Maps"): map, system user (or /regex), database user (or /regex,
 * or `all`; \1 stands for the first parenthesis of the system user's regex).
 */
#ifndef PGSQL_IDENT_H
#define PGSQL_IDENT_H

#include <stdbool.h>

#include "base/error.h"

struct ident; /* immutable */

/* NULL: `error` names file, line and what is wrong. Reads the disk. */
struct ident *ident_load(const char *path, struct error *error);
void ident_free(struct ident *ident); /* NULL is fine */
/* `map` NULL: the names must be equal. A map that does not exist allows nobody. Any thread. */
bool ident_allows(const struct ident *ident, const char *map, const char *system_user, const char *user);

#endif
