/* What the files of the relay share beside relay.h and state.h. Private to this folder; owner worker only. */
#ifndef MYSQL_BACKEND_H
#define MYSQL_BACKEND_H

#include "mysql/internal.h"

/* ---- server.c ---- */

/* A request of ours has been answered to its end; relay.task_failed: by an error. */
void my_task_over(struct my_server *server, const struct my_request *request, bool failed);
/* A request of a client that has gone is answered: recovery goes on. */
void my_recover_goes_on(struct my_server *server);
/* All is answered: asks for what must be known before another client has the server, or releases it. */
void my_settle(struct my_client *client, struct my_server *server);
/* What its last clients have left is in this client's way: resets it and makes it ready anew. The client holds
 * (HOLD_PREPARE). False: the server is closed. */
bool my_prepare_again(struct my_client *client, struct my_server *server);

/* ---- frontend.c ---- */

/* Ends the file that the server is reading, with an empty packet. */
void my_end_file(struct my_server *server);
/* For reports of what holds a server. */
void my_note_said(struct my_server *server, const void *sql, size_t len, bool more);

/* ---- binary.c ---- */

/* The head of COM_STMT_PREPARE's answer has come (server->relay.answer has what it says): the client's new statement, if the
 * client is still there, whose number is `*number`; the server's. False: the server is closed. */
bool my_note_prepared(struct my_client *client, struct my_server *server, const struct my_request *request,
		      uint32_t *number);
/* The end of a statement's rows: whether a cursor is open. */
void my_note_cursor(struct my_client *client, const struct my_request *request, uint16_t status);
/* A request of the client's has failed. */
void my_note_failed(struct my_client *client, const struct my_request *request);

/* ---- cancel.c ---- */

/* Whether this is what a KILL QUERY is for: what a client has asked for, or what is prepared for it. */
static inline bool my_cancel_is_for(const struct my_request *r) {
	return r->task == MY_TASK_CLIENT || r->task == MY_TASK_PREPARE;
}
/* A request has left the queue: what waits for that is sent. */
void my_cancels_go_on(struct my_server *server);

/* ---- relay.c ---- */

/* Of an error: whether it is that of a statement which was cut by a time limit. */
bool my_is_cut(const struct my_server *server, uint16_t code);
/* Tells it in our words. */
void my_tell_cut(struct my_client *client, struct my_server *server);
void my_settle_cut(struct my_server *server);

#endif
