#include <string.h>
#include <strings.h>

#include "mysql/sql.h"

enum sql_charset sql_charset_by_name(const char *name, size_t len) {
	static const struct {
		const char *name;
		enum sql_charset charset;
	} charsets[] = {
		{"big5", SQL_CHARSET_BIG5}, {"gbk", SQL_CHARSET_GBK},	 {"gb18030", SQL_CHARSET_GB18030},
		{"sjis", SQL_CHARSET_SJIS}, {"cp932", SQL_CHARSET_SJIS},
	};
	for (size_t i = 0; i < sizeof charsets / sizeof *charsets; i++)
		if (strlen(charsets[i].name) == len && !strncasecmp(charsets[i].name, name, len))
			return charsets[i].charset;
	return SQL_CHARSET_PLAIN;
}

const char *sql_hint_name(uint64_t hint) {
	static const struct {
		uint64_t hint;
		const char *name;
	} names[] = {
		{SQL_SET, "set"},
		{SQL_SET_STATEMENT, "set_statement"},
		{SQL_SET_TRANSACTION, "set_transaction"},
		{SQL_SET_NAMES, "set_names"},
		{SQL_SET_PASSWORD, "set_password"},
		{SQL_SET_ROLE, "set_role"},
		{SQL_USE, "use"},
		{SQL_BEGIN, "begin"},
		{SQL_COMMIT, "commit"},
		{SQL_ROLLBACK, "rollback"},
		{SQL_SAVEPOINT, "savepoint"},
		{SQL_XA, "xa"},
		{SQL_CALL, "call"},
		{SQL_COMPOUND, "compound_statement"},
		{SQL_KILL, "kill"},
		{SQL_KILL_INSIDE, "kill_inside"},
		{SQL_LOCK_TABLES, "lock_tables"},
		{SQL_UNLOCK_TABLES, "unlock_tables"},
		{SQL_FLUSH_LOCK, "flush_lock"},
		{SQL_HANDLER, "handler"},
		{SQL_PREPARE, "prepare"},
		{SQL_EXECUTE, "execute"},
		{SQL_EXECUTE_IMMEDIATE, "execute_immediate"},
		{SQL_DEALLOCATE, "deallocate"},
		{SQL_CREATE_TEMPORARY, "temporary_table"},
		{SQL_DROP_TEMPORARY, "drop_table"},
		{SQL_LOAD_LOCAL, "load_local"},
		{SQL_BINLOG, "binlog"},
		{SQL_SHOW_VARIABLES, "show_variables"},
		{SQL_SHOW_PROFILE, "show_profile"},
		{SQL_HANDLER_OPEN, "handler_open"},
		{SQL_HANDLER_CLOSE, "handler_close"},
		{SQL_GET_LOCK, "get_lock"},
		{SQL_RELEASE_LOCK, "release_lock"},
		{SQL_IS_USED_LOCK, "is_used_lock"},
		{SQL_CALC_FOUND_ROWS, "calc_found_rows"},
		{SQL_FOUND_ROWS, "found_rows"},
		{SQL_ROW_COUNT, "row_count"},
		{SQL_LAST_INSERT_ID, "last_insert_id"},
		{SQL_LAST_INSERT_ID_SET, "set_last_insert_id"},
		{SQL_USER_VARIABLE, "read_user_variable"},
		{SQL_USER_VARIABLE_SET, "user_variable"},
		{SQL_SEQUENCE_NEXT, "sequence"},
		{SQL_SEQUENCE_LAST, "sequence_last"},
		{SQL_SESSION_TRACK, "session_track"},
		{SQL_RETURNING, "returning"},
		{SQL_DIAGNOSTICS, "diagnostics"},
		{SQL_LOAD, "load"},
		{SQL_SET_UNTOLD, "set_untold"},
		{SQL_SET_SCOPED, "set_scoped"},
		{SQL_SET_CALLS, "set_calls"},
		{SQL_CONNECTION_ID, "connection_id"},
		{SQL_RELEASE_ALL_LOCKS, "release_all_locks"},
		{SQL_SEVERAL, "several_statements"},
		{SQL_BLIND, "blind"},
	};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (names[i].hint == hint)
			return names[i].name;
	return NULL;
}
