/* The monitor's probe of one host of MySQL's. */
#ifndef CONTROL_MONITOR_MYSQL_H
#define CONTROL_MONITOR_MYSQL_H

#include "control/health.h"
#include "control/libmysql.h"

/* Probes over the connection that was kept (NULL: none; `fresh`: it is not to be trusted), or a new one, which is kept in
 * its place. Writes what it learns into the facts. `error` says what went wrong. */
enum health_answer monitor_mysql(MYSQL **kept, const struct mq_target *target, enum probe_login login, bool fresh,
				 struct backend_facts *facts, struct error *error);
void monitor_mysql_close(MYSQL **kept);

#endif
