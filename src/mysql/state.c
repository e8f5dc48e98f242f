#include "mysql/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "mysql/collation.h"
#include "mysql/sql.h"

/* How long a client keeps its server for it might ask for the warnings of its last statement: those who do, do so at once;
 * one that has asked before is given more time. */
#define WARNINGS_HOLD_NS (100 * NS_PER_MS)
#define WARNINGS_HOLD_LONG_NS (2 * NS_PER_S)

const char my_trackers_sql[] = "SET @@SESSION.session_track_schema=1, @@SESSION.session_track_state_change=1, "
			       "@@SESSION.session_track_transaction_info='CHARACTERISTICS', "
			       "@@SESSION.session_track_system_variables='*'";

const char my_rollback_sql[] = "ROLLBACK AND NO CHAIN NO RELEASE";

const char my_identity_sql[] = "SELECT CONCAT_WS(' ', @@hostname, @@port, @@server_id, @@datadir)";

/* FNV-1a */
uint64_t my_identity(const uint8_t *row, size_t len) {
	uint64_t hash = 0xcbf29ce484222325ull;
	for (size_t i = 0; i < len; i++)
		hash = (hash ^ row[i]) * 0x100000001b3ull;
	return hash;
}

/* ---- requests ---- */

struct my_request *my_push(struct my_server *ms, enum my_task task, enum my_asked asked, enum my_command command) {
	struct my_server_relay *s = &ms->relay;
	if (s->count == MY_QUEUE) {
		server_close(&ms->base, "too many requests are outstanding");
		return NULL;
	}
	struct my_request *r = &s->queue[(s->head + s->count++) % MY_QUEUE];
	*r = (struct my_request){.task = (uint8_t)task, .asked = (uint8_t)asked, .command = (uint8_t)command};
	return r;
}

struct my_request *my_ask(struct my_server *ms, enum my_task task, enum my_asked asked, enum my_command command,
			  const void *data, size_t len) {
	uint8_t head[MY_HEADER + 1];
	if (ms->base.state == SERVER_CLOSED || ms->base.close_wanted)
		return NULL;
	if (len + 1 >= MY_PACKET_FULL) {
		server_close(&ms->base, "a command of ours is too long");
		return NULL;
	}
	my_write_header(head, (uint32_t)len + 1, 0);
	head[MY_HEADER] = (uint8_t)command;
	if (!server_write(&ms->base, head, sizeof head) || !server_write(&ms->base, data, len)) {
		server_close(&ms->base, "out of memory");
		return NULL;
	}
	ms->relay.task_failed = false;
	return my_push(ms, task, asked, command);
}

struct my_request *my_ask_sql(struct my_server *ms, enum my_task task, const char *sql) {
	return my_ask(ms, task, MY_ASKED_QUERY, MY_COM_QUERY, sql, strlen(sql));
}

/* A query of ours, however little time its client's queries have. */
static struct my_request *ask_select(struct my_server *ms, enum my_task task, const char *sql) {
	char untimed[600];
	if (!ms->facts.mariadb || !settings_find(ms->relay.has, "max_statement_time"))
		return my_ask_sql(ms, task, sql);
	snprintf(untimed, sizeof untimed, "SET STATEMENT max_statement_time=0 FOR %s", sql);
	struct my_request *r = my_ask_sql(ms, task, untimed);
	if (r)
		r->hints = SQL_SET_STATEMENT;
	return r;
}

bool my_clear_warnings(struct my_server *ms) {
	/* a statement that uses a table, as all accounts may */
	if (!ask_select(ms, MY_TASK_CLEAR, "SELECT 0 FROM information_schema.ENGINES LIMIT 0"))
		return false;
	ms->relay.warnings = ms->relay.warnings_foreign = false;
	return true;
}

/* ---- sets ---- */

static const char *const charset_names[] = {"character_set_client", "character_set_connection", "character_set_results",
					    "collation_connection"};

struct settings *my_settings_start(uint16_t collation, const char *schema) {
	/* A server takes its own default for what it cannot speak; ours is the one that can say all. */
	const char *charset = my_charset_of(collation);
	char id[8];
	snprintf(id, sizeof id, "%u", charset ? collation : MY_COLLATION_UTF8MB4_GENERAL_CI);
	struct settings *set = settings_empty();
	for (size_t i = 0; set && i < 4 + (schema != NULL); i++) {
		const char *value = i < 3 ? (charset ? charset : "utf8mb4") : i == 3 ? id : schema;
		struct settings *more = settings_with(set, i < 4 ? charset_names[i] : MY_SCHEMA_SETTING, value, true);
		settings_unref(set);
		set = more;
	}
	return set;
}

