/* Listening sockets, and the workers that accept from them in turn. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <grp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/log.h"
#include "net/acceptor.h"
#include "net_harness.h"

static const struct tcp_silence usual = {0};
static struct listener listener;
static char directory[64], path[100];

static void set_up(void) {
	listener = (struct listener){.fd = -1};
	strcpy(directory, "/tmp/forebay-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(path, sizeof path, "%s/.s.PGSQL.6432", directory);
}

static void tear_down(void) {
	listener_close(&listener);
	unlink(path);
	rmdir(directory);
}

static bool open_at(struct listener *l, const char *address, struct error *error) {
	return listener_open(l, address, 4096, &usual, NULL, error);
}

static int connect_tcp(int port) {
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(fd, (struct sockaddr *)&in, sizeof in) == 0)
		return fd;
	close(fd);
	return -1;
}

static int connect_unix(const char *to) {
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(un.sun_path, sizeof un.sun_path, "%s", to);
	if (connect(fd, (struct sockaddr *)&un, sizeof un) == 0)
		return fd;
	close(fd);
	return -1;
}

static int port_of(const struct listener *l) {
	struct sockaddr_storage address;
	socklen_t len = sizeof address;

	must(getsockname(l->fd, (struct sockaddr *)&address, &len) == 0);
	return ntohs(address.ss_family == AF_INET ? ((struct sockaddr_in *)&address)->sin_port
						  : ((struct sockaddr_in6 *)&address)->sin6_port);
}

static int option(int fd, int level, int name) {
	int value = -1;
	socklen_t len = sizeof value;

	must(getsockopt(fd, level, name, &value, &len) == 0);
	return value;
}

/* Listening */

START_TEST(accepted_connections_have_the_options_of_their_listener) {
	static const char *const addresses[] = {"127.0.0.1:0", "*:0", "localhost:0"};
	const struct tcp_silence silence = {30 * NS_PER_S, 1500 * NS_PER_MS};

	for (int i = 0; i < 3; i++) {
		struct error error = {0};
		ck_assert_msg(listener_open(&listener, addresses[i], 16, &silence, NULL, &error), "%s", error.text);
		int fd = connect_tcp(port_of(&listener));
		int got = accept4(listener.fd, NULL, NULL, 0);
		ck_assert_int_ge(got, 0);
		ck_assert_int_ne(option(got, IPPROTO_TCP, TCP_NODELAY), 0);
		ck_assert_int_ne(option(got, SOL_SOCKET, SO_KEEPALIVE), 0);
		ck_assert_int_eq(option(got, IPPROTO_TCP, TCP_KEEPIDLE), 30);
		ck_assert_int_eq(option(got, IPPROTO_TCP, TCP_KEEPINTVL), 10);
		ck_assert_int_eq(option(got, IPPROTO_TCP, TCP_KEEPCNT), 3);
		ck_assert_int_eq(option(got, IPPROTO_TCP, TCP_USER_TIMEOUT), 1500);
		close(fd);
		close(got);
		listener_close(&listener);
		listener_close(&listener);
	}
}
END_TEST

START_TEST(a_unix_socket_has_the_permissions_and_the_group_that_are_asked_for) {
	const struct tcp_silence silence = {0, 0};
	struct listener_access access = {.mode = 0640, .group = "no such group"};
	struct error error = {0};
	struct stat st;

	ck_assert(!listener_open(&listener, path, 16, &silence, &access, &error));
	ck_assert_msg(strstr(error.text, "there is no such group") != NULL, "%s", error.text);
	ck_assert_int_ne(lstat(path, &st), 0);
	struct group *own = getgrgid(getegid());
	access.group = own ? own->gr_name : NULL;
	ck_assert_msg(listener_open(&listener, path, 16, &silence, &access, &error), "%s", error.text);
	ck_assert_int_eq(lstat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0640);
	ck_assert_uint_eq(st.st_gid, getegid());
	listener_close(&listener);
	ck_assert_int_ne(lstat(path, &st), 0);
	ck_assert(listener_open(&listener, path, 16, &silence, NULL, &error));
	ck_assert_int_eq(lstat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0777);
	listener_close(&listener);
}
END_TEST

