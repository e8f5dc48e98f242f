#include "harness.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <limits.h>
#include <netinet/in.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Leaks are Forebay's to avoid: it runs as another program, which these options do not reach. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
	return "detect_leaks=0";
}

static struct {
	char dir[128];
	char pgbin[256];
	char forebay[PATH_MAX];
	pid_t owner, janitor;
	int janitor_fd;
	int postgres_port;
	bool direct;
	int passed; /* descriptors from 3 on that the next child keeps */
} harness;

long long harness_now_ms(void) {
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (long long)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void harness_pause_ms(int ms) {
	struct timespec ts = {ms / 1000, (long)(ms % 1000) * 1000000};

	nanosleep(&ts, NULL);
}

bool harness_direct(void) {
	return harness.direct;
}

const char *harness_dir(void) {
	return harness.dir;
}

int harness_postgres_port(void) {
	return harness.postgres_port;
}

const char *harness_path(const char *fmt, ...) {
	static _Thread_local char paths[8][512];
	static _Thread_local unsigned next;
	char *path = paths[next++ % 8];
	int n = snprintf(path, sizeof(paths[0]), "%s/", harness.dir);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(path + n, sizeof(paths[0]) - (size_t)n, fmt, ap);
	va_end(ap);
	return path;
}

const char *harness_postgres_log(void) {
	return harness_path("pg/server.log");
}

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *fmt, ...) {
	va_list ap;

	va_start(ap, fmt);
	fputs("harness: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

/* From the test's process, where a failure is the test's; from main(), where it ends the program. */
__attribute__((noreturn, format(printf, 1, 2))) static void give_up(const char *fmt, ...) {
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (getpid() == harness.owner)
		die("%s", text);
	ck_abort_msg("%s", text);
	_exit(1);
}

static bool write_file(const char *path, const char *text, mode_t mode) {
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	size_t len = strlen(text);
	bool ok;

	if (fd < 0)
		return false;
	ok = fchmod(fd, mode) == 0 && write(fd, text, len) == (ssize_t)len;
	return close(fd) == 0 && ok;
}

void harness_write(const char *path, const char *text) {
	if (!write_file(path, text, 0644))
		give_up("cannot write %s: %s", path, strerror(errno));
}

static char *read_file(const char *path) {
	FILE *f = fopen(path, "re");
	char *text = NULL;
	size_t len = 0;

	if (!f)
		return NULL;
	if (getdelim(&text, &len, EOF, f) < 0) {
		free(text);
		text = strdup("");
	}
	fclose(f);
	return text;
}

char *harness_read(const char *path) {
	char *text = read_file(path);

	if (!text)
		give_up("cannot read %s: %s", path, strerror(errno));
	return text;
}

int harness_count_in(const char *path, const char *needle) {
	char *text = harness_read(path);
	int n = 0;

	for (char *p = text; (p = strstr(p, needle)); p += strlen(needle))
		n++;
	free(text);
	return n;
}

/* Processes */

static void redirect(const char *path) {
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
	int null = open("/dev/null", O_RDONLY);

	if (fd < 0 || null < 0 || dup2(null, 0) < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
		_exit(126);
	closefrom(3 + harness.passed);
}

static uid_t postgres_uid(gid_t *gid) {
	struct passwd *pw;

	*gid = getgid();
	if (geteuid() != 0)
		return getuid();
	pw = getpwnam("postgres");
	if (!pw)
		pw = getpwnam("nobody");
	if (!pw)
		die("running as root needs a user \"postgres\" or \"nobody\" to run databases as");
	*gid = pw->pw_gid;
	return pw->pw_uid;
}

/* The child's half of a start: its output goes to `log`, and it gets this signal (0: none) when this process dies. */
static void become(const char *const *argv, const char *log, bool as_postgres, int death, pid_t parent) {
	sigset_t none;

	redirect(log);
	if (as_postgres && geteuid() == 0) {
		gid_t gid;
		uid_t uid = postgres_uid(&gid);

		if (setgroups(1, &gid) != 0 || setgid(gid) != 0 || setuid(uid) != 0 || chdir("/") != 0)
			_exit(126);
	}
	/* Out of the test's process group, all of which is killed when a test takes too long. */
	if (death != SIGKILL)
		setsid();
	/* After setuid(), which forgets it. */
	prctl(PR_SET_PDEATHSIG, death);
	if (getppid() != parent)
		_exit(125);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGALRM, SIG_DFL);
	execvp(argv[0], (char *const *)(uintptr_t)argv);
	dprintf(2, "cannot run %s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

static pid_t start_with(const char *const *argv, const char *log, bool as_postgres, int death) {
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		give_up("fork: %s", strerror(errno));
	if (pid == 0)
		become(argv, log, as_postgres, death, parent);
	return pid;
}

static pid_t start(const char *const *argv, const char *log, bool as_postgres) {
	return start_with(argv, log, as_postgres, SIGKILL);
}

/* Waits for a child of ours to end. False: it did not within the time; *status is untouched. */
static bool await_child(pid_t pid, int timeout_ms, int *status) {
	long long deadline = harness_now_ms() + timeout_ms;

	while (waitpid(pid, status, WNOHANG) == 0) {
		if (harness_now_ms() > deadline)
			return false;
		harness_pause_ms(5);
	}
	return true;
}

static bool command_as(const char *const *argv, bool as_postgres) {
	int status = -1;
	pid_t pid = start(argv, harness_path("commands.log"), as_postgres);

	if (!await_child(pid, 4 * HARNESS_DEADLINE_MS, &status)) {
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool harness_command(const char *const *argv) {
	return command_as(argv, false);
}

bool harness_command_as_postgres(const char *const *argv) {
	return command_as(argv, true);
}

pid_t harness_spawn(const char *const *argv, const char *log) {
	return start(argv, log, false);
}

pid_t harness_spawn_as_postgres(const char *const *argv, const char *log) {
	return start_with(argv, log, true, 0);
}

pid_t harness_spawn_postgres(const char *data, const char *log) {
	const char *argv[] = {harness_pg_program("postgres"), "-D", data, NULL};

	return start_with(argv, log, true, SIGQUIT);
}

static bool port_is_free(int port) {
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1;
	bool ok;

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	ok = bind(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0 && listen(fd, 1) == 0;
	close(fd);
	return ok;
}

/*
 * From here on no other test program is given this port, whether or not it is in use already: several run side by side, and
 * until Forebay listens on it (or for ever, where nobody is to) it looks free. A name among the abstract Unix sockets stands
 * for it, which is gone with the last process that has the descriptor; each network namespace has its own, as it has its
 * ports.
 */
static bool reserve_port(int port) {
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int len = snprintf(sun.sun_path + 1, sizeof(sun.sun_path) - 1, "forebay-test-port-%d", port);

	if (fd >= 0 && bind(fd, (struct sockaddr *)&sun, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len)) == 0)
		return true;
	if (fd >= 0)
		close(fd);
	return false;
}

int harness_free_port(void) {
	static unsigned seed;
	static pid_t seeded;

	if (seeded != getpid()) {
		seeded = getpid();
		seed = (unsigned)getpid() * 2654435761u ^ (unsigned)harness_now_ms();
	}
	for (int i = 0; i < 1000; i++) {
		int port = 10000 + (int)((unsigned)rand_r(&seed) % 20000);

		if (reserve_port(port) && port_is_free(port))
			return port;
	}
	give_up("no free port");
}

static bool stands_still(const char *stat_path) {
	char *text = read_file(stat_path), *behind_name = text ? strrchr(text, ')') : NULL;
	bool still = !behind_name || behind_name[2] == 'T'; /* a thread that has gone does nothing either */

	free(text);
	return still;
}

void harness_freeze(pid_t pid) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	char pattern[64];

	snprintf(pattern, sizeof(pattern), "/proc/%d/task/*/stat", (int)pid);
	if (kill(pid, SIGSTOP) != 0)
		give_up("process %d cannot be stopped: %s", (int)pid, strerror(errno));
	for (bool still = false; !still; harness_pause_ms(1)) {
		glob_t threads;

		if (harness_now_ms() > deadline)
			give_up("process %d does not stand still", (int)pid);
		if (glob(pattern, GLOB_NOSORT, NULL, &threads) != 0)
			give_up("process %d has no threads", (int)pid);
		still = true;
		for (size_t i = 0; i < threads.gl_pathc && still; i++)
			still = stands_still(threads.gl_pathv[i]);
		globfree(&threads);
	}
}

bool harness_port_accepts(int port) {
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ok;

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ok = connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0;
	close(fd);
	return ok;
}

/* Certificates */

static void openssl(const char *const *argv) {
	if (!harness_command(argv)) {
		char *log = read_file(harness_path("commands.log"));

		die("openssl failed:\n%s", log ? log : "");
	}
}

static void make_ca(const char *name, const char *subject) {
	const char *key = harness_path("%s.key", name), *crt = harness_path("%s.crt", name);

	openssl((const char *const[]){"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
				      "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", subject, "-keyout",
				      key, "-out", crt, NULL});
}

static void make_cert(const char *name, const char *subject, const char *extensions) {
	const char *key = harness_path("%s.key", name), *crt = harness_path("%s.crt", name);
	const char *csr = harness_path("%s.csr", name), *ext = harness_path("%s.ext", name);

	harness_write(ext, extensions);
	openssl((const char *const[]){"openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
				      "-nodes", "-subj", subject, "-keyout", key, "-out", csr, NULL});
	openssl((const char *const[]){"openssl", "x509", "-req", "-in", csr, "-CA", harness_path("ca.crt"), "-CAkey",
				      harness_path("ca.key"), "-CAcreateserial", "-days", "30", "-extfile", ext,
				      "-out", crt, NULL});
	chmod(key, 0600);
}

static void make_certificates(void) {
	make_ca("ca", "/CN=Forebay test CA");
	make_ca("other-ca", "/CN=Another CA");
	make_cert("server", "/CN=localhost", "subjectAltName=IP:127.0.0.1,DNS:localhost\n");
	make_cert("client", "/CN=certuser", "extendedKeyUsage=clientAuth\n");
	make_cert("mapped", "/CN=Some Body", "extendedKeyUsage=clientAuth\n");
}

/* PostgreSQL */

static void find_pgbin(void) {
	const char *env = getenv("PGBIN");
	glob_t g;

	if (env) {
		snprintf(harness.pgbin, sizeof(harness.pgbin), "%s", env);
		return;
	}
	if (glob("/usr/lib/postgresql/*/bin/initdb", 0, NULL, &g) == 0 && g.gl_pathc > 0)
		snprintf(harness.pgbin, sizeof(harness.pgbin), "%.*s",
			 (int)(strlen(g.gl_pathv[g.gl_pathc - 1]) - strlen("/initdb")), g.gl_pathv[g.gl_pathc - 1]);
	else
		die("PostgreSQL's initdb is not in /usr/lib/postgresql; say where by PGBIN");
	globfree(&g);
}

const char *harness_pg_program(const char *name) {
	static char path[300];

	snprintf(path, sizeof(path), "%s/%s", harness.pgbin, name);
	return path;
}

void harness_write_as_postgres(const char *path, const char *text) {
	gid_t gid;
	uid_t uid = postgres_uid(&gid);

	if (!write_file(path, text, 0600) || (geteuid() == 0 && chown(path, uid, gid) != 0))
		die("cannot write %s: %s", path, strerror(errno));
}

void harness_mkdir_as_postgres(const char *path) {
	gid_t gid;
	uid_t uid = postgres_uid(&gid);

	if (mkdir(path, 0755) != 0 || (geteuid() == 0 && chown(path, uid, gid) != 0))
		die("cannot make %s: %s", path, strerror(errno));
}

static void postgres_key(const char *from, const char *to) {
	char *text = harness_read(from);

	harness_write_as_postgres(to, text);
	free(text);
}

static void init_postgres(const char *extra) {
	char conf[4096], *old;
	const char *data = harness_path("pg");
	gid_t gid;
	uid_t uid = postgres_uid(&gid);

	if (mkdir(data, 0700) != 0 || (geteuid() == 0 && chown(data, uid, gid) != 0))
		die("cannot make %s: %s", data, strerror(errno));
	if (!command_as((const char *const[]){harness_pg_program("initdb"), "-D", data, "-U", "postgres", "-A", "trust",
					      "--no-sync", "-E", "UTF8", "--locale=C", NULL},
			true)) {
		old = read_file(harness_path("commands.log"));
		die("initdb failed:\n%s", old ? old : "");
	}
	postgres_key(harness_path("server.crt"), harness_path("pg/server.crt"));
	postgres_key(harness_path("server.key"), harness_path("pg/server.key"));
	postgres_key(harness_path("ca.crt"), harness_path("pg/ca.crt"));
	snprintf(conf, sizeof(conf),
		 "listen_addresses = '127.0.0.1'\nport = %d\nunix_socket_directories = '%s'\n"
		 "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\nshared_buffers = 32MB\n"
		 "max_connections = 120\nmax_wal_senders = 5\nmax_prepared_transactions = 5\nwal_level = logical\n"
		 "ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\nssl_ca_file = 'ca.crt'\n"
		 "log_connections = on\nlog_min_messages = warning\nlog_min_error_statement = panic\n"
		 "log_line_prefix = '%%m [%%p] %%u@%%d '\nmax_wal_size = 256MB\n"
		 /* in the data directory, not in /dev/shm, where what is killed leaves it for good */
		 "dynamic_shared_memory_type = mmap\n%s\n",
		 harness.postgres_port, data, extra ? extra : "");
	harness_write(harness_path("pg/postgresql.conf"), conf);
	harness_write(harness_path("pg/pg_hba.conf"),
		      "local all postgres trust\nlocal all all scram-sha-256\nhost all trusted 127.0.0.1/32 trust\n"
		      "host all md5user 127.0.0.1/32 md5\nhost all plainuser 127.0.0.1/32 password\n"
		      "hostssl all certuser 127.0.0.1/32 cert\nhost replication app 127.0.0.1/32 scram-sha-256\n"
		      "host all all 127.0.0.1/32 scram-sha-256\n");
}

static bool pg_ctl(const char *const *arguments) {
	const char *argv[16] = {harness_pg_program("pg_ctl"), "-D", harness_path("pg"), "-s", "-w", "-t", "60"};
	size_t n = 7;

	while (*arguments)
		argv[n++] = *arguments++;
	argv[n] = NULL;
	return command_as(argv, true);
}

void harness_postgres_start(void) {
	if (!pg_ctl((const char *const[]){"-l", harness_postgres_log(), "start", NULL})) {
		char *log = read_file(harness_postgres_log());

		give_up("PostgreSQL does not start:\n%s", log ? log : "");
	}
}

void harness_postgres_stop(bool crash) {
	if (!pg_ctl((const char *const[]){"-m", crash ? "immediate" : "fast", "stop", NULL}))
		give_up("PostgreSQL does not stop");
}

/* Sends a signal to every process that works in the scratch directory: to servers of tests that have failed, which may
 * be stopped. How many there are. */
static int signal_leftovers(int signo) {
	size_t len = strlen(harness.dir);
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	int found = 0;

	while (proc && (entry = readdir(proc))) {
		char link[300], cwd[PATH_MAX];
		pid_t pid = (pid_t)atoi(entry->d_name);
		ssize_t n;

		if (pid <= 1 || pid == getpid())
			continue;
		snprintf(link, sizeof(link), "/proc/%d/cwd", (int)pid);
		n = readlink(link, cwd, sizeof(cwd) - 1);
		if (n <= (ssize_t)len || strncmp(cwd, harness.dir, len) != 0 || cwd[len] != '/')
			continue;
		found++;
		kill(pid, signo);
	}
	if (proc)
		closedir(proc);
	return found;
}

/* As an immediate shutdown, so that no shared memory stays behind; what does not end by that is killed. */
static void end_leftovers(void) {
	signal_leftovers(SIGCONT);
	signal_leftovers(SIGQUIT);
	for (int i = 0; i < 500 && signal_leftovers(0) > 0; i++)
		harness_pause_ms(20);
	signal_leftovers(SIGKILL);
}

/* The janitor: when nobody holds the other end of its pipe any more, it stops PostgreSQL and tidies up. */
static void start_janitor(void) {
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) != 0)
		die("pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		die("fork: %s", strerror(errno));
	if (pid == 0) {
		char c;

		setsid();
		dup2(fds[0], 3);
		closefrom(4);
		signal(SIGINT, SIG_IGN);
		signal(SIGTERM, SIG_IGN);
		signal(SIGHUP, SIG_IGN);
		while (read(3, &c, 1) < 0 && errno == EINTR)
			;
		harness.owner = getpid();
		if (access(harness_path("pg/postmaster.pid"), F_OK) == 0)
			pg_ctl((const char *const[]){"-m", "immediate", "stop", NULL});
		end_leftovers();
		if (!getenv("FOREBAY_TEST_KEEP"))
			execlp("rm", "rm", "-rf", "--", harness.dir, (char *)NULL);
		_exit(0);
	}
	close(fds[0]);
	harness.janitor = pid;
	harness.janitor_fd = fds[1];
}

static void run_sql(PGconn *conn, const char *sql) {
	PGresult *res = PQexec(conn, sql);

	if (PQresultStatus(res) != PGRES_COMMAND_OK && PQresultStatus(res) != PGRES_TUPLES_OK)
		die("%s: %s", sql, PQerrorMessage(conn));
	PQclear(res);
}

static void create_users(void) {
	char conninfo[512];
	PGconn *conn;

	snprintf(conninfo, sizeof(conninfo), "host=%s port=%d user=postgres dbname=postgres", harness_path("pg"),
		 harness.postgres_port);
	conn = PQconnectdb(conninfo);
	if (PQstatus(conn) != CONNECTION_OK)
		die("%s", PQerrorMessage(conn));
	run_sql(conn, "create role app login replication password 'app-secret'");
	run_sql(conn, "create role plainuser login password 'plainuser-secret'");
	run_sql(conn, "create role authuser superuser login password 'authuser-secret'");
	run_sql(conn, "create role trusted login");
	run_sql(conn, "create role certuser login");
	run_sql(conn, "set password_encryption = md5");
	run_sql(conn, "create role md5user login password 'md5user-secret'");
	run_sql(conn, "create database app owner app");
	run_sql(conn, "create database other owner app");
	PQfinish(conn);
}

static void find_forebay(void) {
	const char *env = getenv("FOREBAY"), *builddir = getenv("top_builddir");
	char path[PATH_MAX];

	harness.direct = getenv("FOREBAY_DIRECT") && *getenv("FOREBAY_DIRECT");
	if (harness.direct)
		return;
	if (env)
		snprintf(path, sizeof(path), "%s", env);
	else
		snprintf(path, sizeof(path), "%s/forebay", builddir ? builddir : ".");
	if (!realpath(path, harness.forebay) || access(harness.forebay, X_OK) != 0)
		die("no Forebay to test at %s: %s", path, strerror(errno));
}

void harness_begin_bare(void) {
	const char *tmp = getenv("TMPDIR");
	struct rlimit files;

	harness.owner = getpid();
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	/* So that no zombie stays of a PostgreSQL whose pg_ctl has ended. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	find_forebay();
	/* A short path: a Unix socket's name must fit into 107 bytes. */
	snprintf(harness.dir, sizeof(harness.dir), "%s/fbtest-XXXXXX", tmp && strlen(tmp) < 60 ? tmp : "/tmp");
	if (!mkdtemp(harness.dir) || chmod(harness.dir, 0755) != 0)
		die("cannot make a scratch directory %s: %s", harness.dir, strerror(errno));
	start_janitor();
	make_certificates();
}

void harness_begin(const char *postgres_conf) {
	find_pgbin(); /* before the janitor, who is to know it */
	harness_begin_bare();
	harness.postgres_port = harness_free_port();
	init_postgres(postgres_conf);
	harness_postgres_start();
	create_users();
}

/* The logs that remain are those of Forebays that their test did not stop as it should. */
static void print_remaining_logs(void) {
	DIR *dir = opendir(harness.dir);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		char *text, *from;
		size_t len;

		if (strncmp(entry->d_name, "forebay-", 8) != 0 || !strstr(entry->d_name, ".log"))
			continue;
		text = read_file(harness_path("%s", entry->d_name));
		if (!text)
			continue;
		len = strlen(text);
		from = strstr(text, "Sanitizer");
		if (!from || (size_t)(from - text) + 6000 > len)
			from = len > 6000 ? text + len - 6000 : text;
		printf("--- %s, of a Forebay whose test failed:\n%.12000s\n", entry->d_name, from);
		free(text);
	}
	if (dir)
		closedir(dir);
}

int harness_end(int status) {
	int ignored;

	if (status != 0)
		print_remaining_logs();
	close(harness.janitor_fd);
	waitpid(harness.janitor, &ignored, 0);
	while (waitpid(-1, &ignored, WNOHANG) > 0)
		;
	return status;
}

int harness_run(Suite *suite) {
	SRunner *runner = srunner_create(suite);
	int failed;

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return harness_end(failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}

/* Forebay */

static bool has_key(const char *lines, const char *key) {
	size_t len = strlen(key);

	for (const char *p = lines; p && *p; p = strchr(p, '\n')) {
		while (*p == '\n')
			p++;
		if (strncmp(p, key, len) == 0 && (p[len] == ' ' || p[len] == '='))
			return true;
	}
	return false;
}

/* A default line, unless the test brings its own for this key. */
__attribute__((format(printf, 4, 5))) static void setting(FILE *out, const char *own, const char *key,
							   const char *fmt, ...) {
	va_list ap;

	if (has_key(own, key))
		return;
	fprintf(out, "%s = ", key);
	va_start(ap, fmt);
	vfprintf(out, fmt, ap);
	va_end(ap);
	fputc('\n', out);
}

static const char *const postgres_users[] = {"app", "md5user", "plainuser", "trusted", "ops", "watcher", NULL};
static const char *const mysql_users[] = {"app", "second", "trusted", "tlsuser", "ops", "watcher", NULL};

static void write_ini(struct forebay *forebay, const struct forebay_setup *setup) {
	bool mysql = setup->mysql_port != 0;
	const char *protocol = mysql ? "mysql" : "postgresql";
	const char *const *users = mysql ? mysql_users : postgres_users;
	FILE *out = fopen(forebay->ini, "we");

	if (!out)
		give_up("cannot write %s: %s", forebay->ini, strerror(errno));
	fprintf(out, "[forebay]\n");
	setting(out, setup->process, "workers", "%d", setup->workers ? setup->workers : 1);
	setting(out, setup->process, "admin_users", "ops");
	setting(out, setup->process, "stats_users", "watcher");
	setting(out, setup->process, "metrics_listen", "%s", "");
	fprintf(out, "%s\n[listener:%s]\nprotocol = %s\n", setup->process ? setup->process : "", mysql ? "my" : "pg",
		protocol);
	setting(out, setup->listener, "listen", "127.0.0.1:%d, %s/.s.PGSQL.%d", forebay->port, forebay->socket_dir,
		forebay->port);
	if (mysql)
		setting(out, setup->listener, "default_pool", "app");
	else
		setting(out, setup->listener, "auth", "scram-sha-256");
	setting(out, setup->listener, "tls_mode", "prefer");
	setting(out, setup->listener, "tls_cert_file", "%s", harness_path("server.crt"));
	setting(out, setup->listener, "tls_key_file", "%s", harness_path("server.key"));
	setting(out, setup->listener, "tls_ca_file", "%s", harness_path("ca.crt"));
	fprintf(out, "%s\n[pool:app]\nprotocol = %s\n", setup->listener ? setup->listener : "", protocol);
	setting(out, setup->pool, "hosts", "127.0.0.1:%d", mysql ? setup->mysql_port : harness.postgres_port);
	setting(out, setup->pool, "max_size", "5");
	setting(out, setup->pool, "min_idle", "0");
	if (!has_key(setup->pool, "monitor_user")) { /* not app, whose connections and logins tests count */
		setting(out, setup->pool, "monitor_user", mysql ? "monitor" : "authuser");
		setting(out, setup->pool, "monitor_password", mysql ? "monitor-secret" : "authuser-secret");
	}
	setting(out, setup->pool, "tls_mode", "disable");
	fprintf(out, "%s\n", setup->pool ? setup->pool : "");
	for (size_t i = 0; !setup->no_default_users && users[i]; i++)
		fprintf(out, "[user:%s]\npassword = %s-secret\n", users[i], users[i]);
	fprintf(out, "%s\n", setup->more ? setup->more : "");
	if (fclose(out) != 0)
		give_up("cannot write %s", forebay->ini);
}

void forebay_rewrite_ini(struct forebay *forebay, const struct forebay_setup *setup) {
	if (!forebay->direct)
		write_ini(forebay, setup);
}

/* Whether its ini says that it listens in there, in Forebay's words or in PgBouncer's. */
static bool names_socket_dir(const struct forebay *forebay, const char *before, const char *behind) {
	char needle[400];

	snprintf(needle, sizeof(needle), "%s%s%s", before, forebay->socket_dir, behind);
	return harness_count_in(forebay->ini, needle) > 0;
}

/* True also where the test's own `listen` has no Unix socket. */
static bool unix_accepts(const struct forebay *forebay) {
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	bool ok;
	int fd;

	if (!names_socket_dir(forebay, "", "/.s.PGSQL") && !names_socket_dir(forebay, "unix_socket_dir = ", "\n") &&
	    !names_socket_dir(forebay, "unix_socket_dir=", "\n"))
		return true;
	if (snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/.s.PGSQL.%d", forebay->socket_dir, forebay->port) >=
	    (int)sizeof(sun.sun_path))
		give_up("the scratch directory's path is too long for a Unix socket");
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ok = connect(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0;
	close(fd);
	return ok;
}

/* Whether it has said that it listens everywhere; true also where the test has its log elsewhere, or without that line. */
static bool says_ready(const struct forebay *forebay, const struct forebay_setup *setup) {
	return setup->shell || harness_count_in(forebay->ini, "log_level") > 0 ||
	       harness_count_in(forebay->ini, "log_destination") > 0 || harness_count_in(forebay->log, " ready version=") > 0 ||
	       harness_count_in(forebay->log, "\"ready\"") > 0;
}

static void await_listening(struct forebay *forebay, const struct forebay_setup *setup) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	int status;

	/* Every address that it listens on: they do not all begin in the same instant. */
	while ((!forebay->sockets_only && !harness_port_accepts(forebay->port)) || !unix_accepts(forebay) ||
	       !says_ready(forebay, setup)) {
		if (waitpid(forebay->pid, &status, WNOHANG) != 0) {
			char *log = read_file(forebay->log);

			give_up("Forebay ended with status %d instead of listening:\n%s", WEXITSTATUS(status),
			     log ? log : "");
		}
		if (harness_now_ms() > deadline)
			give_up("Forebay does not listen on port %d", forebay->port);
		harness_pause_ms(5);
	}
}

static struct forebay *prepare(int port) {
	struct forebay *forebay = calloc(1, sizeof(*forebay));

	if (!forebay)
		give_up("out of memory");
	forebay->port = port;
	snprintf(forebay->ini, sizeof(forebay->ini), "%s/forebay-%d.ini", harness.dir, forebay->port);
	snprintf(forebay->log, sizeof(forebay->log), "%s/forebay-%d.log", harness.dir, forebay->port);
	snprintf(forebay->socket_dir, sizeof(forebay->socket_dir), "%s/s%d", harness.dir, forebay->port);
	mkdir(forebay->socket_dir, 0755);
	return forebay;
}

struct forebay *forebay_prepare(void) {
	return prepare(harness_free_port());
}

static void launch(struct forebay *forebay, const struct forebay_setup *setup) {
	setenv("ASAN_OPTIONS", "exitcode=99:quarantine_size_mb=8:detect_stack_use_after_return=0", 0);
	setenv("TSAN_OPTIONS", "exitcode=98:second_deadlock_stack=1", 0);
	setenv("UBSAN_OPTIONS", "print_stacktrace=1", 0);
	harness.passed = setup->passed;
	if (setup->shell)
		forebay->pid = start((const char *const[]){"sh", "-c", setup->shell, "sh", harness.forebay, "-c", forebay->ini, NULL},
				     forebay->log, false);
	else
		forebay->pid = start((const char *const[]){harness.forebay, "-c", forebay->ini, NULL}, forebay->log, false);
	harness.passed = 0;
	await_listening(forebay, setup);
}

void forebay_launch(struct forebay *forebay) {
	launch(forebay, &(struct forebay_setup){0});
}

struct forebay *forebay_start(const struct forebay_setup *setup) {
	struct forebay *forebay;

	if (harness.direct) {
		forebay = calloc(1, sizeof(*forebay));
		if (!forebay)
			give_up("out of memory");
		forebay->direct = true;
		forebay->port = setup->mysql_port ? setup->mysql_port : harness.postgres_port;
		snprintf(forebay->socket_dir, sizeof(forebay->socket_dir), "%s", harness_path("pg"));
		return forebay;
	}
	forebay = prepare(setup->port ? setup->port : harness_free_port());
	write_ini(forebay, setup);
	launch(forebay, setup);
	return forebay;
}

struct forebay *forebay_take_over(const struct forebay *old) {
	struct forebay *forebay = calloc(1, sizeof(*forebay));
	static int number;

	if (!forebay)
		give_up("out of memory");
	*forebay = *old;
	snprintf(forebay->log, sizeof(forebay->log), "%s/forebay-%d-%d-%d.log", harness.dir, forebay->port, (int)getpid(), ++number);
	harness_write(forebay->log, "");
	forebay->pid = start((const char *const[]){harness.forebay, "-c", forebay->ini, "--takeover", NULL}, forebay->log, false);
	forebay_await_log(forebay, " ready ");
	return forebay;
}

static int exit_code_of(const char *const *argv) {
	pid_t pid = start(argv, harness_path("commands.log"), false);
	int status = -1;

	if (!await_child(pid, 5000, &status)) {
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		return -1;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int forebay_check(const char *ini, char **output) {
	const char *log = harness_path("check.log");
	int status = -1;

	unlink(log);
	pid_t pid = start((const char *const[]){harness.forebay, "-c", ini, "--check", NULL}, log, false);
	if (!await_child(pid, HARNESS_DEADLINE_MS, &status)) {
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
	}
	*output = harness_read(log);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int forebay_exit_code(const char *ini) {
	return exit_code_of((const char *const[]){harness.forebay, "-c", ini, NULL});
}

int forebay_takeover_exit_code(const char *ini) {
	return exit_code_of((const char *const[]){harness.forebay, "-c", ini, "--takeover", NULL});
}

void forebay_await_exit(struct forebay *forebay) {
	static const char *const reports[] = {"AddressSanitizer", "ThreadSanitizer", "LeakSanitizer", "runtime error:",
					      "invariant"};
	int status = -1;
	char *log;

	if (forebay->direct) {
		free(forebay);
		return;
	}
	if (!await_child(forebay->pid, HARNESS_DEADLINE_MS, &status)) {
		kill(forebay->pid, SIGABRT);
		waitpid(forebay->pid, &status, 0);
		give_up("Forebay does not end after SIGTERM");
	}
	log = harness_read(forebay->log);
	for (size_t i = 0; i < sizeof(reports) / sizeof(reports[0]); i++) {
		if (strcmp(reports[i], "invariant") == 0 && forebay->violations_expected)
			continue;
		if (strstr(log, reports[i]))
			give_up("Forebay's log has a report: %.300s", strstr(log, reports[i]));
	}
	free(log);
	if (WIFSIGNALED(status))
		give_up("Forebay was killed by signal %d", WTERMSIG(status));
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		give_up("Forebay ended with exit code %d", WEXITSTATUS(status));
	if (!getenv("FOREBAY_TEST_KEEP"))
		unlink(forebay->log);
	free(forebay);
}

void forebay_stop(struct forebay *forebay) {
	if (!forebay->direct)
		kill(forebay->pid, SIGTERM);
	forebay_await_exit(forebay);
}

bool forebay_alive(const struct forebay *forebay) {
	siginfo_t info = {0};

	if (forebay->direct)
		return true;
	return waitid(P_PID, (id_t)forebay->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
}

void forebay_await_log(struct forebay *forebay, const char *needle) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	while (!forebay->direct && harness_count_in(forebay->log, needle) == 0) {
		if (harness_now_ms() > deadline)
			give_up("nothing in Forebay's log says \"%s\"", needle);
		harness_pause_ms(10);
	}
}

size_t forebay_rss_kib(const struct forebay *forebay) {
	char path[64], line[256];
	size_t kib = 0;
	FILE *f;

	if (forebay->direct)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)forebay->pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "VmRSS: %zu kB", &kib) == 1)
			break;
	}
	if (f)
		fclose(f);
	return kib;
}

int forebay_descriptors(const struct forebay *forebay) {
	char path[64];
	int n = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)forebay->pid);
	DIR *dir = opendir(path);
	ck_assert_ptr_nonnull(dir);
	for (struct dirent *entry; (entry = readdir(dir));)
		n += entry->d_name[0] != '.';
	closedir(dir);
	return n;
}
