/* What servers log in with: which secret can answer what, and which one is kept. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgsql/credential.h"
#include "pgsql/verifier.h"

static const char scram_text[] = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
				 "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
				 "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="; /* password "pencil" */
/* md5 of "secret" and user "joe" */
static const char md5_text[] = "md5ca2ed4de49294eb2aa10f6f3a5e0af30";

static const char *md5_of_joe(char out[MD5_SECRET_SIZE]) {
	ck_assert(md5_secret("secret", 6, "joe", 3, out));
	return out;
}

START_TEST(secrets_are_told_apart_by_their_form) {
	ck_assert(pg_secret_is_mysqls("*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19"));
	ck_assert(!pg_secret_is_mysqls("*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E1"));
	ck_assert(pg_secret_is_mysqls("$A$005$aaaaaaaaaaaaaaaaaaaabTy95Y99eAME1dwEkHOA1ndHGBWz.1bxSSRkuTXFGV/"));
	ck_assert(!pg_secret_is_mysqls("$A$005$") && !pg_secret_is_mysqls(""));
	ck_assert_int_eq(pg_secret_type_of(NULL), PG_SECRET_NONE);
	ck_assert_int_eq(pg_secret_type_of(""), PG_SECRET_PLAIN);
	ck_assert_int_eq(pg_secret_type_of("md5"), PG_SECRET_PLAIN);
	ck_assert_int_eq(pg_secret_type_of(md5_text), PG_SECRET_MD5);
	ck_assert_int_eq(pg_secret_type_of("md5CA2ed4de49294eb2aa10f6f3a5e0af30"), PG_SECRET_PLAIN);
	ck_assert_int_eq(pg_secret_type_of(scram_text), PG_SECRET_SCRAM);
	/* looks like one, but is not: a password */
	struct pg_credential *c = pg_credential_new("joe", "SCRAM-SHA-256$nonsense");
	ck_assert_str_eq(pg_credential_plaintext(c), "SCRAM-SHA-256$nonsense");
	pg_credential_unref(c);
}
END_TEST

START_TEST(md5_answer_is_the_same_from_password_and_hash) {
	char stored[MD5_SECRET_SIZE], a[MD5_SECRET_SIZE], b[MD5_SECRET_SIZE];
	const uint8_t salt[4] = {1, 2, 3, 4};
	struct pg_credential *plain = pg_credential_new("joe", "secret");
	struct pg_credential *hash = pg_credential_new("joe", md5_of_joe(stored));
	struct pg_credential *scram = pg_credential_new("joe", scram_text);
	ck_assert(pg_credential_md5_answer(plain, "joe", salt, a));
	ck_assert(pg_credential_md5_answer(hash, "joe", salt, b));
	ck_assert_str_eq(a, b);
	ck_assert(!pg_credential_md5_answer(scram, "joe", salt, a));
	ck_assert(!pg_credential_md5_answer(NULL, "joe", salt, a));
	ck_assert_ptr_null(pg_credential_plaintext(hash));
	pg_credential_unref(plain);
	pg_credential_unref(hash);
	pg_credential_unref(scram);
}
END_TEST

START_TEST(keys_of_a_password_are_derived_once_for_a_salt) {
	struct pg_credential *c = pg_credential_new("joe", "pencil");
	struct scram_salt salt = {.iterations = 4096, .len = 4, .bytes = "salt"}, other = salt;
	struct scram_keys a, b;
	ck_assert_int_eq(pg_credential_keys(c, &salt, &a), PG_KEYS_DERIVE);
	ck_assert(pg_credential_derive(c, &salt, &a));
	ck_assert_int_eq(pg_credential_keys(c, &salt, &b), PG_KEYS_READY);
	ck_assert_mem_eq(&a, &b, sizeof a);
	other.iterations++;
	ck_assert_int_eq(pg_credential_keys(c, &other, &b), PG_KEYS_DERIVE);
	pg_credential_unref(c);
}
END_TEST

START_TEST(recovered_keys_serve_only_the_secret_they_are_of) {
	struct scram_secret secret;
	struct scram_keys keys, got;
	ck_assert(scram_secret_parse(scram_text, &secret));
	ck_assert(scram_derive("pencil", &secret.salt, &keys));
	struct pg_credential *c = pg_credential_recovered("joe", scram_text, NULL, keys.client);
	ck_assert_int_eq(pg_credential_keys(c, &secret.salt, &got), PG_KEYS_READY);
	ck_assert_mem_eq(got.client, keys.client, SCRAM_KEY);
	ck_assert_mem_eq(got.stored, keys.stored, SCRAM_KEY);
	ck_assert_mem_eq(got.server, keys.server, SCRAM_KEY);
	secret.salt.bytes[0] ^= 1;
	ck_assert_int_eq(pg_credential_keys(c, &secret.salt, &got), PG_KEYS_OTHER_SALT);
	struct pg_credential *without = pg_credential_new("joe", scram_text);
	ck_assert_int_eq(pg_credential_keys(without, &secret.salt, &got), PG_KEYS_NONE);
	ck_assert_int_eq(pg_credential_keys(NULL, &secret.salt, &got), PG_KEYS_NONE);
	pg_credential_unref(without);
	pg_credential_unref(c);
}
END_TEST

