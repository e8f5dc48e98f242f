#include "cluster.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { NODE_DEADLINE_MS = 2 * HARNESS_DEADLINE_MS };

long long cluster_now_us(void) {
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (long long)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* --- nodes --- */

static bool copy(const char *from, const char *to) {
	return harness_command((const char *const[]){"cp", "-a", "--reflink=auto", from, to, NULL});
}

void cluster_begin(void) {
	harness_postgres_stop(false);
	if (!copy(harness_path("pg"), harness_path("template"))) {
		fputs("cluster: cannot copy the data directory\n", stderr);
		exit(harness_end(1));
	}
	unlink(harness_path("template/server.log"));
	harness_postgres_start();
}

static void append(const struct node *node, const char *file, const char *text) {
	char path[300];
	FILE *out;

	snprintf(path, sizeof(path), "%s/%s", node->dir, file);
	out = fopen(path, "ae");
	ck_assert_msg(out != NULL, "cannot write %s: %s", path, strerror(errno));
	fprintf(out, "%s\n", text);
	ck_assert_int_eq(fclose(out), 0);
}

void node_configure(struct node *node, const char *conf) {
	append(node, "postgresql.conf", conf);
}

static struct node *node_make(struct network *network) {
	struct node *node = calloc(1, sizeof(*node));

	ck_assert(node != NULL);
	node->network = network;
	node->port = harness_free_port();
	snprintf(node->host, sizeof(node->host), "%s", network ? network_address(network) : "127.0.0.1");
	snprintf(node->dir, sizeof(node->dir), "%s/n%d", harness_dir(), node->port);
	snprintf(node->log, sizeof(node->log), "%s/server.log", node->dir);
	return node;
}

static void node_settle(struct node *node, const char *conf) {
	char own[1000];

	snprintf(own, sizeof(own), "listen_addresses = '*'\nport = %d\nunix_socket_directories = '%s'\nlogging_collector = off",
		 node->port, node->dir);
	node_configure(node, own);
	if (conf)
		node_configure(node, conf);
}

struct node *node_new(const char *conf, struct network *network) {
	struct node *node = node_make(network);

	ck_assert_msg(copy(harness_path("template"), node->dir), "cannot copy the template");
	node_settle(node, conf);
	append(node, "pg_hba.conf",
	       "host all all 0.0.0.0/0 scram-sha-256\nlocal replication postgres trust");
	node_start(node);
	return node;
}

struct node *node_standby(struct node *primary) {
	struct node *node = node_make(primary->network);
	char port[16];

	snprintf(port, sizeof(port), "%d", primary->port);
	ck_assert_msg(harness_command((const char *const[]){"mkdir", "-m", "700", node->dir, NULL}), "mkdir");
	if (geteuid() == 0)
		ck_assert_msg(harness_command((const char *const[]){"chown", "--reference", primary->dir, node->dir, NULL}),
			      "chown");
	ck_assert_msg(harness_command_as_postgres((const char *const[]){
			      harness_pg_program("pg_basebackup"), "-h", primary->dir, "-p", port, "-U", "postgres", "-D",
			      node->dir, "-R", "-X", "stream", "-c", "fast", "--no-sync", NULL}),
		      "pg_basebackup failed");
	unlink(node->log);
	node_settle(node, "hot_standby = on");
	node_start(node);
	return node;
}

/* The postmaster says in its pid file when it is ready; a standby when it takes queries. */
static bool node_is_ready(const struct node *node) {
	char path[300], line[256];
	int n = 0;
	bool ready = false;
	FILE *f;

	snprintf(path, sizeof(path), "%s/postmaster.pid", node->dir);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		n++;
		if (n == 1 && atoi(line) != (int)node->pid)
			break;
		if (n == 8)
			ready = strncmp(line, "ready", 5) == 0;
	}
	if (f)
		fclose(f);
	return ready;
}

static void show_log(const struct node *node) {
	char *text = harness_read(node->log);
	size_t len = strlen(text);

	printf("--- the end of %s:\n%s\n", node->log, len > 3000 ? text + len - 3000 : text);
	free(text);
}

static void network_enter(const struct network *network);
static void network_leave(const struct network *network);

