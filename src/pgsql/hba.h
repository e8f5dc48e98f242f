/*
 * Host-based authentication: which method a client must use, by where it comes from, whether TLS is in use, the
 * database and the user. PostgreSQL's own file format (chapter "The pg_hba.conf File"), the first line that matches
 * decides.
 *
 * What is refused when the file is read, with a text that says so: methods that Forebay does not have (gss, sspi,
 * ldap, radius, pam, bsd, oauth; ident over TCP), host names as addresses, and membership in roles (samerole,
 * samegroup, +role), for Forebay does not know the roles of a database.
 * samehost and samenet mean the addresses that the machine had when the file was read.
 * Regular expressions are POSIX extended ones.
 */
#ifndef PGSQL_HBA_H
#define PGSQL_HBA_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "base/error.h"

enum hba_method { HBA_REJECT, HBA_TRUST, HBA_PASSWORD, HBA_MD5, HBA_SCRAM, HBA_CERT, HBA_PEER };
enum hba_client_cert { HBA_CERT_ANY, HBA_CERT_VERIFIED, HBA_CERT_USER }; /* clientcert= none, verify-ca, verify-full */

/* What a matching line asks for. */
struct hba_verdict {
	enum hba_method method;
	enum hba_client_cert client_cert;
	bool use_subject; /* clientname=DN: the certificate's subject (RFC 2253) is the name, not its common name */
	const char *map;  /* user map; NULL: names must be equal */
	const char *file; /* of the line, for logs */
	int line;
};

struct hba_client {
	const struct sockaddr *address; /* AF_UNIX: local */
	bool tls;
	const char *database, *user;
	bool physical_replication; /* only lines with the database `replication` match */
};

struct hba; /* immutable */

/* NULL: `error` names file, line and what is wrong. Reads the disk. */
struct hba *hba_load(const char *path, struct error *error);
void hba_free(struct hba *hba); /* NULL is fine */
/* NULL: no line matches; the client must be rejected. Lives as long as `hba`. Any thread. */
const struct hba_verdict *hba_match(const struct hba *hba, const struct hba_client *client);

#endif
