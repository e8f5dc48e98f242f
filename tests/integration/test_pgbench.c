/* pgbench with hundreds of clients on ten connections: no error, and never more connections than that. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "query.h"

enum { SERVERS = 10 };

static void run_pgbench(const struct forebay *forebay, PGconn *control, const char *const *more) {
	char port[16], *pgbench = strdup(harness_pg_program("pgbench")), *log = strdup(harness_path("pgbench.log"));
	const char *argv[32] = {pgbench, "-h", "127.0.0.1", "-p", port, "-U", "app", "-n", "-j", "2"};
	size_t n = 10;
	long most = 0;
	long long deadline = harness_now_ms() + 3 * HARNESS_DEADLINE_MS;
	int status = -1;
	pid_t pid;
	char *text;

	snprintf(port, sizeof(port), "%d", forebay->port);
	while (*more)
		argv[n++] = *more++;
	argv[n++] = "app";
	argv[n] = NULL;
	remove(log);
	setenv("PGPASSWORD", "app-secret", 1);
	pid = harness_spawn(argv, log);
	while (waitpid(pid, &status, WNOHANG) == 0) {
		long connections = server_connections(control);

		most = connections > most ? connections : most;
		ck_assert_msg(harness_now_ms() < deadline, "pgbench %s does not come to its end", argv[11]);
		harness_pause_ms(10);
	}
	text = harness_read(log);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "pgbench failed: %.2000s", text);
	ck_assert_msg(strstr(text, "number of failed transactions: 0 ") != NULL, "%.2000s", text);
	ck_assert_msg(most <= SERVERS, "%ld connections at once", most);
	free(text);
	free(pgbench);
	free(log);
}

static void run_all(int workers, const char *clients, const char *transactions) {
	static const char *const modes[] = {"simple", "extended", "prepared"};
	struct forebay *forebay =
		forebay_start(&(struct forebay_setup){.workers = workers, .pool = "max_size = 10\nacquire_timeout = 60s"});
	PGconn *control = connect_control();

	if (!forebay->direct) {
		for (size_t i = 0; i < 3; i++) {
			run_pgbench(forebay, control, (const char *const[]){"-c", clients, "-M", modes[i], "-t", transactions, NULL});
			run_pgbench(forebay, control,
				    (const char *const[]){"-c", clients, "-M", modes[i], "-S", "-t", transactions, NULL});
		}
		/* A connection for each transaction. */
		run_pgbench(forebay, control, (const char *const[]){"-c", clients, "-C", "-S", "-t", "3", NULL});
	}
	PQfinish(control);
	forebay_stop(forebay);
}

#ifndef __SANITIZE_THREAD__
START_TEST(pgbench_in_every_mode) {
	run_all(1, "200", "4");
}
END_TEST
#endif

START_TEST(pgbench_with_five_hundred_clients) {
	run_all(4, "500", "4");
}
END_TEST

int main(void) {
	Suite *suite = suite_create("pgbench");
	TCase *tcase = tcase_create("pgbench");
	char port[16];

	harness_begin(NULL);
	snprintf(port, sizeof(port), "%d", harness_postgres_port());
	setenv("PGPASSWORD", "app-secret", 1);
	if (!harness_command((const char *const[]){harness_pg_program("pgbench"), "-h", "127.0.0.1", "-p", port, "-U", "app", "-i",
						   "-q", "-s", "5", "app", NULL})) {
		fputs("pgbench -i failed\n", stderr);
		return harness_end(EXIT_FAILURE);
	}
	tcase_set_timeout(tcase, 240);
	suite_add_tcase(suite, tcase);
#ifndef __SANITIZE_THREAD__ /* one worker has nobody to race with */
	tcase_add_test(tcase, pgbench_in_every_mode);
#endif
	tcase_add_test(tcase, pgbench_with_five_hundred_clients);
	return harness_run(suite);
}
