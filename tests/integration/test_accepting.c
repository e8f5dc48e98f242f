/* How clients come in: spread over the workers, by sockets that a reload opens and closes, until the process ends. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

#include "harness.h"
#include "query.h"
#include "wire.h"

enum { CROWD = 400 };

/* -1: nobody listens, or it was reset. */
static int try_port(int port) {
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(fd, (struct sockaddr *)&in, sizeof(in)) == 0)
		return fd;
	close(fd);
	return -1;
}

/* ---- spreading ---- */

struct share {
	const struct forebay *forebay;
	struct raw *raws;
	int count;
};

static void *log_in_many(void *context) {
	const struct share *share = context;

	for (int i = 0; i < share->count; i++) {
		share->raws[i] = raw_connect(share->forebay);
		raw_login(&share->raws[i]);
	}
	return NULL;
}

/* Clients of each worker. */
static void count_by_worker(PGconn *ops, int counts[4]) {
	PGresult *res = PQexec(ops, "SHOW CLIENTS");
	int column = PQfnumber(res, "worker");

	memset(counts, 0, 4 * sizeof counts[0]);
	ck_assert_int_ge(column, 0);
	for (int i = 0; i < PQntuples(res); i++)
		counts[atoi(PQgetvalue(res, i, column))]++;
	PQclear(res);
}

/* The bound that net/acceptor.h states. */
START_TEST(many_who_log_in_at_once_are_spread_over_the_workers) {
	static struct raw raws[CROWD];
	struct share shares[4];
	pthread_t threads[4];
	struct forebay *forebay;
	int counts[4], sum = 0;

	SKIP_WHEN_DIRECT();
	forebay = forebay_start(&(struct forebay_setup){
		.workers = 4, .listener = "auth = trust", .process = "max_clients = 1000"});
	for (int i = 0; i < 4; i++) {
		shares[i] = (struct share){forebay, &raws[i * CROWD / 4], CROWD / 4};
		ck_assert_int_eq(pthread_create(&threads[i], NULL, log_in_many, &shares[i]), 0);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	PGconn *ops = connect_operator(forebay);
	count_by_worker(ops, counts);
	int fewest = counts[0], most = counts[0];
	for (int i = 0; i < 4; i++) {
		fewest = counts[i] < fewest ? counts[i] : fewest;
		most = counts[i] > most ? counts[i] : most;
		sum += counts[i];
	}
	ck_assert_int_eq(sum, CROWD + 1);
	ck_assert_msg(most <= fewest + fewest / 8 + 2, "%d clients beside %d", most, fewest);
	PQfinish(ops);
	for (int i = 0; i < CROWD; i++)
		raw_close(&raws[i]);
	forebay_stop(forebay);
}
END_TEST

START_TEST(few_clients_do_not_share_one_worker) {
	struct forebay *forebay;
	struct raw raws[8];
	int counts[4];

	SKIP_WHEN_DIRECT();
	forebay = forebay_start(&(struct forebay_setup){.workers = 4, .listener = "auth = trust"});
	for (int i = 0; i < 8; i++) {
		raws[i] = raw_connect(forebay);
		raw_login(&raws[i]);
	}
	PGconn *ops = connect_operator(forebay);
	count_by_worker(ops, counts);
	for (int i = 0; i < 4; i++)
		ck_assert_msg(counts[i] >= 1 && counts[i] <= 3, "worker %d has %d of 9 clients", i, counts[i]);
	PQfinish(ops);
	for (int i = 0; i < 8; i++)
		raw_close(&raws[i]);
	forebay_stop(forebay);
}
END_TEST

/* ---- options ---- */

static int port_of_end(int fd, bool peer) {
	struct sockaddr_in in;
	socklen_t len = sizeof(in);

	ck_assert_int_eq((peer ? getpeername : getsockname)(fd, (struct sockaddr *)&in, &len), 0);
	return ntohs(in.sin_port);
}

/* Until the kernel probes the other end of this connection, in ms, as /proc/net/tcp has it (tm->when, in hundredths of a
 * second); 0: no keepalive timer runs. */
static long keepalive_of_other_end(int fd) {
	unsigned local, remote, state, timer, when;
	int from = port_of_end(fd, true), to = port_of_end(fd, false);
	FILE *file = fopen("/proc/net/tcp", "r");
	char line[256];
	long found = -1;

	ck_assert_ptr_nonnull(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, " %*d: %*x:%x %*x:%x %x %*x:%*x %x:%x", &local, &remote, &state, &timer, &when) == 5 &&
		    local == (unsigned)from && remote == (unsigned)to && state == 1)
			found = timer == 2 ? 10L * when : 0;
	fclose(file);
	return found;
}

