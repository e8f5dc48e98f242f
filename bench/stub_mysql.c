/* The stub as a MariaDB 10.11 that lets everybody in. */
#include "stub.h"

#include <strings.h>

#include "mysql_wire.h"

enum kind { KIND_SELECT, KIND_BEGIN, KIND_COMMIT, KIND_SET, KIND_TRACK };

static const char version[] = "5.5.5-10.11.14-MariaDB-stub";
static const char scramble[] = "abcdefghijklmnopqrst";
static const uint32_t offered = MYSQL_LONG_FLAG | MYSQL_CONNECT_WITH_DB | MYSQL_LOCAL_FILES | MYSQL_PROTOCOL_41 |
				MYSQL_TRANSACTIONS | MYSQL_SECURE_CONNECTION | MYSQL_MULTI_STATEMENTS | MYSQL_MULTI_RESULTS |
				MYSQL_PS_MULTI_RESULTS | MYSQL_PLUGIN_AUTH | MYSQL_CONNECT_ATTRS | MYSQL_PLUGIN_AUTH_LENENC |
				MYSQL_SESSION_TRACK | MYSQL_DEPRECATE_EOF;

/* A point select of sysbench brings so much. */
static const char value[] = "83868641912-28773972837-60736120486-75162659906-27563526494-20381887404-41576422241-93426793964-"
			    "56405065102-33518432330";

/* Blocks of large rows, for answers with an EOF behind their columns and without one: packets are numbered. */
static struct bytes large_block[2];

static void prepare_answers(void)
{
	char large[LARGE_ROW];

	memset(large, 'x', sizeof large);
	for (int no_eof = 0; no_eof < 2; no_eof++) {
		unsigned char sequence = no_eof ? 3 : 4;

		for (int i = 0; i < LARGE_BLOCK_ROWS; i++) {
			size_t at = packet_begin(&large_block[no_eof], sequence++);

			bytes_lenenc(&large_block[no_eof], large, sizeof large);
			packet_end(&large_block[no_eof], at);
		}
	}
	_Static_assert(LARGE_BLOCK_ROWS == 256, "the numbers of packets begin anew after 256");
}

static size_t begin_packet(struct conn *c, struct bytes *b) { return packet_begin(b, c->sequence++); }

static uint32_t status_of(const struct conn *c)
{
	return MYSQL_AUTOCOMMIT | (c->in_transaction ? MYSQL_IN_TRANSACTION : 0);
}

/* What the session trackers tell, as MariaDB does: kind, length, and what it is. */
#define TRACKED(text) ((const struct bytes){ .data = (char *)(text), .len = sizeof(text) - 1 })
#define TRACKED_ON TRACKED("\x00\x21\x1esession_track_system_variables\x01*\x02\x01" "1\x05\x09\x08________\x04\x01\x00")
#define TRACKED_BEGIN TRACKED("\x05\x09\x08T_______\x04\x13\x12START TRANSACTION;")
#define TRACKED_READ TRACKED("\x05\x09\x08T_R___S_")
#define TRACKED_COMMIT TRACKED("\x05\x09\x08________\x04\x01\x00")
#define TRACKED_NOTHING ((const struct bytes){ .len = 0 })

static void add_ok(struct conn *c, struct bytes *b, int header, struct bytes tracked)
{
	size_t at = begin_packet(c, b);
	bool tells = tracked.len && c->tells_transactions && c->capabilities & MYSQL_SESSION_TRACK;

	bytes_low(b, (uint32_t)header, 1);
	bytes_low(b, 0, 2); /* rows, insert id */
	bytes_low(b, status_of(c) | (tells ? MYSQL_STATE_CHANGED : 0), 2);
	bytes_low(b, 0, 2); /* warnings */
	if (tells) {
		bytes_low(b, 0, 1); /* no text */
		bytes_lenenc(b, tracked.data, tracked.len);
	}
	packet_end(b, at);
}

static void add_eof(struct conn *c, struct bytes *b)
{
	size_t at = begin_packet(c, b);

	bytes_low(b, MYSQL_END, 1);
	bytes_low(b, 0, 2);
	bytes_low(b, status_of(c), 2);
	packet_end(b, at);
}

static void add_end(struct conn *c, struct bytes *b)
{
	if (c->capabilities & MYSQL_DEPRECATE_EOF)
		add_ok(c, b, MYSQL_END, c->in_transaction && !c->has_read ? TRACKED_READ : TRACKED_NOTHING);
	else
		add_eof(c, b);
	c->has_read = true;
}

