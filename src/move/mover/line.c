/* SPDX-License-Identifier: Apache-2.0 */
#include "move/mover/line.h"

void line_init(struct line *line)
{
	*line = (struct line){ .urgent = 0 };
	pthread_mutex_init(&line->lock, NULL);
	pthread_cond_init(&line->calm, NULL);
}

void line_release(struct line *line)
{
	pthread_cond_destroy(&line->calm);
	pthread_mutex_destroy(&line->lock);
}

void line_take(struct line *line, bool urgent)
{
	if (urgent)
		__atomic_add_fetch(&line->urgent, 1, __ATOMIC_ACQ_REL);
	pthread_mutex_lock(&line->lock);
	while (!urgent && __atomic_load_n(&line->urgent, __ATOMIC_ACQUIRE))
		pthread_cond_wait(&line->calm, &line->lock);
}

void line_give(struct line *line, bool urgent)
{
	if (urgent && !__atomic_sub_fetch(&line->urgent, 1, __ATOMIC_ACQ_REL))
		pthread_cond_broadcast(&line->calm);
	pthread_mutex_unlock(&line->lock);
}
