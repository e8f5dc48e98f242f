#include "load.h"

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum client_state { CONNECTING, IDLE, ASKING, HOLDING, COMMITTING, ROLLING_BACK, PARTED };

struct client {
	PGconn *conn;
	enum client_state state;
	bool wants_write;
	bool failed;          /* what it does now has met an error, which was noted */
	long long due;        /* IDLE, HOLDING, PARTED: when it goes on */
	long long began, took_until;
	const char *user;
	char farewell_state[6], farewell[300]; /* the FATAL that came while nothing was asked */
};

struct done {
	long long began, ended; /* ended: the answer was there */
};

struct failure {
	long long at;
	char sqlstate[6];
	char text[300];
};

struct load {
	/* immutable while the thread runs */
	struct load_setup setup;
	pthread_t thread;
	int wake[2];
	struct client *clients;
	char *begin_sql;

	pthread_mutex_t mutex;
	struct {
		bool go, halt, stop;
		int connected, hung;
		long long oldest; /* when the longest wait that is under way began; 0: none */
		struct done *done;
		size_t done_n, done_room;
		struct failure *failures;
		size_t failures_n, failures_room;
	} _shared;
};

/* --- the thread --- */

static void *grown(void *list, size_t n, size_t *room, size_t size) {
	if (n < *room)
		return list;
	*room = *room ? 2 * *room : 1024;
	list = realloc(list, *room * size);
	if (!list)
		abort();
	return list;
}

static void note_done(struct load *load, const struct client *client) {
	pthread_mutex_lock(&load->mutex);
	load->_shared.done = grown(load->_shared.done, load->_shared.done_n, &load->_shared.done_room, sizeof(struct done));
	load->_shared.done[load->_shared.done_n++] = (struct done){client->began, client->took_until};
	pthread_mutex_unlock(&load->mutex);
}

/* One for each transaction or attempt to connect. */
static void note_failure(struct load *load, struct client *client, const char *sqlstate, const char *text) {
	struct failure *failure;

	if (client->failed)
		return;
	client->failed = true;
	/* What libpq says of a lost connection tells less than what the other side said before. */
	if ((!sqlstate || !*sqlstate) && client->farewell[0]) {
		sqlstate = client->farewell_state;
		text = client->farewell;
	}
	pthread_mutex_lock(&load->mutex);
	load->_shared.failures =
		grown(load->_shared.failures, load->_shared.failures_n, &load->_shared.failures_room, sizeof(*failure));
	failure = &load->_shared.failures[load->_shared.failures_n++];
	failure->at = cluster_now_us();
	snprintf(failure->sqlstate, sizeof(failure->sqlstate), "%s", sqlstate && *sqlstate ? sqlstate : "-----");
	snprintf(failure->text, sizeof(failure->text), "%s", text && *text ? text : "(no text)");
	for (char *p = failure->text; *p; p++)
		*p = *p == '\n' ? ' ' : *p;
	pthread_mutex_unlock(&load->mutex);
}

/* Errors that come unasked are notices to libpq. */
static void take_notice(void *context, const PGresult *res) {
	struct client *client = context;
	const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *sqlstate = PQresultErrorField(res, PG_DIAG_SQLSTATE);

	if (!severity || (strcmp(severity, "FATAL") != 0 && strcmp(severity, "PANIC") != 0))
		return;
	snprintf(client->farewell_state, sizeof(client->farewell_state), "%s", sqlstate ? sqlstate : "");
	snprintf(client->farewell, sizeof(client->farewell), "%s", PQresultErrorMessage(res));
}

static int error_pause_us(const struct load *load) {
	return 1000 * (load->setup.error_pause_ms ? load->setup.error_pause_ms : 50);
}

static void client_part(struct load *load, struct client *client) {
	PQfinish(client->conn);
	client->conn = NULL;
	client->state = PARTED;
	client->due = cluster_now_us() + error_pause_us(load);
}

