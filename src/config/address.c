#include "config/address.h"

#include <arpa/inet.h>
#include <stddef.h>
#include <string.h>

enum {
	/* struct sockaddr_un has room for 108 with the zero; "/.s.PGSQL.65535" comes behind a folder. */
	SOCKET_PATH_LONGEST = 107,
	SOCKET_FOLDER_LONGEST = 107 - 15
};

/* The port behind the last colon of `text`. NULL: there is no colon. -1: what is behind it is no port. */
static const char *find_port(const char *text, int *port) {
	const char *colon = strrchr(text, ':');
	int number = 0;

	if (!colon)
		return NULL;
	*port = -1;
	size_t digits = strspn(colon + 1, "0123456789");
	if (digits == 0 || digits > 5 || colon[1 + digits])
		return colon;
	for (const char *p = colon + 1; *p; p++)
		number = number * 10 + (*p - '0');
	if (number > 0 && number <= 65535)
		*port = number;
	return colon;
}

static bool host_copy(struct address *out, const char *host, size_t len) {
	if (len == 0 || len >= sizeof(out->host))
		return false;
	memcpy(out->host, host, len);
	out->host[len] = 0;
	return true;
}

static const char *parse_path(const char *text, enum address_use use, struct address *out) {
	int port = 0;
	const char *colon = use == ADDRESS_TO_REACH ? find_port(text, &port) : NULL;
	bool has_port = colon && port > 0;
	size_t len = has_port ? (size_t)(colon - text) : strlen(text);

	if (len > (use == ADDRESS_TO_LISTEN ? SOCKET_PATH_LONGEST : SOCKET_FOLDER_LONGEST) ||
	    !host_copy(out, text, len))
		return "the path is too long for a Unix socket";
	out->port = has_port ? port : 0;
	return NULL;
}

static const char *check_v6(const struct address *out) {
	unsigned char bytes[16];
	char plain[sizeof(out->host)];
	size_t len = strcspn(out->host, "%");

	memcpy(plain, out->host, len);
	plain[len] = 0;
	return inet_pton(AF_INET6, plain, bytes) == 1 ? NULL : "what is in the brackets is no IPv6 address";
}

static const char *check_name(const struct address *out, enum address_use use) {
	static const char LETTERS[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
	unsigned char bytes[4];

	if (strcmp(out->host, "*") == 0)
		return use == ADDRESS_TO_LISTEN ? NULL : "* is no host";
	if (out->host[strspn(out->host, LETTERS)] || out->host[0] == '-' || out->host[0] == '.')
		return "this is no name of a host";
	if (!out->host[strspn(out->host, "0123456789.")] && inet_pton(AF_INET, out->host, bytes) != 1)
		return "this is no IPv4 address";
	return NULL;
}

const char *address_parse(const char *text, enum address_use use, struct address *out) {
	const char *host = text, *rest;
	bool v6 = text[0] == '[';
	int port = 0;
	size_t len;

	if (text[0] == '/')
		return parse_path(text, use, out);
	if (v6) {
		host = text + 1;
		len = strcspn(host, "]");
		if (!host[len])
			return "the closing bracket is missing";
		rest = host + len + 1;
		if (*rest && *rest != ':')
			return "only :port may follow the bracket";
	} else {
		len = strcspn(text, ":");
		rest = text + len;
		if (strchr(*rest ? rest + 1 : rest, ':'))
			return "an IPv6 address stands in brackets: [::1]:5432";
	}
	if (*rest)
		find_port(rest, &port);
	if (port < 0)
		return "the port must be a number from 1 to 65535";
	if (port == 0 && use == ADDRESS_TO_LISTEN)
		return "the port is missing";
	if (!host_copy(out, host, len))
		return len ? "the host's name is too long" : "the host is missing";
	out->port = port;
	return v6 ? check_v6(out) : check_name(out, use);
}
