#include "session/cancel.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "session/client.h"
#include "session/database.h"
#include "session/server.h"
#include "session/session.h"

/* Where requests go that name no client of ours, while there is another process that may know it. */
static struct {
	struct mailbox *_Atomic mailbox; /* NULL: nowhere */
	void (*deliver)(struct mail *, void *);
} abroad;

static struct cancel *cancel_of(struct stream *stream) {
	return container_of(stream, struct cancel, stream);
}

/* ---- tickets ---- */

static void deliver_answer(struct mail *mail, void *receiver) {
	(void)receiver;
	struct cancel_ticket *ticket = (struct cancel_ticket *)mail;
	if (ticket->canceller)
		client_destroy(ticket->canceller, "its cancel request is done"); /* which forgets the ticket */
	cancel_ticket_free(ticket);
}

void cancel_ticket_free(struct cancel_ticket *ticket) {
	secret_wipe(ticket, sizeof *ticket);
	free(ticket);
}

void cancel_forget(struct client *canceller) {
	if (canceller->ticket)
		canceller->ticket->canceller = NULL;
	canceller->ticket = NULL;
}

void cancel_ticket_answer(struct cancel_ticket *ticket) {
	ticket->mail.deliver = ticket->answered;
	mailbox_post(ticket->origin, &ticket->mail);
}

/* ---- the connection that carries a request ---- */

static void cancel_free(struct deferred *deferred) {
	struct cancel *cancel = container_of(deferred, struct cancel, deferred);
	if (cancel->protocol->cancel_free)
		cancel->protocol->cancel_free(cancel);
	free(cancel);
}

/* The request is sent no more, or is over: the server may go on. */
static void cancel_let_go(struct cancel *cancel) {
	struct server *server = cancel->server;
	if (!server)
		return;
	cancel->server = NULL;
	list_remove(&cancel->node);
	if (cancel->sent)
		server->cancels_sent--;
	if (!list_empty(&server->cancels))
		return;
	if (server->state == SERVER_FENCED)
		server_recovered(server);
	else if (server->state == SERVER_RECOVERING || (server->state == SERVER_ACTIVE && server->client))
		server->protocol->server_uncancelled(server);
}

void cancel_finished(struct cancel *cancel) {
	if (cancel->finished)
		return;
	cancel->finished = true;
	struct worker *worker = cancel->sw->worker;
	worker_timeout_clear(worker, &cancel->timeout);
	stream_close(&cancel->stream);
	buf_release(worker->buffers, &cancel->in);
	list_for_each_safe (node, &cancel->waiters) {
		list_remove(node);
		cancel_ticket_answer(container_of(node, struct cancel_ticket, waiter));
	}
	list_for_each_safe (node, &cancel->askers) {
		struct cancel_asker *asker = container_of(node, struct cancel_asker, node);
		list_remove(node);
		asker->over(asker, cancel->failed);
	}
	list_remove(&cancel->all);
	cancel->sw->cancels--;
	atomic_fetch_sub(&cancel->database->cancels, 1);
	cancel_let_go(cancel);
	worker_defer(worker, &cancel->deferred);
}

void cancel_lost(struct cancel *cancel) {
	struct server *server = cancel->server;
	cancel->failed = true;
	/* It may still take effect some day: nobody else may have that server. */
	if (cancel->sent && server && !cancel->finished)
		server_close(server, "a cancel request for it is lost");
	cancel_finished(cancel);
}

bool cancel_sent(struct cancel *cancel) {
	if (!cancel->server || cancel->finished) {
		cancel_finished(cancel);
		return false;
	}
	cancel->sent = true;
	cancel->server->cancels_sent++;
	return true;
}

bool cancel_fence(struct server *server) {
	list_for_each_safe (node, &server->cancels) {
		struct cancel *cancel = container_of(node, struct cancel, node);
		if (!cancel->sent)
			cancel_finished(cancel);
	}
	return server->cancels_sent > 0;
}

void cancel_withdraw(struct server *server) {
	list_for_each_safe (node, &server->cancels) {
		struct cancel *cancel = container_of(node, struct cancel, node);
		if (!cancel->sent && list_empty(&cancel->waiters))
			cancel_finished(cancel);
	}
}

