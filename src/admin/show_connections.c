/* SHOW CLIENTS, SERVERS, WAITERS: a row for each connection, added on the worker that owns it. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/show.h"
#include "session/claim.h"
#include "base/clock.h"
#include "session/client.h"
#include "session/database.h"
#include "session/server.h"

/* The columns of CLIENTS and SERVERS that PgBouncer has; ours follow. */
enum {
	COL_TYPE,
	COL_USER,
	COL_DATABASE,
	COL_REPLICATION,
	COL_STATE,
	COL_ADDR,
	COL_PORT,
	COL_LOCAL_ADDR,
	COL_LOCAL_PORT,
	COL_CONNECT_TIME,
	COL_REQUEST_TIME,
	COL_WAIT,
	COL_WAIT_US,
	COL_CLOSE_NEEDED,
	COL_PTR,
	COL_LINK,
	COL_REMOTE_PID,
	COL_TLS,
	COL_APPLICATION_NAME,
	COL_PREPARED_STATEMENTS,
	COL_ID,
	COL_OWN
};

#define SOCKET_COLUMNS                                                                                                 \
	[COL_TYPE] = {"type", CONSOLE_TEXT}, [COL_USER] = {"user", CONSOLE_TEXT},                                      \
	[COL_DATABASE] = {"database", CONSOLE_TEXT}, [COL_REPLICATION] = {"replication", CONSOLE_TEXT},                \
	[COL_STATE] = {"state", CONSOLE_TEXT}, [COL_ADDR] = {"addr", CONSOLE_TEXT},                                    \
	[COL_PORT] = {"port", CONSOLE_INT4}, [COL_LOCAL_ADDR] = {"local_addr", CONSOLE_TEXT},                          \
	[COL_LOCAL_PORT] = {"local_port", CONSOLE_INT4}, [COL_CONNECT_TIME] = {"connect_time", CONSOLE_TEXT},          \
	[COL_REQUEST_TIME] = {"request_time", CONSOLE_TEXT}, [COL_WAIT] = {"wait", CONSOLE_INT4},                      \
	[COL_WAIT_US] = {"wait_us", CONSOLE_INT4}, [COL_CLOSE_NEEDED] = {"close_needed", CONSOLE_INT4},                \
	[COL_PTR] = {"ptr", CONSOLE_TEXT}, [COL_LINK] = {"link", CONSOLE_TEXT},                                        \
	[COL_REMOTE_PID] = {"remote_pid", CONSOLE_INT4}, [COL_TLS] = {"tls", CONSOLE_TEXT},                            \
	[COL_APPLICATION_NAME] = {"application_name", CONSOLE_TEXT},                                                   \
	[COL_PREPARED_STATEMENTS] = {"prepared_statements", CONSOLE_INT4}, [COL_ID] = {"id", CONSOLE_INT4}

static void set_address(struct console_result *r, size_t column, const struct sockaddr_storage *address) {
	char text[INET6_ADDRSTRLEN] = "";
	int port = 0;

	if (address->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)address;
		inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
		port = ntohs(in->sin_port);
	} else if (address->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
		inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text);
		port = ntohs(in6->sin6_port);
	} else if (address->ss_family == AF_UNIX) {
		snprintf(text, sizeof text, "unix");
	}
	console_set_text(r, column, text);
	console_set_number(r, column + 1, port);
}

static void set_local_address(struct console_result *r, const struct stream *stream) {
	struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
	socklen_t len = sizeof address;

	if (stream->fd < 0 || getsockname(stream->fd, (struct sockaddr *)&address, &len) != 0)
		address.ss_family = AF_UNSPEC;
	set_address(r, COL_LOCAL_ADDR, &address);
}

static void set_wait(struct console_result *r, uint64_t since_ns) {
	uint64_t now_ns = clock_monotonic_ns();
	uint64_t wait_us = since_ns && now_ns > since_ns ? (now_ns - since_ns) / NS_PER_US : 0;

	console_set_number(r, COL_WAIT, (int64_t)(wait_us / 1000000));
	console_set_number(r, COL_WAIT_US, (int64_t)(wait_us % 1000000));
}

static void set_tls(struct console_result *r, const struct stream *stream) {
	const char *version = stream->ssl ? tls_version(stream->ssl) : NULL;
	const char *cipher = stream->ssl ? tls_cipher(stream->ssl) : NULL;

	if (version && cipher)
		console_set(r, COL_TLS, "%s/%s", version, cipher);
	else
		console_set_text(r, COL_TLS, "");
}

static void set_details(struct console_result *r, const struct console_details *details) {
	console_set_text(r, COL_REPLICATION, details->replication ? details->replication : "none");
	console_set_text(r, COL_APPLICATION_NAME, details->application_name);
	console_set_number(r, COL_PREPARED_STATEMENTS, details->prepared_statements);
}

/* ---- CLIENTS ---- */

