/* The parts of the stub backend to each other: the loop, and what it plays. */
#ifndef BENCH_STUB_H
#define BENCH_STUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <openssl/ssl.h>

#include "wire.h"

enum {
	LARGE_ROW = 1000, /* bytes of the value in one row of a large result */
	LARGE_BLOCK_ROWS = 256,
	MESSAGE_MAX = 1024 * 1024,
	STATEMENTS_MAX = 4096 /* of one connection; MySQL's have numbers */
};

enum stub_state { STUB_STARTUP, STUB_TLS, STUB_READY };

struct conn {
	int fd;
	enum stub_state state;
	bool in_transaction;
	bool wants_out;      /* registered for EPOLLOUT: its input waits */
	bool gathered;       /* its answer is among those that the loop sends next */
	SSL *ssl;
	struct bytes in;     /* a message that has come in part */
	struct bytes out;    /* not sent yet */
	size_t out_at;
	const struct bytes *large; /* LARGE_BLOCK_ROWS rows, each as long as the next */
	uint64_t large_rows;       /* still to be sent, behind out */
	bool begins;               /* PostgreSQL: the statement that was parsed last is BEGIN */
	uint32_t capabilities;     /* MySQL */
	uint32_t statements;       /* MySQL: prepared so far */
	bool tells_transactions;   /* MySQL: session_track_transaction_info was set */
	bool has_read;             /* MySQL: a SELECT in this transaction */
	unsigned char sequence;    /* MySQL: of the next packet */
	unsigned char *kinds;      /* MySQL: of each prepared statement */
};

/* What the stub plays. */
struct stub_protocol {
	void (*prepare_answers)(void);
	/* What the server says first, or NULL. */
	void (*greet)(struct conn *c, struct bytes *out);
	/* Answers all whole messages at data; returns how many bytes they were, or -1 when the connection is over. Behind the
	 * data there is always one byte more in the buffer, to write to. Does nothing while a large result is under way. */
	ssize_t (*consume)(struct conn *c, struct bytes *out, char *data, size_t len);
	/* What comes behind the rows of a large result. */
	void (*end_large)(struct conn *c, struct bytes *out);
};

extern const struct stub_protocol stub_postgresql, stub_mysql;

/* May a client ask for TLS? */
bool stub_has_tls(void);

/* Does the statement begin with this word? */
bool stub_is_word(const char *sql, const char *word);

#endif
