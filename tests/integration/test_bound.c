/*
 * The bound against a real PostgreSQL, watched in pg_stat_activity all the while: many clients of several users, with
 * connections killed at random and the configuration reloaded with other sizes.
 *
 * FOREBAY_BOUND_SECONDS is the length of the storm (12; on sanitizers 8).
 */
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"
#include "query.h"
#include "sampler.h"

enum { STORM_CLIENTS = 300, STORM_WORKERS = 4, FIRST_SIZE = 7, LEAST_SIZE = 5, MOST_SIZE = 12, MIN_IDLE = 3 };

static const char *const USERS[] = {"app", "md5user", "trusted", NULL};

static int storm_seconds(void) {
	const char *given = getenv("FOREBAY_BOUND_SECONDS");

	return given && atoi(given) > 0 ? atoi(given) : SLOWNESS > 1 ? 8 : 12;
}

struct storm {
	struct node *node;
	struct forebay *forebay;
	struct sampler *sampler;
	PGconn *control;
	int size, kills, reloads, shrinks;
	char pool[600];
	struct forebay_setup setup;
};

static void write_pool(struct storm *storm, int size) {
	/* Probes would be counted among the sockets. */
	snprintf(storm->pool, sizeof(storm->pool),
		 "hosts = %s:%d\ndatabase = app\nmax_size = %d\nmin_idle = %d\nidle_timeout = 1s\nmonitor_interval = 0",
		 storm->node->host, storm->node->port, size, size < MIN_IDLE ? 0 : MIN_IDLE);
	storm->setup = (struct forebay_setup){.workers = STORM_WORKERS, .pool = storm->pool, .listener = "auth = trust"};
}

/* A larger bound holds from now on; a smaller one as soon as the transactions that are under way have ended, which none
 * of them keeps waiting for long. */
static void resize(struct storm *storm, int size) {
	long long deadline = harness_now_ms() + 2000LL * SLOWNESS;
	int before = storm->size;

	storm->size = size;
	if (size > before)
		sampler_bound(storm->sampler, size);
	write_pool(storm, size);
	forebay_rewrite_ini(storm->forebay, &storm->setup);
	kill(storm->forebay->pid, SIGHUP);
	storm->reloads++;
	if (size >= before)
		return;
	storm->shrinks++;
	while (sampler_get(storm->sampler).last > size ||
	       network_established_to(storm->node->host, storm->node->port) > size) {
		ck_assert_msg(harness_now_ms() < deadline, "from %d to %d: there are still %d", before, size,
			      sampler_get(storm->sampler).last);
		harness_pause_ms(2);
	}
	/* What the last look saw may have been a moment of kills. */
	harness_pause_ms(200);
	sampler_bound(storm->sampler, size);
}

static void kill_one(struct storm *storm) {
	execute(storm->control, "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend' "
				"and usename <> 'postgres' order by random() limit 1");
	storm->kills++;
}

static struct storm storm_begin(int size) {
	struct storm storm = {.size = size};

	network_private();
	storm.node = node_new(NULL, NULL);
	storm.control = node_control(storm.node);
	write_pool(&storm, storm.size);
	storm.forebay = forebay_start(&storm.setup);
	storm.sampler = sampler_start(storm.node, storm.size);
	return storm;
}

static void storm_end(struct storm *storm) {
	PQfinish(storm->control);
	forebay_stop(storm->forebay);
	node_free(storm->node);
}

static void expect_bound_held(struct storm *storm, const char *when) {
	struct samples samples = sampler_get(storm->sampler);

	printf("bound, %s: %ld samples, %d connections at most, %d sockets at most; over the bound %ld samples at first sight, "
	       "%ld confirmed, %ld of sockets\n",
	       when, samples.taken, samples.most, samples.sockets_most, samples.at_first_sight, samples.over,
	       samples.sockets_over);
	ck_assert_msg(samples.sockets_over == 0, "%ld looks at sockets: %s", samples.sockets_over, samples.first_over);
	ck_assert_msg(samples.over == 0, "%ld of %ld samples: %s", samples.over, samples.taken, samples.first_over);
}

static void expect_only_kills_were_noticed(struct load *load, int kills) {
	static const char *const known[] = {"57P01", "backend was lost", NULL};

	load_print_errors(load, "bound");
	ck_assert_int_eq(load_errors_without(load, known), 0);
	ck_assert_int_le(load_errors(load, 0, LLONG_MAX), kills);
}

