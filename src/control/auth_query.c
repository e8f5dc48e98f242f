#include "control/auth_query.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "config/config.h"
#include "control/auth_query_mysql.h"
#include "control/libmysql.h"
#include "control/libpq.h"
#include "session/generation.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#define NEGATIVE_TTL_MAX_NS (5 * NS_PER_S)
#define QUERY_TIMEOUT_NS (10 * NS_PER_S)    /* where the pool has no connect_timeout */
#define CONNECTION_IDLE_NS (300 * NS_PER_S) /* a connection unused for so long is closed */
#define HOUSEKEEPING_NS (30 * NS_PER_S)

enum { KEY_MAX = 512, SECRET_MAX = 4096 };

struct answer {
	enum lookup_result result;
	char *secret;
	char error[256];
};

/* An answer that is kept. */
struct entry {
	UT_hash_handle hh; /* in the order of their making: the first is the oldest */
	char *key;
	struct answer answer;
	uint64_t expires_ns;
};

/* A query under way or in the queue, with all the look-ups that wait for it. */
struct flight {
	UT_hash_handle hh;
	struct flight *next; /* in the queue */
	char *key;
	struct lookup *first; /* linked by their mail */
	struct mail **tail;
};

struct connection {
	char *key;
	PGconn *conn;
	uint64_t used_ns;
};

struct thread {
	pthread_t id;
	unsigned epoch; /* of its connections */
	struct connection connections[AUTH_QUERY_CONNECTIONS_MAX];
};

static struct {
	struct thread threads[AUTH_QUERY_THREADS];
	int started;
	int wake[2]; /* a pipe: its reading end becomes readable when the threads must stop */
	pthread_cond_t changed;
	struct { /* under the mutex */
		pthread_mutex_t mutex;
		bool running;
		unsigned epoch; /* counts configurations */
		struct entry *cache;
		struct flight *flights;
		struct flight *head, **tail; /* the queue */
		size_t queued;
	} shared;
} control = {.wake = {-1, -1}, .shared.mutex = PTHREAD_MUTEX_INITIALIZER};

/* ---- answering ---- */

static void deliver(struct mail *mail, void *receiver) {
	struct lookup *lookup = container_of(mail, struct lookup, mail);

	(void)receiver;
	lookup->done(lookup);
}

static void answer_lookup(struct lookup *lookup, const struct answer *answer) {
	lookup->result = answer->result;
	lookup->secret = NULL;
	snprintf(lookup->error, sizeof lookup->error, "%s", answer->error);
	if (answer->result == LOOKUP_FOUND && answer->secret) {
		lookup->secret = secret_strdup(answer->secret);
		if (!lookup->secret) {
			lookup->result = LOOKUP_FAILED;
			snprintf(lookup->error, sizeof lookup->error, "out of memory");
		}
	}
	lookup->mail.deliver = deliver;
	mailbox_post(&lookup->worker->mailbox, &lookup->mail);
}

static void fail_lookup(struct lookup *lookup, const char *why) {
	struct answer answer = {.result = LOOKUP_FAILED};

	snprintf(answer.error, sizeof answer.error, "%s", why);
	answer_lookup(lookup, &answer);
}

static void answer_flight(struct flight *flight, const struct answer *answer) {
	for (struct lookup *lookup = flight->first, *next; lookup; lookup = next) {
		next = lookup->mail.next ? container_of(lookup->mail.next, struct lookup, mail) : NULL;
		answer_lookup(lookup, answer);
	}
	free(flight->key);
	free(flight);
}

/* ---- the cache ---- */

static void entry_free_locked(struct entry *entry) {
	HASH_DEL(control.shared.cache, entry);
	free(entry->key);
	secret_free(entry->answer.secret);
	free(entry);
}

static void cache_clear_locked(void) {
	while (control.shared.cache)
		entry_free_locked(control.shared.cache);
}

/* An answer that is still good; NULL: none. */
static const struct answer *cache_find_locked(const char *key) {
	struct entry *entry = NULL;

	HASH_FIND_STR(control.shared.cache, key, entry);
	if (!entry)
		return NULL;
	if (clock_monotonic_ns() < entry->expires_ns)
		return &entry->answer;
	entry_free_locked(entry);
	return NULL;
}

