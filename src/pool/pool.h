/*
 * The pool: one bound for all workers, a shard for each. It knows no protocol and no socket; what it needs
 * from outside it asks through struct pool_ops, time included, so that all of its rules run under a simulated
 * clock. How it works is told at the top of pool.c.
 *
 * A pool holds connections of one database for any number of users (struct pool_user). A connection lives
 * with one worker and stays there; it moves only to a client of another worker that has waited longer than
 * all of its own, or when its own worker has nobody for it and the other cannot serve its client soon.
 *
 * Who is next. Within a user, whoever has waited longest on any worker, save that a worker serves its own
 * longest waiter first where the other has not waited more than POOL_UNFAIRNESS_NS longer. Between users, a
 * permit goes to the user with the fewest connections of those who want one (the longest wait among equals);
 * idle connections of users without waiters make room, least recently used first; and where all connections
 * are in use, one of a user who has at least two more than another, starved one is closed for it, at most
 * once in POOL_TURN_INTERVAL_NS.
 *
 * Threads: a shard, its connections and waiters are touched by their worker's thread alone. Shards talk by
 * messages (pool_ops.send): at most one note from each shard to each other, and the connections that move.
 * The permits are atomic.
 *
 * Callbacks. While one of pool_ops runs, the shard holds its own next steps back until the outermost call
 * returns. So from within `serve`, `fail` and `close` the session may call pool_acquire(),
 * pool_waiter_cancel(), pool_conn_take() and pool_conn_closed() of any connection. It should not call
 * pool_release() from within `serve`: that is tolerated (the connection is idle until the outermost call
 * ends, and no recursion comes of it), but a client that is served should run from the loop. From within
 * `open` only pool_conn_init() may be called.
 */
#ifndef POOL_POOL_H
#define POOL_POOL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cache.h"
#include "base/clock.h"
#include "base/histogram.h"
#include "base/list.h"
#include "base/stat.h"
#include "base/timeouts.h"

struct pool;
struct pool_user;
struct pool_shard;
struct pool_conn;
struct pool_waiter;

enum { POOL_MAX_WORKERS = 64, POOL_MAX_HOSTS = 16 };

/* A worker's own longest waiter goes before another worker's that has waited up to this much longer. */
#define POOL_UNFAIRNESS_NS (5 * NS_PER_MS)
/*
 * It gives one away sooner to who needs it (pool.c, "Patience"), where its own have waited less than two thirds as long and
 * the difference is more than the first of these, so that connections are where the clients are; but not twice within the
 * second: to move one costs as much as a short transaction.
 */
#define POOL_BALANCE_NS (500 * NS_PER_US)
#define POOL_BALANCE_INTERVAL_NS (1 * NS_PER_MS)
/* Who will be served by a connection of its own worker within this time does not ask others to lend theirs ... */
#define POOL_PATIENCE_NS (250 * NS_PER_US)
/* ... nor does anybody who is to be served there at all ask a worker where others had to wait within the first of these
 * times, until it has waited for the second. */
#define POOL_REST_NS (1 * NS_PER_MS)
#define POOL_PATIENCE_MAX_NS (2 * NS_PER_MS)
/* A user whose waiter has waited this long without a permit may claim a connection of a user who has more ...
 * */
