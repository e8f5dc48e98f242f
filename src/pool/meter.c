/* What is counted for people to look at, beside what the pool counts for itself. */
#include <string.h>

#include "pool/internal.h"

/*
 * How long connections were busy is known only when they no longer are; a graph of that would show an hour's hold as one
 * peak at its end. So what is under way counts as well: as many as are busy, times now, less the sum of when they began.
 * The three numbers belong together, and a reader that had one of them from before a change and another from after it
 * would be wrong by the age of the machine. Hence `busy_version`, odd while they change. What is written behind it is
 * written with release and read with acquire: whoever sees a new number sees the odd version too.
 */
static void change_begins(struct pool_shard_stats *stats) {
	uint64_t version = atomic_load_explicit(&stats->busy_version, memory_order_relaxed);
	atomic_store_explicit(&stats->busy_version, version + 1, memory_order_relaxed);
}

static void change_ends(struct pool_shard_stats *stats) {
	uint64_t version = atomic_load_explicit(&stats->busy_version, memory_order_relaxed);
	atomic_store_explicit(&stats->busy_version, version + 1, memory_order_release);
}

static void add64(_Atomic uint64_t *number, uint64_t by) {
	atomic_store_explicit(number, atomic_load_explicit(number, memory_order_relaxed) + by, memory_order_release);
}

static void add32(_Atomic uint32_t *number, uint32_t by) {
	atomic_store_explicit(number, atomic_load_explicit(number, memory_order_relaxed) + by, memory_order_release);
}

void meter_busy_begins(struct pool_shard *shard, const struct pool_conn *conn) {
	struct pool_shard_stats *stats = &shard->stats;
	change_begins(stats);
	add32(&stats->busy, 1);
	add64(&stats->busy_since_sum, conn->busy_since_ns);
	change_ends(stats);
}

void meter_busy_ends(struct pool_shard *shard, const struct pool_conn *conn, uint64_t now) {
	struct pool_shard_stats *stats = &shard->stats;
	uint64_t busy_ns = now > conn->busy_since_ns ? now - conn->busy_since_ns : 0;
	change_begins(stats);
	add32(&stats->busy, (uint32_t)-1);
	add64(&stats->busy_since_sum, -conn->busy_since_ns);
	add64(&stats->busy_ns, busy_ns);
	change_ends(stats);
	if (conn->lent)
		histogram_add(&stats->hold_time, busy_ns);
}

/* What it was when all that is busy began, and when: a worker's clock may be a little ahead of the reader's. */
uint64_t pool_busy_ns(const struct pool_shard *shard, uint64_t now_ns) {
	struct pool_shard_stats *stats = (struct pool_shard_stats *)&shard->stats;
	uint64_t before, busy, since, done;
	do {
		before = atomic_load_explicit(&stats->busy_version, memory_order_acquire);
		busy = atomic_load_explicit(&stats->busy, memory_order_acquire);
		since = atomic_load_explicit(&stats->busy_since_sum, memory_order_acquire);
		done = atomic_load_explicit(&stats->busy_ns, memory_order_acquire);
	} while ((before & 1) || before != atomic_load_explicit(&stats->busy_version, memory_order_relaxed));
	uint64_t under_way = busy * now_ns - since; /* both may have wrapped; their difference is what it is */
	return (int64_t)under_way > 0 ? done + under_way : done;
}

enum pool_wait meter_wait_reason(const struct slot *slot, uint64_t now) {
	const struct pool_shard *shard = slot->shard;
	const struct pool *pool = shard->pool;
	switch (pool_trouble(pool, now)) {
	case POOL_PAUSED:
		return POOL_WAIT_PAUSED;
	case POOL_NO_HOST:
	case POOL_HOSTS_DOWN:
		return POOL_WAIT_UNAVAILABLE;
	case POOL_WELL:
		break;
	}
	for (int i = 0; i < pool->workers; i++)
		if (i != shard->index && atomic_load_explicit(&slot->user->slots[i].lendable, memory_order_relaxed))
			return POOL_WAIT_LENDING;
	uint32_t own = atomic_load_explicit(&pool->max_size_per_user, memory_order_relaxed);
	if (own && permits_taken(&slot->user->permits) >= own)
		return POOL_WAIT_USER_FULL;
	bool opening = atomic_load_explicit(&slot->user->opening, memory_order_relaxed) != 0;
	if (!opening && permits_taken(&pool->permits) >= atomic_load_explicit(&pool->max_size, memory_order_relaxed))
		return POOL_WAIT_FULL;
	return POOL_WAIT_OPENING;
}

/* --- names --- */

