/*
 * How the pool works.
 *
 * Parts. A pool has one shard for each worker. Each user of the pool (struct pool_user) has a slot in each
 * shard: lists of the user's opening, busy and idle connections there, and the queue of its waiters there. A
 * shard, its slots, connections and waiters are touched by their worker's thread alone. What others must know
 * is published in atomics that only the owner writes:
 *
 *	slot   waiting, heads[]   how many wait, and since when the first few do
 *	       needy, eager       how many of them are not to wait for a connection of this slot
 *	       queued_ns          when its queue last became empty
 *	       lendable           how many idle connections others could be lent
 *	       hold_ns            how long its clients hold one (worth.c)
 *	shard  lendable           the same, of all users
 *	       lru_since_ns       since when the least recently used of them is idle
 *	       want, want_*       how many permits its waiters could use, and whose turn that makes it
 *
 * and a few that all write: the permits (pool and user), pool->waiting (all waiters; what the fast path looks
 * at), user->waiting_at (which shards have waiters), slot->inbound (connections in the mail to it).
 *
 * The bound. A permit is taken before pool_ops.open and given back in pool_conn_closed(), whatever happens
 * between. pool->permits holds two numbers in one word: permits taken, and how many of those belong to
 * connections that are being closed. "Close one if there would still be more than n" is one compare-and-swap
 * on that word, so a smaller bound and the making of room never close more than they need, whoever else is at
 * it.
 *
 * States of a connection (conn_set_state() is the one way to change them; the list a connection is on is its
 * state):
 *
 *	OPENING -> BUSY -> IDLE <-> BUSY ... -> CLOSING -> CLOSED
 *	           BUSY or IDLE -> MOVING -> BUSY (on the other shard, then as if released there)
 *
 * A connection that nobody uses comes to conn_place(): it is closed (retired, too old, over the bound, its host
 * gone, the pool paused, or a starved user's turn), given to the longest waiter of its user, or kept idle.
 *
 * CLOSING keeps the permit: a backend counts as a connection until it has ended, so the session gives the permit
 * back (pool_conn_closed()) when the backend has hung up, whether the pool or the session wished it closed.
 *
 * What is wanted. A slot wants permits for those of its waiters for whom nothing is lent or opening, and only as
 * many as are worth a login (worth.c). So a permit may be free while somebody waits; it is looked at again when
 * a login's time has passed, and when the user loses its last connection.
 *
 * Hosts (hosts.c). Whoever opens takes a permit, then a place among the opens of the host that is next, then one
 * among those of the user; each may be shut by a backoff. What is reported of a host is acted upon by each shard
 * at its next tick (limits_version), and of each connection when it is released.
 *
 * Patience (exchange.c, slot_weigh()). To move a connection costs about as much as a short transaction, and under load a
 * worker is out of waiters now and then for some microseconds only, because its clients come in batches. So a waiter that
 * its own slot's connections will serve soon is left to them. Of the waiters of a slot
 *
 *	needy   are those who have waited for POOL_PATIENCE_MAX_NS; and all, where no connection of the slot is in use or
 *	        those that are, by how long clients hold one of late, will serve nobody within POOL_PATIENCE_NS. They are
 *	        lent what is idle anywhere, and a connection that is released goes to them where nobody waits for it
 *	        there, or they have waited so much longer (slot_owes()).
 *	eager   are, besides those, as many as would be served later than within POOL_PATIENCE_NS. They are lent what is
 *	        idle with a slot that rests: nobody has waited there for POOL_REST_NS, so that it is not missed at once.
 *	patient are the others. What is idle elsewhere counts as lent to them, but is not asked for; they want a permit
 *	        where one is free, but no room is made for them. (Where room is made for another user, a connection that
 *	        would be closed goes to them instead.)
 *
 * Who is not needy waits in vain no longer than POOL_PATIENCE_MAX_NS: (1) its slot has a connection in use, and whatever
 * takes that away (it is released and becomes idle, it closes, it moves) comes by conn_set_state(), which weighs the slot
 * anew and looks if more are needy or eager; if it was the last one, all are needy at once; (2) whenever a slot is
 * weighed, a wake-up is set (gate_at) at which the patience of the first of them ends, and there it is weighed and
 * looked again; (3) another worker takes one for needy by its own clock, too, if its own worker is late to say so.
 * More needy ones are a word of "publish" below; that some are eager need not be seen by anybody for this to hold. An
 * ASK is obeyed for the eager as well: whether the slot rests is for the asker to judge, lest two clocks that differ ask
 * and decline without end.
 *
 * Publish, then look. The rule that nobody waits (longer than its patience) while a usable connection is idle, or a
 * permit free, rests on both sides doing the same: first publish the own state, then look at the other's, sequentially
 * consistent. Of two such sequences at least one sees the other (in the one total order of these operations,
 * whichever look comes last comes after both publications).
 *
 *	a waiter:      publishes   queue, heads, needy, waiting_at, pool->waiting; needy again when that grows
 *	               looks at    all lendable; then publishes want, and looks at permits and lru
 *	a connection   publishes   idle, lendable
 *	goes idle:     looks at    pool->waiting, and if it is not 0 at waiting_at, needy, heads and every want
 *	a permit       publishes   permits
 *	comes back:    looks at    pool->waiting, and if it is not 0 at every shard's want
 *
 * The lesser words (heads, slot->lendable, lru_since) are stored before the word of the handshake and loaded
 * after it, so that they are at least as new. Acquire/release would not do: each side's look could then be
 * satisfied from before the other's publication became visible, and both would go to sleep. A state that only
 * takes something away (fewer idle, fewer waiters) needs no handshake: others act on it in vain and are set
 * right by the answer.
 *
 * Looking (exchange.c, shard_look()) is idempotent and looks at everything that concerns the shard, so a
 * message need carry nothing: "look" is all it says. That is why one note for each pair of shards is enough.
 * A note under way is not sent twice; its bits are cleared by the receiver before it looks, so what a sender
 * published before finding them set is seen by that look.
 *
 *	LOOK   something changed that may be for you (a permit, room to be made)
 *	ASK    I have needy (or eager) waiters and you something idle: lend it. Where nothing comes of it LOOK is the answer,
 *	       because the asker counts on what it asked for and wants no permits in its stead meanwhile
 *	FILL   min_idle is short, and yours is the shard with the fewest connections
 *
 * The other kind of message is a connection that moves. From the moment the sender decides until it arrives
 * it counts in slot->inbound of the receiver, so that a second worker does not send another for the same
 * waiter: with n inbound the n-th waiter counts as the first (heads[]). On arrival it is as if released
 * there: if the waiter has left it goes to whoever is next, anywhere, or becomes idle.
 *
 * What can go wrong, and what then.
 *	- pool_ops.detach refuses: the connection serves its own worker's waiters or stays idle ("held": not
 *	  lendable) and is offered again after POOL_DETACH_RETRY_NS. The shard that was counted on is told to
 *	  look again.
 *	- Two shards each think it is the other's turn to open: whoever defers sends LOOK; the receiver
 *	  publishes its present state before it decides, so after one round both judge by the same words and
 *	  one of them opens.
 *	- A permit is taken and given back at once (the gate was shut meanwhile): whoever did so looks again
 *	  after.
 *	- Opens fail: the host's gate shuts for a while (backoff), then lets one through at a time until one
 *	  succeeds, and a few more at a time for a while. Who wants a permit while the gate waits for its time
 *	  sets itself a wake-up; who finds it shut because a try is under way is told by whoever ends that try.
 *	  No idle connection is closed to make room while nothing can be opened, save those that tries need,
 *	  and none for its age.
 *
 * Callbacks and re-entry. Every public function runs between shard_enter() and shard_leave(). Closing
 * (ops.close) and looking are put off until the outermost one leaves, so lists never change under a loop by
 * surprise; slots that became empty are unlinked only then as well. pool_acquire() neither serves nor fails
 * anybody while it is the outermost call; what comes up then waits for a tick at once.
 *
 * Time. Each kind of timed work has one time in the shard; the earliest is the shard's wish (ops.wake_at). A
 * wish that has become needless is not withdrawn: the tick finds nothing and computes the next. With nothing
 * to wait for it is TIME_NEVER.
 *
 * Who owns what. A connection and a waiter are the session's memory, and the pool's to write until closed or
 * served. A linked slot holds a reference to its user; so does each connection. A user goes, under the pool's
 * mutex, with its last reference. The mutex is taken for that and for pool_user_get(), never on the way of a
 * transaction.
 */
