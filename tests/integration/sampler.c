#include "sampler.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PORTS = 1024 };

struct sampler {
	/* immutable */
	char conninfo[512], host[32];
	int port;
	pthread_t thread;

	/* atomic */
	_Atomic bool stop;
	_Atomic int bound;

	pthread_mutex_t mutex;
	struct {
		struct samples samples;
	} _shared;
};

static const char SQL[] =
	"select coalesce(client_port, -1), pid, usename, state, coalesce(application_name, '') from pg_stat_activity "
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

/* Rows whose connection this side has not closed. */
static int still_open(const struct sampler *sampler, PGresult *res) {
	int ports[PORTS], n = network_ports_to(sampler->host, sampler->port, ports, PORTS), open = 0;

	n = n > PORTS ? PORTS : n;
	for (int row = 0; row < PQntuples(res); row++) {
		int port = atoi(PQgetvalue(res, row, 0));

		for (int i = 0; i < n; i++) {
			if (ports[i] == port) {
				open++;
				break;
			}
		}
	}
	return open;
}

static void describe(PGresult *res, int bound, int open, int sockets, char *out, size_t room) {
	int n = snprintf(out, room, "%d connections, %d of them open on this side (%d sockets), where %d are allowed:",
			 PQntuples(res), open, sockets, bound);

	for (int row = 0; row < PQntuples(res) && n > 0 && (size_t)n < room; row++)
		n += snprintf(out + n, room - (size_t)n, " %s/%s/%s", PQgetvalue(res, row, 2), PQgetvalue(res, row, 1),
			      PQgetvalue(res, row, 3));
}

static void note(struct sampler *sampler, PGresult *res, int bound) {
	struct network_sockets sockets = network_sockets_to(sampler->host, sampler->port);
	struct samples *samples = &sampler->_shared.samples;
	int rows = PQntuples(res), open = rows > bound ? still_open(sampler, res) : rows;
	int again = atomic_load(&sampler->bound), allowed = again > bound ? again : bound;

	pthread_mutex_lock(&sampler->mutex);
	samples->taken++;
	samples->last = rows;
	samples->most = rows > samples->most ? rows : samples->most;
	if (sockets.established > samples->sockets_most)
		samples->sockets_most = sockets.established;
	samples->over += rows > allowed;
	samples->over_alive += open > allowed;
	samples->sockets_over += sockets.established > allowed;
	if ((rows > allowed || sockets.established > allowed) && !samples->first_over[0])
		describe(res, allowed, open, sockets.established, samples->first_over, sizeof(samples->first_over));
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
			note(sampler, res, bound);
			PQclear(res);
		} else {
			PQfinish(conn);
			conn = NULL;
		}
		/* As fast as it can would leave the others nothing of the machine's processors. */
		harness_pause_ms(1);
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
