/*
 * Ending what another client does, or that client, by its id, as MySQL's KILL has it: a user may do that to its own
 * clients only. One whose password the configuration has may do it in all databases; else a name means a user in its own
 * database only, and the clients of others are not known there. The other client may live with any worker.
 */
#ifndef SESSION_KILL_H
#define SESSION_KILL_H

#include <stdbool.h>
#include <stdint.h>

struct client;

enum kill_result { KILL_DONE, KILL_UNKNOWN, KILL_DENIED, KILL_LOST /* it could not be delivered; the log says why */ };

/* Own worker. What runs for the other client has ended, or is marked to end, when `done` is called; what that client asks for
 * afterwards is safe. The asker is on hold (HOLD_LOGIN) until `done` is called, on its worker, unless it has gone by then; `done` resumes
 * it. False: out of memory; nothing happens. */
bool kill_request(struct client *asker, uint32_t id, bool connection,
		  void (*done)(struct client *asker, enum kill_result result, uint32_t id));

#endif