#define POOL_STARVED_NS (100 * NS_PER_MS)
/* ... but no more than one connection of the pool is closed for such a claim in this time. */
#define POOL_TURN_INTERVAL_NS (100 * NS_PER_MS)
/* After acquiring, how long until min_idle is seen to. */
#define POOL_FILL_INTERVAL_NS (100 * NS_PER_MS)
/* When pool_ops.detach refused, how long until the connection is offered to other workers again. */
#define POOL_DETACH_RETRY_NS (5 * NS_PER_MS)
/* After a failed open; doubles with each further one; a random part of up to a quarter is taken off. */
#define POOL_BACKOFF_MIN_NS (10 * NS_PER_MS)
#define POOL_BACKOFF_MAX_NS (5 * NS_PER_S)
#define POOL_BACKOFF_NOT_READY_NS (250 * NS_PER_MS)
/* The first delay where a host is full. */
#define POOL_BACKOFF_FULL_NS (100 * NS_PER_MS)
/* After logins of a user that cannot heal: its first delay. */
#define POOL_BACKOFF_HOPELESS_NS (200 * NS_PER_MS)
/* A host that has come back gets, for so long, no more opens at a time than it has connections (at least one). */
#define POOL_RAMP_NS (10 * NS_PER_S)
/* A connection that would be opened at another host now (that has come back) is moved there: one in this time. */
#define POOL_MOVE_INTERVAL_NS NS_PER_S

/*
 * Limits and times of a pool; copied in, so the caller's may go. Durations in ns; 0: off. `min_idle` counts
 * over all workers and users, and no further than `max_size`. `acquire_timeout` is only kept here: the
 * deadline of a waiter is the caller's to compute.
 */
struct pool_limits {
	uint32_t max_size, min_idle, max_waiting, max_size_per_user;
	uint64_t acquire_timeout, idle_timeout, max_lifetime;
	bool fail_unavailable; /* where no connection works and none can be opened, fail at once instead of waiting */
};

/* How an open ended that did not succeed. */
enum pool_open_failure {
	POOL_OPEN_NO_FAULT,  /* given up, or a failure that pool_user_failed() has been told of */
	POOL_OPEN_FAILED,    /* the host is to be left in peace for a while, 10 ms doubling to 5 s */
	POOL_OPEN_NOT_READY, /* it is there and not ready (starting up): asked again sooner */
	POOL_OPEN_FULL       /* it is there and takes no more: asked less often from the start */
};

enum pool_conn_state {
	POOL_CONN_OPENING, /* permit held, login under way */
	POOL_CONN_IDLE,    /* on its user's idle list */
	POOL_CONN_BUSY,    /* a client, a validation or a recovery has it */
	POOL_CONN_MOVING,  /* in the mail to another shard */
	POOL_CONN_CLOSING, /* pool_ops.close was or is about to be called; permit still held */
	POOL_CONN_CLOSED   /* permit given back */
};

/*
 * What one shard tells another: a note ("look", which the pool keeps ready for each pair of shards) or a
 * connection that moves (then it is part of the pool_conn). `carrier` is room for the sender's own link, so
 * that sending allocates nothing; it is the sender's from pool_ops.send until pool_shard_receive().
 */
struct pool_message {
	struct pool_shard *from, *to;
	bool moves_conn;
	_Alignas(max_align_t) unsigned char carrier[32];
};

/* Part of what the session calls a server. All of it is the pool's to write. */
struct pool_conn {
	struct list node;     /* by state: opening, idle or busy list of its shard and user */
	struct list idle_lru; /* idle only: all that are idle in the shard, least recently used first */
	struct pool_shard *shard;
	struct pool_user *user;
	const char *reason; /* closing, or to be closed at release: why */
	enum pool_conn_state state;
	bool retire;     /* close at release instead of reuse; `reason` says why */
	int host;        /* its place among the pool's hosts */
	bool opened;     /* the login was done once */
	bool taken;      /* busy by pool_conn_take(): put back where it was */
	bool lent;       /* busy for a client: how long counts */
	bool doomed;     /* closing: pool_ops.close is still to be called */
	bool held;       /* idle, and detach refused it lately: not offered to other workers for a while */
	uint16_t jitter; /* the random part of max_lifetime, of 65536 */
	uint64_t began_ns, opened_ns, busy_since_ns;
	uint64_t idle_since_ns; /* when a client last gave it back; pool_conn_take() does not count as use */
	uint64_t expires_ns;    /* of max_lifetime, jitter included; TIME_NEVER */
	uint64_t replaced_ns;   /* expired: when its successor was begun; 0: it was not */
	struct pool_message message;
};

