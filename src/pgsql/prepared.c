#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(entry) ((entry)->lost = true)

#include "pgsql/prepared.h"

#include <ctype.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- texts ---- */

/* Skips white space and comments; nothing else of SQL is looked at here. */
static size_t sql_skip(const char *sql, size_t len, size_t at) {
	for (;;) {
		while (at < len && isspace((unsigned char)sql[at]))
			at++;
		if (len - at >= 2 && sql[at] == '-' && sql[at + 1] == '-') {
			while (at < len && sql[at] != '\n')
				at++;
		} else if (len - at >= 2 && sql[at] == '/' && sql[at + 1] == '*') {
			int depth = 1;
			at += 2;
			while (at < len && depth > 0) {
				bool open = len - at >= 2 && sql[at] == '/' && sql[at + 1] == '*';
				bool close = len - at >= 2 && sql[at] == '*' && sql[at + 1] == '/';
				depth += open ? 1 : close ? -1 : 0;
				at += open || close ? 2 : 1;
			}
		} else {
			return at;
		}
	}
}

static bool sql_word(const char *sql, size_t len, size_t *at, const char *word) {
	size_t n = strlen(word);
	if (len - *at < n || strncasecmp(sql + *at, word, n) != 0)
		return false;
	size_t end = *at + n;
	if (end < len && (isalnum((unsigned char)sql[end]) || sql[end] == '_' || (unsigned char)sql[end] >= 0x80))
		return false;
	*at = sql_skip(sql, len, end);
	return true;
}

/* An identifier, folded or quoted. NULL: none here. */
static char *sql_identifier(const char *sql, size_t len, size_t *at) {
	char *out = malloc(len - *at + 1);
	if (!out)
		return NULL;
	size_t n = 0, i = *at;
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
	out[n < 63 ? n : 63] = 0;
	*at = sql_skip(sql, len, i);
	return out;
}

static bool sql_at_end(const char *sql, size_t len, size_t at) {
	while (at < len && sql[at] == ';')
		at = sql_skip(sql, len, at + 1);
	return at >= len;
}

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

enum pg_text_kind pg_sql_kind(const char *sql, size_t len, char **name) {
	size_t at = sql_skip(sql, len, 0);
	*name = NULL;
	if (!may_be_of_a_kind(sql + at, len - at))
		return PG_TEXT_PLAIN;
	if (sql_word(sql, len, &at, "discard"))
		return sql_word(sql, len, &at, "all") ? PG_TEXT_DEALLOCATE_ALL : PG_TEXT_PLAIN;
	if (sql_word(sql, len, &at, "set"))
		return sql_word(sql, len, &at, "local") && !memchr(sql + at, ';', len - at) ? PG_TEXT_SET_LOCAL
											       : PG_TEXT_PLAIN;
	if (sql_word(sql, len, &at, "reset")) {
		*name = sql_identifier(sql, len, &at);
		if (*name && strcmp(*name, "time") == 0 && sql_word(sql, len, &at, "zone")) {
			free(*name);
			*name = strdup("timezone");
		}
		if (*name && sql_at_end(sql, len, at))
			return PG_TEXT_RESET;
		free(*name);
		*name = NULL;
		return PG_TEXT_PLAIN;
	}
	if (!sql_word(sql, len, &at, "deallocate"))
		return PG_TEXT_PLAIN;
	size_t before = at;
	if (sql_word(sql, len, &at, "prepare") && sql_at_end(sql, len, at))
		at = before; /* a statement that is called "prepare" */
	size_t word = at;
	if (sql_word(sql, len, &word, "all"))
		return PG_TEXT_DEALLOCATE_ALL;
	*name = sql_identifier(sql, len, &at);
	if (*name && sql_at_end(sql, len, at))
		return PG_TEXT_DEALLOCATE;
	free(*name);
	*name = NULL;
	return PG_TEXT_PLAIN;
}

struct pg_text *pg_text_get(struct pg_texts *texts, const uint8_t *body, size_t len) {
	struct pg_text *text = NULL;
	HASH_FIND(hh, texts->by_body, body, len, text);
	if (text) {
		text->references++;
		return text;
	}
	text = calloc(1, sizeof *text + len);
	if (!text)
		return NULL;
	text->references = 1;
	text->len = (uint32_t)len;
	text->texts = texts;
	memcpy(text->body, body, len);
	text->kind = pg_sql_kind((const char *)text->body, strnlen((const char *)text->body, len), &text->argument);
	HASH_ADD_KEYPTR(hh, texts->by_body, text->body, len, text);
	if (text->lost) {
		free(text->argument);
		free(text);
		return NULL;
	}
	return text;
}

struct pg_text *pg_text_ref(struct pg_text *text) {
	text->references++;
	return text;
}

void pg_text_unref(struct pg_text *text) {
	if (!text || --text->references > 0)
		return;
	HASH_DEL(text->texts->by_body, text);
	free(text->argument);
	free(text);
}

const uint8_t *pg_text_id(struct pg_text *text, struct settings *settings) {
	const uint8_t *meaning = settings_meaning(settings);
	if (!meaning)
		return NULL;
	if (text->has_id && memcmp(text->meaning, meaning, sizeof text->meaning) == 0)
		return text->id;
	/* Equal ids must mean equal texts even where a client chooses them: hence a cryptographic hash. */
	uint8_t digest[EVP_MAX_MD_SIZE];
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) &&
		  EVP_DigestUpdate(ctx, meaning, sizeof text->meaning) &&
		  EVP_DigestUpdate(ctx, text->body, text->len) && EVP_DigestFinal_ex(ctx, digest, NULL);
	EVP_MD_CTX_free(ctx);
	if (!ok)
		return NULL;
	memcpy(text->id, digest, PG_STATEMENT_ID);
	memcpy(text->meaning, meaning, sizeof text->meaning);
	pg_statement_name(text->id, text->on_server);
	text->has_id = true;
	return text->id;
}

