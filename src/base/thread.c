/* SPDX-License-Identifier: Apache-2.0 */
#include "base/thread.h"

#include <errno.h>
#include <semaphore.h>
#include <stdio.h>

/* On the starter's stack, until `entered` is posted. */
struct start {
	const char *name;
	const struct thread_entry *entry;
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
	char name[16];
	int r;

	snprintf(name, sizeof(name), "%s", start->name);
	pthread_setname_np(pthread_self(), name);
	r = entry && entry->enter ? entry->enter(entry->ctx) : 0;
	start->result = r;
	sem_post(&start->entered); /* `start` is gone from here on */
	return r < 0 ? NULL : main(main_arg);
}

int thread_start(const char *name, const struct thread_entry *entry, void *(*main)(void *arg),
		 void *arg, pthread_t *ret_thread)
{
	struct start start = { .name = name, .entry = entry, .main = main, .arg = arg };
	pthread_t thread;
	int r;

	sem_init(&start.entered, 0, 0);
	r = -pthread_create(&thread, NULL, thread_main, &start);
	if (r == 0) {
		while (sem_wait(&start.entered) < 0 && errno == EINTR)
			;
		r = start.result;
		if (r < 0)
			pthread_join(thread, NULL);
	}
	sem_destroy(&start.entered);
	if (r < 0)
		return r;
	*ret_thread = thread;
	return 0;
}
