/* Text that grows, for what goes out by HTTP. One thread. After a failed allocation nothing more is added; ask `failed`. */
#ifndef ADMIN_PAGE_H
#define ADMIN_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zero-initialise. `at` is malloc'd: the caller's to free, or to hand on. Not ended by a zero. */
struct page {
	char *at;
	size_t len, room;
	bool failed;
};

void page_free(struct page *page);
void page_add(struct page *page, const void *data, size_t len);
void page_put(struct page *page, const char *string);
void page_printf(struct page *page, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void page_number(struct page *page, uint64_t number);
/* Gives back the memory that is not filled, for a page that is kept. */
void page_trim(struct page *page);
/* Nanoseconds as seconds, exactly: "0.0025", "3". `whole`: with ".0" where there is no fraction (OpenMetrics' bounds). */
void page_seconds(struct page *page, uint64_t ns, bool whole);
/* The value of a label between its quotes: backslash, quote and newline are escaped. A byte that is no UTF-8 becomes \xff by
 * its number, and the backslash of an \x that was there \x5c, so that no two values become one. */
void page_label(struct page *page, const char *value);
/* A JSON string with its quotes; NULL: null. */
void page_json(struct page *page, const char *value);
/* Character data of HTML, also within a quoted attribute. */
void page_html(struct page *page, const char *value);

#endif