void pg_statement_name(const uint8_t id[PG_STATEMENT_ID], char out[PG_STATEMENT_NAME]) {
	static const char hex[] = "0123456789abcdef";
	memcpy(out, "forebay_", 8);
	for (int i = 0; i < PG_STATEMENT_ID; i++) {
		out[8 + 2 * i] = hex[id[i] >> 4];
		out[9 + 2 * i] = hex[id[i] & 15];
	}
	out[PG_STATEMENT_NAME - 1] = 0;
}

/* ---- names of a client ---- */

struct pg_name *pg_name_find(struct pg_names *names, const char *name) {
	if (!name[0])
		return names->unnamed;
	struct pg_name *found = NULL;
	HASH_FIND_STR(names->by_name, name, found);
	return found;
}

struct pg_name *pg_name_make(struct pg_names *names, const char *name) {
	struct pg_name *entry = pg_name_find(names, name);
	if (entry)
		return entry;
	if (name[0] && HASH_COUNT(names->by_name) >= PG_CLIENT_NAMES_MAX)
		return NULL;
	size_t len = strlen(name);
	entry = calloc(1, sizeof *entry + len + 1);
	if (!entry)
		return NULL;
	memcpy(entry->name, name, len + 1);
	if (!name[0]) {
		names->unnamed = entry;
		return entry;
	}
	HASH_ADD_KEYPTR(hh, names->by_name, entry->name, len, entry);
	if (entry->lost) {
		free(entry);
		return NULL;
	}
	return entry;
}

void pg_name_set(struct pg_names *names, struct pg_name *name, struct pg_text *text) {
	if (name->text)
		names->bytes -= name->text->len;
	pg_text_unref(name->text);
	name->text = text;
	if (text)
		names->bytes += text->len;
}

void pg_name_tidy(struct pg_names *names, struct pg_name *name) {
	if (name->text || name->pending > 0 || name == names->unnamed)
		return;
	HASH_DEL(names->by_name, name);
	free(name);
}

void pg_names_clear(struct pg_names *names) {
	struct pg_name *name, *next;
	HASH_ITER(hh, names->by_name, name, next) {
		if (name->pending > 0)
			continue;
		pg_name_set(names, name, NULL);
		pg_name_tidy(names, name);
	}
}

void pg_names_free(struct pg_names *names) {
	struct pg_name *name, *next;
	HASH_ITER(hh, names->by_name, name, next) {
		HASH_DEL(names->by_name, name);
		pg_text_unref(name->text);
		free(name);
	}
	if (names->unnamed) {
		pg_text_unref(names->unnamed->text);
		free(names->unnamed);
		names->unnamed = NULL;
	}
	names->bytes = 0;
}

/* ---- statements on a server ---- */

void pg_statements_init(struct pg_statements *statements) {
	*statements = (struct pg_statements){0};
	list_init(&statements->lru);
}

struct pg_statement *pg_statement_find(struct pg_statements *statements, const uint8_t id[PG_STATEMENT_ID]) {
	struct pg_statement *s = NULL;
	HASH_FIND(hh, statements->by_id, id, PG_STATEMENT_ID, s);
	if (s) {
		list_remove(&s->lru);
		list_push_back(&statements->lru, &s->lru);
	}
	return s;
}

bool pg_statement_put_back(struct pg_statements *statements, struct pg_statement *s) {
	s->lost = false;
	HASH_ADD(hh, statements->by_id, id, PG_STATEMENT_ID, s);
	if (s->lost)
		return false;
	list_push_back(&statements->lru, &s->lru);
	statements->count++;
	return true;
}

struct pg_statement *pg_statement_add(struct pg_statements *statements, const uint8_t id[PG_STATEMENT_ID]) {
	struct pg_statement *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	memcpy(s->id, id, PG_STATEMENT_ID);
	list_init(&s->lru);
	if (!pg_statement_put_back(statements, s)) {
		free(s);
		return NULL;
	}
	return s;
}

void pg_statement_take(struct pg_statements *statements, struct pg_statement *s) {
	HASH_DEL(statements->by_id, s);
	list_remove(&s->lru);
	statements->count--;
}

struct pg_statement *pg_statement_oldest(struct pg_statements *statements) {
	list_for_each (node, &statements->lru) {
		struct pg_statement *s = container_of(node, struct pg_statement, lru);
		if (s->pending_batch == 0)
			return s;
	}
	return NULL;
}

void pg_statements_set_unnamed(struct pg_statements *statements, struct pg_text *text) {
	statements->unnamed_unknown = false;
	if (statements->unnamed == text)
		return;
	pg_text_unref(statements->unnamed);
	statements->unnamed = text ? pg_text_ref(text) : NULL;
}

void pg_statements_lose_unnamed(struct pg_statements *statements) {
	pg_statements_set_unnamed(statements, NULL);
	statements->unnamed_unknown = true;
}

void pg_statements_clear(struct pg_statements *statements) {
	struct pg_statement *s, *next;
	HASH_ITER(hh, statements->by_id, s, next) {
		pg_statement_take(statements, s);
		free(s);
	}
	pg_statements_set_unnamed(statements, NULL);
}
