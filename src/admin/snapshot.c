#include "admin/snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "session/database.h"
#include "session/deadline.h"

enum { LEAKS_MAX = 64 };
/* How long the workers have to hand over their leaks. Probes of the same address wait meanwhile. */
#define LEAKS_WAIT_NS (400 * NS_PER_MS)

static uint32_t gauge(const _Atomic uint32_t *g) {
	return atomic_load_explicit((_Atomic uint32_t *)g, memory_order_relaxed);
}

static void sum_histogram(struct histogram_sum *out, const struct histogram *h) {
	for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
		out->buckets[i] += stat_read(&h->buckets[i]);
	out->sum_ns += stat_read(&h->sum_ns);
}

static void sum_counters(uint64_t *out, const stat_counter *counters, int count) {
	for (int i = 0; i < count; i++)
		out[i] += stat_read(&counters[i]);
}

/* What is counted as ended first, so that never more seems to have ended than has begun. */
static void add_shard(struct pool_snapshot *out, const struct pool_shard *shard, uint64_t now_ns, uint64_t *oldest_ns) {
	const struct pool_shard_stats *s = pool_shard_stats(shard);

	sum_counters(out->ends, s->ends, POOL_ENDS);
	sum_counters(out->connect_failures, s->connect_failures, POOL_CONNECT_FAILURES);
	sum_counters(out->wait_reasons, s->wait_reasons, POOL_WAITS);
	sum_counters(out->errors, s->errors, POOL_SQLSTATE_CLASSES);
	out->opened += stat_read(&s->opened);
	out->timeouts += stat_read(&s->timeouts);
	out->rejected += stat_read(&s->rejected);
	out->moved += stat_read(&s->moved);
	out->leaks += stat_read(&s->leaks);
	out->queries += stat_read(&s->queries);
	out->transactions += stat_read(&s->transactions);
	out->client_bytes += stat_read(&s->client_bytes);
	out->server_bytes += stat_read(&s->server_bytes);
	out->limits[DEADLINE_QUERY - 1] += stat_read(&s->query_timeouts);
	out->limits[DEADLINE_TRANSACTION - 1] += stat_read(&s->transaction_timeouts);
	out->limits[DEADLINE_IDLE_TRANSACTION - 1] += stat_read(&s->idle_transaction_timeouts);
	out->limits[DEADLINE_IDLE - 1] += stat_read(&s->client_idle_timeouts);
	out->busy_ns += pool_busy_ns(shard, now_ns);
	sum_histogram(&out->acquire, &s->acquire_time);
	sum_histogram(&out->hold, &s->hold_time);
	sum_histogram(&out->connect, &s->connect_time);
	sum_histogram(&out->query, &s->query_time);
	sum_histogram(&out->transaction, &s->transaction_time);
	out->active += gauge(&s->busy);
	out->idle += gauge(&s->idle);
	out->opening += gauge(&s->opening);
	out->waiting += gauge(&s->waiting);
	out->leaked += gauge(&s->leaked);
	for (int i = 0; i < POOL_CLIENTS; i++)
		out->clients[i] += gauge(&s->clients[i]);
	uint64_t since_ns = atomic_load_explicit((_Atomic uint64_t *)&s->oldest_wait_ns, memory_order_relaxed);
	if (since_ns < *oldest_ns)
		*oldest_ns = since_ns;
}

void snapshot_pool(struct pool_snapshot *out, struct database *database, uint64_t now_ns) {
	struct pool *pool = database->pool;
	struct pool_limits limits = pool_limits(pool);
	uint64_t oldest_ns = TIME_NEVER;

	*out = (struct pool_snapshot){
		.database = database,
		.name = database->name,
		.protocol = database->protocol->name,
		.automatic = atomic_load(&database->automatic),
		.paused = atomic_load(&database->paused),
		.disabled = atomic_load(&database->disabled),
		.trouble = pool_trouble(pool, now_ns),
		.max_size = limits.max_size,
		.min_idle = limits.min_idle,
		.closing = pool_closing(pool),
	};
	out->ready = !out->disabled && pool_is_ready(pool, now_ns);
	for (int worker = 0; worker < database->workers; worker++)
		sum_counters(out->pins, database_view(database, worker)->pins, PIN_REASONS);
	for (int worker = 0; worker < database->workers; worker++)
		add_shard(out, pool_shard(pool, worker), now_ns, &oldest_ns);
	if (oldest_ns < now_ns)
		out->oldest_wait_ns = now_ns - oldest_ns;
}

void snapshot_moment(struct pool_moment *out, struct database *database) {
	*out = (struct pool_moment){0};
	for (int worker = 0; worker < database->workers; worker++) {
		const struct pool_shard_stats *s = pool_shard_stats(pool_shard(database->pool, worker));
		out->active += gauge(&s->busy);
		out->idle += gauge(&s->idle);
		out->waiting += gauge(&s->waiting);
	}
}

/* ---- histograms ---- */

uint64_t histogram_count(const struct histogram_sum *h) {
	uint64_t count = 0;

	for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
		count += h->buckets[i];
	return count;
}

