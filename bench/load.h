/* The parts of the load generator to each other. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include "histogram.h"
#include "net/send_ring.h"
#include "scram.h"
#include "wire.h"

enum {
	EVENTS = 512,
	INPUT_SIZE = 256 * 1024,
	LOGINS_AT_A_TIME = 128,
	THREADS_MAX = 64,
	CLIENTS_MAX = 1000000,
	SECONDS_MAX = 3600,
	ADDRESSES_MAX = 250,
	DATABASES_MAX = 100000,
	ROUND_TRIPS_MAX = 3,
	SLOW_TICK_MS = 10,
	SLOW_RECEIVE_BUFFER = 64 * 1024,
	DRAIN_MS = 10000
};

enum mode { SIMPLE, EXTENDED, PREPARED, PIPELINED, TRANSACTION, CONNECT, IDLE, LARGE, SLOW, MODES };
enum phase { PHASE_LOGIN, PHASE_THIN_OUT, PHASE_RUN, PHASE_CLOSE };

enum client_state {
	CLIENT_NONE,      /* has no connection */
	CLIENT_TLS_ASKED, /* SSLRequest is sent */
	CLIENT_TLS,       /* in the handshake */
	CLIENT_LOGIN,     /* the startup packet is sent */
	CLIENT_PREPARING, /* its statement is being prepared */
	CLIENT_READY,     /* nothing is under way */
	CLIENT_BUSY       /* a transaction is under way */
};

struct client {
	int fd;
	int index; /* of all threads' clients */
	enum client_state state;
	bool is_slow;
	bool waits_out; /* registered for EPOLLOUT, as the socket did not take all of the request */
	bool gathered;  /* its request is among those that the thread sends next */
	unsigned char head[5];
	unsigned char head_len;
	unsigned char round_trip; /* of the transaction under way */
	uint32_t body_left;
	uint64_t begun_ns;
	const char *out; /* of a request, or of login_out */
	size_t out_left;
	SSL *ssl;
	struct bytes login_in, login_out; /* while it logs in */
	struct scram scram;
	/* MySQL's answers have parts, and its prepared statements numbers. */
	struct bytes own[2]; /* what it sends instead of conf.requests: at first, and from then on */
	bool executed;
	bool no_eof; /* behind columns */
	unsigned char part; /* of an answer, as the protocol counts them */
	uint32_t parts_left; /* packets of that part */
};

struct thread {
	int epoll;
	int clients_count;
	struct client *clients;
	char *input;
	struct send_ring *ring; /* NULL: each request is sent by itself */
	struct client *gathered[SEND_RING_SIZE];
	int gathered_count;
	uint64_t now_ns;
	int logins;   /* under way */
	int begun;    /* clients that have begun to log in */
	int ready;    /* clients that are logged in */
	int busy;
	int slow_count;
	uint64_t begun_transactions;
	uint64_t total; /* transactions, of any time */
	uint64_t counted, in_window, bytes, slow_bytes, rows, errors;
	struct histogram latency;
	struct scram_cache scram;
	_Atomic int ready_seen;
	_Atomic bool thinned_out;
	_Atomic int drained; /* the last run that has come to its end here */
	pthread_t id;
};

struct load_protocol {
	bool server_speaks_first;
	/* Fills in what conf keeps of requests. */
	void (*prepare_requests)(void);
	/* A query with a result of conf.mib MiB, from the stub as well as from a real server. On the heap. */
	char *(*large_sql)(void);
	const char *sql; /* unless another is named */
	/* Bytes of a login: NULL, or what is wrong. */
	const char *(*login_input)(struct thread *t, struct client *c, const char *data, size_t len);
	/* Bytes of answers; calls client_ready(). False: the connection must go. */
	bool (*answer_input)(struct thread *t, struct client *c, const char *data, size_t len);
	const struct bytes *goodbye;
};
extern const struct load_protocol load_postgresql, load_mysql;

/* Set up before the threads start. */
struct load_conf {
	const struct load_protocol *protocol;
	enum mode mode;
	struct sockaddr_in address;
	const char *user, *database, *password, *sql, *parameter, *statement;
	int clients, threads, runs, addresses, databases, keep_one_of, pipeline, mib, slow, slow_rate;
	double seconds, warm_up;
	uint64_t transactions_max, errors_max; /* for each thread */
	bool sync, touch, eof;
	SSL_CTX *tls;
	struct bytes *startups; /* one for each database */
	struct bytes prepare;
	struct bytes requests[ROUND_TRIPS_MAX];
	struct bytes slow_request;
	int round_trips;
};
extern struct load_conf conf;

/* Set by the main thread; read by all. */
extern _Atomic int phase;
extern _Atomic uint64_t start_ns, end_ns;

_Noreturn void fail(const char *what);

/* load_client.c; all for the client's own thread. */

/* Begins to connect and log in; what comes of it is seen in t->ready. */
void client_connect(struct thread *t, struct client *c);
/* Begins a transaction of a client that is ready. False if the connection is lost. */
bool client_begin(struct thread *t, struct client *c);
/* Counts an error, and connects anew. */
void client_lost(struct thread *t, struct client *c, const char *why);
void client_close(struct client *c);
void client_event(struct thread *t, struct client *c, uint32_t events);
/* Receives once, at most so many bytes. */
void client_input(struct thread *t, struct client *c, size_t at_most);
/* Sends it: now, or with others' requests by send_gathered(). */
bool client_send(struct thread *t, struct client *c, const struct bytes *what);
void send_gathered(struct thread *t);
const struct bytes *client_startup(const struct client *c);
/* Its login, or the answer to its request, has come to its end. False if the connection is lost. */
bool client_ready(struct thread *t, struct client *c);
/* Counts an answer that is an error. */
void client_error(struct thread *t, const char *text);
/* May this thread begin another transaction? */
bool may_begin(const struct thread *t);

#endif
