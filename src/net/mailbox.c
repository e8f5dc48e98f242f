#include "net/mailbox.h"

#include "base/list.h"

static void on_wake(struct ev_loop *loop, ev_async *wake, int revents) {
	(void)loop, (void)revents;
	mailbox_deliver(container_of(wake, struct mailbox, wake));
}

void mailbox_init(struct mailbox *mailbox, struct ev_loop *loop, void *receiver) {
	mailbox->loop = loop;
	mailbox->receiver = receiver;
	pthread_mutex_init(&mailbox->shared.mutex, NULL);
	mailbox->shared.head = NULL;
	mailbox->shared.tail = &mailbox->shared.head;
	ev_async_init(&mailbox->wake, on_wake);
	ev_async_start(loop, &mailbox->wake);
}

void mailbox_destroy(struct mailbox *mailbox) {
	ev_async_stop(mailbox->loop, &mailbox->wake);
	pthread_mutex_destroy(&mailbox->shared.mutex);
}

void mailbox_post(struct mailbox *mailbox, struct mail *mail) {
	mail->next = NULL;
	pthread_mutex_lock(&mailbox->shared.mutex);
	bool was_empty = mailbox->shared.head == NULL;
	*mailbox->shared.tail = mail;
	mailbox->shared.tail = &mail->next;
	/* Within the lock: once it is free the receiver may take the mail, end, and take the mailbox with it. */
	if (was_empty)
		ev_async_send(mailbox->loop, &mailbox->wake);
	pthread_mutex_unlock(&mailbox->shared.mutex);
}

bool mailbox_deliver(struct mailbox *mailbox) {
	pthread_mutex_lock(&mailbox->shared.mutex);
	struct mail *mail = mailbox->shared.head;
	mailbox->shared.head = NULL;
	mailbox->shared.tail = &mailbox->shared.head;
	pthread_mutex_unlock(&mailbox->shared.mutex);

	if (!mail)
		return false;
	while (mail) {
		struct mail *next = mail->next;
		mail->deliver(mail, mailbox->receiver);
		mail = next;
	}
	return true;
}
