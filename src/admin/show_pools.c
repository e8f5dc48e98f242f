/* SHOW POOLS and USERS: counts over all workers' clients and servers, for each user of a pool, or each user. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/show.h"
#include "base/clock.h"
#include "session/account.h"
#include "session/cancel.h"
#include "session/claim.h"
#include "session/client.h"
#include "session/database.h"
#include "session/server.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

/* ---- POOLS ---- */

enum tally {
	CL_ACTIVE,
	CL_WAITING,
	CL_ACTIVE_CANCEL,
	CL_WAITING_CANCEL,
	SV_ACTIVE,
	SV_ACTIVE_CANCEL,
	SV_BEING_CANCELED,
	SV_IDLE,
	SV_USED, /* none: idle connections are tried when they are taken, not set aside */
	SV_TESTED,
	SV_LOGIN,
	TALLIES
};

struct pool_line {
	UT_hash_handle hh;
	struct pool_user *user; /* referenced, so that no other user can get its address meanwhile */
	uint64_t tally[TALLIES];
	uint64_t oldest_wait_ns; /* when it began; 0: nobody waits */
};

struct pool_lines {
	struct pool_line *by_user;
	struct console_request *request;
};

static struct pool_line *line_of(struct pool_lines *lines, struct pool_user *user) {
	struct pool_line *line = NULL;

	if (!user)
		return NULL;
	HASH_FIND_PTR(lines->by_user, &user, line);
	if (line)
		return line;
	line = calloc(1, sizeof *line);
	if (!line)
		return NULL;
	line->user = user;
	unsigned before = HASH_COUNT(lines->by_user);
	HASH_ADD_PTR(lines->by_user, user, line);
	if (HASH_COUNT(lines->by_user) == before) {
		free(line);
		return NULL;
	}
	pool_user_ref(user);
	return line;
}

static void tally_clients(struct pool_lines *lines, struct list *clients, enum tally which) {
	list_for_each(node, clients) {
		struct client *client = list_entry(node, struct client, node);
		struct pool_line *line = line_of(lines, client->user);
		if (!line)
			continue;
		line->tally[which]++;
		uint64_t since_ns = which == CL_WAITING ? client->claim->waiter.since_ns : 0;
		if (since_ns && (!line->oldest_wait_ns || since_ns < line->oldest_wait_ns))
			line->oldest_wait_ns = since_ns;
	}
}

static enum tally tally_of_state(enum server_state state) {
	switch (state) {
	case SERVER_IDLE:
		return SV_IDLE;
	case SERVER_ACTIVE:
		return SV_ACTIVE;
	case SERVER_RECOVERING:
	case SERVER_VALIDATING:
		return SV_TESTED;
	case SERVER_FENCED:
		return SV_BEING_CANCELED;
	case SERVER_RESOLVING:
	case SERVER_CONNECTING:
	case SERVER_LOGIN:
	case SERVER_SETUP:
		return SV_LOGIN;
	case SERVER_CLOSED:
		break;
	}
	return TALLIES;
}

static void tally_server(struct pool_lines *lines, struct server *server) {
	struct pool_line *line = line_of(lines, server->conn.user);
	enum tally which = tally_of_state(server->state);

	if (!line || which == TALLIES)
		return;
	line->tally[which]++;
	list_for_each(node, &server->cancels) {
		const struct cancel *cancel = list_entry(node, struct cancel, node);
		line->tally[SV_ACTIVE_CANCEL]++;
		list_for_each(waiter, &cancel->waiters)
			line->tally[cancel->sent ? CL_ACTIVE_CANCEL : CL_WAITING_CANCEL]++;
	}
}

static void pools_of_worker(struct session_worker *sw, struct gathering *gathering) {
	struct pool_lines *lines = gathering->memory;

	/* PgBouncer counts idle clients as active */
	tally_clients(lines, &sw->clients[CLIENT_IDLE], CL_ACTIVE);
	tally_clients(lines, &sw->clients[CLIENT_ACTIVE], CL_ACTIVE);
	tally_clients(lines, &sw->clients[CLIENT_WAITING], CL_WAITING);
	list_for_each(node, &sw->servers)
		tally_server(lines, list_entry(node, struct server, all));
}

