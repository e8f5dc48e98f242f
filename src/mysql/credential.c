#include "mysql/credential.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/secret.h"

struct my_credential {
	_Atomic int references;
	char *secret;
};

struct my_credential *my_credential_new(const char *secret) {
	struct my_credential *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	atomic_init(&c->references, 1);
	c->secret = secret_strdup(secret);
	if (secret && !c->secret) {
		free(c);
		return NULL;
	}
	return c;
}

void my_credential_unref(struct my_credential *c) {
	if (!c || atomic_fetch_sub_explicit(&c->references, 1, memory_order_acq_rel) != 1)
		return;
	secret_free(c->secret);
	free(c);
}