static void client_connect(struct load *load, struct client *client) {
	char info[512];
	const struct load_setup *setup = &load->setup;

	snprintf(info, sizeof(info),
		 "host=%s port=%d user=%s password=%s-secret dbname=%s sslmode=disable gssencmode=disable application_name=load",
		 setup->host ? setup->host : "127.0.0.1", setup->port, client->user, client->user,
		 setup->database ? setup->database : "app");
	client->failed = false;
	client->began = cluster_now_us();
	client->conn = PQconnectStart(info);
	if (!client->conn)
		abort();
	if (PQstatus(client->conn) == CONNECTION_BAD) {
		note_failure(load, client, NULL, PQerrorMessage(client->conn));
		client_part(load, client);
		return;
	}
	PQsetNoticeReceiver(client->conn, take_notice, client);
	client->farewell[0] = client->farewell_state[0] = '\0';
	client->state = CONNECTING;
	client->wants_write = true;
}

static void client_lost(struct load *load, struct client *client) {
	note_failure(load, client, NULL, PQerrorMessage(client->conn));
	client_part(load, client);
}

static void client_send(struct load *load, struct client *client, enum client_state state, const char *sql) {
	client->state = state;
	if (!PQsendQuery(client->conn, sql)) {
		client_lost(load, client);
		return;
	}
	client->wants_write = PQflush(client->conn) == 1;
}

static void client_begin(struct load *load, struct client *client) {
	client->failed = false;
	client->began = cluster_now_us();
	client_send(load, client, ASKING, load->begin_sql);
}

static void client_rest(struct load *load, struct client *client) {
	client->state = IDLE;
	client->due = cluster_now_us() + (client->failed ? error_pause_us(load) : 1000LL * load->setup.pause_ms);
}

/* The whole answer is there. */
static void client_answered(struct load *load, struct client *client) {
	if (client->state == ASKING)
		client->took_until = cluster_now_us();
	if (PQstatus(client->conn) == CONNECTION_BAD) {
		client_lost(load, client);
		return;
	}
	if (client->failed && client->state != ROLLING_BACK && PQtransactionStatus(client->conn) != PQTRANS_IDLE) {
		client_send(load, client, ROLLING_BACK, "rollback");
		return;
	}
	if (client->state == ASKING && load->setup.hold_ms > 0 && !client->failed) {
		client->state = HOLDING;
		client->due = cluster_now_us() + 1000LL * load->setup.hold_ms;
		return;
	}
	if (!client->failed)
		note_done(load, client);
	client_rest(load, client);
}

static void client_read(struct load *load, struct client *client) {
	bool alive = PQconsumeInput(client->conn);

	/* What came before the end is told, even where the connection is lost. */
	while (!PQisBusy(client->conn)) {
		PGresult *res = PQgetResult(client->conn);
		ExecStatusType status;

		if (!res) {
			client_answered(load, client);
			return;
		}
		status = PQresultStatus(res);
		if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
			note_failure(load, client, PQresultErrorField(res, PG_DIAG_SQLSTATE), PQresultErrorMessage(res));
		PQclear(res);
		if (PQstatus(client->conn) == CONNECTION_BAD) {
			client_lost(load, client);
			return;
		}
	}
	if (!alive)
		client_lost(load, client);
}

static void client_go_on_connecting(struct load *load, struct client *client) {
	PostgresPollingStatusType status = PQconnectPoll(client->conn);

	if (status == PGRES_POLLING_FAILED) {
		client_lost(load, client);
	} else if (status == PGRES_POLLING_OK) {
		PQsetnonblocking(client->conn, 1);
		client->wants_write = false;
		client_rest(load, client);
		client->due = 0;
		pthread_mutex_lock(&load->mutex);
		load->_shared.connected++;
		pthread_mutex_unlock(&load->mutex);
	} else {
		client->wants_write = status == PGRES_POLLING_WRITING;
	}
}

static bool client_awaits(const struct client *client) {
	return client->state == CONNECTING || client->state == ASKING || client->state == COMMITTING ||
	       client->state == ROLLING_BACK;
}

