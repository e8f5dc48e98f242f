#include "session/deadline.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "config/text_units.h"
#include "session/cancel.h"
#include "session/database.h"
#include "session/session.h"

/* What has not ended this long after a cancel of it was delivered is cancelled anew: one that comes between two statements
 * is lost. A second one too many hits what follows, so the backend has time to end what it was told to end. */
#define CANCEL_AGAIN_NS (250 * NS_PER_MS)

static const struct {
	const char *name; /* of the setting and of the event in the log */
	enum refusal refusal;
	const char *running, *idle; /* what is said of it, up to the setting's name */
} kinds[DEADLINE_KINDS] = {
	[DEADLINE_QUERY] = {"query_timeout", REFUSAL_QUERY_TIMEOUT, "canceling statement: it ran longer than", ""},
	[DEADLINE_TRANSACTION] = {"transaction_timeout", REFUSAL_TRANSACTION_TIMEOUT,
				  "canceling statement: its transaction lasted longer than",
				  "the transaction was rolled back: it lasted longer than"},
	[DEADLINE_IDLE_TRANSACTION] = {"idle_transaction_timeout", REFUSAL_IDLE_TRANSACTION_TIMEOUT, "",
				       "the transaction was rolled back: it was idle for longer than"},
	[DEADLINE_IDLE] = {"client_idle_timeout", REFUSAL_IDLE_TIMEOUT, "", "the connection was idle for longer than"},
};

/* ---- limits ---- */

void deadline_resolve(struct account *account, const struct pool_config *pool, const struct user_config *user) {
	const uint64_t pools[DEADLINE_KINDS] = {0, pool->query_timeout, pool->transaction_timeout,
						pool->idle_transaction_timeout, pool->client_idle_timeout};
	const uint64_t inherit = CONFIG_INHERIT;
	const uint64_t users[DEADLINE_KINDS] = {inherit, user ? user->query_timeout : inherit,
						user ? user->transaction_timeout : inherit,
						user ? user->idle_transaction_timeout : inherit,
						user ? user->client_idle_timeout : inherit};
	uint32_t own = 0;
	bool any = false;
	for (int i = DEADLINE_QUERY; i < DEADLINE_KINDS; i++) {
		uint64_t limit = users[i] == CONFIG_INHERIT ? pools[i] : users[i];
		own |= users[i] == CONFIG_INHERIT ? 0 : 1u << i;
		any |= limit > 0;
		atomic_store_explicit(&account->deadlines[i], limit, memory_order_relaxed);
	}
	atomic_store_explicit(&account->deadlines_own, own, memory_order_relaxed);
	atomic_store_explicit(&account->has_deadlines, any, memory_order_relaxed);
}

static uint64_t limit_of(const struct client *client, enum deadline which) {
	return atomic_load_explicit(&account_of(client->user)->deadlines[which], memory_order_relaxed);
}

/* `query_timeout of pool "shop" (5s)` */
static void name_limit(const char *setting, const char *pool, const char *user, uint64_t limit_ns, char *out, size_t room) {
	char value[32];
	duration_format(limit_ns, value, sizeof value);
	if (pool || user)
		snprintf(out, room, "%s of %s \"%.64s\" (%s)", setting, user ? "user" : "pool", user ? user : pool, value);
	else
		snprintf(out, room, "%s (%s)", setting, value);
}

static void name_clients_limit(const struct client *client, enum deadline which, uint64_t limit_ns, char *out, size_t room) {
	bool own = atomic_load_explicit(&account_of(client->user)->deadlines_own, memory_order_relaxed) & 1u << which;
	name_limit(kinds[which].name, client->database->name, own ? pool_user_name(client->user) : NULL, limit_ns, out,
		   room);
}

void deadline_text(const struct client *client, const struct server_cut *cut, bool running, char *out, size_t room) {
	char limit[160];
	name_clients_limit(client, cut->why, cut->limit_ns, limit, sizeof limit);
	if (cut->late)
		snprintf(out, room,
			 "canceling statement: it was hit by the cancel of the one before it, which came late (%s)", limit);
	else
		snprintf(out, room, "%s %s", running ? kinds[cut->why].running : kinds[cut->why].idle, limit);
}

/* ---- when ---- */