static uint64_t time_to_live(const struct pool_config *pool, const struct answer *answer) {
	uint64_t ttl_ns = pool->auth_cache_ttl;

	if (answer->result == LOOKUP_FAILED)
		return 0;
	if (answer->result == LOOKUP_FOUND && answer->secret)
		return ttl_ns;
	/* who was made, or given a password, a moment ago should not have to wait long */
	return ttl_ns / 2 < NEGATIVE_TTL_MAX_NS ? ttl_ns / 2 : NEGATIVE_TTL_MAX_NS;
}

static void cache_add_locked(const char *key, const struct answer *answer, uint64_t ttl_ns) {
	struct entry *entry = NULL;

	if (!ttl_ns)
		return;
	HASH_FIND_STR(control.shared.cache, key, entry);
	if (entry)
		entry_free_locked(entry);
	while (HASH_COUNT(control.shared.cache) >= AUTH_QUERY_CACHE_MAX)
		entry_free_locked(control.shared.cache);
	entry = calloc(1, sizeof *entry);
	if (!entry)
		return;
	entry->key = strdup(key);
	entry->answer.result = answer->result;
	entry->answer.secret = secret_strdup(answer->secret);
	entry->expires_ns = clock_monotonic_ns() + ttl_ns;
	unsigned before = HASH_COUNT(control.shared.cache);
	if (entry->key && (entry->answer.secret || !answer->secret))
		HASH_ADD_KEYPTR(hh, control.shared.cache, entry->key, strlen(entry->key), entry);
	if (HASH_COUNT(control.shared.cache) == before) {
		free(entry->key);
		secret_free(entry->answer.secret);
		free(entry);
	}
}

/* ---- connections of a thread ---- */

static void connection_close(struct connection *connection) {
	if (connection->conn)
		PQfinish(connection->conn);
	free(connection->key);
	*connection = (struct connection){0};
}

static void close_idle(struct thread *thread, uint64_t unused_ns) {
	uint64_t now_ns = clock_monotonic_ns();

	for (int i = 0; i < AUTH_QUERY_CONNECTIONS_MAX; i++) {
		struct connection *connection = &thread->connections[i];
		if (connection->conn && now_ns - connection->used_ns >= unused_ns)
			connection_close(connection);
	}
}

/* The place of a key's connection: its own, an empty one, or the one unused for longest. */
static struct connection *connection_place(struct thread *thread, const char *key) {
	struct connection *best = &thread->connections[0];

	for (int i = 0; i < AUTH_QUERY_CONNECTIONS_MAX; i++) {
		struct connection *connection = &thread->connections[i];
		if (connection->conn && strcmp(connection->key, key) == 0)
			return connection;
		if (best->conn && (!connection->conn || connection->used_ns < best->used_ns))
			best = connection;
	}
	connection_close(best);
	return best;
}

static uint64_t connect_timeout(const struct pool_config *pool) {
	return pool->connect_timeout ? pool->connect_timeout : QUERY_TIMEOUT_NS;
}

/* Each host has the whole of connect_timeout, so that one that swallows packets does not hide the next. */
static PGconn *connect_any(const struct pool_config *pool, const char *database, struct error *error) {
	for (size_t host = 0; host < pool->host_count; host++) {
		struct pq_target target = {
			.pool = pool,
			.host = host,
			.user = pool->auth_user,
			.password = pool->auth_password,
			.database = database,
			.statement_timeout_ns = connect_timeout(pool),
		};
		struct pq_limit limit = {clock_monotonic_ns() + connect_timeout(pool), control.wake[0]};
		PGconn *conn = pq_connect(&target, &limit, error);
		if (conn || error->code == ECANCELED)
			return conn;
	}
	return NULL;
}

static bool connection_open(struct connection *connection, const struct pool_config *pool, const char *key,
			    const char *database, struct error *error) {
	connection->key = strdup(key);
	if (!connection->key)
		return error_set(error, ENOMEM, "out of memory");
	connection->conn = connect_any(pool, database, error);
	if (!connection->conn) {
		connection_close(connection);
		return false;
	}
	return true;
}