/* What is due by the clock. When to look again, or LLONG_MAX. */
static long long client_tick(struct load *load, struct client *client, long long now, bool go, bool halt) {
	if (client_awaits(client))
		return LLONG_MAX;
	if (client->state == PARTED && !halt) {
		if (client->due > now)
			return client->due;
		client_connect(load, client);
	} else if (client->state == HOLDING) {
		if (client->due > now)
			return client->due;
		client_send(load, client, COMMITTING, "commit");
	} else if (client->state == IDLE && go && !halt) {
		if (client->due > now)
			return client->due;
		client_begin(load, client);
	}
	return LLONG_MAX;
}

static int wait_time_ms(long long due, long long now) {
	if (due == LLONG_MAX)
		return 100;
	return due <= now ? 0 : due - now > 100000 ? 100 : (int)((due - now + 999) / 1000);
}

static void client_event(struct load *load, struct client *client, short revents) {
	bool alive;

	if (!client->conn || revents == 0)
		return;
	if (client->state == CONNECTING) {
		client_go_on_connecting(load, client);
		return;
	}
	if (client_awaits(client)) {
		if (client->wants_write)
			client->wants_write = PQflush(client->conn) == 1;
		client_read(load, client);
		return;
	}
	/* Nothing was asked: a notice, or the end; and before that perhaps a word about it. */
	alive = PQconsumeInput(client->conn);
	PQisBusy(client->conn);
	if (!alive || PQstatus(client->conn) == CONNECTION_BAD) {
		client->failed = false;
		client_lost(load, client);
	}
}

static void *run(void *context) {
	struct load *load = context;
	int n = load->setup.clients;
	struct pollfd *polled = calloc((size_t)n + 1, sizeof(*polled));
	long long drained = LLONG_MAX;

	if (!polled)
		abort();
	for (int i = 0; i < n; i++)
		client_connect(load, &load->clients[i]);
	for (;;) {
		long long now = cluster_now_us(), due = LLONG_MAX, oldest = 0;
		bool go, halt, stop;
		int busy = 0;

		pthread_mutex_lock(&load->mutex);
		go = load->_shared.go;
		stop = load->_shared.stop;
		halt = load->_shared.halt;
		pthread_mutex_unlock(&load->mutex);
		polled[n] = (struct pollfd){.fd = load->wake[0], .events = POLLIN};
		for (int i = 0; i < n; i++) {
			struct client *client = &load->clients[i];
			long long next = client_tick(load, client, now, go, halt);

			due = next < due ? next : due;
			if (client_awaits(client) && (oldest == 0 || client->began < oldest))
				oldest = client->began;
			busy += client_awaits(client) || client->state == HOLDING;
			polled[i] = (struct pollfd){
				.fd = client->conn ? PQsocket(client->conn) : -1,
				.events = client->state == CONNECTING && client->wants_write ? POLLOUT
					  : client->wants_write				     ? POLLIN | POLLOUT
											     : POLLIN,
			};
		}
		if (stop && drained == LLONG_MAX)
			drained = now + 1000LL * (load->setup.drain_ms ? load->setup.drain_ms : 45000);
		pthread_mutex_lock(&load->mutex);
		load->_shared.oldest = oldest;
		load->_shared.hung = stop ? busy : 0;
		pthread_mutex_unlock(&load->mutex);
		if (stop && (busy == 0 || now > drained))
			break;
		if (poll(polled, (nfds_t)n + 1, wait_time_ms(due, now)) < 0)
			continue;
		if (polled[n].revents) {
			char drop[64];

			if (read(load->wake[0], drop, sizeof(drop)) < 0)
				continue;
		}
		for (int i = 0; i < n; i++)
			client_event(load, &load->clients[i], polled[i].revents);
	}
	for (int i = 0; i < n; i++)
		PQfinish(load->clients[i].conn);
	free(polled);
	return NULL;
}

