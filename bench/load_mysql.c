/* MySQL: what is sent, put together once, and what comes. */
#include "load.h"

#include "mysql_wire.h"

/* What is asked for, as far as the server offers it. */
static const uint32_t wanted = MYSQL_LONG_PASSWORD | MYSQL_LONG_FLAG | MYSQL_CONNECT_WITH_DB | MYSQL_PROTOCOL_41 |
			       MYSQL_TRANSACTIONS | MYSQL_SECURE_CONNECTION | MYSQL_MULTI_RESULTS | MYSQL_PS_MULTI_RESULTS |
			       MYSQL_PLUGIN_AUTH | MYSQL_DEPRECATE_EOF;

/* The parts of an answer. */
enum part { PART_FIRST, PART_COLUMNS, PART_ROWS, PART_DEFINITIONS };

enum { FIRST_MAX = 512 /* bytes of an answer's first packet that are looked at */ };

/* ---- what is sent ---- */

static void add_command(struct bytes *b, unsigned char command, const char *text)
{
	size_t at = packet_begin(b, 0);

	bytes_add(b, &command, 1);
	bytes_add(b, text, strlen(text));
	packet_end(b, at);
}

static char *large_sql(void)
{
	char *sql;

	if (asprintf(&sql, "SELECT /* large %d */ repeat('x', 1000) FROM seq_1_to_%d", conf.mib,
		     (int)((int64_t)conf.mib * 1024 * 1024 / 1000)) < 0)
		fail("out of memory");
	return sql;
}

/* An answer to the server's greeting. */
static void add_startup(struct bytes *b, const char *database)
{
	size_t at = packet_begin(b, 1);

	bytes_low(b, wanted, 4);
	bytes_low(b, 1 << 24, 4); /* the largest packet */
	bytes_low(b, 45, 1);	  /* utf8mb4_general_ci */
	bytes_add(b, (char[23]){ 0 }, 23);
	bytes_str(b, conf.user);
	bytes_low(b, 0, 1); /* no password */
	bytes_str(b, database);
	bytes_str(b, "mysql_native_password");
	packet_end(b, at);
}

static void prepare_startups(void)
{
	int count = conf.databases ? conf.databases : 1;

	conf.startups = calloc((size_t)count, sizeof *conf.startups);
	if (!conf.startups)
		fail("out of memory");
	for (int i = 0; i < count; i++) {
		char *numbered;

		if (asprintf(&numbered, "%s%d", conf.database, i) < 0)
			fail("out of memory");
		add_startup(&conf.startups[i], conf.databases ? numbered : conf.database);
		free(numbered);
	}
}

static void prepare_requests(void)
{
	char *large = large_sql();

	prepare_startups();
	conf.round_trips = 1;
	if (conf.mode == PREPARED) {
		add_command(&conf.prepare, MYSQL_STMT_PREPARE, conf.sql);
	} else if (conf.mode == TRANSACTION) {
		add_command(&conf.requests[0], MYSQL_QUERY, "BEGIN");
		add_command(&conf.requests[1], MYSQL_QUERY, conf.sql);
		add_command(&conf.requests[2], MYSQL_QUERY, "COMMIT");
		conf.round_trips = 3;
	} else {
		add_command(&conf.requests[0], MYSQL_QUERY, conf.sql);
	}
	if (conf.mode == IDLE && conf.touch)
		add_command(&conf.prepare, MYSQL_QUERY, conf.sql);
	if (conf.mode == SLOW)
		add_command(&conf.slow_request, MYSQL_QUERY, large);
	free(large);
}

/* As client libraries do, the types of parameters go with the first execution only. */
static void add_execute(struct bytes *b, uint32_t id, unsigned parameters, bool with_types)
{
	size_t at = packet_begin(b, 0);

	bytes_low(b, MYSQL_STMT_EXECUTE, 1);
	bytes_low(b, id, 4);
	bytes_low(b, 0, 1); /* no cursor */
	bytes_low(b, 1, 4);
	if (parameters) {
		for (unsigned i = 0; i < (parameters + 7) / 8; i++)
			bytes_low(b, 0, 1);
		bytes_low(b, with_types, 1);
		for (unsigned i = 0; with_types && i < parameters; i++)
			bytes_low(b, MYSQL_TYPE_LONG, 2);
		for (unsigned i = 0; i < parameters; i++)
			bytes_low(b, conf.parameter ? (uint32_t)strtoul(conf.parameter, NULL, 10) : 4711, 4);
	}
	packet_end(b, at);
}

