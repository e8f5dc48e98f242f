#include "pool_sim.h"

#include <stdlib.h>
#include <string.h>

#include "pool/internal.h"

static struct sim *sim_of(struct pool_shard *shard) {
	return pool_context(pool_of(shard));
}

static struct sim_conn *conn_of(struct pool_conn *conn) {
	return container_of(conn, struct sim_conn, conn);
}

static struct sim *current; /* the one whose between() runs */

void sim_point(void) {
	if (current && current->between)
		current->between(current->between_context);
}

/* A worker is in the midst of something; returns what to restore. */
static uint64_t at_work(struct sim *sim, int worker) {
	uint64_t before = sim->at_work;
	sim->at_work |= (uint64_t)1 << worker;
	return before;
}

static void complain(struct sim *sim, const char *what) {
	if (!sim->wrong)
		sim->wrong = what;
}

uint64_t sim_random(struct sim *sim) {
	uint64_t x = sim->random_state;
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	sim->random_state = x;
	return (x * 0x2545f4914f6cdd1dull) >> 16;
}

/* --- the pool's surroundings --- */

static uint64_t op_now(struct pool_shard *shard) {
	struct sim *sim = sim_of(shard);
	return sim->now_ns - sim->skew_ns[pool_shard_index(shard)];
}

static bool op_open(struct pool_shard *shard, struct pool_user *user, int host) {
	struct sim *sim = sim_of(shard);
	sim->tries++;
	if (sim->cannot_begin)
		return false;
	struct sim_conn *conn = calloc(1, sizeof *conn);
	conn->number = (int)++sim->opens;
	conn->ready_ns = sim->login_ns ? sim->now_ns + sim->login_ns : TIME_NEVER;
	list_push_back(&sim->conns, &conn->all);
	pool_conn_init(&conn->conn, shard, user, host);
	return true;
}

static void gone(struct sim_conn *conn, enum pool_open_failure failure) {
	struct sim *sim = sim_of(conn->conn.shard);
	uint64_t before = at_work(sim, pool_shard_index(conn->conn.shard));
	list_remove(&conn->all);
	if (conn->client)
		conn->client->conn = NULL;
	pool_conn_closed(&conn->conn, failure);
	sim->at_work = before;
	free(conn);
}

static void op_close(struct pool_conn *c, const char *reason) {
	struct sim *sim = sim_of(c->shard);
	struct sim_conn *conn = conn_of(c);
	if (conn->client)
		complain(sim, "a connection was closed under its client");
	if (c->state != POOL_CONN_CLOSING || c->doomed)
		complain(sim, "a connection to be closed is in another state");
	sim->closes++;
	sim->last_reason = reason;
	conn->closing = true;
	if (!sim->close_later)
		gone(conn, POOL_OPEN_NO_FAULT);
}

void sim_not_ready(struct sim_conn *conn) {
	gone(conn, POOL_OPEN_NOT_READY);
}

void sim_retire(struct sim_conn *conn) {
	struct sim *sim = sim_of(conn->conn.shard);
	uint64_t before = at_work(sim, pool_shard_index(conn->conn.shard));
	pool_conn_retire(&conn->conn, "told_to");
	sim->at_work = before;
}

void sim_linger(struct sim_conn *conn) {
	struct sim *sim = sim_of(conn->conn.shard);
	uint64_t before = at_work(sim, pool_shard_index(conn->conn.shard));
	if (conn->client)
		conn->client->conn = NULL;
	conn->client = NULL;
	conn->closing = true;
	pool_conn_closing(&conn->conn);
	sim->at_work = before;
}

void sim_close_done(struct sim_conn *conn) {
	gone(conn, POOL_OPEN_NO_FAULT);
}

