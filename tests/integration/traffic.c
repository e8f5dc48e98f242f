#include "traffic_kinds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS_KEPT = 8 };

struct traffic {
	struct traffic_setup setup;
	const struct traffic_kinds *kinds;
	struct goer *goers;
	int count;
	_Atomic bool stop;
	_Atomic long came, refused, committed, told, cut, next_id;
	pthread_mutex_t mutex;
	int words;
	char said[WORDS_KEPT][400];
};

static void note(struct traffic *traffic, _Atomic long *count, const char *what, const char *text) {
	atomic_fetch_add(count, 1);
	pthread_mutex_lock(&traffic->mutex);
	if (traffic->words < WORDS_KEPT)
		snprintf(traffic->said[traffic->words++], sizeof(traffic->said[0]), "%s: %.300s", what, text);
	pthread_mutex_unlock(&traffic->mutex);
}

bool attempt_failed(struct attempt *attempt, const char *fmt, ...) {
	va_list ap;

	if (attempt->error[0])
		return false;
	va_start(ap, fmt);
	vsnprintf(attempt->error, sizeof(attempt->error), fmt, ap);
	va_end(ap);
	return false;
}

static bool enter(struct goer *goer) {
	struct attempt attempt = {.goer = goer};

	if (goer->kinds->enter(&attempt)) {
		goer->in = true;
		return true;
	}
	note(goer->traffic, &goer->traffic->refused, "not let in", attempt.error);
	return false;
}

static void leave(struct goer *goer) {
	goer->kinds->leave(goer);
	goer->in = false;
}

static void come(struct goer *goer) {
	struct traffic *traffic = goer->traffic;
	struct attempt attempt = {.goer = goer};

	if (!enter(goer))
		return;
	if (goer->kinds->ask(&attempt)) {
		atomic_fetch_add(&traffic->came, 1);
		atomic_fetch_add(&goer->served, 1);
	} else {
		note(traffic, &traffic->refused, "let in and not served", attempt.error);
	}
	leave(goer);
}

static void stay(struct goer *goer) {
	struct traffic *traffic = goer->traffic;
	struct attempt attempt = {.goer = goer, .id = atomic_fetch_add(&traffic->next_id, 1)};

	if (!goer->in && !enter(goer))
		return;
	if (goer->kinds->by_kind[goer->kind](&attempt)) {
		atomic_fetch_add(&traffic->committed, 1);
		atomic_fetch_add(&goer->served, 1);
		return;
	}
	bool was_told = strstr(attempt.error, goer->kinds->told) || strstr(attempt.error, "the pooler is shutting down");
	if (attempt.begun || !was_told) {
		char what[64];
		snprintf(what, sizeof(what), "a transaction of kind %d was cut%s", goer->kind, attempt.begun ? "" : " at its start");
		note(traffic, &traffic->cut, what, attempt.error);
	} else {
		atomic_fetch_add(&traffic->told, 1);
	}
	leave(goer);
}

static void *go(void *context) {
	struct goer *goer = context;

	while (!atomic_load(&goer->traffic->stop)) {
		if (goer->kind < 0)
			come(goer);
		else
			stay(goer);
		if (!goer->in)
			harness_pause_ms(1); /* where it is refused: not in a spin */
	}
	if (goer->in)
		leave(goer);
	if (goer->kinds->thread_ends)
		goer->kinds->thread_ends();
	return NULL;
}

struct traffic *traffic_start(const struct traffic_setup *setup) {
	struct traffic *traffic = calloc(1, sizeof(*traffic));
	const struct traffic_kinds *kinds = setup->mysql ? setup->mysql : &traffic_of_postgres;

	ck_assert_ptr_nonnull(traffic);
	kinds->make_table();
	traffic->setup = *setup;
	traffic->kinds = kinds;
	traffic->count = setup->comers + setup->stayers_of_each * (setup->sessions ? kinds->count : kinds->count - 1);
	traffic->goers = calloc((size_t)traffic->count, sizeof(traffic->goers[0]));
	ck_assert_ptr_nonnull(traffic->goers);
	pthread_mutex_init(&traffic->mutex, NULL);
	for (int i = 0; i < traffic->count; i++) {
		struct goer *goer = &traffic->goers[i];
		goer->traffic = traffic;
		goer->kinds = kinds;
		goer->address = *setup->forebay;
		goer->number = i;
		goer->kind = i < setup->comers ? -1 : (i - setup->comers) / setup->stayers_of_each;
		goer->local = i % 2;
		goer->tls = setup->tls && i % 4 == 0;
		goer->session = setup->sessions && goer->kind == kinds->count - 1;
		ck_assert_int_eq(pthread_create(&goer->thread, NULL, go, goer), 0);
	}
	traffic_await_more(traffic);
	return traffic;
}

struct traffic_counts traffic_now(struct traffic *traffic) {
	return (struct traffic_counts){
		.came = atomic_load(&traffic->came),
		.refused = atomic_load(&traffic->refused),
		.committed = atomic_load(&traffic->committed),
		.told = atomic_load(&traffic->told),
		.cut = atomic_load(&traffic->cut),
	};
}

void traffic_await_more(struct traffic *traffic) {
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	long before[256];

	ck_assert_int_le(traffic->count, 256);
	for (int i = 0; i < traffic->count; i++)
		before[i] = atomic_load(&traffic->goers[i].served);
	for (int i = 0; i < traffic->count; i++)
		while (atomic_load(&traffic->goers[i].served) <= before[i]) {
			ck_assert_msg(harness_now_ms() < deadline, "a client of kind %d is served no more: %s", traffic->goers[i].kind,
				      traffic->words ? traffic->said[traffic->words - 1] : "without a word");
			harness_pause_ms(5);
		}
}

struct traffic_counts traffic_end(struct traffic *traffic) {
	atomic_store(&traffic->stop, true);
	for (int i = 0; i < traffic->count; i++)
		pthread_join(traffic->goers[i].thread, NULL);
	struct traffic_counts counts = traffic_now(traffic);
	printf("traffic of %s: %ld came, %ld refused, %ld committed, %ld told, %ld cut\n", traffic->kinds->name, counts.came, counts.refused,
	       counts.committed, counts.told, counts.cut);
	for (int i = 0; i < traffic->words; i++)
		printf("  %s\n", traffic->said[i]);
	fflush(stdout);
	ck_assert_int_eq((int)counts.refused, 0);
	ck_assert_int_eq((int)counts.cut, 0);
	ck_assert_int_eq((int)traffic->kinds->count_rows(), (int)counts.committed);
	pthread_mutex_destroy(&traffic->mutex);
	free(traffic->goers);
	free(traffic);
	return counts;
}
