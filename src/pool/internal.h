/* What the files of pool/ share. The protocol between shards is told at the top of pool.c. */
#ifndef POOL_INTERNAL_H
#define POOL_INTERNAL_H

#include <pthread.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "base/cache.h"
#include "base/log.h"
#include "pool/pool.h"

/* Where another worker may come in between; tests/unit/test_pool_interleaved.c lets one. */
#ifndef POOL_TEST_POINT
#define POOL_TEST_POINT() ((void)0)
#endif

enum { HEADS = 4 };

/* What each transaction reads or writes of these is side by side, and fetched ahead by pool_fetch(): base/cache.h. */

/* One user's part in one shard. */
struct slot {
	/* immutable */
	_Alignas(CACHE_LINE) struct pool_user *user;
	struct pool_shard *shard;

	/* owner only; two lines with those above */
	struct list idle; /* the most recently used first */
	struct list waiters;
	uint32_t idle_n, busy_n, waiting_n;
	uint32_t want;           /* permits it could use now; part of shard->want */
	struct list busy;
	uint64_t hold_mean_ns;
	uint32_t holds;          /* counted up to where they tell something (worth.c) */
	uint32_t queue_served;   /* how many have been served since ... */
	uint64_t queue_since_ns; /* ... somebody waits without a break (worth.c) */
	uint32_t opening_n, held_n;

	/* owner only, now and then */
	struct list node; /* in shard->slots while it has a connection or a waiter, referencing the user */
	struct list opening;
	uint32_t failed_seen; /* user->failed_count up to which its waiters were failed */
	uint64_t moved_ns;    /* when a connection last left for another shard, or came from one */

	/* atomic: written by the owner, read by all */
	_Alignas(CACHE_LINE) _Atomic uint32_t waiting;
	_Atomic uint32_t lendable;      /* idle and not held */
	_Atomic uint32_t needy;         /* of those who wait, how many are to have a connection from anywhere (exchange.c) */
	_Atomic uint32_t eager;         /* and how many, those included, one from where it would not be missed */
	_Atomic uint64_t active_ns;     /* when a client last acquired here */
	_Atomic uint64_t hold_ns;       /* how long clients hold a connection, on average of late; 0: not known */
	_Atomic uint64_t queued_ns;     /* when somebody last ceased to wait and nobody waited then */
	_Atomic uint64_t heads[HEADS];  /* since when its first waiters wait; TIME_NEVER: there is none */
	/* atomic: written by all */
	_Atomic uint32_t inbound; /* connections of the user in the mail to this shard */
};

/* When to try again after failed opens. */
struct backoff {
	_Atomic uint32_t failures;     /* in a row; 0: all is well */
	_Atomic uint64_t retry_at_ns;  /* not before */
	_Atomic uint64_t failed_at_ns; /* the latest failure that counted */
};

/* A host, or a place that is free for one (hosts.c). */
struct host {
	char *name; /* under pool->shared.mutex; NULL: the place is free */

	/* atomic */
	_Atomic uint32_t rank;   /* in the configured order; HOST_UNWANTED: it is not configured any more */
	_Atomic uint32_t report; /* enum host_report */
	_Atomic uint32_t conns;  /* connections that name this place, whatever their state */
	_Atomic uint32_t open, opening;
	_Atomic uint64_t ramp_until_ns; /* it has come back: connections are opened gradually until then */
	struct backoff backoff;
};

#define HOST_UNWANTED UINT32_MAX
/* HOST_SAID_SO: its role is not a monitor's finding; the host has said so itself, when it was last logged in to. */
enum host_report { HOST_IS_DOWN = 1, HOST_IS_PRIMARY = 2, HOST_IS_STANDBY = 4, HOST_SAID_SO = 8 };

struct pool_user {
	struct pool *pool;         /* immutable */
	_Atomic(void *) context;   /* atomic; read in each transaction, as the above */

	/* immutable */
	char *name;
	UT_hash_handle hh; /* under pool->shared.mutex */

	/* atomic */
	_Atomic uint32_t refs; /* falls to 0 under pool->shared.mutex only */
	_Atomic bool fixed;
	_Atomic uint32_t max_size;     /* its own bound; 0: the pool's max_size_per_user */
	_Atomic uint64_t permits;      /* its share of pool->permits, same layout */
	_Atomic uint32_t open;         /* logged in, not closed */
	_Atomic uint32_t opening;      /* being opened */
	_Atomic uint32_t failed_count; /* pool_user_failed() */
	_Atomic uint64_t waiting_at;   /* a bit for each shard where it has waiters */
	struct backoff backoff;

