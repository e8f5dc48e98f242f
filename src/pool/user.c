/* Users of a pool, and their slots. */
#include <stdlib.h>
#include <string.h>

#include "pool/internal.h"

static void user_free(struct pool_user *user) {
	free(user->name);
	free(user);
}

static struct pool_user *user_new(struct pool *pool, const char *name) {
	size_t size = sizeof(struct pool_user) + (size_t)pool->workers * sizeof(struct slot);
	size = (size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
	struct pool_user *user = aligned_alloc(CACHE_LINE, size);
	if (!user)
		return NULL;
	memset(user, 0, size);
	user->pool = pool;
	user->name = strdup(name);
	if (!user->name) {
		free(user);
		return NULL;
	}
	atomic_init(&user->refs, 1);
	for (int i = 0; i < pool->workers; i++) {
		struct slot *slot = &user->slots[i];
		slot->user = user;
		slot->shard = &pool->shards[i];
		list_init(&slot->node);
		list_init(&slot->opening);
		list_init(&slot->busy);
		list_init(&slot->idle);
		list_init(&slot->waiters);
		for (int k = 0; k < HEADS; k++)
			atomic_init(&slot->heads[k], TIME_NEVER);
	}
	return user;
}

static struct pool_user *add_user_locked(struct pool *pool, const char *name) {
	struct pool_user *user = user_new(pool, name);
	if (!user)
		return NULL;
	unsigned before = HASH_COUNT(pool->shared.users);
	HASH_ADD_KEYPTR(hh, pool->shared.users, user->name, strlen(user->name), user);
	if (HASH_COUNT(pool->shared.users) == before + 1)
		return user;
	user_free(user);
	return NULL;
}

struct pool_user *pool_user_get(struct pool *pool, const char *name, bool *created) {
	struct pool_user *user = NULL;
	bool is_new = false;
	pthread_mutex_lock(&pool->shared.mutex);
	HASH_FIND_STR(pool->shared.users, name, user);
	if (user) {
		atomic_fetch_add(&user->refs, 1);
	} else {
		user = add_user_locked(pool, name);
		is_new = user != NULL;
	}
	pthread_mutex_unlock(&pool->shared.mutex);
	if (created)
		*created = is_new;
	return user;
}

struct pool_user *pool_user_ref(struct pool_user *user) {
	atomic_fetch_add_explicit(&user->refs, 1, memory_order_relaxed);
	return user;
}

void pool_user_unref(struct pool_user *user) {
	if (!user)
		return;
	uint32_t refs = atomic_load(&user->refs);
	while (refs > 1)
		if (atomic_compare_exchange_weak(&user->refs, &refs, refs - 1))
			return;
	/* perhaps the last: under the mutex, so that pool_user_get() does not find it meanwhile */
	struct pool *pool = user->pool;
	pthread_mutex_lock(&pool->shared.mutex);
	bool last = atomic_fetch_sub(&user->refs, 1) == 1;
	if (last)
		HASH_DEL(pool->shared.users, user);
	pthread_mutex_unlock(&pool->shared.mutex);
	if (!last)
		return;
	void *context = pool_user_context(user);
	if (context)
		pool->ops.user_freed(user, context);
	user_free(user);
}

const char *pool_user_name(const struct pool_user *user) {
	return user->name;
}

void *pool_user_context(const struct pool_user *user) {
	return atomic_load_explicit(&user->context, memory_order_acquire);
}

void pool_user_set_context(struct pool_user *user, void *context) {
	atomic_store_explicit(&user->context, context, memory_order_release);
}

struct pool *pool_user_pool(const struct pool_user *user) {
	return user->pool;
}

void pool_user_set_fixed(struct pool_user *user, bool fixed) {
	atomic_store(&user->fixed, fixed);
}

void pool_user_set_max_size(struct pool_user *user, uint32_t max_size) {
	atomic_store(&user->max_size, max_size);
}

uint32_t pool_user_size(const struct pool_user *user) {
	return permits_taken(&user->permits);
}

void pool_each_user(struct pool *pool, void (*each)(struct pool_user *user, void *context), void *context) {
	pthread_mutex_lock(&pool->shared.mutex);
	for (struct pool_user *user = pool->shared.users; user; user = user->hh.next)
		each(user, context);
	pthread_mutex_unlock(&pool->shared.mutex);
}

/* --- slots --- */

static bool slot_is_empty(const struct slot *slot) {
	return slot->opening_n + slot->busy_n + slot->idle_n + slot->waiting_n == 0;
}

void slot_link(struct slot *slot) {
	if (list_linked(&slot->node))
		return;
	pool_user_ref(slot->user);
	list_push_back(&slot->shard->slots, &slot->node);
}

void slot_unlink_later(struct slot *slot) {
	if (slot_is_empty(slot))
		slot->shard->sweep_due = true;
}

void shard_sweep(struct pool_shard *shard) {
	list_for_each_safe(node, &shard->slots) {
		struct slot *slot = list_entry(node, struct slot, node);
		if (!slot_is_empty(slot))
			continue;
		list_remove(&slot->node);
		pool_user_unref(slot->user);
	}
}
