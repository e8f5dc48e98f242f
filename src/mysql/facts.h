/* What a server has said of itself in its greeting, and what was agreed on. */
#ifndef MYSQL_FACTS_H
#define MYSQL_FACTS_H

#include <stdbool.h>
#include <stdint.h>

struct my_server_facts {
	char version[80];         /* as it was sent, "5.5.5-" included */
	bool mariadb;
	uint32_t number;          /* of the version, without "5.5.5-": 10.11.19 is 101119; 8.0.36 is 80036; 0: unknown */
	uint32_t offered;         /* its capabilities */
	uint32_t mariadb_offered; /* its extended ones (MY_MARIADB_...) */
	uint32_t capabilities;    /* agreed on */
	uint8_t collation;        /* its default, of the greeting */
	uint16_t status;          /* of the OK that ended the login */
	uint32_t thread_id;
};

#endif
