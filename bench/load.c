/*
 * A load generator for PostgreSQL's and MySQL's protocols: n clients in a closed loop, each sending its next transaction as soon as it
 * has the answer to the last. See README.md for the modes.
 *
 * It must be cheaper than what it measures: one send and one receive for each round trip, the sends of a wake-up in one call
 * where there is io_uring, requests put together once, headers parsed and bodies skipped. A round trip ends with its
 * ReadyForQuery, or with what ends a result of MySQL.
 */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

static const char *const mode_names[MODES] = { "simple",  "extended", "prepared", "pipelined", "transaction",
					       "connect", "idle",     "large",    "slow" };

struct load_conf conf;
_Atomic int phase;
_Atomic uint64_t start_ns, end_ns;
static _Atomic int run_number; /* from 1 */

_Noreturn void fail(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- the threads ---- */

static void begin_logins(struct thread *t)
{
	while (t->begun < t->clients_count && t->logins < LOGINS_AT_A_TIME)
		client_connect(t, &t->clients[t->begun++]);
}

static void begin_run(struct thread *t)
{
	t->now_ns = now_ns();
	for (int i = 0; i < t->clients_count; i++) {
		struct client *c = &t->clients[i];

		if (!may_begin(t))
			return;
		if (conf.mode == CONNECT) {
			t->begun_transactions++;
			c->begun_ns = now_ns();
			client_connect(t, c);
		} else if (c->state == CLIENT_READY && !client_begin(t, c)) {
			client_lost(t, c, strerror(errno));
		}
	}
}

static void read_slowly(struct thread *t, uint64_t *last_ns)
{
	if (now_ns() - *last_ns < SLOW_TICK_MS * 1000000U)
		return;
	*last_ns = now_ns();
	for (int i = 0; i < t->clients_count; i++)
		if (t->clients[i].is_slow && t->clients[i].state == CLIENT_BUSY)
			client_input(t, &t->clients[i], (size_t)conf.slow_rate * SLOW_TICK_MS);
}

/* Closes all clients but one of so many, in the order in which they have connected. */
static void thin_out(struct thread *t)
{
	for (int i = 0; i < t->clients_count; i++) {
		struct client *c = &t->clients[i];

		if (c->state == CLIENT_READY && c->index % conf.keep_one_of) {
			client_close(c);
			t->ready--;
		}
	}
	t->thinned_out = true;
}

static bool run_is_over(const struct thread *t)
{
	return t->busy <= t->slow_count || now_ns() > end_ns + DRAIN_MS * 1000000ULL;
}

static void *run(void *arg)
{
	struct thread *t = arg;
	struct epoll_event events[EVENTS];
	int running = 0; /* the run that has begun here */
	uint64_t slow_ns = 0;
	int why_no_ring;

	t->ring = send_ring_new(&why_no_ring); /* it works without, too */
	while (phase != PHASE_CLOSE) {
		if (phase == PHASE_LOGIN && conf.mode != CONNECT)
			begin_logins(t);
		if (phase == PHASE_THIN_OUT && !t->thinned_out)
			thin_out(t);
		if (phase == PHASE_RUN && running != run_number) {
			running = run_number;
			t->begun_transactions = 0;
			begin_run(t);
		}
		send_gathered(t);
		int n = epoll_wait(t->epoll, events, EVENTS, 10);

		t->now_ns = now_ns();
		for (int i = 0; i < n; i++)
			client_event(t, events[i].data.ptr, events[i].events);
		if (t->slow_count && running)
			read_slowly(t, &slow_ns);
		t->ready_seen = t->ready;
		if (running && !may_begin(t) && run_is_over(t))
			t->drained = running;
	}
	for (int i = 0; i < t->clients_count; i++)
		client_close(&t->clients[i]);
	send_ring_free(t->ring);
	return NULL;
}

static void thread_init(struct thread *t, int index)
{
	int first = conf.clients / conf.threads * index + (index < conf.clients % conf.threads ? index : conf.clients % conf.threads);

	t->clients_count = conf.clients / conf.threads + (index < conf.clients % conf.threads);
	t->clients = calloc((size_t)t->clients_count, sizeof *t->clients);
	t->input = malloc(INPUT_SIZE);
	t->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!t->clients || !t->input || t->epoll < 0)
		fail("a thread");
	if (conf.mode == SLOW)
		t->slow_count = conf.slow / conf.threads + (index < conf.slow % conf.threads);
	for (int i = 0; i < t->clients_count; i++) {
		t->clients[i].index = first + i;
		t->clients[i].is_slow = i < t->slow_count;
	}
}

