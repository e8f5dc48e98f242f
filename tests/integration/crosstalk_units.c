/* What the cross-talk test's clients do: units of work with the answers they must bring. */
#include "crosstalk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t xt_random(struct xt_client *c) {
	uint64_t x = c->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	c->random = x;
	return x;
}

unsigned xt_below(struct xt_client *c, unsigned n) {
	return (unsigned)(xt_random(c) >> 20) % n;
}

void xt_token(struct xt_client *c, char *out) {
	snprintf(out, XT_TOKEN, "tok-%d-%u-%u-%08x", c->id, c->session, ++c->op, (unsigned)(xt_random(c) >> 32));
}

struct expect *xt_expect(struct xt_client *c, enum expect_kind kind) {
	struct expect *e;

	if (c->expect_to == c->expect_cap) {
		c->expect_cap = c->expect_cap * 2 + 64;
		c->expects = realloc(c->expects, c->expect_cap * sizeof(*c->expects));
		if (!c->expects)
			abort();
	}
	e = &c->expects[c->expect_to++];
	memset(e, 0, sizeof(*e));
	e->kind = kind;
	return e;
}

static void expect_types(struct xt_client *c, const char *types) {
	for (; *types; types++)
		xt_expect(c, XT_TYPE)->type = *types;
}

static void expect_text(struct xt_client *c, enum expect_kind kind, const char *text) {
	struct expect *e = xt_expect(c, kind);

	snprintf(e->text, sizeof(e->text), "%s", text);
	e->repeat = 1;
}

static void expect_ready(struct xt_client *c, char state) {
	xt_expect(c, XT_READY)->state = state;
}

static void expect_error(struct xt_client *c, const char *sqlstate, const char *text) {
	struct expect *e = xt_expect(c, XT_ERROR);

	snprintf(e->sqlstate, sizeof(e->sqlstate), "%s", sqlstate);
	snprintf(e->text, sizeof(e->text), "%s", text);
}

__attribute__((format(printf, 2, 3))) static void send_sql(struct xt_client *c, const char *fmt, ...) {
	char sql[1000];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(sql, sizeof(sql), fmt, ap);
	va_end(ap);
	put_query(&c->out, sql);
}

static void expect_value(struct xt_client *c, const char *text) {
	expect_types(c, "T");
	expect_text(c, XT_ROW, text);
	expect_text(c, XT_TAG, "SELECT 1");
}

/* Simple queries */

static bool simple(struct xt_client *c, int phase) {
	char token[XT_TOKEN];

	if (phase > 0)
		return false;
	xt_token(c, token);
	send_sql(c, "select '%s'", token);
	expect_value(c, token);
	expect_ready(c, 'I');
	return true;
}

static bool several_simple(struct xt_client *c, int phase) {
	unsigned queries = 2 + xt_below(c, 4);

	if (phase > 0)
		return false;
	/* Several simple queries without waiting, each of two statements. */
	for (unsigned i = 0; i < queries; i++) {
		char one[XT_TOKEN], two[XT_TOKEN];

		xt_token(c, one);
		xt_token(c, two);
		send_sql(c, "select '%s'; select '%s' from generate_series(1,3)", one, two);
		expect_value(c, one);
		expect_types(c, "T");
		for (int j = 0; j < 3; j++)
			expect_text(c, XT_ROW, two);
		expect_text(c, XT_TAG, "SELECT 3");
		expect_ready(c, 'I');
	}
	return true;
}

static bool simple_error(struct xt_client *c, int phase) {
	char token[XT_TOKEN];

	if (phase > 0)
		return false;
	xt_token(c, token);
	if (xt_below(c, 2)) {
		send_sql(c, "select '%s'::int", token);
		expect_error(c, "22P02", token);
	} else {
		send_sql(c, "select xt_fail('%s')", token);
		expect_types(c, "T");
		expect_error(c, "FB001", token);
	}
	expect_ready(c, 'I');
	return true;
}

