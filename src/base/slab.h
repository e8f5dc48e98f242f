/*
 * Objects of one size, side by side in blocks of 64 KiB: nothing lies between them, and what is allocated and freed while
 * they come and go leaves no holes among them. A block goes back when its last object does, but for one. One thread.
 *
 * In sanitizer builds each object is malloc()'s own, so that its use after it was given back is seen.
 */
#ifndef BASE_SLAB_H
#define BASE_SLAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"

struct slab {
	size_t size;
	struct list with_room; /* blocks that are not full */
	uint32_t blocks;
};

enum { SLAB_OBJECT_MAX = 8 * 1024 };

/* `size`: sizeof a type that holds a pointer or more, SLAB_OBJECT_MAX at most. */
void slab_init(struct slab *slab, size_t size);
/* Frees what is left; all objects have been given back. */
void slab_free(struct slab *slab);
/* Zeroed. NULL: out of memory. */
void *slab_take(struct slab *slab);
void slab_give(struct slab *slab, void *object);

#endif
