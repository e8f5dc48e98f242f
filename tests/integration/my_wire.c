#include "my_wire.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "mysql/plugin.h"

/* Up to `len` bytes that are there, or come in time. */
static ssize_t take_some(struct raw *raw, void *out, size_t len, int timeout_ms) {
	if (!raw->ssl || SSL_pending(raw->ssl) == 0) {
		struct pollfd p = {.fd = raw->fd, .events = POLLIN};
		if (poll(&p, 1, timeout_ms) <= 0)
			return -2;
	}
	return raw->ssl ? SSL_read(raw->ssl, out, (int)len) : recv(raw->fd, out, len, 0);
}

static enum raw_status take(struct raw *raw, void *out, size_t len, long long deadline) {
	uint8_t *at = out;

	while (len > 0) {
		long long left = deadline - harness_now_ms();
		ssize_t n = take_some(raw, at, len, left > 0 ? (int)left : 0);
		if (n == -2)
			return RAW_TIMEOUT;
		if (n <= 0)
			return RAW_CLOSED;
		at += n;
		len -= (size_t)n;
	}
	return RAW_MESSAGE;
}

enum raw_status my_read_within(struct raw *raw, struct my_packet *p, int timeout_ms) {
	long long deadline = harness_now_ms() + timeout_ms;
	uint8_t head[MY_HEADER];
	struct my_header header = {0};
	enum raw_status status = take(raw, head, sizeof(head), deadline);

	if (status != RAW_MESSAGE)
		return status;
	my_read_header(head, sizeof(head), &header);
	p->sequence = header.sequence;
	p->len = header.length;
	memset(p->body, 0, 64);
	size_t kept = header.length < sizeof(p->body) ? header.length : sizeof(p->body);
	status = take(raw, p->body, kept, deadline);
	for (size_t left = header.length - kept; left > 0 && status == RAW_MESSAGE;) {
		uint8_t rest[4096];
		size_t n = left < sizeof(rest) ? left : sizeof(rest);
		status = take(raw, rest, n, deadline);
		left -= n;
	}
	return status;
}

enum raw_status my_read(struct raw *raw, struct my_packet *p) {
	return my_read_within(raw, p, HARNESS_DEADLINE_MS);
}

void my_expect(struct raw *raw, struct my_packet *p, uint8_t first) {
	enum raw_status status = my_read(raw, p);

	ck_assert_msg(status == RAW_MESSAGE, "%s instead of a packet 0x%02x", status == RAW_CLOSED ? "closed" : "nothing", first);
	ck_assert_msg(p->len > 0 && p->body[0] == first, "packet 0x%02x instead of 0x%02x: %.*s", p->body[0], first,
		      p->len > 9 ? (int)p->len - 9 : 0, (const char *)p->body + 9);
}

void my_expect_err(struct raw *raw, uint16_t code, const char *words) {
	static struct my_packet p;
	struct my_err err;

	my_expect(raw, &p, MY_PACKET_ERR);
	ck_assert(my_read_err(p.body, p.len, &err));
	ck_assert_msg(err.code == code, "%u instead of %u: %.*s", err.code, code, (int)err.message_len, (const char *)err.message);
	ck_assert_msg(memmem(err.message, err.message_len, words, strlen(words)), "no \"%s\" in \"%.*s\"", words,
		      (int)err.message_len, (const char *)err.message);
}

void my_expect_closed(struct raw *raw) {
	static struct my_packet p;
	enum raw_status status;

	while ((status = my_read(raw, &p)) == RAW_MESSAGE)
		;
	ck_assert_msg(status == RAW_CLOSED, "it does not close");
}

void my_put_packet(struct bytes *b, uint8_t sequence, const void *body, size_t len) {
	uint8_t head[MY_HEADER];

	my_write_header(head, (uint32_t)len, sequence);
	bytes_add(b, head, sizeof(head));
	bytes_add(b, body, len);
}

bool my_send(struct raw *raw, uint8_t sequence, const void *body, size_t len) {
	struct bytes b = {0};

	my_put_packet(&b, sequence, body, len);
	return raw_send_bytes(raw, &b);
}

struct my_greeted my_read_greeting(const struct my_packet *p) {
	struct reader r = reader_over(p->body, p->len);
	struct my_greeted g = {0};

