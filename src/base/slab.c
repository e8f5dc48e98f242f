#include "base/slab.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

void slab_init(struct slab *slab, size_t size) {
	*slab = (struct slab){.size = size};
}

void slab_free(struct slab *slab) {
	(void)slab;
}

void *slab_take(struct slab *slab) {
	return calloc(1, slab->size);
}

void slab_give(struct slab *slab, void *object) {
	(void)slab;
	free(object);
}

#else

enum { BLOCK = 64 * 1024 };

struct free_object {
	struct free_object *next;
};

/* Lies at a multiple of its size, so that an object's address leads to it. */
struct block {
	struct list node; /* slab->with_room; alone: it is full */
	struct free_object *free;
	uint32_t used;
	uint32_t touched; /* so many objects, from the front, have ever been taken */
	_Alignas(max_align_t) unsigned char objects[];
};
_Static_assert(SLAB_OBJECT_MAX <= (BLOCK - sizeof(struct block)) / 3, "a block is for several objects");

static uint32_t capacity(const struct slab *slab) {
	return (uint32_t)((BLOCK - sizeof(struct block)) / slab->size);
}

static struct block *block_of(void *object) {
	return (struct block *)((uintptr_t)object - (uintptr_t)object % BLOCK);
}

void slab_init(struct slab *slab, size_t size) {
	*slab = (struct slab){.size = size};
	list_init(&slab->with_room);
}

void slab_free(struct slab *slab) {
	for (struct list *node; (node = list_pop_front(&slab->with_room));)
		munmap(list_entry(node, struct block, node), BLOCK);
	slab->blocks = 0;
}

static unsigned char *map(size_t size) {
	void *room = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return room == MAP_FAILED ? NULL : room;
}

/* From the system itself: malloc() would leave holes before what is aligned so. Zeroed. */
static struct block *map_block(void) {
	unsigned char *room = map(BLOCK); /* mostly it lies beside the one before, and so is aligned like it */
	if (!room || (uintptr_t)room % BLOCK == 0)
		return (struct block *)room;
	munmap(room, BLOCK);
	room = map(2 * BLOCK);
	if (!room)
		return NULL;
	size_t before = -(uintptr_t)room % BLOCK;
	if (before > 0)
		munmap(room, before);
	munmap(room + before + BLOCK, BLOCK - before);
	return (struct block *)(room + before);
}

static struct block *block_new(struct slab *slab) {
	struct block *block = map_block();
	if (!block)
		return NULL;
	list_init(&block->node);
	list_push_front(&slab->with_room, &block->node);
	slab->blocks++;
	return block;
}

void *slab_take(struct slab *slab) {
	struct list *first = list_first(&slab->with_room);
	struct block *block = first ? list_entry(first, struct block, node) : block_new(slab);
	if (!block)
		return NULL;
	void *object = block->free;
	if (object)
		block->free = block->free->next;
	else
		object = block->objects + slab->size * block->touched++;
	if (++block->used == capacity(slab))
		list_remove(&block->node);
	return memset(object, 0, slab->size);
}

void slab_give(struct slab *slab, void *object) {
	struct block *block = block_of(object);
	struct free_object *freed = object;
	freed->next = block->free;
	block->free = freed;
	block->used--;
	if (!list_linked(&block->node))
		list_push_front(&slab->with_room, &block->node);
	if (block->used > 0)
		return;
	list_remove(&block->node);
	if (list_empty(&slab->with_room)) {
		list_push_back(&slab->with_room, &block->node);
		return;
	}
	munmap(block, BLOCK);
	slab->blocks--;
}

#endif