	struct slot slots[]; /* by worker */
};

/* The one note that a shard keeps for another: its bits say what it means. */
struct note {
	struct pool_message message;
	_Atomic uint32_t bits; /* 0: at home */
};

enum {
	NOTE_LOOK = 1, /* something changed: look again */
	NOTE_ASK = 2,  /* and lend me what is idle with you, or tell me that there is nothing */
	NOTE_FILL = 4  /* and see to min_idle */
};

struct pool_shard {
	/* immutable */
	_Alignas(CACHE_LINE) struct pool *pool;
	int index;

	/* owner only; a line with those above */
	uint32_t depth;       /* calls of the pool on the stack */
	bool look_due, sweep_due, ticking;
	bool acquiring;       /* pool_acquire() is the outermost call: it serves and fails nobody */
	bool shut;
	bool lending;         /* another shard has asked for what is idle here */
	bool paused_seen;     /* what pool->paused was when it was last acted upon */
	struct list doomed;   /* closing; ops.close is still to be called */
	struct list idle_lru; /* all idle connections, the least recently used first */
	uint64_t wish_ns;     /* what ops.wake_at was last told */
	/* next time for each kind of work; TIME_NEVER: none */
	uint64_t fill_at, idle_at, held_at, gate_at, turn_at, move_at;
	struct list waiters;  /* all waiters, the longest first */
	struct timeouts deadlines;

	/* owner only, now and then */
	struct note *notes; /* to each shard; immutable */
	struct list slots;    /* of users with a connection or a waiter here (emptied ones until the sweep) */
	struct list closing;  /* ops.close was called, or the session closes it of its own accord */
	uint32_t doomed_n, closing_n;
	uint32_t wanting_n;   /* slots that want a permit */
	uint32_t limits_seen; /* pool->limits_version applied */
	uint64_t gave;        /* shards that were sent a connection since the last note was taken up */
	uint64_t retired_ns;  /* what was opened before is to be closed */
	uint64_t turn_next_ns; /* no claim is put up before */

	/* atomic: written by the owner, read by all */
	_Alignas(CACHE_LINE) _Atomic uint32_t lendable; /* idle, not held, of all users: published last */
	_Atomic uint64_t lru_since_ns; /* since when the least recently used of those is idle */
	_Atomic uint32_t want;         /* permits that its waiters could use now */
	_Atomic uint32_t want_size;    /* of the wanting user with the fewest connections: how many */
	_Atomic uint64_t want_since_ns;/* and since when it waits */
	_Atomic bool closed;           /* shut */
	_Atomic uint32_t host_busy[POOL_MAX_HOSTS]; /* connections in use, by host */
	/* atomic: written by all */
	_Atomic uint32_t inbound; /* connections of all users in the mail to this shard */

	_Alignas(CACHE_LINE) struct pool_shard_stats stats;
};

struct pool {
	/* atomic: read often, written at a reload; a line with the first of those below */
	_Alignas(CACHE_LINE) _Atomic uint32_t max_size;
	_Atomic uint32_t min_idle, max_waiting, max_size_per_user;
	_Atomic bool fail_unavailable, paused;
	_Atomic uint32_t limits_version; /* of these and of the hosts */
	_Atomic uint32_t host_order, target, host_count;

	/* immutable */
	int workers;
	struct pool_shard *shards; /* one for each worker */
	struct pool_ops ops;       /* `now` is the first */
	void *context;
	char *name;
	struct note *notes;        /* workers * workers */

	/* atomic: written at a reload */
	_Atomic uint64_t acquire_timeout, idle_timeout, max_lifetime;

	/* atomic: written when connections open and close; a line with the first host's rank */
	_Alignas(CACHE_LINE) _Atomic uint64_t permits; /* low half: taken; high half: of those, closing */
	struct host hosts[POOL_MAX_HOSTS];
	_Atomic int places;              /* of `hosts`, how many have ever been taken */
	_Atomic uint32_t retiring; /* connections that are marked so */
	_Atomic uint32_t in_mail;  /* messages */
	_Atomic uint32_t rotor;    /* round robin: the rank that is next */
	_Atomic uint64_t login_ns; /* how long logins take, on average of late; 0: not known */
	_Atomic uint64_t short_since_ns; /* since when fewer than min_idle are idle; 0: enough are */
	_Atomic uint64_t expire_next_ns; /* max_lifetime: no other is retired before */
	_Atomic uint64_t move_next_ns;   /* hosts: no other is moved before */

