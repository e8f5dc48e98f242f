/*
 * A simulated house around the pool: workers without threads, a clock that moves when told to, mail between workers
 * that is delivered when told to (in order for each pair), logins that succeed or fail when told to.
 */
#ifndef TESTS_POOL_SIM_H
#define TESTS_POOL_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "pool/pool.h"

enum { SIM_REASONS = 8, SIM_MAIL = 256 };

struct sim;

struct sim_conn {
	struct pool_conn conn;
	struct list all;
	struct sim_client *client;
	uint64_t ready_ns; /* when the login is done, where the clock does that */
	bool moving, closing, dead;
	int number; /* in order of opening, from 1 */
};

enum sim_outcome { SIM_NONE, SIM_WAITING, SIM_SERVED, SIM_FAILED };

struct sim_client {
	struct pool_waiter waiter;
	struct list all;
	struct sim *sim;
	struct pool_user *user;
	int worker;
	struct sim_conn *conn;
	enum sim_outcome outcome;
	int why;        /* failed: an enum pool_fail */
	uint64_t order; /* served: place in the order of service, from 1 */
	uint64_t served_ns;
};

struct sim_letters {
	struct pool_message *letters[SIM_MAIL];
	unsigned first, count;
};

struct sim {
	struct pool *pool;
	int workers;
	uint64_t now_ns, random_state;
	uint64_t skew_ns[POOL_MAX_WORKERS]; /* how far a worker's clock is behind */
	uint64_t wake_ns[POOL_MAX_WORKERS];
	struct sim_letters *mail; /* workers * workers */
	struct list conns, clients;
	unsigned letters; /* under way */

	/* knobs */
	uint64_t login_ns;     /* logins done so long after they began, as the clock moves; 0: by hand */
	bool logins_fail;      /* those done by the clock fail */
	bool cannot_begin;     /* ops.open returns false */
	bool close_later;      /* ops.close leaves it to sim_close_done() */
	bool refuse_detach;    /* ops.detach returns false */
	unsigned refuse_one_in;/* ... or one time in so many */
	bool release_in_serve; /* against the advice: ops.serve releases at once */
	struct sim_client *release_in_detach; /* another worker's client that releases while ops.detach is at work */

	/* interleaving: what happens on other workers in the midst of one's steps (test_pool_interleaved.c) */
	void (*between)(void *context);
	void *between_context;
	uint64_t at_work; /* a bit for each worker in the midst of something */

	/* what happened */
	uint64_t served, opens, tries, closes, refusals, ticks, users_freed;
	uint64_t longest_login_ns; /* the most that the pool has taken a login to last */
	uint64_t unfairness_ns;    /* the worst so far: served though another of the same user waited so much longer */
	const char *last_reason;   /* of the last close */
	const char *wrong;         /* something that must not be: NULL while all is well */
};

/* Called at each point where another worker may come in between. */
void sim_point(void);
static inline bool sim_at_work(const struct sim *sim, int worker) {
	return sim->at_work >> worker & 1;
}
struct sim *sim_new(int workers, const struct pool_limits *limits);
/* Ends everything orderly and frees; false when something was left over. */
bool sim_free(struct sim *sim);
uint64_t sim_random(struct sim *sim);
struct pool_user *sim_user(struct sim *sim, const char *name);

/* A client asks; it is freed by sim_forget() or sim_free(). `deadline_ns`: from now; 0: none. */
struct sim_client *sim_acquire(struct sim *sim, int worker, struct pool_user *user, uint64_t deadline_ns);
/* The client gives its connection back and goes. */
void sim_release(struct sim_client *client);
/* The client goes without (it waits, or was failed). */
void sim_forget(struct sim_client *client);

/* The oldest connection that is being opened, or NULL. */
struct sim_conn *sim_opening(struct sim *sim);
void sim_login(struct sim_conn *conn, bool ok);
/* All that are being opened, and what is opened in consequence. */
void sim_login_all(struct sim *sim);
/* The connection breaks, whatever its state (not in the mail). */
void sim_die(struct sim_conn *conn);
/* Takes an idle one out for validation, and gives it back. */
void sim_take(struct sim_conn *conn);
void sim_give_back(struct sim_conn *conn);
/* Its login fails in a way that cannot heal. */
void sim_hopeless(struct sim_conn *conn);
/* Its host answers that it is starting up. */
void sim_not_ready(struct sim_conn *conn);
/* It is to be closed when nobody uses it. */
void sim_retire(struct sim_conn *conn);
/* The session closes it of its own accord; sim_close_done() is to follow. */
void sim_linger(struct sim_conn *conn);
/* The pool's wish to close is carried out. */
void sim_close_done(struct sim_conn *conn);
unsigned sim_count(struct sim *sim, enum pool_conn_state state);
unsigned sim_waiting(struct sim *sim);

bool sim_deliver(struct sim *sim, int from, int to);
/* Delivers all mail, and what is sent in consequence. */
void sim_deliver_all(struct sim *sim);
/* A worker's tick, due or not. */
void sim_tick(struct sim *sim, int worker);
/* Runs the ticks that are due. */
void sim_tick_due(struct sim *sim);
/* Lets time pass: ticks when wished for, logins as they are done, mail at once. */
void sim_pass(struct sim *sim, uint64_t ns);
void sim_retire_all(struct sim *sim);
void sim_set_limits(struct sim *sim, const struct pool_limits *limits);

/* What must hold at any time. NULL: it does. */
const char *sim_check(struct sim *sim);
/* What must hold when no mail is under way: nobody waits in vain. */
const char *sim_check_quiet(struct sim *sim);

#endif
