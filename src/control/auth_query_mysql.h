/* auth_query of a pool of MySQL's: each look-up over a connection of its own, for its answer is kept (auth_query.h). */
#ifndef CONTROL_AUTH_QUERY_MYSQL_H
#define CONTROL_AUTH_QUERY_MYSQL_H

#include "session/lookup.h"

/* A thread of auth_query's. `*secret`: to be freed with secret_free(); NULL: none. LOOKUP_FAILED: `error` says why. */
enum lookup_result auth_query_mysql(const struct lookup *lookup, char **secret, char error[256]);

#endif