static void op_serve(struct pool_waiter *waiter, struct pool_conn *c) {
	struct sim_client *client = container_of(waiter, struct sim_client, waiter);
	struct sim *sim = client->sim;
	struct sim_conn *conn = conn_of(c);
	if (client->outcome != SIM_WAITING || conn->client)
		complain(sim, "served a client that does not wait, or with a connection in use");
	if (c->shard != waiter->shard || c->user != waiter->user || c->state != POOL_CONN_BUSY)
		complain(sim, "served with a connection of another user, worker or state");
	client->outcome = SIM_SERVED;
	client->order = ++sim->served;
	client->served_ns = sim->now_ns;
	if (sim->release_in_serve) {
		client->conn = NULL;
		pool_release(c);
		return;
	}
	client->conn = conn;
	conn->client = client;
	list_for_each(node, &sim->clients) {
		const struct sim_client *other = list_entry(node, struct sim_client, all);
		if (other->outcome != SIM_WAITING || other->user != client->user || sim->letters)
			continue;
		uint64_t since = other->waiter.since_ns;
		if (since < waiter->since_ns && waiter->since_ns - since > sim->unfairness_ns)
			sim->unfairness_ns = waiter->since_ns - since;
	}
}

static void op_fail(struct pool_waiter *waiter, enum pool_fail why) {
	struct sim_client *client = container_of(waiter, struct sim_client, waiter);
	if (client->outcome != SIM_WAITING)
		complain(client->sim, "failed a client that does not wait");
	client->outcome = SIM_FAILED;
	client->why = (int)why;
}

static void op_send(struct pool_shard *from, struct pool_shard *to, struct pool_message *message) {
	struct sim *sim = sim_of(from);
	struct sim_letters *box = &sim->mail[pool_shard_index(from) * sim->workers + pool_shard_index(to)];
	if (box->count == SIM_MAIL || message->to != to || from == to) {
		complain(sim, "too much mail, or to the wrong address");
		return;
	}
	box->letters[(box->first + box->count++) % SIM_MAIL] = message;
	sim->letters++;
	if (message->moves_conn)
		conn_of(container_of(message, struct pool_conn, message))->moving = true;
}

static bool op_detach(struct pool_conn *c) {
	struct sim *sim = sim_of(c->shard);
	struct sim_client *meanwhile = sim->release_in_detach;
	sim->release_in_detach = NULL;
	if (meanwhile)
		sim_release(meanwhile);
	if (sim->refuse_detach || (sim->refuse_one_in && sim_random(sim) % sim->refuse_one_in == 0)) {
		sim->refusals++;
		return false;
	}
	return true;
}

static void op_attach(struct pool_conn *c, struct pool_shard *to) {
	(void)to;
	conn_of(c)->moving = false;
}

static void op_wake_at(struct pool_shard *shard, uint64_t deadline_ns) {
	sim_of(shard)->wake_ns[pool_shard_index(shard)] = deadline_ns;
}

static uint64_t op_random(struct pool_shard *shard) {
	return sim_random(sim_of(shard));
}

static void op_user_freed(struct pool_user *user, void *context) {
	(void)user;
	((struct sim *)context)->users_freed++;
}

static const struct pool_ops ops = {.now = op_now,
				    .open = op_open,
				    .close = op_close,
				    .serve = op_serve,
				    .fail = op_fail,
				    .send = op_send,
				    .detach = op_detach,
				    .attach = op_attach,
				    .wake_at = op_wake_at,
				    .random = op_random,
				    .user_freed = op_user_freed};

struct sim *sim_new(int workers, const struct pool_limits *limits) {
	struct sim *sim = calloc(1, sizeof *sim);
	sim->workers = workers;
	sim->now_ns = 1000 * NS_PER_S;
	sim->random_state = 0x9e3779b97f4a7c15ull;
	sim->mail = calloc((size_t)workers * (size_t)workers, sizeof *sim->mail);
	list_init(&sim->conns);
	list_init(&sim->clients);
	current = sim;
	sim->pool = pool_new("sim", workers, limits, &ops, sim);
	for (int i = 0; i < workers; i++)
		pool_shard_tick(pool_shard(sim->pool, i));
	return sim;
}

struct pool_user *sim_user(struct sim *sim, const char *name) {
	struct pool_user *user = pool_user_get(sim->pool, name, NULL);
	pool_user_set_context(user, sim);
	return user;
}

