/*
 * Listening sockets that were opened before this process: by the service manager, or by the process that this one
 * replaces. They wait here until a listener of that address is opened. Main thread.
 */
#ifndef NET_INHERITED_H
#define NET_INHERITED_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/* Takes over the descriptor; makes it non-blocking and close-on-exec. `managed`: its opener keeps it open, and its socket
 * file is not ours to remove. False: it is no listening stream socket, or there are too many; it is closed. */
bool inherited_add(int fd, bool managed);
/* The socket that listens on just this address, which is the caller's from then on. -1: there is none. */
int inherited_take(const struct sockaddr *address, socklen_t len, bool *managed);
/* A listening socket's own address, numeric: in each process that has it the same text. */
void inherited_name(int fd, char *out, size_t room);
/* Closes what nobody has taken and tells each address, as inherited_name() does. */
void inherited_close_rest(void (*each)(const char *address, bool managed));

#endif
