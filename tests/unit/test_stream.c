/* Plain streams: sending, receiving, back-pressure, connecting, moving between workers. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "net/stream_peer.h"
#include "net_harness.h"

static struct worker workers[2];

static void set_up(void) {
	worker_begin(&workers[0], 0);
	worker_begin(&workers[1], 1);
}

static void tear_down(void) {
	worker_end(&workers[0]);
	worker_end(&workers[1]);
}

static void nothing(struct worker *worker, void *arg) {
	(void)worker, (void)arg;
}

/* One end on a worker, the other end is this thread's, a blocking descriptor */

static struct end end;
static int peer;

static void open_end(struct worker *worker, void *arg) {
	stream_open(&end.stream, worker, *(int *)arg, end_ready);
}

static void close_end(struct worker *worker, void *arg) {
	(void)worker, (void)arg;
	stream_close(&end.stream);
	stream_close(&end.stream);
}

static void set_up_pair(int type) {
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds), 0);
	set_nonblocking(fds[0]);
	peer = fds[1];
	end_init(&end, &workers[0]);
	on_worker(&workers[0], open_end, &fds[0]);
}

static void set_up_stream(void) {
	set_up();
	set_up_pair(SOCK_STREAM);
}

static void tear_down_stream(void) {
	on_worker(end.worker, close_end, NULL);
	if (peer >= 0)
		close(peer);
	tear_down();
}

/* Sends by blocking calls and returns when all is gone. */
static void peer_send(uint64_t from, size_t len) {
	static uint8_t piece[65536];

	while (len > 0) {
		size_t n = len < sizeof piece ? len : sizeof piece;
		pattern_fill(piece, from, n);
		ssize_t sent = send(peer, piece, n, MSG_NOSIGNAL);
		must(sent > 0);
		from += (uint64_t)sent;
		len -= (size_t)sent;
	}
}

/* Receives so much of the pattern by blocking calls. */
static void peer_receive(uint64_t from, uint64_t len) {
	static uint8_t piece[65536], expected[65536];

	while (len > 0) {
		ssize_t n = recv(peer, piece, len < sizeof piece ? (size_t)len : sizeof piece, 0);
		must(n > 0);
		pattern_fill(expected, from, (size_t)n);
		must(memcmp(piece, expected, (size_t)n) == 0);
		from += (uint64_t)n;
		len -= (uint64_t)n;
	}
}

static bool got_ten(struct end *e) {
	return e->got >= 10;
}

static bool got_megabyte(struct end *e) {
	return e->got >= 1000000;
}

static bool at_end(struct end *e) {
	return e->eof > 0;
}

static bool has_failed(struct end *e) {
	return e->failed > 0;
}

static bool is_connected(struct end *e) {
	return e->connected > 0;
}

START_TEST(received_bytes_are_complete_and_then_the_end_is_told) {
	peer_send(0, 1000000);
	end_wait(&end, got_megabyte);
	close(peer);
	peer = -1;
	end_wait(&end, at_end);
	ck_assert(!end.bad);
	ck_assert_uint_eq(end.got, 1000000);
	ck_assert_int_eq(end.broken, 0);
}
END_TEST

START_TEST(readable_event_costs_one_receive_that_finds_bytes) {
	for (uint64_t i = 0; i < 10; i++) {
		peer_send(i, 1);
		while (!end_is(&end, got_ten) && gate_value(&end.changed) < (int)i + 1)
			gate_wait(&end.changed, (int)i + 1);
	}
	end_wait(&end, got_ten);
	ck_assert_int_eq(end.again, 0);
}
END_TEST

static void write_small_and_large(struct worker *worker, void *arg) {
	uint8_t bytes[20000];

	(void)worker, (void)arg;
	pattern_fill(bytes, 0, sizeof bytes);
	must(stream_write(&end.stream, bytes, 10));
	must(stream_write(&end.stream, bytes + 10, 20));
	must(stream_write(&end.stream, bytes + 30, 70));
	must(stream_pending(&end.stream) == 100);
	must(stream_write(&end.stream, bytes + 100, 9900));
	must(stream_pending(&end.stream) == 0);
	must(stream_write(&end.stream, bytes + 10000, 1));
	must(stream_write(&end.stream, bytes + 10001, 2));
}

