/* Workers, mailboxes, offloaded work. */
#include <check.h>
#include <signal.h>
#include <stdatomic.h>

#include "net/offload.h"
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

/* Mailbox */

enum { SENDERS = 4, LETTERS = 5000 };

struct letter {
	struct mail mail;
	int sender, number;
};

static struct {
	struct gate delivered;
	int next[SENDERS]; /* receiver's thread */
} post = {.delivered = GATE_INIT};

static void deliver_letter(struct mail *mail, void *receiver) {
	struct letter *letter = container_of(mail, struct letter, mail);

	must(receiver == worker_current());
	must(post.next[letter->sender] == letter->number);
	post.next[letter->sender]++;
	free(letter);
	gate_add(&post.delivered);
}

static void *send_letters(void *arg) {
	for (int i = 0; i < LETTERS; i++) {
		struct letter *letter = malloc(sizeof *letter);
		*letter = (struct letter){.mail.deliver = deliver_letter, .sender = *(int *)arg, .number = i};
		mailbox_post(&workers[0].mailbox, &letter->mail);
	}
	return NULL;
}

START_TEST(letters_of_each_sender_arrive_in_order_and_none_is_lost) {
	pthread_t threads[SENDERS];
	int ids[SENDERS];

	for (int i = 0; i < SENDERS; i++) {
		ids[i] = i;
		pthread_create(&threads[i], NULL, send_letters, &ids[i]);
	}
	gate_wait(&post.delivered, SENDERS * LETTERS);
	for (int i = 0; i < SENDERS; i++)
		pthread_join(threads[i], NULL);
}
END_TEST

START_TEST(letters_under_way_are_delivered_before_a_worker_stops) {
	struct worker worker;
	int id = 0;

	memset(&worker, 0, sizeof worker);
	ck_assert(worker_init(&worker, 7, &(struct error){0}));
	for (int i = 0; i < 100; i++) {
		struct letter *letter = malloc(sizeof *letter);
		*letter = (struct letter){.mail.deliver = deliver_letter, .sender = id, .number = i};
		if (i == 50)
			worker_stop(&worker);
		mailbox_post(&worker.mailbox, &letter->mail);
	}
	worker_stop(&worker);
	ck_assert(worker_start(&worker, &(struct error){0}));
	worker_join(&worker);
	ck_assert_int_eq(post.next[id], 100);
	worker_destroy(&worker);
}
END_TEST

/* Worker */

static void check_signals(struct worker *worker, void *arg) {
	sigset_t blocked;

	(void)arg;
	must(worker_current() == worker);
	must(pthread_sigmask(SIG_SETMASK, NULL, &blocked) == 0);
	must(sigismember(&blocked, SIGTERM) == 1);
	must(sigismember(&blocked, SIGHUP) == 1);
	must(sigismember(&blocked, SIGPIPE) == 1);
}

START_TEST(worker_thread_knows_itself_and_takes_no_signals) {
	on_worker(&workers[0], check_signals, NULL);
	on_worker(&workers[1], check_signals, NULL);
	ck_assert_ptr_null(worker_current());
}
END_TEST

struct timed {
	struct timeout timeout;
	struct deferred deferred;
	struct worker *worker;
	uint64_t begin_ns, fired_ns, after_ns;
	int fired;
	struct gate gate;
};

static void timed_fired(struct timeout *timeout, uint64_t now_ns) {
	struct timed *timed = container_of(timeout, struct timed, timeout);

	must(now_ns >= timeout->deadline_ns);
	timed->fired++;
	timed->fired_ns = clock_monotonic_ns();
	gate_add(&timed->gate);
}

static void set_timed(struct worker *worker, void *arg) {
	struct timed *timed = arg;

	timed->begin_ns = worker->now_ns;
	must(worker_timeout(worker, &timed->timeout, timed->after_ns));
}

static void clear_timed(struct worker *worker, void *arg) {
	worker_timeout_clear(worker, &((struct timed *)arg)->timeout);
}

START_TEST(timeouts_fire_in_time_whatever_the_order_they_are_set_in) {
	struct timed late = {.timeout.expired = timed_fired, .after_ns = 60 * NS_PER_MS, .gate = GATE_INIT};
	struct timed soon = {.timeout.expired = timed_fired, .after_ns = 20 * NS_PER_MS, .gate = GATE_INIT};
	struct timed far = {.timeout.expired = timed_fired, .after_ns = 600 * NS_PER_S, .gate = GATE_INIT};
	struct timed never = {.timeout.expired = timed_fired, .after_ns = 10 * NS_PER_MS, .gate = GATE_INIT};

	/* The timer is armed for this one first; the others must not wait for it. */
	on_worker(&workers[0], set_timed, &far);
	on_worker(&workers[0], set_timed, &late);
	on_worker(&workers[0], set_timed, &never);
	on_worker(&workers[0], clear_timed, &never);
	on_worker(&workers[0], set_timed, &soon);
	gate_wait(&soon.gate, 1);
	gate_wait(&late.gate, 1);
	ck_assert_uint_ge(soon.fired_ns - soon.begin_ns, soon.after_ns);
	ck_assert_uint_ge(late.fired_ns - late.begin_ns, late.after_ns);
	ck_assert_uint_lt(soon.fired_ns, late.fired_ns);
	on_worker(&workers[0], nothing, NULL);
	ck_assert_int_eq(never.fired, 0);
	ck_assert_int_eq(late.fired, 1);
	on_worker(&workers[0], clear_timed, &far);
}
END_TEST

