/*
 * What the files of the direction from client to server share (prefix fe_), private to it:
 *   frontend.c   the walk over messages; simple queries, function calls, Sync, copy
 *   extended.c   Parse, Bind, Describe, Execute, Close: prepared statements over servers
 *   forward.c    what becomes of a message: sent on, held, noted as outstanding
 * All of it runs on the client's worker.
 */
#ifndef PGSQL_FRONTEND_H
#define PGSQL_FRONTEND_H

#include "base/reader.h"
#include "pgsql/pgsql.h"

enum { MESSAGE_MAX = 0x3fffffff + 5, SMALL_MESSAGE_MAX = 16 * 1024, NAMEDATALEN_MAX = 64 };

/* One message of the client's, as much of it as has come. */
struct message {
	char type;
	const uint8_t *data; /* from the type byte */
	size_t have;         /* bytes at `data` that belong to it */
	uint64_t total;      /* its length with the header */
	bool more;           /* bytes that were received follow it */
	size_t blank;        /* of a Query: so much of its SQL has been dealt with and goes as blanks */
};

/* What became of a message: how many bytes were taken. 0: it is incomplete, or the client is on hold. */
typedef size_t taken;

static inline bool fe_is_whole(const struct message *m) {
	return m->have == m->total;
}

/* Small messages leave whole, so that a client that vanishes leaves no half message behind; large ones stream. */
static inline bool fe_may_leave(const struct message *m) {
	return fe_is_whole(m) || m->total > MESSAGE_HOLD_MAX;
}

static inline struct reader fe_body_of(const struct message *m) {
	return reader_over(m->data + PG_HEADER, m->have - PG_HEADER);
}

/* ---- forward.c ---- */

/* Ends the client with FATAL 08P01. */
taken fe_protocol_error(struct pg_client *pc, const char *text);
taken fe_out_of_memory(struct pg_client *pc);
/* The message goes to nobody, what of it is still to come included. */
taken fe_discard(struct pg_client *pc, const struct message *m);
/* Its server; NULL: it has none. */
struct pg_server *fe_server_of(struct pg_client *pc);
/* Waits for an answer that is under way. */
taken fe_hold(struct pg_client *pc);
/* Sends a message on as it is; with other bytes in place of its first `cut`; or with blanks in place of what was dealt with. */
taken fe_forward(struct pg_client *pc, const struct message *m);
taken fe_forward_replaced(struct pg_client *pc, const struct message *m, size_t cut, const void *head, size_t head_len);
/* The same where header and replacement are in one piece already: the header, PG_HEADER bytes, and sending. */
void fe_replaced_header(const struct message *m, size_t cut, size_t head_len, uint8_t *out);
taken fe_forward_behind(struct pg_client *pc, const struct message *m, const void *start, size_t start_len, size_t cut);
taken fe_forward_blanked(struct pg_client *pc, const struct message *m);
/* A server for this message. False: on hold, or the client is closed. */
bool fe_want_server(struct pg_client *pc);
/* Notes a request as outstanding. NULL: out of memory. */
struct pg_request *fe_push(struct pg_client *pc, struct pg_server *ps, enum pg_request_type type);
/* For reports of what holds a server. `more`: the text does not end with these bytes. */
void fe_note_said(struct pg_server *ps, const void *sql, size_t len, bool more);
void fe_note_named(struct pg_server *ps, const char *name);
/* Changes what a name stands for, to be undone if the message fails. Takes the reference to `text` over. */
void fe_change_name(struct pg_client *pc, struct pg_request *r, struct pg_name *name, struct pg_text *text);
/* Whether what a message means hangs on an answer of an earlier batch that is still to come. */
bool fe_depends_on_earlier_batch(const struct pg_client *pc, const struct pg_name *name);
bool fe_earlier_batch_outstanding(const struct pg_client *pc, const struct pg_server *ps);
bool fe_statements_uncertain(const struct pg_server *ps);
/* An answer of our own, in its turn. False: out of memory. */
bool fe_answer(struct pg_client *pc, struct pg_server *ps, enum pg_virtual what, struct pg_name *name);
/* Sends a message of two parts. False: out of memory. */
bool fe_put_message(struct pg_server *ps, char type, const void *a, size_t a_len, const void *b, size_t b_len);

/* ---- extended.c ---- */

/* Keeps what was sent of a batch that may have to be sent again. */
void fe_record(struct pg_client *pc, struct pg_server *ps, const void *data, size_t len);
/* Sends on a message whose answer is noted as outstanding. */
taken fe_forward_counted(struct pg_client *pc, const struct message *m, enum pg_request_type type);
/* A session that keeps its server keeps its statements there, under the names it gave them. */
bool fe_keeps_statements(const struct pg_client *pc);
/* A message that is small by nature, or an error. */
bool fe_small_and_whole(struct pg_client *pc, const struct message *m, taken *n);
/* What a RESET that is about to be sent names. */
void fe_note_reset(struct pg_client *pc, enum pg_text_kind kind, const char *name);
taken fe_on_parse(struct pg_client *pc, const struct message *m);
taken fe_on_bind(struct pg_client *pc, const struct message *m);
taken fe_on_describe(struct pg_client *pc, const struct message *m);
taken fe_on_execute(struct pg_client *pc, const struct message *m);
taken fe_on_close(struct pg_client *pc, const struct message *m);

#endif