static const struct column client_columns[] = {
	SOCKET_COLUMNS,
	/* our own */
	[COL_OWN] = {"worker", CONSOLE_INT4},
	{"transactions", CONSOLE_INT8},
	{"queries", CONSOLE_INT8},
	{"total_wait_us", CONSOLE_INT8},
	{"keeps_server", CONSOLE_BOOL},
	{"begin_deferred", CONSOLE_BOOL},
	{"pinned", CONSOLE_TEXT},
};

/* PgBouncer's word for it. */
static const char *client_state_word(const struct client *client) {
	switch (client->state) {
	case CLIENT_LOGIN:
		return "login";
	case CLIENT_IDLE:
		return "idle";
	case CLIENT_WAITING:
		return "waiting";
	case CLIENT_ACTIVE:
	case CLIENT_CONSOLE:
		return "active";
	case CLIENT_CLOSED:
		break;
	}
	return "closed";
}

static const char *client_database(const struct client *client) {
	if (client->state == CLIENT_CONSOLE)
		return "forebay";
	return client->database ? client->database->name : "(nodb)";
}

static void client_row(struct console_result *r, struct client *client, int worker) {
	struct console_details details = {0};

	if (!console_row(r))
		return;
	if (client->protocol->client_describe)
		client->protocol->client_describe(client, &details);
	console_set_text(r, COL_TYPE, "C");
	console_set_text(r, COL_USER, client->user ? pool_user_name(client->user) : "(nouser)");
	console_set_text(r, COL_DATABASE, client_database(client));
	console_set_text(r, COL_STATE, client_state_word(client));
	struct sockaddr_storage address = stream_peer_address(&client->peer);
	set_address(r, COL_ADDR, &address);
	set_local_address(r, &client->stream);
	show_time(r, COL_CONNECT_TIME, client->connected_ns);
	show_time(r, COL_REQUEST_TIME, client->request_ns ? client->request_ns : client->connected_ns);
	set_wait(r, client->state == CLIENT_WAITING ? client->claim->waiter.since_ns : 0);
	console_set_number(r, COL_CLOSE_NEEDED, client->goodbye_wanted);
	/* not addresses of memory, as PgBouncer's are, but names that fit together */
	console_set(r, COL_PTR, "c%u", client->id);
	if (client->server)
		console_set(r, COL_LINK, "s%u", client->server->id);
	else
		console_set_text(r, COL_LINK, "");
	console_set_number(r, COL_REMOTE_PID, client->peer.family == AF_UNIX ? client->peer.process.pid : 0);
	set_tls(r, &client->stream);
	set_details(r, &details);
	console_set_number(r, COL_ID, client->id);
	console_set_number(r, COL_OWN, worker);
	console_set_number(r, COL_OWN + 1, (int64_t)client->transactions);
	console_set_number(r, COL_OWN + 2, (int64_t)client->queries);
	console_set_number(r, COL_OWN + 3, (int64_t)(client->wait_ns_total / NS_PER_US));
	console_set_bool(r, COL_OWN + 4, client->keeps_server);
	console_set_bool(r, COL_OWN + 5, client->begin_deferred);
	console_set_text(r, COL_OWN + 6, details.pinned ? details.pinned : "");
}

static void clients_of_worker(struct session_worker *sw, struct gathering *gathering) {
	static const enum client_state order[] = {CLIENT_ACTIVE, CLIENT_WAITING, CLIENT_IDLE, CLIENT_CONSOLE,
						  CLIENT_LOGIN};

	for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
		list_for_each(node, &sw->clients[order[i]])
			client_row(&gathering->request->result, list_entry(node, struct client, node), sw->worker->id);
}

SHOW_COMMAND(clients) {
	(void)arguments;
	if (SHOW_COLUMNS(&request->result, client_columns))
		gather(request, clients_of_worker, NULL, NULL);
	else
		admin_answer(request);
}

/* ---- SERVERS ---- */

static const struct column server_columns[] = {
	SOCKET_COLUMNS,
	/* our own */
	[COL_OWN] = {"worker", CONSOLE_INT4},
	{"transactions", CONSOLE_INT8},
	{"queries", CONSOLE_INT8},
	{"stage", CONSOLE_TEXT},
	{"host", CONSOLE_TEXT},
	{"last_client", CONSOLE_INT4},
	{"expires_in", CONSOLE_INT4},
	{"pinned", CONSOLE_TEXT},
};

static const char *server_state_word(const struct server *server) {
	switch (server->state) {
	case SERVER_RESOLVING:
	case SERVER_CONNECTING:
	case SERVER_LOGIN:
	case SERVER_SETUP:
		return "new";
	case SERVER_IDLE:
		return "idle";
	case SERVER_ACTIVE:
		return "active";
	case SERVER_RECOVERING:
	case SERVER_VALIDATING:
		return "tested";
	case SERVER_FENCED:
		return "being_canceled";
	case SERVER_CLOSED:
		break;
	}
	return "closed";
}

