/* The stub as a PostgreSQL 15 that lets everybody in. */
#include "stub.h"

#include <unistd.h>

static struct bytes login, row, described, large_block;

static void add_parameter(struct bytes *b, const char *name, const char *value)
{
	size_t at = bytes_begin(b, 'S');

	bytes_str(b, name);
	bytes_str(b, value);
	bytes_end(b, at);
}

static void add_ready(struct bytes *b, bool in_transaction)
{
	size_t at = bytes_begin(b, 'Z');

	bytes_add(b, in_transaction ? "T" : "I", 1);
	bytes_end(b, at);
}

static void add_tag(struct bytes *b, const char *tag)
{
	size_t at = bytes_begin(b, 'C');

	bytes_str(b, tag);
	bytes_end(b, at);
}

static void add_row(struct bytes *b, const char *value, size_t len)
{
	size_t at = bytes_begin(b, 'D');

	bytes_16(b, 1);
	bytes_32(b, (uint32_t)len);
	bytes_add(b, value, len);
	bytes_end(b, at);
}

static void add_empty(struct bytes *b, char type)
{
	size_t at = bytes_begin(b, type);

	bytes_end(b, at);
}

static void prepare_answers(void)
{
	static const char *const parameters[][2] = {
		{ "in_hot_standby", "off" },
		{ "integer_datetimes", "on" },
		{ "TimeZone", "Etc/UTC" },
		{ "IntervalStyle", "postgres" },
		{ "is_superuser", "off" },
		{ "application_name", "" },
		{ "default_transaction_read_only", "off" },
		{ "DateStyle", "ISO, MDY" },
		{ "standard_conforming_strings", "on" },
		{ "session_authorization", "bench" },
		{ "client_encoding", "UTF8" },
		{ "server_version", "15.14 (stub)" },
		{ "server_encoding", "UTF8" },
	};
	char value[LARGE_ROW];
	size_t at = bytes_begin(&login, 'R');

	bytes_32(&login, 0);
	bytes_end(&login, at);
	for (size_t i = 0; i < sizeof parameters / sizeof *parameters; i++)
		add_parameter(&login, parameters[i][0], parameters[i][1]);
	at = bytes_begin(&login, 'K');
	bytes_32(&login, (uint32_t)getpid());
	bytes_32(&login, 4711);
	bytes_end(&login, at);
	add_ready(&login, false);

	at = bytes_begin(&described, 'T');
	bytes_16(&described, 1);
	bytes_str(&described, "abalance");
	bytes_32(&described, 0);
	bytes_16(&described, 0);
	bytes_32(&described, 23); /* int4 */
	bytes_16(&described, 4);
	bytes_32(&described, UINT32_MAX);
	bytes_16(&described, 0);
	bytes_end(&described, at);

	add_row(&row, "-4711", 5);

	memset(value, 'x', sizeof value);
	for (int i = 0; i < LARGE_BLOCK_ROWS; i++)
		add_row(&large_block, value, sizeof value);
}

static void add_bytes(struct bytes *b, const struct bytes *from) { bytes_add(b, from->data, from->len); }

static void answer_query(struct conn *c, struct bytes *b, const char *sql)
{
	while (*sql == ' ' || *sql == '\n' || *sql == '\t' || *sql == ';')
		sql++;
	if (!*sql) {
		add_empty(b, 'I');
	} else if (stub_is_word(sql, "BEGIN") || stub_is_word(sql, "START")) {
		c->in_transaction = true;
		add_tag(b, "BEGIN");
	} else if (stub_is_word(sql, "COMMIT") || stub_is_word(sql, "END")) {
		c->in_transaction = false;
		add_tag(b, "COMMIT");
	} else if (stub_is_word(sql, "ROLLBACK")) {
		c->in_transaction = false;
		add_tag(b, "ROLLBACK");
	} else if (stub_is_word(sql, "SET")) {
		add_tag(b, "SET");
	} else if (stub_is_word(sql, "RESET")) {
		add_tag(b, "RESET");
	} else if (stub_is_word(sql, "DISCARD")) {
		add_tag(b, "DISCARD ALL");
	} else if (stub_is_word(sql, "DEALLOCATE")) {
		add_tag(b, "DEALLOCATE");
	} else if (!strncmp(sql, "SELECT /* large ", 16)) {
		add_bytes(b, &described);
		c->large = &large_block;
		c->large_rows = strtoull(sql + 16, NULL, 10) * 1024 * 1024 / LARGE_ROW;
		return; /* tag and ReadyForQuery come behind the rows */
	} else {
		add_bytes(b, &described);
		add_bytes(b, &row);
		add_tag(b, "SELECT 1");
	}
	add_ready(b, c->in_transaction);
}

static void answer_describe(struct bytes *b, const char *body)
{
	if (*body == 'S') {
		size_t at = bytes_begin(b, 't');

		bytes_16(b, 0);
		bytes_end(b, at);
	}
	add_bytes(b, &described);
}

/* One whole message; body ends in a zero byte of ours. False when the connection is over. */
static bool answer(struct conn *c, struct bytes *b, char type, const char *body)
{
	switch (type) {
	case 'Q':
		answer_query(c, b, body);
		return true;
	case 'P':
		c->begins = stub_is_word(body + strlen(body) + 1, "BEGIN");
		add_empty(b, '1');
		return true;
	case 'B':
		add_empty(b, '2');
		return true;
	case 'D':
		answer_describe(b, body);
		return true;
	case 'E':
		if (c->begins) {
			c->begins = false;
			c->in_transaction = true;
			add_tag(b, "BEGIN");
			return true;
		}
		add_bytes(b, &row);
		add_tag(b, "SELECT 1");
		return true;
	case 'C':
		add_empty(b, '3');
		return true;
	case 'S':
		add_ready(b, c->in_transaction);
		return true;
	case 'H':
		return true;
	default: /* Terminate, or what this stub does not speak */
		return false;
	}
}

static bool startup(struct conn *c, struct bytes *b, const char *packet)
{
	switch (get32(packet + 4)) {
	case PG_SSL_REQUEST:
		bytes_add(b, stub_has_tls() ? "S" : "N", 1);
		if (stub_has_tls())
			c->state = STUB_TLS;
		return true;
	case PG_GSS_REQUEST:
		bytes_add(b, "N", 1);
		return true;
	case PG_VERSION_3:
		add_bytes(b, &login);
		c->state = STUB_READY;
		return true;
	default: /* a cancel request: there is never anything to cancel */
		return false;
	}
}

static ssize_t consume(struct conn *c, struct bytes *b, char *data, size_t len)
{
	size_t at = 0;

	while (!c->large_rows) {
		size_t head = c->state == STUB_STARTUP ? 0 : 1;

		if (c->state == STUB_TLS || len - at < head + 4)
			break;
		uint32_t body = get32(data + at + head);

		if (body < (head ? 4U : 8U) || body > MESSAGE_MAX)
			return -1;
		if (len - at < head + body)
			break;
		char *end = data + at + head + body, kept = *end;
		bool going;

		*end = 0; /* there is always one byte more in the buffer */
		going = head ? answer(c, b, data[at], data + at + 5) : startup(c, b, data + at);
		*end = kept;
		if (!going)
			return -1;
		at += head + body;
	}
	return (ssize_t)at;
}

static void end_large(struct conn *c, struct bytes *b)
{
	add_tag(b, "SELECT");
	add_ready(b, c->in_transaction);
}

const struct stub_protocol stub_postgresql = { prepare_answers, NULL, consume, end_large };