static long await_keepalive(int fd) {
	for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;;) {
		long ms = keepalive_of_other_end(fd); /* another timer runs while something is not acknowledged */
		if (ms > 0)
			return ms;
		ck_assert_msg(harness_now_ms() < deadline, "no keepalive timer runs");
		harness_pause_ms(5);
	}
}

static void reload(struct forebay *forebay, const struct forebay_setup *setup) {
	int before = harness_count_in(forebay->log, " reloaded ");

	forebay_rewrite_ini(forebay, setup);
	ck_assert_int_eq(kill(forebay->pid, SIGHUP), 0);
	for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	     harness_count_in(forebay->log, " reloaded ") == before; harness_pause_ms(5))
		ck_assert_msg(harness_now_ms() < deadline, "it does not reload");
}

static long system_keepalive_s(void) {
	char *text = harness_read("/proc/sys/net/ipv4/tcp_keepalive_time");
	long seconds = atol(text);

	free(text);
	return seconds;
}

START_TEST(keepalive_of_clients_follows_a_reload) {
	struct forebay_setup setup = {
		.workers = WORKERS(_i), .listener = "auth = trust", .process = "tcp_keepalive_idle = 10m"};
	struct forebay *forebay;

	SKIP_WHEN_DIRECT();
	forebay = forebay_start(&setup);
	struct raw first = raw_connect(forebay);
	raw_login(&first);
	long ms = await_keepalive(first.fd);
	ck_assert_msg(ms > 300 * 1000 && ms <= 601 * 1000, "%ld ms", ms);
	setup.process = "tcp_keepalive_idle = 100s";
	reload(forebay, &setup);
	struct raw second = raw_connect(forebay);
	raw_login(&second);
	ms = await_keepalive(second.fd);
	ck_assert_msg(ms > 0 && ms <= 101 * 1000, "%ld ms", ms);
	setup.process = "tcp_keepalive_idle = 0";
	reload(forebay, &setup);
	struct raw third = raw_connect(forebay);
	raw_login(&third);
	ms = await_keepalive(third.fd);
	ck_assert_msg(ms > 500 * system_keepalive_s() && ms <= 1000 * (system_keepalive_s() + 1), "%ld ms", ms);
	raw_close(&first);
	raw_close(&second);
	raw_close(&third);
	forebay_stop(forebay);
}
END_TEST

/* ---- descriptors ---- */

START_TEST(who_comes_when_descriptors_are_out_is_let_in_later) {
	struct forebay *forebay;
	struct rlimit usual, low;
	struct raw raws[12];

	SKIP_WHEN_DIRECT();
	forebay = forebay_start(&(struct forebay_setup){.workers = WORKERS(_i), .listener = "auth = trust"});
	struct raw first = raw_connect(forebay);
	raw_login(&first);
	ck_assert_int_eq(prlimit(forebay->pid, RLIMIT_NOFILE, NULL, &usual), 0);
	low = usual;
	low.rlim_cur = (rlim_t)forebay_descriptors(forebay) + 4;
	ck_assert_int_eq(prlimit(forebay->pid, RLIMIT_NOFILE, &low, NULL), 0);
	for (int i = 0; i < 12; i++)
		raws[i] = raw_connect(forebay);
	forebay_await_log(forebay, "accept_paused");
	/* those who are in are served */
	ck_assert(raw_put(&first, 'Q', "s", "select 1"));
	raw_answers(&first, "T D:1 C Z:I");
	ck_assert_int_eq(prlimit(forebay->pid, RLIMIT_NOFILE, &usual, NULL), 0);
	for (int i = 0; i < 12; i++) {
		raw_login(&raws[i]);
		raw_close(&raws[i]);
	}
	raw_close(&first);
	forebay_stop(forebay);
}
END_TEST

/* ---- sockets that come and go ---- */

struct knocking {
	int port;
	_Atomic bool stop;
	_Atomic int in; /* connected */
};

/* Connects again and again, and leaves at once: nothing that happens to it matters to it. */
static void *knock(void *context) {
	struct knocking *knocking = context;

	while (!atomic_load(&knocking->stop)) {
		int fd = try_port(knocking->port);
		if (fd < 0)
			continue;
		atomic_fetch_add(&knocking->in, 1);
		close(fd);
	}
	return NULL;
}

static void await_knocks(struct knocking *knocking, int more) {
	int until = atomic_load(&knocking->in) + more;

	for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS; atomic_load(&knocking->in) < until;) {
		ck_assert_msg(harness_now_ms() < deadline, "nobody gets in");
		harness_pause_ms(1);
	}
}

