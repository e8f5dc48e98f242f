#include "session/drain.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "session/client.h"
#include "session/session.h"

/* How often clients are looked at that could not be told yet. */
#define TICK_NS (20 * NS_PER_MS)
/* Who has just logged in has so long to ask for something before it is told; so has a connection that says nothing. */
#define FRESH_NS NS_PER_S
/* No more is saved up of the pace than this. */
#define CREDIT_MAX_NS NS_PER_S

/* Written by the main thread before the workers hear of it. */
static struct {
	struct mailbox *mailbox;
	void (*done)(void *);
	void *context;
	uint64_t cost_ns;  /* of the pace: a worker tells one client in this time; 0: no limit */
	_Atomic int left; /* workers that still have clients */
} drain;

static void drained_on_main(struct mail *mail, void *receiver) {
	(void)receiver;
	free(mail);
	drain.done(drain.context);
}

void drain_client_gone(struct session_worker *sw) {
	if (!sw->drain.on || sw->drain.said)
		return;
	for (int s = CLIENT_LOGIN; s < CLIENT_CLOSED; s++)
		if (!list_empty(&sw->clients[s]))
			return;
	sw->drain.said = true;
	worker_timeout_clear(sw->worker, &sw->drain.tick);
	if (atomic_fetch_sub(&drain.left, 1) != 1)
		return;
	struct mail *mail = calloc(1, sizeof *mail);
	if (!mail) /* main's shutdown_timeout ends the process all the same */
		return;
	mail->deliver = drained_on_main;
	mailbox_post(drain.mailbox, mail);
}

/* It was let in and has had nothing of it yet. */
static bool is_fresh(const struct client *client, uint64_t now_ns) {
	const char *database = NULL, *user = NULL;
	if (client->state == CLIENT_IDLE)
		return client->transactions == 0 && now_ns - client->answered_ns < FRESH_NS;
	if (client->state != CLIENT_LOGIN || now_ns - client->connected_ns < FRESH_NS)
		return client->state == CLIENT_LOGIN;
	if (client->protocol->client_names)
		client->protocol->client_names(client, &database, &user);
	return database || user; /* what it waits for comes within client_login_timeout */
}

/* Whether this worker has clients besides operators that nobody has told yet. */
static bool has_others(const struct session_worker *sw) {
	for (int s = CLIENT_LOGIN; s < CLIENT_CONSOLE; s++)
		if (!list_empty(&sw->clients[s]))
			return true;
	return false;
}

static bool may_tell(struct drain *d) {
	if (drain.cost_ns == 0)
		return true;
	if (d->credit_ns < drain.cost_ns)
		return false;
	d->credit_ns -= drain.cost_ns;
	return true;
}

/* The end of one may move another to another list; but a client is freed only when no callback runs. */
static void tell_each(struct session_worker *sw, enum client_state state) {
	uint64_t now_ns = sw->worker->now_ns;
	list_for_each_safe (node, &sw->clients[state]) {
		struct client *client = list_entry(node, struct client, node);
		if (client->closing)
			continue;
		bool fresh = is_fresh(client, now_ns);
		if (!client->goodbye_wanted) {
			if ((fresh && state == CLIENT_LOGIN) || !may_tell(&sw->drain))
				continue;
			client->goodbye_wanted = true;
		}
		if (!fresh) /* else at its next boundary, or when it is not any more */
			client_maybe_goodbye(client);
	}
}

static void on_tick(struct timeout *timeout, uint64_t now_ns) {
	struct session_worker *sw = container_of(timeout, struct session_worker, drain.tick);
	struct drain *d = &sw->drain;
	/* longest idle first: the lists are in the order of entering the state */
	static const enum client_state order[] = {CLIENT_IDLE, CLIENT_ACTIVE, CLIENT_WAITING, CLIENT_LOGIN};

	d->credit_ns += now_ns - d->last_ns;
	d->last_ns = now_ns;
	uint64_t most = drain.cost_ns > CREDIT_MAX_NS ? drain.cost_ns : CREDIT_MAX_NS;
	if (d->credit_ns > most)
		d->credit_ns = most;
	for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
		tell_each(sw, order[i]);
	if (!has_others(sw))
		tell_each(sw, CLIENT_CONSOLE);
	drain_client_gone(sw);
	if (!d->said && !worker_timeout(sw->worker, &d->tick, TICK_NS))
		log_error("drain_failed", NULL, "out of memory: clients that cannot be told yet are not told to go");
}

static void begin(struct session_worker *sw) {
	sw->drain.on = true;
	sw->drain.last_ns = sw->worker->now_ns;
	sw->drain.credit_ns = drain.cost_ns; /* the first goes at once */
	sw->drain.tick.expired = on_tick;
	on_tick(&sw->drain.tick, sw->worker->now_ns);
}

static void deliver_drain(struct mail *mail, void *receiver) {
	(void)receiver;
	free(mail);
	begin(session_current());
}

void drain_start(struct mailbox *main_mailbox, uint32_t pace, void (*drained)(void *context), void *context) {
	int workers = session_workers();
	drain.mailbox = main_mailbox;
	drain.done = drained;
	drain.context = context;
	drain.cost_ns = pace ? NS_PER_S * (uint64_t)workers / pace : 0;
	atomic_store(&drain.left, workers);
	for (int i = 0; i < workers; i++) {
		struct mail *mail = calloc(1, sizeof *mail);
		if (!mail) {
			log_error("drain_failed", NULL, "out of memory while telling the workers to drain");
			return;
		}
		mail->deliver = deliver_drain;
		mailbox_post(&session_worker(i)->worker->mailbox, mail);
	}
}

void drain_stop(struct session_worker *sw) {
	worker_timeout_clear(sw->worker, &sw->drain.tick);
}
