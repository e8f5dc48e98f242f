/* What a listener's HBA file and user maps say of a client. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgsql/login.h"

bool pg_rules_certificate(struct pg_client *client) {
	struct pg_login *login = client->login;
	const struct pg_listener *setup = client->base.listener->setup;
	struct ssl_st *ssl = client->base.stream.ssl;
	char name[512];

	if (!ssl || !tls_peer_verified(ssl)) {
		snprintf(login->doomed, sizeof login->doomed, "the client has shown no valid certificate");
		return false;
	}
	bool has_name = login->use_subject ? tls_peer_subject(ssl, name, sizeof name)
					   : tls_peer_common_name(ssl, name, sizeof name);
	if (has_name && ident_allows(setup->ident, login->map, name, login->user))
		return true;
	snprintf(login->doomed, sizeof login->doomed, "the certificate is of \"%.100s\"", has_name ? name : "");
	return false;
}

/* Where the client is, as PostgreSQL's messages say it. */
static void describe(const struct pg_client *client, char *out, size_t room) {
	const struct pg_login *login = client->login;
	const struct stream_peer *peer = &client->base.peer;
	char host[INET6_ADDRSTRLEN] = "[local]";

	if (peer->family != AF_UNIX && !inet_ntop(peer->family, peer->ip, host, sizeof host))
		snprintf(host, sizeof host, "unknown");
	if (login->physical)
		snprintf(out, room, "replication connection from host \"%s\", user \"%s\", %s", host,
			 login->user, client->base.stream.ssl ? "SSL encryption" : "no encryption");
	else
		snprintf(out, room, "host \"%s\", user \"%s\", database \"%s\", %s", host, login->user,
			 login->database, client->base.stream.ssl ? "SSL encryption" : "no encryption");
}

bool pg_rules_apply(struct pg_client *client) {
	struct pg_login *login = client->login;
	const struct pg_listener *setup = client->base.listener->setup;
	const struct sockaddr_storage address = stream_peer_address(&client->base.peer);
	const struct hba_client who = {
		.address = (const struct sockaddr *)&address,
		.tls = client->base.stream.ssl != NULL,
		.database = login->database,
		.user = login->user,
		.physical_replication = login->physical,
	};
	const struct hba_verdict *verdict = hba_match(setup->hba, &who);
	char where[400], text[480], reason[160];

	if (verdict && verdict->method != HBA_REJECT) {
		login->method = verdict->method;
		login->client_cert = verdict->client_cert;
		login->use_subject = verdict->use_subject;
		login->map = verdict->map;
		return true;
	}
	describe(client, where, sizeof where);
	snprintf(text, sizeof text, verdict ? "pg_hba.conf rejects connection for %s" : "no pg_hba.conf entry for %s",
		 where);
	if (verdict)
		snprintf(reason, sizeof reason, "rejected by %.120s:%d", verdict->file, verdict->line);
	pg_login_reject(client, "28000", text, NULL, verdict ? reason : "no line of the HBA file matches");
	return false;
}

/* ---- listeners ---- */

void *pg_listener_setup(const struct listener_config *listener, struct error *error) {
	struct pg_listener *setup = calloc(1, sizeof *setup);

	if (!setup) {
		error_set(error, 0, "[listener:%s] out of memory", listener->name);
		return NULL;
	}
	if (listener->auth == AUTH_HBA) {
		if (!listener->hba_file) {
			error_set(error, 0, "[listener:%s] auth = hba needs hba_file", listener->name);
			goto fail;
		}
		setup->hba = hba_load(listener->hba_file, error);
		if (!setup->hba)
			goto fail;
	}
	if (listener->user_map && !listener->ident_file) {
		error_set(error, 0, "[listener:%s] user_map = %s needs ident_file, which holds the map", listener->name,
			  listener->user_map);
		goto fail;
	}
	if (listener->ident_file) {
		setup->ident = ident_load(listener->ident_file, error);
		if (!setup->ident)
			goto fail;
	}
	return setup;
fail:
	pg_listener_free(setup);
	return NULL;
}

void pg_listener_free(void *context) {
	struct pg_listener *setup = context;

	if (!setup)
		return;
	hba_free(setup->hba);
	ident_free(setup->ident);
	free(setup);
}
