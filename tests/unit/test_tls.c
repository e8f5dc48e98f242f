/* TLS on streams: handshakes, verification, what a session knows, large transfers, back-pressure, moving. */
#include <check.h>
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "net/tls.h"
#include "net_harness.h"

/* Certificates, made anew for each test: an authority, what it signed, and another authority */

struct identity {
	EVP_PKEY *key;
	X509 *certificate;
	char cert_file[128], key_file[128];
};

static char directory[64];
static struct identity authority, stranger, server_id, client_id;

static void add_extension(X509 *certificate, int nid, const char *value) {
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	must(extension && X509_add_ext(certificate, extension, -1) == 1);
	X509_EXTENSION_free(extension);
}

static void write_identity(struct identity *id, const char *name) {
	snprintf(id->cert_file, sizeof id->cert_file, "%s/%s.crt", directory, name);
	snprintf(id->key_file, sizeof id->key_file, "%s/%s.key", directory, name);
	FILE *file = fopen(id->cert_file, "w");
	must(file && PEM_write_X509(file, id->certificate) == 1);
	fclose(file);
	file = fopen(id->key_file, "w");
	must(file && PEM_write_PrivateKey(file, id->key, NULL, NULL, 0, NULL, NULL) == 1);
	fclose(file);
}

/* Signs by `by`, itself when NULL; pss: RSA-PSS. `md` NULL: the key's own (Ed25519). Takes the key. */
static void make_identity(struct identity *id, const char *name, EVP_PKEY *key, const char *cn, int cn_len,
			  const struct identity *by, const EVP_MD *md, bool pss) {
	static long serial = 1;
	X509 *certificate = X509_new();
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY_CTX *key_ctx;

	must(key && certificate && ctx);
	id->key = key;
	id->certificate = certificate;
	X509_set_version(certificate, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
	X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
	X509_set_pubkey(certificate, key);
	X509_NAME *subject = X509_get_subject_name(certificate);
	X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_ASC, (const unsigned char *)"Forebay", -1, -1, 0);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)cn, cn_len, -1, 0);
	X509_set_issuer_name(certificate, by ? X509_get_subject_name(by->certificate) : subject);
	add_extension(certificate, NID_basic_constraints, by ? "critical,CA:FALSE" : "critical,CA:TRUE");
	if (by)
		add_extension(certificate, NID_subject_alt_name, "DNS:db.example,IP:127.0.0.1");
	must(EVP_DigestSignInit(ctx, &key_ctx, md, NULL, by ? by->key : key) == 1);
	if (pss)
		must(EVP_PKEY_CTX_set_rsa_padding(key_ctx, RSA_PKCS1_PSS_PADDING) == 1);
	must(X509_sign_ctx(certificate, ctx) > 0);
	EVP_MD_CTX_free(ctx);
	write_identity(id, name);
}

static void free_identity(struct identity *id) {
	X509_free(id->certificate);
	EVP_PKEY_free(id->key);
	unlink(id->cert_file);
	unlink(id->key_file);
	*id = (struct identity){0};
}

/* Workers and the two ends */

static struct worker workers[2];
static struct end server, client;
static int fds[2];

static void set_up(void) {
	strcpy(directory, "/tmp/forebay-test-XXXXXX");
	must(mkdtemp(directory));
	make_identity(&authority, "ca", EVP_EC_gen("P-256"), "Test authority", -1, NULL, EVP_sha256(), false);
	make_identity(&stranger, "stranger", EVP_EC_gen("P-256"), "Stranger", -1, NULL, EVP_sha256(), false);
	make_identity(&server_id, "server", EVP_EC_gen("P-256"), "server", -1, &authority, EVP_sha256(), false);
	make_identity(&client_id, "client", EVP_EC_gen("P-256"), "app \xc3\xa9", -1, &authority, EVP_sha256(), false);
	worker_begin(&workers[0], 0);
	worker_begin(&workers[1], 1);
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	end_init(&server, &workers[0]);
	end_init(&client, &workers[1]);
}

static void close_end(struct worker *worker, void *arg) {
	(void)worker;
	stream_close(&((struct end *)arg)->stream);
}

static void tear_down(void) {
	on_worker(server.worker, close_end, &server);
	on_worker(client.worker, close_end, &client);
	worker_end(&workers[0]);
	worker_end(&workers[1]);
	free_identity(&authority);
	free_identity(&stranger);
	free_identity(&server_id);
	free_identity(&client_id);
	rmdir(directory);
}

static struct tls_context *context_of(bool is_server, struct tls_settings settings) {
	struct error error = {0};
	struct tls_context *context =
		is_server ? tls_context_server(&settings, &error) : tls_context_client(&settings, &error);

	ck_assert_msg(context != NULL, "%s", error.text);
	return context;
}

static struct tls_context *server_context(void) {
	return context_of(true, (struct tls_settings){.cert_file = server_id.cert_file, .key_file = server_id.key_file});
}

static struct tls_context *client_context(void) {
	return context_of(false, (struct tls_settings){0});
}

struct start {
	struct end *end;
	int fd;
	struct tls_context *tls;
	const char *host, *alpn;
	bool began;
};

static void start_server(struct worker *worker, void *arg) {
	struct start *start = arg;

	stream_open(&start->end->stream, worker, start->fd, end_ready);
	start->began = stream_tls_accept(&start->end->stream, start->tls);
}

static void start_client(struct worker *worker, void *arg) {
	struct start *start = arg;

	stream_open(&start->end->stream, worker, start->fd, end_ready);
	start->began = stream_tls_connect(&start->end->stream, start->tls, start->host, start->alpn);
	must(start->end->connected == 0 && start->end->failed == 0);
}

static bool is_settled(struct end *e) {
	return e->connected > 0 || e->failed > 0 || e->broken > 0 || e->eof > 0;
}

static bool is_connected(struct end *e) {
	return e->connected > 0;
}

static bool has_failed(struct end *e) {
	return e->failed > 0 || e->broken > 0;
}

/* Begins both handshakes; takes the contexts. */
static void begin(struct tls_context *server_tls, struct tls_context *client_tls, const char *host, const char *alpn) {
	struct start s = {.end = &server, .fd = fds[0], .tls = server_tls};
	struct start c = {.end = &client, .fd = fds[1], .tls = client_tls, .host = host, .alpn = alpn};

	set_nonblocking(fds[0]);
	set_nonblocking(fds[1]);
	on_worker(&workers[0], start_server, &s);
	on_worker(&workers[1], start_client, &c);
	ck_assert(s.began);
	ck_assert(c.began);
	/* The sessions keep what they need. */
	tls_context_unref(server_tls);
	tls_context_unref(client_tls);
}

