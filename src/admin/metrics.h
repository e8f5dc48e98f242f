/* What /metrics says: one table has every metric; the output and doc/metrics.md are made from it. */
#ifndef ADMIN_METRICS_H
#define ADMIN_METRICS_H

#include <stdio.h>

#include "admin/snapshot.h"
#include "admin/page.h"

enum metrics_format {
	METRICS_PROMETHEUS, /* text format 0.0.4 */
	METRICS_OPENMETRICS /* OpenMetrics 1.0.0 */
};

/* By what a scraper's Accept header (NULL: none) prefers. */
enum metrics_format metrics_negotiate(const char *accept);
const char *metrics_content_type(enum metrics_format format);
/* Any thread. On failure out->failed. */
void metrics_write(struct page *out, const struct snapshot *snapshot, enum metrics_format format);
/* doc/metrics.md. */
void metrics_print_doc(FILE *out);

#endif
