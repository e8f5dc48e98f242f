/* `forebay --check`: reads the configuration, tries every backend as an application would, says what it found. */
#ifndef CONTROL_CHECK_H
#define CONTROL_CHECK_H

#include <stdbool.h>
#include <stdio.h>

struct config;

/* Prints the table to `out`. Waits for each backend up to its pool's connect_timeout, twice. False: something is
 * wrong with at least one, or the bounds of the pools ask more of a backend than it allows. */
bool check_backends(const struct config *config, FILE *out);

#endif
