#include "control/monitor_mysql.h"

#include "base/clock.h"

static enum health_answer judge(enum mq_outcome outcome) {
	switch (outcome) {
	case MQ_WELL:
		return HEALTH_WELL;
	case MQ_SILENT:
		return HEALTH_SILENT;
	case MQ_UNTRIED:
		return HEALTH_UNTRIED;
	case MQ_UNREACHED:
		return HEALTH_REFUSED;
	case MQ_NOT_READY:
		return HEALTH_NOT_READY;
	case MQ_REJECTED:
	case MQ_UNWILLING:
		break;
	}
	return HEALTH_REACHED;
}

void monitor_mysql_close(MYSQL **kept) {
	if (*kept)
		mysql_close(*kept);
	*kept = NULL;
}

static enum health_answer ask(MYSQL **kept, uint64_t timeout_ns, struct backend_facts *facts, struct error *error) {
	uint64_t began_ns = clock_monotonic_ns();

	if (mq_probe(*kept, facts, error))
		return HEALTH_WELL;
	enum health_answer answer = judge(mq_outcome(*kept, began_ns, timeout_ns));
	/* it has answered, though it does not tell */
	if (answer == HEALTH_WELL || answer == HEALTH_REACHED)
		return HEALTH_REACHED;
	monitor_mysql_close(kept);
	return answer;
}

enum health_answer monitor_mysql(MYSQL **kept, const struct mq_target *target, enum probe_login login, bool fresh,
				 struct backend_facts *facts, struct error *error) {
	enum mq_outcome outcome;

	if (fresh)
		monitor_mysql_close(kept);
	if (*kept) {
		enum health_answer answer = ask(kept, target->timeout_ns, facts, error);
		if (answer != HEALTH_REFUSED)
			return answer;
		/* one that was kept may have been ended by anybody: a new one tells */
	}
	*kept = mq_connect(target, &outcome, error);
	if (!*kept)
		return judge(outcome);
	if (login == PROBE_NOBODY) { /* let in as whoever we said we are: there is nothing to ask in that name */
		monitor_mysql_close(kept);
		return HEALTH_REACHED;
	}
	return ask(kept, target->timeout_ns, facts, error);
}
