/* SCRAM: the example of RFC 7677, client against server, and every way in which a message can be wrong. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "pgsql/password.h"
#include "pgsql/scram.h"

static const struct scram_binding no_binding;
static const struct scram_binding binding = {.len = 32, .bytes = "0123456789abcdef0123456789abcde"};
static const struct scram_binding other_binding = {.len = 32, .bytes = "another certificate's hash......"};

static struct scram_secret secret_of(const char *password, struct scram_keys *keys) {
	struct scram_secret secret = {.salt = {.iterations = 64, .len = 16, .bytes = "sixteen bytes..."}};
	struct scram_keys own;
	if (!keys)
		keys = &own;
	ck_assert(scram_derive(password, &secret.salt, keys));
	memcpy(secret.stored, keys->stored, SCRAM_KEY);
	memcpy(secret.server, keys->server, SCRAM_KEY);
	return secret;
}

/* One whole exchange; what each side finds. */
struct outcome {
	enum scram_result first, final, verify, challenge, client;
	uint8_t client_key[SCRAM_KEY];
	struct error error;
};

static struct outcome exchange(const struct scram_secret *secret, const char *password,
			       const struct scram_binding *client_side, bool client_plus,
			       const struct scram_binding *server_side, bool server_plus) {
	struct outcome o = {0};
	struct scram_client *client = scram_client_new(client_side, client_plus);
	struct scram_server *server = scram_server_new(server_side, server_plus);
	struct scram_salt salt = {0};
	struct scram_keys keys;
	const char *out = NULL;

	o.final = o.verify = o.challenge = o.client = SCRAM_MALFORMED;
	const char *first = scram_client_first(client);
	o.first = scram_server_first(server, &secret->salt, first, strlen(first), &out, &o.error);
	if (o.first != SCRAM_OK)
		goto over;
	o.challenge = scram_client_challenge(client, out, strlen(out), &salt, &o.error);
	ck_assert_int_eq(o.challenge, SCRAM_OK);
	ck_assert(scram_salt_equal(&salt, &secret->salt));
	ck_assert(scram_derive(password, &salt, &keys));
	const char *final = scram_client_final(client, &keys);
	o.final = scram_server_final(server, final, strlen(final), &o.error);
	if (o.final != SCRAM_OK)
		goto over;
	o.verify = scram_server_verify(server, secret, o.client_key, &out);
	if (o.verify == SCRAM_OK)
		o.client = scram_client_verify(client, out, strlen(out), &o.error);
over:
	scram_client_free(client);
	scram_server_free(server);
	return o;
}

/* RFC 7677, section 3: user "user", password "pencil". */
START_TEST(keys_are_those_of_the_rfc) {
	struct scram_salt salt = {.iterations = 4096};
	struct scram_keys keys;
	ck_assert(base64_decode("W22ZaJ0SNY7soEsUEjb6gQ==", 24, salt.bytes, sizeof salt.bytes, &salt.len));
	ck_assert(scram_derive("pencil", &salt, &keys));
	char text[45];
	/* As PostgreSQL stores them: ClientKey is only seen through its hash. */
	base64_encode(keys.stored, SCRAM_KEY, text);
	ck_assert_str_eq(text, "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=");
	base64_encode(keys.server, SCRAM_KEY, text);
	ck_assert_str_eq(text, "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=");
}
END_TEST

START_TEST(client_and_server_agree) {
	struct scram_keys keys;
	struct scram_secret secret = secret_of("pencil", &keys);
	static const struct {
		const struct scram_binding *client, *server;
		bool plus;
	} cases[] = {
		{&no_binding, &no_binding, false},
		{&binding, &binding, true},
		{&no_binding, &binding, false}, /* a client without channel binding */
		{&binding, &no_binding, false}, /* a server without it: flag y */
	};
	bool plus = cases[_i].plus;
	struct outcome o = exchange(&secret, "pencil", cases[_i].client, plus, cases[_i].server, plus);
	ck_assert_int_eq(o.verify, SCRAM_OK);
	ck_assert_int_eq(o.client, SCRAM_OK);
	ck_assert_mem_eq(o.client_key, keys.client, SCRAM_KEY);
}
END_TEST

