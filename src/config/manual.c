/* forebay.ini(5), in mdoc: the reference of every key, from the schema. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "config/config.h"
#include "config/schema.h"
#include "config/text_units.h"

enum { COLUMNS = 78 };

static const char HEAD[] =
	".\\\" Made from the table of all settings: forebay --print-manual > doc/forebay.ini.5\n"
	".Dd November 28, 2026\n"
	".Dt FOREBAY.INI 5\n"
	".Os\n"
	".Sh NAME\n"
	".Nm forebay.ini\n"
	".Nd the configuration of Forebay\n"
	".Sh DESCRIPTION\n"
	"The file that\n"
	".Xr forebay 8\n"
	"is given with\n"
	".Fl c .\n"
	"It has four kinds of sections:\n"
	".Li [forebay]\n"
	"for the process,\n"
	".Li [listener:NAME]\n"
	"for each set of addresses where clients connect,\n"
	".Li [pool:NAME]\n"
	"for each database, and\n"
	".Li [user:NAME]\n"
	"for users.\n"
	"A key that is left out has its default.\n"
	"All that is wrong with a file is reported at once, with line and reason;\n"
	"a bad file neither starts a process nor disturbs a running one.\n"
	"A file whose first section is one of PgBouncer's is read as PgBouncer reads it.\n"
	".Sh FORM\n"
	".Bl -bullet\n"
	".It\n"
	"A line is a\n"
	".Li [section] ,\n"
	"a\n"
	".Li key = value ,\n"
	"empty, or a comment, which begins with ; or # as the first character.\n"
	"Behind a value a blank and ; begin a comment as well.\n"
	"No section and no key may be there twice.\n"
	".It\n"
	"A value in double quotes holds anything; two double quotes in it stand for one.\n"
	"A password or SQL that has a blank and ; in it must be in quotes.\n"
	".It\n"
	"A line that is indented deeper than its key goes on with the value.\n"
	".It\n"
	"Times have a unit, ms, s, m, h or d, and only 0 has none: 250ms, 30s.\n"
	".It\n"
	".Li ${NAME}\n"
	"takes an environment variable, which must be set;\n"
	".Li $${\n"
	"stands for\n"
	".Li ${\n"
	"itself.\n"
	".It\n"
	".Li include = path\n"
	"reads that file in this place.\n"
	".It\n"
	"Relative paths start from the folder of the file that they are written in.\n"
	".El\n";

static const char TAIL[] =
	".Sh FILES\n"
	".Bl -tag -width Ds\n"
	".It Pa /etc/forebay/forebay.ini\n"
	"is read where\n"
	".Fl c\n"
	"is not given and there is no\n"
	".Pa forebay.ini\n"
	"in the working directory (the folder is chosen when Forebay is built).\n"
	".El\n"
	".Sh EXAMPLES\n"
	"One database, one user, one operator:\n"
	".Bd -literal -offset indent\n"
	"[forebay]\n"
	"admin_users = ops\n"
	"\n"
	"[listener:pg]\n"
	"listen = 127.0.0.1:6432\n"
	"\n"
	"[pool:shop]\n"
	"hosts = 127.0.0.1:5432\n"
	"max_size = 20\n"
	"\n"
	"[user:app]\n"
	"password = ${APP_PASSWORD}\n"
	"\n"
	"[user:ops]\n"
	"password = ${OPS_PASSWORD}\n"
	".Ed\n"
	".Sh SEE ALSO\n"
	".Xr forebay 8\n"
	".Pp\n"
	".Li forebay --print-defaults\n"
	"prints a commented file with every key.\n";

/* A word of running text. */
static void write_word(FILE *out, const char *word, size_t len, bool begins_line) {
	if (begins_line && (word[0] == '.' || word[0] == '\''))
		fputs("\\&", out);
	for (size_t i = 0; i < len; i++) {
		if (word[i] == '\\')
			fputs("\\e", out);
		else if (word[i] == '-' && i + 1 < len && word[i + 1] == '-')
			fputs("\\-", out);
		else
			fputc(word[i], out);
	}
}

