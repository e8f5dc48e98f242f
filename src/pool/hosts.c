/* The hosts of a pool: what is known of each, and which gets the next connection. */
#include "pool/internal.h"

bool pool_set_hosts(struct pool *pool, const char *const *names, size_t count, enum pool_host_order order,
		    enum pool_target target) {
	(void)pool, (void)names, (void)count, (void)order, (void)target;
	return true;
}

int pool_host_find(const struct pool *pool, const char *name) {
	(void)pool, (void)name;
	return -1;
}

void pool_host_report(struct pool *pool, int host, bool up, enum pool_role role) {
	(void)pool, (void)host, (void)up, (void)role;
}

void pool_set_paused(struct pool *pool, bool paused) {
	(void)pool, (void)paused;
}

uint32_t pool_retiring(const struct pool *pool) {
	(void)pool;
	return 0;
}

void pool_conn_retire(struct pool_conn *conn, const char *reason) {
	(void)reason;
	conn->retire = true;
}
