#include "session/kill.h"

#include <stdlib.h>

#include "config/config.h"
#include "session/admission.h"
#include "session/cancel.h"
#include "session/client.h"
#include "session/server.h"
#include "session/session.h"

struct kill_ticket {
	struct mail mail;
	struct cancel_asker cancel;
	uint32_t id, asker;
	int asker_worker;
	const struct protocol *protocol;
	const struct user_places *places; /* of the asker's user: compared, never looked into */
	const struct database *database;  /* the asker's; the same */
	bool everywhere;                  /* that user is the same person in all databases */
	bool connection;
	enum kill_result result;
	void (*done)(struct client *asker, enum kill_result result, uint32_t id);
};

static void deliver_result(struct mail *mail, void *receiver) {
	(void)receiver;
	struct kill_ticket *ticket = (struct kill_ticket *)mail;
	struct client *asker = registry_client(ticket->asker, ticket->asker_worker);
	if (asker && asker->hold == HOLD_LOGIN && !asker->closing)
		ticket->done(asker, ticket->result, ticket->id);
	free(ticket);
}

static void answer(struct kill_ticket *ticket, enum kill_result result) {
	ticket->result = result;
	ticket->mail.deliver = deliver_result;
	mailbox_post(&session_worker(ticket->asker_worker)->worker->mailbox, &ticket->mail);
}

static void cancelled(struct cancel_asker *asker, bool failed) {
	answer(container_of(asker, struct kill_ticket, cancel), failed ? KILL_LOST : KILL_DONE);
}

/* False: the answer comes when a cancel is over. */
static bool strike(struct kill_ticket *ticket, struct client *client, enum kill_result *result) {
	*result = KILL_UNKNOWN;
	if (!client || !client->places || client->protocol != ticket->protocol)
		return true;
	bool elsewhere = client->database != ticket->database;
	*result = elsewhere ? KILL_UNKNOWN : KILL_DENIED;
	if (client->places != ticket->places || (elsewhere && !ticket->everywhere))
		return true;
	*result = KILL_DONE;
	if (ticket->connection) {
		client_end(client, REFUSAL_KILLED, "Connection was killed");
		return true;
	}
	struct server *server = client_stop_waiting(client) ? NULL : client->server;
	if (!server)
		return true;
	if (client->hold == HOLD_PREPARE) /* its request waits for that */
		client->protocol->client_cancel(client);
	if (!server->protocol->server_at_work(server))
		return true;
	*result = KILL_LOST;
	ticket->cancel.over = cancelled;
	return !cancel_server_for(server, &ticket->cancel);
}

static void deliver_request(struct mail *mail, void *receiver) {
	(void)receiver;
	struct kill_ticket *ticket = (struct kill_ticket *)mail;
	struct session_worker *sw = session_current();
	enum kill_result result;
	if (strike(ticket, registry_client(ticket->id, sw->worker->id), &result))
		answer(ticket, result);
}

/* Whether its password is the configuration's: what a database's auth_query tells of a name holds in that database only. */
static bool is_known_here(const struct client *client) {
	const struct user_config *user = config_user(client->sw->generation->config, user_places_name(client->places));
	return user && user->password;
}

bool kill_request(struct client *asker, uint32_t id, bool connection,
		  void (*done)(struct client *asker, enum kill_result result, uint32_t id)) {
	struct kill_ticket *ticket = calloc(1, sizeof *ticket);
	if (!ticket)
		return false;
	int worker = registry_worker(id);
	ticket->id = id;
	ticket->asker = asker->id;
	ticket->asker_worker = asker->sw->worker->id;
	ticket->protocol = asker->protocol;
	ticket->places = asker->places;
	ticket->database = asker->database;
	ticket->everywhere = is_known_here(asker);
	ticket->connection = connection;
	ticket->done = done;
	ticket->result = KILL_UNKNOWN;
	ticket->mail.deliver = worker < 0 ? deliver_result : deliver_request;
	asker->hold = HOLD_LOGIN;
	mailbox_post(&session_worker(worker < 0 ? ticket->asker_worker : worker)->worker->mailbox, &ticket->mail);
	return true;
}
