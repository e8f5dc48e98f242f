/* A client that is not logged in yet; private to client_login.c, client_auth.c and listener.c. */
#ifndef MYSQL_LOGIN_H
#define MYSQL_LOGIN_H

#include <pthread.h>

#include "mysql/internal.h"
#include "mysql/plugin.h"
#include "session/lookup.h"

enum my_login_state {
	MY_LOGIN_RESPONSE,      /* the greeting is sent; SSLRequest or a handshake response is due */
	MY_LOGIN_TLS_HANDSHAKE,
	MY_LOGIN_ANSWER,        /* an answer to AuthSwitchRequest is due */
	MY_LOGIN_SHA2_PASSWORD, /* the password itself is due, or a request of the RSA key */
	MY_LOGIN_SHA2_CIPHER,   /* the password under the RSA key is due */
	MY_LOGIN_BUSY,          /* a look-up or a hash is under way on another thread (HOLD_LOGIN) */
	MY_LOGIN_OVER           /* ended: nothing more is read */
};

enum { MY_PASSWORD_MAX = 256 /* as MySQL's, which hashes no longer ones */ };

struct my_auth_job;

struct my_login {
	enum my_login_state state;
	bool tls_asked;
	bool again; /* COM_CHANGE_USER: it was logged in, and still counts as that */

	/* The first packet is read byte by byte out of the socket, for TLS may begin right behind it. */
	void (*on_ready)(struct stream *stream, int events); /* the session's, until then; NULL: no more, or never */
	uint8_t head[MY_HEADER + MY_SSL_REQUEST];
	uint8_t head_len;

	uint32_t offered;      /* capabilities in our greeting */
	enum my_plugin greeted; /* the plugin in it */

	/* of the handshake response */
	char user[MY_USER_MAX + 1];
	char schema[MY_SCHEMA_MAX + 1]; /* "": none */
	const char *pool;              /* that it leads to, of the configuration or `schema`; NULL: none does */
	bool has_plugins;              /* it can be switched to another one */
	enum my_plugin client_plugin;  /* by which it has answered the greeting */
	uint8_t answer[MY_PASSWORD_MAX + 1]; /* to the challenge; wiped */
	size_t answer_len;
	bool answer_cut;               /* it was longer, which no right one is */

	/* the exchange */
	enum my_plugin plugin;
	char *secret;             /* stored; NULL: none */
	enum my_secret_type secret_type;
	char doomed[160];         /* why it cannot succeed, for the log; empty: it can */

	/* what the exchange has shown */
	char *password;
	bool has_sha1, has_sha256;
	uint8_t sha1[MY_SHA1], sha256[MY_SHA256];

	struct my_auth_job *job;  /* under way; NULL: none */
	struct lookup *lookup;
};

/* What my_listener_setup() makes: the RSA key, read from a file, or made when it is first needed. */
struct my_listener {
	/* under the mutex; the key stays once it is there */
	pthread_mutex_t mutex;
	struct evp_pkey_st *key;
};

/* The key; made now, which takes a while, if there is none: on a helper thread. NULL: it cannot be made. */
struct evp_pkey_st *my_listener_key(struct my_listener *setup);

/* Random, and of bytes that no client takes for the end of a string. False: no randomness. */
bool my_login_scramble(uint8_t out[MY_SCRAMBLE]);

/* client_login.c: parts of a handshake response that COM_CHANGE_USER has, too. False: malformed. */
bool my_login_take_name(struct reader *r, char *out, size_t room);
bool my_login_take_attributes(struct my_client *client, struct reader *r);
/* The pool that it leads to; NULL: none does. */
const char *my_login_choose_pool(const struct my_client *client);

/* client_auth.c: the handshake response is taken: authenticate. */
void my_auth_begin(struct my_client *client);
/* A packet that answers what was asked. The client may be gone afterwards. */
void my_auth_message(struct my_client *client, const uint8_t *body, size_t len);
void my_auth_detach(struct my_login *login);

/* client_login.c: an error, a line in the log, and the end. `reason` is for operators; NULL: the message. The client, and
 * its login with it, may be gone afterwards. */
void my_login_reject(struct my_client *client, uint16_t code, const char *message, const char *reason);
/* Sends what the builder holds, wiped behind it. False: the client has been rejected. */
bool my_login_send(struct my_client *client, struct my_builder *b);
/* Nobody but the client can read what it sends: TLS, or a Unix socket. */
bool my_login_private(const struct my_client *client);

#endif