const char *my_settings_schema(const struct settings *settings) {
	const struct setting *schema = settings_find(settings, MY_SCHEMA_SETTING);
	return schema ? schema->value : NULL;
}

/* Changes *set; value NULL: removed. */
static bool change(struct settings **set, const char *name, const char *value) {
	const struct setting *now = settings_find(*set, name);
	if (value ? now && strcmp(now->value, value) == 0 : !now)
		return true;
	struct settings *next = settings_with(*set, name, value, true);
	if (!next)
		return false;
	settings_unref(*set);
	*set = next;
	return true;
}

static const char *const text_names[] = {MY_SCHEMA_SETTING, "sql_mode", "character_set_client", "character_set_connection",
					 "collation_connection"};

struct settings *my_with_text_settings(struct settings *settings, const struct settings *text_settings) {
	struct settings *set = settings_ref(settings);
	for (size_t i = 0; i < sizeof text_names / sizeof text_names[0]; i++) {
		const struct setting *s = settings_find(text_settings, text_names[i]);
		if (change(&set, text_names[i], s ? s->value : NULL))
			continue;
		settings_unref(set);
		return NULL;
	}
	return set;
}

struct settings *my_text_settings(const struct settings *settings) {
	struct settings *none = settings_empty();
	struct settings *set = my_with_text_settings(none, settings);
	settings_unref(none);
	return set;
}

/* Both sides hold one set while they are linked. */
static bool change_both(struct my_client *mc, struct my_server *ms, const char *name, const char *value) {
	if (!change(&ms->relay.has, name, value))
		return false;
	if (mc) {
		settings_unref(mc->relay.wants);
		mc->relay.wants = settings_ref(ms->relay.has);
	}
	return true;
}

unsigned my_reading(const struct my_client *mc) {
	unsigned reading = mc->relay.multi ? SQL_MULTI_STATEMENTS : 0;
	const struct setting *mode = settings_find(mc->relay.wants, "sql_mode");
	if (!mode) /* as its server has it by default: the status of answers tells */
		return reading | (mc->relay.status & MY_STATUS_NO_BACKSLASH_ESCAPES ? SQL_NO_BACKSLASH_ESCAPES : 0) |
		       (mc->relay.status & MY_STATUS_ANSI_QUOTES ? SQL_ANSI_QUOTES : 0) |
		       (mc->relay.status == 0 ? SQL_MODE_UNKNOWN : 0);
	return reading | (strcasestr(mode->value, "NO_BACKSLASH_ESCAPES") ? SQL_NO_BACKSLASH_ESCAPES : 0) |
	       (strcasestr(mode->value, "ANSI_QUOTES") ? SQL_ANSI_QUOTES : 0);
}

enum sql_charset my_reading_charset(const struct my_client *mc) {
	const struct setting *s = settings_find(mc->relay.wants, "character_set_client");
	if (!s)
		return SQL_CHARSET_UNKNOWN;
	return sql_charset_by_name(s->value, strlen(s->value));
}

/* ---- learning ---- */

enum kind { KIND_REPLAYED, KIND_CHARSET, KIND_IGNORED, KIND_INSERT_ID, KIND_PINNED, KIND_TRACKER };

static enum kind kind_of(const char *name) {
	static const struct {
		const char *name;
		enum kind kind;
	} special[] = {
		{"last_insert_id", KIND_INSERT_ID},   {"identity", KIND_INSERT_ID},
		{"warning_count", KIND_IGNORED},      {"error_count", KIND_IGNORED},
		{"last_gtid", KIND_IGNORED},          {"in_transaction", KIND_IGNORED},
		{"timestamp", KIND_PINNED},           {"insert_id", KIND_PINNED},
		{"rand_seed1", KIND_PINNED},          {"rand_seed2", KIND_PINNED},
		{"pseudo_thread_id", KIND_PINNED},    {"pseudo_slave_mode", KIND_PINNED},
		{"pseudo_replica_mode", KIND_PINNED}, {"character_set_database", KIND_PINNED},
		{"collation_database", KIND_PINNED},  {"profiling", KIND_PINNED},
		{"gtid_next", KIND_PINNED},           {"gtid_seq_no", KIND_PINNED},
		{"gtid_domain_id", KIND_PINNED},      {"server_id", KIND_PINNED},
		{"sql_log_bin", KIND_PINNED},         {"skip_replication", KIND_PINNED},
		{"debug", KIND_PINNED},               {"debug_sync", KIND_PINNED},
		{"debug_dbug", KIND_PINNED},
	};
	for (size_t i = 0; i < sizeof special / sizeof special[0]; i++)
		if (strcasecmp(special[i].name, name) == 0)
			return special[i].kind;
	for (size_t i = 0; i < 4; i++)
		if (strcasecmp(charset_names[i], name) == 0)
			return KIND_CHARSET;
	return strncasecmp(name, "session_track_", 14) == 0 ? KIND_TRACKER : KIND_REPLAYED;
}

