/*
 * Packet by packet: what a client gets through Forebay is what it gets from MariaDB itself, whatever the client can do, and
 * however the bytes of either side are cut.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "my_raw.h"

#define BYTES(s) s, sizeof(s) - 1

struct command {
	const char *bytes;
	size_t len;

};

/* One command each. Those that the server does not answer are followed by another one. */
static const struct command commands[] = {
	{BYTES("\x0e")},
	{BYTES("\x03" "CREATE OR REPLACE TABLE app.w (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(20))")},
	{BYTES("\x03" "INSERT INTO app.w (v) VALUES ('a'), (NULL), ('')")},
	{BYTES("\x03" "SELECT * FROM app.w")},
	{BYTES("\x03" "SELECT 1 WHERE 0")},
	{BYTES("\x03" "SELECT 1; SELECT 2, 3; DO 0; SELECT nope")},
	{BYTES("\x03" "SELECT nope")},
	{BYTES("\x03" "SHOW WARNINGS")},
	{BYTES("\x03" "")},
	{BYTES("\x02" "app")},
	{BYTES("\x02" "nowhere")},
	{BYTES("\x04" "w\0%")},
	{BYTES("\x1b\1\0")},
	{BYTES("\x03" "SELECT 1; SELECT 2")},
	{BYTES("\x1b\0\0")},
	{BYTES("\x03" "SELECT 1; SELECT 2")},
	{BYTES("\x1b\7\0")},
	{BYTES("\x03" "SET character_set_results = latin1")},
	{BYTES("\x03" "SET sql_mode = ''")},
	{BYTES("\x03" "SET autocommit = 0")},
	{BYTES("\x03" "INSERT INTO app.w (v) VALUES ('b')")},
	{BYTES("\x03" "COMMIT")},
	{BYTES("\x03" "SET autocommit = 1")},
	{BYTES("\x03" "BEGIN")},
	{BYTES("\x03" "UPDATE app.w SET v = 'c'")},
	{BYTES("\x0e")},
	{BYTES("\x03" "ROLLBACK")},
	{BYTES("\x03" "INSERT INTO app.w (v) VALUES ('d') RETURNING id, v")},
	{BYTES("\x16" "SELECT id, v FROM app.w WHERE id > ? AND id < ?")},
	{BYTES("\x17\1\0\0\0\0\1\0\0\0\0\1\3\0\3\0\0\0\0\0\2\0\0\0")},
	{BYTES("\x17\1\0\0\0\0\1\0\0\0\0\0\0\0\0\0\3\0\0\0")},
	{BYTES("\x17\1\0\0\0\1\1\0\0\0\0\0\0\0\0\0\7\0\0\0")},
	{BYTES("\x1c\1\0\0\0\1\0\0\0")},
	{BYTES("\x1c\1\0\0\0\7\0\0\0")},
	{BYTES("\x1c\1\0\0\0\7\0\0\0")},
	{BYTES("\x1a\1\0\0\0")},
	{BYTES("\x1a\7\0\0\0")},
	{BYTES("\x17\7\0\0\0\0\1\0\0\0")},
	{BYTES("\x16" "SELECT FROM")},
	{BYTES("\x16" "INSERT INTO app.w (v) VALUES (?)")},
	{BYTES("\x17\2\0\0\0\0\1\0\0\0\0\1\xfe\0\2xy")},
	{BYTES("\x16" "DO 0")},
	{BYTES("\x17\3\0\0\0\0\1\0\0\0")},
	{BYTES("\x16" "CALL app.many()")},
	{BYTES("\x17\4\0\0\0\0\1\0\0\0")},
	{BYTES("\x03" "CALL app.many()")},
	{BYTES("\x33\1\2\3")},
	{BYTES("\x05" "x")},
	{BYTES("\x1f")},
	{BYTES("\x17\1\0\0\0\0\1\0\0\0\0\0\0\0\0\0\3\0\0\0")},
	{BYTES("\x03" "SELECT @@time_zone, @@sql_mode = '', @@character_set_client")},
};

struct line {
	char *text;
	size_t len, cap;
};

static void say(struct line *out, const char *text) {
	size_t n = strlen(text);
	if (out->len + n + 1 > out->cap) {
		out->cap = 2 * (out->len + n + 1);
		out->text = realloc(out->text, out->cap);
		ck_assert_ptr_nonnull(out->text);
	}
	memcpy(out->text + out->len, text, n + 1);
	out->len += n;
}

/* Numbers of statements are the server's own affair. */
static void say_packet(struct line *out, uint8_t *body, size_t len, uint8_t sequence, bool prepared,
		       bool behind_columns) {
	char text[20];
	char *number = body[0] == 0xff ? strchr((char *)body + 3, '(') : NULL;
	size_t digits = number ? strspn(number + 1, "0123456789") : 0;
	if (digits > 0) {
		memmove(number + 1, number + 1 + digits, len - (size_t)(number + 1 + digits - (char *)body));
		len -= digits;
	}
	if (prepared && body[0] == 0)
		memset(body + 1, 'N', 4);
	if (len == 5 && body[0] == 0xfe) { /* EOF: that the session has changed OKs tell, ... */
		body[4] &= 0x3f;
		if (behind_columns) /* ... and what is known only when the rows are read only the one behind those */
			body[3] &= 3, body[4] = 0;
	}
	snprintf(text, sizeof text, "  #%u ", sequence);
	say(out, text);
	for (size_t i = 0; i < len; i++) {
		bool plain = body[i] > ' ' && body[i] < 0x7f && body[i] != '\\';
		snprintf(text, sizeof text, plain ? "%c" : "\\%02x", body[i]);
		say(out, text);
	}
	say(out, "\n");
}

