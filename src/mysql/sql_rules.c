#include "mysql/sql_rules.h"

#include <string.h>
#include <strings.h>

enum id_state { ID_NONE, ID_NAMED, ID_OPENED };

enum kill_state {
	KILL_NONE,
	KILL_TYPE,       /* behind KILL */
	KILL_OPTION,     /* behind HARD or SOFT */
	KILL_CONNECTION, /* behind CONNECTION */
	KILL_QUERY,      /* behind QUERY */
	KILL_QUERY_ID,   /* behind QUERY ID */
	KILL_SELF,       /* behind CONNECTION_ID */
	KILL_SELF_OPEN,  /* behind its ( */
	KILL_USER,       /* behind USER: what follows is a name */
	KILL_DONE,
	KILL_OTHER,
};

static bool is_digit(uint8_t c) {
	return c >= '0' && c <= '9';
}

/* What a routine's body says is not done now. */
static void give(struct sql_lexer *x, uint64_t hints) {
	if (!x->is_body)
		x->text.hints |= hints;
}

/* ---- KILL, and LAST_INSERT_ID(expression) ---- */

static enum kill_state kill_word(struct sql_lexer *x, enum sql_word_id id) {
	bool query = x->text.kill == SQL_KILL_QUERY;
	switch (x->kill_state) {
	case KILL_TYPE:
		if (id == WORD_HARD || id == WORD_SOFT) {
			x->text.kill_soft = id == WORD_SOFT;
			return KILL_OPTION;
		}
		/* fall through */
	case KILL_OPTION:
		x->text.kill = id == WORD_QUERY ? SQL_KILL_QUERY : SQL_KILL_CONNECTION;
		if (id == WORD_CONNECTION)
			return KILL_CONNECTION;
		if (id == WORD_QUERY)
			return KILL_QUERY;
		break;
	case KILL_QUERY:
		if (id == WORD_ID) {
			x->text.kill = SQL_KILL_QUERY_ID;
			return KILL_QUERY_ID;
		}
		break;
	case KILL_CONNECTION:
		break;
	default:
		return KILL_OTHER;
	}
	if (id == WORD_USER) {
		x->text.kill = SQL_KILL_USER;
		return KILL_USER;
	}
	if (id == WORD_CONNECTION_ID) {
		x->text.kill = query ? SQL_KILL_QUERY_SELF : SQL_KILL_SELF;
		return KILL_SELF;
	}
	return KILL_OTHER;
}

static enum kill_state kill_number(struct sql_lexer *x, const uint8_t *text, size_t len) {
	uint64_t id = 0;
	if (x->kill_state == KILL_TYPE || x->kill_state == KILL_OPTION)
		x->text.kill = SQL_KILL_CONNECTION;
	else if (x->kill_state != KILL_CONNECTION && x->kill_state != KILL_QUERY && x->kill_state != KILL_QUERY_ID)
		return KILL_OTHER;
	for (size_t i = 0; i < len; i++)
		if (__builtin_mul_overflow(id, 10, &id) || __builtin_add_overflow(id, (uint64_t)(text[i] - '0'), &id))
			return KILL_OTHER;
	x->text.kill_id = id;
	return KILL_DONE;
}

static enum kill_state kill_next(struct sql_lexer *x, enum sql_token token, enum sql_word_id id, const uint8_t *text, size_t len) {
	if (x->aside)
		return KILL_OTHER;
	if (x->kill_state == KILL_USER)
		return KILL_USER;
	if (token == SQL_TOKEN_WORD)
		return kill_word(x, id);
	if (token == SQL_TOKEN_NUMBER)
		return kill_number(x, text, len);
	if (token == SQL_TOKEN_OPEN && x->kill_state == KILL_SELF)
		return KILL_SELF_OPEN;
	return token == SQL_TOKEN_CLOSE && x->kill_state == KILL_SELF_OPEN ? KILL_DONE : KILL_OTHER;
}