START_TEST(options_can_be_changed_and_given_back_to_the_system) {
	static const int names[] = {TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_USER_TIMEOUT};
	const struct tcp_silence first = {30 * NS_PER_S, 1500 * NS_PER_MS}, second = {7 * NS_PER_S, 0}, off = {0, 0};

	ck_assert(listener_open(&listener, "127.0.0.1:0", 16, &first, NULL, &(struct error){0}));
	listener_set_silence(&listener, &second);
	int fd = connect_tcp(port_of(&listener)), got = accept4(listener.fd, NULL, NULL, 0);
	ck_assert_int_eq(option(got, IPPROTO_TCP, TCP_KEEPIDLE), 7);
	ck_assert_int_eq(option(got, IPPROTO_TCP, TCP_USER_TIMEOUT), 0);
	close(fd);
	close(got);
	listener_set_silence(&listener, &off);
	fd = connect_tcp(port_of(&listener)), got = accept4(listener.fd, NULL, NULL, 0);
	int fresh = socket(AF_INET, SOCK_STREAM, 0);
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		ck_assert_int_eq(option(got, IPPROTO_TCP, names[i]), option(fresh, IPPROTO_TCP, names[i]));
	ck_assert_int_ne(option(got, IPPROTO_TCP, TCP_NODELAY), 0);
	close(fresh);
	close(fd);
	close(got);
}
END_TEST

START_TEST(unix_socket_is_open_to_all_and_goes_with_its_listener) {
	struct stat st;

	ck_assert(open_at(&listener, path, &(struct error){0}));
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_mode & 0777, 0777);
	int fd = connect_unix(path);
	ck_assert_int_ge(fd, 0);
	close(fd);
	listener_unlink(&listener);
	ck_assert_int_eq(access(path, F_OK), -1);
	listener_close(&listener);
}
END_TEST

START_TEST(stale_unix_socket_is_replaced) {
	ck_assert(open_at(&listener, path, &(struct error){0}));
	/* as after a crash: the file stays, nobody listens */
	close(listener.fd);
	listener.fd = -1;
	ck_assert_int_eq(connect_unix(path), -1);
	ck_assert(open_at(&listener, path, &(struct error){0}));
	int fd = connect_unix(path);
	ck_assert_int_ge(fd, 0);
	close(fd);
}
END_TEST

START_TEST(live_unix_socket_is_left_alone) {
	struct listener second;
	struct error error = {0};

	ck_assert(open_at(&listener, path, &(struct error){0}));
	ck_assert(!open_at(&second, path, &error));
	ck_assert_int_eq(error.code, EADDRINUSE);
	ck_assert_ptr_nonnull(strstr(error.text, path));
	int fd = connect_unix(path);
	ck_assert_int_ge(fd, 0);
	close(fd);
}
END_TEST