bool sim_free(struct sim *sim) {
	sim->between = NULL;
	sim->refuse_detach = sim->close_later = false;
	sim->refuse_one_in = 0;
	for (int i = 0; i < sim->workers; i++)
		pool_shard_shut(pool_shard(sim->pool, i));
	sim_deliver_all(sim);
	list_for_each_safe(node, &sim->clients) {
		struct sim_client *client = list_entry(node, struct sim_client, all);
		if (client->conn)
			sim_release(client);
		else
			sim_forget(client);
	}
	struct list *node;
	while ((node = list_first(&sim->conns)))
		gone(list_entry(node, struct sim_conn, all), POOL_OPEN_NO_FAULT);
	current = NULL;
	bool empty = pool_is_empty(sim->pool) && !sim->wrong;
	pool_free(sim->pool);
	free(sim->mail);
	free(sim);
	return empty;
}

/* --- clients --- */

struct sim_client *sim_acquire(struct sim *sim, int worker, struct pool_user *user, uint64_t deadline_ns) {
	struct sim_client *client = calloc(1, sizeof *client);
	client->sim = sim;
	client->user = pool_user_ref(user);
	client->worker = worker;
	list_push_back(&sim->clients, &client->all);
	struct pool_shard *shard = pool_shard(sim->pool, worker);
	uint64_t deadline = deadline_ns ? op_now(shard) + deadline_ns : TIME_NEVER;
	int why = 12345;
	client->outcome = SIM_NONE;
	uint64_t before = at_work(sim, worker);
	struct pool_conn *c = pool_acquire(shard, user, &client->waiter, deadline, &why);
	sim->at_work = before;
	if (client->outcome != SIM_NONE)
		complain(sim, "served or failed before pool_acquire() returned");
	if (c) {
		client->conn = conn_of(c);
		if (client->conn->client || c->state != POOL_CONN_BUSY || c->shard != shard)
			complain(sim, "acquired a connection that is in use or elsewhere");
		client->conn->client = client;
		client->outcome = SIM_SERVED;
		client->order = ++sim->served;
		client->served_ns = sim->now_ns;
	} else {
		client->outcome = why == -1 ? SIM_WAITING : SIM_FAILED;
		client->why = why;
	}
	return client;
}

void sim_forget(struct sim_client *client) {
	uint64_t before = at_work(client->sim, client->worker);
	pool_waiter_cancel(&client->waiter);
	client->sim->at_work = before;
	list_remove(&client->all);
	pool_user_unref(client->user);
	free(client);
}

void sim_release(struct sim_client *client) {
	struct sim_conn *conn = client->conn;
	client->conn = NULL;
	conn->client = NULL;
	sim_give_back(conn);
	sim_forget(client);
}

/* --- connections --- */

struct sim_conn *sim_opening(struct sim *sim) {
	list_for_each(node, &sim->conns) {
		struct sim_conn *conn = list_entry(node, struct sim_conn, all);
		if (conn->conn.state == POOL_CONN_OPENING)
			return conn;
	}
	return NULL;
}

void sim_login(struct sim_conn *conn, bool ok) {
	if (!ok) {
		gone(conn, POOL_OPEN_FAILED);
		return;
	}
	struct sim *sim = sim_of(conn->conn.shard);
	uint64_t before = at_work(sim, pool_shard_index(conn->conn.shard));
	pool_conn_opened(&conn->conn);
	sim->at_work = before;
	uint64_t login = atomic_load(&sim->pool->login_ns);
	if (login > sim->longest_login_ns)
		sim->longest_login_ns = login;
}

void sim_login_all(struct sim *sim) {
	struct sim_conn *conn;
	while ((conn = sim_opening(sim)))
		sim_login(conn, true);
}

void sim_die(struct sim_conn *conn) {
	gone(conn, conn->conn.state == POOL_CONN_OPENING ? POOL_OPEN_FAILED : POOL_OPEN_NO_FAULT);
}

void sim_take(struct sim_conn *conn) {
	struct sim *sim = sim_of(conn->conn.shard);
	uint64_t before = at_work(sim, pool_shard_index(conn->conn.shard));
	pool_conn_take(&conn->conn);
	sim->at_work = before;
}

void sim_give_back(struct sim_conn *conn) {
	struct sim *sim = sim_of(conn->conn.shard);
	uint64_t before = at_work(sim, pool_shard_index(conn->conn.shard));
	pool_release(&conn->conn);
	sim->at_work = before;
}

void sim_hopeless(struct sim_conn *conn) {
	struct sim *sim = sim_of(conn->conn.shard);
	uint64_t before = at_work(sim, pool_shard_index(conn->conn.shard));
	pool_user_failed(conn->conn.shard, conn->conn.user);
	sim->at_work = before;
	gone(conn, POOL_OPEN_NO_FAULT);
}