START_TEST(wrong_password_is_found_and_reveals_no_key) {
	struct scram_secret secret = secret_of("pencil", NULL);
	static const uint8_t zeros[SCRAM_KEY];
	struct outcome o = exchange(&secret, "Pencil", &no_binding, false, &no_binding, false);
	ck_assert_int_eq(o.final, SCRAM_OK);
	ck_assert_int_eq(o.verify, SCRAM_WRONG);
	ck_assert_mem_eq(o.client_key, zeros, SCRAM_KEY);
}
END_TEST

START_TEST(server_that_does_not_know_the_secret_is_found) {
	struct scram_secret secret = secret_of("pencil", NULL);
	memset(secret.server, 7, SCRAM_KEY);
	struct outcome o = exchange(&secret, "pencil", &no_binding, false, &no_binding, false);
	ck_assert_int_eq(o.verify, SCRAM_OK);
	ck_assert_int_eq(o.client, SCRAM_WRONG);
}
END_TEST

START_TEST(tls_that_ends_at_another_certificate_is_found) {
	struct scram_secret secret = secret_of("pencil", NULL);
	struct outcome o = exchange(&secret, "pencil", &other_binding, true, &binding, true);
	ck_assert_int_eq(o.final, SCRAM_BINDING);
}
END_TEST

START_TEST(downgrade_from_plus_is_found) {
	/* The client could bind but believes that PLUS was not offered, and it was. */
	struct scram_secret secret = secret_of("pencil", NULL);
	struct outcome o = exchange(&secret, "pencil", &binding, false, &binding, false);
	ck_assert_int_eq(o.first, SCRAM_BINDING);
}
END_TEST

START_TEST(mechanism_and_flag_must_fit) {
	struct scram_secret secret = secret_of("pencil", NULL);
	struct outcome o = exchange(&secret, "pencil", &no_binding, false, &binding, true);
	ck_assert_int_eq(o.first, SCRAM_MALFORMED);
	o = exchange(&secret, "pencil", &binding, true, &binding, false);
	ck_assert_int_eq(o.first, SCRAM_MALFORMED);
}
END_TEST

static enum scram_result give_first(const char *message, size_t len) {
	struct scram_secret secret = secret_of("x", NULL);
	struct scram_server *server = scram_server_new(&no_binding, false);
	struct error error = {0};
	const char *out;
	char *copy = malloc(len ? len : 1); /* of exactly this size, for the sanitizer */
	memcpy(copy, message, len);
	enum scram_result result = scram_server_first(server, &secret.salt, copy, len, &out, &error);
	free(copy);
	scram_server_free(server);
	return result;
}

static const struct {
	const char *message;
	enum scram_result expect;
} firsts[] = {
	{"n,,n=,r=abc", SCRAM_OK},
	{"n,,n=user,r=abc", SCRAM_OK},
	{"y,,n=,r=abc", SCRAM_OK},
	{"n,,n=,r=abc,x=extension", SCRAM_OK},
	{"", SCRAM_MALFORMED},
	{"n", SCRAM_MALFORMED},
	{"n,", SCRAM_MALFORMED},
	{"n,,", SCRAM_MALFORMED},
	{"z,,n=,r=abc", SCRAM_MALFORMED},
	{"nn,n=,r=abc", SCRAM_MALFORMED},
	{"n,a=admin,n=,r=abc", SCRAM_UNSUPPORTED},
	{"n,,m=x,n=,r=abc", SCRAM_UNSUPPORTED},
	{"p=tls-unique,,n=,r=abc", SCRAM_MALFORMED},
	{"n,,r=abc", SCRAM_MALFORMED},
	{"n,,n=", SCRAM_MALFORMED},
	{"n,,n=,r=", SCRAM_MALFORMED},
	{"n,,n=,r=a b", SCRAM_MALFORMED},
	{"n,,n=,r=\x7f", SCRAM_MALFORMED},
	{"n,,n=,r=\xc3\xa4", SCRAM_MALFORMED},
	{"n,,n=,r=abc,", SCRAM_MALFORMED},
	{"n,,n=,r=abc,=x", SCRAM_MALFORMED},
	{"n,,n=,r=abc,1=x", SCRAM_MALFORMED},
};

