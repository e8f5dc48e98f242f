/* What the load generator sends, put together once. */
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

char *large_sql(void)
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

void prepare_requests(void)
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
	if (conf.mode == SLOW)
		add_query(&conf.slow_request, large_sql());
}
