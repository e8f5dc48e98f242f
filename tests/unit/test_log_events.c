/* doc/log.md against the sources: each event that the program logs is told there, and each that is told there is in it. */
#include <check.h>
#include <ctype.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *all; /* the C sources, one behind the other */
static size_t all_len;

static char *read_whole(const char *path) {
	FILE *in = fopen(path, "r");
	char *text = NULL;
	size_t len = 0, n;

	ck_assert_msg(in != NULL, "cannot read %s", path);
	do {
		text = realloc(text, len + 65536 + 1);
		n = fread(text + len, 1, 65536, in);
		len += n;
	} while (n > 0);
	text[len] = 0;
	fclose(in);
	return text;
}

static int take_file(const char *path, const struct stat *st, int type, struct FTW *ftw) {
	(void)st, (void)ftw;
	size_t len = strlen(path);
	if (type != FTW_F || len < 2 || strcmp(path + len - 2, ".c") != 0)
		return 0;
	char *text = read_whole(path);
	size_t size = strlen(text);
	all = realloc(all, all_len + size + 1);
	memcpy(all + all_len, text, size + 1);
	all_len += size;
	free(text);
	return 0;
}

static const char *source(const char *what) {
	static char path[4096];
	const char *top = getenv("top_srcdir");

	snprintf(path, sizeof path, "%s/%s", top ? top : ".", what);
	return path;
}

static void set_up(void) {
	all = NULL;
	all_len = 0;
	ck_assert_int_eq(nftw(source("src"), take_file, 8, FTW_PHYS), 0);
	ck_assert_uint_gt(all_len, 500000);
}

/* The name at `s`, which begins behind its quote; "" where it is none. */
static const char *name_at(const char *s) {
	static char name[64];
	size_t len = strspn(s, "abcdefghijklmnopqrstuvwxyz_");

	snprintf(name, sizeof name, "%.*s", len < sizeof name && s[len] == '"' ? (int)len : 0, s);
	return name;
}

START_TEST(each_event_of_the_sources_is_documented) {
	static const char *const calls[] = {"log_error(", "log_warning(", "log_info(", "log_debug(", "log_each("};
	char *doc = read_whole(source("doc/log.md"));
	char wanted[80];
	int found = 0;

	for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
		for (const char *at = all; (at = strstr(at, calls[i]));) {
			at += strlen(calls[i]);
			if (strncmp(at, "LOG_LEVEL_", 10) == 0)
				at += strcspn(at, ",") + 1;
			at += strspn(at, " \t\n");
			if (*at != '"')
				continue; /* a name from a table: the other test */
			const char *name = name_at(at + 1);
			ck_assert_msg(*name, "no name of an event: %.60s", at);
			snprintf(wanted, sizeof wanted, "`%s`", name);
			ck_assert_msg(strstr(doc, wanted) != NULL, "doc/log.md does not tell of %s", name);
			found++;
		}
	ck_assert_int_gt(found, 90);
	free(doc);
	free(all);
}
END_TEST

START_TEST(each_event_that_is_documented_is_in_the_sources) {
	char *doc = read_whole(source("doc/log.md"));
	int found = 0;

	for (char *line = strtok(strstr(doc, "## Events"), "\n"); line; line = strtok(NULL, "\n")) {
		if (strncmp(line, "| `", 3) != 0)
			continue;
		char *end = strchr(line + 2, '|');
		for (char *at = line; (at = strchr(at, '`')) && at < end; at += strcspn(at, "`") + 1) {
			char wanted[80];
			snprintf(wanted, sizeof wanted, "\"%.*s\"", (int)strcspn(at + 1, "`"), at + 1);
			ck_assert_msg(strstr(all, wanted) != NULL, "doc/log.md tells of %s, which nobody logs", wanted);
			at++;
			found++;
		}
	}
	ck_assert_int_gt(found, 90);
	free(doc);
	free(all);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("log_events");
	TCase *tc = tcase_create("log_events");

	tcase_add_checked_fixture(tc, set_up, NULL);
	tcase_add_test(tc, each_event_of_the_sources_is_documented);
	tcase_add_test(tc, each_event_that_is_documented_is_in_the_sources);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