static void pin(struct my_client *mc, struct my_server *ms, enum pin_reason reason) {
	ms->relay.touched = true;
	if (reason == PIN_TRACKERS) /* which schema USE chooses from now on is not known, and a reset would leave it */
		ms->base.one_client = true;
	if (mc)
		mc->relay.pins = pin_add(&mc->base, mc->relay.pins, reason);
}

static void unpin(struct my_client *mc, uint32_t gone) {
	if (mc && (mc->relay.pins & gone))
		mc->relay.pins = pin_drop(&mc->base, mc->relay.pins, gone);
}

/* What runs is not seen. */
#define HIDDEN (SQL_CALL | SQL_COMPOUND | SQL_EXECUTE | SQL_EXECUTE_IMMEDIATE)

/* What an OK has said of the session's state, as a whole. */
struct told {
	bool changed, schema, transaction, one_shot;
	uint32_t variables;
};

static bool is_name(const uint8_t *name, size_t len) {
	for (size_t i = 0; i < len; i++)
		if (!((name[i] >= 'a' && name[i] <= 'z') || (name[i] >= 'A' && name[i] <= 'Z') ||
		      (name[i] >= '0' && name[i] <= '9') || name[i] == '_'))
			return false;
	return len > 0 && len < 64;
}

static bool is_isolation(const char *name) {
	return strcasecmp(name, "tx_isolation") == 0 || strcasecmp(name, "transaction_isolation") == 0 ||
	       strcasecmp(name, "tx_read_only") == 0 || strcasecmp(name, "transaction_read_only") == 0;
}

static bool note_variable(struct my_client *mc, struct my_server *ms, const struct my_request *r, const struct told *told,
			  const uint8_t *name, size_t name_len, const uint8_t *value, size_t value_len) {
	char text[64];
	/* SET STATEMENT tells of what holds for that statement alone; it is back already */
	if (r->hints & SQL_SET_STATEMENT) {
		if (r->task != MY_TASK_CLIENT)
			return true;
		ms->relay.touched = true;
		if (r->hints & SQL_SEVERAL) /* but another of the text's may have set what stays */
			pin(mc, ms, PIN_SESSION_STATE);
		return true;
	}
	if (!is_name(name, name_len) || memchr(value, 0, value_len)) {
		pin(mc, ms, PIN_VARIABLE);
		return true;
	}
	memcpy(text, name, name_len);
	text[name_len] = 0;
	if (told->one_shot && is_isolation(text) && r->hints & (SQL_SET_TRANSACTION | HIDDEN)) {
		/* for the next transaction; the tracker tells when that is over. Which of a text's is which is not told */
		if (r->hints & (SQL_SET_SCOPED | SQL_SEVERAL))
			pin(mc, ms, PIN_VARIABLE);
		return true;
	}
	switch (kind_of(text)) {
	case KIND_IGNORED:
		return true;
	case KIND_INSERT_ID:
		if (mc && r->task == MY_TASK_CLIENT) {
			mc->relay.insert_id_unknown = true;
			ms->relay.insert_id_known = false;
		}
		return true;
	case KIND_PINNED:
		pin(mc, ms, PIN_VARIABLE);
		return true;
	case KIND_TRACKER:
		if (r->task == MY_TASK_CLIENT)
			pin(mc, ms, PIN_TRACKERS);
		return true;
	case KIND_CHARSET: /* the four hang together, and not all of what changes is told */
		ms->relay.learn_charsets = true;
		break;
	case KIND_REPLAYED:
		break;
	}
	char *copy = strndup((const char *)value, value_len);
	bool ok = copy && change_both(mc, ms, text, copy);
	free(copy);
	return ok;
}