static void add_eof_of_columns(struct conn *c, struct bytes *b)
{
	if (!(c->capabilities & MYSQL_DEPRECATE_EOF))
		add_eof(c, b);
}

static void add_error(struct conn *c, struct bytes *b, const char *text)
{
	size_t at = begin_packet(c, b);

	bytes_low(b, MYSQL_ERR, 1);
	bytes_low(b, 1047, 2);
	bytes_add(b, "#08S01", 6);
	bytes_add(b, text, strlen(text));
	packet_end(b, at);
}

static void add_column(struct conn *c, struct bytes *b, const char *name)
{
	size_t at = begin_packet(c, b), len = strlen(name);

	bytes_lenenc(b, "def", 3);
	bytes_lenenc(b, "bench", 5);
	bytes_lenenc(b, "sbtest1", 7);
	bytes_lenenc(b, "sbtest1", 7);
	bytes_lenenc(b, name, len);
	bytes_lenenc(b, name, len);
	bytes_low(b, 12, 1);
	bytes_low(b, 45, 2); /* utf8mb4_general_ci */
	bytes_low(b, 480, 4);
	bytes_low(b, MYSQL_TYPE_STRING, 1);
	bytes_low(b, 1, 2); /* NOT NULL */
	bytes_low(b, 0, 1);
	bytes_low(b, 0, 2);
	packet_end(b, at);
}

static void add_columns(struct conn *c, struct bytes *b)
{
	size_t at = begin_packet(c, b);

	bytes_low(b, 1, 1);
	packet_end(b, at);
	add_column(c, b, "c");
	add_eof_of_columns(c, b);
}

static void add_row(struct conn *c, struct bytes *b, bool binary)
{
	size_t at = begin_packet(c, b);

	if (binary)
		bytes_low(b, 0, 2); /* what a row begins with, and which values are NULL */
	bytes_lenenc(b, value, sizeof value - 1);
	packet_end(b, at);
}

static enum kind kind_of(const char *sql)
{
	if (stub_is_word(sql, "BEGIN") || stub_is_word(sql, "START"))
		return KIND_BEGIN;
	if (stub_is_word(sql, "COMMIT") || stub_is_word(sql, "ROLLBACK"))
		return KIND_COMMIT;
	if (!stub_is_word(sql, "SET"))
		return KIND_SELECT;
	return strstr(sql, "session_track_transaction_info") ? KIND_TRACK : KIND_SET;
}

/* False for a SELECT, which has an answer of its own. */
static bool answer_simply(struct conn *c, struct bytes *b, enum kind kind)
{
	if (kind == KIND_SELECT)
		return false;
	if (kind == KIND_BEGIN || kind == KIND_COMMIT) {
		c->in_transaction = kind == KIND_BEGIN;
		c->has_read = false;
		add_ok(c, b, MYSQL_OK, kind == KIND_BEGIN ? TRACKED_BEGIN : TRACKED_COMMIT);
		return true;
	}
	if (kind == KIND_TRACK)
		c->tells_transactions = true;
	add_ok(c, b, MYSQL_OK, kind == KIND_TRACK ? TRACKED_ON : TRACKED_NOTHING);
	return true;
}

static void answer_query(struct conn *c, struct bytes *b, const char *sql)
{
	while (*sql == ' ' || *sql == '\n' || *sql == '\t')
		sql++;
	if (answer_simply(c, b, kind_of(sql)))
		return;
	add_columns(c, b);
	if (!strncmp(sql, "SELECT /* large ", 16)) {
		c->large = &large_block[c->capabilities & MYSQL_DEPRECATE_EOF ? 1 : 0];
		c->large_rows = strtoull(sql + 16, NULL, 10) * 1024 * 1024 / LARGE_ROW;
		c->sequence = (unsigned char)(c->sequence + c->large_rows);
		return;
	}
	add_row(c, b, false);
	add_end(c, b);
}

