#include "pgsql/proven.h"

#include <pthread.h>
#include <string.h>

enum { PARTS = 16, SLOTS = 256 }; /* of each part: an id has one place, the newer one stays */

static struct part {
	pthread_mutex_t mutex;
	struct {
		uint64_t account; /* its serial */
		uint8_t id[16];
	} at[SLOTS];
} parts[PARTS] = {[0 ... PARTS - 1] = {.mutex = PTHREAD_MUTEX_INITIALIZER}};

void pg_proven_note(uint64_t account, const uint8_t id[16]) {
	struct part *part = &parts[id[0] % PARTS];
	pthread_mutex_lock(&part->mutex);
	part->at[id[1]].account = account;
	memcpy(part->at[id[1]].id, id, 16);
	pthread_mutex_unlock(&part->mutex);
}

bool pg_proven_has(uint64_t account, const uint8_t id[16]) {
	struct part *part = &parts[id[0] % PARTS];
	pthread_mutex_lock(&part->mutex);
	bool has = part->at[id[1]].account == account && memcmp(part->at[id[1]].id, id, 16) == 0;
	pthread_mutex_unlock(&part->mutex);
	return has;
}
