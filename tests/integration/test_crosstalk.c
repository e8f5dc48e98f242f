/*
 * The cross-talk test: many clients with random mixes of everything on few servers, some of which are killed all the
 * time. No answer may come to a wrong client, none may be missing, no server may be lost.
 *
 * Environment: FOREBAY_CROSSTALK_SECONDS (of each run), _CLIENTS, _KILL_MS (between two kills; 0: none), _SEED.
 */
#include "crosstalk.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "query.h"

enum { SERVERS = 5, STALL_MS = 60000, MAX_CANCELS = 64 };

struct run {
	const struct forebay *forebay;
	int epoll, client_count;
	struct xt_client *clients;
	struct xt_counts counts;
	long long now, end;
	bool ending;
	int busy;
	char failure[3000];
	/* Cancel requests under way: closed when the other side has closed. */
	int cancel_fds[MAX_CANCELS];
	/* of the thread that kills and samples */
	_Atomic bool stop_killing;
	_Atomic unsigned long kills, samples;
	_Atomic long most_connections, longest_excess_ms;
	int kill_ms;
};

static long env_number(const char *name, long otherwise) {
	const char *value = getenv(name);

	return value && *value ? strtol(value, NULL, 10) : otherwise;
}

__attribute__((format(printf, 3, 4))) static void complain(struct run *run, const struct xt_client *c, const char *fmt,
							    ...) {
	va_list ap;
	int n;

	if (run->failure[0])
		return;
	n = snprintf(run->failure, sizeof(run->failure), "client %d, session %u, unit \"%s\" phase %d%s%s: ", c->id,
		     c->session, c->unit_name ? c->unit_name : "none", c->phase, c->aborted ? ", aborted" : "",
		     c->killed ? ", killed" : "");
	va_start(ap, fmt);
	vsnprintf(run->failure + n, sizeof(run->failure) - (size_t)n, fmt, ap);
	va_end(ap);
}

/* Connections */

static void watch(struct run *run, struct xt_client *c) {
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};

	if (c->connecting || c->out_sent < c->out.len)
		ev.events |= EPOLLOUT;
	epoll_ctl(run->epoll, EPOLL_CTL_MOD, c->fd, &ev);
}

static void forget_session(struct xt_client *c) {
	c->fd = -1;
	c->state = XT_OFF;
	c->out.len = c->out_sent = 0;
	c->in_from = c->in_to = 0;
	c->expect_from = c->expect_to = 0;
	c->unit = NULL;
	c->unit_name = NULL;
	c->aborted = c->killed = c->said_goodbye = false;
	c->notices = c->cancels = 0;
	c->messages_to_drop = c->messages_to_cancel = -1;
	memset(c->statement, 0, sizeof(c->statement));
}

static void hang_up(struct run *run, struct xt_client *c) {
	if (c->state == XT_BUSY)
		run->busy--;
	close(c->fd);
	forget_session(c);
	c->wake_ms = run->now + xt_below(c, 10);
}

static void start_session(struct run *run, struct xt_client *c) {
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons((uint16_t)run->forebay->port)};
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
	char name[XT_TOKEN];
	int on = 1;

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(c->fd, (struct sockaddr *)&sin, sizeof(sin)) != 0 && errno != EINPROGRESS) {
		complain(run, c, "connect: %s", strerror(errno));
		return;
	}
	c->connecting = true;
	c->session++;
	c->state = XT_LOGIN;
	c->progress_ms = run->now;
	snprintf(name, sizeof(name), "tok-%d-app", c->id);
	put_startup(&c->out, 3 << 16, "user", run->forebay->direct ? "trusted" : "app", "database", "app",
		    "application_name", name, NULL);
	epoll_ctl(run->epoll, EPOLL_CTL_ADD, c->fd, &ev);
}

/* Disconnects as programs do that crash: with or without a farewell, now and then with a reset. */
static void drop(struct run *run, struct xt_client *c) {
	unsigned dice = xt_below(c, 3);
	struct linger linger = {.l_onoff = 1, .l_linger = 0};

	run->counts.disconnects++;
	if (dice == 0)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	else if (dice == 1)
		send(c->fd, "X\0\0\0\4", 5, MSG_NOSIGNAL | MSG_DONTWAIT);
	hang_up(run, c);
}

