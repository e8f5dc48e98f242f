#include "drill.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const DRILL_LOST[] = {"57P01", "57P02", "connection to the backend was lost", NULL};

bool drill_skip(void) {
	return harness_direct();
}

void blame(struct drill *drill, const char *fmt, ...) {
	size_t len = strlen(drill->blame);
	va_list ap;

	va_start(ap, fmt);
	if (len + 3 < sizeof(drill->blame)) {
		len += (size_t)snprintf(drill->blame + len, sizeof(drill->blame) - len, "%s", len ? "; " : "");
		vsnprintf(drill->blame + len, sizeof(drill->blame) - len, fmt, ap);
	}
	va_end(ap);
}

int count_connections(PGconn *control) {
	return (int)query_long(control, "select count(*) from pg_stat_activity where backend_type = 'client backend' and "
					"usename not in ('postgres', '" PROBER "') and application_name <> 'forebay monitor'");
}

void await_connections(struct drill *drill, int n, int timeout_ms) {
	long long deadline = harness_now_ms() + (long long)timeout_ms * SLOWNESS;

	while (count_connections(drill->control) != n) {
		ck_assert_msg(harness_now_ms() < deadline, "%s: the pool has %d connections, not %d (before: %s)", drill->name,
			      count_connections(drill->control), n, drill->blame[0] ? drill->blame : "all well");
		harness_pause_ms(5);
	}
}

void drill_strike(struct drill *drill) {
	drill->visits = node_visits(drill->node);
	drill->failed_connects = network_failed_connects();
	drill->struck = cluster_now_us();
	drill->over = 0;
}

int drill_attempts(const struct drill *drill) {
	return node_visits(drill->node).attempts - drill->visits.attempts;
}

int drill_denied(const struct drill *drill) {
	return node_visits(drill->node).denied - drill->visits.denied;
}

long drill_refused(const struct drill *drill) {
	return drill->private ? network_failed_connects() - drill->failed_connects : -1;
}

static struct load *bystanders_start(const struct forebay *forebay) {
	return load_start(&(struct load_setup){.port = forebay->port, .database = "bystander", .clients = BYSTANDERS,
					       .sql = "select 1", .pause_ms = 10});
}

struct drill drill_begin(const struct drill_setup *setup) {
	struct drill drill = {.name = setup->name, .workers = setup->workers ? setup->workers : 1};
	char pool[1500], more[1500], hosts[100];

	drill.private = network_private();
	drill.node = setup->node ? setup->node : node_new(NULL, setup->network);
	if (drill.node->pid) {
		drill.control = node_control(drill.node);
		execute(drill.control, "create sequence asked; grant usage on sequence asked to app");
	}
	snprintf(hosts, sizeof(hosts), "%s:%d", drill.node->host, drill.node->port);
	snprintf(pool, sizeof(pool),
		 "hosts = %s\ndatabase = app\nmax_size = %d\nmin_idle = 5\nmonitor_user = " PROBER
		 "\nmonitor_password = " PROBER "-secret\n%s",
		 setup->hosts ? setup->hosts : hosts, setup->size ? setup->size : SERVERS, setup->pool ? setup->pool : "");
	/* By its Unix socket: it is there whatever network the test is in. */
	snprintf(more, sizeof(more),
		 "[pool:bystander]\nprotocol = postgresql\nhosts = %s:%d\ndatabase = app\nmax_size = %d\nmin_idle = 5\n"
		 "tls_mode = disable\n%s",
		 harness_path("pg"), harness_postgres_port(), SERVERS, setup->more ? setup->more : "");
	drill.forebay = forebay_start(&(struct forebay_setup){.workers = drill.workers, .pool = pool, .more = more,
							      .process = setup->process, .listener = "auth = trust"});
	drill.bystanders = bystanders_start(drill.forebay);
	drill.began = cluster_now_us();
	if (setup->clients >= 0)
		drill.load = load_start(&(struct load_setup){.port = drill.forebay->port,
							     .clients = setup->clients ? setup->clients : CLIENTS,
							     .sql = setup->sql ? setup->sql : "select pg_sleep(0.02)",
							     .parked = setup->parked, .impatient = setup->impatient});
	load_await(drill.bystanders, 300);
	drill_strike(&drill);
	return drill;
}

