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

static enum kill_result strike(const struct kill_ticket *ticket, struct client *client) {
	if (!client || !client->places || client->protocol != ticket->protocol)
		return KILL_UNKNOWN;
	bool elsewhere = client->database != ticket->database;
	if (client->places != ticket->places || (elsewhere && !ticket->everywhere))
		return elsewhere ? KILL_UNKNOWN : KILL_DENIED;
	if (ticket->connection) {
		client_end(client, REFUSAL_KILLED, "Connection was killed");
		return KILL_DONE;
	}
	if (client_stop_waiting(client))
		return KILL_DONE;
	struct server *server = client->server;
	if (server && client->hold != HOLD_PREPARE && server->protocol->server_busy(server))
		cancel_server(server);
	return KILL_DONE;
}

static void deliver_request(struct mail *mail, void *receiver) {
	(void)receiver;
	struct kill_ticket *ticket = (struct kill_ticket *)mail;
	struct session_worker *sw = session_current();
	ticket->result = strike(ticket, registry_client(ticket->id, sw->worker->id));
	ticket->mail.deliver = deliver_result;
	mailbox_post(&session_worker(ticket->asker_worker)->worker->mailbox, &ticket->mail);
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