/* One round over the entries. `told`: filled in by the first, used by the second. */
static bool walk(struct my_client *mc, struct my_server *ms, const struct my_request *r, const struct my_ok *ok,
		 struct told *told, bool second) {
	struct reader all = reader_over(ok->state, ok->state_len);
	while (reader_left(&all) > 0) {
		uint8_t type = reader_u8(&all);
		size_t len, name_len, value_len;
		const uint8_t *data = my_lenenc_bytes(&all, &len);
		if (!data)
			return false;
		struct reader one = reader_over(data, len);
		switch (type) {
		case MY_TRACK_SYSTEM_VARIABLES:
			while (reader_left(&one) > 0) {
				const uint8_t *name = my_lenenc_bytes(&one, &name_len);
				const uint8_t *value = my_lenenc_bytes(&one, &value_len);
				if (!name || !value)
					return false;
				told->variables++;
				if (second && !note_variable(mc, ms, r, told, name, name_len, value, value_len))
					return false;
			}
			break;
		case MY_TRACK_SCHEMA: {
			const uint8_t *name = my_lenenc_bytes(&one, &name_len);
			if (!name || memchr(name, 0, name_len))
				return false;
			told->schema = true;
			if (!second)
				break;
			char *copy = strndup((const char *)name, name_len);
			bool kept = copy && change_both(mc, ms, MY_SCHEMA_SETTING, name_len ? copy : NULL);
			free(copy);
			if (!kept)
				return false;
			break;
		}
		case MY_TRACK_STATE_CHANGE:
			told->changed = true;
			break;
		case MY_TRACK_TRANSACTION_CHARACTERISTICS: {
			const uint8_t *sql = my_lenenc_bytes(&one, &name_len);
			if (!sql)
				return false;
			ms->relay.characteristics = name_len > 0;
			told->one_shot = name_len > 0 && !(ok->status & MY_STATUS_IN_TRANS);
			break;
		}
		case MY_TRACK_TRANSACTION_STATE: {
			const uint8_t *state = my_lenenc_bytes(&one, &name_len);
			if (!state)
				return false;
			told->transaction = true;
			ms->relay.transaction_state = name_len >= 8 && state[7] == 'L';
			break;
		}
		default: /* GTIDs and what may come: nothing of the session's state */
			break;
		}
	}
	return all.ok;
}

/* Why a session is pinned of which the server says that something has changed that it does not name. */
static enum pin_reason unnamed_change(uint64_t hints) {
	if (hints & (SQL_CALL | SQL_COMPOUND | SQL_EXECUTE | SQL_EXECUTE_IMMEDIATE))
		return PIN_SESSION_STATE;
	if (hints & SQL_CREATE_TEMPORARY)
		return PIN_TEMPORARY_TABLE;
	if (hints & SQL_USER_VARIABLE_SET)
		return PIN_USER_VARIABLE;
	if (hints & SQL_PREPARE)
		return PIN_SQL_PREPARED;
	if (hints & SQL_SET_ROLE)
		return PIN_ROLE;
	return PIN_SESSION_STATE;
}

static bool is_explained(const struct my_request *r, const struct told *told) {
	const uint64_t hidden = SQL_CALL | SQL_COMPOUND | SQL_EXECUTE | SQL_EXECUTE_IMMEDIATE | SQL_CREATE_TEMPORARY |
				SQL_PREPARE | SQL_SET_ROLE | SQL_USER_VARIABLE_SET;
	if (r->command == MY_COM_INIT_DB)
		return told->schema;
	if (r->hints & hidden)
		return false;
	/* what a function does is told together with what SET does; for SET STATEMENT that is always so */
	if ((r->hints & SQL_SET_CALLS) && !(r->hints & SQL_SET_STATEMENT))
		return false;
	if ((r->hints & (SQL_SET | SQL_USE)) && (told->variables > 0 || told->schema))
		return true;
	/* what goes leaves nothing behind */
	return (r->hints & (SQL_DROP_TEMPORARY | SQL_DEALLOCATE)) && !(r->hints & (SQL_SET | SQL_SEVERAL));
}

/*
 * Temporary tables and statements prepared as text are counted, rather too many than too few: what replaces another of its
 * name counts twice, a DROP of several once. Where none can be left the pin ends.
 */
