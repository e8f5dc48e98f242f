/* From a connection's first byte to its login. */
#include "mysql/internal.h"

struct my_login {
	uint8_t unused[16];
};

void my_logins_init(struct slab *logins) {
	slab_init(logins, sizeof(struct my_login));
}

bool my_login_begin(struct my_client *client) {
	(void)client;
	return false;
}

size_t my_login_input(struct my_client *client, const uint8_t *data, size_t len) {
	(void)client, (void)data;
	return len;
}

void my_login_secured(struct my_client *client) {
	(void)client;
}

void my_login_names(const struct my_client *client, const char **database, const char **user) {
	(void)client;
	*database = *user = NULL;
}

void my_login_free(struct my_client *client) {
	(void)client;
}
