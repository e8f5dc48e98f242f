/* Clients that hold a connection and leave it unused for longer than leak_detection_threshold. See session/watch.h. */
#ifndef SESSION_LEAK_H
#define SESSION_LEAK_H

#include <stdint.h>

struct client;

/* When the client's hold would become a leak as things stand; TIME_NEVER. */
uint64_t leak_next(const struct client *client);
void leak_due(struct client *client);

#endif