uint64_t histogram_quantile(const struct histogram_sum *h, double share) {
	static const uint64_t bounds[HISTOGRAM_BOUNDS] = HISTOGRAM_BOUND_LIST;
	double rank = share * (double)histogram_count(h), below = 0;

	if (rank <= 0)
		return 0;
	for (int i = 0; i < HISTOGRAM_BOUNDS; i++) {
		double here = (double)h->buckets[i];
		uint64_t low = i ? bounds[i - 1] : 0;
		if (below + here >= rank)
			return low + (uint64_t)((double)(bounds[i] - low) * (rank - below) / here);
		below += here;
	}
	return bounds[HISTOGRAM_BOUNDS - 1];
}

struct histogram_sum histogram_between(const struct histogram_sum *before, const struct histogram_sum *now) {
	struct histogram_sum between;

	for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
		between.buckets[i] = now->buckets[i] - before->buckets[i];
	between.sum_ns = now->sum_ns - before->sum_ns;
	return between;
}

/* ---- the process ---- */

/* Fields of /proc/self/stat behind the name, which may hold anything: "state" is the 3rd (proc(5)). */
static bool read_stat(unsigned long long fields[25]) {
	char text[1024];
	FILE *file = fopen("/proc/self/stat", "re");

	if (!file)
		return false;
	size_t len = fread(text, 1, sizeof text - 1, file);
	fclose(file);
	text[len] = 0;
	char *at = strrchr(text, ')');
	if (!at || at[1] != ' ' || !at[2])
		return false;
	at += 3; /* past the state */
	for (int field = 4; field < 25; field++) {
		char *end;
		fields[field] = strtoull(at, &end, 10);
		if (end == at)
			return false;
		at = end;
	}
	return true;
}

static double boot_time_s(void) {
	char line[256];
	unsigned long long boot = 0;
	FILE *file = fopen("/proc/stat", "re");

	while (file && !boot && fgets(line, sizeof line, file))
		if (strncmp(line, "btime ", 6) == 0)
			boot = strtoull(line + 6, NULL, 10);
	if (file)
		fclose(file);
	return (double)boot;
}

static uint64_t open_descriptors(void) {
	uint64_t count = 0;
	DIR *dir = opendir("/proc/self/fd");

	if (!dir)
		return 0;
	for (const struct dirent *entry; (entry = readdir(dir));)
		count += entry->d_name[0] != '.';
	closedir(dir);
	return count ? count - 1 : 0; /* but that of the folder itself */
}

static struct process_snapshot process_now(void) {
	struct process_snapshot p = {.start_s = -1};
	unsigned long long fields[25];
	struct rusage usage;
	struct rlimit limit;

