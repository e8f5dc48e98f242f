/* Logging in to a MySQL server, played against a server of the test's own: every way in, every lie, every cut. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mysql/dial.h"

static const uint8_t SCRAMBLE[MY_SCRAMBLE] = "abcdefghijklmnopqrst", OTHER[MY_SCRAMBLE] = "tsrqponmlkjihgfedcba";

enum { SERVER_HAS = MY_DIAL_ALWAYS | MY_CLIENT_CONNECT_WITH_DB | MY_CLIENT_SSL | MY_CLIENT_FOUND_ROWS };

struct greeting {
	const char *version, *plugin;
	uint32_t capabilities;
};

static void put_greeting(struct my_builder *b, const struct greeting *g) {
	uint32_t capabilities = g->capabilities ? g->capabilities : SERVER_HAS;

	my_open(b, 0);
	my_put_u8(b, 10);
	my_put_cstr(b, g->version ? g->version : "8.0.36");
	my_put_u32(b, 77);
	my_put(b, SCRAMBLE, 8);
	my_put_u8(b, 0);
	my_put_u16(b, (uint16_t)capabilities);
	my_put_u8(b, 255);
	my_put_u16(b, 2);
	my_put_u16(b, (uint16_t)(capabilities >> 16));
	my_put_u8(b, 21);
	my_put_zeros(b, 6);
	my_put_u32(b, 0x1d);
	my_put(b, SCRAMBLE + 8, 12);
	my_put_u8(b, 0);
	my_put_cstr(b, g->plugin ? g->plugin : MY_SHA2_NAME);
	my_close(b);
}

static void put_ok(struct my_builder *b, uint8_t sequence) {
	my_put_ok(b, sequence, MY_PACKET_OK, SERVER_HAS, &(struct my_ok){.status = 2});
}

static void put_more(struct my_builder *b, uint8_t sequence, const void *data, size_t len) {
	my_open(b, sequence);
	my_put_u8(b, MY_PACKET_MORE_DATA);
	my_put(b, data, len);
	my_close(b);
}

static void put_switch(struct my_builder *b, uint8_t sequence, const char *plugin) {
	my_open(b, sequence);
	my_put_u8(b, MY_PACKET_AUTH_SWITCH);
	my_put_cstr(b, plugin);
	my_put(b, OTHER, MY_SCRAMBLE);
	my_put_u8(b, 0);
	my_close(b);
}

/* One login: what was said last, and what it answered. */
struct play {
	struct my_dial dial;
	struct my_builder in, out;
	enum my_dial_step step;
};

static struct my_dial_target TARGET = {.user = "app", .schema = "shop", .program = "test", .tls = MY_DIAL_TLS_NEVER,
				       .takes_key = true};

static struct play begin(const struct my_dial_target *target, const char *secret) {
	struct play p = {.in = my_builder(NULL), .out = my_builder(NULL)};
	struct my_dial_target with = *target;

	with.credential = secret ? my_credential_new(secret) : NULL;
	my_dial_begin(&p.dial, &with);
	my_credential_unref(with.credential);
	return p;
}

/* The server has said what is in `in`: fed in one piece, and taken whole. */
static void feed(struct play *p) {
	size_t used = 0;

	ck_assert(p->in.ok);
	my_builder_release(&p->out);
	p->out = my_builder(NULL);
	p->step = my_dial_input(&p->dial, buf_bytes(&p->in.buf), buf_len(&p->in.buf), &used, &p->out);
	if (p->step != MY_DIAL_FAILED)
		ck_assert_uint_eq(used, buf_len(&p->in.buf));
	ck_assert(p->out.ok);
	my_builder_release(&p->in);
	p->in = my_builder(NULL);
}

static void end(struct play *p) {
	my_builder_release(&p->in);
	my_builder_release(&p->out);
	my_dial_end(&p->dial);
}

static struct my_header sent(const struct play *p) {
	struct my_header header = {0};

	ck_assert(my_read_header(buf_bytes(&p->out.buf), buf_len(&p->out.buf), &header));
	ck_assert_uint_eq(header.length + MY_HEADER, buf_len(&p->out.buf));
	return header;
}

static const uint8_t *body_of(const struct play *p) {
	return buf_bytes(&p->out.buf) + MY_HEADER;
}

static void greet(struct play *p, const struct greeting *g) {
	put_greeting(&p->in, g);
	feed(p);
}

