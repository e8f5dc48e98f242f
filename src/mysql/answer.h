/*
 * Where an answer ends: a state machine that is shown one packet of a server after the other, each by its header and its
 * first byte, and tells what the packet is. It sees no more of a packet than that, but for the few kinds that say how the
 * answer goes on (my_answer_needs()); of those it wants the whole body. Sections "Text Protocol", "Prepared Statements" of
 * "Command Phase". For connections with DEPRECATE_EOF: rows end with an OK whose first byte is 0xfe.
 *
 * No memory, no connection; any thread.
 */
#ifndef MYSQL_ANSWER_H
#define MYSQL_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What was asked. */
enum my_asked {
	MY_ASKED_SIMPLE,     /* answered by OK or ERR */
	MY_ASKED_QUERY,      /* OK, ERR, rows, LOCAL INFILE; several of these */
	MY_ASKED_EXECUTE,    /* the same but for LOCAL INFILE */
	MY_ASKED_PREPARE,
	MY_ASKED_FETCH,      /* rows without a header */
	MY_ASKED_FIELDS,     /* COM_FIELD_LIST: columns */
	MY_ASKED_STATISTICS, /* a text */
	MY_ASKED_STREAM      /* packets for ever (replication) */
};

/* What a packet is. */
enum my_role {
	MY_ROLE_OK,
	MY_ROLE_ERR,
	MY_ROLE_END,      /* of rows or columns: OK with first byte 0xfe */
	MY_ROLE_INFILE,   /* asks for a file of the client's */
	MY_ROLE_COUNT,    /* of columns */
	MY_ROLE_COLUMN,
	MY_ROLE_ROW,
	MY_ROLE_PREPARED, /* the head of COM_STMT_PREPARE's answer */
	MY_ROLE_PARAMETER,
	MY_ROLE_TEXT,     /* COM_STATISTICS's */
	MY_ROLE_REST,     /* goes on with a packet of the greatest length */
	MY_ROLE_STREAM,
	MY_ROLE_WRONG     /* not to be had here */
};

enum my_answer_stage { MY_STAGE_FIRST, MY_STAGE_FILE, MY_STAGE_COLUMNS, MY_STAGE_ROWS, MY_STAGE_PARAMETERS, MY_STAGE_OVER };

struct my_answer {
	uint8_t asked, stage;
	bool rest;           /* the packet before had the greatest length: this one belongs to it */
	uint8_t sequence;    /* of the next packet */
	uint32_t columns;    /* still to come */
	uint32_t parameters; /* still to come */
	uint32_t statement;  /* PREPARED: the server's number of it, ... */
	uint16_t statement_columns, statement_parameters;
};

enum { MY_COLUMNS_MAX = 4096 };

/* The first packet of the answer has number `sequence` (1, but behind a request of several packets). */
void my_answer_begin(struct my_answer *answer, enum my_asked asked, uint8_t sequence);
/* What a packet of `length` that begins with `first` is (0 where it is empty). Does not change the answer. */
enum my_role my_answer_role(const struct my_answer *answer, uint32_t length, uint8_t first);
/* Whether my_answer_take() wants the whole body of such a packet. Those are small: a longer one than
 * MY_ANSWER_WHOLE_MAX is wrong. */
static inline bool my_answer_needs(enum my_role role) {
	return role <= MY_ROLE_COUNT || role == MY_ROLE_PREPARED;
}
enum { MY_ANSWER_WHOLE_MAX = 1 << 20 };
/* The packet with that header is the next: `body` is all of it where my_answer_needs() says so, else may be NULL. False: it
 * is not in order, or malformed; `answer` is of no use any more. */
bool my_answer_take(struct my_answer *answer, enum my_role role, uint32_t length, uint8_t sequence, const uint8_t *body);
/* The client has sent the whole file: the next packet has number `sequence`. */
void my_answer_file_sent(struct my_answer *answer, uint8_t sequence);
static inline bool my_answer_is_over(const struct my_answer *answer) {
	return answer->stage == MY_STAGE_OVER && !answer->rest;
}

#endif
