/*
 * The pool between real threads, with real clocks and mail, for ThreadSanitizer and for the order of memory: what a
 * simulator cannot show. FOREBAY_TEST_ROUNDS sets how long.
 */
#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "pool/pool.h"

enum { THREADS = 4, CLIENTS = 6, USERS = 2 };
#define STUCK_NS (20 * NS_PER_S)

struct letter { /* in a message's carrier */
	struct letter *next;
	struct pool_message *message;
};
_Static_assert(sizeof(struct letter) <= sizeof(((struct pool_message *)0)->carrier), "a letter fits the carrier");

struct test_conn {
	struct pool_conn conn;
	struct list opening; /* of its worker, until the login is done */
};

struct test_client {
	struct pool_waiter waiter;
	struct worker *worker;
	struct test_conn *conn;
	enum { RESTING, WAITING, HOLDING } state;
	uint64_t until_ns, since_ns;
};

struct worker {
	struct house *house;
	struct pool_shard *shard;
	int index;
	pthread_t thread;
	uint64_t now_ns, wish_ns, random_state;
	struct list opening;
	struct test_client clients[CLIENTS];
	unsigned acquires, served;
	struct {
		pthread_mutex_t mutex;
		pthread_cond_t cond;
		struct letter *head, **tail;
	} box;
};

struct house {
	struct pool *pool;
	struct pool_user *users[USERS];
	struct worker workers[THREADS];
	uint32_t max_size;
	unsigned rounds;
	bool in_rounds; /* all wait for each other after each acquire: nothing else comes to the rescue */
	_Atomic uint32_t open, worst_open;
	_Atomic unsigned arrived; /* clients that had their turn, of all rounds */
	_Atomic unsigned finished, shut;
	_Atomic(const char *) wrong;
};

static uint64_t draw(struct worker *w) {
	w->random_state ^= w->random_state >> 12;
	w->random_state ^= w->random_state << 25;
	w->random_state ^= w->random_state >> 27;
	return (w->random_state * 0x2545f4914f6cdd1dull) >> 16;
}

static struct worker *worker_of(struct pool_shard *shard) {
	struct house *house = pool_context(pool_of(shard));
	return &house->workers[pool_shard_index(shard)];
}

static void wrong(struct house *house, const char *what) {
	atomic_store(&house->wrong, what);
}

/* --- the pool's surroundings --- */

static uint64_t op_now(struct pool_shard *shard) {
	return worker_of(shard)->now_ns;
}

static bool op_open(struct pool_shard *shard, struct pool_user *user, int host) {
	struct worker *w = worker_of(shard);
	if (draw(w) % 64 == 0)
		return false;
	uint32_t open = atomic_fetch_add(&w->house->open, 1) + 1;
	if (open > w->house->max_size)
		wrong(w->house, "the bound is broken");
	struct test_conn *conn = calloc(1, sizeof *conn);
	pool_conn_init(&conn->conn, shard, user, host);
	list_push_back(&w->opening, &conn->opening);
	return true;
}

static void gone(struct test_conn *conn, bool failed) {
	struct house *house = worker_of(conn->conn.shard)->house;
	list_remove(&conn->opening);
	atomic_fetch_sub(&house->open, 1);
	pool_conn_closed(&conn->conn, failed ? POOL_OPEN_FAILED : POOL_OPEN_NO_FAULT);
	free(conn);
}

static void op_close(struct pool_conn *conn, const char *reason) {
	(void)reason;
	gone(container_of(conn, struct test_conn, conn), false);
}

static void hold(struct test_client *client, struct pool_conn *conn) {
	struct worker *w = client->worker;
	client->conn = container_of(conn, struct test_conn, conn);
	client->state = HOLDING;
	client->until_ns = w->now_ns + (draw(w) % 4 ? 0 : draw(w) % 50000);
	w->served++;
}

static void op_serve(struct pool_waiter *waiter, struct pool_conn *conn) {
	struct test_client *client = container_of(waiter, struct test_client, waiter);
	if (client->state != WAITING || conn->shard != client->worker->shard || conn->user != waiter->user)
		wrong(client->worker->house, "served wrongly");
	hold(client, conn);
}

static void op_fail(struct pool_waiter *waiter, enum pool_fail why) {
	struct test_client *client = container_of(waiter, struct test_client, waiter);
	if (why != POOL_FAIL_TIMEOUT)
		wrong(client->worker->house, "failed for no reason");
	client->state = RESTING;
	atomic_fetch_add(&client->worker->house->arrived, 1);
}

