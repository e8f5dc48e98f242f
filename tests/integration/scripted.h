/*
 * What the tests of split, glued and malformed messages share: a client that counts what it gets and knows when what it
 * sent was read, a backend on a Unix socket whose answers a test scripts, and SCRAM by hand for both.
 */
#ifndef TESTS_SCRIPTED_H
#define TESTS_SCRIPTED_H

#include "wire.h"

/*
 * A client that keeps all it is sent. On a Unix socket it can tell when the peer has read what was sent: so two sends
 * are two reads over there, without a pause for luck.
 */
struct probe {
	int fd;
	bool is_unix, closed, broken; /* broken: what came is no sequence of messages */
	struct bytes in;              /* what came and was not looked at yet: less than a message */
	struct bytes got;             /* whole messages; what differs from login to login is blanked */
	size_t last;                  /* where the last message begins in `got` */
	unsigned seen[256];           /* messages by type */
};

/* -1 in `fd`: refused. */
struct probe probe_unix(const char *socket_dir, int port);
struct probe probe_tcp(int port);
void probe_close(struct probe *probe);
/* Takes what has come, waits up to this long for the first of it. False: nothing came. */
bool probe_take(struct probe *probe, int timeout_ms);
/* Sends all of it, and takes what comes meanwhile. False: the peer has closed. */
bool probe_send(struct probe *probe, const void *data, size_t len);
bool probe_send_bytes(struct probe *probe, struct bytes *b); /* and frees */
/* The peer has read all that was sent, or closed; Unix sockets only. */
void probe_await_read(struct probe *probe);
/* Until `count` messages of this type were seen in all, or the peer closed. False: it did, or the deadline passed. */
bool probe_await(struct probe *probe, char type, unsigned count);
/* Until the peer has closed; false: it does not. */
bool probe_await_closed(struct probe *probe);
/* Forgets what was got and counted so far. */
void probe_forget(struct probe *probe);
/* The same for a deadline of another kind than the test's. */
bool probe_await_closed_within(struct probe *probe, int timeout_ms);
/* The field of the last ErrorResponse among what was got, or "". */
const char *probe_error(const struct probe *probe, char field);
/* As app (password "app-secret") of this database, whatever the method; with `cut` > 0, each message of the login is
 * sent in two, the first of 1 + (cut - 1) % (its length - 1) bytes. False: not let in. */
bool probe_login(struct probe *probe, const char *database, size_t cut);
/* In one piece (`cut` 0), or in two as above, the first of which is read before the second is sent. */
bool probe_send_cut(struct probe *probe, const void *data, size_t len, size_t cut);

/* How many bytes sent on this Unix socket wait to be read by the peer; 0: none, or it has closed. */
int unread_by_peer(int fd);

/* The answer to an md5 challenge: "md5" and 32 digits. */
void md5_answer(const char *user, const char *password, const uint8_t salt[4], char out[36]);

/* One SCRAM-SHA-256 exchange, of a client's or a server's. */
struct scram_talk {
	char client_bare[200], server_first[300], without_proof[300];
};

/* The client's last message, from the server's first (a string). False: that one makes no sense. */
bool scripted_scram_reply(struct scram_talk *talk, const char *server_first, const char *password, char out[500]);
/* The server's first message, from the client's first with its gs2 header (a string). */
bool scripted_scram_first(struct scram_talk *talk, const char *client_first, char out[300]);
/* The server's last one, from the client's. */
bool scripted_scram_final(struct scram_talk *talk, const char *client_final, const char *password, char out[100]);

/* A backend behind a Unix socket <dir>/.s.PGSQL.5432: each connection is served on a thread of its own. */
struct unix_backend {
	char dir[200];
	int listener;
	unsigned long thread;
	void (*serve)(int fd, void *context);
	void *context;
	_Atomic int active;
	_Atomic bool stop;
};

struct unix_backend *unix_backend_start(void (*serve)(int fd, void *context), void *context);
void unix_backend_stop(struct unix_backend *backend); /* when its peers are gone; frees it */

/* On a backend's thread, blocking: one message with a type byte (type 0: a start-up message). False: closed. `body` is
 * reused, and ends in a zero that does not count. */
bool serve_read(int fd, bool startup, char *type, struct bytes *body);
bool serve_send(int fd, const void *data, size_t len);
/* The value of a parameter in a start-up message's body (as serve_read() gives it), or "". */
const char *startup_value(const struct bytes *body, const char *name);

/* As forebay_stop(), for a Forebay whose backends broke the protocol on purpose: its log may tell of violated
 * invariants, of the connections of these pools: names with this prefix. */
void forebay_stop_violated(struct forebay *forebay, const char *pool_prefix);

#endif
