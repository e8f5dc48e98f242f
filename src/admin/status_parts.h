/* What the two files of the status page share: status.c finds out, status_write.c writes. */
#ifndef ADMIN_STATUS_PARTS_H
#define ADMIN_STATUS_PARTS_H

#include "admin/status.h"

/* As many as are shown; of pools, those with trouble come first. */
enum { STATUS_POOLS = 60, STATUS_LEAKS = 20, STATUS_PROBLEMS = 20, STATUS_BACKENDS = 60 };

enum severity { SEVERITY_BAD, SEVERITY_WARNING };

struct problem {
	enum severity severity;
	const char *kind; /* "pool_full", "leak", "backend_down" ... */
	char text[600];
};

struct pool_status {
	struct pool_snapshot now;
	struct history_copy history;
	const char *mode;
	char trouble[400]; /* why it cannot serve; "" */
	bool full;         /* all in use, and clients wait */
};

struct status {
	bool draining, leaks_known;
	struct snapshot *snapshot;
	uint64_t clients, max_clients;
	size_t pool_count; /* of `pools`; the snapshot has all */
	struct pool_status pools[STATUS_POOLS];
	size_t leak_count;
	uint64_t leak_total;
	struct leak leaks[STATUS_LEAKS];
	size_t problem_count, problem_total;
	struct problem problems[STATUS_PROBLEMS];
};

/* "4.2 s", "350 us": for people. */
void status_duration(uint64_t ns, char out[24]);

#endif