static bool notice(struct xt_client *c, int phase) {
	char token[XT_TOKEN];

	if (phase > 0)
		return false;
	xt_token(c, token);
	send_sql(c, "select xt_say('%s')", token);
	c->notices++;
	expect_value(c, token);
	expect_ready(c, 'I');
	return true;
}

static bool settings(struct xt_client *c, int phase) {
	char name[XT_TOKEN];

	if (phase > 0)
		return false;
	snprintf(name, sizeof(name), "tok-%d-app", c->id);
	send_sql(c, "select current_setting('application_name')");
	expect_value(c, name);
	expect_ready(c, 'I');
	return true;
}

static bool slow(struct xt_client *c, int phase) {
	char token[XT_TOKEN];

	if (phase > 0)
		return false;
	xt_token(c, token);
	send_sql(c, "select '%s' from pg_sleep(0.00%u)", token, 1 + xt_below(c, 9));
	expect_value(c, token);
	expect_ready(c, 'I');
	return true;
}

/* Extended queries */

static unsigned random_repeat(struct xt_client *c) {
	unsigned dice = xt_below(c, 1000);

	if (dice < 3)
		return 20000 + xt_below(c, 20000); /* up to 1 MB and more */
	if (dice < 60)
		return 200 + xt_below(c, 2000);
	return 1 + xt_below(c, 20);
}

static bool large_answer(struct xt_client *c, int phase) {
	char token[XT_TOKEN], sql[300];
	struct expect *e;

	if (phase > 0)
		return false;
	xt_token(c, token);
	snprintf(sql, sizeof(sql), "select repeat($1, %u)", random_repeat(c));
	put_parse(&c->out, "", sql);
	put_bind(&c->out, "", token);
	put_execute(&c->out);
	put_sync(&c->out);
	expect_types(c, "12T");
	e = xt_expect(c, XT_ROW);
	snprintf(e->text, sizeof(e->text), "%s", token);
	e->repeat = (unsigned)atoi(strchr(sql, ',') + 1);
	expect_text(c, XT_TAG, "SELECT 1");
	expect_ready(c, 'I');
	return true;
}

static bool large_parameter(struct xt_client *c, int phase) {
	char token[XT_TOKEN], expected[XT_TEXT];
	unsigned n = random_repeat(c);
	struct bytes value = {0};

	if (phase > 0)
		return false;
	xt_token(c, token);
	for (unsigned i = 0; i < n; i++)
		bytes_add(&value, token, strlen(token));
	bytes_add(&value, "", 1);
	snprintf(expected, sizeof(expected), "%u %s", n, token);
	put_parse(&c->out, "", "select length($1) / length(right($1, $2::int)) || ' ' || right($1, $2::int)");
	{
		char length[32];

		snprintf(length, sizeof(length), "%zu", strlen(token));
		put_message(&c->out, 'B', "sshhvvh", "", "", 0, 2, (const char *)value.at, length, 0);
	}
	bytes_free(&value);
	put_execute(&c->out);
	put_sync(&c->out);
	expect_types(c, "12T");
	expect_text(c, XT_ROW, expected);
	expect_text(c, XT_TAG, "SELECT 1");
	expect_ready(c, 'I');
	return true;
}

static bool portal_in_pieces(struct xt_client *c, int phase) {
	char token[XT_TOKEN], sql[300];

	if (phase > 0)
		return false;
	xt_token(c, token);
	snprintf(sql, sizeof(sql), "select '%s' from generate_series(1,5)", token);
	put_parse(&c->out, "", sql);
	put_message(&c->out, 'B', "sshhh", "piece", "", 0, 0, 0);
	put_message(&c->out, 'E', "si", "piece", 2);
	put_message(&c->out, 'E', "si", "piece", 0);
	put_message(&c->out, 'C', "cs", 'P', "piece");
	put_sync(&c->out);
	expect_types(c, "12");
	expect_text(c, XT_ROW, token);
	expect_text(c, XT_ROW, token);
	expect_types(c, "s");
	for (int i = 0; i < 3; i++)
		expect_text(c, XT_ROW, token);
	expect_text(c, XT_TAG, "SELECT 3");
	expect_types(c, "3");
	expect_ready(c, 'I');
	return true;
}