/* Each sentence begins a line, and no line is long: so mdoc wants it. */
static void write_text(FILE *out, const char *text) {
	size_t column = 0;

	for (text += strspn(text, " "); *text; text += strspn(text, " ")) {
		size_t len = strcspn(text, " ");
		if (column > 0 && column + 1 + len > COLUMNS) {
			fputc('\n', out);
			column = 0;
		}
		if (column > 0)
			fputc(' ', out);
		write_word(out, text, len, column == 0);
		column += len + (column > 0);
		text += len;
		if (text[-1] == '.' && len > 1 && text[-2] != '.' && *text) {
			fputc('\n', out);
			column = 0;
		}
	}
	if (column > 0)
		fputc('\n', out);
}

/* What may stand behind the equals sign, as a word. */
static const char *kind_of(const struct config_key *key) {
	switch (key->type) {
	case KEY_BOOL:
		return "true | false";
	case KEY_INTEGER:
		return "number";
	case KEY_THREADS:
		return "auto | number";
	case KEY_DURATION:
		return "time";
	case KEY_SIZE:
		return "size";
	case KEY_ENUM:
	case KEY_WORD:
		return "word";
	case KEY_SQL:
		return "SQL";
	case KEY_SECRET:
		return "secret";
	case KEY_SECRET_FILE:
	case KEY_PATH:
		return "path";
	case KEY_NAMES:
		return "name, ...";
	case KEY_LISTEN:
	case KEY_HOSTS:
		return "address, ...";
	case KEY_STRING:
		break;
	}
	return "text";
}

static void describe_bounds(const struct config_key *key, char *out, size_t room) {
	char low[32], high[32];
	const char *zero = key->flags & KEY_ZERO ? ", or 0" : "";

	out[0] = 0;
	if (key->choices) {
		size_t len = (size_t)snprintf(out, room, " One of");
		for (const struct config_choice *c = key->choices; c->name && len < room; c++)
			len += (size_t)snprintf(out + len, room - len, " %s%s", c->name, c[1].name ? "," : ".");
	} else if (key->type == KEY_INTEGER || key->type == KEY_THREADS) {
		snprintf(out, room, " From %" PRIu64 " to %" PRIu64 " %s%s.", key->min, key->max, key->unit, zero);
	} else if (key->type == KEY_DURATION) {
		duration_format(key->min, low, sizeof(low));
		duration_format(key->max, high, sizeof(high));
		snprintf(out, room, " From %s to %s%s.", low, high, zero);
	} else if (key->type == KEY_SIZE) {
		size_format(key->min, low, sizeof(low));
		size_format(key->max, high, sizeof(high));
		snprintf(out, room, " From %s to %s%s.", low, high, zero);
	}
}

static void write_key(FILE *out, const struct config_key *key) {
	char bounds[300], text[1200], fallback[200] = "";

	describe_bounds(key, bounds, sizeof(bounds));
	if (key->flags & KEY_REQUIRED)
		snprintf(fallback, sizeof(fallback), " It must be set.");
	else if (key->default_text[0])
		snprintf(fallback, sizeof(fallback), " Default: %s.", key->default_text);
	snprintf(text, sizeof(text), "%s%s%s%s", key->description, bounds, fallback,
		 key->flags & KEY_LATER		 ? " It is accepted, but without effect in this version."
		 : key->flags & KEY_RESTART ? " A change takes a restart."
					     : "");
	fprintf(out, ".It Ic %s No = Ar \"%s\"\n", key->name, kind_of(key));
	write_text(out, text);
}

void config_print_manual(FILE *out) {
	size_t count;

	fputs(HEAD, out);
	for (int kind = 0; kind < SECTION_KINDS; kind++) {
		const struct section_schema *section = schema_section((enum section_kind)kind);
		const struct config_key *keys = schema_keys((enum section_kind)kind, &count);
		bool in_list = false;

		fputs(".Sh \\&[", out);
		for (const char *p = section->name; *p; p++)
			fputc(toupper((unsigned char)*p), out);
		fprintf(out, "%s] SECTION\n", section->example ? ":NAME" : "");
		write_text(out, section->description);
		for (size_t i = 0; i < count; i++) {
			if (keys[i].heading && keys[i].heading[0]) {
				fprintf(out, "%s.Ss %s\n", in_list ? ".El\n" : "", keys[i].heading);
				in_list = false;
			}
			if (!in_list)
				fputs(".Bl -tag -width Ds\n", out);
			in_list = true;
			write_key(out, &keys[i]);
		}
		fputs(".El\n", out);
	}
	fputs(TAIL, out);
}
