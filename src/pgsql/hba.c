#include "pgsql/hba.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <regex.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgsql/rules_file.h"

enum line_type { TYPE_LOCAL, TYPE_HOST, TYPE_SSL, TYPE_NO_SSL, TYPE_GSS };
enum address_type { ADDRESS_ANY, ADDRESS_NET, ADDRESS_SAME_HOST, ADDRESS_SAME_NET };

/* An address with its mask, in network order; 4 or 16 bytes. */
struct net {
	int family;
	uint8_t address[16], mask[16];
};

/* A list of names of databases or users. */
struct names {
	const struct rules_field *field;
	regex_t *regexes; /* one for each token, used where it begins with a slash */
	size_t compiled;
};

struct hba_line {
	enum line_type type;
	struct names databases, users;
	enum address_type address_type;
	struct net net;
	struct hba_verdict verdict;
};

struct hba {
	struct rules *rules;
	struct hba_line *lines;
	size_t count;
	struct net *own; /* of this machine's interfaces */
	size_t own_count;
};

/* What a line is parsed with. */
struct parser {
	const struct rules_line *line;
	size_t next; /* field */
	struct error *error;
};

__attribute__((format(printf, 2, 3))) static bool refuse(struct parser *p, const char *fmt, ...);

static bool refuse(struct parser *p, const char *fmt, ...) {
	char text[400];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	return error_set(p->error, 0, "%s:%d: %s", p->line->file, p->line->number, text);
}

/* ---- names ---- */

static void names_free(struct names *names) {
	for (size_t i = 0; i < names->compiled; i++)
		if (names->field->tokens[i].text[0] == '/')
			regfree(&names->regexes[i]);
	free(names->regexes);
}

static bool compile_regex(struct parser *p, regex_t *regex, const char *text) {
	char why[128];
	int e = regcomp(regex, text, REG_EXTENDED | REG_NOSUB);

	if (e == 0)
		return true;
	regerror(e, regex, why, sizeof why);
	return refuse(p, "invalid regular expression \"%s\": %s", text, why);
}

static bool parse_names(struct parser *p, struct names *names, const char *what, bool are_users) {
	if (p->next >= p->line->count)
		return refuse(p, "the line ends before the %s", what);
	names->field = &p->line->fields[p->next++];
	names->regexes = calloc(names->field->count, sizeof *names->regexes);
	if (!names->regexes)
		return refuse(p, "out of memory");
	for (; names->compiled < names->field->count; names->compiled++) {
		const struct rules_token *token = &names->field->tokens[names->compiled];
		if (token->text[0] == '/' && !compile_regex(p, &names->regexes[names->compiled], token->text + 1))
			return false;
		if (!are_users && (rules_is_keyword(token, "samerole") || rules_is_keyword(token, "samegroup")))
			return refuse(p, "%s is not supported: the roles of a database are not known here; name the "
					 "users", token->text);
		if (are_users && !token->quoted && token->text[0] == '+')
			return refuse(p, "%s: membership in a role is not supported, for the roles of a database are "
					 "not known here; name the users, or use a list in a file (@file)",
				      token->text);
	}
	return true;
}

static bool token_is(const struct names *names, size_t i, const char *name) {
	const struct rules_token *token = &names->field->tokens[i];

	if (token->text[0] == '/')
		return regexec(&names->regexes[i], name, 0, NULL, 0) == 0;
	return strcmp(token->text, name) == 0;
}

static bool database_matches(const struct names *names, const struct hba_client *client) {
	for (size_t i = 0; i < names->field->count; i++) {
		const struct rules_token *token = &names->field->tokens[i];
		if (rules_is_keyword(token, "replication")) {
			if (client->physical_replication)
				return true;
			continue;
		}
		if (client->physical_replication)
			continue;
		if (rules_is_keyword(token, "all"))
			return true;
		if (rules_is_keyword(token, "sameuser")) {
			if (strcmp(client->database, client->user) == 0)
				return true;
			continue;
		}
		if (token_is(names, i, client->database))
			return true;
	}
	return false;
}

