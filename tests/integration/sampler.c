#include "sampler.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SOCKETS_EVERY = 8 /* looking at the sockets takes longer than asking PostgreSQL */ };

struct sampler {
	/* immutable */
	char conninfo[512], host[32];
	int port;
	pthread_t thread;
	long long began_us;

	/* atomic */
	_Atomic bool stop;
	_Atomic int bound;

	pthread_mutex_t mutex;
	struct {
		struct samples samples;
	} _shared;
};

static const char SQL[] =
	"select pid, backend_start, usename, state from pg_stat_activity "
	"where backend_type = 'client backend' and usename not in ('postgres', '" PROBER "') "
	"and application_name <> 'forebay monitor'";

/* Waits for what is to come, but not beyond the end. False: end, or the connection is lost. */
static bool await(struct sampler *sampler, PGconn *conn, bool connecting) {
	short events = POLLOUT;

	for (;;) {
		struct pollfd p = {.fd = PQsocket(conn), .events = events};

		if (atomic_load(&sampler->stop) || p.fd < 0)
			return false;
		if (poll(&p, 1, 50) <= 0)
			continue;
		if (connecting) {
			PostgresPollingStatusType status = PQconnectPoll(conn);

			if (status == PGRES_POLLING_OK || status == PGRES_POLLING_FAILED)
				return status == PGRES_POLLING_OK;
			events = status == PGRES_POLLING_WRITING ? POLLOUT : POLLIN;
			continue;
		}
		if (PQflush(conn) < 0 || !PQconsumeInput(conn))
			return false;
		if (!PQisBusy(conn))
			return true;
		events = POLLIN;
	}
}

static PGresult *ask(struct sampler *sampler, PGconn *conn) {
	PGresult *res, *more;

	if (!PQsendQueryPrepared(conn, "sample", 0, NULL, NULL, NULL, 0) || !await(sampler, conn, false))
		return NULL;
	res = PQgetResult(conn);
	while (await(sampler, conn, false) && (more = PQgetResult(conn)))
		PQclear(more);
	if (res && PQresultStatus(res) != PGRES_TUPLES_OK) {
		PQclear(res);
		res = NULL;
	}
	return res;
}

static PGconn *sampler_connect(struct sampler *sampler) {
	PGconn *conn = PQconnectStart(sampler->conninfo);
	PGresult *res;

	if (conn && PQstatus(conn) != CONNECTION_BAD && await(sampler, conn, true)) {
		res = PQprepare(conn, "sample", SQL, 0, NULL);
		if (PQresultStatus(res) == PGRES_COMMAND_OK) {
			PQclear(res);
			return conn;
		}
		PQclear(res);
	}
	PQfinish(conn);
	return NULL;
}

/* Backends that both samples have seen. */
static int in_both(PGresult *res, PGresult *again) {
	int both = 0;

	for (int row = 0; row < PQntuples(res); row++) {
		for (int other = 0; other < PQntuples(again); other++) {
			if (strcmp(PQgetvalue(res, row, 0), PQgetvalue(again, other, 0)) == 0 &&
			    strcmp(PQgetvalue(res, row, 1), PQgetvalue(again, other, 1)) == 0) {
				both++;
				break;
			}
		}
	}
	return both;
}

static void describe(const struct sampler *sampler, PGresult *res, int bound, int both, int sockets, char *out,
		     size_t room) {
	int n = snprintf(out, room, "after %lld ms %d backends, %d of them also in the next sample, and %d sockets, where %d "
			 "are allowed:", (cluster_now_us() - sampler->began_us) / 1000, PQntuples(res), both, sockets, bound);

	for (int row = 0; row < PQntuples(res) && n > 0 && (size_t)n < room; row++)
		n += snprintf(out + n, room - (size_t)n, " %s/%s/%s", PQgetvalue(res, row, 2), PQgetvalue(res, row, 0),
			      PQgetvalue(res, row, 3));
}

/* `bound` is that of the time when the sample was begun. */
static void note(struct sampler *sampler, PGconn *conn, PGresult *res, int bound) {
	struct samples *samples = &sampler->_shared.samples;
	int rows = PQntuples(res), both = 0, sockets = 0, now;

	if (rows > bound) {
		PGresult *again = ask(sampler, conn);

		both = again ? in_both(res, again) : 0;
		PQclear(again);
	}
	if (rows > bound || samples->taken % SOCKETS_EVERY == 0)
		sockets = network_established_to(sampler->host, sampler->port);
	/* After all looks: it may have changed meanwhile. */
	now = atomic_load(&sampler->bound);
	bound = now > bound ? now : bound;
	pthread_mutex_lock(&sampler->mutex);
	samples->taken++;
	samples->last = rows;
	samples->most = rows > samples->most ? rows : samples->most;
	samples->sockets_most = sockets > samples->sockets_most ? sockets : samples->sockets_most;
	samples->at_first_sight += rows > bound;
	samples->over += both > bound;
	samples->sockets_over += sockets > bound;
	if ((both > bound || sockets > bound) && !samples->first_over[0])
		describe(sampler, res, bound, both, sockets, samples->first_over, sizeof(samples->first_over));
	pthread_mutex_unlock(&sampler->mutex);
}

static void *run(void *context) {
	struct sampler *sampler = context;
	PGconn *conn = NULL;

	while (!atomic_load(&sampler->stop)) {
		int bound = atomic_load(&sampler->bound);
		PGresult *res;

		if (!conn && !(conn = sampler_connect(sampler))) {
			harness_pause_ms(20);
			continue;
		}
		res = ask(sampler, conn);
		if (res) {
			note(sampler, conn, res, bound);
			PQclear(res);
		} else {
			PQfinish(conn);
			conn = NULL;
		}
	}
	PQfinish(conn);
	return NULL;
}

struct sampler *sampler_start(const struct node *node, int bound) {
	struct sampler *sampler = calloc(1, sizeof(*sampler));
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	ck_assert(sampler != NULL);
	node_conninfo(node, "sampler", sampler->conninfo, sizeof(sampler->conninfo));
	snprintf(sampler->host, sizeof(sampler->host), "%s", node->host);
	sampler->port = node->port;
	sampler->began_us = cluster_now_us();
	atomic_store(&sampler->bound, bound);
	pthread_mutex_init(&sampler->mutex, NULL);
	ck_assert_int_eq(pthread_create(&sampler->thread, NULL, run, sampler), 0);
	while (sampler_get(sampler).taken == 0) {
		ck_assert_msg(harness_now_ms() < deadline, "the sampler does not get through");
		harness_pause_ms(2);
	}
	return sampler;
}

void sampler_bound(struct sampler *sampler, int bound) {
	atomic_store(&sampler->bound, bound);
}

void sampler_stop(struct sampler *sampler) {
	atomic_store(&sampler->stop, true);
	pthread_join(sampler->thread, NULL);
}

void sampler_free(struct sampler *sampler) {
	pthread_mutex_destroy(&sampler->mutex);
	free(sampler);
}

struct samples sampler_get(struct sampler *sampler) {
	struct samples samples;

	pthread_mutex_lock(&sampler->mutex);
	samples = sampler->_shared.samples;
	pthread_mutex_unlock(&sampler->mutex);
	return samples;
}