/* A record of SOCK_SEQPACKET is what one call sent. */
START_TEST(small_writes_leave_in_one_send_and_a_large_one_takes_them_along) {
	uint8_t got[40000];

	tear_down_stream();
	set_up();
	set_up_pair(SOCK_SEQPACKET);
	on_worker(&workers[0], write_small_and_large, NULL);
	ck_assert_int_eq(recv(peer, got, sizeof got, 0), 10000);
	ck_assert_int_eq(recv(peer, got + 10000, 100, 0), 3);
	for (size_t i = 0; i < 10003; i++)
		ck_assert_uint_eq(got[i], pattern_at(i));
}
END_TEST

/* What lies in the block that the queue had: buffers give the same one again, its first bytes used for a list. */
static bool is_left_behind(struct worker *worker, const char *words) {
	struct buf next = {0};
	must(buf_reserve(worker->buffers, &next, strlen(words)));
	bool found = memmem(next.data, next.cap, words + 20, strlen(words) - 20) != NULL;
	buf_release(worker->buffers, &next);
	return found;
}

static const char open_words[] = "these words are known to all who want to read them",
		  secret_words[] = "but these words are for nobody but the one who asks";

static void write_and_look(struct worker *worker, void *arg) {
	bool *left = arg;

	must(stream_write(&end.stream, open_words, strlen(open_words)) && stream_flush(&end.stream));
	left[0] = is_left_behind(worker, open_words);
	stream_secret(&end.stream);
	must(stream_write(&end.stream, secret_words, strlen(secret_words)) && stream_flush(&end.stream));
	left[1] = is_left_behind(worker, secret_words);
}

START_TEST(a_secret_that_was_queued_is_wiped_when_it_has_gone) {
	bool left[2];
	char got[sizeof open_words + sizeof secret_words] = "";

	on_worker(&workers[0], write_and_look, left);
	ck_assert_int_eq(recv(peer, got, sizeof got - 2, MSG_WAITALL), sizeof got - 2);
	ck_assert(strncmp(got, open_words, strlen(open_words)) == 0 && strcmp(got + strlen(open_words), secret_words) == 0);
	ck_assert(left[0]); /* or this test sees nothing */
	ck_assert(!left[1]);
}
END_TEST

static void write_eight_megabytes(struct worker *worker, void *arg) {
	static uint8_t piece[65536];

	(void)worker, (void)arg;
	for (uint64_t from = 0; from < 8 << 20; from += sizeof piece) {
		pattern_fill(piece, from, sizeof piece);
		must(stream_write(&end.stream, piece, sizeof piece));
	}
}

static bool is_held_up(struct end *e) {
	return stream_pending(&e->stream) > 0 && e->stream.held_up;
}

static bool has_no_output(struct end *e) {
	return !e->stream.out.data && !(e->stream.io.events & EV_WRITE);
}

static bool has_drained(struct end *e) {
	return e->drained > 0;
}

START_TEST(output_that_the_peer_does_not_read_waits_and_then_is_told_drained_once) {
	on_worker(&workers[0], write_eight_megabytes, NULL);
	ck_assert(end_is(&end, is_held_up));
	ck_assert(!end_is(&end, has_drained));
	peer_receive(0, 8 << 20);
	end_wait(&end, has_drained);
	ck_assert(!end_is(&end, is_held_up));
	ck_assert(end_is(&end, has_no_output));
	ck_assert_int_eq(end.drained, 1);
}
END_TEST

static void *feed_peer(void *arg) {
	(void)arg;
	peer_send(0, 3000000);
	return NULL;
}

static void start_pump(struct worker *worker, void *arg) {
	(void)worker;
	end.to_send = *(uint64_t *)arg;
	end_pump(&end);
}

static bool got_three_megabytes(struct end *e) {
	return e->got >= 3000000;
}

START_TEST(bytes_flow_both_ways_at_once) {
	uint64_t to_send = 5000000;
	pthread_t thread;

	pthread_create(&thread, NULL, feed_peer, NULL);
	on_worker(&workers[0], start_pump, &to_send);
	peer_receive(0, to_send);
	end_wait(&end, got_three_megabytes);
	pthread_join(thread, NULL);
	ck_assert(!end.bad);
}
END_TEST

static void pause_end(struct worker *worker, void *arg) {
	(void)worker, (void)arg;
	stream_pause(&end.stream);
}

