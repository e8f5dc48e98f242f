/* For struct traffic_setup.mysql. Programs that have it start a MariaDB: see mariadb.h. */
#ifndef TESTS_TRAFFIC_MY_H
#define TESTS_TRAFFIC_MY_H

#include "traffic_kinds.h"

extern const struct traffic_kinds traffic_of_mysql;

#endif
