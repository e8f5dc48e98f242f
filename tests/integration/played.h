/*
 * A client's session that is played again and again, its bytes cut into sends in other ways each time, and its answers
 * compared with those that PostgreSQL itself gives.
 */
#ifndef TESTS_PLAYED_H
#define TESTS_PLAYED_H

#include "scripted.h"

/* A client's session after its login, and where it must have had an answer before it can know what to send next. */
struct session {
	struct bytes out;
	struct {
		size_t at;
		char type;
		unsigned count;
	} waits[120];
	size_t wait_count;
};

/* How a session is delivered. */
enum manner {
	ONE_BY_ONE,   /* each message its own send, waiting for answers as a client does */
	EACH_CUT,     /* so, and each message in two sends */
	TOGETHER,     /* what is sent between two waits in one send */
	TOGETHER_CUT, /* in two sends */
	GLUED,        /* all of it in one send, no wait */
	GLUED_CUT,    /* in two sends */
	EACH_BYTE     /* no wait; each byte is a send, and on a Unix socket a read */
};

/* Notes that this many more messages of this type must have come before what follows may be sent. */
void await_answer(struct session *s, char type, unsigned count);
void query_and_wait(struct session *s, const char *sql);
void sync_and_wait(struct session *s);
void copy_data(struct session *s, const char *line);
/* Parse, Bind, Describe and Execute of the unnamed statement. */
void put_batch(struct session *s, const char *sql, const char *value);
void add_end(struct session *s); /* Terminate: a played session must end so */
void session_free(struct session *s);

/* Logs in, plays the session to its end, closes the probe. What it got, the login aside, which goes to `welcome` if that
 * is not NULL. `cut`: with the manners that cut, where. */
struct bytes play(struct probe probe, const char *database, const struct session *s, enum manner manner, size_t cut,
		  struct bytes *welcome);
/* What PostgreSQL itself answers, message by message, to user trusted of database app. */
struct bytes play_on_postgres(const struct session *s);
void expect_same(const struct bytes *got, const struct bytes *expected, const char *how, size_t cut);
void play_and_compare(struct probe probe, const struct session *s, enum manner manner, size_t cut,
		      const struct bytes *expected, const char *how);
/* The longest message, or the most bytes between two waits: cuts beyond it have all been made. */
size_t longest_piece(const struct session *s, bool together);

#endif
