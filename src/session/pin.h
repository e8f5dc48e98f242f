/*
 * Why a client keeps its server beyond its transaction although its pool would give it to others: something in the session
 * that cannot be given to another server. A protocol finds these out and tells here; the console and the metrics show them.
 * A pin lasts until its cause has ended; client->keeps_server is set meanwhile.
 */
#ifndef SESSION_PIN_H
#define SESSION_PIN_H

#include <stdint.h>

struct client;

enum pin_reason {
	PIN_USER_VARIABLE,
	PIN_TEMPORARY_TABLE,
	PIN_NAMED_LOCK,
	PIN_TABLE_LOCK,
	PIN_HANDLER,
	PIN_SQL_PREPARED,    /* PREPARE as text */
	PIN_SEQUENCE,
	PIN_FOUND_ROWS,
	PIN_ROW_COUNT,
	PIN_CURSOR,
	PIN_LONG_DATA,
	PIN_WARNINGS,
	PIN_VARIABLE,        /* a variable that cannot be set to the same elsewhere */
	PIN_NEXT_TRANSACTION, /* SET TRANSACTION, for the next one alone */
	PIN_TRACKERS,        /* it has changed what the server tells of its session */
	PIN_ROLE,
	PIN_BINLOG,
	PIN_SESSION_STATE,   /* the server says that something has changed, and not what */
	PIN_LONG_TEXT,       /* a statement too long to be looked at */
	PIN_NO_TRACKERS,     /* its backend does not tell what changes */
	PIN_REPLICATION,
	PIN_REASONS
};

/* "user_variable" ...; static: the label of forebay_session_pins_total and the word of the console. */
const char *pin_reason_name(enum pin_reason reason);
/* `pins` and the result: sets of 1 << enum pin_reason. Counts the reason if it is a new one, and keeps its server to the client.
 * Owner worker, of a client that has a server. */
uint32_t pin_add(struct client *client, uint32_t pins, enum pin_reason reason);
/* The reasons `gone` have ended. Where none is left the server can be released as the pool's mode has it: the caller's
 * input or server_maybe_release() sees to that. */
uint32_t pin_drop(struct client *client, uint32_t pins, uint32_t gone);

#endif