	/* atomic: written when a client has to wait */
	_Alignas(CACHE_LINE) _Atomic uint32_t waiting;

	/* atomic: the claim of a starved user (turns.c) */
	struct {
		_Atomic(struct pool_user *) user; /* compared, never followed */
		_Atomic uint32_t min_size;        /* only of a user with at least so many connections */
		_Atomic uint64_t next_ns;         /* not before */
	} claim;

	pthread_mutex_t keep_mutex; /* only tried, never waited for: whoever trims or fills min_idle */
	struct {
		pthread_mutex_t mutex;
		struct pool_user *users;
	} shared;
};

/* --- shard.c: entering and leaving, wake-ups --- */

/* Every public function that may change something is between these. */
static inline void shard_enter(struct pool_shard *shard) {
	shard->depth++;
}
void shard_settle(struct pool_shard *shard);
static inline void shard_leave(struct pool_shard *shard) {
	if (shard->depth == 1 && (shard->look_due || shard->sweep_due || !list_empty(&shard->doomed)))
		shard_settle(shard);
	shard->depth--;
}
/* Sets `*at` (one of the shard's times) no later than `time` and wishes to be woken then. */
void shard_wake(struct pool_shard *shard, uint64_t *at, uint64_t time);
static inline uint64_t shard_now(struct pool_shard *shard) {
	return shard->pool->ops.now(shard);
}

/* --- user.c --- */

static inline struct slot *slot_of(struct pool_user *user, const struct pool_shard *shard) {
	return &user->slots[shard->index];
}
struct place { /* where somebody waits */
	struct slot *slot;
	uint64_t since_ns;
	uint32_t inbound;
};
/* Which waiters of other shards count (pool.c, "Patience"): those who are to have a connection from anywhere; also those
 * for whom one is to come from where it is not missed; all. */
enum among { AMONG_NEEDY, AMONG_EAGER, AMONG_ALL };
/* The longest waiter of the slot's user on other shards, for whom no connection is on its way. False: nobody.
 * */
bool user_oldest_elsewhere(const struct slot *slot, enum among among, uint64_t now, struct place *place);
/* Works out how many of the slot's waiters need a connection from elsewhere, publishes that, and sees to it that it is
 * worked out again when the patience of the others ends. True: they are more than before; then look. */
bool slot_weigh(struct slot *slot, uint64_t now);
/* Whether who waits there has waited so much longer than one of this slot (since then) that it goes first. */
bool slot_owes(const struct slot *slot, const struct place *place, uint64_t own_since_ns, uint64_t now);
/* Whether somebody elsewhere is owed a connection that a newcomer could have. */
bool user_waits_elsewhere(const struct slot *slot, uint64_t now);
/* Links the slot into its shard: it has something from now on. */
void slot_link(struct slot *slot);
/* To be called where it may have become empty; it is unlinked when the outermost call returns. */
void slot_unlink_later(struct slot *slot);
/* Unlinks what is empty. May free users. */
void shard_sweep(struct pool_shard *shard);

/* --- meter.c --- */

/* A connection is busy from now on (busy_since_ns is set) or no longer; the gauge `busy` is among what they write. */
void meter_busy_begins(struct pool_shard *shard, const struct pool_conn *conn);
void meter_busy_ends(struct pool_shard *shard, const struct pool_conn *conn, uint64_t now);
/* Why one that is queued now has to wait. */
enum pool_wait meter_wait_reason(const struct slot *slot, uint64_t now);

/* --- waiter.c --- */

void waiter_remove(struct pool_waiter *waiter);
/* Hands a connection (busy or idle here) to a waiter of its shard. */
void waiter_serve(struct pool_waiter *waiter, struct pool_conn *conn);
void waiter_fail(struct pool_waiter *waiter, enum pool_fail why);
static inline struct pool_waiter *slot_first_waiter(const struct slot *slot) {
	struct list *node = list_first(&slot->waiters);
	return node ? list_entry(node, struct pool_waiter, node) : NULL;
}