START_TEST(reload_opens_and_closes_listeners_while_clients_connect) {
	int port = harness_free_port();
	char more[256];
	pthread_t threads[2];
	struct knocking knocking = {.port = port};
	struct forebay_setup plain = {.workers = WORKERS(_i), .listener = "auth = trust"}, both = plain;
	struct forebay *forebay;

	SKIP_WHEN_DIRECT();
	snprintf(more, sizeof(more), "[listener:second]\nprotocol = postgresql\nlisten = 127.0.0.1:%d\nauth = trust\n", port);
	both.more = more;
	forebay = forebay_start(&plain);
	struct raw stays = raw_connect(forebay);
	raw_login(&stays);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, knock, &knocking), 0);
	for (int round = 0; round < 5; round++) {
		reload(forebay, &both);
		await_knocks(&knocking, 20);
		struct raw raw = raw_connect_port(port);
		raw_login(&raw);
		reload(forebay, &plain);
		/* who is in stays in, by whichever listener it came */
		ck_assert(raw_put(&raw, 'Q', "s", "select 1"));
		raw_answers(&raw, "T D:1 C Z:I");
		raw_close(&raw);
		for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;;) {
			int fd = try_port(port);
			if (fd < 0)
				break;
			close(fd);
			ck_assert_msg(harness_now_ms() < deadline, "it still listens");
			harness_pause_ms(1);
		}
	}
	atomic_store(&knocking.stop, true);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	ck_assert(raw_put(&stays, 'Q', "s", "select 1"));
	raw_answers(&stays, "T D:1 C Z:I");
	raw_close(&stays);
	forebay_stop(forebay);
}
END_TEST

START_TEST(it_stops_as_asked_while_clients_connect) {
	pthread_t threads[2];
	struct forebay *forebay;

	SKIP_WHEN_DIRECT();
	forebay = forebay_start(&(struct forebay_setup){.workers = WORKERS(_i), .listener = "auth = trust"});
	struct knocking knocking = {.port = forebay->port};
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, knock, &knocking), 0);
	await_knocks(&knocking, 100);
	forebay_stop(forebay);
	ck_assert_int_eq(try_port(knocking.port), -1);
	atomic_store(&knocking.stop, true);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
}
END_TEST

/* ---- nobody who has connected is reset ---- */

struct visitors {
	char host[256];
	int port;
	_Atomic bool stop;
	_Atomic long served, refused, cut;
	pthread_mutex_t mutex;
	char said[300]; /* of the first that was cut */
};

/* The system's own words for an address where nobody listens, and for a socket file that has gone. */
static bool is_refusal(const char *text) {
	return strstr(text, "Connection refused") || strstr(text, "No such file");
}

/* Connects, asks for one thing, leaves, again and again: served whole, or refused by the system. */
static void *visit(void *context) {
	struct visitors *visitors = context;
	char info[512];

	snprintf(info, sizeof(info), "host=%s port=%d user=app dbname=app sslmode=disable gssencmode=disable connect_timeout=30",
		 visitors->host, visitors->port);
	while (!atomic_load(&visitors->stop)) {
		PGconn *conn = PQconnectdb(info);
		if (PQstatus(conn) != CONNECTION_OK && is_refusal(PQerrorMessage(conn))) {
			atomic_fetch_add(&visitors->refused, 1);
			PQfinish(conn);
			harness_pause_ms(1);
			continue;
		}
		PGresult *res = PQexec(conn, "select 1");
		if (PQresultStatus(res) == PGRES_TUPLES_OK) {
			atomic_fetch_add(&visitors->served, 1);
		} else if (atomic_fetch_add(&visitors->cut, 1) == 0) {
			pthread_mutex_lock(&visitors->mutex);
			snprintf(visitors->said, sizeof(visitors->said), "%s", PQerrorMessage(conn));
			pthread_mutex_unlock(&visitors->mutex);
		}
		PQclear(res);
		PQfinish(conn);
	}
	return NULL;
}

enum { VISITORS = 4 };

static void visitors_begin(struct visitors *visitors, pthread_t threads[VISITORS], const char *host, int port) {
	*visitors = (struct visitors){.port = port, .mutex = PTHREAD_MUTEX_INITIALIZER};
	snprintf(visitors->host, sizeof(visitors->host), "%s", host);
	for (int i = 0; i < VISITORS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, visit, visitors), 0);
}

static void visitors_await(const _Atomic long *count, long more) {
	long until = atomic_load(count) + more;

	for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS; atomic_load(count) < until; harness_pause_ms(1))
		ck_assert_msg(harness_now_ms() < deadline, "%ld instead of %ld", atomic_load(count), until);
}