START_TEST(client_first_message_is_checked) {
	ck_assert_int_eq(give_first(firsts[_i].message, strlen(firsts[_i].message)), firsts[_i].expect);
}
END_TEST

START_TEST(client_first_message_with_a_zero_or_a_huge_nonce_is_refused) {
	static char huge[4000] = "n,,n=,r=";
	ck_assert_int_eq(give_first("n,,n=,r=a\0b", 11), SCRAM_MALFORMED);
	memset(huge + 8, 'x', sizeof huge - 8);
	ck_assert_int_eq(give_first(huge, sizeof huge), SCRAM_MALFORMED);
	ck_assert_int_eq(give_first(huge, 8 + 300), SCRAM_OK);
}
END_TEST

/* Both messages of a client with something done to the second one. */
static void make_final(struct scram_server *server, const struct scram_secret *secret, const struct scram_keys *keys,
		       char *out, size_t room) {
	struct scram_client *client = scram_client_new(&no_binding, false);
	const char *first = scram_client_first(client), *answer;
	struct scram_salt salt;
	struct error error;
	ck_assert_int_eq(scram_server_first(server, &secret->salt, first, strlen(first), &answer, &error), SCRAM_OK);
	ck_assert_int_eq(scram_client_challenge(client, answer, strlen(answer), &salt, &error), SCRAM_OK);
	snprintf(out, room, "%s", scram_client_final(client, keys));
	scram_client_free(client);
}

START_TEST(no_change_of_a_byte_of_the_final_message_gets_in) {
	struct scram_keys keys;
	struct scram_secret secret = secret_of("pencil", &keys);
	char final[400];
	size_t len = 1;
	for (size_t i = 0; i < len; i++) {
		for (int bit = 0; bit < 8; bit++) {
			struct scram_server *server = scram_server_new(&no_binding, false);
			struct error error;
			uint8_t key[SCRAM_KEY];
			const char *out;
			make_final(server, &secret, &keys, final, sizeof final);
			len = strlen(final);
			final[i] = (char)(final[i] ^ 1 << bit);
			enum scram_result result = scram_server_final(server, final, len, &error);
			if (result == SCRAM_OK)
				result = scram_server_verify(server, &secret, key, &out);
			ck_assert_int_ne(result, SCRAM_OK);
			scram_server_free(server);
		}
	}
}
END_TEST

START_TEST(no_cut_or_longer_final_message_gets_in) {
	struct scram_keys keys;
	struct scram_secret secret = secret_of("pencil", &keys);
	char final[400];
	size_t len = 1;
	for (size_t cut = 0; cut <= len + 4; cut++) {
		struct scram_server *server = scram_server_new(&no_binding, false);
		struct error error;
		uint8_t key[SCRAM_KEY];
		const char *out;
		memset(final, 'A', sizeof final);
		make_final(server, &secret, &keys, final, 300);
		len = strlen(final);
		final[len] = 'A';
		char *copy = malloc(cut ? cut : 1);
		memcpy(copy, final, cut);
		enum scram_result result = scram_server_final(server, copy, cut, &error);
		if (result == SCRAM_OK)
			result = scram_server_verify(server, &secret, key, &out);
		ck_assert_int_eq(result == SCRAM_OK, cut == len);
		free(copy);
		scram_server_free(server);
	}
}
END_TEST

