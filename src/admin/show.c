/* SHOW commands about the process as a whole, and what all of them share. */
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif

#include "admin/show.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "session/client.h"
#include "session/database.h"
#include "session/server.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0"
#endif

/* ---- snapshots ---- */

static void visit_worker(struct session_worker *sw, struct session_visit *visit) {
	struct gathering *gathering = container_of(visit, struct gathering, visit);
	gathering->on_worker(sw, gathering);
}

static void visits_done(struct session_visit *visit) {
	struct gathering *gathering = container_of(visit, struct gathering, visit);
	struct console_request *request = gathering->request;

	if (gathering->finish)
		gathering->finish(gathering);
	free(gathering);
	admin_answer(request);
}

void gather(struct console_request *request, void (*on_worker)(struct session_worker *, struct gathering *),
	    void (*finish)(struct gathering *), void *memory) {
	struct gathering *gathering = calloc(1, sizeof *gathering);

	if (!gathering) {
		struct gathering failed = {.request = request, .memory = memory};
		console_error(&request->result, "53200", "out of memory");
		if (finish)
			finish(&failed);
		admin_answer(request);
		return;
	}
	*gathering = (struct gathering){
		.visit = {.visit = visit_worker, .done = visits_done},
		.request = request,
		.on_worker = on_worker,
		.finish = finish,
		.memory = memory,
	};
	session_visit_all(&gathering->visit, request->worker);
}

bool show_columns(struct console_result *result, const struct column *columns, size_t count) {
	enum { COLUMNS_MAX = 64 };
	const char *names[COLUMNS_MAX];
	enum console_type types[COLUMNS_MAX];

	if (count > COLUMNS_MAX)
		count = COLUMNS_MAX;
	for (size_t i = 0; i < count; i++) {
		names[i] = columns[i].name;
		types[i] = columns[i].type;
	}
	return console_columns(result, count, names, types);
}

const char *show_pool_mode(const struct pool_config *config) {
	switch (config->mode) {
	case POOL_MODE_SESSION:
		return "session";
	case POOL_MODE_STATEMENT:
		return "statement";
	case POOL_MODE_TRANSACTION:
		break;
	}
	return "transaction";
}

const char *show_balance(const struct pool_config *config) {
	if (config->host_count < 2)
		return NULL;
	return config->host_order == HOST_ORDER_FAILOVER ? "disable" : "round-robin";
}

const struct config *show_config_of(const struct console_request *request) {
	return session_worker(request->worker->id)->generation->config;
}

