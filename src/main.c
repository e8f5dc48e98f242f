/* The command line. What runs then is in run.c. */
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif

#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#include "admin/metrics.h"
#include "config/config.h"
#include "control/check.h"
#include "mysql/internal.h"
#include "net/tls.h"
#include "pgsql/pgsql.h"
#include "run.h"
#include "session/generation.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0"
#endif
#ifndef SYSCONFDIR
#define SYSCONFDIR "/etc"
#endif

#define DEFAULT_FILE SYSCONFDIR "/forebay/forebay.ini"

static void print_errors(const struct config_errors *errors) {
	for (size_t i = 0; i < errors->count; i++)
		fprintf(stderr, "%s:%d: %s\n", errors->at[i].file, errors->at[i].line, errors->at[i].text);
}

static void print_remark(void *context, const char *file, int line, const char *text) {
	(void)context;
	fprintf(stderr, "%s:%d: %s\n", file, line, text);
}

/* `--convert`: what is wrong with the file goes to stderr, and then nothing to stdout. */
static int convert(const char *file) {
	struct config_errors errors = {0};
	bool ok = config_convert(file, stdout, &errors);

	print_errors(&errors);
	if (!ok)
		fprintf(stderr, "%s cannot be converted.\n", file);
	config_errors_free(&errors);
	if (ok && fflush(stdout) != 0) {
		perror("forebay: cannot write");
		return EXIT_CANNOT_START;
	}
	return ok ? 0 : EXIT_BAD_USAGE;
}

/* `--check`: the file, then the files that it names, then the backends. */
static int check(const char *file) {
	struct config_errors errors = {0};
	struct error error = {0};
	struct config *config = config_load(file, &errors);

	print_errors(&errors);
	if (config)
		config_each_remark(config, print_remark, NULL);
	else
		fprintf(stderr, "%s cannot be used.\n", file);
	config_errors_free(&errors);
	if (!config)
		return 1;
	struct generation *generation = generation_new(config_ref(config), &error);
	if (!generation)
		fprintf(stderr, "%s: %s\n", file, error.text);
	bool ok = generation != NULL;
	generation_unref(generation);
	ok = check_backends(config, stdout) && ok;
	config_unref(config);
	return ok ? 0 : 1;
}

static void usage(FILE *out) {
	fprintf(out, "forebay " PACKAGE_VERSION ": a connection pool and proxy for PostgreSQL, MySQL and MariaDB\n"
		     "\n"
		     "usage: forebay [-c FILE]                   run, in the foreground\n"
		     "       forebay [-c FILE] --takeover        the same, in the place of the one that runs, which hands its\n"
		     "                                           sockets over (takeover_socket) and drains\n"
		     "       forebay [-c FILE] --check           try the configuration and every backend\n"
		     "       forebay --convert PGBOUNCER.INI     print the forebay.ini that means the same\n"
		     "       forebay --print-defaults            a commented configuration with every key\n"
		     "       forebay --print-metrics             what /metrics tells, as a table in Markdown\n"
		     "       forebay --version | --help\n"
		     "\n"
		     "  -c, --config FILE   the configuration; otherwise ./forebay.ini where that exists,\n"
		     "                      else " DEFAULT_FILE ";\n"
		     "                      a pgbouncer.ini is read as PgBouncer reads it\n"
		     "\n"
		     "SIGTERM, SIGINT: stop when open transactions have finished; again: at once.\n"
		     "SIGHUP: read the configuration anew. SIGUSR2: start the program as it is on disk with --takeover.\n"
		     "Exit codes: 0 stopped as asked, 1 cannot start, 2 bad command line or configuration;\n"
		     "of --check: 0 all is well, 1 something is not.\n");
}

int main(int argc, char **argv) {
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"check", no_argument, NULL, 'C'},
		{"takeover", no_argument, NULL, 'T'},
		{"convert", required_argument, NULL, 'b'},
		{"print-defaults", no_argument, NULL, 'p'},
		{"print-metrics", no_argument, NULL, 'm'},
		{"print-manual", no_argument, NULL, 'M'}, /* for doc/forebay.ini.5 */
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	bool checking = false, take_over = false;
	const char *file = NULL;

	for (int option; (option = getopt_long(argc, argv, "c:Vh", options, NULL)) != -1;) {
		switch (option) {
		case 'c':
			file = optarg;
			break;
		case 'C':
			checking = true;
			break;
		case 'b':
			return convert(optarg);
		case 'T':
			take_over = true;
			break;
		case 'p':
			config_print_defaults(stdout);
			return 0;
		case 'm':
			metrics_print_doc(stdout);
			return 0;
		case 'M':
			config_print_manual(stdout);
			return 0;
		case 'V':
			printf("forebay " PACKAGE_VERSION "\n");
			return 0;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return EXIT_BAD_USAGE;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "forebay: unexpected argument \"%s\"; the configuration is given with -c\n\n", argv[optind]);
		usage(stderr);
		return EXIT_BAD_USAGE;
	}
	if (!file)
		file = access("forebay.ini", F_OK) == 0 ? "forebay.ini" : DEFAULT_FILE;
	process_harden();
	tls_never_ask();
	protocol_register(&mysql_protocol);
	protocol_register(&pgsql_protocol);
	return checking ? check(file) : run(file, take_over);
}
