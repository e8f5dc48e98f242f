/* The arithmetic of MySQL's authentication, against known vectors, and what a credential learns. */
#include <check.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mysql/credential.h"
#include "mysql/plugin.h"

static const uint8_t SCRAMBLE[MY_SCRAMBLE] = "abcdefghijklmnopqrst";

/* ---- stored secrets ---- */

START_TEST(native_secret_is_sha1_twice) {
	uint8_t stored[MY_SHA1], key[MY_SHA1], twice[MY_SHA1];

	/* PASSWORD('password') */
	ck_assert(my_native_parse("*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19", stored));
	my_native_key("password", key);
	my_sha1(key, sizeof key, twice);
	ck_assert_mem_eq(stored, twice, MY_SHA1);
}
END_TEST

/* hashcat's example for its mode 7401. */
static const char SHA2_SALT[] = "\xF9\xCC\x98\xCE\x08\x89\x29\x24\xF5\x0A\x21\x3B\x6B\xC5\x71\xA2\xC1\x17\x78\xC5";
static const char SHA2_HASH[] = "bTy95Y99eAME1dwEkHOA1ndHGBWz.1bxSSRkuTXFGV/";

START_TEST(sha2_secret_is_sha_crypt_with_a_salt_of_20_bytes) {
	char hash[MY_SHA2_HASH + 1], secret[100], hex[200] = "0x";
	struct my_sha2_stored stored;

	ck_assert(my_sha2_hash("hashcat", 7, (const uint8_t *)SHA2_SALT, 5000, hash));
	ck_assert_str_eq(hash, SHA2_HASH);
	snprintf(secret, sizeof secret, "$A$005$%s%s", SHA2_SALT, SHA2_HASH);
	ck_assert(my_sha2_parse(secret, &stored));
	ck_assert_uint_eq(stored.rounds, 5000);
	ck_assert_mem_eq(stored.salt, SHA2_SALT, MY_SHA2_SALT);
	ck_assert_str_eq(stored.hash, SHA2_HASH);
	for (size_t i = 0; secret[i]; i++)
		snprintf(hex + 2 + 2 * i, 3, "%02X", (unsigned char)secret[i]);
	ck_assert(my_sha2_parse(hex, &stored));
	ck_assert_str_eq(stored.hash, SHA2_HASH);
	/* of passwords around the length of a digest */
	char other[MY_SHA2_HASH + 1];
	for (size_t len = 0; len < 70; len++) {
		char password[70];
		memset(password, 'x', sizeof password);
		ck_assert(my_sha2_hash(password, len, (const uint8_t *)SHA2_SALT, 10, hash));
		ck_assert(my_sha2_hash(password, len + 1, (const uint8_t *)SHA2_SALT, 10, other));
		ck_assert_str_ne(hash, other);
	}
}
END_TEST

