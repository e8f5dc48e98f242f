#define HASH_NONFATAL_OOM 1
#include "mysql/statement.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

/* A cryptographic hash: clients choose the texts, and what it stands for decides whose statement is used. */
static bool make_id(struct my_text *text, uint64_t name) {
	const uint8_t *meaning = settings_meaning(text->settings);
	uint8_t digest[EVP_MAX_MD_SIZE];
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = meaning && ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) &&
		  EVP_DigestUpdate(ctx, meaning, SETTINGS_MEANING) && EVP_DigestUpdate(ctx, &name, sizeof name) &&
		  EVP_DigestUpdate(ctx, text->sql, text->len) &&
		  EVP_DigestFinal_ex(ctx, digest, NULL);
	if (ok)
		memcpy(text->id, digest, sizeof text->id);
	EVP_MD_CTX_free(ctx);
	return ok;
}

static struct my_text *text_new(const void *sql, size_t len, uint64_t hints, struct settings *settings, uint64_t name) {
	struct my_text *text = calloc(1, sizeof *text + len + 1);
	if (!text)
		return NULL;
	text->references = 1;
	text->hints = hints;
	text->settings = settings_ref(settings);
	text->len = len;
	memcpy(text->sql, sql, len);
	if (make_id(text, name))
		return text;
	my_text_unref(text);
	return NULL;
}

struct my_text *my_text_new(const void *sql, size_t len, uint64_t hints, struct settings *settings) {
	return text_new(sql, len, hints, settings, 0);
}

struct my_text *my_text_own(const struct my_text *text, uint64_t name) {
	return text_new(text->sql, text->len, text->hints, text->settings, name);
}

void my_text_unref(struct my_text *text) {
	if (!text || --text->references > 0)
		return;
	settings_unref(text->settings);
	free(text);
}

/* ---- a client's ---- */

struct my_statement *my_statement_find(struct my_statements *statements, uint32_t number) {
	struct my_statement *s;
	HASH_FIND(hh, statements->by_number, &number, sizeof number, s);
	return s;
}

struct my_statement *my_statement_add(struct my_statements *statements, struct my_text *text, uint16_t parameters,
				      uint16_t columns) {
	struct my_statement *s = calloc(1, sizeof *s);
	if (!s) {
		my_text_unref(text);
		return NULL;
	}
	do /* -1 is MariaDB's word for the last one prepared */
		s->number = ++statements->last_number;
	while (s->number == 0 || s->number == UINT32_MAX || my_statement_find(statements, s->number));
	s->text = text;
	s->parameters = parameters;
	s->columns = columns;
	unsigned before = HASH_COUNT(statements->by_number);
	HASH_ADD(hh, statements->by_number, number, sizeof s->number, s);
	if (HASH_COUNT(statements->by_number) == before) { /* out of memory */
		my_text_unref(text);
		free(s);
		return NULL;
	}
	statements->bytes += text->len;
	return s;
}

void my_statement_drop(struct my_statements *statements, struct my_statement *s) {
	HASH_DELETE(hh, statements->by_number, s);
	statements->bytes -= s->text->len;
	statements->cursors -= s->cursor;
	statements->long_data -= s->long_data;
	my_text_unref(s->text);
	free(s->types);
	free(s);
}

void my_statements_clear(struct my_statements *statements) {
	struct my_statement *s, *next;
	HASH_ITER(hh, statements->by_number, s, next)
		my_statement_drop(statements, s);
}

bool my_statement_bind(struct my_statement *s, const uint8_t *types, uint64_t binding) {
	size_t size = 2 * (size_t)s->parameters;
	if (!s->types)
		s->types = malloc(size ? size : 1);
	if (!s->types)
		return false;
	if (s->binding == 0 || memcmp(s->types, types, size) != 0)
		s->binding = binding;
	memcpy(s->types, types, size);
	return true;
}

/* ---- a server's ---- */

void my_prepareds_init(struct my_prepareds *prepareds) {
	*prepareds = (struct my_prepareds){0};
	list_init(&prepareds->used);
}

struct my_prepared *my_prepared_find(struct my_prepareds *prepareds, const uint8_t id[MY_STATEMENT_ID]) {
	struct my_prepared *p;
	HASH_FIND(hh, prepareds->by_id, id, MY_STATEMENT_ID, p);
	return p;
}

struct my_prepared *my_prepared_add(struct my_prepareds *prepareds, const uint8_t id[MY_STATEMENT_ID], uint32_t number) {
	struct my_prepared *p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	memcpy(p->id, id, sizeof p->id);
	p->number = number;
	unsigned before = HASH_COUNT(prepareds->by_id);
	HASH_ADD(hh, prepareds->by_id, id, sizeof p->id, p);
	if (HASH_COUNT(prepareds->by_id) == before) { /* out of memory */
		free(p);
		return NULL;
	}
	list_push_back(&prepareds->used, &p->used);
	prepareds->count++;
	return p;
}

void my_prepared_touch(struct my_prepareds *prepareds, struct my_prepared *p) {
	list_remove(&p->used);
	list_push_back(&prepareds->used, &p->used);
}

struct my_prepared *my_prepared_oldest(struct my_prepareds *prepareds) {
	list_for_each (node, &prepareds->used) {
		struct my_prepared *p = container_of(node, struct my_prepared, used);
		if (!p->in_flight && !p->holder)
			return p;
	}
	return NULL;
}

bool my_prepareds_held(const struct my_prepareds *prepareds) {
	list_for_each (node, &prepareds->used) {
		if (container_of(node, struct my_prepared, used)->holder)
			return true;
	}
	return false;
}

void my_prepared_drop(struct my_prepareds *prepareds, struct my_prepared *p) {
	HASH_DELETE(hh, prepareds->by_id, p);
	list_remove(&p->used);
	prepareds->count--;
	free(p);
}

void my_prepareds_clear(struct my_prepareds *prepareds) {
	struct my_prepared *p, *next;
	HASH_ITER(hh, prepareds->by_id, p, next)
		my_prepared_drop(prepareds, p);
}
