/*
 * How servers log in for a user: a password, SHA1(password) as a client's proof has shown it, or a stored secret that
 * nothing has been recovered for yet. Immutable and shared with an atomic reference count; wiped when freed. Any thread.
 */
#ifndef MYSQL_CREDENTIAL_H
#define MYSQL_CREDENTIAL_H

#include <stdbool.h>

struct my_credential;

/* `secret`: a password, *HEX, or $A$...; NULL: none (an empty password). NULL: out of memory. */
struct my_credential *my_credential_new(const char *secret);
void my_credential_unref(struct my_credential *credential); /* NULL is fine */

#endif
