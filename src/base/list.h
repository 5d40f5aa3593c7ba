/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A doubly linked list of embedded links. An unlinked link points at itself, so removing twice is harmless. */

#include <stdbool.h>

#include "base/macros.h"

struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_append(struct list *head, struct list *item)
{
	item->prev = head->prev;
	item->next = head;
	head->prev->next = item;
	head->prev = item;
}

static inline void list_remove(struct list *item)
{
	item->prev->next = item->next;
	item->next->prev = item->prev;
	list_init(item);
}

/* Iterates so that the current item may be removed. `item` and `next` are struct list pointers. */
#define list_for_each(item, next, head)                                                            \
	for ((item) = (head)->next, (next) = (item)->next; (item) != (head);                       \
	     (item) = (next), (next) = (item)->next)
