#include "takeover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/secret.h"
#include "net/inherited.h"
#include "net/mailbox.h"
#include "session/cancel.h"
#include "session/share.h"
#include "takeover_wire.h"

_Static_assert((int)CANCEL_SECRET_MAX < (int)TAKEOVER_TEXT_MAX, "a secret goes whole");

/* How often the old process looks at what it can give away. */
static const double ROUND_S = 0.05;

/* The letters of cancel requests have no other way to it. */
static struct takeover *current;

static bool say(struct takeover *t, enum takeover_type type, uint32_t number, const char *text) {
	struct takeover_message message = {.type = type, .number = number};

	snprintf(message.text, sizeof message.text, "%s", text ? text : "");
	return takeover_wire_send(t->socket, &message, -1, true);
}

/* ---- cancel requests ---- */

static void cancel_answered(struct mail *mail, void *receiver) {
	struct cancel_ticket *ticket = (struct cancel_ticket *)mail;

	(void)receiver;
	if (current && current->socket >= 0)
		say(current, TAKEOVER_CANCELLED, ticket->number, NULL);
	cancel_ticket_free(ticket);
}

/* One that names no client of ours: to the peer. */
static void cancel_goes(struct mail *mail, void *receiver) {
	struct cancel_ticket *ticket = (struct cancel_ticket *)mail;
	struct takeover_message message = {.type = TAKEOVER_CANCEL, .id = ticket->id, .len = ticket->secret_len};
	struct takeover *t = current;

	(void)receiver;
	bool sent = false;
	if (t && t->socket >= 0) {
		message.number = ticket->number = ++t->last_number;
		memcpy(message.text, ticket->secret, ticket->secret_len);
		sent = takeover_wire_send(t->socket, &message, -1, false);
		secret_wipe(&message, sizeof message);
	}
	if (sent)
		list_push_back(&t->tickets, &ticket->waiter);
	else
		cancel_ticket_answer(ticket);
}

static void cancel_comes(struct takeover *t, const struct takeover_message *m) {
	if (m->len > CANCEL_SECRET_MAX ||
	    !cancel_from_abroad(m->number, m->id, (const uint8_t *)m->text, m->len, t->mailbox, cancel_answered))
		say(t, TAKEOVER_CANCELLED, m->number, NULL);
}

static void cancel_is_over(struct takeover *t, uint32_t number) {
	list_for_each_safe(node, &t->tickets) {
		struct cancel_ticket *ticket = list_entry(node, struct cancel_ticket, waiter);
		if (ticket->number != number)
			continue;
		list_remove(&ticket->waiter);
		cancel_ticket_answer(ticket);
	}
}

/* ---- the peer ---- */

static void peer_close(struct takeover *t) {
	ev_timer_stop(t->loop, &t->next_round);
	if (t->socket < 0)
		return;
	cancel_send_abroad(NULL, NULL);
	ev_io_stop(t->loop, &t->on_message);
	close(t->socket);
	t->socket = -1;
	t->role = PEER_NONE;
	list_for_each_safe(node, &t->tickets) {
		list_remove(node);
		cancel_ticket_answer(list_entry(node, struct cancel_ticket, waiter));
	}
}

static void peer_gone(struct takeover *t) {
	const struct log_field *fields = LOG_FIELDS(LOG_NUMBER("process", t->pid));
	enum takeover_peer was = t->role;

	peer_close(t);
	switch (was) {
	case PEER_STARTING:
		log_warning("takeover_failed", fields,
			    "process %ld wanted to take over and has not come up; this one goes on as before", (long)t->pid);
		break;
	case PEER_SUCCESSOR:
		log_warning("successor_gone", fields, "process %ld, which has taken over, has gone", (long)t->pid);
		t->hooks->nothing_held(); /* for nobody */
		break;
	case PEER_PREDECESSOR:
		share_round_over(SHARE_GONE);
		log_info("predecessor_gone", fields, "process %ld, from which this one has taken over, has gone", (long)t->pid);
		break;
	case PEER_NONE:
		break;
	}
}

