/* What a command's tag tells of the session state that it leaves behind. */
#include <string.h>
#include <strings.h>

#include "pgsql/pgsql.h"
#include "session/deadline.h"

static void forget_all(struct pg_server *ps, struct pg_client *pc) {
	pg_forget_statements(ps);
	if (pc)
		pg_names_clear(&pc->names);
}

/* Whether the server is back at its own defaults in all that this client had asked for at its start. */
static bool all_at_defaults(const struct pg_client *pc, const struct pg_server *ps) {
	for (size_t i = 0; i < pc->startup->count; i++) {
		const char *name = pc->startup->at[i].name;
		const struct setting *now = settings_find(ps->settings, name), *first = settings_find(ps->defaults, name);
		if (now && first && strcmp(now->value, first->value) != 0)
			return false;
	}
	return true;
}

/*
 * RESET and DISCARD ALL go back to what the session started with. The server's session did not start with this client's
 * start-up parameters: they are put back in what the client wants. Where the statement does not say which (it was one of
 * several), all at their defaults means all.
 */
void pg_restore_startup(struct pg_client *pc, struct pg_server *ps) {
	const char *wanted = pc->reset == PG_RESET_ALL ? "all" : pc->reset_name;
	bool all = wanted ? strcmp(wanted, "all") == 0 : all_at_defaults(pc, ps);
	pc->reset = PG_RESET_NOTHING;
	for (size_t i = 0; i < pc->startup->count; i++) {
		const struct setting *s = &pc->startup->at[i];
		const struct setting *now = settings_find(pc->settings, s->name), *then = settings_find(pc->before, s->name);
		bool named = all || (wanted && strcasecmp(wanted, s->name) == 0);
		bool changed = now && then && strcmp(now->value, then->value) != 0;
		if (!now || (!named && !changed) || strcmp(now->value, s->value) == 0)
			continue;
		struct settings *restored = settings_with(pc->settings, now->name, s->value, now->reported);
		if (!restored)
			return;
		settings_unref(pc->settings);
		pc->settings = restored;
		pc->restored = true;
		pg_send_parameter(&pc->base, s->name, s->value);
	}
}

/* One transaction has followed another within a request. */
static void another_begins(struct pg_client *pc, struct pg_server *ps) {
	ps->ended = PG_ENDED_NOT;
	pg_transaction_begins(pc, ps);
	if (ps->base.cut.why == DEADLINE_TRANSACTION && !ps->base.cut.late)
		deadline_over(&ps->base);
}

/* The tags of most statements tell of nothing; SET and START begin as SELECT does. */
static bool tells_of_state(const char *tag) {
	switch (tag[0]) {
	case 'I': /* INSERT */
	case 'U': /* UPDATE */
	case 'F': /* FETCH */
		return false;
	case 'S':
		return strncmp(tag, "SEL", 3) != 0;
	default:
		return true;
	}
}

void pg_note_tag(struct pg_server *ps, const struct pg_request *head, const char *tag) {
	struct pg_client *pc = pg_client_of(ps);
	if (!tells_of_state(tag))
		return;
	if (pc && (strcmp(tag, "COMMIT") == 0 || strcmp(tag, "ROLLBACK") == 0)) {
		ps->ended = tag[0] == 'C' ? PG_ENDED_COMMIT : PG_ENDED_ROLLBACK;
	} else if (pc && ps->ended && (strcmp(tag, "BEGIN") == 0 || strcmp(tag, "START TRANSACTION") == 0)) {
		another_begins(pc, ps);
	}
	if (strcmp(tag, "SET") == 0) {
		if (head->kind != PG_TEXT_SET_LOCAL)
			ps->touched |= PG_TOUCHED_SETTINGS;
	} else if (strcmp(tag, "RESET") == 0) {
		ps->touched |= PG_TOUCHED_SETTINGS;
		if (!pg_forget_unreported(ps))
			pool_conn_retire(&ps->base.conn, "out of memory");
		if (pc && pc->reset == PG_RESET_NOTHING)
			pc->reset = PG_RESET_NAMED;
	} else if (strcmp(tag, "PREPARE") == 0) {
		ps->touched |= PG_TOUCHED_PREPARED;
	} else if (strcmp(tag, "LISTEN") == 0) {
		ps->touched |= PG_TOUCHED_LISTEN;
	} else if (strcmp(tag, "DECLARE CURSOR") == 0) {
		ps->touched |= PG_TOUCHED_CURSORS;
	} else if (strcmp(tag, "DEALLOCATE ALL") == 0) {
		forget_all(ps, pc);
	} else if (strcmp(tag, "DISCARD ALL") == 0) {
		forget_all(ps, pc);
		if (!pg_forget_unreported(ps))
			pool_conn_retire(&ps->base.conn, "out of memory");
		ps->touched = 0;
		if (pc)
			pc->reset = PG_RESET_ALL;
	}
}