static const char *statement_name(int i, char *out) {
	sprintf(out, "statement_%d", i);
	return out;
}

static void statement_prefix(const struct xt_client *c, int name, int generation, char *out) {
	snprintf(out, XT_TOKEN, "tok-%d-%u-s%d-g%d:", c->id, c->session, name, generation);
}

static void put_statement(struct xt_client *c, int name, int generation) {
	char prefix[XT_TOKEN], sql[300], word[32];

	statement_prefix(c, name, generation, prefix);
	snprintf(sql, sizeof(sql), "select '%s' || $1", prefix);
	put_parse(&c->out, statement_name(name, word), sql);
}

static void execute_statement(struct xt_client *c, int name, int generation, bool expected) {
	char token[XT_TOKEN], text[XT_TEXT], word[32];

	xt_token(c, token);
	statement_prefix(c, name, generation, text);
	strcat(text, token);
	if (xt_below(c, 8) == 0) {
		put_message(&c->out, 'D', "cs", 'S', statement_name(name, word));
		if (expected)
			expect_types(c, "tT");
	}
	put_bind(&c->out, statement_name(name, word), token);
	put_execute(&c->out);
	if (expected) {
		expect_types(c, "2T");
		expect_text(c, XT_ROW, text);
		expect_text(c, XT_TAG, "SELECT 1");
	}
}

/* One message or two of a group, for statement `name`, of which this group has the sole use where it changes it.
 * Returns false when the group has failed with it: nothing more is answered up to its Sync. */
static bool group_step(struct xt_client *c, bool *exists, int *generation, int name, bool answered) {
	char token[XT_TOKEN], word[32];

	statement_name(name, word);
	switch (xt_below(c, 10)) {
	case 0: /* Close, there or not */
		put_message(&c->out, 'C', "cs", 'S', word);
		if (answered) {
			xt_expect(c, XT_CLOSED)->name = name;
			*exists = false;
		}
		return true;
	case 1: /* a Parse that fails */
		xt_token(c, token);
		if (*exists)
			break;
		{
			char sql[300];

			snprintf(sql, sizeof(sql), "select '%s'::int", token);
			put_parse(&c->out, word, sql);
		}
		if (answered)
			expect_error(c, "22P02", token);
		return !answered;
	case 2: /* an execution that fails */
		xt_token(c, token);
		put_parse(&c->out, "", "select xt_fail($1)");
		put_bind(&c->out, "", token);
		put_execute(&c->out);
		if (answered) {
			expect_types(c, "12T");
			expect_error(c, "FB001", token);
		}
		return !answered;
	case 3: /* Parse of a name that is taken, or Bind of one that is not */
		if (*exists)
			put_statement(c, name, ++c->generations);
		else
			put_bind(&c->out, word, "x");
		if (answered)
			expect_error(c, *exists ? "42P05" : "26000", "");
		return !answered;
	default:
		break;
	}
	if (!*exists) {
		int next = ++c->generations;

		put_statement(c, name, next);
		if (answered) {
			struct expect *e = xt_expect(c, XT_PARSED);

			e->name = name;
			e->generation = next;
			*exists = true;
			*generation = next;
		} else {
			return true;
		}
	}
	execute_statement(c, name, *generation, answered);
	return true;
}