START_TEST(better_credential_is_kept_until_the_secret_changes) {
	uint8_t key[SCRAM_KEY] = {1};
	struct pg_credential *none = pg_credential_new("joe", NULL);
	struct pg_credential *bare = pg_credential_recovered("joe", scram_text, NULL, NULL);
	struct pg_credential *keys = pg_credential_recovered("joe", scram_text, NULL, key);
	struct pg_credential *plain = pg_credential_recovered("joe", scram_text, "pencil", NULL);
	struct pg_credential *changed = pg_credential_recovered("joe", md5_text, NULL, NULL);
	ck_assert(pg_credential_better(NULL, none));
	ck_assert(pg_credential_better(none, bare));
	ck_assert(pg_credential_better(bare, keys));
	ck_assert(pg_credential_better(keys, plain));
	ck_assert(!pg_credential_better(plain, keys));
	ck_assert(!pg_credential_better(keys, bare));
	ck_assert(!pg_credential_better(keys, keys));
	ck_assert(!pg_credential_better(plain, none));
	ck_assert(pg_credential_better(plain, changed));
	pg_credential_unref(none);
	pg_credential_unref(bare);
	pg_credential_unref(keys);
	pg_credential_unref(plain);
	pg_credential_unref(changed);
}
END_TEST

/* The short way must never say that there is nothing new where there is. */
START_TEST(what_covers_a_login_is_no_worse_than_it) {
	uint8_t key[SCRAM_KEY] = {1};
	const char *const stored[] = {NULL, "", "pencil", "other", md5_text, scram_text};
	enum { STORED = sizeof stored / sizeof stored[0] };
	int covered = 0;
	for (int i = 0; i < STORED * 3; i++) {
		const char *before = stored[i % STORED];
		bool scram = before == scram_text;
		struct pg_credential *old = i / STORED == 0 ? pg_credential_new("joe", before)
								: pg_credential_recovered("joe", before,
											  i / STORED == 2 ? "pencil" : NULL,
											  scram && i / STORED == 1 ? key : NULL);
		for (int j = 0; j < STORED * 2; j++) {
			const char *now = stored[j % STORED];
			bool has_key = now == scram_text && j >= STORED;
			struct pg_credential *fresh = pg_credential_recovered("joe", now, NULL, has_key ? key : NULL);
			bool covers = pg_credential_covers(old, now, has_key);
			ck_assert_msg(!covers || !pg_credential_better(old, fresh), "%d, %d", i, j);
			covered += covers;
			pg_credential_unref(fresh);
		}
		pg_credential_unref(old);
	}
	ck_assert(!pg_credential_covers(NULL, NULL, false));
	ck_assert_int_ge(covered, STORED * 3); /* that of a user who comes again, above all */
	struct pg_credential *keys = pg_credential_recovered("joe", scram_text, NULL, key);
	ck_assert(pg_credential_covers(keys, scram_text, true));
	pg_credential_unref(keys);
}
END_TEST

START_TEST(salt_of_a_user_is_always_the_same_and_its_own) {
	struct scram_salt a, b, c;
	ck_assert(verifier_salt("nobody", &a));
	ck_assert(verifier_salt("nobody", &b));
	ck_assert(verifier_salt("somebody", &c));
	ck_assert(scram_salt_equal(&a, &b));
	ck_assert(!scram_salt_equal(&a, &c));
	ck_assert_uint_eq(a.iterations, 4096);
	ck_assert_uint_eq(a.len, 16);
}
END_TEST

START_TEST(derived_keys_are_found_by_user_and_password_together) {
	struct scram_salt salt;
	struct scram_keys keys;
	struct scram_secret secret;
	ck_assert(verifier_salt("joe", &salt));
	ck_assert(!verifier_find("joe", "secret", &secret));
	ck_assert(scram_derive("secret", &salt, &keys));
	verifier_keep("joe", "secret", &keys);
	ck_assert(verifier_find("joe", "secret", &secret));
	ck_assert_mem_eq(secret.stored, keys.stored, SCRAM_KEY);
	ck_assert(!verifier_find("joe", "changed", &secret));
	ck_assert(!verifier_find("jo", "esecret", &secret));
}
END_TEST

int main(void) {
	Suite *suite = suite_create("credential");
	TCase *tc = tcase_create("credential");
	tcase_add_test(tc, secrets_are_told_apart_by_their_form);
	tcase_add_test(tc, md5_answer_is_the_same_from_password_and_hash);
	tcase_add_test(tc, keys_of_a_password_are_derived_once_for_a_salt);
	tcase_add_test(tc, recovered_keys_serve_only_the_secret_they_are_of);
	tcase_add_test(tc, better_credential_is_kept_until_the_secret_changes);
	tcase_add_test(tc, what_covers_a_login_is_no_worse_than_it);
	tcase_add_test(tc, salt_of_a_user_is_always_the_same_and_its_own);
	tcase_add_test(tc, derived_keys_are_found_by_user_and_password_together);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