/* Sends each command, and behind it an INIT_DB of a name that is none: the error to that ends its answer. */
static char *transcript(struct my_raw *raw) {
	static const char end[] = "\x02" "end-of-answer";
	struct line out = {0};
	uint8_t numbers[8][4] = {{0}}; /* of the statements prepared, from 1 */
	int prepared = 0;
	memset(numbers[7], 0x77, 4);
	say(&out, "");
	for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
		char head[80];
		snprintf(head, sizeof head, "%zu: \\x%02x %.40s\n", i, commands[i].bytes[0], commands[i].bytes + 1);
		say(&out, head);
		char bytes[200];
		bool prepare = commands[i].bytes[0] == 0x16;
		ck_assert_uint_lt(commands[i].len, sizeof bytes);
		memcpy(bytes, commands[i].bytes, commands[i].len);
		if (bytes[0] == 0x17 || bytes[0] == 0x1a || bytes[0] == 0x1c)
			memcpy(bytes + 1, numbers[(int)bytes[1]], 4);
		ck_assert(my_raw_send(raw, 0, bytes, commands[i].len));
		ck_assert(my_raw_send(raw, 0, end, sizeof end - 1));
		for (bool over = false, columns = false; !over;) {
			size_t len;
			uint8_t sequence, *p = my_raw_packet(raw, &len, &sequence);
			ck_assert_msg(p != NULL, "closed, or silent, behind: %s", out.text);
			over = *p == 0xff && strstr((char *)p + 9, "end-of-answer");
			if (prepare && sequence == 1 && *p == 0 && prepared < 6)
				memcpy(numbers[++prepared], p + 1, 4);
			bool column = len > 4 && !memcmp(p, "\3def", 4);
			if (!over)
				say_packet(&out, p, len, sequence, prepare && sequence == 1, columns);
			columns = column;
			free(p);
		}
	}
	return out.text;
}

static void expect_same(const char *what, const char *direct, const char *pooled) {
	size_t i = 0, line = 0;
	for (; direct[i] && direct[i] == pooled[i]; i++)
		if (direct[i] == '\n' && direct[i + 1] != ' ')
			line = i + 1;
	ck_assert_msg(direct[i] == pooled[i], "%s: directly\n%.400s\nthrough the pool\n%.400s", what, direct + line, pooled + line);
}

static void make_procedure(void) {
	MYSQL *root = maria_control();
	maria_execute(root, "CREATE OR REPLACE PROCEDURE app.many() BEGIN SELECT 1; SELECT 2, 3; END");
	mysql_close(root);
}

/* With state_change off, as by default, MariaDB tells a client of what we pass on. */
static const uint32_t kinds[] = {RAW_DEPRECATE_EOF | RAW_TRACK, RAW_DEPRECATE_EOF, RAW_TRACK, 0};

static void run(uint32_t kind, int workers, size_t client_piece, size_t server_piece) {
	char pool[300], path[300], what[80];
	struct slicer *slicer = slicer_start(server_piece);
	snprintf(pool, sizeof pool, "hosts = %s\nmax_size = 1\nacquire_timeout = 10s\n", slicer_path(slicer));
	struct forebay_setup setup = {.workers = workers, .pool = server_piece ? pool : "max_size = 1\n"};
	struct forebay *forebay = maria_forebay(&setup);
	make_procedure();
	snprintf(path, sizeof path, "%s/.s.PGSQL.%d", forebay->socket_dir, forebay->port);
	struct my_raw direct = my_raw_connect(NULL, maria_port(), kind | RAW_MULTI_STATEMENTS, "app");
	ck_assert_int_ge(direct.fd, 0);
	char *expected = transcript(&direct);
	my_raw_close(&direct);
	struct my_raw raw = my_raw_connect(path, 0, kind | RAW_MULTI_STATEMENTS, "app");
	ck_assert_int_ge(raw.fd, 0);
	raw.piece = client_piece;
	char *got = transcript(&raw);
	snprintf(what, sizeof what, "capabilities %x, pieces of %zu and %zu", kind, client_piece, server_piece);
	expect_same(what, expected, got);
	free(expected);
	free(got);
	my_raw_close(&raw);
	forebay_stop(forebay);
	slicer_stop(slicer);
}

START_TEST(packets_are_those_of_a_private_connection) {
	run(kinds[_i], _i % 2 ? 4 : 1, 0, 0);
}
END_TEST

START_TEST(bytes_may_be_cut_anywhere) {
	static const size_t pieces[][2] = {{1, 0}, {0, 1}, {3, 2}};
	run(kinds[_i % 2 ? 3 : 0], 1, pieces[_i / 2][0], pieces[_i / 2][1]);
}
END_TEST

int main(void) {
	maria_begin(NULL);
	Suite *suite = suite_create("mysql packets");
	TCase *tcase = tcase_create("packets");
	tcase_add_loop_test(tcase, packets_are_those_of_a_private_connection, 0, 4);
	tcase_add_loop_test(tcase, bytes_may_be_cut_anywhere, 0, 6);
	suite_add_tcase(suite, tcase);
	return harness_run(suite);
}