/* --- conn.c --- */

/* The one way to change a connection's state: it alone moves it between lists. */
void conn_set_state(struct pool_conn *conn, enum pool_conn_state state, uint64_t now);
/* Closes it when the outermost call returns. `claimed`: it is counted as closing already. */
void conn_doom(struct pool_conn *conn, const char *reason, bool claimed);
/* A connection that nobody uses (busy here): closes it, hands it to whoever is next, or keeps it idle. */
void conn_place(struct pool_conn *conn);
/* Serves its user's longest waiter, here or elsewhere, if there is any (busy or idle here); of those elsewhere, where
 * nobody waits here, only `among`. */
bool conn_give(struct pool_conn *conn, enum among among, uint64_t now);
/* Among whom a connection that nobody here waits for is given away. */
enum among slot_lends_to(const struct slot *slot, uint64_t now);
void conn_set_held(struct pool_conn *conn, bool held);
void conn_set_retire(struct pool_conn *conn, const char *reason);
/* The most recently used idle one, only such as may go to other workers where `lendable`. */
struct pool_conn *slot_idle_conn(const struct slot *slot, bool lendable);
uint64_t conn_expiry(const struct pool_conn *conn, uint64_t max_lifetime);
/* Why one that nobody uses is to be closed; NULL: it is not. */
const char *conn_ends(const struct pool_conn *conn, uint64_t now);

/* --- permits.c --- */

static inline uint32_t permits_taken(const _Atomic uint64_t *permits) {
	return (uint32_t)atomic_load(permits);
}
/* Of the pool: how many more could be taken now. */
uint32_t permits_free(const struct pool *pool);
bool permit_take(struct pool_user *user);
/* `closing`: it was counted so. */
void permit_return(struct pool_user *user, bool closing);
/* A connection of this user is going to be closed. */
void permit_mark_closing(struct pool_user *user);
/* Marks one as closing if the pool would still have more than `keep` that are not; exact, whoever else tries.
 * */
bool permit_claim_excess(struct pool_user *user, uint32_t keep);
/* The bound of this user's connections within that of the pool; UINT32_MAX: none. */
uint32_t user_limit(const struct pool_user *user);
/* Marks one as closing if its user has more than that. */
bool permit_claim_user_excess(struct pool_user *user);
/* How many could be opened for this user, the bound of the pool and its backoff apart: by its own limit and
 * backoff. `*retry_at` becomes earlier where only time is missing. */
uint32_t user_room(struct pool_user *user, uint64_t now, uint64_t *retry_at);

enum gate { GATE_OPEN, GATE_PROBE, GATE_BUSY, GATE_WAIT };
/* Whether opens are in order: yes; one only (after failures); not until that one is done; not before
 * `*retry_at`, which becomes earlier. */
enum gate backoff_gate(const struct backoff *backoff, const _Atomic uint32_t *opening, uint64_t now,
		       uint64_t *retry_at);
/* Delays from `min_ns`, doubling, to `max_ns`, less a random part of up to a quarter. */
void backoff_failed(struct backoff *backoff, uint64_t began, uint64_t now, uint64_t random, uint64_t min_ns,
		    uint64_t max_ns);
/* Counts one in, unless there are `limit` already. */
bool count_below(_Atomic uint32_t *count, uint32_t limit);
static inline void backoff_clear(struct backoff *backoff) {
	if (atomic_load_explicit(&backoff->failures, memory_order_relaxed))
		atomic_store(&backoff->failures, 0);
}
static inline bool backoff_failing(const struct backoff *backoff) {
	return atomic_load(&backoff->failures) != 0;
}
/* ... and that is news: a failure that nobody has tried to repeat for so long says nothing of now. */
#define FAILURE_STALE_NS (30 * NS_PER_S)
static inline bool backoff_failing_now(const struct backoff *backoff, uint64_t now) {
	return backoff_failing(backoff) && now < atomic_load(&backoff->failed_at_ns) + FAILURE_STALE_NS;
}

/* --- hosts.c --- */

/* How many could be opened now, as far as the hosts go; the next at `*host` (may be NULL). Where it is less than wanted,
 * `*retry_at` becomes earlier if only time is missing, else whoever ends a try sees to it, or a report. */
