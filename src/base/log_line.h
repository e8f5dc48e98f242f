/*
 * What a line of the log looks like, for each destination. Everything that is not the program's own words is escaped, so
 * that nothing from a socket can forge a line or a field.
 */
#ifndef BASE_LOG_LINE_H
#define BASE_LOG_LINE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/log.h"

enum {
	LOG_LINE_MAX = 4096,   /* PIPE_BUF: such a line goes into a pipe whole */
	LOG_MESSAGE_MAX = 2048 /* bytes of a message, with its zero */
};

enum log_form {
	LOG_FORM_TEXT,        /* TIME LEVEL EVENT key=value ... "message" */
	LOG_FORM_JSON,        /* {"ts":...,"level":...,"event":...,"fields":{...},"message":...} */
	LOG_FORM_SYSLOG_TEXT, /* <PRIORITY>TIME ident[pid]: EVENT key=value ... "message", as RFC 3164 has it */
	LOG_FORM_SYSLOG_JSON, /* the same head, and then the object */
	LOG_FORM_JOURNAL      /* KEY=value lines of journald's native protocol */
};

struct log_line {
	char text[LOG_LINE_MAX];
	size_t len;   /* not ended by a zero */
	size_t limit; /* what may be filled now */
	enum log_form form;
};

/* Who speaks to syslog and journald. */
struct log_origin {
	char ident[64];
	int facility; /* syslog's number, 3 is daemon */
	int pid;
};

/* Composes a line; TEXT and JSON end in a newline. What does not fit is cut with an ellipsis. `fields` may be NULL, `origin` is
 * for SYSLOG and JOURNAL. */
void log_line_compose(struct log_line *line, enum log_form form, const struct log_origin *origin, enum log_level level,
		      const char *event, const struct log_field *fields, const char *message);

#endif
