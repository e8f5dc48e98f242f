#include "net/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/ui.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

struct tls_context {
	/* immutable */
	SSL_CTX *ctx;
	bool is_server, verify_host;
	char *alpn;

	/* any thread */
	_Atomic int references;
};

/* What a session keeps beside OpenSSL's own: freed with the SSL. */
struct tls_extra {
	struct tls_context *context;
	struct buf unsealed;
	char error[256];
};

static int extra_index = -1;
static pthread_once_t extra_once = PTHREAD_ONCE_INIT;

static void free_extra(void *parent, void *ptr, CRYPTO_EX_DATA *data, int index, long argl, void *argp) {
	struct tls_extra *extra = ptr;

	(void)parent, (void)data, (void)index, (void)argl, (void)argp;
	if (!extra)
		return;
	tls_context_unref(extra->context);
	free(extra);
}

static void make_extra_index(void) {
	extra_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, free_extra);
}

/* The reason on top of this thread's error queue, which is emptied. */
static const char *reason(void) {
	unsigned long e = ERR_peek_last_error();
	const char *text = NULL;

	if (e)
		text = ERR_SYSTEM_ERROR(e) ? strerror(ERR_GET_REASON(e)) : ERR_reason_error_string(e);
	ERR_clear_error();
	return text ? text : "unknown error";
}

static bool given(const char *s) {
	return s && *s;
}

static int refuse_to_open(UI *ui) {
	(void)ui;
	return -1;
}

void tls_never_ask(void) {
	UI_METHOD *nobody = UI_create_method("nobody to ask"); /* OpenSSL's from then on, while the process lives */

	if (nobody && UI_method_set_opener(nobody, refuse_to_open) == 0)
		UI_set_default_method(nobody);
}

/* Never asks on the terminal for a key's passphrase. */
static int no_passphrase(char *buf, int size, int writing, void *context) {
	(void)buf, (void)size, (void)writing, (void)context;
	return 0;
}

static bool set_versions(SSL_CTX *ctx, const struct tls_settings *settings, struct error *error) {
	int min = TLS1_2_VERSION;

	if (given(settings->min_version)) {
		if (strcmp(settings->min_version, "1.3") == 0)
			min = TLS1_3_VERSION;
		else if (strcmp(settings->min_version, "1.2") != 0)
			return error_set(error, EINVAL, "TLS version \"%s\" is not known: 1.2 or 1.3",
					 settings->min_version);
	}
	SSL_CTX_set_min_proto_version(ctx, min);
	if (given(settings->ciphers) && SSL_CTX_set_cipher_list(ctx, settings->ciphers) != 1)
		return error_set(error, EINVAL, "TLS cipher list \"%s\" is not usable: %s", settings->ciphers,
				 reason());
	return true;
}

static bool load_certificate(SSL_CTX *ctx, const struct tls_settings *settings, struct error *error) {
	if (!given(settings->cert_file) && !given(settings->key_file))
		return true;
	if (!given(settings->cert_file) || !given(settings->key_file))
		return error_set(error, EINVAL, "a TLS certificate and its key go together: %s is set alone",
				 given(settings->cert_file) ? settings->cert_file : settings->key_file);
	if (SSL_CTX_use_certificate_chain_file(ctx, settings->cert_file) != 1)
		return error_set(error, 0, "cannot use TLS certificate file %s: %s", settings->cert_file, reason());
	if (SSL_CTX_use_PrivateKey_file(ctx, settings->key_file, SSL_FILETYPE_PEM) != 1)
		return error_set(error, 0, "cannot use TLS key file %s: %s", settings->key_file, reason());
	if (SSL_CTX_check_private_key(ctx) != 1)
		return error_set(error, 0, "TLS key file %s does not belong to certificate file %s: %s",
				 settings->key_file, settings->cert_file, reason());
	return true;
}

static bool load_authorities(SSL_CTX *ctx, const struct tls_settings *settings, struct error *error) {
	if (given(settings->ca_file)) {
		if (strcmp(settings->ca_file, "system") == 0) {
			if (SSL_CTX_set_default_verify_paths(ctx) != 1)
				return error_set(error, 0, "cannot load the system's TLS authorities: %s", reason());
		} else if (SSL_CTX_load_verify_file(ctx, settings->ca_file) != 1) {
			return error_set(error, 0, "cannot use TLS authority file %s: %s", settings->ca_file,
					 reason());
		}
	} else if (settings->verify_peer || settings->request_peer || settings->verify_host) {
		return error_set(error, EINVAL, "to verify TLS certificates takes an authority file (or \"system\")");
	}
	if (given(settings->crl_file)) {
		X509_STORE *store = SSL_CTX_get_cert_store(ctx);
		if (X509_STORE_load_file(store, settings->crl_file) != 1)
			return error_set(error, 0, "cannot use TLS revocation list %s: %s", settings->crl_file,
					 reason());
		X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
	}
	return true;
}