void node_launch(struct node *node) {
	ck_assert_msg(node->pid == 0, "it runs already");
	if (node->network)
		network_enter(node->network);
	node->pid = harness_spawn_postgres(node->dir, node->log);
	if (node->network)
		network_leave(node->network);
}

void node_await_ready(struct node *node) {
	long long deadline = harness_now_ms() + NODE_DEADLINE_MS;

	while (!node_is_ready(node)) {
		if (waitpid(node->pid, NULL, WNOHANG) != 0 || harness_now_ms() > deadline) {
			show_log(node);
			ck_abort_msg("PostgreSQL does not start");
		}
		harness_pause_ms(1);
	}
	node->ready_us = cluster_now_us();
}

void node_start(struct node *node) {
	node_launch(node);
	node_await_ready(node);
}

/* Its children, and on request itself first. */
static void node_signal_all(const struct node *node, int signo) {
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	kill(node->pid, signo);
	while (proc && (entry = readdir(proc))) {
		char path[300], line[512], *after;
		int parent = 0;
		FILE *f;

		if (atoi(entry->d_name) <= 1)
			continue;
		snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
		f = fopen(path, "re");
		if (!f)
			continue;
		/* "pid (comm) state ppid", where comm may hold anything. */
		if (fgets(line, sizeof(line), f) && (after = strrchr(line, ')')) &&
		    sscanf(after, ") %*c %d", &parent) == 1 && parent == (int)node->pid)
			kill((pid_t)atoi(entry->d_name), signo);
		fclose(f);
	}
	if (proc)
		closedir(proc);
}

void node_freeze(struct node *node) {
	/* The postmaster first, so that no child is born meanwhile. */
	node_signal_all(node, SIGSTOP);
	node->frozen = true;
}

void node_thaw(struct node *node) {
	node_signal_all(node, SIGCONT);
	node->frozen = false;
}

static bool node_await_end(struct node *node, int timeout_ms) {
	long long deadline = harness_now_ms() + timeout_ms;

	while (waitpid(node->pid, NULL, WNOHANG) == 0) {
		if (harness_now_ms() > deadline)
			return false;
		harness_pause_ms(2);
	}
	return true;
}

void node_stop(struct node *node, enum node_stop how) {
	if (node->pid == 0)
		return;
	if (node->frozen)
		node_thaw(node);
	if (how == STOP_KILLED)
		node_signal_all(node, SIGKILL);
	else
		kill(node->pid, how == STOP_FAST ? SIGINT : SIGQUIT);
	if (!node_await_end(node, NODE_DEADLINE_MS)) {
		show_log(node);
		ck_abort_msg("PostgreSQL does not stop");
	}
	node->pid = 0;
}

void node_promote(struct node *node) {
	PGconn *control = node_control(node);
	PGresult *res = PQexec(control, "select pg_promote(true, 60)");

	ck_assert_msg(PQresultStatus(res) == PGRES_TUPLES_OK && strcmp(PQgetvalue(res, 0, 0), "t") == 0, "pg_promote: %s",
		      PQresultErrorMessage(res));
	PQclear(res);
	PQfinish(control);
	node->ready_us = cluster_now_us();
}

void node_demote(struct node *node) {
	ck_assert_msg(node->pid == 0, "it runs");
	append(node, "standby.signal", "");
	node_configure(node, "primary_conninfo = ''");
}

void node_free(struct node *node) {
	if (!node)
		return;
	node_stop(node, STOP_IMMEDIATE);
	if (!getenv("FOREBAY_TEST_KEEP"))
		harness_command((const char *const[]){"rm", "-rf", "--", node->dir, NULL});
	free(node);
}

void node_conninfo(const struct node *node, const char *name, char *out, size_t room) {
	snprintf(out, room,
		 "host=%s port=%d user=postgres dbname=app application_name=%s options='-c client_min_messages=warning'",
		 node->dir, node->port, name);
}

PGconn *node_control(const struct node *node) {
	char info[512];
	PGconn *conn;

	node_conninfo(node, "control", info, sizeof(info));
	conn = PQconnectdb(info);
	ck_assert_msg(PQstatus(conn) == CONNECTION_OK, "control connection: %s", PQerrorMessage(conn));
	return conn;
}

int node_count(const struct node *node, const char *needle) {
	return harness_count_in(node->log, needle);
}

