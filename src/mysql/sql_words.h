/* The words that mysql/sql.c looks for. Private to mysql/sql*.c. */
#ifndef MYSQL_SQL_WORDS_H
#define MYSQL_SQL_WORDS_H

#include <stddef.h>
#include <stdint.h>

enum sql_word_kind {
	SQL_WORD_ANY,     /* gives its hints wherever it stands without quotes */
	SQL_WORD_NAME,    /* of a function or a variable: also within quotes */
	SQL_WORD_VERB,    /* gives its hints where a statement begins */
	SQL_WORD_CONTEXT, /* sql.c decides */
};

/* What a statement may have begun with (verbs), or the last token may have been. */
enum sql_mark {
	MARK_SET = 1 << 0,
	MARK_CREATE = 1 << 1,
	MARK_DROP = 1 << 2,
	MARK_FLUSH = 1 << 3,
	MARK_SHOW = 1 << 4,
	MARK_GET = 1 << 5,
	MARK_LOAD = 1 << 6,
	MARK_CALL = 1 << 7,
	MARK_START = 1 << 8,
	MARK_BEGIN = 1 << 9,
	MARK_EXECUTE = 1 << 10,
	MARK_PREPARE = 1 << 11,
	MARK_BACKUP = 1 << 12,
	MARK_COMPOUND = 1 << 13,
	MARK_SCOPE = 1 << 14, /* SESSION, LOCAL, GLOBAL, PERSIST */
	MARK_INTO = 1 << 15,
	MARK_NEXT = 1 << 16,
	MARK_PREVIOUS = 1 << 17,
	MARK_END = 1 << 18,
	MARK_OPENS = 1 << 19, /* in a compound statement another may begin behind it: THEN, ELSE, DO, LOOP, REPEAT */
	MARK_COMMA = 1 << 20,
	MARK_DOT = 1 << 21,
	MARK_AT = 1 << 22,
	MARK_SET_STATEMENT = 1 << 23,
	MARK_DEFINER = 1 << 24,
	MARK_HANDLER = 1 << 25,
};

enum sql_word_id {
#define SQL_LETTER(letter)
#define SQL_WORD(text, kind, mark, hints) WORD_##text,
#include "mysql/sql_words.def"
#undef SQL_WORD
#undef SQL_LETTER
	WORD_OTHER,
};

struct sql_word {
	char text[24];
	uint8_t id;   /* enum sql_word_id */
	uint8_t kind; /* enum sql_word_kind */
	uint32_t mark;
	uint64_t hints; /* a context word's: all that it may give */
};

/* NULL for a word that means nothing here; letters of either case. */
const struct sql_word *sql_word_find(const uint8_t *text, size_t len);

#endif
