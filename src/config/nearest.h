/* "Did you mean …?": the known name that is nearest to one that nobody knows. */
#ifndef CONFIG_NEAREST_H
#define CONFIG_NEAREST_H

#include <stddef.h>

/* How many letters must be put in, left out, changed or swapped with the next to make one of the other. Names
 * over NEAREST_LONGEST bytes have a distance of SIZE_MAX to all others. */
enum { NEAREST_LONGEST = 63 };
size_t name_distance(const char *a, const char *b);

/* Offered names one after another, it keeps the nearest. Start with {.wanted = name}. */
struct nearest {
	const char *wanted;
	const char *best; /* NULL: none was near enough to be meant */
	size_t distance;
};

/* `name` must outlive the search. */
void nearest_offer(struct nearest *search, const char *name);

#endif
