/* PostgreSQL: what is sent, put together once, and what comes. */
#include "load.h"

static void add_query(struct bytes *b, const char *sql)
{
	size_t at = bytes_begin(b, 'Q');

	bytes_str(b, sql);
	bytes_end(b, at);
}

static void add_parse(struct bytes *b, const char *name)
{
	size_t at = bytes_begin(b, 'P');

	bytes_str(b, name);
	bytes_str(b, conf.sql);
	bytes_16(b, 0);
	bytes_end(b, at);
}

static void add_bind(struct bytes *b, const char *name)
{
	size_t at = bytes_begin(b, 'B');

	bytes_str(b, "");
	bytes_str(b, name);
	bytes_16(b, 0);
	bytes_16(b, conf.parameter ? 1 : 0);
	if (conf.parameter) {
		bytes_32(b, (uint32_t)strlen(conf.parameter));
		bytes_add(b, conf.parameter, strlen(conf.parameter));
	}
	bytes_16(b, 0);
	bytes_end(b, at);
}

static void add_describe(struct bytes *b)
{
	size_t at = bytes_begin(b, 'D');

	bytes_add(b, "P", 1);
	bytes_str(b, "");
	bytes_end(b, at);
}

static void add_execute(struct bytes *b)
{
	size_t at = bytes_begin(b, 'E');

	bytes_str(b, "");
	bytes_32(b, 0);
	bytes_end(b, at);
}

static void add_sync(struct bytes *b)
{
	size_t at = bytes_begin(b, 'S');

	bytes_end(b, at);
}

static char *large_sql(void)
{
	char *sql;

	if (asprintf(&sql, "SELECT /* large %d */ repeat('x', 1000) FROM generate_series(1, %d)", conf.mib,
		     (int)((int64_t)conf.mib * 1024 * 1024 / 1000)) < 0)
		fail("out of memory");
	return sql;
}

static void add_startup(struct bytes *b, const char *database)
{
	size_t at = bytes_begin(b, 0);

	bytes_32(b, PG_VERSION_3);
	bytes_str(b, "user");
	bytes_str(b, conf.user);
	bytes_str(b, "database");
	bytes_str(b, database);
	bytes_str(b, "client_encoding");
	bytes_str(b, "UTF8");
	bytes_add(b, "", 1);
	bytes_end(b, at);
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
	struct bytes *first = &conf.requests[0];

	prepare_startups();
	conf.round_trips = 1;
	switch (conf.mode) {
	case EXTENDED:
		add_parse(first, "");
		add_bind(first, "");
		add_describe(first);
		add_execute(first);
		add_sync(first);
		break;
	case PREPARED:
	case PIPELINED:
		add_parse(&conf.prepare, conf.statement);
		add_sync(&conf.prepare);
		for (int i = 0; i < (conf.mode == PREPARED ? 1 : conf.pipeline); i++) {
			add_bind(first, conf.statement);
			add_execute(first);
		}
		add_sync(first);
		break;
	case TRANSACTION:
		add_query(first, "BEGIN");
		add_query(&conf.requests[1], conf.sql);
		add_query(&conf.requests[2], "COMMIT");
		conf.round_trips = 3;
		break;
	default:
		add_query(first, conf.sql);
	}
	if (conf.mode == IDLE && conf.touch)
		add_query(&conf.prepare, conf.sql);
	if (conf.mode == SLOW) {
		char *large = large_sql();

		add_query(&conf.slow_request, large);
		free(large);
	}
}

/* ---- logging in ---- */

/* Takes an authentication request; NULL, or what is wrong. */
static const char *authenticate(struct thread *t, struct client *c, const char *body, size_t len)
{
	uint32_t kind = len >= 4 ? get32(body) : UINT32_MAX;
	size_t at, sized;

	if (kind == 0)
		return NULL;
	if (!conf.password)
		return "the server wants a password: say --password";
	c->login_out.len = 0;
	at = bytes_begin(&c->login_out, 'p');
	switch (kind) {
	case 3:
		bytes_str(&c->login_out, conf.password);
		break;
	case 10:
		if (!memmem(body + 4, len - 4, "SCRAM-SHA-256", 14))
			return "the server offers no SCRAM-SHA-256";
		bytes_str(&c->login_out, "SCRAM-SHA-256");
		sized = c->login_out.len;
		bytes_32(&c->login_out, 0);
		scram_first(&c->scram, &c->login_out);
		put32(c->login_out.data + sized, (uint32_t)(c->login_out.len - sized - 4));
		break;
	case 11:
		if (!scram_final(&c->scram, &t->scram, conf.password, body + 4, len - 4, &c->login_out))
			return "the server's SCRAM message makes no sense";
		break;
	case 12:
		c->login_out.len = 0;
		return scram_verify(&c->scram, body + 4, len - 4) ? NULL : "the server does not know the password";
	default:
		return "the server wants a login other than trust, password and scram-sha-256";
	}
	bytes_end(&c->login_out, at);
	return client_send(t, c, &c->login_out) ? NULL : "the connection was closed during login";
}