START_TEST(the_sort_of_a_secret_is_told_and_near_misses_are_passwords) {
	static const struct {
		const char *secret;
		enum my_secret_type type;
	} cases[] = {
		{NULL, MY_SECRET_NONE},
		{"", MY_SECRET_NONE},
		{"secret", MY_SECRET_PLAIN},
		{"*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19", MY_SECRET_NATIVE},
		{"*2470c0c06dee42fd1618bb99005adca2ec9d1e19", MY_SECRET_NATIVE},
		{"*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E1", MY_SECRET_PLAIN},
		{"*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E1G", MY_SECRET_PLAIN},
		{"$A$005$aaaaaaaaaaaaaaaaaaaabTy95Y99eAME1dwEkHOA1ndHGBWz.1bxSSRkuTXFGV/", MY_SECRET_SHA2},
		{"$A$005$aaaaaaaaaaaaaaaaaaaabTy95Y99eAME1dwEkHOA1ndHGBWz.1bxSSRkuTXFGV", MY_SECRET_PLAIN},
		{"$A$000$aaaaaaaaaaaaaaaaaaaabTy95Y99eAME1dwEkHOA1ndHGBWz.1bxSSRkuTXFGV/", MY_SECRET_PLAIN},
		{"$A$0x5$aaaaaaaaaaaaaaaaaaaabTy95Y99eAME1dwEkHOA1ndHGBWz.1bxSSRkuTXFGV/", MY_SECRET_PLAIN},
		{"md53175bce1d3201d16594cebf9d7eb3f9d", MY_SECRET_FOREIGN},
		{"SCRAM-SHA-256$4096:c2FsdA==$YQ==:Yg==", MY_SECRET_FOREIGN},
		{"md5", MY_SECRET_PLAIN},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		ck_assert_msg(my_secret_type_of(cases[i].secret) == cases[i].type, "%s", cases[i].secret);
}
END_TEST

/* ---- proofs ---- */

START_TEST(native_proof_shows_the_key_and_no_other_passes) {
	uint8_t key[MY_SHA1], stored[MY_SHA1], answer[MY_SHA1], shown[MY_SHA1];

	my_native_key("secret", key);
	my_sha1(key, sizeof key, stored);
	my_native_answer(key, SCRAMBLE, answer);
	ck_assert(my_native_check(answer, SCRAMBLE, stored, shown));
	ck_assert_mem_eq(shown, key, MY_SHA1);
	for (size_t bit = 0; bit < 8 * MY_SHA1; bit++) {
		answer[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert(!my_native_check(answer, SCRAMBLE, stored, shown));
		answer[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	ck_assert(!my_native_check(answer, (const uint8_t *)"tsrqponmlkjihgfedcba", stored, shown));
}
END_TEST

START_TEST(sha2_proof_shows_the_key_and_no_other_passes) {
	uint8_t key[MY_SHA256], known[MY_SHA256], answer[MY_SHA256], shown[MY_SHA256];

	my_sha2_key("secret", key);
	my_sha256(key, sizeof key, known);
	my_sha2_answer(key, SCRAMBLE, answer);
	ck_assert(my_sha2_check(answer, SCRAMBLE, known, shown));
	ck_assert_mem_eq(shown, key, MY_SHA256);
	for (size_t bit = 0; bit < 8 * MY_SHA256; bit++) {
		answer[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert(!my_sha2_check(answer, SCRAMBLE, known, shown));
		answer[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}
END_TEST

START_TEST(rsa_hides_and_yields_a_password_only_by_its_key_and_scramble) {
	struct evp_pkey_st *key = my_rsa_generate(), *other = my_rsa_generate();
	char pem[MY_RSA_PEM_MAX], out[MY_RSA_CIPHER_MAX], longest[300];
	uint8_t cipher[MY_RSA_CIPHER_MAX];

	ck_assert(key && other);
	size_t pem_len = my_rsa_public(key, pem);
	ck_assert_uint_gt(pem_len, 0);
	struct evp_pkey_st *public = my_rsa_read_public(pem, pem_len);
	ck_assert(public);
	size_t len = my_rsa_encrypt(public, SCRAMBLE, "a password that is longer than a scramble", cipher);
	ck_assert_uint_eq(len, 256);
	ck_assert(my_rsa_decrypt(key, SCRAMBLE, cipher, len, out, sizeof out));
	ck_assert_str_eq(out, "a password that is longer than a scramble");
	ck_assert(!my_rsa_decrypt(other, SCRAMBLE, cipher, len, out, sizeof out));
	ck_assert(!my_rsa_decrypt(key, SCRAMBLE, cipher, len - 1, out, sizeof out));
	ck_assert(!my_rsa_decrypt(key, (const uint8_t *)"tsrqponmlkjihgfedcba", cipher, len, out, sizeof out));
	memset(longest, 'x', sizeof longest);
	longest[sizeof longest - 1] = '\0';
	ck_assert_uint_eq(my_rsa_encrypt(public, SCRAMBLE, longest, cipher), 0);
	ck_assert(!my_rsa_read_public("no key", 6));
	ck_assert(!my_rsa_read_public(NULL, 0));
	my_rsa_free(public);
	my_rsa_free(key);
	my_rsa_free(other);
}
END_TEST

/* ---- credentials ---- */

static const char STORED[] = "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19";

/* Reads it where there is no terminal but for stdin: 0 where nothing was asked there and it is no key. */
static int read_alone(const char *pem, size_t len, int input) {
	int left = 0;
	pid_t pid = fork();

	if (pid == 0) {
		setsid();
		dup2(input, STDIN_FILENO);
		_exit(my_rsa_read_public(pem, len) ? 2 : ioctl(STDIN_FILENO, FIONREAD, &left) != 0 || left == 0);
	}
	int status = -1;
	ck_assert(pid > 0 && waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* What a backend sends as its key may be a private one that is locked. */
START_TEST(nobody_is_asked_for_the_passphrase_of_a_public_key) {
	struct evp_pkey_st *key = my_rsa_generate();
	BIO *locked = BIO_new(BIO_s_mem());
	char *pem, public[MY_RSA_PEM_MAX];
	int ends[2];

	ck_assert(key && locked && pipe(ends) == 0 && write(ends[1], "secret\n", 7) == 7);
	ck_assert_int_eq(PEM_write_bio_PKCS8PrivateKey(locked, key, EVP_aes_256_cbc(), "secret", 6, NULL, NULL), 1);
	long len = BIO_get_mem_data(locked, &pem);
	ck_assert(len > 0 && len <= MY_RSA_PEM_MAX);
	ck_assert_int_eq(read_alone(pem, (size_t)len, ends[0]), 0);
	/* the old kind of lock, on a key that is public */
	size_t head = strlen("-----BEGIN PUBLIC KEY-----\n"), rest = my_rsa_public(key, public);
	static const char lock[] = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00112233445566778899AABBCCDDEEFF\n\n";
	ck_assert(rest > head && rest + sizeof lock <= sizeof public);
	memmove(public + head + sizeof lock - 1, public + head, rest - head);
	memcpy(public + head, lock, sizeof lock - 1);
	ck_assert_int_eq(read_alone(public, rest + sizeof lock - 1, ends[0]), 0);
	close(ends[0]);
	close(ends[1]);
	BIO_free(locked);
	my_rsa_free(key);
}
END_TEST

START_TEST(credential_of_a_password_knows_all) {
	struct my_credential *c = my_credential_new("password");
	uint8_t key[MY_SHA256];

	my_native_key("password", key);
	ck_assert_mem_eq(my_credential_sha1(c), key, MY_SHA1);
	my_sha2_key("password", key);
	ck_assert_mem_eq(my_credential_sha256(c), key, MY_SHA256);
	ck_assert_str_eq(my_credential_password(c), "password");
	my_credential_unref(c);
	c = my_credential_new(NULL);
	ck_assert(my_credential_is_empty(c));
	my_credential_unref(c);
	ck_assert(my_credential_is_empty(NULL));
}
END_TEST

START_TEST(credential_learns_from_proofs_and_keeps_what_it_knew) {
	uint8_t sha1[MY_SHA1], sha256[MY_SHA256];
	my_native_key("password", sha1);
	my_sha2_key("password", sha256);

	struct my_credential *stored = my_credential_new(STORED);
	ck_assert_ptr_null(my_credential_sha1(stored));
	ck_assert(!my_credential_is_empty(stored));
	struct my_credential *native = my_credential_merged(stored, &(struct my_shown){.stored = STORED, .sha1 = sha1});
	ck_assert_ptr_nonnull(native);
	ck_assert_mem_eq(my_credential_sha1(native), sha1, MY_SHA1);
	ck_assert_ptr_null(my_credential_password(native));
	/* the same again is no news */
	ck_assert_ptr_null(my_credential_merged(native, &(struct my_shown){.stored = STORED, .sha1 = sha1}));
	/* what else is shown of the same secret is added */
	struct my_credential *both = my_credential_merged(native, &(struct my_shown){.stored = STORED, .sha256 = sha256});
	ck_assert_ptr_nonnull(both);
	ck_assert_mem_eq(my_credential_sha1(both), sha1, MY_SHA1);
	ck_assert_mem_eq(my_credential_sha256(both), sha256, MY_SHA256);
	/* one let in by trust, of whom nothing is known, takes nothing away */
	ck_assert_ptr_null(my_credential_merged(both, &(struct my_shown){0}));
	ck_assert_ptr_null(my_credential_merged(both, &(struct my_shown){.stored = STORED}));
	/* another secret, of which something is known, takes its place */
	struct my_credential *changed = my_credential_merged(both, &(struct my_shown){.stored = "changed"});
	ck_assert_ptr_nonnull(changed);
	ck_assert_str_eq(my_credential_password(changed), "changed");
	/* but not a stored secret that nobody has proved yet */
	ck_assert_ptr_null(my_credential_merged(changed, &(struct my_shown){.stored = STORED}));
	my_credential_unref(stored);
	my_credential_unref(native);
	my_credential_unref(both);
	my_credential_unref(changed);
}
END_TEST

START_TEST(postgresqls_secret_is_no_password) {
	struct my_credential *c = my_credential_new("md53175bce1d3201d16594cebf9d7eb3f9d");

	ck_assert_ptr_null(my_credential_password(c));
	ck_assert_ptr_null(my_credential_sha1(c));
	ck_assert(!my_credential_is_empty(c));
	my_credential_unref(c);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("MySQL authentication");
	TCase *tc = tcase_create("plugins");

	tcase_add_test(tc, native_secret_is_sha1_twice);
	tcase_add_test(tc, sha2_secret_is_sha_crypt_with_a_salt_of_20_bytes);
	tcase_add_test(tc, the_sort_of_a_secret_is_told_and_near_misses_are_passwords);
	tcase_add_test(tc, native_proof_shows_the_key_and_no_other_passes);
	tcase_add_test(tc, sha2_proof_shows_the_key_and_no_other_passes);
	tcase_add_test(tc, rsa_hides_and_yields_a_password_only_by_its_key_and_scramble);
	tcase_add_test(tc, nobody_is_asked_for_the_passphrase_of_a_public_key);
	tcase_add_test(tc, credential_of_a_password_knows_all);
	tcase_add_test(tc, credential_learns_from_proofs_and_keeps_what_it_knew);
	tcase_add_test(tc, postgresqls_secret_is_no_password);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