uint32_t hosts_room(struct pool *pool, uint64_t now, uint64_t *retry_at, int *host);
/* Takes a place among those that are being opened at a host; -1: none can be. */
int host_begin(struct pool *pool, uint64_t now);
static inline void host_end(struct pool *pool, int host) {
	atomic_fetch_sub(&pool->hosts[host].opening, 1);
}
/* An open has failed; `began`: when it was begun. */
void host_failed(struct pool_shard *shard, int host, uint64_t began, enum pool_open_failure failure);
/* A login has succeeded. */
void host_succeeded(struct pool *pool, int host, uint64_t now);
/* No host that is fit to use is known to work. */
bool hosts_failing(const struct pool *pool, uint64_t now);
/* Why connections of this host are to be closed; NULL: they are not. */
const char *host_ends(const struct pool *pool, int host);
/* Moves one connection to where it would be opened now, if it is time; sees to the next. */
void hosts_move(struct pool_shard *shard, uint64_t now);
void hosts_free(struct pool *pool);

/* --- worth.c --- */

/* How many connections are worth opening for the `short_n` waiters of a slot for whom nothing is on its way. Where it
 * is fewer, `*again_at` becomes the time at which to ask again. */
uint32_t worth_opening(const struct slot *slot, uint32_t short_n, uint64_t now, uint64_t *again_at);
void worth_held(struct slot *slot, uint64_t held_ns);
void worth_login(struct pool *pool, uint64_t took_ns);

/* --- exchange.c --- */

void note_send(struct pool_shard *from, struct pool_shard *to, uint32_t bits);
/* Permits that a shard could use, as far as others can tell; not counting what is in the mail to it. When
 * that arrives it looks for itself. */
uint32_t shard_wants(const struct pool_shard *shard);
/* Looks at everything once: who can be served, lent to, closed for or opened for. */
void shard_look(struct pool_shard *shard);
/* Works out anew what a slot wants, asks others to lend, publishes. */
void slot_refresh_want(struct slot *slot);
/* Waiters of this slot need not wait: nothing works, nothing can be opened now, and the pool is to say so. */
bool slot_is_unavailable(const struct slot *slot, uint64_t *retry_at);
/* After a new waiter, with which the slot was weighed: what can be done for it. */
void slot_seek(struct slot *slot, uint64_t now);
/* Tells the other shards where this user has waiters to look again. */
void user_tell(struct pool_user *user, struct pool_shard *from);

/* --- open.c --- */

/* Begins to open one; takes the permit. False: no permit, the gate is shut, or it could not begin. */
bool slot_open(struct slot *slot);
/* Opens for waiters here, as far as it is their turn, and tells those elsewhere whose turn it is. */
void shard_open(struct pool_shard *shard);
/* Closes idle ones where waiters want permits or the bound shrank, here or by a note to another shard. */
void shard_make_room(struct pool_shard *shard);

/* --- turns.c --- */

/* Sees to it that a starved user is noticed in time. */
void turn_watch(struct slot *slot);
void turn_tick(struct pool_shard *shard, uint64_t now);
/* The slot wants nothing any more: its user's claim lapses. */
void turn_forget(struct slot *slot);
/* A connection is free: whether it is to be closed for a starved user of another name. Takes the claim. */
bool turn_take(struct pool_conn *conn, uint64_t now);

/* --- keep.c --- */

/* An idle or released connection has reached its max_lifetime: whether it is its turn to go, so that they never go
 * all at once. */
bool keep_expires(const struct pool_conn *conn, uint64_t now);
/* One that has expired and is kept, because it is not its turn or its successor is to come first: begins to open that.
 * When to look again. */
uint64_t keep_expired(struct pool_conn *conn, uint64_t now);
/* Closes idle connections that are due. */
void keep_idle(struct pool_shard *shard, uint64_t now);
/* Opens up to min_idle. */
void keep_fill(struct pool_shard *shard, uint64_t now);
/* A connection has become idle, or others count its times anew: wakes in time. */
void keep_watch(struct pool_shard *shard, const struct pool_conn *conn);
/* min_idle may be short: see to it `after` ns from now. */
void keep_fill_soon(struct pool_shard *shard, uint64_t now, uint64_t after);
/* New limits: all that follows from them for what is here. */
void keep_apply_limits(struct pool_shard *shard, uint64_t now);

#endif
