#include "session/session.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/secret.h"
#include "session/backend.h"
#include "session/cancel.h"
#include "session/client.h"
#include "session/database.h"
#include "session/server.h"
#include "session/watch.h"

/* The session floor of the process: made by session_start(), read by every worker. */
static struct {
	struct worker *workers;
	struct session_worker *at;
	int count;
	struct session_totals totals;
} session;

struct session_totals *session_totals(void) {
	return &session.totals;
}

struct session_worker *session_worker(int index) {
	return &session.at[index];
}

struct session_worker *session_current(void) {
	struct worker *worker = worker_current();
	return worker ? worker->context : NULL;
}

int session_workers(void) {
	return session.count;
}

const char *session_invariant_name(int place) {
	static const char *const names[INVARIANTS] = {"answer_ownership", "server_state", "client_state", "server_count",
						      "pool_counts", "other"};
	return names[place];
}

void session_count_violation(struct session_worker *sw, const char *invariant) {
	int place = 0;
	while (place < INVARIANTS - 1 && strcmp(session_invariant_name(place), invariant) != 0)
		place++;
	stat_add(&sw->violations[place], 1);
}

uint64_t session_violations(const struct session_worker *sw) {
	uint64_t sum = 0;
	for (int i = 0; i < INVARIANTS; i++)
		sum += stat_read(&sw->violations[i]);
	return sum;
}

/* Posts one letter to each worker; `deliver` frees it. */
struct notice {
	struct mail mail;
	struct generation *generation;
};

static bool post_each(void (*deliver)(struct mail *, void *), struct generation *generation) {
	for (int i = 0; i < session.count; i++) {
		struct notice *notice = calloc(1, sizeof *notice);
		if (!notice)
			return false;
		notice->mail.deliver = deliver;
		notice->generation = generation ? generation_ref(generation) : NULL;
		mailbox_post(&session.workers[i].mailbox, &notice->mail);
	}
	return true;
}

static void adopt(struct session_worker *sw, struct generation *generation) {
	struct generation *before = sw->generation;
	sw->generation = generation; /* the reference is taken over */
	databases_adopt(sw, generation);
	generation_unref(before);
	/* limits may be shorter now than what is armed */
	list_for_each(node, &sw->clients[CLIENT_IDLE])
		client_watch(list_entry(node, struct client, node));
	list_for_each(node, &sw->clients[CLIENT_WAITING])
		client_watch(list_entry(node, struct client, node));
	list_for_each(node, &sw->clients[CLIENT_ACTIVE])
		client_watch(list_entry(node, struct client, node));
	audit_start(sw);
}

struct shard_tick {
	int worker;
};

static void tick_each(struct database *database, void *context) {
	const struct shard_tick *tick = context;
	struct pool_shard *shard = pool_shard(database->pool, tick->worker);
	if (atomic_load(&database->removed)) {
		pool_shard_shut(shard);
	} else {
		if (!session_worker(tick->worker)->stopping)
			pool_shard_reopen(shard); /* it may have been away */
		pool_shard_tick(shard);
	}
}

/* A shard of one database is to look at what has changed. */
struct tick_letter {
	struct mail mail;
	struct database *database;
};

static void deliver_tick(struct mail *mail, void *receiver) {
	(void)receiver;
	struct tick_letter *letter = (struct tick_letter *)mail;
	struct shard_tick tick = {.worker = session_current()->worker->id};
	tick_each(letter->database, &tick);
	free(letter);
}

void session_tick(struct database *database) {
	for (int i = 0; i < session.count; i++) {
		struct tick_letter *letter = calloc(1, sizeof *letter);
		if (!letter) /* it looks by itself when it is next due */
			return;
		letter->mail.deliver = deliver_tick;
		letter->database = database;
		mailbox_post(&session.workers[i].mailbox, &letter->mail);
	}
}

static void deliver_generation(struct mail *mail, void *receiver) {
	(void)receiver;
	struct notice *notice = (struct notice *)mail;
	struct session_worker *sw = session_current();
	adopt(sw, notice->generation);
	struct shard_tick tick = {.worker = sw->worker->id};
	databases_each(tick_each, &tick);
	free(notice);
}

static void worker_free_state(struct session_worker *sw) {
	audit_stop(sw);
	leaks_free(&sw->leaks);
	claims_free(&sw->claims);
	for (int p = 0; p < 2; p++) {
		const struct protocol *protocol = protocol_by_id((enum protocol_id)p);
		if (!protocol || !sw->protocol_state[p])
			continue;
		protocol->worker_free(sw->protocol_state[p]);
		slab_free(&sw->client_memory[p]);
	}
	generation_unref(sw->generation);
}