/* KILL is a reserved word: without quotes it is that statement, or a part of a name such as t.kill. */
static void kill_begins(struct sql_lexer *x) {
	if (x->before & (MARK_DOT | MARK_AT))
		return;
	if (!x->starting) {
		give(x, SQL_KILL_INSIDE);
		return;
	}
	bool alone = x->statements < 2 && !x->aside && !(x->verbs & MARK_COMPOUND) && x->kill_state == KILL_NONE;
	give(x, SQL_KILL);
	x->kill_state = alone ? KILL_TYPE : KILL_OTHER;
}

/* Each token goes by here: those that belong to a beginning whose end is still to come. */
static void follow(struct sql_lexer *x, enum sql_token token, enum sql_word_id id, const uint8_t *text, size_t len) {
	if (x->kill_state != KILL_NONE)
		x->kill_state = kill_next(x, token, id, text, len);
	if (x->untold && token == SQL_TOKEN_EQUALS)
		give(x, SQL_SET_UNTOLD);
	x->untold = false;
	if (x->id_state == ID_NONE)
		return;
	bool sets = x->aside || (x->id_state == ID_OPENED && token != SQL_TOKEN_CLOSE) ||
		    (x->id_state == ID_NAMED && token == SQL_TOKEN_EQUALS && x->verbs & MARK_SET);
	if (sets)
		give(x, SQL_LAST_INSERT_ID_SET);
	x->id_state = x->id_state == ID_NAMED && token == SQL_TOKEN_OPEN ? ID_OPENED : ID_NONE;
}

static void count(struct sql_lexer *x) {
	if (!x->any_token) {
		x->any_token = true;
		if (x->statements < 2)
			x->statements++;
		if (x->statements > 1)
			give(x, SQL_SEVERAL);
	}
	if (!x->aside && x->tokens < 2)
		x->tokens++;
}

/* ---- words ---- */

static void becomes_compound(struct sql_lexer *x) {
	give(x, SQL_COMPOUND);
	x->verbs |= MARK_COMPOUND;
	x->shifts = true;
}

/* CREATE [OR REPLACE] [DEFINER = ...] [AGGREGATE] and then a routine: what follows is not done now. */
static void name_routine(struct sql_lexer *x, enum sql_word_id id) {
	switch (id) {
	case WORD_PROCEDURE:
	case WORD_FUNCTION:
	case WORD_TRIGGER:
	case WORD_EVENT:
	case WORD_PACKAGE:
		x->is_body = !x->aside && x->names_routine;
		x->names_routine = false;
		return;
	case WORD_DEFINER:
		x->verbs |= MARK_DEFINER;
		return;
	case WORD_OR:
	case WORD_REPLACE:
	case WORD_AGGREGATE:
		return;
	default:
		if (!(x->verbs & MARK_DEFINER))
			x->names_routine = false;
	}
}

/* BEGIN and CASE open, END closes; END IF, END LOOP and the like close what was not counted. */
static void body_word(struct sql_lexer *x, enum sql_word_id id) {
	bool ends = x->before & MARK_END;
	switch (id) {
	case WORD_BEGIN:
		x->depth++;
		break;
	case WORD_CASE:
		x->depth += ends ? 0 : 1;
		break;
	case WORD_END:
		x->depth--;
		break;
	case WORD_IF:
	case WORD_LOOP:
	case WORD_WHILE:
	case WORD_REPEAT:
	case WORD_FOR:
		x->depth += ends ? 1 : 0;
		break;
	default:
		break;
	}
}