static void handshake(struct tls_context *server_tls, struct tls_context *client_tls, const char *host,
		      const char *alpn) {
	begin(server_tls, client_tls, host, alpn);
	end_wait(&server, is_settled);
	end_wait(&client, is_settled);
	ck_assert_msg(server.connected == 1, "server: %s", server.error);
	ck_assert_msg(client.connected == 1, "client: %s", client.error);
}

/* What a session knows, asked on its worker */

struct facts {
	struct end *end;
	bool is_server;
	uint8_t end_point[64];
	size_t end_point_len;
	bool has_name, verified, has_subject, alpn;
	char name[128], subject[256], version[32], cipher[64];
};

static void learn(struct worker *worker, void *arg) {
	struct facts *facts = arg;
	struct ssl_st *ssl = facts->end->stream.ssl;

	(void)worker;
	facts->end_point_len = tls_server_end_point(ssl, facts->is_server, facts->end_point);
	facts->has_name = tls_peer_common_name(ssl, facts->name, sizeof facts->name);
	facts->has_subject = tls_peer_subject(ssl, facts->subject, sizeof facts->subject);
	facts->verified = tls_peer_verified(ssl);
	facts->alpn = tls_alpn_is(ssl, "postgresql");
	snprintf(facts->version, sizeof facts->version, "%s", tls_version(ssl));
	snprintf(facts->cipher, sizeof facts->cipher, "%s", tls_cipher(ssl));
}

static struct facts facts_of(struct end *end, bool is_server) {
	struct facts facts = {.end = end, .is_server = is_server};

	on_worker(end->worker, learn, &facts);
	return facts;
}

START_TEST(handshake_ends_in_one_connected_event_on_each_side) {
	handshake(server_context(), client_context(), NULL, NULL);
	struct facts facts = facts_of(&client, false);
	ck_assert_str_eq(facts.version, "TLSv1.3");
	ck_assert_uint_gt(strlen(facts.cipher), 0);
	ck_assert(facts.has_name);
	ck_assert_str_eq(facts.name, "server");
	ck_assert(!facts.verified);
	ck_assert(!facts.alpn);
	facts = facts_of(&server, true);
	ck_assert(!facts.has_name);
	ck_assert(!facts.has_subject);
	ck_assert(!facts.verified);
}
END_TEST

START_TEST(client_certificate_gives_name_and_subject) {
	handshake(context_of(true, (struct tls_settings){.cert_file = server_id.cert_file,
							 .key_file = server_id.key_file,
							 .ca_file = authority.cert_file,
							 .verify_peer = true}),
		  context_of(false, (struct tls_settings){.cert_file = client_id.cert_file, .key_file = client_id.key_file}),
		  NULL, NULL);
	struct facts facts = facts_of(&server, true);
	ck_assert(facts.verified);
	ck_assert(facts.has_name);
	ck_assert_str_eq(facts.name, "app \xc3\xa9");
	ck_assert(facts.has_subject);
	ck_assert_str_eq(facts.subject, "CN=app \\C3\\A9,O=Forebay");
}
END_TEST

START_TEST(name_with_a_zero_byte_inside_is_no_name) {
	free_identity(&client_id);
	make_identity(&client_id, "client", EVP_EC_gen("P-256"), "root\0.evil", 10, &authority, EVP_sha256(), false);
	handshake(context_of(true, (struct tls_settings){.cert_file = server_id.cert_file,
							 .key_file = server_id.key_file,
							 .ca_file = authority.cert_file,
							 .request_peer = true}),
		  context_of(false, (struct tls_settings){.cert_file = client_id.cert_file, .key_file = client_id.key_file}),
		  NULL, NULL);
	ck_assert(!facts_of(&server, true).has_name);
}
END_TEST

START_TEST(requested_certificate_may_be_missing_and_a_required_one_may_not) {
	struct tls_settings settings = {.cert_file = server_id.cert_file,
					.key_file = server_id.key_file,
					.ca_file = authority.cert_file,
					.request_peer = _i == 0,
					.verify_peer = _i == 1};

	begin(context_of(true, settings), client_context(), NULL, NULL);
	end_wait(&server, is_settled);
	if (_i == 0) {
		ck_assert_int_eq(server.connected, 1);
		end_wait(&client, is_connected);
		ck_assert(!facts_of(&server, true).verified);
	} else {
		ck_assert_int_eq(server.failed, 1);
		ck_assert_int_eq(server.connected, 0);
		ck_assert_str_eq(server.error, "TLS: peer did not return a certificate");
	}
}
END_TEST

START_TEST(client_certificate_of_a_stranger_is_refused_with_the_reason) {
	begin(context_of(true, (struct tls_settings){.cert_file = server_id.cert_file,
						     .key_file = server_id.key_file,
						     .ca_file = stranger.cert_file,
						     .request_peer = true}),
	      context_of(false, (struct tls_settings){.cert_file = client_id.cert_file, .key_file = client_id.key_file}),
	      NULL, NULL);
	end_wait(&server, has_failed);
	ck_assert_int_eq(server.connected, 0);
	ck_assert_str_eq(server.error, "TLS: the peer's certificate is refused: unable to get local issuer certificate");
	/* TLS 1.3: the client is done before the server looks, and learns it from its next read. */
	end_wait(&client, has_failed);
}
END_TEST

START_TEST(server_is_verified_by_authority_and_by_name) {
	static const struct {
		bool by_name, known_authority;
		const char *host, *refusal;
	} cases[] = {
		{true, true, "db.example", NULL},
		{true, true, "127.0.0.1", NULL},
		{false, true, "whatever.example", NULL},
		{false, true, NULL, NULL},
		{true, true, "other.example", "TLS: the peer's certificate is refused: hostname mismatch"},
		{true, true, "127.0.0.2", "TLS: the peer's certificate is refused: IP address mismatch"},
		{false, false, "db.example",
		 "TLS: the peer's certificate is refused: unable to get local issuer certificate"},
	};
	struct tls_settings settings = {.ca_file = cases[_i].known_authority ? authority.cert_file : stranger.cert_file,
					.verify_peer = true,
					.verify_host = cases[_i].by_name};

	begin(server_context(), context_of(false, settings), cases[_i].host, NULL);
	end_wait(&client, is_settled);
	if (cases[_i].refusal) {
		ck_assert_int_eq(client.connected, 0);
		ck_assert_int_eq(client.failed, 1);
		ck_assert_str_eq(client.error, cases[_i].refusal);
		end_wait(&server, has_failed);
	} else {
		ck_assert_msg(client.connected == 1, "%s", client.error);
		ck_assert(facts_of(&client, false).verified);
	}
}
END_TEST