/* ---- what comes ---- */

/* The text of an error, behind its first byte. */
static const char *error_text(const char *body, size_t len, char *text, size_t size)
{
	if (len < 9)
		return "an error without a text";
	snprintf(text, size, "%u %.*s", get_low(body, 2), (int)(len - 8), body + 8);
	return text;
}

/* The answer to a greeting, without what the server does not offer. NULL, or what is wrong. */
static const char *take_greeting(struct thread *t, struct client *c, const char *body, size_t len)
{
	const struct bytes *startup = client_startup(c);
	size_t at = 1 + strnlen(body + 1, len - 1) + 1 + 4 + 8 + 1; /* version, connection id, scramble, 0 */
	uint32_t flags;

	if (len < at + 7)
		return "the greeting is too short";
	flags = wanted & (get_low(body + at, 2) | get_low(body + at + 5, 2) << 16);
	if (conf.eof)
		flags &= ~(uint32_t)MYSQL_DEPRECATE_EOF;
	c->no_eof = flags & MYSQL_DEPRECATE_EOF;
	c->login_out.len = 0;
	bytes_add(&c->login_out, startup->data, startup->len);
	put_low(c->login_out.data + MYSQL_HEADER, flags, 4);
	return client_send(t, c, &c->login_out) ? NULL : "the connection was closed during login";
}

/* Packets of a login are put together whole. NULL, or what is wrong. */
static const char *login_input(struct thread *t, struct client *c, const char *data, size_t len)
{
	static _Thread_local char text[256];
	const char *wrong;
	size_t at = 0;

	bytes_add(&c->login_in, data, len);
	while (c->login_in.len - at >= MYSQL_HEADER) {
		const char *body = c->login_in.data + at + MYSQL_HEADER;
		size_t size = get_low(body - MYSQL_HEADER, 3);

		if (!size)
			return "an empty packet in a login";
		if (c->login_in.len - at - MYSQL_HEADER < size)
			break;
		at += MYSQL_HEADER + size;
		switch ((unsigned char)body[0]) {
		case 10: /* the greeting */
			wrong = take_greeting(t, c, body, size);
			if (wrong)
				return wrong;
			break;
		case MYSQL_END:
			/* Another method: none needs more than nothing where there is no password. */
			c->login_out.len = 0;
			packet_end(&c->login_out, packet_begin(&c->login_out, (unsigned char)(body[-1] + 1)));
			if (!client_send(t, c, &c->login_out))
				return "the connection was closed during login";
			break;
		case MYSQL_ERR:
			return error_text(body + 1, size - 1, text, sizeof text);
		case MYSQL_OK:
			free(c->login_in.data);
			free(c->login_out.data);
			c->login_in = c->login_out = (struct bytes){ 0 };
			return client_ready(t, c) ? NULL : "the connection was closed after login";
		default:
			return "a packet in the login that makes no sense";
		}
	}
	memmove(c->login_in.data, c->login_in.data + at, c->login_in.len - at);
	c->login_in.len -= at;
	return NULL;
}

static bool is_over(struct thread *t, struct client *c)
{
	c->part = PART_FIRST;
	return client_ready(t, c);
}

static bool prepared(struct client *c, const char *body, uint32_t size)
{
	uint32_t id, columns, parameters;

	if (size < 12)
		return false;
	id = get_low(body + 1, 4);
	columns = get_low(body + 5, 2);
	parameters = get_low(body + 7, 2);
	add_execute(&c->own[0], id, parameters, true);
	add_execute(&c->own[1], id, parameters, false);
	c->part = PART_DEFINITIONS;
	c->parts_left = columns + parameters;
	if (!c->no_eof)
		c->parts_left += (columns > 0) + (parameters > 0);
	return true;
}