/* Behind SET. */
static void set_word(struct sql_lexer *x, enum sql_word_id id) {
	switch (id) {
	case WORD_STATEMENT:
		if (x->before & MARK_SET) {
			give(x, SQL_SET_STATEMENT);
			x->verbs |= MARK_SET_STATEMENT;
		}
		break;
	case WORD_TRANSACTION:
		if (x->before & MARK_SET)
			give(x, SQL_SET_TRANSACTION);
		break;
	case WORD_TRANSACTION_ISOLATION:
	case WORD_TRANSACTION_READ_ONLY:
	case WORD_TX_ISOLATION:
	case WORD_TX_READ_ONLY:
		if (!(x->before & MARK_SCOPE))
			give(x, SQL_SET_TRANSACTION);
		break;
	case WORD_NAMES:
	case WORD_CHARSET:
	case WORD_CHARACTER:
		if (x->before & (MARK_SET | MARK_COMMA)) {
			give(x, SQL_SET_NAMES);
			x->shifts = true;
		}
		break;
	case WORD_CHARACTER_SET_CLIENT:
	case WORD_SQL_MODE:
		x->shifts = true;
		break;
	case WORD_PASSWORD:
		if (x->before & (MARK_SET | MARK_COMMA))
			give(x, SQL_SET_PASSWORD);
		break;
	case WORD_SESSION:
	case WORD_LOCAL:
		give(x, SQL_SET_SCOPED);
		break;
	case WORD_ROLE:
		if (x->before & MARK_SET)
			give(x, SQL_SET_ROLE);
		break;
	default:
		break;
	}
}

static void show_word(struct sql_lexer *x, enum sql_word_id id) {
	if (id == WORD_WARNINGS || id == WORD_ERRORS)
		give(x, SQL_DIAGNOSTICS);
	else if (id == WORD_VARIABLES)
		give(x, SQL_SHOW_VARIABLES);
	else if (id == WORD_PROFILE || id == WORD_PROFILES)
		give(x, SQL_SHOW_PROFILE);
}

static void count_up(const struct sql_lexer *x, uint8_t *count) {
	if (!x->is_body && *count < UINT8_MAX)
		(*count)++;
}

/* What a word means by where it stands. */
static void in_context(struct sql_lexer *x, enum sql_word_id id) {
	if (x->verbs & MARK_SET)
		set_word(x, id);
	if (x->verbs & MARK_SHOW)
		show_word(x, id);
	switch (id) {
	case WORD_TEMPORARY:
		give(x, (x->verbs & MARK_CREATE ? SQL_CREATE_TEMPORARY : 0) | (x->verbs & MARK_DROP ? SQL_DROP_TEMPORARY : 0));
		break;
	case WORD_TABLE:
	case WORD_TABLES:
		give(x, x->verbs & MARK_DROP ? SQL_DROP_TEMPORARY : 0);
		break;
	case WORD_LOCK:
	case WORD_EXPORT:
		give(x, x->verbs & MARK_FLUSH ? SQL_FLUSH_LOCK : 0);
		break;
	case WORD_UNLOCK:
	case WORD_END:
		give(x, x->verbs & MARK_BACKUP ? SQL_UNLOCK_TABLES : 0);
		break;
	case WORD_OPEN:
		give(x, x->verbs & MARK_HANDLER ? SQL_HANDLER_OPEN : 0);
		break;
	case WORD_CLOSE:
		give(x, x->verbs & MARK_HANDLER ? SQL_HANDLER_CLOSE : 0);
		break;
	case WORD_DIAGNOSTICS:
		give(x, x->verbs & (MARK_GET | MARK_COMPOUND) ? SQL_DIAGNOSTICS : 0);
		break;
	case WORD_TRANSACTION:
		give(x, x->before & x->verbs & MARK_START ? SQL_BEGIN : 0);
		break;
	case WORD_IMMEDIATE:
		give(x, x->before & x->verbs & MARK_EXECUTE ? SQL_EXECUTE_IMMEDIATE : 0);
		break;
	case WORD_PREPARE:
		give(x, x->before & x->verbs & MARK_DROP ? SQL_DEALLOCATE : 0);
		break;
	case WORD_LOCAL:
		give(x, x->verbs & MARK_LOAD ? SQL_LOAD_LOCAL : 0);
		break;
	case WORD_VALUE:
		give(x, (x->before & MARK_NEXT ? SQL_SEQUENCE_NEXT : 0) | (x->before & MARK_PREVIOUS ? SQL_SEQUENCE_LAST : 0));
		break;
	case WORD_LAST_INSERT_ID:
	case WORD_IDENTITY:
	case WORD_INSERT_ID:
		x->id_state = ID_NAMED;
		break;
	case WORD_GET_LOCK:
		count_up(x, &x->text.get_locks);
		break;
	case WORD_SERVICE_GET_READ_LOCKS:
	case WORD_SERVICE_GET_WRITE_LOCKS:
		/* Any number at once. */
		if (!x->is_body)
			x->text.get_locks = UINT8_MAX;
		break;
	case WORD_RELEASE_LOCK:
		count_up(x, &x->text.release_locks);
		break;
	default:
		break;
	}
}

