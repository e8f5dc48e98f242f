#include "control/auth_query_mysql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "config/config.h"
#include "control/libmysql.h"

#define QUERY_TIMEOUT_NS (10 * NS_PER_S) /* where the pool has no connect_timeout */

enum { NAME_ROOM = 256, SECRET_ROOM = 4096 };

/*
 * Where no auth_query is set. Of several accounts of one name the one for every host counts. Accounts that are locked or
 * whose password has expired are left out; MariaDB keeps that in a column of its own making.
 */
static const char OF_MYSQL[] =
	"SELECT user, authentication_string FROM mysql.user WHERE user = ? AND account_locked = 'N' AND "
	"password_expired = 'N' AND plugin IN ('mysql_native_password', 'caching_sha2_password') AND "
	"authentication_string <> '' ORDER BY host = '%' DESC, host LIMIT 1";
static const char OF_MARIADB[] =
	"SELECT user, JSON_VALUE(priv, '$.authentication_string') FROM mysql.global_priv WHERE user = ? AND "
	"COALESCE(JSON_VALUE(priv, '$.account_locked'), 'false') IN ('false', '0') AND "
	"JSON_VALUE(priv, '$.plugin') = 'mysql_native_password' AND "
	"JSON_VALUE(priv, '$.authentication_string') <> '' AND "
	"COALESCE(JSON_VALUE(priv, '$.is_role'), 'false') IN ('false', '0') ORDER BY host = '%' DESC, host LIMIT 1";

struct row {
	char name[NAME_ROOM], secret[SECRET_ROOM];
	unsigned long name_len, secret_len;
	my_bool name_null, secret_null;
};

static MYSQL_STMT *prepare(MYSQL *mysql, const char *sql, char error[256]) {
	MYSQL_STMT *stmt = mysql_stmt_init(mysql);

	if (stmt && mysql_stmt_prepare(stmt, sql, strlen(sql)) == 0 && mysql_stmt_param_count(stmt) == 1 &&
	    mysql_stmt_field_count(stmt) == 2)
		return stmt;
	if (!stmt)
		snprintf(error, 256, "out of memory");
	else if (mysql_stmt_errno(stmt) != 0)
		snprintf(error, 256, "%s", mysql_stmt_error(stmt));
	else
		snprintf(error, 256, "it has %lu places for the user's name (\"?\") and gives %u columns; expected one, and two: "
				     "name and secret",
			 mysql_stmt_param_count(stmt), mysql_stmt_field_count(stmt));
	if (stmt)
		mysql_stmt_close(stmt);
	return NULL;
}

/* Runs it, and fetches the first row. Returns how many there are, 2 for more; -1: failed. */
static int fetch(MYSQL_STMT *stmt, const char *user, struct row *row, char error[256]) {
	unsigned long user_len = strlen(user);
	MYSQL_BIND in = {.buffer_type = MYSQL_TYPE_STRING,
			 .buffer = (void *)(uintptr_t)user,
			 .buffer_length = user_len,
			 .length = &user_len};
	MYSQL_BIND out[] = {{.buffer_type = MYSQL_TYPE_STRING,
			     .buffer = row->name,
			     .buffer_length = sizeof row->name - 1,
			     .length = &row->name_len,
			     .is_null = &row->name_null},
			    {.buffer_type = MYSQL_TYPE_STRING,
			     .buffer = row->secret,
			     .buffer_length = sizeof row->secret - 1,
			     .length = &row->secret_len,
			     .is_null = &row->secret_null}};
	struct row second = {0};

	if (mysql_stmt_bind_param(stmt, &in) == 0 && mysql_stmt_execute(stmt) == 0 && mysql_stmt_bind_result(stmt, out) == 0) {
		int first = mysql_stmt_fetch(stmt);
		if (first == MYSQL_NO_DATA)
			return 0;
		if (first == MYSQL_DATA_TRUNCATED) {
			snprintf(error, 256, "it gives a name of %lu and a secret of %lu bytes; %d and %d are the limits", row->name_len,
				 row->secret_len, NAME_ROOM - 1, SECRET_ROOM - 1);
			return -1;
		}
		out[0].buffer = second.name;
		out[1].buffer = second.secret;
		out[0].length = &second.name_len, out[1].length = &second.secret_len;
		out[0].is_null = &second.name_null, out[1].is_null = &second.secret_null;
		int next = first == 0 && mysql_stmt_bind_result(stmt, out) == 0 ? mysql_stmt_fetch(stmt) : 1;
		secret_wipe(&second, sizeof second);
		if (next == MYSQL_NO_DATA)
			return 1;
		if (next == 0 || next == MYSQL_DATA_TRUNCATED)
			return 2;
	}
	snprintf(error, 256, "%s", mysql_stmt_error(stmt));
	return -1;
}

/* What the rows mean. Whatever is not exactly as it should be is refused. */
static enum lookup_result judge(int rows, struct row *row, const char *user, char **secret, char error[256]) {
	if (rows < 0)
		return LOOKUP_FAILED;
	if (rows == 0)
		return LOOKUP_NO_USER;
	if (rows > 1) {
		snprintf(error, 256, "it gives more than one row; it must give one at most");
		return LOOKUP_FAILED;
	}
	row->name[row->name_null ? 0 : row->name_len] = '\0';
	if (row->name_null || strcmp(row->name, user) != 0) {
		snprintf(error, 256, "it gives another user than it was asked for");
		return LOOKUP_FAILED;
	}
	if (row->secret_null || row->secret_len == 0)
		return LOOKUP_FOUND; /* but no password */
	row->secret[row->secret_len] = '\0';
	*secret = secret_strdup(row->secret);
	if (*secret)
		return LOOKUP_FOUND;
	snprintf(error, 256, "out of memory");
	return LOOKUP_FAILED;
}

/* Each host has its own time, so that one that swallows packets does not hide the next. */
static MYSQL *connect_any(const struct lookup *lookup, struct error *error) {
	const struct pool_config *pool = lookup->pool;
	enum mq_outcome outcome;

	for (size_t host = 0; host < pool->host_count; host++) {
		struct mq_target target = {
			.pool = pool,
			.host = host,
			.user = pool->auth_user,
			.password = pool->auth_password,
			.database = pool->auth_database,
			.timeout_ns = pool->connect_timeout ? pool->connect_timeout : QUERY_TIMEOUT_NS,
		};
		MYSQL *mysql = mq_connect(&target, &outcome, error);
		if (mysql)
			return mysql;
	}
	return NULL;
}

enum lookup_result auth_query_mysql(const struct lookup *lookup, char **secret, char error[256]) {
	const char *sql = lookup->pool->auth_query;
	struct error why = {0};
	struct row *row = calloc(1, sizeof *row);
	MYSQL *mysql = row ? connect_any(lookup, &why) : NULL;
	enum lookup_result result = LOOKUP_FAILED;

	*secret = NULL;
	snprintf(error, 256, "%.255s", row ? why.text : "out of memory");
	if (mysql && !sql)
		sql = strstr(mysql_get_server_info(mysql), "MariaDB") ? OF_MARIADB : OF_MYSQL;
	MYSQL_STMT *stmt = mysql ? prepare(mysql, sql, error) : NULL;
	if (stmt) {
		result = judge(fetch(stmt, lookup->user, row, error), row, lookup->user, secret, error);
		mysql_stmt_close(stmt);
	}
	if (mysql)
		mysql_close(mysql);
	if (row)
		secret_wipe(row, sizeof *row);
	free(row);
	return result;
}