static void count_objects(struct my_client *mc, uint64_t hints) {
	const uint64_t hidden = SQL_CALL | SQL_COMPOUND | SQL_EXECUTE | SQL_EXECUTE_IMMEDIATE;
	struct my_client_relay *c = &mc->relay;
	if (hints & hidden)
		return; /* pinned for what is not seen */
	c->temporary_tables += (hints & SQL_CREATE_TEMPORARY) != 0;
	c->sql_prepared += (hints & SQL_PREPARE) != 0;
	if (hints & (SQL_SEVERAL | SQL_BLIND | SQL_CREATE_TEMPORARY | SQL_PREPARE))
		return;
	if ((hints & SQL_DROP_TEMPORARY) && c->temporary_tables > 0 && --c->temporary_tables == 0)
		unpin(mc, 1u << PIN_TEMPORARY_TABLE);
	if ((hints & SQL_DEALLOCATE) && c->sql_prepared > 0 && --c->sql_prepared == 0)
		unpin(mc, 1u << PIN_SQL_PREPARED);
}

bool my_note_ok(struct my_server *ms, const struct my_request *r, const struct my_ok *ok) {
	struct my_client *mc = ms->base.client && r->task == MY_TASK_CLIENT ? my_client(ms->base.client) : NULL;
	struct told told = {0};
	ms->relay.status = ok->status;
	if (mc)
		mc->relay.status = ok->status;
	if (ok->warnings > 0 && r->task != MY_TASK_CLEAR) {
		ms->relay.warnings = true;
		ms->relay.warnings_foreign = mc == NULL;
	}
	if (mc && ok->last_insert_id != 0) {
		mc->relay.insert_id_unknown = true;
		ms->relay.insert_id_known = false;
	}
	if (!(ok->status & MY_STATUS_SESSION_STATE_CHANGED))
		return true;
	if (ok->state_len == 0 && r->task == MY_TASK_CLIENT)
		pin(mc, ms, PIN_TRACKERS);
	/* of ours only what a file says, and what is done to learn, can change anything that we do not know */
	bool ours = r->task == MY_TASK_SETTINGS || r->task == MY_TASK_SCHEMA || r->task == MY_TASK_TRACKERS ||
		    r->task == MY_TASK_INSERT_ID || r->task == MY_TASK_CLEAR || r->task == MY_TASK_IDENTITY;
	bool sound = walk(mc, ms, r, ok, &told, false);
	told.variables = 0;
	if (sound && !ours)
		sound = walk(mc, ms, r, ok, &told, true);
	if (!sound) {
		server_violation(&ms->base, "session_state", "what it says of its session's state is malformed");
		return false;
	}
	if (told.transaction && mc) {
		if (ms->relay.transaction_state)
			pin(mc, ms, PIN_TABLE_LOCK);
		else if (!ms->relay.read_lock)
			unpin(mc, 1u << PIN_TABLE_LOCK);
	}
	if (told.changed && mc && !is_explained(r, &told))
		pin(mc, ms, unnamed_change(r->hints));
	if (told.changed && mc)
		count_objects(mc, r->hints);
	return true;
}

void my_note_hints(struct my_client *mc, struct my_server *ms, uint64_t hints) {
	static const struct {
		uint64_t hint;
		enum pin_reason reason;
	} pins[] = {
		{SQL_USER_VARIABLE_SET, PIN_USER_VARIABLE}, {SQL_GET_LOCK, PIN_NAMED_LOCK},
		{SQL_FLUSH_LOCK, PIN_TABLE_LOCK},           {SQL_LOCK_TABLES, PIN_TABLE_LOCK},
		{SQL_HANDLER_OPEN, PIN_HANDLER},            {SQL_CALC_FOUND_ROWS, PIN_FOUND_ROWS},
		{SQL_SEQUENCE_NEXT | SQL_SEQUENCE_LAST, PIN_SEQUENCE},          {SQL_SESSION_TRACK, PIN_TRACKERS},
		{SQL_PREPARE, PIN_SQL_PREPARED},            {SQL_BINLOG, PIN_BINLOG},
		{SQL_SHOW_PROFILE, PIN_VARIABLE},           {SQL_SET_ROLE, PIN_ROLE},
		{SQL_ROW_COUNT, PIN_ROW_COUNT},             {SQL_FOUND_ROWS, PIN_FOUND_ROWS},
		{SQL_SET_UNTOLD, PIN_VARIABLE},
	};
	if (hints & SQL_DIAGNOSTICS)
		mc->relay.asks_warnings = true;
	/* what ran is not seen; what a function that SET has called did is told together with what SET did */
	if (hints & (SQL_CALL | SQL_COMPOUND | SQL_EXECUTE | SQL_EXECUTE_IMMEDIATE | SQL_SET_CALLS))
		ms->relay.touched = true;
	for (size_t i = 0; i < sizeof pins / sizeof pins[0]; i++)
		if (hints & pins[i].hint)
			pin(mc, ms, pins[i].reason);
	if (hints & SQL_FLUSH_LOCK)
		ms->relay.read_lock = true;
	if (hints & (SQL_LAST_INSERT_ID | SQL_LAST_INSERT_ID_SET | SQL_RETURNING | SQL_LOAD | SQL_CALL | SQL_COMPOUND | SQL_EXECUTE |
		     SQL_EXECUTE_IMMEDIATE)) {
		mc->relay.insert_id_unknown = true;
		ms->relay.insert_id_known = false;
	}
}