/* Lines are "<time> [<pid>] <user>@<database> <text>". A process is followed by its pid: one that is reused begins with a
 * new "connection received". */
struct visitor {
	int pid;
	bool probe, authorized, denied;
};

struct node_visits node_visits(const struct node *node) {
	struct node_visits visits = {0};
	char *text = harness_read(node->log), *save = NULL;
	struct visitor *visitors = NULL;
	size_t n = 0, room = 0;

	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *bracket = strchr(line, '[');
		int pid = bracket ? atoi(bracket + 1) : 0;
		struct visitor *visitor = NULL;

		if (pid == 0)
			continue;
		if (strstr(line, "connection received: host=") && !strstr(line, "host=[local]")) {
			if (n == room) {
				room = room ? 2 * room : 256;
				visitors = realloc(visitors, room * sizeof(*visitors));
				ck_assert(visitors != NULL);
			}
			visitors[n++] = (struct visitor){.pid = pid};
			continue;
		}
		for (size_t i = n; i-- > 0 && !visitor;)
			visitor = visitors[i].pid == pid ? &visitors[i] : NULL;
		if (!visitor)
			continue;
		if (strstr(line, "] " PROBER "@"))
			visitor->probe = true;
		if (strstr(line, "connection authorized"))
			visitor->authorized = true;
		/* Where too many are there already, that is said after the password was found right. */
		if (strstr(line, "FATAL:") && (!visitor->authorized || strstr(line, "connection slots are reserved"))) {
			visitor->authorized = false;
			visitor->denied = true;
		}
	}
	for (size_t i = 0; i < n; i++) {
		if (visitors[i].probe) {
			visits.probes++;
			continue;
		}
		visits.attempts++;
		visits.authorized += visitors[i].authorized;
		visits.denied += visitors[i].denied;
	}
	free(visitors);
	free(text);
	return visits;
}

/* --- networks --- */

static bool is_private;

static bool loopback_up(void) {
	struct ifreq request = {.ifr_name = "lo"};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool ok = fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &request) == 0;

	if (ok) {
		request.ifr_flags |= IFF_UP | IFF_RUNNING;
		ok = ioctl(fd, SIOCSIFFLAGS, &request) == 0;
	}
	if (fd >= 0)
		close(fd);
	return ok;
}

bool network_private(void) {
	if (is_private)
		return true;
	if (unshare(CLONE_NEWNET) != 0) {
		printf("note: no network of the test's own (%s): connection attempts are not counted\n", strerror(errno));
		return false;
	}
	ck_assert_msg(loopback_up(), "cannot set up the loopback of a new network: %s", strerror(errno));
	is_private = true;
	return true;
}

long network_failed_connects(void) {
	char names[2048] = "", values[2048] = "", line[2048], *name, *value, *save_name, *save_value;
	FILE *f = is_private ? fopen("/proc/self/net/snmp", "re") : NULL;
	long found = -1;

	/* Two lines begin with "Tcp:", first the names, then the values. */
	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "Tcp:", 4) == 0)
			memcpy(names[0] ? values : names, line, sizeof(line));
	}
	if (f)
		fclose(f);
	name = strtok_r(names, " \n", &save_name);
	value = strtok_r(values, " \n", &save_value);
	for (; name && value; name = strtok_r(NULL, " \n", &save_name), value = strtok_r(NULL, " \n", &save_value)) {
		if (strcmp(name, "AttemptFails") == 0)
			found = strtol(value, NULL, 10);
	}
	return found;
}

enum { TCP_STATE_ESTABLISHED = 1, TCP_STATE_SYN_SENT = 2 };

struct socket_row {
	unsigned state, local_port;
	unsigned long inode;
};

static bool has_row(const struct socket_row *rows, size_t n, const struct socket_row *row) {
	for (size_t i = 0; i < n; i++)
		if (rows[i].local_port == row->local_port && rows[i].inode == row->inode)
			return true;
	return false;
}

/* Rows of sockets connected to there; malloc'd. The kernel tells its list in pieces, and while that changes it may tell a
 * part of it twice: each socket is taken once. */
static struct socket_row *read_sockets(const char *address, int port, size_t *n) {
	FILE *f = fopen("/proc/self/net/tcp", "re");
	unsigned wanted = inet_addr(address);
	struct socket_row *rows = NULL;
	size_t room = 0;
	char line[512];

