/* SPDX-License-Identifier: Apache-2.0 */
/* utsusu arbiter: another program asks it, the only one with an HTTP client. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/launch.h"
#include "programs/utsusu.h"

#define PROGRAM "utsusu-arbiter"

static int become_check(bool json)
{
	char *const argv[] = { (char *)PROGRAM, (char *)"--check", json ? (char *)"--json" : NULL,
			       NULL };
	char program[PATH_MAX];
	struct error err = { 0 };
	int r = launch_find_program(PROGRAM, program, sizeof(program));

	if (r == 0) {
		execv(program, argv);
		r = -errno;
	}
	(void)error_set(&err, r, EXIT_STATUS_FAILED,
			PROGRAM ": cannot be started: %s; install it with utsusu", strerror(-r));
	return tell(&err);
}

int ask_arbiter(struct invocation *invocation)
{
	char **words = invocation->rest;
	struct error err = { 0 };

	if (words && words[0] && strcmp(words[0], "check") == 0 && !words[1])
		return become_check(invocation->options.json);
	(void)error_set(&err, -EINVAL, EXIT_STATUS_USAGE,
			"arbiter: give check; see utsusu arbiter --help");
	return tell(&err);
}
