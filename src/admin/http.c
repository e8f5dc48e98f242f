#include "admin/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "admin/metrics.h"
#include "admin/ready.h"
#include "admin/status.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/secret.h"
#include "net/listener.h"
#include "net/tls.h"

enum {
	MEMORY_MAX = 32 * 1024,  /* of one connection: its request's line and headers must fit */
	IDLE_TIMEOUT_S = 15,     /* nothing comes or goes for so long */
	CROWDED = HTTP_CONNECTIONS_MAX * 3 / 4,
	BODIES_MAX = 8,          /* answers that are kept while somebody reads them */
	BODIES_BYTES_MAX = 64 << 20, /* of all of them; a single one may be larger */
	BACKLOG = 128,
	PEM_MAX = 1024 * 1024
};
/* A connection is ended when it has not finished a request, or not read its answer, for so long; when there are many, the
 * oldest are not given as much. */
#define SLOW_NS (60 * NS_PER_S)
#define SLOW_CROWDED_NS (5 * NS_PER_S)

struct connection {
	struct list node;
	int fd;
	uint64_t since_ns; /* it was accepted, or its last answer has gone */
	bool told;         /* it was shut down */
};

struct http;

struct endpoint {
	struct http *http;
	struct listener listener;
	struct MHD_Daemon *daemon;
};

struct http {
	/* immutable */
	char *cert, *key; /* PEM; NULL: plain HTTP */
	char *user, *password;
	size_t endpoint_count;
	struct history *history;

	/* atomic */
	_Atomic int bodies; /* answers that somebody reads */
	_Atomic size_t bodies_bytes;
	_Atomic bool draining;

	struct { /* under the mutex */
		pthread_mutex_t mutex;
		struct config *config;
		struct list connections; /* struct connection, the one that has gone on longest ago first */
		int count;
	} shared;
	struct endpoint endpoints[];
};

static int descriptor_of(struct MHD_Connection *connection) {
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	return info ? info->connect_fd : -1;
}

/* ---- answers ---- */

struct request {
	struct http *http;
	struct MHD_Connection *connection;
	char nonce[33]; /* of the status page's script and style; "": it is another answer */
};

static void set(struct MHD_Response *response, const char *name, const char *value) {
	MHD_add_response_header(response, name, value);
}

