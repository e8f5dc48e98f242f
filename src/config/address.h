/* Addresses as people write them. What a name stands for is looked up by whoever uses it. */
#ifndef CONFIG_ADDRESS_H
#define CONFIG_ADDRESS_H

#include <stdbool.h>

enum address_use {
	ADDRESS_TO_LISTEN, /* host:port, [v6]:port, *:port, or the path of a Unix socket */
	ADDRESS_TO_REACH   /* host[:port], [v6][:port], or the folder of a Unix socket[:port] */
};

struct address {
	char host[256]; /* without brackets; a path begins with a slash */
	int port;       /* 0: none was written */
};

/* NULL: `out` holds it. Else what is wrong with it. */
const char *address_parse(const char *text, enum address_use use, struct address *out);

#endif