static void peer_watch(struct takeover *t, enum takeover_peer role) {
	t->role = role;
	ev_io_set(&t->on_message, t->socket, EV_READ);
	ev_io_start(t->loop, &t->on_message);
}

/* ---- the old process: what it holds of each pool ---- */

static void report(void *context, const char *database, uint32_t held) {
	struct takeover *t = context;

	if (database) {
		t->held += held;
		t->unsaid |= strlen(database) >= TAKEOVER_TEXT_MAX; /* then the other never has what was not named */
		if (t->role == PEER_SUCCESSOR && !say(t, TAKEOVER_HELD, held, database))
			peer_gone(t);
		return;
	}
	if (t->role == PEER_SUCCESSOR && !say(t, TAKEOVER_ROUND, held && !t->unsaid, NULL))
		peer_gone(t);
	if (t->role == PEER_SUCCESSOR && t->held == 0)
		t->hooks->nothing_held();
	if (t->role != PEER_SUCCESSOR)
		return;
	ev_timer_set(&t->next_round, ROUND_S, 0.);
	ev_timer_start(t->loop, &t->next_round);
}

static void round_begin(struct takeover *t) {
	t->held = 0;
	share_round(t->mailbox, report, t);
}

static void on_next_round(struct ev_loop *loop, ev_timer *timer, int revents) {
	(void)loop, (void)revents;
	round_begin(container_of(timer, struct takeover, next_round));
}

/* ---- the old process: handing over ---- */

struct handing {
	struct takeover *takeover;
	uint32_t sent;
	bool ok;
};

static void hand_socket(void *context, const char *address, int fd, bool managed) {
	struct handing *handing = context;
	struct takeover_message message = {.type = TAKEOVER_SOCKET, .number = managed};

	snprintf(message.text, sizeof message.text, "%s", address);
	handing->ok = handing->ok && takeover_wire_send(handing->takeover->socket, &message, fd, true);
	handing->sent++;
}

static void greet(struct takeover *t, const struct takeover_message *m) {
	char why[128];
	const char *objection = t->hooks->objection();

	if (m->number != TAKEOVER_VERSION) {
		snprintf(why, sizeof why, "it hands over in another form (%d, and not %u); stop it and start anew",
			 TAKEOVER_VERSION, m->number);
		objection = why;
	}
	if (objection) {
		log_warning("takeover_refused", LOG_FIELDS(LOG_NUMBER("process", t->pid)),
			    "process %ld may not take over: %s", (long)t->pid, objection);
		say(t, TAKEOVER_REFUSED, 0, objection);
		t->role = PEER_NONE; /* nothing has failed here */
		peer_close(t);
		return;
	}
	struct handing handing = {.takeover = t, .ok = true};
	t->hooks->each_socket(hand_socket, &handing);
	if (!handing.ok || !say(t, TAKEOVER_SOCKETS_END, handing.sent, NULL)) {
		peer_gone(t);
		return;
	}
	log_info("takeover_begun", LOG_FIELDS(LOG_NUMBER("process", t->pid), LOG_NUMBER("sockets", handing.sent)),
		 "process %ld is starting to take over; this one goes on until that is ready", (long)t->pid);
}

static void step_down(struct takeover *t) {
	log_info("taken_over", LOG_FIELDS(LOG_NUMBER("process", t->pid)),
		 "process %ld has taken over: nobody is let in here any more", (long)t->pid);
	t->role = PEER_SUCCESSOR;
	ev_io_stop(t->loop, &t->on_knock);
	close(t->listener); /* its file is the other's to replace */
	t->listener = -1;
	t->hooks->release(t->pid);
	cancel_send_abroad(t->mailbox, cancel_goes);
	say(t, TAKEOVER_RELEASED, 0, NULL);
	round_begin(t);
	t->hooks->drain();
}

