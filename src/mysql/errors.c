/* Errors to a client, in MySQL's form: the numbers and sqlstates that its drivers know. */
#include <string.h>

#include "mysql/internal.h"
#include "net/worker.h"
#include "session/meter.h"

static const struct {
	uint16_t code;
	char sqlstate[6];
} STATES[] = {
	{MY_ER_CON_COUNT_ERROR, "08004"},
	{MY_ER_HANDSHAKE_ERROR, "08S01"},
	{MY_ER_DBACCESS_DENIED_ERROR, "42000"},
	{MY_ER_ACCESS_DENIED_ERROR, "28000"},
	{MY_ER_NO_DB_ERROR, "3D000"},
	{MY_ER_UNKNOWN_COM_ERROR, "08S01"},
	{MY_ER_BAD_DB_ERROR, "42000"},
	{MY_ER_SERVER_SHUTDOWN, "08S01"},
	{MY_ER_PARSE_ERROR, "42000"},
	{MY_ER_NET_PACKET_TOO_LARGE, "08S01"},
	{MY_ER_NET_PACKETS_OUT_OF_ORDER, "08S01"},
	{MY_ER_NET_READ_ERROR, "08S01"},
	{MY_ER_NEW_ABORTING_CONNECTION, "08S01"},
	{MY_ER_TOO_MANY_USER_CONNECTIONS, "42000"},
	{MY_ER_LOCK_DEADLOCK, "40001"},
	{MY_ER_USER_LIMIT_REACHED, "42000"},
	{MY_ER_WRONG_VALUE_FOR_VAR, "42000"},
	{MY_ER_NOT_SUPPORTED_YET, "42000"},
	{MY_ER_NOT_SUPPORTED_AUTH_MODE, "08004"},
	{MY_ER_QUERY_INTERRUPTED, "70100"},
	{MY_ER_CONNECTION_KILLED_MARIADB, "70100"},
	{MY_ER_ACCESS_DENIED_NO_PASSWORD_ERROR, "28000"},
};

const char *my_sqlstate(uint16_t code) {
	for (size_t i = 0; i < sizeof STATES / sizeof STATES[0]; i++)
		if (STATES[i].code == code)
			return STATES[i].sqlstate;
	return "HY000";
}

static bool send_built(struct my_client *client, struct my_builder *b) {
	bool ok = b->ok && client_write(&client->base, buf_bytes(&b->buf), buf_len(&b->buf));

	client->sequence++;
	my_builder_release(b);
	return ok;
}

bool my_send_error(struct my_client *client, uint16_t code, const char *sqlstate, const char *message) {
	struct my_builder b = my_builder(client->base.sw->worker->buffers);

	if (!sqlstate)
		sqlstate = my_sqlstate(code);
	meter_error(&client->base, sqlstate);
	my_put_err(&b, client->sequence, client->start.capabilities, code, sqlstate, message);
	return send_built(client, &b);
}

bool my_send_ok(struct my_client *client, const struct my_ok *ok) {
	struct my_builder b = my_builder(client->base.sw->worker->buffers);

	my_put_ok(&b, client->sequence, MY_PACKET_OK, client->start.capabilities, ok);
	return send_built(client, &b);
}

/* As the backend itself has refused the user, where it has. */
static uint16_t code_of_backend(struct my_client *client) {
	char sqlstate[6] = "", text[8];

	if (client->base.user)
		account_get_error(account_of(client->base.user), sqlstate, text, sizeof text);
	if (strcmp(sqlstate, "28000") == 0)
		return MY_ER_ACCESS_DENIED_ERROR;
	return strcmp(sqlstate, "42000") == 0 ? MY_ER_DBACCESS_DENIED_ERROR : MY_ER_NET_READ_ERROR;
}

static uint16_t code_of(struct my_client *client, enum refusal why) {
	switch (why) {
	case REFUSAL_TIMEOUT:
	case REFUSAL_QUEUE_FULL:
	case REFUSAL_TOO_MANY:
		return MY_ER_CON_COUNT_ERROR;
	case REFUSAL_UNAVAILABLE:
		return code_of_backend(client);
	case REFUSAL_BACKEND_LOST:
		return MY_ER_NET_READ_ERROR;
	case REFUSAL_SHUTDOWN:
		return MY_ER_SERVER_SHUTDOWN;
	case REFUSAL_KILLED:
		return MY_ER_CONNECTION_KILLED_MARIADB;
	case REFUSAL_LOGIN_TIMEOUT:
		return MY_ER_HANDSHAKE_ERROR;
	case REFUSAL_CANCELLED:
	case REFUSAL_QUERY_TIMEOUT:
		return MY_ER_QUERY_INTERRUPTED;
	case REFUSAL_MODE:
		return MY_ER_NOT_SUPPORTED_YET;
	case REFUSAL_IDLE_TIMEOUT:
		return MY_ER_CLIENT_INTERACTION_TIMEOUT;
	case REFUSAL_LEAK:
	case REFUSAL_TRANSACTION_TIMEOUT:
	case REFUSAL_IDLE_TRANSACTION_TIMEOUT:
		return MY_ER_NEW_ABORTING_CONNECTION;
	case REFUSAL_INTERNAL:
		break;
	}
	return MY_ER_UNKNOWN_ERROR;
}

void my_client_refuse(struct client *client, enum refusal why, const char *text, bool fatal) {
	struct my_client *mc = my_client(client);

	mc->sequence = my_login_unasked(mc);
	if (!mc->told_fatal && !mc->mid_message && (fatal || !mc->relay.silent))
		my_send_error(mc, code_of(mc, why), NULL, text);
	if (fatal)
		mc->told_fatal = true;
	else
		my_refused(mc, text);
}
