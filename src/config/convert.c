/* --convert: a pgbouncer.ini, written as the forebay.ini that means the same. */
#include <stdio.h>
#include <string.h>

#include "config/config.h"
#include "config/pgbouncer.h"
#include "config/pgbouncer_table.h"
#include "config/text.h"

static void write_section(FILE *out, const char *label) {
	fputs("\n[", out);
	if (!strpbrk(label, "]\"") && !strchr(" \t\r\f\v", label[strlen(label) - 1])) {
		fputs(label, out);
	} else {
		fputc('"', out);
		for (; *label; label++)
			fprintf(out, *label == '"' ? "\"\"" : "%c", *label);
		fputc('"', out);
	}
	fputs("]\n", out);
}

/* Whether the value would be read as something else without quotes. */
static bool needs_quotes(const char *text) {
	return text[0] && (strpbrk(text, ";\"#") || strchr(" \t", text[0]) || strchr(" \t", text[strlen(text) - 1]));
}

static void write_setting(FILE *out, const char *key, const char *text) {
	bool quotes = needs_quotes(text);

	fprintf(out, "%s =%s%s", key, text[0] ? " " : "", quotes ? "\"" : "");
	for (; *text; text++) {
		if (quotes && *text == '"')
			fputs("\"\"", out);
		else if (strncmp(text, "${", 2) == 0)
			fputs("$$", out);
		else
			fputc(*text, out);
	}
	fprintf(out, "%s\n", quotes ? "\"" : "");
}

static void write_items(FILE *out, const char *path, const struct pgb_items *items) {
	const char *label = "";
	char comment[1200];

	snprintf(comment, sizeof comment,
		 "Made from %s by forebay --convert. It means to Forebay what that file does, and it has the file's passwords in "
		 "it: keep it as safe. What is passed over with a warning there is an error here: an auth_file that cannot be read, a "
		 "bad line or a name twice in it, an address of listen that this machine does not have.",
		 path);
	text_comment(out, comment);
	for (const struct pgb_item *item = items->first; item; item = item->next) {
		if (strcmp(label, item->section) != 0)
			write_section(out, item->section);
		label = item->section;
		if (item->key) {
			write_setting(out, item->key, item->text);
			continue;
		}
		if (item->at.line > 0)
			snprintf(comment, sizeof comment, "%s:%d: %s", item->at.file, item->at.line, item->text);
		else
			snprintf(comment, sizeof comment, "%s", item->text);
		text_comment(out, comment);
	}
}

bool config_convert(const char *path, FILE *out, struct config_errors *errors) {
	struct error_sink sink = {.list = errors};
	struct arena arena = {0};
	struct pgb_items items;

	*errors = (struct config_errors){0};
	if (!pgbouncer_is(path))
		error_sink_add(&sink, path, 0,
			       "it cannot be read, or it is no pgbouncer.ini: expected [pgbouncer], [databases] or %%include first");
	else
		pgbouncer_translate_file(path, NULL, 0, &arena, &sink, &items);
	if (sink.count == 0)
		write_items(out, path, &items);
	arena_free(&arena);
	return sink.count == 0;
}
