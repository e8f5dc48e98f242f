/* HBA files and user maps: which line decides, in every form a line can have, and what is refused. */
#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "pgsql/hba.h"
#include "pgsql/ident.h"

static char all_folders[] = "/tmp/forebay-hba-XXXXXX", folder[64];

static void make_folder(void) {
	snprintf(folder, sizeof folder, "%s/XXXXXX", all_folders);
	ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void remove_folder(void) {
	char command[128];
	snprintf(command, sizeof command, "rm -r %s", folder);
	ck_assert_int_eq(system(command), 0);
}

static const char *write_file(const char *name, const char *text) {
	static char path[128];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	FILE *out = fopen(path, "w");
	ck_assert_ptr_nonnull(out);
	fputs(text, out);
	fclose(out);
	return path;
}

static struct hba *load(const char *text) {
	struct error error = {0};
	struct hba *hba = hba_load(write_file("hba.conf", text), &error);
	ck_assert_msg(hba != NULL, "%s", error.text);
	return hba;
}

/* Who asks: "local", or an IP address. */
static const struct hba_verdict *ask(const struct hba *hba, const char *from, bool tls, const char *database,
				     const char *user, bool physical) {
	struct sockaddr_storage address = {0};
	struct sockaddr_in *in = (void *)&address;
	struct sockaddr_in6 *in6 = (void *)&address;
	if (strcmp(from, "local") == 0) {
		address.ss_family = AF_UNIX;
	} else if (inet_pton(AF_INET, from, &in->sin_addr) == 1) {
		address.ss_family = AF_INET;
	} else {
		ck_assert_int_eq(inet_pton(AF_INET6, from, &in6->sin6_addr), 1);
		address.ss_family = AF_INET6;
	}
	const struct hba_client client = {
		.address = (const void *)&address,
		.tls = tls,
		.database = database,
		.user = user,
		.physical_replication = physical,
	};
	return hba_match(hba, &client);
}

/* The line of a one-line file matches. */
static bool matches(const char *line, const char *from, bool tls, const char *database, const char *user) {
	struct hba *hba = load(line);
	bool found = ask(hba, from, tls, database, user, false) != NULL;
	hba_free(hba);
	return found;
}

START_TEST(first_matching_line_decides) {
	struct hba *hba = load("# comment\n"
			       "local all all trust\n"
			       "host shop joe 10.0.0.0/8 reject\n"
			       "host shop all 10.0.0.0/8 scram-sha-256\n"
			       "\n"
			       "hostssl all all all md5   # the rest\n");
	ck_assert_int_eq(ask(hba, "local", false, "x", "y", false)->method, HBA_TRUST);
	ck_assert_int_eq(ask(hba, "10.1.2.3", false, "shop", "joe", false)->method, HBA_REJECT);
	ck_assert_int_eq(ask(hba, "10.1.2.3", false, "shop", "jane", false)->method, HBA_SCRAM);
	ck_assert_int_eq(ask(hba, "10.1.2.3", true, "other", "joe", false)->method, HBA_MD5);
	ck_assert_int_eq(ask(hba, "10.1.2.3", true, "other", "joe", false)->line, 6);
	ck_assert_ptr_null(ask(hba, "10.1.2.3", false, "other", "joe", false));
	hba_free(hba);
}
END_TEST

START_TEST(type_says_which_connections) {
	static const struct {
		const char *type;
		bool local, plain, tls;
	} cases[] = {
		{"local all all", true, false, false},
		{"host all all all", false, true, true},
		{"hostssl all all all", false, false, true},
		{"hostnossl all all all", false, true, false},
		{"hostgssenc all all all", false, false, false},
		{"hostnogssenc all all all", false, true, true},
	};
	char line[80];
	snprintf(line, sizeof line, "%s trust\n", cases[_i].type);
	ck_assert_int_eq(matches(line, "local", false, "d", "u"), cases[_i].local);
	ck_assert_int_eq(matches(line, "127.0.0.1", false, "d", "u"), cases[_i].plain);
	ck_assert_int_eq(matches(line, "127.0.0.1", true, "d", "u"), cases[_i].tls);
}
END_TEST

static const struct {
	const char *field, *from;
	bool expect;
} addresses[] = {
	{"10.0.0.0/8", "10.255.0.1", true},
	{"10.0.0.0/8", "11.0.0.1", false},
	{"10.0.0.5/32", "10.0.0.5", true},
	{"10.0.0.5/32", "10.0.0.4", false},
	{"10.0.0.128/25", "10.0.0.129", true},
	{"10.0.0.128/25", "10.0.0.127", false},
	{"10.0.0.77/8", "10.1.1.1", true}, /* bits behind the mask do not count */
	{"0.0.0.0/0", "1.2.3.4", true},
	{"0.0.0.0/0", "::1", false},
	{"::0/0", "::1", true},
	{"::0/0", "1.2.3.4", false},
	{"2001:db8::/32", "2001:db8:1::1", true},
	{"2001:db8::/33", "2001:db8:8000::1", false},
	{"10.0.0.0 255.0.0.0", "10.9.9.9", true},
	{"10.0.0.0 255.0.0.0", "9.9.9.9", false},
	{"10.0.0.1 255.255.255.254", "10.0.0.0", true},
	{"fe80:: ffff::", "fe80::1", true},
	{"all", "::1", true},
	{"samehost", "127.0.0.1", true},
	{"samehost", "240.0.2.77", false},
	{"samenet", "127.3.4.5", true},
	{"samenet", "240.0.2.77", false},
};

START_TEST(address_forms) {
	char line[100];
	snprintf(line, sizeof line, "host all all %s trust\n", addresses[_i].field);
	ck_assert_msg(matches(line, addresses[_i].from, false, "d", "u") == addresses[_i].expect, "%s from %s",
		      addresses[_i].field, addresses[_i].from);
}
END_TEST

static const struct {
	const char *databases, *users, *database, *user;
	bool expect;
} names[] = {
	{"shop", "joe", "shop", "joe", true},
	{"shop", "joe", "Shop", "joe", false},
	{"a,b,shop", "x,joe", "shop", "joe", true},
	{"a, b, shop", "x, joe", "shop", "joe", true},
	{"a,b", "joe", "shop", "joe", false},
	{"sameuser", "all", "joe", "joe", true},
	{"sameuser", "all", "shop", "joe", false},
	{"\"all\"", "all", "shop", "joe", false},
	{"\"all\"", "\"all\"", "all", "all", true},
	{"\"sameuser\"", "all", "joe", "joe", false},
	{"\"with space\"", "all", "with space", "joe", true},
	{"\"with,comma\"", "\"a\"\"b\"", "with,comma", "a\"b", true},
	{"sh\"op\"", "all", "shop", "joe", true},
	{"/^shop_[0-9]+$", "all", "shop_12", "joe", true},
	{"/^shop_[0-9]+$", "all", "shop_x", "joe", false},
	{"all", "/^j", "shop", "joe", true},
	{"all", "\"/^j\"", "shop", "joe", true},
	{"all", "/^j", "shop", "ann", false},
	{"replication", "all", "replication", "joe", false},
	{"replication,all", "all", "shop", "joe", true},
	{"\"replication\"", "all", "replication", "joe", true},
	{"\"#x\"", "all", "#x", "joe", true},
};

START_TEST(names_of_databases_and_users) {
	char line[100];
	snprintf(line, sizeof line, "local %s %s trust\n", names[_i].databases, names[_i].users);
	bool found = matches(line, "local", false, names[_i].database, names[_i].user);
	ck_assert_msg(found == names[_i].expect, "%s", line);
}
END_TEST

START_TEST(physical_replication_needs_its_keyword) {
	struct hba *hba = load("local all joe trust\nlocal /repl joe trust\nlocal replication joe md5\n");
	ck_assert_int_eq(ask(hba, "local", false, "replication", "joe", true)->line, 3);
	ck_assert_int_eq(ask(hba, "local", false, "shop", "joe", false)->line, 1);
	hba_free(hba);
}
END_TEST

START_TEST(methods_and_options) {
	struct hba *hba = load("local a all peer map=os\n"
			       "local b all ident\n"
			       "hostssl c all all cert map=people clientname=DN\n"
			       "hostssl d all all scram-sha-256 clientcert=verify-ca\n"
			       "hostssl e all all md5 clientcert=verify-full\n"
			       "host f all all password\n");
	const struct hba_verdict *v = ask(hba, "local", false, "a", "u", false);
	ck_assert_int_eq(v->method, HBA_PEER);
	ck_assert_str_eq(v->map, "os");
	ck_assert_ptr_null(ask(hba, "local", false, "b", "u", false)->map);
	v = ask(hba, "::1", true, "c", "u", false);
	ck_assert_int_eq(v->method, HBA_CERT);
	ck_assert_int_eq(v->client_cert, HBA_CERT_USER);
	ck_assert(v->use_subject);
	ck_assert_str_eq(v->map, "people");
	ck_assert_int_eq(ask(hba, "::1", true, "d", "u", false)->client_cert, HBA_CERT_VERIFIED);
	ck_assert_int_eq(ask(hba, "::1", true, "e", "u", false)->client_cert, HBA_CERT_USER);
	ck_assert_int_eq(ask(hba, "::1", true, "f", "u", false)->client_cert, HBA_CERT_ANY);
	hba_free(hba);
}
END_TEST

static const struct {
	const char *text, *says; /* part of the message */
} refused[] = {
	{"", "no rule"},
	{"# nothing\n", "no rule"},
	{"nonsense all all trust\n", ":1: unknown type"},
	{"local\n", ":1: the line ends before the database"},
	{"local all\n", "before the user"},
	{"local all all\n", "before the method"},
	{"\n\nhost all all\n", ":3: the line ends before the address"},
	{"host all all 10.0.0.1\n", "before the mask"},
	{"host all all 10.0.0.1 trust\n", "no mask"},
	{"host all all 10.0.0.1 ffff:: trust\n", "no mask"},
	{"host all all 10.0.0.1/33 trust\n", "invalid mask"},
	{"host all all 10.0.0.1/ trust\n", "invalid mask"},
	{"host all all 10.0.0.1/-1 trust\n", "invalid mask"},
	{"host all all 10.0.0.1/8x trust\n", "invalid mask"},
	{"host all all ::1/129 trust\n", "invalid mask"},
	{"host all all db.example.com trust\n", "host names are not supported"},
	{"host all all .example.com trust\n", "host names are not supported"},
	{"host all all 10.0.0.1/8,10.0.0.2/8 trust\n", "not a list"},
	{"local samerole all trust\n", "samerole is not supported"},
	{"local all +staff trust\n", "membership in a role"},
	{"local all all gss\n", "method \"gss\" is not supported"},
	{"host all all all ldap ldapserver=x\n", "method \"ldap\" is not supported"},
	{"host all all all ident\n", "local lines only"},
	{"host all all all peer\n", "local lines only"},
	{"host all all all cert\n", "hostssl lines only"},
	{"host all all all md5 clientcert=verify-ca\n", "hostssl lines only"},
	{"hostssl all all all md5 clientcert=1\n", "invalid value of clientcert"},
	{"hostssl all all all cert clientcert=verify-ca\n", "invalid value of clientcert"},
	{"local all all md5 map=x\n", "map is for"},
	{"local all all md5 what=x\n", "unknown option \"what\""},
	{"local all all md5 what\n", "not of the form"},
	{"local /( all md5\n", "invalid regular expression"},
	{"local @missing.txt all md5\n", "cannot read"},
	{"include missing.conf\n", "cannot read"},
	{"include hba.conf\n", "too deeply"},
	{"local @hba.conf all md5\n", "too deeply"},
};

START_TEST(bad_files_are_refused_with_a_reason) {
	struct error error = {0};
	struct hba *hba = hba_load(write_file("hba.conf", refused[_i].text), &error);
	ck_assert_ptr_null(hba);
	ck_assert_msg(strstr(error.text, refused[_i].says) != NULL, "%s: %s", refused[_i].text, error.text);
}
END_TEST

START_TEST(lists_and_includes_come_from_other_files) {
	write_file("users.txt", "ann, \"bo b\"\n# comment\n@more.txt\n");
	write_file("more.txt", "carl\n");
	write_file("tail.conf", "local last all trust\n");
	struct hba *hba = load("include_if_exists not_there.conf\n"
			       "local shop @users.txt md5\n"
			       "include \"tail.conf\"\n"
			       "local all joe password\n");
	ck_assert_int_eq(ask(hba, "local", false, "shop", "ann", false)->line, 2);
	ck_assert_int_eq(ask(hba, "local", false, "shop", "bo b", false)->line, 2);
	ck_assert_int_eq(ask(hba, "local", false, "shop", "carl", false)->line, 2);
	ck_assert_ptr_null(ask(hba, "local", false, "shop", "dan", false));
	ck_assert_ptr_nonnull(strstr(ask(hba, "local", false, "last", "dan", false)->file, "tail.conf"));
	ck_assert_int_eq(ask(hba, "local", false, "x", "joe", false)->line, 4);
	hba_free(hba);
}
END_TEST

START_TEST(folder_is_included_in_order_of_names) {
	char path[128];
	snprintf(path, sizeof path, "%s/d", folder);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	write_file("d/20.conf", "local all all reject\n");
	write_file("d/10.conf", "local a all trust\n");
	write_file("d/00.conf.old", "nonsense\n");
	struct hba *hba = load("include_dir d\n");
	ck_assert_int_eq(ask(hba, "local", false, "a", "u", false)->method, HBA_TRUST);
	ck_assert_int_eq(ask(hba, "local", false, "b", "u", false)->method, HBA_REJECT);
	hba_free(hba);
}
END_TEST

START_TEST(line_goes_on_behind_a_backslash) {
	struct hba *hba = load("local a,\\\nb all\\\n trust\r\nlocal c all md5");
	ck_assert_int_eq(ask(hba, "local", false, "b", "u", false)->line, 1);
	ck_assert_int_eq(ask(hba, "local", false, "c", "u", false)->line, 4);
	hba_free(hba);
}
END_TEST

static struct ident *load_map(const char *text) {
	struct error error = {0};
	struct ident *ident = ident_load(write_file("ident.conf", text), &error);
	ck_assert_msg(ident != NULL, "%s", error.text);
	return ident;
}

START_TEST(user_map_allows_what_its_lines_say) {
	struct ident *ident = load_map("os root postgres\n"
				       "os root app\n"
				       "mail /^(.*)@example\\.com$ \\1\n"
				       "mail /^(.*)@example\\.org$ guest_\\1_x\n"
				       "any boss all\n"
				       "lit boss \"all\"\n"
				       "re ann /^shop_\n");
	static const struct {
		const char *map, *system, *user;
		bool expect;
	} cases[] = {
		{"os", "root", "postgres", true},
		{"os", "root", "app", true},
		{"os", "root", "other", false},
		{"os", "bin", "app", false},
		{"nomap", "root", "root", false},
		{"mail", "ann@example.com", "ann", true},
		{"mail", "ann@example.com", "bob", false},
		{"mail", "@example.com", "", true},
		{"mail", "ann@example.org", "guest_ann_x", true},
		{"mail", "ann@example.org", "guest_an_x", false},
		{"mail", "ann@example.org", "ann", false},
		{"any", "boss", "whoever", true},
		{"lit", "boss", "whoever", false},
		{"lit", "boss", "all", true},
		{"re", "ann", "shop_1", true},
		{"re", "ann", "xshop_1", false},
		{"mail", "all@example.com", "someone", false},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		ck_assert_msg(ident_allows(ident, cases[i].map, cases[i].system, cases[i].user) == cases[i].expect,
			      "%s %s %s", cases[i].map, cases[i].system, cases[i].user);
	ident_free(ident);
}
END_TEST

START_TEST(without_a_map_names_must_be_equal) {
	ck_assert(ident_allows(NULL, NULL, "joe", "joe"));
	ck_assert(!ident_allows(NULL, NULL, "joe", "Joe"));
	ck_assert(!ident_allows(NULL, "os", "joe", "joe"));
}
END_TEST

START_TEST(bad_user_maps_are_refused) {
	static const char *const bad[] = {"os root\n", "os root a b\n", "os a,b c\n", "os /( c\n",
					  "os root \\1\n", "os /^x$ \\1\n", "os root +staff\n"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct error error = {0};
		ck_assert_ptr_null(ident_load(write_file("ident.conf", bad[i]), &error));
		ck_assert_msg(strstr(error.text, "ident.conf:1: ") != NULL, "%s", error.text);
	}
}
END_TEST

int main(void) {
	if (!mkdtemp(all_folders))
		return EXIT_FAILURE;
	Suite *suite = suite_create("hba");
	TCase *tc = tcase_create("hba");
	tcase_add_checked_fixture(tc, make_folder, remove_folder);
	tcase_add_test(tc, first_matching_line_decides);
	tcase_add_loop_test(tc, type_says_which_connections, 0, 6);
	tcase_add_loop_test(tc, address_forms, 0, (int)(sizeof addresses / sizeof addresses[0]));
	tcase_add_loop_test(tc, names_of_databases_and_users, 0, (int)(sizeof names / sizeof names[0]));
	tcase_add_test(tc, physical_replication_needs_its_keyword);
	tcase_add_test(tc, methods_and_options);
	tcase_add_loop_test(tc, bad_files_are_refused_with_a_reason, 0, (int)(sizeof refused / sizeof refused[0]));
	tcase_add_test(tc, lists_and_includes_come_from_other_files);
	tcase_add_test(tc, folder_is_included_in_order_of_names);
	tcase_add_test(tc, line_goes_on_behind_a_backslash);
	tcase_add_test(tc, user_map_allows_what_its_lines_say);
	tcase_add_test(tc, without_a_map_names_must_be_equal);
	tcase_add_test(tc, bad_user_maps_are_refused);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	/* what tests that failed have left in it, too */
	char command[64];
	snprintf(command, sizeof command, "rm -rf %s", all_folders);
	failed += system(command) != 0;
	return failed ? 1 : 0;
}