static bool user_matches(const struct names *names, const struct hba_client *client) {
	for (size_t i = 0; i < names->field->count; i++)
		if (rules_is_keyword(&names->field->tokens[i], "all") || token_is(names, i, client->user))
			return true;
	return false;
}

/* ---- addresses ---- */

static size_t width_of(int family) {
	return family == AF_INET ? 4 : 16;
}

static bool parse_ip(const char *text, int *family, uint8_t out[16]) {
	if (inet_pton(AF_INET, text, out) == 1)
		*family = AF_INET;
	else if (inet_pton(AF_INET6, text, out) == 1)
		*family = AF_INET6;
	else
		return false;
	return true;
}

static bool set_mask(struct net *net, const char *bits) {
	size_t width = 8 * width_of(net->family);
	char *end;
	unsigned long n = strtoul(bits, &end, 10);

	if (bits[0] < '0' || bits[0] > '9' || *end || n > width)
		return false;
	for (size_t i = 0; i < width_of(net->family); i++, n -= n < 8 ? n : 8)
		net->mask[i] = n >= 8 ? 0xff : (uint8_t)(0xff00 >> n);
	return true;
}

static const struct rules_token *one_token(struct parser *p, const char *what) {
	if (p->next >= p->line->count) {
		refuse(p, "the line ends before the %s", what);
		return NULL;
	}
	const struct rules_field *field = &p->line->fields[p->next++];
	if (field->count == 1)
		return &field->tokens[0];
	refuse(p, "the %s must be one value, not a list", what);
	return NULL;
}

static bool parse_address(struct parser *p, struct hba_line *line) {
	const struct rules_token *token = one_token(p, "address");
	char text[80];

	if (!token)
		return false;
	if (rules_is_keyword(token, "all")) {
		line->address_type = ADDRESS_ANY;
		return true;
	}
	if (rules_is_keyword(token, "samehost") || rules_is_keyword(token, "samenet")) {
		line->address_type = rules_is_keyword(token, "samehost") ? ADDRESS_SAME_HOST : ADDRESS_SAME_NET;
		return true;
	}
	line->address_type = ADDRESS_NET;
	if (strlen(token->text) >= sizeof text)
		return refuse(p, "\"%s\" is no address", token->text);
	strcpy(text, token->text);
	char *slash = strchr(text, '/');
	if (slash)
		*slash = '\0';
	if (!parse_ip(text, &line->net.family, line->net.address))
		return refuse(p, "\"%s\" is no IP address; host names are not supported, write the address or its "
				 "network", token->text);
	if (slash) {
		if (!set_mask(&line->net, slash + 1))
			return refuse(p, "invalid mask in \"%s\"", token->text);
		return true;
	}
	int family;
	const struct rules_token *mask = one_token(p, "mask (or write the address with its length, as in 10.0.0.0/8)");
	if (!mask)
		return false;
	if (!parse_ip(mask->text, &family, line->net.mask) || family != line->net.family)
		return refuse(p, "\"%s\" is no mask for address %s", mask->text, text);
	return true;
}

/* The bytes of an address; NULL: neither IPv4 nor IPv6. */
static const uint8_t *bytes_of(const struct sockaddr *address) {
	if (address && address->sa_family == AF_INET)
		return (const uint8_t *)&((const struct sockaddr_in *)(const void *)address)->sin_addr;
	if (address && address->sa_family == AF_INET6)
		return (const uint8_t *)&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
	return NULL;
}

static bool is_in(const struct net *net, const struct sockaddr *address, bool whole_address) {
	const uint8_t *bytes = bytes_of(address);

	if (!bytes || address->sa_family != net->family)
		return false;
	for (size_t i = 0; i < width_of(net->family); i++)
		if ((bytes[i] ^ net->address[i]) & (whole_address ? 0xff : net->mask[i]))
			return false;
	return true;
}

static bool is_near(const struct hba *hba, const struct sockaddr *address, bool same_host) {
	for (size_t i = 0; i < hba->own_count; i++)
		if (is_in(&hba->own[i], address, same_host))
			return true;
	return false;
}