/* --- the test's side --- */

static void tell(struct load *load, bool *what) {
	pthread_mutex_lock(&load->mutex);
	*what = true;
	pthread_mutex_unlock(&load->mutex);
	if (write(load->wake[1], "", 1) != 1)
		ck_abort_msg("cannot wake the load's thread");
}

struct load *load_start(const struct load_setup *setup) {
	static const char *const app_alone[] = {"app", NULL};
	const char *const *users = setup->users ? setup->users : app_alone;
	struct load *load = calloc(1, sizeof(*load));
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	int users_n = 0, connected, failures;

	ck_assert(load != NULL);
	load->setup = *setup;
	load->clients = calloc((size_t)setup->clients, sizeof(*load->clients));
	ck_assert(load->clients != NULL);
	ck_assert(asprintf(&load->begin_sql, "%s%s", setup->hold_ms > 0 ? "begin; " : "", setup->sql) >= 0);
	while (users[users_n])
		users_n++;
	for (int i = 0; i < setup->clients; i++)
		load->clients[i].user = users[i % users_n];
	pthread_mutex_init(&load->mutex, NULL);
	ck_assert_int_eq(pipe(load->wake), 0);
	ck_assert_int_eq(pthread_create(&load->thread, NULL, run, load), 0);
	while (!setup->impatient) {
		pthread_mutex_lock(&load->mutex);
		connected = load->_shared.connected;
		failures = (int)load->_shared.failures_n;
		pthread_mutex_unlock(&load->mutex);
		if (failures > 0 || harness_now_ms() > deadline) {
			load_print_errors(load, "while connecting");
			ck_abort_msg("%d of %d clients are connected, with %d errors", connected, setup->clients, failures);
		}
		if (connected >= setup->clients)
			break;
		harness_pause_ms(2);
	}
	if (!setup->parked)
		load_go(load);
	return load;
}

void load_go(struct load *load) {
	tell(load, &load->_shared.go);
}

void load_halt(struct load *load) {
	tell(load, &load->_shared.halt);
}

void load_stop(struct load *load) {
	load_halt(load);
	tell(load, &load->_shared.stop);
	pthread_join(load->thread, NULL);
}

void load_free(struct load *load) {
	close(load->wake[0]);
	close(load->wake[1]);
	pthread_mutex_destroy(&load->mutex);
	free(load->_shared.done);
	free(load->_shared.failures);
	free(load->clients);
	free(load->begin_sql);
	free(load);
}

void load_await(struct load *load, long more) {
	long from = load_done(load, 0, LLONG_MAX);
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	while (load_done(load, 0, LLONG_MAX) < from + more) {
		if (harness_now_ms() > deadline) {
			load_print_errors(load, "instead of work");
			ck_abort_msg("only %ld of %ld transactions more were done", load_done(load, 0, LLONG_MAX) - from, more);
		}
		harness_pause_ms(2);
	}
}

int load_hung(struct load *load) {
	int hung;

	pthread_mutex_lock(&load->mutex);
	hung = load->_shared.hung;
	pthread_mutex_unlock(&load->mutex);
	return hung;
}

long long load_longest_wait_us(struct load *load) {
	long long oldest;

	pthread_mutex_lock(&load->mutex);
	oldest = load->_shared.oldest;
	pthread_mutex_unlock(&load->mutex);
	return oldest ? cluster_now_us() - oldest : 0;
}

static bool within(long long at, long long from, long long until) {
	return at >= from && at <= until;
}

long load_done(struct load *load, long long from, long long until) {
	long n = 0;

	pthread_mutex_lock(&load->mutex);
	for (size_t i = 0; i < load->_shared.done_n; i++)
		n += within(load->_shared.done[i].ended, from, until);
	pthread_mutex_unlock(&load->mutex);
	return n;
}

