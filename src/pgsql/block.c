#include "pgsql/block.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

struct scan {
	const char *sql;
	size_t len, at;
};

/* White space and comments. */
static void skip(struct scan *s) {
	while (s->at < s->len) {
		const char *p = s->sql + s->at;
		size_t left = s->len - s->at;
		if (strchr(" \t\r\n\f\v", *p) && *p) {
			s->at++;
		} else if (left >= 2 && p[0] == '-' && p[1] == '-') {
			while (s->at < s->len && s->sql[s->at] != '\n' && s->sql[s->at] != '\r')
				s->at++;
		} else if (left >= 2 && p[0] == '/' && p[1] == '*') {
			size_t depth = 0, at = s->at;
			do {
				bool two = at + 1 < s->len;
				if (two && s->sql[at] == '/' && s->sql[at + 1] == '*')
					depth++, at += 2;
				else if (two && s->sql[at] == '*' && s->sql[at + 1] == '/')
					depth--, at += 2;
				else
					at++;
			} while (depth > 0 && at < s->len);
			if (depth > 0)
				return; /* it does not end: an error of syntax */
			s->at = at;
		} else {
			return;
		}
	}
}

/* Takes this word if it is next. */
static bool word(struct scan *s, const char *wanted) {
	size_t n = strlen(wanted);
	if (s->len - s->at < n || strncasecmp(s->sql + s->at, wanted, n) != 0)
		return false;
	unsigned char after = s->len - s->at > n ? (unsigned char)s->sql[s->at + n] : ' ';
	if (isalnum(after) || after == '_' || after == '$' || after >= 0x80)
		return false;
	s->at += n;
	skip(s);
	return true;
}

/* A plain string constant. */
static bool string(struct scan *s) {
	if (s->at >= s->len || s->sql[s->at] != '\'')
		return false;
	for (s->at++; s->at < s->len; s->at++) {
		if (s->sql[s->at] != '\'')
			continue;
		if (s->at + 1 < s->len && s->sql[s->at + 1] == '\'')
			s->at++;
		else
			break;
	}
	if (s->at >= s->len)
		return false;
	s->at++;
	skip(s);
	return true;
}

static enum pg_exit first_statement(struct scan *s) {
	enum pg_exit kind = PG_EXIT_NONE;
	bool rollback = word(s, "ROLLBACK");
	if (rollback || word(s, "ABORT"))
		kind = PG_EXIT_ROLLBACK;
	else if (word(s, "COMMIT") || word(s, "END"))
		kind = PG_EXIT_COMMIT;
	else if (word(s, "PREPARE"))
		return word(s, "TRANSACTION") && string(s) ? PG_EXIT_COMMIT : PG_EXIT_NONE;
	if (kind == PG_EXIT_NONE)
		return kind;
	if (!word(s, "WORK"))
		word(s, "TRANSACTION");
	if (rollback && word(s, "TO"))
		return PG_EXIT_SAVEPOINT;
	if (word(s, "AND")) {
		bool no = word(s, "NO");
		if (!word(s, "CHAIN"))
			return PG_EXIT_NONE;
		if (!no)
			kind = PG_EXIT_CHAIN;
	}
	return kind;
}

enum pg_exit pg_sql_exit(const char *sql, size_t len, size_t *rest) {
	struct scan s = {sql, len, 0};
	*rest = 0;
	skip(&s);
	while (s.at < s.len && s.sql[s.at] == ';') {
		s.at++;
		skip(&s);
	}
	if (s.at == s.len)
		return PG_EXIT_EMPTY;
	enum pg_exit kind = first_statement(&s);
	if (kind == PG_EXIT_NONE || kind == PG_EXIT_SAVEPOINT)
		return kind;
	if (s.at < s.len && s.sql[s.at] != ';')
		return PG_EXIT_NONE; /* an error of syntax */
	while (s.at < s.len && s.sql[s.at] == ';') {
		s.at++;
		skip(&s);
	}
	*rest = s.at < s.len ? s.at : 0;
	return kind;
}

/* Bytes of which not every version or encoding makes the same. */
static bool is_plain(const char *sql, size_t len) {
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)sql[i] >= 0x80 || sql[i] == '\v' || sql[i] == '\0')
			return false;
	return true;
}

enum pg_bare pg_sql_bare(const char *sql, size_t len) {
	struct scan s = {sql, len, 0};
	enum pg_bare kind;
	skip(&s);
	bool start = word(&s, "START");
	if (start)
		kind = word(&s, "TRANSACTION") ? PG_BARE_START : PG_BARE_NONE;
	else if (word(&s, "BEGIN"))
		kind = PG_BARE_BEGIN;
	else if (word(&s, "COMMIT") || word(&s, "END"))
		kind = PG_BARE_COMMIT;
	else if (word(&s, "ROLLBACK") || word(&s, "ABORT"))
		kind = PG_BARE_ROLLBACK;
	else
		return PG_BARE_NONE;
	if (!start && !word(&s, "WORK"))
		word(&s, "TRANSACTION");
	if (s.at < s.len && s.sql[s.at] == ';') {
		s.at++;
		skip(&s);
	}
	return s.at == s.len && is_plain(sql, len) ? kind : PG_BARE_NONE;
}