	*n = 0;
	while (f && fgets(line, sizeof(line), f)) {
		struct socket_row row;
		unsigned remote, remote_port;

		if (sscanf(line, " %*d: %*8x:%4x %8x:%4x %2x %*s %*s %*s %*s %*s %lu", &row.local_port, &remote, &remote_port,
			   &row.state, &row.inode) != 5 ||
		    remote != wanted || (int)remote_port != port || has_row(rows, *n, &row))
			continue;
		if (*n == room) {
			room = room ? 2 * room : 64;
			rows = realloc(rows, room * sizeof(*rows));
			if (!rows)
				abort();
		}
		rows[(*n)++] = row;
	}
	if (f)
		fclose(f);
	return rows;
}

struct network_sockets network_sockets_to(const char *address, int port) {
	struct network_sockets sockets = {0};
	size_t n;
	struct socket_row *rows = read_sockets(address, port, &n);

	for (size_t i = 0; i < n; i++) {
		sockets.established += rows[i].state == TCP_STATE_ESTABLISHED;
		sockets.connecting += rows[i].state == TCP_STATE_SYN_SENT;
	}
	free(rows);
	return sockets;
}

static int in_state(const char *address, int port, unsigned state) {
	size_t n, again_n;
	struct socket_row *rows = read_sockets(address, port, &n), *again = read_sockets(address, port, &again_n);
	int both = 0;

	for (size_t i = 0; i < n; i++) {
		for (size_t j = 0; j < again_n; j++) {
			if (rows[i].inode == again[j].inode && rows[i].local_port == again[j].local_port &&
			    rows[i].state == state && again[j].state == state) {
				both++;
				break;
			}
		}
	}
	free(rows);
	free(again);
	return both;
}

int network_established_to(const char *address, int port) {
	return in_state(address, port, TCP_STATE_ESTABLISHED);
}

int network_connecting_to(const char *address, int port) {
	return in_state(address, port, TCP_STATE_SYN_SENT);
}

#define NEAR_ADDRESS "10.231.77.1"
#define FAR_ADDRESS "10.231.77.2"
#define NOWHERE "02:00:00:00:77:77" /* a hardware address that nobody has */

struct network {
	pid_t holder; /* a process that does nothing there */
	int near_ns, far_ns;
	char near_mac[32], far_mac[32];
};

static void network_enter(const struct network *network) {
	ck_assert_msg(setns(network->far_ns, CLONE_NEWNET) == 0, "setns: %s", strerror(errno));
}

static void network_leave(const struct network *network) {
	ck_assert_msg(setns(network->near_ns, CLONE_NEWNET) == 0, "setns: %s", strerror(errno));
}

static bool ip(const char *a, const char *b, const char *c, const char *d, const char *e, const char *f) {
	return harness_command((const char *const[]){"ip", a, b, c, d, e, f, NULL});
}

static bool mac_of(const char *device, char out[32]) {
	struct ifreq request = {0};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	const unsigned char *mac = (const unsigned char *)request.ifr_hwaddr.sa_data;
	bool ok;

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", device);
	ok = fd >= 0 && ioctl(fd, SIOCGIFHWADDR, &request) == 0;
	snprintf(out, 32, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	if (fd >= 0)
		close(fd);
	return ok;
}

/* A child that is in a network namespace of its own when this returns. -1: not possible. */
static pid_t hold_namespace(void) {
	pid_t pid, parent = getpid();
	int fds[2];
	char c = 0;

	if (pipe2(fds, O_CLOEXEC) != 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		close(fds[0]);
		if (unshare(CLONE_NEWNET) != 0 || !loopback_up() || write(fds[1], "y", 1) != 1)
			_exit(1);
		closefrom(3);
		while (getppid() == parent)
			harness_pause_ms(100);
		_exit(0);
	}
	close(fds[1]);
	if (pid < 0 || read(fds[0], &c, 1) != 1) {
		if (pid > 0)
			waitpid(pid, NULL, 0);
		pid = -1;
	}
	close(fds[0]);
	return pid;
}

static bool lay_cable(struct network *network) {
	char holder[16];
	bool ok;

	snprintf(holder, sizeof(holder), "%d", (int)network->holder);
	if (!harness_command((const char *const[]){"ip", "link", "add", "near0", "type", "veth", "peer", "name", "far0",
						   "netns", holder, NULL}) ||
	    !ip("addr", "add", NEAR_ADDRESS "/24", "dev", "near0", NULL) || !ip("link", "set", "near0", "up", NULL, NULL) ||
	    !mac_of("near0", network->near_mac))
		return false;
	network_enter(network);
	ok = ip("addr", "add", FAR_ADDRESS "/24", "dev", "far0", NULL) && ip("link", "set", "far0", "up", NULL, NULL) &&
	     mac_of("far0", network->far_mac);
	network_leave(network);
	return ok;
}

struct network *network_new(void) {
	struct network *network;
	char path[64];

	if (!network_private())
		return NULL;
	network = calloc(1, sizeof(*network));
	ck_assert(network != NULL);
	network->holder = hold_namespace();
	if (network->holder < 0) {
		printf("note: no second network: no further namespace\n");
		free(network);
		return NULL;
	}
	network->near_ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)network->holder);
	network->far_ns = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert(network->near_ns >= 0 && network->far_ns >= 0);
	if (!lay_cable(network)) {
		printf("note: no second network: \"ip\" (iproute2) or virtual cables (veth) are not there\n");
		network_free(network);
		return NULL;
	}
	network_silence(network, false);
	return network;
}