START_TEST(name_that_is_to_be_verified_must_be_known) {
	struct tls_settings settings = {.ca_file = authority.cert_file, .verify_peer = true, .verify_host = true};
	struct start c = {.end = &client, .fd = fds[1], .tls = context_of(false, settings)};

	set_nonblocking(fds[1]);
	on_worker(&workers[1], start_client, &c);
	ck_assert(!c.began);
	tls_context_unref(c.tls);
	close(fds[0]);
}
END_TEST

/* RFC 5929 section 4.1: the hash is the signature's, at least SHA-256. */
START_TEST(end_point_hash_is_that_of_the_certificates_signature) {
	static const size_t lengths[] = {32, 48, 64, 64, 32, 0};
	const char *ciphers = NULL;
	uint8_t expected[64];
	unsigned expected_len = 0;

	free_identity(&server_id);
	if (_i == 0)
		make_identity(&server_id, "server", EVP_EC_gen("P-256"), "s", -1, NULL, EVP_sha256(), false);
	else if (_i == 1)
		make_identity(&server_id, "server", EVP_EC_gen("P-256"), "s", -1, NULL, EVP_sha384(), false);
	else if (_i == 2)
		make_identity(&server_id, "server", EVP_RSA_gen(2048), "s", -1, NULL, EVP_sha512(), false);
	else if (_i == 3)
		make_identity(&server_id, "server", EVP_RSA_gen(2048), "s", -1, NULL, EVP_sha512(), true);
	else if (_i == 4)
		make_identity(&server_id, "server", EVP_RSA_gen(2048), "s", -1, NULL, EVP_sha1(), false);
	else
		make_identity(&server_id, "server", EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), "s", -1, NULL, NULL, false);
	if (_i == 4)
		ciphers = "DEFAULT@SECLEVEL=0";
	handshake(context_of(true, (struct tls_settings){.cert_file = server_id.cert_file,
							 .key_file = server_id.key_file,
							 .ciphers = ciphers}),
		  context_of(false, (struct tls_settings){.ciphers = ciphers}), NULL, NULL);
	struct facts own = facts_of(&server, true), peers = facts_of(&client, false);
	ck_assert_uint_eq(own.end_point_len, lengths[_i]);
	ck_assert_uint_eq(peers.end_point_len, lengths[_i]);
	ck_assert_mem_eq(own.end_point, peers.end_point, sizeof own.end_point);
	if (lengths[_i] == 0)
		return;
	X509_digest(server_id.certificate,
		    lengths[_i] == 32	? EVP_sha256()
		    : lengths[_i] == 48 ? EVP_sha384()
					: EVP_sha512(),
		    expected, &expected_len);
	ck_assert_mem_eq(own.end_point, expected, expected_len);
}
END_TEST

START_TEST(alpn_is_agreed_on_when_offered) {
	handshake(server_context(), client_context(), NULL, "postgresql");
	ck_assert(facts_of(&server, true).alpn);
	ck_assert(facts_of(&client, false).alpn);
}
END_TEST

START_TEST(foreign_alpn_is_refused_only_where_one_is_asked_for) {
	struct tls_settings settings = {.cert_file = server_id.cert_file,
					.key_file = server_id.key_file,
					.alpn = _i ? "postgresql" : NULL};

	begin(context_of(true, settings), client_context(), NULL, "http/1.1");
	end_wait(&client, is_settled);
	end_wait(&server, is_settled);
	ck_assert_int_eq(client.connected, _i ? 0 : 1);
	ck_assert_int_eq(server.failed, _i ? 1 : 0);
	if (_i)
		ck_assert_ptr_nonnull(strstr(client.error, "no application protocol"));
	else
		ck_assert(!facts_of(&server, true).alpn);
}
END_TEST