struct drill drill_begin_at_full_speed(const struct drill_setup *setup) {
	struct drill drill = drill_begin(setup);

	await_connections(&drill, SERVERS, RECOVERY_MS);
	load_await(drill.load, 200);
	ck_assert_int_eq(load_errors(drill.load, 0, LLONG_MAX), 0);
	drill_strike(&drill);
	return drill;
}

long long served_after_ms(struct drill *drill, long long from) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS, first;

	while ((first = load_first_done(drill->load, from)) < 0) {
		if (harness_now_ms() > deadline) {
			load_print_errors(drill->load, drill->name);
			ck_abort_msg("%s: nobody is served any more (before: %s)", drill->name, drill->blame);
		}
		harness_pause_ms(1);
	}
	return (first - from + 999) / 1000;
}

void expect_served_within(struct drill *drill, long long from, int limit_ms) {
	long long took = served_after_ms(drill, from), pause, allowed;

	/* While the machine had no time for anybody, it had none for the bystanders. */
	pause = load_longest_gap(drill->bystanders, from, from + 1000 * took) / 1000;
	allowed = (long long)limit_ms * SLOWNESS + pause;
	printf("drill, %s, %d workers: first success after %lld ms, bystanders were served every %lld ms\n", drill->name,
	       drill->workers, took, pause);
	if (took > allowed)
		blame(drill, "first success after %lld ms, not within %d", took, limit_ms);
}

void expect_errors(struct drill *drill, int most, const char *const *words) {
	int errors = load_errors(drill->load, drill->struck, LLONG_MAX);

	printf("drill, %s, %d workers: %d errors\n", drill->name, drill->workers, errors);
	load_print_errors(drill->load, drill->name);
	if (errors > most)
		blame(drill, "%d errors, not at most %d", errors, most);
	if (words && load_errors_without(drill->load, words) != 0)
		blame(drill, "errors do not say what was the case");
}

void expect_at_most(struct drill *drill, const char *what, long n, long most) {
	printf("drill, %s, %d workers: %ld %s\n", drill->name, drill->workers, n, what);
	if (n > most)
		blame(drill, "%ld %s, not at most %ld", n, what, most);
}

void expect_bystanders_unmoved(struct drill *drill) {
	long long until = cluster_now_us(), before, meanwhile;

	load_stop(drill->bystanders);
	before = load_percentile(drill->bystanders, drill->began, drill->struck, 0.99);
	meanwhile = load_percentile(drill->bystanders, drill->struck, until, 0.99);
	load_print_errors(drill->bystanders, "bystanders");
	printf("drill, %s, %d workers: bystanders' p99 %lld us before, %lld us since\n", drill->name, drill->workers, before,
	       meanwhile);
	ck_assert_int_eq(load_errors(drill->bystanders, 0, LLONG_MAX), 0);
	ck_assert_int_eq(load_hung(drill->bystanders), 0);
	ck_assert_int_ge(meanwhile, 0);
	if (meanwhile > 5 * before + 50000LL * SLOWNESS)
		blame(drill, "bystanders' p99 was %lld us, and %lld us since", before, meanwhile);
}

void drill_free(struct drill *drill) {
	if (drill->load)
		load_free(drill->load);
	load_free(drill->bystanders);
	PQfinish(drill->control);
	forebay_stop(drill->forebay);
	node_free(drill->node);
	ck_assert_msg(drill->blame[0] == '\0', "%s: %s", drill->name, drill->blame);
}

void drill_end(struct drill *drill) {
	if (!drill->control)
		drill->control = node_control(drill->node);
	if (drill->load) {
		await_connections(drill, SERVERS, RECOVERY_MS);
		load_await(drill->load, CLIENTS);
		load_stop(drill->load);
		ck_assert_msg(load_hung(drill->load) == 0, "%s: %d clients hang", drill->name, load_hung(drill->load));
	}
	expect_bystanders_unmoved(drill);
	drill_free(drill);
}

int drill_full(void) {
	const char *given = getenv("FOREBAY_DRILLS");

	return given && strcmp(given, "full") == 0;
}

TCase *drill_case(Suite *suite, const char *name) {
	TCase *tcase = tcase_create(name);

	tcase_set_timeout(tcase, 60);
	suite_add_tcase(suite, tcase);
	return tcase;
}