/* Not a trace that another client could come upon: it is seen to when one asks for warnings. */
static void hold_for_warnings(struct my_client *mc) {
	mc->relay.pins = pin_add(&mc->base, mc->relay.pins, PIN_WARNINGS);
}

void my_note_end(struct my_client *mc, struct my_server *ms, const struct my_request *r, bool failed, bool rows,
		 uint16_t warnings) {
	struct my_server_relay *s = &ms->relay;
	if (r->command != MY_COM_QUERY && r->command != MY_COM_STMT_EXECUTE && r->command != MY_COM_STMT_PREPARE)
		return;
	s->count_foreign &= r->command == MY_COM_STMT_PREPARE;
	bool diagnostics = r->hints & SQL_DIAGNOSTICS;
	if (!diagnostics && (failed || warnings > 0)) {
		s->warnings = true;
		s->warnings_foreign = false;
		hold_for_warnings(mc);
		worker_timeout(ms->base.sw->worker, &s->hold,
			       mc->relay.asks_warnings ? WARNINGS_HOLD_LONG_NS : WARNINGS_HOLD_NS);
	} else if (!diagnostics) {
		unpin(mc, 1u << PIN_WARNINGS);
	}
	if (failed && (r->hints & SQL_HANDLER_OPEN) && !(r->hints & (SQL_SEVERAL | SQL_BLIND)) && mc->relay.handlers == 0)
		unpin(mc, 1u << PIN_HANDLER);
	if (failed) { /* rows that were written before the one that failed may have changed it */
		mc->relay.insert_id_unknown = true;
		s->insert_id_known = false;
		return;
	}
	if (r->hints & SQL_HANDLER_OPEN)
		mc->relay.handlers += r->hints & (SQL_SEVERAL | SQL_BLIND) ? UINT16_MAX : 1;
	else if ((r->hints & SQL_HANDLER_CLOSE) && !(r->hints & (SQL_SEVERAL | SQL_BLIND)) && mc->relay.handlers > 0 &&
		 --mc->relay.handlers == 0)
		unpin(mc, 1u << PIN_HANDLER);
	/* FOUND_ROWS() is now that of this statement, and known to nobody who would ask */
	if (rows && !(r->hints & (SQL_CALC_FOUND_ROWS | SQL_FOUND_ROWS)))
		unpin(mc, 1u << PIN_FOUND_ROWS);
	if ((r->hints & SQL_UNLOCK_TABLES) && !(r->hints & (SQL_LOCK_TABLES | SQL_FLUSH_LOCK | SQL_SEVERAL | SQL_BLIND)) &&
	    !s->transaction_state) {
		s->read_lock = false;
		unpin(mc, 1u << PIN_TABLE_LOCK);
	}
}

bool my_must_learn(const struct my_server *ms) {
	const struct client *client = ms->base.client;
	if (!client || client->keeps_server || ms->relay.no_trackers || ms->relay.recovering ||
	    (ms->relay.status & MY_STATUS_IN_TRANS))
		return false;
	return ((const struct my_client *)client)->relay.insert_id_unknown || ms->relay.learn_charsets;
}

void my_learn(struct my_server *ms) {
	ms->relay.learning = true;
	ask_select(ms, MY_TASK_LEARN,
		   "SELECT CAST(LAST_INSERT_ID() AS BINARY), CAST(@@character_set_client AS BINARY), "
		   "CAST(@@character_set_connection AS BINARY), CAST(@@character_set_results AS BINARY), "
		   "CAST(@@collation_connection AS BINARY), CAST(LAST_INSERT_ID(0) AS BINARY) LIMIT 1");
}

/*
 * Binary, for a client's character_set_results may be one that no number and no name can be read in; LIMIT, for its
 * sql_select_limit may be 0. Its LAST_INSERT_ID() is 0 afterwards. So it is always 0 or the client's own before a statement of the client's runs, and
 * what is found behind it tells whether the statement has changed it.
 */
