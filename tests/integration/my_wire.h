/* MySQL's protocol by hand: packets of any bytes, as a client or as a scripted backend, on the connections of wire.h. */
#ifndef TESTS_MY_WIRE_H
#define TESTS_MY_WIRE_H

#include "mysql/packet.h"
#include "wire.h"

struct my_packet {
	uint8_t sequence;
	uint32_t len;        /* of the body */
	uint8_t body[70000]; /* its beginning */
};

/* The next packet. RAW_CLOSED: the peer has closed (or reset). */
enum raw_status my_read_within(struct raw *raw, struct my_packet *p, int timeout_ms);
enum raw_status my_read(struct raw *raw, struct my_packet *p); /* with the deadline */
/* The next packet's first byte is this; fails the test if not. */
void my_expect(struct raw *raw, struct my_packet *p, uint8_t first);
/* It is an ERR with this code and words in its text. */
void my_expect_err(struct raw *raw, uint16_t code, const char *words);
void my_expect_closed(struct raw *raw); /* what is said before is passed over */
/* Appends a packet. */
void my_put_packet(struct bytes *b, uint8_t sequence, const void *body, size_t len);
bool my_send(struct raw *raw, uint8_t sequence, const void *body, size_t len);

/* What a greeting says. */
struct my_greeted {
	char version[100], plugin[64];
	uint32_t thread_id, capabilities;
	uint8_t collation, scramble[20];
};
struct my_greeted my_read_greeting(const struct my_packet *p);

/* A handshake response; NULL and 0 where there is nothing. */
struct my_response {
	uint32_t capabilities; /* 0: usual ones */
	const char *user, *schema, *plugin;
	const void *proof;
	size_t proof_len;
};
void my_put_response(struct bytes *b, const struct my_response *r); /* the body alone */
/* Logs in as user app by mysql_native_password, up to the OK. */
void my_raw_login(struct raw *raw, const char *schema);

/* A scripted backend's half of a login without authentication: sends a greeting with these capabilities (0: usual ones), reads the
 * response, sends OK. False: the peer closed. */
#define MY_BACKEND_SCRAMBLE "abcdefghijklmnopqrst" /* of those greetings */
bool my_backend_login(struct raw *raw, const char *version, uint32_t capabilities);
void my_put_greeting(struct bytes *b, const char *version, uint32_t capabilities, const char *plugin); /* the body alone */
enum { MY_USUAL = MY_CLIENT_LONG_PASSWORD | MY_CLIENT_PROTOCOL_41 | MY_CLIENT_SECURE_CONNECTION | MY_CLIENT_PLUGIN_AUTH |
		  MY_CLIENT_TRANSACTIONS | MY_CLIENT_MULTI_RESULTS | MY_CLIENT_SESSION_TRACK | MY_CLIENT_DEPRECATE_EOF |
		  MY_CLIENT_CONNECT_WITH_DB | MY_CLIENT_MULTI_STATEMENTS | MY_CLIENT_PS_MULTI_RESULTS };

#endif
