#include "mysql/answer.h"

#include "mysql/packet.h"

void my_answer_begin(struct my_answer *a, enum my_asked asked, uint8_t sequence) {
	*a = (struct my_answer){.asked = (uint8_t)asked, .sequence = sequence};
	if (asked == MY_ASKED_FETCH)
		a->stage = MY_STAGE_ROWS;
	else if (asked == MY_ASKED_FIELDS)
		a->stage = MY_STAGE_COLUMNS;
}

static enum my_role first_role(const struct my_answer *a, uint32_t length, uint8_t first) {
	bool many = a->asked == MY_ASKED_QUERY || a->asked == MY_ASKED_EXECUTE;
	switch (first) {
	case MY_PACKET_OK:
		return a->asked == MY_ASKED_PREPARE ? MY_ROLE_PREPARED : MY_ROLE_OK;
	case MY_PACKET_EOF: /* COM_SET_OPTION's */
		return a->asked == MY_ASKED_SIMPLE && length < MY_PACKET_FULL ? MY_ROLE_OK : MY_ROLE_WRONG;
	case MY_PACKET_LOCAL_INFILE:
		return a->asked == MY_ASKED_QUERY && length < MY_PACKET_FULL ? MY_ROLE_INFILE : MY_ROLE_WRONG;
	default:
		return many && length <= 9 ? MY_ROLE_COUNT : MY_ROLE_WRONG;
	}
}

enum my_role my_answer_role(const struct my_answer *a, uint32_t length, uint8_t first) {
	if (a->rest)
		return MY_ROLE_REST;
	if (a->stage == MY_STAGE_OVER)
		return MY_ROLE_WRONG;
	if (a->asked == MY_ASKED_STREAM) /* an EOF ends one that was to end with the log */
		return length > 0 && first == MY_PACKET_ERR			? MY_ROLE_ERR
		       : first == MY_PACKET_EOF && length > 0 && length < 9 ? MY_ROLE_TEXT
									     : MY_ROLE_STREAM;
	if (length == 0)
		return MY_ROLE_WRONG;
	if (first == MY_PACKET_ERR)
		return MY_ROLE_ERR;
	if (a->asked == MY_ASKED_STATISTICS)
		return MY_ROLE_TEXT;
	switch ((enum my_answer_stage)a->stage) {
	case MY_STAGE_FIRST:
		return first_role(a, length, first);
	case MY_STAGE_FILE:
		return first == MY_PACKET_OK ? MY_ROLE_OK : MY_ROLE_WRONG;
	case MY_STAGE_PARAMETERS:
		return MY_ROLE_PARAMETER;
	case MY_STAGE_COLUMNS:
		return a->asked == MY_ASKED_FIELDS && first == MY_PACKET_EOF ? MY_ROLE_END : MY_ROLE_COLUMN;
	case MY_STAGE_ROWS: /* the first value of a text row may be so long that its length begins with 0xfe, too */
		return first == MY_PACKET_EOF && length < MY_PACKET_FULL ? MY_ROLE_END : MY_ROLE_ROW;
	case MY_STAGE_OVER:
		break;
	}
	return MY_ROLE_WRONG;
}

/* OK, or the end of rows: does another result follow? */
static bool take_ok(struct my_answer *a, const uint8_t *body, uint32_t length) {
	struct my_ok ok;
	if (!my_read_ok(body, length, MY_CLIENT_PROTOCOL_41 | MY_CLIENT_SESSION_TRACK | MY_CLIENT_TRANSACTIONS, &ok))
		return false;
	bool many = a->asked == MY_ASKED_QUERY || a->asked == MY_ASKED_EXECUTE;
	a->stage = many && (ok.status & MY_STATUS_MORE_RESULTS) ? MY_STAGE_FIRST : MY_STAGE_OVER;
	return true;
}

static bool take_count(struct my_answer *a, const uint8_t *body, uint32_t length) {
	struct reader r = reader_over(body, length);
	uint64_t columns = my_lenenc(&r);
	if (!r.ok || reader_left(&r) > 0 || columns == 0 || columns > MY_COLUMNS_MAX)
		return false;
	a->columns = (uint32_t)columns;
	a->stage = MY_STAGE_COLUMNS;
	return true;
}

static bool take_prepared(struct my_answer *a, const uint8_t *body, uint32_t length) {
	struct reader r = reader_over(body, length);
	reader_u8(&r);
	a->statement = my_u32(&r);
	a->statement_columns = my_u16(&r);
	a->statement_parameters = my_u16(&r);
	if (!r.ok)
		return false;
	a->columns = a->statement_columns;
	a->parameters = a->statement_parameters;
	a->stage = a->parameters ? MY_STAGE_PARAMETERS : a->columns ? MY_STAGE_COLUMNS : MY_STAGE_OVER;
	return true;
}

/* A packet whose kind is counted, or not: what comes after it. */
static void take_one(struct my_answer *a, enum my_role role) {
	if (role == MY_ROLE_PARAMETER && --a->parameters == 0)
		a->stage = a->columns ? MY_STAGE_COLUMNS : MY_STAGE_OVER;
	else if (role == MY_ROLE_COLUMN && a->asked != MY_ASKED_FIELDS && --a->columns == 0)
		a->stage = a->asked == MY_ASKED_PREPARE ? MY_STAGE_OVER : MY_STAGE_ROWS;
	else if (role == MY_ROLE_TEXT)
		a->stage = MY_STAGE_OVER;
}

bool my_answer_take(struct my_answer *a, enum my_role role, uint32_t length, uint8_t sequence, const uint8_t *body) {
	if (sequence != a->sequence && role != MY_ROLE_STREAM)
		return false;
	a->sequence = (uint8_t)(sequence + 1);
	bool long_one = length == MY_PACKET_FULL;
	if (my_answer_needs(role) && (long_one || length > MY_ANSWER_WHOLE_MAX))
		return false;
	switch (role) {
	case MY_ROLE_OK:
	case MY_ROLE_END:
		return take_ok(a, body, length);
	case MY_ROLE_ERR: {
		struct my_err err;
		a->stage = MY_STAGE_OVER;
		return my_read_err(body, length, &err);
	}
	case MY_ROLE_INFILE:
		a->stage = MY_STAGE_FILE;
		return true;
	case MY_ROLE_COUNT:
		return take_count(a, body, length);
	case MY_ROLE_PREPARED:
		return take_prepared(a, body, length);
	case MY_ROLE_COLUMN:
	case MY_ROLE_ROW:
	case MY_ROLE_PARAMETER:
	case MY_ROLE_TEXT:
	case MY_ROLE_STREAM:
		take_one(a, role);
		a->rest = long_one;
		return true;
	case MY_ROLE_REST:
		a->rest = long_one;
		return true;
	case MY_ROLE_WRONG:
		break;
	}
	return false;
}

void my_answer_file_sent(struct my_answer *a, uint8_t sequence) {
	a->sequence = sequence;
}
