#include "pgsql/wire.h"

#include <string.h>

#include "base/reader.h"

struct pg_builder pg_builder(struct buf_cache *cache) {
	return (struct pg_builder){.cache = cache, .ok = true};
}

void pg_raw(struct pg_builder *b, const void *data, size_t len) {
	if (b->ok && !buf_append(b->cache, &b->buf, data, len))
		b->ok = false;
}

void pg_u8(struct pg_builder *b, uint8_t v) {
	pg_raw(b, &v, 1);
}

void pg_u16(struct pg_builder *b, uint16_t v) {
	uint8_t bytes[2] = {(uint8_t)(v >> 8), (uint8_t)v};
	pg_raw(b, bytes, sizeof bytes);
}

void pg_u32(struct pg_builder *b, uint32_t v) {
	uint8_t bytes[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
	pg_raw(b, bytes, sizeof bytes);
}

void pg_cstr(struct pg_builder *b, const char *s) {
	pg_raw(b, s, strlen(s) + 1);
}

void pg_open(struct pg_builder *b, char type) {
	if (type)
		pg_u8(b, (uint8_t)type);
	/* Counted from the buffer's start, which moves when it grows. */
	b->mark = (uint32_t)buf_len(&b->buf);
	pg_u32(b, 0);
}

void pg_close(struct pg_builder *b) {
	if (!b->ok)
		return;
	uint8_t *length = b->buf.data + b->buf.start + b->mark;
	uint32_t v = (uint32_t)buf_len(&b->buf) - b->mark;
	length[0] = (uint8_t)(v >> 24);
	length[1] = (uint8_t)(v >> 16);
	length[2] = (uint8_t)(v >> 8);
	length[3] = (uint8_t)v;
}

void pg_builder_release(struct pg_builder *b) {
	buf_release(b->cache, &b->buf);
}

static void put_field(struct pg_builder *b, char code, const char *value) {
	if (!value)
		return;
	pg_u8(b, (uint8_t)code);
	pg_cstr(b, value);
}

bool pg_put_error(struct buf_cache *cache, struct buf *out, char type, const struct pg_error_fields *fields) {
	struct pg_builder b = {.cache = cache, .buf = *out, .ok = true};
	size_t before = buf_len(out);

	pg_open(&b, type);
	put_field(&b, 'S', fields->severity);
	put_field(&b, 'V', fields->severity);
	put_field(&b, 'C', fields->sqlstate);
	put_field(&b, 'M', fields->message);
	put_field(&b, 'D', fields->detail);
	put_field(&b, 'H', fields->hint);
	pg_u8(&b, 0);
	pg_close(&b);
	*out = b.buf;
	if (!b.ok)
		out->end = out->start + (uint32_t)before;
	return b.ok;
}

struct pg_error_view pg_error_view(const uint8_t *body, size_t len) {
	struct reader r = reader_over(body, len);
	struct pg_error_view view = {0};

	for (;;) {
		uint8_t code = reader_u8(&r);
		if (!r.ok || code == 0)
			return view;
		const char *value = reader_cstr(&r, NULL);
		if (!value)
			return view;
		/* The severity that is never translated (V) is preferred to the one for people (S). */
		if (code == 'V' || (code == 'S' && !view.severity))
			view.severity = value;
		else if (code == 'C')
			view.sqlstate = value;
		else if (code == 'M')
			view.message = value;
	}
}