static void known_word(struct sql_lexer *x, const struct sql_word *word) {
	if (x->is_body)
		body_word(x, word->id);
	switch ((enum sql_word_kind)word->kind) {
	case SQL_WORD_ANY:
	case SQL_WORD_NAME:
		give(x, word->hints);
		break;
	case SQL_WORD_VERB:
		if (!x->starting)
			break;
		give(x, word->hints);
		x->verbs |= word->mark & ~(uint32_t)MARK_OPENS;
		if (word->mark & (MARK_CALL | MARK_EXECUTE | MARK_PREPARE | MARK_COMPOUND))
			x->shifts = true;
		break;
	case SQL_WORD_CONTEXT:
		break;
	}
	if (word->id == WORD_KILL)
		kill_begins(x);
	else
		in_context(x, word->id);
}

/* 1e5INTO and 1INTO: the server ends the number where the word begins. */
static const struct sql_word *behind_number(const uint8_t *text, size_t len) {
	size_t at = 0, e;
	while (at < len && is_digit(text[at]))
		at++;
	e = at;
	if (e < len && (text[e] == 'e' || text[e] == 'E'))
		for (e++; e < len && is_digit(text[e]); e++)
			at = e + 1;
	return sql_word_find(text + at, len - at);
}

static bool is_tracker(const uint8_t *text, size_t len) {
	static const char prefix[] = "SESSION_TRACK_";
	if (len < sizeof prefix || (text[0] & 0xdf) != 'S')
		return false;
	for (size_t i = 0; i < sizeof prefix - 1; i++)
		if ((text[i] & 0xdf) != prefix[i])
			return false;
	return true;
}

/* Behind the @@ of what SET assigns to. */
static bool is_assigned(const struct sql_lexer *x) {
	return x->verbs & MARK_SET && x->before & MARK_AT && x->before & (MARK_SET | MARK_COMMA);
}

/* Without a scope these are for the next transaction, and told. */
static bool is_next_transactions(enum sql_word_id id) {
	return id == WORD_TRANSACTION_ISOLATION || id == WORD_TRANSACTION_READ_ONLY || id == WORD_TX_ISOLATION ||
	       id == WORD_TX_READ_ONLY;
}

/* What a word may mean in some context, beside its own hints. */
static uint64_t at_worst(enum sql_word_id id) {
	switch (id) {
	case WORD_SET:
		return SQL_SET_SCOPED | SQL_SET_CALLS;
	case WORD_LOCK:
		return SQL_FLUSH_LOCK;
	case WORD_PREPARE:
		return SQL_DEALLOCATE;
	case WORD_LAST_INSERT_ID:
	case WORD_IDENTITY:
	case WORD_INSERT_ID:
		return SQL_LAST_INSERT_ID_SET;
	case WORD_TRANSACTION_ISOLATION:
	case WORD_TRANSACTION_READ_ONLY:
	case WORD_TX_ISOLATION:
	case WORD_TX_READ_ONLY:
		return SQL_SET_TRANSACTION;
	default:
		return 0;
	}
}

/* Behind SET: functions of the server's own, which change nothing, whatever functions somebody has stored. Not those that a
 * blank before the `(` makes others of. */