static void resume_end(struct worker *worker, void *arg) {
	(void)worker, (void)arg;
	stream_resume(&end.stream);
}

static bool watches(struct end *e) {
	return ev_is_active(&e->stream.io);
}

START_TEST(paused_stream_stops_its_watcher_only_when_bytes_come_and_loses_none) {
	on_worker(&workers[0], pause_end, NULL);
	on_worker(&workers[0], nothing, NULL);
	ck_assert(end_is(&end, watches));
	on_worker(&workers[0], resume_end, NULL);
	on_worker(&workers[0], pause_end, NULL);
	peer_send(0, 10);
	for (int i = 0; i < 1000000 && end_is(&end, watches); i++)
		;
	ck_assert(!end_is(&end, watches));
	ck_assert_int_eq(end.readable, 0);
	on_worker(&workers[0], resume_end, NULL);
	end_wait(&end, got_ten);
	ck_assert(end_is(&end, watches));
	ck_assert_int_eq(end.readable, 1);
	ck_assert(!end.bad);
}
END_TEST

static void write_hello_twice(struct worker *worker, void *arg) {
	(void)worker, (void)arg;
	must(stream_write(&end.stream, "hello", 5));
	/* It fails here, and nobody is called back from within. */
	stream_flush(&end.stream);
	must(end.failed == 0);
	must(stream_write(&end.stream, "hello", 5));
	must(stream_pending(&end.stream) == 0 || end.stream.error == 0);
}

START_TEST(dead_peer_of_a_paused_stream_is_noticed_when_writing_and_told_once) {
	on_worker(&workers[0], pause_end, NULL);
	close(peer);
	peer = -1;
	on_worker(&workers[0], write_hello_twice, NULL);
	end_wait(&end, has_failed);
	on_worker(&workers[0], nothing, NULL);
	ck_assert_int_eq(end.failed, 1);
	ck_assert_int_eq(end.stream.error, EPIPE);
	ck_assert_str_eq(end.error, strerror(EPIPE));
	ck_assert(!end_is(&end, watches));
}
END_TEST

static void write_and_receive(struct worker *worker, void *arg) {
	char byte;

	(void)worker, (void)arg;
	must(stream_write(&end.stream, "hello", 5));
	must(!stream_flush(&end.stream));
	must(stream_recv(&end.stream, &byte, 1) == STREAM_BROKEN);
}

START_TEST(failure_that_a_receive_has_returned_is_not_told_again) {
	on_worker(&workers[0], pause_end, NULL);
	close(peer);
	peer = -1;
	on_worker(&workers[0], write_and_receive, NULL);
	on_worker(&workers[0], nothing, NULL);
	on_worker(&workers[0], nothing, NULL);
	ck_assert(!end_is(&end, has_failed));
}
END_TEST

static struct timeout after_failure;
static struct gate timeout_fired = GATE_INIT;

static void note_timeout(struct timeout *timeout, uint64_t now_ns) {
	(void)timeout, (void)now_ns;
	gate_add(&timeout_fired);
}

static void set_timeout_after_failure(struct end *e, int events) {
	must(events & STREAM_FAILED);
	after_failure.expired = note_timeout;
	must(worker_timeout(e->worker, &after_failure, NS_PER_MS));
}

static void write_deferred(struct deferred *deferred) {
	(void)deferred;
	must(stream_write(&end.stream, "hello", 5));
}

static void defer_write(struct worker *worker, void *arg) {
	struct deferred *deferred = arg;

	deferred->run = write_deferred;
	worker_defer(worker, deferred);
}

/* That callback comes after the last look at the timeouts before the loop waits. */
START_TEST(timeout_that_a_failure_of_deferred_output_sets_fires) {
	struct deferred deferred = {.run = NULL};

	on_worker(&workers[0], pause_end, NULL);
	close(peer);
	peer = -1;
	end.on_event = set_timeout_after_failure;
	on_worker(&workers[0], defer_write, &deferred);
	gate_wait(&timeout_fired, 1);
}
END_TEST

static void take_last_words(struct end *e, int events) {
	if (!(events & STREAM_FAILED))
		return;
	end_receive(e);
	end_receive(e);
}

