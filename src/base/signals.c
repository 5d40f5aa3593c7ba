/* SPDX-License-Identifier: Apache-2.0 */
#include "base/signals.h"

#include <errno.h>
#include <sys/signalfd.h>

int signals_open(const int *signals, size_t n, sigset_t *ret_before)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	for (size_t i = 0; i < n; i++)
		sigaddset(&set, signals[i]);
	sigprocmask(SIG_BLOCK, &set, ret_before);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

int signals_open_ending(sigset_t *ret_before)
{
	static const int ending[] = { SIGINT, SIGTERM, SIGHUP };

	return signals_open(ending, ARRAY_SIZE(ending), ret_before);
}
