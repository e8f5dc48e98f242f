#include "mysql/sql_words.h"

#include <stdbool.h>

#include "mysql/sql.h"

#define SQL_LETTER(letter)
#define SQL_WORD(text, kind, mark, hints) {#text, WORD_##text, SQL_WORD_##kind, mark, hints},
static const struct sql_word words[] = {
#include "mysql/sql_words.def"
};
#undef SQL_WORD

/* Beside the words, so that a look at all words of a letter stays within a line of the cache. */
#define SQL_WORD(text, kind, mark, hints) sizeof #text - 1,
static const uint8_t lengths[] = {
#include "mysql/sql_words.def"
};
#undef SQL_WORD
#undef SQL_LETTER

/* FIRST_X is the place of the first word with that letter. */
enum {
#define SQL_LETTER(letter) FIRST_##letter, BEFORE_##letter = FIRST_##letter - 1,
#define SQL_WORD(text, kind, mark, hints) PLACE_##text,
#include "mysql/sql_words.def"
#undef SQL_WORD
#undef SQL_LETTER
	ALL_WORDS,
};

static const uint8_t firsts[27] = {
#define SQL_LETTER(letter) FIRST_##letter,
#define SQL_WORD(text, kind, mark, hints)
#include "mysql/sql_words.def"
#undef SQL_WORD
#undef SQL_LETTER
	ALL_WORDS,
};

/* Letters to upper case; makes no other byte of a name one of a word. */
static uint8_t upper(uint8_t c) {
	return c & 0xdf;
}

static bool same(const uint8_t *text, const char *word, size_t len) {
	for (size_t i = 1; i < len; i++)
		if (upper(text[i]) != (uint8_t)word[i])
			return false;
	return true;
}

const struct sql_word *sql_word_find(const uint8_t *text, size_t len) {
	size_t letter = len ? (size_t)upper(text[0]) - 'A' : SIZE_MAX;
	if (letter > 'Z' - 'A')
		return NULL;
	for (size_t i = firsts[letter]; i < firsts[letter + 1]; i++)
		if (lengths[i] == len && same(text, words[i].text, len))
			return &words[i];
	return NULL;
}
