#include "pgsql/queue.h"

#include <stdlib.h>
#include <string.h>

struct pg_request *pg_queue_push(struct pg_queue *q, enum pg_request_type type) {
	if (q->count == q->cap) {
		uint32_t cap = q->cap ? q->cap * 2 : 16;
		struct pg_request *ring = malloc(cap * sizeof *ring);
		if (!ring)
			return NULL;
		for (uint32_t i = 0; i < q->count; i++)
			ring[i] = *pg_queue_at(q, i);
		free(q->ring);
		q->ring = ring;
		q->cap = cap;
		q->head = 0;
	}
	struct pg_request *request = pg_queue_at(q, q->count++);
	memset(request, 0, sizeof *request);
	request->type = (uint8_t)type;
	q->copy_ends += type == PG_REQ_COPY_END;
	return request;
}

static bool is_simple(const struct pg_request *r) {
	return (r->type == PG_REQ_QUERY || r->type == PG_REQ_FUNCTION) && !r->hidden;
}

static bool is_reset(const struct pg_request *r) {
	return r->type == PG_REQ_EXECUTE && r->kind == PG_TEXT_DEALLOCATE_ALL;
}

void pg_queue_count(struct pg_queue *q, const struct pg_request *r) {
	q->simple += is_simple(r);
	q->resets += is_reset(r);
}

static void leave(struct pg_queue *q, const struct pg_request *r) {
	if (is_simple(r) && q->simple > 0)
		q->simple--;
	if (is_reset(r) && q->resets > 0)
		q->resets--;
	if (r->type == PG_REQ_COPY_END)
		q->copy_ends--;
}

void pg_queue_pop(struct pg_queue *q) {
	leave(q, pg_queue_at(q, 0));
	q->head = (q->head + 1) & (q->cap - 1);
	q->count--;
}

void pg_queue_remove(struct pg_queue *q, uint32_t i) {
	leave(q, pg_queue_at(q, i));
	for (; i + 1 < q->count; i++)
		*pg_queue_at(q, i) = *pg_queue_at(q, i + 1);
	q->count--;
}

void pg_queue_free(struct pg_queue *q) {
	for (uint32_t i = 0; i < q->count; i++) {
		struct pg_request *r = pg_queue_at(q, i);
		pg_text_unref(r->before);
		pg_text_unref(r->text);
		if (r->statement_change == PG_STATEMENT_TAKEN)
			free(r->statement);
	}
	free(q->ring);
	*q = (struct pg_queue){0};
}