static void send_cancel(struct run *run, struct xt_client *c) {
	uint32_t request[4] = {htonl(16), htonl(80877102), htonl(c->pid), htonl(c->key)};
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons((uint16_t)run->forebay->port)};
	int fd, slot;

	for (slot = 0; slot < MAX_CANCELS && run->cancel_fds[slot] >= 0; slot++)
		;
	if (slot == MAX_CANCELS)
		return;
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fd, (struct sockaddr *)&sin, sizeof(sin)) != 0 ||
	    send(fd, request, sizeof(request), MSG_NOSIGNAL) != (ssize_t)sizeof(request)) {
		close(fd);
		complain(run, c, "cannot send a cancel request: %s", strerror(errno));
		return;
	}
	run->cancel_fds[slot] = fd;
	c->cancels++;
	c->cancelled_ms = run->now;
	run->counts.cancels_sent++;
}

static void reap_cancels(struct run *run) {
	char byte;

	for (int i = 0; i < MAX_CANCELS; i++) {
		if (run->cancel_fds[i] >= 0 && recv(run->cancel_fds[i], &byte, 1, MSG_DONTWAIT) >= 0) {
			close(run->cancel_fds[i]);
			run->cancel_fds[i] = -1;
		}
	}
}

/* Units of work */

static void unit_done(struct run *run, struct xt_client *c) {
	c->unit = NULL;
	c->unit_name = NULL;
	c->state = XT_IDLE;
	c->aborted = c->killed = false;
	if (c->cancels > 0 && run->now - c->cancelled_ms > 10000)
		c->cancels = 0;
	run->busy--;
	run->counts.units++;
	c->wake_ms = run->now + (xt_below(c, 10) == 0 ? xt_below(c, 20) : 0);
}

/* All that was expected has come: on to the next phase, or the end. */
static void advance(struct run *run, struct xt_client *c) {
	c->expect_from = c->expect_to = 0;
	if (c->unit && c->unit(c, ++c->phase))
		return;
	if (c->status != 'I' || c->notices != 0) {
		struct expect *e;

		if (c->notices != 0 && !c->aborted) {
			complain(run, c, "a notice is missing");
			return;
		}
		c->notices = 0;
		/* The unit left a transaction open, as planned or because it was cut short. */
		if (c->status != 'I') {
			c->unit = NULL;
			put_query(&c->out, "rollback");
			e = xt_expect(c, XT_TAG);
			strcpy(e->text, "ROLLBACK");
			xt_expect(c, XT_READY)->state = 'I';
			return;
		}
	}
	unit_done(run, c);
}

static void begin_unit(struct run *run, struct xt_client *c) {
	c->state = XT_BUSY;
	run->busy++;
	c->phase = 0;
	c->aborted = c->killed = false;
	c->notices = 0;
	c->progress_ms = run->now;
	c->unit = xt_pick(c, &c->unit_name);
	c->unit(c, 0);
	c->trickle = xt_below(c, 12) == 0;
	c->messages_to_drop = xt_below(c, 100) < 2 ? (int)xt_below(c, 20) : -1;
	c->messages_to_cancel = xt_below(c, 100) < 4 ? (int)xt_below(c, 6) : -1;
	if (c->messages_to_cancel == 0)
		send_cancel(run, c);
}

/* Messages */

static bool kill_class(const char *sqlstate) {
	return strncmp(sqlstate, "57P0", 4) == 0 || strncmp(sqlstate, "08", 2) == 0;
}

/* Nothing that comes may bear another client's token. */
static bool foreign(const struct xt_client *c, const struct message *m) {
	char own[32];
	size_t own_len = (size_t)snprintf(own, sizeof(own), "tok-%d-", c->id);
	const uint8_t *p = m->body, *end = m->body + m->len;

	while ((p = memmem(p, (size_t)(end - p), "tok-", 4))) {
		size_t len = (size_t)(end - p) < own_len ? (size_t)(end - p) : own_len;

		if (memcmp(p, own, len) != 0)
			return true;
		p += len;
	}
	return false;
}