static void raw_send(const char *text) {
	must(send(fds[1], text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
}

START_TEST(peer_that_does_not_speak_tls_fails_the_handshake) {
	struct start s = {.end = &server, .fd = fds[0], .tls = server_context()};

	set_nonblocking(fds[0]);
	on_worker(&workers[0], start_server, &s);
	tls_context_unref(s.tls);
	if (_i == 0)
		raw_send("GET / HTTP/1.1\r\n\r\n");
	close(fds[1]);
	end_wait(&server, has_failed);
	ck_assert_int_eq(server.failed, 1);
	ck_assert_int_eq(server.connected, 0);
	ck_assert_str_eq(server.error, _i == 0 ? "TLS: http request"
					       : "the peer closed the connection during the TLS handshake");
}
END_TEST

static void write_and_accept(struct worker *worker, void *arg) {
	struct start *start = arg;

	stream_open(&start->end->stream, worker, start->fd, end_ready);
	must(stream_write(&start->end->stream, "S", 1));
	start->began = stream_tls_accept(&start->end->stream, start->tls);
}

/* As after a PostgreSQL SSLRequest: the answer is still queued when TLS begins. */
START_TEST(answer_that_announces_tls_goes_out_before_it_in_the_clear) {
	struct start s = {.end = &server, .fd = fds[0], .tls = server_context()};
	struct start c = {.end = &client, .fd = fds[1], .tls = client_context()};
	char byte;

	on_worker(&workers[0], write_and_accept, &s);
	ck_assert(s.began);
	ck_assert_int_eq(recv(fds[1], &byte, 1, 0), 1);
	ck_assert_int_eq(byte, 'S');
	set_nonblocking(fds[0]);
	set_nonblocking(fds[1]);
	on_worker(&workers[1], start_client, &c);
	end_wait(&client, is_connected);
	end_wait(&server, is_connected);
	tls_context_unref(s.tls);
	tls_context_unref(c.tls);
}
END_TEST

/* Bytes */

enum { LARGE = 6000000 };

static void pump(struct worker *worker, void *arg) {
	struct end *end = arg;

	(void)worker;
	end->to_send = LARGE;
	end_pump(end);
}

static bool got_all(struct end *e) {
	return e->got >= LARGE;
}

START_TEST(large_transfers_go_both_ways_at_once) {
	handshake(server_context(),
		  context_of(false, (struct tls_settings){.min_version = _i ? "1.3" : "1.2"}), NULL, NULL);
	on_worker(&workers[0], pump, &server);
	on_worker(&workers[1], pump, &client);
	end_wait(&server, got_all);
	end_wait(&client, got_all);
	ck_assert(!server.bad);
	ck_assert(!client.bad);
	ck_assert_uint_eq(server.got, LARGE);
	ck_assert_uint_eq(client.got, LARGE);
}
END_TEST

static void pause_end(struct worker *worker, void *arg) {
	(void)worker;
	stream_pause(&((struct end *)arg)->stream);
}

static void resume_end(struct worker *worker, void *arg) {
	(void)worker;
	stream_resume(&((struct end *)arg)->stream);
}

static void write_large(struct worker *worker, void *arg) {
	static uint8_t piece[50000];
	struct end *end = arg;

	(void)worker;
	for (uint64_t from = 0; from < LARGE; from += sizeof piece) {
		pattern_fill(piece, from, sizeof piece);
		must(stream_write(&end->stream, piece, 3));
		must(stream_write(&end->stream, piece + 3, sizeof piece - 3));
	}
}

static bool is_held_up(struct end *e) {
	return e->stream.held_up && stream_pending(&e->stream) > 0;
}

static bool has_drained(struct end *e) {
	return e->drained > 0;
}

START_TEST(peer_that_does_not_read_holds_output_up_until_it_does) {
	handshake(server_context(), client_context(), NULL, NULL);
	on_worker(&workers[1], pause_end, &client);
	on_worker(&workers[0], write_large, &server);
	ck_assert(end_is(&server, is_held_up));
	ck_assert(!end_is(&server, has_drained));
	on_worker(&workers[1], resume_end, &client);
	end_wait(&client, got_all);
	end_wait(&server, has_drained);
	ck_assert(!end_is(&server, is_held_up));
	ck_assert_int_eq(server.drained, 1);
	ck_assert(!client.bad);
}
END_TEST

static void write_records(struct end *end, uint64_t count) {
	for (uint64_t i = 0; i < count; i++) {
		uint8_t byte = pattern_at(i);
		must(stream_write(&end->stream, &byte, 1));
		must(stream_flush(&end->stream));
	}
}

static void write_many_records(struct worker *worker, void *arg) {
	(void)worker;
	write_records(arg, 200);
}

static bool got_200(struct end *e) {
	return e->got >= 200;
}

static bool got_7(struct end *e) {
	return e->got >= 7;
}

START_TEST(bytes_that_tls_holds_are_announced_though_the_socket_is_silent) {
	client.recv_size = 7;
	handshake(server_context(), client_context(), NULL, NULL);
	on_worker(&workers[0], write_many_records, &server);
	end_wait(&client, got_200);
	ck_assert(!client.bad);
}
END_TEST

START_TEST(bytes_that_tls_holds_wait_for_a_paused_reader) {
	client.recv_size = 7;
	client.pause_at = 7;
	handshake(server_context(), client_context(), NULL, NULL);
	/*
	 * All is in the socket (which has room for it) before the first byte is read: then TLS takes all of it at
	 * once, and the socket is silent.
	 */
	on_worker(&workers[1], pause_end, &client);
	on_worker(&workers[0], write_many_records, &server);
	on_worker(&workers[1], resume_end, &client);
	end_wait(&client, got_7);
	ck_assert(!end_is(&client, got_200));
	ck_assert_uint_eq(client.got, 7);
	on_worker(&workers[1], resume_end, &client);
	end_wait(&client, got_200);
	ck_assert(!client.bad);
}
END_TEST

/* A TLS stream and two plain ones of the same worker, each with the start of its pattern, in one wake-up. */
struct mixed {
	int fds[2][2];
	struct end ends[2];
};

static void open_plain(struct worker *worker, void *arg) {
	struct mixed *mixed = arg;

	for (int i = 0; i < 2; i++)
		stream_open(&mixed->ends[i].stream, worker, mixed->fds[i][0], end_ready);
}

static void write_mixed(struct worker *worker, void *arg) {
	struct mixed *mixed = arg;
	uint8_t bytes[200];

	(void)worker;
	pattern_fill(bytes, 0, sizeof bytes);
	must(stream_write(&mixed->ends[0].stream, bytes, sizeof bytes));
	must(stream_write(&server.stream, bytes, sizeof bytes));
	must(stream_write(&mixed->ends[1].stream, bytes, sizeof bytes));
	must(stream_pending(&server.stream) == sizeof bytes);
}

START_TEST(what_leaves_together_with_plain_streams_output_is_encrypted) {
	struct mixed mixed;
	uint8_t got[300];

	handshake(server_context(), client_context(), NULL, NULL);
	for (int i = 0; i < 2; i++) {
		must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, mixed.fds[i]) == 0);
		set_nonblocking(mixed.fds[i][0]);
		end_init(&mixed.ends[i], &workers[0]);
	}
	on_worker(&workers[0], open_plain, &mixed);
	on_worker(&workers[0], write_mixed, &mixed);
	end_wait(&client, got_200);
	ck_assert(!client.bad);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(recv(mixed.fds[i][1], got, sizeof got, 0), 200);
		for (uint64_t k = 0; k < 200; k++)
			ck_assert_uint_eq(got[k], pattern_at(k));
		on_worker(&workers[0], close_end, &mixed.ends[i]);
		close(mixed.fds[i][1]);
	}
}
END_TEST

static bool at_end(struct end *e) {
	return e->eof > 0;
}

static void write_and_close(struct worker *worker, void *arg) {
	struct end *end = arg;

	(void)worker;
	/* so few that the socket has room for all: what it has none for is lost by a close */
	write_records(end, 50);
	stream_close(&end->stream);
}

START_TEST(close_after_bytes_is_seen_as_bytes_and_then_the_end) {
	handshake(server_context(), client_context(), NULL, NULL);
	on_worker(&workers[0], write_and_close, &server);
	end_wait(&client, at_end);
	ck_assert_uint_eq(client.got, 50);
	ck_assert(!client.bad);
	ck_assert_int_eq(client.broken, 0);
}
END_TEST

/* A server of OpenSSL's own, blocking, on this thread: it sends session tickets, as PostgreSQL's may. */

static bool is_quiet(struct end *e) {
	return stream_quiet(&e->stream);
}

static bool has_input(struct end *e) {
	struct pollfd poll_fd = {.fd = e->stream.fd, .events = POLLIN};

	return poll(&poll_fd, 1, 0) == 1;
}

static bool has_one(struct end *e) {
	return e->got == 1;
}

