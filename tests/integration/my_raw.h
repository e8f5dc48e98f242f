/* MySQL's protocol by hand: a client that sends any bytes and keeps the packets it gets, and a relay on a Unix socket that
 * passes on what a backend says in pieces of a given size. */
#ifndef TESTS_MY_RAW_H
#define TESTS_MY_RAW_H

#include "mariadb.h"
#include "scripted.h"

enum { RAW_COMMON = 0x1 | 0x4 | 0x200 | 0x2000 | 0x8000 | 1 << 17 | 1 << 18 | 1 << 19, RAW_FOUND_ROWS = 2, RAW_WITH_DB = 8,
       RAW_LOCAL_FILES = 0x80, RAW_MULTI_STATEMENTS = 1 << 16, RAW_TRACK = 1 << 23, RAW_DEPRECATE_EOF = 1 << 24,
       RAW_ONE_RESULT = 1 << 30 /* is not said: without CLIENT_MULTI_RESULTS, CLIENT_PS_MULTI_RESULTS */ };

struct my_raw {
	int fd;
	bool is_unix;
	uint32_t id; /* as the greeting says */
	size_t piece; /* sends in pieces of so many bytes, each read before the next is sent; 0: at once (Unix sockets only) */
};

/* As app, by mysql_native_password. `socket_path` NULL: 127.0.0.1 and `port`. -1 in `fd`: refused. */
struct my_raw my_raw_connect(const char *socket_path, int port, uint32_t capabilities, const char *schema);
void my_raw_close(struct my_raw *raw);
/* A packet with this number. False: closed. */
bool my_raw_send(struct my_raw *raw, uint8_t sequence, const void *body, size_t len);
bool my_raw_send_bytes(struct my_raw *raw, const void *data, size_t len);
/* The next packet's body, malloc'd, with a zero behind it. NULL: closed, or nothing came in time. */
uint8_t *my_raw_packet(struct my_raw *raw, size_t *len, uint8_t *sequence);
/* The server has closed the connection (and not merely said nothing). */
bool my_raw_closed(struct my_raw *raw);
/* A command of one byte and a text; the first packet of its answer is OK (or rows): the rest is read as well. False: an error,
 * or closed. */
bool my_raw_query(struct my_raw *raw, const char *sql);

/* A backend of unix_backend_start() (scripted.h). One packet's body; false: closed, or it is longer than `room` - 1. */
bool my_serve_read(int fd, uint8_t *body, size_t room, size_t *len);
/* Its half of a login; it lets everybody in. */
bool my_serve_login(int fd);
extern const char my_serve_ok[11 + 1];        /* first packet of an answer; without the zero at its end, as the next */
extern const char my_serve_identity[49 + 1]; /* answers what Forebay asks a server that has logged in: who it is */

struct slicer;
/* Listens on a Unix socket of its own; each connection to it leads to MariaDB. `piece`: as above, of what MariaDB says. */
struct slicer *slicer_start(size_t piece);
const char *slicer_path(const struct slicer *slicer);
void slicer_stop(struct slicer *slicer);

#endif
