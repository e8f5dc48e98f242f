#include "net/offload.h"

#include <pthread.h>
#include <signal.h>

#include "base/list.h"
#include "net/worker.h"

enum { THREADS_MAX = 16 };

static struct {
	pthread_mutex_t mutex; /* of all that follows */
	pthread_cond_t wake;
	struct offload_job *head, **tail;
	bool running;

	/* main thread only */
	pthread_t threads[THREADS_MAX];
	int count;
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static void deliver_done(struct mail *mail, void *receiver) {
	struct offload_job *job = container_of(mail, struct offload_job, mail);

	(void)receiver;
	job->done(job);
}

static void do_job(struct offload_job *job) {
	job->work(job);
	job->mail.deliver = deliver_done;
	mailbox_post(&job->worker->mailbox, &job->mail);
}

static void *helper(void *arg) {
	(void)arg;
	pthread_mutex_lock(&pool.mutex);
	for (;;) {
		struct offload_job *job = pool.head;
		if (job) {
			pool.head = job->next;
			if (!pool.head)
				pool.tail = &pool.head;
			pthread_mutex_unlock(&pool.mutex);
			do_job(job);
			pthread_mutex_lock(&pool.mutex);
		} else if (pool.running) {
			pthread_cond_wait(&pool.wake, &pool.mutex);
		} else {
			break;
		}
	}
	pthread_mutex_unlock(&pool.mutex);
	return NULL;
}

bool offload_start(int threads) {
	sigset_t all, old;

	pthread_mutex_lock(&pool.mutex);
	pool.head = NULL;
	pool.tail = &pool.head;
	pool.running = true;
	pthread_mutex_unlock(&pool.mutex);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pool.count = 0;
	while (pool.count < threads && pool.count < THREADS_MAX) {
		if (pthread_create(&pool.threads[pool.count], NULL, helper, NULL) != 0)
			break;
		pool.count++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (pool.count == 0)
		offload_stop();
	return pool.count > 0;
}

void offload_submit(struct offload_job *job, struct worker *worker) {
	job->next = NULL;
	job->worker = worker;
	pthread_mutex_lock(&pool.mutex);
	bool running = pool.running;
	if (running) {
		*pool.tail = job;
		pool.tail = &job->next;
		pthread_cond_signal(&pool.wake);
	}
	pthread_mutex_unlock(&pool.mutex);
	if (!running)
		do_job(job);
}

void offload_stop(void) {
	pthread_mutex_lock(&pool.mutex);
	pool.running = false;
	pthread_cond_broadcast(&pool.wake);
	pthread_mutex_unlock(&pool.mutex);
	for (int i = 0; i < pool.count; i++)
		pthread_join(pool.threads[i], NULL);
	pool.count = 0;
}
