/* Intrusive doubly linked lists. A node that is on no list points at itself. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *prev, *next;
};

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define list_entry(node, type, member) container_of(node, type, member)
#define list_for_each(node, head) for (struct list *node = (head)->next; node != (head); node = node->next)
/* The current node may be removed (and freed) in the body. */
#define list_for_each_safe(node, head)                                                                                 \
	for (struct list *node = (head)->next, *node##_next = node->next; node != (head);                              \
	     node = node##_next, node##_next = node->next)

static inline void list_init(struct list *l) {
	l->prev = l->next = l;
}

static inline bool list_empty(const struct list *l) {
	return l->next == l;
}

/* Whether a node is on some list. */
static inline bool list_linked(const struct list *node) {
	return node->next != node;
}

static inline void list_insert_between_(struct list *node, struct list *prev, struct list *next) {
	node->prev = prev;
	node->next = next;
	prev->next = node;
	next->prev = node;
}

static inline void list_push_front(struct list *head, struct list *node) {
	list_insert_between_(node, head, head->next);
}

static inline void list_push_back(struct list *head, struct list *node) {
	list_insert_between_(node, head->prev, head);
}

/* Takes the node off its list, if it is on one. */
static inline void list_remove(struct list *node) {
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

/* NULL when empty. */
static inline struct list *list_first(const struct list *head) {
	return list_empty(head) ? NULL : head->next;
}

static inline struct list *list_last(const struct list *head) {
	return list_empty(head) ? NULL : head->prev;
}

static inline struct list *list_pop_front(struct list *head) {
	struct list *node = list_first(head);
	if (node)
		list_remove(node);
	return node;
}

#endif