/* The text of an ErrorResponse. */
static const char *error_text(const char *body, size_t len, char *text, size_t size)
{
	for (size_t at = 0; at < len && body[at];) {
		size_t field = strnlen(body + at + 1, len - at - 1);

		if (body[at] == 'M') {
			snprintf(text, size, "%.*s", (int)field, body + at + 1);
			return text;
		}
		at += field + 2;
	}
	return "an error without a text";
}

/* Messages of a login are put together whole. NULL, or what is wrong. */
static const char *login_input(struct thread *t, struct client *c, const char *data, size_t len)
{
	static _Thread_local char text[256];
	size_t at = 0;

	bytes_add(&c->login_in, data, len);
	while (c->login_in.len - at >= 5) {
		const char *message = c->login_in.data + at;
		size_t size = get32(message + 1);
		const char *wrong = NULL;

		if (size < 4 || size > 1024 * 1024)
			return "a message of a login has no sensible length";
		if (c->login_in.len - at < size + 1)
			break;
		at += size + 1;
		if (message[0] == 'R')
			wrong = authenticate(t, c, message + 5, size - 4);
		else if (message[0] == 'E')
			wrong = error_text(message + 5, size - 4, text, sizeof text);
		if (wrong)
			return wrong;
		if (message[0] != 'Z')
			continue;
		/* Nothing can be behind it, as nothing was asked yet. */
		free(c->login_in.data);
		free(c->login_out.data);
		c->login_in = c->login_out = (struct bytes){ 0 };
		return client_ready(t, c) ? NULL : "the connection was closed after login";
	}
	memmove(c->login_in.data, c->login_in.data + at, c->login_in.len - at);
	c->login_in.len -= at;
	return NULL;
}

/* ---- answers ---- */

static void note_error(struct thread *t, const char *body, size_t len)
{
	char text[256];

	client_error(t, error_text(body, len, text, sizeof text));
}

/* Walks headers; true until the connection must go. Bodies are skipped, as far as they are here. */
static bool answer_input(struct thread *t, struct client *c, const char *data, size_t len)
{
	while (len) {
		if (c->body_left) {
			size_t n = c->body_left < len ? c->body_left : len;

			c->body_left -= (uint32_t)n;
			data += n;
			len -= n;
			continue;
		}
		const unsigned char *head = (const unsigned char *)data;

		if (!c->head_len && len >= 5) {
			data += 5;
			len -= 5;
		} else {
			c->head[c->head_len++] = (unsigned char)*data++;
			len--;
			if (c->head_len < 5)
				continue;
			c->head_len = 0;
			head = c->head;
		}
		uint32_t size = get32(head + 1);

		if (size < 4)
			return false;
		c->body_left = size - 4;
		if (head[0] == 'D') {
			t->rows++;
		} else if (head[0] == 'E') {
			note_error(t, data, len < c->body_left ? len : c->body_left);
		} else if (head[0] == 'Z') {
			/* Its one byte: skipped now if it is here, as the client may be another's after this. */
			if (len) {
				c->body_left = 0;
				data++;
				len--;
			}
			if (!client_ready(t, c))
				return false;
			if (conf.mode == CONNECT)
				return true;
		}
	}
	return true;
}

static char terminate[] = { 'X', 0, 0, 0, 4 };
static const struct bytes goodbye = { .data = terminate, .len = sizeof terminate };

const struct load_protocol load_postgresql = {
	.prepare_requests = prepare_requests,
	.large_sql = large_sql,
	.sql = "SELECT 1",
	.login_input = login_input,
	.answer_input = answer_input,
	.goodbye = &goodbye,
};