/* The addresses of this machine's interfaces. */
static bool load_own(struct hba *hba, struct error *error) {
	struct ifaddrs *all;
	size_t count = 0;

	if (getifaddrs(&all) != 0)
		return error_set(error, 0, "cannot list this machine's addresses, for samehost and samenet");
	for (struct ifaddrs *i = all; i; i = i->ifa_next)
		count++;
	hba->own = calloc(count + 1, sizeof *hba->own);
	for (struct ifaddrs *i = all; i && hba->own; i = i->ifa_next) {
		const uint8_t *address = bytes_of(i->ifa_addr), *mask = bytes_of(i->ifa_netmask);
		if (!address || !mask || i->ifa_netmask->sa_family != i->ifa_addr->sa_family)
			continue;
		struct net *net = &hba->own[hba->own_count++];
		net->family = i->ifa_addr->sa_family;
		memcpy(net->address, address, width_of(net->family));
		memcpy(net->mask, mask, width_of(net->family));
	}
	freeifaddrs(all);
	return hba->own || error_set(error, 0, "out of memory");
}

static bool address_matches(const struct hba *hba, const struct hba_line *line, const struct sockaddr *address) {
	switch (line->address_type) {
	case ADDRESS_ANY:
		return true;
	case ADDRESS_NET:
		return is_in(&line->net, address, false);
	case ADDRESS_SAME_HOST:
		return is_near(hba, address, true);
	case ADDRESS_SAME_NET:
		return is_near(hba, address, false);
	}
	return false;
}

/* ---- lines ---- */

static bool parse_type(struct parser *p, struct hba_line *line) {
	static const struct {
		const char *name;
		enum line_type type;
	} types[] = {
		{"local", TYPE_LOCAL},     {"host", TYPE_HOST},       {"hostssl", TYPE_SSL},
		{"hostnossl", TYPE_NO_SSL}, {"hostgssenc", TYPE_GSS}, {"hostnogssenc", TYPE_HOST},
	};
	const struct rules_token *token = one_token(p, "type");

	if (!token)
		return false;
	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
		if (strcmp(token->text, types[i].name) == 0) {
			line->type = types[i].type;
			return true;
		}
	return refuse(p, "unknown type \"%s\": local, host, hostssl, hostnossl, hostgssenc or hostnogssenc is expected",
		      token->text);
}

static bool parse_method(struct parser *p, struct hba_line *line) {
	static const struct {
		const char *name;
		enum hba_method method;
	} methods[] = {
		{"trust", HBA_TRUST}, {"reject", HBA_REJECT},	{"password", HBA_PASSWORD}, {"md5", HBA_MD5},
		{"cert", HBA_CERT},   {"scram-sha-256", HBA_SCRAM}, {"peer", HBA_PEER},	    {"ident", HBA_PEER},
	};
	const struct rules_token *token = one_token(p, "method");

	if (!token)
		return false;
	for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
		if (strcmp(token->text, methods[i].name) != 0)
			continue;
		line->verdict.method = methods[i].method;
		if (methods[i].method == HBA_PEER && line->type != TYPE_LOCAL)
			return refuse(p, "%s is supported on local lines only", token->text);
		if (methods[i].method == HBA_CERT && line->type != TYPE_SSL)
			return refuse(p, "cert is supported on hostssl lines only");
		if (methods[i].method == HBA_CERT)
			line->verdict.client_cert = HBA_CERT_USER;
		return true;
	}
	return refuse(p,
		      "method \"%s\" is not supported: trust, reject, password, md5, scram-sha-256, cert, peer or "
		      "ident (on local lines) is expected",
		      token->text);
}

static bool parse_client_cert(struct parser *p, struct hba_line *line, const char *value) {
	if (line->type != TYPE_SSL)
		return refuse(p, "clientcert is for hostssl lines only");
	if (strcmp(value, "verify-full") == 0)
		line->verdict.client_cert = HBA_CERT_USER;
	else if (strcmp(value, "verify-ca") == 0 && line->verdict.method != HBA_CERT)
		line->verdict.client_cert = HBA_CERT_VERIFIED;
	else
		return refuse(p, "invalid value of clientcert: \"%s\"; verify-full%s is expected", value,
			      line->verdict.method == HBA_CERT ? "" : " or verify-ca");
	return true;
}

