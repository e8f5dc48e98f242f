#include "pgsql/sql.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { NAME_MAX_LEN = 63 }; /* NAMEDATALEN - 1 */

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

/* An identifier, folded or quoted, cut to the length of a name. NULL: none here, or out of memory. */
static char *identifier(struct scan *s) {
	const char *sql = s->sql;
	size_t n = 0, i = s->at, len = s->len;
	char *out = malloc(len - i + 1);
	if (!out)
		return NULL;
	if (i < len && sql[i] == '"') {
		for (i++; i < len; i++) {
			if (sql[i] == '"') {
				if (i + 1 < len && sql[i + 1] == '"')
					i++;
				else
					break;
			}
			out[n++] = sql[i];
		}
		if (i >= len)
			n = 0;
		else
			i++;
	} else {
		while (i < len && (isalnum((unsigned char)sql[i]) || sql[i] == '_' || sql[i] == '$' ||
				   (unsigned char)sql[i] >= 0x80))
			out[n++] = (char)tolower((unsigned char)sql[i++]);
	}
	if (n == 0) {
		free(out);
		return NULL;
	}
	out[n < NAME_MAX_LEN ? n : NAME_MAX_LEN] = 0;
	s->at = i;
	skip(s);
	return out;
}

/* Semicolons at most. */
static bool at_end(struct scan *s) {
	while (s->at < s->len && s->sql[s->at] == ';') {
		s->at++;
		skip(s);
	}
	return s->at >= s->len;
}

/* ---- transaction blocks ---- */

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
	if (at_end(&s))
		return PG_EXIT_EMPTY;
	enum pg_exit kind = first_statement(&s);
	if (kind == PG_EXIT_NONE || kind == PG_EXIT_SAVEPOINT)
		return kind;
	if (s.at < s.len && s.sql[s.at] != ';')
		return PG_EXIT_NONE; /* an error of syntax */
	*rest = at_end(&s) ? 0 : s.at;
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

/* ---- what concerns statements and settings ---- */

/* Most texts are told to be plain by their first letters: DEallocate, DIscard, REset and SET are looked at. */
static bool may_be_of_a_kind(const char *sql, size_t len) {
	if (len < 4) /* "set " */
		return false;
	char first = (char)(sql[0] | 0x20), second = (char)(sql[1] | 0x20), third = (char)(sql[2] | 0x20);
	switch (first) {
	case 'd':
		return (second == 'e' && third == 'a') || second == 'i';
	case 'r':
		return second == 'e' && third == 's';
	case 's':
		return second == 'e' && third == 't';
	default:
		return false;
	}
}

/* What follows RESET. */
static enum pg_text_kind reset(struct scan *s, char **name) {
	*name = identifier(s);
	if (*name && strcmp(*name, "time") == 0 && word(s, "ZONE")) {
		free(*name);
		*name = strdup("timezone");
	}
	return *name && at_end(s) ? PG_TEXT_RESET : PG_TEXT_PLAIN;
}

/* What follows DEALLOCATE. */
static enum pg_text_kind deallocate(struct scan *s, char **name) {
	struct scan ahead = *s;
	if (word(&ahead, "PREPARE")) {
		struct scan behind = ahead;
		if (!at_end(&behind)) /* else it is a statement that is called "prepare" */
			*s = ahead;
	}
	ahead = *s;
	if (word(&ahead, "ALL"))
		return PG_TEXT_DEALLOCATE_ALL;
	*name = identifier(s);
	return *name && at_end(s) ? PG_TEXT_DEALLOCATE : PG_TEXT_PLAIN;
}

enum pg_text_kind pg_sql_kind(const char *sql, size_t len, char **name) {
	struct scan s = {sql, len, 0};
	enum pg_text_kind kind = PG_TEXT_PLAIN;
	*name = NULL;
	skip(&s);
	if (!may_be_of_a_kind(sql + s.at, len - s.at))
		return kind;
	if (word(&s, "DISCARD"))
		return word(&s, "ALL") ? PG_TEXT_DEALLOCATE_ALL : PG_TEXT_PLAIN;
	if (word(&s, "SET"))
		return word(&s, "LOCAL") && !memchr(sql + s.at, ';', len - s.at) ? PG_TEXT_SET_LOCAL : PG_TEXT_PLAIN;
	if (word(&s, "RESET"))
		kind = reset(&s, name);
	else if (word(&s, "DEALLOCATE"))
		kind = deallocate(&s, name);
	if (kind == PG_TEXT_PLAIN) {
		free(*name);
		*name = NULL;
	}
	return kind;
}
