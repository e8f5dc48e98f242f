#include "pgsql/server_tls.h"

#include <stdio.h>
#include <string.h>

#include "base/reader.h"
#include "net/worker.h"
#include "pgsql/wire.h"

bool server_tls_ask(struct stream *stream) {
	struct pg_builder b = pg_builder(stream->worker->buffers);

	pg_open(&b, 0);
	pg_u32(&b, PG_SSL_REQUEST);
	pg_close(&b);
	bool ok = b.ok && stream_write(stream, buf_bytes(&b.buf), buf_len(&b.buf));
	pg_builder_release(&b);
	return ok;
}

enum server_tls_answer server_tls_answer(struct stream *stream, struct tls_context *tls, const char *host_text,
					 const uint8_t *data, size_t len, char *why, size_t room) {
	struct reader r = reader_over(data, len);
	char host[256];

	switch (reader_u8(&r)) {
	case 'S':
		break;
	case 'N':
		if (reader_left(&r) == 0)
			return SERVER_TLS_REFUSED;
		snprintf(why, room, "it sent more than the answer to SSLRequest");
		return SERVER_TLS_FAILED;
	case 'E':
		/* Not to be believed, nor shown: it came before TLS (CVE-2024-10977). */
		snprintf(why, room, "it answered SSLRequest with an error; its log may say why");
		return SERVER_TLS_FAILED;
	default:
		snprintf(why, room, "it gave no valid answer to SSLRequest; is that a PostgreSQL server?");
		return SERVER_TLS_FAILED;
	}
	if (reader_left(&r) > 0) {
		snprintf(why, room, "unencrypted bytes came behind its answer to SSLRequest; this may be an attack");
		return SERVER_TLS_FAILED;
	}
	tls_host_name(host_text, host, sizeof host);
	if (!tls || !stream_tls_connect(stream, tls, host, "postgresql")) {
		snprintf(why, room, "TLS could not begin: %s", tls ? stream_error(stream) : "it is disabled");
		return SERVER_TLS_FAILED;
	}
	return SERVER_TLS_STARTED;
}