static void op_send(struct pool_shard *from, struct pool_shard *to, struct pool_message *message) {
	(void)from;
	struct worker *w = worker_of(to);
	struct letter *letter = (struct letter *)message->carrier;
	*letter = (struct letter){.message = message};
	pthread_mutex_lock(&w->box.mutex);
	*w->box.tail = letter;
	w->box.tail = &letter->next;
	pthread_cond_signal(&w->box.cond);
	pthread_mutex_unlock(&w->box.mutex);
}

static bool op_detach(struct pool_conn *conn) {
	return draw(worker_of(conn->shard)) % 32 != 0;
}

static void op_attach(struct pool_conn *conn, struct pool_shard *to) {
	if (conn->shard != to)
		wrong(worker_of(to)->house, "attached wrongly");
}

static void op_wake_at(struct pool_shard *shard, uint64_t deadline_ns) {
	worker_of(shard)->wish_ns = deadline_ns;
}

static uint64_t op_random(struct pool_shard *shard) {
	return draw(worker_of(shard));
}

static void op_user_freed(struct pool_user *user, void *context) {
	(void)user;
	atomic_fetch_add((_Atomic unsigned *)context, 1);
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

/* --- a worker --- */

static bool box_is_empty(struct worker *w) {
	pthread_mutex_lock(&w->box.mutex);
	bool empty = !w->box.head;
	pthread_mutex_unlock(&w->box.mutex);
	return empty;
}

static void take_mail(struct worker *w) {
	pthread_mutex_lock(&w->box.mutex);
	struct letter *letter = w->box.head;
	w->box.head = NULL;
	w->box.tail = &w->box.head;
	pthread_mutex_unlock(&w->box.mutex);
	while (letter) {
		struct letter *next = letter->next;
		pool_shard_receive(w->shard, letter->message);
		letter = next;
	}
}

static void do_logins(struct worker *w) {
	struct list *node;
	while ((node = list_pop_front(&w->opening))) {
		struct test_conn *conn = list_entry(node, struct test_conn, opening);
		if (draw(w) % 64 == 0)
			gone(conn, true);
		else
			pool_conn_opened(&conn->conn);
	}
}

static void ask(struct test_client *client) {
	struct worker *w = client->worker;
	int why;
	w->acquires++;
	client->state = WAITING;
	client->since_ns = w->now_ns;
	uint64_t deadline = w->house->in_rounds || draw(w) % 4 ? TIME_NEVER : w->now_ns + draw(w) % (2 * NS_PER_MS);
	struct pool_user *user = w->house->users[draw(w) % 8 ? 0 : 1];
	struct pool_conn *conn = pool_acquire(w->shard, user, &client->waiter, deadline, &why);
	if (conn)
		hold(client, conn);
	else if (why != -1)
		wrong(w->house, "refused for no reason");
}

static void give_back(struct test_client *client) {
	struct worker *w = client->worker;
	struct test_conn *conn = client->conn;
	client->conn = NULL;
	client->state = RESTING;
	if (draw(w) % 8 == 0)
		gone(conn, false);
	else
		pool_release(&conn->conn);
	atomic_fetch_add(&w->house->arrived, 1);
}

/* In rounds, each client asks once and then waits until all others had theirs. */
static bool may_ask(const struct test_client *client, int index) {
	const struct worker *w = client->worker;
	if (!w->house->in_rounds)
		return w->acquires < w->house->rounds;
	if (index > 0)
		return false;
	return w->acquires < w->house->rounds && atomic_load(&w->house->arrived) >= w->acquires * THREADS;
}

/* Returns whether there is more to come. */
static bool run_clients(struct worker *w) {
	bool busy = w->acquires < w->house->rounds;
	for (int i = 0; i < CLIENTS; i++) {
		struct test_client *client = &w->clients[i];
		if (client->state == RESTING && may_ask(client, i))
			ask(client);
		else if (client->state == HOLDING && w->now_ns >= client->until_ns)
			give_back(client);
		else if (client->state == WAITING && w->now_ns - client->since_ns > STUCK_NS)
			wrong(w->house, "a client waits forever");
		else if (client->state == WAITING && !w->house->in_rounds && draw(w) % 256 == 0) {
			pool_waiter_cancel(&client->waiter);
			client->state = RESTING;
		}
		busy |= client->state != RESTING;
	}
	return busy;
}

static void doze(struct worker *w) {
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += 50000;
	if (until.tv_nsec >= (long)NS_PER_S) {
		until.tv_nsec -= (long)NS_PER_S;
		until.tv_sec++;
	}
	pthread_mutex_lock(&w->box.mutex);
	if (!w->box.head)
		pthread_cond_timedwait(&w->box.cond, &w->box.mutex, &until);
	pthread_mutex_unlock(&w->box.mutex);
}

static void *work(void *arg) {
	struct worker *w = arg;
	struct house *house = w->house;
	bool finished = false, shut = false;
	while (!atomic_load(&house->wrong)) {
		w->now_ns = clock_monotonic_ns();
		take_mail(w);
		if (w->now_ns >= w->wish_ns)
			pool_shard_tick(w->shard);
		do_logins(w);
		bool busy = run_clients(w);
		const char *audit = pool_shard_audit(w->shard);
		if (audit)
			wrong(house, audit);
		if (!busy && !finished) {
			finished = true;
			atomic_fetch_add(&house->finished, 1);
		}
		if (atomic_load(&house->finished) == THREADS && !shut) {
			shut = true;
			pool_shard_shut(w->shard);
			atomic_fetch_add(&house->shut, 1);
		}
		if (shut && atomic_load(&house->shut) == THREADS && list_empty(&w->opening) &&
		    pool_size(house->pool) == 0 && box_is_empty(w))
			break;
		if (finished || draw(w) % 8 == 0)
			doze(w);
	}
	return NULL;
}

static void run_house(uint32_t max_size, unsigned rounds, bool in_rounds) {
	static struct house house;
	static _Atomic unsigned users_freed;
	memset(&house, 0, sizeof house);
	atomic_store(&users_freed, 0);
	struct pool_limits limits = {.max_size = max_size};
	if (!in_rounds) { /* there, it would come to the rescue */
		limits.idle_timeout = NS_PER_MS;
		limits.max_lifetime = 50 * NS_PER_MS;
	}
	house.max_size = max_size;
	house.in_rounds = in_rounds;
	const char *more = getenv("FOREBAY_TEST_ROUNDS");
	house.rounds = more ? (unsigned)strtoul(more, NULL, 0) : rounds;
	house.pool = pool_new("threads", THREADS, &limits, &ops, &house);
	for (int i = 0; i < USERS; i++) {
		house.users[i] = pool_user_get(house.pool, i ? "bob" : "alice", NULL);
		pool_user_set_context(house.users[i], &users_freed);
	}
	for (int i = 0; i < THREADS; i++) {
		struct worker *w = &house.workers[i];
		w->house = &house;
		w->index = i;
		w->shard = pool_shard(house.pool, i);
		w->wish_ns = 0;
		w->random_state = 0x9e3779b97f4a7c15ull * (unsigned)(i + 1);
		list_init(&w->opening);
		pthread_mutex_init(&w->box.mutex, NULL);
		pthread_cond_init(&w->box.cond, NULL);
		w->box.tail = &w->box.head;
		for (int k = 0; k < CLIENTS; k++)
			w->clients[k].worker = w;
	}
	for (int i = 0; i < THREADS; i++)
		pthread_create(&house.workers[i].thread, NULL, work, &house.workers[i]);
	unsigned served = 0;
	for (int i = 0; i < THREADS; i++) {
		pthread_join(house.workers[i].thread, NULL);
		served += house.workers[i].served;
	}
	const char *what = atomic_load(&house.wrong);
	ck_assert_msg(!what, "%s", what);
	for (int i = 0; i < USERS; i++)
		pool_user_unref(house.users[i]);
	ck_assert_uint_eq(atomic_load(&users_freed), USERS);
	ck_assert_uint_eq(atomic_load(&house.open), 0);
	ck_assert(served > 0);
	ck_assert(pool_is_empty(house.pool));
	pool_free(house.pool);
	for (int i = 0; i < THREADS; i++) {
		pthread_mutex_destroy(&house.workers[i].box.mutex);
		pthread_cond_destroy(&house.workers[i].box.cond);
	}
}

START_TEST(no_wake_up_is_lost_when_nothing_else_happens) {
	run_house(1 + (uint32_t)_i, 1500, true);
}
END_TEST

START_TEST(bound_and_lists_hold_under_a_storm) {
	run_house(_i ? 20 : 5, 20000, false);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("pool_threads");
	TCase *tc = tcase_create("threads");
	suite_add_tcase(suite, tc);
	tcase_set_timeout(tc, 0);
	tcase_add_loop_test(tc, no_wake_up_is_lost_when_nothing_else_happens, 0, 3);
	tcase_add_loop_test(tc, bound_and_lists_hold_under_a_storm, 0, 2);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
