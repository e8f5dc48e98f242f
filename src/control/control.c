#include "control/control.h"

#include <mysql.h>

#include "control/auth_query.h"
#include "control/monitor.h"

bool control_start(struct error *error) {
	/* before there are threads that use it */
	if (mysql_library_init(0, NULL, NULL) != 0)
		return error_set(error, 0, "MySQL's client library cannot be initialized");
	if (!auth_query_start(error)) {
		mysql_library_end();
		return false;
	}
	if (!monitor_start(error)) {
		auth_query_stop();
		mysql_library_end();
		return false;
	}
	lookup_install(auth_query_submit);
	return true;
}

void control_reload(void) {
	auth_query_flush();
}

void control_watch(struct generation *generation) {
	monitor_watch(generation);
}

/* The look-up stays installed: what workers still submit is answered at once, with an error. */
void control_stop(void) {
	monitor_stop();
	auth_query_stop();
	mysql_library_end();
}