static void cancel_receive(struct cancel *cancel) {
	struct worker *worker = cancel->sw->worker;
	ssize_t n = stream_recv(&cancel->stream, worker->scratch, 1024);
	if (n == STREAM_AGAIN)
		return;
	if (n <= 0 && cancel->protocol->cancel_ends_by_close) {
		cancel_finished(cancel);
		return;
	}
	if (n <= 0 || buf_len(&cancel->in) > 4096 ||
	    !buf_append(worker->buffers, &cancel->in, worker->scratch, (size_t)n)) {
		log_warning("cancel_failed", LOG_FIELDS(LOG_TEXT("pool", cancel->database->name)),
			    "a cancel request could not be delivered: %s",
			    n == STREAM_EOF ? "the backend closed its connection" : n < 0 ? stream_error(&cancel->stream) : "too much was answered");
		cancel_lost(cancel);
		return;
	}
	size_t used = cancel->protocol->cancel_input(cancel, buf_bytes(&cancel->in), buf_len(&cancel->in));
	if (!cancel->finished)
		buf_consume(worker->buffers, &cancel->in, used);
}

static void cancel_on_ready(struct stream *stream, int events) {
	struct cancel *cancel = cancel_of(stream);
	if (cancel->finished)
		return;
	if (events & STREAM_FAILED) {
		log_warning("cancel_failed", LOG_FIELDS(LOG_TEXT("pool", cancel->database->name)),
			    "a cancel request could not be delivered: %s", stream_error(stream));
		if (cancel->protocol->cancel_ends_by_close)
			cancel_finished(cancel);
		else
			cancel_lost(cancel);
		return;
	}
	if (events & STREAM_CONNECTED) {
		if (!cancel->connected) {
			cancel->connected = true;
			cancel->protocol->cancel_begin(cancel);
		} else {
			cancel->protocol->cancel_secured(cancel);
		}
	}
	if ((events & STREAM_READABLE) && !cancel->finished)
		cancel_receive(cancel);
}

static void cancel_timed_out(struct timeout *timeout, uint64_t now_ns) {
	(void)now_ns;
	struct cancel *cancel = container_of(timeout, struct cancel, timeout);
	log_warning("cancel_timed_out", LOG_FIELDS(LOG_TEXT("pool", cancel->database->name)),
		    "a cancel request was not taken within connect_timeout");
	cancel_lost(cancel);
}

void cancel_patience(struct cancel *cancel) {
	struct worker *worker = cancel->sw->worker;
	uint64_t limit = database_view(cancel->database, worker->id)->config->connect_timeout;
	worker_timeout(worker, &cancel->timeout, limit ? limit : 5 * NS_PER_S);
}

static struct cancel *cancel_start(struct server *server) {
	struct session_worker *sw = server->sw;
	struct database *database = server->database;
	const struct pool_config *config = database_view(database, sw->worker->id)->config;
	if (atomic_load(&database->cancels) >= config->max_size) {
		log_warning("cancel_bound", LOG_FIELDS(LOG_TEXT("pool", database->name)),
			    "a cancel request was dropped: %u are under way already, which is max_size",
			    config->max_size);
		return NULL;
	}
	struct cancel *cancel = calloc(1, server->protocol->cancel_size);
	if (!cancel)
		return NULL;
	cancel->protocol = server->protocol;
	cancel->sw = sw;
	cancel->database = database;
	cancel->stream.fd = -1;
	cancel->timeout.expired = cancel_timed_out;
	cancel->deferred.run = cancel_free;
	list_init(&cancel->deferred.node);
	list_init(&cancel->waiters);
	list_init(&cancel->askers);
	list_init(&cancel->node);
	cancel->server = server;
	memcpy(cancel->host_text, server->host_text, sizeof cancel->host_text);
	list_push_back(&server->cancels, &cancel->node);
	list_push_back(&sw->cancel_list, &cancel->all);
	sw->cancels++;
	atomic_fetch_add(&database->cancels, 1);
	cancel_patience(cancel);
	if (!stream_connect(&cancel->stream, sw->worker, (struct sockaddr *)&server->address, server->address_len,
			    cancel_on_ready)) {
		cancel_finished(cancel);
		return NULL;
	}
	return cancel;
}

/* One that is not sent yet will do for several askers. */
static struct cancel *cancel_join_or_start(struct server *server) {
	list_for_each (node, &server->cancels) {
		struct cancel *cancel = container_of(node, struct cancel, node);
		if (!cancel->sent)
			return cancel;
	}
	return cancel_start(server);
}

