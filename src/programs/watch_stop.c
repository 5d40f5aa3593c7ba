/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "programs/utsusu-watch.h"

#define WAKE SIGUSR1

static void wake(int signal _unused_)
{
	/* Nothing: it ends a system call that waits. */
}

static void stop_signals(sigset_t *ret_set)
{
	sigemptyset(ret_set);
	sigaddset(ret_set, SIGINT);
	sigaddset(ret_set, SIGTERM);
	sigaddset(ret_set, SIGHUP);
	sigaddset(ret_set, SIGQUIT); /* would leave a terminal as a view has set it */
}

/* Each signal wakes anew: the first may come just before the call that it should have ended. */
static void *take_signals(void *arg)
{
	struct watch_stop *stop = arg;
	sigset_t set;
	int signal;

	stop_signals(&set);
	while (sigwait(&set, &signal) == 0) {
		__atomic_store_n(&stop->asked, 1, __ATOMIC_RELAXED);
		pthread_kill(stop->waiting, WAKE);
	}
	return NULL;
}

int watch_stop_begin(struct watch_stop *stop, struct error *err)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN }, woken = { .sa_handler = wake };
	pthread_t thread;
	sigset_t set;
	int r;

	stop_signals(&set);
	stop->waiting = pthread_self();
	sigaction(SIGPIPE, &ignore, NULL);
	sigaction(WAKE, &woken, NULL);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	r = pthread_create(&thread, NULL, take_signals, stop);
	if (r)
		return error_set(err, -r, EXIT_STATUS_HOST,
				 "cannot start a thread: %s; raise the limit of processes",
				 strerror(r));
	pthread_detach(thread);
	return 0;
}