/* ---- the query ---- */

static void fail(struct answer *answer, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void fail(struct answer *answer, const char *fmt, ...) {
	va_list args;

	answer->result = LOOKUP_FAILED;
	va_start(args, fmt);
	vsnprintf(answer->error, sizeof answer->error, fmt, args);
	va_end(args);
}

/* What the rows mean. Whatever is not exactly as it should be is refused. */
static void judge(const struct lookup *lookup, const struct pq_answer *rows, struct answer *answer) {
	const char *pool = lookup->pool->name;

	if (PQnfields(rows->first) != 2) {
		fail(answer, "auth_query of pool \"%s\" gives %d columns; it must give two: name and secret", pool,
		     PQnfields(rows->first));
	} else if (rows->rows == 0) {
		answer->result = LOOKUP_NO_USER;
	} else if (rows->rows > 1) {
		fail(answer, "auth_query of pool \"%s\" gives more than one row; it must give one at most", pool);
	} else if (PQgetisnull(rows->first, 0, 0)) {
		/* a function that RETURNS record gives a row of NULLs where it has found nobody */
		answer->result = LOOKUP_NO_USER;
	} else if (strcmp(PQgetvalue(rows->first, 0, 0), lookup->user) != 0) {
		fail(answer, "auth_query of pool \"%s\" gives another user than it was asked for", pool);
	} else if (PQgetisnull(rows->first, 0, 1) || PQgetlength(rows->first, 0, 1) == 0) {
		answer->result = LOOKUP_FOUND; /* but no password: an empty one would be one that everybody knows */
	} else if (PQgetlength(rows->first, 0, 1) > SECRET_MAX) {
		fail(answer, "auth_query of pool \"%s\" gives a secret of %d bytes; %d is the limit", pool,
		     PQgetlength(rows->first, 0, 1), SECRET_MAX);
	} else {
		char *value = PQgetvalue(rows->first, 0, 1);
		answer->result = LOOKUP_FOUND;
		answer->secret = secret_strdup(value);
		if (!answer->secret)
			fail(answer, "out of memory");
		secret_wipe(value, (size_t)PQgetlength(rows->first, 0, 1));
	}
}

/* One attempt over the thread's connection. False: the connection turned out to be dead; `error` says how. */
static bool ask(struct connection *connection, const struct lookup *lookup, struct answer *answer,
		struct error *error) {
	const char *const values[] = {lookup->user};
	struct pq_limit limit = {clock_monotonic_ns() + connect_timeout(lookup->pool), control.wake[0]};
	struct pq_answer rows;

	connection->used_ns = clock_monotonic_ns();
	if (pq_query(connection->conn, lookup->pool->auth_query, 1, values, &limit, &rows, error)) {
		judge(lookup, &rows, answer);
		PQclear(rows.first);
		if (rows.rows > 1)
			connection_close(connection);
		return true;
	}
	if (PQstatus(connection->conn) == CONNECTION_OK && PQtransactionStatus(connection->conn) == PQTRANS_IDLE) {
		fail(answer, "auth_query of pool \"%s\": %s", lookup->pool->name, error->text);
		return true;
	}
	bool lost = PQstatus(connection->conn) != CONNECTION_OK;
	connection_close(connection);
	if (lost)
		return false;
	fail(answer, "auth_query of pool \"%s\": %s", lookup->pool->name, error->text);
	return true;
}

static void look_up(struct thread *thread, const struct lookup *lookup, struct answer *answer) {
	const struct pool_config *pool = lookup->pool;
	const char *database = pool->auth_database ? pool->auth_database : lookup->database;
	struct error error = {0};
	char key[KEY_MAX];

	if (!pool->auth_user || (!pool->auth_query && pool->protocol == PROTOCOL_POSTGRESQL)) {
		fail(answer, "pool \"%s\" has no auth_user", pool->name);
		return;
	}
	if (pool->protocol == PROTOCOL_MYSQL) {
		char why[sizeof answer->error];
		answer->result = auth_query_mysql(lookup, &answer->secret, why);
		if (answer->result == LOOKUP_FAILED)
			fail(answer, "auth_query of pool \"%s\": %.150s", pool->name, why);
		return;
	}
	snprintf(key, sizeof key, "%p %s", (const void *)pool, database);
	struct connection *connection = connection_place(thread, key);
	/* one that was kept may have died unnoticed: then once more, over a new one */
	bool kept = connection->conn != NULL;
	if (kept && ask(connection, lookup, answer, &error))
		return;
	if (connection_open(connection, pool, key, database, &error) && ask(connection, lookup, answer, &error))
		return;
	fail(answer, "auth_query of pool \"%s\": %s", pool->name, error.text);
}

/* ---- the threads ---- */

/* The next query to run; NULL: the process stops. Closes connections that nobody needs on its way. */
static struct flight *take(struct thread *thread) {
	struct flight *flight = NULL;

	pthread_mutex_lock(&control.shared.mutex);
	while (control.shared.running && !control.shared.head) {
		uint64_t until_ns = clock_monotonic_ns() + HOUSEKEEPING_NS;
		struct timespec until = {(time_t)(until_ns / NS_PER_S), (long)(until_ns % NS_PER_S)};
		if (pthread_cond_timedwait(&control.changed, &control.shared.mutex, &until) == ETIMEDOUT) {
			pthread_mutex_unlock(&control.shared.mutex);
			close_idle(thread, CONNECTION_IDLE_NS);
			pthread_mutex_lock(&control.shared.mutex);
		}
	}
	unsigned epoch = control.shared.epoch;
	if (control.shared.running) {
		flight = control.shared.head;
		control.shared.head = flight->next;
		if (!control.shared.head)
			control.shared.tail = &control.shared.head;
		control.shared.queued--;
	}
	pthread_mutex_unlock(&control.shared.mutex);
	if (thread->epoch != epoch) {
		close_idle(thread, 0);
		thread->epoch = epoch;
	}
	return flight;
}

static void *run_thread(void *arg) {
	struct thread *thread = arg;

	for (struct flight *flight; (flight = take(thread));) {
		struct answer answer = {0};
		const struct pool_config *pool = flight->first->pool; /* kept by its generation, until we answer */

		look_up(thread, flight->first, &answer);
		if (answer.result == LOOKUP_FAILED)
			log_warning("auth_query_failed",
				    LOG_FIELDS(LOG_TEXT("pool", pool->name), LOG_TEXT("user", flight->first->user)), "%s",
				    answer.error);
		pthread_mutex_lock(&control.shared.mutex);
		HASH_DEL(control.shared.flights, flight);
		cache_add_locked(flight->key, &answer, time_to_live(pool, &answer));
		pthread_mutex_unlock(&control.shared.mutex);
		answer_flight(flight, &answer);
		secret_free(answer.secret);
	}
	close_idle(thread, 0);
	mysql_thread_end();
	return NULL;
}

/* ---- submitting ---- */

/*
 * Clients choose the names, so their lengths are part of the key: no two triples give the same. So is the generation:
 * an answer is never given under another configuration.
 */
static bool make_key(const struct lookup *lookup, char key[KEY_MAX]) {
	const char *pool = lookup->pool->name;
	const char *database = lookup->pool->auth_database ? lookup->pool->auth_database : lookup->database;
	int len = snprintf(key, KEY_MAX, "%p %zu:%s %zu:%s %s", (const void *)lookup->generation, strlen(pool), pool,
			   strlen(database), database, lookup->user);

	return len > 0 && len < KEY_MAX;
}

/* A new flight for the queue. NULL: out of memory. */
static struct flight *flight_new_locked(const char *key) {
	struct flight *flight = calloc(1, sizeof *flight);

	if (!flight)
		return NULL;
	flight->key = strdup(key);
	flight->tail = (struct mail **)&flight->first; /* a look-up begins with its mail */
	unsigned before = HASH_COUNT(control.shared.flights);
	if (flight->key)
		HASH_ADD_KEYPTR(hh, control.shared.flights, flight->key, strlen(flight->key), flight);
	if (HASH_COUNT(control.shared.flights) == before) {
		free(flight->key);
		free(flight);
		return NULL;
	}
	*control.shared.tail = flight;
	control.shared.tail = &flight->next;
	control.shared.queued++;
	pthread_cond_signal(&control.changed);
	return flight;
}

_Static_assert(offsetof(struct lookup, mail) == 0, "a look-up begins with its mail");

/* Why it could not be queued; NULL: it was. */
static const char *enqueue_locked(struct lookup *lookup, const char *key) {
	struct flight *flight = NULL;

	if (!control.shared.running)
		return "the process stops";
	HASH_FIND_STR(control.shared.flights, key, flight);
	if (!flight) {
		if (control.shared.queued >= AUTH_QUERY_QUEUE_MAX)
			return "too many users are being looked up by auth_query; try again, and see whether the database "
			       "answers slowly";
		flight = flight_new_locked(key);
	}
	if (!flight)
		return "out of memory";
	lookup->mail.next = NULL;
	*flight->tail = &lookup->mail;
	flight->tail = &lookup->mail.next;
	return NULL;
}

void auth_query_submit(struct lookup *lookup) {
	char key[KEY_MAX];
	const char *why = "the names of pool, database and user are too long to be looked up";

	if (make_key(lookup, key)) {
		pthread_mutex_lock(&control.shared.mutex);
		const struct answer *known = cache_find_locked(key);
		if (known) {
			answer_lookup(lookup, known);
			why = NULL;
		} else {
			why = enqueue_locked(lookup, key);
		}
		pthread_mutex_unlock(&control.shared.mutex);
	}
	if (why)
		fail_lookup(lookup, why);
}

/* ---- start and stop ---- */

static bool start_threads(struct error *error) {
	sigset_t all, old;
	int e = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (; !e && control.started < AUTH_QUERY_THREADS; control.started += !e)
		e = pthread_create(&control.threads[control.started].id, NULL, run_thread,
				   &control.threads[control.started]);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return !e || error_set(error, e, "cannot start a thread for auth_query: %s", strerror(e));
}

bool auth_query_start(struct error *error) {
	pthread_condattr_t attributes;

	if (pipe2(control.wake, O_CLOEXEC | O_NONBLOCK) != 0)
		return error_set(error, errno, "cannot make a pipe: %s", strerror(errno));
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&control.changed, &attributes);
	pthread_condattr_destroy(&attributes);
	control.shared.running = true;
	control.shared.tail = &control.shared.head;
	if (start_threads(error))
		return true;
	auth_query_stop();
	return false;
}

