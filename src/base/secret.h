/* Memory for secrets: wiped when freed. (main.c keeps the process from dumping core.) */
#ifndef BASE_SECRET_H
#define BASE_SECRET_H

#include <stdbool.h>
#include <stddef.h>

/* Overwrites; the compiler may not drop it. */
void secret_wipe(void *p, size_t len);
/* A copy of a string in memory that secret_free() wipes. NULL for NULL or when out of memory. */
char *secret_strdup(const char *s);
/* Wipes up to the terminating zero and frees. NULL is fine. */
void secret_free(char *s);
/* Compares in constant time for equal lengths; different lengths are unequal. */
bool secret_equal(const void *a, size_t a_len, const void *b, size_t b_len);
/* The same of strings; how long they are does not show either. */
bool secret_equal_text(const char *a, const char *b);
/* Fills with random bytes from the kernel (getrandom(2)), which few at a time are taken from in advance, for each thread:
 * do not fork. Never fails once it has returned true at start. */
bool secret_random(void *p, size_t len);

#endif