static const char *printable(const struct message *m) {
	static char text[400];
	size_t n = m->len < sizeof(text) - 1 ? m->len : sizeof(text) - 1;

	for (size_t i = 0; i < n; i++)
		text[i] = (char)(m->body[i] >= 32 && m->body[i] < 127 ? m->body[i] : '.');
	text[n] = 0;
	return text;
}

static bool row_matches(const struct message *m, const struct expect *e) {
	size_t len = strlen(e->text);
	const uint8_t *p = m->body + 6;

	if (m->type != 'D' || m->len != 6 + len * e->repeat)
		return false;
	for (unsigned i = 0; i < e->repeat; i++, p += len) {
		if (memcmp(p, e->text, len) != 0)
			return false;
	}
	return true;
}

static bool matches(struct xt_client *c, const struct expect *e, const struct message *m) {
	size_t len = strlen(e->text);

	switch (e->kind) {
	case XT_TYPE:
		return m->type == e->type;
	case XT_ROW:
		return row_matches(m, e);
	case XT_TAG:
		return m->type == 'C' && m->len > len && memcmp(m->body, e->text, len) == 0;
	case XT_READY:
		return m->type == 'Z' && m->len == 1 && (c->aborted || m->body[0] == e->state);
	case XT_ERROR:
		return m->type == 'E' && strcmp(error_field(m, 'C'), e->sqlstate) == 0 &&
		       memmem(m->body, m->len, e->text, len);
	case XT_COPY:
		return m->type == 'd' && m->len == len + 1 && memcmp(m->body, e->text, len) == 0;
	case XT_PARSED:
		if (m->type != '1')
			return false;
		c->statement[e->name] = true;
		c->generation[e->name] = e->generation;
		return true;
	case XT_CLOSED:
		if (m->type != '3')
			return false;
		c->statement[e->name] = false;
		return true;
	}
	return false;
}

static const char *expected_words(const struct xt_client *c) {
	static const char *const kinds[] = {"type", "row", "tag", "ready", "error", "copy", "parsed", "closed"};
	static char text[300];
	const struct expect *e;

	if (c->expect_from == c->expect_to)
		return "nothing";
	e = &c->expects[c->expect_from];
	snprintf(text, sizeof(text), "%s %c%c %s %s (x%u)", kinds[e->kind], e->type ? e->type : ' ',
		 e->state ? e->state : ' ', e->sqlstate, e->text, e->repeat);
	return text;
}

/* An error that was not part of the plan: of a cancel of our own, or of a kill. What it cuts short is accounted for. */
static bool cut_short(struct run *run, struct xt_client *c, const struct message *m) {
	const char *sqlstate = error_field(m, 'C');

	if (strcmp(sqlstate, "57014") == 0 && c->cancels > 0) {
		c->cancels--;
		run->counts.cancels_hit++;
	} else if (kill_class(sqlstate)) {
		if (!c->killed)
			run->counts.lost++;
		c->killed = true;
		c->said_goodbye = true;
	} else {
		return false;
	}
	c->aborted = true;
	c->notices = 0;
	while (c->expect_from < c->expect_to && c->expects[c->expect_from].kind != XT_READY)
		c->expect_from++;
	return true;
}

static void on_login_message(struct run *run, struct xt_client *c, const struct message *m) {
	if (m->type == 'K' && m->len == 8) {
		memcpy(&c->pid, m->body, 4);
		memcpy(&c->key, m->body + 4, 4);
		c->pid = ntohl(c->pid);
		c->key = ntohl(c->key);
	} else if (m->type == 'Z') {
		c->state = XT_IDLE;
		c->status = 'I';
		c->wake_ms = run->now;
		run->counts.logins++;
	} else if (m->type == 'E') {
		if (!kill_class(error_field(m, 'C')) || run->kills == 0)
			complain(run, c, "login refused: %s", printable(m));
		c->said_goodbye = true;
		run->counts.lost++;
	}
}

static void on_notice(struct run *run, struct xt_client *c, const struct message *m) {
	if (strstr(error_field(m, 'M'), "tok-") && --c->notices < 0 && !c->aborted)
		complain(run, c, "a notice too many: %s", printable(m));
}

