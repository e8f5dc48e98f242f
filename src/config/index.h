/* Finds things by name in constant time. Built by one thread, then read by any. */
#ifndef CONFIG_INDEX_H
#define CONFIG_INDEX_H

#include <stdbool.h>

#include "config/arena.h"

struct name_entry;

struct name_index {
	struct name_entry *entries;
};

/* `name` and `item` must outlive the index; its nodes live in `arena`. False: out of memory. The name must be
 * new. */
bool name_index_add(struct name_index *index, struct arena *arena, const char *name, void *item);
/* NULL: there is none. */
void *name_index_find(const struct name_index *index, const char *name);
/* Frees the tables (not the nodes, which are the arena's). */
void name_index_free(struct name_index *index);

#endif
