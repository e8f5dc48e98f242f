/*
 * The cross-talk test's clients: state machines over raw sockets that run random units of work. Each answer carries a
 * token that only its client knows, and each message that comes is compared with what must come.
 */
#ifndef TESTS_CROSSTALK_H
#define TESTS_CROSSTALK_H

#include "wire.h"

enum { XT_NAMES = 6, XT_TOKEN = 48, XT_TEXT = 160 };

/* What must come next. */
enum expect_kind {
	XT_TYPE,   /* a message of this type, whatever is in it */
	XT_ROW,    /* a row whose first column is `text`, `repeat` times */
	XT_TAG,    /* CommandComplete that begins with `text` */
	XT_READY,  /* ReadyForQuery in `state` */
	XT_ERROR,  /* an error with `sqlstate`, that quotes `text` */
	XT_COPY,   /* CopyData: `text` and a newline */
	XT_PARSED, /* ParseComplete: statement `name` is there from now on, in generation `generation` */
	XT_CLOSED  /* CloseComplete: it is gone */
};

struct expect {
	enum expect_kind kind;
	char type, state;
	int name, generation;
	unsigned repeat;
	char sqlstate[6];
	char text[XT_TEXT];
};

enum xt_state { XT_OFF, XT_LOGIN, XT_IDLE, XT_BUSY };

struct xt_client;

/* A unit of work. Called with phase 0, 1, ... each time that all which was expected has come; false: done. */
typedef bool (*xt_unit)(struct xt_client *c, int phase);

struct xt_client {
	int id, fd;
	enum xt_state state;
	bool connecting;          /* until the socket is writable */
	uint64_t random;
	long long wake_ms;        /* idle: until then */
	long long progress_ms;    /* when something last moved */
	uint32_t pid, key;        /* for cancels */
	unsigned session, op;

	struct bytes out;
	size_t out_sent;
	bool trickle;             /* sends in small pieces */
	uint8_t *in;
	size_t in_from, in_to, in_cap;

	struct expect *expects;
	size_t expect_from, expect_to, expect_cap;

	xt_unit unit;
	const char *unit_name;
	int phase;
	char status;              /* of the last ReadyForQuery */
	bool aborted;             /* a cancel or a kill has hit this unit */
	bool killed;              /* ... a kill */
	bool said_goodbye;        /* an error that explains a close has come */
	int notices;              /* still to come */
	int cancels;              /* sent and not seen yet */
	long long cancelled_ms;   /* when the last was sent */
	int messages_to_drop;     /* >= 0: disconnects after so many messages */
	int messages_to_cancel;   /* >= 0: cancels after so many */

	bool statement[XT_NAMES]; /* exists */
	int generation[XT_NAMES], generations;
	/* What a unit keeps between its phases. */
	char token[XT_TOKEN];
	int number;
	bool extended;
};

struct xt_counts {
	unsigned long units, answers, rows, bytes, errors, cancels_sent, cancels_hit, disconnects, lost, resets, logins;
};

uint64_t xt_random(struct xt_client *c);
unsigned xt_below(struct xt_client *c, unsigned n);
/* A fresh token of this client. */
void xt_token(struct xt_client *c, char *out);
struct expect *xt_expect(struct xt_client *c, enum expect_kind kind);
/* Picks the next unit of work at random. */
xt_unit xt_pick(struct xt_client *c, const char **name);

#endif