/* Queues it and lets go of it. */
static enum MHD_Result finish(struct request *request, unsigned status, struct MHD_Response *response, const char *type) {
	if (!response)
		return MHD_NO;
	set(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	set(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	set(response, "X-Content-Type-Options", "nosniff");
	if (!request->nonce[0])
		set(response, "Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'");
	set(response, "Referrer-Policy", "no-referrer");
	enum MHD_Result result = MHD_queue_response(request->connection, status, response);
	MHD_destroy_response(response);
	return result;
}

/* A text that is copied. */
static enum MHD_Result answer(struct request *request, unsigned status, const char *text, const char *extra_name,
			      const char *extra) {
	struct MHD_Response *response =
		MHD_create_response_from_buffer(strlen(text), (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY);

	if (response && extra_name)
		set(response, extra_name, extra);
	return finish(request, status, response, "text/plain; charset=utf-8");
}

/* The page has its script and style in itself; nothing else may run, and nothing be loaded but its own data. */
static void allow_page(struct request *request, struct MHD_Response *response) {
	char policy[300];

	snprintf(policy, sizeof policy,
		 "default-src 'none'; script-src 'nonce-%s'; style-src 'nonce-%s'; connect-src 'self'; img-src data:; "
		 "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		 request->nonce, request->nonce);
	set(response, "Content-Security-Policy", policy);
}

/* Lives while somebody reads it; a few at most. */
struct body {
	struct http *http;
	char *at;
	size_t len;
};

static void body_read(void *context) {
	struct body *body = context;

	atomic_fetch_sub(&body->http->bodies, 1);
	atomic_fetch_sub(&body->http->bodies_bytes, body->len);
	free(body->at);
	free(body);
}

static enum MHD_Result too_busy(struct request *request) {
	return answer(request, MHD_HTTP_SERVICE_UNAVAILABLE,
		      "Too many answers are still being read by others: try again.\n", "Retry-After", "1");
}

/* Takes over the text. */
static enum MHD_Result answer_text(struct request *request, unsigned status, struct page *text, const char *type) {
	struct body *body = text->failed ? NULL : malloc(sizeof *body);

	if (!body) {
		page_free(text);
		return answer(request, MHD_HTTP_INTERNAL_SERVER_ERROR, "Out of memory.\n", NULL, NULL);
	}
	page_trim(text);
	*body = (struct body){request->http, text->at, text->len};
	/* counted before they are looked at: other addresses' threads do the same */
	int others = atomic_fetch_add(&request->http->bodies, 1);
	size_t bytes = atomic_fetch_add(&request->http->bodies_bytes, text->len);
	if (others >= BODIES_MAX || (others > 0 && bytes + text->len > BODIES_BYTES_MAX)) {
		body_read(body);
		request->nonce[0] = 0;
		return too_busy(request);
	}
	struct MHD_Response *response =
		MHD_create_response_from_buffer_with_free_callback_cls(text->len, text->at, body_read, body);
	if (!response)
		body_read(body);
	if (response && request->nonce[0])
		allow_page(request, response);
	return finish(request, status, response, type);
}

/* ---- who may ask ---- */

/* In a time that does not tell how much of it was right. */
static bool same(const char *given, const char *wanted) {
	size_t given_len = strlen(given), wanted_len = strlen(wanted);
	volatile unsigned difference = given_len != wanted_len;

	for (size_t i = 0; i < given_len; i++)
		difference |= (unsigned)(given[i] ^ wanted[i % (wanted_len + 1)]);
	return difference == 0;
}

static bool is_authorized(struct request *request) {
	struct http *http = request->http;
	char *password = NULL;

	if (!http->user)
		return true;
	char *user = MHD_basic_auth_get_username_password(request->connection, &password);
	bool ok = user && password && (same(user, http->user) & same(password, http->password));
	if (user)
		MHD_free(user);
	if (password) {
		secret_wipe(password, strlen(password));
		MHD_free(password);
	}
	return ok;
}

static enum MHD_Result answer_unauthorized(struct request *request) {
	return answer(request, MHD_HTTP_UNAUTHORIZED,
		      "This needs the name and password that metrics_user and metrics_password say.\n",
		      MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Basic realm=\"forebay\", charset=\"UTF-8\"");
}

static const char *header(struct request *request, const char *name) {
	return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

static bool is_on_loopback(struct request *request) {
	struct sockaddr_storage address = {0};
	socklen_t len = sizeof address;

	if (getsockname(descriptor_of(request->connection), (struct sockaddr *)&address, &len) != 0)
		return false;
	if (address.ss_family == AF_INET6) {
		const struct in6_addr *in6 = &((struct sockaddr_in6 *)&address)->sin6_addr;
		return IN6_IS_ADDR_LOOPBACK(in6) || (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127);
	}
	return address.ss_family == AF_INET && ntohl(((struct sockaddr_in *)&address)->sin_addr.s_addr) >> 24 == 127;
}

/* Whether it is an address, or localhost. */
static bool names_this_machine(const char *host) {
	static const char LOCAL[] = "localhost";
	size_t len = strcspn(host, ":"), tail = sizeof LOCAL - 1;
	char name[64];
	struct in_addr address;

	if (host[0] == '[')
		return true;
	if (len >= sizeof name)
		return false;
	snprintf(name, sizeof name, "%.*s", (int)len, host);
	if (len >= tail && strcasecmp(name + len - tail, LOCAL) == 0)
		return len == tail || name[len - tail - 1] == '.';
	return inet_pton(AF_INET, name, &address) == 1;
}

/* A web site may let its own name point here, and then its script reads in an operator's browser what is at this address.
 * Where nobody has to log in, being on this machine is all that protects it. */
static bool is_misled(struct request *request) {
	const char *host = header(request, MHD_HTTP_HEADER_HOST);

	return !request->http->user && host && !names_this_machine(host) && is_on_loopback(request);
}

static enum MHD_Result answer_misled(struct request *request) {
	return answer(request, MHD_HTTP_MISDIRECTED_REQUEST,
		      "At a loopback address this is answered by the name localhost, or by the address, only; set metrics_user for "
		      "others.\n",
		      NULL, NULL);
}

/* ---- what there is ---- */

static enum MHD_Result get_metrics(struct request *request) {
	enum metrics_format format = metrics_negotiate(header(request, MHD_HTTP_HEADER_ACCEPT));
	struct snapshot *snapshot = snapshot_take();
	struct page text = {0};

	if (snapshot)
		metrics_write(&text, snapshot, format);
	else
		text.failed = true;
	snapshot_free(snapshot);
	return answer_text(request, MHD_HTTP_OK, &text, metrics_content_type(format));
}

static enum MHD_Result get_healthz(struct request *request) {
	return answer(request, MHD_HTTP_OK, "ok\n", NULL, NULL);
}

/* Whoever may not see more is told no more than whether. */
static enum MHD_Result get_readyz(struct request *request) {
	const char *accept = header(request, MHD_HTTP_HEADER_ACCEPT);
	const char *pool = MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, "pool");
	bool json = accept && strstr(accept, "application/json");
	struct page text = {0};
	enum readiness is = ready_write(&text, atomic_load(&request->http->draining), pool, json);
	unsigned status = is == READY ? MHD_HTTP_OK : is == NO_SUCH_POOL ? MHD_HTTP_NOT_FOUND : MHD_HTTP_SERVICE_UNAVAILABLE;

	if (!is_authorized(request)) {
		page_free(&text);
		return answer(request, status, is == READY ? "ready\n" : "not ready\n", NULL, NULL);
	}
	return answer_text(request, status, &text, json ? "application/json" : "text/plain; charset=utf-8");
}

static struct status *status_now(struct request *request) {
	struct http *http = request->http;

	pthread_mutex_lock(&http->shared.mutex);
	struct config *config = config_ref(http->shared.config);
	pthread_mutex_unlock(&http->shared.mutex);
	struct status *status = status_take(http->history, config, atomic_load(&http->draining));
	config_unref(config);
	return status;
}

static enum MHD_Result get_status_json(struct request *request) {
	struct status *status = status_now(request);
	struct page text = {.failed = !status};

	if (status)
		status_write_json(&text, status);
	status_free(status);
	return answer_text(request, MHD_HTTP_OK, &text, "application/json");
}

static enum MHD_Result get_page(struct request *request) {
	struct status *status = status_now(request);
	struct page text = {.failed = !status};
	unsigned char random[16];

	if (!secret_random(random, sizeof random))
		text.failed = true;
	for (size_t i = 0; i < sizeof random; i++)
		snprintf(request->nonce + 2 * i, 3, "%02x", random[i]);
	if (status)
		status_write_html(&text, status, request->nonce);
	status_free(status);
	return answer_text(request, MHD_HTTP_OK, &text, "text/html; charset=utf-8");
}

static const struct route {
	const char *path;
	enum MHD_Result (*get)(struct request *request);
	bool open; /* to everybody */
	bool large;
	bool private; /* there are users, addresses and statements in it */
} ROUTES[] = {
	{"/", get_page, false, true, true},
	{"/status.json", get_status_json, false, true, true},
	{"/metrics", get_metrics, false, true, false},
	{"/healthz", get_healthz, true, false, false},
	{"/readyz", get_readyz, true, true, false},
};

static enum MHD_Result answer_unknown(struct request *request) {
	char text[300];
	int len = snprintf(text, sizeof text, "There is nothing here. There is:");

	for (size_t i = 0; i < sizeof ROUTES / sizeof ROUTES[0]; i++)
		len += snprintf(text + len, sizeof text - (size_t)len, " %s", ROUTES[i].path);
	snprintf(text + len, sizeof text - (size_t)len, "\n");
	return answer(request, MHD_HTTP_NOT_FOUND, text, NULL, NULL);
}

static bool announces_body(struct MHD_Connection *connection) {
	const char *length = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);

	return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_TRANSFER_ENCODING) ||
	       (length && strcmp(length, "0") != 0);
}

static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *url, const char *method,
			      const char *version, const char *upload_data, size_t *upload_data_size, void **state) {
	struct request request = {.http = context, .connection = connection};
	const struct route *route = NULL;

	(void)version, (void)upload_data, (void)upload_data_size;
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return answer(&request, MHD_HTTP_METHOD_NOT_ALLOWED, "Only GET and HEAD are answered.\n",
			      MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	if (!*state && announces_body(connection)) /* which nobody reads, then: it may have no end */
		return answer(&request, MHD_HTTP_CONTENT_TOO_LARGE, "A request has no body here.\n", NULL, NULL);
	if (!*state) { /* the headers are there */
		*state = context;
		return MHD_YES;
	}
	for (size_t i = 0; i < sizeof ROUTES / sizeof ROUTES[0]; i++)
		if (strcmp(ROUTES[i].path, url) == 0)
			route = &ROUTES[i];
	if (!(route && route->open) && !is_authorized(&request))
		return answer_unauthorized(&request);
	if (!route)
		return answer_unknown(&request);
	if (route->private && is_misled(&request))
		return answer_misled(&request);
	if (route->large && atomic_load(&request.http->bodies) >= BODIES_MAX)
		return too_busy(&request);
	return route->get(&request);
}

/* ---- connections ---- */

static void on_connection(void *context, struct MHD_Connection *connection, void **state,
			  enum MHD_ConnectionNotificationCode code) {
	struct http *http = context;

	pthread_mutex_lock(&http->shared.mutex);
	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		struct connection *c = calloc(1, sizeof *c); /* without one it has libmicrohttpd's own timeout */
		if (c) {
			c->fd = descriptor_of(connection);
			c->since_ns = clock_monotonic_ns();
			list_push_back(&http->shared.connections, &c->node);
			http->shared.count++;
		}
		*state = c;
	} else if (*state) { /* its descriptor is closed after this */
		struct connection *c = *state;
		list_remove(&c->node);
		http->shared.count--;
		free(c);
		*state = NULL;
	}
	pthread_mutex_unlock(&http->shared.mutex);
}

/* A request was answered: the next has its time from now on. */
static void on_completed(void *context, struct MHD_Connection *connection, void **state,
			 enum MHD_RequestTerminationCode code) {
	struct http *http = context;
	int fd = descriptor_of(connection);

