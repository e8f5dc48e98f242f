/* The log of a running Forebay at a syslog or journald that the test plays, and how many of its clients it tells of. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "http.h"
#include "query.h"

static char journal_path[108];

/* A socket that any user may send to. */
static int listen_there(void) {
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(journal_path, sizeof(journal_path), "%s", harness_path("log-%d", (int)getpid()));
	ck_assert_int_ge(fd, 0);
	strcpy(un.sun_path, journal_path);
	unlink(journal_path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	ck_assert_int_eq(chmod(journal_path, 0777), 0);
	return fd;
}

/* The next datagram that has this in it; those before it are passed over. */
static char *await_datagram(int fd, const char *needle) {
	static char text[8192];
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	while (harness_now_ms() < deadline) {
		struct pollfd readable = {.fd = fd, .events = POLLIN};
		if (poll(&readable, 1, 1000) != 1)
			continue;
		ssize_t n = recv(fd, text, sizeof(text) - 1, 0);
		ck_assert_int_gt(n, 0);
		text[n] = 0;
		if (strstr(text, needle))
			return text;
	}
	ck_abort_msg("nothing with \"%s\" came", needle);
	return text;
}

static void connect_and_leave(const struct forebay *forebay) {
	PGconn *conn = connect_with(forebay, "%s", "");
	execute(conn, "select 1");
	PQfinish(conn);
}

START_TEST(journald_is_told_of_clients_by_field_and_a_reload_leads_elsewhere) {
	char lines[400];

	if (harness_direct())
		return;
	int journal = listen_there();
	snprintf(lines, sizeof(lines), "log_destination = journald\nlog_socket = %s\nlog_ident = night", journal_path);
	struct forebay_setup setup = {.process = lines};
	struct forebay *forebay = forebay_start(&setup);
	char *got = await_datagram(journal, "FOREBAY_EVENT=ready\n");
	ck_assert_ptr_nonnull(strstr(got, "PRIORITY=6\n"));
	ck_assert_ptr_nonnull(strstr(got, "SYSLOG_IDENTIFIER=night\n"));
	connect_and_leave(forebay);
	got = await_datagram(journal, "FOREBAY_EVENT=client_connected\n");
	ck_assert_ptr_nonnull(strstr(got, "FOREBAY_POOL=app\n"));
	ck_assert_ptr_nonnull(strstr(got, "MESSAGE=client logged in\n"));
	snprintf(lines, sizeof(lines), "log_destination = syslog\nlog_socket = %s\nlog_facility = local3", journal_path);
	forebay_rewrite_ini(forebay, &setup);
	ck_assert_int_eq(kill(forebay->pid, SIGHUP), 0);
	got = await_datagram(journal, "forebay[");
	ck_assert_msg(strncmp(got, "<158>", 5) == 0, "local3 and info are 158: %s", got);
	forebay_stop(forebay);
	await_datagram(journal, " stopped \"stopped\"");
	close(journal);
}
END_TEST

START_TEST(full_or_absent_socket_holds_no_client_up) {
	char lines[400];

	if (harness_direct())
		return;
	int journal = listen_there();
	snprintf(lines, sizeof(lines), "log_destination = journald\nlog_socket = %s", journal_path);
	int port = harness_free_port();
	char process[500];
	snprintf(process, sizeof(process), "%s\nmetrics_listen = 127.0.0.1:%d", lines, port);
	struct forebay *forebay = forebay_start(&(struct forebay_setup){.workers = 2, .process = process, .listener = "auth = trust"});
	/* nobody reads: the socket takes a few, the backlog some hundreds, and the rest is dropped and counted */
	for (double dropped = 0; dropped == 0;) {
		for (int i = 0; i < 50; i++)
			connect_and_leave(forebay);
		char *page = http_body(port, "/metrics");
		const char *line = strstr(page, "\nforebay_log_dropped_lines_total ");
		ck_assert_msg(line != NULL, "%s", page);
		dropped = atof(strchr(line, ' '));
		free(page);
	}
	await_datagram(journal, "FOREBAY_EVENT=ready\n");
	await_datagram(journal, "FOREBAY_EVENT=log_lines_dropped\n");
	close(journal);
	unlink(journal_path);
	connect_and_leave(forebay);
	forebay_await_log(forebay, "log_destination_gone");
	forebay_await_log(forebay, "client_disconnected");
	ck_assert(forebay_alive(forebay));
	forebay_stop(forebay);
}
END_TEST

/* Of 400 clients one in four: fewer than 50 or more than 150 of them has a chance below 1e-8. */
START_TEST(a_sample_of_clients_is_logged_whole) {
	if (harness_direct())
		return;
	struct forebay *forebay =
		forebay_start(&(struct forebay_setup){.process = "log_connections_every = 4", .listener = "auth = trust"});
	for (int i = 0; i < 400; i++)
		connect_and_leave(forebay);
	int came = harness_count_in(forebay->log, " client_connected ");
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	while (harness_count_in(forebay->log, " client_disconnected ") < came) {
		ck_assert_msg(harness_now_ms() < deadline, "fewer were logged when they left than when they came");
		harness_pause_ms(10);
	}
	ck_assert_int_eq(harness_count_in(forebay->log, " client_disconnected "), came);
	ck_assert_msg(came > 50 && came < 150, "%d of 400 were logged", came);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	harness_begin(NULL);
	Suite *suite = suite_create("log");
	TCase *tc = tcase_create("log");

	tcase_add_test(tc, journald_is_told_of_clients_by_field_and_a_reload_leads_elsewhere);
	tcase_add_test(tc, full_or_absent_socket_holds_no_client_up);
	tcase_add_test(tc, a_sample_of_clients_is_logged_whole);
	tcase_set_timeout(tc, 60);
	suite_add_tcase(suite, tc);
	return harness_run(suite);
}