#include <stdlib.h>
#include <string.h>

#include "pool/internal.h"

static void store_limits(struct pool *pool, const struct pool_limits *limits) {
	atomic_store(&pool->max_size, limits->max_size);
	atomic_store(&pool->min_idle, limits->min_idle);
	atomic_store(&pool->max_waiting, limits->max_waiting);
	atomic_store(&pool->max_size_per_user, limits->max_size_per_user);
	atomic_store(&pool->acquire_timeout, limits->acquire_timeout);
	atomic_store(&pool->idle_timeout, limits->idle_timeout);
	atomic_store(&pool->max_lifetime, limits->max_lifetime);
	atomic_store(&pool->fail_unavailable, limits->fail_unavailable);
	atomic_fetch_add(&pool->limits_version, 1);
}

static void init_shard(struct pool *pool, int index) {
	struct pool_shard *shard = &pool->shards[index];
	shard->pool = pool;
	shard->index = index;
	shard->notes = &pool->notes[index * pool->workers];
	for (int to = 0; to < pool->workers; to++) {
		shard->notes[to].message.from = shard;
		shard->notes[to].message.to = &pool->shards[to];
	}
	list_init(&shard->slots);
	list_init(&shard->idle_lru);
	list_init(&shard->waiters);
	list_init(&shard->doomed);
	list_init(&shard->closing);
	timeouts_init(&shard->deadlines);
	shard->wish_ns = TIME_NEVER;
	shard->held_at = shard->gate_at = shard->turn_at = shard->idle_at = shard->fill_at = shard->move_at =
		TIME_NEVER;
	atomic_init(&shard->lru_since_ns, TIME_NEVER);
	atomic_init(&shard->want_since_ns, TIME_NEVER);
	atomic_init(&shard->stats.oldest_wait_ns, TIME_NEVER);
}