void my_learnt_row(struct my_server *ms, const uint8_t *body, size_t len) {
	struct my_client *mc = ms->base.client ? my_client(ms->base.client) : NULL;
	struct reader r = reader_over(body, len);
	bool ok = true;
	for (size_t i = 0; i < 6; i++) {
		size_t n;
		bool null;
		char text[80];
		const uint8_t *value = my_lenenc_or_null(&r, &n, &null);
		ok = ok && r.ok && n < sizeof text - 1 && (null || !memchr(value, 0, n));
		if (!ok)
			break;
		snprintf(text, sizeof text, "%.*s", null ? 0 : (int)n, null ? "" : (const char *)value);
		if (i > 0 && i < 5) {
			ok = change_both(mc, ms, charset_names[i - 1], text);
		} else if (mc && i == 0) {
			/* an INSERT with an id of its own tells one, and leaves this as it was */
			uint64_t now = strtoull(text, NULL, 10);
			if (now != ms->relay.insert_id)
				mc->relay.insert_id = now;
			ms->relay.insert_id = 0;
			ms->relay.insert_id_known = true;
		}
	}
	if (!ok || reader_left(&r) > 0) {
		server_close(&ms->base, "it does not tell its session's variables");
		return;
	}
	if (mc)
		mc->relay.insert_id_unknown = false;
	ms->relay.learn_charsets = false;
	ms->relay.learning = false;
}

void my_learnt(struct my_server *ms) {
	/* a KILL that was meant for its client's statement: it is asked again */
	bool killed = ms->relay.task_failed && ms->relay.task_code == MY_ER_QUERY_INTERRUPTED && ms->base.client;
	if (killed) /* it may have set it to 0 before */
		ms->relay.insert_id = 0;
	if (ms->relay.learning && !ms->relay.recovering && !killed)
		server_close(&ms->base, "it does not tell its session's variables");
	ms->relay.learning = false;
}

/* ---- what clients are told ---- */

static bool is_told(const uint8_t *name, size_t len) {
	static const char *const told[] = {"autocommit", "character_set_client", "character_set_connection",
					   "character_set_results", "time_zone"};
	for (size_t i = 0; i < sizeof told / sizeof told[0]; i++)
		if (strlen(told[i]) == len && memcmp(told[i], name, len) == 0)
			return true;
	return false;
}

bool my_filter_state(struct my_builder *out, const uint8_t *state, size_t len) {
	struct reader all = reader_over(state, len);
	while (reader_left(&all) > 0) {
		uint8_t type = reader_u8(&all);
		size_t size, name_len, value_len;
		const uint8_t *data = my_lenenc_bytes(&all, &size);
		if (!data)
			return false;
		if (type == MY_TRACK_SCHEMA) {
			my_put_u8(out, type);
			my_put_lenenc_bytes(out, data, size);
		}
		struct reader one = reader_over(data, type == MY_TRACK_SYSTEM_VARIABLES ? size : 0);
		while (reader_left(&one) > 0) {
			const uint8_t *start = one.pos;
			const uint8_t *name = my_lenenc_bytes(&one, &name_len);
			if (!name || !my_lenenc_bytes(&one, &value_len))
				return false;
			if (!is_told(name, name_len))
				continue;
			my_put_u8(out, type); /* an entry for each, as servers send them */
			my_put_lenenc_bytes(out, start, (size_t)(one.pos - start));
		}
	}
	return out->ok;
}

/* ---- giving ---- */

/* A number as SET takes it for variables that are one. */
static bool is_number(const char *s) {
	size_t digits = 0, points = 0;
	for (const char *c = *s == '-' ? s + 1 : s; *c; c++) {
		if (*c == '.')
			points++;
		else if (*c >= '0' && *c <= '9')
			digits++;
		else
			return false;
	}
	return digits > 0 && points <= 1;
}

/* In hexadecimal: no sql_mode and no character set reads that otherwise. */
static void put_value(struct my_builder *b, const char *name, const char *value) {
	static const char digits[] = "0123456789abcdef";
	if (!value) {
		my_put(b, "DEFAULT", 7);
	} else if (!*value && strcasecmp(name, "character_set_results") == 0) {
		my_put(b, "NULL", 4);
	} else if (is_number(value)) {
		my_put(b, value, strlen(value));
	} else if (!*value) {
		my_put(b, "''", 2);
	} else {
		my_put(b, "x'", 2);
		for (const char *c = value; *c; c++) {
			char two[2] = {digits[(uint8_t)*c >> 4], digits[(uint8_t)*c & 15]};
			my_put(b, two, 2);
		}
		my_put(b, "'", 1);
	}
}