enum pool_fail {
	POOL_FAIL_TIMEOUT,     /* acquire_timeout went by */
	POOL_FAIL_QUEUE_FULL,  /* max_waiting reached */
	POOL_FAIL_UNAVAILABLE, /* logins fail for good, no connection of the user works: pool_user_failed() */
	POOL_FAIL_CLOSED       /* the pool was removed or the process stops */
};

/* Part of what the session calls a client; zeroed before its first use. All of it is the pool's to write. */
struct pool_waiter {
	struct list node;       /* its user's queue in the shard */
	struct list shard_node; /* all waiters of the shard, the longest first */
	struct timeout timeout;
	struct pool_shard *shard;
	struct pool_user *user;
	uint64_t since_ns;    /* began to wait */
	uint64_t deadline_ns; /* TIME_NEVER: no limit */
	bool waiting;
};

/* What the pool asks of its surroundings. Each is called on the shard's worker thread (unless it says so). */
struct pool_ops {
	uint64_t (*now)(struct pool_shard *shard); /* monotonic ns; the same within one callback */
	/* Begin to open a connection of this user to this host in this shard; the permit is taken. Create the
	 * pool_conn, call pool_conn_init() from within, later pool_conn_opened() or pool_conn_closed(). Must not call
	 * back otherwise from within. False: could not even begin (the permit is given back by the pool). */
	bool (*open)(struct pool_shard *shard, struct pool_user *user, int host);
	/* Close it: it is on no list any more. Later (or from within) pool_conn_closed() gives the permit
	 * back. Called when the pool's own lists are in order, just before the outermost call returns. */
	void (*close)(struct pool_conn *conn, const char *reason);
	/* The waiter's turn: `conn` is busy and its own now. Must not release it from within: defer. */
	void (*serve)(struct pool_waiter *waiter, struct pool_conn *conn);
	/* The waiter is off the queue and gets nothing. */
	void (*fail)(struct pool_waiter *waiter, enum pool_fail why);
	/* Carry a message to another shard's worker, where pool_shard_receive() takes it. In order. Never
	 * refuses. */
	void (*send)(struct pool_shard *from, struct pool_shard *to, struct pool_message *message);
	/* A connection leaves this worker (detach its socket from the loop) and, on the other thread,
	 * arrives. The session may refuse to let it go (false), then it stays and is asked for again
	 * POOL_DETACH_RETRY_NS later. */
	bool (*detach)(struct pool_conn *conn);
	void (*attach)(struct pool_conn *conn, struct pool_shard *to);
	/* The shard wants pool_shard_tick() at this time (replaces an earlier wish); TIME_NEVER: not at all.
	 * */
	void (*wake_at)(struct pool_shard *shard, uint64_t deadline_ns);
	uint64_t (*random)(struct pool_shard *shard); /* for jitter */
	/* The pool_user is no longer used by anything and is freed: let go of `context`. Any thread; calls
	 * nothing of the pool. */
	void (*user_freed)(struct pool_user *user, void *context);
};