void show_time(struct console_result *r, size_t column, uint64_t at_ns) {
	char text[64];
	struct tm local;

	if (!at_ns)
		return;
	uint64_t now_ns = clock_monotonic_ns();
	uint64_t wall_ns = clock_wall_ns() - (now_ns > at_ns ? now_ns - at_ns : 0);
	time_t seconds = (time_t)(wall_ns / NS_PER_S);
	if (localtime_r(&seconds, &local) && strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S %Z", &local))
		console_set_text(r, column, text);
}

/* ---- DATABASES ---- */

static const struct column database_columns[] = {
	{"name", CONSOLE_TEXT},
	{"host", CONSOLE_TEXT},
	{"port", CONSOLE_INT4},
	{"database", CONSOLE_TEXT},
	{"force_user", CONSOLE_TEXT},
	{"pool_size", CONSOLE_INT4},
	{"min_pool_size", CONSOLE_INT4},
	{"reserve_pool_size", CONSOLE_INT4},
	{"server_lifetime", CONSOLE_INT4},
	{"pool_mode", CONSOLE_TEXT},
	{"load_balance_hosts", CONSOLE_TEXT},
	{"max_connections", CONSOLE_INT4},
	{"current_connections", CONSOLE_INT4},
	{"max_client_connections", CONSOLE_INT4},
	{"current_client_connections", CONSOLE_INT4},
	{"paused", CONSOLE_INT4},
	{"disabled", CONSOLE_INT4},
	/* our own */
	{"protocol", CONSOLE_TEXT},
	{"automatic", CONSOLE_BOOL},
	{"removed", CONSOLE_BOOL},
	{"ready", CONSOLE_BOOL}, /* can serve; min_idle is there */
	/* PgBouncer's name of reserve_pool_size until 1.20: tools ask for it still */
	{"reserve_pool", CONSOLE_INT4},
};

static void database_hosts(struct console_result *r, const struct pool_config *config) {
	char hosts[1024] = "";
	size_t len = 0;

	for (size_t i = 0; i < config->host_count && len < sizeof hosts; i++)
		len += (size_t)snprintf(hosts + len, sizeof hosts - len, "%s%s", i ? "," : "", config->hosts[i].host);
	console_set_text(r, 1, hosts);
	if (config->host_count)
		console_set_number(r, 2, config->hosts[0].port);
}

static void database_row(struct database *database, void *context) {
	struct console_request *request = context;
	struct console_result *r = &request->result;

	/* one of [pool:*] may not have been seen on this worker yet */
	if (!database_adopt(session_worker(request->worker->id), database) || !console_row(r))
		return;
	const struct pool_config *config = database_view(database, request->worker->id)->config;
	struct pool_limits limits = pool_limits(database->pool);
	console_set_text(r, 0, database->name);
	database_hosts(r, config);
	console_set_text(r, 3, config->database ? config->database : database->name);
	console_set_text(r, 4, config->user);
	console_set_number(r, 5, limits.max_size);
	console_set_number(r, 6, limits.min_idle);
	console_set_number(r, 7, 0);
	console_set_number(r, 8, (int64_t)(limits.max_lifetime / NS_PER_S));
	console_set_text(r, 9, show_pool_mode(config));
	console_set_text(r, 10, show_balance(config));
	console_set_number(r, 11, limits.max_size);
	console_set_number(r, 12, pool_size(database->pool));
	console_set_number(r, 13, config->max_connections);
	console_set_number(r, 14, atomic_load(&database->clients));
	console_set_number(r, 15, atomic_load(&database->paused));
	console_set_number(r, 16, atomic_load(&database->disabled));
	console_set_text(r, 17, database->protocol->name);
	console_set_bool(r, 18, atomic_load(&database->automatic));
	console_set_bool(r, 19, atomic_load(&database->removed));
	console_set_bool(r, 20, pool_is_ready(database->pool, request->worker->now_ns));
	console_set_number(r, 21, 0);
}

SHOW_COMMAND(databases) {
	(void)arguments;
	if (SHOW_COLUMNS(&request->result, database_columns))
		databases_each(database_row, request);
	admin_answer(request);
}

/* ---- LISTS, MEM ---- */

struct counts {
	uint64_t clients[CLIENT_CLOSED], servers, cancels, databases, pools, leaks, leaked;
};

static void count_on_worker(struct session_worker *sw, struct gathering *gathering) {
	struct counts *counts = gathering->memory;

	for (int state = CLIENT_LOGIN; state < CLIENT_CLOSED; state++)
		list_for_each(node, &sw->clients[state])
			counts->clients[state]++;
	list_for_each(node, &sw->servers)
		counts->servers++;
	counts->cancels += sw->cancels;
}

static void count_user(struct pool_user *user, void *context) {
	(void)user;
	((struct counts *)context)->pools++;
}

static void count_database(struct database *database, void *context) {
	struct counts *counts = context;

	counts->databases++;
	pool_each_user(database->pool, count_user, context);
	for (int i = 0; i < database->workers; i++) {
		const struct pool_shard_stats *stats = pool_shard_stats(pool_shard(database->pool, i));
		counts->leaks += stat_read(&stats->leaks);
		counts->leaked += atomic_load_explicit(&stats->leaked, memory_order_relaxed);
	}
}

static uint64_t all_clients(const struct counts *counts) {
	uint64_t sum = 0;

	for (int state = CLIENT_LOGIN; state < CLIENT_CLOSED; state++)
		sum += counts->clients[state];
	return sum;
}

static void list_row(struct console_result *r, const char *list, uint64_t items) {
	if (console_row(r)) {
		console_set_text(r, 0, list);
		console_set_number(r, 1, (int64_t)items);
	}
}

/* [user:NAME] sections; config_each() tells of each key of each. */
static void count_user_section(void *context, const char *section, const char *key, const char *value,
			       const char *default_value, bool reloadable) {
	(void)value, (void)default_value, (void)reloadable;
	if (strncmp(section, "user:", 5) == 0 && strcmp(key, "password") == 0)
		(*(uint64_t *)context)++;
}

static void lists_finish(struct gathering *gathering) {
	static const struct column columns[] = {{"list", CONSOLE_TEXT}, {"items", CONSOLE_INT4}};
	struct console_request *request = gathering->request;
	struct console_result *r = &request->result;
	struct counts *counts = gathering->memory;
	uint64_t users = 0;

	if (!r->failed && SHOW_COLUMNS(r, columns)) {
		databases_each(count_database, counts);
		config_each(show_config_of(request), count_user_section, &users);
		list_row(r, "databases", counts->databases);
		list_row(r, "users", users);
		list_row(r, "peers", 0);
		list_row(r, "pools", counts->pools);
		list_row(r, "peer_pools", 0);
		list_row(r, "free_clients", 0);
		list_row(r, "used_clients", all_clients(counts));
		list_row(r, "login_clients", counts->clients[CLIENT_LOGIN]);
		list_row(r, "free_servers", 0);
		list_row(r, "used_servers", counts->servers);
		list_row(r, "dns_names", 0);
		list_row(r, "dns_zones", 0);
		list_row(r, "dns_queries", 0);
		list_row(r, "dns_pending", 0);
		/* our own */
		list_row(r, "idle_clients", counts->clients[CLIENT_IDLE]);
		list_row(r, "waiting_clients", counts->clients[CLIENT_WAITING]);
		list_row(r, "active_clients", counts->clients[CLIENT_ACTIVE]);
		list_row(r, "console_clients", counts->clients[CLIENT_CONSOLE]);
		list_row(r, "cancel_requests", counts->cancels);
		list_row(r, "workers", (uint64_t)session_workers());
		list_row(r, "leaked_connections", counts->leaked);
		list_row(r, "leaks", counts->leaks);
	}
	free(counts);
}

static void count_all(struct console_request *request, void (*finish)(struct gathering *)) {
	struct counts *counts = calloc(1, sizeof *counts);

	if (!counts) {
		console_error(&request->result, "53200", "out of memory");
		admin_answer(request);
		return;
	}
	gather(request, count_on_worker, finish, counts);
}

SHOW_COMMAND(lists) {
	(void)arguments;
	count_all(request, lists_finish);
}

static void mem_row(struct console_result *r, const char *name, uint64_t size, uint64_t used, uint64_t free_items) {
	if (!console_row(r))
		return;
	console_set_text(r, 0, name);
	console_set_number(r, 1, (int64_t)size);
	console_set_number(r, 2, (int64_t)used);
	console_set_number(r, 3, (int64_t)free_items);
	console_set_number(r, 4, (int64_t)(size * (used + free_items)));
}

static void mem_finish(struct gathering *gathering) {
	/* PgBouncer's are four bytes wide; a heap may be larger */
	static const struct column columns[] = {{"name", CONSOLE_TEXT},
						{"size", CONSOLE_INT8},
						{"used", CONSOLE_INT8},
						{"free", CONSOLE_INT8},
						{"memtotal", CONSOLE_INT8}};
	struct console_result *r = &gathering->request->result;
	struct counts *counts = gathering->memory;
	const struct protocol *protocol = protocol_by_id(PROTOCOL_POSTGRESQL);

	if (!r->failed && SHOW_COLUMNS(r, columns)) {
		if (protocol) {
			mem_row(r, "client_cache", protocol->client_size, all_clients(counts), 0);
			mem_row(r, "server_cache", protocol->server_size, counts->servers, 0);
			mem_row(r, "cancel_cache", protocol->cancel_size, counts->cancels, 0);
		}
		mem_row(r, "worker_scratch", WORKER_SCRATCH_SIZE, (uint64_t)session_workers(), 0);
#ifdef __GLIBC__
		struct mallinfo2 heap = mallinfo2();
		mem_row(r, "heap_bytes", 1, heap.uordblks + heap.hblkhd, heap.fordblks);
#endif
	}
	free(counts);
}

SHOW_COMMAND(mem) {
	(void)arguments;
	count_all(request, mem_finish);
}

/* ---- CONFIG, STATE, VERSION ---- */

static void config_row(void *context, const char *section, const char *key, const char *value,
		       const char *default_value, bool reloadable) {
	struct console_result *r = context;

	if (!console_row(r))
		return;
	console_set_text(r, 0, key);
	console_set_text(r, 1, value);
	console_set_text(r, 2, default_value);
	console_set_text(r, 3, reloadable ? "yes" : "no");
	console_set_text(r, 4, section);
}

/* What tools made for PgBouncer look for. */
static void pgbouncer_row(void *context, const char *key, const char *value, const char *default_value) {
	struct console_result *r = context;

	if (!console_row(r))
		return;
	console_set_text(r, 0, key);
	console_set_text(r, 1, value);
	console_set_text(r, 2, default_value);
	console_set_text(r, 3, "yes");
	console_set_text(r, 4, "pgbouncer");
}

/* Of a forebay.ini: the two that scripts cannot do without (check_postgres takes its percentages of the first, and knows an
 * answer by the second). */
static void say_in_pgbouncers_words(const struct config *config, struct console_result *r) {
	char clients[16];

	snprintf(clients, sizeof clients, "%u", config->max_clients);
	pgbouncer_row(r, "max_client_conn", clients, "100");
	pgbouncer_row(r, "log_pooler_errors", "1", "1");
}

SHOW_COMMAND(config) {
	static const struct column columns[] = {{"key", CONSOLE_TEXT},
						{"value", CONSOLE_TEXT},
						{"default", CONSOLE_TEXT},
						{"changeable", CONSOLE_TEXT},
						/* our own */
						{"section", CONSOLE_TEXT}};

	(void)arguments;
	if (SHOW_COLUMNS(&request->result, columns)) {
		const struct config *config = show_config_of(request);
		config_each_of_pgbouncer(config, pgbouncer_row, &request->result);
		config_each(config, config_row, &request->result);
		if (!config_is_pgbouncers(config))
			say_in_pgbouncers_words(config, &request->result);
	}
	admin_answer(request);
}

static void find_paused(struct database *database, void *context) {
	if (atomic_load(&database->paused))
		*(bool *)context = true;
}

static void state_row(struct console_result *r, const char *key, bool value) {
	if (console_row(r)) {
		console_set_text(r, 0, key);
		console_set_text(r, 1, value ? "yes" : "no");
	}
}

SHOW_COMMAND(state) {
	static const struct column columns[] = {{"key", CONSOLE_TEXT}, {"value", CONSOLE_TEXT}};
	struct session_worker *sw = session_worker(request->worker->id);
	bool paused = false;

	(void)arguments;
	if (SHOW_COLUMNS(&request->result, columns)) {
		databases_each(find_paused, &paused);
		state_row(&request->result, "active", !paused && !sw->drain.on);
		state_row(&request->result, "paused", paused);
		state_row(&request->result, "suspended", false);
		state_row(&request->result, "draining", sw->drain.on); /* our own */
	}
	admin_answer(request);
}

SHOW_COMMAND(version) {
	static const struct column columns[] = {{"version", CONSOLE_TEXT}};

	(void)arguments;
	if (SHOW_COLUMNS(&request->result, columns) && console_row(&request->result))
		console_set_text(&request->result, 0, "forebay " PACKAGE_VERSION);
	admin_answer(request);
}