/* The first packet of an answer. */
static bool first_packet(struct thread *t, struct client *c, const char *body, uint32_t here)
{
	unsigned char first = (unsigned char)body[0];

	if (first == MYSQL_ERR) {
		char text[256];

		client_error(t, error_text(body + 1, here - 1, text, sizeof text));
		return is_over(t, c);
	}
	if (c->state == CLIENT_PREPARING && conf.mode == PREPARED) {
		if (!prepared(c, body, here))
			return false;
		return c->parts_left || is_over(t, c);
	}
	if (first == MYSQL_OK)
		return is_over(t, c);
	c->part = PART_COLUMNS;
	c->parts_left = first + (c->no_eof ? 0U : 1U);
	return first <= 250;
}

/* A packet, of which so many bytes are `here`. False if the connection must go. */
static bool packet(struct thread *t, struct client *c, const char *body, uint32_t size, uint32_t here)
{
	if (!size)
		return false;
	switch ((enum part)c->part) {
	case PART_FIRST:
		return first_packet(t, c, body, here);
	case PART_COLUMNS:
		if (!--c->parts_left)
			c->part = PART_ROWS;
		return true;
	case PART_DEFINITIONS:
		return --c->parts_left || is_over(t, c);
	case PART_ROWS:
		if ((unsigned char)body[0] == MYSQL_ERR)
			return first_packet(t, c, body, here);
		/* The end has no 9 bytes more, and a value that begins so has 16 MiB. */
		if ((unsigned char)body[0] == MYSQL_END && size < 0xffffff)
			return is_over(t, c);
		t->rows++;
	}
	return true;
}

/* How much of a packet must be there before it can be looked at: all of one that says something, the first byte of the rest. */
static uint32_t needed(const struct client *c, uint32_t size)
{
	return c->part == PART_FIRST ? (size < FIRST_MAX ? size : FIRST_MAX) : size ? 1 : 0;
}

/* Walks packets; true until the connection must go. Bodies are skipped, as far as they are here. */
static bool answer_input(struct thread *t, struct client *c, const char *data, size_t len)
{
	if (c->login_in.len) {
		bytes_add(&c->login_in, data, len);
		data = c->login_in.data;
		len = c->login_in.len;
	}
	bool kept = c->login_in.len, going = true;

	while (going && len) {
		if (c->body_left) {
			size_t n = c->body_left < len ? c->body_left : len;

			c->body_left -= (uint32_t)n;
			data += n;
			len -= n;
			continue;
		}
		uint32_t size = len < MYSQL_HEADER ? 0 : get_low(data, 3), head = MYSQL_HEADER + needed(c, size);

		if (len < MYSQL_HEADER || len < head)
			break;
		const char *body = data + MYSQL_HEADER;

		/* Skipped now as far as it is here: the client may be another's after this. */
		size_t here = len < MYSQL_HEADER + size ? len : MYSQL_HEADER + size;

		c->body_left = MYSQL_HEADER + size - (uint32_t)here;
		data += here;
		len -= here;
		going = packet(t, c, body, size, (uint32_t)here - MYSQL_HEADER);
		if (conf.mode == CONNECT && c->state != CLIENT_BUSY)
			return going;
	}
	if (!going)
		return false;
	/* What is left is the beginning of a packet. */
	if (kept) {
		memmove(c->login_in.data, data, len);
		c->login_in.len = len;
	} else {
		bytes_add(&c->login_in, data, len);
	}
	return true;
}

static char quit[] = { 1, 0, 0, 0, MYSQL_QUIT };
static const struct bytes goodbye = { .data = quit, .len = sizeof quit };

const struct load_protocol load_mysql = {
	.server_speaks_first = true,
	.prepare_requests = prepare_requests,
	.large_sql = large_sql,
	.sql = "SELECT c FROM sbtest1 WHERE id=4711",
	.login_input = login_input,
	.answer_input = answer_input,
	.goodbye = &goodbye,
};