static const struct column pool_columns[] = {
	{"database", CONSOLE_TEXT},
	{"user", CONSOLE_TEXT},
	{"cl_active", CONSOLE_INT4},
	{"cl_waiting", CONSOLE_INT4},
	{"cl_active_cancel_req", CONSOLE_INT4},
	{"cl_waiting_cancel_req", CONSOLE_INT4},
	{"sv_active", CONSOLE_INT4},
	{"sv_active_cancel", CONSOLE_INT4},
	{"sv_being_canceled", CONSOLE_INT4},
	{"sv_idle", CONSOLE_INT4},
	{"sv_used", CONSOLE_INT4},
	{"sv_tested", CONSOLE_INT4},
	{"sv_login", CONSOLE_INT4},
	{"maxwait", CONSOLE_INT4},
	{"maxwait_us", CONSOLE_INT4},
	{"pool_mode", CONSOLE_TEXT},
	{"load_balance_hosts", CONSOLE_TEXT},
	/* our own; the first three are the whole pool's, whichever the user */
	{"max_size", CONSOLE_INT4},
	{"size", CONSOLE_INT4},
	{"min_idle", CONSOLE_INT4},
	{"last_error", CONSOLE_TEXT},
};

static void pool_row(struct pool_user *user, void *context) {
	struct pool_lines *lines = context;
	struct console_result *r = &lines->request->result;
	struct pool *pool = pool_user_pool(user);
	struct database *database = pool_context(pool);
	struct session_worker *sw = session_worker(lines->request->worker->id);
	bool adopted = database_adopt(sw, database); /* one of [pool:*] may not have been seen on this worker yet */
	const struct pool_config *config = adopted ? database_view(database, sw->worker->id)->config : NULL;
	static const struct pool_line none;
	struct pool_line *found = NULL;
	char sqlstate[6] = "", text[256] = "";

	HASH_FIND_PTR(lines->by_user, &user, found);
	const struct pool_line *line = found ? found : &none;
	if (!config || !console_row(r))
		return;
	console_set_text(r, 0, database->name);
	console_set_text(r, 1, pool_user_name(user));
	for (int i = 0; i < TALLIES; i++)
		console_set_number(r, 2 + (size_t)i, (int64_t)line->tally[i]);
	uint64_t now_ns = clock_monotonic_ns(), since_ns = line->oldest_wait_ns;
	uint64_t wait_us = since_ns && now_ns > since_ns ? (now_ns - since_ns) / NS_PER_US : 0;
	console_set_number(r, 13, (int64_t)(wait_us / 1000000));
	console_set_number(r, 14, (int64_t)(wait_us % 1000000));
	console_set_text(r, 15, show_pool_mode(config));
	console_set_text(r, 16, show_balance(config));
	struct pool_limits limits = pool_limits(pool);
	console_set_number(r, 17, limits.max_size);
	console_set_number(r, 18, pool_size(pool));
	console_set_number(r, 19, limits.min_idle);
	struct account *account = account_of(user);
	if (account)
		account_get_error(account, sqlstate, text, sizeof text);
	console_set_text(r, 20, *text ? text : NULL);
}

static void pools_of_database(struct database *database, void *context) {
	pool_each_user(database->pool, pool_row, context);
}

static void pools_finish(struct gathering *gathering) {
	struct pool_lines *lines = gathering->memory;
	struct console_result *r = &gathering->request->result;

	if (!r->failed && SHOW_COLUMNS(r, pool_columns))
		databases_each(pools_of_database, lines);
	struct pool_line *line, *next;
	HASH_ITER(hh, lines->by_user, line, next) {
		HASH_DEL(lines->by_user, line);
		pool_user_unref(line->user);
		free(line);
	}
	free(lines);
}

SHOW_COMMAND(pools) {
	struct pool_lines *lines = calloc(1, sizeof *lines);

	(void)arguments;
	if (!lines) {
		console_error(&request->result, "53200", "out of memory");
		admin_answer(request);
		return;
	}
	lines->request = request;
	gather(request, pools_of_worker, pools_finish, lines);
}

