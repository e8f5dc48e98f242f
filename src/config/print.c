/* The commented sample: every key at its default, from the schema. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "config/config.h"
#include "config/schema.h"
#include "config/text.h"
#include "config/text_units.h"

static const char INTRODUCTION[] =
	"; forebay.ini: the configuration of Forebay, with every key at its default.\n"
	"; A key that is left out has its default, so a file of a few lines will do.\n"
	"; `forebay --check -c FILE` says what is wrong with a file, all of it, and tries every database.\n"
	";\n"
	"; How to write one:\n"
	";\n"
	";   [pool:shop]                  begins a section; no section and no key may be there twice\n"
	";   max_size = 20                a key and its value; behind a blank, ; begins a comment\n"
	";   acquire_timeout = 30s        times have a unit: ms s m h d; only 0 (off, or no limit) has none\n"
	";   hosts = 10.0.0.5:5432,\n"
	";           10.0.0.6:5432        a line indented deeper than its key goes on with the value\n"
	";   init_sql = \"SET x = 'a ; b'\" in double quotes a value holds anything; \"\" is one quote\n"
	";   password = ${SHOP_PASSWORD}  an environment variable, which must be set; $${ stands for ${\n"
	";                                itself, any other $ for itself\n"
	";   include = more.ini           reads that file here, sections and all\n"
	";\n"
	"; A password or SQL with a blank and ; in it must be in double quotes: nobody guesses what is a\n"
	"; comment. Relative paths start from the folder of the file they are written in.\n";

/* What the description leaves to the type. */
static void describe_values(const struct config_key *key, char *out, size_t room) {
	char low[32], high[32];
	size_t len = 0;

	out[0] = 0;
	if (key->choices) {
		len = (size_t)snprintf(out, room, " One of:");
		for (const struct config_choice *c = key->choices; c->name && len < room; c++)
			len += (size_t)snprintf(out + len, room - len, " %s%s", c->name,
						c[1].name ? "," : ".");
	} else if (key->type == KEY_INTEGER && key->flags & KEY_ZERO) {
		snprintf(out, room, " At most %" PRIu64 ".", key->max);
	} else if (key->type == KEY_INTEGER || key->type == KEY_THREADS) {
		snprintf(out, room, " From %" PRIu64 " to %" PRIu64 ".", key->min, key->max);
	} else if (key->type == KEY_SIZE) {
		size_format(key->min, low, sizeof(low));
		size_format(key->max, high, sizeof(high));
		snprintf(out, room, " From %s to %s%s.", low, high, key->flags & KEY_ZERO ? ", or 0" : "");
	}
}

static void print_key(FILE *out, const struct config_key *key) {
	char values[200], comment[700];
	const char *value = key->example ? key->example : key->default_text;

	if (key->heading && key->heading[0])
		fprintf(out, "\n; ---- %s ----\n", key->heading);
	describe_values(key, values, sizeof(values));
	snprintf(comment, sizeof(comment), "%s%s%s", key->description, values,
		 key->flags & KEY_LATER ? " (Accepted, but without effect in this version.)"
		 : key->flags & KEY_RESTART ? " A change takes a restart." : "");
	fputc('\n', out);
	text_comment(out, comment);
	fprintf(out, "%s =%s%s\n", key->name, value[0] ? " " : "", value);
}

void config_print_defaults(FILE *out) {
	size_t count;

	fputs(INTRODUCTION, out);
	for (int kind = 0; kind < SECTION_KINDS; kind++) {
		const struct section_schema *section = schema_section((enum section_kind)kind);
		const struct config_key *keys = schema_keys((enum section_kind)kind, &count);

		fputs("\n\n", out);
		text_comment(out, section->description);
		fprintf(out, "[%s%s%s]\n", section->name, section->example ? ":" : "",
			section->example ? section->example : "");
		for (size_t i = 0; i < count; i++)
			print_key(out, &keys[i]);
	}
}