long long load_first_done(struct load *load, long long from) {
	long long first = -1;

	pthread_mutex_lock(&load->mutex);
	for (size_t i = 0; i < load->_shared.done_n; i++) {
		long long ended = load->_shared.done[i].ended;

		if (ended >= from && (first < 0 || ended < first))
			first = ended;
	}
	pthread_mutex_unlock(&load->mutex);
	return first;
}

static int compare(const void *a, const void *b) {
	long long x = *(const long long *)a, y = *(const long long *)b;

	return (x > y) - (x < y);
}

/* Their ends, or how long they took, in order; malloc'd. */
static long long *in_order(struct load *load, long long from, long long until, bool ends, size_t *n) {
	long long *list;

	*n = 0;
	pthread_mutex_lock(&load->mutex);
	list = calloc(load->_shared.done_n + 1, sizeof(*list));
	ck_assert(list != NULL);
	for (size_t i = 0; i < load->_shared.done_n; i++) {
		const struct done *done = &load->_shared.done[i];

		if (!within(done->ended, from, until) || (!ends && done->began < from))
			continue;
		list[(*n)++] = ends ? done->ended : done->ended - done->began;
	}
	pthread_mutex_unlock(&load->mutex);
	qsort(list, *n, sizeof(*list), compare);
	return list;
}

long long load_longest_gap(struct load *load, long long from, long long until) {
	size_t n;
	long long *ends = in_order(load, from, until, true, &n), longest = 0, last = from;

	for (size_t i = 0; i < n; i++) {
		longest = ends[i] - last > longest ? ends[i] - last : longest;
		last = ends[i];
	}
	longest = until - last > longest ? until - last : longest;
	free(ends);
	return longest;
}

long long load_percentile(struct load *load, long long from, long long until, double share) {
	size_t n;
	long long *took = in_order(load, from, until, false, &n), value = -1;

	if (n > 0)
		value = took[(size_t)((double)(n - 1) * share)];
	free(took);
	return value;
}

int load_errors(struct load *load, long long from, long long until) {
	int n = 0;

	pthread_mutex_lock(&load->mutex);
	for (size_t i = 0; i < load->_shared.failures_n; i++)
		n += within(load->_shared.failures[i].at, from, until);
	pthread_mutex_unlock(&load->mutex);
	return n;
}

static bool has(const struct failure *failure, const char *words) {
	return strcmp(failure->sqlstate, words) == 0 || strstr(failure->text, words) != NULL;
}

int load_errors_with(struct load *load, const char *words) {
	int n = 0;

	pthread_mutex_lock(&load->mutex);
	for (size_t i = 0; i < load->_shared.failures_n; i++)
		n += has(&load->_shared.failures[i], words);
	pthread_mutex_unlock(&load->mutex);
	return n;
}

int load_errors_without(struct load *load, const char *const *words) {
	int n = 0;

	pthread_mutex_lock(&load->mutex);
	for (size_t i = 0; i < load->_shared.failures_n; i++) {
		const struct failure *failure = &load->_shared.failures[i];
		bool known = false;

		for (const char *const *word = words; *word && !known; word++)
			known = has(failure, *word);
		if (!known && n++ < 3)
			printf("    not expected: %s %s\n", failure->sqlstate, failure->text);
	}
	pthread_mutex_unlock(&load->mutex);
	return n;
}

void load_print_errors(struct load *load, const char *title) {
	pthread_mutex_lock(&load->mutex);
	for (size_t i = 0; i < load->_shared.failures_n; i++) {
		const struct failure *failure = &load->_shared.failures[i];
		int same = 0;
		bool seen = false;

		for (size_t j = 0; j < load->_shared.failures_n; j++) {
			bool equal = strcmp(load->_shared.failures[j].sqlstate, failure->sqlstate) == 0 &&
				     strncmp(load->_shared.failures[j].text, failure->text, 60) == 0;

			same += equal;
			seen = seen || (equal && j < i);
		}
		if (!seen)
			printf("    %s: %d times %s %s\n", title, same, failure->sqlstate, failure->text);
	}
	pthread_mutex_unlock(&load->mutex);
}