START_TEST(last_words_of_a_dead_peer_can_still_be_read) {
	end.on_event = take_last_words;
	end.any_bytes = true;
	on_worker(&workers[0], pause_end, NULL);
	ck_assert_int_eq(send(peer, "FATAL", 5, 0), 5);
	close(peer);
	peer = -1;
	on_worker(&workers[0], write_hello_twice, NULL);
	end_wait(&end, has_failed);
	ck_assert_str_eq(end.text, "FATAL");
	ck_assert_int_eq(end.broken, 1);
}
END_TEST

static void write_and_close(struct worker *worker, void *arg) {
	(void)worker, (void)arg;
	must(stream_write(&end.stream, "good bye", 8));
	stream_close(&end.stream);
	must(end.stream.fd == -1);
}

START_TEST(queued_output_is_sent_at_the_close) {
	char text[16];

	on_worker(&workers[0], write_and_close, NULL);
	ck_assert_int_eq(recv(peer, text, sizeof text, 0), 8);
	ck_assert_mem_eq(text, "good bye", 8);
	ck_assert_int_eq(recv(peer, text, sizeof text, 0), 0);
}
END_TEST

/* An end in memory of its own, which goes with the stream. */
struct mortal {
	struct stream stream;
	struct deferred deferred;
	struct gate *freed;
};

static void free_mortal(struct deferred *deferred) {
	struct mortal *mortal = container_of(deferred, struct mortal, deferred);
	struct gate *freed = mortal->freed;

	must(mortal->stream.fd == -1);
	free(mortal);
	gate_add(freed);
}

static void mortal_ready(struct stream *stream, int events) {
	struct mortal *mortal = container_of(stream, struct mortal, stream);

	must(events & STREAM_READABLE);
	must(stream_write(stream, "x", 1));
	struct worker *worker = stream->worker;
	stream_close(stream);
	worker_defer(worker, &mortal->deferred);
}

static void open_mortal(struct worker *worker, void *arg) {
	struct mortal *mortal = arg;

	mortal->deferred.run = free_mortal;
	stream_open(&mortal->stream, worker, mortal->stream.fd, mortal_ready);
}

START_TEST(stream_may_be_closed_in_its_callback_and_freed_by_deferring) {
	struct mortal *mortal = calloc(1, sizeof *mortal);
	struct gate freed = GATE_INIT;
	int fds[2];
	char byte;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	set_nonblocking(fds[0]);
	mortal->stream.fd = fds[0];
	mortal->freed = &freed;
	on_worker(&workers[0], open_mortal, mortal);
	ck_assert_int_eq(send(fds[1], "a", 1, 0), 1);
	gate_wait(&freed, 1);
	ck_assert_int_eq(recv(fds[1], &byte, 1, 0), 1);
	ck_assert_int_eq(recv(fds[1], &byte, 1, 0), 0);
	close(fds[1]);
}
END_TEST

static bool is_quiet(struct end *e) {
	return stream_quiet(&e->stream);
}

START_TEST(stream_is_quiet_until_a_byte_or_the_end_comes) {
	on_worker(&workers[0], pause_end, NULL);
	ck_assert(end_is(&end, is_quiet));
	peer_send(0, 1);
	ck_assert(!end_is(&end, is_quiet));
	on_worker(&workers[0], resume_end, NULL);
	gate_wait(&end.changed, 1);
	ck_assert(end_is(&end, is_quiet));
	on_worker(&workers[0], pause_end, NULL);
	close(peer);
	peer = -1;
	ck_assert(!end_is(&end, is_quiet));
}
END_TEST

static bool peek_is_ten(struct end *e) {
	uint8_t bytes[20];
	ssize_t n = stream_peek(&e->stream, bytes, sizeof bytes);

	return n == 10 && bytes[9] == pattern_at(9);
}

START_TEST(peeked_bytes_are_received_later) {
	on_worker(&workers[0], pause_end, NULL);
	peer_send(0, 10);
	ck_assert(end_is(&end, peek_is_ten));
	ck_assert(end_is(&end, peek_is_ten));
	on_worker(&workers[0], resume_end, NULL);
	end_wait(&end, got_ten);
	ck_assert(!end.bad);
}
END_TEST

/* Moving: an echo that changes its worker after each piece */

struct nomad {
	struct stream stream;
	struct mail mail;
	int at, moves;
	struct gate gone;
};

static struct nomad nomad;