	(void)state, (void)code;
	pthread_mutex_lock(&http->shared.mutex);
	list_for_each(node, &http->shared.connections) {
		struct connection *c = list_entry(node, struct connection, node);
		if (c->fd != fd)
			continue;
		c->since_ns = clock_monotonic_ns();
		list_remove(&c->node);
		list_push_back(&http->shared.connections, &c->node);
		break;
	}
	pthread_mutex_unlock(&http->shared.mutex);
}

void http_tick(struct http *http) {
	if (!http)
		return;
	history_tick(http->history);
	uint64_t now_ns = clock_monotonic_ns();
	pthread_mutex_lock(&http->shared.mutex);
	uint64_t limit_ns = http->shared.count >= CROWDED ? SLOW_CROWDED_NS : SLOW_NS;
	list_for_each(node, &http->shared.connections) {
		struct connection *c = list_entry(node, struct connection, node);
		if (now_ns - c->since_ns < limit_ns)
			break;
		if (!c->told && c->fd >= 0)
			shutdown(c->fd, SHUT_RDWR); /* its thread sees that, and closes it */
		c->told = true;
	}
	pthread_mutex_unlock(&http->shared.mutex);
}

/* ---- life ---- */

/* A text file, malloc'd with a zero at its end. NULL: `error` says why. */
static char *read_file(const char *key, const char *path, struct error *error) {
	FILE *file = fopen(path, "re");
	struct stat st;

	if (!file || fstat(fileno(file), &st) != 0 || st.st_size > PEM_MAX) {
		error_set(error, 0, "%s: cannot read %s: %s", key, path, file ? "it is too large" : strerror(errno));
		if (file)
			fclose(file);
		return NULL;
	}
	char *text = calloc(1, (size_t)st.st_size + 1);
	bool ok = text && fread(text, 1, (size_t)st.st_size, file) == (size_t)st.st_size;
	fclose(file);
	if (!ok) {
		error_set(error, 0, "%s: cannot read %s", key, path);
		free(text);
		return NULL;
	}
	return text;
}

/* OpenSSL tells better what is wrong with the files than GnuTLS, by which libmicrohttpd uses them. */
bool http_try_tls(const struct config *config, struct error *error) {
	struct tls_settings settings = {.cert_file = config->metrics_tls_cert_file, .key_file = config->metrics_tls_key_file};

	if (config->metrics_listen_count == 0 || !config->metrics_tls_cert_file)
		return true;
	struct tls_context *tls = tls_context_server(&settings, error);
	tls_context_unref(tls);
	return tls != NULL;
}

static bool read_tls(struct http *http, const struct config *config, struct error *error) {
	if (!config->metrics_tls_cert_file)
		return true;
	if (MHD_is_feature_supported(MHD_FEATURE_TLS) != MHD_YES)
		return error_set(error, 0, "metrics_tls_cert_file: this system's libmicrohttpd was built without TLS");
	if (!http_try_tls(config, error))
		return false;
	http->cert = read_file("metrics_tls_cert_file", config->metrics_tls_cert_file, error);
	http->key = http->cert ? read_file("metrics_tls_key_file", config->metrics_tls_key_file, error) : NULL;
	return http->key != NULL;
}

static bool endpoint_open(struct endpoint *endpoint, const char *address, struct error *error) {
	struct tcp_silence silence = {0};
	struct error why = {0};

	return listener_open(&endpoint->listener, address, BACKLOG, &silence, NULL, &why) ||
	       error_set(error, why.code, "metrics_listen: %s; free that address, or set another or none", why.text);
}

struct http *http_open(struct config *config, bool replaces, struct error *error) {
	struct http *http = calloc(1, sizeof *http + config->metrics_listen_count * sizeof http->endpoints[0]);

