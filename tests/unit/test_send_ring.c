/* Sends for many sockets in one system call: what becomes of each, with the ring, without it, and when it fails half-way. */
#include <check.h>
#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "net/send_ring.h"
#include "net_harness.h"

#ifdef HAVE_LIBURING
#include <liburing.h>

/*
 * The kernel's part, made to fail once: after so many runs it takes so many entries of one and then no more, or answers all but
 * so many.
 */
static struct {
	_Atomic bool armed;
	int runs_before;
	int taken;  /* -1: all */
	int silent; /* the first so many of those that it took */
} fault;

int io_uring_submit_and_wait(struct io_uring *ring, unsigned wait_for) {
	static int (*real)(struct io_uring *, unsigned);

	if (!real)
		real = (int (*)(struct io_uring *, unsigned))dlsym(RTLD_NEXT, "io_uring_submit_and_wait");
	if (!fault.armed || fault.runs_before-- > 0)
		return real(ring, wait_for);
	fault.armed = false;
	int taken = fault.taken < 0 ? (int)wait_for : fault.taken;
	if (taken > 0) {
		unsigned tail = ring->sq.sqe_tail;
		ring->sq.sqe_tail = tail - wait_for + (unsigned)taken;
		must(real(ring, (unsigned)taken) == taken);
		ring->sq.sqe_tail = tail;
		io_uring_cq_advance(ring, (unsigned)fault.silent);
	}
	return taken > 0 ? taken : -EAGAIN;
}

static void arm(int runs_before, int taken, int silent) {
	fault.runs_before = runs_before;
	fault.taken = taken;
	fault.silent = silent;
	fault.armed = true;
}
#endif

/* The calls that the ring is there to save. */
static _Atomic int plain_sends;

ssize_t send(int fd, const void *bytes, size_t len, int flags) {
	plain_sends++;
	return sendto(fd, bytes, len, flags, NULL, 0);
}

/* NULL, and a word about it, where there is no io_uring. */
static struct send_ring *ring_or_skip(void) {
	int e = 0;
	struct send_ring *ring = send_ring_new(&e);

	if (!ring)
		printf("skipped: no io_uring here: %s\n", strerror(e));
	ck_assert(ring || e != 0);
	return ring;
}

static bool skipped(void) {
	struct send_ring *ring = ring_or_skip();

	send_ring_free(ring);
	return !ring;
}

static void pair(int fds[2]) {
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
}

static void close_pair(const int fds[2]) {
	close(fds[0]);
	close(fds[1]);
}

START_TEST(sends_of_one_run_leave_in_their_order) {
	struct send_ring *ring = ring_or_skip();
	int fds[2], results[SEND_RING_SIZE];

	if (!ring)
		return;
	pair(fds);
	for (int run = 0; run < 300; run++) {
		uint8_t bytes[SEND_RING_SIZE], got[SEND_RING_SIZE + 1];
		for (int i = 0; i < SEND_RING_SIZE; i++) {
			bytes[i] = (uint8_t)(run + i * 7);
			send_ring_add(ring, fds[0], &bytes[i], 1);
		}
		ck_assert(send_ring_run(ring, results));
		for (int i = 0; i < SEND_RING_SIZE; i++)
			ck_assert_int_eq(results[i], 1);
		ck_assert_int_eq(read(fds[1], got, sizeof got), SEND_RING_SIZE);
		ck_assert_mem_eq(got, bytes, SEND_RING_SIZE);
	}
	close_pair(fds);
	send_ring_free(ring);
}
END_TEST