static bool has_two(struct end *e) {
	return e->got == 2;
}

/* A byte comes and is looked at within one turn of the loop, which so has not seen it. */
struct glance {
	struct end *end;
	SSL *peer;
	bool quiet;
};

static void glance(struct worker *worker, void *arg) {
	struct glance *g = arg;

	(void)worker;
	must(SSL_write(g->peer, "x", 1) == 1);
	while (!has_input(g->end))
		;
	g->quiet = is_quiet(g->end);
}

static SSL_CTX *strange_server(void) {
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	ck_assert_int_eq(SSL_CTX_use_certificate(ctx, server_id.certificate), 1);
	ck_assert_int_eq(SSL_CTX_use_PrivateKey(ctx, server_id.key), 1);
	return ctx;
}

static void *serve(void *arg) {
	SSL *ssl = arg;

	must(SSL_accept(ssl) == 1);
	return NULL;
}

START_TEST(unread_session_tickets_do_not_make_a_stream_unquiet_and_bytes_do_and_come) {
	SSL_CTX *ctx = strange_server();
	struct start c = {.end = &client, .fd = fds[1], .tls = client_context()};
	pthread_t thread;

	SSL *ssl = SSL_new(ctx);
	SSL_set_fd(ssl, fds[0]);
	set_nonblocking(fds[1]);
	pthread_create(&thread, NULL, serve, ssl);
	on_worker(&workers[1], start_client, &c);
	end_wait(&client, is_connected);
	pthread_join(thread, NULL);
	tls_context_unref(c.tls);
	on_worker(&workers[1], pause_end, &client);
	ck_assert_int_eq(SSL_set_num_tickets(ssl, 1), 1);
	ck_assert_int_eq(SSL_new_session_ticket(ssl), 1);
	ck_assert_int_eq(SSL_write(ssl, "", 0), 0);
	ck_assert_int_eq(SSL_do_handshake(ssl), 1);
	while (!end_is(&client, has_input))
		;
	ck_assert(end_is(&client, is_quiet));
	ck_assert(!end_is(&client, has_input));
	struct glance g = {.end = &client, .peer = ssl, .quiet = true};
	client.any_bytes = true;
	on_worker(&workers[1], glance, &g);
	ck_assert(!g.quiet);
	ck_assert_uint_eq(client.got, 0);
	/* and they are not lost */
	on_worker(&workers[1], resume_end, &client);
	end_wait(&client, has_one);
	g.quiet = true;
	on_worker(&workers[1], glance, &g);
	ck_assert(!g.quiet);
	end_wait(&client, has_two);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	close(fds[0]);
}
END_TEST

/* A client of OpenSSL's own, on this thread, of a stream that is a server */

static SSL *strange_client(void) {
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl = SSL_new(ctx);

	SSL_CTX_free(ctx);
	SSL_set_connect_state(ssl);
	return ssl;
}

static void start_server_alone(void) {
	struct start s = {.end = &server, .fd = fds[0], .tls = server_context()};

	set_nonblocking(fds[0]);
	on_worker(&workers[0], start_server, &s);
	ck_assert(s.began);
	tls_context_unref(s.tls);
}

static void connect_strange(SSL *ssl) {
	start_server_alone();
	SSL_set_fd(ssl, fds[1]);
	ck_assert_int_eq(SSL_connect(ssl), 1);
	end_wait(&server, is_connected);
}

static SSL *connect_strange_client(void) {
	SSL *ssl = strange_client();

	connect_strange(ssl);
	return ssl;
}

static void write_200(struct worker *worker, void *arg) {
	struct end *end = arg;
	uint8_t bytes[200];

	(void)worker;
	pattern_fill(bytes, 0, sizeof bytes);
	must(stream_write(&end->stream, bytes, sizeof bytes));
}

static void expect_200(SSL *ssl) {
	uint8_t got[300];

	ck_assert_int_eq(SSL_read(ssl, got, sizeof got), 200);
	for (uint64_t i = 0; i < 200; i++)
		ck_assert_uint_eq(got[i], pattern_at(i));
}

START_TEST(change_of_keys_that_the_peer_asks_for_hurts_nothing) {
	server.any_bytes = true;
	SSL *ssl = connect_strange_client();

	ck_assert_int_eq(SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED), 1);
	ck_assert_int_eq(SSL_do_handshake(ssl), 1);
	ck_assert_int_eq(SSL_write(ssl, "z", 1), 1);
	end_wait(&server, has_one);
	on_worker(&workers[0], write_200, &server);
	expect_200(ssl);
	ck_assert_int_eq(SSL_write(ssl, "z", 1), 1);
	end_wait(&server, has_two);
	SSL_free(ssl);
	close(fds[1]);
}
END_TEST

START_TEST(peer_that_wants_a_handshake_anew_is_refused_though_nothing_is_written) {
	SSL *ssl = strange_client();

	ck_assert_int_eq(SSL_set_max_proto_version(ssl, TLS1_2_VERSION), 1);
	connect_strange(ssl);
	ck_assert_int_eq(SSL_renegotiate(ssl), 1);
	ck_assert_int_ne(SSL_do_handshake(ssl), 1);
	ck_assert_int_eq(ERR_GET_REASON(ERR_peek_last_error()), SSL_R_NO_RENEGOTIATION);
	ERR_clear_error();
	SSL_free(ssl);
	close(fds[1]);
}
END_TEST

START_TEST(peer_is_told_of_the_end_behind_what_was_written) {
	SSL *ssl = connect_strange_client();
	uint8_t byte;

	on_worker(&workers[0], write_200, &server);
	on_worker(&workers[0], close_end, &server);
	expect_200(ssl);
	ck_assert_int_eq(SSL_read(ssl, &byte, 1), 0);
	ck_assert_int_eq(SSL_get_error(ssl, 0), SSL_ERROR_ZERO_RETURN);
	SSL_free(ssl);
	close(fds[1]);
}
END_TEST

START_TEST(peer_is_told_why_its_handshake_is_refused) {
	SSL *ssl = strange_client();

	ck_assert_int_eq(SSL_set_max_proto_version(ssl, TLS1_1_VERSION), 1);
	SSL_set_security_level(ssl, 0);
	start_server_alone();
	SSL_set_fd(ssl, fds[1]);
	ck_assert_int_ne(SSL_connect(ssl), 1);
	ck_assert_int_eq(ERR_GET_REASON(ERR_peek_last_error()), SSL_R_TLSV1_ALERT_PROTOCOL_VERSION);
	ERR_clear_error();
	end_wait(&server, has_failed);
	SSL_free(ssl);
	close(fds[1]);
}
END_TEST

