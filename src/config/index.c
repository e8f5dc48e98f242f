#include "config/index.h"

#include <string.h>

/* Without this uthash ends the process when memory runs out. */
#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(entry) ((entry)->name = NULL)
#include <uthash.h>

struct name_entry {
	const char *name; /* NULL: uthash found no memory for it */
	void *item;
	UT_hash_handle hh;
};

bool name_index_add(struct name_index *index, struct arena *arena, const char *name, void *item) {
	struct name_entry *entry = arena_alloc(arena, sizeof(*entry));
	if (!entry)
		return false;
	entry->name = name;
	entry->item = item;
	HASH_ADD_KEYPTR(hh, index->entries, name, strlen(name), entry);
	return entry->name != NULL;
}

void *name_index_find(const struct name_index *index, const char *name) {
	struct name_entry *entry = NULL;

	HASH_FIND(hh, index->entries, name, strlen(name), entry);
	return entry ? entry->item : NULL;
}

void name_index_free(struct name_index *index) {
	HASH_CLEAR(hh, index->entries);
	index->entries = NULL;
}
