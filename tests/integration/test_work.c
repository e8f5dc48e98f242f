/*
 * The work that Forebay does for each transaction, counted, not timed: system calls and heap allocations of all its
 * threads over an exact number of transactions, once everything is warm. Its limits are one table.
 *
 * The benchmark's load generator and stub backend are on the other sides of it. How many events one wait brings depends
 * on who runs when. So Forebay, the load and the stub share one CPU here, as batch jobs: nobody interrupts another to
 * run at once, but finds all that the other has done in its turn.
 */
#include "counted.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "http.h"
#include "net/send_ring.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

enum { CLIENTS = 64, SERVERS = 20, SKIPPED = 77, PATH_SIZE = 4096 };

/*
 * What one transaction may cost at most. With one worker all of it is as good as exact. With two, how often a connection
 * goes to a client of the other worker (which registers it anew, by mail) depends on how the system shares the CPU
 * between them: then only what moves bytes, and the heap, have close limits.
 */
struct limits {
	double transfers; /* receives and sends */
	double waits;     /* for events */
	double epoll_ctl, setsockopt;
	double calls;     /* all system calls */
	double heap;      /* allocations; 0.01 is for what happens now and then */
};

static const struct row {
	const char *name, *mode;
	bool io_uring, tls; /* TLS on both sides; the heap's limit is then for what OpenSSL takes and gives back */
	int workers, transactions;
	struct limits most;
} rows[] = {
	{"simple, by single sends", "simple", false, false, 1, 20000, {4.01, 0.2, 0, 0, 4.2, 0.01}},
	{"extended, by single sends", "extended", false, false, 1, 20000, {4.01, 0.2, 0, 0, 4.2, 0.01}},
	{"prepared, by single sends", "prepared", false, false, 1, 20000, {4.01, 0.2, 0, 0, 4.2, 0.01}},
	{"pipelined, by single sends", "pipelined", false, false, 1, 5000, {4.01, 0.2, 0, 0, 4.2, 0.01}},
	{"transaction, by single sends", "transaction", false, false, 1, 10000, {10.01, 0.8, 0, 0, 10.8, 0.01}},
	{"connect, by single sends", "connect", false, false, 1, 3000, {7.01, 0.7, 1, 0, 12, 3}},
	{"simple", "simple", true, false, 1, 20000, {2.05, 0.2, 0, 0, 2.5, 0.01}},
	{"extended, unnamed", "extended", true, false, 1, 20000, {2.05, 0.2, 0, 0, 2.5, 0.01}},
	{"prepared", "prepared", true, false, 1, 20000, {2.05, 0.2, 0, 0, 2.5, 0.01}},
	{"pipelined, 10 executions", "pipelined", true, false, 1, 5000, {2.05, 0.2, 0, 0, 2.5, 0.01}},
	{"BEGIN, SELECT, COMMIT", "transaction", true, false, 1, 10000, {5.2, 0.8, 0, 0, 6.5, 0.01}},
	{"connect, query, close", "connect", true, false, 1, 3000, {7.01, 0.7, 1, 0, 12, 3}},
	{"simple with TLS, by single sends", "simple", false, true, 1, 20000, {4.01, 0.2, 0, 0, 4.2, 12.01}},
	{"simple with TLS", "simple", true, true, 1, 20000, {2.3, 0.2, 0, 0, 2.7, 12.01}},
	{"simple, two workers", "simple", true, false, 2, 20000, {4.02, 2, 2, 0.01, 8, 0.01}},
	{"prepared, two workers", "prepared", true, false, 2, 20000, {4.02, 2, 2, 0.01, 8, 0.01}},
	{"BEGIN, SELECT, COMMIT, two workers", "transaction", true, false, 2, 10000, {10.02, 6, 2, 0.01, 20, 0.01}},
};

static const char *const names[] = {
#define ENTRY(name, ...) #name,
	COUNTED_ALL(ENTRY)
#undef ENTRY
};
enum {
#define ENTRY(name, ...) +1
	WAITS_END = COUNTED_WAITS(ENTRY),
	CALLS_END = WAITS_END COUNTED_CALLS(ENTRY)
#undef ENTRY
};

/* The counts, mapped. */

static struct counts *counts;

static void map_counts(void) {
	const char *path = harness_path("counts");
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_msg(fd >= 0 && ftruncate(fd, sizeof(*counts)) == 0, "%s: %s", path, strerror(errno));
	counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert(counts != MAP_FAILED);
	close(fd);
	setenv(COUNTER_FILE, path, 1);
}

