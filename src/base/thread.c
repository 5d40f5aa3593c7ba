/* SPDX-License-Identifier: Apache-2.0 */
#include "base/thread.h"

#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

/* The starter's when there is a step to wait for, else the new thread's. */
struct start {
	char name[16];
	const struct thread_entry *entry; /* NULL: no step */
	void *(*main)(void *arg);
	void *arg;
	int result;
	sem_t entered;
};

static void *thread_main(void *arg)
{
	struct start *start = arg;
	const struct thread_entry *entry = start->entry;
	void *(*main)(void *) = start->main;
	void *main_arg = start->arg;
	int r = 0;

	pthread_setname_np(pthread_self(), start->name);
	if (entry) {
		r = entry->enter(entry->ctx);
		start->result = r;
		sem_post(&start->entered); /* `start` is gone from here on */
	} else {
		free(start);
	}
	return r < 0 ? NULL : main(main_arg);
}

static int await_step(struct start *start, pthread_t thread)
{
	while (sem_wait(&start->entered) < 0 && errno == EINTR)
		;
	if (start->result < 0)
		pthread_join(thread, NULL);
	return start->result;
}

int thread_start(const char *name, const struct thread_entry *entry, void *(*main)(void *arg),
		 void *arg, pthread_t *ret_thread)
{
	struct start *start = calloc(1, sizeof(*start));
	pthread_t thread;
	int r;

	if (!start)
		return -ENOMEM;
	snprintf(start->name, sizeof(start->name), "%s", name);
	start->entry = entry && entry->enter ? entry : NULL;
	start->main = main;
	start->arg = arg;
	entry = start->entry;
	sem_init(&start->entered, 0, 0);
	r = -pthread_create(&thread, NULL, thread_main, start);
	if (r == 0 && entry)
		r = await_step(start, thread);
	if (r < 0 || entry) {
		sem_destroy(&start->entered);
		free(start);
	}
	if (r < 0)
		return r;
	*ret_thread = thread;
	return 0;
}