/* Why a client had to wait, as things were when it began to. */
enum pool_wait {
	POOL_WAIT_PAUSED,
	POOL_WAIT_UNAVAILABLE, /* no host takes connections, or none has the role */
	POOL_WAIT_FULL,        /* all of max_size are open or being opened */
	POOL_WAIT_USER_FULL,   /* all of max_size_per_user are */
	POOL_WAIT_LENDING,     /* an idle connection is on another worker, and comes */
	POOL_WAIT_OPENING,     /* one is being opened, or is not worth it as others become free sooner */
	POOL_WAITS
};
/* How an attempt to open a connection ended that did not succeed. */
enum pool_connect_failure {
	POOL_CONNECT_RESOLVE,   /* the host's name was not found */
	POOL_CONNECT_REFUSED,   /* the host cannot be reached, or nobody listens there */
	POOL_CONNECT_TIMEOUT,   /* connect_timeout */
	POOL_CONNECT_NOT_READY, /* it is starting or stopping */
	POOL_CONNECT_FULL,      /* it takes no more connections */
	POOL_CONNECT_LOGIN,     /* it refused the login: password, no such database, ... */
	POOL_CONNECT_LOST,      /* it broke in the midst of the login */
	POOL_CONNECT_GIVEN_UP,  /* not needed any more, or another host is asked */
	POOL_CONNECT_MEMORY,
	POOL_CONNECT_FAILURES
};
/* Why an open connection was closed. */
enum pool_end {
	POOL_END_LOST,            /* by the backend, or on the way to it */
	POOL_END_VIOLATION,       /* its answers were not what was asked for */
	POOL_END_IDLE_TIMEOUT,
	POOL_END_MAX_LIFETIME,
	POOL_END_MAX_SIZE,        /* max_size is smaller now */
	POOL_END_USER_MAX_SIZE,   /* max_size_per_user is */
	POOL_END_MAKE_ROOM,       /* for another user of the pool */
	POOL_END_PAUSED,
	POOL_END_HOST_DOWN,
	POOL_END_HOST_REMOVED,
	POOL_END_HOST_ROLE,       /* the pool's target asks for another role */
	POOL_END_MOVED,           /* to a host that comes before it */
	POOL_END_DNS,             /* the host's name has other addresses now */
	POOL_END_RECONNECT,       /* an operator has asked for it */
	POOL_END_RECOVERY,        /* its client vanished, and it was not clean in time */
	POOL_END_VALIDATION,      /* it did not prove alive */
	POOL_END_DEDICATED,       /* it was one client's own */
	POOL_END_STATEMENTS_LOST, /* its prepared statements were dropped behind our back */
	POOL_END_REMOVED,         /* the pool was removed, or the process stops */
	POOL_END_OTHER,
	POOL_ENDS
};
/* Clients of the pool that are logged in. */
enum pool_client { POOL_CLIENT_IDLE, POOL_CLIENT_WAITING, POOL_CLIENT_ACTIVE, POOL_CLIENTS };

/* Classes of SQLSTATE (its first two characters) that are counted apart: pool_sqlstate_class(). The last is all others. */
enum { POOL_SQLSTATE_CLASSES = 48 };

struct pool_shard_stats { /* one writer: the shard's worker; read relaxed by anybody */
	/* written in each transaction: two cache lines, and the first of each histogram */
	_Alignas(CACHE_LINE) stat_counter acquires;
	stat_counter busy_ns;
	/* busy connections and since when: see pool_busy_ns() */
	_Atomic uint64_t busy_version, busy_since_sum;
	_Atomic uint32_t idle, busy, opening, waiting;
	_Atomic uint32_t clients[POOL_CLIENTS];
	_Atomic uint32_t leaked; /* the session writes: forebay_pool_leaked_connections, holds reported as leaks and not over */
	_Alignas(CACHE_LINE) stat_counter queries; /* the session writes, and the next */
	stat_counter transactions, client_bytes, server_bytes, query_ns, transaction_ns;
	/* how long clients waited for a connection, whatever came of it */
	stat_counter waits, wait_ns;
	struct histogram acquire_time, hold_time; /* ... and kept it */
	struct histogram query_time, transaction_time; /* the session writes */

	/* Now and then. */
	struct histogram connect_time; /* how long opening a connection took */
	stat_counter opened, closed, open_failed, timeouts, rejected, moved;
	stat_counter wait_reasons[POOL_WAITS];
	_Atomic uint64_t oldest_wait_ns; /* when the longest waiter began; TIME_NEVER: nobody waits */
	/* the session writes */
	stat_counter query_timeouts, transaction_timeouts, idle_transaction_timeouts, client_idle_timeouts;
	stat_counter connect_failures[POOL_CONNECT_FAILURES], ends[POOL_ENDS];
	stat_counter errors[POOL_SQLSTATE_CLASSES];
	stat_counter leaks; /* forebay_pool_leaks_total: holds that were reported as leaks */
};