static void on_message(struct run *run, struct xt_client *c, const struct message *m) {
	run->counts.answers++;
	run->counts.bytes += m->len + 5;
	c->progress_ms = run->now;
	if (m->type == 'D' || m->type == 'd')
		run->counts.rows++;
	if (foreign(c, m)) {
		complain(run, c, "got what is another client's: '%c' %s", m->type, printable(m));
		return;
	}
	if (c->state == XT_LOGIN) {
		on_login_message(run, c, m);
		return;
	}
	if (m->type == 'S')
		return;
	if (m->type == 'N') {
		on_notice(run, c, m);
		return;
	}
	if (c->expect_from < c->expect_to && matches(c, &c->expects[c->expect_from], m)) {
		if (m->type == 'Z')
			c->status = (char)m->body[0];
		if (m->type == 'E')
			run->counts.errors++;
		c->expect_from++;
	} else if (m->type != 'E' || !cut_short(run, c, m)) {
		complain(run, c, "expected %s, got '%c' %s", expected_words(c), m->type, printable(m));
		return;
	}
	if (c->state == XT_BUSY && c->expect_from == c->expect_to)
		advance(run, c);
	else if (c->messages_to_cancel > 0 && --c->messages_to_cancel == 0)
		send_cancel(run, c);
}

static void on_end(struct run *run, struct xt_client *c, ssize_t n) {
	bool reset = n < 0;

	if (reset)
		run->counts.resets++;
	/* A kill in the midst of a message leaves no room for an error; a reset may overtake one. */
	if (!c->said_goodbye && !reset && c->in_from == c->in_to)
		complain(run, c, "closed without a word; expected %s", expected_words(c));
	if (!c->said_goodbye)
		run->counts.lost++;
	if (run->kill_ms == 0)
		complain(run, c, "the connection ended, though no server was killed");
	hang_up(run, c);
}

/* Takes whole messages out of the buffer. */
static void parse(struct run *run, struct xt_client *c) {
	while (c->state != XT_OFF && c->in_to - c->in_from >= 5 && !run->failure[0]) {
		const uint8_t *p = c->in + c->in_from;
		uint32_t len = (uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4];
		struct message m = {.type = (char)p[0], .len = len - 4, .body = p + 5};

		if (len < 4 || len > 1u << 24) {
			complain(run, c, "a message '%c' of length %u", p[0], len);
			return;
		}
		if (c->in_to - c->in_from < len + 1)
			return;
		c->in_from += len + 1;
		on_message(run, c, &m);
		if (c->messages_to_drop >= 0 && c->state == XT_BUSY && c->messages_to_drop-- == 0)
			drop(run, c);
	}
}

static void on_readable(struct run *run, struct xt_client *c) {
	ssize_t n;

	if (c->in_from > 0) {
		memmove(c->in, c->in + c->in_from, c->in_to - c->in_from);
		c->in_to -= c->in_from;
		c->in_from = 0;
	}
	if (c->in_cap - c->in_to < 16384) {
		c->in_cap = c->in_cap * 2 + 32768;
		c->in = realloc(c->in, c->in_cap);
		if (!c->in)
			abort();
	}
	n = recv(c->fd, c->in + c->in_to, c->in_cap - c->in_to, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		on_end(run, c, n);
		return;
	}
	c->in_to += (size_t)n;
	parse(run, c);
}

static void on_writable(struct run *run, struct xt_client *c) {
	size_t len = c->out.len - c->out_sent;
	ssize_t n;

	c->connecting = false;
	if (len == 0)
		return;
	if (c->trickle && len > 1)
		len = 1 + xt_below(c, (unsigned)(len < 3000 ? len : 3000));
	n = send(c->fd, c->out.at + c->out_sent, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0) {
		/* Its end is seen when reading. */
		if (errno != EAGAIN && errno != EINTR)
			c->out_sent = c->out.len;
		return;
	}
	c->out_sent += (size_t)n;
	c->progress_ms = run->now;
	if (c->out_sent == c->out.len)
		c->out.len = c->out_sent = 0;
}

