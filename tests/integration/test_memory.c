/* What clients cost: bytes of memory that are Forebay's own, counted by the kernel. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "query.h"
#include "wire.h"

enum {
	FIRST = 1000,  /* they pay for what grows by steps, and for all that is there once */
	COUNTED = 3000,
	IDLE_MAX = 600 /* bytes of an idle client: see doc/architecture.md, Memory */
};

static size_t own_bytes(const struct forebay *forebay) {
	char path[64], line[256];
	size_t kib = 0;
	bool found = false;

	snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)forebay->pid);
	FILE *f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof line, f))
		found = sscanf(line, "Anonymous: %zu kB", &kib) == 1;
	if (f)
		fclose(f);
	ck_assert_msg(found, "%s does not tell", path);
	return kib * 1024;
}

/* Each has run a query: the one that did has been given its server and has given it back. */
static void connect_clients(const struct forebay *forebay, struct raw *clients, int n) {
	for (int i = 0; i < n; i++) {
		clients[i] = raw_connect(forebay);
		raw_login(&clients[i]);
		raw_put(&clients[i], 'Q', "s", "select 1");
		raw_answers(&clients[i], "T D:1 C Z:I");
	}
}

static void close_clients(struct raw *clients, int n) {
	for (int i = 0; i < n; i++)
		raw_close(&clients[i]);
}

START_TEST(idle_client_stays_small_and_leaves_nothing) {
	static struct raw first[FIRST], counted[COUNTED];

	if (harness_direct())
		return;
	struct forebay *forebay = forebay_start(&(struct forebay_setup){
		.process = "max_clients = 10000\nlog_connections = false\n", .listener = "auth = trust\n"});
	connect_clients(forebay, first, FIRST);
	size_t before = own_bytes(forebay);
	connect_clients(forebay, counted, COUNTED);
	size_t each = (own_bytes(forebay) - before) / COUNTED;
	printf("memory: %zu bytes for each idle client\n", each);
	ck_assert_uint_ge(each, 300); /* else it is not they that were counted */
	ck_assert_uint_le(each, IDLE_MAX);

	/* Most of it goes back to the system; the rest is kept for those who come next. */
	close_clients(counted, COUNTED);
	long long deadline = harness_now_ms() + HARNESS_DEADLINE_MS;
	while (own_bytes(forebay) > before + COUNTED * each / 2) {
		ck_assert_msg(harness_now_ms() < deadline, "%zu bytes are left of each", (own_bytes(forebay) - before) / COUNTED);
		harness_pause_ms(10);
	}
	close_clients(first, FIRST);
	forebay_stop(forebay);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("memory");
	TCase *tc = tcase_create("memory");

	harness_begin(NULL);
	tcase_set_timeout(tc, 300);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* which have memory of their own */
	tcase_add_test(tc, idle_client_stays_small_and_leaves_nothing);
#else
	(void)idle_client_stays_small_and_leaves_nothing;
#endif
	suite_add_tcase(suite, tc);
	return harness_run(suite);
}
