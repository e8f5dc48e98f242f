/*
 * The wire half of session/cancel.h: a connection that logs in as the one it is about and says KILL QUERY there. Behind a
 * balancer it may reach another server, where that number is somebody else's: so it asks who answers, first.
 *
 * What is to end is what a client has asked for. A request of ours that goes ahead of it (its variables, say) would end in its
 * place, and the client's would run without: so the KILL waits until that has been answered.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "mysql/backend.h"
#include "mysql/dial.h"
#include "mysql/state.h"
#include "mysql/template.h"
#include "net/worker.h"

enum step { STEP_LOGIN, STEP_IDENTITY, STEP_KILL };

static struct my_cancel *my_cancel(struct cancel *cancel) {
	return (struct my_cancel *)cancel;
}

static void *ref_credential(void *credential) {
	return my_credential_ref(credential);
}

static void over(struct my_cancel *c, const char *why) {
	if (!why) {
		cancel_finished(&c->base);
		return;
	}
	log_warning("cancel_failed",
		    LOG_FIELDS(LOG_TEXT("pool", c->base.database->name), LOG_TEXT("server", c->base.host_text)),
		    "a KILL QUERY could not be delivered: %s", why);
	cancel_lost(&c->base);
}

void my_cancel_free(struct cancel *cancel) {
	my_dial_end(&my_cancel(cancel)->dial);
}

static bool say(struct my_cancel *c, const char *sql) {
	struct my_builder b = my_builder(c->base.sw->worker->buffers);
	my_open(&b, 0);
	my_put_u8(&b, MY_COM_QUERY);
	my_put(&b, sql, strlen(sql));
	my_close(&b);
	bool ok = b.ok && stream_write(&c->base.stream, buf_bytes(&b.buf), buf_len(&b.buf));
	my_builder_release(&b);
	my_answer_begin(&c->answer, MY_ASKED_QUERY, 1);
	if (!ok)
		over(c, "out of memory");
	return ok;
}

static void act(struct my_cancel *c, enum my_dial_step step, struct my_builder *out) {
	stream_secret(&c->base.stream);
	bool sent = out->ok && (buf_len(&out->buf) == 0 ||
				stream_write(&c->base.stream, buf_bytes(&out->buf), buf_len(&out->buf)));
	my_builder_wipe(out);
	if (step == MY_DIAL_FAILED) {
		over(c, c->dial.failure.text);
	} else if (!sent) {
		over(c, "out of memory");
	} else if (step == MY_DIAL_TLS) {
		struct tls_context *tls = c->dial.target.tls_context;
		char host[256];
		tls_host_name(c->base.host_text, host, sizeof host);
		if (!tls || !stream_tls_connect(&c->base.stream, tls, host, NULL))
			over(c, "TLS could not begin");
	} else if (step == MY_DIAL_DONE) {
		c->step = STEP_IDENTITY;
		say(c, my_identity_sql);
	}
}

void my_cancel_begin(struct cancel *cancel) {
	struct my_cancel *c = my_cancel(cancel);
	if (!cancel->server) {
		cancel_finished(cancel);
		return;
	}
	struct my_server *ms = my_server(cancel->server);
	struct my_dial_target target;
	struct my_credential *credential = account_credential(account_of(ms->base.conn.user), ref_credential);
	c->thread_id = ms->facts.thread_id;
	c->identity = ms->relay.identity;
	my_server_target(ms, credential, c->user, &target);
	target.schema = target.program = NULL;
	/* as the connection that it is about */
	if (ms->base.stream.ssl)
		target.tls = MY_DIAL_TLS_MUST;
	my_dial_begin(&c->dial, &target);
	my_credential_unref(credential);
}

void my_cancel_secured(struct cancel *cancel) {
	struct my_cancel *c = my_cancel(cancel);
	struct my_builder out = my_builder(cancel->sw->worker->buffers);
	act(c, my_dial_secured(&c->dial, &out), &out);
}

enum target { TARGET_NONE, TARGET_NEXT, TARGET_RUNS };

/* Where what may be ended is: nowhere, behind a request of ours, or at work. */
static enum target target_of(const struct my_server *ms) {
	const struct my_server_relay *s = &ms->relay;
	for (uint8_t i = 0; i < s->count; i++) {
		if (my_cancel_is_for(&s->queue[(s->head + i) % MY_QUEUE]))
			return i == 0 ? TARGET_RUNS : TARGET_NEXT;
	}
	return TARGET_NONE;
}

bool my_server_at_work(const struct server *server) {
	return target_of((const struct my_server *)server) != TARGET_NONE;
}

static void kill_now(struct my_cancel *c) {
	char sql[64];
	c->waits = false;
	/* From here on it cannot be called back: the server waits for its end before anybody else has it. */
	if (!cancel_sent(&c->base))
		return;
	cancel_patience(&c->base);
	snprintf(sql, sizeof sql, "KILL QUERY %u", c->thread_id);
	say(c, sql);
}

void my_cancels_go_on(struct my_server *ms) {
	if (list_empty(&ms->base.cancels) || target_of(ms) != TARGET_RUNS)
		return;
	list_for_each_safe (node, &ms->base.cancels) {
		struct my_cancel *c = my_cancel(container_of(node, struct cancel, node));
		if (c->waits)
			kill_now(c);
	}
}

/* The answer has ended. */
static void next(struct my_cancel *c, bool failed) {
	if (c->step == STEP_KILL) { /* the server has marked what is to end before it says so */
		static const uint8_t quit[] = {1, 0, 0, 0, MY_COM_QUIT};
		stream_write(&c->base.stream, quit, sizeof quit);
		over(c, NULL); /* an error: that connection has gone */
		return;
	}
	if (failed || c->answered != c->identity) {
		over(c, failed ? "the server does not say who it is" : "another server has answered at that address");
		return;
	}
	c->step = STEP_KILL;
	enum target target = c->base.server ? target_of(my_server(c->base.server)) : TARGET_NONE;
	if (target == TARGET_NONE) /* it has ended by itself */
		over(c, NULL);
	if (target == TARGET_RUNS)
		kill_now(c);
	if (target != TARGET_NEXT)
		return;
	c->waits = true; /* my_cancels_go_on() */
	cancel_patience(&c->base);
}

static size_t answer_input(struct my_cancel *c, const uint8_t *data, size_t len) {
	size_t used = 0;
	struct my_header header;
	while (!c->base.finished && my_read_header(data + used, len - used, &header) &&
	       header.length <= len - used - MY_HEADER) {
		const uint8_t *body = data + used + MY_HEADER;
		enum my_role role = my_answer_role(&c->answer, header.length, header.length ? *body : 0);
		if (!my_answer_take(&c->answer, role, header.length, header.sequence, body)) {
			over(c, "a malformed answer");
			break;
		}
		used += MY_HEADER + header.length;
		if (role == MY_ROLE_ROW)
			c->answered = my_identity(body, header.length);
		if (my_answer_is_over(&c->answer))
			next(c, role == MY_ROLE_ERR);
	}
	return used;
}

size_t my_cancel_input(struct cancel *cancel, const uint8_t *data, size_t len) {
	struct my_cancel *c = my_cancel(cancel);
	if (c->step != STEP_LOGIN)
		return answer_input(c, data, len);
	struct my_builder out = my_builder(cancel->sw->worker->buffers);
	size_t used = 0;
	enum my_dial_step step = my_dial_input(&c->dial, data, len, &used, &out);
	act(c, step, &out);
	return used;
}