static void poke(struct run *run, struct xt_client *c) {
	if (c->state == XT_OFF && !run->ending && run->now >= c->wake_ms)
		start_session(run, c);
	if (c->state == XT_IDLE && !run->ending && run->now >= c->wake_ms)
		begin_unit(run, c);
	if (c->state == XT_BUSY && c->out.len > c->out_sent && !c->connecting)
		on_writable(run, c);
	if ((c->state == XT_BUSY || c->state == XT_LOGIN) && run->now - c->progress_ms > STALL_MS)
		complain(run, c, "no answer for %d s; expected %s", STALL_MS / 1000, expected_words(c));
	if (c->state != XT_OFF)
		watch(run, c);
}

static void loop(struct run *run) {
	struct epoll_event events[256];
	int open = 1;

	while (!run->failure[0] && (!run->ending || open > 0)) {
		int n = epoll_wait(run->epoll, events, 256, 5);

		run->now = harness_now_ms();
		run->ending = run->ending || run->now >= run->end;
		for (int i = 0; i < n; i++) {
			struct xt_client *c = events[i].data.ptr;

			if (c->state != XT_OFF && events[i].events & EPOLLOUT)
				on_writable(run, c);
			if (c->state != XT_OFF && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
				on_readable(run, c);
		}
		reap_cancels(run);
		open = 0;
		for (int i = 0; i < run->client_count; i++) {
			poke(run, &run->clients[i]);
			open += run->clients[i].state == XT_BUSY || run->clients[i].state == XT_LOGIN;
		}
	}
}

/* The thread that kills servers and watches how many there are. */
static void *kill_servers(void *arg) {
	struct run *run = arg;
	PGconn *control = connect_control();
	long long next_kill = harness_now_ms() + 500, above_since = 0;

	while (!run->stop_killing) {
		PGresult *res;
		long long now = harness_now_ms();
		long n = server_connections(control);

		run->samples++;
		if (n > run->most_connections)
			run->most_connections = n;
		/* A backend that has been told to end may still be seen for a moment when its successor is there. */
		if (n <= SERVERS)
			above_since = 0;
		else if (above_since == 0)
			above_since = now;
		else if (now - above_since > run->longest_excess_ms)
			run->longest_excess_ms = now - above_since;
		if (run->kill_ms > 0 && now >= next_kill) {
			res = PQexec(control, "select pg_terminate_backend(pid) from (select pid from pg_stat_activity "
					      "where usename <> 'postgres' and backend_type = 'client backend' "
					      "order by random() limit 1) x");
			if (PQntuples(res) == 1 && PQgetvalue(res, 0, 0)[0] == 't')
				run->kills++;
			PQclear(res);
			next_kill = now + run->kill_ms;
		}
		harness_pause_ms(10);
	}
	PQfinish(control);
	return NULL;
}

/* All of the pool's servers are there and work, at the same time. */
static void check_no_server_lost(const struct forebay *forebay) {
	PGconn *conn[SERVERS], *control = connect_control();
	long pids[SERVERS];

	for (int i = 0; i < SERVERS; i++) {
		conn[i] = connect_app(forebay);
		execute(conn[i], "begin");
		pids[i] = query_long(conn[i], "select pg_backend_pid()");
		for (int j = 0; j < i; j++)
			ck_assert_int_ne(pids[i], pids[j]);
	}
	if (!forebay->direct)
		ck_assert_int_eq(server_connections(control), SERVERS);
	for (int i = 0; i < SERVERS; i++) {
		execute(conn[i], "commit");
		PQfinish(conn[i]);
	}
	PQfinish(control);
}

static void report(const struct run *run, int workers, double seconds) {
	const struct xt_counts *n = &run->counts;

	printf("crosstalk, %d worker%s, %d clients, %.0f s: %lu answers (%lu rows, %lu MB) in %lu units, %.0f answers/s; "
	       "%lu logins, %lu disconnects, %lu cancels (%lu hit), %lu expected errors, %lu kills (%lu felt, %lu "
	       "resets); at most %ld server connections in %lu samples\n",
	       workers, workers == 1 ? "" : "s", run->client_count, seconds, n->answers, n->rows, n->bytes >> 20, n->units,
	       (double)n->answers / seconds, n->logins, n->disconnects, n->cancels_sent, n->cancels_hit, n->errors,
	       run->kills, n->lost, n->resets, run->most_connections, run->samples);
}

static void create_functions(void) {
	PGconn *control = connect_control();

	execute(control, "create or replace function xt_fail(t text) returns text language plpgsql as "
			 "$$begin raise exception 'failed: %%', t using errcode = 'FB001'; end$$");
	execute(control, "create or replace function xt_say(t text) returns text language plpgsql as "
			 "$$begin raise notice 'said: %%', t; return t; end$$");
	execute(control, "create unlogged table if not exists xt_sink(client int, v text); grant all on xt_sink to public");
	PQfinish(control);
}

START_TEST(no_answer_goes_to_another_client_and_none_is_missing) {
	int workers = WORKERS(_i);
	struct forebay *forebay = forebay_start(
		&(struct forebay_setup){.workers = workers,
					.listener = "auth = trust",
					/* a notice to those who wait names who holds longest, by its token */
					.pool = "max_size = 5\nacquire_timeout = 120s\nmax_prepared_statements = 50\n"
						"wait_notice_after = 0"});
	struct run run = {.forebay = forebay, .epoll = epoll_create1(EPOLL_CLOEXEC)};
	long seconds = env_number("FOREBAY_CROSSTALK_SECONDS", 20);
	uint64_t seed = (uint64_t)env_number("FOREBAY_CROSSTALK_SEED", (long)harness_now_ms());
	long long began = harness_now_ms();
	pthread_t killer;

	create_functions();
	run.client_count = (int)env_number("FOREBAY_CROSSTALK_CLIENTS", forebay->direct ? 60 : 200);
	run.kill_ms = (int)env_number("FOREBAY_CROSSTALK_KILL_MS", 250);
	run.clients = calloc((size_t)run.client_count, sizeof(*run.clients));
	ck_assert(run.clients != NULL);
	/* One worker's run is the shorter one. */
	run.end = began + (workers == 1 ? seconds * 300 : seconds * 1000);
	for (int i = 0; i < MAX_CANCELS; i++)
		run.cancel_fds[i] = -1;
	for (int i = 0; i < run.client_count; i++) {
		run.clients[i].id = i;
		run.clients[i].random = (seed + (uint64_t)i + 1) * 0x9e3779b97f4a7c15u;
		forget_session(&run.clients[i]);
	}
	ck_assert(pthread_create(&killer, NULL, kill_servers, &run) == 0);
	loop(&run);
	run.stop_killing = true;
	pthread_join(killer, NULL);
	report(&run, workers, (double)(harness_now_ms() - began) / 1000);
	for (int i = 0; i < run.client_count; i++) {
		if (run.clients[i].fd >= 0)
			close(run.clients[i].fd);
		free(run.clients[i].in);
		free(run.clients[i].expects);
		bytes_free(&run.clients[i].out);
	}
	free(run.clients);
	close(run.epoll);
	for (int i = 0; i < MAX_CANCELS; i++) {
		if (run.cancel_fds[i] >= 0)
			close(run.cancel_fds[i]);
	}
	ck_assert_msg(!run.failure[0], "%s (seed %lu)", run.failure, (unsigned long)seed);
	ck_assert_msg(run.counts.lost <= run.kills, "%lu clients lost their server, but only %lu were killed",
		      run.counts.lost, run.kills);
	ck_assert_uint_gt(run.counts.units, 100);
	if (!forebay->direct)
		ck_assert_int_lt(run.longest_excess_ms, 1000);
	check_no_server_lost(forebay);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("crosstalk");
	TCase *tcase = tcase_create("crosstalk");

	harness_begin("autovacuum_naptime = 5s\n");
	tcase_set_timeout(tcase, (double)env_number("FOREBAY_CROSSTALK_SECONDS", 20) + 300);
	suite_add_tcase(suite, tcase);
	LOOP(tcase, no_answer_goes_to_another_client_and_none_is_missing);
	return harness_run(suite);
}