static void expect_failure(struct play *p, enum server_failure class, const char *words) {
	ck_assert_int_eq(p->step, MY_DIAL_FAILED);
	ck_assert_msg(p->dial.failure.class == class, "class %d: %s", p->dial.failure.class, p->dial.failure.text);
	ck_assert_msg(strstr(p->dial.failure.text, words), "no \"%s\" in \"%s\"", words, p->dial.failure.text);
	end(p);
}

/* ---- the response ---- */

START_TEST(response_says_who_and_proves_it) {
	struct play p = begin(&TARGET, "secret");
	uint8_t key[MY_SHA256], proof[MY_SHA256];
	size_t len;

	greet(&p, &(struct greeting){0});
	ck_assert_int_eq(p.step, MY_DIAL_MORE);
	ck_assert_uint_eq(sent(&p).sequence, 1);
	struct reader r = reader_over(body_of(&p), sent(&p).length);
	uint32_t capabilities = my_u32(&r);
	ck_assert_uint_eq(capabilities, (uint32_t)(MY_DIAL_ALWAYS | MY_CLIENT_CONNECT_WITH_DB));
	my_u32(&r);
	ck_assert_uint_eq(reader_u8(&r), 255);
	const uint8_t *filler = reader_bytes(&r, 23);
	for (size_t i = 0; i < 23; i++)
		ck_assert_uint_eq(filler[i], 0);
	ck_assert_str_eq(reader_cstr(&r, NULL), "app");
	my_sha2_key("secret", key);
	my_sha2_answer(key, SCRAMBLE, proof);
	const uint8_t *shown = my_lenenc_bytes(&r, &len);
	ck_assert_uint_eq(len, MY_SHA256);
	ck_assert_mem_eq(shown, proof, MY_SHA256);
	ck_assert_str_eq(reader_cstr(&r, NULL), "shop");
	ck_assert_str_eq(reader_cstr(&r, NULL), MY_SHA2_NAME);
	struct reader attributes = {0};
	const uint8_t *all = my_lenenc_bytes(&r, &len);
	attributes = reader_over(all, len);
	for (int i = 0; i < 4; i++)
		ck_assert_ptr_nonnull(my_lenenc_bytes(&attributes, &len));
	ck_assert(attributes.ok && reader_left(&attributes) == 0);
	ck_assert(r.ok && reader_left(&r) == 0);
	put_more(&p.in, 2, "\3", 1);
	put_ok(&p.in, 3);
	feed(&p);
	ck_assert_int_eq(p.step, MY_DIAL_DONE);
	ck_assert_str_eq(p.dial.facts.version, "8.0.36");
	ck_assert_uint_eq(p.dial.facts.number, 80036);
	ck_assert_uint_eq(p.dial.facts.thread_id, 77);
	ck_assert_uint_eq(p.dial.facts.status, 2);
	ck_assert(!p.dial.facts.mariadb);
	end(&p);
}
END_TEST

START_TEST(mariadb_is_known_by_its_version_and_never_asked_for_its_own_capabilities) {
	struct play p = begin(&TARGET, "secret");

	greet(&p, &(struct greeting){.version = "5.5.5-10.11.19-MariaDB-0+deb12u1",
				     .plugin = MY_NATIVE_NAME,
				     .capabilities = SERVER_HAS & ~(uint32_t)MY_CLIENT_LONG_PASSWORD});
	ck_assert_int_eq(p.step, MY_DIAL_MORE);
	ck_assert(p.dial.facts.mariadb);
	ck_assert_uint_eq(p.dial.facts.number, 101119);
	ck_assert_uint_eq(p.dial.facts.mariadb_offered, 0x1d);
	struct reader r = reader_over(body_of(&p), sent(&p).length);
	ck_assert(my_u32(&r) & MY_CLIENT_LONG_PASSWORD);
	end(&p);
}
END_TEST

START_TEST(found_rows_is_asked_for_where_it_is_wanted) {
	struct my_dial_target target = TARGET;
	target.capabilities = MY_CLIENT_FOUND_ROWS;
	struct play p = begin(&target, "secret");

	greet(&p, &(struct greeting){0});
	struct reader r = reader_over(body_of(&p), sent(&p).length);
	ck_assert(my_u32(&r) & MY_CLIENT_FOUND_ROWS);
	ck_assert(p.dial.facts.capabilities & MY_CLIENT_FOUND_ROWS);
	end(&p);
}
END_TEST

/* ---- plugins ---- */