unsigned sim_count(struct sim *sim, enum pool_conn_state state) {
	unsigned n = 0;
	list_for_each(node, &sim->conns)
		n += list_entry(node, struct sim_conn, all)->conn.state == state;
	return n;
}

unsigned sim_waiting(struct sim *sim) {
	unsigned n = 0;
	list_for_each(node, &sim->clients)
		n += list_entry(node, struct sim_client, all)->outcome == SIM_WAITING;
	return n;
}

/* --- mail and time --- */

bool sim_deliver(struct sim *sim, int from, int to) {
	struct sim_letters *box = &sim->mail[from * sim->workers + to];
	if (!box->count || sim_at_work(sim, to))
		return false;
	struct pool_message *message = box->letters[box->first];
	box->first = (box->first + 1) % SIM_MAIL;
	box->count--;
	sim->letters--;
	uint64_t before = at_work(sim, to);
	pool_shard_receive(pool_shard(sim->pool, to), message);
	sim->at_work = before;
	return true;
}

void sim_deliver_all(struct sim *sim) {
	for (unsigned rounds = 0; sim->letters; rounds++) {
		if (rounds == 10000) {
			complain(sim, "mail without end");
			return;
		}
		for (int from = 0; from < sim->workers; from++)
			for (int to = 0; to < sim->workers; to++)
				sim_deliver(sim, from, to);
	}
}

void sim_tick(struct sim *sim, int worker) {
	uint64_t before = at_work(sim, worker);
	pool_shard_tick(pool_shard(sim->pool, worker));
	sim->at_work = before;
}

void sim_tick_due(struct sim *sim) {
	for (int i = 0; i < sim->workers; i++) {
		struct pool_shard *shard = pool_shard(sim->pool, i);
		for (unsigned rounds = 0; !sim_at_work(sim, i) && sim->wake_ns[i] <= op_now(shard); rounds++) {
			sim->ticks++;
			sim_tick(sim, i);
			if (rounds == 1000) {
				complain(sim, "ticks without end");
				return;
			}
		}
	}
}

static uint64_t next_event(struct sim *sim) {
	uint64_t next = TIME_NEVER;
	for (int i = 0; i < sim->workers; i++)
		if (sim->wake_ns[i] != TIME_NEVER && sim->wake_ns[i] + sim->skew_ns[i] < next)
			next = sim->wake_ns[i] + sim->skew_ns[i];
	list_for_each(node, &sim->conns) {
		const struct sim_conn *conn = list_entry(node, struct sim_conn, all);
		if (conn->conn.state == POOL_CONN_OPENING && conn->ready_ns < next)
			next = conn->ready_ns;
	}
	return next;
}

static bool login_due(struct sim *sim) {
	list_for_each(node, &sim->conns) {
		struct sim_conn *conn = list_entry(node, struct sim_conn, all);
		if (conn->conn.state == POOL_CONN_OPENING && conn->ready_ns <= sim->now_ns) {
			sim_login(conn, !sim->logins_fail);
			return true;
		}
	}
	return false;
}

void sim_pass(struct sim *sim, uint64_t ns) {
	uint64_t end = sim->now_ns + ns;
	for (;;) {
		sim_deliver_all(sim);
		sim_tick_due(sim);
		while (login_due(sim))
			;
		sim_deliver_all(sim);
		uint64_t next = next_event(sim);
		if (sim->wrong || next > end)
			break;
		if (next > sim->now_ns)
			sim->now_ns = next;
	}
	sim->now_ns = end;
}

void sim_retire_all(struct sim *sim) {
	for (int i = 0; i < sim->workers; i++) {
		uint64_t before = at_work(sim, i);
		pool_shard_retire(pool_shard(sim->pool, i));
		sim->at_work = before;
	}
}

void sim_set_limits(struct sim *sim, const struct pool_limits *limits) {
	pool_set_limits(sim->pool, limits);
	for (int i = 0; i < sim->workers; i++)
		sim_tick(sim, i);
}

/* --- what must hold --- */