void auth_query_flush(void) {
	pthread_mutex_lock(&control.shared.mutex);
	control.shared.epoch++;
	cache_clear_locked();
	pthread_mutex_unlock(&control.shared.mutex);
}

void auth_query_stop(void) {
	if (control.wake[0] < 0)
		return;
	pthread_mutex_lock(&control.shared.mutex);
	control.shared.running = false;
	pthread_cond_broadcast(&control.changed);
	pthread_mutex_unlock(&control.shared.mutex);
	if (write(control.wake[1], "", 1) < 0)
		log_debug("auth_query_stop", NULL, "cannot write to the pipe: %s", strerror(errno));
	for (int i = 0; i < control.started; i++)
		pthread_join(control.threads[i].id, NULL);
	memset(control.threads, 0, sizeof control.threads);
	control.started = 0;

	struct answer stopped = {.result = LOOKUP_FAILED, .error = "the process stops"};
	pthread_mutex_lock(&control.shared.mutex);
	struct flight *flight, *next;
	HASH_ITER(hh, control.shared.flights, flight, next) {
		HASH_DEL(control.shared.flights, flight);
		answer_flight(flight, &stopped);
	}
	control.shared.head = NULL;
	control.shared.tail = &control.shared.head;
	control.shared.queued = 0;
	cache_clear_locked();
	pthread_mutex_unlock(&control.shared.mutex);
	pthread_cond_destroy(&control.changed);
	close(control.wake[0]);
	close(control.wake[1]);
	control.wake[0] = control.wake[1] = -1;
}