static bool is_harmless(const struct sql_lexer *x, const uint8_t *text, size_t len) {
	static const char *const names[] = {"COALESCE", "CONCAT", "CONCAT_WS", "ELT",     "GREATEST", "IF",
					    "IFNULL",   "LEAST",  "LOWER",     "NULLIF",  "REPLACE",  "UPPER"};
	for (size_t i = 0; !(x->before & MARK_DOT) && i < sizeof names / sizeof names[0]; i++)
		if (strlen(names[i]) == len && strncasecmp((const char *)text, names[i], len) == 0)
			return true;
	return false;
}

/* Behind SET: this may be the name of a function, or begin a query that calls one. */
static void set_may_call(struct sql_lexer *x, const uint8_t *text, size_t len) {
	x->callable = x->foreign || !is_harmless(x, text, len);
	if (!(x->verbs & MARK_SET_STATEMENT) && len == 6 && strncasecmp((const char *)text, "SELECT", 6) == 0)
		give(x, SQL_SET_CALLS);
}

/*
 * BEGIN is no reserved word: as a name within a routine's body it hides the end of that, and what is behind it is done now.
 * So what such a body holds behind its first `;` is kept, for the case that its end is never found.
 */
static void in_body(struct sql_lexer *x, const struct sql_word *found, bool tracker) {
	if (tracker)
		x->body_hints |= SQL_SESSION_TRACK;
	if (found && (found->id != WORD_KILL || x->body_starts))
		x->body_hints |= found->hints | at_worst((enum sql_word_id)found->id);
	x->body_starts = false;
}

void sql_word(struct sql_lexer *x, const uint8_t *text, size_t len) {
	bool digit = is_digit(text[0]);
	const struct sql_word *found = digit ? behind_number(text, len) : sql_word_find(text, len);
	enum sql_word_id id = found ? (enum sql_word_id)found->id : WORD_OTHER;
	bool number = digit && !found;
	for (size_t i = 0; number && i < len; i++)
		number = is_digit(text[i]);

	count(x);
	follow(x, number ? SQL_TOKEN_NUMBER : SQL_TOKEN_WORD, id, text, len);
	if (is_tracker(text, len))
		give(x, SQL_SESSION_TRACK);
	/* BEGIN and BEGIN WORK are a transaction; BEGIN NOT ATOMIC, and with sql_mode = ORACLE BEGIN and a statement, a block. */
	if (x->before & x->verbs & MARK_BEGIN && x->tokens == 2 && id != WORD_WORK) {
		becomes_compound(x);
		x->starting = true;
	}
	if (x->body_parts)
		in_body(x, found, is_tracker(text, len));
	if (x->verbs & MARK_SET)
		set_may_call(x, text, len);
	if (found)
		known_word(x, found);
	if (x->names_routine)
		name_routine(x, id);
	if (id == WORD_CREATE && x->starting)
		x->names_routine = !x->aside;
	x->untold = is_assigned(x) && !(found && found->mark & MARK_SCOPE) && !is_next_transactions(id);
	x->before = found ? found->mark : 0;
	x->starting = (x->verbs & MARK_COMPOUND && x->before & MARK_OPENS) ||
		      (id == WORD_FOR && x->verbs & MARK_SET_STATEMENT);
}

/* A name in quotes that is longer than any that means something: a stored function's, perhaps. */
void sql_long_name(struct sql_lexer *x) {
	x->callable = x->verbs & MARK_SET;
}

/* A name in quotes is a function's or a variable's, never a key word. */
void sql_quoted_name(struct sql_lexer *x, const uint8_t *text, size_t len) {
	const struct sql_word *found = sql_word_find(text, len);
	x->callable = x->verbs & MARK_SET;
	if (x->body_parts)
		in_body(x, found, is_tracker(text, len));
	if (is_tracker(text, len))
		give(x, SQL_SESSION_TRACK);
	if (!found || found->kind != SQL_WORD_NAME)
		return;
	give(x, found->hints);
	in_context(x, found->id);
}

