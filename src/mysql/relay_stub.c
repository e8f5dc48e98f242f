/* Bodies until the relay is there: a client that has logged in is told so and let go. */
#include "mysql/internal.h"

bool my_relay_worker_init(struct my_worker_relay *worker) {
	(void)worker;
	return true;
}

void my_relay_worker_free(struct my_worker_relay *worker) {
	(void)worker;
}

bool my_client_logged_in(struct my_client *client) {
	(void)client;
	return true;
}

size_t my_frontend_input(struct my_client *client, const uint8_t *data, size_t len) {
	(void)data;
	client_end(&client->base, REFUSAL_MODE, "commands are not relayed yet");
	return len;
}

void my_refused(struct my_client *client, const char *text) {
	(void)client, (void)text;
}

bool my_client_linked(struct client *client, struct server *server) {
	(void)client, (void)server;
	return true;
}

void my_client_activity(const struct client *client, struct activity *activity) {
	(void)client, (void)activity;
}

void my_client_cut(struct client *client) {
	(void)client;
}

bool my_client_roll_back(struct client *client, enum deadline why, const char *text) {
	(void)client, (void)why, (void)text;
	return false;
}

void my_client_relay_describe(const struct my_client *client, struct console_details *details) {
	(void)client, (void)details;
}

void my_client_relay_free(struct my_client *client) {
	(void)client;
}

bool my_server_relay_begin(struct my_server *server) {
	(void)server;
	return true;
}

void my_server_logged_in(struct my_server *server) {
	server_ready(&server->base);
}

size_t my_backend_input(struct my_server *server, const uint8_t *data, size_t len) {
	(void)server, (void)data;
	return len;
}

bool my_server_clean(const struct server *server) {
	(void)server;
	return true;
}

bool my_server_busy(const struct server *server) {
	(void)server;
	return false;
}

enum server_use my_server_use(const struct server *server) {
	(void)server;
	return SERVER_HELD_SESSION;
}

void my_server_statements(const struct server *server, enum statement_text as, struct server_statements *out) {
	(void)server, (void)as, (void)out;
}

void my_server_recover(struct server *server) {
	server_close(server, "not recovered yet");
}

void my_server_reset(struct server *server) {
	server_close(server, "not reset yet");
}

void my_server_uncancelled(struct server *server) {
	(void)server;
}

void my_server_validate(struct server *server, const char *sql) {
	(void)sql;
	server_close(server, "not validated yet");
}

void my_server_goodbye(struct server *server) {
	static const uint8_t quit[] = {1, 0, 0, 0, MY_COM_QUIT};

	server_write(server, quit, sizeof quit);
}

void my_server_moving(struct server *server) {
	(void)server;
}

void my_server_relay_describe(const struct my_server *server, struct console_details *details) {
	(void)server, (void)details;
}

void my_server_relay_free(struct my_server *server) {
	(void)server;
}

void my_cancel_begin(struct cancel *cancel) {
	cancel_finished(cancel);
}

size_t my_cancel_input(struct cancel *cancel, const uint8_t *data, size_t len) {
	(void)cancel, (void)data;
	return len;
}

void my_cancel_secured(struct cancel *cancel) {
	(void)cancel;
}