static uint64_t sum_of(const uint64_t *of, size_t from, size_t to) {
	uint64_t sum = 0;

	while (from < to)
		sum += of[from++];
	return sum;
}

static void read_counts(uint64_t *to) {
	for (size_t i = 0; i < COUNTED_END; i++)
		to[i] = counts->of[i];
}

/* Reads them once Forebay has nothing more to do: the last answer is out before its connection is put away. */
static void read_counts_at_rest(uint64_t *to) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	uint64_t before[COUNTED_END];

	read_counts(to);
	do {
		ck_assert_msg(harness_now_ms() < deadline, "Forebay does not come to rest");
		memcpy(before, to, sizeof(before));
		harness_pause_ms(50);
		read_counts(to);
	} while (memcmp(before, to, sizeof(before)) != 0);
}

/* The programs */

static const char *built(const char *name) {
	const char *builddir = getenv("top_builddir");
	static char paths[4][PATH_SIZE];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, PATH_SIZE, "%s/%s", builddir ? builddir : ".", name);
	ck_assert_msg(access(path, R_OK) == 0, "%s is not built", path);
	return path;
}

static void share_one_cpu(void) {
	cpu_set_t allowed, one;
	int cpu = 0;

	ck_assert_int_eq(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
	while (!CPU_ISSET(cpu, &allowed))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	ck_assert_int_eq(sched_setaffinity(0, sizeof(one), &one), 0);
	ck_assert_int_eq(sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0}), 0);
}

static int start_stub(bool tls) {
	char port[16];
	int number = harness_free_port();
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	snprintf(port, sizeof(port), "%d", number);
	harness_spawn((const char *const[]){built("bench/stub"), "-p", port, tls ? "--cert" : NULL, harness_path("server.crt"), "--key",
					    harness_path("server.key"), NULL},
		      harness_path("stub.log"));
	while (!harness_port_accepts(number)) {
		ck_assert_msg(harness_now_ms() < deadline, "the stub does not listen");
		harness_pause_ms(5);
	}
	return number;
}

static struct forebay *start_counted(const struct row *row, int backend, int metrics_port) {
	struct forebay *forebay;
	const char *tls_mode = row->tls ? "require" : "disable";
	char listener[64], pool[200], process[160];

	snprintf(process, sizeof(process), "log_level = warning\nlog_connections = false\nio_uring = %s\n",
		 row->io_uring ? "true" : "false");
	if (metrics_port)
		snprintf(process + strlen(process), sizeof(process) - strlen(process), "metrics_listen = 127.0.0.1:%d\n",
			 metrics_port);

	snprintf(listener, sizeof(listener), "auth = trust\ntls_mode = %s\n", tls_mode);
	snprintf(pool, sizeof(pool), "hosts = 127.0.0.1:%d\nmax_size = %d\nmin_idle = %d\nmonitor_interval = 0\ntls_mode = %s\n",
		 backend, SERVERS, SERVERS, tls_mode);
	setenv("LD_PRELOAD", built("tests/integration/counter.so"), 1);
	forebay = forebay_start(&(struct forebay_setup){.workers = row->workers,
							.process = process,
							.listener = listener,
							.pool = pool});
	unsetenv("LD_PRELOAD");
	ck_assert_msg(getenv(COUNTER_THREADS) || counts->of[COUNTED_malloc] > 0, "%s does not count", built("tests/integration/counter.so"));
	return forebay;
}

struct load {
	pid_t pid;
	FILE *to, *from;
};

