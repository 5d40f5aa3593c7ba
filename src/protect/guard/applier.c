/* SPDX-License-Identifier: Apache-2.0 */
#include "protect/guard/applier.h"

static void *thread_main(void *arg)
{
	struct applier *applier = arg;
	struct error err = { 0 };

	pthread_mutex_lock(&applier->lock);
	while (!applier->over && !applier->error.code) {
		const uint64_t wanted = applier->wanted;

		if (wanted == applier->done) {
			pthread_cond_wait(&applier->changed, &applier->lock);
			continue;
		}
		pthread_mutex_unlock(&applier->lock);
		(void)!journal_apply(applier->journal, wanted, &err);
		pthread_mutex_lock(&applier->lock);
		applier->error = err;
		applier->done = err.code ? applier->done : wanted;
		pthread_cond_broadcast(&applier->changed);
	}
	pthread_mutex_unlock(&applier->lock);
	return NULL;
}

void applier_init(struct applier *applier)
{
	*applier = (struct applier){ .journal = NULL };
	pthread_mutex_init(&applier->lock, NULL);
	pthread_cond_init(&applier->changed, NULL);
}

int applier_start(struct applier *applier, struct journal *journal,
		  const struct thread_entry *entry)
{
	int r;

	applier->journal = journal;
	r = thread_start("applier", entry, thread_main, applier, &applier->thread);
	applier->started = r == 0;
	return r;
}

void applier_post(struct applier *applier, uint64_t epoch)
{
	pthread_mutex_lock(&applier->lock);
	applier->wanted = applier->journal ? epoch : 0;
	pthread_cond_broadcast(&applier->changed);
	pthread_mutex_unlock(&applier->lock);
}

static int judge_locked(struct applier *applier, struct error *err)
{
	const struct error *error = &applier->error;

	return error->code ? error_set(err, error->code, error->status, "%s", error->message) : 0;
}

int applier_wait(struct applier *applier, uint64_t epoch, struct error *err)
{
	int r;

	pthread_mutex_lock(&applier->lock);
	while (applier->journal && !applier->error.code && applier->done < epoch)
		pthread_cond_wait(&applier->changed, &applier->lock);
	r = judge_locked(applier, err);
	pthread_mutex_unlock(&applier->lock);
	return r;
}

int applier_judge(struct applier *applier, struct error *err)
{
	int r;

	pthread_mutex_lock(&applier->lock);
	r = judge_locked(applier, err);
	pthread_mutex_unlock(&applier->lock);
	return r;
}

void applier_stop(struct applier *applier)
{
	if (!applier->started)
		return;
	pthread_mutex_lock(&applier->lock);
	applier->over = true;
	pthread_cond_broadcast(&applier->changed);
	pthread_mutex_unlock(&applier->lock);
	pthread_join(applier->thread, NULL);
	applier->started = false;
}

void applier_release(struct applier *applier)
{
	applier_stop(applier);
	pthread_cond_destroy(&applier->changed);
	pthread_mutex_destroy(&applier->lock);
}