static void nomad_arrive(struct mail *mail, void *receiver) {
	(void)mail;
	stream_attach(&nomad.stream, receiver);
}

static void nomad_ready(struct stream *stream, int events) {
	struct worker *here = worker_current();

	must(here == &workers[nomad.at]);
	if (events & STREAM_READABLE) {
		ssize_t n = stream_recv(stream, here->scratch, 10000);
		if (n <= 0) {
			must(n == STREAM_EOF);
			stream_close(stream);
			gate_add(&nomad.gone);
			return;
		}
		must(stream_write(stream, here->scratch, (size_t)n));
	}
	if (!stream_flush(stream) || stream_pending(stream) > 0)
		return;
	stream_detach(stream);
	nomad.at ^= 1;
	nomad.moves++;
	nomad.mail.deliver = nomad_arrive;
	mailbox_post(&workers[nomad.at].mailbox, &nomad.mail);
}

static void open_nomad(struct worker *worker, void *arg) {
	stream_open(&nomad.stream, worker, *(int *)arg, nomad_ready);
}

START_TEST(stream_that_moves_between_workers_loses_nothing) {
	int fds[2];
	pthread_t thread;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	set_nonblocking(fds[0]);
	close(peer);
	peer = fds[1];
	nomad = (struct nomad){.gone = GATE_INIT};
	on_worker(&workers[0], open_nomad, &fds[0]);
	pthread_create(&thread, NULL, feed_peer, NULL);
	peer_receive(0, 3000000);
	pthread_join(thread, NULL);
	close(peer);
	peer = -1;
	gate_wait(&nomad.gone, 1);
	ck_assert_int_ge(nomad.moves, 5);
}
END_TEST

/* Connecting */

static int listen_on(struct sockaddr *address, socklen_t *len) {
	int fd = socket(address->sa_family, SOCK_STREAM, 0);

	must(fd >= 0 && bind(fd, address, *len) == 0 && listen(fd, 10) == 0);
	must(getsockname(fd, address, len) == 0);
	return fd;
}

struct target {
	struct sockaddr_storage address;
	socklen_t len;
	bool began;
};

static void connect_end(struct worker *worker, void *arg) {
	struct target *target = arg;

	end.any_bytes = true;
	target->began = stream_connect(&end.stream, worker, (struct sockaddr *)&target->address, target->len, end_ready);
	must(end.connected == 0 && end.failed == 0);
	if (target->began)
		must(stream_write(&end.stream, "early", 5));
}

static void connect_and_talk(struct target *target, int listening) {
	char text[16];

	end_init(&end, &workers[0]);
	on_worker(&workers[0], connect_end, target);
	ck_assert(target->began);
	peer = accept(listening, NULL, NULL);
	ck_assert_int_ge(peer, 0);
	end_wait(&end, is_connected);
	ck_assert_int_eq(recv(peer, text, sizeof text, 0), 5);
	ck_assert_mem_eq(text, "early", 5);
	ck_assert_int_eq(send(peer, "0123456789", 10, 0), 10);
	end_wait(&end, got_ten);
	ck_assert_str_eq(end.text, "0123456789");
	ck_assert_int_eq(end.connected, 1);
}

static struct target tcp_target(int family) {
	struct target target = {.len = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)};

	target.address.ss_family = (sa_family_t)family;
	if (family == AF_INET)
		((struct sockaddr_in *)&target.address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		((struct sockaddr_in6 *)&target.address)->sin6_addr = in6addr_loopback;
	return target;
}

/* Who is at the other end, by its address. */
static void peer_of(int fd, struct stream_peer *who) {
	struct sockaddr_storage address;
	socklen_t len = sizeof address;

	if (getpeername(fd, (struct sockaddr *)&address, &len) < 0)
		len = 0;
	stream_peer_from(fd, (const struct sockaddr *)&address, len, who);
}

START_TEST(connects_over_tcp_and_sends_what_was_written_meanwhile) {
	struct target target = tcp_target(AF_INET);
	int listening = listen_on((struct sockaddr *)&target.address, &target.len);
	struct stream_peer who;
	char expected[64];

	connect_and_talk(&target, listening);
	peer_of(end.stream.fd, &who);
	snprintf(expected, sizeof expected, "127.0.0.1:%d", ntohs(((struct sockaddr_in *)&target.address)->sin_port));
	ck_assert_str_eq(STREAM_PEER_SAY(&who), expected);
	struct sockaddr_storage address = stream_peer_address(&who);
	ck_assert_int_eq(memcmp(&address, &target.address, sizeof(struct sockaddr_in)), 0);
	on_worker(&workers[0], close_end, NULL);
	close(peer);
	close(listening);
	peer = -1;
}
END_TEST

