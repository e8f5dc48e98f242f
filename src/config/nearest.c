#include "config/nearest.h"

#include <stdint.h>
#include <string.h>

static size_t least(size_t a, size_t b) {
	return a < b ? a : b;
}

/* Optimal string alignment: three rows of the usual table. */
size_t name_distance(const char *a, const char *b) {
	size_t rows[3][NEAREST_LONGEST + 1];
	size_t *before = rows[0], *above = rows[1], *row = rows[2];
	size_t a_len = strlen(a), b_len = strlen(b);

	if (a_len > NEAREST_LONGEST || b_len > NEAREST_LONGEST)
		return SIZE_MAX;
	for (size_t j = 0; j <= b_len; j++)
		above[j] = j;
	for (size_t i = 1; i <= a_len; i++) {
		row[0] = i;
		for (size_t j = 1; j <= b_len; j++) {
			size_t changed = above[j - 1] + (a[i - 1] != b[j - 1]);
			row[j] = least(least(above[j], row[j - 1]) + 1, changed);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				row[j] = least(row[j], before[j - 2] + 1);
		}
		size_t *spare = before;
		before = above;
		above = row;
		row = spare;
	}
	return above[b_len];
}

void nearest_offer(struct nearest *search, const char *name) {
	size_t distance = name_distance(search->wanted, name);
	size_t len = strlen(search->wanted);
	size_t tolerated = len < 3 ? 1 : len / 3 > 2 ? len / 3 : 2;

	if (distance > tolerated || distance >= strlen(name))
		return;
	if (!search->best || distance < search->distance) {
		search->best = name;
		search->distance = distance;
	}
}