/* The keys of TLS 1.2 with AES-128 in GCM (RFC 5246 section 6.3, RFC 5288): what the client seals by, 16 and 4 bytes of it. */
static void client_keys(SSL *ssl, uint8_t key[16], uint8_t salt[4]) {
	uint8_t secret[48], seed[13 + 64] = "key expansion", block[40];
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS1-PRF", NULL);
	EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);

	ck_assert_uint_eq(SSL_get_server_random(ssl, seed + 13, 32), 32);
	ck_assert_uint_eq(SSL_get_client_random(ssl, seed + 45, 32), 32);
	ck_assert_uint_eq(SSL_SESSION_get_master_key(SSL_get_session(ssl), secret, sizeof secret), sizeof secret);
	const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string("digest", (char[]){"SHA256"}, 0),
				     OSSL_PARAM_construct_octet_string("secret", secret, sizeof secret),
				     OSSL_PARAM_construct_octet_string("seed", seed, sizeof seed), OSSL_PARAM_construct_end()};
	ck_assert_int_eq(EVP_KDF_derive(ctx, block, sizeof block, params), 1);
	memcpy(key, block, 16);
	memcpy(salt, block + 32, 4);
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
}

enum { HELLO_RECORD = 5 + 8 + 4 + 16 };

/* A record with a ClientHello that has only its head, which asks for a handshake anew. */
static void make_hello_record(EVP_CIPHER_CTX *ctx, const uint8_t key[16], const uint8_t salt[4], uint64_t sequence, uint8_t *out) {
	uint8_t nonce[12], extra[13] = {[8] = 22, 3, 3, 0, 4};
	int len;

	memcpy(nonce, salt, 4);
	for (int i = 0; i < 8; i++)
		nonce[4 + i] = extra[i] = (uint8_t)(sequence >> (56 - 8 * i));
	memcpy(out, (const uint8_t[]){22, 3, 3, 0, HELLO_RECORD - 5}, 5);
	memcpy(out + 5, nonce + 4, 8);
	ck_assert_int_eq(EVP_EncryptInit_ex(ctx, EVP_aes_128_gcm(), NULL, key, nonce), 1);
	ck_assert_int_eq(EVP_EncryptUpdate(ctx, NULL, &len, extra, sizeof extra), 1);
	ck_assert_int_eq(EVP_EncryptUpdate(ctx, out + 13, &len, (const uint8_t[]){1, 0, 0, 0}, 4), 1);
	ck_assert_int_eq(EVP_EncryptFinal_ex(ctx, out + 17, &len), 1);
	ck_assert_int_eq(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, 16, out + 17), 1);
}

START_TEST(peer_that_asks_for_handshakes_without_end_and_reads_nothing_is_given_up) {
	enum { MOST = 8 * 1024 * 1024 };
	SSL *ssl = strange_client();
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	uint8_t key[16], salt[4], record[HELLO_RECORD];
	uint64_t sequence = 1;
	size_t sent = 0;
	bool refused = false;

	ck_assert_int_eq(SSL_set_max_proto_version(ssl, TLS1_2_VERSION), 1);
	ck_assert_int_eq(SSL_set_cipher_list(ssl, "ECDHE-ECDSA-AES128-GCM-SHA256"), 1);
	connect_strange(ssl);
	client_keys(ssl, key, salt);
	set_nonblocking(fds[1]);
	while (sent < MOST && !refused) {
		make_hello_record(ctx, key, salt, sequence++, record);
		/* a socket that is full is read from, or its stream is broken */
		while (!refused && send(fds[1], record, sizeof record, MSG_NOSIGNAL) != sizeof record)
			refused = end_is(&server, has_failed);
		sent += sizeof record;
	}
	ck_assert_msg(refused, "%zu bytes were taken", sent);
	end_wait(&server, has_failed);
	EVP_CIPHER_CTX_free(ctx);
	SSL_free(ssl);
	close(fds[1]);
}
END_TEST

static int large_ticket(SSL *ssl, void *arg) {
	static char data[1500];

	(void)arg;
	return SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), data, sizeof data);
}

static void write_hello(struct worker *worker, void *arg) {
	(void)worker;
	must(stream_write(&((struct end *)arg)->stream, "hello", 5));
}

/* A server of OpenSSL's own between buffers, which hands its records on one by one. */
static void drive(SSL *ssl, int fd, bool (*until)(SSL *ssl)) {
	uint8_t bytes[4096];
	struct pollfd more = {.fd = fd, .events = POLLIN};

	while (!until(ssl)) {
		int len = BIO_read(SSL_get_wbio(ssl), bytes, sizeof bytes);
		if (len > 0)
			ck_assert_int_eq(send(fd, bytes, (size_t)len, 0), len);
		ck_assert_int_eq(poll(&more, 1, 20000), 1);
		ssize_t n = recv(fd, bytes, sizeof bytes, 0);
		ck_assert_int_gt(n, 0);
		ck_assert_int_eq(BIO_write(SSL_get_rbio(ssl), bytes, (int)n), n);
	}
}

static bool has_accepted(SSL *ssl) {
	return SSL_accept(ssl) == 1;
}

static bool has_hello(SSL *ssl) {
	char got[10];

	return SSL_read(ssl, got, sizeof got) == 5 && memcmp(got, "hello", 5) == 0;
}

/* The record that begins there, to the client, until it has taken it. */
static int send_record(int fd, const uint8_t *record) {
	int len = 5 + record[3] * 256 + record[4];

	ck_assert_int_eq(send(fd, record, (size_t)len, 0), len);
	while (end_is(&client, has_input))
		;
	return len;
}

static void half_a_ticket(bool paused) {
	SSL_CTX *ctx = strange_server();
	struct start c = {.end = &client, .fd = fds[1], .tls = client_context()};
	uint8_t bytes[4096];

	ck_assert_int_eq(SSL_CTX_set_max_send_fragment(ctx, 512), 1);
	ck_assert_int_eq(SSL_CTX_set_session_ticket_cb(ctx, large_ticket, NULL, NULL), 1);
	ck_assert_int_eq(SSL_CTX_set_num_tickets(ctx, 1), 1);
	SSL *ssl = SSL_new(ctx);
	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	set_nonblocking(fds[1]);
	on_worker(&workers[1], start_client, &c);
	tls_context_unref(c.tls);
	drive(ssl, fds[0], has_accepted);
	end_wait(&client, is_connected);
	int len = BIO_read(SSL_get_wbio(ssl), bytes, sizeof bytes), at = send_record(fds[0], bytes);
	if (paused)
		on_worker(&workers[1], pause_end, &client);
	on_worker(&workers[1], write_hello, &client);
	while (!end_is(&client, is_held_up))
		;
	at += send_record(fds[0], bytes + at);
	ck_assert(end_is(&client, is_held_up));
	ck_assert_int_gt(len, at);
	ck_assert_int_eq(send(fds[0], bytes + at, (size_t)(len - at), 0), len - at);
	drive(ssl, fds[0], has_hello);
	end_wait(&client, has_drained);
	ck_assert(!end_is(&client, has_failed));
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	close(fds[0]);
}

