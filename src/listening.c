#include "listening.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "net/acceptor.h"
#include "net/inherited.h"
#include "session/generation.h"

/* A listening socket. */
struct listening {
	struct list node;
	struct listener listener;         /* until the workers accept from it */
	struct acceptor_socket *accepted; /* from then on */
	int backlog;
	bool unused; /* by the process that takes over */
	bool wanted; /* while a configuration is compared with what is open */
};

static struct listener *listener_of(struct listening *l) {
	return l->accepted ? acceptor_listener(l->accepted) : &l->listener;
}

static void listening_close(struct listening *l) {
	list_remove(&l->node);
	if (l->accepted)
		acceptor_remove(l->accepted);
	else
		listener_close(&l->listener);
	free(l);
}

static struct listening *listening_find(const struct listenings *listenings, const char *address) {
	list_for_each(node, &listenings->all) {
		struct listening *l = list_entry(node, struct listening, node);
		if (strcmp(listener_of(l)->address, address) == 0)
			return l;
	}
	return NULL;
}

/* "*:6432" cannot be had while we hold 127.0.0.1:6432 ourselves, which the system does not say. */
static void explain_in_use(const struct listenings *listenings, const char *address, struct error *error) {
	const char *port = *address != '/' ? strrchr(address, ':') : NULL;
	const struct error before = *error;

	list_for_each(node, &listenings->all) {
		struct listening *l = list_entry(node, struct listening, node);
		const char *own = listener_of(l)->address, *own_port = *own != '/' ? strrchr(own, ':') : NULL;
		if (!port || !own_port || strcmp(port, own_port) != 0)
			continue;
		error_set(error, before.code,
			  "%s: this process listens on %s, and the one excludes the other; reload without %s first, or restart",
			  before.text, own, own);
		return;
	}
}

static struct listening *listening_open(struct listenings *listenings, const char *address,
					const struct listener_config *config, const struct tcp_silence *silence,
					struct error *error) {
	struct listening *l = calloc(1, sizeof *l);
	const struct listener_access access = {
		.mode = (unsigned)strtoul(config->unix_socket_mode, NULL, 8),
		.group = config->unix_socket_group,
	};

	if (!l) {
		error_set(error, 0, "out of memory");
		return NULL;
	}
	/* of the reload before this one, it may be the same address, or one that excludes it */
	if (listenings->acceptor)
		acceptor_wait_closed(listenings->acceptor);
	if (!listener_open(&l->listener, address, config->backlog, silence, &access, error)) {
		if (error->code == EADDRINUSE)
			explain_in_use(listenings, address, error);
		free(l);
		return NULL;
	}
	l->backlog = config->backlog;
	list_push_back(&listenings->all, &l->node);
	return l;
}

/* PgBouncer does without an address that this machine does not have (::1 in a container), as long as there is another. */
static bool is_passed_over(const struct config *config, const struct error *error) {
	return config_is_pgbouncers(config) && (error->code == EADDRNOTAVAIL || error->code == EAFNOSUPPORT);
}

bool listenings_open(struct listenings *listenings, const struct generation *generation, struct error *error) {
	const struct config *config = generation->config;
	struct tcp_silence silence = generation_silence(generation);
	size_t opened = 0;
	bool ok = true;

	list_for_each(node, &listenings->all)
		list_entry(node, struct listening, node)->wanted = false;
	const struct list *last_before = list_last(&listenings->all);
	for (size_t i = 0; ok && i < config->listener_count; i++) {
		const struct listener_config *c = &config->listeners[i];
		for (size_t a = 0; ok && a < c->listen_count; a++) {
			struct listening *l = listening_find(listenings, c->listen[a]);
			if (!l)
				l = listening_open(listenings, c->listen[a], c, &silence, error);
			if (!l && is_passed_over(config, error)) {
				log_warning("listener_failed", LOG_FIELDS(LOG_TEXT("address", c->listen[a])), "%s", error->text);
				continue;
			}
			ok = l != NULL;
			if (l)
				l->wanted = true;
			opened += ok;
		}
	}
	ok = ok && opened > 0; /* else `error` tells of the last that was passed over */
	while (!ok && list_last(&listenings->all) != last_before)
		listening_close(list_entry(list_last(&listenings->all), struct listening, node));
	return ok;
}