/* Exactly min_idle, and it stays so. */
static void expect_min_idle(struct storm *storm) {
	char wanted[16];

	snprintf(wanted, sizeof(wanted), "%d", MIN_IDLE);
	await_value(storm->control,
		    "select count(*) from pg_stat_activity where backend_type = 'client backend' and usename <> 'postgres'",
		    wanted);
	for (int i = 0; i < 20; i++) {
		ck_assert_int_eq(server_connections(storm->control), MIN_IDLE);
		harness_pause_ms(100);
	}
}

START_TEST(bound_holds_through_kills_and_reloads_and_min_idle_remains) {
	struct storm storm;
	struct load *load;
	unsigned seed = (unsigned)harness_now_ms();
	long long end, next_size, next_kill;
	long done;

	if (harness_direct())
		return;
	storm = storm_begin(FIRST_SIZE);
	load = load_start(&(struct load_setup){.port = storm.forebay->port, .users = USERS, .clients = STORM_CLIENTS,
						.sql = "select pg_sleep(0.004)", .hold_ms = 10, .pause_ms = 20});
	end = harness_now_ms() + 1000LL * storm_seconds();
	next_size = harness_now_ms() + 1000;
	next_kill = harness_now_ms() + 300;
	while (harness_now_ms() < end) {
		if (harness_now_ms() >= next_kill) {
			kill_one(&storm);
			next_kill = harness_now_ms() + 50 + rand_r(&seed) % 200;
		}
		if (harness_now_ms() >= next_size) {
			resize(&storm, LEAST_SIZE + (int)((unsigned)rand_r(&seed) % (MOST_SIZE - LEAST_SIZE + 1)));
			next_size = harness_now_ms() + 100 + rand_r(&seed) % 700;
		}
		harness_pause_ms(5);
	}
	done = load_done(load, 0, LLONG_MAX);
	load_stop(load);
	printf("bound: %ld transactions, %d kills, %d reloads (%d to a smaller size)\n", done, storm.kills, storm.reloads,
	       storm.shrinks);
	ck_assert_int_eq(load_hung(load), 0);
	ck_assert_int_gt(done, 300);
	ck_assert_int_ge(storm.shrinks, 1);
	expect_only_kills_were_noticed(load, storm.kills);
	expect_min_idle(&storm);
	sampler_stop(storm.sampler);
	expect_bound_held(&storm, "kills and reloads");
	/* All of it was used. */
	ck_assert_int_ge(sampler_get(storm.sampler).most, FIRST_SIZE);
	sampler_free(storm.sampler);
	load_free(load);
	storm_end(&storm);
}
END_TEST

START_TEST(bound_holds_where_users_take_connections_from_each_other) {
	struct storm storm;
	struct load *load;
	long done;

	if (harness_direct())
		return;
	/* Fewer than users: connections of one are closed for another, again and again. */
	storm = storm_begin(2);
	load = load_start(&(struct load_setup){.port = storm.forebay->port, .users = USERS, .clients = 24,
						.sql = "select 1", .pause_ms = 12});
	harness_pause_ms(1000 * storm_seconds() / 4);
	/* Or it shows nothing. */
	for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;; harness_pause_ms(100)) {
		done = load_done(load, 0, LLONG_MAX);
		if (done > 100 && node_visits(storm.node).authorized > FIRST_SIZE + 3)
			break;
		ck_assert_msg(harness_now_ms() < deadline, "%ld transactions, %d logins", done,
			      node_visits(storm.node).authorized);
	}
	load_stop(load);
	ck_assert_int_eq(load_hung(load), 0);
	load_print_errors(load, "bound");
	ck_assert_int_eq(load_errors(load, 0, LLONG_MAX), 0);
	sampler_stop(storm.sampler);
	printf("bound: %ld transactions of 24 clients of 3 users, %d logins\n", done, node_visits(storm.node).authorized);
	expect_bound_held(&storm, "users mixed");
	sampler_free(storm.sampler);
	load_free(load);
	storm_end(&storm);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("bound");
	TCase *tcase = tcase_create("bound");

	harness_begin(NULL);
	cluster_begin();
	tcase_set_timeout(tcase, 60 + storm_seconds());
	suite_add_tcase(suite, tcase);
	tcase_add_test(tcase, bound_holds_through_kills_and_reloads_and_min_idle_remains);
	tcase_add_test(tcase, bound_holds_where_users_take_connections_from_each_other);
	return harness_run(suite);
}