	if (getrusage(RUSAGE_SELF, &usage) == 0)
		p.cpu_s = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
			  (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		p.max_fds = limit.rlim_cur;
	if (read_stat(fields)) {
		p.threads = fields[20];
		p.start_s = boot_time_s() + (double)fields[22] / (double)sysconf(_SC_CLK_TCK);
		p.virtual_bytes = fields[23];
		p.resident_bytes = fields[24] * (uint64_t)sysconf(_SC_PAGESIZE);
	}
	p.open_fds = open_descriptors();
	return p;
}

/* ---- all of it ---- */

static bool is_of_interest(const struct pool_snapshot *pool) {
	return !atomic_load(&pool->database->removed) || pool->active + pool->idle + pool->opening + pool->closing > 0 ||
	       atomic_load(&pool->database->clients) > 0;
}

/* Databases may be made meanwhile: those at the end of the order. */
static bool add_pools(struct snapshot *s) {
	size_t room = 0;

	for (struct database *d = database_next(NULL); d; d = database_next(d)) {
		if (s->pool_count == room) {
			room = room ? room * 2 : 16;
			struct pool_snapshot *pools = realloc(s->pools, room * sizeof *pools);
			if (!pools)
				return false;
			s->pools = pools;
		}
		snapshot_pool(&s->pools[s->pool_count], d, s->now_ns);
		s->pool_count += is_of_interest(&s->pools[s->pool_count]);
	}
	return true;
}

struct backends_found {
	struct backend **at;
	size_t count, room;
	bool failed;
};

static void find_backend(struct backend *backend, void *context) {
	struct backends_found *found = context;

	if (found->failed || !backend_configured(backend))
		return;
	if (found->count == found->room) {
		size_t room = found->room ? found->room * 2 : 16;
		struct backend **at = realloc(found->at, room * sizeof(struct backend *));
		if (!at) {
			found->failed = true;
			return;
		}
		found->at = at;
		found->room = room;
	}
	found->at[found->count++] = backend;
}

static bool add_backends(struct snapshot *s) {
	struct backends_found found = {0};

	backends_each(find_backend, &found);
	s->backends = calloc(found.count + 1, sizeof *s->backends);
	bool ok = s->backends && !found.failed;
	for (size_t i = 0; ok && i < found.count; i++) {
		struct backend_snapshot *b = &s->backends[s->backend_count++];
		b->host = backend_text(found.at[i]);
		b->protocol = protocol_by_id(backend_protocol(found.at[i]))->name;
		backend_facts(found.at[i], &b->facts);
	}
	free(found.at);
	return ok;
}

struct snapshot *snapshot_take(void) {
	struct snapshot *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->now_ns = clock_monotonic_ns();
	s->wall_ns = clock_wall_ns();
	s->workers = (uint64_t)session_workers();
	for (int i = 0; i < session_workers(); i++) {
		const struct session_worker *sw = session_worker(i);
		sum_counters(s->violations, sw->violations, INVARIANTS);
		sum_counters(s->login_errors, sw->login_errors, POOL_SQLSTATE_CLASSES);
		s->login_clients += gauge(&sw->outside_clients[0]);
		s->console_clients += gauge(&sw->outside_clients[1]);
	}
	s->process = process_now();
	if (!add_pools(s) || !add_backends(s)) {
		snapshot_free(s);
		return NULL;
	}
	return s;
}

struct snapshot *snapshot_take_pools(void) {
	struct snapshot *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->now_ns = clock_monotonic_ns();
	if (add_pools(s))
		return s;
	snapshot_free(s);
	return NULL;
}

void snapshot_free(struct snapshot *snapshot) {
	if (!snapshot)
		return;
	free(snapshot->pools);
	free(snapshot->backends);
	free(snapshot);
}

/* ---- leaks ---- */

enum visit_state { VISIT_AWAITED, VISIT_OVERDUE, VISIT_DONE };

/* Visits that were given up, and have not come back yet: until then nobody asks, and waits, again. */
static struct {
	_Atomic int overdue;
} visits;

/* Shared by the thread that asks and the workers, one after the other; whoever lets go last frees it. */
struct leak_visit {
	struct session_visit visit;
	sem_t done;
	_Atomic int users, state; /* enum visit_state */
	size_t count;
	uint64_t total;
	struct leak at[LEAKS_MAX];
};

static void leak_visit_unref(struct leak_visit *v) {
	if (atomic_fetch_sub(&v->users, 1) != 1)
		return;
	sem_destroy(&v->done);
	free(v);
}

/* Keeps the longest holds. On a worker's thread: so only as many as there is room for are looked at closely. */
static void copy_leaks(struct session_worker *sw, struct session_visit *visit) {
	struct leak_visit *v = container_of(visit, struct leak_visit, visit);
	int looked_at = 0;

	list_for_each(node, &sw->leaks.current) {
		const struct leak *leak = list_entry(node, struct leak, node);
		v->total++;
		if (++looked_at > 4 * LEAKS_MAX)
			continue;
		size_t place = v->count;
		while (place > 0 && v->at[place - 1].held_since_ns > leak->held_since_ns)
			place--;
		if (place == LEAKS_MAX)
			continue;
		if (v->count < LEAKS_MAX)
			v->count++;
		memmove(&v->at[place + 1], &v->at[place], (v->count - 1 - place) * sizeof v->at[0]);
		v->at[place] = *leak;
		v->at[place].unused_ns = leak_unused_ns(leak);
		v->at[place].client = NULL;
	}
}

static void leaks_copied(struct session_visit *visit) {
	struct leak_visit *v = container_of(visit, struct leak_visit, visit);

	if (atomic_exchange(&v->state, VISIT_DONE) == VISIT_OVERDUE)
		atomic_fetch_sub(&visits.overdue, 1);
	sem_post(&v->done);
	leak_visit_unref(v);
}

static void give_up(struct leak_visit *v) {
	int awaited = VISIT_AWAITED;

	atomic_fetch_add(&visits.overdue, 1);
	if (!atomic_compare_exchange_strong(&v->state, &awaited, VISIT_OVERDUE)) /* it has come back just now */
		atomic_fetch_sub(&visits.overdue, 1);
}

bool snapshot_leaks(struct leak *out, size_t room, size_t *count, uint64_t *total) {
	struct timespec until;
	int r;

	*count = 0;
	*total = 0;
	if (atomic_load(&visits.overdue) > 0)
		return false;
	struct leak_visit *v = calloc(1, sizeof *v);
	if (!v || sem_init(&v->done, 0, 0) != 0) {
		free(v);
		return false;
	}
	atomic_init(&v->users, 2);
	atomic_init(&v->state, VISIT_AWAITED);
	v->visit.visit = copy_leaks;
	v->visit.done = leaks_copied;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += LEAKS_WAIT_NS;
	until.tv_sec += until.tv_nsec / (long)NS_PER_S;
	until.tv_nsec %= (long)NS_PER_S;
	session_visit_all(&v->visit, session_worker(0)->worker);
	while ((r = sem_timedwait(&v->done, &until)) != 0 && errno == EINTR)
		;
	if (r == 0) {
		*count = v->count < room ? v->count : room;
		*total = v->total;
		memcpy(out, v->at, *count * sizeof *out);
	} else {
		give_up(v);
	}
	leak_visit_unref(v);
	return r == 0;
}
