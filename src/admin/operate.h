/* The commands that act on pools and clients, private to this folder. Each answers, now or by mail. */
#ifndef ADMIN_OPERATE_H
#define ADMIN_OPERATE_H

#include "admin/console.h"

#define OPERATE_COMMAND(name) void operate_##name(struct console_request *request, const struct words *arguments)
OPERATE_COMMAND(pause);
OPERATE_COMMAND(resume);
OPERATE_COMMAND(disable);
OPERATE_COMMAND(enable);
OPERATE_COMMAND(reconnect);
OPERATE_COMMAND(wait_close);
OPERATE_COMMAND(kill);
OPERATE_COMMAND(kill_client);

#endif
