/* SPDX-License-Identifier: Apache-2.0 */
/* utsusu watch: judges the words, then becomes utsusu-watch, which has what decodes and draws. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/launch.h"
#include "base/cleanup.h"
#include "programs/utsusu.h"

#define PROGRAM "utsusu-watch"

static int refuse(int code)
{
	struct error err = { 0 };

	error_set(&err, code, EXIT_STATUS_FAILED,
		  PROGRAM ": cannot be started: %s; install it beside utsusu or with its package",
		  strerror(-code));
	return tell(&err);
}

static size_t count_words(char *const *words)
{
	size_t n = 0;

	while (words[n])
		n++;
	return n;
}

int watch_vm(struct invocation *invocation)
{
	size_t n = count_words(invocation->words);
	_cleanup_(freep) char **argv = calloc(n + 2, sizeof(*argv));
	char path[PATH_MAX];
	int r;

	if (watch_check(&invocation->watch, invocation->problems))
		return tell(&invocation->problems->list[0]);
	r = argv ? launch_find_program(PROGRAM, path, sizeof(path)) : -ENOMEM;
	if (r < 0)
		return refuse(r);
	argv[0] = path;
	memcpy(argv + 1, invocation->words, n * sizeof(*argv));
	execv(path, argv);
	return refuse(-errno);
}