static bool parse_option(struct parser *p, struct hba_line *line, char *text) {
	char *equals = strchr(text, '=');

	if (!equals)
		return refuse(p, "option \"%s\" is not of the form name=value", text);
	const char *value = equals + 1;
	size_t len = (size_t)(equals - text);
	if (len == 3 && strncmp(text, "map", len) == 0) {
		if (line->verdict.method != HBA_CERT && line->verdict.method != HBA_PEER)
			return refuse(p, "map is for cert, peer and ident only");
		line->verdict.map = value;
		return true;
	}
	if (len == 10 && strncmp(text, "clientcert", len) == 0)
		return parse_client_cert(p, line, value);
	if (len == 10 && strncmp(text, "clientname", len) == 0) {
		if (line->type != TYPE_SSL || (strcmp(value, "CN") != 0 && strcmp(value, "DN") != 0))
			return refuse(p, "clientname is for hostssl lines, CN or DN");
		line->verdict.use_subject = strcmp(value, "DN") == 0;
		return true;
	}
	return refuse(p, "unknown option \"%.*s\"", (int)len, text);
}

static bool parse_line(struct parser *p, struct hba_line *line) {
	line->verdict.file = p->line->file;
	line->verdict.line = p->line->number;
	if (!parse_type(p, line) || !parse_names(p, &line->databases, "database", false) ||
	    !parse_names(p, &line->users, "user", true))
		return false;
	if (line->type != TYPE_LOCAL && !parse_address(p, line))
		return false;
	if (!parse_method(p, line))
		return false;
	for (; p->next < p->line->count; p->next++) {
		const struct rules_field *field = &p->line->fields[p->next];
		for (size_t i = 0; i < field->count; i++)
			if (!parse_option(p, line, field->tokens[i].text))
				return false;
	}
	return true;
}

void hba_free(struct hba *hba) {
	if (!hba)
		return;
	for (size_t i = 0; i < hba->count; i++) {
		names_free(&hba->lines[i].databases);
		names_free(&hba->lines[i].users);
	}
	free(hba->lines);
	free(hba->own);
	rules_free(hba->rules);
	free(hba);
}

struct hba *hba_load(const char *path, struct error *error) {
	struct hba *hba = calloc(1, sizeof *hba);
	bool wants_own = false;

	if (!hba) {
		error_set(error, 0, "out of memory");
		return NULL;
	}
	hba->rules = rules_load(path, error);
	if (!hba->rules)
		goto fail;
	hba->lines = calloc(hba->rules->count + 1, sizeof *hba->lines);
	if (!hba->lines) {
		error_set(error, 0, "out of memory");
		goto fail;
	}
	for (size_t i = 0; i < hba->rules->count; i++) {
		struct parser p = {.line = &hba->rules->lines[i], .error = error};
		struct hba_line *line = &hba->lines[hba->count++];
		if (!parse_line(&p, line))
			goto fail;
		wants_own |= line->address_type == ADDRESS_SAME_HOST || line->address_type == ADDRESS_SAME_NET;
	}
	if (hba->count == 0) {
		error_set(error, 0, "%s: there is no rule in it: nobody could log in", path);
		goto fail;
	}
	if (wants_own && !load_own(hba, error))
		goto fail;
	return hba;
fail:
	hba_free(hba);
	return NULL;
}

const struct hba_verdict *hba_match(const struct hba *hba, const struct hba_client *client) {
	bool local = client->address->sa_family == AF_UNIX;

	for (size_t i = 0; i < hba->count; i++) {
		const struct hba_line *line = &hba->lines[i];
		if (local != (line->type == TYPE_LOCAL) || line->type == TYPE_GSS ||
		    (line->type == TYPE_SSL && !client->tls) || (line->type == TYPE_NO_SSL && client->tls))
			continue;
		if ((local || address_matches(hba, line, client->address)) &&
		    database_matches(&line->databases, client) && user_matches(&line->users, client))
			return &line->verdict;
	}
	return NULL;
}
