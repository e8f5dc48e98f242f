/* The wire half of session/cancel.h: a connection that carries one CancelRequest (section "Canceling Requests"). */
#include "base/log.h"
#include "net/worker.h"
#include "pgsql/pgsql.h"
#include "pgsql/server_tls.h"

static struct pg_cancel *pg_cancel(struct cancel *cancel) {
	return (struct pg_cancel *)cancel;
}

static void send_request(struct cancel *cancel) {
	if (cancel->server && pg_server(cancel->server)->cancel_key_len == 0) {
		cancel_finished(cancel); /* the backend gave us no key */
		return;
	}
	/* From here on it cannot be called back: the server waits for its end before anybody else has it. */
	if (!cancel_sent(cancel))
		return;
	struct pg_server *server = pg_server(cancel->server);
	struct pg_builder b = pg_builder(cancel->sw->worker->buffers);
	pg_open(&b, 0);
	pg_u32(&b, PG_CANCEL_REQUEST);
	pg_u32(&b, server->backend_pid);
	pg_raw(&b, server->cancel_key, server->cancel_key_len);
	pg_close(&b);
	bool ok = b.ok && stream_write(&cancel->stream, buf_bytes(&b.buf), buf_len(&b.buf));
	buf_release_wiped(b.cache, &b.buf);
	if (!ok)
		cancel_finished(cancel);
}

void pg_cancel_begin(struct cancel *cancel) {
	struct pg_cancel *c = pg_cancel(cancel);

	if (!cancel->server) {
		cancel_finished(cancel);
		return;
	}
	/* As the connection that it is about: the key is never sent in the clear when that one is encrypted. */
	if (!cancel->server->stream.ssl) {
		send_request(cancel);
		return;
	}
	c->tls_asked = true;
	if (!server_tls_ask(&cancel->stream))
		cancel_finished(cancel);
}

size_t pg_cancel_input(struct cancel *cancel, const uint8_t *data, size_t len) {
	struct pg_cancel *c = pg_cancel(cancel);
	char why[200] = "the server does not offer TLS any more";

	if (!c->tls_asked || len == 0)
		return len; /* A server has nothing to say to a cancel request: passed over until it hangs up. */
	c->tls_asked = false;
	struct database_view *view = database_view(cancel->database, cancel->sw->worker->id);
	if (server_tls_answer(&cancel->stream, view->tls, cancel->host_text, data, len, why, sizeof why) ==
	    SERVER_TLS_STARTED)
		return len;
	log_warning("cancel_failed",
		    LOG_FIELDS(LOG_TEXT("pool", cancel->database->name), LOG_TEXT("server", cancel->host_text)),
		    "a cancel request could not be delivered: %s", why);
	cancel_finished(cancel);
	return len;
}

void pg_cancel_secured(struct cancel *cancel) {
	send_request(cancel);
}
