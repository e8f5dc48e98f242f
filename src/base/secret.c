#include "base/secret.h"

#include <errno.h>
#include <openssl/sha.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

void secret_wipe(void *p, size_t len) {
	if (len > 0)
		explicit_bzero(p, len);
}

char *secret_strdup(const char *s) {
	return s ? strdup(s) : NULL;
}

void secret_free(char *s) {
	if (!s)
		return;
	secret_wipe(s, strlen(s));
	free(s);
}

bool secret_equal(const void *a, size_t a_len, const void *b, size_t b_len) {
	const volatile uint8_t *x = a, *y = b;
	uint8_t different = 0;

	if (a_len != b_len)
		return false;
	for (size_t i = 0; i < a_len; i++)
		different |= x[i] ^ y[i];
	return different == 0;
}

bool secret_equal_text(const char *a, const char *b) {
	uint8_t x[SHA256_DIGEST_LENGTH], y[SHA256_DIGEST_LENGTH];

	SHA256((const uint8_t *)a, strlen(a), x);
	SHA256((const uint8_t *)b, strlen(b), y);
	bool same = secret_equal(x, sizeof x, y, sizeof y);
	secret_wipe(x, sizeof x);
	secret_wipe(y, sizeof y);
	return same;
}

static bool from_kernel(void *p, size_t len) {
	uint8_t *pos = p;

	while (len > 0) {
		ssize_t n = getrandom(pos, len, 0);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return false;
		}
		pos += n;
		len -= (size_t)n;
	}
	return true;
}

/* What the kernel gave at one time and nobody has got yet; what was given out is wiped here. */
static _Thread_local struct {
	uint8_t bytes[512];
	size_t left;
} stock;

bool secret_random(void *p, size_t len) {
	if (len > sizeof stock.bytes / 4)
		return from_kernel(p, len);
	if (len > stock.left) {
		stock.left = 0;
		if (!from_kernel(stock.bytes, sizeof stock.bytes))
			return false;
		stock.left = sizeof stock.bytes;
	}
	stock.left -= len;
	memcpy(p, stock.bytes + stock.left, len);
	secret_wipe(stock.bytes + stock.left, len);
	return true;
}