/* What is due first as things stand, and when. */
static enum deadline first(const struct client *client, const struct activity *a, uint64_t *at) {
	const uint64_t since[DEADLINE_KINDS] = {
		[DEADLINE_QUERY] = a->request_ns,
		[DEADLINE_TRANSACTION] = a->transaction_ns,
		[DEADLINE_IDLE_TRANSACTION] = a->transaction_ns && !a->request_ns ? client->answered_ns : 0,
		[DEADLINE_IDLE] = a->transaction_ns || a->request_ns ? 0 : client->answered_ns,
	};
	enum deadline which = DEADLINE_NONE;
	*at = TIME_NEVER;
	for (int i = DEADLINE_QUERY; i < DEADLINE_KINDS && !a->exempt; i++) {
		uint64_t limit = limit_of(client, (enum deadline)i);
		if (limit == 0 || since[i] == 0 || since[i] + limit >= *at)
			continue;
		*at = since[i] + limit;
		which = (enum deadline)i;
	}
	return which;
}

static enum deadline next(const struct client *client, struct activity *a, uint64_t *at) {
	*a = (struct activity){0};
	*at = TIME_NEVER;
	if (!client->user || !client->database)
		return DEADLINE_NONE;
	bool limited = atomic_load_explicit(&account_of(client->user)->has_deadlines, memory_order_relaxed);
	if (client->state == CLIENT_ACTIVE && client->server) {
		const struct server_cut *cut = &client->server->cut;
		if (client->hold == HOLD_PREPARE || (cut->late && !cut->expiring))
			return DEADLINE_NONE;
		if (cut->why != DEADLINE_NONE && !cut->expiring) {
			*at = cut->again_ns < cut->until_ns ? cut->again_ns : cut->until_ns;
			return cut->why;
		}
		if (!limited)
			return DEADLINE_NONE;
		client->protocol->client_activity(client, a);
		if (!client->keeps_server && !client->dedicated && !a->request_ns && !a->transaction_ns)
			return DEADLINE_NONE; /* about to begin, or to give the server back */
	} else if (client->state != CLIENT_IDLE || client->hold != HOLD_NONE || !limited) {
		return DEADLINE_NONE;
	} else if (client->begin_deferred) {
		a->transaction_ns = client->request_ns;
	}
	return first(client, a, at);
}

uint64_t deadline_next(const struct client *client) {
	struct activity activity;
	uint64_t at;
	next(client, &activity, &at);
	return at;
}

/* ---- what then ---- */

static void report(const struct client *client, enum deadline which, const char *text) {
	struct pool_shard_stats *stats = pool_shard_stats_mut(client->shard);
	stat_counter *counters[DEADLINE_KINDS] = {NULL, &stats->query_timeouts, &stats->transaction_timeouts,
						  &stats->idle_transaction_timeouts, &stats->client_idle_timeouts};
	stat_add(counters[which], 1);
	log_info(kinds[which].name,
		 LOG_FIELDS(LOG_TEXT("client", STREAM_PEER_SAY(&client->peer)), LOG_TEXT("pool", client->database->name),
			    LOG_TEXT("user", pool_user_name(client->user)), LOG_NUMBER("id", client->id)),
		 "%s", text);
}

static void cancel_again(struct client *client) {
	struct server *server = client->server;
	server->cut.again_ns = client->sw->worker->now_ns + CANCEL_AGAIN_NS;
	client->protocol->client_cut(client);
	if (client->server == server && list_empty(&server->cancels))
		cancel_server(server); /* its end sets again_ns anew */
}

static void give_up(struct client *client) {
	struct server *server = client->server;
	const struct pool_config *config = database_view(client->database, client->sw->worker->id)->config;
	enum deadline why = server->cut.why;
	char text[320], limit[160], patience[32];
	name_clients_limit(client, why, server->cut.limit_ns, limit, sizeof limit);
	duration_format(config->recovery_timeout, patience, sizeof patience);
	snprintf(text, sizeof text, "closing the connection: %s is over, and what ran did not end when it was cancelled, within "
		 "recovery_timeout (%s)", limit, patience);
	client_end(client, kinds[why].refusal, text);
	if (server->state == SERVER_RECOVERING)
		server_close(server, "what it runs did not end when it was cancelled");
}