static void sleep_until(uint64_t until_ns)
{
	struct timespec ts = { .tv_sec = (time_t)(until_ns / 1000000000U), .tv_nsec = (long)(until_ns % 1000000000U) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

/* Tells who drives this that a point is reached, and with `wait` goes on at its next line. */
static void tell(const char *word, bool wait)
{
	char line[64];

	if (!conf.sync)
		return;
	puts(word);
	fflush(stdout);
	if (wait && !fgets(line, sizeof line, stdin))
		exit(1);
}

static void wait_for_logins(struct thread *threads)
{
	uint64_t give_up_ns = now_ns() + 120000000000ULL;

	for (;;) {
		int ready = 0;

		for (int i = 0; i < conf.threads; i++)
			ready += threads[i].ready_seen;
		if (ready == conf.clients)
			return;
		if (now_ns() > give_up_ns) {
			fprintf(stderr, "load: only %d of %d clients have logged in after 2 minutes\n", ready, conf.clients);
			exit(1);
		}
		usleep(2000);
	}
}

static void wait_for_thinning(struct thread *threads)
{
	phase = PHASE_THIN_OUT;
	for (int i = 0; i < conf.threads; i++)
		while (!threads[i].thinned_out)
			usleep(1000);
}

static void wait_for_end(struct thread *threads)
{
	for (int i = 0; i < conf.threads; i++)
		while (threads[i].drained != run_number)
			usleep(1000);
}

/* Returns how long it took. */
static double one_run(struct thread *threads)
{
	uint64_t begin_ns = now_ns() + (uint64_t)(conf.warm_up * 1e9), over_ns;

	start_ns = begin_ns;
	end_ns = begin_ns + (uint64_t)(conf.seconds * 1e9);
	if (conf.mode != IDLE) {
		run_number++;
		phase = PHASE_RUN;
	}
	sleep_until(begin_ns);
	tell("start", false);
	if (conf.mode == IDLE)
		sleep_until(end_ns);
	else
		wait_for_end(threads);
	/* With -n it may be over sooner than it was to be. */
	over_ns = now_ns();
	tell("stop", true);
	return over_ns < end_ns ? (double)(over_ns - begin_ns) / 1e9 : conf.seconds;
}

static void print_result(struct thread *threads, double seconds)
{
	struct thread sum = { 0 };

	for (int i = 0; i < conf.threads; i++) {
		const struct thread *t = &threads[i];

		sum.total += t->total;
		sum.counted += t->counted;
		sum.in_window += t->in_window;
		sum.bytes += t->bytes;
		sum.slow_bytes += t->slow_bytes;
		sum.rows += t->rows;
		sum.errors += t->errors;
		histogram_merge(&sum.latency, &t->latency);
	}
	const struct histogram *h = &sum.latency;

	printf("{\"mode\":\"%s\",\"clients\":%d,\"seconds\":%.3f,\"transactions\":%llu,\"transactions_total\":%llu,"
	       "\"tps\":%.1f,\"mean_us\":%.1f,\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f,"
	       "\"rows\":%llu,\"mb_per_s\":%.1f,\"slow_mb\":%.1f,\"errors\":%llu}\n",
	       mode_names[conf.mode], conf.clients, seconds, (unsigned long long)sum.counted,
	       (unsigned long long)sum.total, (double)sum.in_window / seconds,
	       h->count ? (double)h->sum_ns / (double)h->count / 1e3 : 0.0, (double)histogram_at(h, 0.5) / 1e3,
	       (double)histogram_at(h, 0.9) / 1e3, (double)histogram_at(h, 0.99) / 1e3,
	       (double)histogram_at(h, 0.999) / 1e3, (double)h->max_ns / 1e3, (unsigned long long)sum.rows,
	       (double)sum.bytes / seconds / 1e6, (double)sum.slow_bytes / 1e6, (unsigned long long)sum.errors);
}

/* ---- the command line ---- */

static _Noreturn void usage(int status)
{
	fputs("usage: load -M MODE [OPTION...]\n"
	      "  --mysql       MySQL's protocol; no extended, pipelined, --tls and --password\n"
	      "  --eof         MySQL without CLIENT_DEPRECATE_EOF\n"
	      "  -M MODE       simple extended prepared pipelined transaction connect idle large slow\n"
	      "  -h ADDRESS    127.0.0.1        -p PORT   6432\n"
	      "  -U USER       bench            -d NAME   bench\n"
	      "  -c CLIENTS    64               -j THREADS  1\n"
	      "  -T SECONDS    5                -W SECONDS of warm-up  1\n"
	      "  -n COUNT      stop after so many transactions\n"
	      "  --runs N      1                of so many transactions each, by the same clients\n"
	      "  --addresses N 1                to connect from, 127.0.0.1 and on: each has ports of its own\n"
	      "  --databases N                  NAME0 to NAME(N-1), the clients in turn\n"
	      "  --keep-one-of N                of so many clients that have logged in; the others are closed\n"
	      "  --touch                        one query of each idle client before\n"
	      "  --password PASSWORD            for cleartext and SCRAM-SHA-256\n"
	      "  --tls                          the certificate is not verified\n"
	      "  --sql SQL     SELECT 1, or what sysbench asks for  --parameter VALUE  of its $1 (prepared)\n"
	      "  --statement NAME               of the prepared statement\n"
	      "  --pipeline N  10               statements in a pipeline\n"
	      "  --mib N       16               size of a large result\n"
	      "  --slow N      8                slow readers among the clients\n"
	      "  --slow-rate N 1000             KB/s that each of them reads\n"
	      "  --max-errors N  100            give up then\n"
	      "  --sync        for who drives it: say ready, start and stop, and wait for a line after ready and each stop\n",
	      status ? stderr : stdout);
	exit(status);
}

static int number(const char *text, int least, int most)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (end == text || *end || n < least || n > most) {
		fprintf(stderr, "load: %s is not a number from %d to %d\n", text, least, most);
		exit(2);
	}
	return (int)n;
}

static double seconds_of(const char *text)
{
	char *end;
	double n = strtod(text, &end);

	if (end == text || *end || !(n >= 0 && n <= SECONDS_MAX)) {
		fprintf(stderr, "load: %s is not a number of seconds up to %d\n", text, SECONDS_MAX);
		exit(2);
	}
	return n;
}

static void parse_options(int argc, char **argv)
{
	enum { MYSQL = 256, TLS, SYNC, PASSWORD, SQL, PARAMETER, STATEMENT, PIPELINE, MIB, SLOW_COUNT, SLOW_RATE, ERRORS, RUNS,
	       ADDRESSES, DATABASES, KEEP_ONE_OF, TOUCH, END_OF_FILE, HELP };
	static const struct option options[] = { { "mysql", no_argument, NULL, MYSQL },
						 { "tls", no_argument, NULL, TLS },
						 { "sync", no_argument, NULL, SYNC },
						 { "password", required_argument, NULL, PASSWORD },
						 { "sql", required_argument, NULL, SQL },
						 { "parameter", required_argument, NULL, PARAMETER },
						 { "statement", required_argument, NULL, STATEMENT },
						 { "pipeline", required_argument, NULL, PIPELINE },
						 { "mib", required_argument, NULL, MIB },
						 { "slow", required_argument, NULL, SLOW_COUNT },
						 { "slow-rate", required_argument, NULL, SLOW_RATE },
						 { "max-errors", required_argument, NULL, ERRORS },
						 { "runs", required_argument, NULL, RUNS },
						 { "addresses", required_argument, NULL, ADDRESSES },
						 { "databases", required_argument, NULL, DATABASES },
						 { "keep-one-of", required_argument, NULL, KEEP_ONE_OF },
						 { "touch", no_argument, NULL, TOUCH },
						 { "eof", no_argument, NULL, END_OF_FILE },
						 { "help", no_argument, NULL, HELP },
						 { NULL, 0, NULL, 0 } };
	const char *host = "127.0.0.1";
	int port = 6432, option;

	conf.protocol = &load_postgresql;
	conf.mode = MODES;
	conf.user = conf.database = "bench";
	conf.statement = "S_1";
	conf.clients = 64;
	conf.threads = 1;
	conf.seconds = 5;
	conf.warm_up = 1;
	conf.pipeline = 10;
	conf.mib = 16;
	conf.slow = 8;
	conf.slow_rate = 1000;
	conf.errors_max = 100;
	conf.runs = 1;
	conf.addresses = 1;
	conf.keep_one_of = 1;
	while ((option = getopt_long(argc, argv, "M:h:p:U:d:c:j:T:W:n:", options, NULL)) != -1) {
		switch (option) {
		case 'M':
			for (int i = 0; i < MODES; i++)
				if (!strcmp(optarg, mode_names[i]))
					conf.mode = i;
			if (conf.mode == MODES)
				usage(2);
			break;
		case 'h':
			host = optarg;
			break;
		case 'p':
			port = number(optarg, 1, 65535);
			break;
		case 'U':
			conf.user = optarg;
			break;
		case 'd':
			conf.database = optarg;
			break;
		case 'c':
			conf.clients = number(optarg, 1, CLIENTS_MAX);
			break;
		case 'j':
			conf.threads = number(optarg, 1, THREADS_MAX);
			break;
		case 'T':
			conf.seconds = seconds_of(optarg);
			break;
		case 'W':
			conf.warm_up = seconds_of(optarg);
			break;
		case 'n':
			conf.transactions_max = (uint64_t)number(optarg, 1, INT32_MAX);
			break;
		case MYSQL:
			conf.protocol = &load_mysql;
			break;
		case TLS:
			conf.tls = SSL_CTX_new(TLS_client_method());
			if (!conf.tls)
				fail("TLS");
			break;
		case SYNC:
			conf.sync = true;
			break;
		case PASSWORD:
			conf.password = optarg;
			break;
		case SQL:
			conf.sql = optarg;
			break;
		case PARAMETER:
			conf.parameter = optarg;
			break;
		case STATEMENT:
			conf.statement = optarg;
			break;
		case PIPELINE:
			conf.pipeline = number(optarg, 1, 10000);
			break;
		case MIB:
			conf.mib = number(optarg, 1, 2000);
			break;
		case SLOW_COUNT:
			conf.slow = number(optarg, 1, CLIENTS_MAX);
			break;
		case SLOW_RATE:
			conf.slow_rate = number(optarg, 1, INPUT_SIZE / SLOW_TICK_MS);
			break;
		case ERRORS:
			conf.errors_max = (uint64_t)number(optarg, 0, INT32_MAX);
			break;
		case RUNS:
			conf.runs = number(optarg, 1, 1000);
			break;
		case ADDRESSES:
			conf.addresses = number(optarg, 1, ADDRESSES_MAX);
			break;
		case DATABASES:
			conf.databases = number(optarg, 1, DATABASES_MAX);
			break;
		case KEEP_ONE_OF:
			conf.keep_one_of = number(optarg, 1, CLIENTS_MAX);
			break;
		case TOUCH:
			conf.touch = true;
			break;
		case END_OF_FILE:
			conf.eof = true;
			break;
		default:
			usage(option == HELP ? 0 : 2);
		}
	}
	if (conf.keep_one_of > 1 && conf.mode == CONNECT) {
		fputs("load: --keep-one-of wants clients that stay\n", stderr);
		exit(2);
	}
	if (conf.protocol == &load_mysql && (conf.mode == EXTENDED || conf.mode == PIPELINED || conf.tls || conf.password))
		usage(2);
	if (conf.mode == MODES || optind != argc || conf.threads > conf.clients)
		usage(2);
	if (conf.mode == SLOW && conf.slow >= conf.clients) {
		fputs("load: --slow must leave some clients that are not slow\n", stderr);
		exit(2);
	}
	if (conf.runs > 1 && (!conf.transactions_max || conf.mode == SLOW || conf.mode == IDLE)) {
		fputs("load: --runs wants -n, and clients that all come to an end\n", stderr);
		exit(2);
	}
	if (conf.transactions_max) /* a share of it for each thread */
		conf.transactions_max = (conf.transactions_max + (uint64_t)conf.threads - 1) / (uint64_t)conf.threads;
	conf.address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	if (inet_pton(AF_INET, host, &conf.address.sin_addr) != 1) {
		fprintf(stderr, "load: %s is not an IPv4 address\n", host);
		exit(2);
	}
	if (!conf.sql)
		conf.sql = conf.mode == LARGE ? conf.protocol->large_sql() : conf.protocol->sql;
}

int main(int argc, char **argv)
{
	struct rlimit limit;
	struct thread *threads;

	parse_options(argc, argv);
	conf.protocol->prepare_requests();
	signal(SIGPIPE, SIG_IGN);
	if (!getrlimit(RLIMIT_NOFILE, &limit)) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	threads = calloc((size_t)conf.threads, sizeof *threads);
	if (!threads)
		fail("threads");
	for (int i = 0; i < conf.threads; i++) {
		thread_init(&threads[i], i);
		if (pthread_create(&threads[i].id, NULL, run, &threads[i]))
			fail("pthread_create");
	}
	if (conf.mode != CONNECT)
		wait_for_logins(threads);
	if (conf.keep_one_of > 1)
		wait_for_thinning(threads);
	tell("ready", true);

	double seconds = 0;

	for (int i = 0; i < conf.runs; i++)
		seconds += one_run(threads);
	phase = PHASE_CLOSE;
	for (int i = 0; i < conf.threads; i++)
		pthread_join(threads[i].id, NULL);
	print_result(threads, seconds);
	for (int i = 0; i < conf.threads; i++) {
		close(threads[i].epoll);
		free(threads[i].clients);
		free(threads[i].input);
	}
	free(threads);
	return 0;
}
