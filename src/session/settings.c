#include "session/settings.h"

#include <ctype.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { TABLE_SIZE = 4096 };

/*
 * All sets that live, so that equal ones are shared. Taken when a set is made or dies (logins, changes of a
 * setting), never to read one.
 */
static struct {
	pthread_mutex_t mutex;
	struct settings *chains[TABLE_SIZE];
} table = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static struct settings empty = {.references = 1};

struct settings *settings_empty(void) {
	return settings_ref(&empty);
}

struct settings *settings_ref(struct settings *settings) {
	atomic_fetch_add_explicit(&settings->references, 1, memory_order_relaxed);
	return settings;
}

void settings_unref(struct settings *settings) {
	if (!settings || atomic_fetch_sub_explicit(&settings->references, 1, memory_order_acq_rel) != 1)
		return;
	/* Nobody can find it any more: a set without references is not taken from the table. */
	pthread_mutex_lock(&table.mutex);
	struct settings **link = &table.chains[settings->hash % TABLE_SIZE];
	while (*link && *link != settings)
		link = &(*link)->next;
	if (*link)
		*link = settings->next;
	pthread_mutex_unlock(&table.mutex);
	free(settings);
}

/* Takes a reference unless the last one has gone. */
static bool ref_if_alive(struct settings *settings) {
	int n = atomic_load_explicit(&settings->references, memory_order_relaxed);

	while (n > 0)
		if (atomic_compare_exchange_weak_explicit(&settings->references, &n, n + 1, memory_order_acquire,
							  memory_order_relaxed))
			return true;
	return false;
}

/* FNV-1a, the terminating zero included. */
static uint64_t hash_string(uint64_t hash, const char *s) {
	do
		hash = (hash ^ (unsigned char)*s) * 0x100000001b3ull;
	while (*s++);
	return hash;
}

static uint64_t hash_of(const struct settings *settings) {
	uint64_t hash = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < settings->count; i++) {
		hash = hash_string(hash, settings->at[i].name);
		hash = hash_string(hash, settings->at[i].value);
		hash = (hash ^ settings->at[i].reported) * 0x100000001b3ull;
	}
	return hash;
}

/* To the byte, so that sharing never changes what a set says. */
static bool is_identical(const struct settings *a, const struct settings *b) {
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (a->at[i].reported != b->at[i].reported || strcmp(a->at[i].name, b->at[i].name) != 0 ||
		    strcmp(a->at[i].value, b->at[i].value) != 0)
			return false;
	return true;
}

/* Names a client, or a state of the server: no text means anything else by it. */
static bool is_meaningless(const char *name) {
	static const char *const names[] = {"application_name", "in_hot_standby", "is_superuser"};
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strcasecmp(name, names[i]) == 0)
			return true;
	return false;
}

/* A cryptographic hash, for clients choose the values, and what it stands for decides whose statement is used. */
static bool work_out_meaning(const struct settings *settings, uint8_t out[SETTINGS_MEANING]) {
	uint8_t digest[EVP_MAX_MD_SIZE];
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL);

	for (size_t i = 0; ok && i < settings->count; i++) {
		const struct setting *s = &settings->at[i];
		if (is_meaningless(s->name))
			continue;
		for (const char *c = s->name; ok && *c; c++) { /* names are compared without regard to case */
			char lower = (char)tolower((unsigned char)*c);
			ok = EVP_DigestUpdate(ctx, &lower, 1);
		}
		ok = ok && EVP_DigestUpdate(ctx, "", 1) && EVP_DigestUpdate(ctx, s->value, strlen(s->value) + 1);
	}
	ok = ok && EVP_DigestFinal_ex(ctx, digest, NULL);
	if (ok)
		memcpy(out, digest, SETTINGS_MEANING);
	EVP_MD_CTX_free(ctx);
	return ok;
}

const uint8_t *settings_meaning(struct settings *settings) {
	uint8_t meaning[SETTINGS_MEANING];

	if (atomic_load_explicit(&settings->has_meaning, memory_order_acquire))
		return settings->meaning;
	if (!work_out_meaning(settings, meaning))
		return NULL;
	pthread_mutex_lock(&table.mutex);
	if (!atomic_load_explicit(&settings->has_meaning, memory_order_relaxed)) {
		memcpy(settings->meaning, meaning, sizeof meaning);
		atomic_store_explicit(&settings->has_meaning, true, memory_order_release);
	}
	pthread_mutex_unlock(&table.mutex);
	return settings->meaning;
}

/* Takes over a fresh set; returns it, or the one that holds the same already. */
static struct settings *intern(struct settings *fresh) {
	struct settings *found = NULL;

	fresh->hash = hash_of(fresh);
	pthread_mutex_lock(&table.mutex);
	struct settings **chain = &table.chains[fresh->hash % TABLE_SIZE];
	for (struct settings *s = *chain; s && !found; s = s->next)
		if (s->hash == fresh->hash && is_identical(s, fresh) && ref_if_alive(s))
			found = s;
	if (!found) {
		fresh->next = *chain;
		*chain = fresh;
	}
	pthread_mutex_unlock(&table.mutex);
	if (!found)
		return fresh;
	free(fresh);
	return found;
}