static void on_knock(struct ev_loop *loop, ev_io *io, int revents) {
	struct takeover *t = container_of(io, struct takeover, on_knock);
	struct error error = {0};
	pid_t pid = 0;

	(void)loop, (void)revents;
	int fd = takeover_wire_accept(t->listener, &pid, &error);
	if (fd < 0) {
		if (error.text[0])
			log_warning("takeover_refused", LOG_FIELDS(LOG_NUMBER("process", pid)), "nobody may take over: %s",
				    error.text);
		return;
	}
	if (t->socket >= 0) {
		struct takeover_message message = {.type = TAKEOVER_REFUSED};
		snprintf(message.text, sizeof message.text,
			 t->role == PEER_PREDECESSOR ? "the process before it, %ld, still drains; try again when that has ended"
						     : "process %ld is taking over already",
			 (long)t->pid);
		takeover_wire_send(fd, &message, -1, false);
		close(fd);
		return;
	}
	t->socket = fd;
	t->pid = pid;
	peer_watch(t, PEER_NONE);
}

/* ---- messages ---- */

/* False: it makes no sense from this peer now. */
static bool take(struct takeover *t, const struct takeover_message *m) {
	bool old = t->role == PEER_PREDECESSOR, together = old || t->role == PEER_SUCCESSOR;

	switch (m->type) {
	case TAKEOVER_HELLO:
		if (t->role != PEER_NONE)
			return false;
		t->role = PEER_STARTING;
		greet(t, m);
		return true;
	case TAKEOVER_UNUSED:
		if (t->role == PEER_STARTING)
			t->hooks->unused(m->text);
		return t->role == PEER_STARTING;
	case TAKEOVER_READY:
		if (t->role != PEER_STARTING)
			return false;
		step_down(t);
		return true;
	case TAKEOVER_HELD:
		if (old)
			share_held(m->text, m->number);
		return old;
	case TAKEOVER_ROUND:
		if (old)
			share_round_over(m->number ? SHARE_COMPLETE : SHARE_PARTIAL);
		return old;
	case TAKEOVER_CANCEL:
		if (together)
			cancel_comes(t, m);
		return together;
	case TAKEOVER_CANCELLED:
		if (together)
			cancel_is_over(t, m->number);
		return together;
	default:
		return false;
	}
}

static void on_message(struct ev_loop *loop, ev_io *io, int revents) {
	struct takeover *t = container_of(io, struct takeover, on_message);
	struct takeover_message message;
	int fd, got;

	(void)loop, (void)revents;
	while (t->socket >= 0 && (got = takeover_wire_receive(t->socket, &message, &fd)) != 0) {
		if (fd >= 0)
			close(fd); /* none is expected here */
		if (got < 0 || !take(t, &message)) {
			if (got > 0)
				log_error("takeover_nonsense", LOG_FIELDS(LOG_NUMBER("process", t->pid)),
					  "process %ld has sent a message out of place (type %u)", (long)t->pid, message.type);
			peer_gone(t);
		}
		secret_wipe(&message, sizeof message);
	}
}

/* ---- the new process ---- */

static bool take_sockets(struct takeover *t, const char *path, struct error *error) {
	struct takeover_message message;
	uint32_t sockets = 0;
	int fd, got;

	while ((got = takeover_wire_receive(t->socket, &message, &fd)) > 0) {
		if (message.type == TAKEOVER_SOCKET && fd >= 0) {
			if (!inherited_add(fd, message.number == 1))
				return error_set(error, 0, "takeover_socket %s: what came as %s is no listening socket", path,
						 message.text);
			sockets++;
			continue;
		}
		if (fd >= 0)
			close(fd);
		if (message.type == TAKEOVER_SOCKETS_END && message.number == sockets)
			return true;
		if (message.type == TAKEOVER_REFUSED)
			return error_set(error, 0, "takeover_socket %s: the process there does not hand over: %s", path,
					 message.text);
		return error_set(error, 0, "takeover_socket %s: the process there does not say what was expected", path);
	}
	return error_set(error, 0, "takeover_socket %s: the process there %s", path,
			 got == 0 ? "does not answer" : "has closed the connection");
}