static bool pipeline(struct xt_client *c, int phase) {
	unsigned groups = 1 + xt_below(c, 4);

	if (phase > 0)
		return false;
	for (unsigned g = 0; g < groups; g++) {
		bool exists[XT_NAMES], answered = true;
		int generation[XT_NAMES];
		unsigned steps = 1 + xt_below(c, 6);

		memcpy(exists, c->statement, sizeof(exists));
		memcpy(generation, c->generation, sizeof(generation));
		for (unsigned i = 0; i < steps; i++) {
			/* Each group has names of its own, so that a cancel in one says nothing about another. */
			int name = (int)(g < XT_NAMES - 4 && xt_below(c, 2) ? g + 4 : g);

			answered = group_step(c, &exists[name], &generation[name], name, answered) && answered;
		}
		put_sync(&c->out);
		expect_ready(c, 'I');
	}
	return true;
}

static bool deallocate_all(struct xt_client *c, int phase) {
	if (phase == 0) {
		send_sql(c, "deallocate all");
		expect_text(c, XT_TAG, "DEALLOCATE ALL");
		expect_ready(c, 'I');
		return true;
	}
	if (phase == 1 && !c->aborted)
		memset(c->statement, 0, sizeof(c->statement));
	return false;
}

/* COPY */

static bool copy_out(struct xt_client *c, int phase) {
	char token[XT_TOKEN], sql[300];
	unsigned n = xt_below(c, 20) == 0 ? 5000 : 1 + xt_below(c, 50);

	if (phase > 0)
		return false;
	xt_token(c, token);
	snprintf(sql, sizeof(sql), "copy (select '%s' from generate_series(1,%u)) to stdout", token, n);
	c->extended = xt_below(c, 2);
	if (c->extended) {
		put_parse(&c->out, "", sql);
		put_bind(&c->out, "", NULL);
		put_message(&c->out, 'E', "si", "", 0);
		put_sync(&c->out);
		expect_types(c, "12");
	} else {
		put_query(&c->out, sql);
	}
	expect_types(c, "H");
	for (unsigned i = 0; i < n; i++)
		expect_text(c, XT_COPY, token);
	expect_types(c, "c");
	expect_text(c, XT_TAG, "COPY");
	expect_ready(c, 'I');
	return true;
}

enum copy_end { COPY_GOOD, COPY_BAD_ROW, COPY_FAIL };

static void put_copy_rows(struct xt_client *c, unsigned n, enum copy_end end) {
	char line[XT_TEXT];

	for (unsigned i = 0; i < n; i++) {
		size_t len;

		if (end == COPY_BAD_ROW && i == n / 2)
			snprintf(line, sizeof(line), "%s\tx\n", c->token);
		else
			snprintf(line, sizeof(line), "%d\t%s\n", c->id, c->token);
		len = strlen(line);
		put_message(&c->out, 'd', "b", len, line);
	}
	if (end == COPY_FAIL)
		put_message(&c->out, 'f', "s", c->token);
	else
		put_message(&c->out, 'c', "");
	if (c->extended)
		put_sync(&c->out);
}

static void expect_copied(struct xt_client *c, unsigned n, enum copy_end end) {
	char tag[32];

	snprintf(tag, sizeof(tag), "COPY %u", n);
	if (end == COPY_GOOD)
		expect_text(c, XT_TAG, tag);
	else
		expect_error(c, end == COPY_FAIL ? "57014" : "22P02", c->token);
	expect_ready(c, end == COPY_GOOD ? 'T' : 'E');
}