START_TEST(what_is_written_while_half_a_ticket_has_come_goes_out_behind_the_other_half) {
	half_a_ticket(false);
}
END_TEST

START_TEST(what_a_paused_reader_writes_while_half_a_ticket_has_come_goes_out_too) {
	half_a_ticket(true);
}
END_TEST

START_TEST(handshake_that_finds_the_socket_full_goes_on_when_there_is_room) {
	static uint8_t junk[4096];
	SSL *ssl = strange_client();
	size_t filled = 0;

	set_nonblocking(fds[0]);
	for (ssize_t n; (n = send(fds[0], junk, sizeof junk, 0)) > 0;)
		filled += (size_t)n;
	for (ssize_t n; (n = send(fds[0], junk, 1, 0)) > 0;)
		filled += (size_t)n;
	start_server_alone();
	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new_socket(fds[1], BIO_NOCLOSE));
	ck_assert_int_eq(SSL_get_error(ssl, SSL_connect(ssl)), SSL_ERROR_WANT_READ);
	while (!end_is(&server, is_held_up))
		;
	while (filled > 0) {
		ssize_t n = recv(fds[1], junk, filled < sizeof junk ? filled : sizeof junk, 0);
		ck_assert_int_gt(n, 0);
		filled -= (size_t)n;
	}
	SSL_set0_rbio(ssl, BIO_new_socket(fds[1], BIO_NOCLOSE));
	ck_assert_int_eq(SSL_connect(ssl), 1);
	end_wait(&server, is_connected);
	on_worker(&workers[0], write_200, &server);
	expect_200(ssl);
	SSL_free(ssl);
	close(fds[1]);
}
END_TEST

/* Many streams with TLS that have something to send in one wake-up */

enum { MANY = 37 };

static struct end many[2][MANY];

static void write_numbers(struct worker *worker, void *arg) {
	char text[32];

	(void)worker, (void)arg;
	for (int i = 0; i < MANY; i++) {
		int len = snprintf(text, sizeof text, "this is for %d.", i);
		must(stream_write(&many[0][i].stream, text, 5));
		must(stream_write(&many[0][i].stream, text + 5, (size_t)len - 5));
	}
}

static bool got_sentence(struct end *e) {
	return e->got > 0 && strchr(e->text, '.');
}

START_TEST(each_of_many_streams_that_send_at_once_sends_its_own) {
	struct tls_context *server_tls = server_context(), *client_tls = client_context();
	char text[32];

	for (int i = 0; i < MANY; i++) {
		int pair[2];
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		for (int side = 0; side < 2; side++) {
			struct start start = {.end = &many[side][i], .fd = pair[side], .tls = side ? client_tls : server_tls};
			set_nonblocking(pair[side]);
			end_init(start.end, &workers[side]);
			start.end->any_bytes = true;
			on_worker(&workers[side], side ? start_client : start_server, &start);
		}
	}
	for (int i = 0; i < MANY; i++)
		end_wait(&many[0][i], is_connected);
	on_worker(&workers[0], write_numbers, NULL);
	for (int i = 0; i < MANY; i++) {
		end_wait(&many[1][i], got_sentence);
		snprintf(text, sizeof text, "this is for %d.", i);
		ck_assert_str_eq(many[1][i].text, text);
	}
	for (int side = 0; side < 2; side++)
		for (int i = 0; i < MANY; i++)
			on_worker(&workers[side], close_end, &many[side][i]);
	tls_context_unref(server_tls);
	tls_context_unref(client_tls);
}
END_TEST

/* An echo that changes its worker after each piece */

static struct {
	struct stream stream;
	struct mail mail;
	int at, moves;
	struct gate gone;
} nomad;

static void nomad_arrive(struct mail *mail, void *receiver) {
	(void)mail;
	stream_attach(&nomad.stream, receiver);
}

static void nomad_ready(struct stream *stream, int events) {
	struct worker *here = worker_current();

	must(here == &workers[nomad.at]);
	if (events & STREAM_READABLE) {
		ssize_t n = stream_recv(stream, here->scratch, 3000);
		if (n == STREAM_EOF || n == STREAM_BROKEN) {
			stream_close(stream);
			gate_add(&nomad.gone);
			return;
		}
		if (n > 0)
			must(stream_write(stream, here->scratch, (size_t)n));
	}
	if (!(events & (STREAM_READABLE | STREAM_DRAINED)) || !stream_flush(stream) || stream_pending(stream) > 0)
		return;
	stream_detach(stream);
	nomad.at ^= 1;
	nomad.moves++;
	nomad.mail.deliver = nomad_arrive;
	mailbox_post(&workers[nomad.at].mailbox, &nomad.mail);
}

static void start_nomad(struct worker *worker, void *arg) {
	struct start *start = arg;

	stream_open(&nomad.stream, worker, start->fd, nomad_ready);
	start->began = stream_tls_accept(&nomad.stream, start->tls);
}

START_TEST(stream_that_moves_between_workers_loses_nothing) {
	struct start s = {.fd = fds[0], .tls = server_context()};
	struct start c = {.end = &client, .fd = fds[1], .tls = client_context()};

	nomad.gone = (struct gate)GATE_INIT;
	set_nonblocking(fds[0]);
	set_nonblocking(fds[1]);
	on_worker(&workers[0], start_nomad, &s);
	on_worker(&workers[1], start_client, &c);
	end_wait(&client, is_connected);
	on_worker(&workers[1], pump, &client);
	end_wait(&client, got_all);
	on_worker(&workers[1], close_end, &client);
	gate_wait(&nomad.gone, 1);
	tls_context_unref(s.tls);
	tls_context_unref(c.tls);
	ck_assert(!client.bad);
	ck_assert_int_ge(nomad.moves, 5);
}
END_TEST

/* Settings */

