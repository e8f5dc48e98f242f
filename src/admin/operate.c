/*
 * PAUSE, RESUME, DISABLE, ENABLE, RECONNECT, WAIT_CLOSE, KILL, KILL_CLIENT.
 *
 * What is to hold (paused, disabled) is set first, in atomics that every worker reads; then each worker is visited and acts
 * on its own shards and clients. PAUSE and WAIT_CLOSE answer when connections have gone, which is the matter of clients: so
 * they look again every now and then, by a timeout of the worker that asked, and nothing else waits for them. If the
 * operator goes away meanwhile, or cancels the command, only the waiting ends.
 */
#include "admin/operate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "session/cancel.h"
#include "session/client.h"
#include "session/database.h"
#include "session/server.h"
#include "session/session.h"

#define LOOK_AGAIN_NS (20 * NS_PER_MS)

struct operation {
	struct session_visit visit;
	struct console_request *request;
	struct database *database; /* NULL: all */
	/* On each worker in turn; NULL: no worker is visited. */
	void (*on_worker)(struct session_worker *sw, struct operation *op);
	/* On the asker's worker: whether it is over; may mark the result failed, which ends it too. NULL: once all are
	 * visited. */
	bool (*is_over)(struct operation *op);
	const char *left_behind; /* what holds though the waiting was ended */
	struct timeout look_again;
	uint32_t client; /* KILL_CLIENT */
	bool found, failed;
};

/* ---- arguments ---- */

/* What follows the command: one name or, where it is optional, none (then *name is NULL). */
static bool take_name(struct console_request *request, const struct words *arguments, bool optional, const char **name) {
	*name = arguments->count ? arguments->at[0] : NULL;
	if (arguments->count > 1)
		console_error(&request->result, "42601",
			      "syntax error: %s takes one name, but \"%.64s\" follows; in a name with blanks or marks, put it in "
			      "double quotes",
			      request->result.tag, arguments->at[1]);
	else if (!*name && !optional)
		console_error(&request->result, "42601", "syntax error: %s needs the name of a database",
			      request->result.tag);
	return !request->result.failed;
}

enum { FOUND_ONLY, MADE_TOO };

/* The database that is meant, *database NULL for all. False: it was answered. */
static bool take_database(struct console_request *request, const struct words *arguments, bool optional, bool make,
			  struct database **database) {
	struct error error = {0};
	const char *name;

	*database = NULL;
	if (take_name(request, arguments, optional, &name) && name) {
		if (strcmp(name, "forebay") == 0 || strcmp(name, "pgbouncer") == 0) {
			console_error(&request->result, "0A000", "\"%s\" is this console, which has no pool", name);
		} else {
			*database = database_lookup(session_worker(request->worker->id), name, make, &error);
			if (!*database)
				console_error(&request->result, "3D000", "%s", error.text);
			else if (error.text[0])
				console_hint(&request->result, "%.255s", error.text);
		}
	}
	bool ok = !request->result.failed;
	if (!ok)
		admin_answer(request); /* which may free it */
	return ok;
}

/* ---- running ---- */

static void over(struct operation *op) {
	struct console_request *request = op->request;

	worker_timeout_clear(request->worker, &op->look_again);
	request->stop = NULL;
	free(op);
	admin_answer(request);
}

static void stop(struct console_request *request) {
	struct operation *op = request->stop_context;

	console_error(&request->result, "57014", "canceling statement due to user request; %s", op->left_behind);
	over(op);
}

static void look(struct operation *op) {
	struct console_request *request = op->request;

	if (!op->is_over || !request->context || op->is_over(op) || request->result.failed) {
		over(op);
		return;
	}
	request->stop = stop;
	request->stop_context = op;
	if (!worker_timeout(request->worker, &op->look_again, LOOK_AGAIN_NS)) {
		console_error(&request->result, "53200", "out of memory; %s", op->left_behind);
		over(op);
	}
}

static void looked_again(struct timeout *timeout, uint64_t now_ns) {
	(void)now_ns;
	look(container_of(timeout, struct operation, look_again));
}

static void visit_worker(struct session_worker *sw, struct session_visit *visit) {
	struct operation *op = container_of(visit, struct operation, visit);
	op->on_worker(sw, op);
}

static void visits_done(struct session_visit *visit) {
	struct operation *op = container_of(visit, struct operation, visit);
	if (op->failed)
		console_error(&op->request->result, "53200", "out of memory; not all of it was done, try again");
	look(op);
}

/* NULL: out of memory, and answered so. Nothing has happened yet. */
static struct operation *operation_new(struct console_request *request, struct database *database) {
	struct operation *op = calloc(1, sizeof *op);

	if (!op) {
		console_error(&request->result, "53200", "out of memory");
		admin_answer(request);
		return NULL;
	}
	op->request = request;
	op->database = database;
	op->visit.visit = visit_worker;
	op->visit.done = visits_done;
	op->look_again.expired = looked_again;
	return op;
}