START_TEST(file_that_is_no_socket_is_left_alone) {
	struct error error = {0};

	close(open(path, O_CREAT | O_WRONLY, 0600));
	ck_assert(!open_at(&listener, path, &error));
	ck_assert_ptr_nonnull(strstr(error.text, "no socket"));
	ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

START_TEST(socket_file_of_a_successor_is_not_unlinked) {
	struct listener second;

	ck_assert(open_at(&listener, path, &(struct error){0}));
	unlink(path);
	ck_assert(open_at(&second, path, &(struct error){0}));
	listener_close(&listener);
	ck_assert_int_eq(access(path, F_OK), 0);
	listener_close(&second);
	ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

/* A label longer than 63 bytes is no name (RFC 1035 section 2.3.4): it fails without a question to any server. */
#define NO_NAME "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

START_TEST(bad_address_is_refused_and_named) {
	static const char *const addresses[] = {"", "6432", "127.0.0.1", "127.0.0.1:", ":6432", "::1:6432", "[::1]6432",
						"127.0.0.1:64x2", "127.0.0.1:123456", "192.0.2.1:6432", NO_NAME ":1"};

	for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
		struct error error = {0};
		ck_assert_msg(!open_at(&listener, addresses[i], &error), "%s", addresses[i]);
		ck_assert_ptr_nonnull(strstr(error.text, addresses[i]));
		ck_assert_int_eq(listener.fd, -1);
	}
}
END_TEST

START_TEST(port_in_use_is_an_error_that_names_it) {
	struct listener second;
	struct error error = {0};
	char address[64];

	ck_assert(open_at(&listener, "127.0.0.1:0", &(struct error){0}));
	snprintf(address, sizeof address, "127.0.0.1:%d", port_of(&listener));
	ck_assert(!open_at(&second, address, &error));
	ck_assert_int_eq(error.code, EADDRINUSE);
	ck_assert_ptr_nonnull(strstr(error.text, address));
}
END_TEST

/* Accepting */

enum { WORKERS_MAX = 4, CLIENTS = 400 };

static struct worker workers[WORKERS_MAX];
static int worker_count;
static struct acceptor *acceptor;
static struct gate accepted = GATE_INIT;
static _Atomic int fds[8192], fd_count;

static void take(struct worker *worker, const struct listener *l, int fd, const struct sockaddr *peer, socklen_t peer_len) {
	must(worker_current() == worker);
	must(fcntl(fd, F_GETFL) & O_NONBLOCK);
	must(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	must(l->is_unix ? peer->sa_family == AF_UNIX
			: peer->sa_family == AF_INET && peer_len == sizeof(struct sockaddr_in));
	int at = atomic_fetch_add(&fd_count, 1);
	must(at < (int)(sizeof fds / sizeof fds[0]));
	fds[at] = fd;
	gate_add(&accepted);
}

static void begin(int count) {
	worker_count = count;
	accepted = (struct gate)GATE_INIT;
	fd_count = 0;
	for (int i = 0; i < count; i++)
		worker_begin(&workers[i], i);
	acceptor = acceptor_new(workers, count, take);
	ck_assert_ptr_nonnull(acceptor);
}

static void finish(void) {
	acceptor_hurry(acceptor);
	ck_assert(acceptor_wait_closed(acceptor));
	for (int i = 0; i < worker_count; i++) {
		worker_stop(&workers[i]);
		worker_join(&workers[i]);
	}
	for (int i = 0; i < fd_count; i++)
		close(fds[i]);
	acceptor_free(acceptor);
	for (int i = 0; i < worker_count; i++)
		worker_destroy(&workers[i]);
}

static struct acceptor_socket *accept_at(const char *address, int *port) {
	struct error error = {0};
	ck_assert_msg(open_at(&listener, address, &error), "%s", error.text);
	if (port)
		*port = port_of(&listener);
	struct acceptor_socket *socket = acceptor_add(acceptor, &listener);
	ck_assert_ptr_nonnull(socket);
	listener.fd = -1;
	return socket;
}

static void check_bound(void) {
	int fewest = atomic_load(&workers[0].clients), most = fewest, sum = 0;

	for (int i = 0; i < worker_count; i++) {
		int n = atomic_load(&workers[i].clients);
		fewest = n < fewest ? n : fewest;
		most = n > most ? n : most;
		sum += n;
	}
	ck_assert_int_eq(sum, fd_count);
	ck_assert_msg(most <= acceptor_most(fewest), "%d clients beside %d", most, fewest);
}

static void *connect_many(void *arg) {
	int port = *(int *)arg;

	for (int i = 0; i < CLIENTS / 4; i++)
		must((fds[atomic_fetch_add(&fd_count, 1)] = connect_tcp(port)) >= 0);
	return NULL;
}

START_TEST(burst_of_clients_is_spread_over_the_workers) {
	pthread_t threads[4];
	int port;

	begin(4);
	struct acceptor_socket *socket = accept_at("127.0.0.1:0", &port);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, connect_many, &port), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	gate_wait(&accepted, CLIENTS);
	fd_count -= CLIENTS; /* the clients' own ends */
	check_bound();
	fd_count += CLIENTS;
	acceptor_remove(socket);
	finish();
}
END_TEST

START_TEST(few_clients_one_after_another_are_spread_too) {
	int port, ends[40];

	begin(4);
	struct acceptor_socket *tcp = accept_at("127.0.0.1:0", &port), *local = accept_at(path, NULL);
	for (int i = 0; i < 40; i++) {
		ends[i] = i % 2 ? connect_unix(path) : connect_tcp(port);
		ck_assert_int_ge(ends[i], 0);
		gate_wait(&accepted, i + 1);
		check_bound();
	}
	for (int i = 0; i < 40; i++)
		close(ends[i]);
	acceptor_remove(tcp);
	acceptor_remove(local);
	finish();
}
END_TEST

START_TEST(lone_worker_accepts_all) {
	int port, ends[20];

	begin(1);
	struct acceptor_socket *socket = accept_at("127.0.0.1:0", &port);
	for (int i = 0; i < 20; i++)
		ends[i] = connect_tcp(port);
	gate_wait(&accepted, 20);
	ck_assert_int_eq(atomic_load(&workers[0].clients), 20);
	for (int i = 0; i < 20; i++)
		close(ends[i]);
	acceptor_remove(socket);
	finish();
}
END_TEST

static _Atomic bool connecting;

static void *connect_on_and_on(void *arg) {
	while (atomic_load(&connecting)) {
		int fd = connect_tcp(*(int *)arg);
		if (fd >= 0)
			close(fd);
	}
	return NULL;
}

/* What is accepted is closed at once: as if all clients left. */
static void take_and_close(struct worker *worker, const struct listener *l, int fd, const struct sockaddr *peer,
			   socklen_t peer_len) {
	(void)l, (void)peer, (void)peer_len;
	must(worker_current() == worker);
	close(fd);
	if (atomic_fetch_sub(&worker->clients, 1) % 3 == 0)
		atomic_fetch_add(&workers[0].clients, 3); /* so that the turn goes on and on */
	gate_add(&accepted);
}

START_TEST(sockets_come_and_go_while_clients_connect) {
	char address[64];
	pthread_t threads[2];
	int port;

	begin(4);
	acceptor_free(acceptor);
	acceptor = acceptor_new(workers, 4, take_and_close);
	struct acceptor_socket *socket = accept_at("127.0.0.1:0", &port);
	snprintf(address, sizeof address, "127.0.0.1:%d", port);
	atomic_store(&connecting, true);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, connect_on_and_on, &port), 0);
	for (int round = 0; round < 50; round++) {
		gate_wait(&accepted, gate_value(&accepted) + 5);
		acceptor_remove(socket);
		ck_assert(acceptor_wait_closed(acceptor));
		/* nobody listens, so the address is free at once */
		socket = accept_at(address, NULL);
	}
	atomic_store(&connecting, false);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	acceptor_remove(socket);
	ck_assert(acceptor_wait_closed(acceptor));
	ck_assert_int_eq(connect_tcp(port), -1);
	finish();
}
END_TEST

