/* What the parts of a text mean: called for each in turn by mysql/sql.c, which finds them. Private to mysql/sql*.c. */
#ifndef MYSQL_SQL_RULES_H
#define MYSQL_SQL_RULES_H

#include "mysql/sql.h"
#include "mysql/sql_words.h"

enum sql_token {
	SQL_TOKEN_WORD,
	SQL_TOKEN_NUMBER,
	SQL_TOKEN_OPEN,
	SQL_TOKEN_CLOSE,
	SQL_TOKEN_EQUALS, /* also := */
	SQL_TOKEN_OTHER,
};

/* A word without quotes, or a number. */
void sql_word(struct sql_lexer *x, const uint8_t *text, size_t len);

/* A name in quotes: a function's or a variable's, never a key word. Beside its sql_token(). */
void sql_quoted_name(struct sql_lexer *x, const uint8_t *text, size_t len);
/* One in quotes whose end is too far away to be looked at. */
void sql_long_name(struct sql_lexer *x);

/* Anything else: a string, an operator. What it may be before the next token is the caller's to say. */
void sql_token(struct sql_lexer *x, enum sql_token token);

/* A byte of another alphabet, which may be a letter or white space. */
void sql_foreign(struct sql_lexer *x);

/* The @ of a user variable. */
void sql_variable(struct sql_lexer *x);

/* A : or <, which behind at most one token ends or begins the label of a block. */
void sql_label(struct sql_lexer *x);

void sql_semicolon(struct sql_lexer *x);

/* A word where nobody can tell what is a string, a comment, or neither. */
void sql_dark_word(struct sql_lexer *x, const uint8_t *text, size_t len);

/* Once the whole text was seen. */
void sql_settle(struct sql_lexer *x);

#endif