static void operation_run(struct operation *op) {
	if (op->on_worker)
		session_visit_all(&op->visit, op->request->worker);
	else
		look(op);
}

/* Refused: nothing was changed. */
static void refuse(struct operation *op, const char *sqlstate, const char *all, const char *one) {
	if (op->database)
		console_error(&op->request->result, sqlstate, "database \"%.63s\" %s", op->database->name, one);
	else
		console_error(&op->request->result, sqlstate, "%s", all);
	over(op);
}

static void note_down(const char *event, const struct console_request *request, const struct database *database) {
	log_info(event, LOG_FIELDS(LOG_TEXT("user", request->user), LOG_TEXT("database", database ? database->name : "")),
		 database ? "%s \"%s\" was said on the console by \"%s\"" : "%s%s was said on the console by \"%s\"",
		 request->result.tag, database ? database->name : "", request->user);
}

/* ---- on each worker: the shards ---- */

struct here {
	struct session_worker *sw;
	void (*each)(struct session_worker *sw, struct database *database);
};

static void each_database(struct database *database, void *context) {
	const struct here *here = context;
	here->each(here->sw, database);
}

static void each_of(struct session_worker *sw, struct operation *op,
		    void (*each)(struct session_worker *sw, struct database *database)) {
	struct here here = {.sw = sw, .each = each};

	if (op->database)
		each(sw, op->database);
	else
		databases_each(each_database, &here);
}

static struct pool_shard *shard_here(struct session_worker *sw, struct database *database) {
	return pool_shard(database->pool, sw->worker->id);
}

static void tick(struct session_worker *sw, struct database *database) {
	pool_shard_tick(shard_here(sw, database));
}

static void tick_shards(struct session_worker *sw, struct operation *op) {
	each_of(sw, op, tick);
}

static void retire(struct session_worker *sw, struct database *database) {
	pool_shard_retire(shard_here(sw, database));
}

static void retire_shards(struct session_worker *sw, struct operation *op) {
	each_of(sw, op, retire);
}

/* ---- on each worker: clients and servers ---- */

static bool concerns(const struct operation *op, const struct client *client) {
	return !client->closing && client->database && (!op->database || client->database == op->database);
}

static size_t find_clients(struct session_worker *sw, const struct operation *op, struct client **found) {
	static const enum client_state states[] = {CLIENT_IDLE, CLIENT_WAITING, CLIENT_ACTIVE};
	size_t n = 0;

	for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
		list_for_each(node, &sw->clients[states[i]]) {
			struct client *client = list_entry(node, struct client, node);
			if (!concerns(op, client))
				continue;
			if (found)
				found[n] = client;
			n++;
		}
	}
	return n;
}

static void close_conn(struct pool_conn *conn, void *context) {
	(void)context;
	server_close(container_of(conn, struct server, conn), "KILL on the console");
}

static void close_servers(struct session_worker *sw, struct database *database) {
	pool_shard_each_conn(shard_here(sw, database), close_conn, NULL);
}

/* Clients first, so that each learns why. They are put down before, for the end of one may move another to another list;
 * a client is freed only when no callback runs, so none is gone meanwhile. */
static void kill_here(struct session_worker *sw, struct operation *op) {
	each_of(sw, op, tick);
	size_t n = find_clients(sw, op, NULL);
	struct client **clients = n ? calloc(n, sizeof(struct client *)) : NULL;
	if (n && !clients) {
		op->failed = true;
		return;
	}
	find_clients(sw, op, clients);
	for (size_t i = 0; i < n; i++)
		client_end(clients[i], REFUSAL_SHUTDOWN,
			   "terminating connection due to administrator command: KILL of its database on the console");
	free(clients);
	each_of(sw, op, close_servers);
}

static void kill_client_here(struct session_worker *sw, struct operation *op) {
	struct client *client = registry_client(op->client, sw->worker->id);

	if (!client || client->closing || client->state == CLIENT_CLOSED)
		return;
	op->found = true;
	log_info("console_kill_client",
		 LOG_FIELDS(LOG_TEXT("user", op->request->user), LOG_NUMBER("id", client->id),
			    LOG_TEXT("client", STREAM_PEER_SAY(&client->peer)),
			    LOG_TEXT("database", client->database ? client->database->name : ""),
			    LOG_TEXT("client_user", client->user ? pool_user_name(client->user) : "")),
		 "KILL_CLIENT %u was said on the console by \"%s\"", client->id, op->request->user);
	client_end(client, REFUSAL_SHUTDOWN,
		   "terminating connection due to administrator command: KILL_CLIENT on the console");
}

/* ---- what is waited for ---- */

struct closing {
	uint64_t left;              /* connections */
	const struct database *resumed; /* not paused (any more) */
};

static void count_open(struct database *database, void *context) {
	struct closing *closing = context;

	closing->left += pool_size(database->pool) + atomic_load(&database->cancels);
	if (!atomic_load(&database->paused))
		closing->resumed = database;
}

