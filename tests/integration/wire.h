/* The protocol by hand: a raw client that sends any bytes, and a scripted backend that answers any bytes. */
#ifndef TESTS_WIRE_H
#define TESTS_WIRE_H

#include <stdarg.h>
#include <stdint.h>

#include "harness.h"

/* Bytes that grow. Zero-initialise; free with bytes_free(). */
struct bytes {
	uint8_t *at;
	size_t len, cap;
};

void bytes_add(struct bytes *b, const void *data, size_t len);
void bytes_free(struct bytes *b);
/*
 * Appends one message. `type` 0: without a type byte (start-up). The format: s a string with its zero, h int16,
 * i int32, c a byte, b raw bytes (size_t, const void *), v a value with its int32 length (const char *, NULL: null).
 */
void put_message(struct bytes *b, char type, const char *format, ...);
void put_message_v(struct bytes *b, char type, const char *format, va_list ap);
/* Start-up message of this version with name/value pairs up to NULL. */
void put_startup(struct bytes *b, int version, ...);

/* Messages of the extended query: unnamed portal, text format, parameters of unspecified type. */
void put_parse(struct bytes *b, const char *statement, const char *sql);
void put_bind(struct bytes *b, const char *statement, const char *value); /* one parameter; NULL: none */
void put_execute(struct bytes *b); /* with a Describe of the portal before it, as drivers do */
void put_sync(struct bytes *b);
void put_query(struct bytes *b, const char *sql);

struct message {
	char type;
	uint32_t len;        /* of the body */
	const uint8_t *body; /* valid until the next read */
};

enum raw_status { RAW_MESSAGE, RAW_CLOSED, RAW_TIMEOUT };

struct raw {
	int fd;
	void *ssl;
	uint8_t *in;
	size_t from, to, cap;
};

struct raw raw_connect(const struct forebay *forebay);
struct raw raw_connect_port(int port);
void raw_close(struct raw *raw);
void raw_reset(struct raw *raw); /* closes with RST */
/* Sends all of it; false: the peer has closed. */
bool raw_send(struct raw *raw, const void *data, size_t len);
bool raw_send_bytes(struct raw *raw, struct bytes *b); /* and frees */
/* Sends one message, format as put_message(). */
bool raw_put(struct raw *raw, char type, const char *format, ...);
enum raw_status raw_read_within(struct raw *raw, struct message *m, int timeout_ms);
enum raw_status raw_read(struct raw *raw, struct message *m); /* with the deadline */
/* Exactly one byte, as the answer to SSLRequest; -1: closed. */
int raw_byte(struct raw *raw);
/* The next message has this type (ParameterStatus and notices are skipped unless asked for); fails the test if not. */
struct message raw_expect(struct raw *raw, char type);
/* Reads on until a message of this type. */
struct message raw_until(struct raw *raw, char type);
/* Field of an ErrorResponse or NoticeResponse, or "". */
const char *error_field(const struct message *m, char field);
void raw_expect_error(struct raw *raw, const char *sqlstate);
/* The coming messages are just these, in this order; ParameterStatus and notices aside. Words separated by spaces: the
 * type, then perhaps ":" and what is in it: "D:42" the first column, "E:26000" the SQLSTATE, "Z:I" the state, "C:BEGIN"
 * the tag. For example "1 2 T D:42 C Z:I". */
void raw_answers(struct raw *raw, const char *expected);
/* The peer closes; what it says before is ignored. Fails the test when it does not close. */
void raw_expect_closed(struct raw *raw);
/* Start-up as user app of database app on a listener without authentication, up to ReadyForQuery. */
void raw_login(struct raw *raw);
/* TLS on an open connection; `alpn` may be NULL. False: the handshake failed. */
bool raw_tls(struct raw *raw, const char *alpn);

/* A scripted backend: a thread that listens and hands each connection to `serve`, on a thread of its own. */
struct backend {
	int port;
	int listener;
	unsigned long thread;
	void (*serve)(struct raw *raw, void *context);
	void *context;
	_Atomic int connections, active;
	_Atomic bool stop;
};

struct backend *backend_start(void (*serve)(struct raw *raw, void *context), void *context);
void backend_stop(struct backend *backend); /* frees it */
/* Reads the start-up message, welcomes without authentication. False: the peer closed. No deadline: a thread of the
 * backend must not fail the test. */
bool backend_login(struct raw *raw);
/* The parts of it. */
bool backend_read_startup(struct raw *raw);
void put_welcome(struct bytes *b);
/* Next message of the front end; false: closed. */
bool backend_read(struct raw *raw, struct message *m);

#endif
