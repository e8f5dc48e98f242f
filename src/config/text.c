#include "config/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/secret.h"

/* No further than the lines of values themselves. */
enum { COLUMNS = 100 };

/* Not realloc(): it would leave a copy behind that nobody overwrites. */
static bool text_reserve(struct text *text, size_t need) {
	if (text->failed)
		return false;
	if (need < text->cap - text->len)
		return true;

	size_t cap = text->cap ? text->cap : 256;
	while (cap <= SIZE_MAX / 2 && cap - text->len <= need)
		cap *= 2;
	char *data = cap - text->len > need ? malloc(cap) : NULL;
	if (!data) {
		text->failed = true;
		return false;
	}
	if (text->data) {
		memcpy(data, text->data, text->len);
		secret_wipe(text->data, text->cap);
		free(text->data);
	}
	text->data = data;
	text->cap = cap;
	return true;
}

bool text_append(struct text *text, const char *bytes, size_t len) {
	if (!text_reserve(text, len))
		return false;
	if (len)
		memcpy(text->data + text->len, bytes, len);
	text->len += len;
	text->data[text->len] = 0;
	return true;
}

const char *text_string(const struct text *text) {
	return text->data ? text->data : "";
}

void text_clear(struct text *text) {
	if (text->data) {
		secret_wipe(text->data, text->len);
		text->data[0] = 0;
	}
	text->len = 0;
}

void text_free(struct text *text) {
	if (text->data) {
		secret_wipe(text->data, text->cap);
		free(text->data);
	}
	*text = (struct text){0};
}

static bool read_all(struct text *text, int fd, size_t limit, char *why, size_t why_room) {
	for (size_t sum = 0;;) {
		if (!text_reserve(text, 4096)) {
			snprintf(why, why_room, "out of memory");
			return false;
		}
		ssize_t n = read(fd, text->data + text->len, text->cap - text->len - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			snprintf(why, why_room, "%s", strerror(errno));
			return false;
		}
		text->len += (size_t)n;
		text->data[text->len] = 0;
		sum += (size_t)n;
		if (n == 0)
			return true;
		if (sum > limit) {
			snprintf(why, why_room, "it is larger than %zu bytes", limit);
			return false;
		}
	}
}

bool text_read_file(struct text *text, const char *path, size_t limit, struct file_id *id, char *why,
		    size_t why_room) {
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0) {
		snprintf(why, why_room, "%s", strerror(errno));
		return false;
	}
	struct stat st;
	if (id && fstat(fd, &st) == 0)
		*id = (struct file_id){st.st_dev, st.st_ino};
	bool ok = read_all(text, fd, limit, why, why_room);
	close(fd);
	return ok;
}

const char *text_printable(const char *in, char *out, size_t room) {
	size_t n = 0;

	for (; in[n] && n + 1 < room; n++) {
		unsigned char c = (unsigned char)in[n];
		out[n] = (char)(c < 0x20 || c == 0x7f ? '?' : c);
	}
	if (in[n] && room > 4) {
		/* Cut: not within a UTF-8 character. */
		n = room - 4;
		while (n > 0 && ((unsigned char)in[n] & 0xc0) == 0x80)
			n--;
		memcpy(out + n, "...", 3);
		n += 3;
	}
	out[n] = 0;
	return out;
}

void text_comment(FILE *out, const char *text) {
	size_t column = 1;

	fputc(';', out);
	while (*text) {
		size_t len = strcspn(text, " ");
		if (column + 1 + len > COLUMNS) {
			fputs("\n;", out);
			column = 1;
		}
		fprintf(out, " %.*s", (int)len, text);
		column += 1 + len;
		text += len;
		text += strspn(text, " ");
	}
	fputc('\n', out);
}