void sql_token(struct sql_lexer *x, enum sql_token token) {
	count(x);
	follow(x, token, WORD_OTHER, NULL, 0);
	if (x->names_routine)
		name_routine(x, WORD_OTHER);
	if (token == SQL_TOKEN_OPEN && x->callable)
		give(x, SQL_SET_CALLS);
	x->callable = x->foreign = false;
	x->untold = token == SQL_TOKEN_OTHER && is_assigned(x); /* its name in quotes */
	x->before = 0;
	x->starting = false;
}

void sql_foreign(struct sql_lexer *x) {
	x->foreign = true;
	x->callable |= x->verbs & MARK_SET;
	follow(x, SQL_TOKEN_OTHER, WORD_OTHER, NULL, 0);
}

void sql_variable(struct sql_lexer *x) {
	bool sets = x->verbs & (MARK_CALL | MARK_LOAD | MARK_GET | MARK_COMPOUND) || x->before & MARK_INTO ||
		    (x->verbs & MARK_SET && x->before & (MARK_SET | MARK_COMMA));
	give(x, SQL_USER_VARIABLE | (sets ? SQL_USER_VARIABLE_SET : 0));
	x->variable |= !x->is_body;
	if (x->body_parts)
		x->body_hints |= SQL_USER_VARIABLE | SQL_USER_VARIABLE_SET;
	sql_token(x, SQL_TOKEN_OTHER);
}

void sql_label(struct sql_lexer *x) {
	bool labels = x->tokens < 2 && !x->aside;
	sql_token(x, SQL_TOKEN_OTHER);
	if (!labels)
		return;
	becomes_compound(x);
	x->starting = true;
}

void sql_semicolon(struct sql_lexer *x) {
	if (x->is_body && (!(x->reading & SQL_MULTI_STATEMENTS) || x->depth > 0)) {
		x->body_parts |= x->reading & SQL_MULTI_STATEMENTS;
		x->body_starts = x->body_parts;
		return;
	}
	x->starting = true;
	x->any_token = false;
	if (x->kill_state != KILL_NONE && x->kill_state != KILL_USER)
		x->kill_state = x->kill_state == KILL_DONE ? KILL_DONE : KILL_OTHER;
	x->unsure |= x->shifts;
	if (x->aside)
		return;
	x->verbs &= MARK_COMPOUND;
	x->before = 0;
	x->tokens = 0;
	x->depth = 0;
	x->id_state = ID_NONE;
	x->is_body = x->names_routine = x->body_parts = false;
	x->body_hints = 0;
}

void sql_dark_word(struct sql_lexer *x, const uint8_t *text, size_t len) {
	const struct sql_word *found = is_digit(text[0]) ? behind_number(text, len) : sql_word_find(text, len);
	bool starting = x->starting;
	x->starting = false;
	if (is_tracker(text, len))
		x->text.hints |= SQL_SESSION_TRACK;
	if (!found)
		return;
	if (found->mark & (MARK_SET | MARK_INTO | MARK_CALL | MARK_LOAD | MARK_GET))
		x->assigns = true;
	if (found->id != WORD_KILL || starting)
		x->text.hints |= found->hints | at_worst(found->id);
}

void sql_settle(struct sql_lexer *x) {
	if (x->variable && x->assigns)
		x->text.hints |= SQL_USER_VARIABLE_SET;
	if (x->body_parts && x->depth > 0) {
		x->text.hints |= x->body_hints | SQL_SEVERAL;
		x->text.get_locks = x->text.release_locks = UINT8_MAX;
	}
	if (x->text.hints & SQL_BLIND)
		x->text.get_locks = x->text.release_locks = UINT8_MAX;
	bool kills = x->text.hints & (SQL_KILL | SQL_KILL_INSIDE);
	bool told = x->kill_state == KILL_DONE || x->kill_state == KILL_USER;
	if (!kills)
		x->text.kill = SQL_KILL_NONE;
	else if (!told || x->text.hints & (SQL_SEVERAL | SQL_BLIND | SQL_KILL_INSIDE))
		x->text.kill = SQL_KILL_OTHER;
}
