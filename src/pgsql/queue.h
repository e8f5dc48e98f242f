/*
 * What is outstanding on a server, oldest first: one entry for each message whose answer is to come, and for each
 * answer of our own that must wait for its turn. A byte from the server belongs to the entry at the head.
 */
#ifndef PGSQL_QUEUE_H
#define PGSQL_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "pgsql/prepared.h"

enum pg_request_type {
	PG_REQ_QUERY,    /* ends with ReadyForQuery, as do the next two */
	PG_REQ_FUNCTION,
	PG_REQ_SYNC,
	PG_REQ_PARSE,    /* ParseComplete */
	PG_REQ_BIND,     /* BindComplete */
	PG_REQ_DESCRIBE, /* RowDescription or NoData */
	PG_REQ_EXECUTE,  /* CommandComplete, EmptyQueryResponse or PortalSuspended */
	PG_REQ_CLOSE,    /* CloseComplete */
	PG_REQ_COPY_END, /* CopyDone or CopyFail: never answered; marks where copy data ends */
	PG_REQ_VIRTUAL   /* an answer of our own, in its turn */
};

enum pg_virtual { PG_VIRTUAL_PARSE_COMPLETE, PG_VIRTUAL_CLOSE_COMPLETE, PG_VIRTUAL_DEALLOCATE };

enum pg_statement_change { PG_STATEMENT_SAME, PG_STATEMENT_ADDED, PG_STATEMENT_TAKEN };

enum pg_refused { PG_REFUSED_NO, PG_REFUSED_TOO_LONG, PG_REFUSED_TOO_MANY };

struct pg_request {
	uint8_t type;             /* enum pg_request_type */
	uint8_t task;             /* enum pg_task: a message of ours that a task waits for */
	uint8_t virtual_answer;   /* enum pg_virtual */
	uint8_t kind;             /* enum pg_text_kind of what is executed */
	uint8_t statement_change; /* enum pg_statement_change */
	uint8_t refused;          /* enum pg_refused: a Bind that is made to fail, to tell an error of ours */
	bool hidden;              /* ours: its answer goes to nobody */
	bool duplicate;           /* a Parse of a name that is taken: will fail, in the client's words */
	bool renamed;             /* refers to a statement by our name for it */
	bool sets_unnamed;
	uint32_t batch;
	struct pg_name *name;     /* changed by this message; NULL: none */
	struct pg_text *before;   /* what it stood for before; referenced; NULL: nothing */
	struct pg_text *text;     /* Bind: what it was bound to; referenced; NULL */
	struct pg_statement *statement;
};

enum { PG_QUEUE_MAX = 4096 };

struct pg_queue {
	struct pg_request *ring;
	uint32_t head, count, cap; /* cap: a power of two */
	uint32_t simple;           /* Query and Function entries in it */
	uint32_t resets;           /* entries that may drop all prepared statements */
	uint32_t copy_ends;        /* PG_REQ_COPY_END entries */
};

/* A zeroed entry at the tail. NULL: out of memory. */
struct pg_request *pg_queue_push(struct pg_queue *queue, enum pg_request_type type);
static inline struct pg_request *pg_queue_at(const struct pg_queue *queue, uint32_t i) {
	return &queue->ring[(queue->head + i) & (queue->cap - 1)];
}
static inline struct pg_request *pg_queue_head(const struct pg_queue *queue) {
	return queue->count ? pg_queue_at(queue, 0) : NULL;
}
static inline bool pg_queue_full(const struct pg_queue *queue) {
	return queue->count >= PG_QUEUE_MAX;
}
/* Takes the head off; its references must have been settled. */
void pg_queue_pop(struct pg_queue *queue);
/* Takes entry i out of the middle. */
void pg_queue_remove(struct pg_queue *queue, uint32_t i);
/* A Query or Function is no simple one for `simple` unless it is a client's: call after setting `hidden`, `kind`. */
void pg_queue_count(struct pg_queue *queue, const struct pg_request *request);
/* Lets go of all references; the client's names are not touched. */
void pg_queue_free(struct pg_queue *queue);

#endif