/*
 * Takes "postgresql" when the client offers it, or what the context asks for. A context that asks for one refuses
 * clients that offer only others (RFC 7301 section 3.2).
 */
static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
		       unsigned in_len, void *arg) {
	const struct tls_context *context = arg;
	const char *name = context->alpn ? context->alpn : "postgresql";
	size_t len = strlen(name);

	(void)ssl;
	for (unsigned i = 0; i < in_len && in[i] <= in_len - i - 1; i += 1u + in[i]) {
		if (in[i] == len && memcmp(in + i + 1, name, len) == 0) {
			*out = in + i + 1;
			*out_len = (unsigned char)len;
			return SSL_TLSEXT_ERR_OK;
		}
	}
	return context->alpn ? SSL_TLSEXT_ERR_ALERT_FATAL : SSL_TLSEXT_ERR_NOACK;
}

static bool set_server(struct tls_context *context, const struct tls_settings *settings, struct error *error) {
	SSL_CTX *ctx = context->ctx;

	if (!given(settings->cert_file))
		return error_set(error, EINVAL, "a TLS server needs a certificate file and a key file");
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_num_tickets(ctx, 0);
	if (settings->verify_peer || settings->request_peer) {
		int required = settings->verify_peer ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0;
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | required, NULL);
		if (strcmp(settings->ca_file, "system") != 0) {
			/* tells clients whose certificates are of use */
			STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(settings->ca_file);
			if (names)
				SSL_CTX_set_client_CA_list(ctx, names);
		}
	}
	SSL_CTX_set_alpn_select_cb(ctx, select_alpn, context);
	return true;
}

static void set_common(SSL_CTX *ctx) {
	SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
	/* One receive for several small records, instead of two for each. */
	SSL_CTX_set_read_ahead(ctx, 1);
}

/* OpenSSL notes a certificate's extensions in it when it first needs them; here, before threads share it. */
static void note_extensions(SSL_CTX *ctx) {
	STACK_OF(X509_OBJECT) *trusted = X509_STORE_get0_objects(SSL_CTX_get_cert_store(ctx));
	STACK_OF(X509) *chain = NULL;

	if (SSL_CTX_get0_certificate(ctx))
		X509_check_purpose(SSL_CTX_get0_certificate(ctx), -1, 0);
	SSL_CTX_get0_chain_certs(ctx, &chain);
	for (int i = 0; i < sk_X509_num(chain); i++)
		X509_check_purpose(sk_X509_value(chain, i), -1, 0);
	for (int i = 0; i < sk_X509_OBJECT_num(trusted); i++) {
		X509 *certificate = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(trusted, i)); /* NULL: a revocation list */
		if (certificate)
			X509_check_purpose(certificate, -1, 0);
	}
}

static struct tls_context *make_context(const struct tls_settings *settings, bool is_server, struct error *error) {
	struct tls_context *context = calloc(1, sizeof *context);

	pthread_once(&extra_once, make_extra_index);
	ERR_clear_error();
	if (!context || extra_index < 0) {
		free(context);
		error_set(error, ENOMEM, "out of memory for TLS settings");
		return NULL;
	}
	atomic_init(&context->references, 1);
	context->is_server = is_server;
	context->verify_host = settings->verify_host;
	context->ctx = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
	if (given(settings->alpn))
		context->alpn = strdup(settings->alpn);
	if (!context->ctx || (given(settings->alpn) && !context->alpn)) {
		error_set(error, ENOMEM, "cannot make a TLS context: %s", reason());
		tls_context_unref(context);
		return NULL;
	}
	set_common(context->ctx);
	bool ok = set_versions(context->ctx, settings, error) && load_certificate(context->ctx, settings, error) &&
		  load_authorities(context->ctx, settings, error) &&
		  (!is_server || set_server(context, settings, error));
	note_extensions(context->ctx);
	ERR_clear_error();
	if (!ok) {
		tls_context_unref(context);
		return NULL;
	}
	return context;
}

