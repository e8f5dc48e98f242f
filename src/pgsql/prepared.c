#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(entry) ((entry)->lost = true)

#include "pgsql/prepared.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

/* ---- texts ---- */

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
