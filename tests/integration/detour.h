/*
 * A detour on the way to PostgreSQL: a thread that accepts connections on a port of its own and passes all bytes on, as
 * slowly as it is told. So a database can be made to be far away, and connections to it be counted or go silent.
 */
#ifndef TESTS_DETOUR_H
#define TESTS_DETOUR_H

#include "cluster.h"

struct detour;

/* A connection's first bytes are held back for this long: a login takes that much longer. */
struct detour *detour_start(const struct node *node, int login_delay_ms);
int detour_port(const struct detour *detour);
int detour_accepted(const struct detour *detour); /* connections ever */
int detour_open(const struct detour *detour);     /* now */
/* Nothing is passed on any more and nothing closed, on connections that are there; or it goes on. New ones are accepted
 * and as silent. */
void detour_silence(struct detour *detour, bool silent);
/* Ends the thread and frees it; what is connected is closed. */
void detour_stop(struct detour *detour);

#endif