START_TEST(a_switch_is_followed_with_its_own_challenge) {
	struct play p = begin(&TARGET, "secret");
	uint8_t key[MY_SHA1], proof[MY_SHA1];

	greet(&p, &(struct greeting){.plugin = "auth_gssapi_client"});
	put_switch(&p.in, 2, MY_NATIVE_NAME);
	feed(&p);
	ck_assert_int_eq(p.step, MY_DIAL_MORE);
	my_native_key("secret", key);
	my_native_answer(key, OTHER, proof);
	ck_assert_uint_eq(sent(&p).length, MY_SHA1);
	ck_assert_uint_eq(sent(&p).sequence, 3);
	ck_assert_mem_eq(body_of(&p), proof, MY_SHA1);
	put_ok(&p.in, 4);
	feed(&p);
	ck_assert_int_eq(p.step, MY_DIAL_DONE);
	end(&p);
}
END_TEST

START_TEST(recovered_sha1_is_enough_for_native_and_not_for_sha2) {
	uint8_t sha1[MY_SHA1];
	my_native_key("password", sha1);
	struct my_credential *c = my_credential_merged(
		NULL, &(struct my_shown){.stored = "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19", .sha1 = sha1});
	struct my_dial_target target = TARGET;
	target.credential = c;
	struct play p = {.in = my_builder(NULL), .out = my_builder(NULL)};

	my_dial_begin(&p.dial, &target);
	/* offered although the greeting names another plugin: the server may switch */
	greet(&p, &(struct greeting){.plugin = MY_SHA2_NAME});
	ck_assert_int_eq(p.step, MY_DIAL_MORE);
	put_switch(&p.in, 2, MY_SHA2_NAME);
	feed(&p);
	expect_failure(&p, SERVER_REFUSED, "there is only SHA1 of the password");
	my_credential_unref(c);
}
END_TEST

/* Whatever key who answers has: it is of no use to him. */
START_TEST(a_key_that_the_server_sends_is_not_believed_unless_it_may_be) {
	struct my_dial_target target = TARGET;
	target.takes_key = false;
	struct play p = begin(&target, "secret");

	greet(&p, &(struct greeting){0});
	put_more(&p.in, 2, "\4", 1);
	feed(&p);
	expect_failure(&p, SERVER_REFUSED, "server_public_key_file");
}
END_TEST

START_TEST(full_exchange_uses_the_key_that_is_known) {
	struct my_dial_target target = TARGET;
	struct evp_pkey_st *key = my_rsa_generate();
	char pem[MY_RSA_PEM_MAX], out[MY_RSA_CIPHER_MAX];

	target.server_key = my_rsa_read_public(pem, my_rsa_public(key, pem));
	target.takes_key = true;
	struct play p = begin(&target, "secret");
	my_rsa_free(target.server_key); /* the dial has its own reference */
	greet(&p, &(struct greeting){0});
	put_more(&p.in, 2, "\4", 1);
	feed(&p);
	ck_assert_int_eq(p.step, MY_DIAL_MORE);
	ck_assert(my_rsa_decrypt(key, SCRAMBLE, body_of(&p), sent(&p).length, out, sizeof out));
	ck_assert_str_eq(out, "secret");
	put_ok(&p.in, 4);
	feed(&p);
	ck_assert_int_eq(p.step, MY_DIAL_DONE);
	end(&p);
	my_rsa_free(key);
}
END_TEST

START_TEST(full_exchange_hides_the_password_by_rsa) {
	struct play p = begin(&TARGET, "secret");
	struct evp_pkey_st *key = my_rsa_generate();
	char pem[MY_RSA_PEM_MAX], out[MY_RSA_CIPHER_MAX];

	greet(&p, &(struct greeting){0});
	put_more(&p.in, 2, "\4", 1);
	feed(&p);
	ck_assert_uint_eq(sent(&p).length, 1);
	ck_assert_uint_eq(*body_of(&p), MY_SHA2_REQUEST_KEY);
	put_more(&p.in, 4, pem, my_rsa_public(key, pem));
	feed(&p);
	ck_assert_int_eq(p.step, MY_DIAL_MORE);
	ck_assert(my_rsa_decrypt(key, SCRAMBLE, body_of(&p), sent(&p).length, out, sizeof out));
	ck_assert_str_eq(out, "secret");
	put_ok(&p.in, 6);
	feed(&p);
	ck_assert_int_eq(p.step, MY_DIAL_DONE);
	end(&p);
	my_rsa_free(key);
}
END_TEST