bool session_start(struct worker *workers, int count, struct generation *generation, struct error *error) {
	session.at = calloc((size_t)count, sizeof *session.at);
	if (!session.at)
		return error_set(error, 0, "out of memory");
	session.workers = workers;
	session.count = count;
	if (!databases_apply(generation, count, error))
		return false;
	for (int i = 0; i < count; i++) {
		struct session_worker *sw = &session.at[i];
		sw->worker = &workers[i];
		workers[i].context = sw;
		list_init(&sw->servers);
		list_init(&sw->lingering);
		list_init(&sw->cancel_list);
		leaks_init(&sw->leaks);
		for (size_t s = 0; s < sizeof sw->clients / sizeof sw->clients[0]; s++)
			list_init(&sw->clients[s]);
		secret_random(&sw->random_state, sizeof sw->random_state);
		sw->random_state |= 1;
		for (int p = 0; p < 2; p++) {
			const struct protocol *protocol = protocol_by_id((enum protocol_id)p);
			if (!protocol)
				continue;
			slab_init(&sw->client_memory[p], protocol->client_size);
			if (!(sw->protocol_state[p] = protocol->worker_new(sw)))
				return error_set(error, 0, "out of memory");
		}
	}
	return post_each(deliver_generation, generation) || error_set(error, 0, "out of memory");
}

void session_stop(void) {
	for (int i = 0; i < session.count; i++)
		worker_free_state(&session.at[i]);
	databases_free();
	backends_free();
	free(session.at);
	session.at = NULL;
	session.count = 0;
}

void session_reload(struct generation *generation) {
	if (!post_each(deliver_generation, generation))
		log_error("reload_failed", NULL, "out of memory while handing a new configuration to the workers");
}

void session_accept(struct worker *worker, const struct listener *listener, int fd, const struct sockaddr *peer,
		    socklen_t peer_len) {
	struct session_worker *sw = worker->context;
	/* its configuration is not there yet, or does not name the address any more */
	struct listener_runtime *runtime =
		sw->generation ? generation_listener_at(sw->generation, listener->address) : NULL;
	if (runtime && !sw->stopping) {
		client_accept(sw, runtime, fd, peer, peer_len);
	} else {
		close(fd);
		atomic_fetch_sub(&worker->clients, 1);
	}
}

/* ---- the end ---- */

static void close_database(struct database *database, void *context) {
	const struct shard_tick *tick = context;
	pool_shard_shut(pool_shard(database->pool, tick->worker));
}

/* What is left when the process stops: clients are cut, servers told goodbye. */
static void deliver_close(struct mail *mail, void *receiver) {
	(void)receiver;
	free(mail);
	struct session_worker *sw = session_current();
	sw->stopping = true;
	drain_stop(sw);
	for (int s = CLIENT_LOGIN; s < CLIENT_CLOSED; s++)
		list_for_each_safe (node, &sw->clients[s])
			client_destroy(container_of(node, struct client, node), "the process stops");
	struct shard_tick tick = {.worker = sw->worker->id};
	databases_each(close_database, &tick);
	list_for_each_safe (node, &sw->lingering)
		server_stop(container_of(node, struct server, all));
	list_for_each_safe (node, &sw->servers)
		server_stop(container_of(node, struct server, all));
	cancel_stop(sw);
}

void session_close_all(void) {
	post_each(deliver_close, NULL);
}

/* ---- visits ---- */

static void deliver_visit_done(struct mail *mail, void *receiver) {
	(void)receiver;
	struct session_visit *visit = (struct session_visit *)mail;
	visit->done(visit);
}

static void deliver_visit(struct mail *mail, void *receiver) {
	(void)receiver;
	struct session_visit *visit = (struct session_visit *)mail;
	struct session_worker *sw = session_current();
	visit->visit(sw, visit);
	visit->next++;
	if (visit->next < session.count) {
		mailbox_post(&session.workers[visit->next].mailbox, &visit->mail);
		return;
	}
	visit->mail.deliver = deliver_visit_done;
	mailbox_post(&visit->origin->mailbox, &visit->mail);
}

void session_visit_all(struct session_visit *visit, struct worker *origin) {
	visit->next = 0;
	visit->origin = origin;
	visit->mail.deliver = deliver_visit;
	mailbox_post(&session.workers[0].mailbox, &visit->mail);
}
