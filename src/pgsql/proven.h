/*
 * Which statements a server has parsed for an account before: a cache of bounded size for the whole process. A hit
 * means that a Parse outside of any transaction needs no server; a miss costs nothing but one. Any thread.
 */
#ifndef PGSQL_PROVEN_H
#define PGSQL_PROVEN_H

#include <stdbool.h>
#include <stdint.h>

struct account;

void pg_proven_note(const struct account *account, const uint8_t id[16]);
bool pg_proven_has(const struct account *account, const uint8_t id[16]);

#endif