START_TEST(the_password_itself_goes_only_where_nobody_is_in_between) {
	static const struct {
		bool local, tls, verifies;
	} ways[] = {{true, false, false}, {false, true, true}, {false, true, false}, {false, false, false}};

	for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
		struct my_dial_target target = TARGET;
		target.local = ways[i].local;
		target.tls = ways[i].tls ? MY_DIAL_TLS_MUST : MY_DIAL_TLS_NEVER;
		target.tls_verifies = ways[i].verifies;
		struct play p = begin(&target, "secret");
		uint8_t sequence = 2;
		bool clear = ways[i].local || ways[i].verifies;

		greet(&p, &(struct greeting){0});
		if (ways[i].tls) {
			ck_assert_int_eq(p.step, MY_DIAL_TLS);
			ck_assert_uint_eq(sent(&p).length, MY_SSL_REQUEST);
			my_builder_release(&p.out);
			p.out = my_builder(NULL);
			ck_assert_int_eq(my_dial_secured(&p.dial, &p.out), MY_DIAL_MORE);
			ck_assert_uint_eq(sent(&p).sequence, 2);
			sequence = 3;
		}
		put_more(&p.in, sequence, "\4", 1);
		feed(&p);
		ck_assert_int_eq(p.step, MY_DIAL_MORE);
		if (clear)
			ck_assert_mem_eq(body_of(&p), "secret", 7);
		else
			ck_assert_uint_eq(*body_of(&p), MY_SHA2_REQUEST_KEY);
		end(&p);

		p = begin(&target, "secret");
		greet(&p, &(struct greeting){0});
		if (ways[i].tls)
			my_dial_secured(&p.dial, &p.out);
		put_switch(&p.in, sequence, MY_CLEAR_NAME);
		feed(&p);
		if (!clear) {
			expect_failure(&p, SERVER_REFUSED, "verify-ca or verify-full");
			continue;
		}
		ck_assert_int_eq(p.step, MY_DIAL_MORE);
		ck_assert_mem_eq(body_of(&p), "secret", 7);
		end(&p);
	}
}
END_TEST

START_TEST(no_password_is_an_empty_answer) {
	struct play p = begin(&TARGET, NULL);

	greet(&p, &(struct greeting){0});
	ck_assert_int_eq(p.step, MY_DIAL_MORE);
	put_switch(&p.in, 2, MY_NATIVE_NAME);
	feed(&p);
	ck_assert_uint_eq(sent(&p).length, 0);
	put_ok(&p.in, 4);
	feed(&p);
	ck_assert_int_eq(p.step, MY_DIAL_DONE);
	end(&p);
}
END_TEST

/* ---- refusals ---- */

START_TEST(errors_are_classed_also_before_the_greeting) {
	static const struct {
		uint16_t code;
		enum server_failure class;
	} cases[] = {
		{1040, SERVER_FULL},	    {1203, SERVER_FULL},	{1226, SERVER_FULL},	 {1045, SERVER_REFUSED},
		{1049, SERVER_REFUSED},	    {1044, SERVER_REFUSED},	{1130, SERVER_REFUSED},	 {3118, SERVER_REFUSED},
		{1129, SERVER_UNREACHABLE}, {1053, SERVER_UNREACHABLE}, {9999, SERVER_UNREACHABLE},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		for (int greeted = 0; greeted < 2; greeted++) {
			struct play p = begin(&TARGET, "secret");
			if (greeted)
				greet(&p, &(struct greeting){0});
			my_put_err(&p.in, greeted ? 2 : 0, greeted ? SERVER_HAS : 0, cases[i].code, "42000", "so it is");
			feed(&p);
			ck_assert_uint_eq(p.dial.failure.code, cases[i].code);
			expect_failure(&p, cases[i].class, "so it is");
		}
	}
}
END_TEST

START_TEST(tls_is_not_done_without_where_it_must_be) {
	struct my_dial_target target = TARGET;
	target.tls = MY_DIAL_TLS_MUST;
	struct play p = begin(&target, "secret");

	greet(&p, &(struct greeting){.capabilities = SERVER_HAS & ~(uint32_t)MY_CLIENT_SSL});
	ck_assert_uint_eq(buf_len(&p.out.buf), 0);
	expect_failure(&p, SERVER_REFUSED, "does not offer TLS");
}
END_TEST