/* Frames go to a hardware address that nobody has: nothing comes back, neither an answer nor an error. */
void network_silence(struct network *network, bool silent) {
	bool ok = harness_command((const char *const[]){"ip", "neigh", "replace", FAR_ADDRESS, "lladdr",
							silent ? NOWHERE : network->far_mac, "dev", "near0", "nud",
							"permanent", NULL});

	network_enter(network);
	ok = harness_command((const char *const[]){"ip", "neigh", "replace", NEAR_ADDRESS, "lladdr",
						   silent ? NOWHERE : network->near_mac, "dev", "far0", "nud", "permanent",
						   NULL}) &&
	     ok;
	network_leave(network);
	ck_assert_msg(ok, "ip neigh failed");
}

const char *network_address(const struct network *network) {
	(void)network;
	return FAR_ADDRESS;
}

void network_free(struct network *network) {
	if (!network)
		return;
	kill(network->holder, SIGKILL);
	waitpid(network->holder, NULL, 0);
	close(network->near_ns);
	close(network->far_ns);
	free(network);
}

void black_hole_dig(struct black_hole *hole, int port) {
	int on = 1;
	struct sockaddr_in sin = {.sin_family = AF_INET};
	enum { FILLERS = sizeof(hole->filler) / sizeof(hole->filler[0]) };

	hole->port = port;
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	sin.sin_port = htons((uint16_t)hole->port);
	hole->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(hole->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	ck_assert_msg(bind(hole->listener, (struct sockaddr *)&sin, sizeof(sin)) == 0 && listen(hole->listener, 0) == 0,
		      "listen: %s", strerror(errno));
	/* As many as are let in before it is full, and some more that try on in vain. */
	for (size_t i = 0; i < FILLERS; i++) {
		hole->filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		connect(hole->filler[i], (struct sockaddr *)&sin, sizeof(sin));
	}
	for (long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;;) {
		struct network_sockets sockets = network_sockets_to("127.0.0.1", hole->port);

		if (sockets.connecting > 0 && sockets.established > 0)
			break;
		ck_assert_msg(harness_now_ms() < deadline, "the backlog does not fill up");
		harness_pause_ms(5);
	}
	/* Those that try on would be counted. */
	for (size_t i = 0; i < FILLERS; i++) {
		int error = 0;
		socklen_t len = sizeof(error);
		struct sockaddr_in peer;
		socklen_t peer_len = sizeof(peer);

		if (getpeername(hole->filler[i], (struct sockaddr *)&peer, &peer_len) == 0 &&
		    getsockopt(hole->filler[i], SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == 0)
			continue;
		close(hole->filler[i]);
		hole->filler[i] = -1;
	}
}

void black_hole_fill_in(struct black_hole *hole) {
	close(hole->listener);
	for (size_t i = 0; i < sizeof(hole->filler) / sizeof(hole->filler[0]); i++) {
		if (hole->filler[i] >= 0)
			close(hole->filler[i]);
	}
}