struct tls_context *tls_context_server(const struct tls_settings *settings, struct error *error) {
	return make_context(settings, true, error);
}

struct tls_context *tls_context_client(const struct tls_settings *settings, struct error *error) {
	struct tls_context *context = make_context(settings, false, error);

	if (context)
		SSL_CTX_set_verify(context->ctx,
				   settings->verify_peer || settings->verify_host ? SSL_VERIFY_PEER : SSL_VERIFY_NONE,
				   NULL);
	return context;
}

bool tls_context_same_certificate(const struct tls_context *a, const struct tls_context *b) {
	X509 *of_a = SSL_CTX_get0_certificate(a->ctx), *of_b = SSL_CTX_get0_certificate(b->ctx);

	return of_a && of_b ? X509_cmp(of_a, of_b) == 0 : of_a == of_b;
}

struct tls_context *tls_context_ref(struct tls_context *context) {
	atomic_fetch_add_explicit(&context->references, 1, memory_order_relaxed);
	return context;
}

void tls_context_unref(struct tls_context *context) {
	if (!context || atomic_fetch_sub_explicit(&context->references, 1, memory_order_acq_rel) > 1)
		return;
	SSL_CTX_free(context->ctx);
	free(context->alpn);
	free(context);
}

/* Sessions */

static bool is_address(const char *host) {
	struct in6_addr any;

	return inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1;
}

static bool set_client(SSL *ssl, const struct tls_context *context, const char *host, const char *alpn,
		       struct error *error) {
	unsigned char protocols[256];

	SSL_set_connect_state(ssl);
	if (given(host) && !is_address(host) && SSL_set_tlsext_host_name(ssl, host) != 1)
		return error_set(error, EINVAL, "cannot ask for \"%s\" by TLS: %s", host, reason());
	if (context->verify_host) {
		X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
		if (!given(host))
			return error_set(error, EINVAL,
					 "the TLS certificate's name cannot be verified: no host name is known");
		X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
		if (is_address(host) ? X509_VERIFY_PARAM_set1_ip_asc(param, host) != 1
				     : X509_VERIFY_PARAM_set1_host(param, host, 0) != 1)
			return error_set(error, EINVAL, "cannot verify the TLS name \"%s\": %s", host, reason());
	}
	if (given(alpn)) {
		size_t len = strlen(alpn);
		if (len > 255)
			return error_set(error, EINVAL, "the ALPN protocol name is longer than 255 bytes");
		protocols[0] = (unsigned char)len;
		memcpy(protocols + 1, alpn, len);
		if (SSL_set_alpn_protos(ssl, protocols, (unsigned)len + 1) != 0)
			return error_set(error, ENOMEM, "cannot offer ALPN \"%s\": %s", alpn, reason());
	}
	return true;
}

struct ssl_st *tls_session_new(struct tls_context *context, struct bio_st *wire, const char *host, const char *alpn,
			       struct error *error) {
	ERR_clear_error();
	SSL *ssl = SSL_new(context->ctx);
	struct tls_extra *extra = calloc(1, sizeof *extra);

	if (!ssl || !extra || SSL_set_ex_data(ssl, extra_index, extra) != 1) {
		SSL_free(ssl);
		free(extra);
		BIO_free(wire);
		error_set(error, ENOMEM, "cannot begin TLS: %s", reason());
		return NULL;
	}
	/* The callback of ALPN looks at the context as long as the session lives. */
	extra->context = tls_context_ref(context);
	SSL_set_bio(ssl, wire, wire);
	bool ok = true;
	if (context->is_server)
		SSL_set_accept_state(ssl);
	else
		ok = set_client(ssl, context, host, alpn, error);
	if (!ok) {
		SSL_free(ssl);
		ERR_clear_error();
		return NULL;
	}
	return ssl;
}

void tls_session_failed(struct ssl_st *ssl, int result, int e) {
	struct tls_extra *extra = SSL_get_ex_data(ssl, extra_index);
	long verified = SSL_get_verify_result(ssl);
	unsigned long code = ERR_peek_last_error();

	if (*extra->error)
		ERR_clear_error();
	else if (result == SSL_ERROR_ZERO_RETURN || (result == SSL_ERROR_SYSCALL && e == 0))
		snprintf(extra->error, sizeof extra->error, "the peer closed the connection%s",
			 SSL_in_init(ssl) ? " during the TLS handshake" : "");
	else if (result == SSL_ERROR_SYSCALL)
		snprintf(extra->error, sizeof extra->error, "%s", strerror(e));
	else if (ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED && verified != X509_V_OK)
		snprintf(extra->error, sizeof extra->error, "TLS: the peer's certificate is refused: %s",
			 X509_verify_cert_error_string(verified));
	else
		snprintf(extra->error, sizeof extra->error, "TLS: %s", reason());
	ERR_clear_error();
}