/* Each socket has its own result, and one that is full is not waited for. */
START_TEST(one_result_says_nothing_of_another) {
	enum { LARGE = 32 << 20 };
	struct send_ring *ring = ring_or_skip();
	int good[2], full[2], gone[2], partly[2], results[SEND_RING_SIZE];
	char *large = calloc(1, LARGE), got[20];

	if (!ring) {
		free(large);
		return;
	}
	pair(good);
	pair(full);
	pair(gone);
	pair(partly);
	while (send(full[0], large, LARGE, 0) > 0)
		;
	close(gone[1]);
	send_ring_add(ring, good[0], "first ", 6);
	send_ring_add(ring, full[0], "more", 4);
	send_ring_add(ring, gone[0], "to nobody", 9);
	send_ring_add(ring, 1000000, "nowhere", 7);
	send_ring_add(ring, partly[0], large, LARGE);
	send_ring_add(ring, good[0], "last", 4);
	ck_assert(send_ring_run(ring, results));
	ck_assert_int_eq(results[0], 6);
	ck_assert_int_eq(results[1], -EAGAIN);
	ck_assert_int_eq(results[2], -EPIPE);
	ck_assert_int_eq(results[3], -EBADF);
	ck_assert_int_gt(results[4], 0);
	ck_assert_int_lt(results[4], LARGE);
	ck_assert_int_eq(results[5], 4);
	ck_assert_int_eq(read(good[1], got, sizeof got), 10);
	ck_assert_mem_eq(got, "first last", 10);
	/* what it says it took is there, and no more */
	ssize_t came = 0, n;
	while ((n = read(partly[1], large, LARGE)) > 0)
		came += n;
	ck_assert_int_eq(came, results[4]);
	close_pair(good);
	close_pair(full);
	close(gone[0]);
	close_pair(partly);
	free(large);
	send_ring_free(ring);
}
END_TEST

/* Streams of one worker, more than one run has room for */

enum { STREAMS = SEND_RING_SIZE + 40, TO_SEND = 400000 };

static struct worker worker;
static struct end ends[STREAMS];
static int peers[STREAMS];
static uint64_t received[STREAMS];

static void open_ends(struct worker *w, void *arg) {
	for (int i = 0; i < STREAMS; i++)
		stream_open(&ends[i].stream, w, ((int *)arg)[i], end_ready);
}