/* ---- USERS ---- */

struct user_line {
	UT_hash_handle hh;
	char name[64];
	uint64_t clients, servers;
};

struct user_lines {
	struct user_line *by_name;
};

static struct user_line *user_of(struct user_lines *lines, const char *name) {
	struct user_line *line = NULL;
	char key[sizeof line->name];

	snprintf(key, sizeof key, "%s", name);
	HASH_FIND_STR(lines->by_name, key, line);
	if (line)
		return line;
	line = calloc(1, sizeof *line);
	if (!line)
		return NULL;
	memcpy(line->name, key, sizeof key);
	unsigned before = HASH_COUNT(lines->by_name);
	HASH_ADD_STR(lines->by_name, name, line);
	if (HASH_COUNT(lines->by_name) == before) {
		free(line);
		return NULL;
	}
	return line;
}

static void users_of_worker(struct session_worker *sw, struct gathering *gathering) {
	static const enum client_state states[] = {CLIENT_IDLE, CLIENT_WAITING, CLIENT_ACTIVE};
	struct user_lines *lines = gathering->memory;

	for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
		list_for_each(node, &sw->clients[states[i]]) {
			const struct client *client = list_entry(node, struct client, node);
			struct user_line *line = client->user ? user_of(lines, pool_user_name(client->user)) : NULL;
			if (line)
				line->clients++;
		}
	}
	list_for_each(node, &sw->servers) {
		const struct server *server = list_entry(node, struct server, all);
		struct user_line *line = server->conn.user ? user_of(lines, pool_user_name(server->conn.user)) : NULL;
		if (line)
			line->servers++;
	}
}

/* [user:NAME] sections; config_each() tells of each key of each. */
static void add_user_section(void *context, const char *section, const char *key, const char *value,
			     const char *default_value, bool reloadable) {
	(void)value, (void)default_value, (void)reloadable;
	if (strncmp(section, "user:", 5) == 0 && strcmp(key, "password") == 0)
		user_of(context, section + 5);
}

static const struct column user_columns[] = {
	{"name", CONSOLE_TEXT},
	{"pool_size", CONSOLE_TEXT},
	{"reserve_pool_size", CONSOLE_TEXT},
	{"pool_mode", CONSOLE_TEXT},
	{"max_user_connections", CONSOLE_INT4},
	{"current_connections", CONSOLE_INT4},
	{"max_user_client_connections", CONSOLE_INT4},
	{"current_client_connections", CONSOLE_INT4},
	/* our own */
	{"is_admin", CONSOLE_BOOL},
	{"is_stats", CONSOLE_BOOL},
};

static void users_finish(struct gathering *gathering) {
	struct user_lines *lines = gathering->memory;
	struct console_result *r = &gathering->request->result;
	const struct config *config = show_config_of(gathering->request);
	struct user_line *line, *next;

	config_each(config, add_user_section, lines);
	bool ready = !r->failed && SHOW_COLUMNS(r, user_columns);
	HASH_ITER(hh, lines->by_name, line, next) {
		HASH_DEL(lines->by_name, line);
		if (ready && console_row(r)) {
			const struct user_config *user = config_user(config, line->name);
			console_set_text(r, 0, line->name);
			console_set_text(r, 1, "");
			console_set_text(r, 2, "");
			console_set_number(r, 4, 0);
			console_set_number(r, 5, (int64_t)line->servers);
			console_set_number(r, 6, user ? user->max_connections : 0);
			console_set_number(r, 7, (int64_t)line->clients);
			console_set_bool(r, 8, config_is_admin(config, line->name));
			console_set_bool(r, 9, config_is_stats(config, line->name));
		}
		free(line);
	}
	free(lines);
}

SHOW_COMMAND(users) {
	struct user_lines *lines = calloc(1, sizeof *lines);

	(void)arguments;
	if (!lines) {
		console_error(&request->result, "53200", "out of memory");
		admin_answer(request);
		return;
	}
	gather(request, users_of_worker, users_finish, lines);
}