static void run_deferred_timed(struct deferred *deferred) {
	struct timed *timed = container_of(deferred, struct timed, deferred);

	must(timed->fired == 0);
	must(worker_timeout(timed->worker, &timed->timeout, NS_PER_MS));
}

static void defer_timed(struct worker *worker, void *arg) {
	struct timed *timed = arg;

	timed->worker = worker;
	timed->deferred.run = run_deferred_timed;
	worker_defer(worker, &timed->deferred);
	must(!timeout_pending(&timed->timeout));
}

/* The loop would wait for a minute if what comes last before the wait did not count. */
START_TEST(timeout_that_is_set_by_deferred_work_fires) {
	struct timed timed = {.timeout.expired = timed_fired, .gate = GATE_INIT};

	on_worker(&workers[0], defer_timed, &timed);
	gate_wait(&timed.gate, 1);
}
END_TEST

struct chain {
	struct deferred deferred;
	struct worker *worker;
	int left;
	struct gate gate;
};

static void run_chain(struct deferred *deferred) {
	struct chain *chain = container_of(deferred, struct chain, deferred);

	if (chain->left-- > 0)
		worker_defer(chain->worker, &chain->deferred);
	else
		gate_add(&chain->gate);
}

static void defer_chain(struct worker *worker, void *arg) {
	struct chain *chain = arg;

	chain->worker = worker;
	chain->deferred.run = run_chain;
	worker_defer(worker, &chain->deferred);
	must(chain->left == 10);
}

START_TEST(deferred_work_may_defer_itself_again) {
	struct chain chain = {.left = 10, .gate = GATE_INIT};

	on_worker(&workers[0], defer_chain, &chain);
	gate_wait(&chain.gate, 1);
}
END_TEST

static void defer_and_stop(struct worker *worker, void *arg) {
	defer_chain(worker, arg);
	worker_stop(worker);
}

START_TEST(deferred_work_is_done_before_a_worker_ends) {
	struct chain chain = {.left = 10, .gate = GATE_INIT};
	struct worker worker;

	worker_begin(&worker, 3);
	on_worker(&worker, defer_and_stop, &chain);
	worker_join(&worker);
	ck_assert_int_eq(gate_value(&chain.gate), 1);
	worker_destroy(&worker);
}
END_TEST

/* Offload */

struct hash_job {
	struct offload_job job;
	struct worker *worker;
	_Atomic int works;
	bool worked_elsewhere;
	struct gate *done;
};

static void hash_work(struct offload_job *job) {
	struct hash_job *hash = container_of(job, struct hash_job, job);

	hash->worked_elsewhere = worker_current() == NULL;
	atomic_fetch_add(&hash->works, 1);
}

static void hash_done(struct offload_job *job) {
	struct hash_job *hash = container_of(job, struct hash_job, job);

	must(worker_current() == hash->worker);
	must(atomic_load(&hash->works) == 1);
	gate_add(hash->done);
}

enum { JOBS = 200 };

static void submit_jobs(struct worker *worker, void *arg) {
	struct hash_job *jobs = arg;

	for (int i = 0; i < JOBS; i++) {
		jobs[i].worker = worker;
		jobs[i].job.work = hash_work;
		jobs[i].job.done = hash_done;
		offload_submit(&jobs[i].job, worker);
	}
}

START_TEST(offloaded_work_is_done_elsewhere_and_reported_on_the_worker) {
	static struct hash_job jobs[2][JOBS];
	struct gate done = GATE_INIT;

	for (int i = 0; i < 2 * JOBS; i++)
		jobs[i / JOBS][i % JOBS].done = &done;
	ck_assert(offload_start(3));
	on_worker(&workers[0], submit_jobs, jobs[0]);
	on_worker(&workers[1], submit_jobs, jobs[1]);
	offload_stop();
	gate_wait(&done, 2 * JOBS);
	for (int i = 0; i < 2 * JOBS; i++)
		ck_assert(jobs[i / JOBS][i % JOBS].worked_elsewhere);
}
END_TEST

START_TEST(work_is_done_even_where_no_helper_runs) {
	static struct hash_job jobs[JOBS];
	struct gate done = GATE_INIT;

	for (int i = 0; i < JOBS; i++)
		jobs[i].done = &done;
	on_worker(&workers[0], submit_jobs, jobs);
	gate_wait(&done, JOBS);
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
	Suite *suite = suite_create("net");
	TCase *tc = tests(suite, "worker", set_up, tear_down);

	tcase_add_test(tc, letters_of_each_sender_arrive_in_order_and_none_is_lost);
	tcase_add_test(tc, letters_under_way_are_delivered_before_a_worker_stops);
	tcase_add_test(tc, worker_thread_knows_itself_and_takes_no_signals);
	tcase_add_test(tc, timeouts_fire_in_time_whatever_the_order_they_are_set_in);
	tcase_add_test(tc, timeout_that_is_set_by_deferred_work_fires);
	tcase_add_test(tc, deferred_work_may_defer_itself_again);
	tcase_add_test(tc, deferred_work_is_done_before_a_worker_ends);
	tcase_add_test(tc, offloaded_work_is_done_elsewhere_and_reported_on_the_worker);
	tcase_add_test(tc, work_is_done_even_where_no_helper_runs);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