static void answer_prepare(struct conn *c, struct bytes *b, const char *sql)
{
	enum kind kind = kind_of(sql);
	unsigned columns = kind == KIND_SELECT ? 1 : 0, parameters = 0;

	for (const char *p = sql; *p; p++)
		parameters += *p == '?';
	if (c->statements == STATEMENTS_MAX) {
		add_error(c, b, "too many statements for a stub");
		return;
	}
	if (!c->kinds && !(c->kinds = malloc(STATEMENTS_MAX))) {
		add_error(c, b, "out of memory");
		return;
	}
	c->kinds[c->statements++] = (unsigned char)kind;

	size_t at = begin_packet(c, b);

	bytes_low(b, MYSQL_OK, 1);
	bytes_low(b, c->statements, 4);
	bytes_low(b, columns, 2);
	bytes_low(b, parameters, 2);
	bytes_low(b, 0, 1);
	bytes_low(b, 0, 2);
	packet_end(b, at);
	for (unsigned i = 0; i < parameters; i++)
		add_column(c, b, "?");
	if (parameters)
		add_eof_of_columns(c, b);
	if (columns) {
		add_column(c, b, "c");
		add_eof_of_columns(c, b);
	}
}

static void answer_execute(struct conn *c, struct bytes *b, const char *body, size_t len)
{
	uint32_t id = len >= 4 ? get_low(body, 4) : 0;

	if (!id || id > c->statements) {
		add_error(c, b, "no such statement");
	} else if (!answer_simply(c, b, c->kinds[id - 1])) {
		add_columns(c, b);
		add_row(c, b, true);
		add_end(c, b);
	}
}

static void reset(struct conn *c)
{
	c->in_transaction = c->tells_transactions = false;
	c->statements = 0;
}

/* One whole command; body ends in a zero byte of ours. False when the connection is over. */
static bool answer(struct conn *c, struct bytes *b, unsigned char command, const char *body, size_t len)
{
	switch (command) {
	case MYSQL_QUERY:
		answer_query(c, b, body);
		return true;
	case MYSQL_STMT_PREPARE:
		answer_prepare(c, b, body);
		return true;
	case MYSQL_STMT_EXECUTE:
		answer_execute(c, b, body, len);
		return true;
	case MYSQL_STMT_CLOSE:
	case MYSQL_STMT_SEND_LONG_DATA:
		return true;
	case MYSQL_RESET_CONNECTION:
	case MYSQL_CHANGE_USER:
		reset(c);
		/* fall through */
	case MYSQL_PING:
	case MYSQL_INIT_DB:
	case MYSQL_STMT_RESET:
		add_ok(c, b, MYSQL_OK, TRACKED_NOTHING);
		return true;
	case MYSQL_SET_OPTION:
		add_end(c, b);
		return true;
	case MYSQL_QUIT:
		return false;
	default:
		add_error(c, b, "the stub does not know this command");
		return true;
	}
}

static void greet(struct conn *c, struct bytes *b)
{
	c->sequence = 0;

	size_t at = begin_packet(c, b);

	bytes_low(b, 10, 1);
	bytes_str(b, version);
	bytes_low(b, (uint32_t)c->fd, 4);
	bytes_add(b, scramble, 8);
	bytes_low(b, 0, 1);
	bytes_low(b, offered & 0xffff, 2);
	bytes_low(b, 45, 1);
	bytes_low(b, MYSQL_AUTOCOMMIT, 2);
	bytes_low(b, offered >> 16, 2);
	bytes_low(b, sizeof scramble, 1);
	bytes_add(b, (char[10]){ 0 }, 10);
	bytes_str(b, scramble + 8);
	bytes_str(b, "mysql_native_password");
	packet_end(b, at);
}

static ssize_t consume(struct conn *c, struct bytes *b, char *data, size_t len)
{
	size_t at = 0;

	while (!c->large_rows && len - at >= MYSQL_HEADER) {
		size_t body = get_low(data + at, 3);
		char *begin = data + at + MYSQL_HEADER, *end = begin + body, kept;
		bool going = true;

		if (body > MESSAGE_MAX || !body)
			return -1;
		if (len - at - MYSQL_HEADER < body)
			break;
		kept = *end;
		*end = 0;
		c->sequence = (unsigned char)data[at + 3];
		c->sequence++;
		if (c->state == STUB_STARTUP) {
			if (body < 4)
				return -1;
			c->capabilities = get_low(begin, 4) & offered;
			c->state = STUB_READY;
			add_ok(c, b, MYSQL_OK, TRACKED_NOTHING);
		} else {
			going = answer(c, b, (unsigned char)*begin, begin + 1, body - 1);
		}
		*end = kept;
		if (!going)
			return -1;
		at += MYSQL_HEADER + body;
	}
	return (ssize_t)at;
}

const struct stub_protocol stub_mysql = { prepare_answers, greet, consume, add_end };