const char *pool_wait_name(enum pool_wait why) {
	static const char *const names[POOL_WAITS] = {
		[POOL_WAIT_PAUSED] = "paused",       [POOL_WAIT_UNAVAILABLE] = "unavailable",
		[POOL_WAIT_FULL] = "pool_full",      [POOL_WAIT_USER_FULL] = "user_full",
		[POOL_WAIT_LENDING] = "other_worker", [POOL_WAIT_OPENING] = "opening",
	};
	return names[why];
}

const char *pool_connect_failure_name(enum pool_connect_failure why) {
	static const char *const names[POOL_CONNECT_FAILURES] = {
		[POOL_CONNECT_RESOLVE] = "resolve",   [POOL_CONNECT_REFUSED] = "refused",
		[POOL_CONNECT_TIMEOUT] = "timeout",   [POOL_CONNECT_NOT_READY] = "not_ready",
		[POOL_CONNECT_FULL] = "full",         [POOL_CONNECT_LOGIN] = "login",
		[POOL_CONNECT_LOST] = "lost",         [POOL_CONNECT_GIVEN_UP] = "given_up",
		[POOL_CONNECT_MEMORY] = "memory",
	};
	return names[why];
}

static const struct {
	const char *name;
	const char *reasons[3]; /* the words of pool_conn.reason that mean it */
} ENDS[POOL_ENDS] = {
	[POOL_END_LOST] = {"lost", {0}},
	[POOL_END_VIOLATION] = {"violation", {0}},
	[POOL_END_IDLE_TIMEOUT] = {"idle_timeout", {"idle_timeout"}},
	[POOL_END_MAX_LIFETIME] = {"max_lifetime", {"max_lifetime"}},
	[POOL_END_MAX_SIZE] = {"max_size", {"max_size"}},
	[POOL_END_USER_MAX_SIZE] = {"max_size_per_user", {"max_size_per_user"}},
	[POOL_END_MAKE_ROOM] = {"make_room", {"make_room", "turn"}},
	[POOL_END_PAUSED] = {"paused", {"paused"}},
	[POOL_END_HOST_DOWN] = {"host_down", {"host_down"}},
	[POOL_END_HOST_REMOVED] = {"host_removed", {"host_removed"}},
	[POOL_END_HOST_ROLE] = {"host_role", {"host_role"}},
	[POOL_END_MOVED] = {"moved_to_better_host", {"moved_to_better_host"}},
	[POOL_END_DNS] = {"address_left_dns", {"address left DNS"}},
	[POOL_END_RECONNECT] = {"reconnect", {"retired", "RECONNECT"}},
	[POOL_END_RECOVERY] = {"recovery", {0}},
	[POOL_END_VALIDATION] = {"validation", {0}},
	[POOL_END_DEDICATED] = {"dedicated", {0}},
	[POOL_END_STATEMENTS_LOST] = {"statements_lost", {"statements_lost"}},
	[POOL_END_REMOVED] = {"removed", {"shut"}},
	[POOL_END_OTHER] = {"other", {0}},
};

const char *pool_end_name(enum pool_end why) {
	return ENDS[why].name;
}

enum pool_end pool_end_of(const char *reason) {
	for (int end = 0; reason && end < POOL_ENDS; end++)
		for (int i = 0; i < 3 && ENDS[end].reasons[i]; i++)
			if (strcmp(ENDS[end].reasons[i], reason) == 0)
				return (enum pool_end)end;
	return POOL_END_OTHER;
}

/* Of PostgreSQL (its appendix A) and MySQL, where HY is the class of most. In order. */
static const char CLASSES[][3] = {"01", "02", "03", "07", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z",
				  "20", "21", "22", "23", "24", "25", "26", "27", "28", "2B", "2D", "2F",
				  "34", "38", "39", "3B", "3D", "3F", "40", "42", "44", "53", "54", "55",
				  "57", "58", "70", "72", "F0", "HV", "HY", "P0", "XA", "XX"};
enum { CLASS_COUNT = sizeof CLASSES / sizeof CLASSES[0] };
_Static_assert((int)CLASS_COUNT < (int)POOL_SQLSTATE_CLASSES, "there is room for the classes and for what is none of them");

int pool_sqlstate_class(const char *sqlstate) {
	int low = 0, high = CLASS_COUNT;
	while (low < high) {
		int middle = (low + high) / 2, order = strncmp(sqlstate, CLASSES[middle], 2);
		if (order == 0)
			return middle;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return POOL_SQLSTATE_CLASSES - 1;
}

const char *pool_sqlstate_class_name(int place) {
	return place < CLASS_COUNT ? CLASSES[place] : "other";
}