	ck_assert_uint_eq(reader_u8(&r), 10);
	const char *version = reader_cstr(&r, NULL);
	ck_assert_ptr_nonnull(version);
	snprintf(g.version, sizeof(g.version), "%s", version);
	g.thread_id = my_u32(&r);
	memcpy(g.scramble, reader_bytes(&r, 8), 8);
	reader_u8(&r);
	g.capabilities = my_u16(&r);
	g.collation = reader_u8(&r);
	my_u16(&r);
	g.capabilities |= (uint32_t)my_u16(&r) << 16;
	ck_assert_uint_eq(reader_u8(&r), 21);
	reader_bytes(&r, 10);
	memcpy(g.scramble + 8, reader_bytes(&r, 12), 12);
	ck_assert_uint_eq(reader_u8(&r), 0);
	const char *plugin = reader_cstr(&r, NULL);
	ck_assert_ptr_nonnull(plugin);
	snprintf(g.plugin, sizeof(g.plugin), "%s", plugin);
	ck_assert(r.ok && reader_left(&r) == 0);
	return g;
}

void my_put_response(struct bytes *b, const struct my_response *r) {
	struct my_builder m = my_builder(NULL);
	uint32_t capabilities = r->capabilities ? r->capabilities : MY_USUAL;

	if (!r->schema)
		capabilities &= ~(uint32_t)MY_CLIENT_CONNECT_WITH_DB;
	my_put_u32(&m, capabilities);
	my_put_u32(&m, 1 << 24);
	my_put_u8(&m, MY_COLLATION_UTF8MB4_GENERAL_CI);
	my_put_zeros(&m, 23);
	my_put_cstr(&m, r->user ? r->user : "app");
	my_put_u8(&m, (uint8_t)r->proof_len);
	my_put(&m, r->proof, r->proof_len);
	if (r->schema)
		my_put_cstr(&m, r->schema);
	if (capabilities & MY_CLIENT_PLUGIN_AUTH)
		my_put_cstr(&m, r->plugin ? r->plugin : MY_NATIVE_NAME);
	bytes_add(b, buf_bytes(&m.buf), buf_len(&m.buf));
	my_builder_release(&m);
}

void my_raw_login(struct raw *raw, const char *schema) {
	static struct my_packet p;
	struct my_greeted g;
	uint8_t key[MY_SHA1], proof[MY_SHA1];
	struct bytes b = {0};

	my_expect(raw, &p, 10);
	g = my_read_greeting(&p);
	my_native_key("app-secret", key);
	my_native_answer(key, g.scramble, proof);
	my_put_response(&b, &(struct my_response){.schema = schema, .proof = proof, .proof_len = sizeof(proof)});
	my_send(raw, 1, b.at, b.len);
	bytes_free(&b);
	my_expect(raw, &p, MY_PACKET_OK);
	ck_assert_uint_eq(p.sequence, 2);
}

void my_put_greeting(struct bytes *b, const char *version, uint32_t capabilities, const char *plugin) {
	struct my_builder m = my_builder(NULL);
	static const uint8_t scramble[] = MY_BACKEND_SCRAMBLE;

	if (!capabilities)
		capabilities = MY_USUAL;
	my_put_u8(&m, 10);
	my_put_cstr(&m, version);
	my_put_u32(&m, 4711);
	my_put(&m, scramble, 8);
	my_put_u8(&m, 0);
	my_put_u16(&m, (uint16_t)capabilities);
	my_put_u8(&m, MY_COLLATION_UTF8MB4_GENERAL_CI);
	my_put_u16(&m, MY_STATUS_AUTOCOMMIT);
	my_put_u16(&m, (uint16_t)(capabilities >> 16));
	my_put_u8(&m, 21);
	my_put_zeros(&m, 10);
	my_put(&m, scramble + 8, 13);
	my_put_cstr(&m, plugin ? plugin : MY_NATIVE_NAME);
	bytes_add(b, buf_bytes(&m.buf), buf_len(&m.buf));
	my_builder_release(&m);
}

bool my_backend_login(struct raw *raw, const char *version, uint32_t capabilities) {
	struct my_packet *p = malloc(sizeof(*p));
	struct bytes b = {0};
	static const uint8_t ok[] = {0, 0, 0, 2, 0, 0, 0};

	my_put_greeting(&b, version, capabilities, NULL);
	bool good = p && my_send(raw, 0, b.at, b.len) && my_read_within(raw, p, 1 << 30) == RAW_MESSAGE &&
		    my_send(raw, (uint8_t)(p->sequence + 1), ok, sizeof(ok));
	bytes_free(&b);
	free(p);
	return good;
}