START_TEST(messages_out_of_turn_are_refused) {
	struct scram_secret secret = secret_of("pencil", NULL);
	struct scram_server *server = scram_server_new(&no_binding, false);
	struct scram_client *client = scram_client_new(&no_binding, false);
	struct scram_keys keys = {0};
	struct scram_salt salt;
	struct error error;
	uint8_t key[SCRAM_KEY];
	const char *out;
	ck_assert_int_eq(scram_server_final(server, "c=biws,r=x,p=", 13, &error), SCRAM_MALFORMED);
	ck_assert_int_eq(scram_server_verify(server, &secret, key, &out), SCRAM_MALFORMED);
	ck_assert_ptr_null(scram_client_final(client, &keys));
	ck_assert_int_eq(scram_client_verify(client, "v=AAAA", 6, &error), SCRAM_MALFORMED);
	const char *first = scram_client_first(client);
	ck_assert_int_eq(scram_server_first(server, &secret.salt, first, strlen(first), &out, &error), SCRAM_OK);
	ck_assert_int_eq(scram_server_first(server, &secret.salt, first, strlen(first), &out, &error), SCRAM_MALFORMED);
	ck_assert_int_eq(scram_client_challenge(client, out, strlen(out), &salt, &error), SCRAM_OK);
	ck_assert_int_eq(scram_client_challenge(client, out, strlen(out), &salt, &error), SCRAM_MALFORMED);
	scram_server_free(server);
	scram_client_free(client);
}
END_TEST

/* A hostile server's first message: %s is the client's nonce. */
static const struct {
	const char *format;
	enum scram_result expect;
} challenges[] = {
	{"r=%sX,s=QUJD,i=4096", SCRAM_OK},
	{"r=%sX,s=QUJD,i=4096,x=extension", SCRAM_OK},
	{"r=%sX,s=QUJD,i=10000000", SCRAM_OK},
	{"r=%sX,s=QUJD,i=10000001", SCRAM_UNSUPPORTED},
	{"r=%sX,s=QUJD,i=99999999999999999999", SCRAM_MALFORMED},
	{"r=%sX,s=QUJD,i=0", SCRAM_MALFORMED},
	{"r=%sX,s=QUJD,i=-1", SCRAM_MALFORMED},
	{"r=%sX,s=QUJD,i=", SCRAM_MALFORMED},
	{"r=%sX,s=QUJD,i=1x", SCRAM_MALFORMED},
	{"r=%sX,s=QUJD", SCRAM_MALFORMED},
	{"r=%sX,s=,i=4096", SCRAM_MALFORMED},
	{"r=%sX,s=QUJ,i=4096", SCRAM_MALFORMED},
	{"r=%sX,s=QU==D,i=4096", SCRAM_MALFORMED},
	{"r=%s,s=QUJD,i=4096", SCRAM_MALFORMED}, /* adds nothing of its own */
	{"r=X%s,s=QUJD,i=4096", SCRAM_MALFORMED},
	{"r=,s=QUJD,i=4096", SCRAM_MALFORMED},
	{"m=x,r=%sX,s=QUJD,i=4096", SCRAM_UNSUPPORTED},
	{"", SCRAM_MALFORMED},
	{"e=other-error", SCRAM_MALFORMED},
};

START_TEST(server_first_message_is_checked) {
	struct scram_client *client = scram_client_new(&no_binding, false);
	const char *nonce = strstr(scram_client_first(client), "r=") + 2;
	struct scram_salt salt;
	struct error error;
	char message[200];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(message, sizeof message, challenges[_i].format, nonce);
#pragma GCC diagnostic pop
	enum scram_result result = scram_client_challenge(client, message, strlen(message), &salt, &error);
	ck_assert_int_eq(result, challenges[_i].expect);
	scram_client_free(client);
}
END_TEST

