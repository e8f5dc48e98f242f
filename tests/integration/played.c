#include "played.h"

#include <stdio.h>
#include <string.h>

void await_answer(struct session *s, char type, unsigned count) {
	ck_assert(s->wait_count < sizeof(s->waits) / sizeof(s->waits[0]));
	s->waits[s->wait_count].at = s->out.len;
	s->waits[s->wait_count].type = type;
	s->waits[s->wait_count++].count = count;
}

void query_and_wait(struct session *s, const char *sql) {
	put_query(&s->out, sql);
	await_answer(s, 'Z', 1);
}

void sync_and_wait(struct session *s) {
	put_sync(&s->out);
	await_answer(s, 'Z', 1);
}

void copy_data(struct session *s, const char *line) {
	put_message(&s->out, 'd', "b", strlen(line), line);
}

void put_batch(struct session *s, const char *sql, const char *value) {
	put_parse(&s->out, "", sql);
	put_bind(&s->out, "", value);
	put_execute(&s->out);
}

void add_end(struct session *s) {
	put_message(&s->out, 'X', "");
}

void session_free(struct session *s) {
	bytes_free(&s->out);
}

static size_t message_length(const struct session *s, size_t at) {
	const uint8_t *p = s->out.at + at + 1;

	return 1 + ((size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3]);
}

static void deliver_with_waits(struct probe *probe, const struct session *s, enum manner manner, size_t cut) {
	unsigned before[256] = {0};
	size_t wait = 0, end;

	for (size_t at = 0; at < s->out.len; at = end) {
		end = at + message_length(s, at);
		if (manner == TOGETHER || manner == TOGETHER_CUT)
			end = wait < s->wait_count ? s->waits[wait].at : s->out.len;
		if (!probe_send_cut(probe, s->out.at + at, end - at, cut))
			return; /* what is missing will tell */
		/* At each wait all that was asked before is answered: so what is due counts from there. */
		if (wait < s->wait_count && s->waits[wait].at == end) {
			uint8_t type = (uint8_t)s->waits[wait].type;

			if (!probe_await(probe, (char)type, before[type] + s->waits[wait].count))
				return;
			memcpy(before, probe->seen, sizeof(before));
			wait++;
		}
	}
}

static void deliver(struct probe *probe, const struct session *s, enum manner manner, size_t cut) {
	switch (manner) {
	case ONE_BY_ONE:
	case TOGETHER:
		cut = 0;
		/* fall through */
	case EACH_CUT:
	case TOGETHER_CUT:
		deliver_with_waits(probe, s, manner, cut);
		return;
	case GLUED:
	case GLUED_CUT:
		probe_send_cut(probe, s->out.at, s->out.len, manner == GLUED ? 0 : cut);
		return;
	case EACH_BYTE:
		for (size_t i = 0; i < s->out.len; i++) {
			if (!probe_send(probe, s->out.at + i, 1))
				return;
			if (probe->is_unix)
				probe_await_read(probe);
			probe_take(probe, 0);
		}
		return;
	}
}

struct bytes play(struct probe probe, const char *database, const struct session *s, enum manner manner,
			 size_t cut, struct bytes *welcome) {
	struct bytes got;

	ck_assert_msg(probe.fd >= 0, "refused");
	ck_assert_msg(probe_login(&probe, database, manner == EACH_CUT ? cut : 0), "not logged in (cut %zu): %s", cut,
		      probe_error(&probe, 'M'));
	if (welcome) {
		bytes_free(welcome);
		*welcome = probe.got;
		probe.got = (struct bytes){0};
	}
	probe_forget(&probe);
	deliver(&probe, s, manner, cut);
	ck_assert_msg(probe_await_closed(&probe), "the session does not end (manner %d, cut %zu, %u ready)", manner, cut,
		      probe.seen['Z']);
	ck_assert_msg(probe.in.len == 0 && !probe.broken, "half a message at the end (manner %d, cut %zu)", manner, cut);
	got = probe.got;
	probe.got = (struct bytes){0};
	probe_close(&probe);
	return got;
}

/* One message in words, into `out`. */
static void tell(const struct bytes *b, size_t at, char *out, size_t size) {
	size_t n = 0;

	if (at + 5 > b->len) {
		snprintf(out, size, "the end");
		return;
	}
	for (size_t i = at; i < b->len && i < at + 190 && n + 5 < size; i++) {
		bool plain = b->at[i] >= 32 && b->at[i] < 127;

		n += (size_t)snprintf(out + n, size - n, plain ? "%c" : "\\%o", b->at[i]);
	}
}

void expect_same(const struct bytes *got, const struct bytes *expected, const char *how, size_t cut) {
	size_t at = 0, ready = 0;
	char a[400], b[400];

	if (got->len == expected->len && memcmp(got->at, expected->at, got->len) == 0)
		return;
	while (at + 5 <= got->len && at + 5 <= expected->len) {
		const uint8_t *p = expected->at + at + 1;
		size_t len = 1 + ((size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3]);

		if (at + len > got->len || memcmp(got->at + at, expected->at + at, len) != 0)
			break;
		ready += expected->at[at] == 'Z';
		at += len;
	}
	tell(expected, at, a, sizeof(a));
	tell(got, at, b, sizeof(b));
	ck_abort_msg("%s, cut %zu: after %zu ReadyForQuery, expected %s, got %s", how, cut, ready, a, b);
}

void play_and_compare(struct probe probe, const struct session *s, enum manner manner, size_t cut,
			     const struct bytes *expected, const char *how) {
	struct bytes got = play(probe, "app", s, manner, cut, NULL);

	expect_same(&got, expected, how, cut);
	bytes_free(&got);
}

/* The user differs, so that no login by hand is needed here. */
struct bytes play_on_postgres(const struct session *s) {
	struct probe probe = probe_tcp(harness_postgres_port());
	struct bytes b = {0}, got;

	put_startup(&b, 3 << 16, "user", "trusted", "database", "app", NULL);
	ck_assert(probe_send_bytes(&probe, &b) && probe_await(&probe, 'Z', 1));
	probe_forget(&probe);
	deliver(&probe, s, ONE_BY_ONE, 0);
	ck_assert(probe_await_closed(&probe));
	got = probe.got;
	probe.got = (struct bytes){0};
	probe_close(&probe);
	return got;
}

size_t longest_piece(const struct session *s, bool together) {
	size_t most = 0, wait = 0, end;

	for (size_t at = 0; at < s->out.len; at = end) {
		end = at + message_length(s, at);
		while (together && wait < s->wait_count && s->waits[wait].at < end)
			wait++;
		if (together)
			end = wait < s->wait_count ? s->waits[wait].at : s->out.len;
		most = end - at > most ? end - at : most;
	}
	return most;
}