START_TEST(connects_over_a_unix_socket) {
	struct target target = {.len = sizeof(struct sockaddr_un)};
	struct sockaddr_un *un = (struct sockaddr_un *)&target.address;
	struct stream_peer who;
	char expected[64];

	un->sun_family = AF_UNIX;
	snprintf(un->sun_path, sizeof un->sun_path, "/tmp/forebay-test-net-%d", (int)getpid());
	unlink(un->sun_path);
	socklen_t len = target.len;
	struct sockaddr_storage bound = target.address;
	int listening = listen_on((struct sockaddr *)&bound, &len);
	connect_and_talk(&target, listening);
	peer_of(peer, &who);
	snprintf(expected, sizeof expected, "unix:%d@%d", (int)getpid(), (int)getuid());
	ck_assert_str_eq(STREAM_PEER_SAY(&who), expected);
	ck_assert_int_eq(who.process.uid, (int)getuid());
	on_worker(&workers[0], close_end, NULL);
	close(peer);
	close(listening);
	peer = -1;
	unlink(un->sun_path);

	/* Nobody there: it fails at once, or is told. */
	end_init(&end, &workers[0]);
	on_worker(&workers[0], connect_end, &target);
	ck_assert(!target.began);
	ck_assert_int_eq(end.stream.error, ENOENT);
	ck_assert_str_eq(stream_error(&end.stream), strerror(ENOENT));
}
END_TEST

START_TEST(refused_connection_is_told_with_its_reason) {
	struct target target = tcp_target(AF_INET);
	int listening = listen_on((struct sockaddr *)&target.address, &target.len);

	close(listening);
	end_init(&end, &workers[0]);
	on_worker(&workers[0], connect_end, &target);
	if (target.began)
		end_wait(&end, has_failed);
	ck_assert_int_eq(end.stream.error, ECONNREFUSED);
	ck_assert_int_eq(end.connected, 0);
}
END_TEST

START_TEST(last_words_reach_a_tcp_peer_whose_bytes_were_not_read) {
	struct target target = tcp_target(AF_INET);
	int listening = listen_on((struct sockaddr *)&target.address, &target.len);
	char text[16];

	connect_and_talk(&target, listening);
	on_worker(&workers[0], pause_end, NULL);
	ck_assert_int_eq(send(peer, "unread", 6, 0), 6);
	for (int i = 0; i < 1000000 && end_is(&end, watches); i++)
		;
	on_worker(&workers[0], write_and_close, NULL);
	ck_assert_int_eq(recv(peer, text, sizeof text, 0), 8);
	ck_assert_int_eq(recv(peer, text, sizeof text, 0), 0);
	close(peer);
	close(listening);
	peer = -1;
}
END_TEST

START_TEST(ipv4_peer_of_an_ipv6_socket_is_named_as_ipv4) {
	struct target target = tcp_target(AF_INET6), v4 = tcp_target(AF_INET);
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&target.address;
	struct stream_peer who;
	const int off = 0;
	int listening = socket(AF_INET6, SOCK_STREAM, 0);

	in6->sin6_addr = in6addr_any;
	if (listening < 0 || setsockopt(listening, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) != 0 ||
	    bind(listening, (struct sockaddr *)in6, target.len) != 0)
		return; /* no IPv6 here */
	ck_assert_int_eq(listen(listening, 10), 0);
	ck_assert_int_eq(getsockname(listening, (struct sockaddr *)in6, &target.len), 0);
	((struct sockaddr_in *)&v4.address)->sin_port = in6->sin6_port;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&v4.address, v4.len), 0);
	int accepted = accept(listening, NULL, NULL);
	peer_of(accepted, &who);
	ck_assert_int_eq(strncmp(STREAM_PEER_SAY(&who), "127.0.0.1:", 10), 0);
	ck_assert_int_eq(who.family, AF_INET);
	close(accepted);
	close(fd);
	close(listening);
}
END_TEST