START_TEST(huge_nonce_and_salt_of_a_server_are_refused) {
	static char message[5000];
	for (int which = 0; which < 2; which++) {
		struct scram_client *client = scram_client_new(&no_binding, false);
		const char *nonce = strstr(scram_client_first(client), "r=") + 2;
		struct scram_salt salt;
		struct error error;
		char filler[2001];
		memset(filler, 'A', sizeof filler - 1);
		filler[sizeof filler - 1] = '\0';
		snprintf(message, sizeof message, "r=%s%s,s=%s,i=4096", nonce, which == 0 ? filler : "x",
			 which == 1 ? filler : "QUJD");
		ck_assert_int_eq(scram_client_challenge(client, message, strlen(message), &salt, &error),
				 SCRAM_MALFORMED);
		scram_client_free(client);
	}
}
END_TEST

START_TEST(stored_secret_is_parsed_strictly) {
	static const char good[] = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
				   "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
				   "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
	struct scram_secret secret;
	ck_assert(scram_secret_parse(good, &secret));
	ck_assert_uint_eq(secret.salt.iterations, 4096);
	ck_assert_uint_eq(secret.salt.len, 16);
	for (size_t cut = 0; cut < sizeof good - 1; cut++) {
		char *copy = strndup(good, cut);
		ck_assert(!scram_secret_parse(copy, &secret));
		free(copy);
	}
	ck_assert(!scram_secret_parse("SCRAM-SHA-256$0:QUJD$QUJD:QUJD", &secret));
	ck_assert(!scram_secret_parse("SCRAM-SHA-512$4096:QUJD$QUJD:QUJD", &secret));
}
END_TEST

START_TEST(base64_is_strict_and_its_own_inverse) {
	uint8_t bytes[64], back[64];
	char text[100];
	size_t len;
	for (size_t n = 0; n <= 64; n++) {
		ck_assert(secret_random(bytes, n));
		base64_encode(bytes, n, text);
		ck_assert_uint_eq(strlen(text) + 1, base64_size(n));
		ck_assert(base64_decode(text, strlen(text), back, sizeof back, &len));
		ck_assert_uint_eq(len, n);
		ck_assert_mem_eq(bytes, back, n);
		if (n > 0)
			ck_assert(!base64_decode(text, strlen(text), back, n - 1, &len));
	}
	static const char *const bad[] = {"A",	  "AA",	  "AAA",      "AB==",  "AAB=", "A===",
					  "====", "AA=A", "AAAA====", "AAA\n", "A AA"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		ck_assert_msg(!base64_decode(bad[i], strlen(bad[i]), back, sizeof back, &len), "%s", bad[i]);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("scram");
	TCase *tc = tcase_create("scram");
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, keys_are_those_of_the_rfc);
	tcase_add_loop_test(tc, client_and_server_agree, 0, 4);
	tcase_add_test(tc, wrong_password_is_found_and_reveals_no_key);
	tcase_add_test(tc, server_that_does_not_know_the_secret_is_found);
	tcase_add_test(tc, tls_that_ends_at_another_certificate_is_found);
	tcase_add_test(tc, downgrade_from_plus_is_found);
	tcase_add_test(tc, mechanism_and_flag_must_fit);
	tcase_add_loop_test(tc, client_first_message_is_checked, 0, (int)(sizeof firsts / sizeof firsts[0]));
	tcase_add_test(tc, client_first_message_with_a_zero_or_a_huge_nonce_is_refused);
	tcase_add_test(tc, no_change_of_a_byte_of_the_final_message_gets_in);
	tcase_add_test(tc, no_cut_or_longer_final_message_gets_in);
	tcase_add_test(tc, messages_out_of_turn_are_refused);
	tcase_add_loop_test(tc, server_first_message_is_checked, 0, (int)(sizeof challenges / sizeof challenges[0]));
	tcase_add_test(tc, huge_nonce_and_salt_of_a_server_are_refused);
	tcase_add_test(tc, stored_secret_is_parsed_strictly);
	tcase_add_test(tc, base64_is_strict_and_its_own_inverse);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