/* Their names, as metrics have them. */
const char *pool_wait_name(enum pool_wait why);
const char *pool_connect_failure_name(enum pool_connect_failure why);
const char *pool_end_name(enum pool_end why);
/* The place of an SQLSTATE's class in `errors`; "other" has the last. */
int pool_sqlstate_class(const char *sqlstate);
const char *pool_sqlstate_class_name(int place);
/* Why the pool has closed a connection, by pool_conn.reason; POOL_END_OTHER where it has not. */
enum pool_end pool_end_of(const char *reason);
/* For how long connections of the shard have been busy, all told, those included that are. It never goes back. Any
 * thread. */
uint64_t pool_busy_ns(const struct pool_shard *shard, uint64_t now_ns);

/* A pool with `workers` shards. `context` is the session's. NULL: out of memory. */
struct pool *pool_new(const char *name, int workers, const struct pool_limits *limits,
		      const struct pool_ops *ops, void *context);
/* Whether pool_free() may be called, as far as connections, waiters, messages and users go. Any thread. */
bool pool_is_empty(const struct pool *pool);
/* All connections closed, no waiter, no message under way, no user referenced: frees it. NULL is fine. Where
 * that does not hold it frees nothing and logs so: memory that is lost is better than memory that is used. */
void pool_free(struct pool *pool);
const char *pool_name(const struct pool *pool);
void *pool_context(const struct pool *pool);
struct pool_shard *pool_shard(struct pool *pool, int worker);
int pool_shard_index(const struct pool_shard *shard);
struct pool *pool_of(const struct pool_shard *shard);
const struct pool_shard_stats *pool_shard_stats(const struct pool_shard *shard);
struct pool_shard_stats *pool_shard_stats_mut(struct pool_shard *shard);
/* Begins to fetch into the cache what this user's acquiring or releasing touches in the shard. Own worker. */
void pool_fetch(const struct pool_shard *shard, const struct pool_user *user);
/* A copy of the limits in force. Any thread. */
struct pool_limits pool_limits(const struct pool *pool);
/* Connections open or opening, of all workers and users. Any thread. */
uint32_t pool_size(const struct pool *pool);
/* New limits (reload): a smaller bound shrinks by retiring, a larger one serves waiters at once. Any thread;
 * each shard applies it at its next tick, which the caller provokes by pool_shard_tick() on each worker. */
void pool_set_limits(struct pool *pool, const struct pool_limits *limits);

/*
 * Hosts. A pool has up to POOL_MAX_HOSTS places for them; a connection belongs to one (pool_conn.host). A host keeps
 * its place as long as it is configured or has a connection. What is known of a host is reported from outside (a
 * monitor); what the pool itself has seen (failed opens) it adds: each host has a backoff of its own.
 */
enum pool_host_order { POOL_FAILOVER, POOL_ROUND_ROBIN, POOL_LEAST_BUSY };
enum pool_target { POOL_ANY, POOL_PRIMARY, POOL_STANDBY, POOL_PREFER_STANDBY };
enum pool_role { POOL_ROLE_UNKNOWN, POOL_ROLE_PRIMARY, POOL_ROLE_STANDBY };

/* The configured hosts, in their order: names are "host:port". Those that are not among them any more are retired.
 * Places are given to the new ones. False: no place is free (too many old hosts still have connections); the others
 * are in force all the same. Any thread; then tick each shard, as after pool_set_limits(). */
bool pool_set_hosts(struct pool *pool, const char *const *names, size_t count, enum pool_host_order order,
		    enum pool_target target);
/* Nobody watches the host any more: what was known of it is worth nothing. True: it is news; then tick each shard. Any
 * thread. */
