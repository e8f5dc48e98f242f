/*
 * Who may come in: max_clients, and max_connections of pools and of users. A place is taken in one step, so of two
 * clients for the last one, one gets it; whoever is refused holds none. Any thread; at login only.
 */
#ifndef SESSION_ADMISSION_H
#define SESSION_ADMISSION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* The clients of one user, over all pools: [user:name] max_connections. Private. */
struct user_places;

/* Takes one of `limit` places (0: no limit), of which `*taken` are taken. False: there was none left. Give it back by
 * place_return(). */
bool place_take(_Atomic uint32_t *taken, uint32_t limit);
void place_return(_Atomic uint32_t *taken);
/* The same for a user, by name. NULL: there was none left, or out of memory: then `*no_memory` is set. */
struct user_places *user_place_take(const char *name, uint32_t limit, bool *no_memory);
void user_place_return(struct user_places *places);
/* Whether they are this user's. */
bool user_places_are(const struct user_places *places, const char *name);
/* Lives as long as a place that was taken. */
const char *user_places_name(const struct user_places *places);

#endif