START_TEST(a_refusal_without_tls_says_that_tls_may_help) {
	struct play p = begin(&TARGET, "secret");

	greet(&p, &(struct greeting){0});
	my_put_err(&p.in, 2, SERVER_HAS, 1045, "28000", "Access denied");
	feed(&p);
	ck_assert(p.dial.failure.turn_tls);
	end(&p);
	p = begin(&TARGET, "secret");
	greet(&p, &(struct greeting){.capabilities = SERVER_HAS & ~(uint32_t)MY_CLIENT_SSL});
	my_put_err(&p.in, 2, SERVER_HAS, 1045, "28000", "Access denied");
	feed(&p);
	ck_assert(!p.dial.failure.turn_tls);
	end(&p);
}
END_TEST

START_TEST(bytes_behind_the_greeting_do_not_count_as_encrypted) {
	struct my_dial_target target = TARGET;
	target.tls = MY_DIAL_TLS_MUST;
	struct play p = begin(&target, "secret");

	put_greeting(&p.in, &(struct greeting){0});
	put_ok(&p.in, 2);
	feed(&p);
	expect_failure(&p, SERVER_UNREACHABLE, "attack");
}
END_TEST

START_TEST(packets_out_of_turn_are_refused) {
	struct play p;

	p = begin(&TARGET, "secret"); /* a key that was not asked for */
	greet(&p, &(struct greeting){0});
	put_more(&p.in, 2, "-----BEGIN", 10);
	feed(&p);
	expect_failure(&p, SERVER_UNREACHABLE, "malformed");

	p = begin(&TARGET, "secret"); /* OK where the greeting is due */
	put_ok(&p.in, 0);
	feed(&p);
	expect_failure(&p, SERVER_UNREACHABLE, "version 0");

	p = begin(&TARGET, "secret"); /* wrong sequence */
	greet(&p, &(struct greeting){0});
	put_ok(&p.in, 3);
	feed(&p);
	expect_failure(&p, SERVER_UNREACHABLE, "out of order");

	p = begin(&TARGET, "secret"); /* two switches */
	greet(&p, &(struct greeting){0});
	put_switch(&p.in, 2, MY_NATIVE_NAME);
	feed(&p);
	put_switch(&p.in, 4, MY_SHA2_NAME);
	feed(&p);
	expect_failure(&p, SERVER_UNREACHABLE, "out of turn");

	p = begin(&TARGET, "secret"); /* more than a login may hold */
	my_put(&p.in, "\xff\xff\xff\0", 4);
	feed(&p);
	expect_failure(&p, SERVER_UNREACHABLE, "16777215 bytes");

	p = begin(&TARGET, "secret"); /* an empty packet */
	my_put(&p.in, "\0\0\0\0", 4);
	feed(&p);
	expect_failure(&p, SERVER_UNREACHABLE, "malformed");

	p = begin(&TARGET, "secret"); /* the key that is none */
	greet(&p, &(struct greeting){0});
	put_more(&p.in, 2, "\4", 1);
	feed(&p);
	put_more(&p.in, 4, "no key", 6);
	feed(&p);
	expect_failure(&p, SERVER_UNREACHABLE, "no public RSA key");
}
END_TEST

/* ---- cuts ---- */

/* A whole login with a switch and a full exchange, as the server says it, but for the key. */
static void put_session(struct my_builder *b, const char *pem, size_t pem_len, size_t ends[5]) {
	put_greeting(b, &(struct greeting){.plugin = MY_NATIVE_NAME});
	ends[0] = buf_len(&b->buf);
	put_switch(b, 2, MY_SHA2_NAME);
	ends[1] = buf_len(&b->buf);
	put_more(b, 4, "\4", 1);
	ends[2] = buf_len(&b->buf);
	put_more(b, 6, pem, pem_len);
	ends[3] = buf_len(&b->buf);
	put_ok(b, 8);
	ends[4] = buf_len(&b->buf);
}

START_TEST(a_login_cut_at_every_byte_goes_the_same_way) {
	struct evp_pkey_st *key = my_rsa_generate();
	struct my_builder b = my_builder(NULL);
	char pem[MY_RSA_PEM_MAX];
	size_t ends[5];

	put_session(&b, pem, my_rsa_public(key, pem), ends);
	for (size_t cut = 0; cut <= buf_len(&b.buf); cut++) {
		struct play p = begin(&TARGET, "secret");
		size_t at = 0;
		p.step = MY_DIAL_MORE;
		for (size_t i = 0; i < 5; i++) {
			/* what is between two answers comes in one piece, or in two */
			size_t stops[] = {cut > at && cut < ends[i] ? cut : ends[i], ends[i]};
			for (size_t s = 0; s < 2 && at < ends[i]; s++) {
				size_t used = 0, len = stops[s] - at;
				uint8_t *copy = malloc(len + 1); /* so that a sanitizer sees a read behind it */
				memcpy(copy, buf_bytes(&b.buf) + at, len);
				my_builder_release(&p.out);
				p.out = my_builder(NULL);
				p.step = my_dial_input(&p.dial, copy, len, &used, &p.out);
				free(copy);
				ck_assert_msg(p.step != MY_DIAL_FAILED, "cut at %zu: %s", cut, p.dial.failure.text);
				ck_assert(used == 0 || at + used == ends[i]);
				at += used;
			}
			ck_assert_uint_eq(at, ends[i]);
		}
		ck_assert_int_eq(p.step, MY_DIAL_DONE);
		end(&p);
	}
	my_builder_release(&b);
	my_rsa_free(key);
}
END_TEST