const char *tls_session_error(struct ssl_st *ssl) {
	const struct tls_extra *extra = SSL_get_ex_data(ssl, extra_index);

	return extra->error;
}

struct buf *tls_session_unsealed(struct ssl_st *ssl) {
	struct tls_extra *extra = SSL_get_ex_data(ssl, extra_index);

	return &extra->unsealed;
}

/* What a session knows */

size_t tls_server_end_point(struct ssl_st *ssl, bool we_are_server, uint8_t out[64]) {
	X509 *certificate = we_are_server ? SSL_get_certificate(ssl) : SSL_get0_peer_certificate(ssl);
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	int md_nid = NID_undef;

	_Static_assert(EVP_MAX_MD_SIZE <= 64, "a digest fits the caller's room");
	/* Knows the hash of RSA-PSS signatures too, which is in their parameters. */
	if (!certificate || X509_get_signature_info(certificate, &md_nid, NULL, NULL, NULL) != 1 ||
	    md_nid == NID_undef) {
		ERR_clear_error();
		return 0;
	}
	/* RFC 5929 section 4.1 */
	if (md_nid == NID_md5 || md_nid == NID_sha1)
		md_nid = NID_sha256;
	const EVP_MD *md = EVP_get_digestbynid(md_nid);
	if (!md || X509_digest(certificate, md, digest, &len) != 1) {
		ERR_clear_error();
		return 0;
	}
	memcpy(out, digest, len);
	return len;
}

bool tls_peer_common_name(struct ssl_st *ssl, char *out, size_t room) {
	X509 *certificate = SSL_get0_peer_certificate(ssl);
	unsigned char *utf8 = NULL;
	bool ok = false;

	if (!certificate)
		return false;
	X509_NAME *subject = X509_get_subject_name(certificate);
	int index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	if (index < 0)
		return false;
	int len = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index)));
	/* A zero byte inside would make another name of it for whoever compares C strings. */
	if (len > 0 && (size_t)len < room && !memchr(utf8, 0, (size_t)len)) {
		memcpy(out, utf8, (size_t)len);
		out[len] = '\0';
		ok = true;
	}
	OPENSSL_free(utf8);
	ERR_clear_error();
	return ok;
}

bool tls_peer_verified(struct ssl_st *ssl) {
	return SSL_get0_peer_certificate(ssl) && SSL_get_verify_result(ssl) == X509_V_OK;
}

bool tls_peer_subject(struct ssl_st *ssl, char *out, size_t room) {
	X509 *certificate = SSL_get0_peer_certificate(ssl);
	bool ok = false;
	char *text;

	if (!certificate)
		return false;
	BIO *bio = BIO_new(BIO_s_mem());
	if (bio && X509_NAME_print_ex(bio, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253) >= 0) {
		long len = BIO_get_mem_data(bio, &text);
		if (len >= 0 && (size_t)len < room && (len == 0 || !memchr(text, 0, (size_t)len))) {
			if (len > 0)
				memcpy(out, text, (size_t)len);
			out[len] = '\0';
			ok = true;
		}
	}
	BIO_free(bio);
	ERR_clear_error();
	return ok;
}

void tls_host_name(const char *host_text, char *out, size_t room) {
	const char *colon = strrchr(host_text, ':');
	size_t len = colon ? (size_t)(colon - host_text) : strlen(host_text);

	if (len >= 2 && host_text[0] == '[' && host_text[len - 1] == ']') {
		host_text++;
		len -= 2;
	}
	snprintf(out, room, "%.*s", (int)len, host_text);
}

const char *tls_version(struct ssl_st *ssl) {
	return SSL_get_version(ssl);
}

const char *tls_cipher(struct ssl_st *ssl) {
	return SSL_get_cipher_name(ssl);
}

bool tls_alpn_is(struct ssl_st *ssl, const char *name) {
	const unsigned char *selected = NULL;
	unsigned len = 0;

	SSL_get0_alpn_selected(ssl, &selected, &len);
	return selected && len == strlen(name) && memcmp(selected, name, len) == 0;
}