static void put_change(struct my_builder *b, size_t *n, const char *name, const char *value) {
	const char *before = *n ? ", @@SESSION." : "SET @@SESSION.";
	my_put(b, before, strlen(before));
	(*n)++;
	my_put(b, name, strlen(name));
	my_put(b, "=", 1);
	put_value(b, name, value);
}

static bool is_schema(const struct setting *s) {
	return s->name[0] == ' ';
}

static bool is_charset(const char *name) {
	return kind_of(name) == KIND_CHARSET;
}

/* The changes as one statement in `b`; returns how many. The character sets come in the order in which they do not undo each
 * other: the collation says the connection's. */
static size_t put_changes(struct my_builder *b, const struct settings *has, const struct settings *target) {
	size_t n = 0;
	bool charsets = false;
	for (size_t i = 0; i < target->count; i++) {
		const struct setting *w = &target->at[i], *h = settings_find(has, w->name);
		if (is_schema(w) || (h && strcmp(h->value, w->value) == 0))
			continue;
		if (is_charset(w->name))
			charsets = true;
		else
			put_change(b, &n, w->name, w->value);
	}
	for (size_t i = 0; i < has->count; i++) {
		const struct setting *h = &has->at[i];
		if (!is_schema(h) && !is_charset(h->name) && !settings_find(target, h->name))
			put_change(b, &n, h->name, NULL);
	}
	static const char *const order[] = {"character_set_client", "character_set_results", "collation_connection"};
	for (size_t i = 0; charsets && i < 3; i++) {
		const struct setting *w = settings_find(target, order[i]);
		if (w)
			put_change(b, &n, w->name, w->value);
	}
	return n;
}

/* What the client wants, and what init_sql has set where it wants nothing else. */
static struct settings *target_of(const struct my_server *ms, struct settings *wants) {
	struct settings *target = settings_ref(wants);
	const struct settings *fresh = ms->relay.fresh;
	for (size_t i = 0; target && i < fresh->count; i++) {
		if (is_schema(&fresh->at[i]) || settings_find(target, fresh->at[i].name))
			continue;
		struct settings *more = settings_with(target, fresh->at[i].name, fresh->at[i].value, true);
		settings_unref(target);
		target = more;
	}
	return target;
}

enum my_given my_give(struct my_server *ms, struct settings *wants) {
	struct my_server_relay *s = &ms->relay;
	if (s->has == wants)
		return MY_GIVEN;
	const char *schema = my_settings_schema(wants), *has_schema = my_settings_schema(s->has);
	if (!schema && has_schema)
		return MY_CANNOT_GIVE;
	struct settings *target = target_of(ms, wants);
	struct my_builder b = my_builder(ms->base.sw->worker->buffers);
	size_t n = target ? put_changes(&b, s->has, target) : 0;
	bool ok = target && b.ok;
	bool asked = false;
	if (ok && n > 0) {
		asked = true;
		ok = my_ask(ms, MY_TASK_SETTINGS, MY_ASKED_QUERY, MY_COM_QUERY, buf_bytes(&b.buf), buf_len(&b.buf)) != NULL;
	}
	if (ok && schema && (!has_schema || strcmp(schema, has_schema) != 0)) {
		asked = true;
		ok = my_ask(ms, MY_TASK_SCHEMA, MY_ASKED_SIMPLE, MY_COM_INIT_DB, schema, strlen(schema)) != NULL;
	}
	my_builder_release(&b);
	if (!ok) {
		settings_unref(target);
		server_close(&ms->base, "out of memory");
		return MY_GIVE_FAILED;
	}
	settings_unref(s->has);
	s->has = target;
	return asked ? MY_GIVING : MY_GIVEN;
}

bool my_back_to_fresh(struct my_server *ms) {
	struct my_server_relay *s = &ms->relay;
	struct settings *next = settings_ref(s->fresh);
	const char *schema = my_settings_schema(s->has);
	bool ok = change(&next, MY_SCHEMA_SETTING, schema);
	settings_unref(s->has);
	s->has = next;
	s->touched = s->unknown = s->warnings = s->warnings_foreign = s->characteristics = s->transaction_state = false;
	s->read_lock = s->learn_charsets = s->shared = s->count_foreign = false;
	s->insert_id = 0;
	s->insert_id_known = true;
	my_prepareds_clear(&s->prepareds);
	return ok;
}