	if (!http) {
		error_set(error, 0, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&http->shared.mutex, NULL);
	list_init(&http->shared.connections);
	http->shared.config = config_ref(config);
	http->user = config->metrics_user ? strdup(config->metrics_user) : NULL;
	http->password = config->metrics_password ? strdup(config->metrics_password) : NULL;
	http->history = history_new();
	bool ok = (http->history && (!config->metrics_user || (http->user && http->password))) ||
		  error_set(error, 0, "out of memory");
	for (size_t i = 0; ok && i < config->metrics_listen_count; i++) {
		struct endpoint *endpoint = &http->endpoints[i];
		struct error why = {0};
		endpoint->http = http;
		ok = endpoint_open(endpoint, config->metrics_listen[i], &why) || (replaces && why.code == EADDRINUSE);
		if (ok)
			http->endpoint_count++;
		else
			*error = why;
	}
	if (ok && read_tls(http, config, error))
		return http;
	http_close(http);
	return NULL;
}

static void log_line(void *context, const char *fmt, va_list args) __attribute__((format(printf, 2, 0)));
static void log_line(void *context, const char *fmt, va_list args) {
	char text[256];

	(void)context;
	vsnprintf(text, sizeof text, fmt, args);
	text[strcspn(text, "\r\n")] = 0;
	log_debug("http", NULL, "%s", text);
}

static bool endpoint_start(struct endpoint *endpoint) {
	struct http *http = endpoint->http;
	struct MHD_OptionItem tls[] = {
		{MHD_OPTION_HTTPS_MEM_CERT, 0, http->cert},
		{MHD_OPTION_HTTPS_MEM_KEY, 0, http->key},
		{MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t) "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"},
		{MHD_OPTION_END, 0, NULL},
	};
	unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ITC | MHD_USE_ERROR_LOG;