static void *alloc_lines(size_t size) {
	size = (size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
	void *memory = aligned_alloc(CACHE_LINE, size);
	if (memory)
		memset(memory, 0, size);
	return memory;
}

struct pool *pool_new(const char *name, int workers, const struct pool_limits *limits,
		      const struct pool_ops *ops, void *context) {
	if (workers < 1 || workers > POOL_MAX_WORKERS)
		return NULL;
	struct pool *pool = alloc_lines(sizeof *pool);
	if (!pool)
		return NULL;
	pool->name = strdup(name);
	pool->shards = alloc_lines((size_t)workers * sizeof *pool->shards);
	pool->notes = calloc((size_t)workers * (size_t)workers, sizeof *pool->notes);
	if (!pool->name || !pool->shards || !pool->notes) {
		free(pool->notes);
		free(pool->shards);
		free(pool->name);
		free(pool);
		return NULL;
	}
	pool->workers = workers;
	pool->ops = *ops;
	pool->context = context;
	pthread_mutex_init(&pool->keep_mutex, NULL);
	pthread_mutex_init(&pool->shared.mutex, NULL);
	store_limits(pool, limits);
	for (int i = 1; i < POOL_MAX_HOSTS; i++)
		atomic_init(&pool->hosts[i].rank, HOST_UNWANTED);
	atomic_init(&pool->host_count, 1);
	atomic_init(&pool->places, 1);
	for (int i = 0; i < workers; i++)
		init_shard(pool, i);
	return pool;
}

bool pool_is_empty(const struct pool *pool) {
	struct pool *p = (struct pool *)pool;
	pthread_mutex_lock(&p->shared.mutex);
	bool users = p->shared.users != NULL;
	pthread_mutex_unlock(&p->shared.mutex);
	return !users && permits_taken(&p->permits) == 0 && atomic_load(&p->waiting) == 0 &&
	       atomic_load(&p->in_mail) == 0;
}

void pool_free(struct pool *pool) {
	if (!pool)
		return;
	if (!pool_is_empty(pool)) {
		log_error("pool_not_empty",
			  LOG_FIELDS(LOG_TEXT("pool", pool->name), LOG_NUMBER("connections", pool_size(pool)),
				     LOG_NUMBER("waiting", atomic_load(&pool->waiting)),
				     LOG_NUMBER("messages", atomic_load(&pool->in_mail)),
				     LOG_NUMBER("users", HASH_COUNT(pool->shared.users))),
			  "pool \"%s\" is still in use and cannot be freed", pool->name);
		return;
	}
	for (int i = 0; i < pool->workers; i++)
		timeouts_free(&pool->shards[i].deadlines);
	hosts_free(pool);
	pthread_mutex_destroy(&pool->keep_mutex);
	pthread_mutex_destroy(&pool->shared.mutex);
	free(pool->notes);
	free(pool->shards);
	free(pool->name);
	free(pool);
}

const char *pool_name(const struct pool *pool) {
	return pool->name;
}

void *pool_context(const struct pool *pool) {
	return pool->context;
}

struct pool_shard *pool_shard(struct pool *pool, int worker) {
	return &pool->shards[worker];
}

int pool_shard_index(const struct pool_shard *shard) {
	return shard->index;
}

struct pool *pool_of(const struct pool_shard *shard) {
	return shard->pool;
}

const struct pool_shard_stats *pool_shard_stats(const struct pool_shard *shard) {
	return &shard->stats;
}

struct pool_shard_stats *pool_shard_stats_mut(struct pool_shard *shard) {
	return &shard->stats;
}

void pool_fetch(const struct pool_shard *shard, const struct pool_user *user) {
	const struct slot *slot = &user->slots[shard->index];
	const struct pool_shard_stats *stats = &shard->stats;
	cache_fetch(slot, offsetof(struct slot, node));
	cache_fetch(&slot->waiting, CACHE_LINE);
	cache_fetch(shard, offsetof(struct pool_shard, deadlines));
	cache_fetch(&shard->lendable, CACHE_LINE);
	cache_fetch(stats, offsetof(struct pool_shard_stats, acquire_time));
	cache_fetch(&stats->acquire_time, CACHE_LINE);
	cache_fetch(&stats->hold_time, CACHE_LINE);
	cache_fetch(&stats->query_time, CACHE_LINE);
	cache_fetch(&stats->transaction_time, CACHE_LINE);
}

struct pool_limits pool_limits(const struct pool *pool) {
	return (struct pool_limits){
		.max_size = atomic_load(&pool->max_size),
		.min_idle = atomic_load(&pool->min_idle),
		.max_waiting = atomic_load(&pool->max_waiting),
		.max_size_per_user = atomic_load(&pool->max_size_per_user),
		.acquire_timeout = atomic_load(&pool->acquire_timeout),
		.idle_timeout = atomic_load(&pool->idle_timeout),
		.max_lifetime = atomic_load(&pool->max_lifetime),
		.fail_unavailable = atomic_load(&pool->fail_unavailable),
	};
}

uint32_t pool_size(const struct pool *pool) {
	return permits_taken(&pool->permits);
}

void pool_set_limits(struct pool *pool, const struct pool_limits *limits) {
	store_limits(pool, limits);
}

void pool_set_paused(struct pool *pool, bool paused) {
	atomic_store(&pool->paused, paused);
	atomic_fetch_add(&pool->limits_version, 1);
}

uint32_t pool_closing(const struct pool *pool) {
	return (uint32_t)(atomic_load(&pool->permits) >> 32);
}

uint32_t pool_retiring(const struct pool *pool) {
	return atomic_load(&pool->retiring);
}
