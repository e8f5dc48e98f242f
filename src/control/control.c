#include "control/control.h"

#include "control/auth_query.h"

bool control_start(struct error *error) {
	if (!auth_query_start(error))
		return false;
	lookup_install(auth_query_submit);
	return true;
}

void control_reload(void) {
	auth_query_flush();
}

/* The look-up stays installed: what workers still submit is answered at once, with an error. */
void control_stop(void) {
	auth_query_stop();
}