static void server_address(struct console_result *r, const struct server *server) {
	set_address(r, COL_ADDR, &server->address);
	if (server->address.ss_family == AF_UNIX) { /* the port is in the name of the socket's file */
		const char *colon = strrchr(server->host_text, ':');
		if (colon)
			console_set_number(r, COL_PORT, atoi(colon + 1));
	}
}

static void server_row(struct console_result *r, struct server *server, int worker) {
	struct console_details details = {0};

	if (!console_row(r))
		return;
	if (server->protocol->server_describe)
		server->protocol->server_describe(server, &details);
	console_set_text(r, COL_TYPE, "S");
	console_set_text(r, COL_USER, server->conn.user ? pool_user_name(server->conn.user) : "(nouser)");
	console_set_text(r, COL_DATABASE, server->database ? server->database->name : "(nodb)");
	console_set_text(r, COL_STATE, server_state_word(server));
	server_address(r, server);
	set_local_address(r, &server->stream);
	show_time(r, COL_CONNECT_TIME, server->connected_ns ? server->connected_ns : server->conn.opened_ns);
	show_time(r, COL_REQUEST_TIME, server->request_ns ? server->request_ns : server->connected_ns);
	set_wait(r, 0);
	console_set_number(r, COL_CLOSE_NEEDED, server->conn.retire);
	console_set(r, COL_PTR, "s%u", server->id);
	if (server->client)
		console_set(r, COL_LINK, "c%u", server->client->id);
	else
		console_set_text(r, COL_LINK, "");
	console_set_number(r, COL_REMOTE_PID, details.backend_pid);
	set_tls(r, &server->stream);
	set_details(r, &details);
	console_set_number(r, COL_ID, server->id);
	console_set_number(r, COL_OWN, worker);
	console_set_number(r, COL_OWN + 1, (int64_t)server->transactions);
	console_set_number(r, COL_OWN + 2, (int64_t)server->queries);
	console_set_text(r, COL_OWN + 3, server_state_name(server->state));
	console_set_text(r, COL_OWN + 4, server->host_text);
	if (server->last_client)
		console_set_number(r, COL_OWN + 5, server->last_client);
	uint64_t now_ns = clock_monotonic_ns(), expires_ns = server->conn.expires_ns;
	if (expires_ns && expires_ns != TIME_NEVER)
		console_set_number(r, COL_OWN + 6, expires_ns > now_ns ? (int64_t)((expires_ns - now_ns) / NS_PER_S) : 0);
	console_set_text(r, COL_OWN + 7, details.pinned ? details.pinned : "");
}

static void servers_of_worker(struct session_worker *sw, struct gathering *gathering) {
	list_for_each(node, &sw->servers)
		server_row(&gathering->request->result, list_entry(node, struct server, all), sw->worker->id);
}

SHOW_COMMAND(servers) {
	(void)arguments;
	if (SHOW_COLUMNS(&request->result, server_columns))
		gather(request, servers_of_worker, NULL, NULL);
	else
		admin_answer(request);
}

/* ---- WAITERS ---- */

static void waiters_of_worker(struct session_worker *sw, struct gathering *gathering) {
	struct console_result *r = &gathering->request->result;
	uint64_t now_ns = clock_monotonic_ns();

	list_for_each(node, &sw->clients[CLIENT_WAITING]) {
		struct client *client = list_entry(node, struct client, node);
		if (!console_row(r))
			return;
		uint64_t since_ns = client->claim->waiter.since_ns, deadline_ns = client->claim->waiter.deadline_ns;
		console_set_text(r, 0, client_database(client));
		console_set_text(r, 1, client->user ? pool_user_name(client->user) : "(nouser)");
		console_set_number(r, 2, client->id);
		console_set_text(r, 3, STREAM_PEER_SAY(&client->peer));
		console_set_number(r, 4, (int64_t)(now_ns > since_ns ? (now_ns - since_ns) / NS_PER_US : 0));
		if (deadline_ns != TIME_NEVER)
			console_set_number(r, 5, (int64_t)(deadline_ns > now_ns ? (deadline_ns - now_ns) / NS_PER_US : 0));
		console_set_number(r, 6, sw->worker->id);
	}
}

SHOW_COMMAND(waiters) {
	static const struct column columns[] = {
		{"database", CONSOLE_TEXT},      {"user", CONSOLE_TEXT},        {"client", CONSOLE_INT4},
		{"addr", CONSOLE_TEXT},          {"waited_us", CONSOLE_INT8},   {"gives_up_in_us", CONSOLE_INT8},
		{"worker", CONSOLE_INT4},
	};

	(void)arguments;
	if (SHOW_COLUMNS(&request->result, columns))
		gather(request, waiters_of_worker, NULL, NULL);
	else
		admin_answer(request);
}
