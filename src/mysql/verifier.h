/*
 * What logins by caching_sha2_password need beside stored secrets: SHA256(SHA256(password)) of users whose secret is $A$...,
 * kept once a full exchange has shown the password; and how those are asked who do not exist. One for the process,
 * bounded; any thread.
 */
#ifndef MYSQL_VERIFIER_H
#define MYSQL_VERIFIER_H

#include <stdbool.h>
#include <stdint.h>

#include "mysql/plugin.h"

bool my_verifier_find(const char *user, const char *stored, uint8_t known[MY_SHA256]);
void my_verifier_keep(const char *user, const char *stored, const uint8_t known[MY_SHA256]);

/* Where the sort of the stored secret decides how a user is asked, what was asked of existing users is what others are
 * asked, each of them always the same. */
void my_verifier_saw(enum my_secret_type type);
enum my_secret_type my_verifier_guise(const char *user);

#endif