START_TEST(peer_is_known_by_an_address_that_was_told) {
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(65535)};
	struct sockaddr_storage again;
	struct stream_peer who;
	int fds[2];

	ck_assert_int_eq(inet_pton(AF_INET6, "2001:db8:ffff:ffff:ffff:ffff:255.255.255.254", &in6.sin6_addr), 1);
	stream_peer_from(-1, (struct sockaddr *)&in6, sizeof in6, &who);
	ck_assert_str_eq(STREAM_PEER_SAY(&who), "[2001:db8:ffff:ffff:ffff:ffff:ffff:fffe]:65535");
	again = stream_peer_address(&who);
	ck_assert_int_eq(memcmp(&again, &in6, sizeof in6), 0);
	/* an address that is cut, or of no kind that we know, says nothing */
	stream_peer_from(-1, (struct sockaddr *)&in6, sizeof in6 - 8, &who);
	ck_assert_str_eq(STREAM_PEER_SAY(&who), "unknown");
	stream_peer_from(-1, (struct sockaddr *)&in6, 0, &who);
	ck_assert_str_eq(STREAM_PEER_SAY(&who), "unknown");
	ck_assert_int_eq(pipe(fds), 0);
	peer_of(fds[0], &who);
	ck_assert_str_eq(STREAM_PEER_SAY(&who), "unknown");
	/* an unnamed peer's address is its family alone, and a descriptor that is no socket tells no process */
	struct sockaddr unnamed = {.sa_family = AF_UNIX};
	stream_peer_from(fds[0], &unnamed, offsetof(struct sockaddr, sa_data), &who);
	ck_assert_str_eq(STREAM_PEER_SAY(&who), "unix");
	close(fds[0]);
	close(fds[1]);
}
END_TEST

static TCase *tests(Suite *suite, const char *name, void (*before)(void), void (*after)(void)) {
	TCase *tc = tcase_create(name);

	tcase_add_checked_fixture(tc, before, after);
	tcase_set_timeout(tc, 60);
	suite_add_tcase(suite, tc);
	return tc;
}

int main(void) {
	Suite *suite = suite_create("stream");
	TCase *tc = tests(suite, "stream", set_up_stream, tear_down_stream);

	tcase_add_test(tc, received_bytes_are_complete_and_then_the_end_is_told);
	tcase_add_test(tc, readable_event_costs_one_receive_that_finds_bytes);
	tcase_add_test(tc, a_secret_that_was_queued_is_wiped_when_it_has_gone);
	tcase_add_test(tc, small_writes_leave_in_one_send_and_a_large_one_takes_them_along);
	tcase_add_test(tc, output_that_the_peer_does_not_read_waits_and_then_is_told_drained_once);
	tcase_add_test(tc, bytes_flow_both_ways_at_once);
	tcase_add_test(tc, paused_stream_stops_its_watcher_only_when_bytes_come_and_loses_none);
	tcase_add_test(tc, dead_peer_of_a_paused_stream_is_noticed_when_writing_and_told_once);
	tcase_add_test(tc, failure_that_a_receive_has_returned_is_not_told_again);
	tcase_add_test(tc, timeout_that_a_failure_of_deferred_output_sets_fires);
	tcase_add_test(tc, last_words_of_a_dead_peer_can_still_be_read);
	tcase_add_test(tc, queued_output_is_sent_at_the_close);
	tcase_add_test(tc, stream_may_be_closed_in_its_callback_and_freed_by_deferring);
	tcase_add_test(tc, stream_is_quiet_until_a_byte_or_the_end_comes);
	tcase_add_test(tc, peeked_bytes_are_received_later);
	tcase_add_test(tc, stream_that_moves_between_workers_loses_nothing);
	tc = tests(suite, "connect", set_up, tear_down);
	tcase_add_test(tc, connects_over_tcp_and_sends_what_was_written_meanwhile);
	tcase_add_test(tc, connects_over_a_unix_socket);
	tcase_add_test(tc, refused_connection_is_told_with_its_reason);
	tcase_add_test(tc, last_words_reach_a_tcp_peer_whose_bytes_were_not_read);
	tcase_add_test(tc, ipv4_peer_of_an_ipv6_socket_is_named_as_ipv4);
	tcase_add_test(tc, peer_is_known_by_an_address_that_was_told);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
