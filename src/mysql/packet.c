#include "mysql/packet.h"

#include <string.h>

enum { ERROR_MESSAGE_MAX = 512 /* MYSQL_ERRMSG_SIZE */ };

/* ---- reading ---- */

static uint64_t lenenc_after(struct reader *r, uint8_t first) {
	switch (first) {
	case 0xfc:
		return my_u16(r);
	case 0xfd:
		return my_u24(r);
	case 0xfe:
		return my_u64(r);
	case MY_LENENC_NULL:
	case 0xff:
		r->ok = false;
		return 0;
	default:
		return first;
	}
}

uint64_t my_lenenc(struct reader *r) {
	uint64_t v = lenenc_after(r, reader_u8(r));

	return r->ok ? v : 0;
}

static const uint8_t *bytes_of(struct reader *r, uint64_t n, size_t *len) {
	*len = 0;
	if (!r->ok || n > reader_left(r)) {
		r->ok = false;
		return NULL;
	}
	*len = (size_t)n;
	return reader_bytes(r, (size_t)n);
}

const uint8_t *my_lenenc_bytes(struct reader *r, size_t *len) {
	uint64_t n = my_lenenc(r);

	return bytes_of(r, n, len);
}

const uint8_t *my_lenenc_or_null(struct reader *r, size_t *len, bool *is_null) {
	uint8_t first = reader_u8(r);

	*is_null = r->ok && first == MY_LENENC_NULL;
	if (*is_null) {
		*len = 0;
		return NULL;
	}
	uint64_t n = lenenc_after(r, first);
	return bytes_of(r, n, len);
}

bool my_read_ok(const uint8_t *body, size_t len, uint32_t capabilities, struct my_ok *out) {
	struct reader r = reader_over(body, len);

	*out = (struct my_ok){0};
	reader_u8(&r);
	out->affected_rows = my_lenenc(&r);
	out->last_insert_id = my_lenenc(&r);
	out->status = my_u16(&r);
	out->warnings = my_u16(&r);
	if (!r.ok)
		return false;
	bool has_state = (capabilities & MY_CLIENT_SESSION_TRACK) && (out->status & MY_STATUS_SESSION_STATE_CHANGED);
	/* Where nothing follows even the empty info may be missing. */
	if (reader_left(&r) == 0)
		return !has_state;
	out->info = my_lenenc_bytes(&r, &out->info_len);
	if (has_state)
		out->state = my_lenenc_bytes(&r, &out->state_len);
	return r.ok;
}

bool my_read_err(const uint8_t *body, size_t len, struct my_err *out) {
	struct reader r = reader_over(body, len);

	*out = (struct my_err){.sqlstate = "HY000"};
	reader_u8(&r);
	out->code = my_u16(&r);
	if (!r.ok)
		return false;
	if (reader_left(&r) >= 6 && *r.pos == '#') {
		reader_u8(&r);
		memcpy(out->sqlstate, reader_bytes(&r, 5), 5);
	}
	out->message_len = reader_left(&r);
	out->message = reader_bytes(&r, out->message_len);
	return true;
}

/* ---- building ---- */

void my_put(struct my_builder *b, const void *data, size_t len) {
	if (b->ok && !buf_append(b->cache, &b->buf, data, len))
		b->ok = false;
}

void my_put_u8(struct my_builder *b, uint8_t v) {
	my_put(b, &v, 1);
}

void my_put_u16(struct my_builder *b, uint16_t v) {
	uint8_t bytes[] = {(uint8_t)v, (uint8_t)(v >> 8)};

	my_put(b, bytes, sizeof bytes);
}

void my_put_u24(struct my_builder *b, uint32_t v) {
	uint8_t bytes[] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16)};

	my_put(b, bytes, sizeof bytes);
}

void my_put_u32(struct my_builder *b, uint32_t v) {
	uint8_t bytes[] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};

	my_put(b, bytes, sizeof bytes);
}

void my_put_u64(struct my_builder *b, uint64_t v) {
	my_put_u32(b, (uint32_t)v);
	my_put_u32(b, (uint32_t)(v >> 32));
}