START_TEST(setting_that_cannot_work_is_refused_and_named) {
	char missing[128];
	struct error error = {0};

	snprintf(missing, sizeof missing, "%s/missing.pem", directory);
	const struct {
		bool is_server;
		struct tls_settings settings;
		const char *names;
	} cases[] = {
		{true, {0}, "certificate"},
		{true, {.cert_file = missing, .key_file = server_id.key_file}, "missing.pem"},
		{true, {.cert_file = server_id.cert_file, .key_file = missing}, "missing.pem"},
		{true, {.cert_file = server_id.cert_file}, "server.crt"},
		{true, {.cert_file = server_id.cert_file, .key_file = client_id.key_file}, "client.key"},
		{true, {.cert_file = server_id.cert_file, .key_file = server_id.key_file, .verify_peer = true}, "authority"},
		{true, {.cert_file = server_id.cert_file, .key_file = server_id.key_file, .min_version = "1.1"}, "1.1"},
		{false, {.ca_file = missing}, "missing.pem"},
		{false, {.ca_file = server_id.key_file}, "server.key"},
		{false, {.verify_peer = true}, "authority"},
		{false, {.crl_file = missing}, "missing.pem"},
		{false, {.ciphers = "NONSENSE"}, "NONSENSE"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		error = (struct error){0};
		struct tls_context *context = cases[i].is_server ? tls_context_server(&cases[i].settings, &error)
								 : tls_context_client(&cases[i].settings, &error);
		ck_assert_msg(context == NULL, "case %zu", i);
		ck_assert_msg(strstr(error.text, cases[i].names) != NULL, "case %zu: %s", i, error.text);
	}
	close(fds[0]);
	close(fds[1]);
	tls_context_unref(NULL);
}
END_TEST

START_TEST(context_lives_until_its_last_reference_goes) {
	struct tls_context *context = server_context();

	ck_assert_ptr_eq(tls_context_ref(context), context);
	tls_context_unref(context);
	handshake(context, client_context(), NULL, NULL);
}
END_TEST

/* As client libraries do: without a callback. In a process without a terminal, where stdin is asked. */
START_TEST(nobody_is_asked_for_a_passphrase) {
	BIO *locked = BIO_new(BIO_s_mem());
	EVP_PKEY *key = EVP_RSA_gen(2048);
	int ends[2], left = 0, status = -1;

	must(key && locked && pipe(ends) == 0 && write(ends[1], "secret\n", 7) == 7);
	must(PEM_write_bio_PKCS8PrivateKey(locked, key, EVP_aes_256_cbc(), "secret", 6, NULL, NULL) == 1);
	pid_t pid = fork();
	if (pid == 0) {
		setsid();
		dup2(ends[0], STDIN_FILENO);
		tls_never_ask();
		bool reads = PEM_read_bio_PrivateKey(locked, NULL, NULL, NULL);
		_exit(reads ? 1 : ioctl(STDIN_FILENO, FIONREAD, &left) == 0 && left == 7 ? 0 : 2);
	}
	ck_assert(pid > 0 && waitpid(pid, &status, 0) == pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%x", (unsigned)status);
	close(ends[0]);
	close(ends[1]);
	BIO_free(locked);
	EVP_PKEY_free(key);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("tls");
	TCase *tc = tcase_create("tls");

	signal(SIGPIPE, SIG_IGN);
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_set_timeout(tc, 60);
	suite_add_tcase(suite, tc);
	tcase_add_test(tc, handshake_ends_in_one_connected_event_on_each_side);
	tcase_add_test(tc, client_certificate_gives_name_and_subject);
	tcase_add_test(tc, name_with_a_zero_byte_inside_is_no_name);
	tcase_add_loop_test(tc, requested_certificate_may_be_missing_and_a_required_one_may_not, 0, 2);
	tcase_add_test(tc, client_certificate_of_a_stranger_is_refused_with_the_reason);
	tcase_add_loop_test(tc, server_is_verified_by_authority_and_by_name, 0, 7);
	tcase_add_test(tc, name_that_is_to_be_verified_must_be_known);
	tcase_add_loop_test(tc, end_point_hash_is_that_of_the_certificates_signature, 0, 6);
	tcase_add_test(tc, alpn_is_agreed_on_when_offered);
	tcase_add_loop_test(tc, foreign_alpn_is_refused_only_where_one_is_asked_for, 0, 2);
	tcase_add_loop_test(tc, peer_that_does_not_speak_tls_fails_the_handshake, 0, 2);
	tcase_add_test(tc, answer_that_announces_tls_goes_out_before_it_in_the_clear);
	tcase_add_loop_test(tc, large_transfers_go_both_ways_at_once, 0, 2);
	tcase_add_test(tc, peer_that_does_not_read_holds_output_up_until_it_does);
	tcase_add_test(tc, what_leaves_together_with_plain_streams_output_is_encrypted);
	tcase_add_test(tc, bytes_that_tls_holds_are_announced_though_the_socket_is_silent);
	tcase_add_test(tc, bytes_that_tls_holds_wait_for_a_paused_reader);
	tcase_add_test(tc, close_after_bytes_is_seen_as_bytes_and_then_the_end);
	tcase_add_test(tc, unread_session_tickets_do_not_make_a_stream_unquiet_and_bytes_do_and_come);
	tcase_add_test(tc, change_of_keys_that_the_peer_asks_for_hurts_nothing);
	tcase_add_test(tc, peer_that_wants_a_handshake_anew_is_refused_though_nothing_is_written);
	tcase_add_test(tc, peer_is_told_of_the_end_behind_what_was_written);
	tcase_add_test(tc, peer_is_told_why_its_handshake_is_refused);
	tcase_add_test(tc, peer_that_asks_for_handshakes_without_end_and_reads_nothing_is_given_up);
	tcase_add_test(tc, what_is_written_while_half_a_ticket_has_come_goes_out_behind_the_other_half);
	tcase_add_test(tc, what_a_paused_reader_writes_while_half_a_ticket_has_come_goes_out_too);
	tcase_add_test(tc, handshake_that_finds_the_socket_full_goes_on_when_there_is_room);
	tcase_add_test(tc, each_of_many_streams_that_send_at_once_sends_its_own);
	tcase_add_test(tc, stream_that_moves_between_workers_loses_nothing);
	tcase_add_test(tc, setting_that_cannot_work_is_refused_and_named);
	tcase_add_test(tc, nobody_is_asked_for_a_passphrase);
	tcase_add_test(tc, context_lives_until_its_last_reference_goes);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