/* The first setting whose name is not before `name`; `*equal`: it is that name. */
static size_t place_of(const struct settings *settings, const char *name, bool *equal) {
	size_t low = 0, high = settings->count;

	*equal = false;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcasecmp(settings->at[middle].name, name);
		if (order == 0) {
			*equal = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const struct setting *settings_find(const struct settings *settings, const char *name) {
	bool found;
	size_t place = place_of(settings, name, &found);

	return found ? &settings->at[place] : NULL;
}

bool settings_equal(const struct settings *a, const struct settings *b) {
	if (a == b)
		return true;
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (strcasecmp(a->at[i].name, b->at[i].name) != 0 || strcmp(a->at[i].value, b->at[i].value) != 0)
			return false;
	return true;
}

static char *put_string(char *pos, const char **place, const char *s) {
	size_t size = strlen(s) + 1;

	memcpy(pos, s, size);
	*place = pos;
	return pos + size;
}

struct settings *settings_with(const struct settings *settings, const char *name, const char *value, bool reported) {
	bool found;
	size_t place = place_of(settings, name, &found);
	const struct setting *old = found ? &settings->at[place] : NULL;

	if ((!old && !value) || (old && value && old->reported == reported && strcmp(old->value, value) == 0 &&
				 strcmp(old->name, name) == 0))
		return settings_ref((struct settings *)settings);

	size_t count = settings->count + (value ? 1 : 0) - (old ? 1 : 0);
	size_t strings = value ? strlen(name) + strlen(value) + 2 : 0;
	for (size_t i = 0; i < settings->count; i++)
		if (&settings->at[i] != old)
			strings += strlen(settings->at[i].name) + strlen(settings->at[i].value) + 2;
	if (count == 0)
		return settings_empty();

	struct settings *fresh = malloc(sizeof *fresh + count * sizeof fresh->at[0] + strings);
	if (!fresh)
		return NULL;
	atomic_init(&fresh->references, 1);
	atomic_init(&fresh->has_meaning, false);
	fresh->next = NULL;
	fresh->count = count;
	char *pos = (char *)&fresh->at[count];
	struct setting *out = fresh->at;
	for (size_t i = 0; i <= settings->count; i++) {
		if (i == place && value) {
			pos = put_string(pos, &out->name, name);
			pos = put_string(pos, &out->value, value);
			out++->reported = reported;
		}
		if (i == settings->count || &settings->at[i] == old)
			continue;
		pos = put_string(pos, &out->name, settings->at[i].name);
		pos = put_string(pos, &out->value, settings->at[i].value);
		out++->reported = settings->at[i].reported;
	}
	return intern(fresh);
}

/* Whether the words of `options` are divided here. */
static bool is_space(char c) {
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The next word of `*pos` into `word` (room for all of it), backslashes taken away. False: no more. */
static bool next_word(const char **pos, char *word) {
	const char *s = *pos;

	while (is_space(*s))
		s++;
	if (!*s)
		return false;
	while (*s && !is_space(*s)) {
		if (*s == '\\') {
			if (!*++s)
				break;
		}
		*word++ = *s++;
	}
	*word = '\0';
	*pos = s;
	return true;
}

static void add_ignored(char *ignored, size_t room, const char *word) {
	size_t len = strlen(ignored);

	if (room == 0 || len + 1 >= room)
		return;
	if (len > 0)
		ignored[len++] = ' ';
	strncpy(ignored + len, word, room - len - 1);
	ignored[room - 1] = '\0';
}

/* "name=value"; dashes in the name stand for underscores. `*malformed`: there is no value. False: out of memory. */
static bool add_assignment(struct settings **settings, char *assignment, bool *malformed) {
	char *equals = strchr(assignment, '=');

	*malformed = !equals || equals == assignment;
	if (*malformed)
		return true;
	*equals = '\0';
	for (char *c = assignment; *c; c++)
		if (*c == '-')
			*c = '_';
	struct settings *fresh = settings_with(*settings, assignment, equals + 1, false);
	*equals = '=';
	if (!fresh)
		return false;
	settings_unref(*settings);
	*settings = fresh;
	return true;
}

/* One word of flags, as getopt(3) reads it: letters in a row, the last of them perhaps with an argument. */
static bool add_flags(struct settings **settings, char *word, const char **pos, char *argument, char *ignored,
		      size_t room) {
	static const char with_argument[] = "BCDcdfhkNprStvW"; /* of postgres(1) */

	for (char *flag = word + 1; *flag; flag++) {
		char name[3] = {'-', *flag, '\0'};
		char *value = NULL;
		bool malformed = true;
		if (strchr(with_argument, *flag)) {
			if (flag[1]) {
				value = flag + 1;
			} else {
				argument[0] = '\0';
				if (next_word(pos, argument))
					value = argument;
			}
			if (*flag == 'c' && value && !add_assignment(settings, value, &malformed))
				return false;
		}
		if (malformed) {
			add_ignored(ignored, room, name);
			if (value)
				add_ignored(ignored, room, value);
		}
		if (value)
			break;
	}
	return true;
}

bool settings_add_options(struct settings **settings, const char *options, char *ignored, size_t room) {
	size_t size = strlen(options) + 1;
	char *word = malloc(2 * size);
	bool ok = true;

	if (room > 0)
		ignored[0] = '\0';
	if (!word)
		return false;
	char *argument = word + size;
	while (ok && next_word(&options, word)) {
		bool malformed = false;
		if (strncmp(word, "--", 2) == 0 && word[2]) {
			ok = add_assignment(settings, word + 2, &malformed);
			if (malformed)
				add_ignored(ignored, room, word);
		} else if (word[0] == '-' && word[1] && word[1] != '-') {
			ok = add_flags(settings, word, &options, argument, ignored, room);
		} else {
			add_ignored(ignored, room, word);
		}
	}
	free(word);
	return ok;
}