START_TEST(packets_that_end_too_early_are_survived) {
	struct my_builder b = my_builder(NULL);
	size_t ends[5];

	put_session(&b, "key", 3, ends);
	for (size_t i = 0; i < 5; i++) {
		size_t from = i ? ends[i - 1] : 0, len = ends[i] - from;
		for (size_t keep = MY_HEADER; keep < len; keep++) {
			struct play p = begin(&TARGET, "secret");
			if (i > 0) {
				greet(&p, &(struct greeting){.plugin = MY_NATIVE_NAME});
				p.dial.sequence = buf_bytes(&b.buf)[from + 3];
			}
			/* its header says so, too */
			uint8_t *copy = malloc(keep);
			size_t used = 0;
			memcpy(copy, buf_bytes(&b.buf) + from, keep);
			my_write_header(copy, (uint32_t)(keep - MY_HEADER), copy[3]);
			my_builder_release(&p.out);
			p.out = my_builder(NULL);
			p.step = my_dial_input(&p.dial, copy, keep, &used, &p.out);
			free(copy);
			ck_assert_int_ne(p.step, MY_DIAL_TLS);
			if (i == 0)
				ck_assert_int_eq(p.step, MY_DIAL_FAILED);
			end(&p);
		}
	}
	my_builder_release(&b);
}
END_TEST

START_TEST(any_byte_of_the_greeting_changed_is_survived) {
	struct my_builder b = my_builder(NULL);

	put_greeting(&b, &(struct greeting){0});
	for (size_t i = MY_HEADER; i < buf_len(&b.buf); i++) {
		for (unsigned v = 0; v < 256; v += 5) {
			struct play p = begin(&TARGET, "secret");
			size_t used = 0, len = buf_len(&b.buf);
			uint8_t *copy = malloc(len);
			memcpy(copy, buf_bytes(&b.buf), len);
			copy[i] = (uint8_t)v;
			p.step = my_dial_input(&p.dial, copy, len, &used, &p.out);
			free(copy);
			ck_assert(p.step == MY_DIAL_FAILED ? p.dial.failure.text[0] != 0 : buf_len(&p.out.buf) > 0);
			end(&p);
		}
	}
	my_builder_release(&b);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("dialling MySQL");
	TCase *tc = tcase_create("dial");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, response_says_who_and_proves_it);
	tcase_add_test(tc, mariadb_is_known_by_its_version_and_never_asked_for_its_own_capabilities);
	tcase_add_test(tc, found_rows_is_asked_for_where_it_is_wanted);
	tcase_add_test(tc, a_switch_is_followed_with_its_own_challenge);
	tcase_add_test(tc, recovered_sha1_is_enough_for_native_and_not_for_sha2);
	tcase_add_test(tc, full_exchange_hides_the_password_by_rsa);
	tcase_add_test(tc, full_exchange_uses_the_key_that_is_known);
	tcase_add_test(tc, a_key_that_the_server_sends_is_not_believed_unless_it_may_be);
	tcase_add_test(tc, the_password_itself_goes_only_where_nobody_is_in_between);
	tcase_add_test(tc, no_password_is_an_empty_answer);
	tcase_add_test(tc, errors_are_classed_also_before_the_greeting);
	tcase_add_test(tc, tls_is_not_done_without_where_it_must_be);
	tcase_add_test(tc, a_refusal_without_tls_says_that_tls_may_help);
	tcase_add_test(tc, bytes_behind_the_greeting_do_not_count_as_encrypted);
	tcase_add_test(tc, packets_out_of_turn_are_refused);
	tcase_add_test(tc, a_login_cut_at_every_byte_goes_the_same_way);
	tcase_add_test(tc, packets_that_end_too_early_are_survived);
	tcase_add_test(tc, any_byte_of_the_greeting_changed_is_survived);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
