/*
 * Logging in to a MySQL server or MariaDB, as a machine that bytes go into and come out of: it knows no socket. Used for
 * the connections of a pool and for those that carry a KILL ("Connection Phase"). The server is trusted as little as a
 * client: every length is bounded, and a password leaves only where the peer is known to be the right one.
 *
 * Thread: its owner's.
 */
#ifndef MYSQL_DIAL_H
#define MYSQL_DIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mysql/credential.h"
#include "mysql/facts.h"
#include "mysql/packet.h"
#include "net/tls.h"
#include "session/server.h"

enum my_dial_tls { MY_DIAL_TLS_NEVER, MY_DIAL_TLS_IF_OFFERED, MY_DIAL_TLS_MUST };

/* Texts must live as long as the dial; what is referenced is so by the dial. */
struct my_dial_target {
	const char *user;
	const char *schema;               /* NULL: none */
	struct my_credential *credential; /* NULL: no password */
	const char *program;              /* connect attribute program_name; NULL: none */
	uint32_t capabilities;            /* wanted beside those of MY_DIAL_ALWAYS: FOUND_ROWS, INTERACTIVE ... */
	uint16_t collation;               /* of the connection; 0: as the server's default */
	enum my_dial_tls tls;
	struct tls_context *tls_context;  /* what TLS is begun with; referenced; NULL: none */
	bool tls_verifies;                /* ... and by it the server's certificate is checked against an authority */
	bool local;                       /* a Unix socket: nobody is in between */
	struct evp_pkey_st *server_key;   /* the server's public RSA key; referenced; NULL: not known */
	bool takes_key;                   /* ... and the one that it sends is believed */
};

/* What every server is asked for, as far as it has it. */
enum {
	MY_DIAL_ALWAYS = MY_CLIENT_LONG_PASSWORD | MY_CLIENT_LONG_FLAG | MY_CLIENT_LOCAL_FILES | MY_CLIENT_PROTOCOL_41 |
			 MY_CLIENT_TRANSACTIONS | MY_CLIENT_RESERVED | MY_CLIENT_SECURE_CONNECTION |
			 MY_CLIENT_MULTI_STATEMENTS | MY_CLIENT_MULTI_RESULTS | MY_CLIENT_PS_MULTI_RESULTS |
			 MY_CLIENT_PLUGIN_AUTH | MY_CLIENT_CONNECT_ATTRS | MY_CLIENT_PLUGIN_AUTH_LENENC |
			 MY_CLIENT_SESSION_TRACK | MY_CLIENT_DEPRECATE_EOF
};

enum my_dial_step {
	MY_DIAL_MORE,  /* send what it has put out, if anything, and come back with what the server says */
	MY_DIAL_TLS,   /* send what it has put out, then begin TLS, then my_dial_secured() */
	MY_DIAL_DONE,  /* logged in: `facts` are filled in. What follows the bytes used is not the login's */
	MY_DIAL_FAILED /* `failure` says how */
};

struct my_dial_failure {
	enum server_failure class;
	uint16_t code;    /* of the server's error; 0: it is our own finding */
	char sqlstate[6];
	bool turn_tls;    /* it may be that the server wants TLS, which was not tried */
	char text[400];
};

enum my_dial_state {
	MY_DIAL_GREETING,   /* due */
	MY_DIAL_HANDSHAKE,  /* of TLS */
	MY_DIAL_ANSWER,     /* OK, ERR, or a request of the authentication is due */
	MY_DIAL_SHA2_RESULT, /* 0x03, 0x04, or OK or ERR */
	MY_DIAL_SHA2_KEY,   /* the public key is due */
	MY_DIAL_VERDICT,    /* OK or ERR is due */
	MY_DIAL_OVER
};

struct my_dial {
	struct my_dial_target target;
	enum my_dial_state state;
	uint8_t sequence;      /* of the next packet from the server */
	bool secured;          /* TLS is on */
	enum my_plugin plugin; /* that is being spoken */
	uint8_t scramble[MY_SCRAMBLE];
	struct my_server_facts facts;
	uint16_t collation;    /* that was named */
	struct my_dial_failure failure;
};

/* Takes references of the credential, the key, and the TLS context. */
void my_dial_begin(struct my_dial *dial, const struct my_dial_target *target);
/* Wipes it, and lets the credential go. May be called twice. */
void my_dial_end(struct my_dial *dial);
/*
 * Takes whole packets of what the server has said; `used`: how many bytes. `out` gets what is to be sent; it may hold a
 * password or a proof, so my_builder_wipe() it. After MY_DIAL_TLS nothing more may have come: what follows in `data` was
 * sent by who knows whom.
 */
enum my_dial_step my_dial_input(struct my_dial *dial, const uint8_t *data, size_t len, size_t *used,
				struct my_builder *out);
/* TLS is on. */
enum my_dial_step my_dial_secured(struct my_dial *dial, struct my_builder *out);
/* How an error of a server's at login is to be taken. */
enum server_failure my_failure_of(uint16_t code);

#endif