	endpoint->daemon = MHD_start_daemon(
		flags | (http->cert ? MHD_USE_TLS : 0), 0, NULL, NULL, handle, http,
		MHD_OPTION_EXTERNAL_LOGGER, log_line, NULL, /* first, so that it hears of the others */
		MHD_OPTION_LISTEN_SOCKET, endpoint->listener.fd, MHD_OPTION_CONNECTION_LIMIT,
		(unsigned)HTTP_CONNECTIONS_MAX / (unsigned)http->endpoint_count + 1, MHD_OPTION_CONNECTION_TIMEOUT,
		(unsigned)IDLE_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY_MAX,
		MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_NOTIFY_CONNECTION, on_connection, http,
		MHD_OPTION_NOTIFY_COMPLETED, on_completed, http, MHD_OPTION_ARRAY, http->cert ? tls : &tls[3],
		MHD_OPTION_END);
	return endpoint->daemon != NULL;
}

bool http_start(struct http *http, struct error *error) {
	sigset_t all, old;
	bool ok = true;

	if (!http)
		return true;
	for (size_t i = 0; ok && i < http->endpoint_count; i++) {
		struct listener *listener = &http->endpoints[i].listener;
		char address[sizeof listener->address];
		memcpy(address, listener->address, sizeof address);
		listener_own_file(listener);
		ok = listener->fd >= 0 || endpoint_open(&http->endpoints[i], address, error);
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the main thread's */
	for (size_t i = 0; ok && i < http->endpoint_count; i++) {
		ok = endpoint_start(&http->endpoints[i]);
		if (!ok)
			error_set(error, 0, "metrics_listen: libmicrohttpd cannot serve %s",
				  http->endpoints[i].listener.address);
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	for (size_t i = 0; ok && i < http->endpoint_count; i++)
		log_info("http_listening", LOG_FIELDS(LOG_TEXT("address", http->endpoints[i].listener.address)),
			 "metrics and the status page are on %s://%s/", http->cert ? "https" : "http",
			 http->endpoints[i].listener.address);
	return ok;
}

void http_each(const struct http *http, void (*each)(void *context, const char *address, int fd, bool managed), void *context) {
	for (size_t i = 0; http && i < http->endpoint_count; i++) {
		const struct listener *listener = &http->endpoints[i].listener;
		each(context, listener->address, listener->fd, listener->managed);
	}
}

void http_reload(struct http *http, struct config *config) {
	if (!http)
		return;
	pthread_mutex_lock(&http->shared.mutex);
	struct config *before = http->shared.config;
	http->shared.config = config_ref(config);
	pthread_mutex_unlock(&http->shared.mutex);
	config_unref(before);
}

void http_drain(struct http *http) {
	if (http)
		atomic_store(&http->draining, true);
}

void http_close(struct http *http) {
	if (!http)
		return;
	for (size_t i = 0; i < http->endpoint_count; i++) {
		struct endpoint *endpoint = &http->endpoints[i];
		listener_unlink(&endpoint->listener);
		if (endpoint->daemon) {
			MHD_stop_daemon(endpoint->daemon); /* closes its socket too */
			endpoint->listener.fd = -1;
		}
		listener_close(&endpoint->listener);
	}
	if (http->key)
		secret_wipe(http->key, strlen(http->key));
	if (http->password)
		secret_wipe(http->password, strlen(http->password));
	history_free(http->history);
	free(http->cert);
	free(http->key);
	free(http->user);
	free(http->password);
	config_unref(http->shared.config);
	pthread_mutex_destroy(&http->shared.mutex);
	free(http);
}

void http_hand_over(struct http *http) {
	for (size_t i = 0; http && i < http->endpoint_count; i++)
		listener_keep_file(&http->endpoints[i].listener);
	http_close(http);
}
