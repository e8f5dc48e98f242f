/* What the files of the direction from client to server share, private to it. All of it runs on the client's worker. */
#ifndef MYSQL_FRONTEND_H
#define MYSQL_FRONTEND_H

#include "mysql/backend.h"
#include "mysql/sql.h"
#include "mysql/state.h"

/* One command of the client's: its first packet, as much of it as has come. */
struct command {
	uint8_t type;        /* enum my_command */
	const uint8_t *data; /* from the header */
	size_t have;         /* bytes at `data` that belong to the packet */
	uint32_t length;     /* of the packet's body */
	uint8_t sequence;
};

/* What became of a command: how many bytes were taken. 0: it is incomplete, or the client is on hold or closed. */
typedef size_t taken;

static inline bool mf_is_whole(const struct command *c) {
	return c->have == MY_HEADER + c->length && c->length < MY_PACKET_FULL;
}
/* What follows the command's byte, as far as it has come. */
static inline const uint8_t *mf_body(const struct command *c) {
	return c->data + MY_HEADER + 1;
}
static inline size_t mf_body_len(const struct command *c) {
	return c->have - MY_HEADER - 1;
}

/* Its server; NULL: it has none. */
struct my_server *mf_server_of(struct my_client *client);
/* Goes to nobody, what of it is still to come included. */
taken mf_skip(struct my_client *client, const struct command *command);
/* Answers with an error and skips the command. */
taken mf_error(struct my_client *client, const struct command *command, uint16_t code, const char *text);
taken mf_out_of_memory(struct my_client *client);
/* Answers with an OK of our own and skips it. */
taken mf_ok(struct my_client *client, const struct command *command);
/* A command that is small by nature: whole; else waits for the rest, or is refused. False: *n is what to return. */
bool mf_small_and_whole(struct my_client *client, const struct command *command, taken *n);
/* A server that holds the client's session, with what a statement with these hints needs. NULL: on hold, or closed. */
struct my_server *mf_want_server(struct my_client *client, uint64_t hints);
/* Notes the command as outstanding. NULL: the server is closed. */
struct my_request *mf_push(struct my_client *client, struct my_server *server, const struct command *command,
			   enum my_asked asked, uint64_t hints);
/* Sends on what has come of it; the rest follows by itself. */
taken mf_forward(struct my_client *client, struct my_server *server, const struct command *command);
/* The same with its first `cut` body bytes (the command's included) replaced. */
taken mf_forward_replaced(struct my_client *client, struct my_server *server, const struct command *command, size_t cut,
			  const void *head, size_t head_len);

/* ---- binary.c ---- */

taken mf_on_prepare(struct my_client *client, const struct command *command);
taken mf_on_execute(struct my_client *client, const struct command *command);
taken mf_on_fetch(struct my_client *client, const struct command *command);
taken mf_on_long_data(struct my_client *client, const struct command *command);
/* It could not be given to a server; it has no answer, so its EXECUTE is told. */
void mf_long_data_lost(struct my_client *client, const struct command *command);
taken mf_on_statement_reset(struct my_client *client, const struct command *command);
taken mf_on_statement_close(struct my_client *client, const struct command *command);

/* ---- kill.c ---- */

/* KILL, as a statement or COM_PROCESS_KILL. */
taken mf_on_kill(struct my_client *client, const struct command *command, const struct sql_text *text);

#endif