static void visitors_end(struct visitors *visitors, pthread_t threads[VISITORS]) {
	atomic_store(&visitors->stop, true);
	for (int i = 0; i < VISITORS; i++)
		pthread_join(threads[i], NULL);
	printf("visitors of %s: %ld served, %ld refused, %ld cut\n", visitors->host, atomic_load(&visitors->served),
	       atomic_load(&visitors->refused), atomic_load(&visitors->cut));
	fflush(stdout);
	ck_assert_msg(atomic_load(&visitors->cut) == 0, "%ld were cut: %s", atomic_load(&visitors->cut), visitors->said);
}

START_TEST(a_listener_that_goes_resets_nobody) {
	int port = harness_free_port();
	char more[600], dir[256];
	struct visitors tcp, local;
	pthread_t tcp_threads[VISITORS], local_threads[VISITORS];
	struct forebay_setup plain = {.workers = WORKERS(_i), .listener = "auth = trust", .process = "log_connections = off"};
	struct forebay_setup both = plain;

	SKIP_WHEN_DIRECT();
	snprintf(dir, sizeof(dir), "%s", harness_dir());
	snprintf(more, sizeof(more),
		 "[listener:second]\nprotocol = postgresql\nlisten = 127.0.0.1:%d, %s/.s.PGSQL.%d\nauth = trust\n", port, dir, port);
	both.more = more;
	struct forebay *forebay = forebay_start(&both);
	visitors_begin(&tcp, tcp_threads, "127.0.0.1", port);
	visitors_begin(&local, local_threads, dir, port);
	for (int round = 0; round < 3; round++) {
		visitors_await(&tcp.served, 20);
		visitors_await(&local.served, 20);
		reload(forebay, &plain);
		visitors_await(&tcp.refused, 1);
		visitors_await(&local.refused, 1);
		reload(forebay, &both);
	}
	visitors_await(&tcp.served, 1);
	visitors_await(&local.served, 1);
	/* and the end of the process */
	ck_assert_int_eq(kill(forebay->pid, SIGTERM), 0);
	visitors_await(&tcp.refused, 1);
	visitors_await(&local.refused, 1);
	visitors_end(&tcp, tcp_threads);
	visitors_end(&local, local_threads);
	forebay_await_exit(forebay);
}
END_TEST

/* As many as the queue takes are there when a reload takes the address away. */
START_TEST(a_crowd_at_a_listener_that_goes_is_served) {
	static struct raw raws[CROWD];
	int port = harness_free_port();
	char more[256];
	struct forebay_setup plain = {
		.workers = WORKERS(_i), .listener = "auth = trust", .process = "max_clients = 1000\nlog_connections = off"};
	struct forebay_setup both = plain;

	SKIP_WHEN_DIRECT();
	snprintf(more, sizeof(more), "[listener:second]\nprotocol = postgresql\nlisten = 127.0.0.1:%d\nauth = trust\n", port);
	both.more = more;
	struct forebay *forebay = forebay_start(&both);
	harness_freeze(forebay->pid);
	for (int i = 0; i < CROWD; i++)
		raws[i] = raw_connect_port(port);
	forebay_rewrite_ini(forebay, &plain);
	ck_assert_int_eq(kill(forebay->pid, SIGHUP), 0);
	ck_assert_int_eq(kill(forebay->pid, SIGCONT), 0);
	forebay_await_log(forebay, "reloaded");
	ck_assert_int_eq(try_port(port), -1);
	for (int i = 0; i < CROWD; i++) {
		raw_login(&raws[i]);
		ck_assert(raw_put(&raws[i], 'Q', "s", "select 1"));
		raw_answers(&raws[i], "T D:1 C Z:I");
		raw_close(&raws[i]);
	}
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("accepting");
	TCase *tc = tcase_create("accepting");

	harness_begin(NULL);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, many_who_log_in_at_once_are_spread_over_the_workers);
	tcase_add_test(tc, few_clients_do_not_share_one_worker);
	LOOP(tc, keepalive_of_clients_follows_a_reload);
	LOOP(tc, who_comes_when_descriptors_are_out_is_let_in_later);
	LOOP(tc, reload_opens_and_closes_listeners_while_clients_connect);
	LOOP(tc, it_stops_as_asked_while_clients_connect);
	LOOP(tc, a_listener_that_goes_resets_nobody);
	LOOP(tc, a_crowd_at_a_listener_that_goes_is_served);
	suite_add_tcase(suite, tc);
	return harness_run(suite);
}
