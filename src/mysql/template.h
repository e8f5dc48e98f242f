/*
 * What the greeting says of the server behind us, before any connection to it is thought of: what a pool's backends have
 * said when they were last logged in to. One table for the process, with an entry for each pool; any thread.
 */
#ifndef MYSQL_TEMPLATE_H
#define MYSQL_TEMPLATE_H

#include "mysql/facts.h"

struct listener_config;
struct config;

void my_template_learn(const char *pool, const struct my_server_facts *facts);
/* False: nothing is known of that pool's backends yet. */
bool my_template_find(const char *pool, struct my_server_facts *out);

struct my_greeting_words {
	char version[80];
	uint8_t collation;
	uint16_t status;
	uint32_t capabilities; /* offered; CLIENT_SSL is the listener's to add */
};
/* As the listener is configured, else as the backends of its default pool are, else those of the first pool that is known. */
void my_greeting_words(const struct config *config, const struct listener_config *listener,
		       struct my_greeting_words *out);

#endif
