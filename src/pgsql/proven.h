/*
 * Which statements a server has parsed for an account before: a cache of bounded size for the whole process. A hit
 * means that a Parse outside of any transaction needs no server; a miss costs nothing but one. Any thread.
 */
#ifndef PGSQL_PROVEN_H
#define PGSQL_PROVEN_H

#include <stdbool.h>
#include <stdint.h>

/* `account`: its serial. */
void pg_proven_note(uint64_t account, const uint8_t id[16]);
bool pg_proven_has(uint64_t account, const uint8_t id[16]);

#endif
