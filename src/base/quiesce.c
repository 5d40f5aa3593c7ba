/* SPDX-License-Identifier: Apache-2.0 */
#include "base/quiesce.h"

void quiesce_init(struct quiesce *q)
{
	*q = (struct quiesce){ 0 };
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->parked, NULL);
	pthread_cond_init(&q->resumed, NULL);
	list_init(&q->members);
}

void quiesce_destroy(struct quiesce *q)
{
	pthread_cond_destroy(&q->resumed);
	pthread_cond_destroy(&q->parked);
	pthread_mutex_destroy(&q->lock);
}

static bool owes_work(const struct quiesce *q, const struct quiesce_member *member)
{
	return q->work && member->kind == q->work_kind && member->work_done != q->work_serial;
}

static void run_work_locked(struct quiesce *q, struct quiesce_member *member)
{
	void (*work)(void *, void *) = q->work;
	void *arg = q->work_arg;

	member->work_done = q->work_serial;
	pthread_mutex_unlock(&q->lock);
	work(member->owner, arg);
	pthread_mutex_lock(&q->lock);
	if (--q->work_left == 0)
		pthread_cond_broadcast(&q->parked);
}

static void park_locked(struct quiesce *q, struct quiesce_member *member)
{
	q->n_parked++;
	pthread_cond_broadcast(&q->parked);
	while (q->depth) {
		if (owes_work(q, member))
			run_work_locked(q, member);
		else
			pthread_cond_wait(&q->resumed, &q->lock);
	}
	q->n_parked--;
}

void quiesce_join(struct quiesce *q, struct quiesce_member *member)
{
	pthread_mutex_lock(&q->lock);
	list_init(&member->link);
	member->work_done = q->work_serial;
	list_append(&q->members, &member->link);
	q->n_members++;
	if (q->depth)
		park_locked(q, member);
	pthread_mutex_unlock(&q->lock);
}

void quiesce_leave(struct quiesce *q, struct quiesce_member *member)
{
	pthread_mutex_lock(&q->lock);
	/* A thread that ends writes no more: it need not park, but it owes work already given. */
	if (owes_work(q, member))
		run_work_locked(q, member);
	list_remove(&member->link);
	q->n_members--;
	pthread_cond_broadcast(&q->parked);
	pthread_mutex_unlock(&q->lock);
}

void quiesce_point(struct quiesce *q, struct quiesce_member *member)
{
	if (!quiesce_requested(q))
		return;
	pthread_mutex_lock(&q->lock);
	if (q->depth)
		park_locked(q, member);
	pthread_mutex_unlock(&q->lock);
}

void quiesce_begin(struct quiesce *q)
{
	struct list *item, *next;

	pthread_mutex_lock(&q->lock);
	if (q->depth++ == 0) {
		__atomic_store_n(&q->requested, true, __ATOMIC_RELEASE);
		list_for_each(item, next, &q->members) {
			struct quiesce_member *m = container_of(item, struct quiesce_member, link);

			m->kick(m->owner);
		}
	}
	while (q->n_parked < q->n_members)
		pthread_cond_wait(&q->parked, &q->lock);
	pthread_mutex_unlock(&q->lock);
}

void quiesce_end(struct quiesce *q)
{
	pthread_mutex_lock(&q->lock);
	if (--q->depth == 0) {
		__atomic_store_n(&q->requested, false, __ATOMIC_RELEASE);
		pthread_cond_broadcast(&q->resumed);
	}
	pthread_mutex_unlock(&q->lock);
}

static unsigned int count_kind(struct quiesce *q, enum quiesce_kind kind)
{
	struct list *item, *next;
	unsigned int count = 0;

	list_for_each(item, next, &q->members)
		count += container_of(item, struct quiesce_member, link)->kind == kind;
	return count;
}

void quiesce_run(struct quiesce *q, enum quiesce_kind kind, void (*work)(void *owner, void *arg),
		 void *arg)
{
	pthread_mutex_lock(&q->lock);
	q->work = work;
	q->work_kind = kind;
	q->work_arg = arg;
	q->work_serial++;
	q->work_left = count_kind(q, kind);
	pthread_cond_broadcast(&q->resumed);
	while (q->work_left)
		pthread_cond_wait(&q->parked, &q->lock);
	q->work = NULL;
	pthread_mutex_unlock(&q->lock);
}
