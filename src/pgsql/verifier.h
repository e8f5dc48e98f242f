/*
 * What login needs beside stored secrets: salts that tell nothing of a user, and the SCRAM keys of users whose
 * password is stored in plaintext, derived once and kept. One for the process, bounded; any thread.
 */
#ifndef PGSQL_VERIFIER_H
#define PGSQL_VERIFIER_H

#include <stdbool.h>

#include "pgsql/scram.h"

/* A salt that is always the same for a user name, whether there is such a user or not, and random to outsiders (it
 * changes with the process). For users without a stored SCRAM secret. False: no randomness. */
bool verifier_salt(const char *user, struct scram_salt *salt);
/* The keys of this user's password for that salt, if they have been derived before. */
bool verifier_find(const char *user, const char *password, struct scram_secret *secret);
void verifier_keep(const char *user, const char *password, const struct scram_keys *keys);
/* Under the method md5 a user is asked by the sort of its stored secret. What was seen last is what users that do not
 * exist are asked by. */
void verifier_saw_scram(bool scram);
bool verifier_scram_is_usual(void);

#endif
