/* A client that is not logged in yet; private to client_login.c and client_auth.c. */
#ifndef PGSQL_LOGIN_H
#define PGSQL_LOGIN_H

#include "pgsql/hba.h"
#include "pgsql/ident.h"
#include "pgsql/password.h"
#include "pgsql/pgsql.h"
#include "pgsql/scram.h"
#include "session/lookup.h"

enum pg_login_state {
	PG_LOGIN_FIRST_BYTE,    /* nothing read yet: it may be TLS at once */
	PG_LOGIN_STARTUP,       /* a start-up packet is due */
	PG_LOGIN_TLS_HANDSHAKE,
	PG_LOGIN_ANSWER,        /* an answer to our authentication request is due */
	PG_LOGIN_BUSY,          /* a look-up or a hash is under way on another thread (HOLD_LOGIN) */
	PG_LOGIN_OVER           /* ended: nothing more is read */
};

enum pg_exchange { PG_EXCHANGE_PASSWORD, PG_EXCHANGE_MD5, PG_EXCHANGE_SASL_FIRST, PG_EXCHANGE_SASL_EMPTY,
		   PG_EXCHANGE_SASL_FINAL };

struct auth_job;

struct pg_login {
	enum pg_login_state state;
	bool direct_tls, tls_asked, gss_asked;
	/* the session's, until the first byte has been looked at */
	void (*on_ready)(struct stream *stream, int events);

	/* of the start-up message */
	char user[64], database[64]; /* cut as PostgreSQL cuts names */
	struct settings *startup;
	bool physical; /* replication without a database */
	bool console;

	/* how it must authenticate */
	enum hba_method method;
	enum hba_client_cert client_cert;
	bool use_subject;
	const char *map;

	/* the exchange */
	enum pg_exchange exchange;
	char *secret;              /* stored; NULL: none */
	enum pg_secret_type secret_type;
	char doomed[160];          /* why it cannot succeed, for the log; empty: it can */
	bool derived;              /* a derivation has been done: a failure may be told at once */
	uint8_t md5_salt[4];
	struct scram_server *scram;
	struct scram_binding binding;
	struct scram_secret scram_secret;
	bool keys_ready;           /* scram_secret has its keys */

	/* what the exchange has shown */
	char *password;
	uint8_t client_key[SCRAM_KEY];
	bool has_client_key;

	struct auth_job *job;      /* under way; NULL: none */
	struct lookup *lookup;
};

/* What pg_listener_setup() makes. */
struct pg_listener {
	struct hba *hba;
	struct ident *ident;
};

/* client_auth.c: the start-up message is taken: authenticate. */
void pg_auth_begin(struct pg_client *client);
/* The body of a password or SASL message. The client may be gone afterwards. */
void pg_auth_message(struct pg_client *client, const uint8_t *body, size_t len);
void pg_auth_detach(struct pg_login *login);

/* client_rules.c: sets how it must authenticate from the HBA file. False: rejected. */
bool pg_rules_apply(struct pg_client *client);
/* Whether its certificate is one of the user's; if not, login->doomed says why. */
bool pg_rules_certificate(struct pg_client *client);

/* client_login.c: a FATAL error, a line in the log, and the end. `reason` is for operators; NULL: the message. The
 * client, and its login with it, may be gone afterwards. */
void pg_login_reject(struct pg_client *client, const char *sqlstate, const char *message, const char *hint,
		     const char *reason);
/* Sends what the builder holds and releases it. False: the client has been rejected. */
bool pg_login_send(struct pg_client *client, struct pg_builder *b);

#endif