void deadline_due(struct client *client) {
	struct activity a;
	uint64_t at, now = client->sw->worker->now_ns;
	enum deadline which = next(client, &a, &at);
	if (which == DEADLINE_NONE || at > now)
		return;
	struct server *server = client->state == CLIENT_ACTIVE ? client->server : NULL;
	if (server && server->cut.why != DEADLINE_NONE && !server->cut.expiring) {
		if (now >= server->cut.until_ns)
			give_up(client);
		else
			cancel_again(client);
		return;
	}
	struct server_cut cut = {.why = which, .limit_ns = limit_of(client, which)};
	char text[256], limit[160];
	name_clients_limit(client, which, cut.limit_ns, limit, sizeof limit);
	bool running = a.request_ns != 0;
	snprintf(text, sizeof text, "%s %s%s", running ? kinds[which].running : kinds[which].idle, limit,
		 which == DEADLINE_IDLE ? "; connect again" : "");
	report(client, which, text);
	if (which == DEADLINE_IDLE) {
		client_end(client, REFUSAL_IDLE_TIMEOUT, text);
	} else if (running) {
		const struct pool_config *config = database_view(client->database, client->sw->worker->id)->config;
		cut.until_ns = now + config->recovery_timeout;
		server->cut = cut;
		cancel_again(client);
	} else if (client->dedicated || !client->protocol->client_roll_back(client, which, text)) {
		client_end(client, kinds[which].refusal, text);
	}
}

/* ---- the end of what was cut ---- */

void deadline_answered(struct server *server, bool transaction_over) {
	struct server_cut *cut = &server->cut;
	if (cut->expiring) {
		/* the backend may be several requests ahead of what has been read: any that is outstanding may be hit */
		if (!server->protocol->server_busy(server))
			*cut = (struct server_cut){0};
	} else if (cut->late || cut->why == DEADLINE_QUERY || transaction_over) {
		deadline_over(server);
	}
}

void deadline_over(struct server *server) {
	if (server->cut.why == DEADLINE_NONE)
		return;
	server->cut.late = true;
	cancel_withdraw(server);
	deadline_uncancelled(server);
}

void deadline_uncancelled(struct server *server) {
	if (server->cut.why == DEADLINE_NONE || !list_empty(&server->cancels))
		return;
	if (!server->cut.late) {
		server->cut.again_ns = server->sw->worker->now_ns + CANCEL_AGAIN_NS;
		return;
	}
	if (server->protocol->server_busy(server))
		server->cut.expiring = true; /* the signal was raised, its error may be on the way */
	else
		server->cut = (struct server_cut){0};
	if (server->client)
		deadline_begun(server->client);
}

/* ---- login ---- */

/* Its limit: the user's, the pool's or [forebay]'s. `*pool` and `*user`: whose it is. */
static uint64_t login_limit(const struct client *client, const char **pool, const char **user) {
	const struct config *config = client->sw->generation->config;
	const char *database = NULL, *name = NULL;
	client->protocol->client_names(client, &database, &name);
	*pool = *user = NULL;
	const struct user_config *u = name ? config_user(config, name) : NULL;
	if (u && u->client_login_timeout != CONFIG_INHERIT) {
		*user = name;
		return u->client_login_timeout;
	}
	const struct pool_config *p = database ? config_pool(config, database) : NULL;
	if (database && !p)
		p = config_wildcard_pool(config, client->protocol->id);
	if (p && p->client_login_timeout != CONFIG_INHERIT) {
		*pool = p->name;
		return p->client_login_timeout;
	}
	return config->client_login_timeout;
}

void deadline_login(struct client *client) {
	const char *pool, *user;
	uint64_t limit = login_limit(client, &pool, &user);
	struct worker *worker = client->sw->worker;
	uint64_t spent = worker->now_ns - client->connected_ns;
	if (!pool && !user)
		return; /* as armed */
	if (limit == 0)
		worker_timeout_clear(worker, &client->timeout);
	else
		worker_timeout(worker, &client->timeout, limit > spent ? limit - spent : 1);
}

void deadline_login_due(struct client *client) {
	const char *pool, *user;
	uint64_t limit = login_limit(client, &pool, &user);
	char name[160], text[256];
	name_limit("client_login_timeout", pool, user, limit, name, sizeof name);
	snprintf(text, sizeof text, "login took longer than %s", name);
	client_end(client, REFUSAL_LOGIN_TIMEOUT, text);
}