static void start_load(struct load *load, const struct row *row, int port) {
	const char *program = built("bench/load");
	char ports[16], clients[16], transactions[16];
	int in[2], out[2];

	snprintf(ports, sizeof(ports), "%d", port);
	snprintf(clients, sizeof(clients), "%d", CLIENTS);
	snprintf(transactions, sizeof(transactions), "%d", row->transactions);
	ck_assert(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
	load->pid = fork();
	ck_assert_int_ge(load->pid, 0);
	if (load->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(in[0], 0);
		dup2(out[1], 1);
		execl(program, program, "--sync", "-M", row->mode, "-p", ports, "-U", "app", "-d", "app", "-c", clients, "-n",
		      transactions, "--runs", "3", "-T", "600", "-W", "0", "--max-errors", "0", row->tls ? "--tls" : NULL,
		      (char *)NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	load->to = fdopen(in[1], "w");
	load->from = fdopen(out[0], "r");
	ck_assert(load->to && load->from);
}

static void load_says(struct load *load, const char *what) {
	char line[1000];

	ck_assert_msg(fgets(line, sizeof(line), load->from) && strstr(line, what), "the load does not say %s", what);
}

static void load_runs(struct load *load) {
	fputs("\n", load->to);
	fflush(load->to);
	load_says(load, "start");
	load_says(load, "stop");
}

static void end_load(struct load *load, const struct row *row) {
	char all[64];
	int status;

	snprintf(all, sizeof(all), "\"transactions_total\":%d,", 3 * row->transactions);
	fputs("\n", load->to);
	fflush(load->to);
	load_says(load, all);
	fclose(load->to);
	fclose(load->from);
	ck_assert(waitpid(load->pid, &status, 0) == load->pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* The work */

static void await_servers(void) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;

	while (counts->of[COUNTED_connect] < SERVERS) {
		ck_assert_msg(harness_now_ms() < deadline, "only %d of %d servers", (int)counts->of[COUNTED_connect], SERVERS);
		harness_pause_ms(5);
	}
}

static void print_counts(const struct row *row, const uint64_t *of) {
	printf("%-36s", row->name);
	for (size_t i = 0; i < COUNTED_END; i++) {
		if (of[i])
			printf(" %s %.4f", names[i], (double)of[i] / row->transactions);
	}
	printf("\n");
}

static void compare(const struct row *row, const char *what, uint64_t count, double most) {
	double each = (double)count / row->transactions;

	printf("%-36s %-18s %8.4f of at most %g\n", row->name, what, each, most);
	ck_assert_msg(each <= most, "%s: %.4f %s a transaction, more than %g", row->name, each, what, most);
}

static void compare_all(const struct row *row, const uint64_t *of) {
	const struct limits *most = &row->most;

	compare(row, "receives and sends", sum_of(of, COUNTED_recv, COUNTED_writev + 1), most->transfers);
	compare(row, "waits", sum_of(of, 0, WAITS_END), most->waits);
	compare(row, "epoll_ctl", of[COUNTED_epoll_ctl], most->epoll_ctl);
	compare(row, "setsockopt", of[COUNTED_setsockopt], most->setsockopt);
	compare(row, "system calls", sum_of(of, 0, CALLS_END), most->calls);
	compare(row, "heap allocations", sum_of(of, CALLS_END, COUNTED_END), most->heap);
}

/* Whether this build of Forebay could use io_uring here. */
static bool has_io_uring(void) {
	int e;
	struct send_ring *ring = send_ring_new(&e);

	send_ring_free(ring);
	return ring != NULL;
}

START_TEST(work_of_a_transaction_is_within_its_limits) {
	const struct row *row = &rows[_i];
	if (row->io_uring && !has_io_uring()) {
		printf("skipped: %s: no io_uring here\n", row->name);
		return;
	}
	uint64_t before[COUNTED_END], after[COUNTED_END];
	struct forebay *forebay;
	struct load load;

	share_one_cpu();
	map_counts();
	forebay = start_counted(row, start_stub(row->tls), 0);
	start_load(&load, row, forebay->port);
	load_says(&load, "ready");
	load_runs(&load);
	await_servers();
	load_runs(&load);
	read_counts_at_rest(before);
	load_runs(&load);
	read_counts_at_rest(after);
	end_load(&load, row);
	forebay_stop(forebay);
	for (size_t i = 0; i < COUNTED_END; i++)
		after[i] -= before[i];
	print_counts(row, after);
	compare_all(row, after);
}
END_TEST

/* What somebody who reads /metrics without end adds to it */

/* Reads on one connection, again and again, and counts the answers where its parent sees it. */
static pid_t start_reader(int port, _Atomic uint64_t *answers) {
	static const char request[] = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int fd = http_connect(port);;) {
		static char text[256 * 1024];
		size_t len = 0, wanted = sizeof(text);
		if (send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) <= 0)
			_exit(1);
		while (len < wanted) {
			ssize_t n = recv(fd, text + len, sizeof(text) - 1 - len, 0);
			if (n <= 0)
				_exit(1);
			text[len += (size_t)n] = 0;
			char *head_end = strstr(text, "\r\n\r\n"), *length = strcasestr(text, "content-length:");
			if (head_end && length)
				wanted = (size_t)(head_end + 4 - text) + strtoul(length + 15, NULL, 10);
		}
		atomic_fetch_add(answers, 1);
	}
}

/*
 * Who scrapes in a loop takes CPU on the listener's own thread. What the workers do for a transaction stays the same, in system
 * calls and allocations, within 2 %.
 */
START_TEST(reading_metrics_without_end_costs_the_workers_nothing) {
	const struct row *row = &rows[_i];
	uint64_t before[COUNTED_END], alone[COUNTED_END], watched[COUNTED_END];
	struct load load;
	_Atomic uint64_t *answers = mmap(NULL, sizeof(*answers), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int port = harness_free_port();

	ck_assert(answers != MAP_FAILED);
	share_one_cpu();
	map_counts();
	setenv(COUNTER_THREADS, "worker", 1);
	struct forebay *forebay = start_counted(row, start_stub(false), port);
	unsetenv(COUNTER_THREADS);
	start_load(&load, row, forebay->port);
	load_says(&load, "ready");
	load_runs(&load);
	await_servers();
	read_counts_at_rest(before);
	load_runs(&load);
	read_counts_at_rest(alone);
	pid_t reader = start_reader(port, answers);
	uint64_t answers_before = *answers;
	load_runs(&load);
	uint64_t answered = *answers - answers_before;
	kill(reader, SIGKILL);
	waitpid(reader, NULL, 0);
	read_counts_at_rest(watched);
	end_load(&load, row);
	forebay_stop(forebay);
	for (size_t i = 0; i < COUNTED_END; i++) {
		watched[i] -= alone[i];
		alone[i] -= before[i];
	}
	double calls = (double)sum_of(watched, 0, CALLS_END) / (double)sum_of(alone, 0, CALLS_END);
	uint64_t heap = sum_of(watched, CALLS_END, COUNTED_END);
	printf("%-36s %.4f times the system calls, %llu allocations, beside %llu scrapes\n", row->name, calls,
	       (unsigned long long)heap, (unsigned long long)answered);
	ck_assert_msg(answered >= 20, "only %llu scrapes", (unsigned long long)answered);
	ck_assert_msg(sum_of(alone, 0, CALLS_END) >= 4u * (unsigned)row->transactions, "the workers are not counted");
	ck_assert_msg(calls < 1.02, "%s: %.4f times the system calls", row->name, calls);
	ck_assert_msg(heap < (unsigned)row->transactions / 50, "%llu allocations", (unsigned long long)heap);
	munmap((void *)answers, sizeof(*answers));
}
END_TEST

/*
 * A scrape sums what workers have counted, and asks none of them: with 1,000 pools and 15,000 clients (as many as the limit of
 * descriptors allows) twenty scrapes leave the workers all but asleep, and each tells all of it.
 */
START_TEST(scrape_of_many_pools_and_clients_wakes_no_worker) {
	enum { POOLS = 1000, CLIENTS_MOST = 15000, SCRAPES = 20, BESIDE = 3500 };
	uint64_t before[COUNTED_END], after[COUNTED_END];
	int backend = start_stub(false), port = harness_free_port(), clients = CLIENTS_MOST;
	char *pools = malloc(POOLS * 140 + 1), *at = pools, process[200];
	static int fds[CLIENTS_MOST];
	struct rlimit limit;

	ck_assert(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max > BESIDE + 1000);
	if (limit.rlim_max < CLIENTS_MOST + BESIDE)
		clients = (int)limit.rlim_max - BESIDE;
	limit.rlim_cur = limit.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	for (int i = 0; i < POOLS; i++)
		at += sprintf(at, "[pool:p%d]\nhosts = 127.0.0.1:%d\nmax_size = 2\nmin_idle = 0\nmonitor_interval = 0\n", i, backend);
	snprintf(process, sizeof(process), "log_level = warning\nmax_clients = %d\nmetrics_listen = 127.0.0.1:%d\n", clients + 10, port);
	map_counts();
	setenv("LD_PRELOAD", built("tests/integration/counter.so"), 1);
	setenv(COUNTER_THREADS, "worker", 1);
	struct forebay *forebay = forebay_start(&(struct forebay_setup){.workers = 2,
									.process = process,
									.listener = "auth = trust\ntls_mode = disable\n",
									.pool = "min_idle = 0\nmonitor_interval = 0\n",
									.more = pools});
	unsetenv("LD_PRELOAD");
	unsetenv(COUNTER_THREADS);
	for (int i = 0; i < clients; i++) {
		struct raw raw = raw_connect(forebay);
		raw_login(&raw);
		fds[i] = raw.fd;
		free(raw.in);
	}
	free(http_body(port, "/metrics"));
	read_counts_at_rest(before);
	for (int i = 0; i < SCRAPES; i++) {
		char *text = http_body(port, "/metrics");
		ck_assert_double_eq(metric_sum(text, "forebay_client_connections", "pool=\"app\""), clients);
		ck_assert_double_ge(metric_sum(text, "forebay_pool_max_size", "pool="), 2 * POOLS);
		free(text);
	}
	read_counts_at_rest(after);
	uint64_t calls = sum_of(after, 0, CALLS_END) - sum_of(before, 0, CALLS_END);
	uint64_t heap = sum_of(after, CALLS_END, COUNTED_END) - sum_of(before, CALLS_END, COUNTED_END);
	printf("%d scrapes of %d pools and %d clients: %llu system calls and %llu allocations of the workers\n", SCRAPES, POOLS + 1,
	       clients, (unsigned long long)calls, (unsigned long long)heap);
	/* their own timeouts; asking them would take a letter and a wake-up for each scrape, pool or client */
	ck_assert_msg(calls < 200 && heap < 100, "the workers made %llu system calls and %llu allocations",
		      (unsigned long long)calls, (unsigned long long)heap);
	for (int i = 0; i < clients; i++) {
		struct raw raw = {.fd = fds[i]};
		raw_reset(&raw);
	}
	forebay_stop(forebay);
	free(pools);
}
END_TEST

/* What is not counted */

/*
 * Functions of libc that Forebay and libev import and that need not be counted. A new one is to be counted, or to be
 * written down here with those of its kind.
 */
static const char *const uncounted[] = {
	/* make no system call */
	"__assert_fail", "__ctype_b_loc", "__ctype_tolower_loc", "__ctype_toupper_loc", "__isoc99_sscanf",
	"__cxa_finalize", "__errno_location", "__fdelt_chk",
	"__libc_start_main", "__memcpy_chk", "__memmove_chk", "__memset_chk", "__sched_cpucount", "__snprintf_chk",
	"__stack_chk_fail", "__stpcpy_chk", "__strcat_chk", "__strcpy_chk", "__strncpy_chk", "__vsnprintf_chk",
	"explicit_bzero", "__explicit_bzero_chk", "ferror", "gai_strerror", "getenv", "getopt_long", "inet_ntop",
	"inet_pton", "memchr", "memcmp", "memcpy", "memmem", "memmove", "memset", "sigaction", "sigaddset",
	"sigdelset", "sigemptyset", "sigfillset", "snprintf", "__isoc23_sscanf", "__isoc23_strtol",
	"__isoc23_strtoll", "sprintf", "strcasestr",
	"__isoc23_strtoul", "__isoc23_strtoull", "stderr", "stdout", "stpcpy", "strcasecmp", "strchr", "strcmp",
	"strcpy", "strcspn", "strerror", "strftime", "strlen", "strncasecmp", "strncmp", "strncpy", "strnlen", "strpbrk",
	"strrchr", "strspn", "strstr", "strtod", "strtol", "strtoll", "strtoul", "sysconf", "vsnprintf", "gmtime_r",
	"localtime_r", "tzset", "pthread_self", "pthread_attr_destroy", "pthread_attr_init", "pthread_attr_setdetachstate",
	"pthread_cond_destroy", "pthread_cond_init", "pthread_condattr_destroy", "pthread_condattr_init",
	"pthread_condattr_setclock", "pthread_mutex_destroy", "pthread_mutex_init", "pthread_once", "mallinfo2",
	/* answered by the kernel's page in user space */
	"clock_gettime", "gettimeofday", "time",
	/* call the kernel only where several threads want the same at once */
	"pthread_mutex_lock", "pthread_mutex_trylock", "pthread_mutex_unlock",
	/* allocate by malloc(), which is counted, or free */
	"__asprintf_chk", "__vasprintf_chk", "asprintf", "vasprintf", "strdup", "strndup", "free", "regcomp",
	"regerror", "regexec", "regfree",
	/* the log's and the configuration's, and of start, reload and end */
	"__dprintf_chk", "__fprintf_chk", "__getdelim", "__open_2", "__printf_chk", "__vdprintf_chk", "__vfprintf_chk",
	"abort", "chmod", "chown", "dprintf", "exit", "fchown", "fclose", "fflush", "getcwd",
	"flock", "fopen", "fprintf", "fputc", "fputs", "ftruncate", "pwritev2", "pwritev64v2",
	"fwrite", "getdelim", "getgrnam", "getpwnam", "getpwuid_r", "getrlimit", "initgroups", "perror", "printf",
	"pthread_create", "pthread_join", "pthread_setname_np", "puts", "putchar", "scandir", "setgid", "setrlimit",
	"setuid", "signal", "vdprintf", "vfprintf",
	/* the HTTP listener's, on threads of its own; a worker posts a semaphore for each status page */
	"closedir", "fgets", "fileno", "fread", "fstat", "getrusage", "opendir", "qsort",
	"readdir", "sem_destroy", "sem_init", "sem_post",
	"sem_timedwait", "strtoull",
	/* of a takeover, whose start and end they are */
	"environ", "posix_spawn", "posix_spawnattr_destroy", "posix_spawnattr_init", "posix_spawnattr_setflags",
	"posix_spawnattr_setsigdefault", "posix_spawnattr_setsigmask", "readlink", "rename", "umask", "unsetenv",
	/* look-ups, on threads of their own */
	"freeaddrinfo", "freeifaddrs", "getaddrinfo", "getifaddrs", "getnameinfo",
	/* libev's, for watchers of files, children and signals, of which Forebay has none while it runs */
	"__lxstat", "statfs", "uname", "waitpid",
};

static bool is_known(const char *name) {
	for (size_t i = 0; i < COUNTED_END; i++) {
		if (strcmp(name, names[i]) == 0)
			return true;
	}
	for (size_t i = 0; i < sizeof(uncounted) / sizeof(uncounted[0]); i++) {
		if (strcmp(name, uncounted[i]) == 0)
			return true;
	}
	return false;
}

/* Looks at each symbol that this file wants from libc; how many there are. */
static int check_imports(const char *path) {
	char command[PATH_SIZE + 100], line[500];
	int checked = 0;
	FILE *nm;

	snprintf(command, sizeof(command), "nm -D --undefined-only '%s'", path);
	nm = popen(command, "re");
	ck_assert(nm != NULL);
	while (fgets(line, sizeof(line), nm)) {
		char name[400], *version;

		if (sscanf(line, " %*c %399s", name) != 1 || !(version = strstr(name, "@GLIBC_")))
			continue;
		*version = '\0';
		ck_assert_msg(is_known(name), "%s calls %s(): count it in counted.h, or say here why not", path, name);
		checked++;
	}
	ck_assert_msg(pclose(nm) == 0, "%s failed", command);
	return checked;
}

/* Where the running program has this library from. */
static void find_library(pid_t pid, const char *name, char *path, size_t size) {
	char maps[64], line[PATH_SIZE + 100];
	FILE *f;

	snprintf(maps, sizeof(maps), "/proc/%d/maps", (int)pid);
	f = fopen(maps, "re");
	ck_assert(f != NULL);
	*path = '\0';
	while (fgets(line, sizeof(line), f)) {
		char *at = strchr(line, '/');

		if (at && strstr(at, name))
			snprintf(path, size, "%.*s", (int)strcspn(at, "\n"), at);
	}
	fclose(f);
	ck_assert_msg(*path, "%s is not loaded", name);
}

START_TEST(no_call_of_libc_goes_unnoticed) {
	struct forebay *forebay = forebay_start(&(struct forebay_setup){0});
	char path[PATH_SIZE], exe[64];

	snprintf(exe, sizeof(exe), "/proc/%d/exe", (int)forebay->pid);
	ck_assert_int_gt(check_imports(exe), 50);
	find_library(forebay->pid, "/libev.so", path, sizeof(path));
	ck_assert_int_gt(check_imports(path), 20);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	if (SANITIZED) {
		puts("skipped: sanitizers put functions of their own before libc's, and allocate and wait by themselves");
		return SKIPPED;
	}
	harness_begin(NULL);
	if (harness_direct()) {
		puts("skipped: there is no Forebay whose work could be counted");
		harness_end(EXIT_SUCCESS);
		return SKIPPED;
	}
	Suite *suite = suite_create("work");
	TCase *tcase = tcase_create("work");
	tcase_set_timeout(tcase, 120);
	suite_add_tcase(suite, tcase);
	tcase_add_test(tcase, no_call_of_libc_goes_unnoticed);
	tcase_add_loop_test(tcase, reading_metrics_without_end_costs_the_workers_nothing, 0, 1);
	tcase_add_test(tcase, scrape_of_many_pools_and_clients_wakes_no_worker);
	tcase_add_loop_test(tcase, work_of_a_transaction_is_within_its_limits, 0, sizeof(rows) / sizeof(rows[0]));
	return harness_run(suite);
}