bool pool_host_forget(struct pool *pool, int host);
/* A host is known to be there again: what backs off is tried at once, one first. Any thread; then tick each shard. */
void pool_host_retry(struct pool *pool, int host);
/* The name of a host at its place, copied; "" where there is none. Any thread. */
void pool_host_name(struct pool *pool, int host, char *out, size_t room);
/* The place of a host, or -1. Any thread. */
int pool_host_find(struct pool *pool, const char *name);
/* What a host has said of itself when it was logged in to; a monitor's finding counts for more, and it is asked again when
 * nothing else is to be had. True: that is news; tick each shard. Any thread. */
bool pool_host_role(struct pool *pool, int host, enum pool_role role);
/* A monitor's finding. Down, or of a role that the pool's target does not want: its idle connections are closed at
 * once, the others when they are released, and no new ones are opened. True: it is news; then tick each shard. Any thread. */
bool pool_host_report(struct pool *pool, int host, bool up, enum pool_role role);

/* Open connections of a host; and those that are being opened. Any thread. */
uint32_t pool_host_open(const struct pool *pool, int host);
uint32_t pool_host_opening(const struct pool *pool, int host);
/* Whether a monitor has reported it down. Any thread. */
bool pool_host_is_down(const struct pool *pool, int host);
/* What keeps the pool from opening connections at present. */
enum pool_trouble {
	POOL_WELL,
	POOL_PAUSED,
	POOL_NO_HOST,      /* none has the role that the target asks for */
	POOL_HOSTS_DOWN    /* opens fail, or a monitor says so, at every host that would do */
};
enum pool_trouble pool_trouble(const struct pool *pool, uint64_t now_ns);
/* Whether it can serve: min_idle is there, where it can be without a client; the hosts are not down. Any thread. */
bool pool_is_ready(struct pool *pool, uint64_t now_ns);

/* PAUSE: nobody is served, connections are closed as they become free, none are opened, until it is ended. Waiters
 * wait, within their deadlines. Any thread; then tick each shard. */
void pool_set_paused(struct pool *pool, bool paused);
/* Connections that are being closed and still count in the bound. Any thread. */
uint32_t pool_closing(const struct pool *pool);
/* Connections that are to be closed when they are released (pool_shard_retire(), shrunk, paused). Any thread. */
uint32_t pool_retiring(const struct pool *pool);

/* The user of that name in the pool, made when new; referenced (atomic). Takes the pool's mutex: at login
 * only. `*created` (may be NULL) tells whether the session must give it a context. */
struct pool_user *pool_user_get(struct pool *pool, const char *name, bool *created);
struct pool_user *pool_user_ref(struct pool_user *user);
void pool_user_unref(struct pool_user *user);
const char *pool_user_name(const struct pool_user *user);
void *pool_user_context(const struct pool_user *user);
void pool_user_set_context(struct pool_user *user, void *context);
struct pool *pool_user_pool(const struct pool_user *user);
/* The pool logs in as this user whoever the client is: min_idle is kept for it, active or not. Tick a shard
 * to have it seen to. Any thread. */
void pool_user_set_fixed(struct pool_user *user, bool fixed);
/* A bound of its own in place of max_size_per_user; 0: none. Any thread; a smaller one shrinks at release, and idle
 * connections at the next pool_set_limits(). */
void pool_user_set_max_size(struct pool_user *user, uint32_t max_size);
/* Its connections, open or opening, over all workers. Any thread. */
uint32_t pool_user_size(const struct pool_user *user);
/* Calls `each` under the pool's mutex; it must not call pool_user_get() or pool_user_unref(). */
void pool_each_user(struct pool *pool, void (*each)(struct pool_user *user, void *context), void *context);

/* Asks for a connection: one that is idle here is returned at once (busy now). NULL: the waiter is queued and
 * `*why` is -1; or it is not, and `*why` is a pool_fail (queue full, closed). The caller keeps a reference to
 * the user as long as the waiter waits. It is never served or failed before this returns. `deadline_ns`
 * TIME_NEVER: none. */
struct pool_conn *pool_acquire(struct pool_shard *shard, struct pool_user *user, struct pool_waiter *waiter,
			       uint64_t deadline_ns, int *why);