/* begin; COPY IN, now and then one that fails; count; rollback. */
static bool copy_in(struct xt_client *c, int phase) {
	enum copy_end end = (enum copy_end)(c->number % 4 < 3 ? c->number % 4 : 0);
	unsigned n = 2 + (unsigned)c->number % 97;
	char expected[XT_TEXT];

	if (c->aborted && phase > 0) {
		if (!c->extended && c->status == 'T') { /* it was hit before it asked for data: it is over */
			expect_ready(c, 'E');
			return true;
		}
		/* In the extended protocol, nothing is answered after an error before Sync. */
		if (!c->extended)
			return false;
		c->extended = false;
		put_sync(&c->out);
		expect_ready(c, 'E');
		return true;
	}
	switch (phase) {
	case 0:
		xt_token(c, c->token);
		c->number = (int)xt_below(c, 10000);
		c->extended = false;
		send_sql(c, "begin");
		expect_text(c, XT_TAG, "BEGIN");
		expect_ready(c, 'T');
		return true;
	case 1:
		c->extended = xt_below(c, 2);
		if (c->extended) {
			put_parse(&c->out, "", "copy xt_sink from stdin");
			put_bind(&c->out, "", NULL);
			put_message(&c->out, 'E', "si", "", 0);
			put_message(&c->out, 'H', "");
			expect_types(c, "12G");
			return true;
		}
		send_sql(c, "copy xt_sink from stdin");
		expect_types(c, "G");
		if (xt_below(c, 2)) {
			/* Data at once, without waiting to be asked. */
			put_copy_rows(c, n, end);
			expect_copied(c, n, end);
			c->phase++;
		}
		return true;
	case 2:
		put_copy_rows(c, n, end);
		c->extended = false;
		expect_copied(c, n, end);
		return true;
	case 3:
		if (end != COPY_GOOD)
			return false;
		send_sql(c, "select count(*) || ' ' || min(v) from xt_sink where client = %d", c->id);
		snprintf(expected, sizeof(expected), "%u %s", n, c->token);
		expect_value(c, expected);
		expect_ready(c, 'T');
		return true;
	default:
		return false; /* rolled back by who called */
	}
}

/* Transactions */

static bool transaction(struct xt_client *c, int phase) {
	char token[XT_TOKEN];

	if (phase > 0 && c->aborted)
		return false;
	xt_token(c, token);
	if (phase == 0) {
		c->number = 2 + (int)xt_below(c, 5);
		xt_token(c, c->token);
		send_sql(c, "begin; set local xt.token = '%s'", c->token);
		expect_text(c, XT_TAG, "BEGIN");
		expect_text(c, XT_TAG, "SET");
		expect_ready(c, 'T');
		return true;
	}
	if (phase < c->number) {
		/* Still on the server where the transaction began. */
		put_parse(&c->out, "", "select current_setting('xt.token', true)");
		put_bind(&c->out, "", NULL);
		put_execute(&c->out);
		put_sync(&c->out);
		expect_types(c, "12T");
		expect_text(c, XT_ROW, c->token);
		expect_text(c, XT_TAG, "SELECT 1");
		expect_ready(c, 'T');
		return true;
	}
	if (phase == c->number) {
		bool fail = xt_below(c, 4) == 0;

		if (fail) {
			send_sql(c, "select '%s'::int", token);
			expect_error(c, "22P02", token);
			expect_ready(c, 'E');
			return true;
		}
		send_sql(c, "commit; select coalesce(current_setting('xt.token', true), '') || '%s'", token);
		expect_text(c, XT_TAG, "COMMIT");
		expect_value(c, token);
		expect_ready(c, 'I');
		return true;
	}
	return false;
}

xt_unit xt_pick(struct xt_client *c, const char **name) {
	static const struct {
		xt_unit unit;
		const char *name;
		unsigned weight;
	} units[] = {
		{simple, "simple", 10},
		{several_simple, "several simple", 6},
		{simple_error, "simple error", 6},
		{notice, "notice", 4},
		{settings, "settings", 6},
		{slow, "slow", 6},
		{large_answer, "large answer", 10},
		{large_parameter, "large parameter", 8},
		{portal_in_pieces, "portal in pieces", 4},
		{pipeline, "pipeline", 26},
		{deallocate_all, "deallocate all", 1},
		{copy_out, "copy out", 6},
		{copy_in, "copy in", 8},
		{transaction, "transaction", 8},
	};
	unsigned total = 0, dice;

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		total += units[i].weight;
	dice = xt_below(c, total);
	for (size_t i = 0;; i++) {
		if (dice < units[i].weight) {
			*name = units[i].name;
			return units[i].unit;
		}
		dice -= units[i].weight;
	}
}