void my_put_zeros(struct my_builder *b, size_t count) {
	static const uint8_t zeros[32];

	for (; count > sizeof zeros; count -= sizeof zeros)
		my_put(b, zeros, sizeof zeros);
	my_put(b, zeros, count);
}

void my_put_cstr(struct my_builder *b, const char *s) {
	my_put(b, s, strlen(s) + 1);
}

void my_put_lenenc(struct my_builder *b, uint64_t v) {
	if (v < 0xfb) {
		my_put_u8(b, (uint8_t)v);
	} else if (v <= 0xffff) {
		my_put_u8(b, 0xfc);
		my_put_u16(b, (uint16_t)v);
	} else if (v <= 0xffffff) {
		my_put_u8(b, 0xfd);
		my_put_u24(b, (uint32_t)v);
	} else {
		my_put_u8(b, 0xfe);
		my_put_u64(b, v);
	}
}

void my_put_lenenc_bytes(struct my_builder *b, const void *data, size_t len) {
	my_put_lenenc(b, len);
	my_put(b, data, len);
}

void my_put_lenenc_str(struct my_builder *b, const char *s) {
	my_put_lenenc_bytes(b, s, strlen(s));
}

void my_open(struct my_builder *b, uint8_t sequence) {
	/* Counted from the buffer's start, which moves when it grows. */
	b->mark = (uint32_t)buf_len(&b->buf);
	my_put_u24(b, 0);
	my_put_u8(b, sequence);
}

void my_close(struct my_builder *b) {
	if (!b->ok)
		return;
	size_t length = buf_len(&b->buf) - b->mark - MY_HEADER;
	if (length >= MY_PACKET_FULL) {
		b->ok = false;
		return;
	}
	uint8_t *header = b->buf.data + b->buf.start + b->mark;
	my_write_header(header, (uint32_t)length, header[3]);
}

void my_builder_release(struct my_builder *b) {
	buf_release(b->cache, &b->buf);
}

void my_builder_wipe(struct my_builder *b) {
	buf_release_wiped(b->cache, &b->buf);
}

void my_put_ok(struct my_builder *b, uint8_t sequence, uint8_t first, uint32_t capabilities, const struct my_ok *ok) {
	bool tracks = capabilities & MY_CLIENT_SESSION_TRACK;
	bool has_state = tracks && ok->state_len > 0;
	uint16_t status = ok->status & (uint16_t)~MY_STATUS_SESSION_STATE_CHANGED;

	my_open(b, sequence);
	my_put_u8(b, first);
	my_put_lenenc(b, ok->affected_rows);
	my_put_lenenc(b, ok->last_insert_id);
	my_put_u16(b, has_state ? status | MY_STATUS_SESSION_STATE_CHANGED : status);
	my_put_u16(b, ok->warnings);
	/* with its length whatever was agreed on: so servers send it, and so libraries read it */
	if (has_state || ok->info_len > 0) {
		my_put_lenenc_bytes(b, ok->info, ok->info_len);
		if (has_state)
			my_put_lenenc_bytes(b, ok->state, ok->state_len);
	}
	my_close(b);
}

void my_put_eof(struct my_builder *b, uint8_t sequence, uint32_t capabilities, uint16_t warnings, uint16_t status) {
	my_open(b, sequence);
	my_put_u8(b, MY_PACKET_EOF);
	if (capabilities & MY_CLIENT_PROTOCOL_41) {
		my_put_u16(b, warnings);
		my_put_u16(b, status & (uint16_t)~MY_STATUS_SESSION_STATE_CHANGED);
	}
	my_close(b);
}

void my_put_err(struct my_builder *b, uint8_t sequence, uint32_t capabilities, uint16_t code, const char *sqlstate,
		const char *message) {
	my_open(b, sequence);
	my_put_u8(b, MY_PACKET_ERR);
	my_put_u16(b, code);
	if (capabilities & MY_CLIENT_PROTOCOL_41) {
		my_put_u8(b, '#');
		my_put(b, sqlstate, 5);
	}
	size_t len = strnlen(message, ERROR_MESSAGE_MAX);
	/* not within a letter of UTF-8 */
	while (len > 0 && len == ERROR_MESSAGE_MAX && ((uint8_t)message[len] & 0xc0) == 0x80)
		len--;
	my_put(b, message, len);
	my_close(b);
}