/* More than find room in a short queue, before anybody accepts. */
START_TEST(who_has_connected_is_accepted_before_the_socket_is_closed) {
	static const char *const addresses[] = {"127.0.0.1:0", "0.0.0.0:0"};
	enum { QUEUE = 100, MANY = 140 };

	for (int a = 0; a < 2; a++) {
		struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		int ends[MANY], count = 0;
		char c;

		begin(2);
		ck_assert(open_at(&listener, addresses[a], &(struct error){0}));
		ck_assert_int_eq(listen(listener.fd, QUEUE), 0);
		in.sin_port = htons((uint16_t)port_of(&listener));
		for (int i = 0; i < MANY; i++) {
			int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
			ck_assert_int_ge(fd, 0);
			struct pollfd writable = {.fd = fd, .events = POLLOUT};
			if (connect(fd, (struct sockaddr *)&in, sizeof in) == 0 ||
			    (errno == EINPROGRESS && poll(&writable, 1, 0) == 1))
				ends[count++] = fd;
			else
				close(fd);
		}
		ck_assert_int_ge(count, QUEUE);
		ck_assert_int_lt(count, MANY);
		struct acceptor_socket *socket = acceptor_add(acceptor, &listener);
		ck_assert_ptr_nonnull(socket);
		listener.fd = -1;
		acceptor_remove(socket);
		ck_assert(acceptor_wait_closed(acceptor));
		ck_assert_int_ge(gate_value(&accepted), count);
		for (int i = 0; i < count; i++) {
			ck_assert_int_eq((int)recv(ends[i], &c, 1, MSG_DONTWAIT), -1);
			ck_assert_msg(errno == EAGAIN, "one of %d: %s", count, strerror(errno));
			close(ends[i]);
		}
		finish();
	}
}
END_TEST

