/*
 * The session's state: what the server's answers tell of it, and how another server is given the same. Private to this
 * folder; owner worker only. doc/mysql-sessions.md has the table.
 */
#ifndef MYSQL_STATE_H
#define MYSQL_STATE_H

#include "mysql/internal.h"
#include "mysql/sql.h"

/* What turns on all that we go by. */
extern const char my_trackers_sql[];
/* Ends a transaction whatever completion_type says. */
extern const char my_rollback_sql[];
/* What tells one server from another, and the same as a number, from its row. */
extern const char my_identity_sql[];
uint64_t my_identity(const uint8_t *row, size_t len);

/* ---- requests of ours ---- */

/* Notes a request at the tail of the server's queue. NULL: the queue is full; the server is closed. */
struct my_request *my_push(struct my_server *server, enum my_task task, enum my_asked asked, enum my_command command);
/* A command of ours, whole, and its request. NULL: the server is closed. */
struct my_request *my_ask(struct my_server *server, enum my_task task, enum my_asked asked, enum my_command command,
			  const void *data, size_t len);
struct my_request *my_ask_sql(struct my_server *server, enum my_task task, const char *sql);
/* Empties the list of warnings. False: the server is closed. */
bool my_clear_warnings(struct my_server *server);
static inline struct my_request *my_head(struct my_server *server) {
	return server->relay.count ? &server->relay.queue[server->relay.head] : NULL;
}

/* ---- learning ---- */

/* What an OK of the server tells. `request`: of its client's, or of ours. False: malformed, or out of memory; the server is
 * closed. */
bool my_note_ok(struct my_server *server, const struct my_request *request, const struct my_ok *ok);
/* A statement of the client's is about to run, or has run: what its text alone tells. */
void my_note_hints(struct my_client *client, struct my_server *server, uint64_t hints);
/* One of the client's requests has been answered to its end; `failed`: by an error; `rows`: with some, or none. */
void my_note_end(struct my_client *client, struct my_server *server, const struct my_request *request, bool failed,
		 bool rows, uint16_t warnings);
/* Whether something must be asked of the server before another client has it (MY_TASK_LEARN). */
bool my_must_learn(const struct my_server *server);
void my_learn(struct my_server *server);
/* A row of its answer, a whole packet's body. */
void my_learnt_row(struct my_server *server, const uint8_t *body, size_t len);
void my_learnt(struct my_server *server);
/* Passes on what a client that asked for session tracking is told; false: out of memory. */
bool my_filter_state(struct my_builder *out, const uint8_t *state, size_t len);

/* ---- giving ---- */

enum my_given { MY_GIVEN, MY_GIVING, MY_CANNOT_GIVE, MY_GIVE_FAILED };
/* Makes the server hold these variables and this schema; what init_sql has set stays unless they say otherwise. MY_GIVEN: it
 * does; MY_GIVING: requests are under way; MY_CANNOT_GIVE: another server is wanted; MY_GIVE_FAILED: it is closed. */
enum my_given my_give(struct my_server *server, struct settings *wants);
/* Its session is as after login from now on (COM_RESET_CONNECTION was sent), but for the schema. */
bool my_back_to_fresh(struct my_server *server);
/* The set that a session begins with. NULL: out of memory. */
struct settings *my_settings_start(uint16_t collation, const char *schema);
/* Of a set what decides what a text means when it is prepared; and a set with that as in another. NULL: out of memory. */
struct settings *my_text_settings(const struct settings *settings);
struct settings *my_with_text_settings(struct settings *settings, const struct settings *text_settings);
/* The schema in a set; NULL: none. */
const char *my_settings_schema(const struct settings *settings);
/* How a text is read in this session (sql.h). */
unsigned my_reading(const struct my_client *client);
enum sql_charset my_reading_charset(const struct my_client *client);

#endif