static void begin(bool io_uring) {
	static int fds[STREAMS];

	worker_begin_with(&worker, 0, io_uring);
	for (int i = 0; i < STREAMS; i++) {
		const int small = 2304; /* the least: what is written at a time may find room for a part of it */
		int two[2];
		pair(two);
		ck_assert_int_eq(setsockopt(two[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
		fds[i] = two[0];
		peers[i] = two[1];
		received[i] = 0;
		end_init(&ends[i], &worker);
	}
	on_worker(&worker, open_ends, fds);
}

static void close_ends(struct worker *w, void *arg) {
	(void)w, (void)arg;
	for (int i = 0; i < STREAMS; i++)
		stream_close(&ends[i].stream);
}

static void end_all(void) {
	on_worker(&worker, close_ends, NULL);
	worker_end(&worker);
	for (int i = 0; i < STREAMS; i++)
		close(peers[i]);
}

/* Writes so many bytes of its pattern to each, in one wake-up. */
static void write_to_all(struct worker *w, void *arg) {
	size_t n = *(size_t *)arg;
	uint8_t bytes[8000];

	(void)w;
	for (int i = 0; i < STREAMS; i++) {
		pattern_fill(bytes, ends[i].sent, n);
		must(stream_write(&ends[i].stream, bytes, n));
		ends[i].sent += n;
	}
}

/* Takes what has come for one of them. False: nothing has. */
static bool take(int i) {
	static uint8_t bytes[65536], expected[65536];
	ssize_t n = read(peers[i], bytes, sizeof bytes);

	if (n <= 0)
		return false;
	pattern_fill(expected, received[i], (size_t)n);
	ck_assert_msg(memcmp(bytes, expected, (size_t)n) == 0, "stream %d: other bytes than were written", i);
	received[i] += (uint64_t)n;
	return true;
}

static void take_all(int i, uint64_t until) {
	uint64_t deadline_ns = clock_monotonic_ns() + 20 * NS_PER_S;

	while (received[i] < until)
		ck_assert_msg(take(i) || clock_monotonic_ns() < deadline_ns, "stream %d: %d of %d bytes", i, (int)received[i],
			      (int)until);
}

static void nothing(struct worker *w, void *arg) {
	(void)w, (void)arg;
}

/* Returns when all that was written by then has been sent. */
static void sent(void) {
	on_worker(&worker, nothing, NULL);
}

START_TEST(what_one_wake_up_has_written_leaves_without_a_call_for_each) {
	bool io_uring = _i;
	size_t n = 100;

	if (io_uring && skipped())
		return;
	begin(io_uring);
	for (int round = 1; round <= 20; round++) {
		on_worker(&worker, write_to_all, &n);
		sent();
		for (int i = 0; i < STREAMS; i++)
			take_all(i, n * (uint64_t)round);
	}
	if (io_uring)
		ck_assert_int_lt(plain_sends, 20);
	else
		ck_assert_int_eq(plain_sends, 20 * STREAMS);
	end_all();
}
END_TEST

/* Streams that say what they hear, and how much of that has not been sent yet when the next one hears something. */
static struct {
	int heard, unsent_most;
} echoes;

static int peers_with_input(void) {
	int n = 0;
	char byte;

	for (int i = 0; i < STREAMS; i++)
		n += recv(peers[i], &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
	return n;
}

static void echo(struct stream *stream, int events) {
	uint8_t bytes[100];
	ssize_t n = stream_recv(stream, bytes, sizeof bytes);
	int unsent = echoes.heard - peers_with_input();

	must(events == STREAM_READABLE && n == sizeof bytes);
	if (unsent > echoes.unsent_most)
		echoes.unsent_most = unsent;
	must(stream_write(stream, bytes, (size_t)n));
	echoes.heard++;
}

/* All of them have something to hear when the loop looks next. */
static void speak_to_all(struct worker *w, void *arg) {
	uint8_t bytes[100];

	(void)w, (void)arg;
	pattern_fill(bytes, 0, sizeof bytes);
	for (int i = 0; i < STREAMS; i++) {
		ends[i].stream.on_ready = echo;
		must(write(peers[i], bytes, sizeof bytes) == sizeof bytes);
	}
}

static void tell_heard(struct worker *w, void *arg) {
	(void)w;
	*(int *)arg = echoes.heard;
}

START_TEST(one_wake_up_gathers_so_many_and_no_more) {
	bool io_uring = _i;
	int heard = 0;

	if (io_uring && skipped())
		return;
	begin(io_uring);
	echoes.heard = echoes.unsent_most = 0;
	on_worker(&worker, speak_to_all, NULL);
	while (heard < STREAMS)
		on_worker(&worker, tell_heard, &heard);
	for (int i = 0; i < STREAMS; i++)
		take_all(i, 100);
	/* libev takes 64 events at first, so that there are twice as many to be gathered */
	ck_assert_int_eq(echoes.unsent_most, WORKER_GATHER - 1);
	end_all();
}
END_TEST

/* Each has something to hear, and a peer that is gone; the first to hear writes to all. */
static struct {
	int heard, over;
} last_words;

static void hear_last_words(struct stream *stream, int events) {
	uint8_t bytes[100];
	ssize_t n = events & STREAM_READABLE ? stream_recv(stream, bytes, sizeof bytes) : 0;

	if (n <= 0) {
		stream_close(stream);
		last_words.over++;
		return;
	}
	for (int i = 0; last_words.heard == 0 && i < STREAMS; i++)
		must(stream_write(&ends[i].stream, bytes, (size_t)n));
	last_words.heard++;
}

static void speak_and_go(struct worker *w, void *arg) {
	uint8_t bytes[100] = {0};

	(void)w, (void)arg;
	for (int i = 0; i < STREAMS; i++) {
		ends[i].stream.on_ready = hear_last_words;
		must(write(peers[i], bytes, sizeof bytes) == sizeof bytes);
		close(peers[i]);
		peers[i] = -1;
	}
}

static void tell_last_words(struct worker *w, void *arg) {
	(void)w;
	memcpy(arg, &last_words, sizeof last_words);
}

START_TEST(a_send_that_fails_takes_no_event_that_is_to_be_told) {
	struct {
		int heard, over;
	} now = {0};
	bool io_uring = _i;

	if (io_uring && skipped())
		return;
	begin(io_uring);
	memset(&last_words, 0, sizeof last_words);
	on_worker(&worker, speak_and_go, NULL);
	while (now.over < STREAMS)
		on_worker(&worker, tell_last_words, &now);
	/* those that libev has seen with the first one, which are 64 as a rule */
	ck_assert_int_gt(now.heard, WORKER_GATHER);
	end_all();
}
END_TEST

static void pump_all(struct worker *w, void *arg) {
	(void)w, (void)arg;
	for (int i = 0; i < STREAMS; i++) {
		ends[i].to_send = TO_SEND;
		end_pump(&ends[i]);
	}
}

static bool has_drained(struct end *end) {
	return end->drained > 0;
}

/* Peers that read late, each at another pace: what a socket does not take waits for its turn and comes once, in its order. */
START_TEST(streams_whose_peers_are_slow_lose_nothing) {
	size_t n = 6000;

	begin(_i);
	/* the first are sent together, and sockets take a part of them */
	for (int round = 0; round < 20; round++)
		on_worker(&worker, write_to_all, &n);
	on_worker(&worker, pump_all, NULL);
	for (int open = STREAMS, round = 0; open > 0; round++) {
		open = 0;
		for (int i = 0; i < STREAMS; i++) {
			if (received[i] >= TO_SEND)
				continue;
			open++;
			if (round % (1 + i % 7) == 0)
				take(i);
		}
	}
	for (int i = 0; i < STREAMS; i++) {
		ck_assert_uint_eq(received[i], TO_SEND);
		end_wait(&ends[i], has_drained);
	}
	end_all();
}
END_TEST

static bool has_failed(struct end *end) {
	return end->failed > 0;
}

/* So that it is sending which finds that their peers are gone. */
static void pause_thirds(struct worker *w, void *arg) {
	(void)w, (void)arg;
	for (int i = 0; i < STREAMS; i += 3)
		stream_pause(&ends[i].stream);
}

START_TEST(peers_that_are_gone_are_told_of_once_and_hurt_no_other) {
	size_t n = 50;

	begin(_i);
	on_worker(&worker, pause_thirds, NULL);
	for (int i = 0; i < STREAMS; i += 3) {
		close(peers[i]);
		peers[i] = -1;
	}
	on_worker(&worker, write_to_all, &n);
	on_worker(&worker, write_to_all, &n);
	for (int i = 0; i < STREAMS; i++) {
		if (i % 3 == 0)
			end_wait(&ends[i], has_failed);
		else
			take_all(i, 2 * n);
	}
	sent();
	for (int i = 0; i < STREAMS; i++) {
		ck_assert_int_eq(ends[i].failed, i % 3 == 0);
		if (i % 3 == 0)
			ck_assert_str_eq(ends[i].error, strerror(EPIPE));
	}
	end_all();
}
END_TEST

#ifdef HAVE_LIBURING

static char logged[4096];

static void keep_log(const char *line, size_t len) {
	size_t have = strlen(logged);

	if (have + len < sizeof logged)
		memcpy(logged + have, line, len);
}

static void look_for_ring(struct worker *w, void *arg) {
	*(bool *)arg = w->ring != NULL;
}

static bool has_ring(void) {
	bool has;

	on_worker(&worker, look_for_ring, &has);
	return has;
}

/* Three times 200 bytes to each; the second meets a fault, until which the worker has a ring. */
static void write_through_a_fault(int runs_before, int taken, int silent) {
	size_t n = 200;

	log_set_sink(keep_log);
	begin(true);
	on_worker(&worker, write_to_all, &n);
	sent();
	ck_assert(has_ring());
	arm(runs_before, taken, silent);
	on_worker(&worker, write_to_all, &n);
	sent();
	ck_assert(!has_ring());
	on_worker(&worker, write_to_all, &n);
	sent();
	log_set_sink(NULL);
	ck_assert_msg(strstr(logged, "io_uring_failed"), "logged: %s", logged);
}

/* Whatever the kernel has taken of a run when it fails: each byte is sent once, and from then on without the ring. */
START_TEST(a_ring_that_fails_half_way_loses_and_doubles_nothing) {
	static const int takes[] = {0, 1, SEND_RING_SIZE / 2, SEND_RING_SIZE - 1};
	bool in_the_second_run = _i >= 4;

	if (skipped())
		return;
	write_through_a_fault(in_the_second_run, in_the_second_run ? takes[_i - 4] % (STREAMS - SEND_RING_SIZE) : takes[_i], 0);
	for (int i = 0; i < STREAMS; i++) {
		take_all(i, 600);
		ck_assert(!take(i));
		ck_assert(!ends[i].failed);
	}
	end_all();
}
END_TEST

/* What nobody can tell the fate of is not sent again: these connections end. */
START_TEST(sends_that_are_never_answered_break_their_streams_and_no_other) {
	enum { SILENT = 10 };

	if (skipped())
		return;
	write_through_a_fault(0, -1, SILENT);
	for (int i = 0; i < STREAMS; i++) {
		bool broken = i < SILENT;
		if (broken)
			end_wait(&ends[i], has_failed);
		take_all(i, broken ? 400 : 600);
		ck_assert(!take(i));
		ck_assert_int_eq(ends[i].failed, broken);
	}
	end_all();
}
END_TEST

/* The words of a login, sent by the ring, are wiped as those that are sent alone. */

static const char secret_words[] = "these words are for nobody but the one who asks for them";

static void write_secrets(struct worker *w, void *arg) {
	(void)w, (void)arg;
	for (int i = 0; i < STREAMS; i++) {
		stream_secret(&ends[i].stream);
		must(stream_write(&ends[i].stream, secret_words, sizeof secret_words));
	}
}

/* Takes all of the small blocks that the worker's buffers keep, and looks what lies in them. */
static void look_for_secrets(struct worker *w, void *arg) {
	static struct buf blocks[2 * STREAMS];

	*(int *)arg = 0;
	for (int i = 0; i < 2 * STREAMS; i++) {
		must(buf_reserve(w->buffers, &blocks[i], 1));
		*(int *)arg += memmem(blocks[i].data, blocks[i].cap, secret_words + 20, sizeof secret_words - 20) != NULL;
	}
	for (int i = 0; i < 2 * STREAMS; i++)
		buf_release(w->buffers, &blocks[i]);
}

START_TEST(secrets_that_left_together_are_wiped) {
	char got[100];
	int left;

	if (skipped())
		return;
	begin(true);
	on_worker(&worker, write_secrets, NULL);
	sent();
	ck_assert_int_eq(plain_sends, 0);
	on_worker(&worker, look_for_secrets, &left);
	ck_assert_int_eq(left, 0);
	for (int i = 0; i < STREAMS; i++) {
		ck_assert_int_eq(read(peers[i], got, sizeof got), sizeof secret_words);
		ck_assert_str_eq(got, secret_words);
	}
	end_all();
}
END_TEST

#endif

int main(void) {
	Suite *suite = suite_create("send_ring");
	TCase *tc = tcase_create("send_ring");

	tcase_set_timeout(tc, 60);
	suite_add_tcase(suite, tc);
	tcase_add_test(tc, sends_of_one_run_leave_in_their_order);
	tcase_add_test(tc, one_result_says_nothing_of_another);
	tcase_add_loop_test(tc, what_one_wake_up_has_written_leaves_without_a_call_for_each, 0, 2);
	tcase_add_loop_test(tc, one_wake_up_gathers_so_many_and_no_more, 0, 2);
	tcase_add_loop_test(tc, a_send_that_fails_takes_no_event_that_is_to_be_told, 0, 2);
	tcase_add_loop_test(tc, streams_whose_peers_are_slow_lose_nothing, 0, 2);
	tcase_add_loop_test(tc, peers_that_are_gone_are_told_of_once_and_hurt_no_other, 0, 2);
#ifdef HAVE_LIBURING
	tcase_add_loop_test(tc, a_ring_that_fails_half_way_loses_and_doubles_nothing, 0, 8);
	tcase_add_test(tc, sends_that_are_never_answered_break_their_streams_and_no_other);
	tcase_add_test(tc, secrets_that_left_together_are_wiped);
#endif
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