/* Who waits longest for a connection of this user in this shard, and who behind whom; NULL: nobody. Own worker. */
struct pool_waiter *pool_first_waiter(const struct pool_shard *shard, struct pool_user *user);
struct pool_waiter *pool_waiter_behind(const struct pool_waiter *waiter);
/* Leaves the queue (the client went away). Harmless when it is not in it. */
void pool_waiter_cancel(struct pool_waiter *waiter);
/* A busy connection is clean and free: it goes to the longest waiter, here or elsewhere, or becomes idle. */
void pool_release(struct pool_conn *conn);

/* Takes an idle connection out to work on it (validation): it is busy then, until pool_release() or
 * pool_conn_closed(), and goes back to its place among the idle ones. Does nothing to one that is not idle.
 * */
void pool_conn_take(struct pool_conn *conn);
/* From pool_ops.open: enters the new connection as opening. */
void pool_conn_init(struct pool_conn *conn, struct pool_shard *shard, struct pool_user *user, int host);
/* Login done: to the first waiter, or idle. */
void pool_conn_opened(struct pool_conn *conn);
/* The session closes it of its own accord, whatever its state was (not moving), and that takes a while (the backend
 * is to hang up first): it leaves its list, its permit is still held; pool_conn_closed() is to follow. */
void pool_conn_closing(struct pool_conn *conn);
/* It is gone, whatever its state was (not moving): leaves its list, gives the permit back, tells who can use
 * it; the caller frees it. `failure`, of one that was opening or has served nobody: its host backs off, and one try at
 * a time is made there until one succeeds. */
void pool_conn_closed(struct pool_conn *conn, enum pool_open_failure failure);
/* Logins of this user fail in a way that cannot heal: where no connection of the user is open, all its
 * waiters, on every worker, fail with POOL_FAIL_UNAVAILABLE. The user backs off, alone: so for such a failure
 * call this and then pool_conn_closed(conn, POOL_OPEN_NO_FAULT), and the logins of other users go on. */
void pool_user_failed(struct pool_shard *shard, struct pool_user *user);
/* Closes it now if it is idle, else when it is released or opened. `reason` is a static string. */
void pool_conn_retire(struct pool_conn *conn, const char *reason);
/* Retires every connection of the shard: idle ones close now, busy ones at release. */
void pool_shard_retire(struct pool_shard *shard);
/* The pool is configured again: undoes pool_shard_shut(). Then tick it. */
void pool_shard_reopen(struct pool_shard *shard);
/* Fails all waiters (POOL_FAIL_CLOSED) and closes idle connections; busy ones close at release, opening ones
 * when they are open; opens no more, until pool_shard_reopen(). */
void pool_shard_shut(struct pool_shard *shard);

/* Time-driven work: acquire timeouts, idle and lifetime limits, min_idle, backoff, a changed bound. Sets
 * wake_at. */
void pool_shard_tick(struct pool_shard *shard);
/* Delivers a message that pool_ops.send carried. From the loop, not from within a callback of the pool. */
void pool_shard_receive(struct pool_shard *shard, struct pool_message *message);

/* Walks this shard's connections (opening, idle and busy) and waiters. Owner's thread. From within,
 * pool_conn_closed(), pool_release() and pool_waiter_cancel() may be called of the one that is walked over.
 * */
void pool_shard_each_conn(struct pool_shard *shard, void (*each)(struct pool_conn *conn, void *context),
			  void *context);
void pool_shard_each_waiter(struct pool_shard *shard, void (*each)(struct pool_waiter *w, void *context),
			    void *context);
/* Checks all counts against all lists; NULL: sound, else what is wrong. Owner's thread. */
const char *pool_shard_audit(struct pool_shard *shard);
/* The place of a waiter in its shard's queue of its user, from 1 (walks it). */
uint32_t pool_waiter_place(const struct pool_waiter *waiter);

#endif