static struct gate paused = GATE_INIT;
static _Atomic int repeats;

static void on_line(const char *line, size_t len) {
	const char *again = memmem(line, len, "repeats=", strlen("repeats="));
	if (again)
		atomic_fetch_add(&repeats, atoi(again + strlen("repeats=")));
	else if (memmem(line, len, "cannot accept", strlen("cannot accept")))
		gate_add(&paused);
}

static void nothing(struct worker *worker, void *arg) {
	(void)worker, (void)arg;
}

START_TEST(out_of_descriptors_accepting_pauses_and_goes_on) {
	struct rlimit old, low;
	int port;

	begin(1);
	struct acceptor_socket *socket = accept_at("127.0.0.1:0", &port);
	on_worker(&workers[0], nothing, NULL); /* it watches by now */
	log_set_sink(on_line);
	int next = dup(0);
	close(next);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	low.rlim_cur = (rlim_t)next + 1; /* one is left: the client's own end */
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
	int client_fd = connect_tcp(port);
	ck_assert_int_ge(client_fd, 0);
	gate_wait(&paused, 1);
	/* ten times a second, whatever else wakes the loop */
	uint64_t begin_ns = clock_monotonic_ns(), now_ns;
	do {
		on_worker(&workers[0], nothing, NULL);
		now_ns = clock_monotonic_ns();
	} while (now_ns - begin_ns < 250 * NS_PER_MS);
	log_flush(true);
	ck_assert_uint_le((uint64_t)(repeats + gate_value(&paused)), (now_ns - begin_ns) / (100 * NS_PER_MS) + 2);
	ck_assert_int_eq(gate_value(&accepted), 0);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
	gate_wait(&accepted, 1);
	close(client_fd);
	acceptor_remove(socket);
	finish();
	log_set_sink(NULL);
}
END_TEST

static TCase *tests(Suite *suite, const char *name) {
	TCase *tc = tcase_create(name);

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_set_timeout(tc, 60);
	suite_add_tcase(suite, tc);
	return tc;
}

int main(void) {
	Suite *suite = suite_create("acceptor");
	TCase *tc = tests(suite, "listener");

	tcase_add_test(tc, accepted_connections_have_the_options_of_their_listener);
	tcase_add_test(tc, options_can_be_changed_and_given_back_to_the_system);
	tcase_add_test(tc, a_unix_socket_has_the_permissions_and_the_group_that_are_asked_for);
	tcase_add_test(tc, unix_socket_is_open_to_all_and_goes_with_its_listener);
	tcase_add_test(tc, stale_unix_socket_is_replaced);
	tcase_add_test(tc, live_unix_socket_is_left_alone);
	tcase_add_test(tc, file_that_is_no_socket_is_left_alone);
	tcase_add_test(tc, socket_file_of_a_successor_is_not_unlinked);
	tcase_add_test(tc, bad_address_is_refused_and_named);
	tcase_add_test(tc, port_in_use_is_an_error_that_names_it);
	tc = tests(suite, "acceptor");
	tcase_add_test(tc, burst_of_clients_is_spread_over_the_workers);
	tcase_add_test(tc, few_clients_one_after_another_are_spread_too);
	tcase_add_test(tc, lone_worker_accepts_all);
	tcase_add_test(tc, sockets_come_and_go_while_clients_connect);
	tcase_add_test(tc, who_has_connected_is_accepted_before_the_socket_is_closed);
	tcase_add_test(tc, out_of_descriptors_accepting_pauses_and_goes_on);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