static bool all_closed(struct operation *op) {
	struct closing closing = {0};

	if (op->database)
		count_open(op->database, &closing);
	else
		databases_each(count_open, &closing);
	if (closing.resumed) {
		console_error(&op->request->result, "55000",
			      "database \"%.63s\" was resumed before all connections were closed", closing.resumed->name);
		return true;
	}
	if (closing.left)
		return false;
	log_info("console_paused",
		 LOG_FIELDS(LOG_TEXT("user", op->request->user),
			    LOG_TEXT("database", op->database ? op->database->name : "")),
		 "all connections %s%s%s are closed; RESUME lets clients go on", op->database ? "of database \"" : "",
		 op->database ? op->database->name : "", op->database ? "\"" : "of all databases");
	return true;
}

static void count_retiring(struct database *database, void *context) {
	*(uint64_t *)context += pool_retiring(database->pool);
}

static bool none_retiring(struct operation *op) {
	uint64_t left = 0;

	if (op->database)
		count_retiring(op->database, &left);
	else
		databases_each(count_retiring, &left);
	return left == 0;
}

static bool client_was_found(struct operation *op) {
	if (!op->found)
		console_error(&op->request->result, "42704",
			      "there is no client with the id %u; SHOW CLIENTS lists them", op->client);
	return true;
}

/* ---- the commands ---- */

OPERATE_COMMAND(pause) {
	struct database *database;
	struct operation *op;

	if (!take_database(request, arguments, true, MADE_TOO, &database) || !(op = operation_new(request, database)))
		return;
	if (!database_set_paused(database, true)) {
		refuse(op, "55000", "everything is paused already; RESUME ends it", "is paused already; RESUME ends it");
		return;
	}
	note_down("console_pause", request, database);
	op->on_worker = tick_shards;
	op->is_over = all_closed;
	op->left_behind = "what was paused stays so until RESUME";
	operation_run(op);
}

OPERATE_COMMAND(resume) {
	struct database *database;
	struct operation *op;

	if (!take_database(request, arguments, true, FOUND_ONLY, &database) || !(op = operation_new(request, database)))
		return;
	if (!database_set_paused(database, false)) {
		refuse(op, "55000", "nothing is paused", "is not paused");
		return;
	}
	note_down("console_resume", request, database);
	op->on_worker = tick_shards;
	operation_run(op);
}

OPERATE_COMMAND(disable) {
	struct database *database;

	if (!take_database(request, arguments, false, MADE_TOO, &database))
		return;
	atomic_store(&database->disabled, true);
	note_down("console_disable", request, database);
	admin_answer(request);
}

OPERATE_COMMAND(enable) {
	struct database *database;

	if (!take_database(request, arguments, false, FOUND_ONLY, &database))
		return;
	atomic_store(&database->disabled, false);
	note_down("console_enable", request, database);
	admin_answer(request);
}

OPERATE_COMMAND(reconnect) {
	struct database *database;
	struct operation *op;

	if (!take_database(request, arguments, true, FOUND_ONLY, &database) || !(op = operation_new(request, database)))
		return;
	note_down("console_reconnect", request, database);
	op->on_worker = retire_shards;
	operation_run(op);
}

OPERATE_COMMAND(wait_close) {
	struct database *database;
	struct operation *op;

	if (!take_database(request, arguments, true, FOUND_ONLY, &database) || !(op = operation_new(request, database)))
		return;
	note_down("console_wait_close", request, database);
	op->is_over = none_retiring;
	op->left_behind = "connections that are to be closed are closed all the same";
	operation_run(op);
}

OPERATE_COMMAND(kill) {
	struct database *database;
	struct operation *op;

	if (!take_database(request, arguments, true, MADE_TOO, &database) || !(op = operation_new(request, database)))
		return;
	database_set_paused(database, true);
	note_down("console_kill", request, database);
	op->on_worker = kill_here;
	operation_run(op);
}

/* As SHOW CLIENTS shows it, in column id or ptr. 0: it is neither. */
static uint32_t client_id(const char *text) {
	char *end;

	text += *text == 'c' || *text == 'C';
	unsigned long id = *text >= '0' && *text <= '9' && strlen(text) <= 10 ? strtoul(text, &end, 10) : 0;
	return id && !*end && id <= UINT32_MAX ? (uint32_t)id : 0;
}

OPERATE_COMMAND(kill_client) {
	struct operation *op;

	if (arguments->count != 1) {
		console_error(&request->result, "42601", "syntax error: KILL_CLIENT needs the id of one client");
	} else if (!client_id(arguments->at[0])) {
		console_error(&request->result, "22P02",
			      "\"%.64s\" is no client's id; SHOW CLIENTS shows it in the columns id (123) and ptr (c123)",
			      arguments->at[0]);
	}
	if (request->result.failed) {
		admin_answer(request);
		return;
	}
	if (!(op = operation_new(request, NULL)))
		return;
	op->client = client_id(arguments->at[0]);
	op->on_worker = kill_client_here;
	op->is_over = client_was_found;
	operation_run(op);
}