void listenings_drop(struct listenings *listenings) {
	bool dropped = false;

	list_for_each_safe(node, &listenings->all) {
		struct listening *l = list_entry(node, struct listening, node);
		const char *address = listener_of(l)->address;
		if (l->wanted)
			continue;
		log_info("listener_closed", LOG_FIELDS(LOG_TEXT("address", address)), "no longer listening on %s", address);
		listening_close(l);
		dropped = true;
	}
	/* who has connected there is let in by the configuration that they have connected by */
	if (dropped)
		acceptor_wait_closed(listenings->acceptor);
}

static int backlog_of(const struct config *config, const char *address) {
	for (size_t i = 0; i < config->listener_count; i++)
		for (size_t a = 0; a < config->listeners[i].listen_count; a++)
			if (strcmp(config->listeners[i].listen[a], address) == 0)
				return config->listeners[i].backlog;
	return 0;
}

static void adjust(struct listening *l, const struct config *config, const struct tcp_silence *silence) {
	struct listener *listener = listener_of(l);
	int backlog = backlog_of(config, listener->address);

	listener_set_silence(listener, silence);
	if (backlog && backlog != l->backlog)
		listener_set_backlog(listener, backlog);
	l->backlog = backlog ? backlog : l->backlog;
}

void listenings_settle(struct listenings *listenings, const struct generation *generation) {
	struct tcp_silence silence = generation_silence(generation);

	list_for_each_safe(node, &listenings->all) {
		struct listening *l = list_entry(node, struct listening, node);
		if (l->accepted) {
			adjust(l, generation->config, &silence);
			continue;
		}
		l->accepted = acceptor_add(listenings->acceptor, &l->listener);
		if (l->accepted)
			continue;
		log_error("listener_failed", LOG_FIELDS(LOG_TEXT("address", l->listener.address)),
			  "out of memory: nothing is accepted on %s; reload again", l->listener.address);
		listening_close(l);
	}
}

void listenings_each(struct listenings *listenings,
		     void (*each)(void *context, const char *address, int fd, bool managed), void *context) {
	list_for_each(node, &listenings->all) {
		struct listening *l = list_entry(node, struct listening, node);
		const struct listener *listener = listener_of(l);
		l->unused = false;
		each(context, listener->address, listener->fd, listener->managed);
	}
}

void listenings_unused(struct listenings *listenings, const char *name) {
	list_for_each(node, &listenings->all) {
		struct listening *l = list_entry(node, struct listening, node);
		char own[160];
		inherited_name(listener_of(l)->fd, own, sizeof own);
		l->unused |= strcmp(own, name) == 0;
	}
}

void listenings_hand_over(struct listenings *listenings) {
	list_for_each_safe(node, &listenings->all) {
		struct listening *l = list_entry(node, struct listening, node);
		if (l->unused) {
			listening_close(l);
			continue;
		}
		list_remove(&l->node);
		acceptor_hand_over(l->accepted);
		free(l);
	}
	acceptor_wait_closed(listenings->acceptor);
}

void listenings_own_files(struct listenings *listenings) {
	list_for_each(node, &listenings->all)
		listener_own_file(listener_of(list_entry(node, struct listening, node)));
}

static void close_all(struct listenings *listenings) {
	list_for_each_safe(node, &listenings->all)
		listening_close(list_entry(node, struct listening, node));
}

void listenings_close(struct listenings *listenings) {
	close_all(listenings);
	acceptor_wait_closed(listenings->acceptor);
}

void listenings_end(struct listenings *listenings) {
	close_all(listenings);
	if (!listenings->acceptor)
		return;
	acceptor_hurry(listenings->acceptor);
	acceptor_wait_closed(listenings->acceptor);
}

void listenings_text(const struct listenings *listenings, char *out, size_t room) {
	size_t len = 0;

	*out = 0;
	list_for_each(node, &listenings->all) {
		struct listening *l = list_entry(node, struct listening, node);
		if (len < room)
			len += (size_t)snprintf(out + len, room - len, "%s%s", len ? ", " : "", listener_of(l)->address);
	}
}
