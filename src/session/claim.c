#include "session/claim.h"

#include <stdlib.h>

#include "session/client.h"
#include "session/session.h"

struct claim *claim_take(struct client *client) {
	struct claims *claims = &client->sw->claims;
	struct claim *claim = client->claim;
	if (claim)
		return claim;
	claim = claims->spare;
	if (claim)
		claims->spare = claim->spare;
	else
		claim = calloc(1, sizeof *claim); /* a waiter is zeroed before its first use, and not touched after it */
	if (!claim)
		return NULL;
	claim->client = client;
	claim->linked_ns = 0;
	claim->leak = NULL;
	claim->waiting_dedicated = claim->waiting_trial = NULL;
	claim->retrying = claim->explaining = claim->notice_wanted = false;
	claim->notices = 0;
	client->claim = claim;
	return claim;
}

void claim_return(struct client *client) {
	struct claim *claim = client->claim;
	if (!claim)
		return;
	client->claim = NULL;
	claim->client = NULL;
	claim->spare = client->sw->claims.spare;
	client->sw->claims.spare = claim;
}

void claims_free(struct claims *claims) {
	for (struct claim *claim; (claim = claims->spare);) {
		claims->spare = claim->spare;
		free(claim);
	}
}