bool takeover_begin(struct takeover *t, const char *path, struct error *error) {
	bool nobody;

	t->socket = takeover_wire_connect(path, &nobody, &t->pid, error);
	if (t->socket < 0 && nobody) {
		log_info("takeover_from_nobody", LOG_FIELDS(LOG_TEXT("takeover_socket", path)),
			 "nobody is there to take over from at %s: starting as usual", path);
		return true;
	}
	if (t->socket < 0)
		return false;
	say(t, TAKEOVER_HELLO, TAKEOVER_VERSION, NULL); /* it may have refused before, and says why */
	if (take_sockets(t, path, error)) {
		t->role = PEER_PREDECESSOR;
		share_begin();
		return true;
	}
	close(t->socket);
	t->socket = -1;
	return false;
}

void takeover_unused(struct takeover *t, const char *name) {
	if (t->role == PEER_PREDECESSOR)
		say(t, TAKEOVER_UNUSED, 0, name);
}

void takeover_finish(struct takeover *t) {
	struct takeover_message message;
	int fd, got = -1;

	if (t->role != PEER_PREDECESSOR)
		return;
	if (say(t, TAKEOVER_READY, 0, NULL))
		got = takeover_wire_receive(t->socket, &message, &fd);
	if (got <= 0 || message.type != TAKEOVER_RELEASED) {
		/* it has ended by itself, or will */
		log_warning("takeover_silent", LOG_FIELDS(LOG_NUMBER("process", t->pid)),
			    "the process that this one takes over from has not confirmed it; both may accept for a while");
		peer_watch(t, PEER_PREDECESSOR);
		peer_gone(t);
		return;
	}
	takeover_wire_unblock(t->socket);
	cancel_send_abroad(t->mailbox, cancel_goes);
	peer_watch(t, PEER_PREDECESSOR);
}

/* ---- life ---- */

void takeover_init(struct takeover *t, struct ev_loop *loop, struct mailbox *mailbox, const struct takeover_hooks *hooks) {
	*t = (struct takeover){.hooks = hooks, .loop = loop, .mailbox = mailbox, .listener = -1, .socket = -1, .last = -1};
	list_init(&t->tickets);
	ev_io_init(&t->on_knock, on_knock, -1, EV_READ);
	ev_io_init(&t->on_message, on_message, -1, EV_READ);
	ev_timer_init(&t->next_round, on_next_round, ROUND_S, 0.);
	current = t;
}

bool takeover_is_live(const char *path) {
	struct error error = {0};
	bool nobody;
	pid_t pid;
	int fd = takeover_wire_connect(path, &nobody, &pid, &error);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

bool takeover_listen(struct takeover *t, const char *path, struct error *error) {
	struct stat st;

	t->listener = takeover_wire_listen(path, error);
	if (t->listener < 0)
		return false;
	if (stat(path, &st) == 0) {
		snprintf(t->path, sizeof t->path, "%s", path);
		t->device = st.st_dev;
		t->inode = st.st_ino;
	}
	ev_io_set(&t->on_knock, t->listener, EV_READ);
	ev_io_start(t->loop, &t->on_knock);
	return true;
}

void takeover_end(struct takeover *t) {
	if (t->hooks && t->last >= 0)
		close(t->last);
	t->last = -1;
}

void takeover_close(struct takeover *t) {
	struct stat st;

	if (!t->hooks)
		return;
	/* that it ends tells the other that nothing is held any more */
	if (t->role == PEER_SUCCESSOR)
		t->last = fcntl(t->socket, F_DUPFD_CLOEXEC, 3);
	t->role = PEER_NONE;
	peer_close(t);
	if (t->listener >= 0) {
		ev_io_stop(t->loop, &t->on_knock);
		if (lstat(t->path, &st) == 0 && st.st_dev == t->device && st.st_ino == t->inode)
			unlink(t->path);
		close(t->listener);
		t->listener = -1;
	}
}
