#include "session/share.h"

#include "base/log.h"
#include "session/database.h"
#include "session/session.h"

/* ---- the old process ---- */

/* One at a time: the main thread's from `mail` on and until it is sent on its visit. */
static struct round {
	struct session_visit visit;
	struct mail mail;
	struct mailbox *mailbox;
	share_report *report;
	void *context;
} the_round;

static uint32_t share_of(const struct database *d, uint32_t clients) {
	uint64_t share = ((uint64_t)d->limits.max_size * clients + 2 * (uint64_t)d->clients_at_first - 1) /
			 (2 * (uint64_t)d->clients_at_first);
	return share < d->limits.max_size ? (uint32_t)share : d->limits.max_size;
}

static void lower(struct database *d, void *context) {
	/* those who are logging in may come to any */
	uint32_t clients = atomic_load(&d->clients) + atomic_load(&session_totals()->login_clients);
	(void)context;
	if (d->clients_at_first == 0)
		d->clients_at_first = clients ? clients : 1;
	uint32_t share = share_of(d, clients), elsewhere = d->limits.max_size - share;
	if (elsewhere <= d->elsewhere)
		return;
	d->elsewhere = elsewhere;
	struct pool_limits limits = d->limits;
	limits.max_size = share;
	limits.min_idle = 0;
	pool_set_limits(d->pool, &limits);
}

static void tick(struct database *d, void *context) {
	struct session_worker *sw = context;
	pool_shard_tick(pool_shard(d->pool, sw->worker->id));
}

static void on_worker(struct session_worker *sw, struct session_visit *visit) {
	(void)visit;
	databases_each(tick, sw);
}

static void report(struct database *d, void *context) {
	const struct round *round = context;
	uint32_t size = pool_size(d->pool), bound = d->limits.max_size > d->elsewhere ? d->limits.max_size - d->elsewhere : 0;
	round->report(round->context, d->name, size > bound ? size : bound);
}

static void deliver_round(struct mail *mail, void *receiver) {
	struct round *round = container_of(mail, struct round, mail);
	(void)receiver;
	/* who is logging in may be the first of a database yet */
	bool complete = atomic_load(&session_totals()->login_clients) == 0;
	databases_each(report, round);
	round->report(round->context, NULL, complete);
}

static void visited(struct session_visit *visit) {
	struct round *round = container_of(visit, struct round, visit);
	round->mail.deliver = deliver_round;
	mailbox_post(round->mailbox, &round->mail);
}

void share_round(struct mailbox *main_mailbox, share_report *report_each, void *context) {
	the_round = (struct round){.mailbox = main_mailbox, .report = report_each, .context = context};
	the_round.visit.visit = on_worker;
	the_round.visit.done = visited;
	databases_each(lower, NULL);
	session_visit_all(&the_round.visit, session_worker(0)->worker);
}

/* ---- the new process ---- */

static bool incomplete; /* something of this round could not be kept */

void share_begin(void) {
	databases_reset_elsewhere(UINT32_MAX);
}

void share_held(const char *database, uint32_t held) {
	if (database_set_elsewhere(database, held))
		return;
	incomplete = true;
	log_error("share_failed", LOG_FIELDS(LOG_TEXT("pool", database)),
		  "out of memory: the pool has what it had, until the process before has gone");
}

static void tick_all(struct database *d, void *context) {
	(void)context;
	session_tick(d);
}

void share_round_over(enum share_end end) {
	if (end == SHARE_GONE)
		databases_reset_elsewhere(0);
	else if (end == SHARE_COMPLETE && !incomplete)
		databases_rest_elsewhere(0);
	incomplete = false;
	databases_each(tick_all, NULL);
}
