/* Collations by the numbers that handshakes name them by. */
#ifndef MYSQL_COLLATION_H
#define MYSQL_COLLATION_H

#include <stdbool.h>

/*
 * The character set of a collation of MySQL or MariaDB with a number below 256, as a name for SET character_set_client;
 * NULL for a number that neither has, and for those that no client may speak (ucs2, utf16, utf32): a server takes its own
 * default for them. The number itself serves for collation_connection, of any collation, and for character_set_client of
 * the default one of each set only.
 */
const char *my_charset_of(unsigned collation);

/* One that MySQL has and MariaDB has not: utf8mb4_0900_ai_ci, and those of gb18030. */
bool my_collation_is_mysqls(unsigned collation);

#endif