const char *sim_check(struct sim *sim) {
	if (sim->wrong)
		return sim->wrong;
	uint32_t listed = 0, others = 0, all = 0;
	for (int i = 0; i < sim->workers; i++) {
		struct pool_shard *shard = pool_shard(sim->pool, i);
		const char *audit = pool_shard_audit(shard);
		if (audit)
			return audit;
		const struct pool_shard_stats *stats = pool_shard_stats(shard);
		listed += stats->opening + stats->busy + stats->idle;
	}
	list_for_each(node, &sim->conns) {
		const struct sim_conn *conn = list_entry(node, struct sim_conn, all);
		enum pool_conn_state state = conn->conn.state;
		all++;
		others += conn->moving || conn->closing;
		if (conn->moving != (state == POOL_CONN_MOVING) || conn->closing != (state == POOL_CONN_CLOSING))
			return "a connection's state is not what happens to it";
		if (conn->client && state != POOL_CONN_BUSY)
			return "a client holds a connection that is not busy";
	}
	if (all != listed + others)
		return "a connection is on no list, or on two";
	if (all != pool_size(sim->pool))
		return "permits and connections differ";
	return NULL;
}

/* Permits that waiters of this client's user and worker could use and are worth it. Other workers are not told of all
 * that makes one worth it; but it is seen to by the time that a login takes. */
static uint32_t uncovered(struct sim *sim, const struct sim_client *client) {
	const struct slot *slot = &client->user->slots[client->worker];
	uint64_t again = TIME_NEVER, now = op_now(slot->shard), login = sim->longest_login_ns;
	uint32_t short_n = slot->waiting_n > slot->opening_n ? slot->waiting_n - slot->opening_n : 0;
	if (atomic_load(&client->user->open) && login && (slot->queue_since_ns + login >= now || slot->opening_n))
		return 0;
	return worth_opening(slot, short_n, now, &again);
}

static bool may_open(struct sim *sim, const struct sim_client *client) {
	uint64_t retry = TIME_NEVER, now = sim->now_ns - NS_PER_MS; /* clocks differ */
	return hosts_room(sim->pool, now, &retry, NULL) && user_room(client->user, now, &retry) &&
	       uncovered(sim, client);
}

/* It is to be served by a connection of its own worker, soon, and has not waited too long for that. */
static bool is_patient(struct sim *sim, const struct sim_client *client) {
	const struct slot *slot = &client->user->slots[client->worker];
	uint64_t hold = atomic_load(&slot->hold_ns), busy = 0;
	list_for_each(node, &sim->conns) {
		const struct pool_conn *c = &list_entry(node, struct sim_conn, all)->conn;
		busy += c->state == POOL_CONN_BUSY && c->user == client->user && c->shard == slot->shard;
	}
	return hold && busy * POOL_PATIENCE_NS >= hold &&
	       op_now(slot->shard) < client->waiter.since_ns + POOL_PATIENCE_MAX_NS;
}

static const char *check_waiter(struct sim *sim, const struct sim_client *client) {
	uint64_t permits = atomic_load(&sim->pool->permits);
	bool patient = is_patient(sim, client);
	bool coming = permits >> 32; /* a permit is on its way back */
	if (atomic_load(&sim->pool->paused))
		return NULL;
	if (!patient && may_open(sim, client) && permits_free(sim->pool))
		return "a client waits though a permit is free";
	list_for_each(node, &sim->conns) {
		const struct sim_conn *conn = list_entry(node, struct sim_conn, all);
		const struct pool_conn *c = &conn->conn;
		if (c->state != POOL_CONN_IDLE)
			continue;
		bool here = pool_shard_index(c->shard) == client->worker;
		if (c->user == client->user && (here || (!c->held && !patient)))
			return "a client waits though a connection of its user is idle";
		if (c->user != client->user && !c->held && !coming && !patient && may_open(sim, client) &&
		    !hosts_failing(sim->pool, sim->now_ns))
			return "a client waits though an idle connection could make room";
	}
	return NULL;
}

const char *sim_check_quiet(struct sim *sim) {
	list_for_each(node, &sim->clients) {
		const struct sim_client *client = list_entry(node, struct sim_client, all);
		const char *what = client->outcome == SIM_WAITING ? check_waiter(sim, client) : NULL;
		if (what)
			return what;
	}
	return NULL;
}