bool cancel_server(struct server *server) {
	return cancel_join_or_start(server) != NULL;
}

bool cancel_server_for(struct server *server, struct cancel_asker *asker) {
	struct cancel *cancel = cancel_join_or_start(server);
	if (cancel)
		list_push_back(&cancel->askers, &asker->node);
	return cancel != NULL;
}

static void deliver_request(struct mail *mail, void *receiver) {
	(void)receiver;
	struct cancel_ticket *ticket = (struct cancel_ticket *)mail;
	struct session_worker *sw = session_current();
	struct client *client = NULL;
	if (registry_find(ticket->id, ticket->secret, ticket->secret_len) == sw->worker->id)
		client = registry_client(ticket->id, sw->worker->id);
	if (client && client_stop_waiting(client))
		client = NULL;
	struct server *server = client ? client->server : NULL;
	struct cancel *cancel = NULL;
	if (client && !server && client->protocol->client_cancel)
		client->protocol->client_cancel(client);
	if (server && client->hold != HOLD_PREPARE && server->protocol->server_busy(server))
		cancel = cancel_join_or_start(server);
	if (cancel)
		list_push_back(&cancel->waiters, &ticket->waiter);
	else
		cancel_ticket_answer(ticket);
}

static struct cancel_ticket *ticket_new(struct mailbox *origin, void (*answered)(struct mail *, void *), uint32_t id,
					const uint8_t *secret, size_t secret_len) {
	struct cancel_ticket *ticket = secret_len <= CANCEL_SECRET_MAX ? calloc(1, sizeof *ticket) : NULL;
	if (!ticket)
		return NULL;
	ticket->origin = origin;
	ticket->answered = answered;
	ticket->id = id;
	ticket->secret_len = (uint8_t)secret_len;
	memcpy(ticket->secret, secret, secret_len);
	list_init(&ticket->waiter);
	return ticket;
}

/* To the worker of the client it names, or abroad. False: there is none. */
static bool ticket_send(struct cancel_ticket *ticket, bool may_leave) {
	int worker = registry_find(ticket->id, ticket->secret, ticket->secret_len);
	struct mailbox *to = worker >= 0 ? &session_worker(worker)->worker->mailbox : NULL;
	if (!to && may_leave)
		to = atomic_load(&abroad.mailbox);
	if (!to)
		return false;
	ticket->mail.deliver = worker >= 0 ? deliver_request : abroad.deliver;
	mailbox_post(to, &ticket->mail);
	return true;
}

void cancel_request(struct client *canceller, uint32_t id, const uint8_t *secret, size_t secret_len) {
	struct cancel_ticket *ticket =
		ticket_new(&canceller->sw->worker->mailbox, deliver_answer, id, secret, secret_len);
	if (ticket) {
		ticket->canceller = canceller;
		canceller->ticket = ticket;
		canceller->hold = HOLD_LOGIN;
		if (ticket_send(ticket, true))
			return;
		canceller->ticket = NULL;
		cancel_ticket_free(ticket);
	}
	log_info("cancel_unknown", LOG_FIELDS(LOG_TEXT("client", STREAM_PEER_SAY(&canceller->peer))),
		 "a cancel request named no client of ours");
	client_destroy(canceller, "its cancel request names no client of ours");
}

bool cancel_from_abroad(uint32_t number, uint32_t id, const uint8_t *secret, size_t secret_len, struct mailbox *origin,
			void (*answered)(struct mail *mail, void *receiver)) {
	struct cancel_ticket *ticket = ticket_new(origin, answered, id, secret, secret_len);
	if (!ticket)
		return false;
	ticket->number = number;
	if (ticket_send(ticket, false))
		return true;
	cancel_ticket_free(ticket);
	return false;
}

void cancel_send_abroad(struct mailbox *mailbox, void (*deliver)(struct mail *mail, void *receiver)) {
	if (deliver && abroad.deliver != deliver)
		abroad.deliver = deliver;
	atomic_store(&abroad.mailbox, mailbox);
}

void cancel_stop(struct session_worker *sw) {
	list_for_each_safe (node, &sw->cancel_list)
		cancel_finished(container_of(node, struct cancel, all));
}
