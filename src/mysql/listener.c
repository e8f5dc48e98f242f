/* What logins on a listener need beyond its configuration. */
#include <stdlib.h>

#include "mysql/internal.h"

void *my_listener_setup(const struct listener_config *listener, struct error *error) {
	void *setup = calloc(1, 16);

	(void)listener;
	if (!setup)
		error_set(error, 0, "out of memory");
	return setup;
}

void my_listener_free(void *setup) {
	free(setup);
}
